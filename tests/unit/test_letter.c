/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/letter.h"

enum { FIELD_SIZE = 38, DRAWS = 20000, WHY_SIZE = 512 };

static uint8_t why_memory[WHY_SIZE];

static struct letters *
sizes_of(const char *text)
{
	struct buf why = buf_of(why_memory, sizeof why_memory);
	struct letters *l = letters_of_sizes(span_of_string(text), FIELD_SIZE, 1, &why);

	if (l == NULL)
		fail_msg("%s: %.*s", text, SPAN_ARG(buf_span(&why)));
	return l;
}

/* ---- sizes ---- */

/* CRLF pairs only, no dot at the start of a line, a header and a blank line. */
static void
check_text(struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		uint8_t before = i > 0 ? text.data[i - 1] : '\n';
		assert_true((c == '\n') == (before == '\r') || i == 0);
		assert_true(before != '\n' || c != '.');
		assert_true(c == '\r' || c == '\n' || (c >= ' ' && c < 0x7f));
	}
	assert_true(text.size > 0 && text.data[text.size - 1] != '\r');
	assert_non_null(memmem(text.data, text.size, "\r\n\r\n", 4));
}

static void
every_size_is_met(void **state)
{
	unsigned smaller = 0;

	(void)state;
	for (unsigned size = LETTER_SIZE_MIN; size < LETTER_SIZE_MIN + 200; size++) {
		char text[32];
		uint64_t random = 1;
		snprintf(text, sizeof text, "%uB", size);
		struct letters *l = sizes_of(text);
		struct letter letter = letters_pick(l, &random);
		assert_true(letter.size == size || letter.size == size - 1);
		smaller += letter.size != size;
		assert_int_equal(letter.size, FIELD_SIZE + letter.plain.size + 2);
		assert_true(span_eq(letter.plain, letter.stuffed));
		check_text(letter.plain);
		letters_free(l);
	}
	/* Only where a CRLF would be cut: once a line. */
	assert_in_range(smaller, 1, 3);
}

static void
a_range_is_drawn_evenly_with_both_ends(void **state)
{
	struct letters *l = sizes_of("1000B..1009B");
	uint64_t random = 5;
	unsigned counts[10] = { 0 };

	(void)state;
	for (unsigned i = 0; i < DRAWS; i++) {
		struct letter letter = letters_pick(l, &random);
		assert_in_range(letter.size, 1000, 1009);
		counts[letter.size - 1000]++;
	}
	for (unsigned i = 0; i < 10; i++)
		assert_in_range(counts[i], DRAWS / 10 * 9 / 10, DRAWS / 10 * 11 / 10);
	letters_free(l);
}

static void
shares_are_those_that_were_asked_for(void **state)
{
	struct letters *l = sizes_of("1KiB:70,10KiB..20KiB:25,1MiB:5");
	uint64_t random = 9;
	unsigned counts[3] = { 0 };

	(void)state;
	for (unsigned i = 0; i < DRAWS; i++) {
		uint64_t size = letters_pick(l, &random).size;
		counts[size <= 1024 ? 0 : size <= 20480 ? 1 : 2]++;
		assert_true(size <= 1024 || (size >= 10239 && size <= 20480) || size >= 1048575);
	}
	assert_in_range(counts[0], DRAWS * 69 / 100, DRAWS * 71 / 100);
	assert_in_range(counts[1], DRAWS * 24 / 100, DRAWS * 26 / 100);
	assert_in_range(counts[2], DRAWS * 4 / 100, DRAWS * 6 / 100);
	letters_free(l);
}

static void
a_seed_repeats_a_load(void **state)
{
	struct letters *a = sizes_of("1KiB..100KiB");
	struct letters *b = sizes_of("1KiB..100KiB");
	uint64_t random_a = 3, random_b = 3;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		struct letter x = letters_pick(a, &random_a), y = letters_pick(b, &random_b);
		assert_true(x.size == y.size && span_eq(x.plain, y.plain));
	}
	letters_free(a);
	letters_free(b);
}

static void
what_is_no_size_is_told_with_the_remedy(void **state)
{
	static const char *const rows[] = {
		"",          "1",      "511B",       "2GiB",       "1KiB:",     "1KiB:0",
		"1KiB:x",    "1KiB..", "..1KiB",     "2KiB..1KiB", "1KiB.2KiB", "1KiB...2KiB",
		"1KiB,",     ",1KiB",  "1KiB,,1KiB", ":70",        "1KiB:1:1",  "1KiB:99999999999",
		"1KiB 2KiB",
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct buf why = buf_of(why_memory, sizeof why_memory);
		if (letters_of_sizes(span_of_string(rows[i]), FIELD_SIZE, 1, &why) != NULL)
			fail_msg("'%s' was understood", rows[i]);
		assert_non_null(memmem(why.data, why.size, "; write 10KiB,", 14));
	}
}

