/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of the whole cluster: first the mails that this worker owns, then, shard for shard, those
 * that wait in Redis, or that other nodes own and have tried; then those that they have not tried
 * yet. The latter come in pages, in the order of their ids. A cursor says all that there is to say:
 * which shard, behind which id; a page that was asked for is kept under its cursor until whoever
 * asked for it comes back, since asking takes time and a list is read in slices; then it is gone,
 * since what is there changes. One mail is a page of its own.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"
#include "queue/sender.h"

enum {
	PAGE_MAILS = 64,
	PAGE_MS = 5000, /* who asked has gone away */
	/* Of those that nobody has tried: Redis may give some more than asked for. */
	PAGE_MOST = 512,
	SHARD_SHIFT = 54,
	PREFIX_BITS = 53, /* of an id in a cursor: no two mails of a shard share them */
	OWNER_BITS = 11,
	SCAN_BITS = 32,
	SKIP_BITS = 10,
};
_Static_assert(OWNER_BITS + SCAN_BITS + SKIP_BITS == PREFIX_BITS, "FRESH fits a cursor");
_Static_assert(PAGE_MOST < 1 << SKIP_BITS, "so does a place in a page");

/* Cursors: up to BUCKETS: of our own table; with REMOTE: a shard and the beginning of an id; with
 * FRESH, too, of that shard: an owner, its cursor of rp_fresh, and how many of the page are over.
 * Bit 62 is left to a store of which this one is a part. */
#define REMOTE  ((uint64_t)1 << 63)
#define FRESH   ((uint64_t)1 << PREFIX_BITS)
#define BUCKETS ((uint64_t)1 << REDIS_BUCKET_BITS)
#define ONE     UINT64_MAX

struct found {
	struct redis_mail *mail;
	uint8_t state; /* enum queue_state */
};

struct redis_page {
	struct redis_call call;
	struct redis_end *end;
	uint64_t cursor;
	struct mail_id id; /* of the mail of a page of one, whose cursor is ONE */
	bool asking;
	bool ready;
	bool is_last;
	uint64_t used;
	uint64_t next; /* cursor, where it is not the last */
	unsigned count;
	struct found mails[PAGE_MOST];
};

/* ---- which rows ---- */

static struct span
domain_of(struct span address)
{
	return span_after(address, span_find(address, '@', 0) + 1);
}

static bool
recipient_matches(const struct queue_filter *f, const struct mail_recipient *r)
{
	if (f->recipient_domain.size > 0 &&
	    !span_eq_nocase(domain_of(r->address), f->recipient_domain))
		return false;
	if (f->recipient.size > 0 && !span_eq_nocase(r->address, f->recipient))
		return false;
	if (f->reply.size == 0)
		return true;
	return r->reply.size >= f->reply.size &&
	       memmem(r->reply.data, r->reply.size, f->reply.data, f->reply.size) != NULL;
}

static bool
sender_matches(const struct queue_filter *f, struct span sender)
{
	uint8_t memory[SENDER_KEY_MOST];
	uint8_t wanted_memory[SENDER_KEY_MOST];

	if (f->null_sender)
		return sender.size == 0;
	if (f->sender.size == 0)
		return true;
	if (f->sender.data[0] == '@')
		return span_eq_nocase(domain_of(sender), span_after(f->sender, 1));
	return span_eq(sender_key(sender, memory), sender_key(f->sender, wanted_memory));
}

/* The recipients of one row: those pending at its site, or those that failed. */
static bool
fill_row(const struct queue_filter *f, const struct redis_mail *m, struct queue_row *row)
{
	bool failed = row->state == QUEUE_FAILED;
	bool matches = false;
	uint32_t count = 0;

	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		const struct mail_recipient *r = &m->envelope.recipients[n];
		if (r->state != (failed ? RECIPIENT_FAILED : RECIPIENT_PENDING) ||
		    (!failed && r->site.number != row->site.number))
			continue;
		if (count++ == 0)
			row->recipient_domain = domain_of(r->address);
		if (r->attempts > row->attempts)
			row->attempts = r->attempts;
		if (row->reply.size == 0)
			row->reply = r->reply;
		row->untold |= !r->notified;
		matches |= recipient_matches(f, r);
	}
	row->pending_count = failed ? 0 : count;
	return matches && row->attempts >= f->attempts_min;
}

