/* SPDX-License-Identifier: Apache-2.0
 *
 * routing: one configuration as the flow uses it: options of the protocol machines, and the site
 * that each route leads to. Immutable and shared by all workers; counted references, since sessions
 * and transactions finish on the one that they began with.
 *
 * Made by the main or control thread for each configuration (it interns sites), read by workers.
 */
#ifndef RELAY_FLOW_ROUTING_H
#define RELAY_FLOW_ROUTING_H

#include <stdatomic.h>

#include "core/config.h"
#include "queue/mail.h"
#include "relay/flow/site.h"
#include "relay/smtp/receiver.h"
#include "relay/smtp/sender.h"

struct routing {
	atomic_uint references;
	const struct config *config;
	struct receiver_options receiver;
	struct sender_options sender[2]; /* [0] SMTP, [1] LMTP */
	struct site_id *route_sites;     /* by index of config->routes */
};

/* Takes its own reference of `config`. NULL with a line in `why`. */
struct routing *routing_new(struct site_book *book, const struct config *config, struct buf *why);
struct routing *routing_get(struct routing *r);
void routing_put(struct routing *r);

/* The site for an address "local@domain" (or "postmaster"); number 0 where no route leads. */
struct site_id routing_site(const struct routing *r, struct span address);
/* The domain of an address; empty for "postmaster". */
struct span address_domain(struct span address);

#endif
