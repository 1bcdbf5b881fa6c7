/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/lean.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { OPERATIONS_MAX = 32, ROWS_MAX = 32 };

/* What TLS uses of each operation, by the first of its names. NULL: all of it. A certificate's key
 * has one form; there is a decoder for each kind in it. */
static const struct operation {
	int number;
	const char *const *names;
	const char *property;
} operations[] = {
	{ OSSL_OP_DIGEST,
	  (const char *const[]){ "MD5", "SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512",
				 "MD5-SHA1", NULL },
	  "" },
	{ OSSL_OP_CIPHER,
	  (const char *const[]){ "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305", "AES-256-CTR",
				 "AES-256-ECB", NULL },
	  "" },
	{ OSSL_OP_MAC, (const char *const[]){ "HMAC", NULL }, "" },
	{ OSSL_OP_KDF, (const char *const[]){ "HKDF", "TLS13-KDF", "TLS1-PRF", NULL }, "" },
	{ OSSL_OP_RAND, NULL, "" },
	{ OSSL_OP_KEYMGMT,
	  (const char *const[]){ "EC", "RSA", "RSA-PSS", "ED25519", "ED448", "X25519", "HMAC",
				 NULL },
	  "" },
	{ OSSL_OP_KEYEXCH, (const char *const[]){ "ECDH", "X25519", NULL }, "" },
	{ OSSL_OP_SIGNATURE,
	  (const char *const[]){ "RSA", "ECDSA", "ED25519", "ED448", "HMAC", NULL }, "" },
	{ OSSL_OP_DECODER,
	  (const char *const[]){ "EC", "RSA", "RSA-PSS", "ED25519", "ED448", NULL },
	  "structure=SubjectPublicKeyInfo" },
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX *library;
static OSSL_PROVIDER *whole; /* the default provider, of the default context */
static OSSL_ALGORITHM shown[OPERATIONS_MAX][ROWS_MAX + 1];

/* ---- a provider that shows a part of the default one ---- */

static const OSSL_ALGORITHM *
query(void *context, int operation, int *no_cache)
{
	(void)context;
	*no_cache = 0;
	bool is_known = operation > 0 && operation < OPERATIONS_MAX;
	return is_known && shown[operation][0].algorithm_names != NULL ? shown[operation] : NULL;
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

/* ---- what it shows ---- */

/* Is the first of the names ("EC:id-ecPublicKey:1.2.840.10045.2.1") one of the list? */
static bool
is_one_of(const char *names, const char *const *list)
{
	size_t size = strcspn(names, ":");

	if (list == NULL)
		return true;
	for (; *list != NULL; list++) {
		if (strlen(*list) == size && strncmp(*list, names, size) == 0)
			return true;
	}
	return false;
}

/* False where there is none, or no room. */
static bool
show_part(const struct operation *o)
{
	int no_cache = 0;
	size_t count = 0;
	const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, o->number, &no_cache);

	for (; all != NULL && all->algorithm_names != NULL; all++) {
		if (!is_one_of(all->algorithm_names, o->names) ||
		    strstr(all->property_definition, o->property) == NULL)
			continue;
		if (count == ROWS_MAX)
			return false;
		shown[o->number][count++] = *all;
	}
	return count > 0;
}

static bool
show_parts(void)
{
	for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
		if (!show_part(&operations[i]))
			return false;
	}
	return true;
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

	if (whole != NULL && made != NULL && show_parts() &&
	    OSSL_PROVIDER_add_builtin(made, "ringpost-lean", start) == 1 &&
	    OSSL_PROVIDER_load(made, "ringpost-lean") != NULL) {
		library = made;
		return;
	}
	ERR_clear_error();
	OSSL_LIB_CTX_free(made);
}

void
lean_enter(void)
{
	pthread_once(&once, make_library);
	if (library != NULL)
		OSSL_LIB_CTX_set0_default(library);
}

void
lean_leave(void)
{
	OSSL_LIB_CTX_set0_default(OSSL_LIB_CTX_get0_global_default());
}
