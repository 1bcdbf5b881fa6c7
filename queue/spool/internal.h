/* SPDX-License-Identifier: Apache-2.0
 *
 * internal: the shapes that the parts of the spool share, and who calls whom. For spool/ alone.
 *
 *   end.c      a worker's end: start, stop, upkeep     open.c     opening, locks, dealing
 *   segment.c  files of the log: made, filled, freed    recover.c  reading segments at start
 *   log.c      group commit                             index.c    mails and items in memory
 *   draft.c    bodies on their way in, put              claim.c    handing out, loading
 *   change.c   outcomes, attempts, acts                 list.c     seeing
 *   compact.c  copying forward                          report.c   metrics and events
 *   names.c    domains, kept once                       turns/     what waits at a site, in turns
 *   move.c     mails that go to another store, or come from one (queue/mover.h)
 *
 * Everything of a struct spool_end is touched by its worker alone. Another worker reads, of a
 * claimed item only: the public part, mail->segment (fd, epoch), mail->place, meta_size, the
 * loaded block. None of these changes while an item of the mail is claimed.
 */
#ifndef QUEUE_SPOOL_INTERNAL_H
#define QUEUE_SPOOL_INTERNAL_H

#include <stdatomic.h>

#include "core/base/pool.h"
#include "core/timer.h"
#include "queue/driver.h"
#include "queue/mover.h"
#include "queue/spool/record.h"
#include "queue/spool/spool.h"
#include "queue/turns/turns.h"

enum {
	SPOOL_BATCH = 1024 * 1024, /* the most bytes of one commit */
	SPOOL_FLIGHTS_MOST = 4,
	SPOOL_INDEX_FLUSH =
		512 * 1024, /* metas are written as an INDEX from here on: few, large reads */
	SPOOL_INDEX_MOST = 960 * 1024,
	SPOOL_SEGMENTS_MOST = 65536, /* files of all logs */
	SPOOL_SEGMENT_LEAST = 4 * 1024 * 1024,
	SPOOL_SPARES = 3, /* ready segments that a log keeps, the reserves included */
	SPOOL_FETCHES = 32,
	SPOOL_NAME_SIZE = 40,
	SPOOL_UPKEEP_MS = 100,
	SPOOL_UPKEEP_REST_MS = 4000, /* while there is nothing to do */
	SPOOL_SMALL_MOST = 16384,
	SPOOL_DRAFTS_MOST = 65536,
	SPOOL_BODY_BITS = 40,
	SPOOL_TIME_BITS = 44, /* of milliseconds: until the year 2527 */
	SPOOL_RECIPIENT_BITS = 23,
	SPOOL_NAMES_MOST = (1 << 15) - 1,
	SPOOL_ATTEMPTS_MOST = (1 << 10) - 1,
};

/* How many ready segments a request leaves to others (reserves for copies and outcomes). */
enum spool_reserve { RESERVE_NONE = 0, RESERVE_OUTCOMES = 1, RESERVE_ALL = 2 };

struct spool_end;
struct spool_segment;

struct queue_request_kind {
	unsigned reserve; /* enum spool_reserve: a new segment is begun for it only above */
	/* Bytes in the log; and whether it has still to be written. */
	uint64_t (*size)(struct spool_end *e, struct queue_request *r);
	/* Records that are durable together, since they are in one batch; their metas take up to
	 * RECORD_META_MOST. */
	void (*write)(struct spool_end *e, struct queue_request *r, struct buf *out,
		      uint64_t place);
	/* request.error says how it went. */
	void (*done)(struct spool_end *e, struct queue_request *r);
	bool may_wait; /* no client waits for it: it lies a few ms for company, see log.c */
};

/* Who enters: BLANK segment_create; READY creation, freeing; OPENING, ACTIVE the log; SEALED the
 * log when full, recovery; FREEING segment_try_free (waits for the forwarding or the head);
 * FAILED the log after an error: it is emptied, then freed. */
enum spool_segment_state {
	SEGMENT_BLANK,
	SEGMENT_READY,
	SEGMENT_OPENING,
	SEGMENT_ACTIVE,
	SEGMENT_SEALED,
	SEGMENT_FREEING,
	SEGMENT_FAILED,
	SEGMENT_DROPPED, /* unlinked; the struct waits for reuse */
};

