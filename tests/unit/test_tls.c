/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses tls machine certificates */
/*
 * A server's layer against a client's, both engines, with nothing but memory between them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "tests/lib/certificates.h"
#include "tls/context.h"
#include "tls/engine.h"
#include "tls/setup.h"
#include "tls/tickets.h"

enum { WIRE_SIZE = 32 * 1024, PLAIN_SIZE = 32 * 1024, ALL = 1 << 20 };

static char folder[] = "/tmp/test_tls.XXXXXX";

/* ---- the setup ---- */

static const char *
path_of(const char *name)
{
	static char paths[8][64];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static void
write_pair(const char *name, const struct certificate_wish *wish)
{
	char chain[32], key[32];

	struct made_certificate c = certificate_make(wish);
	snprintf(chain, sizeof chain, "%s.pem", name);
	snprintf(key, sizeof key, "%s.key", name);
	certificate_write(&c, NULL, path_of(chain), path_of(key));
	certificate_drop(&c);
}

/* A configuration with these pairs ("a b"), and what is to stand in `tls` besides. */
static const struct config *
config_with(const char *pairs, const char *more)
{
	struct config_errors errors = { 0 };
	char text[2048];
	char names[64];
	int size = snprintf(text, sizeof text,
			    "hostname: mx.example.org\n"
			    "listeners: [{ address: \"127.0.0.1:2525\" }]\n"
			    "routes: [{ domain: \"*\", to: discard }]\n"
			    "tls:\n"
			    "  ca_file: none\n"
			    "%s  certificates:%s\n",
			    more, *pairs == '\0' ? " []" : "");

	snprintf(names, sizeof names, "%s", pairs);
	for (char *name = strtok(names, " "); name != NULL; name = strtok(NULL, " "))
		size += snprintf(text + size, sizeof text - (size_t)size,
				 "    - { chain: %s/%s.pem, key: %s/%s.key }\n", folder, name,
				 folder, name);
	const struct config *config = config_parse("test", span_of(text, (size_t)size), &errors);
	if (config == NULL)
		fail_msg("%s", errors.lines[0]);
	return config;
}

static struct tls_setup *
load(const char *pairs, const char *more, const struct tls_setup *old)
{
	char text[512];
	struct buf why = buf_of(text, sizeof text);
	const struct config *config = config_with(pairs, more);
	struct tls_setup *s = tls_setup_load(config, old, &why);

	config_put(config);
	if (s == NULL)
		fail_msg("%.*s", (int)why.size, text);
	return s;
}

static struct tls *
worker_of(struct tls_setup *s)
{
	char text[512];
	struct buf why = buf_of(text, sizeof text);
	struct tls *t = tls_new(s, &why);

	if (t == NULL)
		fail_msg("%.*s", (int)why.size, text);
	return t;
}

static struct tls *
make_worker(const char *pairs, const char *more)
{
	struct tls_setup *s = load(pairs, more, NULL);
	struct tls *t = worker_of(s);

	tls_setup_put(s);
	return t;
}

/* ---- a client that takes whatever it is shown ---- */

struct client {
	struct engine engine; /* first */
};

static SSL_CTX *client_context;
static SSL_SESSION *last_session;
static struct tls_setup *no_setup; /* one of clients */

static void
on_free(struct engine *e)
{
	free(CONTAINER_OF(e, struct client, engine));
}

static const struct engine_side client_side = { .peer = "the server", .on_free = on_free };

static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(last_session);
	last_session = session;
	return 1;
}

static struct engine *
client_new(const char *server_name)
{
	struct client *c = calloc(1, sizeof *c);

	assert_true(engine_init(&c->engine, client_context, no_setup, &client_side));
	if (server_name != NULL)
		SSL_set_tlsext_host_name(c->engine.ssl, server_name);
	return &c->engine;
}

/* ---- the wire between them ---- */

struct pair {
	struct layer *server;
	struct engine *client;
	uint8_t to_server[WIRE_SIZE], to_client[WIRE_SIZE];
	struct buf up, down; /* the wire */
	uint8_t server_memory[PLAIN_SIZE], client_memory[PLAIN_SIZE];
	struct buf server_plain, client_plain; /* what each has read */
};

