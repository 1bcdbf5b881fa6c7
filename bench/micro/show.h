/* SPDX-License-Identifier: Apache-2.0
 *
 * show: results as a table for people and as JSON for programs; the figures are the same.
 *
 * The table is one line a row, in columns that are separated by blanks; '-' where a row has no such
 * figure. The JSON is one object: `ringpost_micro` (version of the format: 1), `machine` (kernel,
 * cpu, compiler), `options` (rounds, round_ms), and `rows`: objects of `name`, `ns` (median),
 * `ns_least`, `operations` (of a round) and, where it has them, `bytes` (of one operation),
 * `bytes_per_s` and `state_bytes`.
 */
#ifndef BENCH_MICRO_SHOW_H
#define BENCH_MICRO_SHOW_H

#include <stdbool.h>

#include "bench/micro/micro.h"

/* To standard output. */
void show_head(void);
void show_row(const struct micro_result *r);

/* False with errno where the file cannot be written. */
bool show_json(const char *file, const struct micro_options *options,
	       const struct micro_result *results, size_t count);

#endif
