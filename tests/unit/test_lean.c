/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <string.h>

#include "bench/lean.h"

static void
assert_read_again(EVP_PKEY *key, const char *kind)
{
	unsigned char *der = NULL;
	int size = i2d_PUBKEY(key, &der);
	const unsigned char *at = der;

	assert_true(size > 0);
	lean_enter();
	EVP_PKEY *again = d2i_PUBKEY(NULL, &at, size);
	lean_leave();
	assert_non_null(again);
	assert_true(EVP_PKEY_is_a(again, kind));
	EVP_PKEY_free(again);
	EVP_PKEY_free(key);
	OPENSSL_free(der);
}

/* All that a server's certificate may have in TLS 1.2 and 1.3. */
static void
keys_of_each_kind_are_read(void **state)
{
	(void)state;
	assert_read_again(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048), "RSA");
	assert_read_again(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), "EC");
	assert_read_again(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), "EC");
	assert_read_again(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "ED25519");
	assert_read_again(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), "ED448");
}

static void
ciphers_of_relays_are_there(void **state)
{
	static const char *const wanted[] = {
		"TLS_AES_128_GCM_SHA256",       "TLS_AES_256_GCM_SHA384",
		"TLS_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256",
		"ECDHE-RSA-AES256-GCM-SHA384",  "ECDHE-RSA-CHACHA20-POLY1305",
	};

	(void)state;
	lean_enter();
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	assert_non_null(context);
	SSL *ssl = SSL_new(context);
	STACK_OF(SSL_CIPHER) *all = SSL_get1_supported_ciphers(ssl);
	for (size_t w = 0; w < sizeof wanted / sizeof wanted[0]; w++) {
		bool found = false;
		for (int i = 0; i < sk_SSL_CIPHER_num(all); i++)
			found |= strcmp(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i)),
					wanted[w]) == 0;
		if (!found)
			fail_msg("%s is missing", wanted[w]);
	}
	sk_SSL_CIPHER_free(all);
	SSL_free(ssl);
	SSL_CTX_free(context);
	lean_leave();
}

/* Otherwise it would be of no use, and the test of nothing. */
static void
it_has_less_and_the_default_is_left_alone(void **state)
{
	(void)state;
	lean_enter();
	EVP_MD *missing = EVP_MD_fetch(NULL, "SHA3-256", NULL);
	lean_leave();
	EVP_MD *there = EVP_MD_fetch(NULL, "SHA3-256", NULL);
	assert_null(missing);
	assert_non_null(there);
	EVP_MD_free(there);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_of_each_kind_are_read),
		cmocka_unit_test(ciphers_of_relays_are_there),
		cmocka_unit_test(it_has_less_and_the_default_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
