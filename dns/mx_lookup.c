/* SPDX-License-Identifier: Apache-2.0
 *
 * The asking half of mx.h: one search a domain, which all who want it at the same time share.
 *
 * A search has one deadline over all its questions. That about a host's TLSA records is asked as
 * soon as its first secure address is known, beside those about the other hosts. Once every host of
 * the best preference has an address, the search waits only a little for the others: a backup whose
 * name server is down must not hold up the mail.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "dns/answer.h"
#include "dns/hosts_file.h"
#include "dns/inside.h"
#include "dns/mx.h"
#include "dns/mx_select.h"
#include "dns/name.h"
#include "dns/text.h"

enum {
	SMTP_PORT = 25,
	TELL_PER_TURN = 256,
	TABLE_SIZE = 1024,
	PATIENCE_MS = 3000,
	DIRECT_MS = 60 * 1000, /* what needed no DNS */
	FAILED_MS = 5000,
	KEY_MAX = DNS_NAME_MAX + 1,
	CANDIDATES_MAX = DNS_SEARCH_MAX + 1,
};

/* What a domain and a name of the configuration are told apart by, in the tag of the cache, and
 * lookups with and without TLSA records. */
static const uint64_t tag_of_hosts = (uint64_t)1 << 63;
static const uint64_t tag_of_dane = (uint64_t)1 << 62;

struct mx_service {
	struct resolver *resolver;
	struct cache *cache; /* struct mx_hosts */
	struct search *table[TABLE_SIZE];
	unsigned searches;
	unsigned searches_max;
	struct list done; /* struct mx_lookup, to be told */
	struct task telling;
	struct mx_hosts made; /* in hand, while a result is made */
	uint8_t text[MX_TEXT_MAX];
};

struct address_pair {
	struct search *search;
	unsigned host; /* in the plan */
	struct dns_query v6;
	struct dns_query v4;
	struct dns_query tlsa; /* or CNAME; by .resolver, whether it was ever asked */
	bool tlsa_under_way;
	struct span tlsa_base; /* of the question in hand */
};

/* The names that are tried, one after the other, for a name of the configuration. */
struct candidates {
	unsigned count;
	unsigned next;
	char names[CANDIDATES_MAX][DNS_NAME_MAX + 1];
};

struct search {
	struct search *next; /* in its bucket */
	struct mx_service *service;
	uint64_t tag;
	char key[KEY_MAX];
	size_t key_size;
	struct list waits; /* struct mx_lookup */
	struct timer timer;
	struct mx_self self; /* a copy; nobody in a host's search */
	struct dns_query mx;
	struct dns_answer *mx_answer;
	struct mx_plan plan;
	unsigned pending;              /* questions */
	struct candidates *candidates; /* NULL: a mail domain */
	struct address_pair *pairs;    /* one a host of the plan; NULL until then */
};

/* ---- results ---- */

struct mx_hosts *
mx_hosts_get(struct mx_hosts *h)
{
	unsigned before = atomic_fetch_add_explicit(&h->references, 1, memory_order_relaxed);

	ASSERT(before > 0);
	return h;
}

void
mx_hosts_put(struct mx_hosts *h)
{
	unsigned before = atomic_fetch_sub_explicit(&h->references, 1, memory_order_acq_rel);

	ASSERT(before > 0);
	if (before > 1)
		return;
	for (unsigned i = 0; i < h->host_count; i++) {
		if (h->hosts[i].tlsa != NULL)
			dns_answer_put(h->hosts[i].tlsa);
	}
	free(h);
}

static void
move_span(struct span *s, const uint8_t *from, uint8_t *to)
{
	if (s->data != NULL)
		s->data = to + (s->data - from);
}

/* What all get where memory is short; its first reference is nobody's. */
static struct mx_hosts no_memory = {
	.references = 1,
	.outcome = MX_FAILED,
	.why = { (const uint8_t *)"no memory for the answer", 24 },
};

