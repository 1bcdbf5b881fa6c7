/* SPDX-License-Identifier: Apache-2.0
 *
 * Composes a whole notice for tests and the fuzz target, as the flow does it.
 */
#ifndef TESTS_LIB_DSN_COMPOSE_H
#define TESTS_LIB_DSN_COMPOSE_H

#include "core/base/assert.h"
#include "relay/message/dsn.h"

/* `n->context` has to be an array of struct dsn_recipient. */
static inline void
dsn_recipient_of_array(const void *context, uint32_t index, struct dsn_recipient *out)
{
	*out = ((const struct dsn_recipient *)context)[index];
}

/* Appends all of the notice. `room`: of the buffer that the pieces go through; `step`: bytes of the
 * original at a time. False: the original has the boundary in it. */
static inline bool
dsn_compose(const struct dsn_notice *n, struct span original, size_t room, size_t step,
	    struct buf *out, struct dsn *d)
{
	static uint8_t memory[4 * DSN_PIECE_MAX];
	enum dsn_event event;

	ASSERT(room >= DSN_PIECE_MAX && room <= sizeof memory && step > 0);
	dsn_init(d, n);
	do {
		struct buf piece = buf_of(memory, room);
		event = dsn_next(d, &piece);
		ASSERT(!piece.overflow);
		buf_append(out, buf_span(&piece));
		for (size_t at = 0; event == DSN_ORIGINAL && at < n->original_size;) {
			struct span left = span_first(original, (size_t)n->original_size);
			struct span part = span_first(span_after(left, at), step);
			if (!dsn_pass(d, part))
				return false;
			buf_append(out, part);
			at += part.size;
		}
	} while (event != DSN_DONE);
	return true;
}

#endif
