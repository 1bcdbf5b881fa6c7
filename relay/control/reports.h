/* SPDX-License-Identifier: Apache-2.0
 *
 * reports: TLS reports (RFC 8460) of this relay to the domains that it sends to.
 *
 * Workers count (relay/flow/tls_tally.h); every REPORTS_COLLECT_MS and at the end their tables are
 * taken over and added to the day's results, which are kept in a file. After a day of UTC is over,
 * each domain's part becomes due at a random time within tls_reports.spread. Then the domain's
 * record is asked for; to https addresses the report is posted, and tried again every
 * tls_reports.retry for a day; without any such address it is forgotten. `mailto` would need DKIM
 * signatures, without which reports must be ignored (RFC 8460 5.3), so it is not served.
 *
 * On the control thread; HTTPS and the file are the web thread's (web.h), questions to the DNS a
 * worker's (lookup.h). Bounded: domains and details (tls_report.h), REPORTS_AT_A_TIME.
 */
#ifndef RELAY_CONTROL_REPORTS_H
#define RELAY_CONTROL_REPORTS_H

#include <jansson.h>

#include "core/worker.h"
#include "relay/control/ask.h"
#include "relay/control/web.h"
#include "relay/flow/tls_tally.h"

struct control;

enum {
	REPORTS_COLLECT_MS = 60 * 1000,
	REPORTS_AT_A_TIME = 4,
	REPORTS_PATH_MAX = 4096,
	REPORTS_PLACES = WORKERS_MAX + REPORTS_AT_A_TIME, /* in the control thread's mailbox */
};

struct reports {
	struct control *control;
	struct worker *worker;
	struct web *web;
	struct asker asker;
	json_t *results; /* tls_report.h */
	bool changed;
	char path[REPORTS_PATH_MAX];
	struct web_job save;
	bool saving;
	struct list sending; /* struct sending.link */
	unsigned sending_count;
	unsigned turn; /* the worker that asks next */
	uint64_t chance;
	struct ask collect;
	struct ask_part parts[WORKERS_MAX];
	struct tls_tally *tallies[WORKERS_MAX];
	bool collecting;
	bool send_after; /* an operator asked for all that is there */
	uint64_t collected_ms;
	struct timer tick;
	bool stopping;
	bool collected_last;
	struct task stop_check;
	void (*on_stopped)(struct reports *r);
};

/* Main thread, before the workers run; `directory` is the spool's. False: no memory. */
bool reports_init(struct reports *r, struct control *c, uint64_t seed, struct span directory);
void reports_fini(struct reports *r);
/* On the control thread. */
void reports_start(struct reports *r, struct web *web);
/* After the drain, while workers still answer; on_stopped comes when all is kept. */
void reports_stop(struct reports *r, void (*on_stopped)(struct reports *r));

/* A session of a domain's mail that could not even begin, for want of its policy. */
void reports_note(struct reports *r, struct span domain, enum tls_tally_policy policy,
		  const char *result, struct span why);
/* All that was counted until now is sent at once, as if the day were over. */
void reports_send_now(struct reports *r);
/* Domains for which something is kept. */
size_t reports_waiting(const struct reports *r);

#endif
