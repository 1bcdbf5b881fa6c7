/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses layer_rig toy_layer core machine threads */
/* Connections with a layer that is a toy. What TLS does to it is tested with TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/conn.h"
#include "tests/lib/layer_rig.h"
#include "tests/lib/toy_layer.h"

/* Looks and goes away. */
static void
step_pause(struct rig_session *s)
{
	(void)s;
}

/* Eats until a line "STARTTLS" has come, and answers that in the middle of its input. */
static void
step_starttls(struct rig_session *s)
{
	struct span in = conn_input(&s->conn);

	assert_true(span_starts_with(in, SPAN("STARTTLS\n")));
	conn_write(&s->conn, SPAN("220 go on\n"));
	s->step = rig_step_eat;
	conn_secure(&s->conn, toy_new(true));
	assert_int_equal(conn_input(&s->conn).size, 0);
	assert_true(span_starts_with(in, SPAN("STARTTLS\n"))); /* still there, seen by ASan */
	conn_consume(&s->conn, 9);
	assert_false(conn_write(&s->conn, SPAN("not now")));
	conn_read_more(&s->conn);
}

/* ---- tests ---- */

/* RFC 3207 5: what was sent in the clear behind STARTTLS must not be taken for protected. */
static void
what_came_with_starttls_is_never_seen(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, step_starttls);

	(void)state;
	rig_put(fd, SPAN("STARTTLS\nMAIL FROM:<evil@example>\n"));
	rig_expect(fd, SPAN("220 go on\n"));
	rig_put(fd, RIG_HELLO);
	rig_expect(fd, RIG_ANSWER);
	rig_put(fd, RIG_FINISH);
	rig_put(fd, rig_record_of(SPAN("EHLO me\n")));
	RIG_UNTIL(s.seen_size == 8);
	assert_memory_equal(s.seen, "EHLO me\n", 8);
	assert_int_equal(rig.buffers.used, 0); /* an idle connection holds none */
	conn_write(&s.conn, SPAN("250 hello\n"));
	rig_expect(fd, rig_record_of(SPAN("250 hello\n")));
	rig_end(&s, fd);
}

/* A line that announces the client, and the hello right behind it. */
static void
step_announced(struct rig_session *s)
{
	if (s->conn.layer != NULL) {
		rig_step_eat(s);
		return;
	}
	assert_true(span_starts_with(conn_input(&s->conn), SPAN("PROXY\n")));
	conn_consume(&s->conn, 6);
	conn_secure_unread(&s->conn, toy_new(true));
	assert_int_equal(conn_input(&s->conn).size, 0);
}

static void
what_is_unread_may_be_the_layers(void **state)
{
	static const char hello[] = "PROXY\nh\0\0f\0\0d\0\1\x3b";

	(void)state;
	/* cut: in the hello, behind the line, and nowhere */
	for (size_t cut = 6; cut < sizeof hello; cut++) {
		struct rig_session s;
		int fd = rig_start(&s, step_announced);
		rig_put(fd, span_of(hello, cut));
		for (unsigned i = 0; i < 4; i++)
			worker_turn(&rig, 0);
		if (cut < sizeof hello - 1)
			rig_put(fd, span_of(hello + cut, sizeof hello - 1 - cut));
		RIG_UNTIL(s.seen_size == 1);
		assert_int_equal(s.seen[0], 'a');
		RIG_UNTIL(rig.buffers.used == 0);
		rig_end(&s, fd);
	}

	/* It waits in a pooled buffer, and is taken from outside of on_input. */
	struct rig_session s;
	int fd = rig_start(&s, step_pause);
	rig_put(fd, RIG_HELLO);
	RIG_UNTIL(s.conn.input_memory != NULL);
	conn_secure_unread(&s.conn, toy_new(true));
	rig_expect(fd, RIG_ANSWER);
	rig_put(fd, RIG_FINISH);
	RIG_UNTIL(s.secured == 1);
	rig_end(&s, fd);
}

