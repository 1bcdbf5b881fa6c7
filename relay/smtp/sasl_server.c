/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/crypto.h>

#include "core/base/assert.h"
#include "core/base/base64.h"
#include "relay/smtp/sasl_parts.h"

#define SASL_SERVER_MAGIC 0x5341534cU

enum sasl_server_state {
	SERVER_FIRST,    /* waits for the client's first message */
	SERVER_LOGIN,    /* LOGIN: for the password */
	SERVER_LOOKUP,   /* SCRAM: for the caller's verifier */
	SERVER_PROOF,    /* SCRAM: for the client's proof */
	SERVER_CONFIRMS, /* SCRAM: for the client's nod at our proof */
	SERVER_ENDED,
};

void
sasl_server_init(struct sasl_server *s, enum sasl_mechanism m, struct span external,
		 const uint8_t random[SASL_RANDOM_SIZE])
{
	ASSERT(m < SASL_MECHANISM_COUNT);
	ASSERT(external.size <= SASL_NAME_MAX);
	memset(s, 0, sizeof *s);
	OBJ_INIT(s, SASL_SERVER_MAGIC);
	s->mechanism = (uint8_t)m;
	s->name_size = (uint8_t)external.size;
	if (external.size > 0)
		memcpy(s->name, external.data, external.size);
	memcpy(s->random, random, SASL_RANDOM_SIZE);
}

void
sasl_server_fini(struct sasl_server *s)
{
	OBJ_CHECK(s, SASL_SERVER_MAGIC);
	OPENSSL_cleanse(s, sizeof *s);
}

struct span
sasl_server_name(const struct sasl_server *s)
{
	return span_of(s->name, s->name_size);
}

struct span
sasl_server_password(const struct sasl_server *s)
{
	return span_of(s->password, s->password_size);
}

static bool
keep_name(struct sasl_server *s, struct span name)
{
	if (!sasl_is_fit(name, SASL_NAME_MAX))
		return false;
	memcpy(s->name, name.data, name.size);
	s->name_size = (uint8_t)name.size;
	return true;
}

static bool
keep_password(struct sasl_server *s, struct span password)
{
	if (!sasl_is_fit(password, SASL_PASSWORD_MAX))
		return false;
	memcpy(s->password, password.data, password.size);
	s->password_size = (uint16_t)password.size;
	return true;
}

/* Nobody acts for another here. */
static bool
may_be(const struct sasl_server *s, struct span other)
{
	return other.size == 0 || span_eq(other, sasl_server_name(s));
}

/* ---- PLAIN, LOGIN, EXTERNAL ---- */

/* [authzid] NUL authcid NUL password */
static enum sasl_outcome
step_plain(struct sasl_server *s, struct span data)
{
	size_t first = span_find(data, '\0', 0);
	size_t second = span_find(data, '\0', first + 1);

	if (second >= data.size || span_find(data, '\0', second + 1) < data.size)
		return SASL_BAD;
	if (!keep_name(s, span_after(span_first(data, second), first + 1)) ||
	    !keep_password(s, span_after(data, second + 1)) || !may_be(s, span_first(data, first)))
		return SASL_WRONG;
	return SASL_CHECK;
}

static enum sasl_outcome
step_login(struct sasl_server *s, struct span data, struct buf *out)
{
	if (!keep_name(s, data))
		return SASL_WRONG;
	s->state = SERVER_LOGIN;
	buf_append_string(out, "Password:");
	return SASL_CONTINUE;
}

static enum sasl_outcome
step_external(struct sasl_server *s, struct span data)
{
	return s->name_size > 0 && may_be(s, data) ? SASL_OK : SASL_WRONG;
}

/* ---- SCRAM-SHA-256 ---- */

/* The GS2 header: "n,," or "y,a=name,". We offer no channel binding: a client that has none says n,
 * one that could says y, and both are fine; one that insists on it says p. */
static bool
cut_header(struct span *rest, struct span *authzid)
{
	if (rest->size < 2 || (rest->data[0] != 'n' && rest->data[0] != 'y') ||
	    rest->data[1] != ',')
		return false;
	*rest = span_after(*rest, 2);
	if (sasl_attribute(rest, 'a', authzid))
		return authzid->size > 0;
	*authzid = span_none();
	if (rest->size == 0 || rest->data[0] != ',')
		return false;
	*rest = span_after(*rest, 1);
	return true;
}

/* header, then n=name,r=nonce[,extensions]: what is behind the header is proven later. */
static enum sasl_outcome
step_scram(struct sasl_server *s, struct span data)
{
	uint8_t memory[SASL_NAME_MAX];
	struct span authzid, name, nonce;
	struct span rest = data;

	if (data.size > SASL_MESSAGE_MAX || !cut_header(&rest, &authzid))
		return SASL_BAD;
	struct span header = span_first(data, data.size - rest.size);
	struct span bare = rest;
	/* An "m=" in front would be an extension that must be understood. */
	if (header.size > sizeof s->header || !sasl_attribute(&rest, 'n', &name) ||
	    !sasl_attribute(&rest, 'r', &nonce) || !sasl_is_nonce(nonce))
		return SASL_BAD;
	memcpy(s->header, header.data, header.size);
	s->header_size = (uint16_t)header.size;
	memcpy(s->message, bare.data, bare.size);
	s->message_size = (uint16_t)bare.size;
	s->nonce_at = (uint16_t)(nonce.data - bare.data);
	s->nonce_size = (uint16_t)nonce.size;
	struct buf decoded = buf_of(memory, sizeof memory);
	if (!sasl_decode_name(name, &decoded) || !keep_name(s, buf_span(&decoded)))
		return SASL_WRONG;
	buf_reset(&decoded);
	if (!sasl_decode_name(authzid, &decoded) || !may_be(s, buf_span(&decoded)))
		return SASL_WRONG;
	s->state = SERVER_LOOKUP;
	return SASL_LOOKUP;
}

