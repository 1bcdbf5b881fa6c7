/* SPDX-License-Identifier: Apache-2.0
 *
 * Group commit: what has arrived during the last commit is the next one.
 *
 * Requests are encoded when a flight is free, not when they come, so a batch is as large as the
 * disk is slow. A commit costs the disk and the kernel about the same whatever is in it, so two
 * rules keep batches few under load and quick otherwise: while batches are in the kernel, a further
 * one leaves only when it has as many records as all of those; and outcomes, for which no client
 * waits, lie for company until something urgent comes, they are many, or a few ms are over. Up to
 * flights_most batches are in the kernel; they are told in the order of their numbers, whatever the
 * order in which they end. A new segment is begun only when all batches of the old one have ended:
 * an idle moment every 64 MiB buys that a failed batch never has a successor in another segment.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/spool/internal.h"

enum {
	REPLENISH_MS = 1000,
	COMPANY_MS = 4,     /* and a tick of the timers, 8 ms, at most */
	COMPANY_MOST = 256, /* records that wait for company */
	FILL_FACTOR = 4,    /* zeroing goes on so many times as fast as a busy log */
};

static void on_commit(struct task *t);
static void on_tell(struct task *t);
static void on_company_over(struct timer *t);
static void settle(struct spool_end *e);

bool
log_init(struct spool_end *e)
{
	struct spool_log *l = &e->log;

	*l = (struct spool_log){ .state = LOG_NONE, .next_lsn = 1, .id = random_u64() };
	list_init(&l->pending);
	list_init(&l->early);
	list_init(&l->doubtful);
	list_init(&l->flying);
	timer_init(&l->company, on_company_over);
	task_init(&l->commit, on_commit);
	task_init(&l->tell, on_tell);
	l->flights_most = e->spool->options.flights;
	l->places = malloc(RECORD_INDEX_PLACES_MOST * sizeof *l->places);
	for (unsigned i = 0; i < l->flights_most; i++) {
		l->flights[i].end = e;
		l->flights[i].buffer = aligned_alloc(SPOOL_BLOCK, SPOOL_BATCH);
		list_init(&l->flights[i].requests);
		if (l->flights[i].buffer == NULL)
			return false;
	}
	return l->places != NULL;
}

void
log_fini(struct spool_end *e)
{
	ASSERT(list_is_empty(&e->log.flying));
	for (unsigned i = 0; i < e->log.flights_most; i++)
		free(e->log.flights[i].buffer);
	free(e->log.metas);
	free(e->log.places);
}

void
log_append(struct spool_end *e, struct queue_request *r)
{
	struct spool_log *l = &e->log;
	struct worker *w = e->queue.worker;

	ASSERT(r->kind != NULL);
	r->error = ERR_OK;
	list_append(&l->pending, &r->node);
	end_wake_upkeep(e);
	l->pending_count++;
	l->urgent_count += !r->kind->may_wait;
	if (r->kind->may_wait && !timer_is_set(&l->company))
		timer_set(&w->timers, &l->company, w->now_ms + COMPANY_MS);
	worker_last(e->queue.worker, &e->log.commit);
}

static void
on_company_over(struct timer *t)
{
	struct spool_end *e = CONTAINER_OF(t, struct spool_end, log.company);

	e->log.company_is_over = true;
	log_kick(e);
}

/* Out of the pending ones: into a batch, or refused. */
static void
take_pending(struct spool_end *e, struct queue_request *r)
{
	struct spool_log *l = &e->log;

	ASSERT(l->pending_count > 0);
	list_unlink(&r->node);
	l->pending_count--;
	l->urgent_count -= !r->kind->may_wait;
	if (l->pending_count > l->urgent_count)
		return;
	l->company_is_over = false;
	timer_stop(&e->queue.worker->timers, &l->company);
}

