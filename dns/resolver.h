/* SPDX-License-Identifier: Apache-2.0
 *
 * resolver: DNS for one worker, validating (RFC 4033 to 4035), without blocking.
 *
 * libunbound's event API on the worker's ring; one context a worker. Contexts are made and warmed
 * one after the other on the main thread before the workers start (resolver_new), since the
 * library keeps some of its configuration for the whole process; all else runs on the worker.
 *
 * What mail depends on stays apart: a name that does not exist, a name without data of this type,
 * a failure that may pass, and data that failed validation. An answer carries its security: SECURE
 * means that every signature from the trust anchor down was checked in this process (also of a
 * denial). Answers are cached parsed, in front of the library's own cache, until their least TTL;
 * what one worker's library has answered goes into the caches of the others, too.
 *
 * Bounds: questions under way (the rest wait in line, with their deadline running), the size of
 * the line, records and bytes an answer, the cache. Where the line is full the outcome is FAILED.
 * A question ends by its own deadline, whatever the library does.
 */
#ifndef DNS_RESOLVER_H
#define DNS_RESOLVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/list.h"
#include "core/base/net_address.h"
#include "core/base/span.h"
#include "core/worker.h"

enum { DNS_NAME_MAX = 253, DNS_RECORDS_MAX = 256, DNS_FORWARDERS_MAX = 8, DNS_SEARCH_MAX = 6 };

enum dns_type {
	DNS_A = 1,
	DNS_CNAME = 5,
	DNS_SOA = 6, /* only of the root, to see whether validation works */
	DNS_PTR = 12,
	DNS_MX = 15,
	DNS_TXT = 16,
	DNS_AAAA = 28,
	DNS_TLSA = 52,
};

enum dns_outcome {
	DNS_FOUND,
	DNS_NO_DATA,   /* the name exists, without records of this type */
	DNS_NO_DOMAIN, /* NXDOMAIN */
	DNS_FAILED,    /* SERVFAIL, REFUSED, no answer in time, no room: may pass */
	DNS_BOGUS,     /* there was an answer, and it failed validation: may pass */
};

enum dns_security { DNS_INSECURE, DNS_SECURE };

struct dns_record {
	struct net_address address; /* A, AAAA; port 0 */
	uint16_t preference;        /* MX */
	struct span name; /* MX, CNAME, PTR: lower case, no dot at the end; "" is the root */
	struct span data; /* TXT: the strings joined; TLSA and SOA: the whole RDATA */
};

/* Immutable once given out; lives until its last reference. Counted atomically, so that it may be
 * read by other workers. */
struct dns_answer {
	atomic_uint references;
	enum dns_outcome outcome;
	enum dns_security security;
	bool is_cut;            /* there were more than DNS_RECORDS_MAX */
	bool is_fleeting;       /* its TTL was 0, or it had none: kept all the same, for a moment */
	uint64_t expires_at_ms; /* monotonic */
	struct span name;       /* where CNAMEs led to; else the name that was asked for */
	struct span why;        /* FAILED, BOGUS: for people, "validation failure: …" */
	unsigned count;
	const struct dns_record *records;
};

struct dns_answer *dns_answer_get(struct dns_answer *a);
void dns_answer_put(struct dns_answer *a);

const char *dns_type_text(enum dns_type t);        /* "MX" */
const char *dns_outcome_label(enum dns_outcome o); /* "no_domain" */

/* Plain input, filled from the configuration by the caller. Sizes are of the whole process. */
struct resolver_options {
	bool forwarders_auto; /* those of resolv_conf */
	const char *resolv_conf;
	struct net_address forwarders[DNS_FORWARDERS_MAX]; /* none and not auto: ask the roots */
	unsigned forwarder_count;
	const char *trust_anchors; /* file of DS or DNSKEY records; NULL: no validation */
	const char *hosts_file;    /* for names of the configuration only; NULL: none */
	struct span search[DNS_SEARCH_MAX];
	unsigned search_count;
	struct span transparent[DNS_SEARCH_MAX]; /* zones that the library would answer by itself
						  * ("test"), asked for like all others */
	unsigned transparent_count;
	uint32_t queries_max; /* under way */
	uint32_t waiting_max;
	uint64_t cache_bytes;
	uint64_t deadline_ms;
};

struct resolver;

/* Main thread, serially. NULL with a line for people in `why`: what is wrong, and the remedy. */
struct resolver *resolver_new(struct worker *w, const struct resolver_options *options,
			      unsigned worker_count, struct buf *why);
/* On the worker: questions that are open end as FAILED, then on_stopped. */
void resolver_stop(struct resolver *r, void (*on_stopped)(void *context), void *context);
/* Main thread, after the workers have ended. */
void resolver_free(struct resolver *r);
/* Can answers be SECURE? If not, one line why. */
bool resolver_validates(const struct resolver *r, struct buf *why);
/* On the worker, or before it runs: finds out whether they are, by a question for the root, and
 * tells by the events `dnssec_works` and `dnssec_fails`, the latter with the reason, and again each
 * time that the reason changes or it begins to work. Until then it is asked again now and then.
 * Nothing else depends on it: what cannot be validated below a trust anchor is bogus, and is never
 * believed. */
void resolver_prove(struct resolver *r);

/* Embedded in the caller's object, and zeroed but for on_done; the resolver's from resolver_ask
 * until on_done, which comes exactly once and never inside the call, or until resolver_cancel. */
struct dns_query {
	struct list_node link;
	struct resolver *resolver;
	char name[DNS_NAME_MAX + 1];
	enum dns_type type;
	uint64_t deadline_ms; /* monotonic */
	uint8_t state;
	bool is_strict; /* set by the caller: nothing is taken from the cache that is fleeting */
	/* `a` is lent for the call: keep it with dns_answer_get. Never NULL. */
	void (*on_done)(struct dns_query *q, struct dns_answer *a);
	struct dns_answer *answer;
};

/* `name` in any case, with or without a dot at the end; U-labels must have been turned into
 * A-labels. One that cannot be a name ends as DNS_NO_DOMAIN; the root can be, with DNS_SOA. */
void resolver_ask(struct resolver *r, struct dns_query *q, struct span name, enum dns_type type);
void resolver_cancel(struct dns_query *q);
/* An answer that is at hand (cache), with a reference for the caller, or NULL. No question is
 * begun by it. */
struct dns_answer *resolver_peek(struct resolver *r, struct span name, enum dns_type type);

#endif
