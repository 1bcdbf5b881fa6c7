/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies on their way in, and the put.
 *
 * A small body is gathered in memory and written with its envelope as one record. A large one goes
 * to a file of its own while it arrives: pieces are filled in memory and written as they are full;
 * at the put the rest is written, the file is synced, then the directory (one sync for all that
 * wait for it), and only then the record is appended to the log. A notice is put the same way, but
 * for its record, which is written together with the outcomes that it is about.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/disk.h"
#include "queue/spool/crc32c.h"
#include "queue/spool/internal.h"

enum {
	PIECE = 64 * 1024,
	UNWRITTEN_MOST = 4 * PIECE, /* then the draft is full */
	PREALLOCATE = 1024 * 1024,  /* where the size is not known */
};

struct piece {
	struct list_node node; /* of draft->pieces, in order */
	struct op op;
	struct draft *draft;
	uint64_t offset;
	size_t size;
	size_t written;
	uint8_t *data;
};

/* GATHERING: appends come; CLOSING: put has come, writes are in flight; SYNCING: the file, then
 * its directory; LOGGING: the record. */
enum draft_state { DRAFT_GATHERING, DRAFT_CLOSING, DRAFT_SYNCING, DRAFT_LOGGING };

struct draft {
	struct queue_draft draft; /* first */
	struct list_node node;    /* of end->directory_… */
	struct spool_end *end;
	struct mail_id id;
	uint64_t size_hint;
	uint64_t size;
	uint32_t crc;
	uint8_t state; /* enum draft_state */
	bool in_file;
	bool abandoned;
	enum err error;
	struct body *body;
	/* in a file: */
	char name[SPOOL_NAME_SIZE];
	int fd;
	bool opened; /* the file may exist */
	struct op op;
	struct list pieces; /* last one filling, the others in the kernel or waiting for fd */
	uint64_t unwritten;
	uint64_t file_size;
	uint8_t *crcs; /* by block; in the body budget */
	size_t crcs_size;
	size_t crcs_capacity;
	struct task *resume;
	/* put: */
	struct queue_request request;
	struct queue_put *put;
	struct queue_record *about;        /* of a notice: the outcomes */
	const struct queue_moving *moving; /* it comes from another store */
	struct record_starts *starts;      /* likewise; NULL: none */
	struct spool_mail *mail;
};

static const struct queue_request_kind put_kind;
static void go_on(struct draft *d);

size_t
spool_draft_object_size(void)
{
	return sizeof(struct draft);
}

static struct draft *
draft_of(const struct queue_draft *d)
{
	OBJ_CHECK(d, QUEUE_DRAFT_MAGIC);
	return (struct draft *)(uintptr_t)d;
}

static struct ring *
ring_of(const struct draft *d)
{
	return d->end->queue.worker->ring;
}

/* ---- files, from outside ---- */

void
spool_file_name(char name[SPOOL_NAME_SIZE], struct mail_id id)
{
	snprintf(name, SPOOL_NAME_SIZE, "%016llx%016llx", (unsigned long long)id.high,
		 (unsigned long long)id.low);
}

static void
on_small_file_op(struct op *op, struct completion c)
{
	struct spool_small *s = CONTAINER_OF(op, struct spool_small, op);

	if (c.result < 0 && c.result != -ENOENT)
		s->end->counters.file_errors++;
	s->end->file_ops--;
	pool_put(&s->end->small, s);
}

static struct spool_small *
small_file_op(struct spool_end *e)
{
	struct spool_small *s = pool_get(&e->small);

	if (s == NULL)
		return NULL;
	*s = (struct spool_small){ .end = e };
	op_init(&s->op, on_small_file_op);
	e->file_ops++;
	return s;
}

void
spool_file_remove(struct spool_end *e, struct mail_id id)
{
	struct spool_small *s = small_file_op(e);

	e->counters.files_removed++;
	if (s == NULL) {
		e->counters.file_errors++; /* the next start removes it */
		return;
	}
	spool_file_name(s->name, id);
	ring_unlink(e->queue.worker->ring, &s->op, e->spool->file_directory, s->name);
}

void
spool_file_close(struct spool_end *e, int fd)
{
	struct spool_small *s = e->started ? small_file_op(e) : NULL;

	if (s == NULL)
		disk_close(fd);
	else
		ring_close(e->queue.worker->ring, &s->op, fd);
}

