/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/policy.h"

#include <openssl/evp.h>

#include "core/base/assert.h"

enum {
	SHA256_SIZE = 32,
	DIGEST_SHOWN = 8, /* bytes of it that tell lists of fingerprints apart */
};

const char *
tls_level_label(enum tls_level level)
{
	static const char *const labels[] = {
		[TLS_NONE] = "none",     [TLS_MAY] = "may",   [TLS_ENCRYPT] = "encrypt",
		[TLS_VERIFY] = "verify", [TLS_DANE] = "dane", [TLS_FINGERPRINT] = "fingerprint",
	};

	ASSERT((size_t)level < sizeof(labels) / sizeof(labels[0]));
	return labels[level];
}

const char *
tls_source_label(enum tls_source source)
{
	static const char *const labels[] = {
		[TLS_BY_DEFAULT] = "default", [TLS_BY_ROUTE] = "route", [TLS_BY_DANE] = "dane",
		[TLS_BY_STS] = "sts",         [TLS_BY_MAIL] = "mail",
	};

	ASSERT((size_t)source < sizeof(labels) / sizeof(labels[0]));
	return labels[source];
}

const char *
dane_verdict_label(enum dane_verdict v)
{
	static const char *const labels[] = {
		[DANE_NOT_ASKED] = "not_asked", [DANE_NONE] = "none",     [DANE_USABLE] = "usable",
		[DANE_UNUSABLE] = "unusable",   [DANE_FAILED] = "failed",
	};

	ASSERT((size_t)v < sizeof(labels) / sizeof(labels[0]));
	return labels[v];
}

static void
append_hex(struct buf *out, struct span bytes)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < bytes.size; i++) {
		buf_append_byte(out, (uint8_t)digits[bytes.data[i] >> 4]);
		buf_append_byte(out, (uint8_t)digits[bytes.data[i] & 15]);
	}
}

/* Sixteen fingerprints would be a kilobyte; a site's name is read by people. */
static void
append_fingerprints(const struct tls_policy *p, struct buf *out)
{
	uint8_t digest[SHA256_SIZE];
	size_t size = 0;

	ASSERT(p->fingerprint_count > 0 && p->fingerprint_count <= TLS_FINGERPRINTS_MAX);
	int done = EVP_Q_digest(NULL, "SHA256", NULL, p->fingerprints,
				p->fingerprint_count * TLS_FINGERPRINT_SIZE, digest, &size);
	ASSERT(done == 1 && size == sizeof(digest));
	buf_append_byte(out, ':');
	append_hex(out, span_of(digest, DIGEST_SHOWN));
}

void
tls_policy_take_need(struct tls_policy *p, enum tls_need need)
{
	p->need = need;
	if (need != TLS_NEED_OPTIONAL || p->source == TLS_BY_ROUTE)
		return;
	p->level = TLS_MAY;
	p->source = TLS_BY_MAIL;
}

static void
append_level(const struct tls_policy *p, struct buf *out)
{
	bool where_published = p->dane && p->level == TLS_MAY;

	if (p->level == TLS_MAY && p->source != TLS_BY_ROUTE && !p->dane && !p->testing)
		return;
	buf_append_string(out, " tls=");
	buf_append_string(out, where_published ? "dane" : tls_level_label(p->level));
	/* A route that demands DANE leaves out hosts that a domain with it uses all the same. */
	if (p->level == TLS_DANE)
		buf_append_string(out, "-only");
	if (p->level == TLS_FINGERPRINT)
		append_fingerprints(p, out);
	if (p->dane && !where_published && p->level != TLS_DANE)
		buf_append_string(out, " dane");
	if (p->dane_names) {
		buf_append_string(out, " for=");
		buf_append(out, p->domain);
	}
	if (p->source == TLS_BY_STS)
		buf_append_string(out, p->testing ? " sts-testing" : " sts");
	else if (p->testing)
		buf_append_string(out, " testing");
}

void
tls_policy_key(const struct tls_policy *p, struct buf *out)
{
	if (p->source == TLS_BY_MAIL) {
		ASSERT(p->level == TLS_MAY && !p->dane && !p->testing);
		buf_append_string(out, " tls=optional");
		return;
	}
	append_level(p, out);
	if (p->need == TLS_NEED_REQUIRED)
		buf_append_string(out, " requiretls");
}
