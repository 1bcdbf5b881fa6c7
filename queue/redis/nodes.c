/* SPDX-License-Identifier: Apache-2.0
 *
 * The nodes that share the store: the row that each keeps of itself in shard 0, who there is, and
 * draining.
 *
 * Worker 0 writes the row as often as leases are renewed, and the answer says whether an operator
 * wants this node drained; who gives the order also tells it by the channel of wakes, so that it is
 * followed at once, and at the next writing where that was lost. A node that drains takes no mail
 * in and claims none, its relay starts no delivery (hooks.on_drain), and all that is not in
 * delivery goes back to Redis. When all workers are quiet, which lasts, since nothing comes any
 * more, whatever the incarnation still owns goes back too (rp_retire), for there may be mails of
 * which it never heard.
 */
#include <stdlib.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum { ROW_MOST = 1024, ROW_LINES = 4, TEXTS_MOST = 1024 * 1024, RETIRE_MOST = 1024 };

struct redis_nodes {
	struct redis_end *end;
	struct redis_call write;
	struct redis_call retire;
	struct timer timer;
	bool writing, again; /* again: something has changed meanwhile */
	bool retiring;
	bool is_empty; /* drained, and nothing is left in Redis either */
	unsigned retire_shard;
};

/* ---- the row ---- */

/* One line of the row. */
static void
write_line(struct buf *out, struct span text)
{
	buf_append_byte(out, '\n');
	for (size_t i = 0; i < text.size; i++)
		buf_append_byte(out, text.data[i] == '\n' ? ' ' : text.data[i]);
}

static void
write_row(const struct redis_nodes *n, struct buf *out)
{
	const struct redis_store *s = n->end->store;
	bool drains = atomic_load(&s->drains);

	buf_append_string(out, !drains ? "up" : n->is_empty ? "drained" : "draining");
	write_line(out, s->redis.node);
	write_line(out, SPAN(RINGPOST_VERSION));
	write_line(out, s->redis.listeners);
	ASSERT(!out->overflow);
}

/* What the operator wants. While what is left is given back nothing may come. */
static void
follow(struct redis_nodes *n, bool drains)
{
	struct redis_store *s = n->end->store;

	if (n->retiring || drains == atomic_load(&s->drains))
		return;
	n->is_empty = false;
	atomic_store(&s->drains, drains);
	report_drains(n->end, drains ? "draining" : "up");
	drain_look(n->end);
	n->again = true; /* the row says so */
}

static void
on_written(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_nodes *n = CONTAINER_OF(c, struct redis_nodes, write);
	int64_t drains;

	n->writing = false;
	n->end->calls_open--;
	if (n->end->stopping)
		return;
	if (error == ERR_OK && redis_number(redis_at(reply, 1), &drains))
		follow(n, drains == 1);
	if (n->again)
		nodes_write(n->end);
}

void
nodes_write(struct redis_end *e)
{
	struct redis_nodes *n = e->nodes;
	struct redis_link *link =
		n == NULL || e->stopping ? NULL : redis_servers_link(e->servers, 0);
	uint8_t memory[ROW_MOST];
	struct buf row = buf_of(memory, sizeof memory);

	if (n != NULL && n->writing)
		n->again = true;
	if (link == NULL || n->writing || !args_begin(e, "rp_node", 0, 3, 32))
		return; /* the timer comes again, and so does on_up */
	n->again = false;
	n->writing = true;
	write_row(n, &row);
	args_incarnation(e);
	args_number(e, e->store->redis.lease_ms);
	args_span(e, buf_span(&row));
	args_send(e, link, &n->write);
}

static void
on_time(struct timer *t)
{
	struct redis_nodes *n = CONTAINER_OF(t, struct redis_nodes, timer);
	struct worker *w = n->end->queue.worker;

	nodes_write(n->end);
	timer_set(&w->timers, t, w->now_ms + n->end->store->redis.lease_ms / REDIS_LEASE_PARTS);
}

bool
nodes_init(struct redis_end *e)
{
	if (e->queue.worker->number != 0)
		return true;
	e->nodes = calloc(1, sizeof *e->nodes);
	if (e->nodes == NULL)
		return false;
	e->nodes->end = e;
	e->nodes->write.on_reply = on_written;
	timer_init(&e->nodes->timer, on_time);
	return true;
}

void
nodes_start(struct redis_end *e)
{
	if (e->nodes != NULL)
		on_time(&e->nodes->timer);
}

void
nodes_stop(struct redis_end *e)
{
	if (e->nodes != NULL)
		timer_stop(&e->queue.worker->timers, &e->nodes->timer);
}

bool
nodes_forget(struct redis_end *e, struct redis_call *c)
{
	struct redis_link *link = redis_servers_link(e->servers, 0);

	if (link == NULL || !args_begin(e, "rp_node_stops", 0, 1, 0))
		return false;
	args_incarnation(e);
	args_send(e, link, c);
	return true;
}