static void
pair_init(struct pair *p, struct tls *t, struct engine *client, bool ask)
{
	struct tls_accept_options options = { .ask_certificate = ask };

	p->server = tls_accept(t, &options);
	p->client = client;
	p->up = buf_of(p->to_server, sizeof p->to_server);
	p->down = buf_of(p->to_client, sizeof p->to_client);
	p->server_plain = buf_of(p->server_memory, sizeof p->server_memory);
	p->client_plain = buf_of(p->client_memory, sizeof p->client_memory);
	assert_non_null(p->server);
	engine_start(client);
}

static void
pair_fini(struct pair *p)
{
	p->server->ops->free(p->server);
	p->client->layer.ops->free(&p->client->layer);
	assert_int_equal(ERR_peek_error(), 0);
}

/* Gives at most `cut` bytes of the wire to a layer. */
static bool
give(struct layer *l, struct buf *wire, size_t cut, struct buf *plain)
{
	struct span piece = span_first(buf_span(wire), cut);

	if (piece.size == 0)
		return false;
	uint8_t *copy = malloc(piece.size); /* so that ASan sees what is read behind it */
	memcpy(copy, piece.data, piece.size);
	size_t used = l->ops->read(l, span_of(copy, piece.size), plain);
	free(copy);
	assert_true(used <= piece.size);
	buf_consume(wire, used);
	return used > 0;
}

/* Until nothing moves. */
static void
pump(struct pair *p, size_t cut)
{
	bool moves = true;

	while (moves) {
		moves = false;
		if (p->client->layer.ops->wants_write(&p->client->layer))
			p->client->layer.ops->write(&p->client->layer, span_none(), &p->up);
		if (p->server->ops->wants_write(p->server))
			p->server->ops->write(p->server, span_none(), &p->down);
		moves |= give(p->server, &p->up, cut, &p->server_plain);
		moves |= give(&p->client->layer, &p->down, cut, &p->client_plain);
	}
}

static void
shake_hands(struct pair *p, struct tls *t, const char *server_name)
{
	pair_init(p, t, client_new(server_name), false);
	pump(p, ALL);
	assert_int_equal(p->server->state, LAYER_OPEN);
	assert_int_equal(p->client->layer.state, LAYER_OPEN);
}

static void
say(struct layer *l, const char *text, struct buf *wire)
{
	assert_int_equal(l->ops->write(l, span_of_string(text), wire), strlen(text));
}

/* ---- tests ---- */

/* From whole flights to single bytes: a conversation and its end. */
static void
it_does_not_matter_how_it_is_cut(void **state)
{
	static const size_t cuts[] = { ALL, 1, 2, 3, 5, 7, 64, 500, 1460 };
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	struct tls *t = make_worker("ec", "");

	(void)state;
	for (size_t i = 0; i < 2 * sizeof cuts / sizeof cuts[0]; i++) {
		struct pair *p = calloc(1, sizeof *p);
		size_t cut = cuts[i / 2];
		struct engine *client = client_new("mx.example.org");
		SSL_set_max_proto_version(client->ssl, versions[i % 2]);
		pair_init(p, t, client, false);
		pump(p, cut);
		assert_int_equal(p->server->state, LAYER_OPEN);
		assert_int_equal(client->layer.state, LAYER_OPEN);
		say(&client->layer, "EHLO client\r\n", &p->up);
		say(p->server, "250-server\r\n", &p->down);
		say(p->server, "250 that is all\r\n", &p->down);
		pump(p, cut);
		assert_true(span_eq(buf_span(&p->server_plain), SPAN("EHLO client\r\n")));
		assert_true(span_eq(buf_span(&p->client_plain),
				    SPAN("250-server\r\n250 that is all\r\n")));
		struct tls_facts f;
		tls_facts(p->server, &f);
		assert_string_equal(f.version, i % 2 == 0 ? "TLSv1.2" : "TLSv1.3");
		assert_non_null(strstr(f.cipher, "GCM"));
		assert_string_equal(f.group, "X25519");
		assert_true(span_eq(f.server_name, SPAN("mx.example.org")));
		assert_false(f.resumed);
		assert_false(f.has_certificate);
		assert_int_equal(f.why.size, 0);
		/* The client ends it; we may still answer. */
		client->layer.ops->end(&client->layer);
		pump(p, cut);
		assert_int_equal(p->server->state, LAYER_ENDED);
		say(p->server, "bye", &p->down);
		p->server->ops->end(p->server);
		pump(p, cut);
		assert_int_equal(client->layer.state, LAYER_ENDED);
		assert_int_equal(p->client_plain.size, 12 + 17 + 3);
		pair_fini(p);
		free(p);
	}
	tls_free(t);
}

