/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/log.h"
#include "core/metric.h"

enum { RING_SIZE = 64 << 10, TIME_SIZE = 35 /* {"time":"2024-01-02T03:04:05.678Z", */ };

static char path[] = "/tmp/ringpost-log-XXXXXX";
static char other_path[sizeof path + 6];
static struct metrics metrics;

static int
set_up(void **state)
{
	(void)state;
	strcpy(path + strlen(path) - 6, "XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	snprintf(other_path, sizeof other_path, "%s.old", path);
	memset(&metrics, 0, sizeof metrics);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink(path);
	unlink(other_path);
	return 0;
}

static struct log *
must_open(unsigned rings, const char *file)
{
	int error;
	struct log *log = log_new(rings, RING_SIZE, file, &error);

	if (log == NULL)
		fail_msg("log_new: %s", strerror(error));
	return log;
}

/* The whole file, to be freed. */
static char *
contents(const char *file)
{
	FILE *f = fopen(file, "re");
	size_t size = 64 << 20;
	char *text = malloc(size);

	assert_non_null(f);
	assert_non_null(text);
	size = fread(text, 1, size - 1, f);
	text[size] = 0;
	fclose(f);
	return text;
}

static size_t
count_lines(const char *text, const char *part)
{
	size_t count = 0;

	for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
		count++;
	return count;
}

static void
a_line_has_the_fields_of_its_row(void **state)
{
	struct log *log = must_open(1, path);
	struct log_ring *ring = log_ring(log, 0, &metrics);

	(void)state;
	event_delivery(ring, &(struct event_delivery){
				     .id = SPAN("q1"),
				     .result = SPAN("deferred"),
				     .sender = SPAN(""),
				     .recipient = SPAN("\"a\\b\"@example.org"),
				     .reply = SPAN("4.2.2 full\r\n\x01\xff"),
				     .code = 452,
				     .attempts = 3,
				     .size = UINT64_MAX,
				     .delay_a = 5,
				     .delay_b = 61001,
				     .retry_at = 1704164645678,
			     });
	event_put_cancelled(ring,
			    &(struct event_put_cancelled){ .id = SPAN("q2"), .durable = true });
	assert_true(log_drain(log) > 0);
	char *text = contents(path);
	assert_memory_equal(text, "{\"time\":\"20", 11);
	assert_memory_equal(text + TIME_SIZE - 3, "Z\",", 3);
	char *second = strchr(text, '\n') + 1;
	second[-1] = 0;
	assert_string_equal(
		text + TIME_SIZE,
		"\"level\":\"info\",\"event\":\"delivery\",\"id\":\"q1\",\"result\":\"deferred\","
		"\"sender\":\"\",\"recipient\":\"\\\"a\\\\b\\\"@example.org\",\"code\":452,"
		"\"reply\":\"4.2.2 full\\r\\n\\u0001\xef\xbf\xbd\",\"attempts\":3,"
		"\"size\":18446744073709551615,\"delay_a\":0.005,\"delay_b\":61.001,"
		"\"delay_c\":0.000,\"delay_d\":0.000,\"retry_at\":\"2024-01-02T03:04:05.678Z\"}");
	assert_string_equal(second + TIME_SIZE,
			    "\"level\":\"warning\",\"event\":\"put_cancelled\",\"id\":\"q2\","
			    "\"durable\":true}\n");
	assert_int_equal(METRIC_GET(&metrics, LOG_EVENTS), 2);
	assert_int_equal(log_drain(log), 0);
	free(text);
	log_free(log);
}

static void
texts_are_cut_and_the_longest_line_fits(void **state)
{
	static uint8_t controls[LOG_TEXT_MAX + 500];
	struct span longest = span_of(controls, sizeof controls); /* NULs: six bytes each */
	struct log *log = must_open(1, path);

	(void)state;
	event_delivery(log_ring(log, 0, NULL), &(struct event_delivery){ .id = longest,
									 .result = longest,
									 .sender = longest,
									 .recipient = longest,
									 .destination = longest,
									 .peer = longest,
									 .phase = longest,
									 .enhanced = longest,
									 .reply = longest,
									 .tls = longest });
	log_drain(log);
	char *text = contents(path);
	assert_int_equal(count_lines(text, "\\u0000"), 10 * LOG_TEXT_MAX);
	assert_int_equal(count_lines(text, "}\n"), 1);
	free(text);
	log_free(log);
}

static void
diagnostics_below_the_level_cost_nothing(void **state)
{
	struct log *log = must_open(1, path);
	struct log_ring *ring = log_ring(log, 0, &metrics);

	(void)state;
	assert_true(log_wants(ring, LEVEL_INFO));
	assert_false(log_wants(ring, LEVEL_DEBUG));
	event_connected(ring, &(struct event_connected){ .peer = SPAN("hidden") });
	log_set_level(log, LEVEL_DEBUG);
	event_connected(ring, &(struct event_connected){ .peer = SPAN("shown") });
	log_set_level(log, LEVEL_ERROR);
	event_disconnected(ring, &(struct event_disconnected){ .peer = SPAN("hidden") });
	event_stop(ring, &(struct event_stop){ .why = SPAN("outcome of level info") });
	log_drain(log);
	char *text = contents(path);
	assert_null(strstr(text, "hidden"));
	assert_non_null(strstr(text, "shown"));
	assert_non_null(strstr(text, "outcome of level info"));
	assert_int_equal(METRIC_GET(&metrics, LOG_EVENTS), 2);
	free(text);
	log_free(log);
}

static void
outcomes_are_kept_and_diagnostics_dropped(void **state)
{
	static const char filler[500] = "";
	struct log *log = must_open(1, path);
	struct log_ring *ring = log_ring(log, 0, &metrics);
	unsigned sent = 0, before_pause = 0;

	(void)state;
	for (; sent < 400; sent++) {
		char id[20];
		snprintf(id, sizeof id, "o%u", sent);
		before_pause += !log_must_pause(ring);
		event_received(ring, &(struct event_received){ .id = span_of_string(id),
							       .helo = span_of(filler, 500) });
		event_problem(ring, &(struct event_problem){ .what = SPAN("diagnostic") });
	}
	/* About 600 bytes each: the ring's three quarters hold about 80. */
	assert_in_range(before_pause, 60, 90);
	assert_true(METRIC_GET(&metrics, LOG_SPILLED) > 200);
	uint64_t dropped = METRIC_GET(&metrics, LOG_DROPPED);
	assert_true(dropped > 300 && dropped < 400);
	while (log_drain(log) > 0)
		log_turn(ring);
	assert_false(log_must_pause(ring));
	event_problem(ring, &(struct event_problem){ .what = SPAN("diagnostic") });
	log_drain(log);
	char *text = contents(path);
	const char *at = text;
	for (unsigned i = 0; i < sent; i++) {
		char id[30];
		snprintf(id, sizeof id, "\"id\":\"o%u\"", i);
		at = strstr(at, id); /* all, and in order */
		assert_non_null(at);
	}
	char report[60];
	snprintf(report, sizeof report, "\"event\":\"dropped\",\"count\":%u}\n", (unsigned)dropped);
	assert_non_null(strstr(at, report));
	assert_int_equal(count_lines(text, "\"diagnostic\"") + dropped, sent + 1);
	free(text);
	log_free(log);
}

static void
what_was_never_drained_is_written_at_the_end(void **state)
{
	struct log *log = must_open(2, path);

	(void)state;
	for (unsigned i = 0; i < 2000; i++)
		event_mail_held(log_ring(log, i & 1, NULL),
				&(struct event_mail_held){ .id = SPAN("0123456789012345678901234567"
								      "89012345678901234567") });
	log_free(log);
	char *text = contents(path);
	assert_int_equal(count_lines(text, "}\n"), 2000);
	free(text);
}

static void
a_renamed_file_is_opened_anew(void **state)
{
	struct log *log = must_open(1, path);
	struct log_ring *ring = log_ring(log, 0, NULL);

	(void)state;
	event_stop(ring, &(struct event_stop){ .why = SPAN("first") });
	log_drain(log);
	assert_int_equal(rename(path, other_path), 0);
	log_reopen(log, path);
	event_stop(ring, &(struct event_stop){ .why = SPAN("second") });
	log_drain(log);
	log_reopen(log, "/nonexistent/directory/file");
	event_stop(ring, &(struct event_stop){ .why = SPAN("third") });
	log_drain(log);
	log_free(log);
	char *old = contents(other_path), *new = contents(path);
	assert_non_null(strstr(old, "first"));
	assert_null(strstr(old, "second"));
	assert_non_null(strstr(new, "\"event\":\"log_reopened\""));
	assert_non_null(strstr(new, "second"));
	assert_non_null(strstr(new, "\"error\":\"No such file or directory\""));
	assert_non_null(strstr(new, "third"));
	free(old);
	free(new);
}

static void
a_full_disk_loses_nothing_that_is_kept(void **state)
{
	struct log *log = must_open(1, "/dev/full");
	struct log_ring *ring = log_ring(log, 0, NULL);

	(void)state;
	event_stop(ring, &(struct event_stop){ .why = SPAN("kept") });
	assert_int_equal(log_drain(log), 0);
	assert_int_equal(log_drain(log), 0);
	assert_int_equal(log_write_errors(log), 2);
	log_reopen(log, path);
	assert_true(log_drain(log) > 0);
	log_free(log);
	char *text = contents(path);
	assert_non_null(strstr(text, "kept"));
	free(text);
}

static void
a_file_that_cannot_be_opened_says_why(void **state)
{
	int error;

	(void)state;
	assert_null(log_new(1, RING_SIZE, "/nonexistent/file", &error));
	assert_int_equal(error, ENOENT);
}

enum { WRITERS = 3, EVENTS_EACH = 20000 };

struct writer {
	struct log_ring *ring;
	unsigned number;
	pthread_t thread;
};

static void *
write_events(void *argument)
{
	struct writer *w = argument;

	for (unsigned i = 0; i < EVENTS_EACH; i++) {
		char id[40];
		snprintf(id, sizeof id, "w%u-%u", w->number, i);
		event_received(w->ring, &(struct event_received){ .id = span_of_string(id),
								  .recipients = i });
		event_listening(w->ring, &(struct event_listening){ .role = SPAN("x") });
	}
	/* What is spilled at the end gets in when there is room: the log thread makes it. */
	while (log_must_pause(w->ring)) {
		log_turn(w->ring);
		sched_yield();
	}
	return NULL;
}

/* For TSan; and every outcome is there once, in the order of its thread. */
static void
many_threads_write_and_one_reads(void **state)
{
	struct writer writers[WRITERS];
	unsigned next[WRITERS] = { 0 };
	struct log *log = must_open(WRITERS, path);

	(void)state;
	assert_int_equal(log_start(log), ERR_OK);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ .ring = log_ring(log, i, NULL), .number = i };
		assert_int_equal(
			pthread_create(&writers[i].thread, NULL, write_events, &writers[i]), 0);
	}
	log_reopen(log, path);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	log_stop(log);
	log_free(log);
	char *text = contents(path);
	/* Line by line: under the sanitizers strstr() looks at the whole text each time. */
	for (char *line = text, *end; (end = strchrnul(line, '\n'))[0] != 0; line = end + 1) {
		*end = 0;
		char *at = strstr(line, "\"id\":\"w");
		if (at == NULL)
			continue;
		unsigned long number = strtoul(at + 7, &at, 10);
		assert_true(*at == '-' && number < WRITERS);
		assert_int_equal(strtoul(at + 1, NULL, 10), next[number]);
		next[number]++;
	}
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(next[i], EVENTS_EACH);
	free(text);
}

