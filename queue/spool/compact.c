/* SPDX-License-Identifier: Apache-2.0
 *
 * Copying forward. Two things leave a segment before it is freed:
 *
 * Live mails, when the log takes more than twice their bytes and four segments, or when the
 * segment has failed. A mail that is being moved is busy: nobody can claim it, so its place
 * changes under nobody's hands. Mails that are claimed stay; their segment's turn comes again.
 *
 * Changes about mails whose PUT lies in another segment that still exists: final ones (or the
 * mail would come back to life) and others (or it would forget its attempts). They are found
 * through the segment's index and written again as they are.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/spool/internal.h"

enum {
	COPIES_MOST = 8, /* at once: intake and outcomes have most of every batch */
	REST_MS = 5000,  /* before a segment is tried again of which all is claimed */
	INDEX_READ = SPOOL_BATCH + SPOOL_BLOCK,
};

static void on_compact(struct task *t);

void
compaction_init(struct spool_end *e)
{
	task_init(&e->compaction.task, on_compact);
}

void
compaction_kick(struct spool_end *e)
{
	if (e->started)
		worker_soon(e->queue.worker, &e->compaction.task);
}

bool
compaction_is_idle(const struct spool_end *e)
{
	return e->compaction.in_flight == 0 && e->compaction.freeing == NULL;
}

/* ---- live mails ---- */

struct copy {
	struct queue_request request;
	struct op op;
	struct spool_end *end;
	struct spool_mail *mail;
	struct spool_loaded *loaded;
	uint8_t *memory;
	size_t capacity;
	size_t skip;
	struct record record;
	struct spool_segment *to;
	uint64_t place;
	uint32_t meta_size;
};

static void
copy_free(struct copy *c)
{
	struct spool_end *e = c->end;

	if (c->loaded != NULL)
		loaded_free(e, c->loaded);
	e->budget.used_bytes -= c->capacity;
	free(c->memory);
	free(c);
	e->compaction.in_flight--;
	compaction_kick(e);
}

static void
copy_ends(struct copy *c)
{
	struct spool_mail *m = c->mail;
	struct spool_end *e = c->end;

	m->busy = false;
	for (struct spool_item *i = m->items; i != NULL; i = i->next)
		item_wait(e, i, i->turn.item.due_at_ms);
	copy_free(c);
}

static struct record_put
copy_record(struct copy *c)
{
	const struct spool_recipient *all = mail_recipients(c->mail);
	struct record_starts *starts = c->end->starts;

	for (uint32_t i = 0; i < c->mail->recipient_count; i++)
		starts[i] = (struct record_starts){ all[i].starts, all[i].closed, all[i].alone };
	return (struct record_put){
		.envelope = &c->loaded->envelope,
		.starts = starts,
		.previous_sequence = c->mail->segment->sequence,
		.hold_revision = c->mail->hold_revision,
		.body_kind = c->record.body_kind,
		.body_crc = c->record.body_crc,
		.body_size = c->record.mail_size,
		.block_crcs = c->record.block_crcs,
	};
}

static uint64_t
copy_size(struct spool_end *e, struct queue_request *r)
{
	struct copy *c = CONTAINER_OF(r, struct copy, request);
	struct record_put p = copy_record(c);

	(void)e;
	return record_size(record_put_size(&p), c->record.body_size);
}

static void
copy_write(struct spool_end *e, struct queue_request *r, struct buf *out, uint64_t place)
{
	struct copy *c = CONTAINER_OF(r, struct copy, request);
	struct record_put p = copy_record(c);
	size_t at = out->size;

	record_write_put(out, &p, e->log.active->epoch, place);
	c->to = e->log.active;
	c->place = place;
	c->meta_size = (uint32_t)(out->size - at);
	c->to->live++; /* not to be freed before we know */
	c->to->puts++;
	segment_refer(c->to, p.previous_sequence);
	buf_append(out, c->record.body);
	record_pad(out);
}

