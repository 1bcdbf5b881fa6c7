/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/conn.h"

enum { WAIT_US = 10 * 1000 * 1000, RING_BUFFERS = 2, RING_BUFFER_SIZE = 4096 };

static const struct worker_options options = {
	.ring = { .entries = 64,
		  .buffers = { RING_BUFFERS, RING_BUFFERS },
		  .buffer_size = { RING_BUFFER_SIZE, RING_BUFFER_SIZE } },
	.mailbox_places = 8,
	.buffers_max = 64,
};

/* An owner that writes down what it is told. What it does with input is its `step`. */
struct session {
	struct conn conn; /* first */
	void (*step)(struct session *s);
	unsigned connected, drained, deadlines, lost, closed;
	enum err error;
	char seen[256]; /* what was consumed */
	size_t seen_size;
};

static struct worker w;
static struct worker *peers[] = { &w };

static struct session *
session_of(struct conn *c)
{
	return CONTAINER_OF(c, struct session, conn);
}

static void
on_connected(struct conn *c, enum err e)
{
	session_of(c)->connected++;
	session_of(c)->error = e;
	if (e != ERR_OK)
		conn_close(c, CLOSE_CONNECT_FAILED);
}

static void
on_input(struct conn *c)
{
	session_of(c)->step(session_of(c));
}

static void
on_drained(struct conn *c)
{
	session_of(c)->drained++;
}

static void
on_deadline(struct conn *c)
{
	session_of(c)->deadlines++;
	conn_close(c, CLOSE_TIMEOUT);
}

static void
on_lost(struct conn *c, enum err e)
{
	session_of(c)->lost++;
	session_of(c)->error = e;
	conn_close(c, CLOSE_RESET);
}

static void
on_closed(struct conn *c)
{
	session_of(c)->closed++;
}

static const struct conn_events events = {
	.on_connected = on_connected,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

static int
setup(void **state)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	(void)state;
	worker_init(&w, 0, 1, peers, &options);
	if (!worker_open(&w, &options, &why))
		fail_msg("%.*s", (int)why.size, text);
	return 0;
}

/* Whatever a test did: nothing is left behind. */
static int
teardown(void **state)
{
	(void)state;
	assert_int_equal(w.conn_count, 0);
	assert_int_equal(w.buffers.used, 0);
	assert_int_equal(ring_ops(w.ring), 0);
	worker_close(&w);
	return 0;
}

#define UNTIL(condition)                                   \
	do {                                               \
		while (!(condition))                       \
			assert_true(one_turn(#condition)); \
	} while (0)

static bool
one_turn(const char *what)
{
	if (!worker_turn(&w, WAIT_US) && !worker_turn(&w, WAIT_US)) {
		print_error("nothing happens while waiting for %s\n", what);
		return false;
	}
	return true;
}

/* Consumes all. */
static void
step_eat(struct session *s)
{
	struct span in = conn_input(&s->conn);

	assert_true(s->seen_size + in.size < sizeof s->seen);
	if (in.size > 0)
		memcpy(s->seen + s->seen_size, in.data, in.size);
	s->seen_size += in.size;
	conn_consume(&s->conn, in.size);
	conn_read_more(&s->conn);
	if (conn_input_is_over(&s->conn))
		conn_close(&s->conn, CLOSE_PEER_CLOSED);
}

/* Consumes whole lines. */
static void
step_lines(struct session *s)
{
	struct span in = conn_input(&s->conn);
	size_t end;

	while ((end = span_find(in, '\n', 0)) < in.size) {
		assert_true(s->seen_size + end + 1 < sizeof s->seen);
		memcpy(s->seen + s->seen_size, in.data, end + 1);
		s->seen_size += end + 1;
		conn_consume(&s->conn, end + 1);
		in = conn_input(&s->conn);
	}
	conn_read_more(&s->conn);
}

/* Looks and goes away. */
static void
step_pause(struct session *s)
{
	s->seen_size = conn_input(&s->conn).size;
}

/* A session on one end of a pair; the other end is the test's. */
static int
start(struct session *s, void (*step)(struct session *s))
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*s = (struct session){ .step = step };
	conn_init(&s->conn, &w, fds[0], RING_CLIENTS, &events);
	conn_read_more(&s->conn);
	return fds[1];
}

static void
put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void
end(struct session *s, int fd)
{
	conn_close(&s->conn, CLOSE_QUIT);
	UNTIL(s->closed == 1);
	close(fd);
}

static void
a_part_of_a_line_is_kept_until_the_rest_comes(void **state)
{
	struct session s;
	int fd = start(&s, step_lines);

	(void)state;
	put(fd, "HELO ");
	UNTIL(s.conn.input_size == 5);
	assert_int_equal(s.seen_size, 0);
	assert_int_equal(s.conn.input_ring_id, -1); /* it is not in the ring's buffer */
	put(fd, "there\nQU");
	UNTIL(s.seen_size == 11);
	put(fd, "IT\n");
	UNTIL(s.seen_size == 16);
	assert_memory_equal(s.seen, "HELO there\nQUIT\n", 16);
	assert_null(s.conn.input_memory); /* an idle connection holds no buffer */
	assert_int_equal(w.buffers.used, 0);
	end(&s, fd);
}

static void
the_end_of_the_stream_comes_after_the_last_bytes(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	put(fd, "last words");
	close(fd);
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_PEER_CLOSED);
	assert_memory_equal(s.seen, "last words", 10);
}

