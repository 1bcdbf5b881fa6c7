/* SPDX-License-Identifier: Apache-2.0
 *
 * fixup: what is changed of a message while it passes. Of all mail, Authentication-Results fields
 * in our name are taken out, which nobody else can have written (RFC 8601 5). Of what a user
 * submits (RFC 6409 8), Bcc fields are taken out, and a Date and a Message-ID are added where there
 * is none.
 *
 * PURE, in whatever pieces the message comes, with FIXUP_HELD_MAX bytes of memory. fixup_step()
 * takes a prefix of the input and gives a piece of what is to be kept in its place, perhaps
 * nothing; the piece lies in the input, in the fixup or in a text of its options, and is good until
 * the next call. Called again until all input is taken; then fixup_finish() until it says that
 * nothing is left. Whatever is not named above comes out byte for byte, and nothing depends on how
 * the bytes were cut.
 *
 * A field that is taken out goes whole, with its continuation lines. Fields that are missing are
 * added behind the others: only at the end of the header is it known that they are. The header ends
 * as for header.h, at an empty line or at a line that is no field; in front of such a line an empty
 * one is added too where fields are. A name of a field that does not fit the memory, with the
 * blanks behind it, ends the looking: the rest is left alone, and nothing is added.
 *
 * Authentication-Results fields are looked for up to the empty line, whatever stands in between:
 * some readers pass over a line that is no field (that of a mailbox, `From joe ...`) and believe
 * what follows. The field is held until it is known whose it is (authres.h); where FIXUP_HELD_MAX
 * bytes of comments and folds do not tell, or nothing does that could be understood, it is taken
 * out too.
 */
#ifndef RELAY_MESSAGE_FIXUP_H
#define RELAY_MESSAGE_FIXUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"
#include "relay/message/authres.h"

enum {
	FIXUP_NAME_MAX = 256, /* of a name, with the blanks behind it */
	FIXUP_HELD_MAX = 1024,
};

struct fixup_options {
	bool drop_bcc; /* Bcc and Resent-Bcc */
	/* Whole fields with their CRLF, to be added where the message has none; empty: never. They
	 * live as long as the fixup. */
	struct span date;
	struct span message_id;
	struct span authserv_id; /* ours; empty: nothing is looked for. It lives as long, too. */
};

struct fixup {
	struct fixup_options options;
	uint8_t state; /* enum in fixup.c */
	uint8_t due;   /* what is to be given out before anything else is taken */
	bool has_date;
	bool has_message_id;
	bool dropping;  /* the field before was taken out */
	bool is_over;   /* the header has ended for all but Authentication-Results */
	uint16_t taken; /* such fields in our name, taken out */
	uint16_t held_size;
	struct authres_id id;         /* of the field that is held */
	uint8_t held[FIXUP_HELD_MAX]; /* the start of a line of which it is not known what it is */
};

void fixup_init(struct fixup *f, const struct fixup_options *options);
size_t fixup_step(struct fixup *f, struct span in, struct span *out);
/* The message has ended: gives the rest, piece by piece; false where there is none (any more). */
bool fixup_finish(struct fixup *f, struct span *out);

#endif
