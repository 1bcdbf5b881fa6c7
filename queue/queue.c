/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds the store behind a queue. Nothing of a mail is known here.
 */
#include "queue/queue.h"

#include <stddef.h>
#include <string.h>

#include "core/base/assert.h"
#include "queue/driver.h"
#include "queue/pair/pair.h"
#include "queue/redis/store.h"
#include "queue/shares.h"
#include "queue/spool/spool.h"

/* A function that is called without a look lacks in no store: else it is found out by the first
 * mail that needs it. */
static struct queue_store *
checked(struct queue_store *s)
{
	void (*function)(void);

	for (size_t at = offsetof(struct queue_driver, end);
	     s != NULL && at < offsetof(struct queue_driver, give_up); at += sizeof function) {
		memcpy(&function, (const uint8_t *)s->driver + at, sizeof function);
		ASSERT(function != NULL);
	}
	ASSERT(s == NULL || (s->driver->nodes == NULL) == (s->driver->order == NULL));
	return s;
}

struct queue_store *
queue_open(const struct queue_options *options, struct worker **workers, unsigned worker_count,
	   const struct queue_hooks *hooks, struct buf *why)
{
	ASSERT(worker_count > 0 && worker_count <= WORKERS_MAX);
	ASSERT(hooks->site_of != NULL && hooks->on_due != NULL);
	if (options->redis != NULL && options->fallback) {
		const struct pair_kinds kinds = { spool_open, redis_open };
		return checked(pair_open(&kinds, options, workers, worker_count, hooks, why));
	}
	if (options->redis != NULL)
		return checked(redis_open(options, workers, worker_count, hooks, why));
	return checked(spool_open(options, workers, worker_count, hooks, why));
}

struct queue *
queue_end(struct queue_store *s, unsigned number)
{
	OBJ_CHECK(s, QUEUE_STORE_MAGIC);
	ASSERT(number < s->worker_count);
	return s->driver->end(s, number);
}

struct worker *
queue_worker(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->worker;
}

void *
queue_context(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->store->hooks.context;
}

void
queue_stop(struct queue *q, void (*on_stopped)(struct queue *q, void *context), void *context)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	q->driver->stop(q, on_stopped, context);
}

void
queue_give_up(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	if (q->driver->give_up != NULL)
		q->driver->give_up(q);
}

void
queue_close(struct queue_store *s)
{
	OBJ_CHECK(s, QUEUE_STORE_MAGIC);
	s->driver->close(s);
}

enum err
queue_draft_append(struct queue_draft *d, struct span bytes)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	return d->driver->draft_append(d, bytes);
}

bool
queue_draft_is_full(const struct queue_draft *d)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	return d->driver->draft_is_full(d);
}

void
queue_draft_on_room(struct queue_draft *d, struct task *resume)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	d->driver->draft_on_room(d, resume);
}

uint64_t
queue_draft_size(const struct queue_draft *d)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	return d->driver->draft_size(d);
}

void
queue_draft_abandon(struct queue_draft *d)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	d->driver->draft_abandon(d);
}

void
queue_load(struct queue *mine, struct queue_load *l)
{
	OBJ_CHECK(mine, QUEUE_MAGIC);
	OBJ_CHECK(l->mail, QUEUE_MAIL_MAGIC);
	ASSERT((uintptr_t)l->memory % 4096 == 0);
	ASSERT(l->capacity % 4096 == 0 && l->capacity >= 8192);
	mine->driver->load(mine, l);
}

bool
queue_list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
	   bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->list(q, f, cursor, slice_us, on_row, context);
}

uint32_t
queue_item_recipient(const struct queue_item *i, uint32_t from)
{
	uint32_t low = 0;
	uint32_t high = i->recipient_count;

	OBJ_CHECK(i, QUEUE_ITEM_MAGIC);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (i->recipients[middle] < from)
			low = middle + 1;
		else
			high = middle;
	}
	return low < i->recipient_count ? i->recipients[low] : i->mail->envelope->recipient_count;
}