/* ---- pieces ---- */

static void
piece_free(struct piece *p)
{
	struct body_budget *budget = &p->draft->end->budget;

	list_unlink(&p->node);
	budget->used_bytes -= PIECE + sizeof *p;
	free(p->data);
	free(p);
}

static struct piece *
piece_new(struct draft *d)
{
	struct body_budget *budget = &d->end->budget;
	size_t cost = PIECE + sizeof(struct piece);

	if (cost > budget->most_bytes || budget->used_bytes > budget->most_bytes - cost)
		return NULL;
	struct piece *p = malloc(sizeof *p);
	uint8_t *data = aligned_alloc(SPOOL_BLOCK, PIECE);
	if (p == NULL || data == NULL) {
		free(p);
		free(data);
		return NULL;
	}
	budget->used_bytes += cost;
	*p = (struct piece){ .draft = d, .data = data, .offset = d->file_size };
	list_append(&d->pieces, &p->node);
	d->file_size += PIECE;
	return p;
}

static void
on_piece(struct op *op, struct completion c)
{
	struct piece *p = CONTAINER_OF(op, struct piece, op);
	struct draft *d = p->draft;

	if (c.result > 0 && (size_t)c.result < p->size - p->written && c.result >= SPOOL_BLOCK) {
		p->written += (size_t)c.result / SPOOL_BLOCK * SPOOL_BLOCK;
		ring_write(ring_of(d), op, d->fd, p->data + p->written, p->size - p->written,
			   p->offset + p->written);
		return;
	}
	if (c.result < 0 || (size_t)c.result < p->size - p->written) {
		d->end->counters.file_errors++;
		d->error = c.result < 0 ? err_of_errno(c.result) : ERR_STORAGE;
	}
	d->unwritten -= p->size;
	piece_free(p);
	go_on(d);
}

static enum err
note_crcs(struct draft *d, const struct piece *p)
{
	size_t more = p->size / SPOOL_BLOCK * 4;
	struct body_budget *budget = &d->end->budget;

	if (d->crcs_size + more > d->crcs_capacity) {
		size_t capacity = d->crcs_capacity == 0 ? 1024 : 2 * d->crcs_capacity;
		if (budget->used_bytes + d->crcs_capacity > budget->most_bytes)
			return ERR_NO_MEMORY;
		uint8_t *larger = realloc(d->crcs, capacity);
		if (larger == NULL)
			return ERR_NO_MEMORY;
		budget->used_bytes += capacity - d->crcs_capacity;
		d->crcs = larger;
		d->crcs_capacity = capacity;
	}
	for (size_t at = 0; at < p->size; at += SPOOL_BLOCK) {
		record_block_crc(d->crcs + d->crcs_size, p->data + at);
		d->crcs_size += 4;
	}
	return ERR_OK;
}

/* Full, or the last: `size` is a multiple of a block. */
static void
piece_write(struct piece *p)
{
	enum err error = note_crcs(p->draft, p);

	if (error != ERR_OK)
		p->draft->error = error;
	op_init(&p->op, on_piece);
	p->draft->unwritten += p->size;
	if (p->draft->fd >= 0)
		ring_write(ring_of(p->draft), &p->op, p->draft->fd, p->data, p->size, p->offset);
}

static bool
piece_is_sent(const struct piece *p)
{
	return p->op.magic == OP_MAGIC;
}

static struct piece *
piece_filling(struct draft *d)
{
	struct list_node *last = d->pieces.head.previous;
	struct piece *p = list_is_empty(&d->pieces) ? NULL : LIST_ITEM(last, struct piece, node);

	return p == NULL || piece_is_sent(p) ? NULL : p;
}

/* ---- the life of a draft ---- */

static bool
is_at_work(const struct draft *d)
{
	if (d->op.in_kernel || list_is_linked(&d->node))
		return true;
	for (struct list_node *n = list_first(&d->pieces); n != NULL;
	     n = list_next(&d->pieces, n)) {
		if (LIST_ITEM(n, struct piece, node)->op.in_kernel)
			return true;
	}
	return false;
}

