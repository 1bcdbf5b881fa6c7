/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses layer_rig toy_layer core machine threads */
/* Steps of a layer that helpers do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "core/conn_work.h"
#include "tests/lib/layer_rig.h"
#include "tests/lib/toy_layer.h"

static pthread_barrier_t barrier;

static void
work_at_gate(void)
{
	pthread_barrier_wait(&barrier); /* it has begun */
	pthread_barrier_wait(&barrier); /* it may end */
}

static int
start_busy(struct rig_session *s)
{
	int fd = rig_start(s, rig_step_eat);

	conn_secure(&s->conn, toy_new(true));
	rig_put(fd, RIG_HELLO);
	RIG_UNTIL(s->conn.layer->is_busy);
	return fd;
}

static void
others_go_on_while_a_helper_works(void **state)
{
	struct rig_session slow, quick;

	(void)state;
	rig_have_helper(work_at_gate);
	int slow_fd = start_busy(&slow);
	pthread_barrier_wait(&barrier);
	rig_put(slow_fd, RIG_FINISH);
	int quick_fd = rig_start(&quick, rig_step_eat);
	rig_put(quick_fd, SPAN("hello"));
	RIG_UNTIL(quick.seen_size == 5);
	conn_read_more(&slow.conn);
	assert_false(conn_input_is_over(&slow.conn));
	assert_int_equal(rig.buffers.used, 0);
	pthread_barrier_wait(&barrier);
	rig_expect(slow_fd, RIG_ANSWER);
	RIG_UNTIL(slow.secured == 1);
	rig_put(slow_fd, rig_record_of(SPAN("EHLO me\n")));
	RIG_UNTIL(slow.seen_size == 8);
	rig_end(&slow, slow_fd);
	rig_end(&quick, quick_fd);
	rig_have_no_helper();
}

/* At once, or by its deadline; its layer stays until the helper has come back. */
static void
a_connection_may_end_while_a_helper_works(void **state)
{
	(void)state;
	for (unsigned by_deadline = 0; by_deadline < 2; by_deadline++) {
		struct rig_session s;
		rig_have_helper(work_at_gate);
		int fd = start_busy(&s);
		pthread_barrier_wait(&barrier);
		if (by_deadline) {
			conn_deadline(&s.conn, rig.now_ms + 1);
			RIG_UNTIL(s.deadlines == 1);
		} else {
			conn_close(&s.conn, CLOSE_SHUTDOWN);
		}
		close(fd);
		RIG_UNTIL(s.conn.state == CONN_DRAINING && s.conn.fd < 0 &&
			  ring_ops(rig.ring) == 0);
		assert_int_equal(s.closed, 0);
		pthread_barrier_wait(&barrier);
		RIG_UNTIL(s.closed == 1);
		rig_have_no_helper();
	}
}

/* Eight at a time; two wait until there is a place, and one of them gives up. */
static void
who_finds_no_place_waits_for_one(void **state)
{
	enum { CROWD = 9 };
	struct rig_session first, crowd[CROWD];
	int fds[CROWD];

	(void)state;
	rig_have_helper(work_at_gate);
	int fd = start_busy(&first);
	pthread_barrier_wait(&barrier);
	toy_work = rig_no_work;
	for (unsigned i = 0; i < CROWD; i++) {
		fds[i] = start_busy(&crowd[i]);
		rig_put(fds[i], RIG_FINISH);
	}
	assert_int_equal(rig.at_work, 8);
	assert_int_equal(rig.buffers.used, 0);
	conn_close(&crowd[7].conn, CLOSE_SHUTDOWN);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < CROWD; i++)
		RIG_UNTIL(crowd[i].secured == (i != 7));
	rig_put(fd, RIG_FINISH);
	RIG_UNTIL(first.secured == 1);
	rig_end(&first, fd);
	for (unsigned i = 0; i < CROWD; i++)
		rig_end(&crowd[i], fds[i]);
	rig_have_no_helper();
}

/* Eight at a time; what is more the worker does itself. */
static void
what_is_only_heavy_leaves_where_there_is_a_place(void **state)
{
	enum { CROWD = 8 };
	struct rig_session crowd[CROWD], own;
	int fds[CROWD];

	(void)state;
	toy_is_only_heavy = true;
	rig_have_helper(work_at_gate);
	fds[0] = start_busy(&crowd[0]);
	pthread_barrier_wait(&barrier);
	toy_work = rig_no_work;
	for (unsigned i = 1; i < CROWD; i++)
		fds[i] = start_busy(&crowd[i]);
	assert_int_equal(rig.at_work, CROWD);
	int fd = rig_start(&own, rig_step_eat);
	conn_secure(&own.conn, toy_new(true));
	rig_put(fd, RIG_HELLO);
	rig_put(fd, RIG_FINISH);
	RIG_UNTIL(own.secured == 1);
	assert_int_equal(rig.at_work, CROWD);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < CROWD; i++) {
		rig_put(fds[i], RIG_FINISH);
		RIG_UNTIL(crowd[i].secured == 1);
		rig_end(&crowd[i], fds[i]);
	}
	rig_end(&own, fd);
	rig_have_no_helper();
	toy_is_only_heavy = false;
}

/* No answer of a helper could reach this worker, and there is none to wait for. */
static void
without_a_helper_the_worker_works(void **state)
{
	struct rig_session s;

	(void)state;
	rig_have_helper(rig_no_work);
	int fd = rig_start(&s, rig_step_eat);
	conn_secure(&s.conn, toy_new(true));
	assert_true(mailbox_reserve(&rig.mailbox, RIG_MAILBOX_PLACES));
	rig_put(fd, RIG_HELLO);
	rig_expect(fd, RIG_ANSWER);
	mailbox_unreserve(&rig.mailbox, RIG_MAILBOX_PLACES);
	rig_put(fd, RIG_FINISH);
	RIG_UNTIL(s.secured == 1);
	rig_end(&s, fd);
	rig_have_no_helper();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(others_go_on_while_a_helper_works),
		TEST(a_connection_may_end_while_a_helper_works),
		TEST(who_finds_no_place_waits_for_one),
		TEST(what_is_only_heavy_leaves_where_there_is_a_place),
		TEST(without_a_helper_the_worker_works),
	};

	pthread_barrier_init(&barrier, NULL, 2);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	pthread_barrier_destroy(&barrier);
	return failed;
}
