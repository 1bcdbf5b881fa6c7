/* SPDX-License-Identifier: Apache-2.0
 *
 * histogram: counts of latencies in buckets whose width grows with the value. PURE.
 *
 * Values are microseconds. Below 64 each has a bucket of its own; above, every power of two is cut
 * into 32 equal buckets, so that a value is told with an error of at most 1/32. Values of 2^36 (19
 * hours) and more share the last bucket. The exact least, greatest and sum are kept beside. One
 * writer; a reader on another thread takes a snapshot with histogram_read, which may miss what is
 * being added at that moment but never sees nonsense.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
	HISTOGRAM_STEP_BITS = 5,
	HISTOGRAM_TOP_BITS = 36,
	HISTOGRAM_BUCKETS = (HISTOGRAM_TOP_BITS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS,
};

/* Zeroed memory is an empty one. */
struct histogram {
	_Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
	_Atomic uint64_t sum;
	_Atomic uint64_t least; /* of value + 1; 0: none yet */
	_Atomic uint64_t most;
};

/* A copy that belongs to one thread; snapshots of several writers may be added up. */
struct histogram_view {
	uint64_t buckets[HISTOGRAM_BUCKETS];
	uint64_t count;
	uint64_t sum;
	uint64_t least; /* UINT64_MAX where count is 0 */
	uint64_t most;
};

void histogram_add(struct histogram *h, uint64_t value_us);
void histogram_view_init(struct histogram_view *v);
/* Adds what h holds to v. */
void histogram_read(const struct histogram *h, struct histogram_view *v);
/* What came to `now` since `before`; least and most are those of the buckets. */
void histogram_since(const struct histogram_view *now, const struct histogram_view *before,
		     struct histogram_view *out);
/* The value that `share` (0 to 1) of all do not exceed: the upper end of its bucket, but never more
 * than the greatest seen. 0 where there is none. */
uint64_t histogram_at(const struct histogram_view *v, double share);
/* The greatest value of a bucket. */
uint64_t histogram_bound(unsigned bucket);

#endif
