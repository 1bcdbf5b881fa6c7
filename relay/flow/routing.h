/* SPDX-License-Identifier: Apache-2.0
 *
 * routing: one configuration as the flow uses it: options of the protocol machines, who we are to
 * other mail hosts, and what each route leads to. Immutable and shared by all workers; counted
 * references, since sessions and transactions finish on the one that they began with.
 *
 * Made by the main or control thread for each configuration, and when a file of recipients, users
 * or secrets has changed; read by workers.
 */
#ifndef RELAY_FLOW_ROUTING_H
#define RELAY_FLOW_ROUTING_H

#include <stdatomic.h>

#include "core/base/arena.h"
#include "core/config.h"
#include "dns/mx.h"
#include "relay/flow/plan.h"
#include "relay/flow/recipients.h"
#include "relay/flow/secrets.h"
#include "relay/flow/users.h"
#include "relay/message/dsn.h"
#include "relay/smtp/receiver.h"
#include "relay/smtp/sender.h"
#include "tls/tls.h"

/* What a route says of the way there besides the hosts. */
struct routing_way {
	struct tls_policy policy;
	struct span auth; /* the entry of `secrets`; empty: none */
	struct span name; /* of its destination: the target's text, and plan_key() */
};

struct routing {
	atomic_uint references;
	const struct config *config;
	struct recipients *recipients;      /* of the files that it names, as they were then */
	struct users *users;                /* likewise */
	struct secrets *secrets;            /* likewise */
	struct receiver_options *receivers; /* by listener */
	struct sender_options sender[2];    /* [0] SMTP, [1] LMTP */
	struct mx_self self;                /* for the loop check of MX records */
	struct routing_way *ways;           /* by route */
	struct arena texts;
	/* By hash of the way's name, open addressing: index of a route plus 1. */
	uint32_t *targets;
	size_t targets_mask;
	uint32_t *connections; /* by route: the least of all routes with its name */
	/* Texts of reports by action; NULL: built in. Set by who made the routing, before anybody
	 * else sees it; one piece of memory, ours. */
	struct dsn_template *templates;
	struct tls_setup *tls; /* set likewise; one reference, or NULL: no TLS */
};

/* Our name in Authentication-Results. */
static inline struct span
routing_authserv_id(const struct config *config)
{
	return config->authserv_id.size > 0 ? config->authserv_id : config->hostname;
}

/* Takes its own reference of `config`, and reads its files of recipients, users and secrets, but
 * for those that `old` (or NULL) has as they are. NULL with a line in `why`. */
struct routing *routing_new(const struct config *config, const struct routing *old,
			    struct buf *why);
struct routing *routing_get(struct routing *r);
void routing_put(struct routing *r);

/* What a listener does about TLS: not LISTENER_TLS_AUTO. */
enum config_listener_tls routing_listener_tls(const struct config *config, size_t listener);

/* Where mail for an address goes. */
struct routing_step {
	enum site_kind kind;
	bool by_mx;                         /* ask for the MX hosts of `domain` */
	const struct config_target *target; /* NULL for SITE_NOWHERE */
	const struct routing_way *way;      /* likewise */
	struct span domain;                 /* of the address; the hostname for "postmaster" */
};

struct routing_step routing_find(const struct routing *r, struct span address);
struct routing_step routing_find_domain(const struct routing *r, struct span domain);
/* The limit of the routes with this name ("mx", "smtp://192.0.2.1:25", "smtp://192.0.2.1:25
 * tls=verify"), also of the site that it becomes with DANE; 1 where there is none. */
uint32_t routing_connections(const struct routing *r, struct span name);
/* The domain of an address; empty for "postmaster". */
struct span address_domain(struct span address);

#endif