/* Is it time for another batch? */
static bool
is_time(const struct spool_log *l)
{
	if (l->pending_count == 0 || l->pending_count < l->flying_count)
		return false;
	return l->urgent_count > 0 || l->company_is_over || l->pending_count >= COMPANY_MOST;
}

void
log_kick(struct spool_end *e)
{
	if (e->started)
		worker_last(e->queue.worker, &e->log.commit);
}

bool
log_is_idle(const struct spool_end *e)
{
	const struct spool_log *l = &e->log;

	return list_is_empty(&l->pending) && list_is_empty(&l->flying) &&
	       list_is_empty(&l->early) && list_is_empty(&l->doubtful) && l->state != LOG_OPENING &&
	       l->state != LOG_CLOSING;
}

static void
finish(struct spool_end *e, struct queue_request *r, enum err error)
{
	list_unlink(&r->node);
	r->error = error;
	r->kind->done(e, r);
}

static void
finish_all(struct spool_end *e, struct list *requests, enum err error)
{
	struct list now;
	struct list_node *node;

	/* A list of its own: on_done may append. */
	list_init(&now);
	list_take_all(&now, requests);
	while ((node = list_first(&now)) != NULL)
		finish(e, LIST_ITEM(node, struct queue_request, node), error);
}

/* ---- the index of the active segment ---- */

static uint64_t
index_batch_size(const struct spool_log *l, uint64_t more)
{
	return block_up(FRAME_SIZE +
			record_size(record_index_size(l->place_count + 1), l->metas_size + more));
}

static bool
index_add(struct spool_log *l, struct span meta)
{
	size_t padded = (meta.size + 7) / 8 * 8;

	if (l->metas_size + padded > l->metas_capacity) {
		size_t capacity = l->metas_capacity == 0 ? SPOOL_INDEX_FLUSH : l->metas_capacity;
		while (capacity < l->metas_size + padded)
			capacity *= 2;
		uint8_t *larger = realloc(l->metas, capacity);
		if (larger == NULL)
			return false;
		l->metas = larger;
		l->metas_capacity = capacity;
	}
	memset(l->metas + l->metas_size, 0, padded);
	memcpy(l->metas + l->metas_size, meta.data, meta.size);
	l->metas_size += padded;
	return true;
}

static void
write_index(struct spool_log *l, struct spool_flight *f, struct buf *out)
{
	size_t from = out->size;
	uint64_t place = f->place + from;

	record_write_index(out, l->places, l->place_count, span_of(l->metas, l->metas_size),
			   f->segment->epoch, place);
	l->places[l->place_count++] =
		(struct record_place){ (uint32_t)place, (uint32_t)(out->size - from) };
	f->segment->last_index = place;
	l->metas_size = 0;
	f->count++;
}

/* ---- building a batch ---- */

/* Zeros on their way into the active segment must not meet a batch. */
static bool
meets_zeros(const struct spool_log *l)
{
	return l->active->op.in_kernel && l->place + SPOOL_BATCH > l->active->filled;
}

static struct spool_flight *
free_flight(struct spool_log *l)
{
	for (unsigned i = 0; i < l->flights_most; i++) {
		if (!l->flights[i].busy)
			return &l->flights[i];
	}
	return NULL;
}

/* What to do with a request that needs another segment. */
enum need { NEED_SEGMENT, NEED_WAIT, NEED_REFUSE };

static enum need
need_of(struct spool_end *e, const struct queue_request *r)
{
	if (e->log.finishing)
		return NEED_SEGMENT;
	if (e->spares > r->kind->reserve)
		return NEED_SEGMENT;
	segment_make(e);
	return e->creating ? NEED_WAIT : NEED_REFUSE;
}

static bool
fits_batch(const struct spool_log *l, const struct buf *out, uint64_t size)
{
	/* Its metas must fit into an index, too; they are never larger than the records. */
	return out->size + size <= SPOOL_BATCH &&
	       l->metas_size + (size < RECORD_META_MOST ? size : RECORD_META_MOST) <=
		       SPOOL_INDEX_MOST;
}

