/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails and items in memory, found by id; turns/ has items by site and time.
 *
 * Buckets are numbered by the leading bits of a hash, so that doubling splits bucket b into 2b and
 * 2b + 1: a cursor in hash order stays true while the table grows, which it does a few buckets at
 * each insertion and never at once. Addresses are not kept; the PUT is read when an item is
 * claimed.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/spool/internal.h"

enum {
	BITS_LEAST = 10,
	BITS_MOST = 30,
	MIGRATE_STEP = 4,
	REPLY_BUCKETS = 4096,
	NOTICE_SHARE = 16, /* one in so many mails */
	NOTICE_LEAST = 64,
};

static uint64_t
hash_of(struct mail_id id)
{
	uint64_t h = (id.high ^ (id.low << 32 | id.low >> 32)) * 0x9e3779b97f4a7c15U;

	return (h ^ h >> 29) * 0xbf58476d1ce4e5b9U;
}

bool
index_init(struct spool_end *e, uint64_t mails)
{
	e->bucket_bits = BITS_LEAST;
	while (e->bucket_bits < BITS_MOST && (uint64_t)1 << e->bucket_bits < mails)
		e->bucket_bits++;
	e->buckets = calloc((size_t)1 << e->bucket_bits, sizeof(struct spool_mail *));
	e->replies = calloc(REPLY_BUCKETS, sizeof(struct spool_reply *));
	/* Above the limit there is room for notices: outcomes that are kept with one must not wait
	 * for room that only outcomes make. */
	size_t most = e->spool->options.items_max;
	most += most / NOTICE_SHARE + NOTICE_LEAST;
	pool_init(&e->mails, sizeof(struct spool_mail), most);
	pool_init(&e->items, sizeof(struct spool_item), most);
	return e->buckets != NULL && e->replies != NULL && names_init(e);
}

/* ---- by id ---- */

static struct spool_mail **
bucket_of(struct spool_end *e, uint64_t hash)
{
	uint64_t b = hash >> (64 - e->bucket_bits);

	if (e->new_buckets != NULL && b < e->migrated)
		return &e->new_buckets[hash >> (63 - e->bucket_bits)];
	return &e->buckets[b];
}

static void
migrate(struct spool_end *e)
{
	uint64_t count = (uint64_t)1 << e->bucket_bits;

	for (int i = 0; i < MIGRATE_STEP && e->migrated < count; i++) {
		struct spool_mail *m = e->buckets[e->migrated];
		while (m != NULL) {
			struct spool_mail *next = m->next;
			struct spool_mail **to =
				&e->new_buckets[hash_of(m->mail.id) >> (63 - e->bucket_bits)];
			m->next = *to;
			*to = m;
			m = next;
		}
		e->buckets[e->migrated++] = NULL;
	}
	if (e->migrated < count)
		return;
	free(e->buckets);
	e->buckets = e->new_buckets;
	e->new_buckets = NULL;
	e->bucket_bits++;
	e->oldest_at *= 2;
}

static void
grow(struct spool_end *e)
{
	uint64_t count = (uint64_t)1 << e->bucket_bits;

	if (e->new_buckets == NULL && e->mail_count > count && e->bucket_bits < BITS_MOST) {
		e->new_buckets = calloc(2 * count, sizeof(struct spool_mail *));
		e->migrated = 0; /* no memory: longer chains, tried again */
	}
	if (e->new_buckets != NULL)
		migrate(e);
}

struct spool_mail *
index_find(struct spool_end *e, struct mail_id id)
{
	struct spool_mail *m = *bucket_of(e, hash_of(id));

	while (m != NULL && !mail_id_eq(m->mail.id, id))
		m = m->next;
	return m;
}

void
index_insert(struct spool_end *e, struct spool_mail *m)
{
	struct spool_mail **bucket;

	e->mail_count++;
	grow(e);
	bucket = bucket_of(e, hash_of(m->mail.id));
	m->next = *bucket;
	*bucket = m;
	if (e->oldest_ms == 0 || m->accepted_at_ms < e->oldest_ms)
		e->oldest_ms = m->accepted_at_ms;
	if (m->accepted_at_ms < e->oldest_walk_ms)
		e->oldest_walk_ms = m->accepted_at_ms;
}

void
index_remove(struct spool_end *e, struct spool_mail *m)
{
	struct spool_mail **at = bucket_of(e, hash_of(m->mail.id));

	while (*at != m) {
		ASSERT(*at != NULL);
		at = &(*at)->next;
	}
	*at = m->next;
	ASSERT(e->mail_count > 0);
	e->mail_count--;
}

