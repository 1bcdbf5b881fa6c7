/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/answer.h"

#include <stdlib.h>

#include "core/base/assert.h"

/* Its first reference is nobody's, so it is never freed. */
static struct dns_answer no_memory = {
	.references = 1,
	.outcome = DNS_FAILED,
	.why = { (const uint8_t *)"no memory for the answer", 24 },
};

size_t
answer_bytes(const struct dns_answer *a)
{
	size_t bytes = sizeof *a + a->count * sizeof a->records[0] + a->name.size + a->why.size;

	for (unsigned i = 0; i < a->count; i++)
		bytes += a->records[i].name.size + a->records[i].data.size;
	return bytes;
}

static struct span
place(uint8_t **free_at, struct span text)
{
	struct span copy = span_of(*free_at, text.size);

	if (text.size > 0)
		memcpy(*free_at, text.data, text.size);
	*free_at += text.size;
	return copy;
}

struct dns_answer *
answer_new(const struct dns_answer *from)
{
	size_t bytes = answer_bytes(from);
	struct dns_answer *a = malloc(bytes);

	ASSERT(from->count <= DNS_RECORDS_MAX);
	if (a == NULL)
		return dns_answer_get(&no_memory);
	struct dns_record *records = (struct dns_record *)(void *)(a + 1);
	uint8_t *free_at = (uint8_t *)(records + from->count);
	atomic_init(&a->references, 1);
	a->outcome = from->outcome;
	a->security = from->security;
	a->is_cut = from->is_cut;
	a->is_fleeting = from->is_fleeting;
	a->expires_at_ms = from->expires_at_ms;
	a->name = place(&free_at, from->name);
	a->why = place(&free_at, from->why);
	a->count = from->count;
	a->records = records;
	for (unsigned i = 0; i < from->count; i++) {
		records[i] = from->records[i];
		records[i].name = place(&free_at, from->records[i].name);
		records[i].data = place(&free_at, from->records[i].data);
	}
	ASSERT(free_at == (uint8_t *)a + bytes);
	return a;
}

struct dns_answer *
answer_without(enum dns_outcome outcome, struct span name, struct span why, uint64_t expires_at_ms)
{
	struct dns_answer from = {
		.outcome = outcome,
		.name = name,
		.why = why,
		.expires_at_ms = expires_at_ms,
	};

	return answer_new(&from);
}

struct dns_answer *
dns_answer_get(struct dns_answer *a)
{
	unsigned before = atomic_fetch_add_explicit(&a->references, 1, memory_order_relaxed);

	ASSERT(before > 0);
	return a;
}

void
dns_answer_put(struct dns_answer *a)
{
	unsigned before = atomic_fetch_sub_explicit(&a->references, 1, memory_order_acq_rel);

	ASSERT(before > 0);
	if (before == 1)
		free(a);
}

const char *
dns_type_text(enum dns_type t)
{
	switch (t) {
	case DNS_A:
		return "A";
	case DNS_CNAME:
		return "CNAME";
	case DNS_PTR:
		return "PTR";
	case DNS_MX:
		return "MX";
	case DNS_SOA:
		return "SOA";
	case DNS_TXT:
		return "TXT";
	case DNS_AAAA:
		return "AAAA";
	case DNS_TLSA:
		return "TLSA";
	}
	return "other";
}

const char *
dns_outcome_label(enum dns_outcome o)
{
	static const char *const labels[] = {
		[DNS_FOUND] = "found",   [DNS_NO_DATA] = "no_data", [DNS_NO_DOMAIN] = "no_domain",
		[DNS_FAILED] = "failed", [DNS_BOGUS] = "bogus",
	};

	ASSERT((size_t)o < sizeof labels / sizeof labels[0]);
	return labels[o];
}
