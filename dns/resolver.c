/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>
#include <unbound-event.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "dns/answer.h"
#include "dns/context.h"
#include "dns/inside.h"
#include "dns/name.h"
#include "dns/resolv_conf.h"
#include "dns/unbound.h"

enum {
	TELL_PER_TURN = 256,
	FAILED_MS = 5000,
	CLASS_IN = 1,
	SECURITY_BOGUS = 1, /* what the library's callback says */
	SECURITY_SECURE = 2,
	HOSTS_SIZE_MAX = 1 << 20,
	HINT_MS = 3600 * 1000,
	/* Of cache_bytes; the library has half. */
	ANSWERS_PERCENT = 20,
	RECORDS_PERCENT = 10, /* of SPF */
	HOSTS_PERCENT = 20,   /* of MX */
};

enum query_state { QUERY_IDLE, QUERY_ASKED, QUERY_DONE };

struct question {
	struct question *next; /* in its bucket */
	struct list_node node; /* in line */
	struct list askers;    /* struct dns_query, by deadline */
	struct timer timer;    /* the first one's deadline */
	struct resolver *resolver;
	uint64_t started_us;
	bool is_asked;  /* the library has it */
	bool is_orphan; /* and nobody wants it any more */
	enum dns_type type;
	size_t name_size;
	char name[DNS_NAME_MAX + 1];
};

/* ---- answers are told ---- */

static void
count_answer(struct resolver *r, const struct dns_answer *a)
{
	static const unsigned outcomes[] = {
		[DNS_FOUND] = LABEL_DNS_OUTCOME_FOUND,
		[DNS_NO_DATA] = LABEL_DNS_OUTCOME_NO_DATA,
		[DNS_NO_DOMAIN] = LABEL_DNS_OUTCOME_NO_DOMAIN,
		[DNS_FAILED] = LABEL_DNS_OUTCOME_FAILED,
		[DNS_BOGUS] = LABEL_DNS_OUTCOME_BOGUS,
	};

	DNS_COUNT_LABEL(r, DNS_ANSWERS, outcomes[a->outcome], 1);
	if (a->outcome == DNS_BOGUS)
		DNS_COUNT_LABEL(r, DNS_SECURITY, LABEL_DNS_SECURITY_BOGUS, 1);
	else if (a->outcome != DNS_FAILED)
		DNS_COUNT_LABEL(r, DNS_SECURITY,
				a->security == DNS_SECURE ? LABEL_DNS_SECURITY_SECURE
							  : LABEL_DNS_SECURITY_INSECURE,
				1);
}

/* Takes the reference. Told soon, never from here: this may be inside resolver_ask. */
static void
end_query(struct dns_query *q, struct dns_answer *a)
{
	struct resolver *r = q->resolver;

	ASSERT(q->state == QUERY_ASKED && q->answer == NULL);
	count_answer(r, a);
	list_unlink(&q->link);
	q->state = QUERY_DONE;
	q->answer = a;
	list_append(&r->done, &q->link);
	worker_soon(r->worker, &r->telling);
}

static void pump(struct resolver *r);

static void
on_telling(struct task *t)
{
	struct resolver *r = CONTAINER_OF(t, struct resolver, telling);
	struct list_node *node;

	for (unsigned i = 0; i < TELL_PER_TURN && (node = list_shift(&r->done)) != NULL; i++) {
		struct dns_query *q = LIST_ITEM(node, struct dns_query, link);
		struct dns_answer *a = q->answer;

		ASSERT(q->state == QUERY_DONE);
		q->state = QUERY_IDLE;
		q->answer = NULL;
		q->on_done(q, a);
		dns_answer_put(a);
	}
	pump(r);
	if (!list_is_empty(&r->done))
		worker_soon(r->worker, &r->telling);
	resolver_maybe_stopped(r);
}

