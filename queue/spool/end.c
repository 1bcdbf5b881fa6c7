/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker's end of the spool: its start, its stop, and what must be looked at now and then.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/spool/internal.h"

enum {
	ZEROS = 256 * 1024,
	REPLIES_MOST = 64 * 1024 * 1024,
	REPLIES_LEAST = 1024 * 1024,
	IDLE_LOOKS = 10,
	IDLE_WALK_MS = 60 * 1000,
};

static void on_upkeep(struct timer *t);
static void on_finish(struct task *t);

static uint64_t
size_of(const struct queue_mail *m)
{
	return spool_mail_of(m)->body_size;
}

bool
end_init(struct spool_end *e, struct spool *spool, struct worker *w, uint64_t mails)
{
	unsigned count = spool->store.worker_count;
	size_t replies = REPLIES_MOST / count;

	*e = (struct spool_end){ .spool = spool };
	OBJ_INIT(&e->queue, QUEUE_MAGIC);
	e->queue.driver = &spool_driver;
	e->queue.store = &spool->store;
	e->queue.worker = w;
	w->queue = &e->queue;
	list_init(&e->segments);
	list_init(&e->dropped);
	list_init(&e->claims);
	list_init(&e->shows);
	list_init(&e->moves);
	list_init(&e->fetching);
	list_init(&e->finishing);
	list_init(&e->directory_waiting);
	list_init(&e->directory_syncing);
	e->budget.most_bytes = spool->options.body_memory / count;
	e->reply_bytes_most = replies < REPLIES_LEAST ? REPLIES_LEAST : replies;
	e->oldest_walk_ms = UINT64_MAX;
	pool_init(&e->drafts, spool_draft_object_size(), SPOOL_DRAFTS_MOST);
	pool_init(&e->small, sizeof(struct spool_small), SPOOL_SMALL_MOST);
	task_init(&e->claim_task, spool_claim_run);
	task_init(&e->finish_task, on_finish);
	timer_init(&e->upkeep, on_upkeep);
	compaction_init(e);
	return turns_init(&e->turns, &e->queue, spool->hash_seed, size_of) &&
	       index_init(e, mails) && log_init(e) && spool_scratch(e, 64);
}

void
end_fini(struct spool_end *e)
{
	struct list_node *node;

	e->started = false;
	turns_stop(&e->turns);
	index_fini(e);
	turns_fini(&e->turns);
	log_fini(e);
	pool_fini(&e->drafts);
	pool_fini(&e->small);
	free(e->lines);
	free(e->starts);
	free(e->zeros);
	while ((node = list_shift(&e->segments)) != NULL)
		free(LIST_ITEM(node, struct spool_segment, node));
	while ((node = list_shift(&e->dropped)) != NULL)
		free(LIST_ITEM(node, struct spool_segment, node));
}

static void
on_finish(struct task *t)
{
	struct spool_end *e = CONTAINER_OF(t, struct spool_end, finish_task);
	struct list now;
	struct list_node *node;

	list_init(&now);
	list_take_all(&now, &e->finishing);
	while ((node = list_shift(&now)) != NULL) {
		struct queue_request *r = LIST_ITEM(node, struct queue_request, node);
		r->kind->done(e, r);
	}
}

/* ---- upkeep ---- */

static void
look_at_segments(struct spool_end *e)
{
	struct list_node *next;

	for (struct list_node *n = list_first(&e->segments); n != NULL; n = next) {
		next = list_next(&e->segments, n);
		segment_try_free(LIST_ITEM(n, struct spool_segment, node));
	}
	uint64_t commits = atomic_load_explicit(&e->spool->commits, memory_order_relaxed);
	e->is_quiet = commits == e->quiet_from;
	e->quiet_from = commits;
}

static bool
has_nothing_open(struct spool_end *e)
{
	return list_is_empty(&e->claims) && list_is_empty(&e->shows) &&
	       list_is_empty(&e->fetching) && list_is_empty(&e->finishing) && e->loads == 0 &&
	       e->file_ops == 0 && compaction_is_idle(e) && !e->directory_op.in_kernel &&
	       e->drafts_open == 0;
}

static void
try_to_stop(struct spool_end *e)
{
	if (!has_nothing_open(e) || !log_finish(e) || !segments_are_idle(e))
		return;
	timer_stop(&e->queue.worker->timers, &e->upkeep);
	task_cancel(&e->log.commit);
	task_cancel(&e->log.tell);
	task_cancel(&e->claim_task);
	task_cancel(&e->finish_task);
	task_cancel(&e->compaction.task);
	e->started = false;
	if (e->on_stopped != NULL)
		e->on_stopped(&e->queue, e->stopped_context);
}

