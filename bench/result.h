/* SPDX-License-Identifier: Apache-2.0
 *
 * result: what a run has measured, as data, as text for people, and as the JSON of bench/README.md.
 *
 * Filled by bench/session.c. Samples of the series are per interval; the list grows as long as the
 * run lasts. Main thread.
 */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/histogram.h"
#include "bench/meter.h"
#include "bench/options.h"
#include "bench/sink.h"
#include "bench/source.h"
#include "bench/track.h"

/* Of a latency: there was none in the interval. */
#define RESULT_NONE UINT64_MAX

/* What came in one interval, and how things stood at its end. */
struct result_sample {
	double t_s; /* since the start */
	double seconds;
	uint64_t offered, accepted, delivered, errors;
	uint64_t queued; /* recipients accepted and not delivered */
	uint64_t accept_p50_us, accept_p99_us, end_to_end_p50_us, end_to_end_p99_us;
	uint64_t relay_cpu_us, source_cpu_us, sink_cpu_us;
	uint64_t relay_pss_bytes;
};

struct result {
	const struct bench_options *options;
	char started[32];                     /* RFC 3339 */
	bool has_source, has_sink, has_relay; /* what was measured */
	struct track_numbers track;
	struct track_verdict verdict;
	struct source_numbers source;
	struct sink_numbers sink;
	struct source_reason reasons[SOURCE_REASONS_MAX];
	unsigned reason_count;
	struct histogram_view accept;
	struct histogram_view end_to_end;
	double offer_s; /* first offer to last reply */
	double total_s; /* first offer to last arrival, or last reply without a sink */
	double before_per_s, after_per_s; /* without the relay; 0: not measured */
	struct meter relay; /* what it used from the first offer to the last arrival */
	uint64_t relay_pss_peak_bytes;
	uint64_t source_cpu_us, sink_cpu_us;
	struct result_sample *samples;
	size_t sample_count, sample_room;
};

/* False: no memory. */
bool result_add_sample(struct result *r, const struct result_sample *sample);
void result_free(struct result *r);

double result_accepted_per_s(const struct result *r);
double result_delivered_per_s(const struct result *r);
/* Of the mean of before and after; 0: not measured. */
double result_share(const struct result *r);

void result_print(const struct result *r, FILE *to);
/* False with a line in `why`. */
bool result_write(const struct result *r, const char *file, struct buf *why);

#endif
