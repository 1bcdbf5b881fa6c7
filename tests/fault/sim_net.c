/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated network, and the socket calls of core/net.h over it.
 */
#include "tests/fault/sim_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_machine.h"

enum { STREAM_SIZE = 4096, LINE_MAX_PENDING = 256 };

/* One direction. Bytes are written at the end, arrive after a while, and are taken at the front. */
struct stream {
	uint8_t *bytes; /* STREAM_SIZE, a circle */
	size_t head;
	size_t count;
	size_t arrived; /* of count */
	bool ended;     /* FIN behind the bytes */
	bool end_seen;  /* it has arrived */
	bool was_full;  /* the writer waits for room */
	uint64_t next_us;
};

struct sim_socket {
	struct list_node node;
	unsigned references; /* of the relay: descriptor and operations */
	int connected;       /* 1 made, 0 not yet, -errno */
	bool connecting;
	bool broken;
	bool reading_stopped; /* the peer takes nothing */
	struct stream in;     /* to the relay */
	struct stream out;    /* to the peer */
	struct sim_traffic *traffic;
	struct sim_peer *peer;
	struct net_address local; /* the relay's end */
	struct net_address remote;
	uint64_t next_us; /* of the connect */
};

struct sim_listener {
	struct list_node node;
	struct net_address address;
	struct list pending; /* struct sim_socket */
	size_t pending_count;
	bool closed;
};

struct server {
	struct list_node node;
	struct net_address address;
	sim_accept_fn on_connect;
	void *context;
};

/* A client on its way in. */
struct arrival {
	struct list_node node;
	struct sim_peer *peer;
	struct net_address to;
	uint64_t at_us;
};

struct sim_net {
	struct list sockets;
	struct list listeners;
	struct list servers;
	struct list peers;
	struct list arrivals;
	uint16_t next_port;
};

struct sim_net *
sim_net_new(void)
{
	struct sim_net *n = sim_allocate(sizeof *n);

	list_init(&n->sockets);
	list_init(&n->listeners);
	list_init(&n->servers);
	list_init(&n->peers);
	list_init(&n->arrivals);
	n->next_port = 20000;
	return n;
}

static uint64_t
latency_us(void)
{
	return sim_chance(20) ? sim_between(5000, 100000) : sim_between(10, 500);
}

/* ---- streams ---- */

static void
stream_init(struct stream *s)
{
	*s = (struct stream){ .bytes = sim_allocate(STREAM_SIZE), .next_us = UINT64_MAX };
}

static void
stream_fini(struct stream *s)
{
	sim_release(s->bytes, STREAM_SIZE);
	s->bytes = NULL;
	s->count = s->arrived = 0;
	s->next_us = UINT64_MAX;
}

static void
stream_schedule(struct stream *s)
{
	if (s->next_us == UINT64_MAX && (s->count > s->arrived || (s->ended && !s->end_seen)))
		s->next_us = world->now_us + latency_us();
}

static size_t
stream_write(struct stream *s, const uint8_t *data, size_t size)
{
	size_t room = STREAM_SIZE - s->count;
	size_t n = size < room ? size : room;

	for (size_t i = 0; i < n; i++)
		s->bytes[(s->head + s->count + i) % STREAM_SIZE] = data[i];
	s->count += n;
	s->was_full = n < size;
	stream_schedule(s);
	return n;
}

/* Takes at most `size` of what has arrived. */
static size_t
stream_take(struct stream *s, uint8_t *out, size_t size)
{
	size_t n = size < s->arrived ? size : s->arrived;

	for (size_t i = 0; i < n; i++)
		out[i] = s->bytes[(s->head + i) % STREAM_SIZE];
	s->head = (s->head + n) % STREAM_SIZE;
	s->count -= n;
	s->arrived -= n;
	return n;
}

/* Some of what is under way arrives: often all, else any part down to one byte. */
static void
stream_arrive(struct stream *s)
{
	size_t more = s->count - s->arrived;

	s->next_us = UINT64_MAX;
	if (more > 0)
		s->arrived += sim_chance(500) ? more : sim_between(1, more);
	if (s->ended && s->arrived == s->count)
		s->end_seen = true;
	stream_schedule(s);
}