static void
draft_free(struct draft *d, bool keep_file)
{
	struct spool_end *e = d->end;
	struct list_node *node;

	ASSERT(!is_at_work(d));
	while ((node = list_first(&d->pieces)) != NULL)
		piece_free(LIST_ITEM(node, struct piece, node));
	if (d->body != NULL)
		body_put(d->body);
	e->budget.used_bytes -= d->crcs_capacity;
	free(d->crcs);
	free(d->starts);
	if (d->fd >= 0)
		spool_file_close(e, d->fd);
	if (d->opened && !keep_file)
		spool_file_remove(e, d->id);
	OBJ_FINI(&d->draft, QUEUE_DRAFT_MAGIC);
	e->drafts_open--;
	pool_put(&e->drafts, d);
}

struct queue_draft *
spool_draft_new(struct queue *q, struct mail_id id, uint64_t size_hint)
{
	struct spool_end *e = spool_end_of(q);
	struct draft *d = e->stopping ? NULL : pool_get(&e->drafts);

	if (d == NULL)
		return NULL;
	*d = (struct draft){ .end = e, .id = id, .size_hint = size_hint, .fd = -1 };
	OBJ_INIT(&d->draft, QUEUE_DRAFT_MAGIC);
	d->draft.driver = &spool_driver;
	list_init(&d->pieces);
	e->drafts_open++;
	return &d->draft;
}

static void
on_file_allocated(struct op *op, struct completion c)
{
	struct draft *d = CONTAINER_OF(op, struct draft, op);

	/* Not every file system can; only a lack of room is an answer. */
	if (c.result == -ENOSPC || c.result == -EDQUOT)
		d->error = ERR_NO_ROOM;
	for (struct list_node *n = list_first(&d->pieces); n != NULL;
	     n = list_next(&d->pieces, n)) {
		struct piece *p = LIST_ITEM(n, struct piece, node);
		if (piece_is_sent(p) && !p->op.in_kernel && d->error == ERR_OK)
			ring_write(ring_of(d), &p->op, d->fd, p->data, p->size, p->offset);
	}
	go_on(d);
}

static void
on_file_open(struct op *op, struct completion c)
{
	struct draft *d = CONTAINER_OF(op, struct draft, op);

	if (c.result < 0) {
		d->error = err_of_errno(c.result);
		d->end->counters.file_errors++;
		go_on(d);
		return;
	}
	/* Pieces filled from now on are written by piece_write, the others when it is allocated. */
	d->fd = c.result;
	op_init(&d->op, on_file_allocated);
	ring_allocate(ring_of(d), &d->op, d->fd, 0,
		      block_up(d->size_hint > PREALLOCATE ? d->size_hint : PREALLOCATE));
}

static enum err
append_to_file(struct draft *d, struct span bytes)
{
	while (bytes.size > 0) {
		struct piece *p = piece_filling(d);
		if (p == NULL)
			p = piece_new(d);
		if (p == NULL)
			return ERR_NO_MEMORY;
		struct span part = span_first(bytes, PIECE - p->size);
		memcpy(p->data + p->size, part.data, part.size);
		p->size += part.size;
		if (p->size == PIECE)
			piece_write(p);
		bytes = span_after(bytes, part.size);
	}
	return ERR_OK;
}

static enum err
move_to_file(struct draft *d)
{
	struct spool_end *e = d->end;
	struct body *body = d->body;
	enum err error = ERR_OK;

	d->in_file = d->opened = true;
	d->body = NULL;
	e->counters.files_created++;
	spool_file_name(d->name, d->id);
	op_init(&d->op, on_file_open);
	ring_open(ring_of(d), &d->op, e->spool->file_directory, d->name,
		  O_RDWR | O_CREAT | O_CLOEXEC | (e->spool->direct ? O_DIRECT : 0), 0600);
	for (uint64_t at = 0; body != NULL && at < body_size(body) && error == ERR_OK;) {
		struct span part = body_at(body, at);
		error = append_to_file(d, part);
		at += part.size;
	}
	if (body != NULL)
		body_put(body);
	return error;
}

