/* SPDX-License-Identifier: Apache-2.0
 *
 * reply: reads the replies of an SMTP or LMTP server (RFC 5321 4.2, RFC 2034, RFC 3463).
 *
 * Pure. reply_feed() consumes a prefix of the input and says what it saw: nothing whole yet, one
 * line of a reply that goes on, the last line, or junk. The result does not depend on how the bytes
 * were cut. After REPLY_DONE the reply stays readable until the next call; that call begins a new
 * one by itself. After REPLY_BAD the stream has no meaning any more: close the connection.
 *
 * Kept: code, the first enhanced code whose class is that of the code, and the text of all lines,
 * joined by '\n', without codes, cut at a character boundary to REPLY_TEXT_MAX bytes. The text is
 * clean: controls are blanks, what is not UTF-8 is '?', nothing trails. EHLO, whose lines matter
 * one by one, calls reply_forget_text() after each line, so that every line has the full room.
 *
 * Tolerated: a bare LF as the end of a line (nobody but the peer itself could be fooled by it) and
 * a code without text, with or without a blank. Refused as bad: a line that does not begin with a
 * code from 200 to 599 and a blank, '-' or its end; another code within one reply; a line over
 * REPLY_LINE_MAX bytes; more than REPLY_LINES_MAX lines.
 */
#ifndef RELAY_SMTP_REPLY_H
#define RELAY_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	REPLY_TEXT_MAX = 512,
	REPLY_LINE_MAX = 4096, /* with the end of line */
	REPLY_LINES_MAX = 128,
};

enum reply_event {
	REPLY_MORE, /* all input is consumed; the line is not complete */
	REPLY_LINE, /* one line of a reply that goes on */
	REPLY_DONE, /* the last line */
	REPLY_BAD,  /* not a reply of SMTP */
};

/* RFC 3463; status_class 0: none was given. */
struct reply_status {
	uint16_t status_class;
	uint16_t subject;
	uint16_t detail;
};

struct reply {
	uint16_t code; /* 0: none yet */
	uint16_t text_size;
	uint16_t line_at; /* where the text of the latest line begins */
	bool cut;         /* the text was longer than the room for it */
	struct reply_status status;

	uint8_t state;      /* enum in reply.c */
	uint8_t digits;     /* of the code, seen on this line */
	uint16_t line_code; /* the code so far, on this line */
	uint16_t line_size; /* bytes of this line so far */
	uint16_t lines;     /* complete lines */
	uint8_t text[REPLY_TEXT_MAX];
};

void reply_init(struct reply *r);
size_t reply_feed(struct reply *r, struct span in, enum reply_event *event);

/* All text so far. */
struct span reply_text(const struct reply *r);
/* The text of the latest line, without its enhanced code. */
struct span reply_line(const struct reply *r);
/* Drops the text, after REPLY_LINE. */
void reply_forget_text(struct reply *r);
/* 2 to 5, or 0 where there is none. */
unsigned reply_class(const struct reply *r);
/* Is a reply complete and readable? */
bool reply_is_done(const struct reply *r);
/* "550 5.1.1 No such user", for logs and the Diagnostic-Code of a bounce; lines joined by '\n'. */
bool reply_show(const struct reply *r, struct buf *out);

#endif