/* Two receive buffers, eight clients that do not read: all are looked at, the ninth is served. */
/* The peer has answered and gone; our next words find that out. */
static void
the_last_words_come_before_the_loss(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	conn_write(&s.conn, SPAN("RSET\r\n"));
	worker_turn(&w, 0); /* the receive is armed; the send leaves with the next turn */
	put(fd, "250 ok\n");
	close(fd);
	UNTIL(s.closed == 1);
	assert_int_equal(s.lost, 1);
	assert_int_equal(s.seen_size, 7);
	assert_memory_equal(s.seen, "250 ok\n", 7);
}

static void
a_deadline_does_not_pass_over_what_has_come(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	worker_turn(&w, 0);
	put(fd, "250 ok\n");
	uint64_t at_ms = w.now_ms + 2;
	conn_deadline(&s.conn, at_ms);
	while (clock_monotonic_ms() <= at_ms) /* due in the turn that harvests the bytes */
		;
	UNTIL(s.closed == 1);
	assert_int_equal(s.seen_size, 7);
	assert_int_equal(s.deadlines, 1);
	close(fd);
}

static void
paused_clients_hold_no_receive_buffer(void **state)
{
	enum { PAUSED = 8 };
	struct session paused[PAUSED], served;
	int fds[PAUSED];

	(void)state;
	for (unsigned i = 0; i < PAUSED; i++) {
		fds[i] = start(&paused[i], step_pause);
		put(fds[i], "not now");
	}
	for (unsigned i = 0; i < PAUSED; i++)
		UNTIL(paused[i].seen_size == 7);
	int fd = start(&served, step_eat);
	for (unsigned i = 1; i < 10; i++) {
		put(fd, "now");
		UNTIL(served.seen_size == 3 * i);
	}
	assert_int_equal(w.buffers.used, PAUSED);
	/* They go on with what they had, and no receive was armed meanwhile. */
	for (unsigned i = 0; i < PAUSED; i++) {
		assert_int_equal(paused[i].conn.ops_in_kernel, 0);
		paused[i].step = step_eat;
		paused[i].seen_size = 0;
		conn_run(&paused[i].conn);
		UNTIL(paused[i].seen_size == 7);
		put(fds[i], "!");
		UNTIL(paused[i].seen_size == 8);
		end(&paused[i], fds[i]);
	}
	end(&served, fd);
}

