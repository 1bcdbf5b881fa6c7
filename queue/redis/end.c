/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker's end of the store: its start, its stop, and what is looked at now and then.
 *
 * Stopping: what is under way is finished, what waits here is given back; the last end of the node
 * then gives back whatever else the incarnation still owns (rp_retire), so that others need not
 * wait for the lease to run out. What Redis does not answer within STOP_MS is given up: the lease
 * runs out, and others take it over.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"
#include "queue/redis/shares.h"

enum {
	UPKEEP_MS = 1000,
	STOP_MS = 5 * 1000,
	RETIRE_MOST = 1024,
	PROMPT_MS = 1000,
	SHARD_MS = 250,
};

/* ---- time ---- */

void
end_note_time(struct redis_end *e, int64_t redis_now_ms)
{
	/* An answer that has lain about says what the time was: while this process was stopped, or
	 * the server was slow. */
	bool is_old = clock_monotonic_ms() - e->came_ms > PROMPT_MS;
	if (is_old && atomic_load(&e->store->time_is_known))
		return;
	atomic_store(&e->store->offset_ms, (int64_t)e->queue.worker->now_wall_ms - redis_now_ms);
	atomic_store(&e->store->time_is_known, true);
}

uint64_t
to_redis_ms(const struct redis_end *e, uint64_t wall_ms)
{
	int64_t ms = (int64_t)wall_ms - atomic_load(&e->store->offset_ms);

	return ms < 0 ? 0 : (uint64_t)ms;
}

uint64_t
to_wall_ms(const struct redis_end *e, uint64_t redis_ms)
{
	int64_t ms = (int64_t)redis_ms + atomic_load(&e->store->offset_ms);

	return ms < 0 ? 0 : (uint64_t)ms;
}

/* ---- servers come and go ---- */

static void
try_again(struct redis_end *e)
{
	changes_resend(e);
	errands_resend(e);
}

void
end_try_again(struct redis_end *e, uint64_t after_ms)
{
	struct worker *w = e->queue.worker;
	uint64_t at_ms = w->now_ms + (after_ms == 0 || e->gives_up ? 1 : after_ms);

	if (e->closing)
		return;
	if (!timer_is_set(&e->again) || e->again_at_ms > at_ms) {
		e->again_at_ms = at_ms;
		timer_set(&w->timers, &e->again, at_ms);
	}
}

static void
on_again(struct timer *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, again);

	if (e->gives_up)
		changes_give_up(e);
	try_again(e);
}

/* Leases first, then outcomes: whoever has outlived a failure is still the owner. */
static void
on_up(struct redis_servers *s, void *context)
{
	struct redis_end *e = context;

	(void)s;
	if (!e->started)
		return;
	leases_renew(e);
	restate_look(e);
	nodes_write(e);
	try_again(e);
	fetch_up(e);
	reconcile_look(e);
	if (e->room_wanted && redis_admit_silently(e, REDIS_ANY_SHARD) == ERR_OK) {
		e->room_wanted = false;
		if (e->store->store.hooks.on_room != NULL)
			e->store->store.hooks.on_room(&e->queue);
	}
}

static void
on_down(struct redis_servers *s, void *context)
{
	(void)s;
	reconcile_suspect(context);
	restate_suspect(context);
}

static void
on_wake(struct redis_servers *s, void *context, unsigned shard)
{
	(void)s;
	fetch_wake(context, shard);
}

static void
on_word(struct redis_servers *s, void *context, struct span word)
{
	const struct span limit = SPAN("limit ");

	(void)s;
	if (word.size == 0 || span_starts_with(word, limit))
		shares_hear(context, span_after(word, word.size == 0 ? 0 : limit.size));
	else
		asks_hear(context, word);
}

static const struct redis_servers_events servers_events = { on_up, on_down, on_wake, on_word };

/* ---- stopping ---- */

static void
on_servers_closed(void *context)
{
	struct redis_end *e = context;

	/* What was under way when the connections were closed. */
	changes_give_up(e);
	errands_give_up(e);
	e->servers = NULL;
	e->started = false;
	if (e->on_stopped != NULL)
		e->on_stopped(&e->queue, e->stopped_context);
}

