/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_auth: the part of a connection to a next hop that answers when its sender machine asks what
 * AUTH gets (ASK_AUTH): the entry of the secrets that the plan names, and the exchange with it
 * (peer_login.h), long computations on a helper included.
 *
 * Embedded in its owner, zeroed but for what stands first. Nothing of a secret but its name is told
 * to anybody.
 */
#ifndef RELAY_FLOW_PEER_AUTH_H
#define RELAY_FLOW_PEER_AUTH_H

#include "core/conn.h"
#include "relay/flow/peer_login.h"

struct peer_auth {
	struct flow *flow;
	struct conn *conn;       /* held while a helper computes */
	struct sender *sender;   /* who asks, and is answered */
	struct secrets *secrets; /* lent, for as long as the connection is there */
	struct span entry;       /* of them, likewise; empty: no AUTH */
	void (*on_failed)(struct peer_auth *a, struct span why); /* before the sender is told */
	void (*on_answered)(struct peer_auth *a); /* behind a helper: the sender is to be stepped */
	struct peer_login *login;                 /* NULL: AUTH was not asked for */
	bool deriving;                            /* a helper computes: no input is to be read */
};

/* SASL_BIT of what we can do, for sender_options.auth. */
uint8_t peer_auth_mechanisms(const struct peer_auth *a);
/* False: the answer comes later, or never. */
bool peer_auth_answer(struct peer_auth *a, const struct sender_auth *asked);
/* In on_closed. */
void peer_auth_fini(struct peer_auth *a);

#endif
