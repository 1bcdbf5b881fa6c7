/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/sasl.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "core/base/assert.h"
#include "core/base/base64.h"
#include "core/base/utf8.h"
#include "relay/smtp/pbkdf2.h"
#include "relay/smtp/sasl_parts.h"

_Static_assert(SASL_HASH_SIZE == SHA256_DIGEST_LENGTH, "SCRAM-SHA-256");

static const struct span names[SASL_MECHANISM_COUNT] = {
	[SASL_EXTERNAL] = SPAN("EXTERNAL"),
	[SASL_SCRAM_SHA_256] = SPAN("SCRAM-SHA-256"),
	[SASL_PLAIN] = SPAN("PLAIN"),
	[SASL_LOGIN] = SPAN("LOGIN"),
};

struct span
sasl_name(enum sasl_mechanism m)
{
	ASSERT(m < SASL_MECHANISM_COUNT);
	return names[m];
}

enum sasl_mechanism
sasl_find(struct span name)
{
	enum sasl_mechanism m = 0;

	while (m < SASL_MECHANISM_COUNT && !span_eq_nocase(name, names[m]))
		m++;
	return m;
}

bool
sasl_is_fit(struct span text, size_t size_max)
{
	if (text.size == 0 || text.size > size_max || !utf8_is_valid(text))
		return false;
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		if (c < ' ' || c == 0x7f)
			return false;
		/* U+0080 to U+009F, the other controls. */
		if (c == 0xc2 && text.data[i + 1] < 0xa0)
			return false;
	}
	return true;
}

/* ---- SCRAM (RFC 5802 3) ---- */

void
sasl_hmac(const uint8_t key[SASL_HASH_SIZE], struct span text, uint8_t out[SASL_HASH_SIZE])
{
	/* With the pads of RFC 2104 by hand: the library's way allocates and may fail. */
	uint8_t block[SHA256_CBLOCK + 3 * SASL_MESSAGE_MAX];
	uint8_t outer[SHA256_CBLOCK + SASL_HASH_SIZE];

	ASSERT(text.size <= sizeof block - SHA256_CBLOCK);
	memset(block, 0x36, SHA256_CBLOCK);
	memset(outer, 0x5c, SHA256_CBLOCK);
	for (unsigned i = 0; i < SASL_HASH_SIZE; i++) {
		block[i] ^= key[i];
		outer[i] ^= key[i];
	}
	if (text.size > 0)
		memcpy(block + SHA256_CBLOCK, text.data, text.size);
	pbkdf2_sha256(span_of(block, SHA256_CBLOCK + text.size), outer + SHA256_CBLOCK);
	pbkdf2_sha256(span_of(outer, sizeof outer), out);
	OPENSSL_cleanse(block, SHA256_CBLOCK + text.size);
	OPENSSL_cleanse(outer, sizeof outer);
}

void
sasl_hash(const uint8_t in[SASL_HASH_SIZE], uint8_t out[SASL_HASH_SIZE])
{
	pbkdf2_sha256(span_of(in, SASL_HASH_SIZE), out);
}

bool
sasl_equal(const uint8_t a[SASL_HASH_SIZE], const uint8_t b[SASL_HASH_SIZE])
{
	return CRYPTO_memcmp(a, b, SASL_HASH_SIZE) == 0;
}

void
sasl_xor(uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < SASL_HASH_SIZE; i++)
		a[i] ^= b[i];
}

void
sasl_derive(const struct sasl_verifier *v, struct span password, void (*pause)(void),
	    uint8_t client_key[SASL_HASH_SIZE], uint8_t server_key[SASL_HASH_SIZE])
{
	uint8_t salted[SASL_HASH_SIZE];

	ASSERT(v->iterations > 0 && v->iterations <= SASL_ITERATIONS_MAX);
	ASSERT(v->salt_size > 0 && v->salt_size <= SASL_SALT_MAX);
	pbkdf2(password, span_of(v->salt, v->salt_size), v->iterations, pause, salted);
	sasl_hmac(salted, SPAN("Client Key"), client_key);
	sasl_hmac(salted, SPAN("Server Key"), server_key);
	OPENSSL_cleanse(salted, sizeof salted);
}

/* ---- verifiers ---- */

static void
make(struct sasl_verifier *v, struct span password, void (*pause)(void))
{
	uint8_t client_key[SASL_HASH_SIZE];

	sasl_derive(v, password, pause, client_key, v->server_key);
	sasl_hash(client_key, v->stored_key);
	OPENSSL_cleanse(client_key, sizeof client_key);
}

void
sasl_verifier_make(struct sasl_verifier *v, struct span password)
{
	make(v, password, NULL);
}

bool
sasl_verifier_check(const struct sasl_verifier *v, struct span password, void (*pause)(void))
{
	struct sasl_verifier made = *v;

	make(&made, password, pause);
	bool ok = sasl_equal(made.stored_key, v->stored_key);
	OPENSSL_cleanse(&made, sizeof made);
	return ok;
}

