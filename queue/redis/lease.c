/* SPDX-License-Identifier: Apache-2.0
 *
 * Leases, one for each shard in which this node owns mails. Worker 0 renews them on links of its
 * own; all workers read until when they are certainly valid: since the sending of the last renewal
 * that was answered, by the monotonic clock. Functions that make mails ours lengthen a lease that
 * has less than LONG of its length left, so right after them that much is certain.
 *
 * A renewal may come too late, and is answered all the same: of what was ours before nobody knows
 * whether another has it now, until Redis has said so. Such mails end no data meanwhile, and the
 * start of their next attempt is recorded. Another may have taken them at any moment until the
 * renewal was executed, so also after Redis had said, meanwhile, that they were ours: only what is
 * asked for behind the answer is certain again. But what has come to us with a function that
 * lengthens the lease is safe from others for as long as it does.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

struct lease_call {
	struct redis_call call;
	struct redis_end *end;
	unsigned shard;
	uint64_t sent_ms;
	bool open;
};

static void
raise_to(atomic_uint_fast64_t *at, uint64_t ms)
{
	uint_fast64_t known = atomic_load(at);

	while (known < ms && !atomic_compare_exchange_weak(at, &known, ms)) {
	}
}

/* Whoever sees the new end sees the lapse. */
static void
lease_certain_until(struct redis_store *s, unsigned shard, uint64_t until_ms)
{
	struct redis_lease *l = &s->leases[shard];
	uint64_t now_ms = clock_monotonic_ms();

	if (atomic_load(&l->valid_until_ms) <= now_ms)
		raise_to(&l->lapsed_at_ms, now_ms);
	raise_to(&l->valid_until_ms, until_ms);
}

uint64_t
lease_note_change(struct redis_store *s, unsigned shard, uint64_t sent_ms)
{
	uint64_t lease_ms = s->redis.lease_ms;
	uint64_t until_ms = sent_ms + lease_ms - lease_ms / REDIS_LEASE_PARTS;

	lease_certain_until(s, shard, until_ms);
	return until_ms;
}

void
lease_note_ours(struct redis_mail *m, uint64_t until_ms)
{
	raise_to(&m->ours_until_ms, until_ms);
}

bool
lease_has_lapsed(const struct redis_store *s, const struct redis_mail *m)
{
	return atomic_load(&m->ours_until_ms) <= atomic_load(&s->leases[m->shard].lapsed_at_ms);
}

bool
lease_is_certain(const struct redis_store *s, const struct redis_mail *m, uint64_t now_ms)
{
	return now_ms < atomic_load(&s->leases[m->shard].valid_until_ms) && !lease_has_lapsed(s, m);
}

uint64_t
lease_may_end_until_ms(const struct redis_store *s, const struct redis_mail *m)
{
	uint64_t until_ms = atomic_load(&s->leases[m->shard].valid_until_ms);
	uint64_t spare_ms = s->redis.lease_ms / 3;

	return until_ms <= spare_ms || lease_has_lapsed(s, m) ? 0 : until_ms - spare_ms;
}

static void
on_renewed(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct lease_call *l = CONTAINER_OF(c, struct lease_call, call);
	struct redis_end *e = l->end;
	int64_t now_ms;

	l->open = false;
	e->calls_open--;
	if (error != ERR_OK || !redis_number(redis_at(reply, 0), &now_ms))
		return; /* the next one will tell */
	lease_certain_until(e->store, l->shard, l->sent_ms + e->store->redis.lease_ms);
	e->came_ms = l->sent_ms;
	end_note_time(e, now_ms);
}

static void
renew(struct redis_end *e, struct lease_call *l)
{
	struct redis_link *link = redis_servers_link(e->servers, l->shard);

	if (l->open || link == NULL || atomic_load(&e->store->leases[l->shard].owned) == 0)
		return;
	if (!args_begin(e, "rp_renew", l->shard, 2, 32))
		return;
	args_incarnation(e);
	args_number(e, e->store->redis.lease_ms);
	l->open = true;
	l->sent_ms = clock_monotonic_ms();
	args_send(e, link, &l->call);
}

void
leases_renew(struct redis_end *e)
{
	struct worker *w = e->queue.worker;

	if (e->lease_calls == NULL)
		return;
	for (unsigned i = 0; i < e->store->redis.shards; i++)
		renew(e, &e->lease_calls[i]);
	timer_set(&w->timers, &e->lease_timer,
		  w->now_ms + e->store->redis.lease_ms / REDIS_LEASE_PARTS);
}

static void
on_lease_timer(struct timer *t)
{
	leases_renew(CONTAINER_OF(t, struct redis_end, lease_timer));
}

bool
leases_init(struct redis_end *e)
{
	unsigned shards = e->store->redis.shards;

	timer_init(&e->lease_timer, on_lease_timer);
	if (e->queue.worker->number != 0)
		return true;
	e->lease_calls = calloc(shards, sizeof *e->lease_calls);
	for (unsigned i = 0; i < shards && e->lease_calls != NULL; i++) {
		e->lease_calls[i] = (struct lease_call){
			.call = { .on_reply = on_renewed },
			.end = e,
			.shard = i,
		};
	}
	return e->lease_calls != NULL;
}
