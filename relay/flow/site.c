/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/site.h"

#include <stdlib.h>
#include <string.h>

#include "relay/flow/destination.h"
#include "relay/flow/dispatch.h"
#include "relay/flow/flow.h"

enum {
	HOST_PAUSE_FACTOR_MAX = 16,
	SITE_IDLE_MS = 10 * 60 * 1000, /* what was learnt of it is kept so long */
};

/* ---- made, found, freed ---- */

struct site *
site_named(const struct flow *f, enum site_kind kind, struct span name)
{
	uint64_t hash = plan_hash(kind, name);
	struct site *s = f->sites[hash % SITE_BUCKETS];

	while (s != NULL && (s->hash != hash || s->kind != kind || !span_eq(s->name, name)))
		s = s->next;
	return s;
}

static void
on_pump(struct task *t)
{
	dispatch_pump(CONTAINER_OF(t, struct site, pump));
}

static void
on_again(struct timer *t)
{
	site_pump_soon(CONTAINER_OF(t, struct site, again));
}

static bool
make_home(struct site *s)
{
	if (s->home != s->flow->worker->number)
		return true;
	s->home_part = slots_home_new(s);
	return s->home_part != NULL;
}

static struct site *
site_new(struct flow *f, enum site_kind kind, bool by_mx, struct span name)
{
	struct site *s = calloc(1, sizeof *s + name.size);

	if (s == NULL)
		return NULL;
	s->magic = SITE_MAGIC;
	s->flow = f;
	s->kind = kind;
	s->by_mx = by_mx;
	s->proven = !by_mx;
	memcpy(s + 1, name.data, name.size);
	s->name = span_of(s + 1, name.size);
	s->hash = plan_hash(kind, name);
	/* The low bits choose the bucket. */
	s->home = (unsigned)((s->hash >> 32) % f->worker->count);
	s->used_at_ms = f->worker->now_ms;
	s->suspended = flow_suspends(f, name);
	line_init(&s->waiting);
	list_init(&s->bodies);
	list_init(&s->idle);
	list_init(&s->busy);
	list_init(&s->hungry);
	task_init(&s->pump, on_pump);
	timer_init(&s->again, on_again);
	slots_init(&s->slots, s);
	if (!make_home(s)) {
		free(s);
		return NULL;
	}
	s->next = f->sites[s->hash % SITE_BUCKETS];
	f->sites[s->hash % SITE_BUCKETS] = s;
	list_append(&f->site_list, &s->link);
	return s;
}

struct site *
site_of_name(struct flow *f, enum site_kind kind, bool by_mx, struct span name)
{
	struct site *s = site_named(f, kind, name);

	return s != NULL ? s : site_new(f, kind, by_mx, name);
}

struct site *
site_of_plan(struct flow *f, struct plan *p)
{
	struct site *s = site_of_name(f, p->kind, p->by_mx, p->name);

	if (s == NULL)
		return NULL;
	s->used_at_ms = f->worker->now_ms;
	site_take_plan(s, p);
	return s->plan == p ? s : NULL;
}

void
site_free(struct site *s)
{
	struct site **at = &s->flow->sites[s->hash % SITE_BUCKETS];

	OBJ_FINI(s, SITE_MAGIC);
	ASSERT(s->waiting.count == 0 && s->channels == 0 && s->away == 0);
	ASSERT(s->bodies_count == 0 && !list_is_linked(&s->bodies_link));
	ASSERT(s->destinations == 0 && list_is_empty(&s->hungry));
	timer_stop(&s->flow->worker->timers, &s->again);
	task_cancel(&s->pump);
	list_unlink(&s->wanting_link);
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	list_unlink(&s->link);
	line_fini(&s->waiting);
	if (s->plan != NULL)
		plan_put(s->plan);
	free(s->hosts);
	free(s->home_part);
	free(s);
}

static bool
is_unused(const struct site *s)
{
	return s->destinations == 0 && s->claiming == 0 && s->waiting.count == 0 && s->away == 0 &&
	       s->channels == 0 && s->slots.held == 0 && slots_are_quiet(s) &&
	       s->slots.recall == NULL && !s->suspended &&
	       (s->home_part == NULL || slots_home_is_idle(s->home_part)) &&
	       s->used_at_ms + SITE_IDLE_MS < s->flow->worker->now_ms;
}

void
sites_sweep(struct flow *f)
{
	struct list_node *n = list_first(&f->site_list);

	while (n != NULL) {
		struct site *s = LIST_ITEM(n, struct site, link);
		n = list_next(&f->site_list, n);
		if (is_unused(s))
			site_free(s);
	}
}

/* ---- hosts ---- */

static struct site_host *
host_with(struct site *s, const struct net_address *address)
{
	for (unsigned i = 0; i < s->host_count; i++) {
		if (net_address_eq(&s->hosts[i].host.address, address))
			return &s->hosts[i];
	}
	return NULL;
}

/* A place for an address that is new: behind the others, or of one that nothing leads to. */
static struct site_host *
place_for(struct site *s, unsigned capacity)
{
	if (s->host_count < capacity)
		return &s->hosts[s->host_count++];
	for (unsigned i = 0; i < s->host_count; i++) {
		if (!s->hosts[i].planned && s->hosts[i].channels == 0)
			return &s->hosts[i];
	}
	return NULL;
}

static bool
is_same_plan(const struct plan *a, const struct plan *b)
{
	if (a->host_count != b->host_count)
		return false;
	for (unsigned i = 0; i < a->host_count; i++) {
		if (!net_address_eq(&a->hosts[i].address, &b->hosts[i].address) ||
		    a->hosts[i].rank != b->hosts[i].rank)
			return false;
	}
	return true;
}

