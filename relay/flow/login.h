/* SPDX-License-Identifier: Apache-2.0
 *
 * login: how a session comes to have a user: AUTH (relay/smtp/sasl.h), checked against the file of
 * users (users.h), with what lockout.h says of those who fail.
 *
 * To check a password takes a verifier's iterations, far too long for a worker: a helper does it
 * (core/helpers.h), and the session waits; or Dovecot does (dovecot_link.h), to which SCRAM is
 * passed through, since it has the verifiers. Where the helpers are busy the client is told to come
 * again (454). A password that was right is remembered for a while, as a hash whose key nobody
 * outside the process knows, together with the verifier that it fits: another verifier makes it
 * worthless at once. A name that nobody has costs the same as one that somebody has.
 *
 * The answer to a failure is held back by a timer of the login. A login is of one session, ends
 * with the receiver's answer, and wipes what it knew.
 */
#ifndef RELAY_FLOW_LOGIN_H
#define RELAY_FLOW_LOGIN_H

#include "core/base/pool.h"
#include "relay/flow/users.h"
#include "relay/smtp/receiver.h"

struct flow;
struct session;

enum { LOGIN_REMEMBERED = 2048, LOGIN_HASH_SIZE = 16 };

struct remembered {
	uint8_t hash[LOGIN_HASH_SIZE];
	uint64_t until_ms; /* monotonic; 0: nothing */
};

/* Of a worker. */
struct logins {
	struct pool pool;
	uint8_t key[SASL_HASH_SIZE];
	struct remembered *remembered; /* LOGIN_REMEMBERED, by hash; NULL until the first */
};

/* count_max: of sessions, each of which may be in the middle of one. */
void logins_init(struct flow *f, size_t count_max);
void logins_fini(struct flow *f);

/* TLS has begun: has the client shown a certificate that a user may log in with? Then s->certified
 * is that user. */
bool login_by_certificate(struct session *s);
/* Mechanisms that are not to be had now although a listener would offer them: SASL_BITs. */
unsigned login_withheld(struct flow *f);
/* ASK_AUTH and ASK_AUTH_DATA: answered now or later. `data` of the action is wiped. */
void login_begin(struct session *s, const struct receiver_action *a, bool input_waiting);
void login_go_on(struct session *s, const struct receiver_action *a, bool input_waiting);
/* The exchange is over without an answer. */
void login_cancel(struct session *s);

#endif
