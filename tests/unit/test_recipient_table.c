/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow core smtp machine */
#include "relay/flow/recipient_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t why_memory[512];

static struct recipient_table *
parse(const char *text, size_t size, struct buf *why)
{
	*why = buf_of(why_memory, sizeof why_memory);
	/* At the end of a piece of the heap, where a sanitizer sees a byte too many. */
	uint8_t *copy = malloc(size + 1);
	memcpy(copy, text, size);
	struct recipient_table *t =
		recipient_table_parse(SPAN("/etc/users"), span_of(copy, size), why);
	free(copy);
	return t;
}

static struct recipient_table *
must_parse(const char *text)
{
	struct buf why;
	struct recipient_table *t = parse(text, strlen(text), &why);

	if (t == NULL)
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
	return t;
}

static bool
has(const struct recipient_table *t, const char *address, const char *delimiters)
{
	struct address a;

	assert_int_equal(address_parse_mailbox(span_of_string(address), &a), ADDRESS_OK);
	return recipient_table_has(t, &a, span_of_string(delimiters));
}

static const char list[] = "\xef\xbb\xbf# the people\r\n"
			   "\n"
			   "  ann@example.org   # the first\n"
			   "\tBob\r\n"
			   "\"carol smith\"@Example.NET # quoted\n"
			   "\"dave\"\n"
			   "j\xc3\xbcrgen@example.org\n"
			   "eve+work@example.org\n"
			   "fred#1\n"
			   "ann@example.org\n"
			   "\"a@b\"@example.org\n"
			   "last@example.org";

static void
test_who_is_there(void **state)
{
	static const struct {
		const char *address;
		bool listed;
		const char *delimiters;
	} rows[] = {
		{ "ann@example.org", true, "" },
		{ "ANN@EXAMPLE.ORG", true, "" },
		{ "ann@example.net", false, "" },
		{ "an@example.org", false, "" },
		{ "annn@example.org", false, "" },
		/* A local part alone counts in all domains. */
		{ "bob@example.org", true, "" },
		{ "BOB@elsewhere.example", true, "" },
		/* What the quotes mean counts. */
		{ "\"ann\"@example.org", true, "" },
		{ "\"a\\nn\"@example.org", true, "" },
		{ "\"carol smith\"@example.net", true, "" },
		{ "\"carol  smith\"@example.net", false, "" },
		{ "dave@example.org", true, "" },
		{ "\"a@b\"@example.org", true, "" },
		{ "a@example.org", false, "" },
		{ "b@example.org", false, "" },
		{ "j\xc3\xbcrgen@example.org", true, "" },
		{ "J\xc3\xbcRGEN@example.org", true, "" },
		{ "j\xc3\x9crgen@example.org", false, "" }, /* ASCII alone is folded */
		{ "fred#1@example.org", true, "" },
		{ "last@example.org", true, "" },
		/* Details. */
		{ "ann+lists@example.org", true, "+" },
		{ "ann+lists+more@example.org", true, "+" },
		{ "ann+@example.org", true, "+" },
		{ "ann+lists@example.org", false, "" },
		{ "ann+lists@example.org", false, "-" },
		{ "ann-lists@example.org", true, "+-" },
		{ "ann=x+y@example.org", true, "+=" },
		{ "+ann@example.org", false, "+" },
		{ "nobody+ann@example.org", false, "+" },
		{ "eve+work@example.org", true, "+" },
		{ "eve+work@example.org", true, "" },
		{ "eve@example.org", false, "+" },
		{ "bob+x@any.example", true, "+" },
	};
	struct recipient_table *t = must_parse(list);

	(void)state;
	assert_int_equal(t->count, 9); /* ann stands twice */
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (has(t, rows[i].address, rows[i].delimiters) != rows[i].listed)
			fail_msg("%s with '%s'", rows[i].address, rows[i].delimiters);
	}
	recipient_table_put(t);
}