static void
shapes_have_a_limit(void **state)
{
	char text[LETTER_SHAPES_MAX * 8 + 16] = "";
	struct buf all = buf_of(text, sizeof text - 1);
	struct buf why = buf_of(why_memory, sizeof why_memory);

	(void)state;
	for (unsigned i = 0; i < LETTER_SHAPES_MAX; i++)
		buf_printf(&all, "%s1KiB", i > 0 ? "," : "");
	struct letters *l = letters_of_sizes(buf_span(&all), FIELD_SIZE, 1, &why);
	assert_non_null(l);
	letters_free(l);
	buf_append_string(&all, ",1KiB");
	assert_null(letters_of_sizes(buf_span(&all), FIELD_SIZE, 1, &why));
}

/* ---- a folder ---- */

struct folder {
	char path[64];
};

static void
make_folder(struct folder *f)
{
	snprintf(f->path, sizeof f->path, "/tmp/ringpost-letter-XXXXXX");
	assert_non_null(mkdtemp(f->path));
}

static void
put_file(const struct folder *f, const char *name, struct span content)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", f->path, name);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(content.data, 1, content.size, file), content.size);
	fclose(file);
}

static void
remove_folder(const struct folder *f)
{
	char command[128];

	snprintf(command, sizeof command, "rm -r %s", f->path);
	assert_int_equal(system(command), 0);
}

/* What arrives of it: the lines of DATA with one dot less, and the final CRLF. */
static struct span
unstuffed(struct span in, uint8_t *memory)
{
	size_t n = 0;

	for (size_t i = 0; i < in.size; i++) {
		bool first = i == 0 || in.data[i - 1] == '\n';
		if (first && in.data[i] == '.')
			continue;
		memory[n++] = in.data[i];
	}
	return span_of(memory, n);
}

static void
messages_are_sent_with_crlf_and_doubled_dots(void **state)
{
	static const struct {
		const char *content;
		const char *plain;
		const char *stuffed; /* NULL: the same */
	} rows[] = {
		{ "a: b\n\nhello\n", "a: b\r\n\r\nhello", NULL },
		{ "a: b\r\n\r\nhello\r\n", "a: b\r\n\r\nhello", NULL },
		{ "a: b\n\nno final newline", "a: b\r\n\r\nno final newline", NULL },
		{ "mixed\nends\r\n\nhere\n\n", "mixed\r\nends\r\n\r\nhere\r\n", NULL },
		{ "", "", NULL },
		{ "\n", "", NULL },
		{ ".", ".", ".." },
		{ ".\n", ".", ".." },
		{ "x\n.\n..\n.a\nb.\n .\n\n.\n", "x\r\n.\r\n..\r\n.a\r\nb.\r\n .\r\n\r\n.",
		  "x\r\n..\r\n...\r\n..a\r\nb.\r\n .\r\n\r\n.." },
		{ ".\n.\n.\n.\n", ".\r\n.\r\n.\r\n.", "..\r\n..\r\n..\r\n.." },
		{ "\n\n\n\n", "\r\n\r\n\r\n", NULL },
		{ "\nonly a body", "\r\nonly a body", NULL },
		{ "\n.\n", "\r\n.", "\r\n.." },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *stuffed = rows[i].stuffed != NULL ? rows[i].stuffed : rows[i].plain;
		struct buf why = buf_of(why_memory, sizeof why_memory);
		struct folder folder;
		uint8_t memory[256];
		uint64_t random = 1;

		make_folder(&folder);
		put_file(&folder, "mail", span_of_string(rows[i].content));
		struct letters *l = letters_of_folder(folder.path, FIELD_SIZE, &why);
		assert_non_null(l);
		struct letter letter = letters_pick(l, &random);
		if (!span_eq(letter.plain, span_of_string(rows[i].plain)) ||
		    !span_eq(letter.stuffed, span_of_string(stuffed)))
			fail_msg("row %zu: '%.*s'", i, SPAN_ARG(letter.plain));
		assert_true(span_eq(unstuffed(letter.stuffed, memory), letter.plain));
		assert_int_equal(letter.size, FIELD_SIZE + letter.plain.size + 2);
		letters_free(l);
		remove_folder(&folder);
	}
}

