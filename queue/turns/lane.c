/* SPDX-License-Identifier: Apache-2.0
 *
 * Lanes: what waits at one site of one sender, a heap by due time. Where there are too many senders
 * some share a lane, chosen by the hash of the sender's key.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/sender.h"
#include "queue/turns/internal.h"

enum {
	EXACT_MOST = 1024,  /* of a site */
	SHARED_MOST = 1024, /* where that is exceeded */
	SHARED_FEW = 4,     /* of a site when the end has too many: its mails pay for their lanes */
	EXACT_LEAST = 4096, /* of an end, and one for so many items more: */
	ITEMS_OF_A_LANE = 16,
	HEAP_LEAST = 4,
	LANE_BITS = 16, /* of the hash table */
	WEIGHT_MOST = 1024,
};

bool
turns_lanes_init(struct turns *t)
{
	t->lanes = calloc((size_t)1 << LANE_BITS, sizeof(struct turns_lane *));
	return t->lanes != NULL;
}

void
turns_lanes_fini(struct turns *t)
{
	free(t->lanes);
	t->lanes = NULL;
}

/* ---- the heap ---- */

static struct turns_item **
heap_of(struct turns_lane *l)
{
	return l->heap_capacity <= 1 ? &l->heap.one : l->heap.many;
}

struct turns_item *
turns_lane_first(struct turns_lane *l)
{
	return l->heap_count == 0 ? NULL : heap_of(l)[0];
}

static void
heap_set(struct turns_item **heap, uint32_t at, struct turns_item *i)
{
	heap[at] = i;
	i->heap_index = at & TURNS_ITEMS_MOST;
}

static void
heap_up(struct turns_item **heap, uint32_t at, struct turns_item *i)
{
	while (at > 0 && heap[(at - 1) / 2]->item.due_at_ms > i->item.due_at_ms) {
		heap_set(heap, at, heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(heap, at, i);
}

static void
heap_down(struct turns_lane *l, struct turns_item **heap, uint32_t at, struct turns_item *i)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= l->heap_count)
			break;
		if (child + 1 < l->heap_count &&
		    heap[child + 1]->item.due_at_ms < heap[child]->item.due_at_ms)
			child++;
		if (heap[child]->item.due_at_ms >= i->item.due_at_ms)
			break;
		heap_set(heap, at, heap[child]);
		at = child;
	}
	heap_set(heap, at, i);
}

void
turns_lane_push(struct turns_item *i)
{
	struct turns_lane *l = i->lane;

	ASSERT(l->heap_count < l->heap_capacity);
	heap_up(heap_of(l), l->heap_count, i);
	l->heap_count++;
}

void
turns_lane_pull(struct turns_item *i)
{
	struct turns_lane *l = i->lane;
	struct turns_item **heap = heap_of(l);
	uint32_t at = i->heap_index;

	ASSERT(at < l->heap_count && heap[at] == i);
	struct turns_item *last = heap[--l->heap_count];
	if (last == i)
		return;
	if (at > 0 && heap[(at - 1) / 2]->item.due_at_ms > last->item.due_at_ms)
		heap_up(heap, at, last);
	else
		heap_down(l, heap, at, last);
}

static bool
heap_grow(struct turns_lane *l)
{
	bool is_one = l->heap_capacity <= 1;
	uint32_t capacity = l->heap_capacity + l->heap_capacity / 4 + HEAP_LEAST;
	struct turns_item *one = l->heap.one;
	struct turns_item **larger =
		realloc(is_one ? NULL : l->heap.many, capacity * sizeof(struct turns_item *));

	if (larger == NULL)
		return false;
	if (is_one)
		larger[0] = one;
	l->site->turns->memory_bytes +=
		(capacity - (is_one ? 0 : l->heap_capacity)) * sizeof *larger;
	l->heap.many = larger;
	l->heap_capacity = capacity;
	return true;
}

bool
turns_lane_name(struct turns_lane *l)
{
	if (l->items >= l->heap_capacity && !heap_grow(l))
		return false;
	l->items++;
	l->site->items++;
	return true;
}

