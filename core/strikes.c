/* SPDX-License-Identifier: Apache-2.0
 *
 * A word of the failures is TAG << 40 | LOCKED << 39 | COUNT << 29 | TIME, one of the notes
 * TAG << 29 | TIME; TIME is in seconds, and a word whose time has passed is free.
 *
 * Memory orders: the numbers guard no other memory, so relaxed does.
 */
#include "core/strikes.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/assert.h"

enum {
	SLOTS = 16,     /* of a bucket */
	TIME_BITS = 29, /* 17 years of seconds */
	COUNT_BITS = 10,
	LOCKED_AT = TIME_BITS + COUNT_BITS,
	TAG_AT = LOCKED_AT + 1,
};

_Static_assert(STRIKES_MAX < 1 << COUNT_BITS, "a count fits its bits");

struct bucket {
	_Alignas(128) _Atomic uint64_t words[SLOTS];
};

struct strikes {
	size_t mask; /* buckets - 1 */
	struct bucket *failures;
	struct bucket *notes;
};

static const uint64_t time_mask = ((uint64_t)1 << TIME_BITS) - 1;
static const uint64_t count_mask = ((uint64_t)1 << COUNT_BITS) - 1;
static const uint64_t locked_bit = (uint64_t)1 << LOCKED_AT;

struct strikes *
strikes_new(size_t slots)
{
	struct strikes *s = calloc(1, sizeof *s);
	size_t buckets = 1;

	ASSERT(slots <= UINT32_MAX / 2);
	if (s == NULL)
		return NULL;
	while (buckets * SLOTS < slots)
		buckets *= 2;
	s->mask = buckets - 1;
	s->failures = aligned_alloc(sizeof(struct bucket), buckets * sizeof(struct bucket));
	s->notes = aligned_alloc(sizeof(struct bucket), buckets * sizeof(struct bucket));
	if (s->failures == NULL || s->notes == NULL) {
		strikes_free(s);
		return NULL;
	}
	for (size_t i = 0; i < buckets; i++) {
		for (unsigned n = 0; n < SLOTS; n++) {
			atomic_init(&s->failures[i].words[n], 0);
			atomic_init(&s->notes[i].words[n], 0);
		}
	}
	return s;
}

void
strikes_free(struct strikes *s)
{
	if (s == NULL)
		return;
	free(s->failures);
	free(s->notes);
	free(s);
}

/* Rounded up, and never above what fits. */
static uint64_t
seconds(uint64_t at_ms)
{
	uint64_t s = at_ms / 1000 + (at_ms % 1000 != 0);

	return s < time_mask ? s : time_mask;
}

static bool
is_live(uint64_t word, uint64_t now_ms)
{
	return (word & time_mask) * 1000 > now_ms;
}

/* The slot with this tag (above `tag_at`) that is live, else the one that is free or is to give
 * way. *seen: its word, 0 where the key is not there. *old: what stands there. */
static unsigned
find(const struct bucket *b, uint64_t key, unsigned tag_at, uint64_t now_ms, uint64_t *seen,
     uint64_t *old)
{
	unsigned best = 0;
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t word = atomic_load_explicit(&b->words[i], memory_order_relaxed);

		if (is_live(word, now_ms) && (word ^ key) >> tag_at == 0) {
			*seen = *old = word;
			return i;
		}
		/* Locked ones stay as long as others can go. */
		uint64_t rank = (tag_at == TAG_AT ? word & locked_bit : 0) | (word & time_mask);
		if (!is_live(word, now_ms))
			rank = 0;
		if (rank < least) {
			least = rank;
			best = i;
			*old = word;
		}
	}
	*seen = 0;
	return best;
}

static struct strike
strike_of(uint64_t word)
{
	return (struct strike){
		.count = (uint32_t)(word >> TIME_BITS & count_mask),
		.locked = (word & locked_bit) != 0,
		.until_ms = (word & time_mask) * 1000,
	};
}

static struct bucket *
bucket_of(const struct strikes *s, struct bucket *table, uint64_t key)
{
	return &table[key & s->mask];
}

struct strike
strikes_look(const struct strikes *s, uint64_t key, uint64_t now_ms)
{
	uint64_t seen, old;

	find(bucket_of(s, s->failures, key), key, TAG_AT, now_ms, &seen, &old);
	return strike_of(seen);
}

