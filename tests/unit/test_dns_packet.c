/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses dns core machine */
/* Names as text, and answers in wire format: whole, cut at every byte, with every byte changed, and
 * made to last. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "dns/name.h"
#include "dns/packet.h"

#define X10 "xxxxxxxxxx"
#define L63 X10 X10 X10 X10 X10 X10 "xxx"
#define L61 X10 X10 X10 X10 X10 X10 "x"

static struct packet packet;

/* ---- names ---- */

static const struct {
	const char *text;
	const char *normal; /* NULL: no name */
} names[] = {
	{ "example.org", "example.org" },
	{ "EXAMPLE.Org.", "example.org" },
	{ "_25._tcp.mx1.example.org", "_25._tcp.mx1.example.org" },
	{ "0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa" },
	{ "org", "org" },
	{ L63 ".org", L63 ".org" },
	{ L63 "." L63 "." L63 "." L61, L63 "." L63 "." L63 "." L61 },
	{ L63 "." L63 "." L63 "." L61 ".", L63 "." L63 "." L63 "." L61 },
	{ "", NULL },
	{ ".", NULL },
	{ "..", NULL },
	{ ".example.org", NULL },
	{ "example..org", NULL },
	{ "example.org..", NULL },
	{ L63 "x.org", NULL },
	{ L63 "." L63 "." L63 "." L61 "x", NULL },
	{ "exa mple.org", NULL },
	{ "exa\\046mple.org", "exa\\046mple.org" },
	{ "a\\032b.\\195\\188.org", "a\\032b.\\195\\188.org" },
	{ "exa\\109ple.org", NULL }, /* has another form */
	{ "exa\\256ple.org", NULL },
	{ "exa\\04.org", NULL },
	{ "exa\\", NULL },
	{ "\\", NULL },
	{ "b\xc3\xbc"
	  "cher.example",
	  NULL },
	{ "a\x7f.org", NULL },
};

static void
names_have_one_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char out[DNS_NAME_MAX + 1];
		size_t size = name_normalize(span_of_string(names[i].text), out);
		if (names[i].normal == NULL)
			assert_int_equal(size, 0);
		else
			assert_string_equal(out, names[i].normal);
		assert_int_equal(size, strlen(out));
	}
}

