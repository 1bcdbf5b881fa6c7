/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a link: connect, log in, be made ready, read replies, fail, wait, again.
 *
 * Whatever happens, what was sent is answered in one place, answer_all(), when the connection has
 * been closed: earlier the kernel may still read from a body that was lent.
 */
#include "queue/redis/link.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/metric.h"
#include "queue/redis/link_parts.h"

enum {
	BACKOFF_FIRST_MS = 100,
	BACKOFF_MOST_MS = 5000,
	FEED_MOST = 16 * 1024, /* the reader moves what is left of it after each reply */
	REPLY_MOST = 64 * 1024 * 1024,
};

#define COUNT(l, name, n)                                          \
	do {                                                       \
		if ((l)->worker->metrics != NULL)                  \
			METRIC_ADD((l)->worker->metrics, name, n); \
	} while (0)

static struct redis_link *
link_of(struct conn *c)
{
	struct redis_link *l = CONTAINER_OF(c, struct redis_link, conn);

	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	return l;
}

/* ---- failing ---- */

static void
say_problem(struct redis_link *l, struct span text)
{
	buf_reset(&l->problem);
	buf_append(&l->problem, span_first(text, LINK_PROBLEM_MOST));
}

static void
note_ready(struct redis_link *l, bool ready)
{
	if (l->was_ready == ready)
		return;
	l->was_ready = ready;
	if (l->worker->metrics != NULL) {
		uint64_t count = METRIC_GET(l->worker->metrics, REDIS_LINKS);
		METRIC_SET(l->worker->metrics, REDIS_LINKS, ready ? count + 1 : count - 1);
	}
}

void
link_give_up(struct redis_link *l, enum close_reason reason, struct span why)
{
	if (l->state < LINK_CONNECTING || l->state == LINK_CLOSING)
		return;
	say_problem(l, why);
	l->state = LINK_CLOSING;
	conn_close(&l->conn, reason);
}

static void
give_up_saying(struct redis_link *l, enum close_reason reason, const char *why)
{
	link_give_up(l, reason, span_of_string(why));
}

/* 100 ms, 200 ms ... 5 s, each moved by up to half of it, so that nodes come back one by one. */
static uint64_t
back_off_ms(const struct redis_link *l)
{
	uint64_t ms = BACKOFF_MOST_MS;

	if (l->failures < 6)
		ms = (uint64_t)BACKOFF_FIRST_MS << l->failures;
	if (ms > BACKOFF_MOST_MS)
		ms = BACKOFF_MOST_MS;
	return ms / 2 + random_u64() % (ms + 1);
}

static void
wait_to_retry(struct redis_link *l)
{
	ASSERT(l->state == LINK_WAITING);
	timer_set(&l->worker->timers, &l->retry, l->worker->now_ms + back_off_ms(l));
	l->failures++;
}

void
link_failed(struct redis_link *l, struct span why)
{
	say_problem(l, why);
	wait_to_retry(l);
	if (l->events->on_failed != NULL)
		l->events->on_failed(l, l->context);
}

static void
answer_refused(struct redis_link *l)
{
	struct list now;
	struct list_node *n;

	list_init(&now);
	list_take_all(&now, &l->refused);
	while ((n = list_shift(&now)) != NULL) {
		struct redis_call *c = LIST_ITEM(n, struct redis_call, node);
		c->on_reply(c, ERR_AGAIN, NULL);
	}
}

/* What has not left whole was not executed: the server had no end of it to see. What its answers
 * make the callers send is refused. */
static void
answer_all(struct redis_link *l)
{
	struct list now;
	struct list_node *n;

	ASSERT(l->state == LINK_WAITING);
	list_init(&now);
	list_take_all(&now, &l->calls);
	l->call_count = 0;
	while ((n = list_shift(&now)) != NULL) {
		struct redis_call *c = LIST_ITEM(n, struct redis_call, node);
		bool left = c->ends_at <= l->handed;
		if (left)
			COUNT(l, REDIS_IN_DOUBT, 1);
		c->on_reply(c, left ? ERR_IN_DOUBT : ERR_AGAIN, NULL);
	}
}

