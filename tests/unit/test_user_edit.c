/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses ctl */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "relay/ctl/user.h"
#include "relay/ctl/user_edit.h"

#define VERIFIER                                         \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="    \
	"$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const char file[] = "# ours\n"
			   "secret AAAAAAAAAAAAAAAAAAAAAA==\n"
			   "\n"
			   "ann@example.org " VERIFIER " from=*\r\n"
			   " bob\t - connections=1  # not a comment\n"
			   "broken";

static uint8_t memory[2048];
static struct buf out;

static struct span
text(void)
{
	return span_of_string(file);
}

static void
expect(const char *wanted)
{
	assert_int_equal(out.size, strlen(wanted));
	assert_memory_equal(memory, wanted, out.size);
	out = buf_of(memory, sizeof memory);
}

static struct user_place
find(const char *name)
{
	struct user_place place = { 0 };

	assert_true(user_edit_find(text(), span_of_string(name), &place));
	return place;
}

static void
users_are_found(void **state)
{
	struct user_place place;
	struct span name;
	size_t at = 0;

	(void)state;
	assert_true(user_edit_next(text(), &at, &place, &name));
	assert_true(span_eq(name, SPAN("ann@example.org")));
	assert_true(user_edit_next(text(), &at, &place, &name));
	assert_true(span_eq(name, SPAN("bob")));
	assert_true(user_edit_next(text(), &at, &place, &name));
	assert_true(span_eq(name, SPAN("broken")));
	assert_false(user_edit_next(text(), &at, &place, &name));
	assert_true(user_edit_find(text(), SPAN("ANN@example.org"), &place));
	assert_false(user_edit_find(text(), SPAN("ann"), &place));
	assert_false(user_edit_find(text(), SPAN("secret"), &place));
	assert_false(user_edit_find(text(), SPAN("#"), &place));
}

static void
only_what_changes_changes(void **state)
{
	(void)state;
	out = buf_of(memory, sizeof memory);
	assert_true(user_edit_add(text(), SPAN("carol -"), &out));
	expect("# ours\nsecret AAAAAAAAAAAAAAAAAAAAAA==\n\nann@example.org " VERIFIER " from=*\r\n"
	       " bob\t - connections=1  # not a comment\nbroken\ncarol -\n");
	assert_true(user_edit_add(span_none(), SPAN("carol -"), &out));
	expect("carol -\n");
	assert_true(user_edit_remove(text(), find("ann@example.org"), &out));
	expect("# ours\nsecret AAAAAAAAAAAAAAAAAAAAAA==\n\n"
	       " bob\t - connections=1  # not a comment\nbroken");
	assert_true(user_edit_remove(text(), find("broken"), &out));
	expect("# ours\nsecret AAAAAAAAAAAAAAAAAAAAAA==\n\nann@example.org " VERIFIER " from=*\r\n"
	       " bob\t - connections=1  # not a comment\n");
	assert_true(user_edit_verifier(text(), find("ann@example.org"), SPAN("-"), &out));
	expect("# ours\nsecret AAAAAAAAAAAAAAAAAAAAAA==\n\nann@example.org - from=*\r\n"
	       " bob\t - connections=1  # not a comment\nbroken");
	assert_true(user_edit_verifier(text(), find("bob"), SPAN("NEW"), &out));
	expect("# ours\nsecret AAAAAAAAAAAAAAAAAAAAAA==\n\nann@example.org " VERIFIER " from=*\r\n"
	       " bob\t NEW connections=1  # not a comment\nbroken");
	assert_true(user_edit_verifier(text(), find("broken"), SPAN("NEW"), &out));
	expect("# ours\nsecret AAAAAAAAAAAAAAAAAAAAAA==\n\nann@example.org " VERIFIER " from=*\r\n"
	       " bob\t - connections=1  # not a comment\nbroken NEW");
	out = buf_of(memory, 20);
	assert_false(user_edit_add(text(), SPAN("carol -"), &out));
}

static void
lists_show_no_keys(void **state)
{
	static const struct {
		const char *line;
		const char *shown;
	} rows[] = {
		{ "ann " VERIFIER "  from=*\r\n", "ann  password (4096 iterations)  from=*\n" },
		{ "bob -\n", "bob  no password\n" },
		{ "carol hunter2 from=*",
		  "carol  line not understood: it has no verifier of a password behind the name; "
		  "make "
		  "it with `ringpostctl user passwd`, or write - for a user without a password\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		out = buf_of(memory, sizeof memory);
		user_edit_show(span_of_string(rows[i].line), &out);
		expect(rows[i].shown);
	}
}

static void
help_names_all_commands(void **state)
{
	static const char *const words[] = { "user add", "user passwd", "user list",
					     "user remove" };

	(void)state;
	for (unsigned list = 0; list < 2; list++) {
		out = buf_of(memory, sizeof memory);
		if (list == 0)
			user_help(&out);
		else
			user_list_commands(&out);
		assert_false(out.overflow);
		for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
			assert_non_null(memmem(memory, out.size, words[i], strlen(words[i])));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_are_found),
		cmocka_unit_test(only_what_changes_changes),
		cmocka_unit_test(lists_show_no_keys),
		cmocka_unit_test(help_names_all_commands),
	};

	return cmocka_run_group_tests_name("user_edit", tests, NULL, NULL);
}
