/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "queue/sender.h"

static void
test_keys(void **state)
{
	static const struct {
		const char *sender;
		const char *key;
	} cases[] = {
		{ "", "" },
		{ "a@b", "a@b" },
		{ "News@Example.ORG", "news@example.org" },
		{ "list+1234-x=y.example@z", "list@z" },
		{ "list+a+b@z", "list@z" },
		{ "+x@z", "+x@z" }, /* nothing in front: it is the name */
		{ "a@b+c", "a@b+c" },
		{ "a+b@c@d+e", "a@d+e" },
		{ "postmaster", "postmaster" },
		{ "\"A+B\"@c", "\"a@c" },
	};
	uint8_t memory[SENDER_KEY_MOST];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct span key = sender_key(span_of_string(cases[i].sender), memory);
		if (!span_eq(key, span_of_string(cases[i].key)))
			fail_msg("%s: %.*s", cases[i].sender, SPAN_ARG(key));
	}
}

static void
test_long_keys_are_cut(void **state)
{
	uint8_t memory[SENDER_KEY_MOST];
	uint8_t text[1000];

	(void)state;
	memset(text, 'X', sizeof text);
	for (size_t at = 0; at < sizeof text; at += 37) {
		text[at] = '@';
		for (size_t size = 0; size <= sizeof text; size += 13) {
			struct span key = sender_key(span_of(text, size), memory);
			assert_int_equal(key.size, size < SENDER_KEY_MOST ? size : SENDER_KEY_MOST);
		}
		text[at] = 'X';
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_long_keys_are_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