static void
a_sleeping_log_thread_is_woken_by_the_first_event(void **state)
{
	int ends[2];
	char line[200], file[40];
	struct log *log;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	snprintf(file, sizeof file, "/proc/self/fd/%d", ends[1]);
	log = must_open(1, file);
	assert_int_equal(log_start(log), ERR_OK);
	for (unsigned i = 0; i < 20; i++) {
		event_stop(log_ring(log, 0, NULL), &(struct event_stop){ .queued = i });
		/* Blocks for ever, and the test with it, if nobody wakes the thread. */
		ssize_t size = read(ends[0], line, sizeof line);
		assert_true(size > 0 && line[size - 1] == '\n');
	}
	log_stop(log);
	log_free(log);
	close(ends[0]);
	close(ends[1]);
}

static void
outcomes_that_are_drained_in_time_do_not_spill(void **state)
{
	struct log *log = must_open(1, "/dev/null");
	struct log_ring *ring = log_ring(log, 0, &metrics);
	uint64_t spent_us = 0;
	unsigned events = 0;

	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		uint64_t start = clock_monotonic_us();
		for (unsigned i = 0; i < 50; i++, events++)
			event_delivery(ring, &(struct event_delivery){
						     .id = SPAN("0123456789abcdef"),
						     .result = SPAN("delivered"),
						     .sender = SPAN("sender@example.org"),
						     .recipient = SPAN("recipient@example.com"),
						     .destination = SPAN("smtp://192.0.2.1:25"),
						     .peer = SPAN("192.0.2.1:25"),
						     .phase = SPAN("end"),
						     .enhanced = SPAN("2.0.0"),
						     .reply = SPAN("2.0.0 Ok: queued as 123"),
						     .code = 250 });
		spent_us += clock_monotonic_us() - start;
		log_drain(log);
	}
	print_message("an outcome event costs its writer %lu ns\n",
		      (unsigned long)(spent_us * 1000 / events));
	assert_int_equal(METRIC_GET(&metrics, LOG_SPILLED), 0);
	log_free(log);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_line_has_the_fields_of_its_row),
		TEST(texts_are_cut_and_the_longest_line_fits),
		TEST(diagnostics_below_the_level_cost_nothing),
		TEST(outcomes_are_kept_and_diagnostics_dropped),
		TEST(what_was_never_drained_is_written_at_the_end),
		TEST(a_renamed_file_is_opened_anew),
		TEST(a_full_disk_loses_nothing_that_is_kept),
		TEST(a_file_that_cannot_be_opened_says_why),
		TEST(many_threads_write_and_one_reads),
		TEST(a_sleeping_log_thread_is_woken_by_the_first_event),
		TEST(outcomes_that_are_drained_in_time_do_not_spill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
