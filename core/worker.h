/* SPDX-License-Identifier: Apache-2.0
 *
 * worker: one thread of the relay and what it owns: ring, timers, mailbox, buffers, counters.
 *
 * One turn (worker_turn) is: harvest completions and handle them, fire timers, read the mailbox,
 * run the tasks that were asked for, then the last tasks (group commit, flushing of output), reap
 * what has closed; the submission happens once, in the wait of the next turn. Everything is bounded
 * a turn, so that no one holds up the others: what is left over runs in the next turn, without
 * waiting. What computes for long (a step of a handshake) comes behind all that, and so that the
 * disk and the peers have what this turn started meanwhile, it is submitted before.
 *
 * The layers above hang on by pointers that core never follows (resolver, queue, flow). A worker is
 * created on the main thread (worker_init), runs on its own (worker_run), and is driven by hand by
 * the simulation (worker_turn with wait 0). No other thread may touch it but through its mailbox;
 * `number`, `peers`, `mailbox` producers' side and `ring` as target of a bell are the exceptions;
 * therefore no worker runs before all are open, and none is closed before all have ended. A thread
 * that is no worker (control, helpers) posts with a small ring of its own: mailbox_post, ring_bell.
 */
#ifndef CORE_WORKER_H
#define CORE_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/base/pool.h"
#include "core/mailbox.h"
#include "core/ring.h"
#include "core/timer.h"

struct config;
struct helpers;
struct limits;
struct log_ring;
struct metrics;
struct queue;
struct quotas;
struct flow;
struct strikes;
struct resolver;
struct tls;

/* Something to run later on the same thread; embedded in its owner. */
struct task;
typedef void (*task_fn)(struct task *t);

struct task {
	struct list_node node;
	task_fn on_run;
};

static inline void
task_init(struct task *t, task_fn on_run)
{
	*t = (struct task){ .on_run = on_run };
}

enum {
	WORKERS_MAX = 64,
	/* Pooled buffers: a connection's unread input, its output, a body on its way from disk. */
	WORKER_BUFFER_SIZE = 32 * 1024,
	WORKER_HEAVY_STEPS = 1, /* a turn, where nothing else is said */
};

struct worker {
	uint32_t magic;
	unsigned number; /* 0 .. count - 1 */
	unsigned count;
	struct worker **peers; /* all workers, by number */

	struct ring *ring;
	struct timers timers;
	struct mailbox mailbox;
	uint64_t now_ms;      /* clock_monotonic_ms() at the start of this turn */
	uint64_t now_wall_ms; /* clock_wall_ms() likewise */

	struct list tasks;   /* struct task, to run in this turn or the next */
	struct list last;    /* struct task, to run after the tasks of this turn */
	struct list reaping; /* struct task, to run at the end of this turn */
	struct list conns;   /* all struct conn */
	size_t conn_count;
	struct pool buffers; /* WORKER_BUFFER_SIZE each */

	/* What computes for long (TLS handshakes): the tasks that want to, whether it is their part
	 * of the turn, how many steps a turn has, and how many are left; none in other parts. */
	struct list heavy;
	bool in_heavy;
	unsigned heavy_steps;
	unsigned heavy_left;
	struct list parked; /* conns whose handshakes wait for a helper */
	size_t at_work;     /* conns whose handshakes helpers have */

	const struct config *config; /* the snapshot for what begins now */
	struct metrics *metrics;
	struct log_ring *log;
	struct limits *limits;   /* shared by all workers */
	struct strikes *strikes; /* likewise */
	struct quotas *quotas;   /* likewise */
	struct helpers *helpers; /* likewise; NULL: there are none */

	struct resolver *resolver;
	struct queue *queue; /* this worker's end of the store */
	struct flow *flow;
	struct tls *tls; /* NULL: none is to be had (in a simulation) */
	bool stopping;   /* set on the worker's own thread; worker_run returns after the turn */
};

#define WORKER_MAGIC 0x574f524bu

struct worker_options {
	struct ring_options ring;
	size_t mailbox_places;
	size_t buffers_max; /* pooled buffers */
};

/* Everything but the ring, which belongs to the thread: see worker_open. */
void worker_init(struct worker *w, unsigned number, unsigned count, struct worker **peers,
		 const struct worker_options *options);
/* Creates the ring; on the thread that will run the worker. False with a line in `why`. */
bool worker_open(struct worker *w, const struct worker_options *options, struct buf *why);
/* Turns until `stopping`; what stands above has closed its connections by then. */
void worker_run(struct worker *w);
/* One turn that waits at most wait_us for something to do. True: something was done. */
bool worker_turn(struct worker *w, uint64_t wait_us);
/* Frees ring and pools, on the worker's thread; no connection and no operation may be left. */
void worker_close(struct worker *w);

/* Runs t in this turn or the next; already asked for: nothing happens. */
void worker_soon(struct worker *w, struct task *t);
/* Runs t at the end of this turn or the next, when there are heavy steps to be had: for what may
 * take heavy_left down. It asks again where nothing was left. */
void worker_heavy(struct worker *w, struct task *t);
/* Runs t after the tasks of this turn: for what gathers (a commit, a send). */
void worker_last(struct worker *w, struct task *t);
/* Runs t at the end of this turn, when nobody looks at its owner any more: for what frees. */
void worker_reap(struct worker *w, struct task *t);
static inline void
task_cancel(struct task *t)
{
	list_unlink(&t->node);
}

/* Posts to another worker (or oneself) with a place that was reserved, and rings its bell. */
void worker_post(struct worker *from, struct worker *to, struct message *m);

#endif
