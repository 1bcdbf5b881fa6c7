/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/engine.h"

#include <openssl/err.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"

enum {
	/* What waits to be sent for the engine itself. A peer that makes it speak (key updates) and
	 * does not read ends here; a flight with the longest chain is half of it. */
	WORDS_MAX = 64 * 1024,
	RECORD_PLAIN = 16 * 1024,
	/* A record's head, explicit nonce, padding and tag at most (RFC 5246 6.2.3.2). */
	RECORD_OVERHEAD = 128,
	/* The type of the first record of a handshake; a hello of SSL 2 begins with its size. */
	FIRST_BYTE = 0x16,
	FIRST_BYTE_ALERT = 0x15,
	FIRST_BYTE_SSL2 = 0x80,
	ALERTS = 1000, /* reasons from here on are alerts of the peer (SSL_AD_REASON_OFFSET) */
};

/* ERR_clear_error() writes to each of the queue's 16 places, which costs as much as a short
 * record's encryption; to see that it is empty costs nothing. */
static void
forget_errors(void)
{
	if (ERR_peek_error() != 0)
		ERR_clear_error();
}

/* ---- the BIO ---- */

static int
bio_read(BIO *bio, char *out, int size)
{
	struct engine *e = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (size <= 0 || e->wire.size == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	struct span taken = span_first(e->wire, (size_t)size);
	memcpy(out, taken.data, taken.size);
	e->wire = span_after(e->wire, taken.size);
	return (int)taken.size;
}

static bool
keep_words(struct engine *e, struct span bytes)
{
	if (e->words_size + bytes.size > WORDS_MAX)
		return false;
	uint8_t *words = realloc(e->words, e->words_size + bytes.size);
	if (words == NULL)
		return false;
	memcpy(words + e->words_size, bytes.data, bytes.size);
	e->words = words;
	e->words_size += bytes.size;
	return true;
}

static int
bio_write(BIO *bio, const char *in, int size)
{
	struct engine *e = BIO_get_data(bio);
	struct span bytes = span_of(in, size > 0 ? (size_t)size : 0);

	BIO_clear_retry_flags(bio);
	/* In order: once something waits, what follows waits behind it. */
	bool fits = e->out != NULL && e->words == NULL && bytes.size <= buf_room(e->out);
	if (fits)
		buf_append(e->out, bytes);
	else if (bytes.size > 0 && !keep_words(e, bytes))
		return -1;
	return size;
}

static long
bio_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_method_once = PTHREAD_ONCE_INIT;

static void
make_bio_method(void)
{
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "ringpost");
	if (bio_method == NULL)
		return;
	BIO_meth_set_read(bio_method, bio_read);
	BIO_meth_set_write(bio_method, bio_write);
	BIO_meth_set_ctrl(bio_method, bio_control);
}

static bool
attach_bio(struct engine *e)
{
	pthread_once(&bio_method_once, make_bio_method);
	BIO *bio = bio_method == NULL ? NULL : BIO_new(bio_method);
	if (bio == NULL)
		return false;
	BIO_set_data(bio, e);
	BIO_set_init(bio, 1);
	SSL_set_bio(e->ssl, bio, bio);
	return true;
}

/* ---- failures ---- */

static struct engine_texts *
texts_of(struct engine *e)
{
	if (e->texts == NULL)
		e->texts = calloc(1, sizeof *e->texts);
	return e->texts;
}

void
engine_fail(struct engine *e, enum tls_failure failure, const char *format, ...)
{
	va_list arguments;

	OBJ_CHECK(e, ENGINE_MAGIC);
	if (e->failure != TLS_FAILURE_NONE)
		return;
	e->failure = (uint8_t)failure;
	struct engine_texts *t = texts_of(e);
	if (t == NULL)
		return;
	va_start(arguments, format);
	int size = vsnprintf(t->why, sizeof t->why, format, arguments);
	va_end(arguments);
	if (size > 0)
		t->why_size = (uint16_t)(size < TLS_WHY_MAX ? size : TLS_WHY_MAX - 1);
}

void
engine_say_unverified(struct engine *e, const char *text)
{
	struct engine_texts *t = texts_of(e);

	if (t == NULL)
		return;
	int size = snprintf(t->unverified, sizeof t->unverified, "%s", text);
	if (size > 0)
		t->unverified_size = (uint16_t)(size < TLS_WHY_MAX ? size : TLS_WHY_MAX - 1);
}

