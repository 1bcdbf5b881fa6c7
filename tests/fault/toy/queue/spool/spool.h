/* SPDX-License-Identifier: Apache-2.0
 *
 * spool: what queue/queue.c wants of the store behind it, for the test of the simulation.
 *
 * The toy store takes the spool's place: it defines spool_open() as the spool's own header declares
 * it. This header stands in for that one where it does not exist; it comes behind the real folder
 * in the search for includes. It owns nothing and is not for production code. The contract of
 * spool_open() is the one of queue_open() in queue/queue.h, with the same errors and threads; its
 * units are those of struct queue_options.
 */
#ifndef QUEUE_SPOOL_SPOOL_H
#define QUEUE_SPOOL_SPOOL_H

#include "queue/queue.h"

struct queue_store *spool_open(const struct queue_options *options, struct worker **workers,
			       unsigned worker_count, const struct queue_hooks *hooks,
			       struct buf *why);

#endif
