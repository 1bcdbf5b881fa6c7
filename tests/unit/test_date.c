/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "relay/message/date.h"
#include "core/base/id.h"

static void
dates_are_those_of_the_calendar(void **state)
{
	static const struct {
		uint64_t wall_ms;
		int offset_min;
		const char *text;
	} rows[] = {
		{ 0, 0, "Thu, 01 Jan 1970 00:00:00 +0000" },
		{ 0, -60, "Thu, 01 Jan 1970 00:00:00 -0100" },
		{ 951782399999, 0, "Mon, 28 Feb 2000 23:59:59 +0000" },
		{ 951782400000, 0, "Tue, 29 Feb 2000 00:00:00 +0000" },
		{ 951868800000, 0, "Wed, 01 Mar 2000 00:00:00 +0000" },
		{ 1788264000000, 120, "Tue, 01 Sep 2026 14:00:00 +0200" },
		{ 1788264000000, -570, "Tue, 01 Sep 2026 02:30:00 -0930" },
		{ 1798761599000, 1, "Fri, 01 Jan 2027 00:00:59 +0001" },
		{ 4107542400000, 0, "Mon, 01 Mar 2100 00:00:00 +0000" },
		{ 253402300799000, 0, "Fri, 31 Dec 9999 23:59:59 +0000" },
		{ UINT64_MAX, 1439, "Fri, 31 Dec 9999 23:59:59 +2359" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t memory[64];
		struct buf b = buf_of(memory, sizeof memory);
		assert_true(date_write(&b, rows[i].wall_ms, rows[i].offset_min));
		if (!span_eq(buf_span(&b), span_of_string(rows[i].text)))
			fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&b)));
		assert_int_equal(b.size, DATE_SIZE);
	}
}

/* Every day of 600 years against the C library. */
static void
dates_agree_with_gmtime(void **state)
{
	(void)state;
	for (time_t day = 0; day < 600 * 365; day++) {
		time_t seconds = day * 86400 + day % 86400;
		struct tm tm;
		char text[64];
		uint8_t memory[64];
		struct buf b = buf_of(memory, sizeof memory);
		assert_non_null(gmtime_r(&seconds, &tm));
		size_t size = strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &tm);
		assert_true(date_write(&b, (uint64_t)seconds * 1000, 0));
		assert_int_equal(b.size, size);
		assert_memory_equal(memory, text, size);
	}
}

static void
a_date_needs_its_room(void **state)
{
	uint8_t memory[DATE_SIZE];
	struct buf b = buf_of(memory, DATE_SIZE - 1);

	(void)state;
	assert_false(date_write(&b, 0, 0));
	assert_int_equal(b.size, 0);
}

static void
ids_read_back(void **state)
{
	static const struct {
		uint64_t high, low;
		const char *text;
	} rows[] = {
		{ 0, 0, "00000000000000000000000000" },
		{ 0, 31, "0000000000000000000000000z" },
		{ 0, UINT64_MAX, "0000000000000fzzzzzzzzzzzz" },
		{ UINT64_MAX, UINT64_MAX, "7zzzzzzzzzzzzzzzzzzzzzzzzz" },
		{ 0x0123456789abcdef, 0xfedcba9876543210, "014d2pf2dbsqqzxq5tk1v58cgg" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t memory[32];
		struct buf b = buf_of(memory, sizeof memory);
		uint64_t high = 1;
		uint64_t low = 1;
		assert_true(id_write(&b, rows[i].high, rows[i].low));
		if (!span_eq(buf_span(&b), span_of_string(rows[i].text)))
			fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&b)));
		assert_true(id_read(buf_span(&b), &high, &low));
		assert_int_equal(high, rows[i].high);
		assert_int_equal(low, rows[i].low);
	}
}

static void
what_is_no_id_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"0000000000000000000000000",
		"000000000000000000000000000",
		"8zzzzzzzzzzzzzzzzzzzzzzzzz",
		"0000000000000000000000000u",
		"0000000000000000000000000i",
		"0000000000000 000000000000",
	};
	uint64_t high;
	uint64_t low;

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		assert_false(id_read(span_of_string(texts[i]), &high, &low));
	assert_true(id_read(SPAN("0000000000000000000000000Z"), &high, &low));
	assert_int_equal(low, 31);
	/* A NUL is in no alphabet, though memchr would find the one behind it. */
	assert_false(id_read(SPAN("0000000000000000000000000\0"), &high, &low));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dates_are_those_of_the_calendar),
		cmocka_unit_test(dates_agree_with_gmtime),
		cmocka_unit_test(a_date_needs_its_room),
		cmocka_unit_test(ids_read_back),
		cmocka_unit_test(what_is_no_id_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
