/* SPDX-License-Identifier: Apache-2.0
 *
 * job: one attempt to deliver one queue item: the unit that waits for a connection, moves between
 * workers, and comes back with a result for each of the item's pending recipients.
 *
 * Made and ended by the worker that keeps the mail (the owner). While it is handed over, only the
 * serving worker touches it; the mail, its envelope and its body are read-only for both. It goes
 * through as many transactions as it needs: a next host for what failed because of a host, another
 * transaction for recipients above the limit of one. What is left unresolved at the end is tried
 * again by the schedule.
 *
 * Memory: from a pool of the owner, with an arena for results and replies, whose bound is checked:
 * a reply that does not fit is left out, never the result.
 */
#ifndef RELAY_FLOW_JOB_H
#define RELAY_FLOW_JOB_H

#include "core/base/arena.h"
#include "core/mailbox.h"
#include "queue/queue.h"
#include "relay/flow/destination.h"
#include "relay/flow/site.h"
#include "relay/smtp/sender.h"
#include "tls/tls.h"

struct bounce;
struct flow;

/* Besides those of the sender: no host could be found. */
enum { JOB_PHASE_DNS = SENDER_PHASE_COUNT };
enum { JOB_PEERS_MAX = 8 };

/* What is known of a result besides. */
enum {
	JOB_REMOTE_REPLY = 1 << 0, /* the reply is the peer's own */
	JOB_TOOK_DSN = 1 << 1,     /* the peer offers DSN: what NOTIFY asks for is its task now */
};

struct job_times {
	uint64_t receive_ms;    /* from MAIL to durable; 0 for one that was claimed */
	uint64_t taken_wall_ms; /* a connection was chosen or begun; wall clock */
	uint64_t taken_ms;      /* the same, monotonic */
	uint64_t started_ms;    /* the connection was ready for MAIL */
	uint64_t done_ms;
};

/* How the connection was protected. The texts are OpenSSL's own, and stay. */
struct job_tls {
	const char *version; /* NULL: plain text */
	const char *cipher;
	uint8_t verified; /* enum tls_verified */
	uint8_t level;    /* enum tls_level: what was wanted */
	uint8_t source;   /* enum tls_source */
	bool known;       /* there was a connection, or it was tried */
};

struct job {
	uint32_t magic;
	struct message message;          /* hand-over, and the way back */
	struct line_node line;           /* in a site's line */
	struct list_node resolving_link; /* of its destination, while that looks for hosts */
	struct list_node body_link;      /* bodies.h */
	struct body *body; /* while it may be read for this job; NULL: it is in the store alone */
	struct flow *owner;
	struct flow *server;             /* who serves it now: the owner, or the site's home */
	struct queue_item *item;         /* the queue's again once its outcomes are recorded */
	const struct queue_mail *mail;   /* of the item; readable until the record is done */
	struct destination *destination; /* of the owner */
	struct site *sent_by;            /* the owner's, while the job is handed over */
	struct plan *plan;               /* likewise: the hosts that it may go to; a reference */
	uint32_t sender_key;             /* a hash of who sent it */
	bool suspect;                    /* suspects.h */
	bool starved;       /* we had no memory for its connection: not at once again */
	bool unreadable;    /* the store could not read its body */
	bool unserved;      /* comes back untried: give the item back to the queue */
	uint64_t due_at_ms; /* of an unserved one: when to try again, wall clock */

	unsigned host;        /* that serves it, or will */
	unsigned tried_hosts; /* bit mask: a recipient needs another one than these */
	unsigned
		unfit_hosts; /* of them, those that will not do: what the mail requires they lack */
	bool no_way;         /* it failed since no host can be given it as it requires (RFC 8689) */
	unsigned rounds; /* transactions and failed connections in a row that resolved nothing */
	unsigned resolved_count;
	unsigned resolved_before; /* the present transaction */

	uint32_t result_count;        /* pending recipients of the item */
	struct queue_result *results; /* by pending recipient, in order */
	bool *resolved;               /* likewise */
	uint16_t *attempts;           /* likewise: before this one */
	uint8_t *phases;              /* likewise: enum sender_phase of the last outcome, or DNS */
	uint8_t *marks;               /* likewise: JOB_… */
	uint8_t *peers_of; /* likewise: whose outcome it was, in peer_names, from 1; 0: not kept */
	uint8_t *reports; /* likewise: enum dsn_action from 1 that its sender is told; 0: nothing */
	struct span peer_names[JOB_PEERS_MAX]; /* "mx.example.org", "[192.0.2.1]", or a path */
	struct sender_recipient *recipients;   /* of the transaction on its way */
	uint32_t *chosen;                      /* index of results for each of these */
	struct sender_transaction transaction;

	struct job_times times;
	struct net_address peer; /* the last one, for the log */
	struct plan *via;        /* a reference: where host_name stands; NULL: it is empty */
	struct span host_name;   /* of peer */
	bool peer_has_dsn;       /* the one in hand offered DSN */
	struct job_tls tls;      /* of the last connection, for the log */

	void (*on_bounce)(struct job *j, enum err e);
	struct list_node bounce_link; /* where reports wait for their making */
	struct bounce *bounce; /* bounce.h: the report that is being made for these outcomes */
	uint8_t attach_most;   /* enum dsn_part: more of the mail did not fit into a report */
	struct queue_record record;
	struct queue_attempt attempt;
	struct timer again; /* records again after a failure */
	struct arena memory;
};

#define JOB_MAGIC 0x4a4f4221u

/* For a claimed item of this worker. NULL: the pool or the memory is used up. */
struct job *job_new(struct flow *owner, struct queue_item *item, struct destination *d);
/* Only on the owner's worker. */
void job_free(struct job *j);

/* The last host that serves it, for the log. */
void job_note_host(struct job *j, const struct site *s, unsigned host);
/* Fills job->transaction with the recipients that are not resolved. Not for a job without any. */
void job_begin(struct job *j);
/* Takes an outcome of the sender for recipient `index` of the transaction. */
void job_take_outcome(struct job *j, const struct sender_outcome *o);
/* Replaces the words of what is not resolved. */
void job_explain(struct job *j, struct span text);
/* May another host be tried, where `hosts_max` are enough for an attempt? */
bool job_may_go_on(const struct job *j, unsigned hosts_max);
/* No host is left that could be tried: what is left fails for good where all of them are unfit. */
void job_give_up_hosts(struct job *j);
/* Resolves all that is left as temporary failures with this text ("451 4.4.1 …"). */
void job_defer_rest(struct job *j, struct span text);
/* Resolves all that is left as not reached this time: pending, and no attempt. */
void job_put_back_rest(struct job *j);
/* Resolves all recipients with one state: RECIPIENT_DISCARDED, RECIPIENT_FAILED. */
void job_resolve_all(struct job *j, enum recipient_state state, struct span text);

static inline bool
job_is_resolved(const struct job *j)
{
	return j->resolved_count == j->result_count;
}

#endif