static void
forget_connection(struct redis_link *l)
{
	link_drop_pieces(l);
	if (l->held != NULL)
		freeReplyObject(l->held);
	l->held = NULL;
	l->lent_call = NULL;
	if (l->reader != NULL)
		redisReaderFree(l->reader);
	l->reader = NULL;
	l->subscribed = false;
}

static void
on_closed(struct conn *c)
{
	struct redis_link *l = link_of(c);
	bool was_ready = l->was_ready;

	if (l->state != LINK_CLOSING) /* it closed by itself, for want of memory */
		say_problem(l, span_of_string(close_text((enum close_reason)c->reason)));
	if (l->worker->metrics != NULL)
		METRIC_ADD_LABEL(l->worker->metrics, CONNECTIONS_CLOSED, (unsigned)c->reason, 1);
	forget_connection(l);
	note_ready(l, false);
	l->state = LINK_WAITING;
	answer_all(l);
	if (was_ready && l->events->on_down != NULL)
		l->events->on_down(l, l->context);
	if (!was_ready && !l->ends && l->events->on_failed != NULL)
		l->events->on_failed(l, l->context);
	if (l->ends)
		worker_reap(l->worker, &l->end);
	else
		wait_to_retry(l);
}

/* ---- replies ---- */

/* How an error of the server begins, and what that says about the command. */
static const struct {
	struct span word;
	enum err meaning;
	bool moved; /* the map of servers is old */
} server_errors[] = {
	{ SPAN("MOVED"), ERR_AGAIN, true },      { SPAN("ASK"), ERR_AGAIN, true },
	{ SPAN("TRYAGAIN"), ERR_AGAIN, false },  { SPAN("CLUSTERDOWN"), ERR_AGAIN, true },
	{ SPAN("LOADING"), ERR_AGAIN, false },   { SPAN("BUSY"), ERR_AGAIN, false },
	{ SPAN("READONLY"), ERR_AGAIN, true },   { SPAN("MASTERDOWN"), ERR_AGAIN, false },
	{ SPAN("NOREPLICAS"), ERR_AGAIN, true }, { SPAN("EXECABORT"), ERR_AGAIN, false },
	{ SPAN("NOAUTH"), ERR_AGAIN, false },    { SPAN("OOM"), ERR_NO_ROOM, false },
	{ SPAN("MISCONF"), ERR_NO_ROOM, false },
};

static struct span
text_of(const struct redisReply *r)
{
	return span_of(r->str, r->len);
}

static enum err
error_of(const struct redisReply *reply, bool *moved)
{
	struct span text = text_of(reply);
	struct span word = span_first(text, span_find(text, ' ', 0));

	*moved = false;
	for (size_t i = 0; i < sizeof server_errors / sizeof server_errors[0]; i++) {
		if (!span_eq(word, server_errors[i].word))
			continue;
		*moved = server_errors[i].moved;
		return server_errors[i].meaning;
	}
	return ERR_PROTOCOL;
}

enum err
redis_reply_error(const struct redisReply *reply)
{
	bool moved;

	return reply->type == REDIS_REPLY_ERROR ? error_of(reply, &moved) : ERR_OK;
}

static bool
is_message(const struct redis_link *l, const struct redisReply *r)
{
	return l->subscribed && r->type == REDIS_REPLY_ARRAY && r->elements == 3 &&
	       r->element[0]->type == REDIS_REPLY_STRING &&
	       span_eq(text_of(r->element[0]), SPAN("message")) &&
	       r->element[1]->type == REDIS_REPLY_STRING &&
	       r->element[2]->type == REDIS_REPLY_STRING;
}

static struct redis_call *
first_call(const struct redis_link *l)
{
	struct list_node *n = list_first(&l->calls);

	return n == NULL ? NULL : LIST_ITEM(n, struct redis_call, node);
}

