/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/sts.h"

#include <stdlib.h>

#include "relay/flow/flow.h"
#include "tls/dane.h"

enum {
	AGAIN_MS = 10,
	LEAST_MS = 1000, /* a domain is not asked for again sooner */
	NO_RECORD_MS = 60 * 1000,
};

static const char label[] = "_mta-sts.";

/* ---- policies as they are kept ---- */

static struct span
place(uint8_t **at, struct span text)
{
	struct span copy = span_of(*at, text.size);

	for (size_t i = 0; i < text.size; i++)
		(*at)[i] = ascii_lower(text.data[i]);
	*at += text.size;
	return copy;
}

struct sts_held *
sts_held_new(struct span domain, struct span id, const struct sts_policy *policy,
	     uint64_t fetched_at_ms)
{
	size_t at = sizeof(struct sts_held) + policy->pattern_count * sizeof(struct span);
	size_t text = domain.size + id.size;

	for (unsigned i = 0; i < policy->pattern_count; i++)
		text += policy->patterns[i].size;
	struct sts_held *h = malloc(at + text);
	if (h == NULL)
		return NULL;
	uint8_t *free_at = (uint8_t *)h + at;
	atomic_init(&h->references, 1);
	h->domain = place(&free_at, domain);
	h->id = span_of(free_at, id.size);
	memcpy(free_at, id.data, id.size);
	free_at += id.size;
	h->fetched_at_ms = fetched_at_ms;
	h->expires_at_ms = fetched_at_ms + policy->max_age_s * (uint64_t)1000;
	h->mode = policy->mode;
	h->max_age_s = policy->max_age_s;
	h->pattern_count = policy->pattern_count;
	for (unsigned i = 0; i < policy->pattern_count; i++)
		h->patterns[i] = place(&free_at, policy->patterns[i]);
	ASSERT(free_at == (uint8_t *)h + at + text);
	return h;
}

struct sts_held *
sts_held_get(struct sts_held *h)
{
	atomic_fetch_add_explicit(&h->references, 1, memory_order_relaxed);
	return h;
}

void
sts_held_put(struct sts_held *h)
{
	if (atomic_fetch_sub_explicit(&h->references, 1, memory_order_acq_rel) == 1)
		free(h);
}

/* ---- what is asked of the control thread ---- */

static void on_again(struct timer *t);
static void send_waiting(struct flow *f);

void
sts_init(struct flow *f)
{
	list_init(&f->sts.waiting);
	timer_init(&f->sts.again, on_again);
}

bool
sts_is_on(const struct flow *f)
{
	return f->sts.source != NULL && f->routing->config->sts.enabled;
}

static void
question_free(struct sts_question *q)
{
	if (q->policy != NULL)
		sts_held_put(q->policy);
	free(q);
}

static void
finish(struct sts_lookup *l, struct sts_held *policy, uint64_t expires_at_ms)
{
	uint64_t least_ms = l->flow->worker->now_ms + LEAST_MS;

	ASSERT(l->pending && l->question == NULL);
	l->pending = false;
	if (l->policy != NULL)
		sts_held_put(l->policy);
	l->policy = policy;
	l->expires_at_ms = expires_at_ms < least_ms ? least_ms : expires_at_ms;
	l->on_done(l);
}

static uint64_t
add_time(uint64_t at_ms, uint64_t span_ms)
{
	return span_ms > UINT64_MAX - at_ms ? UINT64_MAX : at_ms + span_ms;
}

static void
take_answer(struct sts_lookup *l, struct sts_question *q)
{
	const struct worker *w = l->flow->worker;
	uint64_t expires_at_ms = add_time(w->now_ms, q->again_ms);
	struct sts_held *policy = q->policy;

	if (policy != NULL && policy->expires_at_ms > w->now_wall_ms) {
		uint64_t at_ms = w->now_ms + (policy->expires_at_ms - w->now_wall_ms);
		expires_at_ms = at_ms < expires_at_ms ? at_ms : expires_at_ms;
	}
	if (l->expires_at_ms < expires_at_ms)
		expires_at_ms = l->expires_at_ms;
	l->uncertain |= policy == NULL && q->id_size > 0;
	q->policy = NULL;
	l->question = NULL;
	finish(l, policy, expires_at_ms);
}

