/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/server_address.h"

static void
addresses_are_understood(void **state)
{
	static const struct {
		const char *text;
		const char *host; /* NULL: refused */
		unsigned port;
		const char *address; /* NULL: it is a name */
	} rows[] = {
		{ "redis.example.org:6379", "redis.example.org", 6379, NULL },
		{ "redis:1", "redis", 1, NULL },
		{ "Redis_0.redis-headless:65535", "Redis_0.redis-headless", 65535, NULL },
		{ "192.0.2.1:6379", "192.0.2.1", 6379, "192.0.2.1:6379" },
		{ "[2001:db8::1]:6379", "2001:db8::1", 6379, "[2001:db8::1]:6379" },
		{ "2001:db8::1:6379", "2001:db8::1", 6379, "[2001:db8::1]:6379" },
		{ "unix:/run/redis.sock", "", 0, "unix:/run/redis.sock" },
		{ "redis", NULL, 0, NULL },
		{ "redis:", NULL, 0, NULL },
		{ ":6379", NULL, 0, NULL },
		{ "redis:0", NULL, 0, NULL },
		{ "redis:65536", NULL, 0, NULL },
		{ "redis:6379/1", NULL, 0, NULL },
		{ "redis://redis:6379", NULL, 0, NULL },
		{ "a b:6379", NULL, 0, NULL },
		{ "[::1:6379", NULL, 0, NULL },
		{ "unix:", NULL, 0, NULL },
		{ "", NULL, 0, NULL },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct server_address a;
		uint8_t memory[128];
		struct buf shown = buf_of(memory, sizeof memory);
		if (server_address_parse(span_of_string(rows[i].text), &a) !=
		    (rows[i].host != NULL))
			fail_msg("%s", rows[i].text);
		if (rows[i].host == NULL)
			continue;
		assert_true(span_eq(a.host, span_of_string(rows[i].host)));
		assert_int_equal(a.port, rows[i].port);
		assert_int_equal(a.address.size == 0, rows[i].address == NULL);
		if (rows[i].address == NULL)
			continue;
		net_address_show(&a.address, &shown);
		assert_true(span_eq(buf_span(&shown), span_of_string(rows[i].address)));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(addresses_are_understood) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
