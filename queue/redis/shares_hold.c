/* SPDX-License-Identifier: Apache-2.0
 *
 * Places, so many at a time. Redis notes of each node how many it has and wants, and until when;
 * this end tells it when that changes, and renews in time. Where others lack places, the answer to
 * a renewal says how many may be kept; who begins to lack some, or frees some that others lack, has
 * Redis tell all nodes, who then ask at once instead of at their next renewal.
 */
#include "core/base/assert.h"
#include "queue/redis/shares_parts.h"

enum {
	TURN_MS = 2000,  /* with one of too few places, as between workers (relay/flow/slots.h) */
	SETTLE_MS = 200, /* before what nobody else lacks is given back */
	RETRY_MS = 1000,
	PARTS = REDIS_LEASE_PARTS,
};

struct hold {
	struct share share; /* first */
	struct timer timer; /* tell Redis then */
	uint64_t timer_at_ms;
	struct task *on_change; /* the owner's; NULL: nobody wants to know */
	uint32_t most, used, wanted;
	uint32_t held;
	uint32_t keep;           /* of them, as others lack some, or are told that we have less */
	uint64_t valid_until_ms; /* the lease */
	uint32_t told_wanted, told_most;
	uint32_t said;  /* to the owner */
	bool contended; /* others lack some */
	bool again;     /* something was heard meanwhile */
};

static const struct share_kind hold_kind;

static struct hold *
hold_of(struct share *h)
{
	return h == NULL ? NULL : CONTAINER_OF(h, struct hold, share);
}

static struct redis_end *
end_of(const struct hold *h)
{
	return h->share.shares->end;
}

static uint64_t
lease_ms(const struct hold *h)
{
	return end_of(h)->store->redis.lease_ms;
}

/* How many may be in use. A part of the lease is left for closing the others. */
static uint32_t
may(const struct hold *h)
{
	uint32_t most = h->keep < h->held ? h->keep : h->held;

	if (share_now(&h->share) + lease_ms(h) / PARTS >= h->valid_until_ms)
		return 0;
	return most < h->most ? most : h->most;
}

/* How many it goes on holding. */
static uint32_t
has(const struct hold *h)
{
	uint32_t most = may(h) < h->wanted ? may(h) : h->wanted;

	return h->used > most ? h->used : most;
}

static void
settle_within(struct hold *h, uint64_t ms)
{
	uint64_t at_ms = share_now(&h->share) + ms;

	if (h->share.shares->stopping || (timer_is_set(&h->timer) && h->timer_at_ms <= at_ms))
		return;
	h->timer_at_ms = at_ms;
	timer_set(&end_of(h)->queue.worker->timers, &h->timer, at_ms);
}

/* The owner is told when it may have more, or less, than it knows of. */
static void
tell_owner(struct hold *h)
{
	if (may(h) != h->said)
		share_soon(&h->share, h->on_change);
}

static void
tell_redis(struct hold *h)
{
	struct redis_end *e = end_of(h);

	h->again = false;
	timer_stop(&e->queue.worker->timers, &h->timer);
	if (!share_begin(&h->share, "rs1_hold", 6)) {
		settle_within(h, RETRY_MS);
		return;
	}
	/* What it does not go on holding may be another's from now on, whatever becomes of the
	 * answer. */
	h->keep = has(h);
	h->told_wanted = h->wanted;
	h->told_most = h->most;
	args_incarnation(e);
	args_number(e, h->most);
	args_number(e, h->keep);
	args_number(e, h->wanted);
	args_number(e, lease_ms(h));
	args_number(e, TURN_MS);
	share_send(&h->share);
	/* The answer may not come: then the owner is told when the lease is nearly over. */
	if (may(h) > 0)
		settle_within(h, h->valid_until_ms - lease_ms(h) / PARTS - share_now(&h->share));
}

