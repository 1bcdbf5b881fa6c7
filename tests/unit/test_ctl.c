/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses ctl */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "relay/ctl/arguments.h"
#include "relay/ctl/show.h"

enum { WORDS_MAX = 160 };

#define ID "0123456789abcdefghjkmnpqrs"

static char line_text[PROTOCOL_REQUEST_MAX + 1];
static char why_text[1024];
static char shown[64 * 1024];

/* Splits at single blanks; a '~' within a word stands for a blank. */
static bool
read_words(const char *words, struct arguments *out)
{
	static char memory[16 * 1024];
	const char *argv[WORDS_MAX] = { "ringpostctl" };
	struct buf line = buf_of(line_text, sizeof line_text - 1);
	struct buf why = buf_of(why_text, sizeof why_text - 1);
	int argc = 1;

	assert_true(strlen(words) < sizeof memory);
	strcpy(memory, words);
	for (char *at = memory; *at != 0;) {
		char *end = at + strcspn(at, " ");
		bool last = *end == 0;
		*end = 0;
		for (char *c = at; *c != 0; c++)
			*c = *c == '~' ? ' ' : *c;
		argv[argc++] = at;
		at = last ? end : end + 1;
	}
	bool fine = arguments_read(argc, argv, out, &line, &why);
	line_text[line.size] = 0;
	why_text[why.size] = 0;
	assert_int_equal(fine, why.size == 0);
	return fine;
}

static void
must_become(const char *words, const char *line)
{
	struct arguments a;

	if (!read_words(words, &a))
		fail_msg("%s: %s", words, why_text);
	assert_string_equal(line_text, line);
}

static void
must_fail(const char *words, const char *why)
{
	struct arguments a;

	if (read_words(words, &a))
		fail_msg("%s: is taken", words);
	if (strstr(why_text, why) == NULL)
		fail_msg("%s: \"%s\" does not say %s", words, why_text, why);
}

static void
words_become_requests(void **state)
{
	(void)state;
	must_become("status", "{\"command\":\"status\",\"version\":1}\n");
	must_become("queue list --state held --older-than=2h --limit 5",
		    "{\"command\":\"queue list\",\"limit\":5,\"older_than\":\"2h\","
		    "\"state\":\"held\",\"version\":1}\n");
	must_become("queue show " ID,
		    "{\"command\":\"queue show\",\"id\":\"" ID "\",\"version\":1}\n");
	must_become("queue hold " ID " " ID " --reason so~it~is",
		    "{\"command\":\"queue hold\",\"ids\":[\"" ID "\",\"" ID "\"],"
		    "\"reason\":\"so it is\",\"version\":1}\n");
	must_become("queue remove --all --dry-run",
		    "{\"all\":true,\"command\":\"queue remove\",\"dry_run\":true,\"version\":1}\n");
	must_become("node drain one.test --no-wait --undo --reason x",
		    "{\"command\":\"node drain\",\"no_wait\":true,\"node\":\"one.test\","
		    "\"reason\":\"x\",\"undo\":true,\"version\":1}\n");
	must_become("--json queue count age",
		    "{\"by\":\"age\",\"command\":\"queue count\",\"version\":1}\n");
	must_become("queue count --by age",
		    "{\"by\":\"age\",\"command\":\"queue count\",\"version\":1}\n");
}

static void
common_options_stand_anywhere(void **state)
{
	struct arguments a;

	(void)state;
	assert_true(read_words("--socket /a status --json --timeout=5m", &a));
	assert_string_equal(a.socket, "/a");
	assert_true(a.json);
	assert_int_equal(a.timeout_ms, 300000);
	assert_false(a.yes);
	assert_true(read_words("queue hold --all --yes --reason x", &a));
	assert_true(a.yes);
	must_become("queue hold --all --yes --dry-run",
		    "{\"all\":true,\"command\":\"queue hold\",\"dry_run\":true,\"version\":1}\n");
	assert_true(read_words("status", &a));
	assert_string_equal(a.socket, ARGUMENTS_SOCKET);
	assert_true(read_words("queue hold --help", &a));
	assert_true(a.help && a.has_command);
	assert_int_equal(a.command, ADMIN_QUEUE_HOLD);
	assert_string_equal(line_text, "");
	assert_true(read_words("--help", &a));
	assert_true(a.help && !a.has_command);
}

