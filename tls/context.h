/* SPDX-License-Identifier: Apache-2.0
 *
 * context: what one worker has of TLS (struct tls). Inside of tls/ only.
 *
 * The contexts of OpenSSL are made of a setup and replaced with it; an engine keeps its context, by
 * OpenSSL's own count, and its setup, by engine_init(). One context a worker, so that their locks
 * are not shared.
 */
#ifndef TLS_CONTEXT_H
#define TLS_CONTEXT_H

#include <openssl/ssl.h>

#include "tls/sessions.h"
#include "tls/setup.h"

struct tls {
	struct tls_setup *setup; /* one reference */
	SSL_CTX *server;         /* NULL: there is no certificate */
	SSL_CTX *client;
	struct sessions *sessions; /* of servers; goes from one setup to the next */
};

/* What both sides have in common. NULL: no memory. */
SSL_CTX *tls_context_new(const SSL_METHOD *method, const struct config_tls *options);
/* Of tls/accept.c. NULL with a line in `why`. The context's app data is the setup. */
SSL_CTX *tls_server_context(struct tls_setup *s, struct buf *why);
/* Of tls/connect.c. NULL: no memory. */
SSL_CTX *tls_client_context(struct tls_setup *s);

#endif
