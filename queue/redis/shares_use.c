/* SPDX-License-Identifier: Apache-2.0
 *
 * Portions of what may happen within a period. Redis grants them for one of its windows, and they
 * can be used until that ends: by the time of this machine from the sending of the question, which
 * is never later than by Redis's. How many are asked for doubles while they are gone within a
 * second; what of them was not used for a while is given back.
 */
#include "core/base/assert.h"
#include "queue/redis/shares_parts.h"

enum {
	BUSY_MS = 1000,
	WANT_MOST = 256,
	USED_UP_MS = 500, /* others may give back what they do not use */
	PARTS = 6,        /* windows of a period */
	ARGUMENTS = 7,    /* of a count */
	ANSWERS = 4,
};

/* What this worker has of one count. */
struct portion {
	uint32_t left;
	uint32_t want;             /* how many are taken at a time */
	uint64_t window;           /* of which they are */
	uint64_t since_ms;         /* what was booked from here on was of this window */
	uint64_t until_ms;         /* it ends */
	uint64_t asked_ms;         /* for more, last */
	uint64_t used_up_until_ms; /* nothing is left with Redis: it is not asked before */
	/* Of the command under way: */
	uint32_t given;
	uint64_t given_window;
	bool sent;
	bool needed;
};

struct use {
	struct share share;  /* first */
	struct list waiting; /* struct share_use */
	unsigned soon;       /* bits of counts that are taken along */
	bool gives;          /* the command under way asks for nothing */
	struct share_count counts[SHARE_COUNTS];
	struct portion portions[SHARE_COUNTS];
};

static const struct share_kind use_kind;

static struct use *
use_of(struct share *h)
{
	return h == NULL ? NULL : CONTAINER_OF(h, struct use, share);
}

static uint64_t
now_of(const struct use *h)
{
	return share_now(&h->share);
}

static bool
is_needed(const struct use *h, unsigned needs, unsigned i)
{
	return (needs & 1U << i) != 0 && h->counts[i].most > 0;
}

static bool
has_left(const struct use *h, unsigned i)
{
	return h->portions[i].left > 0 && now_of(h) < h->portions[i].until_ms;
}

/* Books it where all that it needs is here. WAIT: Redis is to be asked. */
static enum share_answer
try_use(struct use *h, struct share_use *u)
{
	bool misses = false;

	for (unsigned i = 0; i < SHARE_COUNTS; i++) {
		if (!is_needed(h, u->needs, i) || has_left(h, i))
			continue;
		if (now_of(h) < h->portions[i].used_up_until_ms) {
			u->used_up = i;
			return SHARE_NO;
		}
		misses = true;
	}
	if (misses)
		return SHARE_WAIT;
	for (unsigned i = 0; i < SHARE_COUNTS; i++)
		h->portions[i].left -= is_needed(h, u->needs, i);
	return SHARE_YES;
}

/* ---- asking ---- */

static uint32_t
needed_count(const struct use *h, unsigned i)
{
	uint32_t n = 0;

	for (struct list_node *at = list_first(&h->waiting); at != NULL;
	     at = list_next(&h->waiting, at))
		n += is_needed(h, LIST_ITEM(at, struct share_use, link)->needs, i);
	if (!has_left(h, i))
		return n;
	return n > h->portions[i].left ? n - h->portions[i].left : 0;
}

/* How many are wanted beyond what is needed. */
static uint32_t
want_of(struct use *h, unsigned i, uint32_t need)
{
	struct portion *p = &h->portions[i];
	bool along =
		is_needed(h, h->soon, i) && !has_left(h, i) && p->used_up_until_ms <= now_of(h);

	if (need == 0 && !along)
		return 0;
	if (p->asked_ms + BUSY_MS > now_of(h) && p->want > 0)
		p->want = p->want < WANT_MOST ? p->want * 2 : WANT_MOST;
	else
		p->want = h->counts[i].ahead > 0 ? h->counts[i].ahead : 1;
	p->asked_ms = now_of(h);
	return p->want;
}

/* What is left of a window that is over, or of all, is given back with it. */
static void
put_count(struct use *h, unsigned i, bool gives)
{
	struct redis_end *e = h->share.shares->end;
	struct portion *p = &h->portions[i];
	uint32_t need = gives ? 0 : needed_count(h, i);
	uint32_t want = gives ? 0 : want_of(h, i, need);

	p->needed = need > 0 || want > 0;
	p->given_window = p->window;
	p->given = gives || !has_left(h, i) ? p->left : 0;
	p->left -= p->given;
	args_span(e, span_of_string(h->counts[i].name));
	args_number(e, h->counts[i].period_ms);
	args_number(e, h->counts[i].most);
	args_number(e, need);
	args_number(e, want);
	args_number(e, p->given);
	args_number(e, p->given_window);
}

static bool
ask(struct use *h, bool gives)
{
	unsigned count = 0;

	for (unsigned i = 0; i < SHARE_COUNTS; i++)
		count += h->counts[i].most > 0;
	if (!share_begin(&h->share, "rs1_use", count * ARGUMENTS))
		return false;
	for (unsigned i = 0; i < SHARE_COUNTS; i++) {
		if (h->counts[i].most > 0)
			put_count(h, i, gives);
		h->portions[i].sent = h->counts[i].most > 0;
	}
	h->gives = gives;
	h->soon = 0;
	share_send(&h->share);
	return true;
}

