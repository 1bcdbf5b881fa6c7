/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/setup.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "tls/context.h"

/* Of the package ca-certificates. */
#define TRUST_FILE "/etc/ssl/certs/ca-certificates.crt"

enum { SIGNATURES_MEASURED = 5, SIGNATURE_MAX = 2048 };

/* What the setup before has read of the same files, where they are still the same. */
static struct certificate *
take_over(const struct config_certificate *files, const struct tls_setup *old)
{
	struct file_identity chain = file_look((const char *)files->chain.data);
	struct file_identity key = file_look((const char *)files->key.data);

	for (size_t i = 0; old != NULL && i < old->certificate_count; i++) {
		struct certificate *c = old->certificates[i];
		if (span_eq(span_of_string(c->chain_path), files->chain) &&
		    span_eq(span_of_string(c->key_path), files->key) &&
		    file_identity_eq(&c->chain_identity, &chain) &&
		    file_identity_eq(&c->key_identity, &key))
			return certificate_get(c);
	}
	return NULL;
}

static bool
load_certificates(struct tls_setup *s, const struct tls_setup *old, struct buf *why)
{
	size_t count = s->config->tls.certificates_count;

	s->certificates = calloc(count + 1, sizeof(struct certificate *));
	s->is_fresh = calloc(count + 1, sizeof(bool));
	if (s->certificates == NULL || s->is_fresh == NULL) {
		buf_append_string(why, "out of memory for the certificates");
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		const struct config_certificate *files = &s->config->tls.certificates[i];
		struct certificate *c = take_over(files, old);
		s->is_fresh[i] = c == NULL;
		if (c == NULL)
			c = certificate_load(files->chain, files->key, why);
		if (c == NULL)
			return false;
		s->certificates[s->certificate_count++] = c;
	}
	return true;
}

/* NULL with a line in `why`, which names the option. */
static X509_STORE *
read_trust(const char *path, const char *option, struct buf *why)
{
	X509_STORE *store = X509_STORE_new();

	if (store != NULL && X509_STORE_load_file(store, path) == 1)
		return store;
	X509_STORE_free(store);
	ERR_clear_error();
	buf_printf(why,
		   "%s: %s: has no certificates in PEM that can be read; install "
		   "ca-certificates, or name another file",
		   option, path);
	return NULL;
}

/* Whom we believe. The file of the system may be missing where nobody asked for it by name. */
static bool
load_trust(struct tls_setup *s, const struct tls_setup *old, struct buf *why)
{
	struct span file = s->config->tls.ca_file;
	bool is_auto = span_eq(file, SPAN("auto"));

	if (span_eq(file, SPAN("none")))
		return true;
	s->trust_path = is_auto ? TRUST_FILE : (const char *)file.data;
	s->trust_identity = file_look(s->trust_path);
	if (is_auto && s->trust_identity.inode == 0)
		return true;
	if (old != NULL && old->trust != NULL &&
	    file_identity_eq(&old->trust_identity, &s->trust_identity)) {
		X509_STORE_up_ref(old->trust);
		s->trust = old->trust;
		return true;
	}
	s->trust = read_trust(s->trust_path, "tls.ca_file", why);
	return s->trust != NULL;
}

struct tls_trust *
tls_trust_load(struct span file, struct buf *why)
{
	bool is_auto = span_eq(file, SPAN("auto"));
	struct tls_trust *t = calloc(1, sizeof *t);

	if (t == NULL) {
		buf_append_string(why, "out of memory for the authorities");
		return NULL;
	}
	t->store = read_trust(is_auto ? TRUST_FILE : (const char *)file.data, "queue.redis.ca_file",
			      why);
	if (t->store != NULL)
		return t;
	free(t);
	return NULL;
}

void
tls_trust_free(struct tls_trust *t)
{
	if (t == NULL)
		return;
	X509_STORE_free(t->store);
	free(t);
}

static bool
load_tickets(struct tls_setup *s, const struct tls_setup *old, struct buf *why)
{
	uint64_t lifetime_ms = s->config->tls.ticket_lifetime_ms;

	if (old != NULL)
		s->tickets = tickets_get(old->tickets);
	else
		s->tickets = tickets_new(lifetime_ms, clock_monotonic_ms());
	if (s->tickets == NULL) {
		buf_append_string(why, "tls: no randomness for the keys of tickets");
		return false;
	}
	tickets_set_lifetime(s->tickets, lifetime_ms);
	return true;
}

