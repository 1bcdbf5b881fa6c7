/* SPDX-License-Identifier: Apache-2.0
 *
 * dsn_parts: the fields of a message/delivery-status (RFC 3464 2), for dsn.c alone.
 *
 * Pure. Each call appends whole fields with CRLF; the group of a recipient begins with the empty
 * line that divides it from what is in front. `global`: the part is message/global-delivery-status,
 * where addresses of type utf-8 stand as they are (RFC 6533 3); otherwise they are written in their
 * ASCII form. No group is longer than DSN_PIECE_MAX.
 */
#ifndef RELAY_MESSAGE_DSN_PARTS_H
#define RELAY_MESSAGE_DSN_PARTS_H

#include "relay/message/dsn.h"

/* Did it fail because its time was over: is its last reply a temporary one? */
bool dsn_is_expired(const struct dsn_recipient *r);
/* The header of the part and the fields about the message. */
void dsn_write_message_fields(struct buf *out, const struct dsn_notice *n, bool global);
void dsn_write_recipient_fields(struct buf *out, const struct dsn_notice *n,
				const struct dsn_recipient *r, bool global);

#endif
