/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses admin */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "relay/admin/shape.h"

static char text[SHAPE_WRITTEN_MAX + 1];

static const char *
written(enum admin_shape s, const void *values)
{
	struct buf out = buf_of(text, SHAPE_WRITTEN_MAX);

	shape_write(&out, s, values);
	assert_false(out.overflow);
	text[out.size] = 0;
	return text;
}

static void
each_kind_has_its_form(void **state)
{
	struct admin_site site = {
		.name = SPAN("smtp://\"a\""),
		.state = SPAN("down"),
		.limit = 20,
		.again_in = 1500,
		.failed_at = 1704164645678,
		.failure = span_of("\xff\n", 2),
	};
	struct admin_status status = { .accepted_rate = 2649, .memory = 12 };

	(void)state;
	assert_string_equal(written(ADMIN_SHAPE_site, &site),
			    "{\"name\":\"smtp://\\\"a\\\"\",\"state\":\"down\",\"connections\":0,"
			    "\"busy\":0,\"limit\":20,\"rate\":0,\"waiting\":0,\"host_count\":0,"
			    "\"hosts_failed\":0,\"home\":0,"
			    "\"again_in\":1.500,\"failed_at\":\"2024-01-02T03:04:05.678Z\","
			    "\"failure\":\"\xef\xbf\xbd\\n\"}");
	assert_non_null(strstr(written(ADMIN_SHAPE_status, &status), "\"accepted_rate\":2.649,"));
	assert_non_null(strstr(text, "\"memory\":12,"));
	/* What is not known is left out, also in front. */
	assert_null(strstr(text, "version"));
	assert_memory_equal(text, "{\"pid\"", 6);
	assert_string_equal(written(ADMIN_SHAPE_page, &(struct admin_page){ 0 }), "{}");
	assert_string_equal(
		written(ADMIN_SHAPE_suspension, &(struct admin_suspension){ .suspended = true }),
		"{\"suspended\":true}");
}

static void
the_longest_object_fits(void **state)
{
	static uint8_t controls[SHAPE_TEXT_MAX * 2];
	struct span longest = span_of(controls, sizeof controls);

	(void)state;
	memset(controls, 1, sizeof controls);
	struct admin_site site = { .name = longest, .state = SPAN("up"), .failure = longest };
	assert_true(strlen(written(ADMIN_SHAPE_site, &site)) > 2 * 6 * SHAPE_TEXT_MAX);
	struct admin_step step = { longest, longest, longest, longest, longest };
	assert_true(strlen(written(ADMIN_SHAPE_step, &step)) > 5 * 6 * SHAPE_TEXT_MAX);
}

static void
times_are_read_back(void **state)
{
	static const char *const bad[] = {
		"",
		"2024-01-02T03:04:05Z",
		"2024-01-02T03:04:05.678",
		"2024-01-02 03:04:05.678Z",
		"2024-01-02T03:04:05.67xZ",
		"1960-01-02T03:04:05.678Z",
	};
	uint64_t ms;

	(void)state;
	assert_true(shape_read_time(SPAN("2024-01-02T03:04:05.678Z"), &ms));
	assert_int_equal(ms, 1704164645678);
	for (uint64_t at = 1; at < UINT64_C(8000000000000); at = at * 3 + 7) {
		char memory[32];
		struct buf out = buf_of(memory, sizeof memory);
		shape_write_time(&out, at);
		assert_true(shape_read_time(buf_span(&out), &ms));
		assert_int_equal(ms, at);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(shape_read_time(span_of_string(bad[i]), &ms));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_has_its_form),
		cmocka_unit_test(the_longest_object_fits),
		cmocka_unit_test(times_are_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
