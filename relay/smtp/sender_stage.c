/* SPDX-License-Identifier: Apache-2.0
 *
 * From the greeting to READY: names, TLS, and who we are.
 */
#include "relay/smtp/sender_parts.h"

#include "core/base/assert.h"
#include "core/base/base64.h"

/* ---- TLS ---- */

/* False where the session goes on without, because it may, or need not any more. */
static bool
go_for_tls(struct sender *s)
{
	if (s->secure || s->options->tls == SENDER_TLS_NEVER || s->tls_refused)
		return false;
	if (s->offer.starttls) {
		s->state = STATE_STARTTLS;
		return true;
	}
	if (s->options->tls != SENDER_TLS_REQUIRED)
		return false;
	sender_refuse_peer(s,
			   s->options->require_tls ? SENDER_CAUSE_TLS_NEEDED : SENDER_CAUSE_NO_TLS);
	return true;
}

void
sender_take_starttls_reply(struct sender *s, struct sender_meaning meaning)
{
	if (meaning.class == SENDER_OK) {
		s->state = STATE_START_TLS;
		return;
	}
	if (s->options->tls == SENDER_TLS_REQUIRED || meaning.then != SENDER_QUIT) {
		sender_end_by_reply(s, meaning);
		return;
	}
	s->tls_refused = true;
	sender_next_stage(s);
}

/* ---- AUTH ---- */

static void
go_for_auth(struct sender *s)
{
	unsigned both = s->options->auth & s->offer.auth;

	if (!s->secure) {
		sender_refuse_peer(s, SENDER_CAUSE_NO_TLS);
		return;
	}
	if (both == 0) {
		sender_refuse_peer(s, SENDER_CAUSE_NO_AUTH);
		return;
	}
	/* The best comes first in its enum. */
	s->mechanism = 0;
	while ((both & SASL_BIT(s->mechanism)) == 0)
		s->mechanism++;
	s->auth_step = AUTH_FIRST;
	s->state = STATE_AUTH_ASK;
}

void
sender_take_auth_reply(struct sender *s)
{
	/* A challenge that was cut cannot be answered. */
	if (s->reply.cut || s->reply.lines > 1)
		sender_end_by_cause(s, CLOSE_PROTOCOL, SENDER_CAUSE_AUTH);
	else
		s->state = STATE_AUTH_ASK;
	s->auth_step = s->reply.code == 235 ? AUTH_OVER : AUTH_CHALLENGE;
}

static bool
ask_auth(struct sender *s, struct sender_action *out)
{
	out->auth = (struct sender_auth){ .mechanism = s->mechanism };
	out->auth.first = s->auth_step == AUTH_FIRST;
	out->auth.over = s->auth_step == AUTH_OVER;
	buf_reset(s->scratch);
	if (s->auth_step == AUTH_CHALLENGE && !base64_decode(reply_text(&s->reply), s->scratch)) {
		sender_end_by_cause(s, CLOSE_PROTOCOL, SENDER_CAUSE_AUTH);
		return sender_report(s, out);
	}
	out->kind = SENDER_ASK_AUTH;
	out->auth.data = buf_span(s->scratch);
	s->state = STATE_AUTH_WAIT;
	return true;
}

static bool
say_auth(struct sender *s, struct sender_action *out)
{
	struct span name = sasl_name((enum sasl_mechanism)s->mechanism);
	bool first = s->auth_step == AUTH_FIRST;

	buf_reset(s->scratch);
	if (first)
		buf_printf(s->scratch, "AUTH %.*s", SPAN_ARG(name));
	if (first && s->auth_data.size > 0)
		buf_append_byte(s->scratch, ' ');
	base64_encode(s->auth_data, s->scratch);
	buf_append(s->scratch, SPAN("\r\n"));
	s->auth_data = span_none();
	if (s->scratch->overflow) {
		sender_end_by_cause(s, CLOSE_PROTOCOL, SENDER_CAUSE_AUTH);
		return sender_report(s, out);
	}
	s->state = STATE_AUTH;
	out->kind = SENDER_WRITE;
	out->text = buf_span(s->scratch);
	return true;
}

/* ---- from stage to stage ---- */

void
sender_next_stage(struct sender *s)
{
	if (go_for_tls(s))
		return;
	/* In plain text it means nothing (RFC 8689 2). */
	s->offer.require_tls &= s->secure;
	if (s->options->require_tls && !s->offer.require_tls) {
		sender_refuse_peer(s, SENDER_CAUSE_NO_REQUIRETLS);
		return;
	}
	if (s->options->auth != 0)
		go_for_auth(s);
	else
		s->state = STATE_READY;
}

bool
sender_speak_stage(struct sender *s, struct sender_action *out)
{
	switch (s->state) {
	case STATE_HELLO:
		s->state = STATE_EHLO;
		return sender_write_command(s, s->options->lmtp ? "LHLO" : "EHLO",
					    s->options->hello_name, out);
	case STATE_FALL_BACK:
		s->state = STATE_HELO;
		return sender_write_command(s, "HELO", s->options->hello_name, out);
	case STATE_STARTTLS:
		s->state = STATE_STARTED;
		return sender_write_command(s, "STARTTLS", span_none(), out);
	case STATE_START_TLS:
		s->state = STATE_SECURING;
		out->kind = SENDER_START_TLS;
		return true;
	case STATE_AUTH_ASK:
		return ask_auth(s, out);
	case STATE_AUTH_SAY:
		return say_auth(s, out);
	case STATE_SECURING:
	case STATE_AUTH_WAIT:
		out->kind = SENDER_WAIT;
		return true;
	case STATE_READY:
		s->state = STATE_UP;
		out->kind = SENDER_READY;
		return true;
	default:
		return false;
	}
}
