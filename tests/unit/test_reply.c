/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "relay/smtp/body_out.h"
#include "relay/smtp/reply.h"

static const struct {
	const char *in;
	const char *events; /* L: a line, D: done, B: bad */
	const char *shown;  /* the last reply */
} rows[] = {
	{ "250 ok\r\n", "D", "250 ok" },
	{ "250\r\n", "D", "250" },
	{ "250 \r\n", "D", "250" },
	{ "250\n", "D", "250" },
	{ "250 ok\n", "D", "250 ok" },
	{ "250-a\r\n250-b\r\n250 c\r\n", "LLD", "250 a\nb\nc" },
	{ "250-a\n250\r\n", "LD", "250 a\n" },
	{ "250-\r\n250 c\r\n", "LD", "250 c" },
	{ "250 2.1.5 fine\r\n", "D", "250 2.1.5 fine" },
	{ "250 2.1.5\r\n", "D", "250 2.1.5" },
	{ "550-5.1.1 who\r\n550 5.1.1 is that\r\n", "LD", "550 5.1.1 who\nis that" },
	{ "550-no code\r\n550 5.1.10 here\r\n", "LD", "550 5.1.10 no code\nhere" },
	{ "550 4.1.1 of another class\r\n", "D", "550 4.1.1 of another class" },
	{ "550 5.1.1000 too long\r\n", "D", "550 5.1.1000 too long" },
	{ "550 5.1. cut\r\n", "D", "550 5.1. cut" },
	{ "550 5.1.1x\r\n", "D", "550 5.1.1x" },
	{ "354 3.0.0 go\r\n", "D", "354 3.0.0 go" },
	{ "550 gr\xc3\xbc\xc3\x9f\r\n", "D", "550 gr\xc3\xbc\xc3\x9f" },
	{ "550 gr\xfc\xdf\r\n", "D", "550 gr??" },
	{ "550 a\tb\rc\r\r\n", "D", "550 a b c" },
	{ "250 a\r\n354 b\r\n", "DD", "354 b" },
	{ "250-a\r\n251 b\r\n", "LB", NULL },
	{ "150 a\r\n", "B", NULL },
	{ "600 a\r\n", "B", NULL },
	{ "25 a\r\n", "B", NULL },
	{ "2500 a\r\n", "B", NULL },
	{ "250.a\r\n", "B", NULL },
	{ "250\rx", "B", NULL },
	{ " 250 a\r\n", "B", NULL },
	{ "\r\n", "B", NULL },
	{ "hello\r\n", "B", NULL },
	{ "220-x\r\nhello\r\n", "LB", NULL },
};

/* Feeds `in` in pieces that end at each multiple of `step` and at `cut`. */
static void
feed_cut(struct reply *r, struct span in, size_t step, size_t cut, char events[64])
{
	size_t used = 0;
	size_t shown = 0;
	size_t count = 0;
	enum reply_event event = REPLY_MORE;

	reply_init(r);
	while (event != REPLY_BAD && (used < in.size || shown < in.size)) {
		if (used == shown)
			shown = step != 0 ? shown + step : shown < cut ? cut : in.size;
		shown = shown < in.size ? shown : in.size;
		used += reply_feed(r, span_of(in.data + used, shown - used), &event);
		if (event != REPLY_MORE && count < 62)
			events[count++] = event == REPLY_LINE   ? 'L'
					  : event == REPLY_DONE ? 'D'
								: 'B';
	}
	events[count] = 0;
}

static void
replies_read_the_same_however_they_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct span in = span_of_string(rows[i].in);
		for (size_t cut = 0; cut <= in.size; cut++) {
			struct reply r;
			char events[64];
			uint8_t memory[640];
			struct buf b = buf_of(memory, sizeof memory);
			feed_cut(&r, in, cut == 0 ? 1 : 0, cut, events);
			assert_string_equal(events, rows[i].events);
			if (rows[i].shown == NULL)
				continue;
			assert_true(reply_is_done(&r));
			assert_true(reply_show(&r, &b));
			if (!span_eq(buf_span(&b), span_of_string(rows[i].shown)))
				fail_msg("row %zu: \"%.*s\"", i, SPAN_ARG(buf_span(&b)));
		}
	}
}

static void
long_text_is_cut_at_a_character(void **state)
{
	uint8_t in[1024];
	struct reply r;
	char events[64];

	(void)state;
	/* 511 bytes, then a character of two. */
	memcpy(in, "250 ", 4);
	memset(in + 4, 'x', 511);
	memcpy(in + 515, "\xc3\xbc\xc3\xbc\r\n", 6);
	for (size_t step = 1; step < 530; step++) {
		feed_cut(&r, span_of(in, 521), step, 0, events);
		assert_string_equal(events, "D");
		assert_int_equal(reply_text(&r).size, 511);
		assert_true(r.cut);
	}
	/* Exactly full is not cut. */
	memcpy(in + 515, "x\r\n", 3);
	feed_cut(&r, span_of(in, 518), 1, 0, events);
	assert_int_equal(reply_text(&r).size, 512);
	assert_false(r.cut);
}

