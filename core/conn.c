/* SPDX-License-Identifier: Apache-2.0 */
#include "core/conn.h"

#include <string.h>

#include "core/base/assert.h"

static void on_received(struct op *op, struct completion done);
static void on_connected(struct op *op, struct completion done);
static void on_sent(struct op *op, struct completion done);
static void on_end(struct op *op, struct completion done);
static void run_input(struct task *t);
static void run_late(struct task *t);
static void on_deadline(struct timer *t);

/* ---- beginning ---- */

void
conn_init(struct conn *c, struct worker *w, int fd, enum ring_group group,
	  const struct conn_events *events)
{
	ASSERT(fd >= 0);
	/* A ring's buffer must fit behind the input that may be kept. */
	ASSERT(CONN_INPUT_KEPT + ring_buffer_size(w->ring, group) <= WORKER_BUFFER_SIZE);
	*c = (struct conn){
		.fd = fd,
		.state = CONN_OPEN,
		.worker = w,
		.events = events,
		.group = (uint8_t)group,
		.input_ring_id = -1,
	};
	OBJ_INIT(c, CONN_MAGIC);
	op_init(&c->receive, on_received);
	op_init(&c->send, on_sent);
	op_init(&c->end, on_end);
	timer_init(&c->deadline, on_deadline);
	task_init(&c->run, run_input);
	task_init(&c->late, run_late);
	list_append(&w->conns, &c->link);
	w->conn_count++;
}

void
conn_connect(struct conn *c, const struct net_address *address)
{
	OBJ_CHECK(c, CONN_MAGIC);
	ASSERT(c->state == CONN_OPEN && c->ops_in_kernel == 0);
	c->state = CONN_CONNECTING;
	op_init(&c->send, on_connected);
	c->ops_in_kernel++;
	ring_connect(c->worker->ring, &c->send, c->fd, &address->any, address->size);
}

/* Every completion comes through here first. False where the connection is closing: then it is
 * looked at again at the end of the turn, and nothing else happens. */
static bool
op_ended(struct conn *c)
{
	OBJ_CHECK(c, CONN_MAGIC);
	ASSERT(c->ops_in_kernel > 0);
	c->ops_in_kernel--;
	if (c->state != CONN_DRAINING)
		return true;
	worker_reap(c->worker, &c->late);
	return false;
}

static void
on_connected(struct op *op, struct completion done)
{
	struct conn *c = CONTAINER_OF(op, struct conn, send);

	if (!op_ended(c))
		return;
	ASSERT(c->state == CONN_CONNECTING);
	op_init(&c->send, on_sent);
	if (done.result >= 0)
		c->state = CONN_OPEN;
	c->events->on_connected(c, err_of_errno(done.result < 0 ? done.result : 0));
}

/* ---- input ---- */

/* Gives up what is unread, and the memory it is in. */
static void
release_input(struct conn *c)
{
	if (c->input_ring_id >= 0)
		ring_buffer_put(c->worker->ring, c->group, (uint16_t)c->input_ring_id);
	if (c->input_memory != NULL)
		pool_put(&c->worker->buffers, c->input_memory);
	c->input_ring_id = -1;
	c->input_memory = NULL;
	c->input = NULL;
	c->input_size = 0;
}

/* Moves what is unread out of the ring's buffer. False where there is no memory for it. */
static bool
keep_input(struct conn *c)
{
	ASSERT(c->input_memory == NULL && c->input_size <= WORKER_BUFFER_SIZE);
	c->input_memory = pool_get(&c->worker->buffers);
	if (c->input_memory == NULL)
		return false;
	memcpy(c->input_memory, c->input, c->input_size);
	c->input = c->input_memory;
	ring_buffer_put(c->worker->ring, c->group, (uint16_t)c->input_ring_id);
	c->input_ring_id = -1;
	return true;
}

static void
arm_receive(struct conn *c)
{
	c->wants_input = false;
	c->ops_in_kernel++;
	ring_receive(c->worker->ring, &c->receive, c->fd, c->group);
}

/* Between two looks of the owner at its input no buffer of the ring is held. */
static void
settle_input(struct conn *c)
{
	if (c->input_size == 0) {
		release_input(c);
	} else if (c->input_ring_id >= 0 && !keep_input(c)) {
		conn_close(c, CLOSE_NO_MEMORY);
		return;
	}
	if (!c->wants_input || c->receive.in_kernel || c->input_ended)
		return;
	ASSERT(c->input_size <= CONN_INPUT_KEPT);
	arm_receive(c);
}

