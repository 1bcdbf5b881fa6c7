/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses tls core machine */
/*
 * The client's side of TLS against a server of OpenSSL's own, in memory: every wish against every
 * kind of certificate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tls/tls.h"

enum { DAY = 24 * 3600, WIRE_SIZE = 64 * 1024, SCSV = 0x00ff /* RFC 5746 3.3 */ };

/* ---- certificates ---- */

enum kind { GOOD, EXPIRED, EARLY, OTHER_NAME, SELF_SIGNED, NAME_IN_CN, KINDS };

static const char *const kind_names[KINDS] = { "good",       "expired",     "not yet valid",
					       "wrong name", "self-signed", "name in CN alone" };

struct identity {
	X509 *certificate;
	EVP_PKEY *key;
};

static struct identity authority, identities[KINDS], wildcard, number;
static char folder[] = "/tmp/connect.XXXXXX";
static char ca_path[64];
static struct tls_setup *setup;
static struct tls *tls;

static void
add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;

	X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

/* Takes the key over. */
static struct identity
make_of_key(EVP_PKEY *key, const char *common_name, const char *names, long from, long to,
	    const struct identity *issuer)
{
	static long serial;
	struct identity i = { X509_new(), key };
	X509 *x = i.certificate;

	assert_non_null(i.key);
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(x), from);
	X509_gmtime_adj(X509_getm_notAfter(x), to);
	X509_set_pubkey(x, i.key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
				   (const unsigned char *)common_name, -1, -1, 0);
	X509 *by = issuer != NULL ? issuer->certificate : x;
	X509_set_issuer_name(x, X509_get_subject_name(by));
	if (names == NULL)
		add_extension(x, by, NID_basic_constraints, "critical,CA:TRUE");
	else if (names[0] != 0)
		add_extension(x, by, NID_subject_alt_name, names);
	assert_true(X509_sign(x, issuer != NULL ? issuer->key : i.key, EVP_sha256()) > 0);
	return i;
}

static struct identity
make(const char *common_name, const char *names, long from, long to, const struct identity *issuer)
{
	return make_of_key(EVP_EC_gen("P-256"), common_name, names, from, to, issuer);
}

/* A good one with a key of this kind. */
static struct identity
make_of_kind(const char *kind, const char *group)
{
	EVP_PKEY_CTX *x = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
	EVP_PKEY *key = NULL;

	assert_int_equal(EVP_PKEY_keygen_init(x), 1);
	if (group != NULL)
		assert_int_equal(EVP_PKEY_CTX_set_group_name(x, group), 1);
	assert_int_equal(EVP_PKEY_generate(x, &key), 1);
	EVP_PKEY_CTX_free(x);
	return make_of_key(key, "mail.example.org", "DNS:mail.example.org", -DAY, DAY, &authority);
}

static void
drop_identity(struct identity *i)
{
	X509_free(i->certificate);
	EVP_PKEY_free(i->key);
}

static struct span
fingerprint_of(X509 *x, uint8_t memory[TLS_FINGERPRINT_SIZE])
{
	unsigned size;

	assert_int_equal(X509_digest(x, EVP_sha256(), memory, &size), 1);
	return span_of(memory, size);
}

static struct span
key_digest_of(X509 *x, uint8_t memory[TLS_FINGERPRINT_SIZE])
{
	uint8_t *der = NULL;
	unsigned size;
	int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);

	assert_int_equal(EVP_Digest(der, (size_t)length, memory, &size, EVP_sha256(), NULL), 1);
	OPENSSL_free(der);
	return span_of(memory, size);
}

static const struct config *
configure(void)
{
	static struct config_errors errors;
	char text[400];

	snprintf(text, sizeof text,
		 "hostname: mx1.example.org\n"
		 "listeners: [{ address: \"127.0.0.1:25\", role: relay }]\n"
		 "log: { file: %s/log }\n"
		 "queue: { store: spool, spool: { path: %s } }\n"
		 "tls: { ca_file: %s }\n",
		 folder, folder, ca_path);
	const struct config *c = config_parse("test", span_of_string(text), &errors);
	if (c == NULL)
		print_error("%s\n", errors.lines[0]);
	assert_non_null(c);
	return c;
}