/* Tells Redis what it does not know yet: at once where somebody waits for it, here or elsewhere. */
static void
settle(struct hold *h)
{
	if (h->share.asks)
		return;
	bool lacks = (h->wanted > h->held && h->wanted > h->told_wanted) ||
		     (h->most != h->told_most && (h->held > 0 || h->wanted > 0)) ||
		     (h->contended && h->held > 0 && h->wanted != h->told_wanted);
	bool gives = has(h) < h->held;
	bool withdraws = h->told_wanted > h->held && h->wanted <= h->held;

	if (lacks || h->again || (gives && (h->keep < h->held || h->share.shares->stopping)))
		tell_redis(h);
	else if (gives || withdraws)
		settle_within(h, SETTLE_MS);
	else if (h->held > 0 || h->wanted > 0)
		settle_within(h, lease_ms(h) / PARTS);
}

static void
on_timer(struct timer *t)
{
	struct hold *h = CONTAINER_OF(t, struct hold, timer);

	tell_owner(h);
	if (!h->share.asks)
		tell_redis(h);
}

static void
hold_answered(struct share *share, enum err error, const struct redisReply *reply)
{
	struct hold *h = hold_of(share);
	int64_t held, keep, until_less_ms, contended;

	if (error != ERR_OK || !redis_number(redis_at(reply, 0), &held) ||
	    !redis_number(redis_at(reply, 1), &keep) ||
	    !redis_number(redis_at(reply, 2), &until_less_ms) ||
	    !redis_number(redis_at(reply, 3), &contended) || held < 0 || held > UINT32_MAX ||
	    keep < 0 || keep > held) {
		/* What it does not know of us is more than we have. */
		settle_within(h, RETRY_MS);
		tell_owner(h);
		return;
	}
	h->held = (uint32_t)held;
	h->keep = (uint32_t)keep;
	h->contended = contended != 0;
	h->valid_until_ms = share->sent_ms + lease_ms(h);
	timer_stop(&end_of(h)->queue.worker->timers, &h->timer);
	if (until_less_ms >= 0)
		settle_within(h, (uint64_t)until_less_ms);
	tell_owner(h);
	settle(h);
}

/* ---- what others call ---- */

uint32_t
shares_places(struct shares *s, struct span kind, struct span name, uint32_t most, uint32_t used,
	      uint32_t wanted, struct task *on_change)
{
	bool needs = used > 0 || wanted > 0;
	struct hold *h = hold_of(needs ? share_of(s, &hold_kind, kind, name)
				       : share_find(s, &hold_kind, kind, name));

	if (h == NULL)
		return 0;
	h->most = most;
	h->used = used;
	h->wanted = wanted;
	h->on_change = needs ? on_change : NULL;
	settle(h);
	h->said = may(h);
	return h->said;
}

static void
hold_hear(struct share *share, struct span what)
{
	struct hold *h = hold_of(share);
	bool concerns = span_eq(what, SPAN("free")) ? h->wanted > h->held : h->held > 0;

	if (!concerns)
		return;
	h->again = true;
	settle(h);
}

static bool
hold_give_back(struct share *share)
{
	struct hold *h = hold_of(share);

	h->used = h->wanted = 0;
	h->on_change = NULL;
	if (h->held == 0 && h->told_wanted == 0)
		return false;
	tell_redis(h);
	return true;
}

static bool
hold_is_needed(const struct share *share)
{
	const struct hold *h = CONTAINER_OF(share, const struct hold, share);

	return h->used > 0 || h->wanted > 0 || h->held > 0 || h->told_wanted > 0;
}

static void
hold_init(struct share *share)
{
	timer_init(&hold_of(share)->timer, on_timer);
}

static void
hold_fini(struct share *share)
{
	timer_stop(&end_of(hold_of(share))->queue.worker->timers, &hold_of(share)->timer);
}

static const struct share_kind hold_kind = {
	.name = "hold",
	.size = sizeof(struct hold),
	.init = hold_init,
	.fini = hold_fini,
	.answered = hold_answered,
	.give_back = hold_give_back,
	.is_needed = hold_is_needed,
	.hear = hold_hear,
};
