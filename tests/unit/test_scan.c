/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core */
/* The fast search for the end of data against the plain definition of it, on texts made of the
 * bytes that matter; dialogues are in test_server.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "bench/scan.h"

enum { TEXT_MAX = 300, ROUNDS = 20000 };

static uint64_t seed = 1;

static unsigned
draw(unsigned below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % below;
}

/* Bytes up to and with the end, 0 where there is none. */
static size_t
plain_end(const uint8_t *text, size_t size)
{
	uint8_t all[TEXT_MAX + 2] = { '\r', '\n' };

	memcpy(all + 2, text, size);
	for (size_t i = 0; i + 5 <= size + 2; i++)
		if (memcmp(all + i, "\r\n.\r\n", 5) == 0)
			return i + 3;
	return 0;
}

static size_t
scanned_end(const uint8_t *text, size_t size, size_t piece_max)
{
	struct scan s;
	bool ended = false;
	size_t at = 0;

	scan_init(&s);
	while (at < size && !ended) {
		size_t piece = 1 + draw((unsigned)piece_max);
		struct span in = span_first(span_of(text + at, size - at), piece);
		size_t used = scan_end(&s, in, &ended);
		assert_true(ended || used == in.size);
		at += used;
	}
	return ended ? at : 0;
}

static void
test_end(void **state)
{
	static const char bytes[] = "\r\n.x";
	uint8_t text[TEXT_MAX];
	unsigned found = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t size = draw(TEXT_MAX);
		unsigned plain = draw(100); /* how many in a hundred do not matter */
		for (size_t i = 0; i < size; i++)
			text[i] = (uint8_t)(draw(100) < plain ? 'y' : bytes[draw(4)]);
		for (unsigned n = draw(3); n > 0 && size > 8; n--)
			memcpy(text + draw((unsigned)size - 5), "\r\n.\r\n", 5);
		size_t end = plain_end(text, size);
		found += end > 0;
		assert_int_equal(scanned_end(text, size, TEXT_MAX), end);
		assert_int_equal(scanned_end(text, size, 80), end);
		assert_int_equal(scanned_end(text, size, 4), end);
		assert_int_equal(scanned_end(text, size, 1), end);
	}
	assert_in_range(found, ROUNDS / 4, ROUNDS);
}

static void
test_id(void **state)
{
	static const struct {
		const char *header;
		const char *id;
	} cases[] = {
		{ "X-Ringpost-Bench: 0123abcd-0000000042\r\n", "0123abcd-0000000042" },
		{ "x-ringpost-BENCH:0123abcd-0000000042\r\n", "0123abcd-0000000042" },
		{ "X-Ringpost-Bench \t:\r\n\t\r\n 0123abcd-0000000042 x\r\n",
		  "0123abcd-0000000042" },
		{ "A: b\r\n X-Ringpost-Bench: x\r\nX-Ringpost-Bench: y\r\n", "y" },
		{ "X-Ringpost-Benches: x\r\nX-Ringpost-Bench: y\r\n", "y" },
		{ "X-Ringpost-Benc: x\r\nX-X-Ringpost-Bench: y\r\n\r\n", "" },
		{ "X-Ringpost-Bench\r\n: x\r\n\r\n", "" },
		{ "X-Ringpost-Bench:\r\n\r\n x\r\n", "" },
		{ "\r\nX-Ringpost-Bench: x\r\n", "" },
		{ "X-Ringpost-Bench: x", "" },
		{ "X-Ringpost-Bench: 01234567890123456789\r\n", "01234567890123456789" },
		{ "X-Ringpost-Bench: 012345678901234567890123456\r\n", "01234567890123456789" },
		{ "X-Ringpost-Bench: x\r\nX-Ringpost-Bench: y\r\n\r\n", "x" },
		{ "X-Ringpost-Bench: 0123abcd 0000000042\r\n", "0123abcd" },
		{ "X-Ringpost-Bench: 0123abcd-0000000042\nx", "0123abcd-0000000042" },
		{ "X-Ringpost-Bench: 0123abcd\r\n\r\nmore text of it\r\n", "0123abcd" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct span header = span_of_string(cases[i].header);
		for (size_t cut = 0; cut <= header.size; cut++) {
			struct scan s;
			scan_init(&s);
			scan_header(&s, span_first(header, cut));
			scan_header(&s, span_after(header, cut));
			if (!span_eq(scan_id(&s), span_of_string(cases[i].id)))
				fail_msg("case %zu cut at %zu", i, cut);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_end), cmocka_unit_test(test_id) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
