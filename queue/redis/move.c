/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails that come from a node's spool, or go into one. What comes waits from then on, or is held,
 * and is nobody's; what goes must be nobody's, too.
 *
 * With durability `replica` a change counts when the replicas have it: a fail-over would undo it,
 * after the spool has gone by it.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/mover.h"
#include "queue/redis/internal.h"

enum { STAMP_MOST = 24, LEAVE_MS = 15 * 1000, REPLICAS_MS = 1000 };

/* Its fields when it was read: changed since by whoever had it meanwhile. */
struct stamp {
	size_t size;
	uint8_t text[STAMP_MOST];
};

/* moving->there: while a call is under way, and with what was read. */
struct there {
	struct redis_call call;
	struct redis_end *end;
	struct queue_moving *moving;
	struct redis_link *link; /* that a change went to, */
	uint64_t link_since_ms;  /* and which session of it */
	uint64_t sent;           /* bytes of a piece */
	bool asked;              /* that it departs */
	struct queue_request request;
	struct redis_mail *mail;
	struct queue_starts *starts;
	struct stamp h, d, n;
};

static bool
move_prepare(struct queue *q, struct queue_moving *m)
{
	struct there *t = calloc(1, sizeof *t);

	if (t == NULL)
		return false;
	t->end = redis_end_of(q);
	t->moving = m;
	m->there = t;
	return true;
}

static void
step_done(struct there *t, enum err error)
{
	t->moving->on_done(t->moving, error);
}

static void
unsent_done(struct redis_end *e, struct queue_request *r)
{
	(void)e;
	step_done(CONTAINER_OF(r, struct there, request), r->error);
}

static const struct queue_request_kind unsent_kind = { unsent_done };

static void
fail_later(struct there *t, enum err error)
{
	finish_later(t->end, &t->request, &unsent_kind, error);
}

static enum err
error_of(enum err error)
{
	switch (error) {
	case ERR_OK:
	case ERR_NO_ROOM:
		return error;
	case ERR_AGAIN:
		return ERR_AWAY;
	default:
		return ERR_IN_DOUBT;
	}
}

static struct redis_link *
link_for(struct redis_end *e, struct mail_id id)
{
	struct redis_link *link =
		e->servers == NULL ? NULL : redis_servers_link(e->servers, shard_of(e->store, id));

	return link == NULL || redis_link_is_full(link) ? NULL : link;
}

/* The room for what one call needs, and its arguments begun; NULL after it has failed. */
static struct redis_link *
call_begin(struct there *t, const char *function, unsigned count, size_t text,
	   void (*on_reply)(struct redis_call *c, enum err e, const struct redisReply *reply))
{
	struct redis_end *e = t->end;
	struct redis_link *link = link_for(e, t->moving->id);

	if (link == NULL || e->stopping ||
	    !args_begin(e, function, shard_of(e->store, t->moving->id), count, text)) {
		fail_later(t, e->stopping ? ERR_SHUTTING_DOWN : ERR_AWAY);
		return NULL;
	}
	t->call = (struct redis_call){ .on_reply = on_reply };
	t->link = link;
	t->link_since_ms = redis_link_ready_since_ms(link);
	return link;
}

static void
args_set_key(struct redis_end *e, struct mail_id id, const char *name)
{
	struct buf *text = &e->args.text;
	size_t from = text->size;

	buf_append_string(text, e->store->tags[shard_of(e->store, id)]);
	buf_append_string(text, name);
	args_span(e, span_of(text->data + from, text->size - from));
}

/* ---- a change, and its replicas ---- */

static void
on_replicas(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct there *t = CONTAINER_OF(c, struct there, call);
	int64_t replicas = 0;

	t->end->calls_open--;
	bool enough = error == ERR_OK && redis_number(reply, &replicas) &&
		      replicas >= (int64_t)t->end->store->redis.replicas;
	step_done(t, enough ? ERR_OK : ERR_IN_DOUBT); /* asked again, it was made already */
}

