/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of questions to one target: its hosts, one connection, and what becomes of both.
 */
#include <stdlib.h>

#include "core/net.h"
#include "relay/flow/callout_parts.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum {
	NAMED_AGAIN_MS = 5000, /* hosts by name are looked up no more often */
	ASKED_AGAIN_MS = 1000, /* nor are their TLSA records, whatever these say */
	SHOWN_MAX = 400,       /* bytes of an outcome, before it is cut */
};

static const struct conn_events callout_events;

static const struct config_relay_callout *
options_of(const struct flow *f)
{
	return &f->routing->config->relay.callout;
}

static uint64_t
now_of(const struct callout_line *l)
{
	return l->flow->worker->now_ms;
}

/* ---- questions ---- */

void
callout_explain(struct callout_line *l, struct span why)
{
	why = span_first(why, CALLOUT_TEXT_MAX);
	l->why_size = (uint8_t)why.size;
	if (why.size > 0)
		memcpy(l->why, why.data, why.size);
}

/* No host could be asked: what waits fails, and so does what comes, for a little while. */
static void
fail_waiting(struct callout_line *l)
{
	struct list_node *n;

	l->hosts_tried = 0;
	l->pause_until_ms = now_of(l) + CALLOUT_PAUSE_MS;
	while ((n = list_first(&l->waiting)) != NULL)
		callout_settle(LIST_ITEM(n, struct callout_entry, link), CALLOUT_FAILED,
			       span_of(l->why, l->why_size));
}

/* Back among those that wait, by age. */
static void
ask_again(struct callout_entry *e)
{
	struct callout_line *l = e->line;
	struct list_node *n = list_first(&l->waiting);

	list_unlink(&e->link);
	while (n != NULL && LIST_ITEM(n, struct callout_entry, link)->until_ms <= e->until_ms)
		n = list_next(&l->waiting, n);
	if (n == NULL)
		list_append(&l->waiting, &e->link);
	else
		list_insert_before(n, &e->link);
}