/* A client's hello that comes in two parts is heavy until it is whole. */
static void
the_heavy_step_is_told(void **state)
{
	struct tls *t = make_worker("ec", "");
	struct pair *p = calloc(1, sizeof *p);

	(void)state;
	pair_init(p, t, client_new(NULL), false);
	p->client->layer.ops->write(&p->client->layer, span_none(), &p->up);
	assert_true(p->server->is_heavy);
	give(p->server, &p->up, 100, &p->server_plain);
	assert_true(p->server->is_heavy);
	give(p->server, &p->up, ALL, &p->server_plain);
	assert_int_equal(p->server->state, LAYER_HANDSHAKE);
	assert_false(p->server->is_heavy);
	pump(p, ALL);
	assert_int_equal(p->server->state, LAYER_OPEN);
	pair_fini(p);
	free(p);
	tls_free(t);
}

/* More than fits: a record is read in parts, and has_more() says so. */
static void
a_record_may_be_read_in_parts(void **state)
{
	struct tls *t = make_worker("ec", "");
	struct pair *p = calloc(1, sizeof *p);
	static uint8_t bytes[16384];
	uint8_t memory[1000];
	size_t got = 0;

	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7 >> 2);
	shake_hands(p, t, NULL);
	assert_int_equal(p->client->layer.ops->write(&p->client->layer,
						     span_of(bytes, sizeof bytes), &p->up),
			 sizeof bytes);
	do {
		struct buf plain = buf_of(memory, sizeof memory);
		give(p->server, &p->up, ALL, &plain);
		if (plain.size == 0) /* the rest is inside */
			p->server->ops->read(p->server, span_none(), &plain);
		assert_memory_equal(memory, bytes + got, plain.size);
		got += plain.size;
	} while (p->server->ops->has_more(p->server));
	assert_int_equal(got, sizeof bytes);
	pair_fini(p);
	free(p);
	tls_free(t);
}

/* What fits is written, and 31 KiB always fit into 32. */
static void
writes_fill_the_wire_and_no_more(void **state)
{
	static uint8_t bytes[64 * 1024];
	struct tls *t = make_worker("ec", "");
	struct pair *p = calloc(1, sizeof *p);
	uint8_t memory[32 * 1024];

	(void)state;
	shake_hands(p, t, NULL);
	for (size_t room = 0; room <= sizeof memory; room += 97) {
		struct buf wire = buf_of(memory, room);
		size_t n = p->server->ops->write(p->server, span_of(bytes, sizeof bytes), &wire);
		assert_true(n <= room);
		assert_true((n == 0) == (wire.size == 0));
		assert_false(wire.overflow);
		assert_false(p->server->ops->wants_write(p->server));
	}
	struct buf wire = buf_of(memory, sizeof memory);
	size_t most = sizeof memory - LAYER_OVERHEAD;
	assert_int_equal(p->server->ops->write(p->server, span_of(bytes, most), &wire), most);
	pair_fini(p);
	free(p);
	tls_free(t);
}

