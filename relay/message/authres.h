/* SPDX-License-Identifier: Apache-2.0
 *
 * authres: the Authentication-Results field (RFC 8601), the one writer and the one reader of it,
 * for whatever method.
 *
 * PURE. The writer is called in the order of the field: authres_begin, then for each method
 * authres_method with its reason, properties and comments behind it, then authres_end. It folds in
 * front of what would pass column 78, and writes as quoted strings what cannot stand as a token or
 * as an address; of what it is given nothing can break out of its place: controls become '?', and
 * so do bytes beyond ASCII unless `utf8` allows well-formed ones (RFC 8616). Without a method the
 * field says `none`. A value is cut to AUTHRES_TEXT_MAX bytes, so that no line passes 998.
 *
 * The reader takes the value of a field, with its folds and comments as they stood: authres_open
 * reads who it is from, and authres_next one thing after the other until AUTHRES_END. What is not
 * of the grammar is AUTHRES_BAD. Wider than the grammar in what is common: an unquoted value may
 * have any printable character but those that end it (blank, semicolon, parentheses, quotes), a
 * semicolon may stand at the end, and a comment may stand wherever a blank may. Comments themselves
 * are left out. Quoted pairs are resolved; of an address with a quoted local part the quotes stay.
 *
 * authres_id alone tells, byte by byte, who a field is from: a field that bears the name of the
 * one who reads it must be found before all of it has come (fixup.h).
 */
#ifndef RELAY_MESSAGE_AUTHRES_H
#define RELAY_MESSAGE_AUTHRES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	AUTHRES_TEXT_MAX = 400,  /* bytes of a value that is written; quoted up to twice as many */
	AUTHRES_READ_MAX = 1000, /* of one that is read, without its quotes */
	AUTHRES_ID_MAX = 255,
	AUTHRES_VERSION = 1,
};

/* ---- writing ---- */

struct authres_writer {
	struct buf *out;
	size_t start;  /* of the field in out */
	size_t column; /* in the present line */
	bool utf8;
	bool any; /* a method was written */
};

/* "Authentication-Results: id" */
void authres_begin(struct authres_writer *w, struct buf *out, struct span id, bool utf8);
/* "; method=result"; `version` of the method, AUTHRES_VERSION is left out. */
void authres_method(struct authres_writer *w, struct span method, unsigned version,
		    struct span result);
/* " (comment)", behind whatever was written last. */
void authres_comment(struct authres_writer *w, struct span text);
/* " reason=..."; directly behind a method. */
void authres_reason(struct authres_writer *w, struct span text);
/* " ptype.property=value" */
void authres_property(struct authres_writer *w, struct span ptype, struct span property,
		      struct span value);
/* The end of the field, with its CRLF. False where it did not fit: nothing was written. */
bool authres_end(struct authres_writer *w);

/* ---- who a field is from ---- */

enum authres_id_event {
	AUTHRES_ID_MORE,  /* the byte is taken, more are needed */
	AUTHRES_ID_KNOWN, /* `text`; the byte is not taken where it was a token */
	AUTHRES_ID_BAD,   /* it is from nobody */
};

struct authres_id {
	uint8_t state; /* enum in authres.c */
	bool escaped;
	bool cut; /* it is longer than AUTHRES_ID_MAX, and so nobody's */
	uint16_t depth;
	uint16_t size;
	uint8_t text[AUTHRES_ID_MAX];
};

void authres_id_init(struct authres_id *m);
/* Not after KNOWN or BAD. */
enum authres_id_event authres_id_feed(struct authres_id *m, uint8_t c);
/* The field has ended. */
enum authres_id_event authres_id_finish(struct authres_id *m);
/* Is it this one? ASCII case and a dot at the end do not count. */
bool authres_id_is(const struct authres_id *m, struct span id);

/* ---- reading ---- */

enum authres_event {
	AUTHRES_METHOD,   /* name, version, result */
	AUTHRES_REASON,   /* value */
	AUTHRES_PROPERTY, /* ptype, name, value */
	AUTHRES_END,      /* again on every further call */
	AUTHRES_BAD,      /* likewise */
};

struct authres_reader {
	struct span rest;
	uint8_t state; /* enum in authres.c */
	bool took_reason;
	unsigned version;     /* of the field */
	struct authres_id id; /* whose it is */
};

/* Spans are good until the next call. */
struct authres_item {
	struct span name; /* METHOD, PROPERTY */
	unsigned version; /* METHOD */
	struct span result;
	struct span ptype;
	struct span value;
	uint8_t memory[AUTHRES_READ_MAX];
};

/* False where it is not even said whose it is. */
bool authres_open(struct authres_reader *r, struct span value);
enum authres_event authres_next(struct authres_reader *r, struct authres_item *item);

#endif
