/* SPDX-License-Identifier: Apache-2.0
 *
 * What the machine says: the greeting's answer, envelopes in groups, and when a body may go.
 */
#include "relay/smtp/sender_parts.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"

/* One recipient fails before its RCPT, for a cause of ours. */
static bool
leave_out(struct sender *s, struct sender_flight *f, enum sender_cause cause,
	  struct sender_action *out)
{
	struct verdict v = { .cause = cause, .meaning = sender_meaning_of_cause(cause) };

	f->transaction->recipients[f->rcpt_sent].state = RECIPIENT_LEFT_OUT;
	sender_emit_outcome(s, f, f->rcpt_sent++, SENDER_PHASE_RCPT, v, out);
	return true;
}

/* ---- sending ---- */

static bool
write_scratch(struct sender *s, struct sender_action *out)
{
	out->kind = SENDER_WRITE;
	out->text = buf_span(s->scratch);
	return true;
}

bool
sender_write_command(struct sender *s, const char *verb, struct span argument,
		     struct sender_action *out)
{
	buf_reset(s->scratch);
	bool fits = command_plain(s->scratch, verb, argument);
	ASSERT(fits);
	return write_scratch(s, out);
}

/* Must MAIL have RSET in front? In front of a flight ahead, only the end of DATA is known to leave
 * no transaction behind, whatever its reply (RFC 5321 4.1.1.4); after a BDAT that fails the state
 * is indeterminate (RFC 3030 2). */
static bool
needs_rset(const struct sender *s, const struct sender_flight *f)
{
	const struct sender_flight *front = &s->flights[0];

	if (!sender_is_ahead(s, f))
		return s->dirty;
	/* A BDAT may be answered (too early) and its reply not yet looked at. */
	return s->dirty || front->by_bdat || front->answered < ANSWER_END;
}

/* Why the whole transaction cannot go over this connection, or REPLY where it can. */
static enum sender_cause
obstacle(const struct sender *s, const struct sender_transaction *t)
{
	if (sender_mails_are_used_up(s, s->mails))
		return SENDER_CAUSE_MAIL_LIMIT;
	if (s->offer.size_max != 0 && t->body_size > s->offer.size_max)
		return SENDER_CAUSE_TOO_BIG;
	if (!s->offer.smtputf8 && (t->utf8 || utf8_has_non_ascii(t->sender)))
		return SENDER_CAUSE_NO_SMTPUTF8;
	if (t->eight_bit && s->options->eight_bit_fails && !s->offer.eight_bit_mime)
		return SENDER_CAUSE_NO_EIGHT_BIT;
	if (!command_address_is_safe(t->sender))
		return SENDER_CAUSE_BAD_SENDER;
	return SENDER_CAUSE_REPLY;
}

static void
fail_flight(struct sender_flight *f, enum sender_cause cause)
{
	sender_set_verdict(
		f, SENDER_PHASE_MAIL,
		(struct verdict){ .cause = cause, .meaning = sender_meaning_of_cause(cause) });
	f->sent = SEND_NOTHING;
}

static void
begin(struct sender *s, struct sender_flight *f)
{
	enum sender_cause cause = obstacle(s, f->transaction);

	if (cause != SENDER_CAUSE_REPLY) {
		fail_flight(f, cause);
		return;
	}
	bool rset = needs_rset(s, f);
	s->mails++;
	f->by_bdat = s->offer.chunking && !s->options->lmtp && f->transaction->body_size > 0;
	f->sent = rset ? SEND_RSET : SEND_MAIL;
	f->answered = rset ? ANSWER_RSET : ANSWER_MAIL;
}

static bool
needs_utf8(const struct sender_transaction *t)
{
	bool needed = t->utf8 || utf8_has_non_ascii(t->sender);

	for (uint32_t i = 0; i < t->recipient_count && !needed; i++)
		needed = utf8_has_non_ascii(t->recipients[i].address);
	return needed;
}

