/* SPDX-License-Identifier: Apache-2.0
 *
 * overdue: ends the mails whose time is over, and tells the senders of those that are late, while
 * their site can not be reached.
 *
 * A site that is down is probed with one mail at a time, and a host that never answers takes
 * minutes for each: the others wait in the queue and are not tried. But each of them has an end of
 * its time, and a moment at which its sender is to be told of the delay. So twice a minute a worker
 * looks through what waits (queue_list, in slices) for mails behind such a moment whose site does
 * not work, claims these by their ids, a few at a time, and gives them the outcome that an attempt
 * would have had. What an operator holds, or whose site he has suspended, is left alone.
 */
#ifndef RELAY_FLOW_OVERDUE_H
#define RELAY_FLOW_OVERDUE_H

#include <stdbool.h>

#include "core/worker.h"
#include "queue/queue.h"

struct flow;

enum { OVERDUE_CLAIMS = 16 };

struct overdue_claim {
	struct queue_claim claim;
	struct flow *flow;
	bool busy;
};

struct overdue {
	struct timer timer; /* of the next walk */
	struct task task;   /* goes on with this one */
	uint64_t cursor;
	unsigned busy; /* claims */
	struct overdue_claim claims[OVERDUE_CLAIMS];
};

void overdue_init(struct flow *f);
/* A site does not work: there may be something to look for. */
void overdue_watch(struct flow *f);
/* For a drain: begins nothing any more. */
void overdue_stop(struct flow *f);
bool overdue_is_quiet(const struct flow *f);

#endif
