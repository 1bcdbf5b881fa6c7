/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/redis/servers.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/redis/cluster.h"
#include "queue/redis/servers_parts.h"

/* ---- nodes and shards ---- */

struct redis_link_options
servers_link_options(const struct redis_servers *s)
{
	return (struct redis_link_options){
		.user = s->options->user,
		.password = s->options->password,
		.database = s->options->database,
		.tls = s->options->tls,
		.trust = s->options->trust,
		.deadline_ms = s->options->deadline_ms,
	};
}

struct redis_node *
servers_node(struct redis_servers *s, struct span name)
{
	for (struct list_node *at = list_first(&s->nodes); at != NULL;
	     at = list_next(&s->nodes, at)) {
		struct redis_node *n = LIST_ITEM(at, struct redis_node, node);
		if (n->link != NULL && span_eq(n->name, name))
			return n;
	}
	return s->node_count < NODES_MOST ? node_new(s, name) : NULL;
}

void
servers_move(struct redis_servers *s, unsigned shard, struct redis_node *to)
{
	struct redis_node *from = s->homes[shard];

	ASSERT(shard < s->options->shards);
	if (from != NULL)
		from->shards--;
	if (to != NULL)
		to->shards++;
	s->homes[shard] = to;
}

void
servers_sweep(struct redis_servers *s)
{
	struct list_node *next;

	for (struct list_node *at = list_first(&s->nodes); at != NULL; at = next) {
		struct redis_node *n = LIST_ITEM(at, struct redis_node, node);
		next = list_next(&s->nodes, at);
		if (n->shards == 0)
			node_close(n);
	}
	servers_note_problem(s);
}

/* "redis SERVER: PROBLEM", where the problem does not begin so by itself. */
static void
say(struct buf *out, struct span server, struct span problem)
{
	if (!span_starts_with(problem, SPAN("redis "))) {
		buf_printf(out, "redis %.*s: ", SPAN_ARG(server));
		problem = problem.size == 0 ? SPAN("not connected yet") : problem;
	}
	buf_append(out, problem);
}

void
servers_note_problem(struct redis_servers *s)
{
	buf_reset(&s->problem);
	for (unsigned i = 0; i < s->options->shards && s->problem.size == 0; i++) {
		const struct redis_node *n = s->homes[i];
		if (n != NULL && n->link != NULL && !redis_link_is_ready(n->link)) {
			say(&s->problem, n->name, redis_link_problem(n->link));
		} else if (n == NULL && s->guide.link != NULL &&
			   !redis_link_is_ready(s->guide.link)) {
			say(&s->problem, redis_link_server(s->guide.link), guide_problem(s));
		} else if (n == NULL) {
			buf_append(&s->problem, SPAN("no redis has the slot of shard "));
			buf_append_number(&s->problem, i);
		}
	}
}

/* ---- the end ---- */

/* Nothing of it is in use any more: its links have ended, and nobody is inside of it. */
static void
on_end(struct task *t)
{
	struct redis_servers *s = CONTAINER_OF(t, struct redis_servers, end);
	void (*on_closed)(void *) = s->on_closed;
	void *context = s->closed_context;

	ASSERT(s->ends && s->open == 0 && list_is_empty(&s->nodes));
	OBJ_FINI(s, REDIS_SERVERS_MAGIC);
	free(s->guide.slots);
	free(s->homes);
	free(s);
	on_closed(context);
}

void
servers_link_ended(void *context)
{
	struct redis_servers *s = context;

	OBJ_CHECK(s, REDIS_SERVERS_MAGIC);
	ASSERT(s->open > 0);
	if (--s->open == 0 && s->ends)
		worker_reap(s->worker, &s->end);
}

void
redis_servers_close(struct redis_servers *s, void (*on_closed)(void *context), void *context)
{
	struct list_node *next;

	OBJ_CHECK(s, REDIS_SERVERS_MAGIC);
	ASSERT(!s->ends);
	s->ends = true;
	s->on_closed = on_closed;
	s->closed_context = context;
	for (struct list_node *at = list_first(&s->nodes); at != NULL; at = next) {
		next = list_next(&s->nodes, at);
		node_close(LIST_ITEM(at, struct redis_node, node));
	}
	ear_close(s);
	guide_close(s);
	if (s->open == 0)
		worker_reap(s->worker, &s->end);
}

