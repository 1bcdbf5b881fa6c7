/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies on their way in, and the put.
 *
 * A body is sent in pieces as it arrives, each with an expiry, so that what nobody commits goes by
 * itself. The put sends the rest and, at the end of the turn, the commit, which makes the pieces
 * permanent and the mail ours, or finds one missing; the mails of a turn share it. So a small mail
 * is one command and its part of another, and one round trip. The body stays in memory, too, for
 * the delivery that follows.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum {
	UNANSWERED_MOST = 4 * REDIS_PIECE, /* then the draft is full */
	WAIT_MS = 1000,                    /* for the replicas */
	COMMIT_MOST = 16,  /* mails of one command: Redis serves nobody else in it */
	COMMIT_TEXT = 128, /* of the texts of a mail but its envelope */
	COMMIT_TEXT_MOST = 64 * 1024,
};

struct redis_piece {
	struct redis_call call;
	struct redis_draft *draft;
	struct body *body;
	uint64_t size;
};

struct redis_draft {
	struct queue_draft draft; /* first */
	struct list_node all;     /* end->drafts_all */
	struct redis_end *end;
	struct mail_id id;
	unsigned shard;
	struct body *body;
	uint64_t sent;       /* bytes that are in pieces */
	uint64_t unanswered; /* bytes of pieces under way */
	unsigned calls;      /* under way */
	bool abandoned;
	enum err error;
	struct task *resume;
	/* put: */
	struct queue_put *put;
	struct redis_mail *mail;
	struct list_node node; /* end->commits, a commit's, end->waits, those of a WAIT */
	uint64_t commit_sent_ms;
	struct redis_link *link; /* that the commit went to, */
	uint64_t link_since_ms;  /* and which session of it */
	bool may_be_kept;        /* the commit was executed, or nobody knows */
	bool is_notice;
	bool replicated; /* or it was tried in vain: error */
};

/* The mails of one turn and one shard, which become ours by one command. */
struct redis_commit {
	struct redis_call call;
	struct redis_end *end;
	struct list drafts;
};

/* One WAIT and the puts that it is about. */
struct redis_wait {
	struct redis_call call;
	struct redis_end *end;
	struct list drafts;
};

static void go_on(struct redis_draft *d);

size_t
redis_draft_object_size(void)
{
	return sizeof(struct redis_draft);
}

static struct redis_draft *
draft_of(const struct queue_draft *d)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	return (struct redis_draft *)(uintptr_t)d;
}

/* ---- pieces ---- */

static void
on_piece(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_piece *p = CONTAINER_OF(c, struct redis_piece, call);
	struct redis_draft *d = p->draft;

	(void)reply;
	d->end->calls_open--;
	if (error != ERR_OK)
		d->error = error == ERR_NO_ROOM ? ERR_NO_ROOM : ERR_AWAY;
	d->unanswered -= p->size;
	d->calls--;
	body_put(p->body);
	free(p);
	go_on(d);
}

static enum err
piece_send(struct redis_draft *d, uint64_t size)
{
	struct redis_end *e = d->end;
	struct redis_link *link = redis_servers_link(e->servers, d->shard);
	struct redis_piece *p = link == NULL ? NULL : calloc(1, sizeof *p);

	if (link == NULL || redis_link_is_full(link)) {
		free(p);
		return ERR_AWAY;
	}
	if (p == NULL || !args_begin(e, NULL, 0, 4, 2 * REDIS_NAME_MOST)) {
		free(p);
		return ERR_NO_MEMORY;
	}
	*p = (struct redis_piece){ .call = { .on_reply = on_piece },
				   .draft = d,
				   .body = body_get(d->body),
				   .size = size };
	struct span packed = piece_compress(e, d->body, d->sent, size);
	args_span(e, SPAN("SETEX"));
	args_piece_key(e, d->id, d->shard, (uint32_t)(d->sent / REDIS_PIECE));
	args_number(e, REDIS_BODY_TTL_S);
	e->counters.body_bytes += size;
	e->counters.stored_bytes += packed.size == 0 ? size : packed.size;
	if (packed.size > 0) {
		args_span(e, packed);
		args_send(e, link, &p->call);
	} else {
		e->calls_open++;
		redis_send_body(link, &p->call, e->args.spans, e->args.count, SPAN("0"), d->body,
				d->sent, size);
	}
	d->sent += size;
	d->unanswered += size;
	d->calls++;
	return ERR_OK;
}

