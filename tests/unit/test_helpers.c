/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "core/helpers.h"

enum { JOBS = 200 };

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
	struct helpers *h = helpers_start(3, JOBS, &why);
	assert_non_null(h);
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
	struct helpers *h = helpers_start(1, 1, &why);
	assert_non_null(h);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_job_comes_back_to_its_worker),
		cmocka_unit_test(a_full_queue_says_no_and_takes_no_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