/* ---- sockets ---- */

static struct sim_socket *
socket_new(void)
{
	struct sim_socket *s = sim_allocate(sizeof *s);

	stream_init(&s->in);
	stream_init(&s->out);
	s->traffic = sim_allocate(sizeof *s->traffic); /* peers look at it to the end */
	s->traffic->node = world->node;
	s->references = 1;
	s->next_us = UINT64_MAX;
	list_append(&world->net->sockets, &s->node);
	return s;
}

struct sim_socket *
sim_socket_new(void)
{
	return socket_new();
}

struct sim_socket *
sim_socket_get(struct sim_socket *s)
{
	s->references++;
	return s;
}

static void
socket_free(struct sim_socket *s)
{
	list_unlink(&s->node);
	stream_fini(&s->in);
	stream_fini(&s->out);
	sim_release(s, sizeof *s);
}

static void
note_left(struct sim_socket *s)
{
	s->traffic->over = true;
	if (s->traffic->left_us == 0)
		s->traffic->left_us = world->now_us;
}

/* The stream is no more; the peer learns of it at once. */
static void
socket_break(struct sim_socket *s)
{
	struct sim_peer *p = s->peer;

	s->broken = true;
	note_left(s);
	if (s->in.arrived > 0 && sim_chance(300))
		s->in.arrived = 0;
	s->in.count = s->in.arrived;
	s->in.next_us = s->out.next_us = UINT64_MAX;
	s->peer = NULL;
	if (p != NULL) {
		p->socket = NULL;
		p->events->on_broken(p);
	}
}

void
sim_socket_put(struct sim_socket *s)
{
	ASSERT(s->references > 0);
	if (--s->references > 0)
		return;
	/* With unread input a close is a reset; else what was sent still arrives, then the end. */
	if (s->peer == NULL || s->in.count > 0) {
		if (s->peer != NULL)
			socket_break(s);
		socket_free(s);
		return;
	}
	s->out.ended = true;
	note_left(s);
	stream_schedule(&s->out);
}

/* The relay has let go and the peer, too. */
static void
socket_reap(struct sim_socket *s)
{
	if (s->references == 0 && s->peer == NULL)
		socket_free(s);
}

bool
sim_socket_readable(const struct sim_socket *s)
{
	return s->broken || s->in.arrived > 0 || s->in.end_seen;
}

int
sim_socket_receive(struct sim_socket *s, uint8_t *out, size_t size)
{
	if (s->in.arrived == 0)
		return s->broken ? -ECONNRESET : s->in.end_seen ? 0 : -EAGAIN;
	if (sim_chance(world->faults.short_io))
		size = sim_between(1, size);
	size_t n = stream_take(&s->in, out, size);
	s->traffic->taken += n;
	if (s->in.was_full && s->peer != NULL) {
		s->in.was_full = false;
		s->peer->events->on_room(s->peer);
	}
	return (int)n;
}

bool
sim_socket_writable(const struct sim_socket *s)
{
	return s->broken || s->peer == NULL || s->out.ended || s->out.count < STREAM_SIZE;
}

void
sim_socket_handed(struct sim_socket *s, size_t size)
{
	struct sim_traffic *t = s->traffic;

	sim_note("handed", t->node, size);
	t->handed += size;
	t->hands[t->hand_count % SIM_HANDS].end = t->handed;
	t->hands[t->hand_count % SIM_HANDS].at_us = world->now_us;
	t->hand_count++;
}

uint64_t
sim_traffic_handed_us(const struct sim_traffic *t)
{
	unsigned i = t->hand_count > SIM_HANDS ? t->hand_count - SIM_HANDS : 0;

	while (i + 1 < t->hand_count && t->hands[i % SIM_HANDS].end < t->consumed)
		i++;
	return t->hands[i % SIM_HANDS].at_us;
}

