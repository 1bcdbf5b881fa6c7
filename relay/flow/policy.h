/* SPDX-License-Identifier: Apache-2.0
 *
 * policy: who may connect, and who may send to whom. Questions with answers as rows of replies.def;
 * nothing here reads or writes a connection; what only the next hop knows is asked by callout.h.
 */
#ifndef RELAY_FLOW_POLICY_H
#define RELAY_FLOW_POLICY_H

#include "core/base/close.h"
#include "core/base/err.h"
#include "relay/smtp/address.h"
#include "relay/smtp/replies.h"

#include "relay/flow/callout.h"

struct flow;
struct session;

/* May this client have a session? REPLY_NONE: yes; then the places that it was given in the limits
 * are to be given back by policy_release. Else a 421, with the reason for the close. */
enum reply_row policy_client(struct session *s, enum close_reason *reason);
void policy_release(struct session *s);
/* The client's key in the table of limits. */
uint64_t policy_client_key(const struct session *s);

/* May this client send to this address, does a route lead there, and does our domain have it?
 * REPLY_NONE: yes, but for what only the next hop knows: then *ask becomes the routing by which it
 * is to be asked (callout.h). */
enum reply_row policy_recipient(const struct session *s, const struct address *path,
				struct routing **ask);
/* What becomes of the recipient. */
enum reply_row policy_of_callout(const struct session *s, enum callout_answer answer);

/* How a failure of the queue is told to a client; a limit that was reached is counted. */
enum reply_row policy_row_of_err(struct flow *f, enum err e);

#endif
