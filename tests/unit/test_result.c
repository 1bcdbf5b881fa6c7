/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core machine */
/*
 * The members that a result must have are read from the table in bench/README.md, so that neither
 * can change without the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/result.h"

enum { SAMPLES = 100, WORDS_MAX = 16 };

static void
parse(struct bench_options *o, const char *const *words)
{
	char *argv[WORDS_MAX];
	int count = 0;

	for (; words[count] != NULL; count++)
		argv[count] = (char *)(uintptr_t)words[count];
	argv[count] = NULL;
	assert_int_equal(options_parse(o, count, argv), -1);
}

static void
fill_histogram(struct histogram_view *v, uint64_t first_us)
{
	struct histogram *h = calloc(1, sizeof *h);

	assert_non_null(h);
	for (unsigned i = 0; i < 1000; i++)
		histogram_add(h, first_us + 10 * i);
	histogram_view_init(v);
	histogram_read(h, v);
	free(h);
}

static void
fill_relay(struct meter *m)
{
	*m = (struct meter){
		.processes = 3,
		.user_us = 2000000,
		.system_us = 1000000,
		.context_switches = 5000,
		.bytes_written = 123456,
		.name_count = 2,
		.names = { { "master", 1, 500000, 250000 },
			   { "worker \"x\"", 2, 1500000, 750000 } },
	};
}

/* 1000 mails of two recipients in 10 and 20 s. */
static struct result *
new_result(const struct bench_options *o)
{
	struct result *r = calloc(1, sizeof *r);

	assert_non_null(r);
	*r = (struct result){
		.options = o,
		.started = "2026-01-02T03:04:05Z",
		.has_source = o->command != BENCH_SINK,
		.has_sink = o->command != BENCH_SOURCE,
		.has_relay = o->command == BENCH_RUN,
		.track = { .mails = { 1000, 900, 60, 40 },
			   .recipients_accepted = 1800,
			   .recipients_delivered = 1810,
			   .recipients_settled = 1790,
			   .duplicated = 7,
			   .foreign = 3 },
		.verdict = { .lost = 10, .unacknowledged_delivered = 20 },
		.source = { .connections = 50,
			    .connection_errors = 2,
			    .bytes = 1024000,
			    .not_offered = 5 },
		.sink = { .connections = 4,
			  .mails = 905,
			  .recipients = 1810,
			  .bytes = 1030000,
			  .faults = 6 },
		.reason_count = 1,
		.reasons = { { .count = 60, .text = "452 4.3.1 full" } },
		.offer_s = 10,
		.total_s = 20,
		.before_per_s = o->command == BENCH_RUN ? 1000 : 0,
		.after_per_s = o->command == BENCH_RUN ? 810 : 0,
		.relay_pss_peak_bytes = 50 << 20,
		.source_cpu_us = 3000000,
		.sink_cpu_us = 1500000,
	};
	fill_relay(&r->relay);
	fill_histogram(&r->accept, 1000);
	fill_histogram(&r->end_to_end, 2000);
	for (unsigned i = 0; i < SAMPLES; i++) {
		struct result_sample s = {
			.t_s = (i + 1) * 0.5,
			.seconds = 0.5,
			.offered = 100,
			.accepted = 200,
			.delivered = 150,
			.errors = 1,
			.queued = i * 50,
			.accept_p50_us = i == 3 ? RESULT_NONE : 1500,
			.accept_p99_us = i == 3 ? RESULT_NONE : 2500,
			.end_to_end_p50_us = 3000,
			.end_to_end_p99_us = 4000,
			.relay_cpu_us = 250000,
			.source_cpu_us = 100000,
			.sink_cpu_us = 50000,
			.relay_pss_bytes = 40 << 20,
		};
		assert_true(result_add_sample(r, &s));
	}
	return r;
}

static json_t *
written(const struct result *r)
{
	char path[] = "/tmp/ringpost-result-XXXXXX";
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	json_error_t error;

	close(mkstemp(path));
	if (!result_write(r, path, &why))
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
	json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	if (o == NULL)
		fail_msg("line %d: %s", error.line, error.text);
	unlink(path);
	return o;
}

/* "a.b.c" */
static json_t *
member(json_t *o, const char *path)
{
	char name[64];

	while (o != NULL && *path != '\0') {
		size_t size = strcspn(path, ".");
		snprintf(name, sizeof name, "%.*s", (int)size, path);
		o = json_object_get(o, name);
		path += size + (path[size] == '.');
	}
	return o;
}

static double
number(json_t *o, const char *path)
{
	json_t *value = member(o, path);

	if (!json_is_number(value))
		fail_msg("%s is no number", path);
	return json_number_value(value);
}

