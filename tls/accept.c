/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "tls/context.h"
#include "tls/engine.h"

/* Sessions are resumed between our own contexts only. */
#define SESSION_CONTEXT "ringpost"

/* Of TLS 1.3, by our preference. The first is as good as any, and the fastest. */
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

enum { TICKETS_PER_SESSION = 1, KEY_KINDS_MAX = 4, MS_PER_S = 1000 };

struct accepted {
	struct engine engine; /* first */
};

/* ---- tickets ---- */

static bool
use_key(const struct ticket_key *k, const uint8_t *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
	bool is_new)
{
	OSSL_PARAM parameters[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)k->mac,
						  sizeof k->mac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
						 (char *)(uintptr_t) "SHA256", 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, parameters) == 1 &&
	       EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv, is_new) == 1;
}

/* As SSL_CTX_set_tlsext_ticket_key_evp_cb(3) has it: 1 yes, 2 yes and give another, 0 full
 * handshake, -1 failure. */
static int
on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
	      EVP_MAC_CTX *mac, int is_new)
{
	struct tickets *t = engine_of_ssl(ssl)->setup->tickets;
	uint64_t now_ms = clock_monotonic_ms();
	struct ticket_key key;
	bool is_old = false;

	if (is_new) {
		if (!tickets_current(t, now_ms, &key) ||
		    RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
			return -1;
		memcpy(name, key.name, sizeof key.name);
	} else if (!tickets_find(t, now_ms, name, &key, &is_old)) {
		return 0;
	}
	bool is_good = use_key(&key, iv, cipher, mac, is_new);
	OPENSSL_cleanse(&key, sizeof key);
	if (!is_good)
		return -1;
	/* In TLS 1.3 a ticket is used once, so that nobody sees two connections to be of one client
	 * (RFC 8446 C.4). */
	return is_old || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
}

/* ---- which certificate ---- */

/* Who asks for no name gets the first, and what is for the same name. */
static bool
is_for(const struct certificate *c, const struct tls_setup *s, struct span name)
{
	const struct certificate *first = s->certificates[0];

	if (name.size > 0)
		return certificate_has_name(c, name);
	return c == first ||
	       (first->name_count > 0 && certificate_has_name(c, span_of_string(first->names[0])));
}

/* Gives `use` those of a name: the first of each kind of key. How many there were. */
static unsigned
choose(const struct tls_setup *s, struct span name,
       bool (*use)(void *target, const struct certificate *c), void *target)
{
	int kinds[KEY_KINDS_MAX];
	unsigned count = 0;

	for (size_t i = 0; i < s->certificate_count && count < KEY_KINDS_MAX; i++) {
		const struct certificate *c = s->certificates[i];
		int kind = EVP_PKEY_get_base_id(c->key);
		bool is_known = false;
		for (unsigned k = 0; k < count; k++)
			is_known |= kinds[k] == kind;
		if (!is_known && is_for(c, s, name) && use(target, c))
			kinds[count++] = kind;
	}
	return count;
}

static bool
use_for_all(void *context, const struct certificate *c)
{
	return SSL_CTX_use_cert_and_key(context, c->leaf, c->key, c->chain, 1) == 1;
}

static bool
use_for_one(void *ssl, const struct certificate *c)
{
	return SSL_use_cert_and_key(ssl, c->leaf, c->key, c->chain, 1) == 1;
}

static bool
choose_for_client(SSL *ssl, const struct tls_setup *s)
{
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	char memory[TLS_NAME_MAX + 1];
	struct span name = span_first(span_of_string(asked), TLS_NAME_MAX);

	for (size_t i = 0; i < name.size; i++)
		memory[i] = (char)ascii_lower(name.data[i]);
	name.data = (const uint8_t *)memory;
	bool is_known = false;
	for (size_t i = 0; i < s->certificate_count && !is_known; i++)
		is_known = certificate_has_name(s->certificates[i], name);
	/* Otherwise what the context has is right. */
	if (!is_known || s->certificate_count == 1)
		return true;
	SSL_certs_clear(ssl);
	return choose(s, name, use_for_one, ssl) > 0;
}

/* ---- keys that are slow ---- */

/* Does TLS 1.3 sign with this key by this algorithm (RFC 8446 4.2.3)? */
static bool
signs_by(const EVP_PKEY *key, unsigned algorithm)
{
	static const struct {
		unsigned first, last;
		int kind, bits; /* 0 bits: any */
	} rows[] = {
		{ 0x0403, 0x0403, EVP_PKEY_EC, 256 },    { 0x0503, 0x0503, EVP_PKEY_EC, 384 },
		{ 0x0603, 0x0603, EVP_PKEY_EC, 521 },    { 0x0804, 0x0806, EVP_PKEY_RSA, 0 },
		{ 0x0807, 0x0807, EVP_PKEY_ED25519, 0 }, { 0x0808, 0x0808, EVP_PKEY_ED448, 0 },
		{ 0x0809, 0x080b, EVP_PKEY_RSA_PSS, 0 },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (algorithm >= rows[i].first && algorithm <= rows[i].last)
			return EVP_PKEY_get_base_id(key) == rows[i].kind &&
			       (rows[i].bits == 0 || EVP_PKEY_get_bits(key) == rows[i].bits);
	}
	return false;
}

/* The keys of the certificates that were chosen. */
static unsigned
keys_of(SSL *ssl, EVP_PKEY *keys[KEY_KINDS_MAX])
{
	unsigned count = 0;
	long more = SSL_set_current_cert(ssl, SSL_CERT_SET_FIRST);

	for (; more == 1 && count < KEY_KINDS_MAX;
	     more = SSL_set_current_cert(ssl, SSL_CERT_SET_NEXT))
		keys[count++] = SSL_get_privatekey(ssl);
	SSL_set_current_cert(ssl, SSL_CERT_SET_FIRST);
	return count;
}

/* Does what comes next sign with a slow key? TLS 1.3 takes the first algorithm in our order that
 * both know and a key fits; in 1.2 it is the cipher that decides, so that any slow key may be it.
 */
static bool
signs_slowly(SSL *ssl)
{
	EVP_PKEY *keys[KEY_KINDS_MAX];
	unsigned count = keys_of(ssl, keys);
	bool has_slow = false;
	unsigned char signature, hash;

	for (unsigned k = 0; k < count; k++)
		has_slow |= certificate_key_is_slow(keys[k]);
	if (!has_slow || SSL_version(ssl) != TLS1_3_VERSION)
		return has_slow;
	int common = SSL_get_shared_sigalgs(ssl, 0, NULL, NULL, NULL, NULL, NULL);
	for (int i = 0; i < common; i++) {
		SSL_get_shared_sigalgs(ssl, i, NULL, NULL, NULL, &signature, &hash);
		for (unsigned k = 0; k < count; k++) {
			if (signs_by(keys[k], (unsigned)hash << 8 | signature))
				return certificate_key_is_slow(keys[k]);
		}
	}
	return false;
}

static int
on_certificate(SSL *ssl, void *context)
{
	struct engine *e = engine_of_ssl(ssl);

	(void)context;
	if (!choose_for_client(ssl, e->setup))
		return 0;
	return engine_may_leave(e) && signs_slowly(ssl) ? -1 : 1;
}

/* Without Diffie-Hellman (TLS 1.2, tls.ciphers: compatible) it is the client's answer that takes
 * the key, to decrypt it. */
static bool
decrypts_slowly(struct engine *e)
{
	const SSL_CIPHER *cipher = SSL_get_pending_cipher(e->ssl);
	EVP_PKEY *keys[KEY_KINDS_MAX];

	if (cipher == NULL || SSL_CIPHER_get_kx_nid(cipher) != NID_kx_rsa)
		return false;
	unsigned count = keys_of(e->ssl, keys);
	for (unsigned k = 0; k < count; k++) {
		if (EVP_PKEY_get_base_id(keys[k]) == EVP_PKEY_RSA &&
		    certificate_key_is_slow(keys[k]))
			return true;
	}
	return false;
}

/* The names are known without an answer to SNI; but who asked should see that he was heard. */
static int
on_server_name(SSL *ssl, int *alert, void *context)
{
	(void)ssl;
	(void)alert;
	(void)context;
	return SSL_TLSEXT_ERR_OK;
}

/* ---- the context ---- */

SSL_CTX *
tls_server_context(struct tls_setup *s, struct buf *why)
{
	const struct config_tls *options = &s->config->tls;
	SSL_CTX *x = tls_context_new(TLS_server_method(), options);

	if (x == NULL)
		return NULL;
	SSL_CTX_set_options(x, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_ciphersuites(x, CIPHERS_13);
	SSL_CTX_set_num_tickets(x, TICKETS_PER_SESSION);
	SSL_CTX_set_timeout(x, (long)(options->ticket_lifetime_ms / MS_PER_S));
	SSL_CTX_set_session_id_context(x, (const uint8_t *)SESSION_CONTEXT,
				       sizeof SESSION_CONTEXT - 1);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(x, on_ticket_key);
	SSL_CTX_set_tlsext_servername_callback(x, on_server_name);
	SSL_CTX_set_cert_cb(x, on_certificate, NULL);
	if (choose(s, span_none(), use_for_all, x) > 0) {
		ERR_clear_error();
		return x;
	}
	const char *reason = ERR_reason_error_string(ERR_peek_error());
	buf_printf(why, "tls.certificates: %s: cannot be used: %s; get one with a stronger key",
		   s->certificates[0]->chain_path, reason == NULL ? "?" : reason);
	ERR_clear_error();
	SSL_CTX_free(x);
	return NULL;
}

/* ---- accepting ---- */

/* Any certificate is taken, since it is only told of; whoever relies on it compares it. */
static int
take_any(int is_good, X509_STORE_CTX *store)
{
	(void)is_good;
	(void)store;
	return 1;
}

static void
on_free(struct engine *e)
{
	free(CONTAINER_OF(e, struct accepted, engine));
}

static const struct engine_side server_side = {
	.is_server = true,
	.heavy_may_leave = true,
	.peer = "the client",
	.is_long = decrypts_slowly,
	.on_free = on_free,
};

struct layer *
tls_accept(struct tls *t, const struct tls_accept_options *o)
{
	struct accepted *a = calloc(1, sizeof *a);

	ASSERT(tls_can_accept(t));
	if (a == NULL || !engine_init(&a->engine, t->server, t->setup, &server_side)) {
		free(a);
		return NULL;
	}
	if (o->ask_certificate)
		SSL_set_verify(a->engine.ssl, SSL_VERIFY_PEER, take_any);
	return &a->engine.layer;
}
