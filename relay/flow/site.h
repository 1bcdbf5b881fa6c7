/* SPDX-License-Identifier: Apache-2.0
 *
 * site: a destination, that is a list of hosts that serve the same mail, and one worker's view of
 * it: the jobs that wait for it, the connections (channels) to it, and the right to open them.
 *
 * Two parts. `site_info` is what all workers agree on: kind, hosts, limit, home worker. It is made
 * by the main or control thread (site_book_intern), never changes but for its limit, and never goes
 * away, so a number is a lasting name. `struct site` belongs to one worker and is made when first
 * needed.
 *
 * The home worker (by hash of the hosts) keeps the one count of connections. Others ask it for
 * slots and give them back (slots.h); where the limit is too small to share (less than two a
 * worker) only the home delivers, and the others hand their jobs over to it (dispatch.h).
 */
#ifndef RELAY_FLOW_SITE_H
#define RELAY_FLOW_SITE_H

#include <stdatomic.h>

#include "core/net.h"
#include "core/worker.h"
#include "queue/queue.h"
#include "relay/flow/slots.h"

struct flow;

enum site_kind {
	SITE_NOWHERE, /* number 0: no route leads anywhere; its mails wait */
	SITE_SMTP,
	SITE_LMTP,
	SITE_DISCARD,
};

enum { SITES_MAX = 4096, SITE_HOSTS_MAX = 16 };

struct site_info {
	struct site_id id;
	enum site_kind kind;
	unsigned home; /* number of the home worker */
	unsigned host_count;
	struct net_address hosts[SITE_HOSTS_MAX]; /* in order of preference */
	struct span name;                         /* "smtp://192.0.2.1:25,smtp://…", for logs */
	atomic_uint connections_max;              /* over all workers; a reload may change it */
};

struct site_book;

struct site_book *site_book_new(unsigned worker_count);
void site_book_free(struct site_book *b);
/* The site with this kind and name; made where there is none. NULL where SITES_MAX is reached. Main
 * or control thread only; the result may be read by all. A new one has a limit of 1. */
const struct site_info *site_book_intern(struct site_book *b, enum site_kind kind,
					 const struct net_address *hosts, unsigned host_count,
					 struct span name);
const struct site_info *site_book_at(const struct site_book *b, struct site_id id);
/* Main or control thread only. Workers find it when they next look at the site. */
void site_book_set_limit(struct site_book *b, struct site_id id, unsigned connections_max);

static inline unsigned
site_limit(const struct site_info *i)
{
	return atomic_load_explicit(&i->connections_max, memory_order_relaxed);
}

struct site_host {
	uint64_t failed_until_ms; /* monotonic; 0: fine */
	unsigned failures;        /* in a row */
	unsigned ready;           /* connections of ours that are up */
};

struct site {
	uint32_t magic;
	struct flow *flow;
	const struct site_info *info;

	struct list waiting; /* struct job.link: jobs without a channel, own and handed over */
	unsigned waiting_count;
	struct list bodies; /* struct job.body_link: waiting jobs with their body in memory */
	unsigned bodies_count;
	struct list_node bodies_link; /* bodies.h */
	unsigned away;                /* jobs that the home has of us */
	struct list idle;             /* struct channel.link: open, without a job */
	struct list busy;             /* struct channel.link: connecting or with a job */
	unsigned channels;            /* idle + busy + closing */
	unsigned closing;             /* in neither list, but still open */

	struct site_host hosts[SITE_HOSTS_MAX];
	unsigned turn;          /* the host to begin with next time */
	uint64_t down_until_ms; /* no host can be reached: monotonic; 0: up */

	bool due;                /* the queue may have more for this site */
	uint64_t claim_after_ms; /* the last claim failed: monotonic */
	bool claiming;           /* `claim` is with the queue */
	struct queue_claim claim;

	struct slots slots;
	struct slots_home *home; /* only on the home worker */
	struct task pump;        /* site_pump, at most once a turn */
	struct timer again;      /* pump when a mailbox was full or a host may be up again */
	struct list_node link;   /* flow's sites */
};

#define SITE_MAGIC 0x53495445u

/* This worker's view; made where there is none. NULL: no memory. */
struct site *site_of_number(struct flow *f, struct site_id id);
void site_free(struct site *s);

/* Matches waiting jobs with channels, opens channels, asks for slots, hands over, claims more. */
void site_pump_soon(struct site *s);
/* Does only the home deliver to this site? */
bool site_is_home_only(const struct site *s);

/* Which host to try next, in turns over all: one that is not in the bit mask `tried` and has not
 * failed lately; with `any`, also one that has. host_count: none. */
unsigned site_next_host(struct site *s, unsigned tried, bool any);
/* False: it was known already (connections that began together fail together). */
bool site_host_failed(struct site *s, unsigned host);
void site_host_works(struct site *s, unsigned host);

#endif
