/* SPDX-License-Identifier: Apache-2.0
 *
 * Sites: whose turn it is at one, and who is told of it.
 *
 * The lanes of a site (one a sender, lane.c) in which nothing is due yet are a heap by the time of
 * their first item. The others are in a ring and have turns (deficit round robin): at its turn a
 * lane gets QUANTUM times its weight on its account and hands out what that pays for, by the size
 * of the mails. What is left is kept while more is due. So a million mails of one sender hold up
 * those of another by one turn.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/turns/internal.h"

/* In units of COST_UNIT bytes and one more for each mail. */
enum { QUANTUM = 4, COST_UNIT = 16 * 1024, HEAP_LEAST = 4 };

/* ---- sites ---- */

static void
on_tell_due(struct task *t)
{
	struct turns_site *s = CONTAINER_OF(t, struct turns_site, tell);

	if (s->turns->runs)
		turns_hooks(s->turns)->on_due(s->turns->queue, s->id);
}

static void
on_site_timer(struct timer *t)
{
	turns_site_look(CONTAINER_OF(t, struct turns_site, timer));
}

static struct turns_site **
place_of(struct turns *t, struct site_id id)
{
	struct turns_site **at = &t->sites[id.number % TURNS_SITE_BUCKETS];

	while (*at != NULL && (*at)->id.number != id.number)
		at = &(*at)->next;
	return at;
}

void
turns_site_free(struct turns_site *s)
{
	struct turns *t = s->turns;

	ASSERT(s->items == 0 && s->lane_count == 0);
	ASSERT(s->heap_count == 0 && s->ring_count == 0);
	*place_of(t, s->id) = s->next;
	turns_site_stop(s);
	t->memory_bytes -= sizeof *s + s->heap_capacity * sizeof *s->heap;
	free(s->heap);
	free(s);
}

static void
on_leave(struct task *task)
{
	struct turns_site *s = CONTAINER_OF(task, struct turns_site, leave);
	struct turns *t = s->turns;
	const struct queue_hooks *hooks = turns_hooks(t);
	struct site_id id = s->id;

	if (s->items > 0 || !t->runs)
		return;
	turns_site_free(s);
	if (hooks->on_site_unused != NULL && id.number != 0)
		hooks->on_site_unused(t->queue, id);
}

struct turns_site *
turns_find(struct turns *t, struct site_id id)
{
	return *place_of(t, id);
}

struct turns_site *
turns_site_get(struct turns *t, struct site_id id)
{
	struct turns_site **at = place_of(t, id);

	if (*at == NULL) {
		struct turns_site *s = calloc(1, sizeof *s);
		if (s == NULL)
			return NULL;
		s->turns = t;
		s->id = id;
		timer_init(&s->timer, on_site_timer);
		task_init(&s->tell, on_tell_due);
		task_init(&s->leave, on_leave);
		list_init(&s->ring);
		s->least = UINT32_MAX;
		t->memory_bytes += sizeof *s;
		*at = s;
	}
	return *at;
}

void
turns_site_leave(struct turns_site *s)
{
	if (s->items == 0 && s->turns->runs)
		worker_soon(turns_worker(s->turns), &s->leave);
}

/* ---- lanes in which nothing is due ---- */

static uint64_t
due_of(struct turns_lane *l)
{
	return turns_lane_first(l)->item.due_at_ms;
}

static void
heap_set(struct turns_site *s, uint32_t at, struct turns_lane *l)
{
	s->heap[at] = l;
	l->place = at;
}

static void
heap_up(struct turns_site *s, uint32_t at, struct turns_lane *l)
{
	while (at > 0 && due_of(s->heap[(at - 1) / 2]) > due_of(l)) {
		heap_set(s, at, s->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(s, at, l);
}

static void
heap_down(struct turns_site *s, uint32_t at, struct turns_lane *l)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= s->heap_count)
			break;
		if (child + 1 < s->heap_count &&
		    due_of(s->heap[child + 1]) < due_of(s->heap[child]))
			child++;
		if (due_of(s->heap[child]) >= due_of(l))
			break;
		heap_set(s, at, s->heap[child]);
		at = child;
	}
	heap_set(s, at, l);
}

/* Where its neighbours say that it belongs. */
static void
heap_place(struct turns_site *s, uint32_t at, struct turns_lane *l)
{
	if (at > 0 && due_of(s->heap[(at - 1) / 2]) > due_of(l))
		heap_up(s, at, l);
	else
		heap_down(s, at, l);
}

static void
heap_remove(struct turns_site *s, struct turns_lane *l)
{
	uint32_t at = l->place;

	ASSERT(at < s->heap_count && s->heap[at] == l);
	struct turns_lane *last = s->heap[--s->heap_count];
	l->place = TURNS_LANE_NOWHERE;
	if (last != l)
		heap_place(s, at, last);
}

bool
turns_site_reserve(struct turns_site *s)
{
	if (s->lane_count < s->heap_capacity)
		return true;
	uint32_t capacity = s->heap_capacity + s->heap_capacity / 4 + HEAP_LEAST;
	struct turns_lane **larger = realloc(s->heap, capacity * sizeof *larger);
	if (larger == NULL)
		return false;
	s->turns->memory_bytes += (capacity - s->heap_capacity) * sizeof *larger;
	s->heap = larger;
	s->heap_capacity = capacity;
	return true;
}

