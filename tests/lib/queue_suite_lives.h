/* SPDX-License-Identifier: Apache-2.0
 *
 * queue_suite_lives: the second half of what every store must do, written against queue/queue.h
 * alone: what a process that ends without a word leaves behind, and the finer points of outcomes,
 * bodies, acts and listings.
 *
 * Uses the world of queue_suite.h. A death is a child process that opens the store, works, and
 * leaves by _exit() with the store open; what it was told is durable must be found by the next.
 */
#ifndef TESTS_LIB_QUEUE_SUITE_LIVES_H
#define TESTS_LIB_QUEUE_SUITE_LIVES_H

#include "tests/lib/queue_suite.h"

int queue_suite_lives_run(const struct queue_suite_store *kind);

#endif
