/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "bench/histogram.h"
#include "bench/letter.h"

static struct histogram *
filled(const uint64_t *values, size_t count)
{
	struct histogram *h = calloc(1, sizeof *h);

	assert_non_null(h);
	for (size_t i = 0; i < count; i++)
		histogram_add(h, values[i]);
	return h;
}

static void
view_of(const struct histogram *h, struct histogram_view *v)
{
	histogram_view_init(v);
	histogram_read(h, v);
}

/* The bucket that one value falls into. */
static unsigned
bucket_of(uint64_t value)
{
	struct histogram *h = filled(&value, 1);
	struct histogram_view v;
	unsigned bucket = HISTOGRAM_BUCKETS;

	view_of(h, &v);
	free(h);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		if (v.buckets[i] != 0)
			bucket = i;
	assert_int_equal(v.count, 1);
	assert_true(v.sum == value && v.least == value && v.most == value);
	return bucket;
}

static void
bounds_rise_and_each_is_of_its_own_bucket(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		assert_int_equal(bucket_of(histogram_bound(i)), i);
		if (i > 0) {
			assert_true(histogram_bound(i) > histogram_bound(i - 1));
			assert_int_equal(bucket_of(histogram_bound(i - 1) + 1), i);
		}
	}
	assert_true(histogram_bound(0) == 0);
	assert_true(histogram_bound(63) == 63);
	assert_true(histogram_bound(HISTOGRAM_BUCKETS - 1) ==
		    ((uint64_t)1 << HISTOGRAM_TOP_BITS) - 1);
}

static void
a_bound_is_never_more_than_a_32nd_above_its_values(void **state)
{
	uint64_t random = 7;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t value = letter_random(&random) >> (64 - HISTOGRAM_TOP_BITS);
		value >>= letter_random(&random) % HISTOGRAM_TOP_BITS;
		uint64_t bound = histogram_bound(bucket_of(value));
		assert_true(bound >= value);
		assert_true((bound - value) * 32 <= value);
		if (value < 64)
			assert_true(bound == value);
	}
}

static void
the_greatest_values_share_the_last_bucket(void **state)
{
	uint64_t values[] = { (uint64_t)1 << HISTOGRAM_TOP_BITS, (uint64_t)1 << 50 };
	struct histogram *h = filled(values, 2);
	struct histogram_view v;

	(void)state;
	assert_int_equal(bucket_of(values[0]), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(bucket_of(values[1]), HISTOGRAM_BUCKETS - 1);
	view_of(h, &v);
	free(h);
	assert_true(histogram_at(&v, 0.5) == values[1]);
	assert_true(histogram_at(&v, 1) == values[1]);
}

static void
quantiles_are_those_of_a_sorted_list(void **state)
{
	uint64_t values[1000];
	struct histogram_view v;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		values[i] = (i * 7919 % 1000 + 1) * 1000; /* 1 ms to 1 s, in no order */
	struct histogram *h = filled(values, 1000);
	view_of(h, &v);
	free(h);
	const struct {
		double share;
		uint64_t exact;
	} rows[] = {
		{ 0, 1000 },      { 0.001, 1000 },   { 0.5, 500000 },     { 0.9, 900000 },
		{ 0.99, 990000 }, { 0.999, 999000 }, { 0.9991, 1000000 }, { 1, 1000000 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint64_t got = histogram_at(&v, rows[i].share);
		if (got < rows[i].exact || (got - rows[i].exact) * 32 > rows[i].exact)
			fail_msg("%g of all: %lu", rows[i].share, (unsigned long)got);
	}
	/* Never more than the greatest that was seen, whatever its bucket reaches to. */
	assert_true(histogram_at(&v, 1) == 1000000);
	assert_true(v.least == 1000 && v.most == 1000000 && v.sum == 500500000);
}

static void
an_empty_one_says_nothing(void **state)
{
	struct histogram *h = filled(NULL, 0);
	struct histogram_view v;

	(void)state;
	view_of(h, &v);
	free(h);
	assert_true(v.count == 0 && v.sum == 0 && v.least == UINT64_MAX && v.most == 0);
	assert_true(histogram_at(&v, 0.5) == 0 && histogram_at(&v, 1) == 0);
}

static void
several_writers_are_added_up(void **state)
{
	struct histogram *a = filled((uint64_t[]){ 5, 10 }, 2);
	struct histogram *b = filled((uint64_t[]){ 3, 20, 30 }, 3);
	struct histogram_view v;

	(void)state;
	histogram_view_init(&v);
	histogram_read(a, &v);
	histogram_read(b, &v);
	free(a);
	free(b);
	assert_true(v.count == 5 && v.sum == 68 && v.least == 3 && v.most == 30);
	assert_true(histogram_at(&v, 0.5) == 10);
}

static void
since_is_what_came_in_between(void **state)
{
	struct histogram *h = filled((uint64_t[]){ 1, 100000 }, 2);
	struct histogram_view before, now, part;

	(void)state;
	view_of(h, &before);
	histogram_since(&before, &before, &part);
	assert_true(part.count == 0 && part.sum == 0 && part.least == UINT64_MAX);
	assert_true(histogram_at(&part, 0.5) == 0);
	histogram_add(h, 40);
	histogram_add(h, 50);
	histogram_add(h, 60);
	view_of(h, &now);
	free(h);
	histogram_since(&now, &before, &part);
	assert_true(part.count == 3 && part.sum == 150 && part.least == 40 && part.most == 60);
	assert_true(histogram_at(&part, 0.5) == 50);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(bounds_rise_and_each_is_of_its_own_bucket),
		cmocka_unit_test(a_bound_is_never_more_than_a_32nd_above_its_values),
		cmocka_unit_test(the_greatest_values_share_the_last_bucket),
		cmocka_unit_test(quantiles_are_those_of_a_sorted_list),
		cmocka_unit_test(an_empty_one_says_nothing),
		cmocka_unit_test(several_writers_are_added_up),
		cmocka_unit_test(since_is_what_came_in_between),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