/* Why the next recipient gets no RCPT, or REPLY where it does. */
static enum sender_cause
recipient_obstacle(const struct sender *s, const struct sender_flight *f)
{
	const struct sender_recipient *r = &f->transaction->recipients[f->rcpt_sent];
	uint32_t most = sender_smaller_limit(s->options->recipients_max, s->offer.recipient_max);

	if (most != 0 && f->rcpt_count >= most)
		return SENDER_CAUSE_RECIPIENT_LIMIT;
	if (r->address.size == 0 || !command_address_is_safe(r->address))
		return SENDER_CAUSE_BAD_RECIPIENT;
	if (!s->offer.smtputf8 && utf8_has_non_ascii(r->address))
		return SENDER_CAUSE_NO_SMTPUTF8;
	return SENDER_CAUSE_REPLY;
}

/* Is there anything that a message could be sent for? Without PIPELINING, and in front of a BDAT
 * that waits, all replies are known by now. */
static bool
has_no_recipient(const struct sender_flight *f)
{
	return f->rcpt_count == 0 || (f->outstanding == 0 && f->open == 0);
}

/* Follows the BDAT its envelope at once? Where all recipients fail, the peer reads the chunk and
 * throws it away (RFC 3030 2), so that is done with small ones only. */
static bool
bdat_is_free(const struct sender *s, const struct sender_flight *f)
{
	return f->outstanding == 0 ||
	       (s->offer.pipelining && f->transaction->body_size <= s->options->piece_max);
}

static bool
append_mail(struct sender *s, struct sender_flight *f)
{
	if (command_mail(s->scratch, f->transaction, &s->offer, needs_utf8(f->transaction))) {
		f->sent = SEND_RCPT;
		f->outstanding++;
		return true;
	}
	/* Alone in the scratch, and still too long for it. */
	if (s->scratch->size == 0)
		fail_flight(f, SENDER_CAUSE_BAD_SENDER);
	return false;
}

/* Sets *cause where the next recipient must be left out. */
static bool
append_rcpt(struct sender *s, struct sender_flight *f, enum sender_cause *cause)
{
	if (f->rcpt_sent == f->transaction->recipient_count) {
		f->sent = f->by_bdat ? SEND_BDAT : SEND_DATA;
		return true;
	}
	*cause = recipient_obstacle(s, f);
	if (*cause != SENDER_CAUSE_REPLY)
		return false;
	if (!command_rcpt(s->scratch, &f->transaction->recipients[f->rcpt_sent], &s->offer)) {
		if (s->scratch->size == 0)
			*cause = SENDER_CAUSE_BAD_RECIPIENT;
		return false;
	}
	f->rcpt_sent++;
	f->rcpt_count++;
	f->outstanding++;
	return true;
}

static bool
append_data(struct sender *s, struct sender_flight *f)
{
	if (has_no_recipient(f)) {
		f->sent = SEND_NOTHING;
		return false;
	}
	if (!command_plain(s->scratch, "DATA", span_none()))
		return false;
	f->sent = AWAIT_354;
	f->outstanding++;
	return false;
}

void
sender_begin_body(struct sender *s, struct sender_flight *f, uint32_t replies)
{
	f->sent = f->transaction->body_size > s->options->piece_max ? SEND_FIRST : SEND_ASK;
	f->outstanding += replies;
}

static bool
append_bdat(struct sender *s, struct sender_flight *f)
{
	if (!bdat_is_free(s, f))
		return false;
	if (has_no_recipient(f)) {
		f->sent = SEND_NOTHING;
		return false;
	}
	if (buf_room(s->scratch) < sizeof "BDAT 18446744073709551615 LAST\r\n")
		return false;
	buf_append(s->scratch, SPAN("BDAT "));
	buf_append_number(s->scratch, f->transaction->body_size);
	buf_append(s->scratch, SPAN(" LAST\r\n"));
	sender_begin_body(s, f, 1);
	return false;
}

static bool
append_rset(struct sender *s, struct sender_flight *f)
{
	if (!command_plain(s->scratch, "RSET", span_none()))
		return false;
	f->sent = SEND_MAIL;
	f->outstanding++;
	return true;
}

/* Appends the next command of a flight to the scratch. False where it cannot: the scratch is full,
 * a reply must come first, or commands are not what comes next. */
