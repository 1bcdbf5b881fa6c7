/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/assert.h"
#include "tls/setup.h"

enum {
	FILE_MAX = 1024 * 1024,
	CHAIN_MAX = 16,   /* certificates behind the first: a handshake sends them all */
	NAMES_MAX = 1000, /* of one certificate */
	PATH_SHOWN_MAX = 200,
	/* Signatures above take milliseconds: RSA, and curves that OpenSSL has no fast code for. */
	FAST_RSA_BITS = 2048,
	FAST_EC_BITS = 256,
};

static bool
refuse(struct buf *why, const char *file, const char *fault, const char *remedy)
{
	struct span path = span_of_string(file);

	if (path.size > PATH_SHOWN_MAX)
		path = span_after(path, path.size - PATH_SHOWN_MAX);
	buf_append_string(why, "tls.certificates: ");
	buf_append(why, path);
	buf_append_string(why, ": ");
	buf_append_string(why, fault);
	buf_append_string(why, "; ");
	buf_append_string(why, remedy);
	ERR_clear_error();
	return false;
}

static char *
read_text(const char *path, size_t *size, struct file_identity *identity, struct buf *why)
{
	char *text = file_read(path, FILE_MAX, size, identity);

	if (text == NULL)
		refuse(why, path, strerror(errno),
		       errno == EBUSY ? "replace it by renaming a new one"
				      : "name a file that the relay's user can read");
	return text;
}

/* ---- the chain ---- */

static bool
parse_chain(struct certificate *c, BIO *bio, struct buf *why)
{
	X509 *x;

	c->chain = sk_X509_new_null();
	c->leaf = c->chain == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
	if (c->leaf == NULL)
		return refuse(why, c->chain_path, "has no certificate in PEM",
			      "put the certificate first, and those of its issuers behind it");
	while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		if (sk_X509_num(c->chain) == CHAIN_MAX || sk_X509_push(c->chain, x) <= 0) {
			X509_free(x);
			return refuse(why, c->chain_path, "has too many certificates",
				      "leave in those of the issuers alone");
		}
	}
	/* At the end of the file there is no further beginning; anything else is a broken one. */
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return refuse(why, c->chain_path, "has a broken certificate",
			      "write the file anew from what the authority gave");
	ERR_clear_error();
	return true;
}

static bool
seconds_of(const ASN1_TIME *time, int64_t *out)
{
	struct tm tm;

	if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
		return false;
	*out = timegm(&tm);
	return true;
}

/* ---- its names ---- */

static bool
add_name(struct certificate *c, const ASN1_STRING *text)
{
	size_t size = (size_t)ASN1_STRING_length(text);
	const uint8_t *bytes = ASN1_STRING_get0_data(text);

	/* A NUL inside was once a way to fake names; no host has one. */
	if (size == 0 || size > TLS_NAME_MAX || memchr(bytes, 0, size) != NULL ||
	    c->name_count == NAMES_MAX)
		return true;
	char *name = malloc(size + 1);
	char **names = realloc(c->names, (c->name_count + 1) * sizeof *names);
	if (names != NULL)
		c->names = names;
	if (name == NULL || names == NULL) {
		free(name);
		return false;
	}
	for (size_t i = 0; i < size; i++)
		name[i] = (char)ascii_lower(bytes[i]);
	name[size] = '\0';
	c->names[c->name_count++] = name;
	return true;
}

