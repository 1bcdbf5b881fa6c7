/* SPDX-License-Identifier: Apache-2.0
 *
 * pair_rig: a pair of stores for tests: a spool in a folder of its own and a real redis-server that
 * can be killed and come back; one worker, unless a test opens more.
 */
#ifndef TESTS_LIB_PAIR_RIG_H
#define TESTS_LIB_PAIR_RIG_H

#include "tests/lib/queue_suite.h"
#include "tests/lib/redis_server.h"

enum { RIG_DEADLINE_MS = 20 * 1000, RIG_ALONE_AFTER_MS = 1 };

extern struct redis_server rig_server;
extern const char *rig_spool_path; /* of the next opening */
extern unsigned rig_wait_ms;       /* so long it waits for Redis */
extern struct world rig_world;
/* The suite of all stores: with the server, and without. */
extern const struct queue_suite_store rig_with_redis;
extern const struct queue_suite_store rig_without_redis;

void rig_init(void);
void rig_fini(void);
/* An empty world that waits for Redis; once more as it is. */
void rig_begin(void);
void rig_open(void);
struct queue *rig_end(void);
struct queue_item *rig_shift(struct list *items); /* NULL: none */
/* With one recipient; it must go there. */
struct queue_item *rig_put(unsigned number, uint64_t size, uint32_t site, enum queue_place place);
/* Puts mails until one goes there; each is delivered. */
void rig_wait_for(enum queue_place wanted);
void rig_redis_is_killed(void); /* and noticed */
void rig_redis_is_back(void);
uint64_t rig_mails_here(void);
void rig_deliver(struct queue_item *i);

#endif
