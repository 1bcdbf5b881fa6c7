/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "core/timer.h"

/* The model beside the wheel: what each timer should do, looked at one by one. */
enum { TIMERS = 200, STEPS = 40000 };

static struct timers all;
static uint64_t now_ms;
static uint64_t random_state;

struct subject {
	struct timer timer;
	uint64_t deadline_ms; /* 0: stopped */
	uint64_t set_at_ms;
	unsigned started_in; /* the call of timers_run in which it was started; 0: in none */
	unsigned fired;
};

static struct subject subjects[TIMERS];
static unsigned call; /* of timers_run */
static bool callbacks_run;

/* SplitMix64, so that a run can be repeated. */
static uint64_t
random_number(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Mostly near, now and then at the far end of each level, and sometimes in the past. */
static uint64_t
random_deadline(void)
{
	static const uint64_t ranges_ms[] = { 10, 300, 2048, 5000, 600000, 86400000, 1u << 30 };
	uint64_t range = ranges_ms[random_number() % (sizeof ranges_ms / sizeof ranges_ms[0])];

	if (random_number() % 20 == 0)
		return now_ms > range ? now_ms - range : 1;
	return now_ms + random_number() % range;
}

static void
set(struct subject *s, uint64_t deadline_ms)
{
	if (!timer_is_set(&s->timer))
		s->started_in = callbacks_run ? call : 0;
	timer_set(&all, &s->timer, deadline_ms);
	s->deadline_ms = deadline_ms;
	s->set_at_ms = now_ms;
}

static void
on_timer(struct timer *t)
{
	struct subject *s = CONTAINER_OF(t, struct subject, timer);
	struct subject *other = &subjects[random_number() % TIMERS];

	assert_false(timer_is_set(t));
	assert_int_not_equal(s->deadline_ms, 0);
	assert_true(s->deadline_ms <= now_ms);
	assert_int_not_equal(s->started_in, call);
	s->deadline_ms = 0;
	s->fired++;
	/* A callback may do anything to itself and to others that are due in the same moment. */
	switch (random_number() % 8) {
	case 0:
		set(s, random_deadline());
		break;
	case 1:
		set(other, random_deadline());
		break;
	case 2:
		timer_stop(&all, &other->timer);
		other->deadline_ms = 0;
		break;
	default:
		break;
	}
}

static void
reset(uint64_t start_ms)
{
	now_ms = start_ms;
	timers_init(&all, now_ms);
	for (unsigned i = 0; i < TIMERS; i++) {
		subjects[i] = (struct subject){ 0 };
		timer_init(&subjects[i].timer, on_timer);
	}
}

static void
act(struct subject *s)
{
	if (random_number() % 4 == 0) {
		timer_stop(&all, &s->timer);
		s->deadline_ms = 0;
	} else {
		set(s, random_deadline());
	}
}

/* After timers_run nothing is left that is overdue by more than a tick. */
static void
check_all(void)
{
	size_t running = 0;

	for (unsigned i = 0; i < TIMERS; i++) {
		const struct subject *s = &subjects[i];

		assert_int_equal(timer_is_set(&s->timer), s->deadline_ms != 0);
		if (s->deadline_ms == 0)
			continue;
		running++;
		uint64_t latest = s->deadline_ms > s->set_at_ms ? s->deadline_ms : s->set_at_ms;
		if (now_ms >= latest + TIMER_TICK_MS)
			fail_msg("due at %lu, set at %lu, still there at %lu",
				 (unsigned long)s->deadline_ms, (unsigned long)s->set_at_ms,
				 (unsigned long)now_ms);
	}
	assert_int_equal(all.count, running);
}

/* The wait is never past the moment at which the next timer must have fired. */
static void
check_next(void)
{
	uint64_t wait_ms = timers_next_ms(&all, now_ms, 5000);

	assert_true(wait_ms <= 5000);
	for (unsigned i = 0; i < TIMERS; i++) {
		const struct subject *s = &subjects[i];
		uint64_t latest = s->deadline_ms > s->set_at_ms ? s->deadline_ms : s->set_at_ms;
		if (s->deadline_ms != 0)
			assert_true(now_ms + wait_ms < latest + 2 * TIMER_TICK_MS);
	}
}

static void
run_seed(uint64_t seed)
{
	unsigned fired = 0;

	random_state = seed;
	reset(random_number() % (1u << 24));
	for (unsigned step = 0; step < STEPS; step++) {
		act(&subjects[random_number() % TIMERS]);
		uint64_t jump = random_number() % 100 == 0 ? 70000 : 40;
		now_ms += random_number() % jump;
		call++;
		callbacks_run = true;
		timers_run(&all, now_ms);
		callbacks_run = false;
		check_all();
		check_next();
	}
	for (unsigned i = 0; i < TIMERS; i++)
		fired += subjects[i].fired;
	assert_true(fired > STEPS / 10); /* the run was about something */
}

static void
the_wheel_agrees_with_a_naive_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++)
		run_seed(seed);
}

