/* SPDX-License-Identifier: Apache-2.0
 *
 * Each turn of probe_step() looks for answers that are owed because the session ends, then for
 * something to send, and only then at the input; so a reply that is being reported stays readable.
 */
#include "relay/smtp/probe.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"
#include "relay/smtp/sender_parts.h"

#define PROBE_MAGIC 0x50524f42u

enum probe_state {
	PROBE_STARTING, /* from the start; the sender speaks and listens */
	PROBE_UP,       /* asks */
	PROBE_QUITTING, /* takes no input any more; answers, then QUIT, then the end */
	PROBE_CLOSING,  /* takes no input any more; answers, then the end */
};

/* ---- questions ---- */

static void
append(struct probe_queue *queue, struct probe_question *q)
{
	q->next = NULL;
	if (queue->last == NULL)
		queue->first = q;
	else
		queue->last->next = q;
	queue->last = q;
	queue->count++;
}

static struct probe_question *
shift(struct probe_queue *queue)
{
	struct probe_question *q = queue->first;

	ASSERT(q != NULL && queue->count > 0);
	queue->first = q->next;
	if (q->next == NULL)
		queue->last = NULL;
	queue->count--;
	q->next = NULL;
	return q;
}

static uint32_t
open_count(const struct probe *p)
{
	return p->waiting.count + p->asked.count;
}

/* Nothing asked, and no reply due. */
static bool
is_quiet(const struct probe *p)
{
	return open_count(p) == 0 && !p->awaits_reset && !p->awaits_mail;
}

/* Has this connection asked enough? */
static bool
is_used_up(const struct probe *p)
{
	return p->refusals >= PROBE_REFUSALS_MAX ||
	       (p->transactions >= PROBE_TRANSACTIONS_MAX && !p->in_transaction);
}

/* ---- the caller's side ---- */

void
probe_init(struct probe *p, const struct probe_options *options, struct buf *scratch)
{
	ASSERT(scratch->capacity >= PROBE_SCRATCH_MIN);
	*p = (struct probe){ .options = options, .scratch = scratch };
	OBJ_INIT(p, PROBE_MAGIC);
	sender_init(&p->session, &options->session, scratch);
}

void
probe_secured(struct probe *p)
{
	OBJ_CHECK(p, PROBE_MAGIC);
	sender_secured(&p->session);
}

struct sender *
probe_session(struct probe *p)
{
	OBJ_CHECK(p, PROBE_MAGIC);
	return &p->session;
}

bool
probe_can_ask(const struct probe *p)
{
	OBJ_CHECK(p, PROBE_MAGIC);
	/* All that are open might be refused. */
	return p->state <= PROBE_UP && p->close == CLOSE_NONE && !is_used_up(p) &&
	       open_count(p) < PROBE_OPEN_MAX;
}

void
probe_ask(struct probe *p, struct probe_question *q)
{
	ASSERT(probe_can_ask(p));
	append(&p->waiting, q);
}

bool
probe_is_up(const struct probe *p)
{
	OBJ_CHECK(p, PROBE_MAGIC);
	return p->state == PROBE_UP;
}

bool
probe_is_idle(const struct probe *p)
{
	return probe_is_up(p) && is_quiet(p) && !p->in_transaction;
}

bool
probe_may_quit(const struct probe *p)
{
	return probe_is_up(p) && open_count(p) == 0;
}

void
probe_quit(struct probe *p, enum close_reason why)
{
	ASSERT(probe_may_quit(p) && p->close == CLOSE_NONE);
	p->close = (uint8_t)why;
	p->state = PROBE_QUITTING;
}

enum sender_phase
probe_phase(const struct probe *p)
{
	OBJ_CHECK(p, PROBE_MAGIC);
	if (p->state == PROBE_STARTING)
		return sender_phase(&p->session);
	if (p->awaits_reset)
		return SENDER_PHASE_RSET;
	if (p->awaits_mail)
		return SENDER_PHASE_MAIL;
	return open_count(p) > 0 ? SENDER_PHASE_RCPT : SENDER_PHASE_IDLE;
}

/* ---- the end ---- */

