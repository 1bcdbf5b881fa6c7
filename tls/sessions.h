/* SPDX-License-Identifier: Apache-2.0
 *
 * sessions: what servers gave us to resume (RFC 8446 2.2), by who they are and what was checked of
 * them. A resumed handshake costs us half of a full one.
 *
 * PURE: bounded, the least recently used goes first; a session that OpenSSL will not resume any
 * more is not given. One thread.
 */
#ifndef TLS_SESSIONS_H
#define TLS_SESSIONS_H

#include <openssl/ssl.h>

#include "core/base/list.h"
#include "core/base/span.h"
#include "tls/tls.h"

enum {
	SESSIONS_BUCKETS = 1024,
	/* Of a worker; one takes 2 to 10 KiB, with the chain that the server has shown. */
	SESSIONS_MAX = 512,
};

struct session {
	struct session *next; /* in its bucket */
	struct list_node link;
	uint64_t hash;
	SSL_SESSION *ssl;
	enum tls_verified verified; /* in the full handshake that it is of */
	struct span key;            /* behind this */
};

struct sessions {
	struct session *buckets[SESSIONS_BUCKETS];
	struct list used; /* the least recently used first */
	size_t count;
	size_t most;
};

/* NULL: no memory. */
struct sessions *sessions_new(size_t most);
void sessions_free(struct sessions *s);
/* NULL: there is none. Lent until the next call. */
const struct session *sessions_find(struct sessions *s, struct span key);
/* Takes `ssl`, also where there is no memory for it. */
void sessions_keep(struct sessions *s, struct span key, SSL_SESSION *ssl,
		   enum tls_verified verified);
void sessions_drop(struct sessions *s, struct span key);

#endif