/* "the next hop says: 550 5.1.1 who?", or what happened to us, without the code of ours. */
static void
show_outcome(const struct sender_outcome *o, struct buf *out)
{
	uint8_t memory[SHOWN_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	sender_outcome_show(o, &text);
	struct span s = buf_span(&text);
	if (o->reply == NULL)
		s = span_after(s, span_find(s, ' ', span_find(s, ' ', 0) + 1) + 1);
	else
		buf_append_string(out, "the next hop says: ");
	for (size_t i = 0; i < s.size; i++)
		buf_append_byte(out, s.data[i] == '\n' ? ' ' : s.data[i]);
}

/* Have we said what happened, in better words than its cause has? */
static bool
is_explained(const struct callout_line *l, const struct sender_outcome *o)
{
	bool ours = o->cause == SENDER_CAUSE_STOPPED || o->cause == SENDER_CAUSE_CONNECT ||
		    o->cause == SENDER_CAUSE_TLS || o->cause == SENDER_CAUSE_AUTH;

	return ours && l->why_size > 0;
}

static void
take_answer(struct callout_conn *c, const struct probe_action *a)
{
	static const enum callout_answer answers[] = {
		[SENDER_OK] = CALLOUT_KNOWN,
		[SENDER_TEMPORARY] = CALLOUT_FAILED,
		[SENDER_PERMANENT] = CALLOUT_UNKNOWN,
	};
	const struct sender_outcome *o = &a->outcome;
	struct callout_entry *e = CONTAINER_OF(a->question, struct callout_entry, question);
	struct callout_line *l = c->line;
	bool explained = is_explained(l, o);
	uint8_t memory[SHOWN_MAX + 32];
	struct buf why = buf_of(memory, sizeof memory);

	ASSERT(e->line == l);
	if (explained)
		buf_append(&why, span_of(l->why, l->why_size));
	else
		show_outcome(o, &why);
	if (o->class != SENDER_TEMPORARY)
		l->hosts_tried = 0;
	/* It will not serve the next question either. */
	if (o->class == SENDER_TEMPORARY &&
	    (o->next == SENDER_NEXT_HOST || o->phase != SENDER_PHASE_RCPT)) {
		c->failed |= o->next != SENDER_NEXT_AGAIN && !c->plain_next;
		if (!explained)
			callout_explain(l, buf_span(&why));
	}
	bool again = o->next == SENDER_NEXT_AGAIN || o->next == SENDER_NEXT_HOST;
	if (o->class == SENDER_TEMPORARY && again && e->tries < CALLOUT_TRIES_MAX &&
	    e->until_ms > now_of(l))
		ask_again(e);
	else
		callout_settle(e, answers[o->class], buf_span(&why));
}

/* Gives the connection as many questions as it takes. */
static void
give(struct callout_line *l)
{
	struct callout_conn *c = l->conn;
	struct list_node *n;
	bool given = false;

	while (probe_can_ask(&c->probe) && (n = list_shift(&l->waiting)) != NULL) {
		struct callout_entry *e = LIST_ITEM(n, struct callout_entry, link);
		list_append(&l->asked, n);
		e->tries++;
		probe_ask(&c->probe, &e->question);
		given = true;
	}
	/* One that is still connecting speaks when it is there. */
	if (given && c->conn.state == CONN_OPEN)
		conn_run(&c->conn);
}

/* ---- hosts ---- */

static void
drop_answers(struct callout_line *l)
{
	for (size_t i = 0; i < l->target->hosts_count; i++) {
		if (l->answers[i] != NULL)
			mx_hosts_put(l->answers[i]);
	}
	free(l->answers);
	l->answers = NULL;
	l->looking = false;
	l->flow->callouts.looking_count--;
}

static void
take_plan(struct callout_line *l, uint64_t until_ms)
{
	uint8_t memory[PLAN_WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory);
	struct plan *old = l->plan;

	l->plan = plan_of_target(l->target, &l->way->policy, l->way->auth, l->answers, &why);
	callout_keep_broken(l, old);
	if (old != NULL)
		plan_put(old);
	l->plan_until_ms = until_ms;
	l->host = 0;
	if (l->plan != NULL && l->plan->host_count > 0)
		return;
	/* Of the hosts that its policy leaves out. */
	if (why.size > 0)
		callout_explain(l, buf_span(&why));
	else
		callout_explain(l, SPAN("the next hop's name has no address now"));
	l->plan_until_ms = 0;
	fail_waiting(l);
}

static void ask_next_host(struct callout_line *l);

static void
on_host_found(struct mx_lookup *lookup, struct mx_hosts *found)
{
	struct callout_line *l = CONTAINER_OF(lookup, struct callout_line, lookup);

	l->answers[l->looking_for++] = mx_hosts_get(found);
	ask_next_host(l);
}

/* What was asked for besides addresses (TLSA records) counts for no longer than it says. */
static uint64_t
expiry_of_answers(const struct callout_line *l)
{
	uint64_t least_ms = UINT64_MAX, again_ms = now_of(l) + NAMED_AGAIN_MS;

	for (size_t i = 0; i < l->target->hosts_count; i++) {
		const struct mx_hosts *found = l->answers[i];
		if (found == NULL)
			continue;
		least_ms = found->expires_at_ms < least_ms ? found->expires_at_ms : least_ms;
		if (found->outcome == MX_FOUND && found->hosts[0].tlsa != NULL)
			again_ms = now_of(l) + ASKED_AGAIN_MS;
	}
	return least_ms > again_ms ? least_ms : again_ms;
}

/* Names are asked for one after the other: they are few, and at hand but for the first time. */
static void
ask_next_host(struct callout_line *l)
{
	const struct config_target *t = l->target;

	while (l->looking_for < t->hosts_count && t->hosts[l->looking_for].name.size == 0)
		l->looking_for++;
	if (l->looking_for < t->hosts_count) {
		l->lookup = (struct mx_lookup){
			.on_done = on_host_found,
			.dane = t->kind == TARGET_SMTP && plan_wants_tlsa(&l->way->policy),
		};
		mx_lookup_host(&l->lookup, l->flow->worker->resolver, t->hosts[l->looking_for].name,
			       t->hosts[l->looking_for].port);
		return;
	}
	take_plan(l, expiry_of_answers(l));
	drop_answers(l);
	callout_line_wake(l);
	flow_check_drained(l->flow);
}

/* Begins to look for the hosts. By number they are there at once. */
static void
look(struct callout_line *l)
{
	bool by_number = true;

	for (size_t i = 0; i < l->target->hosts_count; i++)
		by_number &= l->target->hosts[i].name.size == 0;
	if (by_number) {
		take_plan(l, UINT64_MAX);
		return;
	}
	l->answers = calloc(l->target->hosts_count, sizeof(void *));
	if (l->answers == NULL) {
		callout_explain(l, SPAN("out of memory"));
		fail_waiting(l);
		return;
	}
	l->looking = true;
	l->looking_for = 0;
	l->flow->callouts.looking_count++;
	ask_next_host(l);
}

/* ---- the connection ---- */

/* It takes no more questions, and the line looks for another way. */
static void
retire(struct callout_conn *c, enum close_reason reason)
{
	struct callout_line *l = c->line;
	bool ours = reason == CLOSE_SHUTDOWN || reason == CLOSE_IDLE || reason == CLOSE_USED_UP;

	ASSERT(l->conn == c && list_is_empty(&l->asked));
	l->conn = NULL;
	c->line = NULL;
	if (c->failed || (!c->was_up && !ours && !c->plain_next)) {
		l->hosts_tried++;
		l->host++;
		if (l->why_size == 0)
			callout_explain(l, span_of_string(close_label(reason)));
		flow_event_callout_failed(l->flow, l->target->text, &c->plan->hosts[c->host],
					  span_of(l->why, l->why_size));
		if (l->hosts_tried >= c->plan->host_count)
			fail_waiting(l);
	}
	callout_line_wake(l);
}

/* False: nothing more to do now. */
static bool
act(struct callout_conn *c, const struct probe_action *a)
{
	bool polite = a->close == CLOSE_IDLE || a->close == CLOSE_USED_UP ||
		      a->close == CLOSE_SHUTDOWN || a->close == CLOSE_REJECTED;

	switch (a->kind) {
	case PROBE_WRITE:
		return conn_write(&c->conn, a->text);
	case PROBE_ANSWER:
		take_answer(c, a);
		return true;
	case PROBE_CLOSE:
		retire(c, a->close);
		if (polite)
			conn_finish(&c->conn, a->close);
		else
			conn_close(&c->conn, a->close);
		return false;
	case PROBE_START_TLS:
		callout_start_tls(c);
		return false;
	case PROBE_ASK_AUTH:
		return peer_auth_answer(&c->auth, &a->auth);
	case PROBE_WAIT:
	case PROBE_NEED_INPUT:
		break;
	}
	return false;
}

/* Takes what is owed out of a connection that is lost. */
static void
flush(struct callout_conn *c, enum close_reason reason)
{
	struct probe_action action;

	if (c->line == NULL)
		return;
	probe_lost(&c->probe, reason);
	do {
		probe_step(&c->probe, span_none(), &action);
		ASSERT(action.kind != PROBE_NEED_INPUT);
		if (action.kind == PROBE_ANSWER)
			take_answer(c, &action);
	} while (action.kind != PROBE_CLOSE);
	retire(c, reason);
}

void
callout_give_up(struct callout_conn *c, enum close_reason reason, bool politely)
{
	if (politely)
		conn_finish(&c->conn, reason);
	else
		conn_close(&c->conn, reason);
	flush(c, reason);
}

static void
after_steps(struct callout_conn *c)
{
	const struct config_relay_callout *o = options_of(c->flow);
	uint64_t now_ms = c->flow->worker->now_ms;
	bool idle = probe_is_idle(&c->probe);

	/* While a helper computes, what the peer says waits in the kernel. */
	if (c->conn.state != CONN_OPEN || c->line == NULL || c->auth.deriving)
		return;
	c->was_up = c->was_up || probe_is_up(&c->probe);
	if (conn_input_is_over(&c->conn)) {
		callout_give_up(c, CLOSE_PEER_CLOSED, false);
		return;
	}
	conn_deadline(&c->conn, now_ms + (idle ? o->idle_ms : o->deadline_ms));
	conn_read_more(&c->conn);
	/* An answer may have made room for a question, or a drain may wait for the end. */
	if ((!list_is_empty(&c->line->waiting) && probe_can_ask(&c->probe)) ||
	    (idle && c->flow->draining))
		callout_line_wake(c->line);
}

void
callout_step(struct callout_conn *c)
{
	unsigned steps = c->routing->config->worker.steps_per_turn;

	if (c->securing)
		return;
	for (unsigned n = 0; n < steps; n++) {
		struct probe_action action;

		if (c->conn.state != CONN_OPEN || conn_output_full(&c->conn))
			return; /* resumed by on_drained */
		size_t used = probe_step(&c->probe, conn_input(&c->conn), &action);
		bool more = act(c, &action);
		/* Its input was dropped with all that was not protected. */
		if (c->securing)
			return;
		/* Last: spans of the action may point into the input. */
		if (c->conn.state == CONN_OPEN)
			conn_consume(&c->conn, used);
		if (!more) {
			after_steps(c);
			return;
		}
	}
	conn_run(&c->conn);
}

/* ---- events of the connection ---- */

static struct callout_conn *
callout_of(struct conn *conn)
{
	return CONTAINER_OF(conn, struct callout_conn, conn);
}

static void
on_connected(struct conn *conn, enum err e)
{
	struct callout_conn *c = callout_of(conn);

	if (e != ERR_OK) {
		callout_explain(c->line, span_of_string(err_text(e)));
		callout_give_up(c, CLOSE_CONNECT_FAILED, false);
		return;
	}
	if (c->plan->hosts[c->host].implicit)
		callout_start_tls(c);
	else
		callout_step(c);
}

static void
on_input(struct conn *conn)
{
	callout_step(callout_of(conn));
}

static void
on_deadline(struct conn *conn)
{
	struct callout_conn *c = callout_of(conn);

	if (conn->state == CONN_OPEN && probe_is_idle(&c->probe)) {
		probe_quit(&c->probe, CLOSE_IDLE);
		callout_step(c);
		return;
	}
	METRIC_ADD_LABEL(c->flow->worker->metrics, TIMEOUTS, LABEL_TIMEOUT_CALLOUT, 1);
	if (c->securing) {
		callout_tls_failed(c, SPAN("the handshake took too long"), NULL);
		return;
	}
	if (conn->state == CONN_CONNECTING)
		callout_explain(c->line, span_of_string(err_text(ERR_TIMEOUT)));
	callout_give_up(c, CLOSE_TIMEOUT, false);
}

static void
on_lost(struct conn *conn, enum err e)
{
	(void)e;
	callout_give_up(callout_of(conn), CLOSE_RESET, false);
}

static void
on_closed(struct conn *conn)
{
	struct callout_conn *c = callout_of(conn);
	struct flow *f = c->flow;

	/* Closed by the connection itself, for want of memory: nobody was told yet. */
	flush(c, conn->reason);
	METRIC_ADD_LABEL(f->worker->metrics, CONNECTIONS_CLOSED, (unsigned)conn->reason, 1);
	peer_auth_fini(&c->auth);
	plan_put(c->plan);
	routing_put(c->routing);
	pool_put(&f->callouts.conns, c);
	f->callouts.conn_count--;
	flow_check_drained(f);
}

static const struct conn_events callout_events = {
	.on_connected = on_connected,
	.on_secured = callout_on_secured,
	.on_input = on_input,
	.on_drained = on_input,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

bool
callout_owns(const struct conn *c)
{
	return c->events == &callout_events;
}

/* False with the reason explained. */
static bool
open_conn(struct callout_line *l)
{
	struct flow *f = l->flow;
	unsigned host = l->host % l->plan->host_count;
	const struct net_address *peer = &l->plan->hosts[host].address;
	struct callout_conn *c = pool_get(&f->callouts.conns);
	int fd = c == NULL ? -1 : net_socket(peer);

	if (fd < 0) {
		if (c != NULL)
			pool_put(&f->callouts.conns, c);
		callout_explain(l, SPAN("no descriptor for a connection to the next hop"));
		return false;
	}
	*c = (struct callout_conn){
		.flow = f,
		.line = l,
		.routing = routing_get(f->routing),
		.plan = plan_get(l->plan),
		.host = host,
	};
	c->options = (struct probe_options){
		.session = c->routing->sender[l->target->kind == TARGET_LMTP],
		.sender = c->routing->config->relay.callout.sender,
	};
	callout_prepare(c);
	conn_init(&c->conn, f->worker, fd, RING_PEERS, &callout_events);
	f->callouts.conn_count++;
	METRIC_ADD(f->worker->metrics, CALLOUT_CONNECTIONS, 1);
	conn_deadline(&c->conn, now_of(l) + c->routing->config->timeouts.send.connect_ms);
	l->conn = c;
	l->why_size = 0;
	conn_connect(&c->conn, peer);
	return true;
}

/* There are questions and no connection. */
static void
connect_next(struct callout_line *l)
{
	if (l->looking)
		return;
	if (l->plan == NULL || l->plan_until_ms <= now_of(l))
		look(l);
	if (l->looking || list_is_empty(&l->waiting))
		return;
	if (!open_conn(l)) {
		fail_waiting(l);
		return;
	}
	give(l);
}

/* ---- the line ---- */

static void
set_timer(struct callout_line *l)
{
	const struct list *const lists[] = { &l->waiting, &l->asked };
	uint64_t at_ms =
		l->entries == 0 && l->pause_until_ms > now_of(l) ? l->pause_until_ms : UINT64_MAX;

	for (unsigned i = 0; i < 2; i++) {
		struct list_node *n = list_first(lists[i]);
		if (n != NULL && LIST_ITEM(n, struct callout_entry, link)->until_ms < at_ms)
			at_ms = LIST_ITEM(n, struct callout_entry, link)->until_ms;
	}
	if (at_ms == UINT64_MAX)
		timer_stop(&l->flow->worker->timers, &l->deadline);
	else
		timer_set(&l->flow->worker->timers, &l->deadline, at_ms);
}

static void
on_pump(struct task *t)
{
	struct callout_line *l = CONTAINER_OF(t, struct callout_line, pump);
	struct callout_conn *c = l->conn;

	if (c != NULL && !list_is_empty(&l->waiting)) {
		give(l);
	} else if (c != NULL && l->flow->draining && c->conn.state == CONN_OPEN &&
		   probe_may_quit(&c->probe)) {
		probe_quit(&c->probe, CLOSE_SHUTDOWN);
		conn_run(&c->conn);
	} else if (c == NULL && !list_is_empty(&l->waiting)) {
		connect_next(l);
	}
	set_timer(l);
	callout_line_check(l);
}

/* Questions end at their deadline, whatever they wait for. */
static void
on_timer(struct timer *t)
{
	struct callout_line *l = CONTAINER_OF(t, struct callout_line, deadline);
	struct list_node *n;
	bool late = false;

	n = list_first(&l->asked);
	if (n != NULL && LIST_ITEM(n, struct callout_entry, link)->until_ms <= now_of(l)) {
		METRIC_ADD_LABEL(l->flow->worker->metrics, TIMEOUTS, LABEL_TIMEOUT_CALLOUT, 1);
		callout_give_up(l->conn, CLOSE_TIMEOUT, false);
	}
	while ((n = list_first(&l->waiting)) != NULL) {
		struct callout_entry *e = LIST_ITEM(n, struct callout_entry, link);
		if (e->until_ms > now_of(l))
			break;
		late = true;
		callout_settle(e, CALLOUT_FAILED, SPAN("the next hop did not answer in time"));
	}
	if (late)
		METRIC_ADD_LABEL(l->flow->worker->metrics, TIMEOUTS, LABEL_TIMEOUT_CALLOUT, 1);
	callout_line_wake(l);
}

void
callout_line_init(struct callout_line *l)
{
	list_init(&l->waiting);
	list_init(&l->asked);
	task_init(&l->pump, on_pump);
	timer_init(&l->deadline, on_timer);
}

void
callout_line_wake(struct callout_line *l)
{
	worker_soon(l->flow->worker, &l->pump);
}

void
callout_line_stop(struct callout_line *l)
{
	struct list_node *n;

	if (l->looking) {
		mx_lookup_cancel(&l->lookup);
		drop_answers(l);
	}
	struct callout_conn *c = l->conn;
	if (c != NULL && c->conn.state == CONN_OPEN && probe_may_quit(&c->probe)) {
		probe_quit(&c->probe, CLOSE_SHUTDOWN);
		callout_step(c);
	}
	if (l->conn != NULL)
		callout_give_up(l->conn, CLOSE_SHUTDOWN, false);
	while ((n = list_first(&l->waiting)) != NULL)
		callout_settle(LIST_ITEM(n, struct callout_entry, link), CALLOUT_FAILED,
			       SPAN("shutting down"));
}
