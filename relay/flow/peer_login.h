/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_login: how a channel proves to a smarthost who we are (RFC 4954): the exchange that the
 * sender machine carries, with an entry of the secrets. What SCRAM computes of a password is kept
 * for the next connection, by worker and in a few places; where it is long and not at hand, a
 * helper computes it.
 */
#ifndef RELAY_FLOW_PEER_LOGIN_H
#define RELAY_FLOW_PEER_LOGIN_H

#include "core/base/pool.h"
#include "core/helpers.h"
#include "relay/flow/secrets.h"
#include "relay/smtp/sasl.h"
#include "relay/smtp/sender.h"

struct flow;

enum { PEER_LOGIN_KEYS = 16 };

/* Of one channel. */
struct peer_login {
	struct secrets *secrets; /* a reference: has the entry */
	const struct secret *secret;
	bool begun;  /* `client` is in use */
	void *owner; /* who made it */
	void (*on_derived)(struct peer_login *login);
	struct helper_job job;
	struct sasl_client client;
	size_t answer_size;
	uint8_t answer[SASL_MESSAGE_MAX];
};

/* Of one worker. */
struct peer_logins {
	struct pool pool;
	unsigned next; /* place to be used for the next keys */
	struct peer_login_keys {
		struct secrets *secrets; /* a reference; NULL: the place is free */
		const struct secret *secret;
		struct sasl_keys keys;
	} kept[PEER_LOGIN_KEYS];
};

void peer_logins_init(struct peer_logins *l, size_t most);
void peer_logins_fini(struct peer_logins *l);

/* NULL: no memory. The entry must be there. */
struct peer_login *peer_login_new(struct peer_logins *l, void *owner, struct secrets *s,
				  const struct secret *secret);
void peer_login_free(struct peer_logins *l, struct peer_login *login);
enum peer_login_step {
	PEER_LOGIN_SAYS,    /* the answer, which lives in the login */
	PEER_LOGIN_FAILS,   /* nothing: the exchange has failed */
	PEER_LOGIN_DERIVES, /* it must compute for long first: peer_login_derive() */
};

enum peer_login_step peer_login_answer(struct peer_logins *l, struct peer_login *login,
				       const struct sender_auth *asked, struct span *answer);

/* On a helper; on_derived comes on this worker, and until then the login stays. False: there are
 * none, or they are busy. */
bool peer_login_derive(struct peer_login *login, struct worker *w,
		       void (*on_derived)(struct peer_login *login));
/* At once, where there are no helpers. */
void peer_login_derive_here(struct peer_login *login);
/* In on_derived, or behind derive_here: goes on with SAYS or FAILS. */
enum peer_login_step peer_login_derived(struct peer_logins *l, struct peer_login *login,
					struct span *answer);

#endif
