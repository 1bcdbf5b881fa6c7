/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/dsn_parts.h"

#include "core/base/utf8.h"
#include "core/base/xtext.h"
#include "relay/message/date.h"

enum {
	ADDRESS_MAX = 512,
	EMBEDDED_MAX = 900, /* a character may take ten bytes, a line 998 */
	TYPE_MAX = 32,
	REPLY_MAX = 1024,
	REMOTE_MAX = 300,
};

static void
write_date_field(struct buf *out, const char *name, uint64_t ms, int offset_min)
{
	buf_append_string(out, name);
	buf_append(out, SPAN(": "));
	date_write(out, ms, offset_min);
	buf_append(out, SPAN("\r\n"));
}

/* ---- addresses ---- */

static int
hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
append_utf8(struct buf *out, uint32_t point)
{
	if (point < 0x80) {
		buf_append_byte(out, (uint8_t)point);
	} else if (point < 0x800) {
		buf_append_byte(out, (uint8_t)(0xc0 | point >> 6));
		buf_append_byte(out, (uint8_t)(0x80 | (point & 0x3f)));
	} else if (point < 0x10000) {
		buf_append_byte(out, (uint8_t)(0xe0 | point >> 12));
		buf_append_byte(out, (uint8_t)(0x80 | (point >> 6 & 0x3f)));
		buf_append_byte(out, (uint8_t)(0x80 | (point & 0x3f)));
	} else {
		buf_append_byte(out, (uint8_t)(0xf0 | point >> 18));
		buf_append_byte(out, (uint8_t)(0x80 | (point >> 12 & 0x3f)));
		buf_append_byte(out, (uint8_t)(0x80 | (point >> 6 & 0x3f)));
		buf_append_byte(out, (uint8_t)(0x80 | (point & 0x3f)));
	}
}

/* "\x{20AC}" at the start of s (RFC 6533 3): bytes used, 0 where there is none. What it stands for
 * is appended; what is no character fails the check of the whole, later. */
static size_t
read_embedded(struct span s, struct buf *out)
{
	uint32_t point = 0;
	size_t at = 3;

	if (!span_starts_with(s, SPAN("\\x{")))
		return 0;
	while (at < s.size && at < 9 && hex_digit(s.data[at]) >= 0)
		point = point << 4 | (uint32_t)hex_digit(s.data[at++]);
	if (at == 3 || at == s.size || s.data[at] != '}' || point > 0x10ffff)
		return 0;
	append_utf8(out, point);
	return at + 1;
}

/* The address of an ORCPT of type utf-8 as plain UTF-8, from either of its encoded forms. */
static void
decode_utf8_address(struct span s, struct buf *out)
{
	while (s.size > 0) {
		size_t used = read_embedded(s, out);
		if (used == 0) {
			buf_append_byte(out, s.data[0]);
			used = 1;
		}
		s = span_after(s, used);
	}
}

static uint32_t
code_point(struct span c)
{
	static const uint8_t masks[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	uint32_t point = c.data[0] & masks[c.size];

	for (size_t i = 1; i < c.size; i++)
		point = point << 6 | (c.data[i] & 0x3fU);
	return point;
}

/* The form of an address of type utf-8 that is ASCII: utf-8-addr-xtext. */
static void
write_embedded(struct buf *out, struct span address)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t end = out->size + EMBEDDED_MAX;

	while (address.size > 0 && out->size < end) {
		size_t length = utf8_length(address);
		uint8_t c = address.data[0];
		bool plain =
			length == 1 && c > ' ' && c < 0x7f && c != '\\' && c != '+' && c != '=';
		if (plain) {
			buf_append_byte(out, c);
		} else if (length == 0) {
			buf_append_byte(out, '?');
		} else {
			uint32_t point = code_point(span_first(address, length));
			buf_append(out, SPAN("\\x{"));
			int shift = 20;
			while (shift > 4 && point >> shift == 0)
				shift -= 4;
			for (; shift >= 0; shift -= 4)
				buf_append_byte(out, (uint8_t)digits[point >> shift & 15]);
			buf_append_byte(out, '}');
		}
		address = span_after(address, length == 0 ? 1 : length);
	}
}