static void
note_down(struct site *s)
{
	uint64_t until_ms = UINT64_MAX;

	for (unsigned i = 0; i < s->host_count; i++) {
		if (s->hosts[i].planned && s->hosts[i].failed_until_ms < until_ms)
			until_ms = s->hosts[i].failed_until_ms;
	}
	s->down_until_ms =
		until_ms != UINT64_MAX && until_ms > s->flow->worker->now_ms ? until_ms : 0;
	if (s->down_until_ms != 0)
		s->proven = false;
}

/* It may be in no plan any more, and must not point into one then. Nothing is begun with it; what
 * has begun holds its own plan. */
static void
forget_plan(struct plan_host *h)
{
	h->name = h->base = span_none();
	h->dane = DANE_FAILED;
	h->records = NULL;
	h->record_count = 0;
}

void
site_take_plan(struct site *s, struct plan *p)
{
	unsigned capacity = s->host_count;

	if (s->plan == p)
		return;
	for (unsigned i = 0; i < p->host_count; i++)
		capacity += host_with(s, &p->hosts[i].address) == NULL;
	capacity = capacity < PLAN_HOSTS_MAX ? capacity : PLAN_HOSTS_MAX;
	struct site_host *hosts =
		capacity <= s->host_count ? s->hosts : realloc(s->hosts, capacity * sizeof *hosts);
	if (hosts == NULL && capacity > 0)
		return;
	s->hosts = hosts;
	bool same = s->plan != NULL && is_same_plan(s->plan, p);
	for (unsigned i = 0; i < s->host_count; i++) {
		s->hosts[i].planned = false;
		forget_plan(&s->hosts[i].host);
	}
	for (unsigned i = 0; i < p->host_count; i++) {
		struct site_host *h = host_with(s, &p->hosts[i].address);
		if (h == NULL) {
			h = place_for(s, capacity);
			if (h == NULL)
				continue;
			*h = (struct site_host){ 0 };
		}
		/* Two names may have one address: the first is preferred. */
		if (h->planned)
			continue;
		h->host = p->hosts[i];
		h->planned = true;
	}
	plan_get(p);
	if (s->plan != NULL)
		plan_put(s->plan);
	s->plan = p;
	if (!same)
		note_down(s);
}

const struct shaping *
site_shaping(struct site *s)
{
	if (s->shaped_by != s->flow->routing) {
		s->shaped_by = s->flow->routing;
		s->shaping = shaping_of(s->flow->routing, s->by_mx, s->name);
	}
	return &s->shaping;
}

bool
site_is_home_only(struct site *s)
{
	const struct shaping *shaping = site_shaping(s);

	return shaping->connections < 2 * s->flow->worker->count || shaping->rate > 0;
}

void
site_pump_soon(struct site *s)
{
	OBJ_CHECK(s, SITE_MAGIC);
	worker_soon(s->flow->worker, &s->pump);
}

/* Is the first better than the second? TLS counts more than the rank. */
static bool
is_better(const struct site *s, unsigned a, unsigned b)
{
	uint64_t now_ms = s->flow->worker->now_ms;
	bool a_broken = s->hosts[a].tls_broken_until_ms > now_ms;
	bool b_broken = s->hosts[b].tls_broken_until_ms > now_ms;

	if (a_broken != b_broken)
		return b_broken;
	return s->hosts[a].host.rank < s->hosts[b].host.rank;
}

unsigned
site_next_host(struct site *s, unsigned tried, bool any)
{
	unsigned best = s->host_count;

	for (unsigned i = 0; i < s->host_count; i++) {
		unsigned host = (s->turn + i) % s->host_count;
		const struct site_host *h = &s->hosts[host];
		bool failed = h->failed_until_ms > s->flow->worker->now_ms;
		if (!h->planned || (tried & 1U << host) != 0 || (failed && !any))
			continue;
		if (best == s->host_count || is_better(s, host, best))
			best = host;
	}
	if (best < s->host_count)
		s->turn = best + 1;
	return best;
}

unsigned
site_hosts_left(const struct site *s, unsigned tried)
{
	unsigned left = 0;

	for (unsigned i = 0; i < s->host_count; i++)
		left += s->hosts[i].planned && (tried & 1U << i) == 0;
	return left;
}

bool
site_is_doubtful(const struct site *s)
{
	for (unsigned i = 0; i < s->host_count; i++) {
		if (s->hosts[i].planned && s->hosts[i].failures == 0)
			return false;
	}
	return true;
}

bool
site_host_failed(struct site *s, unsigned host)
{
	struct site_host *h = &s->hosts[host];
	uint64_t pause_ms = s->flow->routing->config->retry.host_pause_ms;

	slots_failure(s);
	if (h->failed_until_ms > s->flow->worker->now_ms)
		return false;
	/* The first failure is forgiven after a sixteenth of the pause, then it doubles: a sink
	 * that restarts is found again within seconds, a dead one costs a try a minute. */
	unsigned factor = h->failures < 4 ? 1U << h->failures : HOST_PAUSE_FACTOR_MAX;
	h->failures++;
	h->failed_until_ms = s->flow->worker->now_ms + pause_ms * factor / HOST_PAUSE_FACTOR_MAX;
	note_down(s);
	overdue_watch(s->flow);
	return true;
}

void
site_host_works(struct site *s, unsigned host)
{
	s->hosts[host].failed_until_ms = 0;
	s->hosts[host].failures = 0;
	s->down_until_ms = 0;
	s->proven = true;
}