static bool
append_command(struct sender *s, struct sender_flight *f, enum sender_cause *cause)
{
	bool lockstep = !s->offer.pipelining;

	if (lockstep && f->sent != SEND_DOT && (f->outstanding > 0 || s->scratch->size > 0))
		return false;
	switch (f->sent) {
	case SEND_RSET:
		return append_rset(s, f);
	case SEND_MAIL:
		return append_mail(s, f);
	case SEND_RCPT:
		return append_rcpt(s, f, cause);
	case SEND_DATA:
		return append_data(s, f);
	case SEND_BDAT:
		return append_bdat(s, f);
	case SEND_DOT:
		f->sent = SEND_NOTHING;
		return command_plain(s->scratch, ".", span_none());
	default:
		return false;
	}
}

static bool
send_commands(struct sender *s, struct sender_flight *f, struct sender_action *out)
{
	enum sender_cause cause = SENDER_CAUSE_REPLY;

	buf_reset(s->scratch);
	/* Ends at the latest behind DATA or BDAT, or when the scratch is full. */
	while (append_command(s, f, &cause))
		;
	if (s->scratch->size > 0)
		return write_scratch(s, out);
	if (cause != SENDER_CAUSE_REPLY)
		return leave_out(s, f, cause, out);
	return f->has_verdict && sender_report_flight(s, f, out);
}

static bool
send_body(struct sender *s, struct sender_flight *f, struct sender_action *out)
{
	uint64_t size = f->transaction->body_size;
	uint64_t last_size = size > s->options->piece_max ? s->options->piece_max : size;
	bool last = f->sent == SEND_LAST;

	out->kind = SENDER_SEND_BODY;
	out->transaction = f->transaction;
	out->piece = (struct sender_piece){
		.offset = last ? size - last_size : 0,
		.size = last ? last_size : size - last_size,
		.stuffed = !f->by_bdat,
		.last = last,
	};
	f->sent = last ? IN_LAST : IN_FIRST;
	return true;
}

static bool
send_flight(struct sender *s, struct sender_flight *f, struct sender_action *out)
{
	if (f->sent == SEND_BEGIN)
		begin(s, f);
	switch (f->sent) {
	case SEND_FIRST:
	case SEND_LAST:
		return send_body(s, f, out);
	case SEND_ASK:
		f->sent = IN_ASK;
		out->kind = SENDER_BEFORE_END;
		out->transaction = f->transaction;
		return true;
	case IN_ASK:
		out->kind = SENDER_WAIT;
		return true;
	case BARRED:
		if (sender_is_ahead(s, f))
			return false;
		sender_end_by_cause(s, CLOSE_LEASE_LOST, SENDER_CAUSE_LEASE);
		return sender_report(s, out);
	default:
		return send_commands(s, f, out);
	}
}

/* The flight whose turn it is to send: the one ahead only when the first has sent all it will, and
 * then only if the peer takes commands ahead of its replies. */
static struct sender_flight *
sending_flight(struct sender *s)
{
	struct sender_flight *front = &s->flights[0];
	struct sender_flight *ahead = &s->flights[1];

	if (front->transaction == NULL)
		return NULL;
	if (front->sent != SEND_NOTHING)
		return front;
	return ahead->transaction != NULL && s->offer.pipelining ? ahead : NULL;
}

/* The first may find that it has nothing more to send; then the one ahead has its turn at once, not
 * after the next input. One that is over must be told first. */
static bool
send_flights(struct sender *s, struct sender_action *out)
{
	for (unsigned i = 0; i < 2; i++) {
		struct sender_flight *f = sending_flight(s);
		if (f == NULL)
			return false;
		if (send_flight(s, f, out))
			return true;
		if (f->sent != SEND_NOTHING || f->outstanding == 0)
			return false;
	}
	return false;
}

/* Says what is to be said now, if anything. */
bool
sender_speak(struct sender *s, struct sender_action *out)
{
	switch (s->state) {
	case STATE_UP:
		return send_flights(s, out);
	case STATE_QUITTING:
	case STATE_CLOSING:
		return false;
	default:
		return sender_speak_stage(s, out);
	}
}