/* From now on all questions that are left are answered, one a step. */
static void
end_session(struct probe *p, enum close_reason why, enum probe_state state,
	    struct sender_outcome verdict)
{
	ASSERT(p->state <= PROBE_UP && p->close == CLOSE_NONE);
	/* An idle connection that the peer gave up in this moment: it has said nothing about what
	 * was asked. */
	if (p->has_served && !p->has_replied && p->state == PROBE_UP)
		verdict.next = SENDER_NEXT_AGAIN;
	p->verdict = verdict;
	p->close = (uint8_t)why;
	p->state = (uint8_t)state;
}

static void
end_by_cause(struct probe *p, enum close_reason why, enum sender_cause cause)
{
	struct sender_outcome verdict = {
		.class = SENDER_TEMPORARY,
		.next = sender_meaning_of_cause(cause).next,
		.cause = cause,
		.phase = probe_phase(p),
	};

	end_session(p, why, PROBE_CLOSING, verdict);
}

/* The reply that ends the session is about all that is left, and about nobody in person. */
static void
end_by_reply(struct probe *p, enum sender_phase phase, struct sender_meaning meaning)
{
	struct sender_outcome verdict = {
		.class = SENDER_TEMPORARY,
		.next = meaning.next == SENDER_NEXT_NOTHING ? SENDER_NEXT_LATER : meaning.next,
		.cause = SENDER_CAUSE_REPLY,
		.phase = phase,
		.reply = &p->session.reply,
	};
	enum close_reason why = p->session.reply.code == 421  ? CLOSE_UNAVAILABLE
				: meaning.then == SENDER_DROP ? CLOSE_PROTOCOL
							      : CLOSE_REJECTED;

	end_session(p, why, meaning.then == SENDER_DROP ? PROBE_CLOSING : PROBE_QUITTING, verdict);
}

void
probe_lost(struct probe *p, enum close_reason why)
{
	OBJ_CHECK(p, PROBE_MAGIC);
	if (p->state == PROBE_STARTING)
		sender_lost(&p->session, why);
	if (p->state != PROBE_UP)
		return;
	bool gone = why == CLOSE_RESET || why == CLOSE_IO_ERROR || why == CLOSE_PEER_CLOSED;
	enum sender_cause cause = why == CLOSE_TIMEOUT ? SENDER_CAUSE_TIMEOUT
				  : gone               ? SENDER_CAUSE_LOST
						       : SENDER_CAUSE_STOPPED;
	if (!gone)
		p->has_replied = true; /* silence and our own will are no accident */
	end_by_cause(p, why, cause);
}

static void
emit(struct probe_question *q, struct sender_outcome outcome, struct probe_action *out)
{
	out->kind = PROBE_ANSWER;
	out->question = q;
	out->outcome = outcome;
}

/* What is left of a session that ends. */
static bool
finish(struct probe *p, struct probe_action *out)
{
	if (p->state <= PROBE_UP)
		return false;
	if (open_count(p) > 0) {
		emit(shift(p->asked.count > 0 ? &p->asked : &p->waiting), p->verdict, out);
		return true;
	}
	if (p->state == PROBE_QUITTING) {
		p->state = PROBE_CLOSING;
		out->kind = PROBE_WRITE;
		out->text = SPAN("QUIT\r\n");
		return true;
	}
	out->kind = PROBE_CLOSE;
	out->close = p->close;
	return true;
}

/* ---- until it is up ---- */

/* The session was not to be had: none of the questions can be asked here. */
static void
fail_session(struct probe *p, const struct sender_action *a)
{
	struct sender_meaning meaning = a->reply != NULL
						? sender_meaning_of(p->phase, a->reply->code)
						: sender_meaning_of_cause(a->cause);
	struct sender_outcome verdict = {
		.class = SENDER_TEMPORARY,
		.next = meaning.next,
		.cause = a->cause,
		.phase = p->phase,
		.reply = a->reply,
	};

	ASSERT(verdict.next != SENDER_NEXT_NOTHING);
	end_session(p, a->close, PROBE_CLOSING, verdict);
}

