/* SPDX-License-Identifier: Apache-2.0
 *
 * Failures that all nodes count together. Each is told to Redis, which says how many there are, and
 * tells all nodes of a lock that begins or is lifted, and of what is forgiven, on the channel of
 * wakes. What is locked is noted in an index of each shard, which is read when the watching begins
 * and after each gap in the hearing.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/strikes.h"
#include "queue/redis/shares_parts.h"

enum {
	OPEN_MOST = 1024, /* commands; what is above counts on this node alone */
	SHOWN_MOST = 128,
	LOCKS_MOST = 1000, /* of a shard that are read */
	LOCKS_AGAIN_MS = 1000,
	NAME_AND_SHOWN = SHARE_KEY_MOST + SHOWN_MOST,
};

/* One command under way. */
struct errand {
	struct redis_call call;
	struct shares *shares;
	struct share_lift *lift; /* or NULL */
	bool locked;             /* this node had it locked already */
	uint32_t key_size;
	uint32_t shown_size;
	uint8_t key[]; /* the key, then what is shown */
};

static struct worker *
worker_of(const struct shares *s)
{
	return s->end->queue.worker;
}

/* ---- telling the watcher ---- */

/* KIND:NAME of a key; false: it is none of these. */
static bool
split_key(struct span key, struct span *kind, struct span *name)
{
	const struct span mark = SPAN("}:limit:strike:");

	while (key.size > 0 && !span_starts_with(key, mark))
		key = span_after(key, 1);
	if (key.size == 0)
		return false;
	key = span_after(key, mark.size);
	*kind = span_first(key, span_find(key, ':', 0));
	*name = span_after(key, kind->size < key.size ? kind->size + 1 : key.size);
	return name->size > 0;
}

static void
tell_strike(struct shares *s, struct span key, struct share_strike *strike)
{
	if (s->watcher != NULL && !s->stopping && split_key(key, &strike->kind, &strike->name))
		s->watcher->on_strike(s->watcher_context, strike);
}

static struct span
word_of(struct span *text)
{
	struct span word = span_first(*text, span_find(*text, ' ', 0));

	*text = span_after(*text, word.size < text->size ? word.size + 1 : word.size);
	return word;
}

void
strikes_hear(struct shares *s, struct span what, struct span rest)
{
	struct share_strike strike = { .locked = true };
	struct span kind, name;
	uint64_t left_ms, count;

	if (s->watcher == NULL)
		return;
	if (span_eq(what, SPAN("told"))) {
		s->watcher->on_told(s->watcher_context, rest);
	} else if (span_eq(what, SPAN("lift"))) {
		if (split_key(rest, &kind, &name))
			s->watcher->on_lifted(s->watcher_context, kind, name);
	} else if (span_eq(what, SPAN("forgive"))) {
		if (split_key(rest, &kind, &name))
			s->watcher->on_forgiven(s->watcher_context, kind, name);
	} else if (span_eq(what, SPAN("lock")) && span_to_u64(word_of(&rest), &left_ms) &&
		   span_to_u64(word_of(&rest), &count)) {
		struct span key = word_of(&rest);
		strike.shown = rest;
		strike.count = count < STRIKES_MAX ? (uint32_t)count : STRIKES_MAX;
		strike.until_ms = worker_of(s)->now_ms + left_ms;
		tell_strike(s, key, &strike);
	}
}

/* ---- commands ---- */

static struct errand *
errand_new(struct shares *s, struct span kind, struct span name, struct span shown, unsigned *shard)
{
	uint8_t memory[NAME_AND_SHOWN];
	struct buf key = buf_of(memory, sizeof memory);

	if (s->stopping || s->strikes_open >= OPEN_MOST)
		return NULL;
	*shard = shares_key(s, SPAN("strike"), kind, name, &key);
	shown = span_first(shown, SHOWN_MOST);
	struct errand *r = calloc(1, sizeof *r + key.size + shown.size);
	if (r == NULL)
		return NULL;
	r->shares = s;
	r->key_size = (uint32_t)key.size;
	r->shown_size = (uint32_t)shown.size;
	memcpy(r->key, memory, key.size);
	if (shown.size > 0)
		memcpy(r->key + key.size, shown.data, shown.size);
	return r;
}