static void
end_close(struct redis_end *e)
{
	struct worker *w = e->queue.worker;

	timer_stop(&w->timers, &e->upkeep);
	timer_stop(&w->timers, &e->again);
	timer_stop(&w->timers, &e->lease_timer);
	fetch_stop(e);
	turns_stop(&e->turns);
	task_cancel(&e->finish_task);
	task_cancel(&e->leave_task);
	task_cancel(&e->wait_task);
	commits_run(&e->commit_task);
	task_cancel(&e->commit_task);
	task_cancel(&e->change_task); /* what it has is given up with what was not sent */
	e->closing = true;
	redis_servers_close(e->servers, on_servers_closed, e);
}

static bool
has_nothing_open(const struct redis_end *e)
{
	return e->calls_open == 0 && e->drafts_open == 0 && e->loads_open == 0 &&
	       list_is_empty(&e->finishing) && list_is_empty(&e->leaves) &&
	       list_is_empty(&e->changes) && list_is_empty(&e->unsent) && e->errand_count == 0 &&
	       list_is_empty(&e->askings) && list_is_empty(&e->servings);
}

static void on_retired(struct redis_call *c, enum err error, const struct redisReply *reply);

static void
on_forgotten(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_end *e = CONTAINER_OF(c, struct redis_end, retire);

	(void)error; /* then it is shown as one that died */
	(void)reply;
	e->calls_open--;
	end_close(e);
}

/* One shard after the other, each until nothing of it is ours. */
static void
retire_next(struct redis_end *e)
{
	struct redis_link *link = NULL;

	for (; e->retire_shard < e->store->redis.shards; e->retire_shard++) {
		link = redis_servers_link(e->servers, e->retire_shard);
		if (link != NULL)
			break;
	}
	if (link == NULL || !args_begin(e, "rp_retire", e->retire_shard, 2, 32)) {
		e->retire = (struct redis_call){ .on_reply = on_forgotten };
		if (!nodes_forget(e, &e->retire))
			end_close(e);
		return;
	}
	e->retire = (struct redis_call){ .on_reply = on_retired };
	args_incarnation(e);
	args_number(e, RETIRE_MOST);
	args_send(e, link, &e->retire);
}

static void
on_retired(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_end *e = CONTAINER_OF(c, struct redis_end, retire);
	int64_t left = 0;

	e->calls_open--;
	if (error != ERR_OK || !redis_number(reply, &left) || left == 0)
		e->retire_shard++;
	retire_next(e);
}

static void
try_to_stop(struct redis_end *e)
{
	struct worker *w = e->queue.worker;

	if (e->retiring || e->closing)
		return;
	if (w->now_ms >= e->stop_by_ms) {
		changes_give_up(e);
		errands_give_up(e);
	}
	leaves_look(e);
	nodes_stop(e);
	asks_give_up(e);
	if (!has_nothing_open(e) && w->now_ms < e->stop_by_ms)
		return;
	e->retiring = true;
	fetch_stop(e);
	if (atomic_fetch_sub(&e->store->ends_at_work, 1) == 1)
		retire_next(e);
	else
		end_close(e);
}

/* ---- upkeep ---- */

static void
on_upkeep(struct timer *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, upkeep);
	struct worker *w = e->queue.worker;
	const struct queue_hooks *hooks = &e->store->store.hooks;

	timer_set(&w->timers, t, w->now_ms + (e->stopping ? 5 : UPKEEP_MS));
	report_counters(e);
	if (e->stopping) {
		try_to_stop(e);
		return;
	}
	drain_look(e);
	leaves_look(e);
	fetch_count(e);
	restate_look(e);
	reconcile_look(e);
	if (e->room_wanted && redis_admit_silently(e, REDIS_ANY_SHARD) == ERR_OK) {
		e->room_wanted = false;
		if (hooks->on_room != NULL)
			hooks->on_room(&e->queue);
	}
}

