/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "core/base/base64.h"
#include "relay/smtp/pbkdf2.h"
#include "relay/smtp/sasl.h"

static const uint8_t random_bytes[SASL_RANDOM_SIZE] = "eighteen at random";
static uint8_t memory[SASL_MESSAGE_MAX];
static struct buf out;

static struct buf *
fresh(void)
{
	out = buf_of(memory, sizeof memory);
	return &out;
}

static void
expect_out(const char *text)
{
	assert_int_equal(out.size, strlen(text));
	assert_memory_equal(memory, text, out.size);
}

static void
mechanisms_have_names(void **state)
{
	(void)state;
	for (enum sasl_mechanism m = 0; m < SASL_MECHANISM_COUNT; m++)
		assert_int_equal(sasl_find(sasl_name(m)), m);
	assert_int_equal(sasl_find(SPAN("scram-sha-256")), SASL_SCRAM_SHA_256);
	assert_int_equal(sasl_find(SPAN("SCRAM-SHA-256-PLUS")), SASL_MECHANISM_COUNT);
	assert_int_equal(sasl_find(SPAN("")), SASL_MECHANISM_COUNT);
}

static void
controls_are_no_text(void **state)
{
	static const struct {
		struct span text;
		bool fit;
	} rows[] = {
		{ SPAN("joe"), true },        { SPAN("p\xc3\xa4ss wort,=\xc2\xa0"), true },
		{ SPAN(""), false },          { SPAN("12345678901"), false },
		{ SPAN("a\tb"), false },      { SPAN("a\0b"), false },
		{ SPAN("a\x7f"), false },     { SPAN("a\xc2\x80"), false },
		{ SPAN("a\xc2\x9f"), false }, { SPAN("a\xc3"), false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_int_equal(sasl_is_fit(rows[i].text, i == 3 ? 10 : 100), rows[i].fit);
}

/* ---- verifiers ---- */

/* Of user `user` with password `pencil` in RFC 7677 3; the keys were computed with Python's hashlib
 * and hmac. */
#define RFC_SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define RFC_VERIFIER                                                                    \
	"SCRAM-SHA-256$4096:" RFC_SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static void
verifiers_are_made_of_passwords(void **state)
{
	struct sasl_verifier v, made;

	(void)state;
	assert_true(sasl_verifier_parse(SPAN(RFC_VERIFIER), &v));
	assert_int_equal(v.iterations, 4096);
	assert_int_equal(v.salt_size, 16);
	made = v;
	memset(made.stored_key, 0, sizeof made.stored_key);
	memset(made.server_key, 0, sizeof made.server_key);
	sasl_verifier_make(&made, SPAN("pencil"));
	assert_memory_equal(made.stored_key, v.stored_key, SASL_HASH_SIZE);
	assert_memory_equal(made.server_key, v.server_key, SASL_HASH_SIZE);
	sasl_verifier_show(&made, fresh());
	expect_out(RFC_VERIFIER);
	assert_true(sasl_verifier_check(&v, SPAN("pencil"), NULL));
	assert_false(sasl_verifier_check(&v, SPAN("Pencil"), NULL));
	assert_false(sasl_verifier_check(&v, SPAN("pencil "), NULL));
	assert_false(sasl_verifier_check(&v, SPAN(""), NULL));
}

static unsigned pauses;

static void
count_pause(void)
{
	pauses++;
}

/* The library's own says the same: short keys, keys of a block, longer ones. */
static void
keys_are_those_of_the_library(void **state)
{
	static const size_t sizes[] = { 0, 1, 63, 64, 65, SASL_PASSWORD_MAX };
	static const uint32_t iterations[] = { 1, 2, 3, PBKDF2_STEP, 2 * PBKDF2_STEP + 1 };
	uint8_t password[SASL_PASSWORD_MAX];
	uint8_t ours[PBKDF2_SIZE], theirs[PBKDF2_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof password; i++)
		password[i] = (uint8_t)(i * 7 + 1);
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		for (unsigned n = 0; n < sizeof iterations / sizeof iterations[0]; n++) {
			size_t salt_size = 1 + i * n;
			pbkdf2(span_of(password, sizes[i]), span_of(password + 1, salt_size),
			       iterations[n], NULL, ours);
			assert_int_equal(PKCS5_PBKDF2_HMAC((const char *)password, (int)sizes[i],
							   password + 1, (int)salt_size,
							   (int)iterations[n], EVP_sha256(),
							   sizeof theirs, theirs),
					 1);
			assert_memory_equal(ours, theirs, sizeof ours);
		}
	}
	pauses = 0;
	pbkdf2(SPAN("x"), SPAN("y"), 10 * PBKDF2_STEP, count_pause, ours);
	assert_in_range(pauses, 9, 10);
}

/* It is checked on a thread that may be held up anywhere: it must hold nothing then. */
static unsigned allocations;

static void *
count_malloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	allocations++;
	return malloc(size);
}

