/* SPDX-License-Identifier: Apache-2.0
 *
 * session: one load from its begin to its end: starts source and sink, watches them, and fills a
 * result. The three commands are sessions that have both, or one of them. Main thread, which sleeps
 * until the next look or a signal: SIGINT and SIGTERM end the offering, a second one the waiting.
 */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include "bench/result.h"

/* The whole of a command: 0; 1 where a mail was lost or nothing could be measured; 2 where the
 * options make no sense. */
int session_command(const struct bench_options *options);

#endif
