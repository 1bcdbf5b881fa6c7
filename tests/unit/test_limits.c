/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "core/limits.h"

enum { BUCKET = 16 };

/* Keys with the low bits zero fall into the first bucket. */
static uint64_t
key_of(unsigned i)
{
	return (uint64_t)i << 40;
}

static void
a_key_has_so_many_places(void **state)
{
	struct limits *l = limits_new(1024);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_true(limits_take(l, 77, 3));
	assert_false(limits_take(l, 77, 3));
	assert_int_equal(limits_taken(l, 77), 3);
	assert_int_equal(limits_taken(l, 78), 0);
	limits_give(l, 77);
	assert_int_equal(limits_taken(l, 77), 2);
	assert_true(limits_take(l, 77, 3));
	for (unsigned i = 0; i < 3; i++)
		limits_give(l, 77);
	assert_int_equal(limits_taken(l, 77), 0);
	limits_free(l);
}

static void
a_full_bucket_takes_no_new_key_until_one_is_gone(void **state)
{
	struct limits *l = limits_new(BUCKET);

	(void)state;
	for (unsigned i = 1; i <= BUCKET; i++) {
		assert_true(limits_take(l, key_of(i), 5));
		assert_true(limits_take(l, key_of(i), 5));
	}
	assert_false(limits_take(l, key_of(100), 5));
	assert_int_equal(limits_taken(l, key_of(100)), 0);
	assert_true(limits_take(l, key_of(7), 5)); /* those that are there go on */
	for (unsigned i = 0; i < 3; i++)
		limits_give(l, key_of(7));
	assert_true(limits_take(l, key_of(100), 5));
	assert_false(limits_take(l, key_of(7), 5));
	limits_free(l);
}

static void
a_rate_allows_a_burst_and_then_so_many_a_minute(void **state)
{
	struct limits *l = limits_new(1024);
	uint64_t now_ms = 1000000;
	unsigned allowed = 0;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		allowed += limits_rate(l, 5, 60, 4, now_ms);
	assert_int_equal(allowed, 4);
	assert_false(limits_rate(l, 5, 60, 4, now_ms + 999));
	assert_true(limits_rate(l, 5, 60, 4, now_ms + 1000));
	assert_false(limits_rate(l, 5, 60, 4, now_ms + 1000));
	assert_true(limits_rate(l, 6, 60, 4, now_ms)); /* another key */
	allowed = 0;
	for (unsigned ms = 0; ms < 600000; ms += 50)
		allowed += limits_rate(l, 5, 60, 4, now_ms + 2000 + ms);
	assert_in_range(allowed, 599, 605);
	/* After a pause there is a whole burst again, and no more. */
	allowed = 0;
	for (unsigned i = 0; i < 10; i++)
		allowed += limits_rate(l, 5, 60, 4, now_ms + 2000000);
	assert_int_equal(allowed, 4);
	limits_free(l);
}

static void
rates_of_a_full_bucket_are_shared_until_slots_are_free(void **state)
{
	struct limits *l = limits_new(BUCKET);

	(void)state;
	for (unsigned i = 1; i <= BUCKET; i++)
		assert_true(limits_rate(l, key_of(i), 1, 1, 1000));
	assert_false(limits_rate(l, key_of(100), 1, 1, 1000));
	assert_true(limits_rate(l, key_of(100), 1, 1, 1000 + 60000));
	limits_free(l);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 20000, HOT_KEYS = 20, HOT_MOST = 2 };

static struct limits *shared;
static atomic_uint holders[HOT_KEYS];
static atomic_uint rated, excess;

static void *
hammer(void *context)
{
	uint64_t x = (uint64_t)(uintptr_t)context + 1;

	for (unsigned i = 0; i < ROUNDS; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		unsigned k = (unsigned)(x >> 33) % HOT_KEYS;
		if (limits_take(shared, key_of(k + 1), HOT_MOST)) {
			if (atomic_fetch_add(&holders[k], 1) >= HOT_MOST)
				atomic_fetch_add(&excess, 1);
			if (i % 64 == 0)
				sched_yield();
			atomic_fetch_sub(&holders[k], 1);
			limits_give(shared, key_of(k + 1));
		}
		if (limits_rate(shared, 99, 60, 50, 1000))
			atomic_fetch_add(&rated, 1);
	}
	return NULL;
}

/* Twenty keys in the sixteen slots of one bucket, four threads. */
static void
limits_hold_across_threads(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	shared = limits_new(BUCKET);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, hammer, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned k = 0; k < HOT_KEYS; k++)
		assert_int_equal(limits_taken(shared, key_of(k + 1)), 0);
	assert_int_equal(atomic_load(&excess), 0);
	assert_in_range(atomic_load(&rated), 50, 100);
	limits_free(shared);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_has_so_many_places),
		cmocka_unit_test(a_full_bucket_takes_no_new_key_until_one_is_gone),
		cmocka_unit_test(a_rate_allows_a_burst_and_then_so_many_a_minute),
		cmocka_unit_test(rates_of_a_full_bucket_are_shared_until_slots_are_free),
		cmocka_unit_test(limits_hold_across_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