static void
on_finish(struct task *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, finish_task);
	struct list now;
	struct list_node *node;

	list_init(&now);
	list_take_all(&now, &e->finishing);
	while ((node = list_shift(&now)) != NULL) {
		struct queue_request *r = LIST_ITEM(node, struct queue_request, node);
		r->kind->done(e, r);
	}
}

/* ---- life ---- */

static uint64_t
size_of(const struct queue_mail *m)
{
	return redis_mail_of(m)->envelope.body_size;
}

bool
redis_end_init(struct redis_end *e, struct redis_store *s, struct worker *w)
{
	unsigned count = s->store.worker_count;
	size_t mails;

	*e = (struct redis_end){ .store = s };
	OBJ_INIT(&e->queue, QUEUE_MAGIC);
	e->queue.driver = &redis_driver;
	e->queue.store = &s->store;
	e->queue.worker = w;
	w->queue = &e->queue;
	list_init(&e->idle);
	list_init(&e->leaves);
	list_init(&e->changes);
	list_init(&e->unsent);
	list_init(&e->errands);
	list_init(&e->finishing);
	list_init(&e->commits);
	list_init(&e->waits);
	list_init(&e->drafts_all);
	list_init(&e->askings);
	list_init(&e->servings);
	e->first_shard = (unsigned)(random_u64() % s->redis.shards);
	e->budget.most_bytes = s->options.body_memory / count;
	e->mails_most = s->options.items_max / count;
	mails = e->mails_most < REDIS_MAILS_MOST ? e->mails_most : REDIS_MAILS_MOST;
	pool_init(&e->mails, sizeof(struct redis_mail), 2 * mails + 16);
	pool_init(&e->items, sizeof(struct redis_item), TURNS_ITEMS_MOST);
	pool_init(&e->drafts, redis_draft_object_size(), REDIS_MAILS_MOST);
	task_init(&e->finish_task, on_finish);
	task_init(&e->leave_task, leaves_run);
	task_init(&e->commit_task, commits_run);
	task_init(&e->change_task, changes_run);
	task_init(&e->wait_task, redis_wait_run);
	timer_init(&e->upkeep, on_upkeep);
	timer_init(&e->again, on_again);
	return turns_init(&e->turns, &e->queue, s->hash_seed, size_of) && pieces_init(e) &&
	       leases_init(e) && nodes_init(e) && fetch_init(e) && pages_init(e) &&
	       reconcile_init(e) && shares_init(e);
}

void
redis_end_fini(struct redis_end *e)
{
	for (unsigned i = 0; i < 1 << REDIS_BUCKET_BITS; i++) {
		while (e->buckets[i] != NULL) {
			struct redis_mail *m = e->buckets[i];
			e->buckets[i] = m->next;
			owned_free(e, m);
		}
	}
	pages_fini(e);
	reconcile_fini(e);
	shares_fini(e);
	turns_fini(&e->turns);
	pieces_fini(e);
	free(e->lease_calls);
	free(e->nodes);
	free(e->shards);
	free(e->args.spans);
	free(e->args.text.data);
	pool_fini(&e->mails);
	pool_fini(&e->items);
	pool_fini(&e->drafts);
}

static void
redis_start(struct queue *q)
{
	struct redis_end *e = redis_end_of(q);
	struct worker *w = q->worker;

	ASSERT(!e->started);
	e->servers = redis_servers_new(w, &e->store->redis, true, &servers_events, e);
	ASSERT(e->servers != NULL); /* at the start of the process */
	e->started = true;
	turns_start(&e->turns);
	leases_renew(e);
	nodes_start(e);
	timer_set(&w->timers, &e->upkeep, w->now_ms + UPKEEP_MS);
}

static void
redis_stop(struct queue *q, void (*on_stopped)(struct queue *q, void *context), void *context)
{
	struct redis_end *e = redis_end_of(q);

	ASSERT(e->started && !e->stopping);
	e->stopping = true;
	e->stop_by_ms = q->worker->now_ms + STOP_MS;
	e->on_stopped = on_stopped;
	e->stopped_context = context;
	shares_stop(e);
	timer_set(&q->worker->timers, &e->upkeep, q->worker->now_ms + 1);
}

