/* SPDX-License-Identifier: Apache-2.0
 *
 * conn: one TCP or unix connection of a worker, either way: bytes in, bytes out, one deadline, one
 * end. It knows no protocol. Embedded as the first member of its owner (a session, a channel).
 *
 * Life: conn_init (accepted descriptor) or conn_init + conn_connect; then callbacks of conn_events
 * until conn_close() or conn_finish(); then, when nothing of it is in the kernel any more,
 * on_closed, exactly once, in which the owner frees itself. No callback but on_closed comes after
 * conn_close() or conn_finish(), and the input that on_input holds stays valid until it returns.
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
 * from memory of the owner, in its place between the writes before and after it; it stays untouched
 * until on_drained or on_closed. One piece of memory is lent at a time.
 *
 * Where no pooled buffer is to be had, the connection is closed with CLOSE_NO_MEMORY.
 * A layer (TLS) may be put between the wire and the owner: conn_secure(), below.
 *
 * Ends: conn_close(reason) cancels all; conn_finish(reason) first sends what is written, shuts
 * down, reads and drops what still comes for a short while (so that a reset does not destroy our
 * last reply), then closes. Both only mark and link; both may be called twice, the first reason
 * wins. After either, all calls are allowed and do nothing. Time: conn_deadline() is moved often
 * and cheaply; when it passes, on_deadline runs (once; a finishing connection is closed).
 */
#ifndef CORE_CONN_H
#define CORE_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/close.h"
#include "core/helpers.h"
#include "core/layer.h"
#include "core/net.h"
#include "core/worker.h"

enum {
	CONN_INPUT_KEPT = 12 * 1024,
	CONN_OUTPUT_MAX = 2 * WORKER_BUFFER_SIZE, /* with a layer 2 * LAYER_OVERHEAD less */
	CONN_OUTPUT_SPARE = 4 * 1024,
	/* How long a finishing connection may take to send the rest, and then to see its end. */
	CONN_FINISH_MS = 30 * 1000,
	CONN_LINGER_MS = 2 * 1000,
};

struct conn;

struct conn_events {
	void (*on_connected)(struct conn *c, enum err e); /* outbound only; on failure close it */
	/* The handshake of conn_secure() has ended: ERR_OK; or ERR_TLS (the layer says why), or
	 * that the connection was lost or ended by the peer meanwhile (ERR_RESET). On failure close
	 * it: conn_finish() still sends what the layer has to say to that. */
	void (*on_secured)(struct conn *c, enum err e);
	void (*on_input)(struct conn *c);
	void (*on_drained)(struct conn *c); /* output is no longer full; lent memory is back */
	void (*on_deadline)(struct conn *c);
	void (*on_lost)(struct conn *c, enum err e); /* reset or send failure; close it */
	void (*on_closed)(struct conn *c);           /* the last call: free the owner */
};

enum conn_state {
	CONN_CONNECTING, /* by conn_connect; waits for the connect */
	CONN_OPEN,       /* bytes flow */
	CONN_FINISHING,  /* by conn_finish; waits for the output to leave and the peer's end */
	CONN_DRAINING,   /* by conn_close; waits for the kernel to let go */
};

/* All of it is conn.c's. */
struct conn {
	uint32_t magic;
	int fd; /* -1: closed */
	struct worker *worker;
	const struct conn_events *events;

	struct op receive;
	struct op send; /* and connect, before anything can be sent */
	struct op end;  /* shutdown, cancel, close: one after the other */
	uint8_t state;  /* enum conn_state */
	uint8_t reason; /* enum close_reason, once FINISHING or DRAINING */
	uint8_t ops_in_kernel;
	uint8_t lost_error;      /* enum err of a failed send; told behind the input of this turn */
	uint16_t holds;          /* conn_hold */
	uint8_t group;           /* enum ring_group */
	bool in_on_input : 1;    /* on_input or on_secured is running */
	bool wants_input : 1;    /* conn_read_more was called and no receive is armed yet */
	bool input_ended : 1;    /* the peer has sent its FIN */
	bool was_full : 1;       /* on_drained is owed */
	bool lent_in_flight : 1; /* lent memory is in the kernel's hands */
	bool shut_down : 1;      /* our FIN is on its way */
	bool receive_cancelled : 1;
	bool send_cancelled : 1;
	bool secures : 1; /* conn_secure was called and the handshake has not begun: see there */
	bool secures_unread : 1;
	bool raw_first : 1; /* what is being filled was written before the layer came */
	bool secured : 1;   /* on_secured has been told */
	bool end_said : 1;  /* the layer was ended by us */

