/* SPDX-License-Identifier: Apache-2.0
 *
 * bodies: which bodies of waiting mails stay in memory when there is little of it.
 *
 * A body is in memory from accept to delivery, so that it need not be read back. When the budget of
 * the worker gets tight (queue_memory_is_tight), bodies of jobs that wait for a connection are
 * dropped, the newest of the longest line first: they will wait the longest. Their mails are
 * durable, and are read back at their turn. So a destination that stands still does not take the
 * memory from those that take their mails.
 *
 * Each worker drops bodies of mails that it keeps. Whoever may read one (a channel, the home that a
 * job was handed over to) has a reference of the job (job.body), taken and given back by the owner
 * alone, so a drop takes the body from nobody. A job that is handed over while memory is tight
 * goes without.
 *
 * A job costs O(1): lines are kept by the power of two of their length.
 */
#ifndef RELAY_FLOW_BODIES_H
#define RELAY_FLOW_BODIES_H

#include "core/worker.h"

struct flow;
struct job;
struct site;

/* Lines of up to 2 to the power of this number of jobs, less one. */
enum { BODIES_CLASSES = 17, BODIES_A_TURN = 64 };

struct bodies {
	struct list lines[BODIES_CLASSES]; /* struct site.bodies_link */
	struct task task;                  /* drops some */
};

void bodies_init(struct flow *f);
/* A job of this worker begins to wait at the site: at the end of the line, or at its front. */
void bodies_wait(struct site *s, struct job *j, bool at_front);
/* It waits no more. */
void bodies_wait_ended(struct site *s, struct job *j);
/* From now on the body may be read for the job; the owner's worker. */
void bodies_take(struct job *j);
/* The same for a job on its way to another worker, in whose line nobody drops it: where there is
 * little memory it goes without. */
void bodies_hand_over(struct job *j);
/* No more. */
void bodies_put(struct job *j);
/* Drops some if there is little memory, and goes on until there is enough or nothing is left. */
void bodies_make_room(struct flow *f);

#endif