/* ---- replies: kept once, counted ---- */

static void
reply_put(struct spool_end *e, struct spool_reply *r)
{
	struct spool_reply **at = &e->replies[r->hash % REPLY_BUCKETS];

	if (--r->references > 0)
		return;
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	e->reply_bytes -= sizeof *r + r->size;
	free(r);
}

static struct spool_reply *
reply_get(struct spool_end *e, struct span text)
{
	uint32_t hash = (uint32_t)span_hash_nocase(text, e->spool->hash_seed);
	struct spool_reply **bucket = &e->replies[hash % REPLY_BUCKETS];

	for (struct spool_reply *r = *bucket; r != NULL; r = r->next) {
		if (r->hash == hash && span_eq(span_of(r->text, r->size), text)) {
			r->references++;
			return r;
		}
	}
	struct spool_reply *r = NULL;
	if (e->reply_bytes + sizeof *r + text.size <= e->reply_bytes_most)
		r = malloc(sizeof *r + text.size);
	if (r == NULL) {
		e->counters.replies_dropped++;
		return NULL;
	}
	*r = (struct spool_reply){ .next = *bucket, .references = 1, .hash = hash };
	r->size = (uint16_t)text.size;
	memcpy(r->text, text.data, text.size);
	*bucket = r;
	e->reply_bytes += sizeof *r + text.size;
	return r;
}

void
recipient_set_reply(struct spool_end *e, struct spool_recipient *r, struct span text)
{
	struct spool_reply *old = r->reply;

	text = span_first(text, RECORD_REPLY_MOST);
	r->reply = span_is_empty(text) ? NULL : reply_get(e, text);
	if (old != NULL)
		reply_put(e, old);
}

void
recipient_set_state(struct spool_end *e, struct spool_recipient *r, uint8_t state)
{
	if (r->state == RECIPIENT_FAILED)
		e->failed_recipients--;
	if (state == RECIPIENT_FAILED)
		e->failed_recipients++;
	r->state = state & 7U;
}

void
recipient_set_attempts(struct spool_recipient *r, uint32_t attempts)
{
	r->attempts = (attempts < SPOOL_ATTEMPTS_MOST ? attempts : SPOOL_ATTEMPTS_MOST) & 1023U;
}

uint32_t
name_hash(const struct spool_end *e, struct span address)
{
	return (uint32_t)span_hash_nocase(address, e->spool->hash_seed);
}

struct span
name_of_domain(struct span address)
{
	size_t at = address.size;

	while (at > 0 && address.data[at - 1] != '@')
		at--;
	return at == 0 ? span_none() : span_after(address, at);
}

void
recipient_set_address(struct spool_end *e, struct spool_recipient *r, struct span address)
{
	r->address_hash = name_hash(e, address);
	r->domain = name_get(e, name_of_domain(address));
}

void
mail_set_sender(struct spool_end *e, struct spool_mail *m, struct span sender)
{
	m->sender_domain = name_get(e, name_of_domain(sender)) & ((1U << 15) - 1);
}

void
recipient_show(const struct spool_recipient *r, struct mail_recipient *out)
{
	out->state = r->state;
	out->site = r->site;
	out->attempts = r->attempts;
	out->notified = r->notified;
	out->retry_at_ms = r->retry_at_ms;
	out->reply = r->reply == NULL ? span_none() : span_of(r->reply->text, r->reply->size);
}

/* ---- items ---- */

static uint64_t *
state_count(struct spool_end *e, uint8_t state)
{
	switch ((enum spool_item_state)state) {
	case ITEM_NEW:
		break;
	case ITEM_WAITING:
	case ITEM_BUSY:
		return &e->waiting;
	case ITEM_HELD:
		return &e->held;
	case ITEM_CLAIMED:
	case ITEM_RECORDING:
		return &e->claimed;
	}
	return NULL;
}

void
item_set_state(struct spool_end *e, struct spool_item *i, uint8_t state)
{
	uint64_t *from = state_count(e, i->turn.state);
	uint64_t *to = state_count(e, state);

	if (from != NULL)
		(*from)--;
	if (to != NULL)
		(*to)++;
	i->turn.state = state & 7U;
}

