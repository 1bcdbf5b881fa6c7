/* SPDX-License-Identifier: Apache-2.0
 *
 * sender_check: what must hold of every sender, whatever the peer says. Fed with each action and
 * each call of the caller; aborts where something is broken. For unit tests and fuzzing.
 *
 *  - each recipient of each started transaction gets exactly one outcome, and then DONE comes;
 *  - DONE comes in the order of starting;
 *  - delivered means: a 2yz of the peer, and the whole message with its end was sent before;
 *  - in doubt means: the end was at least given to the caller to send, and nothing else is in
 *    doubt unless the caller was asked before;
 *  - the pieces of a body follow each other without a gap, the last after a yes;
 *  - nothing comes behind CLOSE, and no transaction is left over by it.
 */
#ifndef TESTS_LIB_SENDER_CHECK_H
#define TESTS_LIB_SENDER_CHECK_H

#include "core/base/assert.h"
#include "relay/smtp/sender.h"

enum { CHECK_RECIPIENTS = 64, CHECK_TRANSACTIONS = 16 };

struct sender_check {
	struct checked {
		const struct sender_transaction *transaction;
		uint64_t sent;    /* bytes of the body named so far */
		bool allowed;     /* the caller said yes */
		bool end_named;   /* the last piece was named */
		bool end_sent;    /* and sender_body_sent was called */
		uint32_t reports; /* outcomes so far */
		bool reported[CHECK_RECIPIENTS];
	} transactions[CHECK_TRANSACTIONS];
	unsigned started;
	unsigned done;
	bool closed;
	struct checked *sending; /* between SEND_BODY and sender_body_sent */
};

static inline struct checked *
check_find(struct sender_check *c, const struct sender_transaction *t)
{
	for (unsigned i = c->done; i < c->started; i++) {
		if (c->transactions[i].transaction == t)
			return &c->transactions[i];
	}
	assert_failed("a transaction on its way", __FILE__, __LINE__, __func__);
}

static inline void
check_start(struct sender_check *c, const struct sender_transaction *t)
{
	ASSERT(c->started < CHECK_TRANSACTIONS);
	ASSERT(t->recipient_count <= CHECK_RECIPIENTS);
	c->transactions[c->started++] = (struct checked){ .transaction = t };
}

static inline void
check_answer(struct sender_check *c, const struct sender_transaction *t, bool go)
{
	check_find(c, t)->allowed = go;
}

static inline void
check_body_sent(struct sender_check *c)
{
	ASSERT(c->sending != NULL);
	c->sending->end_sent = c->sending->end_named;
	c->sending = NULL;
}

static inline void
check_piece(struct sender_check *c, const struct sender_action *a)
{
	struct checked *t = check_find(c, a->transaction);

	ASSERT(c->sending == NULL);
	ASSERT(!t->end_named);
	ASSERT(a->piece.offset == t->sent);
	t->sent += a->piece.size;
	ASSERT(t->sent <= t->transaction->body_size);
	ASSERT(a->piece.last == (t->sent == t->transaction->body_size));
	ASSERT(!a->piece.last || t->allowed);
	t->end_named = a->piece.last;
	c->sending = t;
}

static inline void
check_outcome(struct sender_check *c, const struct sender_action *a)
{
	const struct sender_outcome *o = &a->outcome;
	struct checked *t = check_find(c, a->transaction);

	ASSERT(o->index < t->transaction->recipient_count);
	ASSERT(!t->reported[o->index]);
	t->reported[o->index] = true;
	t->reports++;
	ASSERT((o->reply != NULL) == (o->cause == SENDER_CAUSE_REPLY));
	if (o->class == SENDER_OK) {
		ASSERT(o->reply != NULL);
		ASSERT(reply_class(o->reply) == 2);
		ASSERT(t->end_sent);
		ASSERT(!o->in_doubt);
		ASSERT(o->next == SENDER_NEXT_NOTHING);
	}
	ASSERT(o->class != SENDER_TEMPORARY || o->next != SENDER_NEXT_NOTHING);
	/* Of what a mail requires another host may be capable. */
	bool is_unfit =
		o->cause == SENDER_CAUSE_TLS_NEEDED || o->cause == SENDER_CAUSE_NO_REQUIRETLS;
	ASSERT(o->class != SENDER_PERMANENT || is_unfit == (o->next == SENDER_NEXT_HOST));
	ASSERT(o->class != SENDER_PERMANENT || is_unfit || o->next == SENDER_NEXT_NOTHING);
	if (o->in_doubt) {
		ASSERT(t->end_named);
		ASSERT(o->class == SENDER_TEMPORARY);
	}
}

static inline void
check_action(struct sender_check *c, const struct sender_action *a)
{
	ASSERT(!c->closed);
	switch (a->kind) {
	case SENDER_WRITE:
		ASSERT(a->text.size >= 2); /* an empty line answers a challenge */
		ASSERT(a->text.data[a->text.size - 1] == '\n');
		ASSERT(c->sending == NULL);
		break;
	case SENDER_SEND_BODY:
		check_piece(c, a);
		break;
	case SENDER_RECIPIENT_OUTCOME:
		check_outcome(c, a);
		break;
	case SENDER_DONE:
		ASSERT(c->done < c->started);
		ASSERT(c->transactions[c->done].transaction == a->transaction);
		ASSERT(c->transactions[c->done].reports == a->transaction->recipient_count);
		c->done++;
		break;
	case SENDER_CLOSE:
		ASSERT(c->done == c->started);
		ASSERT(a->close != CLOSE_NONE);
		c->closed = true;
		break;
	default:
		break;
	}
}

#endif