static bool
fits_segment(const struct spool_log *l, const struct buf *out, uint64_t size)
{
	/* Here the meta is bounded by the whole record, which wastes little at the end. */
	uint64_t meta = size < RECORD_META_MOST ? size : RECORD_META_MOST;

	return l->place + block_up(out->size + size) + index_batch_size(l, meta) <=
		       l->active->size &&
	       l->place_count + 2 < RECORD_INDEX_PLACES_MOST;
}

/* An index may be written before the segment's end only where the last one has room behind it: what
 * is kept free for that one is all that the segment has left otherwise. */
static bool
fits_early_index(const struct spool_log *l)
{
	uint64_t early = block_up(FRAME_SIZE +
				  record_size(record_index_size(l->place_count), l->metas_size));
	uint64_t last =
		block_up(FRAME_SIZE + record_size(record_index_size(l->place_count + 1), 0));

	return l->place + early + last <= l->active->size &&
	       l->place_count + 2 < RECORD_INDEX_PLACES_MOST;
}

static void
write_request(struct spool_end *e, struct spool_flight *f, struct queue_request *r, struct buf *out)
{
	size_t at = out->size;

	take_pending(e, r);
	r->kind->write(e, r, out, f->place + at);
	ASSERT(!out->overflow && out->size % 8 == 0);
	while (at < out->size) { /* one record, or some that stand and fall together */
		struct span record = span_after(buf_span(out), at);
		uint32_t meta_size;
		at += record_written(record, &meta_size);
		/* Without an index the segment is read whole at the next start; nothing is lost. */
		if (!index_add(&e->log, span_first(record, meta_size)))
			e->log.active->was_sealed = false;
		f->count++;
	}
	list_append(&f->requests, &r->node);
}

/* Fills the batch from the pending requests. */
static void
build(struct spool_end *e, struct spool_flight *f, struct buf *out)
{
	struct spool_log *l = &e->log;
	struct list_node *node;

	if (l->metas_size >= SPOOL_INDEX_FLUSH && fits_early_index(l))
		write_index(l, f, out);
	while ((node = list_first(&l->pending)) != NULL) {
		struct queue_request *r = LIST_ITEM(node, struct queue_request, node);
		uint64_t size = r->kind->size(e, r);
		ASSERT(size % 8 == 0 && size <= SPOOL_BATCH - FRAME_SIZE);
		if (!fits_segment(l, out, size)) {
			enum need need = need_of(e, r);
			if (need == NEED_REFUSE) {
				take_pending(e, r);
				finish(e, r, ERR_NO_ROOM);
				continue;
			}
			if (need == NEED_SEGMENT) {
				l->state = LOG_CLOSING;
				l->index_due = true;
			}
			return;
		}
		if (!fits_batch(l, out, size)) {
			if (f->count == 0) /* the index is full, the batch is not */
				write_index(l, f, out);
			return;
		}
		write_request(e, f, r, out);
	}
}

static void
on_flight(struct op *op, struct completion c)
{
	struct spool_flight *f = CONTAINER_OF(op, struct spool_flight, op);
	struct spool_end *e = f->end;
	struct ring *ring = e->queue.worker->ring;

	if (c.result > 0 && !f->syncing) {
		/* Short, but not refused: the rest, from a block on. */
		f->written += (size_t)c.result / SPOOL_BLOCK * SPOOL_BLOCK;
		if (f->written < f->size && c.result >= SPOOL_BLOCK) {
			ring_write_durable(ring, op, f->segment->fd, f->buffer + f->written,
					   f->size - f->written, f->place + f->written);
			return;
		}
	}
	if (f->written == f->size && !e->spool->direct && !f->syncing) {
		f->syncing = true;
		ring_sync(ring, op, f->segment->fd);
		return;
	}
	f->done = true;
	f->failed = f->written < f->size || c.result < 0;
	if (f->failed)
		e->counters.write_errors++;
	settle(e);
}