static void
answer_first(struct redis_link *l, const struct redisReply *reply)
{
	struct redis_call *c = first_call(l);
	enum err e = ERR_OK;
	bool moved = false;

	list_unlink(&c->node);
	l->call_count--;
	ASSERT(c->ends_at >= l->answered);
	l->answered = c->ends_at;
	if (reply->type == REDIS_REPLY_ERROR)
		e = error_of(reply, &moved);
	if (moved && l->events->on_moved != NULL)
		l->events->on_moved(l, l->context, text_of(reply));
	c->on_reply(c, e, reply);
}

/* False: it has to wait, and is kept. */
static bool
take_reply(struct redis_link *l, struct redisReply *r)
{
	struct redis_call *c = first_call(l);

	if (is_message(l, r)) {
		if (l->events->on_message != NULL)
			l->events->on_message(l, l->context, text_of(r->element[1]),
					      text_of(r->element[2]));
	} else if (c == NULL || c->ends_at > l->handed) {
		give_up_saying(l, CLOSE_PROTOCOL,
			       r->type == REDIS_REPLY_ERROR ? r->str
							    : "a reply that nobody asked for");
	} else if (c == l->lent_call) {
		/* The kernel has not given its body back yet, and on_reply would free it. */
		l->held = r;
		return false;
	} else {
		answer_first(l, r);
	}
	freeReplyObject(r);
	return true;
}

/* Reads replies of what was fed, as long as the link lasts. False: no more now. */
static bool
take_replies(struct redis_link *l)
{
	while (l->state != LINK_CLOSING && l->held == NULL) {
		void *reply = NULL;
		if (redisReaderGetReply(l->reader, &reply) != REDIS_OK) {
			give_up_saying(l, CLOSE_PROTOCOL, l->reader->errstr);
			return false;
		}
		if (reply == NULL)
			return true;
		if (!take_reply(l, reply))
			return false;
	}
	return false;
}

static void
move_deadline(struct redis_link *l)
{
	bool waits = l->call_count > 0 || l->state != LINK_READY;

	conn_deadline(&l->conn, waits ? l->worker->now_ms + l->options.deadline_ms : 0);
}

static void
on_input(struct conn *c)
{
	struct redis_link *l = link_of(c);

	if (!take_replies(l))
		return;
	for (;;) {
		struct span in = span_first(conn_input(c), FEED_MOST);
		if (in.size == 0)
			break;
		link_count_bytes(l, LABEL_DIRECTION_RECEIVED, in.size);
		if (redisReaderFeed(l->reader, (const char *)in.data, in.size) != REDIS_OK ||
		    l->reader->len > REPLY_MOST) {
			give_up_saying(l, CLOSE_NO_MEMORY, "a reply is too large");
			return;
		}
		conn_consume(c, in.size);
		if (!take_replies(l))
			return;
	}
	move_deadline(l);
	if (conn_peer_has_ended(c))
		give_up_saying(l, CLOSE_PEER_CLOSED, "it closed the connection");
	else
		conn_read_more(c);
}

static void
on_drained(struct conn *c)
{
	struct redis_link *l = link_of(c);
	struct redisReply *held = l->held;

	if (l->state == LINK_CLOSING)
		return;
	if (!conn_is_lending(c))
		l->lent_call = NULL;
	link_pump(l);
	move_deadline(l); /* a server that takes bytes is not silent */
	if (held == NULL || l->lent_call == first_call(l))
		return;
	l->held = NULL;
	if (take_reply(l, held))
		conn_run(c);
}

/* ---- the connection ---- */

static void
on_deadline(struct conn *c)
{
	struct redis_link *l = link_of(c);

	give_up_saying(l, CLOSE_TIMEOUT,
		       l->state == LINK_CONNECTING ? "no connection in time" : "no reply in time");
}

static void
on_lost(struct conn *c, enum err e)
{
	give_up_saying(link_of(c), CLOSE_RESET, err_text(e));
}

static void
on_connected(struct conn *c, enum err e)
{
	link_connected(link_of(c), e);
}

static void
on_secured(struct conn *c, enum err e)
{
	link_secured(link_of(c), e);
}