/* "Name: utf-8; address", or in ASCII. */
static void
write_utf8_address(struct buf *out, struct span address, bool global)
{
	address = span_first(address, ADDRESS_MAX);
	buf_append(out, SPAN("utf-8; "));
	if (global)
		dsn_clean(out, address, ADDRESS_MAX, DSN_CLEAN_UTF8);
	else
		write_embedded(out, address);
	buf_append(out, SPAN("\r\n"));
}

static void
write_address_field(struct buf *out, const char *name, struct span address, bool global)
{
	buf_append_string(out, name);
	buf_append(out, SPAN(": "));
	if (utf8_has_non_ascii(address)) {
		write_utf8_address(out, address, global);
		return;
	}
	buf_append(out, SPAN("rfc822; "));
	dsn_clean(out, address, ADDRESS_MAX, DSN_CLEAN_ASCII);
	buf_append(out, SPAN("\r\n"));
}

static bool
is_type(struct span type)
{
	if (type.size == 0 || type.size > TYPE_MAX)
		return false;
	for (size_t i = 0; i < type.size; i++) {
		uint8_t c = ascii_lower(type.data[i]);
		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-')
			return false;
	}
	return true;
}

/* RFC 3461 5.2: as the sender of the mail gave it to us, without its encoding. */
static void
write_original_recipient(struct buf *out, struct span orcpt, bool global)
{
	uint8_t memory[ADDRESS_MAX + 8];
	struct buf text = buf_of(memory, sizeof memory);
	struct span type = span_first(orcpt, span_find(orcpt, ';', 0));
	struct span address = span_first(span_after(orcpt, type.size + 1), ADDRESS_MAX);

	if (!is_type(type) || address.size == 0)
		return;
	if (span_eq_nocase(type, SPAN("utf-8"))) {
		decode_utf8_address(address, &text);
		buf_append(out, SPAN("Original-Recipient: "));
		write_utf8_address(out, buf_span(&text), global);
		return;
	}
	if (!xtext_decode(address, &text))
		return;
	buf_append(out, SPAN("Original-Recipient: "));
	buf_append(out, type);
	buf_append(out, SPAN("; "));
	dsn_clean(out, buf_span(&text), ADDRESS_MAX, DSN_CLEAN_ASCII);
	buf_append(out, SPAN("\r\n"));
}

/* ---- the fields about the message ---- */

void
dsn_write_message_fields(struct buf *out, const struct dsn_notice *n, bool global)
{
	uint8_t memory[ADDRESS_MAX];
	struct buf envid = buf_of(memory, sizeof memory);

	buf_append(out, SPAN("Content-Description: Delivery status\r\nContent-Type: "));
	buf_append_string(out, global ? "message/global-delivery-status\r\n"
					"Content-Transfer-Encoding: 8bit\r\n\r\n"
				      : "message/delivery-status\r\n\r\n");
	if (n->envid.size > 0 && xtext_decode(n->envid, &envid)) {
		buf_append(out, SPAN("Original-Envelope-Id: "));
		dsn_clean(out, buf_span(&envid), ADDRESS_MAX, DSN_CLEAN_ASCII);
		buf_append(out, SPAN("\r\n"));
	}
	buf_append(out, SPAN("Reporting-MTA: dns; "));
	dsn_clean(out, n->hostname, 255, DSN_CLEAN_ASCII);
	buf_append(out, SPAN("\r\n"));
	write_date_field(out, "Arrival-Date", n->arrived_ms, n->offset_min);
	buf_append(out, SPAN("X-Ringpost-Queue-Id: "));
	dsn_clean(out, n->original_id, 64, DSN_CLEAN_ASCII);
	buf_append(out, SPAN("\r\n"));
	write_address_field(out, "X-Ringpost-Sender", n->sender, global);
}

/* ---- the fields about a recipient ---- */

/* "550" in front of a reply; 0: it has none. */
static unsigned
code_of(struct span reply)
{
	uint64_t code = 0;
	bool ends = reply.size == 3 ||
		    (reply.size > 3 && (reply.data[3] == ' ' || reply.data[3] == '\n'));

	if (!ends || !span_to_u64(span_first(reply, 3), &code) || code < 200 || code > 599)
		return 0;
	return (unsigned)code;
}

