/* SPDX-License-Identifier: Apache-2.0
 *
 * shares: limits that hold for all nodes of a store that nodes share. A store of one node has none
 * (queue_shares() is NULL): there core/windows.h and the like count alone. Who counts asks here,
 * and does not know which store it is.
 *
 * A limit is a key (a kind and a name, the same on all nodes) whose count the store's server keeps.
 * A worker takes portions of it and spends them without asking; what it does not use it gives back
 * within seconds. What a node that died had taken counts as used until its time is over: all nodes
 * together may fall short of a limit, and never exceed it. Only a server that forgets what it had
 * answered (a fail-over) forgets counts, too.
 *
 * One object a worker, on its thread alone. Memory is bounded: SHARES_MOST keys a worker; those
 * that nobody needs now make room.
 */
#ifndef QUEUE_SHARES_H
#define QUEUE_SHARES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/span.h"

struct queue;
struct shares;
struct strikes_rule;
struct task;

enum {
	SHARES_MOST = 16384,
	SHARE_NAME_MOST = 512, /* of what a limit is about; longer ones are cut */
	SHARE_COUNTS = 4,      /* that one key may have */
};

/* The end's part; NULL: this node counts for itself, now or always. Ask again each time. */
struct shares *queue_shares(struct queue *q);

enum share_answer {
	SHARE_YES,
	SHARE_NO,   /* as many as may, have */
	SHARE_AWAY, /* nobody can be asked, or no memory */
	SHARE_WAIT, /* on_answer comes */
};

/* ---- how often within a period ---- */

/* One count of a key. In no period do more than `most` happen on all nodes together, wherever it
 * begins; what happened counts for up to a sixth longer, as in core/windows.h. */
struct share_count {
	char name[3];  /* of it among the key's, the same on all nodes; empty: there is none */
	uint8_t ahead; /* as many are taken at first where one is needed; 0: one */
	uint32_t most; /* 0: no limit */
	uint64_t period_ms;
};

/* One use. Zeroed by the caller but for on_answer; it waits in a list of the shares' from
 * SHARE_WAIT until on_answer, which never comes inside of a call and must not ask itself, or until
 * shares_forget. */
struct share_use {
	struct list_node link;
	unsigned needs;   /* the shares': which of the counts, a bit each */
	unsigned used_up; /* out, of SHARE_NO: the number of the count that is */
	void (*on_answer)(struct share_use *u, enum share_answer answer);
};

/* May one more happen, in each of the counts whose bits are in `needs`? YES books it in all of
 * them, everything else in none. `soon`: bits of what will be asked for next, which is taken along
 * where there is something to be asked anyway. */
enum share_answer shares_use(struct shares *s, struct span kind, struct span name,
			     const struct share_count counts[SHARE_COUNTS], unsigned needs,
			     unsigned soon, struct share_use *u);
/* What was booked at that time (monotonic) did not happen. Without effect where the portion it came
 * from is over: it counts then. */
void shares_unuse(struct shares *s, struct span kind, struct span name, unsigned which,
		  uint64_t booked_ms);
/* on_answer will not come any more. Also allowed when it is not expected. */
void shares_forget(struct share_use *u);

/* ---- so many at a time ---- */

/* Places, of which all nodes together have `most`. A node has them by a lease, which ends when it
 * dies or is cut off: what it has open then is to be closed. One worker of a node asks for all of
 * them.
 *
 * `used`: those that are in use now; `wanted`: how many there is something to do for, which may be
 * more, or less: then others have them as soon as they lack any. Says how many
 * may be in use: less than are when others lack their part, when the lease is nearly over, or the
 * limit has shrunk; then those that end are not begun again. To be called whenever the numbers
 * change; `on_change` is run (worker_soon) when the answer may be another one. It is forgotten with
 * 0 used and 0 wanted. */
uint32_t shares_places(struct shares *s, struct span kind, struct span name, uint32_t most,
		       uint32_t used, uint32_t wanted, struct task *on_change);

/* ---- one after the other ---- */

/* May one more happen now, where so many a minute may on all nodes, evenly spread? 0: yes, and
 * shares_paced says that it has. Else how many ms until it may, or UINT64_MAX: on_change is run
 * (worker_soon) when that is known. `wanted`: how many are waiting for it. A turn that is not used
 * at its time is lost. */
uint64_t shares_pace(struct shares *s, struct span kind, struct span name, uint32_t per_minute,
		     uint32_t wanted, struct task *on_change);
void shares_paced(struct shares *s, struct span kind, struct span name);

/* ---- failures ---- */

/* Failures of a name, as core/strikes.h counts them. */
struct share_strike {
	struct span kind;
	struct span name;  /* in lower case */
	struct span shown; /* for people; empty: it is not to be shown */
	uint32_t count;    /* on all nodes */
	bool locked;
	bool began;        /* by a failure that this worker has told, and had not locked itself */
	uint64_t until_ms; /* when that is over, or forgotten: worker's now_ms */
};

/* Who is told on this worker of what all nodes know; spans are lent. A lock that begins anywhere is
 * told on all workers of all nodes at once; those that there are, when the watching begins, on
 * worker 0. */
struct share_watcher {
	void (*on_strike)(void *context, const struct share_strike *s);
	void (*on_lifted)(void *context, struct span kind, struct span name);
	/* What failed is forgotten on all nodes, unless it is locked. */
	void (*on_forgiven)(void *context, struct span kind, struct span name);
	/* As another node has said by shares_tell. */
	void (*on_told)(void *context, struct span text);
};

/* Nothing, where there are no shares. */
void queue_watch_shares(struct queue *q, const struct share_watcher *w, void *context);
/* Lent for the end's life. Once more is not an error. */
void shares_watch(struct shares *s, const struct share_watcher *w, void *context);
/* One failure more, by the rule, is told and not waited for; on_strike may come. `locked`: it is
 * locked by the failures that this node has seen. */
void shares_strike(struct shares *s, const struct share_strike *strike,
		   const struct strikes_rule *rule);
/* What failed is forgotten, unless it is locked. */
void shares_forgive(struct shares *s, struct span kind, struct span name);
/* Says a text to all nodes, this one included. */
void shares_tell(struct shares *s, struct span text);

/* Lets a name in again, everywhere. */
struct share_lift {
	void (*on_done)(struct share_lift *l, enum err e); /* of ERR_OK: */
	bool was_locked;
};
/* ERR_AWAY: nobody can be told; on_done does not come. */
enum err shares_lift(struct shares *s, struct span kind, struct span name, struct share_lift *l);

#endif