/* It was made, on this connection. */
static void
change_made(struct there *t)
{
	struct redis_end *e = t->end;

	if (e->store->redis.durability != REDIS_REPLICA) {
		step_done(t, ERR_OK);
		return;
	}
	if (redis_link_ready_since_ms(t->link) != t->link_since_ms ||
	    !args_begin(e, NULL, 0, 3, 64)) {
		step_done(t, ERR_IN_DOUBT);
		return;
	}
	t->call = (struct redis_call){ .on_reply = on_replicas };
	args_span(e, SPAN("WAIT"));
	args_number(e, e->store->redis.replicas);
	args_number(e, REPLICAS_MS);
	args_send(e, t->link, &t->call);
}

static void
note_changed(struct there *t)
{
	struct redis_store *s = t->end->store;

	atomic_store(&s->leases[shard_of(s, t->moving->id)].changed, true);
}

static void
change_answered(struct there *t, enum err error, const struct redisReply *reply, enum err refused)
{
	t->end->calls_open--;
	note_changed(t);
	if (error != ERR_OK)
		step_done(t, error_of(error));
	else if (span_eq(redis_text(reply), SPAN("OK")))
		change_made(t);
	else
		step_done(t, refused);
}

/* ---- from the spool ---- */

static void
on_sent(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct there *t = CONTAINER_OF(c, struct there, call);

	(void)reply;
	t->end->calls_open--;
	if (error == ERR_OK)
		t->moving->stored_bytes += t->sent;
	step_done(t, error == ERR_OK || error == ERR_NO_ROOM ? error : ERR_AWAY);
}

static void
move_send(struct queue *q, struct queue_moving *m, uint32_t number, struct body *piece)
{
	struct redis_end *e = redis_end_of(q);
	struct there *t = m->there;
	uint64_t size = body_size(piece);
	struct redis_link *link = call_begin(t, NULL, 4, 2 * REDIS_NAME_MOST, on_sent);

	if (link == NULL)
		return;
	struct span packed = piece_compress(e, piece, 0, size);
	args_span(e, SPAN("SETEX"));
	args_piece_key(e, m->id, shard_of(e->store, m->id), number);
	args_number(e, REDIS_BODY_TTL_S);
	t->sent = packed.size > 0 ? packed.size : size + 1;
	if (packed.size > 0) {
		args_span(e, packed);
		args_send(e, link, &t->call);
	} else {
		e->calls_open++;
		redis_send_body(link, &t->call, e->args.spans, e->args.count, SPAN("0"), piece, 0,
				size);
	}
}

static void
on_arrived(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct there *t = CONTAINER_OF(c, struct there, call);

	change_answered(t, error, reply, ERR_STORAGE);
}

/* When it is due, and because of whom. */
static uint64_t
due_of(const struct mail_envelope *envelope, uint32_t *recipient, uint32_t *pending)
{
	uint64_t due_at_ms = UINT64_MAX;

	*recipient = *pending = 0;
	for (uint32_t n = 0; n < envelope->recipient_count; n++) {
		const struct mail_recipient *r = &envelope->recipients[n];
		if (r->state != RECIPIENT_PENDING)
			continue;
		if (++*pending == 1 || r->retry_at_ms < due_at_ms) {
			due_at_ms = r->retry_at_ms;
			*recipient = n;
		}
	}
	return due_at_ms;
}

static void
args_states(struct redis_end *e, const struct queue_moving *m)
{
	for (uint32_t n = 0; n < m->envelope->recipient_count; n++) {
		const struct mail_recipient *r = &m->envelope->recipients[n];
		const struct queue_starts *s = &m->starts[n];
		const struct pack_state state = {
			.state = r->state,
			.notified = r->notified,
			.alone = s->alone,
			.starts = s->starts,
			.closed = s->closed,
			.attempts = r->attempts,
			.retry_at_ms = r->retry_at_ms,
			.reply = r->reply,
		};
		args_number(e, n);
		args_state(e, &state);
	}
}