/* What OpenSSL's reasons mean. The others are told in its own words. */
static const struct reason {
	int reason;
	enum tls_failure failure;
	const char *text; /* behind "the client " */
} reasons[] = {
	{ SSL_R_HTTP_REQUEST, TLS_FAILURE_PLAIN_TEXT, "speaks HTTP where TLS is expected" },
	{ SSL_R_HTTPS_PROXY_REQUEST, TLS_FAILURE_PLAIN_TEXT, "speaks HTTP where TLS is expected" },
	{ SSL_R_UNSUPPORTED_PROTOCOL, TLS_FAILURE_VERSION,
	  "has no version of TLS that is allowed here" },
	{ SSL_R_VERSION_TOO_LOW, TLS_FAILURE_VERSION,
	  "has no version of TLS that is allowed here" },
	{ SSL_R_WRONG_SSL_VERSION, TLS_FAILURE_VERSION,
	  "has no version of TLS that is allowed here" },
	{ SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, TLS_FAILURE_VERSION,
	  "allows no version of TLS that is used here" },
	{ SSL_R_NO_SHARED_CIPHER, TLS_FAILURE_CIPHER, "has no cipher that is allowed here" },
	{ SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, TLS_FAILURE_CIPHER,
	  "knows no signature that our certificates can make" },
	{ SSL_R_NO_SUITABLE_KEY_SHARE, TLS_FAILURE_CIPHER, "has no group that is allowed here" },
	{ SSL_R_NO_SHARED_GROUPS, TLS_FAILURE_CIPHER, "has no group that is allowed here" },
	{ SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, TLS_FAILURE_CIPHER,
	  "finds no cipher, group or signature in common" },
	{ SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY, TLS_FAILURE_CIPHER,
	  "wants stronger ciphers than are allowed here" },
	{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, TLS_FAILURE_CERTIFICATE,
	  "does not accept our certificate (bad)" },
	{ SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, TLS_FAILURE_CERTIFICATE,
	  "does not accept our certificate (of an unsupported kind)" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, TLS_FAILURE_CERTIFICATE,
	  "does not accept our certificate (revoked)" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, TLS_FAILURE_CERTIFICATE,
	  "does not accept our certificate (expired)" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, TLS_FAILURE_CERTIFICATE,
	  "does not accept our certificate (for a reason of its own)" },
	{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, TLS_FAILURE_CERTIFICATE,
	  "does not accept our certificate (of an unknown authority)" },
	{ SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, TLS_FAILURE_CERTIFICATE,
	  "wants a certificate of ours" },
	{ SSL_R_TLSV1_UNRECOGNIZED_NAME, TLS_FAILURE_ALERT, "knows no host of the name asked for" },
	{ SSL_R_UNEXPECTED_MESSAGE, TLS_FAILURE_PROTOCOL, "said something out of order" },
	{ SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, TLS_FAILURE_PROTOCOL,
	  "sent what cannot be decrypted" },
	{ SSL_R_WRONG_VERSION_NUMBER, TLS_FAILURE_PROTOCOL, "sent what is no record of TLS" },
};

static void
explain(struct engine *e, unsigned long error)
{
	int reason = ERR_GET_REASON(error);
	const char *words = ERR_reason_error_string(error);

	if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
		for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
			if (reasons[i].reason == reason) {
				engine_fail(e, reasons[i].failure, "%s %s", e->side->peer,
					    reasons[i].text);
				return;
			}
		}
	}
	if (reason == ERR_R_MALLOC_FAILURE)
		engine_fail(e, TLS_FAILURE_MEMORY, "out of memory");
	else if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason >= ALERTS)
		engine_fail(e, TLS_FAILURE_ALERT, "%s gave up: %s", e->side->peer,
			    words == NULL ? "?" : words);
	else if (error == 0)
		engine_fail(e, TLS_FAILURE_PROTOCOL, "%s ended it in the middle", e->side->peer);
	else
		engine_fail(e, TLS_FAILURE_PROTOCOL, "%s", words == NULL ? "?" : words);
}

/* An error of OpenSSL is the first of the queue: those behind it follow from it. */
static void
fail_of_openssl(struct engine *e)
{
	explain(e, ERR_peek_error());
	forget_errors();
	e->layer.state = LAYER_FAILED;
}

/* ---- the layer ---- */

/* A peer that speaks SMTP or HTTP gets no alert, which it could not read. */
static bool
begins_with_tls(struct engine *e)
{
	if (e->has_begun || e->wire.size == 0)
		return true;
	uint8_t first = e->wire.data[0];
	e->has_begun = true;
	if (first == FIRST_BYTE || first == FIRST_BYTE_ALERT ||
	    (e->side->is_server && (first & FIRST_BYTE_SSL2) != 0))
		return true;
	engine_fail(e, TLS_FAILURE_PLAIN_TEXT, "%s speaks plain text where TLS is expected",
		    e->side->peer);
	e->layer.state = LAYER_FAILED;
	return false;
}

/* In TLS 1.3 what follows our flight is cheap for a server. It has been made when there is a random
 * number of ours; a request for another hello has none. */