static void
names_of_any_bytes(void **state)
{
	static const struct {
		struct span bytes;
		const char *name; /* "": none */
	} rows[] = {
		{ { (const uint8_t *)"A b.\x00\xff\\.org.", 12 }, "a\\032b.\\000\\255\\092.org" },
		{ { (const uint8_t *)"a..b", 4 }, "" },
		{ { (const uint8_t *)"", 0 }, "" },
		{ { (const uint8_t *)"." L63, 64 }, "" },
		{ { (const uint8_t *)" " L63 ".a", 66 }, "" },
		{ { (const uint8_t *)" " L61 ".a", 64 }, "\\032" L61 ".a" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char out[DNS_NAME_MAX + 1];
		char again[DNS_NAME_MAX + 1];
		size_t size = name_of_bytes(rows[i].bytes, out);

		assert_string_equal(out, rows[i].name);
		assert_int_equal(size, strlen(rows[i].name));
		assert_int_equal(name_normalize(span_of(out, size), again), size);
		assert_string_equal(again, rows[i].name);
	}
}

static void
addresses_have_reverse_names(void **state)
{
	static const struct {
		const char *address;
		const char *name;
	} rows[] = {
		{ "192.0.2.17:25", "17.2.0.192.in-addr.arpa" },
		{ "[::ffff:192.0.2.17]:25", "17.2.0.192.in-addr.arpa" },
		{ "[2001:db8::25]:25", "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0."
				       "1.0.0.2.ip6.arpa" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct net_address a;
		char memory[DNS_NAME_MAX];
		struct buf out = buf_of(memory, sizeof memory);
		assert_true(net_address_parse(span_of_string(rows[i].address), &a));
		assert_true(name_of_address(&a, &out));
		assert_true(span_eq(buf_span(&out), span_of_string(rows[i].name)));
	}
}

/* ---- packets ---- */

#define HEADER(rcode, answers, authority) \
	"\x12\x34\x81" rcode "\x00\x01\x00" answers "\x00" authority "\x00\x00"
/* At offset 12: a.test of 8 bytes, then type and class. */
#define QUESTION(type) \
	"\x01"         \
	"a"            \
	"\x04"         \
	"test"         \
	"\x00"         \
	"\x00" type "\x00\x01"
#define A_TEST                     "\xc0\x0c"
#define TEST                       "\xc0\x0e"
#define RR(owner, type, ttl, size) owner "\x00" type "\x00\x01\x00\x00\x00" ttl "\x00" size

#define WHOLE(literal) literal, sizeof(literal) - 1

/* What is expected: "name|ttl|record record ...", or NULL where the packet is refused. */
static const struct {
	const char *story;
	enum dns_type type;
	const char *bytes;
	size_t size;
	const char *shown;
} packets[] = {
	{ "one address", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01")
			RR(A_TEST, "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01"),
	  "a.test|60|192.0.2.1:0" },
	{ "two addresses, the least TTL", DNS_A,
	  WHOLE(HEADER("\x80", "\x02", "\x00") QUESTION("\x01")
			RR(A_TEST, "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01" RR(
				A_TEST, "\x01", "\x0a", "\x04") "\xc0\x00\x02\x02"),
	  "a.test|10|192.0.2.1:0 192.0.2.2:0" },
	{ "IPv6", DNS_AAAA,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x1c") RR(
		  A_TEST, "\x1c", "\x3c",
		  "\x10") "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"),
	  "a.test|60|[2001:db8::1]:0" },
	{ "owner in upper case", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01")
			RR("\x01"
			   "A"
			   "\x04"
			   "TesT"
			   "\x00",
			   "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01"),
	  "a.test|60|192.0.2.1:0" },
	{ "records of others are left out", DNS_A,
	  WHOLE(HEADER("\x80", "\x03", "\x00") QUESTION("\x01")
			RR(TEST, "\x01", "\x01", "\x04") "\xc0\x00\x02\x63" RR(
				A_TEST, "\x10", "\x01",
				"\x02") "\x01x" RR(A_TEST, "\x01", "\x3c",
						   "\x04") "\xc0\x00\x02\x01"),
	  "a.test|60|192.0.2.1:0" },
	{ "MX with compression and null MX", DNS_MX,
	  WHOLE(HEADER("\x80", "\x03", "\x00") QUESTION("\x0f") RR(
		  A_TEST, "\x0f", "\x3c",
		  "\x07") "\x00\x0a\x02"
			  "mX" TEST RR(A_TEST, "\x0f", "\x3c", "\x04") "\x01\x00" A_TEST RR(
				  A_TEST, "\x0f", "\x3c", "\x03") "\x00\x00\x00"),
	  "a.test|60|10:mx.test 256:a.test 0:" },
	{ "a chain of CNAMEs that stand the wrong way round", DNS_A,
	  WHOLE(HEADER("\x80", "\x03", "\x00") QUESTION("\x01")
			RR("\x01"
			   "c" TEST,
			   "\x01", "\x3c",
			   "\x04") "\xc0\x00\x02\x01" RR("\x01"
							 "b" TEST,
							 "\x05", "\x05",
							 "\x04") "\x01"
								 "c" TEST RR(A_TEST, "\x05", "\x3c",
									     "\x04") "\x01"
										     "b" TEST),
	  "c.test|5|192.0.2.1:0" },
	{ "a CNAME to itself", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01") RR(A_TEST, "\x05", "\x3c", "\x02")
			A_TEST),
	  "a.test|60|" },
	{ "a CNAME asked for", DNS_CNAME,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x05")
			RR(A_TEST, "\x05", "\x3c", "\x04") "\x01"
							   "b" TEST),
	  "a.test|60|b.test" },
	{ "PTR", DNS_PTR,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x0c")
			RR(A_TEST, "\x0c", "\x3c", "\x04") "\x01"
							   "b" TEST),
	  "a.test|60|b.test" },
	{ "TXT of three strings, one empty", DNS_TXT,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x10")
			RR(A_TEST, "\x10", "\x3c", "\x09") "\x05"
							   "v=spf"
							   "\x00"
							   "\x01"
							   "1"),
	  "a.test|60|v=spf1" },
	{ "TLSA", DNS_TLSA,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x34")
			RR(A_TEST, "\x34", "\x3c", "\x05") "\x03\x01\x01"
							   "xy"),
	  "a.test|60|\x03\x01\x01"
	  "xy" },
	{ "a TLSA that is too short to be one", DNS_TLSA,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x34")
			RR(A_TEST, "\x34", "\x3c", "\x01") "\x03"),
	  "a.test|60|\x03" },
	{ "no data: the SOA's TTL", DNS_A,
	  WHOLE(HEADER("\x80", "\x00", "\x01") QUESTION("\x01") RR(TEST, "\x06", "\x07", "\x18")
			TEST TEST "\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\x1e"),
	  "a.test|7|" },
	{ "no such name: the SOA's minimum", DNS_A,
	  WHOLE(HEADER("\x83", "\x00", "\x01") QUESTION("\x01") RR(TEST, "\x06", "\x3c", "\x18")
			TEST TEST "\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\x1e"),
	  "a.test|30|" },
	{ "nothing at all", DNS_A, WHOLE(HEADER("\x80", "\x00", "\x00") QUESTION("\x01")),
	  "a.test|-|" },
	{ "odd bytes in a name cannot be asked for", DNS_MX,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x0f")
			RR(A_TEST, "\x0f", "\x3c", "\x09") "\x00\x0a\x04"
							   "a.\\\x01" TEST),
	  "a.test|60|10:a\\046\\092\\001.test" },
	{ "a negative TTL is none", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01") A_TEST
		"\x00\x01\x00\x01\xff\xff\xff\xff\x00\x04\xc0\x00\x02\x01"),
	  "a.test|0|192.0.2.1:0" },
	/* Refused. */
	{ "an address of three bytes", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01")
			RR(A_TEST, "\x01", "\x3c", "\x03") "\xc0\x00\x02"),
	  NULL },
	{ "no question", DNS_A, WHOLE("\x12\x34\x81\x80\x00\x00\x00\x00\x00\x00\x00\x00"), NULL },
	{ "a pointer forward", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01")
			RR("\xc0\x30", "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01"),
	  NULL },
	{ "a pointer to itself", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01")
			RR("\xc0\x18", "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01"),
	  NULL },
	{ "a loop of a label and a pointer", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01")
			RR("\x01"
			   "b\xc0\x18",
			   "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01"),
	  NULL },
	{ "a label type that does not exist", DNS_A,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x01")
			RR("\x41"
			   "b",
			   "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01"),
	  NULL },
	{ "data behind the name of an MX", DNS_MX,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x0f")
			RR(A_TEST, "\x0f", "\x3c", "\x08") "\x00\x0a\x02"
							   "mx" TEST "x"),
	  NULL },
	{ "a string longer than its record", DNS_TXT,
	  WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x10")
			RR(A_TEST, "\x10", "\x3c", "\x03") "\x05"
							   "ab"),
	  NULL },
	{ "more records than there are", DNS_A,
	  WHOLE(HEADER("\x80", "\x02", "\x00") QUESTION("\x01")
			RR(A_TEST, "\x01", "\x3c", "\x04") "\xc0\x00\x02\x01"),
	  NULL },
};

