/* SPDX-License-Identifier: Apache-2.0
 *
 * turns: what waits in a worker's end of a store, by site and time, and whose turn it is at a site.
 * For stores alone: it calls the hooks on_due, on_site_unused and weight_of of queue.h. Not for how
 * a mail is kept, nor for items that are claimed or held: those only name their site.
 *
 * Sites come and go with the items that name them: numbers are the caller's, who is told when one
 * is not named any more. What waits at a site is parted into lanes, one a sender; the lanes in
 * which something is due have turns (deficit round robin by the sizes of the mails), so that a
 * million mails of one sender hold up those of another by one turn. Above 1024 senders a site, or
 * 4096 and one for each 16 items an end, further ones share lanes.
 *
 * A store embeds struct turns_item as the first member of its items, and owns them. An item is
 * named (turns_name) from its making to its end; the place that it needs for waiting is had from
 * then on, so that waiting never fails. Due times are item.due_at_ms, by the worker's wall clock.
 * All on the worker's thread, or while no worker runs.
 */
#ifndef QUEUE_TURNS_TURNS_H
#define QUEUE_TURNS_TURNS_H

#include "queue/driver.h"

struct turns_lane;
struct turns_site;

enum { TURNS_SITE_BUCKETS = 4096, TURNS_ITEMS_MOST = (1 << 27) - 1 /* heap_index */ };

/* A million of these wait: what is called the store's lies where padding would be. */
struct turns_item {
	struct queue_item item; /* first */
	struct turns_lane *lane;
	uint32_t only_recipient;  /* the store's */
	uint32_t heap_index : 27; /* where it waits */
	uint32_t was_paid : 1;    /* by its sender's turn, and not tried since */
	uint32_t state : 3;       /* the store's */
	uint32_t started : 1;     /* the store's */
};

_Static_assert(sizeof(struct turns_item) == 72, "a million mails have their price");

struct turns {
	struct queue *queue; /* whose store's hooks are called, on whose worker */
	uint64_t (*size_of)(const struct queue_mail *m); /* of its body: what a turn pays for */
	uint64_t hash_seed;                              /* of texts that others choose */
	bool runs;                                       /* between start and stop */
	struct turns_site *sites[TURNS_SITE_BUCKETS];
	struct turns_lane **lanes; /* by site and sender */
	uint64_t lane_count;
	uint64_t item_count;   /* that are named */
	uint64_t memory_bytes; /* of sites, lanes and their heaps */
};

/* False: no memory. What was begun is undone by turns_fini, as what is zeroed is. */
bool turns_init(struct turns *t, struct queue *q, uint64_t hash_seed,
		uint64_t (*size_of)(const struct queue_mail *m));
void turns_fini(struct turns *t); /* when no item names a lane */
/* Tells of what is due, and of sites that were asked for and have no item, from now on. */
void turns_start(struct turns *t);
/* Tells nobody any more; may be called twice. */
void turns_stop(struct turns *t);

/* The lane of a sender at a site, which one more item names. NULL: no memory; then whoever
 * remembers the site is told that it is unused, as after turns_unname. */
struct turns_lane *turns_name(struct turns *t, struct site_id site, struct span sender,
			      uint32_t *sender_key);
/* An item that does not wait gives it up. */
void turns_unname(struct turns_lane *l);

/* Whose it is, while an item names it. False: of several senders. */
bool turns_sender(const struct turns_lane *l, struct span *key);

/* It waits from now on, in i->lane, until i->item.due_at_ms. */
void turns_wait(struct turns_item *i);
/* It waits no more. */
void turns_take(struct turns_item *i);

/* NULL: no item names it. */
struct turns_site *turns_find(struct turns *t, struct site_id site);
/* Whose turn it is, and charges for it; it still waits: take it. NULL: nothing is due. */
struct turns_item *turns_next(struct turns_site *s, uint64_t now_ms);
/* Tells of all that is due, also where it was told and nobody has claimed since. */
void turns_tell_again(struct turns *t);
/* A claim that wanted more has come to its end: what is due, or will be, is told again. */
void turns_claimed(struct turns_site *s);

static inline struct turns_item *
turns_item_of(struct queue_item *i)
{
	OBJ_CHECK(i, QUEUE_ITEM_MAGIC);
	return (struct turns_item *)(void *)i;
}

#endif
