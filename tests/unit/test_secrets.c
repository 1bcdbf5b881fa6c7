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

#include "relay/flow/peer_login.h"
#include "relay/flow/routing.h"
#include "relay/flow/secrets.h"

static uint8_t why_memory[768];
static struct buf why;
static char folder[] = "/tmp/secrets.XXXXXX";
static char path[64];

static struct secrets *
parse(const char *text)
{
	why = buf_of(why_memory, sizeof why_memory);
	return secrets_parse(SPAN("f"), span_of_string(text), &why);
}

static void
a_line_is_an_entry(void **state)
{
	struct secrets *s = parse("# who we are\n"
				  "\n"
				  "smarthost  ann@example.org\t  pass word \r\n"
				  "b bob #x\n"
				  "last u p");

	(void)state;
	assert_non_null(s);
	assert_int_equal(s->count, 3);
	const struct secret *found = secrets_find(s, SPAN("smarthost"));
	assert_non_null(found);
	assert_true(span_eq(found->user, SPAN("ann@example.org")));
	assert_true(span_eq(found->password, SPAN("pass word ")));
	assert_true(span_eq(secrets_find(s, SPAN("b"))->password, SPAN("#x")));
	assert_true(span_eq(secrets_find(s, SPAN("last"))->password, SPAN("p")));
	assert_null(secrets_find(s, SPAN("las")));
	assert_null(secrets_find(s, SPAN("lastt")));
	secrets_put(s);
	s = parse("");
	assert_non_null(s);
	assert_null(secrets_find(s, SPAN("a")));
	secrets_put(s);
}

