/* SPDX-License-Identifier: Apache-2.0
 *
 * Does the modelled Redis server do to a client what it may do, and nothing else? What its commands
 * do is compared with a real one in tests/redis; here it is a peer: streams cut anywhere, replies
 * in order, and each kind of fault, which must happen, and must leave what it promises to leave.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/redis/functions.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_net.h"
#include "tests/fault/sim_redis.h"

enum { SEEDS = 100, SECOND_US = 1000000 };

static const struct sim_redis_faults none = { 0 };
static struct net_address address;
static struct text got; /* by the client at hand */

static struct sim_redis *
server(uint64_t seed, const struct sim_redis_faults *faults)
{
	const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(6379) };

	memset(&address, 0, sizeof address);
	address.size = sizeof in;
	memcpy(address.bytes, &in, sizeof in);
	sim_reset(seed);
	return sim_redis_new(&address, faults);
}

/* Later than anything that is under way. */
static uint64_t
soon(void)
{
	return world->now_us + 100 * (uint64_t)SECOND_US;
}

/* ---- a client at the relay's end ---- */

/* NULL: refused. */
static struct sim_socket *
connected(void)
{
	struct sim_socket *s = sim_socket_new();

	if (sim_socket_connect(s, &address) < 0 || sim_socket_connected(s) < 0) {
		sim_socket_put(s);
		return NULL;
	}
	while (sim_socket_connected(s) == 0)
		assert_true(sim_step(soon()));
	if (sim_socket_connected(s) == 1)
		return s;
	sim_socket_put(s);
	return NULL;
}

/* False: broken. */
static bool
send_all(struct sim_socket *s, const char *text)
{
	size_t size = strlen(text);

	for (size_t at = 0; at < size;) {
		int n = sim_socket_send(s, (const uint8_t *)text + at, size - at);
		if (n < 0)
			return false;
		at += (size_t)n;
		if (n == 0 && !sim_step(soon()))
			return false;
	}
	return true;
}

/* Collects what comes until the time, the stream's end, or until `size` bytes are there. False: the
 * stream is over. */
static bool
collect(struct sim_socket *s, size_t size, uint64_t until_us)
{
	uint8_t bytes[512];

	while (got.size < size) {
		while (!sim_socket_readable(s)) {
			if (!sim_step(until_us))
				return true;
		}
		int n = sim_socket_receive(s, bytes, sizeof bytes);
		if (n <= 0)
			return false;
		text_append(&got, bytes, (size_t)n);
	}
	return true;
}

static void
assert_got(const char *text)
{
	text_append(&got, "", 1);
	assert_string_equal((const char *)got.data, text);
	got.size = 0;
}

/* In a stream of its own: the whole answer. */
static void
assert_answer(const char *request, const char *answer)
{
	struct sim_socket *s = connected();

	assert_non_null(s);
	got.size = 0;
	assert_true(send_all(s, request));
	collect(s, strlen(answer), soon());
	assert_got(answer);
	sim_socket_put(s);
}

/* Of the server itself: is the key there? */
static bool
has_key(struct sim_redis *r, const char *name)
{
	const struct span words[] = { SPAN("EXISTS"), span_of_string(name) };
	struct text out = { 0 };

	sim_redis_ask(r, words, 2, &out);
	bool is_there = memcmp(out.data, ":1", 2) == 0;
	text_fini(&out);
	return is_there;
}

#define PING     "*1\r\n$4\r\nPING\r\n"
#define SET(key) "*3\r\n$3\r\nSET\r\n$1\r\n" key "\r\n$1\r\nv\r\n"
#define GET(key) "*2\r\n$3\r\nGET\r\n$1\r\n" key "\r\n"

/* ---- without faults ---- */

static void
a_pipeline_is_answered_in_order(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		server(seed, &none);
		assert_answer(PING SET("a") GET("a") GET("b") PING,
			      "+PONG\r\n+OK\r\n$1\r\nv\r\n$-1\r\n+PONG\r\n");
	}
}

