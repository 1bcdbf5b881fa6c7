/* SPDX-License-Identifier: Apache-2.0
 *
 * body_in: the bytes of a message as they arrive, judged and freed of dot-stuffing (RFC
 * 5321 4.5.2).
 *
 * PURE, and every byte given is consumed: what a cut leaves undecided is kept in the state, so no
 * byte is held back and none is looked at twice. Pieces point into the input or into static memory
 * and are as long as they can be: clean input comes back as one piece, whatever lines it has.
 *
 * A bare CR, a bare LF or a NUL is reported once, at the byte that proves it. Pieces go on behind
 * it, for the caller to drop, so that the true end is found. With BODY_NORMALIZE a bare CR or LF
 * becomes CRLF instead (never a NUL). Only CRLF.CRLF is an end, in either mode; a line that begins
 * behind a bare newline loses a leading dot but never ends the message.
 */
#ifndef RELAY_SMTP_BODY_IN_H
#define RELAY_SMTP_BODY_IN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"

enum body_in_newlines { BODY_REJECT, BODY_NORMALIZE };

enum body_in_event {
	BODY_MORE,         /* nothing to report; step again while input is left */
	BODY_PIECE,        /* bytes of the message, at least one */
	BODY_END,          /* CRLF.CRLF was consumed; only of a dotted body */
	BODY_BARE_NEWLINE, /* the message is bad */
	BODY_NUL,          /* the message is bad */
};

struct body_in {
	uint8_t state; /* enum body_in_state, in body_in.c */
	bool dotted;   /* from DATA; BDAT has no dots and no end of its own */
	bool normalize;
	bool bad; /* reported */
};

void body_in_init(struct body_in *b, bool dotted, enum body_in_newlines newlines);
/* Consumes a prefix of `in` and reports one event. `piece` is set for BODY_PIECE only. */
size_t body_in_step(struct body_in *b, struct span in, enum body_in_event *event,
		    struct span *piece);
/* The end of a message that has no end of its own (BDAT LAST): completes a final line without
 * CRLF. BODY_PIECE with what is to be added, BODY_BARE_NEWLINE for a bare CR at the end, BODY_MORE
 * where nothing is missing. An empty message stays empty. */
enum body_in_event body_in_finish(struct body_in *b, struct span *piece);

#endif
