/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine. Each turn of sender_step() looks, in this order, for outcomes that are owed, for a
 * transaction that is over, for something to send, and only then at the input. So a reply that is
 * being reported stays readable, and the commands of a group leave before its replies are read.
 */
#include "relay/smtp/sender.h"

#include "core/base/assert.h"
#include "relay/smtp/sender_parts.h"

void
sender_init(struct sender *s, const struct sender_options *options, struct buf *scratch)
{
	ASSERT(scratch->capacity >= SENDER_SCRATCH_MIN);
	ASSERT(options->piece_max > 0);
	ASSERT(options->hello_name.size > 0 && options->hello_name.size <= 255);
	OBJ_INIT(s, SENDER_MAGIC);
	s->state = STATE_GREETING;
	s->close = CLOSE_NONE;
	s->close_has_reply = false;
	s->close_cause = SENDER_CAUSE_REPLY;
	s->dirty = false;
	s->secure = false;
	s->tls_refused = false;
	s->mechanism = 0;
	s->auth_step = AUTH_FIRST;
	s->auth_data = span_none();
	s->options = options;
	s->scratch = scratch;
	s->mails = 0;
	s->offer = (struct sender_offer){ 0 };
	s->flights[0] = s->flights[1] = (struct sender_flight){ 0 };
	reply_init(&s->reply);
}

enum sender_phase
sender_phase(const struct sender *s)
{
	enum sender_phase phase = sender_session_phase(s);

	OBJ_CHECK(s, SENDER_MAGIC);
	if (phase == SENDER_PHASE_IDLE && s->flights[0].transaction != NULL)
		return sender_flight_phase(&s->flights[0]);
	return phase;
}

bool
sender_is_idle(const struct sender *s)
{
	OBJ_CHECK(s, SENDER_MAGIC);
	return s->state == STATE_UP && s->flights[0].transaction == NULL;
}

bool
sender_can_start(const struct sender *s)
{
	uint32_t mails = s->mails;

	OBJ_CHECK(s, SENDER_MAGIC);
	if (s->state > STATE_UP || s->close != CLOSE_NONE || s->flights[1].transaction != NULL)
		return false;
	if (s->flights[0].transaction != NULL && s->flights[0].sent == SEND_BEGIN)
		mails++;
	return !sender_mails_are_used_up(s, mails);
}

void
sender_start(struct sender *s, struct sender_transaction *t)
{
	ASSERT(sender_can_start(s));
	ASSERT(t->recipient_count > 0);
	for (uint32_t i = 0; i < t->recipient_count; i++)
		t->recipients[i].state = RECIPIENT_OPEN;
	struct sender_flight *f = &s->flights[s->flights[0].transaction == NULL ? 0 : 1];
	*f = (struct sender_flight){ .transaction = t, .sent = SEND_BEGIN };
	f->answered = ANSWER_MAIL;
}

void
sender_quit(struct sender *s, enum close_reason why)
{
	OBJ_CHECK(s, SENDER_MAGIC);
	if (s->state <= STATE_UP && s->close == CLOSE_NONE)
		s->close = (uint8_t)why;
}

void
sender_lost(struct sender *s, enum close_reason why)
{
	struct sender_flight *f = &s->flights[0];
	enum sender_cause cause =
		why == CLOSE_TIMEOUT          ? SENDER_CAUSE_TIMEOUT
		: why == CLOSE_CONNECT_FAILED ? SENDER_CAUSE_CONNECT
		: why == CLOSE_TLS_FAILED     ? SENDER_CAUSE_TLS
		: why == CLOSE_RESET || why == CLOSE_IO_ERROR || why == CLOSE_PEER_CLOSED
			? SENDER_CAUSE_LOST
		: why == CLOSE_PROTOCOL   ? SENDER_CAUSE_PROTOCOL
		: why == CLOSE_LEASE_LOST ? SENDER_CAUSE_LEASE
					  : SENDER_CAUSE_STOPPED;

	OBJ_CHECK(s, SENDER_MAGIC);
	if (s->state > STATE_UP)
		return;
	/* A refusal that came before all was sent counts; an acceptance that did does not. */
	if (f->transaction != NULL && f->answered == ANSWER_EARLY && reply_class(&s->reply) >= 4)
		sender_set_verdict(f, SENDER_PHASE_END,
				   (struct verdict){ .cause = SENDER_CAUSE_REPLY,
						     .meaning = sender_meaning_of(SENDER_PHASE_END,
										  s->reply.code) });
	sender_end_by_cause(s, why, cause);
}