void
resolver_maybe_stopped(struct resolver *r)
{
	void (*on_stopped)(void *context) = r->on_stopped;

	if (!r->stopping || !r->unbound_stopped || !list_is_empty(&r->done) ||
	    !mx_service_is_idle(r->mx) || !spf_service_is_idle(r->spf) || on_stopped == NULL)
		return;
	r->on_stopped = NULL;
	on_stopped(r->stop_context);
}

/* ---- questions ---- */

static struct question **
bucket_of(struct resolver *r, struct span name, enum dns_type type)
{
	return &r->table[span_hash_nocase(name, r->seed + type) & r->table_mask];
}

static struct question *
find_question(struct resolver *r, struct span name, enum dns_type type)
{
	struct question *q = *bucket_of(r, name, type);

	while (q != NULL && (q->type != type || !span_eq(span_of(q->name, q->name_size), name)))
		q = q->next;
	return q;
}

static void
show_numbers(struct resolver *r)
{
	DNS_GAUGE(r, DNS_UNDER_WAY, r->under_way);
	DNS_GAUGE(r, DNS_WAITING, r->waiting);
	DNS_GAUGE(r, DNS_CACHE_BYTES, cache_bytes(r->answers));
}

static void
set_orphan(struct question *q, bool is_orphan)
{
	struct resolver *r = q->resolver;

	ASSERT(q->is_asked || !is_orphan);
	ASSERT(is_orphan || !q->is_orphan || r->orphans > 0);
	if (is_orphan && !q->is_orphan)
		r->orphans++;
	else if (!is_orphan && q->is_orphan)
		r->orphans--;
	q->is_orphan = is_orphan;
}

/* May the library have one more? */
static bool
has_place(const struct resolver *r)
{
	unsigned beside = ORPHANS_PER_PLACE * r->under_way_max;

	if (r->orphans < beside)
		beside = r->orphans;
	return r->under_way - beside < r->under_way_max;
}

/* Takes it out of everything. Nobody asks any more, and the library has not got it. */
static void
drop_question(struct question *q)
{
	struct resolver *r = q->resolver;
	struct question **at = bucket_of(r, span_of(q->name, q->name_size), q->type);

	ASSERT(list_is_empty(&q->askers));
	while (*at != q) {
		ASSERT(*at != NULL);
		at = &(*at)->next;
	}
	*at = q->next;
	set_orphan(q, false);
	if (q->is_asked) {
		ASSERT(r->under_way > 0);
		r->under_way--;
	} else {
		ASSERT(r->waiting > 0);
		list_unlink(&q->node);
		r->waiting--;
	}
	if (!r->freeing)
		timer_stop(&r->worker->timers, &q->timer);
	pool_put(&r->pool, q);
}

static void
log_failure(const struct question *q, const struct dns_answer *a)
{
	struct worker *w = q->resolver->worker;

	if (w->log == NULL)
		return;
	event_dns_failed(w->log, &(struct event_dns_failed){
					 .name = q->name_size == 0 ? SPAN(".")
								   : span_of(q->name, q->name_size),
					 .type = span_of_string(dns_type_text(q->type)),
					 .outcome = span_of_string(dns_outcome_label(a->outcome)),
					 .why = a->why,
					 .duration = (clock_monotonic_us() - q->started_us) / 1000,
				 });
}

/* Forwarders that drop DNSSEC records make everything bogus that is below a signed zone. That needs
 * a hint beyond the single questions. */
static void
hint_at_forwarders(struct resolver *r, const struct dns_answer *a)
{
	struct worker *w = r->worker;

	if (w->log == NULL || a->outcome != DNS_BOGUS || w->now_ms < r->hint_at_ms ||
	    memmem(a->why.data, a->why.size, "trust anchor", 12) == NULL)
		return;
	r->hint_at_ms = w->now_ms + HINT_MS;
	event_problem(w->log,
		      &(struct event_problem){
			      .what = SPAN("validate answers of DNS (DNSSEC)"),
			      .error = a->why,
			      .remedy = SPAN("name resolvers in dns.forwarders that hand on "
					     "DNSSEC records, or none; or give up validation "
					     "with dns.trust_anchors: none"),
		      });
}

