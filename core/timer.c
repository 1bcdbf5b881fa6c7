/* SPDX-License-Identifier: Apache-2.0 */
#include "core/timer.h"

#include "core/base/assert.h"

enum { SLOT_BITS = 8, SLOT_MASK = TIMER_SLOTS - 1 };

_Static_assert(TIMER_SLOTS == 1 << SLOT_BITS, "a slot is a byte of the tick");

/* Ticks that the wheel can see ahead: 397 days. Later ones are filed there, and found to be early
 * when they come, as any deadline that was moved. */
static const uint64_t ticks_max = ((uint64_t)1 << (SLOT_BITS * TIMER_LEVELS)) - 1;

void
timers_init(struct timers *all, uint64_t now_ms)
{
	for (unsigned level = 0; level < TIMER_LEVELS; level++)
		for (unsigned slot = 0; slot < TIMER_SLOTS; slot++)
			list_init(&all->slots[level][slot]);
	all->now_tick = now_ms / TIMER_TICK_MS;
	all->count = 0;
}

/* Files t under its deadline. The tick is rounded up, so it is never early, and lies ahead: what
 * is due already comes with the next tick. */
static void
file(struct timers *all, struct timer *t)
{
	uint64_t tick = t->deadline_ms / TIMER_TICK_MS + (t->deadline_ms % TIMER_TICK_MS != 0);
	unsigned level = 0;

	if (tick <= all->now_tick)
		tick = all->now_tick + 1;
	if (tick - all->now_tick > ticks_max)
		tick = all->now_tick + ticks_max;
	while (tick - all->now_tick >= (uint64_t)1 << (SLOT_BITS * (level + 1)))
		level++;
	ASSERT(level < TIMER_LEVELS);
	t->slot_ms = t->deadline_ms;
	list_append(&all->slots[level][(tick >> (SLOT_BITS * level)) & SLOT_MASK], &t->node);
}

/* A slot of an upper level has come near: its timers move down, none of them to where it was. */
static void
cascade(struct timers *all, unsigned level)
{
	struct list *slot = &all->slots[level][(all->now_tick >> (SLOT_BITS * level)) & SLOT_MASK];
	struct list moving;
	struct list_node *node;

	list_init(&moving);
	list_take_all(&moving, slot);
	while ((node = list_shift(&moving)) != NULL) {
		struct timer *t = LIST_ITEM(node, struct timer, node);
		uint64_t tick = t->slot_ms / TIMER_TICK_MS + (t->slot_ms % TIMER_TICK_MS != 0);

		/* Due with this very tick: file() would call that the past. */
		if (tick <= all->now_tick)
			list_append(&all->slots[0][all->now_tick & SLOT_MASK], node);
		else
			file(all, t);
	}
}

/* Goes on by one tick and moves what is filed under it to `due`. */
static void
advance(struct timers *all, struct list *due)
{
	all->now_tick++;
	for (unsigned level = TIMER_LEVELS - 1; level > 0; level--)
		if ((all->now_tick & (((uint64_t)1 << (SLOT_BITS * level)) - 1)) == 0)
			cascade(all, level);
	list_take_all(due, &all->slots[0][all->now_tick & SLOT_MASK]);
}

size_t
timers_run(struct timers *all, uint64_t now_ms)
{
	uint64_t target = now_ms / TIMER_TICK_MS;
	size_t fired = 0;
	struct list due;
	struct list_node *node;

	if (all->count == 0 && target > all->now_tick)
		all->now_tick = target; /* nothing is filed: no need to go there step by step */
	list_init(&due);
	while (all->now_tick < target)
		advance(all, &due);
	/* Only now, so that what the callbacks set is filed behind this moment. They may stop and
	 * move timers that are still in `due`. */
	while ((node = list_shift(&due)) != NULL) {
		struct timer *t = LIST_ITEM(node, struct timer, node);

		ASSERT(t->deadline_ms != 0);
		if (t->deadline_ms > now_ms) {
			file(all, t); /* its deadline was moved since it was filed */
			continue;
		}
		t->deadline_ms = 0;
		all->count--;
		fired++;
		t->on_timer(t);
	}
	return fired;
}

uint64_t
timers_next_ms(const struct timers *all, uint64_t now_ms, uint64_t most_ms)
{
	uint64_t tick = all->now_tick + 1;

	if (all->count == 0)
		return most_ms;
	/* At a multiple of TIMER_SLOTS upper levels move down, perhaps to that very tick. */
	while ((tick & SLOT_MASK) != 0 && list_is_empty(&all->slots[0][tick & SLOT_MASK]) &&
	       tick * TIMER_TICK_MS < now_ms + most_ms)
		tick++;
	uint64_t at_ms = tick * TIMER_TICK_MS;
	if (at_ms <= now_ms)
		return 0;
	return at_ms - now_ms < most_ms ? at_ms - now_ms : most_ms;
}

void
timer_set(struct timers *all, struct timer *t, uint64_t deadline_ms)
{
	ASSERT(t->on_timer != NULL);
	if (deadline_ms == 0)
		deadline_ms = 1; /* 0 means that it does not run */
	if (t->deadline_ms == 0) {
		all->count++;
	} else if (deadline_ms >= t->slot_ms) {
		t->deadline_ms = deadline_ms;
		return;
	} else {
		list_unlink(&t->node);
	}
	t->deadline_ms = deadline_ms;
	file(all, t);
}

void
timer_stop(struct timers *all, struct timer *t)
{
	if (t->deadline_ms == 0)
		return;
	ASSERT(all->count > 0);
	list_unlink(&t->node);
	t->deadline_ms = 0;
	all->count--;
}
