/* SPDX-License-Identifier: Apache-2.0
 *
 * The keys of limits that this worker has to do with. They lie in the shards as mails do; the
 * library is loaded ahead of the first command on a link, in the same pipeline.
 */
#include "queue/redis/shares.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "core/metric.h"
#include "queue/redis/shares_parts.h"

enum { IDLE_MS = 2000 };

/* ---- the library ---- */

struct load {
	struct redis_call call;
	struct redis_end *end;
	unsigned shard;
};

/* ERR_PROTOCOL is that it is there already, or an error that shows at the command behind it, which
 * fails in any case where it is not there. After one that passes (the server is out of memory, or
 * busy) it is loaded ahead of the next command. */
static void
on_loaded(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct load *l = CONTAINER_OF(c, struct load, call);

	(void)reply;
	if (error != ERR_OK && error != ERR_PROTOCOL)
		l->end->shares->loaded[l->shard] = 0;
	l->end->calls_open--;
	free(l);
}

static bool
load(struct shares *s, struct redis_link *link, unsigned shard)
{
	uint64_t since_ms = redis_link_ready_since_ms(link);

	if (s->loaded[shard] == since_ms)
		return true;
	struct load *l = calloc(1, sizeof *l);
	if (l == NULL)
		return false;
	l->call.on_reply = on_loaded;
	l->end = s->end;
	l->shard = shard;
	s->loaded[shard] = since_ms;
	s->end->calls_open++;
	redis_send(link, &l->call,
		   (struct span[]){ SPAN("FUNCTION"), SPAN("LOAD"), redis_share_functions() }, 3);
	return true;
}

/* ---- commands ---- */

struct redis_link *
shares_begin(struct shares *s, unsigned shard, const char *function, struct span key,
	     unsigned arguments)
{
	struct redis_end *e = s->end;
	struct redis_link *link = e->servers == NULL ? NULL : redis_servers_link(e->servers, shard);

	if (link == NULL || !args_begin(e, NULL, shard, arguments + 4, 32 * arguments) ||
	    !load(s, link, shard))
		return NULL;
	args_span(e, SPAN("FCALL"));
	args_span(e, span_of_string(function));
	args_span(e, SPAN("1"));
	args_span(e, key);
	return link;
}

bool
share_begin(struct share *h, const char *function, unsigned arguments)
{
	ASSERT(!h->asks);
	return shares_begin(h->shares, h->shard, function, span_of(h->key, h->key_size),
			    arguments) != NULL;
}

static void
on_answer(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct share *h = CONTAINER_OF(c, struct share, call);

	ASSERT(h->asks);
	h->asks = false;
	h->shares->end->calls_open--;
	h->kind->answered(h, error, reply);
}

void
share_send(struct share *h)
{
	struct redis_end *e = h->shares->end;
	struct redis_link *link = redis_servers_link(e->servers, h->shard);

	ASSERT(link != NULL && !h->asks);
	h->asks = true;
	h->sent_ms = e->queue.worker->now_ms;
	h->call = (struct redis_call){ .on_reply = on_answer };
	e->counters.share_asks++;
	args_send(e, link, &h->call);
}

/* ---- keys ---- */

unsigned
shares_key(const struct shares *s, struct span kind, struct span what, struct span name,
	   struct buf *key)
{
	const struct redis_store *store = s->end->store;

	/* The shard must be the same on all nodes. */
	name = span_first(name, SHARE_NAME_MOST);
	unsigned shard = (unsigned)(span_hash_nocase(name, 0) % store->redis.shards);
	buf_append_string(key, store->tags[shard]);
	buf_append_string(key, ":limit:");
	buf_append(key, kind);
	buf_append_byte(key, ':');
	buf_append(key, what);
	buf_append_byte(key, ':');
	for (size_t i = 0; i < name.size; i++)
		buf_append_byte(key, ascii_lower(name.data[i]));
	ASSERT(!key->overflow);
	return shard;
}

/* The bucket must not be known to anyone. */
static void
make_key(const struct shares *s, const struct share_kind *kind, struct span what, struct span name,
	 struct buf *key, struct share *like)
{
	like->shard = shares_key(s, span_of_string(kind->name), what, name, key);
	like->hash = span_hash_nocase(buf_span(key), s->end->store->hash_seed);
}

static struct share **
place_of(struct shares *s, uint64_t hash, struct span key)
{
	struct share **at = &s->buckets[hash % SHARES_BUCKETS];

	while (*at != NULL &&
	       ((*at)->hash != hash || !span_eq(span_of((*at)->key, (*at)->key_size), key)))
		at = &(*at)->next;
	return at;
}

static void
share_free(struct share *h)
{
	struct shares *s = h->shares;
	struct share **at = place_of(s, h->hash, span_of(h->key, h->key_size));

	ASSERT(*at == h && !h->asks);
	if (h->kind->fini != NULL)
		h->kind->fini(h);
	*at = h->next;
	list_unlink(&h->link);
	s->count--;
	free(h);
}