void
item_wait(struct spool_end *e, struct spool_item *i, uint64_t due_at_ms)
{
	struct spool_mail *m = spool_mail_of(i->turn.item.mail);

	ASSERT(i->turn.state != ITEM_WAITING && i->turn.state != ITEM_HELD);
	i->turn.item.due_at_ms = due_at_ms;
	if (i->turn.item.recipients != &i->turn.only_recipient)
		free((void *)(uintptr_t)i->turn.item.recipients);
	i->turn.item.recipients = NULL;
	i->turn.item.recipient_count = 0;
	if (mail_is_held(m)) {
		item_set_state(e, i, ITEM_HELD);
		return;
	}
	item_set_state(e, i, ITEM_WAITING);
	turns_wait(&i->turn);
}

void
item_take(struct spool_end *e, struct spool_item *i, uint8_t state)
{
	ASSERT(i->turn.state == ITEM_WAITING || i->turn.state == ITEM_HELD);
	if (i->turn.state == ITEM_WAITING)
		turns_take(&i->turn);
	item_set_state(e, i, state);
}

static struct spool_item *
item_new(struct spool_end *e, struct spool_mail *m, struct site_id id, struct span sender)
{
	uint32_t key = 0;
	struct turns_lane *lane = turns_name(&e->turns, id, sender, &key);
	struct spool_item *i = lane == NULL ? NULL : pool_get(&e->items);

	if (i == NULL) {
		if (lane != NULL)
			turns_unname(lane);
		return NULL;
	}
	*i = (struct spool_item){ .turn = { .lane = lane, .state = ITEM_NEW }, .next = m->items };
	OBJ_INIT(&i->turn.item, QUEUE_ITEM_MAGIC);
	i->turn.item.mail = &m->mail;
	i->turn.item.site = id;
	i->turn.item.sender_key = key;
	i->turn.item.due_at_ms = UINT64_MAX;
	m->items = i;
	return i;
}

void
item_free(struct spool_end *e, struct spool_item *i)
{
	struct spool_item **at = &spool_mail_of(i->turn.item.mail)->items;

	if (i->turn.state == ITEM_WAITING)
		turns_take(&i->turn);
	item_set_state(e, i, ITEM_NEW);
	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	if (i->turn.item.recipients != &i->turn.only_recipient)
		free((void *)(uintptr_t)i->turn.item.recipients);
	turns_unname(i->turn.lane);
	OBJ_FINI(&i->turn.item, QUEUE_ITEM_MAGIC);
	pool_put(&e->items, i);
}

/* Notes the pending recipients of an item that is being claimed and brings its part of the
 * envelope up to date. */
bool
item_fill_recipients(struct spool_end *e, struct spool_item *i)
{
	struct spool_mail *m = spool_mail_of(i->turn.item.mail);
	struct spool_recipient *all = mail_recipients(m);
	struct mail_recipient *envelope = mail_loaded(m)->recipients;
	uint32_t *indexes = &i->turn.only_recipient;
	uint32_t count = 0;

	(void)e;
	for (uint32_t n = 0; n < m->recipient_count; n++)
		count += all[n].state == RECIPIENT_PENDING &&
			 all[n].site.number == i->turn.item.site.number;
	if (count > 1)
		indexes = malloc(count * sizeof *indexes);
	if (indexes == NULL)
		return false;
	count = 0;
	for (uint32_t n = 0; n < m->recipient_count; n++) {
		if (all[n].state != RECIPIENT_PENDING ||
		    all[n].site.number != i->turn.item.site.number)
			continue;
		indexes[count++] = n;
		recipient_show(&all[n], &envelope[n]);
	}
	ASSERT(count > 0);
	i->turn.item.recipients = indexes;
	i->turn.item.recipient_count = count;
	return true;
}

/* ---- mails ---- */

struct spool_mail *
mail_new(struct spool_end *e, struct mail_id id, uint32_t recipient_count)
{
	const uint32_t most = (1U << SPOOL_RECIPIENT_BITS) - 1;
	bool fits = recipient_count > 0 && recipient_count <= most;
	struct spool_mail *m = fits ? pool_get(&e->mails) : NULL;

	if (m == NULL)
		return NULL;
	*m = (struct spool_mail){
		.recipient_count = recipient_count & ((1U << SPOOL_RECIPIENT_BITS) - 1),
	};
	OBJ_INIT(&m->mail, QUEUE_MAIL_MAGIC);
	m->mail.worker = (uint16_t)e->queue.worker->number;
	m->mail.place = QUEUE_IN_SPOOL;
	m->mail.id = id;
	if (recipient_count > 1) {
		m->recipients.many = calloc(recipient_count, sizeof *m->recipients.many);
		if (m->recipients.many == NULL) {
			pool_put(&e->mails, m);
			return NULL;
		}
		e->memory_bytes += recipient_count * sizeof *m->recipients.many;
	}
	return m;
}

