/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/dane.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "core/base/assert.h"

enum {
	HEAD_SIZE = 3, /* usage, selector, matching type */
	SHA256_SIZE = 32,
	SHA512_SIZE = 64,
	SHOWN_BYTES = 4,
};

/* Is it one object in DER, and nothing behind it? */
static bool
is_certificate(struct span data)
{
	const unsigned char *at = data.data;
	X509 *found = d2i_X509(NULL, &at, (long)data.size);

	X509_free(found);
	return found != NULL && at == data.data + data.size;
}

static bool
is_key(struct span data)
{
	const unsigned char *at = data.data;
	EVP_PKEY *found = d2i_PUBKEY(NULL, &at, (long)data.size);

	EVP_PKEY_free(found);
	return found != NULL && at == data.data + data.size;
}

static bool
is_usable(const struct tlsa *r)
{
	if (r->usage != TLSA_DANE_TA && r->usage != TLSA_DANE_EE)
		return false;
	if (r->selector != TLSA_CERTIFICATE && r->selector != TLSA_KEY)
		return false;
	switch (r->matching) {
	case TLSA_SHA256:
		return r->data.size == SHA256_SIZE;
	case TLSA_SHA512:
		return r->data.size == SHA512_SIZE;
	case TLSA_WHOLE:
		break;
	default:
		return false;
	}
	if (r->data.size == 0 || r->data.size > LONG_MAX)
		return false;
	ERR_set_mark();
	bool good = r->selector == TLSA_CERTIFICATE ? is_certificate(r->data) : is_key(r->data);
	ERR_pop_to_mark();
	return good;
}

/* Is there a stronger digest for the same? */
static bool
is_outdone(const struct tlsa *r, const struct tlsa *all, size_t count)
{
	if (r->matching != TLSA_SHA256)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (all[i].usage == r->usage && all[i].selector == r->selector &&
		    all[i].matching == TLSA_SHA512)
			return true;
	}
	return false;
}

static size_t
take_strongest(struct tlsa *records, size_t count)
{
	size_t kept = 0;

	/* What is outdone is so by a record that stays, so the order of going does not matter. */
	for (size_t i = 0; i < count; i++) {
		if (!is_outdone(&records[i], records, kept) &&
		    !is_outdone(&records[i], records + i, count - i))
			records[kept++] = records[i];
	}
	return kept;
}

enum dane_verdict
dane_select(const struct dns_answer *a, struct tlsa *out, size_t *count)
{
	size_t usable = 0;

	*count = 0;
	if (a == NULL)
		return DANE_NOT_ASKED;
	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		return DANE_FAILED;
	if (a->outcome != DNS_FOUND || a->count == 0 || a->security != DNS_SECURE)
		return DANE_NONE;
	for (unsigned i = 0; i < a->count; i++) {
		struct span rdata = a->records[i].data;
		if (rdata.size < HEAD_SIZE)
			continue;
		out[usable] = (struct tlsa){
			.usage = rdata.data[0],
			.selector = rdata.data[1],
			.matching = rdata.data[2],
			.data = span_after(rdata, HEAD_SIZE),
		};
		usable += is_usable(&out[usable]);
	}
	*count = take_strongest(out, usable);
	ASSERT((*count > 0) == (usable > 0));
	return usable > 0 ? DANE_USABLE : DANE_UNUSABLE;
}

bool
dane_needs_name(const struct tlsa *records, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (records[i].usage == TLSA_DANE_TA)
			return true;
	}
	return false;
}

void
tlsa_show(const struct tlsa *r, struct buf *out)
{
	buf_printf(out, "%u %u %u ", (unsigned)r->usage, (unsigned)r->selector,
		   (unsigned)r->matching);
	for (size_t i = 0; i < r->data.size && i < SHOWN_BYTES; i++)
		buf_printf(out, "%02x", (unsigned)r->data.data[i]);
	if (r->data.size > SHOWN_BYTES)
		buf_append_string(out, "…");
}