/* Reads exactly `size` bytes while the worker turns; byte i must be pattern(i). */
static void
read_pattern(int fd, size_t size, uint8_t (*pattern)(size_t i))
{
	uint8_t bytes[8192];

	for (size_t done = 0; done < size;) {
		size_t most = size - done < sizeof bytes ? size - done : sizeof bytes;
		ssize_t n = recv(fd, bytes, most, MSG_DONTWAIT);
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			worker_turn(&w, 1000);
			continue;
		}
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], pattern(done + (size_t)i));
		done += (size_t)n;
	}
}

static uint8_t
position_byte(size_t i)
{
	return (uint8_t)(i * 131 >> 3);
}

/* The peer does not read: output piles up to its limit and no further, and flows again later. */
static void
output_is_held_back_until_the_peer_reads(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);
	size_t written = 0;
	uint8_t bytes[1000];

	(void)state;
	for (unsigned idle = 0; idle < 3;) {
		while (!conn_output_full(&s.conn)) {
			for (size_t i = 0; i < sizeof bytes; i++)
				bytes[i] = position_byte(written + i);
			assert_true(conn_write(&s.conn, span_of(bytes, sizeof bytes)));
			written += sizeof bytes;
		}
		idle = worker_turn(&w, 0) ? 0 : idle + 1;
	}
	assert_true(w.buffers.used <= CONN_OUTPUT_MAX / WORKER_BUFFER_SIZE);
	s.drained = 0;
	read_pattern(fd, written, position_byte);
	UNTIL(conn_output_is_empty(&s.conn));
	assert_true(s.drained > 0);
	assert_int_equal(w.buffers.used, 0);
	end(&s, fd);
}

enum { LENT_SIZE = 1024 * 1024 };

static uint8_t
lent_byte(size_t i)
{
	return i == 0 ? 'a' : i <= LENT_SIZE ? 'L' : (uint8_t) "bcd"[i - LENT_SIZE - 1];
}

static void
lent_memory_is_sent_in_its_place(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);
	uint8_t *lent = malloc(LENT_SIZE);

	(void)state;
	memset(lent, 'L', LENT_SIZE);
	conn_write(&s.conn, SPAN("a"));
	conn_write_lent(&s.conn, lent, LENT_SIZE);
	conn_write(&s.conn, SPAN("b"));
	worker_turn(&w, 0);
	assert_int_equal(s.drained, 0);
	conn_write(&s.conn, SPAN("cd")); /* while the rest is on its way */
	read_pattern(fd, LENT_SIZE + 4, lent_byte);
	UNTIL(s.drained == 1 && conn_output_is_empty(&s.conn));
	/* Alone, without anything around it. */
	memset(lent, 'x', 10);
	conn_write_lent(&s.conn, lent, 10);
	UNTIL(s.drained == 2);
	free(lent);
	end(&s, fd);
}

/* The last reply arrives although the peer is still talking; it sees our end, not a reset. */
static void
finishing_lets_the_last_reply_arrive(void **state)
{
	struct session s;
	int fd = start(&s, step_pause);
	char bytes[16];

	(void)state;
	put(fd, "blah");
	UNTIL(s.seen_size == 4);
	conn_write(&s.conn, SPAN("421 go away\r\n"));
	conn_finish(&s.conn, CLOSE_CONNECTION_LIMIT);
	conn_close(&s.conn, CLOSE_CONNECTION_LIMIT); /* see below for the patient way */
	UNTIL(s.closed == 1);
	close(fd);

	fd = start(&s, step_pause);
	put(fd, "blah");
	UNTIL(s.seen_size == 4);
	conn_write(&s.conn, SPAN("421 go away\r\n"));
	conn_finish(&s.conn, CLOSE_CONNECTION_LIMIT);
	conn_finish(&s.conn, CLOSE_TOO_MANY_ERRORS); /* the first reason wins */
	UNTIL(s.conn.shut_down && !s.conn.end.in_kernel);
	put(fd, "blah blah");
	worker_turn(&w, 0);
	assert_int_equal(read(fd, bytes, sizeof bytes), 13);
	assert_memory_equal(bytes, "421 go away\r\n", 13);
	assert_int_equal(read(fd, bytes, sizeof bytes), 0);
	assert_int_equal(s.closed, 0);
	close(fd);
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_CONNECTION_LIMIT);
	assert_int_equal(s.lost, 0);
}

