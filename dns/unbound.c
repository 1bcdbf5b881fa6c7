/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/unbound.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unbound-event.h>

#include "core/base/assert.h"

#define UNBOUND_MAGIC 0x55424e44u
#define EVENT_MAGIC   0x55424556u

struct unbound {
	struct ub_event_base base; /* first: the library hands its address back */
	uint32_t magic;
	struct worker *worker;
	struct list active; /* struct event */
	struct pool polls;
	size_t events;
	struct event *firing; /* NULL once its own callback has freed it */
	bool stopped;
	struct task stopping;
	void (*on_stopped)(void *context);
	void *context;
};

struct event {
	struct ub_event event; /* first, as above */
	uint32_t magic;
	struct unbound *unbound;
	int fd;
	short bits;
	void (*callback)(int fd, short bits, void *argument);
	void *argument;
	struct list_node node; /* linked: active */
	struct watch *watch;   /* armed for it */
	struct timer timer;
	struct task soon; /* a timer of 0 */
};

/* One poll in the kernel. */
struct watch {
	struct op op;
	struct op cancel;
	struct unbound *unbound;
	struct event *event; /* NULL: let go */
};

static struct event *
event_of(struct ub_event *e)
{
	struct event *event = (struct event *)(void *)e;

	OBJ_CHECK(event, EVENT_MAGIC);
	return event;
}

static bool
is_active(const struct event *e)
{
	return list_is_linked(&e->node);
}

/* ---- polls ---- */

static void
free_watch(struct watch *p)
{
	struct unbound *u = p->unbound;

	if (p->op.in_kernel || p->cancel.in_kernel)
		return;
	ASSERT(p->event == NULL);
	pool_put(&u->polls, p);
	if (u->stopped && u->polls.used == 0)
		worker_soon(u->worker, &u->stopping);
}

static void fire(struct event *e, short bits);

static void
on_poll(struct op *op, struct completion c)
{
	struct watch *p = CONTAINER_OF(op, struct watch, op);
	struct event *e = p->event;
	short bits = 0;

	if (e == NULL) {
		free_watch(p);
		return;
	}
	ASSERT(e->watch == p);
	e->watch = NULL;
	p->event = NULL;
	free_watch(p);
	/* What went wrong with the socket the library learns when it uses it. */
	if (c.result < 0 || (c.result & (POLLIN | POLLERR | POLLHUP | POLLNVAL)) != 0)
		bits |= UB_EV_READ;
	if (c.result < 0 || (c.result & (POLLOUT | POLLERR | POLLHUP | POLLNVAL)) != 0)
		bits |= UB_EV_WRITE;
	bits = (short)(bits & e->bits);
	if (bits != 0)
		fire(e, bits);
}

static void
on_cancelled(struct op *op, struct completion c)
{
	(void)c;
	free_watch(CONTAINER_OF(op, struct watch, cancel));
}

static void
arm(struct event *e)
{
	struct unbound *u = e->unbound;
	unsigned wanted = 0;

	wanted |= (e->bits & UB_EV_READ) != 0 ? POLLIN : 0;
	wanted |= (e->bits & UB_EV_WRITE) != 0 ? POLLOUT : 0;
	if (e->watch != NULL || e->fd < 0 || wanted == 0)
		return;
	ASSERT(u->worker->ring != NULL);
	struct watch *p = pool_get(&u->polls);
	if (p == NULL)
		return; /* the library's own timeout ends it, and it tries again */
	op_init(&p->op, on_poll);
	op_init(&p->cancel, on_cancelled);
	p->unbound = u;
	p->event = e;
	e->watch = p;
	ring_poll(u->worker->ring, &p->op, e->fd, wanted);
}

/* The library may close the descriptor right afterwards and get the same number again: the ring
 * takes the poll and its end in this order, so that a stale poll ends as well, unseen. */
static void
disarm(struct event *e)
{
	struct watch *p = e->watch;

	if (p == NULL)
		return;
	e->watch = NULL;
	p->event = NULL;
	ring_cancel(e->unbound->worker->ring, &p->cancel, &p->op);
}

