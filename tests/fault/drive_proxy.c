/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver of core/conn.h: a proxy that hands bytes between simulated clients and a simulated
 * sink, on all workers. It tests connections (back-pressure, few receive buffers, resets, ends) and
 * the peers against each other: what a client is told about a mail is what the sink said.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/conn.h"
#include "tests/fault/drive.h"
#include "tests/fault/oracle.h"
#include "tests/fault/peers.h"
#include "tests/fault/sim_net.h"

enum { PORT_CLIENTS = 25, PORT_SINK = 2500, CLIENTS = 4, PUMPS_MOST = 2000000 };

struct session;

/* One end of a session. */
struct side {
	struct conn conn; /* first */
	struct session *session;
	struct side *other;
};

struct session {
	struct side client;
	struct side sink;
	unsigned open; /* sides */
};

struct acceptor {
	struct op accept;
	struct op end; /* cancel, then close */
	struct worker *worker;
	int fd;
	bool ending;
};

/* In the world: peers outlive the proxy. */
struct cast {
	struct client *clients[CLIENTS];
	struct sink *sink;
};

static const struct drive_plan *plan;
static struct cast *cast;
static struct acceptor acceptors[DRIVE_WORKERS_MAX];
static unsigned sessions;
static struct net_address sink_address;

static void
close_both(struct side *s, enum close_reason reason)
{
	conn_close(&s->conn, reason);
	conn_close(&s->other->conn, reason);
}

static struct side *
side_of(struct conn *c)
{
	return CONTAINER_OF(c, struct side, conn);
}

static void
on_input(struct conn *c)
{
	struct side *s = side_of(c);
	struct conn *other = &s->other->conn;
	struct span in = conn_input(c);
	size_t room = conn_output_room(other);
	size_t n = in.size < room ? in.size : room;

	if (sim_chance(100) && n > 1)
		n = sim_between(1, n);
	if (n > 0 && !conn_write(other, span_first(in, n)))
		return; /* it is closing, and will take this side along */
	conn_consume(c, n);
	if (conn_input_is_over(c)) {
		conn_finish(other, CLOSE_PEER_CLOSED);
		conn_finish(c, CLOSE_PEER_CLOSED);
	} else if (n < in.size) {
		if (n > 0)
			conn_run(c);
		/* else: on_drained of the other side goes on */
	} else {
		conn_read_more(c);
	}
}

static void
on_connected(struct conn *c, enum err e)
{
	struct side *s = side_of(c);

	if (e != ERR_OK) {
		close_both(s, CLOSE_CONNECT_FAILED);
		return;
	}
	conn_read_more(c);
	conn_read_more(&s->other->conn);
}

static void
on_drained(struct conn *c)
{
	conn_run(&side_of(c)->other->conn);
}

static void
on_deadline(struct conn *c)
{
	close_both(side_of(c), CLOSE_TIMEOUT);
}

static void
on_lost(struct conn *c, enum err e)
{
	(void)e;
	close_both(side_of(c), CLOSE_RESET);
}

static void
on_closed(struct conn *c)
{
	struct session *s = side_of(c)->session;

	if (--s->open > 0) {
		conn_close(&side_of(c)->other->conn, CLOSE_PEER_CLOSED);
		return;
	}
	free(s);
	sessions--;
}

