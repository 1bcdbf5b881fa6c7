/* SPDX-License-Identifier: Apache-2.0
 *
 * Handing out: whose turn it is at the site is taken; a small body is read with it where there is
 * memory for it, a large one by whoever sends it (redis_load).
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/redis/internal.h"

enum { READ_AGAIN_MS = 60 * 1000, MEMORY_AGAIN_MS = 1000 };

/* The body of a claimed item on its way. */
struct get {
	struct redis_call call;
	struct redis_end *end;
	struct redis_item *item;
	struct queue_claim *claim;
};

struct load {
	struct redis_call call;
	struct redis_end *end;
	struct queue_load *load;
	size_t done;
	uint32_t piece;
};

/* ---- claims ---- */

static void
claim_done(struct redis_end *e, struct queue_request *r)
{
	struct queue_claim *c = CONTAINER_OF(r, struct queue_claim, request);
	struct turns_site *s = turns_find(&e->turns, c->site);
	uint32_t count = 0;

	for (struct list_node *n = list_first(&c->items); n != NULL; n = list_next(&c->items, n))
		count++;
	/* Fewer, whether no more were due or some could not be read: on_due comes again. */
	if (count < c->most && s != NULL && !c->by_id)
		turns_claimed(s);
	c->on_done(c, count == 0 ? r->error : ERR_OK);
}

static const struct queue_request_kind claim_kind = { claim_done };

/* One item has what it needs, or not. */
static void
item_came(struct redis_end *e, struct queue_claim *c, struct redis_item *i, enum err error)
{
	uint64_t now_ms = e->queue.worker->now_wall_ms;

	list_unlink(&i->turn.item.link);
	if (error == ERR_OK && !owned_item_fill_recipients(i))
		error = ERR_NO_MEMORY;
	if (error == ERR_OK) {
		owned_item_busy(e, i, ITEM_CLAIMED);
		list_append(&c->items, &i->turn.item.link);
	} else {
		c->request.error = error;
		owned_item_wait(
			e, i, now_ms + (error == ERR_NO_MEMORY ? MEMORY_AGAIN_MS : READ_AGAIN_MS));
	}
	if (list_is_empty(&c->loading))
		finish_later(e, &c->request, &claim_kind, c->request.error);
}

static enum err
take_body(struct redis_end *e, struct redis_mail *m, struct span stored)
{
	struct span plain;

	if (!piece_read(e, stored, &plain) || plain.size != m->envelope.body_size)
		return ERR_CORRUPT;
	if (m->mail.body != NULL)
		return ERR_OK;
	struct body *b = body_new(&e->budget, plain.size);
	if (b != NULL && body_append(b, plain) != ERR_OK) {
		body_put(b);
		b = NULL; /* whoever sends it reads it then */
	}
	m->mail.body = b;
	return ERR_OK;
}

static void
on_got(struct redis_call *call, enum err error, const struct redisReply *reply)
{
	struct get *g = CONTAINER_OF(call, struct get, call);
	struct redis_end *e = g->end;
	struct redis_mail *m = redis_mail_of(g->item->turn.item.mail);
	enum err result = ERR_OK; /* where Redis is away, the body is read later */

	e->calls_open--;
	if (error == ERR_OK)
		result = take_body(e, m, redis_text(reply));
	if (result == ERR_CORRUPT)
		report_unread(e, m->mail.id, ERR_CORRUPT);
	item_came(e, g->claim, g->item, result);
	free(g);
}

/* False: it is read later. */
static bool
get_send(struct redis_end *e, struct queue_claim *c, struct redis_item *i)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	const struct body_budget *b = &e->budget;
	struct redis_link *link = redis_servers_link(e->servers, m->shard);

	if (!c->with_bodies || m->mail.body != NULL || m->pieces != 1 || link == NULL ||
	    redis_link_is_full(link) ||
	    b->used_bytes + 2 * m->envelope.body_size >= b->most_bytes / 2)
		return false;
	struct get *g = calloc(1, sizeof *g);
	if (g == NULL || !args_begin(e, NULL, 0, 2, REDIS_NAME_MOST)) {
		free(g);
		return false;
	}
	*g = (struct get){ .call = { .on_reply = on_got }, .end = e, .item = i, .claim = c };
	args_span(e, SPAN("GET"));
	args_piece_key(e, m->mail.id, m->shard, 0);
	args_send(e, link, &g->call);
	return true;
}