static void
run_input(struct task *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, run);

	OBJ_CHECK(c, CONN_MAGIC);
	ASSERT(c->state == CONN_OPEN);
	if (c->lost_error == ERR_OK || c->input_size > 0) {
		c->in_on_input = true;
		c->events->on_input(c);
		c->in_on_input = false;
	}
	if (c->state != CONN_OPEN)
		return;
	if (c->lost_error != ERR_OK)
		c->events->on_lost(c, (enum err)c->lost_error);
	else
		settle_input(c);
}

/* What arrived goes behind what is kept, or stays where the ring has put it. */
static void
add_input(struct conn *c, uint16_t buffer_id, uint32_t size)
{
	uint8_t *arrived = ring_buffer(c->worker->ring, c->group, buffer_id);

	ASSERT(c->input_ring_id < 0);
	if (c->input_size == 0) {
		release_input(c);
		c->input = arrived;
		c->input_size = size;
		c->input_ring_id = buffer_id;
		return;
	}
	ASSERT(c->input_memory != NULL && c->input_size + size <= WORKER_BUFFER_SIZE);
	memmove(c->input_memory, c->input, c->input_size);
	memcpy(c->input_memory + c->input_size, arrived, size);
	c->input = c->input_memory;
	c->input_size += size;
	ring_buffer_put(c->worker->ring, c->group, buffer_id);
}

/* What still comes from the peer of a finishing connection is dropped. */
static void
drop_received(struct conn *c, struct completion done)
{
	if (done.has_buffer)
		ring_buffer_put(c->worker->ring, c->group, done.buffer_id);
	if (done.result > 0) {
		arm_receive(c);
		return;
	}
	c->input_ended = true;
	if (done.result < 0 || c->shut_down)
		conn_close(c, c->reason);
}

static void
on_received(struct op *op, struct completion done)
{
	struct conn *c = CONTAINER_OF(op, struct conn, receive);

	ASSERT(done.has_buffer == (done.result > 0));
	if (!op_ended(c)) {
		if (done.has_buffer)
			ring_buffer_put(c->worker->ring, c->group, done.buffer_id);
		return;
	}
	if (c->state == CONN_FINISHING) {
		drop_received(c, done);
		return;
	}
	if (done.result < 0) {
		c->events->on_lost(c, err_of_errno(done.result));
		return;
	}
	if (done.result == 0)
		c->input_ended = true;
	else
		add_input(c, done.buffer_id, (uint32_t)done.result);
	worker_soon(c->worker, &c->run);
}

struct span
conn_input(const struct conn *c)
{
	return c->state == CONN_OPEN ? span_of(c->input, c->input_size) : span_none();
}

void
conn_consume(struct conn *c, size_t n)
{
	if (c->state != CONN_OPEN)
		return;
	ASSERT(n <= c->input_size);
	c->input += n;
	c->input_size -= (uint32_t)n;
}

void
conn_read_more(struct conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	c->wants_input = true;
	/* Otherwise when on_input has seen what is there. */
	if (!c->in_on_input && !list_is_linked(&c->run.node))
		settle_input(c);
}

void
conn_run(struct conn *c)
{
	if (c->state == CONN_OPEN)
		worker_soon(c->worker, &c->run);
}

bool
conn_input_is_over(const struct conn *c)
{
	return c->input_ended && c->input_size == 0;
}

bool
conn_peer_has_ended(const struct conn *c)
{
	return c->input_ended;
}

/* ---- output ---- */

static void
release_output(struct conn *c, unsigned which)
{
	if (c->output[which] != NULL)
		pool_put(&c->worker->buffers, c->output[which]);
	c->output[which] = NULL;
	c->output_size[which] = 0;
}

static void
add_piece(struct conn *c, const void *data, size_t size)
{
	if (size > 0)
		c->pieces[c->message.msg_iovlen++] =
			(struct iovec){ (void *)(uintptr_t)data, size };
}

/* Sends all that was written so far, in the order of the calls. */
static void
start_send(struct conn *c)
{
	ASSERT(!c->send.in_kernel && c->output[0] == NULL);
	c->output[0] = c->output[1];
	c->output_size[0] = c->output_size[1];
	c->output[1] = NULL;
	c->output_size[1] = 0;
	c->ops_in_kernel++;
	if (c->lent == NULL) {
		ring_send(c->worker->ring, &c->send, c->fd, c->output[0], c->output_size[0]);
		return;
	}
	c->lent_in_flight = true;
	c->message = (struct msghdr){ .msg_iov = c->pieces };
	add_piece(c, c->output[0], c->lent_at);
	add_piece(c, c->lent, c->lent_size);
	if (c->output[0] != NULL)
		add_piece(c, c->output[0] + c->lent_at, c->output_size[0] - c->lent_at);
	ring_send_message(c->worker->ring, &c->send, c->fd, &c->message);
}

