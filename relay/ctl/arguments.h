/* SPDX-License-Identifier: Apache-2.0
 *
 * arguments: the command line of ringpostctl as a request of the admin socket. PURE, but for the
 * memory that jansson takes.
 *
 * Which options a command has and what they may be comes from the table that the daemon reads
 * requests by (relay/admin/protocol.h), and the finished request is read by the daemon's own
 * parser: what the daemon would refuse as wrong usage is refused here, with the same words, also
 * while it does not run.
 */
#ifndef RELAY_CTL_ARGUMENTS_H
#define RELAY_CTL_ARGUMENTS_H

#include <stdbool.h>

#include "relay/admin/protocol.h"

#define ARGUMENTS_SOCKET "/run/ringpost/admin.sock"

struct arguments {
	const char *socket;
	bool json;
	bool help;        /* of `command`, or of all */
	bool has_command; /* `command` is known */
	bool list;        /* print all commands and options, for completion */
	bool version;
	bool yes;            /* many mails are meant: nobody needs to be asked */
	uint64_t timeout_ms; /* for the answer; 0: as the command needs */
	enum admin_command command;
};

/* Fills `out` and appends the request's line to `line` where a command was given and no help asked
 * for. False with one line in `why`: wrong usage. */
bool arguments_read(int argc, const char *const *argv, struct arguments *out, struct buf *line,
		    struct buf *why);
/* All commands, or one with its options, for people. */
void arguments_help(const struct arguments *a, struct buf *out);
/* One line a command: its words and its options. */
void arguments_list(struct buf *out);

#endif
