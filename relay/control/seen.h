/* SPDX-License-Identifier: Apache-2.0
 *
 * seen: the mails that an act by filter has come across, for all workers together. In a store that
 * nodes share a mail moves while they look: given back by one worker, it is found in Redis by
 * another, and would be acted upon, and told of, twice.
 *
 * Lock-free; ids are random, so half of one is enough. Bounded: of what does not fit nobody knows
 * whether it was there before.
 */
#ifndef RELAY_CONTROL_SEEN_H
#define RELAY_CONTROL_SEEN_H

#include <stdbool.h>

#include "queue/mail.h"

struct seen;

struct seen *seen_new(void); /* NULL: no memory */
void seen_free(struct seen *s);
/* Is it new? It is not any more. On any worker. */
bool seen_add(struct seen *s, struct mail_id id);

#endif