/* ---- draining ---- */

static void on_retired(struct redis_call *c, enum err error, const struct redisReply *reply);

/* One shard after the other, each until nothing of it is ours. */
static void
retire_next(struct redis_nodes *n)
{
	struct redis_end *e = n->end;
	struct redis_link *link = NULL;

	if (n->retire_shard < e->store->redis.shards)
		link = redis_servers_link(e->servers, n->retire_shard);
	n->is_empty = n->retire_shard == e->store->redis.shards;
	n->retiring =
		link != NULL && !e->stopping && args_begin(e, "rp_retire", n->retire_shard, 2, 32);
	if (n->is_empty)
		report_drains(e, "drained");
	if (!n->retiring) {
		nodes_write(e); /* what has not come to its end begins again */
		return;
	}
	n->retire = (struct redis_call){ .on_reply = on_retired };
	args_incarnation(e);
	args_number(e, RETIRE_MOST);
	args_send(e, link, &n->retire);
}

static void
on_retired(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_nodes *n = CONTAINER_OF(c, struct redis_nodes, retire);
	int64_t left = 0;

	n->end->calls_open--;
	if (error != ERR_OK || !redis_number(reply, &left)) {
		n->retiring = false; /* the next look begins again */
		return;
	}
	n->retire_shard += left == 0;
	retire_next(n);
}

/* All ends are, and stay so. */
static void
look_whether_empty(struct redis_nodes *n)
{
	struct redis_store *s = n->end->store;

	if (n->retiring || n->is_empty)
		return;
	for (unsigned i = 0; i < s->store.worker_count; i++) {
		if (!atomic_load(&s->ends[i].is_quiet))
			return;
	}
	n->retire_shard = 0;
	retire_next(n);
}

/* Is there nothing here, and can nothing come? */
static bool
end_is_quiet(const struct redis_end *e)
{
	unsigned step = e->queue.worker->count;

	for (unsigned i = e->queue.worker->number; i < e->store->redis.shards; i += step) {
		enum redis_asking asking = e->shards[i].asking;
		if (asking == ASKING_CLAIM || asking == ASKING_TAKE)
			return false;
	}
	return e->drains && e->mail_count == 0 && e->drafts_open == 0 && reconcile_is_idle(e);
}

void
drain_look(struct redis_end *e)
{
	const struct queue_hooks *hooks = &e->store->store.hooks;
	bool drains = atomic_load(&e->store->drains);
	bool has_changed = drains != e->drains;

	e->drains = drains;
	if (has_changed && hooks->on_drain != NULL)
		hooks->on_drain(&e->queue, drains);
	if (has_changed && drains)
		leaves_look(e);
	else if (has_changed)
		fetch_up(e);
	atomic_store(&e->is_quiet, end_is_quiet(e));
	if (drains && e->nodes != NULL)
		look_whether_empty(e->nodes);
}

/* ---- wakes ---- */

struct tell {
	struct redis_call call;
	struct redis_end *end;
};

static void
on_told(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct tell *t = CONTAINER_OF(c, struct tell, call);

	(void)error; /* others look by themselves, later */
	(void)reply;
	t->end->calls_open--;
	free(t);
}

void
drain_wakes(struct redis_end *e, unsigned shard)
{
	struct redis_link *link = redis_servers_link(e->servers, shard);
	struct tell *t = !e->drains || link == NULL ? NULL : calloc(1, sizeof *t);
	uint8_t memory[REDIS_PREFIX_MOST + 16];
	struct buf channel = buf_of(memory, sizeof memory);

	if (t == NULL || !args_begin(e, NULL, 0, 3, 16)) {
		free(t);
		return;
	}
	*t = (struct tell){ .call = { .on_reply = on_told }, .end = e };
	buf_printf(&channel, "{%.*s}:wake", SPAN_ARG(e->store->redis.prefix));
	args_span(e, SPAN("PUBLISH"));
	args_span(e, buf_span(&channel));
	args_number(e, shard);
	args_send(e, link, &t->call);
}

/* ---- orders ---- */

struct order {
	struct redis_call call;
	struct redis_end *end;
	struct queue_order *order;
};

static void
order_done(struct redis_end *e, struct queue_request *r)
{
	struct queue_order *o = CONTAINER_OF(r, struct queue_order, request);

	(void)e;
	o->on_done(o, r->error);
}

static const struct queue_request_kind order_kind = { order_done };

static void
on_ordered(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct order *w = CONTAINER_OF(c, struct order, call);
	struct queue_order *o = w->order;

	w->end->calls_open--;
	if (error != ERR_OK)
		error = error == ERR_IN_DOUBT ? ERR_IN_DOUBT : ERR_AWAY;
	else if (span_eq(redis_text(reply), SPAN("NONE")))
		error = ERR_NOT_FOUND;
	free(w);
	o->on_done(o, error);
}