/* The result in hand as an object of its own, with one reference. */
static struct mx_hosts *
copy_made(struct mx_service *s, const struct buf *text)
{
	struct mx_hosts *h = malloc(sizeof *h + text->size);

	if (h == NULL)
		return mx_hosts_get(&no_memory);
	uint8_t *place = (uint8_t *)(h + 1);
	*h = s->made;
	atomic_init(&h->references, 1);
	memcpy(place, text->data, text->size);
	move_span(&h->domain, text->data, place);
	move_span(&h->site, text->data, place);
	move_span(&h->why, text->data, place);
	for (unsigned i = 0; i < h->host_count; i++) {
		move_span(&h->hosts[i].name, text->data, place);
		move_span(&h->hosts[i].tlsa_base, text->data, place);
		if (h->hosts[i].tlsa != NULL)
			dns_answer_get(h->hosts[i].tlsa);
	}
	return h;
}

/* Keeps the result in hand under its key, and hands out one reference more. */
static struct mx_hosts *
keep_made(struct mx_service *s, struct span key, uint64_t tag, const struct buf *text)
{
	struct mx_hosts *h = copy_made(s, text);
	size_t bytes = sizeof *h + text->size;

	for (unsigned i = 0; i < h->host_count; i++)
		bytes += h->hosts[i].tlsa != NULL ? answer_bytes(h->hosts[i].tlsa) : 0;
	cache_put(s->cache, key, tag, mx_hosts_get(h), bytes, h->expires_at_ms);
	return h;
}

static void
on_telling(struct task *t)
{
	struct mx_service *s = CONTAINER_OF(t, struct mx_service, telling);
	struct list_node *node;

	for (unsigned i = 0; i < TELL_PER_TURN && (node = list_shift(&s->done)) != NULL; i++) {
		struct mx_lookup *l = LIST_ITEM(node, struct mx_lookup, link);
		struct mx_hosts *h = l->result;

		ASSERT(l->work == s && h != NULL);
		l->work = NULL;
		l->result = NULL;
		l->on_done(l, h);
		mx_hosts_put(h);
	}
	if (!list_is_empty(&s->done))
		worker_soon(s->resolver->worker, &s->telling);
	resolver_maybe_stopped(s->resolver);
}

/* Takes the reference. Told soon, never from here. */
static void
end_lookup(struct mx_lookup *l, struct mx_hosts *h)
{
	struct mx_service *s = l->resolver->mx;

	ASSERT(l->work == s && l->result == NULL);
	list_unlink(&l->link);
	l->result = h;
	list_append(&s->done, &l->link);
	worker_soon(s->resolver->worker, &s->telling);
}

/* ---- a search ---- */

static struct search **
bucket_of(struct mx_service *s, struct span key, uint64_t tag)
{
	return &s->table[span_hash_nocase(key, s->resolver->seed ^ tag) & (TABLE_SIZE - 1)];
}

static struct search *
find_search(struct mx_service *s, struct span key, uint64_t tag)
{
	struct search *q = *bucket_of(s, key, tag);

	while (q != NULL && (q->tag != tag || !span_eq(span_of(q->key, q->key_size), key)))
		q = q->next;
	return q;
}

static void
put_answer(struct dns_answer **a)
{
	if (*a != NULL)
		dns_answer_put(*a);
	*a = NULL;
}

static void
put_answers(struct search *q)
{
	for (unsigned i = 0; i < q->plan.count; i++) {
		struct mx_candidate *c = &q->plan.hosts[i];

		put_answer(&c->v6);
		put_answer(&c->v4);
		put_answer(&c->alias);
		put_answer(&c->tlsa);
	}
}

