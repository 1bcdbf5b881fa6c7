/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/inbound.h"

#include <stddef.h>

#include "relay/flow/dispatch.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/policy.h"
#include "relay/flow/secure.h"
#include "relay/flow/submission.h"
#include "core/base/id.h"
#include "relay/smtp/proxy.h"

static struct session *
session_of(struct conn *c)
{
	OBJ_CHECK(c, CONN_MAGIC);
	return CONTAINER_OF(c, struct session, conn);
}

static const struct config *
config_of(const struct session *s)
{
	return s->routing->config;
}

/* ---- answers to the receiver's questions ---- */

static void
answer(struct session *s, enum reply_row row, bool input_waiting)
{
	struct receiver_answer a = { .row = row, .input_waiting = input_waiting };

	receiver_answer(&s->receiver, &a);
}

static void
on_greeting(struct session *s, bool input_waiting)
{
	struct receiver_answer a = { .reason = CLOSE_REFUSED, .input_waiting = input_waiting };

	a.row = s->admitted ? REPLY_NONE : policy_client(s, &a.reason);
	receiver_answer(&s->receiver, &a);
}

static void
on_hello(struct session *s, const struct receiver_action *a, bool input_waiting)
{
	struct span name = span_first(a->name, SESSION_HELLO_MAX);

	memcpy(s->hello, name.data, name.size);
	s->hello_size = (uint8_t)name.size;
	s->esmtp = a->ehlo;
	answer(s, REPLY_NONE, input_waiting);
}

static void on_mail_booked(struct transaction *t, enum reply_row row);

static enum reply_row
judge_mail(struct session *s, const struct receiver_action *a)
{
	if (s->flow->draining)
		return REPLY_SHUTTING_DOWN;
	if (flow_must_pause(s->flow)) {
		FLOW_LIMIT_HIT(s->flow, LOG_BUFFER);
		return REPLY_TRY_LATER;
	}
	enum err e = queue_admit(s->flow->worker->queue, a->mail.size);
	if (e != ERR_OK)
		return policy_row_of_err(s->flow, e);
	if (submission_is_on(s)) {
		enum reply_row row = submission_sender(s, &a->path);
		flow_event_sender(s->flow, s, &a->path, row);
		if (row != REPLY_NONE)
			return row;
	}
	return transaction_begin(s, a, on_mail_booked);
}

/* The verdict on the sender, in full. */
static struct receiver_answer
vetted_answer(const struct transaction *t)
{
	return (struct receiver_answer){
		.row = t->vetting.row,
		.text = span_of(t->vetting.text, t->vetting.text_size),
		.more = t->vetting.more,
	};
}

static void
answer_vetted(struct session *s)
{
	struct receiver_answer a = vetted_answer(s->transaction);

	s->transaction->vetting.is_answered = a.row != REPLY_NONE;
	flow_event_sender_vetted(s->flow, s->transaction, a.text);
	receiver_answer(&s->receiver, &a);
}

static void go_on_with_recipient(struct session *s);

/* It is known who sends. */
static void
on_vetted(struct transaction *t)
{
	struct session *s = t->session;

	if (s->conn.state != CONN_OPEN)
		return;
	if (t->last == NULL) /* asked at MAIL */
		answer_vetted(s);
	else
		go_on_with_recipient(s);
	conn_run(&s->conn);
}

/* Who sends is to be known at this point. False: the session waits for on_vetted. */
static bool
vet(struct session *s, enum config_spf_at at)
{
	struct transaction *t = s->transaction;

	return t->vetting.state != VETTING_DUE || s->listener->spf.at != at ||
	       vetting_start(t, on_vetted);
}

static void
answer_mail(struct session *s, enum reply_row row, bool input_waiting)
{
	if (row != REPLY_NONE)
		answer(s, row, input_waiting);
	else if (vet(s, SPF_AT_MAIL))
		answer_vetted(s);
}

