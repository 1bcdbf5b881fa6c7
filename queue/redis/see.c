/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeing and acting. What this node owns is in memory; the rest is asked for. A worker answers for
 * the mails that it owns and for those of its shards that nobody of this node owns, so that all
 * workers of one node together answer for the whole cluster, once for each mail.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/redis/internal.h"

/* ---- numbers ---- */

void
redis_count(struct queue *q, struct queue_numbers *out)
{
	struct redis_end *e = redis_end_of(q);
	const struct list_node *first = list_first(&e->idle);

	*out = (struct queue_numbers){
		.mails = e->mail_count,
		.items = e->item_count,
		.items_waiting = e->item_count - e->claimed_count,
		.items_claimed = e->claimed_count,
		.bytes_live = e->budget.used_bytes,
		.memory_bytes = e->budget.used_bytes + e->turns.memory_bytes,
	};
	for (unsigned i = q->worker->number; i < e->store->redis.shards; i += q->worker->count) {
		const struct redis_shard *s = &e->shards[i];
		out->mails += s->waiting + s->held;
		out->items += s->waiting + s->held;
		out->items_waiting += s->waiting;
		out->items_held += s->held;
		out->recipients_failed += s->failed;
	}
	if (first != NULL)
		out->oldest_accepted_at_ms =
			LIST_ITEM(first, struct redis_mail, idle)->envelope.accepted_at_ms;
}

/* ---- one mail ---- */

struct show {
	struct redis_call call;
	struct redis_end *end;
	struct queue_show *show;
};

static void
show_ends(struct redis_end *e, struct queue_show *s, struct redis_mail *m, enum err error)
{
	(void)e;
	s->envelope = error == ERR_OK ? &m->envelope : NULL;
	s->on_done(s, error);
}

static void
show_done(struct redis_end *e, struct queue_request *r)
{
	struct queue_show *s = CONTAINER_OF(r, struct queue_show, request);
	struct redis_mail *m = owned_find(e, s->id);
	enum err error = r->error != ERR_OK ? r->error : m == NULL ? ERR_NOT_FOUND : ERR_OK;

	show_ends(e, s, m, error);
}

static const struct queue_request_kind show_kind = { show_done };

static void
on_shown(struct redis_call *call, enum err error, const struct redisReply *reply)
{
	struct show *w = CONTAINER_OF(call, struct show, call);
	struct redis_end *e = w->end;
	struct redis_mail *m = NULL;

	e->calls_open--;
	if (error == ERR_OK && (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0))
		error = ERR_NOT_FOUND;
	else if (error != ERR_OK)
		error = ERR_AWAY;
	else
		m = mail_read(e, w->show->id, reply, &error);
	if (m != NULL)
		w->show->is_held = mail_is_held(reply);
	show_ends(e, w->show, m, m != NULL ? ERR_OK : error);
	if (m != NULL)
		owned_free(e, m);
	free(w);
}

void
redis_show(struct queue *q, struct queue_show *s)
{
	struct redis_end *e = redis_end_of(q);
	unsigned shard = shard_of(e->store, s->id);
	enum err error = e->stopping ? ERR_SHUTTING_DOWN : ERR_OK;

	s->envelope = NULL;
	s->is_held = false;
	if (error != ERR_OK || owned_find(e, s->id) != NULL ||
	    shard % q->worker->count != q->worker->number) {
		finish_later(e, &s->request, &show_kind, error);
		return;
	}
	struct redis_link *link = redis_servers_link(e->servers, shard);
	struct show *w = link == NULL || redis_link_is_full(link) ? NULL : calloc(1, sizeof *w);
	if (w == NULL || !args_begin(e, NULL, 0, 2, REDIS_NAME_MOST)) {
		free(w);
		finish_later(e, &s->request, &show_kind, ERR_AWAY);
		return;
	}
	*w = (struct show){ .call = { .on_reply = on_shown }, .end = e, .show = s };
	args_span(e, SPAN("HGETALL"));
	args_mail_key(e, s->id, shard);
	args_send(e, link, &w->call);
}

/* ---- acts ---- */

struct act {
	struct redis_call release;
	struct redis_call call;
	struct redis_end *end;
	struct queue_act *act;
};

static void
act_done(struct redis_end *e, struct queue_request *r)
{
	struct queue_act *a = CONTAINER_OF(r, struct queue_act, request);

	(void)e;
	a->on_done(a, r->error);
}

