/* SPDX-License-Identifier: Apache-2.0
 *
 * secure: TLS with a client: the part of a session between the receiver, which says when it begins,
 * and the connection, which does it.
 *
 * A session is `securing` from secure_start() until secure_ended(), in which nothing but its
 * connection acts; behind a good end conn_layer() has the facts (tls_facts). Where TLS comes first,
 * the client counts as connected, and against the limits, before its handshake is computed.
 */
#ifndef RELAY_FLOW_SECURE_H
#define RELAY_FLOW_SECURE_H

#include "relay/flow/inbound.h"

/* Can a handshake begin now? */
bool secure_is_possible(const struct session *s);
/* Begins it. What is unread is dropped, or belongs to it already (behind a PROXY header). False:
 * the connection is closing for want of memory. */
bool secure_start(struct session *s, bool unread_is_tls);
/* Its end: told in events and metrics. True: it went well. Otherwise the connection is closing. */
bool secure_ended(struct session *s, enum err e);
/* The client has not gone on in time. */
void secure_timed_out(struct session *s);
/* Whatever the version of TLS is; NULL in plain text. *cipher likewise. */
const char *secure_version(const struct session *s, const char **cipher);
/* TRACE_TLS and the like, for the Received field and the event. */
unsigned secure_trace_flags(const struct session *s);

#endif
