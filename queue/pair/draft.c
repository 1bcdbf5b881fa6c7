/* SPDX-License-Identifier: Apache-2.0
 *
 * Which part takes a mail, and the put.
 *
 * That is decided when the draft is made, and once more where the shared store refuses what it had
 * begun to take: all of the body is in memory then, and goes to the spool.
 */
#include "queue/pair/internal.h"

enum { DISTRUST_MS = 5000 };

struct pair_draft {
	struct queue_draft draft; /* first */
	struct pair_end *end;
	struct queue_draft *inner; /* of the part; NULL: it was put */
	struct mail_id id;
	uint64_t size_hint;
	uint8_t place;  /* enum queue_place: of inner */
	bool is_beside; /* the part is given */
	enum err why;   /* it is in the spool */
	/* put: */
	struct queue_put put; /* the part's */
	struct queue_put *outer;
	struct body *body; /* of one that was given to the shared store; else NULL */
};

size_t
pair_draft_size_of(void)
{
	return sizeof(struct pair_draft);
}

static struct pair_draft *
draft_of(const struct queue_draft *d)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	return (struct pair_draft *)(uintptr_t)d;
}

static bool
is_for_spool(enum err e)
{
	return e == ERR_AWAY || e == ERR_NO_ROOM;
}

/* ---- which ---- */

enum err
pair_shared_takes(struct pair_end *e)
{
	struct queue *shared = e->parts[QUEUE_IN_REDIS];

	if (e->distrust_until_ms > e->queue.worker->now_ms)
		return ERR_AWAY;
	return shared->driver->may_take(shared);
}

enum err
pair_admit(struct queue *q, uint64_t size)
{
	struct pair_end *e = pair_end_of(q);
	struct queue *spool = e->parts[QUEUE_IN_SPOOL];
	struct queue *shared = e->parts[QUEUE_IN_REDIS];
	enum err error = pair_shared_takes(e);

	if (!is_for_spool(error))
		return shared->driver->admit(shared, size);
	if (e->waits_until_ms > q->worker->now_ms)
		return ERR_AWAY;
	return spool->driver->admit(spool, size);
}

/* ---- the life of a draft ---- */

static struct queue_draft *
draft_new(struct pair_end *e, struct pair_draft with)
{
	struct pair_draft *d = pool_get(&e->drafts);
	struct queue *part = e->parts[with.place];

	if (d == NULL)
		return NULL;
	*d = with;
	d->end = e;
	d->inner = part->driver->draft_new(part, with.id, with.size_hint);
	if (d->inner == NULL) {
		pool_put(&e->drafts, d);
		return NULL;
	}
	OBJ_INIT(&d->draft, QUEUE_DRAFT_MAGIC);
	d->draft.driver = &pair_driver;
	return &d->draft;
}

struct queue_draft *
pair_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint)
{
	struct pair_end *e = pair_end_of(q);
	enum err why = pair_shared_takes(e);

	return draft_new(e, (struct pair_draft){
				    .id = id,
				    .size_hint = size_hint,
				    .place = is_for_spool(why) ? QUEUE_IN_SPOOL : QUEUE_IN_REDIS,
				    .why = why,
			    });
}

struct queue_draft *
pair_draft_new_beside(struct queue *q, const struct queue_mail *of, struct mail_id id,
		      uint64_t size_hint)
{
	return draft_new(pair_end_of(q), (struct pair_draft){
						 .id = id,
						 .size_hint = size_hint,
						 .place = of->place & 1U,
						 .is_beside = true,
					 });
}

static void
draft_free(struct pair_draft *d)
{
	OBJ_FINI(&d->draft, QUEUE_DRAFT_MAGIC);
	if (d->body != NULL)
		body_put(d->body);
	pool_put(&d->end->drafts, d);
}

