/* SPDX-License-Identifier: Apache-2.0
 *
 * thread: a crew of workers (core/worker.h) for the bench, each on a thread of its own.
 *
 * crew_start makes rings and threads and runs on_start on each of them; then they turn until
 * crew_stop, which runs on_stop on each (close what is open there; it may take turns of its own)
 * and joins them. CPU time is measured a crew, so that source and sink are told apart although they
 * share a process.
 */
#ifndef BENCH_THREAD_H
#define BENCH_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/worker.h"

struct crew_member {
	struct worker worker; /* first */
	struct crew *crew;
	pthread_t thread;
	clockid_t clock;       /* CPU time of the thread */
	uint64_t ended_cpu_us; /* once it has ended */
	void *context;         /* the user's, of this member */
	/* How long a turn may wait; the user may lower it, for loads by the clock. */
	uint64_t wait_us;
	bool opened;
};

struct crew {
	const char *name;
	unsigned count;
	struct crew_member *members;
	struct worker *peers[WORKERS_MAX];
	struct worker_options options;
	void (*on_start)(struct crew_member *m);
	void (*on_turn)(struct crew_member *m); /* after each turn; may be NULL */
	/* Is everything of this member closed? Asked after each turn once it is to stop. The first
	 * call begins the closing. */
	bool (*on_stop)(struct crew_member *m);
	void *context;
	unsigned started; /* threads that exist */
	pthread_mutex_t starting;
	pthread_barrier_t barrier;
	atomic_bool stopping;
	bool running;
};

/* conns: connections that a member may have at most, for its buffers. False with a line in `why`;
 * nothing runs then. The crew is zeroed but for name, count, the callbacks and context. */
bool crew_start(struct crew *c, size_t conns, struct buf *why);
void crew_stop(struct crew *c);
void crew_free(struct crew *c);
/* User and system time of its threads so far, microseconds; also after crew_stop. */
uint64_t crew_cpu_us(const struct crew *c);

#endif