static void
tell_askers(struct question *q, struct dns_answer *a)
{
	struct list_node *node;

	while ((node = list_first(&q->askers)) != NULL)
		end_query(LIST_ITEM(node, struct dns_query, link), dns_answer_get(a));
}

/* The library is done with it. Takes the reference. */
static void
finish(struct question *q, struct dns_answer *a)
{
	struct resolver *r = q->resolver;

	ASSERT(q->is_asked);
	if (r->worker->metrics != NULL)
		METRIC_OBSERVE(r->worker->metrics, DNS_TIME, clock_monotonic_us() - q->started_us);
	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		log_failure(q, a);
	hint_at_forwarders(r, a);
	tell_askers(q, a);
	share_answer(r, span_of(q->name, q->name_size), q->type, a);
	cache_put(r->answers, span_of(q->name, q->name_size), q->type, a, answer_bytes(a),
		  a->expires_at_ms);
	drop_question(q);
	show_numbers(r);
	worker_soon(r->worker, &r->telling); /* who waits in line can go on */
}

static struct dns_answer *
make_answer(struct question *q, unsigned rcode, struct span in, int security, const char *why_bogus)
{
	struct resolver *r = q->resolver;
	struct answer_source from = {
		.name = span_of(q->name, q->name_size),
		.type = q->type,
		.rcode = rcode,
		.packet = in,
		.is_secure = security == SECURITY_SECURE,
		.is_bogus = security == SECURITY_BOGUS,
		.why_bogus = span_of_string(why_bogus),
	};

	return answer_read(&from, r->worker->now_ms, &r->packet);
}

/* The library calls this once for a question, also from inside ub_resolve_event. */
static void
on_result(void *context, int rcode, void *packet, int packet_size, int security, char *why_bogus,
	  int was_limited)
{
	struct question *q = context;
	struct span in = span_none();

	(void)was_limited;
	if (q->resolver->freeing) {
		drop_question(q);
		return;
	}
	/* With an error there is no packet, whatever its size says (measured with 1.17). */
	if (rcode == 0 && packet != NULL && packet_size > 0)
		in = span_of(packet, (size_t)packet_size);
	finish(q, make_answer(q, (unsigned)rcode, in, security, why_bogus));
}

/* Gives it to the library; it may be answered, and gone, when this returns. */
static void
ask_library(struct question *q)
{
	struct resolver *r = q->resolver;

	q->is_asked = true;
	r->under_way++;
	const char *name = q->name_size == 0 ? "." : q->name;
	int failed = ub_resolve_event(r->context, name, (int)q->type, CLASS_IN, q, on_result, NULL);
	if (failed == 0)
		return;
	struct span why = span_of_string(ub_strerror(failed));
	finish(q, answer_without(DNS_FAILED, span_of(q->name, q->name_size), why,
				 r->worker->now_ms + FAILED_MS));
}

static struct list_node *
next_in_line(struct resolver *r)
{
	struct list_node *node = list_shift(&r->urgent);

	return node != NULL ? node : list_shift(&r->line);
}

static void
pump(struct resolver *r)
{
	struct list_node *node;

	if (r->stopping)
		return;
	while (has_place(r) && (node = next_in_line(r)) != NULL) {
		ASSERT(r->waiting > 0);
		r->waiting--;
		ask_library(LIST_ITEM(node, struct question, node));
	}
	show_numbers(r);
}

static void
end_late_askers(struct question *q)
{
	struct resolver *r = q->resolver;
	struct span name = span_of(q->name, q->name_size);
	struct dns_answer *a = answer_without(DNS_FAILED, name, SPAN("no answer in time"), 0);
	struct list_node *node;

	log_failure(q, a);
	while ((node = list_first(&q->askers)) != NULL) {
		struct dns_query *query = LIST_ITEM(node, struct dns_query, link);

		if (query->deadline_ms > r->worker->now_ms)
			break;
		DNS_COUNT_LABEL(r, TIMEOUTS, LABEL_TIMEOUT_DNS, 1);
		end_query(query, dns_answer_get(a));
	}
	dns_answer_put(a);
}

