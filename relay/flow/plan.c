/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/plan.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "tls/dane.h"

enum { NUMBER_MAX = 128 };

uint64_t
plan_hash(enum site_kind kind, struct span name)
{
	return span_hash_nocase(name, (uint64_t)kind);
}

struct span
plan_hosts_of_name(struct span name)
{
	/* Neither a host name nor the text of a route has a blank. */
	return span_first(name, span_find(name, ' ', 0));
}

static struct span
keep(struct buf *texts, struct span text)
{
	size_t at = texts->size;

	buf_append(texts, text);
	ASSERT(!texts->overflow);
	return span_of(texts->data + at, text.size);
}

static size_t
policy_size(const struct tls_policy *p)
{
	return p->domain.size + p->policy_id.size + p->fingerprint_count * TLS_FINGERPRINT_SIZE;
}

/* What a policy points to lives in the plan. */
static void
keep_policy(struct plan *plan, const struct tls_policy *p, struct buf *texts)
{
	struct span prints = span_of(p->fingerprints, p->fingerprint_count * TLS_FINGERPRINT_SIZE);

	plan->policy = *p;
	plan->policy.domain = keep(texts, p->domain);
	plan->policy.policy_id = keep(texts, p->policy_id);
	plan->policy.fingerprints =
		(const uint8_t(*)[TLS_FINGERPRINT_SIZE])keep(texts, prints).data;
}

void
plan_key(const struct tls_policy *policy, struct span auth, struct buf *out)
{
	tls_policy_key(policy, out);
	if (auth.size > 0) {
		buf_append_string(out, " auth=");
		buf_append(out, auth);
	}
}

/* Room for hosts and for text behind them. */
static struct plan *
plan_new(enum site_kind kind, struct span hosts_name, const struct tls_policy *policy,
	 struct span auth, unsigned hosts, size_t text, struct buf *texts)
{
	uint8_t memory[PLAN_KEY_MAX];
	struct buf key = buf_of(memory, sizeof memory);
	size_t at = sizeof(struct plan) + hosts * sizeof(struct plan_host);

	plan_key(policy, auth, &key);
	ASSERT(!key.overflow);
	size_t room = hosts_name.size + key.size + policy_size(policy) + auth.size + text;
	struct plan *p = calloc(1, at + room);
	if (p == NULL)
		return NULL;
	atomic_init(&p->references, 1);
	p->kind = kind;
	*texts = buf_of((uint8_t *)p + at, room);
	buf_append(texts, hosts_name);
	buf_append(texts, buf_span(&key));
	p->name = buf_span(texts);
	p->hash = plan_hash(kind, p->name);
	keep_policy(p, policy, texts);
	p->auth = keep(texts, auth);
	return p;
}

/* ---- TLSA records ---- */

bool
plan_wants_tlsa(const struct tls_policy *policy)
{
	if (policy->source == TLS_BY_MAIL)
		return false;
	return policy->level == TLS_DANE || policy->source != TLS_BY_ROUTE;
}

static enum tls_level
level_by_policy(const struct tls_policy *policy, const struct plan_host *h, enum tls_source *source)
{
	*source = policy->source;
	if (policy->source == TLS_BY_ROUTE)
		return policy->level;
	if (h->dane == DANE_USABLE || (h->dane == DANE_UNUSABLE && policy->level < TLS_ENCRYPT)) {
		*source = TLS_BY_DANE;
		return h->dane == DANE_USABLE ? TLS_DANE : TLS_ENCRYPT;
	}
	if (*source == TLS_BY_DANE)
		*source = TLS_BY_DEFAULT;
	return policy->level;
}

enum tls_level
plan_host_level(const struct tls_policy *policy, const struct plan_host *h, enum tls_source *source)
{
	enum tls_level level = level_by_policy(policy, h, source);

	if (policy->need != TLS_NEED_REQUIRED || level >= TLS_VERIFY || h->is_local)
		return level;
	*source = TLS_BY_MAIL;
	return TLS_VERIFY;
}