static void *
count_realloc(void *old, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	allocations++;
	return realloc(old, size);
}

static void
just_free(void *old, const char *file, int line)
{
	(void)file;
	(void)line;
	free(old);
}

static void
a_check_takes_no_memory_of_the_library(void **state)
{
	struct span password =
		SPAN("a password of more than the sixty-four bytes of a block of SHA-256");
	struct sasl_verifier v = { .iterations = 4096, .salt_size = SASL_SALT_SIZE };
	uint8_t hash[PBKDF2_SIZE];

	(void)state;
	allocations = 0;
	assert_int_equal(EVP_Digest("x", 1, hash, NULL, EVP_sha256(), NULL), 1);
	assert_true(allocations > 0); /* they are counted */
	allocations = 0;
	sasl_verifier_make(&v, password);
	assert_true(sasl_verifier_check(&v, password, NULL));
	assert_false(sasl_verifier_check(&v, SPAN("another"), NULL));
	assert_int_equal(allocations, 0);
}

static void
bad_verifiers_are_refused(void **state)
{
	static const char key[] = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
	static const struct {
		const char *format;
		const char *stored;
		const char *server;
	} rows[] = {
		{ "SCRAM-SHA-1$4096:W22Z$%s:%s", key, key },
		{ "SCRAM-SHA-256$4095:W22Z$%s:%s", key, key },
		{ "SCRAM-SHA-256$10000001:W22Z$%s:%s", key, key },
		{ "SCRAM-SHA-256$:W22Z$%s:%s", key, key },
		{ "SCRAM-SHA-256$4096:$%s:%s", key, key },
		{ "SCRAM-SHA-256$4096:W22$%s:%s", key, key },
		{ "SCRAM-SHA-256$4096:W22Z$%s:%s", key, "W22Z" },
		{ "SCRAM-SHA-256$4096:W22Z$%s:%s", "W22Z", key },
		{ "SCRAM-SHA-256$4096:W22Z$%s:%s:", key, key },
		{ "SCRAM-SHA-256$4096:W22Z$%s%s", key, "" },
	};
	struct sasl_verifier v;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[300];
		snprintf(text, sizeof text, rows[i].format, rows[i].stored, rows[i].server);
		assert_false(sasl_verifier_parse(span_of_string(text), &v));
	}
	assert_false(sasl_verifier_parse(SPAN(""), &v));
	assert_true(sasl_verifier_parse(SPAN("scram-sha-256$4096:W22Z$"
					     "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
					     "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
					&v));
}

static void
fake_verifiers_stay_the_same(void **state)
{
	struct sasl_verifier a, b;

	(void)state;
	sasl_verifier_fake(&a, SPAN("key"), SPAN("joe"), 600000);
	sasl_verifier_fake(&b, SPAN("key"), SPAN("joe"), 600000);
	assert_memory_equal(&a, &b, sizeof a);
	assert_int_equal(a.salt_size, SASL_SALT_SIZE);
	sasl_verifier_fake(&b, SPAN("key"), SPAN("jane"), 600000);
	assert_memory_not_equal(a.salt, b.salt, SASL_SALT_SIZE);
	assert_memory_not_equal(a.stored_key, b.stored_key, SASL_HASH_SIZE);
	sasl_verifier_fake(&b, SPAN("other"), SPAN("joe"), 600000);
	assert_memory_not_equal(a.salt, b.salt, SASL_SALT_SIZE);
}