/* What was written in the clear leaves in the clear, also behind a send that is still under way. */
static void
what_was_written_before_leaves_as_it_was(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, rig_step_eat);

	(void)state;
	conn_write(&s.conn, SPAN("one "));
	worker_turn(&rig, 0);
	assert_true(s.conn.send.in_kernel);
	conn_write(&s.conn, SPAN("two "));
	conn_secure(&s.conn, toy_new(false));
	rig_expect(fd, SPAN("one two h\0\0"));
	rig_put(fd, RIG_ANSWER);
	rig_expect(fd, RIG_FINISH);
	RIG_UNTIL(s.secured == 1);
	conn_write(&s.conn, SPAN("three"));
	rig_expect(fd, rig_record_of(SPAN("three")));
	rig_end(&s, fd);
}

/* The whole conversation in two pieces cut at every place, and byte by byte (cut 0). */
static void
it_does_not_matter_how_the_wire_is_cut(void **state)
{
	static const char wire[] = "h\0\0f\0\0d\0\3\x3b\x38\x39"
				   "d\0\0d\0\1\x3e"
				   "e\0\0";

	(void)state;
	for (size_t cut = 0; cut < sizeof wire - 1; cut++) {
		struct rig_session s;
		int fd = rig_start(&s, rig_step_eat);
		size_t size = cut == 0 ? 1 : cut;

		conn_secure(&s.conn, toy_new(true));
		for (size_t done = 0; done < sizeof wire - 1; done += size) {
			size = done == 0 || cut == 0 ? size : sizeof wire - 1 - done;
			rig_put(fd, span_of(wire + done, size));
			for (unsigned i = 0; i < 4; i++)
				worker_turn(&rig, 0);
		}
		/* The peer's end is the end of the stream; ours is said, too. */
		rig_expect(fd, SPAN("s\0\0e\0\0"));
		RIG_UNTIL(s.closed == 1);
		assert_int_equal(s.conn.reason, CLOSE_PEER_CLOSED);
		assert_int_equal(s.seen_size, 4);
		assert_memory_equal(s.seen, "abcd", 4);
		assert_int_equal(s.lost, 0);
		rig_end(&s, fd);
	}
}

/* As in plain SMTP: a peer that just goes has ended its stream, and takes nothing with it. */
static void
a_stream_that_is_cut_off_has_ended(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, rig_step_eat);

	(void)state;
	rig_shake_hands(&s, fd);
	rig_put(fd, rig_record_of(SPAN("last words")));
	rig_put(fd, SPAN("d\0\7bla"));
	shutdown(fd, SHUT_WR);
	RIG_UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_PEER_CLOSED);
	assert_int_equal(s.seen_size, 10);
	assert_int_equal(s.lost, 0);
	rig_end(&s, fd);
}

/* The owner pauses: no receive is armed, and what has come waits in two buffers at most. */
static void
a_paused_owner_holds_up_the_peer(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, step_pause);
	uint8_t bytes[RECORD_MAX];
	size_t written = 0;

	(void)state;
	rig_shake_hands(&s, fd);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)i;
	for (unsigned idle = 0; idle < 3;) {
		struct span record = rig_record_of(span_of(bytes, sizeof bytes));
		ssize_t n = written < 1000000 ? send(fd, record.data, record.size,
						     MSG_DONTWAIT | MSG_NOSIGNAL)
					      : -1;
		if (n > 0) {
			assert_int_equal(n, record.size);
			written += sizeof bytes;
		}
		idle = n > 0 || worker_turn(&rig, 0) ? 0 : idle + 1;
	}
	assert_false(s.conn.receive.in_kernel);
	assert_true(rig.buffers.used <= 2);
	s.step = rig_step_eat;
	conn_run(&s.conn);
	RIG_UNTIL(s.seen_size == written);
	for (size_t i = 0; i < written; i++)
		assert_int_equal(s.seen[i], (uint8_t)(i % sizeof bytes));
	assert_int_equal(rig.buffers.used, 0);
	rig_end(&s, fd);
}

/* Takes a part of what is there, so that records end in a buffer that is nearly full. */
static void
step_nibble(struct rig_session *s)
{
	struct span in = conn_input(&s->conn);
	size_t n = in.size > 8000 ? in.size - 8000 : in.size;

	s->seen_size += n;
	conn_consume(&s->conn, n);
	conn_read_more(&s->conn);
	if (in.size > n && s->seen_size > 0)
		conn_run(&s->conn);
}

