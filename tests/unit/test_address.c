/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/base/buf.h"
#include "relay/smtp/address.h"

#define X10 "xxxxxxxxxx"
#define X60 X10 X10 X10 X10 X10 X10
#define L64 X60 "xxxx"
#define L63 X60 "xxx"
#define L61 X60 "x"

struct row {
	const char *text;
	enum address_error error;
	enum address_kind kind;
	const char *local;
	const char *domain;
};

/* Paths as in MAIL and RCPT with everything allowed. */
static const struct row paths[] = {
	{ "<>", ADDRESS_OK, ADDRESS_NULL, "", "" },
	{ "<a@b>", ADDRESS_OK, ADDRESS_DOMAIN, "a", "b" },
	{ "<alice@example.com>", ADDRESS_OK, ADDRESS_DOMAIN, "alice", "example.com" },
	{ "<a@b> SIZE=1", ADDRESS_OK, ADDRESS_DOMAIN, "a", "b" },
	{ "<a.b.c@x.y.z>", ADDRESS_OK, ADDRESS_DOMAIN, "a.b.c", "x.y.z" },
	{ "<!#$%&'*+-/=?^_`{|}~@b>", ADDRESS_OK, ADDRESS_DOMAIN, "!#$%&'*+-/=?^_`{|}~", "b" },
	{ "<user+tag@example.org>", ADDRESS_OK, ADDRESS_DOMAIN, "user+tag", "example.org" },
	{ "<1@2.3>", ADDRESS_OK, ADDRESS_DOMAIN, "1", "2.3" },
	{ "<a@a-b--c.d>", ADDRESS_OK, ADDRESS_DOMAIN, "a", "a-b--c.d" },
	{ "<a@my_host.example>", ADDRESS_OK, ADDRESS_DOMAIN, "a", "my_host.example" },
	{ "<a@127.0.0.1>", ADDRESS_OK, ADDRESS_DOMAIN, "a", "127.0.0.1" },
	{ "<" L64 "@b>", ADDRESS_OK, ADDRESS_DOMAIN, L64, "b" },
	{ "<a@" L63 ".b>", ADDRESS_OK, ADDRESS_DOMAIN, "a", L63 ".b" },
	/* Quoted strings. */
	{ "<\"a b\"@c>", ADDRESS_OK, ADDRESS_DOMAIN, "\"a b\"", "c" },
	{ "<\"\"@c>", ADDRESS_OK, ADDRESS_DOMAIN, "\"\"", "c" },
	{ "<\"a@b>\"@c>", ADDRESS_OK, ADDRESS_DOMAIN, "\"a@b>\"", "c" },
	{ "<\"a\\\"b\"@c>", ADDRESS_OK, ADDRESS_DOMAIN, "\"a\\\"b\"", "c" },
	{ "<\"a\\\\\"@c>", ADDRESS_OK, ADDRESS_DOMAIN, "\"a\\\\\"", "c" },
	{ "<\"\\\\\xc3\xa4\"@c>", ADDRESS_OK, ADDRESS_DOMAIN, "\"\\\\\xc3\xa4\"", "c" },
	{ "<\"..\"@c>", ADDRESS_OK, ADDRESS_DOMAIN, "\"..\"", "c" },
	{ "<\"a\\\"@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<\"a@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<\"a\tb\"@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<\"a\"b@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a\"b\"@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<\"\\\xc3\xa4\"@c>", ADDRESS_SYNTAX, 0, "", "" },
	/* Local parts that are none. */
	{ "<@b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<.a@b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a.@b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a..b@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a b@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a(b)@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a,b@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a:b@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a\x01@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a\x7f@c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<" L64 "x@b>", ADDRESS_TOO_LONG, 0, "", "" },
	/* Domains that are none. */
	{ "<a@>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@.b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b.>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b..c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@-b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b->", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b-.c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b,c>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@" L64 ">", ADDRESS_TOO_LONG, 0, "", "" },
	{ "<a@" L63 "." L63 "." L63 "." L63 ">", ADDRESS_TOO_LONG, 0, "", "" },
	{ "<" L64 "@" L63 "." L63 "." L61 ">", ADDRESS_OK, ADDRESS_DOMAIN, L64,
	  L63 "." L63 "." L61 },
	{ "<" L64 "@" L63 "." L63 "." L61 "x>", ADDRESS_TOO_LONG, 0, "", "" },
	/* Literals. */
	{ "<a@[1.2.3.4]>", ADDRESS_OK, ADDRESS_IPV4, "a", "[1.2.3.4]" },
	{ "<a@[255.255.255.255]>", ADDRESS_OK, ADDRESS_IPV4, "a", "[255.255.255.255]" },
	{ "<a@[127.000.000.001]>", ADDRESS_OK, ADDRESS_IPV4, "a", "[127.000.000.001]" },
	{ "<a@[IPv6:::]>", ADDRESS_OK, ADDRESS_IPV6, "a", "[IPv6:::]" },
	{ "<a@[IPv6:::1]>", ADDRESS_OK, ADDRESS_IPV6, "a", "[IPv6:::1]" },
	{ "<a@[ipv6:1::]>", ADDRESS_OK, ADDRESS_IPV6, "a", "[ipv6:1::]" },
	{ "<a@[IPv6:1:2:3:4:5:6:7:8]>", ADDRESS_OK, ADDRESS_IPV6, "a", "[IPv6:1:2:3:4:5:6:7:8]" },
	{ "<a@[IPv6:1:2:3:4:5:6:1.2.3.4]>", ADDRESS_OK, ADDRESS_IPV6, "a",
	  "[IPv6:1:2:3:4:5:6:1.2.3.4]" },
	{ "<a@[IPv6:::ffff:1.2.3.4]>", ADDRESS_OK, ADDRESS_IPV6, "a", "[IPv6:::ffff:1.2.3.4]" },
	{ "<a@[IPv6:1:2:3:4:5:6:7::]>", ADDRESS_OK, ADDRESS_IPV6, "a", "[IPv6:1:2:3:4:5:6:7::]" },
	{ "<a@[]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[1.2.3]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[1.2.3.4.5]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[1.2.3.256]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[0001.2.3.4]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[1.2.3.4>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[1.2.3.4]x>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[2001:db8::1]>", ADDRESS_ODD_LITERAL, 0, "", "" },
	{ "<a@[IPv6:]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6::1]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1:]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1:2:3:4:5:6:7]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1:2:3:4:5:6:7:8:9]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1:2:3:4::5:6:7:8]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1::2::3]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1:::2]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:12345::]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:g::]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1.2.3.4]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[IPv6:1:2:3:4:5:6:7:1.2.3.4]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[x400:c=us]>", ADDRESS_ODD_LITERAL, 0, "", "" },
	{ "<a@[tag-:x]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[tag:]>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@[tag:x y]>", ADDRESS_SYNTAX, 0, "", "" },
	/* Source routes are dropped. */
	{ "<@r:a@b>", ADDRESS_OK, ADDRESS_DOMAIN, "a", "b" },
	{ "<@r.x,@s.y:a@b>", ADDRESS_OK, ADDRESS_DOMAIN, "a", "b" },
	{ "<@r,s:a@b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<@r,@s>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<@r:>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<@:a@b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<@r:postmaster>", ADDRESS_SYNTAX, 0, "", "" },
	/* Without a domain. */
	{ "<postmaster>", ADDRESS_OK, ADDRESS_POSTMASTER, "postmaster", "" },
	{ "<PostMaster>", ADDRESS_OK, ADDRESS_POSTMASTER, "PostMaster", "" },
	{ "<root>", ADDRESS_SYNTAX, 0, "", "" },
	/* UTF-8. */
	{ "<\xc3\xa4@b>", ADDRESS_OK, ADDRESS_DOMAIN, "\xc3\xa4", "b" },
	{ "<a@b\xc3\xbc"
	  "cher.example>",
	  ADDRESS_OK, ADDRESS_DOMAIN, "a",
	  "b\xc3\xbc"
	  "cher.example" },
	{ "<\"\xe2\x82\xac \"@b>", ADDRESS_OK, ADDRESS_DOMAIN, "\"\xe2\x82\xac \"", "b" },
	{ "<\xf0\x9f\x93\xae@b>", ADDRESS_OK, ADDRESS_DOMAIN, "\xf0\x9f\x93\xae", "b" },
	{ "<\xe4@b>", ADDRESS_BAD_UTF8, 0, "", "" },
	{ "<a@\xc0\xaf>", ADDRESS_BAD_UTF8, 0, "", "" },
	{ "<\"\xff\"@b>", ADDRESS_BAD_UTF8, 0, "", "" },
	{ "<\xc2\x85@b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@\xc2\x80>", ADDRESS_SYNTAX, 0, "", "" },
	/* Not paths. */
	{ "", ADDRESS_SYNTAX, 0, "", "" },
	{ "<", ADDRESS_SYNTAX, 0, "", "" },
	{ "a@b", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b", ADDRESS_SYNTAX, 0, "", "" },
	{ "< a@b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a@b >", ADDRESS_SYNTAX, 0, "", "" },
	{ "<a @b>", ADDRESS_SYNTAX, 0, "", "" },
	{ "<<a@b>>", ADDRESS_SYNTAX, 0, "", "" },
};

/* A copy of exact size: the address sanitizer sees a look behind it. */
static struct span
copy_of(const char *text)
{
	size_t size = strlen(text);
	uint8_t *copy = malloc(size + (size == 0));

	assert_non_null(copy);
	memcpy(copy, text, size);
	return span_of(copy, size);
}

static void
paths_follow_the_grammar(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		const struct row *row = &paths[i];
		struct span in = copy_of(row->text);
		struct address a;
		size_t used;
		enum address_error error = address_parse_path(
			in, ADDRESS_ALLOW_NULL | ADDRESS_ALLOW_POSTMASTER, &a, &used);
		if (error != row->error)
			fail_msg("%s: error %d, not %d", row->text, error, row->error);
		if (error == ADDRESS_OK) {
			assert_int_equal(a.kind, row->kind);
			assert_true(span_eq(a.local, span_of_string(row->local)));
			assert_true(span_eq(a.domain, span_of_string(row->domain)));
			assert_int_equal(in.data[used - 1], '>');
			assert_int_equal(a.quoted, row->local[0] == '"');
		}
		free((void *)(uintptr_t)in.data);
	}
}

/* What is cut off anywhere is no path: no parser looks beyond its end or accepts half a one. */
static void
cut_paths_are_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		struct address a;
		size_t used;
		if (paths[i].error != ADDRESS_OK)
			continue;
		struct span all = span_of_string(paths[i].text);
		assert_int_equal(address_parse_path(all, 3, &a, &used), ADDRESS_OK);
		for (size_t size = 0; size < used; size++) {
			size_t ignored;
			struct span in = span_first(all, size);
			assert_int_not_equal(address_parse_path(in, 3, &a, &ignored), ADDRESS_OK);
		}
	}
}

