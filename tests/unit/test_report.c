/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "bench/report.h"

/* A result with all members, as small as one can be. */
static const char good[] =
	"{'ringpost_bench': 1, 'command': 'run', 'label': 'a', 'scenario': 'b', 'started': 'c',"
	" 'options': {'mode': 'lockstep', 'size': '1KiB'},"
	" 'machine': {'kernel': 'Linux', 'cpu': 'x', 'cpus': 2, 'memory_bytes': 4096},"
	" 'totals': {'mails_offered': 3, 'mails_accepted': 3, 'mails_refused': 0,"
	"  'mails_in_doubt': 0, 'recipients_offered': 3, 'recipients_accepted': 3,"
	"  'recipients_delivered': 3, 'recipients_caught': 3, 'lost': 0, 'duplicated': 0,"
	"  'unacknowledged_delivered': 0, 'foreign': 0, 'connection_errors': 0},"
	" 'time': {'offer_s': 1, 'total_s': 1.5},"
	" 'rate': {'accepted_per_s': 3, 'delivered_per_s': 2.5, 'without_relay_before_per_s': 9,"
	"  'without_relay_after_per_s': 9, 'share_without_relay': 0.3},"
	" 'latency_us': {"
	"  'accept': {'count': 3, 'min': 1, 'mean': 2, 'p50': 2, 'p90': 2, 'p99': 3, 'p999': 3,"
	"   'max': 3, 'buckets': [[1, 1], [2, 1], [3, 1]]},"
	"  'end_to_end': {'count': 0, 'min': 0, 'mean': 0, 'p50': 0, 'p90': 0, 'p99': 0,"
	"   'p999': 0, 'max': 0, 'buckets': []}},"
	" 'relay': {'user_s': 1, 'system_s': 1, 'cpu_us_per_mail': 1, 'pss_peak_bytes': 1,"
	"  'context_switches': 1, 'bytes_written': 1,"
	"  'processes': [{'name': 'p', 'count': 1, 'user_s': 1, 'system_s': 1}]},"
	" 'load': {'source_cpu_s': 1, 'sink_cpu_s': 1},"
	" 'series': {'interval_s': 1, 't_s': [1, 2], 'delivered': [1, 2], 'queued': [2, null],"
	"  'errors': [0, 0], 'relay_cpu': [0.5, 0.5], 'relay_pss_bytes': [1, 1]}}";

struct folder {
	char path[64];
	char result[96];
	char page[96];
	char why_memory[512];
	struct buf why;
};