static void
a_transaction_is_one(void **state)
{
	struct sim_redis *r = server(1, &none);

	(void)state;
	assert_answer("*1\r\n$5\r\nMULTI\r\n" SET("a") GET("a") "*1\r\n$4\r\nEXEC\r\n",
		      "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\nv\r\n");
	struct sim_socket *s = connected();
	got.size = 0;
	assert_true(send_all(s, "*1\r\n$5\r\nMULTI\r\n" SET("b")));
	collect(s, 14, soon());
	assert_false(has_key(r, "b"));
	sim_socket_put(s);
	while (sim_step(soon()))
		;
	assert_false(has_key(r, "b"));
	assert_answer("*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nNONE\r\n" SET("c") "*1\r\n$4\r\nEXEC\r\n",
		      "+OK\r\n-ERR unknown command\r\n+QUEUED\r\n"
		      "-EXECABORT Transaction discarded because of previous errors.\r\n");
	assert_false(has_key(r, "c"));
}

/* More than a stream has room for, either way. */
static void
a_large_value_passes(void **state)
{
	enum { SIZE = 100000 };
	static char request[SIZE + 100], answer[SIZE + 100];
	int head = snprintf(request, sizeof request, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$%d\r\n", SIZE);
	int size = snprintf(answer, sizeof answer, "+OK\r\n$%d\r\n", SIZE);

	(void)state;
	for (int i = 0; i < SIZE; i++)
		request[head + i] = answer[size + i] = (char)('a' + i % 23);
	memcpy(request + head + SIZE, "\r\n" GET("a"), sizeof "\r\n" GET("a"));
	memcpy(answer + size + SIZE, "\r\n", 3);
	for (uint64_t seed = 1; seed <= 5; seed++) {
		server(seed, &none);
		assert_answer(request, answer);
	}
}

/* ---- over incarnations ---- */

static struct sim_redis *redis;

static void
ask_function(const struct span *words, unsigned count, const char *answer)
{
	struct text out = { 0 };

	sim_redis_ask(redis, words, count, &out);
	text_append(&out, "", 1);
	if (strncmp((const char *)out.data, answer, strlen(answer)) != 0)
		sim_fail("%s", (const char *)out.data);
	text_fini(&out);
}

static void
first_life(void *context)
{
	const struct span load[] = { SPAN("FUNCTION"), SPAN("LOAD"), redis_functions() };
	const struct span commit[] = { SPAN("FCALL"), SPAN("rp_commit"), SPAN("1"),  SPAN("{r:0}"),
				       SPAN("aa"),    SPAN("1000"),      SPAN("bb"), SPAN("0"),
				       SPAN("1"),     SPAN("e") };

	(void)context;
	ask_function(load, 3, "$10\r\nringpost_1\r\n");
	ask_function(commit, sizeof commit / sizeof commit[0], "*1\r\n$2\r\nOK\r\n");
	sim_crash();
}

static void
second_life(void *context)
{
	const struct span record[] = { SPAN("FCALL"), SPAN("rp_record"), SPAN("1"), SPAN("{r:0}"),
				       SPAN("aa"),    SPAN("bb"),        SPAN(""),  SPAN(""),
				       SPAN("1"),     SPAN("0"),         SPAN("D") };

	(void)context;
	ask_function(record, sizeof record / sizeof record[0], "*2\r\n$2\r\nOK\r\n:0\r\n");
}

/* A crash of the relay takes neither the functions nor the keys. */
static void
it_outlives_the_relay(void **state)
{
	(void)state;
	redis = server(1, &none);
	assert_int_equal(sim_run(first_life, NULL, 20), SIM_CRASHED);
	assert_true(has_key(redis, "{r:0}:m:bb"));
	enum sim_end end = sim_run(second_life, NULL, 20);
	if (end != SIM_FINISHED)
		print_error("%s\n", world->failure);
	assert_int_equal(end, SIM_FINISHED);
	assert_false(has_key(redis, "{r:0}:m:bb"));
}

static void
nobody_comes_in_without_the_password(void **state)
{
	struct sim_redis *r = server(1, &none);

	(void)state;
	sim_redis_require(r, "me", "secret");
	assert_answer(SET("a"), "-NOAUTH Authentication required.\r\n");
	assert_answer("*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\nelse\r\n" SET("a"),
		      "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
		      "-NOAUTH Authentication required.\r\n");
	assert_false(has_key(r, "a"));
	assert_answer("*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n" SET("a"),
		      "+OK\r\n+OK\r\n");
	assert_true(has_key(r, "a"));
}

static void
it_says_what_it_promises(void **state)
{
	struct sim_redis *r = server(1, &none);
	const char *ask = "*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$11\r\nappendfsync\r\n";

	(void)state;
	assert_answer(ask, "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n");
	sim_redis_configure(r, "appendfsync", "everysec");
	assert_answer(ask, "*2\r\n$11\r\nappendfsync\r\n$8\r\neverysec\r\n");
	sim_redis_configure(r, "hidden", "");
	assert_answer(ask, "-ERR unknown command 'CONFIG'\r\n");
	assert_answer("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
		      "-NOPROTO unsupported protocol version\r\n");
	assert_answer("*1\r\n$4\r\nROLE\r\n", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
}

static void
subscribers_hear_of_messages(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		server(seed, &none);
		struct sim_socket *s = connected();
		got.size = 0;
		assert_true(send_all(s, "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nw\r\n" PING));
		collect(s, 32 + 19, soon());
		assert_got(
			"*3\r\n$9\r\nsubscribe\r\n$1\r\nw\r\n:1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
		assert_answer("*3\r\n$7\r\nPUBLISH\r\n$1\r\nw\r\n$1\r\n7\r\n"
			      "*3\r\n$7\r\nPUBLISH\r\n$1\r\nx\r\n$1\r\n7\r\n",
			      ":1\r\n:0\r\n");
		collect(s, 31, soon());
		assert_got("*3\r\n$7\r\nmessage\r\n$1\r\nw\r\n$1\r\n7\r\n");
		sim_socket_put(s);
	}
}

/* ---- WAIT and fail-over ---- */

static const struct sim_redis_faults lagging = { .lag_us = 5 * SECOND_US };

/* A WAIT that says 1 is kept by every fail-over; a write without one is lost now and then, and
 * never one before it alone. */
static void
what_a_wait_has_promised_survives(void **state)
{
	unsigned lost = 0, kept = 0, timed_out = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sim_redis *r = server(seed, &lagging);
		struct sim_socket *s = connected();
		got.size = 0;
		assert_true(send_all(s, SET("a") "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$3\r\n500\r\n"));
		collect(s, 9, soon());
		assert_int_equal(got.size, 9);
		bool promised = got.data[6] == '1';
		assert_true(send_all(s, SET("b") SET("c")));
		collect(s, 19, soon());
		sim_redis_fail_over(r, 10);
		if (promised)
			assert_true(has_key(r, "a"));
		assert_true(has_key(r, "a") || !has_key(r, "b"));
		assert_true(has_key(r, "b") || !has_key(r, "c"));
		timed_out += !promised;
		lost += !has_key(r, "c");
		kept += has_key(r, "c");
		int there = has_key(r, "a") + has_key(r, "b") + has_key(r, "c");
		assert_int_equal(sim_redis_count(r).lost, 3 - there);
		sim_socket_put(s);
	}
	assert_true(lost > 10 && kept > 0 && timed_out > 0 && timed_out < SEEDS);
}

static void
a_wait_covers_its_own_connection_alone(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		server(seed, &lagging);
		assert_answer(SET("a"), "+OK\r\n");
		/* This one wrote nothing: it is told 1 at once, which proves nothing. */
		assert_answer("*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$3\r\n500\r\n", ":1\r\n");
	}
	server(1, &none);
	assert_answer(SET("a") "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$2\r\n50\r\n", "+OK\r\n:0\r\n");
}

