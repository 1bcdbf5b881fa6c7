/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include "relay/message/quoted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const struct {
	const char *text;
	size_t most;
	bool utf8;
	const char *string;
	const char *comment;
} rows[] = {
	{ "", 9, false, "\"\"", "()" },
	{ "a b", 9, false, "\"a b\"", "(a b)" },
	{ "a\"(b)\\", 9, false, "\"a\\\"(b)\\\\\"", "(a\"\\(b\\)\\\\)" },
	{ "a\r\nb\tc\x7f", 9, true, "\"a?\?b?c?\"", "(a?\?b?c?)" },
	{ "\xc3\xbc\xff", 9, true, "\"\xc3\xbc?\"", "(\xc3\xbc?)" },
	{ "\xc3\xbc\xff", 9, false, "\"?\?\"", "(?\?)" },
	{ "abc", 2, false, "\"ab\"", "(ab)" },
	{ "a\xc3\xbc", 2, true, "\"a\"", "(a)" }, /* no half of a character */
	{ "\xc3\xbc", 0, true, "\"\"", "()" },
};

static void
texts_are_quoted_and_cannot_break_out(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct span text = span_of_string(rows[i].text);
		char memory[64];
		struct buf out = buf_of(memory, sizeof memory);
		quoted_string(&out, text, rows[i].most, rows[i].utf8);
		assert_true(span_eq(buf_span(&out), span_of_string(rows[i].string)));
		buf_reset(&out);
		quoted_comment(&out, text, rows[i].most, rows[i].utf8);
		assert_true(span_eq(buf_span(&out), span_of_string(rows[i].comment)));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_quoted_and_cannot_break_out),
	};

	return cmocka_run_group_tests_name("quoted", tests, NULL, NULL);
}