static void
move_arrive(struct queue *q, struct queue_moving *m)
{
	struct redis_end *e = redis_end_of(q);
	struct there *t = m->there;
	const struct mail_envelope *envelope = m->envelope;
	uint32_t count = envelope->recipient_count;
	size_t text = 1024 + pack_envelope_size(envelope) +
		      (size_t)count * (PACK_STATE_LEAST + PACK_REPLY_MOST + 16);
	uint32_t recipient, pending;
	uint64_t due_at_ms = due_of(envelope, &recipient, &pending);
	struct redis_link *link = call_begin(t, "rp_arrive", 8 + 2 * count, text, on_arrived);

	ASSERT(pending > 0);
	if (link == NULL)
		return;
	args_id(e, m->id);
	args_number(e, pieces_of(envelope->body_size));
	args_number(e, m->stored_bytes);
	args_number(e, pending);
	if (!args_envelope(e, envelope)) {
		fail_later(t, ERR_TOO_BIG);
		return;
	}
	args_number(e, m->is_held);
	args_number(e, to_redis_ms(e, due_at_ms));
	args_lane_of(e, envelope->recipients[recipient].address);
	args_states(e, m);
	args_send(e, link, &t->call);
}

static void
on_asked(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct there *t = CONTAINER_OF(c, struct there, call);
	int64_t is_there = 0;

	t->end->calls_open--;
	if (error != ERR_OK || !redis_number(reply, &is_there))
		step_done(t, ERR_AWAY);
	else if (is_there == 1)
		change_made(t);
	else
		step_done(t, ERR_NOT_FOUND);
}

static void
move_has_arrived(struct queue *q, struct queue_moving *m)
{
	struct redis_end *e = redis_end_of(q);
	struct there *t = m->there;
	struct redis_link *link = call_begin(t, "rp_arrived", 1, 128, on_asked);

	if (link == NULL)
		return;
	args_id(e, m->id);
	args_send(e, link, &t->call);
}

/* ---- into the spool ---- */

static bool
note_stamp(struct stamp *s, struct span text)
{
	if (text.size > sizeof s->text)
		return false;
	if (text.size > 0)
		memcpy(s->text, text.data, text.size);
	s->size = text.size;
	return true;
}

static struct span
stamp_text(const struct stamp *s)
{
	return span_of(s->text, s->size);
}

static bool
note_starts(struct there *t)
{
	const struct redis_mail *m = t->mail;
	uint32_t count = m->envelope.recipient_count;

	t->starts = calloc(count, sizeof *t->starts);
	for (uint32_t n = 0; t->starts != NULL && n < count; n++)
		t->starts[n] =
			(struct queue_starts){ m->recipients[n].starts, m->recipients[n].closed,
					       m->recipients[n].alone };
	return t->starts != NULL;
}

static void
forget_read(struct there *t)
{
	if (t->mail != NULL)
		owned_free(t->end, t->mail);
	free(t->starts);
	t->mail = NULL;
	t->starts = NULL;
}

static enum err
take_mail(struct there *t, const struct redisReply *fields)
{
	struct redis_end *e = t->end;
	struct queue_moving *m = t->moving;
	enum err why = ERR_OK;

	if (fields->type != REDIS_REPLY_ARRAY || fields->elements == 0)
		return ERR_NOT_FOUND;
	if (mail_owner(fields).size > 0)
		return ERR_AGAIN;
	forget_read(t);
	t->mail = mail_read(e, m->id, fields, &why);
	if (t->mail == NULL)
		return why;
	if (!note_stamp(&t->h, mail_field(fields, "h")) ||
	    !note_stamp(&t->d, mail_field(fields, "d")) ||
	    !note_stamp(&t->n, mail_field(fields, "n")))
		return ERR_CORRUPT;
	/* Its sites are named from now on. */
	if (!owned_find_sites(e, t->mail))
		return ERR_CORRUPT;
	if (!owned_make_items(e, t->mail) || !note_starts(t))
		return ERR_NO_MEMORY;
	m->envelope = &t->mail->envelope;
	m->starts = t->starts;
	m->is_held = mail_is_held(fields);
	return ERR_OK;
}

