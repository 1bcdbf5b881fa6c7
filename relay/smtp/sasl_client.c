/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/crypto.h>

#include "core/base/assert.h"
#include "core/base/base64.h"
#include "relay/smtp/sasl_parts.h"

#define SASL_CLIENT_MAGIC 0x5341434cU

enum sasl_client_state {
	CLIENT_FIRST,    /* has said nothing yet */
	CLIENT_PASSWORD, /* LOGIN: the name is said */
	CLIENT_OFFER,    /* SCRAM: waits for salt and iterations */
	CLIENT_DERIVES,  /* SCRAM: for sasl_client_derived() */
	CLIENT_PROOF,    /* SCRAM: for the server's proof */
	CLIENT_SAID,     /* all is said, and shown */
	CLIENT_FAILED,
};

void
sasl_client_init(struct sasl_client *c, enum sasl_mechanism m, struct span name,
		 struct span password, const uint8_t random[SASL_RANDOM_SIZE])
{
	struct buf nonce = buf_of(c->nonce, sizeof c->nonce);

	ASSERT(m == SASL_SCRAM_SHA_256 || m == SASL_PLAIN || m == SASL_LOGIN);
	ASSERT(sasl_is_fit(name, SASL_NAME_MAX) && sasl_is_fit(password, SASL_PASSWORD_MAX));
	memset(c, 0, sizeof *c);
	OBJ_INIT(c, SASL_CLIENT_MAGIC);
	c->mechanism = (uint8_t)m;
	c->name_size = (uint8_t)name.size;
	c->password_size = (uint16_t)password.size;
	memcpy(c->name, name.data, name.size);
	memcpy(c->password, password.data, password.size);
	sasl_append_nonce(random, &nonce);
	c->nonce_size = (uint16_t)nonce.size;
}

void
sasl_client_fini(struct sasl_client *c)
{
	OBJ_CHECK(c, SASL_CLIENT_MAGIC);
	OPENSSL_cleanse(c, sizeof *c);
}

bool
sasl_client_speaks_first(enum sasl_mechanism m)
{
	return m != SASL_LOGIN;
}

static struct span
name_of(const struct sasl_client *c)
{
	return span_of(c->name, c->name_size);
}

static struct span
password_of(const struct sasl_client *c)
{
	return span_of(c->password, c->password_size);
}

/* What comes first, whatever the server asks: some ask "Username:", some "User Name". */
static enum sasl_outcome
first(struct sasl_client *c, struct buf *out)
{
	struct buf message = buf_of(c->message, sizeof c->message);

	switch ((enum sasl_mechanism)c->mechanism) {
	case SASL_LOGIN:
		buf_append(out, name_of(c));
		c->state = CLIENT_PASSWORD;
		break;
	case SASL_PLAIN:
		buf_append_byte(out, '\0');
		buf_append(out, name_of(c));
		buf_append_byte(out, '\0');
		buf_append(out, password_of(c));
		c->state = CLIENT_SAID;
		break;
	default:
		buf_append_string(out, "n,,");
		buf_append_string(&message, "n=");
		sasl_append_name(name_of(c), &message);
		buf_append_string(&message, ",r=");
		buf_append(&message, span_of(c->nonce, c->nonce_size));
		buf_append(out, buf_span(&message));
		buf_append_byte(&message, ',');
		c->message_size = (uint16_t)message.size;
		c->state = CLIENT_OFFER;
		break;
	}
	ASSERT(!out->overflow && !message.overflow);
	return SASL_CONTINUE;
}

/* r=nonces,s=salt,i=iterations[,extensions] */
static enum sasl_outcome
step_offer(struct sasl_client *c, struct span challenge)
{
	struct span own = span_of(c->nonce, c->nonce_size);
	struct buf salt = buf_of(c->verifier.salt, sizeof c->verifier.salt);
	struct buf message = buf_of(c->message, sizeof c->message);
	struct span nonce, salt_text, number;
	struct span rest = challenge;
	uint64_t iterations;

	if (challenge.size > SASL_MESSAGE_MAX || !sasl_attribute(&rest, 'r', &nonce) ||
	    !sasl_attribute(&rest, 's', &salt_text) || !sasl_attribute(&rest, 'i', &number))
		return SASL_BAD;
	/* Ours in front, and more of the server's: what is proven is of this exchange alone. */
	if (!sasl_is_nonce(nonce) || nonce.size <= own.size || !span_starts_with(nonce, own) ||
	    !base64_decode(salt_text, &salt) || salt.size == 0 ||
	    !span_to_u64(number, &iterations) || iterations < SASL_ITERATIONS_MIN ||
	    iterations > SASL_ITERATIONS_MAX)
		return SASL_BAD;
	c->verifier.salt_size = (uint8_t)salt.size;
	c->verifier.iterations = (uint32_t)iterations;
	memcpy(c->nonce, nonce.data, nonce.size);
	c->nonce_size = (uint16_t)nonce.size;
	message.size = c->message_size;
	buf_append(&message, challenge);
	buf_append_byte(&message, ',');
	ASSERT(!message.overflow);
	c->message_size = (uint16_t)message.size;
	c->state = CLIENT_DERIVES;
	return SASL_DERIVE;
}

