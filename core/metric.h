/* SPDX-License-Identifier: Apache-2.0
 *
 * metric: counters, gauges and histograms, one block a thread, rendered for Prometheus.
 *
 * All are rows of core/tables/counters.def. Each thread owns one zeroed `struct metrics` and is the
 * only one that writes to it (a relaxed load and store, no locked instruction: about 1 ns). The
 * control thread reads all blocks at any time and renders their sum, in the text format 0.0.4 of
 * Prometheus; every series exists from the start. A reader may see one metric of an event a moment
 * before another of the same event.
 *
 *   METRIC_ADD(m, MAILS_ACCEPTED, 1);
 *   METRIC_ADD_LABEL(m, LIMIT_HITS, LABEL_LIMIT_RECIPIENTS, 1);    labels: core/tables/labels.def
 *   METRIC_SET(m, QUEUE_MAILS, count);                       gauges
 *   METRIC_OBSERVE(m, COMMIT_TIME, microseconds);            histograms
 *
 * The buckets of a histogram are fixed by its scale, powers of two (so that the bucket is one count
 * of leading zeros). Times are given in microseconds and shown in seconds:
 *   LATENCY 16 us to 67 s, two buckets an octave   DELAY 1 ms to 12 days, one an octave
 *   COUNT   1 to 4096                              BYTES 512 to 64 MiB
 */
#ifndef CORE_METRIC_H
#define CORE_METRIC_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "core/base/buf.h"

/* Enough for metric_render(), whatever the values. */
#define METRIC_TEXT_MAX ((size_t)256 << 10)

/* clang-format off */
#define LABELS(set, label)      enum label_##set {
#define LABEL(set, name, value)         LABEL_##set##_##name,
#define LABELS_END(set)                 LABEL_##set##_COUNT };
#include "core/tables/labels.def"
#undef LABELS
#undef LABEL
#undef LABELS_END
/* clang-format on */

/* The bounds of a scale are 2^FIRST, ..., 2^LAST with STEPS (1 or 2) an octave. */
enum metric_scale {
	SCALE_LATENCY_FIRST = 4,
	SCALE_LATENCY_LAST = 26,
	SCALE_LATENCY_STEPS = 2,
	SCALE_DELAY_FIRST = 10,
	SCALE_DELAY_LAST = 40,
	SCALE_DELAY_STEPS = 1,
	SCALE_COUNT_FIRST = 0,
	SCALE_COUNT_LAST = 12,
	SCALE_COUNT_STEPS = 1,
	SCALE_BYTES_FIRST = 9,
	SCALE_BYTES_LAST = 26,
	SCALE_BYTES_STEPS = 1,
};

