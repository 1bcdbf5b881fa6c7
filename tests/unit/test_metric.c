/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/metric.h"

static struct metrics blocks[3];
static char text[METRIC_TEXT_MAX + 1];

static const char *
render(size_t count)
{
	const struct metrics *pointers[3] = { &blocks[0], &blocks[1], &blocks[2] };
	struct buf out = buf_of(text, METRIC_TEXT_MAX);

	assert_true(metric_render(pointers, count, &out));
	text[out.size] = 0;
	return text;
}

static void
must_have(const char *line)
{
	char whole[300];

	snprintf(whole, sizeof whole, "\n%s\n", line);
	if (strstr(text, whole) == NULL)
		fail_msg("missing: %s", line);
}

static void
values_are_merged_over_threads(void **state)
{
	(void)state;
	memset(blocks, 0, sizeof blocks);
	METRIC_ADD(&blocks[0], MAILS_ACCEPTED, 2);
	METRIC_ADD(&blocks[1], MAILS_ACCEPTED, 3);
	METRIC_ADD_LABEL(&blocks[0], LIMIT_HITS, LABEL_LIMIT_RECIPIENTS, 1);
	METRIC_ADD_LABEL(&blocks[2], LIMIT_HITS, LABEL_LIMIT_RECIPIENTS, 1);
	METRIC_SET(&blocks[0], QUEUE_MAILS, 10);
	METRIC_SET(&blocks[0], QUEUE_MAILS, 7);
	METRIC_SET(&blocks[1], QUEUE_MAILS, 5);
	METRIC_SET(&blocks[0], QUEUE_OLDEST, 100);
	METRIC_SET(&blocks[1], QUEUE_OLDEST, 99);
	METRIC_SET_LABEL(&blocks[1], CONNECTIONS, LABEL_SIDE_SEND, 4);
	assert_int_equal(METRIC_GET(&blocks[0], QUEUE_MAILS), 7);
	assert_int_equal(METRIC_GET_LABEL(&blocks[1], CONNECTIONS, LABEL_SIDE_SEND), 4);
	render(3);
	must_have("ringpost_mails_accepted_total 5");
	must_have("ringpost_limit_hits_total{limit=\"recipients\"} 2");
	must_have("ringpost_limit_hits_total{limit=\"junk\"} 0");
	must_have("ringpost_queue_mails 12");
	must_have("ringpost_queue_oldest_age_seconds 100");
	must_have("ringpost_connections{side=\"send\"} 4");
	must_have("ringpost_connections{side=\"receive\"} 0");
	must_have("ringpost_connections_closed_total{reason=\"timeout\"} 0");
	must_have("# TYPE ringpost_connections gauge");
}

static void
a_value_is_in_the_bucket_of_its_bound(void **state)
{
	static const struct {
		uint64_t us;
		const char *first; /* the first bucket that counts it */
		const char *before;
	} rows[] = {
		{ 0, "0.000016", NULL },
		{ 16, "0.000016", NULL },
		{ 17, "0.000024", "0.000016" },
		{ 24, "0.000024", "0.000016" },
		{ 25, "0.000032", "0.000024" },
		{ 1000000, "1.048576", "0.786432" },
		{ 67108864, "67.108864", "50.331648" },
		{ 67108865, "+Inf", "67.108864" },
		{ UINT64_MAX, "+Inf", "67.108864" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char line[100];
		memset(blocks, 0, sizeof blocks);
		METRIC_OBSERVE(&blocks[0], COMMIT_TIME, rows[i].us);
		render(1);
		snprintf(line, sizeof line, "ringpost_commit_seconds_bucket{le=\"%s\"} 1",
			 rows[i].first);
		must_have(line);
		if (rows[i].before != NULL) {
			snprintf(line, sizeof line, "ringpost_commit_seconds_bucket{le=\"%s\"} 0",
				 rows[i].before);
			must_have(line);
		}
		must_have("ringpost_commit_seconds_count 1");
	}
}

/* Every value is in the first bucket whose bound reaches it, compared with the slow way. */
static void
buckets_follow_their_bounds(void **state)
{
	(void)state;
	for (unsigned steps = 1; steps <= 2; steps++) {
		for (uint64_t value = 0; value < 10000; value++) {
			unsigned expected = 0, bounds = 8 * steps + 1;
			while (expected < bounds) {
				uint64_t octave = (uint64_t)1 << (2 + expected / steps);
				uint64_t bound = expected % steps == 0 ? octave : octave * 3 / 2;
				if (value <= bound)
					break;
				expected++;
			}
			assert_int_equal(metric_bucket(2, bounds, steps, value), expected);
		}
	}
}

static void
sums_are_in_the_unit_of_the_name(void **state)
{
	(void)state;
	memset(blocks, 0, sizeof blocks);
	METRIC_OBSERVE(&blocks[0], DELAY_QUEUE, 1500000);
	METRIC_OBSERVE(&blocks[1], DELAY_QUEUE, 250);
	METRIC_OBSERVE(&blocks[0], BATCH_RECORDS, 3);
	METRIC_OBSERVE(&blocks[0], BATCH_RECORDS, 4);
	render(2);
	must_have("ringpost_delay_queue_seconds_sum 1.50025");
	must_have("ringpost_delay_queue_seconds_count 2");
	must_have("ringpost_spool_batch_records_bucket{le=\"2\"} 0");
	must_have("ringpost_spool_batch_records_bucket{le=\"4\"} 2");
	must_have("ringpost_spool_batch_records_sum 7");
}

static bool
is_name(const char *s, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (!(s[i] >= 'a' && s[i] <= 'z') && s[i] != '_' &&
		    !(i > 0 && s[i] >= '0' && s[i] <= '9'))
			return false;
	}
	return size > 0;
}

