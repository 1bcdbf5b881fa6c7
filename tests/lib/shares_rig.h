/* SPDX-License-Identifier: Apache-2.0
 *
 * Three nodes of one worker each over one real redis-server, driven by the calling thread. For the
 * tests of limits that hold for all nodes.
 */
#ifndef TESTS_LIB_SHARES_RIG_H
#define TESTS_LIB_SHARES_RIG_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "queue/redis/store.h"
#include "queue/shares.h"
#include "tests/lib/redis_server.h"

enum { NODES = 3, LEASE_MS = 2000 };

static struct redis_server server;
static struct node {
	struct worker w;
	struct worker *peers[1];
	struct queue_store *store; /* NULL: it does not run */
	struct queue *q;
	bool stopped;
} nodes[NODES];

/* All nodes work; the thread waits on one ring at a time, shortly, so that all are seen soon. */
static void
turn_all(void)
{
	for (unsigned i = 0; i < NODES; i++) {
		if (nodes[i].store != NULL)
			worker_turn(&nodes[i].w, 500);
	}
}

#define UNTIL(condition)                                              \
	do {                                                          \
		uint64_t until_ms_ = clock_monotonic_ms() + 30000;    \
		while (!(condition)) {                                \
			turn_all();                                   \
			if (clock_monotonic_ms() > until_ms_)         \
				fail_msg("still not %s", #condition); \
		}                                                     \
	} while (0)

static struct site_id
rig_site_of(struct queue *q, struct span address, uint32_t flags)
{
	(void)q, (void)address, (void)flags;
	return (struct site_id){ 1 };
}

static void
rig_on_due(struct queue *q, struct site_id site)
{
	(void)q, (void)site;
}

static void
node_start(struct node *n)
{
	static const struct worker_options worker_options = {
		.ring = { .entries = 64, .buffers = { 2, 32 }, .buffer_size = { 4096, 4096 } },
		.mailbox_places = 8,
		.buffers_max = 64,
	};
	static const struct queue_hooks hooks = { .site_of = rig_site_of, .on_due = rig_on_due };
	static struct span address;
	static struct redis_options redis;
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	address = span_of_string(server.socket);
	redis = (struct redis_options){
		.kind = REDIS_SINGLE,
		.addresses = &address,
		.address_count = 1,
		.prefix = SPAN("ringpost"),
		.shards = 16,
		.durability = REDIS_MEMORY,
		.deadline_ms = 2000,
		.lease_ms = LEASE_MS,
	};
	const struct queue_options options = { .redis = &redis };

	memset(n, 0, sizeof *n);
	n->peers[0] = &n->w;
	worker_init(&n->w, 0, 1, n->peers, &worker_options);
	if (!worker_open(&n->w, &worker_options, &why))
		fail_msg("%.*s", (int)why.size, text);
	n->store = queue_open(&options, n->peers, 1, &hooks, &why);
	assert_non_null(n->store);
	n->q = queue_end(n->store, 0);
	queue_start(n->q);
	UNTIL(queue_may_deliver(n->q));
}

static void
rig_on_stopped(struct queue *q, void *context)
{
	struct node *n = context;

	(void)q;
	n->stopped = true;
}

static void
node_stop(struct node *n)
{
	if (n->store == NULL)
		return;
	queue_stop(n->q, rig_on_stopped, n);
	UNTIL(n->stopped);
	queue_close(n->store);
	n->store = NULL;
	assert_int_equal(n->w.timers.count, 0);
	worker_close(&n->w);
}

static inline int
rig_setup(void **state)
{
	(void)state;
	redis_server_start(&server, "");
	for (unsigned i = 0; i < NODES; i++)
		node_start(&nodes[i]);
	return 0;
}

static inline int
rig_teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NODES; i++)
		node_stop(&nodes[i]);
	redis_server_free(&server);
	return 0;
}

#endif
