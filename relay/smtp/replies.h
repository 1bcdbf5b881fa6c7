/* SPDX-License-Identifier: Apache-2.0
 *
 * replies: what the receiver may answer. From core/tables/replies.def.
 *
 * A row is rendered at compile time, so that sending one formats nothing. Policy in flow names rows
 * and may give a text of its own for one (struct receiver_answer); it never writes codes.
 */
#ifndef RELAY_SMTP_REPLIES_H
#define RELAY_SMTP_REPLIES_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum reply_row {
#define REPLY(name, code, enhanced, text) REPLY_##name,
#define REPLY_PLAIN(name, code, text)     REPLY_##name,
#include "core/tables/replies.def"
#undef REPLY
#undef REPLY_PLAIN
	REPLY_COUNT
};

/* 220, 250, 354, 421, ... */
unsigned reply_row_code(enum reply_row row);
/* The name in the table, for tests and traces: "SENDER_OK". */
const char *reply_row_name(enum reply_row row);
/* "250 2.1.0 sender ok\r\n"; lives as long as the program. */
struct span reply_row_line(enum reply_row row);
/* Its text alone. */
struct span reply_row_text(enum reply_row row);
enum { REPLY_TEXT_LINE_MAX = 400 }; /* bytes of `more` on a line; RFC 5321 4.5.3.1.5 allows 512 */

/* Appends the row with another text, and with `more` on lines of its own behind it. Bytes that may
 * not stand in a reply become '?'. */
bool reply_row_render(enum reply_row row, struct span text, struct span more, struct buf *out);

#endif