static bool
has_unsent(const struct conn *c)
{
	return c->output_size[1] > 0 || (c->lent != NULL && !c->lent_in_flight);
}

/* What the peer has said before it went is seen first, also where its completion comes behind this
 * one: it may be the answer that spares a second delivery. */
static void
fail_send(struct conn *c, enum err e)
{
	if (c->state == CONN_FINISHING) {
		conn_close(c, c->reason);
		return;
	}
	c->lost_error = (uint8_t)e;
	worker_soon(c->worker, &c->run);
}

static void
on_sent(struct op *op, struct completion done)
{
	struct conn *c = CONTAINER_OF(op, struct conn, send);
	size_t whole = c->output_size[0] + (c->lent_in_flight ? c->lent_size : 0);
	bool lent_is_back = c->lent_in_flight;

	release_output(c, 0);
	if (lent_is_back) {
		c->lent = NULL;
		c->lent_size = 0;
		c->lent_in_flight = false;
	}
	if (!op_ended(c))
		return;
	if (done.result < 0 || (size_t)done.result < whole) {
		fail_send(c, done.result < 0 ? err_of_errno(done.result) : ERR_RESET);
		return;
	}
	if (has_unsent(c) || c->state == CONN_FINISHING)
		worker_last(c->worker, &c->late);
	if (c->state == CONN_FINISHING)
		return;
	if (lent_is_back || (c->was_full && !conn_output_full(c))) {
		c->was_full = false;
		c->events->on_drained(c);
	}
}

/* Appends to the buffer that is being filled, as much as fits. SIZE_MAX: no memory. */
static size_t
fill(struct conn *c, struct span bytes)
{
	if (c->output[1] == NULL)
		c->output[1] = pool_get(&c->worker->buffers);
	if (c->output[1] == NULL)
		return SIZE_MAX;
	bytes = span_first(bytes, WORKER_BUFFER_SIZE - c->output_size[1]);
	memcpy(c->output[1] + c->output_size[1], bytes.data, bytes.size);
	c->output_size[1] += (uint32_t)bytes.size;
	return bytes.size;
}

bool
conn_write(struct conn *c, struct span bytes)
{
	if (c->state != CONN_OPEN)
		return false;
	ASSERT(bytes.size <= conn_output_room(c));
	while (bytes.size > 0) {
		size_t n = fill(c, bytes);
		if (n == SIZE_MAX) {
			conn_close(c, CLOSE_NO_MEMORY);
			return false;
		}
		bytes = span_after(bytes, n);
		if (bytes.size > 0)
			start_send(c); /* this one is full: it goes ahead of the turn's end */
	}
	c->was_full |= conn_output_full(c);
	worker_last(c->worker, &c->late);
	return true;
}

void
conn_write_lent(struct conn *c, const void *data, size_t size)
{
	if (c->state != CONN_OPEN)
		return;
	ASSERT(c->lent == NULL && size > 0);
	c->lent = data;
	c->lent_size = size;
	c->lent_at = c->output_size[1];
	worker_last(c->worker, &c->late);
}

size_t
conn_output_room(const struct conn *c)
{
	size_t room = WORKER_BUFFER_SIZE - c->output_size[1];

	return c->send.in_kernel ? room : room + WORKER_BUFFER_SIZE;
}

bool
conn_output_full(const struct conn *c)
{
	return conn_output_room(c) < CONN_OUTPUT_SPARE;
}

bool
conn_output_is_empty(const struct conn *c)
{
	return !c->send.in_kernel && !has_unsent(c);
}

/* ---- holds ---- */

void
conn_hold(struct conn *c)
{
	OBJ_CHECK(c, CONN_MAGIC);
	ASSERT(c->holds < UINT16_MAX);
	c->holds++;
}

void
conn_unhold(struct conn *c)
{
	OBJ_CHECK(c, CONN_MAGIC);
	ASSERT(c->holds > 0);
	c->holds--;
	if (c->holds == 0 && c->state == CONN_DRAINING)
		worker_reap(c->worker, &c->late);
}

/* ---- time ---- */

static void
on_deadline(struct timer *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, deadline);

	OBJ_CHECK(c, CONN_MAGIC);
	ASSERT(c->state != CONN_DRAINING);
	if (c->state == CONN_FINISHING)
		conn_close(c, c->reason);
	else if (list_is_linked(&c->run.node)) /* it was not silent: the input is looked at first */
		timer_set(&c->worker->timers, t, c->worker->now_ms + 1);
	else
		c->events->on_deadline(c);
}

