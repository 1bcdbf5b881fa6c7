/* SPDX-License-Identifier: Apache-2.0
 *
 * pbkdf2: a key of a password (RFC 8018 5.2), with HMAC-SHA-256 and of one block. PURE.
 *
 * Only the compression function is the library's. Its PKCS5_PBKDF2_HMAC copies three contexts an
 * iteration, which with SHA instructions takes five times as long as the hashing itself: measured
 * 62 ms for 100 000 iterations, against 10 here. Whoever guesses at stolen verifiers has fast code
 * anyway; so what we save, we save from those who make us compute.
 */
#ifndef RELAY_SMTP_PBKDF2_H
#define RELAY_SMTP_PBKDF2_H

#include <stdint.h>

#include "core/base/span.h"

enum {
	PBKDF2_SIZE = 32,
	PBKDF2_SALT_MAX = 64,
	/* Iterations between two pauses: 0.1 ms, or 0.5 ms without SHA instructions. */
	PBKDF2_STEP = 1024,
};

/* A hash alone. The library's SHA256() takes locks and memory for it, and may fail. */
void pbkdf2_sha256(struct span text, uint8_t out[PBKDF2_SIZE]);
/* Long. `pause` (or NULL) is called every PBKDF2_STEP iterations. */
void pbkdf2(struct span password, struct span salt, uint32_t iterations, void (*pause)(void),
	    uint8_t out[PBKDF2_SIZE]);

#endif