enum err
spool_draft_append(struct queue_draft *draft, struct span bytes)
{
	struct draft *d = draft_of(draft);
	uint64_t threshold = d->end->spool->options.file_threshold;

	ASSERT(d->state == DRAFT_GATHERING && !d->abandoned);
	if (d->error == ERR_OK && !d->in_file &&
	    (d->size + bytes.size > threshold || d->size_hint > threshold))
		d->error = move_to_file(d);
	if (d->error != ERR_OK)
		return d->error;
	d->crc = crc32c(d->crc, bytes.data, bytes.size);
	d->size += bytes.size;
	if (d->in_file) {
		d->error = append_to_file(d, bytes);
	} else {
		if (d->body == NULL)
			d->body = body_new(&d->end->budget, d->size_hint);
		d->error = d->body == NULL ? ERR_NO_MEMORY : body_append(d->body, bytes);
	}
	if (d->error == ERR_NO_MEMORY) {
		d->end->counters.no_memory++;
		d->end->room_wanted = true;
		end_wake_upkeep(d->end);
	}
	return d->error;
}

bool
spool_draft_is_full(const struct queue_draft *draft)
{
	const struct draft *d = draft_of(draft);

	return d->error == ERR_OK && d->unwritten >= UNWRITTEN_MOST;
}

void
spool_draft_on_room(struct queue_draft *draft, struct task *resume)
{
	struct draft *d = draft_of(draft);

	d->resume = resume;
	if (!spool_draft_is_full(draft)) {
		d->resume = NULL;
		worker_soon(d->end->queue.worker, resume);
	}
}

uint64_t
spool_draft_size(const struct queue_draft *d)
{
	return draft_of(d)->size;
}

void
spool_draft_abandon(struct queue_draft *draft)
{
	struct draft *d = draft_of(draft);

	ASSERT(d->state == DRAFT_GATHERING && !d->abandoned);
	d->abandoned = true;
	d->resume = NULL;
	if (!is_at_work(d))
		draft_free(d, false);
}

/* ---- from the last byte to the record ---- */

static void
sync_directory(struct spool_end *e)
{
	if (e->directory_op.in_kernel || list_is_empty(&e->directory_waiting))
		return;
	list_take_all(&e->directory_syncing, &e->directory_waiting);
	op_init(&e->directory_op, spool_directory_synced);
	ring_sync(e->queue.worker->ring, &e->directory_op, e->spool->file_directory);
}

void
spool_directory_synced(struct op *op, struct completion c)
{
	struct spool_end *e = CONTAINER_OF(op, struct spool_end, directory_op);
	struct list_node *node;

	while ((node = list_shift(&e->directory_syncing)) != NULL) {
		struct draft *d = LIST_ITEM(node, struct draft, node);
		if (c.result < 0) {
			e->counters.file_errors++;
			d->error = ERR_STORAGE;
		}
		d->state = DRAFT_LOGGING;
		go_on(d);
	}
	sync_directory(e);
}

static void
on_file_synced(struct op *op, struct completion c)
{
	struct draft *d = CONTAINER_OF(op, struct draft, op);

	if (c.result < 0) {
		/* What was lost is not known and can not be asked for again. */
		d->end->counters.file_errors++;
		d->error = ERR_STORAGE;
		go_on(d);
		return;
	}
	list_append(&d->end->directory_waiting, &d->node);
	sync_directory(d->end);
}

static void
tell(struct spool_end *e, struct queue_put *p, struct queue_record *about, enum err error)
{
	if (about == NULL)
		p->on_done(p, error);
	else
		spool_outcome_ends(e, about, error);
}

static void
put_ends(struct draft *d, enum err error)
{
	struct spool_end *e = d->end;
	struct queue_put *p = d->put;
	struct queue_record *about = d->about;
	const struct queue_moving *moving = d->moving;
	struct spool_mail *m = d->mail;

	if (error == ERR_NO_ROOM)
		e->counters.no_room++;
	if (error == ERR_NO_ROOM || error == ERR_NO_MEMORY || error == ERR_TOO_MANY) {
		e->room_wanted = true;
		end_wake_upkeep(e);
	}
	if (error != ERR_OK) {
		if (m != NULL && m->segment != NULL) {
			struct spool_segment *s = m->segment;
			mail_unplace(m);
			segment_try_free(s);
		}
		if (m != NULL)
			mail_free(e, m);
		draft_free(d, false);
		tell(e, p, about, error);
		return;
	}
	m->mail.body = d->body;
	d->body = NULL;
	mail_loaded(m)->fd = d->fd;
	d->fd = -1;
	if (d->in_file)
		atomic_fetch_sub(&e->spool->bytes_left, (int_fast64_t)block_up(d->size));
	draft_free(d, true);
	index_insert(e, m);
	if (moving != NULL) {
		spool_arrived(e, m, moving);
		tell(e, p, NULL, ERR_OK);
		return;
	}
	m->busy = false;
	for (struct spool_item *i = m->items; i != NULL; i = i->next) {
		item_set_state(e, i, ITEM_CLAIMED);
		i->turn.item.link = (struct list_node){ 0 };
		list_prepend(&p->items, &i->turn.item.link);
	}
	tell(e, p, about, ERR_OK);
}

