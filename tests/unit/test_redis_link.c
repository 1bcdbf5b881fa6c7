/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue tls core machine */
#include "tests/lib/redis_link_rig.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/metric.h"

/* A link, and a scripted server: what it hears and says is the test's. */

static char folder[] = "/tmp/ringpost-link-XXXXXX";
static char path[64];
static int listener = -1;

static int
listen_setup(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	strcpy(folder, "/tmp/ringpost-link-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/socket", folder);
	snprintf(server, sizeof server, "unix:%s", path);
	strcpy(a.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(listener, 8), 0);
	return setup(state);
}

static int
listen_teardown(void **state)
{
	close(listener);
	unlink(path);
	rmdir(folder);
	return teardown(state);
}

static int
accept_one(void)
{
	int fd;

	UNTIL((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	return fd;
}

/* Reads exactly these bytes while the worker turns. */
static void
expect(int fd, const char *text)
{
	char got[4096];
	size_t size = strlen(text), done = 0;
	uint64_t until_ms = clock_monotonic_ms() + 20000;

	assert_true(size < sizeof got);
	while (done < size) {
		ssize_t n = read(fd, got + done, size - done);
		if (n < 0 && errno == EAGAIN) {
			worker_turn(&w, 1000);
			assert_true(clock_monotonic_ms() < until_ms);
			continue;
		}
		assert_true(n > 0);
		done += (size_t)n;
	}
	got[done] = 0;
	assert_string_equal(got, text);
}

static void
say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

#define NAMED "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$10\r\nringpost-0\r\n"
#define PING  "*1\r\n$4\r\nPING\r\n"

/* Accepts, lets it in. */
static int
let_in(struct redis_link *l)
{
	int fd = accept_one();

	expect(fd, NAMED);
	say(fd, "+OK\r\n");
	UNTIL(redis_link_is_ready(l));
	return fd;
}

/* ---- tests with the scripted server ---- */

static void
login_is_one_flight(void **state)
{
	struct redis_link *l = new_link((struct redis_link_options){
		.user = SPAN("post"), .password = SPAN("secret"), .database = 7 });
	int fd = accept_one();

	(void)state;
	sets_up = false;
	expect(fd, "*3\r\n$4\r\nAUTH\r\n$4\r\npost\r\n$6\r\nsecret\r\n"
		   "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n" NAMED);
	say(fd, "+OK\r\n+OK\r\n");
	worker_turn(&w, 1000);
	assert_int_equal(logins, 0);
	/* Whether it may tell its name is not important. */
	say(fd, "-NOPERM this user has no permissions to run the 'client' command\r\n");
	UNTIL(logins == 1);
	assert_false(redis_link_is_ready(l));
	assert_int_equal(redis_link_ready_since_ms(l), 0);
	struct question q = { .answers = 0 };
	ask(l, &q, "PING");
	expect(fd, PING);
	say(fd, "+PONG\r\n");
	UNTIL(q.answers == 1);
	assert_string_equal(q.text, "PONG");
	redis_link_ready(l);
	assert_true(redis_link_is_ready(l));
	assert_int_equal(redis_link_ready_since_ms(l), w.now_ms);
	end_link(l);
	assert_int_equal(downs, 1);
	close(fd);
}

static void
who_is_not_let_in_tries_again_later(void **state)
{
	static const char *const refusals[] = {
		"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
		"-NOAUTH Authentication required.\r\n",
		"-LOADING Redis is loading the dataset in memory\r\n",
		"*1\r\nx\r\n",
	};
	struct redis_link *l = new_link((struct redis_link_options){ .password = SPAN("secret") });
	uint64_t before_ms = clock_monotonic_ms();

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		int fd = accept_one();
		expect(fd, "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n" NAMED);
		say(fd, refusals[i]);
		UNTIL(redis_link_problem(l).size > 0 && w.conn_count == 0);
		if (refusals[i][0] == '-')
			assert_memory_equal(redis_link_problem(l).data, refusals[i] + 1, 6);
		close(fd);
	}
	/* 100, 200, 400 ms, of which at least the half was waited. */
	assert_true(clock_monotonic_ms() - before_ms >= 350);
	assert_int_equal(logins, 0);
	assert_int_equal(downs, 0);
	assert_int_equal(failures, 4);
	end_link(l);
}

/* Whatever the cuts. */
static void
replies_come_in_order(void **state)
{
	static const char replies[] = "+PONG\r\n:42\r\n$5\r\nhello\r\n$-1\r\n";
	struct question q[4];

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	for (size_t cut = 1; cut <= sizeof replies - 1; cut++) {
		memset(q, 0, sizeof q);
		answer_count = 0;
		for (unsigned i = 0; i < 4; i++)
			ask(l, &q[i], "PING");
		expect(fd, PING PING PING PING);
		for (size_t at = 0; at < sizeof replies - 1; at += cut) {
			size_t n = sizeof replies - 1 - at;
			n = n < cut ? n : cut;
			assert_int_equal(write(fd, replies + at, n), n);
			worker_turn(&w, 0);
			worker_turn(&w, 0);
		}
		UNTIL(q[3].answers == 1);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(q[i].answers, 1);
			assert_int_equal(q[i].order, i + 1);
			assert_int_equal(q[i].error, ERR_OK);
		}
		assert_string_equal(q[0].text, "PONG");
		assert_int_equal(q[1].number, 42);
		assert_string_equal(q[2].text, "hello");
		assert_int_equal(q[3].type, REDIS_REPLY_NIL);
	}
	end_link(l);
	close(fd);
}

