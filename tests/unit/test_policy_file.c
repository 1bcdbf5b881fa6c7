/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses control flow queue dns core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "relay/control/policy_file.h"

static const char lines[] = "example.org 20260101 enforce 604800 1700000000000 "
			    "mx1.example.org,*.example.net\n"
			    "gone.example 7 none 86400 1700000000001 -\n"
			    "test.example x1 testing 1 1 mx.test.example\n";

static void
policies_are_written_as_they_are_read(void **state)
{
	uint8_t memory[1024];
	struct buf out = buf_of(memory, sizeof memory);
	struct span text = span_of_string(lines);

	(void)state;
	while (text.size > 0) {
		struct sts_held *h = policy_file_read(&text);
		size_t before = out.size;
		assert_non_null(h);
		assert_true(policy_file_line(h, &out));
		assert_true(out.size - before <= policy_file_size(h));
		sts_held_put(h);
	}
	assert_true(span_eq(buf_span(&out), span_of_string(lines)));
}

static void
a_line_has_all_of_a_policy(void **state)
{
	struct span text = span_of_string(lines);
	struct sts_held *h = policy_file_read(&text);

	(void)state;
	assert_true(span_eq(h->domain, SPAN("example.org")));
	assert_true(span_eq(h->id, SPAN("20260101")));
	assert_int_equal(h->mode, STS_ENFORCE);
	assert_int_equal(h->fetched_at_ms, 1700000000000);
	assert_int_equal(h->expires_at_ms, 1700000000000 + 604800 * 1000ll);
	assert_int_equal(h->pattern_count, 2);
	assert_true(span_eq(h->patterns[1], SPAN("*.example.net")));
	sts_held_put(h);
}

static void
what_is_no_policy_is_left_out(void **state)
{
	static const char *const bad[] = {
		"",
		"\n",
		"example.org",
		"example.org 1 enforce 1 1",
		"example.org 1 enforce 1 1 ",
		"example.org 1 enforce 1 1 mx.example more",
		"example.org 1 enforce 1 1 -",
		"example.org 1 testing 1 1 -",
		"example.org 1 strict 1 1 mx.example",
		"example.org 1 enforce -1 1 mx.example",
		"example.org 1 enforce 31557601 1 mx.example",
		"example.org 1 enforce 1 x mx.example",
		"example.org 1 enforce 1 18446744073709551615 mx.example",
		"example.org 1 enforce 1 1 mx.example,",
		"example.org 1 enforce 1 1 ,",
		"example.org 123456789012345678901234567890123 enforce 1 1 mx.example",
		" 1 enforce 1 1 mx.example",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct span text = span_of_string(bad[i]);
		struct sts_held *h = policy_file_read(&text);
		if (h != NULL)
			fail_msg("%s", bad[i]);
		assert_int_equal(text.size, 0);
	}
}

static void
patterns_are_bounded(void **state)
{
	static uint8_t memory[STS_PATTERNS_MAX * 8];

	(void)state;
	for (unsigned count = STS_PATTERNS_MAX; count <= STS_PATTERNS_MAX + 1; count++) {
		struct buf line = buf_of(memory, sizeof memory);
		buf_append_string(&line, "example.org 1 enforce 1 1 ");
		for (unsigned i = 0; i < count; i++)
			buf_append_string(&line, i > 0 ? ",a.b" : "a.b");
		struct span text = buf_span(&line);
		struct sts_held *h = policy_file_read(&text);
		assert_int_equal(h != NULL, count == STS_PATTERNS_MAX);
		if (h != NULL)
			sts_held_put(h);
	}
}

static void
only_a_file_of_this_kind_is_read(void **state)
{
	uint8_t memory[64];
	struct buf out = buf_of(memory, sizeof memory);
	struct span text;

	(void)state;
	assert_true(policy_file_head(&out));
	buf_append_string(&out, "more");
	text = buf_span(&out);
	assert_true(policy_file_read_head(&text));
	assert_true(span_eq(text, SPAN("more")));
	text = SPAN("ringpost-sts 2\nmore");
	assert_false(policy_file_read_head(&text));
	text = span_none();
	assert_false(policy_file_read_head(&text));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies_are_written_as_they_are_read),
		cmocka_unit_test(a_line_has_all_of_a_policy),
		cmocka_unit_test(what_is_no_policy_is_left_out),
		cmocka_unit_test(patterns_are_bounded),
		cmocka_unit_test(only_a_file_of_this_kind_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
