/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include "relay/message/fixup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"

#define DATE "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
#define ID   "Message-ID: <1@relay.test>\r\n"
#define BOTH DATE ID

static const struct fixup_options all = {
	.drop_bcc = true,
	.date = { (const uint8_t *)DATE, sizeof DATE - 1 },
	.message_id = { (const uint8_t *)ID, sizeof ID - 1 },
};

struct row {
	const char *in;
	const char *out;
};

#define HAS "dAtE: x\r\nmessage-id: y\r\n"

static const struct row rows[] = {
	{ "Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n" BOTH "\r\nbody\r\n" },
	{ "Subject: x\r\n", "Subject: x\r\n" BOTH },
	{ "\r\nbody\r\n", BOTH "\r\nbody\r\n" },
	{ "\nbody\r\n", BOTH "\nbody\r\n" },
	{ "", BOTH },
	{ HAS "\r\nDate: no\r\nBcc: no\r\n", HAS "\r\nDate: no\r\nBcc: no\r\n" },
	{ HAS, HAS },
	{ "Date : x\r\n\r\n", "Date : x\r\n" ID "\r\n" },
	{ "Message-Id:\r\n y\r\n\r\n", "Message-Id:\r\n y\r\n" DATE "\r\n" },
	{ "Dates: x\r\nX-Message-ID: y\r\n\r\n", "Dates: x\r\nX-Message-ID: y\r\n" BOTH "\r\n" },
	{ "Subject: a\r\n Date: b\r\n\r\n", "Subject: a\r\n Date: b\r\n" BOTH "\r\n" },
	/* Bcc, folded, in any case, with blanks, several times, at either end. */
	{ HAS "Bcc: a@x\r\nTo: b\r\n\r\n", HAS "To: b\r\n\r\n" },
	{ "bCC \t: a@x,\r\n b@x,\r\n\tc@x\r\n" HAS "\r\nx\r\n", HAS "\r\nx\r\n" },
	{ HAS "Bcc: a@x,\r\n \r\n b@x\r\nBcc:\r\n\r\n", HAS "\r\n" },
	{ HAS "Resent-Bcc: a\r\nBcc: b\r\n c\r\n", HAS },
	{ HAS "Bcc:\n a\nTo: x\n\n", HAS "To: x\n\n" },
	{ HAS "Bccc: a\r\nXBcc: b\r\nBc: c\r\n\r\n", HAS "Bccc: a\r\nXBcc: b\r\nBc: c\r\n\r\n" },
	{ HAS "To: Bcc: a\r\n Bcc: b\r\n\r\n", HAS "To: Bcc: a\r\n Bcc: b\r\n\r\n" },
	/* What is no field ends the header, and is text. */
	{ "hello\r\nBcc: a\r\n", BOTH "\r\nhello\r\nBcc: a\r\n" },
	{ "Subject: x\r\nhello you\r\n", "Subject: x\r\n" BOTH "\r\nhello you\r\n" },
	{ "Bcc: a\r\nBcc b: c\r\n", BOTH "\r\nBcc b: c\r\n" },
	{ HAS "hello\r\n", HAS "hello\r\n" },
	{ " Bcc: a\r\n", BOTH "\r\n Bcc: a\r\n" },
	{ ": a\r\n", BOTH "\r\n: a\r\n" },
	{ "\xc3\xbc: a\r\n", BOTH "\r\n\xc3\xbc: a\r\n" },
	{ "\rx\r\n", BOTH "\r\n\rx\r\n" },
	/* Ends in the middle of a line. */
	{ "Subject: x", "Subject: x" },
	{ "Subject", BOTH "\r\nSubject" },
	{ HAS "Bcc: x", HAS },
	{ "Bcc: x", BOTH },
};

/* With our name: fields that bear it go, wherever they stand in front of the empty line. */
#define AR    "Authentication-Results: "
#define OURS  AR "mx.example.org; spf=pass\r\n"
#define OTHER AR "mx.example.net; spf=pass\r\n"

