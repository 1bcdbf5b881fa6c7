/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/sender.h"
#include "tests/fault/sim.h"
#include "tests/fault/toy/toy_internal.h"

enum toy_bug toy_bug;

/* ---- committing ---- */

static struct work *
work_new(struct toy_end *e, void (*done)(struct work *w, enum err e), void *request)
{
	struct work *w = calloc(1, sizeof *w);

	ASSERT(w != NULL);
	*w = (struct work){ .end = e, .done = done, .request = request };
	list_append(&e->pending, &w->node);
	toy_commit_soon(e);
	return w;
}

static void
work_bytes(struct work *w, enum record_kind kind, struct mail_id id, struct span a, struct span b)
{
	struct header *h;
	size_t size = (sizeof *h + a.size + b.size + 7) & ~(size_t)7;

	w->bytes = calloc(1, size);
	ASSERT(w->bytes != NULL);
	w->size = size;
	h = w->bytes;
	*h = (struct header){ .magic = RECORD_MAGIC,
			      .size = (uint32_t)size,
			      .generation = w->end->store->generation,
			      .id = id,
			      .kind = kind };
	if (a.size > 0)
		memcpy(h + 1, a.data, a.size);
	if (b.size > 0)
		memcpy((uint8_t *)(h + 1) + a.size, b.data, b.size);
	h->checksum = sim_hash(7, &h->generation, size - offsetof(struct header, generation));
}

static void
confirm(struct batch *b)
{
	struct list_node *n;

	while ((n = list_shift(&b->works)) != NULL) {
		struct work *w = LIST_ITEM(n, struct work, node);
		w->done(w, ERR_OK);
		free(w->bytes);
		free(w);
	}
}

/* In order: the oldest batch, and those behind it that were faster. */
static void
confirm_in_order(struct toy_end *e)
{
	while (e->batches[e->first].used && e->batches[e->first].done) {
		struct batch *b = &e->batches[e->first];
		confirm(b);
		free(b->memory);
		b->used = false;
		e->first = (e->first + 1) % FLIGHTS;
	}
}

static void
on_written(struct op *op, struct completion c)
{
	struct batch *b = CONTAINER_OF(op, struct batch, op);
	struct toy_end *e = b->end;

	ASSERT(c.result > 0);
	b->written += (size_t)c.result;
	if (b->written < b->size) {
		ring_write_durable(e->queue.worker->ring, op, e->fd, b->memory + b->written,
				   b->size - b->written, b->offset + b->written);
		return;
	}
	b->done = true;
	if (toy_bug == TOY_CONFIRMS_EARLY)
		confirm(b);
	confirm_in_order(e);
	toy_commit_soon(e);
}

static struct batch *
free_batch(struct toy_end *e)
{
	for (unsigned i = 0; i < FLIGHTS; i++) {
		struct batch *b = &e->batches[(e->first + i) % FLIGHTS];
		if (!b->used)
			return b;
	}
	return NULL;
}

static void
fill_batch(struct toy_end *e, struct batch *b)
{
	struct list_node *n;

	*b = (struct batch){ .end = e, .used = true, .offset = e->offset };
	op_init(&b->op, on_written);
	list_init(&b->works);
	b->memory = aligned_alloc(BLOCK, BATCH_MOST);
	ASSERT(b->memory != NULL);
	while ((n = list_first(&e->pending)) != NULL) {
		struct work *w = LIST_ITEM(n, struct work, node);
		if (b->size + w->size > BATCH_MOST)
			break;
		if (w->size > 0)
			memcpy(b->memory + b->size, w->bytes, w->size);
		b->size += w->size;
		list_unlink(n);
		list_append(&b->works, n);
	}
	size_t padded = (b->size + BLOCK - 1) / BLOCK * BLOCK;
	memset(b->memory + b->size, 0, padded - b->size);
	b->size = padded;
	e->offset += padded;
}

