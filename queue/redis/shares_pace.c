/* SPDX-License-Identifier: Apache-2.0
 *
 * Turns, one after the other, so many a minute on all nodes. Redis keeps when the next one may
 * happen, and books as many at a time as happen within a second; one at least. When one of ours
 * comes is told from its own clock, and counted here from the answer: never too early.
 */
#include "core/base/assert.h"
#include "queue/redis/shares_parts.h"

enum {
	MINUTE_US = 60 * 1000 * 1000,
	MINUTE_S = 60,
	SLACK_US = 250 * 1000, /* a turn is lost when it is not used for so long */
	RETRY_MS = 1000,
};

struct pace {
	struct share share; /* first */
	struct task *on_change;
	uint64_t interval_us;
	uint64_t next_us; /* monotonic: the first of our turns */
	uint32_t left;
	uint32_t asked;
	uint64_t retry_at_ms; /* nobody could be asked */
};

static const struct share_kind pace_kind;

static struct pace *
pace_of(struct share *h)
{
	return h == NULL ? NULL : CONTAINER_OF(h, struct pace, share);
}

static uint64_t
now_us(const struct pace *p)
{
	return share_now(&p->share) * 1000;
}

static bool
ask(struct pace *p, uint32_t per_minute, uint32_t wanted)
{
	struct redis_end *e = p->share.shares->end;
	uint32_t second = per_minute / MINUTE_S;
	uint32_t count = wanted < second ? wanted : second;

	if (!share_begin(&p->share, "rs1_pace", 2))
		return false;
	p->interval_us = (MINUTE_US + per_minute - 1) / per_minute;
	p->asked = count > 0 ? count : 1;
	args_number(e, p->interval_us);
	args_number(e, p->asked);
	share_send(&p->share);
	return true;
}

static void
pace_answered(struct share *share, enum err error, const struct redisReply *reply)
{
	struct pace *p = pace_of(share);
	struct task *on_change = p->on_change;
	int64_t in_us;

	p->on_change = NULL;
	if (error == ERR_OK && redis_number(reply, &in_us) && in_us >= 0) {
		p->left = p->asked;
		p->next_us = now_us(p) + (uint64_t)in_us;
	} else {
		p->retry_at_ms = share_now(share) + RETRY_MS;
	}
	share_soon(share, on_change);
}

uint64_t
shares_pace(struct shares *s, struct span kind, struct span name, uint32_t per_minute,
	    uint32_t wanted, struct task *on_change)
{
	struct pace *p = pace_of(share_of(s, &pace_kind, kind, name));

	ASSERT(per_minute > 0);
	if (p == NULL)
		return RETRY_MS;
	while (p->left > 0 && p->next_us + SLACK_US < now_us(p)) {
		p->left--;
		p->next_us += p->interval_us;
	}
	if (p->left > 0)
		return p->next_us <= now_us(p) ? 0 : (p->next_us - now_us(p)) / 1000 + 1;
	if (p->retry_at_ms > share_now(&p->share))
		return p->retry_at_ms - share_now(&p->share);
	if (!p->share.asks && !ask(p, per_minute, wanted))
		return RETRY_MS;
	p->on_change = on_change;
	return UINT64_MAX;
}

void
shares_paced(struct shares *s, struct span kind, struct span name)
{
	struct pace *p = pace_of(share_find(s, &pace_kind, kind, name));

	if (p == NULL || p->left == 0)
		return;
	p->left--;
	p->next_us += p->interval_us;
}

static void
pace_init(struct share *share)
{
	(void)share;
}

static bool
pace_give_back(struct share *share)
{
	(void)share; /* its time would be over before another node heard of it */
	return false;
}

static bool
pace_is_needed(const struct share *share)
{
	const struct pace *p = CONTAINER_OF(share, const struct pace, share);

	return p->on_change != NULL || (p->left > 0 && p->next_us + SLACK_US > now_us(p));
}

static const struct share_kind pace_kind = {
	.name = "pace",
	.size = sizeof(struct pace),
	.init = pace_init,
	.answered = pace_answered,
	.give_back = pace_give_back,
	.is_needed = pace_is_needed,
};