/* ---- the server's side ---- */

static void
plain_says_all_at_once(void **state)
{
	static char long_name[600];
	static const struct {
		struct span data;
		enum sasl_outcome outcome;
	} rows[] = {
		{ SPAN("\0joe\0secret"), SASL_CHECK },
		{ SPAN("joe\0joe\0secret"), SASL_CHECK },
		{ SPAN("jane\0joe\0secret"), SASL_WRONG },
		{ SPAN("\0joe\0"), SASL_WRONG },
		{ SPAN("\0\0secret"), SASL_WRONG },
		{ SPAN("\0joe\0sec\nret"), SASL_WRONG },
		{ SPAN("\0j\te\0secret"), SASL_WRONG },
		{ SPAN("\0joe"), SASL_BAD },
		{ SPAN(""), SASL_BAD },
		{ SPAN("joe"), SASL_BAD },
		{ SPAN("\0joe\0secret\0"), SASL_BAD },
		{ SPAN("\0joe\0sec\0ret"), SASL_BAD },
	};
	struct sasl_server s;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		sasl_server_init(&s, SASL_PLAIN, span_none(), random_bytes);
		if (i % 2 == 1) { /* without an initial response */
			assert_int_equal(sasl_server_step(&s, false, span_none(), fresh()),
					 SASL_CONTINUE);
			expect_out("");
		}
		assert_int_equal(sasl_server_step(&s, true, rows[i].data, fresh()),
				 rows[i].outcome);
		if (rows[i].outcome == SASL_CHECK) {
			assert_true(span_eq(sasl_server_name(&s), SPAN("joe")));
			assert_true(span_eq(sasl_server_password(&s), SPAN("secret")));
		}
		sasl_server_fini(&s);
	}
	/* 255 bytes of a name are one, 256 are none. */
	memset(long_name, 'n', sizeof long_name);
	for (unsigned size = SASL_NAME_MAX; size <= SASL_NAME_MAX + 1; size++) {
		long_name[0] = long_name[size + 1] = '\0';
		sasl_server_init(&s, SASL_PLAIN, span_none(), random_bytes);
		assert_int_equal(sasl_server_step(&s, true, span_of(long_name, size + 5), fresh()),
				 size == SASL_NAME_MAX ? SASL_CHECK : SASL_WRONG);
		sasl_server_fini(&s);
		long_name[size + 1] = 'n';
	}
}

static void
login_says_one_after_the_other(void **state)
{
	struct sasl_server s;

	(void)state;
	for (unsigned initial = 0; initial < 2; initial++) {
		sasl_server_init(&s, SASL_LOGIN, span_none(), random_bytes);
		if (initial == 0) {
			assert_int_equal(sasl_server_step(&s, false, span_none(), fresh()),
					 SASL_CONTINUE);
			expect_out("Username:");
		}
		assert_int_equal(sasl_server_step(&s, true, SPAN("joe"), fresh()), SASL_CONTINUE);
		expect_out("Password:");
		assert_int_equal(sasl_server_step(&s, true, SPAN("secret"), fresh()), SASL_CHECK);
		assert_true(span_eq(sasl_server_name(&s), SPAN("joe")));
		assert_true(span_eq(sasl_server_password(&s), SPAN("secret")));
		sasl_server_fini(&s);
	}
	sasl_server_init(&s, SASL_LOGIN, span_none(), random_bytes);
	assert_int_equal(sasl_server_step(&s, true, span_none(), fresh()), SASL_WRONG);
	sasl_server_fini(&s);
}