const struct queue_request_kind act_kind = { act_done };

static void
on_act_released(struct redis_call *call, enum err error, const struct redisReply *reply)
{
	struct act *w = CONTAINER_OF(call, struct act, release);
	struct redis_mail *m = owned_find(w->end, w->act->id);

	(void)reply;
	w->end->calls_open--;
	if (m == NULL)
		return;
	/* In doubt it may be another's by now: it is not ours, and goes back if it still was; with
	 * outcomes that may be lost it is looked for and comes again (reconcile.c). */
	if (error == ERR_IN_DOUBT && !restate_may_miss(w->end, m))
		errand_add(w->end, ERRAND_RETURN, w->act->id);
	if (error == ERR_OK || error == ERR_IN_DOUBT)
		owned_lose(w->end, m);
	else
		owned_stays(w->end, m);
}

static void
on_acted(struct redis_call *call, enum err error, const struct redisReply *reply)
{
	struct act *w = CONTAINER_OF(call, struct act, call);
	struct queue_act *a = w->act;
	struct span word = redis_text(reply);

	w->end->calls_open--;
	atomic_store(&w->end->store->leases[shard_of(w->end->store, a->id)].changed, true);
	free(w);
	if (error != ERR_OK)
		error = error == ERR_IN_DOUBT ? ERR_IN_DOUBT : ERR_AWAY;
	else if (span_eq(word, SPAN("NONE")))
		error = ERR_NOT_FOUND;
	else if (!span_eq(word, SPAN("OK")))
		error = ERR_AGAIN; /* a node has it now */
	a->on_done(a, error);
}

/* Nothing of it is claimed: it is due at once. */
static void
requeue(struct redis_end *e, struct redis_mail *m)
{
	for (struct redis_item *i = m->items; i != NULL; i = i->next) {
		if (i->turn.state == ITEM_WAITING) {
			owned_item_take(e, i, ITEM_NEW);
			owned_item_wait(e, i, e->queue.worker->now_wall_ms);
		}
	}
}

static void
act_send(struct redis_end *e, struct queue_act *a, struct redis_mail *m, struct redis_link *link)
{
	unsigned shard = shard_of(e->store, a->id);
	struct act *w = calloc(1, sizeof *w);

	if (w == NULL || !args_begin(e, "rp_release", shard, 4, 1024)) {
		free(w);
		finish_later(e, &a->request, &act_kind, ERR_NO_MEMORY);
		return;
	}
	*w = (struct act){ .release = { .on_reply = on_act_released },
			   .call = { .on_reply = on_acted },
			   .end = e,
			   .act = a };
	/* The act finds it without an owner, since both commands take one way. */
	owned_goes(e, m, 0);
	args_incarnation(e);
	args_id(e, a->id);
	args_number(e, m->leave_at_ms - e->queue.worker->now_wall_ms);
	args_lane(e, m, m->leave_recipient);
	args_send(e, link, &w->release);
	if (!args_begin(e, "rp_act", shard, 2, 1024))
		ASSERT(false); /* no more than before */
	args_id(e, a->id);
	args_span(e, span_of_string(act_names[a->action]));
	args_send(e, link, &w->call);
}

void
redis_act(struct queue *q, struct queue_act *a)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_mail *m = owned_find(e, a->id);
	unsigned shard = shard_of(e->store, a->id);
	struct redis_link *link = redis_servers_link(e->servers, shard);
	enum err error = ERR_OK;

	a->is_told = false;
	if (e->stopping)
		error = ERR_SHUTTING_DOWN;
	else if (m == NULL && shard % q->worker->count != q->worker->number)
		error = ERR_NOT_FOUND;
	else if (m != NULL && (m->busy > 0 || m->leaving))
		error = ERR_AGAIN;
	else if (link == NULL || redis_link_is_full(link))
		error = ERR_AWAY;
	bool is_local = error == ERR_OK && m != NULL &&
			(a->action == QUEUE_REQUEUE || a->action == QUEUE_UNHOLD);
	if (is_local && a->action == QUEUE_REQUEUE)
		requeue(e, m);
	if (error != ERR_OK || is_local)
		finish_later(e, &a->request, &act_kind, error);
	else if (m != NULL)
		act_send(e, a, m, link);
	else
		ask_begin(e, a);
}