static void
literals_have_their_bytes(void **state)
{
	static const struct {
		const char *text;
		enum address_kind kind;
		uint8_t ip[16];
	} rows[] = {
		{ "[192.0.2.7]", ADDRESS_IPV4, { 192, 0, 2, 7 } },
		{ "[IPv6:2001:db8::1:a]",
		  ADDRESS_IPV6,
		  { 0x20, 1, 0xd, 0xb8, [13] = 1, [15] = 10 } },
		{ "[IPv6:::ffff:192.0.2.7]", ADDRESS_IPV6, { [10] = 0xff, 0xff, 192, 0, 2, 7 } },
		{ "[IPv6:1:2:3:4:5:6:7:8]",
		  ADDRESS_IPV6,
		  { 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8 } },
		{ "[IPv6:FE80::]", ADDRESS_IPV6, { 0xfe, 0x80 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t ip[16];
		enum address_kind kind;
		assert_true(address_is_literal(span_of_string(rows[i].text), &kind, ip));
		assert_int_equal(kind, rows[i].kind);
		assert_memory_equal(ip, rows[i].ip, 16);
	}
}

static void
what_is_not_allowed_is_an_error(void **state)
{
	struct address a;
	size_t used;

	(void)state;
	assert_int_equal(address_parse_path(SPAN("<>"), 0, &a, &used), ADDRESS_SYNTAX);
	assert_int_equal(address_parse_path(SPAN("<postmaster>"), ADDRESS_ALLOW_NULL, &a, &used),
			 ADDRESS_SYNTAX);
	assert_int_equal(address_parse_mailbox(SPAN("a@b"), &a), ADDRESS_OK);
	assert_int_equal(address_parse_mailbox(SPAN("a@b "), &a), ADDRESS_SYNTAX);
	assert_int_equal(address_parse_mailbox(SPAN("postmaster"), &a), ADDRESS_SYNTAX);
	assert_false(address_is_domain(SPAN("")));
	assert_false(address_is_domain(SPAN("a.")));
	assert_false(address_is_domain(SPAN("[1.2.3.4]")));
	assert_true(address_is_domain(SPAN("a.example")));
}

static void
spellings_of_one_mailbox_meet(void **state)
{
	static const struct {
		const char *path;
		const char *unquoted;
		bool postmaster;
		bool utf8;
	} rows[] = {
		{ "<bob@x>", "bob", false, false },
		{ "<\"bob\"@x>", "bob", false, false },
		{ "<\"b\\ob\"@x>", "bob", false, false },
		{ "<\"a\\\"b\"@x>", "a\"b", false, false },
		{ "<\"Postmaster\"@x>", "Postmaster", true, false },
		{ "<POSTMASTER@x>", "POSTMASTER", true, false },
		{ "<a@\xc3\xa4.x>", "a", false, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t memory[300];
		struct buf out = buf_of(memory, sizeof memory);
		struct address a;
		size_t used;
		struct span path = span_of_string(rows[i].path);
		assert_int_equal(address_parse_path(path, 0, &a, &used), ADDRESS_OK);
		assert_true(address_unquote(&a, &out));
		assert_true(span_eq(buf_span(&out), span_of_string(rows[i].unquoted)));
		assert_int_equal(address_is_postmaster(&a), rows[i].postmaster);
		assert_int_equal(a.utf8, rows[i].utf8);
		buf_reset(&out);
		assert_true(address_show(&a, &out));
		assert_true(span_eq(buf_span(&out), path));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_follow_the_grammar),
		cmocka_unit_test(cut_paths_are_none),
		cmocka_unit_test(literals_have_their_bytes),
		cmocka_unit_test(what_is_not_allowed_is_an_error),
		cmocka_unit_test(spellings_of_one_mailbox_meet),
	};

	return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
