/* SPDX-License-Identifier: Apache-2.0 */
/* The compression function alone is not to be had by the newer interface. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "relay/smtp/pbkdf2.h"

#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#include "core/base/assert.h"

enum { WORDS = PBKDF2_SIZE / 4, BYTE = 8 };

_Static_assert(PBKDF2_SIZE == SHA256_DIGEST_LENGTH, "HMAC-SHA-256");

void
pbkdf2_sha256(struct span text, uint8_t out[PBKDF2_SIZE])
{
	SHA256_CTX x;

	SHA256_Init(&x);
	if (text.size > 0)
		SHA256_Update(&x, text.data, text.size);
	SHA256_Final(out, &x);
	OPENSSL_cleanse(&x, sizeof x);
}

/* HMAC with one key: the state behind each of its two pads (RFC 2104). */
struct keyed {
	SHA256_CTX inner, outer;
};

static void
absorb_key(struct keyed *k, struct span key)
{
	uint8_t pad[SHA256_CBLOCK] = { 0 };

	if (key.size > sizeof pad)
		pbkdf2_sha256(key, pad);
	else if (key.size > 0)
		memcpy(pad, key.data, key.size);
	for (unsigned i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36;
	SHA256_Init(&k->inner);
	SHA256_Update(&k->inner, pad, sizeof pad);
	for (unsigned i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	SHA256_Init(&k->outer);
	SHA256_Update(&k->outer, pad, sizeof pad);
	OPENSSL_cleanse(pad, sizeof pad);
}

/* Of the salt and the number of the block. */
static void
first_hash(const struct keyed *k, struct span salt, uint8_t out[PBKDF2_SIZE])
{
	static const uint8_t number[] = { 0, 0, 0, 1 };
	SHA256_CTX x = k->inner;

	SHA256_Update(&x, salt.data, salt.size);
	SHA256_Update(&x, number, sizeof number);
	SHA256_Final(out, &x);
	x = k->outer;
	SHA256_Update(&x, out, PBKDF2_SIZE);
	SHA256_Final(out, &x);
	OPENSSL_cleanse(&x, sizeof x);
}

/* The one block that ends a hash of a pad and 32 bytes more: these, a bit, and the size. */
static void
end_block(uint8_t block[SHA256_CBLOCK])
{
	static const unsigned bits = (SHA256_CBLOCK + PBKDF2_SIZE) * BYTE;

	memset(block + PBKDF2_SIZE, 0, SHA256_CBLOCK - PBKDF2_SIZE);
	block[PBKDF2_SIZE] = 0x80;
	block[SHA256_CBLOCK - 2] = (uint8_t)(bits >> BYTE);
	block[SHA256_CBLOCK - 1] = (uint8_t)(bits & 0xff);
}

/* From a state behind a pad, with the block; into the block's first bytes. */
static void
compress(SHA256_CTX *x, const SHA256_CTX *from, uint8_t block[SHA256_CBLOCK])
{
	memcpy(x->h, from->h, sizeof x->h);
	SHA256_Transform(x, block);
	for (unsigned i = 0; i < WORDS; i++) {
		uint32_t word = htobe32(x->h[i]);
		memcpy(block + 4 * i, &word, sizeof word);
	}
}

void
pbkdf2(struct span password, struct span salt, uint32_t iterations, void (*pause)(void),
       uint8_t out[PBKDF2_SIZE])
{
	uint8_t block[SHA256_CBLOCK];
	struct keyed k;
	SHA256_CTX x;

	ASSERT(iterations > 0 && salt.size <= PBKDF2_SALT_MAX);
	absorb_key(&k, password);
	first_hash(&k, salt, block);
	end_block(block);
	memcpy(out, block, PBKDF2_SIZE);
	for (uint32_t n = 1; n < iterations; n++) {
		compress(&x, &k.inner, block);
		compress(&x, &k.outer, block);
		for (unsigned i = 0; i < PBKDF2_SIZE; i++)
			out[i] ^= block[i];
		if (pause != NULL && n % PBKDF2_STEP == 0)
			pause();
	}
	OPENSSL_cleanse(block, sizeof block);
	OPENSSL_cleanse(&k, sizeof k);
	OPENSSL_cleanse(&x, sizeof x);
}
