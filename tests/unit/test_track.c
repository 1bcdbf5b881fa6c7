/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bench/track.h"
#include "core/base/clock.h"

enum { TAG = 0x00abcdef, RECIPIENTS = 3 };

static struct track *
new_track(uint64_t mails_max)
{
	struct track *t = track_new(TAG, RECIPIENTS, mails_max);

	assert_non_null(t);
	return t;
}

static uint64_t
offered(struct track *t)
{
	uint64_t mail = UINT64_MAX;

	assert_true(track_offer(t, clock_monotonic_us(), &mail));
	return mail;
}

static void
arrive(struct track *t, uint64_t mail, uint32_t recipient)
{
	static struct histogram latency;

	track_arrive(t, mail, recipient, clock_monotonic_us(), &latency);
}

static void
expect_numbers(const struct track *t, uint64_t accepted, uint64_t delivered, uint64_t settled,
	       uint64_t duplicated, uint64_t foreign)
{
	struct track_numbers n;

	track_count(t, &n);
	assert_int_equal(n.recipients_accepted, accepted);
	assert_int_equal(n.recipients_delivered, delivered);
	assert_int_equal(n.recipients_settled, settled);
	assert_int_equal(n.duplicated, duplicated);
	assert_int_equal(n.foreign, foreign);
}

static void
expect_verdict(const struct track *t, uint64_t lost, uint64_t unacknowledged)
{
	struct track_verdict v;

	track_judge(t, &v);
	assert_int_equal(v.lost, lost);
	assert_int_equal(v.unacknowledged_delivered, unacknowledged);
}

static void
each_fate_is_counted_by_mail(void **state)
{
	static const bool rejected[RECIPIENTS] = { false, true, false };
	struct track *t = new_track(100);
	struct track_numbers n;

	(void)state;
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(offered(t), i);
	track_learn(t, 0, TRACK_ACCEPTED, NULL);
	track_learn(t, 1, TRACK_ACCEPTED, rejected);
	track_learn(t, 3, TRACK_REFUSED, rejected);
	track_learn(t, 2, TRACK_REFUSED, NULL);
	track_learn(t, 5, TRACK_IN_DOUBT, NULL);
	track_learn(t, 6, TRACK_IN_DOUBT, rejected);
	track_count(t, &n);
	assert_int_equal(n.mails[TRACK_OFFERED], 7);
	assert_int_equal(n.mails[TRACK_ACCEPTED], 2);
	assert_int_equal(n.mails[TRACK_REFUSED], 2);
	assert_int_equal(n.mails[TRACK_IN_DOUBT], 2);
	assert_true(n.last_arrival_us == 0);
	expect_numbers(t, 5, 0, 0, 0, 0);
	expect_verdict(t, 5, 0);
	track_free(t);
}

static void
what_arrives_is_known_by_mail_and_recipient(void **state)
{
	static const bool rejected[RECIPIENTS] = { true, false, false };
	struct track *t = new_track(100);

	(void)state;
	uint64_t mail = offered(t);
	track_learn(t, mail, TRACK_ACCEPTED, rejected);
	arrive(t, mail, 2);
	expect_numbers(t, 2, 1, 1, 0, 0);
	expect_verdict(t, 1, 0);
	arrive(t, mail, 1);
	expect_numbers(t, 2, 2, 2, 0, 0);
	expect_verdict(t, 0, 0);
	arrive(t, mail, 0); /* although it was rejected */
	expect_numbers(t, 2, 3, 2, 0, 0);
	expect_verdict(t, 0, 1);
	track_free(t);
}

static void
an_arrival_may_overtake_its_own_250(void **state)
{
	struct track *t = new_track(100);

	(void)state;
	uint64_t mail = offered(t);
	arrive(t, mail, 0);
	expect_numbers(t, 0, 1, 0, 0, 0);
	expect_verdict(t, 0, 1);
	track_learn(t, mail, TRACK_ACCEPTED, NULL);
	expect_numbers(t, 3, 1, 1, 0, 0);
	expect_verdict(t, 2, 0);
	arrive(t, mail, 1);
	arrive(t, mail, 2);
	expect_numbers(t, 3, 3, 3, 0, 0);
	expect_verdict(t, 0, 0);
	track_free(t);
}