static void
copy_done(struct spool_end *e, struct queue_request *r)
{
	struct copy *c = CONTAINER_OF(r, struct copy, request);
	struct spool_segment *from = c->mail->segment;

	if (c->to != NULL)
		c->to->live--;
	if (r->error == ERR_OK) {
		e->counters.copied_records++;
		e->counters.copied_bytes += mail_log_size(c->mail);
		mail_unplace(c->mail);
		mail_place(c->mail, c->to, c->place, c->meta_size);
		segment_try_free(from);
	} else {
		from->rest_until_ms = e->queue.worker->now_ms + REST_MS;
		if (c->to != NULL)
			segment_try_free(c->to);
	}
	copy_ends(c);
}

static const struct queue_request_kind copy_kind = { RESERVE_OUTCOMES, copy_size, copy_write,
						     copy_done, false };

static void
on_copy_read(struct op *op, struct completion completion)
{
	struct copy *c = CONTAINER_OF(op, struct copy, op);
	struct spool_end *e = c->end;
	struct spool_mail *m = c->mail;
	struct span in = span_after(span_of(c->memory, c->capacity), c->skip);

	if (completion.result < 0 || (size_t)completion.result < c->capacity) {
		e->counters.read_errors++;
		m->segment->rest_until_ms = e->queue.worker->now_ms + REST_MS;
		copy_ends(c);
		return;
	}
	if (!record_parse(in, m->segment->epoch, true, &c->record) ||
	    c->record.type != RECORD_PUT || !mail_id_eq(c->record.id, m->mail.id) ||
	    c->record.count != m->recipient_count ||
	    !record_body_is_good(&c->record, c->record.body)) {
		spool_hold_damaged(e, m);
		copy_ends(c);
		return;
	}
	if (spool_scratch(e, m->recipient_count))
		c->loaded = loaded_read(e, m, &c->record);
	if (c->loaded == NULL) {
		m->segment->rest_until_ms = e->queue.worker->now_ms + REST_MS;
		copy_ends(c);
		return;
	}
	/* Replies came later than the mail: where they make it too large, they stay behind. */
	struct record_put p = copy_record(c);
	if (record_put_size(&p) > RECORD_META_MOST ||
	    copy_size(e, &c->request) > SPOOL_BATCH - FRAME_SIZE) {
		for (uint32_t i = 0; i < m->recipient_count; i++)
			c->loaded->recipients[i].reply = span_none();
	}
	c->request.kind = &copy_kind;
	log_append(e, &c->request);
}

static bool
is_movable(const struct spool_mail *m)
{
	return !m->busy && !m->fetching && !m->damaged && !mail_has_claims(m);
}

static bool
copy_start(struct spool_end *e, struct spool_mail *m)
{
	uint64_t at = mail_at(m) / SPOOL_BLOCK * SPOOL_BLOCK;
	size_t capacity = block_up(mail_at(m) - at + mail_log_size(m));
	struct body_budget *b = &e->budget;

	if (capacity > b->most_bytes || b->used_bytes > b->most_bytes - capacity)
		return false;
	struct copy *c = malloc(sizeof *c);
	uint8_t *memory = aligned_alloc(SPOOL_BLOCK, capacity);
	if (c == NULL || memory == NULL) {
		free(c);
		free(memory);
		return false;
	}
	b->used_bytes += capacity;
	*c = (struct copy){
		.end = e, .mail = m, .memory = memory, .capacity = capacity, .skip = mail_at(m) - at
	};
	m->busy = true;
	for (struct spool_item *i = m->items; i != NULL; i = i->next)
		item_take(e, i, ITEM_BUSY);
	e->compaction.in_flight++;
	op_init(&c->op, on_copy_read);
	ring_read(e->queue.worker->ring, &c->op, m->segment->fd, memory, capacity, at);
	return true;
}

static bool
is_too_much(const struct spool_end *e)
{
	uint64_t size = e->spool->segment_size;

	/* The ready ones are a part of the four; so is the one that copies go to. */
	return e->segment_bytes > 2 * e->bytes_live + 4 * size ||
	       (e->create_failed && e->spares < SPOOL_SPARES);
}