/* Makes another draft, in the spool, with what the body has. Not for one that is a notice. */
static enum err
change_to_spool(struct pair_draft *d, const struct body *body, enum err why)
{
	struct queue *spool = d->end->parts[QUEUE_IN_SPOOL];
	struct queue_draft *other = spool->driver->draft_new(spool, d->id, d->size_hint);
	enum err error = other == NULL ? ERR_NO_MEMORY : ERR_OK;

	for (uint64_t at = 0; error == ERR_OK && at < body_size(body);) {
		struct span part = body_at(body, at);
		error = other->driver->draft_append(other, part);
		at += part.size;
	}
	if (error != ERR_OK) {
		if (other != NULL)
			other->driver->draft_abandon(other);
		return error;
	}
	d->inner = other;
	d->place = QUEUE_IN_SPOOL;
	d->why = why;
	return ERR_OK;
}

static bool
may_change(const struct pair_draft *d, enum err error)
{
	return d->place == QUEUE_IN_REDIS && !d->is_beside && is_for_spool(error) &&
	       !d->end->stopping;
}

enum err
pair_draft_append(struct queue_draft *draft, struct span bytes)
{
	struct pair_draft *d = draft_of(draft);
	struct queue_draft *before = d->inner;
	uint64_t size = before->driver->draft_size(before);
	enum err error = before->driver->draft_append(before, bytes);

	if (!may_change(d, error))
		return error;
	bool has_them = before->driver->draft_size(before) > size;
	enum err result = change_to_spool(d, before->driver->draft_body(before), error);
	if (result != ERR_OK)
		return error;
	before->driver->draft_abandon(before);
	return has_them ? ERR_OK : d->inner->driver->draft_append(d->inner, bytes);
}

bool
pair_draft_is_full(const struct queue_draft *draft)
{
	const struct pair_draft *d = draft_of(draft);

	return d->inner->driver->draft_is_full(d->inner);
}

void
pair_draft_on_room(struct queue_draft *draft, struct task *resume)
{
	struct pair_draft *d = draft_of(draft);

	d->inner->driver->draft_on_room(d->inner, resume);
}

uint64_t
pair_draft_size(const struct queue_draft *draft)
{
	const struct pair_draft *d = draft_of(draft);

	return d->inner->driver->draft_size(d->inner);
}

void
pair_draft_abandon(struct queue_draft *draft)
{
	struct pair_draft *d = draft_of(draft);

	d->inner->driver->draft_abandon(d->inner);
	draft_free(d);
}

/* ---- put ---- */

static void on_put(struct queue_put *p, enum err e);

static void
put_send(struct pair_draft *d)
{
	struct queue *part = d->end->parts[d->place];

	d->put = (struct queue_put){ .draft = d->inner,
				     .envelope = d->outer->envelope,
				     .on_done = on_put };
	d->inner = NULL;
	part->driver->put(part, &d->put);
}

static void
on_put(struct queue_put *p, enum err error)
{
	struct pair_draft *d = CONTAINER_OF(p, struct pair_draft, put);
	struct pair_end *e = d->end;
	struct queue_put *outer = d->outer;

	/* It was executed, and replicas did not follow: what comes next would fare no better. */
	if (d->place == QUEUE_IN_REDIS && error == ERR_STORAGE)
		e->distrust_until_ms = e->queue.worker->now_ms + DISTRUST_MS;
	if (may_change(d, error) && change_to_spool(d, d->body, error) == ERR_OK) {
		body_put(d->body);
		d->body = NULL;
		put_send(d);
		return;
	}
	if (error == ERR_OK) {
		list_take_all(&outer->items, &p->items);
		if (d->place == QUEUE_IN_SPOOL)
			pair_note_use(e, d->why);
	}
	draft_free(d);
	outer->on_done(outer, error);
}

void
pair_put(struct queue *q, struct queue_put *p)
{
	struct pair_draft *d = draft_of(p->draft);

	(void)q;
	list_init(&p->items);
	d->outer = p;
	if (d->place == QUEUE_IN_REDIS)
		d->body = body_get(d->inner->driver->draft_body(d->inner));
	put_send(d);
}

/* ---- outcomes with a notice ---- */

void
pair_record(struct queue *q, struct queue_record *r)
{
	struct queue *part = pair_part_of(q, r->item->mail);

	if (r->notice != NULL) {
		struct pair_draft *d = draft_of(r->notice->draft);
		ASSERT(d->place == r->item->mail->place);
		r->notice->draft = d->inner;
		draft_free(d);
	}
	part->driver->record(part, r);
}