enum { SEGMENT_REFS = 8 };

struct spool_segment {
	struct list_node node; /* of end->segments */
	struct spool_end *end; /* who owns it */
	struct op op;          /* making, filling, heads: one at a time */
	void (*on_head)(struct spool_segment *s, bool ok);
	char name[SPOOL_NAME_SIZE];
	char bad_name[SPOOL_NAME_SIZE];
	uint32_t number; /* of the file, and its place in spool->sequences */
	int fd;
	bool was_sealed; /* its index is complete */
	bool leaving;    /* unlinked, or about to be */
	bool damaged;    /* kept for people when it is empty */
	bool keep_void;  /* its head voids the end of `voids`: not freed while that exists */
	uint8_t state;   /* enum spool_segment_state */
	uint8_t step;    /* of making */
	uint64_t voids;
	uint64_t size;
	uint64_t sequence;
	uint64_t epoch;
	uint64_t log;
	uint64_t first_lsn;
	uint64_t end_lsn;
	uint64_t tail;
	uint64_t last_index;
	uint64_t puts;
	uint64_t filled; /* zeroed or written up to here; a piece in the kernel begins here */
	uint32_t live;   /* mails whose PUT lies in it, those being written too */
	uint64_t live_bytes;
	bool at_work;           /* making, unlinking or writing a head: leave it alone */
	struct list mails;      /* spool_mail.by_segment */
	uint64_t rest_until_ms; /* compaction found nothing that it may move */
	/* Sequences that its records refer to; many: not all are noted, `lowest` still holds. */
	uint64_t refs[SEGMENT_REFS];
	uint8_t ref_count;
	bool many_refs;
	uint64_t lowest_ref;
	uint8_t *head; /* SEGMENT_FIRST bytes, aligned, while op writes it */
};

struct spool_reply {
	struct spool_reply *next;
	uint32_t references;
	uint32_t hash;
	uint16_t size;
	uint8_t text[];
};

struct spool_recipient {
	uint64_t retry_at_ms;
	struct spool_reply *reply;
	struct site_id site;
	uint32_t address_hash; /* to look for it without its mail */
	uint16_t domain;       /* names.c */
	uint16_t starts;
	uint16_t closed;
	uint16_t attempts : 10; /* no more are counted */
	uint16_t state : 3;
	uint16_t alone : 1;
	uint16_t notified : 1;
	uint16_t touched : 1; /* of recovery: by the run that died */
};

_Static_assert(sizeof(struct spool_recipient) == 32, "a million mails have their price");

/* An internal request, a close or an unlink. */
struct spool_small {
	struct queue_request request;
	struct op op;
	struct spool_end *end;
	struct spool_mail *mail;
	struct record_change change;
	struct record_line line;
	char name[SPOOL_NAME_SIZE];
};

/* NEW: of a mail that is not kept yet. BUSY: out of the heap while its mail is moved or acted upon;
 * for others it waits. */
enum spool_item_state {
	ITEM_NEW,
	ITEM_WAITING,
	ITEM_BUSY,
	ITEM_HELD,
	ITEM_CLAIMED,
	ITEM_RECORDING,
};

/* A million of these wait: 80 bytes. */
struct spool_item {
	struct turns_item turn;  /* first; its state: enum spool_item_state, started: a START was
				  * recorded in this run, only_recipient: recipients points there
				  * where there is one */
	struct spool_item *next; /* of the mail */
};

struct spool_loaded {
	struct mail_envelope envelope; /* first */
	size_t size;                   /* of the block, in the body budget */
	int fd;                        /* of a body in a file; -1 */
	uint32_t body_crc;
	uint8_t body_kind;
	atomic_bool damaged;    /* some worker has read a body that is not what was written */
	struct span block_crcs; /* where body_kind says so */
	struct mail_recipient recipients[];
};

