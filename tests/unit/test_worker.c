/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* ---- what computes for long ---- */

struct computing {
	struct step step;
	struct op send;
	int fds[2];
	char arrived[8];
};

static void
on_sent(struct op *op, struct completion done)
{
	(void)op;
	assert_int_equal(done.result, 4);
}

static void
send_something(struct task *t)
{
	struct computing *c = CONTAINER_OF(t, struct computing, step.task);

	ring_send(c->step.worker->ring, &c->send, c->fds[0], "sent", 4);
}

/* Where the turn has nothing left for it, it asks again. */
static void
compute(struct task *t)
{
	struct step *s = CONTAINER_OF(t, struct step, task);

	if (s->worker->heavy_left == 0) {
		worker_heavy(s->worker, t);
		return;
	}
	s->worker->heavy_left--;
	run_step(t);
}

static void
look_at_the_peer(struct task *t)
{
	struct computing *c = CONTAINER_OF(t, struct computing, step.task);
	ssize_t size = recv(c->fds[1], c->arrived, sizeof c->arrived - 1, MSG_DONTWAIT);

	assert_int_equal(size, 4);
	strcat(trace, c->step.name);
}

/* So that nothing waits for it that could be done meanwhile. */
static void
what_a_turn_has_started_is_under_way_before_it_computes(void **state)
{
	struct worker w;
	struct worker *peers[] = { &w };
	struct computing sender, looker;

	(void)state;
	worker_init(&w, 0, 1, peers, &options);
	open_worker(&w);
	trace[0] = '\0';
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sender.fds), 0);
	memcpy(looker.fds, sender.fds, sizeof looker.fds);
	step_init(&sender.step, &w, 's');
	task_init(&sender.step.task, send_something);
	op_init(&sender.send, on_sent);
	step_init(&looker.step, &w, 'h');
	task_init(&looker.step.task, look_at_the_peer);
	worker_heavy(&w, &looker.step.task);
	worker_last(&w, &sender.step.task);
	assert_true(worker_turn(&w, WAIT_US));
	assert_string_equal(trace, "h");
	assert_true(worker_turn(&w, WAIT_US));
	assert_int_equal(ring_ops(w.ring), 0);
	close(sender.fds[0]);
	close(sender.fds[1]);
	worker_close(&w);
}

/* Two steps a turn, three that want one: the third has the next turn, which does not wait. What
 * they write gathers in the turn in which they ran. */
static void
heavy_steps_come_last_and_are_bounded(void **state)
{
	struct worker w;
	struct worker *peers[] = { &w };
	struct step task, gathers, heavy[3];

	(void)state;
	worker_init(&w, 0, 1, peers, &options);
	open_worker(&w);
	w.heavy_steps = 2;
	trace[0] = '\0';
	step_init(&task, &w, 't');
	step_init(&gathers, &w, 'g');
	for (unsigned i = 0; i < 3; i++) {
		step_init(&heavy[i], &w, (char)('1' + i));
		task_init(&heavy[i].task, compute);
		heavy[i].next = &gathers;
		heavy[i].ask = worker_last;
		worker_heavy(&w, &heavy[i].task);
	}
	worker_soon(&w, &task.task);
	assert_true(worker_turn(&w, WAIT_US));
	assert_string_equal(trace, "t12g");
	worker_soon(&w, &task.task);
	assert_true(worker_turn(&w, WAIT_US));
	assert_string_equal(trace, "t12gt3g");
	worker_heavy(&w, &heavy[0].task);
	task_cancel(&heavy[0].task);
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
		cmocka_unit_test(what_a_turn_has_started_is_under_way_before_it_computes),
		cmocka_unit_test(heavy_steps_come_last_and_are_bounded),
		cmocka_unit_test(a_timer_ends_the_wait),
		cmocka_unit_test(two_workers_wake_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