void
mail_free(struct spool_end *e, struct spool_mail *m)
{
	struct spool_recipient *all = mail_recipients(m);

	ASSERT(m->segment == NULL);
	while (m->items != NULL)
		item_free(e, m->items);
	mail_unload(e, m);
	for (uint32_t i = 0; i < m->recipient_count; i++) {
		recipient_set_reply(e, &all[i], span_none());
		recipient_set_state(e, &all[i], RECIPIENT_PENDING);
		name_put(e, all[i].domain);
	}
	name_put(e, m->sender_domain);
	if (m->recipient_count > 1) {
		e->memory_bytes -= m->recipient_count * sizeof *all;
		free(m->recipients.many);
	}
	OBJ_FINI(&m->mail, QUEUE_MAIL_MAGIC);
	pool_put(&e->mails, m);
}

void
mail_describe(struct spool_mail *m, uint64_t accepted_at_ms, uint64_t body_size, bool in_file)
{
	ASSERT(body_size >> SPOOL_BODY_BITS == 0);
	m->accepted_at_ms = accepted_at_ms & (((uint64_t)1 << SPOOL_TIME_BITS) - 1);
	m->body_size = body_size & (((uint64_t)1 << SPOOL_BODY_BITS) - 1);
	m->in_file = in_file;
}

uint64_t
mail_log_size(const struct spool_mail *m)
{
	return record_size(m->meta_size, m->in_file ? 0 : m->body_size);
}

void
mail_place(struct spool_mail *m, struct spool_segment *s, uint64_t place, uint32_t meta_size)
{
	ASSERT(m->segment == NULL && place <= UINT32_MAX && place % 8 == 0);
	m->segment = s;
	m->place_by_8 = (place / 8) & (((uint64_t)1 << 29) - 1);
	m->meta_size = meta_size & (((uint64_t)1 << 20) - 1);
	s->live++;
	s->live_bytes += mail_log_size(m);
	s->end->bytes_live += mail_log_size(m);
	list_append(&s->mails, &m->by_segment);
}

void
mail_unplace(struct spool_mail *m)
{
	struct spool_segment *s = m->segment;

	ASSERT(s->live > 0 && s->live_bytes >= mail_log_size(m));
	s->live--;
	s->live_bytes -= mail_log_size(m);
	s->end->bytes_live -= mail_log_size(m);
	list_unlink(&m->by_segment);
	m->segment = NULL;
}

bool
mail_make_items(struct spool_end *e, struct spool_mail *m, struct span sender)
{
	const struct spool_recipient *all = mail_recipients(m);

	for (uint32_t n = 0; n < m->recipient_count; n++) {
		struct spool_item *i = m->items;
		if (all[n].state != RECIPIENT_PENDING)
			continue;
		while (i != NULL && i->turn.item.site.number != all[n].site.number)
			i = i->next;
		if (i == NULL && item_new(e, m, all[n].site, sender) == NULL)
			return false;
	}
	return true;
}

/* False: none of its recipients is pending. */
static bool
item_look(struct spool_mail *m, struct spool_item *i)
{
	const struct spool_recipient *all = mail_recipients(m);
	bool any = false;

	for (uint32_t n = 0; n < m->recipient_count; n++) {
		if (all[n].state != RECIPIENT_PENDING ||
		    all[n].site.number != i->turn.item.site.number)
			continue;
		uint16_t open = (uint16_t)(all[n].starts - all[n].closed);
		if (open > i->turn.item.open_starts)
			i->turn.item.open_starts = open;
		if (open > 0 && all[n].alone)
			i->turn.item.had_run_alone = true;
		if (all[n].retry_at_ms < i->turn.item.due_at_ms)
			i->turn.item.due_at_ms = all[n].retry_at_ms;
		any = true;
	}
	return any;
}

void
mail_set_items(struct spool_end *e, struct spool_mail *m, bool recovered)
{
	struct spool_item *next;

	for (struct spool_item *i = m->items; i != NULL; i = next) {
		next = i->next;
		if (i->turn.state != ITEM_NEW)
			continue; /* it was there before */
		i->turn.item.recovered = recovered;
		if (!item_look(m, i))
			item_free(e, i);
	}
}

bool
mail_is_finished(struct spool_mail *m)
{
	const struct spool_recipient *all = mail_recipients(m);

	for (uint32_t i = 0; i < m->recipient_count; i++) {
		if (all[i].state == RECIPIENT_PENDING)
			return false;
	}
	return true;
}