void
sender_body_sent(struct sender *s)
{
	OBJ_CHECK(s, SENDER_MAGIC);
	for (unsigned i = 0; i < 2; i++) {
		struct sender_flight *f = &s->flights[i];
		if (f->transaction != NULL && f->sent == IN_FIRST) {
			f->sent = SEND_ASK;
			return;
		}
		if (f->transaction != NULL && f->sent == IN_LAST) {
			f->sent = SEND_NOTHING;
			return;
		}
	}
	/* The session may have ended while the caller was still sending. */
	ASSERT(s->state > STATE_UP);
}

void
sender_secured(struct sender *s)
{
	OBJ_CHECK(s, SENDER_MAGIC);
	if (s->state > STATE_UP)
		return;
	ASSERT(!s->secure && (s->state == STATE_SECURING || s->state == STATE_GREETING));
	s->secure = true;
	s->offer = (struct sender_offer){ 0 };
	reply_init(&s->reply);
	if (s->state == STATE_SECURING)
		s->state = STATE_HELLO;
}

void
sender_auth_answer(struct sender *s, struct span data)
{
	OBJ_CHECK(s, SENDER_MAGIC);
	if (s->state > STATE_UP)
		return;
	ASSERT(s->state == STATE_AUTH_WAIT);
	s->auth_data = data;
	s->state = s->auth_step == AUTH_OVER ? STATE_READY : STATE_AUTH_SAY;
}

void
sender_auth_failed(struct sender *s)
{
	OBJ_CHECK(s, SENDER_MAGIC);
	if (s->state > STATE_UP)
		return;
	ASSERT(s->state == STATE_AUTH_WAIT);
	/* Amid an exchange the peer would take a QUIT for a part of it. */
	sender_end_by_cause(s, CLOSE_PROTOCOL, SENDER_CAUSE_AUTH);
}

void
sender_answer(struct sender *s, bool go)
{
	OBJ_CHECK(s, SENDER_MAGIC);
	for (unsigned i = 0; i < 2; i++) {
		struct sender_flight *f = &s->flights[i];
		if (f->transaction != NULL && f->sent == IN_ASK) {
			f->sent = go ? SEND_LAST : BARRED;
			return;
		}
	}
	ASSERT(s->state > STATE_UP);
}

/* ---- replies ---- */

static void
take_session_reply(struct sender *s, enum sender_phase phase)
{
	struct sender_meaning meaning = sender_meaning_of(phase, s->reply.code);

	if (meaning.then == SENDER_FALL_BACK && s->options->lmtp)
		meaning.then = SENDER_QUIT;
	if (meaning.then == SENDER_FALL_BACK) {
		s->offer = (struct sender_offer){ 0 };
		s->state = STATE_FALL_BACK;
	} else if (phase == SENDER_PHASE_STARTTLS) {
		sender_take_starttls_reply(s, meaning);
	} else if (meaning.class != SENDER_OK) {
		sender_end_by_reply(s, meaning);
	} else if (phase == SENDER_PHASE_AUTH) {
		sender_take_auth_reply(s);
	} else if (phase == SENDER_PHASE_GREETING) {
		s->state = STATE_HELLO;
	} else {
		s->offer.esmtp = phase == SENDER_PHASE_EHLO;
		s->offer.pipelining = s->offer.pipelining && !s->options->no_pipelining;
		s->offer.chunking = s->offer.chunking && !s->options->no_chunking;
		sender_next_stage(s);
	}
}

static void
take_mail_reply(struct sender_flight *f, struct sender_meaning meaning)
{
	f->answered = ANSWER_RCPT;
	if (meaning.class == SENDER_OK) {
		f->mail_accepted = true;
		return;
	}
	sender_set_verdict(f, SENDER_PHASE_MAIL,
			   (struct verdict){ .cause = SENDER_CAUSE_REPLY, .meaning = meaning });
	/* What was sent behind it is answered all the same. */
	if (f->sent <= SEND_DATA || f->sent == SEND_BDAT)
		f->sent = SEND_NOTHING;
}

static bool
take_rcpt_reply(struct sender *s, struct sender_flight *f, struct sender_meaning meaning,
		struct sender_action *out)
{
	struct sender_recipient *recipients = f->transaction->recipients;

