/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/site.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "relay/flow/dispatch.h"
#include "relay/flow/flow.h"

enum { HOST_PAUSE_FACTOR_MAX = 16 };

struct site_book {
	unsigned worker_count;
	struct arena memory;
	atomic_uint count; /* infos below it are complete */
	struct site_info *infos[SITES_MAX];
	/* By hash of kind and name, for who interns alone: numbers plus 1; 0 ends a chain. */
	unsigned buckets[SITES_MAX];
	unsigned next[SITES_MAX];
};

struct site_book *
site_book_new(unsigned worker_count)
{
	struct site_book *b = calloc(1, sizeof *b);

	if (b == NULL)
		return NULL;
	ASSERT(worker_count > 0);
	b->worker_count = worker_count;
	arena_init(&b->memory, 64 * 1024, SIZE_MAX / 2);
	atomic_init(&b->count, 0);
	const struct site_info *nowhere =
		site_book_intern(b, SITE_NOWHERE, NULL, 0, SPAN("nowhere"));
	if (nowhere == NULL) {
		site_book_free(b);
		return NULL;
	}
	ASSERT(nowhere->id.number == 0);
	return b;
}

void
site_book_free(struct site_book *b)
{
	arena_reset(&b->memory);
	free(b);
}

const struct site_info *
site_book_at(const struct site_book *b, struct site_id id)
{
	ASSERT(id.number < atomic_load_explicit(&b->count, memory_order_acquire));
	return b->infos[id.number];
}

const struct site_info *
site_book_intern(struct site_book *b, enum site_kind kind, const struct net_address *hosts,
		 unsigned host_count, struct span name)
{
	unsigned count = atomic_load_explicit(&b->count, memory_order_relaxed);

	ASSERT(host_count <= SITE_HOSTS_MAX);
	unsigned *bucket = &b->buckets[span_hash_nocase(name, (uint64_t)kind) % SITES_MAX];
	for (unsigned i = *bucket; i != 0; i = b->next[i - 1]) {
		if (b->infos[i - 1]->kind == kind && span_eq(b->infos[i - 1]->name, name))
			return b->infos[i - 1];
	}
	if (count == SITES_MAX)
		return NULL;
	struct site_info *info = arena_take(&b->memory, sizeof *info);
	struct span copy = arena_copy(&b->memory, name);
	if (info == NULL || copy.data == NULL)
		return NULL;
	*info = (struct site_info){
		.id = { count },
		.kind = kind,
		.home = (unsigned)(span_hash_nocase(name, 0) % b->worker_count),
		.host_count = host_count,
		.name = copy,
	};
	atomic_init(&info->connections_max, 1);
	for (unsigned i = 0; i < host_count; i++)
		info->hosts[i] = hosts[i];
	b->infos[count] = info;
	b->next[count] = *bucket;
	*bucket = count + 1;
	atomic_store_explicit(&b->count, count + 1, memory_order_release);
	return info;
}

void
site_book_set_limit(struct site_book *b, struct site_id id, unsigned connections_max)
{
	ASSERT(connections_max > 0);
	ASSERT(id.number < atomic_load_explicit(&b->count, memory_order_relaxed));
	atomic_store_explicit(&b->infos[id.number]->connections_max, connections_max,
			      memory_order_relaxed);
}

bool
site_is_home_only(const struct site *s)
{
	return site_limit(s->info) < 2 * s->flow->worker->count;
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

struct site *
site_of_number(struct flow *f, struct site_id id)
{
	ASSERT(id.number < SITES_MAX);
	if (f->sites[id.number] != NULL)
		return f->sites[id.number];
	struct site *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->magic = SITE_MAGIC;
	s->flow = f;
	s->info = site_book_at(f->book, id);
	list_init(&s->waiting);
	list_init(&s->bodies);
	list_init(&s->idle);
	list_init(&s->busy);
	list_init(&s->claim.items);
	task_init(&s->pump, on_pump);
	timer_init(&s->again, on_again);
	slots_init(&s->slots, s);
	if (s->info->home == f->worker->number) {
		s->home = calloc(1, sizeof *s->home);
		if (s->home == NULL) {
			free(s);
			return NULL;
		}
		slots_home_init(s->home, s);
	}
	f->sites[id.number] = s;
	list_append(&f->site_list, &s->link);
	return s;
}

void
site_free(struct site *s)
{
	OBJ_FINI(s, SITE_MAGIC);
	ASSERT(list_is_empty(&s->waiting) && s->channels == 0 && !s->claiming);
	ASSERT(s->bodies_count == 0 && !list_is_linked(&s->bodies_link));
	timer_stop(&s->flow->worker->timers, &s->again);
	task_cancel(&s->pump);
	s->flow->sites[s->info->id.number] = NULL;
	list_unlink(&s->link);
	free(s->home);
	free(s);
}

void
site_pump_soon(struct site *s)
{
	OBJ_CHECK(s, SITE_MAGIC);
	worker_soon(s->flow->worker, &s->pump);
}

unsigned
site_next_host(struct site *s, unsigned tried, bool any)
{
	unsigned count = s->info->host_count;

	for (unsigned i = 0; i < count; i++) {
		unsigned host = (s->turn + i) % count;
		bool failed = s->hosts[host].failed_until_ms > s->flow->worker->now_ms;
		if ((tried & 1U << host) != 0 || (failed && !any))
			continue;
		s->turn = host + 1;
		return host;
	}
	return count;
}

bool
site_host_failed(struct site *s, unsigned host)
{
	struct site_host *h = &s->hosts[host];
	uint64_t pause_ms = s->flow->routing->config->retry.host_pause_ms;
	uint64_t until_ms = UINT64_MAX;

	if (h->failed_until_ms > s->flow->worker->now_ms)
		return false;
	/* The first failure is forgiven after a sixteenth of the pause, then it doubles: a sink
	 * that restarts is found again within seconds, a dead one costs a try a minute. */
	unsigned factor = h->failures < 4 ? 1U << h->failures : HOST_PAUSE_FACTOR_MAX;
	h->failures++;
	h->failed_until_ms = s->flow->worker->now_ms + pause_ms * factor / HOST_PAUSE_FACTOR_MAX;
	for (unsigned i = 0; i < s->info->host_count; i++) {
		if (s->hosts[i].failed_until_ms < until_ms)
			until_ms = s->hosts[i].failed_until_ms;
	}
	s->down_until_ms = until_ms > s->flow->worker->now_ms ? until_ms : 0;
	return true;
}

void
site_host_works(struct site *s, unsigned host)
{
	s->hosts[host].failed_until_ms = 0;
	s->hosts[host].failures = 0;
	s->down_until_ms = 0;
}
