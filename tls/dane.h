/* SPDX-License-Identifier: Apache-2.0
 *
 * dane: what the answer about a mail host's TLSA records means, and which of them count (RFC 7672
 * 2.2 and 3.1, RFC 7671 9).
 *
 * PURE, libcrypto aside, which reads the keys and certificates that stand in records as a whole.
 * Certificates are not matched here: tls_connect() does that with the records that are selected.
 *
 * Usable for SMTP are DANE-TA (2) and DANE-EE (3), with a known selector and matching type, and
 * with data that fits: a digest of the right size, or DER that is a certificate or public key from
 * its first to its last byte. PKIX-TA (0) and PKIX-EE (1) are not (RFC 7672 3.1.3). Of the digests
 * for one usage and selector only the strongest kind counts (digest agility); whole certificates
 * and keys always do.
 *
 * An answer that was not validated counts as none: it could be anyone's.
 */
#ifndef TLS_DANE_H
#define TLS_DANE_H

#include <stddef.h>

#include "dns/resolver.h"
#include "tls/policy.h"

enum {
	TLSA_DANE_TA = 2,
	TLSA_DANE_EE = 3,
	TLSA_CERTIFICATE = 0, /* selectors */
	TLSA_KEY = 1,
	TLSA_WHOLE = 0, /* matching types */
	TLSA_SHA256 = 1,
	TLSA_SHA512 = 2,
};

/* `a` may be NULL: not asked. USABLE: the records that count are in `out`, which has room for
 * a->count of them, and *count says how many; they point into the answer. Else *count is 0. */
enum dane_verdict dane_select(const struct dns_answer *a, struct tlsa *out, size_t *count);
/* Is one of them DANE-TA? Then names count (RFC 7672 3.2.2). */
bool dane_needs_name(const struct tlsa *records, size_t count);
/* "3 1 1 0c72ac70…": the beginning of the data is enough to tell records apart. */
void tlsa_show(const struct tlsa *r, struct buf *out);

#endif