/* One sample line of the family `family`: name{label="value"} number. */
static void
check_sample(const char *line, const char *family, const char *type)
{
	size_t name = strcspn(line, "{ ");
	size_t stem = strlen(family);
	const char *rest = line + name;

	assert_true(is_name(line, name));
	assert_true(name >= stem && strncmp(line, family, stem) == 0);
	if (strcmp(type, "histogram") == 0) {
		bool bucket = strncmp(line + stem, "_bucket{le=\"", 12) == 0;
		assert_true(bucket || strncmp(line + stem, "_sum ", 5) == 0 ||
			    strncmp(line + stem, "_count ", 7) == 0);
	} else {
		assert_int_equal(name, stem);
	}
	if (*rest == '{') {
		size_t label = strcspn(rest + 1, "=");
		assert_true(is_name(rest + 1, label));
		rest += 1 + label + 1;
		assert_int_equal(*rest, '"');
		size_t value = strcspn(rest + 1, "\"\\\n");
		assert_true(value > 0);
		rest += 1 + value;
		assert_memory_equal(rest, "\"}", 2);
		rest += 2;
	}
	assert_int_equal(*rest, ' ');
	size_t number = strspn(rest + 1, "0123456789.");
	assert_true(number > 0 && rest[1 + number] == 0);
}

/* What a strict reader of the format demands: HELP and TYPE once and first, samples of a family
 * together, counters in _total, no series twice. */
static void
the_text_is_what_prometheus_reads(void **state)
{
	char family[200] = "", type[20] = "";
	char *seen[2000];
	size_t count = 0;

	(void)state;
	memset(blocks, 0, sizeof blocks);
	render(3);
	assert_int_equal(text[strlen(text) - 1], '\n');
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		if (strncmp(line, "# HELP ", 7) == 0) {
			snprintf(family, sizeof family, "%.*s", (int)strcspn(line + 7, " "),
				 line + 7);
			assert_true(strlen(line) > 7 + strlen(family) + 1);
			type[0] = 0;
			line[7 + strlen(family)] = 0;
			for (size_t i = 0; i < count; i++)
				assert_string_not_equal(seen[i], line);
			seen[count++] = strdup(line);
		} else if (strncmp(line, "# TYPE ", 7) == 0) {
			char name[200];
			assert_int_equal(sscanf(line, "# TYPE %199s %19s", name, type), 2);
			assert_string_equal(name, family);
			const char *end = strlen(name) > 6 ? name + strlen(name) - 6 : name;
			assert_int_equal(strcmp(type, "counter") == 0, strcmp(end, "_total") == 0);
		} else {
			assert_true(type[0] != 0);
			check_sample(line, family, type);
			size_t name = strcspn(line, " ");
			line[name] = 0;
			for (size_t i = 0; i < count; i++)
				assert_string_not_equal(seen[i], line);
			seen[count++] = strdup(line);
		}
		assert_true(count < sizeof seen / sizeof seen[0]);
	}
	for (size_t i = 0; i < count; i++)
		free(seen[i]);
}

static void
the_largest_values_fit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < METRIC_SLOTS; i++)
		metric_set_slot(&blocks[0], i, UINT64_MAX);
	render(1);
	must_have("ringpost_mails_accepted_total 18446744073709551615");
}

static void
the_process_measures_itself(void **state)
{
	(void)state;
	memset(blocks, 0, sizeof blocks);
	metric_set_process(&blocks[0]);
	assert_true(METRIC_GET(&blocks[0], RESIDENT_MEMORY) > 100000);
	assert_in_range(METRIC_GET(&blocks[0], OPEN_DESCRIPTORS), 1, 1000);
	assert_true(METRIC_GET(&blocks[0], MAX_DESCRIPTORS) >=
		    METRIC_GET(&blocks[0], OPEN_DESCRIPTORS));
}

static void *
count_up(void *argument)
{
	for (unsigned i = 0; i < 100000; i++) {
		METRIC_ADD(argument, MAILS_ACCEPTED, 1);
		METRIC_OBSERVE(argument, COMMIT_TIME, i);
	}
	return NULL;
}

/* For TSan: a reader at work while the owners count. */
static void
reading_does_not_disturb_counting(void **state)
{
	pthread_t threads[2];
	unsigned renders = 0;

	(void)state;
	memset(blocks, 0, sizeof blocks);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, &blocks[i]), 0);
	do {
		render(2);
	} while (++renders < 20);
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	render(2);
	must_have("ringpost_mails_accepted_total 200000");
	must_have("ringpost_commit_seconds_count 200000");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_merged_over_threads),
		cmocka_unit_test(a_value_is_in_the_bucket_of_its_bound),
		cmocka_unit_test(buckets_follow_their_bounds),
		cmocka_unit_test(sums_are_in_the_unit_of_the_name),
		cmocka_unit_test(the_text_is_what_prometheus_reads),
		cmocka_unit_test(the_largest_values_fit),
		cmocka_unit_test(the_process_measures_itself),
		cmocka_unit_test(reading_does_not_disturb_counting),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
