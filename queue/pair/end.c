/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker's end of the pair: its start, its stop, what is looked at now and then, and what is
 * simply the part's.
 */
#include "core/log.h"
#include "queue/pair/internal.h"

enum {
	UPKEEP_MS = 1000,
	SKIPPED_MS = 100, /* a part that was left out is looked at so often */
	DRAFTS_MOST = 1 << 21,
	CLAIMS_MOST = 1 << 20,
};

/* ---- is this node disposable? ---- */

static uint64_t
mails_here(const struct pair *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->store.worker_count; i++)
		sum += atomic_load(&p->ends[i].mails_here);
	return sum;
}

static void
count_mails(struct pair_end *e)
{
	struct queue *spool = e->parts[QUEUE_IN_SPOOL];
	struct queue_numbers n;

	spool->driver->count(spool, &n);
	atomic_store(&e->mails_here, n.mails);
}

static void
tell_use(struct pair_end *e, struct span why)
{
	struct log_ring *log = e->queue.worker->log;

	if (atomic_exchange(&e->pair->in_use, true) || log == NULL)
		return;
	event_fallback_used(
		log, &(struct event_fallback_used){ .mails = mails_here(e->pair), .why = why });
}

void
pair_note_use(struct pair_end *e, enum err why)
{
	count_mails(e);
	tell_use(e, span_of_string(err_text(why)));
}

void
pair_note_arrival(struct pair_end *e)
{
	count_mails(e);
	tell_use(e, SPAN("mail was moved into the spool"));
}

/* Of worker 0: for all of them. */
static void
look_at_use(struct pair_end *e)
{
	struct log_ring *log = e->queue.worker->log;
	uint64_t mails = mails_here(e->pair);

	if (mails > 0) {
		tell_use(e, SPAN("mail was found in the spool"));
		return;
	}
	if (pair_shared_takes(e) != ERR_OK || !atomic_exchange(&e->pair->in_use, false))
		return;
	if (log != NULL)
		event_fallback_empty(log, &(struct event_fallback_empty){ .mails = mails });
}

/* ---- upkeep ---- */

static bool
any_is_skipped(const struct pair_end *e)
{
	return e->skipped[QUEUE_IN_SPOOL] || e->skipped[QUEUE_IN_REDIS];
}

void
pair_note_skipped(struct pair_end *e, unsigned part)
{
	struct worker *w = e->queue.worker;

	if (!any_is_skipped(e) && e->started && !e->stopping)
		timer_set(&w->timers, &e->upkeep, w->now_ms + SKIPPED_MS);
	e->skipped[part] = true;
}

static void
on_upkeep(struct timer *t)
{
	struct pair_end *e = CONTAINER_OF(t, struct pair_end, upkeep);
	struct worker *w = e->queue.worker;

	for (unsigned i = 0; i < PAIR_PARTS; i++) {
		struct queue *part = e->parts[i];
		if (!e->skipped[i] || !part->driver->may_deliver(part))
			continue;
		e->skipped[i] = false;
		part->driver->tell_again(part);
	}
	count_mails(e);
	if (w->number == 0)
		look_at_use(e);
	pair_moves_look(e);
	timer_set(&w->timers, t, w->now_ms + (any_is_skipped(e) ? SKIPPED_MS : UPKEEP_MS));
}

/* ---- life ---- */

void
pair_end_init(struct pair_end *e, struct pair *p, struct worker *w)
{
	*e = (struct pair_end){ .pair = p };
	OBJ_INIT(&e->queue, QUEUE_MAGIC);
	e->queue.driver = &pair_driver;
	e->queue.store = &p->store;
	e->queue.worker = w;
	atomic_init(&e->mails_here, 0);
	pool_init(&e->drafts, pair_draft_size_of(), DRAFTS_MOST);
	pool_init(&e->claims, pair_claim_size_of(), CLAIMS_MOST);
	list_init(&e->finishing);
	list_init(&e->claims_open);
	list_init(&e->refused);
	task_init(&e->finish_task, pair_finish_run);
	timer_init(&e->upkeep, on_upkeep);
	pair_moves_init(e);
}

void
pair_end_fini(struct pair_end *e)
{
	pool_fini(&e->drafts);
	pool_fini(&e->claims);
}

static void
pair_start(struct queue *q)
{
	struct pair_end *e = pair_end_of(q);
	struct worker *w = q->worker;

	ASSERT(!e->started);
	for (unsigned i = 0; i < PAIR_PARTS; i++)
		e->parts[i]->driver->start(e->parts[i]);
	e->started = true;
	e->waits_until_ms = w->now_ms + e->pair->wait_ms;
	count_mails(e);
	timer_set(&w->timers, &e->upkeep, w->now_ms + SKIPPED_MS);
}

void
pair_try_stopped(struct pair_end *e)
{
	if (e->stopped < PAIR_PARTS || !list_is_empty(&e->finishing) || !list_is_empty(&e->refused))
		return;
	e->started = false;
	e->stopped = 0;
	e->on_stopped(&e->queue, e->stopped_context);
}

static void
on_part_stopped(struct queue *part, void *context)
{
	struct pair_end *e = context;

	(void)part;
	e->stopped++;
	pair_try_stopped(e);
}