/* The word behind one failure more. */
static uint64_t
next_word(uint64_t key, uint64_t seen, const struct strikes_rule *rule, uint64_t now_ms)
{
	uint64_t count = strike_of(seen).count + 1U;
	bool locks = count >= rule->most;
	uint64_t until_ms = now_ms + (locks ? rule->lock_ms : rule->window_ms);

	if (count > STRIKES_MAX)
		count = STRIKES_MAX;
	return (key >> TAG_AT << TAG_AT) | (locks ? locked_bit : 0) | count << TIME_BITS |
	       seconds(until_ms);
}

struct strike
strikes_add(struct strikes *s, uint64_t key, const struct strikes_rule *rule, uint64_t now_ms)
{
	struct bucket *b = bucket_of(s, s->failures, key);
	uint64_t seen, old, next;
	unsigned i;

	ASSERT(rule->most > 0 && rule->most <= STRIKES_MAX);
	do {
		i = find(b, key, TAG_AT, now_ms, &seen, &old);
		if ((seen & locked_bit) != 0)
			return strike_of(seen);
		next = next_word(key, seen, rule, now_ms);
	} while (!atomic_compare_exchange_weak_explicit(
		&b->words[i], &old, next, memory_order_relaxed, memory_order_relaxed));
	struct strike result = strike_of(next);
	result.began = result.locked;
	return result;
}

/* The word with at least so much, or the one that is there. */
static uint64_t
raised_word(uint64_t key, uint64_t seen, const struct strike *to)
{
	uint64_t count = strike_of(seen).count;
	uint64_t until_ms = strike_of(seen).until_ms;
	bool locks = to->locked || strike_of(seen).locked;

	if (strike_of(seen).locked && (!to->locked || to->until_ms <= until_ms))
		return seen;
	if (count < to->count)
		count = to->count < STRIKES_MAX ? to->count : STRIKES_MAX;
	if (until_ms < to->until_ms || (to->locked && !strike_of(seen).locked))
		until_ms = to->until_ms;
	return (key >> TAG_AT << TAG_AT) | (locks ? locked_bit : 0) | count << TIME_BITS |
	       seconds(until_ms);
}

void
strikes_raise(struct strikes *s, uint64_t key, const struct strike *to, uint64_t now_ms)
{
	struct bucket *b = bucket_of(s, s->failures, key);
	uint64_t seen, old, next;
	unsigned i;

	do {
		i = find(b, key, TAG_AT, now_ms, &seen, &old);
		next = raised_word(key, seen, to);
	} while (!atomic_compare_exchange_weak_explicit(
		&b->words[i], &old, next, memory_order_relaxed, memory_order_relaxed));
}

bool
strikes_clear(struct strikes *s, uint64_t key, uint64_t now_ms)
{
	struct bucket *b = bucket_of(s, s->failures, key);
	bool was_locked = false;

	/* More than one slot may have the key. */
	for (unsigned n = 0; n < SLOTS; n++) {
		uint64_t seen, old;
		unsigned i = find(b, key, TAG_AT, now_ms, &seen, &old);
		if (seen == 0)
			break;
		if (atomic_compare_exchange_strong_explicit(
			    &b->words[i], &old, 0, memory_order_relaxed, memory_order_relaxed))
			was_locked |= (seen & locked_bit) != 0;
	}
	return was_locked;
}

bool
strikes_note(struct strikes *s, uint64_t key, uint64_t for_ms, uint64_t now_ms)
{
	struct bucket *b = bucket_of(s, s->notes, key);
	uint64_t next = (key >> TIME_BITS << TIME_BITS) | seconds(now_ms + for_ms);
	uint64_t seen, old;
	unsigned i;

	do {
		i = find(b, key, TIME_BITS, now_ms, &seen, &old);
	} while (!atomic_compare_exchange_weak_explicit(
		&b->words[i], &old, next, memory_order_relaxed, memory_order_relaxed));
	return seen != 0;
}

bool
strikes_is_noted(const struct strikes *s, uint64_t key, uint64_t now_ms)
{
	uint64_t seen, old;

	find(bucket_of(s, s->notes, key), key, TIME_BITS, now_ms, &seen, &old);
	return seen != 0;
}