/* ---- lanes in which something is due ---- */

static void
ring_enter(struct turns_lane *l)
{
	ASSERT(l->place == TURNS_LANE_NOWHERE);
	turns_lane_weigh(l);
	l->place = TURNS_LANE_IN_RING;
	l->has_turn = false;
	list_append(&l->site->ring, &l->link);
	l->site->ring_count++;
}

static void
ring_leave(struct turns_lane *l)
{
	list_unlink(&l->link);
	l->site->ring_count--;
	l->place = TURNS_LANE_NOWHERE;
	l->account = 0;
}

static void
ring_turn(struct turns_site *s)
{
	struct list_node *n = list_shift(&s->ring);

	LIST_ITEM(n, struct turns_lane, link)->has_turn = false;
	list_append(&s->ring, n);
}

void
turns_site_settle(struct turns_lane *l)
{
	struct turns_site *s = l->site;
	struct turns_item *first = turns_lane_first(l);

	if (l->place == TURNS_LANE_IN_RING) {
		if (first != NULL && first->item.due_at_ms <= turns_worker(s->turns)->now_wall_ms)
			return;
		ring_leave(l);
	} else if (l->place != TURNS_LANE_NOWHERE) {
		if (first == NULL)
			heap_remove(s, l);
		else
			heap_place(s, l->place, l);
		return;
	}
	if (first != NULL)
		heap_up(s, s->heap_count++, l);
}

static void
admit_due(struct turns_site *s, uint64_t now_ms)
{
	while (s->heap_count > 0 && due_of(s->heap[0]) <= now_ms) {
		struct turns_lane *l = s->heap[0];
		heap_remove(s, l);
		ring_enter(l);
	}
}

static uint32_t
cost_of(const struct turns_item *i)
{
	const struct turns *t = i->lane->site->turns;
	uint64_t cost = 1 + t->size_of(i->item.mail) / COST_UNIT;

	return cost < UINT32_MAX / 4 ? (uint32_t)cost : UINT32_MAX / 4;
}

/* What so many turns are worth. */
static void
credit(struct turns_lane *l, uint64_t turns)
{
	uint64_t account = l->account + turns * QUANTUM * l->weight;

	l->account = account < UINT32_MAX / 2 ? (uint32_t)account : UINT32_MAX / 2;
}

/* A whole round has paid for nothing: so many rounds as the nearest lane needs, less one, at once.
 */
static void
skip_rounds(struct turns_site *s)
{
	for (struct list_node *n = list_first(&s->ring); n != NULL; n = list_next(&s->ring, n))
		credit(LIST_ITEM(n, struct turns_lane, link), s->least - 1);
	s->passed = 0;
	s->least = UINT32_MAX;
}

struct turns_item *
turns_next(struct turns_site *s, uint64_t now_ms)
{
	admit_due(s, now_ms);
	while (s->ring_count > 0) {
		struct turns_lane *l = LIST_ITEM(list_first(&s->ring), struct turns_lane, link);
		struct turns_item *i = turns_lane_first(l);
		if (i->item.due_at_ms > now_ms) { /* the clock was set back */
			turns_site_settle(l);
			continue;
		}
		uint32_t cost = cost_of(i);
		if (!l->has_turn)
			credit(l, 1);
		l->has_turn = true;
		if (l->account >= cost) {
			l->account -= cost;
			i->was_paid = 1;
			s->passed = 0;
			s->least = UINT32_MAX;
			return i;
		}
		uint32_t pay = QUANTUM * l->weight;
		uint32_t turns = (cost - l->account + pay - 1) / pay;
		s->least = turns < s->least ? turns : s->least;
		ring_turn(s);
		if (++s->passed >= s->ring_count)
			skip_rounds(s);
	}
	return NULL;
}

void
turns_site_pay_back(struct turns_item *i)
{
	struct turns_lane *l = i->lane;

	/* It was not tried, so it has cost its sender nothing. */
	if (i->was_paid) {
		uint64_t account = (uint64_t)l->account + cost_of(i);
		l->account = account < UINT32_MAX / 2 ? (uint32_t)account : UINT32_MAX / 2;
	}
	i->was_paid = 0;
}

/* ---- telling ---- */

void
turns_site_look(struct turns_site *s)
{
	enum { LOOK_AGAIN_MS = 60 * 1000 };
	struct worker *w = turns_worker(s->turns);
	bool is_empty = s->heap_count == 0 && s->ring_count == 0;

	if (s->told || is_empty || !s->turns->runs) {
		timer_stop(&w->timers, &s->timer);
		return;
	}
	uint64_t due_at_ms = s->ring_count > 0 ? 0 : due_of(s->heap[0]);
	if (due_at_ms <= w->now_wall_ms) {
		s->told = true;
		timer_stop(&w->timers, &s->timer);
		worker_soon(w, &s->tell);
		return;
	}
	/* The wall clock may be set: look at it now and then. */
	uint64_t wait_ms = due_at_ms - w->now_wall_ms;
	timer_set(&w->timers, &s->timer,
		  w->now_ms + (wait_ms < LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS));
}

void
turns_site_stop(struct turns_site *s)
{
	timer_stop(&turns_worker(s->turns)->timers, &s->timer);
	task_cancel(&s->tell);
	task_cancel(&s->leave);
}