static void
wrong_usage_is_told(void **state)
{
	(void)state;
	must_fail("", "command is missing");
	must_fail("queues list", "no command queues");
	must_fail("queue", "a word more");
	must_fail("queue lis", "a word more");
	must_fail("status now", "takes no word now");
	must_fail("queue show " ID " " ID, "takes no word");
	must_fail("queue show", "needs id");
	must_fail("queue show nonsense", "26 letters");
	must_fail("queue list --stat held", "--stat");
	must_fail("queue list --reason x", "--reason");
	must_fail("queue list --limit many", "whole number");
	must_fail("queue list --limit 5000", "1 to 1000");
	must_fail("queue list --limit", "needs a value");
	must_fail("queue list --state held --state held", "twice");
	must_fail("queue remove --all=yes --reason x", "takes no value");
	must_fail("queue remove --reason x", "all");
	must_fail("queue remove --all", "reason");
	must_fail("queue hold --ids " ID " --reason x", "--ids");
	must_fail("--timeout soon status", "duration");
	must_fail("--socket", "needs a value");
	must_fail("explain \xff", "UTF-8");
}

static void
too_many_ids_do_not_fit(void **state)
{
	char words[16 * 1024] = "queue hold --reason x";

	(void)state;
	for (unsigned i = 0; i < PROTOCOL_IDS_MAX + 1; i++)
		strcat(words, " " ID);
	must_fail(words, "100 ids");
}

static void
help_names_everything(void **state)
{
	struct arguments a = { 0 };
	struct buf out = buf_of(shown, sizeof shown - 1);

	(void)state;
	arguments_help(&a, &out);
	shown[out.size] = 0;
	for (unsigned c = 0; c < ADMIN_COMMANDS; c++)
		assert_non_null(strstr(shown, protocol_command(c)->words));
	for (unsigned c = 0; c < ADMIN_COMMANDS; c++) {
		struct arguments of_one = { .has_command = true, .command = c };
		buf_reset(&out);
		arguments_help(&of_one, &out);
		shown[out.size] = 0;
		assert_non_null(strstr(shown, protocol_command(c)->doc));
	}
	buf_reset(&out);
	arguments_list(&out);
	shown[out.size] = 0;
	assert_non_null(strstr(shown, "queue hold --id --state --site --sender"));
	assert_false(out.overflow);
}

static const char *
show(enum admin_command command, const char *json)
{
	json_t *result = json_loads(json, 0, NULL);
	struct buf out = buf_of(shown, sizeof shown - 1);
	uint64_t now_ms;

	assert_non_null(result);
	assert_true(shape_read_time(SPAN("2024-01-02T03:04:05.000Z"), &now_ms));
	show_result(&out, command, result, now_ms);
	shown[out.size] = 0;
	json_decref(result);
	return shown;
}

static void
lists_are_tables(void **state)
{
	(void)state;
	assert_string_equal(
		show(ADMIN_QUEUE_LIST,
		     "{\"cursor\":\"1.ff\",\"rows\":["
		     "{\"id\":\"a\",\"state\":\"waiting\",\"accepted_at\":\"2024-01-02T02:04:00."
		     "000Z\","
		     "\"due_at\":\"2024-01-02T03:05:05.000Z\",\"attempts\":2,\"size\":1536,"
		     "\"site\":\"\xc3\xa4\"},"
		     "{\"id\":\"bcd\",\"state\":\"held\",\"accepted_at\":\"2024-01-01T03:04:05."
		     "000Z\","
		     "\"attempts\":10,\"size\":7,\"site\":\"x\"}]}"),
		"id   state    accepted at  due at  attempts     size  site\n"
		"a    waiting       1h ago   in 1m         2  1.5 KiB  \xc3\xa4\n"
		"bcd  held          1d ago                10      7 B  x\n"
		"there may be more: --cursor 1.ff\n");
	assert_string_equal(show(ADMIN_QUEUE_LIST, "{\"rows\":[]}"), "nothing\n");
}

