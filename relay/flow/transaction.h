/* SPDX-License-Identifier: Apache-2.0
 *
 * transaction: one mail on its way in, from MAIL to the reply to its end of data: its envelope in
 * an arena, its body in a draft of the queue, and what is learnt of it while it passes.
 *
 * Taken from the flow's pool, given back by transaction_free, which also abandons the draft. The
 * session owns it, but while the queue has its put; on_put_done of the caller gets it back.
 */
#ifndef RELAY_FLOW_TRANSACTION_H
#define RELAY_FLOW_TRANSACTION_H

#include "core/base/arena.h"
#include "queue/queue.h"
#include "relay/flow/quota.h"
#include "relay/flow/vetting.h"
#include "relay/message/fixup.h"
#include "relay/message/header.h"
#include "relay/smtp/body_out.h"
#include "relay/smtp/receiver.h"

struct destination;
struct session;

enum { TRANSACTION_HEADER_MEMORY = 256 };

struct recipient_node {
	struct recipient_node *next;
	struct mail_recipient recipient;
	struct destination *destination; /* held */
};

struct transaction {
	struct session *session;
	struct arena memory;
	struct mail_envelope envelope;
	struct recipient_node *first;
	struct recipient_node *last;
	struct recipient_node *before_last; /* where it was added behind; NULL: it is the first */
	struct queue_draft *draft;          /* NULL: none, refused, or given to the queue */
	struct queue_put put;
	struct header header;
	bool is_fixed; /* by `fixup`; else the message is kept as it comes */
	struct fixup fixup;
	struct vetting vetting;
	bool header_ended;
	bool says_no;        /* the last of its TLS-Required fields does */
	uint32_t tls_fields; /* so many there are */
	bool checks_from;    /* the From fields must be the user's */
	struct quota_booking quota;
	bool refused; /* the rest of the body is not kept */
	struct body_dots dots;
	uint64_t line_size;     /* bytes of the present line */
	uint64_t started_ms;    /* MAIL, monotonic */
	uint64_t complete_us;   /* the end of data, monotonic */
	uint64_t declared_size; /* SIZE= of MAIL, or 0 */
	uint64_t deadline_ms;   /* for the whole message, monotonic; 0: no body yet */
	uint8_t header_memory[TRANSACTION_HEADER_MEMORY];
};

/* Begins the session's transaction with what MAIL said. REPLY_NONE: it has begun. Where it is a
 * user's, its booking (quota.h) may wait for on_booked. */
enum reply_row transaction_begin(struct session *s, const struct receiver_action *mail,
				 void (*on_booked)(struct transaction *t, enum reply_row row));
/* Drops the session's transaction, if there is one. */
void transaction_free(struct session *s);

/* Likewise. While the booking waits the recipient is there already: if it comes to nothing,
 * transaction_drop_recipient is called. */
enum reply_row transaction_add_recipient(struct transaction *t, const struct receiver_action *rcpt,
					 void (*on_booked)(struct transaction *t,
							   enum reply_row row));
/* Takes the one that was added last out again; not twice in a row. */
void transaction_drop_recipient(struct transaction *t);
/* A body will follow: makes the draft, with our trace field on top. `size`: what is known of it. */
enum reply_row transaction_open_body(struct transaction *t, uint64_t size);
/* Keeps bytes of the body. Anything but REPLY_NONE refuses the mail; the draft is gone then. */
enum reply_row transaction_add_body(struct transaction *t, struct span bytes);
/* The message is complete. Anything but REPLY_NONE as above. */
enum reply_row transaction_end_body(struct transaction *t);
/* The put is done: the queue names its destinations. */
void transaction_queued(struct transaction *t);
/* Gives the mail to the queue; on_done comes with t->put. False: no memory, nothing was given. */
bool transaction_put(struct transaction *t, void (*on_done)(struct queue_put *p, enum err e));

#endif
