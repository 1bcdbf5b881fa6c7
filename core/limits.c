/* SPDX-License-Identifier: Apache-2.0
 *
 * A word of the counts is TAG << 16 | COUNT, and 0 when nothing is counted in it. A word of the
 * rates is TAG << 40 | TIME_MS, and free when that time has passed.
 *
 * Memory orders. The numbers guard no other memory, and one word at a time is atomic by itself, so
 * relaxed would do, but for one thing: after claiming a free slot for a key, limits_take looks
 * whether another thread has done the same in another slot. Claim and look are seq_cst, so of two
 * such threads at least one sees the other.
 */
#include "core/limits.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/assert.h"

enum {
	SLOTS = 16, /* of a bucket */
	COUNT_BITS = 16,
	TIME_BITS = 40, /* 34 years of milliseconds */
	TRIES_TO_TAKE = 16,
	TRIES_TO_GIVE = 10000,
};

struct bucket {
	_Alignas(128) _Atomic uint64_t words[SLOTS];
};

_Static_assert(sizeof(struct bucket) == 128, "a bucket is two cache lines");

struct limits {
	size_t mask; /* buckets - 1 */
	struct bucket *counts;
	struct bucket *rates;
};

static const uint64_t count_mask = ((uint64_t)1 << COUNT_BITS) - 1;
static const uint64_t time_mask = ((uint64_t)1 << TIME_BITS) - 1;

struct limits *
limits_new(size_t slots)
{
	struct limits *l = calloc(1, sizeof *l);
	size_t buckets = 1;

	ASSERT(slots <= UINT32_MAX / 2);
	if (l == NULL)
		return NULL;
	while (buckets * SLOTS < slots)
		buckets *= 2;
	l->mask = buckets - 1;
	l->counts = aligned_alloc(sizeof(struct bucket), buckets * sizeof(struct bucket));
	l->rates = aligned_alloc(sizeof(struct bucket), buckets * sizeof(struct bucket));
	if (l->counts == NULL || l->rates == NULL) {
		limits_free(l);
		return NULL;
	}
	for (size_t i = 0; i < buckets; i++) {
		for (unsigned s = 0; s < SLOTS; s++) {
			atomic_init(&l->counts[i].words[s], 0);
			atomic_init(&l->rates[i].words[s], 0);
		}
	}
	return l;
}

void
limits_free(struct limits *l)
{
	if (l == NULL)
		return;
	free(l->counts);
	free(l->rates);
	free(l);
}

/* ---- counts ---- */

/* The bucket is chosen by the low bits, so the tag is of the high ones; 0 is for free slots. */
static uint64_t
count_tag(uint64_t key)
{
	uint64_t tag = key & ~count_mask;
	return tag != 0 ? tag : (uint64_t)1 << COUNT_BITS;
}

static bool
is_of(uint64_t word, uint64_t tag)
{
	return word != 0 && (word & ~count_mask) == tag;
}

/* The slot that counts for the tag, else a free one, else SLOTS. *seen: its word. */
static unsigned
find_count(struct bucket *b, uint64_t tag, uint64_t *seen)
{
	unsigned unused = SLOTS;

	for (unsigned i = 0; i < SLOTS; i++) {
		*seen = atomic_load_explicit(&b->words[i], memory_order_relaxed);
		if (is_of(*seen, tag))
			return i;
		if (*seen == 0 && unused == SLOTS)
			unused = i;
	}
	*seen = 0;
	return unused;
}

/* Counts one less; the last one frees the slot. False where it has changed. */
static bool
take_back(_Atomic uint64_t *word, uint64_t seen)
{
	ASSERT((seen & count_mask) > 0);
	return atomic_compare_exchange_strong_explicit(word, &seen,
						       (seen & count_mask) == 1 ? 0 : seen - 1,
						       memory_order_seq_cst, memory_order_relaxed);
}

