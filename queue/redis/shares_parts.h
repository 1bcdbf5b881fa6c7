/* SPDX-License-Identifier: Apache-2.0
 *
 * shares_parts: what struct shares is made of. Inside of shares*.c only.
 *
 *   shares.c       the keys, their commands, upkeep
 *   shares_use.c   how often within a period
 *   shares_hold.c  so many at a time
 *   shares_pace.c  one after the other
 *   shares_strike.c  failures and locks
 *
 * Each key has one command under way at most, so that what an answer says is the newest.
 */
#ifndef QUEUE_REDIS_SHARES_PARTS_H
#define QUEUE_REDIS_SHARES_PARTS_H

#include "queue/redis/internal.h"
#include "queue/redis/shares.h"
#include "queue/shares.h"

enum {
	SHARES_BUCKETS = 4096,
	SHARES_UPKEEP_MS = 1000,
	SHARE_KEY_MOST = 64 + 64 + SHARE_NAME_MOST,
};

struct share;

/* What is done with a key is another's affair than that there is one. */
struct share_kind {
	const char *name; /* in the key */
	size_t size;      /* of the object, whose first member is the share */
	void (*init)(struct share *h);
	void (*fini)(struct share *h); /* NULL: nothing is to be done */
	/* Its command was answered; the next one may be sent in the call. */
	void (*answered)(struct share *h, enum err error, const struct redisReply *reply);
	/* It was not used for a while: gives back what it has. False: it has nothing, and may go.
	 */
	bool (*give_back)(struct share *h);
	/* Somebody waits for it, or has it: it stays. */
	bool (*is_needed)(const struct share *h);
	/* Another node has told something of it; NULL: nobody does. */
	void (*hear)(struct share *h, struct span what);
};

struct share {
	struct share *next;    /* in its bucket */
	struct list_node link; /* shares->by_use */
	struct shares *shares;
	const struct share_kind *kind;
	struct redis_call call;
	bool asks;        /* the call is under way */
	uint64_t sent_ms; /* worker's now_ms, as all times here */
	uint64_t used_ms;
	uint64_t hash;
	unsigned shard;
	uint32_t key_size;
	uint8_t *key; /* behind the object */
};

struct shares {
	struct redis_end *end;
	struct share *buckets[SHARES_BUCKETS];
	struct list by_use; /* the least recently used first */
	unsigned count;
	struct timer upkeep;
	uint64_t *loaded; /* by shard: the link that has the library (since when it was ready) */
	const struct share_watcher *watcher; /* NULL: nobody wants to know of locks */
	void *watcher_context;
	struct timer locks_timer; /* reads those that there are */
	unsigned strikes_open;    /* commands of shares_strike.c */
	bool stopping;
};

/* ---- shares.c ---- */
/* The key of that kind; made where there is none. NULL: no memory. It is used now. */
struct share *share_of(struct shares *s, const struct share_kind *kind, struct span what,
		       struct span name);
/* The same, where it is there. */
struct share *share_find(struct shares *s, const struct share_kind *kind, struct span what,
			 struct span name);
void share_touch(struct share *h);
/* A command of that function on the share's key; arguments follow by args_span() and the like.
 * False: it can not be sent now. */
bool share_begin(struct share *h, const char *function, unsigned arguments);
void share_send(struct share *h);
/* "{prefix:shard}:limit:KIND:WHAT:NAME", the name in lower case. Says its shard. */
unsigned shares_key(const struct shares *s, struct span kind, struct span what, struct span name,
		    struct buf *key);
/* As share_begin, of any key. NULL: it can not be sent now. The library is there before it. */
struct redis_link *shares_begin(struct shares *s, unsigned shard, const char *function,
				struct span key, unsigned arguments);

/* ---- shares_strike.c ---- */
void strikes_init(struct shares *s);
void strikes_stop(struct shares *s);
/* "lock", "lift", "forgive", "told" and what follows; or something may have been missed. */
void strikes_hear(struct shares *s, struct span what, struct span rest);
void strikes_missed(struct shares *s);

static inline uint64_t
share_now(const struct share *h)
{
	return h->shares->end->queue.worker->now_ms;
}

static inline void
share_soon(struct share *h, struct task *t)
{
	if (t != NULL && !h->shares->stopping)
		worker_soon(h->shares->end->queue.worker, t);
}

#endif
