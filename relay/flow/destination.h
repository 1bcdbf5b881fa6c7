/* SPDX-License-Identifier: Apache-2.0
 *
 * destination: where a recipient's mail goes, by the routes alone: a route's list of hosts, or a
 * domain whose MX hosts are asked for. What the mail itself wants of the way there (RFC 8689) makes
 * another destination of it, with other hosts maybe, and another site. One worker's; its number is
 * what the queue calls the site of an item.
 *
 * A destination finds its hosts (a plan) when there is something to deliver, keeps them for as long
 * as the DNS says, and leads to the site that they are; many domains may share one. It claims its
 * own items from the queue as the site has room for them. While it asks, a few of its jobs wait
 * here, and the rest in the queue. Where there are no hosts, its jobs fail or are deferred with the
 * reason, again for as long as the DNS says.
 *
 * Lifetime: a number means the same destination from the moment that it is given out until nobody
 * holds it: neither a transaction nor a job (destination_hold), nor an item of the queue
 * (destination_queued until on_site_unused). Then it goes when it has not been used for a while.
 * Number 0 is SITE_NOWHERE.
 */
#ifndef RELAY_FLOW_DESTINATION_H
#define RELAY_FLOW_DESTINATION_H

#include "core/worker.h"
#include "queue/queue.h"
#include "relay/flow/routing.h"
#include "relay/flow/sts.h"

struct flow;
struct job;
struct site;

enum {
	DESTINATION_WHY_MAX = PLAN_WHY_MAX,
	DESTINATIONS_MAX = 1 << 20, /* of a worker */
	DESTINATION_BUCKETS = 4096,
	DESTINATION_RESOLVING_MAX = 16, /* jobs that wait here for the DNS */
};

struct destination {
	uint32_t magic;
	struct flow *flow;
	struct site_id id;
	enum site_kind kind;
	bool by_mx;
	enum tls_need need;       /* of its mails */
	struct span name;         /* "smtp://192.0.2.1:25"; of MX the domain, "example.org" */
	struct destination *next; /* in its bucket */
	struct list_node link;    /* of flow->destinations.all */
	uint32_t holders;         /* transactions and jobs */
	bool queued;              /* the queue names it */
	uint64_t used_at_ms;      /* monotonic */

	struct routing *routing; /* target and way belong to it; NULL of MX and NOWHERE */
	const struct config_target *target;
	const struct routing_way *way;
	const struct routing *looked_by; /* of MX; only compared: the plan is of its policy */
	struct plan *plan;               /* NULL: none (yet) */
	enum mx_outcome outcome;         /* of the last lookup, where that found no hosts */
	bool uncertain;          /* UNPROTECTED: a host or a policy may do after all, later */
	char *why;               /* in words, own memory; NULL: it found some, or is yet to be */
	uint64_t expires_at_ms;  /* of plan or failure; monotonic */
	struct mx_lookup lookup; /* the present one */
	bool looking;
	struct sts_lookup sts;     /* beside it, where the route leaves the policy to the domain */
	struct mx_hosts *found;    /* by lookup, while sts is not done; a reference */
	unsigned asked;            /* host of the target that is being asked for */
	struct mx_hosts **answers; /* by host of the target, while looking for several */

	struct list resolving; /* struct job.resolving_link */
	unsigned resolving_count;
	struct site *site;            /* that the plan leads to; NULL: none */
	struct list_node hungry_link; /* of site->hungry: due, and could claim */
	struct site *claimed_for;     /* whose claim is under way; NULL: of none */

	bool due; /* the queue may have more */
	bool claiming;
	uint64_t claim_after_ms; /* the last claim failed: monotonic */
	struct queue_claim claim;
	struct task pump;
	struct timer again;
};

#define DESTINATION_MAGIC 0x44455354u

/* All of one worker's. */
struct destinations {
	struct destination *buckets[DESTINATION_BUCKETS];
	struct destination **by_number;
	uint32_t numbers;   /* of by_number */
	uint32_t next_free; /* numbers below were given out at least once */
	uint32_t *free;     /* numbers to be given out again */
	uint32_t free_count;
	uint32_t count;
	uint32_t looking; /* lookups under way */
	struct list all;
	struct timer sweep;
};

bool destinations_init(struct flow *f);
void destinations_fini(struct flow *f);

/* For an address; made where there is none. NULL: no memory, or too many. Hold it, or let the queue
 * name it, in the same turn. */
struct destination *destination_of(struct flow *f, const struct routing *r, struct span address,
				   enum tls_need need);
/* By the flags of a mail's envelope. */
enum tls_need destination_need(uint32_t mail_flags);
struct destination *destination_at(const struct flow *f, struct site_id id);
/* Do these routes lead the address of a mail with this need there? */
bool destination_serves(const struct destination *d, const struct routing *r, struct span address,
			enum tls_need need);
void destination_hold(struct destination *d);
void destination_release(struct destination *d);
/* The queue names it from now on; no more. */
void destination_queued(struct destination *d);
void destination_unused(struct destination *d);

/* The queue has something due for it. */
void destination_due(struct destination *d);
/* Brings a job of this worker to the site's line, or lets it wait for the DNS, or ends it. */
void destination_deliver(struct destination *d, struct job *j);
/* Is there room for one more job? False also while it is being looked for and enough wait. */
bool destination_has_room(const struct destination *d);
/* The site has room: claims. Called by the site for those in its list `hungry`. */
void destination_claim(struct destination *d);
void destination_pump_soon(struct destination *d);
/* For a drain: what waits for the DNS goes back to the queue. */
void destinations_drain(struct flow *f);
bool destination_is_busy(const struct destination *d);

#endif
