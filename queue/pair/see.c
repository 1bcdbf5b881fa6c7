/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeing and acting: rows of the spool, then those of the shared store; one mail where it is.
 *
 * A cursor below SHARED is the spool's, without its last two bits: rounded up it is past what was
 * shown, since no two mails share what is left. With SHARED it is the other's, which leaves that
 * bit to the pair.
 */
#include "queue/pair/internal.h"

#define SHARED ((uint64_t)1 << 62)

static bool
list_spool(struct queue *spool, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
	   bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	uint64_t at = *cursor << 2;
	bool more = spool->driver->list(spool, f, &at, slice_us, on_row, context);
	uint64_t up = at > UINT64_MAX - 3 ? at : at + 3;

	*cursor = up >> 2;
	return more;
}

/* The part that one mail is looked for in. */
static struct queue *
part_with(struct pair_end *e, struct mail_id id)
{
	struct queue *spool = e->parts[QUEUE_IN_SPOOL];

	return spool->driver->keeps(spool, id) ? spool : e->parts[QUEUE_IN_REDIS];
}

bool
pair_list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
	  bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	struct pair_end *e = pair_end_of(q);
	struct queue *spool = e->parts[QUEUE_IN_SPOOL];
	struct queue *shared = e->parts[QUEUE_IN_REDIS];

	if (f->by_id) {
		struct queue *part = part_with(e, f->id);
		if (part == shared && !shared->driver->may_deliver(shared))
			return false;
		return part->driver->list(part, f, cursor, slice_us, on_row, context);
	}
	if ((*cursor & SHARED) == 0) {
		if (!list_spool(spool, f, cursor, slice_us, on_row, context))
			*cursor = SHARED;
		return true;
	}
	uint64_t at = *cursor & ~SHARED;
	/* Rows that can not be asked for now would be waited for. */
	bool is_away = !shared->driver->may_deliver(shared);
	bool more = !is_away && shared->driver->list(shared, f, &at, slice_us, on_row, context);
	*cursor = at | SHARED;
	return more;
}

void
pair_show(struct queue *q, struct queue_show *s)
{
	struct queue *part = part_with(pair_end_of(q), s->id);

	part->driver->show(part, s);
}

void
pair_refuse(struct pair_end *e, struct queue_act *a, enum err error)
{
	a->request = (struct queue_request){ .error = error };
	list_append(&e->refused, &a->request.node);
	worker_soon(e->queue.worker, &e->finish_task);
}

void
pair_refuse_run(struct pair_end *e)
{
	struct list now;
	struct list_node *node;

	list_init(&now);
	list_take_all(&now, &e->refused);
	while ((node = list_shift(&now)) != NULL) {
		struct queue_act *a = LIST_ITEM(node, struct queue_act, request.node);
		a->on_done(a, a->request.error);
	}
}

void
pair_act(struct queue *q, struct queue_act *a)
{
	struct queue *part = part_with(pair_end_of(q), a->id);

	if (a->action == QUEUE_MOVE_TO_REDIS || a->action == QUEUE_MOVE_TO_SPOOL)
		pair_move(q, a);
	else
		part->driver->act(part, a);
}

void
pair_nodes(struct queue *q, struct queue_nodes *n)
{
	struct queue *shared = pair_end_of(q)->parts[QUEUE_IN_REDIS];

	shared->driver->nodes(shared, n);
}

void
pair_order(struct queue *q, struct queue_order *o)
{
	struct queue *shared = pair_end_of(q)->parts[QUEUE_IN_REDIS];

	shared->driver->order(shared, o);
}

void
pair_count(struct queue *q, struct queue_numbers *out)
{
	struct pair_end *e = pair_end_of(q);
	struct queue_numbers n[PAIR_PARTS];

	for (unsigned i = 0; i < PAIR_PARTS; i++)
		e->parts[i]->driver->count(e->parts[i], &n[i]);
	*out = n[0];
	out->mails_here += n[1].mails_here;
	out->mails += n[1].mails;
	out->items += n[1].items;
	out->items_waiting += n[1].items_waiting;
	out->items_claimed += n[1].items_claimed;
	out->items_held += n[1].items_held;
	out->recipients_failed += n[1].recipients_failed;
	if (n[1].oldest_accepted_at_ms != 0 &&
	    (out->oldest_accepted_at_ms == 0 ||
	     n[1].oldest_accepted_at_ms < out->oldest_accepted_at_ms))
		out->oldest_accepted_at_ms = n[1].oldest_accepted_at_ms;
	for (unsigned i = 0; i < QUEUE_AGES; i++)
		out->items_by_age[i] += n[1].items_by_age[i];
	for (unsigned i = 0; i < QUEUE_ATTEMPTS; i++)
		out->items_by_attempts[i] += n[1].items_by_attempts[i];
	out->bytes_live += n[1].bytes_live;
	out->bytes_on_disk += n[1].bytes_on_disk;
	out->memory_bytes += n[1].memory_bytes;
}
