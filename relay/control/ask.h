/* SPDX-License-Identifier: Apache-2.0
 *
 * ask: a question of the control thread to workers, which they answer beside their mail.
 *
 * An ask has a part for each worker that is asked. A part travels there by mailbox (with the place
 * for its return reserved), waits in the worker's line, gets slices, and comes back; when all parts
 * are back, on_done runs on the control thread. The line has ASK_SLICE_US a turn of the worker for
 * all parts together, one part a turn, in turns: what an operator asks costs mail that much and no
 * more, however many ask.
 *
 * on_slice does a piece of work within the time it is given and says what is left: MORE, DONE, or
 * WAIT, where something asynchronous is under way that will call ask_resume() on the same worker.
 * It must not look at the control thread's memory but what the ask gives it, and until on_done
 * nobody on the control thread touches that: it is the worker's.
 *
 * An ask cannot be taken back. ask_cancel() asks on_slice to end soon (ask_is_cancelled).
 */
#ifndef RELAY_CONTROL_ASK_H
#define RELAY_CONTROL_ASK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/worker.h"

struct ask;
struct ask_part;
struct crew;

enum { ASK_SLICE_US = 200 };

enum ask_step { ASK_MORE, ASK_WAIT, ASK_DONE };

/* The control thread's: who asks. */
struct asker {
	struct worker *worker; /* the control thread's own */
	struct crew *crew;
	struct list due;    /* struct ask_part.link: a mailbox was full */
	struct timer again; /* for those */
	size_t out;         /* parts that are not back */
};

/* Each worker's: who is asked. */
struct asked {
	struct worker *worker;
	struct list line; /* struct ask_part.link */
	struct task task;
};

struct ask_part {
	struct message message;
	struct list_node link;
	struct ask *ask;
	struct asked *asked; /* the worker that it is for */
	unsigned worker;     /* its number */
};

/* Embedded in its owner. */
struct ask {
	enum ask_step (*on_slice)(struct ask_part *p, uint64_t slice_us); /* on the worker */
	void (*on_done)(struct ask *a);                                   /* control thread */
	struct asker *asker;
	struct ask_part *parts; /* lent: one for each worker asked */
	unsigned parts_out;
	atomic_bool cancelled;
};

void asker_init(struct asker *a, struct worker *worker, struct crew *crew);
void asked_init(struct asked *a, struct worker *worker);
/* Asks workers first .. first + count - 1; parts[0 .. count - 1] are lent until on_done. */
void ask_start(struct asker *asker, struct ask *a, unsigned first, unsigned count);
void ask_cancel(struct ask *a);
/* For on_slice. */
bool ask_is_cancelled(const struct ask_part *p);
struct worker *ask_worker(const struct ask_part *p);
/* What a part waited for has happened; on its worker. */
void ask_resume(struct ask_part *p);

#endif
