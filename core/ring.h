/* SPDX-License-Identifier: Apache-2.0
 *
 * ring: the one door to network and disk while the relay runs. One ring a thread.
 *
 * ring.c stands on io_uring (SINGLE_ISSUER, DEFER_TASKRUN; kernel 6.1 or newer) and is the only
 * file that includes liburing.h. tests/fault links a simulated machine with the same symbols, so
 * nothing outside may know more than this page.
 *
 * Starting never fails and never completes inside the call: a full submission queue is submitted
 * and reused, and every failure arrives as c.result < 0. Memory handed over is lent until the
 * op's last completion (op.h). All calls but ring_bell's target are for the ring's own thread;
 * a ring is created on the thread that uses it.
 *
 * Receive buffers come in two groups of fixed size, clients and peers, so that paused clients can
 * not starve the peers that would drain them. A receive takes a buffer only when bytes arrive. When
 * its group has none left, the op waits in its group's line, is armed again in order as buffers
 * return, and its owner notices nothing. A completion with has_buffer gives the buffer to the
 * owner, who returns it with ring_buffer_put() within the same turn or soon after (conn.h).
 *
 * Source of the shapes: io_uring_prep_*(3); sizes and flags as measured for this project.
 */
#ifndef CORE_RING_H
#define CORE_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/op.h"

struct ring;

enum ring_group { RING_CLIENTS, RING_PEERS, RING_GROUPS };

struct ring_options {
	unsigned entries;              /* submission queue; the completion queue is 4 x */
	unsigned buffers[RING_GROUPS]; /* receive buffers a group, a power of two; 0: no group */
	unsigned buffer_size[RING_GROUPS]; /* bytes of each */
};

/* NULL with a line for people in `why` (what failed and the remedy: io_uring disabled, kernel too
 * old, locked memory). */
struct ring *ring_new(const struct ring_options *options, struct buf *why);
/* No op may be in the kernel. */
void ring_free(struct ring *r);

/* Submits what was started and waits until something completes or timeout_us has passed (0: looks
 * only). Returns how many completions wait to be handled. */
unsigned ring_wait(struct ring *r, uint64_t timeout_us);
/* Harvests up to a fixed number of completions first, then calls their on_done in order. Returns
 * how many it handled; more may be waiting. */
unsigned ring_complete(struct ring *r);
/* Operations in the kernel or in a line. */
size_t ring_ops(const struct ring *r);
/* Wakes `target`, which another thread may be waiting in; at most spuriously. The one call with
 * somebody else's ring. */
void ring_bell(struct ring *r, struct ring *target);

/* Network. Descriptors are ordinary ones. */
void ring_accept(struct ring *r, struct op *op, int listener); /* multishot; result: descriptor */
void ring_connect(struct ring *r, struct op *op, int fd, const struct sockaddr *address,
		  socklen_t size);
void ring_receive(struct ring *r, struct op *op, int fd, enum ring_group group);
/* Completes short only when the connection fails. */
void ring_send(struct ring *r, struct op *op, int fd, const void *data, size_t size);
void ring_send_message(struct ring *r, struct op *op, int fd, const struct msghdr *message);
/* Of our side; with no send under way. */
void ring_shutdown(struct ring *r, struct op *op, int fd);
void ring_poll(struct ring *r, struct op *op, int fd, unsigned events); /* one shot */

/* Files. Offsets and sizes are bytes; where the file was opened with O_DIRECT they and the memory
 * are multiples of 4096. Reads and writes may complete short. */
void ring_open(struct ring *r, struct op *op, int directory, const char *path, int flags,
	       mode_t mode); /* path is lent too */
void ring_read(struct ring *r, struct op *op, int fd, void *data, size_t size, uint64_t offset);
void ring_write(struct ring *r, struct op *op, int fd, const void *data, size_t size,
		uint64_t offset);
/* The bytes are on stable storage when it completes (RWF_DSYNC). */
void ring_write_durable(struct ring *r, struct op *op, int fd, const void *data, size_t size,
			uint64_t offset);
/* fdatasync; of a directory fsync, since ext4 does not count a new name as data. */
void ring_sync(struct ring *r, struct op *op, int fd);
void ring_allocate(struct ring *r, struct op *op, int fd, uint64_t offset, uint64_t size);
void ring_unlink(struct ring *r, struct op *op, int directory, const char *path);
void ring_rename(struct ring *r, struct op *op, int directory, const char *from, const char *to);

void ring_close(struct ring *r, struct op *op, int fd); /* any descriptor */
/* Asks that `target` end soon; it still completes by itself, before or after `op` does. A target
 * that waits in a line or has ended already is fine. */
void ring_cancel(struct ring *r, struct op *op, struct op *target);

/* Receive buffers. */
uint8_t *ring_buffer(struct ring *r, enum ring_group group, uint16_t buffer_id);
void ring_buffer_put(struct ring *r, enum ring_group group, uint16_t buffer_id);
size_t ring_buffer_size(const struct ring *r, enum ring_group group);
/* How often a receive had to get in line, for the metrics. */
uint64_t ring_buffer_waits(const struct ring *r, enum ring_group group);

#endif