/* Likewise: 136 bytes. */
struct spool_mail {
	struct queue_mail mail;      /* first; envelope is NULL or a spool_loaded */
	struct spool_mail *next;     /* in its bucket */
	struct list_node by_segment; /* segment->mails */
	struct spool_segment *segment;
	struct spool_item *items;
	/* What others may read does not share a word with what changes. */
	uint64_t body_size : SPOOL_BODY_BITS;
	uint64_t recipient_count : SPOOL_RECIPIENT_BITS;
	uint64_t in_file : 1;
	uint64_t place_by_8 : 29; /* of the PUT in its segment, mail_at() */
	uint64_t meta_size : 20;
	uint64_t sender_domain : 15; /* names.c */
	uint64_t accepted_at_ms : SPOOL_TIME_BITS;
	uint64_t fetching : 1;
	uint64_t fetch_failed : 1;
	uint64_t damaged : 1;        /* can not be read: held, not moved */
	uint64_t busy : 1;           /* being put, moved or acted upon */
	uint64_t hold_revision : 16; /* odd: held */
	union {
		struct spool_recipient one;
		struct spool_recipient *many;
	} recipients;
};

_Static_assert(sizeof(struct spool_mail) == 136, "a million mails have their price");
_Static_assert(sizeof(struct spool_item) == 80, "a million mails have their price");

struct spool_flight {
	struct list_node node; /* end->flying, in LSN order */
	struct op op;
	struct spool_end *end;
	struct spool_segment *segment;
	uint8_t *buffer;
	size_t size;
	size_t written;
	uint64_t place;
	uint64_t lsn;
	uint64_t began_us;
	uint32_t count;
	bool done;
	bool failed;
	bool busy;
	bool syncing;
	struct list requests;
};

/* NONE: no segment to write to; upkeep looks for one. CLOSING: waits for the flights. */
enum spool_log_state { LOG_NONE, LOG_OPENING, LOG_OPEN, LOG_CLOSING };

struct spool_log {
	enum spool_log_state state;
	uint64_t id;
	uint64_t next_lsn;
	uint64_t acked_lsn;
	uint64_t place; /* of the next batch in the active segment */
	struct spool_segment *active;
	struct spool_segment *opening;
	struct spool_segment *given_up; /* the last failed one, until its end is void on disk */
	struct list pending;            /* requests to be written */
	uint32_t pending_count;
	uint32_t urgent_count; /* of them, those that may not wait */
	uint32_t flying_count; /* records on their way */
	struct timer company;  /* the oldest that may wait has waited enough */
	bool company_is_over;  /* it fired */
	struct list early;     /* durability memory: written, to be told */
	struct list doubtful;  /* of the failed segment */
	struct list flying;
	struct spool_flight flights[SPOOL_FLIGHTS_MOST];
	unsigned flights_most;
	struct task commit;
	struct task tell;
	/* Metas since the last INDEX of the active segment, and where those are. */
	uint8_t *metas;
	size_t metas_size;
	size_t metas_capacity;
	struct record_place *places;
	uint32_t place_count;
	bool index_due; /* the final one of this segment */
	bool finishing; /* no segment follows the active one */
	unsigned open_failures;
};

/* One envelope (and body, where asked for) on its way from the disk. */
struct spool_fetch {
	struct list_node node;
	struct op op;
	struct spool_end *end;
	struct spool_mail *mail;
	uint8_t *memory;
	size_t capacity;
	uint64_t at; /* in the segment */
	size_t done; /* bytes read */
	size_t skip; /* of the record in memory */
	bool with_body;
};

struct spool_compaction {
	struct task task;
	unsigned in_flight;
	struct spool_segment *freeing; /* its index is being read for what must be copied */
	struct op op;
	uint8_t *memory;
	size_t capacity;
	size_t skip;
	struct record_place *places;
	uint32_t place_count;
	uint32_t place_next;
	unsigned forwards; /* not durable yet */
	bool failed;
	uint64_t *existing; /* sequences, ascending */
	size_t existing_count;
};

/* Items that wait. */
struct spool_classes {
	uint64_t ages[QUEUE_AGES];
	uint64_t attempts[QUEUE_ATTEMPTS];
};

