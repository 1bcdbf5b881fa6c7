/* SPDX-License-Identifier: Apache-2.0
 *
 * toy_internal: the shapes of the toy store, for its two halves.
 */
#ifndef TESTS_FAULT_TOY_INTERNAL_H
#define TESTS_FAULT_TOY_INTERNAL_H

#include "queue/driver.h"
#include "tests/fault/toy/toy_store.h"

enum {
	BLOCK = 4096,
	FLIGHTS = 2,
	BATCH_MOST = 2 << 20,
	SITES = 32,
	RECORD_MAGIC = 0x544f5931,
	RECIPIENTS_MOST = 8,
};

/* NOTICE: a count of outcomes, they, and a put; of the mail that the outcomes are of. */
enum record_kind { RECORD_PUT = 1, RECORD_OUTCOME, RECORD_HELD, RECORD_REMOVED, RECORD_NOTICE };

/* In the log: the header, then the payload, padded to 8; a batch is padded to 4096. */
struct header {
	uint32_t magic;
	uint32_t size; /* with the header */
	uint64_t checksum;
	uint64_t generation;
	struct mail_id id;
	uint64_t kind;
};

struct put_payload {
	struct mail_id id;
	uint64_t accepted_at_ms, body_size, flags, recipient_count;
	uint64_t notify[RECIPIENTS_MOST];
	char addresses[RECIPIENTS_MOST][64];
	char sender[64];
};

struct outcome_payload {
	uint64_t recipient, state, attempts, retry_at_ms, notified;
	char reply[64]; /* nobody reads it, but the oracle looks for it on the disk */
};

struct toy_mail;

struct toy_item {
	struct queue_item item;
	struct toy_mail *mail;
	struct list_node node; /* the end's waiting */
	uint32_t indexes[RECIPIENTS_MOST];
	uint64_t due_at_ms;
	bool claimed;
};

struct toy_mail {
	struct queue_mail mail;
	struct list_node node;
	struct mail_envelope envelope;
	struct mail_recipient recipients[RECIPIENTS_MOST];
	struct put_payload texts;
	uint8_t *body;
	struct toy_item *items[SITES];
	bool held;
};

/* What a request needs until it is done. */
struct work {
	struct list_node node; /* pending, or its batch */
	struct toy_end *end;
	void *bytes;
	size_t size;
	void (*done)(struct work *w, enum err e);
	void *request;
	struct toy_mail *mail;
	uint64_t value;
	struct outcome_payload outcomes[RECIPIENTS_MOST];
};

struct batch {
	struct op op;
	struct list works;
	struct toy_end *end;
	uint8_t *memory;
	size_t size, written;
	uint64_t offset;
	bool used, done;
};

struct toy_end {
	struct queue queue;
	struct toy_store *store;
	struct list mails;
	struct list pending; /* works for the next batch, or for no batch at all */
	struct list waiting; /* items */
	struct batch batches[FLIGHTS];
	unsigned first; /* the oldest batch in flight */
	int fd;
	uint64_t offset;
	struct task commit;
	struct timer timer;
	bool told[SITES];
	bool named[SITES]; /* since on_site_unused */
	void (*on_stopped)(struct queue *q, void *context);
	void *stop_context;
};

struct toy_store {
	struct queue_store store;
	struct toy_end *ends;
	int directory;
	uint64_t generation;
	unsigned next_worker; /* for recovered mails */
	struct list recovered;
};

struct toy_draft {
	struct queue_draft draft;
	struct toy_end *end;
	struct mail_id id;
	uint8_t *bytes;
	size_t size;
};

static inline struct toy_end *
end_of(struct queue *q)
{
	return CONTAINER_OF(q, struct toy_end, queue);
}

extern const struct queue_driver toy_driver;

/* ---- toy_store.c ---- */
void toy_commit_soon(struct toy_end *e);
struct toy_mail *toy_mail_new(struct mail_id id, const struct put_payload *p, const uint8_t *body);
void toy_mail_free(struct toy_mail *m);
struct toy_item *toy_item_make(struct toy_mail *m, unsigned site);
bool toy_mail_is_over(const struct toy_mail *m);
void toy_item_wait(struct toy_end *e, struct toy_item *i);
void toy_look(struct toy_end *e);
/* Asks for the sites of its pending recipients. */
void toy_route(struct toy_end *e, struct toy_mail *m);
void toy_outcome_apply(struct toy_mail *m, const struct outcome_payload *p);
struct toy_mail *toy_mail_find(const struct list *mails, struct mail_id id);
void toy_run_commit(struct task *t);
void toy_on_timer(struct timer *t);

/* ---- toy_open.c ---- */
struct queue *toy_end(struct queue_store *s, unsigned number);
void toy_start(struct queue *q);
void toy_stop(struct queue *q, void (*on_stopped)(struct queue *q, void *context), void *context);
void toy_close_store(struct queue_store *store);

#endif
