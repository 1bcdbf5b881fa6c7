/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "relay/smtp/body_in.h"

enum { SIZE_MAX_HERE = 400, ROUNDS = 20000 };

struct result {
	uint8_t data[3 * SIZE_MAX_HERE];
	size_t size;
	size_t consumed;            /* up to the end, or all */
	enum body_in_event verdict; /* END, BARE_NEWLINE, NUL, or MORE */
};

/* The same by the book: one byte at a time over the whole text, with a look at its neighbours.
 * Stops at the first verdict. */
static void
by_the_book(struct span in, bool normalize, struct result *out)
{
	bool line_start = true;  /* behind CRLF or at the beginning */
	bool soft_start = false; /* behind a bare newline */
	bool may_end = false;    /* behind the dot of a line that may be the end */

	*out = (struct result){ .verdict = BODY_MORE };
	for (size_t i = 0; i < in.size;) {
		struct span rest = span_after(in, i);
		uint8_t c = rest.data[0];
		if (line_start && span_starts_with(rest, SPAN(".\r\n"))) {
			out->consumed = i + 3;
			out->verdict = BODY_END;
			return;
		}
		if ((line_start || soft_start) && c == '.') {
			may_end = line_start;
			line_start = soft_start = false;
			i++;
			continue;
		}
		line_start = soft_start = false;
		if (span_starts_with(rest, SPAN("\r\n"))) {
			line_start = true;
			i += 2;
		} else if (c == '\r' || c == '\n') {
			if (!normalize) {
				/* A CR is handed out before it is known to be bare. */
				if (c == '\r' && !may_end)
					out->data[out->size++] = c;
				out->verdict = BODY_BARE_NEWLINE;
				return;
			}
			soft_start = true;
			i++;
		} else if (c == '\0') {
			out->verdict = BODY_NUL;
			return;
		} else {
			out->data[out->size++] = c;
			may_end = false;
			i++;
			continue;
		}
		may_end = false;
		memcpy(out->data + out->size, "\r\n", 2);
		out->size += 2;
	}
	out->consumed = in.size;
}

/* body_in_step over pieces of sizes drawn from `random`, up to the first verdict. */
static void
by_steps(struct span in, bool normalize, unsigned piece_max, unsigned *random, struct result *out)
{
	struct body_in b;

	body_in_init(&b, true, normalize ? BODY_NORMALIZE : BODY_REJECT);
	*out = (struct result){ .verdict = BODY_MORE };
	while (out->consumed < in.size) {
		size_t size = 1 + (size_t)rand_r(random) % piece_max;
		struct span left = span_first(span_after(in, out->consumed), size);
		while (left.size > 0) {
			struct span piece;
			size_t used = body_in_step(&b, left, &out->verdict, &piece);
			out->consumed += used;
			left = span_after(left, used);
			if (out->verdict == BODY_PIECE) {
				assert_true(piece.size > 0);
				memcpy(out->data + out->size, piece.data, piece.size);
				out->size += piece.size;
			} else if (out->verdict != BODY_MORE) {
				return;
			}
		}
	}
	out->verdict = BODY_MORE;
}

/* Random texts of what matters, cut at random, must come out as by the book. A CR at the very end
 * is still open there, so texts end in a letter. */
static void
bodies_come_out_as_by_the_book(void **state)
{
	static const char *const words[] = { "\r\n", "\r\n.", ".",   "\n", "\r",   "\r\n.\r\n",
					     "..",   "a",     "abc", "\0", "\r\n", "\r\n" };
	unsigned random = 42;
	unsigned verdicts[BODY_NUL + 1] = { 0 };

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint8_t text[SIZE_MAX_HERE];
		size_t size = 0;
		/* Some rounds have only good words, so that they get far. */
		unsigned bad = round % 4;
		while (size < SIZE_MAX_HERE - 90) {
			unsigned pick = (unsigned)rand_r(&random) % 12;
			if (pick >= 3 && pick <= 5 && (unsigned)rand_r(&random) % 8 > bad)
				pick = 8;
			if (pick == 9 && rand_r(&random) % 16 > 0)
				pick = 8;
			size_t length = pick == 9 ? 1 : strlen(words[pick]);
			memcpy(text + size, words[pick], length);
			size += length;
			length = rand_r(&random) % 10 == 0 ? 80 : 0;
			memset(text + size, 'x', length);
			size += length;
		}
		text[size++] = 'z';
		struct result want;
		struct result got;
		bool normalize = round % 2;
		by_the_book(span_of(text, size), normalize, &want);
		by_steps(span_of(text, size), normalize, round % 3 ? 400 : 7, &random, &got);
		assert_int_equal(want.verdict, got.verdict);
		assert_int_equal(want.size, got.size);
		assert_memory_equal(want.data, got.data, want.size);
		if (want.verdict == BODY_END)
			assert_int_equal(want.consumed, got.consumed);
		verdicts[want.verdict]++;
	}
	/* The test has met every outcome often. */
	assert_true(verdicts[BODY_END] > 100 && verdicts[BODY_BARE_NEWLINE] > 100);
	assert_true(verdicts[BODY_NUL] > 100 && verdicts[BODY_MORE] > 100);
}

static void
clean_input_is_one_piece(void **state)
{
	static const char line[] = "a line of a message, neither short nor long, with a dot.\r\n";
	uint8_t text[100 * (sizeof line - 1)];
	struct body_in b;
	enum body_in_event event;
	struct span piece;

	(void)state;
	for (size_t i = 0; i < 100; i++)
		memcpy(text + i * (sizeof line - 1), line, sizeof line - 1);
	body_in_init(&b, true, BODY_REJECT);
	assert_int_equal(body_in_step(&b, span_of(text, sizeof text), &event, &piece), sizeof text);
	assert_int_equal(event, BODY_PIECE);
	assert_ptr_equal(piece.data, text);
	assert_int_equal(piece.size, sizeof text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_come_out_as_by_the_book),
		cmocka_unit_test(clean_input_is_one_piece),
	};

	return cmocka_run_group_tests_name("body_in", tests, NULL, NULL);
}