static const struct conn_events events = {
	.on_connected = on_connected,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

static void
session_new(struct worker *w, int fd)
{
	struct session *s = calloc(1, sizeof *s);

	ASSERT(s != NULL);
	s->open = 2;
	s->client.session = s->sink.session = s;
	s->client.other = &s->sink;
	s->sink.other = &s->client;
	sessions++;
	conn_init(&s->client.conn, w, fd, RING_CLIENTS, &events);
	conn_init(&s->sink.conn, w, net_socket(&sink_address), RING_PEERS, &events);
	conn_deadline(&s->client.conn, w->now_ms + 300 * 1000);
	conn_connect(&s->sink.conn, &sink_address);
}

static void
on_accept(struct op *op, struct completion c)
{
	struct acceptor *a = CONTAINER_OF(op, struct acceptor, accept);

	if (c.result >= 0)
		session_new(a->worker, c.result);
	if (!c.more && !a->ending)
		ring_accept(a->worker->ring, &a->accept, a->fd);
}

static void
on_ended(struct op *op, struct completion c)
{
	struct acceptor *a = CONTAINER_OF(op, struct acceptor, end);

	(void)c;
	if (a->fd >= 0)
		ring_close(a->worker->ring, &a->end, a->fd);
	a->fd = -1;
}

static void
listen_on(struct acceptor *a, struct worker *w)
{
	struct net_address address = peer_address(PORT_CLIENTS);

	*a = (struct acceptor){ .worker = w, .fd = net_listen(&address, 128, true) };
	ASSERT(a->fd >= 0);
	op_init(&a->accept, on_accept);
	op_init(&a->end, on_ended);
	ring_accept(w->ring, &a->accept, a->fd);
}

static void
choose_cast(void)
{
	struct net_address to = peer_address(PORT_CLIENTS);
	bool rough = sim_chance(700);
	struct peer_faults faults = {
		.client_resets = rough ? 5 : 0,
		.client_pauses = 20,
		.sink_defers = rough ? 30 : 0,
		.sink_refuses = rough ? 30 : 0,
		.sink_drops = rough ? 10 : 0,
		.sink_stalls = 20,
		.sink_absent = rough ? 100 : 0,
		.stall_us = sim_between(1000, 60000000),
	};

	cast = sim_allocate(sizeof *cast);
	cast->sink = sink_new(&sink_address, 0, &faults);
	for (unsigned i = 0; i < CLIENTS; i++)
		cast->clients[i] =
			client_new(&to, &faults, (uint32_t)sim_between(1, 6), 64 + plan->body_most);
	world->cast = cast;
}

static bool
all_done(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		if (!client_is_done(cast->clients[i]))
			return false;
	return sessions == 0;
}

static bool
all_stopped(void)
{
	bool empty = sessions == 0;

	for (unsigned i = 0; i < drive_worker_count; i++)
		empty &= ring_ops(drive_workers[i]->ring) == 0;
	return empty;
}

static void
pump_until(bool (*done)(void), const char *what)
{
	for (unsigned i = 0; !done(); i++) {
		if (!drive_pump() && !done())
			sim_fail("%s: nothing happens any more", what);
		if (i > PUMPS_MOST)
			sim_fail("%s does not end", what);
	}
}

void
drive_proxy(void *context)
{
	static const struct worker_options options = {
		.ring = { .entries = 256, .buffers = { 2, 2 }, .buffer_size = { 4096, 4096 } },
		.mailbox_places = 64,
		.buffers_max = 64,
	};

	plan = context;
	sink_address = peer_address(PORT_SINK);
	oracle_restart();
	drive_open_workers(plan->workers[plan->incarnation], &options);
	for (unsigned i = 0; i < drive_worker_count; i++)
		listen_on(&acceptors[i], drive_workers[i]);
	cast = world->cast;
	if (cast == NULL)
		choose_cast();
	for (unsigned i = 0; drive_is_last(plan) && i < CLIENTS; i++)
		client_stop(cast->clients[i]);
	if (drive_is_last(plan))
		sink_calm(cast->sink);
	pump_until(all_done, "the clients");
	for (unsigned i = 0; i < drive_worker_count; i++) {
		struct acceptor *a = &acceptors[i];
		a->ending = true;
		ring_cancel(a->worker->ring, &a->end, &a->accept);
	}
	pump_until(all_stopped, "stopping");
	sim_check_nothing_left();
	drive_close_workers();
	if (drive_is_last(plan))
		sim_check_no_leaks();
}

void
drive_proxy_final(void *context)
{
	(void)context;
	oracle_check_arrived();
	if (world->oracle->kept > 0 && sink_messages(((struct cast *)world->cast)->sink) == 0)
		sim_fail("mails were kept, and none arrived");
}