static void
on_mail_booked(struct transaction *t, enum reply_row row)
{
	struct session *s = t->session;

	if (s->conn.state != CONN_OPEN)
		return;
	if (row != REPLY_NONE)
		transaction_free(s);
	answer_mail(s, row, false);
	conn_run(&s->conn);
}

static void
on_mail(struct session *s, const struct receiver_action *a, bool input_waiting)
{
	enum reply_row row = judge_mail(s, a);

	if (row != REPLY_NONE || !s->transaction->quota.waits)
		answer_mail(s, row, input_waiting);
}

/* The recipient was added already; what the next hop says of it decides whether it stays. */
static enum reply_row
judge_callout(struct session *s, enum callout_answer answer)
{
	enum reply_row row = policy_of_callout(s, answer);

	if (row != REPLY_NONE)
		transaction_drop_recipient(s->transaction);
	return row;
}

static void
answer_recipient(struct session *s, const struct address *path, enum reply_row row, struct span why)
{
	uint8_t memory[RECEIVER_TEXT_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	/* "no such recipient; the next hop says: 550 5.1.1 who?", as much of it as fits, in ASCII:
	 * not every client takes more (RFC 6531 3.5). */
	if (row != REPLY_NONE && why.size > 0) {
		buf_append(&text, reply_row_text(row));
		buf_append_string(&text, "; ");
		for (size_t i = 0; i < why.size && buf_room(&text) > 0; i++)
			buf_append_byte(&text, why.data[i] < 0x80 ? why.data[i] : '?');
	}
	flow_event_recipient(s->flow, s, path, row, buf_span(&text));
	struct receiver_answer a = { .row = row, .text = buf_span(&text) };
	receiver_answer(&s->receiver, &a);
}

/* The recipient that was added last, as it was given: a postmaster may have no domain. */
static struct address
last_recipient(const struct session *s)
{
	struct span text = s->transaction->last->recipient.address;
	struct address path;

	if (address_parse_mailbox(text, &path) != ADDRESS_OK) {
		path = (struct address){ .kind = ADDRESS_POSTMASTER, .local = text };
		ASSERT(address_is_postmaster(&path)); /* it was a path before */
	}
	return path;
}

static void
on_callout(struct callout_waiter *w, enum callout_answer answer, struct span why)
{
	struct session *s = CONTAINER_OF(w, struct session, waiter);

	if (s->conn.state != CONN_OPEN)
		return;
	struct address path = last_recipient(s);
	answer_recipient(s, &path, judge_callout(s, answer), why);
	conn_run(&s->conn);
}

/* It was added, as far as we know; `r` asks its next hop, or is NULL. */
static void
ask_next_hop(struct session *s, const struct address *path, struct routing *r)
{
	struct span why = span_none();
	enum reply_row row = REPLY_NONE;

	if (r != NULL) {
		enum callout_answer answer = callout_ask(s->flow, r, path, &s->waiter, &why);
		if (answer == CALLOUT_PENDING)
			return; /* on_callout goes on */
		row = judge_callout(s, answer);
	}
	answer_recipient(s, path, row, why);
}

/* The recipient that was added last is taken only of a sender that is. */
static bool
is_vetted(struct session *s, const struct address *path)
{
	struct receiver_answer a = vetted_answer(s->transaction);

	if (a.row == REPLY_NONE)
		return true;
	transaction_drop_recipient(s->transaction);
	flow_event_recipient(s->flow, s, path, a.row, a.text);
	receiver_answer(&s->receiver, &a);
	return false;
}

static void
go_on_with_recipient(struct session *s)
{
	struct address path = last_recipient(s);
	struct routing *r = NULL;

	if (!is_vetted(s, &path))
		return;
	enum reply_row row = policy_recipient(s, &path, &r); /* once more, for r */
	if (row == REPLY_NONE) {
		ask_next_hop(s, &path, r);
		return;
	}
	transaction_drop_recipient(s->transaction);
	answer_recipient(s, &path, row, span_none());
}

/* The user may have it, or not. */
static void
on_recipient_booked(struct transaction *t, enum reply_row row)
{
	struct session *s = t->session;

	if (s->conn.state != CONN_OPEN)
		return;
	if (row == REPLY_NONE) {
		go_on_with_recipient(s);
	} else {
		struct address path = last_recipient(s);
		transaction_drop_recipient(t);
		answer_recipient(s, &path, row, span_none());
	}
	conn_run(&s->conn);
}

static void
on_recipient(struct session *s, const struct receiver_action *a)
{
	struct routing *r = NULL;

	ASSERT(s->transaction != NULL);
	enum reply_row row = policy_recipient(s, &a->path, &r);
	if (row == REPLY_NONE)
		row = transaction_add_recipient(s->transaction, a, on_recipient_booked);
	if (row != REPLY_NONE)
		answer_recipient(s, &a->path, row, span_none());
	else if (s->transaction->quota.waits)
		return; /* on_recipient_booked goes on */
	else if (vet(s, SPF_AT_RCPT) && is_vetted(s, &a->path))
		ask_next_hop(s, &a->path, r);
}

static void
on_body(struct session *s, struct span bytes)
{
	ASSERT(s->transaction != NULL);
	if (s->transaction->refused)
		return;
	enum reply_row row = transaction_add_body(s->transaction, bytes);
	if (row != REPLY_NONE)
		receiver_refuse_body(&s->receiver, row);
}

/* ---- commit ---- */

static void
on_put_done(struct queue_put *p, enum err e)
{
	struct transaction *t = CONTAINER_OF(p, struct transaction, put);
	struct session *s = t->session;
	struct flow *f = s->flow;

	ASSERT(s->committing);
	s->committing = false;
	f->committing_count--;
	if (s->conn.state == CONN_OPEN) {
		uint8_t memory[64];
		struct buf text = buf_of(memory, sizeof memory);
		struct receiver_answer a = { .row = REPLY_QUEUED };
		if (e == ERR_OK) {
			s->mail_count++;
			buf_append_string(&text, "queued as ");
			id_write(&text, t->envelope.id.high, t->envelope.id.low);
			a.text = buf_span(&text);
		} else {
			a.row = policy_row_of_err(f, e);
		}
		receiver_answer(&s->receiver, &a);
		conn_run(&s->conn);
	}
	flow_event_received(f, s, t, e);
	if (e == ERR_OK) {
		transaction_queued(t);
		dispatch_items(f, &p->items, f->worker->now_ms - t->started_ms);
	}
	transaction_free(s);
	conn_unhold(&s->conn);
	flow_check_drained(f);
}

static void
on_commit(struct session *s)
{
	ASSERT(s->transaction != NULL);
	enum reply_row row = transaction_end_body(s->transaction);
	if (row == REPLY_NONE && !transaction_put(s->transaction, on_put_done))
		row = REPLY_NO_MEMORY;
	if (row != REPLY_NONE) {
		answer(s, row, false);
		transaction_free(s);
		return;
	}
	s->committing = true;
	s->flow->committing_count++;
	conn_hold(&s->conn);
}

/* ---- the loop ---- */

/* What a refused MAIL had to say has been said; true. */
static bool
forget_refused(struct session *s)
{
	if (s->transaction != NULL && s->transaction->vetting.is_answered)
		transaction_free(s);
	return true;
}

/* False: nothing more to do until something happens. */
static bool
act(struct session *s, const struct receiver_action *a, bool input_waiting)
{
	switch (a->kind) {
	case RECEIVER_REPLY:
		flow_count_reply(s->flow, a->row);
		return conn_write(&s->conn, a->data) && forget_refused(s);
	case RECEIVER_ASK_GREETING:
		on_greeting(s, input_waiting);
		return true;
	case RECEIVER_ASK_HELO:
		on_hello(s, a, input_waiting);
		return true;
	case RECEIVER_ASK_MAIL:
		on_mail(s, a, input_waiting);
		return true;
	case RECEIVER_ASK_RCPT:
		on_recipient(s, a);
		return true;
	case RECEIVER_ASK_DATA:
		answer(s, transaction_open_body(s->transaction, a->size), input_waiting);
		return true;
	case RECEIVER_ASK_SYNC:
		answer(s, REPLY_NONE, input_waiting);
		return true;
	case RECEIVER_BODY:
		on_body(s, a->data);
		return true;
	case RECEIVER_ASK_COMMIT:
		on_commit(s);
		return true;
	case RECEIVER_ABORT:
		transaction_free(s);
		return true;
	case RECEIVER_ASK_AUTH:
		login_begin(s, a, input_waiting);
		return true;
	case RECEIVER_ASK_AUTH_DATA:
		login_go_on(s, a, input_waiting);
		return true;
	case RECEIVER_CANCEL_AUTH:
		login_cancel(s);
		return true;
	case RECEIVER_CLOSE:
		conn_finish(&s->conn, a->reason);
		return false;
	case RECEIVER_WAIT:
		return false;
	case RECEIVER_ASK_STARTTLS:
		answer(s, secure_is_possible(s) ? REPLY_NONE : REPLY_TLS_UNAVAILABLE,
		       input_waiting);
		return true;
	case RECEIVER_START_TLS:
		secure_start(s, false);
		return false;
	case RECEIVER_NEED_INPUT:
	case RECEIVER_NONE:
	case RECEIVER_ACTION_COUNT:
		break;
	}
	return false;
}

static void
set_deadline(struct session *s)
{
	const struct config_timeouts_receive *t = &config_of(s)->timeouts.receive;
	uint64_t now_ms = s->flow->worker->now_ms;
	uint64_t at_ms = 0;

	switch (receiver_phase(&s->receiver)) {
	case RECEIVER_PHASE_COMMAND:
		at_ms = now_ms + t->command_ms;
		break;
	case RECEIVER_PHASE_HANDSHAKE:
		at_ms = now_ms + t->handshake_ms;
		break;
	case RECEIVER_PHASE_DATA:
		at_ms = now_ms + t->data_ms;
		if (s->transaction != NULL && s->transaction->deadline_ms < at_ms)
			at_ms = s->transaction->deadline_ms;
		break;
	case RECEIVER_PHASE_OURS:
	case RECEIVER_PHASE_CLOSED:
		/* Only a client that does not read its replies is waited for here. */
		at_ms = conn_output_is_empty(&s->conn) ? 0 : now_ms + t->reply_ms;
		break;
	}
	conn_deadline(&s->conn, at_ms);
}

/* The client is known now: the dialogue begins, or TLS does. False: not the dialogue. */
static bool
meet(struct session *s)
{
	enum close_reason reason = CLOSE_REFUSED;

	s->limit_key = policy_client_key(s);
	flow_event_accepted(s->flow, s);
	if (routing_listener_tls(config_of(s), s->listener_number) != LISTENER_TLS_IMPLICIT)
		return true;
	/* A handshake costs: whoever is to be refused is refused before it, without a word. */
	s->admitted = policy_client(s, &reason) == REPLY_NONE;
	if (s->admitted)
		secure_start(s, true);
	else
		conn_close(&s->conn, reason);
	return false;
}

/* Whose connection is it? False: not known yet, or the connection is closing. */
static bool
take_proxy(struct session *s)
{
	struct proxy proxy;

	switch (proxy_read(conn_input(&s->conn), &proxy)) {
	case PROXY_MORE:
		if (conn_peer_has_ended(&s->conn))
			conn_close(&s->conn, CLOSE_PEER_CLOSED);
		else
			conn_read_more(&s->conn);
		return false;
	case PROXY_BAD:
		flow_event_proxy_refused(s->flow, s, span_of_string(proxy.why));
		conn_close(&s->conn, CLOSE_PROXY_HEADER);
		return false;
	case PROXY_TOLD:
		s->peer = proxy.client;
		break;
	case PROXY_LOCAL:
		break;
	}
	s->awaits_proxy = false;
	conn_consume(&s->conn, proxy.size);
	return meet(s);
}

/* Back-pressure of the store; true: wait for room. */
static bool
draft_is_full(struct session *s)
{
	struct transaction *t = s->transaction;

	if (t == NULL || t->draft == NULL || !queue_draft_is_full(t->draft))
		return false;
	queue_draft_on_room(t->draft, &s->resume);
	conn_deadline(&s->conn, 0); /* the disk is slow, not the client */
	return true;
}

/* A client that goes away while others are asked for its sender ends that. What it has pipelined
 * behind is not looked at, so that only one with nothing to say is seen to end. */
static void
watch_for_end(struct session *s)
{
	const struct transaction *t = s->transaction;

	if (t == NULL || (t->vetting.state != VETTING_OPEN && !t->quota.waits) ||
	    conn_input(&s->conn).size > 0)
		return;
	if (conn_peer_has_ended(&s->conn))
		conn_close(&s->conn, CLOSE_PEER_CLOSED);
	else
		conn_read_more(&s->conn);
}

static void
step(struct session *s)
{
	unsigned steps = config_of(s)->worker.steps_per_turn;

	if (s->securing || (s->awaits_proxy && !take_proxy(s)))
		return;
	for (unsigned n = 0; n < steps; n++) {
		struct receiver_action action;

		if (s->conn.state != CONN_OPEN)
			return;
		if (conn_output_full(&s->conn)) {
			set_deadline(s);
			return; /* resumed by on_drained */
		}
		if (draft_is_full(s))
			return; /* resumed by on_resume */
		struct span in = conn_input(&s->conn);
		size_t used = receiver_step(&s->receiver, in, &action);
		bool more = act(s, &action, in.size > used);
		if (s->conn.state != CONN_OPEN)
			return;
		if (action.kind == RECEIVER_ASK_AUTH || action.kind == RECEIVER_ASK_AUTH_DATA)
			explicit_bzero((void *)(uintptr_t)in.data, used); /* of our own buffer */
		/* Last: action.data may point into the input. */
		conn_consume(&s->conn, used);
		if (more)
			continue;
		set_deadline(s);
		if (action.kind == RECEIVER_WAIT)
			watch_for_end(s);
		if (action.kind != RECEIVER_NEED_INPUT)
			return;
		if (s->flow->draining && receiver_is_idle(&s->receiver)) {
			receiver_end(&s->receiver, REPLY_SHUTTING_DOWN, CLOSE_SHUTDOWN);
			continue;
		}
		if (conn_peer_has_ended(&s->conn))
			conn_close(&s->conn, CLOSE_PEER_CLOSED);
		else
			conn_read_more(&s->conn);
		return;
	}
	conn_run(&s->conn); /* its share of this turn is used up */
}

/* ---- events of the connection ---- */

static void
on_input(struct conn *c)
{
	step(session_of(c));
}

static void
on_secured(struct conn *c, enum err e)
{
	struct session *s = session_of(c);

	if (!secure_ended(s, e))
		return;
	/* What the client said in plain text is forgotten (RFC 3207 4.2). */
	s->hello_size = 0;
	s->esmtp = false;
	receiver_secured(&s->receiver, login_by_certificate(s));
	receiver_withhold(&s->receiver, login_withheld(s->flow));
	conn_run(c);
}

static void
on_deadline(struct conn *c)
{
	struct session *s = session_of(c);

	flow_event_client_timeout(s->flow, s);
	if (s->securing) {
		secure_timed_out(s);
		return;
	}
	if (s->awaits_proxy) {
		flow_event_proxy_refused(s->flow, s, SPAN("no PROXY header in time"));
		conn_close(c, CLOSE_TIMEOUT);
		return;
	}
	if (receiver_phase(&s->receiver) == RECEIVER_PHASE_OURS || conn_output_full(c)) {
		conn_close(c, CLOSE_TIMEOUT);
		return;
	}
	receiver_end(&s->receiver, REPLY_TIMED_OUT, CLOSE_TIMEOUT);
	step(s);
}

static void
on_lost(struct conn *c, enum err e)
{
	(void)e;
	conn_close(c, CLOSE_RESET);
}

static void
on_closed(struct conn *c)
{
	struct session *s = CONTAINER_OF(c, struct session, conn);
	struct flow *f = s->flow;

	ASSERT(!s->committing);
	task_cancel(&s->resume);
	callout_forget(&s->waiter);
	login_cancel(s);
	transaction_free(s);
	policy_release(s);
	flow_event_session_end(f, s);
	receiver_fini(&s->receiver);
	user_put(s->user);
	user_put(s->certified);
	routing_put(s->routing);
	pool_put(&f->sessions, s);
	f->session_count--;
	flow_check_drained(f);
}

static const struct conn_events session_events = {
	.on_secured = on_secured,
	.on_input = on_input,
	.on_drained = on_input,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

bool
session_owns(const struct conn *c)
{
	return c->events == &session_events;
}

static void
on_resume(struct task *t)
{
	struct session *s = CONTAINER_OF(t, struct session, resume);

	step(s);
}

void
session_start(struct flow *f, unsigned listener, int fd)
{
	struct session *s = pool_get(&f->sessions);

	if (s == NULL) {
		/* More than the limit with its margin for 421s: no memory even to say so. */
		METRIC_ADD_LABEL(f->worker->metrics, POOL_EXHAUSTED, LABEL_POOL_SESSIONS, 1);
		net_close(fd);
		return;
	}
	memset(s, 0, offsetof(struct session, hello));
	s->flow = f;
	s->routing = routing_get(f->routing);
	ASSERT(listener < config_of(s)->listeners_count);
	s->listener = &config_of(s)->listeners[listener];
	s->listener_number = listener;
	s->started_ms = f->worker->now_ms;
	if (!net_peer(fd, &s->peer))
		s->peer = (struct net_address){ 0 };
	task_init(&s->resume, on_resume);
	s->waiter.on_answer = on_callout;
	receiver_init(&s->receiver, &s->routing->receivers[listener]);
	conn_init(&s->conn, f->worker, fd, RING_CLIENTS, &session_events);
	f->session_count++;
	if (config_network_contains(&s->listener->proxy_from, &s->peer.any)) {
		s->awaits_proxy = true;
		conn_deadline(&s->conn, s->started_ms + config_of(s)->timeouts.receive.proxy_ms);
		conn_read_more(&s->conn);
		return;
	}
	if (meet(s))
		conn_run(&s->conn); /* the greeting */
}

/* Ends sessions with 421: those that are idle, or all that the queue does not hold. */
static void
end_sessions(struct flow *f, bool all)
{
	struct worker *w = f->worker;
	struct list_node *n = list_first(&w->conns);

	while (n != NULL) {
		struct conn *c = LIST_ITEM(n, struct conn, link);
		n = list_next(&w->conns, n);
		if (c->events != &session_events || c->state != CONN_OPEN)
			continue;
		struct session *s = session_of(c);
		if (s->awaits_proxy || s->securing) {
			conn_close(c, CLOSE_SHUTDOWN); /* nobody is there yet who could be told */
			continue;
		}
		if (s->committing || !(all || receiver_is_idle(&s->receiver)))
			continue;
		callout_forget(&s->waiter);
		login_cancel(s);
		if (s->transaction != NULL) {
			vetting_cancel(s->transaction);
			quota_forget(s->transaction);
		}
		receiver_end(&s->receiver, REPLY_SHUTTING_DOWN, CLOSE_SHUTDOWN);
		conn_run(c);
	}
}

void
inbound_drain(struct flow *f)
{
	end_sessions(f, false);
}

void
inbound_cut_off(struct flow *f)
{
	end_sessions(f, true);
}