bool
mail_has_claims(const struct spool_mail *m)
{
	for (const struct spool_item *i = m->items; i != NULL; i = i->next) {
		if (i->turn.state == ITEM_CLAIMED || i->turn.state == ITEM_RECORDING)
			return true;
	}
	return false;
}

void
mail_unload(struct spool_end *e, struct spool_mail *m)
{
	if (m->mail.body != NULL)
		body_put(m->mail.body);
	m->mail.body = NULL;
	if (m->mail.envelope == NULL)
		return;
	struct spool_loaded *l = mail_loaded(m);
	m->mail.envelope = NULL;
	loaded_free(e, l);
}

void
mail_end(struct spool_end *e, struct spool_mail *m)
{
	struct spool_segment *s = m->segment;

	index_remove(e, m);
	mail_unplace(m);
	if (m->in_file) {
		atomic_fetch_add(&e->spool->bytes_left, (int_fast64_t)block_up(m->body_size));
		spool_file_remove(e, m->mail.id);
	}
	mail_free(e, m);
	if (s->live == 0)
		segment_try_free(s);
}

/* ---- envelopes in memory ---- */

struct spool_loaded *
loaded_new(struct spool_end *e, uint32_t recipient_count, size_t text_size)
{
	size_t size = sizeof(struct spool_loaded) +
		      recipient_count * sizeof(struct mail_recipient) + text_size;
	struct body_budget *b = &e->budget;

	if (size > b->most_bytes || b->used_bytes > b->most_bytes - size)
		return NULL;
	struct spool_loaded *l = calloc(1, size);
	if (l == NULL)
		return NULL;
	b->used_bytes += size;
	l->size = size;
	l->fd = -1;
	l->envelope.recipient_count = recipient_count;
	l->envelope.recipients = l->recipients;
	return l;
}

