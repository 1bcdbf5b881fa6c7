/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails that this node owns, in the memory of the worker that has them, and their items.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/redis/internal.h"

static struct redis_mail **
place_of(struct redis_end *e, struct mail_id id)
{
	struct redis_mail **at = &e->buckets[id.high >> (64 - REDIS_BUCKET_BITS)];

	while (*at != NULL && !mail_id_eq((*at)->mail.id, id))
		at = &(*at)->next;
	return at;
}

struct redis_mail *
owned_find(struct redis_end *e, struct mail_id id)
{
	return *place_of(e, id);
}

/* ---- making ---- */

static size_t
text_size(const struct mail_envelope *e)
{
	size_t size = e->sender.size + e->envid.size + e->client.size;

	for (uint32_t i = 0; i < e->recipient_count; i++)
		size += e->recipients[i].address.size + e->recipients[i].orcpt.size;
	return size;
}

static struct span
copy_text(uint8_t **to, struct span s)
{
	struct span copy = span_of(*to, s.size);

	if (s.size > 0)
		memcpy(*to, s.data, s.size);
	*to += s.size;
	return copy;
}

static void
copy_envelope(struct redis_mail *m, const struct mail_envelope *from, uint8_t *text)
{
	struct mail_recipient *all = m->envelope.recipients;

	m->envelope = *from;
	m->envelope.recipients = all;
	m->envelope.sender = copy_text(&text, from->sender);
	m->envelope.envid = copy_text(&text, from->envid);
	m->envelope.client = copy_text(&text, from->client);
	for (uint32_t i = 0; i < from->recipient_count; i++) {
		all[i] = from->recipients[i];
		all[i].address = copy_text(&text, from->recipients[i].address);
		all[i].orcpt = copy_text(&text, from->recipients[i].orcpt);
		all[i].reply = span_none();
	}
}

struct redis_mail *
owned_new(struct redis_end *e, const struct mail_envelope *envelope)
{
	size_t count = envelope->recipient_count;
	size_t size = count * (sizeof(struct mail_recipient) + sizeof(struct redis_recipient)) +
		      text_size(envelope);
	struct body_budget *b = &e->budget;

	ASSERT(count > 0);
	if (size > b->most_bytes || b->used_bytes > b->most_bytes - size)
		return NULL;
	struct redis_mail *m = pool_get(&e->mails);
	uint8_t *block = m == NULL ? NULL : calloc(1, size);
	if (block == NULL) {
		if (m != NULL)
			pool_put(&e->mails, m);
		return NULL;
	}
	b->used_bytes += size;
	*m = (struct redis_mail){ .size = size, .shard = shard_of(e->store, envelope->id) };
	OBJ_INIT(&m->mail, QUEUE_MAIL_MAGIC);
	m->mail.worker = (uint16_t)e->queue.worker->number;
	m->mail.place = QUEUE_IN_REDIS;
	m->mail.id = envelope->id;
	m->mail.envelope = &m->envelope;
	m->envelope.recipients = (struct mail_recipient *)(void *)block;
	m->recipients = (struct redis_recipient *)(void *)&m->envelope.recipients[count];
	copy_envelope(m, envelope, (uint8_t *)&m->recipients[count]);
	return m;
}

static struct redis_item *
item_new(struct redis_end *e, struct redis_mail *m, struct site_id site)
{
	uint32_t key = 0;
	struct redis_item *i = pool_get(&e->items);
	struct turns_lane *lane =
		i == NULL ? NULL : turns_name(&e->turns, site, m->envelope.sender, &key);

	if (lane == NULL) {
		if (i != NULL)
			pool_put(&e->items, i);
		return NULL;
	}
	*i = (struct redis_item){ .turn = { .lane = lane, .state = ITEM_NEW },
				  .next = m->items,
				  .end = e };
	OBJ_INIT(&i->turn.item, QUEUE_ITEM_MAGIC);
	i->turn.item.mail = &m->mail;
	i->turn.item.site = site;
	i->turn.item.sender_key = key;
	i->turn.item.due_at_ms = UINT64_MAX;
	m->items = i;
	e->item_count++;
	return i;
}