void
queue_start(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	q->driver->start(q);
}

enum err
queue_admit(struct queue *q, uint64_t size)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->admit(q, size);
}

bool
queue_memory_is_tight(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->memory_is_tight(q);
}

struct mail_id
queue_id_new(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->id_new(q);
}

struct mail_id
queue_id_beside(struct queue *q, struct mail_id of)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->id_beside(q, of);
}

struct queue_draft *
queue_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->draft_new(q, id, size_hint);
}

struct queue_draft *
queue_draft_new_beside(struct queue *q, const struct queue_mail *of, struct mail_id id,
		       uint64_t size_hint)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	OBJ_CHECK(of, QUEUE_MAIL_MAGIC);
	if (q->driver->draft_new_beside == NULL)
		return q->driver->draft_new(q, id, size_hint);
	return q->driver->draft_new_beside(q, of, id, size_hint);
}

void
queue_put(struct queue *q, struct queue_put *p)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	ASSERT(p->on_done != NULL);
	q->driver->put(q, p);
}

void
queue_claim(struct queue *q, struct queue_claim *c)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	ASSERT(c->on_done != NULL);
	q->driver->claim(q, c);
}

void
queue_release(struct queue *q, struct queue_item *i, uint64_t due_at_ms)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	OBJ_CHECK(i, QUEUE_ITEM_MAGIC);
	q->driver->release(q, i, due_at_ms);
}

void
queue_reroute(struct queue *q, struct queue_item *i)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	OBJ_CHECK(i, QUEUE_ITEM_MAGIC);
	q->driver->reroute(q, i);
}

void
queue_drop_body(struct queue *q, struct queue_mail *m)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	OBJ_CHECK(m, QUEUE_MAIL_MAGIC);
	q->driver->drop_body(q, m);
}

void
queue_record(struct queue *q, struct queue_record *r)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	OBJ_CHECK(r->item, QUEUE_ITEM_MAGIC);
	q->driver->record(q, r);
}

bool
queue_may_deliver(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->may_deliver(q);
}

uint64_t
queue_may_end_until_ms(struct queue *mine, const struct queue_mail *m)
{
	OBJ_CHECK(mine, QUEUE_MAGIC);
	OBJ_CHECK(m, QUEUE_MAIL_MAGIC);
	return mine->driver->may_end_until_ms(mine, m);
}

void
queue_attempt(struct queue *q, struct queue_attempt *a)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	OBJ_CHECK(a->item, QUEUE_ITEM_MAGIC);
	q->driver->attempt(q, a);
}

void
queue_show(struct queue *q, struct queue_show *s)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	ASSERT(s->on_done != NULL);
	q->driver->show(q, s);
}

void
queue_act(struct queue *q, struct queue_act *a)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	ASSERT(a->on_done != NULL);
	q->driver->act(q, a);
}

void
queue_count(struct queue *q, struct queue_numbers *out)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	q->driver->count(q, out);
}

struct shares *
queue_shares(struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	if (q->driver->shares == NULL ||
	    (q->driver->counts_alone != NULL && q->driver->counts_alone(q)))
		return NULL;
	return q->driver->shares(q);
}

void
queue_watch_shares(struct queue *q, const struct share_watcher *w, void *context)
{
	struct shares *s;

	OBJ_CHECK(q, QUEUE_MAGIC);
	s = q->driver->shares == NULL ? NULL : q->driver->shares(q);

	if (s != NULL)
		shares_watch(s, w, context);
}

bool
queue_has_nodes(const struct queue *q)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	return q->driver->nodes != NULL;
}

void
queue_nodes(struct queue *q, struct queue_nodes *n)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	ASSERT(n->on_done != NULL && q->worker->number == 0);
	q->driver->nodes(q, n);
}

void
queue_order(struct queue *q, struct queue_order *o)
{
	OBJ_CHECK(q, QUEUE_MAGIC);
	ASSERT(o->on_done != NULL);
	q->driver->order(q, o);
}