static void
cancel_questions(struct search *q)
{
	if (q->pending == 0)
		return;
	/* Those that were never asked are idle. */
	if (q->mx.resolver != NULL)
		resolver_cancel(&q->mx);
	for (unsigned i = 0; q->pairs != NULL && i < q->plan.count; i++) {
		if (q->pairs[i].v6.resolver != NULL)
			resolver_cancel(&q->pairs[i].v6);
		if (q->pairs[i].v4.resolver != NULL)
			resolver_cancel(&q->pairs[i].v4);
		if (q->pairs[i].tlsa.resolver != NULL)
			resolver_cancel(&q->pairs[i].tlsa);
	}
	q->pending = 0;
}

static void
free_search(struct search *q)
{
	struct mx_service *s = q->service;
	struct search **at = bucket_of(s, span_of(q->key, q->key_size), q->tag);

	while (*at != q) {
		ASSERT(*at != NULL);
		at = &(*at)->next;
	}
	*at = q->next;
	s->searches--;
	timer_stop(&s->resolver->worker->timers, &q->timer);
	put_answers(q);
	if (q->mx_answer != NULL)
		dns_answer_put(q->mx_answer);
	free((void *)(uintptr_t)q->self.names);
	free((void *)(uintptr_t)q->self.addresses);
	free(q->candidates);
	free(q->pairs);
	free(q);
}

/* Ends the search with the result in hand. */
static void
end_search(struct search *q, const struct buf *text)
{
	struct mx_service *s = q->service;
	struct mx_hosts *h = keep_made(s, span_of(q->key, q->key_size), q->tag, text);
	struct list_node *node;

	while ((node = list_first(&q->waits)) != NULL)
		end_lookup(LIST_ITEM(node, struct mx_lookup, link), mx_hosts_get(h));
	mx_hosts_put(h);
	cancel_questions(q);
	free_search(q);
}

static void
complete(struct search *q)
{
	struct mx_service *s = q->service;
	struct buf text = buf_of(s->text, sizeof s->text);

	mx_select(&q->plan, &q->self, random_u64(), s->resolver->worker->now_ms, &s->made, &text);
	end_search(q, &text);
}

/* ---- addresses ---- */

static bool try_candidate(struct search *q);

/* Has every host of the best preference what it will get, and is there an address? With an open
 * question about its TLSA records a host could not be used. */
static bool
is_best_rank_known(const struct mx_plan *p)
{
	struct mx_question open;
	bool found = false;

	for (unsigned i = 0; i < p->count && p->hosts[i].preference == p->hosts[0].preference;
	     i++) {
		const struct mx_candidate *c = &p->hosts[i];
		if (c->v6 == NULL || c->v4 == NULL || mx_tlsa_next(p, c, &open))
			return false;
		found |= c->v6->outcome == DNS_FOUND || c->v4->outcome == DNS_FOUND;
	}
	return found;
}

/* A name of the configuration goes on to the next that may be meant while there is none such. */
static bool
wants_next_candidate(const struct search *q)
{
	const struct mx_candidate *c = &q->plan.hosts[0];

	return q->candidates != NULL && q->candidates->next < q->candidates->count &&
	       c->v6 != NULL && c->v4 != NULL &&
	       (c->v6->outcome == DNS_NO_DATA || c->v6->outcome == DNS_NO_DOMAIN) &&
	       (c->v4->outcome == DNS_NO_DATA || c->v4->outcome == DNS_NO_DOMAIN);
}

/* The next question about its TLSA records, unless one is under way. */
static void
ask_tlsa(struct search *q, struct address_pair *pair)
{
	uint8_t memory[DNS_NAME_MAX + TLSA_PREFIX_MAX];
	struct buf name = buf_of(memory, sizeof memory);
	struct mx_question next;

	if (pair->tlsa_under_way || !mx_tlsa_next(&q->plan, &q->plan.hosts[pair->host], &next))
		return;
	pair->tlsa_under_way = true;
	pair->tlsa_base = next.base;
	q->pending++;
	if (next.type == DNS_TLSA)
		mx_tlsa_name(next.base, q->plan.port, &name);
	else
		buf_append(&name, next.base);
	resolver_ask(q->service->resolver, &pair->tlsa, buf_span(&name), next.type);
}

