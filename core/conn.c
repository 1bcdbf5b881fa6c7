/* SPDX-License-Identifier: Apache-2.0 */
#include "core/conn.h"

#include <string.h>

#include "core/base/assert.h"
#include "core/conn_work.h"

static void on_received(struct op *op, struct completion done);
static void on_connected(struct op *op, struct completion done);
static void on_sent(struct op *op, struct completion done);
static void on_end(struct op *op, struct completion done);
static void run_input(struct task *t);
static void run_late(struct task *t);
static void on_deadline(struct timer *t);
static bool is_in_handshake(const struct conn *c);
static void begin_handshake(struct conn *c);
static void end_handshake(struct conn *c, enum err e);
static bool unwrap(struct conn *c);
static void start_wrapped_send(struct conn *c);

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

static void
release_plain(struct conn *c)
{
	if (c->input_memory != NULL)
		pool_put(&c->worker->buffers, c->input_memory);
	c->input_memory = NULL;
	c->input = NULL;
	c->input_size = 0;
}

/* Of the ring's buffer and of what the layer has not read, one is there at most. */
static void
release_wire(struct conn *c)
{
	if (c->input_ring_id >= 0)
		ring_buffer_put(c->worker->ring, c->group, (uint16_t)c->input_ring_id);
	c->input_ring_id = -1;
	if (c->layer == NULL)
		return;
	if (c->wire_memory != NULL)
		pool_put(&c->worker->buffers, c->wire_memory);
	c->wire_memory = NULL;
	c->wire = NULL;
	c->wire_size = 0;
}

/* Gives up what is unread, and the memory it is in. */
static void
release_input(struct conn *c)
{
	release_wire(c);
	release_plain(c);
}

/* Moves what is unread out of the ring's buffer. NULL where there is no memory for it. */
static uint8_t *
keep(struct conn *c, const uint8_t *bytes, uint32_t size)
{
	ASSERT(size <= WORKER_BUFFER_SIZE);
	uint8_t *memory = pool_get(&c->worker->buffers);
	if (memory == NULL) {
		conn_close(c, CLOSE_NO_MEMORY);
		return NULL;
	}
	memcpy(memory, bytes, size);
	ring_buffer_put(c->worker->ring, c->group, (uint16_t)c->input_ring_id);
	c->input_ring_id = -1;
	return memory;
}

static void
arm_receive(struct conn *c)
{
	c->wants_input = false;
	c->ops_in_kernel++;
	ring_receive(c->worker->ring, &c->receive, c->fd, c->group);
}

/* False where the connection closes for want of memory. */
static bool
keep_plain(struct conn *c)
{
	if (c->input_size == 0)
		release_input(c);
	else if (c->input_ring_id >= 0)
		c->input = c->input_memory = keep(c, c->input, c->input_size);
	return c->state == CONN_OPEN;
}

static bool
keep_wire(struct conn *c)
{
	if (c->input_size == 0)
		release_plain(c);
	if (c->wire_size == 0)
		release_wire(c);
	else if (c->input_ring_id >= 0)
		c->wire = c->wire_memory = keep(c, c->wire, c->wire_size);
	return c->state == CONN_OPEN;
}

/* Has the layer something to read without another receive? */
static bool
layer_has_input(const struct conn *c)
{
	return c->layer != NULL &&
	       (c->wire_size > 0 || (!c->layer->is_busy && c->layer->ops->has_more(c->layer)));
}