static void
redis_give_up(struct queue *q)
{
	struct redis_end *e = redis_end_of(q);

	e->gives_up = true;
	end_try_again(e, 0);
}

static bool
redis_may_deliver(struct queue *q)
{
	struct redis_end *e = redis_end_of(q);

	return e->servers != NULL && redis_servers_problem(e->servers).size == 0;
}

/* Three quarters: what is left serves the mails that come in. */
static bool
redis_memory_is_tight(struct queue *q)
{
	const struct body_budget *b = &redis_end_of(q)->budget;

	return b->used_bytes > b->most_bytes / 4 * 3;
}

static uint64_t
redis_may_end_until_ms(struct queue *q, const struct queue_mail *m)
{
	return lease_may_end_until_ms(redis_end_of(q)->store, redis_mail_of(m));
}

static struct mail_id
id_in_shard(const struct redis_store *s, uint64_t shard)
{
	uint64_t shards = s->redis.shards;
	struct mail_id id = { random_u64(), random_u64() };

	id.low = id.low / shards * shards + shard;
	if (id.low % shards != shard || id.low < shard) /* past the end */
		id.low = shard;
	return id;
}

/* All that come in within a moment lie in one shard, since those of one can share commands; the
 * next moment's in the next. Each worker begins somewhere, so all shards are in use. */
static struct mail_id
redis_id_new(struct queue *q)
{
	const struct redis_end *e = redis_end_of(q);
	uint64_t moment = q->worker->now_ms / SHARD_MS;

	return id_in_shard(e->store, (e->first_shard + moment) % e->store->redis.shards);
}

static struct mail_id
redis_id_beside(struct queue *q, struct mail_id of)
{
	const struct redis_store *s = redis_end_of(q)->store;

	return id_in_shard(s, shard_of(s, of));
}

static bool
redis_keeps(struct queue *q, struct mail_id id)
{
	return owned_find(redis_end_of(q), id) != NULL;
}

static bool
redis_names_site(struct queue *q, struct site_id site)
{
	return turns_find(&redis_end_of(q)->turns, site) != NULL;
}

static void
redis_tell_again(struct queue *q)
{
	turns_tell_again(&redis_end_of(q)->turns);
}

static enum err
redis_may_take(struct queue *q)
{
	return redis_admit_silently(redis_end_of(q), REDIS_ANY_SHARD);
}

static struct queue *
redis_end_number(struct queue_store *s, unsigned number)
{
	return &((struct redis_store *)(void *)s)->ends[number].queue;
}

const struct queue_driver redis_driver = {
	.name = "redis",
	.end = redis_end_number,
	.start = redis_start,
	.stop = redis_stop,
	.give_up = redis_give_up,
	.close = redis_close,
	.admit = redis_admit,
	.memory_is_tight = redis_memory_is_tight,
	.id_new = redis_id_new,
	.id_beside = redis_id_beside,
	.draft_new = redis_draft_new,
	.draft_append = redis_draft_append,
	.draft_is_full = redis_draft_is_full,
	.draft_on_room = redis_draft_on_room,
	.draft_size = redis_draft_size,
	.draft_abandon = redis_draft_abandon,
	.put = redis_put,
	.claim = redis_claim,
	.release = redis_release,
	.reroute = redis_reroute,
	.load = redis_load,
	.drop_body = redis_drop_body,
	.record = redis_record,
	.may_deliver = redis_may_deliver,
	.may_end_until_ms = redis_may_end_until_ms,
	.attempt = redis_attempt,
	.list = redis_list,
	.show = redis_show,
	.act = redis_act,
	.count = redis_count,
	.shares = redis_shares,
	.keeps = redis_keeps,
	.names_site = redis_names_site,
	.tell_again = redis_tell_again,
	.may_take = redis_may_take,
	.mover = &redis_mover,
	.draft_body = redis_draft_body,
	.nodes = redis_nodes,
	.order = redis_order,
};
