/* SPDX-License-Identifier: Apache-2.0
 *
 * suspended: the control thread's list of the sites that an operator has suspended, and until when
 * (relay/flow/suspension.h is what workers get of it). Each change is kept in a file, so that a
 * restart does not resume what an operator has stopped.
 *
 * The file has a line a site: until when, a blank, the name. It belongs to the relay, not to
 * people.
 *
 * Times are wall clock milliseconds, 0: until it is resumed. No clock of its own.
 */
#ifndef RELAY_CONTROL_SUSPENDED_H
#define RELAY_CONTROL_SUSPENDED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "core/timer.h"
#include "relay/flow/suspension.h"

struct suspended_site {
	struct span name; /* heap */
	uint64_t until_ms;
};

struct suspended {
	struct suspended_site sites[SUSPENSIONS_MAX];
	unsigned count;
	uint64_t version; /* grows with each change */
	struct timer over;
};

/* Adds it or changes its time. False: SUSPENSIONS_MAX is reached, or there is no memory. */
bool suspended_add(struct suspended *s, struct span name, uint64_t until_ms);
/* False: it was not there. */
bool suspended_remove(struct suspended *s, struct span name);
const struct suspended_site *suspended_find(const struct suspended *s, struct span name);
/* One whose time is over, or NULL. */
const struct suspended_site *suspended_over(const struct suspended *s, uint64_t now_wall_ms);
/* When the first is over; 0: none will be. */
uint64_t suspended_next_ms(const struct suspended *s);
/* What workers are to be given; one reference. NULL: no memory. */
struct suspensions *suspended_list(const struct suspended *s);
/* Adds what the file lists; none is an empty list. False with a line in `why`. */
bool suspended_load(struct suspended *s, const char *file, struct buf *why);
/* False with errno. */
bool suspended_save(const struct suspended *s, const char *file);
void suspended_fini(struct suspended *s);

#endif
