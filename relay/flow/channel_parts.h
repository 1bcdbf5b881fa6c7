/* SPDX-License-Identifier: Apache-2.0
 *
 * channel_parts: what channel.c (the dialogue and the bodies) and channel_tls.c (how the connection
 * is protected) owe each other. Private to these two.
 */
#ifndef RELAY_FLOW_CHANNEL_PARTS_H
#define RELAY_FLOW_CHANNEL_PARTS_H

#include "relay/flow/channel.h"

/* ---- channel.c ---- */

void channel_step(struct channel *c);
void channel_restart_deadline(struct channel *c);
/* As channel_abort(), but what is to be said to the peer still leaves. */
void channel_finish(struct channel *c, enum close_reason reason);
/* Says why the jobs of this channel fail, where no reply of the peer does; `status` is of the class
 * 4 or 5. */
void channel_explain(struct channel *c, const char *status, struct span what, const char *where);

/* ---- channel_tls.c ---- */

/* For a channel that is being opened to c->peer, a host of c->plan: what it must do, and so the
 * sender's options. */
void channel_choose_protection(struct channel *c);
/* Begins the handshake. */
void channel_start_tls(struct channel *c);
void channel_on_secured(struct conn *conn, enum err e);
/* The handshake has failed, or took too long: the jobs go to another host, or come back to this one
 * without TLS where that is allowed. */
void channel_tls_failed(struct channel *c, struct span why, const char *result_type);
/* What became of the connection's protection, for the outcomes of this job. */
void channel_note_protection(const struct channel *c, struct job *j);
/* Who we are to this host, and so the sender's options. */
void channel_prepare_auth(struct channel *c);

/* ---- channel_report.c ---- */

/* Mail of this job goes over a connection that is up; once a domain. */
void channel_count_session(struct channel *c, const struct job *j);
/* The connection that was opened for it cannot be protected. `result` is of RFC 8460 4.3, or NULL.
 */
void channel_count_failure(struct channel *c, const struct job *j, const char *result,
			   struct span why);

#endif