static void
a_server_that_is_back_has_its_keys_and_no_old_stream(void **state)
{
	struct sim_redis *r = server(1, &none);
	struct sim_socket *s = connected();

	(void)state;
	got.size = 0;
	assert_true(send_all(s, SET("a")));
	collect(s, 5, soon());
	sim_redis_restart(r, SECOND_US);
	assert_false(collect(s, 1000, soon()));
	assert_null(connected());
	sim_advance(world->now_us + 2 * SECOND_US);
	assert_answer(GET("a"), "$1\r\nv\r\n");
	sim_socket_put(s);
}

/* ---- faults by seed ---- */

/* One SET under a fault: was it answered, and was it executed? */
static void
try_set(const struct sim_redis_faults *f, unsigned counts[2][2])
{
	memset(counts, 0, 4 * sizeof counts[0][0]);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sim_redis *r = server(seed, f);
		struct sim_socket *s = connected();
		got.size = 0;
		bool sent = s != NULL && send_all(s, SET("a"));
		if (sent)
			collect(s, 5, soon());
		bool answered = got.size == 5 && memcmp(got.data, "+OK\r\n", 5) == 0;
		counts[answered][has_key(r, "a")]++;
		if (s != NULL)
			sim_socket_put(s);
	}
}

static void
faults_do_what_they_say(void **state)
{
	const struct sim_redis_faults before = { .drops_before = 500 };
	const struct sim_redis_faults after = { .drops_after = 500 };
	const struct sim_redis_faults late = { .delays = 500,
					       .answers_late = 500,
					       .delay_us = SECOND_US };
	const struct sim_redis_faults restarts = { .restarts = 500, .down_us = SECOND_US };
	const struct sim_redis_faults memory = { .no_memory = 500, .trouble_us = SECOND_US };
	unsigned n[2][2];

	(void)state;
	try_set(&none, n);
	assert_int_equal(n[1][1], SEEDS);
	try_set(&before, n);
	assert_true(n[0][0] > 20 && n[1][1] > 20 && n[0][1] == 0 && n[1][0] == 0);
	try_set(&after, n);
	assert_true(n[0][1] > 20 && n[1][1] > 20 && n[0][0] == 0 && n[1][0] == 0);
	try_set(&late, n);
	assert_int_equal(n[1][1], SEEDS);
	try_set(&restarts, n);
	assert_true(n[0][1] > 20 && n[1][1] > 20 && n[0][0] == 0 && n[1][0] == 0);
	try_set(&memory, n); /* it begins behind a command */
	assert_int_equal(n[1][1], SEEDS);
}