/* ---- the beginning ---- */

static bool
make_channel(struct redis_servers *s)
{
	struct buf channel = buf_of(s->channel_memory, sizeof s->channel_memory);

	buf_printf(&channel, "{%.*s}:wake", SPAN_ARG(s->options->prefix));
	s->channel = buf_span(&channel);
	return !channel.overflow;
}

/* One server has all shards, and has them for ever. */
static bool
begin_single(struct redis_servers *s)
{
	struct redis_node *n = servers_node(s, s->options->addresses[0]);

	for (unsigned i = 0; n != NULL && i < s->options->shards; i++)
		servers_move(s, i, n);
	return n != NULL && (!s->listens || ear_open(s, s->options->addresses, 1));
}

static bool
find_slots(struct redis_servers *s)
{
	uint8_t memory[SERVER_ADDRESS_MOST];

	s->guide.slots = calloc(s->options->shards, sizeof *s->guide.slots);
	for (unsigned i = 0; s->guide.slots != NULL && i < s->options->shards; i++) {
		struct buf tag = buf_of(memory, sizeof memory);
		buf_printf(&tag, "{%.*s:%u}", SPAN_ARG(s->options->prefix), i);
		s->guide.slots[i] = (uint16_t)cluster_slot(buf_span(&tag));
	}
	return s->guide.slots != NULL;
}

static bool
begin(struct redis_servers *s)
{
	switch (s->options->kind) {
	case REDIS_SINGLE:
		return begin_single(s);
	case REDIS_SENTINEL:
		return guide_open(s);
	case REDIS_CLUSTER:
		return find_slots(s) && guide_open(s) &&
		       (!s->listens ||
			ear_open(s, s->options->addresses, s->options->address_count));
	}
	return false;
}

static void
on_never_begun(void *context)
{
	(void)context;
}

struct redis_servers *
redis_servers_new(struct worker *w, const struct redis_options *options, bool listens,
		  const struct redis_servers_events *events, void *context)
{
	struct redis_servers *s = calloc(1, sizeof *s);

	ASSERT(options->address_count > 0 && options->shards > 0);
	if (s == NULL)
		return NULL;
	OBJ_INIT(s, REDIS_SERVERS_MAGIC);
	s->worker = w;
	s->options = options;
	s->events = events;
	s->context = context;
	s->listens = listens;
	s->problem = buf_of(s->problem_memory, sizeof s->problem_memory);
	list_init(&s->nodes);
	task_init(&s->end, on_end);
	ear_init(s);
	s->homes = calloc(options->shards, sizeof(struct redis_node *));
	if (s->homes == NULL || !make_channel(s)) {
		free(s->homes);
		free(s);
		return NULL;
	}
	if (!begin(s)) {
		redis_servers_close(s, on_never_begun, NULL);
		return NULL;
	}
	servers_note_problem(s);
	return s;
}

/* ---- the owner's calls ---- */

struct redis_link *
redis_servers_link(struct redis_servers *s, unsigned shard)
{
	OBJ_CHECK(s, REDIS_SERVERS_MAGIC);
	ASSERT(shard < s->options->shards);
	const struct redis_node *n = s->homes[shard];
	if (s->ends || n == NULL || n->link == NULL || !redis_link_is_ready(n->link))
		return NULL;
	return n->link;
}

uint64_t
redis_servers_run(const struct redis_servers *s, unsigned shard)
{
	const struct redis_node *n = s->homes[shard];

	return n == NULL ? 0 : n->setup.facts.run;
}

struct span
redis_servers_problem(const struct redis_servers *s)
{
	OBJ_CHECK(s, REDIS_SERVERS_MAGIC);
	return buf_span(&s->problem);
}