static void
external_is_who_tls_says(void **state)
{
	static const struct {
		struct span shown;
		struct span data;
		enum sasl_outcome outcome;
	} rows[] = {
		{ SPAN("joe"), SPAN(""), SASL_OK },        { SPAN("joe"), SPAN("joe"), SASL_OK },
		{ SPAN("joe"), SPAN("jane"), SASL_WRONG }, { SPAN(""), SPAN("joe"), SASL_WRONG },
		{ SPAN(""), SPAN(""), SASL_WRONG },
	};
	struct sasl_server s;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		sasl_server_init(&s, SASL_EXTERNAL, rows[i].shown, random_bytes);
		if (i % 2 == 1)
			assert_int_equal(sasl_server_step(&s, false, span_none(), fresh()),
					 SASL_CONTINUE);
		assert_int_equal(sasl_server_step(&s, true, rows[i].data, fresh()),
				 rows[i].outcome);
		sasl_server_fini(&s);
	}
}

/* The nonce of random_bytes. */
#define OUR_NONCE "ZWlnaHRlZW4gYXQgcmFuZG9t"

static enum sasl_outcome
begin_scram(struct sasl_server *s, const char *first)
{
	struct sasl_verifier v;
	enum sasl_outcome outcome;

	assert_true(sasl_verifier_parse(SPAN(RFC_VERIFIER), &v));
	sasl_server_init(s, SASL_SCRAM_SHA_256, span_none(), random_bytes);
	outcome = sasl_server_step(s, true, span_of_string(first), fresh());
	if (outcome == SASL_LOOKUP)
		outcome = sasl_server_verifier(s, &v, fresh());
	return outcome;
}

static void
scram_begins_with_a_header(void **state)
{
	static const struct {
		const char *text;
		enum sasl_outcome outcome;
	} rows[] = {
		{ "n,,n=user,r=abc", SASL_CONTINUE },
		{ "y,,n=user,r=abc", SASL_CONTINUE },
		{ "n,a=user,n=user,r=abc", SASL_CONTINUE },
		{ "n,,n=user,r=abc,x=extension", SASL_CONTINUE },
		{ "n,a=other,n=user,r=abc", SASL_WRONG },
		{ "n,,n=,r=abc", SASL_WRONG },
		{ "n,,n=us=2Der,r=abc", SASL_WRONG },
		{ "n,,n=us=er,r=abc", SASL_WRONG },
		{ "n,,n=us\ter,r=abc", SASL_WRONG },
		{ "p=tls-exporter,,n=user,r=abc", SASL_BAD },
		{ "n,,m=must,n=user,r=abc", SASL_BAD },
		{ "n,,n=user,r=", SASL_BAD },
		{ "n,,n=user,r=a c", SASL_BAD },
		{ "n,,n=user", SASL_BAD },
		{ "n,,r=abc,n=user", SASL_BAD },
		{ "n,a=,n=user,r=abc", SASL_BAD },
		{ "n,n=user,r=abc", SASL_BAD },
		{ "n", SASL_BAD },
		{ "", SASL_BAD },
	};
	struct sasl_server s;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(begin_scram(&s, rows[i].text), rows[i].outcome);
		if (rows[i].outcome == SASL_CONTINUE) {
			expect_out("r=abc" OUR_NONCE ",s=" RFC_SALT ",i=4096");
			assert_true(span_eq(sasl_server_name(&s), SPAN("user")));
		}
		sasl_server_fini(&s);
	}
	sasl_server_init(&s, SASL_SCRAM_SHA_256, span_none(), random_bytes);
	assert_int_equal(sasl_server_step(&s, true, SPAN("n,,n=a=2Cb=3Dc,r=x"), fresh()),
			 SASL_LOOKUP);
	assert_true(span_eq(sasl_server_name(&s), SPAN("a,b=c")));
	sasl_server_fini(&s);
}

/* The proofs were computed with Python's hashlib and hmac. */
#define PROOF  "F26Ohs1tx2eGd7gQGtYR0aomZ5Xji5PFKGkm1tHh//U="
#define SIGNED "v=onb8+GPnBAz0H4TMuhVC1Fy6YoMXuBOmRvgNNSNLJc0="

