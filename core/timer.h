/* SPDX-License-Identifier: Apache-2.0
 *
 * timer: deadlines of one thread on a hierarchical wheel (4 levels of 256 slots, ticks of 8 ms).
 *
 * Add and stop are O(1); timers never fire early and at most one tick late. Moving a deadline
 * backwards and forwards is common (every receive), so timer_set() on a running timer only stores
 * a later deadline and lets the wheel find it out when the old one comes; an earlier one is moved.
 * A timer fires once; on_timer may set it again or free its owner. Times are clock_monotonic_ms().
 */
#ifndef CORE_TIMER_H
#define CORE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"

enum { TIMER_LEVELS = 4, TIMER_SLOTS = 256, TIMER_TICK_MS = 8 };

struct timer;
typedef void (*timer_fn)(struct timer *t);

struct timer {
	struct list_node node;
	timer_fn on_timer;
	uint64_t deadline_ms; /* 0: not running */
	uint64_t slot_ms;     /* the deadline it is filed under; never later than deadline_ms */
};

struct timers {
	struct list slots[TIMER_LEVELS][TIMER_SLOTS];
	uint64_t now_tick;
	size_t count;
};

void timers_init(struct timers *all, uint64_t now_ms);
/* Fires what is due; returns how many. None that is started meanwhile fires in the same call.
 */
size_t timers_run(struct timers *all, uint64_t now_ms);
/* Milliseconds until timers_run() has something to do, at most `most_ms`. Never too long. */
uint64_t timers_next_ms(const struct timers *all, uint64_t now_ms, uint64_t most_ms);

static inline void
timer_init(struct timer *t, timer_fn on_timer)
{
	*t = (struct timer){ .on_timer = on_timer };
}

void timer_set(struct timers *all, struct timer *t, uint64_t deadline_ms);
void timer_stop(struct timers *all, struct timer *t);

static inline bool
timer_is_set(const struct timer *t)
{
	return t->deadline_ms != 0;
}

#endif
