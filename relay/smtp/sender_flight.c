/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of a transaction on its way, its outcomes, and what the end of the connection makes
 * of it.
 */
#include "relay/smtp/sender_parts.h"

#include "core/base/assert.h"

/* ---- what is known of a flight ---- */

/* The two places are in use from the front. */
bool
sender_is_ahead(const struct sender *s, const struct sender_flight *f)
{
	return f == &s->flights[1];
}

/* Has the end of data gone out, or may it have? */
static bool
end_is_sent(const struct sender_flight *f)
{
	bool asked_for = f->by_bdat || f->answered >= ANSWER_END;

	return asked_for && (f->sent == IN_LAST || f->sent == SEND_NOTHING);
}

/* The answer that is due next, where any is. Those left out have had no RCPT. */
enum answered
sender_awaited(const struct sender_flight *f)
{
	uint32_t at = f->rcpt_answered;

	if (f->answered != ANSWER_RCPT)
		return f->answered;
	while (at < f->rcpt_sent && f->transaction->recipients[at].state == RECIPIENT_LEFT_OUT)
		at++;
	if (at < f->rcpt_sent || f->sent == SEND_RCPT)
		return ANSWER_RCPT;
	return f->by_bdat ? ANSWER_END : ANSWER_DATA;
}

enum sender_phase
sender_answer_phase(enum answered answered)
{
	static const enum sender_phase phases[] = {
		[ANSWER_RSET] = SENDER_PHASE_RSET, [ANSWER_MAIL] = SENDER_PHASE_MAIL,
		[ANSWER_RCPT] = SENDER_PHASE_RCPT, [ANSWER_DATA] = SENDER_PHASE_DATA,
		[ANSWER_END] = SENDER_PHASE_END,   [ANSWER_EARLY] = SENDER_PHASE_END,
	};

	return phases[answered];
}

enum sender_phase
sender_flight_phase(const struct sender_flight *f)
{
	if (f->sent == SEND_BEGIN)
		return SENDER_PHASE_MAIL;
	if ((f->sent >= SEND_FIRST && f->sent <= IN_LAST) || f->sent == BARRED)
		return SENDER_PHASE_BODY;
	return sender_answer_phase(sender_awaited(f));
}

enum sender_phase
sender_session_phase(const struct sender *s)
{
	switch (s->state) {
	case STATE_GREETING:
		return SENDER_PHASE_GREETING;
	case STATE_HELLO:
	case STATE_EHLO:
		return SENDER_PHASE_EHLO;
	case STATE_FALL_BACK:
	case STATE_HELO:
		return SENDER_PHASE_HELO;
	case STATE_STARTTLS:
	case STATE_STARTED:
		return SENDER_PHASE_STARTTLS;
	case STATE_START_TLS:
	case STATE_SECURING:
		return SENDER_PHASE_TLS;
	case STATE_AUTH_ASK:
	case STATE_AUTH_WAIT:
	case STATE_AUTH_SAY:
	case STATE_AUTH:
		return SENDER_PHASE_AUTH;
	default:
		return SENDER_PHASE_IDLE;
	}
}

uint32_t
sender_smaller_limit(uint32_t a, uint32_t b)
{
	if (a == 0 || b == 0)
		return a == 0 ? b : a;
	return a < b ? a : b;
}

bool
sender_mails_are_used_up(const struct sender *s, uint32_t mails)
{
	uint32_t most = sender_smaller_limit(s->options->mails_max, s->offer.mail_max);

	return most != 0 && mails >= most;
}

/* ---- outcomes ---- */

static bool
is_unreported(const struct sender_recipient *r)
{
	return r->state == RECIPIENT_OPEN || r->state == RECIPIENT_ACCEPTED;
}

void
sender_emit_outcome(struct sender *s, struct sender_flight *f, uint32_t index,
		    enum sender_phase phase, struct verdict v, struct sender_action *out)
{
	out->kind = SENDER_RECIPIENT_OUTCOME;
	out->transaction = f->transaction;
	out->outcome = (struct sender_outcome){
		.index = index,
		.class = v.meaning.class,
		.next = v.in_doubt ? SENDER_NEXT_LATER : v.meaning.next,
		.cause = v.cause,
		.phase = phase,
		.in_doubt = v.in_doubt,
		.reply = v.cause == SENDER_CAUSE_REPLY ? &s->reply : NULL,
	};
}

/* From now on the recipients that are left are reported, one a step. */
void
sender_set_verdict(struct sender_flight *f, enum sender_phase phase, struct verdict v)
{
	ASSERT(!f->has_verdict);
	f->has_verdict = true;
	f->cause = (uint8_t)v.cause;
	f->class = (uint8_t)v.meaning.class;
	f->next = (uint8_t)v.meaning.next;
	f->in_doubt = v.in_doubt;
	f->phase = (uint8_t)phase;
	f->report_at = 0;
	f->open = 0;
}