/* Memory for the records of all hosts of a plan; what is left of it. */
struct records {
	struct tlsa *all; /* NULL: there are none, or no memory */
	size_t taken;
	struct buf data;
};

static void
measure_records(const struct mx_hosts *found, size_t *count, size_t *bytes)
{
	for (unsigned i = 0; i < found->host_count; i++) {
		const struct dns_answer *a = found->hosts[i].tlsa;
		for (unsigned n = 0; a != NULL && n < a->count; n++) {
			*count += 1;
			*bytes += a->records[n].data.size;
		}
	}
}

/* False: no memory. */
static bool
make_room(struct records *r, size_t count, size_t bytes)
{
	*r = (struct records){ 0 };
	if (count == 0)
		return true;
	r->all = malloc(count * sizeof *r->all + bytes);
	if (r->all == NULL)
		return false;
	r->data = buf_of((uint8_t *)(r->all + count), bytes);
	return true;
}

/* What is known of a host, into all that is the same for each of its addresses. */
static void
take_records(struct records *r, const struct mx_host *from, struct plan_host *to)
{
	struct tlsa *first = r->all == NULL ? NULL : r->all + r->taken;

	to->dane = dane_select(from->tlsa, first, &to->record_count);
	to->records = to->record_count == 0 ? NULL : first;
	r->taken += to->record_count;
	for (size_t i = 0; i < to->record_count; i++)
		first[i].data = keep(&r->data, first[i].data);
}

static void
say_why(struct buf *why, struct span name, const char *reason, struct span more)
{
	if (why == NULL)
		return;
	buf_append_string(why, why->size > 0 ? "; " : "");
	buf_append(why, span_first(name, buf_room(why)));
	buf_append_string(why, ": ");
	buf_append(why, span_first(span_of_string(reason), buf_room(why)));
	buf_append(why, span_first(more, buf_room(why)));
}

/* True where the host must be left out for its TLSA records, or the lack of them. */
static bool
is_barred_by_dane(const struct tls_policy *policy, const struct plan_host *h,
		  const struct dns_answer *a, struct buf *why)
{
	static const char *const reasons[] = {
		[DANE_NOT_ASKED] = "there is no address of it that DNSSEC secures, so TLSA records "
				   "would prove nothing",
		[DANE_NONE] = "it has no TLSA records",
		[DANE_UNUSABLE] = "none of its TLSA records can be used",
		[DANE_FAILED] = "its TLSA records could not be had: ",
	};

	if (!plan_wants_tlsa(policy) ||
	    (h->dane != DANE_FAILED && (policy->level != TLS_DANE || h->dane == DANE_USABLE)))
		return false;
	say_why(why, h->name, reasons[h->dane], h->dane == DANE_FAILED ? a->why : span_none());
	return true;
}

/* Likewise for what the mail requires (RFC 8689 4.2.1). That its certificate bears the host's name
 * proves nothing where anybody may have chosen that name. */
static bool
is_barred_by_need(const struct tls_policy *policy, const struct plan_host *h, bool name_is_trusted,
		  struct buf *why)
{
	if (policy->need != TLS_NEED_REQUIRED || h->is_local)
		return false;
	if (policy->level == TLS_NONE)
		say_why(why, h->name, "the route rules TLS out, which the mail requires",
			span_none());
	else if (!name_is_trusted && policy->level != TLS_FINGERPRINT)
		say_why(why, h->name,
			"the mail requires TLS, and neither DNSSEC nor MTA-STS vouches for this "
			"host's name",
			span_none());
	else
		return false;
	return true;
}

/* Whose MX host it is says the DNS, unless it is the domain itself. */
static bool
name_is_trusted(const struct mx_hosts *found, const struct tls_policy *policy)
{
	return found->mx_secure || found->is_implicit || found->is_literal ||
	       (policy->source == TLS_BY_STS && !policy->testing);
}

/* DANE is a part of the policy wherever a host has records or, as far as is known, may have: only
 * then is the site another than that of domains whose way to the same hosts is not secure. */