static void
on_deadline(struct timer *t)
{
	struct question *q = CONTAINER_OF(t, struct question, timer);
	struct resolver *r = q->resolver;

	end_late_askers(q);
	struct list_node *first = list_first(&q->askers);
	if (first != NULL)
		timer_set(&r->worker->timers, &q->timer,
			  LIST_ITEM(first, struct dns_query, link)->deadline_ms);
	else if (q->is_asked)
		set_orphan(q, true);
	else
		drop_question(q);
	/* Its place is free; not for one whose own deadline is in this turn, too. */
	worker_soon(r->worker, &r->telling);
	show_numbers(r);
}

/* A new question, in line; NULL where there is no place. */
static struct question *
new_question(struct resolver *r, struct span name, enum dns_type type)
{
	struct question **bucket = bucket_of(r, name, type);
	bool full = r->waiting >= r->waiting_max && !has_place(r);
	struct question *q = full ? NULL : pool_get(&r->pool);

	if (q == NULL) {
		DNS_COUNT_LABEL(r, LIMIT_HITS, LABEL_LIMIT_DNS_WAITING, 1);
		return NULL;
	}
	*q = (struct question){
		.next = *bucket,
		.resolver = r,
		.started_us = clock_monotonic_us(),
		.type = type,
		.name_size = name.size,
	};
	memcpy(q->name, name.data, name.size);
	list_init(&q->askers);
	timer_init(&q->timer, on_deadline);
	*bucket = q;
	/* What follows an MX answer goes first, so that of many domains the early ones are complete
	 * early, instead of all at the end. */
	list_append(type == DNS_MX ? &r->line : &r->urgent, &q->node);
	r->waiting++;
	return q;
}

static void
join_question(struct resolver *r, struct dns_query *query, struct span name)
{
	struct question *q = find_question(r, name, query->type);

	if (q != NULL)
		DNS_COUNT(r, DNS_JOINED, 1);
	else
		q = new_question(r, name, query->type);
	if (q == NULL) {
		end_query(query,
			  answer_without(DNS_FAILED, name, SPAN("too many questions wait"), 0));
		return;
	}
	if (list_is_empty(&q->askers))
		timer_set(&r->worker->timers, &q->timer, query->deadline_ms);
	set_orphan(q, false);
	list_append(&q->askers, &query->link);
	pump(r);
}

void
resolver_ask(struct resolver *r, struct dns_query *q, struct span name, enum dns_type type)
{
	static const unsigned types[] = {
		[DNS_A] = LABEL_DNS_TYPE_A,       [DNS_CNAME] = LABEL_DNS_TYPE_CNAME,
		[DNS_PTR] = LABEL_DNS_TYPE_PTR,   [DNS_MX] = LABEL_DNS_TYPE_MX,
		[DNS_SOA] = LABEL_DNS_TYPE_SOA,   [DNS_TXT] = LABEL_DNS_TYPE_TXT,
		[DNS_AAAA] = LABEL_DNS_TYPE_AAAA, [DNS_TLSA] = LABEL_DNS_TYPE_TLSA,
	};

	OBJ_CHECK(r, RESOLVER_MAGIC);
	ASSERT(q->state != QUERY_ASKED && q->state != QUERY_DONE && q->on_done != NULL);
	DNS_COUNT_LABEL(r, DNS_QUESTIONS, types[type], 1);
	q->link = (struct list_node){ 0 };
	q->resolver = r;
	q->type = type;
	q->deadline_ms = r->worker->now_ms + r->deadline_ms;
	q->state = QUERY_ASKED;
	q->answer = NULL;
	struct span normal = span_of(q->name, name_normalize(name, q->name));
	if (normal.size == 0 && (type != DNS_SOA || !span_eq(name, SPAN(".")))) {
		end_query(q, answer_without(DNS_NO_DOMAIN, span_none(), SPAN("is no name"), 0));
		return;
	}
	struct dns_answer *known = cache_find(r->answers, normal, type, r->worker->now_ms);
	if (known != NULL && !(q->is_strict && known->is_fleeting)) {
		DNS_COUNT(r, DNS_CACHE_HITS, 1);
		end_query(q, dns_answer_get(known));
	} else if (r->stopping) {
		end_query(q, answer_without(DNS_FAILED, normal, SPAN("shutting down"), 0));
	} else {
		join_question(r, q, normal);
	}
}

