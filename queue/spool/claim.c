/* SPDX-License-Identifier: Apache-2.0
 *
 * Handing out: whose turn it is at the site is taken, its PUT is read for the envelope, and the
 * item belongs to the caller until a record or a release.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/spool/crc32c.h"
#include "queue/spool/internal.h"

enum { READ_AGAIN_MS = 60 * 1000, MEMORY_AGAIN_MS = 1000 };

static void on_fetched(struct op *op, struct completion c);

/* ---- fetching a PUT ---- */

static void
fetch_end(struct spool_fetch *f)
{
	struct spool_end *e = f->end;

	f->mail->fetching = false;
	f->mail = NULL;
	e->budget.used_bytes -= f->capacity;
	free(f->memory);
	f->memory = NULL;
	list_unlink(&f->node);
	worker_soon(e->queue.worker, &e->claim_task);
}

void
spool_hold_damaged(struct spool_end *e, struct spool_mail *m)
{
	/* In memory alone: the next start will find it out again. */
	e->counters.corrupt_records++;
	e->spool->corrupt = true;
	m->damaged = true;
	if (!mail_is_held(m))
		m->hold_revision++;
}

static void
on_body_opened(struct op *op, struct completion c)
{
	struct spool_fetch *f = CONTAINER_OF(op, struct spool_fetch, op);
	struct spool_mail *m = f->mail;

	if (c.result >= 0) {
		mail_loaded(m)->fd = c.result;
	} else {
		f->end->counters.file_errors++;
		mail_unload(f->end, m);
		if (c.result == -ENOENT)
			spool_hold_damaged(f->end, m);
		else
			m->fetch_failed = true;
	}
	fetch_end(f);
}

/* Where there is memory for it; else it is read by queue_load. */
static void
take_body(struct spool_end *e, struct spool_mail *m, struct span bytes)
{
	struct body *b = body_new(&e->budget, bytes.size);

	if (b != NULL && body_append(b, bytes) != ERR_OK) {
		body_put(b);
		b = NULL;
	}
	m->mail.body = b;
}

static void
take_record(struct spool_fetch *f)
{
	struct spool_end *e = f->end;
	struct spool_mail *m = f->mail;
	struct record r;
	struct span in = span_after(span_of(f->memory, f->capacity), f->skip);

	if (!record_parse(in, m->segment->epoch, true, &r) || r.type != RECORD_PUT ||
	    !mail_id_eq(r.id, m->mail.id) || r.count != m->recipient_count ||
	    !record_body_is_good(&r, r.body)) {
		spool_hold_damaged(e, m);
		fetch_end(f);
		return;
	}
	struct spool_loaded *l = loaded_read(e, m, &r);
	if (l == NULL) {
		m->fetch_failed = true;
		fetch_end(f);
		return;
	}
	m->mail.envelope = &l->envelope;
	if (f->with_body)
		take_body(e, m, r.body);
	if (!m->in_file) {
		fetch_end(f);
		return;
	}
	/* The memory is free: it keeps the name while the kernel needs it. */
	char *name = (char *)f->memory;
	spool_file_name(name, m->mail.id);
	op_init(&f->op, on_body_opened);
	ring_open(e->queue.worker->ring, &f->op, e->spool->file_directory, name,
		  O_RDONLY | O_CLOEXEC | (e->spool->direct ? O_DIRECT : 0), 0);
}

static void
on_fetched(struct op *op, struct completion c)
{
	struct spool_fetch *f = CONTAINER_OF(op, struct spool_fetch, op);
	struct spool_end *e = f->end;

	if (c.result > 0 && (size_t)c.result + f->done < f->capacity && c.result >= SPOOL_BLOCK) {
		f->done += (size_t)c.result / SPOOL_BLOCK * SPOOL_BLOCK;
		ring_read(e->queue.worker->ring, op, f->mail->segment->fd, f->memory + f->done,
			  f->capacity - f->done, f->at + f->done);
		return;
	}
	if (c.result < 0 || (size_t)c.result + f->done < f->capacity) {
		e->counters.read_errors++;
		f->mail->fetch_failed = true;
		fetch_end(f);
		return;
	}
	take_record(f);
}

static struct spool_fetch *
free_fetch(struct spool_end *e)
{
	for (unsigned i = 0; i < SPOOL_FETCHES; i++) {
		if (e->fetches[i].mail == NULL)
			return &e->fetches[i];
	}
	return NULL;
}

