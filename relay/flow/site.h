/* SPDX-License-Identifier: Apache-2.0
 *
 * site: hosts that serve the same mail, and one worker's view of them: the jobs that wait for them,
 * the connections (channels) to them, and the right to open them. All domains whose MX hosts are
 * the same share one site (dns/mx.h); so do all routes with the same list.
 *
 * A site is known by kind and name on all workers and made on each when first needed there. Its
 * home worker (by hash) keeps the one count of connections and what was learnt of how many it takes
 * (window.h). Others ask it for slots and give them back (slots.h); where the limit is too small to
 * share (less than two a worker), or mails are counted by the minute, only the home delivers, and
 * the others hand their jobs over to it (dispatch.h).
 *
 * A host that fails is left alone for a while that grows with each failure; when all are, the site
 * is down, and its mail waits in the queue untried. A site goes when it has not been used for a
 * while and nothing of it is open.
 */
#ifndef RELAY_FLOW_SITE_H
#define RELAY_FLOW_SITE_H

#include "core/net.h"
#include "core/worker.h"
#include "queue/queue.h"
#include "relay/flow/line.h"
#include "relay/flow/plan.h"
#include "relay/flow/shaping.h"
#include "relay/flow/slots.h"

struct flow;
struct job;

enum { SITE_BUCKETS = 4096 };

/* An address of the site. Its place in site.hosts is its bit in masks; it keeps that place while a
 * channel leads to it, also when it is in no plan any more. */
struct site_host {
	struct plan_host host;    /* its name is the plan's, or empty where it is in none */
	bool planned;             /* it is in the present plan */
	uint64_t failed_until_ms; /* monotonic; 0: fine */
	unsigned failures;        /* in a row */
	/* Its handshakes fail, and it may be given mail without TLS: monotonic; 0: fine. */
	uint64_t tls_broken_until_ms;
	unsigned channels; /* that lead to it */
	unsigned ready;    /* of them, those that are up */
};

/* For people: report.h. */
struct site_failure {
	uint64_t at_ms; /* wall clock; 0: none */
	uint8_t size;
	uint8_t text[200];
};

struct site {
	uint32_t magic;
	struct flow *flow;
	enum site_kind kind;
	bool by_mx;
	uint64_t hash;
	struct span name;                /* own memory */
	unsigned home;                   /* number of the home worker */
	struct site *next;               /* in its bucket */
	struct plan *plan;               /* the newest; NULL: known by a letter alone */
	const struct routing *shaped_by; /* only compared: shaping is of this configuration */
	struct shaping shaping;
	uint64_t used_at_ms; /* monotonic */

	struct line waiting; /* struct job.line: jobs without a channel, own and handed over */
	struct list bodies;  /* struct job.body_link: waiting jobs with their body in memory */
	unsigned bodies_count;
	struct list_node bodies_link; /* bodies.h */
	unsigned away;                /* jobs that the home has of us */
	struct list idle;             /* struct channel.link: open, without a job */
	struct list busy;             /* struct channel.link: connecting or with a job */
	unsigned channels;            /* idle + busy + closing */
	unsigned closing;             /* in neither list, but still open */

	struct site_host *hosts;
	unsigned host_count;
	unsigned turn;          /* the host to begin with next time */
	uint64_t down_until_ms; /* no host can be reached: monotonic; 0: up */
	uint64_t next_mail_us;  /* with a rate: not before; monotonic */
	bool suspended;         /* by an operator: starts nothing */
	bool home_only;         /* site_is_home_only, when it was last pumped */
	bool proven; /* it has answered since it was last down; a route's own hosts are taken to */
	struct list_node wanting_link; /* of flow->wanting: it waits for a connection */
	struct site_failure failure;   /* the last one of a host */

	struct list hungry;    /* struct destination.hungry_link */
	unsigned claiming;     /* claims of its destinations under way */
	unsigned destinations; /* that lead here */

	struct slots slots;
	struct slots_home *home_part; /* only on the home worker */
	struct task pump;             /* site_pump, at most once a turn */
	struct timer again;           /* pump when a mailbox was full or a host may be up again */
	struct list_node link;        /* flow's sites */
};

#define SITE_MAGIC 0x53495445u

/* This worker's view; made where there is none. NULL: no memory. */
struct site *site_of_plan(struct flow *f, struct plan *p);
struct site *site_of_name(struct flow *f, enum site_kind kind, bool by_mx, struct span name);
/* NULL: it does not exist here. */
struct site *site_named(const struct flow *f, enum site_kind kind, struct span name);
/* Takes the addresses of this plan for what begins from now on. */
void site_take_plan(struct site *s, struct plan *p);
void site_free(struct site *s);
/* Frees those that have had nothing to do for a while. */
void sites_sweep(struct flow *f);

/* Matches waiting jobs with channels, opens channels, asks for slots, hands over, claims more. */
void site_pump_soon(struct site *s);
/* Does only the home deliver to this site? */
bool site_is_home_only(struct site *s);
/* Under the present configuration. */
const struct shaping *site_shaping(struct site *s);

/* Which host to try next: of the best rank, in turns over equals; one that is not in the bit mask
 * `tried` and has not failed lately; with `any`, also one that has. host_count: none. */
unsigned site_next_host(struct site *s, unsigned tried, bool any);
/* Hosts of the present plan that are not in the mask. */
unsigned site_hosts_left(const struct site *s, unsigned tried);
/* Have all its hosts failed lately, and not shown since that they work? */
bool site_is_doubtful(const struct site *s);
/* False: it was known already (connections that began together fail together). */
bool site_host_failed(struct site *s, unsigned host);
void site_host_works(struct site *s, unsigned host);

#endif