static void
expect_certificate(struct tls *t, const char *server_name, const char *common_name,
		   const char *signatures)
{
	struct pair *p = calloc(1, sizeof *p);
	struct engine *client = client_new(server_name);
	struct tls_facts f;
	char subject[64];

	if (signatures != NULL)
		assert_int_equal(SSL_set1_sigalgs_list(client->ssl, signatures), 1);
	pair_init(p, t, client, false);
	pump(p, ALL);
	assert_int_equal(client->layer.state, LAYER_OPEN);
	tls_facts(&client->layer, &f);
	assert_true(f.has_certificate);
	snprintf(subject, sizeof subject, "CN=%s", common_name);
	assert_true(span_eq(f.subject, span_of_string(subject)));
	pair_fini(p);
	free(p);
}

static void
the_name_chooses_the_certificate(void **state)
{
	struct tls *t = make_worker("ec rsa other wild", "");

	(void)state;
	expect_certificate(t, NULL, "ec", NULL);
	expect_certificate(t, "mx.example.org", "ec", NULL);
	expect_certificate(t, "MX.Example.ORG", "ec", NULL);
	expect_certificate(t, "nobody.example", "ec", NULL);
	expect_certificate(t, "other.example.net", "other", NULL);
	expect_certificate(t, "a.wild.example", "wild", NULL);
	expect_certificate(t, "wild.example", "ec", NULL);
	expect_certificate(t, "a.b.wild.example", "ec", NULL);
	expect_certificate(t, "other", "ec", NULL);
	/* RSA beside ECDSA, for the same name and for none; who cannot do ECDSA gets it. */
	expect_certificate(t, "mx.example.org", "rsa", "RSA-PSS+SHA256:RSA+SHA256");
	expect_certificate(t, NULL, "rsa", "RSA-PSS+SHA256:RSA+SHA256");
	tls_free(t);
}

/* Uses the session, and keeps the one that comes of it: in TLS 1.3 each is used once. */
static bool
is_resumed(struct tls *t, SSL_SESSION **session)
{
	struct pair *p = calloc(1, sizeof *p);
	struct engine *client = client_new("mx.example.org");
	struct tls_facts f;

	SSL_set_session(client->ssl, *session);
	pair_init(p, t, client, false);
	pump(p, ALL);
	assert_int_equal(p->server->state, LAYER_OPEN);
	if (last_session != NULL) {
		SSL_SESSION_free(*session);
		*session = last_session;
		last_session = NULL;
	}
	tls_facts(p->server, &f);
	pair_fini(p);
	free(p);
	return f.resumed;
}

/* The tickets of one worker are taken by another one, after a reload too. */
static void
sessions_are_resumed_on_other_workers(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct tls_setup *s = load("ec", "", NULL);
		struct tls *one = worker_of(s), *two = worker_of(s);
		struct pair *p = calloc(1, sizeof *p);
		SSL_CTX_set_max_proto_version(client_context, versions[i]);
		shake_hands(p, one, "mx.example.org");
		pair_fini(p);
		free(p);
		SSL_SESSION *session = last_session;
		last_session = NULL;
		assert_non_null(session);
		assert_true(is_resumed(two, &session));
		struct tls_setup *next = load("ec", "  ticket_lifetime: 1h\n", s);
		assert_true(tls_adopt(two, next));
		assert_true(is_resumed(two, &session));
		struct tls_setup *others = load("ec", "", NULL); /* of another process */
		assert_true(tls_adopt(two, others));
		assert_false(is_resumed(two, &session));
		SSL_SESSION_free(session);
		tls_free(one);
		tls_free(two);
		tls_setup_put(others);
		tls_setup_put(next);
		tls_setup_put(s);
	}
	SSL_CTX_set_max_proto_version(client_context, 0);
}

static void
keys_of_tickets_are_replaced_and_forgotten(void **state)
{
	struct tickets *t = tickets_new(1000, 5000);
	struct ticket_key first, second, found;
	bool is_old;

	(void)state;
	assert_true(tickets_current(t, 5000, &first));
	assert_true(tickets_current(t, 5999, &second));
	assert_memory_equal(&first, &second, sizeof first);
	assert_true(tickets_current(t, 6000, &second));
	assert_memory_not_equal(&first, &second, sizeof first);
	assert_true(tickets_find(t, 6000, first.name, &found, &is_old));
	assert_true(is_old);
	assert_memory_equal(&found, &first, sizeof first);
	assert_true(tickets_find(t, 6999, second.name, &found, &is_old));
	assert_false(is_old);
	assert_false(tickets_find(t, 7000, first.name, &found, &is_old));
	assert_true(tickets_find(t, 7000, second.name, &found, &is_old));
	/* Idle for so long that even the last one is too old. */
	assert_false(tickets_find(t, 9000, second.name, &found, &is_old));
	tickets_put(t);
}