static struct redis_item *
waiting_item(struct redis_end *e, const struct queue_claim *c)
{
	const struct redis_mail *m = owned_find(e, c->id);
	struct redis_item *i = m == NULL ? NULL : m->items;

	while (i != NULL &&
	       (i->turn.state != ITEM_WAITING || i->turn.item.site.number != c->site.number))
		i = i->next;
	return i;
}

static struct redis_item *
next_item(struct redis_end *e, const struct queue_claim *c)
{
	struct turns_site *s = turns_find(&e->turns, c->site);

	if (c->by_id)
		return waiting_item(e, c);
	return s == NULL ? NULL : item_of_turn(turns_next(s, e->queue.worker->now_wall_ms));
}

void
redis_claim(struct queue *q, struct queue_claim *c)
{
	struct redis_end *e = redis_end_of(q);
	struct list_node *next;
	uint32_t count = 0;

	list_init(&c->items);
	list_init(&c->loading);
	if (e->stopping) {
		finish_later(e, &c->request, &claim_kind, ERR_SHUTTING_DOWN);
		return;
	}
	c->request = (struct queue_request){ .kind = &claim_kind };
	for (; count < c->most; count++) {
		struct redis_item *i = next_item(e, c);
		if (i == NULL)
			break;
		owned_item_take(e, i, ITEM_LOADING);
		/* Then its start is recorded, and so it is known whether it is ours. */
		if (lease_has_lapsed(e->store, redis_mail_of(i->turn.item.mail)))
			i->turn.item.recovered = true;
		i->turn.item.link = (struct list_node){ 0 };
		list_append(&c->loading, &i->turn.item.link);
	}
	if (count == 0) {
		finish_later(e, &c->request, &claim_kind, ERR_OK);
		return;
	}
	/* Answers come later, never inside redis_send(): `next` stays. */
	for (struct list_node *n = list_first(&c->loading); n != NULL; n = next) {
		struct redis_item *i = redis_item_of(LIST_ITEM(n, struct queue_item, link));
		next = list_next(&c->loading, n);
		if (!get_send(e, c, i))
			item_came(e, c, i, ERR_OK);
	}
}

/* ---- new routes ---- */

static void
reroute_failed(struct redis_end *e, struct redis_item *i)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	struct redis_item *next;

	for (uint32_t n = 0; n < i->turn.item.recipient_count; n++)
		m->envelope.recipients[i->turn.item.recipients[n]].site = i->turn.item.site;
	for (struct redis_item *k = m->items; k != NULL; k = next) {
		next = k->next;
		if (k->turn.state == ITEM_NEW)
			owned_item_free(e, k);
	}
	owned_item_wait(e, i, e->queue.worker->now_wall_ms + MEMORY_AGAIN_MS);
}

/* Has a recipient of `from` come to k, which waited already? Then it is due, too. */
static bool
names_any(const struct redis_item *k, const struct redis_item *from)
{
	const struct redis_mail *m = redis_mail_of(from->turn.item.mail);

	for (uint32_t n = 0; n < from->turn.item.recipient_count; n++) {
		uint32_t at = from->turn.item.recipients[n];
		if (m->envelope.recipients[at].site.number == k->turn.item.site.number)
			return true;
	}
	return false;
}

void
redis_reroute(struct queue *q, struct queue_item *item)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_item *i = redis_item_of(item);
	struct redis_mail *m = redis_mail_of(item->mail);
	const struct queue_hooks *hooks = &e->store->store.hooks;
	uint64_t now_ms = q->worker->now_wall_ms;
	bool stays = false;

	ASSERT(i->turn.state == ITEM_CLAIMED);
	for (uint32_t n = 0; n < item->recipient_count; n++) {
		struct mail_recipient *r = &m->envelope.recipients[item->recipients[n]];
		r->site = hooks->site_of(q, r->address, m->envelope.flags);
		r->retry_at_ms = now_ms;
	}
	/* Some may have come to it while it was claimed, by a new route of theirs. */
	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		const struct mail_recipient *r = &m->envelope.recipients[n];
		stays |= r->state == RECIPIENT_PENDING && r->site.number == item->site.number;
	}
	if (!owned_make_items(e, m)) {
		reroute_failed(e, i);
		return;
	}
	for (struct redis_item *k = m->items; k != NULL; k = k->next) {
		if (k->turn.state == ITEM_NEW) {
			k->turn.item.recovered = item->recovered;
			k->turn.started = i->turn.started;
			owned_item_wait(e, k, now_ms);
		} else if (k->turn.state == ITEM_WAITING && names_any(k, i)) {
			owned_item_take(e, k, ITEM_NEW);
			owned_item_wait(e, k, now_ms);
		}
	}
	if (stays) {
		owned_item_wait(e, i, now_ms);
	} else {
		owned_item_busy(e, i, ITEM_NEW);
		owned_item_free(e, i);
	}
}