/* Those of subjectAltName; the common name only where there are none (RFC 6125 6.4.4). */
static bool
add_names(struct certificate *c)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(c->leaf, NID_subject_alt_name, NULL, NULL);
	bool is_good = true;

	for (int i = 0; is_good && i < sk_GENERAL_NAME_num(all); i++) {
		const GENERAL_NAME *one = sk_GENERAL_NAME_value(all, i);
		if (one->type == GEN_DNS)
			is_good = add_name(c, one->d.dNSName);
	}
	GENERAL_NAMES_free(all);
	if (!is_good || c->name_count > 0)
		return is_good;
	const X509_NAME *subject = X509_get_subject_name(c->leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	return at < 0 || add_name(c, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

bool
certificate_key_is_slow(const EVP_PKEY *key)
{
	int bits = EVP_PKEY_get_bits(key);

	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_ED25519:
		return false;
	case EVP_PKEY_EC:
		return bits > FAST_EC_BITS;
	default:
		return bits > FAST_RSA_BITS;
	}
}

bool
certificate_has_name(const struct certificate *c, struct span name)
{
	size_t dot = span_find(name, '.', 0);

	for (size_t i = 0; i < c->name_count; i++) {
		struct span own = span_of_string(c->names[i]);
		if (span_eq(own, name))
			return true;
		if (span_starts_with(own, SPAN("*.")) && dot > 0 && dot < name.size &&
		    span_eq(span_after(own, 1), span_after(name, dot)))
			return true;
	}
	return false;
}

/* ---- the key ---- */

/* A daemon cannot ask for a passphrase. */
static int
no_passphrase(char *out, int size, int is_for_writing, void *context)
{
	(void)out;
	(void)size;
	(void)is_for_writing;
	*(bool *)context = true;
	return -1;
}

static bool
load_key(struct certificate *c, struct buf *why)
{
	bool is_encrypted = false;
	size_t size;

	if (!file_is_private(c->key_path, why))
		return false;
	char *text = read_text(c->key_path, &size, &c->key_identity, why);
	if (text == NULL)
		return false;
	BIO *bio = BIO_new_mem_buf(text, (int)size);
	if (bio != NULL)
		c->key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &is_encrypted);
	BIO_free(bio);
	OPENSSL_cleanse(text, size);
	free(text);
	if (is_encrypted)
		return refuse(why, c->key_path, "is a key with a passphrase",
			      "write it without one (openssl pkey), readable for the relay alone");
	if (c->key == NULL)
		return refuse(why, c->key_path, "has no private key in PEM",
			      "name the file with the key of this certificate");
	if (X509_check_private_key(c->leaf, c->key) != 1)
		return refuse(why, c->key_path, "is the key of another certificate",
			      "name the chain and the key that were made together");
	return true;
}

static bool
load_chain(struct certificate *c, struct buf *why)
{
	size_t size;
	char *text = read_text(c->chain_path, &size, &c->chain_identity, why);

	if (text == NULL)
		return false;
	BIO *bio = BIO_new_mem_buf(text, (int)size);
	bool is_good = bio != NULL && parse_chain(c, bio, why);
	BIO_free(bio);
	OPENSSL_cleanse(text, size); /* the key may be in the same file */
	free(text);
	if (!is_good)
		return false;
	if (!seconds_of(X509_get0_notBefore(c->leaf), &c->not_before_s) ||
	    !seconds_of(X509_get0_notAfter(c->leaf), &c->not_after_s))
		return refuse(why, c->chain_path, "does not say how long it is valid",
			      "get another certificate");
	return add_names(c) || refuse(why, c->chain_path, "out of memory", "give the relay more");
}

struct certificate *
certificate_load(struct span chain_path, struct span key_path, struct buf *why)
{
	struct certificate *c = calloc(1, sizeof *c);

	ERR_clear_error();
	if (c == NULL) {
		buf_append_string(why, "out of memory for the certificates");
		return NULL;
	}
	atomic_init(&c->references, 1);
	c->chain_path = strndup((const char *)chain_path.data, chain_path.size);
	c->key_path = strndup((const char *)key_path.data, key_path.size);
	if (c->chain_path == NULL || c->key_path == NULL)
		buf_append_string(why, "out of memory for the certificates");
	else if (load_chain(c, why) && load_key(c, why))
		return c;
	certificate_put(c);
	return NULL;
}

struct certificate *
certificate_get(struct certificate *c)
{
	atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
	return c;
}

void
certificate_put(struct certificate *c)
{
	if (atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1)
		return;
	X509_free(c->leaf);
	sk_X509_pop_free(c->chain, X509_free);
	EVP_PKEY_free(c->key);
	for (size_t i = 0; i < c->name_count; i++)
		free(c->names[i]);
	free(c->names);
	free(c->chain_path);
	free(c->key_path);
	free(c);
}
