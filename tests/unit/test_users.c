/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "relay/flow/routing.h"
#include "relay/flow/users.h"

#define KEYS                                             \
	"$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define VERIFIER "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==" KEYS
#define SLOWER   "SCRAM-SHA-256$8192:W22ZaJ0SNY7soEsUEjb6gQ==" KEYS
#define PRINT    "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define COLONS                                                                                    \
	"01:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:" \
	"dd:ee:ff"

static char folder[] = "/tmp/users.XXXXXX";
static char file_path[64];
static uint8_t why_memory[768];
static struct buf why;

static struct users *
parse(const char *text)
{
	why = buf_of(why_memory, sizeof why_memory);
	return users_parse(SPAN("f"), span_of_string(text), &why);
}

static const struct user *
find(const struct users *u, const char *name)
{
	return users_find(u, span_of_string(name));
}

static void
test_a_line_is_a_user(void **state)
{
	struct users *u = parse("\xef\xbb\xbf# our users\n"
				"\n"
				"ann@example.org " VERIFIER "\r\n"
				"  bob\t" VERIFIER "  from=bob@example.org,@example.net,*  "
				"mails_per_hour=10 mails_per_day=none recipients_per_hour=30 "
				"recipients_per_day=40 connections=5\n"
				"printer - certificate=" PRINT "," COLONS " disabled");
	const struct user *bob;

	(void)state;
	assert_null(u); /* no byte order mark in a list that programs write */
	assert_true(span_starts_with(buf_span(&why), SPAN("f:1: ")));
	u = parse("# our users\n"
		  "\n"
		  "ann@example.org " VERIFIER "\r\n"
		  "  bob\t" VERIFIER "  from=bob@example.org,@example.net,*  "
		  "mails_per_hour=10 mails_per_day=none recipients_per_hour=30 "
		  "recipients_per_day=40 connections=5\n"
		  "printer - certificate=" PRINT "," COLONS " disabled");
	assert_non_null(u);
	assert_int_equal(u->count, 3);
	assert_null(find(u, "nobody"));
	assert_null(find(u, ""));
	assert_non_null(find(u, "ANN@example.ORG"));
	assert_int_equal(find(u, "ann@example.org")->limits[USER_MAILS_PER_DAY],
			 USER_LIMIT_STANDARD);
	assert_int_equal(find(u, "ann@example.org")->from.size, 0);
	bob = find(u, "bob");
	assert_true(bob->has_verifier && !bob->disabled);
	assert_int_equal(bob->verifier.iterations, 4096);
	assert_true(span_eq(bob->from, SPAN("bob@example.org,@example.net,*")));
	assert_int_equal(bob->limits[USER_MAILS_PER_HOUR], 10);
	assert_int_equal(bob->limits[USER_MAILS_PER_DAY], USER_LIMIT_NONE);
	assert_int_equal(bob->limits[USER_RECIPIENTS_PER_HOUR], 30);
	assert_int_equal(bob->limits[USER_RECIPIENTS_PER_DAY], 40);
	assert_int_equal(bob->limits[USER_CONNECTIONS], 5);
	assert_false(find(u, "printer")->has_verifier);
	assert_true(find(u, "printer")->disabled);
	users_put(u);
}

static void
test_certificates_are_found(void **state)
{
	uint8_t fingerprint[USER_FINGERPRINT_SIZE];
	struct users *u = parse("a - certificate=" PRINT "\nb - certificate=" COLONS "\nc -\n");

	(void)state;
	assert_non_null(u);
	assert_true(user_line_fingerprint(SPAN(PRINT), fingerprint));
	assert_ptr_equal(users_find_certificate(u, fingerprint), find(u, "a"));
	fingerprint[0] = 1;
	assert_ptr_equal(users_find_certificate(u, fingerprint), find(u, "b"));
	fingerprint[0] = 2;
	assert_null(users_find_certificate(u, fingerprint));
	users_put(u);
	assert_null(parse("a - certificate=" PRINT "\nb - certificate=" PRINT "\n"));
	assert_non_null(memmem(why_memory, why.size, "the same certificate", 20));
}

