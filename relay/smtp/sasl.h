/* SPDX-License-Identifier: Apache-2.0
 *
 * sasl: how one side of SMTP proves to the other who it is (RFC 4422, 4954): the mechanisms, both
 * sides of their exchanges, and what is kept of a password.
 *
 * PURE: bytes in, bytes out; randomness is given. libcrypto computes. Two things are long (hundreds
 * of milliseconds at 600 000 iterations) and say so; they touch nothing else and may run on any
 * thread. All that depends on a secret is compared in constant time.
 *
 * Passwords and names are UTF-8 without control characters, and taken as they are: nothing is
 * normalized (SASLprep, RFC 4013). For ASCII that makes no difference; with other characters a
 * client must send the form that the password was made with.
 *
 * A server keeps a verifier (RFC 5803) and never the password: it serves SCRAM at the price of two
 * hashes, and PLAIN and LOGIN at the price of all iterations. Whoever has the verifier can look for
 * the password at that price, and pretend to be the server, but not the client.
 *
 * Exchanges hold secrets: fini wipes them.
 */
#ifndef RELAY_SMTP_SASL_H
#define RELAY_SMTP_SASL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	SASL_NAME_MAX = 255,
	SASL_PASSWORD_MAX = 512,
	SASL_SALT_MAX = 64,
	SASL_SALT_SIZE = 16, /* of the salts that we make */
	SASL_HASH_SIZE = 32,
	SASL_RANDOM_SIZE = 18, /* random bytes of a nonce */
	SASL_NONCE_MAX = 256,  /* characters of the other side's nonce */
	SASL_MESSAGE_MAX = 1024,
	/* RFC 7677 4 wants 4096 at least. The most is a bound on what a server may ask of us. */
	SASL_ITERATIONS_MIN = 4096,
	SASL_ITERATIONS_MAX = 10000000,
	SASL_VERIFIER_TEXT_MAX = 256,
};

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

/* May it be a name or a password: not empty, not too long, UTF-8, no controls? */
bool sasl_is_fit(struct span text, size_t size_max);

/* ---- what is kept of a password ---- */

struct sasl_verifier {
	uint32_t iterations;
	uint8_t salt_size;
	uint8_t salt[SASL_SALT_MAX];
	uint8_t stored_key[SASL_HASH_SIZE];
	uint8_t server_key[SASL_HASH_SIZE];
};

/* Long. Iterations and salt are given. */
void sasl_verifier_make(struct sasl_verifier *v, struct span password);
/* Long. Is this the password? `pause` (or NULL) is called all 0.1 ms or so. */
bool sasl_verifier_check(const struct sasl_verifier *v, struct span password, void (*pause)(void));
/* For a name that nobody has: always the same for one key and name, so that it looks like another
 * user's. No password fits it. `key` is secret. */
void sasl_verifier_fake(struct sasl_verifier *v, struct span key, struct span name,
			uint32_t iterations);
/* "SCRAM-SHA-256$600000:SALT$STOREDKEY:SERVERKEY", the last three in base64. */
bool sasl_verifier_parse(struct span text, struct sasl_verifier *v);
void sasl_verifier_show(const struct sasl_verifier *v, struct buf *out);

/* A keyed hash of what a client said, and of `context` (SASL_HASH_SIZE bytes, or NULL): to tell
 * whether it is the same again. Names differ in more than ASCII case. */
void sasl_keyed_hash(const uint8_t key[SASL_HASH_SIZE], struct span name, struct span password,
		     const uint8_t *context, uint8_t out[SASL_HASH_SIZE]);

/* ---- exchanges ---- */

/* What a step comes to. */
enum sasl_outcome {
	SASL_CONTINUE, /* `out` is to be sent, if only nothing; then step with the answer */
	SASL_LOOKUP,   /* server, SCRAM: the name is known; go on with sasl_server_verifier() */
	SASL_CHECK,    /* server, PLAIN and LOGIN: name and password are known: the caller judges */
	SASL_DERIVE,   /* client, SCRAM: sasl_client_derive() is next, which is long */
	SASL_OK,       /* the other side is who it says */
	SASL_WRONG,    /* it is not: wrong proof, or a name that it may not bear */
	SASL_BAD,      /* that was not what the mechanism says */
};

