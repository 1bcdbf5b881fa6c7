/* SPDX-License-Identifier: Apache-2.0
 *
 * material: mail as it is met, made anew in memory: headers with a few hops, prose, base64.
 *
 * material_make() fills it once; afterwards it is only read. Everything follows from constants, so
 * every run measures the same bytes. The messages are what a receiver hands out: CRLF at each end
 * of line, and no dot-stuffing.
 */
#ifndef BENCH_MICRO_MATERIAL_H
#define BENCH_MICRO_MATERIAL_H

#include <stddef.h>

#include "core/base/span.h"

enum {
	MATERIAL_MAIL_SIZE = 1024,       /* of the mail */
	MATERIAL_BODY_SIZE = 256 * 1024, /* of each text */
	MATERIAL_PIECE_SIZE = 16 * 1024, /* a body comes in pieces of this: one buffer of a ring */
};

/* Numbers in the table of rows. */
enum material_text {
	MATERIAL_PROSE,  /* lines of words, 60 to 72 columns */
	MATERIAL_BASE64, /* an attachment, 76 columns */
	MATERIAL_DOTS,   /* prose of which every fourth line begins with a dot */
	MATERIAL_TEXTS
};

void material_make(void);
/* A whole mail of MATERIAL_MAIL_SIZE bytes with a small header. */
struct span material_mail(void);
/* The header of a mail that came through two hops and a mailing list, without its empty line. */
struct span material_header(void);
/* MATERIAL_BODY_SIZE bytes that end in CRLF. */
struct span material_text(enum material_text text);

#endif
