/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/plan.h"

#include <stdlib.h>

#include "core/base/assert.h"

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

/* Room for hosts and for text behind them. */
static struct plan *
plan_new(enum site_kind kind, struct span hosts_name, const struct tls_policy *policy,
	 unsigned hosts, size_t text, struct buf *texts)
{
	uint8_t memory[TLS_POLICY_KEY_MAX];
	struct buf key = buf_of(memory, sizeof memory);
	size_t at = sizeof(struct plan) + hosts * sizeof(struct plan_host);

	tls_policy_key(policy, &key);
	ASSERT(!key.overflow);
	size_t room = hosts_name.size + key.size + policy_size(policy) + text;
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
	return p;
}

struct plan *
plan_of_mx(const struct mx_hosts *found, const struct tls_policy *policy)
{
	size_t text = 0;
	struct buf texts;

	ASSERT(found->outcome == MX_FOUND && found->address_count <= PLAN_HOSTS_MAX);
	for (unsigned i = 0; i < found->host_count; i++)
		text += found->hosts[i].name.size;
	struct plan *p =
		plan_new(SITE_SMTP, found->site, policy, found->address_count, text, &texts);
	if (p == NULL)
		return NULL;
	p->by_mx = true;
	p->mx_secure = found->mx_secure;
	uint8_t rank = 0;
	struct span names[MX_HOSTS_MAX];
	for (unsigned i = 0; i < found->host_count; i++)
		names[i] = keep(&texts, found->hosts[i].name);
	for (unsigned i = 0; i < found->address_count; i++) {
		const struct mx_host *host = &found->hosts[found->host_of[i]];
		if (i > 0 && host->preference != found->hosts[found->host_of[i - 1]].preference)
			rank++;
		p->hosts[p->host_count++] = (struct plan_host){
			.address = found->addresses[i],
			.name = names[found->host_of[i]],
			.rank = rank,
			.secure = found->mx_secure && host->addresses_secure,
		};
	}
	return p;
}

static void
add_answer(struct plan *p, const struct mx_hosts *found, struct span name)
{
	for (unsigned i = 0; i < found->address_count && p->host_count < PLAN_HOSTS_MAX; i++)
		p->hosts[p->host_count++] =
			(struct plan_host){ .address = found->addresses[i], .name = name };
}

struct plan *
plan_of_target(const struct config_target *target, const struct tls_policy *policy,
	       struct mx_hosts *const *answers)
{
	enum site_kind kind = target->kind == TARGET_LMTP ? SITE_LMTP : SITE_SMTP;
	size_t text = 0;
	struct buf texts;

	ASSERT(target->kind == TARGET_SMTP || target->kind == TARGET_LMTP);
	for (size_t i = 0; i < target->hosts_count; i++)
		text += target->hosts[i].name.size;
	struct plan *p = plan_new(kind, target->text, policy, PLAN_HOSTS_MAX, text, &texts);
	if (p == NULL)
		return NULL;
	for (size_t i = 0; i < target->hosts_count && p->host_count < PLAN_HOSTS_MAX; i++) {
		const struct config_host *host = &target->hosts[i];
		if (host->name.size == 0)
			p->hosts[p->host_count++] = (struct plan_host){ .address = host->address };
		else if (answers[i] != NULL && answers[i]->outcome == MX_FOUND)
			add_answer(p, answers[i], keep(&texts, host->name));
	}
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
	if (atomic_fetch_sub_explicit(&p->references, 1, memory_order_acq_rel) == 1)
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