static void
finishing_ends_even_if_the_peer_does_not(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	conn_finish(&s.conn, CLOSE_IDLE);
	UNTIL(s.conn.shut_down && !s.conn.end.in_kernel);
	timers_run(&w.timers, w.now_ms + CONN_LINGER_MS - 100);
	assert_int_equal(s.conn.state, CONN_FINISHING);
	timers_run(&w.timers, w.now_ms + CONN_LINGER_MS + 100);
	UNTIL(s.closed == 1);
	assert_int_equal(s.deadlines, 0);
	assert_int_equal(s.conn.reason, CLOSE_IDLE);
	close(fd);
}

static void
closing_takes_back_all_that_is_in_flight(void **state)
{
	struct session s;
	int fd = start(&s, step_lines);
	uint8_t *lent = calloc(1, 8 * LENT_SIZE);

	(void)state;
	put(fd, "half a line");
	UNTIL(s.conn.input_size == 11);
	conn_write(&s.conn, SPAN("before"));
	conn_write_lent(&s.conn, lent, 8 * LENT_SIZE);
	worker_turn(&w, 0);
	conn_write(&s.conn, SPAN("after"));
	conn_deadline(&s.conn, w.now_ms + 100000);
	conn_run(&s.conn);
	assert_int_equal(s.conn.ops_in_kernel, 2);
	conn_close(&s.conn, CLOSE_SHUTDOWN);
	conn_close(&s.conn, CLOSE_RESET);
	assert_int_equal(s.closed, 0); /* never inside the call */
	assert_false(conn_write(&s.conn, SPAN("too late")));
	conn_read_more(&s.conn);
	conn_run(&s.conn);
	conn_deadline(&s.conn, w.now_ms);
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_SHUTDOWN);
	assert_int_equal(s.lost + s.drained + s.deadlines, 0);
	assert_int_equal(w.timers.count, 0);
	free(lent);
	close(fd);
}

/* Reads its input after it has closed; under ASan a buffer that went back early is seen. */
static void
step_close_and_read(struct session *s)
{
	struct span in = conn_input(&s->conn);

	conn_close(&s->conn, CLOSE_HTTP);
	assert_int_equal(conn_input(&s->conn).size, 0);
	memcpy(s->seen, in.data, in.size);
	conn_consume(&s->conn, in.size);
}

static void
input_stays_valid_until_its_callback_returns(void **state)
{
	struct session s;
	int fd = start(&s, step_close_and_read);

	(void)state;
	put(fd, "GET / HTTP/1.1");
	UNTIL(s.closed == 1);
	assert_memory_equal(s.seen, "GET / HTTP/1.1", 14);
	close(fd);
}

static void
a_reset_is_told_once(void **state)
{
	struct session s;
	int fd = start(&s, step_pause);

	(void)state;
	put(fd, "x");
	UNTIL(s.seen_size == 1); /* paused: only the send can notice */
	close(fd);
	conn_write(&s.conn, SPAN("anybody there?"));
	UNTIL(s.closed == 1);
	assert_int_equal(s.lost, 1);
	assert_int_equal(s.error, ERR_RESET);
}

static void
a_held_connection_waits_for_its_owner(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	conn_hold(&s.conn);
	conn_hold(&s.conn);
	conn_close(&s.conn, CLOSE_QUIT);
	UNTIL(s.conn.fd == -1 && s.conn.ops_in_kernel == 0);
	conn_unhold(&s.conn);
	worker_turn(&w, 0);
	assert_int_equal(s.closed, 0);
	conn_unhold(&s.conn);
	assert_int_equal(s.closed, 0); /* never inside the call */
	UNTIL(s.closed == 1);
	close(fd);
}

