/* SPDX-License-Identifier: Apache-2.0
 *
 * admin_queue: what the commands of the admin socket about the queue share: filters made from a
 * request, and words for what the queue says. Control thread.
 */
#ifndef RELAY_CONTROL_ADMIN_QUEUE_H
#define RELAY_CONTROL_ADMIN_QUEUE_H

#include "queue/queue.h"
#include "relay/control/admin.h"

/* What of the request's filters the queue itself looks at. */
void admin_filter(const struct admin_client *c, struct queue_filter *f);
/* The name of the site that is asked for, or NULL. Only workers know numbers of sites, each its
 * own: they compare names. */
const struct span *admin_filter_site(const struct admin_client *c);
/* enum queue_state as a word. */
struct span admin_state_word(unsigned queue_state);

#endif
