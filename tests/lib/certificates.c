/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/certificates.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { X509_VERSION_OF_3 = 2, DAY_S = 24 * 3600 };

#define NEED(condition)                                                                       \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			fprintf(stderr, "certificates: %s: line %d\n", #condition, __LINE__); \
			ERR_print_errors_fp(stderr);                                          \
			abort();                                                              \
		}                                                                             \
	} while (0)

static void
extend(X509 *x, int nid, const char *value, X509 *issuer)
{
	X509V3_CTX context;

	X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	NEED(e != NULL);
	NEED(X509_add_ext(x, e, -1) == 1);
	X509_EXTENSION_free(e);
}

struct made_certificate
certificate_make(const struct certificate_wish *wish)
{
	struct made_certificate c;
	const char *common = wish->common_name == NULL ? "test" : wish->common_name;
	uint32_t serial = 0;

	c.key = wish->rsa_bits == 0 ? EVP_EC_gen("P-256") : EVP_RSA_gen(wish->rsa_bits);
	c.x509 = X509_new();
	NEED(c.key != NULL && c.x509 != NULL && RAND_bytes((uint8_t *)&serial, sizeof serial) == 1);
	X509 *issuer = wish->issuer == NULL ? c.x509 : wish->issuer->x509;
	NEED(X509_set_version(c.x509, X509_VERSION_OF_3) == 1);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x509), (long)(serial >> 1));
	X509_gmtime_adj(X509_getm_notBefore(c.x509),
			wish->begins_in_s == 0 ? -DAY_S : wish->begins_in_s);
	X509_gmtime_adj(X509_getm_notAfter(c.x509),
			wish->ends_in_s == 0 ? 365 * DAY_S : wish->ends_in_s);
	NEED(X509_set_pubkey(c.x509, c.key) == 1);
	NEED(X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x509), "CN", MBSTRING_UTF8,
					(const uint8_t *)common, -1, -1, 0) == 1);
	NEED(X509_set_issuer_name(c.x509, X509_get_subject_name(issuer)) == 1);
	extend(c.x509, NID_basic_constraints, wish->is_authority ? "critical,CA:TRUE" : "CA:FALSE",
	       issuer);
	if (wish->names != NULL)
		extend(c.x509, NID_subject_alt_name, wish->names, issuer);
	NEED(X509_sign(c.x509, wish->issuer == NULL ? c.key : wish->issuer->key, EVP_sha256()) > 0);
	return c;
}

void
certificate_drop(struct made_certificate *c)
{
	X509_free(c->x509);
	EVP_PKEY_free(c->key);
	*c = (struct made_certificate){ 0 };
}

void
certificate_write(const struct made_certificate *c, const struct made_certificate *issuer,
		  const char *chain_path, const char *key_path)
{
	FILE *file = fopen(chain_path, "w");

	NEED(file != NULL && PEM_write_X509(file, c->x509) == 1);
	NEED(issuer == NULL || PEM_write_X509(file, issuer->x509) == 1);
	NEED(fclose(file) == 0);
	file = fopen(key_path, "w");
	NEED(file != NULL && chmod(key_path, 0600) == 0);
	NEED(PEM_write_PKCS8PrivateKey(file, c->key, NULL, NULL, 0, NULL, NULL) == 1);
	NEED(fclose(file) == 0);
}