	uint32_t input_size;
	int32_t input_ring_id; /* the ring's buffer that `input` (or `wire`) points into, or -1 */
	uint8_t *input;        /* unconsumed bytes */
	uint8_t *input_memory; /* the pooled buffer that `input` points into, or NULL */
	struct layer *layer;   /* or NULL */

	uint8_t *output[2]; /* [0]: being sent, [1]: being filled; pooled, or NULL */
	uint32_t output_size[2];
	const uint8_t *lent; /* goes between the first lent_at bytes of its output and the rest */
	size_t lent_size;
	uint32_t lent_at;
	union {
		struct { /* without a layer: a send with lent memory */
			struct msghdr message;
			struct iovec pieces[3];
		};
		struct {                      /* with a layer: what it has not read yet */
			uint8_t *wire;        /* in the ring's buffer, or in wire_memory */
			uint8_t *wire_memory; /* pooled, or NULL */
			uint32_t wire_size;
			bool at_work; /* a helper has it; else, where it is busy, it is parked */
			struct list_node parked; /* worker's parked */
			struct helper_job job;
		};
	};

	struct timer deadline;
	struct task run;       /* on_input */
	struct task late;      /* at the end of a turn: sends, shuts down, reaps */
	struct list_node link; /* worker's conns */
};

#define CONN_MAGIC 0x434f4e4eu

/* `fd` is taken. group: whose receive buffers are used. */
void conn_init(struct conn *c, struct worker *w, int fd, enum ring_group group,
	       const struct conn_events *events);
/* For an outbound connection made with a fresh socket; `address` is copied by the kernel at the
 * submission and must live until on_connected or on_closed. */
void conn_connect(struct conn *c, const struct net_address *address);

struct span conn_input(const struct conn *c);
void conn_consume(struct conn *c, size_t n);
void conn_read_more(struct conn *c);
/* Runs on_input again soon although nothing new came: the owner's share of a turn was used up, or
 * what it waited for has happened. */
void conn_run(struct conn *c);
/* Has the peer ended its stream, and is all input consumed? */
bool conn_input_is_over(const struct conn *c);
/* Has the peer ended its stream? What is left unconsumed will never be more. */
bool conn_peer_has_ended(const struct conn *c);

/* False where nothing can be written: the connection is closing, perhaps now for want of memory, or
 * the handshake of a layer has not ended. */
bool conn_write(struct conn *c, struct span bytes);
/* Not in a handshake. */
void conn_write_lent(struct conn *c, const void *data, size_t size);
/* Is lent memory still the connection's? */
bool conn_is_lending(const struct conn *c);
/* Room for conn_write() in bytes; writing more than that is a bug. */
size_t conn_output_room(const struct conn *c);
/* Is there less room than CONN_OUTPUT_SPARE, the longest answer to one command? */
bool conn_output_full(const struct conn *c);
bool conn_output_is_empty(const struct conn *c);

/* Puts `layer` (core/layer.h), which is taken, between the wire and the owner: once, while the
 * connection is open, with nothing lent. What was written before leaves ahead of it as it was.
 * Input that was not consumed is dropped, whatever arrived with it included: it is not protected,
 * and whoever could write it would have it taken for what the peer says behind it. What on_input is
 * looking at stays valid until it returns, but conn_input() is empty from now on.
 *
 * From then on the owner reads and writes plain text; on_secured tells the end of the handshake,
 * and there is no input and no output before it. A worker does only so many heavy steps of
 * handshakes a turn (worker.h), the others go on in the next; what takes too long even for that a
 * helper does, or nobody before one of these is done, where there is no place for more. Who waits
 * for a handshake holds no pooled buffer. What has arrived and has no room as plain text is kept in
 * one more pooled buffer, and none is received meanwhile; an idle connection holds none. The peer's
 * end of the layer is the end of its stream; so is the end of the stream alone, as without a layer.
 * Bytes that are not of the layer are a loss (ERR_TLS), behind what came before them. */
void conn_secure(struct conn *c, struct layer *layer);
/* The same, but what was not consumed is the layer's: behind what only announces the client. */
void conn_secure_unread(struct conn *c, struct layer *layer);
/* NULL: there is none. It lives until on_closed has returned. */
struct layer *conn_layer(const struct conn *c);

/* The owner has something else under way that needs this memory (a put, a read from the store):
 * on_closed waits for as many conn_unhold() as there were conn_hold(). */
void conn_hold(struct conn *c);
void conn_unhold(struct conn *c);

/* In clock_monotonic_ms(); 0: none. */
void conn_deadline(struct conn *c, uint64_t at_ms);
void conn_close(struct conn *c, enum close_reason reason);
void conn_finish(struct conn *c, enum close_reason reason);

#endif
