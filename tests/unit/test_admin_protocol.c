/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses admin */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/admin/protocol.h"

#define ID "0123456789abcdefghjkmnpqrs"

static char why_text[1024];

static enum admin_error
read_line(const char *line, struct admin_request *out)
{
	struct buf why = buf_of(why_text, sizeof why_text - 1);
	enum admin_error e = protocol_read(span_of_string(line), out, &why);

	why_text[why.size] = 0;
	/* A refusal says why, a success says nothing. */
	assert_int_equal(e == ADMIN_OK, why.size == 0);
	assert_false(why.overflow);
	return e;
}

static void
must_fail(const char *line, enum admin_error expected, const char *word)
{
	struct admin_request r;
	enum admin_error e = read_line(line, &r);

	if (e != expected)
		fail_msg("%s: %s, not %s", line, protocol_error_word(e),
			 protocol_error_word(expected));
	if (strstr(why_text, word) == NULL)
		fail_msg("%s: \"%s\" does not name %s", line, why_text, word);
}

static void
requests_are_read(void **state)
{
	struct admin_request r;

	(void)state;
	assert_int_equal(read_line("{\"version\":1,\"command\":\"status\"}", &r), ADMIN_OK);
	assert_int_equal(r.command, ADMIN_STATUS);
	assert_int_equal(r.given, 0);
	protocol_put(&r);

	assert_int_equal(read_line("{\"version\":1,\"command\":\"queue list\",\"state\":\"held\","
				   "\"older_than\":\"2h\",\"limit\":7,\"site\":\"smtp://a:25\"}",
				   &r),
			 ADMIN_OK);
	assert_int_equal(r.command, ADMIN_QUEUE_LIST);
	assert_true(request_has(&r, ADMIN_ARG_STATE));
	assert_int_equal(r.numbers[ADMIN_ARG_STATE], ADMIN_STATE_HELD);
	assert_int_equal(r.numbers[ADMIN_ARG_OLDER_THAN], 7200000);
	assert_int_equal(r.numbers[ADMIN_ARG_LIMIT], 7);
	assert_true(span_eq(r.texts[ADMIN_ARG_SITE], SPAN("smtp://a:25")));
	assert_false(request_has(&r, ADMIN_ARG_CURSOR));
	protocol_put(&r);

	assert_int_equal(
		read_line("{\"version\":1,\"command\":\"queue remove\",\"reason\":\"spam\","
			  "\"ids\":[\"" ID "\",\"00000000000000000000000001\"]}",
			  &r),
		ADMIN_OK);
	assert_int_equal(r.id_count, 2);
	assert_true(mail_id_eq(r.ids[1], (struct mail_id){ 0, 1 }));
	protocol_put(&r);
}

static void
what_is_no_request_is_refused(void **state)
{
	(void)state;
	must_fail("", ADMIN_BAD_REQUEST, "JSON");
	must_fail("garbage", ADMIN_BAD_REQUEST, "JSON");
	must_fail("[]", ADMIN_BAD_REQUEST, "object");
	must_fail("{\"version\":1,\"version\":1}", ADMIN_BAD_REQUEST, "duplicate");
	must_fail("{\"version\":1,\"command\":\"status\"} x", ADMIN_BAD_REQUEST, "JSON");
	must_fail("{\"version\":1,\"command\":\"\xff\"}", ADMIN_BAD_REQUEST, "byte 24");
	must_fail("{}", ADMIN_BAD_VERSION, "version");
	must_fail("{\"version\":2,\"command\":\"status\"}", ADMIN_BAD_VERSION, "1");
	must_fail("{\"version\":\"1\",\"command\":\"status\"}", ADMIN_BAD_VERSION, "1");
	must_fail("{\"version\":1}", ADMIN_BAD_COMMAND, "command");
	must_fail("{\"version\":1,\"command\":7}", ADMIN_BAD_COMMAND, "command");
	must_fail("{\"version\":1,\"command\":\"queue\"}", ADMIN_BAD_COMMAND, "queue");
}

