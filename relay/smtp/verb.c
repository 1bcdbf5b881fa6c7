/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/verb.h"

#include "core/base/assert.h"
#include "relay/smtp/line.h"

enum { HELO_NAME_MAX = 255 };

#define IN(state) (1U << RECEIVER_##state)
#define ANYWHERE  (IN(GREETED) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKS))

static bool
reply(struct receiver *r, enum reply_row row)
{
	verb_reply(r, row);
	return true;
}

static bool
helo(struct receiver *r, struct span argument, bool ehlo, struct receiver_action *out)
{
	if (argument.size == 0 || argument.size > HELO_NAME_MAX)
		return reply(r, REPLY_SYNTAX);
	for (size_t i = 0; i < argument.size; i++) {
		/* What it says is not judged here, blanks included, but it goes into headers and
		 * logs. */
		if (argument.data[i] < ' ' || argument.data[i] >= 0x7f)
			return reply(r, REPLY_SYNTAX);
	}
	if (verb_abort(r))
		return false;
	verb_ask(r, RECEIVER_ASK_HELO, ehlo ? REPLY_EHLO : REPLY_HELO, out);
	out->name = argument;
	out->ehlo = ehlo;
	return true;
}

static bool
run_helo(struct receiver *r, struct span argument, struct receiver_action *out)
{
	return helo(r, argument, false, out);
}

static bool
run_ehlo(struct receiver *r, struct span argument, struct receiver_action *out)
{
	return helo(r, argument, true, out);
}

/* "FROM:<path>" or "TO:<path>". Blanks behind the colon are common and do no harm. */
static enum address_error
parse_path(struct span *argument, struct span keyword, unsigned allow, struct address *out)
{
	size_t used;

	if (!span_eq_nocase(span_first(*argument, keyword.size), keyword))
		return ADDRESS_SYNTAX;
	struct span path = span_trim(span_after(*argument, keyword.size));
	enum address_error error = address_parse_path(path, allow, out, &used);
	if (error == ADDRESS_OK)
		*argument = span_after(path, used);
	return error;
}

/* REQUIRETLS is known, though not offered, where the client could still turn to TLS: it is told to
 * do so. */
static unsigned
offered_params(const struct receiver *r)
{
	const struct receiver_options *o = r->options;

	return (r->secure && o->auth != 0 ? PARAMS_AUTH : 0U) |
	       (o->require_tls && (r->secure || o->starttls) ? PARAMS_REQUIRETLS : 0U);
}

static enum reply_row
parse_mail(struct receiver *r, struct span argument, struct receiver_action *out)
{
	enum address_error error =
		parse_path(&argument, SPAN("FROM:"), ADDRESS_ALLOW_NULL, &out->path);

	if (error == ADDRESS_TOO_LONG)
		return REPLY_SENDER_TOO_LONG;
	if (error == ADDRESS_ODD_LITERAL)
		return REPLY_SENDER_LITERAL;
	if (error != ADDRESS_OK)
		return REPLY_BAD_SENDER;
	enum reply_row row = params_parse_mail(argument, offered_params(r), &out->mail);
	if (row != REPLY_NONE)
		return row;
	if (out->mail.require_tls && !r->secure)
		return REPLY_REQUIRETLS_NEEDS_TLS;
	if (out->path.utf8 && !out->mail.smtputf8)
		return REPLY_NEED_SMTPUTF8;
	return out->mail.size > r->options->size_max ? REPLY_TOO_BIG : REPLY_NONE;
}

static bool
run_mail(struct receiver *r, struct span argument, struct receiver_action *out)
{
	const struct receiver_options *options = r->options;

	if (options->auth_required && !r->authenticated)
		return reply(r, r->secure ? REPLY_NEED_AUTH : REPLY_NEED_STARTTLS);
	if (options->mails_max > 0 && r->mails >= options->mails_max) {
		verb_end(r, REPLY_TOO_MANY_MAILS, CLOSE_TOO_MANY_MAILS);
		return true;
	}
	enum reply_row row = parse_mail(r, argument, out);
	if (row != REPLY_NONE)
		return reply(r, row);
	r->smtputf8 = out->mail.smtputf8;
	verb_ask(r, RECEIVER_ASK_MAIL, REPLY_SENDER_OK, out);
	return true;
}

static enum reply_row
parse_rcpt(struct receiver *r, struct span argument, struct receiver_action *out)
{
	enum address_error error =
		parse_path(&argument, SPAN("TO:"), ADDRESS_ALLOW_POSTMASTER, &out->path);

	if (error == ADDRESS_TOO_LONG)
		return REPLY_RECIPIENT_TOO_LONG;
	if (error == ADDRESS_ODD_LITERAL)
		return REPLY_RECIPIENT_LITERAL;
	if (error != ADDRESS_OK)
		return REPLY_BAD_RECIPIENT;
	enum reply_row row = params_parse_rcpt(argument, r->smtputf8, &out->rcpt);
	if (row != REPLY_NONE)
		return row;
	if (out->path.utf8 && !r->smtputf8)
		return REPLY_NEED_SMTPUTF8;
	return r->recipients >= r->options->recipients_max ? REPLY_TOO_MANY_RECIPIENTS : REPLY_NONE;
}