static const struct row forged[] = {
	{ OURS "To: x\r\n\r\n" OURS, "To: x\r\n\r\n" OURS },
	{ OTHER OURS OTHER "\r\n", OTHER OTHER "\r\n" },
	{ "To: x\r\n" OURS, "To: x\r\n" },
	{ "authentication-RESULTS \t:\r\n\t(a (b) \\) c)\r\n MX.Example.Org\r\n 1;\r\n x=y\r\nTo: "
	  "x\r\n\r\n",
	  "To: x\r\n\r\n" },
	{ AR "\"mx.ex\\ample.org\" 1; none\r\nTo: x\r\n", "To: x\r\n" },
	{ AR "mx.example.org.; none\r\n\r\n", "\r\n" },
	{ AR "mx.example.org\r\n\r\n", "\r\n" },
	{ AR "mx.example.org", "" },
	{ AR "mx.example.or", AR "mx.example.or" },
	{ AR "mx.example.org.evil.example; none\r\n\r\n",
	  AR "mx.example.org.evil.example; none\r\n\r\n" },
	{ AR "(mx.example.org) x; none\r\n\r\n", AR "(mx.example.org) x; none\r\n\r\n" },
	{ AR "x (mx.example.org); none\r\n  mx.example.org\r\n\r\n",
	  AR "x (mx.example.org); none\r\n  mx.example.org\r\n\r\n" },
	{ "X-" OURS "Authentication-Results-X: mx.example.org; none\r\n",
	  "X-" OURS "Authentication-Results-X: mx.example.org; none\r\n" },
	{ "To: x\r\n " OURS "\r\n", "To: x\r\n " OURS "\r\n" },
	{ AR "mx.example.org;\n spf=pass\nTo: x\n\n", "To: x\n\n" },
	/* What nobody can read might be read as ours by somebody. */
	{ AR "\r\nTo: x\r\n\r\n", "To: x\r\n\r\n" },
	{ AR "(mx.example.org; spf=pass\r\n x\r\nTo: x\r\n\r\n", "To: x\r\n\r\n" },
	{ AR ",mx.example.org; spf=pass\r\nTo: x\r\n\r\n", "To: x\r\n\r\n" },
	{ AR "\"mx.example.org", "" },
	/* Lines that are no fields do not hide what follows. */
	{ "From joe Thu\r\n" OURS "To: x\r\n\r\n" OURS, "From joe Thu\r\nTo: x\r\n\r\n" OURS },
	{ "To: x\r\nhello\r\n" OURS OTHER "\r\n" OURS, "To: x\r\nhello\r\n" OTHER "\r\n" OURS },
	{ ": x\r\n" OURS, ": x\r\n" },
	{ " x\r\n" OURS, " x\r\n" },
	{ "\r\n" OURS, "\r\n" OURS },
	{ "\n" OURS, "\n" OURS },
	{ "\xff\r\n\rx\r\n" OURS " y\r\n\r\n", "\xff\r\n\rx\r\n\r\n" },
	{ "Bcc: a\r\nDate: b\r\n", "Bcc: a\r\nDate: b\r\n" },
};

/* The result of the message in pieces of these sizes, the last one for all that is left. */
static void
fix(const struct fixup_options *o, struct span in, const size_t *sizes, size_t count,
    struct buf *out)
{
	struct fixup f;
	struct span piece;

	fixup_init(&f, o);
	buf_reset(out);
	for (size_t i = 0; i <= count; i++) {
		struct span part = i < count ? span_first(in, sizes[i]) : in;
		in = span_after(in, part.size);
		/* Of exact size on the heap: a sanitizer sees what is read beside it. */
		uint8_t *copy = malloc(part.size + 1);
		assert_non_null(copy);
		if (part.size > 0)
			memcpy(copy, part.data, part.size);
		struct span rest = span_of(copy, part.size);
		while (rest.size > 0) {
			size_t used = fixup_step(&f, rest, &piece);
			assert_true(used > 0 || piece.size > 0);
			buf_append(out, piece);
			rest = span_after(rest, used);
		}
		free(copy);
	}
	while (fixup_finish(&f, &piece))
		buf_append(out, piece);
	assert_false(fixup_finish(&f, &piece));
	assert_false(out->overflow);
}

static void
assert_fixed(const struct fixup_options *o, struct span in, struct span want)
{
	static uint8_t memory[8192];
	struct buf out = buf_of(memory, sizeof memory);
	size_t ones[2048];

	assert_true(in.size <= 2048);
	for (size_t i = 0; i < 2048; i++)
		ones[i] = 1;
	fix(o, in, NULL, 0, &out);
	if (!span_eq(buf_span(&out), want))
		fail_msg("of\n%.*s\ncame\n%.*s\nnot\n%.*s", SPAN_ARG(in), SPAN_ARG(buf_span(&out)),
			 SPAN_ARG(want));
	fix(o, in, ones, in.size, &out);
	assert_true(span_eq(buf_span(&out), want));
	for (size_t cut = 0; cut <= in.size; cut++) {
		fix(o, in, &cut, 1, &out);
		assert_true(span_eq(buf_span(&out), want));
	}
}