/* A misspelt argument must not be one that is not there. */
static void
arguments_are_held_to_their_table(void **state)
{
	static const struct {
		const char *rest;
		const char *word;
	} rows[] = {
		{ "\"stat\":\"held\"", "stat" },
		{ "\"state\":\"hold\"", "waiting" },
		{ "\"state\":1", "state" },
		{ "\"limit\":0", "1 to 1000" },
		{ "\"limit\":1001", "1 to 1000" },
		{ "\"limit\":-1", "1 to 1000" },
		{ "\"limit\":1.5", "limit" },
		{ "\"limit\":\"5\"", "limit" },
		{ "\"limit\":null", "limit" },
		{ "\"older_than\":\"2\"", "duration" },
		{ "\"older_than\":\"0s\"", "duration" },
		{ "\"older_than\":2", "duration" },
		{ "\"site\":\"\"", "site" },
		{ "\"id\":\"" ID "x\"", "26" },
		{ "\"id\":[\"" ID "\"]", "26" },
		{ "\"reason\":\"x\"", "no argument of queue list" },
		{ "\"\":1", "no argument" },
	};
	char line[512];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		snprintf(line, sizeof line, "{\"version\":1,\"command\":\"queue list\",%s}",
			 rows[i].rest);
		must_fail(line, ADMIN_BAD_ARGUMENT, rows[i].word);
	}
	must_fail("{\"version\":1,\"command\":\"queue show\"}", ADMIN_BAD_ARGUMENT, "id");
	must_fail("{\"version\":1,\"command\":\"queue hold\",\"reason\":\"x\",\"ids\":[]}",
		  ADMIN_BAD_ARGUMENT, "ids");
	must_fail("{\"version\":1,\"command\":\"queue hold\",\"reason\":\"x\",\"ids\":\"" ID "\"}",
		  ADMIN_BAD_ARGUMENT, "ids");
	must_fail("{\"version\":1,\"command\":\"queue hold\",\"reason\":\"x\",\"all\":false}",
		  ADMIN_BAD_ARGUMENT, "all");
}

static void
what_changes_mail_needs_to_be_meant(void **state)
{
	struct admin_request r;

	(void)state;
	must_fail("{\"version\":1,\"command\":\"queue remove\",\"reason\":\"x\"}", ADMIN_NEEDS_ALL,
		  "all");
	must_fail("{\"version\":1,\"command\":\"queue remove\",\"dry_run\":true}", ADMIN_NEEDS_ALL,
		  "all");
	must_fail("{\"version\":1,\"command\":\"queue remove\",\"all\":true}", ADMIN_NEEDS_REASON,
		  "reason");
	must_fail("{\"version\":1,\"command\":\"site suspend\",\"name\":\"x\"}", ADMIN_NEEDS_REASON,
		  "reason");
	must_fail("{\"version\":1,\"command\":\"queue hold\",\"reason\":\"x\",\"all\":true,"
		  "\"ids\":[\"" ID "\"]}",
		  ADMIN_BAD_ARGUMENT, "ids");
	must_fail("{\"version\":1,\"command\":\"queue hold\",\"reason\":\"x\",\"state\":\"held\","
		  "\"ids\":[\"" ID "\"]}",
		  ADMIN_BAD_ARGUMENT, "ids");
	assert_int_equal(read_line("{\"version\":1,\"command\":\"queue remove\",\"all\":true,"
				   "\"dry_run\":true}",
				   &r),
			 ADMIN_OK);
	protocol_put(&r);
}

static void
too_many_ids_are_refused(void **state)
{
	static char line[8192];
	struct buf text = buf_of(line, sizeof line - 1);

	(void)state;
	buf_append_string(&text,
			  "{\"version\":1,\"command\":\"queue hold\",\"reason\":\"x\",\"ids\":[");
	for (unsigned i = 0; i <= PROTOCOL_IDS_MAX; i++)
		buf_printf(&text, "%s\"" ID "\"", i == 0 ? "" : ",");
	buf_append_string(&text, "]}");
	assert_false(text.overflow);
	line[text.size] = 0;
	must_fail(line, ADMIN_BAD_ARGUMENT, "ids");
}

static void
refusals_are_lines(void **state)
{
	char memory[256];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	protocol_write_error(&out, ADMIN_NOT_FOUND, SPAN("no \"such\"\nmail"));
	assert_true(
		span_eq(buf_span(&out), SPAN("{\"version\":1,\"ok\":false,\"error\":\"not_found\","
					     "\"text\":\"no \\\"such\\\"\\nmail\"}\n")));
	assert_int_equal(protocol_exit_status(SPAN("not_found")), 1);
	assert_int_equal(protocol_exit_status(SPAN("bad_argument")), 2);
	assert_int_equal(protocol_exit_status(SPAN("shutting_down")), 75);
	assert_int_equal(protocol_exit_status(SPAN("of a later version")), 1);
}

/* What a command needs, and what stands without a name, it takes. */
static void
the_table_holds_together(void **state)
{
	(void)state;
	for (unsigned c = 0; c < ADMIN_COMMANDS; c++) {
		const struct command_row *command = protocol_command(c);
		assert_int_equal(command->needs & ~command->takes, 0);
		if (command->place != ADMIN_ARG_NONE)
			assert_true((command->takes & 1u << command->place) != 0);
		if (command->acts)
			assert_true((command->takes & 1u << ADMIN_ARG_REASON) != 0);
		assert_null(protocol_rows(c, PROTOCOL_LISTS_MAX));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_read),
		cmocka_unit_test(what_is_no_request_is_refused),
		cmocka_unit_test(arguments_are_held_to_their_table),
		cmocka_unit_test(what_changes_mail_needs_to_be_meant),
		cmocka_unit_test(too_many_ids_are_refused),
		cmocka_unit_test(refusals_are_lines),
		cmocka_unit_test(the_table_holds_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
