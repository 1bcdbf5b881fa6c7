/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include "relay/message/mailboxes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* What comes of a value: the addresses with blanks between; "!" behind them where it is bad. */
struct row {
	const char *value;
	const char *found;
};

static const struct row rows[] = {
	{ "", "" },
	{ "ann@example.org", "ann@example.org" },
	{ " ann@example.org ", "ann@example.org" },
	{ "<ann@example.org>", "ann@example.org" },
	{ "Ann Lee <ann@example.org>", "ann@example.org" },
	{ "\"Lee, Ann\" <ann@example.org>", "ann@example.org" },
	{ "\"ceo@corp.test\" <ann@example.org>", "ann@example.org" },
	{ "\"a\\\"b <x@y>\" <ann@example.org>", "ann@example.org" },
	{ "=?utf-8?q?J=C3=BC?=\r\n <ann@example.org>", "ann@example.org" },
	{ "Ann A. Lee <ann@example.org>", "ann@example.org" },
	{ "J\xc3\xbcrgen <j\xc3\xbc@b\xc3\xbc.example>", "j\xc3\xbc@b\xc3\xbc.example" },
	{ "ann@example.org, bob@example.org", "ann@example.org bob@example.org" },
	{ "Ann <ann@example.org>,\r\n\tBob <bob@example.org>", "ann@example.org bob@example.org" },
	{ ",, ann@example.org ,,", "ann@example.org" },
	{ "ann@example.org (Ann (her) <no@x>)", "ann@example.org" },
	{ "(x) ann (y) @ (z) example.org", "ann@example.org" },
	{ "ann . lee @ example . org", "ann.lee@example.org" },
	{ "\"ann lee\"@example.org", "\"ann lee\"@example.org" },
	{ "\"ann\".lee@example.org", "\"ann\".lee@example.org" },
	{ "ann@[192.0.2.1]", "ann@[192.0.2.1]" },
	{ "Ann <@a.example,@b.example:ann@example.org>", "ann@example.org" },
	{ "Team: ann@example.org, Bob <bob@example.org>;", "ann@example.org bob@example.org" },
	{ "undisclosed:;", "" },
	{ "a: ann@example.org;, b: bob@example.org;", "ann@example.org bob@example.org" },
	/* Two readers might see two senders. */
	{ "ann", "!" },
	{ "ann bob@example.org", "!" },
	{ "ceo@corp.test <ann@example.org>", "!" },
	{ "ann@example.org <ceo@corp.test>", "!" },
	{ "<ann@example.org> ceo@corp.test", "!" },
	{ "<ann@example.org> <ceo@corp.test>", "!" },
	{ "<ann@example.org>@corp.test", "!" },
	{ "ann@example.org@corp.test", "!" },
	{ "ann@example.org ceo", "!" },
	{ "ann@example.org, ceo", "ann@example.org !" },
	{ "@example.org", "!" },
	{ "ann@", "!" },
	{ "<>", "!" },
	{ "Ann <>", "!" },
	{ "<ann@example.org", "!" },
	{ "ann@example.org>", "!" },
	{ "<<ann@example.org>>", "!" },
	{ "(ann@example.org", "!" },
	{ "\"ann@example.org", "!" },
	{ "\"ann\r\n x\" <ann@example.org>", "!" },
	{ "ann)@example.org", "!" },
	{ "ann\\@example.org", "!" },
	{ "ann@exa\x01mple.org", "!" },
	{ "Ann <@a.example ann@example.org>", "!" },
	{ "Ann <a@b:ann@example.org>", "!" },
	{ "a:b:ann@example.org", "ann@example.org" },
	{ ":ann@example.org", "!" },
	{ "((((((((((((((((((a))))))))))))))))))ann@example.org", "!" },
};

static void
check(struct span value, struct span want)
{
	uint8_t memory[MAILBOX_MAX], all_memory[1024];
	struct buf all = buf_of(all_memory, sizeof all_memory);
	struct span rest = value;
	enum mailboxes_result result;

	do {
		struct buf one = buf_of(memory, sizeof memory);
		size_t before = rest.size;
		result = mailboxes_next(&rest, &one);
		if (result == MAILBOXES_END)
			break;
		assert_true(result == MAILBOXES_BAD || rest.size < before);
		if (all.size > 0)
			buf_append_byte(&all, ' ');
		buf_append(&all, result == MAILBOXES_BAD ? SPAN("!") : buf_span(&one));
	} while (result == MAILBOXES_NEXT);
	if (!span_eq(buf_span(&all), want))
		fail_msg("%.*s: %.*s", SPAN_ARG(value), SPAN_ARG(buf_span(&all)));
}

static void
addresses_are_found_or_the_list_is_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t size = strlen(rows[i].value);
		uint8_t *copy = malloc(size + (size == 0));
		assert_non_null(copy);
		memcpy(copy, rows[i].value, size);
		check(span_of(copy, size), span_of_string(rows[i].found));
		free(copy);
	}
}

static void
an_address_that_is_too_long_is_bad(void **state)
{
	char value[MAILBOX_MAX + 16];

	(void)state;
	for (size_t size = MAILBOX_MAX - 1; size <= MAILBOX_MAX + 1; size++) {
		memset(value, 'a', sizeof value);
		memcpy(value + size - 4, "@b.c", 4);
		struct span s = span_of(value, size);
		check(s, size <= MAILBOX_MAX ? s : SPAN("!"));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_found_or_the_list_is_bad),
		cmocka_unit_test(an_address_that_is_too_long_is_bad),
	};

	return cmocka_run_group_tests_name("mailboxes", tests, NULL, NULL);
}
