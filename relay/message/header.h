/* SPDX-License-Identifier: Apache-2.0
 *
 * header: walks the header section of a message (RFC 5322 2.2), in whatever pieces it comes.
 *
 * Pure. header_feed() consumes a prefix of the input up to the next whole field or the end of the
 * section. A field is whole when the line behind it is seen not to be a continuation, so the event
 * comes with the first byte of the next line. Its text is collected in memory of the caller, whose
 * size is the bound for a field: longer ones come cut, with `cut` set, and are counted all the
 * same. Nothing depends on how the bytes were cut.
 *
 * The section ends at an empty line, at the end of the message, or at a line that is no field (no
 * name of printable ASCII that fits the memory, and a colon): then `malformed` is set and that line
 * belongs to the body. size counts the bytes of the fields alone, body_at where the body begins.
 * Blanks between name and colon are tolerated (obsolete syntax), LF alone ends a line.
 *
 * It never changes anything; it serves the count of Received fields (loops), and looking at names.
 */
#ifndef RELAY_MESSAGE_HEADER_H
#define RELAY_MESSAGE_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum header_event {
	HEADER_MORE,  /* all input is consumed */
	HEADER_FIELD, /* header_name() and header_value() are those of a field, until the next call
		       */
	HEADER_END,   /* the section is over; again on every further call, consuming nothing */
};

struct header {
	struct buf text; /* the caller's memory */
	uint8_t state;   /* enum in header.c */
	bool cut;        /* the field was longer than the memory */
	bool malformed;
	uint32_t name_size; /* of the latest field */
	uint32_t fields;    /* seen so far */
	uint32_t received;  /* Received fields among them */
	uint64_t line_at;   /* where the current line begins */
	uint64_t seen;      /* bytes consumed */
	uint64_t size;      /* bytes of the section, without the empty line */
	uint64_t body_at;   /* after HEADER_END */
};

/* `memory` of at least 128 bytes. */
void header_init(struct header *h, void *memory, size_t capacity);
size_t header_feed(struct header *h, struct span in, enum header_event *event);
/* The message has ended. Emits HEADER_FIELD for a last one, then HEADER_END. */
void header_finish(struct header *h, enum header_event *event);

struct span header_name(const struct header *h);
/* With folding as it stood (CRLF and blanks), without the blanks at both ends. */
struct span header_value(const struct header *h);
bool header_is(const struct header *h, struct span name);
/* Appends the value with each fold made one blank. */
bool header_unfold(const struct header *h, struct buf *out);

#endif