void
toy_run_commit(struct task *t)
{
	struct toy_end *e = CONTAINER_OF(t, struct toy_end, commit);
	struct batch *b;

	while (!list_is_empty(&e->pending) && (b = free_batch(e)) != NULL) {
		fill_batch(e, b);
		if (b->size > 0) {
			ring_write_durable(e->queue.worker->ring, &b->op, e->fd, b->memory, b->size,
					   b->offset);
			if (toy_bug == TOY_WRITES_TO_LENT && b->size > BLOCK)
				b->memory[BLOCK] ^= 1;
			continue;
		}
		b->done = true; /* nothing in it has to be written */
		confirm_in_order(e);
	}
	if (e->on_stopped != NULL && list_is_empty(&e->pending) && !e->batches[0].used &&
	    !e->batches[1].used) {
		timer_stop(&e->queue.worker->timers, &e->timer);
		e->on_stopped(&e->queue, e->stop_context);
		e->on_stopped = NULL;
	}
}

void
toy_commit_soon(struct toy_end *e)
{
	worker_last(e->queue.worker, &e->commit);
}

/* ---- mails and items ---- */

struct toy_mail *
toy_mail_new(struct mail_id id, const struct put_payload *p, const uint8_t *body)
{
	struct toy_mail *m = calloc(1, sizeof *m);

	ASSERT(m != NULL && p->recipient_count <= RECIPIENTS_MOST);
	m->texts = *p;
	m->body = malloc(p->body_size + 1);
	ASSERT(m->body != NULL);
	if (p->body_size > 0)
		memcpy(m->body, body, p->body_size);
	m->mail = (struct queue_mail){ .magic = QUEUE_MAIL_MAGIC,
				       .id = id,
				       .envelope = &m->envelope };
	m->envelope = (struct mail_envelope){
		.id = id,
		.accepted_at_ms = p->accepted_at_ms,
		.body_size = p->body_size,
		.flags = (uint32_t)p->flags,
		.sender = span_of_string(m->texts.sender),
		.recipient_count = (uint32_t)p->recipient_count,
		.recipients = m->recipients,
	};
	for (uint32_t i = 0; i < p->recipient_count; i++) {
		m->recipients[i].address = span_of_string(m->texts.addresses[i]);
		m->recipients[i].notify = (uint8_t)p->notify[i];
	}
	return m;
}

void
toy_mail_free(struct toy_mail *m)
{
	list_unlink(&m->node);
	for (unsigned i = 0; i < SITES; i++)
		if (m->items[i] != NULL)
			list_unlink(&m->items[i]->node);
	for (unsigned i = 0; i < SITES; i++)
		free(m->items[i]);
	free(m->body);
	free(m);
}

static uint32_t
toy_sender_key(const struct toy_mail *m)
{
	uint8_t memory[SENDER_KEY_MOST];

	return sender_key_hash(sender_key(m->envelope.sender, memory), 0);
}

/* The pending recipients of a site, anew; no item where there is none. */
struct toy_item *
toy_item_make(struct toy_mail *m, unsigned site)
{
	struct toy_item *i = m->items[site];

	if (i == NULL)
		i = calloc(1, sizeof *i);
	ASSERT(i != NULL);
	i->mail = m;
	i->item = (struct queue_item){ .magic = QUEUE_ITEM_MAGIC,
				       .mail = &m->mail,
				       .site = { site },
				       .sender_key = toy_sender_key(m),
				       .recipients = i->indexes };
	i->due_at_ms = UINT64_MAX;
	for (uint32_t k = 0; k < m->envelope.recipient_count; k++) {
		const struct mail_recipient *r = &m->recipients[k];
		if (r->site.number != site || r->state != RECIPIENT_PENDING)
			continue;
		i->indexes[i->item.recipient_count++] = k;
		i->due_at_ms = r->retry_at_ms < i->due_at_ms ? r->retry_at_ms : i->due_at_ms;
	}
	m->items[site] = i;
	if (i->item.recipient_count > 0)
		return i;
	list_unlink(&i->node);
	free(i);
	m->items[site] = NULL;
	return NULL;
}