void
conn_deadline(struct conn *c, uint64_t at_ms)
{
	if (c->state == CONN_FINISHING || c->state == CONN_DRAINING)
		return;
	if (at_ms == 0)
		timer_stop(&c->worker->timers, &c->deadline);
	else
		timer_set(&c->worker->timers, &c->deadline, at_ms);
}

/* ---- ends ---- */

void
conn_finish(struct conn *c, enum close_reason reason)
{
	OBJ_CHECK(c, CONN_MAGIC);
	if (c->state == CONN_CONNECTING)
		conn_close(c, reason); /* nothing was sent that could be lost */
	if (c->state != CONN_OPEN)
		return;
	c->state = CONN_FINISHING;
	c->reason = (uint8_t)reason;
	task_cancel(&c->run);
	/* Moved to a deadline that may be earlier than the owner's. */
	timer_set(&c->worker->timers, &c->deadline, c->worker->now_ms + CONN_FINISH_MS);
	worker_last(c->worker, &c->late);
}

/* The next step of a finishing connection: all sent, our FIN, the peer's FIN. */
static void
finish_further(struct conn *c)
{
	release_input(c);
	if (!c->receive.in_kernel && !c->input_ended)
		arm_receive(c);
	if (c->shut_down || !conn_output_is_empty(c))
		return;
	c->shut_down = true;
	timer_set(&c->worker->timers, &c->deadline, c->worker->now_ms + CONN_LINGER_MS);
	c->ops_in_kernel++;
	ring_shutdown(c->worker->ring, &c->end, c->fd);
}

static void
on_end(struct op *op, struct completion done)
{
	struct conn *c = CONTAINER_OF(op, struct conn, end);

	if (!op_ended(c))
		return;
	/* Only the shutdown of a finishing connection ends outside of DRAINING. */
	ASSERT(c->state == CONN_FINISHING && c->shut_down);
	if (done.result < 0 || c->input_ended)
		conn_close(c, c->reason);
}

/* Buffers are released when the turn ends, since a caller up the stack may still read its input. */
void
conn_close(struct conn *c, enum close_reason reason)
{
	OBJ_CHECK(c, CONN_MAGIC);
	if (c->state == CONN_DRAINING)
		return;
	if (c->state != CONN_FINISHING)
		c->reason = (uint8_t)reason;
	c->state = CONN_DRAINING;
	timer_stop(&c->worker->timers, &c->deadline);
	task_cancel(&c->run);
	task_cancel(&c->late);
	worker_reap(c->worker, &c->late);
}

/* Asks for the end of one of the two that may wait for the peer. True: `end` is busy with it. */
static bool
cancel_next(struct conn *c)
{
	struct op *target = NULL;

	if (c->receive.in_kernel && !c->receive_cancelled) {
		c->receive_cancelled = true;
		target = &c->receive;
	} else if (c->send.in_kernel && !c->send_cancelled) {
		c->send_cancelled = true;
		target = &c->send;
	}
	if (target == NULL)
		return false;
	c->ops_in_kernel++;
	ring_cancel(c->worker->ring, &c->end, target);
	return true;
}

/* The one way out: cancel, wait until the kernel holds nothing, close, tell the owner. Called at
 * the end of each turn in which something of the connection has completed, and at the last unhold.
 */
static void
reap(struct conn *c)
{
	release_input(c);
	release_output(c, 1);
	if (c->end.in_kernel || cancel_next(c) || c->ops_in_kernel > 0)
		return;
	if (c->fd >= 0) {
		c->ops_in_kernel++;
		ring_close(c->worker->ring, &c->end, c->fd);
		c->fd = -1;
		return;
	}
	if (c->holds > 0)
		return;
	ASSERT(c->output[0] == NULL && !timer_is_set(&c->deadline));
	ASSERT(!list_is_linked(&c->run.node) && !list_is_linked(&c->late.node));
	list_unlink(&c->link);
	c->worker->conn_count--;
	const struct conn_events *events = c->events;
	OBJ_FINI(c, CONN_MAGIC);
	events->on_closed(c);
}

static void
run_late(struct task *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, late);

	OBJ_CHECK(c, CONN_MAGIC);
	if (c->state == CONN_DRAINING) {
		reap(c);
		return;
	}
	if (!c->send.in_kernel && has_unsent(c))
		start_send(c);
	if (c->state == CONN_FINISHING)
		finish_further(c);
}