static void
without_memory_a_connection_is_closed(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	pool_set_limit(&w.buffers, 0);
	assert_false(conn_write(&s.conn, SPAN("hello")));
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_NO_MEMORY);
	close(fd);

	fd = start(&s, step_lines);
	put(fd, "half a line");
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_NO_MEMORY);
	close(fd);
}

static void
a_deadline_moves_and_passes(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);
	uint64_t start_ms = w.now_ms;

	(void)state;
	conn_deadline(&s.conn, start_ms + 1);
	conn_deadline(&s.conn, start_ms + 100000);
	conn_deadline(&s.conn, start_ms + 40);
	conn_deadline(&s.conn, 0);
	conn_deadline(&s.conn, start_ms + 50);
	UNTIL(s.closed == 1);
	assert_int_equal(s.deadlines, 1);
	assert_true(w.now_ms >= start_ms + 50);
	assert_int_equal(s.conn.reason, CLOSE_TIMEOUT);
	close(fd);
}

/* ---- TCP ---- */

static int
listen_here(struct net_address *address, int backlog)
{
	assert_true(net_address_parse(SPAN("127.0.0.1:0"), address));
	int fd = net_listen(address, backlog, true);
	assert_true(fd >= 0);
	assert_true(net_local(fd, address));
	return fd;
}

static void
dial(struct session *s, const struct net_address *address)
{
	int fd = net_socket(address);

	assert_true(fd >= 0);
	*s = (struct session){ .step = step_eat };
	conn_init(&s->conn, &w, fd, RING_PEERS, &events);
	conn_connect(&s->conn, address);
}

static void
a_refused_connect_is_told(void **state)
{
	struct net_address address;
	struct session s;

	(void)state;
	close(listen_here(&address, 1));
	dial(&s, &address);
	UNTIL(s.closed == 1);
	assert_int_equal(s.connected, 1);
	assert_int_equal(s.error, ERR_REFUSED);
	assert_int_equal(s.conn.reason, CLOSE_CONNECT_FAILED);
}

/* The listener's queue is full, so the handshake hangs, until the deadline. */
static void
a_hanging_connect_can_be_given_up(void **state)
{
	enum { ENOUGH = 8 };
	struct net_address address;
	struct session all[ENOUGH];
	unsigned hanging = 0;
	int listener = listen_here(&address, 0);

	(void)state;
	for (unsigned i = 0; i < ENOUGH; i++) {
		dial(&all[i], &address);
		conn_deadline(&all[i].conn, w.now_ms + 200);
	}
	for (unsigned i = 0; i < ENOUGH; i++) {
		UNTIL(all[i].closed == 1);
		assert_int_equal(all[i].deadlines, 1);
		hanging += all[i].connected == 0;
	}
	assert_true(hanging > 0);
	close(listener);
}

static void
sockets_are_without_delay_and_know_their_ends(void **state)
{
	struct net_address address, seen, mine;
	struct session s;
	int listener = listen_here(&address, 4);

	(void)state;
	dial(&s, &address);
	UNTIL(s.connected == 1);
	int fd = accept(listener, NULL, NULL);
	int both[] = { fd, s.conn.fd };
	for (unsigned i = 0; i < 2; i++) {
		int on = 0;
		socklen_t size = sizeof on;
		assert_int_equal(getsockopt(both[i], IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, &size),
				 0);
		assert_int_not_equal(on, 0);
	}
	assert_true(net_peer(s.conn.fd, &seen));
	assert_true(net_address_eq(&seen, &address));
	assert_true(net_local(s.conn.fd, &mine));
	assert_true(net_peer(fd, &seen));
	assert_true(net_address_eq(&seen, &mine));
	assert_false(net_address_eq(&seen, &address));
	assert_int_equal(net_listen(&address, 1, false), -EADDRINUSE);
	end(&s, fd);
	close(listener);
}

