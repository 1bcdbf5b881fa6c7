/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses tls */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "tls/policy.h"

static const char *
key_of(const struct tls_policy *p)
{
	static char text[200];
	struct buf out = buf_of(text, sizeof(text) - 1);

	tls_policy_key(p, &out);
	assert_false(out.overflow);
	text[out.size] = '\0';
	return text;
}

static void
a_key_says_what_is_more_than_opportunistic(void **state)
{
	static const struct {
		struct tls_policy policy;
		const char *key;
	} rows[] = {
		{ { .level = TLS_MAY }, "" },
		{ { .level = TLS_MAY, .source = TLS_BY_ROUTE }, " tls=may" },
		{ { .level = TLS_NONE, .source = TLS_BY_ROUTE }, " tls=none" },
		{ { .level = TLS_ENCRYPT, .source = TLS_BY_ROUTE }, " tls=encrypt" },
		{ { .level = TLS_VERIFY, .source = TLS_BY_ROUTE }, " tls=verify" },
		{ { .level = TLS_VERIFY, .source = TLS_BY_STS }, " tls=verify sts" },
		{ { .level = TLS_VERIFY, .source = TLS_BY_STS, .dane = true },
		  " tls=verify dane sts" },
		{ { .level = TLS_MAY, .source = TLS_BY_DANE, .dane = true }, " tls=dane" },
		{ { .level = TLS_MAY,
		    .source = TLS_BY_DANE,
		    .dane = true,
		    .dane_names = true,
		    .domain = SPAN("a.example") },
		  " tls=dane for=a.example" },
		{ { .level = TLS_DANE, .source = TLS_BY_ROUTE, .dane = true }, " tls=dane-only" },
		{ { .level = TLS_DANE, .source = TLS_BY_ROUTE }, " tls=dane-only" },
		{ { .level = TLS_MAY, .source = TLS_BY_STS, .testing = true },
		  " tls=may sts-testing" },
		{ { .level = TLS_VERIFY, .source = TLS_BY_STS, .testing = true },
		  " tls=verify sts-testing" },
		{ { .level = TLS_MAY, .need = TLS_NEED_REQUIRED }, " requiretls" },
		{ { .level = TLS_MAY,
		    .source = TLS_BY_DANE,
		    .need = TLS_NEED_REQUIRED,
		    .dane = true },
		  " tls=dane requiretls" },
		{ { .level = TLS_VERIFY, .source = TLS_BY_STS, .need = TLS_NEED_REQUIRED },
		  " tls=verify sts requiretls" },
		{ { .level = TLS_MAY, .source = TLS_BY_MAIL, .need = TLS_NEED_OPTIONAL },
		  " tls=optional" },
		{ { .level = TLS_ENCRYPT, .source = TLS_BY_ROUTE, .need = TLS_NEED_OPTIONAL },
		  " tls=encrypt" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(key_of(&rows[i].policy), rows[i].key);
}

static void
other_fingerprints_are_another_key(void **state)
{
	uint8_t prints[2][TLS_FINGERPRINT_SIZE] = { { 1 }, { 2 } };
	struct tls_policy p = { .level = TLS_FINGERPRINT,
				.source = TLS_BY_ROUTE,
				.fingerprints = (const uint8_t(*)[TLS_FINGERPRINT_SIZE])prints,
				.fingerprint_count = 1 };
	char one[200];

	(void)state;
	strcpy(one, key_of(&p));
	assert_memory_equal(one, " tls=fingerprint:", 17);
	assert_int_equal(strlen(one), 17 + 16);
	assert_string_equal(key_of(&p), one);
	p.fingerprint_count = 2;
	assert_string_not_equal(key_of(&p), one);
	p.fingerprint_count = 1;
	prints[0][31] ^= 1;
	assert_string_not_equal(key_of(&p), one);
}

static void
all_have_a_label(void **state)
{
	(void)state;
	for (int i = TLS_NONE; i <= TLS_FINGERPRINT; i++)
		assert_true(strlen(tls_level_label((enum tls_level)i)) > 0);
	for (int i = TLS_BY_DEFAULT; i <= TLS_BY_STS; i++)
		assert_true(strlen(tls_source_label((enum tls_source)i)) > 0);
	for (int i = DANE_NOT_ASKED; i <= DANE_FAILED; i++)
		assert_true(strlen(dane_verdict_label((enum dane_verdict)i)) > 0);
	assert_string_equal(tls_level_label(TLS_MAY), "may");
	assert_string_equal(tls_source_label(TLS_BY_STS), "sts");
	assert_string_equal(dane_verdict_label(DANE_FAILED), "failed");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_says_what_is_more_than_opportunistic),
		cmocka_unit_test(other_fingerprints_are_another_key),
		cmocka_unit_test(all_have_a_label),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
