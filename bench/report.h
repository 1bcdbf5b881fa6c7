/* SPDX-License-Identifier: Apache-2.0
 *
 * report: compares results (bench/README.md) on one HTML page.
 *
 * The page is one file that asks nothing of the network: a template (bench/page/, put together at
 * build time) with the results spliced in as JSON. What is drawn is decided in the page's script;
 * here every result is checked, so that the script may rely on the members it needs: their presence
 * by command, their kinds, and lists of equal length. Members that are not known are passed
 * through.
 *
 * Text of a result (labels, options, names of files) may hold anything; it can neither end the
 * script element it is spliced into nor become markup.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/buf.h"

/* Reads all `count` files (at least one) and then writes `out`, which is only opened if all are
 * good. False with a line in `why` that names the file and, where one is wrong, the member. */
bool report_write(const char *out, const char *const *files, size_t count, struct buf *why);

#endif
