/* SPDX-License-Identifier: Apache-2.0
 *
 * internal: the shapes that the parts of the store share, and who calls whom. For redis/ alone.
 *
 *   open.c     opening, closing              end.c      a worker's end: start, stop, upkeep
 *   owned.c    mails and items in memory     args.c     a command being put together
 *   draft.c    bodies on their way in, put   piece.c    pieces of bodies: compressing, reading
 *   change.c   outcomes, attempts            leave.c    mails given back, cancelled
 *   claim.c    handing out, loading          fetch.c    claims from Redis, take-over
 *   lease.c    leases and their validity     see.c      one mail, acting, numbers
 *   scan.c     rows of the whole cluster     report.c   metrics and events
 *   restate.c  outcomes said again           reconcile.c  mails that are ours and nobody knows
 *   shares*.c  limits of the whole cluster
 *   move.c     mails that come from a spool, or go into one (queue/mover.h)
 *   nodes.c    who there is, draining        asks.c     acts on mails that other nodes own
 *
 * Everything of a struct redis_end is touched by its worker alone. Another worker reads, of a
 * claimed item only, the public part of its mail, `shard` and `pieces`. struct redis_store is
 * constant but for its atomics.
 */
#ifndef QUEUE_REDIS_INTERNAL_H
#define QUEUE_REDIS_INTERNAL_H

#include <limits.h>
#include <stdatomic.h>

#include "core/base/list.h"
#include "core/base/pool.h"
#include "core/timer.h"
#include "queue/driver.h"
#include "queue/redis/functions.h"
#include "queue/redis/pack.h"
#include "queue/redis/store.h"
#include "queue/turns/turns.h"

enum {
	REDIS_PIECE = 256 * 1024,
	REDIS_BODY_TTL_S = 3600,
	REDIS_INCARNATION_SIZE = 32,
	REDIS_ID_SIZE = 32,
	REDIS_NAME_MOST = 320, /* of a key */
	REDIS_LANE_MOST = 255,
	REDIS_BUCKET_BITS = 12,
	REDIS_IDLE_MOST = 4096, /* mails of a worker that wait for their turn here */
	REDIS_CLAIM_MOST = 256, /* mails of one rp_claim */
	REDIS_CACHE = 4,        /* pieces that were read last */
	REDIS_LEASE_PARTS = 6,  /* a lease is renewed so many times in its length */
	REDIS_ERRANDS_MOST = 16384,
	REDIS_MAILS_MOST = 1 << 20, /* of a worker; and drafts */
	REDIS_PAGES = 4,
	REDIS_FULL_MS = 1000, /* no mail is taken in for so long after Redis was full */
};

#define REDIS_ANY_SHARD UINT_MAX

struct redis_end;
struct redis_mail;
struct lease_call;
struct redis_page;
struct reconcile;
struct shares;

struct queue_request_kind {
	void (*done)(struct redis_end *e, struct queue_request *r);
};

enum redis_item_state {
	ITEM_NEW,
	ITEM_WAITING, /* in its site's turns */
	ITEM_LEAVING, /* its mail is being given back */
	ITEM_LOADING, /* claimed, its body is on its way */
	ITEM_CLAIMED,
	ITEM_RECORDING,
};

struct redis_item {
	struct turns_item turn;  /* first; has the queue_item */
	struct redis_item *next; /* of the mail */
	struct redis_end *end;
	/* Of a change, one at a time: */
	struct list_node node; /* end->changes, then of a command or end->unsent */
	struct redis_call call;
	struct queue_request *request;
	const struct redis_change_kind *kind;
	uint64_t release_at_ms; /* of a start that is closed */
	uint64_t sent_ms;       /* monotonic */
	uint32_t number;        /* by which it is known, where it gives the mail back */
	bool leaves;            /* the mail goes back to Redis with it */
	bool was_sent;          /* before, and not answered */
};

struct redis_recipient {
	uint16_t starts;
	uint16_t closed;
	bool alone;
	char *reply; /* what envelope.recipients[].reply points into, or NULL */
};

