/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/unit.h"

struct row {
	const char *text;
	uint64_t value;
	const char *shown; /* NULL: as it was written */
};

static void
check_rows(const struct row *rows, size_t count, bool (*parse)(struct span, uint64_t *),
	   void (*print)(uint64_t, struct buf *))
{
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];
		uint8_t memory[64];
		struct buf shown = buf_of(memory, sizeof memory);
		uint64_t value = 0;

		if (!parse(span_of_string(r->text), &value) || value != r->value)
			fail_msg("%s: read as %lu", r->text, (unsigned long)value);
		print(value, &shown);
		if (!span_eq(buf_span(&shown), span_of_string(r->shown ? r->shown : r->text)))
			fail_msg("%s: shown as %.*s", r->text, SPAN_ARG(buf_span(&shown)));
		assert_true(parse(buf_span(&shown), &value) && value == r->value);
	}
}

static void
check_bad(const char *const *texts, size_t count, bool (*parse)(struct span, uint64_t *))
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value;
		if (parse(span_of_string(texts[i]), &value))
			fail_msg("'%s' was understood", texts[i]);
	}
}

static void
sizes_are_read_and_shown(void **state)
{
	static const struct row rows[] = {
		{ "0B", 0, NULL },
		{ "1B", 1, NULL },
		{ "1023B", 1023, NULL },
		{ "1024B", 1024, "1KiB" },
		{ "1KiB", 1024, NULL },
		{ "1025B", 1025, NULL },
		{ "1536KiB", 1536 << 10, NULL },
		{ "2048KiB", 2 << 20, "2MiB" },
		{ "64MiB", 64 << 20, NULL },
		{ "3GiB", (uint64_t)3 << 30, NULL },
		{ "16777215TiB", (uint64_t)16777215 << 40, NULL },
		{ "18446744073709551615B", UINT64_MAX, NULL },
		{ "007KiB", 7 << 10, "7KiB" },
	};

	(void)state;
	check_rows(rows, sizeof rows / sizeof rows[0], size_parse, size_print);
}

static void
durations_are_read_and_shown(void **state)
{
	static const struct row rows[] = {
		{ "0s", 0, NULL },         { "0ms", 0, "0s" },
		{ "0d", 0, "0s" },         { "1ms", 1, NULL },
		{ "1000ms", 1000, "1s" },  { "1500ms", 1500, NULL },
		{ "59s", 59000, NULL },    { "60s", 60000, "1m" },
		{ "90m", 5400000, NULL },  { "24h", 86400000, "1d" },
		{ "5d", 432000000, NULL }, { "18446744073709551615ms", UINT64_MAX, NULL },
	};

	(void)state;
	check_rows(rows, sizeof rows / sizeof rows[0], duration_parse, duration_print);
}

static void
what_has_no_unit_or_is_too_much_is_not_understood(void **state)
{
	static const char *const sizes[] = {
		"",      "1",     "KiB",   "1kib",   "1 KiB",       "1KiB ",
		" 1KiB", "-1KiB", "+1KiB", "1.5MiB", "1KB",         "1K",
		"1Ki",   "0x1B",  "1KiBx", "1s",     "16777216TiB", "18446744073709551616B",
	};
	static const char *const durations[] = {
		"",
		"1",
		"s",
		"1S",
		"1 s",
		"1s ",
		"-1s",
		"1.5s",
		"1min",
		"1us",
		"1ss",
		"1KiB",
		"1h30m",
		"213503982335d",
		"18446744073709551616ms",
	};

	(void)state;
	check_bad(sizes, sizeof sizes / sizeof sizes[0], size_parse);
	check_bad(durations, sizeof durations / sizeof durations[0], duration_parse);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read_and_shown),
		cmocka_unit_test(durations_are_read_and_shown),
		cmocka_unit_test(what_has_no_unit_or_is_too_much_is_not_understood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
