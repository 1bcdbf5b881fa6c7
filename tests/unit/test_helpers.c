/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

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
start(const struct helpers_options *o)
{
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	struct helpers *h = helpers_start(o, &why);

	assert_non_null(h);
	return h;
}

static void
every_job_comes_back_to_its_worker(void **state)
{
	static const struct helpers_options three = { .threads = 3,
						      .jobs_max = JOBS,
						      .party_max = JOBS };
	static struct worker w;
	static struct sum sums[JOBS];
	struct worker *peers[] = { &w };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	unsigned done = 0;

	(void)state;
	struct helpers *h = start(&three);
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
	int policy; /* of who has come */
};

static void
wait_at_gate(struct helper_job *j)
{
	struct gate *g = CONTAINER_OF(j, struct gate, job);

	g->policy = sched_getscheduler(0);
	pthread_barrier_wait(&g->barrier); /* it has begun */
	pthread_barrier_wait(&g->barrier); /* it may end */
}

static void
on_gate(struct helper_job *j)
{
	++*CONTAINER_OF(j, struct gate, job)->done;
}

/* A worker, and a pool whose only thread (or the one for long jobs) is at the gate. */
struct rig {
	struct worker w;
	struct worker *peers[1];
	struct helpers *helpers;
	struct gate gate;
	unsigned done;
};

static void
rig_up(struct rig *r, const struct helpers_options *o, uint32_t party)
{
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);

	*r = (struct rig){
		.peers = { &r->w },
		.gate = { .job = { .work = wait_at_gate, .on_done = on_gate, .party = party },
			  .done = &r->done },
	};
	pthread_barrier_init(&r->gate.barrier, NULL, 2);
	r->helpers = start(o);
	worker_init(&r->w, 0, 1, r->peers, &options);
	assert_true(worker_open(&r->w, &options, &why));
	assert_true(helpers_submit(r->helpers, &r->w, &r->gate.job));
	pthread_barrier_wait(&r->gate.barrier);
}

static void
rig_open_gate(struct rig *r)
{
	pthread_barrier_wait(&r->gate.barrier);
}

static void
rig_down(struct rig *r)
{
	helpers_stop(r->helpers);
	worker_close(&r->w);
	pthread_barrier_destroy(&r->gate.barrier);
}

static void
a_full_queue_says_no_and_takes_no_place(void **state)
{
	static const struct helpers_options one = { .threads = 1, .jobs_max = 1, .party_max = 1 };
	static struct rig r;
	struct sum sums[2] = { { .done = &r.done }, { .done = &r.done } };

	(void)state;
	rig_up(&r, &one, 0);
	for (unsigned i = 0; i < 2; i++) {
		sums[i].job.work = work;
		sums[i].job.on_done = on_done;
	}
	assert_true(helpers_submit(r.helpers, &r.w, &sums[0].job));
	assert_false(helpers_submit(r.helpers, &r.w, &sums[1].job));
	assert_true(mailbox_reserve(&r.w.mailbox, JOBS - 2));
	assert_false(mailbox_reserve(&r.w.mailbox, 1));
	mailbox_unreserve(&r.w.mailbox, JOBS - 2);
	rig_open_gate(&r);
	while (r.done < 2)
		worker_turn(&r.w, 1000 * 1000);
	rig_down(&r);
}

static struct helper_job *order[4];
static unsigned ended;

static void
note_order(struct helper_job *j)
{
	order[ended++] = j;
}

static int policy; /* of who did the last one */

static void
nothing(struct helper_job *j)
{
	policy = sched_getscheduler(0);
	helpers_pause();
	(void)j;
}

/* One party's jobs fill its share and no more; a quick job is the next. */
static void
a_party_has_its_share_and_quick_jobs_go_ahead(void **state)
{
	static const struct helpers_options one = { .threads = 1,
						    .jobs_max = JOBS,
						    .party_max = 1 };
	static struct rig r;
	struct helper_job jobs[4];
	const uint32_t parties[] = { 7, 7, 8, 0 };

	(void)state;
	rig_up(&r, &one, 7); /* it does not wait, so it does not count */
	ended = 0;
	for (unsigned i = 0; i < 4; i++) {
		jobs[i] = (struct helper_job){
			.work = nothing,
			.on_done = note_order,
			.party = parties[i],
			.is_quick = i == 3,
		};
		assert_int_equal(helpers_submit(r.helpers, &r.w, &jobs[i]), i != 1);
	}
	rig_open_gate(&r);
	while (ended < 3 || r.done < 1)
		worker_turn(&r.w, 1000 * 1000);
	assert_ptr_equal(order[0], &jobs[3]);
	assert_ptr_equal(order[1], &jobs[0]);
	assert_ptr_equal(order[2], &jobs[2]);
	assert_true(helpers_submit(r.helpers, &r.w, &jobs[1])); /* there is room for 7 again */
	while (ended < 4)
		worker_turn(&r.w, 1000 * 1000);
	rig_down(&r);
}

/* The thread for long jobs is at the gate, and a long job and a quick one come: so many have been
 * done when the gate is opened, the quick one first. */
static void
done_before_the_gate_is_opened(unsigned patience_ms, unsigned count)
{
	const struct helpers_options o = {
		.threads = 1, .jobs_max = JOBS, .party_max = JOBS, .patience_ms = patience_ms
	};
	static struct rig r;
	struct helper_job jobs[2] = {
		{ .work = nothing, .on_done = note_order },
		{ .work = nothing, .on_done = note_order, .is_quick = true },
	};

	rig_up(&r, &o, 0);
	ended = 0;
	assert_true(helpers_submit(r.helpers, &r.w, &jobs[0]));
	assert_true(helpers_submit(r.helpers, &r.w, &jobs[1]));
	while (ended < count)
		worker_turn(&r.w, 1000 * 1000);
	assert_int_equal(ended, count);
	assert_ptr_equal(order[0], &jobs[1]);
	assert_int_equal(r.done, 0);
	assert_int_equal(r.gate.policy, SCHED_IDLE);
	assert_int_equal(policy, SCHED_OTHER);
	rig_open_gate(&r);
	while (ended < 2 || r.done < 1)
		worker_turn(&r.w, 1000 * 1000);
	rig_down(&r);
}

static void
a_long_job_has_threads_of_its_own(void **state)
{
	(void)state;
	done_before_the_gate_is_opened(PATIENCE_MOST_MS, 1);
}

/* The gate's own thread is as good as starved. */
static void
what_stalls_is_done_by_those_for_quick_jobs(void **state)
{
	(void)state;
	done_before_the_gate_is_opened(1000, 2);
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
