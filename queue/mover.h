/* SPDX-License-Identifier: Apache-2.0
 *
 * mover: what two stores provide so that mails can be moved between them. For stores and pair/
 * alone, which says in which order.
 *
 * The spool's copy carries a durable mark while its mail is under way, in either direction; nobody
 * delivers what is marked. In the shared store a mail comes or goes by one atomic change, which
 * notes that it was made: asked again, it says so and changes nothing. So whoever finds a marked
 * mail after a death asks, and knows which of the two copies is the mail:
 *
 *   out of the spool: mark; the change over there; remove here; forget over there that it was made
 *   into the spool: put, marked; the change over there; unmark here; forget over there
 *
 * Every function with on_done calls it exactly once, never inside the call. All on the worker of
 * the end.
 */
#ifndef QUEUE_MOVER_H
#define QUEUE_MOVER_H

#include "queue/queue.h"

/* Of a recipient, beyond mail.h: attempts begun under watch (invariant 9). */
struct queue_starts {
	uint16_t starts;
	uint16_t closed;
	bool alone;
};

/* One mail under way. */
struct queue_moving {
	struct mail_id id;
	void (*on_done)(struct queue_moving *m, enum err e); /* of the step */
	bool goes_out;                                       /* of the spool */
	bool is_found;                                       /* it was marked in a former life */
	bool is_marked; /* it is: what began must be brought to its end() */
	/* What the source says; lent until the step that ends it there. */
	const struct mail_envelope *envelope;
	const struct queue_starts *starts;
	bool is_held;
	const struct queue_mail *mail; /* of the spool: for queue_load */
	uint64_t stored_bytes;         /* over there, of all pieces sent */
	struct span bytes;             /* that get() has brought, during on_done */
	void *there, *here;            /* the shared store's; the spool's */
};

struct queue_mover {
	/* Bytes of a body that get and send are about at a time. */
	size_t piece;

	/* ---- of both ---- */
	/* Before all else; what it takes is given back by release. False: no memory. */
	bool (*prepare)(struct queue *q, struct queue_moving *m);
	void (*release)(struct queue *q, struct queue_moving *m);

	/* ---- of the spool ---- */
	/* Takes it out of everybody's hands and marks it, or finds it marked; reads its envelope.
	 * ERR_AGAIN: it is claimed. */
	void (*begin)(struct queue *q, struct queue_moving *m);
	/* The mail stays, unmarked; or it goes. ERR_NOT_FOUND: it is not there any more. */
	void (*end)(struct queue *q, struct queue_moving *m, bool stays);
	/* It stays marked, for the next life; no on_done. */
	void (*leave)(struct queue *q, struct queue_moving *m);
	/* Like put, with states, starts, and the mark; its items are not given out. */
	void (*put)(struct queue *q, struct queue_put *p, struct queue_moving *m);
	/* Marked mails that nobody is at work on. */
	uint64_t (*marked)(struct queue *q);
	/* The next of them from *cursor (0: the start) on: its id, and which way it goes. False:
	 * none was found in this time; at the end *cursor is 0 then. */
	bool (*next_marked)(struct queue *q, uint64_t *cursor, uint64_t slice_us,
			    struct queue_moving *out);

	/* ---- of the shared store ---- */
	/* Sends a piece; number from 0. The body is lent until on_done. */
	void (*send)(struct queue *q, struct queue_moving *m, uint32_t number, struct body *piece);
	/* ERR_IN_DOUBT: perhaps; all else: certainly not. */
	void (*arrive)(struct queue *q, struct queue_moving *m);
	/* ERR_OK: it has arrived in a former life. ERR_NOT_FOUND: it has not. */
	void (*has_arrived)(struct queue *q, struct queue_moving *m);
	/* ERR_AGAIN: some node has it. */
	void (*read)(struct queue *q, struct queue_moving *m);
	void (*get)(struct queue *q, struct queue_moving *m, uint32_t number);
	/* Takes it away if it is what read() has read. ERR_LOST: it is not; of one that was found
	 * marked: it was not taken away. */
	void (*depart)(struct queue *q, struct queue_moving *m);
	void (*forget)(struct queue *q, struct queue_moving *m); /* no on_done */
};

#endif
