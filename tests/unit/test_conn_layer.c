/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core machine toy_layer threads */
/* Connections with a layer that is a toy. What TLS does to it is tested with TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/conn.h"
#include "tests/lib/toy_layer.h"

enum { WAIT_US = 10 * 1000 * 1000, RING_BUFFERS = 2, RING_BUFFER_SIZE = 16 * 1024 };

static const struct worker_options options = {
	.ring = { .entries = 64,
		  .buffers = { RING_BUFFERS, RING_BUFFERS },
		  .buffer_size = { RING_BUFFER_SIZE, RING_BUFFER_SIZE } },
	.mailbox_places = 8,
	.buffers_max = 64,
};

static struct worker w;
static struct worker *peers[] = { &w };

/* ---- the owner ---- */

struct session {
	struct conn conn; /* first */
	void (*step)(struct session *s);
	unsigned secured, drained, deadlines, lost, closed;
	enum err error;
	uint8_t *seen; /* what was consumed */
	size_t seen_size;
};

static struct session *
session_of(struct conn *c)
{
	return CONTAINER_OF(c, struct session, conn);
}

static void
on_secured(struct conn *c, enum err e)
{
	struct session *s = session_of(c);

	assert_int_equal(s->secured, 0);
	s->secured++;
	s->error = e;
	if (e != ERR_OK)
		conn_finish(c, CLOSE_TLS_FAILED);
	else
		conn_read_more(c);
}

static void
on_input(struct conn *c)
{
	assert_true(c->layer == NULL || session_of(c)->secured == 1);
	session_of(c)->step(session_of(c));
}

static void
on_drained(struct conn *c)
{
	session_of(c)->drained++;
	conn_run(c);
}

