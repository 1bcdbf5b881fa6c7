/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/seen.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { PLACES = 1 << 21, PROBES = 64 };

struct seen {
	atomic_uint_fast64_t
		ids[PLACES]; /* 0: nobody; memory that is never touched costs nothing */
};

struct seen *
seen_new(void)
{
	return calloc(1, sizeof(struct seen));
}

void
seen_free(struct seen *s)
{
	free(s);
}

bool
seen_add(struct seen *s, struct mail_id id)
{
	uint64_t key = id.high ^ id.low;

	key += key == 0;
	for (unsigned i = 0; i < PROBES; i++) {
		uint_fast64_t there = 0;
		if (atomic_compare_exchange_strong(&s->ids[(key + i) % PLACES], &there, key))
			return true;
		if (there == key)
			return false;
	}
	return true;
}