static void
expect(json_t *o, const char *path, double wanted)
{
	double got = number(o, path);

	if (fabs(got - wanted) > 1e-6 * fabs(wanted))
		fail_msg("%s is %g, not %g", path, got, wanted);
}

static void
expect_text(json_t *o, const char *path, const char *wanted)
{
	json_t *value = member(o, path);

	if (!json_is_string(value) || strcmp(json_string_value(value), wanted) != 0)
		fail_msg("%s is not '%s'", path, wanted);
}

/* ---- README.md ---- */

/* Calls back with each word in backquotes of the row of the table that begins with such a word. */
static void
read_readme(void (*on_member)(void *context, const char *object, const char *name), void *context)
{
	FILE *f = fopen("bench/README.md", "re");
	char line[4096];

	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL) {
		char object[64] = "";
		char *at = line;
		if (strncmp(line, "| `", 3) != 0)
			continue;
		char *second = strstr(line + 2, " | ");
		assert_non_null(second);
		while ((at = strchr(at, '`')) != NULL) {
			char name[64];
			size_t size = strcspn(at + 1, "`");
			snprintf(name, sizeof name, "%.*s", (int)size, at + 1);
			if (at < second)
				on_member(context, "", name);
			else if (name[0] != '-')
				on_member(context, object, name);
			if (object[0] == '\0')
				snprintf(object, sizeof object, "%s", name);
			at += size + 2;
		}
	}
	fclose(f);
}

struct documented {
	json_t *results[3]; /* run, source, sink: together they have all members */
	unsigned count;
};

static void
expect_documented(void *context, const char *object, const char *name)
{
	static const char *const inner[] = { "accept.", "end_to_end.", "" };
	struct documented *d = context;
	bool found = false;

	for (unsigned i = 0; i < 3; i++) {
		json_t *o = member(d->results[i], object);
		found |= json_object_get(o, name) != NULL;
		for (unsigned k = 0; k < 3 && !found; k++) {
			char path[128];
			snprintf(path, sizeof path, "%s%s", inner[k], name);
			found = member(o, path) != NULL;
		}
		/* Those of the list of processes. */
		found |= json_object_get(json_array_get(member(o, "processes"), 0), name) != NULL;
	}
	if (!found)
		fail_msg("README.md names %s in '%s', which no result has", name, object);
	d->count++;
}

struct names {
	char text[8192];
};

static void
gather(void *context, const char *object, const char *name)
{
	struct names *n = context;
	size_t size = strlen(n->text);

	snprintf(n->text + size, sizeof n->text - size, "%s.%s|", object, name);
}

static void
expect_in_readme(const struct names *n, json_t *o, const char *object)
{
	const char *name;
	json_t *value;

	json_object_foreach(o, name, value)
	{
		char wanted[160];
		snprintf(wanted, sizeof wanted, "%s.%s|", object, name);
		if (strstr(n->text, wanted) == NULL)
			fail_msg("README.md does not name %s of '%s'", name, object);
		bool deeper = object[0] == '\0' && strcmp(name, "options") != 0;
		if (json_is_object(value) && deeper)
			expect_in_readme(n, value, name);
	}
}

static const char *const run_words[] = { "ringpost-bench",
					 "run",
					 "--relay",
					 "127.0.0.1:25",
					 "--sink",
					 "127.0.0.1:26",
					 "--messages",
					 "1000",
					 "--recipients",
					 "2",
					 "--label",
					 "a \"label\" with \xc3\xbc",
					 "--scenario",
					 "small",
					 NULL };
static const char *const source_words[] = { "ringpost-bench", "source",     "--relay",
					    "127.0.0.1:25",   "--messages", "1000",
					    "--recipients",   "2",          NULL };
static const char *const sink_words[] = { "ringpost-bench", "sink", "--sink", "127.0.0.1:26",
					  NULL };

struct three {
	struct bench_options options[3];
	struct result *results[3];
	json_t *written[3];
};

static int
make_three(void **state)
{
	static const char *const *const words[] = { run_words, source_words, sink_words };
	struct three *t = calloc(1, sizeof *t);

	assert_non_null(t);
	for (unsigned i = 0; i < 3; i++) {
		parse(&t->options[i], words[i]);
		t->results[i] = new_result(&t->options[i]);
		t->written[i] = written(t->results[i]);
	}
	*state = t;
	return 0;
}

static int
free_three(void **state)
{
	struct three *t = *state;

	for (unsigned i = 0; i < 3; i++) {
		json_decref(t->written[i]);
		result_free(t->results[i]);
		free(t->results[i]);
	}
	free(t);
	return 0;
}