/* ---- events ---- */

static void
deactivate(struct event *e)
{
	if (!is_active(e))
		return;
	list_unlink(&e->node);
	disarm(e);
	timer_stop(&e->unbound->worker->timers, &e->timer);
	task_cancel(&e->soon);
}

/* Runs the callback, which may free the event, activate it anew or change it. */
static void
fire(struct event *e, short bits)
{
	struct unbound *u = e->unbound;

	ASSERT(u->firing == NULL && !u->stopped);
	if ((e->bits & UB_EV_PERSIST) == 0)
		deactivate(e);
	u->firing = e;
	e->callback(e->fd, bits, e->argument);
	bool alive = u->firing == e;
	u->firing = NULL;
	if (alive && is_active(e))
		arm(e);
}

static void
on_timer(struct timer *t)
{
	fire(CONTAINER_OF(t, struct event, timer), UB_EV_TIMEOUT);
}

static void
on_soon(struct task *t)
{
	fire(CONTAINER_OF(t, struct event, soon), UB_EV_TIMEOUT);
}

static void
start_timer(struct event *e, const struct timeval *after)
{
	struct worker *w = e->unbound->worker;
	int64_t ms = (int64_t)after->tv_sec * 1000 + (after->tv_usec + 999) / 1000;

	timer_stop(&w->timers, &e->timer);
	task_cancel(&e->soon);
	if (ms <= 0)
		worker_soon(w, &e->soon);
	else
		timer_set(&w->timers, &e->timer, w->now_ms + (uint64_t)ms);
}

static int
activate(struct event *e, const struct timeval *after)
{
	if (e->unbound->stopped)
		return -1;
	if (!is_active(e))
		list_append(&e->unbound->active, &e->node);
	if (after != NULL)
		start_timer(e, after);
	/* Within its own callback it is armed once, behind it. */
	if (e->unbound->firing != e)
		arm(e);
	return 0;
}

/* ---- what the library calls ---- */

static void
event_add_bits(struct ub_event *event, short bits)
{
	struct event *e = event_of(event);

	e->bits = (short)(e->bits | bits);
}

static void
event_del_bits(struct ub_event *event, short bits)
{
	struct event *e = event_of(event);

	e->bits = (short)(e->bits & ~bits);
}

static void
event_set_fd(struct ub_event *event, int fd)
{
	event_of(event)->fd = fd;
}

static void
event_free(struct ub_event *event)
{
	struct event *e = event_of(event);
	struct unbound *u = e->unbound;

	deactivate(e);
	if (u->firing == e)
		u->firing = NULL;
	ASSERT(u->events > 0);
	u->events--;
	OBJ_FINI(e, EVENT_MAGIC);
	free(e);
}

static int
event_add(struct ub_event *event, struct timeval *after)
{
	struct event *e = event_of(event);

	disarm(e); /* an active one begins anew, with the bits that it has now */
	return activate(e, after);
}

static int
event_del(struct ub_event *event)
{
	deactivate(event_of(event));
	return 0;
}

static int
event_add_timer(struct ub_event *event, struct ub_event_base *base,
		void (*callback)(int, short, void *), void *argument, struct timeval *after)
{
	struct event *e = event_of(event);

	(void)base;
	e->callback = callback;
	e->argument = argument;
	return activate(e, after);
}

static int
event_no_signal(struct ub_event *event, struct timeval *after)
{
	(void)event;
	(void)after;
	return -1;
}

static int
event_no_del_signal(struct ub_event *event)
{
	(void)event;
	return -1;
}

static void
event_no_windows(struct ub_event *event)
{
	(void)event;
}

static void
event_no_wouldblock(struct ub_event *event, int bit)
{
	(void)event;
	(void)bit;
}