/* All of it is sasl_server.c's. */
struct sasl_server {
	uint32_t magic;
	uint8_t mechanism; /* enum sasl_mechanism */
	uint8_t state;     /* enum sasl_server_state */
	uint8_t name_size;
	uint16_t password_size;
	uint16_t header_size;  /* of the first message: its GS2 header */
	uint16_t message_size; /* the texts that are proven (AuthMessage), but the last */
	uint16_t nonce_at;     /* both nonces in `message` */
	uint16_t nonce_size;
	uint8_t name[SASL_NAME_MAX];
	uint8_t password[SASL_PASSWORD_MAX];
	uint8_t random[SASL_RANDOM_SIZE];
	uint8_t header[SASL_NAME_MAX * 3 + 8];
	uint8_t message[3 * SASL_MESSAGE_MAX];
	struct sasl_verifier verifier;
};

/* external: the name that TLS has shown, for EXTERNAL. */
void sasl_server_init(struct sasl_server *s, enum sasl_mechanism m, struct span external,
		      const uint8_t random[SASL_RANDOM_SIZE]);
void sasl_server_fini(struct sasl_server *s);
/* The client's next message; has_data: there is one, which only the first step may lack. `out` (at
 * least SASL_MESSAGE_MAX bytes, empty) gets a challenge. */
enum sasl_outcome sasl_server_step(struct sasl_server *s, bool has_data, struct span data,
				   struct buf *out);
/* Behind SASL_LOOKUP: the verifier of the name, or a fake one. */
enum sasl_outcome sasl_server_verifier(struct sasl_server *s, const struct sasl_verifier *v,
				       struct buf *out);
/* Who the client says it is; empty until it did. */
struct span sasl_server_name(const struct sasl_server *s);
/* Behind SASL_CHECK. */
struct span sasl_server_password(const struct sasl_server *s);

/* All of it is sasl_client.c's. */
struct sasl_client {
	uint32_t magic;
	uint8_t mechanism; /* PLAIN, LOGIN, SCRAM-SHA-256 */
	uint8_t state;     /* enum sasl_client_state */
	uint8_t name_size;
	uint16_t password_size;
	uint16_t message_size;
	uint16_t nonce_size; /* of both nonces */
	uint8_t name[SASL_NAME_MAX];
	uint8_t password[SASL_PASSWORD_MAX];
	uint8_t nonce[SASL_NONCE_MAX + SASL_RANDOM_SIZE * 2];
	uint8_t message[3 * SASL_MESSAGE_MAX];
	struct sasl_verifier verifier; /* what the server asks for, then the keys */
	uint8_t client_key[SASL_HASH_SIZE];
	uint8_t server_signature[SASL_HASH_SIZE];
};

/* Name and password are fit (sasl_is_fit), and copied. */
void sasl_client_init(struct sasl_client *c, enum sasl_mechanism m, struct span name,
		      struct span password, const uint8_t random[SASL_RANDOM_SIZE]);
void sasl_client_fini(struct sasl_client *c);
/* Can the first message go with the AUTH command? Then a first step with an empty challenge makes
 * it; else that is the answer to the first challenge (of PLAIN and SCRAM, an empty one). */
bool sasl_client_speaks_first(enum sasl_mechanism m);
/* The server's next challenge. CONTINUE, DERIVE or BAD. `out` has room for SASL_MESSAGE_MAX. */
enum sasl_outcome sasl_client_step(struct sasl_client *c, struct span challenge, struct buf *out);
/* Long; behind SASL_DERIVE, and behind it sasl_client_derived(). `pause`: as above. */
void sasl_client_derive(struct sasl_client *c, void (*pause)(void));
/* What that has computed, before sasl_client_derived(): good for the same password for as long as
 * the server asks for the same. False where it has failed. Secret. */
struct sasl_keys {
	uint32_t iterations;
	uint8_t salt_size;
	uint8_t salt[SASL_SALT_MAX];
	uint8_t client_key[SASL_HASH_SIZE];
	uint8_t server_key[SASL_HASH_SIZE];
};
bool sasl_client_keys(const struct sasl_client *c, struct sasl_keys *out);
/* Behind SASL_DERIVE, in place of sasl_client_derive(). False: the server asks for something else.
 */
bool sasl_client_recall(struct sasl_client *c, const struct sasl_keys *k);
/* How many iterations does it ask for? */
uint32_t sasl_client_iterations(const struct sasl_client *c);
enum sasl_outcome sasl_client_derived(struct sasl_client *c, struct buf *out);
/* The server says that we are accepted (235). Is all said, and has it shown that it knows the
 * password, too, where the mechanism has that? */
bool sasl_client_is_satisfied(const struct sasl_client *c);

#endif
