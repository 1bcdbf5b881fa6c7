/* SPDX-License-Identifier: Apache-2.0
 *
 * bounce: the reports to senders: which outcomes call for one, and its making as a mail of ours.
 *
 * A job whose outcomes are settled is judged (RFC 3461 5.2): a failure is reported unless NOTIFY
 * says otherwise, a delay once for each recipient after `bounces.delay`, a success where NOTIFY
 * asks for it and nobody further on will report it: relayed to a server without DSN, or delivered
 * by LMTP. A mail with the null sender gives rise to none, so reports of reports do not exist. All
 * that is to be told of one job is one report.
 *
 * Its making reads the original's header, or all of it, from memory or through queue_load, and
 * writes into a draft, with back-pressure, a few pieces a turn. At most BOUNCES_MAX of a worker are
 * being made; further jobs wait in line. When one is ready, the owner records outcomes and report
 * as one change (queue_record.notice). Where something of the original cannot be read or does not
 * fit, less of it is attached; where nothing helps, the outcomes are not recorded either, and all
 * is tried again later: an outcome is never kept without its report. The one exception is a
 * delivery of a mail that another node had taken over meanwhile (ERR_LOST), where the same report
 * tells of other outcomes, which are not kept: the delivery is, and that a sender asked to hear of
 * it is forgotten.
 *
 * On the worker of the job's owner alone.
 */
#ifndef RELAY_FLOW_BOUNCE_H
#define RELAY_FLOW_BOUNCE_H

#include "core/base/pool.h"
#include "core/worker.h"
#include "queue/queue.h"

struct flow;
struct job;

enum { BOUNCES_MAX = 128, BOUNCE_PIECES_A_TURN = 8 };

struct bounces {
	struct pool pool;
	size_t count;        /* being made, or with a record */
	struct list waiting; /* struct job.bounce_link */
};

void bounces_init(struct flow *f);
void bounces_fini(struct flow *f);

/* Decides by the results what the sender is told of each, in j->reports. */
void bounce_judge(struct job *j);
/* Does any result call for a report? */
bool bounce_is_wanted(const struct job *j);
/* When the sender of result `i` is to be told of the delay; UINT64_MAX: never, or it was. */
uint64_t bounce_delay_at_ms(const struct job *j, uint32_t i);
/* Is the mail so late that its sender is to be told, although it was not even tried? On the worker
 * that serves it: its `f`. */
bool bounce_is_overdue(const struct flow *f, const struct job *j);
/* Makes it; on_made may come inside the call with an error. ERR_OK: give bounce_put() to the
 * record. Either way bounce_recorded() or bounce_dropped() ends it. */
void bounce_make(struct job *j, void (*on_made)(struct job *j, enum err e));
struct queue_put *bounce_put(struct job *j);
/* The record with the report is durable: events, and the report goes its way. Also for a job
 * without one, whose failures are then told by events alone. */
void bounce_recorded(struct job *j);
/* Does the report that was made tell of deliveries, and of nothing else? */
bool bounce_tells_deliveries_only(const struct job *j);
/* The report is kept, and waits in the queue: another node has the mail that it is about. */
void bounce_left(struct job *j);
/* It is not: the report is gone. The next one attaches less, or says less. */
void bounce_dropped(struct job *j, enum err e);

#endif
