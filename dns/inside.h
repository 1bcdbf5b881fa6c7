/* SPDX-License-Identifier: Apache-2.0
 *
 * inside: what the resolver and the lookups of hosts share. Inside of dns/ only.
 *
 * A question is one name and type that the library works on or that waits in line; all who ask the
 * same meanwhile join it. The library cannot be made to give up: ub_cancel only suppresses the
 * callback, and the question goes on inside for as long as servers can be tried. So a question
 * whose askers have all gone (by deadline or cancel) becomes an orphan: it gives its place to
 * another, stays counted until the library is done with it, and its late answer is still worth
 * remembering. There are at most ORPHANS_PER_PLACE as many orphans as places; those beyond keep
 * their places, which is what bounds the library.
 */
#ifndef DNS_INSIDE_H
#define DNS_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/base/pool.h"
#include "core/log.h"
#include "core/metric.h"
#include "core/worker.h"
#include "dns/cache.h"
#include "dns/packet.h"
#include "dns/resolver.h"

struct mx_service;
struct question;
struct spf_service;
struct ub_ctx;
struct unbound;

struct resolver {
	uint32_t magic;
	struct worker *worker;
	struct unbound *unbound;
	struct ub_ctx *context;
	uint64_t deadline_ms; /* of a lookup, from its beginning */
	bool validates;
	uint64_t hint_at_ms; /* not before: that forwarders drop DNSSEC records */

	struct pool pool; /* struct question */
	struct question **table;
	size_t table_mask;
	uint64_t seed;
	unsigned under_way; /* questions that the library has, orphans too */
	unsigned orphans;
	unsigned under_way_max;
	struct list line;   /* struct question, oldest first: those for MX */
	struct list urgent; /* all others, which go first */
	unsigned waiting;
	unsigned waiting_max;

	struct proof *proof; /* proof.c; NULL: nobody asked for one */

	struct list done; /* struct dns_query, to be told */
	struct task telling;
	struct cache *answers;
	struct mx_service *mx;
	struct spf_service *spf;

	/* For names of the configuration. */
	char *hosts; /* the text of the file */
	size_t hosts_size;
	char search[DNS_SEARCH_MAX][DNS_NAME_MAX + 1];
	unsigned search_count;

	bool stopping;
	bool unbound_stopped;
	bool freeing; /* the library is being deleted */
	void (*on_stopped)(void *context);
	void *stop_context;

	struct packet packet; /* in hand, within one callback of the library */
};

#define RESOLVER_MAGIC 0x52534c56u

#define DNS_COUNT(r, name, n)                                      \
	do {                                                       \
		if ((r)->worker->metrics != NULL)                  \
			METRIC_ADD((r)->worker->metrics, name, n); \
	} while (0)
#define DNS_COUNT_LABEL(r, name, label, n)                                      \
	do {                                                                    \
		if ((r)->worker->metrics != NULL)                               \
			METRIC_ADD_LABEL((r)->worker->metrics, name, label, n); \
	} while (0)
#define DNS_GAUGE(r, name, value)                                      \
	do {                                                           \
		if ((r)->worker->metrics != NULL)                      \
			METRIC_SET((r)->worker->metrics, name, value); \
	} while (0)

/* Has everything that was to be told been told? Then the stop is complete. */
void resolver_maybe_stopped(struct resolver *r);

/* share.c: tells the other workers what the library has answered. */
void share_answer(struct resolver *r, struct span name, enum dns_type type, struct dns_answer *a);

/* proof.c */
void proof_stop(struct resolver *r);
void proof_free(struct resolver *r);

/* mx_lookup.c; NULL without memory. */
struct mx_service *mx_service_new(struct resolver *r, size_t cache_bytes);
void mx_service_free(struct mx_service *s);
bool mx_service_is_idle(const struct mx_service *s);

/* spf_check.c; NULL without memory. */
struct spf_service *spf_service_new(struct resolver *r, size_t cache_bytes);
void spf_service_free(struct spf_service *s);
bool spf_service_is_idle(const struct spf_service *s);

#endif
