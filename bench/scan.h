/* SPDX-License-Identifier: Apache-2.0
 *
 * scan: what the sink looks for in the bytes of a mail as they pass: its end and its id. PURE.
 *
 * The body is not kept. The end of DATA is CRLF.CRLF and nothing else (RFC 5321 4.1.1.4), found at
 * several bytes a nanosecond; a BDAT is counted by its caller. The id is the value of the first
 * TRACK_FIELD of the header, wherever it stands, its name in any case, its value perhaps folded
 * (RFC 5322 2.2.3), up to the next white space. Nothing depends on how the bytes are cut.
 */
#ifndef BENCH_SCAN_H
#define BENCH_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/track.h"
#include "core/base/span.h"

/* Where in a header the next byte stands. */
enum scan_place {
	SCAN_NAME,    /* `matched` bytes behind the start of a line, all as in the field's name */
	SCAN_SKIP,    /* in a line of no interest */
	SCAN_LEAD,    /* behind the colon, in front of the value */
	SCAN_LEAD_LF, /* likewise, behind a line feed: the value is folded, or empty */
	SCAN_VALUE,   /* in it */
	SCAN_DONE,    /* id_size says whether it was found */
};

/* Zeroed but for `ending` it is ready: see scan_init. */
struct scan {
	uint8_t ending;  /* bytes of CRLF.CRLF that stand in front of the next byte */
	uint8_t place;   /* enum scan_place */
	uint8_t matched; /* bytes of the field's name */
	uint8_t id_size;
	uint8_t id[TRACK_ID_SIZE + 1]; /* one byte more, by which a longer value is known */
};

void scan_init(struct scan *s);
/* Looks for the id. */
void scan_header(struct scan *s, struct span in);
/* Bytes up to and with the end of data, or all: then *ended is false. */
size_t scan_end(struct scan *s, struct span in, bool *ended);

/* Empty where the header has none, or not yet. */
static inline struct span
scan_id(const struct scan *s)
{
	return s->place == SCAN_DONE ? span_of(s->id, s->id_size) : span_none();
}

#endif
