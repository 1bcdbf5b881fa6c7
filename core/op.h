/* SPDX-License-Identifier: Apache-2.0
 *
 * op: one operation that the kernel works on for us.
 *
 * A struct op is embedded in its owner, and its address is the operation's identity in the ring.
 * From the call of a ring_…() function until its last completion `in_kernel` is true: the op, the
 * buffers and addresses handed over with it belong to the kernel, and nobody reads, writes, moves
 * or frees them. It becomes false right before on_done() is called for the last time; on_done may
 * then start the op anew or free its owner.
 *
 * A multishot operation (accept) completes several times; all but the last time c.more is true.
 * on_done is never called from inside a ring_…() function, only from ring_complete().
 */
#ifndef CORE_OP_H
#define CORE_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"

struct op;

struct completion {
	int32_t result;     /* bytes or a descriptor; -errno on failure */
	uint16_t buffer_id; /* valid where has_buffer */
	bool has_buffer;    /* a buffer of the ring's group is now ours: give it back */
	bool more;          /* the op stays in the kernel */
};

typedef void (*op_fn)(struct op *op, struct completion c);

struct op {
	uint32_t magic;
	bool in_kernel;
	/* What follows is the ring's own. */
	uint8_t group;       /* enum ring_group, for receives */
	bool receives : 1;   /* started by ring_receive */
	bool cancelled : 1;  /* ring_cancel was called: not to be armed again */
	bool more_waits : 1; /* the socket held more bytes after its last receive */
	op_fn on_done;
	struct list_node waiting; /* in line for a buffer, or ended without the kernel */
	int32_t fd;               /* kept by ring_receive to be armed again */
	int32_t result;           /* of an op that ended without the kernel */
};

#define OP_MAGIC 0x4f50u

static inline void
op_init(struct op *op, op_fn on_done)
{
	*op = (struct op){ .magic = OP_MAGIC, .on_done = on_done, .fd = -1 };
}

#endif
