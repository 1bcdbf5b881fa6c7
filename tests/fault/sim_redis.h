/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_redis: a Redis 7 server as a peer of the simulated machine: RESP2 at one address, the key
 * space of sim_keys.h, the store's own functions run by sim_lua.h, MULTI, WAIT, SUBSCRIBE, and the
 * questions that are asked of a server before it is trusted (CONFIG GET, INFO, ROLE).
 *
 * It lives in the world and outlives the relay. Its clock is the world's wall clock moved by an
 * offset. By seed it answers late, drops connections before or after executing what they asked,
 * restarts, fails over to a replica that lags behind, and is out of memory or of disk for a while.
 * What was executed and what a fail-over has lost can be asked afterwards.
 */
#ifndef TESTS_FAULT_SIM_REDIS_H
#define TESTS_FAULT_SIM_REDIS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/span.h"
#include "core/net.h"
#include "tests/fault/sim_keys.h"

struct sim_redis;
enum { SIM_REDIS_NODES = 4 };

/* How often, out of 1000, each thing happens at a command, and how long it takes at most. */
struct sim_redis_faults {
	unsigned drops_before; /* the connection, and the command was not executed */
	unsigned drops_after;  /* it was, and nobody hears the reply */
	unsigned delays;       /* before it is executed */
	unsigned answers_late;
	unsigned restarts;   /* all connections break, nobody listens for a while; all is kept */
	unsigned fails_over; /* the same, and what the replica had not got is lost */
	unsigned no_memory;  /* OOM for a while */
	unsigned no_disk;    /* MISCONF for a while: nothing can be written */
	uint64_t delay_us;
	uint64_t down_us;
	uint64_t trouble_us; /* how long memory or disk are missing */
	uint64_t lag_us;     /* of the replica; 0: there is none */
};

struct sim_redis *sim_redis_new(const struct net_address *address,
				const struct sim_redis_faults *faults);
/* From now on nothing goes wrong; what lasts ends. */
void sim_redis_calm(struct sim_redis *r);
/* A parameter of CONFIG GET. Before: appendonly yes, appendfsync always, and so on as Ringpost asks
 * for it; "hidden": CONFIG is refused, as managed servers do. Lent for ever. */
void sim_redis_configure(struct sim_redis *r, const char *name, const char *value);
/* Nobody may do anything before AUTH with these. Lent for ever. */
void sim_redis_require(struct sim_redis *r, const char *user, const char *password);
/* Its wall clock is ahead of the relay's by so much. */
void sim_redis_move_clock(struct sim_redis *r, int64_t offset_ms);

/* At once. */
void sim_redis_restart(struct sim_redis *r, uint64_t down_us);
void sim_redis_fail_over(struct sim_redis *r, uint64_t down_us);
void sim_redis_break_connections(struct sim_redis *r);
/* Between this node (world->node) and the server nothing passes until then. */
void sim_redis_cut(struct sim_redis *r, unsigned node, uint64_t until_us);

/* For oracles: told of each write that a fail-over has lost, when the new master is there; it may
 * be asked. */
void sim_redis_watch_losses(struct sim_redis *r,
			    void (*on_lost)(void *context, const struct span *words,
					    unsigned count),
			    void *context);
/* For oracles: asks it as a client would, with no connection and no faults. */
void sim_redis_ask(struct sim_redis *r, const struct span *words, unsigned count, struct text *out);

/* Of this process: told of each function that the server has executed: the words of its FCALL, and
 * the reply in RESP, which may still be lost. */
typedef void (*sim_redis_watch_fn)(const struct span *words, unsigned count, struct span reply);
void sim_redis_watch(sim_redis_watch_fn on_function);

struct sim_redis_numbers {
	uint64_t commands;   /* executed; those inside a function are not counted */
	uint64_t functions;  /* FCALL, of these */
	uint64_t dropped;    /* connections, by a fault */
	uint64_t fail_overs; /* that lost something */
	uint64_t lost;       /* writes, by them */
	uint64_t refused;    /* for want of memory or disk */
	uint64_t published;
};
struct sim_redis_numbers sim_redis_count(const struct sim_redis *r);

#endif
