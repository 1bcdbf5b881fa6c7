/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue dns core smtp message machine threads */
/*
 * AUTH in sessions of a worker with a real ring and real helpers, over pairs of sockets. The
 * sessions are told that TLS came first; what TLS itself does is tested elsewhere.
 */
#include "queue/driver.h"
#include "relay/flow/login.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/base64.h"
#include "core/base/clock.h"
#include "core/helpers.h"
#include "core/limits.h"
#include "core/log.h"
#include "core/metric.h"
#include "core/strikes.h"
#include "relay/flow/flow.h"

enum { PATIENCE_MS = 20000, REPLY_SIZE = 2048 };

#define GREETING "220 mx1.example.org ESMTP ringpost\r\n"
#define HELLO    "250 mx1.example.org\r\n"
#define GOOD     "235 2.7.0 "
#define BAD      "535 5.7.8 "
#define LATER    "454 4.7.0 "

static const struct worker_options options = {
	.ring = { .entries = 256, .buffers = { 16, 16 }, .buffer_size = { 4096, 4096 } },
	.mailbox_places = 64,
	.buffers_max = 64,
};

static char folder[] = "/tmp/login.XXXXXX";
static char users_path[64], log_path[64];
static struct worker w;
static struct worker *peers[] = { &w };
static const struct queue_driver driver = { .name = "one node" };
static struct queue queue = { .magic = QUEUE_MAGIC, .driver = &driver, .worker = &w };
static struct metrics *counters;
static struct log *logs;
static struct routing *routing;
static const char *remember = "10m";

/* ---- what is set up ---- */

static void
write_users(const char *password)
{
	uint8_t memory[2048];
	struct buf text = buf_of(memory, sizeof memory);
	struct sasl_verifier v = { .iterations = 4096, .salt_size = 4, .salt = "salt" };
	FILE *f = fopen(users_path, "we");

	sasl_verifier_make(&v, span_of_string(password));
	buf_append_string(&text, "ann@example.org ");
	sasl_verifier_show(&v, &text);
	buf_append_string(&text, "\noff ");
	sasl_verifier_show(&v, &text);
	buf_append_string(&text, " disabled\nnone -\n");
	assert_non_null(f);
	assert_int_equal(fwrite(memory, 1, text.size, f), text.size);
	fclose(f);
	assert_int_equal(chmod(users_path, 0600), 0);
}

static struct routing *
make_routing(const char *more)
{
	static struct config_errors errors;
	uint8_t memory[512];
	struct buf why = buf_of(memory, sizeof memory);
	char text[1024];

	snprintf(text, sizeof text,
		 "hostname: mx1.example.org\n"
		 "listeners: [{ address: \"127.0.0.1:25\" }]\n"
		 "users: { file: \"%s\", remember: %s }\n"
		 "%s\n"
		 "routes: [{ domain: \"*\", to: discard }]\n",
		 users_path, remember, more);
	const struct config *c = config_parse("test", span_of_string(text), &errors);
	if (c == NULL)
		fail_msg("%s", errors.lines[0]);
	struct routing *r = routing_new(c, routing, &why);
	config_put(c);
	if (r == NULL)
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
	r->receivers[0].auth =
		SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_LOGIN) | SASL_BIT(SASL_SCRAM_SHA_256);
	return r;
}

#define QUICK "lockout: { delay: 0s, address_failures: 0, user_failures: 0 }"

static void
use_routing(const char *more)
{
	struct routing *next = make_routing(more);

	flow_adopt(w.flow, next);
	routing_put(routing);
	routing = next;
}

