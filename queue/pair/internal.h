/* SPDX-License-Identifier: Apache-2.0
 *
 * internal: the shapes that the parts of the pair share, and who calls whom. For pair/ alone.
 *
 *   open.c   opening, closing, hooks     end.c    a worker's end: start, stop, upkeep; forwarding
 *   draft.c  which part takes a mail     claim.c  handing out from both
 *   see.c    rows, one mail, numbers     move.c   mails from one part into the other
 *
 * Everything of a struct pair_end is touched by its worker alone, but for its atomic; of a struct
 * pair, what is behind the lock by all. A part is
 * called through its driver, with its own end.
 */
#ifndef QUEUE_PAIR_INTERNAL_H
#define QUEUE_PAIR_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/assert.h"
#include "core/base/list.h"
#include "core/base/pool.h"
#include "core/timer.h"
#include "queue/driver.h"
#include "queue/pair/pair.h"

enum { PAIR_PARTS = 2 };

struct pair_end {
	struct queue queue; /* first */
	struct pair *pair;
	struct queue *parts[PAIR_PARTS]; /* by enum queue_place */
	struct pool drafts, claims;
	unsigned turn;            /* the part of which the next claim takes first */
	bool skipped[PAIR_PARTS]; /* a claim has left it out: it is to tell again */
	struct list refused;      /* acts: on_done is due */
	struct list claims_open;  /* struct pair_claim.open */
	struct list finishing;    /* struct pair_claim.node: on_done is due */
	struct task finish_task;
	struct timer upkeep;
	uint64_t waits_until_ms;    /* for the shared store, at the start */
	uint64_t distrust_until_ms; /* it refused what it seemed to take */
	struct list moves;          /* struct pair_move.node: that wait for a while */
	unsigned moves_open;
	struct timer moves_again;
	uint64_t marked_cursor; /* of the spool: what a former life left */
	bool started, stopping, parts_stopping;
	unsigned stopped; /* parts */
	void (*on_stopped)(struct queue *q, void *context);
	void *stopped_context;
	_Alignas(64) atomic_uint_fast64_t mails_here; /* in the spool, as of a second ago */
};

struct pair {
	struct queue_store store; /* first */
	struct queue_store *parts[PAIR_PARTS];
	struct pair_end *ends;
	unsigned wait_ms;
	bool open;          /* both parts are */
	atomic_bool in_use; /* mail has come into the spool, and it was not empty since */
	pthread_mutex_t lock;
	struct list coming; /* struct pair_move.coming: no two are of one mail */
};

static inline struct pair_end *
pair_end_of(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return (struct pair_end *)(void *)q;
}

/* The end of the part that has this mail. */
static inline struct queue *
pair_part_of(struct queue *q, const struct queue_mail *m)
{
	OBJ_CHECK(m, QUEUE_MAIL_MAGIC);
	ASSERT(m->place < PAIR_PARTS);
	return pair_end_of(q)->parts[m->place];
}

/* ---- open.c ---- */
void pair_close(struct queue_store *store);

/* ---- end.c ---- */
void pair_end_init(struct pair_end *e, struct pair *p, struct worker *w);
void pair_end_fini(struct pair_end *e);
/* A mail has come into the spool. */
void pair_note_use(struct pair_end *e, enum err why);
void pair_note_arrival(struct pair_end *e); /* one was moved there */
/* A claim left this part out. */
void pair_note_skipped(struct pair_end *e, unsigned part);
void pair_try_stopped(struct pair_end *e);
void pair_try_to_stop(struct pair_end *e); /* a move has ended */
extern const struct queue_driver pair_driver;

/* ---- draft.c ---- */
size_t pair_draft_size_of(void);
/* ERR_OK: the shared store takes mail now; ERR_AWAY, ERR_NO_ROOM: the spool does in its place. */
enum err pair_shared_takes(struct pair_end *e);
enum err pair_admit(struct queue *q, uint64_t size);
struct queue_draft *pair_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint);
struct queue_draft *pair_draft_new_beside(struct queue *q, const struct queue_mail *of,
					  struct mail_id id, uint64_t size_hint);
enum err pair_draft_append(struct queue_draft *draft, struct span bytes);
bool pair_draft_is_full(const struct queue_draft *draft);
void pair_draft_on_room(struct queue_draft *draft, struct task *resume);
uint64_t pair_draft_size(const struct queue_draft *draft);
void pair_draft_abandon(struct queue_draft *draft);
void pair_put(struct queue *q, struct queue_put *p);
void pair_record(struct queue *q, struct queue_record *r);

/* ---- claim.c ---- */
size_t pair_claim_size_of(void);
void pair_claim(struct queue *q, struct queue_claim *c);
void pair_finish_run(struct task *t);
/* A part tells of a site. True: a claim there is under way, which tells when it ends. */
bool pair_note_due(struct pair_end *e, struct site_id site);

/* ---- move.c ---- */
void pair_move(struct queue *q, struct queue_act *a);
void pair_moves_init(struct pair_end *e);
void pair_moves_look(struct pair_end *e); /* upkeep: what a former life left */
void pair_moves_stop(struct pair_end *e); /* what waits ends; the rest with its step */

/* ---- see.c ---- */
/* on_done with this error, from a task. */
void pair_refuse(struct pair_end *e, struct queue_act *a, enum err error);
void pair_refuse_run(struct pair_end *e);
bool pair_list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
	       bool (*on_row)(void *context, const struct queue_row *row), void *context);
void pair_show(struct queue *q, struct queue_show *s);
void pair_act(struct queue *q, struct queue_act *a);
void pair_nodes(struct queue *q, struct queue_nodes *n);
void pair_order(struct queue *q, struct queue_order *o);
void pair_count(struct queue *q, struct queue_numbers *out);

#endif