int
sim_socket_send(struct sim_socket *s, const uint8_t *data, size_t size)
{
	if (s->broken || s->peer == NULL)
		return -ECONNRESET;
	if (s->out.ended)
		return -EPIPE;
	return (int)stream_write(&s->out, data, size);
}

int
sim_socket_shutdown(struct sim_socket *s)
{
	if (s->broken || s->peer == NULL)
		return -ENOTCONN;
	s->out.ended = true;
	stream_schedule(&s->out);
	return 0;
}

int
sim_socket_connect(struct sim_socket *s, const struct net_address *to)
{
	ASSERT(!s->connecting);
	s->remote = *to;
	s->connecting = true;
	s->next_us = world->now_us + latency_us();
	return 0;
}

int
sim_socket_connected(const struct sim_socket *s)
{
	return s->broken ? -ECONNRESET : s->connected;
}

struct sim_peer *
sim_socket_peer(const struct sim_socket *s)
{
	return s->peer;
}

/* ---- addresses: a listener on any address takes what comes for its port ---- */

static bool
same_address(const struct net_address *a, const struct net_address *b)
{
	if (a->head.family != b->head.family)
		return false;
	if (a->head.family == AF_INET || a->head.family == AF_INET6)
		return a->head.port_network_order == b->head.port_network_order;
	return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static struct server *
find_server(const struct net_address *address)
{
	for (struct list_node *n = list_first(&world->net->servers); n != NULL;
	     n = list_next(&world->net->servers, n)) {
		struct server *s = LIST_ITEM(n, struct server, node);
		if (same_address(&s->address, address))
			return s;
	}
	return NULL;
}

/* One of the listeners of the address, as SO_REUSEPORT would choose. */
static struct sim_listener *
find_listener(const struct net_address *address)
{
	struct sim_listener *found = NULL;
	uint64_t seen = 0;

	for (struct list_node *n = list_first(&world->net->listeners); n != NULL;
	     n = list_next(&world->net->listeners, n)) {
		struct sim_listener *l = LIST_ITEM(n, struct sim_listener, node);
		if (!l->closed && same_address(&l->address, address) && sim_below(++seen) == 0)
			found = l;
	}
	return found;
}

/* ---- listeners ---- */

struct sim_listener *
sim_listener_new(const struct net_address *address, bool reuse_port)
{
	if (!reuse_port && find_listener(address) != NULL)
		return NULL;
	struct sim_listener *l = sim_allocate(sizeof *l);
	l->address = *address;
	list_init(&l->pending);
	list_append(&world->net->listeners, &l->node);
	return l;
}

/* The object stays until the reset: an accept in flight may still look at it. */
void
sim_listener_close(struct sim_listener *l)
{
	struct list_node *n;

	l->closed = true;
	list_unlink(&l->node);
	while ((n = list_shift(&l->pending)) != NULL) {
		struct sim_socket *s = LIST_ITEM(n, struct sim_socket, node);
		socket_break(s);
		socket_free(s);
	}
}

bool
sim_listener_has_pending(const struct sim_listener *l)
{
	return !list_is_empty(&l->pending);
}

struct sim_socket *
sim_listener_take(struct sim_listener *l)
{
	struct sim_socket *s = LIST_ITEM(list_shift(&l->pending), struct sim_socket, node);

	l->pending_count--;
	list_append(&world->net->sockets, &s->node);
	return s;
}

/* ---- peers ---- */

void
sim_peer_init(struct sim_peer *p, const struct sim_peer_events *events,
	      const struct net_address *address)
{
	*p = (struct sim_peer){ .events = events };
	if (address != NULL)
		p->address = *address;
	list_append(&world->net->peers, &p->node);
}

void
sim_peer_connect(struct sim_peer *p, const struct net_address *to)
{
	struct arrival *a = sim_allocate(sizeof *a);

	ASSERT(p->socket == NULL);
	*a = (struct arrival){ .peer = p, .to = *to, .at_us = world->now_us + latency_us() };
	list_append(&world->net->arrivals, &a->node);
}

void
sim_net_serve(const struct net_address *address, sim_accept_fn on_connect, void *context)
{
	struct server *s = sim_allocate(sizeof *s);

	*s = (struct server){ .address = *address, .on_connect = on_connect, .context = context };
	list_append(&world->net->servers, &s->node);
}

size_t
sim_peer_write(struct sim_peer *p, struct span bytes)
{
	if (p->socket == NULL || p->socket->in.ended)
		return 0;
	size_t n = stream_write(&p->socket->in, bytes.data, bytes.size);
	p->socket->traffic->written += n;
	return n;
}

void
sim_peer_consumed(struct sim_peer *p, size_t size)
{
	if (p->socket != NULL)
		p->socket->traffic->consumed += size;
}

void
sim_peer_end(struct sim_peer *p)
{
	if (p->socket == NULL)
		return;
	p->socket->in.ended = p->socket->traffic->over = true;
	stream_schedule(&p->socket->in);
}

void
sim_peer_reset(struct sim_peer *p)
{
	struct sim_socket *s = p->socket;

	if (s == NULL)
		return;
	p->socket = NULL;
	s->peer = NULL;
	socket_break(s);
	socket_reap(s);
}

void
sim_peer_stop_reading(struct sim_peer *p, bool stop)
{
	if (p->socket == NULL)
		return;
	p->socket->reading_stopped = stop;
	stream_schedule(&p->socket->out);
}

void
sim_peer_wake(struct sim_peer *p, uint64_t at_us)
{
	p->wake_us = at_us;
}

/* ---- events ---- */

enum event { EVENT_NONE, EVENT_IN, EVENT_OUT, EVENT_CONNECT, EVENT_ARRIVAL, EVENT_WAKE };

struct next {
	enum event event;
	uint64_t at_us;
	void *object;
};

static void
consider(struct next *best, enum event event, uint64_t at_us, void *object)
{
	if (at_us < best->at_us)
		*best = (struct next){ event, at_us, object };
}

static struct next
next_event(const struct sim_net *net)
{
	struct next best = { .event = EVENT_NONE, .at_us = UINT64_MAX };
	struct list_node *n;

	for (n = list_first(&net->sockets); n != NULL; n = list_next(&net->sockets, n)) {
		struct sim_socket *s = LIST_ITEM(n, struct sim_socket, node);
		consider(&best, EVENT_IN, s->in.next_us, s);
		if (!s->reading_stopped)
			consider(&best, EVENT_OUT, s->out.next_us, s);
		consider(&best, EVENT_CONNECT, s->next_us, s);
	}
	for (n = list_first(&net->arrivals); n != NULL; n = list_next(&net->arrivals, n)) {
		struct arrival *a = LIST_ITEM(n, struct arrival, node);
		consider(&best, EVENT_ARRIVAL, a->at_us, a);
	}
	for (n = list_first(&net->peers); n != NULL; n = list_next(&net->peers, n)) {
		struct sim_peer *p = LIST_ITEM(n, struct sim_peer, node);
		if (p->wake_us != 0)
			consider(&best, EVENT_WAKE, p->wake_us, p);
	}
	return best;
}

uint64_t
sim_net_next_us(const struct sim_net *n)
{
	return next_event(n).at_us;
}

/* Bytes reach the peer, or the relay's end does. */
static void
to_peer(struct sim_socket *s)
{
	uint8_t bytes[STREAM_SIZE];

	stream_arrive(&s->out);
	if (s->peer == NULL) {
		socket_reap(s);
		return;
	}
	size_t n = stream_take(&s->out, bytes, sizeof bytes);
	bool end = s->out.end_seen;
	struct sim_peer *p = s->peer;
	if (n > 0)
		p->events->on_bytes(p, span_of(bytes, n));
	/* The peer may have gone meanwhile, and taken the socket with it. */
	if (end && p->socket == s)
		p->events->on_end(p);
	if (end && p->socket == s && s->references == 0) {
		socket_break(s); /* the relay has closed both directions */
		socket_free(s);
	}
}

static void
run_connect(struct sim_net *net, struct sim_socket *s)
{
	struct server *server = find_server(&s->remote);

	s->next_us = UINT64_MAX;
	world->node = s->traffic->node;
	s->peer = server == NULL ? NULL : server->on_connect(server->context, &s->remote);
	if (s->peer == NULL) {
		s->connected = -ECONNREFUSED;
		return;
	}
	s->peer->socket = s;
	s->peer->traffic = s->traffic;
	s->local = (struct net_address){ .size = sizeof(struct sockaddr_in) };
	s->local.head.family = AF_INET;
	s->local.head.port_network_order = htons(net->next_port++);
	s->connected = 1;
	s->peer->events->on_open(s->peer);
}

static void
run_arrival(struct arrival *a)
{
	struct sim_peer *p = a->peer;
	struct sim_listener *l = find_listener(&a->to);
	struct net_address to = a->to;

	list_unlink(&a->node);
	sim_release(a, sizeof *a);
	if (l == NULL || l->pending_count >= LINE_MAX_PENDING) {
		p->events->on_broken(p);
		return;
	}
	struct sim_socket *s = socket_new();
	s->connected = 1;
	s->peer = p;
	s->local = to;
	s->remote = p->address;
	p->socket = s;
	p->traffic = s->traffic;
	list_unlink(&s->node);
	list_append(&l->pending, &s->node);
	l->pending_count++;
	p->events->on_open(p);
}

void
sim_net_step(struct sim_net *net)
{
	struct next next = next_event(net);
	struct sim_socket *s = next.object;
	struct sim_peer *p = next.object;

	sim_note("net", next.event, 0);
	if ((next.event == EVENT_IN || next.event == EVENT_OUT) &&
	    sim_chance(world->faults.reset)) {
		socket_break(s);
		socket_reap(s);
		return;
	}
	switch (next.event) {
	case EVENT_IN:
		stream_arrive(&s->in);
		break;
	case EVENT_OUT:
		to_peer(s);
		break;
	case EVENT_CONNECT:
		run_connect(net, s);
		break;
	case EVENT_ARRIVAL:
		run_arrival(next.object);
		break;
	case EVENT_WAKE:
		p->wake_us = 0;
		p->events->on_time(p);
		break;
	case EVENT_NONE:
		break;
	}
}

void
sim_net_crash(struct sim_net *net)
{
	struct list_node *n;

	while ((n = list_shift(&net->listeners)) != NULL)
		sim_listener_close(LIST_ITEM(n, struct sim_listener, node));
	while ((n = list_first(&net->sockets)) != NULL) {
		struct sim_socket *s = LIST_ITEM(n, struct sim_socket, node);
		socket_break(s);
		socket_free(s);
	}
}

/* ---- core/net.h: sockets ---- */

int
net_listen(const struct net_address *a, int backlog, bool reuse_port)
{
	(void)backlog;
	struct sim_listener *l = sim_listener_new(a, reuse_port);

	if (l == NULL)
		return -EADDRINUSE;
	return sim_handle_new((struct sim_handle){ .kind = SIM_HANDLE_LISTENER, .listener = l });
}

int
net_socket(const struct net_address *peer)
{
	(void)peer;
	return sim_handle_new(
		(struct sim_handle){ .kind = SIM_HANDLE_SOCKET, .socket = sim_socket_new() });
}

void
net_close(int fd)
{
	sim_handle_close(fd);
}

bool
net_peer(int fd, struct net_address *out)
{
	struct sim_handle *h = sim_handle(fd);

	if (h->kind != SIM_HANDLE_SOCKET || h->socket->broken)
		return false;
	*out = h->socket->remote;
	return true;
}

bool
net_local(int fd, struct net_address *out)
{
	struct sim_handle *h = sim_handle(fd);

	if (h->kind == SIM_HANDLE_LISTENER)
		*out = h->listener->address;
	else
		*out = h->socket->local;
	return true;
}

unsigned
net_own_addresses(sa_family_t family, struct net_address *out, unsigned most)
{
	(void)family;
	(void)out;
	(void)most;
	return 0;
}
