/* SPDX-License-Identifier: Apache-2.0
 *
 * drive: what all drivers of the simulation share: the plan of a seed, the workers of one
 * incarnation, all in one thread, and the turning of the world around them.
 *
 * A driver runs the production code of one layer through a life of several incarnations: some end
 * in a crash, some orderly; in the last one all faults are off and everything has to drain. What
 * varies from seed to seed is chosen once, in the plan, before the first incarnation.
 */
#ifndef TESTS_FAULT_DRIVE_H
#define TESTS_FAULT_DRIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/worker.h"
#include "tests/fault/sim.h"
#include "tests/fault/terms.h"

enum { DRIVE_WORKERS_MAX = 6, DRIVE_INCARNATIONS_MAX = 6, DRIVE_SHARDS = 4, DRIVE_NODES = 2 };

struct sim_redis;

struct drive_plan {
	unsigned workers_most; /* 0: chosen by seed */
	unsigned nodes;        /* relays, over one server where there are several */
	unsigned incarnations; /* before the last one */
	unsigned workers[DRIVE_INCARNATIONS_MAX + 1];
	uint64_t crash_after[DRIVE_INCARNATIONS_MAX]; /* completions; 0: ends orderly */
	unsigned moves;                               /* of an incarnation */
	struct sim_faults faults;
	uint64_t body_most;
	uint64_t file_threshold;
	uint64_t segment_size;
	uint64_t disk_pages;
	uint64_t body_memory;
	unsigned flights;
	unsigned weights[8]; /* of the driver's kinds of moves */
	struct terms terms;  /* of the layer `relay`: those of an incarnation may differ a little */
	bool asks;           /* of the layer `relay`: sinks are asked for recipients */
	bool days;           /* mails live for days, and so does each incarnation */
	struct sim_redis *redis; /* of layers with a server: who keeps the mails; else NULL */
	/* Of the relay over such: it dies soon after so many changes; 0: when crash_after says. */
	unsigned crash_changes[DRIVE_INCARNATIONS_MAX];
	bool fails_over; /* the server does, to a replica that lags */
	bool is_late;    /* its answers are, now and then */

	unsigned incarnation; /* now; the last one is `incarnations` */
};

/* Chooses what a life of this seed is like; after sim_reset. */
void drive_plan(struct drive_plan *plan, unsigned workers_most);
static inline bool
drive_is_last(const struct drive_plan *plan)
{
	return plan->incarnation == plan->incarnations;
}
void drive_plan_no_disk_errors(struct drive_plan *plan);
/* A few mails over many days. */
void drive_plan_days(struct drive_plan *plan);
/* Have errors of the disk been among this life's faults? */
bool drive_disk_errs(const struct drive_plan *plan);
/* The same, or the disk may be full: a new spool can not be made then. */
bool drive_opening_may_fail(const struct drive_plan *plan);

/* ---- the layer `redis`: drive_redis.c ---- */

struct oracle_mail;
struct oracle_recipient;
struct queue_options;
struct queue;
struct queue_mail;
struct queue_store;
struct mail_id;
/* Makes the server, in the world, and chooses what goes wrong with it, and (is_relay) with the
 * whole relay over it. */
void drive_plan_redis(struct drive_plan *plan, bool is_relay);
/* This incarnation begins: what the server executes is watched. */
void drive_redis_watch(const struct drive_plan *plan);
/* The node that is to die now, right behind what it has changed; DRIVE_NODES: none. */
unsigned drive_redis_doomed(void);
/* From now on nothing does. */
void drive_redis_calm(const struct drive_plan *plan);
/* The store's end: the server, and terms that a life can wait for. */
void drive_redis_options(const struct drive_plan *plan, struct queue_options *options);
/* A fail-over may have lost what was done with this mail: it may be as the server has it, too.
 * Asked of each mail that is named by a write that was lost, and again when an answer comes to what
 * was asked for before that. */
void drive_redis_look(const struct drive_plan *plan, struct oracle_mail *m);
/* The same where something was lost since it had been undone so often. */
void drive_redis_look_again(const struct drive_plan *plan, struct oracle_mail *m, unsigned undone);
/* It is decided that he has got it; that he had before must have been counted. */
void drive_redis_note_delivery(struct oracle_recipient *r);
/* Adds what the store has counted since the last time to oracle->counted. */
void drive_redis_count_duplicates(struct queue_store *store);
/* Asked of the server itself: has it this mail? How many has it? */
bool drive_redis_has(const struct drive_plan *plan, struct mail_id id);
uint64_t drive_redis_count(const struct drive_plan *plan);
/* The same of the server that is watched. */
bool drive_redis_still_has(struct mail_id id);
/* Is this copy the one that the server has given last, and to nobody else? An old one may be there
 * beside it, when the mail has come back to whom it was taken from. False: also of a mail that the
 * server has no more. */
bool drive_redis_owns(struct queue *q, const struct queue_mail *copy);
/* One that is held there. */
bool drive_redis_held(const struct drive_plan *plan, struct mail_id *out);
/* Are these the same time? The store keeps times by the server's clock, of which it learns by
 * answers that may be late. Without a server: to the millisecond. */
bool drive_is_time(const struct drive_plan *plan, uint64_t is_ms, uint64_t ms);

/* ---- one incarnation ---- */

/* A relay of the several that a life may have, all in this thread. */
struct drive_node {
	struct worker *workers[DRIVE_WORKERS_MAX];
	unsigned count; /* 0: it is down */
	bool rests;     /* it is stopped (SIGSTOP): it gets no turns */
};

extern struct drive_node drive_nodes[DRIVE_NODES];
/* Of the one whose turn it is. */
extern struct worker **drive_workers;
extern unsigned drive_worker_count;
/* It is this one's turn; drive_pump changes that. */
void drive_switch(unsigned node);

void drive_open_workers(unsigned count, const struct worker_options *options);
void drive_close_workers(void);
/* Lets workers take turns and the world move on by a little. False where nothing can happen any
 * more by itself. */
bool drive_pump(void);

/* ---- drivers: one incarnation each, for sim_run; context is the plan ---- */

void drive_spool(void *plan);
/* The incarnation after the last: opens what is left, and compares. */
void drive_spool_final(void *plan);
void drive_proxy(void *plan);
void drive_proxy_final(void *plan);
void drive_relay(void *plan);
void drive_relay_final(void *plan);

#endif