static void
lines_have_a_longest(void **state)
{
	static uint8_t in[REPLY_LINE_MAX + 16];
	struct reply r;
	char events[64];

	(void)state;
	memset(in, 'x', sizeof in);
	memcpy(in, "250 ", 4);
	for (size_t step = 1; step < sizeof in; step += 511) {
		memcpy(in + REPLY_LINE_MAX - 2, "\r\n", 2);
		feed_cut(&r, span_of(in, REPLY_LINE_MAX), step, 0, events);
		assert_string_equal(events, "D");
		memcpy(in + REPLY_LINE_MAX - 2, "x\r\n", 3);
		feed_cut(&r, span_of(in, REPLY_LINE_MAX + 1), step, 0, events);
		assert_string_equal(events, "B");
	}
}

static void
a_reply_has_a_most_of_lines(void **state)
{
	struct reply r;
	enum reply_event event;

	(void)state;
	reply_init(&r);
	for (unsigned i = 1; i < REPLY_LINES_MAX; i++) {
		reply_feed(&r, SPAN("250-x\r\n"), &event);
		assert_int_equal(event, REPLY_LINE);
	}
	struct reply other = r;
	reply_feed(&r, SPAN("250 x\r\n"), &event);
	assert_int_equal(event, REPLY_DONE);
	reply_feed(&other, SPAN("250-x\r\n"), &event);
	assert_int_equal(event, REPLY_LINE);
	reply_feed(&other, SPAN("250 x\r\n"), &event);
	assert_int_equal(event, REPLY_BAD);
	reply_feed(&other, SPAN("250 x\r\n"), &event);
	assert_int_equal(event, REPLY_BAD);
}

static void
forgotten_text_makes_room(void **state)
{
	struct reply r;
	enum reply_event event;

	(void)state;
	reply_init(&r);
	reply_feed(&r, SPAN("250-one\r\n"), &event);
	assert_true(span_eq(reply_line(&r), SPAN("one")));
	reply_forget_text(&r);
	reply_feed(&r, SPAN("250 two\r\n"), &event);
	assert_true(span_eq(reply_line(&r), SPAN("two")));
	assert_true(span_eq(reply_text(&r), SPAN("two")));
	assert_int_equal(r.lines, 2);
}

/* ---- body_out ---- */

static const struct {
	const char *in;
	const char *out;
	bool dots;
} bodies[] = {
	{ "", ".\r\n", false },
	{ "a\r\n", "a\r\n.\r\n", false },
	{ "a", "a\r\n.\r\n", false },
	{ ".\r\n", "..\r\n.\r\n", true },
	{ ".", "..\r\n.\r\n", true },
	{ "a.b\r\n.c\r\n..\r\n", "a.b\r\n..c\r\n...\r\n.\r\n", true },
	{ "a\r\n\r\n.\r\n", "a\r\n\r\n..\r\n.\r\n", true },
	{ "a\n.b\r\n", "a\n..b\r\n.\r\n", true },
	{ "a\r.b\r\n", "a\r.b\r\n.\r\n", false },
	{ "a\r", "a\r\r\n.\r\n", false },
	{ "a\n", "a\n\r\n.\r\n", false },
	{ "....\r\n....\r\n", ".....\r\n.....\r\n.\r\n", true },
};

/* Through a room of `room` bytes at a time, in pieces of `step`. */
static void
stuff(struct span in, size_t step, size_t room, struct buf *all)
{
	struct body_out b;
	uint8_t memory[64];
	size_t used = 0;

	body_out_init(&b);
	while (used < in.size) {
		struct buf out = buf_of(memory, room);
		size_t took = body_out_feed(&b, span_first(span_after(in, used), step), &out);
		assert_true(took > 0);
		used += took;
		buf_append(all, buf_span(&out));
	}
	assert_true(body_out_end(&b, all));
}

static void
dots_are_doubled_however_the_body_is_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
		struct span in = span_of_string(bodies[i].in);
		for (size_t step = 1; step <= in.size + 1; step++) {
			for (size_t room = 2; room < 20; room++) {
				uint8_t memory[64];
				struct buf all = buf_of(memory, sizeof memory);
				stuff(in, step, room, &all);
				assert_true(span_eq(buf_span(&all), span_of_string(bodies[i].out)));
			}
			struct body_dots d;
			body_dots_init(&d);
			for (size_t at = 0; at < in.size; at += step)
				body_dots_feed(&d, span_first(span_after(in, at), step));
			assert_int_equal(d.found, bodies[i].dots);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies_read_the_same_however_they_are_cut),
		cmocka_unit_test(long_text_is_cut_at_a_character),
		cmocka_unit_test(lines_have_a_longest),
		cmocka_unit_test(a_reply_has_a_most_of_lines),
		cmocka_unit_test(forgotten_text_makes_room),
		cmocka_unit_test(dots_are_doubled_however_the_body_is_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
