/* SPDX-License-Identifier: Apache-2.0
 *
 * suspects: a mail that kills its worker must not kill it for ever (ARCHITECTURE.md, invariant 9).
 *
 * Items recovered after a crash record the start of their next attempt before it begins. The count
 * of starts that never ended decides: none: they run as usual; one: at most SUSPECTS_MAX of such a
 * worker at a time; two or more: alone on the worker, after all other jobs have ended; three, the
 * last of them alone: the mail is put on hold, with an event. An outcome or a planned stop closes
 * the start.
 */
#ifndef RELAY_FLOW_SUSPECTS_H
#define RELAY_FLOW_SUSPECTS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/list.h"
#include "queue/queue.h"

enum { SUSPECTS_MAX = 16, SUSPECT_HOLD_STARTS = 3 };

struct flow;
struct job;

struct suspects {
	unsigned running;  /* jobs with one open start */
	struct job *alone; /* runs or waits to run with no other beside it, or NULL */
	bool alone_has_begun;
};

enum suspect_verdict {
	SUSPECT_RUN,   /* record the attempt if the item is recovered, then go on */
	SUSPECT_LATER, /* not now: release it */
	SUSPECT_WAIT,  /* kept until it may run alone: suspects_run starts it */
	SUSPECT_HOLD,  /* on hold from now on; the item was released for it */
};

/* May this item begin a job now? */
enum suspect_verdict suspects_judge(struct flow *f, const struct queue_item *item);
/* A job that was judged SUSPECT_RUN begins, or one that waits is kept. */
void suspects_begin(struct flow *f, struct job *j);
/* The job has ended. */
void suspects_end(struct flow *f, struct job *j);
/* Is there a job that waits for the worker to be empty, and is it empty now? Then that job. */
struct job *suspects_ready(struct flow *f);
/* Puts the mail of a released item on hold. */
void suspects_hold(struct flow *f, struct mail_id id, unsigned starts);

#endif
