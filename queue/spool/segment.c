/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of a log: made ahead of need, zeroed when there is nothing better to do, recycled.
 *
 * A ready segment is allocated and its name is durable; writing to it is safe at once, but slower
 * where it is not zeroed yet: the file system turns unwritten extents into written ones with a
 * commit of its journal (4 KiB 210 us instead of 135, 64 KiB 560 instead of 290). So zeroing goes
 * on ahead of the log in the active segment, too, and a head says of a ready one that it is done,
 * or every start would begin anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/spool/internal.h"

/* Pieces while nothing else happens, and beside the commits of a client now and then. */
enum { FILL_QUIET = 256 * 1024, FILL_BUSY = 64 * 1024 };

/* What segment.op does while a file comes or goes. */
enum step {
	STEP_OPEN,
	STEP_ALLOCATE,
	STEP_SYNC,
	STEP_NAME,
	STEP_UNLINK,
	STEP_RENAME,
	STEP_UNNAME,
	STEP_CLOSE,
};

static void run_step(struct spool_segment *s, enum step step);

static struct ring *
ring_of(const struct spool_segment *s)
{
	return s->end->queue.worker->ring;
}

bool
segment_number(struct spool *spool, uint32_t *number)
{
	for (uint32_t i = 0; i < SPOOL_SEGMENTS_MOST; i++) {
		uint_fast64_t none = 0;
		if (!atomic_compare_exchange_strong(&spool->sequences[i], &none, 1))
			continue;
		uint_fast32_t end = atomic_load(&spool->numbers_end);
		while (end < i + 1 &&
		       !atomic_compare_exchange_weak(&spool->numbers_end, &end, i + 1))
			;
		*number = i;
		return true;
	}
	return false;
}

bool
segment_exists(struct spool *spool, uint64_t sequence)
{
	uint_fast32_t end = atomic_load(&spool->numbers_end);

	for (uint_fast32_t i = 0; i < end; i++) {
		if (atomic_load_explicit(&spool->sequences[i], memory_order_acquire) == sequence)
			return true;
	}
	return false;
}

void
segment_name(char name[SPOOL_NAME_SIZE], uint32_t number)
{
	snprintf(name, SPOOL_NAME_SIZE, "%08x.seg", number);
}

struct spool_segment *
segment_new(struct spool_end *e, uint32_t number, uint64_t size)
{
	struct list_node *node = list_shift(&e->dropped);
	struct spool_segment *s =
		node != NULL ? LIST_ITEM(node, struct spool_segment, node) : malloc(sizeof *s);

	if (s == NULL)
		return NULL;
	*s = (struct spool_segment){ .end = e, .number = number, .size = size, .fd = -1 };
	s->lowest_ref = UINT64_MAX;
	list_init(&s->mails);
	segment_name(s->name, number);
	list_append(&e->segments, &s->node);
	e->segment_bytes += size;
	return s;
}

/* ---- coming and going ---- */

static void
drop(struct spool_segment *s)
{
	struct spool_end *e = s->end;

	atomic_fetch_add(&e->spool->bytes_left, (int_fast64_t)s->size);
	atomic_store(&e->spool->sequences[s->number], 0);
	ASSERT(e->segment_bytes >= s->size);
	e->segment_bytes -= s->size;
	s->state = SEGMENT_DROPPED;
	s->at_work = false;
	s->fd = -1;
	list_unlink(&s->node);
	list_append(&e->dropped, &s->node);
	log_kick(e);
}

void
segment_ready(struct spool_segment *s)
{
	struct spool_end *e = s->end;

	s->at_work = false;
	s->state = SEGMENT_READY;
	e->spares++;
	e->create_failed = false;
	s->was_sealed = s->keep_void = s->many_refs = false;
	s->ref_count = 0;
	s->lowest_ref = UINT64_MAX;
	s->puts = s->tail = s->last_index = 0;
	log_kick(e);
}

/* No room: whoever asks until then is refused, not kept waiting. */
static void
create_later(struct spool_end *e)
{
	enum { CREATE_AGAIN_MS = 1000 };

	e->create_failed = true;
	e->create_at_ms = e->queue.worker->now_ms + CREATE_AGAIN_MS;
}

static void
making_failed(struct spool_segment *s, int32_t result)
{
	struct spool_end *e = s->end;

	e->creating = false;
	create_later(e);
	if (result != -ENOSPC && result != -EDQUOT)
		e->counters.write_errors++;
	if (s->fd >= 0)
		run_step(s, STEP_UNLINK);
	else
		drop(s);
}

