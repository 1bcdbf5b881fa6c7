/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
#include "relay/smtp/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TEXT_(s)                 \
	{                        \
		s, sizeof(s) - 1 \
	}

struct row {
	struct {
		const char *data;
		size_t size;
	} header;
	enum proxy_result result;
	const char *client; /* TOLD */
	const char *server;
};

#define ROW(text, ...)                   \
	{                                \
		TEXT_(text), __VA_ARGS__ \
	}

static const struct row rows[] = {
	ROW("PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\r\n", PROXY_TOLD, "192.0.2.1:40000",
	    "198.51.100.2:25"),
	ROW("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", PROXY_TOLD, "[2001:db8::1]:1",
	    "[2001:db8::2]:65535"),
	ROW("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	    PROXY_TOLD, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
	    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
	ROW("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 0 0\r\n", PROXY_TOLD, "192.0.2.1:0",
	    "192.0.2.2:0"),
	ROW("PROXY UNKNOWN\r\n", PROXY_LOCAL, NULL, NULL),
	ROW("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", PROXY_LOCAL, NULL,
	    NULL),
	ROW("PROXY TCP4 192.0.2.1 198.51.100.2 40000 65536\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2.1 198.51.100.2 040 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2.1 198.51.100.2 40000 25 \r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2.1 198.51.100.2 40000\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4  192.0.2.1 198.51.100.2 40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2.1 2001:db8::1 40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP6 192.0.2.1 198.51.100.2 40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2 198.51.100.2 40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2.1:9 198.51.100.2 40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP6 fe80::1%eth0 fe80::2 40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY UDP4 192.0.2.1 198.51.100.2 40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY \r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY TCP4 192.0.2.1 198.51.100.2\r40000 25\r\n", PROXY_BAD, NULL, NULL),
	ROW("PROXY UNKNOWN\n\r\n", PROXY_BAD, NULL, NULL),
	ROW("proxy UNKNOWN\r\n", PROXY_BAD, NULL, NULL),
	ROW("EHLO client.example\r\n", PROXY_BAD, NULL, NULL),
	ROW("\x16\x03\x01\x02\x00", PROXY_BAD, NULL, NULL),
	ROW(SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x00\x19",
	    PROXY_TOLD, "192.0.2.1:40000", "198.51.100.2:25"),
	/* With TLVs behind the addresses. */
	ROW(SIGNATURE "\x21\x11\x00\x11\xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x00\x19"
		      "\x04\x00\x02\x00\x00",
	    PROXY_TOLD, "192.0.2.1:40000", "198.51.100.2:25"),
	ROW(SIGNATURE "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
		      "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x9c\x40\x02\x4b",
	    PROXY_TOLD, "[2001:db8::1]:40000", "[2001:db8::2]:587"),
	ROW(SIGNATURE "\x20\x00\x00\x00", PROXY_LOCAL, NULL, NULL),
	/* LOCAL with addresses, which do not count. */
	ROW(SIGNATURE "\x20\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x00\x19",
	    PROXY_LOCAL, NULL, NULL),
	ROW(SIGNATURE "\x21\x00\x00\x03\x01\x02\x03", PROXY_LOCAL, NULL, NULL), /* UNSPEC */
	ROW(SIGNATURE "\x21\x12\x00\x02\x01\x02", PROXY_LOCAL, NULL, NULL),     /* UDP */
	ROW(SIGNATURE "\x21\x11\x00\x0b\xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x00", PROXY_BAD,
	    NULL, NULL),
	ROW(SIGNATURE "\x21\x21\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x00\x19", PROXY_BAD,
	    NULL, NULL),
	ROW(SIGNATURE "\x31\x11\x00\x0c", PROXY_BAD, NULL, NULL), /* version 3 */
	ROW(SIGNATURE "\x22\x11\x00\x0c", PROXY_BAD, NULL, NULL),
	ROW(SIGNATURE "\x21\x11\x0f\xf1", PROXY_BAD, NULL, NULL), /* 4097 bytes */
	ROW("\r\n\r\n\0\r\nQUIX\n", PROXY_BAD, NULL, NULL),
};

/* Of exact size on the heap, so that a sanitizer sees what is read behind it. */
static enum proxy_result
read_copy(struct span in, struct proxy *out)
{
	uint8_t *copy = malloc(in.size + (in.size == 0));

	assert_non_null(copy);
	if (in.size > 0)
		memcpy(copy, in.data, in.size);
	enum proxy_result result = proxy_read(span_of(copy, in.size), out);
	free(copy);
	return result;
}

static void
assert_address(const struct net_address *a, const char *text)
{
	uint8_t memory[96];
	struct buf shown = buf_of(memory, sizeof memory);

	net_address_show(a, &shown);
	assert_true(span_eq(buf_span(&shown), span_of_string(text)));
}

static void
check(const struct row *r, struct span whole, size_t header_size)
{
	struct proxy p;

	assert_int_equal(read_copy(whole, &p), r->result);
	assert_int_equal(p.size, r->result == PROXY_BAD ? p.size : header_size);
	assert_int_equal(p.why != NULL, r->result == PROXY_BAD);
	if (r->result == PROXY_TOLD) {
		assert_address(&p.client, r->client);
		assert_address(&p.server, r->server);
	}
}

static void
headers_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		check(&rows[i], span_of(rows[i].header.data, rows[i].header.size),
		      rows[i].header.size);
}