enum err
spool_fetch(struct spool_end *e, struct spool_mail *m, bool with_body)
{
	struct spool_fetch *f = free_fetch(e);
	uint64_t at = mail_at(m) / SPOOL_BLOCK * SPOOL_BLOCK;
	struct body_budget *b = &e->budget;

	if (f == NULL)
		return ERR_AGAIN;
	with_body =
		with_body && !m->in_file && b->used_bytes + 2 * m->body_size < b->most_bytes / 2;
	/* All of the record is read and checked: no part of a damaged body is ever sent. */
	uint64_t size = mail_log_size(m);
	uint64_t capacity = block_up(mail_at(m) - at + size);
	if (capacity > b->most_bytes || b->used_bytes > b->most_bytes - capacity)
		return list_is_empty(&e->fetching) ? ERR_NO_MEMORY : ERR_AGAIN;
	uint8_t *memory = aligned_alloc(SPOOL_BLOCK, capacity);
	if (memory == NULL)
		return ERR_NO_MEMORY;
	b->used_bytes += capacity;
	*f = (struct spool_fetch){ .end = e,
				   .mail = m,
				   .memory = memory,
				   .capacity = capacity,
				   .skip = mail_at(m) - at,
				   .at = at,
				   .with_body = with_body };
	m->fetching = true;
	m->fetch_failed = false;
	list_append(&e->fetching, &f->node);
	op_init(&f->op, on_fetched);
	ring_read(e->queue.worker->ring, &f->op, m->segment->fd, memory, capacity, at);
	return ERR_OK;
}

/* ---- claims ---- */

static void
give_back(struct spool_end *e, struct spool_item *i, uint64_t after_ms)
{
	struct spool_mail *m = spool_mail_of(i->turn.item.mail);

	item_wait(e, i, e->queue.worker->now_wall_ms + after_ms);
	if (!mail_has_claims(m) && !m->fetching)
		mail_unload(e, m);
}

/* One step for an item of a claim; true when it has left c->loading. */
static bool
load_item(struct spool_end *e, struct queue_claim *c, struct spool_item *i)
{
	struct spool_mail *m = spool_mail_of(i->turn.item.mail);
	enum err error = ERR_OK;

	if (m->fetching)
		return false;
	if (m->mail.envelope != NULL) {
		list_unlink(&i->turn.item.link);
		if (item_fill_recipients(e, i)) {
			list_append(&c->items, &i->turn.item.link);
			return true;
		}
		error = ERR_NO_MEMORY;
	} else if (mail_is_held(m) || m->fetch_failed) {
		list_unlink(&i->turn.item.link);
		error = ERR_STORAGE;
	} else {
		error = spool_fetch(e, m, c->with_bodies);
		if (error == ERR_OK || error == ERR_AGAIN)
			return false;
		list_unlink(&i->turn.item.link);
	}
	m->fetch_failed = false;
	c->request.error = error;
	give_back(e, i, error == ERR_NO_MEMORY ? MEMORY_AGAIN_MS : READ_AGAIN_MS);
	return true;
}

void
spool_claim_run(struct task *t)
{
	struct spool_end *e = CONTAINER_OF(t, struct spool_end, claim_task);
	struct list_node *next;

	for (struct list_node *n = list_first(&e->claims); n != NULL; n = next) {
		struct queue_claim *c = LIST_ITEM(n, struct queue_claim, request.node);
		struct list_node *after;
		next = list_next(&e->claims, n);
		for (struct list_node *k = list_first(&c->loading); k != NULL; k = after) {
			after = list_next(&c->loading, k);
			struct queue_item *i = LIST_ITEM(k, struct queue_item, link);
			load_item(e, c, spool_item_of(i));
		}
		if (!list_is_empty(&c->loading))
			continue;
		/* From the list that on_done may add to. */
		list_unlink(n);
		list_append(&e->finishing, n);
		worker_soon(e->queue.worker, &e->finish_task);
	}
	spool_show_run(e);
	spool_move_run(e);
}

static void
claim_done(struct spool_end *e, struct queue_request *r)
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

static const struct queue_request_kind claim_kind = { RESERVE_NONE, NULL, NULL, claim_done, false };

static struct spool_item *
next_item(struct spool_end *e, struct turns_site *s)
{
	struct turns_item *i = turns_next(s, e->queue.worker->now_wall_ms);

	return i == NULL ? NULL : spool_item_of(&i->item);
}

static struct spool_item *
waiting_item(struct spool_end *e, const struct queue_claim *c)
{
	const struct spool_mail *m = index_find(e, c->id);
	struct spool_item *i = m == NULL ? NULL : m->items;

	while (i != NULL &&
	       (i->turn.state != ITEM_WAITING || i->turn.item.site.number != c->site.number))
		i = i->next;
	return i;
}

