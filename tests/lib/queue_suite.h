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
};

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
/* Is the body of this item the one of mail `number`? Read in pieces by `reader`. */
bool world_body_is(struct world *w, unsigned reader, const struct queue_item *item, unsigned number,
		   enum err *error);
/* Of all workers. */
struct queue_numbers world_count(struct world *w);

int queue_suite_run(const struct queue_suite_store *kind);

#endif