static void
submit(struct spool_end *e, struct spool_flight *f, struct buf *out)
{
	struct spool_log *l = &e->log;
	struct frame frame = {
		.epoch = f->segment->epoch,
		.lsn = l->next_lsn,
		.acked = l->acked_lsn,
		.place = f->place,
		.size = (uint32_t)out->size,
		.count = f->count,
	};

	frame_write(f->buffer, &frame);
	f->size = block_up(out->size);
	memset(f->buffer + out->size, 0, f->size - out->size);
	f->lsn = l->next_lsn++;
	f->busy = true;
	f->done = f->failed = f->syncing = false;
	f->written = 0;
	f->began_us = clock_monotonic_us();
	l->place += f->size;
	f->segment->tail = l->place;
	f->segment->end_lsn = l->next_lsn;
	list_append(&l->flying, &f->node);
	l->flying_count += f->count;
	if (e->spool->options.durability == QUEUE_MEMORY) {
		list_take_all(&l->early, &f->requests);
		worker_soon(e->queue.worker, &l->tell);
	}
	op_init(&f->op, on_flight);
	if (e->spool->direct)
		ring_write_durable(e->queue.worker->ring, &f->op, f->segment->fd, f->buffer,
				   f->size, f->place);
	else
		ring_write(e->queue.worker->ring, &f->op, f->segment->fd, f->buffer, f->size,
			   f->place);
}

static void
on_tell(struct task *t)
{
	struct spool_end *e = CONTAINER_OF(t, struct spool_end, log.tell);

	finish_all(e, &e->log.early, ERR_OK);
}

/* ---- one segment after the other ---- */

static void
on_sealed(struct spool_segment *s, bool ok)
{
	/* A head that still says OPEN only costs time at the next start. */
	(void)ok;
	segment_try_free(s);
	log_kick(s->end);
}

static void
close_active(struct spool_end *e)
{
	struct spool_segment *s = e->log.active;

	ASSERT(!s->op.in_kernel);
	e->log.active = NULL;
	e->log.state = LOG_NONE;
	s->state = SEGMENT_SEALED;
	segment_write_head(s, s->was_sealed ? SEGMENT_IS_SEALED : SEGMENT_IS_OPEN, on_sealed);
}

static void
refuse_doubtful(struct spool_end *e, enum err error)
{
	struct list_node *n;

	for (n = list_first(&e->log.doubtful); n != NULL; n = list_next(&e->log.doubtful, n)) {
		struct queue_request *r = LIST_ITEM(n, struct queue_request, node);
		bool is_put = r->kind->reserve == RESERVE_ALL;
		e->counters.cancels += is_put && error == ERR_STORAGE;
		e->counters.in_doubt += is_put && error == ERR_IN_DOUBT;
		if (is_put)
			spool_report_refused(e->queue.worker, spool_put_id(r), error);
	}
	finish_all(e, &e->log.doubtful, error);
}

static void
on_opened(struct spool_segment *s, bool ok)
{
	struct spool_end *e = s->end;
	struct spool_log *l = &e->log;

	ASSERT(l->state == LOG_OPENING && l->opening == s);
	l->opening = NULL;
	l->state = LOG_NONE;
	if (!ok) {
		s->state = SEGMENT_FAILED;
		e->counters.segments_given_up++;
		spool_report_failure(e->queue.worker, s->name, "write its head");
		l->open_failures++;
		/* Two disks' worth of bad luck: nothing can be proved any more. */
		if (l->open_failures >= 2)
			refuse_doubtful(e, ERR_IN_DOUBT);
		segment_try_free(s);
		return;
	}
	l->open_failures = 0;
	l->state = LOG_OPEN;
	l->active = s;
	l->place = SEGMENT_FIRST;
	l->metas_size = l->place_count = 0;
	s->state = SEGMENT_ACTIVE;
	if (l->given_up != NULL) {
		s->keep_void = true;
		s->voids = l->given_up->sequence;
		l->given_up = NULL;
	}
	/* This head says that the failed batches are void: now they may be refused. */
	refuse_doubtful(e, ERR_STORAGE);
	log_kick(e);
}