/* Those that are full; at the end what is left. */
static enum err
pieces_send(struct redis_draft *d, bool is_end)
{
	uint64_t size = d->body == NULL ? 0 : body_size(d->body);
	enum err error = ERR_OK;

	while (error == ERR_OK && size - d->sent >= REDIS_PIECE)
		error = piece_send(d, REDIS_PIECE);
	if (error == ERR_OK && is_end && size > d->sent)
		error = piece_send(d, size - d->sent);
	return error;
}

/* ---- the life of a draft ---- */

static void
draft_free(struct redis_draft *d)
{
	struct redis_end *e = d->end;

	ASSERT(d->calls == 0 && !list_is_linked(&d->node));
	if (d->body != NULL)
		body_put(d->body);
	if (d->mail != NULL)
		owned_free(e, d->mail);
	OBJ_FINI(&d->draft, QUEUE_DRAFT_MAGIC);
	list_unlink(&d->all);
	e->drafts_open--;
	pool_put(&e->drafts, d);
}

struct queue_draft *
redis_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_draft *d = e->stopping ? NULL : pool_get(&e->drafts);

	if (d == NULL)
		return NULL;
	*d = (struct redis_draft){ .end = e, .id = id, .shard = shard_of(e->store, id) };
	d->body = body_new(&e->budget, size_hint);
	if (d->body == NULL) {
		pool_put(&e->drafts, d);
		e->counters.no_memory++;
		return NULL;
	}
	OBJ_INIT(&d->draft, QUEUE_DRAFT_MAGIC);
	d->draft.driver = &redis_driver;
	list_append(&e->drafts_all, &d->all);
	e->drafts_open++;
	return &d->draft;
}

void
drafts_name(struct redis_end *e, void (*on_id)(void *context, struct mail_id id), void *context)
{
	for (struct list_node *n = list_first(&e->drafts_all); n != NULL;
	     n = list_next(&e->drafts_all, n))
		on_id(context, LIST_ITEM(n, struct redis_draft, all)->id);
}

enum err
redis_draft_append(struct queue_draft *draft, struct span bytes)
{
	struct redis_draft *d = draft_of(draft);

	if (d->error == ERR_OK)
		d->error = body_append(d->body, bytes);
	if (d->error == ERR_OK)
		d->error = pieces_send(d, false);
	d->end->counters.no_memory += d->error == ERR_NO_MEMORY;
	return d->error;
}

bool
redis_draft_is_full(const struct queue_draft *draft)
{
	return draft_of(draft)->unanswered >= UNANSWERED_MOST;
}

void
redis_draft_on_room(struct queue_draft *draft, struct task *resume)
{
	struct redis_draft *d = draft_of(draft);

	if (redis_draft_is_full(draft))
		d->resume = resume;
	else
		worker_soon(d->end->queue.worker, resume);
}

uint64_t
redis_draft_size(const struct queue_draft *draft)
{
	return body_size(draft_of(draft)->body);
}

struct body *
redis_draft_body(const struct queue_draft *draft)
{
	return draft_of(draft)->body;
}

void
redis_draft_abandon(struct queue_draft *draft)
{
	struct redis_draft *d = draft_of(draft);

	d->resume = NULL;
	d->abandoned = true;
	go_on(d);
}

/* ---- put ---- */

enum err
redis_admit_silently(struct redis_end *e, unsigned shard)
{
	if (e->stopping)
		return ERR_SHUTTING_DOWN;
	if (atomic_load(&e->store->drains))
		return ERR_DRAINING;
	if (e->mail_count + e->drafts_open >= e->mails_most)
		return ERR_TOO_MANY;
	if (e->full_until_ms > e->queue.worker->now_ms)
		return ERR_NO_ROOM;
	if (!atomic_load(&e->store->time_is_known))
		return ERR_AWAY;
	if (shard == REDIS_ANY_SHARD) {
		struct span problem = redis_servers_problem(e->servers);
		return problem.size > 0 ? ERR_AWAY : ERR_OK;
	}
	return redis_servers_link(e->servers, shard) == NULL ? ERR_AWAY : ERR_OK;
}

enum err
redis_admit(struct queue *q, uint64_t size)
{
	struct redis_end *e = redis_end_of(q);
	enum err error = redis_admit_silently(e, REDIS_ANY_SHARD);
	uint64_t free_bytes = e->budget.most_bytes - e->budget.used_bytes;

	if (error == ERR_OK && (e->budget.used_bytes >= e->budget.most_bytes || size > free_bytes))
		error = ERR_NO_MEMORY;
	e->counters.away += error == ERR_AWAY;
	e->counters.no_room += error == ERR_NO_ROOM;
	e->counters.no_memory += error == ERR_NO_MEMORY;
	e->counters.too_many += error == ERR_TOO_MANY;
	e->room_wanted |= error != ERR_OK;
	return error;
}

