/* SPDX-License-Identifier: Apache-2.0
 *
 * conn: one TCP or unix connection of a worker, either way: bytes in, bytes out, one deadline, one
 * end. It knows no protocol. Embedded as the first member of its owner (a session, a channel).
 *
 * Life: conn_init (accepted descriptor) or conn_init + conn_connect; then callbacks of conn_events
 * until conn_close(); then, when nothing of it is in the kernel any more, on_closed, exactly once,
 * in which the owner frees itself. After conn_close() no callback but on_closed comes.
 *
 * Input: one receive at a time. conn_input() is what has arrived and is not consumed; the owner's
 * on_input runs as a task whenever there is some (or the end of the stream was seen), consumes what
 * it can and calls conn_read_more() when it needs more. Who does not call it is paused: the rest
 * is moved to a pooled buffer at the end of the callback and the ring's buffer goes back, so a
 * paused connection holds no receive buffer. At most CONN_INPUT_KEPT unconsumed bytes may be held
 * when more is asked for (a part of a line), which is an ASSERT.
 *
 * Output: conn_write() copies into pooled buffers, at most CONN_OUTPUT_MAX bytes; all writes of a
 * turn leave in one send at its end; one send is in flight at a time. conn_output_full() is the
 * one test for back-pressure; on_drained runs when it turns false again. conn_write_lent() sends
 * from memory of the owner, which stays untouched until on_drained or on_closed.
 *
 * Where no pooled buffer is to be had, the connection is closed with CLOSE_NO_MEMORY.
 *
 * Ends: conn_close(reason) cancels all; conn_finish(reason) first sends what is written, shuts
 * down, reads and drops what still comes for a short while (so that a reset does not destroy our
 * last reply), then closes. Both only mark and link; both may be called twice, the first reason
 * wins. Time: conn_deadline() is moved often and cheaply; when it passes, on_deadline runs.
 */
#ifndef CORE_CONN_H
#define CORE_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/close.h"
#include "core/net.h"
#include "core/worker.h"

enum {
	CONN_INPUT_KEPT = 12 * 1024,
	CONN_OUTPUT_MAX = 2 * WORKER_BUFFER_SIZE,
};

struct conn;

struct conn_events {
	void (*on_connected)(struct conn *c, enum err e); /* outbound only; on failure close it */
	void (*on_input)(struct conn *c);
	void (*on_drained)(struct conn *c); /* output is no longer full; lent memory is back */
	void (*on_deadline)(struct conn *c);
	void (*on_lost)(struct conn *c, enum err e); /* reset or send failure; close it */
	void (*on_closed)(struct conn *c);           /* the last call: free the owner */
};

enum conn_state {
	CONN_CONNECTING, /* conn_connect was called; waits for the connect */
	CONN_OPEN,       /* bytes flow */
	CONN_FINISHING,  /* conn_finish was called; waits for the output to leave and the peer's end
			  */
	CONN_DRAINING,   /* conn_close was called; waits for the kernel to let go */
};

struct conn {
	uint32_t magic;
	int fd;
	enum conn_state state;
	enum close_reason reason;
	struct worker *worker;
	const struct conn_events *events;

	struct op receive;
	struct op send;
	struct op end; /* connect, shutdown, cancel, close: one after the other */
	uint8_t ops_in_kernel;
	uint8_t group;    /* enum ring_group */
	bool input_ended; /* the peer has sent its FIN */
	bool wants_input; /* conn_read_more was called and no receive is armed yet */
	bool was_full;    /* on_drained is owed */

	uint8_t *input; /* unconsumed bytes */
	uint32_t input_size;
	int32_t input_ring_id; /* the ring's buffer that `input` points into, or -1 */
	uint8_t *input_memory; /* the pooled buffer that `input` points into, or NULL */

	uint8_t *output[2]; /* [0]: being sent, [1]: being filled; pooled, or NULL */
	uint32_t output_size[2];
	const uint8_t *lent; /* sent behind output[0..1] as of the call */
	size_t lent_size;

	struct timer deadline;
	struct task run;       /* on_input */
	struct task flush;     /* sends */
	struct list_node link; /* worker's conns */
	struct list_node reaping;
};

#define CONN_MAGIC 0x434f4e4eu

/* `fd` is taken. group: whose receive buffers are used. */
void conn_init(struct conn *c, struct worker *w, int fd, enum ring_group group,
	       const struct conn_events *events);
/* For an outbound connection made with a fresh socket; `address` is copied by the kernel at the
 * submission and must live until on_connected. */
void conn_connect(struct conn *c, const struct net_address *address);

struct span conn_input(const struct conn *c);
void conn_consume(struct conn *c, size_t n);
void conn_read_more(struct conn *c);
/* Runs on_input again soon although nothing new came: the owner's share of a turn was used up, or
 * what it waited for has happened. */
void conn_run(struct conn *c);
/* Has the peer ended its stream, and is all input consumed? */
bool conn_input_is_over(const struct conn *c);

/* False where the connection has been closed for want of memory. */
bool conn_write(struct conn *c, struct span bytes);
void conn_write_lent(struct conn *c, const void *data, size_t size);
/* Room for conn_write() in bytes; with memory to spare. */
size_t conn_output_room(const struct conn *c);
bool conn_output_full(const struct conn *c);
bool conn_output_is_empty(const struct conn *c);

/* The owner has something else under way that needs it: on_closed waits for the unhold. */
void conn_hold(struct conn *c);
void conn_unhold(struct conn *c);

void conn_deadline(struct conn *c, uint64_t at_ms);
void conn_close(struct conn *c, enum close_reason reason);
void conn_finish(struct conn *c, enum close_reason reason);

#endif
