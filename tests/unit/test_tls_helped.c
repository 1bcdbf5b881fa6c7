/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses tls machine certificates threads */
/* What of a server's handshake is left to somebody else, and what waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/certificates.h"
#include "tls/context.h"
#include "tls/engine.h"

enum { WIRE_SIZE = 32 * 1024, ALL = 1 << 20 };

static char folder[] = "/tmp/test_tls_helped.XXXXXX";

static struct tls *
make_worker(const char *pairs, const char *more)
{
	struct config_errors errors = { 0 };
	char text[1024], names[64], problem[512];
	struct buf why = buf_of(problem, sizeof problem);
	int size = snprintf(text, sizeof text,
			    "hostname: mx.example.org\n"
			    "listeners: [{ address: \"127.0.0.1:2525\" }]\n"
			    "routes: [{ domain: \"*\", to: discard }]\n"
			    "tls:\n  ca_file: none\n%s  certificates:\n",
			    more);

	snprintf(names, sizeof names, "%s", pairs);
	for (char *name = strtok(names, " "); name != NULL; name = strtok(NULL, " "))
		size += snprintf(text + size, sizeof text - (size_t)size,
				 "    - { chain: %s/%s.pem, key: %s/%s.key }\n", folder, name,
				 folder, name);
	const struct config *config = config_parse("test", span_of(text, (size_t)size), &errors);
	if (config == NULL)
		fail_msg("%s", errors.lines[0]);
	struct tls_setup *s = tls_setup_load(config, NULL, &why);
	config_put(config);
	struct tls *t = s == NULL ? NULL : tls_new(s, &why);
	if (t == NULL)
		fail_msg("%.*s", (int)why.size, problem);
	tls_setup_put(s);
	return t;
}

/* ---- a server and a client ---- */

struct pair {
	struct tls *tls;
	struct layer *server, *client;
	uint8_t memory[4][WIRE_SIZE];
	struct buf up, down; /* the wire */
	struct buf server_plain, client_plain;
};

static struct pair *
pair_new(const char *pairs, const char *more)
{
	static const struct tls_accept_options options;
	struct pair *p = calloc(1, sizeof *p);
	struct buf *bufs[] = { &p->up, &p->down, &p->server_plain, &p->client_plain };

	for (unsigned i = 0; i < 4; i++)
		*bufs[i] = buf_of(p->memory[i], WIRE_SIZE);
	p->tls = make_worker(pairs, more);
	p->server = tls_accept(p->tls, &options);
	return p;
}

/* The client makes its hello when it is made, so whatever is asked of it is asked of its context.
 */
static void
pair_connect(struct pair *p, int version, const char *algorithms, const char *ciphers)
{
	const struct tls_wish wish = { .level = TLS_ENCRYPT,
				       .server_name = SPAN("mx.example.org") };
	SSL_CTX *x = p->tls->client;

	SSL_CTX_set_max_proto_version(x, version);
	if (algorithms != NULL)
		assert_int_equal(SSL_CTX_set1_sigalgs_list(x, algorithms), 1);
	if (ciphers != NULL)
		assert_int_equal(SSL_CTX_set_cipher_list(x, ciphers), 1);
	p->client = tls_connect(p->tls, &wish);
	assert_non_null(p->client);
}

static void
pair_free(struct pair *p)
{
	p->server->ops->free(p->server);
	p->client->ops->free(p->client);
	tls_free(p->tls);
	assert_int_equal(ERR_peek_error(), 0);
	free(p);
}

/* Gives at most `cut` bytes of the wire to a layer. */
static bool
give(struct layer *l, struct buf *wire, size_t cut, struct buf *plain)
{
	struct span piece = span_first(buf_span(wire), cut);

	if (l->is_busy || piece.size == 0)
		return false;
	size_t used = l->ops->read(l, piece, plain);
	buf_consume(wire, used);
	return used > 0;
}