void
share_touch(struct share *h)
{
	struct shares *s = h->shares;
	struct worker *w = s->end->queue.worker;

	h->used_ms = w->now_ms;
	list_unlink(&h->link);
	list_append(&s->by_use, &h->link);
	if (!s->stopping && !timer_is_set(&s->upkeep))
		timer_set(&w->timers, &s->upkeep, w->now_ms + SHARES_UPKEEP_MS);
}

/* The one that nobody has needed for the longest time gives way, with what is left of it. */
static bool
make_room(struct shares *s)
{
	unsigned looks = 16;

	for (struct list_node *n = list_first(&s->by_use); n != NULL && looks-- > 0;
	     n = list_next(&s->by_use, n)) {
		struct share *h = LIST_ITEM(n, struct share, link);
		if (!h->asks && !h->kind->is_needed(h)) {
			share_free(h);
			return true;
		}
	}
	return false;
}

static struct share *
share_new(struct shares *s, const struct share_kind *kind, const struct share *like,
	  struct span key)
{
	struct share *h;

	if (s->stopping || (s->count >= SHARES_MOST && !make_room(s)))
		return NULL;
	h = calloc(1, kind->size + key.size);
	if (h == NULL)
		return NULL;
	h->shares = s;
	h->kind = kind;
	h->hash = like->hash;
	h->shard = like->shard;
	h->key_size = (uint32_t)key.size;
	h->key = (uint8_t *)h + kind->size;
	memcpy(h->key, key.data, key.size);
	kind->init(h);
	h->next = s->buckets[h->hash % SHARES_BUCKETS];
	s->buckets[h->hash % SHARES_BUCKETS] = h;
	s->count++;
	return h;
}

struct share *
share_find(struct shares *s, const struct share_kind *kind, struct span what, struct span name)
{
	uint8_t memory[SHARE_KEY_MOST];
	struct buf key = buf_of(memory, sizeof memory);
	struct share like = { 0 };

	make_key(s, kind, what, name, &key, &like);
	return *place_of(s, like.hash, buf_span(&key));
}

struct share *
share_of(struct shares *s, const struct share_kind *kind, struct span what, struct span name)
{
	uint8_t memory[SHARE_KEY_MOST];
	struct buf key = buf_of(memory, sizeof memory);
	struct share like = { 0 };

	make_key(s, kind, what, name, &key, &like);
	struct share *h = *place_of(s, like.hash, buf_span(&key));
	if (h == NULL)
		h = share_new(s, kind, &like, buf_span(&key));
	if (h == NULL)
		s->end->counters.no_memory++;
	else
		share_touch(h);
	return h;
}

/* ---- upkeep ---- */

/* Those that were not used for a while give back what they have, and go. */
static void
on_upkeep(struct timer *t)
{
	struct shares *s = CONTAINER_OF(t, struct shares, upkeep);
	struct worker *w = s->end->queue.worker;
	unsigned looks = s->count;
	struct list_node *n;

	while (looks-- > 0 && (n = list_first(&s->by_use)) != NULL) {
		struct share *h = LIST_ITEM(n, struct share, link);
		if (h->used_ms + IDLE_MS > w->now_ms)
			break;
		if (h->asks || h->kind->is_needed(h) || h->kind->give_back(h))
			share_touch(h);
		else
			share_free(h);
	}
	if (!list_is_empty(&s->by_use))
		timer_set(&w->timers, t, w->now_ms + SHARES_UPKEEP_MS);
}

void
shares_stop(struct redis_end *e)
{
	struct shares *s = e->shares;

	s->stopping = true;
	timer_stop(&e->queue.worker->timers, &s->upkeep);
	strikes_stop(s);
	for (struct list_node *n = list_first(&s->by_use); n != NULL;
	     n = list_next(&s->by_use, n)) {
		struct share *h = LIST_ITEM(n, struct share, link);
		if (!h->asks)
			h->kind->give_back(h);
	}
}

/* ---- what others tell ---- */

void
shares_hear(struct redis_end *e, struct span message)
{
	struct shares *s = e->shares;
	struct span what = span_first(message, span_find(message, ' ', 0));
	struct span key = span_after(message, what.size + (what.size < message.size));

	if (s->stopping)
		return;
	if (message.size == 0)
		strikes_missed(s);
	strikes_hear(s, what, key);
	struct share *h = *place_of(s, span_hash_nocase(key, e->store->hash_seed), key);
	if (h != NULL && h->kind->hear != NULL)
		h->kind->hear(h, what);
}

/* ---- life ---- */

struct shares *
redis_shares(struct queue *q)
{
	return redis_end_of(q)->shares;
}

bool
shares_init(struct redis_end *e)
{
	struct shares *s = calloc(1, sizeof *s);

	e->shares = s;
	if (s == NULL)
		return false;
	s->end = e;
	list_init(&s->by_use);
	timer_init(&s->upkeep, on_upkeep);
	strikes_init(s);
	s->loaded = calloc(e->store->redis.shards, sizeof *s->loaded);
	return s->loaded != NULL;
}

void
shares_fini(struct redis_end *e)
{
	struct shares *s = e->shares;
	struct list_node *n;

	if (s == NULL)
		return;
	while ((n = list_first(&s->by_use)) != NULL)
		share_free(LIST_ITEM(n, struct share, link));
	free(s->loaded);
	free(s);
}