/* In state NONE: begins a segment if a request deserves one. */
static void
open_next(struct spool_end *e)
{
	struct spool_log *l = &e->log;
	struct list_node *node;

	while (list_is_empty(&l->doubtful) && (node = list_first(&l->pending)) != NULL) {
		struct queue_request *r = LIST_ITEM(node, struct queue_request, node);
		enum need need = need_of(e, r);
		if (need == NEED_WAIT)
			return;
		if (need == NEED_SEGMENT)
			break;
		take_pending(e, r);
		finish(e, r, ERR_NO_ROOM);
	}
	if (list_is_empty(&l->doubtful) && list_is_empty(&l->pending))
		return;
	struct spool_segment *s = segment_take(e);
	if (s == NULL) {
		segment_make(e);
		if (!e->creating && e->spares == 0)
			refuse_doubtful(e, ERR_IN_DOUBT);
		return;
	}
	s->sequence = atomic_fetch_add(&e->spool->next_sequence, 1);
	s->epoch = random_u64();
	s->log = l->id;
	s->first_lsn = s->end_lsn = l->next_lsn;
	s->tail = SEGMENT_FIRST;
	s->was_sealed = true;
	atomic_store(&e->spool->sequences[s->number], s->sequence);
	l->state = LOG_OPENING;
	l->opening = s;
	segment_write_head(s, SEGMENT_IS_OPEN, on_opened);
	/* Mostly one is freed before long; a new one costs the disk all its zeros. */
	e->replenish_at_ms = e->queue.worker->now_ms + REPLENISH_MS;
	if (e->spares + 1 < SPOOL_SPARES)
		segment_make(e);
}

/* Nothing is on its way into the active segment any more, no zeros either. */
static bool
is_over(const struct spool_log *l)
{
	return l->state == LOG_CLOSING && !l->index_due && list_is_empty(&l->flying) &&
	       !l->active->op.in_kernel;
}

static void
commit_index(struct spool_end *e)
{
	struct spool_log *l = &e->log;
	struct spool_flight *f = free_flight(l);

	if (f == NULL || meets_zeros(l))
		return;
	struct buf out = buf_of(f->buffer, SPOOL_BATCH);
	out.size = FRAME_SIZE;
	f->segment = l->active;
	f->place = l->place;
	f->count = 0;
	write_index(l, f, &out);
	ASSERT(f->place + block_up(out.size) <= l->active->size);
	submit(e, f, &out);
	l->index_due = false;
}

static void
on_commit(struct task *t)
{
	struct spool_end *e = CONTAINER_OF(t, struct spool_end, log.commit);
	struct spool_log *l = &e->log;
	struct spool_flight *f;

	if (l->state == LOG_NONE)
		open_next(e);
	while (l->state == LOG_OPEN && is_time(l) && !meets_zeros(l) &&
	       (f = free_flight(l)) != NULL) {
		struct buf out = buf_of(f->buffer, SPOOL_BATCH);
		out.size = FRAME_SIZE;
		f->segment = l->active;
		f->place = l->place;
		f->count = 0;
		f->busy = true; /* while on_done of a refused one may come back here */
		build(e, f, &out);
		f->busy = false;
		if (f->count == 0)
			break;
		submit(e, f, &out);
	}
	if (l->state == LOG_CLOSING && l->index_due)
		commit_index(e);
	if (is_over(l))
		settle(e);
	segments_fill(e);
}

/* ---- what has come back ---- */

static void
count_in(uint64_t histogram[SPOOL_BUCKETS], uint64_t value)
{
	unsigned bucket = value == 0 ? 0 : 63 - (unsigned)__builtin_clzll(value);

	histogram[bucket < SPOOL_BUCKETS ? bucket : SPOOL_BUCKETS - 1]++;
}