static struct span
key_of(const struct errand *r)
{
	return span_of(r->key, r->key_size);
}

static struct span
shown_of(const struct errand *r)
{
	return span_of(r->key + r->key_size, r->shown_size);
}

static void
errand_send(struct errand *r, struct redis_link *link,
	    void (*on_reply)(struct redis_call *c, enum err e, const struct redisReply *reply))
{
	struct shares *s = r->shares;

	r->call.on_reply = on_reply;
	s->strikes_open++;
	s->end->counters.share_asks++;
	args_send(s->end, link, &r->call);
}

static struct errand *
errand_end(struct redis_call *c)
{
	struct errand *r = CONTAINER_OF(c, struct errand, call);

	r->shares->end->calls_open--;
	r->shares->strikes_open--;
	return r;
}

static void
on_forgotten(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	(void)e;
	(void)reply;
	free(errand_end(c));
}

static void
on_struck(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct errand *r = errand_end(c);
	struct share_strike strike = { .shown = shown_of(r) };
	int64_t count, locked, left_ms, began;

	if (e == ERR_OK && redis_number(redis_at(reply, 0), &count) &&
	    redis_number(redis_at(reply, 1), &locked) &&
	    redis_number(redis_at(reply, 2), &left_ms) &&
	    redis_number(redis_at(reply, 3), &began) && count > 0 && left_ms >= 0) {
		strike.count = count < STRIKES_MAX ? (uint32_t)count : STRIKES_MAX;
		strike.locked = locked != 0;
		strike.began = began != 0 && !r->locked;
		strike.until_ms = worker_of(r->shares)->now_ms + (uint64_t)left_ms;
		tell_strike(r->shares, key_of(r), &strike);
	}
	free(r);
}

void
shares_strike(struct shares *s, const struct share_strike *strike, const struct strikes_rule *rule)
{
	unsigned shard;
	struct errand *r = errand_new(s, strike->kind, strike->name, strike->shown, &shard);
	struct redis_link *link =
		r == NULL ? NULL : shares_begin(s, shard, "rs1_strike", key_of(r), 5);

	if (link == NULL) {
		free(r);
		return;
	}
	args_number(s->end, rule->most);
	args_number(s->end, rule->window_ms);
	args_number(s->end, rule->lock_ms);
	args_number(s->end, strike->locked);
	args_span(s->end, shown_of(r));
	r->locked = strike->locked;
	errand_send(r, link, on_struck);
}

void
shares_forgive(struct shares *s, struct span kind, struct span name)
{
	unsigned shard;
	struct errand *r = errand_new(s, kind, name, span_none(), &shard);
	struct redis_link *link =
		r == NULL ? NULL : shares_begin(s, shard, "rs1_forgive", key_of(r), 0);

	if (link == NULL)
		free(r);
	else
		errand_send(r, link, on_forgotten);
}

static void
on_lifted(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct errand *r = errand_end(c);
	struct share_lift *l = r->lift;
	int64_t was = 0;

	if (e == ERR_OK && !redis_number(reply, &was))
		e = ERR_PROTOCOL;
	free(r);
	l->was_locked = was != 0;
	l->on_done(l, e);
}

enum err
shares_lift(struct shares *s, struct span kind, struct span name, struct share_lift *l)
{
	unsigned shard;
	struct errand *r = errand_new(s, kind, name, span_none(), &shard);
	struct redis_link *link =
		r == NULL ? NULL : shares_begin(s, shard, "rs1_lift", key_of(r), 0);

	if (link == NULL) {
		free(r);
		return ERR_AWAY;
	}
	r->lift = l;
	errand_send(r, link, on_lifted);
	return ERR_OK;
}

