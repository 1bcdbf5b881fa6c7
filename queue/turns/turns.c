/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker's sites and lanes as a whole: what stores call.
 */
#include "queue/turns/turns.h"

#include "core/base/assert.h"
#include "queue/turns/internal.h"

bool
turns_init(struct turns *t, struct queue *q, uint64_t hash_seed,
	   uint64_t (*size_of)(const struct queue_mail *m))
{
	*t = (struct turns){ .queue = q, .size_of = size_of, .hash_seed = hash_seed };
	return turns_lanes_init(t);
}

void
turns_fini(struct turns *t)
{
	ASSERT(t->item_count == 0 && !t->runs);
	for (unsigned i = 0; i < TURNS_SITE_BUCKETS; i++) {
		while (t->sites[i] != NULL)
			turns_site_free(t->sites[i]);
	}
	turns_lanes_fini(t);
}

void
turns_start(struct turns *t)
{
	ASSERT(!t->runs);
	t->runs = true;
	for (unsigned i = 0; i < TURNS_SITE_BUCKETS; i++) {
		for (struct turns_site *s = t->sites[i]; s != NULL; s = s->next) {
			turns_site_look(s);
			turns_site_leave(s); /* what it was asked for is over */
		}
	}
}

void
turns_stop(struct turns *t)
{
	t->runs = false;
	for (unsigned i = 0; i < TURNS_SITE_BUCKETS; i++) {
		for (struct turns_site *s = t->sites[i]; s != NULL; s = s->next)
			turns_site_stop(s);
	}
}

struct turns_lane *
turns_name(struct turns *t, struct site_id id, struct span sender, uint32_t *sender_key)
{
	struct turns_site *s = turns_site_get(t, id);
	struct turns_lane *l = s == NULL ? NULL : turns_lane_get(s, sender, sender_key);

	if (l != NULL && turns_lane_name(l)) {
		t->item_count++;
		return l;
	}
	if (l != NULL)
		turns_lane_drop(l);
	if (s != NULL)
		turns_site_leave(s);
	return NULL;
}

void
turns_unname(struct turns_lane *l)
{
	struct turns_site *s = l->site;

	ASSERT(s->turns->item_count > 0);
	s->turns->item_count--;
	turns_lane_unname(l);
	turns_site_leave(s);
}

bool
turns_sender(const struct turns_lane *l, struct span *key)
{
	if (!l->is_shared)
		*key = span_of(l->text, l->text_size);
	return !l->is_shared;
}

void
turns_wait(struct turns_item *i)
{
	struct turns_lane *l = i->lane;

	turns_site_pay_back(i);
	turns_lane_push(i);
	if (turns_lane_first(l) == i) {
		turns_site_settle(l);
		turns_site_look(l->site);
	}
}

void
turns_take(struct turns_item *i)
{
	struct turns_lane *l = i->lane;
	bool was_first = turns_lane_first(l) == i;

	turns_lane_pull(i);
	if (was_first)
		turns_site_settle(l);
}

void
turns_claimed(struct turns_site *s)
{
	s->told = false;
	turns_site_look(s);
}

void
turns_tell_again(struct turns *t)
{
	for (unsigned i = 0; i < TURNS_SITE_BUCKETS; i++) {
		for (struct turns_site *s = t->sites[i]; s != NULL; s = s->next) {
			if (s->told)
				turns_claimed(s);
		}
	}
}
