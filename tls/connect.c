/* SPDX-License-Identifier: Apache-2.0
 *
 * Our side is the client: what a server must show, and whether what it shows is that.
 *
 * The certificate is judged while the handshake runs, so that a server that is not the one wished
 * for never sees our side of it finished, let alone a mail. With MAY and ENCRYPT it is judged all
 * the same, and only told. Names are compared as RFC 9525 says: a wildcard is the whole leftmost
 * label; the subject's common name counts for DANE-TA alone, and only where the certificate has no
 * DNS name (RFC 7672 3.2.3). DANE-EE looks at neither names nor dates (RFC 7672 3.1.1).
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tls/context.h"
#include "tls/engine.h"
#include "tls/sessions.h"

enum { DANE_TA = 2, DANE_EE = 3 };

struct client {
	struct engine engine; /* first */
	struct sessions *sessions;
	enum tls_level level;
	const uint8_t (*fingerprints)[TLS_FINGERPRINT_SIZE]; /* lent, as in the wish */
	size_t fingerprint_count;
	bool impossible;              /* nothing that a server shows could meet the wish */
	bool offered;                 /* a session was offered for resumption */
	bool judged;                  /* the certificate was looked at */
	int error;                    /* X509_V_ of it */
	enum tls_verified remembered; /* of that session */
	struct span session_key;      /* behind this */
	uint8_t texts[];
};

static struct client *
client_of(struct engine *e)
{
	ASSERT(!e->side->is_server);
	return CONTAINER_OF(e, struct client, engine);
}

/* ---- judging ---- */

/* RFC 8460 4.3. */
static const char *
result_type_of(int error)
{
	switch (error) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return "certificate-host-mismatch";
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return "certificate-expired";
	case X509_V_ERR_DANE_NO_MATCH:
		return "tlsa-invalid";
	case X509_V_ERR_APPLICATION_VERIFICATION:
		return "validation-failure";
	default:
		return "certificate-not-trusted";
	}
}

static bool
has_fingerprint(const struct client *c, const uint8_t *digest)
{
	for (size_t i = 0; i < c->fingerprint_count; i++) {
		if (memcmp(c->fingerprints[i], digest, TLS_FINGERPRINT_SIZE) == 0)
			return true;
	}
	return false;
}

static int
judge_fingerprint(struct client *c, const X509 *certificate)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	uint8_t memory[3 * TLS_FINGERPRINT_SIZE];
	struct buf text = buf_of(memory, sizeof memory);
	unsigned size = 0;

	if (X509_digest(certificate, EVP_sha256(), digest, &size) != 1)
		return X509_V_ERR_OUT_OF_MEM;
	if (has_fingerprint(c, digest))
		return X509_V_OK;
	tls_fingerprint_show(digest, &text);
	engine_fail(&c->engine, TLS_FAILURE_CERTIFICATE, "its certificate is another: %.*s",
		    SPAN_ARG(buf_span(&text)));
	return X509_V_ERR_APPLICATION_VERIFICATION;
}

/* "certificate has expired: /CN=mail.example.org" */
static void
say_why(struct client *c, X509 *certificate)
{
	char subject[TLS_WHY_MAX / 2] = "";
	char why[TLS_WHY_MAX];
	const char *words = X509_verify_cert_error_string(c->error);

	X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
	snprintf(why, sizeof why, "%s: %s", words, subject);
	if (c->level <= TLS_ENCRYPT)
		engine_say_unverified(&c->engine, why);
	else
		engine_fail(&c->engine, TLS_FAILURE_CERTIFICATE, "%s", why);
}

/* For OpenSSL, in place of its own X509_verify_cert(). */
static int
judge(X509_STORE_CTX *ctx, void *unused)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct client *c = client_of(engine_of_ssl(ssl));
	X509 *certificate = X509_STORE_CTX_get0_cert(ctx);

	(void)unused;
	if (c->impossible)
		X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
	else if (c->level == TLS_FINGERPRINT)
		X509_STORE_CTX_set_error(ctx, judge_fingerprint(c, certificate));
	else
		X509_verify_cert(ctx);
	c->judged = true;
	c->error = X509_STORE_CTX_get_error(ctx);
	/* What X509_verify_cert() may have left says nothing that its error does not. */
	ERR_clear_error();
	if (c->error != X509_V_OK) {
		say_why(c, certificate);
		c->engine.result_type = result_type_of(c->error);
	}
	return c->error == X509_V_OK || c->level <= TLS_ENCRYPT;
}

/* By whom, in a full handshake that is done. */
static enum tls_verified
verified_by(struct client *c)
{
	uint8_t usage = 0;

	if (!c->judged || c->error != X509_V_OK)
		return TLS_UNVERIFIED;
	if (c->level == TLS_FINGERPRINT)
		return TLS_BY_FINGERPRINT;
	if (c->level != TLS_DANE)
		return TLS_BY_CA;
	if (SSL_get0_dane_tlsa(c->engine.ssl, &usage, NULL, NULL, NULL, NULL) < 0)
		return TLS_UNVERIFIED;
	return usage == DANE_EE ? TLS_BY_DANE_EE : TLS_BY_DANE_TA;
}

static void
on_open(struct engine *e)
{
	struct client *c = client_of(e);

	/* Of a resumed session it is what was found when that was made. */
	e->verified = (uint8_t)(SSL_session_reused(e->ssl) ? c->remembered : verified_by(c));
	if (e->verified == TLS_UNVERIFIED && SSL_session_reused(e->ssl))
		engine_say_unverified(e, "it was not when the session was made");
}

static void
on_free(struct engine *e)
{
	struct client *c = client_of(e);

	/* A session that did not do is not offered again. */
	if (c->offered && e->layer.state == LAYER_FAILED)
		sessions_drop(c->sessions, c->session_key);
	free(c);
}