/* Did nobody ask for anything, is nothing under way, and does nothing wait for another try? */
static bool
is_idle(const struct spool_end *e)
{
	return e->is_quiet && log_is_idle(e) && compaction_is_idle(e) && list_is_empty(&e->shows) &&
	       !e->creating && !e->create_failed && !e->room_wanted && !e->filling &&
	       segments_are_filled(e);
}

/* Where nothing happens a processor may sleep: with many workers ten looks a second of each are a
 * load of their own. */
static uint64_t
upkeep_pause_ms(struct spool_end *e)
{
	if (e->stopping)
		return 1;
	e->idle_looks = is_idle(e) ? e->idle_looks + 1 : 0;
	bool rests = e->idle_looks >= IDLE_LOOKS && e->oldest_at == 0;
	return rests ? SPOOL_UPKEEP_REST_MS : SPOOL_UPKEEP_MS;
}

/* While nothing comes and goes only the ages change. */
static void
walk_oldest(struct spool_end *e)
{
	uint64_t now_ms = e->queue.worker->now_ms;

	if (e->oldest_at == 0 && e->idle_looks >= IDLE_LOOKS && now_ms < e->walk_at_ms)
		return;
	if (e->oldest_at == 0)
		e->walk_at_ms = now_ms + IDLE_WALK_MS;
	index_walk_oldest(e);
}

void
end_wake_upkeep(struct spool_end *e)
{
	struct worker *w = e->queue.worker;

	if (e->idle_looks >= IDLE_LOOKS && timer_is_set(&e->upkeep))
		timer_set(&w->timers, &e->upkeep, w->now_ms + SPOOL_UPKEEP_MS);
	e->idle_looks = 0;
}

static void
on_upkeep(struct timer *t)
{
	struct spool_end *e = CONTAINER_OF(t, struct spool_end, upkeep);
	struct worker *w = e->queue.worker;
	const struct queue_hooks *hooks = &e->spool->store.hooks;

	timer_set(&w->timers, t, w->now_ms + upkeep_pause_ms(e));
	spool_report(e);
	if (e->stopping) {
		if (!list_is_empty(&e->shows))
			worker_soon(w, &e->claim_task);
		try_to_stop(e);
		return;
	}
	if (e->spares + 1 < SPOOL_SPARES || w->now_ms >= e->replenish_at_ms)
		segment_make(e);
	look_at_segments(e);
	walk_oldest(e);
	if (!list_is_empty(&e->shows)) /* of a mail that was being moved */
		worker_soon(w, &e->claim_task);
	compaction_kick(e);
	log_kick(e);
	if (e->room_wanted && spool_admit_silently(e, 0) == ERR_OK) {
		e->room_wanted = false;
		if (hooks->on_room != NULL)
			hooks->on_room(&e->queue);
	}
}

static void
spool_start(struct queue *q)
{
	struct spool_end *e = spool_end_of(q);

	ASSERT(!e->started);
	e->started = true;
	e->zeros = aligned_alloc(SPOOL_BLOCK, ZEROS);
	if (e->zeros != NULL)
		memset(e->zeros, 0, ZEROS);
	timer_set(&q->worker->timers, &e->upkeep, q->worker->now_ms + 1);
	segment_make(e);
	turns_start(&e->turns);
}

static void
spool_stop(struct queue *q, void (*on_stopped)(struct queue *q, void *context), void *context)
{
	struct spool_end *e = spool_end_of(q);

	ASSERT(e->started && !e->stopping);
	e->stopping = true;
	turns_stop(&e->turns);
	e->on_stopped = on_stopped;
	e->stopped_context = context;
	timer_set(&q->worker->timers, &e->upkeep, q->worker->now_ms + 1);
}

/* ---- numbers ---- */

static bool
spool_may_deliver(struct queue *q)
{
	return log_has_room(spool_end_of(q), SPOOL_BLOCK, RESERVE_NONE);
}

/* Three quarters: what is left serves the mails that come in. */
static bool
spool_memory_is_tight(struct queue *q)
{
	const struct body_budget *b = &spool_end_of(q)->budget;

	return b->used_bytes > b->most_bytes / 4 * 3;
}