/* Whatever has just ended for this draft: what is next? */
static void
go_on(struct draft *d)
{
	if (d->abandoned || (d->error != ERR_OK && d->state != DRAFT_GATHERING)) {
		if (is_at_work(d))
			return;
		if (d->abandoned)
			draft_free(d, false);
		else
			put_ends(d, d->error);
		return;
	}
	if (d->resume != NULL && !spool_draft_is_full(&d->draft)) {
		worker_soon(d->end->queue.worker, d->resume);
		d->resume = NULL;
	}
	if (d->state == DRAFT_CLOSING && !is_at_work(d)) {
		ASSERT(list_is_empty(&d->pieces));
		d->state = DRAFT_SYNCING;
		op_init(&d->op, on_file_synced);
		ring_sync(ring_of(d), &d->op, d->fd);
	} else if (d->state == DRAFT_LOGGING) {
		log_append(d->end, &d->request);
	}
}

static struct record_put
record_of(const struct draft *d)
{
	return (struct record_put){
		.envelope = d->mail->mail.envelope,
		.starts = d->starts,
		.hold_revision = d->moving != NULL,
		.body_kind = d->in_file ? BODY_FILE : BODY_INLINE,
		.body_crc = d->crc,
		.body_size = d->size,
		.block_crcs = span_of(d->crcs, d->crcs_size),
	};
}

static uint64_t
put_size(struct spool_end *e, struct queue_request *r)
{
	const struct draft *d = CONTAINER_OF(r, struct draft, request);
	struct record_put record = record_of(d);

	(void)e;
	return record_size(record_put_size(&record), d->in_file ? 0 : d->size);
}

static void
put_write(struct spool_end *e, struct queue_request *r, struct buf *out, uint64_t place)
{
	const struct draft *d = CONTAINER_OF(r, struct draft, request);
	struct record_put record = record_of(d);
	size_t at = out->size;

	record_write_put(out, &record, e->log.active->epoch, place);
	mail_place(d->mail, e->log.active, place, (uint32_t)(out->size - at));
	e->log.active->puts++;
	for (uint64_t done = 0; !d->in_file && done < d->size;) {
		struct span part = body_at(d->body, done);
		ASSERT(part.size > 0);
		buf_append(out, part);
		done += part.size;
	}
	record_pad(out);
}

static uint64_t
arrival_size(struct spool_end *e, struct queue_request *r)
{
	const struct draft *d = CONTAINER_OF(r, struct draft, request);
	struct record_change mark = spool_arrival_mark(d->moving);

	return put_size(e, r) + record_size(record_change_size(&mark), 0);
}

/* With its mark in one batch: after a crash both are there or neither is. */
static void
arrival_write(struct spool_end *e, struct queue_request *r, struct buf *out, uint64_t place)
{
	const struct draft *d = CONTAINER_OF(r, struct draft, request);
	struct record_change mark = spool_arrival_mark(d->moving);
	size_t at = out->size;

	put_write(e, r, out, place);
	mark.put_sequence = e->log.active->sequence;
	segment_refer(e->log.active, mark.put_sequence);
	record_write_change(out, &mark, e->log.active->epoch, place + (out->size - at));
}

static void
put_done(struct spool_end *e, struct queue_request *r)
{
	struct draft *d = CONTAINER_OF(r, struct draft, request);

	(void)e;
	put_ends(d, r->error);
}

static const struct queue_request_kind put_kind = { RESERVE_ALL, put_size, put_write, put_done,
						    false };

static uint64_t
notice_size(struct spool_end *e, struct queue_request *r)
{
	const struct draft *d = CONTAINER_OF(r, struct draft, request);

	return spool_outcome_size(e, d->about) + put_size(e, r);
}