const struct conn_events link_conn_events = {
	.on_secured = on_secured,
	.on_connected = on_connected,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

static void
on_retry(struct timer *t)
{
	link_connect(CONTAINER_OF(t, struct redis_link, retry));
}

static void
on_start(struct task *t)
{
	link_connect(CONTAINER_OF(t, struct redis_link, start));
}

static void
on_refuse(struct task *t)
{
	answer_refused(CONTAINER_OF(t, struct redis_link, refuse));
}

static void
on_end(struct task *t)
{
	struct redis_link *l = CONTAINER_OF(t, struct redis_link, end);
	void (*on_ended)(void *) = l->on_ended;
	void *context = l->ended_context;

	answer_refused(l);
	if (!list_is_empty(&l->refused)) { /* somebody asks again at once */
		worker_reap(l->worker, t);
		return;
	}
	ASSERT(l->state == LINK_WAITING && list_is_empty(&l->calls));
	ASSERT(!timer_is_set(&l->retry));
	task_cancel(&l->refuse);
	OBJ_FINI(l, REDIS_LINK_MAGIC);
	free(l);
	on_ended(context);
}

/* ---- the owner's calls ---- */

static bool
are_addresses(const struct redis_link_options *options)
{
	struct server_address a;

	for (unsigned i = 0; i < options->server_count; i++) {
		if (!server_address_parse(options->servers[i], &a))
			return false;
	}
	return true;
}

struct redis_link *
redis_link_new(struct worker *w, const struct redis_link_options *options,
	       const struct redis_link_events *events, void *context)
{
	struct redis_link *l = calloc(1, sizeof *l);

	ASSERT(options->deadline_ms > 0 && options->server_count > 0);
	if (l == NULL || !are_addresses(options)) {
		free(l);
		return NULL;
	}
	OBJ_INIT(l, REDIS_LINK_MAGIC);
	l->state = LINK_WAITING;
	l->worker = w;
	l->options = *options;
	l->events = events;
	l->context = context;
	l->problem = buf_of(l->problem_memory, sizeof l->problem_memory);
	list_init(&l->calls);
	list_init(&l->refused);
	list_init(&l->pieces);
	timer_init(&l->retry, on_retry);
	task_init(&l->refuse, on_refuse);
	task_init(&l->start, on_start);
	task_init(&l->end, on_end);
	worker_soon(w, &l->start);
	return l;
}

void
redis_link_close(struct redis_link *l, void (*on_ended)(void *context), void *context)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	ASSERT(!l->ends);
	l->ends = true;
	l->on_ended = on_ended;
	l->ended_context = context;
	task_cancel(&l->start);
	timer_stop(&l->worker->timers, &l->retry);
	if (l->state == LINK_RESOLVING) {
		mx_lookup_cancel(&l->lookup);
		l->state = LINK_WAITING;
	}
	if (l->state == LINK_WAITING)
		worker_reap(l->worker, &l->end);
	else
		give_up_saying(l, CLOSE_SHUTDOWN, close_text(CLOSE_SHUTDOWN));
}

bool
redis_link_is_ready(const struct redis_link *l)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	return l->state == LINK_READY;
}

bool
redis_link_is_full(const struct redis_link *l)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	return l->call_count >= REDIS_CALLS_MOST || l->made - l->answered >= REDIS_BYTES_MOST;
}

uint64_t
redis_link_ready_since_ms(const struct redis_link *l)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	return l->state == LINK_READY ? l->ready_since_ms : 0;
}

struct span
redis_link_server(const struct redis_link *l)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	return l->options.servers[l->turn];
}

struct span
redis_link_problem(const struct redis_link *l)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	return buf_span(&l->problem);
}

void
redis_link_ready(struct redis_link *l)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	if (l->state != LINK_SETUP)
		return;
	l->state = LINK_READY;
	l->ready_since_ms = l->worker->now_ms;
	l->failures = 0;
	note_ready(l, true);
	move_deadline(l);
}

void
redis_link_reject(struct redis_link *l, struct span why)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	link_give_up(l, CLOSE_REJECTED, why);
}