/* Every prefix of a good header asks for more, one of a bad one does so until it is bad for good.
 */
static void
headers_are_read_at_every_cut(void **state)
{
	struct proxy p;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct span whole = span_of(rows[i].header.data, rows[i].header.size);
		bool was_bad = false;
		for (size_t cut = 0; cut < whole.size; cut++) {
			enum proxy_result result = read_copy(span_first(whole, cut), &p);
			if (rows[i].result != PROXY_BAD)
				assert_int_equal(result, PROXY_MORE);
			assert_true(result == PROXY_MORE || result == PROXY_BAD);
			assert_false(was_bad && result != PROXY_BAD);
			was_bad = result == PROXY_BAD;
		}
	}
}

static void
what_follows_is_not_looked_at(void **state)
{
	uint8_t memory[512];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct buf text = buf_of(memory, sizeof memory);
		if (rows[i].result == PROXY_BAD)
			continue;
		buf_append(&text, span_of(rows[i].header.data, rows[i].header.size));
		buf_append(&text, SPAN("EHLO client.example\r\n\0PROXY UNKNOWN\r\n"));
		check(&rows[i], buf_span(&text), rows[i].header.size);
	}
}

static void
a_line_has_107_bytes_at_most(void **state)
{
	uint8_t memory[PROXY_TEXT_MAX + 2];
	struct proxy p;

	(void)state;
	memset(memory, 'x', sizeof memory);
	memcpy(memory, "PROXY UNKNOWN ", 14);
	memory[PROXY_TEXT_MAX - 2] = '\r';
	memory[PROXY_TEXT_MAX - 1] = '\n';
	assert_int_equal(read_copy(span_of(memory, PROXY_TEXT_MAX), &p), PROXY_LOCAL);
	assert_int_equal(p.size, PROXY_TEXT_MAX);
	memory[PROXY_TEXT_MAX - 2] = 'x';
	memory[PROXY_TEXT_MAX - 1] = '\r';
	memory[PROXY_TEXT_MAX] = '\n';
	assert_int_equal(read_copy(span_of(memory, PROXY_TEXT_MAX + 1), &p), PROXY_BAD);
	memory[PROXY_TEXT_MAX - 1] = 'x';
	assert_int_equal(read_copy(span_of(memory, PROXY_TEXT_MAX - 1), &p), PROXY_BAD);
	assert_int_equal(read_copy(span_of(memory, PROXY_TEXT_MAX - 2), &p), PROXY_MORE);
}

static void
a_header_has_4096_bytes_at_most(void **state)
{
	static uint8_t memory[PROXY_HEADER_MAX];
	struct proxy p;

	(void)state;
	memcpy(memory, SIGNATURE "\x20\x00\x0f\xf0", 16);
	assert_int_equal(read_copy(span_of(memory, PROXY_HEADER_MAX - 1), &p), PROXY_MORE);
	assert_int_equal(read_copy(span_of(memory, PROXY_HEADER_MAX), &p), PROXY_LOCAL);
	assert_int_equal(p.size, PROXY_HEADER_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_are_read),
		cmocka_unit_test(headers_are_read_at_every_cut),
		cmocka_unit_test(what_follows_is_not_looked_at),
		cmocka_unit_test(a_line_has_107_bytes_at_most),
		cmocka_unit_test(a_header_has_4096_bytes_at_most),
	};

	return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}