static void
test_what_is_refused(void **state)
{
	static const struct {
		const char *text;
		const char *error;
	} rows[] = {
		{ "ann\n@example.org\n",
		  "/etc/users:2: '@example.org' would take mail for all of a domain; write "
		  "recipients: any for that" },
		{ "ann\n\n# x\nann@example.org OK\n", "/etc/users:4: 'ann@example.org OK' has more "
						      "than one word; put each recipient on "
						      "a line of its own" },
		{ "ann@\n", "/etc/users:1: 'ann@' is no address; write one such as "
			    "ann@example.org, or ann" },
		{ "a..b\n", "/etc/users:1: 'a..b' is no address; write one such as "
			    "ann@example.org, or ann" },
		{ "<ann@example.org>\n",
		  "/etc/users:1: '<ann@example.org>' is no address; write one "
		  "such as ann@example.org, or ann" },
		{ "ann,bob\n", "/etc/users:1: 'ann,bob' is no address; write one such as "
			       "ann@example.org, or ann" },
		{ "\"ann\n", "/etc/users:1: '\\\"ann' is no address; write one such as "
			     "ann@example.org, or ann" },
		{ "\"ann\\\n", "/etc/users:1: '\\\"ann\\\\' is no address; write one such as "
			       "ann@example.org, or ann" },
		{ "j\xfcrgen\n",
		  "/etc/users:1: 'j\xef\xbf\xbdrgen' is no UTF-8; convert the file" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
		  "/etc/users:1: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' "
		  "is too long; an address has at most 64 bytes before its @ and 255 behind" },
		{ "", "/etc/users:1: '' has no recipients, so all mail would be refused; list at "
		      "least one" },
		{ "# nobody\n\n", "/etc/users:1: '' has no recipients, so all mail would be "
				  "refused; list at least one" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct buf why;
		assert_null(parse(rows[i].text, strlen(rows[i].text), &why));
		if (!span_eq(buf_span(&why), span_of_string(rows[i].error)))
			fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&why)));
	}
}

static void
test_a_nul_and_a_long_line(void **state)
{
	static char text[RECIPIENT_LINE_MAX + 8];
	struct buf why;

	(void)state;
	assert_null(parse("a\0b\n", 4, &why));
	memset(text, ' ', sizeof text);
	text[RECIPIENT_LINE_MAX - 1] = 'a';
	struct recipient_table *t = parse(text, RECIPIENT_LINE_MAX, &why);
	assert_non_null(t);
	recipient_table_put(t);
	assert_null(parse(text, RECIPIENT_LINE_MAX + 1, &why));
	assert_true(span_ends_with_nocase(
		buf_span(&why), SPAN("is too long; put each recipient on a line of its own")));
}

/* Every prefix of a file is a file: cut anywhere, it is read or refused, and what it lists before
 * the cut is found. */
static void
test_every_cut(void **state)
{
	(void)state;
	for (size_t size = 0; size < sizeof list - 1; size++) {
		struct buf why;
		struct recipient_table *t = parse(list, size, &why);
		if (t == NULL) {
			assert_true(why.size > 0);
			continue;
		}
		if (size > 40)
			assert_true(has(t, "ann@example.org", ""));
		recipient_table_put(t);
	}
}

static void
test_many(void **state)
{
	enum { MANY = 100000 };
	char *text = malloc((size_t)MANY * 32);
	size_t size = 0;

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		size += (size_t)sprintf(text + size, "user%u@example.org\n", i);
	struct buf why;
	struct recipient_table *t = parse(text, size, &why);
	free(text);
	assert_non_null(t);
	assert_int_equal(t->count, MANY);
	/* Text, a size and at most four slots of four bytes for each. */
	assert_true(t->bytes < size + (size_t)MANY * 18);
	for (unsigned i = 0; i < MANY + 1000; i++) {
		char address[64];
		sprintf(address, "user%u@example.org", i);
		assert_int_equal(has(t, address, "+"), i < MANY);
	}
	struct recipient_table *again = recipient_table_get(t);
	recipient_table_put(t);
	assert_true(has(again, "user7@example.org", "+"));
	recipient_table_put(again);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_is_there),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_a_nul_and_a_long_line),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