bool
owned_make_items(struct redis_end *e, struct redis_mail *m)
{
	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		const struct mail_recipient *r = &m->envelope.recipients[n];
		struct redis_item *i = m->items;
		if (r->state != RECIPIENT_PENDING)
			continue;
		while (i != NULL && i->turn.item.site.number != r->site.number)
			i = i->next;
		if (i == NULL)
			i = item_new(e, m, r->site);
		if (i == NULL)
			return false;
		if (i->turn.state != ITEM_NEW)
			continue;
		uint16_t open = (uint16_t)(m->recipients[n].starts - m->recipients[n].closed);
		i->turn.item.recovered = i->turn.item.recovered || m->recovered || open > 0;
		if (open > i->turn.item.open_starts)
			i->turn.item.open_starts = open;
		if (open > 0 && m->recipients[n].alone)
			i->turn.item.had_run_alone = true;
		if (r->retry_at_ms < i->turn.item.due_at_ms)
			i->turn.item.due_at_ms = r->retry_at_ms;
	}
	return true;
}

/* ---- coming and going ---- */

static void
look_idle(struct redis_end *e, struct redis_mail *m)
{
	bool is_idle = m->busy == 0 && m->items != NULL;

	if (is_idle == list_is_linked(&m->idle))
		return;
	if (is_idle) {
		m->idle_since_ms = e->queue.worker->now_ms;
		list_append(&e->idle, &m->idle);
		e->idle_count++;
		return;
	}
	list_unlink(&m->idle);
	e->idle_count--;
	if (e->hungry && e->idle_count <= REDIS_IDLE_MOST / 2)
		worker_soon(e->queue.worker, &e->fetch_task);
}

void
owned_add(struct redis_end *e, struct redis_mail *m)
{
	struct redis_mail **at = place_of(e, m->mail.id);

	ASSERT(*at == NULL);
	*at = m;
	lease_note_ours(m, e->came_until_ms);
	e->mail_count++;
	atomic_fetch_add(&e->store->leases[m->shard].owned, 1);
	look_idle(e, m);
}

void
owned_free(struct redis_end *e, struct redis_mail *m)
{
	while (m->items != NULL)
		owned_item_free(e, m->items);
	for (uint32_t n = 0; n < m->envelope.recipient_count; n++)
		free(m->recipients[n].reply);
	if (m->mail.body != NULL)
		body_put(m->mail.body);
	if (list_is_linked(&m->leave))
		list_unlink(&m->leave);
	if (list_is_linked(&m->idle)) {
		list_unlink(&m->idle);
		e->idle_count--;
	}
	e->budget.used_bytes -= m->size;
	free(m->envelope.recipients);
	OBJ_FINI(&m->mail, QUEUE_MAIL_MAGIC);
	pool_put(&e->mails, m);
}

void
owned_forget(struct redis_end *e, struct redis_mail *m)
{
	struct redis_mail **at = place_of(e, m->mail.id);

	ASSERT(*at == m && m->busy == 0);
	*at = m->next;
	e->mail_count--;
	atomic_fetch_sub(&e->store->leases[m->shard].owned, 1);
	owned_free(e, m);
}

void
owned_lose(struct redis_end *e, struct redis_mail *m)
{
	struct redis_item *next;

	m->leaving = false;
	for (struct redis_item *i = m->items; i != NULL; i = next) {
		next = i->next;
		if (i->turn.state == ITEM_WAITING || i->turn.state == ITEM_LEAVING ||
		    i->turn.state == ITEM_NEW)
			owned_item_free(e, i);
	}
	if (m->items == NULL)
		owned_forget(e, m);
}

/* ---- items ---- */

static void
free_recipients(struct redis_item *i)
{
	if (i->turn.item.recipients != &i->turn.only_recipient)
		free((void *)(uintptr_t)i->turn.item.recipients);
	i->turn.item.recipients = NULL;
	i->turn.item.recipient_count = 0;
}

static bool
is_busy(const struct redis_item *i)
{
	return i->turn.state == ITEM_LOADING || i->turn.state == ITEM_CLAIMED ||
	       i->turn.state == ITEM_RECORDING;
}

static void
set_state(struct redis_end *e, struct redis_item *i, uint8_t state)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	bool was_busy = is_busy(i);

	if (i->turn.state == ITEM_WAITING)
		turns_take(&i->turn);
	i->turn.state = state & 7U;
	m->busy += is_busy(i);
	m->busy -= was_busy;
	e->claimed_count += is_busy(i);
	e->claimed_count -= was_busy;
	if (owned_find(e, m->mail.id) == m)
		look_idle(e, m);
}