static void
on_deadline(struct conn *c)
{
	session_of(c)->deadlines++;
	assert_false(session_of(c)->secured == 0 && conn_write(c, SPAN("421 too slow\r\n")));
	conn_finish(c, CLOSE_TIMEOUT);
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
	.on_secured = on_secured,
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

static int
teardown(void **state)
{
	(void)state;
	assert_int_equal(w.conn_count, 0);
	assert_int_equal(w.buffers.used, 0);
	assert_int_equal(ring_ops(w.ring), 0);
	assert_int_equal(toy_layers, 0);
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
	unsigned idle = w.helpers == NULL ? 2 : 20; /* the bells of helpers may come late */

	toy_heavy_reads = 0;
	while (idle > 0 && !worker_turn(&w, WAIT_US))
		idle--;
	if (idle == 0)
		print_error("nothing happens while waiting for %s\n", what);
	assert_true(toy_heavy_reads <= w.heavy_steps);
	return idle > 0;
}

static void
step_eat(struct session *s)
{
	struct span in = conn_input(&s->conn);

	s->seen = realloc(s->seen, s->seen_size + in.size + 1);
	if (in.size > 0)
		memcpy(s->seen + s->seen_size, in.data, in.size);
	s->seen_size += in.size;
	conn_consume(&s->conn, in.size);
	conn_read_more(&s->conn);
	if (conn_input_is_over(&s->conn))
		conn_finish(&s->conn, CLOSE_PEER_CLOSED);
}

/* Looks and goes away. */
static void
step_pause(struct session *s)
{
	(void)s;
}

/* Eats until a line "STARTTLS" has come, and answers that in the middle of its input. */
static void
step_starttls(struct session *s)
{
	struct span in = conn_input(&s->conn);

	assert_true(span_starts_with(in, SPAN("STARTTLS\n")));
	conn_write(&s->conn, SPAN("220 go on\n"));
	s->step = step_eat;
	conn_secure(&s->conn, toy_new(true));
	assert_int_equal(conn_input(&s->conn).size, 0);
	assert_true(span_starts_with(in, SPAN("STARTTLS\n"))); /* still there, seen by ASan */
	conn_consume(&s->conn, 9);
	assert_false(conn_write(&s->conn, SPAN("not now")));
	conn_read_more(&s->conn);
}

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
put(int fd, struct span bytes)
{
	assert_int_equal(send(fd, bytes.data, bytes.size, MSG_NOSIGNAL), bytes.size);
}

/* Reads exactly what is expected while the worker turns. */
static void
expect(int fd, struct span bytes)
{
	uint8_t got[256];

	assert_true(bytes.size <= sizeof got);
	for (size_t n = 0; n < bytes.size;) {
		ssize_t more = recv(fd, got + n, bytes.size - n, MSG_DONTWAIT);
		assert_true(more > 0 || (more < 0 && errno == EAGAIN));
		if (more > 0)
			n += (size_t)more;
		else
			worker_turn(&w, 1000);
	}
	assert_memory_equal(got, bytes.data, bytes.size);
}

#define HELLO  SPAN("h\0\0")
#define ANSWER SPAN("s\0\0")
#define FINISH SPAN("f\0\0")
#define END    SPAN("e\0\0")
#define ALERT  SPAN("a\0\0")

static struct span
record_of(struct span plain)
{
	static uint8_t memory[HEAD + RECORD_MAX];

	memcpy(memory, (uint8_t[]){ 'd', (uint8_t)(plain.size >> 8), (uint8_t)plain.size }, HEAD);
	for (size_t i = 0; i < plain.size; i++)
		memory[HEAD + i] = plain.data[i] ^ HIDE;
	return span_of(memory, HEAD + plain.size);
}

static void
shake_hands(struct session *s, int fd)
{
	conn_secure(&s->conn, toy_new(true));
	put(fd, HELLO);
	expect(fd, ANSWER);
	put(fd, FINISH);
	UNTIL(s->secured == 1);
	assert_int_equal(s->error, ERR_OK);
}

static void
end(struct session *s, int fd)
{
	if (s->closed == 0)
		conn_close(&s->conn, CLOSE_QUIT);
	UNTIL(s->closed == 1);
	close(fd);
	free(s->seen);
}

/* ---- tests ---- */

/* RFC 3207 5: what was sent in the clear behind STARTTLS must not be taken for protected. */
static void
what_came_with_starttls_is_never_seen(void **state)
{
	struct session s;
	int fd = start(&s, step_starttls);

	(void)state;
	put(fd, SPAN("STARTTLS\nMAIL FROM:<evil@example>\n"));
	expect(fd, SPAN("220 go on\n"));
	put(fd, HELLO);
	expect(fd, ANSWER);
	put(fd, FINISH);
	put(fd, record_of(SPAN("EHLO me\n")));
	UNTIL(s.seen_size == 8);
	assert_memory_equal(s.seen, "EHLO me\n", 8);
	assert_int_equal(w.buffers.used, 0); /* an idle connection holds none */
	conn_write(&s.conn, SPAN("250 hello\n"));
	expect(fd, record_of(SPAN("250 hello\n")));
	end(&s, fd);
}

/* A line that announces the client, and the hello right behind it. */
static void
step_announced(struct session *s)
{
	if (s->conn.layer != NULL) {
		step_eat(s);
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
		struct session s;
		int fd = start(&s, step_announced);
		put(fd, span_of(hello, cut));
		for (unsigned i = 0; i < 4; i++)
			worker_turn(&w, 0);
		if (cut < sizeof hello - 1)
			put(fd, span_of(hello + cut, sizeof hello - 1 - cut));
		UNTIL(s.seen_size == 1);
		assert_int_equal(s.seen[0], 'a');
		UNTIL(w.buffers.used == 0);
		end(&s, fd);
	}

	/* It waits in a pooled buffer, and is taken from outside of on_input. */
	struct session s;
	int fd = start(&s, step_pause);
	put(fd, HELLO);
	UNTIL(s.conn.input_memory != NULL);
	conn_secure_unread(&s.conn, toy_new(true));
	expect(fd, ANSWER);
	put(fd, FINISH);
	UNTIL(s.secured == 1);
	end(&s, fd);
}

/* What was written in the clear leaves in the clear, also behind a send that is still under way. */
static void
what_was_written_before_leaves_as_it_was(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	conn_write(&s.conn, SPAN("one "));
	worker_turn(&w, 0);
	assert_true(s.conn.send.in_kernel);
	conn_write(&s.conn, SPAN("two "));
	conn_secure(&s.conn, toy_new(false));
	expect(fd, SPAN("one two h\0\0"));
	put(fd, ANSWER);
	expect(fd, FINISH);
	UNTIL(s.secured == 1);
	conn_write(&s.conn, SPAN("three"));
	expect(fd, record_of(SPAN("three")));
	end(&s, fd);
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
		struct session s;
		int fd = start(&s, step_eat);
		size_t size = cut == 0 ? 1 : cut;

		conn_secure(&s.conn, toy_new(true));
		for (size_t done = 0; done < sizeof wire - 1; done += size) {
			size = done == 0 || cut == 0 ? size : sizeof wire - 1 - done;
			put(fd, span_of(wire + done, size));
			for (unsigned i = 0; i < 4; i++)
				worker_turn(&w, 0);
		}
		/* The peer's end is the end of the stream; ours is said, too. */
		expect(fd, SPAN("s\0\0e\0\0"));
		UNTIL(s.closed == 1);
		assert_int_equal(s.conn.reason, CLOSE_PEER_CLOSED);
		assert_int_equal(s.seen_size, 4);
		assert_memory_equal(s.seen, "abcd", 4);
		assert_int_equal(s.lost, 0);
		end(&s, fd);
	}
}

