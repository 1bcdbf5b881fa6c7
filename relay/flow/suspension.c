/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/suspension.h"

#include <stdlib.h>

#include "relay/flow/flow.h"

struct suspensions {
	atomic_uint references;
	unsigned count;
	uint64_t version;
	struct span names[];
};

struct suspensions *
suspensions_new(const struct span *names, unsigned count, uint64_t version)
{
	size_t bytes = 0;

	ASSERT(count <= SUSPENSIONS_MAX);
	for (unsigned i = 0; i < count; i++)
		bytes += names[i].size;
	struct suspensions *s = malloc(sizeof *s + count * sizeof s->names[0] + bytes);
	if (s == NULL)
		return NULL;
	uint8_t *at = (uint8_t *)&s->names[count];
	atomic_init(&s->references, 1);
	s->count = count;
	s->version = version;
	for (unsigned i = 0; i < count; i++) {
		if (names[i].size > 0)
			memcpy(at, names[i].data, names[i].size);
		s->names[i] = span_of(at, names[i].size);
		at += names[i].size;
	}
	return s;
}

struct suspensions *
suspensions_get(struct suspensions *s)
{
	atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
	return s;
}

void
suspensions_put(struct suspensions *s)
{
	/* Release and acquire: whoever frees has seen what every other holder did with it. */
	if (s != NULL && atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) == 1)
		free(s);
}

bool
suspensions_have(const struct suspensions *s, struct span name)
{
	struct span hosts = plan_hosts_of_name(name);

	for (unsigned i = 0; s != NULL && i < s->count; i++) {
		if (span_eq(s->names[i], name) || span_eq(s->names[i], hosts))
			return true;
	}
	return false;
}

bool
flow_suspends(const struct flow *f, struct span name)
{
	return f->rests || suspensions_have(f->suspensions, name);
}

static void
look_at_sites(struct flow *f)
{
	for (struct list_node *n = list_first(&f->site_list); n != NULL;
	     n = list_next(&f->site_list, n)) {
		struct site *site = LIST_ITEM(n, struct site, link);
		bool suspended = flow_suspends(f, site->name);
		if (suspended != site->suspended)
			site_pump_soon(site);
		site->suspended = suspended;
	}
}

/* What is due meanwhile was told once, and is not told again. */
void
flow_on_drain(struct queue *q, bool drains)
{
	struct flow *f = flow_of_queue(q);

	f->rests = drains;
	look_at_sites(f);
	for (struct list_node *n = list_first(&f->destinations.all); n != NULL && !drains;
	     n = list_next(&f->destinations.all, n))
		destination_due(LIST_ITEM(n, struct destination, link));
}

void
flow_suspend(struct flow *f, struct suspensions *s)
{
	struct suspensions *old = f->suspensions;

	OBJ_CHECK(f, FLOW_MAGIC);
	if (old != NULL && old->version > s->version)
		return;
	f->suspensions = suspensions_get(s);
	suspensions_put(old);
	look_at_sites(f);
}
