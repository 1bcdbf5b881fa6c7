/* SPDX-License-Identifier: Apache-2.0
 *
 * body: the bytes of a message in memory: trace fields, header and text, as they will be sent.
 *
 * Written once by the thread that takes it in (body_append), sealed by the put, then read-only for
 * every thread. References are counted by the keeping worker alone: another worker reads it on
 * behalf of a claimed item, which keeps it alive. Memory is taken from a budget that is shared by
 * all bodies of a worker; body_append says ERR_NO_MEMORY when it is used up.
 */
#ifndef QUEUE_BODY_H
#define QUEUE_BODY_H

#include <stdint.h>

#include "core/base/err.h"
#include "core/base/span.h"

struct body;

/* Bytes that all bodies (and drafts) of one worker may take together. */
struct body_budget {
	uint64_t used_bytes;
	uint64_t most_bytes;
};

/* size_hint 0: unknown. NULL: no memory. One reference. */
struct body *body_new(struct body_budget *budget, uint64_t size_hint);
struct body *body_get(struct body *b);
void body_put(struct body *b);

enum err body_append(struct body *b, struct span bytes);
uint64_t body_size(const struct body *b);
/* The longest contiguous run at `offset`; empty at the end. Sequential reading is O(1) a call for
 * bodies of few chunks (chunks are up to 64 KiB). */
struct span body_at(const struct body *b, uint64_t offset);

#endif