void
loaded_free(struct spool_end *e, struct spool_loaded *l)
{
	if (l->fd >= 0)
		spool_file_close(e, l->fd);
	ASSERT(e->budget.used_bytes >= l->size);
	e->budget.used_bytes -= l->size;
	free(l);
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

struct spool_loaded *
loaded_copy(struct spool_end *e, const struct mail_envelope *from, struct span block_crcs)
{
	size_t text = block_crcs.size + from->sender.size + from->envid.size + from->client.size;

	for (uint32_t i = 0; i < from->recipient_count; i++)
		text += from->recipients[i].address.size + from->recipients[i].orcpt.size;
	struct spool_loaded *l = loaded_new(e, from->recipient_count, text);
	if (l == NULL)
		return NULL;
	uint8_t *at = (uint8_t *)&l->recipients[from->recipient_count];
	l->envelope = *from;
	l->envelope.recipients = l->recipients;
	l->envelope.sender = copy_text(&at, from->sender);
	l->envelope.envid = copy_text(&at, from->envid);
	l->envelope.client = copy_text(&at, from->client);
	l->block_crcs = copy_text(&at, block_crcs);
	for (uint32_t i = 0; i < from->recipient_count; i++) {
		l->recipients[i] = from->recipients[i];
		l->recipients[i].address = copy_text(&at, from->recipients[i].address);
		l->recipients[i].orcpt = copy_text(&at, from->recipients[i].orcpt);
		l->recipients[i].reply = span_none(); /* kept in the index */
	}
	return l;
}

/* The envelope as the PUT says, with the states as they are now. */
struct spool_loaded *
loaded_read(struct spool_end *e, struct spool_mail *m, const struct record *r)
{
	const struct spool_recipient *now = mail_recipients(m);
	struct span rest = r->rest;
	struct record_starts starts;

	ASSERT(r->count == m->recipient_count);
	struct spool_loaded *l = loaded_new(e, r->count, r->meta_size);
	if (l == NULL)
		return NULL;
	uint8_t *at = (uint8_t *)&l->recipients[r->count];
	l->body_kind = r->body_kind;
	l->body_crc = r->body_crc;
	l->envelope.id = r->id;
	l->envelope.accepted_at_ms = r->accepted_at_ms;
	l->envelope.body_size = r->mail_size;
	l->envelope.flags = r->flags;
	l->envelope.ret = r->ret;
	l->envelope.sender = copy_text(&at, r->sender);
	l->envelope.envid = copy_text(&at, r->envid);
	l->envelope.client = copy_text(&at, r->client);
	l->block_crcs = copy_text(&at, r->block_crcs);
	for (uint32_t i = 0; i < r->count; i++) {
		struct mail_recipient *to = &l->recipients[i];
		record_next_recipient(&rest, r->version, to, &starts);
		to->address = copy_text(&at, to->address);
		to->orcpt = copy_text(&at, to->orcpt);
		recipient_show(&now[i], to);
	}
	return l;
}

/* ---- walking ---- */

static void
classify(struct spool_end *e, struct spool_mail *m)
{
	const struct spool_recipient *all = mail_recipients(m);
	uint64_t now_ms = e->queue.worker->now_wall_ms;
	uint64_t age_ms = now_ms > m->accepted_at_ms ? now_ms - m->accepted_at_ms : 0;

	for (const struct spool_item *i = m->items; i != NULL; i = i->next) {
		uint16_t attempts = 0;
		if (i->turn.state != ITEM_WAITING && i->turn.state != ITEM_BUSY)
			continue;
		for (uint32_t n = 0; n < m->recipient_count; n++) {
			if (all[n].state == RECIPIENT_PENDING &&
			    all[n].site.number == i->turn.item.site.number &&
			    all[n].attempts > attempts)
				attempts = all[n].attempts;
		}
		e->classes_walk.ages[queue_age_class(age_ms)]++;
		e->classes_walk.attempts[queue_attempts_class(attempts)]++;
	}
}

void
index_walk_oldest(struct spool_end *e)
{
	enum {
		LEAST = 64,
		STEPS = 500
	}; /* upkeep comes ten times a second: a walk takes less than a minute */
	uint64_t count = (uint64_t)1 << e->bucket_bits;
	uint64_t end = e->oldest_at + count / STEPS + LEAST;

	for (; e->oldest_at < end && e->oldest_at < count; e->oldest_at++) {
		/* While the table grows, both halves of what was bucket b. */
		bool is_split = e->new_buckets != NULL && e->oldest_at < e->migrated;
		for (unsigned half = 0; half < (is_split ? 2 : 1); half++) {
			uint64_t h = (2 * e->oldest_at + half) << (63 - e->bucket_bits);
			for (struct spool_mail *m = *bucket_of(e, h); m != NULL; m = m->next) {
				if (m->accepted_at_ms < e->oldest_walk_ms)
					e->oldest_walk_ms = m->accepted_at_ms;
				classify(e, m);
			}
		}
	}
	if (e->oldest_at < count)
		return;
	e->oldest_ms = e->oldest_walk_ms == UINT64_MAX ? 0 : e->oldest_walk_ms;
	e->oldest_walk_ms = UINT64_MAX;
	e->oldest_at = 0;
	e->classes = e->classes_walk;
	e->classes_walk = (struct spool_classes){ 0 };
}

/* The mail in the bucket of *cursor with the least hash at or after it. */
static struct spool_mail *
next_in_bucket(struct spool_end *e, uint64_t cursor)
{
	struct spool_mail *best = NULL;

	for (struct spool_mail *m = *bucket_of(e, cursor); m != NULL; m = m->next) {
		uint64_t h = hash_of(m->mail.id);
		if (h >= cursor && (best == NULL || h < hash_of(best->mail.id)))
			best = m;
	}
	return best;
}

/* The first hash of the next bucket; 0 behind the last one. */
static uint64_t
next_bucket(struct spool_end *e, uint64_t cursor)
{
	bool is_new = e->new_buckets != NULL && cursor >> (64 - e->bucket_bits) < e->migrated;
	unsigned shift = 64 - e->bucket_bits - is_new;

	return ((cursor >> shift) + 1) << shift;
}

bool
index_step(struct spool_end *e, uint64_t *cursor, struct spool_mail **m)
{
	*m = next_in_bucket(e, *cursor);
	*cursor = *m == NULL ? next_bucket(e, *cursor) : hash_of((*m)->mail.id) + 1;
	return *cursor != 0;
}

void
index_fini(struct spool_end *e)
{
	uint64_t cursor = 0;
	bool more = e->buckets != NULL;

	while (more) {
		struct spool_mail *m = next_in_bucket(e, cursor);
		if (m == NULL) {
			cursor = next_bucket(e, cursor);
			more = cursor != 0;
			continue;
		}
		index_remove(e, m);
		if (m->segment != NULL)
			mail_unplace(m);
		mail_free(e, m);
	}
	free(e->buckets);
	free(e->new_buckets);
	free(e->replies);
	names_fini(e);
	pool_fini(&e->items);
	pool_fini(&e->mails);
}