static void
acknowledge(struct spool_end *e, struct spool_flight *f)
{
	uint64_t took_us = clock_monotonic_us() - f->began_us;
	struct spool_counters *c = &e->counters;
	struct list requests;

	ASSERT(f->lsn == e->log.acked_lsn + 1);
	e->log.acked_lsn = f->lsn;
	c->commits++;
	atomic_fetch_add_explicit(&e->spool->commits, 1, memory_order_relaxed);
	c->records += f->count;
	c->bytes_written += f->size;
	e->fill_credit += FILL_FACTOR * f->size;
	if (e->fill_credit > SPOOL_BATCH)
		e->fill_credit = SPOOL_BATCH;
	count_in(c->batch_records, f->count);
	count_in(c->commit_us, took_us);
	spool_report_commit(e, f->count, f->size, took_us);
	c->commit_us_longest = took_us > c->commit_us_longest ? took_us : c->commit_us_longest;
	list_unlink(&f->node);
	e->log.flying_count -= f->count;
	list_init(&requests);
	list_take_all(&requests, &f->requests);
	f->busy = false;
	finish_all(e, &requests, ERR_OK);
}

/* The segment does not take writes: nothing behind the first failed batch counts. */
static void
give_up(struct spool_end *e)
{
	struct spool_log *l = &e->log;
	struct spool_segment *s = l->active;
	struct list_node *node;
	bool first = true;

	while ((node = list_shift(&l->flying)) != NULL) {
		struct spool_flight *f = LIST_ITEM(node, struct spool_flight, node);
		ASSERT(f->segment == s && f->done);
		if (first)
			l->next_lsn = f->lsn;
		first = false;
		l->flying_count -= f->count;
		list_take_all(&l->doubtful, &f->requests);
		f->busy = false;
	}
	e->counters.segments_given_up++;
	spool_report_failure(e->queue.worker, s->name, "write");
	s->state = SEGMENT_FAILED;
	s->was_sealed = false;
	s->end_lsn = l->next_lsn;
	l->given_up = s;
	l->active = NULL;
	l->index_due = false;
	l->state = LOG_NONE;
	compaction_kick(e);
}

static bool
all_are_done(const struct spool_log *l)
{
	for (struct list_node *n = list_first(&l->flying); n != NULL;
	     n = list_next(&l->flying, n)) {
		if (!LIST_ITEM(n, struct spool_flight, node)->done)
			return false;
	}
	return true;
}

static void
settle(struct spool_end *e)
{
	struct spool_log *l = &e->log;
	struct list_node *node;

	while ((node = list_first(&l->flying)) != NULL) {
		struct spool_flight *f = LIST_ITEM(node, struct spool_flight, node);
		if (!f->done)
			break;
		if (f->failed) {
			l->state = LOG_CLOSING; /* no more batches */
			l->index_due = false;
			if (!all_are_done(l))
				return;
			give_up(e);
			break;
		}
		acknowledge(e, f);
	}
	if (is_over(l))
		close_active(e);
	log_kick(e);
}

bool
log_has_room(const struct spool_end *e, uint64_t size, unsigned reserve)
{
	const struct spool_log *l = &e->log;

	if (e->spares > reserve || !e->create_failed)
		return true; /* there is one, or there will be */
	return l->active != NULL &&
	       l->place + index_batch_size(l, size) + size + SPOOL_BATCH <= l->active->size;
}

bool
log_finish(struct spool_end *e)
{
	struct spool_log *l = &e->log;

	if (!log_is_idle(e))
		return false;
	l->finishing = true;
	if (l->state == LOG_OPEN) {
		l->state = LOG_CLOSING;
		l->index_due = true;
		log_kick(e);
		return false;
	}
	return l->state == LOG_NONE;
}