/* It is back. */
static void
on_answered(struct message *m, void *context)
{
	struct sts_question *q = CONTAINER_OF(m, struct sts_question, message);
	struct flow *f = q->from->flow;

	(void)context;
	ASSERT(f->sts.out > 0);
	f->sts.out--;
	if (q->lookup != NULL)
		take_answer(q->lookup, q);
	question_free(q);
	send_waiting(f);
	flow_check_drained(f);
}

static bool
send_question(struct flow *f, struct sts_question *q)
{
	struct worker *w = f->worker;
	const struct sts_source *source = f->sts.source;

	if (f->sts.out == STS_QUESTIONS_MAX || !mailbox_reserve(&w->mailbox, 1))
		return false;
	/* The control thread has a place for each of them. */
	bool fits = mailbox_reserve(&source->worker->mailbox, 1);
	ASSERT(fits);
	f->sts.out++;
	q->message.on_message = source->on_question;
	worker_post(w, source->worker, &q->message);
	return true;
}

static void
send_waiting(struct flow *f)
{
	struct list_node *n;

	while ((n = list_first(&f->sts.waiting)) != NULL) {
		struct sts_lookup *l = LIST_ITEM(n, struct sts_lookup, link);
		if (!send_question(f, l->question)) {
			timer_set(&f->worker->timers, &f->sts.again, f->worker->now_ms + AGAIN_MS);
			return;
		}
		list_unlink(n);
	}
}

static void
on_again(struct timer *t)
{
	send_waiting(CONTAINER_OF(t, struct flow, sts.again));
}

static void
ask_control(struct sts_lookup *l, struct span id)
{
	struct flow *f = l->flow;
	struct sts_question *q = calloc(1, sizeof *q);

	timer_stop(&f->worker->timers, &l->patience);
	if (q == NULL) {
		l->uncertain = true;
		finish(l, NULL, f->worker->now_ms + LEAST_MS);
		return;
	}
	q->from = f->worker;
	q->lookup = l;
	q->on_answered = on_answered;
	q->domain_size = (uint8_t)l->domain.size;
	for (size_t i = 0; i < l->domain.size; i++)
		q->domain[i] = (char)ascii_lower(l->domain.data[i]);
	q->id_size = (uint8_t)id.size;
	if (id.size > 0)
		memcpy(q->id, id.data, id.size);
	l->question = q;
	list_append(&f->sts.waiting, &l->link);
	send_waiting(f);
}

/* ---- the record ---- */

static void
on_record(struct dns_query *query, struct dns_answer *a)
{
	struct sts_lookup *l = CONTAINER_OF(query, struct sts_lookup, query);
	struct span texts[DNS_RECORDS_MAX];
	struct span id = span_none();

	for (unsigned i = 0; i < a->count; i++)
		texts[i] = a->records[i].data;
	l->uncertain = a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS;
	if (a->outcome != DNS_FOUND || !sts_records_find(texts, a->count, &id))
		id = span_none();
	l->expires_at_ms = a->expires_at_ms;
	ask_control(l, id);
}

/* The servers that gave the MX records do not answer for this: they are not waited for. */
static void
on_patience(struct timer *t)
{
	struct sts_lookup *l = CONTAINER_OF(t, struct sts_lookup, patience);

	resolver_cancel(&l->query);
	l->uncertain = true;
	l->expires_at_ms = l->flow->worker->now_ms + NO_RECORD_MS;
	ask_control(l, span_none());
}

void
sts_look(struct sts_lookup *l, struct flow *f, struct span domain)
{
	char name[sizeof label - 1 + DNS_NAME_MAX];
	struct buf text = buf_of(name, sizeof name);

	ASSERT(!l->pending && l->question == NULL && l->on_done != NULL);
	ASSERT(domain.size <= DNS_NAME_MAX);
	l->flow = f;
	l->domain = domain;
	l->pending = true;
	l->uncertain = false;
	buf_append_string(&text, label);
	buf_append(&text, domain);
	timer_init(&l->patience, on_patience);
	timer_set(&f->worker->timers, &l->patience, f->worker->now_ms + STS_RECORD_WAIT_MS);
	l->query = (struct dns_query){ .on_done = on_record };
	resolver_ask(f->worker->resolver, &l->query, buf_span(&text), DNS_TXT);
}

