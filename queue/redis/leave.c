/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails that leave this node: given back to Redis until they are due, or cancelled, because nobody
 * knows whether they were kept, or returned since they can not be read here.
 *
 * What is given back is gathered over a turn, one command a shard. Until it is answered the items
 * of the mail are out of everybody's reach; where it fails they wait here again.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum {
	LEAVE_MOST = 256,          /* mails of one command */
	CROWDED_MS = 10 * 1000,    /* so long a mail waits for its turn where others want in */
	AWAY_LEAST_MS = 15 * 1000, /* then it goes for so long, and up to as long again */
	AGAIN_MS = 1000,
	RETURN_MS = 60 * 1000, /* what could not be read is tried again */
};

struct leave {
	struct redis_call call;
	struct redis_end *end;
	unsigned shard;
	struct list mails; /* redis_mail.leave */
};

struct errand {
	struct list_node node; /* end->errands */
	struct redis_call call;
	struct redis_end *end;
	enum errand_kind kind;
	struct mail_id id;
	bool open;
	bool was_released; /* of HOLD: the second command is next */
};

/* ---- giving back ---- */

void
owned_stays(struct redis_end *e, struct redis_mail *m)
{
	m->leaving = false;
	for (struct redis_item *i = m->items; i != NULL; i = i->next) {
		if (i->turn.state == ITEM_LEAVING)
			owned_item_wait(e, i, i->turn.item.due_at_ms);
	}
}

static void
on_left(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct leave *l = CONTAINER_OF(c, struct leave, call);
	struct redis_end *e = l->end;
	struct list_node *node;

	(void)reply;
	e->calls_open--;
	while ((node = list_shift(&l->mails)) != NULL) {
		struct redis_mail *m = LIST_ITEM(node, struct redis_mail, leave);
		if (error == ERR_OK) {
			atomic_store(&e->store->leases[m->shard].changed, true);
			e->counters.released_mails++;
			owned_lose(e, m);
		} else {
			owned_stays(e, m);
		}
	}
	if (error != ERR_OK)
		end_try_again(e, AGAIN_MS);
	else
		drain_wakes(e, l->shard);
	free(l);
}

/* Of one shard, that of the first; false: not now. */
static bool
leave_send(struct redis_end *e)
{
	unsigned shard = LIST_ITEM(list_first(&e->leaves), struct redis_mail, leave)->shard;
	struct redis_link *link = redis_servers_link(e->servers, shard);
	struct leave *l = link == NULL || redis_link_is_full(link) ? NULL : calloc(1, sizeof *l);
	const size_t text = REDIS_LANE_MOST + REDIS_ID_SIZE + 48;
	struct list_node *next;
	unsigned count = 0;

	if (l == NULL ||
	    !args_begin(e, "rp_release", shard, 1 + 3 * LEAVE_MOST, LEAVE_MOST * text)) {
		free(l);
		return false;
	}
	*l = (struct leave){ .call = { .on_reply = on_left }, .end = e, .shard = shard };
	list_init(&l->mails);
	args_incarnation(e);
	for (struct list_node *n = list_first(&e->leaves); n != NULL && count < LEAVE_MOST;
	     n = next) {
		struct redis_mail *m = LIST_ITEM(n, struct redis_mail, leave);
		next = list_next(&e->leaves, n);
		if (m->shard != shard)
			continue;
		uint64_t now_ms = e->queue.worker->now_wall_ms;
		args_given(e, m);
		args_number(e, m->leave_at_ms > now_ms ? m->leave_at_ms - now_ms : 0);
		args_lane(e, m, m->leave_recipient);
		list_unlink(n);
		list_append(&l->mails, n);
		count++;
	}
	args_send(e, link, &l->call);
	return true;
}

void
leaves_run(struct task *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, leave_task);
	struct list_node *node;

	while (!list_is_empty(&e->leaves) && leave_send(e)) {
	}
	if (list_is_empty(&e->leaves))
		return;
	while ((node = list_shift(&e->leaves)) != NULL)
		owned_stays(e, LIST_ITEM(node, struct redis_mail, leave));
	end_try_again(e, AGAIN_MS);
}

void
owned_goes(struct redis_end *e, struct redis_mail *m, uint64_t delay_ms)
{
	uint64_t now_ms = e->queue.worker->now_wall_ms;
	uint64_t due_at_ms = owned_due_at_ms(m, &m->leave_recipient);

	ASSERT(m->busy == 0 && !m->leaving && due_at_ms != UINT64_MAX);
	m->leave_at_ms = due_at_ms < now_ms + delay_ms ? now_ms + delay_ms : due_at_ms;
	m->leaving = true;
	for (struct redis_item *i = m->items; i != NULL; i = i->next) {
		if (i->turn.state == ITEM_WAITING)
			owned_item_take(e, i, ITEM_LEAVING);
	}
}

void
owned_leave(struct redis_end *e, struct redis_mail *m, uint64_t delay_ms)
{
	owned_goes(e, m, delay_ms);
	list_append(&e->leaves, &m->leave);
	worker_last(e->queue.worker, &e->leave_task);
}