static void
errors_say_whether_it_was_executed(void **state)
{
	static const struct {
		const char *line;
		enum err error;
		bool moved;
	} rows[] = {
		{ "MOVED 3999 127.0.0.1:6381", ERR_AGAIN, true },
		{ "ASK 3999 [::1]:6381", ERR_AGAIN, true },
		{ "CLUSTERDOWN The cluster is down", ERR_AGAIN, true },
		{ "READONLY You can't write against a read only replica.", ERR_AGAIN, true },
		{ "TRYAGAIN Multiple keys request during rehashing of slot", ERR_AGAIN, false },
		{ "LOADING Redis is loading the dataset in memory", ERR_AGAIN, false },
		{ "BUSY Redis is busy running a script.", ERR_AGAIN, false },
		{ "MASTERDOWN Link with MASTER is down", ERR_AGAIN, false },
		{ "NOREPLICAS Not enough good replicas to write.", ERR_AGAIN, true },
		{ "EXECABORT Transaction discarded", ERR_AGAIN, false },
		{ "NOAUTH Authentication required.", ERR_AGAIN, false },
		{ "OOM command not allowed when used memory > 'maxmemory'.", ERR_NO_ROOM, false },
		{ "MISCONF Errors writing to the AOF file", ERR_NO_ROOM, false },
		{ "ERR unknown command 'FCALL'", ERR_PROTOCOL, false },
		{ "OOMPH", ERR_PROTOCOL, false },
		{ "", ERR_PROTOCOL, false },
	};
	struct question q = { .answers = 0 };
	char line[128];

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		moved[0] = 0;
		ask(l, &q, "PING");
		expect(fd, PING);
		snprintf(line, sizeof line, "-%s\r\n", rows[i].line);
		say(fd, line);
		UNTIL(q.answers == i + 1);
		assert_int_equal(q.error, rows[i].error);
		assert_int_equal(q.type, REDIS_REPLY_ERROR);
		assert_string_equal(moved, rows[i].moved ? rows[i].line : "");
	}
	assert_true(redis_link_is_ready(l));
	end_link(l);
	close(fd);
}

/* Before anybody is there, while it logs in, when it is gone: certainly not executed. */
static void
what_was_not_sent_is_refused(void **state)
{
	struct question early = { 0 }, at_login = { 0 }, late = { 0 }, again = { 0 };
	struct redis_link *l = new_link((struct redis_link_options){ 0 });

	(void)state;
	early.then = &again;
	early.on = l;
	ask(l, &early, "PING");
	int fd = accept_one();
	expect(fd, NAMED);
	UNTIL(early.answers == 1 && again.answers == 1);
	ask(l, &at_login, "PING");
	UNTIL(at_login.answers == 1);
	say(fd, "+OK\r\n");
	UNTIL(redis_link_is_ready(l));
	close(fd);
	UNTIL(downs == 1);
	ask(l, &late, "PING");
	UNTIL(late.answers == 1);
	assert_int_equal(early.error, ERR_AGAIN);
	assert_int_equal(at_login.error, ERR_AGAIN);
	assert_int_equal(late.error, ERR_AGAIN);
	end_link(l);
}