static struct spool_segment *
choose(struct spool_end *e)
{
	struct spool_segment *best = NULL;
	bool too_much = is_too_much(e);

	for (struct list_node *n = list_first(&e->segments); n != NULL;
	     n = list_next(&e->segments, n)) {
		struct spool_segment *s = LIST_ITEM(n, struct spool_segment, node);
		bool failed = s->state == SEGMENT_FAILED;
		if (s->live == 0 || s->at_work || (s->state != SEGMENT_SEALED && !failed) ||
		    s->rest_until_ms > e->queue.worker->now_ms)
			continue;
		if (failed)
			return s;
		/* A full one gains nothing. */
		if (too_much && s->live_bytes < s->size / 10 * 9 &&
		    (best == NULL || s->live_bytes < best->live_bytes))
			best = s;
	}
	return best;
}

static void
on_compact(struct task *t)
{
	struct spool_end *e = CONTAINER_OF(t, struct spool_end, compaction.task);
	struct list_node *next;

	if (e->stopping || e->compaction.in_flight >= COPIES_MOST)
		return;
	struct spool_segment *s = choose(e);
	if (s == NULL || !log_has_room(e, SPOOL_BATCH, RESERVE_OUTCOMES))
		return;
	for (struct list_node *n = list_first(&s->mails); n != NULL; n = next) {
		struct spool_mail *m = LIST_ITEM(n, struct spool_mail, by_segment);
		next = list_next(&s->mails, n);
		if (!is_movable(m))
			continue;
		/* What is being moved stands at the end of the list until it has left. */
		list_unlink(n);
		list_append(&s->mails, n);
		if (!copy_start(e, m))
			break;
		if (e->compaction.in_flight >= COPIES_MOST)
			return;
	}
	if (e->compaction.in_flight == 0)
		s->rest_until_ms = e->queue.worker->now_ms + REST_MS;
}

/* ---- changes that are still needed ---- */

struct forward {
	struct queue_request request;
	struct spool_segment *from;
	uint64_t put_sequence;
	uint32_t size;
	uint8_t meta[];
};

static void forward_next(struct spool_end *e);

static uint64_t
forward_size(struct spool_end *e, struct queue_request *r)
{
	(void)e;
	return record_size(CONTAINER_OF(r, struct forward, request)->size, 0);
}

static void
forward_write(struct spool_end *e, struct queue_request *r, struct buf *out, uint64_t place)
{
	struct forward *f = CONTAINER_OF(r, struct forward, request);

	segment_refer(e->log.active, f->put_sequence);
	record_write_again(out, span_of(f->meta, f->size), e->log.active->epoch, place);
}

static void
forward_done(struct spool_end *e, struct queue_request *r)
{
	struct forward *f = CONTAINER_OF(r, struct forward, request);

	e->counters.copied_records++;
	e->compaction.failed |= r->error != ERR_OK;
	free(f);
	if (--e->compaction.forwards == 0)
		forward_next(e);
}

static const struct queue_request_kind forward_kind = { RESERVE_OUTCOMES, forward_size,
							forward_write, forward_done, false };

static int
compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool
is_existing(const struct spool_compaction *c, uint64_t sequence)
{
	return bsearch(&sequence, c->existing, c->existing_count, sizeof *c->existing,
		       compare_u64) != NULL;
}

/* A copy that is no longer live here may have a predecessor that exists: say that it is void. */
static struct record_change
void_put(const struct record *r)
{
	return (struct record_change){ .type = RECORD_GONE,
				       .id = r->id,
				       .put_sequence = r->put_sequence,
				       .gone = GONE_MOVED };
}

static bool
forward_record(struct spool_end *e, const struct record *r)
{
	struct record_change gone = void_put(r);
	bool is_put = r->type == RECORD_PUT;
	size_t size = is_put ? record_change_size(&gone) : r->meta_size;
	struct forward *f = malloc(sizeof *f + size + 8);

	if (f == NULL)
		return false;
	*f = (struct forward){ .request.kind = &forward_kind,
			       .from = e->compaction.freeing,
			       .put_sequence = r->put_sequence,
			       .size = (uint32_t)size };
	struct buf out = buf_of(f->meta, size + 8);
	if (is_put)
		record_write_change(&out, &gone, 0, 0);
	else
		buf_append(&out, r->meta);
	e->compaction.forwards++;
	log_append(e, &f->request);
	return true;
}