static void
what_was_in_doubt_or_refused_and_arrives_was_not_acknowledged(void **state)
{
	struct track *t = new_track(100);
	uint64_t doubt = offered(t), refused = offered(t), silent = offered(t);

	(void)state;
	track_learn(t, doubt, TRACK_IN_DOUBT, NULL);
	track_learn(t, refused, TRACK_REFUSED, NULL);
	arrive(t, doubt, 0);
	arrive(t, refused, 1);
	arrive(t, silent, 2);
	expect_numbers(t, 0, 3, 0, 0, 0);
	expect_verdict(t, 0, 3);
	track_free(t);
}

static void
arrivals_beyond_the_first_are_duplicates(void **state)
{
	struct histogram *latency = calloc(1, sizeof *latency);
	struct track *t = new_track(100);
	struct histogram_view v;
	struct track_numbers n;
	uint64_t now_us = clock_monotonic_us();

	(void)state;
	assert_non_null(latency);
	uint64_t mail = offered(t);
	track_learn(t, mail, TRACK_ACCEPTED, NULL);
	track_arrive(t, mail, 0, now_us + 1000, latency);
	/* More than a cell can count. */
	for (unsigned i = 0; i < 300; i++)
		track_arrive(t, mail, 0, now_us + 5000, latency);
	expect_numbers(t, 3, 1, 1, 300, 0);
	expect_verdict(t, 2, 0);
	track_count(t, &n);
	assert_true(n.last_arrival_us == now_us + 1000);
	histogram_view_init(&v);
	histogram_read(latency, &v);
	assert_int_equal(v.count, 1);
	free(latency);
	track_free(t);
}

static void
latency_counts_from_the_time_the_mail_was_due(void **state)
{
	struct histogram *latency = calloc(1, sizeof *latency);
	struct track *t = new_track(100);
	struct histogram_view v;
	uint64_t due_us = clock_monotonic_us() + 1000000;
	uint64_t mail;

	(void)state;
	assert_non_null(latency);
	assert_true(track_offer(t, due_us, &mail));
	track_arrive(t, mail, 0, due_us + 2500, latency);
	track_arrive(t, mail, 1, due_us, latency);
	track_arrive(t, mail, 2, due_us - 10, latency); /* clocks of two threads */
	histogram_view_init(&v);
	histogram_read(latency, &v);
	assert_true(v.count == 3 && v.most == 2500 && v.least == 0 && v.sum == 2500);
	free(latency);
	track_free(t);
}

static void
what_is_not_of_this_run_is_foreign(void **state)
{
	struct track *t = new_track(2);

	(void)state;
	track_arrive_foreign(t);
	arrive(t, 0, 0); /* a number that was not given out yet */
	arrive(t, 2, 0);
	arrive(t, UINT64_MAX, 0);
	uint64_t mail = offered(t);
	arrive(t, mail, RECIPIENTS);
	expect_numbers(t, 0, 0, 0, 0, 5);
	expect_verdict(t, 0, 0);
	track_free(t);
}

static void
numbers_end_with_the_table(void **state)
{
	struct track *t = new_track(2);
	struct track_numbers n;
	uint64_t mail;

	(void)state;
	offered(t);
	offered(t);
	assert_false(track_offer(t, 0, &mail));
	assert_false(track_offer(t, 0, &mail));
	track_count(t, &n);
	assert_int_equal(n.mails[TRACK_OFFERED], 2);
	track_free(t);
}

static void
an_id_is_read_as_it_is_shown(void **state)
{
	static const uint64_t numbers[] = { 0, 1, 42, 9999999999u };
	struct track *t = new_track(1);
	struct track *other = track_new(TAG + 1, 1, 1);
	uint8_t memory[64];

	(void)state;
	assert_non_null(other);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		struct buf field = buf_of(memory, sizeof memory);
		uint64_t mail;
		assert_true(track_show_field(t, numbers[i], &field));
		struct span text = buf_span(&field);
		assert_int_equal(text.size, sizeof TRACK_FIELD - 1 + TRACK_ID_SIZE + 2);
		assert_true(span_starts_with(text, SPAN(TRACK_FIELD "00abcdef-")));
		assert_true(span_eq(span_after(text, text.size - 2), SPAN("\r\n")));
		text = span_first(span_after(text, sizeof TRACK_FIELD - 1), TRACK_ID_SIZE);
		assert_true(track_read_id(t, text, &mail));
		assert_true(mail == numbers[i]);
		assert_false(track_read_id(other, text, &mail));
	}
	track_free(t);
	track_free(other);
}