static void
test_wrong_lines_are_told(void **state)
{
	static const struct {
		const char *text;
		const char *told;
	} rows[] = {
		{ "ann", "f:1: the line of 'ann' has no verifier" },
		{ "ann secret\n", "f:1: the line of 'ann' has no verifier" },
		{ "\nann SCRAM-SHA-256$1:W22Z" KEYS, "f:2: the line of 'ann' has no verifier" },
		{ "ann - from=", "f:1: the line of 'ann' has a word without a value" },
		{ "ann - from=nonsense", "f:1: the line of 'ann' from= has something else" },
		{ "ann - from=a@b,,c@d", "f:1: the line of 'ann' from= has something else" },
		{ "ann - from=@", "f:1: the line of 'ann' from= has something else" },
		{ "ann - from=a@b from=c@d", "f:1: the line of 'ann' has a word twice" },
		{ "ann - certificate=00", "f:1: the line of 'ann' certificate= has something" },
		{ "ann - mails_per_hour=0",
		  "f:1: the line of 'ann' has a limit that is no number" },
		{ "ann - mails_per_hour=4294967295", "f:1: the line of 'ann' has a limit" },
		{ "ann - mail_per_hour=1", "f:1: the line of 'ann' has a word that is not known" },
		{ "ann - from", "f:1: the line of 'ann' has a word without a value" },
		{ "ann - enabled", "f:1: the line of 'ann' has a word that is not known" },
		{ "ann -\nbob -\nAnn -", "f:3: the line of 'Ann' names a user that stands above" },
		{ "secret x", "f:1: the line of 'secret' is no secret" },
		{ "secret AAAA", "f:1: the line of 'secret' is no secret" },
		{ "\xff -", "f:1: the line of '\xef\xbf\xbd' begins with no user name" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_null(parse(rows[i].text));
		why_memory[why.size] = 0;
		if (!span_starts_with(buf_span(&why), span_of_string(rows[i].told)))
			fail_msg("%s: %s", rows[i].text, (const char *)why_memory);
	}
	/* What is shown is never what is secret. */
	assert_null(parse("ann hunter2 from=x"));
	assert_null(memmem(why_memory, why.size, "hunter2", 7));
}

static void
test_who_is_not_there_looks_as_if(void **state)
{
	struct sasl_verifier a, b;
	struct users *u = parse("secret AAAAAAAAAAAAAAAAAAAAAA==\na " VERIFIER "\nb " SLOWER
				"\nc " SLOWER "\nd -\n");
	struct users *again = parse("secret AAAAAAAAAAAAAAAAAAAAAA==\nb " SLOWER "\n");
	struct users *without = parse("a " VERIFIER "\n");

	(void)state;
	users_fake(u, SPAN("joe"), &a);
	assert_int_equal(a.iterations, 8192);
	users_fake(again, SPAN("JOE"), &b);
	assert_memory_equal(&a, &b, sizeof a);
	users_fake(without, SPAN("joe"), &b);
	assert_int_equal(b.iterations, 4096);
	assert_memory_not_equal(a.salt, b.salt, SASL_SALT_SIZE);
	users_put(u);
	users_put(again);
	users_put(without);
}

static void
test_a_session_keeps_its_user(void **state)
{
	struct users *u = parse("ann " VERIFIER "\n");
	const struct user *ann = user_get(find(u, "ann"));

	(void)state;
	users_put(u);
	assert_true(span_eq(ann->name, SPAN("ann")));
	user_put(ann);
	user_put(NULL);
}

/* ---- the file ---- */

static void
write_file(const char *text, mode_t mode)
{
	FILE *f = fopen(file_path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(file_path, mode), 0);
}

static const struct config *
make_config(void)
{
	struct config_errors errors = { 0 };
	char path[80];
	snprintf(path, sizeof path, "%s/c.yaml", folder);
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fprintf(f,
		"hostname: mx.example.org\nlisteners: [{ address: \"127.0.0.1:2525\" }]\n"
		"users: { file: \"%s\" }\nroutes: [{ domain: \"*\", to: discard }]\n",
		file_path);
	fclose(f);
	const struct config *c = config_load(path, &errors);
	if (c == NULL)
		fail_msg("%s", errors.lines[0]);
	unlink(path);
	return c;
}

static void
test_the_file_is_private(void **state)
{
	const struct config *c = make_config();
	struct users *u;

	(void)state;
	why = buf_of(why_memory, sizeof why_memory);
	assert_null(users_load(c, NULL, &why));
	assert_non_null(memmem(why_memory, why.size, "ringpostctl user add", 20));
	write_file("ann " VERIFIER "\n", 0640);
	why = buf_of(why_memory, sizeof why_memory);
	assert_null(users_load(c, NULL, &why));
	assert_non_null(memmem(why_memory, why.size, "chmod 600", 9));
	why = buf_of(why_memory, sizeof why_memory);
	assert_null(routing_new(c, NULL, &why));
	assert_int_equal(chmod(file_path, 0600), 0);
	u = users_load(c, NULL, &why);
	assert_non_null(u);
	assert_int_equal(u->count, 1);
	users_put(u);
	config_put(c);
}

static void
test_only_a_changed_file_is_read(void **state)
{
	const struct config *c = make_config();
	struct users *first, *second;

	(void)state;
	write_file("ann " VERIFIER "\n", 0600);
	why = buf_of(why_memory, sizeof why_memory);
	first = users_load(c, NULL, &why);
	assert_non_null(first);
	assert_int_equal(users_state(first), users_state_on_disk(c));
	second = users_load(c, first, &why);
	assert_ptr_equal(first, second);
	users_put(second);
	write_file("ann " VERIFIER "\nbob -\n", 0600);
	assert_int_not_equal(users_state(first), users_state_on_disk(c));
	second = users_load(c, first, &why);
	assert_non_null(second);
	assert_int_equal(second->count, 2);
	assert_int_equal(first->count, 1);
	users_put(second);
	users_put(first);
	config_put(c);
}

static int
make_folder(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(file_path, sizeof file_path, "%s/users", folder);
	return 0;
}

static int
drop_folder(void **state)
{
	(void)state;
	unlink(file_path);
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_is_a_user),
		cmocka_unit_test(test_certificates_are_found),
		cmocka_unit_test(test_wrong_lines_are_told),
		cmocka_unit_test(test_who_is_not_there_looks_as_if),
		cmocka_unit_test(test_a_session_keeps_its_user),
		cmocka_unit_test(test_the_file_is_private),
		cmocka_unit_test(test_only_a_changed_file_is_read),
	};

	return cmocka_run_group_tests_name("users", tests, make_folder, drop_folder);
}