bool
toy_mail_is_over(const struct toy_mail *m)
{
	for (uint32_t k = 0; k < m->envelope.recipient_count; k++)
		if (m->recipients[k].state == RECIPIENT_PENDING)
			return false;
	return true;
}

void
toy_item_wait(struct toy_end *e, struct toy_item *i)
{
	i->claimed = false;
	list_append(&e->waiting, &i->node);
	timer_set(&e->queue.worker->timers, &e->timer, e->queue.worker->now_ms + 1);
}

void
toy_route(struct toy_end *e, struct toy_mail *m)
{
	for (uint32_t k = 0; k < m->envelope.recipient_count; k++) {
		struct mail_recipient *r = &m->recipients[k];
		if (r->state != RECIPIENT_PENDING)
			continue;
		r->site = e->store->store.hooks.site_of(&e->queue, r->address, m->envelope.flags);
		e->named[r->site.number] = true;
	}
}

/* Tells of sites that no item names any more. */
static void
leave_sites(struct toy_end *e)
{
	bool named[SITES] = { false };

	for (struct list_node *n = list_first(&e->mails); n != NULL; n = list_next(&e->mails, n))
		for (unsigned s = 0; s < SITES; s++)
			named[s] |= LIST_ITEM(n, struct toy_mail, node)->items[s] != NULL;
	for (unsigned s = 0; s < SITES; s++) {
		bool leaves = e->named[s] && !named[s];
		e->named[s] = named[s];
		if (leaves && s != 0 && e->store->store.hooks.on_site_unused != NULL)
			e->store->store.hooks.on_site_unused(&e->queue, (struct site_id){ s });
	}
}

/* Tells of what has become due; sets the timer for the rest. */
void
toy_look(struct toy_end *e)
{
	uint64_t now = clock_wall_ms();
	uint64_t next = UINT64_MAX;

	for (struct list_node *n = list_first(&e->waiting); n != NULL;
	     n = list_next(&e->waiting, n)) {
		struct toy_item *i = LIST_ITEM(n, struct toy_item, node);
		if (i->mail->held)
			continue;
		if (i->due_at_ms > now) {
			if (toy_bug == TOY_FORGETS_DUE && i->mail->mail.id.low % 4 == 0)
				i->due_at_ms = UINT64_MAX;
			next = i->due_at_ms < next ? i->due_at_ms : next;
			continue;
		}
		if (!e->told[i->item.site.number]) {
			e->told[i->item.site.number] = true;
			e->store->store.hooks.on_due(&e->queue, i->item.site);
		}
	}
	if (next != UINT64_MAX)
		timer_set(&e->queue.worker->timers, &e->timer, clock_monotonic_ms() + (next - now));
}

void
toy_on_timer(struct timer *t)
{
	struct toy_end *e = CONTAINER_OF(t, struct toy_end, timer);

	leave_sites(e);
	toy_look(e);
}

/* ---- taking in ---- */

static enum err
admit(struct queue *q, uint64_t size)
{
	return q != NULL && size < UINT64_MAX ? ERR_OK : ERR_NO_ROOM;
}

static struct mail_id
id_new(struct queue *q)
{
	ASSERT(q != NULL);
	return (struct mail_id){ random_u64(), random_u64() };
}

static struct mail_id
id_beside(struct queue *q, struct mail_id of)
{
	ASSERT(q != NULL && of.high + of.low != 0);
	return (struct mail_id){ random_u64(), random_u64() };
}

static struct queue_draft *
draft_new(struct queue *q, struct mail_id id, uint64_t size_hint)
{
	struct toy_draft *d = calloc(1, sizeof *d);

	(void)size_hint;
	ASSERT(d != NULL);
	*d = (struct toy_draft){ .draft = { QUEUE_DRAFT_MAGIC, &toy_driver },
				 .end = end_of(q),
				 .id = id };
	return &d->draft;
}

#define draft_of(d) ((struct toy_draft *)(uintptr_t)(d))

