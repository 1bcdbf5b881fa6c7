/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "core/strikes.h"

enum { BUCKET = 16, THREADS = 4, ROUNDS = 200 };

static const struct strikes_rule rule = { .most = 3, .window_ms = 60000, .lock_ms = 300000 };

/* Keys with the low bits zero fall into the first bucket. */
static uint64_t
key_of(unsigned i)
{
	return (uint64_t)(i + 1) << 40;
}

static void
the_third_failure_locks_for_a_time(void **state)
{
	struct strikes *s = strikes_new(1024);
	uint64_t now_ms = 5000;

	(void)state;
	assert_int_equal(strikes_look(s, 77, now_ms).count, 0);
	assert_int_equal(strikes_add(s, 77, &rule, now_ms).count, 1);
	struct strike second = strikes_add(s, 77, &rule, now_ms);
	assert_int_equal(second.count, 2);
	assert_false(second.locked);
	struct strike third = strikes_add(s, 77, &rule, now_ms);
	assert_true(third.locked && third.began);
	assert_int_equal(third.until_ms, now_ms + rule.lock_ms);
	struct strike fourth = strikes_add(s, 77, &rule, now_ms + 1000);
	assert_true(fourth.locked);
	assert_false(fourth.began);
	assert_int_equal(fourth.until_ms, now_ms + rule.lock_ms); /* no longer by trying */
	assert_true(strikes_look(s, 77, now_ms + rule.lock_ms - 1).locked);
	assert_false(strikes_look(s, 77, now_ms + rule.lock_ms).locked);
	assert_int_equal(strikes_add(s, 77, &rule, now_ms + rule.lock_ms).count, 1);
	assert_int_equal(strikes_look(s, 78, now_ms).count, 0);
	strikes_free(s);
}

static void
failures_are_forgotten_a_window_behind_the_last(void **state)
{
	struct strikes *s = strikes_new(1024);
	uint64_t now_ms = 1;

	(void)state;
	strikes_add(s, 5, &rule, now_ms);
	now_ms += rule.window_ms - 1;
	assert_int_equal(strikes_add(s, 5, &rule, now_ms).count, 2);
	now_ms += rule.window_ms - 1000;
	assert_int_equal(strikes_look(s, 5, now_ms).count, 2);
	now_ms += 2000;
	assert_int_equal(strikes_look(s, 5, now_ms).count, 0);
	assert_int_equal(strikes_add(s, 5, &rule, now_ms).count, 1);
	strikes_free(s);
}

static void
what_others_counted_raises_and_never_lowers(void **state)
{
	struct strikes *s = strikes_new(1024);
	uint64_t now_ms = 5000;

	(void)state;
	/* Elsewhere it was the second: here the next one locks. */
	strikes_raise(s, 77, &(struct strike){ .count = 2, .until_ms = now_ms + 60000 }, now_ms);
	assert_int_equal(strikes_look(s, 77, now_ms).count, 2);
	strikes_raise(s, 77, &(struct strike){ .count = 1, .until_ms = now_ms + 1000 }, now_ms);
	assert_int_equal(strikes_look(s, 77, now_ms).count, 2);
	assert_int_equal(strikes_look(s, 77, now_ms).until_ms, now_ms + 60000);
	assert_true(strikes_add(s, 77, &rule, now_ms).began);
	/* A count does not unlock, nor does a shorter lock end a longer one. */
	strikes_raise(s, 77, &(struct strike){ .count = 9, .until_ms = now_ms + 1000 }, now_ms);
	strikes_raise(s, 77, &(struct strike){ .count = 9, .locked = true, .until_ms = 6000 },
		      now_ms);
	assert_true(strikes_look(s, 77, now_ms + rule.lock_ms - 1000).locked);
	/* A lock of elsewhere, of which nothing was known, ends when that does. */
	strikes_raise(s, 99, &(struct strike){ .count = 5000, .locked = true, .until_ms = 9000 },
		      now_ms);
	assert_true(strikes_look(s, 99, now_ms).locked);
	assert_int_equal(strikes_look(s, 99, now_ms).count, STRIKES_MAX);
	assert_false(strikes_look(s, 99, 9000).locked);
	strikes_free(s);
}

static void
what_is_cleared_begins_anew(void **state)
{
	struct strikes *s = strikes_new(1024);

	(void)state;
	assert_false(strikes_clear(s, 9, 1));
	strikes_add(s, 9, &rule, 1);
	assert_false(strikes_clear(s, 9, 1)); /* it was not locked */
	assert_int_equal(strikes_look(s, 9, 1).count, 0);
	for (unsigned i = 0; i < rule.most; i++)
		strikes_add(s, 9, &rule, 1);
	assert_true(strikes_clear(s, 9, 1));
	assert_int_equal(strikes_add(s, 9, &rule, 1).count, 1);
	strikes_free(s);
}

