/* SPDX-License-Identifier: Apache-2.0
 *
 * tls_report: SMTP TLS reporting (RFC 8460): where a domain wants its reports, what was counted of
 * it in a day of UTC, and the report itself. PURE: no clock, no file, no network.
 *
 * Results are kept in a tree of JSON, which is also the form of the file in which they outlive a
 * restart:
 *   { "format": 1, "days": { "20784": { "example.org": {
 *       "due": MS, "policies": { "sts": { "ok": 5, "bad": 1, "strings": [...], "failures": [...] }
 *     } } } } }
 * "due" is when the report is to be sent, and stands there from the end of the day on. What exceeds
 * a bound (domains, details a policy) is refused, or counted without its details.
 */
#ifndef RELAY_CONTROL_TLS_REPORT_H
#define RELAY_CONTROL_TLS_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	TLS_REPORT_URIS_MAX = 8,
	TLS_REPORT_URL_MAX = 512,
	TLS_REPORT_DETAILS_MAX = 50,     /* kinds of failures of one policy and day */
	TLS_REPORT_DOMAINS_MAX = 100000, /* of one day */
	TLS_REPORT_DAYS_MAX = 8,         /* the present one, and those not sent yet */
};

/* ---- where to (RFC 8460 3) ---- */

/* Of all TXT records of _smtp._tls.DOMAIN: exactly one must be of TLS reports. How many URIs it
 * has, at most TLS_REPORT_URIS_MAX; 0: none that counts. */
unsigned tls_report_uris(const struct span *texts, size_t count,
			 struct span uris[TLS_REPORT_URIS_MAX]);

/* An address of kind https, decoded, with NULs behind it. */
struct tls_report_url {
	char url[TLS_REPORT_URL_MAX];
	char host[256];
	uint16_t port;
};

/* False: of another kind, or not to be used. */
bool tls_report_url(struct span uri, struct tls_report_url *out);

/* ---- what was counted ---- */

/* `result` NULL: sessions that went well. */
struct tls_result {
	struct span domain;
	struct span policy;  /* "tlsa", "sts", "no-policy-found" */
	struct span strings; /* of the policy, one a line; may be empty */
	const char *result;  /* RFC 8460 4.3: "certificate-expired" */
	struct span host;    /* the MX host */
	struct span ip;      /* its address */
	struct span from;    /* ours */
	struct span why;     /* in words */
	uint64_t sessions;
};

json_t *tls_results_new(void);
/* From what tls_results_text() made; NULL where it is not that. */
json_t *tls_results_parse(struct span text);
/* To be freed; NULL: no memory. */
char *tls_results_text(const json_t *all);
/* False: a bound was reached, or there is no memory. */
bool tls_results_add(json_t *all, unsigned day, const struct tls_result *r);
/* The domains of a day, an object by name; NULL: none. */
json_t *tls_results_day(const json_t *all, unsigned day);
void tls_results_drop_day(json_t *all, unsigned day);

/* ---- the report (RFC 8460 4) ---- */

struct tls_report_head {
	struct span organization;
	struct span contact;
	struct span domain;
	const char *id;
	uint64_t start_s; /* since 1970 */
	uint64_t end_s;
	/* Of MTA-STS, as far as it is known: lines of the policy, and its patterns. */
	const struct span *sts_strings;
	size_t sts_string_count;
	const struct span *sts_hosts;
	size_t sts_host_count;
};

/* `results`: the domain's of one day. To be freed; NULL: no memory. */
char *tls_report_compose(const struct tls_report_head *head, const json_t *results);

#endif
