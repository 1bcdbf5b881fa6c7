/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/layer_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/toy_layer.h"

enum { WAIT_US = 10 * 1000 * 1000, RING_BUFFERS = 2, RING_BUFFER_SIZE = 16 * 1024 };

struct worker rig;

static struct worker *peers[] = { &rig };

static const struct worker_options options = {
	.ring = { .entries = 64,
		  .buffers = { RING_BUFFERS, RING_BUFFERS },
		  .buffer_size = { RING_BUFFER_SIZE, RING_BUFFER_SIZE } },
	.mailbox_places = RIG_MAILBOX_PLACES,
	.buffers_max = 64,
};

/* ---- the owner ---- */

static struct rig_session *
session_of(struct conn *c)
{
	return CONTAINER_OF(c, struct rig_session, conn);
}

static void
on_secured(struct conn *c, enum err e)
{
	struct rig_session *s = session_of(c);

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

const struct conn_events rig_events = {
	.on_secured = on_secured,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

/* ---- the worker ---- */

int
rig_setup(void **state)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	(void)state;
	worker_init(&rig, 0, 1, peers, &options);
	if (!worker_open(&rig, &options, &why))
		fail_msg("%.*s", (int)why.size, text);
	return 0;
}

int
rig_teardown(void **state)
{
	(void)state;
	assert_int_equal(rig.conn_count, 0);
	assert_int_equal(rig.buffers.used, 0);
	assert_int_equal(ring_ops(rig.ring), 0);
	assert_int_equal(toy_layers, 0);
	worker_close(&rig);
	return 0;
}

bool
rig_turn(const char *what)
{
	unsigned idle = rig.helpers == NULL ? 2 : 20; /* the bells of helpers may come late */

	toy_heavy_reads = 0;
	while (idle > 0 && !worker_turn(&rig, WAIT_US))
		idle--;
	if (idle == 0)
		print_error("nothing happens while waiting for %s\n", what);
	assert_true(toy_heavy_reads <= rig.heavy_steps);
	return idle > 0;
}

void
rig_step_eat(struct rig_session *s)
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

int
rig_start(struct rig_session *s, void (*step)(struct rig_session *s))
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*s = (struct rig_session){ .step = step };
	conn_init(&s->conn, &rig, fds[0], RING_CLIENTS, &rig_events);
	conn_read_more(&s->conn);
	return fds[1];
}

void
rig_put(int fd, struct span bytes)
{
	assert_int_equal(send(fd, bytes.data, bytes.size, MSG_NOSIGNAL), bytes.size);
}

/* Reads exactly what is expected while the worker turns. */
void
rig_expect(int fd, struct span bytes)
{
	uint8_t got[256];

	assert_true(bytes.size <= sizeof got);
	for (size_t n = 0; n < bytes.size;) {
		ssize_t more = recv(fd, got + n, bytes.size - n, MSG_DONTWAIT);
		assert_true(more > 0 || (more < 0 && errno == EAGAIN));
		if (more > 0)
			n += (size_t)more;
		else
			worker_turn(&rig, 1000);
	}
	assert_memory_equal(got, bytes.data, bytes.size);
}

struct span
rig_record_of(struct span plain)
{
	static uint8_t memory[HEAD + RECORD_MAX];

	memcpy(memory, (uint8_t[]){ 'd', (uint8_t)(plain.size >> 8), (uint8_t)plain.size }, HEAD);
	for (size_t i = 0; i < plain.size; i++)
		memory[HEAD + i] = plain.data[i] ^ HIDE;
	return span_of(memory, HEAD + plain.size);
}

void
rig_shake_hands(struct rig_session *s, int fd)
{
	conn_secure(&s->conn, toy_new(true));
	rig_put(fd, RIG_HELLO);
	rig_expect(fd, RIG_ANSWER);
	rig_put(fd, RIG_FINISH);
	RIG_UNTIL(s->secured == 1);
	assert_int_equal(s->error, ERR_OK);
}

void
rig_end(struct rig_session *s, int fd)
{
	if (s->closed == 0)
		conn_close(&s->conn, CLOSE_QUIT);
	RIG_UNTIL(s->closed == 1);
	close(fd);
	free(s->seen);
}

void
rig_no_work(void)
{
}

/* One helper, with a place for one job more. */
void
rig_have_helper(void (*work)(void))
{
	const struct helpers_options o = { .threads = 1, .jobs_max = 1, .party_max = 1 };
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);

	rig.helpers = helpers_start(&o, &why);
	assert_non_null(rig.helpers);
	toy_work = work;
}

void
rig_have_no_helper(void)
{
	assert_int_equal(rig.at_work, 0);
	assert_true(list_is_empty(&rig.parked));
	helpers_stop(rig.helpers);
	rig.helpers = NULL;
	toy_work = NULL;
}