/* What OpenSSL refuses (a key that is too short) is told now, not to the workers. */
static bool
can_serve(struct tls_setup *s, struct buf *why)
{
	if (s->certificate_count == 0)
		return true;
	SSL_CTX *x = tls_server_context(s, why);
	SSL_CTX_free(x);
	if (x == NULL && why->size == 0)
		buf_append_string(why, "out of memory for TLS");
	return x != NULL;
}

struct tls_setup *
tls_setup_load(const struct config *config, const struct tls_setup *old, struct buf *why)
{
	struct tls_setup *s = calloc(1, sizeof *s);

	if (s == NULL) {
		buf_append_string(why, "out of memory for the certificates");
		return NULL;
	}
	atomic_init(&s->references, 1);
	s->config = config_get(config);
	if (load_certificates(s, old, why) && load_trust(s, old, why) &&
	    load_tickets(s, old, why) && can_serve(s, why))
		return s;
	ERR_clear_error();
	tls_setup_put(s);
	return NULL;
}

struct tls_setup *
tls_setup_get(struct tls_setup *s)
{
	atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
	return s;
}

void
tls_setup_put(struct tls_setup *s)
{
	if (s == NULL || atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->certificate_count; i++)
		certificate_put(s->certificates[i]);
	free(s->certificates);
	free(s->is_fresh);
	X509_STORE_free(s->trust);
	tickets_put(s->tickets);
	config_put(s->config);
	free(s);
}

bool
tls_setup_has_certificate(const struct tls_setup *s)
{
	return s->certificate_count > 0;
}

/* ---- has a file changed? ---- */

static uint64_t
mix(uint64_t state, struct file_identity identity)
{
	const uint64_t parts[] = { identity.device, identity.inode, identity.size,
				   identity.modified_ns, identity.changed_ns };

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		state = (state ^ parts[i]) * 0x9e3779b97f4a7c15ULL;
		state ^= state >> 32;
	}
	return state;
}

uint64_t
tls_setup_state(const struct tls_setup *s)
{
	uint64_t state = 1;

	for (size_t i = 0; i < s->certificate_count; i++) {
		state = mix(state, s->certificates[i]->chain_identity);
		state = mix(state, s->certificates[i]->key_identity);
	}
	return s->trust_path == NULL ? state : mix(state, s->trust_identity);
}

uint64_t
tls_setup_state_on_disk(const struct tls_setup *s)
{
	uint64_t state = 1;

	for (size_t i = 0; i < s->certificate_count; i++) {
		state = mix(state, file_look(s->certificates[i]->chain_path));
		state = mix(state, file_look(s->certificates[i]->key_path));
	}
	return s->trust_path == NULL ? state : mix(state, file_look(s->trust_path));
}

/* ---- what there is to tell ---- */

void
tls_setup_certificate(const struct tls_setup *s, size_t i, struct tls_certificate *out)
{
	ASSERT(i < s->certificate_count);
	const struct certificate *c = s->certificates[i];

	*out = (struct tls_certificate){
		.file = span_of_string(c->chain_path),
		.name = span_of_string(c->name_count == 0 ? NULL : c->names[0]),
		.name_count = c->name_count,
		.not_before_s = c->not_before_s,
		.not_after_s = c->not_after_s,
		.key_kind = EVP_PKEY_get0_type_name(c->key),
		.key_bits = (unsigned)EVP_PKEY_get_bits(c->key),
		.is_slow = certificate_key_is_slow(c->key),
		.is_fresh = s->is_fresh[i],
	};
}

/* The least of some, since the first one also makes tables. */
uint64_t
tls_setup_signing_us(const struct tls_setup *s, size_t i)
{
	static const uint8_t text[32];
	EVP_PKEY *key = s->certificates[i]->key;
	uint64_t least_us = 0;

	ASSERT(i < s->certificate_count);
	for (unsigned n = 0; n < SIGNATURES_MEASURED; n++) {
		EVP_MD_CTX *x = EVP_MD_CTX_new();
		uint8_t signature[SIGNATURE_MAX];
		size_t size = sizeof signature;
		uint64_t started_us = clock_monotonic_us();
		bool is_done = x != NULL &&
			       EVP_DigestSignInit(x, NULL, EVP_sha256(), NULL, key) == 1 &&
			       EVP_DigestSign(x, signature, &size, text, sizeof text) == 1;
		uint64_t us = clock_monotonic_us() - started_us;
		EVP_MD_CTX_free(x);
		if (is_done && (least_us == 0 || us < least_us))
			least_us = us;
	}
	ERR_clear_error();
	return least_us;
}

size_t
tls_setup_certificate_count(const struct tls_setup *s)
{
	return s->certificate_count;
}
