/* SPDX-License-Identifier: Apache-2.0
 *
 * tls: TLS for the connections of a worker, both ways, with OpenSSL (1.2 and 1.3).
 *
 * Two parts. A `tls_setup` is what files and options say: certificates, keys, trust, ticket keys;
 * immutable, shared by all workers, counted atomically; made on the main or control thread, since
 * it reads files. A `struct tls` is one worker's: the SSL_CTX objects made from a setup, and the
 * sessions of servers that we may resume. The layers that tls_accept and tls_connect give are for
 * conn_secure(); they are pure (core/layer.h) and keep what they need of the setup that they began
 * with.
 *
 * Sizes: an idle session takes about 15 KiB of OpenSSL's memory, a handshake 50 KiB for its time.
 * Errors are in words that an operator understands (tls_facts.why), from OpenSSL's queue, which is
 * empty again after each call. Keys never leave this folder: not in a log, not in `why`.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "core/config.h"
#include "core/layer.h"
#include "core/worker.h"
#include "tls/policy.h"

enum { TLS_WHY_MAX = 200, TLS_NAME_MAX = 255 };

struct tls;
struct tls_setup;

/* Reads the files that `config` names; what `old` (or NULL) has of files that have not changed is
 * taken from there. NULL with one line in `why`: file, what is wrong, the remedy. A key that others
 * can read is refused. */
struct tls_setup *tls_setup_load(const struct config *config, const struct tls_setup *old,
				 struct buf *why);
struct tls_setup *tls_setup_get(struct tls_setup *s);
void tls_setup_put(struct tls_setup *s);
/* A number for what the files were when they were read, and for what they are now. */
uint64_t tls_setup_state(const struct tls_setup *s);
uint64_t tls_setup_state_on_disk(const struct tls_setup *s);
/* Is there a certificate for listeners? */
bool tls_setup_has_certificate(const struct tls_setup *s);

/* One of ours, for people. */
struct tls_certificate {
	struct span file;
	struct span name; /* the first; empty: for no host */
	size_t name_count;
	int64_t not_before_s; /* wall clock */
	int64_t not_after_s;
	const char *key_kind; /* "EC", "RSA" */
	unsigned key_bits;
	bool is_slow;  /* its signatures are made by helpers, where there are any */
	bool is_fresh; /* read for this setup, not taken over */
};

/* How long one signature with its key takes on this machine now; 0: it could not be measured. */
uint64_t tls_setup_signing_us(const struct tls_setup *s, size_t i);
size_t tls_setup_certificate_count(const struct tls_setup *s);
void tls_setup_certificate(const struct tls_setup *s, size_t i, struct tls_certificate *out);

/* Whom to believe in place of `tls.ca_file`, for servers of our own (Redis): "auto" are the
 * authorities of this host. Immutable, and read by all workers. NULL with one line in `why`. */
struct tls_trust;
struct tls_trust *tls_trust_load(struct span file, struct buf *why);
void tls_trust_free(struct tls_trust *t);

/* NULL with a line in `why`. */
struct tls *tls_new(struct tls_setup *s, struct buf *why);
void tls_free(struct tls *t);
/* What begins from now on uses this setup. On the worker. False: no memory, the old one stays. */
bool tls_adopt(struct tls *t, struct tls_setup *s);

/* ---- our side is the server ---- */

struct tls_accept_options {
	bool ask_certificate; /* the client may show one; it is not judged, only told */
};

/* Is there a certificate to show? */
bool tls_can_accept(const struct tls *t);
/* NULL: no memory. */
struct layer *tls_accept(struct tls *t, const struct tls_accept_options *o);

/* ---- our side is the client ---- */

/* What a server must show. All of it is copied, but `records` and `fingerprints`, which live as
 * long as the layer. */
struct tls_wish {
	enum tls_level level;    /* MAY to FINGERPRINT */
	struct span server_name; /* SNI; empty for none (an address) */
	/* One of these must be in the certificate (VERIFY, DANE-TA); nothing else is a name of it.
	 */
	struct span names[TLS_NAMES_MAX];
	unsigned name_count;
	const struct tls_trust *trust; /* NULL: that of the setup; lent for the call */
	const struct tlsa *records;    /* DANE */
	size_t record_count;
	const uint8_t (*fingerprints)[TLS_FINGERPRINT_SIZE];
	size_t fingerprint_count;
	/* Sessions are resumed among connections with the same key: host, port and what was
	 * checked. Empty: none is kept. */
	struct span session_key;
};

/* NULL: no memory. The handshake fails where the wish is not met; with MAY and ENCRYPT the
 * certificate is checked all the same, and what was found is told. */
struct layer *tls_connect(struct tls *t, const struct tls_wish *wish);

/* ---- both ---- */

enum tls_verified {
	TLS_UNVERIFIED, /* see `unverified` for why */
	TLS_BY_CA,      /* chain and name */
	TLS_BY_DANE_TA,
	TLS_BY_DANE_EE,
	TLS_BY_FINGERPRINT,
};

/* Why a handshake, or what followed it, failed. */
enum tls_failure {
	TLS_FAILURE_NONE,
	TLS_FAILURE_PLAIN_TEXT,  /* the peer does not speak TLS */
	TLS_FAILURE_VERSION,     /* no version in common */
	TLS_FAILURE_CIPHER,      /* no cipher, group or signature in common */
	TLS_FAILURE_CERTIFICATE, /* one side did not accept the other's */
	TLS_FAILURE_ALERT,       /* the peer gave up for another reason */
	TLS_FAILURE_PROTOCOL,    /* the peer broke the protocol */
	TLS_FAILURE_MEMORY,
};

/* What became of a handshake. Spans live as long as the layer. */
struct tls_facts {
	const char *version; /* "TLSv1.3"; NULL: not known yet */
	const char *cipher;  /* "TLS_AES_256_GCM_SHA384" */
	const char *group;   /* "X25519"; NULL: none */
	bool resumed;
	enum tls_verified verified;
	struct span server_name; /* SNI that was given or asked for */
	bool has_certificate;    /* the peer has shown one */
	uint8_t fingerprint[TLS_FINGERPRINT_SIZE];
	struct span subject;    /* of the peer's certificate, one line */
	struct span unverified; /* why it could not be verified, in words */
	enum tls_failure failure;
	struct span why; /* FAILED: in words */
	/* FAILED: which of the result types of RFC 8460 4.3 it is, or NULL. */
	const char *result_type;
};

void tls_facts(const struct layer *l, struct tls_facts *out);
const char *tls_verified_label(enum tls_verified v);
const char *tls_failure_label(enum tls_failure f);
/* Hexadecimal with colons, as `openssl x509 -fingerprint -sha256` writes it. */
void tls_fingerprint_show(const uint8_t *fingerprint, struct buf *out);

#endif