/* In one batch: after a crash both are there or neither is. */
static void
notice_write(struct spool_end *e, struct queue_request *r, struct buf *out, uint64_t place)
{
	const struct draft *d = CONTAINER_OF(r, struct draft, request);
	size_t at = out->size;

	spool_outcome_write(e, d->about, out, place);
	put_write(e, r, out, place + (out->size - at));
}

/* The last ready segment is for outcomes without a notice. */
static const struct queue_request_kind notice_kind = { RESERVE_OUTCOMES, notice_size, notice_write,
						       put_done, true };

static const struct queue_request_kind arrival_kind = { RESERVE_ALL, arrival_size, arrival_write,
							put_done, true };

struct mail_id
spool_put_id(struct queue_request *r)
{
	return CONTAINER_OF(r, struct draft, request)->id;
}

/* A put that is refused before anything was written. */
static void
refused_done(struct spool_end *e, struct queue_request *r)
{
	struct draft *d = CONTAINER_OF(r, struct draft, request);

	(void)e;
	d->state = DRAFT_CLOSING;
	d->error = r->error;
	go_on(d);
}

static const struct queue_request_kind refused_kind = { RESERVE_ALL, NULL, NULL, refused_done,
							false };

/* Are there as many mails, or items, as the option allows? */
static bool
is_at_limit(const struct spool_end *e)
{
	size_t most = e->spool->options.items_max;

	return e->mails.used >= most || e->items.used >= most;
}

/* The mail as it will be in memory, before it is written: then nothing can fail for memory. */
static enum err
prepare(struct draft *d, const struct mail_envelope *envelope)
{
	struct spool_end *e = d->end;
	struct spool_recipient *all;

	if (d->size >> SPOOL_BODY_BITS != 0)
		return ERR_TOO_BIG;
	if (d->about == NULL && is_at_limit(e))
		return ERR_TOO_MANY;
	struct spool_mail *m = mail_new(e, d->id, envelope->recipient_count);
	d->mail = m;
	if (m == NULL)
		return is_at_limit(e) ? ERR_TOO_MANY : ERR_NO_MEMORY;
	struct spool_loaded *l = loaded_copy(e, envelope, span_of(d->crcs, d->crcs_size));
	if (l == NULL)
		return ERR_NO_MEMORY;
	l->envelope.body_size = d->size;
	l->body_crc = d->crc;
	l->body_kind = d->in_file ? BODY_FILE : BODY_INLINE;
	m->mail.envelope = &l->envelope;
	mail_describe(m, envelope->accepted_at_ms, d->size, d->in_file);
	m->busy = true; /* until it is kept */
	mail_set_sender(e, m, envelope->sender);
	all = mail_recipients(m);
	for (uint32_t i = 0; i < m->recipient_count; i++) {
		const struct mail_recipient *from = &envelope->recipients[i];
		all[i].site = from->site;
		recipient_set_attempts(&all[i], from->attempts);
		recipient_set_address(e, &all[i], from->address);
		all[i].notified = from->notified;
		all[i].retry_at_ms = from->retry_at_ms;
		recipient_set_state(e, &all[i], from->state);
		recipient_set_reply(e, &all[i], from->reply);
		if (d->moving != NULL) /* the reply, too: there are outcomes already */
			recipient_show(&all[i], &l->recipients[i]);
	}
	if (!mail_make_items(e, m, l->envelope.sender))
		return is_at_limit(e) ? ERR_TOO_MANY : ERR_NO_MEMORY;
	ASSERT(m->items != NULL); /* a mail without a pending recipient has no business here */
	for (struct spool_item *i = m->items; i != NULL; i = i->next) {
		if (!item_fill_recipients(e, i))
			return ERR_NO_MEMORY;
	}
	const struct queue_request_kind *kind = d->request.kind;
	struct record_put record = record_of(d);
	uint64_t meta = record_put_size(&record);
	uint64_t size = kind->size(e, &d->request);
	meta += d->about == NULL ? 0 : spool_outcome_size(e, d->about);
	if (meta > RECORD_META_MOST || size > SPOOL_BATCH - FRAME_SIZE)
		return ERR_TOO_BIG;
	return log_has_room(e, size, kind->reserve) ? ERR_OK : ERR_NO_ROOM;
}

