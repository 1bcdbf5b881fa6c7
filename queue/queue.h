/* SPDX-License-Identifier: Apache-2.0
 *
 * queue: keeps mails until every recipient has an outcome. The contract that every store meets
 * (spool/: one disk, no server; redis/: many nodes; pair/: redis/, and spool/ while that is away),
 * tested by one suite.
 *
 * A struct queue is one worker's end of the store, used on that worker's thread alone. Requests
 * are structs embedded in the caller's objects; they belong to the queue from the call until
 * on_done, which always comes, exactly once, never inside the call. Failures are rows of err.h.
 *
 * A mail is kept by one worker (whose queue took it in, or to which it was dealt at recovery). Its
 * recipients are grouped by site: one `struct queue_item` for each (mail, site), the unit that
 * waits, is claimed, and gets outcomes. An item is either WAITING (in the queue's hands, due at a
 * time), HELD (by an operator), or CLAIMED (in the caller's hands until queue_record or
 * queue_release takes it back). After a put all its items are claimed by the one who put: the fast
 * path, with the body in memory. While any item of a mail is claimed, the envelope is loaded and
 * the place of its body does not move: other workers may read both (item->mail is read-only for
 * them), through their own end of the same store (queue_load).
 *
 * Of what is due at one site the senders have turns (deficit round robin by the sizes of the mails;
 * a sender is what sender.h makes of its address), so that a million mails of one do not hold up
 * one of another. Senders above 1024 a site share turns with others.
 *
 * Promise: on_done(ERR_OK) of put and record means the durability level of the configuration
 * (docs/durability.md: disk, memory). 250s may leave in the order of on_done. ERR_IN_DOUBT is
 * followed by a durable cancel that the store makes by itself; everything else means: not kept.
 *
 * Limits: memory for drafts, items and loaded bodies; disk. They show as ERR_NO_MEMORY and
 * ERR_NO_ROOM, with counters, and heal by themselves. Memory of a waiting item: at most 256 bytes.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/worker.h"
#include "queue/body.h"
#include "queue/mail.h"

struct queue;
struct queue_store;
struct redis_options;
struct spool_end;

/* A request while the queue has it. Callers embed it zeroed and never look inside. */
struct queue_request {
	struct list_node node;
	const struct queue_request_kind *kind;
	enum err error;
};

/* ---- opening and closing: main thread, before and after the workers run ---- */

struct queue_hooks {
	/* The site of a recipient, for recovered and re-routed mails. `q`: the end that keeps, or
	 * will keep it; `flags`: of its mail (enum mail_flags). At recovery it is called on the
	 * main thread, before the workers run. */
	struct site_id (*site_of)(struct queue *q, struct span address, uint32_t flags);
	/* Something at this site has become due (or was requeued); claim it when there is room. On
	 * the worker of `q`. Comes again only after a claim has found nothing more. */
	void (*on_due)(struct queue *q, struct site_id site);
	/* No item names this site any more: the number may be used for another one. On the worker
	 * of `q`, from a task, never inside a call; may come for a number that was given out by
	 * site_of or a put and never had an item, and comes again when it had items again. Between
	 * its choice and the put the caller keeps a number alive by itself. Not for 0 (nowhere),
	 * and not when stopping. May be NULL. */
	void (*on_site_unused)(struct queue *q, struct site_id site);
	/* How many times the others' share this sender gets of a site; `sender` is its key
	 * (sender.h). Asked now and then, on the worker of `q`. NULL: 1 for all. */
	uint32_t (*weight_of)(struct queue *q, struct span sender);
	/* Called when intake is possible again after ERR_NO_ROOM or ERR_NO_MEMORY; may be NULL. */
	void (*on_room)(struct queue *q);
	/* An operator drains this node, or ends that (queue_order): claim nothing meanwhile, and
	 * release what waits. On each worker. May be NULL. */
	void (*on_drain)(struct queue *q, bool drains);
	void *context; /* queue_context() */
};

enum queue_durability {
	QUEUE_DISK,   /* on stable storage before on_done */
	QUEUE_MEMORY, /* on_done as soon as it is in memory: a crash loses mail */
};