static int
set_up(void **state)
{
	uint8_t memory[300];
	struct buf why = buf_of(memory, sizeof memory);
	const char *right = "DNS:mail.example.org";

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(ca_path, sizeof ca_path, "%s/ca.pem", folder);
	authority = make("Test CA", NULL, -DAY, DAY, NULL);
	identities[GOOD] = make("mail.example.org", right, -DAY, DAY, &authority);
	identities[EXPIRED] = make("mail.example.org", right, -2 * DAY, -DAY, &authority);
	identities[EARLY] = make("mail.example.org", right, DAY, 2 * DAY, &authority);
	identities[OTHER_NAME] =
		make("www.example.org", "DNS:www.example.org", -DAY, DAY, &authority);
	identities[SELF_SIGNED] = make("mail.example.org", right, -DAY, DAY, NULL);
	identities[NAME_IN_CN] = make("mail.example.org", "", -DAY, DAY, &authority);
	wildcard = make("x", "DNS:*.example.org, DNS:f*.example.net", -DAY, DAY, &authority);
	number = make("x", "IP:192.0.2.1, IP:2001:db8::1", -DAY, DAY, &authority);
	FILE *f = fopen(ca_path, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, authority.certificate), 1);
	fclose(f);
	const struct config *config = configure();
	setup = tls_setup_load(config, NULL, &why);
	config_put(config);
	assert_non_null(setup);
	tls = tls_new(setup, &why);
	assert_non_null(tls);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	tls_free(tls);
	tls_setup_put(setup);
	for (unsigned i = 0; i < KINDS; i++)
		drop_identity(&identities[i]);
	unlink(ca_path);
	return rmdir(folder);
}

/* ---- a server in memory ---- */

struct server {
	SSL_CTX *context;
	SSL *ssl;
	BIO *in;
	BIO *out;
};

