/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "core/windows.h"

enum { HOUR = 3600 * 1000, BUCKET = 16, THREADS = 4, ROUNDS = 1000 };

/* Keys with the low bits zero fall into the first bucket. */
static uint64_t
key_of(unsigned i)
{
	return (uint64_t)(i + 1) << 40;
}

static unsigned
take_all(struct windows *w, uint64_t key, uint32_t most, uint64_t now_ms)
{
	unsigned taken = 0;

	while (windows_take(w, key, most, now_ms))
		taken++;
	return taken;
}

static void
so_many_in_a_period_and_no_more(void **state)
{
	struct windows *w = windows_new(1024, HOUR);
	uint64_t now_ms = 7 * (uint64_t)HOUR;

	(void)state;
	assert_int_equal(take_all(w, 5, 10, now_ms), 10);
	assert_int_equal(windows_count(w, 5, now_ms), 10);
	assert_int_equal(take_all(w, 5, 10, now_ms + HOUR - 1), 0);
	assert_int_equal(windows_count(w, 6, now_ms), 0); /* another key */
	assert_false(windows_take(w, 6, 0, now_ms));
	assert_int_equal(take_all(w, 5, 10, now_ms + HOUR + HOUR / 6 - 1), 0);
	assert_int_equal(take_all(w, 5, 10, now_ms + HOUR + HOUR / 6), 10);
	/* Not all at once: each comes free by itself. */
	now_ms += 3 * (uint64_t)HOUR;
	assert_int_equal(take_all(w, 5, 4, now_ms), 4);
	assert_int_equal(take_all(w, 5, 10, now_ms + HOUR / 2), 6);
	assert_int_equal(take_all(w, 5, 10, now_ms + HOUR + HOUR / 6), 4);
	assert_int_equal(windows_count(w, 5, now_ms + 9 * (uint64_t)HOUR), 0);
	windows_free(w);
}

/* Who tries all the time, from any second on, has no hour with more than he may, and six of seven
 * sixths of it on the whole. */
static void
in_no_hour_do_more_happen(void **state)
{
	enum { SECONDS = 6 * 3600, MOST = 60 };
	static unsigned before[SECONDS + 1];

	(void)state;
	for (uint64_t start = 0; start < 3600; start += 97) {
		struct windows *w = windows_new(1024, HOUR);
		for (unsigned s = 0; s < SECONDS; s++)
			before[s + 1] = before[s] + take_all(w, 9, MOST, (start + s) * 1000);
		unsigned worst = 0;
		for (unsigned s = 0; s + 3600 <= SECONDS; s++) {
			unsigned in_hour = before[s + 3600] - before[s];
			worst = in_hour > worst ? in_hour : worst;
		}
		assert_int_equal(worst, MOST);
		assert_true(before[SECONDS] >= 5 * MOST && before[SECONDS] <= 6 * MOST);
		windows_free(w);
	}
}

static void
what_is_given_back_can_be_taken_again(void **state)
{
	struct windows *w = windows_new(1024, HOUR);

	(void)state;
	assert_int_equal(take_all(w, 5, 3, 1000), 3);
	windows_give(w, 5, 1000);
	windows_give(w, 5, 1000);
	assert_int_equal(windows_count(w, 5, 1000), 1);
	assert_int_equal(take_all(w, 5, 3, 1000), 2);
	/* In a later window it was not taken. */
	windows_give(w, 5, HOUR + 1000);
	assert_int_equal(windows_count(w, 5, 1000), 3);
	for (unsigned i = 0; i < 5; i++)
		windows_give(w, 5, 1000); /* more than there were */
	assert_int_equal(windows_count(w, 5, 1000), 0);
	assert_int_equal(take_all(w, 5, 3, 1000), 3);
	windows_free(w);
}

static void
in_a_full_bucket_the_least_gives_way(void **state)
{
	struct windows *w = windows_new(BUCKET, HOUR);

	(void)state;
	for (unsigned i = 0; i < BUCKET; i++) {
		for (unsigned n = 0; n < 2 + i; n++)
			assert_true(windows_take(w, key_of(i), 100, 1000));
	}
	assert_true(windows_take(w, key_of(50), 100, 1000));
	assert_int_equal(windows_count(w, key_of(50), 1000), 1);
	assert_int_equal(windows_count(w, key_of(0), 1000), 0);
	assert_int_equal(windows_count(w, key_of(1), 1000), 3);
	/* Of an older window before any of the present. */
	assert_true(windows_take(w, key_of(60), 100, 2 * HOUR));
	assert_true(windows_take(w, key_of(61), 100, 2 * HOUR));
	assert_int_equal(windows_count(w, key_of(60), 2 * HOUR), 1);
	assert_int_equal(windows_count(w, key_of(61), 2 * HOUR), 1);
	windows_free(w);
}

static void
counts_and_windows_stay_in_their_bits(void **state)
{
	struct windows *w = windows_new(1024, HOUR);
	struct windows *fast = windows_new(1024, 6);
	uint64_t late_ms = ((uint64_t)1 << 18) - 1; /* the last window, and then the first */

	(void)state;
	assert_int_equal(take_all(w, 3, UINT32_MAX, 1000), WINDOWS_COUNT_MAX);
	assert_int_equal(take_all(fast, key_of(3), 4, late_ms), 4);
	assert_int_equal(take_all(fast, key_of(3), 5, late_ms + 1), 1);
	assert_int_equal(windows_count(fast, key_of(3), late_ms + 6), 5);
	assert_int_equal(windows_count(fast, key_of(3), late_ms + 7), 1);
	assert_int_equal(windows_count(fast, key_of(3), late_ms + 8), 0);
	windows_free(fast);
	windows_free(w);
}

static struct windows *shared;
static atomic_uint taken_by_all;

static void *
take_often(void *unused)
{
	(void)unused;
	for (unsigned i = 0; i < ROUNDS; i++)
		atomic_fetch_add(&taken_by_all, windows_take(shared, 4242, ROUNDS, 1000));
	return NULL;
}

static void
threads_count_together(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	shared = windows_new(1024, HOUR);
	atomic_store(&taken_by_all, windows_take(shared, 4242, ROUNDS, 1000));
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_often, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&taken_by_all), ROUNDS);
	assert_int_equal(windows_count(shared, 4242, 1000), ROUNDS);
	windows_free(shared);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(so_many_in_a_period_and_no_more),
		cmocka_unit_test(in_no_hour_do_more_happen),
		cmocka_unit_test(what_is_given_back_can_be_taken_again),
		cmocka_unit_test(in_a_full_bucket_the_least_gives_way),
		cmocka_unit_test(counts_and_windows_stay_in_their_bits),
		cmocka_unit_test(threads_count_together),
	};

	return cmocka_run_group_tests_name("windows", tests, NULL, NULL);
}