/* Plain input, filled from the configuration by the caller. Memory is of the whole process. */
struct queue_options {
	const struct redis_options *redis; /* queue/redis/servers.h; NULL: the spool */
	bool fallback;              /* with redis: the spool takes mail while Redis can not */
	unsigned fallback_after_ms; /* so long Redis is waited for at the start; 0: 1000 */
	const char *spool_path;     /* directory; made where it does not exist */
	enum queue_durability durability;
	uint64_t segment_size;   /* bytes; at most, see spool.h; 0: 64 MiB */
	uint64_t file_threshold; /* larger bodies get a file of their own; 0: 256 KiB, the most */
	unsigned flights;        /* commits in flight a worker, 1 .. 4; 0: 2 */
	uint64_t body_memory;    /* drafts and bodies in memory; 0: 256 MiB */
	uint64_t items_max;      /* mails and items kept; 0: 16 million */
	uint64_t reserve_bytes;  /* of the disk that are never taken */
};

/* Opens and recovers. NULL with a line for people in `why`: path, what is wrong, the remedy. What
 * was noticed without being fatal (corruption set aside, a volatile directory) is in `why` too
 * when it succeeds. */
struct queue_store *queue_open(const struct queue_options *options, struct worker **workers,
			       unsigned worker_count, const struct queue_hooks *hooks,
			       struct buf *why);
/* The end of worker `number`; also stored in worker->queue by queue_open. */
struct queue *queue_end(struct queue_store *s, unsigned number);
/* The worker that this end belongs to. */
struct worker *queue_worker(struct queue *q);
/* hooks.context. */
void *queue_context(struct queue *q);
/* Called on each worker when it starts to run and before it stops. queue_stop finishes what is in
 * flight, waits until all drafts have been put or abandoned, takes no new requests
 * (ERR_SHUTTING_DOWN) and calls on_stopped. */
void queue_start(struct queue *q);
void queue_stop(struct queue *q, void (*on_stopped)(struct queue *q, void *context), void *context);
/* There is no more time: what a store would say to a server that is away fails (ERR_AWAY), now and
 * from now on, instead of waiting for it. */
void queue_give_up(struct queue *q);
/* After all workers have ended. */
void queue_close(struct queue_store *s);

/* ---- taking in ---- */

/* May a mail of this size (0: unknown) be taken in? ERR_NO_ROOM, ERR_NO_MEMORY, … : say 452.
 * ERR_DRAINING: not by this node. */
enum err queue_admit(struct queue *q, uint64_t size);

/* Is the memory for bodies three quarters full? Then keep none that would only wait. */
bool queue_memory_is_tight(struct queue *q);

/* A fresh id for a mail that comes in: a store may choose where it will lie. */
struct mail_id queue_id_new(struct queue *q);
/* A fresh id for a mail of ours that is to be one atomic change with the mail `of` (a notice of
 * it): a store may need the two to lie beside each other. */
struct mail_id queue_id_beside(struct queue *q, struct mail_id of);

/* A body on its way in. */
struct queue_draft;
struct queue_mail;
/* `id` is the mail's from now on. NULL: no memory. */
struct queue_draft *queue_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint);
/* Copies. An error is final for this draft: abandon it. */
enum err queue_draft_append(struct queue_draft *d, struct span bytes);
/* Of a mail of ours that is to be one atomic change with `of`, a notice of it, under an id that
 * queue_id_beside() gave: it is kept where that is. */
struct queue_draft *queue_draft_new_beside(struct queue *q, const struct queue_mail *of,
					   struct mail_id id, uint64_t size_hint);
/* Over its limit of bytes not yet written: stop reading the client; `resume` runs when there is
 * room again (worker_soon). */
bool queue_draft_is_full(const struct queue_draft *d);
void queue_draft_on_room(struct queue_draft *d, struct task *resume);
uint64_t queue_draft_size(const struct queue_draft *d);
void queue_draft_abandon(struct queue_draft *d);

struct queue_put {
	struct queue_request request;
	struct queue_draft *draft;            /* taken */
	const struct mail_envelope *envelope; /* lent until on_done; id as given to the draft */
	void (*on_done)(struct queue_put *p, enum err e);
	struct list items; /* out, on ERR_OK: struct queue_item.link, claimed */
};
void queue_put(struct queue *q, struct queue_put *p);

/* ---- handing out ---- */

enum queue_place { QUEUE_IN_SPOOL, QUEUE_IN_REDIS };

/* One mail as it is kept. Read-only for all but the store. */
struct queue_mail {
	uint32_t magic;
	uint16_t worker; /* who keeps it */
	uint8_t place;   /* enum queue_place */
	uint8_t mark;    /* the store's */
	struct mail_id id;
	const struct mail_envelope *envelope; /* loaded while an item of it is claimed */
	struct body *body;                    /* in memory, or NULL: queue_load */
};