/* Lets the sender do what comes before the first question. False when that is over. */
static bool
begin(struct probe *p, struct span in, size_t *used, struct probe_action *out)
{
	struct sender_action a;

	if (p->state != PROBE_STARTING)
		return false;
	/* What it says behind a reply that ends it is still about that one. */
	if (sender_phase(&p->session) != SENDER_PHASE_IDLE)
		p->phase = (uint8_t)sender_phase(&p->session);
	*used += sender_step(&p->session, span_after(in, *used), &a);
	switch (a.kind) {
	case SENDER_READY:
		p->state = PROBE_UP;
		return false;
	case SENDER_CLOSE:
		fail_session(p, &a);
		return false;
	case SENDER_WRITE:
		out->kind = PROBE_WRITE;
		out->text = a.text;
		return true;
	case SENDER_START_TLS:
		out->kind = PROBE_START_TLS;
		return true;
	case SENDER_ASK_AUTH:
		out->kind = PROBE_ASK_AUTH;
		out->auth = a.auth;
		return true;
	default:
		out->kind = a.kind == SENDER_WAIT ? PROBE_WAIT : PROBE_NEED_INPUT;
		return true;
	}
}

/* ---- speaking ---- */

static bool
write_command(struct probe *p, struct probe_action *out)
{
	ASSERT(!p->scratch->overflow); /* it has room for the longest command */
	out->kind = PROBE_WRITE;
	out->text = buf_span(p->scratch);
	return true;
}

static bool
say_mail(struct probe *p, struct probe_action *out)
{
	/* SMTPUTF8 for all, since nobody knows who will be asked for in this transaction. */
	const struct sender_offer offer = { .smtputf8 = p->session.offer.smtputf8 };
	const struct sender_transaction t = { .sender = p->options->sender };

	p->in_transaction = true;
	p->awaits_mail = true;
	p->has_replied = false;
	p->is_full = false;
	p->recipients = p->accepted = 0;
	p->transactions++;
	command_mail(p->scratch, &t, &offer, true);
	return write_command(p, out);
}

static bool
say_rcpt(struct probe *p, struct probe_action *out)
{
	const struct sender_offer offer = { 0 };
	struct probe_question *q = shift(&p->waiting);
	const struct sender_recipient r = { .address = q->address };

	bool safe = command_address_is_safe(q->address);
	if (!safe || (!p->session.offer.smtputf8 && utf8_has_non_ascii(q->address))) {
		struct sender_outcome outcome = {
			.class = SENDER_PERMANENT,
			.next = SENDER_NEXT_NOTHING,
			.cause = safe ? SENDER_CAUSE_NO_SMTPUTF8 : SENDER_CAUSE_BAD_RECIPIENT,
			.phase = SENDER_PHASE_RCPT,
		};
		emit(q, outcome, out);
		return true;
	}
	append(&p->asked, q);
	if (++p->recipients == PROBE_RECIPIENTS_MAX)
		p->is_full = true;
	command_rcpt(p->scratch, &r, &offer);
	return write_command(p, out);
}

static bool
say_reset(struct probe *p, struct probe_action *out)
{
	p->in_transaction = false;
	p->awaits_reset = true;
	p->has_replied = false;
	command_plain(p->scratch, "RSET", span_none());
	return write_command(p, out);
}

/* Those that wait although enough was asked go to another connection. */
static bool
return_question(struct probe *p, struct probe_action *out)
{
	struct sender_outcome outcome = {
		.class = SENDER_TEMPORARY,
		.next = SENDER_NEXT_AGAIN,
		.cause = SENDER_CAUSE_RECIPIENT_LIMIT,
		.phase = SENDER_PHASE_RCPT,
	};

	emit(shift(&p->waiting), outcome, out);
	return true;
}