struct redis_mail {
	struct queue_mail mail;  /* first */
	struct redis_mail *next; /* in its bucket */
	struct list_node idle;   /* end->idle: none of its items is claimed; the oldest first */
	struct redis_item *items;
	struct mail_envelope envelope; /* mail.envelope points here */
	struct redis_recipient *recipients;
	uint32_t shard;
	uint32_t pieces;
	uint32_t giving; /* field g, of when it came to us */
	uint32_t busy;   /* items that are loading, claimed, recording */
	uint64_t idle_since_ms;
	size_t size; /* of the block, in the body budget */
	bool leaving;
	uint32_t undone;    /* recipients whose outcomes Redis has lost, as far as we know */
	uint64_t stated_at; /* end->losses, when Redis had last what we know of it */
	bool has_outcomes;  /* that it has answered */
	bool recovered;     /* taken over */
	bool damaged;
	bool stale; /* it has come to us again while we had it in hand: we are as a former owner */
	/* Certainly ours then, monotonic: when what found so was sent, or for as long as what made
	 * it ours has lengthened the lease. Read by all workers. */
	atomic_uint_fast64_t ours_until_ms;
	struct list_node leave;   /* end->leaves, or of the command */
	uint64_t leave_at_ms;     /* wall clock: due then */
	uint32_t leave_recipient; /* whose domain is the lane */
};

/* Outcomes, starts: what is told to Redis of one item. */
struct redis_change_kind {
	/* How many recipients have a new state. */
	uint32_t (*values)(const struct redis_item *i);
	/* What rp_record has behind the id, or rp_records where they are `several`. */
	void (*args)(struct redis_end *e, struct redis_item *i, bool several);
	/* Was done, or ERR_LOST: on_done of the request. `left`: recipients still pending. */
	void (*done)(struct redis_end *e, struct redis_item *i, enum err error, uint64_t left);
	struct queue_record *(*outcomes)(const struct redis_item *i); /* NULL: of none */
};

struct redis_cached {
	struct mail_id id;
	uint32_t number;
	uint32_t size;
	uint8_t *data; /* NULL: empty */
	uint64_t used; /* the larger, the later */
};

enum redis_asking { ASKING_NOTHING, ASKING_LOOK, ASKING_CLAIM, ASKING_TAKE };

/* A shard, as the worker that looks after it sees it. Times: worker's now_ms; UINT64_MAX: none. */
struct redis_shard {
	struct redis_end *end;
	struct redis_call call;
	unsigned number;
	enum redis_asking asking;
	bool again;    /* it is asked for what it gave before */
	bool in_doubt; /* a claim or take was not answered: ask for what it gave */
	uint64_t sent_ms;
	uint64_t run;               /* redis_servers_run() of the last session */
	uint64_t doubtful_until_ms; /* wall clock; due by then: claims that were lost may have had
				       it */
	uint64_t due_at_ms;         /* the next mail */
	uint64_t expiry_at_ms;      /* the next lease of another node runs out */
	uint64_t look_at_ms;        /* in any case */
	/* What is there, as of counted_at_ms; 0: never. */
	struct redis_call count_call;
	bool counting;
	uint64_t counted_at_ms;
	uint64_t waiting, held;
	uint64_t failed; /* recipients, of all mails in it */
};

/* What all workers see of a lease: lease.c. */
struct redis_lease {
	_Alignas(64) atomic_uint_fast64_t valid_until_ms; /* monotonic */
	/* An answer came then that made it valid again; 0: never. What was ours before may be
	 * another's by now. */
	atomic_uint_fast64_t lapsed_at_ms;
	atomic_uint_fast64_t owned; /* mails of this node */
	atomic_bool changed;        /* something waits there, or does no more */
	atomic_bool suspect;        /* a connection was lost: reconcile.c */
};

struct redis_args {
	struct span *spans;
	unsigned count, capacity;
	struct buf text;
};

struct redis_end {
	struct queue queue; /* first */
	struct redis_store *store;
	struct redis_counters counters;
	struct redis_servers *servers;
	struct turns turns;
	struct redis_args args;

	unsigned first_shard; /* of the mails that come in: end.c */
	struct pool mails, items, drafts;
	struct redis_mail *buckets[1 << REDIS_BUCKET_BITS];
	uint64_t mail_count, item_count, claimed_count;
	uint64_t mails_most;    /* that this end may own */
	uint64_t full_until_ms; /* Redis had no room */
	struct list idle;
	uint64_t idle_count;
	struct list leaves; /* mails to be given back at the end of the turn */
	struct task leave_task;
	struct list changes; /* of this turn, that have not been sent */
	struct task change_task;
	struct list unsent; /* changes that wait for a connection */
	struct list errands;
	uint64_t errand_count;

