/* SPDX-License-Identifier: Apache-2.0
 *
 * flow: what one worker does with mail: the sessions of clients, the sites and channels to next
 * hops, and the jobs between them. It joins the pure machines (relay/smtp) with connections
 * (core/conn.h) and the queue (queue/queue.h); it holds no protocol text and does no I/O itself.
 *
 * Made on the main thread (flow_new), started on the worker's own (flow_start), and told of a new
 * configuration through the worker's mailbox (flow_adopt). Draining (flow_drain): listeners close,
 * idle sessions get 421, mails under way are finished, waiting jobs go back to the queue, and when
 * nothing is left, or the time for it is over, on_drained runs once.
 *
 * Budgets of the process are divided by the number of workers when the pools are made.
 */
#ifndef RELAY_FLOW_FLOW_H
#define RELAY_FLOW_FLOW_H

#include "core/base/buf.h"
#include "core/base/pool.h"
#include "core/worker.h"
#include "queue/queue.h"
#include "relay/flow/bodies.h"
#include "relay/flow/bounce.h"
#include "relay/flow/callout.h"
#include "relay/flow/destination.h"
#include "relay/flow/dovecot_link.h"
#include "relay/flow/inbound.h"
#include "relay/flow/listener.h"
#include "relay/flow/lockout.h"
#include "relay/flow/peer_login.h"
#include "relay/flow/login.h"
#include "relay/flow/overdue.h"
#include "relay/flow/routing.h"
#include "relay/flow/site.h"
#include "relay/flow/sts.h"
#include "relay/flow/suspension.h"
#include "relay/flow/suspects.h"
#include "relay/flow/tls_tally.h"

enum { FLOW_SCRATCH_SIZE = 32 * 1024, FLOW_LISTENERS_MAX = 64 };

struct flow {
	uint32_t magic;
	struct worker *worker;
	struct routing *routing;         /* for what begins now; one reference */
	struct suspensions *suspensions; /* one reference, or NULL: none */
	struct destinations destinations;
	struct site *sites[SITE_BUCKETS];
	struct list site_list;

	struct pool sessions;
	struct pool transactions;
	struct pool channels;
	struct pool jobs;
	struct peer_logins peer_logins;
	size_t session_count;
	size_t channel_count;
	size_t job_count;
	size_t busy_count;       /* channels with a job */
	size_t committing_count; /* puts that the queue has */
	bool jobs_were_full;     /* sites that could not claim wait for jobs to end */
	struct list connecting;  /* struct channel.connecting_link, the oldest first */
	struct list wanting[2]; /* struct site.wanting_link: sites that wait for a connection of the
				 * budget; [1]: all of whose hosts failed lately */
	struct timer patience;  /* the oldest of `connecting` gives way */

	struct listener listeners[FLOW_LISTENERS_MAX];
	unsigned listener_count;
	struct suspects suspects;
	struct bodies bodies;
	struct bounces bounces;
	struct callouts callouts;
	struct tls_tally *tls_tally; /* NULL: nothing was counted since it was taken */
	struct sts_asker sts;        /* its source is set before the worker starts */
	struct lockouts lockouts;
	struct logins logins;
	struct dovecot_link dovecot;
	struct overdue overdue;
	struct buf scratch; /* of the sender machines; empty between steps */
	uint8_t *scratch_memory;
	uint64_t key_seed; /* of the limits' keys: the same for all workers, secret */

	bool rests; /* an operator drains this node: nothing begins, all sites are suspended */
	bool draining;
	bool cut_off; /* the time for it is over */
	bool drained; /* on_drained was called */
	struct timer drain_deadline;
	struct task drain_check;
	void (*on_drained)(struct flow *f, void *context);
	void *drained_context;
};

#define FLOW_MAGIC 0x464c4f57u

/* Takes its own reference of `routing`. NULL: no memory. */
struct flow *flow_new(struct worker *w, struct routing *routing, uint64_t key_seed);
void flow_free(struct flow *f);

/* On the worker: starts to accept on these descriptors, which listen (by config->listeners). */
void flow_start(struct flow *f, const int *fds, unsigned count);
/* On the worker: what begins from now on uses this routing; takes its own reference. */
void flow_adopt(struct flow *f, struct routing *routing);
/* On the worker. */
void flow_drain(struct flow *f, void (*on_drained)(struct flow *f, void *context), void *context);
/* To be called wherever something ends that a drain may wait for. */
void flow_check_drained(struct flow *f);

/* Hooks for queue_open; context is not used. */
void flow_on_due(struct queue *q, struct site_id site);
struct site_id flow_site_of(struct queue *q, struct span address, uint32_t flags);
void flow_on_site_unused(struct queue *q, struct site_id site);
uint32_t flow_weight_of(struct queue *q, struct span sender);
void flow_on_drain(struct queue *q, bool drains);
/* The weight of a sender among those that wait for one site. */
uint32_t flow_weight(const struct flow *f, struct span sender);
/* Counts a session for reports about TLS; `row` without its day. */
void flow_count_tls(struct flow *f, struct tls_tally_row row);
struct flow *flow_of_queue(struct queue *q);
/* The log cannot keep up: start nothing that makes outcomes. */
bool flow_must_pause(const struct flow *f);
/* All sites that have something due look again. */
void flow_wake_sites(struct flow *f);

#endif