static SSL_CTX *
server_context(const struct identity *i)
{
	SSL_CTX *x = SSL_CTX_new(TLS_server_method());

	assert_int_equal(SSL_CTX_use_certificate(x, i->certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(x, i->key), 1);
	assert_int_equal(SSL_CTX_add1_chain_cert(x, authority.certificate), 1);
	SSL_CTX_set_session_id_context(x, (const unsigned char *)"t", 1);
	return x;
}

static void
serve(struct server *s, SSL_CTX *context)
{
	*s = (struct server){ .context = context, .ssl = SSL_new(context) };
	s->in = BIO_new(BIO_s_mem());
	s->out = BIO_new(BIO_s_mem());
	SSL_set_bio(s->ssl, s->in, s->out);
	SSL_set_accept_state(s->ssl);
}

/* Carries bytes both ways, the client's input in pieces of `piece`, until nothing moves. */
static void
carry(struct layer *l, struct server *s, size_t piece, struct buf *plain)
{
	static uint8_t memory[WIRE_SIZE];
	bool moved = true;

	while (moved) {
		struct buf wire = buf_of(memory, sizeof memory);
		char text[256];
		moved = false;
		while (l->ops->wants_write(l)) {
			l->ops->write(l, span_none(), &wire);
			moved = true;
		}
		if (wire.size > 0)
			BIO_write(s->in, wire.data, (int)wire.size);
		if (SSL_do_handshake(s->ssl) == 1)
			(void)SSL_read(s->ssl, text, sizeof text);
		int got = BIO_read(s->out, memory, sizeof memory);
		struct span rest = span_of(memory, got > 0 ? (size_t)got : 0);
		moved |= rest.size > 0;
		while (rest.size > 0 && l->state != LAYER_FAILED) {
			struct span part = span_first(rest, piece);
			rest = span_after(rest, l->ops->read(l, part, plain));
		}
	}
}

/* One handshake. The layer is the caller's to free. */
static struct layer *
shake(SSL_CTX *context, const struct tls_wish *wish, size_t piece, struct tls_facts *facts)
{
	uint8_t memory[1024];
	struct buf plain = buf_of(memory, sizeof memory);
	struct server s;
	struct layer *l = tls_connect(tls, wish);

	assert_non_null(l);
	serve(&s, context);
	carry(l, &s, piece, &plain);
	assert_true(l->state == LAYER_OPEN || l->state == LAYER_FAILED);
	assert_int_equal(SSL_is_init_finished(s.ssl) && l->state == LAYER_OPEN,
			 l->state == LAYER_OPEN);
	tls_facts(l, facts);
	SSL_free(s.ssl);
	return l;
}

static struct tls_facts
meet(const struct identity *i, const struct tls_wish *wish)
{
	SSL_CTX *context = server_context(i);
	struct tls_facts facts;
	struct layer *l = shake(context, wish, SIZE_MAX, &facts);

	SSL_CTX_free(context);
	/* What is a span of the layer cannot be looked at any more. */
	if (facts.why.size > 0)
		facts.why = SPAN("said");
	facts.unverified = facts.unverified.size > 0 ? SPAN("said") : span_none();
	bool open = l->state == LAYER_OPEN;
	l->ops->free(l);
	assert_int_equal(open, facts.failure == TLS_FAILURE_NONE);
	assert_true(open || facts.why.size > 0);
	return facts;
}

static struct tls_wish
wish_of(enum tls_level level)
{
	return (struct tls_wish){
		.level = level,
		.server_name = SPAN("mail.example.org"),
		.names = { SPAN("mail.example.org") },
		.name_count = 1,
	};
}

/* ---- tests ---- */

/* What the peer must be for each result. */
static void
every_wish_meets_every_certificate(void **state)
{
	static const struct {
		enum kind kind;
		enum tls_level level;
		enum tls_verified verified;
		const char *result; /* NULL: the mail goes on */
	} rows[] = {
		{ GOOD, TLS_MAY, TLS_BY_CA, NULL },
		{ GOOD, TLS_ENCRYPT, TLS_BY_CA, NULL },
		{ GOOD, TLS_VERIFY, TLS_BY_CA, NULL },
		{ EXPIRED, TLS_MAY, TLS_UNVERIFIED, NULL },
		{ EXPIRED, TLS_ENCRYPT, TLS_UNVERIFIED, NULL },
		{ EXPIRED, TLS_VERIFY, TLS_UNVERIFIED, "certificate-expired" },
		{ EARLY, TLS_MAY, TLS_UNVERIFIED, NULL },
		{ EARLY, TLS_VERIFY, TLS_UNVERIFIED, "certificate-expired" },
		{ OTHER_NAME, TLS_MAY, TLS_UNVERIFIED, NULL },
		{ OTHER_NAME, TLS_ENCRYPT, TLS_UNVERIFIED, NULL },
		{ OTHER_NAME, TLS_VERIFY, TLS_UNVERIFIED, "certificate-host-mismatch" },
		{ SELF_SIGNED, TLS_MAY, TLS_UNVERIFIED, NULL },
		{ SELF_SIGNED, TLS_ENCRYPT, TLS_UNVERIFIED, NULL },
		{ SELF_SIGNED, TLS_VERIFY, TLS_UNVERIFIED, "certificate-not-trusted" },
		/* RFC 9525 6.3: the common name is no name. */
		{ NAME_IN_CN, TLS_MAY, TLS_UNVERIFIED, NULL },
		{ NAME_IN_CN, TLS_VERIFY, TLS_UNVERIFIED, "certificate-host-mismatch" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tls_wish wish = wish_of(rows[i].level);
		struct tls_facts f = meet(&identities[rows[i].kind], &wish);
		if ((f.failure == TLS_FAILURE_NONE) != (rows[i].result == NULL) ||
		    f.verified != rows[i].verified)
			fail_msg("%s, %s: %s, verified %s", kind_names[rows[i].kind],
				 tls_level_label(rows[i].level), tls_failure_label(f.failure),
				 tls_verified_label(f.verified));
		if (rows[i].result != NULL)
			assert_string_equal(f.result_type, rows[i].result);
		else
			assert_int_equal(f.unverified.size > 0, f.verified == TLS_UNVERIFIED);
		if (rows[i].result == NULL) {
			assert_true(f.has_certificate);
			assert_non_null(f.version);
		}
	}
}

static void
names_are_compared_as_the_rfc_says(void **state)
{
	static const struct {
		const char *name;
		const struct identity *shown;
		bool fits;
	} rows[] = {
		{ "mail.example.org", &wildcard, true },
		{ "MAIL.example.org", &identities[GOOD], true },
		{ "a.b.example.org", &wildcard, false },
		{ "example.org", &wildcard, false },
		{ "foo.example.net", &wildcard, false }, /* no part of a label */
		{ "192.0.2.1", &number, true },
		{ "192.0.2.2", &number, false },
		{ "2001:db8::1", &number, true },
		{ "2001:db8:0:0::1", &number, true },
		{ "192.0.2.1", &identities[GOOD], false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tls_wish wish = wish_of(TLS_VERIFY);
		wish.names[0] = span_of_string(rows[i].name);
		struct tls_facts f = meet(rows[i].shown, &wish);
		if ((f.failure == TLS_FAILURE_NONE) != rows[i].fits)
			fail_msg("%s", rows[i].name);
	}
	struct tls_wish several = wish_of(TLS_VERIFY);
	several.names[1] = SPAN("www.example.org");
	several.name_count = 2;
	assert_int_equal(meet(&identities[OTHER_NAME], &several).failure, TLS_FAILURE_NONE);
	several.name_count = 0;
	struct tls_facts none = meet(&identities[GOOD], &several);
	assert_int_equal(none.failure, TLS_FAILURE_CERTIFICATE);
}

static void
fingerprints_are_of_the_certificate_alone(void **state)
{
	uint8_t prints[2][TLS_FINGERPRINT_SIZE];

	(void)state;
	for (unsigned k = 0; k < KINDS; k++) {
		struct tls_wish wish = wish_of(TLS_FINGERPRINT);
		fingerprint_of(identities[GOOD].certificate, prints[0]);
		fingerprint_of(identities[k].certificate, prints[1]);
		wish.fingerprints = (const uint8_t(*)[TLS_FINGERPRINT_SIZE])prints;
		wish.fingerprint_count = 2;
		struct tls_facts f = meet(&identities[k], &wish);
		assert_int_equal(f.verified, TLS_BY_FINGERPRINT);
		assert_memory_equal(f.fingerprint, prints[1], sizeof prints[1]);
		wish.fingerprint_count = 1;
		f = meet(&identities[k], &wish);
		assert_int_equal(f.failure, k == GOOD ? TLS_FAILURE_NONE : TLS_FAILURE_CERTIFICATE);
	}
}

static struct tls_facts
meet_record(enum kind kind, struct tlsa record)
{
	struct tls_wish wish = wish_of(TLS_DANE);

	wish.records = &record;
	wish.record_count = 1;
	return meet(&identities[kind], &wish);
}

static void
dane_ee_looks_at_the_key_alone(void **state)
{
	uint8_t digest[TLS_FINGERPRINT_SIZE];

	(void)state;
	for (unsigned k = 0; k < KINDS; k++) {
		X509 *x = identities[k].certificate;
		struct tls_facts f =
			meet_record(k, (struct tlsa){ 3, 1, 1, key_digest_of(x, digest) });
		if (f.verified != TLS_BY_DANE_EE)
			fail_msg("by key: %s", kind_names[k]);
		f = meet_record(k, (struct tlsa){ 3, 0, 1, fingerprint_of(x, digest) });
		if (f.verified != TLS_BY_DANE_EE)
			fail_msg("by certificate: %s", kind_names[k]);
		digest[0] ^= 1;
		f = meet_record(k, (struct tlsa){ 3, 0, 1, span_of(digest, sizeof digest) });
		assert_int_equal(f.failure, TLS_FAILURE_CERTIFICATE);
		assert_string_equal(f.result_type, "tlsa-invalid");
	}
}

static void
dane_ta_wants_a_name_and_a_date(void **state)
{
	static const bool fits[KINDS] = { [GOOD] = true, [NAME_IN_CN] = true };
	uint8_t digest[TLS_FINGERPRINT_SIZE];
	struct span anchor = key_digest_of(authority.certificate, digest);

	(void)state;
	for (unsigned k = 0; k < KINDS; k++) {
		struct tls_facts f = meet_record(k, (struct tlsa){ 2, 1, 1, anchor });
		if ((f.verified == TLS_BY_DANE_TA) != fits[k] ||
		    (f.failure == TLS_FAILURE_NONE) != fits[k])
			fail_msg("%s", kind_names[k]);
	}
	/* The next hop's domain is as good a name (RFC 7672 3.2.2). */
	struct tlsa record = { 2, 1, 1, anchor };
	struct tls_wish wish = wish_of(TLS_DANE);
	wish.records = &record;
	wish.record_count = 1;
	wish.names[1] = SPAN("www.example.org");
	wish.name_count = 2;
	struct tls_facts f = meet(&identities[OTHER_NAME], &wish);
	assert_int_equal(f.verified, TLS_BY_DANE_TA);
}

static void
records_that_cannot_match_match_nothing(void **state)
{
	uint8_t digest[TLS_FINGERPRINT_SIZE];
	struct span right = key_digest_of(identities[GOOD].certificate, digest);
	const struct tlsa rows[] = {
		{ 0, 1, 1, key_digest_of(authority.certificate, digest) },
		{ 1, 1, 1, right },
		{ 3, 1, 1, span_first(right, 31) },
		{ 3, 0, 0, SPAN("no certificate") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_int_equal(meet_record(GOOD, rows[i]).failure, TLS_FAILURE_CERTIFICATE);
	struct tls_wish none = wish_of(TLS_DANE);
	assert_int_equal(meet(&identities[GOOD], &none).failure, TLS_FAILURE_CERTIFICATE);
}

static bool
resumes(SSL_CTX *context, const struct tls_wish *wish, enum tls_verified verified)
{
	struct tls_facts facts;
	struct layer *l = shake(context, wish, SIZE_MAX, &facts);

	assert_int_equal(l->state, LAYER_OPEN);
	assert_int_equal(facts.verified, verified);
	assert_true(facts.has_certificate);
	l->ops->free(l);
	return facts.resumed;
}

static void
sessions_are_resumed_by_key(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		SSL_CTX *context = server_context(&identities[GOOD]);
		struct tls_wish wish = wish_of(TLS_VERIFY);
		struct tls_wish other = wish_of(TLS_MAY);
		SSL_CTX_set_max_proto_version(context, versions[i]);
		wish.session_key = i == 0 ? SPAN("a2") : SPAN("a3");
		other.session_key = i == 0 ? SPAN("b2") : SPAN("b3");
		assert_false(resumes(context, &wish, TLS_BY_CA));
		assert_true(resumes(context, &wish, TLS_BY_CA));
		assert_true(resumes(context, &wish, TLS_BY_CA));
		assert_false(resumes(context, &other, TLS_BY_CA));
		wish.session_key = span_none();
		assert_false(resumes(context, &wish, TLS_BY_CA));
		SSL_CTX_free(context);
	}
}

/* What is remembered of a session is what was found when it was made. */
static void
a_resumed_session_is_as_good_as_its_first(void **state)
{
	SSL_CTX *context = server_context(&identities[SELF_SIGNED]);
	struct tls_wish wish = wish_of(TLS_MAY);

	(void)state;
	wish.session_key = SPAN("self-signed");
	assert_false(resumes(context, &wish, TLS_UNVERIFIED));
	assert_true(resumes(context, &wish, TLS_UNVERIFIED));
	SSL_CTX_free(context);
}

static void
a_handshake_goes_byte_by_byte(void **state)
{
	static const size_t pieces[] = { 1, 2, 5, 100, 1000 };
	SSL_CTX *context = server_context(&identities[GOOD]);
	struct tls_wish wish = wish_of(TLS_VERIFY);

	(void)state;
	for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
		struct tls_facts facts;
		struct layer *l = shake(context, &wish, pieces[i], &facts);
		assert_int_equal(l->state, LAYER_OPEN);
		assert_int_equal(facts.verified, TLS_BY_CA);
		l->ops->free(l);
	}
	SSL_CTX_free(context);
}

static void
a_server_that_speaks_something_else_is_told(void **state)
{
	static const char *const words[] = { "250 ok\r\n", "\x15\x03\x03\x00\x02\x02\x28", "" };
	uint8_t memory[256];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct tls_wish wish = wish_of(TLS_MAY);
		struct buf plain = buf_of(memory, sizeof memory);
		struct layer *l = tls_connect(tls, &wish);
		size_t size = i == 0 ? strlen(words[i]) : 7;
		struct tls_facts facts;
		l->ops->read(l, span_of(words[i], size), &plain);
		assert_int_equal(l->state, LAYER_FAILED);
		tls_facts(l, &facts);
		assert_true(facts.why.size > 0);
		assert_int_equal(plain.size, 0);
		l->ops->free(l);
	}
}

/* ---- what it offers ---- */

struct offer {
	uint8_t codes[2 * 128];
	size_t size;
};

static int
note_offer(SSL *ssl, int *alert, void *argument)
{
	struct offer *o = argument;
	const unsigned char *codes;

	(void)alert;
	o->size = SSL_client_hello_get0_ciphers(ssl, &codes);
	assert_in_range(o->size, 2, sizeof o->codes);
	memcpy(o->codes, codes, o->size);
	return SSL_CLIENT_HELLO_SUCCESS;
}

/* With a server that has only this one. */
static void
agree_on(const SSL_CIPHER *cipher, const struct identity *i)
{
	bool is_13 = strncmp(SSL_CIPHER_get_name(cipher), "TLS_", 4) == 0;
	struct tls_wish wish = wish_of(TLS_MAY);
	SSL_CTX *context = server_context(i);
	struct tls_facts facts;

	SSL_CTX_set_dh_auto(context, 1);
	if (is_13)
		assert_int_equal(SSL_CTX_set_ciphersuites(context, SSL_CIPHER_get_name(cipher)), 1);
	else
		assert_int_equal(SSL_CTX_set_cipher_list(context, SSL_CIPHER_get_name(cipher)), 1);
	SSL_CTX_set_max_proto_version(context, is_13 ? TLS1_3_VERSION : TLS1_2_VERSION);
	struct layer *l = shake(context, &wish, SIZE_MAX, &facts);
	if (l->state != LAYER_OPEN)
		fail_msg("%s: %.*s", SSL_CIPHER_get_name(cipher), SPAN_ARG(facts.why));
	assert_int_equal(facts.verified, TLS_BY_CA);
	l->ops->free(l);
	SSL_CTX_free(context);
}

/* A cipher that is offered and then fails would have the mail go out in plain text. */
static void
every_cipher_that_is_offered_can_be_chosen(void **state)
{
	struct identity rsa = make_of_kind("RSA", NULL);
	struct tls_wish wish = wish_of(TLS_MAY);
	SSL_CTX *context = server_context(&identities[GOOD]);
	SSL *any = SSL_new(context);
	struct offer offer = { .size = 0 };
	struct tls_facts facts;
	unsigned with_dh = 0;

	(void)state;
	SSL_CTX_set_client_hello_cb(context, note_offer, &offer);
	struct layer *l = shake(context, &wish, SIZE_MAX, &facts);
	l->ops->free(l);
	for (size_t n = 0; n + 1 < offer.size; n += 2) {
		const SSL_CIPHER *cipher = SSL_CIPHER_find(any, offer.codes + n);
		if (cipher == NULL || SSL_CIPHER_get_protocol_id(cipher) == SCSV)
			continue;
		bool by_rsa = SSL_CIPHER_get_auth_nid(cipher) == NID_auth_rsa;
		with_dh += SSL_CIPHER_get_kx_nid(cipher) == NID_kx_dhe;
		agree_on(cipher, by_rsa ? &rsa : &identities[GOOD]);
	}
	assert_true(with_dh > 0);
	SSL_free(any);
	SSL_CTX_free(context);
	drop_identity(&rsa);
}

static void
every_kind_of_key_is_understood(void **state)
{
	static const struct {
		const char *kind, *group;
	} rows[] = {
		{ "EC", "P-256" },   { "EC", "P-384" },   { "EC", "P-521" }, { "RSA", NULL },
		{ "RSA-PSS", NULL }, { "ED25519", NULL }, { "ED448", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct identity made = make_of_kind(rows[i].kind, rows[i].group);
		struct tls_wish wish = wish_of(TLS_MAY);
		if (meet(&made, &wish).verified != TLS_BY_CA)
			fail_msg("%s %s", rows[i].kind, rows[i].group ? rows[i].group : "");
		drop_identity(&made);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_wish_meets_every_certificate),
		cmocka_unit_test(names_are_compared_as_the_rfc_says),
		cmocka_unit_test(fingerprints_are_of_the_certificate_alone),
		cmocka_unit_test(dane_ee_looks_at_the_key_alone),
		cmocka_unit_test(dane_ta_wants_a_name_and_a_date),
		cmocka_unit_test(records_that_cannot_match_match_nothing),
		cmocka_unit_test(sessions_are_resumed_by_key),
		cmocka_unit_test(a_resumed_session_is_as_good_as_its_first),
		cmocka_unit_test(a_handshake_goes_byte_by_byte),
		cmocka_unit_test(a_server_that_speaks_something_else_is_told),
		cmocka_unit_test(every_cipher_that_is_offered_can_be_chosen),
		cmocka_unit_test(every_kind_of_key_is_understood),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