/* An answer has come to its place. */
static void
go_on(struct search *q, struct address_pair *pair)
{
	struct worker *w = q->service->resolver->worker;

	ASSERT(q->pending > 0);
	q->pending--;
	ask_tlsa(q, pair);
	if (q->pending == 0) {
		if (!wants_next_candidate(q) || !try_candidate(q))
			complete(q);
		return;
	}
	uint64_t until_ms = w->now_ms + PATIENCE_MS;
	if (is_best_rank_known(&q->plan) && q->timer.deadline_ms > until_ms)
		timer_set(&w->timers, &q->timer, until_ms);
}

static void
on_v6(struct dns_query *query, struct dns_answer *a)
{
	struct address_pair *pair = CONTAINER_OF(query, struct address_pair, v6);

	pair->search->plan.hosts[pair->host].v6 = dns_answer_get(a);
	go_on(pair->search, pair);
}

static void
on_v4(struct dns_query *query, struct dns_answer *a)
{
	struct address_pair *pair = CONTAINER_OF(query, struct address_pair, v4);

	pair->search->plan.hosts[pair->host].v4 = dns_answer_get(a);
	go_on(pair->search, pair);
}

static void
on_tlsa(struct dns_query *query, struct dns_answer *a)
{
	struct address_pair *pair = CONTAINER_OF(query, struct address_pair, tlsa);
	struct mx_candidate *c = &pair->search->plan.hosts[pair->host];
	struct dns_answer **place = query->type == DNS_TLSA ? &c->tlsa : &c->alias;

	ASSERT(pair->tlsa_under_way);
	pair->tlsa_under_way = false;
	put_answer(place);
	*place = dns_answer_get(a);
	if (query->type == DNS_TLSA)
		c->tlsa_base = pair->tlsa_base;
	go_on(pair->search, pair);
}

/* All of them at once; none completes in here. False without memory. */
static bool
ask_addresses(struct search *q)
{
	struct resolver *r = q->service->resolver;

	ASSERT(q->plan.count > 0 && q->pending == 0);
	if (q->pairs == NULL)
		q->pairs = calloc(q->plan.count, sizeof *q->pairs);
	if (q->pairs == NULL)
		return false;
	for (unsigned i = 0; i < q->plan.count; i++) {
		struct address_pair *pair = &q->pairs[i];

		*pair = (struct address_pair){
			.search = q,
			.host = i,
			.v6 = { .on_done = on_v6 },
			.v4 = { .on_done = on_v4 },
			.tlsa = { .on_done = on_tlsa },
		};
		resolver_ask(r, &pair->v6, q->plan.hosts[i].name, DNS_AAAA);
		resolver_ask(r, &pair->v4, q->plan.hosts[i].name, DNS_A);
		q->pending += 2;
	}
	return true;
}

static void
on_mx(struct dns_query *query, struct dns_answer *a)
{
	struct search *q = CONTAINER_OF(query, struct search, mx);

	q->pending--;
	q->mx_answer = dns_answer_get(a);
	mx_plan(&q->plan, span_of(q->key, q->key_size), SMTP_PORT, a, &q->self);
	q->plan.dane = q->plan.mx_secure && (q->tag & tag_of_dane) != 0;
	if (q->plan.outcome == MX_FOUND && ask_addresses(q))
		return;
	if (q->plan.outcome == MX_FOUND) {
		q->plan.outcome = MX_FAILED;
		buf_append_string(&q->plan.why, "no memory");
	}
	complete(q);
}

/* Asks for the next name that may be meant; false where there is none. */
static bool
try_candidate(struct search *q)
{
	struct candidates *all = q->candidates;
	uint16_t port = q->plan.port;

	if (all->next == all->count)
		return false;
	put_answers(q);
	mx_plan_host(&q->plan, span_of_string(all->names[all->next++]), port);
	q->plan.dane = (q->tag & tag_of_dane) != 0;
	return ask_addresses(q);
}

