/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/plan.h"

#include <stdlib.h>

#include "core/base/assert.h"

uint64_t
plan_hash(enum site_kind kind, struct span name)
{
	return span_hash_nocase(name, (uint64_t)kind);
}

/* Room for hosts and for text behind them. */
static struct plan *
plan_new(enum site_kind kind, struct span name, unsigned hosts, size_t text, struct buf *texts)
{
	size_t at = sizeof(struct plan) + hosts * sizeof(struct plan_host);
	struct plan *p = calloc(1, at + name.size + text);

	if (p == NULL)
		return NULL;
	atomic_init(&p->references, 1);
	p->kind = kind;
	p->hash = plan_hash(kind, name);
	*texts = buf_of((uint8_t *)p + at, name.size + text);
	buf_append(texts, name);
	p->name = buf_span(texts);
	return p;
}

static struct span
keep(struct buf *texts, struct span text)
{
	size_t at = texts->size;

	buf_append(texts, text);
	ASSERT(!texts->overflow);
	return span_of(texts->data + at, text.size);
}

struct plan *
plan_of_mx(const struct mx_hosts *found)
{
	size_t text = 0;
	struct buf texts;

	ASSERT(found->outcome == MX_FOUND && found->address_count <= PLAN_HOSTS_MAX);
	for (unsigned i = 0; i < found->host_count; i++)
		text += found->hosts[i].name.size;
	struct plan *p = plan_new(SITE_SMTP, found->site, found->address_count, text, &texts);
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
plan_of_target(const struct config_target *target, struct mx_hosts *const *answers)
{
	enum site_kind kind = target->kind == TARGET_LMTP ? SITE_LMTP : SITE_SMTP;
	size_t text = 0;
	struct buf texts;

	ASSERT(target->kind == TARGET_SMTP || target->kind == TARGET_LMTP);
	for (size_t i = 0; i < target->hosts_count; i++)
		text += target->hosts[i].name.size;
	struct plan *p = plan_new(kind, target->text, PLAN_HOSTS_MAX, text, &texts);
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
