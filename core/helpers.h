/* SPDX-License-Identifier: Apache-2.0
 *
 * helpers: a few threads for work that is too long for a worker's turn (password hashing, large RSA
 * keys, certificate files): more than about 200 us of computing, or blocking file access.
 *
 * A bounded queue with a lock, since its jobs are long and few: a worker holds the lock for the
 * time of a list operation. A job is embedded in its owner and belongs to the pool from
 * helpers_submit() until its on_done, which runs on the submitting worker through its mailbox; the
 * place for it was reserved before, so a result always arrives. helpers_submit() says no when the
 * queue or the mailbox is full: the caller answers 454 or does without, and counts it.
 */
#ifndef CORE_HELPERS_H
#define CORE_HELPERS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/list.h"
#include "core/worker.h"

struct helpers;

struct helper_job {
	struct message message;
	struct list_node node;
	struct worker *from;
	void (*work)(struct helper_job *j); /* on a helper thread; touches only the job's owner */
	void (*on_done)(struct helper_job *j); /* on the worker that submitted it */
};

/* NULL with a line in `why`. Main thread; the workers that submit may not have started yet. */
struct helpers *helpers_start(unsigned threads, size_t jobs_max, struct buf *why);
/* Does what is queued, then ends the threads. No worker may submit any more; the workers' rings
 * must still exist. */
void helpers_stop(struct helpers *h);
/* On the worker `from`. False: full. */
bool helpers_submit(struct helpers *h, struct worker *from, struct helper_job *j);

#endif