	struct body_budget budget;
	struct list finishing; /* requests whose on_done is due */
	struct task finish_task;
	struct list commits; /* puts of this turn that have not been sent */
	struct task commit_task;
	struct list waits; /* puts that wait for replicas, in the order of their commits */
	struct task wait_task;
	unsigned drafts_open;
	struct list drafts_all;
	unsigned loads_open;
	unsigned calls_open; /* calls of ours that the links have */
	struct redis_cached cache[REDIS_CACHE];
	uint64_t cache_uses;
	uint8_t *scratch; /* a piece as it is kept */
	size_t scratch_size;
	uint8_t *plain;                  /* a piece as it is sent, REDIS_PIECE bytes */
	void *compressor, *decompressor; /* ZSTD_CCtx, ZSTD_DCtx */

	struct redis_page *pages;
	struct reconcile *reconcile;
	uint64_t losses;            /* of connections */
	bool restates;              /* not all mails are restated since */
	struct redis_shard *shards; /* by number; those that are not ours are unused */
	struct timer look;
	struct redis_nodes *nodes; /* of worker 0 */
	struct list askings;       /* whose owners were asked */
	struct list servings;      /* what others have asked for */
	unsigned serving_count;
	bool drains;              /* as hooks.on_drain was told */
	atomic_bool is_quiet;     /* it drains, and nothing is here or can come */
	struct timer lease_timer; /* of worker 0 */
	struct lease_call *lease_calls;
	struct timer upkeep;
	struct timer again; /* what waits for a connection is tried */
	uint64_t again_at_ms;
	struct shares *shares; /* shares.h */
	struct redis_call retire;
	unsigned retire_shard;
	struct task fetch_task; /* there is room for more mails */
	uint64_t stop_by_ms;    /* what Redis has not answered by then is given up */
	/* Of the mails that an answer brings: when it was asked for, until when they are certainly
	 * ours, and whether they were asked for again. */
	uint64_t came_ms;
	uint64_t came_until_ms;
	bool came_again;
	bool started, stopping, retiring, closing, room_wanted;
	bool gives_up; /* outcomes do not wait for a connection any more */
	bool hungry;   /* a shard has more that is due than there was room for */
	void (*on_stopped)(struct queue *q, void *context);
	void *stopped_context;
};

struct redis_store {
	struct queue_store store; /* first */
	struct queue_options options;
	struct redis_options redis;
	uint64_t hash_seed; /* of texts that others choose */
	char incarnation[REDIS_INCARNATION_SIZE];
	char (*tags)[64]; /* by shard */
	struct redis_lease *leases;
	atomic_uint ends_at_work;      /* that have not finished their requests */
	atomic_int_fast64_t offset_ms; /* wall clock less Redis's time, */
	atomic_bool time_is_known;     /* once some answer told it */
	atomic_bool drains;            /* an operator wants it */
	struct redis_end *ends;
};

static inline unsigned
shard_of(const struct redis_store *s, struct mail_id id)
{
	return (unsigned)(id.low % s->redis.shards);
}

static inline struct redis_item *
redis_item_of(struct queue_item *i)
{
	OBJ_CHECK(i, QUEUE_ITEM_MAGIC);
	return (struct redis_item *)(void *)i;
}

static inline struct redis_item *
item_of_turn(struct turns_item *i)
{
	return i == NULL ? NULL : CONTAINER_OF(i, struct redis_item, turn);
}

static inline struct redis_end *
redis_end_of(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return (struct redis_end *)(void *)q;
}

static inline struct redis_mail *
redis_mail_of(const struct queue_mail *m)
{
	OBJ_CHECK(m, QUEUE_MAIL_MAGIC);
	return (struct redis_mail *)(uintptr_t)m;
}

/* ---- args.c ---- */
/* FCALL function 1 TAG, or nothing yet where function is NULL; then room for `count` arguments and
 * `text` bytes of such as exist only here. False: no memory. */
bool args_begin(struct redis_end *e, const char *function, unsigned shard, unsigned count,
		size_t text);