struct queue_item {
	uint32_t magic;
	struct site_id site;
	struct queue_mail *mail;
	uint16_t open_starts;       /* attempts that were begun and never ended (ARCHITECTURE.md,
				       invariant 9) */
	bool recovered;             /* record the start of its next attempt: queue_attempt */
	bool had_run_alone;         /* its last open start was alone on its worker */
	uint32_t sender_key;        /* hash of the sender's key (sender.h): whose turn it is */
	uint32_t recipient_count;   /* pending ones of this item, while claimed */
	const uint32_t *recipients; /* their indexes in the envelope, ascending */
	union {
		struct list_node link; /* free for the holder's use while claimed */
		uint64_t due_at_ms;    /* the store's until then */
	};
};

/* The recipients of an item: index of the first / next one at or after `from` in
 * mail->envelope->recipients that is pending and belongs to the item; the envelope's
 * recipient_count at the end. Whoever holds an item looks at no other recipients: those of items
 * that are not claimed may be brought up to date meanwhile by the keeping worker. */
uint32_t queue_item_recipient(const struct queue_item *i, uint32_t from);

struct queue_claim {
	struct queue_request request;
	struct list loading; /* the queue's */
	struct site_id site;
	uint32_t most; /* items */
	/* Only the item of this mail at the site, due or not; none where it does not wait. */
	bool by_id;
	struct mail_id id;
	bool with_bodies; /* load bodies too where the memory budget allows */
	void (*on_done)(struct queue_claim *c, enum err e);
	struct list items; /* out: struct queue_item.link; fewer than `most`: no more are due now */
};
void queue_claim(struct queue *q, struct queue_claim *c);

/* Gives a claimed item back untried; it is due at due_at_ms, its sender is charged nothing. Within
 * its sender's mails the earlier goes first: with 0 it is at the front. In memory only. */
void queue_release(struct queue *q, struct queue_item *i, uint64_t due_at_ms);
/* Changes the site of a claimed item's recipients after the routes changed: releases the item and
 * makes new ones from site_of(), due now. */
void queue_reroute(struct queue *q, struct queue_item *i);

/* Reads a part of a body of any worker's claimed item. `memory` is aligned to 4096, `capacity` a
 * multiple of it and at least 8192; `bytes` points into it when on_done comes and is shorter than
 * asked only at the end of the body. */
struct queue_load {
	struct op op; /* the store's, like request */
	struct queue_request request;
	const struct queue_mail *mail;
	uint64_t offset;
	uint8_t *memory;
	size_t capacity;
	void (*on_done)(struct queue_load *l, enum err e);
	struct span bytes; /* out */
	/* The store's. A body that is read in order, from the start, with one queue_load, is
	 * checked when its end is read: ERR_CORRUPT. */
	struct spool_end *end;
	size_t read_bytes;
	uint64_t read_up_to;
	uint32_t crc;
};
void queue_load(struct queue *mine, struct queue_load *l);
/* Frees the body in memory of a mail that this worker keeps; it is read back with queue_load. */
void queue_drop_body(struct queue *q, struct queue_mail *m);

/* ---- outcomes ---- */

struct queue_result {
	uint32_t recipient; /* index */
	uint8_t state;      /* enum recipient_state; RECIPIENT_PENDING: again at retry_at_ms */
	bool tried;         /* counts as an attempt; false only for a pending one not reached yet */
	bool notified; /* the sender was told that it is delayed; what once was true stays so */
	uint64_t retry_at_ms;
	struct span reply; /* lent until on_done */
};

/* The outcomes of one attempt: one result for each pending recipient of the item, recorded as one
 * atomic change. The item is the queue's again from the call on: on ERR_OK it waits, or is gone
 * when no recipient is pending; on failure it stays claimed for the caller to record again. The
 * mail (not the item) may be read until on_done returns. The mail ends when no recipient is
 * pending.
 *
 * A mail of ours that the outcomes give rise to (a bounce) is kept with them or not at all: its put
 * is `notice`, whose draft is taken, whose envelope is lent until on_done and whose own on_done is
 * not called. On ERR_OK its items are in notice->items, claimed. On failure neither the outcomes
 * nor the notice are kept (ERR_IN_DOUBT: both or neither, as for a put), the draft is gone, and the
 * item stays claimed: record again with a new notice. ERR_TOO_BIG: the notice is, make it shorter.
 * ERR_NO_ROOM comes earlier than without a notice: room for outcomes alone is left to them.
 *
 * ERR_LOST: another node has taken the mail over (its lease had run out): the outcome was not
 * recorded but for recipients delivered, the item is gone, the caller forgets it. There is no
 * notice then, unless it tells of deliveries alone and all of them were news: then it waits in the
 * queue, for whichever node (notice_is_kept). Its draft is gone either way. The mail may be read
 * until on_done returns. may_be_kept: the mail has come to its end, and whether by these outcomes
 * or by another node's is not known, since an answer was lost and the lease was over. */
