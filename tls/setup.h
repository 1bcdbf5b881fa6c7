/* SPDX-License-Identifier: Apache-2.0
 *
 * setup: what a tls_setup is made of. Inside of tls/ only; tls.h has what others call.
 *
 * All of it is immutable once loaded, and shared by the workers: certificates, keys and trusted
 * authorities are OpenSSL's counted objects. Only the tickets change, under their own lock; they go
 * from one setup to the next.
 */
#ifndef TLS_SETUP_H
#define TLS_SETUP_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdatomic.h>

#include "core/file.h"
#include "tls/tickets.h"
#include "tls/tls.h"

/* A certificate of ours with its key. Counted, for setups that have it in common. */
struct certificate {
	atomic_uint references;
	char *chain_path;
	char *key_path;
	struct file_identity chain_identity;
	struct file_identity key_identity;
	X509 *leaf;
	STACK_OF(X509) * chain; /* without the leaf */
	EVP_PKEY *key;
	char **names; /* lower case; "*.example.org" for all of one label more */
	size_t name_count;
	int64_t not_before_s; /* wall clock */
	int64_t not_after_s;
};

struct tls_trust {
	X509_STORE *store;
};

struct tls_setup {
	atomic_uint references;
	const struct config *config; /* one reference: options */
	struct certificate **certificates;
	bool *is_fresh; /* of each: was read for this setup */
	size_t certificate_count;
	X509_STORE *trust; /* whom we believe as a client; NULL: nobody */
	struct file_identity trust_identity;
	const char *trust_path; /* NULL: none */
	struct tickets *tickets;
};

/* Reads the files of one. NULL with a line in `why`. */
struct certificate *certificate_load(struct span chain_path, struct span key_path, struct buf *why);
struct certificate *certificate_get(struct certificate *c);
void certificate_put(struct certificate *c);
/* Does a signature with it take far longer than the rest of a handshake? */
bool certificate_key_is_slow(const EVP_PKEY *key);
/* Is it for this host (lower case)? A wildcard stands for one label (RFC 6125 6.4.3). */
bool certificate_has_name(const struct certificate *c, struct span name);

#endif