static void
on_read(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct there *t = CONTAINER_OF(c, struct there, call);

	t->end->calls_open--;
	step_done(t, error == ERR_OK ? take_mail(t, reply) : ERR_AWAY);
}

static void
move_read(struct queue *q, struct queue_moving *m)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_mail *ours = owned_find(e, m->id);
	struct there *t = m->there;

	if (ours != NULL) { /* what only waits here goes back first */
		if (ours->busy == 0 && !ours->leaving && ours->items != NULL)
			owned_leave(e, ours, LEAVE_MS);
		fail_later(t, ERR_AGAIN);
		return;
	}
	struct redis_link *link = call_begin(t, NULL, 2, REDIS_NAME_MOST, on_read);
	if (link == NULL)
		return;
	args_span(e, SPAN("HGETALL"));
	args_mail_key(e, m->id, shard_of(e->store, m->id));
	args_send(e, link, &t->call);
}

static void
on_got(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct there *t = CONTAINER_OF(c, struct there, call);
	struct span plain = span_none();

	t->end->calls_open--;
	if (error != ERR_OK)
		error = ERR_AWAY;
	else if (!piece_read(t->end, redis_text(reply), &plain))
		error = ERR_CORRUPT;
	t->moving->bytes = plain;
	step_done(t, error);
}

static void
move_get(struct queue *q, struct queue_moving *m, uint32_t number)
{
	struct redis_end *e = redis_end_of(q);
	struct there *t = m->there;
	struct redis_link *link = call_begin(t, NULL, 2, REDIS_NAME_MOST, on_got);

	if (link == NULL)
		return;
	args_span(e, SPAN("GET"));
	args_piece_key(e, m->id, shard_of(e->store, m->id), number);
	args_send(e, link, &t->call);
}

static void
on_departed(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct there *t = CONTAINER_OF(c, struct there, call);

	change_answered(t, error, reply, ERR_LOST);
}

static void
move_depart(struct queue *q, struct queue_moving *m)
{
	struct redis_end *e = redis_end_of(q);
	struct there *t = m->there;
	struct redis_link *link = call_begin(t, "rp_depart", 5, 128, on_departed);

	if (link == NULL)
		return;
	args_id(e, m->id);
	args_span(e, stamp_text(&t->h));
	args_span(e, stamp_text(&t->d));
	args_span(e, stamp_text(&t->n));
	args_number(e, t->asked || m->is_found);
	t->asked = true;
	args_send(e, link, &t->call);
}

/* ---- the end ---- */

struct forget {
	struct redis_call call;
	struct redis_end *end;
};

static void
on_forgotten(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct forget *f = CONTAINER_OF(c, struct forget, call);

	(void)error; /* then an id stays there, which is never used again */
	(void)reply;
	f->end->calls_open--;
	free(f);
}

static void
move_forget(struct queue *q, struct queue_moving *m)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_link *link = link_for(e, m->id);
	struct forget *f = link == NULL ? NULL : calloc(1, sizeof *f);

	if (f == NULL || !args_begin(e, NULL, 0, 3, REDIS_NAME_MOST)) {
		free(f);
		return;
	}
	*f = (struct forget){ .call = { .on_reply = on_forgotten }, .end = e };
	args_span(e, SPAN("SREM"));
	args_set_key(e, m->id, m->goes_out ? ":came" : ":went");
	args_id(e, m->id);
	args_send(e, link, &f->call);
}

static void
move_release(struct queue *q, struct queue_moving *m)
{
	struct there *t = m->there;

	(void)q;
	if (t == NULL)
		return;
	forget_read(t);
	free(t);
	m->there = NULL;
}

const struct queue_mover redis_mover = {
	.piece = REDIS_PIECE,
	.prepare = move_prepare,
	.send = move_send,
	.arrive = move_arrive,
	.has_arrived = move_has_arrived,
	.read = move_read,
	.get = move_get,
	.depart = move_depart,
	.forget = move_forget,
	.release = move_release,
};