void
sasl_verifier_fake(struct sasl_verifier *v, struct span key, struct span name, uint32_t iterations)
{
	uint8_t seed[SASL_HASH_SIZE];
	uint8_t salt[SASL_HASH_SIZE];

	ASSERT(iterations > 0 && name.size <= SASL_NAME_MAX);
	pbkdf2_sha256(key, seed);
	sasl_hmac(seed, name, seed); /* of this name; what follows are different uses of it */
	*v = (struct sasl_verifier){ .iterations = iterations, .salt_size = SASL_SALT_SIZE };
	sasl_hmac(seed, SPAN("salt"), salt);
	memcpy(v->salt, salt, SASL_SALT_SIZE);
	/* No key is known whose hash this is. */
	sasl_hmac(seed, SPAN("stored key"), v->stored_key);
	sasl_hmac(seed, SPAN("server key"), v->server_key);
	OPENSSL_cleanse(seed, sizeof seed);
}

static const struct span prefix = SPAN("SCRAM-SHA-256$");

/* The part before `c`, which is cut off *rest with it. */
static struct span
part(struct span *rest, uint8_t c)
{
	size_t end = span_find(*rest, c, 0);
	struct span text = span_first(*rest, end);

	*rest = span_after(*rest, end + 1);
	return text;
}

static bool
decode_key(struct span text, uint8_t key[SASL_HASH_SIZE])
{
	struct buf out = buf_of(key, SASL_HASH_SIZE);

	return base64_decode(text, &out) && out.size == SASL_HASH_SIZE;
}

bool
sasl_verifier_parse(struct span text, struct sasl_verifier *v)
{
	uint64_t iterations;

	*v = (struct sasl_verifier){ 0 };
	if (text.size > SASL_VERIFIER_TEXT_MAX ||
	    !span_eq_nocase(span_first(text, prefix.size), prefix))
		return false;
	text = span_after(text, prefix.size);
	if (!span_to_u64(part(&text, ':'), &iterations) || iterations < SASL_ITERATIONS_MIN ||
	    iterations > SASL_ITERATIONS_MAX)
		return false;
	v->iterations = (uint32_t)iterations;
	struct buf salt = buf_of(v->salt, sizeof v->salt);
	if (!base64_decode(part(&text, '$'), &salt) || salt.size == 0)
		return false;
	v->salt_size = (uint8_t)salt.size;
	return decode_key(part(&text, ':'), v->stored_key) && decode_key(text, v->server_key);
}

void
sasl_verifier_show(const struct sasl_verifier *v, struct buf *out)
{
	buf_append(out, prefix);
	buf_append_number(out, v->iterations);
	buf_append_byte(out, ':');
	base64_encode(span_of(v->salt, v->salt_size), out);
	buf_append_byte(out, '$');
	base64_encode(span_of(v->stored_key, SASL_HASH_SIZE), out);
	buf_append_byte(out, ':');
	base64_encode(span_of(v->server_key, SASL_HASH_SIZE), out);
}

void
sasl_keyed_hash(const uint8_t key[SASL_HASH_SIZE], struct span name, struct span password,
		const uint8_t *context, uint8_t out[SASL_HASH_SIZE])
{
	uint8_t memory[1 + SASL_NAME_MAX + SASL_PASSWORD_MAX + SASL_HASH_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	/* The size in front: no two pairs are one text. */
	buf_append_byte(&text, (uint8_t)name.size);
	for (size_t i = 0; i < name.size; i++)
		buf_append_byte(&text, ascii_lower(name.data[i]));
	if (context != NULL)
		buf_append(&text, span_of(context, SASL_HASH_SIZE));
	buf_append(&text, password);
	ASSERT(!text.overflow);
	sasl_hmac(key, buf_span(&text), out);
	OPENSSL_cleanse(memory, sizeof memory);
}

/* ---- texts of SCRAM ---- */

bool
sasl_attribute(struct span *rest, uint8_t name, struct span *value)
{
	if (rest->size < 2 || rest->data[0] != name || rest->data[1] != '=')
		return false;
	*rest = span_after(*rest, 2);
	*value = part(rest, ',');
	return true;
}

void
sasl_append_nonce(const uint8_t random[SASL_RANDOM_SIZE], struct buf *out)
{
	base64_encode(span_of(random, SASL_RANDOM_SIZE), out); /* has no ',' */
}

void
sasl_append_name(struct span name, struct buf *out)
{
	for (size_t i = 0; i < name.size; i++) {
		if (name.data[i] == ',')
			buf_append(out, SPAN("=2C"));
		else if (name.data[i] == '=')
			buf_append(out, SPAN("=3D"));
		else
			buf_append_byte(out, name.data[i]);
	}
}

bool
sasl_decode_name(struct span text, struct buf *out)
{
	while (text.size > 0) {
		size_t used = 1;
		uint8_t c = text.data[0];
		if (c == '=') {
			used = 3;
			if (span_eq(span_first(text, 3), SPAN("=2C")))
				c = ',';
			else if (!span_eq(span_first(text, 3), SPAN("=3D")))
				return false;
		}
		if (!buf_append_byte(out, c))
			return false;
		text = span_after(text, used);
	}
	return true;
}

bool
sasl_is_nonce(struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] <= ' ' || text.data[i] >= 0x7f || text.data[i] == ',')
			return false;
	}
	return text.size > 0 && text.size <= SASL_NONCE_MAX;
}