enum { PACKETS = sizeof packets / sizeof packets[0] };

static void
show(const struct packet *p, enum dns_type type, struct buf *out)
{
	buf_append(out, p->name);
	if (p->has_ttl)
		buf_printf(out, "|%u|", (unsigned)p->ttl_s);
	else
		buf_append_string(out, "|-|");
	for (unsigned i = 0; i < p->count; i++) {
		buf_append_string(out, i == 0 ? "" : " ");
		net_address_show(&p->records[i].address, out);
		if (type == DNS_MX)
			buf_printf(out, "%u:", (unsigned)p->records[i].preference);
		buf_append(out, p->records[i].name);
		buf_append(out, p->records[i].data);
	}
}

static void
packets_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < PACKETS; i++) {
		char memory[1024];
		struct buf out = buf_of(memory, sizeof memory);
		struct span in = span_of(packets[i].bytes, packets[i].size);
		bool good = packet_parse(in, SPAN("a.test"), packets[i].type, &packet);

		if (good)
			show(&packet, packets[i].type, &out);
		if (good != (packets[i].shown != NULL) ||
		    (good && !span_eq(buf_span(&out), span_of_string(packets[i].shown))))
			fail_msg("%s: %.*s", packets[i].story, (int)out.size, memory);
	}
}

/* What is cut is refused, and nothing behind the cut is looked at: the copy ends where it ends. */
static void
cut_packets_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < PACKETS; i++) {
		for (size_t size = 0; size < packets[i].size; size++) {
			uint8_t *copy = malloc(size + !size);
			memcpy(copy, packets[i].bytes, size);
			assert_false(packet_parse(span_of(copy, size), SPAN("a.test"),
						  packets[i].type, &packet));
			free(copy);
		}
	}
}

