/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_record: the SPF record of a domain, chosen and parsed (RFC 7208 4.5, 4.6, 12). Inside of
 * dns/, and for those who show records to people.
 *
 * The parsed form is immutable, and counted by one thread. It also stands for what is no record:
 * there is none, there are several, the answer failed, or the record breaks the grammar, with the
 * reason. It lives no longer than the answer that it was made of.
 *
 * The parser is PURE: spf_record_parse() fills memory that the caller has. A term takes some 40
 * bytes, and a record of 64 KiB has at most 32 768 of them.
 */
#ifndef DNS_SPF_RECORD_H
#define DNS_SPF_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "dns/resolver.h"
#include "dns/spf.h"

enum { SPF_WHY_MAX = 300 };

enum spf_mechanism {
	SPF_ALL,
	SPF_INCLUDE,
	SPF_A,
	SPF_MX,
	SPF_PTR,
	SPF_IP4,
	SPF_IP6,
	SPF_EXISTS,
};

/* A piece of the record's text. */
struct spf_piece {
	uint32_t at;
	uint32_t size;
};

struct spf_term {
	struct spf_piece text;
	struct spf_piece spec; /* domain-spec; empty: the domain of the record */
	uint8_t mechanism;     /* enum spf_mechanism */
	uint8_t result;        /* enum spf_result of its qualifier */
	uint8_t prefix_v4;     /* a, mx, ip4 */
	uint8_t prefix_v6;     /* a, mx, ip6 */
	bool has_macros;       /* in the domain-spec */
	bool wants_name;       /* %{p} is among them */
	uint8_t ip[16];        /* ip4, ip6 */
};

/* redirect and exp. */
struct spf_modifier {
	struct spf_piece text; /* empty: there is none */
	struct spf_piece spec;
	bool has_macros;
	bool wants_name;
};

enum spf_record_kind {
	SPF_RECORD_FOUND,
	SPF_RECORD_NONE,    /* no such domain, or no SPF record */
	SPF_RECORD_SEVERAL, /* permerror (4.5) */
	SPF_RECORD_BROKEN,  /* permerror (4.6) */
	SPF_RECORD_FAILED,  /* temperror (4.4) */
};

struct spf_record {
	unsigned references;
	size_t bytes; /* of memory */
	enum spf_record_kind kind;
	bool is_void; /* the answer had no records at all */
	enum dns_security security;
	uint64_t expires_at_ms;
	struct span text; /* of the record */
	struct span why;  /* not FOUND: for people */
	struct spf_modifier redirect;
	struct spf_modifier explanation;
	bool has_all;
	unsigned count;
	struct spf_term *terms; /* in order */
};

/* Is this a record of SPF, by its version? */
bool spf_record_is(struct span text);
/* How many terms it can have at most. */
unsigned spf_record_terms_max(struct span text);
/* Parses a text for which spf_record_is() holds, with room for that many terms at out->terms. False
 * with the reason in `why` where it breaks the grammar; out->terms then has what was read before.
 * Sets only what is of the grammar. */
bool spf_record_parse(struct span text, struct spf_record *out, struct buf *why);

static inline struct span
spf_piece_of(const struct spf_record *r, struct spf_piece p)
{
	return span_of(r->text.data + p.at, p.size);
}

/* Of the answer to a question for TXT records. With one reference for the caller; everything is
 * copied. NULL without memory. */
struct spf_record *spf_record_new(const struct dns_answer *a);
struct spf_record *spf_record_get(struct spf_record *r);
void spf_record_put(struct spf_record *r);
size_t spf_record_bytes(const struct spf_record *r);

#endif