static void
making_done(struct spool_segment *s)
{
	struct spool_end *e = s->end;

	e->creating = false;
	e->counters.segments_created++;
	segment_ready(s);
	segment_make(e);
}

static void
on_step(struct op *op, struct completion c)
{
	struct spool_segment *s = CONTAINER_OF(op, struct spool_segment, op);

	if (c.result < 0 && s->step <= STEP_NAME) {
		making_failed(s, c.result);
		return;
	}
	switch ((enum step)s->step) {
	case STEP_OPEN:
		s->fd = c.result;
		run_step(s, STEP_ALLOCATE);
		return;
	case STEP_ALLOCATE:
		run_step(s, STEP_SYNC);
		return;
	case STEP_SYNC:
		run_step(s, STEP_NAME);
		return;
	case STEP_NAME:
		making_done(s);
		return;
	case STEP_UNLINK:
	case STEP_RENAME:
	case STEP_UNNAME:
		/* A file that can not be removed still exists, and so does its sequence: what
		 * refers to it stays. */
		if (c.result < 0 && c.result != -ENOENT) {
			s->end->counters.write_errors++;
			s->at_work = false;
			s->state = SEGMENT_FAILED; /* tried again by upkeep */
			return;
		}
		run_step(s, s->step == STEP_UNNAME ? STEP_CLOSE : STEP_UNNAME);
		return;
	case STEP_CLOSE:
		drop(s);
	}
}

static void
run_step(struct spool_segment *s, enum step step)
{
	struct spool *spool = s->end->spool;
	struct ring *ring = ring_of(s);

	s->at_work = true;
	s->step = (uint8_t)step;
	op_init(&s->op, on_step);
	switch (step) {
	case STEP_OPEN:
		ring_open(ring, &s->op, spool->segment_directory, s->name,
			  O_RDWR | O_CREAT | O_CLOEXEC | (spool->direct ? O_DIRECT : 0), 0600);
		return;
	case STEP_ALLOCATE:
		ring_allocate(ring, &s->op, s->fd, 0, s->size);
		return;
	case STEP_SYNC:
		ring_sync(ring, &s->op, s->fd);
		return;
	case STEP_NAME:
	case STEP_UNNAME:
		ring_sync(ring, &s->op, spool->segment_directory);
		return;
	case STEP_UNLINK:
		s->leaving = true; /* never written to again */
		ring_unlink(ring, &s->op, spool->segment_directory, s->name);
		return;
	case STEP_RENAME:
		/* The next start moves it to aside/. By its sequence, which is never used again. */
		s->leaving = true;
		snprintf(s->bad_name, SPOOL_NAME_SIZE, "%llx.bad", (unsigned long long)s->sequence);
		ring_rename(ring, &s->op, spool->segment_directory, s->name, s->bad_name);
		return;
	case STEP_CLOSE:
		ring_close(ring, &s->op, s->fd);
	}
}

void
segment_make(struct spool_end *e)
{
	uint32_t number;
	int_fast64_t size = (int_fast64_t)e->spool->segment_size;

	if (e->creating || e->spares >= SPOOL_SPARES || !e->started || e->log.finishing)
		return;
	if (e->create_failed && e->queue.worker->now_ms < e->create_at_ms)
		return;
	if (atomic_fetch_sub(&e->spool->bytes_left, size) < size) {
		atomic_fetch_add(&e->spool->bytes_left, size);
		create_later(e);
		return;
	}
	struct spool_segment *s = NULL;
	if (segment_number(e->spool, &number)) {
		s = segment_new(e, number, (uint64_t)size);
		if (s == NULL)
			atomic_store(&e->spool->sequences[number], 0);
	}
	if (s == NULL) {
		atomic_fetch_add(&e->spool->bytes_left, size);
		create_later(e);
		return;
	}
	e->creating = true;
	run_step(s, STEP_OPEN);
}

struct spool_segment *
segment_take(struct spool_end *e)
{
	struct spool_segment *best = NULL;

	for (struct list_node *n = list_first(&e->segments); n != NULL;
	     n = list_next(&e->segments, n)) {
		struct spool_segment *s = LIST_ITEM(n, struct spool_segment, node);
		if (s->state == SEGMENT_READY && (best == NULL || s->filled > best->filled))
			best = s;
	}
	/* For one piece of zeros it is worth to wait: the log is told. */
	if (best != NULL && best->op.in_kernel)
		return NULL;
	if (best != NULL) {
		ASSERT(e->spares > 0);
		e->spares--;
		best->state = SEGMENT_OPENING;
	}
	return best;
}