/* ---- answers ---- */

static void
read_portion(struct use *h, unsigned i, const struct redisReply *reply, size_t at)
{
	struct portion *p = &h->portions[i];
	int64_t granted, window, ends_in_ms, left;

	if (!redis_number(redis_at(reply, at), &granted) ||
	    !redis_number(redis_at(reply, at + 1), &window) ||
	    !redis_number(redis_at(reply, at + 2), &ends_in_ms) ||
	    !redis_number(redis_at(reply, at + 3), &left) || granted < 0 || window < 0 ||
	    ends_in_ms < 0 || granted > UINT32_MAX / 2)
		return;
	if (p->window != (uint64_t)window)
		p->left = 0;
	p->window = (uint64_t)window;
	p->left += (uint32_t)granted;
	p->until_ms = h->share.sent_ms + (uint64_t)ends_in_ms;
	uint64_t part_ms = h->counts[i].period_ms / PARTS;
	uint64_t began_ms = now_of(h) + (uint64_t)ends_in_ms;
	p->since_ms = began_ms > part_ms ? began_ms - part_ms : 0;
	if (granted == 0 && left == 0 && p->needed)
		p->used_up_until_ms = now_of(h) + USED_UP_MS;
}

/* Certainly not executed: it is still ours. */
static void
take_back(struct use *h)
{
	for (unsigned i = 0; i < SHARE_COUNTS; i++) {
		struct portion *p = &h->portions[i];
		if (p->window == p->given_window)
			p->left += p->given;
		p->given = 0;
	}
}

/* Those who can be told. `away`: all can. */
static void
tell(struct use *h, bool away)
{
	struct list now;
	struct list_node *n;

	list_init(&now);
	list_take_all(&now, &h->waiting);
	while ((n = list_shift(&now)) != NULL) {
		struct share_use *u = LIST_ITEM(n, struct share_use, link);
		enum share_answer answer = try_use(h, u);
		if (answer == SHARE_WAIT && away)
			answer = SHARE_AWAY;
		if (answer == SHARE_WAIT)
			list_append(&h->waiting, &u->link);
		else
			u->on_answer(u, answer);
	}
}

static void
use_answered(struct share *share, enum err error, const struct redisReply *reply)
{
	struct use *h = use_of(share);
	size_t at = 0;

	for (unsigned i = 0; i < SHARE_COUNTS && error == ERR_OK; i++) {
		if (!h->portions[i].sent)
			continue;
		read_portion(h, i, reply, at);
		at += ANSWERS;
	}
	if (error == ERR_AGAIN)
		take_back(h);
	tell(h, error != ERR_OK && !h->gives);
	if (!list_is_empty(&h->waiting) && !ask(h, false))
		tell(h, true);
}

/* ---- what others call ---- */

static bool
use_give_back(struct share *share)
{
	struct use *h = use_of(share);
	bool has = false;

	for (unsigned i = 0; i < SHARE_COUNTS; i++)
		has |= h->portions[i].left > 0 && h->counts[i].most > 0;
	if (has)
		ask(h, true);
	return has;
}

static bool
use_is_needed(const struct share *share)
{
	return !list_is_empty(&CONTAINER_OF(share, const struct use, share)->waiting);
}

static void
use_init(struct share *share)
{
	list_init(&use_of(share)->waiting);
}

static const struct share_kind use_kind = {
	.name = "use",
	.size = sizeof(struct use),
	.init = use_init,
	.answered = use_answered,
	.give_back = use_give_back,
	.is_needed = use_is_needed,
};

enum share_answer
shares_use(struct shares *s, struct span kind, struct span name,
	   const struct share_count counts[SHARE_COUNTS], unsigned needs, unsigned soon,
	   struct share_use *u)
{
	unsigned limited = 0;

	ASSERT(!list_is_linked(&u->link));
	for (unsigned i = 0; i < SHARE_COUNTS; i++)
		limited |= counts[i].most > 0 ? 1U << i : 0;
	if ((needs & limited) == 0)
		return SHARE_YES;
	struct use *h = use_of(share_of(s, &use_kind, kind, name));
	if (h == NULL)
		return SHARE_AWAY;
	memcpy(h->counts, counts, sizeof h->counts);
	u->needs = needs;
	/* Nobody overtakes those who wait. */
	enum share_answer answer = list_is_empty(&h->waiting) ? try_use(h, u) : SHARE_WAIT;
	if (answer != SHARE_WAIT)
		return answer;
	h->soon |= soon;
	list_append(&h->waiting, &u->link);
	if (h->share.asks || ask(h, false)) {
		s->end->counters.share_waits++;
		return SHARE_WAIT;
	}
	list_unlink(&u->link);
	return SHARE_AWAY;
}

void
shares_unuse(struct shares *s, struct span kind, struct span name, unsigned which,
	     uint64_t booked_ms)
{
	struct use *h = use_of(share_find(s, &use_kind, kind, name));

	for (unsigned i = 0; h != NULL && i < SHARE_COUNTS; i++) {
		struct portion *p = &h->portions[i];
		if (is_needed(h, which, i) && booked_ms >= p->since_ms && now_of(h) < p->until_ms)
			p->left++;
	}
}

void
shares_forget(struct share_use *u)
{
	list_unlink(&u->link);
}
