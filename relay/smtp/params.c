/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/params.h"

#include "core/base/utf8.h"
#include "core/base/xtext.h"
#include "relay/smtp/address.h"
#include "relay/smtp/line.h"

/* What has been read of one command. */
struct reading {
	unsigned seen; /* bits by row of the table of parameters */
	bool smtputf8;
	unsigned offered; /* PARAMS_AUTH, PARAMS_REQUIRETLS */
	struct mail_params *mail;
	struct rcpt_params *rcpt;
};

struct param {
	struct span name;
	unsigned offer;                                    /* a bit of `offered`; 0: known always */
	bool (*read)(struct reading *, struct span value); /* false: a bad value */
};

static bool
read_size(struct reading *r, struct span value)
{
	if (value.size == 0 || value.size > 20)
		return false;
	for (size_t i = 0; i < value.size; i++) {
		if (value.data[i] < '0' || value.data[i] > '9')
			return false;
	}
	/* Twenty digits may be more than a number holds; too big all the same. */
	if (!span_to_u64(value, &r->mail->size))
		r->mail->size = UINT64_MAX;
	return true;
}

static bool
read_body(struct reading *r, struct span value)
{
	/* BINARYMIME (RFC 3030) is not offered: messages are lines here. */
	if (span_eq_nocase(value, SPAN("7BIT")))
		r->mail->body = PARAMS_BODY_7BIT;
	else if (span_eq_nocase(value, SPAN("8BITMIME")))
		r->mail->body = PARAMS_BODY_8BITMIME;
	else
		return false;
	return true;
}

static bool
read_smtputf8(struct reading *r, struct span value)
{
	r->mail->smtputf8 = true;
	return value.data == NULL;
}

static bool
read_requiretls(struct reading *r, struct span value)
{
	r->mail->require_tls = true;
	return value.data == NULL;
}

static bool
read_ret(struct reading *r, struct span value)
{
	if (span_eq_nocase(value, SPAN("FULL")))
		r->mail->ret = PARAMS_RET_FULL;
	else if (span_eq_nocase(value, SPAN("HDRS")))
		r->mail->ret = PARAMS_RET_HDRS;
	else
		return false;
	return true;
}

static bool
read_envid(struct reading *r, struct span value)
{
	uint8_t memory[PARAMS_ENVID_MAX];
	struct buf decoded = buf_of(memory, sizeof memory);

	if (value.size == 0 || value.size > PARAMS_ENVID_MAX || !xtext_decode(value, &decoded))
		return false;
	/* RFC 3461 4.4: graphic characters and spaces, once decoded. It stands in DSN headers. */
	for (size_t i = 0; i < decoded.size; i++) {
		if (memory[i] < ' ' || memory[i] >= 0x7f)
			return false;
	}
	r->mail->envid = value;
	return true;
}

static bool
read_notify(struct reading *r, struct span value)
{
	static const struct {
		struct span name;
		unsigned bit;
	} words[] = {
		{ SPAN("NEVER"), PARAMS_NOTIFY_NEVER },
		{ SPAN("SUCCESS"), PARAMS_NOTIFY_SUCCESS },
		{ SPAN("FAILURE"), PARAMS_NOTIFY_FAILURE },
		{ SPAN("DELAY"), PARAMS_NOTIFY_DELAY },
	};
	unsigned bits = 0;

	for (;;) {
		size_t comma = span_find(value, ',', 0);
		unsigned bit = 0;
		for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
			if (span_eq_nocase(span_first(value, comma), words[i].name))
				bit = words[i].bit;
		}
		if (bit == 0)
			return false;
		bits |= bit;
		if (comma == value.size)
			break;
		value = span_after(value, comma + 1);
	}
	r->rcpt->notify = bits;
	return bits == PARAMS_NOTIFY_NEVER || !(bits & PARAMS_NOTIFY_NEVER);
}

static bool
read_orcpt(struct reading *r, struct span value)
{
	size_t semicolon = span_find(value, ';', 0);
	struct span type = span_first(value, semicolon);
	struct span text = span_after(value, semicolon + 1);

	if (value.size > PARAMS_ORCPT_MAX || type.size == 0 || text.size == 0)
		return false;
	for (size_t i = 0; i < type.size; i++) {
		uint8_t c = type.data[i]; /* an atom, RFC 3461 4.2 */
		if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\".[]=+", c) != NULL)
			return false;
	}
	r->rcpt->orcpt = value;
	if (xtext_is_valid(text))
		return true;
	/* RFC 6533 3: characters beyond ASCII stand for themselves in type utf-8. */
	if (!r->smtputf8 || !span_eq_nocase(type, SPAN("utf-8")) || !utf8_is_valid(text))
		return false;
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		if (c <= ' ' || c == '=' || c == '+' || c == 0x7f)
			return false;
	}
	return true;
}

