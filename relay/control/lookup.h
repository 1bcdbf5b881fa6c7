/* SPDX-License-Identifier: Apache-2.0
 *
 * lookup: a few questions to the DNS from the control thread, which has no resolver: a worker asks
 * them with its own, all at once (ask.h).
 *
 * Embedded in its owner: lookup_init, lookup_add for each, lookup_start; on_done runs on the
 * control thread when all are answered. Answers are NULL where the lookup was cancelled. Until
 * on_done the memory is the worker's.
 */
#ifndef RELAY_CONTROL_LOOKUP_H
#define RELAY_CONTROL_LOOKUP_H

#include "dns/resolver.h"
#include "relay/control/ask.h"

enum { LOOKUP_MAX = 3, LOOKUP_NAME_MAX = DNS_NAME_MAX + 32 };

struct lookup_question {
	struct lookup *lookup;
	struct dns_query query;
	enum dns_type type;
	uint16_t name_size;
	char name[LOOKUP_NAME_MAX]; /* one that is too long for the DNS has no answer there */
	bool open;
	struct dns_answer *answer;
};

struct lookup {
	struct ask ask;
	struct ask_part part;
	bool begun;
	struct timer check; /* whether it was cancelled */
	unsigned count;
	struct lookup_question questions[LOOKUP_MAX];
	void (*on_done)(struct lookup *l);
};

void lookup_init(struct lookup *l, void (*on_done)(struct lookup *l));
/* For "prefix" + "name". */
void lookup_add(struct lookup *l, const char *prefix, struct span name, enum dns_type type);
/* `worker` is the number of the one that asks. */
void lookup_start(struct lookup *l, struct asker *asker, unsigned worker);
/* It ends soon; on_done comes all the same. */
void lookup_cancel(struct lookup *l);
/* After on_done, or before the start. */
void lookup_fini(struct lookup *l);

#endif