static bool
run_rcpt(struct receiver *r, struct span argument, struct receiver_action *out)
{
	enum reply_row row = parse_rcpt(r, argument, out);

	if (row != REPLY_NONE) {
		r->recipients_refused++;
		return reply(r, row);
	}
	verb_ask(r, RECEIVER_ASK_RCPT, REPLY_RECIPIENT_OK, out);
	return true;
}

/* Why no body may come in a transaction without recipients: RFC 2920 3.1 wants a client that
 * pipelined DATA behind refused recipients to be told 554. */
static enum reply_row
no_recipients(const struct receiver *r)
{
	return r->recipients_refused > 0 ? REPLY_NO_RECIPIENTS : REPLY_BAD_SEQUENCE;
}

static void
begin_body(struct receiver *r, bool dotted)
{
	body_in_init(&r->body, dotted, r->options->bare_newline);
	r->size = 0;
	r->dropped = 0;
	r->refusal = REPLY_NONE;
}

static bool
run_data(struct receiver *r, struct span argument, struct receiver_action *out)
{
	if (argument.size > 0)
		return reply(r, REPLY_SYNTAX);
	if (r->recipients == 0)
		return reply(r, no_recipients(r));
	begin_body(r, true);
	verb_ask(r, RECEIVER_ASK_DATA, REPLY_START_DATA, out);
	out->chunked = false;
	out->size = 0;
	return true;
}

/* Why this chunk may not be taken; NONE where it may. */
static enum reply_row
judge_chunk(const struct receiver *r)
{
	switch (r->state) {
	case RECEIVER_GREETED:
		return REPLY_NEED_HELO;
	case RECEIVER_READY:
		return REPLY_BAD_SEQUENCE;
	case RECEIVER_MAIL:
		return no_recipients(r);
	case RECEIVER_CHUNKS:
		return r->refusal; /* the caller may have refused the body since */
	default:
		ASSERT(r->state == RECEIVER_RCPT);
		return REPLY_NONE;
	}
}

/* Legal everywhere: the bytes of a chunk follow its command whatever we say to it. */
static bool
run_bdat(struct receiver *r, struct span argument, struct receiver_action *out)
{
	struct span size = line_word(&argument);

	if (!span_to_u64(size, &r->chunk_left)) {
		/* Where the chunk ends nobody knows, and what is in it must not become commands. */
		verb_end(r, REPLY_SYNTAX, CLOSE_BAD_CHUNK);
		return true;
	}
	r->last = span_eq_nocase(argument, SPAN("LAST"));
	enum reply_row refusal = judge_chunk(r);
	if (refusal == REPLY_NONE && argument.size > 0 && !r->last)
		refusal = REPLY_SYNTAX;
	if (refusal == REPLY_NONE && r->state == RECEIVER_RCPT) {
		begin_body(r, false);
		verb_ask(r, RECEIVER_ASK_DATA, REPLY_NONE, out);
		out->chunked = true;
		out->size = r->chunk_left;
		return true;
	}
	r->dropped = 0;
	r->refusal = (uint8_t)refusal;
	if (refusal != REPLY_NONE)
		verb_abort(r);
	verb_begin_chunk(r);
	return true;
}

static bool
run_rset(struct receiver *r, struct span argument, struct receiver_action *out)
{
	(void)out;
	if (argument.size > 0)
		return reply(r, REPLY_SYNTAX);
	verb_abort(r);
	return reply(r, REPLY_RESET);
}

static bool
run_noop(struct receiver *r, struct span argument, struct receiver_action *out)
{
	(void)argument;
	(void)out;
	return reply(r, REPLY_NOOP);
}

static bool
run_vrfy(struct receiver *r, struct span argument, struct receiver_action *out)
{
	(void)out;
	return reply(r, argument.size > 0 ? REPLY_VRFY : REPLY_SYNTAX);
}

static bool
run_help(struct receiver *r, struct span argument, struct receiver_action *out)
{
	(void)argument;
	(void)out;
	return reply(r, REPLY_HELP);
}

static bool
run_quit(struct receiver *r, struct span argument, struct receiver_action *out)
{
	(void)out;
	if (argument.size > 0)
		return reply(r, REPLY_SYNTAX);
	verb_end(r, REPLY_GOODBYE, CLOSE_QUIT);
	return true;
}

static bool
run_starttls(struct receiver *r, struct span argument, struct receiver_action *out)
{
	if (!r->options->starttls && !r->secure)
		return reply(r, REPLY_NOT_IMPLEMENTED);
	if (r->secure)
		return reply(r, REPLY_BAD_SEQUENCE);
	if (argument.size > 0)
		return reply(r, REPLY_SYNTAX);
	verb_ask(r, RECEIVER_ASK_STARTTLS, REPLY_START_TLS, out);
	return true;
}