static unsigned fired_count;

static void
count(struct timer *t)
{
	(void)t;
	fired_count++;
}

/* Every distance around the borders of the levels, from every kind of starting tick. */
static void
borders_between_levels_are_exact(void **state)
{
	static const uint64_t starts[] = { 0, 1, 255, 256, 257, 65535, 65536 };
	static const uint64_t distances[] = { 1,   2,   254,   255,   256,  257,
					      511, 512, 65535, 65536, 65537 };

	(void)state;
	for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
		for (size_t k = 0; k < sizeof distances / sizeof distances[0]; k++) {
			uint64_t start_ms = starts[i] * TIMER_TICK_MS;
			uint64_t deadline_ms = start_ms + distances[k] * TIMER_TICK_MS;
			struct timer t;

			timers_init(&all, start_ms);
			timer_init(&t, count);
			timer_set(&all, &t, deadline_ms);
			fired_count = 0;
			timers_run(&all, deadline_ms - 1);
			assert_int_equal(fired_count, 0);
			timers_run(&all, deadline_ms);
			assert_int_equal(fired_count, 1);
		}
	}
}

/* Longer than the wheel can see: 400 days. */
static void
a_deadline_past_the_horizon_is_not_early(void **state)
{
	uint64_t deadline_ms = 400ull * 24 * 3600 * 1000;
	struct timer t;

	(void)state;
	timers_init(&all, 0);
	timer_init(&t, count);
	timer_set(&all, &t, deadline_ms);
	fired_count = 0;
	/* The wheel is turned to its last slot by hand, since each tick is a step. */
	all.now_tick = (255ull << 24) - 3;
	timers_run(&all, ((1ull << 32) + 10) * TIMER_TICK_MS);
	assert_int_equal(fired_count, 0);
	assert_true(timer_is_set(&t));
	timers_run(&all, deadline_ms);
	assert_int_equal(fired_count, 1);
}

static void
an_idle_wheel_waits_as_long_as_allowed(void **state)
{
	struct timer t;

	(void)state;
	timers_init(&all, 1000);
	assert_int_equal(timers_next_ms(&all, 1000, 60000), 60000);
	timer_init(&t, count);
	timer_set(&all, &t, 1020);
	assert_in_range(timers_next_ms(&all, 1000, 60000), 1, 24);
	assert_int_equal(timers_next_ms(&all, 1000, 5), 5);
	assert_int_equal(timers_next_ms(&all, 9000, 5), 0);
	timer_stop(&all, &t);
	timer_stop(&all, &t);
	assert_int_equal(all.count, 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_wheel_agrees_with_a_naive_model),
		cmocka_unit_test(borders_between_levels_are_exact),
		cmocka_unit_test(a_deadline_past_the_horizon_is_not_early),
		cmocka_unit_test(an_idle_wheel_waits_as_long_as_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