static int
open_worker(void **state)
{
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	int error;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(users_path, sizeof users_path, "%s/users", folder);
	snprintf(log_path, sizeof log_path, "%s/log", folder);
	write_users("secret");
	counters = aligned_alloc(64, sizeof *counters);
	memset(counters, 0, sizeof *counters);
	worker_init(&w, 0, 1, peers, &options);
	w.queue = &queue;
	assert_true(worker_open(&w, &options, &why));
	logs = log_new(1, 1 << 20, log_path, &error);
	w.metrics = counters;
	w.limits = limits_new(1024);
	w.strikes = strikes_new(1024);
	w.log = log_ring(logs, 0, counters);
	assert_int_equal(log_start(logs), ERR_OK);
	w.helpers = helpers_start(
		&(struct helpers_options){ .threads = 1, .jobs_max = 2, .party_max = 2 }, &why);
	assert_non_null(w.helpers);
	routing = make_routing(QUICK);
	w.config = routing->config;
	assert_non_null(flow_new(&w, routing, 1));
	return 0;
}

static int
close_worker(void **state)
{
	(void)state;
	helpers_stop(w.helpers);
	flow_free(w.flow);
	routing_put(routing);
	worker_close(&w);
	log_free(logs);
	limits_free(w.limits);
	strikes_free(w.strikes);
	free(counters);
	unlink(users_path);
	unlink(log_path);
	return rmdir(folder);
}

/* ---- a client ---- */

struct client {
	int fd;
	size_t size;
	char heard[REPLY_SIZE];
};

static void
turn(uint64_t end_ms)
{
	assert_true(clock_monotonic_ms() < end_ms);
	worker_turn(&w, 20 * 1000);
}

/* Until so many whole lines have come, or the end of the stream. */
static const char *
hear(struct client *c, unsigned lines)
{
	uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
	unsigned seen = 0;

	c->size = 0;
	while (seen < lines) {
		ssize_t n = recv(c->fd, c->heard + c->size, 1, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n < 0) {
			turn(end_ms);
			continue;
		}
		seen += c->heard[c->size] == '\n';
		c->size++;
		assert_true(c->size < sizeof c->heard);
	}
	c->heard[c->size] = '\0';
	return c->heard;
}

static void
say(struct client *c, const char *line)
{
	assert_int_equal(send(c->fd, line, strlen(line), 0), strlen(line));
	assert_int_equal(send(c->fd, "\r\n", 2, 0), 2);
}

static void
expect(struct client *c, const char *line, const char *reply)
{
	if (line != NULL)
		say(c, line);
	hear(c, 1);
	if (strncmp(c->heard, reply, strlen(reply)) != 0)
		fail_msg("%s: %s", line == NULL ? "" : line, c->heard);
}

static struct session *
connect_client(struct client *c)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	c->fd = pair[1];
	session_start(w.flow, 0, pair[0]);
	struct session *s = CONTAINER_OF(LIST_ITEM(list_first(&w.conns), struct conn, link),
					 struct session, conn);
	while (list_next(&w.conns, &s->conn.link) != NULL)
		s = CONTAINER_OF(LIST_ITEM(list_next(&w.conns, &s->conn.link), struct conn, link),
				 struct session, conn);
	receiver_secured(&s->receiver, false);
	expect(c, NULL, GREETING);
	expect(c, "HELO client.example", HELLO);
	return s;
}

static void
leave(struct client *c)
{
	uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

	close(c->fd);
	while (w.flow->session_count > 0)
		turn(end_ms);
	assert_int_equal(w.flow->logins.pool.used, 0);
}

/* "AUTH PLAIN <name, password>" */
static const char *
plain(const char *name, const char *password)
{
	static char line[256];
	uint8_t memory[128];
	struct buf data = buf_of(memory, sizeof memory);
	struct buf text = buf_of(line, sizeof line - 1);

	buf_append_byte(&data, '\0');
	buf_append_string(&data, name);
	buf_append_byte(&data, '\0');
	buf_append_string(&data, password);
	buf_append_string(&text, "AUTH PLAIN ");
	base64_encode(buf_span(&data), &text);
	line[text.size] = '\0';
	return line;
}

static uint64_t
checked(void)
{
	return METRIC_GET(counters, PASSWORDS_CHECKED);
}

/* ---- what is tested ---- */