void
redis_order(struct queue *q, struct queue_order *o)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_link *link = e->stopping ? NULL : redis_servers_link(e->servers, 0);
	struct order *w = link == NULL ? NULL : calloc(1, sizeof *w);

	if (w == NULL || !args_begin(e, "rp_drain", 0, 2, 0)) {
		free(w);
		finish_later(e, &o->request, &order_kind,
			     e->stopping ? ERR_SHUTTING_DOWN : ERR_AWAY);
		return;
	}
	*w = (struct order){ .call = { .on_reply = on_ordered }, .end = e, .order = o };
	args_span(e, o->incarnation);
	args_span(e, o->drains ? SPAN("1") : SPAN("0"));
	args_send(e, link, &w->call);
}

/* ---- who there is ---- */

struct owners_call {
	struct redis_call call;
	struct listing *listing;
};

/* One answer for the rows, one for each shard about who owns how much of it. */
struct listing {
	struct redis_call call;
	struct redis_end *end;
	struct queue_nodes *request;
	enum err error;
	unsigned open;
	unsigned count, capacity;
	struct queue_node *nodes;
	struct arena texts;
	struct owners_call shards[];
};

static void
listing_done(struct redis_end *e, struct queue_request *r)
{
	struct queue_nodes *n = CONTAINER_OF(r, struct queue_nodes, request);

	(void)e;
	n->nodes = NULL;
	n->count = 0;
	n->on_done(n, r->error);
}

static const struct queue_request_kind listing_kind = { listing_done };

/* Finds or makes the row; NULL: no memory. */
static struct queue_node *
node_of(struct listing *l, struct span incarnation)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (span_eq(l->nodes[i].incarnation, incarnation))
			return &l->nodes[i];
	}
	if (l->count == l->capacity) {
		unsigned capacity = l->capacity == 0 ? 16 : 2 * l->capacity;
		struct queue_node *more = realloc(l->nodes, capacity * sizeof *more);
		if (more == NULL)
			return NULL;
		l->nodes = more;
		l->capacity = capacity;
	}
	struct span copy = arena_copy(&l->texts, incarnation);
	if (copy.data == NULL)
		return NULL;
	l->nodes[l->count] = (struct queue_node){
		.incarnation = copy,
		.state = QUEUE_NODE_DEAD,
		.is_this = span_eq(copy, span_of((uint8_t *)l->end->store->incarnation,
						 REDIS_INCARNATION_SIZE)),
	};
	return &l->nodes[l->count++];
}

/* "STATE\nNAME\nVERSION\nLISTENERS" */
static bool
read_text(struct listing *l, struct queue_node *n, struct span text, bool drains)
{
	struct span lines[ROW_LINES];
	struct span rest = arena_copy(&l->texts, text);

	if (rest.data == NULL)
		return false;
	for (unsigned i = 0; i < ROW_LINES; i++) {
		size_t end = span_find(rest, '\n', 0);
		lines[i] = span_first(rest, end);
		rest = span_after(rest, end < rest.size ? end + 1 : end);
	}
	n->name = lines[1];
	n->version = lines[2];
	n->listeners = lines[3];
	n->state = span_eq(lines[0], SPAN("drained"))              ? QUEUE_NODE_DRAINED
		   : drains || span_eq(lines[0], SPAN("draining")) ? QUEUE_NODE_DRAINING
								   : QUEUE_NODE_UP;
	return true;
}

/* {inc, since, seen, lease_ms, text, 1 where it is to drain} */
static enum err
take_row(struct listing *l, const struct redisReply *row, int64_t now_ms)
{
	int64_t since_ms, seen_ms, lease_ms, drains;
	struct span incarnation = redis_text(redis_at(row, 0));

	if (incarnation.size != REDIS_INCARNATION_SIZE ||
	    !redis_number(redis_at(row, 1), &since_ms) ||
	    !redis_number(redis_at(row, 2), &seen_ms) ||
	    !redis_number(redis_at(row, 3), &lease_ms) || !redis_number(redis_at(row, 5), &drains))
		return ERR_OK; /* of another version */
	struct queue_node *n = node_of(l, incarnation);
	if (n == NULL || !read_text(l, n, redis_text(redis_at(row, 4)), drains == 1))
		return ERR_NO_MEMORY;
	n->since_ms = to_wall_ms(l->end, (uint64_t)since_ms);
	n->seen_ms = to_wall_ms(l->end, (uint64_t)seen_ms);
	if (seen_ms + lease_ms <= now_ms)
		n->state = QUEUE_NODE_DEAD;
	return ERR_OK;
}

