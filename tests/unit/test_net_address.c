/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "core/base/net_address.h"

static struct net_address
parsed(const char *text)
{
	struct net_address a;

	if (!net_address_parse(span_of_string(text), &a))
		fail_msg("%s does not parse", text);
	return a;
}

static void
what_is_read_is_shown_again(void **state)
{
	static const struct {
		const char *text;
		const char *shown; /* NULL: the same */
		const char *ip;
	} rows[] = {
		{ "192.0.2.1:25", NULL, "192.0.2.1" },
		{ "0.0.0.0:0", NULL, "0.0.0.0" },
		{ "[2001:db8::1]:65535", NULL, "2001:db8::1" },
		{ "[2001:DB8:0:0::1]:25", "[2001:db8::1]:25", "2001:db8::1" },
		{ "[::]:25", NULL, "::" },
		{ "[::ffff:192.0.2.1]:25", "192.0.2.1:25", "192.0.2.1" },
		{ "unix:/run/a b.sock", NULL, "unix" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *shown = rows[i].shown == NULL ? rows[i].text : rows[i].shown;
		struct net_address a = parsed(rows[i].text);
		struct net_address b = parsed(rows[i].text);
		uint8_t memory[160];
		struct buf out = buf_of(memory, sizeof memory);

		net_address_show(&a, &out);
		assert_true(span_eq(buf_span(&out), span_of_string(shown)));
		buf_reset(&out);
		net_address_show_ip(&a, &out);
		assert_true(span_eq(buf_span(&out), span_of_string(rows[i].ip)));
		assert_true(net_address_eq(&a, &b));
	}
}

static void
what_is_no_address_does_not_parse(void **state)
{
	static const char *const rows[] = {
		"",
		"25",
		":25",
		"192.0.2.1",
		"192.0.2.1:",
		"192.0.2.1:65536",
		"192.0.2.1:000025",
		"192.0.2.1:-1",
		"192.0.2.1:25 ",
		"192.0.2:25",
		"192.0.2.256:25",
		"mail.example.org:25",
		"[2001:db8::1]",
		"[2001:db8::1]25",
		"[2001:db8::1",
		"[]:25",
		"[192.0.2.1]:25",
		"[fe80::1%eth0]:25",
		"2001:db8::1:25",
		"unix:",
		"unix:relative",
	};
	char path[128] = "unix:/";
	struct net_address a;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (net_address_parse(span_of_string(rows[i]), &a))
			fail_msg("\"%s\" parses", rows[i]);
	assert_false(net_address_parse(SPAN("192.0.2.1\0:25"), &a));
	assert_false(net_address_parse(SPAN("unix:/a\0b"), &a));
	/* A path of 107 bytes fits before its NUL, one of 108 does not. */
	memset(path + 6, 'p', 107);
	assert_true(net_address_parse(span_of(path, 5 + 107), &a));
	assert_false(net_address_parse(span_of(path, 5 + 108), &a));
}

static uint64_t
hash(const char *text, uint64_t seed)
{
	struct net_address a = parsed(text);
	return net_address_hash_ip(&a, seed);
}

static void
a_hash_is_of_the_client_and_not_of_its_port(void **state)
{
	(void)state;
	assert_true(hash("192.0.2.1:25", 7) == hash("192.0.2.1:26", 7));
	assert_true(hash("192.0.2.1:25", 7) == hash("[::ffff:192.0.2.1]:25", 7));
	assert_true(hash("192.0.2.1:25", 7) != hash("192.0.2.2:25", 7));
	assert_true(hash("192.0.2.1:25", 7) != hash("192.0.2.1:25", 8));
	assert_true(hash("[2001:db8::1]:25", 7) == hash("[2001:db8::2:3:4]:25", 7));
	assert_true(hash("[2001:db8::1]:25", 7) != hash("[2001:db8:0:1::1]:25", 7));
	/* The same bytes in another family. */
	assert_true(hash("32.1.13.184:25", 7) != hash("[2001:db8::1]:25", 7));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read_is_shown_again),
		cmocka_unit_test(what_is_no_address_does_not_parse),
		cmocka_unit_test(a_hash_is_of_the_client_and_not_of_its_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
