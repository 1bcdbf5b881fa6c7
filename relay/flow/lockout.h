/* SPDX-License-Identifier: Apache-2.0
 *
 * lockout: what becomes of who fails to log in again and again. Failures are counted by client
 * address (IPv6: its /64) and by user, whether there is such a user or not, over all workers
 * (core/strikes.h). Answers to failures are held back for longer each time; then the address, or
 * the user, is locked out for a while (the group `lockout` of the options).
 *
 * Three calls around each AUTH, on the session's worker:
 *
 *   lockout_judge   once the user is known, before anything is looked up or computed: a row other
 *                   than REPLY_NONE is the whole answer. 421 for a locked address, which closes;
 *                   454 for a locked user: clients try again later, and do not ask for another
 *                   password as they do at 535
 *   lockout_failed  the password was wrong: says how long the 535 is to be held back
 *   lockout_ok      it was right: the user's failures are forgotten
 *
 * Who waits is one session, by a timer of the caller's; nothing is blocked. What failed for a
 * reason of ours (454) is not told here. The event of one failed login is the caller's; that of a
 * lock is written here.
 *
 * Not everything that fails is guessing. A device with an old password that tries it again and
 * again is delayed but counts once: the caller says what was tried by a keyed hash. And whose name
 * others guess at is not locked out where he logs in from: at addresses from which he did within
 * `known` only the failures of the address count. Those are not forgotten with a success: one
 * password of one's own would let one guess at all others.
 *
 * All of it is memory: a restart forgets it. Where nodes share a store (queue/shares.h), failures
 * are counted over all of them, and each knows at once of a lock that begins or is lifted
 * elsewhere, of failures that are forgotten, and of where users have logged in. A failure is told
 * and not waited for; while the store is away each node counts alone. What was tried (a device
 * with an old password) each node remembers by itself. Names do not leave the node as they were
 * typed, which may be a password: hashes of them do, and the names of those who are users.
 */
#ifndef RELAY_FLOW_LOCKOUT_H
#define RELAY_FLOW_LOCKOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/close.h"
#include "core/base/err.h"
#include "core/base/span.h"
#include "relay/smtp/replies.h"

struct flow;
struct session;
struct share_lift;
struct strikes;

enum lockout_kind { LOCKOUT_ADDRESS, LOCKOUT_USER };

struct lockout_answer {
	enum reply_row row;       /* REPLY_NONE: go on */
	enum close_reason reason; /* of a 421 */
	uint64_t delay_ms;        /* hold it back for so long */
};

struct lockout_answer lockout_judge(struct session *s, struct span user);
/* `attempt`: a keyed hash of user and password as they were tried; 0 where there is none. */
uint64_t lockout_failed(struct session *s, struct span user, uint64_t attempt);
void lockout_ok(struct session *s, struct span user);
/* Is the client's address locked out? Of listeners where nobody may do anything without AUTH. */
bool lockout_has_address(const struct session *s);

/* ---- the names of what is locked; each worker remembers those that began with it ---- */

enum { LOCKOUT_NAMES = 256, LOCKOUT_NAME_MAX = 128 };

struct lockout_name {
	uint64_t key;
	uint8_t kind; /* enum lockout_kind */
	uint8_t size;
	uint8_t text[LOCKOUT_NAME_MAX]; /* an address, or a user, cut */
};

struct lockouts {
	unsigned count;
	unsigned oldest; /* gives way to the next once all places are taken */
	struct lockout_name names[LOCKOUT_NAMES];
};

/* Until when it is locked, in clock_monotonic_ms(); 0: no longer. Any thread. */
uint64_t lockout_until(const struct strikes *all, const struct lockout_name *n, uint64_t now_ms);
/* Lets an address or a user ("192.0.2.1", "ann@example.org") in again. False: it was not locked.
 * Any thread; `key_seed` is that of all flows. */
bool lockout_lift(struct strikes *all, uint64_t key_seed, struct span name, uint64_t now_ms);

/* ---- all nodes ---- */

/* On the worker: hears from now on of what other nodes know, where users may log in at all. */
void lockout_watch(struct flow *f);
/* Lets it in on all nodes; on a worker. ERR_OK: l->on_done comes, never inside of the call.
 * ERR_AWAY: they can not be told. ERR_NOT_FOUND: there are no others. */
enum err lockout_lift_everywhere(struct flow *f, struct span name, struct share_lift *l);

#endif