struct spool_end {
	struct queue queue; /* first */
	struct spool *spool;
	struct spool_counters counters;
	struct spool_log log;
	struct list segments; /* all but dropped ones */
	struct list dropped;
	unsigned spares;
	bool creating;
	bool create_failed; /* no room for another one; tried again by upkeep */
	uint64_t create_at_ms;
	uint64_t replenish_at_ms; /* until then one spare fewer is fine */
	uint8_t *zeros;
	bool filling;        /* a piece of zeros is in the kernel */
	bool is_quiet;       /* no commit of any worker between the last two upkeeps */
	uint64_t quiet_from; /* commits, as upkeep saw them last */
	uint64_t walk_at_ms; /* not before, while upkeep rests */
	unsigned idle_looks; /* of upkeep in a row that found nothing to do; then it rests */
	uint64_t fill_credit;
	uint64_t bytes_live;
	uint64_t segment_bytes; /* all its segments */

	/* index */
	struct pool mails;
	struct pool items;
	struct spool_mail **buckets;
	struct spool_mail **new_buckets; /* twice as many, while growing */
	uint64_t migrated;               /* buckets of the old ones that are in the new */
	unsigned bucket_bits;
	uint64_t mail_count;
	uint64_t waiting, claimed, held, failed_recipients;
	uint64_t oldest_ms;                /* as the last walk found it */
	uint64_t oldest_walk_ms;           /* so far in this walk */
	uint64_t oldest_at;                /* bucket where it stands */
	struct spool_classes classes;      /* as the last walk found them */
	struct spool_classes classes_walk; /* so far in this walk */
	struct turns turns;                /* items that wait, by site and sender */
	struct spool_names *names;
	struct spool_reply **replies;
	size_t reply_bytes;
	size_t reply_bytes_most;
	uint64_t memory_bytes; /* recipients, names */

	/* traffic */
	struct body_budget budget;
	struct pool drafts;
	struct pool small; /* struct spool_small: internal requests */
	struct list claims;
	struct list shows;
	struct list moves;     /* struct spool_move.node: that wait for their envelope */
	uint64_t marked_count; /* mails on their way to or from another store, nobody at work */
	struct list fetching;
	struct spool_fetch fetches[SPOOL_FETCHES];
	struct task claim_task;
	struct task finish_task;
	struct list finishing; /* requests whose on_done is due */
	struct op directory_op;
	struct list directory_waiting; /* drafts whose file's name is not durable yet */
	struct list directory_syncing; /* of them, those of the sync in flight */
	struct record_line *lines;     /* scratch of the encoder */
	struct record_starts *starts;  /* likewise */
	uint32_t scratch_count;
	unsigned loads; /* queue_load in the kernel */
	unsigned drafts_open;
	unsigned file_ops;
	struct spool_compaction compaction;
	struct timer upkeep;
	bool started;
	bool stopping;
	bool room_wanted;
	void (*on_stopped)(struct queue *q, void *context);
	void *stopped_context;
};

struct spool {
	struct queue_store store; /* first */
	struct queue_options options;
	int directory, segment_directory, file_directory, aside_directory, lock_fd;
	bool direct; /* O_DIRECT works here */
	uint64_t segment_size;
	atomic_uint_fast64_t next_sequence;
	atomic_uint_fast64_t commits;     /* of all workers */
	atomic_bool zeroing;              /* some worker has a piece of zeros on its way */
	atomic_int_fast64_t bytes_left;   /* of the disk, as far as we know */
	atomic_uint_fast32_t numbers_end; /* no file has this number or a higher one */
	atomic_uint_fast64_t *sequences; /* by file number: 0 no file, 1 spare, else its sequence */
	struct spool_end *ends;          /* worker_count */
	uint64_t hash_seed;              /* of texts that others choose */
	bool corrupt;
	bool open;
	uint64_t died_from; /* the first sequence of a run that did not end in order; 0: it did */
};

static inline struct spool_end *
spool_end_of(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return (struct spool_end *)(void *)q;
}

static inline struct spool_mail *
spool_mail_of(const struct queue_mail *m)
{
	OBJ_CHECK(m, QUEUE_MAIL_MAGIC);
	return (struct spool_mail *)(uintptr_t)m;
}