void
shares_tell(struct shares *s, struct span text)
{
	uint8_t memory[SHARE_KEY_MOST], channel[SHARE_KEY_MOST];
	struct buf message = buf_of(memory, sizeof memory);
	struct buf where = buf_of(channel, sizeof channel);
	struct redis_end *e = s->end;
	unsigned shard;
	struct errand *r = errand_new(s, span_none(), span_none(), span_none(), &shard);
	struct redis_link *link =
		r == NULL || e->servers == NULL ? NULL : redis_servers_link(e->servers, shard);

	buf_append_string(&message, "limit told ");
	buf_append(&message, text);
	buf_printf(&where, "{%.*s}:wake", SPAN_ARG(e->store->redis.prefix));
	if (link == NULL || message.overflow || !args_begin(e, NULL, shard, 3, 0)) {
		free(r);
		return;
	}
	args_span(e, SPAN("PUBLISH"));
	args_span(e, buf_span(&where));
	args_span(e, buf_span(&message));
	errand_send(r, link, on_forgotten);
}

/* ---- those that there are ---- */

static void
locks_within(struct shares *s, uint64_t ms)
{
	if (s->watcher != NULL && !s->stopping && worker_of(s)->number == 0)
		timer_set(&worker_of(s)->timers, &s->locks_timer, worker_of(s)->now_ms + ms);
}

/* Members and scores in turns: "KEY TEXT", until when. */
static void
on_locks(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct errand *r = errand_end(c);
	struct shares *s = r->shares;
	uint64_t until_ms;

	free(r);
	if (e != ERR_OK || reply->type != REDIS_REPLY_ARRAY)
		locks_within(s, LOCKS_AGAIN_MS);
	for (size_t i = 0; e == ERR_OK && i + 1 < reply->elements; i += 2) {
		struct share_strike strike = { .locked = true, .count = 1 };
		struct span rest = redis_text(redis_at(reply, i));
		struct span key = word_of(&rest);
		uint64_t now_ms = to_redis_ms(s->end, worker_of(s)->now_wall_ms);
		if (!span_to_u64(redis_text(redis_at(reply, i + 1)), &until_ms) ||
		    until_ms <= now_ms)
			continue;
		strike.shown = rest;
		strike.until_ms = worker_of(s)->now_ms + until_ms - now_ms;
		tell_strike(s, key, &strike);
	}
}

static bool
read_locks(struct shares *s, unsigned shard)
{
	struct redis_end *e = s->end;
	struct redis_link *link = e->servers == NULL ? NULL : redis_servers_link(e->servers, shard);
	uint8_t memory[SHARE_KEY_MOST];
	struct buf key = buf_of(memory, sizeof memory);
	struct errand *r = link == NULL ? NULL : calloc(1, sizeof *r);

	if (r == NULL || !args_begin(e, NULL, shard, 5, 32)) {
		free(r);
		return false;
	}
	r->shares = s;
	buf_append_string(&key, e->store->tags[shard]);
	buf_append_string(&key, ":limit:locks");
	args_span(e, SPAN("ZRANGE"));
	args_span(e, buf_span(&key));
	args_span(e, SPAN("0"));
	args_number(e, LOCKS_MOST - 1);
	args_span(e, SPAN("WITHSCORES"));
	errand_send(r, link, on_locks);
	return true;
}

static void
on_locks_timer(struct timer *t)
{
	struct shares *s = CONTAINER_OF(t, struct shares, locks_timer);
	bool all = atomic_load(&s->end->store->time_is_known);

	for (unsigned i = 0; i < s->end->store->redis.shards && all; i++)
		all = read_locks(s, i);
	if (!all)
		locks_within(s, LOCKS_AGAIN_MS);
}

void
strikes_missed(struct shares *s)
{
	locks_within(s, 1);
}

void
shares_watch(struct shares *s, const struct share_watcher *w, void *context)
{
	bool begins = s->watcher == NULL;

	s->watcher = w;
	s->watcher_context = context;
	if (begins)
		locks_within(s, 1);
}

void
strikes_init(struct shares *s)
{
	timer_init(&s->locks_timer, on_locks_timer);
}

void
strikes_stop(struct shares *s)
{
	timer_stop(&worker_of(s)->timers, &s->locks_timer);
}
