/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/pool.h"
#include "core/base/span.h"
#include "core/base/utf8.h"

static void
spans_compare_without_case(void **state)
{
	(void)state;
	assert_true(span_eq_nocase(SPAN("Example.ORG"), SPAN("eXAMPLE.org")));
	assert_false(span_eq_nocase(SPAN("a"), SPAN("ab")));
	assert_true(span_ends_with_nocase(SPAN("mail.Example.org"), SPAN(".example.ORG")));
	assert_false(span_ends_with_nocase(SPAN("org"), SPAN("example.org")));
	/* '@' and '`' differ by the case bit but are no letters. */
	assert_false(span_eq_nocase(SPAN("@"), SPAN("`")));
	assert_int_equal(span_hash_nocase(SPAN("ABC"), 7), span_hash_nocase(SPAN("abc"), 7));
}

static void
numbers_are_digits_that_fit(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t value;
	} rows[] = {
		{ "0", true, 0 },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "18446744073709551616", false, 0 },
		{ "000000000000000000001", false, 0 },
		{ "", false, 0 },
		{ "-1", false, 0 },
		{ "1 ", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint64_t value = 0;
		assert_int_equal(span_to_u64(span_of_string(rows[i].text), &value), rows[i].ok);
		assert_int_equal(value, rows[i].value);
	}
}

