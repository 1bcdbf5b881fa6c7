/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/received_spf.h"

#include "relay/message/quoted.h"

enum { VALUE_MAX = 400, COMMENT_MAX = 400 };

static bool
is_atext(uint8_t c)
{
	uint8_t lower = ascii_lower(c);

	return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ||
	       span_find(SPAN("!#$%&'*+-/=?^_`{|}~"), c, 0) < 19;
}

static bool
is_dot_atom(struct span s)
{
	bool behind_dot = true;

	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] == '.' ? behind_dot : !is_atext(s.data[i]))
			return false;
		behind_dot = s.data[i] == '.';
	}
	return s.size <= VALUE_MAX && !behind_dot;
}

static void
append_pair(struct buf *out, const char *key, struct span value, bool utf8)
{
	buf_append_string(out, key);
	buf_append_byte(out, '=');
	if (is_dot_atom(value))
		buf_append(out, value);
	else
		quoted_string(out, value, VALUE_MAX, utf8);
}

bool
received_spf_write(struct buf *out, const struct received_spf *r)
{
	const struct {
		const char *key;
		struct span value;
		bool always;
	} pairs[] = {
		{ "client-ip", r->client_ip, true },
		{ "envelope-from", r->envelope_from, true },
		{ "helo", r->helo, true },
		{ "identity", r->identity, true },
		{ "mechanism", r->mechanism, false },
		{ "problem", r->problem, false },
	};
	size_t start = out->size;

	buf_append(out, SPAN("Received-SPF: "));
	buf_append(out, r->result);
	if (r->comment.size > 0) {
		buf_append_byte(out, ' ');
		quoted_comment(out, r->comment, COMMENT_MAX, r->utf8);
	}
	buf_append(out, SPAN("\r\n\t"));
	append_pair(out, "receiver", r->receiver, r->utf8);
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		if (pairs[i].value.size == 0 && !pairs[i].always)
			continue;
		buf_append(out, SPAN(";\r\n\t"));
		append_pair(out, pairs[i].key, pairs[i].value, r->utf8);
	}
	buf_append(out, SPAN("\r\n"));
	if (out->overflow)
		out->size = start;
	return !out->overflow;
}
