/* SPDX-License-Identifier: Apache-2.0
 *
 * client_check: what must hold of every client of the load generator, whatever the peer says. Fed
 * with each mail that is offered and each action; aborts where something is broken. For unit tests
 * and fuzzing.
 *
 *  - each mail has exactly one outcome, in the order of offering; at most two are lent at a time;
 *  - its message is sent at most once, and not before that of the mail in front of it;
 *  - accepted means: the message was sent, and some recipient was not rejected;
 *  - in doubt means: the message was sent, and no reply has decided;
 *  - text is whole lines; behind CLOSE nothing comes, and no mail is left over by it.
 */
#ifndef TESTS_LIB_CLIENT_CHECK_H
#define TESTS_LIB_CLIENT_CHECK_H

#include "bench/client.h"
#include "core/base/assert.h"

enum { CHECK_MAILS = 16 };

struct client_check {
	const struct client_mail *mails[CHECK_MAILS];
	unsigned offered;
	unsigned sent;
	unsigned over;
	bool closed;
	bool sends_none; /* a mode without mails */
};

static inline void
check_offer(struct client_check *c, const struct client_mail *m)
{
	ASSERT(c->offered < CHECK_MAILS && c->offered - c->over < 2 && !c->closed);
	c->mails[c->offered++] = m;
}

static inline void
check_outcome(struct client_check *c, const struct client_action *a)
{
	bool sent = c->over < c->sent;
	uint32_t good = 0;

	ASSERT(c->over < c->offered && c->mails[c->over] == a->mail);
	for (uint32_t i = 0; i < a->mail->recipient_count; i++)
		good += !a->mail->rejected[i];
	switch (a->fate) {
	case CLIENT_ACCEPTED:
		ASSERT((sent || c->sends_none) && good > 0 && a->reply == NULL);
		break;
	case CLIENT_REFUSED:
		ASSERT(a->reply != NULL || !sent);
		break;
	case CLIENT_IN_DOUBT:
		ASSERT(sent && a->reply == NULL);
		break;
	}
	c->over++;
	if (c->sent < c->over)
		c->sent = c->over;
}

static inline void
check_action(struct client_check *c, const struct client_action *a)
{
	ASSERT(!c->closed);
	switch (a->event) {
	case CLIENT_NEED_INPUT:
	case CLIENT_NEED_MAIL:
	case CLIENT_START_TLS:
		break;
	case CLIENT_WRITE:
		ASSERT(a->text.size > 2);
		ASSERT(span_eq(span_after(a->text, a->text.size - 2), SPAN("\r\n")));
		break;
	case CLIENT_SEND_BODY:
		ASSERT(c->sent < c->offered && c->mails[c->sent] == a->mail);
		c->sent++;
		break;
	case CLIENT_OUTCOME:
		check_outcome(c, a);
		break;
	case CLIENT_CLOSE:
		ASSERT(c->over == c->offered);
		c->closed = true;
		break;
	}
}

#endif
