/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_lint: what is wrong, or unwise, with the SPF record of a domain. PURE but for malloc: the DNS
 * comes through a callback.
 *
 * Unlike a check it has no client: it follows every include and redirect whose domain has no macro,
 * and counts the terms that would ask the DNS where nothing matches before them: the worst case. A
 * mistake is an error where receivers refuse to use the record for it, or mails are lost by it; all
 * else that is worth a word is a warning.
 *
 * Bounds: 20 levels, 100 records, 200 findings; the rest is not looked at, and one finding says so.
 */
#ifndef RELAY_CTL_SPF_LINT_H
#define RELAY_CTL_SPF_LINT_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "dns/resolver.h"

enum { LINT_FINDINGS_MAX = 200, LINT_TEXT_MAX = 400, LINT_RECORDS_MAX = 100, LINT_LEVELS_MAX = 20 };

struct lint_finding {
	bool is_error;
	char domain[DNS_NAME_MAX + 1]; /* whose record it is about */
	char text[LINT_TEXT_MAX];
};

struct lint_record {
	unsigned level;
	char domain[DNS_NAME_MAX + 1];
	unsigned lookups; /* with those below */
	char text[LINT_TEXT_MAX];
};

struct lint {
	/* Set by the caller. With one reference for the linter; never NULL. */
	struct dns_answer *(*ask)(void *context, struct span name, enum dns_type type);
	void *context;

	unsigned lookups;
	unsigned voids;
	unsigned errors;
	unsigned record_count;
	struct lint_record records[LINT_RECORDS_MAX];
	unsigned count;
	struct lint_finding findings[LINT_FINDINGS_MAX];
	unsigned level;                               /* in hand */
	char path[LINT_LEVELS_MAX][DNS_NAME_MAX + 1]; /* that leads to it */
};

/* `domain` in the form of dns/name.h. */
void lint_domain(struct lint *l, struct span domain);
void lint_show(const struct lint *l, struct buf *out);
/* A json_t object, to be given back by the caller. */
void *lint_show_json(const struct lint *l);

#endif
