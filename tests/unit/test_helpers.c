/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "core/helpers.h"

enum { JOBS = 200, PATIENCE_MOST_MS = 3600 * 1000 };

struct sum {
	struct helper_job job;
	uint64_t up_to;
	uint64_t result;
	unsigned *done;
};

static void
work(struct helper_job *j)
{
	struct sum *s = CONTAINER_OF(j, struct sum, job);

	for (uint64_t i = 1; i <= s->up_to; i++)
		s->result += i;
}

static void
on_done(struct helper_job *j)
{
	struct sum *s = CONTAINER_OF(j, struct sum, job);

	assert_int_equal(s->result, s->up_to * (s->up_to + 1) / 2);
	++*s->done;
}

static const struct worker_options options = {
	.ring = { .entries = 64 },
	.mailbox_places = JOBS,
	.buffers_max = 1,
};

static struct helpers *
start_patient(unsigned threads, size_t jobs_max, size_t party_max, unsigned patience_ms)
{
	const struct helpers_options o = { threads, jobs_max, party_max, patience_ms };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	struct helpers *h = helpers_start(&o, &why);

	assert_non_null(h);
	return h;
}

static struct helpers *
start(unsigned threads, size_t jobs_max, size_t party_max)
{
	return start_patient(threads, jobs_max, party_max, 0);
}

static void
every_job_comes_back_to_its_worker(void **state)
{
	static struct worker w;
	static struct sum sums[JOBS];
	struct worker *peers[] = { &w };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	unsigned done = 0;

	(void)state;
	struct helpers *h = start(3, JOBS, JOBS);
	worker_init(&w, 0, 1, peers, &options);
	assert_true(worker_open(&w, &options, &why));
	for (unsigned i = 0; i < JOBS; i++) {
		sums[i] = (struct sum){ .up_to = i * 10, .done = &done };
		sums[i].job.work = work;
		sums[i].job.on_done = on_done;
		assert_true(helpers_submit(h, &w, &sums[i].job));
	}
	while (done < JOBS)
		worker_turn(&w, 1000 * 1000);
	helpers_stop(h);
	worker_close(&w);
}

struct gate {
	struct helper_job job;
	pthread_barrier_t barrier;
	unsigned *done;
};

static void
wait_at_gate(struct helper_job *j)
{
	struct gate *g = CONTAINER_OF(j, struct gate, job);

	pthread_barrier_wait(&g->barrier); /* it has begun */
	pthread_barrier_wait(&g->barrier); /* it may end */
}

static void
on_gate(struct helper_job *j)
{
	++*CONTAINER_OF(j, struct gate, job)->done;
}

static void
a_full_queue_says_no_and_takes_no_place(void **state)
{
	static struct worker w;
	struct worker *peers[] = { &w };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	unsigned done = 0;
	struct gate gate = { .done = &done };
	struct sum sums[2] = { { .done = &done }, { .done = &done } };

	(void)state;
	pthread_barrier_init(&gate.barrier, NULL, 2);
	struct helpers *h = start(1, 1, 1);
	worker_init(&w, 0, 1, peers, &options);
	assert_true(worker_open(&w, &options, &why));
	gate.job.work = wait_at_gate;
	gate.job.on_done = on_gate;
	assert_true(helpers_submit(h, &w, &gate.job));
	pthread_barrier_wait(&gate.barrier);
	for (unsigned i = 0; i < 2; i++) {
		sums[i].job.work = work;
		sums[i].job.on_done = on_done;
	}
	assert_true(helpers_submit(h, &w, &sums[0].job));
	assert_false(helpers_submit(h, &w, &sums[1].job));
	assert_true(mailbox_reserve(&w.mailbox, JOBS - 2));
	assert_false(mailbox_reserve(&w.mailbox, 1));
	mailbox_unreserve(&w.mailbox, JOBS - 2);
	pthread_barrier_wait(&gate.barrier);
	while (done < 2)
		worker_turn(&w, 1000 * 1000);
	helpers_stop(h);
	worker_close(&w);
	pthread_barrier_destroy(&gate.barrier);
}

static struct helper_job *order[4];
static unsigned ended;

static void
note_order(struct helper_job *j)
{
	order[ended++] = j;
}

static void
nothing(struct helper_job *j)
{
	helpers_pause();
	(void)j;
}