static void
an_owner_that_keeps_a_part_gets_all(void **state)
{
	enum { RECORDS = 200 };
	struct rig_session s;
	int fd = rig_start(&s, step_nibble);
	uint8_t bytes[RECORD_MAX] = { 0 };

	(void)state;
	rig_shake_hands(&s, fd);
	for (unsigned i = 0; i < RECORDS;) {
		struct span record = rig_record_of(span_of(bytes, sizeof bytes));
		if (send(fd, record.data, record.size, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			i++;
		else
			worker_turn(&rig, 1000);
	}
	RIG_UNTIL(s.seen_size == RECORDS * sizeof bytes);
	rig_end(&s, fd);
}

static void
a_failed_handshake_says_why_and_ends(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, rig_step_eat);

	(void)state;
	conn_secure(&s.conn, toy_new(true));
	rig_put(fd, SPAN("EHLO plain\r\n"));
	rig_expect(fd, RIG_ALERT);
	char byte;
	RIG_UNTIL(s.conn.shut_down);
	close(fd);
	RIG_UNTIL(s.closed == 1);
	assert_int_equal(s.secured, 1);
	assert_int_equal(s.error, ERR_TLS);
	assert_int_equal(s.conn.reason, CLOSE_TLS_FAILED);

	/* The peer just goes. */
	fd = rig_start(&s, rig_step_eat);
	conn_secure(&s.conn, toy_new(true));
	rig_put(fd, RIG_HELLO);
	rig_expect(fd, RIG_ANSWER);
	close(fd);
	RIG_UNTIL(s.closed == 1);
	assert_int_equal(s.secured, 1);
	assert_int_equal(s.error, ERR_RESET);

	/* It says nothing at all. */
	fd = rig_start(&s, rig_step_eat);
	conn_secure(&s.conn, toy_new(true));
	conn_deadline(&s.conn, rig.now_ms + 20);
	RIG_UNTIL(s.conn.shut_down && !s.conn.end.in_kernel);
	assert_int_equal(s.deadlines, 1);
	assert_int_equal(recv(fd, &byte, 1, 0), 0); /* nothing was said in the clear */
	close(fd);
	RIG_UNTIL(s.closed == 1);
	assert_int_equal(s.secured, 0);
	assert_int_equal(s.conn.reason, CLOSE_TIMEOUT);
}

static void
what_is_not_of_the_layer_is_a_loss(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, rig_step_eat);

	(void)state;
	rig_shake_hands(&s, fd);
	conn_write(&s.conn, SPAN("never mind"));
	rig_put(fd, rig_record_of(SPAN("good")));
	rig_put(fd, SPAN("garbage"));
	RIG_UNTIL(s.closed == 1);
	assert_int_equal(s.lost, 1);
	assert_int_equal(s.error, ERR_TLS);
	assert_int_equal(s.seen_size, 4);
	rig_end(&s, fd);
}

/* One heavy step a turn, eight handshakes. Who waits holds no buffer, but for an answer that
 * leaves. */
static void
handshakes_wait_for_their_turn(void **state)
{
	enum { CROWD = 8 };
	struct rig_session crowd[CROWD];
	int fds[CROWD];

	(void)state;
	rig.heavy_steps = 1;
	for (unsigned i = 0; i < CROWD; i++) {
		fds[i] = rig_start(&crowd[i], rig_step_eat);
		conn_secure(&crowd[i].conn, toy_new(true));
		rig_put(fds[i], RIG_HELLO);
		rig_put(fds[i], RIG_FINISH);
	}
	for (unsigned i = 0; i < CROWD; i++) {
		while (crowd[i].secured == 0) {
			assert_true(rig_turn("a handshake"));
			assert_true(rig.buffers.used <= 1);
		}
	}
	RIG_UNTIL(rig.buffers.used == 0);
	for (unsigned i = 0; i < CROWD; i++)
		rig_end(&crowd[i], fds[i]);
}

static void
without_memory_a_connection_is_closed(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, rig_step_eat);

	(void)state;
	rig_shake_hands(&s, fd);
	pool_set_limit(&rig.buffers, 0);
	rig_put(fd, rig_record_of(SPAN("hello")));
	RIG_UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_NO_MEMORY);
	rig_end(&s, fd);

	pool_set_limit(&rig.buffers, 64);
	fd = rig_start(&s, rig_step_eat);
	rig_shake_hands(&s, fd);
	conn_write(&s.conn, SPAN("hello"));
	pool_set_limit(&rig.buffers, 1); /* the plain text has one, its wire form none */
	RIG_UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_NO_MEMORY);
	rig_end(&s, fd);
}