static inline struct spool_item *
spool_item_of(struct queue_item *i)
{
	OBJ_CHECK(i, QUEUE_ITEM_MAGIC);
	return (struct spool_item *)(void *)i;
}

static inline struct spool_recipient *
mail_recipients(struct spool_mail *m)
{
	return m->recipient_count == 1 ? &m->recipients.one : m->recipients.many;
}

/* Where its PUT is in its segment. */
static inline uint64_t
mail_at(const struct spool_mail *m)
{
	return (uint64_t)m->place_by_8 * 8;
}

static inline struct spool_loaded *
mail_loaded(const struct spool_mail *m)
{
	return (struct spool_loaded *)(uintptr_t)m->mail.envelope;
}

static inline bool
mail_is_held(const struct spool_mail *m)
{
	return m->hold_revision % 2 != 0;
}

static inline uint64_t
block_up(uint64_t n)
{
	return (n + SPOOL_BLOCK - 1) / SPOOL_BLOCK * SPOOL_BLOCK;
}

/* ---- segment.c ---- */
/* A struct for a file; in none of the end's counts yet. NULL: no memory. */
struct spool_segment *segment_new(struct spool_end *e, uint32_t number, uint64_t size);
void segment_name(char name[SPOOL_NAME_SIZE], uint32_t number);
/* Begins another file if the log has too few; nothing comes of it on a full disk. */
void segment_make(struct spool_end *e);
/* A ready one that nothing is at work on; NULL: none now. */
struct spool_segment *segment_take(struct spool_end *e);
/* Writes its head for this use, durably; then on_head. */
void segment_write_head(struct spool_segment *s, uint32_t use,
			void (*on_head)(struct spool_segment *s, bool ok));
/* Notes that a record in s is about a PUT in the segment with this sequence. */
void segment_refer(struct spool_segment *s, uint64_t sequence);
bool segment_exists(struct spool *spool, uint64_t sequence);
/* Frees it if nothing needs it; may be called at any time. */
void segment_try_free(struct spool_segment *s);
void segment_free_now(struct spool_segment *s); /* forwarding is done */
void segments_fill(struct spool_end *e);        /* zeroes the next piece, if it is time for one */
/* Is none of the ready ones still to be filled? */
bool segments_are_filled(const struct spool_end *e);
/* Counts it as a ready one. */
void segment_ready(struct spool_segment *s);
bool segments_are_idle(const struct spool_end *e);
/* A number that no file has; false: all are taken. */
bool segment_number(struct spool *spool, uint32_t *number);

/* ---- log.c ---- */
bool log_init(struct spool_end *e);
void log_fini(struct spool_end *e);
void log_append(struct spool_end *e, struct queue_request *r);
void log_kick(struct spool_end *e); /* something it may wait for has happened */
bool log_is_idle(const struct spool_end *e);
bool log_has_room(const struct spool_end *e, uint64_t size, unsigned reserve);
/* Seals the active segment, for a clean end; true when there is none (any more). */
bool log_finish(struct spool_end *e);

/* ---- index.c ---- */
bool index_init(struct spool_end *e, uint64_t mails);
void index_fini(struct spool_end *e);
struct spool_mail *index_find(struct spool_end *e, struct mail_id id);
void index_insert(struct spool_end *e, struct spool_mail *m);
void index_remove(struct spool_end *e, struct spool_mail *m);
struct spool_mail *mail_new(struct spool_end *e, struct mail_id id, uint32_t recipient_count);
void mail_free(struct spool_end *e, struct spool_mail *m); /* and its items, loaded block */
void mail_place(struct spool_mail *m, struct spool_segment *s, uint64_t place, uint32_t meta_size);
void mail_unplace(struct spool_mail *m);
/* Its numbers, cut to what is kept of them. */
void mail_describe(struct spool_mail *m, uint64_t accepted_at_ms, uint64_t body_size, bool in_file);
uint64_t mail_log_size(const struct spool_mail *m);
/* Makes the items of pending recipients that have none. False: no memory. */
bool mail_make_items(struct spool_end *e, struct spool_mail *m, struct span sender);
/* New ones as their recipients say; those without a pending one go. */
void mail_set_items(struct spool_end *e, struct spool_mail *m, bool recovered);
bool mail_is_finished(struct spool_mail *m); /* no recipient is pending */
bool mail_has_claims(const struct spool_mail *m);
void mail_unload(struct spool_end *e, struct spool_mail *m); /* where no item is claimed */
void mail_end(struct spool_end *e, struct spool_mail *m);    /* finished: all of it goes */
void item_wait(struct spool_end *e, struct spool_item *i, uint64_t due_at_ms);
void item_take(struct spool_end *e, struct spool_item *i, uint8_t state); /* out of waiting, held */
void item_free(struct spool_end *e, struct spool_item *i);
bool item_fill_recipients(struct spool_end *e, struct spool_item *i);
void item_set_state(struct spool_end *e, struct spool_item *i, uint8_t state);
void index_walk_oldest(struct spool_end *e); /* a slice of it; of the classes too */
/* One step of a walk over all mails: *m, or NULL where there was none. *cursor: 0 at the start.
 * False: this was the end. A mail that is there from the start to the end of a walk is met once. */
