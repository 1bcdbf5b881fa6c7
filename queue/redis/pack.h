/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: what the Redis store writes of a mail, as bytes: its envelope, once, and the state of each
 * recipient, anew with every change. Pure. Nothing that is read is trusted: a read either proves
 * every length or says false. Numbers are little-endian; the first byte of an envelope is a
 * version.
 *
 * Times are of Redis's clock; callers convert. The functions on the server know of a state: the
 * first byte ('P' pending, 'D' delivered, 'X' discarded, 'F' failed, 'R' removed), bytes 1 and 2
 * `starts`, 3 and 4 `closed` (rp_act unhold copies the former over the latter), 8 to 15 `retry_at`
 * (rp_act unhold and requeue make it 0). Bytes 5 and 6 are `attempts`, 7 flags; the reply follows.
 */
#ifndef QUEUE_REDIS_PACK_H
#define QUEUE_REDIS_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "queue/mail.h"

enum { PACK_REPLY_MOST = 512, PACK_STATE_LEAST = 16 };

struct pack_state {
	uint8_t state; /* enum recipient_state */
	bool notified;
	bool alone;        /* the last start was alone on its worker */
	uint16_t starts;   /* attempts ever begun under watch (ARCHITECTURE.md, invariant 9) */
	uint16_t closed;   /* of these, up to this number have ended */
	uint16_t attempts; /* that ended in a temporary failure */
	uint64_t retry_at_ms;
	struct span reply; /* at most PACK_REPLY_MOST bytes are written */
};

/* All but id and what changes (state, notified, attempts, retry_at_ms, reply, site). A text has at
 * most 65535 bytes. False: no room in `out`, for which pack_envelope_size() suffices. */
bool pack_envelope(struct buf *out, const struct mail_envelope *e);
uint64_t pack_envelope_size(const struct mail_envelope *e);
/* How many recipients, and bytes of text; false where it can not be read. */
bool pack_measure(struct span bytes, uint32_t *recipient_count, size_t *text_size);
/* `out->recipients` has room for recipient_count; it and the id stay as they are. Texts point into
 * `bytes`; states are of a mail that was never tried. False: `out` holds nothing of worth. */
bool pack_read_envelope(struct span bytes, struct mail_envelope *out);

/* At most PACK_STATE_LEAST + PACK_REPLY_MOST bytes, for which there must be room. */
void pack_state(struct buf *out, const struct pack_state *s);
/* Empty: never tried. The reply points into `bytes`. */
bool pack_read_state(struct span bytes, struct pack_state *out);

#endif
