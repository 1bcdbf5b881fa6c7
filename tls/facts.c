/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "tls/engine.h"

const char *
tls_verified_label(enum tls_verified v)
{
	static const char *const labels[] = {
		[TLS_UNVERIFIED] = "no",
		[TLS_BY_CA] = "ca",
		[TLS_BY_DANE_TA] = "dane_ta",
		[TLS_BY_DANE_EE] = "dane_ee",
		[TLS_BY_FINGERPRINT] = "fingerprint",
	};

	ASSERT((size_t)v < sizeof labels / sizeof labels[0]);
	return labels[v];
}

const char *
tls_failure_label(enum tls_failure f)
{
	static const char *const labels[] = {
		[TLS_FAILURE_NONE] = "none",
		[TLS_FAILURE_PLAIN_TEXT] = "plain_text",
		[TLS_FAILURE_VERSION] = "version",
		[TLS_FAILURE_CIPHER] = "cipher",
		[TLS_FAILURE_CERTIFICATE] = "certificate",
		[TLS_FAILURE_ALERT] = "alert",
		[TLS_FAILURE_PROTOCOL] = "protocol",
		[TLS_FAILURE_MEMORY] = "memory",
	};

	ASSERT((size_t)f < sizeof labels / sizeof labels[0]);
	return labels[f];
}

void
tls_fingerprint_show(const uint8_t *fingerprint, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";

	for (unsigned i = 0; i < TLS_FINGERPRINT_SIZE; i++) {
		if (i > 0)
			buf_append_byte(out, ':');
		buf_append_byte(out, (uint8_t)digits[fingerprint[i] >> 4]);
		buf_append_byte(out, (uint8_t)digits[fingerprint[i] & 15]);
	}
}

/* The names that people use; OpenSSL's for P-256 is another. */
static const char *
group_name(int id)
{
	switch (id) {
	case NID_undef:
		return NULL;
	case NID_X9_62_prime256v1:
		return "P-256";
	case NID_secp384r1:
		return "P-384";
	case NID_secp521r1:
		return "P-521";
	default:
		return OBJ_nid2sn(id);
	}
}

/* One line, as RFC 2253 has it, but with UTF-8 as it is. What is no text in it is escaped. */
static void
show_subject(struct engine *e, X509 *certificate)
{
	struct engine_texts *t = e->texts;
	BIO *bio = BIO_new(BIO_s_mem());
	unsigned long flags = (XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);

	if (bio == NULL)
		return;
	X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, flags);
	int size = BIO_read(bio, t->subject, TLS_NAME_MAX);
	t->subject_size = (uint16_t)(size > 0 ? size : 0);
	BIO_free(bio);
}

static void
tell_certificate(struct engine *e, struct tls_facts *out)
{
	X509 *certificate = SSL_get0_peer_certificate(e->ssl);
	unsigned size = 0;

	if (certificate == NULL)
		return;
	out->has_certificate =
		X509_digest(certificate, EVP_sha256(), out->fingerprint, &size) == 1 &&
		size == TLS_FINGERPRINT_SIZE;
	if (e->texts == NULL)
		e->texts = calloc(1, sizeof *e->texts);
	if (e->texts == NULL)
		return;
	if (e->texts->subject_size == 0)
		show_subject(e, certificate);
	out->subject = span_of(e->texts->subject, e->texts->subject_size);
}

void
tls_facts(const struct layer *l, struct tls_facts *out)
{
	struct engine *e = engine_of(l);

	*out = (struct tls_facts){ 0 };
	if (l->is_busy) /* it is another thread's */
		return;
	const SSL_CIPHER *cipher = SSL_get_current_cipher(e->ssl);
	*out = (struct tls_facts){
		.resumed = SSL_session_reused(e->ssl) == 1,
		.verified = (enum tls_verified)e->verified,
		.server_name =
			span_of_string(SSL_get_servername(e->ssl, TLSEXT_NAMETYPE_host_name)),
		.failure = (enum tls_failure)e->failure,
		.result_type = e->result_type,
	};
	/* Before a cipher is chosen, the version is only what was hoped for. */
	if (cipher != NULL) {
		out->version = SSL_get_version(e->ssl);
		out->cipher = SSL_CIPHER_standard_name(cipher);
		out->group = group_name((int)SSL_get_negotiated_group(e->ssl));
	}
	tell_certificate(e, out);
	if (e->texts == NULL)
		return;
	out->why = span_of(e->texts->why, e->texts->why_size);
	out->unverified = span_of(e->texts->unverified, e->texts->unverified_size);
}
