/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/sender_parts.h"

/* Addresses were checked when they were taken in; but they come back from disk and from other
 * nodes, and a line break here would be a command of somebody else's. */
bool
command_address_is_safe(struct span address)
{
	bool quoted = false;

	for (size_t i = 0; i < address.size; i++) {
		uint8_t c = address.data[i];
		if (c < ' ' || c == 0x7f)
			return false;
		if (quoted && c == '\\') {
			i++;
			if (i == address.size || address.data[i] < ' ' || address.data[i] == 0x7f)
				return false;
		} else if (c == '"') {
			quoted = !quoted;
		} else if (!quoted && (c == ' ' || c == '<' || c == '>')) {
			return false;
		}
	}
	return !quoted;
}

/* A parameter's value: xtext, so printable and without blanks. */
static bool
is_parameter(struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] <= ' ' || s.data[i] == 0x7f)
			return false;
	}
	return s.size > 0;
}

/* Ends a command that began at `start`: all of it, or nothing, is in the buffer afterwards. */
static bool
finish(struct buf *out, size_t start, bool overflow_before)
{
	buf_append(out, SPAN("\r\n"));
	if (!out->overflow)
		return true;
	out->size = start;
	out->overflow = overflow_before;
	return false;
}

bool
command_plain(struct buf *out, const char *verb, struct span argument)
{
	size_t start = out->size;
	bool overflow = out->overflow;

	buf_append_string(out, verb);
	if (argument.size > 0) {
		buf_append_byte(out, ' ');
		buf_append(out, argument);
	}
	return finish(out, start, overflow);
}

bool
command_mail(struct buf *out, const struct sender_transaction *t, const struct sender_offer *o,
	     bool utf8)
{
	size_t start = out->size;
	bool overflow = out->overflow;

	buf_append(out, SPAN("MAIL FROM:<"));
	buf_append(out, t->sender);
	buf_append_byte(out, '>');
	if (o->size) {
		buf_append(out, SPAN(" SIZE="));
		buf_append_number(out, t->body_size);
	}
	if (o->eight_bit_mime && t->eight_bit)
		buf_append(out, SPAN(" BODY=8BITMIME"));
	if (o->smtputf8 && utf8)
		buf_append(out, SPAN(" SMTPUTF8"));
	if (o->require_tls && t->require_tls)
		buf_append(out, SPAN(" REQUIRETLS"));
	if (o->dsn && t->ret == SENDER_RET_FULL)
		buf_append(out, SPAN(" RET=FULL"));
	if (o->dsn && t->ret == SENDER_RET_HEADERS)
		buf_append(out, SPAN(" RET=HDRS"));
	if (o->dsn && is_parameter(t->envid)) {
		buf_append(out, SPAN(" ENVID="));
		buf_append(out, t->envid);
	}
	return finish(out, start, overflow);
}

static void
append_notify(struct buf *out, unsigned notify)
{
	static const struct {
		unsigned bit;
		const char *word;
	} words[] = {
		{ SENDER_NOTIFY_SUCCESS, "SUCCESS" },
		{ SENDER_NOTIFY_FAILURE, "FAILURE" },
		{ SENDER_NOTIFY_DELAY, "DELAY" },
	};
	const char *before = " NOTIFY=";

	/* NEVER stands alone (RFC 3461 4.1). */
	if (notify & SENDER_NOTIFY_NEVER) {
		buf_append(out, SPAN(" NOTIFY=NEVER"));
		return;
	}
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if ((notify & words[i].bit) == 0)
			continue;
		buf_append_string(out, before);
		buf_append_string(out, words[i].word);
		before = ",";
	}
}

bool
command_rcpt(struct buf *out, const struct sender_recipient *r, const struct sender_offer *o)
{
	size_t start = out->size;
	bool overflow = out->overflow;

	buf_append(out, SPAN("RCPT TO:<"));
	buf_append(out, r->address);
	buf_append_byte(out, '>');
	if (o->dsn)
		append_notify(out, r->notify);
	if (o->dsn && is_parameter(r->orcpt)) {
		buf_append(out, SPAN(" ORCPT="));
		buf_append(out, r->orcpt);
	}
	return finish(out, start, overflow);
}