static enum err
draft_append(struct queue_draft *draft, struct span bytes)
{
	struct toy_draft *d = draft_of(draft);

	if (bytes.size == 0)
		return ERR_OK;
	d->bytes = realloc(d->bytes, d->size + bytes.size);
	memcpy(d->bytes + d->size, bytes.data, bytes.size);
	d->size += bytes.size;
	return ERR_OK;
}

static bool
draft_is_full(const struct queue_draft *d)
{
	(void)d;
	return false;
}

static void
draft_on_room(struct queue_draft *d, struct task *resume)
{
	worker_soon(draft_of(d)->end->queue.worker, resume);
}

static uint64_t
draft_size(const struct queue_draft *d)
{
	return draft_of(d)->size;
}

static void
draft_abandon(struct queue_draft *d)
{
	free(draft_of(d)->bytes);
	free(d);
}

static void
keep(struct work *w, struct queue_put *p)
{
	struct toy_mail *m = w->mail;

	list_append(&w->end->mails, &m->node);
	m->mail.worker = (uint16_t)w->end->queue.worker->number;
	list_init(&p->items);
	for (unsigned s = 0; s < SITES; s++) {
		struct toy_item *i = toy_item_make(m, s);
		if (i == NULL)
			continue;
		i->claimed = true;
		w->end->named[s] = true;
		list_append(&p->items, &i->item.link);
	}
}

static void
put_done(struct work *w, enum err e)
{
	struct queue_put *p = w->request;

	keep(w, p);
	p->on_done(p, e);
}

/* Makes the mail; what is written of it stands in front of its body. */
static void
offer(struct work *w, struct queue_put *p, struct put_payload *texts)
{
	const struct mail_envelope *e = p->envelope;
	struct toy_draft *d = draft_of(p->draft);

	*texts = (struct put_payload){
		.id = e->id,
		.accepted_at_ms = e->accepted_at_ms,
		.body_size = e->body_size,
		.flags = e->flags,
		.recipient_count = e->recipient_count,
	};

	memcpy(texts->sender, e->sender.data, e->sender.size);
	for (uint32_t i = 0; i < e->recipient_count; i++) {
		texts->notify[i] = e->recipients[i].notify;
		memcpy(texts->addresses[i], e->recipients[i].address.data,
		       e->recipients[i].address.size);
	}
	w->mail = toy_mail_new(e->id, texts, d->bytes);
	for (uint32_t i = 0; i < e->recipient_count; i++)
		w->mail->recipients[i].site = e->recipients[i].site;
}

static void
put(struct queue *q, struct queue_put *p)
{
	struct toy_draft *d = draft_of(p->draft);
	struct work *w = work_new(end_of(q), put_done, p);
	struct put_payload texts;

	offer(w, p, &texts);
	work_bytes(w, RECORD_PUT, texts.id, span_of(&texts, sizeof texts),
		   span_of(d->bytes, d->size));
	draft_abandon(p->draft);
}

/* ---- handing out ---- */

static void
claim_done(struct work *w, enum err e)
{
	struct queue_claim *c = w->request;
	uint64_t now = clock_wall_ms() + (toy_bug == TOY_COMES_EARLY ? 30000 : 0);
	uint32_t n = 0;
	struct list_node *next;

	list_init(&c->items);
	for (struct list_node *node = list_first(&w->end->waiting); node != NULL && n < c->most;
	     node = next) {
		struct toy_item *i = LIST_ITEM(node, struct toy_item, node);
		next = list_next(&w->end->waiting, node);
		if (i->mail->held || i->item.site.number != c->site.number ||
		    (c->by_id ? !mail_id_eq(i->mail->mail.id, c->id) : i->due_at_ms > now))
			continue;
		list_unlink(node);
		i->claimed = true;
		list_append(&c->items, &i->item.link);
		n++;
	}
	if (n < c->most && !c->by_id) {
		w->end->told[c->site.number] = false;
		timer_set(&w->end->queue.worker->timers, &w->end->timer,
			  w->end->queue.worker->now_ms + 1);
	}
	c->on_done(c, e);
}

static void
claim(struct queue *q, struct queue_claim *c)
{
	work_new(end_of(q), claim_done, c);
}