static void
passwords_are_checked_and_remembered(void **state)
{
	struct client c;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct session *s = connect_client(&c);
		expect(&c, plain("ann@example.org", "guessed"), BAD);
		assert_null(s->user);
		expect(&c, plain(i == 2 ? "ANN@Example.Org" : "ann@example.org", "secret"), GOOD);
		assert_true(span_eq(s->user->name, SPAN("ann@example.org")));
		leave(&c);
	}
	assert_int_equal(checked(), 3 + 1);
	assert_int_equal(METRIC_GET(counters, PASSWORDS_REMEMBERED), 2);
	assert_int_equal(METRIC_GET_LABEL(counters, AUTH_OK, LABEL_MECHANISM_PLAIN), 3);
	assert_int_equal(METRIC_GET_LABEL(counters, AUTH_FAILED, LABEL_MECHANISM_PLAIN), 3);
}

static void
another_password_counts_at_once(void **state)
{
	struct client c;

	(void)state;
	connect_client(&c);
	expect(&c, plain("ann@example.org", "secret"), GOOD);
	leave(&c);
	write_users("other");
	use_routing(QUICK);
	connect_client(&c);
	expect(&c, plain("ann@example.org", "secret"), BAD);
	expect(&c, plain("ann@example.org", "other"), GOOD);
	leave(&c);
	write_users("secret");
	use_routing(QUICK);
}

static void
nothing_is_remembered_where_it_is_not_wanted(void **state)
{
	uint64_t before;
	struct client c;

	(void)state;
	remember = "0s";
	use_routing(QUICK);
	memset(w.flow->logins.remembered, 0, LOGIN_REMEMBERED * sizeof(struct remembered));
	before = checked();
	for (unsigned i = 0; i < 2; i++) {
		connect_client(&c);
		expect(&c, plain("ann@example.org", "secret"), GOOD);
		leave(&c);
	}
	assert_int_equal(checked(), before + 2);
	remember = "10m";
	use_routing(QUICK);
}

static void
who_is_not_there_costs_the_same(void **state)
{
	static const char *const names[] = { "nobody", "off", "none" };
	struct client c;

	(void)state;
	connect_client(&c);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		uint64_t before = checked();
		expect(&c, plain(names[i], "secret"), BAD);
		assert_int_equal(checked(), before + 1);
		expect(&c, "AUTH LOGIN", "334 VXNlcm5hbWU6");
		expect(&c, i == 0 ? "bm9ib2R5" : i == 1 ? "b2Zm" : "bm9uZQ==", "334 UGFzc3dvcmQ6");
		expect(&c, "c2VjcmV0", BAD);
		assert_int_equal(checked(), before + 2);
	}
	leave(&c);
}

static const char *
encode(char *out, const char *head, struct span data)
{
	struct buf text = buf_of(out, 1023);

	buf_append_string(&text, head);
	base64_encode(data, &text);
	out[text.size] = '\0';
	return out;
}

static struct span
challenge(const struct client *c, uint8_t *memory)
{
	struct buf out = buf_of(memory, SASL_MESSAGE_MAX);

	assert_true(base64_decode(span_of(c->heard + 4, c->size - 6), &out));
	return buf_span(&out);
}

/* Speaks SCRAM as a client does; the last reply. */
static void
scram(struct client *c, const char *name, const char *password, const char *reply)
{
	uint8_t random[SASL_RANDOM_SIZE] = "eighteen at random";
	uint8_t memory[SASL_MESSAGE_MAX], challenge_memory[SASL_MESSAGE_MAX];
	struct buf out = buf_of(memory, sizeof memory);
	char line[1024];
	struct sasl_client sasl;

	sasl_client_init(&sasl, SASL_SCRAM_SHA_256, span_of_string(name), span_of_string(password),
			 random);
	assert_int_equal(sasl_client_step(&sasl, span_none(), &out), SASL_CONTINUE);
	expect(c, encode(line, "AUTH SCRAM-SHA-256 ", buf_span(&out)), "334 ");
	buf_reset(&out);
	assert_int_equal(sasl_client_step(&sasl, challenge(c, challenge_memory), &out),
			 SASL_DERIVE);
	sasl_client_derive(&sasl, NULL);
	assert_int_equal(sasl_client_derived(&sasl, &out), SASL_CONTINUE);
	say(c, encode(line, "", buf_span(&out)));
	hear(c, 1);
	if (strncmp(c->heard, "334 ", 4) == 0) {
		buf_reset(&out);
		assert_int_equal(sasl_client_step(&sasl, challenge(c, challenge_memory), &out),
				 SASL_CONTINUE);
		assert_true(sasl_client_is_satisfied(&sasl));
		say(c, "");
		hear(c, 1);
	}
	sasl_client_fini(&sasl);
	if (strncmp(c->heard, reply, strlen(reply)) != 0)
		fail_msg("SCRAM: %s", c->heard);
}