/* Has another slot of the bucket the same tag? */
static bool
has_twin(struct bucket *b, unsigned mine, uint64_t tag)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load_explicit(&b->words[i], memory_order_seq_cst);
		if (i != mine && is_of(word, tag))
			return true;
	}
	return false;
}

void
limits_give(struct limits *l, uint64_t key)
{
	struct bucket *b = &l->counts[key & l->mask];
	uint64_t tag = count_tag(key);
	bool given = false;

	/* As long as we owe it, one of the slots has it. A look along the slots may still miss it,
	 * when others take in front of it and give behind it meanwhile. */
	for (unsigned n = 0; !given && n < TRIES_TO_GIVE; n++) {
		uint64_t seen;
		unsigned i = find_count(b, tag, &seen);

		given = i < SLOTS && is_of(seen, tag) && take_back(&b->words[i], seen);
	}
	ASSERT(given);
}

bool
limits_take(struct limits *l, uint64_t key, uint32_t most)
{
	struct bucket *b = &l->counts[key & l->mask];
	uint64_t tag = count_tag(key);

	if (most > LIMITS_COUNT_MAX)
		most = LIMITS_COUNT_MAX;
	for (unsigned n = 1;;) {
		uint64_t seen;
		unsigned i = find_count(b, tag, &seen);

		if (i == SLOTS || (seen & count_mask) >= most)
			return false;
		if (!atomic_compare_exchange_strong_explicit(
			    &b->words[i], &seen, seen == 0 ? tag | 1 : seen + 1,
			    memory_order_seq_cst, memory_order_relaxed))
			continue; /* somebody else got on with it: so does the whole */
		if (seen != 0 || n == TRIES_TO_TAKE || !has_twin(b, i, tag))
			return true;
		/* Two threads have met the key at once. Who sees the other gives way; should both
		 * do so again and again, two slots are the lesser evil. */
		limits_give(l, key);
		n++;
	}
}

uint32_t
limits_taken(const struct limits *l, uint64_t key)
{
	struct bucket *b = &l->counts[key & l->mask];
	uint64_t tag = count_tag(key);
	uint64_t sum = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load_explicit(&b->words[i], memory_order_relaxed);
		if (is_of(word, tag))
			sum += word & count_mask;
	}
	return (uint32_t)sum;
}

/* ---- rates ---- */

/* As find_count: the tag's own slot, else the one whose time is earliest; free ones are those whose
 * time has passed. */
static unsigned
find_rate(struct bucket *b, uint64_t tag, uint64_t *seen)
{
	unsigned best = 0;
	uint64_t earliest = UINT64_MAX;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load_explicit(&b->words[i], memory_order_relaxed);

		if (word != 0 && (word & ~time_mask) == tag) {
			*seen = word;
			return i;
		}
		if ((word & time_mask) < earliest) {
			earliest = word & time_mask;
			best = i;
			*seen = word;
		}
	}
	return best;
}

bool
limits_rate(struct limits *l, uint64_t key, uint32_t per_minute, uint32_t burst, uint64_t now_ms)
{
	struct bucket *b = &l->rates[key & l->mask];
	uint64_t tag = key & ~time_mask;
	uint64_t next;
	uint64_t seen;
	unsigned i;

	ASSERT(per_minute > 0 && burst > 0 && now_ms <= time_mask / 2);
	uint64_t interval_ms = (60000 + (uint64_t)per_minute - 1) / per_minute;
	do {
		i = find_rate(b, tag, &seen);
		uint64_t time_ms = seen & time_mask;
		bool free_slot = time_ms <= now_ms;
		time_ms = (free_slot ? now_ms : time_ms) + interval_ms;
		if (time_ms - now_ms > burst * interval_ms || time_ms > time_mask)
			return false;
		next = (free_slot ? tag : seen & ~time_mask) | time_ms;
	} while (!atomic_compare_exchange_weak_explicit(
		&b->words[i], &seen, next, memory_order_relaxed, memory_order_relaxed));
	return true;
}