static void
a_layer_for_a_closing_connection_is_freed(void **state)
{
	struct rig_session s;
	int fd = rig_start(&s, rig_step_eat);

	(void)state;
	conn_close(&s.conn, CLOSE_QUIT);
	conn_secure(&s.conn, toy_new(true));
	assert_int_equal(toy_layers, 0);
	assert_null(conn_layer(&s.conn));
	rig_end(&s, fd);
}

/* ---- two ends, each with a layer ---- */

static void
start_couple(struct rig_session couple[2], void (*step)(struct rig_session *s))
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	for (unsigned i = 0; i < 2; i++) {
		couple[i] = (struct rig_session){ .step = step };
		conn_init(&couple[i].conn, &rig, fds[i], i == 0 ? RING_CLIENTS : RING_PEERS,
			  &rig_events);
		conn_secure(&couple[i].conn, toy_new(i == 0));
	}
}

static void
end_couple(struct rig_session couple[2])
{
	for (unsigned i = 0; i < 2; i++)
		if (couple[i].closed == 0)
			conn_close(&couple[i].conn, CLOSE_QUIT);
	for (unsigned i = 0; i < 2; i++) {
		RIG_UNTIL(couple[i].closed == 1);
		free(couple[i].seen);
	}
}

/* SplitMix64: what the owners do can be repeated, when the kernel is ready cannot. */
static uint64_t seed = 1;