void args_span(struct redis_end *e, struct span s);
void args_number(struct redis_end *e, uint64_t number);
void args_id(struct redis_end *e, struct mail_id id);
void args_state(struct redis_end *e, const struct pack_state *s);
bool args_envelope(struct redis_end *e, const struct mail_envelope *envelope);
void args_incarnation(struct redis_end *e);
/* Who says something of this mail: where it has come to us anew since, not its owner. */
void args_owner(struct redis_end *e, const struct redis_mail *m);
/* The id, and the giving by which we have it: an old copy is not believed. */
void args_given(struct redis_end *e, const struct redis_mail *m);
/* The lane of a mail that is due because of this recipient. */
void args_lane(struct redis_end *e, const struct redis_mail *m, uint32_t recipient);
void args_lane_of(struct redis_end *e, struct span address);
void args_piece_key(struct redis_end *e, struct mail_id id, unsigned shard, uint32_t number);
void args_mail_key(struct redis_end *e, struct mail_id id, unsigned shard);
void args_own_key(struct redis_end *e, unsigned shard);
/* Counted: on_reply takes one off e->calls_open. */
void args_send(struct redis_end *e, struct redis_link *l, struct redis_call *c);
void id_hex(struct buf *out, struct mail_id id);
bool id_of_hex(struct span text, struct mail_id *out);
struct span redis_text(const struct redisReply *r);                       /* empty: it is none */
const struct redisReply *redis_at(const struct redisReply *r, size_t at); /* NULL: not there */
bool redis_number(const struct redisReply *r, int64_t *out);

/* ---- lease.c ---- */
bool leases_init(struct redis_end *e);
void leases_renew(struct redis_end *e); /* of worker 0: now, and from now on */
/* A function that makes mails ours was sent at that time and has been answered. Until when they are
 * certainly ours. */
uint64_t lease_note_change(struct redis_store *s, unsigned shard, uint64_t sent_ms);
void lease_note_ours(struct redis_mail *m, uint64_t until_ms);
/* See queue_may_end_until_ms(). */
uint64_t lease_may_end_until_ms(const struct redis_store *s, const struct redis_mail *m);
/* Nobody can have had it since it came to us. */
bool lease_is_certain(const struct redis_store *s, const struct redis_mail *m, uint64_t now_ms);
/* May another have taken it over since it was known to be ours? */
bool lease_has_lapsed(const struct redis_store *s, const struct redis_mail *m);

/* ---- piece.c ---- */
bool pieces_init(struct redis_end *e);
void pieces_fini(struct redis_end *e);
uint32_t pieces_of(uint64_t size);
/* In e->scratch, ready to be kept; empty: it is kept as it is. */
struct span piece_compress(struct redis_end *e, const struct body *b, uint64_t offset,
			   uint64_t size);
/* What was kept as it was; in e->plain or in `stored`. False: it is damaged. */
bool piece_read(struct redis_end *e, struct span stored, struct span *out);
struct span piece_cached(struct redis_end *e, struct mail_id id, uint32_t number); /* empty: not */
/* False: no memory. */
bool piece_cache(struct redis_end *e, struct mail_id id, uint32_t number, struct span bytes);

/* ---- owned.c ---- */
struct redis_mail *owned_find(struct redis_end *e, struct mail_id id);
/* A mail that this node owns, with its items, all NEW; its envelope is copied. NULL: no memory. */
struct redis_mail *owned_new(struct redis_end *e, const struct mail_envelope *envelope);
void owned_add(struct redis_end *e, struct redis_mail *m);    /* to the index: it is ours now */
void owned_free(struct redis_end *e, struct redis_mail *m);   /* that is in no index */
void owned_forget(struct redis_end *e, struct redis_mail *m); /* it is not ours any more */
bool owned_make_items(struct redis_end *e, struct redis_mail *m);
/* Another node has it: what waits goes, the rest as it comes back; the mail with the last. */
void owned_lose(struct redis_end *e, struct redis_mail *m);
/* The earliest time of what is pending and not at work; UINT64_MAX: none. Which recipient. */
uint64_t owned_due_at_ms(const struct redis_mail *m, uint32_t *recipient);
struct pack_state owned_state(const struct redis_mail *m, uint32_t recipient);
void owned_set_state(struct redis_mail *m, uint32_t recipient, const struct pack_state *s);
/* NEW and BUSY items wait; others have been waiting. */
void owned_item_wait(struct redis_end *e, struct redis_item *i, uint64_t due_at_ms);
void owned_item_take(struct redis_end *e, struct redis_item *i, uint8_t state); /* that waits */
void owned_item_busy(struct redis_end *e, struct redis_item *i, uint8_t state); /* NEW, or busy */
void owned_item_free(struct redis_end *e, struct redis_item *i);
bool owned_item_fill_recipients(struct redis_item *i);

