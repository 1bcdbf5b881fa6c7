/* SPDX-License-Identifier: Apache-2.0
 *
 * sts: the texts of MTA-STS (RFC 8461): the TXT record that says that a domain has a policy, the
 * policy itself, and whether a host is among those that it names.
 *
 * PURE. A record says no more than that there is a policy and which one (its id); the policy comes
 * from https://mta-sts.DOMAIN/.well-known/mta-sts.txt. Both are read strictly where they are
 * specified and liberally where the RFC asks for it: what is unknown is ignored, of a field that
 * stands twice the first one counts. Nothing is copied: spans point into the text that was given.
 *
 * Bounds: a policy has at most STS_TEXT_MAX bytes and STS_PATTERNS_MAX patterns; one with more is
 * refused, which is as if there were none.
 */
#ifndef TLS_STS_H
#define TLS_STS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	STS_ID_MAX = 32,
	STS_TEXT_MAX = 64 * 1024, /* RFC 8461 3.3 suggests it */
	STS_PATTERNS_MAX = 128,
	STS_PATTERN_MAX = 255,
	STS_AGE_MAX_S = 31557600, /* RFC 8461 3.2: about a year */
};

enum sts_mode {
	STS_NONE,    /* as if there were no policy: how one is taken back */
	STS_TESTING, /* failures are reported, and mail goes on */
	STS_ENFORCE, /* only hosts that match, with a certificate that can be verified */
};

struct sts_policy {
	enum sts_mode mode;
	uint32_t max_age_s;
	unsigned pattern_count;
	struct span patterns[STS_PATTERNS_MAX]; /* "mx1.example.net", "*.example.net" */
};

const char *sts_mode_label(enum sts_mode m); /* as in a policy: "enforce" */

/* RFC 8461 3.1: the id of one TXT record. False: it is none of MTA-STS (`is_other`), or broken. */
bool sts_record_parse(struct span text, struct span *id, bool *is_other);
/* Of all TXT records of _mta-sts.DOMAIN: exactly one must be of MTA-STS. */
bool sts_records_find(const struct span *texts, size_t count, struct span *id);

/* RFC 8461 3.2. False with what is wrong in `why` (or NULL). */
bool sts_policy_parse(struct span text, struct sts_policy *out, struct buf *why);
/* RFC 8461 4.1: the name matches, or the pattern's `*` stands for its first label. */
bool sts_pattern_matches(struct span pattern, struct span host);
bool sts_patterns_match(const struct span *patterns, unsigned count, struct span host);
/* Is it one that may stand in a policy? */
bool sts_pattern_is_valid(struct span pattern);

#endif