static void
scram_wants_a_proof(void **state)
{
	static const struct {
		const char *text;
		enum sasl_outcome outcome;
	} rows[] = {
		{ "c=biws,r=abc" OUR_NONCE ",p=" PROOF, SASL_CONTINUE },
		{ "c=biws,r=abc" OUR_NONCE ",x=y,p=" PROOF, SASL_WRONG },
		{ "c=biws,r=abc" OUR_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		  SASL_WRONG },
		{ "c=eSws,r=abc" OUR_NONCE ",p=" PROOF, SASL_BAD },
		{ "c=biws,r=abd" OUR_NONCE ",p=" PROOF, SASL_BAD },
		{ "c=biws,r=abc,p=" PROOF, SASL_BAD },
		{ "r=abc" OUR_NONCE ",c=biws,p=" PROOF, SASL_BAD },
		{ "c=biws,r=abc" OUR_NONCE, SASL_BAD },
		{ "c=biws,r=abc" OUR_NONCE ",p=", SASL_BAD },
		{ "c=biws,r=abc" OUR_NONCE ",p=AAAA", SASL_BAD },
		{ "c=biws,r=abc" OUR_NONCE ",p=" PROOF ",x=y", SASL_BAD },
		{ "p=" PROOF, SASL_BAD },
		{ "", SASL_BAD },
	};
	struct sasl_server s;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(begin_scram(&s, "n,,n=user,r=abc"), SASL_CONTINUE);
		assert_int_equal(sasl_server_step(&s, true, span_of_string(rows[i].text), fresh()),
				 rows[i].outcome);
		if (rows[i].outcome == SASL_CONTINUE) {
			expect_out(SIGNED);
			assert_int_equal(sasl_server_step(&s, true, span_none(), fresh()), SASL_OK);
		}
		sasl_server_fini(&s);
	}
	assert_int_equal(begin_scram(&s, "n,,n=user,r=abc"), SASL_CONTINUE);
	assert_int_equal(sasl_server_step(&s, true, span_of_string(rows[0].text), fresh()),
			 SASL_CONTINUE);
	assert_int_equal(sasl_server_step(&s, true, SPAN("more"), fresh()), SASL_BAD);
	sasl_server_fini(&s);
}

/* ---- the client's side ---- */

#define RFC_NONCE  "rOprNGfwEbeRWgbNEkqO"
#define RFC_NONCES "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_OFFER  "r=" RFC_NONCES ",s=" RFC_SALT ",i=4096"

static void
begin_client(struct sasl_client *c)
{
	sasl_client_init(c, SASL_SCRAM_SHA_256, SPAN("user"), SPAN("pencil"), random_bytes);
	memcpy(c->nonce, RFC_NONCE, sizeof RFC_NONCE - 1);
	c->nonce_size = sizeof RFC_NONCE - 1;
	assert_int_equal(sasl_client_step(c, span_none(), fresh()), SASL_CONTINUE);
	expect_out("n,,n=user,r=" RFC_NONCE);
}

