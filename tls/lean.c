/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/lean.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { ROWS_MAX = 32 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX *library;
static OSSL_PROVIDER *whole; /* the default provider, of the default context */
static OSSL_ALGORITHM decoders[ROWS_MAX + 1];
static OSSL_ALGORITHM keys[ROWS_MAX + 1];

/* Of certificates that TLS knows; then of our groups, of DHE, which old hosts may choose (MAY), and
 * of its messages' codes. */
static const char *const certificate_keys[] = { "EC", "RSA", "RSA-PSS", "ED25519", "ED448", NULL };
static const char *const all_keys[] = { "EC",     "RSA", "RSA-PSS", "ED25519", "ED448",
					"X25519", "DH",  "HMAC",    NULL };

/* ---- a provider that shows what the default one has, but for these two ---- */

static const OSSL_ALGORITHM *
query(void *context, int operation, int *no_cache)
{
	(void)context;
	if (operation != OSSL_OP_DECODER && operation != OSSL_OP_KEYMGMT)
		return OSSL_PROVIDER_query_operation(whole, operation, no_cache);
	*no_cache = 0;
	return operation == OSSL_OP_DECODER ? decoders : keys;
}

static int
capabilities(void *context, const char *name, OSSL_CALLBACK *on_one, void *argument)
{
	(void)context;
	return OSSL_PROVIDER_get_capabilities(whole, name, on_one, argument);
}

static const OSSL_DISPATCH functions[] = {
	{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query },
	{ OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities },
	{ 0, NULL },
};

/* The algorithms get the context of the default provider, whose they are. */
static int
start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
      void **context)
{
	(void)handle;
	(void)in;
	*out = functions;
	*context = OSSL_PROVIDER_get0_provider_ctx(whole);
	return 1;
}

/* Is the first of the names ("EC:id-ecPublicKey:1.2.840.10045.2.1") one of the list? */
static bool
is_one_of(const char *names, const char *const *list)
{
	size_t size = strcspn(names, ":");

	for (; *list != NULL; list++) {
		if (strlen(*list) == size && strncmp(*list, names, size) == 0)
			return true;
	}
	return false;
}

/* Of an operation those with such a name and property. How many there are. */
static size_t
choose(int operation, const char *const *names, const char *property, OSSL_ALGORITHM *out)
{
	int no_cache = 0;
	size_t count = 0;
	const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation, &no_cache);

	for (; all != NULL && all->algorithm_names != NULL && count < ROWS_MAX; all++) {
		if (is_one_of(all->algorithm_names, names) &&
		    strstr(all->property_definition, property) != NULL)
			out[count++] = *all;
	}
	return count;
}

static int
is_default(OSSL_PROVIDER *provider, void *unused)
{
	(void)unused;
	return strcmp(OSSL_PROVIDER_get0_name(provider), "default") == 0;
}

static void
make_library(void)
{
	/* Whoever set up others (FIPS, a token) wants them used. */
	if (EVP_default_properties_is_fips_enabled(NULL) == 1 ||
	    OSSL_PROVIDER_do_all(NULL, is_default, NULL) != 1)
		return;
	whole = OSSL_PROVIDER_load(NULL, "default");
	OSSL_LIB_CTX *made = OSSL_LIB_CTX_new();

	if (whole != NULL && made != NULL &&
	    choose(OSSL_OP_DECODER, certificate_keys, "structure=SubjectPublicKeyInfo", decoders) >
		    0 &&
	    choose(OSSL_OP_KEYMGMT, all_keys, "", keys) > 0 &&
	    OSSL_PROVIDER_add_builtin(made, "ringpost-lean", start) == 1 &&
	    OSSL_PROVIDER_load(made, "ringpost-lean") != NULL) {
		library = made;
		return;
	}
	ERR_clear_error();
	OSSL_LIB_CTX_free(made);
}

OSSL_LIB_CTX *
lean_library(void)
{
	pthread_once(&once, make_library);
	return library;
}