static void
pump(struct pair *p, size_t cut)
{
	bool moves = true;

	while (moves && !p->server->is_busy) {
		p->client->ops->write(p->client, span_none(), &p->up);
		p->server->ops->write(p->server, span_none(), &p->down);
		moves = give(p->server, &p->up, cut, &p->server_plain);
		moves |= give(p->client, &p->down, cut, &p->client_plain);
	}
}

static void *
work_elsewhere(void *layer)
{
	struct layer *l = layer;

	l->ops->work(l);
	assert_int_equal(ERR_peek_error(), 0);
	return NULL;
}

/* Says how often the server was busy; meanwhile it tells nothing. */
static unsigned
shake_hands(struct pair *p, size_t cut)
{
	unsigned busy = 0;
	struct tls_facts f;
	pthread_t helper;

	pump(p, cut);
	while (p->server->is_busy) {
		busy++;
		tls_facts(p->server, &f);
		assert_null(f.version);
		assert_int_equal(pthread_create(&helper, NULL, work_elsewhere, p->server), 0);
		pthread_join(helper, NULL);
		p->server->is_busy = false;
		p->server->ops->read(p->server, span_none(), &p->server_plain);
		pump(p, cut);
	}
	return busy;
}

static void
converse(struct pair *p)
{
	assert_int_equal(p->server->state, LAYER_OPEN);
	assert_int_equal(p->client->state, LAYER_OPEN);
	p->client->ops->write(p->client, SPAN("EHLO client\r\n"), &p->up);
	p->server->ops->write(p->server, SPAN("250 hello\r\n"), &p->down);
	pump(p, ALL);
	assert_true(span_eq(buf_span(&p->server_plain), SPAN("EHLO client\r\n")));
	assert_true(span_eq(buf_span(&p->client_plain), SPAN("250 hello\r\n")));
}

/* ---- tests ---- */

static void
signatures_with_slow_keys_are_made_elsewhere(void **state)
{
	static const struct {
		const char *pairs, *more;
		int version;
		const char *algorithms, *ciphers; /* of the client, of TLS 1.2; NULL: all */
		unsigned busy;
	} rows[] = {
		{ "slow", "", TLS1_3_VERSION, NULL, NULL, 1 },
		{ "slow", "", TLS1_2_VERSION, NULL, NULL, 1 },
		{ "ec", "", TLS1_3_VERSION, NULL, NULL, 0 },
		{ "ec", "", TLS1_2_VERSION, NULL, NULL, 0 },
		{ "rsa", "", TLS1_3_VERSION, NULL, NULL, 0 },
		{ "ec slow", "", TLS1_3_VERSION, NULL, NULL, 0 },
		{ "ec slow", "", TLS1_3_VERSION, "rsa_pss_rsae_sha256", NULL, 1 },
		/* Our key of ECDSA does not fit the algorithm. */
		{ "ec slow", "", TLS1_3_VERSION, "ecdsa_secp384r1_sha384:rsa_pss_rsae_sha256", NULL,
		  1 },
		{ "ec slow", "", TLS1_2_VERSION, NULL, "ECDHE-RSA-AES128-GCM-SHA256", 1 },
		/* Once for the choice, once to decrypt. */
		{ "slow", "  ciphers: compatible\n", TLS1_2_VERSION, NULL, "AES128-SHA", 2 },
		{ "rsa", "  ciphers: compatible\n", TLS1_2_VERSION, NULL, "AES128-SHA", 0 },
	};
	static const size_t cuts[] = { ALL, 100, 1 };

	(void)state;
	for (size_t i = 0; i < 3 * sizeof rows / sizeof rows[0]; i++) {
		size_t row = i / 3;
		struct pair *p = pair_new(rows[row].pairs, rows[row].more);
		pair_connect(p, rows[row].version, rows[row].algorithms, rows[row].ciphers);
		p->server->has_helper = true;
		unsigned busy = shake_hands(p, cuts[i % 3]);
		/* What is decrypted elsewhere is read there, each part of it. */
		if (rows[row].busy < 2 || cuts[i % 3] == ALL)
			assert_int_equal(busy, rows[row].busy);
		else
			assert_in_range(busy, 2, 1000);
		converse(p);
		pair_free(p);
	}
}