/* ---- draft.c ---- */
enum err redis_admit(struct queue *q, uint64_t size);
enum err redis_admit_silently(struct redis_end *e, unsigned shard);
struct queue_draft *redis_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint);
enum err redis_draft_append(struct queue_draft *d, struct span bytes);
bool redis_draft_is_full(const struct queue_draft *d);
void redis_draft_on_room(struct queue_draft *d, struct task *resume);
uint64_t redis_draft_size(const struct queue_draft *d);
void redis_draft_abandon(struct queue_draft *d);
void redis_put(struct queue *q, struct queue_put *p);
size_t redis_draft_object_size(void);
struct body *redis_draft_body(const struct queue_draft *d);
void commits_run(struct task *t);
void redis_wait_run(struct task *t);
/* A notice, which goes with the outcomes that cause it: its body is on its way, its mail is made.
 * An error: it can not be. */
enum err notice_begin(struct redis_end *e, struct queue_put *p);
/* The five arguments of rp_record. */
size_t notice_text_size(const struct queue_put *p);
bool notice_args(struct redis_end *e, const struct queue_record *r);
/* Kept with the outcomes (its items are claimed), or not. */
void notice_end(struct redis_end *e, struct queue_put *p, enum err error);
/* Whatever may be committed. */
void drafts_name(struct redis_end *e, void (*on_id)(void *context, struct mail_id id),
		 void *context);

/* ---- change.c ---- */
void redis_record(struct queue *q, struct queue_record *r);
void redis_attempt(struct queue *q, struct queue_attempt *a);
/* Notes that a start has ended; then the item waits. */
void start_close(struct redis_end *e, struct redis_item *i, uint64_t due_at_ms);
void changes_run(struct task *t);
void changes_resend(struct redis_end *e); /* those that wait for a connection */
void changes_give_up(struct redis_end *e);
void finish_later(struct redis_end *e, struct queue_request *r,
		  const struct queue_request_kind *kind, enum err error);

/* ---- leave.c ---- */
void redis_release(struct queue *q, struct queue_item *i, uint64_t due_at_ms);
/* Gives the mail back at the end of the turn, if nothing of it is due soon. */
void owned_may_leave(struct redis_end *e, struct redis_mail *m);
/* The same whatever is due; what is due now, after `delay_ms`. */
void owned_leave(struct redis_end *e, struct redis_mail *m, uint64_t delay_ms);
/* Its items are out of reach until owned_lose or owned_stays; leave_at_ms says when it is due. */
void owned_goes(struct redis_end *e, struct redis_mail *m, uint64_t delay_ms);
void owned_stays(struct redis_end *e, struct redis_mail *m);
void leaves_run(struct task *t);
/* Until Redis has answered: CANCEL: nobody knows whether it was kept, and it is not to be. RETURN:
 * it could not be read for now. HOLD: it can not be read: for people. */
enum errand_kind { ERRAND_CANCEL, ERRAND_RETURN, ERRAND_HOLD };
void errand_add(struct redis_end *e, enum errand_kind kind, struct mail_id id);
void errands_resend(struct redis_end *e);
void errands_name(struct redis_end *e, void (*on_id)(void *context, struct mail_id id),
		  void *context);
void errands_give_up(struct redis_end *e);
void leaves_look(struct redis_end *e); /* upkeep: what waits for long here goes */

/* ---- claim.c ---- */
void redis_claim(struct queue *q, struct queue_claim *c);
void redis_reroute(struct queue *q, struct queue_item *i);
void redis_load(struct queue *mine, struct queue_load *l);
void redis_drop_body(struct queue *q, struct queue_mail *m);

/* ---- fetch.c ---- */
bool fetch_init(struct redis_end *e);
void fetch_up(struct redis_end *e); /* connections are there (again) */
void fetch_wake(struct redis_end *e, unsigned shard);
void fetch_look(struct redis_end *e);
void fetch_run(struct task *t);
bool fetch_has_room(const struct redis_end *e); /* for as many as a claim gives */
/* As the fields of its hash say, without items; NULL with why. */
struct redis_mail *mail_read(struct redis_end *e, struct mail_id id,
			     const struct redisReply *fields, enum err *why);
/* {id, {field, value, …}, former owner}: it is ours from now on, where it is not already. DUE: it
 * has waited; TAKEN: its owner died; RECOVERED: what we did with it was lost. */
enum redis_came { CAME_DUE, CAME_TAKEN, CAME_RECOVERED };
void mail_came(struct redis_end *e, const struct redisReply *one, enum redis_came how);
/* Of such fields; empty: it is not there. */
struct span mail_field(const struct redisReply *fields, const char *name);
bool mail_is_held(const struct redisReply *fields);
struct span mail_owner(const struct redisReply *fields); /* empty: nobody */
/* The sites of pending recipients; false: none is pending. */
bool owned_find_sites(struct redis_end *e, struct redis_mail *m);
/* Counts what waits, where that has changed or was counted long ago. */
void fetch_count(struct redis_end *e);
void fetch_stop(struct redis_end *e);

