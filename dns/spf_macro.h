/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_macro: the macros of SPF (RFC 7208 7): syntax and expansion. PURE. Inside of dns/.
 *
 * A name is expanded into what of it counts: of more than 253 bytes only whole labels at its end
 * (7.3), so the work and the memory are bounded however long a record makes it. A text is cut at
 * the end of the buffer.
 *
 * What is inserted comes from the client and from the DNS, so a name may be of any bytes; it is
 * made into the form of name.h, or is none. What has bytes beyond ASCII is neither name nor text.
 */
#ifndef DNS_SPF_MACRO_H
#define DNS_SPF_MACRO_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "dns/resolver.h"

struct spf_values {
	struct span local;    /* l; before the @ of s */
	struct span sender;   /* o; behind the @ of s */
	struct span domain;   /* d */
	struct span helo;     /* h */
	struct span name;     /* p; empty: "unknown" */
	struct span receiver; /* r; empty: "unknown" */
	struct span ip_dots;  /* i: "192.0.2.1", "2.0.0.1.0.D.B.8..." */
	struct span ip_text;  /* c */
	bool is_v6;           /* v */
	uint64_t now_s;       /* t */
};

/* Where macros stand decides which are allowed. */
enum spf_macro_place {
	SPF_MACRO_NAME,     /* a domain-spec: no c, r, t; visible characters */
	SPF_MACRO_MODIFIER, /* an unknown modifier: syntax alone; visible characters */
	SPF_MACRO_TEXT,     /* an explanation: all; visible characters and spaces */
};

struct spf_macro_use {
	bool any;
	bool name;         /* %{p} */
	size_t literal_at; /* what follows is literal up to the end */
};

/* Is it a macro-string (7.1)? If not, why. */
bool spf_macro_check(struct span text, enum spf_macro_place place, struct spf_macro_use *use,
		     struct buf *why);
/* Does it end as a domain-spec must: in a toplabel, or in a macro (7.1)? For what passed
 * spf_macro_check(). */
bool spf_macro_ends_in_domain(struct span text, const struct spf_macro_use *use);
/* A domain-spec that passed both as a name; its size, or 0 where that is no name. */
size_t spf_macro_name(struct span text, const struct spf_values *v, char out[DNS_NAME_MAX + 1]);
/* An explanation, cut where `out` is full. False: it has bytes that are no printable ASCII. */
bool spf_macro_text(struct span text, const struct spf_values *v, struct buf *out);

#endif
