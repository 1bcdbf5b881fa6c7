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

static const struct {
	const char *in;
	const char *fields; /* name=unfolded value; each followed by '|' */
	size_t size;
	size_t body_at;
	bool malformed;
	unsigned received;
} rows[] = {
	{ "A: b\r\n\r\nbody", "A=b|", 6, 8, false, 0 },
	{ "A: b\n\nbody", "A=b|", 5, 6, false, 0 },
	{ "A:b\r\nC :  d \r\n\r\n", "A=b|C=d|", 14, 16, false, 0 },
	{ "A: b\r\n  c\r\n\td\r\n\r\n", "A=b c d|", 15, 17, false, 0 },
	{ "A: b  c\r\n\r\n", "A=b  c|", 9, 11, false, 0 },
	{ "A:\r\n b\r\n\r\n", "A=b|", 8, 10, false, 0 },
	{ "A:\r\n\r\n", "A=|", 4, 6, false, 0 },
	{ "A: b\r\n \r\nC: d\r\n\r\n", "A=b|C=d|", 15, 17, false, 0 },
	{ "Received: a\r\nrECEIVED: b\r\n\tc\r\nReceivedX: d\r\n\r\n",
	  "Received=a|rECEIVED=b c|ReceivedX=d|", 44, 46, false, 2 },
	{ "", "", 0, 0, false, 0 },
	{ "\r\nbody", "", 0, 2, false, 0 },
	{ "body\r\n\r\n", "", 0, 0, true, 0 },
	{ " body\r\n\r\n", "", 0, 0, true, 0 },
	{ ": body\r\n\r\n", "", 0, 0, true, 0 },
	{ "A: b\r\nno field\r\n\r\n", "A=b|", 6, 6, true, 0 },
	{ "A: b\r\n\xc3\xbc: d\r\n\r\n", "A=b|", 6, 6, true, 0 },
	{ "A: b\r\nC", "A=b|", 6, 6, true, 0 },
	{ "A: b\r\n\rC", "A=b|", 6, 6, true, 0 },
	{ "A: b\r\n\r", "A=b|", 6, 6, true, 0 },
	{ "A: b", "A=b|", 4, 4, false, 0 },
	{ "A: b\r\n", "A=b|", 6, 6, false, 0 },
	{ "A: b\r\n c", "A=b c|", 8, 8, false, 0 },
};

static void
note_field(const struct header *h, struct buf *out)
{
	buf_append(out, header_name(h));
	buf_append_byte(out, '=');
	header_unfold(h, out);
	buf_append_byte(out, '|');
}

/* Step 0: cut once, at `cut`. */
static void
read_cut(struct header *h, struct span in, size_t step, size_t cut, struct buf *out)
{
	static uint8_t memory[128];
	size_t used = 0;
	size_t shown = 0;
	enum header_event event = HEADER_MORE;

	header_init(h, memory, sizeof memory);
	while (event != HEADER_END && (used < in.size || shown < in.size)) {
		if (used == shown)
			shown = step != 0 ? shown + step : shown < cut ? cut : in.size;
		shown = shown < in.size ? shown : in.size;
		used += header_feed(h, span_of(in.data + used, shown - used), &event);
		if (event == HEADER_FIELD)
			note_field(h, out);
	}
	while (event != HEADER_END) {
		header_finish(h, &event);
		if (event == HEADER_FIELD)
			note_field(h, out);
	}
}

static void
headers_read_the_same_however_they_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct span in = span_of_string(rows[i].in);
		for (size_t cut = 0; cut <= in.size; cut++) {
			struct header h;
			uint8_t memory[128];
			struct buf out = buf_of(memory, sizeof memory);
			read_cut(&h, in, cut == 0 ? 1 : 0, cut, &out);
			if (!span_eq(buf_span(&out), span_of_string(rows[i].fields)))
				fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&out)));
			assert_int_equal(h.size, rows[i].size);
			assert_int_equal(h.body_at, rows[i].body_at);
			assert_int_equal(h.malformed, rows[i].malformed);
			assert_int_equal(h.received, rows[i].received);
		}
	}
}

static void
a_long_field_is_cut_and_counted(void **state)
{
	uint8_t in[1024];
	struct header h;
	uint8_t memory[512];

	(void)state;
	memset(in, 'x', sizeof in);
	memcpy(in, "Received: ", 10);
	memcpy(in + 500, "\r\nA: b\r\n\r\n", 10);
	for (size_t step = 1; step <= 510; step += 7) {
		struct buf out = buf_of(memory, sizeof memory);
		read_cut(&h, span_of(in, 510), step, 0, &out);
		assert_int_equal(h.fields, 2);
		assert_int_equal(h.received, 1);
		assert_int_equal(h.size, 508);
		/* name, '=', 119 of the value, '|', and "A=b|" */
		assert_int_equal(out.size, 8 + 1 + 119 + 1 + 4);
		assert_false(h.cut);
	}
}

static void
a_name_without_end_is_no_field(void **state)
{
	uint8_t in[1024];
	struct header h;
	uint8_t memory[16];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	memset(in, 'x', sizeof in);
	read_cut(&h, span_of(in, sizeof in), 1, 0, &out);
	assert_true(h.malformed);
	assert_int_equal(h.body_at, 0);
	assert_int_equal(out.size, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_read_the_same_however_they_are_cut),
		cmocka_unit_test(a_long_field_is_cut_and_counted),
		cmocka_unit_test(a_name_without_end_is_no_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