struct queue_record {
	struct queue_request request;
	struct queue_item *item;
	const struct queue_result *results; /* lent until on_done */
	uint32_t result_count;
	struct queue_put *notice;   /* NULL: none */
	bool tells_deliveries_only; /* the notice does */
	bool notice_is_kept;        /* out, of ERR_LOST */
	bool may_be_kept;           /* likewise */
	void (*on_done)(struct queue_record *r, enum err e);
};
void queue_record(struct queue *q, struct queue_record *r);
/* Is there room to record outcomes? If not, start no delivery. */
bool queue_may_deliver(struct queue *q);
/* Invariant 3: until when, by clock_monotonic_ms(), data of this mail may be ended: then the right
 * to record its outcomes is certain for a third of a lease more. 0: it may not. UINT64_MAX: a
 * spool's always may (it is locked). It moves on as the lease is renewed. Asked before the end of
 * data, and until that has left, of any worker's claimed item, through one's own end. */
uint64_t queue_may_end_until_ms(struct queue *mine, const struct queue_mail *m);

/* Invariant 9: records that an attempt begins, for items with `recovered`; batched. `alone`: it is
 * the only delivery on its worker. The item stays claimed, but for ERR_LOST: another node has taken
 * the mail over, the item is gone when on_done has returned, the caller forgets it. */
struct queue_attempt {
	struct queue_request request;
	struct queue_item *item;
	bool alone;
	void (*on_done)(struct queue_attempt *a, enum err e);
};
void queue_attempt(struct queue *q, struct queue_attempt *a);

/* ---- seeing and acting: by slices, so that a million mails hold up nobody ---- */

/* FAILED, only where asked for: mails that are still here for others and have a recipient that
 * failed for good. */
enum queue_state { QUEUE_ANY, QUEUE_WAITING, QUEUE_CLAIMED, QUEUE_HELD, QUEUE_FAILED };

/* What must match; zeroed: nothing must. Spans are lent for the call. */
struct queue_filter {
	bool by_site;
	struct site_id site;
	bool by_id;
	struct mail_id id;
	/* Of a store that nodes share, only what this worker keeps now; else all that it answers
	 * for (a call may then come to no row and not to the end: rows are on their way). */
	bool kept_here;
	enum queue_state state;
	uint16_t attempts_min;
	uint64_t accepted_before_ms; /* 0: any */
	uint64_t accepted_after_ms;  /* or at it */
	struct span sender; /* an address: the sender that it is one of (sender.h); "@domain" */
	bool null_sender;
	/* One of the item's recipients: */
	struct span recipient_domain;
	struct span recipient; /* an address, in any case; rows are candidates */
	struct span reply;     /* a part of its last reply */
};

/* Spans are good during the call. What is not in memory is empty: the sender where a great many
 * share turns, the domain where there are a great many of them. */
struct queue_row {
	struct mail_id id;
	struct site_id site;
	uint64_t accepted_at_ms;
	uint64_t due_at_ms;
	uint64_t body_size;
	uint32_t recipient_count; /* of the mail */
	uint32_t pending_count;   /* of the item */
	uint16_t attempts;
	uint8_t state; /* enum queue_state */
	uint8_t place; /* enum queue_place */
	/* What was asked for is not in memory: it may match. queue_show tells. */
	bool is_candidate;
	bool sender_is_known;
	bool untold;                  /* of some pending one nobody was told that it is delayed */
	struct span sender;           /* its key (sender.h), or all of it; empty: the null sender */
	struct span recipient_domain; /* of the first of the item */
	struct span reply;            /* the first that there is */
};

/* Calls on_row for items that match, beginning at *cursor (0: the start), for at most `slice_us`;
 * moves the cursor. on_row says whether more rows are wanted; those of the same mail still come.
 * False when the end was reached. */
bool queue_list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
		bool (*on_row)(void *context, const struct queue_row *row), void *context);

/* One mail with all its recipients as they are now. */
struct queue_show {
	struct queue_request request;
	struct mail_id id;
	/* ERR_NOT_FOUND; ERR_CORRUPT, ERR_STORAGE: it can not be read; ERR_NO_MEMORY. */
	void (*on_done)(struct queue_show *s, enum err e);
	const struct mail_envelope *envelope; /* out, until on_done returns */
	bool is_held;
	bool was_read; /* the store's */
};
void queue_show(struct queue *q, struct queue_show *s);