void
owned_may_leave(struct redis_end *e, struct redis_mail *m)
{
	uint64_t now_ms = e->queue.worker->now_wall_ms;
	uint32_t recipient;

	if (m->busy > 0 || m->leaving || m->items == NULL)
		return;
	if (e->stopping || e->drains || owned_due_at_ms(m, &recipient) > now_ms + REDIS_KEEP_MS)
		owned_leave(e, m, 0);
}

void
leaves_look(struct redis_end *e)
{
	uint64_t now_ms = e->queue.worker->now_ms;
	bool is_crowded = e->hungry && e->idle_count > REDIS_IDLE_MOST / 2;
	struct list_node *next;

	for (struct list_node *n = list_first(&e->idle); n != NULL; n = next) {
		struct redis_mail *m = LIST_ITEM(n, struct redis_mail, idle);
		next = list_next(&e->idle, n);
		if (m->leaving)
			continue;
		owned_may_leave(e, m);
		if (!m->leaving && is_crowded && now_ms - m->idle_since_ms > CROWDED_MS)
			owned_leave(e, m, AWAY_LEAST_MS + random_u64() % AWAY_LEAST_MS);
	}
}

void
redis_release(struct queue *q, struct queue_item *item, uint64_t due_at_ms)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_item *i = redis_item_of(item);
	struct redis_mail *m = redis_mail_of(item->mail);

	ASSERT(i->turn.state == ITEM_CLAIMED);
	if (i->turn.started) {
		start_close(e, i, due_at_ms);
		return;
	}
	owned_item_wait(e, i, due_at_ms);
	if (m->busy == 0)
		redis_drop_body(q, &m->mail);
	owned_may_leave(e, m);
}

/* ---- errands: what is said to Redis until it has answered ---- */

static void
errand_end(struct errand *k)
{
	k->end->errand_count--;
	list_unlink(&k->node);
	free(k);
}

static void
on_errand(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct errand *k = CONTAINER_OF(c, struct errand, call);
	struct redis_end *e = k->end;

	(void)reply;
	e->calls_open--;
	k->open = false;
	if (error != ERR_OK) {
		end_try_again(e, AGAIN_MS);
		return;
	}
	e->counters.cancels += k->kind == ERRAND_CANCEL;
	if (k->kind == ERRAND_HOLD && !k->was_released) {
		k->was_released = true;
		end_try_again(e, 0);
		return;
	}
	errand_end(k);
}

static bool
errand_args(struct redis_end *e, const struct errand *k, unsigned shard)
{
	const char *function = k->kind == ERRAND_CANCEL ? "rp_cancel"
			       : k->was_released        ? "rp_act"
							: "rp_release";

	if (!args_begin(e, function, shard, 4, 128))
		return false;
	if (!k->was_released)
		args_incarnation(e);
	args_id(e, k->id);
	if (k->was_released) {
		args_span(e, SPAN("hold"));
	} else if (k->kind != ERRAND_CANCEL) {
		args_number(e, RETURN_MS);
		args_span(e, SPAN("-"));
	}
	return true;
}

void
errands_resend(struct redis_end *e)
{
	for (struct list_node *n = list_first(&e->errands); n != NULL;
	     n = list_next(&e->errands, n)) {
		struct errand *k = LIST_ITEM(n, struct errand, node);
		unsigned shard = shard_of(e->store, k->id);
		struct redis_link *link = redis_servers_link(e->servers, shard);
		if (k->open || link == NULL || redis_link_is_full(link) ||
		    !errand_args(e, k, shard))
			continue;
		k->open = true;
		args_send(e, link, &k->call);
	}
}

void
errand_add(struct redis_end *e, enum errand_kind kind, struct mail_id id)
{
	struct errand *k = e->errand_count >= REDIS_ERRANDS_MOST ? NULL : calloc(1, sizeof *k);

	if (k == NULL) {
		e->counters.errands_given_up++;
		return;
	}
	*k = (struct errand){ .call = { .on_reply = on_errand }, .end = e, .kind = kind, .id = id };
	list_append(&e->errands, &k->node);
	e->errand_count++;
	end_try_again(e, 0);
}

void
errands_name(struct redis_end *e, void (*on_id)(void *context, struct mail_id id), void *context)
{
	for (struct list_node *n = list_first(&e->errands); n != NULL;
	     n = list_next(&e->errands, n))
		on_id(context, LIST_ITEM(n, struct errand, node)->id);
}

void
errands_give_up(struct redis_end *e)
{
	struct list_node *next;

	for (struct list_node *n = list_first(&e->errands); n != NULL; n = next) {
		struct errand *k = LIST_ITEM(n, struct errand, node);
		next = list_next(&e->errands, n);
		if (k->open)
			continue; /* its answer, or its link's end, is still to come */
		e->counters.errands_given_up++;
		errand_end(k);
	}
}
