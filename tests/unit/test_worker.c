/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/worker.h"

enum { WAIT_US = 10 * 1000 * 1000, ROUNDS = 5000 };

static const struct worker_options options = {
	.ring = { .entries = 64, .buffers = { 4, 4 }, .buffer_size = { 4096, 4096 } },
	.mailbox_places = 8,
	.buffers_max = 4,
};

static char trace[64];

static void
open_worker(struct worker *w)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	if (!worker_open(w, &options, &why))
		fail_msg("%.*s", (int)why.size, text);
}

/* ---- the order of a turn ---- */

struct step {
	struct task task;
	struct timer timer;
	struct worker *worker;
	char name[2];
	struct step *next; /* asked for when this one runs */
	void (*ask)(struct worker *w, struct task *t);
};

static void
run_step(struct task *t)
{
	struct step *s = CONTAINER_OF(t, struct step, task);

	strcat(trace, s->name);
	if (s->next != NULL)
		s->ask(s->worker, &s->next->task);
}

static void
step_init(struct step *s, struct worker *w, char name)
{
	*s = (struct step){ .worker = w, .name = { name } };
	task_init(&s->task, run_step);
}

static void
a_turn_runs_tasks_then_last_ones_then_reaps(void **state)
{
	struct worker w;
	struct worker *peers[] = { &w };
	struct step task, last, reap, again, flush;

	(void)state;
	worker_init(&w, 0, 1, peers, &options);
	open_worker(&w);
	trace[0] = '\0';
	step_init(&task, &w, 't');
	step_init(&last, &w, 'l');
	step_init(&reap, &w, 'r');
	step_init(&again, &w, 'a');
	step_init(&flush, &w, 'f');
	task.next = &again;
	task.ask = worker_soon;
	last.next = &flush;
	last.ask = worker_last;
	worker_reap(&w, &reap.task);
	worker_last(&w, &last.task);
	worker_soon(&w, &task.task);
	worker_soon(&w, &task.task); /* once is enough */

	/* The turn does not wait, and what a task asks for comes in the next one, which does not
	 * wait either. */
	assert_true(worker_turn(&w, WAIT_US));
	assert_string_equal(trace, "tlfr");
	assert_true(worker_turn(&w, WAIT_US));
	assert_string_equal(trace, "tlfra");
	assert_false(worker_turn(&w, 0));
	worker_soon(&w, &task.task);
	task_cancel(&task.task);
	assert_false(worker_turn(&w, 0));
	worker_close(&w);
}

/* ---- waiting ---- */

static void
on_timer(struct timer *t)
{
	struct step *s = CONTAINER_OF(t, struct step, timer);

	strcat(trace, s->name);
	worker_soon(s->worker, &s->task);
}

static void
a_timer_ends_the_wait(void **state)
{
	struct worker w;
	struct worker *peers[] = { &w };
	struct step s;
	uint64_t before_ms = clock_monotonic_ms();

	(void)state;
	worker_init(&w, 0, 1, peers, &options);
	open_worker(&w);
	trace[0] = '\0';
	step_init(&s, &w, 's');
	timer_init(&s.timer, on_timer);
	timer_set(&w.timers, &s.timer, before_ms + 30);
	while (timer_is_set(&s.timer))
		worker_turn(&w, WAIT_US);
	assert_string_equal(trace, "ss"); /* the task ran in the same turn */
	assert_true(clock_monotonic_ms() >= before_ms + 30);
	assert_true(clock_monotonic_ms() < before_ms + WAIT_US / 2000);
	worker_close(&w);
}

/* ---- two workers on two threads, playing ball through their mailboxes ---- */

struct ball {
	struct message message;
	struct worker *from;
	unsigned rounds;
};

static struct worker pair[2];
static struct worker *const pair_peers[] = { &pair[0], &pair[1] };
static pthread_barrier_t all_open;

static void
on_ball(struct message *m, void *context)
{
	struct ball *b = CONTAINER_OF(m, struct ball, message);
	struct worker *here = context;
	struct worker *there = b->from;

	assert_ptr_not_equal(here, there);
	b->rounds++;
	b->from = here;
	if (b->rounds >= ROUNDS)
		here->stopping = true; /* the last two throws stop one each */
	if (b->rounds > ROUNDS)
		return;
	assert_true(mailbox_reserve(&there->mailbox, 1));
	worker_post(here, there, &b->message);
}

static void *
play(void *context)
{
	struct worker *w = context;

	open_worker(w);
	pthread_barrier_wait(&all_open);
	worker_run(w);
	/* The last throw stands in the submission queue: out with it, or nobody is woken. */
	worker_turn(w, 0);
	pthread_barrier_wait(&all_open);
	worker_close(w);
	return NULL;
}

static void
two_workers_wake_each_other(void **state)
{
	struct ball ball = { .message = { .on_message = on_ball }, .from = &pair[0] };
	pthread_t threads[2];

	(void)state;
	pthread_barrier_init(&all_open, NULL, 2);
	for (unsigned i = 0; i < 2; i++)
		worker_init(&pair[i], i, 2, (struct worker **)(uintptr_t)pair_peers, &options);
	/* Before the threads exist nobody sleeps, so this needs no bell. */
	assert_true(mailbox_reserve(&pair[1].mailbox, 1));
	assert_false(mailbox_post(&pair[1].mailbox, &ball.message));
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, play, &pair[i]);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(ball.rounds, ROUNDS + 1);
	pthread_barrier_destroy(&all_open);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_turn_runs_tasks_then_last_ones_then_reaps),
		cmocka_unit_test(a_timer_ends_the_wait),
		cmocka_unit_test(two_workers_wake_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
