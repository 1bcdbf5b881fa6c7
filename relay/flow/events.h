/* SPDX-License-Identifier: Apache-2.0
 *
 * events: what the flow tells the log and the metrics, one function for each thing that happens.
 *
 * Kept apart so that the flow reads as flow. Each function both counts and logs; outcome events
 * are written after what they report is durable.
 */
#ifndef RELAY_FLOW_EVENTS_H
#define RELAY_FLOW_EVENTS_H

#include "core/base/close.h"
#include "core/metric.h"
#include "relay/flow/inbound.h"
#include "relay/flow/job.h"
#include "relay/flow/lockout.h"
#include "relay/flow/protection.h"
#include "tls/tls.h"

/* Counts a hit of limits.NAME or one of its kin. */
#define FLOW_LIMIT_HIT(f, name) \
	METRIC_ADD_LABEL((f)->worker->metrics, LIMIT_HITS, LABEL_LIMIT_##name, 1)

/* Clients. */
void flow_event_auth_ok(struct flow *f, const struct session *s, enum sasl_mechanism m);
void flow_event_dovecot_failed(struct flow *f, struct span error);
/* user: whose name was given, or NULL. */
void flow_event_auth_failed(struct flow *f, const struct session *s, enum sasl_mechanism m,
			    const struct user *user, const char *reason);
void flow_event_accepted(struct flow *f, const struct session *s);
void flow_event_accept_failed(struct flow *f, enum err e);
void flow_event_refused(struct flow *f, const struct session *s, unsigned refusal_label);
/* No PROXY header, or a bad one, from a peer that must send it. */
void flow_event_proxy_refused(struct flow *f, const struct session *s, struct span why);
void flow_event_session_end(struct flow *f, const struct session *s);
void flow_event_recipient(struct flow *f, const struct session *s, const struct address *path,
			  enum reply_row row, struct span text);
/* MAIL was refused. */
void flow_event_sender(struct flow *f, const struct session *s, const struct address *path,
		       enum reply_row row);
/* The sender of this transaction was judged; by its vetting's row, with this text. */
void flow_event_sender_vetted(struct flow *f, const struct transaction *t, struct span text);
/* The From field of a mail is not the user's. */
void flow_event_from_refused(struct flow *f, const struct session *s, struct span value,
			     enum reply_row row);
/* The user has reached a limit. */
void flow_event_user_limit(struct flow *f, const struct session *s, enum user_limit which,
			   uint32_t most);
/* What SPF says of the mail, and what follows. */
void flow_event_spf(struct flow *f, const struct transaction *t, const struct spf_outcome *o,
		    enum config_spf_action action, uint64_t duration_us);
void flow_count_iprev(struct flow *f, enum iprev_result r);
void flow_event_received(struct flow *f, const struct session *s, const struct transaction *t,
			 enum err e);
void flow_event_tls_started(struct flow *f, const struct session *s, const struct tls_facts *t);
/* reason: LABEL_TLS_FAILURE_.... */
void flow_event_tls_failed(struct flow *f, const struct session *s, unsigned reason,
			   struct span why);
void flow_count_reply(struct flow *f, enum reply_row row);
void flow_event_client_timeout(struct flow *f, const struct session *s);

/* An address or a user has just been locked out. NULL: the session may have ended meanwhile. */
void flow_event_locked(struct flow *f, const struct session *s, enum lockout_kind kind,
		       struct span name, uint32_t failures);
/* An AUTH, or a connection, was refused for that. */
void flow_count_locked_out(struct flow *f, enum lockout_kind kind);

/* Next hops. */
void flow_event_host_failed(struct flow *f, struct site *s, unsigned host, const char *phase,
			    struct span error);
/* How a handshake with a next hop ended. */
void flow_event_peer_handshake(struct flow *f, const struct tls_facts *facts, enum err e);
/* Where the host may be used without TLS, it is until then. */
void flow_event_peer_tls_failed(struct flow *f, struct span destination, const struct plan_host *h,
				struct protection p, struct span why, const char *result_type,
				uint64_t plain_until_ms);
void flow_event_callout_failed(struct flow *f, struct span destination, const struct plan_host *h,
			       struct span error);
/* A destination has no hosts: see d->outcome and d->why. */
void flow_event_unresolved(struct flow *f, const struct destination *d);
void flow_event_no_socket(struct flow *f, enum err e);
void flow_event_load_failed(struct flow *f, struct mail_id id, enum err e);
void flow_event_channel_open(struct flow *f);
void flow_event_channel_end(struct flow *f, enum close_reason reason);
void flow_count_outcome(struct flow *f, const struct job *j, const struct sender_outcome *o);
void flow_count_peer_timeout(struct flow *f, enum sender_phase phase, bool connecting);

/* Gauges that are gathered now and then. */
void flow_refresh_gauges(struct flow *f);

/* The queue. */
void flow_event_outcomes(struct flow *f, const struct job *j);
/* A report of what became of the job's recipients is in the queue: its envelope, how many it says
 * what of (enum dsn_action), and what is attached. */
void flow_event_notice(struct flow *f, const struct job *j, const struct mail_envelope *notice,
		       const uint32_t *counts, const char *attached);
void flow_event_notice_suppressed(struct flow *f, const struct job *j, struct span recipient);
/* Another node has the mail: of its recipients so many were delivered here, and that was kept. */
void flow_event_taken_over(struct flow *f, const struct job *j, uint32_t delivered);
void flow_event_record_failed(struct flow *f, const struct job *j, enum err e);
/* The mail has ended, by these outcomes or by another node's: of those that are no facts. */
void flow_event_outcomes_unknown(struct flow *f, const struct job *j, enum err e);
/* The relay ends, and the outcomes of this job could not be written. */
void flow_event_outcome_given_up(struct flow *f, const struct job *j, enum err e);
void flow_event_claim_failed(struct flow *f, struct span destination, enum err e);
void flow_event_held(struct flow *f, struct mail_id id, unsigned starts, enum err e);

#endif
