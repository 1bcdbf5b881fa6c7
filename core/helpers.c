/* SPDX-License-Identifier: Apache-2.0 */
#include "core/helpers.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

enum {
	BELL_RING_ENTRIES = 8,
	NICE = 10,
	PARTIES = 4096, /* places of the count by party: those of one place are counted as one */
	MS_PER_S = 1000,
	NS_PER_MS = 1000 * 1000,
};

enum kind {
	FOR_ALL,
	FOR_LONG,  /* where nobody else wants the processor */
	FOR_QUICK, /* and for long ones that stall */
	KINDS,
};

struct helper_thread {
	struct helpers *pool;
	enum kind kind;
	pthread_t thread;
	/* FOR_LONG: this is the keeper of an idle thread, which computes what it is given. */
	pthread_t idler;
	sem_t given, computed;
	struct helper_job *job; /* NULL: it is to end */
	struct ring *ring;      /* for bells alone; made on the thread itself */
	bool failed;
	uint8_t why_memory[256];
	struct buf why;
};

struct helpers {
	pthread_mutex_t lock;
	pthread_cond_t work_or_end[KINDS];
	pthread_barrier_t opened;
	struct list queues[2]; /* struct helper_job.node; by is_quick */
	size_t queued;         /* that are not quick */
	size_t queue_max;
	size_t party_max;
	unsigned patience_ms;
	uint64_t progress_ms; /* a long job ended, or was taken from those for long ones, or came */
	uint32_t of_party[PARTIES]; /* that wait */
	bool ending;
	unsigned count;
	struct helper_thread threads[];
};

static void
on_message(struct message *m, void *context)
{
	struct helper_job *j = CONTAINER_OF(m, struct helper_job, message);

	(void)context;
	j->on_done(j);
}

/* How many wait for the same; NULL: they are not counted. */
static uint32_t *
waiting_for_party(struct helpers *h, const struct helper_job *j)
{
	return j->party == 0 ? NULL : &h->of_party[j->party % PARTIES];
}

/* Do those who are for long jobs get nowhere? */
static bool
is_stalled(const struct helpers *h, uint64_t now_ms)
{
	return h->queued > 0 && now_ms >= h->progress_ms + h->patience_ms;
}

/* Takes the next one out. NULL: there is none for such a thread. */
static struct helper_job *
next_job(struct helpers *h, enum kind kind)
{
	uint64_t now_ms = clock_monotonic_ms();
	struct list_node *n = kind == FOR_LONG ? NULL : list_shift(&h->queues[true]);

	if (n == NULL && (kind != FOR_QUICK || is_stalled(h, now_ms))) {
		n = list_shift(&h->queues[false]);
		if (kind == FOR_QUICK)
			h->progress_ms = now_ms;
	}
	if (n == NULL)
		return NULL;
	struct helper_job *j = LIST_ITEM(n, struct helper_job, node);
	uint32_t *waiting = waiting_for_party(h, j);
	ASSERT((j->is_quick || h->queued > 0) && (waiting == NULL || *waiting > 0));
	h->queued -= !j->is_quick;
	if (waiting != NULL)
		--*waiting;
	return j;
}

/* Under the lock: until there may be a job for it. */
static void
wait_for_work(struct helpers *h, enum kind kind)
{
	uint64_t until_ms = h->progress_ms + h->patience_ms;
	struct timespec until = {
		.tv_sec = (time_t)(until_ms / MS_PER_S),
		.tv_nsec = (long)(until_ms % MS_PER_S * NS_PER_MS),
	};

	if (kind == FOR_QUICK && h->queued > 0)
		pthread_cond_timedwait(&h->work_or_end[kind], &h->lock, &until);
	else
		pthread_cond_wait(&h->work_or_end[kind], &h->lock);
}

static struct helper_job *
wait_for_job(struct helpers *h, enum kind kind)
{
	struct helper_job *j;

	pthread_mutex_lock(&h->lock);
	if (kind == FOR_LONG)
		h->progress_ms = clock_monotonic_ms();
	while ((j = next_job(h, kind)) == NULL && !h->ending)
		wait_for_work(h, kind);
	pthread_mutex_unlock(&h->lock);
	return j;
}

void
helpers_pause(void)
{
	sched_yield();
}

static void
wait_for(sem_t *s)
{
	while (sem_wait(s) != 0) {
		ASSERT(errno == EINTR);
	}
}

/* Of the calling thread alone (Linux). Without that policy it is nice all the same. */
static void
yield_to_workers(bool is_idle)
{
	const struct sched_param none = { 0 };

	setpriority(PRIO_PROCESS, 0, NICE);
	if (is_idle)
		sched_setscheduler(0, SCHED_IDLE, &none);
}

static void *
compute(void *argument)
{
	struct helper_thread *t = argument;

	yield_to_workers(true);
	for (wait_for(&t->given); t->job != NULL; wait_for(&t->given)) {
		t->job->work(t->job);
		sem_post(&t->computed);
	}
	return NULL;
}

static void
have_idler(struct helper_thread *t)
{
	sem_init(&t->given, 0, 0);
	sem_init(&t->computed, 0, 0);
	int error = pthread_create(&t->idler, NULL, compute, t);
	ASSERT(error == 0);
}

static void
end_idler(struct helper_thread *t)
{
	t->job = NULL;
	sem_post(&t->given);
	pthread_join(t->idler, NULL);
	sem_destroy(&t->given);
	sem_destroy(&t->computed);
}

