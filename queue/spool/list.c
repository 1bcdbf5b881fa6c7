/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeing: rows of items that match a filter, and one mail with all of its recipients.
 *
 * Rows come from what is in memory alone; a mail that is shown is read.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/sender.h"
#include "queue/spool/internal.h"

/* A filter, made ready for this end. */
struct query {
	const struct queue_filter *filter;
	bool by_sender; /* its key; else its domain, where there is one */
	uint8_t memory[SENDER_KEY_MOST];
	struct span key;
	uint32_t key_hash;
	struct span sender_domain;
	uint16_t sender_name;
	uint16_t recipient_name;
	uint32_t recipient_hash;
};

enum match { MATCH_NO, MATCH_MAYBE, MATCH_YES };

static void
query_init(struct query *q, const struct spool_end *e, const struct queue_filter *f)
{
	*q = (struct query){ .filter = f };
	if (f->sender.size > 0 && f->sender.data[0] == '@') {
		q->sender_domain = span_after(f->sender, 1);
		q->sender_name = name_find(e, q->sender_domain);
	} else if (f->sender.size > 0 || f->null_sender) {
		q->by_sender = true;
		q->key = sender_key(f->sender, q->memory);
		q->key_hash = sender_key_hash(q->key, e->spool->hash_seed);
	}
	q->recipient_name = name_find(e, f->recipient_domain);
	q->recipient_hash = name_hash(e, f->recipient);
}

static enum match
worse(enum match a, enum match b)
{
	return a < b ? a : b;
}

static enum match
match_sender(const struct query *q, const struct spool_mail *m, const struct spool_item *i)
{
	struct span text = span_none();
	bool is_known = i != NULL && turns_sender(i->turn.lane, &text);

	if (q->by_sender) {
		if (i == NULL)
			return MATCH_MAYBE;
		if (is_known)
			return span_eq(text, q->key) ? MATCH_YES : MATCH_NO;
		return i->turn.item.sender_key == q->key_hash ? MATCH_MAYBE : MATCH_NO;
	}
	if (q->sender_domain.size == 0)
		return MATCH_YES;
	if (m->sender_domain != 0)
		return m->sender_domain == q->sender_name ? MATCH_YES : MATCH_NO;
	if (!is_known)
		return MATCH_MAYBE;
	return span_eq_nocase(name_of_domain(text), q->sender_domain) ? MATCH_YES : MATCH_NO;
}

static bool
has_text(const struct spool_reply *r, struct span part)
{
	return r != NULL && memmem(r->text, r->size, part.data, part.size) != NULL;
}

/* What the recipients of an item have in common, and whether one of them is asked for. */
struct recipients {
	uint32_t count;
	uint16_t attempts;
	uint16_t domain;
	const struct spool_reply *reply;
	bool untold;
	enum match match;
};

static enum match
match_recipient(const struct query *q, const struct spool_recipient *r)
{
	const struct queue_filter *f = q->filter;
	enum match match = MATCH_YES;

	if (f->recipient_domain.size > 0 && r->domain != q->recipient_name)
		return r->domain == 0 ? MATCH_MAYBE : MATCH_NO;
	if (f->recipient_domain.size > 0 && r->domain == 0)
		match = MATCH_MAYBE;
	if (f->recipient.size > 0)
		match = r->address_hash == q->recipient_hash ? MATCH_MAYBE : MATCH_NO;
	if (f->reply.size > 0 && !has_text(r->reply, f->reply))
		return MATCH_NO;
	return match;
}

static struct recipients
look_at_recipients(const struct query *q, struct spool_mail *m, uint8_t state, struct site_id site)
{
	const struct spool_recipient *all = mail_recipients(m);
	struct recipients sum = { .match = MATCH_NO };

	for (uint32_t n = 0; n < m->recipient_count; n++) {
		const struct spool_recipient *r = &all[n];
		if (r->state != state ||
		    (state == RECIPIENT_PENDING && r->site.number != site.number))
			continue;
		enum match match = match_recipient(q, r);
		sum.match = match > sum.match ? match : sum.match;
		if (sum.count++ == 0)
			sum.domain = r->domain;
		if (r->attempts > sum.attempts)
			sum.attempts = r->attempts;
		if (sum.reply == NULL)
			sum.reply = r->reply;
		sum.untold |= !r->notified;
	}
	return sum;
}

