/* SPDX-License-Identifier: Apache-2.0
 *
 * The queue is Vyukov's: a singly linked chain from `oldest` to `newest`. A producer takes the
 * place of `newest` by one exchange and then links its predecessor to itself; between the two the
 * chain is broken for a moment, which the consumer sees as "nothing yet". A stub of the mailbox's
 * own stands in the chain when it would be empty.
 *
 * Memory orders. The link (store release, load acquire) carries the content of the message. What
 * needs more is going to sleep: the consumer stores `sleeping` and then reads `newest`; a producer
 * changes `newest` and then reads `sleeping`. All four are seq_cst, so they stand in one order, in
 * which one of the two comes second and sees the other: no message is left behind by a consumer
 * that sleeps with nobody to wake it. (A fence would do as well, but ThreadSanitizer knows none.)
 */
#include "core/mailbox.h"

#include <stdint.h>

#include "core/base/assert.h"

void
mailbox_init(struct mailbox *m, size_t places, void *context)
{
	atomic_init(&m->stub.next, NULL);
	atomic_init(&m->newest, &m->stub);
	atomic_init(&m->places, places);
	atomic_init(&m->sleeping, false);
	m->oldest = &m->stub;
	m->spare = places < 16 ? 1 : places / 8;
	m->context = context;
}

/* Relaxed: the number guards no memory, it is only counted. */
static bool
reserve(struct mailbox *m, size_t places, size_t spare)
{
	size_t left = atomic_load_explicit(&m->places, memory_order_relaxed);

	do {
		if (left < places + spare)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&m->places, &left, left - places, memory_order_relaxed, memory_order_relaxed));
	return true;
}

bool
mailbox_reserve(struct mailbox *m, size_t places)
{
	return reserve(m, places, 0);
}

bool
mailbox_reserve_long(struct mailbox *m, size_t places)
{
	return reserve(m, places, m->spare);
}

void
mailbox_unreserve(struct mailbox *m, size_t places)
{
	size_t left = atomic_fetch_add_explicit(&m->places, places, memory_order_relaxed);
	ASSERT(left <= SIZE_MAX - places);
}

static void
append(struct mailbox *m, struct message *message)
{
	atomic_store_explicit(&message->next, NULL, memory_order_relaxed);
	struct message *before =
		atomic_exchange_explicit(&m->newest, message, memory_order_seq_cst);
	atomic_store_explicit(&before->next, message, memory_order_release);
}

bool
mailbox_post(struct mailbox *m, struct message *message)
{
	ASSERT(message->on_message != NULL);
	append(m, message);
	/* The exchange picks one of many producers to ring; the load in front of it keeps the cache
	 * line shared while the consumer is awake. */
	return atomic_load_explicit(&m->sleeping, memory_order_seq_cst) &&
	       atomic_exchange_explicit(&m->sleeping, false, memory_order_seq_cst);
}

/* The oldest message, taken out of the chain; NULL where there is none (yet). */
static struct message *
take(struct mailbox *m)
{
	struct message *first = m->oldest;
	struct message *next = atomic_load_explicit(&first->next, memory_order_acquire);

	if (first == &m->stub) {
		if (next == NULL)
			return NULL;
		m->oldest = first = next;
		next = atomic_load_explicit(&first->next, memory_order_acquire);
	}
	if (next == NULL) {
		/* The last one cannot leave before something stands behind it. */
		if (atomic_load_explicit(&m->newest, memory_order_acquire) == first)
			append(m, &m->stub);
		next = atomic_load_explicit(&first->next, memory_order_acquire);
		if (next == NULL)
			return NULL; /* a producer is about to link itself */
	}
	m->oldest = next;
	return first;
}

size_t
mailbox_run(struct mailbox *m, size_t most)
{
	struct message *message;
	size_t n = 0;

	while (n < most && (message = take(m)) != NULL) {
		n++;
		mailbox_unreserve(m, 1); /* before: the receiver may want it for an answer */
		message->on_message(message, m->context);
	}
	return n;
}

bool
mailbox_may_sleep(struct mailbox *m)
{
	atomic_store_explicit(&m->sleeping, true, memory_order_seq_cst);
	/* The stub alone. It may also be the newest behind messages that take() was asked to leave,
	 * or that it could not reach yet. */
	if (atomic_load_explicit(&m->newest, memory_order_seq_cst) == &m->stub &&
	    m->oldest == &m->stub)
		return true;
	mailbox_awake(m);
	return false;
}

void
mailbox_awake(struct mailbox *m)
{
	atomic_store_explicit(&m->sleeping, false, memory_order_relaxed);
}
