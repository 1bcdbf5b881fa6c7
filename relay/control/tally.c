/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/tally.h"

#include <stdlib.h>

#include "core/base/assert.h"

enum { ARENA_FIRST = 4096 };

_Static_assert((TALLY_SLOTS & (TALLY_SLOTS - 1)) == 0, "slots are found by a mask");

struct tally *
tally_new(void)
{
	struct tally *t = calloc(1, sizeof *t);

	if (t != NULL)
		arena_init(&t->memory, ARENA_FIRST, (size_t)TALLY_KEYS_MAX * (TALLY_KEY_SIZE + 16));
	return t;
}

void
tally_free(struct tally *t)
{
	if (t != NULL)
		arena_reset(&t->memory);
	free(t);
}

static bool
take_slot(struct tally *t, struct tally_row *slot, const struct tally_row *row, uint64_t hash)
{
	struct span key = row->key;

	if (t->keys >= TALLY_KEYS_MAX)
		return false;
	if (key.size > 0) {
		key = arena_copy(&t->memory, key);
		if (key.data == NULL)
			return false;
	}
	t->keys++;
	*slot = *row;
	slot->key = key;
	slot->hash = hash;
	return true;
}

void
tally_add(struct tally *t, const struct tally_row *row)
{
	struct tally_row cut = *row;

	ASSERT(row->count > 0);
	cut.key = span_first(row->key, TALLY_KEY_SIZE);
	uint64_t hash = span_hash_nocase(cut.key, 0);
	size_t slot = (size_t)hash & (TALLY_SLOTS - 1);
	t->count += row->count;
	while (t->slots[slot].count > 0 &&
	       (t->slots[slot].hash != hash || !span_eq(t->slots[slot].key, cut.key)))
		slot = (slot + 1) & (TALLY_SLOTS - 1);
	struct tally_row *found = &t->slots[slot];
	if (found->count == 0) {
		if (!take_slot(t, found, &cut, hash))
			t->others += row->count;
		return;
	}
	found->count += row->count;
	found->bytes += row->bytes;
	if (row->oldest_at_ms < found->oldest_at_ms)
		found->oldest_at_ms = row->oldest_at_ms;
}

void
tally_add_all(struct tally *t, const struct tally *more)
{
	for (size_t i = 0; i < TALLY_SLOTS; i++) {
		if (more->slots[i].count > 0)
			tally_add(t, &more->slots[i]);
	}
	t->count += more->others;
	t->others += more->others;
}

/* The largest count first, free slots last; equal counts by key, so that the order is lasting. */
static int
compare(const void *a, const void *b)
{
	const struct tally_row *x = a;
	const struct tally_row *y = b;
	size_t common = x->key.size < y->key.size ? x->key.size : y->key.size;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	int order = common == 0 ? 0 : memcmp(x->key.data, y->key.data, common);
	if (order != 0)
		return order;
	return x->key.size < y->key.size ? -1 : x->key.size > y->key.size;
}

size_t
tally_sort(struct tally *t)
{
	qsort(t->slots, TALLY_SLOTS, sizeof t->slots[0], compare);
	return t->keys;
}