static enum err
make_mail(struct redis_draft *d, const struct mail_envelope *envelope)
{
	struct redis_end *e = d->end;
	struct mail_envelope whole = *envelope;

	ASSERT(mail_id_eq(envelope->id, d->id));
	whole.body_size = body_size(d->body);
	d->mail = owned_new(e, &whole);
	if (d->mail == NULL || !owned_make_items(e, d->mail))
		return ERR_NO_MEMORY;
	d->mail->pieces = pieces_of(whole.body_size);
	return ERR_OK;
}

/* Its items belong to whoever put it. */
static void
mail_is_kept(struct redis_draft *d, struct queue_put *p)
{
	struct redis_end *e = d->end;
	struct redis_mail *m = d->mail;
	bool filled = true;

	d->mail = NULL;
	m->mail.body = d->body;
	d->body = NULL;
	owned_add(e, m);
	for (struct redis_item *i = m->items; i != NULL; i = i->next) {
		owned_item_busy(e, i, ITEM_CLAIMED);
		i->turn.item.link = (struct list_node){ 0 };
		filled = filled && owned_item_fill_recipients(i);
		if (filled)
			list_append(&p->items, &i->turn.item.link);
		else
			owned_item_wait(
				e, i, e->queue.worker->now_wall_ms); /* no memory: claimed later */
	}
	e->counters.commits++;
}

static void
put_ends(struct redis_draft *d)
{
	struct queue_put *p = d->put;
	struct redis_end *e = d->end;
	enum err error = d->error;

	/* What stands in Redis is refused for certain only when it is cancelled. */
	if (error != ERR_OK && d->may_be_kept)
		error = ERR_IN_DOUBT;
	if (error == ERR_OK) {
		e->came_until_ms = lease_note_change(e->store, d->shard, d->commit_sent_ms);
		mail_is_kept(d, p);
	} else if (d->may_be_kept) {
		e->counters.in_doubt += error == ERR_IN_DOUBT;
		errand_add(e, ERRAND_CANCEL, d->id);
	}
	if (error == ERR_NO_ROOM)
		e->full_until_ms = e->queue.worker->now_ms + REDIS_FULL_MS;
	draft_free(d);
	p->on_done(p, error);
}

/* An answer has come. */
static void
go_on(struct redis_draft *d)
{
	struct worker *w = d->end->queue.worker;

	if (d->abandoned && d->calls == 0) {
		draft_free(d);
		return;
	}
	if (d->abandoned)
		return;
	if (d->resume != NULL && d->unanswered < UNANSWERED_MOST) {
		worker_soon(w, d->resume);
		d->resume = NULL;
	}
	if (d->put == NULL || d->calls > 0 || d->is_notice)
		return;
	if (d->error == ERR_OK && d->end->store->redis.durability == REDIS_REPLICA &&
	    !d->replicated)
		return; /* in end->waits */
	put_ends(d);
}

static enum err
error_of_commit(enum err error, const struct redisReply *reply)
{
	struct span text = redis_text(reply);

	if (error == ERR_AGAIN)
		return ERR_AWAY;
	if (error == ERR_PROTOCOL)
		return ERR_STORAGE;
	if (error != ERR_OK || span_eq(text, SPAN("OK")))
		return error;
	return ERR_STORAGE; /* GONE, NOBODY, LOST: it is not ours */
}

static void
commit_answered(struct redis_draft *d, enum err error, const struct redisReply *verdict)
{
	struct redis_end *e = d->end;

	d->calls--;
	enum err result = error_of_commit(error, verdict);
	d->may_be_kept = error == ERR_IN_DOUBT || error == ERR_PROTOCOL || result == ERR_OK;
	if (d->error == ERR_OK || result == ERR_IN_DOUBT)
		d->error = result;
	if (d->error == ERR_OK && e->store->redis.durability == REDIS_REPLICA) {
		list_append(&e->waits, &d->node);
		worker_last(e->queue.worker, &e->wait_task);
	}
	go_on(d);
}

