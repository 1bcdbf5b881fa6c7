/* SPDX-License-Identifier: Apache-2.0
 *
 * user_edit: changes to the text of a file of users (relay/smtp/user_line.h): what is not changed
 * stays byte by byte as it is, comments and lines that are not understood, too. PURE.
 */
#ifndef RELAY_CTL_USER_EDIT_H
#define RELAY_CTL_USER_EDIT_H

#include "relay/smtp/user_line.h"

/* Where the line of a user is: bytes from `at`, with its line end, if it has one. */
struct user_place {
	size_t at;
	size_t size;
};

/* The first line of the text behind *at that is of a user, understood or not; its name in *name.
 * False: there is no other. *at moves behind it. */
bool user_edit_next(struct span text, size_t *at, struct user_place *place, struct span *name);
/* The line of that user; names differ in more than ASCII case. */
bool user_edit_find(struct span text, struct span name, struct user_place *place);
/* Append the new text to `out`; false where it does not fit. `line` has no line end. */
bool user_edit_add(struct span text, struct span line, struct buf *out);
bool user_edit_remove(struct span text, struct user_place place, struct buf *out);
/* With another word in place of the second one of that line. */
bool user_edit_verifier(struct span text, struct user_place place, struct span verifier,
			struct buf *out);
/* What `user list` says of a line: name, password, rights. The keys of the password never. */
void user_edit_show(struct span line, struct buf *out);

#endif