/* One party's jobs fill its share and no more; a quick job is the next. */
static void
a_party_has_its_share_and_quick_jobs_go_ahead(void **state)
{
	static struct worker w;
	struct worker *peers[] = { &w };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	unsigned done = 0;
	struct gate gate = { .job = { .work = wait_at_gate, .on_done = on_gate }, .done = &done };
	struct helper_job jobs[4];
	const uint32_t parties[] = { 7, 7, 8, 0 };

	(void)state;
	pthread_barrier_init(&gate.barrier, NULL, 2);
	struct helpers *h = start(1, JOBS, 1);
	worker_init(&w, 0, 1, peers, &options);
	assert_true(worker_open(&w, &options, &why));
	gate.job.party = 7; /* it does not wait, so it does not count */
	assert_true(helpers_submit(h, &w, &gate.job));
	pthread_barrier_wait(&gate.barrier);
	for (unsigned i = 0; i < 4; i++) {
		jobs[i] = (struct helper_job){
			.work = nothing,
			.on_done = note_order,
			.party = parties[i],
			.is_quick = i == 3,
		};
		assert_int_equal(helpers_submit(h, &w, &jobs[i]), i != 1);
	}
	pthread_barrier_wait(&gate.barrier);
	while (ended < 3 || done < 1)
		worker_turn(&w, 1000 * 1000);
	assert_ptr_equal(order[0], &jobs[3]);
	assert_ptr_equal(order[1], &jobs[0]);
	assert_ptr_equal(order[2], &jobs[2]);
	assert_true(helpers_submit(h, &w, &jobs[1])); /* there is room for 7 again */
	while (ended < 4)
		worker_turn(&w, 1000 * 1000);
	helpers_stop(h);
	worker_close(&w);
	pthread_barrier_destroy(&gate.barrier);
}

/* The thread for long jobs is at the gate, and a long job and a quick one come. True: the quick one
 * alone has been done; false: the long one, too. Then the gate is opened. */
static bool
long_job_waits(unsigned patience_ms)
{
	static struct worker w;
	struct worker *peers[] = { &w };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	unsigned done = 0;
	struct gate gate = { .job = { .work = wait_at_gate, .on_done = on_gate }, .done = &done };
	struct helper_job jobs[2] = {
		{ .work = nothing, .on_done = note_order },
		{ .work = nothing, .on_done = note_order, .is_quick = true },
	};
	unsigned wanted = patience_ms == PATIENCE_MOST_MS ? 1 : 2;

	pthread_barrier_init(&gate.barrier, NULL, 2);
	struct helpers *h = start_patient(1, JOBS, JOBS, patience_ms);
	worker_init(&w, 0, 1, peers, &options);
	assert_true(worker_open(&w, &options, &why));
	ended = 0;
	assert_true(helpers_submit(h, &w, &gate.job));
	pthread_barrier_wait(&gate.barrier);
	assert_true(helpers_submit(h, &w, &jobs[0]));
	assert_true(helpers_submit(h, &w, &jobs[1]));
	while (ended < wanted)
		worker_turn(&w, 1000 * 1000);
	bool waits = ended == 1;
	assert_ptr_equal(order[0], &jobs[1]);
	assert_int_equal(done, 0);
	pthread_barrier_wait(&gate.barrier);
	while (ended < 2 || done < 1)
		worker_turn(&w, 1000 * 1000);
	helpers_stop(h);
	worker_close(&w);
	pthread_barrier_destroy(&gate.barrier);
	return waits;
}

static void
a_long_job_has_threads_of_its_own(void **state)
{
	(void)state;
	assert_true(long_job_waits(PATIENCE_MOST_MS));
}

/* The gate's own thread is as good as starved. */
static void
what_stalls_is_done_by_those_for_quick_jobs(void **state)
{
	(void)state;
	assert_false(long_job_waits(1000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_job_comes_back_to_its_worker),
		cmocka_unit_test(a_full_queue_says_no_and_takes_no_place),
		cmocka_unit_test(a_party_has_its_share_and_quick_jobs_go_ahead),
		cmocka_unit_test(a_long_job_has_threads_of_its_own),
		cmocka_unit_test(what_stalls_is_done_by_those_for_quick_jobs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
