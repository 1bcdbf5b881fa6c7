/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/schedule.h"

static const uint64_t pauses[] = { 60000, 300000, 900000 };

static void
the_last_pause_repeats(void **state)
{
	static const struct {
		unsigned attempts;
		uint64_t expected;
	} rows[] = { { 1, 60000 }, { 2, 300000 }, { 3, 900000 }, { 4, 900000 }, { 65535, 900000 } };
	struct schedule s = { .pauses_ms = pauses, .pause_count = 3 };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_int_equal(schedule_next_ms(&s, rows[i].attempts, 1000, 12345),
				 1000 + rows[i].expected);
}

static void
jitter_reaches_both_ends_and_no_further(void **state)
{
	struct schedule s = { .pauses_ms = pauses, .pause_count = 3, .jitter_percent = 15 };
	uint64_t least = UINT64_MAX;
	uint64_t most = 0;

	(void)state;
	for (uint64_t random = 0; random < 40000; random++) {
		uint64_t at = schedule_next_ms(&s, 1, 0, random);
		least = at < least ? at : least;
		most = at > most ? at : most;
	}
	assert_int_equal(least, 51000);
	assert_int_equal(most, 69000);
	assert_in_range(schedule_next_ms(&s, 1, 0, UINT64_MAX), 51000, 69000);
}

static void
lifetime_counts_from_acceptance(void **state)
{
	struct schedule s = { .pauses_ms = pauses, .pause_count = 3, .lifetime_ms = 5000 };

	(void)state;
	assert_false(schedule_is_over(&s, 1000, 5999));
	assert_true(schedule_is_over(&s, 1000, 6000));
	assert_false(schedule_is_over(&s, 1000, 10)); /* the clock was set back */
	assert_int_equal(schedule_ends_ms(&s, 1000), 6000);
	s.lifetime_ms = 0;
	assert_false(schedule_is_over(&s, 0, UINT64_MAX));
	assert_true(schedule_ends_ms(&s, 1000) == UINT64_MAX);
}

static void
an_attempt_is_moved_to_a_moment_that_it_would_pass(void **state)
{
	(void)state;
	assert_int_equal(schedule_no_later_than(5000, 1000, 6000), 5000);
	assert_int_equal(schedule_no_later_than(5000, 1000, 5000), 5000);
	assert_int_equal(schedule_no_later_than(5000, 1000, 4000), 4000);
	/* What is over moves nothing: it was seen to at this attempt. */
	assert_int_equal(schedule_no_later_than(5000, 1000, 1000), 5000);
	assert_int_equal(schedule_no_later_than(5000, 1000, 10), 5000);
	assert_int_equal(schedule_no_later_than(5000, 1000, UINT64_MAX), 5000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_pause_repeats),
		cmocka_unit_test(jitter_reaches_both_ends_and_no_further),
		cmocka_unit_test(lifetime_counts_from_acceptance),
		cmocka_unit_test(an_attempt_is_moved_to_a_moment_that_it_would_pass),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
