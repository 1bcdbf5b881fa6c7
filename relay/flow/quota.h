/* SPDX-License-Identifier: Apache-2.0
 *
 * quota: how much a user may send: mails and recipients in an hour and in a day, and connections at
 * a time, over all workers. A user's line says how much, or else the group users.defaults.
 *
 * Mails are booked at MAIL, recipients at RCPT, and given back where the mail is not taken; so
 * sessions side by side cannot get past a limit together. In no hour more than the limit happens;
 * what was sent counts for up to ten minutes longer (of a day: four hours; core/windows.h). A
 * refusal is for now (450), with an event and a count of ringpost_limit_hits_total.
 *
 * Where nodes share a store (queue/shares.h), mails and recipients are counted over all nodes; then
 * a booking may have to wait for an answer, and is refused as a mail is (451) where the store
 * cannot be asked. Else, and connections always, all of it is memory of this process: a reload
 * keeps it, a restart forgets it. What counts is the name of the user, so it goes on with a file of
 * users that was changed.
 */
#ifndef RELAY_FLOW_QUOTA_H
#define RELAY_FLOW_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"
#include "core/config.h"
#include "queue/shares.h"
#include "relay/flow/users.h"
#include "relay/smtp/replies.h"

struct session;
struct transaction;
struct quotas;

/* Embedded in the transaction. */
struct quota_booking {
	struct share_use use;
	enum user_limit hour; /* what is booked, also by the day */
	bool waits;           /* for the answer of the store: on_booked comes */
	bool mail;            /* is booked, as are so many recipients */
	bool apart;           /* some of it in the store, some in this process */
	uint32_t recipients;
	struct shares *shares; /* where it was booked; NULL: in this process */
	void (*on_booked)(struct transaction *t, enum reply_row row);
};

/* For all workers; `slots` in each of two tables. NULL: no memory. */
struct quotas *quotas_new(size_t slots);
void quotas_free(struct quotas *q);

/* How much that is for this user; 0: no limit. */
uint32_t quota_limit(const struct config *config, const struct user *u, enum user_limit which);

/* All on the session's worker; the session has a user. One mail, or recipient, more? REPLY_NONE:
 * yes, and it is booked with the transaction, or that waits and on_booked tells it later, never
 * inside of the call. */
enum reply_row quota_mail(struct transaction *t,
			  void (*on_booked)(struct transaction *t, enum reply_row row));
enum reply_row quota_recipient(struct transaction *t,
			       void (*on_booked)(struct transaction *t, enum reply_row row));
/* on_booked will not come any more. */
void quota_forget(struct transaction *t);
/* The last recipient was not taken after all. */
void quota_drop_recipient(struct transaction *t);
/* Nothing of it was. */
void quota_give_back(struct transaction *t);

/* A connection more of the user who has just logged in? REPLY_NONE: yes; else a 421. */
enum reply_row quota_connect(struct session *s);
void quota_disconnect(struct session *s);

#endif
