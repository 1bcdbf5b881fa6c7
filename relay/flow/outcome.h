/* SPDX-License-Identifier: Apache-2.0
 *
 * outcome: what became of a job is recorded, and with that the job ends. On the worker of the job's
 * owner alone.
 *
 * All outcomes of a job are one change of the queue, together with the report that they call for
 * (bounce.h). While the store cannot write them the job stays, and its item with it, and all is
 * tried again each second; a crash before that is the duplicate of invariant 4 (a). A drain whose
 * time is over waits for no store, and an event says so of each outcome. Where another node has
 * taken the mail over (ERR_LOST) there is nothing left to record: what was delivered is a fact,
 * which the store has kept and of which the events tell; all else is the other node's to find out,
 * and to tell. Where the store cannot know whether that mail ended by these outcomes, an event says
 * that.
 */
#ifndef RELAY_FLOW_OUTCOME_H
#define RELAY_FLOW_OUTCOME_H

#include "queue/schedule.h"

struct flow;
struct job;

/* All recipients are resolved: decides who is tried again, and when, and records. */
void outcome_record(struct job *j);
/* Another node has the mail, and the item is gone: ends the job. */
void outcome_forget(struct job *j);
/* As configured. */
struct schedule outcome_schedule(const struct flow *f);

#endif
