/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/sink.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench/server.h"
#include "bench/thread.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/conn.h"

enum {
	BACKLOG = 4096,
	ACCEPT_AGAIN_MS = 100,
	STEPS_PER_TURN = 64,
	/* A stalled connection drops what has come so often, to notice its end. */
	STALL_LOOK_MS = 10 * 1000,
	/* A slow one reads this part of a second's bytes at once. */
	SLOW_PARTS = 20,
};

_Static_assert((int)SERVER_LINE_MAX <= (int)CONN_INPUT_KEPT, "an unfinished line is kept");
_Static_assert((int)SERVER_REPLY_MAX <= (int)CONN_OUTPUT_SPARE,
	       "there is room for a step's replies");
_Static_assert(WORKER_BUFFER_SIZE / sizeof(struct server_recipient) >= SERVER_RECIPIENTS_MAX,
	       "a pooled buffer holds the recipients of a mail");

/* One thread writes, any may read. */
struct tally {
	_Atomic uint64_t connections;
	_Atomic uint64_t open;
	_Atomic uint64_t mails;
	_Atomic uint64_t recipients;
	_Atomic uint64_t bytes;
	_Atomic uint64_t faults;
};

struct listener {
	struct sink_thread *thread;
	struct op accept;
	struct op cancel;
	struct timer again;
	int fd; /* -1: closed, or another thread's */
};

struct sink_thread {
	struct sink *sink;
	struct worker *worker;
	struct listener listeners[SINK_ADDRESSES_MAX];
	struct pool sessions;
	struct tally tally;
	struct histogram latency;
	bool closing;
};

struct sink {
	struct sink_options options;
	struct server_options server;
	struct track *track;
	struct crew crew;
	_Atomic uint32_t open; /* of all threads, for the limit */
	struct net_address bound[SINK_ADDRESSES_MAX];
	struct sink_thread threads[];
};

/* What a connection's deadline is for. */
enum waiting { WAITING_NOT, WAITING_LATE, WAITING_RATE, WAITING_FOR_EVER };

struct session {
	struct conn conn; /* first */
	struct sink_thread *thread;
	int fd;           /* the connection's own */
	uint32_t rate;    /* bytes a second; 0: as fast as it goes */
	uint64_t credit;  /* byte-milliseconds that may be read at once */
	uint64_t paid_at; /* worker's now_ms, up to which they were earned */
	uint32_t seen;    /* unconsumed bytes at the front that were paid for */
	uint8_t waiting;  /* enum waiting */
	struct server server;
};

_Static_assert(sizeof(struct session) <= 1024, "20 000 of them take 20 MB");