static void
forward_ends(struct spool_end *e, bool ok)
{
	struct spool_compaction *c = &e->compaction;
	struct spool_segment *s = c->freeing;

	c->freeing = NULL;
	free(c->memory);
	free(c->places);
	free(c->existing);
	c->memory = NULL;
	c->places = NULL;
	c->existing = NULL;
	if (ok) {
		segment_free_now(s);
		return;
	}
	/* Tried again by upkeep, or free by itself when what it refers to is gone. */
	s->state = SEGMENT_SEALED;
	s->rest_until_ms = e->queue.worker->now_ms + REST_MS;
}

static void
on_index_read(struct op *op, struct completion completion)
{
	struct spool_end *e = CONTAINER_OF(op, struct spool_end, compaction.op);
	struct spool_compaction *c = &e->compaction;
	struct spool_segment *s = c->freeing;
	struct span in = span_of(c->memory, completion.result < 0 ? 0 : (size_t)completion.result);
	struct record index;
	struct record r;

	in = span_after(in, c->skip);
	if (!record_parse(in, s->epoch, true, &index) || index.type != RECORD_INDEX) {
		e->counters.read_errors++;
		s->was_sealed = false;
		forward_ends(e, false);
		return;
	}
	if (c->places == NULL) { /* the last one, which knows the others */
		c->places = malloc((index.count + 1) * sizeof *c->places);
		if (c->places == NULL) {
			forward_ends(e, false);
			return;
		}
		for (uint32_t i = 0; i < index.count; i++)
			c->places[c->place_count++] =
				record_next_place(&index.rest, index.places_have_sizes);
	}
	struct span metas = index.body;
	c->forwards = 1; /* ours, so that none of the others is the last one */
	while (record_parse(metas, s->epoch, false, &r)) {
		if (r.put_sequence != s->sequence && is_existing(c, r.put_sequence))
			c->failed |= !forward_record(e, &r);
		metas = span_after(metas, record_size(r.meta_size, 0));
	}
	c->failed |= metas.size != 0;
	if (--c->forwards == 0)
		forward_next(e);
}

static void
read_index(struct spool_end *e, uint64_t place)
{
	struct spool_compaction *c = &e->compaction;
	struct spool_segment *s = c->freeing;
	uint64_t at = place / SPOOL_BLOCK * SPOOL_BLOCK;
	uint64_t size = s->size - at < c->capacity ? s->size - at : c->capacity;

	c->skip = place - at;
	op_init(&c->op, on_index_read);
	ring_read(e->queue.worker->ring, &c->op, s->fd, c->memory, size, at);
}

static void
forward_next(struct spool_end *e)
{
	struct spool_compaction *c = &e->compaction;

	if (c->failed || c->place_next == c->place_count)
		forward_ends(e, !c->failed);
	else
		read_index(e, c->places[c->place_next++].at);
}

bool
compaction_forward(struct spool_end *e, struct spool_segment *s)
{
	struct spool_compaction *c = &e->compaction;
	uint_fast32_t end = atomic_load(&e->spool->numbers_end);

	if (c->freeing != NULL || e->stopping || s->rest_until_ms > e->queue.worker->now_ms)
		return false;
	c->memory = aligned_alloc(SPOOL_BLOCK, INDEX_READ);
	c->existing = malloc((end + 1) * sizeof *c->existing);
	if (c->memory == NULL || c->existing == NULL) {
		free(c->memory);
		free(c->existing);
		return false;
	}
	c->capacity = INDEX_READ;
	c->existing_count = 0;
	for (uint_fast32_t i = 0; i < end; i++) {
		uint64_t sequence = atomic_load(&e->spool->sequences[i]);
		if (sequence > 1)
			c->existing[c->existing_count++] = sequence;
	}
	qsort(c->existing, c->existing_count, sizeof *c->existing, compare_u64);
	c->freeing = s;
	c->places = NULL;
	c->place_count = c->place_next = 0;
	c->failed = false;
	read_index(e, s->last_index);
	return true;
}