static void
a_dead_unix_socket_is_replaced_and_a_living_one_is_not(void **state)
{
	char path[] = "unix:/tmp/test_conn.XXXXXX";
	struct net_address address;

	(void)state;
	assert_non_null(mkdtemp(path + 5));
	char name[64];
	snprintf(name, sizeof name, "%s/s", path);
	assert_true(net_address_parse(span_of_string(name), &address));
	int first = net_listen(&address, 1, false);
	assert_true(first >= 0);
	assert_int_equal(net_listen(&address, 1, false), -EADDRINUSE);
	close(first);
	int second = net_listen(&address, 1, false);
	assert_true(second >= 0);
	close(second);
	unlink(name + 5);
	rmdir(path + 5);
}

/* ---- an echo between two workers on two threads ---- */

enum { ECHO_BYTES = 3 * 1000 * 1000 };

static void
step_echo(struct session *s)
{
	struct span in = conn_input(&s->conn);
	size_t n = conn_output_room(&s->conn);

	if (conn_output_full(&s->conn) && in.size > 0)
		return; /* on_drained goes on */
	n = n < in.size ? n : in.size;
	conn_write(&s->conn, span_first(in, n));
	conn_consume(&s->conn, n);
	if (n < in.size)
		conn_run(&s->conn);
	else
		conn_read_more(&s->conn);
	if (conn_input_is_over(&s->conn))
		conn_finish(&s->conn, CLOSE_PEER_CLOSED);
}

static void
on_drained_run(struct conn *c)
{
	session_of(c)->drained++;
	conn_run(c);
}

static const struct conn_events echo_events = {
	.on_connected = on_connected,
	.on_input = on_input,
	.on_drained = on_drained_run,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

static void *
serve_echo(void *context)
{
	struct worker server;
	struct worker *server_peers[] = { &server };
	struct session s = { .step = step_echo };
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	worker_init(&server, 0, 1, server_peers, &options);
	assert_true(worker_open(&server, &options, &why));
	conn_init(&s.conn, &server, *(int *)context, RING_CLIENTS, &echo_events);
	conn_read_more(&s.conn);
	while (s.closed == 0)
		worker_turn(&server, WAIT_US);
	assert_int_equal(s.conn.reason, CLOSE_PEER_CLOSED);
	assert_int_equal(server.buffers.used, 0);
	worker_close(&server);
	return NULL;
}

static size_t echo_sent, echo_received;

static void
send_some(struct session *s)
{
	uint8_t bytes[5000];

	while (echo_sent < ECHO_BYTES && !conn_output_full(&s->conn)) {
		size_t n = random_u64() % 3000 + 1;
		n = n < ECHO_BYTES - echo_sent ? n : ECHO_BYTES - echo_sent;
		for (size_t i = 0; i < n; i++)
			bytes[i] = position_byte(echo_sent + i);
		conn_write(&s->conn, span_of(bytes, n));
		echo_sent += n;
	}
}

static void
step_check(struct session *s)
{
	struct span in = conn_input(&s->conn);

	for (size_t i = 0; i < in.size; i++)
		assert_int_equal(in.data[i], position_byte(echo_received + i));
	echo_received += in.size;
	conn_consume(&s->conn, in.size);
	send_some(s);
	if (echo_received == ECHO_BYTES)
		conn_finish(&s->conn, CLOSE_QUIT);
	conn_read_more(&s->conn);
}

static void
an_echo_between_two_threads_is_exact(void **state)
{
	struct net_address address;
	struct session s;
	pthread_t server;
	int listener = listen_here(&address, 4);

	(void)state;
	dial(&s, &address);
	s.conn.events = &echo_events;
	s.step = step_check;
	UNTIL(s.connected == 1);
	int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	assert_int_equal(pthread_create(&server, NULL, serve_echo, &accepted), 0);
	conn_run(&s.conn);
	UNTIL(s.closed == 1);
	assert_int_equal(echo_received, ECHO_BYTES);
	pthread_join(server, NULL);
	close(listener);
}

/* ---- anything at any time ---- */

enum { CROWD = 24, CROWD_TURNS = 20000 };

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

/* Does one thing that an owner may do. */
static void
do_anything(struct session *s)
{
	static uint8_t lent[100000];
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
		if (c->state == CONN_OPEN && !conn_output_full(c))
			conn_write(c, span_of(lent, anything() % CONN_OUTPUT_SPARE));
		break;
	case 5:
		if (c->state == CONN_OPEN && c->lent == NULL)
			conn_write_lent(c, lent, anything() % sizeof lent + 1);
		break;
	case 6:
		conn_run(c);
		break;
	case 7:
		conn_deadline(c, w.now_ms + anything() % 500);
		break;
	case 8:
		if (anything() % 8 == 0)
			conn_finish(c, CLOSE_QUIT);
		break;
	default:
		if (anything() % 8 == 0)
			conn_close(c, CLOSE_QUIT);
		break;
	}
}