static void
what_was_sent_and_not_answered_is_in_doubt(void **state)
{
	struct question q[3] = { 0 }, next = { 0 };

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	q[1].then = &next;
	q[1].on = l;
	for (unsigned i = 0; i < 3; i++)
		ask(l, &q[i], "PING");
	expect(fd, PING PING PING);
	say(fd, "+PONG\r\n");
	UNTIL(q[0].answers == 1);
	close(fd);
	UNTIL(downs == 1);
	assert_int_equal(q[0].error, ERR_OK);
	assert_int_equal(q[1].error, ERR_IN_DOUBT);
	assert_int_equal(q[2].error, ERR_IN_DOUBT);
	UNTIL(next.answers == 1);
	assert_int_equal(next.error, ERR_AGAIN);
	/* It comes back by itself. */
	fd = let_in(l);
	ask(l, &q[0], "PING");
	expect(fd, PING);
	say(fd, "+PONG\r\n");
	UNTIL(q[0].answers == 2);
	assert_int_equal(q[0].error, ERR_OK);
	end_link(l);
	close(fd);
}

static void
commands_and_bytes_are_counted(void **state)
{
	struct metrics *m = aligned_alloc(64, sizeof *m);
	struct question q[2] = { 0 };

	(void)state;
	assert_non_null(m);
	memset(m, 0, sizeof *m);
	w.metrics = m;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	ask(l, &q[0], "PING");
	ask(l, &q[1], "PING");
	expect(fd, PING PING);
	say(fd, "+PONG\r\n");
	UNTIL(q[0].answers == 1);
	assert_int_equal(METRIC_GET(m, REDIS_CONNECTS), 1);
	assert_int_equal(METRIC_GET(m, REDIS_COMMANDS), 3);
	assert_int_equal(METRIC_GET_LABEL(m, REDIS_BYTES, LABEL_DIRECTION_SENT),
			 strlen(NAMED PING PING));
	assert_int_equal(METRIC_GET_LABEL(m, REDIS_BYTES, LABEL_DIRECTION_RECEIVED),
			 strlen("+OK\r\n+PONG\r\n"));
	assert_int_equal(METRIC_GET(m, REDIS_LINKS), 1);
	assert_int_equal(METRIC_GET(m, REDIS_IN_DOUBT), 0);
	end_link(l);
	assert_int_equal(METRIC_GET(m, REDIS_IN_DOUBT), 1);
	assert_int_equal(METRIC_GET(m, REDIS_LINKS), 0);
	close(fd);
	w.metrics = NULL;
	free(m);
}

static void
a_silent_server_is_given_up(void **state)
{
	struct question q = { 0 };
	struct redis_link *l = new_link((struct redis_link_options){ .deadline_ms = 200 });
	int fd = let_in(l);

	(void)state;
	/* Silence alone is no reason. */
	uint64_t at_ms = clock_monotonic_ms() + 400;
	while (clock_monotonic_ms() < at_ms)
		worker_turn(&w, 100 * 1000);
	assert_true(redis_link_is_ready(l));
	at_ms = clock_monotonic_ms();
	ask(l, &q, "PING");
	UNTIL(q.answers == 1);
	assert_true(clock_monotonic_ms() - at_ms >= 190);
	assert_int_equal(q.error, ERR_IN_DOUBT);
	assert_int_equal(downs, 1);
	close(fd);
	/* One that does not let it in, too. */
	fd = accept_one();
	expect(fd, NAMED);
	UNTIL(w.conn_count == 0);
	assert_memory_equal(redis_link_problem(l).data, "no reply in time", 16);
	close(fd);
	end_link(l);
}

static void
messages_come_between_replies(void **state)
{
	struct question q = { 0 };

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	ask(l, &q, "SUBSCRIBE c");
	expect(fd, "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n");
	say(fd, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
		"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n17\r\n");
	UNTIL(message[0] != 0);
	assert_string_equal(message, "c: 17");
	assert_int_equal(q.answers, 1);
	assert_int_equal(q.type, REDIS_REPLY_ARRAY);
	/* A reply that nobody asked for is none of them. */
	say(fd, ":1\r\n");
	UNTIL(downs == 1);
	end_link(l);
	close(fd);
}