static void
expect_failure(struct pair *p, enum tls_failure failure, const char *why)
{
	struct tls_facts f;

	assert_int_equal(p->server->state, LAYER_FAILED);
	tls_facts(p->server, &f);
	assert_int_equal(f.failure, failure);
	if (!span_eq(f.why, span_of_string(why)))
		fail_msg("'%.*s' is not '%s'", SPAN_ARG(f.why), why);
	/* Nothing is read or said any more but what waits. */
	uint8_t memory[64];
	struct buf plain = buf_of(memory, sizeof memory);
	assert_int_equal(p->server->ops->read(p->server, SPAN("more"), &plain), 4);
	assert_int_equal(plain.size, 0);
	assert_false(p->server->ops->has_more(p->server));
	pair_fini(p);
}

static void
failures_are_told_in_words(void **state)
{
	struct tls *t = make_worker("ec", ""), *new = make_worker("ec", "  min_version: \"1.3\"\n");
	struct pair *p = calloc(1, sizeof *p);
	static const struct {
		const char *text;
		const char *why;
	} plain[] = {
		{ "EHLO client\r\n", "the client speaks plain text where TLS is expected" },
		{ "G", "the client speaks plain text where TLS is expected" },
		{ "\r\n", "the client speaks plain text where TLS is expected" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
		pair_init(p, t, client_new(NULL), false);
		buf_append_string(&p->up, plain[i].text);
		give(p->server, &p->up, ALL, &p->server_plain);
		assert_false(p->server->ops->wants_write(p->server));
		expect_failure(p, TLS_FAILURE_PLAIN_TEXT, plain[i].why);
	}
	pair_init(p, t, client_new(NULL), false);
	buf_append(&p->up, SPAN("\x16\x03\x01\x00\x05hello"));
	give(p->server, &p->up, ALL, &p->server_plain);
	assert_true(p->server->ops->wants_write(p->server)); /* the alert */
	expect_failure(p, TLS_FAILURE_PROTOCOL, "the client said something out of order");

	struct engine *client = client_new(NULL);
	SSL_set_max_proto_version(client->ssl, TLS1_2_VERSION);
	pair_init(p, new, client, false);
	pump(p, ALL);
	assert_int_equal(client->layer.state, LAYER_FAILED);
	struct tls_facts f;
	tls_facts(&client->layer, &f);
	assert_int_equal(f.failure, TLS_FAILURE_VERSION);
	assert_true(span_eq(f.why, SPAN("the server allows no version of TLS that is used here")));
	expect_failure(p, TLS_FAILURE_VERSION,
		       "the client has no version of TLS that is allowed here");

	client = client_new(NULL);
	SSL_set_max_proto_version(client->ssl, TLS1_2_VERSION);
	SSL_set_cipher_list(client->ssl, "AES128-SHA");
	pair_init(p, t, client, false);
	pump(p, ALL);
	expect_failure(p, TLS_FAILURE_CIPHER, "the client has no cipher that is allowed here");

	/* A client that judges us. */
	client = client_new(NULL);
	SSL_set_verify(client->ssl, SSL_VERIFY_PEER, NULL);
	pair_init(p, t, client, false);
	pump(p, ALL);
	expect_failure(p, TLS_FAILURE_CERTIFICATE,
		       "the client does not accept our certificate (of an unknown authority)");

	shake_hands(p, t, NULL);
	say(&p->client->layer, "hello", &p->up);
	p->to_server[p->up.size - 1] ^= 1;
	give(p->server, &p->up, ALL, &p->server_plain);
	assert_int_equal(p->server_plain.size, 0);
	expect_failure(p, TLS_FAILURE_PROTOCOL, "the client sent what cannot be decrypted");
	tls_free(t);
	tls_free(new);
	free(p);
}

static void
ciphers_of_old_are_there_on_request(void **state)
{
	struct tls *t = make_worker("ec rsa", "  ciphers: compatible\n");
	struct pair *p = calloc(1, sizeof *p);
	struct engine *client = client_new(NULL);

	(void)state;
	SSL_set_max_proto_version(client->ssl, TLS1_2_VERSION);
	SSL_set_cipher_list(client->ssl, "AES128-SHA");
	pair_init(p, t, client, false);
	pump(p, ALL);
	assert_int_equal(p->server->state, LAYER_OPEN);
	pair_fini(p);
	free(p);
	tls_free(t);
}

static void
a_client_may_show_a_certificate(void **state)
{
	struct tls *t = make_worker("ec", "");
	struct pair *p = calloc(1, sizeof *p);
	struct made_certificate c =
		certificate_make(&(struct certificate_wish){ .common_name = "Zoë" });
	uint8_t expected[TLS_FINGERPRINT_SIZE];
	struct tls_facts f;

	(void)state;
	assert_int_equal(X509_digest(c.x509, EVP_sha256(), expected, NULL), 1);
	for (unsigned ask = 0; ask < 2; ask++) {
		struct engine *client = client_new(NULL);
		SSL_use_cert_and_key(client->ssl, c.x509, c.key, NULL, 1);
		pair_init(p, t, client, ask == 1);
		pump(p, 100);
		assert_int_equal(p->server->state, LAYER_OPEN);
		tls_facts(p->server, &f);
		assert_int_equal(f.has_certificate, ask == 1);
		if (ask == 1) {
			assert_memory_equal(f.fingerprint, expected, sizeof expected);
			assert_true(span_eq(f.subject, SPAN("CN=Zoë")));
		}
		pair_fini(p);
	}
	/* Asked, and none is shown. */
	pair_init(p, t, client_new(NULL), true);
	pump(p, ALL);
	assert_int_equal(p->server->state, LAYER_OPEN);
	tls_facts(p->server, &f);
	assert_false(f.has_certificate);
	pair_fini(p);
	certificate_drop(&c);
	free(p);
	tls_free(t);
}

static void
renegotiation_is_refused(void **state)
{
	struct tls *t = make_worker("ec", "");
	struct pair *p = calloc(1, sizeof *p);
	struct engine *client = client_new(NULL);

	(void)state;
	SSL_set_max_proto_version(client->ssl, TLS1_2_VERSION);
	SSL_clear_options(client->ssl, SSL_OP_NO_RENEGOTIATION);
	pair_init(p, t, client, false);
	pump(p, ALL);
	assert_int_equal(SSL_renegotiate(client->ssl), 1);
	SSL_do_handshake(client->ssl);
	pump(p, ALL);
	/* Our alert says no, and the client's library gives up. */
	assert_int_equal(client->layer.state, LAYER_FAILED);
	assert_int_equal(SSL_num_renegotiations(((struct engine *)(void *)p->server)->ssl), 0);
	pair_fini(p);
	free(p);
	tls_free(t);
}

/* A client that makes us speak and does not read comes to an end. */
static void
words_are_bounded(void **state)
{
	struct tls *t = make_worker("ec", "");
	struct pair *p = calloc(1, sizeof *p);

	(void)state;
	shake_hands(p, t, NULL);
	for (unsigned i = 0; i < 10000 && p->server->state == LAYER_OPEN; i++) {
		assert_int_equal(SSL_key_update(p->client->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		say(&p->client->layer, "x", &p->up);
		p->client->layer.ops->write(&p->client->layer, span_none(), &p->up);
		give(p->server, &p->up, ALL, &p->server_plain);
		buf_reset(&p->server_plain);
		assert_true(engine_of(p->server)->words_size <= 64 * 1024);
	}
	assert_int_equal(p->server->state, LAYER_FAILED);
	pair_fini(p);
	free(p);
	tls_free(t);
}

/* ---- files ---- */

static void
expect_refused(const char *pairs, const char *more, const char *why_expected)
{
	char text[512];
	struct buf why = buf_of(text, sizeof text - 1);
	const struct config *config = config_with(pairs, more);
	struct tls_setup *s = tls_setup_load(config, NULL, &why);

	config_put(config);
	assert_null(s);
	text[why.size] = '\0';
	if (strstr(text, why_expected) == NULL)
		fail_msg("'%s' is not in '%s'", why_expected, text);
	assert_non_null(strstr(text, folder)); /* names the file */
	assert_non_null(strchr(text, ';') == NULL ? strstr(text, "chmod") : strchr(text, ';'));
}

static void
write_text(const char *name, const char *text)
{
	FILE *file = fopen(path_of(name), "w");

	fputs(text, file);
	fclose(file);
	chmod(path_of(name), 0600);
}

static void
copy_file(const char *from, const char *to)
{
	char text[16384];
	FILE *file = fopen(path_of(from), "r");
	size_t size = fread(text, 1, sizeof text - 1, file);

	fclose(file);
	text[size] = '\0';
	write_text(to, text);
}

static void
files_that_cannot_be_used_are_refused_with_the_remedy(void **state)
{
	(void)state;
	expect_refused("missing", "", "No such file");
	write_text("bad.pem", "hello");
	copy_file("ec.key", "bad.key");
	expect_refused("bad", "", "has no certificate in PEM");
	copy_file("ec.pem", "bad.pem");
	copy_file("other.key", "bad.key");
	expect_refused("bad", "", "is the key of another certificate");
	write_text("bad.key", "hello");
	expect_refused("bad", "", "has no private key in PEM");
	copy_file("ec.key", "bad.key");
	chmod(path_of("bad.key"), 0640);
	expect_refused("bad", "", "chmod 600");
	chmod(path_of("bad.key"), 0600);
	struct tls_setup *s = load("bad", "", NULL);
	tls_setup_put(s);

	/* A broken certificate behind a good one. */
	FILE *file = fopen(path_of("bad.pem"), "a");
	fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", file);
	fclose(file);
	expect_refused("bad", "", "has a broken certificate");

	/* With a passphrase. */
	EVP_PKEY *key = EVP_EC_gen("P-256");
	file = fopen(path_of("bad.key"), "w");
	copy_file("ec.pem", "bad.pem");
	assert_int_equal(
		PEM_write_PKCS8PrivateKey(file, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL),
		1);
	fclose(file);
	EVP_PKEY_free(key);
	expect_refused("bad", "", "is a key with a passphrase");
}

static void
what_has_not_changed_is_taken_over(void **state)
{
	struct tls_certificate c;

	(void)state;
	write_pair("changing",
		   &(struct certificate_wish){ .names = "DNS:one.example", .ends_in_s = 86400 });
	struct tls_setup *s = load("ec changing", "", NULL);
	tls_setup_certificate(s, 1, &c);
	assert_true(c.is_fresh);
	assert_true(span_eq(c.name, SPAN("one.example")));
	assert_string_equal(c.key_kind, "EC");
	assert_int_equal(c.key_bits, 256);
	assert_true(c.not_after_s - c.not_before_s == 2 * 86400);
	assert_true(tls_setup_state(s) == tls_setup_state_on_disk(s));
	write_pair("changing", &(struct certificate_wish){ .names = "DNS:two.example" });
	assert_true(tls_setup_state(s) != tls_setup_state_on_disk(s));

	struct tls_setup *next = load("ec changing", "", s);
	tls_setup_put(s); /* the old one may go first */
	assert_int_equal(tls_setup_certificate_count(next), 2);
	tls_setup_certificate(next, 0, &c);
	assert_false(c.is_fresh);
	tls_setup_certificate(next, 1, &c);
	assert_true(c.is_fresh);
	assert_true(span_eq(c.name, SPAN("two.example")));
	tls_setup_put(next);
}

/* A session goes on with what it began with, and its setup lives as long. */
static void
a_reload_leaves_sessions_alone(void **state)
{
	struct tls *t = make_worker("ec", "");
	struct pair *p = calloc(1, sizeof *p), *half = calloc(1, sizeof *half);

	(void)state;
	shake_hands(p, t, "other.example.net");
	pair_init(half, t, client_new("other.example.net"), false);
	half->client->layer.ops->write(&half->client->layer, span_none(), &half->up);
	give(half->server, &half->up, 60, &half->server_plain);
	struct tls_setup *next = load("other", "", t->setup);
	assert_true(tls_adopt(t, next));
	tls_setup_put(next);
	expect_certificate(t, NULL, "other", NULL);
	say(&p->client->layer, "still there?", &p->up);
	pump(p, ALL);
	assert_int_equal(p->server_plain.size, 12);
	pump(half, ALL);
	assert_int_equal(half->server->state, LAYER_OPEN);
	pair_fini(p);
	pair_fini(half);
	free(p);
	free(half);
	tls_free(t);
}

static void
without_a_certificate_there_is_no_server(void **state)
{
	struct tls *t = make_worker("", "");

	(void)state;
	assert_false(tls_setup_has_certificate(t->setup));
	assert_null(t->server);
	tls_free(t);
}

static void
labels_and_fingerprints(void **state)
{
	uint8_t fingerprint[TLS_FINGERPRINT_SIZE] = { 0x01, 0xab };
	char text[128];
	struct buf out = buf_of(text, sizeof text);

	(void)state;
	tls_fingerprint_show(fingerprint, &out);
	assert_int_equal(out.size, 95);
	assert_memory_equal(text, "01:AB:00:", 9);
	for (int i = TLS_UNVERIFIED; i <= TLS_BY_FINGERPRINT; i++)
		assert_non_null(tls_verified_label((enum tls_verified)i));
	for (int i = TLS_FAILURE_NONE; i <= TLS_FAILURE_MEMORY; i++)
		assert_non_null(tls_failure_label((enum tls_failure)i));
}

/* ---- around them ---- */

static int
make_files(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	write_pair("ec", &(struct certificate_wish){ .common_name = "ec",
						     .names = "DNS:mx.example.org" });
	write_pair("rsa", &(struct certificate_wish){ .common_name = "rsa",
						      .names = "DNS:mx.example.org",
						      .rsa_bits = 2048 });
	write_pair("other", &(struct certificate_wish){
				    .common_name = "other",
				    .names = "DNS:other.example.net,DNS:more.example.net" });
	write_pair("wild", &(struct certificate_wish){ .common_name = "wild",
						       .names = "DNS:*.wild.example" });
	client_context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_session_cache_mode(client_context,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(client_context, on_session);
	no_setup = load("", "", NULL);
	return 0;
}

static int
remove_files(void **state)
{
	char command[64];

	(void)state;
	SSL_SESSION_free(last_session);
	SSL_CTX_free(client_context);
	tls_setup_put(no_setup);
	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_does_not_matter_how_it_is_cut),
		cmocka_unit_test(the_heavy_step_is_told),
		cmocka_unit_test(a_record_may_be_read_in_parts),
		cmocka_unit_test(writes_fill_the_wire_and_no_more),
		cmocka_unit_test(the_name_chooses_the_certificate),
		cmocka_unit_test(sessions_are_resumed_on_other_workers),
		cmocka_unit_test(keys_of_tickets_are_replaced_and_forgotten),
		cmocka_unit_test(failures_are_told_in_words),
		cmocka_unit_test(ciphers_of_old_are_there_on_request),
		cmocka_unit_test(a_client_may_show_a_certificate),
		cmocka_unit_test(renegotiation_is_refused),
		cmocka_unit_test(words_are_bounded),
		cmocka_unit_test(files_that_cannot_be_used_are_refused_with_the_remedy),
		cmocka_unit_test(what_has_not_changed_is_taken_over),
		cmocka_unit_test(a_reload_leaves_sessions_alone),
		cmocka_unit_test(without_a_certificate_there_is_no_server),
		cmocka_unit_test(labels_and_fingerprints),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