/* As in plain SMTP: a peer that just goes has ended its stream, and takes nothing with it. */
static void
a_stream_that_is_cut_off_has_ended(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	shake_hands(&s, fd);
	put(fd, record_of(SPAN("last words")));
	put(fd, SPAN("d\0\7bla"));
	shutdown(fd, SHUT_WR);
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_PEER_CLOSED);
	assert_int_equal(s.seen_size, 10);
	assert_int_equal(s.lost, 0);
	end(&s, fd);
}

/* The owner pauses: no receive is armed, and what has come waits in two buffers at most. */
static void
a_paused_owner_holds_up_the_peer(void **state)
{
	struct session s;
	int fd = start(&s, step_pause);
	uint8_t bytes[RECORD_MAX];
	size_t written = 0;

	(void)state;
	shake_hands(&s, fd);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)i;
	for (unsigned idle = 0; idle < 3;) {
		struct span record = record_of(span_of(bytes, sizeof bytes));
		ssize_t n = written < 1000000 ? send(fd, record.data, record.size,
						     MSG_DONTWAIT | MSG_NOSIGNAL)
					      : -1;
		if (n > 0) {
			assert_int_equal(n, record.size);
			written += sizeof bytes;
		}
		idle = n > 0 || worker_turn(&w, 0) ? 0 : idle + 1;
	}
	assert_false(s.conn.receive.in_kernel);
	assert_true(w.buffers.used <= 2);
	s.step = step_eat;
	conn_run(&s.conn);
	UNTIL(s.seen_size == written);
	for (size_t i = 0; i < written; i++)
		assert_int_equal(s.seen[i], (uint8_t)(i % sizeof bytes));
	assert_int_equal(w.buffers.used, 0);
	end(&s, fd);
}

