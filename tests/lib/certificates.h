/* SPDX-License-Identifier: Apache-2.0
 *
 * certificates: certificates and keys for tests, made on the spot and written as PEM files.
 */
#ifndef TESTS_LIB_CERTIFICATES_H
#define TESTS_LIB_CERTIFICATES_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

struct made_certificate {
	X509 *x509;
	EVP_PKEY *key;
};

/* A zeroed wish is for an ECDSA certificate for no name, signed by itself, from yesterday until a
 * year from now. */
struct certificate_wish {
	unsigned rsa_bits;       /* 0: ECDSA with P-256 */
	const char *common_name; /* NULL: "test" */
	const char *names;       /* as OpenSSL's configuration has it: "DNS:a,DNS:*.b"; or NULL */
	bool is_authority;       /* may sign others */
	int64_t begins_in_s;     /* 0: yesterday */
	int64_t ends_in_s;       /* 0: in a year */
	const struct made_certificate *issuer; /* NULL: itself */
};

/* Ends the test where OpenSSL refuses. */
struct made_certificate certificate_make(const struct certificate_wish *wish);
void certificate_drop(struct made_certificate *c);
/* Writes the certificate, then (or NULL) its issuer's, and the key with mode 0600. */
void certificate_write(const struct made_certificate *c, const struct made_certificate *issuer,
		       const char *chain_path, const char *key_path);

#endif
