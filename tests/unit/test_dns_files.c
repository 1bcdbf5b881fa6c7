/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses dns core machine */
/* hosts(5) and resolv.conf(5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "dns/hosts_file.h"
#include "dns/resolv_conf.h"
#include "dns/text.h"

enum { MAX = 3 };

static void
check(const struct net_address *found, unsigned count, const char *expected)
{
	uint8_t memory[512];
	struct buf out = buf_of(memory, sizeof memory);

	for (unsigned i = 0; i < count; i++) {
		buf_append_string(&out, i == 0 ? "" : " ");
		net_address_show(&found[i], &out);
	}
	if (!span_eq(buf_span(&out), span_of_string(expected)))
		fail_msg("%.*s instead of %s", (int)out.size, (char *)memory, expected);
}

static const char hosts[] = "127.0.0.1\tlocalhost\n"
			    "# 192.0.2.9 redis\n"
			    "\n"
			    "192.0.2.1 redis redis.example.org # redis2\r\n"
			    "nonsense redis\n"
			    "2001:db8::1 REDIS\n"
			    "192.0.2.2\n"
			    "192.0.2.3 one two three\n"
			    "192.0.2.4 three\n"
			    "192.0.2.5 three\n"
			    "192.0.2.6 three\n"
			    "fe80::1%eth0 zone\n"
			    "192.0.2.7 last";

static void
names_are_found_in_a_hosts_file(void **state)
{
	static const struct {
		const char *name;
		const char *found;
	} rows[] = {
		{ "localhost", "127.0.0.1:24" },
		{ "redis", "192.0.2.1:24 [2001:db8::1]:24" },
		{ "Redis.Example.ORG", "192.0.2.1:24" },
		{ "redis2", "" },
		{ "red", "" },
		{ "192.0.2.2", "" },
		{ "three", "192.0.2.3:24 192.0.2.4:24 192.0.2.5:24" },
		{ "zone", "" },
		{ "last", "192.0.2.7:24" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct net_address found[MAX];
		unsigned count = hosts_file_find(span_of_string(hosts),
						 span_of_string(rows[i].name), 24, found, MAX);
		check(found, count, rows[i].found);
	}
}

static void
a_hosts_file_may_end_anywhere(void **state)
{
	(void)state;
	for (size_t size = 0; size < sizeof hosts; size++) {
		struct net_address found[MAX];
		char *copy = malloc(size + !size);
		memcpy(copy, hosts, size);
		unsigned count =
			hosts_file_find(span_of(copy, size), SPAN("redis"), 24, found, MAX);
		assert_true(count <= 2);
		free(copy);
	}
}

static void
name_servers_are_read(void **state)
{
	static const struct {
		const char *text;
		const char *found;
	} rows[] = {
		{ "", "" },
		{ "nameserver 192.0.2.53", "192.0.2.53:53" },
		{ "search example.org\nnameserver\t192.0.2.53\r\n  nameserver 2001:db8::53 # x\n"
		  "options edns0\n",
		  "192.0.2.53:53 [2001:db8::53]:53" },
		{ "#nameserver 192.0.2.53\n;nameserver 192.0.2.54\nnameserver\n", "" },
		{ "nameserver fe80::1%eth0\nnameserver nowhere\nnameservers 192.0.2.1\n", "" },
		{ "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
		  "nameserver 192.0.2.4\n",
		  "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct net_address found[MAX];
		unsigned count = resolv_conf_servers(span_of_string(rows[i].text), found, MAX);
		check(found, count, rows[i].found);
	}
}

static void
addresses_are_numbers(void **state)
{
	static const struct {
		const char *text;
		const char *shown; /* NULL: no address */
	} rows[] = {
		{ "192.0.2.1", "192.0.2.1:25" },
		{ "2001:db8::1", "[2001:db8::1]:25" },
		{ "[2001:db8::1]", "[2001:db8::1]:25" },
		{ "[192.0.2.1]", NULL },
		{ "[[::1]]", NULL },
		{ "[]", NULL },
		{ "", NULL },
		{ "192.0.2", NULL },
		{ "192.0.2.1:25", NULL },
		{ "unix:/run/x", NULL },
		{ "redis", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct net_address a;
		bool good = text_ip(span_of_string(rows[i].text), 25, &a);
		assert_int_equal(good, rows[i].shown != NULL);
		if (good)
			check(&a, 1, rows[i].shown);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_found_in_a_hosts_file),
		cmocka_unit_test(a_hosts_file_may_end_anywhere),
		cmocka_unit_test(name_servers_are_read),
		cmocka_unit_test(addresses_are_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
