/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/listener.h"

#include "core/net.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum { ACCEPT_AGAIN_MS = 100 };

static void
on_accept(struct op *op, struct completion c)
{
	struct listener *l = CONTAINER_OF(op, struct listener, accept);

	if (c.result >= 0)
		session_start(l->flow, l->number, c.result);
	if (c.more)
		return;
	if (l->flow->draining) {
		net_close(l->fd);
		l->fd = -1;
		flow_check_drained(l->flow);
		return;
	}
	if (c.result < 0)
		flow_event_accept_failed(l->flow, err_of_errno(c.result));
	/* Out of descriptors or memory: the kernel's queue keeps the clients meanwhile. */
	timer_set(&l->flow->worker->timers, &l->again,
		  l->flow->worker->now_ms + (c.result < 0 ? ACCEPT_AGAIN_MS : 0));
}

static void
on_cancelled(struct op *op, struct completion c)
{
	struct listener *l = CONTAINER_OF(op, struct listener, cancel);

	(void)c; /* on_accept closes the socket, before or after this */
	flow_check_drained(l->flow);
}

static void
on_again(struct timer *t)
{
	struct listener *l = CONTAINER_OF(t, struct listener, again);

	if (!l->flow->draining)
		ring_accept(l->flow->worker->ring, &l->accept, l->fd);
}

void
listener_start(struct listener *l, struct flow *f, unsigned number, int fd)
{
	*l = (struct listener){ .flow = f, .number = number, .fd = fd };
	op_init(&l->accept, on_accept);
	op_init(&l->cancel, on_cancelled);
	timer_init(&l->again, on_again);
	ring_accept(f->worker->ring, &l->accept, fd);
}

void
listener_stop(struct listener *l)
{
	timer_stop(&l->flow->worker->timers, &l->again);
	if (l->fd < 0)
		return;
	if (l->accept.in_kernel) {
		ring_cancel(l->flow->worker->ring, &l->cancel, &l->accept);
	} else {
		net_close(l->fd);
		l->fd = -1;
	}
}

bool
listener_is_closed(const struct listener *l)
{
	return l->fd < 0 && !l->accept.in_kernel && !l->cancel.in_kernel;
}