static void
on_commit(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_commit *commit = CONTAINER_OF(c, struct redis_commit, call);
	struct list_node *node;

	commit->end->calls_open--;
	for (size_t i = 0; (node = list_shift(&commit->drafts)) != NULL; i++)
		commit_answered(LIST_ITEM(node, struct redis_draft, node), error,
				redis_at(reply, i));
	free(commit);
}

static void
draft_refuse(struct redis_draft *d, enum err error)
{
	d->calls--;
	if (d->error == ERR_OK)
		d->error = error;
	go_on(d);
}

static void
commit_refuse(struct redis_commit *commit, enum err error)
{
	struct list_node *node;

	while ((node = list_shift(&commit->drafts)) != NULL)
		draft_refuse(LIST_ITEM(node, struct redis_draft, node), error);
	free(commit);
}

/* From those that wait to be committed: the first, and more of its shard. NULL: no memory. */
static struct redis_commit *
commit_gather(struct redis_end *e, unsigned *count, size_t *text)
{
	struct redis_commit *commit = calloc(1, sizeof *commit);
	const struct redis_draft *first =
		LIST_ITEM(list_first(&e->commits), struct redis_draft, node);
	unsigned shard = first->shard;
	struct list_node *next;

	if (commit == NULL)
		return NULL;
	*commit = (struct redis_commit){ .call = { .on_reply = on_commit }, .end = e };
	list_init(&commit->drafts);
	*count = 0;
	*text = COMMIT_TEXT;
	for (struct list_node *n = list_first(&e->commits); n != NULL; n = next) {
		struct redis_draft *d = LIST_ITEM(n, struct redis_draft, node);
		next = list_next(&e->commits, n);
		if (d->shard != shard)
			continue;
		list_unlink(n);
		list_append(&commit->drafts, n);
		*text += COMMIT_TEXT + pack_envelope_size(&d->mail->envelope);
		if (++*count == COMMIT_MOST || *text > COMMIT_TEXT_MOST)
			break;
	}
	return commit;
}

static bool
commit_args(struct redis_end *e, struct redis_draft *d)
{
	const struct mail_envelope *envelope = &d->mail->envelope;

	args_id(e, d->id);
	args_number(e, d->mail->pieces);
	args_number(e, envelope->recipient_count);
	return args_envelope(e, envelope);
}

static void
commit_send(struct redis_end *e, struct redis_commit *commit, unsigned count, size_t text)
{
	unsigned shard = LIST_ITEM(list_first(&commit->drafts), struct redis_draft, node)->shard;
	struct redis_link *link = redis_servers_link(e->servers, shard);
	uint64_t now_ms = clock_monotonic_ms();

	if (link == NULL || redis_link_is_full(link)) {
		commit_refuse(commit, ERR_AWAY);
		return;
	}
	if (!args_begin(e, "rp_commit", shard, 2 + 4 * count, text)) {
		commit_refuse(commit, ERR_NO_MEMORY);
		return;
	}
	args_incarnation(e);
	args_number(e, e->store->redis.lease_ms);
	for (struct list_node *n = list_first(&commit->drafts); n != NULL;
	     n = list_next(&commit->drafts, n)) {
		struct redis_draft *d = LIST_ITEM(n, struct redis_draft, node);
		bool fits = commit_args(e, d);
		ASSERT(fits); /* there is room for what pack_envelope_size() said */
		d->commit_sent_ms = now_ms;
		d->link = link;
		d->link_since_ms = redis_link_ready_since_ms(link);
	}
	args_send(e, link, &commit->call);
}

/* At the end of a turn: Redis spends as much on a command as on two mails in it. */
void
commits_run(struct task *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, commit_task);

	while (!list_is_empty(&e->commits)) {
		unsigned count = 0;
		size_t text = 0;
		struct redis_commit *commit = commit_gather(e, &count, &text);
		if (commit == NULL)
			draft_refuse(LIST_ITEM(list_shift(&e->commits), struct redis_draft, node),
				     ERR_NO_MEMORY);
		else
			commit_send(e, commit, count, text);
	}
}

static void
failed_put_done(struct redis_end *e, struct queue_request *r)
{
	struct queue_put *p = CONTAINER_OF(r, struct queue_put, request);

	(void)e;
	go_on(draft_of(p->draft));
}

static const struct queue_request_kind failed_put_kind = { failed_put_done };