static uint64_t
anything(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint8_t
position_byte(size_t i)
{
	return (uint8_t)(i * 131 >> 3);
}

/* Writes of all sizes, as many as fit, arrive in order; the memory is bounded. */
static void
large_writes_arrive_as_they_were(void **state)
{
	enum { BYTES = 3 * 1000 * 1000, LARGEST = 50 * 1000 };
	static uint8_t bytes[LARGEST];
	struct rig_session couple[2];
	size_t sent = 0;

	(void)state;
	start_couple(couple, rig_step_eat);
	RIG_UNTIL(couple[0].secured == 1 && couple[1].secured == 1);
	while (sent < BYTES) {
		size_t room = conn_output_room(&couple[1].conn);
		assert_true(room <= CONN_OUTPUT_MAX - 2 * LAYER_OVERHEAD);
		size_t n = anything() % LARGEST + 1;
		if (n > room) {
			worker_turn(&rig, 0);
			continue;
		}
		for (size_t i = 0; i < n; i++)
			bytes[i] = position_byte(sent + i);
		assert_true(conn_write(&couple[1].conn, span_of(bytes, n)));
		sent += n;
		assert_true(rig.buffers.used <= 5);
	}
	/* Its last words and its end leave together. */
	conn_finish(&couple[1].conn, CLOSE_QUIT);
	RIG_UNTIL(couple[0].closed == 1 && couple[1].closed == 1);
	assert_int_equal(couple[0].seen_size, sent);
	for (size_t i = 0; i < sent; i++)
		assert_int_equal(couple[0].seen[i], position_byte(i));
	assert_int_equal(couple[0].lost, 0);
	assert_int_equal(couple[0].conn.reason, CLOSE_PEER_CLOSED);
	end_couple(couple);
}

static void
lent_memory_is_sent_in_its_place(void **state)
{
	enum { LENT_SIZE = 1024 * 1024 };
	struct rig_session couple[2];
	uint8_t *lent = malloc(LENT_SIZE);

	(void)state;
	memset(lent, 'L', LENT_SIZE);
	start_couple(couple, rig_step_eat);
	RIG_UNTIL(couple[0].secured == 1 && couple[1].secured == 1);
	conn_write(&couple[1].conn, SPAN("a"));
	conn_write_lent(&couple[1].conn, lent, LENT_SIZE);
	conn_write(&couple[1].conn, SPAN("b"));
	worker_turn(&rig, 0);
	assert_int_equal(couple[1].drained, 0);
	/* As much as there is room for, while the lent memory is on its way. */
	size_t room = conn_output_room(&couple[1].conn);
	assert_true(room < WORKER_BUFFER_SIZE);
	uint8_t *rest = calloc(1, room);
	conn_write(&couple[1].conn, span_of(rest, room));
	RIG_UNTIL(couple[1].drained > 0);
	memset(lent, 'x', LENT_SIZE);
	RIG_UNTIL(couple[0].seen_size == LENT_SIZE + 2 + room);
	assert_int_equal(couple[0].seen[0], 'a');
	for (size_t i = 1; i <= LENT_SIZE; i++)
		assert_int_equal(couple[0].seen[i], 'L');
	assert_int_equal(couple[0].seen[LENT_SIZE + 1], 'b');
	assert_int_equal(couple[0].seen[LENT_SIZE + 2], 0);
	free(lent);
	free(rest);
	end_couple(couple);
}

/* ---- anything at any time ---- */

enum { CROWD = 24, CROWD_TURNS = 20000 };

static void
write_anything(struct conn *c)
{
	static uint8_t lent[100000];

	if (c->state != CONN_OPEN)
		return;
	if (c->secured && c->lent == NULL && anything() % 4 == 0)
		conn_write_lent(c, lent, anything() % sizeof lent + 1);
	else if (!conn_output_full(c))
		conn_write(c, span_of(lent, anything() % conn_output_room(c)));
}

static void
do_anything(struct rig_session *s)
{
	struct conn *c = &s->conn;

	switch (anything() % 10) {
	case 0:
	case 1:
		conn_consume(c, conn_input(c).size);
		conn_read_more(c);
		break;
	case 2:
		conn_consume(c, conn_input(c).size / 2);
		break;
	case 3:
	case 4:
		write_anything(c);
		break;
	case 5:
		conn_run(c);
		break;
	case 6:
		conn_deadline(c, rig.now_ms + anything() % 500);
		break;
	case 7:
		if (anything() % 8 == 0)
			conn_finish(c, CLOSE_QUIT);
		break;
	case 8:
		if (anything() % 8 == 0)
			conn_close(c, CLOSE_QUIT);
		break;
	default:
		if (c->state == CONN_OPEN && anything() % 64 == 0)
			send(c->fd, "garbage", 7, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	}
}

static void
step_anything(struct rig_session *s)
{
	for (unsigned n = anything() % 4; n > 0; n--)
		do_anything(s);
}

static void
nothing_is_left_whatever_owners_do(void **state)
{
	struct rig_session *crowd = calloc(CROWD, sizeof *crowd);
	unsigned lives = 0;

	(void)state;
	rig_have_helper(rig_no_work);
	for (unsigned turn = 0; turn < CROWD_TURNS; turn++) {
		for (unsigned i = 0; i < CROWD; i += 2) {
			if (crowd[i].conn.worker == NULL ||
			    (crowd[i].closed == 1 && crowd[i + 1].closed == 1)) {
				toy_work = lives % 2 == 0 ? rig_no_work : NULL;
				start_couple(&crowd[i], step_anything);
				lives++;
			}
		}
		struct rig_session *s = &crowd[anything() % CROWD];
		assert_true(s->closed <= 1);
		if (s->closed == 0)
			do_anything(s);
		worker_turn(&rig, 0);
	}
	for (unsigned i = 0; i < CROWD; i += 2)
		end_couple(&crowd[i]);
	assert_true(lives > CROWD);
	rig_have_no_helper();
	free(crowd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

/* Another seed for the last test may be given. */
int
main(int count, char **arguments)
{
	static const struct CMUnitTest tests[] = {
		TEST(what_came_with_starttls_is_never_seen),
		TEST(what_is_unread_may_be_the_layers),
		TEST(what_was_written_before_leaves_as_it_was),
		TEST(it_does_not_matter_how_the_wire_is_cut),
		TEST(a_stream_that_is_cut_off_has_ended),
		TEST(a_paused_owner_holds_up_the_peer),
		TEST(an_owner_that_keeps_a_part_gets_all),
		TEST(a_failed_handshake_says_why_and_ends),
		TEST(what_is_not_of_the_layer_is_a_loss),
		TEST(handshakes_wait_for_their_turn),
		TEST(without_memory_a_connection_is_closed),
		TEST(a_layer_for_a_closing_connection_is_freed),
		TEST(large_writes_arrive_as_they_were),
		TEST(lent_memory_is_sent_in_its_place),
		TEST(nothing_is_left_whatever_owners_do),
	};

	if (count > 1)
		seed = strtoull(arguments[1], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