static bool
has_answered(const struct engine *e)
{
	static const uint8_t none[SSL3_RANDOM_SIZE];
	uint8_t ours[SSL3_RANDOM_SIZE] = { 0 };

	SSL_get_server_random(e->ssl, ours, sizeof ours);
	return memcmp(ours, none, sizeof ours) != 0;
}

static void
shake_hands(struct engine *e)
{
	int done = SSL_do_handshake(e->ssl);

	if (e->side->is_server && SSL_version(e->ssl) == TLS1_3_VERSION)
		e->layer.is_heavy = !has_answered(e);
	if (done == 1 && e->side->on_open != NULL)
		e->side->on_open(e);
	if (done == 1) {
		e->layer.state = e->failure == TLS_FAILURE_NONE ? LAYER_OPEN : LAYER_FAILED;
		return;
	}
	int error = SSL_get_error(e->ssl, done);
	if (error == SSL_ERROR_WANT_X509_LOOKUP && !e->at_work)
		e->layer.is_busy = true;
	else if (error != SSL_ERROR_WANT_READ)
		fail_of_openssl(e);
}

bool
engine_may_leave(const struct engine *e)
{
	return e->layer.has_helper && !e->at_work;
}

static void
read_plain(struct engine *e, struct buf *plain)
{
	while (buf_room(plain) > 0) {
		size_t size = 0;
		int done = SSL_read_ex(e->ssl, plain->data + plain->size, buf_room(plain), &size);
		if (done == 1) {
			plain->size += size;
			/* To ask once more would take a buffer for a record, and give it back. */
			if (e->wire.size == 0 && SSL_has_pending(e->ssl) == 0)
				return;
			continue;
		}
		int error = SSL_get_error(e->ssl, done);
		if (error == SSL_ERROR_ZERO_RETURN)
			e->layer.state = LAYER_ENDED;
		else if (error != SSL_ERROR_WANT_READ)
			fail_of_openssl(e);
		return;
	}
}

static bool
engine_keep(struct layer *l, struct span wire)
{
	struct engine *e = engine_of(l);
	uint8_t *kept = realloc(e->kept, e->kept_size + wire.size);

	ASSERT(wire.size > 0);
	if (kept == NULL)
		return false;
	memcpy(kept + e->kept_size, wire.data, wire.size);
	e->kept = kept;
	e->kept_size += wire.size;
	return true;
}

static void
read_wire(struct engine *e, struct buf *plain)
{
	struct layer *l = &e->layer;

	forget_errors();
	if (l->state == LAYER_HANDSHAKE && begins_with_tls(e))
		shake_hands(e);
	if (l->state == LAYER_OPEN)
		read_plain(e, plain);
	forget_errors();
}

/* The same from what was kept. What is not read of it stays kept. */
static void
read_kept(struct engine *e, struct buf *plain)
{
	e->wire = span_of(e->kept, e->kept_size);
	read_wire(e, plain);
	bool is_over = e->layer.state == LAYER_ENDED || e->layer.state == LAYER_FAILED;
	e->kept_size = is_over ? 0 : e->wire.size;
	if (e->kept_size > 0)
		memmove(e->kept, e->wire.data, e->kept_size);
	e->wire = span_none();
	if (e->kept_size > 0)
		return;
	free(e->kept);
	e->kept = NULL;
}

/* Is what has come to be read by somebody else? Then it is kept for him. */
static bool
leaves(struct engine *e, struct span wire)
{
	struct layer *l = &e->layer;

	if (l->state != LAYER_HANDSHAKE || !engine_may_leave(e) ||
	    (wire.size == 0 && e->kept == NULL))
		return false;
	bool is_given = l->is_heavy && l->heavy_may_leave && l->helper_is_free;
	if (!is_given && (e->side->is_long == NULL || !e->side->is_long(e)))
		return false;
	l->is_busy = wire.size == 0 || engine_keep(l, wire);
	return l->is_busy;
}

static size_t
engine_read(struct layer *l, struct span wire, struct buf *plain)
{
	struct engine *e = engine_of(l);

	ASSERT(!l->is_busy);
	if (leaves(e, wire))
		return wire.size;
	if (e->kept != NULL) {
		if (wire.size > 0 && !engine_keep(l, wire)) {
			engine_fail(e, TLS_FAILURE_MEMORY, "out of memory");
			l->state = LAYER_FAILED;
		} else {
			read_kept(e, plain);
		}
		return wire.size;
	}
	e->wire = wire;
	read_wire(e, plain);
	size_t used = wire.size - e->wire.size;
	e->wire = span_none();
	return l->state == LAYER_OPEN || l->state == LAYER_HANDSHAKE ? used : wire.size;
}

