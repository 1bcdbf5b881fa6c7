/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/context.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "core/base/assert.h"

/* Forward secrecy and authenticated encryption alone; then what servers and clients of ten years
 * ago have. */
#define CIPHERS_AEAD       "ECDHE+AESGCM:ECDHE+CHACHA20"
#define CIPHERS_COMPATIBLE CIPHERS_AEAD ":ECDHE+AES:RSA+AESGCM:RSA+AES:!PSK:!SRP:!CAMELLIA:!aNULL"
#define GROUPS             "X25519:P-256"

SSL_CTX *
tls_context_new(const SSL_METHOD *method, const struct config_tls *options)
{
	SSL_CTX *x = SSL_CTX_new(method);
	bool is_compatible = options->ciphers == TLS_CIPHERS_COMPATIBLE;

	if (x == NULL)
		return NULL;
	SSL_CTX_set_min_proto_version(x, options->min_version == TLS_VERSION_13 ? TLS1_3_VERSION
										: TLS1_2_VERSION);
	SSL_CTX_set_cipher_list(x, is_compatible ? CIPHERS_COMPATIBLE : CIPHERS_AEAD);
	SSL_CTX_set1_groups_list(x, GROUPS);
	/* Renegotiation serves nobody, and a client could make us compute with it. */
	SSL_CTX_set_options(x, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	/* An idle session gives back its two buffers of 16 KiB. */
	SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
	return x;
}

static bool
make_contexts(struct tls *t, struct tls_setup *s, struct buf *why)
{
	*t = (struct tls){ .setup = tls_setup_get(s) };
	if (tls_setup_has_certificate(s)) {
		t->server = tls_server_context(s, why);
		if (t->server == NULL)
			return false;
	}
	t->client = tls_client_context(s);
	return t->client != NULL;
}

static void
drop_contexts(struct tls *t)
{
	SSL_CTX_free(t->server);
	SSL_CTX_free(t->client);
	tls_setup_put(t->setup);
}

struct tls *
tls_new(struct tls_setup *s, struct buf *why)
{
	struct tls *t = calloc(1, sizeof *t);

	struct sessions *sessions = sessions_new(SESSIONS_MAX);
	if (t != NULL && sessions != NULL && make_contexts(t, s, why)) {
		t->sessions = sessions;
		return t;
	}
	sessions_free(sessions);
	if (t != NULL)
		drop_contexts(t);
	free(t);
	if (why->size == 0)
		buf_append_string(why, "out of memory for TLS");
	return NULL;
}

bool
tls_can_accept(const struct tls *t)
{
	return t != NULL && t->server != NULL;
}

void
tls_free(struct tls *t)
{
	if (t == NULL)
		return;
	drop_contexts(t);
	sessions_free(t->sessions);
	free(t);
}

bool
tls_adopt(struct tls *t, struct tls_setup *s)
{
	uint8_t memory[TLS_WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory);
	struct tls fresh;

	if (t->setup == s)
		return true;
	if (!make_contexts(&fresh, s, &why)) {
		drop_contexts(&fresh);
		return false;
	}
	fresh.sessions = t->sessions;
	drop_contexts(t);
	*t = fresh;
	return true;
}