void
sts_forget(struct sts_lookup *l)
{
	if (l->pending && l->question == NULL) {
		resolver_cancel(&l->query);
		timer_stop(&l->flow->worker->timers, &l->patience);
	}
	if (l->question != NULL && list_is_linked(&l->link)) {
		list_unlink(&l->link);
		question_free(l->question);
	} else if (l->question != NULL) {
		l->question->lookup = NULL;
	}
	if (l->policy != NULL)
		sts_held_put(l->policy);
	l->question = NULL;
	l->policy = NULL;
	l->pending = false;
	l->expires_at_ms = UINT64_MAX;
}

/* ---- what it does to hosts ---- */

/* The name of the site without the hosts that are left out: names between `=` of equals and `,`. */
static void
write_site(const struct sts_held *h, const struct mx_hosts *found, unsigned is_stronger,
	   struct buf *site)
{
	struct span whole = found->site;
	bool is_next = false; /* a rank has ended since the last name */
	size_t start = site->size;

	for (size_t at = 0; at < whole.size;) {
		size_t end = at;
		while (end < whole.size && whole.data[end] != '=' && whole.data[end] != ',')
			end++;
		struct span name = span_of(whole.data + at, end - at);
		bool keep = sts_patterns_match(h->patterns, h->pattern_count, name);
		for (unsigned i = 0; i < found->host_count && !keep; i++)
			keep = (is_stronger >> i & 1) != 0 && span_eq(found->hosts[i].name, name);
		if (keep) {
			if (site->size > start)
				buf_append_string(site, is_next ? "," : "=");
			buf_append(site, name);
			is_next = false;
		}
		is_next |= end < whole.size && whole.data[end] == ',';
		at = end + 1;
	}
}

static void
keep_hosts(const struct mx_hosts *found, unsigned kept, struct mx_hosts *out)
{
	out->host_count = 0;
	out->address_count = 0;
	for (unsigned i = 0; i < found->host_count; i++) {
		if ((kept >> i & 1) == 0)
			continue;
		struct mx_host *host = &out->hosts[out->host_count];
		*host = found->hosts[i];
		host->first = out->address_count;
		host->count = 0;
		for (unsigned n = 0; n < found->address_count; n++) {
			if (found->host_of[n] != i)
				continue;
			out->addresses[out->address_count] = found->addresses[n];
			out->host_of[out->address_count++] = (uint8_t)out->host_count;
			host->count++;
		}
		out->host_count++;
	}
}

/* A mask of the hosts that DANE protects. */
static unsigned
find_stronger(const struct mx_hosts *found)
{
	struct tlsa records[DNS_RECORDS_MAX];
	unsigned mask = 0;

	for (unsigned i = 0; i < found->host_count; i++) {
		size_t count;
		if (dane_select(found->hosts[i].tlsa, records, &count) == DANE_USABLE)
			mask |= 1u << i;
	}
	return mask;
}

bool
sts_apply(const struct sts_held *h, const struct mx_hosts *found, struct tls_policy *policy,
	  struct mx_hosts *out, struct buf *site, struct buf *why)
{
	ASSERT(found->outcome == MX_FOUND);
	memcpy(out, found, sizeof *out);
	if (h == NULL || h->mode == STS_NONE)
		return true;
	policy->source = TLS_BY_STS;
	policy->domain = h->domain;
	policy->policy_id = h->id;
	/* A mail that requires TLS may go to the hosts that it names, in mode testing, too. */
	policy->testing = h->mode == STS_TESTING && policy->need != TLS_NEED_REQUIRED;
	if (policy->testing)
		return true;
	policy->level = TLS_VERIFY;
	unsigned is_stronger = find_stronger(found);
	unsigned kept = is_stronger;
	for (unsigned i = 0; i < found->host_count; i++) {
		if (sts_patterns_match(h->patterns, h->pattern_count, found->hosts[i].name))
			kept |= 1u << i;
	}
	keep_hosts(found, kept, out);
	write_site(h, found, is_stronger, site);
	ASSERT(!site->overflow);
	out->site = buf_span(site);
	if (out->host_count > 0)
		return true;
	buf_printf(why, "none of the MX hosts of %.*s is in its MTA-STS policy (id %.*s)",
		   SPAN_ARG(span_first(h->domain, 120)), SPAN_ARG(h->id));
	return false;
}
