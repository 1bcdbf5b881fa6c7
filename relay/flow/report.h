/* SPDX-License-Identifier: Apache-2.0
 *
 * report: what an operator can see of a site. The one way by which the admin socket looks at sites;
 * nothing of it decides anything.
 *
 * A site is known by its name, on all workers. Each reports its part: its connections and jobs,
 * what it knows of the hosts, and, on the home worker, the limit. The whole is the sum of the parts
 * of all workers, which a report_set makes (PURE): a bounded set, ordered by name. A worker reports
 * the sites that it is home of and those that it has a view of. A report is a copy and lives as
 * long as its holder likes.
 *
 * The functions that take a flow or a site run on its worker. Times are spans in milliseconds from
 * now, 0: none; failure.at_ms is wall clock.
 */
#ifndef RELAY_FLOW_REPORT_H
#define RELAY_FLOW_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/net.h"
#include "relay/flow/site.h"

enum { REPORT_NAME_MAX = 1024, REPORT_SOURCE_MAX = 128 };

struct host_report {
	struct net_address address;
	unsigned name_size; /* 0: it is only a number */
	uint8_t name[DNS_NAME_MAX];
	bool secure;          /* the way from its name to its address was validated */
	unsigned connections; /* that are up */
	unsigned failures;    /* in a row */
	uint64_t again_ms;    /* until it is tried again */
};

struct site_report {
	unsigned home;
	bool by_mx;
	unsigned limit; /* of connections, over all workers */
	uint32_t rate;  /* of mails a minute; 0: any */
	unsigned connections;
	unsigned busy; /* of them, with a mail or connecting */
	unsigned waiting;
	bool suspended;
	uint64_t down_ms;            /* 0: a host can be reached */
	struct site_failure failure; /* the last one of a host */
	unsigned hosts;
	unsigned hosts_failed; /* that are left alone for a while */
	unsigned source_size;  /* who says how much it is given: shaping.h */
	uint8_t source[REPORT_SOURCE_MAX];
	unsigned name_size;
	uint8_t name[REPORT_NAME_MAX];
};

/* The reports of the `most` least names behind `after`, each the sum of what was added; of one that
 * is wanted by its name also its hosts. */
struct report_set {
	struct span after; /* no data: from the start */
	struct span only;  /* no data: all */
	size_t most;
	size_t count;
	bool more;                    /* there was one behind the last */
	struct site_report **reports; /* by name */
	size_t capacity;
	struct host_report *hosts; /* of `only`: PLAN_HOSTS_MAX of them, or NULL */
	unsigned host_count;
};

/* `most` > 0; the spans are lent. */
void report_set_init(struct report_set *s, struct span after, struct span only, size_t most);
/* Adds a part. False: no memory. */
bool report_set_add(struct report_set *s, const struct site_report *part);
/* Adds a host of the one that is wanted, or to what is known of it. */
bool report_set_add_host(struct report_set *s, const struct host_report *part);
void report_set_fini(struct report_set *s);

/* Adds this worker's sites from *cursor on (0: all), for at most `slice_us`; moves the cursor. What
 * there was no memory for is told in *no_memory. False at the end. */
bool report_sites(struct flow *f, uint32_t *cursor, uint64_t slice_us, struct report_set *s,
		  bool *no_memory);
/* The name of the site to which a number of this worker's queue leads now; while that is not known,
 * of the destination. Lent for the call. */
struct span report_site_name(const struct flow *f, struct site_id id);
/* Does the number lead to the site, or the destination, of that name? */
bool report_leads_to(const struct flow *f, struct site_id id, struct span name);
/* What a mail says of TLS (RFC 8689), by the flags of its envelope: "yes", "no", or nothing. */
struct span report_tls_need(uint32_t mail_flags);
/* Keeps a failure of a host for reports. */
void report_failure(struct site *s, unsigned host, const char *phase, struct span error);

static inline struct span
report_name(const struct site_report *r)
{
	return span_of(r->name, r->name_size);
}

#endif