static void
write_last(struct draft *d)
{
	struct piece *last = piece_filling(d);

	if (last == NULL)
		return;
	size_t size = block_up(last->size);
	memset(last->data + last->size, 0, size - last->size);
	last->size = size;
	piece_write(last);
}

static void
put_start(struct spool_end *e, struct queue_put *p, struct queue_record *about, enum err error)
{
	struct draft *d = draft_of(p->draft);
	const struct queue_request_kind *kind = d->moving != NULL ? &arrival_kind
						: about == NULL   ? &put_kind
								  : &notice_kind;

	ASSERT(d->state == DRAFT_GATHERING && d->end == e);
	ASSERT(mail_id_eq(d->id, p->envelope->id));
	list_init(&p->items);
	d->put = p;
	d->about = about;
	d->request = (struct queue_request){ .kind = kind };
	error = error == ERR_OK ? d->error : error;
	if (error == ERR_OK && d->body == NULL && !d->in_file) {
		d->body = body_new(&e->budget, 0); /* an empty mail */
		error = d->body == NULL ? ERR_NO_MEMORY : ERR_OK;
	}
	if (error == ERR_OK && d->in_file) {
		write_last(d);
		error = d->error;
	}
	if (error == ERR_OK)
		error = prepare(d, p->envelope);
	if (error != ERR_OK) {
		spool_finish_later(e, &d->request, &refused_kind, error);
		return;
	}
	if (!d->in_file) {
		d->state = DRAFT_LOGGING;
		log_append(e, &d->request);
		return;
	}
	d->state = DRAFT_CLOSING;
	if (!is_at_work(d))
		go_on(d);
}

void
spool_put(struct queue *q, struct queue_put *p)
{
	struct spool_end *e = spool_end_of(q);

	put_start(e, p, NULL, e->stopping ? ERR_SHUTTING_DOWN : ERR_OK);
}

/* Copies the starts: they are lent for as long as the put, and the records want them so. */
void
spool_put_moving(struct queue *q, struct queue_put *p, struct queue_moving *moving)
{
	struct spool_end *e = spool_end_of(q);
	struct draft *d = draft_of(p->draft);
	uint32_t count = moving->envelope->recipient_count;
	enum err error = e->stopping ? ERR_SHUTTING_DOWN : ERR_OK;

	d->moving = moving;
	d->starts = calloc(count, sizeof *d->starts);
	for (uint32_t n = 0; d->starts != NULL && n < count; n++)
		d->starts[n] =
			(struct record_starts){ moving->starts[n].starts, moving->starts[n].closed,
						moving->starts[n].alone };
	if (error == ERR_OK && d->starts == NULL)
		error = ERR_NO_MEMORY;
	put_start(e, p, NULL, error);
}

void
spool_put_notice(struct spool_end *e, struct queue_record *r, enum err error)
{
	put_start(e, r->notice, r, error);
}

enum err
spool_admit_silently(const struct spool_end *e, uint64_t size)
{
	bool in_file = size > e->spool->options.file_threshold;
	uint64_t memory = in_file ? (uint64_t)UNWRITTEN_MOST : size;

	if (e->stopping)
		return ERR_SHUTTING_DOWN;
	if (is_at_limit(e))
		return ERR_TOO_MANY;
	if (e->drafts.used >= e->drafts.count_max ||
	    e->budget.used_bytes + memory > e->budget.most_bytes)
		return ERR_NO_MEMORY;
	if (!log_has_room(e, in_file ? 0 : size, RESERVE_ALL))
		return ERR_NO_ROOM;
	if (in_file && atomic_load(&e->spool->bytes_left) < (int_fast64_t)size)
		return ERR_NO_ROOM;
	return ERR_OK;
}

enum err
spool_admit(struct queue *q, uint64_t size)
{
	struct spool_end *e = spool_end_of(q);
	enum err error = spool_admit_silently(e, size);

	e->counters.no_room += error == ERR_NO_ROOM;
	e->counters.no_memory += error == ERR_NO_MEMORY;
	e->counters.too_many += error == ERR_TOO_MANY;
	e->room_wanted |= error != ERR_OK;
	if (error != ERR_OK)
		end_wake_upkeep(e);
	return error;
}
