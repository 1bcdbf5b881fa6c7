/* SPDX-License-Identifier: Apache-2.0
 *
 * verb: the commands a receiver knows, where each is legal, and what each does. Internal to the
 * receiver: only receiver.c and verb.c include it.
 *
 * PURE. A verb's function sees the argument behind the word, without blanks at either end, and
 * either makes replies due (verb_reply, verb_end) or fills in `out` with a question (verb_ask).
 */
#ifndef RELAY_SMTP_VERB_H
#define RELAY_SMTP_VERB_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/span.h"
#include "relay/smtp/receiver.h"

/* What is emitted before anything else happens, in this order. */
enum due {
	DUE_ABORT = 1 << 0,
	DUE_REPLY = 1 << 1,    /* receiver.row */
	DUE_FAREWELL = 1 << 2, /* receiver.farewell */
	DUE_CLOSE = 1 << 3,    /* receiver.reason */
	DUE_CANCEL = 1 << 4,   /* before all others: CANCEL_AUTH */
};

enum {
	VERB_LAST = 1 << 0, /* must be last in a pipelined group (RFC 2920 3.1) */
	VERB_JUNK = 1 << 1, /* sends no mail */
};

struct verb {
	struct span name; /* in upper case */
	unsigned allowed; /* states in which the verb is legal */
	unsigned flags;
	/* Called only when legal. False: the line is not done, read it again when what is due has
	 * been emitted. */
	bool (*run)(struct receiver *, struct span argument, struct receiver_action *out);
};

/* NULL for a word that is no verb. */
const struct verb *verb_find(struct span word);
bool verb_is_allowed(const struct verb *v, enum receiver_state state);

/* In receiver.c, for the verbs. */

/* A reply is due; a 5xx counts as an error, and one too many ends the session. */
void verb_reply(struct receiver *r, enum reply_row row);
/* A last reply and the close are due. */
void verb_end(struct receiver *r, enum reply_row row, enum close_reason reason);
/* Opens a question; `yes` is the reply to be sent if the answer names none. */
void verb_ask(struct receiver *r, enum receiver_action_kind question, enum reply_row yes,
	      struct receiver_action *out);
/* Ends a transaction, if there is one: ABORT is due. Says whether there was one. */
bool verb_abort(struct receiver *r);
/* The mechanisms that are offered now: SASL_BITs. */
unsigned verb_auth_offered(const struct receiver *r);
/* Decodes what an exchange says into out->memory; false where it is no base64. */
bool verb_decode(struct span text, struct receiver_action *out);
/* The bytes of a chunk follow: to be kept, or dropped where r->refusal is set. */
void verb_begin_chunk(struct receiver *r);

#endif
