/* SPDX-License-Identifier: Apache-2.0
 *
 * queue_suite: what every store must do, written against queue/queue.h alone.
 *
 * A store's test fills in a struct queue_suite_store and calls queue_suite_run(). All workers run
 * in one thread, each with a ring of its own; every wait is for an event, with a deadline that
 * only a defect reaches. Between the tests the store is emptied with `reset`.
 *
 * The helpers below serve the store's own tests too: a world is an open store with its workers.
 */
#ifndef TESTS_LIB_QUEUE_SUITE_H
#define TESTS_LIB_QUEUE_SUITE_H

#include <stddef.h>

#include "core/worker.h"
#include "queue/queue.h"

/* Of every mail of this world. */
enum { WORLD_FLAGS = MAIL_EIGHT_BIT | MAIL_TLS_REQUIRED };
enum { WORLD_WORKERS_MAX = 4, WORLD_ITEMS_MAX = 4096, WORLD_SITES = 64 };

struct queue_suite_store {
	const char *name;
	/* Empties what open() opens. */
	void (*reset)(void);
	struct queue_store *(*open)(struct worker **workers, unsigned worker_count,
				    const struct queue_hooks *hooks, struct buf *why);
	uint64_t file_threshold; /* bodies above are kept another way; both are tried */
	/* Nodes share it. Mails are in no process: after a start any worker may get any of them,
	 * numbers lag behind, those of single items are not known, a stop hands
	 * over what was kept (nothing is `recovered` then), and a death does when a lease has run
	 * out. What is due in more than ten seconds no worker keeps. */
	bool is_shared;
	bool is_away; /* a part of it: a mail that is not here may be there (ERR_AWAY) */
};

/* What is said of a mail that nobody has. */
static inline enum err
queue_suite_nowhere(const struct queue_suite_store *kind)
{
	return kind->is_away ? ERR_AWAY : ERR_NOT_FOUND;
}

struct world {
	const struct queue_suite_store *kind;
	struct queue_store *store;
	unsigned worker_count;
	struct worker workers[WORLD_WORKERS_MAX];
	struct worker *peers[WORLD_WORKERS_MAX];
	unsigned stopped;
	unsigned due;                 /* calls of on_due */
	unsigned unused[WORLD_SITES]; /* calls of on_site_unused */
	char why[1024];
};

/* Fails the test where it does not open. Workers are started. */
void world_open(struct world *w, const struct queue_suite_store *kind, unsigned worker_count);
/* False with w->why. */
bool world_try_open(struct world *w, const struct queue_suite_store *kind, unsigned worker_count);
/* In an orderly way. */
void world_stop(struct world *w);
/* Turns of all workers until *flag. */
void world_wait(struct world *w, const bool *flag);
/* One turn of each worker. */
void world_turn(struct world *w);

/* A mail by number: its id, sender, body and recipients follow from it. Recipient i goes to site
 * `sites[i]`. */
struct mail_id world_id(unsigned number);
/* When it was accepted says which one it is: a shared store, which keeps times by the clock of
 * others, gives them back to some milliseconds. */
enum { WORLD_FIRST = 1000, WORLD_PAUSE_MS = 1000 };
static inline unsigned
world_number(uint64_t accepted_at_ms)
{
	return (unsigned)((accepted_at_ms + WORLD_PAUSE_MS / 2) / WORLD_PAUSE_MS - WORLD_FIRST);
}
/* Behind all that were accepted before it, and not behind it. */
static inline uint64_t
world_about_ms(unsigned number)
{
	return (WORLD_FIRST + number) * (uint64_t)WORLD_PAUSE_MS - WORLD_PAUSE_MS / 2;
}
/* The sender of the next mails; NULL: each has its own. One that begins with "heavy" has the
 * weight 3. */
extern const char *world_sender;
enum err world_put(struct world *w, unsigned worker, unsigned number, uint64_t body_size,
		   const uint32_t *sites, uint32_t recipient_count, struct list *items);
/* Puts with one recipient at site 1 and releases, due at once. */
void world_put_waiting(struct world *w, unsigned worker, unsigned number, uint64_t body_size);
/* Claims at one worker; the number of items. */
size_t world_claim(struct world *w, unsigned worker, uint32_t site, uint32_t most,
		   struct list *items, enum err *error);
/* Waits until some worker has an item of this site; which worker. */
unsigned world_claim_one(struct world *w, uint32_t site, struct queue_item **item);
enum err world_record(struct world *w, struct queue_item *item, uint8_t state, uint64_t retry_at_ms,
		      const char *reply);
/* A mail by number, like those of world_put, that is kept with outcomes. */
struct world_notice {
	unsigned number;
	uint64_t body_size;
	uint32_t site;
	void (*meanwhile)(struct world *w); /* before the record is asked for; may be NULL */
};
/* `items`: the notice's. */
enum err world_record_notice(struct world *w, struct queue_item *item,
			     const struct queue_result *results, uint32_t count,
			     const struct world_notice *notice, struct list *items);
enum err world_act(struct world *w, unsigned worker, struct mail_id id, enum queue_action action);
/* Of a mail that nobody has claimed: ERR_AGAIN passes. In a shared store it may be on its way
 * there, a spool may be moving it. */
enum err world_act_soon(struct world *w, unsigned worker, struct mail_id id,
			enum queue_action action);
/* Is the body of this item the one of mail `number`? Read in pieces by `reader`. */
bool world_body_is(struct world *w, unsigned reader, const struct queue_item *item, unsigned number,
		   enum err *error);
/* By all workers, to the end. */
void world_list(struct world *w, struct queue_filter f,
		bool (*on_row)(void *context, const struct queue_row *row), void *context);
/* Of all workers. */
struct queue_numbers world_count(struct world *w);
/* Is it this time? To the millisecond, or in a shared store to half a pause. */
bool world_is_time(const struct world *w, uint64_t is_ms, uint64_t ms);
/* In a shared store, what is not due soon goes where all see it, and is in two places meanwhile:
 * waits until only `kept` items are left here. */
void world_settle(struct world *w, unsigned kept);
/* Is it this number? In a shared store: does it become this number? */
#define world_expect(w, field, number) \
	world_expect_number(w, offsetof(struct queue_numbers, field), #field, number)
void world_expect_number(struct world *w, size_t offset, const char *name, uint64_t number);

int queue_suite_run(const struct queue_suite_store *kind);

#endif