/* RFC 4954 5: a mailbox in xtext, or "<>". */
static bool
read_auth(struct reading *r, struct span value)
{
	uint8_t memory[PARAMS_AUTH_MAX];
	struct buf decoded = buf_of(memory, sizeof memory);
	struct address mailbox;

	(void)r;
	if (span_eq(value, SPAN("<>")))
		return true;
	return value.size <= PARAMS_AUTH_MAX && xtext_decode(value, &decoded) &&
	       address_parse_mailbox(buf_span(&decoded), &mailbox) == ADDRESS_OK;
}

static const struct param mail_rows[] = {
	{ SPAN("SIZE"), 0, read_size },
	{ SPAN("BODY"), 0, read_body },
	{ SPAN("SMTPUTF8"), 0, read_smtputf8 },
	{ SPAN("RET"), 0, read_ret },
	{ SPAN("ENVID"), 0, read_envid },
	{ SPAN("AUTH"), PARAMS_AUTH, read_auth },
	{ SPAN("REQUIRETLS"), PARAMS_REQUIRETLS, read_requiretls },
};

static const struct param rcpt_rows[] = {
	{ SPAN("NOTIFY"), 0, read_notify },
	{ SPAN("ORCPT"), 0, read_orcpt },
};

/* esmtp-keyword and esmtp-value of RFC 5321 4.1.2 and RFC 6531 3.3. */
static bool
is_well_formed(struct span name, struct span value)
{
	if (name.size == 0 || name.data[0] == '-')
		return false;
	for (size_t i = 0; i < name.size; i++) {
		uint8_t c = ascii_lower(name.data[i]);
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
			return false;
	}
	if (value.data == NULL)
		return true;
	for (size_t i = 0; i < value.size; i++) {
		if (value.data[i] <= ' ' || value.data[i] == '=' || value.data[i] == 0x7f)
			return false;
	}
	return value.size > 0 && utf8_is_valid(value);
}

static enum reply_row
parse_one(struct reading *r, const struct param *rows, size_t count, struct span word)
{
	size_t equals = span_find(word, '=', 0);
	struct span name = span_first(word, equals);
	struct span value = equals < word.size ? span_after(word, equals + 1) : span_none();

	if (!is_well_formed(name, value))
		return REPLY_BAD_PARAMETER;
	for (size_t i = 0; i < count; i++) {
		if (!span_eq_nocase(name, rows[i].name) ||
		    (r->offered & rows[i].offer) != rows[i].offer)
			continue;
		if (r->seen & 1U << i)
			return REPLY_BAD_PARAMETER;
		r->seen |= 1U << i;
		return rows[i].read(r, value) ? REPLY_NONE : REPLY_BAD_PARAMETER;
	}
	return REPLY_UNKNOWN_PARAMETER;
}

static enum reply_row
parse_all(struct reading *r, const struct param *rows, size_t count, struct span in)
{
	if (in.size > 0 && in.data[0] != ' ')
		return REPLY_SYNTAX; /* something is glued to the path */
	in = span_trim(in);
	while (in.size > 0) {
		enum reply_row row = parse_one(r, rows, count, line_word(&in));
		if (row != REPLY_NONE)
			return row;
	}
	return REPLY_NONE;
}

enum reply_row
params_parse_mail(struct span in, unsigned offered, struct mail_params *out)
{
	struct reading r = { .mail = out, .offered = offered };

	*out = (struct mail_params){ 0 };
	return parse_all(&r, mail_rows, sizeof mail_rows / sizeof mail_rows[0], in);
}

enum reply_row
params_parse_rcpt(struct span in, bool smtputf8, struct rcpt_params *out)
{
	struct reading r = { .rcpt = out, .smtputf8 = smtputf8 };

	*out = (struct rcpt_params){ 0 };
	return parse_all(&r, rcpt_rows, sizeof rcpt_rows / sizeof rcpt_rows[0], in);
}
