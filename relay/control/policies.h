/* SPDX-License-Identifier: Apache-2.0
 *
 * policies: the control thread's cache of MTA-STS policies, for all workers.
 *
 * A worker's question (relay/flow/sts.h) names a domain and the id of its TXT record. With the
 * policy of that id at hand it is answered at once. Otherwise the policy is fetched: a worker
 * resolves mta-sts.DOMAIN, the web thread (web.h) gets the text, and whoever asked meanwhile is
 * answered; nobody waits longer than sts.first_wait, while the fetch goes on. A fetch that fails
 * leaves the policy that is there until that has expired, and the domain alone for sts.retry.
 *
 * A question without an id gets the policy that is there, too: who can suppress a DNS answer must
 * not be able to take a policy away (RFC 8461 10.2). Policies in use are fetched anew before they
 * expire.
 *
 * Bounded: memory (the least recently used goes), FETCHES_MAX at a time, the rest in line. Policies
 * are kept in a file (policy_file.h), written soon after each change. Times of policies are wall
 * clock, since they outlive the process; those of fetches are monotonic.
 */
#ifndef RELAY_CONTROL_POLICIES_H
#define RELAY_CONTROL_POLICIES_H

#include "core/worker.h"
#include "relay/control/ask.h"
#include "relay/control/web.h"
#include "relay/flow/sts.h"

struct control;
struct crew;
struct fetch;
struct policy_entry;
struct routing;

enum {
	POLICY_BUCKETS = 4096,
	FETCHES_MAX = 32,
	POLICY_PATH_MAX = 4096,
	/* In the control thread's mailbox: questions of all workers, and what fetches bring back.
	 */
	POLICY_PLACES = WORKERS_MAX * STS_QUESTIONS_MAX + FETCHES_MAX + WEB_JOBS_MAX,
};

/* How a fetch that somebody watches has ended. */
enum policy_end {
	POLICY_FETCHED,
	POLICY_NO_RECORD, /* there is no policy to be fetched */
	POLICY_FAILED,
	POLICY_GIVEN_UP, /* no memory, or all ends */
};

/* Who waits for the end of a fetch. on_done gets what is kept of the domain then, and why it
 * FAILED, both lent; the watch is the caller's again. */
struct policy_watch {
	struct list_node link;
	void (*on_done)(struct policy_watch *w, enum policy_end end, const struct policy_entry *e,
			struct span why);
};

/* One domain. */
struct policy_entry {
	struct policy_entry *next; /* in its bucket */
	struct list_node link;     /* by its last use */
	struct list_node line;     /* waits to be fetched */
	struct policies *policies;
	struct sts_held *held;  /* a reference, or NULL */
	struct fetch *fetch;    /* under way */
	struct list waiting;    /* struct sts_question.link */
	struct timer patience;  /* the first of them */
	struct list watches;    /* struct policy_watch.link */
	uint64_t not_before_ms; /* the last fetch failed: monotonic; 0: it did not */
	uint64_t refreshed_ms;  /* the last try to refresh began: monotonic */
	bool is_refresh;        /* the fetch that is wanted is to */
	bool used;              /* asked for since it was fetched */
	uint8_t id_size;        /* of the newest record */
	char id[STS_ID_MAX];
	size_t bytes; /* of memory, as it was counted */
	struct span domain;
};

struct policies {
	struct control *control;
	struct worker *worker;
	struct web *web;
	unsigned crew_count;
	unsigned turn; /* the worker that resolves next */
	struct asker asker;
	struct sts_source source; /* for workers */
	struct policy_entry *buckets[POLICY_BUCKETS];
	uint64_t seed;
	struct list used; /* struct policy_entry.link, the least recently used first */
	struct list line; /* struct policy_entry.line */
	unsigned fetching;
	unsigned held_count;
	size_t bytes;
	struct timer tick;
	char path[POLICY_PATH_MAX]; /* of the file */
	bool changed;
	struct timer save_soon;
	struct web_job save;
	bool saving;
	bool stopping;
	struct task stop_check;
	void (*on_stopped)(struct policies *p);
};

/* Main thread, before the workers run: reads what is kept in `directory`, the spool's. */
void policies_init(struct policies *p, struct control *c, uint64_t seed, struct span directory);
void policies_fini(struct policies *p);
/* On the control thread. `web` may be NULL: then nothing can be fetched. */
void policies_start(struct policies *p, struct web *web);
/* Nobody waits any more, from now on: questions are answered by what is there. */
void policies_drain(struct policies *p);
/* After the drain; on_stopped comes when nothing is under way and all is kept. */
void policies_stop(struct policies *p, void (*on_stopped)(struct policies *p));

/* Fetches the policy of a domain, also where one is kept that would do; on_done may come inside.
 * False: that is no name of a domain, or nothing can be fetched now. */
bool policies_refresh(struct policies *p, struct span domain, struct policy_watch *w);
/* The policy of a domain that has not expired, lent; NULL: none. */
struct sts_held *policies_find(const struct policies *p, struct span domain);

#endif