static void
the_readme_names_what_there_is_and_nothing_else(void **state)
{
	struct three *t = *state;
	struct documented d = { .results = { t->written[0], t->written[1], t->written[2] } };
	struct names names = { "" };

	read_readme(expect_documented, &d);
	assert_true(d.count > 60);
	read_readme(gather, &names);
	for (unsigned i = 0; i < 3; i++)
		expect_in_readme(&names, t->written[i], "");
}

/* ---- content ---- */

static void
a_run_tells_all(void **state)
{
	struct three *t = *state;
	json_t *o = t->written[0];

	expect(o, "ringpost_bench", 1);
	expect_text(o, "command", "run");
	expect_text(o, "label", "a \"label\" with \xc3\xbc");
	expect_text(o, "scenario", "small");
	expect_text(o, "started", "2026-01-02T03:04:05Z");
	expect_text(o, "options.messages", "1000");
	expect_text(o, "options.baseline", "3s");
	assert_true(number(o, "machine.cpus") >= 1);
	assert_true(number(o, "machine.memory_bytes") > 1 << 20);
	expect(o, "totals.mails_offered", 1000);
	expect(o, "totals.mails_accepted", 900);
	expect(o, "totals.mails_refused", 60);
	expect(o, "totals.mails_in_doubt", 40);
	expect(o, "totals.mails_not_offered", 5);
	expect(o, "totals.recipients_offered", 2000);
	expect(o, "totals.recipients_accepted", 1800);
	expect(o, "totals.recipients_delivered", 1810);
	expect(o, "totals.lost", 10);
	expect(o, "totals.duplicated", 7);
	expect(o, "totals.unacknowledged_delivered", 20);
	expect(o, "totals.foreign", 3);
	expect(o, "totals.connections", 50);
	expect(o, "time.offer_s", 10);
	expect(o, "time.total_s", 20);
	expect(o, "rate.accepted_per_s", 180);
	expect(o, "rate.delivered_per_s", 90.5);
	expect(o, "rate.without_relay_before_per_s", 1000);
	expect(o, "rate.without_relay_after_per_s", 810);
	expect(o, "rate.share_without_relay", 0.1);
	expect(o, "relay.cpu_us_per_mail", 3000);
	expect(o, "relay.pss_peak_bytes", 50 << 20);
	assert_int_equal(json_array_size(member(o, "relay.processes")), 2);
	expect(json_array_get(member(o, "relay.processes"), 1), "user_s", 1.5);
	expect_text(json_array_get(member(o, "relay.processes"), 1), "name", "worker \"x\"");
	expect(o, "load.source_cpu_s", 3);
	expect(o, "load.sink_cpu_s", 1.5);
}

static void
latencies_are_told_with_their_buckets(void **state)
{
	struct three *t = *state;
	json_t *o = member(t->written[0], "latency_us.accept");
	json_t *buckets = json_object_get(o, "buckets");
	json_int_t sum = 0, last = -1;

	expect(o, "count", 1000);
	expect(o, "min", 1000);
	expect(o, "mean", 1000 + 4995);
	expect(o, "max", 10990);
	assert_true(number(o, "p50") >= 5990 && number(o, "p50") <= 5990 * 33 / 32);
	assert_true(number(o, "p50") < number(o, "p90") && number(o, "p99") <= number(o, "p999"));
	assert_true(number(o, "p999") <= number(o, "max"));
	for (size_t i = 0; i < json_array_size(buckets); i++) {
		json_t *pair = json_array_get(buckets, i);
		assert_int_equal(json_array_size(pair), 2);
		assert_true(json_integer_value(json_array_get(pair, 0)) > last);
		last = json_integer_value(json_array_get(pair, 0));
		assert_true(json_integer_value(json_array_get(pair, 1)) > 0);
		sum += json_integer_value(json_array_get(pair, 1));
	}
	assert_int_equal(sum, 1000);
	expect(t->written[0], "latency_us.end_to_end.min", 2000);
}

static void
series_are_of_equal_length_a_second(void **state)
{
	struct three *t = *state;
	json_t *o = member(t->written[0], "series");
	const char *name;
	json_t *list;

	expect(o, "interval_s", 1);
	json_object_foreach(o, name, list)
	{
		if (strcmp(name, "interval_s") != 0)
			assert_int_equal(json_array_size(list), SAMPLES);
	}
	assert_true(json_real_value(json_array_get(json_object_get(o, "t_s"), 9)) == 5);
	assert_true(json_real_value(json_array_get(json_object_get(o, "accepted"), 9)) == 400);
	assert_true(json_real_value(json_array_get(json_object_get(o, "relay_cpu"), 9)) == 0.5);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(o, "queued"), 9)), 450);
	list = json_object_get(o, "accept_p50_us");
	assert_int_equal(json_integer_value(json_array_get(list, 2)), 1500);
	assert_true(json_is_null(json_array_get(list, 3)));
}