static uint8_t
row_state(const struct spool_item *i)
{
	if (i->turn.state == ITEM_HELD)
		return QUEUE_HELD;
	return i->turn.state == ITEM_WAITING || i->turn.state == ITEM_BUSY ? QUEUE_WAITING
									   : QUEUE_CLAIMED;
}

/* Of what needs no look at recipients. */
static bool
mail_matches(const struct queue_filter *f, const struct spool_mail *m)
{
	return (!f->by_id || mail_id_eq(f->id, m->mail.id)) &&
	       (f->accepted_before_ms == 0 || m->accepted_at_ms < f->accepted_before_ms) &&
	       m->accepted_at_ms >= f->accepted_after_ms;
}

/* Completes the row; false: the item is not asked for. */
static bool
fill_row(struct spool_end *e, const struct query *q, struct spool_mail *m,
	 const struct spool_item *i, struct queue_row *row)
{
	const struct queue_filter *f = q->filter;
	enum match match = match_sender(q, m, i);

	if (match == MATCH_NO)
		return false;
	struct recipients r = look_at_recipients(
		q, m, i == NULL ? RECIPIENT_FAILED : RECIPIENT_PENDING, row->site);
	match = worse(match, r.match);
	if (match == MATCH_NO || r.attempts < f->attempts_min)
		return false;
	row->is_candidate = match == MATCH_MAYBE;
	row->attempts = r.attempts;
	row->untold = r.untold;
	row->pending_count = i == NULL ? 0 : r.count;
	row->recipient_domain = name_text(e, r.domain);
	row->reply = r.reply == NULL ? span_none() : span_of(r.reply->text, r.reply->size);
	row->sender = span_none();
	row->sender_is_known = m->mail.envelope != NULL;
	if (m->mail.envelope != NULL)
		row->sender = m->mail.envelope->sender;
	else if (i != NULL)
		row->sender_is_known = turns_sender(i->turn.lane, &row->sender);
	return true;
}

static bool
show_rows(struct spool_end *e, const struct query *q, struct spool_mail *m,
	  bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	const struct queue_filter *f = q->filter;
	struct queue_row row = { .id = m->mail.id,
				 .accepted_at_ms = m->accepted_at_ms,
				 .body_size = m->body_size,
				 .recipient_count = m->recipient_count };
	bool more = true;

	if (!mail_matches(f, m))
		return true;
	for (const struct spool_item *i = m->items; i != NULL; i = i->next) {
		row.site = i->turn.item.site;
		row.state = row_state(i);
		row.due_at_ms = row.state == QUEUE_CLAIMED ? 0 : i->turn.item.due_at_ms;
		if ((f->by_site && f->site.number != row.site.number) ||
		    (f->state != QUEUE_ANY && f->state != row.state))
			continue;
		if (fill_row(e, q, m, i, &row))
			more = on_row(context, &row) && more;
	}
	if (f->state == QUEUE_FAILED && !f->by_site) {
		row.state = QUEUE_FAILED;
		row.site = (struct site_id){ 0 };
		row.due_at_ms = 0;
		if (fill_row(e, q, m, NULL, &row))
			more = on_row(context, &row) && more;
	}
	return more;
}