static void
messages_are_put_right_at_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_fixed(&all, span_of_string(rows[i].in), span_of_string(rows[i].out));
}

static void
nothing_changes_without_an_option(void **state)
{
	struct fixup_options none = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_fixed(&none, span_of_string(rows[i].in), span_of_string(rows[i].in));
}

static void
each_option_is_for_itself(void **state)
{
	struct span in = SPAN("Bcc: a\r\nTo: b\r\n\r\n");
	struct fixup_options o = { .drop_bcc = true };

	(void)state;
	assert_fixed(&o, in, SPAN("To: b\r\n\r\n"));
	o = (struct fixup_options){ .date = all.date };
	assert_fixed(&o, in, SPAN("Bcc: a\r\nTo: b\r\n" DATE "\r\n"));
	o = (struct fixup_options){ .message_id = all.message_id };
	assert_fixed(&o, in, SPAN("Bcc: a\r\nTo: b\r\n" ID "\r\n"));
}

static void
forged_results_are_taken_out_at_every_cut(void **state)
{
	struct fixup_options o = { .authserv_id = SPAN("MX.example.org") };

	(void)state;
	for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++)
		assert_fixed(&o, span_of_string(forged[i].in), span_of_string(forged[i].out));
}

/* For users as well, beside what else is changed. */
static void
forged_results_and_what_is_missing(void **state)
{
	struct fixup_options o = all;

	(void)state;
	o.authserv_id = SPAN("mx.example.org");
	assert_fixed(&o, SPAN(OURS "Bcc: a\r\n" OTHER "To: b\r\n\r\nx"),
		     SPAN(OTHER "To: b\r\n" BOTH "\r\nx"));
	assert_fixed(&o, SPAN(HAS "hello\r\nBcc: a\r\n" OURS "x"),
		     SPAN(HAS "hello\r\nBcc: a\r\nx"));
	assert_fixed(&o, SPAN("hello\r\n" OURS), SPAN(BOTH "\r\nhello\r\n" OURS));
}

/* As much as is held of a comment in front of the name, and more. */
static void
results_that_say_too_late_whose_they_are_go(void **state)
{
	uint8_t memory[FIXUP_HELD_MAX + 64];
	struct fixup_options o = { .authserv_id = SPAN("mx.example.org") };

	(void)state;
	for (size_t size = FIXUP_HELD_MAX - 2; size < FIXUP_HELD_MAX + 3; size++) {
		struct buf in = buf_of(memory, sizeof memory);
		buf_append_string(&in, AR "(");
		while (in.size < size - 2)
			buf_append_byte(&in, 'x');
		buf_append_string(&in, ")b; c=d\r\n");
		assert_int_equal(span_find(buf_span(&in), ';', 0), size);
		assert_fixed(&o, buf_span(&in),
			     size <= FIXUP_HELD_MAX ? buf_span(&in) : span_none());
	}
}

/* A name, or the blanks behind it, as long as the memory and longer. */
static void
a_name_that_does_not_fit_ends_the_looking(void **state)
{
	uint8_t in_memory[1024], want_memory[1024];

	(void)state;
	for (int blanks = 0; blanks < 2; blanks++) {
		for (size_t size = FIXUP_NAME_MAX - 1; size < FIXUP_NAME_MAX + 2; size++) {
			struct buf in = buf_of(in_memory, sizeof in_memory);
			struct buf want = buf_of(want_memory, sizeof want_memory);
			bool fits = size <= FIXUP_NAME_MAX;
			for (size_t i = 0; i < size; i++)
				buf_append_byte(&in, blanks && i > 2 ? ' ' : 'x');
			buf_append_string(&in, ": y\r\n");
			buf_append(&want, buf_span(&in));
			buf_append_string(&in, "Bcc: a\r\n\r\n");
			buf_append_string(&want, fits ? BOTH "\r\n" : "Bcc: a\r\n\r\n");
			assert_fixed(&all, buf_span(&in), buf_span(&want));
		}
	}
}