void
resolver_cancel(struct dns_query *q)
{
	struct resolver *r = q->resolver;

	if (q->state == QUERY_IDLE)
		return;
	list_unlink(&q->link);
	if (q->state == QUERY_DONE) {
		dns_answer_put(q->answer);
		q->answer = NULL;
	} else {
		struct question *question = find_question(r, span_of_string(q->name), q->type);
		ASSERT(question != NULL);
		if (list_is_empty(&question->askers) && question->is_asked) {
			timer_stop(&r->worker->timers, &question->timer);
			set_orphan(question, true);
			worker_soon(r->worker, &r->telling); /* its place is free */
		} else if (list_is_empty(&question->askers)) {
			drop_question(question);
		}
	}
	q->state = QUERY_IDLE;
	show_numbers(r);
}

struct dns_answer *
resolver_peek(struct resolver *r, struct span name, enum dns_type type)
{
	char normal[DNS_NAME_MAX + 1];
	size_t size = name_normalize(name, normal);

	if (size == 0)
		return NULL;
	struct dns_answer *a =
		cache_find(r->answers, span_of(normal, size), type, r->worker->now_ms);
	return a == NULL ? NULL : dns_answer_get(a);
}

/* ---- start and end ---- */

static bool
read_hosts(struct resolver *r, const char *path, struct buf *why)
{
	FILE *f;

	if (path == NULL)
		return true;
	f = fopen(path, "re");
	if (f == NULL) {
		buf_printf(why,
			   "dns.hosts_file: %s: %s; name a file that can be read, or write "
			   "none",
			   path, strerror(errno));
		return false;
	}
	r->hosts = malloc(HOSTS_SIZE_MAX);
	if (r->hosts != NULL)
		r->hosts_size = fread(r->hosts, 1, HOSTS_SIZE_MAX, f);
	bool good = r->hosts != NULL && r->hosts_size < HOSTS_SIZE_MAX && !ferror(f);
	fclose(f);
	if (!good) {
		buf_printf(why,
			   "dns.hosts_file: %s cannot be read or has more than 1 MiB; name a "
			   "smaller one",
			   path);
		return false;
	}
	char *fitting = realloc(r->hosts, r->hosts_size + 1);
	if (fitting != NULL)
		r->hosts = fitting;
	return true;
}

static bool
copy_search(struct resolver *r, const struct resolver_options *options, struct buf *why)
{
	ASSERT(options->search_count <= DNS_SEARCH_MAX);
	for (unsigned i = 0; i < options->search_count; i++) {
		if (name_normalize(options->search[i], r->search[i]) > 0)
			continue;
		buf_printf(why, "dns.search: %.*s is no domain; write one such as example.org",
			   SPAN_ARG(options->search[i]));
		return false;
	}
	r->search_count = options->search_count;
	return true;
}

static void
drop_answer(void *object)
{
	dns_answer_put(object);
}

