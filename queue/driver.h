/* SPDX-License-Identifier: Apache-2.0
 *
 * driver: what a store provides to stand behind queue.h. For stores and queue.c alone.
 *
 * A store embeds struct queue_store in its own, struct queue in each worker's end and struct
 * queue_draft in its drafts, each as the first member, and fills in `driver`; queue.c finds the
 * functions through it. The contract of every function is the one of its namesake in queue.h.
 */
#ifndef QUEUE_DRIVER_H
#define QUEUE_DRIVER_H

#include "queue/queue.h"

struct queue_mover;

struct queue_driver {
	const char *name;
	struct queue *(*end)(struct queue_store *s, unsigned number);
	void (*start)(struct queue *q);
	void (*stop)(struct queue *q, void (*on_stopped)(struct queue *q, void *context),
		     void *context);
	void (*close)(struct queue_store *s);
	enum err (*admit)(struct queue *q, uint64_t size);
	bool (*memory_is_tight)(struct queue *q);
	struct mail_id (*id_new)(struct queue *q);
	struct mail_id (*id_beside)(struct queue *q, struct mail_id of);
	struct queue_draft *(*draft_new)(struct queue *q, struct mail_id id, uint64_t size_hint);
	enum err (*draft_append)(struct queue_draft *d, struct span bytes);
	bool (*draft_is_full)(const struct queue_draft *d);
	void (*draft_on_room)(struct queue_draft *d, struct task *resume);
	uint64_t (*draft_size)(const struct queue_draft *d);
	void (*draft_abandon)(struct queue_draft *d);
	void (*put)(struct queue *q, struct queue_put *p);
	void (*claim)(struct queue *q, struct queue_claim *c);
	void (*release)(struct queue *q, struct queue_item *i, uint64_t due_at_ms);
	void (*reroute)(struct queue *q, struct queue_item *i);
	void (*load)(struct queue *mine, struct queue_load *l);
	void (*drop_body)(struct queue *q, struct queue_mail *m);
	void (*record)(struct queue *q, struct queue_record *r);
	bool (*may_deliver)(struct queue *q);
	uint64_t (*may_end_until_ms)(struct queue *mine, const struct queue_mail *m);
	void (*attempt)(struct queue *q, struct queue_attempt *a);
	bool (*list)(struct queue *q, const struct queue_filter *f, uint64_t *cursor,
		     uint64_t slice_us, bool (*on_row)(void *context, const struct queue_row *row),
		     void *context);
	void (*show)(struct queue *q, struct queue_show *s);
	void (*act)(struct queue *q, struct queue_act *a);
	void (*count)(struct queue *q, struct queue_numbers *out);
	/* All above are there (queue_open checks it); what follows may be NULL. */
	void (*give_up)(struct queue *q); /* NULL: it waits for nobody */
	/* NULL: draft_new; one store has them all. */
	struct queue_draft *(*draft_new_beside)(struct queue *q, const struct queue_mail *of,
						struct mail_id id, uint64_t size_hint);
	struct shares *(*shares)(struct queue *q); /* queue/shares.h; NULL: there are none */
	/* Nobody else can be asked about limits now, and mail goes on: this node counts for itself.
	 * NULL: never. */
	bool (*counts_alone)(struct queue *q);
	/* For a store of which this one is a part (pair/): */
	bool (*keeps)(struct queue *q, struct mail_id id);        /* this end, in its memory */
	bool (*names_site)(struct queue *q, struct site_id site); /* some item of it does */
	void (*tell_again)(struct queue *q);                      /* what is due, everywhere */
	enum err (*may_take)(struct queue *q);                    /* admit, which counts nothing */
	const struct queue_mover *mover;
	struct body *(*draft_body)(const struct queue_draft *draft); /* all of it; NULL: not here */
	/* Both NULL: it is nobody else's. */
	void (*nodes)(struct queue *q, struct queue_nodes *n);
	void (*order)(struct queue *q, struct queue_order *o);
};

#define QUEUE_MAGIC       0x51554555u
#define QUEUE_STORE_MAGIC 0x51535452u
#define QUEUE_ITEM_MAGIC  0x51495445u
#define QUEUE_MAIL_MAGIC  0x514d4149u
#define QUEUE_DRAFT_MAGIC 0x51445241u

struct queue_store {
	uint32_t magic;
	const struct queue_driver *driver;
	struct queue_hooks hooks;
	unsigned worker_count;
};

struct queue {
	uint32_t magic;
	const struct queue_driver *driver;
	struct queue_store *store;
	struct worker *worker;
};

struct queue_draft {
	uint32_t magic;
	const struct queue_driver *driver;
};

#endif