static void
objects_are_lines(void **state)
{
	(void)state;
	assert_string_equal(
		show(ADMIN_QUEUE_HOLD,
		     "{\"matched\":2,\"done\":1,\"busy\":1,\"missing\":0,\"failed\":0,"
		     "\"dry_run\":false,\"refused\":[{\"id\":\"a\",\"why\":\"because\"}]}"),
		"matched     2\n"
		"done        1\n"
		"busy        1\n"
		"missing     0\n"
		"failed      0\n"
		"dry run     no\n"
		"\n"
		"refused:\n"
		"id  why\n"
		"a   because\n");
	assert_non_null(strstr(show(ADMIN_STATUS, "{\"uptime\":90061.5,\"accepted_rate\":2.649}"),
			       "uptime              1d 1h\n"));
	assert_non_null(strstr(shown, "accepted rate       2.6/s\n"));
}

/* Members of a later version, or of another kind, do no harm. */
static void
odd_answers_are_shown(void **state)
{
	(void)state;
	assert_string_equal(show(ADMIN_QUEUE_LIST, "{}"), "nothing\n");
	assert_string_equal(show(ADMIN_QUEUE_LIST, "{\"rows\":[{\"id\":7,\"new\":1}]}"), "\n\n");
	assert_string_equal(show(ADMIN_QUEUE_LIST, "{\"rows\":[{\"attempts\":-1}]}"),
			    "attempts\n       0\n");
	assert_string_equal(show(ADMIN_SITE_SHOW, "{\"failed_at\":\"some day\",\"hosts\":7}"),
			    "failed at        some day\n");
}

static void
nothing_steers_the_terminal(void **state)
{
	(void)state;
	assert_string_equal(
		show(ADMIN_SITE_SHOW, "{\"failure\":\"a\\u001b[31m\\u0007\\u007f\\u009b1mb\\n\"}"),
		"failure          a?[31m???1mb?\n");
}

static void
quantities_have_two_places(void **state)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} durations[] = {
		{ 0, "0s" },           { 999, "0s" },      { 59999, "59s" },     { 60000, "1m" },
		{ 61000, "1m 1s" },    { 3600000, "1h" },  { 3660000, "1h 1m" }, { 86400000, "1d" },
		{ 90000000, "1d 1h" }, { 86460000, "1d" },
	};
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ 1048575, "1023.9 KiB" },
		{ 1048576, "1.0 MiB" },
		{ UINT64_MAX, "15.9 EiB" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
		struct buf out = buf_of(shown, sizeof shown - 1);
		show_duration(&out, durations[i].ms);
		shown[out.size] = 0;
		assert_string_equal(shown, durations[i].text);
	}
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct buf out = buf_of(shown, sizeof shown - 1);
		show_size(&out, sizes[i].bytes);
		shown[out.size] = 0;
		assert_string_equal(shown, sizes[i].text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_become_requests),
		cmocka_unit_test(common_options_stand_anywhere),
		cmocka_unit_test(wrong_usage_is_told),
		cmocka_unit_test(too_many_ids_do_not_fit),
		cmocka_unit_test(help_names_everything),
		cmocka_unit_test(lists_are_tables),
		cmocka_unit_test(objects_are_lines),
		cmocka_unit_test(odd_answers_are_shown),
		cmocka_unit_test(nothing_steers_the_terminal),
		cmocka_unit_test(quantities_have_two_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