/* The parts of ours; the library's comes last. */
static bool
set_up(struct resolver *r, const struct resolver_options *options, unsigned worker_count,
       const struct context_share *share)
{
	uint64_t percent = options->cache_bytes / worker_count / 100;
	size_t buckets = 64;

	r->deadline_ms = options->deadline_ms;
	r->validates = options->trust_anchors != NULL;
	r->under_way_max = share->queries_max;
	r->waiting_max = options->waiting_max / worker_count;
	pool_init(&r->pool, sizeof(struct question),
		  (size_t)r->under_way_max * (1 + ORPHANS_PER_PLACE) + r->waiting_max);
	while (buckets < r->under_way_max + r->waiting_max / 4)
		buckets *= 2;
	r->table_mask = buckets - 1;
	r->table = calloc(buckets, sizeof(struct question *));
	r->answers = cache_new(percent * ANSWERS_PERCENT, r->seed, drop_answer);
	r->mx = mx_service_new(r, percent * HOSTS_PERCENT);
	r->spf = spf_service_new(r, percent * RECORDS_PERCENT);
	r->unbound = unbound_new(r->worker, 4 * ((size_t)share->sockets + share->streams) + 64);
	return r->table != NULL && r->answers != NULL && r->mx != NULL && r->spf != NULL &&
	       r->unbound != NULL;
}

struct resolver *
resolver_new(struct worker *w, const struct resolver_options *options, unsigned worker_count,
	     struct buf *why)
{
	struct resolver *r = calloc(1, sizeof *r);
	struct context_share share = context_share(options, worker_count);
	struct resolver_options own;

	if (r == NULL) {
		buf_append_string(why, "dns: no memory for a resolver; use fewer workers");
		return NULL;
	}
	OBJ_INIT(r, RESOLVER_MAGIC);
	r->worker = w;
	r->seed = random_u64();
	context_forwarders(options, &own);
	list_init(&r->line);
	list_init(&r->urgent);
	list_init(&r->done);
	task_init(&r->telling, on_telling);
	if (!set_up(r, options, worker_count, &share))
		buf_append_string(why, "dns: no memory for a resolver; use fewer workers");
	else if (read_hosts(r, options->hosts_file, why) && copy_search(r, options, why))
		r->context = context_new(r->unbound, &own, &share, why);
	if (r->context != NULL)
		return r;
	resolver_free(r);
	return NULL;
}

static void
on_unbound_stopped(void *context)
{
	struct resolver *r = context;

	r->unbound_stopped = true;
	resolver_maybe_stopped(r);
}

void
resolver_stop(struct resolver *r, void (*on_stopped)(void *context), void *context)
{
	struct dns_answer *a = answer_without(DNS_FAILED, span_none(), SPAN("shutting down"), 0);

	OBJ_CHECK(r, RESOLVER_MAGIC);
	ASSERT(!r->stopping);
	proof_stop(r);
	r->stopping = true;
	r->on_stopped = on_stopped;
	r->stop_context = context;
	for (size_t i = 0; i <= r->table_mask; i++) {
		struct question *next;
		for (struct question *q = r->table[i]; q != NULL; q = next) {
			next = q->next;
			tell_askers(q, a);
			timer_stop(&r->worker->timers, &q->timer);
			if (!q->is_asked)
				drop_question(q);
		}
	}
	dns_answer_put(a);
	show_numbers(r);
	unbound_stop(r->unbound, on_unbound_stopped, r);
}

void
resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	OBJ_CHECK(r, RESOLVER_MAGIC);
	ASSERT(list_is_empty(&r->done));
	r->freeing = true;
	/* It calls back for some of what is open, not for all. */
	context_free(r->context);
	for (size_t i = 0; r->table != NULL && i <= r->table_mask; i++) {
		while (r->table[i] != NULL)
			drop_question(r->table[i]);
	}
	unbound_free(r->unbound);
	proof_free(r);
	mx_service_free(r->mx);
	spf_service_free(r->spf);
	cache_free(r->answers);
	pool_fini(&r->pool);
	free(r->table);
	free(r->hosts);
	OBJ_FINI(r, RESOLVER_MAGIC);
	free(r);
}

bool
resolver_validates(const struct resolver *r, struct buf *why)
{
	if (!r->validates)
		buf_append_string(why, "there are no trust anchors (dns.trust_anchors)");
	return r->validates;
}