/* ---- reconcile.c ---- */
bool reconcile_init(struct redis_end *e);
void reconcile_fini(struct redis_end *e);
/* A connection of this end was lost, and whatever was under way on it is answered. */
void reconcile_suspect(struct redis_end *e);
void reconcile_look(struct redis_end *e);          /* begins, or goes on, where it can */
bool reconcile_is_idle(const struct redis_end *e); /* brings no mail now */

/* ---- restate.c ---- */
void restate_note(struct redis_end *e, struct redis_mail *m); /* Redis has an outcome of it */
void restate_suspect(struct redis_end *e);                    /* as reconcile_suspect() */
void restate_look(struct redis_end *e);
/* May Redis not have what we have told it of this mail? */
bool restate_may_miss(const struct redis_end *e, const struct redis_mail *m);

/* ---- see.c ---- */
bool redis_list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
		bool (*on_row)(void *context, const struct queue_row *row), void *context);
void redis_show(struct queue *q, struct queue_show *s);
void redis_act(struct queue *q, struct queue_act *a);
extern const struct queue_request_kind act_kind; /* for finish_later(): of an act */
void redis_count(struct queue *q, struct queue_numbers *out);

/* ---- nodes.c ---- */
bool nodes_init(struct redis_end *e);
void nodes_start(struct redis_end *e);
void nodes_write(struct redis_end *e); /* now; and what the answer says is followed */
void nodes_stop(struct redis_end *e);
/* This node is no more. False: it is away; then the row shows it as dead. */
bool nodes_forget(struct redis_end *e, struct redis_call *c);
void drain_look(struct redis_end *e); /* upkeep */
/* It drains, and has given something back in this shard: others are told. */
void drain_wakes(struct redis_end *e, unsigned shard);
void redis_nodes(struct queue *q, struct queue_nodes *n);
void redis_order(struct queue *q, struct queue_order *o);

/* ---- asks.c ---- */
extern const char *const act_names[]; /* by enum queue_action */
/* On a mail of a shard of this worker that it does not have. */
void ask_begin(struct redis_end *e, struct queue_act *a);
void asks_give_up(struct redis_end *e); /* those that are not under way */
/* What other nodes say on the channel of wakes. */
void asks_hear(struct redis_end *e, struct span message);

/* ---- scan.c ---- */
bool pages_init(struct redis_end *e);
void pages_fini(struct redis_end *e);

/* ---- move.c ---- */
extern const struct queue_mover redis_mover;

/* ---- open.c ---- */
void redis_close(struct queue_store *s);

/* ---- report.c ---- */
void report_counters(struct redis_end *e);
void report_taken_over(struct redis_end *e, struct mail_id id, struct span owner,
		       uint64_t doubtful);
void report_recovered(struct redis_end *e, struct mail_id id, uint64_t doubtful);
/* A mail that waited may have been delivered in what a fail-over has lost. */
void report_doubtful(struct redis_end *e, struct mail_id id, uint64_t doubtful);
void report_gone(struct redis_end *e, struct mail_id id, uint64_t pending);
void report_drains(struct redis_end *e, const char *state);
/* An act that another node asked for was done here. `gone`: whose mail was removed. */
void report_acted(struct redis_end *e, const struct queue_act *a, struct span sender,
		  const struct span *gone, uint32_t gone_count);
/* A mail came from Redis and can not be used: it is returned, or held where it is damaged. */
void report_unread(struct redis_end *e, struct mail_id id, enum err why);

/* ---- end.c ---- */
bool redis_end_init(struct redis_end *e, struct redis_store *s, struct worker *w);
void redis_end_fini(struct redis_end *e);
/* An answer that tells it has come, which was asked for at e->came_ms. */
void end_note_time(struct redis_end *e, int64_t redis_now_ms);
/* Tries what waits for a connection again, at the latest then. */
void end_try_again(struct redis_end *e, uint64_t after_ms);
uint64_t to_redis_ms(const struct redis_end *e, uint64_t wall_ms);
uint64_t to_wall_ms(const struct redis_end *e, uint64_t redis_ms);
extern const struct queue_driver redis_driver;

#endif