static uint64_t
spool_may_end_until_ms(struct queue *mine, const struct queue_mail *m)
{
	(void)mine;
	(void)m;
	return UINT64_MAX; /* the directory is locked for as long as the process lives */
}

static struct mail_id
spool_id_new(struct queue *q)
{
	(void)q;
	return (struct mail_id){ random_u64(), random_u64() };
}

static struct mail_id
spool_id_beside(struct queue *q, struct mail_id of)
{
	(void)of; /* one log has them all */
	return spool_id_new(q);
}

static bool
spool_keeps(struct queue *q, struct mail_id id)
{
	return index_find(spool_end_of(q), id) != NULL;
}

static bool
spool_names_site(struct queue *q, struct site_id site)
{
	return turns_find(&spool_end_of(q)->turns, site) != NULL;
}

static void
spool_tell_again(struct queue *q)
{
	turns_tell_again(&spool_end_of(q)->turns);
}

static enum err
spool_may_take(struct queue *q)
{
	return spool_admit_silently(spool_end_of(q), 0);
}

static uint64_t
memory_of(const struct pool *p)
{
	return (uint64_t)p->count * p->object_size;
}

static void
spool_count(struct queue *q, struct queue_numbers *out)
{
	struct spool_end *e = spool_end_of(q);
	int_fast64_t left = atomic_load(&e->spool->bytes_left);
	uint64_t buckets = (uint64_t)(e->new_buckets == NULL ? 1 : 3) << e->bucket_bits;

	*out = (struct queue_numbers){
		.mails = e->mail_count,
		.mails_here = e->mail_count,
		.items = e->turns.item_count,
		.items_waiting = e->waiting,
		.items_claimed = e->claimed,
		.items_held = e->held,
		.recipients_failed = e->failed_recipients,
		.oldest_accepted_at_ms = e->mail_count == 0 ? 0 : e->oldest_ms,
		.bytes_live = e->bytes_live,
		.bytes_on_disk = e->segment_bytes,
		.bytes_free = left < 0 ? 0 : (uint64_t)left,
		.memory_bytes = e->memory_bytes + e->turns.memory_bytes + e->reply_bytes +
				e->budget.used_bytes + memory_of(&e->mails) + memory_of(&e->items) +
				buckets * sizeof(struct spool_mail *),
	};
	memcpy(out->items_by_age, e->classes.ages, sizeof out->items_by_age);
	memcpy(out->items_by_attempts, e->classes.attempts, sizeof out->items_by_attempts);
}

const struct spool_counters *
spool_counters(struct queue *q)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_counters *c = &e->counters;

	c->segments_spare = e->spares;
	c->segments_sealed = c->segments_failed = 0;
	for (struct list_node *n = list_first(&e->segments); n != NULL;
	     n = list_next(&e->segments, n)) {
		const struct spool_segment *s = LIST_ITEM(n, struct spool_segment, node);
		c->segments_sealed += s->state == SEGMENT_SEALED;
		c->segments_failed += s->state == SEGMENT_FAILED;
	}
	c->bytes_live = e->bytes_live;
	return c;
}

static struct queue *
spool_end(struct queue_store *s, unsigned number)
{
	return &((struct spool *)(void *)s)->ends[number].queue;
}

const struct queue_driver spool_driver = {
	.name = "spool",
	.end = spool_end,
	.start = spool_start,
	.stop = spool_stop,
	.close = spool_close,
	.admit = spool_admit,
	.memory_is_tight = spool_memory_is_tight,
	.id_new = spool_id_new,
	.id_beside = spool_id_beside,
	.draft_new = spool_draft_new,
	.draft_append = spool_draft_append,
	.draft_is_full = spool_draft_is_full,
	.draft_on_room = spool_draft_on_room,
	.draft_size = spool_draft_size,
	.draft_abandon = spool_draft_abandon,
	.put = spool_put,
	.claim = spool_claim,
	.release = spool_release,
	.reroute = spool_reroute,
	.load = spool_load,
	.drop_body = spool_drop_body,
	.record = spool_record,
	.may_deliver = spool_may_deliver,
	.may_end_until_ms = spool_may_end_until_ms,
	.attempt = spool_attempt,
	.list = spool_list,
	.show = spool_show,
	.act = spool_act,
	.count = spool_count,
	.keeps = spool_keeps,
	.names_site = spool_names_site,
	.tell_again = spool_tell_again,
	.may_take = spool_may_take,
	.mover = &spool_mover,
};