void
redis_put(struct queue *q, struct queue_put *p)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_draft *d = draft_of(p->draft);

	list_init(&p->items);
	d->put = p;
	d->resume = NULL;
	if (e->stopping)
		d->error = ERR_SHUTTING_DOWN;
	if (d->error == ERR_OK)
		d->error = pieces_send(d, true);
	if (d->error == ERR_OK)
		d->error = make_mail(d, p->envelope);
	if (d->error == ERR_OK) {
		d->calls++;
		list_append(&e->commits, &d->node);
		worker_last(e->queue.worker, &e->commit_task);
		return;
	}
	if (d->calls == 0)
		finish_later(e, &p->request, &failed_put_kind, d->error);
}

/* ---- replicas ---- */

static void
wait_ends(struct redis_wait *w, enum err error)
{
	struct redis_end *e = w->end;
	struct list_node *node;

	while ((node = list_shift(&w->drafts)) != NULL) {
		struct redis_draft *d = LIST_ITEM(node, struct redis_draft, node);
		d->replicated = error == ERR_OK;
		d->error = error;
		e->counters.unreplicated += error != ERR_OK;
		go_on(d);
	}
	free(w);
}

static void
on_waited(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_wait *w = CONTAINER_OF(c, struct redis_wait, call);
	struct redis_end *e = w->end;
	int64_t replicas = 0;

	e->calls_open--;
	if (error == ERR_OK && redis_number(reply, &replicas) &&
	    replicas >= (int64_t)e->store->redis.replicas) {
		wait_ends(w, ERR_OK);
		return;
	}
	wait_ends(w, error == ERR_OK ? ERR_STORAGE : ERR_IN_DOUBT);
}

/* One WAIT for all commits that one connection has answered in this turn. On another connection,
 * or another session of it, it would prove nothing. */
static bool
wait_send(struct redis_end *e)
{
	struct redis_draft *first = LIST_ITEM(list_first(&e->waits), struct redis_draft, node);
	struct redis_wait *w = calloc(1, sizeof *w);
	struct list_node *next;

	if (w == NULL || !args_begin(e, NULL, 0, 3, 64)) {
		free(w);
		return false;
	}
	*w = (struct redis_wait){ .call = { .on_reply = on_waited }, .end = e };
	list_init(&w->drafts);
	for (struct list_node *n = list_first(&e->waits); n != NULL; n = next) {
		next = list_next(&e->waits, n);
		struct redis_draft *d = LIST_ITEM(n, struct redis_draft, node);
		if (d->link != first->link || d->link_since_ms != first->link_since_ms)
			continue;
		list_unlink(n);
		list_append(&w->drafts, n);
	}
	if (redis_link_ready_since_ms(first->link) != first->link_since_ms) {
		wait_ends(w, ERR_IN_DOUBT);
		return true;
	}
	args_span(e, SPAN("WAIT"));
	args_number(e, e->store->redis.replicas);
	args_number(e, WAIT_MS);
	args_send(e, first->link, &w->call);
	return true;
}

void
redis_wait_run(struct task *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, wait_task);

	while (!list_is_empty(&e->waits)) {
		if (!wait_send(e)) {
			worker_last(e->queue.worker, t);
			return;
		}
	}
}

/* ---- notices ---- */

enum err
notice_begin(struct redis_end *e, struct queue_put *p)
{
	struct redis_draft *d = draft_of(p->draft);

	list_init(&p->items);
	d->put = p;
	d->is_notice = true;
	if (d->error == ERR_OK && e->stopping)
		d->error = ERR_SHUTTING_DOWN;
	if (d->error == ERR_OK)
		d->error = pieces_send(d, true);
	if (d->error == ERR_OK)
		d->error = make_mail(d, p->envelope);
	return d->error;
}

size_t
notice_text_size(const struct queue_put *p)
{
	return 128 + pack_envelope_size(&draft_of(p->draft)->mail->envelope);
}

bool
notice_args(struct redis_end *e, const struct queue_record *r)
{
	const struct redis_mail *m = draft_of(r->notice->draft)->mail;

	args_id(e, m->mail.id);
	args_number(e, m->pieces);
	args_number(e, m->envelope.recipient_count);
	if (!args_envelope(e, &m->envelope))
		return false;
	args_number(e, r->tells_deliveries_only);
	return true;
}

void
notice_end(struct redis_end *e, struct queue_put *p, enum err error)
{
	struct redis_draft *d = draft_of(p->draft);

	(void)e;
	if (error == ERR_OK)
		mail_is_kept(d, p);
	d->put = NULL;
	redis_draft_abandon(p->draft); /* answers of pieces may still be on their way */
}