void
sasl_client_derive(struct sasl_client *c, void (*pause)(void))
{
	OBJ_CHECK(c, SASL_CLIENT_MAGIC);
	ASSERT(c->state == CLIENT_DERIVES);
	sasl_derive(&c->verifier, password_of(c), pause, c->client_key, c->verifier.server_key);
}

bool
sasl_client_keys(const struct sasl_client *c, struct sasl_keys *out)
{
	OBJ_CHECK(c, SASL_CLIENT_MAGIC);
	if (c->state != CLIENT_DERIVES)
		return false;
	out->iterations = c->verifier.iterations;
	out->salt_size = c->verifier.salt_size;
	memcpy(out->salt, c->verifier.salt, sizeof out->salt);
	memcpy(out->client_key, c->client_key, sizeof out->client_key);
	memcpy(out->server_key, c->verifier.server_key, sizeof out->server_key);
	return true;
}

bool
sasl_client_recall(struct sasl_client *c, const struct sasl_keys *k)
{
	OBJ_CHECK(c, SASL_CLIENT_MAGIC);
	ASSERT(c->state == CLIENT_DERIVES);
	if (c->verifier.iterations != k->iterations || c->verifier.salt_size != k->salt_size ||
	    memcmp(c->verifier.salt, k->salt, k->salt_size) != 0)
		return false;
	memcpy(c->client_key, k->client_key, sizeof c->client_key);
	memcpy(c->verifier.server_key, k->server_key, sizeof c->verifier.server_key);
	return true;
}

uint32_t
sasl_client_iterations(const struct sasl_client *c)
{
	ASSERT(c->state == CLIENT_DERIVES);
	return c->verifier.iterations;
}

enum sasl_outcome
sasl_client_derived(struct sasl_client *c, struct buf *out)
{
	uint8_t signature[SASL_HASH_SIZE];
	struct buf message = buf_of(c->message, sizeof c->message);
	size_t from = c->message_size;

	OBJ_CHECK(c, SASL_CLIENT_MAGIC);
	ASSERT(out->size == 0 && out->capacity >= SASL_MESSAGE_MAX);
	if (c->state != CLIENT_DERIVES)
		return SASL_BAD;
	message.size = from;
	buf_append_string(&message, "c=biws,r="); /* "n,,": no channel binding */
	buf_append(&message, span_of(c->nonce, c->nonce_size));
	ASSERT(!message.overflow);
	sasl_hash(c->client_key, c->verifier.stored_key);
	sasl_hmac(c->verifier.stored_key, buf_span(&message), signature);
	sasl_xor(c->client_key, signature);
	sasl_hmac(c->verifier.server_key, buf_span(&message), c->server_signature);
	buf_append(out, span_after(buf_span(&message), from));
	buf_append_string(out, ",p=");
	base64_encode(span_of(c->client_key, SASL_HASH_SIZE), out);
	ASSERT(!out->overflow);
	c->state = CLIENT_PROOF;
	return SASL_CONTINUE;
}

/* v=signature, or e=error */
static enum sasl_outcome
step_proof(struct sasl_client *c, struct span challenge)
{
	uint8_t memory[SASL_HASH_SIZE];
	struct buf signature = buf_of(memory, sizeof memory);
	struct span text;

	if (!sasl_attribute(&challenge, 'v', &text) || !base64_decode(text, &signature) ||
	    signature.size != SASL_HASH_SIZE || !sasl_equal(memory, c->server_signature))
		return SASL_BAD;
	c->state = CLIENT_SAID;
	return SASL_CONTINUE;
}

enum sasl_outcome
sasl_client_step(struct sasl_client *c, struct span challenge, struct buf *out)
{
	enum sasl_outcome outcome = SASL_BAD;

	OBJ_CHECK(c, SASL_CLIENT_MAGIC);
	ASSERT(out->size == 0 && out->capacity >= SASL_MESSAGE_MAX);
	ASSERT(c->state != CLIENT_DERIVES);
	switch ((enum sasl_client_state)c->state) {
	case CLIENT_FIRST:
		outcome = first(c, out);
		break;
	case CLIENT_PASSWORD:
		buf_append(out, password_of(c));
		c->state = CLIENT_SAID;
		outcome = SASL_CONTINUE;
		break;
	case CLIENT_OFFER:
		outcome = step_offer(c, challenge);
		break;
	case CLIENT_PROOF:
		outcome = step_proof(c, challenge);
		break;
	default: /* the server asks for more than the mechanism has */
		break;
	}
	if (outcome == SASL_BAD)
		c->state = CLIENT_FAILED;
	return outcome;
}

bool
sasl_client_is_satisfied(const struct sasl_client *c)
{
	return c->state == CLIENT_SAID;
}