/* Between two looks of the owner at its input no buffer of the ring is held. */
static void
settle_input(struct conn *c)
{
	if (!(c->layer == NULL ? keep_plain(c) : keep_wire(c)))
		return;
	if (!c->wants_input || c->receive.in_kernel || conn_is_at_work(c))
		return;
	if (layer_has_input(c)) {
		ASSERT(c->input_size < WORKER_BUFFER_SIZE);
		worker_soon(c->worker, &c->run);
		return;
	}
	if (c->input_ended)
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
	if (c->layer != NULL && !unwrap(c))
		return;
	if (c->lost_error == ERR_OK || c->input_size > 0) {
		c->in_on_input = true;
		c->events->on_input(c);
		c->in_on_input = false;
	}
	if (c->state != CONN_OPEN)
		return;
	if (c->secures)
		begin_handshake(c);
	else if (c->lost_error != ERR_OK)
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
	if (c->layer != NULL) {
		ASSERT(c->wire_size == 0);
		c->wire = arrived;
		c->wire_size = size;
		c->input_ring_id = buffer_id;
		c->wants_input = true; /* until there is plain text of it */
		return;
	}
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

/* The connection is of no use any more, and its owner is told. */
static void
lose(struct conn *c, enum err e)
{
	if (c->layer == NULL || c->secured)
		c->events->on_lost(c, e);
	else
		end_handshake(c, e);
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
		lose(c, err_of_errno(done.result));
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
	bool is_readable = c->state == CONN_OPEN && !c->secures;

	return is_readable ? span_of(c->input, c->input_size) : span_none();
}

void
conn_consume(struct conn *c, size_t n)
{
	if (c->state != CONN_OPEN || c->secures)
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
	return c->input_ended && c->input_size == 0 && !layer_has_input(c);
}

bool
conn_peer_has_ended(const struct conn *c)
{
	return c->input_ended && !layer_has_input(c);
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
start_raw_send(struct conn *c)
{
	c->output[0] = c->output[1];
	c->output_size[0] = c->output_size[1];
	c->output[1] = NULL;
	c->output_size[1] = 0;
	c->raw_first = false;
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
has_unsent_plain(const struct conn *c)
{
	return c->output_size[1] > 0 || (c->lent != NULL && !c->lent_in_flight);
}

/* Is it our turn to end the layer, behind all that was written? */
static bool
owes_end(const struct conn *c)
{
	return c->secured && !c->end_said && c->state == CONN_FINISHING &&
	       (c->layer->state == LAYER_OPEN || c->layer->state == LAYER_ENDED);
}

static bool
has_unsent(const struct conn *c)
{
	if (has_unsent_plain(c))
		return true;
	return c->layer != NULL && !c->layer->is_busy &&
	       (owes_end(c) || c->layer->ops->wants_write(c->layer));
}

static void
start_send(struct conn *c)
{
	ASSERT(!c->send.in_kernel && c->output[0] == NULL);
	if (c->layer == NULL || c->raw_first)
		start_raw_send(c);
	else
		start_wrapped_send(c);
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
	/* With a layer, what was lent has been wrapped, and its size is 0. */
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

/* What a buffer may take; with a layer its wire form must fit into one, too. */
static size_t
output_buffer_size(const struct conn *c)
{
	return c->layer == NULL ? WORKER_BUFFER_SIZE : WORKER_BUFFER_SIZE - LAYER_OVERHEAD;
}

/* The room of the buffer that is being filled. */
static size_t
buffer_room(const struct conn *c)
{
	ASSERT(c->output_size[1] <= output_buffer_size(c));
	return output_buffer_size(c) - c->output_size[1];
}

/* Appends to the buffer that is being filled, as much as fits. SIZE_MAX: no memory. */
static size_t
fill(struct conn *c, struct span bytes)
{
	if (c->output[1] == NULL)
		c->output[1] = pool_get(&c->worker->buffers);
	if (c->output[1] == NULL)
		return SIZE_MAX;
	bytes = span_first(bytes, buffer_room(c));
	memcpy(c->output[1] + c->output_size[1], bytes.data, bytes.size);
	c->output_size[1] += (uint32_t)bytes.size;
	return bytes.size;
}

bool
conn_write(struct conn *c, struct span bytes)
{
	if (c->state != CONN_OPEN || is_in_handshake(c))
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
		if (c->state != CONN_OPEN)
			return false;
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
	ASSERT(c->lent == NULL && size > 0 && !is_in_handshake(c));
	c->lent = data;
	c->lent_size = size;
	c->lent_at = c->output_size[1];
	worker_last(c->worker, &c->late);
}

bool
conn_is_lending(const struct conn *c)
{
	return c->lent != NULL;
}

size_t
conn_output_room(const struct conn *c)
{
	if (is_in_handshake(c))
		return 0;
	/* What is lent may take several sends with a layer; what is behind it stays until then. */
	bool sends_all = !c->send.in_kernel && (c->layer == NULL || c->lent == NULL);
	return buffer_room(c) + (sends_all ? output_buffer_size(c) : 0);
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

/* ---- the layer ---- */

static bool
is_in_handshake(const struct conn *c)
{
	return c->layer != NULL && !c->secured;
}

static void
secure(struct conn *c, struct layer *layer, bool unread)
{
	OBJ_CHECK(c, CONN_MAGIC);
	if (c->state != CONN_OPEN) {
		layer->ops->free(layer);
		return;
	}
	ASSERT(c->layer == NULL && c->lent == NULL);
	if (has_unsent_plain(c)) {
		if (c->send.in_kernel)
			c->raw_first = true;
		else
			start_raw_send(c);
	}
	c->layer = layer;
	layer->has_helper = c->worker->helpers != NULL;
	c->wire = c->wire_memory = NULL;
	c->wire_size = 0;
	c->at_work = false;
	c->parked = (struct list_node){ 0 };
	c->secures_unread = unread;
	if (c->in_on_input)
		c->secures = true;
	else
		begin_handshake(c);
}

void
conn_secure(struct conn *c, struct layer *layer)
{
	secure(c, layer, false);
}

void
conn_secure_unread(struct conn *c, struct layer *layer)
{
	secure(c, layer, true);
}

struct layer *
conn_layer(const struct conn *c)
{
	return c->layer;
}

/* From now on, all that arrives is the layer's. */
static void
begin_handshake(struct conn *c)
{
	c->secures = false;
	if (c->secures_unread && c->input_size > 0) {
		c->wire = c->input;
		c->wire_size = c->input_size;
		c->wire_memory = c->input_memory;
		c->input = c->input_memory = NULL;
		c->input_size = 0;
		c->wants_input = true;
	} else {
		release_input(c);
	}
	worker_soon(c->worker, &c->run);
	worker_last(c->worker, &c->late);
}

static void
end_handshake(struct conn *c, enum err e)
{
	c->secured = true;
	c->in_on_input = true; /* what it asks for is looked at later */
	c->events->on_secured(c, e);
	c->in_on_input = false;
	ASSERT(e == ERR_OK || c->state != CONN_OPEN);
}

/* May the layer compute now? Heavy steps come at the turn's end. Where they are used up, the next
 * turn has others, and the hello, which is short, waits in memory of its size. */
static bool
has_turn(struct conn *c)
{
	struct worker *w = c->worker;

	if (!is_in_handshake(c) || !c->layer->is_heavy || conn_leaves_heavy(c))
		return true;
	if (w->heavy_left > 0) {
		w->heavy_left--;
		return true;
	}
	worker_heavy(w, &c->run);
	if (!w->in_heavy)
		return false;
	if (c->wire_size > 0 && !c->layer->ops->keep(c->layer, span_of(c->wire, c->wire_size)))
		conn_close(c, CLOSE_NO_MEMORY);
	release_input(c);
	return false;
}

/* Turns what has come on the wire into input, as much as fits. False: not now, or not any more. */
static bool
read_layer(struct conn *c)
{
	struct layer *l = c->layer;

	if (!has_turn(c))
		return false;
	if (c->input_memory == NULL)
		c->input_memory = pool_get(&c->worker->buffers);
	else
		memmove(c->input_memory, c->input, c->input_size);
	if (c->input_memory == NULL) {
		conn_close(c, CLOSE_NO_MEMORY);
		return false;
	}
	struct buf plain = buf_of(c->input_memory, WORKER_BUFFER_SIZE);
	plain.size = c->input_size;
	size_t used = l->ops->read(l, span_of(c->wire, c->wire_size), &plain);
	ASSERT(used <= c->wire_size && plain.size >= c->input_size);
	c->wire += used;
	c->wire_size -= (uint32_t)used;
	c->wants_input &= plain.size == c->input_size;
	c->input = c->input_memory;
	c->input_size = (uint32_t)plain.size;
	if (l->state == LAYER_ENDED)
		c->input_ended = true;
	if (l->state == LAYER_FAILED && c->secured && c->lost_error == ERR_OK)
		c->lost_error = ERR_TLS;
	if (l->state == LAYER_ENDED || l->state == LAYER_FAILED)
		release_wire(c);
	if (l->is_busy) {
		if (keep_wire(c))
			conn_work(c);
	} else if (l->ops->wants_write(l)) {
		worker_last(c->worker, &c->late);
	}
	return !l->is_busy;
}

/* What has arrived goes through the layer. True: the owner is to look at its input. */
static bool
unwrap(struct conn *c)
{
	if (conn_is_at_work(c)) {
		conn_work(c);
		return false;
	}
	if (c->wants_input && layer_has_input(c) && !read_layer(c))
		return false;
	if (c->secured)
		return true;
	if (c->layer->state != LAYER_HANDSHAKE) {
		end_handshake(c, c->layer->state == LAYER_FAILED ? ERR_TLS : ERR_OK);
		/* Who asked for input in on_secured has it already, or still waits. */
		c->wants_input &= c->input_size == 0;
		return c->state == CONN_OPEN;
	}
	if (c->lost_error != ERR_OK || c->input_ended) {
		end_handshake(c, c->input_ended ? ERR_RESET : (enum err)c->lost_error);
		return false;
	}
	c->wants_input = true;
	settle_input(c);
	return false;
}

/* Wraps the first `size` bytes of what was written. False where not all of it fitted. */
static bool
wrap_written(struct conn *c, size_t size, struct buf *wire)
{
	struct span bytes = span_of(c->output[1], size);
	size_t used = size == 0 ? 0 : c->layer->ops->write(c->layer, bytes, wire);

	ASSERT(used <= size);
	if (used == c->output_size[1]) {
		release_output(c, 1);
	} else if (used > 0) {
		c->output_size[1] -= (uint32_t)used;
		memmove(c->output[1], c->output[1] + used, c->output_size[1]);
	}
	if (c->lent != NULL && !c->lent_in_flight)
		c->lent_at -= (uint32_t)used;
	return used == size;
}

/* Wraps what the layer and the owner have to say, in the order of the calls, as much as fits. */
static void
wrap(struct conn *c, struct buf *wire)
{
	struct layer *l = c->layer;

	l->ops->write(l, span_none(), wire);
	if (c->lent != NULL && !c->lent_in_flight) {
		if (!wrap_written(c, c->lent_at, wire))
			return;
		size_t used = l->ops->write(l, span_of(c->lent, c->lent_size), wire);
		ASSERT(used <= c->lent_size);
		c->lent += used;
		c->lent_size -= used;
		if (c->lent_size > 0)
			return;
		c->lent_in_flight = true; /* its wire form is */
	}
	if (!wrap_written(c, c->output_size[1], wire))
		return;
	if (owes_end(c)) {
		c->end_said = true;
		l->ops->end(l);
		l->ops->write(l, span_none(), wire);
	}
}

/* Nothing of the owner can leave through a layer that has failed. */
static void
drop_unsent(struct conn *c)
{
	release_output(c, 1);
	if (c->lent != NULL) {
		c->lent_size = 0;
		c->lent_in_flight = true;
	}
}

static void
start_wrapped_send(struct conn *c)
{
	uint8_t *memory = pool_get(&c->worker->buffers);

	if (memory == NULL) {
		conn_close(c, CLOSE_NO_MEMORY);
		return;
	}
	struct buf wire = buf_of(memory, WORKER_BUFFER_SIZE);
	wrap(c, &wire);
	if (c->layer->state == LAYER_FAILED) {
		drop_unsent(c);
		if (c->state == CONN_OPEN && c->secured)
			fail_send(c, ERR_TLS);
	}
	if (wire.size == 0) {
		pool_put(&c->worker->buffers, memory);
		return;
	}
	c->output[0] = memory;
	c->output_size[0] = (uint32_t)wire.size;
	c->ops_in_kernel++;
	ring_send(c->worker->ring, &c->send, c->fd, c->output[0], c->output_size[0]);
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

/* Nothing is looked at any more. What a helper has comes back to nobody. */
static void
stop_input(struct conn *c)
{
	task_cancel(&c->run);
	if (c->layer != NULL)
		list_unlink(&c->parked);
}

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
	stop_input(c);
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
	stop_input(c);
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
	struct layer *layer = c->layer;
	OBJ_FINI(c, CONN_MAGIC);
	events->on_closed(c);
	if (layer != NULL)
		layer->ops->free(layer);
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
