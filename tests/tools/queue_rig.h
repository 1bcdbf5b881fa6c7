/* SPDX-License-Identifier: Apache-2.0
 *
 * queue_rig: workers and a store of queue.h on the real ring and the real disk, all driven by the
 * calling thread. For test tools; a daemon has a thread for each worker instead.
 *
 * What is asked of the store completes while the rig turns: start something, then call
 * queue_rig_turn() until its on_done was called. The rig's hooks are the caller's. Nothing here
 * knows which store it is.
 */
#ifndef TESTS_TOOLS_QUEUE_RIG_H
#define TESTS_TOOLS_QUEUE_RIG_H

#include <stdbool.h>

#include "queue/queue.h"

enum { QUEUE_RIG_WORKERS_MAX = 8 };

struct queue_rig {
	unsigned worker_count;
	struct worker *workers[QUEUE_RIG_WORKERS_MAX];
	struct queue_store *store; /* NULL: not open */
	unsigned stopped;
};

/* Makes the workers and opens the store. False with the store's line in `why`; nothing is open
 * then. A warning of a successful opening is in `why`, too. */
bool queue_rig_open(struct queue_rig *r, const struct queue_options *options, unsigned worker_count,
		    const struct queue_hooks *hooks, struct buf *why);
/* One turn of each worker; waits for a moment where none has anything to do. */
void queue_rig_turn(struct queue_rig *r);
/* The orderly end: stops all ends, then closes. All items are released or recorded by then. */
void queue_rig_close(struct queue_rig *r);

#endif
