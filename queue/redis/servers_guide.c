/* SPDX-License-Identifier: Apache-2.0
 *
 * The link to who knows where the shards are: a Sentinel, or any node of a Cluster. It goes from
 * one of those in the configuration to the next as they fail.
 *
 * A Sentinel is asked for the master when the link begins, and tells of each new one from then on;
 * both in one flight, so that nothing is missed between. Whoever doubts what it said (the master is
 * away, is none any more, or has no replicas) has the link begin anew, at the next Sentinel: the
 * one before may be on the wrong side of a broken network.
 *
 * A Cluster's map is asked for at the beginning, in doubt, and now and then; a MOVED says of one
 * slot at once where it is.
 */
#include "core/base/assert.h"
#include "core/log.h"
#include "queue/redis/cluster.h"
#include "queue/redis/servers_parts.h"

enum {
	DOUBT_PAUSE_MS = 1000, /* a Sentinel is left at most so often */
	MAP_PAUSE_MS = 100,    /* a map is asked for at most so often */
	MAP_TIME_MS = 30 * 1000,
};

static struct redis_servers *
servers_of(struct redis_guide *g)
{
	return CONTAINER_OF(g, struct redis_servers, guide);
}

static struct span
text_of(const struct redisReply *r)
{
	bool has_text =
		r != NULL && (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS ||
			      r->type == REDIS_REPLY_ERROR);

	return has_text ? span_of(r->str, r->len) : span_none();
}

/* Whom nobody can use for what is asked of him. */
static void
leave(struct redis_servers *s, const char *what, struct span details)
{
	uint8_t memory[SERVERS_PROBLEM_MOST];
	struct buf why = buf_of(memory, sizeof memory);
	struct span server = redis_link_server(s->guide.link);

	buf_printf(&why, "redis %.*s %s", SPAN_ARG(server), what);
	if (details.size > 0) {
		buf_append(&why, SPAN(": "));
		buf_append(&why, span_first(details, 200));
	}
	redis_link_reject(s->guide.link, buf_span(&why));
}

/* Shards have moved: who is there already can be used at once. */
static void
tell_moved(struct redis_servers *s, bool any_is_ready)
{
	servers_sweep(s);
	if (any_is_ready && !s->ends)
		s->events->on_up(s, s->context);
}

/* ---- Sentinel ---- */

static void
use_master(struct redis_servers *s, struct span host, uint64_t port)
{
	uint8_t memory[SERVER_ADDRESS_MOST];
	struct buf name = buf_of(memory, sizeof memory);
	struct server_address a;
	struct redis_node *n = NULL;

	if (port > 0 && port <= UINT16_MAX && server_address_show(host, (uint16_t)port, &name) &&
	    server_address_parse(buf_span(&name), &a))
		n = servers_node(s, buf_span(&name));
	if (n == NULL) {
		leave(s, "names a master that is none", buf_span(&name));
		return;
	}
	if (s->homes[0] == n)
		return;
	for (unsigned i = 0; i < s->options->shards; i++)
		servers_move(s, i, n);
	if (s->listens)
		ear_follow(s, n->name);
	tell_moved(s, redis_link_is_ready(n->link));
}

static void
on_master(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_servers *s = servers_of(CONTAINER_OF(c, struct redis_guide, ask));
	uint64_t port;

	if (s->guide.link == NULL || reply == NULL)
		return;
	if (e != ERR_OK)
		leave(s, "does not say who is the master", text_of(reply));
	else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
		 span_to_u64(text_of(reply->element[1]), &port))
		use_master(s, text_of(reply->element[0]), port);
	else
		leave(s, "knows no master of this name (queue.redis.master)",
		      s->options->master_name);
}

static void
on_subscribed(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_servers *s = servers_of(CONTAINER_OF(c, struct redis_guide, subscribe));

	if (s->guide.link == NULL || reply == NULL)
		return;
	if (e != ERR_OK) {
		leave(s, "does not tell of new masters", text_of(reply));
		return;
	}
	redis_link_ready(s->guide.link);
	timer_set(&s->worker->timers, &s->guide.timer, s->worker->now_ms + EAR_PING_MS);
}

static void
ask_sentinel(struct redis_servers *s)
{
	s->guide.ask = (struct redis_call){ .on_reply = on_master };
	redis_send(s->guide.link, &s->guide.ask,
		   (struct span[]){ SPAN("SENTINEL"), SPAN("GET-MASTER-ADDR-BY-NAME"),
				    s->options->master_name },
		   3);
	s->guide.subscribe = (struct redis_call){ .on_reply = on_subscribed };
	redis_send(s->guide.link, &s->guide.subscribe,
		   (struct span[]){ SPAN("SUBSCRIBE"), SPAN("+switch-master") }, 2);
}