bool
sender_report_flight(struct sender *s, struct sender_flight *f, struct sender_action *out)
{
	struct sender_recipient *recipients = f->transaction->recipients;
	uint32_t at = f->report_at;

	while (at < f->transaction->recipient_count && !is_unreported(&recipients[at]))
		at++;
	if (at == f->transaction->recipient_count) {
		f->has_verdict = false;
		return false;
	}
	struct verdict v = { .cause = f->cause, .in_doubt = f->in_doubt };
	v.meaning.class = f->class;
	v.meaning.next = f->next;
	recipients[at].state = RECIPIENT_REPORTED;
	f->report_at = at + 1;
	sender_emit_outcome(s, f, at, f->phase, v, out);
	return true;
}

bool
sender_report(struct sender *s, struct sender_action *out)
{
	for (unsigned i = 0; i < 2; i++) {
		struct sender_flight *f = &s->flights[i];
		if (f->transaction != NULL && f->has_verdict && sender_report_flight(s, f, out))
			return true;
	}
	return false;
}

/* ---- the end of the connection ---- */

/* Settles a flight that the connection ends under. Where nothing of it was answered, on a
 * connection that had served before, it was the connection that had grown old, or had carried
 * enough: the host deserves a fresh one. */
static void
end_flight(struct sender *s, struct sender_flight *f, struct verdict v, bool may_be_kept)
{
	enum sender_phase phase = sender_session_phase(s);
	bool untouched = phase == SENDER_PHASE_IDLE && f->answered <= ANSWER_MAIL;

	if (f->transaction == NULL)
		return;
	if (phase == SENDER_PHASE_IDLE)
		phase = sender_flight_phase(f);
	v.in_doubt = may_be_kept && end_is_sent(f);
	if (untouched && s->mails > 1 && v.meaning.next == SENDER_NEXT_HOST)
		v.meaning.next = SENDER_NEXT_AGAIN;
	if (!f->has_verdict)
		sender_set_verdict(f, phase, v);
	f->sent = SEND_NOTHING;
	f->outstanding = 0;
}

/* may_be_kept: a message whose end was sent may have been accepted without our knowing. */
static void
end_session(struct sender *s, enum close_reason why, enum state state, struct verdict v,
	    bool may_be_kept)
{
	ASSERT(s->state <= STATE_UP);
	ASSERT(v.meaning.class != SENDER_OK);
	end_flight(s, &s->flights[0], v, may_be_kept);
	end_flight(s, &s->flights[1], v, may_be_kept);
	s->close = (uint8_t)why;
	s->close_has_reply = v.cause == SENDER_CAUSE_REPLY;
	s->close_cause = (uint8_t)v.cause;
	s->state = (uint8_t)state;
}

void
sender_end_by_cause(struct sender *s, enum close_reason why, enum sender_cause cause)
{
	struct verdict v = { .cause = cause, .meaning = sender_meaning_of_cause(cause) };

	end_session(s, why, STATE_CLOSING, v, true);
}

void
sender_refuse_peer(struct sender *s, enum sender_cause cause)
{
	struct verdict v = { .cause = cause, .meaning = sender_meaning_of_cause(cause) };

	ASSERT(s->state < STATE_READY);
	end_session(s, CLOSE_REJECTED, STATE_QUITTING, v, false);
}

/* Would a QUIT now be taken for a part of the message? */
static bool
is_amid_body(const struct sender_flight *f)
{
	return f->transaction != NULL &&
	       (f->sent == AWAIT_354 || (f->sent >= SEND_FIRST && f->sent <= IN_LAST) ||
		f->sent == BARRED);
}

void
sender_end_by_reply(struct sender *s, struct sender_meaning meaning)
{
	struct verdict v = { .cause = SENDER_CAUSE_REPLY, .meaning = meaning };
	bool unavailable = s->reply.code == 421;
	enum close_reason why = unavailable                   ? CLOSE_UNAVAILABLE
				: meaning.then == SENDER_DROP ? CLOSE_PROTOCOL
							      : CLOSE_REJECTED;

	/* Commands are answered in order, and nothing behind a 421 is served (RFC 5321 3.8): it
	 * leaves no doubt. A reply without a meaning does. */
	bool polite = meaning.then == SENDER_QUIT && !is_amid_body(&s->flights[0]) &&
		      !is_amid_body(&s->flights[1]);
	end_session(s, why, polite ? STATE_QUITTING : STATE_CLOSING, v, !unavailable);
}