	while (recipients[f->rcpt_answered].state == RECIPIENT_LEFT_OUT)
		f->rcpt_answered++;
	ASSERT(f->rcpt_answered < f->rcpt_sent);
	uint32_t index = f->rcpt_answered++;
	if (recipients[index].state != RECIPIENT_OPEN)
		return false;
	if (meaning.class == SENDER_OK) {
		recipients[index].state = RECIPIENT_ACCEPTED;
		f->open++;
		return false;
	}
	/* Too many recipients, and yet none was accepted: another transaction with it would not
	 * help. */
	if (meaning.next == SENDER_NEXT_AGAIN && f->open == 0)
		meaning.next = SENDER_NEXT_HOST;
	recipients[index].state = RECIPIENT_REPORTED;
	sender_emit_outcome(s, f, index, SENDER_PHASE_RCPT,
			    (struct verdict){ .cause = SENDER_CAUSE_REPLY, .meaning = meaning },
			    out);
	return true;
}

static void
take_data_reply(struct sender *s, struct sender_flight *f, struct sender_meaning meaning)
{
	f->answered = ANSWER_END;
	if (meaning.class != SENDER_OK) {
		sender_set_verdict(
			f, SENDER_PHASE_DATA,
			(struct verdict){ .cause = SENDER_CAUSE_REPLY, .meaning = meaning });
		f->sent = SEND_NOTHING;
	} else if (f->open > 0) {
		sender_begin_body(s, f, s->options->lmtp ? f->open : 1);
	} else if (f->mail_accepted && !s->options->lmtp) {
		f->sent = SEND_DOT; /* RFC 2920 3.1 */
		f->outstanding++;
	} else {
		/* A message for nobody from nobody: whom would it take it for? */
		sender_end_by_cause(s, CLOSE_PROTOCOL, SENDER_CAUSE_PROTOCOL);
	}
}

static bool
take_lmtp_end_reply(struct sender *s, struct sender_flight *f, struct sender_meaning meaning,
		    struct sender_action *out)
{
	struct sender_recipient *recipients = f->transaction->recipients;
	uint32_t index = f->report_at;

	/* RFC 2033 4.2: one reply for each recipient that was accepted, in their order. */
	while (recipients[index].state != RECIPIENT_ACCEPTED)
		index++;
	ASSERT(index < f->transaction->recipient_count);
	recipients[index].state = RECIPIENT_REPORTED;
	f->report_at = index + 1;
	f->open--;
	f->mail_accepted = false;
	sender_emit_outcome(s, f, index, SENDER_PHASE_END,
			    (struct verdict){ .cause = SENDER_CAUSE_REPLY, .meaning = meaning },
			    out);
	return true;
}

/* The reply came before the end of data was even asked for. A refusal is one; but what follows in
 * the stream has no place any more. */
static void
take_hasty_reply(struct sender *s, struct sender_flight *f, struct sender_meaning meaning)
{
	if (meaning.class == SENDER_OK) {
		sender_end_by_cause(s, CLOSE_PROTOCOL, SENDER_CAUSE_PROTOCOL);
		return;
	}
	sender_set_verdict(f, SENDER_PHASE_BODY,
			   (struct verdict){ .cause = SENDER_CAUSE_REPLY, .meaning = meaning });
	sender_end_by_cause(s, CLOSE_REJECTED, SENDER_CAUSE_STOPPED);
	s->close_has_reply = true;
}

static bool
take_end_reply(struct sender *s, struct sender_flight *f, struct sender_meaning meaning,
	       struct sender_action *out)
{
	if (s->options->lmtp && f->open > 0)
		return take_lmtp_end_reply(s, f, meaning, out);
	/* After a BDAT that failed RSET must come (RFC 3030 2). */
	f->mail_accepted = f->by_bdat && meaning.class != SENDER_OK;
	sender_set_verdict(f, SENDER_PHASE_END,
			   (struct verdict){ .cause = SENDER_CAUSE_REPLY, .meaning = meaning });
	return false;
}

/* The reply that the first flight waits for. True with an action. */
static bool
take_flight_reply(struct sender *s, struct sender_flight *f, struct sender_action *out)
{
	enum answered answered = sender_awaited(f);
	struct sender_meaning meaning =
		sender_meaning_of(sender_answer_phase(answered), s->reply.code);

	if (answered == ANSWER_END && f->sent == IN_LAST) {
		f->answered = ANSWER_EARLY;
		return false;
	}
	f->outstanding--;
	if (meaning.then != SENDER_STAY) {
		sender_end_by_reply(s, meaning);
		return false;
	}
	switch (answered) {
	case ANSWER_RSET:
		s->dirty = false;
		f->answered = ANSWER_MAIL;
		return false;
	case ANSWER_MAIL:
		take_mail_reply(f, meaning);
		return false;
	case ANSWER_RCPT:
		return take_rcpt_reply(s, f, meaning, out);
	case ANSWER_DATA:
		take_data_reply(s, f, meaning);
		return false;
	default:
		f->answered = ANSWER_END;
		if (f->sent == SEND_NOTHING)
			return take_end_reply(s, f, meaning, out);
		take_hasty_reply(s, f, meaning);
		return false;
	}
}

