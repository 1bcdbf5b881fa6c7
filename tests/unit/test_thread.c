/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/thread.h"
#include "core/base/clock.h"

enum { MEMBERS = 3, ASKED = 5, BUSY_US = 20000 };

struct seen {
	atomic_uint started;
	atomic_uint turned;
	atomic_uint asked[MEMBERS]; /* whether all is closed */
	atomic_uint numbers;        /* bits of the members that started */
};

static void
on_start(struct crew_member *m)
{
	struct seen *s = m->crew->context;

	assert_true(m->context == NULL);
	m->context = s;
	m->wait_us = 1000;
	atomic_fetch_or(&s->numbers, 1U << m->worker.number);
	atomic_fetch_add(&s->started, 1);
}

static void
on_turn(struct crew_member *m)
{
	struct seen *s = m->context;

	atomic_fetch_add(&s->turned, 1);
}

/* Not at the first time: it takes turns until the fifth. */
static bool
on_stop(struct crew_member *m)
{
	struct seen *s = m->context;

	return atomic_fetch_add(&s->asked[m->worker.number], 1) + 1 == ASKED;
}

static struct crew
crew_of(unsigned count, struct seen *s)
{
	return (struct crew){
		.name = "test",
		.count = count,
		.on_start = on_start,
		.on_turn = on_turn,
		.on_stop = on_stop,
		.context = s,
	};
}

static void
start(struct crew *c)
{
	uint8_t memory[512];
	struct buf why = buf_of(memory, sizeof memory);

	if (!crew_start(c, 4, &why))
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
}

static void
a_crew_starts_turns_and_stops(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		struct seen s = { 0 };
		struct crew c = crew_of(MEMBERS, &s);

		start(&c);
		while (atomic_load(&s.turned) < 10 * MEMBERS)
			;
		crew_stop(&c);
		assert_int_equal(atomic_load(&s.started), MEMBERS);
		assert_int_equal(atomic_load(&s.numbers), (1U << MEMBERS) - 1);
		for (unsigned i = 0; i < MEMBERS; i++)
			assert_int_equal(atomic_load(&s.asked[i]), ASKED);
		crew_stop(&c); /* once more: nothing happens */
		crew_free(&c);
		assert_null(c.members);
	}
}

static void
a_crew_may_be_stopped_before_it_has_turned(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		struct seen s = { 0 };
		struct crew c = crew_of(MEMBERS, &s);

		start(&c);
		crew_stop(&c);
		assert_int_equal(atomic_load(&s.started), MEMBERS);
		crew_free(&c);
	}
}

/* ---- CPU time ---- */

static void
burn(struct crew_member *m)
{
	uint64_t until_us = clock_monotonic_us() + BUSY_US;

	on_start(m);
	while (clock_monotonic_us() < until_us)
		;
}

static void
cpu_time_is_that_of_its_threads(void **state)
{
	struct seen busy_seen = { 0 }, idle_seen = { 0 };
	struct crew busy = crew_of(1, &busy_seen), idle = crew_of(1, &idle_seen);

	(void)state;
	busy.on_start = burn;
	start(&idle);
	start(&busy);
	while (atomic_load(&busy_seen.turned) == 0 || atomic_load(&idle_seen.turned) == 0)
		;
	uint64_t running_us = crew_cpu_us(&busy);
	crew_stop(&busy);
	crew_stop(&idle);
	uint64_t ended_us = crew_cpu_us(&busy);
	assert_true(running_us > 0 && ended_us >= running_us);
	/* The other's time, and that of this thread, is not in it. */
	assert_true(crew_cpu_us(&idle) < ended_us);
	assert_true(crew_cpu_us(&busy) == ended_us);
	crew_free(&busy);
	crew_free(&idle);
}

/* ---- failure ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool address_space_is_ours = false;
#else
static const bool address_space_is_ours = true;
#endif

/* Address space for a few stacks of threads, not for 64. */
static int
start_without_room(void)
{
	struct seen s = { 0 };
	struct crew c = crew_of(WORKERS_MAX, &s);
	struct rlimit limit;
	uint8_t memory[512];
	struct buf why = buf_of(memory, sizeof memory);

	if (getrlimit(RLIMIT_AS, &limit) != 0)
		return 2;
	limit.rlim_cur = (rlim_t)128 << 20;
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		return 3;
	if (crew_start(&c, 4, &why))
		return 4;
	crew_free(&c);
	if (memmem(why.data, why.size, "use fewer threads", 17) == NULL &&
	    memmem(why.data, why.size, "io_uring", 8) == NULL)
		return 5;
	return atomic_load(&s.started) == 0 ? 0 : 6;
}

static void
too_many_threads_are_an_error_with_a_line(void **state)
{
	int status = 0;

	(void)state;
	if (!address_space_is_ours)
		skip();
	pid_t pid = fork();
	if (pid == 0)
		_exit(start_without_room());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crew_starts_turns_and_stops),
		cmocka_unit_test(a_crew_may_be_stopped_before_it_has_turned),
		cmocka_unit_test(cpu_time_is_that_of_its_threads),
		cmocka_unit_test(too_many_threads_are_an_error_with_a_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
