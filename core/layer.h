/* SPDX-License-Identifier: Apache-2.0
 *
 * layer: what stands between the bytes of a connection on the wire and its owner: TLS. core knows
 * only this; tls/ has the one that exists.
 *
 * PURE: bytes in, bytes out; no descriptor, no clock. One thread at a time. A connection feeds what
 * it receives to read() and sends what write() gives; the owner of the connection sees and writes
 * plain text and need not know. A layer belongs to the connection from conn_secure() until that
 * frees it.
 *
 * A step of a handshake may take far longer than a worker's turn (a signature with a large key).
 * The owner says by `has_helper` that somebody else can do it. Then read() leaves it out and says
 * so by `is_busy`: work() is called next, on any thread, and nothing else until the owner, who has
 * seen it return, clears is_busy and goes on with read(). So it is with a step that is only heavy,
 * where the layer says by `heavy_may_leave` that such a step of its may be another thread's, and
 * the owner by `helper_is_free` that there is one for it.
 *
 * States go forward only: HANDSHAKE, then OPEN, then ENDED or FAILED. After read() or write() the
 * state is looked at; in any state there may be something to send (an answer, an alert), which
 * wants_write() says.
 */
#ifndef CORE_LAYER_H
#define CORE_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum layer_state {
	LAYER_HANDSHAKE, /* from the start; no plain text either way */
	LAYER_OPEN,      /* plain text flows */
	LAYER_ENDED,     /* the peer has ended it in order; ours may still be written */
	LAYER_FAILED,    /* nothing more comes; what wants_write() says may tell the peer why */
};

struct layer;

struct layer_ops {
	/* Takes bytes of the wire and appends the plain text that they are. Says how many it took:
	 * all, but where `plain` has no room for more. */
	size_t (*read)(struct layer *l, struct span wire, struct buf *plain);
	/* HANDSHAKE: copies bytes of the wire, which the next read() takes ahead of those that it
	 * is given; until then has_more() is true. False: no memory. */
	bool (*keep)(struct layer *l, struct span wire);
	/* The step for which it is busy. */
	void (*work)(struct layer *l);
	/* Appends to `wire` what the layer itself has to say, then (OPEN, ENDED) plain text in wire
	 * form, as much as fits. Says how much of `plain` it took. LAYER_OVERHEAD bytes more than
	 * `plain` are always enough. */
	size_t (*write)(struct layer *l, struct span plain, struct buf *wire);
	/* Has the layer itself something to say? */
	bool (*wants_write)(const struct layer *l);
	/* Has read() something to do without more of the wire? Not once ENDED or FAILED. */
	bool (*has_more)(const struct layer *l);
	/* OPEN, ENDED: we end it in order: there is something to say (close_notify), and no plain
	 * text after it. */
	void (*end)(struct layer *l);
	void (*free)(struct layer *l);
};

/* Embedded first in what implements it. */
struct layer {
	const struct layer_ops *ops;
	uint8_t state; /* enum layer_state */
	/* The next read() in HANDSHAKE computes for long: the worker does only so many a turn. */
	bool is_heavy;
	bool heavy_may_leave; /* the layer's, for good */
	bool has_helper;      /* the owner's */
	bool helper_is_free;  /* the owner's, for the next read() */
	bool is_busy;         /* set by read(), cleared by the owner */
};

enum {
	/* What 32 KiB of plain text may grow by, with what the layer itself has to say. */
	LAYER_OVERHEAD = 1024,
};

#endif
