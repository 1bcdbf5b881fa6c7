/* SPDX-License-Identifier: Apache-2.0
 *
 * iprev: has a client's address a name that leads back to it (RFC 8601 3)? Over the resolver of a
 * worker, without blocking.
 *
 * The names of the address (PTR) are asked for their addresses of the same family, one after the
 * other, until one of them has it; at most IPREV_NAMES_MAX. Where all answers are in the resolver's
 * cache, the outcome is there at once. Each question has the resolver's deadline, all of them
 * together the caller's.
 */
#ifndef DNS_IPREV_H
#define DNS_IPREV_H

#include "dns/resolver.h"

enum { IPREV_NAMES_MAX = 10 };

/* In the words of RFC 8601 2.7.3. */
enum iprev_result {
	IPREV_PASS,
	IPREV_FAIL,      /* none of its names has the address */
	IPREV_TEMPERROR, /* nothing was learnt, for now */
	IPREV_PERMERROR, /* the address has no name */
};

const char *iprev_result_label(enum iprev_result r); /* "pass" */

struct iprev_outcome {
	enum iprev_result result;
	struct span name; /* of pass: lower case, without a dot at the end */
	enum dns_security security;
};

/* Embedded in the caller's object, and zeroed but for on_done; the resolver's from iprev_start,
 * where that gave no outcome, until on_done, which comes exactly once and never inside the call. */
struct iprev {
	struct resolver *resolver;
	struct dns_query query;
	struct dns_answer *names; /* of the address */
	struct dns_answer *last;  /* that decided */
	struct iprev_outcome outcome;
	unsigned next; /* of names */
	uint8_t ip[16];
	uint8_t ip_size;
	bool is_open;
	void *work;        /* of a model that stands in the place of this */
	bool is_uncertain; /* one of the names could not be looked up */
	/* What `o` points to is lent for the call. */
	void (*on_done)(struct iprev *i, const struct iprev_outcome *o);
};

/* The outcome where it is at hand, good until iprev_cancel(), which must follow then; on_done does
 * not come. Else NULL. */
const struct iprev_outcome *iprev_start(struct iprev *i, struct resolver *r,
					const struct net_address *client);
/* Gives up what is under way, and what is held of an outcome; nothing else is left of it. */
void iprev_cancel(struct iprev *i);

#endif
