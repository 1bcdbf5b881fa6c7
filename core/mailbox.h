/* SPDX-License-Identifier: Apache-2.0
 *
 * mailbox: the only way by which one thread hands something to another.
 *
 * A bounded queue of intrusive messages, many producers, one consumer, no lock. The bound is kept
 * by reservation: a producer first reserves a place (mailbox_reserve), which may be refused, and
 * then posts, which cannot fail. A request that wants an answer reserves the place for the answer
 * in its own mailbox before it is posted, so an outcome always fits and nobody waits for room.
 *
 * A message belongs to the poster until mailbox_post(), then to the receiver, who returns it or
 * frees it as the two agree; on_message runs on the receiver's thread, where the place is released
 * before. Messages of one poster arrive in order. mailbox_post() tells whether the receiver sleeps
 * and wants its bell rung (ring_bell).
 */
#ifndef CORE_MAILBOX_H
#define CORE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct message;
/* context: what the mailbox was initialised with (the receiving worker). */
typedef void (*message_fn)(struct message *m, void *context);

struct message {
	_Atomic(struct message *) next;
	message_fn on_message;
};

struct mailbox {
	_Alignas(64) _Atomic(struct message *) newest; /* producers */
	_Alignas(64) atomic_size_t places;             /* still to be reserved */
	_Alignas(64) atomic_bool sleeping;             /* the consumer is about to wait */
	struct message *oldest;                        /* consumer */
	size_t spare;                                  /* an eighth; constant */
	struct message stub;
	void *context;
};

void mailbox_init(struct mailbox *m, size_t places, void *context);
/* False where all places are taken: keep what you have and go on. */
bool mailbox_reserve(struct mailbox *m, size_t places);
/* For an answer that may have to wait for others: it leaves an eighth (at least one) to those that
 * come at once, since it may be just these that it waits for. */
bool mailbox_reserve_long(struct mailbox *m, size_t places);
/* Returns places that will not be used. */
void mailbox_unreserve(struct mailbox *m, size_t places);
/* Uses up one reserved place. True: ring the receiver's bell. */
bool mailbox_post(struct mailbox *m, struct message *message);

/* The consumer's side. Handles up to `most` messages; returns how many. */
size_t mailbox_run(struct mailbox *m, size_t most);
/* Announces that the consumer will wait; false where something has arrived meanwhile. */
bool mailbox_may_sleep(struct mailbox *m);
void mailbox_awake(struct mailbox *m);

#endif