static bool
take_reply(struct sender *s, struct sender_action *out)
{
	struct sender_flight *f = &s->flights[0];
	enum sender_phase phase = sender_session_phase(s);

	if (phase != SENDER_PHASE_IDLE) {
		take_session_reply(s, phase);
		return false;
	}
	if (f->transaction != NULL && f->outstanding > 0)
		return take_flight_reply(s, f, out);
	/* Nobody asked. */
	sender_end_by_reply(s, sender_meaning_of(SENDER_PHASE_IDLE, s->reply.code));
	return false;
}

/* The lines of an accepted EHLO, but for the first, are what is offered. */
static void
take_ehlo_line(struct sender *s)
{
	if (s->state != STATE_EHLO || reply_class(&s->reply) != 2)
		return;
	if (s->reply.lines > 1 && !s->reply.cut)
		offer_learn(&s->offer, reply_line(&s->reply));
	if (!reply_is_done(&s->reply))
		reply_forget_text(&s->reply);
}

/* Takes one line of input. False where the turn goes on without an action. */
static bool
listen(struct sender *s, struct span in, size_t *used, struct sender_action *out)
{
	struct sender_flight *f = &s->flights[0];
	enum reply_event event;

	if (s->state > STATE_UP)
		return false;
	if (f->transaction != NULL && f->answered == ANSWER_EARLY) {
		out->kind = SENDER_WAIT;
		return f->sent == IN_LAST || take_flight_reply(s, f, out);
	}
	*used += reply_feed(&s->reply, span_after(in, *used), &event);
	switch (event) {
	case REPLY_LINE:
		take_ehlo_line(s);
		return false;
	case REPLY_DONE:
		take_ehlo_line(s);
		return take_reply(s, out);
	case REPLY_BAD:
		sender_end_by_cause(s, CLOSE_PROTOCOL, SENDER_CAUSE_PROTOCOL);
		return false;
	default:
		out->kind = SENDER_NEED_INPUT;
		return true;
	}
}

/* ---- the end ---- */

static bool
finish_flight(struct sender *s, struct sender_action *out)
{
	struct sender_flight *f = &s->flights[0];

	if (f->transaction == NULL || f->sent != SEND_NOTHING || f->outstanding > 0)
		return false;
	ASSERT(!f->has_verdict);
	ASSERT(f->open == 0);
	out->kind = SENDER_DONE;
	out->transaction = f->transaction;
	s->dirty = s->dirty || f->mail_accepted;
	s->flights[0] = s->flights[1];
	s->flights[1] = (struct sender_flight){ 0 };
	return true;
}

/* When nothing is left of a session that is to end. */
static bool
finish_session(struct sender *s, struct sender_action *out)
{
	if (s->close == CLOSE_NONE || s->flights[0].transaction != NULL)
		return false;
	if (s->state == STATE_UP)
		s->state = STATE_QUITTING;
	else if (s->state < STATE_UP)
		s->state = STATE_CLOSING;
	if (s->state == STATE_QUITTING) {
		s->state = STATE_CLOSING;
		return sender_write_command(s, "QUIT", span_none(), out);
	}
	out->kind = SENDER_CLOSE;
	out->close = s->close;
	out->reply = s->close_has_reply ? &s->reply : NULL;
	out->cause = s->close_cause;
	return true;
}

size_t
sender_step(struct sender *s, struct span in, struct sender_action *out)
{
	size_t used = 0;

	OBJ_CHECK(s, SENDER_MAGIC);
	*out = (struct sender_action){ .close = CLOSE_NONE };
	/* A transaction may also end by there being nothing to say (no recipient is left), so that
	 * is looked at again behind sender_speak(). Every turn without an action takes some input,
	 * but for at most one that ends the session and one that takes an early reply. */
	while (!sender_report(s, out) && !finish_flight(s, out) && !finish_session(s, out) &&
	       !sender_speak(s, out) && !finish_flight(s, out) && !listen(s, in, &used, out))
		;
	/* What comes from the 220 on until the handshake is nobody's word. */
	return s->state == STATE_SECURING ? in.size : used;
}