/* One after the other, from the one that is named. */
static void
each_attempt_takes_the_next_server(void **state)
{
	char nobody[160];
	struct span places[3];

	(void)state;
	snprintf(nobody, sizeof nobody, "%s-nobody", server);
	places[0] = places[2] = span_of_string(nobody);
	places[1] = span_of_string(server);
	struct redis_link *l = new_link(
		(struct redis_link_options){ .servers = places, .server_count = 3, .first = 2 });
	int fd = let_in(l);
	assert_int_equal(failures, 2);
	assert_true(span_eq(redis_link_server(l), places[1]));
	end_link(l);
	close(fd);
}

static void
a_rejected_server_is_left(void **state)
{
	struct question q = { 0 };
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);

	(void)state;
	ask(l, &q, "PING");
	expect(fd, PING);
	redis_link_reject(l, SPAN("it promises less"));
	assert_false(redis_link_is_ready(l));
	UNTIL(downs == 1);
	assert_int_equal(q.error, ERR_IN_DOUBT);
	assert_memory_equal(redis_link_problem(l).data, "it promises less", 16);
	close(fd);
	end_link(l);
}

/* ---- bodies ---- */

/* Reads `size` bytes of the pattern from `offset` on. */
static void
expect_pattern(int fd, size_t offset, size_t size)
{
	static uint8_t got[BODY_SIZE];
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, got + done, size - done);
		if (n < 0 && errno == EAGAIN) {
			worker_turn(&w, 1000);
			continue;
		}
		assert_true(n > 0);
		done += (size_t)n;
	}
	for (size_t i = 0; i < size; i++) {
		if (got[i] != pattern(offset + i))
			fail_msg("byte %zu is wrong", i);
	}
}

static void
bodies_stay_in_their_place(void **state)
{
	static const struct {
		size_t offset, size;
	} rows[] = { { 0, 0 },      { 0, 1 },         { 100, 1000 },      { 0, 16384 },
		     { 5, 65536 },  { 0, 262144 },    { 262144, 262144 }, { 0, 40000 },
		     { 1, 300000 }, { 0, BODY_SIZE }, { BODY_SIZE, 0 },   { BODY_SIZE - 1, 1 } };
	struct body_budget budget = { .most_bytes = 16 * 1024 * 1024 };
	struct body *b = new_body(BODY_SIZE, &budget);
	struct question q[12] = { 0 }, ping[12] = { 0 };
	char text[128];

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	for (unsigned i = 0; i < 12; i++) {
		q[i].call.on_reply = on_reply;
		redis_send_body(l, &q[i].call, (struct span[]){ SPAN("SET"), SPAN("key") }, 2,
				SPAN("0"), b, rows[i].offset, rows[i].size);
		ask(l, &ping[i], "PING");
	}
	for (unsigned i = 0; i < 12; i++) {
		snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%zu\r\n0",
			 rows[i].size + 1);
		expect(fd, text);
		expect_pattern(fd, rows[i].offset, rows[i].size);
		expect(fd, "\r\n" PING);
		say(fd, "+OK\r\n+PONG\r\n");
	}
	for (unsigned i = 0; i < 12; i++) {
		UNTIL(ping[i].answers == 1);
		assert_int_equal(q[i].order, 2 * i + 1);
		assert_string_equal(q[i].text, "OK");
		assert_string_equal(ping[i].text, "PONG");
	}
	end_link(l);
	body_put(b);
	assert_int_equal(budget.used_bytes, 0);
	close(fd);
}

