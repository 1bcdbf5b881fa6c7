/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/server_address.h"

#include "core/base/buf.h"

enum { NAME_MOST = 253 };

static bool
is_name(struct span s)
{
	if (s.size == 0 || s.size > NAME_MOST)
		return false;
	for (size_t i = 0; i < s.size; i++) {
		uint8_t c = ascii_lower(s.data[i]);
		bool fits = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
			    c == '_' || c == '.';
		if (!fits)
			return false;
	}
	return true;
}

static struct span
without_brackets(struct span s)
{
	if (s.size >= 2 && s.data[0] == '[' && s.data[s.size - 1] == ']')
		return span_first(span_after(s, 1), s.size - 2);
	return s;
}

/* What is behind the last colon is the port. */
static bool
split(struct span text, struct span *host, uint16_t *port)
{
	size_t colon = text.size;
	uint64_t number;

	while (colon > 0 && text.data[colon - 1] != ':')
		colon--;
	if (colon < 2 || !span_to_u64(span_after(text, colon), &number) || number == 0 ||
	    number > UINT16_MAX)
		return false;
	*host = without_brackets(span_first(text, colon - 1));
	*port = (uint16_t)number;
	return true;
}

bool
server_address_parse(struct span text, struct server_address *out)
{
	uint8_t memory[SERVER_ADDRESS_MOST];
	struct buf shown = buf_of(memory, sizeof memory);

	*out = (struct server_address){ .address = { .size = 0 } };
	if (span_starts_with(text, SPAN("unix:")))
		return net_address_parse(text, &out->address);
	if (!split(text, &out->host, &out->port) ||
	    !server_address_show(out->host, out->port, &shown))
		return false;
	if (net_address_parse(buf_span(&shown), &out->address))
		return true;
	out->address.size = 0;
	return is_name(out->host);
}

bool
server_address_show(struct span host, uint16_t port, struct buf *out)
{
	bool is_v6 = span_find(host, ':', 0) < host.size;

	if (is_v6)
		buf_append_byte(out, '[');
	buf_append(out, host);
	if (is_v6)
		buf_append_byte(out, ']');
	buf_append_byte(out, ':');
	buf_append_number(out, port);
	return !out->overflow;
}