static bool
mail_matches(const struct queue_filter *f, const struct redis_mail *m)
{
	return (!f->by_id || mail_id_eq(f->id, m->mail.id)) &&
	       (f->accepted_before_ms == 0 || m->envelope.accepted_at_ms < f->accepted_before_ms) &&
	       m->envelope.accepted_at_ms >= f->accepted_after_ms &&
	       sender_matches(f, m->envelope.sender);
}

/* state: of all its items; QUEUE_ANY: as each of them is. */
static bool
show_rows(const struct queue_filter *f, const struct redis_mail *m, uint8_t state,
	  bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	const struct queue_row common = { .id = m->mail.id,
					  .place = QUEUE_IN_REDIS,
					  .accepted_at_ms = m->envelope.accepted_at_ms,
					  .body_size = m->envelope.body_size,
					  .recipient_count = m->envelope.recipient_count,
					  .sender = m->envelope.sender,
					  .sender_is_known = true };
	bool more = true;

	if (!mail_matches(f, m))
		return true;
	for (const struct redis_item *i = m->items; i != NULL; i = i->next) {
		struct queue_row row = common;
		bool is_busy = i->turn.state >= ITEM_LOADING;
		row.site = i->turn.item.site;
		row.state = state != QUEUE_ANY ? state : is_busy ? QUEUE_CLAIMED : QUEUE_WAITING;
		row.due_at_ms = row.state == QUEUE_CLAIMED ? 0 : i->turn.item.due_at_ms;
		if ((f->by_site && f->site.number != row.site.number) ||
		    (f->state != QUEUE_ANY && f->state != row.state))
			continue;
		if (fill_row(f, m, &row))
			more = on_row(context, &row) && more;
	}
	if (f->state == QUEUE_FAILED && !f->by_site) {
		struct queue_row row = common;
		row.state = QUEUE_FAILED;
		if (fill_row(f, m, &row))
			more = on_row(context, &row) && more;
	}
	return more;
}

/* ---- pages ---- */

static uint64_t
prefix_of(struct mail_id id)
{
	return id.high >> (64 - PREFIX_BITS);
}

static uint64_t
cursor_of(unsigned shard, uint64_t prefix)
{
	return REMOTE | (uint64_t)shard << SHARD_SHIFT | prefix;
}

static unsigned
cursor_shard(uint64_t cursor)
{
	return (unsigned)((cursor & ~REMOTE) >> SHARD_SHIFT);
}

static uint64_t
cursor_fresh(unsigned shard, uint64_t owner, uint64_t scan, uint64_t skip)
{
	return cursor_of(shard,
			 FRESH | owner << (SCAN_BITS + SKIP_BITS) | scan << SKIP_BITS | skip);
}

static uint64_t
bits_of(uint64_t cursor, unsigned from, unsigned count)
{
	return cursor >> from & (((uint64_t)1 << count) - 1);
}

static void
page_clear(struct redis_page *p)
{
	for (unsigned i = 0; i < p->count; i++)
		owned_free(p->end, p->mails[i].mail);
	p->count = 0;
	p->ready = p->is_last = false;
}

/* What this node owns is in the tables of its workers. */
static void
take_mail(struct redis_page *p, struct mail_id id, const struct redisReply *fields)
{
	struct redis_end *e = p->end;
	struct span ours = span_of((uint8_t *)e->store->incarnation, REDIS_INCARNATION_SIZE);
	enum err why;

	if (fields == NULL || fields->type != REDIS_REPLY_ARRAY || fields->elements == 0)
		return;
	struct span owner = mail_owner(fields);
	if (span_eq(owner, ours))
		return;
	struct redis_mail *m = mail_read(e, id, fields, &why);
	if (m == NULL)
		return;
	if (!owned_find_sites(e, m) || !owned_make_items(e, m)) {
		owned_free(e, m);
		return;
	}
	p->mails[p->count++] = (struct found){
		.mail = m,
		.state = owner.size > 0         ? QUEUE_CLAIMED
			 : mail_is_held(fields) ? QUEUE_HELD
						: QUEUE_WAITING,
	};
}

/* Returns the id of the last one. */
static struct mail_id
take_rows(struct redis_page *p, const struct redisReply *reply, size_t from)
{
	struct mail_id id = { 0 };

	for (size_t i = from; i < reply->elements && p->count < PAGE_MOST; i++) {
		const struct redisReply *row = reply->element[i];
		if (id_of_hex(redis_text(redis_at(row, 0)), &id))
			take_mail(p, id, redis_at(row, 1));
	}
	return id;
}

