/* SPDX-License-Identifier: Apache-2.0
 *
 * promise: whether a Redis server does what a level of durability promises. Pure: texts in, a
 * verdict out; servers_setup.c asks.
 *
 * A server is asked by INFO (promise_sections) and by CONFIG GET of promise_settings().
 * A server that hides CONFIG can be declared: then only its version and its role are looked at, and
 * the operator vouches for the rest.
 *
 * A verdict is one line with the remedy:
 *   redis 127.0.0.1:6379 may lose mail: appendfsync is everysec; set `appendfsync always`, or ask
 *   for less with queue.redis.durability
 */
#ifndef QUEUE_REDIS_PROMISE_H
#define QUEUE_REDIS_PROMISE_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "queue/redis/servers.h"

enum { PROMISE_VERSION_LEAST = 7 };

/* What a server has said. Zeroed: nothing. */
struct promise_facts {
	unsigned version_major; /* 0: unknown */
	char version[16];
	uint64_t run; /* of the server: another number, another process */
	bool is_master;
	bool is_loading;
	bool aof_is_off;
	bool aof_fails;    /* the last write of it */
	bool has_settings; /* CONFIG GET was answered */
	bool appends;
	char fsync[12];
	bool fsync_pauses;       /* no-appendfsync-on-rewrite */
	char eviction[24];       /* maxmemory-policy */
	uint64_t replicas_least; /* min-replicas-to-write */
};

/* The sections of INFO, and the settings of CONFIG GET. */
const struct span *promise_sections(unsigned *count);
const struct span *promise_settings(unsigned *count);
/* Must its settings be asked for? */
bool promise_asks_settings(const struct redis_options *wish);

void promise_read_info(struct span text, struct promise_facts *out);
void promise_read_setting(struct span name, struct span value, struct promise_facts *out);
/* False with a line in `why`. Whatever is not known counts as less than promised. */
bool promise_holds(const struct promise_facts *facts, const struct redis_options *wish,
		   struct span server, struct buf *why);

#endif
