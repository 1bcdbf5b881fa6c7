/* SPDX-License-Identifier: Apache-2.0
 *
 * channel: one connection to a host of a site, with the sender machine that speaks on it.
 *
 * A channel costs one slot from channel_open to its end. It takes one job at a time and, once the
 * body of that one is on its way, one ahead of it. Jobs leave it through dispatch_served, in the
 * order in which their transactions end; when the connection fails, too. Bodies are sent from
 * memory where they are, else read through this worker's end of the queue into a pooled buffer.
 */
#ifndef RELAY_FLOW_CHANNEL_H
#define RELAY_FLOW_CHANNEL_H

#include "core/conn.h"
#include "relay/flow/job.h"
#include "relay/flow/peer_auth.h"
#include "relay/flow/protection.h"
#include "relay/smtp/body_out.h"
#include "relay/smtp/sender.h"
#include "tls/tls.h"

struct channel {
	struct conn conn; /* first */
	struct sender sender;
	struct flow *flow;
	struct site *site;
	struct routing *routing;
	struct sender_options options; /* of the routing, with what the site takes */
	uint64_t idle_ms;
	unsigned host;
	struct plan *plan;     /* in which it was a host: a reference */
	struct plan_host peer; /* it, as it was then */
	struct protection protection;
	uint64_t reported;        /* a hash of the domain whose session was counted last; 0: none */
	struct net_address local; /* our end, once a report has to name it */
	struct job_tls tls;       /* of the handshake, once it is done */
	struct peer_auth auth;
	bool securing;      /* the handshake is under way */
	bool plain_next;    /* it failed, and the jobs may come back without TLS */
	bool is_unfit;      /* it failed in a way that rules the host out for its jobs */
	bool ready;         /* EHLO is done */
	bool used;          /* it was given a job before */
	bool sending;       /* `piece` of `body_job` is being sent */
	bool loading;       /* a part of it is being read from the store */
	bool closing;       /* sender said CLOSE, or the connection is lost */
	uint8_t phase;      /* enum sender_phase, of the deadline that is set */
	unsigned job_count; /* 0, 1, or 2 with one ahead */
	struct job *opener; /* the first job; only until `ready` */
	struct job *parked; /* over, but still being read */
	struct job *body_job;
	struct sender_piece piece;
	uint64_t piece_sent;
	struct body_out stuffing;
	bool end_unsent;         /* an end of data is in our output, or was when we looked last */
	uint64_t phase_until_ms; /* the deadline of `phase`; 0: none */
	struct queue_load load;
	uint8_t why_size;
	char why[200];                    /* text for jobs that fail without a reply */
	struct list_node link;            /* in the site's idle or busy */
	struct list_node connecting_link; /* of flow->connecting */
	uint64_t began_ms;                /* to connect; monotonic */
};

/* Opens a connection for this job to the site's host j->host. False where no socket or memory was
 * to be had: the job is untouched. */
bool channel_open(struct site *s, struct job *j);
/* Can it take a job now (idle, or one ahead)? */
bool channel_can_take(const struct channel *c);
void channel_take(struct channel *c, struct job *j);
/* Says QUIT and closes; only an idle one. */
void channel_quit(struct channel *c, enum close_reason reason);
/* Gives a connection up that is not made yet, as if it had timed out. */
void channel_give_way(struct channel *c);
/* Gives up at once: jobs come back. */
void channel_abort(struct channel *c, enum close_reason reason);
/* Is this connection a channel's? */
bool channel_owns(const struct conn *c);

#endif
