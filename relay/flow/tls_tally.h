/* SPDX-License-Identifier: Apache-2.0
 *
 * tls_tally: what one worker counts for reports about TLS (RFC 8460): sessions that went well, and
 * those that failed, by policy domain, kind of policy, kind of failure and host.
 *
 * The worker adds; now and then the control thread takes the whole away by an ask
 * (relay/control/reports.h) and the next one begins empty. A table is then its new holder's alone.
 * Bounded: TLS_TALLY_ROWS rows; what does not fit is not counted but in limit_hits_total.
 */
#ifndef RELAY_FLOW_TLS_TALLY_H
#define RELAY_FLOW_TLS_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"

struct flow;

enum {
	TLS_TALLY_ROWS = 8192,
	TLS_TALLY_BUCKETS = 2048,
	TLS_TALLY_TEXT_MAX = 300, /* of a reason */
	TLS_TALLY_STRINGS_MAX = 1024,
};

enum tls_tally_policy { TALLY_NO_POLICY, TALLY_STS, TALLY_TLSA };

struct tls_tally_row {
	struct tls_tally_row *next; /* in its bucket */
	uint64_t hash;
	unsigned day; /* since 1970, UTC */
	enum tls_tally_policy policy;
	const char *result; /* of RFC 8460 4.3, static; NULL: it went well */
	struct span domain;
	struct span host; /* failures: the name of the host, its address, ours */
	struct span ip;
	struct span from;
	struct span why;     /* the first time; in words */
	struct span strings; /* TLSA records, one a line */
	uint64_t sessions;
};

struct tls_tally {
	size_t count;
	struct tls_tally_row *buckets[TLS_TALLY_BUCKETS];
};

/* Adds `row->sessions` to the row with the same day, policy, result, domain, host, ip and from; all
 * spans are copied. False: there is no room for a new one. */
bool tls_tally_add(struct tls_tally *t, const struct tls_tally_row *row);
void tls_tally_free(struct tls_tally *t);
const char *tls_tally_policy_label(enum tls_tally_policy p); /* "no-policy-found" */

#endif
