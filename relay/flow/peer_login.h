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
#include "relay/flow/secrets.h"
#include "relay/smtp/sasl.h"
#include "relay/smtp/sender.h"

struct flow;

enum { PEER_LOGIN_KEYS = 16 };

/* Of one channel. */
struct peer_login {
	struct secrets *secrets; /* a reference: has the entry */
	const struct secret *secret;
	bool begun; /* `client` is in use */
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
struct peer_login *peer_login_new(struct peer_logins *l, struct secrets *s,
				  const struct secret *secret);
void peer_login_free(struct peer_logins *l, struct peer_login *login);
/* What to say to this; false: nothing, the exchange has failed. The answer lives in the login. */
bool peer_login_answer(struct peer_logins *l, struct peer_login *login,
		       const struct sender_auth *asked, struct span *answer);

#endif