static struct toy_item *
toy_item_of(struct queue_item *i)
{
	return CONTAINER_OF(i, struct toy_item, item);
}

static void
release(struct queue *q, struct queue_item *item, uint64_t due_at_ms)
{
	struct toy_item *i = toy_item_of(item);

	if (toy_bug == TOY_GIVES_TWICE && i->item.recipient_count > 1) {
		/* The first recipient also gets an item of its own. */
		struct toy_item *copy = calloc(1, sizeof *copy);
		*copy = *i;
		copy->item.recipients = copy->indexes;
		copy->item.recipient_count = 1;
		copy->item.link = (struct list_node){ 0 };
		toy_item_wait(end_of(q), copy);
	}
	i->due_at_ms = due_at_ms;
	toy_item_wait(end_of(q), i);
}

static void
reroute(struct queue *q, struct queue_item *item)
{
	struct toy_item *i = toy_item_of(item);
	struct toy_end *e = end_of(q);
	struct toy_mail *m = i->mail;

	for (uint32_t k = 0; k < item->recipient_count; k++) {
		struct mail_recipient *r = &m->recipients[item->recipients[k]];
		r->site = e->store->store.hooks.site_of(q, r->address, m->envelope.flags);
		r->retry_at_ms = 0;
		e->named[r->site.number] = true;
	}
	i->claimed = false;
	for (unsigned s = 0; s < SITES; s++) {
		if (m->items[s] != NULL && m->items[s]->claimed)
			continue; /* made anew when it comes back */
		if (m->items[s] != NULL)
			list_unlink(&m->items[s]->node);
		struct toy_item *k = toy_item_make(m, s);
		if (k != NULL)
			toy_item_wait(e, k);
	}
}

static void
load_done(struct work *w, enum err e)
{
	struct queue_load *l = w->request;
	const struct toy_mail *m = CONTAINER_OF(l->mail, struct toy_mail, mail);
	uint64_t left = m->envelope.body_size - l->offset;
	size_t n = l->capacity < left ? l->capacity : left;

	if (n > 0)
		memcpy(l->memory, m->body + l->offset, n);
	l->bytes = span_of(l->memory, n);
	l->on_done(l, e);
}

static void
load(struct queue *mine, struct queue_load *l)
{
	work_new(end_of(mine), load_done, l);
}

static void
drop_body(struct queue *q, struct queue_mail *m)
{
	ASSERT(q != NULL && m != NULL); /* bodies stay in memory */
}

/* ---- outcomes ---- */

void
toy_outcome_apply(struct toy_mail *m, const struct outcome_payload *p)
{
	struct mail_recipient *r = &m->recipients[p->recipient];

	r->state = (uint8_t)p->state;
	r->attempts = (uint16_t)p->attempts;
	r->retry_at_ms = p->retry_at_ms;
	r->notified |= p->notified != 0;
}

static void
record_done(struct work *w, enum err e)
{
	struct queue_record *r = w->request;
	struct toy_item *i = toy_item_of(r->item);
	struct toy_mail *m = i->mail;

	for (uint32_t k = 0; k < r->result_count; k++)
		toy_outcome_apply(m, &w->outcomes[k]);
	if (r->notice != NULL)
		keep(w, r->notice);
	unsigned site = i->item.site.number;
	r->on_done(r, e); /* may still read the item */
	i = toy_item_make(m, site);
	if (i != NULL)
		toy_item_wait(w->end, i);
	if (toy_mail_is_over(m))
		toy_mail_free(m);
	timer_set(&w->end->queue.worker->timers, &w->end->timer, w->end->queue.worker->now_ms + 1);
}

/* The planted bug: the outcome is durable, now comes the rest. */
static void
half_done(struct work *first, enum err e)
{
	struct work *w = work_new(first->end, record_done, first->request);
	struct queue_record *r = w->request;
	struct toy_draft *d = draft_of(r->notice->draft);
	struct put_payload texts;

	(void)e;
	memcpy(w->outcomes, first->outcomes, sizeof w->outcomes);
	offer(w, r->notice, &texts);
	work_bytes(w, RECORD_PUT, texts.id, span_of(&texts, sizeof texts),
		   span_of(d->bytes, d->size));
	draft_abandon(r->notice->draft);
}

