/* SPDX-License-Identifier: Apache-2.0
 *
 * user: `ringpostctl user add|passwd|list|remove`, which work on the file of users itself:
 * ringpostd need not run, and reads the changed file by itself.
 *
 * A change is written beside the file and takes its place by renaming, with its owner and mode; a
 * lock on the directory lets changes follow each other. A password comes from the terminal, without
 * echo, or as the first line of standard input; never from the command line, which all users of a
 * host can see.
 */
#ifndef RELAY_CTL_USER_H
#define RELAY_CTL_USER_H

#include "core/base/buf.h"

/* argv[0] is "user". The exit status of the program. */
int user_main(int argc, char **argv);
/* The commands and options, for people. */
void user_help(struct buf *out);
/* The same for completion, as arguments_list() writes it. */
void user_list_commands(struct buf *out);

#endif