static int
set_up(void **state)
{
	struct folder *f = calloc(1, sizeof *f);

	assert_non_null(f);
	snprintf(f->path, sizeof f->path, "/tmp/test_report.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	snprintf(f->result, sizeof f->result, "%s/result.json", f->path);
	snprintf(f->page, sizeof f->page, "%s/page.html", f->path);
	f->why = buf_of(f->why_memory, sizeof f->why_memory - 1);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct folder *f = *state;

	unlink(f->result);
	unlink(f->page);
	rmdir(f->path);
	free(f);
	return 0;
}

/* The result above as a tree: quotes are single ones in the source. */
static json_t *
good_result(void)
{
	char text[sizeof good];
	json_error_t error;

	for (size_t i = 0; i < sizeof good; i++)
		text[i] = good[i] == '\'' ? '"' : good[i];
	json_t *root = json_loads(text, 0, &error);
	if (root == NULL)
		fail_msg("line %d: %s", error.line, error.text);
	return root;
}

static void
write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* Reports on a file of this text; what was wrong, or NULL. */
static const char *
report_text(struct folder *f, const char *text)
{
	const char *files[] = { f->result };

	write_text(f->result, text);
	buf_reset(&f->why);
	bool written = report_write(f->page, files, 1, &f->why);
	f->why.data[f->why.size] = '\0';
	assert_int_equal(written, f->why.size == 0);
	return written ? NULL : f->why_memory;
}

/* Takes the tree. */
static const char *
report_tree(struct folder *f, json_t *root)
{
	char *text = json_dumps(root, 0);

	assert_non_null(text);
	const char *why = report_text(f, text);
	free(text);
	json_decref(root);
	return why;
}

static void
expect_error(struct folder *f, const char *why, const char *rest)
{
	char line[512];

	snprintf(line, sizeof line, "%s: %s", f->result, rest);
	if (why == NULL)
		fail_msg("accepted, but should be: %s", line);
	assert_string_equal(why, line);
}

/* Takes `value`, which takes the place of what is there; NULL takes it away. */
static void
change(json_t *root, const char *path, json_t *value)
{
	const char *dot;

	while ((dot = strchr(path, '.')) != NULL) {
		root = json_object_getn(root, path, (size_t)(dot - path));
		path = dot + 1;
	}
	assert_non_null(json_object_get(root, path));
	if (value == NULL)
		assert_int_equal(json_object_del(root, path), 0);
	else
		assert_int_equal(json_object_set_new(root, path, value), 0);
}

static void
a_good_result_becomes_a_page(void **state)
{
	struct folder *f = *state;

	json_t *root = good_result();
	change(root, "label", json_string("</script>"));
	assert_null(report_tree(f, root));
	FILE *file = fopen(f->page, "re");
	assert_non_null(file);
	char *text = NULL;
	size_t size = 0;
	assert_true(getdelim(&text, &size, '\0', file) > 0);
	fclose(file);
	assert_non_null(strstr(text, "<!doctype html>"));
	/* What would end the element that holds it cannot. */
	assert_non_null(strstr(text, "\"label\":\"\\u003c/script>\""));
	assert_non_null(strstr(text, "\"file\":\"result.json\""));
	assert_null(strstr(text, "@RESULTS@"));
	free(text);
}

static void
a_missing_member_is_named(void **state)
{
	static const char *const needed[] = {
		"label",
		"started",
		"options",
		"machine",
		"machine.kernel",
		"machine.cpus",
		"machine.memory_bytes",
		"totals",
		"totals.mails_offered",
		"totals.mails_accepted",
		"totals.mails_refused",
		"totals.mails_in_doubt",
		"totals.recipients_accepted",
		"totals.recipients_delivered",
		"totals.lost",
		"totals.duplicated",
		"totals.unacknowledged_delivered",
		"time",
		"time.total_s",
		"rate",
		"rate.accepted_per_s",
		"rate.delivered_per_s",
		"latency_us",
		"latency_us.accept",
		"latency_us.accept.count",
		"latency_us.accept.min",
		"latency_us.accept.p50",
		"latency_us.accept.p99",
		"latency_us.accept.p999",
		"latency_us.accept.max",
		"latency_us.accept.buckets",
		"latency_us.end_to_end",
		"latency_us.end_to_end.count",
		"latency_us.end_to_end.min",
		"latency_us.end_to_end.p50",
		"latency_us.end_to_end.p99",
		"latency_us.end_to_end.p999",
		"latency_us.end_to_end.max",
		"latency_us.end_to_end.buckets",
		"series",
		"series.t_s",
		"series.delivered",
		"series.queued",
	};
	struct folder *f = *state;

	for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
		char line[128];
		json_t *root = good_result();
		change(root, needed[i], NULL);
		snprintf(line, sizeof line, "%s is missing", needed[i]);
		expect_error(f, report_tree(f, root), line);
	}
}

static void
a_member_of_the_wrong_kind_is_named(void **state)
{
	static const struct {
		const char *path;
		const char *value;
		const char *error;
	} rows[] = {
		{ "label", "7", "label is no text" },
		{ "scenario", "null", "scenario is no text" },
		{ "options", "[]", "options is no object" },
		{ "options", "{\"size\": 1}", "options.size is no text" },
		{ "machine", "\"x\"", "machine is no object" },
		{ "machine.cpus", "2.5", "machine.cpus is no count" },
		{ "totals.lost", "-1", "totals.lost is no count" },
		{ "totals.foreign", "\"0\"", "totals.foreign is no count" },
		{ "time.total_s", "-0.1", "time.total_s is no number of at least 0" },
		{ "rate.share_without_relay", "null",
		  "rate.share_without_relay is no number of at least 0" },
		{ "latency_us.accept.buckets", "{}", "latency_us.accept.buckets is no list" },
		{ "latency_us.accept.buckets", "[[1, 1], [2]]",
		  "latency_us.accept.buckets[1] is no pair of upper bound and count" },
		{ "latency_us.accept.buckets", "[[1, -1]]",
		  "latency_us.accept.buckets[0] is no pair of upper bound and count" },
		{ "latency_us.accept.buckets", "[[2, 1], [2, 1]]",
		  "latency_us.accept.buckets[1] has a bound that is not above the one before" },
		{ "relay", "[]", "relay is no object" },
		{ "relay.processes", "{}", "relay.processes is no list" },
		{ "relay.processes", "[{\"name\": \"p\"}]", "relay.processes[0].count is missing" },
		{ "relay.processes", "[{\"name\": 1}]", "relay.processes[0].name is no text" },
		{ "series.t_s", "1", "series.t_s is no list" },
		{ "series.t_s", "[1, 1]", "series.t_s[1] is no time after the one before" },
		{ "series.t_s", "[1, 2, 3]", "series.delivered is not as long as series.t_s" },
		{ "series.queued", "[1]", "series.queued is not as long as series.t_s" },
		{ "series.relay_cpu", "[1, \"2\"]",
		  "series.relay_cpu[1] is neither a number nor null" },
		{ "ringpost_bench", "2",
		  "ringpost_bench is not 1, the version that this program reads" },
		{ "ringpost_bench", "\"1\"",
		  "ringpost_bench is not 1, the version that this program reads" },
		{ "command", "\"report\"", "command is none of run, source, sink" },
		{ "command", "1", "command is none of run, source, sink" },
	};
	struct folder *f = *state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		json_t *root = good_result();
		json_t *value = json_loads(rows[i].value, JSON_DECODE_ANY, NULL);
		assert_non_null(value);
		change(root, rows[i].path, value);
		expect_error(f, report_tree(f, root), rows[i].error);
	}
}