static void
a_count_stays_in_its_bits(void **state)
{
	struct strikes *s = strikes_new(1024);
	struct strikes_rule endless = { .most = STRIKES_MAX, .window_ms = 1000, .lock_ms = 1000 };
	struct strike last = { 0 };

	(void)state;
	for (unsigned i = 0; i < STRIKES_MAX; i++)
		last = strikes_add(s, 1, &endless, 1);
	assert_int_equal(last.count, STRIKES_MAX);
	assert_true(last.began);
	endless.lock_ms = UINT64_MAX / 2;
	assert_int_equal(strikes_look(s, key_of(3), 1).count, 0);
	for (unsigned i = 0; i < STRIKES_MAX; i++)
		last = strikes_add(s, key_of(3), &endless, 1);
	assert_true(strikes_look(s, key_of(3), (uint64_t)1000 * 86400 * 365 * 16).locked);
	strikes_free(s);
}

/* The first to be forgotten gives way, and what is locked only where all are. */
static void
in_a_full_bucket_the_next_to_be_forgotten_gives_way(void **state)
{
	struct strikes *s = strikes_new(BUCKET);
	struct strikes_rule one = { .most = 1, .window_ms = 1000, .lock_ms = 2000 };

	(void)state;
	for (unsigned i = 0; i < BUCKET - 1; i++)
		assert_true(strikes_add(s, key_of(i), &one, 1000).began);
	strikes_add(s, key_of(100), &rule, 1000); /* until 61 000: later, but not locked */
	strikes_add(s, key_of(101), &rule, 1000);
	assert_int_equal(strikes_look(s, key_of(100), 1000).count, 0);
	for (unsigned i = 0; i < BUCKET - 1; i++)
		assert_true(strikes_look(s, key_of(i), 1000).locked);
	one.lock_ms = 9000;
	assert_true(
		strikes_add(s, key_of(101), &(struct strikes_rule){ 2, 9000, 9000 }, 1000).began);
	assert_true(strikes_add(s, key_of(102), &one, 1000).began);
	unsigned locked = 0;
	for (unsigned i = 0; i < BUCKET - 1; i++)
		locked += strikes_look(s, key_of(i), 1000).locked;
	assert_int_equal(locked, BUCKET - 2);
	assert_true(strikes_look(s, key_of(101), 1000).locked);
	/* Places whose time is over are free. */
	strikes_add(s, key_of(103), &rule, 4000);
	assert_true(strikes_look(s, key_of(102), 4000).locked);
	strikes_free(s);
}

static void
notes_last_for_their_time(void **state)
{
	struct strikes *s = strikes_new(1024);

	(void)state;
	assert_false(strikes_is_noted(s, 3, 1000));
	assert_false(strikes_note(s, 3, 5000, 1000));
	assert_true(strikes_is_noted(s, 3, 5999));
	assert_false(strikes_is_noted(s, 3, 6000));
	assert_false(strikes_note(s, 3, 5000, 6000));
	assert_true(strikes_note(s, 3, 9000, 7000)); /* for longer now */
	assert_true(strikes_is_noted(s, 3, 15999));
	assert_int_equal(strikes_look(s, 3, 7000).count, 0); /* a table of its own */
	strikes_free(s);
}

static struct strikes *shared;

static void *
fail_often(void *unused)
{
	(void)unused;
	struct strikes_rule many = { .most = STRIKES_MAX, .window_ms = 60000, .lock_ms = 60000 };
	for (unsigned i = 0; i < ROUNDS; i++)
		strikes_add(shared, 4242, &many, 1000);
	return NULL;
}

static void
threads_count_together(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	shared = strikes_new(1024);
	strikes_add(shared, 4242, &rule, 1000); /* its slot is there: none counts in another */
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fail_often, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(strikes_look(shared, 4242, 1000).count, THREADS * ROUNDS + 1);
	strikes_free(shared);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_third_failure_locks_for_a_time),
		cmocka_unit_test(failures_are_forgotten_a_window_behind_the_last),
		cmocka_unit_test(what_others_counted_raises_and_never_lowers),
		cmocka_unit_test(what_is_cleared_begins_anew),
		cmocka_unit_test(a_count_stays_in_its_bits),
		cmocka_unit_test(in_a_full_bucket_the_next_to_be_forgotten_gives_way),
		cmocka_unit_test(notes_last_for_their_time),
		cmocka_unit_test(threads_count_together),
	};

	return cmocka_run_group_tests_name("strikes", tests, NULL, NULL);
}