static void
count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static uint64_t
read_count(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct session *
session_of(struct conn *c)
{
	return CONTAINER_OF(c, struct session, conn);
}

/* ---- what the server wants ---- */

static void
take_mail(struct session *s, const struct server_action *a)
{
	struct sink_thread *t = s->thread;
	struct track *track = t->sink->track;
	uint32_t number;
	uint32_t at = 0;
	uint64_t mail;

	count(&t->tally.mails, 1);
	count(&t->tally.recipients, a->recipient_count);
	count(&t->tally.bytes, a->size);
	if (track == NULL)
		return;
	bool known = track_read_id(track, a->id, &mail);
	uint64_t now_us = clock_monotonic_us();
	while (server_recipient(&s->server, &at, &number)) {
		if (known && number != SERVER_NO_NUMBER)
			track_arrive(track, mail, number, now_us, &t->latency);
		else
			track_arrive_foreign(track);
	}
}

static void
give_room(struct session *s)
{
	struct server_recipient *memory = pool_get(&s->thread->worker->buffers);

	server_give_room(&s->server, memory, SERVER_RECIPIENTS_MAX);
}

static void
wait_for(struct session *s, enum waiting what, uint64_t ms)
{
	s->waiting = (uint8_t)what;
	conn_deadline(&s->conn, s->thread->worker->now_ms + ms);
}

static void
need_input(struct session *s, size_t held)
{
	if (held > s->seen) {
		/* It holds more than it may look at yet. */
		uint64_t part = s->rate / SLOW_PARTS + 1;
		part = part < held - s->seen ? part : held - s->seen;
		wait_for(s, WAITING_RATE, (part * 1000 + s->rate - 1) / s->rate);
	} else if (conn_peer_has_ended(&s->conn)) {
		conn_close(&s->conn, CLOSE_PEER_CLOSED);
	} else {
		conn_read_more(&s->conn);
	}
}

/* The peer sees a reset instead of an end. On a unix socket there is none. */
static void
reset_when_closed(const struct session *s)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* False: nothing more to do until something happens. */
static bool
act(struct session *s, const struct server_action *a)
{
	switch (a->kind) {
	case SERVER_FLUSH:
		return true;
	case SERVER_ROOM:
		give_room(s);
		return true;
	case SERVER_MAIL:
		take_mail(s, a);
		return true;
	case SERVER_SLOW:
		s->rate = a->rate;
		s->credit = 0;
		s->paid_at = s->thread->worker->now_ms;
		return true;
	case SERVER_WAIT:
		if (a->wait_ms == SERVER_FOR_EVER)
			wait_for(s, WAITING_FOR_EVER, STALL_LOOK_MS);
		else
			wait_for(s, WAITING_LATE, a->wait_ms);
		return false;
	case SERVER_CLOSE:
		conn_finish(&s->conn, CLOSE_QUIT);
		return false;
	case SERVER_DROP:
		reset_when_closed(s);
		conn_close(&s->conn, CLOSE_REFUSED);
		return false;
	case SERVER_NEED_INPUT:
	case SERVER_NONE:
	case SERVER_ACTION_COUNT:
		break;
	}
	return false;
}

/* ---- the loop ---- */

/* The part of the input that may be looked at, paying for what is new in it. */
static struct span
look_at_input(struct session *s)
{
	struct span in = conn_input(&s->conn);
	uint64_t now_ms = s->thread->worker->now_ms;

	if (s->rate == 0) {
		s->seen = (uint32_t)in.size;
		return in;
	}
	/* Who was idle may read the bytes of one second at once, and no more. */
	uint64_t most = (uint64_t)s->rate * 1000;
	s->credit += (now_ms - s->paid_at) * s->rate;
	s->credit = s->credit < most ? s->credit : most;
	s->paid_at = now_ms;
	in = span_first(in, s->seen + s->credit / 1000);
	s->credit -= (in.size - s->seen) * 1000;
	s->seen = (uint32_t)in.size;
	return in;
}

/* Of a stalled connection, so that it holds no memory. */
static void
drop_input(struct session *s)
{
	conn_consume(&s->conn, conn_input(&s->conn).size);
	if (conn_peer_has_ended(&s->conn))
		conn_close(&s->conn, CLOSE_PEER_CLOSED);
}

static void
step(struct session *s)
{
	uint8_t memory[CONN_OUTPUT_SPARE];

	for (unsigned n = 0; n < STEPS_PER_TURN; n++) {
		struct buf replies = buf_of(memory, sizeof memory);
		struct server_action action;

		if (s->conn.state != CONN_OPEN || s->waiting != WAITING_NOT)
			return;
		if (conn_output_full(&s->conn))
			return; /* resumed by on_drained */
		struct span in = look_at_input(s);
		size_t used = server_step(&s->server, in, &replies, &action);
		if (replies.size > 0)
			conn_write(&s->conn, buf_span(&replies));
		bool more = act(s, &action);
		/* Last: what the action holds may lie in the input. */
		conn_consume(&s->conn, used);
		s->seen -= (uint32_t)used;
		if (more)
			continue;
		if (action.kind == SERVER_NEED_INPUT)
			need_input(s, conn_input(&s->conn).size);
		if (s->waiting == WAITING_FOR_EVER)
			drop_input(s);
		return;
	}
	conn_run(&s->conn); /* its share of this turn is used up */
}

static void
on_input(struct conn *c)
{
	struct session *s = session_of(c);

	if (s->waiting == WAITING_FOR_EVER)
		drop_input(s);
	else
		step(s);
	uint32_t struck = server_take_struck(&s->server);
	if (struck > 0)
		count(&s->thread->tally.faults, struck);
}

static void
on_deadline(struct conn *c)
{
	struct session *s = session_of(c);

	if (s->waiting == WAITING_FOR_EVER) {
		conn_deadline(c, s->thread->worker->now_ms + STALL_LOOK_MS);
		conn_read_more(c);
		return;
	}
	if (s->waiting == WAITING_LATE)
		server_resume(&s->server);
	s->waiting = WAITING_NOT;
	conn_run(c);
}

static void
on_lost(struct conn *c, enum err e)
{
	(void)e;
	conn_close(c, CLOSE_RESET);
}

static void
on_closed(struct conn *c)
{
	struct session *s = session_of(c);
	struct sink_thread *t = s->thread;

	if (s->server.recipients != s->server.few)
		pool_put(&t->worker->buffers, s->server.recipients);
	server_fini(&s->server);
	pool_put(&t->sessions, s);
	count(&t->tally.open, UINT64_MAX); /* one less */
	atomic_fetch_sub_explicit(&t->sink->open, 1, memory_order_relaxed);
}

static const struct conn_events session_events = {
	.on_input = on_input,
	.on_drained = on_input,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

/* ---- accepting ---- */

static void
begin_session(struct sink_thread *t, int fd)
{
	struct sink *sink = t->sink;
	uint32_t open = atomic_fetch_add_explicit(&sink->open, 1, memory_order_relaxed);
	struct session *s = open < sink->options.connections_max ? pool_get(&t->sessions) : NULL;

	if (s == NULL || t->closing) {
		atomic_fetch_sub_explicit(&sink->open, 1, memory_order_relaxed);
		net_close(fd);
		if (s != NULL)
			pool_put(&t->sessions, s);
		return;
	}
	uint64_t number = read_count(&t->tally.connections) * WORKERS_MAX + t->worker->number + 1;
	count(&t->tally.connections, 1);
	count(&t->tally.open, 1);
	s->thread = t;
	s->fd = fd;
	s->rate = 0;
	s->seen = 0;
	s->waiting = WAITING_NOT;
	/* An odd factor, so that no two connections have the same dice. */
	server_init(&s->server, &sink->server, sink->options.seed + number * 0xd1342543de82ef95u);
	conn_init(&s->conn, t->worker, fd, RING_CLIENTS, &session_events);
	conn_run(&s->conn); /* the banner */
}

static void
close_listener(struct listener *l)
{
	net_close(l->fd);
	l->fd = -1;
}

static void
on_accept(struct op *op, struct completion c)
{
	struct listener *l = CONTAINER_OF(op, struct listener, accept);
	struct worker *w = l->thread->worker;

	if (c.result >= 0)
		begin_session(l->thread, c.result);
	if (c.more)
		return;
	if (l->thread->closing)
		close_listener(l);
	else /* Out of descriptors: the kernel's queue keeps the clients meanwhile. */
		timer_set(&w->timers, &l->again, w->now_ms + (c.result < 0 ? ACCEPT_AGAIN_MS : 0));
}

static void
on_cancelled(struct op *op, struct completion c)
{
	(void)op;
	(void)c; /* on_accept closes the socket, before or after this */
}

static void
on_again(struct timer *timer)
{
	struct listener *l = CONTAINER_OF(timer, struct listener, again);

	ring_accept(l->thread->worker->ring, &l->accept, l->fd);
}

static void
stop_listener(struct listener *l)
{
	timer_stop(&l->thread->worker->timers, &l->again);
	if (l->fd >= 0 && l->accept.in_kernel)
		ring_cancel(l->thread->worker->ring, &l->cancel, &l->accept);
	else if (l->fd >= 0)
		close_listener(l);
}

/* ---- threads ---- */

static void
on_start(struct crew_member *m)
{
	struct sink *sink = m->crew->context;
	struct sink_thread *t = &sink->threads[m->worker.number];

	m->context = t;
	t->worker = &m->worker;
	for (unsigned i = 0; i < sink->options.address_count; i++)
		if (t->listeners[i].fd >= 0)
			ring_accept(t->worker->ring, &t->listeners[i].accept, t->listeners[i].fd);
}

static void
begin_closing(struct sink_thread *t)
{
	struct list_node *n = list_first(&t->worker->conns);

	t->closing = true;
	for (unsigned i = 0; i < t->sink->options.address_count; i++)
		stop_listener(&t->listeners[i]);
	while (n != NULL) {
		struct conn *c = LIST_ITEM(n, struct conn, link);
		n = list_next(&t->worker->conns, n);
		conn_close(c, CLOSE_SHUTDOWN);
	}
}

static bool
on_stop(struct crew_member *m)
{
	struct sink_thread *t = m->context;
	bool closed = true;

	if (!t->closing)
		begin_closing(t);
	for (unsigned i = 0; i < t->sink->options.address_count; i++)
		closed = closed && t->listeners[i].fd < 0 && !t->listeners[i].cancel.in_kernel;
	return closed && t->worker->conn_count == 0;
}

/* ---- start and end ---- */

static void
sink_free(struct sink *s)
{
	for (unsigned i = 0; i < s->options.threads; i++) {
		struct sink_thread *t = &s->threads[i];
		for (unsigned k = 0; k < s->options.address_count; k++)
			if (t->listeners[k].fd >= 0)
				close_listener(&t->listeners[k]);
		pool_fini(&t->sessions);
	}
	crew_free(&s->crew);
	free(s);
}

static bool
bind_address(struct sink *s, struct listener *l, unsigned index, struct buf *why)
{
	struct net_address *a = &s->bound[index];

	l->fd = net_listen(a, BACKLOG, true);
	if (l->fd >= 0) {
		net_local(l->fd, a); /* where the port was 0, the others join this one */
		return true;
	}
	buf_append_string(why, "cannot listen on ");
	net_address_show(a, why);
	buf_printf(why, ": %s; end what uses it, or choose another address", strerror(-l->fd));
	return false;
}

static bool
open_listeners(struct sink *s, struct buf *why)
{
	for (unsigned i = 0; i < s->options.address_count; i++) {
		bool shared = s->bound[i].head.family != AF_UNIX;
		for (unsigned k = 0; k < s->options.threads; k++) {
			struct listener *l = &s->threads[k].listeners[i];
			/* A unix socket has one listener. */
			if ((k == 0 || shared) && !bind_address(s, l, i, why))
				return false;
		}
	}
	return true;
}

static void
prepare_thread(struct sink *s, struct sink_thread *t)
{
	t->sink = s;
	pool_init(&t->sessions, sizeof(struct session), s->options.connections_max);
	for (unsigned i = 0; i < SINK_ADDRESSES_MAX; i++) {
		struct listener *l = &t->listeners[i];
		l->thread = t;
		l->fd = -1;
		op_init(&l->accept, on_accept);
		op_init(&l->cancel, on_cancelled);
		timer_init(&l->again, on_again);
	}
}

struct sink *
sink_start(const struct sink_options *options, struct track *track, struct buf *why)
{
	struct sink *s;

	ASSERT(options->threads > 0 && options->threads <= WORKERS_MAX);
	ASSERT(options->address_count > 0 && options->address_count <= SINK_ADDRESSES_MAX);
	s = calloc(1, sizeof *s + options->threads * sizeof s->threads[0]);
	if (s == NULL) {
		buf_append_string(why, "no memory for the sink; use fewer threads");
		return NULL;
	}
	s->options = *options;
	s->track = track;
	s->server = (struct server_options){
		.hostname = SPAN("sink.test"),
		.offers = options->offers,
		.lmtp = options->lmtp,
		.faults = options->faults,
	};
	memcpy(s->bound, options->addresses, sizeof s->bound);
	for (unsigned i = 0; i < options->threads; i++)
		prepare_thread(s, &s->threads[i]);
	s->crew = (struct crew){
		.name = "sink",
		.count = options->threads,
		.on_start = on_start,
		.on_stop = on_stop,
		.context = s,
	};
	if (open_listeners(s, why) && crew_start(&s->crew, options->connections_max, why))
		return s;
	sink_free(s);
	return NULL;
}

void
sink_stop(struct sink *s)
{
	crew_stop(&s->crew);
	ASSERT(atomic_load(&s->open) == 0);
	sink_free(s);
}

const struct net_address *
sink_address(const struct sink *s, unsigned index)
{
	ASSERT(index < s->options.address_count);
	return &s->bound[index];
}

void
sink_count(const struct sink *s, struct sink_numbers *out)
{
	*out = (struct sink_numbers){ 0 };
	for (unsigned i = 0; i < s->options.threads; i++) {
		const struct tally *t = &s->threads[i].tally;
		out->connections += read_count(&t->connections);
		out->open += read_count(&t->open);
		out->mails += read_count(&t->mails);
		out->recipients += read_count(&t->recipients);
		out->bytes += read_count(&t->bytes);
		out->faults += read_count(&t->faults);
	}
}

void
sink_latency(const struct sink *s, struct histogram_view *out)
{
	for (unsigned i = 0; i < s->options.threads; i++)
		histogram_read(&s->threads[i].latency, out);
}

uint64_t
sink_cpu_us(const struct sink *s)
{
	return crew_cpu_us(&s->crew);
}