/* Takes a part of what is there, so that records end in a buffer that is nearly full. */
static void
step_nibble(struct session *s)
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
	struct session s;
	int fd = start(&s, step_nibble);
	uint8_t bytes[RECORD_MAX] = { 0 };

	(void)state;
	shake_hands(&s, fd);
	for (unsigned i = 0; i < RECORDS;) {
		struct span record = record_of(span_of(bytes, sizeof bytes));
		if (send(fd, record.data, record.size, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			i++;
		else
			worker_turn(&w, 1000);
	}
	UNTIL(s.seen_size == RECORDS * sizeof bytes);
	end(&s, fd);
}

static void
a_failed_handshake_says_why_and_ends(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	conn_secure(&s.conn, toy_new(true));
	put(fd, SPAN("EHLO plain\r\n"));
	expect(fd, ALERT);
	char byte;
	UNTIL(s.conn.shut_down);
	close(fd);
	UNTIL(s.closed == 1);
	assert_int_equal(s.secured, 1);
	assert_int_equal(s.error, ERR_TLS);
	assert_int_equal(s.conn.reason, CLOSE_TLS_FAILED);

	/* The peer just goes. */
	fd = start(&s, step_eat);
	conn_secure(&s.conn, toy_new(true));
	put(fd, HELLO);
	expect(fd, ANSWER);
	close(fd);
	UNTIL(s.closed == 1);
	assert_int_equal(s.secured, 1);
	assert_int_equal(s.error, ERR_RESET);

	/* It says nothing at all. */
	fd = start(&s, step_eat);
	conn_secure(&s.conn, toy_new(true));
	conn_deadline(&s.conn, w.now_ms + 20);
	UNTIL(s.conn.shut_down && !s.conn.end.in_kernel);
	assert_int_equal(s.deadlines, 1);
	assert_int_equal(recv(fd, &byte, 1, 0), 0); /* nothing was said in the clear */
	close(fd);
	UNTIL(s.closed == 1);
	assert_int_equal(s.secured, 0);
	assert_int_equal(s.conn.reason, CLOSE_TIMEOUT);
}

static void
what_is_not_of_the_layer_is_a_loss(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	shake_hands(&s, fd);
	conn_write(&s.conn, SPAN("never mind"));
	put(fd, record_of(SPAN("good")));
	put(fd, SPAN("garbage"));
	UNTIL(s.closed == 1);
	assert_int_equal(s.lost, 1);
	assert_int_equal(s.error, ERR_TLS);
	assert_int_equal(s.seen_size, 4);
	end(&s, fd);
}

/* One heavy step a turn, eight handshakes. Who waits holds no buffer, but for an answer that
 * leaves. */
static void
handshakes_wait_for_their_turn(void **state)
{
	enum { CROWD = 8 };
	struct session crowd[CROWD];
	int fds[CROWD];

	(void)state;
	w.heavy_steps = 1;
	for (unsigned i = 0; i < CROWD; i++) {
		fds[i] = start(&crowd[i], step_eat);
		conn_secure(&crowd[i].conn, toy_new(true));
		put(fds[i], HELLO);
		put(fds[i], FINISH);
	}
	for (unsigned i = 0; i < CROWD; i++) {
		while (crowd[i].secured == 0) {
			assert_true(one_turn("a handshake"));
			assert_true(w.buffers.used <= 1);
		}
	}
	UNTIL(w.buffers.used == 0);
	for (unsigned i = 0; i < CROWD; i++)
		end(&crowd[i], fds[i]);
}

/* ---- what is too long for a turn ---- */

static pthread_barrier_t barrier;

static void
work_at_gate(void)
{
	pthread_barrier_wait(&barrier); /* it has begun */
	pthread_barrier_wait(&barrier); /* it may end */
}

static void
no_work(void)
{
}

/* One helper, with a place for one job more. */
static void
have_helper(void (*work)(void))
{
	const struct helpers_options o = { .threads = 1, .jobs_max = 1, .party_max = 1 };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);

	w.helpers = helpers_start(&o, &why);
	assert_non_null(w.helpers);
	toy_work = work;
	pthread_barrier_init(&barrier, NULL, 2);
}

static void
have_no_helper(void)
{
	assert_int_equal(w.at_work, 0);
	assert_true(list_is_empty(&w.parked));
	helpers_stop(w.helpers);
	w.helpers = NULL;
	toy_work = NULL;
	pthread_barrier_destroy(&barrier);
}

static int
start_busy(struct session *s)
{
	int fd = start(s, step_eat);

	conn_secure(&s->conn, toy_new(true));
	put(fd, HELLO);
	UNTIL(s->conn.layer->is_busy);
	return fd;
}

static void
others_go_on_while_a_helper_works(void **state)
{
	struct session slow, quick;

	(void)state;
	have_helper(work_at_gate);
	int slow_fd = start_busy(&slow);
	pthread_barrier_wait(&barrier);
	put(slow_fd, FINISH);
	int quick_fd = start(&quick, step_eat);
	put(quick_fd, SPAN("hello"));
	UNTIL(quick.seen_size == 5);
	conn_read_more(&slow.conn);
	assert_false(conn_input_is_over(&slow.conn));
	assert_int_equal(w.buffers.used, 0);
	pthread_barrier_wait(&barrier);
	expect(slow_fd, ANSWER);
	UNTIL(slow.secured == 1);
	put(slow_fd, record_of(SPAN("EHLO me\n")));
	UNTIL(slow.seen_size == 8);
	end(&slow, slow_fd);
	end(&quick, quick_fd);
	have_no_helper();
}