static void
take_indexed(struct redis_page *p, const struct redisReply *reply)
{
	unsigned shard = cursor_shard(p->cursor);
	struct mail_id last = take_rows(p, reply, 0);

	p->next = reply->elements < PAGE_MAILS ? cursor_fresh(shard, 0, 0, 0)
					       : cursor_of(shard, prefix_of(last));
}

static void
take_fresh(struct redis_page *p, const struct redisReply *reply)
{
	int64_t owner = -1;
	uint64_t scan = 0;

	take_rows(p, reply, 2);
	bool is_known = redis_number(redis_at(reply, 0), &owner) &&
			span_to_u64(redis_text(redis_at(reply, 1)), &scan);
	p->is_last = !is_known || owner < 0 || owner >> OWNER_BITS != 0 || scan >> SCAN_BITS != 0;
	if (!p->is_last)
		p->next = cursor_fresh(cursor_shard(p->cursor), (uint64_t)owner, scan, 0);
}

static void
on_page(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_page *p = CONTAINER_OF(c, struct redis_page, call);

	p->end->calls_open--;
	p->asking = false;
	p->used = p->end->queue.worker->now_ms;
	if (error != ERR_OK || reply->type != REDIS_REPLY_ARRAY) {
		p->cursor = 0; /* asked for again by whoever wants it */
		return;
	}
	if (p->cursor == ONE)
		take_mail(p, p->id, reply);
	else if (p->cursor & FRESH)
		take_fresh(p, reply);
	else
		take_indexed(p, reply);
	p->ready = true;
}

static void
page_ask(struct redis_page *p, uint64_t cursor)
{
	struct redis_end *e = p->end;
	unsigned shard = cursor_shard(cursor);
	struct redis_link *link = redis_servers_link(e->servers, shard);
	uint64_t prefix = bits_of(cursor, 0, PREFIX_BITS);
	uint8_t text[REDIS_ID_SIZE];
	struct buf after = buf_of(text, sizeof text);

	if (link == NULL || redis_link_is_full(link) || !args_begin(e, "rp_scan", shard, 2, 64))
		return;
	/* Behind all ids that begin so. */
	id_hex(&after, (struct mail_id){ prefix << (64 - PREFIX_BITS) |
						 (((uint64_t)1 << (64 - PREFIX_BITS)) - 1),
					 UINT64_MAX });
	args_span(e, prefix == 0 ? span_none() : buf_span(&after));
	args_number(e, PAGE_MAILS);
	p->cursor = cursor;
	p->asking = true;
	args_send(e, link, &p->call);
}

static void
page_ask_fresh(struct redis_page *p, uint64_t cursor)
{
	struct redis_end *e = p->end;
	unsigned shard = cursor_shard(cursor);
	struct redis_link *link = redis_servers_link(e->servers, shard);

	if (link == NULL || redis_link_is_full(link) || !args_begin(e, "rp_fresh", shard, 4, 64))
		return;
	args_incarnation(e);
	args_number(e, bits_of(cursor, SCAN_BITS + SKIP_BITS, OWNER_BITS));
	args_number(e, bits_of(cursor, SKIP_BITS, SCAN_BITS));
	args_number(e, PAGE_MAILS);
	p->cursor = cursor;
	p->asking = true;
	args_send(e, link, &p->call);
}

static void
page_ask_one(struct redis_page *p, struct mail_id id)
{
	struct redis_end *e = p->end;
	unsigned shard = shard_of(e->store, id);
	struct redis_link *link = redis_servers_link(e->servers, shard);

	if (link == NULL || redis_link_is_full(link) || !args_begin(e, NULL, 0, 2, REDIS_NAME_MOST))
		return;
	args_span(e, SPAN("HGETALL"));
	args_mail_key(e, id, shard);
	p->cursor = ONE;
	p->id = id;
	p->asking = true;
	args_send(e, link, &p->call);
}

/* The page of this cursor (ONE: of this mail), which may be on its way still; NULL: none can be had
 * now. */
