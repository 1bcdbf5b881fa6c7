/* SPDX-License-Identifier: Apache-2.0
 *
 * mailboxes: the addresses in a From field (a mailbox-list of RFC 5322 3.4, also with the obsolete
 * forms and groups), one after the other.
 *
 * PURE. It is for asking whether all of them are the user's, so whatever it does not understand is
 * BAD: two readers of a doubtful list may see two different senders in it. Comments, folds, display
 * names and routes are left out; an address comes as local@domain, with the quotes of a local part
 * as they stood.
 */
#ifndef RELAY_MESSAGE_MAILBOXES_H
#define RELAY_MESSAGE_MAILBOXES_H

#include "core/base/buf.h"
#include "core/base/span.h"

enum { MAILBOX_MAX = 320 };

enum mailboxes_result { MAILBOXES_NEXT, MAILBOXES_END, MAILBOXES_BAD };

/* Cuts the first mailbox off `rest`, the value of the field, and writes its address to `out`, which
 * has MAILBOX_MAX bytes of room. */
enum mailboxes_result mailboxes_next(struct span *rest, struct buf *out);

#endif