static void
changed_packets_do_no_harm(void **state)
{
	(void)state;
	for (size_t i = 0; i < PACKETS; i++) {
		uint8_t *copy = malloc(packets[i].size);
		memcpy(copy, packets[i].bytes, packets[i].size);
		for (size_t at = 0; at < packets[i].size; at++) {
			for (unsigned value = 0; value < 256; value++) {
				copy[at] = (uint8_t)value;
				packet_parse(span_of(copy, packets[i].size), SPAN("a.test"),
					     packets[i].type, &packet);
				assert_true(packet.count <= DNS_RECORDS_MAX);
			}
			copy[at] = (uint8_t)packets[i].bytes[at];
		}
		free(copy);
	}
}

/* ---- the limits ---- */

static uint8_t large[65535];

static size_t
put(size_t at, const char *bytes, size_t size)
{
	assert_true(at + size <= sizeof large);
	memcpy(large + at, bytes, size);
	return at + size;
}

static void
records_beyond_the_limit_are_left_out(void **state)
{
	size_t at = put(0, WHOLE(HEADER("\x80", "\xff", "\x00") QUESTION("\x01")));

	(void)state;
	for (unsigned i = 0; i < DNS_RECORDS_MAX + 1; i++) {
		at = put(at, WHOLE(RR(A_TEST, "\x01", "\x3c", "\x04") "\x0a\x00\x00"));
		large[at++] = (uint8_t)i;
	}
	large[6] = 1;
	large[7] = 0;
	assert_true(packet_parse(span_of(large, at), SPAN("a.test"), DNS_A, &packet));
	assert_int_equal(packet.count, DNS_RECORDS_MAX);
	assert_false(packet.is_cut);
	large[7] = 1;
	assert_true(packet_parse(span_of(large, at), SPAN("a.test"), DNS_A, &packet));
	assert_int_equal(packet.count, DNS_RECORDS_MAX);
	assert_true(packet.is_cut);
}

/* Strings that fill a whole packet, in one record: nothing of it is lost. */
static void
the_longest_strings_fit(void **state)
{
	size_t at = put(0, WHOLE(HEADER("\x80", "\x01", "\x00") QUESTION("\x10")));
	size_t begin = put(at, WHOLE(A_TEST "\x00\x10\x00\x01\x00\x00\x00\x3c\xff\xff"));
	size_t strings = 0;

	(void)state;
	for (at = begin; at + 256 <= sizeof large; at += 256) {
		large[at] = 255;
		memset(large + at + 1, 'x', 255);
		strings++;
	}
	large[begin - 2] = (uint8_t)((at - begin) >> 8);
	large[begin - 1] = (uint8_t)(at - begin);
	assert_true(packet_parse(span_of(large, at), SPAN("a.test"), DNS_TXT, &packet));
	assert_int_equal(packet.count, 1);
	assert_int_equal(packet.records[0].data.size, strings * 255);
	assert_false(packet.is_cut);
}

