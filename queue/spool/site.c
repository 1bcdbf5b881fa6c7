/* SPDX-License-Identifier: Apache-2.0
 *
 * What waits, by site: a heap by due time. Sites come and go with the items that name them: numbers
 * are the caller's, who is told when one is not named any more.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/spool/internal.h"

enum { HEAP_LEAST = 4 };

/* ---- sites ---- */

static void
on_tell_due(struct task *t)
{
	struct spool_site *s = CONTAINER_OF(t, struct spool_site, tell);
	const struct queue_hooks *hooks = &s->end->spool->store.hooks;

	if (!s->end->stopping)
		hooks->on_due(&s->end->queue, s->id);
}

static void
on_site_timer(struct timer *t)
{
	site_look(CONTAINER_OF(t, struct spool_site, timer));
}

static struct spool_site **
place_of(struct spool_end *e, struct site_id id)
{
	struct spool_site **at = &e->sites[id.number % SPOOL_SITE_BUCKETS];

	while (*at != NULL && (*at)->id.number != id.number)
		at = &(*at)->next;
	return at;
}

static void
site_free(struct spool_site *s)
{
	struct spool_end *e = s->end;

	ASSERT(s->items == 0 && s->heap_count == 0);
	*place_of(e, s->id) = s->next;
	timer_stop(&e->queue.worker->timers, &s->timer);
	task_cancel(&s->tell);
	task_cancel(&s->leave);
	e->memory_bytes -= sizeof *s + s->heap_capacity * sizeof(struct spool_item *);
	free(s->heap);
	free(s);
}

static void
on_leave(struct task *t)
{
	struct spool_site *s = CONTAINER_OF(t, struct spool_site, leave);
	struct spool_end *e = s->end;
	const struct queue_hooks *hooks = &e->spool->store.hooks;
	struct site_id id = s->id;

	if (s->items > 0 || e->stopping)
		return;
	site_free(s);
	if (hooks->on_site_unused != NULL && id.number != 0)
		hooks->on_site_unused(&e->queue, id);
}

struct spool_site *
site_find(struct spool_end *e, struct site_id id)
{
	return *place_of(e, id);
}

struct spool_site *
site_get(struct spool_end *e, struct site_id id)
{
	struct spool_site **at = place_of(e, id);

	if (*at == NULL) {
		struct spool_site *s = calloc(1, sizeof *s);
		if (s == NULL)
			return NULL;
		s->end = e;
		s->id = id;
		timer_init(&s->timer, on_site_timer);
		task_init(&s->tell, on_tell_due);
		task_init(&s->leave, on_leave);
		e->memory_bytes += sizeof *s;
		*at = s;
	}
	return *at;
}

void
site_leave(struct spool_site *s)
{
	if (s->items == 0 && s->end->started)
		worker_soon(s->end->queue.worker, &s->leave);
}

void
site_look(struct spool_site *s)
{
	enum { LOOK_AGAIN_MS = 60 * 1000 };
	struct worker *w = s->end->queue.worker;

	if (s->told || s->heap_count == 0 || !s->end->started || s->end->stopping) {
		timer_stop(&w->timers, &s->timer);
		return;
	}
	uint64_t due_at_ms = s->heap[0]->item.due_at_ms;
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
sites_look(struct spool_end *e)
{
	for (unsigned i = 0; i < SPOOL_SITE_BUCKETS; i++) {
		for (struct spool_site *s = e->sites[i]; s != NULL; s = s->next) {
			site_look(s);
			site_leave(s); /* what it was asked for is over */
		}
	}
}

/* ---- the heap of a site: who is due first ---- */

static void
heap_set(struct spool_site *s, uint32_t at, struct spool_item *i)
{
	s->heap[at] = i;
	i->heap_index = at & SPOOL_ITEMS_MOST;
}

static void
heap_up(struct spool_site *s, uint32_t at, struct spool_item *i)
{
	while (at > 0 && s->heap[(at - 1) / 2]->item.due_at_ms > i->item.due_at_ms) {
		heap_set(s, at, s->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(s, at, i);
}

static void
heap_down(struct spool_site *s, uint32_t at, struct spool_item *i)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= s->heap_count)
			break;
		if (child + 1 < s->heap_count &&
		    s->heap[child + 1]->item.due_at_ms < s->heap[child]->item.due_at_ms)
			child++;
		if (s->heap[child]->item.due_at_ms >= i->item.due_at_ms)
			break;
		heap_set(s, at, s->heap[child]);
		at = child;
	}
	heap_set(s, at, i);
}

bool
site_name(struct spool_site *s)
{
	if (s->items < s->heap_capacity) {
		s->items++;
		return true;
	}
	uint32_t capacity = s->heap_capacity + s->heap_capacity / 4 + HEAP_LEAST;
	struct spool_item **larger = realloc(s->heap, capacity * sizeof(struct spool_item *));
	if (larger == NULL)
		return false;
	s->end->memory_bytes += (capacity - s->heap_capacity) * sizeof(struct spool_item *);
	s->heap = larger;
	s->heap_capacity = capacity;
	s->items++;
	return true;
}

void
site_unname(struct spool_site *s)
{
	ASSERT(s->items > 0);
	s->items--;
	site_leave(s);
}

void
site_add(struct spool_item *i)
{
	struct spool_site *s = i->site;

	ASSERT(s->heap_count < s->heap_capacity);
	heap_up(s, s->heap_count++, i);
	if (i->heap_index == 0)
		site_look(s);
}

void
site_remove(struct spool_item *i)
{
	struct spool_site *s = i->site;
	uint32_t at = i->heap_index;
	struct spool_item *last = s->heap[--s->heap_count];

	ASSERT(at <= s->heap_count);
	if (last == i)
		return;
	if (at > 0 && s->heap[(at - 1) / 2]->item.due_at_ms > last->item.due_at_ms)
		heap_up(s, at, last);
	else
		heap_down(s, at, last);
}

void
sites_stop(struct spool_end *e)
{
	for (unsigned i = 0; i < SPOOL_SITE_BUCKETS; i++) {
		for (struct spool_site *s = e->sites[i]; s != NULL; s = s->next) {
			timer_stop(&e->queue.worker->timers, &s->timer);
			task_cancel(&s->tell);
			task_cancel(&s->leave);
		}
	}
}

void
sites_fini(struct spool_end *e)
{
	for (unsigned i = 0; i < SPOOL_SITE_BUCKETS; i++) {
		while (e->sites[i] != NULL)
			site_free(e->sites[i]);
	}
}