void
spool_claim(struct queue *q, struct queue_claim *c)
{
	struct spool_end *e = spool_end_of(q);
	struct turns_site *s = turns_find(&e->turns, c->site);
	uint32_t count = 0;

	list_init(&c->items);
	list_init(&c->loading);
	if (e->stopping) {
		spool_finish_later(e, &c->request, &claim_kind, ERR_SHUTTING_DOWN);
		return;
	}
	c->request = (struct queue_request){ .kind = &claim_kind };
	while (s != NULL && count < c->most) {
		struct spool_item *i = c->by_id ? waiting_item(e, c) : next_item(e, s);
		if (i == NULL)
			break;
		item_take(e, i, ITEM_CLAIMED);
		i->turn.item.link = (struct list_node){ 0 };
		list_append(&c->loading, &i->turn.item.link);
		count++;
	}
	list_append(&e->claims, &c->request.node);
	worker_soon(q->worker, &e->claim_task);
}

void
spool_release(struct queue *q, struct queue_item *item, uint64_t due_at_ms)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_item *i = spool_item_of(item);
	struct spool_mail *m = spool_mail_of(item->mail);

	ASSERT(i->turn.state == ITEM_CLAIMED && m->mail.worker == q->worker->number);
	if (i->turn.started)
		spool_close_start(e, i);
	if (atomic_load(&mail_loaded(m)->damaged))
		spool_hold_damaged(e, m);
	item_wait(e, i, due_at_ms);
	if (!mail_has_claims(m))
		mail_unload(e, m);
}

static void
reroute_failed(struct spool_end *e, struct spool_item *i)
{
	struct spool_mail *m = spool_mail_of(i->turn.item.mail);
	struct spool_recipient *all = mail_recipients(m);
	struct spool_item *next;

	for (uint32_t n = 0; n < i->turn.item.recipient_count; n++)
		all[i->turn.item.recipients[n]].site = i->turn.item.site;
	for (struct spool_item *k = m->items; k != NULL; k = next) {
		next = k->next;
		if (k->turn.state == ITEM_NEW)
			item_free(e, k);
	}
	give_back(e, i, MEMORY_AGAIN_MS);
}

/* Has a recipient of `from` come to k, which waited already? Then it is due, too. */
static bool
names_any(const struct spool_item *k, const struct spool_item *from)
{
	const struct spool_recipient *all = mail_recipients(spool_mail_of(from->turn.item.mail));

	for (uint32_t n = 0; n < from->turn.item.recipient_count; n++) {
		if (all[from->turn.item.recipients[n]].site.number == k->turn.item.site.number)
			return true;
	}
	return false;
}

void
spool_reroute(struct queue *q, struct queue_item *item)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_item *i = spool_item_of(item);
	struct spool_mail *m = spool_mail_of(item->mail);
	struct spool_recipient *all = mail_recipients(m);
	const struct queue_hooks *hooks = &e->spool->store.hooks;
	const struct mail_envelope *envelope = m->mail.envelope;
	uint64_t now_ms = q->worker->now_wall_ms;
	bool stays = false;

	ASSERT(i->turn.state == ITEM_CLAIMED);
	for (uint32_t n = 0; n < item->recipient_count; n++) {
		uint32_t at = item->recipients[n];
		struct span address = envelope->recipients[at].address;
		all[at].site = hooks->site_of(q, address, envelope->flags);
		all[at].retry_at_ms = now_ms;
	}
	/* Some may have come to it while it was claimed, by a new route of theirs. */
	for (uint32_t n = 0; n < m->recipient_count; n++)
		stays |= all[n].state == RECIPIENT_PENDING &&
			 all[n].site.number == item->site.number;
	if (!mail_make_items(e, m, m->mail.envelope->sender)) {
		reroute_failed(e, i);
		return;
	}
	mail_set_items(e, m, item->recovered);
	for (struct spool_item *k = m->items; k != NULL; k = k->next) {
		if (k->turn.state == ITEM_NEW) {
			k->turn.started = i->turn.started;
			item_wait(e, k, now_ms);
		} else if (k->turn.state == ITEM_WAITING && names_any(k, i)) {
			item_take(e, k, ITEM_BUSY);
			item_wait(e, k, now_ms);
		}
	}
	if (stays)
		item_wait(e, i, now_ms);
	else
		item_free(e, i);
	if (!mail_has_claims(m))
		mail_unload(e, m);
}

/* ---- bodies ---- */