bool index_step(struct spool_end *e, uint64_t *cursor, struct spool_mail **m);
/* As they are now. */
void recipient_show(const struct spool_recipient *r, struct mail_recipient *out);
void recipient_set_attempts(struct spool_recipient *r, uint32_t attempts);
void recipient_set_address(struct spool_end *e, struct spool_recipient *r, struct span address);
void mail_set_sender(struct spool_end *e, struct spool_mail *m, struct span sender);
uint32_t name_hash(const struct spool_end *e, struct span address);
struct span name_of_domain(struct span address); /* behind the '@'; empty: none */
void recipient_set_reply(struct spool_end *e, struct spool_recipient *r, struct span text);
void recipient_set_state(struct spool_end *e, struct spool_recipient *r, uint8_t state);
struct spool_loaded *loaded_new(struct spool_end *e, uint32_t recipient_count, size_t text_size);
void loaded_free(struct spool_end *e, struct spool_loaded *l);
struct spool_loaded *loaded_copy(struct spool_end *e, const struct mail_envelope *from,
				 struct span block_crcs);
struct spool_loaded *loaded_read(struct spool_end *e, struct spool_mail *m, const struct record *r);

/* ---- list.c ---- */
bool spool_list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
		bool (*on_row)(void *context, const struct queue_row *row), void *context);
void spool_show(struct queue *q, struct queue_show *s);
void spool_show_run(struct spool_end *e); /* whatever can go on */

/* ---- names.c ---- */
bool names_init(struct spool_end *e);
void names_fini(struct spool_end *e);
/* 0: none. What is got is put. */
uint16_t name_find(const struct spool_end *e, struct span text);
uint16_t name_get(struct spool_end *e, struct span text);
void name_put(struct spool_end *e, uint16_t number);
struct span name_text(const struct spool_end *e, uint16_t number);

/* ---- draft.c ---- */
void spool_file_name(char name[SPOOL_NAME_SIZE], struct mail_id id);
void spool_file_remove(struct spool_end *e, struct mail_id id);
void spool_file_close(struct spool_end *e, int fd);
enum err spool_admit(struct queue *q, uint64_t size);
enum err spool_admit_silently(const struct spool_end *e, uint64_t size); /* without counting */
struct queue_draft *spool_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint);
enum err spool_draft_append(struct queue_draft *d, struct span bytes);
bool spool_draft_is_full(const struct queue_draft *d);
void spool_draft_on_room(struct queue_draft *d, struct task *resume);
uint64_t spool_draft_size(const struct queue_draft *d);
void spool_draft_abandon(struct queue_draft *d);
void spool_put(struct queue *q, struct queue_put *p);
void spool_put_moving(struct queue *q, struct queue_put *p, struct queue_moving *moving);
/* The mail of a put's request. */
struct mail_id spool_put_id(struct queue_request *r);
/* r->notice, with the outcomes; or ends both, where there is an error. */
void spool_put_notice(struct spool_end *e, struct queue_record *r, enum err error);
size_t spool_draft_object_size(void);
void spool_directory_synced(struct op *op, struct completion c);

