/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/histogram.h"

#include <string.h>

#include "core/base/assert.h"

enum { STEPS = 1 << HISTOGRAM_STEP_BITS };

/* Values up to 2 * STEPS have a bucket each; above, the bits behind the highest choose the step. */
static unsigned
bucket_of(uint64_t value)
{
	if (value < STEPS)
		return (unsigned)value;
	if (value >> HISTOGRAM_TOP_BITS != 0)
		return HISTOGRAM_BUCKETS - 1;
	unsigned top = 63 - (unsigned)__builtin_clzll(value);
	unsigned shift = top - HISTOGRAM_STEP_BITS;
	return (shift << HISTOGRAM_STEP_BITS) + (unsigned)(value >> shift);
}

uint64_t
histogram_bound(unsigned bucket)
{
	ASSERT(bucket < HISTOGRAM_BUCKETS);
	if (bucket < STEPS)
		return bucket;
	unsigned shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
	uint64_t step = bucket - (shift << HISTOGRAM_STEP_BITS);
	return ((step + 1) << shift) - 1;
}

/* One writer: no other thread changes the word between the two. */
static void
bump(_Atomic uint64_t *word, uint64_t n)
{
	atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

void
histogram_add(struct histogram *h, uint64_t value_us)
{
	_Atomic uint64_t *bucket = &h->buckets[bucket_of(value_us)];
	uint64_t least = atomic_load_explicit(&h->least, memory_order_relaxed);

	bump(&h->sum, value_us);
	if (least == 0 || value_us + 1 < least)
		atomic_store_explicit(&h->least, value_us + 1, memory_order_relaxed);
	if (value_us > atomic_load_explicit(&h->most, memory_order_relaxed))
		atomic_store_explicit(&h->most, value_us, memory_order_relaxed);
	/* Last: whoever sees it counted sees the bounds that enclose it. */
	atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1,
			      memory_order_release);
}

void
histogram_view_init(struct histogram_view *v)
{
	memset(v, 0, sizeof *v);
	v->least = UINT64_MAX;
}

void
histogram_read(const struct histogram *h, struct histogram_view *v)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t n = atomic_load_explicit(&h->buckets[i], memory_order_acquire);
		v->buckets[i] += n;
		v->count += n;
	}
	uint64_t least = atomic_load_explicit(&h->least, memory_order_relaxed);
	uint64_t most = atomic_load_explicit(&h->most, memory_order_relaxed);
	v->sum += atomic_load_explicit(&h->sum, memory_order_relaxed);
	if (least != 0 && least - 1 < v->least)
		v->least = least - 1;
	if (most > v->most)
		v->most = most;
}

void
histogram_since(const struct histogram_view *now, const struct histogram_view *before,
		struct histogram_view *out)
{
	histogram_view_init(out);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t n = now->buckets[i] - before->buckets[i];
		if (n == 0)
			continue;
		out->buckets[i] = n;
		out->count += n;
		out->most = histogram_bound(i);
		if (out->least == UINT64_MAX)
			out->least = histogram_bound(i);
	}
	out->sum = now->sum - before->sum;
}

uint64_t
histogram_at(const struct histogram_view *v, double share)
{
	double wanted = share * (double)v->count;
	uint64_t seen = 0;

	ASSERT(share >= 0 && share <= 1);
	/* The last bucket has no upper end: what is in it may be as great as the greatest. */
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		seen += v->buckets[i];
		if (seen > 0 && (double)seen >= wanted)
			return histogram_bound(i) < v->most ? histogram_bound(i) : v->most;
	}
	return v->most;
}