static void
load_read(struct spool_end *mine, struct queue_load *l, int fd, uint64_t at, size_t done)
{
	ring_read(mine->queue.worker->ring, &l->op, fd, l->memory + done, l->capacity - done,
		  at + done);
}

/* Where the body of a loaded mail lies; read-only for all workers while an item is claimed. */
static int
body_file(const struct spool_mail *m, uint64_t *base)
{
	*base = m->in_file ? 0 : mail_at(m) + m->meta_size;
	return m->in_file ? mail_loaded(m)->fd : m->segment->fd;
}

static void
load_ends(struct queue_load *l, struct spool_end *mine, enum err error)
{
	mine->loads--;
	if (error == ERR_STORAGE)
		mine->counters.read_errors++;
	/* Whoever keeps the mail counts it, and holds it when it is given back. */
	if (error == ERR_CORRUPT)
		atomic_store(&mail_loaded(spool_mail_of(l->mail))->damaged, true);
	if (error != ERR_OK)
		l->bytes = span_none();
	l->on_done(l, error);
}

/* Of a body in a file every block is checked; one in the log was checked when it was claimed. */
static bool
blocks_are_good(const struct spool_mail *m, const uint8_t *data, uint64_t at, uint64_t size)
{
	struct span crcs = mail_loaded(m)->block_crcs;

	for (uint64_t i = 0; i < size; i += SPOOL_BLOCK) {
		if (!record_block_is_good(crcs, (at + i) / SPOOL_BLOCK, data + i))
			return false;
	}
	return true;
}

static void
on_loaded(struct op *op, struct completion c)
{
	struct queue_load *l = CONTAINER_OF(op, struct queue_load, op);
	struct spool_end *mine = l->end;
	const struct spool_mail *m = spool_mail_of(l->mail);
	uint64_t base;
	int fd = body_file(m, &base);
	uint64_t at = (base + l->offset) / SPOOL_BLOCK * SPOOL_BLOCK;
	size_t skip = (size_t)(base + l->offset - at);
	uint64_t left = m->body_size - l->offset;

	if (c.result > 0)
		l->read_bytes += (size_t)c.result;
	uint64_t wanted = skip + left < l->capacity ? skip + left : l->capacity;
	if (l->read_bytes < block_up(wanted)) { /* whole blocks, for their checksums */
		if (c.result < SPOOL_BLOCK) {
			load_ends(l, mine, ERR_STORAGE);
			return;
		}
		l->read_bytes = l->read_bytes / SPOOL_BLOCK * SPOOL_BLOCK;
		load_read(mine, l, fd, at, l->read_bytes);
		return;
	}
	l->bytes = span_of(l->memory + skip, (size_t)wanted - skip);
	if (m->in_file && !blocks_are_good(m, l->memory, at, wanted)) {
		load_ends(l, mine, ERR_CORRUPT);
		return;
	}
	if (l->offset == 0)
		l->crc = 0;
	if (l->offset != 0 && l->offset != l->read_up_to) {
		load_ends(l, mine, ERR_OK); /* not in order: not checked */
		return;
	}
	l->crc = crc32c(l->crc, l->bytes.data, l->bytes.size);
	l->read_up_to = l->offset + l->bytes.size;
	bool bad = l->read_up_to == m->body_size && l->crc != mail_loaded(m)->body_crc;
	load_ends(l, mine, bad ? ERR_CORRUPT : ERR_OK);
}

static void
empty_load_done(struct spool_end *e, struct queue_request *r)
{
	(void)e;
	load_ends(CONTAINER_OF(r, struct queue_load, request), e, r->error);
}

static const struct queue_request_kind empty_load_kind = { RESERVE_NONE, NULL, NULL,
							   empty_load_done, false };

void
spool_load(struct queue *mine, struct queue_load *l)
{
	struct spool_end *e = spool_end_of(mine);
	const struct spool_mail *m = spool_mail_of(l->mail);
	uint64_t base;
	int fd = body_file(m, &base);

	ASSERT(m->mail.envelope != NULL);
	l->bytes = span_none();
	l->read_bytes = 0;
	l->end = e;
	e->loads++;
	if (l->offset >= m->body_size) {
		spool_finish_later(e, &l->request, &empty_load_kind, ERR_OK);
		return;
	}
	op_init(&l->op, on_loaded);
	load_read(e, l, fd, (base + l->offset) / SPOOL_BLOCK * SPOOL_BLOCK, 0);
}

void
spool_drop_body(struct queue *q, struct queue_mail *mail)
{
	struct spool_mail *m = spool_mail_of(mail);

	(void)q;
	if (m->mail.body != NULL)
		body_put(m->mail.body);
	m->mail.body = NULL;
}