static const struct engine_side client_side = {
	.is_server = false,
	.peer = "the server",
	.on_open = on_open,
	.on_free = on_free,
};

/* ---- sessions ---- */

/* A session is ours now. It comes behind the server's certificate, but in TLS 1.2 ahead of the end
 * of the handshake. */
static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	struct client *c = client_of(engine_of_ssl(ssl));
	bool again = SSL_session_reused(ssl) == 1;

	if (c->session_key.size == 0)
		return 0;
	sessions_keep(c->sessions, c->session_key, session, again ? c->remembered : verified_by(c));
	return 1;
}

static void
offer_session(struct client *c)
{
	const struct session *s =
		c->session_key.size > 0 ? sessions_find(c->sessions, c->session_key) : NULL;

	if (s == NULL || SSL_set_session(c->engine.ssl, s->ssl) != 1)
		return;
	c->offered = true;
	c->remembered = s->verified;
}

/* ---- the wish ---- */

SSL_CTX *
tls_client_context(struct tls_setup *s)
{
	SSL_CTX *x = tls_context_new(TLS_client_method(), &s->config->tls);

	if (x == NULL || SSL_CTX_dane_enable(x) <= 0) {
		SSL_CTX_free(x);
		return NULL;
	}
	SSL_CTX_dane_set_flags(x, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	if (s->trust != NULL)
		SSL_CTX_set1_cert_store(x, s->trust);
	SSL_CTX_set_verify(x, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(x, judge, NULL);
	SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
	SSL_CTX_sess_set_new_cb(x, on_session);
	return x;
}

/* OpenSSL wants its texts with a NUL; a name with one in it is nobody's. */
static bool
text_of(struct span name, char out[TLS_NAME_MAX + 1])
{
	if (name.size == 0 || name.size > TLS_NAME_MAX || memchr(name.data, 0, name.size) != NULL)
		return false;
	memcpy(out, name.data, name.size);
	out[name.size] = 0;
	return true;
}

/* Which names its certificate may have. False where there is none. */
static bool
ask_for_names(SSL *ssl, const struct tls_wish *w)
{
	unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
	bool any = false;

	if (w->level != TLS_DANE)
		flags |= X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
	SSL_set_hostflags(ssl, flags);
	for (unsigned i = 0; i < w->name_count; i++) {
		char name[TLS_NAME_MAX + 1];
		if (text_of(w->names[i], name))
			any |= (any ? SSL_add1_host(ssl, name) : SSL_set1_host(ssl, name)) == 1;
	}
	return any;
}

/* False where no record can be used, which no certificate can match. */
static bool
ask_for_records(SSL *ssl, const struct tls_wish *w)
{
	char base[TLS_NAME_MAX + 1];
	bool any = false;

	if (w->name_count == 0 || !text_of(w->names[0], base) || SSL_dane_enable(ssl, base) <= 0)
		return false;
	for (size_t i = 0; i < w->record_count; i++) {
		const struct tlsa *r = &w->records[i];
		/* With PKIX-TA and PKIX-EE, CAs would count, which RFC 7672 3.1.3 rules out. */
		if (r->usage == DANE_TA || r->usage == DANE_EE)
			any |= SSL_dane_tlsa_add(ssl, r->usage, r->selector, r->matching,
						 r->data.data, r->data.size) > 0;
	}
	return any;
}

/* Any encryption is better than none, also with the ciphers and small keys of old hosts. */
static void
take_what_there_is(SSL *ssl)
{
	SSL_set_cipher_list(ssl, "DEFAULT:!PSK:!SRP");
	SSL_set1_groups_list(ssl, "X25519:P-256:P-384:P-521");
	if (SSL_get_security_level(ssl) > 1)
		SSL_set_security_level(ssl, 1);
}

static void
ask(struct client *c, const struct tls_wish *w)
{
	SSL *ssl = c->engine.ssl;
	char name[TLS_NAME_MAX + 1];

	if (text_of(w->server_name, name))
		SSL_set_tlsext_host_name(ssl, name);
	if (w->trust != NULL)
		SSL_set1_verify_cert_store(ssl, w->trust->store);
	if (w->level == TLS_MAY)
		take_what_there_is(ssl);
	if (w->level == TLS_DANE && !ask_for_records(ssl, w)) {
		c->impossible = true;
		engine_fail(&c->engine, TLS_FAILURE_CERTIFICATE,
			    "there is no TLSA record that could be matched");
	}
	if (w->level == TLS_FINGERPRINT)
		return;
	if (!ask_for_names(ssl, w) && w->level == TLS_VERIFY) {
		c->impossible = true;
		engine_fail(&c->engine, TLS_FAILURE_CERTIFICATE,
			    "there is no name that its certificate could have");
	}
}

struct layer *
tls_connect(struct tls *t, const struct tls_wish *w)
{
	struct client *c = calloc(1, sizeof *c + w->session_key.size);

	ASSERT(w->level >= TLS_MAY);
	if (c == NULL)
		return NULL;
	if (!engine_init(&c->engine, t->client, t->setup, &client_side)) {
		free(c);
		return NULL;
	}
	c->sessions = t->sessions;
	c->level = w->level;
	c->fingerprints = w->fingerprints;
	c->fingerprint_count = w->fingerprint_count;
	if (w->session_key.size > 0)
		memcpy(c->texts, w->session_key.data, w->session_key.size);
	c->session_key = span_of(c->texts, w->session_key.size);
	ask(c, w);
	offer_session(c);
	ERR_clear_error();
	engine_start(&c->engine);
	return &c->engine.layer;
}