void
owned_item_wait(struct redis_end *e, struct redis_item *i, uint64_t due_at_ms)
{
	ASSERT(i->turn.state != ITEM_WAITING);
	free_recipients(i);
	set_state(e, i, ITEM_WAITING);
	i->turn.item.due_at_ms = due_at_ms;
	turns_wait(&i->turn);
}

void
owned_item_take(struct redis_end *e, struct redis_item *i, uint8_t state)
{
	ASSERT(i->turn.state == ITEM_WAITING);
	set_state(e, i, state);
}

void
owned_item_busy(struct redis_end *e, struct redis_item *i, uint8_t state)
{
	ASSERT(i->turn.state != ITEM_WAITING);
	set_state(e, i, state);
}

void
owned_item_free(struct redis_end *e, struct redis_item *i)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	struct redis_item **at = &m->items;

	set_state(e, i, ITEM_NEW);
	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	free_recipients(i);
	if (list_is_linked(&i->node))
		list_unlink(&i->node);
	turns_unname(i->turn.lane);
	e->item_count--;
	OBJ_FINI(&i->turn.item, QUEUE_ITEM_MAGIC);
	pool_put(&e->items, i);
}

bool
owned_item_fill_recipients(struct redis_item *i)
{
	const struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	const struct mail_recipient *all = m->envelope.recipients;
	uint32_t *indexes = &i->turn.only_recipient;
	uint32_t site = i->turn.item.site.number;
	uint32_t count = 0;

	for (uint32_t n = 0; n < m->envelope.recipient_count; n++)
		count += all[n].state == RECIPIENT_PENDING && all[n].site.number == site;
	if (count > 1)
		indexes = malloc(count * sizeof *indexes);
	if (indexes == NULL)
		return false;
	count = 0;
	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		if (all[n].state == RECIPIENT_PENDING && all[n].site.number == site)
			indexes[count++] = n;
	}
	ASSERT(count > 0);
	i->turn.item.recipients = indexes;
	i->turn.item.recipient_count = count;
	return true;
}

/* ---- recipients ---- */

uint64_t
owned_due_at_ms(const struct redis_mail *m, uint32_t *recipient)
{
	const struct redis_item *first = NULL;

	for (const struct redis_item *i = m->items; i != NULL; i = i->next) {
		bool is_earlier =
			first == NULL || i->turn.item.due_at_ms < first->turn.item.due_at_ms;
		if (!is_busy(i) && is_earlier)
			first = i;
	}
	for (uint32_t n = 0; first != NULL && n < m->envelope.recipient_count; n++) {
		const struct mail_recipient *r = &m->envelope.recipients[n];
		if (r->state != RECIPIENT_PENDING || r->site.number != first->turn.item.site.number)
			continue;
		*recipient = n;
		return first->turn.item.due_at_ms;
	}
	return UINT64_MAX;
}

struct pack_state
owned_state(const struct redis_mail *m, uint32_t recipient)
{
	const struct mail_recipient *r = &m->envelope.recipients[recipient];
	const struct redis_recipient *more = &m->recipients[recipient];

	return (struct pack_state){
		.state = r->state,
		.notified = r->notified,
		.alone = more->alone,
		.starts = more->starts,
		.closed = more->closed,
		.attempts = r->attempts,
		.retry_at_ms = r->retry_at_ms,
		.reply = r->reply,
	};
}

void
owned_set_state(struct redis_mail *m, uint32_t recipient, const struct pack_state *s)
{
	struct mail_recipient *r = &m->envelope.recipients[recipient];
	struct redis_recipient *more = &m->recipients[recipient];
	struct span reply = span_first(s->reply, PACK_REPLY_MOST);

	if (reply.data != r->reply.data) {
		free(more->reply);
		more->reply = reply.size == 0 ? NULL : malloc(reply.size);
		if (more->reply != NULL)
			memcpy(more->reply, reply.data, reply.size);
		r->reply = span_of((uint8_t *)more->reply, more->reply == NULL ? 0 : reply.size);
	}
	r->state = s->state;
	r->notified = s->notified;
	r->attempts = s->attempts;
	r->retry_at_ms = s->retry_at_ms;
	more->starts = s->starts;
	more->closed = s->closed;
	more->alone = s->alone;
}