/* The name of the field that this line begins; none where it begins none. */
static struct span
name_of(struct span line)
{
	size_t size = 0;

	while (size < line.size && line.data[size] > ' ' && line.data[size] <= '~' &&
	       line.data[size] != ':')
		size++;
	size_t colon = size;
	while (colon < line.size && (line.data[colon] == ' ' || line.data[colon] == '\t'))
		colon++;
	return size > 0 && colon < line.size && line.data[colon] == ':' ? span_first(line, size)
									: span_none();
}

/* The same by looking at whole lines of the whole message. */
static void
fix_whole(struct span in, struct buf *out)
{
	bool date = false, id = false, drop = false, first = true, unended = false;
	struct span line = span_none();

	for (; in.size > 0; in = span_after(in, line.size)) {
		size_t end = span_find(in, '\n', 0);
		line = span_first(in, end + 1);
		struct span name = name_of(line);
		if (name.size == 0 && (first || (line.data[0] != ' ' && line.data[0] != '\t')))
			break;
		if (name.size > 0) {
			date = date || span_eq_nocase(name, SPAN("date"));
			id = id || span_eq_nocase(name, SPAN("message-id"));
			drop = span_eq_nocase(name, SPAN("bcc")) ||
			       span_eq_nocase(name, SPAN("resent-bcc"));
		}
		if (!drop)
			buf_append(out, line);
		first = false;
		unended = end == in.size && !drop;
	}
	if (!unended) {
		buf_append(out, date ? span_none() : all.date);
		buf_append(out, id ? span_none() : all.message_id);
		bool empty =
			in.size == 0 || in.data[0] == '\n' || span_starts_with(in, SPAN("\r\n"));
		if (!empty && (!date || !id))
			buf_append(out, SPAN("\r\n"));
	}
	buf_append(out, in);
}

static unsigned
next(unsigned *seed)
{
	*seed = *seed * 1103515245U + 12345U;
	return *seed >> 16;
}

static void
many_messages_come_out_as_by_whole_lines(void **state)
{
	static const char *const pieces[] = {
		"Bcc: a\r\n",
		"Bcc:\r\n",
		"To: b\r\n",
		"Subject: c\r\n",
		" folded\r\n",
		"\tx: d\r\n",
		"Date: e\r\n",
		"Message-ID:\r\n",
		"\r\n",
		"text\r\n",
		":\r\n",
		"Bc",
		"Bcc",
		"x: \xff\xfe\r\n",
		"\n",
		" ",
		"To: x, Bcc: ",
		"date ",
		"resent-bcc : g\r\n",
	};
	static uint8_t in_memory[2048], out_memory[4096], want_memory[4096];
	unsigned seed = 4711;

	(void)state;
	for (unsigned round = 0; round < 50000; round++) {
		struct buf in = buf_of(in_memory, sizeof in_memory);
		struct buf out = buf_of(out_memory, sizeof out_memory);
		struct buf want = buf_of(want_memory, sizeof want_memory);
		unsigned count = 1 + next(&seed) % 9;
		for (unsigned i = 0; i < count; i++)
			buf_append_string(&in,
					  pieces[next(&seed) % (sizeof pieces / sizeof pieces[0])]);
		size_t sizes[3];
		for (unsigned i = 0; i < 3; i++)
			sizes[i] = next(&seed) % (in.size + 1);
		fix(&all, buf_span(&in), sizes, 3, &out);
		fix_whole(buf_span(&in), &want);
		if (!span_eq(buf_span(&out), buf_span(&want)))
			fail_msg("of\n%.*s\ncame\n%.*s\nnot\n%.*s", SPAN_ARG(buf_span(&in)),
				 SPAN_ARG(buf_span(&out)), SPAN_ARG(buf_span(&want)));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_put_right_at_every_cut),
		cmocka_unit_test(nothing_changes_without_an_option),
		cmocka_unit_test(each_option_is_for_itself),
		cmocka_unit_test(forged_results_are_taken_out_at_every_cut),
		cmocka_unit_test(forged_results_and_what_is_missing),
		cmocka_unit_test(results_that_say_too_late_whose_they_are_go),
		cmocka_unit_test(a_name_that_does_not_fit_ends_the_looking),
		cmocka_unit_test(many_messages_come_out_as_by_whole_lines),
	};

	return cmocka_run_group_tests_name("fixup", tests, NULL, NULL);
}
