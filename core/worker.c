/* SPDX-License-Identifier: Apache-2.0 */
#include "core/worker.h"

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/metric.h"

enum {
	MESSAGES_PER_TURN = 256,
	/* What the last tasks ask for as last tasks (a commit writes to a connection, whose output
	 * is flushed) still leaves in the same turn, up to this depth. */
	LAST_ROUNDS = 4,
	IDLE_WAIT_US = 1000 * 1000,
};

void
worker_init(struct worker *w, unsigned number, unsigned count, struct worker **peers,
	    const struct worker_options *options)
{
	ASSERT(count <= WORKERS_MAX && number < count);
	*w = (struct worker){ .number = number, .count = count, .peers = peers };
	OBJ_INIT(w, WORKER_MAGIC);
	list_init(&w->tasks);
	list_init(&w->last);
	list_init(&w->reaping);
	list_init(&w->heavy);
	list_init(&w->conns);
	list_init(&w->parked);
	pool_init(&w->buffers, WORKER_BUFFER_SIZE, options->buffers_max);
	mailbox_init(&w->mailbox, options->mailbox_places, w);
	w->heavy_steps = WORKER_HEAVY_STEPS;
	w->now_ms = clock_monotonic_ms();
	w->now_wall_ms = clock_wall_ms();
	timers_init(&w->timers, w->now_ms);
}

bool
worker_open(struct worker *w, const struct worker_options *options, struct buf *why)
{
	OBJ_CHECK(w, WORKER_MAGIC);
	ASSERT(w->ring == NULL);
	w->ring = ring_new(&options->ring, why);
	return w->ring != NULL;
}

void
worker_close(struct worker *w)
{
	ASSERT(w->conn_count == 0);
	if (w->ring != NULL)
		ring_free(w->ring);
	w->ring = NULL;
	pool_fini(&w->buffers);
	OBJ_FINI(w, WORKER_MAGIC);
}

/* How long this turn may wait: not at all while anything is left to do. */
static uint64_t
may_wait_us(const struct worker *w, uint64_t wait_us)
{
	if (wait_us == 0 || !list_is_empty(&w->tasks) || !list_is_empty(&w->last) ||
	    !list_is_empty(&w->reaping) || !list_is_empty(&w->heavy))
		return 0;
	/* now_ms is as old as the last turn was long. */
	uint64_t most_ms = wait_us / 1000;
	uint64_t next_ms = timers_next_ms(&w->timers, clock_monotonic_ms(), most_ms);
	return next_ms < most_ms ? next_ms * 1000 : wait_us;
}

static void
wait_for_something(struct worker *w, uint64_t wait_us)
{
	wait_us = may_wait_us(w, wait_us);
	bool asleep = wait_us > 0 && mailbox_may_sleep(&w->mailbox);

	ring_wait(w->ring, asleep ? wait_us : 0);
	if (asleep)
		mailbox_awake(&w->mailbox);
	w->now_ms = clock_monotonic_ms();
	w->now_wall_ms = clock_wall_ms();
}

/* Runs the tasks that are in the list now. What they add to it stays for later; they may cancel
 * each other. */
static size_t
run_tasks(struct list *tasks)
{
	struct list now;
	struct list_node *node;
	size_t n = 0;

	list_init(&now);
	list_take_all(&now, tasks);
	while ((node = list_shift(&now)) != NULL) {
		struct task *t = LIST_ITEM(node, struct task, node);
		t->on_run(t);
		n++;
	}
	return n;
}

/* What has gathered in a turn. */
static size_t
run_last(struct worker *w)
{
	size_t done = 0;

	for (unsigned i = 0; i < LAST_ROUNDS && !list_is_empty(&w->last); i++)
		done += run_tasks(&w->last);
	return done + run_tasks(&w->reaping);
}

/* The heavy steps of this turn. What they have to say leaves with the next one. */
static size_t
run_heavy(struct worker *w)
{
	if (list_is_empty(&w->heavy))
		return 0;
	ring_wait(w->ring, 0);
	w->in_heavy = true;
	w->heavy_left = w->heavy_steps;
	size_t done = run_tasks(&w->heavy);
	w->heavy_left = 0;
	w->in_heavy = false;
	return done + run_last(w);
}

bool
worker_turn(struct worker *w, uint64_t wait_us)
{
	size_t done = 0;

	OBJ_CHECK(w, WORKER_MAGIC);
	wait_for_something(w, wait_us);
	done += ring_complete(w->ring);
	done += timers_run(&w->timers, w->now_ms);
	done += mailbox_run(&w->mailbox, MESSAGES_PER_TURN);
	done += run_tasks(&w->tasks);
	done += run_last(w);
	done += run_heavy(w);
	if (w->metrics != NULL)
		METRIC_ADD(w->metrics, WORKER_TURNS, 1);
	return done > 0;
}

void
worker_run(struct worker *w)
{
	while (!w->stopping)
		worker_turn(w, IDLE_WAIT_US);
}

static void
add_task(struct list *tasks, struct task *t)
{
	ASSERT(t->on_run != NULL);
	if (!list_is_linked(&t->node))
		list_append(tasks, &t->node);
}

void
worker_soon(struct worker *w, struct task *t)
{
	add_task(&w->tasks, t);
}

void
worker_heavy(struct worker *w, struct task *t)
{
	add_task(&w->heavy, t);
}

void
worker_last(struct worker *w, struct task *t)
{
	add_task(&w->last, t);
}

void
worker_reap(struct worker *w, struct task *t)
{
	add_task(&w->reaping, t);
}

void
worker_post(struct worker *from, struct worker *to, struct message *m)
{
	if (from->metrics != NULL)
		METRIC_ADD(from->metrics, MAILBOX_MESSAGES, 1);
	/* Who posts to itself is awake. */
	if (mailbox_post(&to->mailbox, m) && from != to)
		ring_bell(from->ring, to->ring);
}
