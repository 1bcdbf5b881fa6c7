/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "core/network.h"

static void
networks_contain_what_their_prefix_says(void **state)
{
	static const struct {
		const char *network;
		const char *address;
		bool contains;
	} rows[] = {
		{ "192.0.2.0/24", "192.0.2.255", true },
		{ "192.0.2.0/24", "192.0.3.0", false },
		{ "192.0.2.128/25", "192.0.2.127", false },
		{ "192.0.2.128/25", "192.0.2.128", true },
		{ "192.0.2.7", "192.0.2.7", true },
		{ "192.0.2.7", "192.0.2.6", false },
		{ "0.0.0.0/0", "203.0.113.1", true },
		{ "0.0.0.0/0", "::1", false },
		{ "::/0", "2001:db8::1", true },
		{ "::/0", "192.0.2.1", false },
		{ "2001:db8::/32", "2001:db8:ffff::1", true },
		{ "2001:db8::/32", "2001:db9::1", false },
		{ "2001:db8::/33", "2001:db8:8000::1", false },
		/* mapped addresses are IPv4 */
		{ "192.0.2.0/24", "::ffff:192.0.2.1", true },
		{ "::ffff:192.0.2.0/120", "192.0.2.1", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct network network;
		struct ip ip;
		assert_true(network_parse(span_of_string(rows[i].network), &network));
		assert_true(ip_parse(span_of_string(rows[i].address), &ip));
		assert_int_equal(network_contains(&network, &ip), rows[i].contains);
	}
}

static void
networks_are_strict_texts(void **state)
{
	static const char *const bad[] = {
		"",
		"/8",
		"10.0.0.0/",
		"10.0.0.0/33",
		"10.0.0.0/-1",
		"10.0.0.0/8 ",
		"10.0.0.1/8",
		"10.0.0/8",
		"2001:db8::/129",
		"2001:db8::1/64",
		"example.org",
		"[::1]",
		"::1%lo",
		"10.0.0.0/0008",
		"010.0.0.1",
	};
	static const char *const good[][2] = {
		{ "10.0.0.0/8", "10.0.0.0/8" },
		{ "10.0.0.1/32", "10.0.0.1" },
		{ "2001:DB8:0::/32", "2001:db8::/32" },
		{ "::1", "::1" },
		{ "0.0.0.0/0", "0.0.0.0/0" },
		{ "::/0", "::/0" },
		{ "::ffff:10.0.0.0/104", "10.0.0.0/8" },
	};
	struct network network;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(network_parse(span_of_string(bad[i]), &network));
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		char memory[100];
		struct buf out = buf_of(memory, sizeof memory);
		assert_true(network_parse(span_of_string(good[i][0]), &network));
		assert_true(network_show(&network, &out));
		assert_true(span_eq(buf_span(&out), span_of_string(good[i][1])));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(networks_contain_what_their_prefix_says),
		cmocka_unit_test(networks_are_strict_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
