/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/thread.h"

#include <stdlib.h>
#include <time.h>

#include "core/base/assert.h"

enum {
	RING_ENTRIES = 1024,
	RECEIVE_BUFFERS = 128,
	RECEIVE_BUFFER_SIZE = 16 * 1024,
	MAILBOX_PLACES = 16,
	WAIT_US = 100 * 1000, /* how late a crew may see that it is to stop */
	BUFFERS_SPARE = 64,
};

static uint64_t
thread_cpu_us(clockid_t clock)
{
	struct timespec t = { 0 };

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void
turn_until_stopped(struct crew_member *m)
{
	struct crew *c = m->crew;
	bool stopped = false;

	c->on_start(m);
	while (!stopped) {
		worker_turn(&m->worker, m->wait_us);
		if (atomic_load_explicit(&c->stopping, memory_order_relaxed))
			stopped = c->on_stop(m);
		else if (c->on_turn != NULL)
			c->on_turn(m);
	}
}

static void *
run_member(void *argument)
{
	struct crew_member *m = argument;
	struct crew *c = m->crew;
	uint8_t memory[512];
	struct buf why = buf_of(memory, sizeof memory);

	/* Until all threads exist nobody knows how many the barrier is for. */
	pthread_mutex_lock(&c->starting);
	pthread_mutex_unlock(&c->starting);
	m->opened = worker_open(&m->worker, &c->options, &why);
	pthread_barrier_wait(&c->barrier); /* all rings exist, or some failed */
	pthread_barrier_wait(&c->barrier); /* crew_start has decided */
	if (c->running)
		turn_until_stopped(m);
	m->ended_cpu_us = thread_cpu_us(CLOCK_THREAD_CPUTIME_ID);
	worker_close(&m->worker);
	return NULL;
}

static void
create_threads(struct crew *c)
{
	pthread_mutex_lock(&c->starting);
	for (; c->started < c->count; c->started++) {
		struct crew_member *m = &c->members[c->started];
		if (pthread_create(&m->thread, NULL, run_member, m) != 0)
			break;
		int error = pthread_getcpuclockid(m->thread, &m->clock);
		ASSERT(error == 0);
	}
	int error = pthread_barrier_init(&c->barrier, NULL, c->started + 1);
	ASSERT(error == 0);
	pthread_mutex_unlock(&c->starting);
}

static bool
start_threads(struct crew *c, struct buf *why)
{
	bool opened = true;

	create_threads(c);
	pthread_barrier_wait(&c->barrier);
	for (unsigned i = 0; i < c->started; i++)
		opened &= c->members[i].opened;
	c->running = opened && c->started == c->count;
	pthread_barrier_wait(&c->barrier);
	if (c->running)
		return true;
	if (c->started < c->count)
		buf_printf(why,
			   "thread %u of the %s cannot be started; use fewer threads, or allow "
			   "more (ulimit -u, cgroup pids.max)",
			   c->started + 1, c->name);
	else
		buf_printf(why,
			   "no io_uring for the %s: this needs kernel 6.1 or newer, with io_uring "
			   "allowed (sysctl kernel.io_uring_disabled=0)",
			   c->name);
	crew_stop(c);
	return false;
}

bool
crew_start(struct crew *c, size_t conns, struct buf *why)
{
	ASSERT(c->count > 0 && c->count <= WORKERS_MAX && c->on_start != NULL);
	ASSERT(c->members == NULL);
	c->members = calloc(c->count, sizeof *c->members);
	if (c->members == NULL) {
		buf_printf(why, "no memory for the threads of the %s", c->name);
		return false;
	}
	c->options = (struct worker_options){
		.ring = { .entries = RING_ENTRIES,
			  .buffers = { RECEIVE_BUFFERS, RECEIVE_BUFFERS },
			  .buffer_size = { RECEIVE_BUFFER_SIZE, RECEIVE_BUFFER_SIZE } },
		.mailbox_places = MAILBOX_PLACES,
		/* Unread input, output in flight, output being filled. */
		.buffers_max = 3 * conns + BUFFERS_SPARE,
	};
	for (unsigned i = 0; i < c->count; i++) {
		struct crew_member *m = &c->members[i];
		m->crew = c;
		m->wait_us = WAIT_US;
		c->peers[i] = &m->worker;
		worker_init(&m->worker, i, c->count, c->peers, &c->options);
	}
	int error = pthread_mutex_init(&c->starting, NULL);
	ASSERT(error == 0);
	return start_threads(c, why);
}

void
crew_stop(struct crew *c)
{
	if (c->started == 0)
		return;
	atomic_store_explicit(&c->stopping, true, memory_order_relaxed);
	for (unsigned i = 0; i < c->started; i++)
		pthread_join(c->members[i].thread, NULL);
	c->running = false;
	c->started = 0;
	pthread_barrier_destroy(&c->barrier);
	pthread_mutex_destroy(&c->starting);
}

void
crew_free(struct crew *c)
{
	ASSERT(!c->running);
	free(c->members);
	c->members = NULL;
}

uint64_t
crew_cpu_us(const struct crew *c)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < c->count; i++) {
		const struct crew_member *m = &c->members[i];
		all += c->running ? thread_cpu_us(m->clock) : m->ended_cpu_us;
	}
	return all;
}
