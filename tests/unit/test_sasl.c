/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "relay/smtp/sasl.h"

static void
mechanisms_have_names(void **state)
{
	(void)state;
	for (enum sasl_mechanism m = 0; m < SASL_MECHANISM_COUNT; m++)
		assert_int_equal(sasl_find(sasl_name(m)), m);
	assert_int_equal(sasl_find(SPAN("scram-sha-256")), SASL_SCRAM_SHA_256);
	assert_int_equal(sasl_find(SPAN("SCRAM-SHA-256-PLUS")), SASL_MECHANISM_COUNT);
	assert_int_equal(sasl_find(SPAN("")), SASL_MECHANISM_COUNT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mechanisms_have_names),
	};

	return cmocka_run_group_tests_name("sasl", tests, NULL, NULL);
}