/* Our first message, r=nonces,s=salt,i=iterations; it goes into what is proven. */
static void
offer(struct sasl_server *s, struct buf *out)
{
	struct buf message = buf_of(s->message, sizeof s->message);

	buf_append_string(out, "r=");
	buf_append(out, span_of(s->message + s->nonce_at, s->nonce_size));
	sasl_append_nonce(s->random, out);
	size_t nonces = out->size - 2;
	buf_append_string(out, ",s=");
	base64_encode(span_of(s->verifier.salt, s->verifier.salt_size), out);
	buf_append_string(out, ",i=");
	buf_append_number(out, s->verifier.iterations);
	message.size = s->message_size;
	buf_append_byte(&message, ',');
	s->nonce_at = (uint16_t)(message.size + 2);
	s->nonce_size = (uint16_t)nonces;
	buf_append(&message, buf_span(out));
	buf_append_byte(&message, ',');
	ASSERT(!out->overflow && !message.overflow);
	s->message_size = (uint16_t)message.size;
}

enum sasl_outcome
sasl_server_verifier(struct sasl_server *s, const struct sasl_verifier *v, struct buf *out)
{
	OBJ_CHECK(s, SASL_SERVER_MAGIC);
	ASSERT(s->state == SERVER_LOOKUP);
	ASSERT(out->size == 0 && out->capacity >= SASL_MESSAGE_MAX);
	s->verifier = *v;
	s->state = SERVER_PROOF;
	offer(s, out);
	return SASL_CONTINUE;
}

/* Has the client repeated what it began with, c=header, and both nonces? */
static bool
repeats(const struct sasl_server *s, struct span rest)
{
	uint8_t memory[BASE64_ENCODED(sizeof s->header)];
	struct buf header = buf_of(memory, sizeof memory);
	struct span binding, nonce;

	base64_encode(span_of(s->header, s->header_size), &header);
	return sasl_attribute(&rest, 'c', &binding) && span_eq(binding, buf_span(&header)) &&
	       sasl_attribute(&rest, 'r', &nonce) &&
	       span_eq(nonce, span_of(s->message + s->nonce_at, s->nonce_size));
}

/* c=header,r=nonces[,extensions],p=proof */
static enum sasl_outcome
step_proof(struct sasl_server *s, struct span data, struct buf *out)
{
	uint8_t proof[SASL_HASH_SIZE];
	uint8_t key[SASL_HASH_SIZE];
	struct buf decoded = buf_of(proof, sizeof proof);
	struct buf message = buf_of(s->message, sizeof s->message);
	size_t comma = data.size;
	struct span value;

	while (comma > 0 && data.data[comma - 1] != ',')
		comma--;
	if (comma == 0 || data.size > SASL_MESSAGE_MAX)
		return SASL_BAD;
	struct span without = span_first(data, comma - 1);
	struct span last = span_after(data, comma);
	if (!sasl_attribute(&last, 'p', &value) || !base64_decode(value, &decoded) ||
	    decoded.size != SASL_HASH_SIZE || !repeats(s, without))
		return SASL_BAD;
	message.size = s->message_size;
	buf_append(&message, without);
	ASSERT(!message.overflow);
	/* The proof hides the client's key behind a signature that only who has the verifier can
	 * make; the key's hash is in the verifier. */
	sasl_hmac(s->verifier.stored_key, buf_span(&message), key);
	sasl_xor(key, proof);
	sasl_hash(key, key);
	if (!sasl_equal(key, s->verifier.stored_key))
		return SASL_WRONG;
	sasl_hmac(s->verifier.server_key, buf_span(&message), key);
	buf_append_string(out, "v=");
	base64_encode(span_of(key, sizeof key), out);
	s->state = SERVER_CONFIRMS;
	return SASL_CONTINUE;
}

/* ---- the exchange ---- */

static enum sasl_outcome
first(struct sasl_server *s, bool has_data, struct span data, struct buf *out)
{
	if (!has_data) {
		/* The first message comes behind an empty challenge; LOGIN names what it wants. */
		if (s->mechanism == SASL_LOGIN)
			buf_append_string(out, "Username:");
		return SASL_CONTINUE;
	}
	switch ((enum sasl_mechanism)s->mechanism) {
	case SASL_EXTERNAL:
		return step_external(s, data);
	case SASL_SCRAM_SHA_256:
		return step_scram(s, data);
	case SASL_PLAIN:
		return step_plain(s, data);
	default:
		return step_login(s, data, out);
	}
}

enum sasl_outcome
sasl_server_step(struct sasl_server *s, bool has_data, struct span data, struct buf *out)
{
	enum sasl_outcome outcome = SASL_BAD;

	OBJ_CHECK(s, SASL_SERVER_MAGIC);
	ASSERT(out->size == 0 && out->capacity >= SASL_MESSAGE_MAX);
	ASSERT(s->state != SERVER_LOOKUP && s->state != SERVER_ENDED);
	switch ((enum sasl_server_state)s->state) {
	case SERVER_FIRST:
		outcome = first(s, has_data, data, out);
		break;
	case SERVER_LOGIN:
		outcome = keep_password(s, data) ? SASL_CHECK : SASL_WRONG;
		break;
	case SERVER_PROOF:
		outcome = step_proof(s, data, out);
		break;
	default:
		outcome = data.size == 0 ? SASL_OK : SASL_BAD;
		break;
	}
	if (outcome != SASL_CONTINUE && outcome != SASL_LOOKUP)
		s->state = SERVER_ENDED;
	return outcome;
}
