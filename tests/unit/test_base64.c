/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/base64.h"

/* RFC 4648 10, and what has all sixty-four characters. */
static const struct {
	struct span bytes;
	struct span text;
} rows[] = {
	{ SPAN(""), SPAN("") },
	{ SPAN("f"), SPAN("Zg==") },
	{ SPAN("fo"), SPAN("Zm8=") },
	{ SPAN("foo"), SPAN("Zm9v") },
	{ SPAN("foob"), SPAN("Zm9vYg==") },
	{ SPAN("fooba"), SPAN("Zm9vYmE=") },
	{ SPAN("foobar"), SPAN("Zm9vYmFy") },
	{ SPAN("\0\x10\x83\x10\x51\x87\x20\x92\x8b\x30\xd3\x8f\x41\x14\x93\x51\x55\x97\x61\x96\x9b"
	       "\x71\xd7\x9f\x82\x18\xa3\x92\x59\xa7\xa2\x9a\xab\xb2\xdb\xaf\xc3\x1c\xb3\xd3\x5d"
	       "\xb7\xe3\x9e\xbb\xf3\xdf\xbf"),
	  SPAN("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") },
};

static void
texts_and_bytes_are_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t memory[64];
		struct buf out = buf_of(memory, BASE64_ENCODED(rows[i].bytes.size));
		assert_true(base64_encode(rows[i].bytes, &out));
		assert_true(span_eq(buf_span(&out), rows[i].text));
		out = buf_of(memory, BASE64_DECODED(rows[i].text.size));
		assert_true(base64_decode(rows[i].text, &out));
		assert_true(span_eq(buf_span(&out), rows[i].bytes));
	}
}

static void
one_text_for_one_sequence_of_bytes(void **state)
{
	static const char *const bad[] = {
		"Z",        "Zg",   "Zg=",   "Zg===", "Z===",     "====",
		"=g==",     "Zm9",  "Zm9v ", " Zm9v", "Zm9v\r\n", "Zg==Zg==",
		"Zm8=Zm9v", "Zh==", "Zm9=",  "Zm-v",  "Zm_v",     "Z\xc3\xa4v",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		uint8_t memory[64];
		struct buf out = buf_of(memory, sizeof memory);
		assert_false(base64_decode(span_of_string(bad[i]), &out));
	}
}

static void
what_does_not_fit_is_told(void **state)
{
	uint8_t memory[5];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	assert_false(base64_encode(SPAN("foob"), &out));
	out = buf_of(memory, sizeof memory);
	assert_false(base64_decode(SPAN("Zm9vYmFy"), &out));
	assert_true(out.overflow);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_and_bytes_are_one),
		cmocka_unit_test(one_text_for_one_sequence_of_bytes),
		cmocka_unit_test(what_does_not_fit_is_told),
	};

	return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