static void
what_a_command_cannot_know_is_left_out(void **state)
{
	static const char *const of_source[] = {
		"scenario",
		"relay",
		"totals.lost",
		"totals.recipients_delivered",
		"rate.delivered_per_s",
		"rate.share_without_relay",
		"latency_us.end_to_end",
		"load.sink_cpu_s",
		"series.delivered",
		"series.queued",
		"series.relay_cpu",
		"series.sink_cpu",
		"series.end_to_end_p50_us",
		"options.sink",
		"totals.mails_caught",
	};
	static const char *const of_sink[] = {
		"scenario",
		"relay",
		"time",
		"rate",
		"latency_us",
		"totals.mails_offered",
		"totals.lost",
		"load.source_cpu_s",
		"series.offered",
		"series.queued",
		"series.accept_p50_us",
		"options.relay",
	};
	struct three *t = *state;

	for (size_t i = 0; i < sizeof of_source / sizeof of_source[0]; i++)
		if (member(t->written[1], of_source[i]) != NULL)
			fail_msg("source: %s", of_source[i]);
	for (size_t i = 0; i < sizeof of_sink / sizeof of_sink[0]; i++)
		if (member(t->written[2], of_sink[i]) != NULL)
			fail_msg("sink: %s", of_sink[i]);
	expect(t->written[1], "latency_us.accept.count", 1000);
	expect(t->written[2], "totals.mails_caught", 905);
	expect(t->written[2], "totals.recipients_caught", 1810);
	expect(t->written[2], "totals.faults", 6);
}

static void
nothing_at_all_is_a_result_too(void **state)
{
	struct bench_options o;

	(void)state;
	parse(&o, run_words);
	struct result r = {
		.options = &o, .has_source = true, .has_sink = true, .has_relay = true
	};
	histogram_view_init(&r.accept);
	histogram_view_init(&r.end_to_end);
	json_t *j = written(&r);
	expect(j, "rate.accepted_per_s", 0);
	expect(j, "latency_us.accept.min", 0);
	expect(j, "latency_us.accept.mean", 0);
	expect(j, "relay.cpu_us_per_mail", 0);
	assert_int_equal(json_array_size(member(j, "series.t_s")), 0);
	json_decref(j);
}

/* ---- for people, and failures ---- */

static void
the_summary_has_what_matters(void **state)
{
	static const struct {
		unsigned result;
		const char *text;
	} rows[] = {
		{ 0, "1000 mails over 50 connections in 10.00 s" },
		{ 0, "900 mails, 180 recipients/s; refused 60, in doubt 40" },
		{ 0, "5 mails whose time had come" },
		{ 0, "60 times: 452 4.3.1 full" },
		{ 0, "1810 recipients, 90/s in 20.00 s; lost 10, duplicated 7" },
		{ 0, "unacknowledged but delivered 20, foreign 3" },
		{ 0, "3000.0 us of CPU a mail" },
		{ 0, "1000/s before, 810/s after: the relay reached 0.100 of it" },
		{ 1, "accept         p50" },
		{ 2, "905 mails, 1810 recipients, 1030000 bytes over 4 connections; 6 faults" },
	};
	struct three *t = *state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char *text = NULL;
		size_t size = 0;
		FILE *f = open_memstream(&text, &size);
		assert_non_null(f);
		result_print(t->results[rows[i].result], f);
		fclose(f);
		if (strstr(text, rows[i].text) == NULL)
			fail_msg("'%s' is not in:\n%s", rows[i].text, text);
		free(text);
	}
}

static void
a_file_that_cannot_be_written_is_told(void **state)
{
	struct three *t = *state;
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);

	assert_false(result_write(t->results[0], "/nowhere/x.json", &why));
	assert_true(
		span_eq(buf_span(&why), SPAN("--json /nowhere/x.json: No such file or directory")));
	buf_reset(&why);
	assert_false(result_write(t->results[0], "/dev/full", &why));
	assert_true(span_eq(buf_span(&why), SPAN("--json /dev/full: No space left on device")));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_readme_names_what_there_is_and_nothing_else),
		cmocka_unit_test(a_run_tells_all),
		cmocka_unit_test(latencies_are_told_with_their_buckets),
		cmocka_unit_test(series_are_of_equal_length_a_second),
		cmocka_unit_test(what_a_command_cannot_know_is_left_out),
		cmocka_unit_test(nothing_at_all_is_a_result_too),
		cmocka_unit_test(the_summary_has_what_matters),
		cmocka_unit_test(a_file_that_cannot_be_written_is_told),
	};

	return cmocka_run_group_tests(tests, make_three, free_three);
}