/* ---- found and made ---- */

static size_t
lane_size(const struct turns_lane *l)
{
	return sizeof *l + l->text_size;
}

static struct turns_lane **
bucket_of(const struct turns_site *s, uint32_t hash)
{
	uint64_t h = (hash ^ (uint64_t)s->id.number << 32) * 0x9e3779b97f4a7c15U;

	return &s->turns->lanes[h >> (64 - LANE_BITS)];
}

static bool
may_be_exact(const struct turns_site *s)
{
	const struct turns *t = s->turns;

	return s->exact_count < EXACT_MOST &&
	       t->lane_count < EXACT_LEAST + t->item_count / ITEMS_OF_A_LANE;
}

static struct turns_lane *
find(const struct turns_site *s, bool shared, uint32_t hash, struct span text)
{
	struct turns_lane *l = *bucket_of(s, hash);

	while (l != NULL && (l->site != s || l->hash != hash || l->is_shared != shared ||
			     !span_eq(span_of(l->text, l->text_size), text)))
		l = l->next;
	return l;
}

static struct turns_lane *
make(struct turns_site *s, bool shared, uint32_t hash, struct span text)
{
	struct turns *t = s->turns;
	struct turns_lane **bucket = bucket_of(s, hash);
	struct turns_lane *l = malloc(sizeof *l + text.size);

	if (l == NULL || !turns_site_reserve(s)) {
		free(l);
		return NULL;
	}
	*l = (struct turns_lane){ .next = *bucket,
				  .site = s,
				  .hash = hash,
				  .heap_capacity = 1,
				  .place = TURNS_LANE_NOWHERE,
				  .weight = 1,
				  .is_shared = shared,
				  .text_size = (uint8_t)text.size };
	if (text.size > 0)
		memcpy(l->text, text.data, text.size);
	*bucket = l;
	s->lane_count++;
	s->exact_count += !shared;
	t->lane_count++;
	t->memory_bytes += lane_size(l);
	return l;
}

struct turns_lane *
turns_lane_get(struct turns_site *s, struct span sender, uint32_t *key_hash)
{
	uint8_t memory[SENDER_KEY_MOST];
	struct span key = sender_key(sender, memory);
	uint32_t hash = sender_key_hash(key, s->turns->hash_seed);
	struct turns_lane *l = find(s, false, hash, key);

	*key_hash = hash;
	if (l != NULL)
		return l;
	if (may_be_exact(s))
		return make(s, false, hash, key);
	hash %= s->exact_count < EXACT_MOST ? SHARED_FEW : SHARED_MOST;
	l = find(s, true, hash, span_none());
	return l != NULL ? l : make(s, true, hash, span_none());
}

void
turns_lane_drop(struct turns_lane *l)
{
	struct turns_site *s = l->site;
	struct turns *t = s->turns;
	struct turns_lane **at = bucket_of(s, l->hash);

	if (l->items > 0)
		return;
	ASSERT(l->heap_count == 0 && l->place == TURNS_LANE_NOWHERE);
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	s->lane_count--;
	s->exact_count -= !l->is_shared;
	t->lane_count--;
	t->memory_bytes -= lane_size(l);
	if (l->heap_capacity > 1) {
		t->memory_bytes -= l->heap_capacity * sizeof(struct turns_item *);
		free(l->heap.many);
	}
	free(l);
}

void
turns_lane_unname(struct turns_lane *l)
{
	ASSERT(l->items > 0 && l->site->items > 0);
	l->items--;
	l->site->items--;
	turns_lane_drop(l);
}

void
turns_lane_weigh(struct turns_lane *l)
{
	const struct turns *t = l->site->turns;
	const struct queue_hooks *hooks = turns_hooks(t);
	uint32_t weight = 1;

	if (hooks->weight_of != NULL && !l->is_shared)
		weight = hooks->weight_of(t->queue, span_of(l->text, l->text_size));
	l->weight = weight == 0 ? 1 : weight < WEIGHT_MOST ? weight : WEIGHT_MOST;
}