static void
what_is_no_id_is_not_read(void **state)
{
	static const struct {
		const char *value;
		bool good;
	} rows[] = {
		{ "00abcdef-0000000007", true },
		{ " 00ABCDEF-0000000007\t", true },
		{ "", false },
		{ "00abcdef", false },
		{ "00abcdef-000000007", false },
		{ "00abcdef-00000000007", false },
		{ "00abcdee-0000000007", false },
		{ "00abcdef 0000000007", false },
		{ "00abcdeg-0000000007", false },
		{ "00abcdef-000000000x", false },
		{ "00abcdef--000000007", false },
		{ "0xabcdef-0000000007", false },
		{ "00abcdef-0000000007x", false },
		{ "00abcdef-+000000007", false },
		{ "00abcdef-0000000007 x", false },
	};
	struct track *t = new_track(1);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint64_t mail = 0;
		bool good = track_read_id(t, span_of_string(rows[i].value), &mail);
		if (good != rows[i].good || (good && mail != 7))
			fail_msg("'%s'", rows[i].value);
	}
	track_free(t);
}

/* ---- threads ---- */

enum { MAILS = 20000, SOURCES = 2, SINKS = 2 };

struct shared {
	struct track *track;
	pthread_barrier_t begin;
	atomic_bool offered[MAILS];
};

static void *
run_source(void *argument)
{
	struct shared *s = argument;
	uint64_t mail;

	pthread_barrier_wait(&s->begin);
	while (track_offer(s->track, clock_monotonic_us(), &mail)) {
		/* Its bytes leave, so from here on it may arrive. */
		atomic_store_explicit(&s->offered[mail], true, memory_order_relaxed);
		track_learn(s->track, mail, TRACK_ACCEPTED, NULL);
	}
	return NULL;
}

/* Every delivery arrives once at each of them, sooner or later than its 250. */
static void *
run_sink(void *argument)
{
	struct histogram *latency = calloc(1, sizeof *latency);
	struct shared *s = argument;

	pthread_barrier_wait(&s->begin);
	for (uint64_t mail = 0; latency != NULL && mail < MAILS; mail++) {
		while (!atomic_load_explicit(&s->offered[mail], memory_order_relaxed))
			sched_yield();
		for (uint32_t i = 0; i < RECIPIENTS; i++)
			track_arrive(s->track, mail, i, clock_monotonic_us(), latency);
	}
	free(latency);
	return NULL;
}

static void
threads_count_every_arrival_once(void **state)
{
	static struct shared s;
	pthread_t threads[SOURCES + SINKS];

	(void)state;
	s.track = new_track(MAILS);
	assert_int_equal(pthread_barrier_init(&s.begin, NULL, SOURCES + SINKS), 0);
	for (unsigned i = 0; i < SOURCES + SINKS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, i < SOURCES ? run_source : run_sink, &s),
			0);
	for (unsigned i = 0; i < SOURCES + SINKS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&s.begin);
	expect_numbers(s.track, MAILS * RECIPIENTS, MAILS * RECIPIENTS, MAILS * RECIPIENTS,
		       MAILS * RECIPIENTS * (SINKS - 1), 0);
	expect_verdict(s.track, 0, 0);
	track_free(s.track);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_fate_is_counted_by_mail),
		cmocka_unit_test(what_arrives_is_known_by_mail_and_recipient),
		cmocka_unit_test(an_arrival_may_overtake_its_own_250),
		cmocka_unit_test(what_was_in_doubt_or_refused_and_arrives_was_not_acknowledged),
		cmocka_unit_test(arrivals_beyond_the_first_are_duplicates),
		cmocka_unit_test(latency_counts_from_the_time_the_mail_was_due),
		cmocka_unit_test(what_is_not_of_this_run_is_foreign),
		cmocka_unit_test(numbers_end_with_the_table),
		cmocka_unit_test(an_id_is_read_as_it_is_shown),
		cmocka_unit_test(what_is_no_id_is_not_read),
		cmocka_unit_test(threads_count_every_arrival_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