void
pair_try_to_stop(struct pair_end *e)
{
	if (!e->stopping || e->parts_stopping || e->moves_open > 0)
		return;
	e->parts_stopping = true;
	for (unsigned i = 0; i < PAIR_PARTS; i++)
		e->parts[i]->driver->stop(e->parts[i], on_part_stopped, e);
}

static void
pair_stop(struct queue *q, void (*on_stopped)(struct queue *q, void *context), void *context)
{
	struct pair_end *e = pair_end_of(q);

	ASSERT(e->started && !e->stopping);
	e->stopping = true;
	e->on_stopped = on_stopped;
	e->stopped_context = context;
	timer_stop(&q->worker->timers, &e->upkeep);
	pair_moves_stop(e);
	pair_try_to_stop(e);
}

static void
pair_give_up(struct queue *q)
{
	struct pair_end *e = pair_end_of(q);

	for (unsigned i = 0; i < PAIR_PARTS; i++) {
		if (e->parts[i]->driver->give_up != NULL)
			e->parts[i]->driver->give_up(e->parts[i]);
	}
}

static struct queue *
pair_end_number(struct queue_store *s, unsigned number)
{
	return &((struct pair *)(void *)s)->ends[number].queue;
}

/* ---- of both ---- */

static bool
pair_memory_is_tight(struct queue *q)
{
	struct pair_end *e = pair_end_of(q);
	bool is_tight = false;

	for (unsigned i = 0; i < PAIR_PARTS; i++)
		is_tight |= e->parts[i]->driver->memory_is_tight(e->parts[i]);
	return is_tight;
}

/* A claim leaves out the one that may not. */
static bool
pair_may_deliver(struct queue *q)
{
	struct pair_end *e = pair_end_of(q);
	bool may = false;

	for (unsigned i = 0; i < PAIR_PARTS; i++)
		may |= e->parts[i]->driver->may_deliver(e->parts[i]);
	return may;
}

/* The shared store's is as good as any in the spool. */
static struct mail_id
pair_id_new(struct queue *q)
{
	struct queue *shared = pair_end_of(q)->parts[QUEUE_IN_REDIS];

	return shared->driver->id_new(shared);
}

static struct mail_id
pair_id_beside(struct queue *q, struct mail_id of)
{
	struct queue *shared = pair_end_of(q)->parts[QUEUE_IN_REDIS];

	return shared->driver->id_beside(shared, of);
}

/* ---- of the part that has the mail ---- */

static void
pair_release(struct queue *q, struct queue_item *i, uint64_t due_at_ms)
{
	struct queue *part = pair_part_of(q, i->mail);

	part->driver->release(part, i, due_at_ms);
}

static void
pair_reroute(struct queue *q, struct queue_item *i)
{
	struct queue *part = pair_part_of(q, i->mail);

	part->driver->reroute(part, i);
}

static void
pair_load(struct queue *mine, struct queue_load *l)
{
	struct queue *part = pair_part_of(mine, l->mail);

	part->driver->load(part, l);
}

static void
pair_drop_body(struct queue *q, struct queue_mail *m)
{
	struct queue *part = pair_part_of(q, m);

	part->driver->drop_body(part, m);
}

static uint64_t
pair_may_end_until_ms(struct queue *mine, const struct queue_mail *m)
{
	struct queue *part = pair_part_of(mine, m);

	return part->driver->may_end_until_ms(part, m);
}

static void
pair_attempt(struct queue *q, struct queue_attempt *a)
{
	struct queue *part = pair_part_of(q, a->item->mail);

	part->driver->attempt(part, a);
}

static struct shares *
pair_shares(struct queue *q)
{
	struct queue *shared = pair_end_of(q)->parts[QUEUE_IN_REDIS];

	return shared->driver->shares(shared);
}

/* While the shared store takes no mail. */
static bool
pair_counts_alone(struct queue *q)
{
	return pair_shared_takes(pair_end_of(q)) != ERR_OK;
}

const struct queue_driver pair_driver = {
	.name = "pair",
	.end = pair_end_number,
	.start = pair_start,
	.stop = pair_stop,
	.give_up = pair_give_up,
	.close = pair_close,
	.admit = pair_admit,
	.memory_is_tight = pair_memory_is_tight,
	.id_new = pair_id_new,
	.id_beside = pair_id_beside,
	.draft_new = pair_draft_new,
	.draft_new_beside = pair_draft_new_beside,
	.draft_append = pair_draft_append,
	.draft_is_full = pair_draft_is_full,
	.draft_on_room = pair_draft_on_room,
	.draft_size = pair_draft_size,
	.draft_abandon = pair_draft_abandon,
	.put = pair_put,
	.claim = pair_claim,
	.release = pair_release,
	.reroute = pair_reroute,
	.load = pair_load,
	.drop_body = pair_drop_body,
	.record = pair_record,
	.may_deliver = pair_may_deliver,
	.may_end_until_ms = pair_may_end_until_ms,
	.attempt = pair_attempt,
	.list = pair_list,
	.show = pair_show,
	.act = pair_act,
	.count = pair_count,
	.shares = pair_shares,
	.nodes = pair_nodes,
	.order = pair_order,
	.counts_alone = pair_counts_alone,
};
