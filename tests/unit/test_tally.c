/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses control */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/control/rates.h"
#include "relay/control/tally.h"

static void
add(struct tally *t, const char *key, uint64_t count, uint64_t oldest_at_ms)
{
	tally_add(t, &(struct tally_row){
			     .key = span_of_string(key),
			     .count = count,
			     .bytes = 10 * count,
			     .oldest_at_ms = oldest_at_ms,
		     });
}

static void
must_be(const struct tally *t, size_t at, const char *key, uint64_t count, uint64_t oldest_at_ms)
{
	assert_true(span_eq(t->slots[at].key, span_of_string(key)));
	assert_int_equal(t->slots[at].count, count);
	assert_int_equal(t->slots[at].bytes, 10 * count);
	assert_int_equal(t->slots[at].oldest_at_ms, oldest_at_ms);
}

static void
counts_are_added_up(void **state)
{
	struct tally *a = tally_new();
	struct tally *b = tally_new();

	(void)state;
	add(a, "x", 1, 50);
	add(a, "y", 5, 7);
	add(a, "x", 1, 40);
	add(b, "x", 4, 60);
	add(b, "", 3, 1);
	add(b, "X", 3, 2); /* case counts */
	tally_add_all(a, b);
	assert_int_equal(a->count, 17);
	assert_int_equal(a->others, 0);
	assert_int_equal(tally_sort(a), 4);
	must_be(a, 0, "x", 6, 40);
	must_be(a, 1, "y", 5, 7);
	must_be(a, 2, "", 3, 1);
	must_be(a, 3, "X", 3, 2);
	tally_free(a);
	tally_free(b);
}

static void
keys_are_bounded(void **state)
{
	struct tally *a = tally_new();
	struct tally *b = tally_new();
	char key[2 * TALLY_KEY_SIZE];

	(void)state;
	for (unsigned i = 0; i < TALLY_KEYS_MAX + 100; i++) {
		snprintf(key, sizeof key, "key %u", i);
		add(a, key, 1, 1);
		snprintf(key, sizeof key, "other %u", i);
		add(b, key, 1, 1);
	}
	assert_int_equal(a->keys, TALLY_KEYS_MAX);
	assert_int_equal(a->others, 100);
	add(a, "key 0", 1, 1); /* a known one still counts */
	assert_int_equal(a->others, 100);
	tally_add_all(a, b);
	assert_int_equal(a->count, 2 * (TALLY_KEYS_MAX + 100) + 1);
	assert_int_equal(a->others, TALLY_KEYS_MAX + 200);
	assert_int_equal(tally_sort(a), TALLY_KEYS_MAX);
	must_be(a, 0, "key 0", 2, 1);
	tally_free(a);
	tally_free(b);
}

static void
long_keys_are_cut(void **state)
{
	struct tally *t = tally_new();
	char key[2 * TALLY_KEY_SIZE + 1];

	(void)state;
	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = 0;
	add(t, key, 1, 1);
	key[TALLY_KEY_SIZE] = 'x';
	add(t, key, 1, 1);
	assert_int_equal(t->keys, 1);
	assert_int_equal(tally_sort(t), 1);
	assert_int_equal(t->slots[0].key.size, TALLY_KEY_SIZE);
	tally_free(t);
}

static void
rates_are_of_the_last_minute(void **state)
{
	struct rates r = { 0 };
	uint64_t now_ms = 1000000;

	(void)state;
	assert_int_equal(rates_of(&r, 0, now_ms, 5), 0);
	for (unsigned i = 0; i <= 100; i++) {
		uint64_t values[RATES_SERIES] = { i < 80 ? 0 : (i - 80) * 50, 7 };
		rates_sample(&r, now_ms, values);
		assert_int_equal(rates_of(&r, 1, now_ms, 7), 0);
		now_ms += RATES_SAMPLE_MS;
	}
	/* 10 a second since long: the start, when it was less, is forgotten. */
	assert_int_equal(rates_of(&r, 0, now_ms, 21 * 50), 10000);
	/* Between two samples it moves on. */
	assert_int_equal(rates_of(&r, 0, now_ms, 21 * 50 + 65), 11000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_are_added_up),
		cmocka_unit_test(keys_are_bounded),
		cmocka_unit_test(long_keys_are_cut),
		cmocka_unit_test(rates_are_of_the_last_minute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
