/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses control threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "relay/control/seen.h"

enum { IDS = 100000, THREADS = 4 };

static struct mail_id
id_of(uint64_t number)
{
	return (struct mail_id){ number * 0x9e3779b97f4a7c15ULL, number };
}

static void
each_is_new_once(void **state)
{
	struct seen *s = seen_new();

	(void)state;
	assert_non_null(s);
	for (uint64_t i = 0; i < IDS; i++)
		assert_true(seen_add(s, id_of(i)));
	for (uint64_t i = 0; i < IDS; i++)
		assert_false(seen_add(s, id_of(i)));
	seen_free(s);
}

/* The id whose halves are equal is one like others. */
static void
any_id_is_one(void **state)
{
	struct seen *s = seen_new();

	(void)state;
	assert_true(seen_add(s, (struct mail_id){ 7, 7 }));
	assert_false(seen_add(s, (struct mail_id){ 7, 7 }));
	assert_true(seen_add(s, (struct mail_id){ 7, 8 }));
	seen_free(s);
}

static struct seen *shared;
static atomic_uint new_ones;

static void *
add_all(void *unused)
{
	(void)unused;
	for (uint64_t i = 0; i < IDS; i++)
		atomic_fetch_add(&new_ones, seen_add(shared, id_of(i)));
	return NULL;
}

/* Whichever thread comes first, none comes second. */
static void
threads_agree(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	shared = seen_new();
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_all, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(new_ones, IDS);
	seen_free(shared);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_new_once),
		cmocka_unit_test(any_id_is_one),
		cmocka_unit_test(threads_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