/* A body is in the kernel's hands when the link ends: on_reply waits until it is back. */
static void
what_has_left_whole_is_in_doubt_and_the_rest_is_not(void **state)
{
	struct body_budget budget = { .most_bytes = 16 * 1024 * 1024 };
	struct body *b = new_body(BODY_SIZE, &budget);
	struct question before = { 0 }, cut = { 0 }, behind = { 0 };

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	ask(l, &before, "PING");
	cut.call.on_reply = on_reply;
	redis_send_body(l, &cut.call, (struct span[]){ SPAN("SET"), SPAN("key") }, 2, SPAN("0"), b,
			0, BODY_SIZE);
	ask(l, &behind, "PING");
	expect(fd, PING "*3\r\n"); /* and no more: the socket fills up */
	for (unsigned i = 0; i < 20; i++)
		worker_turn(&w, 1000);
	redis_link_close(l, on_ended, NULL);
	assert_int_equal(cut.answers, 0);
	UNTIL(ended == 1);
	assert_int_equal(before.error, ERR_IN_DOUBT);
	assert_int_equal(cut.error, ERR_AGAIN);
	assert_int_equal(behind.error, ERR_AGAIN);
	body_put(b);
	close(fd);
}

/* The server answers what the kernel has not sent whole yet: on_reply, which ends the loan of the
 * body, has to wait. */
static void
an_answer_waits_for_the_body_that_is_lent(void **state)
{
	enum { SETS = 16, SIZE = 64 * 1024 };
	struct body_budget budget = { .most_bytes = 16 * 1024 * 1024 };
	struct body *b = new_body(SIZE, &budget);
	struct question q[SETS] = { 0 };
	static uint8_t rest[SETS * (SIZE + 100)];
	unsigned i, turns;
	ssize_t got = 0;

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	for (i = 0; i < SETS; i++) {
		q[i].call.on_reply = on_reply;
		redis_send_body(l, &q[i].call, (struct span[]){ SPAN("SET"), SPAN("key") }, 2,
				span_none(), b, 0, SIZE);
	}
	for (turns = 0; turns < 20; turns++)
		worker_turn(&w, 1000);
	for (i = 0; i < SETS && (i == 0 || q[i - 1].answers == 1); i++) {
		say(fd, "+OK\r\n");
		for (turns = 0; turns < 20 && q[i].answers == 0; turns++)
			worker_turn(&w, 1000);
	}
	i--;
	assert_true(i < SETS - 1 && q[i].answers == 0); /* this one waits */
	assert_true(redis_link_is_ready(l));
	UNTIL((got = read(fd, rest, sizeof rest), q[i].answers == 1));
	assert_true(got != 0); /* the link lives */
	assert_int_equal(q[i].error, ERR_OK);
	end_link(l);
	body_put(b);
	close(fd);
}

static void
what_is_under_way_is_bounded(void **state)
{
	static struct question q[2 * REDIS_CALLS_MOST + 1];
	unsigned again = 0;

	(void)state;
	struct redis_link *l = new_link((struct redis_link_options){ 0 });
	int fd = let_in(l);
	for (unsigned i = 0; i < 2 * REDIS_CALLS_MOST + 1; i++) {
		assert_int_equal(redis_link_is_full(l), i >= REDIS_CALLS_MOST);
		ask(l, &q[i], "PING");
	}
	UNTIL(downs == 1);
	for (unsigned i = 0; i < 2 * REDIS_CALLS_MOST + 1; i++) {
		assert_int_equal(q[i].answers, 1);
		again += q[i].error == ERR_AGAIN;
	}
	assert_true(again > REDIS_CALLS_MOST);
	close(fd);
	end_link(l);
}

#define SCRIPTED(test) cmocka_unit_test_setup_teardown(test, listen_setup, listen_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPTED(login_is_one_flight),
		SCRIPTED(who_is_not_let_in_tries_again_later),
		SCRIPTED(replies_come_in_order),
		SCRIPTED(errors_say_whether_it_was_executed),
		SCRIPTED(what_was_not_sent_is_refused),
		SCRIPTED(what_was_sent_and_not_answered_is_in_doubt),
		SCRIPTED(commands_and_bytes_are_counted),
		SCRIPTED(a_silent_server_is_given_up),
		SCRIPTED(messages_come_between_replies),
		SCRIPTED(each_attempt_takes_the_next_server),
		SCRIPTED(a_rejected_server_is_left),
		SCRIPTED(bodies_stay_in_their_place),
		SCRIPTED(what_has_left_whole_is_in_doubt_and_the_rest_is_not),
		SCRIPTED(an_answer_waits_for_the_body_that_is_lent),
		SCRIPTED(what_is_under_way_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
