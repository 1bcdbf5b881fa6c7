/* SPDX-License-Identifier: Apache-2.0
 *
 * engine: a layer (core/layer.h) that is an SSL object of OpenSSL. Inside of tls/ only.
 *
 * PURE: OpenSSL reads and writes through a BIO of our own, whose bytes come from the span that
 * read() was given and go to the buffer that write() was given. What OpenSSL says while it reads
 * (its flights of the handshake, tickets, alerts) waits in `words` for the next write(). An engine
 * that is open and idle holds no memory but the SSL object's.
 *
 * Each side embeds an engine in a struct of its own, sets up the SSL object after engine_init(),
 * and is asked at three places (engine_side). A failure is kept with its kind and in words; the
 * first one stays, so a side may say more (engine_fail) before the engine finds OpenSSL's reason.
 * OpenSSL's queue of errors is empty before and after each call.
 */
#ifndef TLS_ENGINE_H
#define TLS_ENGINE_H

#include <openssl/ssl.h>

#include "tls/tls.h"

struct engine;

struct engine_side {
	bool is_server;
	bool heavy_may_leave; /* what it is asked touches nothing of one thread */
	const char *peer;     /* in words: "the client" */
	/* The handshake has ended well; after engine_fail() in it, it has not. NULL: nothing. */
	void (*on_open)(struct engine *e);
	/* Will reading what has come take too long for a worker's turn? Asked in the handshake,
	 * where somebody else could do it. NULL: never. */
	bool (*is_long)(struct engine *e);
	/* Frees the struct that embeds the engine, which has been ended. */
	void (*on_free)(struct engine *e);
};

/* What few connections need. */
struct engine_texts {
	char why[TLS_WHY_MAX];
	char unverified[TLS_WHY_MAX];
	char subject[TLS_NAME_MAX + 1];
	uint16_t why_size, unverified_size, subject_size;
};

struct engine {
	struct layer layer; /* first */
	uint32_t magic;
	const struct engine_side *side;
	SSL *ssl; /* its app data is the engine */
	struct tls_setup *setup;
	struct engine_texts *texts; /* NULL: none yet */
	struct span wire;           /* in read(): what was not taken yet */
	struct buf *out;            /* in write(): where bytes for the wire go */
	uint8_t *kept;              /* of the wire, ahead of what is read next; NULL: none */
	size_t kept_size;
	uint8_t *words; /* what waits for write(), from words_at on */
	size_t words_size;
	size_t words_at;
	bool has_begun; /* the peer has said something */
	bool at_work;   /* in work() */
	bool end_said;
	uint8_t failure;  /* enum tls_failure */
	uint8_t verified; /* enum tls_verified, of the client's side */
	const char *result_type;
};

#define ENGINE_MAGIC 0x454e474eu

/* Takes a reference of the setup that the context was made of. False: no memory. */
bool engine_init(struct engine *e, SSL_CTX *context, struct tls_setup *setup,
		 const struct engine_side *side);
/* For a client: its first words. */
void engine_start(struct engine *e);
struct engine *engine_of(const struct layer *l);
/* For SSL's callbacks. */
struct engine *engine_of_ssl(const SSL *ssl);
/* In a callback of SSL's within the handshake: is there somebody else who could do what is long?
 * Then the callback may suspend the handshake (SSL_ERROR_WANT_X509_LOOKUP), and is called again in
 * work(). */
bool engine_may_leave(const struct engine *e);
/* It fails, or has failed, of this. The alert is OpenSSL's or the caller's business. */
void engine_fail(struct engine *e, enum tls_failure failure, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Why the peer's certificate was not verified. */
void engine_say_unverified(struct engine *e, const char *text);

#endif