static void
record_notice(struct work *w, const struct queue_record *r)
{
	struct toy_draft *d = draft_of(r->notice->draft);
	size_t size = r->result_count * sizeof w->outcomes[0];
	struct {
		uint64_t count;
		uint8_t rest[sizeof w->outcomes + sizeof(struct put_payload)];
	} front = { .count = r->result_count };
	struct put_payload texts;

	offer(w, r->notice, &texts);
	memcpy(front.rest, w->outcomes, size);
	memcpy(front.rest + size, &texts, sizeof texts);
	work_bytes(w, RECORD_NOTICE, toy_item_of(r->item)->mail->mail.id,
		   span_of(&front, sizeof front.count + size + sizeof texts),
		   span_of(d->bytes, d->size));
	draft_abandon(r->notice->draft);
}

static void
record(struct queue *q, struct queue_record *r)
{
	bool splits = toy_bug == TOY_SPLITS_NOTICE && r->notice != NULL;
	struct work *w = work_new(end_of(q), splits ? half_done : record_done, r);
	const struct toy_mail *m = toy_item_of(r->item)->mail;
	struct outcome_payload *p = w->outcomes;

	for (uint32_t k = 0; k < r->result_count; k++) {
		const struct queue_result *x = &r->results[k];
		p[k] = (struct outcome_payload){
			x->recipient,   x->state,    m->recipients[x->recipient].attempts,
			x->retry_at_ms, x->notified, ""
		};
		snprintf(p[k].reply, sizeof p[k].reply, "%.*s", SPAN_ARG(x->reply));
		p[k].attempts += x->state == RECIPIENT_PENDING && x->tried;
	}
	if (r->notice != NULL && !splits)
		record_notice(w, r);
	else
		work_bytes(w, RECORD_OUTCOME, m->mail.id, span_of(p, r->result_count * sizeof p[0]),
			   span_none());
	if (toy_bug == TOY_FORGETS_OUTCOMES)
		w->size = 0;
}

static void
attempt_done(struct work *w, enum err e)
{
	struct queue_attempt *a = w->request;

	a->on_done(a, e);
}

static void
attempt(struct queue *q, struct queue_attempt *a)
{
	work_new(end_of(q), attempt_done, a);
}

/* ---- operators ---- */

static bool
mail_is_claimed(const struct toy_mail *m)
{
	for (unsigned s = 0; s < SITES; s++)
		if (m->items[s] != NULL && m->items[s]->claimed)
			return true;
	return false;
}

struct toy_mail *
toy_mail_find(const struct list *mails, struct mail_id id)
{
	for (struct list_node *n = list_first(mails); n != NULL; n = list_next(mails, n)) {
		struct toy_mail *m = LIST_ITEM(n, struct toy_mail, node);
		if (mail_id_eq(m->mail.id, id))
			return m;
	}
	return NULL;
}

static void
act_done(struct work *w, enum err e)
{
	struct queue_act *a = w->request;
	struct toy_mail *m = toy_mail_find(&w->end->mails, a->id);

	if (w->value != ERR_OK)
		e = (enum err)w->value;
	else if (a->action == QUEUE_REMOVE)
		toy_mail_free(m);
	timer_set(&w->end->queue.worker->timers, &w->end->timer, w->end->queue.worker->now_ms + 1);
	a->on_done(a, e);
}

