/* SPDX-License-Identifier: Apache-2.0
 *
 * answer: making the immutable answers of resolver.h. Inside of dns/ only.
 *
 * An answer is one piece of memory with all that it points to. Where memory is short there is one
 * for all that says so, so that a question never ends without an answer.
 */
#ifndef DNS_ANSWER_H
#define DNS_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"
#include "dns/packet.h"
#include "dns/resolver.h"

/* With one reference for the caller; everything that `from` points to is copied. Its own references
 * do not matter. Never NULL. */
struct dns_answer *answer_new(const struct dns_answer *from);
/* FAILED or BOGUS, for this reason. */
struct dns_answer *answer_without(enum dns_outcome outcome, struct span name, struct span why,
				  uint64_t expires_at_ms);
/* What the library says to a question. */
struct answer_source {
	struct span name; /* that was asked for, in the form of name.h */
	enum dns_type type;
	unsigned rcode;
	struct span packet; /* empty where there is none */
	bool is_secure;
	bool is_bogus; /* decides first */
	struct span why_bogus;
};

/* The answer that this is; `p` is scratch. Never NULL. */
struct dns_answer *answer_read(const struct answer_source *from, uint64_t now_ms, struct packet *p);
/* Bytes of memory. */
size_t answer_bytes(const struct dns_answer *a);

#endif
