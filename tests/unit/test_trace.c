/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "relay/message/header.h"
#include "relay/message/trace.h"

static void
the_field_says_what_is_known(void **state)
{
	static const struct {
		const char *hello, *name, *address, *id, *tls, *to;
		unsigned flags;
		const char *text;
	} rows[] = {
		{ "c.example", "", "192.0.2.1", "0abc", "", "a@b", TRACE_ESMTP,
		  "Received: from c.example (unknown [192.0.2.1])\r\n"
		  "\tby mx.example (Ringpost) with ESMTP id 0abc\r\n\tfor <a@b>;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n" },
		{ "[IPv6:2001:db8::1]", "c.example", "2001:db8::1", "0abc", "TLSv1.3 X", "",
		  TRACE_ESMTP | TRACE_TLS | TRACE_AUTH,
		  "Received: from [IPv6:2001:db8::1] (c.example [IPv6:2001:db8::1])\r\n"
		  "\tby mx.example (Ringpost) with ESMTPSA id 0abc\r\n\t(TLSv1.3 X);\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n" },
		{ "laptop.example", "c.example", "192.0.2.1", "0abc", "TLSv1.3 X", "a@b",
		  TRACE_ESMTP | TRACE_TLS | TRACE_AUTH | TRACE_HIDDEN,
		  "Received: from hidden.invalid\r\n"
		  "\tby mx.example (Ringpost) with ESMTPSA id 0abc\r\n\t(TLSv1.3 X)\r\n"
		  "\tfor <a@b>;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n" },
		{ "", "", "", "", "", "", 0,
		  "Received: from unknown (localhost)\r\n"
		  "\tby mx.example (Ringpost) with SMTP;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n" },
		{ "a b(c)\r\nX: y\\", "n)\n", "192.0.2.1", "", "a)b", "\"a b\"@c", 0,
		  "Received: from a?b?c???X:?y? (n?? [192.0.2.1])\r\n"
		  "\tby mx.example (Ringpost) with SMTP\r\n\t(a?b)\r\n\tfor <\"a b\"@c>;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n" },
		{ "gr\xc3\xbc\xc3\x9f", "", "192.0.2.1", "", "", "", TRACE_ESMTP | TRACE_UTF8,
		  "Received: from gr\xc3\xbc\xc3\x9f (unknown [192.0.2.1])\r\n"
		  "\tby mx.example (Ringpost) with UTF8SMTP;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n" },
		{ "gr\xc3\xbc\xff", "", "192.0.2.1", "", "", "", TRACE_ESMTP,
		  "Received: from gr?? (unknown [192.0.2.1])\r\n"
		  "\tby mx.example (Ringpost) with ESMTP;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t memory[TRACE_SIZE_MAX];
		struct buf b = buf_of(memory, sizeof memory);
		struct trace t = {
			.hello_name = span_of_string(rows[i].hello),
			.client_name = span_of_string(rows[i].name),
			.client_address = span_of_string(rows[i].address),
			.our_name = SPAN("mx.example"),
			.id = span_of_string(rows[i].id),
			.tls = span_of_string(rows[i].tls),
			.recipient = span_of_string(rows[i].to),
			.flags = rows[i].flags,
		};
		assert_true(trace_received(&b, &t));
		if (!span_eq(buf_span(&b), span_of_string(rows[i].text)))
			fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&b)));
	}
}

static void
protocols_are_those_of_the_rfcs(void **state)
{
	(void)state;
	assert_string_equal(trace_protocol(0), "SMTP");
	assert_string_equal(trace_protocol(TRACE_ESMTP), "ESMTP");
	assert_string_equal(trace_protocol(TRACE_ESMTP | TRACE_TLS), "ESMTPS");
	assert_string_equal(trace_protocol(TRACE_ESMTP | TRACE_AUTH), "ESMTPA");
	assert_string_equal(trace_protocol(TRACE_LMTP | TRACE_TLS), "LMTPS");
	assert_string_equal(trace_protocol(TRACE_LMTP | TRACE_UTF8), "UTF8LMTP");
	assert_string_equal(trace_protocol(TRACE_ESMTP | TRACE_UTF8 | TRACE_TLS | TRACE_AUTH),
			    "UTF8SMTPSA");
}

/* The longest and worst of everything: fits, stays one field, no line over 998 bytes. */
static void
nothing_breaks_out_of_the_field(void **state)
{
	static uint8_t junk[5000];
	static uint8_t memory[TRACE_SIZE_MAX];

	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		memset(junk, (int)c, sizeof junk);
		struct span s = span_of(junk, sizeof junk);
		struct buf b = buf_of(memory, sizeof memory);
		struct trace t = {
			s, s, s, s, s, s, s, TRACE_UTF8 | TRACE_ESMTP, UINT64_MAX, -1439
		};
		assert_true(trace_received(&b, &t));
		struct header h;
		uint8_t field[256];
		enum header_event event;
		header_init(&h, field, sizeof field);
		size_t used = header_feed(&h, buf_span(&b), &event);
		assert_int_equal(event, HEADER_MORE);
		assert_int_equal(used, b.size);
		header_finish(&h, &event);
		assert_int_equal(event, HEADER_FIELD);
		header_finish(&h, &event);
		assert_int_equal(event, HEADER_END);
		assert_int_equal(h.received, 1);
		size_t line_at = 0;
		while (line_at < b.size) {
			size_t end = span_find(buf_span(&b), '\n', line_at);
			assert_true(end - line_at < 998);
			line_at = end + 1;
		}
	}
}

static void
without_room_nothing_is_written(void **state)
{
	uint8_t memory[64];
	struct buf b = buf_of(memory, sizeof memory);
	struct trace t = { .our_name = SPAN("mx.example") };

	(void)state;
	assert_false(trace_received(&b, &t));
	assert_int_equal(b.size, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_field_says_what_is_known),
		cmocka_unit_test(protocols_are_those_of_the_rfcs),
		cmocka_unit_test(nothing_breaks_out_of_the_field),
		cmocka_unit_test(without_room_nothing_is_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