/* Whatever its key: while it has not answered. */
static void
heavy_steps_leave_where_there_is_a_helper(void **state)
{
	static const int versions[] = { TLS1_3_VERSION, TLS1_2_VERSION };
	/* TLS 1.2 computes for the client's answer, too. */
	static const unsigned busy[] = { 1, 2 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct pair *p = pair_new("ec", "");
		pair_connect(p, versions[i], NULL, NULL);
		assert_true(p->server->is_heavy && p->server->heavy_may_leave);
		p->server->has_helper = true;
		p->server->helper_is_free = true;
		assert_int_equal(shake_hands(p, ALL), busy[i]);
		converse(p);
		/* A client's are of its thread: they look into what that remembers. */
		assert_false(p->client->heavy_may_leave);
		pair_free(p);
	}
}

/* Where nobody else is there, it is the same key here. */
static void
without_a_helper_nothing_is_left_out(void **state)
{
	struct pair *p = pair_new("slow", "");

	(void)state;
	pair_connect(p, TLS1_3_VERSION, NULL, NULL);
	assert_int_equal(shake_hands(p, ALL), 0);
	converse(p);
	pair_free(p);
}

/* It fails elsewhere with the same words. */
static void
a_failure_elsewhere_is_told(void **state)
{
	struct pair *p = pair_new("slow", "");
	struct tls_facts f;

	(void)state;
	pair_connect(p, TLS1_2_VERSION, NULL, "ECDHE-ECDSA-AES128-GCM-SHA256");
	p->server->has_helper = true;
	assert_int_equal(shake_hands(p, ALL), 1);
	assert_int_equal(p->server->state, LAYER_FAILED);
	tls_facts(p->server, &f);
	assert_int_equal(f.failure, TLS_FAILURE_CIPHER);
	assert_true(span_eq(f.why, SPAN("the client has no cipher that is allowed here")));
	pair_free(p);
}

/* A hello that waits is kept by the layer, in parts, and read ahead of what comes then. */
static void
what_is_kept_is_read_first(void **state)
{
	struct pair *p = pair_new("ec", "");
	struct layer *l = p->server;

	(void)state;
	pair_connect(p, TLS1_3_VERSION, NULL, NULL);
	p->client->ops->write(p->client, span_none(), &p->up);
	struct span hello = buf_span(&p->up);
	assert_false(l->ops->has_more(l));
	assert_true(l->ops->keep(l, span_first(hello, 50)));
	assert_true(l->ops->keep(l, span_first(span_after(hello, 50), 70)));
	assert_true(l->ops->has_more(l));
	buf_consume(&p->up, 120);
	assert_true(give(l, &p->up, ALL, &p->server_plain));
	assert_false(l->ops->has_more(l));
	pump(p, ALL);
	converse(p);
	pair_free(p);
}

/* ---- around them ---- */

static void
write_pair(const char *name, unsigned rsa_bits)
{
	const struct certificate_wish wish = { .names = "DNS:mx.example.org",
					       .rsa_bits = rsa_bits };
	struct made_certificate c = certificate_make(&wish);
	char chain[64], key[64];

	snprintf(chain, sizeof chain, "%s/%s.pem", folder, name);
	snprintf(key, sizeof key, "%s/%s.key", folder, name);
	certificate_write(&c, NULL, chain, key);
	certificate_drop(&c);
}

static int
make_files(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	write_pair("ec", 0);
	write_pair("rsa", 2048);
	write_pair("slow", 3072);
	return 0;
}

static int
remove_files(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(signatures_with_slow_keys_are_made_elsewhere),
		cmocka_unit_test(heavy_steps_leave_where_there_is_a_helper),
		cmocka_unit_test(without_a_helper_nothing_is_left_out),
		cmocka_unit_test(a_failure_elsewhere_is_told),
		cmocka_unit_test(what_is_kept_is_read_first),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