bool
spool_list(struct queue *queue, const struct queue_filter *f, uint64_t *cursor, uint64_t slice_us,
	   bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	enum { LOOKS = 16 }; /* between looks at the clock */
	struct spool_end *e = spool_end_of(queue);
	uint64_t until_us = clock_monotonic_us() + slice_us;
	struct spool_mail *m;
	struct query q;

	query_init(&q, e, f);
	if (f->by_id) {
		m = index_find(e, f->id);
		if (m != NULL)
			show_rows(e, &q, m, on_row, context);
		return false;
	}
	for (unsigned n = 1;; n++) {
		bool goes_on = index_step(e, cursor, &m);
		bool more = m == NULL || show_rows(e, &q, m, on_row, context);
		if (!goes_on)
			return false;
		if (!more || (n % LOOKS == 0 && clock_monotonic_us() >= until_us))
			return true;
	}
}

/* ---- one mail ---- */

static void
refused_show_done(struct spool_end *e, struct queue_request *r)
{
	struct queue_show *s = CONTAINER_OF(r, struct queue_show, request);

	(void)e;
	s->on_done(s, r->error);
}

static const struct queue_request_kind refused_show_kind = { RESERVE_NONE, NULL, NULL,
							     refused_show_done, false };

void
spool_show(struct queue *q, struct queue_show *s)
{
	struct spool_end *e = spool_end_of(q);
	const struct spool_mail *m = index_find(e, s->id);
	enum err error = e->stopping  ? ERR_SHUTTING_DOWN
			 : m == NULL  ? ERR_NOT_FOUND
			 : m->damaged ? ERR_CORRUPT
				      : ERR_OK;

	s->envelope = NULL;
	s->was_read = false;
	if (error != ERR_OK) {
		spool_finish_later(e, &s->request, &refused_show_kind, error);
		return;
	}
	s->request = (struct queue_request){ 0 };
	list_append(&e->shows, &s->request.node);
	worker_soon(q->worker, &e->claim_task);
}

/* From what is loaded, with the states of now. */
static enum err
give_envelope(struct spool_end *e, struct queue_show *s, struct spool_mail *m)
{
	const struct spool_recipient *all = mail_recipients(m);
	struct spool_loaded *l = loaded_copy(e, m->mail.envelope, span_none());

	if (l == NULL)
		return ERR_NO_MEMORY;
	for (uint32_t i = 0; i < m->recipient_count; i++)
		recipient_show(&all[i], &l->recipients[i]);
	s->envelope = &l->envelope;
	s->is_held = mail_is_held(m);
	return ERR_OK;
}

/* ERR_AGAIN: it waits for what is under way. */
static enum err
show_step(struct spool_end *e, struct queue_show *s)
{
	struct spool_mail *m = index_find(e, s->id);

	if (m == NULL)
		return ERR_NOT_FOUND;
	if (m->fetching)
		return ERR_AGAIN;
	if (m->mail.envelope != NULL)
		return give_envelope(e, s, m);
	if (m->damaged)
		return ERR_CORRUPT;
	if (s->was_read && m->fetch_failed)
		return ERR_STORAGE;
	if (m->mail.mark != 0) /* on its way to or from a server, which may be away */
		return ERR_AWAY;
	if (m->busy) /* being moved or acted upon: that ends soon */
		return ERR_AGAIN;
	enum err error = spool_fetch(e, m, false);
	s->was_read |= error == ERR_OK;
	return error == ERR_OK ? ERR_AGAIN : error;
}

void
spool_show_run(struct spool_end *e)
{
	struct list_node *next;

	for (struct list_node *n = list_first(&e->shows); n != NULL; n = next) {
		struct queue_show *s = LIST_ITEM(n, struct queue_show, request.node);
		next = list_next(&e->shows, n);
		enum err error = show_step(e, s);
		if (error == ERR_AGAIN)
			continue;
		list_unlink(n);
		struct spool_mail *m = index_find(e, s->id);
		/* What was read for this alone. */
		if (m != NULL && !m->fetching && !m->busy && !mail_has_claims(m))
			mail_unload(e, m);
		struct spool_loaded *l = (struct spool_loaded *)(uintptr_t)s->envelope;
		s->on_done(s, error);
		if (l != NULL)
			loaded_free(e, l);
	}
}
