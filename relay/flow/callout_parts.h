/* SPDX-License-Identifier: Apache-2.0
 *
 * callout_parts: what callout.c (the table of questions and answers), callout_line.c (the way to
 * the next hop) and callout_secure.c (how that is protected) owe each other. Private to these.
 */
#ifndef RELAY_FLOW_CALLOUT_PARTS_H
#define RELAY_FLOW_CALLOUT_PARTS_H

#include "relay/flow/callout.h"
#include "relay/flow/peer_auth.h"
#include "relay/flow/protection.h"

/* A connection; `line` is NULL once it takes no more questions and waits for its end. */
struct callout_conn {
	struct conn conn; /* first */
	struct probe probe;
	struct probe_options options;
	struct flow *flow;
	struct routing *routing; /* lends the options their texts */
	struct callout_line *line;
	struct plan *plan;
	unsigned host; /* of the plan */
	struct protection protection;
	struct peer_auth auth;
	bool was_up;     /* it has greeted and taken our name */
	bool failed;     /* a question could not be asked for its sake */
	bool securing;   /* the handshake is under way */
	bool plain_next; /* it failed, and the host may be asked in plain text */
};

/* ---- callout.c ---- */

/* Tells all that wait for it; what was learnt is kept, else the entry is gone. */
void callout_settle(struct callout_entry *e, enum callout_answer answer, struct span why);
/* Frees a line that nothing needs any more. */
void callout_line_check(struct callout_line *l);

/* ---- callout_line.c ---- */

void callout_line_init(struct callout_line *l);
/* There are questions, or a drain: it looks at what it has to do soon. */
void callout_line_wake(struct callout_line *l);
/* Gives its connection up, and fails what is open. */
void callout_line_stop(struct callout_line *l);
/* Why the target cannot be asked now. */
void callout_explain(struct callout_line *l, struct span why);
void callout_step(struct callout_conn *c);
/* Closes it, and takes what is owed out of it; `politely`: what was written still leaves. */
void callout_give_up(struct callout_conn *c, enum close_reason reason, bool politely);

/* ---- callout_secure.c ---- */

/* For a connection that is being opened: what its host must do, and who we are to it, and so its
 * probe. */
void callout_prepare(struct callout_conn *c);
/* Begins the handshake. */
void callout_start_tls(struct callout_conn *c);
void callout_on_secured(struct conn *conn, enum err e);
/* The handshake has failed, or took too long. */
void callout_tls_failed(struct callout_conn *c, struct span why, const char *result_type);
/* `old`, or NULL, was the plan of this line: what is known of its hosts is known of the same ones
 * in the new plan. */
void callout_keep_broken(struct callout_line *l, const struct plan *old);

#endif