/* Bounds of a scale, without +Inf. */
#define METRIC_BOUNDS(scale) \
	((SCALE_##scale##_LAST - SCALE_##scale##_FIRST) * SCALE_##scale##_STEPS + 1)

/* The first slot of each metric: one a label; a histogram has its buckets, +Inf and the sum. */
enum metric_slot {
/* clang-format off */
#define SLOTS(name, count) METRIC_##name, METRIC_##name##_LAST = METRIC_##name + (count) - 1,
/* clang-format on */
#define COUNTER(name, text, set, help)      SLOTS(name, LABEL_##set##_COUNT)
#define GAUGE(name, text, set, merge, help) SLOTS(name, LABEL_##set##_COUNT)
#define HISTOGRAM(name, text, scale, help)  SLOTS(name, METRIC_BOUNDS(scale) + 2)
#include "core/tables/counters.def"
#undef SLOTS
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
	METRIC_SLOTS
};

/* For each metric a constant: labels of counters and gauges; for histograms their scale. */
enum metric_shape {
#define COUNTER(name, text, set, help)      METRIC_##name##_LABELS = LABEL_##set##_COUNT,
#define GAUGE(name, text, set, merge, help) METRIC_##name##_LABELS = LABEL_##set##_COUNT,
#define HISTOGRAM(name, text, scale, help)                 \
	METRIC_##name##_FIRST_BIT = SCALE_##scale##_FIRST, \
	METRIC_##name##_BOUNDS = METRIC_BOUNDS(scale),     \
	METRIC_##name##_STEPS = SCALE_##scale##_STEPS,
#include "core/tables/counters.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

struct metrics {
	alignas(64) _Atomic uint64_t slots[METRIC_SLOTS];
};

#define METRIC_ADD(m, name, n)                                                    \
	do {                                                                      \
		_Static_assert(METRIC_##name##_LABELS == 1, #name " has labels"); \
		metric_add_slot((m), METRIC_##name, (n));                         \
	} while (0)
#define METRIC_ADD_LABEL(m, name, label, n) \
	metric_add_slot((m), METRIC_##name + metric_label((label), METRIC_##name##_LABELS), (n))
#define METRIC_SET(m, name, value)                                                \
	do {                                                                      \
		_Static_assert(METRIC_##name##_LABELS == 1, #name " has labels"); \
		metric_set_slot((m), METRIC_##name, (value));                     \
	} while (0)
#define METRIC_SET_LABEL(m, name, label, value) \
	metric_set_slot((m), METRIC_##name + metric_label((label), METRIC_##name##_LABELS), (value))
#define METRIC_OBSERVE(m, name, value)                                      \
	metric_observe_slots((m), METRIC_##name, METRIC_##name##_FIRST_BIT, \
			     METRIC_##name##_BOUNDS, METRIC_##name##_STEPS, (value))
/* The present value in this block; for tests and for the owner. */
#define METRIC_GET(m, name) metric_get_slot((m), METRIC_##name)
#define METRIC_GET_LABEL(m, name, label) \
	metric_get_slot((m), METRIC_##name + metric_label((label), METRIC_##name##_LABELS))

static inline unsigned
metric_label(unsigned label, unsigned labels)
{
	ASSERT(label < labels);
	return label;
}

static inline uint64_t
metric_get_slot(const struct metrics *m, unsigned slot)
{
	return atomic_load_explicit(&m->slots[slot], memory_order_relaxed);
}

static inline void
metric_set_slot(struct metrics *m, unsigned slot, uint64_t value)
{
	atomic_store_explicit(&m->slots[slot], value, memory_order_relaxed);
}

static inline void
metric_add_slot(struct metrics *m, unsigned slot, uint64_t n)
{
	metric_set_slot(m, slot, metric_get_slot(m, slot) + n);
}

/* The bucket of a value: the first whose bound is not below it. Bounds are 2^k and, with two steps
 * an octave, 1.5 * 2^k. */
static inline unsigned
metric_bucket(unsigned first_bit, unsigned bounds, unsigned steps, uint64_t value)
{
	if (value <= (uint64_t)1 << first_bit)
		return 0;
	uint64_t v = value - 1; /* bounds are inclusive */
	unsigned top = 63 - (unsigned)__builtin_clzll(v);
	unsigned bucket = (top - first_bit) * steps + 1;
	if (steps == 2 && (v >> (top - 1) & 1) != 0)
		bucket++;
	return bucket < bounds ? bucket : bounds;
}

static inline void
metric_observe_slots(struct metrics *m, unsigned slot, unsigned first_bit, unsigned bounds,
		     unsigned steps, uint64_t value)
{
	metric_add_slot(m, slot + metric_bucket(first_bit, bounds, steps, value), 1);
	metric_add_slot(m, slot + bounds + 1, value);
}

/* Sums the blocks and appends the text; false where it does not fit (METRIC_TEXT_MAX is enough). */
bool metric_render(const struct metrics *const *blocks, size_t count, struct buf *out);
/* The value of the label of a slot of a counter or gauge, such as METRIC_LIMIT_HITS + n. */
const char *metric_slot_label(unsigned slot);
/* Sets the metrics of the process (memory, descriptors) in the calling thread's block, from /proc;
 * what cannot be read stays as it was. */
void metric_set_process(struct metrics *m);
/* The reference page of all metrics, Markdown. */
bool metric_doc(struct buf *out);

#endif
