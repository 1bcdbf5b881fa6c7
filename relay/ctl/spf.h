/* SPDX-License-Identifier: Apache-2.0
 *
 * spf: `ringpostctl spf`: what SPF says of a mail, with every step, and what is wrong with a
 * record.
 *
 * ringpostd need not run: the questions go to the resolvers of this host, validated where the
 * root's trust anchor is installed, or to the one of --dns, whose word is believed. Ends with 0
 * where there is an answer (whatever it is; a record without errors), 1 where a record has errors,
 * 2 for wrong usage.
 */
#ifndef RELAY_CTL_SPF_H
#define RELAY_CTL_SPF_H

#include "core/base/buf.h"

/* argv[0] is the word "spf". */
int spf_main(int argc, char **argv);
/* One line a command: its words and its options, as arguments_list(). */
void spf_list_commands(struct buf *out);

#endif