/* Plain text that came with the end of the handshake stays in OpenSSL until the next read(). */
static void
engine_work(struct layer *l)
{
	struct engine *e = engine_of(l);
	struct buf nothing = buf_of(NULL, 0);

	ASSERT(l->is_busy && l->state == LAYER_HANDSHAKE);
	e->at_work = true;
	if (e->kept != NULL)
		read_kept(e, &nothing);
	else
		read_wire(e, &nothing);
	e->at_work = false;
}

/* True: all that the engine itself had to say is in `wire`. */
static bool
flush_words(struct engine *e, struct buf *wire)
{
	if (e->words == NULL)
		return true;
	struct span rest = span_of(e->words + e->words_at, e->words_size - e->words_at);
	rest = span_first(rest, buf_room(wire));
	buf_append(wire, rest);
	e->words_at += rest.size;
	if (e->words_at < e->words_size)
		return false;
	free(e->words);
	e->words = NULL;
	e->words_size = e->words_at = 0;
	return true;
}

/* The plain text whose records fit into so many bytes. */
static size_t
plain_that_fits(size_t room)
{
	size_t records = room / RECORD_PLAIN + 1;

	return room > records * RECORD_OVERHEAD ? room - records * RECORD_OVERHEAD : 0;
}

static size_t
engine_write(struct layer *l, struct span plain, struct buf *wire)
{
	struct engine *e = engine_of(l);
	size_t used = 0;

	if (!flush_words(e, wire) || (l->state != LAYER_OPEN && l->state != LAYER_ENDED))
		return 0;
	plain = span_first(plain, plain_that_fits(buf_room(wire)));
	if (plain.size == 0)
		return 0;
	ASSERT(!e->end_said);
	forget_errors();
	e->out = wire;
	if (SSL_write_ex(e->ssl, plain.data, plain.size, &used) != 1)
		fail_of_openssl(e);
	e->out = NULL;
	forget_errors();
	return used;
}

static bool
engine_wants_write(const struct layer *l)
{
	return engine_of(l)->words != NULL;
}

static bool
engine_has_more(const struct layer *l)
{
	const struct engine *e = engine_of(l);

	return e->kept != NULL || (l->state == LAYER_OPEN && SSL_pending(e->ssl) > 0);
}

static void
engine_end(struct layer *l)
{
	struct engine *e = engine_of(l);

	if (e->end_said)
		return;
	e->end_said = true;
	forget_errors();
	SSL_shutdown(e->ssl);
	forget_errors();
}

static void
engine_free(struct layer *l)
{
	struct engine *e = engine_of(l);

	/* OpenSSL takes a session that was not shut down for a broken one, and would not resume it;
	 * but how a connection ends says nothing of what was agreed on at its beginning. */
	if (l->state == LAYER_OPEN || l->state == LAYER_ENDED)
		SSL_set_shutdown(e->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(e->ssl);
	tls_setup_put(e->setup);
	free(e->texts);
	free(e->words);
	free(e->kept);
	forget_errors();
	OBJ_FINI(e, ENGINE_MAGIC);
	e->side->on_free(e);
}

static const struct layer_ops engine_ops = {
	.read = engine_read,
	.keep = engine_keep,
	.work = engine_work,
	.write = engine_write,
	.wants_write = engine_wants_write,
	.has_more = engine_has_more,
	.end = engine_end,
	.free = engine_free,
};

bool
engine_init(struct engine *e, SSL_CTX *context, struct tls_setup *setup,
	    const struct engine_side *side)
{
	forget_errors();
	*e = (struct engine){
		.layer = { .ops = &engine_ops,
			   .state = LAYER_HANDSHAKE,
			   .is_heavy = true,
			   .heavy_may_leave = side->heavy_may_leave },
		.side = side,
		.ssl = SSL_new(context),
	};
	if (e->ssl == NULL || !attach_bio(e) || SSL_set_app_data(e->ssl, e) != 1) {
		SSL_free(e->ssl);
		forget_errors();
		return false;
	}
	if (side->is_server)
		SSL_set_accept_state(e->ssl);
	else
		SSL_set_connect_state(e->ssl);
	e->setup = tls_setup_get(setup);
	OBJ_INIT(e, ENGINE_MAGIC);
	return true;
}

void
engine_start(struct engine *e)
{
	forget_errors();
	shake_hands(e);
	forget_errors();
}

struct engine *
engine_of(const struct layer *l)
{
	struct engine *e = CONTAINER_OF(l, struct engine, layer);

	OBJ_CHECK(e, ENGINE_MAGIC);
	return e;
}

struct engine *
engine_of_ssl(const SSL *ssl)
{
	struct engine *e = SSL_get_app_data(ssl);

	OBJ_CHECK(e, ENGINE_MAGIC);
	return e;
}