/* ---- bodies ---- */

static void load_step(struct load *l);

static void
load_ends(struct load *l, enum err error)
{
	struct queue_load *to = l->load;

	to->bytes = error == ERR_OK ? span_of(to->memory, l->done) : span_none();
	l->end->loads_open--;
	free(l);
	to->on_done(to, error);
}

static void
on_loaded(struct redis_call *call, enum err error, const struct redisReply *reply)
{
	struct load *l = CONTAINER_OF(call, struct load, call);
	struct redis_end *e = l->end;
	const struct redis_mail *m = redis_mail_of(l->load->mail);
	struct span plain;

	e->calls_open--;
	if (error != ERR_OK) {
		load_ends(l, ERR_AWAY);
	} else if (!piece_read(e, redis_text(reply), &plain)) {
		report_unread(e, m->mail.id, ERR_CORRUPT);
		load_ends(l, ERR_CORRUPT);
	} else if (!piece_cache(e, m->mail.id, l->piece, plain)) {
		load_ends(l, ERR_NO_MEMORY);
	} else {
		load_step(l);
	}
}

/* Copies what is there; asks for the piece that is not. */
static void
load_step(struct load *l)
{
	struct redis_end *e = l->end;
	struct queue_load *to = l->load;
	const struct redis_mail *m = redis_mail_of(to->mail);

	while (l->done < to->capacity && to->offset + l->done < m->envelope.body_size) {
		uint64_t at = to->offset + l->done;
		l->piece = (uint32_t)(at / REDIS_PIECE);
		struct span piece = piece_cached(e, m->mail.id, l->piece);
		struct span part =
			span_first(span_after(piece, at % REDIS_PIECE), to->capacity - l->done);
		if (piece.size > 0 && part.size == 0) {
			report_unread(e, m->mail.id, ERR_CORRUPT); /* shorter than it was */
			load_ends(l, ERR_CORRUPT);
			return;
		}
		if (part.size == 0)
			break;
		memcpy(to->memory + l->done, part.data, part.size);
		l->done += part.size;
	}
	if (l->done == to->capacity || to->offset + l->done >= m->envelope.body_size) {
		load_ends(l, ERR_OK);
		return;
	}
	struct redis_link *link = redis_servers_link(e->servers, m->shard);
	if (link == NULL || redis_link_is_full(link) ||
	    !args_begin(e, NULL, 0, 2, REDIS_NAME_MOST)) {
		load_ends(l, ERR_AWAY);
		return;
	}
	l->call = (struct redis_call){ .on_reply = on_loaded };
	args_span(e, SPAN("GET"));
	args_piece_key(e, m->mail.id, m->shard, l->piece);
	args_send(e, link, &l->call);
}

static void
load_begins(struct redis_end *e, struct queue_request *r)
{
	struct queue_load *to = CONTAINER_OF(r, struct queue_load, request);
	struct load *l = calloc(1, sizeof *l);

	if (l == NULL) {
		e->loads_open--;
		to->on_done(to, ERR_NO_MEMORY);
		return;
	}
	*l = (struct load){ .end = e, .load = to };
	load_step(l);
}

static const struct queue_request_kind load_kind = { load_begins };

void
redis_load(struct queue *mine, struct queue_load *l)
{
	struct redis_end *e = redis_end_of(mine);

	l->bytes = span_none();
	e->loads_open++;
	finish_later(e, &l->request, &load_kind, ERR_OK);
}

void
redis_drop_body(struct queue *q, struct queue_mail *m)
{
	(void)q;
	if (m->body != NULL)
		body_put(m->body);
	m->body = NULL;
}
