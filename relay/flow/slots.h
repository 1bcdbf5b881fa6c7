/* SPDX-License-Identifier: Apache-2.0
 *
 * slots: how the workers share a site's limit on connections without sharing memory.
 *
 * A slot is the right to have one connection open. All slots of a site belong to its home worker
 * at first. A worker that has jobs asks (ASK); the home answers when it has some, in the order of
 * asking and in fair portions; what a worker does not need it gives back (GIVE); when some wait
 * and none are left, the home asks the holders (RECALL), who close what is idle and stay within
 * their share as jobs end. Slots that are out plus slots that are left are always the limit.
 *
 * Each letter exists once a worker and site and is embedded here; it reserves the place for its
 * answer before it leaves (mailbox.h). Where a mailbox is full the letter stays, and
 * slots_settle() is to be called again later: it returns false. The home uses the same letters
 * with itself, at once and without its mailbox. All functions run on the worker of the site.
 *
 * Where nodes share a store and the site's limit holds for all of them (shaping.h), the home has
 * places of the limit (queue/shares.h) by need, and shares out these.
 *
 * Letters also carry how it went, from which the home learns how many connections the site takes
 * (window.h): that, within the limit of the options, is what it shares out. Where there are fewer
 * than workers that want one, they have it in turns of a few seconds.
 */
#ifndef RELAY_FLOW_SLOTS_H
#define RELAY_FLOW_SLOTS_H

#include <stdbool.h>

#include "core/mailbox.h"
#include "core/worker.h"
#include "relay/flow/window.h"

struct shares;
struct site;
struct flow;

struct slot_letter {
	struct message message;
	struct list_node link; /* the home's line of who asks */
	/* Of the worker that owns it. It stays while a letter is out; the other side reads its kind
	 * and name, which never change. */
	struct site *site;
	struct flow *to;    /* the flow of the worker that receives it */
	struct flow *from;  /* the flow of the worker that owns it */
	unsigned number;    /* slots asked for, granted, or given back */
	uint32_t successes; /* mails that the site took since the last letter */
	uint32_t failures;  /* connections that failed since then */
	bool out;           /* with the other side */
};

struct slots {
	unsigned held;              /* slots that this worker has */
	struct slot_letter *recall; /* give back what is above its number; NULL: no recall */
	struct slot_letter ask;
	struct slot_letter give;
	struct slot_letter tell; /* only how it went, where neither of the others can leave */
	uint32_t successes;      /* not told yet */
	uint32_t failures;
	bool told_success; /* the home knows that the site answers */
};

/* What the home knows of one worker. */
struct slots_share {
	unsigned held;
	uint64_t since_ms; /* when it was granted the first of them; monotonic */
	struct slot_letter recall;
};

/* The home's part. */
struct slots_home {
	unsigned out; /* granted and not given back; above the limit only after that has shrunk */
	struct list asking;   /* struct slot_letter.link */
	struct window window; /* how many the site takes, as far as is known */
	uint32_t places;      /* of a limit of all nodes: what this one may have; else UINT32_MAX */
	struct shares *shares; /* who was asked for them last; NULL: nobody */
	struct slots_share workers[];
};

void slots_init(struct slots *s, struct site *site);
/* NULL: no memory. Freed with free(). */
struct slots_home *slots_home_new(struct site *site);

/* Brings what is held in line with what is needed: `wanted` connections in all (open ones and ones
 * to open). False where a letter could not leave: call again in a while. */
bool slots_settle(struct site *site, unsigned wanted);
/* How many connections may be open now: what is held, but for what is recalled. */
unsigned slots_usable(const struct slots *s);
/* No letter of this worker is on its way (for the end). */
bool slots_are_quiet(const struct site *site);
/* Nothing is granted and nobody asks. */
bool slots_home_is_idle(const struct slots_home *h);
/* A mail was taken or a connection is up; a connection failed. */
void slots_success(struct site *site);
void slots_failure(struct site *site);

#endif