/* Classes of ages (up to 5 min, 1 h, 4 h, 1 d, 3 d; older) and attempts (0, 1, 2 to 3, 4 to 7,
 * more). */
enum { QUEUE_AGES = 6, QUEUE_ATTEMPTS = 5 };
unsigned queue_age_class(uint64_t age_ms);
unsigned queue_attempts_class(uint16_t attempts);
const char *queue_age_name(unsigned number);
const char *queue_attempts_name(unsigned number);

/* UNHOLD also forgives attempts that never ended (invariant 9). Held mails stay until somebody lets
 * them go or removes them, however old they are: nothing of the store ends a mail by itself. Others
 * come due at their retry time, which whoever records it sets no later than the mail's lifetime
 * ends.
 */
enum queue_action {
	QUEUE_HOLD,
	QUEUE_UNHOLD,
	QUEUE_REQUEUE,
	QUEUE_REMOVE,
	/* Of a pair: under its id, with all that is known of it; checked, and whole at every moment
	 * in one of the two (queue/mover.h). ERR_OK also where it is there already. */
	QUEUE_MOVE_TO_REDIS,
	QUEUE_MOVE_TO_SPOOL,
};
/* Durable where it must outlive the process (all but REQUEUE); `who` and `why` go into the event.
 */
struct queue_act {
	struct queue_request request;
	enum queue_action action;
	struct mail_id id;
	struct span who;
	struct span why;
	/* ERR_NOT_FOUND; ERR_AGAIN: an item of it is claimed now, or it is being moved;
	 * ERR_TIMEOUT: the node that has it did not answer, and may still do it; ERR_IN_DOUBT: it
	 * may have been done; ERR_AWAY. */
	void (*on_done)(struct queue_act *a, enum err e);
	bool is_told; /* out: another node did it, and has written the events of it */
};
void queue_act(struct queue *q, struct queue_act *a);

struct queue_numbers {
	uint64_t mails_here; /* of the mails, those that lie on this host: only it can deliver them
			      */
	uint64_t mails, items, items_waiting, items_claimed, items_held;
	uint64_t recipients_failed;     /* of mails that are still here for other recipients */
	uint64_t oldest_accepted_at_ms; /* 0: empty; to the second, may lag by a minute */
	/* Of those waiting; as of a minute ago. */
	uint64_t items_by_age[QUEUE_AGES];
	uint64_t items_by_attempts[QUEUE_ATTEMPTS];
	uint64_t bytes_live, bytes_on_disk, bytes_free;
	uint64_t memory_bytes;
};
void queue_count(struct queue *q, struct queue_numbers *out);

/* ---- nodes that share a store ---- */

/* DEAD: it was not seen for as long as its lease is; its mails are taken over. DRAINED: it is to
 * take no mail in, and has none. */
enum queue_node_state { QUEUE_NODE_UP, QUEUE_NODE_DRAINING, QUEUE_NODE_DRAINED, QUEUE_NODE_DEAD };

struct queue_node {
	struct span incarnation; /* one run of one node */
	struct span name;        /* empty: only its mails are known */
	struct span version;
	struct span listeners; /* "address address" */
	uint64_t since_ms, seen_ms;
	uint64_t mails; /* that it owns */
	enum queue_node_state state;
	bool is_this;
};

/* Does this store have nodes at all? If not, ask nothing of what follows. */
bool queue_has_nodes(const struct queue *q);
/* All nodes that there are, by name. Through the end of worker 0. */
struct queue_nodes {
	struct queue_request request;
	void (*on_done)(struct queue_nodes *n, enum err e); /* ERR_AWAY, ERR_NO_MEMORY */
	const struct queue_node *nodes;                     /* out, until on_done returns */
	unsigned count;
};
void queue_nodes(struct queue *q, struct queue_nodes *n);
/* Orders the node of this incarnation to drain: to take no mail in, to finish what is in delivery
 * and to give back all else; or to end that. It has begun when queue_nodes() says so. */
struct queue_order {
	struct queue_request request;
	struct span incarnation; /* lent until on_done */
	bool drains;
	/* ERR_NOT_FOUND, ERR_AWAY; ERR_IN_DOUBT: it may have been given. */
	void (*on_done)(struct queue_order *o, enum err e);
};
void queue_order(struct queue *q, struct queue_order *o);

#endif