static void
add_dane(struct tls_policy *policy, const struct plan_host *h)
{
	if (!plan_wants_tlsa(policy))
		return;
	policy->dane |=
		h->dane == DANE_USABLE || h->dane == DANE_UNUSABLE || h->dane == DANE_FAILED;
	if (policy->dane && policy->source == TLS_BY_DEFAULT)
		policy->source = TLS_BY_DANE;
}

/* ---- plans ---- */

/* With DANE-TA a certificate may also have the domain's name, so the domain is a part of the site:
 * one with another domain's certificate must not be given its mail (RFC 7672 3.2.2). */
static void
add_domain(struct tls_policy *policy, const struct plan_host *h, struct span domain)
{
	if (!policy->dane || !dane_needs_name(h->records, h->record_count))
		return;
	policy->dane_names = true;
	policy->domain = domain;
}

static void
add_mx_hosts(struct plan *p, const struct mx_hosts *found, const struct plan_host *known,
	     struct buf *texts, struct buf *why)
{
	struct span names[MX_HOSTS_MAX], bases[MX_HOSTS_MAX];
	bool barred[MX_HOSTS_MAX];
	bool is_trusted = name_is_trusted(found, &p->policy);
	uint8_t rank = 0;

	for (unsigned i = 0; i < found->host_count; i++) {
		names[i] = keep(texts, found->hosts[i].name);
		bases[i] = keep(texts, known[i].base);
		barred[i] = is_barred_by_dane(&p->policy, &known[i], found->hosts[i].tlsa, why) ||
			    is_barred_by_need(&p->policy, &known[i], is_trusted, why);
		p->uncertain |= barred[i] && known[i].dane == DANE_FAILED;
	}
	for (unsigned i = 0; i < found->address_count; i++) {
		unsigned host = found->host_of[i];
		const struct mx_host *from = &found->hosts[host];
		if (i > 0 && from->preference != found->hosts[found->host_of[i - 1]].preference)
			rank++;
		if (barred[host])
			continue;
		struct plan_host *to = &p->hosts[p->host_count++];
		*to = known[host];
		to->address = found->addresses[i];
		to->name = names[host];
		to->base = bases[host];
		to->rank = rank;
	}
}

struct plan *
plan_of_mx(const struct mx_hosts *found, const struct tls_policy *policy, struct buf *why)
{
	struct tls_policy own = *policy;
	struct plan_host known[MX_HOSTS_MAX];
	size_t text = 0, count = 0, bytes = 0;
	struct records records;
	struct buf texts;

	ASSERT(found->outcome == MX_FOUND && found->address_count <= PLAN_HOSTS_MAX);
	measure_records(found, &count, &bytes);
	if (!make_room(&records, count, bytes))
		return NULL;
	for (unsigned i = 0; i < found->host_count; i++) {
		const struct mx_host *host = &found->hosts[i];
		known[i] = (struct plan_host){
			.name = host->name,
			.base = host->tlsa_base.size > 0 ? host->tlsa_base : host->name,
			.secure = found->mx_secure && host->addresses_secure,
		};
		text += known[i].name.size + known[i].base.size;
		take_records(&records, host, &known[i]);
		add_dane(&own, &known[i]);
		add_domain(&own, &known[i], found->domain);
	}
	struct plan *p = plan_new(SITE_SMTP, found->site, &own, span_none(), found->address_count,
				  text, &texts);
	if (p == NULL) {
		free(records.all);
		return NULL;
	}
	p->by_mx = true;
	p->mx_secure = found->mx_secure;
	p->records = records.all;
	add_mx_hosts(p, found, known, &texts, why);
	return p;
}

/* What is known of a route's host, but for its addresses. */
static struct plan_host
know_host(const struct config_host *host, const struct mx_hosts *found, struct records *records)
{
	struct plan_host h = { .name = host->name, .base = host->name, .implicit = host->tls };

	if (found == NULL || found->outcome != MX_FOUND)
		return h;
	ASSERT(found->host_count == 1);
	h.secure = found->hosts[0].addresses_secure;
	if (found->hosts[0].tlsa_base.size > 0)
		h.base = found->hosts[0].tlsa_base;
	take_records(records, &found->hosts[0], &h);
	return h;
}

