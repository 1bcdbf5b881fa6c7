/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow */
#include "relay/flow/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void
test_doubles_until_the_first_failure(void **state)
{
	struct window w;

	(void)state;
	window_init(&w, 5, 100, true);
	assert_int_equal(window_size(&w), 5);
	window_success(&w, 5);
	assert_int_equal(window_size(&w), 10);
	window_success(&w, 10);
	assert_int_equal(window_size(&w), 20);
	window_success(&w, 1000000);
	assert_int_equal(window_size(&w), 100);
}

static void
test_a_failure_halves(void **state)
{
	struct window w;

	(void)state;
	window_init(&w, 20, 20, true);
	window_failure(&w, 1);
	assert_int_equal(window_size(&w), 10);
	/* The other nineteen were under way with it. */
	window_failure(&w, 19);
	assert_int_equal(window_size(&w), 10);
	window_failure(&w, 1);
	assert_int_equal(window_size(&w), 5);
	for (unsigned i = 0; i < 100; i++)
		window_failure(&w, 1);
	assert_int_equal(window_size(&w), 1);
}

static void
test_grows_by_one_a_round_after_a_failure(void **state)
{
	struct window w;

	(void)state;
	window_init(&w, 8, 100, true);
	window_failure(&w, 1);
	assert_int_equal(window_size(&w), 4);
	window_success(&w, 5);
	assert_int_equal(window_size(&w), 5);
	window_success(&w, 6);
	assert_int_equal(window_size(&w), 6);
	window_success(&w, 100000);
	assert_int_equal(window_size(&w), 100);
}

static void
test_successes_end_forgiveness(void **state)
{
	struct window w;

	(void)state;
	window_init(&w, 16, 16, true);
	window_failure(&w, 1);
	window_success(&w, 15);
	window_failure(&w, 1);
	assert_true(window_size(&w) < 8);
}

static void
test_options_may_change(void **state)
{
	struct window w;

	(void)state;
	window_init(&w, 5, 3, true);
	assert_int_equal(window_size(&w), 3);
	window_limit(&w, 5, 50);
	assert_int_equal(window_size(&w), 5);
	window_success(&w, 100);
	assert_int_equal(window_size(&w), 50);
	window_limit(&w, 5, 10);
	assert_int_equal(window_size(&w), 10);
	window_failure(&w, 1);
	window_limit(&w, 9, 10);
	assert_int_equal(window_size(&w), 5);
}

static void
test_one_until_it_answers(void **state)
{
	struct window w;

	(void)state;
	window_init(&w, 5, 100, false);
	assert_int_equal(window_size(&w), 1);
	window_limit(&w, 7, 50);
	assert_int_equal(window_size(&w), 1);
	window_success(&w, 1);
	assert_int_equal(window_size(&w), 7);
	window_success(&w, 1);
	assert_int_equal(window_size(&w), 8);
	/* After failures it grows from one, as after any other. */
	window_init(&w, 5, 100, false);
	window_failure(&w, 1);
	window_success(&w, 1);
	assert_int_equal(window_size(&w), 1);
	window_success(&w, 1);
	assert_int_equal(window_size(&w), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_doubles_until_the_first_failure),
		cmocka_unit_test(test_a_failure_halves),
		cmocka_unit_test(test_grows_by_one_a_round_after_a_failure),
		cmocka_unit_test(test_successes_end_forgiveness),
		cmocka_unit_test(test_options_may_change),
		cmocka_unit_test(test_one_until_it_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