static void
every_message_of_a_folder_has_its_turn(void **state)
{
	struct buf why = buf_of(why_memory, sizeof why_memory);
	unsigned counts[3] = { 0 };
	struct folder folder;
	char path[128];
	uint64_t random = 4;

	(void)state;
	make_folder(&folder);
	put_file(&folder, "one", SPAN("1"));
	put_file(&folder, "two", SPAN("22"));
	put_file(&folder, "three", SPAN("3\0 ")); /* any byte */
	put_file(&folder, ".hidden", SPAN("....."));
	snprintf(path, sizeof path, "%s/inner", folder.path);
	assert_int_equal(mkdir(path, 0700), 0);
	struct letters *l = letters_of_folder(folder.path, FIELD_SIZE, &why);
	assert_non_null(l);
	for (unsigned i = 0; i < 3000; i++)
		counts[letters_pick(l, &random).plain.size - 1]++;
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(counts[i], 800, 1200);
	letters_free(l);
	remove_folder(&folder);
}

static void
a_folder_without_messages_is_told(void **state)
{
	struct buf why = buf_of(why_memory, sizeof why_memory);
	struct folder folder;
	char path[128];

	(void)state;
	make_folder(&folder);
	assert_null(letters_of_folder(folder.path, FIELD_SIZE, &why));
	assert_true(span_ends_with_nocase(buf_span(&why), SPAN("no file in it; put messages "
							       "there")));
	buf_reset(&why);
	snprintf(path, sizeof path, "%s/nothing", folder.path);
	assert_null(letters_of_folder(path, FIELD_SIZE, &why));
	assert_true(span_ends_with_nocase(buf_span(&why), SPAN("No such file or directory")));
	buf_reset(&why);
	assert_int_equal(symlink("nowhere", path), 0);
	assert_null(letters_of_folder(folder.path, FIELD_SIZE, &why));
	assert_true(span_ends_with_nocase(buf_span(&why), SPAN("cannot be read as a message")));
	remove_folder(&folder);
}

/* ---- domains ---- */

static void
draw_domains(uint32_t count, double zipf, unsigned *counts)
{
	struct domains *d = domains_new(SPAN("x.test"), count, zipf);
	uint64_t random = 11;

	assert_non_null(d);
	for (unsigned i = 0; i < DRAWS; i++) {
		uint32_t domain = domains_pick(d, &random);
		assert_true(domain < count);
		counts[domain]++;
	}
	domains_free(d);
}

static void
domains_are_even_or_fall_with_their_rank(void **state)
{
	unsigned counts[10] = { 0 };

	(void)state;
	draw_domains(10, 0, counts);
	for (unsigned i = 0; i < 10; i++)
		assert_in_range(counts[i], DRAWS / 10 * 9 / 10, DRAWS / 10 * 11 / 10);
	for (unsigned power = 1; power <= 2; power++) {
		double sum = 0;
		memset(counts, 0, sizeof counts);
		draw_domains(10, power, counts);
		for (unsigned i = 0; i < 10; i++)
			sum += 1 / pow(i + 1, power);
		for (unsigned i = 0; i < 10; i++) {
			double wanted = DRAWS / pow(i + 1, power) / sum;
			double spread = 5 * sqrt(wanted);
			assert_true(fabs(counts[i] - wanted) < spread);
		}
	}
}

static void
a_domain_is_shown_with_its_number(void **state)
{
	struct domains *one = domains_new(SPAN("x.test"), 1, 1.5);
	struct domains *many = domains_new(SPAN("x.test"), DOMAINS_MAX, 1);
	uint8_t memory[64];
	struct buf out = buf_of(memory, sizeof memory);
	uint64_t random = 2;

	(void)state;
	assert_true(one != NULL && many != NULL);
	assert_int_equal(domains_pick(one, &random), 0);
	assert_true(domains_show(one, 0, &out));
	assert_true(span_eq(buf_span(&out), SPAN("x.test")));
	buf_reset(&out);
	assert_true(domains_show(many, DOMAINS_MAX - 1, &out));
	assert_true(span_eq(buf_span(&out), SPAN("d999999.x.test")));
	domains_free(one);
	domains_free(many);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_is_met),
		cmocka_unit_test(a_range_is_drawn_evenly_with_both_ends),
		cmocka_unit_test(shares_are_those_that_were_asked_for),
		cmocka_unit_test(a_seed_repeats_a_load),
		cmocka_unit_test(what_is_no_size_is_told_with_the_remedy),
		cmocka_unit_test(shapes_have_a_limit),
		cmocka_unit_test(messages_are_sent_with_crlf_and_doubled_dots),
		cmocka_unit_test(every_message_of_a_folder_has_its_turn),
		cmocka_unit_test(a_folder_without_messages_is_told),
		cmocka_unit_test(domains_are_even_or_fall_with_their_rank),
		cmocka_unit_test(a_domain_is_shown_with_its_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