static void
what_is_no_result_is_refused(void **state)
{
	struct folder *f = *state;

	expect_error(f, report_text(f, "{}"),
		     "ringpost_bench is missing: this is no result of ringpost-bench");
	expect_error(f, report_text(f, "[1]"), "the result is no object");
	const char *why = report_text(f, "{\n\"a\": oops}");
	assert_non_null(why);
	assert_non_null(strstr(why, "result.json: not JSON: line 2: "));
	why = report_text(f, "");
	assert_non_null(why);
	assert_non_null(strstr(why, "result.json: not JSON: "));
	why = report_text(f, "{\"command\": \"run\", \"command\": \"run\"}");
	assert_non_null(why);
	assert_non_null(strstr(why, "duplicate"));
}

/* What a command cannot know is not asked of it, nor what is in an object that is left out. */
static void
commands_leave_members_out(void **state)
{
	static const struct {
		const char *command;
		const char *without[10];
	} rows[] = {
		{ "source",
		  { "totals.recipients_delivered", "totals.lost", "totals.duplicated",
		    "totals.unacknowledged_delivered", "rate.delivered_per_s",
		    "latency_us.end_to_end", "series.delivered", "series.queued", NULL } },
		{ "sink",
		  { "totals.mails_offered", "totals.mails_accepted", "totals.recipients_accepted",
		    "totals.recipients_delivered", "time", "rate", "latency_us", "series.queued",
		    NULL } },
		{ "run", { "relay", "load", "scenario", "machine.cpu", "series.errors", NULL } },
	};
	struct folder *f = *state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		json_t *root = good_result();
		change(root, "command", json_string(rows[i].command));
		for (size_t k = 0; rows[i].without[k] != NULL; k++)
			change(root, rows[i].without[k], NULL);
		const char *why = report_tree(f, root);
		if (why != NULL)
			fail_msg("%s: %s", rows[i].command, why);
	}
}

static void
files_that_cannot_be_opened_are_named(void **state)
{
	struct folder *f = *state;
	const char *const absent[] = { "/nowhere/result.json" };

	assert_false(report_write(f->page, absent, 1, &f->why));
	f->why.data[f->why.size] = '\0';
	assert_string_equal(f->why_memory, "/nowhere/result.json: No such file or directory");
	assert_int_equal(access(f->page, F_OK), -1);

	assert_null(report_tree(f, good_result()));
	const char *const present[] = { f->result };
	buf_reset(&f->why);
	assert_false(report_write("/nowhere/page.html", present, 1, &f->why));
	f->why.data[f->why.size] = '\0';
	assert_string_equal(f->why_memory, "/nowhere/page.html: No such file or directory");
	buf_reset(&f->why);
	assert_false(report_write("/dev/full", present, 1, &f->why));
	f->why.data[f->why.size] = '\0';
	assert_string_equal(f->why_memory, "/dev/full: No space left on device");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_good_result_becomes_a_page, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_missing_member_is_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_member_of_the_wrong_kind_is_named, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_result_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(commands_leave_members_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(files_that_cannot_be_opened_are_named, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