/* At once, or by its deadline; its layer stays until the helper has come back. */
static void
a_connection_may_end_while_a_helper_works(void **state)
{
	(void)state;
	for (unsigned by_deadline = 0; by_deadline < 2; by_deadline++) {
		struct session s;
		have_helper(work_at_gate);
		int fd = start_busy(&s);
		pthread_barrier_wait(&barrier);
		if (by_deadline) {
			conn_deadline(&s.conn, w.now_ms + 1);
			UNTIL(s.deadlines == 1);
		} else {
			conn_close(&s.conn, CLOSE_SHUTDOWN);
		}
		close(fd);
		UNTIL(s.conn.state == CONN_DRAINING && s.conn.fd < 0 && ring_ops(w.ring) == 0);
		assert_int_equal(s.closed, 0);
		pthread_barrier_wait(&barrier);
		UNTIL(s.closed == 1);
		have_no_helper();
	}
}

/* Eight at a time; two wait until there is a place, and one of them gives up. */
static void
who_finds_no_place_waits_for_one(void **state)
{
	enum { CROWD = 9 };
	struct session first, crowd[CROWD];
	int fds[CROWD];

	(void)state;
	have_helper(work_at_gate);
	int fd = start_busy(&first);
	pthread_barrier_wait(&barrier);
	toy_work = no_work;
	for (unsigned i = 0; i < CROWD; i++) {
		fds[i] = start_busy(&crowd[i]);
		put(fds[i], FINISH);
	}
	assert_int_equal(w.at_work, 8);
	assert_int_equal(w.buffers.used, 0);
	conn_close(&crowd[7].conn, CLOSE_SHUTDOWN);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < CROWD; i++)
		UNTIL(crowd[i].secured == (i != 7));
	put(fd, FINISH);
	UNTIL(first.secured == 1);
	end(&first, fd);
	for (unsigned i = 0; i < CROWD; i++)
		end(&crowd[i], fds[i]);
	have_no_helper();
}

/* Eight at a time; what is more the worker does itself. */
static void
what_is_only_heavy_leaves_where_there_is_a_place(void **state)
{
	enum { CROWD = 8 };
	struct session crowd[CROWD], own;
	int fds[CROWD];

	(void)state;
	toy_is_only_heavy = true;
	have_helper(work_at_gate);
	fds[0] = start_busy(&crowd[0]);
	pthread_barrier_wait(&barrier);
	toy_work = no_work;
	for (unsigned i = 1; i < CROWD; i++)
		fds[i] = start_busy(&crowd[i]);
	assert_int_equal(w.at_work, CROWD);
	int fd = start(&own, step_eat);
	conn_secure(&own.conn, toy_new(true));
	put(fd, HELLO);
	put(fd, FINISH);
	UNTIL(own.secured == 1);
	assert_int_equal(w.at_work, CROWD);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < CROWD; i++) {
		put(fds[i], FINISH);
		UNTIL(crowd[i].secured == 1);
		end(&crowd[i], fds[i]);
	}
	end(&own, fd);
	have_no_helper();
	toy_is_only_heavy = false;
}

/* No answer of a helper could reach this worker, and there is none to wait for. */
static void
without_a_helper_the_worker_works(void **state)
{
	struct session s;

	(void)state;
	have_helper(no_work);
	int fd = start(&s, step_eat);
	conn_secure(&s.conn, toy_new(true));
	assert_true(mailbox_reserve(&w.mailbox, options.mailbox_places));
	put(fd, HELLO);
	expect(fd, ANSWER);
	mailbox_unreserve(&w.mailbox, options.mailbox_places);
	put(fd, FINISH);
	UNTIL(s.secured == 1);
	end(&s, fd);
	have_no_helper();
}

static void
without_memory_a_connection_is_closed(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	shake_hands(&s, fd);
	pool_set_limit(&w.buffers, 0);
	put(fd, record_of(SPAN("hello")));
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_NO_MEMORY);
	end(&s, fd);

	pool_set_limit(&w.buffers, 64);
	fd = start(&s, step_eat);
	shake_hands(&s, fd);
	conn_write(&s.conn, SPAN("hello"));
	pool_set_limit(&w.buffers, 1); /* the plain text has one, its wire form none */
	UNTIL(s.closed == 1);
	assert_int_equal(s.conn.reason, CLOSE_NO_MEMORY);
	end(&s, fd);
}

static void
a_layer_for_a_closing_connection_is_freed(void **state)
{
	struct session s;
	int fd = start(&s, step_eat);

	(void)state;
	conn_close(&s.conn, CLOSE_QUIT);
	conn_secure(&s.conn, toy_new(true));
	assert_int_equal(toy_layers, 0);
	assert_null(conn_layer(&s.conn));
	end(&s, fd);
}