/* What is there by now has to do. */
static void
on_deadline(struct timer *t)
{
	struct search *q = CONTAINER_OF(t, struct search, timer);

	if (q->mx_answer == NULL && q->candidates == NULL) {
		struct dns_answer late = { .outcome = DNS_FAILED,
					   .why = SPAN("no answer in time") };
		mx_plan(&q->plan, span_of(q->key, q->key_size), SMTP_PORT, &late, NULL);
	}
	cancel_questions(q);
	complete(q);
}

/* ---- starting ---- */

static void
begin(struct mx_lookup *l, struct resolver *r)
{
	ASSERT(l->on_done != NULL && l->work == NULL);
	DNS_COUNT(r, DNS_MX_LOOKUPS, 1);
	l->link = (struct list_node){ 0 };
	l->resolver = r;
	l->work = r->mx;
	l->result = NULL;
}

/* A result without a search. */
static void
end_directly(struct mx_lookup *l, struct span key, uint64_t tag, const struct buf *text)
{
	end_lookup(l, keep_made(l->resolver->mx, key, tag, text));
}

static void
refuse(struct mx_lookup *l, enum mx_outcome outcome, struct span domain, struct span why)
{
	struct mx_service *s = l->resolver->mx;
	struct buf text = buf_of(s->text, sizeof s->text);
	uint64_t until_ms = s->resolver->worker->now_ms + FAILED_MS;

	mx_select_none(outcome, span_first(domain, DNS_NAME_MAX), why, until_ms, &s->made, &text);
	end_lookup(l, copy_made(s, &text));
}

static bool
answer_from_cache(struct mx_lookup *l, struct span key, uint64_t tag)
{
	struct mx_service *s = l->resolver->mx;
	struct mx_hosts *h = cache_find(s->cache, key, tag, s->resolver->worker->now_ms);

	if (h == NULL)
		return false;
	DNS_COUNT(s->resolver, DNS_MX_CACHE_HITS, 1);
	end_lookup(l, mx_hosts_get(h));
	return true;
}

static bool
join_search(struct mx_lookup *l, struct span key, uint64_t tag)
{
	struct search *q = find_search(l->resolver->mx, key, tag);

	if (q != NULL)
		list_append(&q->waits, &l->link);
	return q != NULL;
}

/* NULL where there are too many, or no memory. */
static struct search *
new_search(struct mx_lookup *l, struct span key, uint64_t tag)
{
	struct mx_service *s = l->resolver->mx;
	struct worker *worker = s->resolver->worker;
	struct search **bucket = bucket_of(s, key, tag);
	struct search *q = s->searches < s->searches_max ? calloc(1, sizeof *q) : NULL;

	if (q == NULL) {
		DNS_COUNT_LABEL(s->resolver, LIMIT_HITS, LABEL_LIMIT_DNS_WAITING, 1);
		return NULL;
	}
	ASSERT(key.size < KEY_MAX);
	q->next = *bucket;
	q->service = s;
	q->tag = tag;
	q->key_size = key.size;
	memcpy(q->key, key.data, key.size);
	list_init(&q->waits);
	list_append(&q->waits, &l->link);
	timer_init(&q->timer, on_deadline);
	timer_set(&worker->timers, &q->timer, worker->now_ms + s->resolver->deadline_ms);
	*bucket = q;
	s->searches++;
	return q;
}

/* The search outlives the call, and the snapshot that the names are of. One piece of memory each.
 */