static struct span
next_word(struct span *text)
{
	size_t blank = span_find(*text, ' ', 0);
	struct span word = span_first(*text, blank);

	*text = span_after(*text, blank + 1);
	return word;
}

/* "+switch-master": NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT */
static void
on_message(struct redis_link *l, void *context, struct span channel, struct span message)
{
	struct redis_servers *s = context;
	uint64_t port;

	(void)l;
	if (s->ends || !span_eq(channel, SPAN("+switch-master")) ||
	    !span_eq(next_word(&message), s->options->master_name))
		return;
	next_word(&message);
	next_word(&message);
	struct span host = next_word(&message);
	if (span_to_u64(message, &port))
		use_master(s, host, port);
}

/* Nothing else would tell that it is gone. */
static void
on_pinged(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	(void)e;
	(void)reply;
	CONTAINER_OF(c, struct redis_guide, ping)->ping_under_way = false;
}

static void
ping_sentinel(struct redis_servers *s)
{
	if (!redis_link_is_ready(s->guide.link) || s->guide.ping_under_way)
		return;
	s->guide.ping_under_way = true;
	s->guide.ping = (struct redis_call){ .on_reply = on_pinged };
	redis_send(s->guide.link, &s->guide.ping, (struct span[]){ SPAN("PING") }, 1);
	timer_set(&s->worker->timers, &s->guide.timer, s->worker->now_ms + EAR_PING_MS);
}

static void
doubt_sentinel(struct redis_servers *s)
{
	if (!redis_link_is_ready(s->guide.link) ||
	    s->worker->now_ms < redis_link_ready_since_ms(s->guide.link) + DOUBT_PAUSE_MS)
		return;
	redis_link_reject(s->guide.link, SPAN("asked again"));
}

/* ---- Cluster ---- */

static void
use_map(struct redis_servers *s, const struct redisReply *map, struct span asked)
{
	uint8_t memory[SERVER_ADDRESS_MOST];
	bool any_is_ready = false;

	for (unsigned i = 0; i < s->options->shards; i++) {
		struct buf name = buf_of(memory, sizeof memory);
		struct redis_node *n = NULL;
		if (cluster_master(map, s->guide.slots[i], asked, &name))
			n = servers_node(s, buf_span(&name));
		if (n == s->homes[i])
			continue;
		servers_move(s, i, n);
		any_is_ready |= n != NULL && redis_link_is_ready(n->link);
	}
	tell_moved(s, any_is_ready);
}

static void
on_map(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_guide *g = CONTAINER_OF(c, struct redis_guide, ask);
	struct redis_servers *s = servers_of(g);

	g->asking = false;
	if (g->link == NULL)
		return;
	/* Asked of a node where the guide was away: what came of it is seen by its node. */
	if (reply == NULL || (e != ERR_OK && redis_link_is_ready(g->link)))
		return;
	if (e != ERR_OK || !cluster_is_map(reply)) {
		leave(s, "does not say who has which slot (CLUSTER SLOTS)", text_of(reply));
		return;
	}
	use_map(s, reply, g->asked);
	redis_link_ready(g->link);
	timer_set(&s->worker->timers, &g->timer, s->worker->now_ms + MAP_TIME_MS);
}

static void
ask_for_map(struct redis_servers *s, struct redis_link *l)
{
	struct redis_guide *g = &s->guide;

	if (g->asking)
		return;
	g->asking = true;
	g->asked_at_ms = s->worker->now_ms;
	g->asked = redis_link_server(l);
	g->ask = (struct redis_call){ .on_reply = on_map };
	redis_send(l, &g->ask, (struct span[]){ SPAN("CLUSTER"), SPAN("SLOTS") }, 2);
}

/* Who can be asked: the guide, or else any node that can be used. */
static struct redis_link *
whom_to_ask(struct redis_servers *s)
{
	if (redis_link_is_ready(s->guide.link))
		return s->guide.link;
	for (struct list_node *at = list_first(&s->nodes); at != NULL;
	     at = list_next(&s->nodes, at)) {
		struct redis_node *n = LIST_ITEM(at, struct redis_node, node);
		if (n->link != NULL && redis_link_is_ready(n->link))
			return n->link;
	}
	return NULL;
}

