/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/trace.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"
#include "relay/message/date.h"

enum { NAME_MAX_SIZE = 255, TEXT_MAX_SIZE = 320 };

const char *
trace_protocol(unsigned flags)
{
	/* By TLS, then by AUTH (RFC 3848); rows as RFC 6531 4.3 and RFC 5321 name them. */
	static const char *const names[][4] = {
		{ "SMTP", "SMTP", "SMTP", "SMTP" },
		{ "ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA" },
		{ "LMTP", "LMTPA", "LMTPS", "LMTPSA" },
		{ "UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA" },
		{ "UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA" },
	};
	unsigned row = flags & TRACE_LMTP ? 2 : flags & TRACE_ESMTP ? 1 : 0;
	unsigned column = (flags & TRACE_TLS ? 2U : 0U) + (flags & TRACE_AUTH ? 1U : 0U);

	if (row > 0 && (flags & TRACE_UTF8))
		row += 2;
	return names[row][column];
}

static bool
is_name_character(uint8_t c)
{
	uint8_t l = ascii_lower(c);

	return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
	       c == '_' || c == ':' || c == '[' || c == ']';
}

/* How many bytes at the start of a name may be written as they are. */
static size_t
name_prefix(struct span name)
{
	size_t size = 0;

	while (size < name.size && is_name_character(name.data[size]))
		size++;
	return size;
}

/* A name that others chose: nothing in it may end its place, start a comment or fold. */
static void
append_name(struct buf *out, struct span name, bool utf8)
{
	size_t at = 0;

	while (at < name.size && at < NAME_MAX_SIZE) {
		struct span rest = span_after(name, at);
		size_t length = name_prefix(span_first(rest, NAME_MAX_SIZE - at));
		if (length > 0) {
			buf_append(out, span_first(rest, length));
			at += length;
			continue;
		}
		length = utf8_length(rest);
		if (length > 1 && utf8)
			buf_append(out, span_first(rest, length));
		else
			buf_append_byte(out, '?');
		at += length == 0 ? 1 : length;
	}
}

static bool
is_text_character(uint8_t c, bool comments)
{
	return c >= ' ' && c != 0x7f && (comments || (c != '(' && c != ')' && c != '\\'));
}

/* At most TEXT_MAX_SIZE bytes, with '?' for controls and, unless it may hold comments, for what
 * begins, ends or quotes in one. */
static void
append_clean(struct buf *out, struct span text, bool comments)
{
	struct span rest = span_first(text, TEXT_MAX_SIZE);

	while (rest.size > 0) {
		size_t good = 0;
		while (good < rest.size && is_text_character(rest.data[good], comments))
			good++;
		buf_append(out, span_first(rest, good));
		if (good < rest.size)
			buf_append_byte(out, '?');
		rest = span_after(rest, good + 1);
	}
}

/* Text of ours, or checked before. */
static void
append_text(struct buf *out, struct span text)
{
	append_clean(out, text, false);
}

/* "from NAME (NAME [ADDRESS])": what was said, then what is known (RFC 5321 4.4, TCP-info). */
static void
append_from(struct buf *out, const struct trace *t)
{
	bool utf8 = (t->flags & TRACE_UTF8) != 0;
	bool v6 = span_find(t->client_address, ':', 0) < t->client_address.size;

	buf_append(out, SPAN("from "));
	if ((t->flags & TRACE_HIDDEN) != 0) {
		buf_append(out, SPAN("hidden.invalid")); /* no host has it (RFC 2606) */
		return;
	}
	if (t->hello_name.size > 0)
		append_name(out, t->hello_name, utf8);
	else
		buf_append(out, SPAN("unknown"));
	if (t->client_address.size == 0) {
		buf_append(out, SPAN(" (localhost)"));
		return;
	}
	buf_append(out, SPAN(" ("));
	if (t->client_name.size > 0)
		append_name(out, t->client_name, utf8);
	else
		buf_append(out, SPAN("unknown"));
	buf_append_string(out, v6 ? " [IPv6:" : " [");
	append_name(out, t->client_address, false);
	buf_append(out, SPAN("])"));
}

/* A path that a transaction accepted. A quoted local part may hold what a comment may not, but in
 * angle brackets nothing is a comment; only what could end the line or the path is taken out. */
static void
append_path(struct buf *out, struct span address)
{
	buf_append_byte(out, '<');
	append_clean(out, address, true);
	buf_append_byte(out, '>');
}

bool
trace_received(struct buf *out, const struct trace *t)
{
	size_t start = out->size;

	ASSERT(!out->overflow);
	ASSERT(t->our_name.size > 0);
	buf_append(out, SPAN("Received: "));
	append_from(out, t);
	buf_append(out, SPAN("\r\n\tby "));
	append_text(out, t->our_name);
	buf_append(out, SPAN(" (Ringpost) with "));
	buf_append_string(out, trace_protocol(t->flags));
	if (t->id.size > 0) {
		buf_append(out, SPAN(" id "));
		append_text(out, t->id);
	}
	if (t->tls.size > 0) {
		buf_append(out, SPAN("\r\n\t("));
		append_text(out, t->tls);
		buf_append_byte(out, ')');
	}
	if (t->recipient.size > 0) {
		buf_append(out, SPAN("\r\n\tfor "));
		append_path(out, t->recipient);
	}
	buf_append(out, SPAN(";\r\n\t"));
	date_write(out, t->wall_ms, t->offset_min);
	buf_append(out, SPAN("\r\n"));
	if (out->overflow)
		out->size = start;
	return !out->overflow;
}