static void
act(struct queue *q, struct queue_act *a)
{
	struct toy_end *end = end_of(q);
	struct toy_mail *m = toy_mail_find(&end->mails, a->id);
	struct work *w = work_new(end, act_done, a);
	uint64_t held = a->action == QUEUE_HOLD;

	w->value = m == NULL ? ERR_NOT_FOUND : mail_is_claimed(m) ? ERR_AGAIN : ERR_OK;
	if (w->value != ERR_OK)
		return;
	if (a->action == QUEUE_REMOVE) {
		m->held = true; /* nobody claims it any more */
		work_bytes(w, RECORD_REMOVED, a->id, span_none(), span_none());
	} else if (a->action == QUEUE_HOLD || a->action == QUEUE_UNHOLD) {
		m->held = held;
		work_bytes(w, RECORD_HELD, a->id, span_of(&held, sizeof held), span_none());
	}
}

static void
show_done(struct work *w, enum err e)
{
	struct queue_show *s = w->request;
	const struct toy_mail *m = toy_mail_find(&w->end->mails, s->id);

	s->envelope = m == NULL ? NULL : &m->envelope;
	s->on_done(s, m == NULL ? ERR_NOT_FOUND : e);
}

static void
show(struct queue *q, struct queue_show *s)
{
	work_new(end_of(q), show_done, s);
}

static bool
may_deliver(struct queue *q)
{
	return q != NULL;
}

static uint64_t
may_end_until_ms(struct queue *mine, const struct queue_mail *m)
{
	return mine != NULL && m != NULL ? UINT64_MAX : 0;
}

static bool
memory_is_tight(struct queue *q)
{
	return q != NULL && sim_chance(100);
}

static bool
row_is_wanted(const struct queue_filter *f, const struct toy_mail *m, unsigned site)
{
	const struct toy_item *i = m->items[site];

	if (i == NULL || (f->by_site && f->site.number != site))
		return false;
	if (f->accepted_before_ms != 0 && m->envelope.accepted_at_ms >= f->accepted_before_ms)
		return false;
	return f->state == QUEUE_ANY || (f->state == QUEUE_HELD && m->held) ||
	       (f->state == QUEUE_WAITING && !m->held && !i->claimed);
}

static bool
list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
     bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	struct toy_end *e = end_of(q);

	ASSERT(*cursor == 0 && slice_us > 0);
	for (struct list_node *n = list_first(&e->mails); n != NULL; n = list_next(&e->mails, n)) {
		const struct toy_mail *m = LIST_ITEM(n, struct toy_mail, node);
		for (unsigned s = 0; s < SITES; s++)
			if (row_is_wanted(f, m, s))
				on_row(context,
				       &(struct queue_row){
					       .id = m->mail.id,
					       .site = { s },
					       .accepted_at_ms = m->envelope.accepted_at_ms,
					       .due_at_ms = m->items[s]->due_at_ms,
					       .untold = true,
				       });
	}
	return false;
}

static void
count(struct queue *q, struct queue_numbers *out)
{
	struct toy_end *e = end_of(q);

	*out = (struct queue_numbers){ 0 };
	for (struct list_node *n = list_first(&e->mails); n != NULL; n = list_next(&e->mails, n)) {
		const struct toy_mail *m = LIST_ITEM(n, struct toy_mail, node);
		out->mails++;
		for (unsigned s = 0; s < SITES; s++)
			if (m->items[s] != NULL) {
				out->items_held += m->held;
				out->items_claimed += m->items[s]->claimed;
				out->items_waiting += !m->held && !m->items[s]->claimed;
			}
	}
}

const struct queue_driver toy_driver = {
	.name = "toy",
	.end = toy_end,
	.start = toy_start,
	.stop = toy_stop,
	.close = toy_close_store,
	.admit = admit,
	.id_new = id_new,
	.id_beside = id_beside,
	.draft_new = draft_new,
	.draft_append = draft_append,
	.draft_is_full = draft_is_full,
	.draft_on_room = draft_on_room,
	.draft_size = draft_size,
	.draft_abandon = draft_abandon,
	.put = put,
	.claim = claim,
	.release = release,
	.reroute = reroute,
	.load = load,
	.drop_body = drop_body,
	.memory_is_tight = memory_is_tight,
	.record = record,
	.may_deliver = may_deliver,
	.may_end_until_ms = may_end_until_ms,
	.attempt = attempt,
	.list = list,
	.show = show,
	.act = act,
	.count = count,
};
