/* SPDX-License-Identifier: Apache-2.0
 *
 * body_out: a message on its way out by DATA (RFC 5321 4.5.2): dot-stuffing and the end of data.
 *
 * Pure, and independent of how the message is cut. A dot at the start of a line is doubled; a line
 * starts at the start of the message and behind every LF, so that no peer, however it reads bare
 * LFs, can find the end of data inside a message. body_out_end() adds what a last line lacks, and
 * the dot.
 *
 * body_dots looks, while a message is accepted, whether it has such a line at all. Where it has
 * none, the message may be sent as it is, from wherever it lies, followed by
 * body_out_plain_end().
 */
#ifndef RELAY_SMTP_BODY_OUT_H
#define RELAY_SMTP_BODY_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

struct body_out {
	uint8_t state; /* enum in body_out.c */
};

void body_out_init(struct body_out *b);
/* Stuffs a prefix of `in` into the room of `out`; returns how much of `in` was taken. Takes at
 * least one byte where the room is two bytes or more. */
size_t body_out_feed(struct body_out *b, struct span in, struct buf *out);
/* CRLF where the last line has none, ".", CRLF. False, and nothing written, where there is no room
 * (at most 5 bytes). */
bool body_out_end(const struct body_out *b, struct buf *out);

/* The end of data for a message that ends in CRLF and was sent as it is. */
static inline struct span
body_out_plain_end(void)
{
	return SPAN(".\r\n");
}

struct body_dots {
	bool at_line_start;
	bool found;
};

void body_dots_init(struct body_dots *d);
void body_dots_feed(struct body_dots *d, struct span in);

#endif