static struct ub_event_vmt event_methods = {
	.add_bits = event_add_bits,
	.del_bits = event_del_bits,
	.set_fd = event_set_fd,
	.free = event_free,
	.add = event_add,
	.del = event_del,
	.add_timer = event_add_timer,
	.del_timer = event_del,
	.add_signal = event_no_signal,
	.del_signal = event_no_del_signal,
	.winsock_unregister_wsaevent = event_no_windows,
	.winsock_tcp_wouldblock = event_no_wouldblock,
};

static struct ub_event *
base_new_event(struct ub_event_base *base, int fd, short bits, void (*callback)(int, short, void *),
	       void *argument)
{
	struct unbound *u = (struct unbound *)(void *)base;
	struct event *e = calloc(1, sizeof *e);

	OBJ_CHECK(u, UNBOUND_MAGIC);
	if (e == NULL)
		return NULL;
	OBJ_INIT(e, EVENT_MAGIC);
	e->event = (struct ub_event){ .magic = UB_EVENT_MAGIC, .vmt = &event_methods };
	e->unbound = u;
	e->fd = fd;
	e->bits = bits;
	e->callback = callback;
	e->argument = argument;
	timer_init(&e->timer, on_timer);
	task_init(&e->soon, on_soon);
	u->events++;
	return &e->event;
}

static void
base_nothing(struct ub_event_base *base)
{
	(void)base;
}

static int
base_no_dispatch(struct ub_event_base *base)
{
	(void)base;
	return -1;
}

static int
base_no_exit(struct ub_event_base *base, struct timeval *after)
{
	(void)base;
	(void)after;
	return -1;
}

static struct ub_event *
base_no_signal(struct ub_event_base *base, int fd, void (*callback)(int, short, void *),
	       void *argument)
{
	(void)base;
	(void)fd;
	(void)callback;
	(void)argument;
	return NULL;
}

static struct ub_event *
base_no_windows(struct ub_event_base *base, void *socket, void (*callback)(int, short, void *),
		void *argument)
{
	(void)base;
	(void)socket;
	(void)callback;
	(void)argument;
	return NULL;
}

static struct ub_event_base_vmt base_methods = {
	.free = base_nothing,
	.dispatch = base_no_dispatch,
	.loopexit = base_no_exit,
	.new_event = base_new_event,
	.new_signal = base_no_signal,
	.winsock_register_wsaevent = base_no_windows,
};

/* ---- start and end ---- */

static void
on_stopping(struct task *t)
{
	struct unbound *u = CONTAINER_OF(t, struct unbound, stopping);

	ASSERT(u->polls.used == 0);
	u->on_stopped(u->context);
}

struct unbound *
unbound_new(struct worker *w, size_t polls_max)
{
	struct unbound *u = calloc(1, sizeof *u);

	if (u == NULL)
		return NULL;
	OBJ_INIT(u, UNBOUND_MAGIC);
	u->base = (struct ub_event_base){ .magic = UB_EVENT_MAGIC, .vmt = &base_methods };
	u->worker = w;
	list_init(&u->active);
	task_init(&u->stopping, on_stopping);
	pool_init(&u->polls, sizeof(struct watch), polls_max);
	return u;
}

struct ub_event_base *
unbound_base(struct unbound *u)
{
	return &u->base;
}

size_t
unbound_events(const struct unbound *u)
{
	return u->events;
}

void
unbound_stop(struct unbound *u, void (*on_stopped)(void *context), void *context)
{
	struct list_node *node;

	OBJ_CHECK(u, UNBOUND_MAGIC);
	ASSERT(!u->stopped && u->firing == NULL);
	while ((node = list_first(&u->active)) != NULL)
		deactivate(LIST_ITEM(node, struct event, node));
	u->stopped = true;
	u->on_stopped = on_stopped;
	u->context = context;
	if (u->polls.used == 0)
		worker_soon(u->worker, &u->stopping);
}

void
unbound_free(struct unbound *u)
{
	if (u == NULL)
		return;
	OBJ_CHECK(u, UNBOUND_MAGIC);
	ASSERT(u->events == 0 && list_is_empty(&u->active));
	pool_fini(&u->polls);
	OBJ_FINI(u, UNBOUND_MAGIC);
	free(u);
}