static bool
copy_self(struct mx_self *to, const struct mx_self *from)
{
	size_t bytes = from->name_count * sizeof(struct span);

	for (unsigned i = 0; i < from->name_count; i++)
		bytes += from->names[i].size;
	struct span *names = malloc(bytes + 1);
	struct net_address *addresses = calloc(from->address_count + 1, sizeof *addresses);
	*to = (struct mx_self){ .names = names, .addresses = addresses };
	if (names == NULL || addresses == NULL)
		return false;
	uint8_t *place = (uint8_t *)(names + from->name_count);
	for (unsigned i = 0; i < from->name_count; i++) {
		names[i] = span_of(place, from->names[i].size);
		memcpy(place, from->names[i].data, from->names[i].size);
		place += from->names[i].size;
	}
	for (unsigned i = 0; i < from->address_count; i++)
		addresses[i] = from->addresses[i];
	to->name_count = from->name_count;
	to->address_count = from->address_count;
	return true;
}

/* A result depends on who we are, so that is a part of its key: a reload may change it. */
static uint64_t
tag_of_self(const struct mx_self *self)
{
	uint64_t tag = 0;

	for (unsigned i = 0; i < self->name_count; i++)
		tag = span_hash_nocase(self->names[i], tag);
	for (unsigned i = 0; i < self->address_count; i++) {
		uint8_t ip[16];
		size_t size = net_address_ip(&self->addresses[i], ip);
		tag = span_hash_nocase(span_of(ip, size), tag);
	}
	return tag & ~(tag_of_hosts | tag_of_dane);
}

static void
answer_literal(struct mx_lookup *l, struct span domain, const struct mx_self *self)
{
	struct mx_service *s = l->resolver->mx;
	struct buf text = buf_of(s->text, sizeof s->text);
	struct net_address address;

	if (!mx_literal_parse(domain, SMTP_PORT, &address)) {
		refuse(l, MX_NO_HOST, domain, SPAN("is no address literal that is known"));
	} else if (mx_self_has_address(self, &address)) {
		refuse(l, MX_LOOP, domain, SPAN("is an address of this host"));
	} else {
		mx_select_direct(domain, &address, 1, s->resolver->worker->now_ms + DIRECT_MS,
				 &s->made, &text);
		end_lookup(l, copy_made(s, &text));
	}
}

void
mx_lookup_domain(struct mx_lookup *l, struct resolver *r, struct span domain,
		 const struct mx_self *self)
{
	static const struct mx_self nobody = { 0 };
	char name[DNS_NAME_MAX + 1];

	begin(l, r);
	if (self == NULL)
		self = &nobody;
	if (domain.size > 0 && domain.data[0] == '[') {
		answer_literal(l, domain, self);
		return;
	}
	struct span key = span_of(name, name_normalize(domain, name));
	uint64_t tag = tag_of_self(self) | (l->dane ? tag_of_dane : 0);
	if (key.size == 0) {
		refuse(l, MX_NO_DOMAIN, domain, SPAN("is no domain name"));
		return;
	}
	if (answer_from_cache(l, key, tag) || join_search(l, key, tag))
		return;
	struct search *q = new_search(l, key, tag);
	if (q == NULL || !copy_self(&q->self, self)) {
		if (q != NULL) {
			list_unlink(&l->link);
			free_search(q);
		}
		refuse(l, MX_FAILED, key, SPAN("too many lookups"));
		return;
	}
	q->mx.on_done = on_mx;
	q->pending = 1;
	resolver_ask(r, &q->mx, key, DNS_MX);
}

/* ---- names of the configuration ---- */

static void
add_candidate(struct candidates *all, struct span name, const char *suffix)
{
	char memory[2 * DNS_NAME_MAX + 2];
	struct buf text = buf_of(memory, sizeof memory);

	buf_append(&text, name);
	if (suffix != NULL) {
		buf_append_byte(&text, '.');
		buf_append_string(&text, suffix);
	}
	if (all->count < CANDIDATES_MAX &&
	    name_normalize(buf_span(&text), all->names[all->count]) > 0)
		all->count++;
}

/* As resolvers do: a name with a dot is tried as it stands first, one without last, and one with a
 * dot at its end alone. */
