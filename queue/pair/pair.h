/* SPDX-License-Identifier: Apache-2.0
 *
 * pair: two stores as one: what many nodes share (redis/), and the disk of this host (spool/) for
 * the time in which that takes no mail, since it is away, full, or promises less than was asked
 * for.
 *
 * A mail is in one of the two, whole, with the durability of that one, and stays there: its
 * outcomes, its notices, what an operator does to it. New mail goes to the shared store whenever
 * that takes it. A put that it refuses for certain is put into the spool, so that a change of its
 * mind is not the client's trouble; one in doubt is refused, as ever, and cancelled.
 *
 * Mails of both are delivered side by side. A part that can not record outcomes now gets nothing to
 * deliver; the other one goes on. Rows of lists come from both, the spool's first.
 *
 * While mail lies in the spool this node is not disposable: nobody else can deliver it. An event
 * tells when that begins and when it is over; queue_numbers.mails_here says how many there are.
 *
 * A spool that would not survive the host's restart is refused at the start. At the start the
 * shared store is waited for, for a second: until then nothing is taken.
 */
#ifndef QUEUE_PAIR_PAIR_H
#define QUEUE_PAIR_PAIR_H

#include "queue/queue.h"

typedef struct queue_store *(*queue_open_fn)(const struct queue_options *options,
					     struct worker **workers, unsigned worker_count,
					     const struct queue_hooks *hooks, struct buf *why);

/* How the two are opened. */
struct pair_kinds {
	queue_open_fn spool;
	queue_open_fn shared;
};

struct queue_store *pair_open(const struct pair_kinds *kinds, const struct queue_options *options,
			      struct worker **workers, unsigned worker_count,
			      const struct queue_hooks *hooks, struct buf *why);

#endif
