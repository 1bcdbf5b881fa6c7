/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_check: SPF (spf.h) for one mail, over the resolver of a worker, without blocking.
 *
 * One deadline holds for all questions of a check (RFC 7208 4.6.4 wants at least 20 s); where it
 * passes, the result is temperror. Answers come from the resolver's cache, and records from a cache
 * of parsed ones in front of it, none longer than its TTL (where that is 0, it is asked for each
 * time); what depends on the client is not kept. A check whose answers are all at hand asks nothing
 * and takes a few microseconds.
 *
 * Bounds: checks under way in a worker (beyond them temperror, with a counter), bytes of the cache.
 * On the resolver's worker.
 */
#ifndef DNS_SPF_CHECK_H
#define DNS_SPF_CHECK_H

#include "dns/resolver.h"
#include "dns/spf.h"

enum { SPF_DEADLINE_MS = 20 * 1000 };

/* Embedded in the caller's object, and zeroed but for on_done; the resolver's from spf_check_start
 * until on_done, which comes exactly once and never inside the call, or until spf_check_cancel. */
struct spf_check {
	struct list_node link;
	struct resolver *resolver;
	void *work; /* while it is under way */
	/* `o` and what it points to is lent for the call. From inside it another check may be
	 * started, with the same object too. */
	void (*on_done)(struct spf_check *c, const struct spf_outcome *o);
};

/* What the inputs point to is copied. */
void spf_check_start(struct spf_check *c, struct resolver *r, const struct spf_inputs *in);
/* The same, but where all answers are at hand the outcome is given here, and on_done does not come;
 * else NULL. It is lent until the next call of this module. */
const struct spf_outcome *spf_check_try(struct spf_check *c, struct resolver *r,
					const struct spf_inputs *in);
/* Nothing where it is not under way. */
void spf_check_cancel(struct spf_check *c);

#endif