static void
utf8_is_only_the_shortest_form(void **state)
{
	static const struct {
		const char *text;
		size_t length;
	} rows[] = {
		{ "a", 1 },
		{ "\xc3\xa4", 2 },
		{ "\xe2\x82\xac", 3 },
		{ "\xf0\x9f\x93\xae", 4 },
		{ "\xc0\xaf", 0 },
		{ "\xe0\x80\xaf", 0 },
		{ "\xed\xa0\x80", 0 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\x80", 0 },
		{ "\xc3", 0 },
		{ "\xe2\x82", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_int_equal(utf8_length(span_of_string(rows[i].text)), rows[i].length);
	assert_true(utf8_is_valid(SPAN("gr\xc3\xbc\xc3\x9f")));
	assert_false(utf8_is_valid(SPAN("gr\xfc\xdf")));
}

static void
an_append_is_whole_or_nothing(void **state)
{
	uint8_t memory[8];
	struct buf b = buf_of(memory, sizeof memory);

	(void)state;
	assert_true(buf_append(&b, SPAN("12345")));
	assert_false(buf_append(&b, SPAN("6789")));
	assert_true(b.overflow);
	assert_true(span_eq(buf_span(&b), SPAN("12345")));
	assert_true(buf_append(&b, SPAN("678")));
	buf_consume(&b, 6);
	assert_true(span_eq(buf_span(&b), SPAN("78")));
}

static void
appended_numbers_are_those_of_printf(void **state)
{
	uint8_t memory[20];
	char text[32];
	struct buf b = buf_of(memory, sizeof memory);

	(void)state;
	/* Around every power of ten, and the greatest. */
	for (uint64_t n = 1; n != 0; n = n > UINT64_MAX / 10 ? 0 : n * 10) {
		for (uint64_t near = n - 1; near <= n + 1; near++) {
			buf_reset(&b);
			assert_true(buf_append_number(&b, near));
			snprintf(text, sizeof text, "%llu", (unsigned long long)near);
			assert_true(span_eq(buf_span(&b), span_of_string(text)));
		}
	}
	buf_reset(&b);
	assert_true(buf_append_number(&b, UINT64_MAX));
	assert_true(span_eq(buf_span(&b), SPAN("18446744073709551615")));
	assert_false(buf_append_number(&b, 0));
	assert_true(b.overflow);
	buf_reset(&b);
	assert_true(buf_append_digits(&b, 7, 3));
	assert_true(buf_append_digits(&b, 1234, 2)); /* its last ones */
	assert_true(buf_append_digits(&b, UINT64_MAX, 0));
	assert_true(span_eq(buf_span(&b), SPAN("00734")));
	assert_false(buf_append_digits(&b, 1, 16));
	assert_true(span_eq(buf_span(&b), SPAN("00734")));
}

/* A special byte at every place of texts of every length; the rest stands for itself. */
static void
json_is_the_same_wherever_a_byte_stands(void **state)
{
	static const struct {
		const char *byte;
		const char *json;
	} rows[] = {
		{ "\"", "\\\"" },      { "\\", "\\\\" }, { "\x1f", "\\u001f" },
		{ "\x7f", "\\u007f" }, { "\n", "\\n" },  { "\x80", "\xef\xbf\xbd" },
		{ "~", "~" },          { " ", " " },
	};
	uint8_t in[50];
	uint8_t memory[64];
	char wanted[128];

	(void)state;
	for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
		for (size_t size = 1; size <= sizeof in; size++) {
			for (size_t at = 0; at < size; at++) {
				struct buf b = buf_of(memory, sizeof memory);
				memset(in, 'x', size);
				in[at] = (uint8_t)rows[row].byte[0];
				snprintf(wanted, sizeof wanted, "%.*s%s%.*s", (int)at,
					 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
					 rows[row].json, (int)(size - at - 1),
					 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
				assert_true(buf_append_json(&b, span_of(in, size), SIZE_MAX));
				assert_true(span_eq(buf_span(&b), span_of_string(wanted)));
			}
		}
	}
}

static void
json_text_stays_json(void **state)
{
	uint8_t memory[64];
	struct buf b = buf_of(memory, sizeof memory);

	(void)state;
	assert_true(buf_append_json(&b, SPAN("a\"b\\c\n\x01\xff\xc3\xa4"), 64));
	assert_true(span_eq(buf_span(&b), SPAN("a\\\"b\\\\c\\n\\u0001\xef\xbf\xbd\xc3\xa4")));
	buf_reset(&b);
	/* A character that the limit would cut is left out whole. */
	assert_true(buf_append_json(&b, SPAN("ab\xc3\xa4"), 3));
	assert_true(span_eq(buf_span(&b), SPAN("ab")));
}

static void
an_arena_keeps_its_limit_and_starts_anew(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 64, 256);
	assert_non_null(arena_take(&a, 1));
	assert_non_null(arena_take(&a, 150));
	assert_null(arena_take(&a, 100));
	struct span copy = arena_copy(&a, SPAN("hello"));
	assert_true(span_eq(copy, SPAN("hello")));
	assert_int_equal(copy.data[5], 0);
	arena_reset(&a);
	assert_int_equal(a.size, 0);
	assert_non_null(arena_take(&a, 256));
	assert_null(arena_take(&a, SIZE_MAX));
	arena_reset(&a);
}

static void
a_pool_gives_no_more_than_its_limit(void **state)
{
	struct pool p;
	void *objects[5];

	(void)state;
	pool_init(&p, 4096, 5);
	for (size_t i = 0; i < 5; i++) {
		objects[i] = pool_get(&p);
		assert_non_null(objects[i]);
		assert_int_equal((uintptr_t)objects[i] % 4096, 0);
	}
	assert_null(pool_get(&p));
	pool_put(&p, objects[2]);
	assert_ptr_equal(pool_get(&p), objects[2]);
	for (size_t i = 0; i < 5; i++)
		pool_put(&p, objects[i]);
	pool_fini(&p);
}

struct item {
	int number;
	struct list_node node;
};

static void
lists_keep_order(void **state)
{
	struct item items[3] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
	struct list a;
	struct list b;

	(void)state;
	list_init(&a);
	list_init(&b);
	list_append(&a, &items[1].node);
	list_append(&b, &items[2].node);
	list_prepend(&a, &items[0].node);
	list_take_all(&a, &b);
	assert_true(list_is_empty(&b));
	for (int i = 0; i < 3; i++)
		assert_int_equal(LIST_ITEM(list_shift(&a), struct item, node)->number, i);
	assert_null(list_shift(&a));
	list_unlink(&items[0].node);
}

static void
errors_have_a_row_each(void **state)
{
	(void)state;
	for (enum err e = ERR_OK; e < ERR_COUNT; e++) {
		assert_true(err_name(e)[0] >= 'a' && err_name(e)[0] <= 'z');
		char class = err_enhanced(e)[0];
		assert_int_equal(class == '4', err_is_temporary(e));
		assert_true(e == ERR_OK ? class == '2' : class == '4' || class == '5');
	}
	assert_string_equal(err_name(ERR_NO_ROOM), "no_room");
	assert_int_equal(err_of_errno(-28), ERR_NO_ROOM);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spans_compare_without_case),
		cmocka_unit_test(numbers_are_digits_that_fit),
		cmocka_unit_test(utf8_is_only_the_shortest_form),
		cmocka_unit_test(an_append_is_whole_or_nothing),
		cmocka_unit_test(appended_numbers_are_those_of_printf),
		cmocka_unit_test(json_is_the_same_wherever_a_byte_stands),
		cmocka_unit_test(json_text_stays_json),
		cmocka_unit_test(an_arena_keeps_its_limit_and_starts_anew),
		cmocka_unit_test(a_pool_gives_no_more_than_its_limit),
		cmocka_unit_test(lists_keep_order),
		cmocka_unit_test(errors_have_a_row_each),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