/* ---- two ends, each with a layer ---- */

static void
start_couple(struct session couple[2], void (*step)(struct session *s))
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	for (unsigned i = 0; i < 2; i++) {
		couple[i] = (struct session){ .step = step };
		conn_init(&couple[i].conn, &w, fds[i], i == 0 ? RING_CLIENTS : RING_PEERS, &events);
		conn_secure(&couple[i].conn, toy_new(i == 0));
	}
}

static void
end_couple(struct session couple[2])
{
	for (unsigned i = 0; i < 2; i++)
		if (couple[i].closed == 0)
			conn_close(&couple[i].conn, CLOSE_QUIT);
	for (unsigned i = 0; i < 2; i++) {
		UNTIL(couple[i].closed == 1);
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
	struct session couple[2];
	size_t sent = 0;

	(void)state;
	start_couple(couple, step_eat);
	UNTIL(couple[0].secured == 1 && couple[1].secured == 1);
	while (sent < BYTES) {
		size_t room = conn_output_room(&couple[1].conn);
		assert_true(room <= CONN_OUTPUT_MAX - 2 * LAYER_OVERHEAD);
		size_t n = anything() % LARGEST + 1;
		if (n > room) {
			worker_turn(&w, 0);
			continue;
		}
		for (size_t i = 0; i < n; i++)
			bytes[i] = position_byte(sent + i);
		assert_true(conn_write(&couple[1].conn, span_of(bytes, n)));
		sent += n;
		assert_true(w.buffers.used <= 5);
	}
	/* Its last words and its end leave together. */
	conn_finish(&couple[1].conn, CLOSE_QUIT);
	UNTIL(couple[0].closed == 1 && couple[1].closed == 1);
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
	struct session couple[2];
	uint8_t *lent = malloc(LENT_SIZE);

	(void)state;
	memset(lent, 'L', LENT_SIZE);
	start_couple(couple, step_eat);
	UNTIL(couple[0].secured == 1 && couple[1].secured == 1);
	conn_write(&couple[1].conn, SPAN("a"));
	conn_write_lent(&couple[1].conn, lent, LENT_SIZE);
	conn_write(&couple[1].conn, SPAN("b"));
	worker_turn(&w, 0);
	assert_int_equal(couple[1].drained, 0);
	/* As much as there is room for, while the lent memory is on its way. */
	size_t room = conn_output_room(&couple[1].conn);
	assert_true(room < WORKER_BUFFER_SIZE);
	uint8_t *rest = calloc(1, room);
	conn_write(&couple[1].conn, span_of(rest, room));
	UNTIL(couple[1].drained > 0);
	memset(lent, 'x', LENT_SIZE);
	UNTIL(couple[0].seen_size == LENT_SIZE + 2 + room);
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
do_anything(struct session *s)
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
		conn_deadline(c, w.now_ms + anything() % 500);
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
step_anything(struct session *s)
{
	for (unsigned n = anything() % 4; n > 0; n--)
		do_anything(s);
}

static void
nothing_is_left_whatever_owners_do(void **state)
{
	struct session *crowd = calloc(CROWD, sizeof *crowd);
	unsigned lives = 0;

	(void)state;
	have_helper(no_work);
	for (unsigned turn = 0; turn < CROWD_TURNS; turn++) {
		for (unsigned i = 0; i < CROWD; i += 2) {
			if (crowd[i].conn.worker == NULL ||
			    (crowd[i].closed == 1 && crowd[i + 1].closed == 1)) {
				toy_work = lives % 2 == 0 ? no_work : NULL;
				start_couple(&crowd[i], step_anything);
				lives++;
			}
		}
		struct session *s = &crowd[anything() % CROWD];
		assert_true(s->closed <= 1);
		if (s->closed == 0)
			do_anything(s);
		worker_turn(&w, 0);
	}
	for (unsigned i = 0; i < CROWD; i += 2)
		end_couple(&crowd[i]);
	assert_true(lives > CROWD);
	have_no_helper();
	free(crowd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(others_go_on_while_a_helper_works),
		TEST(a_connection_may_end_while_a_helper_works),
		TEST(who_finds_no_place_waits_for_one),
		TEST(what_is_only_heavy_leaves_where_there_is_a_place),
		TEST(without_a_helper_the_worker_works),
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