/* One more command of a session that is up. */
static bool
speak_up(struct probe *p, struct probe_action *out)
{
	bool lockstep = !p->session.offer.pipelining;
	bool owed = p->asked.count > 0 || p->awaits_mail || p->awaits_reset;

	if (p->waiting.count > 0 && is_used_up(p))
		return return_question(p, out);
	if (lockstep && owed)
		return false;
	if (is_used_up(p)) {
		if (owed)
			return false;
		p->close = CLOSE_USED_UP;
		p->state = PROBE_QUITTING;
		return finish(p, out);
	}
	if (p->in_transaction && p->asked.count == 0 && !p->awaits_mail &&
	    (p->waiting.count == 0 || p->is_full))
		return say_reset(p, out);
	if (p->waiting.count == 0)
		return false;
	if (!p->in_transaction)
		return say_mail(p, out);
	/* As many as could all be refused without annoying the peer. */
	if (p->is_full || p->asked.count + p->refusals >= PROBE_REFUSALS_MAX)
		return false;
	return say_rcpt(p, out);
}

static bool
speak(struct probe *p, struct probe_action *out)
{
	buf_reset(p->scratch);
	return p->state == PROBE_UP && speak_up(p, out);
}

/* ---- listening ---- */

/* The answer to the oldest question. */
static bool
take_rcpt_reply(struct probe *p, struct sender_meaning meaning, struct probe_action *out)
{
	struct sender_outcome outcome = {
		.class = meaning.class,
		.next = meaning.next,
		.cause = SENDER_CAUSE_REPLY,
		.phase = SENDER_PHASE_RCPT,
		.reply = &p->session.reply,
	};

	p->has_served = true;
	if (meaning.class == SENDER_OK)
		p->accepted++;
	if (meaning.class == SENDER_PERMANENT)
		p->refusals++;
	/* Too many recipients, where there were others: another transaction may take it. */
	if (meaning.next == SENDER_NEXT_AGAIN && p->accepted > 0)
		p->is_full = true;
	/* A client waits for this: it comes again sooner than all hosts are asked. */
	else if (meaning.next == SENDER_NEXT_AGAIN || meaning.next == SENDER_NEXT_HOST)
		outcome.next = SENDER_NEXT_LATER;
	emit(shift(&p->asked), outcome, out);
	return true;
}

/* One whole reply. True with an action. */
static bool
take_reply(struct probe *p, struct probe_action *out)
{
	enum sender_phase phase = probe_phase(p);

	/* Only what was sent can be answered. */
	if (phase == SENDER_PHASE_RCPT && p->asked.count == 0)
		phase = SENDER_PHASE_IDLE;
	struct sender_meaning meaning = sender_meaning_of(phase, p->session.reply.code);
	if (phase == SENDER_PHASE_IDLE || meaning.then != SENDER_STAY) {
		end_by_reply(p, phase, meaning);
		return false;
	}
	p->has_replied = phase != SENDER_PHASE_RSET;
	if (phase == SENDER_PHASE_RCPT)
		return take_rcpt_reply(p, meaning, out);
	if (phase == SENDER_PHASE_RSET)
		p->awaits_reset = false;
	else
		p->awaits_mail = false;
	if (meaning.class != SENDER_OK) {
		/* It does not take our MAIL, whoever it would be for. */
		meaning.then = SENDER_QUIT;
		end_by_reply(p, phase, meaning);
	}
	return false;
}

/* Takes one line of input. False where the turn goes on without an action. */
static bool
listen(struct probe *p, struct span in, size_t *used, struct probe_action *out)
{
	enum reply_event event;

	if (p->state != PROBE_UP)
		return false;
	*used += reply_feed(&p->session.reply, span_after(in, *used), &event);
	switch (event) {
	case REPLY_LINE:
		return false;
	case REPLY_DONE:
		return take_reply(p, out);
	case REPLY_BAD:
		end_by_cause(p, CLOSE_PROTOCOL, SENDER_CAUSE_PROTOCOL);
		return false;
	default:
		out->kind = PROBE_NEED_INPUT;
		return true;
	}
}

size_t
probe_step(struct probe *p, struct span in, struct probe_action *out)
{
	size_t used = 0;

	OBJ_CHECK(p, PROBE_MAGIC);
	*out = (struct probe_action){ .close = CLOSE_NONE };
	/* Every turn without an action takes input, or ends the session. */
	while (!finish(p, out) && !begin(p, in, &used, out) && !speak(p, out) &&
	       !listen(p, in, &used, out))
		;
	return used;
}
