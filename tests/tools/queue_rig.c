/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tools/queue_rig.h"

#include <stdlib.h>

#include "core/base/assert.h"

/* No connections, so no receive buffers. */
static const struct worker_options worker_options = {
	.ring = { .entries = 256 },
	.mailbox_places = 16,
	.buffers_max = 4,
};

enum { IDLE_WAIT_US = 1000 };

static void
close_workers(struct queue_rig *r)
{
	for (unsigned i = 0; i < r->worker_count; i++) {
		worker_close(r->workers[i]);
		free(r->workers[i]);
	}
	r->worker_count = 0;
}

/* All peers exist before the first is opened: they may look at each other. */
static bool
open_workers(struct queue_rig *r, unsigned count, struct buf *why)
{
	bool ok = true;

	ASSERT(count > 0 && count <= QUEUE_RIG_WORKERS_MAX);
	for (unsigned i = 0; i < count; i++) {
		size_t size = (sizeof(struct worker) + 63) / 64 * 64;
		r->workers[i] = aligned_alloc(64, size);
		ASSERT(r->workers[i] != NULL);
		worker_init(r->workers[i], i, count, r->workers, &worker_options);
	}
	r->worker_count = count;
	for (unsigned i = 0; i < count && ok; i++)
		ok = worker_open(r->workers[i], &worker_options, why);
	return ok;
}

bool
queue_rig_open(struct queue_rig *r, const struct queue_options *options, unsigned worker_count,
	       const struct queue_hooks *hooks, struct buf *why)
{
	*r = (struct queue_rig){ 0 };
	if (open_workers(r, worker_count, why))
		r->store = queue_open(options, r->workers, worker_count, hooks, why);
	if (r->store == NULL) {
		close_workers(r);
		return false;
	}
	for (unsigned i = 0; i < worker_count; i++)
		queue_start(queue_end(r->store, i));
	return true;
}

void
queue_rig_turn(struct queue_rig *r)
{
	bool any = false;

	for (unsigned i = 0; i < r->worker_count; i++)
		any |= worker_turn(r->workers[i], 0);
	/* The wait is on one ring alone: short, so that the others are seen soon. */
	if (!any)
		worker_turn(r->workers[0], IDLE_WAIT_US);
}

static void
on_stopped(struct queue *q, void *context)
{
	struct queue_rig *r = context;

	(void)q;
	r->stopped++;
}

void
queue_rig_close(struct queue_rig *r)
{
	ASSERT(r->store != NULL);
	for (unsigned i = 0; i < r->worker_count; i++)
		queue_stop(queue_end(r->store, i), on_stopped, r);
	while (r->stopped < r->worker_count)
		queue_rig_turn(r);
	queue_close(r->store);
	close_workers(r);
	*r = (struct queue_rig){ 0 };
}
