/* SPDX-License-Identifier: Apache-2.0
 *
 * inbound: one SMTP session of a client: a connection, the receiver machine that speaks on it, and
 * the policy that answers its questions (who may relay, is there room), up to the queue's promise.
 *
 * A session is cheap while idle: what a mail needs is in a transaction, taken from a pool at MAIL
 * and given back at the reply to the end of data. While the queue makes a mail durable the session
 * waits; if the client goes away meanwhile, the session stays until the queue has answered, and
 * the mail is delivered although its 250 could not be sent.
 *
 * At listeners with `proxy_from` the clients of these networks are proxies: each must say in a
 * PROXY header whose connection it hands on, ahead of everything else. Until then there is no
 * dialogue; from then on the client's address is the one that was told, for limits, policy, events
 * and the Received field. From others a header is what anything else is ahead of the greeting.
 */
#ifndef RELAY_FLOW_INBOUND_H
#define RELAY_FLOW_INBOUND_H

#include "core/conn.h"
#include "relay/flow/callout.h"
#include "relay/flow/routing.h"
#include "relay/flow/transaction.h"
#include "relay/smtp/receiver.h"

struct flow;

enum { SESSION_HELLO_MAX = 255 };

struct session {
	struct conn conn; /* first */
	struct receiver receiver;
	struct flow *flow;
	struct routing *routing;
	const struct config_listener *listener; /* of the routing's configuration */
	unsigned listener_number;
	struct transaction *transaction; /* or NULL */
	struct login *login;             /* while AUTH is under way */
	struct task resume;              /* the draft has room again */
	const struct user *user;         /* who has logged in; held. NULL: nobody has */
	const struct user *certified;    /* whose certificate the client has shown; held, or NULL */
	struct callout_waiter waiter;    /* for what the next hop says of the last recipient */
	uint64_t started_ms;             /* monotonic */
	uint64_t secure_started_us;      /* likewise: the handshake of TLS */
	uint64_t mail_count;             /* accepted */
	uint64_t limit_key;
	bool counted;      /* holds a place of the client's limit */
	bool counted_all;  /* and one of the limit over all clients */
	bool counted_user; /* and one of the user's */
	bool securing;     /* the handshake of TLS is under way */
	bool admitted;     /* policy has taken it before the greeting */
	bool awaits_proxy; /* until the PROXY header has come; nothing is known of the client */
	bool esmtp;
	bool committing; /* the queue has the put */
	uint8_t hello_size;
	struct net_address peer;
	uint8_t hello[SESSION_HELLO_MAX];
};

/* Starts a session on an accepted descriptor, which is taken, of this listener. */
void session_start(struct flow *f, unsigned listener, int fd);
/* The relay drains: idle sessions end with 421, the others after their present mail. */
void inbound_drain(struct flow *f);
/* The time for it is over: all end with 421 where they are, but those whose mail the queue has. */
void inbound_cut_off(struct flow *f);
/* Is this connection a session's? */
bool session_owns(const struct conn *c);

#endif