/* ---- claim.c ---- */
void spool_claim(struct queue *q, struct queue_claim *c);
void spool_claim_run(struct task *t);
/* Reads a mail's envelope, and its body where there is room; claim_task runs when it is there, or
 * fetch_failed. ERR_AGAIN: when another one has ended. */
enum err spool_fetch(struct spool_end *e, struct spool_mail *m, bool with_body);
void spool_release(struct queue *q, struct queue_item *i, uint64_t due_at_ms);
void spool_reroute(struct queue *q, struct queue_item *i);
void spool_load(struct queue *mine, struct queue_load *l);
void spool_drop_body(struct queue *q, struct queue_mail *m);
void spool_hold_damaged(struct spool_end *e, struct spool_mail *m);

/* ---- change.c ---- */
void spool_record(struct queue *q, struct queue_record *r);
/* Of the outcomes of a record with a notice. */
uint64_t spool_outcome_size(struct spool_end *e, const struct queue_record *r);
void spool_outcome_write(struct spool_end *e, const struct queue_record *r, struct buf *out,
			 uint64_t place);
void spool_outcome_ends(struct spool_end *e, struct queue_record *r, enum err error);
void spool_attempt(struct queue *q, struct queue_attempt *a);
void spool_act(struct queue *q, struct queue_act *a);
void spool_close_start(struct spool_end *e, struct spool_item *i);
bool spool_scratch(struct spool_end *e, uint32_t count); /* room for so many lines and starts */
/* on_done with this error, from a task. */
void spool_finish_later(struct spool_end *e, struct queue_request *r,
			const struct queue_request_kind *kind, enum err error);

/* ---- compact.c ---- */
void compaction_init(struct spool_end *e);
void compaction_kick(struct spool_end *e);
bool compaction_is_idle(const struct spool_end *e);
/* Copies what is still needed of a segment's changes forward, then segment_free_now(). False: not
 * now. */
bool compaction_forward(struct spool_end *e, struct spool_segment *s);

/* ---- move.c ---- */
extern const struct queue_mover spool_mover;
void spool_move_run(struct spool_end *e); /* whatever can go on */
/* Of a mail that is put because it moves here: the record behind its PUT. */
struct record_change spool_arrival_mark(const struct queue_moving *m);
void spool_arrived(struct spool_end *e, struct spool_mail *m, const struct queue_moving *moving);
/* A HOLD was read: is it a mark? */
void spool_read_mark(struct spool_mail *m, struct span who, struct span why);
/* At the end of recovery: nobody touches what is marked. */
void spool_keep_marked(struct spool_mail *m);

/* ---- recover.c ---- */
/* Makes the ends, reads all segments and files and deals them out. */
bool spool_recover(struct spool *spool, struct worker **workers, struct buf *why);

/* ---- open.c ---- */
/* segments_bytes: what the segments that exist take. */
bool spool_choose_size(struct spool *spool, uint64_t segments_bytes, struct buf *why);
void spool_close(struct queue_store *store);

/* ---- end.c ---- */
bool end_init(struct spool_end *e, struct spool *spool, struct worker *w, uint64_t mails);
void end_fini(struct spool_end *e);
/* There is something to do again: upkeep comes as often as it does then. */
void end_wake_upkeep(struct spool_end *e);
extern const struct queue_driver spool_driver;

/* ---- report.c ---- */

/* What recovery found. */
struct spool_recovered {
	uint64_t segments;
	uint64_t torn;
	uint64_t corrupt;
	uint64_t duration_ms;
};

/* Counters to metrics; every upkeep. */
void spool_report(struct spool_end *e);
void spool_report_commit(struct spool_end *e, uint32_t records, uint64_t bytes, uint64_t took_us);
void spool_report_damage(struct worker *w, const char *file, uint64_t offset, uint64_t lsn);
void spool_report_failure(struct worker *w, const char *file, const char *operation);
/* A put whose write failed: void on disk (ERR_STORAGE), or not provably so (ERR_IN_DOUBT). */
void spool_report_refused(struct worker *w, struct mail_id mail, enum err error);
void spool_report_aside(struct worker *w, const char *file);
void spool_report_recovery(struct spool *spool, const struct spool_recovered *r);

#endif
