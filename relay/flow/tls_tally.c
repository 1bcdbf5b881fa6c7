/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/tls_tally.h"

#include <stdlib.h>

#include "core/base/assert.h"

const char *
tls_tally_policy_label(enum tls_tally_policy p)
{
	static const char *const labels[] = {
		[TALLY_NO_POLICY] = "no-policy-found",
		[TALLY_STS] = "sts",
		[TALLY_TLSA] = "tlsa",
	};

	ASSERT((size_t)p < sizeof labels / sizeof labels[0]);
	return labels[p];
}

static uint64_t
hash_of(const struct tls_tally_row *r)
{
	uint64_t hash = span_hash_nocase(r->domain, r->day * 4u + r->policy);

	if (r->result == NULL)
		return hash;
	hash = span_hash_nocase(span_of_string(r->result), hash);
	hash = span_hash_nocase(r->host, hash);
	hash = span_hash_nocase(r->ip, hash);
	return span_hash_nocase(r->from, hash);
}

/* Results are compared by their texts, since equal ones may come from several places. */
static bool
is_same(const struct tls_tally_row *a, const struct tls_tally_row *b)
{
	return a->hash == b->hash && a->day == b->day && a->policy == b->policy &&
	       (a->result == NULL) == (b->result == NULL) &&
	       span_eq(span_of_string(a->result), span_of_string(b->result)) &&
	       span_eq_nocase(a->domain, b->domain) && span_eq(a->host, b->host) &&
	       span_eq(a->ip, b->ip) && span_eq(a->from, b->from);
}

static struct span
place(uint8_t **at, struct span text)
{
	struct span copy = span_of(*at, text.size);

	if (text.size > 0)
		memcpy(*at, text.data, text.size);
	*at += text.size;
	return copy;
}

static struct tls_tally_row *
copy_row(const struct tls_tally_row *from, struct span why, struct span strings)
{
	size_t size = from->domain.size + from->host.size + from->ip.size + from->from.size +
		      why.size + strings.size;
	struct tls_tally_row *r = malloc(sizeof *r + size);

	if (r == NULL)
		return NULL;
	uint8_t *at = (uint8_t *)(r + 1);
	*r = *from;
	r->domain = place(&at, from->domain);
	r->host = place(&at, from->host);
	r->ip = place(&at, from->ip);
	r->from = place(&at, from->from);
	r->why = place(&at, why);
	r->strings = place(&at, strings);
	return r;
}

bool
tls_tally_add(struct tls_tally *t, const struct tls_tally_row *row)
{
	struct tls_tally_row key = *row;

	if (key.result == NULL) /* what went well needs no place */
		key.host = key.ip = key.from = key.why = span_none();
	key.hash = hash_of(&key);
	struct tls_tally_row **bucket = &t->buckets[key.hash % TLS_TALLY_BUCKETS];
	for (struct tls_tally_row *r = *bucket; r != NULL; r = r->next) {
		if (is_same(r, &key)) {
			r->sessions += row->sessions;
			return true;
		}
	}
	if (t->count >= TLS_TALLY_ROWS)
		return false;
	struct tls_tally_row *r = copy_row(&key, span_first(key.why, TLS_TALLY_TEXT_MAX),
					   span_first(key.strings, TLS_TALLY_STRINGS_MAX));
	if (r == NULL)
		return false;
	r->next = *bucket;
	*bucket = r;
	t->count++;
	return true;
}

void
tls_tally_free(struct tls_tally *t)
{
	for (unsigned i = 0; t != NULL && i < TLS_TALLY_BUCKETS; i++) {
		struct tls_tally_row *r = t->buckets[i];
		while (r != NULL) {
			struct tls_tally_row *next = r->next;
			free(r);
			r = next;
		}
	}
	free(t);
}
