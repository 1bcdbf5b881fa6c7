/* SPDX-License-Identifier: Apache-2.0
 *
 * The link that hears of wakes. A wake only spares others their waiting, so that one that is lost
 * does no harm; after each gap all shards are looked at.
 */
#include "core/base/assert.h"
#include "queue/redis/servers_parts.h"

static void
on_subscribed(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_servers *s = CONTAINER_OF(c, struct redis_servers, subscribe);

	if (s->ear == NULL || reply == NULL)
		return;
	if (e != ERR_OK) {
		redis_link_reject(s->ear, span_of(reply->str, reply->len));
		return;
	}
	redis_link_ready(s->ear);
	timer_set(&s->worker->timers, &s->ping_timer, s->worker->now_ms + EAR_PING_MS);
	for (unsigned i = 0; s->ear_has_heard && i < s->options->shards; i++)
		s->events->on_wake(s, s->context, i);
	s->ear_has_heard = true;
	if (s->events->on_word != NULL)
		s->events->on_word(s, s->context, span_none());
}

static void
on_login(struct redis_link *l, void *context)
{
	struct redis_servers *s = context;

	s->subscribe = (struct redis_call){ .on_reply = on_subscribed };
	redis_send(l, &s->subscribe, (struct span[]){ SPAN("SUBSCRIBE"), s->channel }, 2);
}

static void
on_message(struct redis_link *l, void *context, struct span channel, struct span message)
{
	struct redis_servers *s = context;
	uint64_t shard;

	(void)l;
	if (s->ends || !span_eq(channel, s->channel))
		return;
	if (!span_to_u64(message, &shard)) {
		if (s->events->on_word != NULL && message.size > 0)
			s->events->on_word(s, s->context, message);
	} else if (shard < s->options->shards) {
		s->events->on_wake(s, s->context, (unsigned)shard);
	}
}

static const struct redis_link_events ear_events = {
	.on_login = on_login,
	.on_message = on_message,
};

static void
on_pinged(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	(void)e;
	(void)reply;
	CONTAINER_OF(c, struct redis_servers, ping)->ping_under_way = false;
}

static void
on_ping_time(struct timer *t)
{
	struct redis_servers *s = CONTAINER_OF(t, struct redis_servers, ping_timer);

	if (s->ear == NULL || !redis_link_is_ready(s->ear) || s->ping_under_way)
		return;
	timer_set(&s->worker->timers, t, s->worker->now_ms + EAR_PING_MS);
	s->ping_under_way = true;
	s->ping = (struct redis_call){ .on_reply = on_pinged };
	redis_send(s->ear, &s->ping, (struct span[]){ SPAN("PING") }, 1);
}

void
ear_init(struct redis_servers *s)
{
	timer_init(&s->ping_timer, on_ping_time);
}

bool
ear_open(struct redis_servers *s, const struct span *servers, unsigned count)
{
	struct redis_link_options o = servers_link_options(s);

	ASSERT(s->ear == NULL);
	o.servers = servers;
	o.server_count = count;
	o.database = 0; /* channels have none */
	s->ping_under_way = false;
	s->ear = redis_link_new(s->worker, &o, &ear_events, s);
	if (s->ear == NULL)
		return false;
	s->open++;
	return true;
}

static void
close_link(struct redis_servers *s, void (*on_ended)(void *context))
{
	struct redis_link *l = s->ear;

	s->ear = NULL;
	timer_stop(&s->worker->timers, &s->ping_timer);
	redis_link_close(l, on_ended, s);
}

/* The name may have changed once more since. */
static void
on_changed(void *context)
{
	struct redis_servers *s = context;

	s->ear_changes = false;
	if (!s->ends)
		ear_open(s, &s->ear_server, 1);
	servers_link_ended(s);
}

void
ear_follow(struct redis_servers *s, struct span server)
{
	ASSERT(server.size <= sizeof s->ear_text);
	if (s->ear_changes) {
		memcpy(s->ear_text, server.data, server.size);
		s->ear_server = span_of(s->ear_text, server.size);
	} else if (s->ear == NULL) {
		memcpy(s->ear_text, server.data, server.size);
		s->ear_server = span_of(s->ear_text, server.size);
		ear_open(s, &s->ear_server, 1);
	} else if (!span_eq(s->ear_server, server)) {
		s->ear_changes = true;
		close_link(s, on_changed);
		memcpy(s->ear_text, server.data, server.size);
		s->ear_server = span_of(s->ear_text, server.size);
	}
}

void
ear_close(struct redis_servers *s)
{
	if (s->ear != NULL)
		close_link(s, servers_link_ended);
}
