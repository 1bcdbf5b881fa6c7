/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: the hosts that take certain mail, in order of preference, and the name of the site that
 * they are: what became of a route's list or of a domain's MX records.
 *
 * Immutable, counted atomically: jobs carry it to other workers, and sites keep the newest. Two
 * plans with the same kind and name lead to the same site; their addresses may differ when one of
 * them is older.
 */
#ifndef RELAY_FLOW_PLAN_H
#define RELAY_FLOW_PLAN_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/config.h"
#include "dns/mx.h"

/* Bits of a mask. */
enum { PLAN_HOSTS_MAX = 32 };

enum site_kind {
	SITE_NOWHERE, /* no route leads anywhere: its mails wait */
	SITE_SMTP,
	SITE_LMTP,
	SITE_DISCARD,
};

/* One address. */
struct plan_host {
	struct net_address address;
	struct span name; /* of the MX host, or of the configuration; empty: by number */
	uint8_t rank;     /* hosts of the same rank are equals; 0 comes first */
	bool secure;      /* the way from its name to its address was validated */
};

struct plan {
	atomic_uint references;
	enum site_kind kind; /* SMTP or LMTP */
	bool by_mx;
	bool mx_secure;
	uint64_t hash;    /* of kind and name */
	struct span name; /* of the site */
	unsigned host_count;
	struct plan_host hosts[];
};

/* Of what was found for a domain (MX_FOUND). NULL: no memory. */
struct plan *plan_of_mx(const struct mx_hosts *found);
/* Of a route's list; answers[i] is what was found for hosts[i] by name, NULL where nothing was, or
 * where it is a number. NULL: no memory. It may have no hosts. */
struct plan *plan_of_target(const struct config_target *target, struct mx_hosts *const *answers);
struct plan *plan_get(struct plan *p);
void plan_put(struct plan *p);

uint64_t plan_hash(enum site_kind kind, struct span name);
/* How one may see it: the name of the host, or its number, with the port where that is not 25. */
void plan_host_show(const struct plan_host *h, struct buf *out);

#endif