static bool
all_are_local(const struct config_host *host, const struct mx_hosts *found)
{
	if (host->name.size == 0)
		return net_address_is_local(&host->address);
	for (unsigned i = 0; i < found->address_count; i++) {
		if (!net_address_is_local(&found->addresses[i]))
			return false;
	}
	return true;
}

static void
add_target_hosts(struct plan *p, const struct config_host *host, const struct mx_hosts *found,
		 const struct plan_host *known, struct buf *texts, struct buf *why)
{
	bool by_number = host->name.size == 0;
	struct plan_host own = *known;
	uint8_t memory[NUMBER_MAX];
	struct buf number = buf_of(memory, sizeof memory);

	if (!by_number && (found == NULL || found->outcome != MX_FOUND))
		return;
	if (by_number)
		net_address_show(&host->address, &number);
	if (by_number)
		own.name = buf_span(&number);
	own.is_local = p->kind == SITE_LMTP && all_are_local(host, found);
	if (is_barred_by_dane(&p->policy, &own, found == NULL ? NULL : found->hosts[0].tlsa, why) ||
	    is_barred_by_need(&p->policy, &own, true, why)) {
		p->uncertain |= own.dane == DANE_FAILED;
		return;
	}
	own.name = keep(texts, known->name);
	own.base = keep(texts, known->base);
	for (unsigned i = 0; i < (by_number ? 1 : found->address_count); i++) {
		if (p->host_count == PLAN_HOSTS_MAX)
			return;
		p->hosts[p->host_count] = own;
		p->hosts[p->host_count++].address = by_number ? host->address : found->addresses[i];
	}
}

struct plan *
plan_of_target(const struct config_target *target, const struct tls_policy *policy,
	       struct span auth, struct mx_hosts *const *answers, struct buf *why)
{
	enum site_kind kind = target->kind == TARGET_LMTP ? SITE_LMTP : SITE_SMTP;
	struct tls_policy own = *policy;
	size_t text = 0, count = 0, bytes = 0;
	struct records records;
	struct buf texts;

	ASSERT(target->kind == TARGET_SMTP || target->kind == TARGET_LMTP);
	for (size_t i = 0; answers != NULL && i < target->hosts_count; i++) {
		if (answers[i] != NULL)
			measure_records(answers[i], &count, &bytes);
	}
	struct plan_host *known = calloc(target->hosts_count + 1, sizeof *known);
	if (known == NULL || !make_room(&records, count, bytes)) {
		free(known);
		return NULL;
	}
	for (size_t i = 0; i < target->hosts_count; i++) {
		known[i] =
			know_host(&target->hosts[i], answers == NULL ? NULL : answers[i], &records);
		text += known[i].name.size + known[i].base.size;
		add_dane(&own, &known[i]);
	}
	struct plan *p = plan_new(kind, target->text, &own, auth, PLAN_HOSTS_MAX, text, &texts);
	if (p != NULL) {
		p->records = records.all;
		for (size_t i = 0; i < target->hosts_count; i++)
			add_target_hosts(p, &target->hosts[i], answers == NULL ? NULL : answers[i],
					 &known[i], &texts, why);
	} else {
		free(records.all);
	}
	free(known);
	return p;
}

struct plan *
plan_get(struct plan *p)
{
	atomic_fetch_add_explicit(&p->references, 1, memory_order_relaxed);
	return p;
}

void
plan_put(struct plan *p)
{
	if (atomic_fetch_sub_explicit(&p->references, 1, memory_order_acq_rel) > 1)
		return;
	free(p->records);
	free(p);
}

void
plan_host_show(const struct plan_host *h, struct buf *out)
{
	if (h->name.size > 0) {
		buf_append(out, h->name);
		buf_append_string(out, " ");
	}
	net_address_show(&h->address, out);
}