static void
scram_needs_no_helper(void **state)
{
	uint64_t before = checked();
	struct client c;

	(void)state;
	struct session *s = connect_client(&c);
	scram(&c, "ann@example.org", "guessed", BAD);
	scram(&c, "nobody", "secret", BAD);
	scram(&c, "off", "secret", BAD);
	scram(&c, "none", "secret", BAD);
	assert_null(s->user);
	scram(&c, "ann@example.org", "secret", GOOD);
	assert_true(span_eq(s->user->name, SPAN("ann@example.org")));
	leave(&c);
	assert_int_equal(checked(), before);
}

/* The one helper is held at a gate. */
struct gate {
	struct helper_job job;
	pthread_barrier_t barrier;
	bool done;
};

static void
wait_at_gate(struct helper_job *j)
{
	pthread_barrier_wait(&CONTAINER_OF(j, struct gate, job)->barrier);
	pthread_barrier_wait(&CONTAINER_OF(j, struct gate, job)->barrier);
}

static void
through_gate(struct helper_job *j)
{
	CONTAINER_OF(j, struct gate, job)->done = true;
}

static void
close_gate(struct gate *g)
{
	*g = (struct gate){ .job = { .work = wait_at_gate, .on_done = through_gate } };
	pthread_barrier_init(&g->barrier, NULL, 2);
	assert_true(helpers_submit(w.helpers, &w, &g->job));
	pthread_barrier_wait(&g->barrier); /* the helper is there */
}

static void
open_gate(struct gate *g)
{
	uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

	pthread_barrier_wait(&g->barrier);
	while (!g->done)
		turn(end_ms);
	pthread_barrier_destroy(&g->barrier);
}

static void
turn_until_checking(uint64_t count)
{
	uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

	while (checked() < count)
		turn(end_ms);
}

static void
busy_helpers_are_told(void **state)
{
	struct client waiting[2], c;
	struct gate gate;

	(void)state;
	connect_client(&c);
	expect(&c, plain("ann@example.org", "secret"), GOOD);
	leave(&c);
	uint64_t before = checked();
	close_gate(&gate);
	for (unsigned i = 0; i < 2; i++) {
		connect_client(&waiting[i]);
		say(&waiting[i], plain("ann@example.org", i == 0 ? "one" : "two"));
		turn_until_checking(before + i + 1);
	}
	connect_client(&c);
	expect(&c, plain("ann@example.org", "three"), LATER);
	assert_int_equal(METRIC_GET_LABEL(counters, AUTH_UNAVAILABLE, LABEL_MECHANISM_PLAIN), 1);
	expect(&c, plain("ann@example.org", "secret"), GOOD); /* remembered: no helper needed */
	open_gate(&gate);
	expect(&waiting[0], NULL, BAD);
	expect(&waiting[1], NULL, BAD);
	close(waiting[0].fd);
	close(waiting[1].fd);
	leave(&c);
}