static void
bad_lines_are_told_without_what_they_say(void **state)
{
	static const char *const rows[][2] = {
		{ "a b\n", "f:1: " },
		{ "# x\na\n", "f:2: " },
		{ "ok u p\n geheim u p\n", "f:2: " },
		{ "a u geheim\x01\n", "f:1: " },
		{ "a u \xff geheim\n", "f:1: " },
		{ "0123456789012345678901234567890123456789 u geheim\n", "f:1: " },
		{ "a u geheim\nb u geheim\na v geheim\n", "f: 'a' stands twice" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_null(parse(rows[i][0]));
		struct span said = buf_span(&why);
		assert_true(span_starts_with(said, span_of_string(rows[i][1])));
		assert_null(memmem(said.data, said.size, "geheim", 6));
	}
}

static void
write_file(const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static const struct config *
configure(const char *auth)
{
	static struct config_errors errors;
	char text[600];

	snprintf(text, sizeof text,
		 "hostname: mx1.example.org\n"
		 "listeners: [{ address: \"127.0.0.1:25\", role: relay }]\n"
		 "log: { file: %s/log }\n"
		 "queue: { store: spool, spool: { path: %s } }\n"
		 "secrets: %s\n"
		 "routes: [{ domain: \"*\", to: \"smtp://192.0.2.1\", tls: verify, auth: %s }]\n",
		 folder, folder, path, auth);
	const struct config *c = config_parse("test", span_of_string(text), &errors);
	if (c == NULL)
		print_error("%s\n", errors.lines[0]);
	assert_non_null(c);
	return c;
}

static struct secrets *
load(const struct config *c, struct secrets *old)
{
	why = buf_of(why_memory, sizeof why_memory);
	return secrets_load(c, old, &why);
}

static void
the_file_is_private_and_has_what_routes_name(void **state)
{
	const struct config *c = configure("one");
	const struct config *wrong = configure("two");

	(void)state;
	assert_null(load(c, NULL));
	write_file("one u p\n", 0644);
	assert_null(load(c, NULL));
	assert_non_null(memmem(why.data, why.size, path, strlen(path)));
	write_file("one u p\n", 0600);
	struct secrets *s = load(c, NULL);
	assert_non_null(s);
	assert_int_equal(secrets_state(s), secrets_state_on_disk(c));
	assert_null(load(wrong, NULL));
	assert_true(
		span_starts_with(buf_span(&why), SPAN("routes[0].auth: 'two' is no entry of ")));
	struct secrets *same = load(c, s);
	assert_ptr_equal(same, s);
	write_file("one u other\n", 0600);
	assert_int_not_equal(secrets_state(s), secrets_state_on_disk(c));
	struct secrets *other = load(c, s);
	assert_ptr_not_equal(other, s);
	assert_true(span_eq(secrets_find(other, SPAN("one"))->password, SPAN("other")));
	secrets_put(other);
	secrets_put(same);
	secrets_put(s);
	config_put(wrong);
	config_put(c);
}

static void
who_we_are_is_part_of_the_destination(void **state)
{
	const struct config *c = configure("one");

	(void)state;
	write_file("one u p\n", 0600);
	why = buf_of(why_memory, sizeof why_memory);
	struct routing *r = routing_new(c, NULL, &why);
	assert_non_null(r);
	struct routing_step step = routing_find(r, SPAN("u@a.example"));
	assert_true(span_eq(step.way->name, SPAN("smtp://192.0.2.1:25 tls=verify auth=one")));
	struct plan *p = plan_of_target(step.target, &step.way->policy, step.way->auth, NULL, NULL);
	assert_non_null(p);
	routing_put(r);
	assert_true(span_eq(p->auth, SPAN("one")));
	assert_true(span_eq(p->name, SPAN("smtp://192.0.2.1:25 tls=verify auth=one")));
	plan_put(p);
	config_put(c);
}

/* ---- exchanges ---- */

static const uint8_t server_random[SASL_RANDOM_SIZE] = "server's randomnes";

/* Plays a server that has this verifier; true where both sides are content. */
static bool
log_in(struct peer_logins *l, struct secrets *s, enum sasl_mechanism m,
       const struct sasl_verifier *v)
{
	struct peer_login *login = peer_login_new(l, NULL, s, secrets_find(s, SPAN("one")));
	struct sender_auth asked = { .mechanism = m, .first = true };
	uint8_t memory[SASL_MESSAGE_MAX];
	struct sasl_server server;
	enum sasl_outcome outcome;
	struct span answer;
	bool both = false;

	assert_non_null(login);
	sasl_server_init(&server, m, span_none(), server_random);
	for (unsigned turn = 0; turn < 8; turn++) {
		enum peer_login_step step = peer_login_answer(l, login, &asked, &answer);
		if (step == PEER_LOGIN_DERIVES) {
			peer_login_derive_here(login);
			step = peer_login_derived(l, login, &answer);
		}
		if (step != PEER_LOGIN_SAYS)
			break;
		struct buf out = buf_of(memory, sizeof memory);
		if (asked.over) {
			both = true;
			break;
		}
		bool has_data = !asked.first || answer.size > 0;
		outcome = sasl_server_step(&server, has_data, answer, &out);
		if (outcome == SASL_LOOKUP)
			outcome = sasl_server_verifier(&server, v, &out);
		if (outcome == SASL_CHECK)
			outcome = sasl_verifier_check(v, sasl_server_password(&server), NULL)
					  ? SASL_OK
					  : SASL_WRONG;
		if (outcome != SASL_CONTINUE && outcome != SASL_OK)
			break;
		asked = (struct sender_auth){ .mechanism = m, .over = outcome == SASL_OK };
		asked.data = buf_span(&out);
	}
	sasl_server_fini(&server);
	peer_login_free(l, login);
	return both;
}

static void
every_mechanism_logs_in(void **state)
{
	static const enum sasl_mechanism mechanisms[] = { SASL_SCRAM_SHA_256, SASL_PLAIN,
							  SASL_LOGIN };
	struct sasl_verifier v = { .iterations = 4096, .salt_size = 4, .salt = "salt" };
	struct secrets *s = parse("one ann pencil\n");
	struct secrets *wrong = parse("one ann pen\n");
	static struct peer_logins l;

	(void)state;
	sasl_verifier_make(&v, SPAN("pencil"));
	peer_logins_init(&l, 4);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(log_in(&l, s, mechanisms[i], &v));
		assert_false(log_in(&l, wrong, mechanisms[i], &v));
		/* With the keys that are kept. */
		assert_true(log_in(&l, s, mechanisms[i], &v));
	}
	peer_logins_fini(&l);
	secrets_put(s);
	secrets_put(wrong);
}

/* The keys that were kept do not fit a server that has another salt now. */
static void
keys_are_kept_by_salt_and_entry(void **state)
{
	struct sasl_verifier v = { .iterations = 4096, .salt_size = 4, .salt = "salt" };
	struct sasl_verifier w = { .iterations = 4096, .salt_size = 4, .salt = "tlas" };
	struct secrets *s = parse("one ann pencil\n");
	static struct peer_logins l;

	(void)state;
	sasl_verifier_make(&v, SPAN("pencil"));
	sasl_verifier_make(&w, SPAN("pencil"));
	peer_logins_init(&l, 4);
	for (unsigned i = 0; i < 2 * PEER_LOGIN_KEYS; i++) {
		v.iterations = 4096;
		assert_true(log_in(&l, s, SASL_SCRAM_SHA_256, i % 3 == 0 ? &w : &v));
	}
	unsigned kept = 0;
	for (unsigned i = 0; i < PEER_LOGIN_KEYS; i++)
		kept += l.kept[i].secrets != NULL;
	assert_int_equal(kept, 2);
	peer_logins_fini(&l);
	secrets_put(s);
}

static int
set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/secrets", folder);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_an_entry),
		cmocka_unit_test(bad_lines_are_told_without_what_they_say),
		cmocka_unit_test(the_file_is_private_and_has_what_routes_name),
		cmocka_unit_test(who_we_are_is_part_of_the_destination),
		cmocka_unit_test(every_mechanism_logs_in),
		cmocka_unit_test(keys_are_kept_by_salt_and_entry),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