static void
step_anything(struct session *s)
{
	for (unsigned n = anything() % 4; n > 0; n--)
		do_anything(s);
}

/* Two sessions on one pair of sockets, so that either may stall, reset or end the other. */
static void
start_couple(struct session couple[2])
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	for (unsigned i = 0; i < 2; i++) {
		couple[i] = (struct session){ .step = step_anything };
		conn_init(&couple[i].conn, &w, fds[i], i == 0 ? RING_CLIENTS : RING_PEERS,
			  &echo_events);
		conn_read_more(&couple[i].conn);
	}
}

static void
nothing_is_left_whatever_owners_do(void **state)
{
	struct session *crowd = calloc(CROWD, sizeof *crowd);
	unsigned lives = 0;

	(void)state;
	for (unsigned turn = 0; turn < CROWD_TURNS; turn++) {
		for (unsigned i = 0; i < CROWD; i += 2) {
			if (crowd[i].conn.worker == NULL ||
			    (crowd[i].closed == 1 && crowd[i + 1].closed == 1)) {
				start_couple(&crowd[i]);
				lives++;
			}
		}
		struct session *s = &crowd[anything() % CROWD];
		assert_true(s->closed <= 1);
		if (s->closed == 0)
			do_anything(s);
		worker_turn(&w, 0);
	}
	for (unsigned i = 0; i < CROWD; i++)
		if (crowd[i].closed == 0)
			conn_close(&crowd[i].conn, CLOSE_SHUTDOWN);
	for (unsigned i = 0; i < CROWD; i++)
		UNTIL(crowd[i].closed == 1);
	assert_true(lives > CROWD);
	free(crowd);
}

_Static_assert(sizeof(struct conn) <= 448, "an idle connection is cheap");

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Another seed for the last test may be given. */
int
main(int count, char **arguments)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_part_of_a_line_is_kept_until_the_rest_comes),
		TEST(the_end_of_the_stream_comes_after_the_last_bytes),
		TEST(the_last_words_come_before_the_loss),
		TEST(a_deadline_does_not_pass_over_what_has_come),
		TEST(paused_clients_hold_no_receive_buffer),
		TEST(output_is_held_back_until_the_peer_reads),
		TEST(lent_memory_is_sent_in_its_place),
		TEST(finishing_lets_the_last_reply_arrive),
		TEST(finishing_ends_even_if_the_peer_does_not),
		TEST(closing_takes_back_all_that_is_in_flight),
		TEST(input_stays_valid_until_its_callback_returns),
		TEST(a_reset_is_told_once),
		TEST(a_held_connection_waits_for_its_owner),
		TEST(without_memory_a_connection_is_closed),
		TEST(a_deadline_moves_and_passes),
		TEST(a_refused_connect_is_told),
		TEST(a_hanging_connect_can_be_given_up),
		TEST(sockets_are_without_delay_and_know_their_ends),
		TEST(a_dead_unix_socket_is_replaced_and_a_living_one_is_not),
		TEST(an_echo_between_two_threads_is_exact),
		TEST(nothing_is_left_whatever_owners_do),
	};

	if (count > 1)
		seed = strtoull(arguments[1], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
