/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue dns core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "relay/flow/slots.h"

static void
test_what_is_recalled_is_not_opened_again(void **state)
{
	static const struct {
		unsigned held;
		unsigned recalled_to; /* 0: no recall */
		unsigned usable;
	} rows[] = {
		{ 0, 0, 0 },    { 20, 0, 20 },  { 20, 10, 10 },
		{ 11, 10, 10 }, { 10, 10, 10 }, { 4, 10, 4 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct slot_letter letter = { .number = rows[i].recalled_to };
		const struct slots s = {
			.held = rows[i].held,
			.recall = rows[i].recalled_to > 0 ? &letter : NULL,
		};
		assert_int_equal(slots_usable(&s), rows[i].usable);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_recalled_is_not_opened_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