/* RFC 7677 3 */
static void
the_rfc_example_is_spoken(void **state)
{
	static const char proven[] = "n=user,r=" RFC_NONCE "," RFC_OFFER ",";
	struct sasl_client c;
	struct sasl_server s;

	(void)state;
	begin_client(&c);
	assert_int_equal(sasl_client_step(&c, SPAN(RFC_OFFER), fresh()), SASL_DERIVE);
	sasl_client_derive(&c, NULL);
	assert_int_equal(sasl_client_derived(&c, fresh()), SASL_CONTINUE);
	expect_out("c=biws,r=" RFC_NONCES ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
	assert_false(sasl_client_is_satisfied(&c));
	/* The server of the example: one whose nonce is not of our making. */
	assert_int_equal(begin_scram(&s, "n,,n=user,r=" RFC_NONCE), SASL_CONTINUE);
	memcpy(s.message, proven, sizeof proven - 1);
	s.message_size = sizeof proven - 1;
	s.nonce_at = sizeof "n=user,r=" RFC_NONCE ",r=" - 1;
	s.nonce_size = sizeof RFC_NONCES - 1;
	assert_int_equal(sasl_server_step(&s, true,
					  SPAN("c=biws,r=" RFC_NONCES
					       ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
					  fresh()),
			 SASL_CONTINUE);
	expect_out("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
	sasl_server_fini(&s);
	assert_int_equal(sasl_client_step(&c,
					  SPAN("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
					  fresh()),
			 SASL_CONTINUE);
	expect_out("");
	assert_true(sasl_client_is_satisfied(&c));
	assert_int_equal(sasl_client_step(&c, SPAN("more"), fresh()), SASL_BAD);
	assert_false(sasl_client_is_satisfied(&c));
	sasl_client_fini(&c);
}

static void
servers_are_not_believed(void **state)
{
	static const char *const offers[] = {
		"r=" RFC_NONCE ",s=" RFC_SALT ",i=4096", /* adds nothing of its own */
		"r=x" RFC_NONCES ",s=" RFC_SALT ",i=4096",
		"r=" RFC_NONCES ",s=" RFC_SALT ",i=4095",
		"r=" RFC_NONCES ",s=" RFC_SALT ",i=10000001",
		"r=" RFC_NONCES ",s=" RFC_SALT ",i=",
		"r=" RFC_NONCES ",s=,i=4096",
		"r=" RFC_NONCES ",s=" RFC_SALT,
		"m=must,r=" RFC_NONCES ",s=" RFC_SALT ",i=4096",
		"e=other-error",
		"",
	};
	static const char *const proofs[] = { "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
					      "e=invalid-proof", "v=", "" };
	struct sasl_client c;

	(void)state;
	for (size_t i = 0; i < sizeof offers / sizeof offers[0]; i++) {
		begin_client(&c);
		assert_int_equal(sasl_client_step(&c, span_of_string(offers[i]), fresh()),
				 SASL_BAD);
		assert_false(sasl_client_is_satisfied(&c));
		sasl_client_fini(&c);
	}
	for (size_t i = 0; i < sizeof proofs / sizeof proofs[0]; i++) {
		begin_client(&c);
		assert_int_equal(sasl_client_step(&c, SPAN(RFC_OFFER), fresh()), SASL_DERIVE);
		sasl_client_derive(&c, NULL);
		assert_int_equal(sasl_client_derived(&c, fresh()), SASL_CONTINUE);
		assert_int_equal(sasl_client_step(&c, span_of_string(proofs[i]), fresh()),
				 SASL_BAD);
		assert_false(sasl_client_is_satisfied(&c));
		sasl_client_fini(&c);
	}
}

/* Both sides, to the end; the outcome is the server's. */
static enum sasl_outcome
speak(enum sasl_mechanism m, struct span name, struct span password, const struct sasl_verifier *v)
{
	uint8_t said_memory[SASL_MESSAGE_MAX];
	struct buf said = buf_of(said_memory, sizeof said_memory);
	bool has_data = sasl_client_speaks_first(m);
	struct sasl_client c;
	struct sasl_server s;
	enum sasl_outcome outcome;

	sasl_client_init(&c, m, name, password, random_bytes);
	sasl_server_init(&s, m, span_none(), random_bytes);
	if (has_data)
		assert_int_equal(sasl_client_step(&c, span_none(), &said), SASL_CONTINUE);
	for (;;) {
		outcome = sasl_server_step(&s, has_data, buf_span(&said), fresh());
		if (outcome == SASL_LOOKUP)
			outcome = sasl_server_verifier(&s, v, fresh());
		if (outcome != SASL_CONTINUE)
			break;
		buf_reset(&said);
		enum sasl_outcome own = sasl_client_step(&c, buf_span(&out), &said);
		if (own == SASL_DERIVE) {
			sasl_client_derive(&c, NULL);
			own = sasl_client_derived(&c, &said);
		}
		assert_int_equal(own, SASL_CONTINUE);
		has_data = true;
	}
	if (outcome == SASL_CHECK)
		outcome = span_eq(sasl_server_name(&s), name) &&
					  sasl_verifier_check(v, sasl_server_password(&s), NULL)
				  ? SASL_OK
				  : SASL_WRONG;
	assert_int_equal(sasl_client_is_satisfied(&c),
			 outcome == SASL_OK || m != SASL_SCRAM_SHA_256);
	sasl_client_fini(&c);
	sasl_server_fini(&s);
	return outcome;
}

static void
both_sides_understand_each_other(void **state)
{
	static const struct span names[] = { SPAN("joe"), SPAN("a,b=c@example.org"),
					     SPAN("j\xc3\xb6rg") };
	static const struct span passwords[] = { SPAN("secret"), SPAN("p\xc3\xa4ss,=wort ") };

	(void)state;
	for (enum sasl_mechanism m = SASL_SCRAM_SHA_256; m < SASL_MECHANISM_COUNT; m++) {
		for (unsigned i = 0; i < 6; i++) {
			struct span name = names[i % 3];
			struct span password = passwords[i % 2];
			struct sasl_verifier v = { .iterations = 4096, .salt_size = 4 };
			struct sasl_verifier fake;
			memcpy(v.salt, "salt", 4);
			sasl_verifier_make(&v, password);
			assert_int_equal(speak(m, name, password, &v), SASL_OK);
			assert_int_equal(speak(m, name, SPAN("guess"), &v), SASL_WRONG);
			sasl_verifier_fake(&fake, SPAN("key"), name, 4096);
			assert_int_equal(speak(m, name, password, &fake), SASL_WRONG);
		}
	}
}

static void
longest_of_all_fits(void **state)
{
	char name[SASL_NAME_MAX];
	char password[SASL_PASSWORD_MAX];
	struct sasl_verifier v = { .iterations = 4096, .salt_size = SASL_SALT_MAX };

	(void)state;
	memset(name, ',', sizeof name); /* three characters each */
	memset(password, 'p', sizeof password);
	sasl_verifier_make(&v, span_of(password, sizeof password));
	for (enum sasl_mechanism m = SASL_SCRAM_SHA_256; m < SASL_MECHANISM_COUNT; m++)
		assert_int_equal(speak(m, span_of(name, sizeof name),
				       span_of(password, sizeof password), &v),
				 SASL_OK);
	sasl_verifier_show(&v, fresh());
	assert_true(out.size <= SASL_VERIFIER_TEXT_MAX);
}

static void
secrets_are_wiped(void **state)
{
	static struct sasl_server s;
	static struct sasl_client c;

	(void)state;
	sasl_server_init(&s, SASL_PLAIN, span_none(), random_bytes);
	assert_int_equal(sasl_server_step(&s, true, SPAN("\0joe\0secret"), fresh()), SASL_CHECK);
	assert_non_null(memmem(&s, sizeof s, "secret", 6));
	sasl_server_fini(&s);
	assert_null(memmem(&s, sizeof s, "secret", 6));
	sasl_client_init(&c, SASL_PLAIN, SPAN("joe"), SPAN("secret"), random_bytes);
	assert_non_null(memmem(&c, sizeof c, "secret", 6));
	sasl_client_fini(&c);
	assert_null(memmem(&c, sizeof c, "secret", 6));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mechanisms_have_names),
		cmocka_unit_test(controls_are_no_text),
		cmocka_unit_test(verifiers_are_made_of_passwords),
		cmocka_unit_test(keys_are_those_of_the_library),
		cmocka_unit_test(a_check_takes_no_memory_of_the_library),
		cmocka_unit_test(bad_verifiers_are_refused),
		cmocka_unit_test(fake_verifiers_stay_the_same),
		cmocka_unit_test(plain_says_all_at_once),
		cmocka_unit_test(login_says_one_after_the_other),
		cmocka_unit_test(external_is_who_tls_says),
		cmocka_unit_test(scram_begins_with_a_header),
		cmocka_unit_test(scram_wants_a_proof),
		cmocka_unit_test(the_rfc_example_is_spoken),
		cmocka_unit_test(servers_are_not_believed),
		cmocka_unit_test(both_sides_understand_each_other),
		cmocka_unit_test(longest_of_all_fits),
		cmocka_unit_test(secrets_are_wiped),
	};

	if (CRYPTO_set_mem_functions(count_malloc, count_realloc, just_free) != 1)
		return 1;
	return cmocka_run_group_tests_name("sasl", tests, NULL, NULL);
}