/* One to three digits at *at, and no more. */
static bool
skip_digits(struct span s, size_t *at)
{
	size_t from = *at;

	while (*at < s.size && s.data[*at] >= '0' && s.data[*at] <= '9')
		++*at;
	return *at > from && *at <= from + 3;
}

/* The status behind the code, if it is one and of the code's class; empty otherwise. */
static struct span
status_of(struct span reply)
{
	struct span s = span_after(reply, 4);
	size_t at = 0;

	if (code_of(reply) == 0 || s.size < 5 || s.data[0] != reply.data[0] || s.data[1] != '.')
		return span_none();
	at = 2;
	if (!skip_digits(s, &at) || at >= s.size || s.data[at++] != '.' || !skip_digits(s, &at))
		return span_none();
	if (at < s.size && s.data[at] != ' ' && s.data[at] != '\n')
		return span_none();
	return span_first(s, at);
}

bool
dsn_is_expired(const struct dsn_recipient *r)
{
	unsigned code = code_of(r->reply);

	return r->action == DSN_FAILED && code >= 400 && code < 500;
}

void
dsn_status(const struct dsn_recipient *r, struct buf *out)
{
	static const uint8_t classes[DSN_ACTIONS] = { '5', '4', '2', '2' };
	struct span own = status_of(r->reply);
	uint8_t class = classes[r->action];

	if (dsn_is_expired(r)) {
		buf_append(out, SPAN("4.4.7"));
	} else if (own.size > 0 && own.data[0] == class) {
		buf_append(out, own);
	} else {
		buf_append_byte(out, class);
		buf_append(out, SPAN(".0.0"));
	}
}

static bool
is_domain(struct span name)
{
	for (size_t i = 0; i < name.size; i++) {
		uint8_t c = ascii_lower(name.data[i]);
		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' &&
		    c != '_' && c != '[' && c != ']' && c != ':')
			return false;
	}
	return name.size > 0;
}

static void
write_remote(struct buf *out, const struct dsn_recipient *r)
{
	if (r->remote.size == 0)
		return;
	buf_append_string(out, is_domain(r->remote) ? "Remote-MTA: dns; " : "Remote-MTA: x-unix; ");
	dsn_clean(out, r->remote, REMOTE_MAX, DSN_CLEAN_ASCII);
	buf_append(out, SPAN("\r\n"));
}

static void
write_diagnostic(struct buf *out, const struct dsn_recipient *r)
{
	uint8_t memory[REPLY_MAX];
	struct buf text = buf_of(memory, sizeof memory);
	static const struct span remote = SPAN("Diagnostic-Code: smtp; ");
	static const struct span ours = SPAN("Diagnostic-Code: x-ringpost; ");
	struct span name = r->from_remote ? remote : ours;

	dsn_clean(&text, r->reply, sizeof memory, DSN_CLEAN_ASCII);
	struct span clean = span_trim(buf_span(&text));
	if (clean.size == 0)
		return;
	buf_append(out, name);
	dsn_wrap(out, clean, name.size, "    ");
	buf_append(out, SPAN("\r\n"));
}

void
dsn_write_recipient_fields(struct buf *out, const struct dsn_notice *n,
			   const struct dsn_recipient *r, bool global)
{
	buf_append(out, SPAN("\r\n"));
	write_original_recipient(out, r->orcpt, global);
	write_address_field(out, "Final-Recipient", r->address, global);
	buf_append(out, SPAN("Action: "));
	buf_append_string(out, dsn_action_name(r->action));
	buf_append(out, SPAN("\r\nStatus: "));
	dsn_status(r, out);
	buf_append(out, SPAN("\r\n"));
	write_remote(out, r);
	write_diagnostic(out, r);
	if (r->attempt_ms != 0)
		write_date_field(out, "Last-Attempt-Date", r->attempt_ms, n->offset_min);
	if (r->action == DSN_DELAYED)
		write_date_field(out, "Will-Retry-Until", n->retry_until_ms, n->offset_min);
}