/* As many of the longest names as are kept, each written once and pointed to by all. */
static void
the_longest_names_fit(void **state)
{
	size_t at = put(0, WHOLE(HEADER("\x80", "\x00", "\x00") QUESTION("\x0c")));

	(void)state;
	large[6] = 1;
	at = put(at, WHOLE(A_TEST "\x00\x0c\x00\x01\x00\x00\x00\x3c\x00\xff"));
	size_t name = at;
	for (unsigned i = 0; i < 4; i++) {
		large[at] = i < 3 ? 63 : 61;
		memset(large + at + 1, 'x', 63);
		at += large[at] + 1u;
	}
	large[at++] = 0;
	assert_int_equal(at - name, 255);
	for (unsigned i = 1; i < DNS_RECORDS_MAX; i++) {
		at = put(at, WHOLE(A_TEST "\x00\x0c\x00\x01\x00\x00\x00\x3c\x00\x02\xc0"));
		large[at++] = (uint8_t)name;
	}
	assert_true(packet_parse(span_of(large, at), SPAN("a.test"), DNS_PTR, &packet));
	assert_int_equal(packet.count, DNS_RECORDS_MAX);
	assert_false(packet.is_cut);
	for (unsigned i = 0; i < packet.count; i++)
		assert_int_equal(packet.records[i].name.size, DNS_NAME_MAX);
}

static void
too_many_records_are_refused(void **state)
{
	size_t at = put(0, WHOLE(HEADER("\x80", "\x00", "\x00") QUESTION("\x01")));

	(void)state;
	large[6] = 0x10; /* 4096 records */
	for (unsigned i = 0; i < 4000; i++)
		at = put(at, WHOLE(RR(A_TEST, "\x01", "\x3c", "\x04") "\x0a\x00\x00\x01"));
	assert_false(packet_parse(span_of(large, at), SPAN("a.test"), DNS_A, &packet));
}

/* Each of 200 CNAMEs leads to the next; the reader follows a few and then says that there is
 * nothing. */
static void
a_long_chain_ends(void **state)
{
	size_t at = put(0, WHOLE(HEADER("\x80", "\xc8", "\x00") QUESTION("\x01")));
	char previous[] = "\x03"
			  "aaa" TEST;
	char next[] = "\x03"
		      "aaa" TEST;

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		if (i == 0)
			at = put(at, WHOLE(A_TEST));
		else
			at = put(at, previous, 6);
		at = put(at, WHOLE("\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06"));
		next[1] = (char)('a' + i / 26);
		next[2] = (char)('a' + i % 26);
		at = put(at, next, 6);
		memcpy(previous, next, sizeof next);
	}
	assert_true(packet_parse(span_of(large, at), SPAN("a.test"), DNS_A, &packet));
	assert_int_equal(packet.count, 0);
	assert_true(span_eq(packet.name, SPAN("aha.test")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_have_one_form),
		cmocka_unit_test(names_of_any_bytes),
		cmocka_unit_test(addresses_have_reverse_names),
		cmocka_unit_test(packets_are_read),
		cmocka_unit_test(cut_packets_are_refused),
		cmocka_unit_test(changed_packets_do_no_harm),
		cmocka_unit_test(records_beyond_the_limit_are_left_out),
		cmocka_unit_test(the_longest_strings_fit),
		cmocka_unit_test(the_longest_names_fit),
		cmocka_unit_test(too_many_records_are_refused),
		cmocka_unit_test(a_long_chain_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