static struct redis_page *
page_get(struct redis_end *e, uint64_t cursor, struct mail_id id)
{
	uint64_t now_ms = e->queue.worker->now_ms;
	struct redis_page *oldest = NULL;

	for (unsigned i = 0; i < REDIS_PAGES; i++) {
		struct redis_page *p = &e->pages[i];
		if (p->ready && now_ms - p->used > PAGE_MS)
			page_clear(p);
		if (p->cursor == cursor && (p->ready || p->asking) &&
		    (cursor != ONE || mail_id_eq(p->id, id)))
			return p;
		if (!p->asking && (oldest == NULL || p->used < oldest->used))
			oldest = p;
	}
	if (oldest != NULL) {
		page_clear(oldest);
		oldest->used = now_ms;
		if (cursor == ONE)
			page_ask_one(oldest, id);
		else if (cursor & FRESH)
			page_ask_fresh(oldest, cursor);
		else
			page_ask(oldest, cursor);
	}
	return oldest;
}

bool
pages_init(struct redis_end *e)
{
	e->pages = calloc(REDIS_PAGES, sizeof *e->pages);
	for (unsigned i = 0; e->pages != NULL && i < REDIS_PAGES; i++)
		e->pages[i] = (struct redis_page){ .end = e, .call = { .on_reply = on_page } };
	return e->pages != NULL;
}

void
pages_fini(struct redis_end *e)
{
	for (unsigned i = 0; e->pages != NULL && i < REDIS_PAGES; i++)
		page_clear(&e->pages[i]);
	free(e->pages);
}

/* ---- lists ---- */

/* Our own table from *cursor on; false: its end was reached. */
static bool
list_ours(struct redis_end *e, const struct queue_filter *f, uint64_t *cursor, uint64_t until_us,
	  bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	while (*cursor < BUCKETS) {
		bool more = true;
		for (const struct redis_mail *m = e->buckets[*cursor]; m != NULL; m = m->next)
			more = show_rows(f, m, QUEUE_ANY, on_row, context) && more;
		++*cursor;
		if (!more || clock_monotonic_us() >= until_us)
			return true;
	}
	return false;
}

/* The next shard of this worker at or after it; false: there is none. */
static bool
begin_shard(const struct redis_end *e, unsigned shard, uint64_t *cursor)
{
	*cursor = cursor_of(shard, 0);
	return shard < e->store->redis.shards;
}

static bool
list_theirs(struct redis_end *e, const struct queue_filter *f, uint64_t *cursor,
	    bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	struct redis_page *p = page_get(e, *cursor, (struct mail_id){ 0 });
	unsigned shard = cursor_shard(*cursor);
	uint64_t this = *cursor;
	bool is_fresh = (this & FRESH) != 0;
	bool wants_more = true;

	if (p == NULL || !p->ready)
		return true; /* on its way, or soon */
	*cursor = p->next;
	for (unsigned i = is_fresh ? (unsigned)bits_of(this, 0, SKIP_BITS) : 0;
	     i < p->count && wants_more; i++) {
		const struct redis_mail *m = p->mails[i].mail;
		wants_more = show_rows(f, m, p->mails[i].state, on_row, context);
		if (!wants_more && is_fresh)
			*cursor = (this >> SKIP_BITS << SKIP_BITS) | (i + 1);
		else if (!wants_more)
			*cursor = cursor_of(shard, prefix_of(m->mail.id));
	}
	bool is_over = wants_more && p->is_last;
	page_clear(p);
	return is_over ? begin_shard(e, shard + e->queue.worker->count, cursor) : true;
}

/* One mail: ours, or one of our shards. */
static bool
list_one(struct redis_end *e, const struct queue_filter *f,
	 bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	const struct redis_mail *m = owned_find(e, f->id);
	unsigned shard = shard_of(e->store, f->id);

	if (m != NULL)
		show_rows(f, m, QUEUE_ANY, on_row, context);
	if (m != NULL || shard % e->queue.worker->count != e->queue.worker->number)
		return false;
	struct redis_page *p = page_get(e, ONE, f->id);
	if (p == NULL || !p->ready)
		return true;
	for (unsigned i = 0; i < p->count; i++)
		show_rows(f, p->mails[i].mail, p->mails[i].state, on_row, context);
	page_clear(p);
	return false;
}

bool
redis_list(struct queue *q, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
	   bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	struct redis_end *e = redis_end_of(q);
	uint64_t until_us = clock_monotonic_us() + slice_us;

	if (e->stopping)
		return false;
	if (f->by_id)
		return list_one(e, f, on_row, context);
	if (*cursor & REMOTE)
		return list_theirs(e, f, cursor, on_row, context);
	if (list_ours(e, f, cursor, until_us, on_row, context))
		return true;
	return !f->kept_here && begin_shard(e, q->worker->number, cursor);
}
