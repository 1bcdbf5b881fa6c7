/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/suspended.h"

#include <stdlib.h>

#include "core/base/assert.h"

static struct suspended_site *
find(struct suspended *s, struct span name)
{
	for (unsigned i = 0; i < s->count; i++) {
		if (span_eq(s->sites[i].name, name))
			return &s->sites[i];
	}
	return NULL;
}

const struct suspended_site *
suspended_find(const struct suspended *s, struct span name)
{
	return find((struct suspended *)(uintptr_t)s, name);
}

bool
suspended_add(struct suspended *s, struct span name, uint64_t until_ms)
{
	struct suspended_site *site = find(s, name);

	if (site == NULL) {
		uint8_t *copy = s->count < SUSPENSIONS_MAX ? malloc(name.size + 1) : NULL;
		if (copy == NULL)
			return false;
		memcpy(copy, name.data, name.size);
		site = &s->sites[s->count++];
		site->name = span_of(copy, name.size);
	}
	site->until_ms = until_ms;
	s->version++;
	return true;
}

bool
suspended_remove(struct suspended *s, struct span name)
{
	struct suspended_site *site = find(s, name);

	if (site == NULL)
		return false;
	free((void *)(uintptr_t)site->name.data);
	*site = s->sites[--s->count];
	s->version++;
	return true;
}

const struct suspended_site *
suspended_over(const struct suspended *s, uint64_t now_wall_ms)
{
	for (unsigned i = 0; i < s->count; i++) {
		if (s->sites[i].until_ms != 0 && s->sites[i].until_ms <= now_wall_ms)
			return &s->sites[i];
	}
	return NULL;
}

uint64_t
suspended_next_ms(const struct suspended *s)
{
	uint64_t next_ms = 0;

	for (unsigned i = 0; i < s->count; i++) {
		uint64_t until_ms = s->sites[i].until_ms;
		if (until_ms != 0 && (next_ms == 0 || until_ms < next_ms))
			next_ms = until_ms;
	}
	return next_ms;
}

struct suspensions *
suspended_list(const struct suspended *s)
{
	struct span names[SUSPENSIONS_MAX];

	for (unsigned i = 0; i < s->count; i++)
		names[i] = s->sites[i].name;
	return suspensions_new(names, s->count, s->version);
}

void
suspended_fini(struct suspended *s)
{
	while (s->count > 0) {
		bool removed = suspended_remove(s, s->sites[0].name);
		ASSERT(removed);
	}
}
