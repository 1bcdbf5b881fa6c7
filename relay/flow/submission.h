/* SPDX-License-Identifier: Apache-2.0
 *
 * submission: what is particular to listeners with the role submission (RFC 6409): the sender must
 * be the user's, by envelope and, as an option, by the From field; what the mail lacks is added,
 * and what gives away more than the user wants is taken out.
 *
 * A user's addresses are those of his line (relay/smtp/user_line.h: addresses, @domains, * for
 * all), or his name, if that is one. ASCII case does not count, nor does a detail (ann+lists)
 * behind a character of relay.recipient_delimiter.
 */
#ifndef RELAY_FLOW_SUBMISSION_H
#define RELAY_FLOW_SUBMISSION_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "relay/flow/users.h"
#include "relay/smtp/address.h"
#include "relay/smtp/replies.h"

struct fixup_options;
struct session;
struct transaction;

/* Is the session one with a user of ours, so that what follows is for it? */
bool submission_is_on(const struct session *s);
/* `delimiters`: each byte is one. */
bool submission_is_own(const struct user *u, struct span delimiters, const struct address *a);
/* May the user send with this sender? REPLY_NONE: yes. */
enum reply_row submission_sender(const struct session *s, const struct address *path);
/* Are all addresses of this From field the user's? */
enum reply_row submission_from(const struct session *s, struct span value);
/* Says what is to be changed of a message that is about to arrive. False: no memory. */
bool submission_begin(struct transaction *t, struct fixup_options *fix);

#endif
