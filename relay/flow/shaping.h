/* SPDX-License-Identifier: Apache-2.0
 *
 * shaping: how much a site is given at a time, from the options and from what is known of large
 * providers (providers.def).
 *
 * For a site found by MX: the row of `sites` with the longest name that all its hosts have or are
 * below; else such a row of providers.def, within the route's own limit; else the route's and the
 * options of `delivery`. For a next hop of a route: the route's, all of its connections from the
 * beginning, and those of `delivery`.
 * Where nodes share a store, the limits of a row of `sites` and of a next hop hold for all of them
 * together; what is known of providers, and the most of a route to MX hosts, are each node's.
 *
 * Pure; any thread, with a routing that it holds.
 */
#ifndef RELAY_FLOW_SHAPING_H
#define RELAY_FLOW_SHAPING_H

#include "relay/flow/plan.h"

struct routing;

struct shaping {
	uint32_t connections;       /* the most */
	uint32_t connections_first; /* to begin with */
	uint32_t mails_per_connection;
	uint32_t recipients_max; /* of a transaction */
	uint64_t idle_ms;
	uint32_t rate;      /* mails a minute; 0: any */
	bool shared;        /* the limits hold for all nodes (queue/shares.h): an operator's own */
	struct span source; /* who says so: the name of a row or provider, or "route" */
};

struct shaping shaping_of(const struct routing *r, bool by_mx, struct span site);
/* Have all hosts of a site's name ("a.example=b.example,c.example") this name, or are below it? */
bool shaping_covers(struct span name, struct span site);

#endif
