/* SPDX-License-Identifier: Apache-2.0
 *
 * secrets: who we are to smarthosts, from the file that the option `secrets` names. One entry a
 * line: its name (which routes[].auth says), the user's name, and the password, which is the rest
 * of the line; blanks or tabs between them. A line that begins with # is a comment.
 *
 * Read by the main thread at the start, and by the control thread at a reload and when the file has
 * changed; a file that others can read is refused. Immutable, counted atomically, and shared by all
 * workers with the routing that it belongs to. Passwords are wiped when it is freed, and stand in
 * no message: of a bad line only its number is told.
 */
#ifndef RELAY_FLOW_SECRETS_H
#define RELAY_FLOW_SECRETS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/config.h"
#include "core/file.h"

enum { SECRETS_FILE_MAX = 1 << 24, SECRETS_MAX = 100000, SECRET_NAME_MAX = 32 };

struct secret {
	struct span name;
	struct span user;
	struct span password;
};

struct secrets {
	atomic_uint references;
	struct file_identity identity; /* zero where no file is named */
	size_t count;
	struct secret *all; /* by name, in order */
	char *text;         /* what they point into */
	size_t text_size;
};

/* Of a file's text, which is copied. NULL with `name:line: message; remedy`. */
struct secrets *secrets_parse(struct span name, struct span text, struct buf *why);
/* Of the file that the configuration names, or none; `old` (or NULL) where that has not changed.
 * Every entry that a route names must be there. NULL with one line. */
struct secrets *secrets_load(const struct config *config, struct secrets *old, struct buf *why);
struct secrets *secrets_get(struct secrets *s);
void secrets_put(struct secrets *s);
/* NULL: there is none. Lives as long as the secrets. */
const struct secret *secrets_find(const struct secrets *s, struct span name);

/* A number for the state of the file: as it was read, and as it is on disk now. */
uint64_t secrets_state(const struct secrets *s);
uint64_t secrets_state_on_disk(const struct config *config);

#endif