static int
by_name(const void *left, const void *right)
{
	const struct queue_node *a = left;
	const struct queue_node *b = right;
	size_t size = a->name.size < b->name.size ? a->name.size : b->name.size;
	int order = size == 0 ? 0 : memcmp(a->name.data, b->name.data, size);

	if (order == 0 && a->name.size != b->name.size)
		order = a->name.size < b->name.size ? -1 : 1;
	return order != 0 ? order : a->since_ms < b->since_ms ? -1 : a->since_ms > b->since_ms;
}

static bool
has_successor(const struct listing *l, const struct queue_node *n)
{
	for (unsigned i = 0; i < l->count; i++) {
		const struct queue_node *other = &l->nodes[i];
		if (other != n && span_eq(other->name, n->name) && other->state != QUEUE_NODE_DEAD)
			return true;
	}
	return false;
}

/* Of those that are dead only who is missed, or missing: with mails, or without one of its name. */
static void
drop_replaced(struct listing *l)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < l->count; i++) {
		struct queue_node *n = &l->nodes[i];
		bool is_over = n->state == QUEUE_NODE_DEAD && n->mails == 0 &&
			       (n->name.size == 0 || has_successor(l, n));
		if (!is_over)
			l->nodes[kept++] = *n;
	}
	l->count = kept;
}

static void
listing_ends(struct listing *l)
{
	struct queue_nodes *n = l->request;

	if (l->error == ERR_OK)
		drop_replaced(l);
	if (l->error == ERR_OK && l->count > 1)
		qsort(l->nodes, l->count, sizeof *l->nodes, by_name);
	n->nodes = l->nodes;
	n->count = l->error == ERR_OK ? l->count : 0;
	n->on_done(n, l->error);
	arena_reset(&l->texts);
	free(l->nodes);
	free(l);
}

static void
answered(struct listing *l, enum err error)
{
	l->end->calls_open--;
	if (l->error == ERR_OK)
		l->error = error;
	if (--l->open == 0)
		listing_ends(l);
}

static void
on_rows(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct listing *l = CONTAINER_OF(c, struct listing, call);
	int64_t now_ms = 0;

	if (error == ERR_OK && redis_number(redis_at(reply, 0), &now_ms)) {
		for (size_t i = 1; i < reply->elements && error == ERR_OK; i++)
			error = take_row(l, reply->element[i], now_ms);
	} else {
		error = ERR_AWAY;
	}
	answered(l, error);
}

static void
on_owners(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct listing *l = CONTAINER_OF(c, struct owners_call, call)->listing;
	size_t count = error == ERR_OK && reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;

	error = error == ERR_OK ? ERR_OK : ERR_AWAY;
	for (size_t i = 0; i < count && error == ERR_OK; i++) {
		struct span incarnation = redis_text(redis_at(reply->element[i], 0));
		int64_t mails;
		if (incarnation.size != REDIS_INCARNATION_SIZE ||
		    !redis_number(redis_at(reply->element[i], 1), &mails))
			continue;
		struct queue_node *n = node_of(l, incarnation);
		if (n == NULL)
			error = ERR_NO_MEMORY;
		else
			n->mails += (uint64_t)mails;
	}
	answered(l, error);
}

/* False: it is away. Those that were sent are answered all the same. */
static bool
send_listing(struct listing *l)
{
	struct redis_end *e = l->end;
	struct redis_link *link = redis_servers_link(e->servers, 0);

	if (link == NULL || !args_begin(e, "rp_nodes", 0, 0, 0))
		return false;
	args_send(e, link, &l->call);
	l->open++;
	for (unsigned i = 0; i < e->store->redis.shards; i++) {
		link = redis_servers_link(e->servers, i);
		if (link == NULL || !args_begin(e, "rp_owners", i, 0, 0))
			return false;
		l->shards[i] = (struct owners_call){ { .on_reply = on_owners }, l };
		args_send(e, link, &l->shards[i].call);
		l->open++;
	}
	return true;
}

void
redis_nodes(struct queue *q, struct queue_nodes *n)
{
	struct redis_end *e = redis_end_of(q);
	size_t size = e->store->redis.shards * sizeof(struct owners_call);
	struct listing *l = e->stopping ? NULL : calloc(1, sizeof *l + size);
	enum err error = e->stopping ? ERR_SHUTTING_DOWN : ERR_NO_MEMORY;

	if (l != NULL) {
		l->end = e;
		l->request = n;
		l->call.on_reply = on_rows;
		arena_init(&l->texts, ROW_MOST, TEXTS_MOST);
		if (!send_listing(l))
			l->error = ERR_AWAY;
		if (l->open > 0)
			return;
		arena_reset(&l->texts);
		free(l);
		error = ERR_AWAY;
	}
	finish_later(e, &n->request, &listing_kind, error);
}