static void
add_candidates(const struct resolver *r, struct candidates *all, struct span name)
{
	bool has_dot = span_find(name, '.', 0) < name.size;
	bool is_whole = name.data[name.size - 1] == '.';

	if (has_dot)
		add_candidate(all, name, NULL);
	for (unsigned i = 0; i < r->search_count && !is_whole; i++)
		add_candidate(all, name, r->search[i]);
	if (!has_dot)
		add_candidate(all, name, NULL);
}

static unsigned
find_without_dns(struct resolver *r, struct span name, uint16_t port, struct net_address *out)
{
	if (text_ip(name, port, out))
		return 1;
	if (name.size > 0 && name.data[name.size - 1] == '.')
		name = span_first(name, name.size - 1);
	return hosts_file_find(span_of(r->hosts, r->hosts_size), name, port, out,
			       MX_HOST_ADDRESSES_MAX);
}

static void
search_host(struct mx_lookup *l, struct span key, uint16_t port, uint64_t tag)
{
	struct search *q = new_search(l, key, tag);
	bool has_names = true;

	if (q != NULL) {
		q->plan.port = port;
		q->candidates = calloc(1, sizeof *q->candidates);
		if (q->candidates != NULL) {
			add_candidates(q->service->resolver, q->candidates, key);
			has_names = q->candidates->count > 0;
			if (try_candidate(q))
				return;
		}
		list_unlink(&l->link);
		free_search(q);
	}
	if (has_names)
		refuse(l, MX_FAILED, key, SPAN("too many lookups"));
	else
		refuse(l, MX_NO_DOMAIN, key, SPAN("is no host name"));
}

void
mx_lookup_host(struct mx_lookup *l, struct resolver *r, struct span name, uint16_t port)
{
	struct mx_service *s = r->mx;
	struct net_address addresses[MX_HOST_ADDRESSES_MAX];
	uint8_t lower[DNS_NAME_MAX + 1];
	uint64_t tag = tag_of_hosts | port | (l->dane ? tag_of_dane : 0);

	begin(l, r);
	if (name.size == 0 || name.size > DNS_NAME_MAX) {
		refuse(l, MX_NO_DOMAIN, name, SPAN("is no host name"));
		return;
	}
	for (size_t i = 0; i < name.size; i++)
		lower[i] = ascii_lower(name.data[i]);
	struct span key = span_of(lower, name.size);
	if (answer_from_cache(l, key, tag) || join_search(l, key, tag))
		return;
	unsigned count = find_without_dns(r, key, port, addresses);
	if (count > 0) {
		struct buf text = buf_of(s->text, sizeof s->text);
		mx_select_direct(key, addresses, count, r->worker->now_ms + DIRECT_MS, &s->made,
				 &text);
		end_directly(l, key, tag, &text);
		return;
	}
	search_host(l, key, port, tag);
}

void
mx_lookup_cancel(struct mx_lookup *l)
{
	if (l->work == NULL)
		return;
	/* A search goes on: its result will be wanted again. */
	list_unlink(&l->link);
	if (l->result != NULL)
		mx_hosts_put(l->result);
	l->result = NULL;
	l->work = NULL;
}

/* ---- start and end ---- */

static void
drop_hosts(void *object)
{
	mx_hosts_put(object);
}

struct mx_service *
mx_service_new(struct resolver *r, size_t cache_bytes)
{
	struct mx_service *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->resolver = r;
	/* Each search has a question in line first and several later, which must find room. */
	s->searches_max = r->under_way_max + r->waiting_max / 4;
	s->cache = cache_new(cache_bytes, r->seed, drop_hosts);
	if (s->cache == NULL) {
		free(s);
		return NULL;
	}
	list_init(&s->done);
	task_init(&s->telling, on_telling);
	return s;
}

void
mx_service_free(struct mx_service *s)
{
	if (s == NULL)
		return;
	ASSERT(s->searches == 0 && list_is_empty(&s->done));
	cache_free(s->cache);
	free(s);
}

bool
mx_service_is_idle(const struct mx_service *s)
{
	return s->searches == 0 && list_is_empty(&s->done);
}