/* ---- zeroing ---- */

static void
on_zeroed(struct spool_segment *s, bool ok)
{
	(void)ok; /* then the next start zeroes it again */
	log_kick(s->end);
}

static void
on_filled(struct op *op, struct completion c)
{
	struct spool_segment *s = CONTAINER_OF(op, struct spool_segment, op);

	/* Zeroing is for speed alone: where it fails, the commits will tell. */
	s->filled =
		c.result > 0 ? s->filled + (uint64_t)c.result / SPOOL_BLOCK * SPOOL_BLOCK : s->size;
	s->end->filling = false;
	atomic_store(&s->end->spool->zeroing, false);
	if (s->state == SEGMENT_READY && s->filled == s->size && c.result > 0 && !s->end->stopping)
		segment_write_head(s, SEGMENT_IS_FREE, on_zeroed);
	log_kick(s->end); /* which may have waited, and calls for the next piece */
}

/* The active one first, then the one that is nearest to its end. */
static struct spool_segment *
choose_to_fill(struct spool_end *e)
{
	struct spool_segment *s = e->log.state == LOG_OPEN ? e->log.active : NULL;
	struct spool_segment *best = NULL;

	if (s != NULL && s->filled < s->size) {
		/* With room for the next batch, or that one would have to wait. */
		if (s->filled < e->log.place + SPOOL_BATCH)
			s->filled = e->log.place + SPOOL_BATCH;
		if (s->filled < s->size)
			return s->op.in_kernel ? NULL : s;
		s->filled = s->size;
	}
	for (struct list_node *n = list_first(&e->segments); n != NULL;
	     n = list_next(&e->segments, n)) {
		s = LIST_ITEM(n, struct spool_segment, node);
		if (s->state == SEGMENT_READY && !s->op.in_kernel && s->filled < s->size &&
		    (best == NULL || s->filled > best->filled))
			best = s;
	}
	return best;
}

bool
segments_are_filled(const struct spool_end *e)
{
	for (struct list_node *n = list_first(&e->segments); n != NULL;
	     n = list_next(&e->segments, n)) {
		const struct spool_segment *s = LIST_ITEM(n, struct spool_segment, node);
		if (s->state == SEGMENT_READY && s->filled < s->size)
			return false;
	}
	return true;
}

void
segments_fill(struct spool_end *e)
{
	size_t step = e->is_quiet ? FILL_QUIET : FILL_BUSY;

	/* One piece at a time, of all workers together, since they share the disk: with many of
	 * them the first mails would else wait for gigabytes of zeros. Never while the log has
	 * work, and where it has some now and then, no more than it has earned: several times what
	 * it writes itself. Who finds another one at it comes again with a commit or upkeep. */
	if (e->filling || e->stopping || e->zeros == NULL || !list_is_empty(&e->log.pending) ||
	    !list_is_empty(&e->log.flying) || (!e->is_quiet && e->fill_credit < step))
		return;
	struct spool_segment *s = choose_to_fill(e);
	if (s == NULL || atomic_exchange(&e->spool->zeroing, true))
		return;
	uint64_t left = s->size - s->filled;
	e->fill_credit -= e->fill_credit < step ? e->fill_credit : step;
	e->filling = true;
	op_init(&s->op, on_filled);
	ring_write(ring_of(s), &s->op, s->fd, e->zeros, left < step ? left : step, s->filled);
}

/* ---- heads ---- */

static void
on_head_written(struct op *op, struct completion c)
{
	struct spool_segment *s = CONTAINER_OF(op, struct spool_segment, op);

	free(s->head);
	s->head = NULL;
	s->at_work = false;
	if (c.result < 0)
		s->end->counters.write_errors++;
	s->on_head(s, c.result >= 0);
}

static void
on_head_to_sync(struct op *op, struct completion c)
{
	struct spool_segment *s = CONTAINER_OF(op, struct spool_segment, op);

	if (c.result != SEGMENT_FIRST) {
		on_head_written(op,
				(struct completion){ .result = c.result < 0 ? c.result : -EIO });
		return;
	}
	if (s->end->spool->direct) {
		on_head_written(op, c);
		return;
	}
	op_init(&s->op, on_head_written);
	ring_sync(ring_of(s), &s->op, s->fd);
}

