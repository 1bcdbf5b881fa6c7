/* SPDX-License-Identifier: Apache-2.0
 *
 * internal: the shapes that the parts of turns share. For turns/ alone.
 *
 *   turns.c   start, stop, names, waiting      site.c   the lanes of a site, telling
 *                                              lane.c   what waits of one sender
 */
#ifndef QUEUE_TURNS_INTERNAL_H
#define QUEUE_TURNS_INTERNAL_H

#include "core/base/list.h"
#include "core/timer.h"
#include "queue/turns/turns.h"

struct turns_site {
	struct turns_site *next; /* in its bucket */
	struct turns *turns;
	struct site_id id;
	uint32_t items; /* that name it, in any state */
	bool told;      /* on_due was called and no claim has come to its end since */
	struct timer timer;
	struct task tell;
	struct task leave;        /* it may go: no item names it */
	struct turns_lane **heap; /* in which nothing is due, by their first items */
	uint32_t heap_count;
	uint32_t heap_capacity; /* of all its lanes */
	struct list ring;       /* in which something is due, in the order of their turns */
	uint32_t ring_count;
	uint32_t passed; /* turns since one that paid for an item */
	uint32_t least;  /* turns that the nearest of them needs */
	uint32_t lane_count;
	uint32_t exact_count;
};

#define TURNS_LANE_NOWHERE UINT32_MAX
#define TURNS_LANE_IN_RING (UINT32_MAX - 1)

/* What waits at a site of one sender, or of some whose hash is alike. */
struct turns_lane {
	struct turns_lane *next; /* in its bucket */
	struct turns_site *site;
	struct list_node link; /* in site->ring */
	union {
		struct turns_item *one; /* capacity 1 */
		struct turns_item **many;
	} heap; /* by due_at_ms */
	uint32_t heap_count;
	uint32_t heap_capacity;
	uint32_t items; /* that name it, in any state */
	uint32_t hash;  /* of the sender's key; number of a shared one */
	uint32_t place; /* in site->heap, or TURNS_LANE_… */
	uint32_t weight;
	uint32_t account; /* what its turns have earned and nobody has spent */
	bool is_shared;
	bool has_turn;
	uint8_t text_size; /* the sender's key; none where shared */
	uint8_t text[];
};

static inline struct worker *
turns_worker(const struct turns *t)
{
	return t->queue->worker;
}

static inline const struct queue_hooks *
turns_hooks(const struct turns *t)
{
	return &t->queue->store->hooks;
}

/* ---- site.c ---- */
struct turns_site *turns_site_get(struct turns *t, struct site_id id); /* made; NULL: no memory */
void turns_site_leave(struct turns_site *s);   /* soon, if no item names it by then */
bool turns_site_reserve(struct turns_site *s); /* room for one more lane; false: no memory */
/* Its first item is another one: where does it belong now? */
void turns_site_settle(struct turns_lane *l);
/* What was paid for an item and not used goes back on the account. */
void turns_site_pay_back(struct turns_item *i);
void turns_site_look(struct turns_site *s); /* due? then tells; else sets the timer */
void turns_site_stop(struct turns_site *s);
void turns_site_free(struct turns_site *s);

/* ---- lane.c ---- */
bool turns_lanes_init(struct turns *t);
void turns_lanes_fini(struct turns *t);
/* The lane of a sender at a site, made where there is none. NULL: no memory. */
struct turns_lane *turns_lane_get(struct turns_site *s, struct span sender, uint32_t *key_hash);
/* One more item names it, which gets a place in the heap: waiting never fails. False: no memory. */
bool turns_lane_name(struct turns_lane *l);
void turns_lane_unname(struct turns_lane *l);
void turns_lane_drop(struct turns_lane *l); /* if no item names it */
void turns_lane_weigh(struct turns_lane *l);
void turns_lane_push(struct turns_item *i);
void turns_lane_pull(struct turns_item *i);
struct turns_item *turns_lane_first(struct turns_lane *l);

#endif