static void
do_job(struct helper_thread *t, struct helper_job *j)
{
	struct worker *from = j->from;

	if (t->kind == FOR_LONG) {
		t->job = j;
		sem_post(&t->given);
		wait_for(&t->computed);
	} else {
		j->work(j);
	}
	j->message.on_message = on_message;
	/* From here on the job is the worker's again. */
	if (mailbox_post(&from->mailbox, &j->message)) {
		ring_bell(t->ring, from->ring);
		ring_wait(t->ring, 0);
	}
}

static void *
run(void *argument)
{
	struct helper_thread *t = argument;
	struct ring_options options = { .entries = BELL_RING_ENTRIES };
	struct helper_job *j;

	yield_to_workers(false);
	t->ring = ring_new(&options, &t->why);
	t->failed = t->ring == NULL;
	if (t->kind == FOR_LONG)
		have_idler(t);
	pthread_barrier_wait(&t->pool->opened);
	while (!t->failed && (j = wait_for_job(t->pool, t->kind)) != NULL)
		do_job(t, j);
	if (t->kind == FOR_LONG)
		end_idler(t);
	if (t->ring != NULL)
		ring_free(t->ring);
	return NULL;
}

/* Ends and joins `count` threads. */
static void
end_threads(struct helpers *h)
{
	pthread_mutex_lock(&h->lock);
	h->ending = true;
	for (unsigned i = 0; i < KINDS; i++)
		pthread_cond_broadcast(&h->work_or_end[i]);
	pthread_mutex_unlock(&h->lock);
	for (unsigned i = 0; i < h->count; i++)
		pthread_join(h->threads[i].thread, NULL);
}

static bool
start_threads(struct helpers *h, struct buf *why)
{
	bool failed = false;

	for (unsigned i = 0; i < h->count; i++) {
		struct helper_thread *t = &h->threads[i];
		t->pool = h;
		if (h->patience_ms > 0)
			t->kind = i < h->count / 2 ? FOR_LONG : FOR_QUICK;
		t->why = buf_of(t->why_memory, sizeof t->why_memory);
		/* The others wait at the barrier for this one: there is no way back. */
		int error = pthread_create(&t->thread, NULL, run, t);
		ASSERT(error == 0);
	}
	pthread_barrier_wait(&h->opened);
	for (unsigned i = 0; i < h->count; i++) {
		if (h->threads[i].failed && !failed)
			buf_append(why, buf_span(&h->threads[i].why));
		failed |= h->threads[i].failed;
	}
	return !failed;
}

static void
init_conditions(struct helpers *h)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	for (unsigned i = 0; i < KINDS; i++)
		pthread_cond_init(&h->work_or_end[i], &attributes);
	pthread_condattr_destroy(&attributes);
}

struct helpers *
helpers_start(const struct helpers_options *o, struct buf *why)
{
	unsigned count = o->patience_ms > 0 ? 2 * o->threads : o->threads;
	struct helpers *h = calloc(1, sizeof *h + count * sizeof h->threads[0]);

	ASSERT(o->threads > 0 && o->jobs_max > 0 && o->party_max > 0);
	if (h == NULL) {
		buf_append_string(why, "out of memory for the helper threads");
		return NULL;
	}
	h->count = count;
	h->patience_ms = o->patience_ms;
	h->queue_max = o->jobs_max;
	h->party_max = o->party_max;
	list_init(&h->queues[false]);
	list_init(&h->queues[true]);
	pthread_mutex_init(&h->lock, NULL);
	init_conditions(h);
	pthread_barrier_init(&h->opened, NULL, count + 1);
	if (start_threads(h, why))
		return h;
	helpers_stop(h);
	return NULL;
}

void
helpers_stop(struct helpers *h)
{
	end_threads(h);
	ASSERT(list_is_empty(&h->queues[false]) && list_is_empty(&h->queues[true]));
	pthread_barrier_destroy(&h->opened);
	for (unsigned i = 0; i < KINDS; i++)
		pthread_cond_destroy(&h->work_or_end[i]);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* Has it room for this one? */
static bool
has_room(struct helpers *h, const struct helper_job *j)
{
	const uint32_t *waiting = waiting_for_party(h, j);

	if (h->ending || j->is_quick)
		return !h->ending;
	return h->queued < h->queue_max && (waiting == NULL || *waiting < h->party_max);
}

static void
append(struct helpers *h, struct helper_job *j)
{
	uint32_t *waiting = waiting_for_party(h, j);

	if (!j->is_quick && h->queued == 0)
		h->progress_ms = clock_monotonic_ms();
	list_append(&h->queues[j->is_quick], &j->node);
	h->queued += !j->is_quick;
	if (waiting != NULL)
		++*waiting;
	if (h->patience_ms == 0)
		pthread_cond_signal(&h->work_or_end[FOR_ALL]);
	else
		pthread_cond_signal(&h->work_or_end[FOR_QUICK]); /* which looks at the time, too */
	if (h->patience_ms > 0 && !j->is_quick)
		pthread_cond_signal(&h->work_or_end[FOR_LONG]);
}

bool
helpers_submit(struct helpers *h, struct worker *from, struct helper_job *j)
{
	ASSERT(j->work != NULL && j->on_done != NULL);
	if (!mailbox_reserve(&from->mailbox, 1))
		return false;
	j->from = from;
	pthread_mutex_lock(&h->lock);
	bool fits = has_room(h, j);
	if (fits)
		append(h, j);
	pthread_mutex_unlock(&h->lock);
	if (!fits)
		mailbox_unreserve(&from->mailbox, 1);
	return fits;
}
