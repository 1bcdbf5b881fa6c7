/* SPDX-License-Identifier: Apache-2.0
 *
 * fetch: one fetch of a domain's MTA-STS policy: addresses of mta-sts.DOMAIN from a worker's
 * resolver, then the text over HTTPS (RFC 8461 3.3): status 200, text/plain, no redirect, at most
 * STS_TEXT_MAX bytes, within sts.timeout.
 *
 * To refresh a policy, the TXT record is asked for, too: that ends with FETCH_NO_RECORD where there
 * is none any more, and else goes on under the id that it finds.
 *
 * On the control thread; frees itself when it has told its end.
 */
#ifndef RELAY_CONTROL_FETCH_H
#define RELAY_CONTROL_FETCH_H

#include "core/config.h"
#include "tls/sts.h"

struct fetch;
struct policies;
struct policy_entry;

enum fetch_outcome {
	FETCH_OK,
	FETCH_UNREACHABLE, /* no address, no server, no such file, a redirect, too big, too late */
	FETCH_INVALID,     /* a text that is no policy */
	FETCH_UNTRUSTED,   /* its certificate */
	FETCH_NO_RECORD,
};

/* Lent for the call of on_done. */
struct fetch_result {
	enum fetch_outcome outcome;
	struct span id;
	const struct sts_policy *policy; /* FETCH_OK */
	struct span why;                 /* the others */
	uint64_t duration_ms;
};

/* RFC 8460 4.3.2.2: "sts-policy-fetch-error". */
const char *fetch_result_type(enum fetch_outcome o);

/* `worker` is the number of the one that resolves. NULL: no memory. */
struct fetch *fetch_start(struct policies *p, struct span domain, struct span id, bool is_refresh,
			  unsigned worker, struct policy_entry *owner,
			  void (*on_done)(struct policy_entry *owner,
					  const struct fetch_result *r));
/* It ends soon; on_done comes all the same. */
void fetch_cancel(struct fetch *f);

#endif
