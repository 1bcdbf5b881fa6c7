/* SPDX-License-Identifier: Apache-2.0
 *
 * sasl_parts: what the two sides of sasl.h share. Internal: only sasl*.c include it.
 *
 * PURE.
 */
#ifndef RELAY_SMTP_SASL_PARTS_H
#define RELAY_SMTP_SASL_PARTS_H

#include "relay/smtp/sasl.h"

/* HMAC-SHA-256 over at most 3 * SASL_MESSAGE_MAX bytes; `key` and `out` may be one. */
void sasl_hmac(const uint8_t key[SASL_HASH_SIZE], struct span text, uint8_t out[SASL_HASH_SIZE]);
void sasl_hash(const uint8_t in[SASL_HASH_SIZE], uint8_t out[SASL_HASH_SIZE]);
/* In constant time. */
bool sasl_equal(const uint8_t a[SASL_HASH_SIZE], const uint8_t b[SASL_HASH_SIZE]);
/* a becomes a XOR b; of SASL_HASH_SIZE bytes. */
void sasl_xor(uint8_t *a, const uint8_t *b);
/* Long. The keys of a password, with the salt and the iterations of `v`. */
void sasl_derive(const struct sasl_verifier *v, struct span password, void (*pause)(void),
		 uint8_t client_key[SASL_HASH_SIZE], uint8_t server_key[SASL_HASH_SIZE]);

/* Cuts "n=value," off *rest; false, and nothing is cut, where another attribute stands there. */
bool sasl_attribute(struct span *rest, uint8_t name, struct span *value);
void sasl_append_nonce(const uint8_t random[SASL_RANDOM_SIZE], struct buf *out);
/* With ',' and '=' written as "=2C" and "=3D". */
void sasl_append_name(struct span name, struct buf *out);
bool sasl_decode_name(struct span text, struct buf *out);
/* Printable, no comma, neither empty nor longer than SASL_NONCE_MAX. */
bool sasl_is_nonce(struct span text);

#endif
