/* SPDX-License-Identifier: Apache-2.0
 *
 * sasl: how one side of SMTP proves to the other who it is (RFC 4422, 4954): the mechanisms.
 *
 * PURE.
 */
#ifndef RELAY_SMTP_SASL_H
#define RELAY_SMTP_SASL_H

#include "core/base/span.h"

/* In the order in which they are offered: the first that a client knows is its best. */
enum sasl_mechanism {
	SASL_EXTERNAL,      /* RFC 4422 A: what TLS has shown already */
	SASL_SCRAM_SHA_256, /* RFC 5802, 7677: the password does not travel */
	SASL_PLAIN,         /* RFC 4616 */
	SASL_LOGIN,         /* no RFC, and many clients */
	SASL_MECHANISM_COUNT
};

/* A bit of a set of mechanisms. */
#define SASL_BIT(mechanism) (1U << (mechanism))

/* "SCRAM-SHA-256". */
struct span sasl_name(enum sasl_mechanism m);
/* SASL_MECHANISM_COUNT for a name that is none of ours; case does not matter. */
enum sasl_mechanism sasl_find(struct span name);

#endif