static void
ask_cluster(struct redis_servers *s)
{
	struct redis_link *l = whom_to_ask(s);

	timer_set(&s->worker->timers, &s->guide.timer, s->worker->now_ms + MAP_TIME_MS);
	if (l != NULL)
		ask_for_map(s, l);
}

static void
doubt_cluster(struct redis_servers *s)
{
	struct redis_guide *g = &s->guide;
	uint64_t at_ms = g->asked_at_ms + MAP_PAUSE_MS;

	if (at_ms <= s->worker->now_ms)
		at_ms = s->worker->now_ms + 1;
	if (!timer_is_set(&g->timer) || g->timer.deadline_ms > at_ms)
		timer_set(&s->worker->timers, &g->timer, at_ms);
}

void
guide_note_moved(struct redis_servers *s, struct span error)
{
	uint8_t memory[SERVER_ADDRESS_MOST];
	struct buf name = buf_of(memory, sizeof memory);
	struct redis_node *n = NULL;
	bool any = false;
	unsigned slot;

	if (s->options->kind != REDIS_CLUSTER)
		return;
	if (cluster_read_moved(error, &slot, &name))
		n = servers_node(s, buf_span(&name));
	for (unsigned i = 0; n != NULL && i < s->options->shards; i++) {
		if (s->guide.slots[i] != slot || s->homes[i] == n)
			continue;
		servers_move(s, i, n);
		any = true;
	}
	/* Who has lost its last shard is closed with the next map, not while it reads. */
	if (any && redis_link_is_ready(n->link))
		s->events->on_up(s, s->context);
}

/* ---- both ---- */

static void
on_login(struct redis_link *l, void *context)
{
	struct redis_servers *s = context;

	if (s->options->kind == REDIS_SENTINEL) {
		ask_sentinel(s);
	} else if (s->guide.asking) {
		redis_link_ready(l); /* a node was asked meanwhile */
	} else {
		ask_for_map(s, l);
	}
}

static void
on_failed(struct redis_link *l, void *context)
{
	struct redis_servers *s = context;
	struct span server = redis_link_server(l), problem = redis_link_problem(l);

	if (s->ends)
		return;
	servers_note_problem(s);
	/* Once a round of all: others may do. */
	if (!s->listens || s->worker->log == NULL ||
	    ++s->guide.failures % s->options->address_count != 0 ||
	    span_eq(buf_span(&s->guide.said), problem))
		return;
	buf_reset(&s->guide.said);
	buf_append(&s->guide.said, problem);
	event_redis_down(s->worker->log,
			 &(struct event_redis_down){ .server = server, .problem = problem });
}

static const struct redis_link_events guide_events = {
	.on_login = on_login,
	.on_failed = on_failed,
	.on_message = on_message,
};

static void
on_time(struct timer *t)
{
	struct redis_servers *s = servers_of(CONTAINER_OF(t, struct redis_guide, timer));

	if (s->guide.link == NULL)
		return;
	if (s->options->kind == REDIS_SENTINEL)
		ping_sentinel(s);
	else
		ask_cluster(s);
}

void
guide_doubt(struct redis_servers *s)
{
	if (s->guide.link == NULL)
		return;
	if (s->options->kind == REDIS_SENTINEL)
		doubt_sentinel(s);
	else
		doubt_cluster(s);
}

struct span
guide_problem(const struct redis_servers *s)
{
	return s->guide.link == NULL ? span_none() : redis_link_problem(s->guide.link);
}

bool
guide_open(struct redis_servers *s)
{
	struct redis_link_options o = servers_link_options(s);

	if (s->options->kind == REDIS_SENTINEL) {
		o.user = s->options->sentinel_user;
		o.password = s->options->sentinel_password;
		o.database = 0;
	}
	o.servers = s->options->addresses;
	o.server_count = s->options->address_count;
	o.first = s->worker->number; /* not all workers at one */
	timer_init(&s->guide.timer, on_time);
	s->guide.said = buf_of(s->guide.said_memory, sizeof s->guide.said_memory);
	s->guide.link = redis_link_new(s->worker, &o, &guide_events, s);
	if (s->guide.link == NULL)
		return false;
	s->open++;
	return true;
}

void
guide_close(struct redis_servers *s)
{
	struct redis_link *l = s->guide.link;

	if (l == NULL)
		return;
	s->guide.link = NULL;
	timer_stop(&s->worker->timers, &s->guide.timer);
	redis_link_close(l, servers_link_ended, s);
}