/* Memory or disk go missing at the first command, and are back after a while. */
static void
trouble_is_refused_and_passes(void **state)
{
	const struct sim_redis_faults memory = { .no_memory = 1000, .trouble_us = SECOND_US };
	const struct sim_redis_faults disk = { .no_disk = 1000, .trouble_us = SECOND_US };

	(void)state;
	struct sim_redis *r = server(7, &memory);
	assert_answer(PING SET("a") GET("a"),
		      "+PONG\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n"
		      "$-1\r\n");
	assert_false(has_key(r, "a"));
	sim_redis_calm(r);
	assert_answer(SET("a"), "+OK\r\n");
	r = server(7, &disk);
	assert_answer(PING SET("a"),
		      "+PONG\r\n-MISCONF Errors writing to the AOF file: No space left on "
		      "device\r\n");
	assert_int_equal(sim_redis_count(r).refused, 1);
	sim_redis_calm(r);
	assert_answer(SET("a"), "+OK\r\n");
}

/* The same seed is the same run. */
static void
a_seed_repeats(void **state)
{
	const struct sim_redis_faults all = { .drops_before = 50,
					      .drops_after = 50,
					      .delays = 200,
					      .answers_late = 200,
					      .restarts = 20,
					      .fails_over = 20,
					      .no_memory = 20,
					      .no_disk = 20,
					      .delay_us = SECOND_US,
					      .down_us = SECOND_US,
					      .trouble_us = SECOND_US,
					      .lag_us = SECOND_US };
	uint64_t traces[2] = { 0, 0 };

	(void)state;
	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint64_t seed = 1; seed <= 20; seed++) {
			server(seed, &all);
			for (unsigned i = 0; i < 30; i++) {
				struct sim_socket *s = connected();
				got.size = 0;
				if (s != NULL && send_all(s, SET("a") PING SET("b") GET("a")))
					collect(s, 24, world->now_us + SECOND_US);
				if (s != NULL)
					sim_socket_put(s);
				sim_advance(world->now_us + SECOND_US / 10);
			}
			traces[pass] = traces[pass] * 31 + world->trace;
		}
	}
	assert_int_equal(traces[0], traces[1]);
	assert_int_not_equal(traces[0], 0);
}

static int
map_world(void **state)
{
	(void)state;
	sim_map();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pipeline_is_answered_in_order),
		cmocka_unit_test(a_transaction_is_one),
		cmocka_unit_test(a_large_value_passes),
		cmocka_unit_test(it_outlives_the_relay),
		cmocka_unit_test(nobody_comes_in_without_the_password),
		cmocka_unit_test(it_says_what_it_promises),
		cmocka_unit_test(subscribers_hear_of_messages),
		cmocka_unit_test(what_a_wait_has_promised_survives),
		cmocka_unit_test(a_wait_covers_its_own_connection_alone),
		cmocka_unit_test(a_server_that_is_back_has_its_keys_and_no_old_stream),
		cmocka_unit_test(faults_do_what_they_say),
		cmocka_unit_test(trouble_is_refused_and_passes),
		cmocka_unit_test(a_seed_repeats),
	};
	int failed = cmocka_run_group_tests(tests, map_world, NULL);

	text_fini(&got);
	return failed;
}