/* AUTH mechanism [initial response], which is "=" where it is empty. */
static bool
run_auth(struct receiver *r, struct span argument, struct receiver_action *out)
{
	struct span name = line_word(&argument);
	enum sasl_mechanism mechanism = sasl_find(name);

	if (r->options->auth == 0)
		return reply(r, REPLY_NOT_IMPLEMENTED);
	if (!r->secure)
		return reply(r, REPLY_AUTH_NEEDS_TLS);
	if (r->authenticated)
		return reply(r, REPLY_BAD_SEQUENCE);
	if (name.size == 0)
		return reply(r, REPLY_SYNTAX);
	if (mechanism == SASL_MECHANISM_COUNT || !(verb_auth_offered(r) & SASL_BIT(mechanism)))
		return reply(r, REPLY_BAD_MECHANISM);
	bool is_empty = span_eq(argument, SPAN("="));
	if (!verb_decode(is_empty ? span_none() : argument, out))
		return reply(r, REPLY_BAD_BASE64);
	verb_ask(r, RECEIVER_ASK_AUTH, REPLY_AUTH_OK, out);
	out->mechanism = mechanism;
	out->has_data = argument.size > 0;
	return true;
}

static bool
run_not_implemented(struct receiver *r, struct span argument, struct receiver_action *out)
{
	(void)argument;
	(void)out;
	return reply(r, REPLY_NOT_IMPLEMENTED);
}

/* A browser, or somebody's attempt to make one send mail: headers and a body would follow. */
static bool
run_http(struct receiver *r, struct span argument, struct receiver_action *out)
{
	(void)argument;
	(void)out;
	verb_end(r, REPLY_NOT_SMTP, CLOSE_HTTP);
	return true;
}

/* The frequent ones first. */
static const struct verb verbs[] = {
	{ SPAN("RCPT"), IN(MAIL) | IN(RCPT), 0, run_rcpt },
	{ SPAN("MAIL"), IN(READY), 0, run_mail },
	{ SPAN("DATA"), IN(MAIL) | IN(RCPT), VERB_LAST, run_data },
	{ SPAN("BDAT"), ANYWHERE, 0, run_bdat },
	{ SPAN("EHLO"), ANYWHERE, VERB_LAST | VERB_JUNK, run_ehlo },
	{ SPAN("HELO"), ANYWHERE, VERB_LAST | VERB_JUNK, run_helo },
	{ SPAN("QUIT"), ANYWHERE, 0, run_quit },
	{ SPAN("RSET"), ANYWHERE, VERB_JUNK, run_rset },
	{ SPAN("NOOP"), ANYWHERE, VERB_LAST | VERB_JUNK, run_noop },
	{ SPAN("VRFY"), ANYWHERE, VERB_LAST | VERB_JUNK, run_vrfy },
	{ SPAN("HELP"), ANYWHERE, VERB_JUNK, run_help },
	/* Neither within a transaction: TLS would leave half of it in plain text, and RFC 4954 4
	 * says so of AUTH. */
	{ SPAN("STARTTLS"), IN(READY), VERB_LAST, run_starttls },
	{ SPAN("AUTH"), IN(READY), VERB_LAST, run_auth },
	/* Known, but not here (RFC 5321 4.2.4). */
	{ SPAN("EXPN"), ANYWHERE, VERB_LAST, run_not_implemented },
	{ SPAN("TURN"), ANYWHERE, VERB_LAST, run_not_implemented },
	{ SPAN("ETRN"), ANYWHERE, VERB_LAST, run_not_implemented },
	{ SPAN("SEND"), ANYWHERE, 0, run_not_implemented },
	{ SPAN("SOML"), ANYWHERE, 0, run_not_implemented },
	{ SPAN("SAML"), ANYWHERE, 0, run_not_implemented },
	/* Not SMTP at all. */
	{ SPAN("GET"), ANYWHERE, 0, run_http },
	{ SPAN("HEAD"), ANYWHERE, 0, run_http },
	{ SPAN("POST"), ANYWHERE, 0, run_http },
	{ SPAN("PUT"), ANYWHERE, 0, run_http },
	{ SPAN("DELETE"), ANYWHERE, 0, run_http },
	{ SPAN("PATCH"), ANYWHERE, 0, run_http },
	{ SPAN("CONNECT"), ANYWHERE, 0, run_http },
	{ SPAN("OPTIONS"), ANYWHERE, 0, run_http },
	{ SPAN("TRACE"), ANYWHERE, 0, run_http },
	{ SPAN("PRI"), ANYWHERE, 0, run_http },
};

const struct verb *
verb_find(struct span word)
{
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
		if (span_eq_nocase(word, verbs[i].name))
			return &verbs[i];
	}
	return NULL;
}

bool
verb_is_allowed(const struct verb *v, enum receiver_state state)
{
	return (v->allowed >> state & 1U) != 0;
}
