/* SPDX-License-Identifier: Apache-2.0
 *
 * helpers: a few threads for work that is too long for a worker's turn (password hashing, the
 * answer to a hello of TLS): more than about 200 us of computing.
 *
 * A bounded queue with a lock, since its jobs are long and few: a worker holds the lock for the
 * time of a list operation. Quick jobs (a handshake) go ahead of the others (a password), and
 * are bounded by those who submit them. A job is
 * embedded in its owner and belongs to the pool from helpers_submit() until its on_done, which runs
 * on the submitting worker through its mailbox; the place for it was reserved before, so a result
 * always arrives. helpers_submit() says no when the queue or the mailbox is full, or where the jobs
 * that wait for the same party are as many as one may have: the caller answers 454 or does without,
 * and counts it.
 *
 * The threads yield to the workers: they are less important to the scheduler, and a long job calls
 * helpers_pause() all the time. Without that a worker that wakes while both processors compute
 * waits for the end of a time slice: 3 ms where nothing else takes any.
 *
 * With `patience_ms` there are two kinds of threads. Long jobs have threads of SCHED_IDLE, which
 * run where nobody else wants the processor, and give it up the moment that somebody does. Quick
 * ones have as many of their own, which have a share of a processor that others keep busy. Where no
 * job has ended for patience_ms, these take the next long one, too: then that many a second get
 * done at least, and none waits for ever.
 *
 * Such an idle thread may stand anywhere for as long as others compute, so it must never stand
 * where a worker would wait for it: it only computes, and another thread, its keeper, takes the
 * jobs for it and brings them back. The work of a long job, too, takes no lock (and no memory).
 */
#ifndef CORE_HELPERS_H
#define CORE_HELPERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/worker.h"

struct helpers;

struct helpers_options {
	unsigned threads;
	size_t jobs_max;      /* that wait, besides the quick ones */
	size_t party_max;     /* of those, for one party */
	unsigned patience_ms; /* 0: all threads do all jobs */
};

struct helper_job {
	struct message message;
	struct list_node node;
	struct worker *from;
	void (*work)(struct helper_job *j); /* on a helper thread; touches only the job's owner */
	void (*on_done)(struct helper_job *j); /* on the worker that submitted it */
	uint32_t party; /* a hash of for whom it is; two may share one. 0: not counted */
	bool is_quick;  /* some milliseconds; counted by whoever submits it */
};

/* NULL with a line in `why`. Main thread; the workers that submit may not have started yet. */
struct helpers *helpers_start(const struct helpers_options *o, struct buf *why);
/* Does what is queued, then ends the threads. No worker may submit any more; the workers' rings
 * must still exist. */
void helpers_stop(struct helpers *h);
/* On the worker `from`. False: full. */
bool helpers_submit(struct helpers *h, struct worker *from, struct helper_job *j);
/* In a long job's work, all 0.1 ms or so: who else wants the processor has it. */
void helpers_pause(void);

#endif
