/* SPDX-License-Identifier: Apache-2.0
 *
 * A word is TAG << 40 | WINDOW << 22 | COUNT, and free when nothing is counted in it, or when its
 * window is older than a period. Memory orders: the numbers guard no other
 * memory, so relaxed does.
 */
#include "core/windows.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/assert.h"

enum {
	SLOTS = 16, /* of a bucket */
	COUNT_BITS = 22,
	WINDOW_BITS = 18, /* 5 years of ten minutes */
	PARTS = 6,        /* windows of a period */
	TAG_AT = COUNT_BITS + WINDOW_BITS,
};

_Static_assert(WINDOWS_COUNT_MAX == (1 << COUNT_BITS) - 1, "a count fits its bits");

struct bucket {
	_Alignas(128) _Atomic uint64_t words[SLOTS];
};

struct windows {
	size_t mask; /* buckets - 1 */
	uint64_t window_ms;
	struct bucket *buckets;
};

static const uint64_t count_mask = ((uint64_t)1 << COUNT_BITS) - 1;
static const uint64_t window_mask = ((uint64_t)1 << WINDOW_BITS) - 1;

struct windows *
windows_new(size_t slots, uint64_t period_ms)
{
	struct windows *w = calloc(1, sizeof *w);
	size_t buckets = 1;

	ASSERT(slots <= UINT32_MAX / 2);
	ASSERT(period_ms >= PARTS);
	if (w == NULL)
		return NULL;
	while (buckets * SLOTS < slots)
		buckets *= 2;
	w->mask = buckets - 1;
	w->window_ms = period_ms / PARTS;
	w->buckets = aligned_alloc(sizeof(struct bucket), buckets * sizeof(struct bucket));
	if (w->buckets == NULL) {
		free(w);
		return NULL;
	}
	for (size_t i = 0; i < buckets; i++) {
		for (unsigned n = 0; n < SLOTS; n++)
			atomic_init(&w->buckets[i].words[n], 0);
	}
	return w;
}

void
windows_free(struct windows *w)
{
	if (w == NULL)
		return;
	free(w->buckets);
	free(w);
}

static uint64_t
window_at(const struct windows *w, uint64_t at_ms)
{
	return at_ms / w->window_ms & window_mask;
}

static uint64_t
window_of(uint64_t word)
{
	return word >> COUNT_BITS & window_mask;
}

static uint64_t
count_of(uint64_t word)
{
	return word & count_mask;
}

static uint64_t
head_of(uint64_t key, uint64_t window)
{
	return key >> TAG_AT << TAG_AT | (window & window_mask) << COUNT_BITS;
}

/* What is counted for the key in that window, over all slots. */
static uint64_t
sum(const struct bucket *b, uint64_t key, uint64_t window)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load_explicit(&b->words[i], memory_order_relaxed);
		if ((word & ~count_mask) == head_of(key, window))
			total += count_of(word);
	}
	return total;
}

/* How much counts at this time. */
static uint64_t
used(const struct windows *w, const struct bucket *b, uint64_t key, uint64_t now_ms)
{
	uint64_t window = window_at(w, now_ms);
	uint64_t total = 0;

	for (unsigned i = 0; i <= PARTS; i++)
		total += sum(b, key, window - i);
	return total;
}

/* The worth of a word to those who count in it: none if it is free, then by age and count. */
static uint64_t
worth(uint64_t word, uint64_t window)
{
	uint64_t age = (window - window_of(word)) & window_mask;

	if (count_of(word) == 0 || age > PARTS)
		return 0;
	return (PARTS - age) << COUNT_BITS | count_of(word);
}

/* The slot that counts for the key in the window, else the one that is to give way. *seen: its
 * word. */
static unsigned
find(const struct bucket *b, uint64_t key, uint64_t window, uint64_t *seen)
{
	uint64_t least = UINT64_MAX;
	unsigned best = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load_explicit(&b->words[i], memory_order_relaxed);
		if ((word & ~count_mask) == head_of(key, window)) {
			*seen = word;
			return i;
		}
		if (worth(word, window) < least) {
			least = worth(word, window);
			best = i;
			*seen = word;
		}
	}
	return best;
}

static struct bucket *
bucket_of(const struct windows *w, uint64_t key)
{
	return &w->buckets[key & w->mask];
}

bool
windows_take(struct windows *w, uint64_t key, uint32_t most, uint64_t now_ms)
{
	struct bucket *b = bucket_of(w, key);
	uint64_t window = window_at(w, now_ms);
	uint64_t seen, next;
	unsigned i;

	if (most > WINDOWS_COUNT_MAX)
		most = WINDOWS_COUNT_MAX;
	do {
		i = find(b, key, window, &seen);
		/* Behind it: what the word counts by then is in the sum, or the exchange fails. */
		if (used(w, b, key, now_ms) >= most)
			return false;
		bool mine = (seen & ~count_mask) == head_of(key, window);
		next = mine ? seen + 1 : head_of(key, window) | 1;
	} while (!atomic_compare_exchange_weak_explicit(
		&b->words[i], &seen, next, memory_order_relaxed, memory_order_relaxed));
	return true;
}

void
windows_give(struct windows *w, uint64_t key, uint64_t taken_ms)
{
	struct bucket *b = bucket_of(w, key);
	uint64_t head = head_of(key, window_at(w, taken_ms));

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load_explicit(&b->words[i], memory_order_relaxed);
		/* Where it has given way meanwhile there is nothing to take back. */
		while ((word & ~count_mask) == head && count_of(word) > 0) {
			if (atomic_compare_exchange_weak_explicit(&b->words[i], &word, word - 1,
								  memory_order_relaxed,
								  memory_order_relaxed))
				return;
		}
	}
}

uint32_t
windows_count(const struct windows *w, uint64_t key, uint64_t now_ms)
{
	return (uint32_t)used(w, bucket_of(w, key), key, now_ms);
}
