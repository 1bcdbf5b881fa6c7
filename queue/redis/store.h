/* SPDX-License-Identifier: Apache-2.0
 *
 * store: the distributed store: every mail lives in Redis, many nodes share them, and any of them
 * may die. What stands outside of queue.h: opening, counters, what a take-over means.
 *
 * A mail lives in one shard (its id says which), whole: envelope, states, body. It is
 * either somebody's, whose incarnation (128 random bits, one a process) is noted with it, or waits
 * for its time in the shard's schedule, or is held. Whoever puts a mail owns it, delivers it, and
 * gives it back when all that is left of it has to wait for longer than REDIS_KEEP_MS. Each shard
 * is looked after by one worker of a node, which claims what is due there while there is room.
 *
 * A node holds a lease on each shard in which it owns something, renewed every sixth of its length.
 * When it runs out, others take its mails over; what it then records is refused (ERR_LOST), but
 * for `delivered`, which is a fact. So is what comes of an old copy when the same incarnation has
 * claimed the mail again after others had it: each giving of a mail has a number, which a change
 * names. Before the end of data the relay asks whether the lease is valid for a third of its length
 * more, by a monotonic clock (queue_may_end_until_ms).
 *
 * Times in Redis are of Redis's clock. This end adds its offset (wall clock less Redis's time, as
 * of the last answer that told it) where a time comes in, and takes it off where one goes out.
 *
 * Promise: on_done(ERR_OK) of a put comes when the commit was answered, and in durability `replica`
 * when WAIT on the same connection said that enough replicas have it. A commit without an answer is
 * ERR_IN_DOUBT and is followed by rp_cancel, sent until it is answered; what cannot be cancelled
 * before the stop is counted. Outcomes wait for Redis as long as it is away and are sent again,
 * which changes nothing twice; they fail for that (ERR_AWAY) only after queue_give_up, or when a
 * stop has waited long enough. Intake is refused meanwhile (ERR_AWAY).
 *
 * An outcome that Redis had answered may be lost with a fail-over. Where we still have the mail,
 * what we know of it is said again before all else (restate.c). Else it is noted as this
 * incarnation's, which knows nothing of it: such mails are looked for after each connection that
 * was lost, and become ours again like those of a node that died (reconcile.c). What was due when
 * another server took the place of the one before may have been claimed and delivered in what was
 * lost: it is counted when it comes. Nobody counts what a node lost so that has died since.
 *
 * The nodes know each other by rows in Redis (queue_nodes). One that is drained (queue_order) takes
 * no mail in (ERR_DRAINING), claims none, and gives back what is not claimed, whenever it is due;
 * it is empty when nothing in Redis is its own. An act on a mail that another node owns is done by
 * that one (queue_act, is_told).
 */
#ifndef QUEUE_REDIS_STORE_H
#define QUEUE_REDIS_STORE_H

#include "queue/queue.h"
#include "queue/redis/servers.h"

enum {
	REDIS_KEEP_MS = 10 * 1000, /* what is due sooner is not given back */
	REDIS_SHARDS_MOST = 256,
	REDIS_PREFIX_MOST = 48,
};

/* Of one worker since its start; written by it alone. */
struct redis_counters {
	uint64_t commits;
	uint64_t records;
	uint64_t claimed_mails;
	uint64_t released_mails;
	uint64_t taken_over_mails;
	uint64_t taken_over_doubtful; /* recipients that who died may have had in delivery */
	uint64_t recovered_mails;     /* noted as ours, and unknown: a fail-over lost an outcome */
	uint64_t recovered_doubtful;  /* recipients of theirs that may have got them */
	uint64_t claimed_doubtful;    /* recipients of mails that were due before a fail-over */
	uint64_t undone_outcomes;  /* of mails that we had, and that Redis does not have any more */
	uint64_t gone_mails;       /* ours, pending, and not in Redis any more */
	uint64_t in_doubt;         /* puts without an answer */
	uint64_t cancels;          /* of them, cancelled */
	uint64_t errands_given_up; /* cancels and the like, not before the stop */
	uint64_t records_repeated; /* sent again after a connection was lost */
	uint64_t records_lost;     /* refused: another node has the mail */
	uint64_t records_given_up; /* not before the stop: may be delivered again */
	uint64_t away;             /* refused: Redis cannot be reached */
	uint64_t no_room;          /* refused: Redis is full */
	uint64_t no_memory;
	uint64_t too_many;
	uint64_t unreplicated;             /* puts refused: too few replicas */
	uint64_t corrupt;                  /* mails that can not be read */
	uint64_t share_asks;               /* commands about limits of all nodes (shares.h) */
	uint64_t share_waits;              /* of a mail, for the answer to one */
	uint64_t body_bytes, stored_bytes; /* bodies before and after compression */
};

struct queue_store *redis_open(const struct queue_options *options, struct worker **workers,
			       unsigned worker_count, const struct queue_hooks *hooks,
			       struct buf *why);

#endif
