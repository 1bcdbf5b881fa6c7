/* SPDX-License-Identifier: Apache-2.0
 *
 * suspension: the sites to which an operator lets nothing be delivered, by name.
 *
 * The control thread keeps the list, makes an immutable one at each change, and gives it to every
 * worker by mailbox (flow_suspend); references are counted, as those of a routing. A suspended site
 * starts no delivery and claims nothing; transactions that are under way end as they would; jobs
 * that wait go back to the queue untried, due at once, so that they come first when it is resumed.
 * Suspension is no reason to fail: a mail whose time passes meanwhile is tried once more.
 */
#ifndef RELAY_FLOW_SUSPENSION_H
#define RELAY_FLOW_SUSPENSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/span.h"

struct flow;
struct suspensions;

enum { SUSPENSIONS_MAX = 1000 };

/* Copies the names. Of two lists the one with the higher version is the newer. NULL: no memory. */
struct suspensions *suspensions_new(const struct span *names, unsigned count, uint64_t version);
struct suspensions *suspensions_get(struct suspensions *s);
void suspensions_put(struct suspensions *s);
/* NULL is an empty list. */
bool suspensions_have(const struct suspensions *s, struct span name);

/* On the worker: from now on these, unless it has newer ones; takes its own reference. */
void flow_suspend(struct flow *f, struct suspensions *s);
/* Is it to start nothing? */
bool flow_suspends(const struct flow *f, struct span name);

#endif