void
segment_write_head(struct spool_segment *s, uint32_t use,
		   void (*on_head)(struct spool_segment *s, bool ok))
{
	struct segment_head head = {
		.use = use,
		.sequence = s->sequence,
		.epoch = s->epoch,
		.log = s->log,
		.first_lsn = s->first_lsn,
		.size = s->size,
		.end_lsn = s->end_lsn,
		.tail = s->tail,
		.last_index = s->last_index,
		.puts = s->puts,
	};

	ASSERT(!s->op.in_kernel && s->head == NULL);
	s->at_work = true;
	s->on_head = on_head;
	op_init(&s->op, on_head_to_sync);
	s->head = aligned_alloc(SPOOL_BLOCK, SEGMENT_FIRST);
	ASSERT(s->head != NULL); /* 8 KiB, one at a time */
	segment_head_write(s->head, &head);
	if (s->end->spool->direct)
		ring_write_durable(ring_of(s), &s->op, s->fd, s->head, SEGMENT_FIRST, 0);
	else
		ring_write(ring_of(s), &s->op, s->fd, s->head, SEGMENT_FIRST, 0);
}

/* ---- freeing ---- */

void
segment_refer(struct spool_segment *s, uint64_t sequence)
{
	if (sequence == 0 || sequence == s->sequence)
		return;
	ASSERT(sequence < s->sequence);
	if (sequence < s->lowest_ref)
		s->lowest_ref = sequence;
	for (unsigned i = 0; i < s->ref_count; i++) {
		if (s->refs[i] == sequence)
			return;
	}
	if (s->ref_count < SEGMENT_REFS)
		s->refs[s->ref_count++] = sequence;
	else
		s->many_refs = true;
}

/* Is any segment left that its changes are about? */
static bool
is_referring(const struct spool_segment *s)
{
	struct spool *spool = s->end->spool;

	for (unsigned i = 0; i < s->ref_count; i++) {
		if (segment_exists(spool, s->refs[i]))
			return true;
	}
	if (!s->many_refs)
		return false;
	uint_fast32_t end = atomic_load(&spool->numbers_end);
	for (uint_fast32_t i = 0; i < end; i++) {
		uint64_t sequence = atomic_load(&spool->sequences[i]);
		if (sequence >= s->lowest_ref && sequence < s->sequence)
			return true;
	}
	return false;
}

static void
on_freed(struct spool_segment *s, bool ok)
{
	struct spool_end *e = s->end;

	if (ok)
		atomic_store(&e->spool->sequences[s->number], 1);
	/* What can not be overwritten, or is of another size than today's, goes. */
	if (!ok || e->spares >= SPOOL_SPARES || s->size != e->spool->segment_size || e->stopping) {
		run_step(s, STEP_UNLINK);
		return;
	}
	e->counters.segments_recycled++;
	segment_ready(s);
}

void
segment_free_now(struct spool_segment *s)
{
	ASSERT(s->live == 0 && list_is_empty(&s->mails));
	ASSERT(!s->op.in_kernel);
	s->state = SEGMENT_FREEING;
	if (s->damaged) {
		run_step(s, STEP_RENAME);
		return;
	}
	s->filled = s->filled < s->tail ? s->tail : s->filled; /* behind, it is as it was */
	segment_write_head(s, SEGMENT_IS_FREE, on_freed);
}

void
segment_try_free(struct spool_segment *s)
{
	if (s->state != SEGMENT_SEALED && s->state != SEGMENT_FAILED)
		return;
	if (s->live != 0 || s->at_work || s->op.in_kernel)
		return;
	if (s->leaving) {
		s->state = SEGMENT_FREEING;
		run_step(s, s->damaged ? STEP_RENAME : STEP_UNLINK);
		return;
	}
	if (s->keep_void && segment_exists(s->end->spool, s->voids))
		return;
	if (!is_referring(s)) {
		segment_free_now(s);
		return;
	}
	/* Without an index its changes can not be found one by one: it waits for the segments
	 * that they are about. */
	if (s->was_sealed && compaction_forward(s->end, s))
		s->state = SEGMENT_FREEING;
}

bool
segments_are_idle(const struct spool_end *e)
{
	for (struct list_node *n = list_first(&e->segments); n != NULL;
	     n = list_next(&e->segments, n)) {
		const struct spool_segment *s = LIST_ITEM(n, struct spool_segment, node);
		if (s->op.in_kernel || s->state == SEGMENT_FREEING)
			return false;
	}
	return true;
}