static void
clients_may_leave_meanwhile(void **state)
{
	uint64_t before = checked();
	struct gate gate;
	struct client c;

	(void)state;
	close_gate(&gate);
	struct session *s = connect_client(&c);
	say(&c, plain("ann@example.org", "not remembered"));
	turn_until_checking(before + 1);
	conn_close(&s->conn, CLOSE_RESET);
	for (unsigned i = 0; i < 10; i++)
		worker_turn(&w, 0);
	assert_int_equal(w.flow->session_count, 1); /* the helper has its memory */
	open_gate(&gate);
	leave(&c);
	/* The same, where the relay itself ends the session. */
	close_gate(&gate);
	connect_client(&c);
	say(&c, plain("ann@example.org", "not remembered"));
	turn_until_checking(before + 2);
	inbound_cut_off(w.flow);
	expect(&c, NULL, "421 4.3.2");
	open_gate(&gate);
	leave(&c);
}

static void
failures_are_held_back_and_locked_out(void **state)
{
	struct client c;

	(void)state;
	use_routing("lockout: { delay: 50ms, delay_max: 100ms, address_failures: 0, user_failures: "
		    "2 }");
	connect_client(&c);
	uint64_t started_ms = clock_monotonic_ms();
	expect(&c, plain("nobody2", "one"), BAD);
	assert_true(clock_monotonic_ms() - started_ms >= 50);
	expect(&c, plain("nobody2", "two"), BAD);
	uint64_t before = checked();
	expect(&c, plain("nobody2", "three"), LATER);
	assert_int_equal(checked(), before); /* locked out without a look */
	say(&c, plain("nobody2", "four"));
	worker_turn(&w, 0);
	leave(&c); /* while an answer is held back */
	use_routing(QUICK);
}

static void
too_early_and_nonsense_are_refused(void **state)
{
	struct client c;

	(void)state;
	connect_client(&c);
	expect(&c, "AUTH PLAIN AGFubg==", "501 5.5.2"); /* no password in it */
	expect(&c, "AUTH LOGIN", "334 ");
	expect(&c, "*", "501 5.7.0");
	expect(&c, "AUTH LOGIN", "334 ");
	assert_int_equal(w.flow->logins.pool.used, 1);
	expect(&c, "YW5u\r\nc2VjcmV0", "554 5.5.0");
	leave(&c);
	connect_client(&c);
	expect(&c, "AUTH PLAIN\r\nAGFubgBzZWNyZXQ=", "554 5.5.0");
	leave(&c);
}

/* Behind all others: what they have said is in no line of the log. */
static void
no_secret_is_logged(void **state)
{
	static const char *const secrets[] = { "secret", "guessed",  "not remembered",
					       "nobody", "c2VjcmV0", "SCRAM-SHA-256$",
					       "AGFubk" };
	static const char *const told[] = { "\"event\":\"auth_ok\"",
					    "\"event\":\"auth_failed\"",
					    "no such user",
					    "user is disabled",
					    "wrong password",
					    "user has no password",
					    "locked out" };
	static char text[1 << 20];

	(void)state;
	log_stop(logs);
	int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	ssize_t size = read(fd, text, sizeof text);
	close(fd);
	assert_true(size > 0 && (size_t)size < sizeof text);
	for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
		if (memmem(text, (size_t)size, told[i], strlen(told[i])) == NULL)
			fail_msg("the log does not tell of: %s", told[i]);
	}
	for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
		if (memmem(text, (size_t)size, secrets[i], strlen(secrets[i])) != NULL)
			fail_msg("the log tells: %s", secrets[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passwords_are_checked_and_remembered),
		cmocka_unit_test(another_password_counts_at_once),
		cmocka_unit_test(nothing_is_remembered_where_it_is_not_wanted),
		cmocka_unit_test(who_is_not_there_costs_the_same),
		cmocka_unit_test(scram_needs_no_helper),
		cmocka_unit_test(busy_helpers_are_told),
		cmocka_unit_test(clients_may_leave_meanwhile),
		cmocka_unit_test(failures_are_held_back_and_locked_out),
		cmocka_unit_test(too_early_and_nonsense_are_refused),
		cmocka_unit_test(no_secret_is_logged),
	};

	return cmocka_run_group_tests_name("login", tests, open_worker, close_worker);
}
