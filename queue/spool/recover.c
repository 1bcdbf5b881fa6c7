/* SPDX-License-Identifier: Apache-2.0
 *
 * The start: all segments are read in the order of their sequences, and what is live is dealt out
 * to the workers with the segments that it lies in.
 *
 * Of a sealed segment only the index is read. One that was open is read whole. Its batches are
 * numbered: what is missing at or below the highest acknowledged number was damaged (counted, put
 * aside, the rest is used), what is missing above is the torn end of a crash. Numbers from the
 * next segment's first on were given up by the program itself. When it has been read, it gets its
 * index and is sealed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/disk.h"
#include "core/base/clock.h"
#include "queue/spool/internal.h"

enum { WINDOW = 4 * 1024 * 1024 };

struct found {
	char name[SPOOL_NAME_SIZE];
	uint32_t number;
	int fd;
	uint64_t size;
	bool blank;
	bool good;
	struct segment_head head;
	struct spool_segment *segment;
	uint64_t frames_end; /* behind the last batch of its epoch, once it was looked for */
	uint64_t void_lsn;   /* batches from here on do not count */
	uint64_t acked_lsn;  /* of its log, as far as any batch tells */
};

struct recovery {
	struct spool *spool;
	struct buf *why;
	struct found *found; /* ascending by sequence */
	size_t count;
	size_t capacity;
	uint8_t *window;
	uint64_t window_at;
	size_t window_size;
	/* Of the segment that is being read: all metas of a sealed one, else those since its last
	 * INDEX. */
	uint8_t *metas;
	size_t metas_size;
	size_t metas_capacity;
	struct record_place *places;
	uint32_t place_count;
	bool no_memory;
	bool unreadable;
	unsigned damaged; /* batches, records */
	unsigned torn;
	unsigned names_bad;
};

/* Reads some of a segment. What can not be read is no damage: it may be read the next time, so the
 * start fails rather than going on without. */
static bool
read_from(struct recovery *r, const struct found *f, size_t size, uint64_t at)
{
	enum { TRIES = 3 };
	enum err error = ERR_OK;

	for (int i = 0; i < TRIES; i++) {
		error = disk_read(f->fd, r->window, size, at);
		if (error == ERR_OK)
			return true;
	}
	if (!r->unreadable)
		buf_printf(r->why,
			   "queue: %s/segments/%s can not be read: %s; if it stays so, start "
			   "without the file",
			   r->spool->options.spool_path, f->name, err_text(error));
	r->unreadable = true;
	memset(r->window, 0, size);
	return false;
}

/* ---- what is there ---- */

static void
on_segment_name(void *context, const char *name)
{
	struct recovery *r = context;
	struct spool *spool = r->spool;
	size_t size = strlen(name);
	unsigned number;
	char expected[SPOOL_NAME_SIZE];

	/* Left by segment.c for people. */
	if (size > 4 && strcmp(name + size - 4, ".bad") == 0) {
		disk_rename(spool->segment_directory, name, spool->aside_directory, name);
		return;
	}
	if (sscanf(name, "%8x.seg", &number) != 1 || number >= SPOOL_SEGMENTS_MOST)
		return;
	segment_name(expected, number);
	if (strcmp(name, expected) != 0)
		return;
	if (r->count == r->capacity) {
		size_t capacity = r->capacity == 0 ? 64 : 2 * r->capacity;
		struct found *larger = realloc(r->found, capacity * sizeof *larger);
		if (larger == NULL) {
			r->no_memory = true;
			return;
		}
		r->found = larger;
		r->capacity = capacity;
	}
	struct found *f = &r->found[r->count++];
	*f = (struct found){ .number = number, .fd = -1, .void_lsn = UINT64_MAX };
	segment_name(f->name, number);
}

static bool
is_zero(struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] != 0)
			return false;
	}
	return true;
}

static bool
read_head(struct recovery *r, struct found *f)
{
	bool direct = r->spool->direct;

	f->fd = disk_open(r->spool->segment_directory, f->name, O_RDWR, 0600, &direct);
	if (f->fd < 0) {
		buf_printf(r->why, "queue: segments/%s: %s", f->name, strerror(-f->fd));
		return false;
	}
	int64_t size = disk_size(f->fd);
	f->size = size < 0 ? 0 : (uint64_t)size / SPOOL_BLOCK * SPOOL_BLOCK;
	f->frames_end = f->size;
	if (f->size < SEGMENT_FIRST) {
		f->blank = true; /* made, never used */
		return true;
	}
	if (!read_from(r, f, SEGMENT_FIRST, 0))
		return false;
	struct span head = span_of(r->window, SEGMENT_FIRST);
	f->good = segment_head_parse(head, &f->head);
	f->blank = !f->good && is_zero(head);
	if (f->good && f->head.use != SEGMENT_IS_FREE && f->head.size > f->size)
		f->good = false; /* cut by hand */
	return true;
}

static int
by_sequence(const void *a, const void *b)
{
	const struct found *x = a;
	const struct found *y = b;

	return x->head.sequence < y->head.sequence ? -1 : x->head.sequence > y->head.sequence;
}

static bool
is_in_use(const struct found *f)
{
	return f->good && f->head.use != SEGMENT_IS_FREE;
}

/* ---- dealing ---- */

/* Where the fewest mails have been dealt to so far. */
static struct spool_end *
emptiest_end(struct recovery *r, const uint64_t *puts)
{
	unsigned best = 0;

	for (unsigned i = 1; i < r->spool->store.worker_count; i++) {
		if (puts[i] < puts[best])
			best = i;
	}
	return &r->spool->ends[best];
}

static bool
adopt(struct recovery *r, struct found *f, struct spool_end *e)
{
	struct spool *spool = r->spool;
	struct spool_segment *s = segment_new(e, f->number, f->size);

	if (s == NULL)
		return false;
	f->segment = s;
	s->fd = f->fd;
	s->filled = is_in_use(f) || f->good ? f->size : 0;
	atomic_store(&spool->sequences[f->number], is_in_use(f) ? f->head.sequence : 1);
	if (atomic_load(&spool->numbers_end) < f->number + 1)
		atomic_store(&spool->numbers_end, f->number + 1);
	if (!is_in_use(f))
		return true;
	s->state = SEGMENT_SEALED;
	s->sequence = f->head.sequence;
	s->epoch = f->head.epoch;
	s->log = f->head.log;
	s->first_lsn = f->head.first_lsn;
	s->end_lsn = f->head.end_lsn;
	s->tail = f->head.tail;
	s->last_index = f->head.last_index;
	s->puts = f->head.puts;
	s->was_sealed = f->head.use == SEGMENT_IS_SEALED;
	return true;
}

static bool
set_aside(struct recovery *r, struct found *f)
{
	struct spool *spool = r->spool;

	disk_close(f->fd);
	f->fd = -1;
	spool->corrupt = true;
	r->names_bad++;
	return disk_rename(spool->segment_directory, f->name, spool->aside_directory, f->name) ==
		       ERR_OK &&
	       disk_sync_directory(spool->aside_directory) == ERR_OK;
}

/* Free files become the ready segments of the logs, as far as they fit. */
static bool
deal_free(struct recovery *r, struct found *f)
{
	struct spool *spool = r->spool;

	for (unsigned i = 0; i < spool->store.worker_count; i++) {
		struct spool_end *e = &spool->ends[i];
		if (f->size != spool->segment_size || e->spares >= SPOOL_SPARES)
			continue;
		if (!adopt(r, f, e))
			return false;
		segment_ready(f->segment);
		return true;
	}
	disk_close(f->fd);
	f->fd = -1;
	atomic_fetch_add(&spool->bytes_left, (int_fast64_t)f->size);
	return disk_unlink(spool->segment_directory, f->name) == ERR_OK;
}

static bool
deal(struct recovery *r)
{
	uint64_t *puts = calloc(r->spool->store.worker_count, sizeof *puts);
	bool ok = puts != NULL;

	for (size_t i = 0; i < r->count && ok; i++) {
		struct found *f = &r->found[i];
		if (is_in_use(f)) {
			struct spool_end *e = emptiest_end(r, puts);
			puts[e - r->spool->ends] += f->head.puts + 1;
			ok = adopt(r, f, e);
		} else if (f->good || f->blank) {
			ok = deal_free(r, f);
		} else {
			ok = set_aside(r, f);
		}
	}
	free(puts);
	return ok;
}

/* ---- records ---- */

static struct spool_segment *
segment_by_sequence(struct recovery *r, uint64_t sequence)
{
	size_t low = 0;
	size_t high = r->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (r->found[middle].head.sequence < sequence)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->count && r->found[low].head.sequence == sequence ? r->found[low].segment
									 : NULL;
}

static void
erase(struct spool_mail *m)
{
	struct spool_end *e = m->segment->end;

	index_remove(e, m);
	mail_unplace(m);
	mail_free(e, m);
}

/* The mail as this PUT's segment knows it. */
static struct spool_mail *
find_in(struct recovery *r, uint64_t sequence, struct mail_id id)
{
	struct spool_segment *s = segment_by_sequence(r, sequence);
	struct spool_mail *m = s == NULL ? NULL : index_find(s->end, id);

	return m != NULL && m->segment == s ? m : NULL;
}

/* Was it written by the run that died? */
static bool
is_of_the_dead(const struct recovery *r, const struct spool_segment *s)
{
	return r->spool->died_from != 0 && s->sequence >= r->spool->died_from;
}

static bool
apply_put(struct recovery *r, struct spool_segment *s, const struct record *record)
{
	struct spool_end *e = s->end;
	struct spool_mail *old = find_in(r, record->put_sequence, record->id);
	struct span rest = record->rest;

	segment_refer(s, record->put_sequence);
	if (old != NULL)
		erase(old);
	old = index_find(e, record->id);
	if (old != NULL)
		erase(old);
	if (record->count == 0)
		return true;
	struct spool_mail *m = mail_new(e, record->id, record->count);
	if (m == NULL)
		return false;
	struct spool_recipient *all = mail_recipients(m);
	mail_describe(m, record->accepted_at_ms, record->mail_size, record->body_kind == BODY_FILE);
	m->hold_revision = record->hold_revision;
	mail_set_sender(e, m, record->sender);
	for (uint32_t i = 0; i < record->count; i++) {
		struct mail_recipient from;
		struct record_starts starts;
		record_next_recipient(&rest, record->version, &from, &starts);
		if (from.state == RECIPIENT_PENDING)
			all[i].site = r->spool->store.hooks.site_of(&e->queue, from.address,
								    record->flags);
		recipient_set_attempts(&all[i], from.attempts);
		recipient_set_address(e, &all[i], from.address);
		all[i].notified = from.notified;
		all[i].retry_at_ms = from.retry_at_ms;
		all[i].starts = starts.starts;
		all[i].closed = starts.closed;
		all[i].alone = starts.alone;
		all[i].touched = is_of_the_dead(r, s) ? 1 : 0;
		recipient_set_state(e, &all[i], from.state);
		recipient_set_reply(e, &all[i], from.reply);
	}
	mail_place(m, s, record->place, record->meta_size);
	index_insert(e, m);
	if (mail_is_finished(m)) {
		erase(m);
		return true;
	}
	/* While the sender is known; what comes of them is seen when all records have been read. */
	return mail_make_items(e, m, record->sender);
}

static void
apply_outcome(struct spool_end *e, struct spool_recipient *to, const struct record_line *l)
{
	to->notified = to->notified || l->notified;
	if (l->number > to->closed)
		to->closed = l->number;
	/* Final beats live, more attempts beat fewer. */
	if (to->state != RECIPIENT_PENDING)
		return;
	if (l->state == RECIPIENT_PENDING && l->attempts < to->attempts)
		return;
	recipient_set_attempts(to, l->attempts);
	to->retry_at_ms = l->retry_at_ms;
	recipient_set_state(e, to, l->state);
	recipient_set_reply(e, to, l->reply);
}

static void
apply_change(struct recovery *r, struct spool_segment *s, const struct record *record)
{
	struct spool_mail *m = find_in(r, record->put_sequence, record->id);
	struct span rest = record->rest;

	segment_refer(s, record->put_sequence);
	if (m == NULL)
		return;
	if (record->type == RECORD_GONE) {
		erase(m);
		return;
	}
	/* Revisions go round; the newer is the one that is at most half the way ahead. */
	if (record->type == RECORD_HOLD &&
	    (int16_t)(uint16_t)(record->hold_revision - m->hold_revision) > 0) {
		m->hold_revision = record->hold_revision;
		spool_read_mark(m, record->who, record->why);
	}
	for (uint32_t i = 0; i < record->count; i++) {
		struct record_line l;
		record_next_line(&rest, record->version, &l);
		if (l.recipient >= m->recipient_count)
			continue;
		struct spool_recipient *to = &mail_recipients(m)[l.recipient];
		if (record->type == RECORD_OUTCOME)
			apply_outcome(m->segment->end, to, &l);
		if (record->type == RECORD_START && l.number > to->starts) {
			to->starts = l.number;
			to->alone = l.alone;
		}
		to->touched = to->touched || is_of_the_dead(r, s);
		if (record->type == RECORD_CLOSE && l.number > to->closed)
			to->closed = l.number;
	}
	if (mail_is_finished(m))
		erase(m);
}

static bool
apply(struct recovery *r, struct spool_segment *s, const struct record *record)
{
	if (record->type == RECORD_PUT)
		return apply_put(r, s, record);
	if (record->type == RECORD_INDEX)
		return true;
	if (record->put_sequence <= s->sequence)
		apply_change(r, s, record);
	return true;
}

/* ---- a sealed segment: its index ---- */

/* Room behind r->metas_size. */
static bool
reserve_metas(struct recovery *r, size_t more)
{
	size_t capacity = r->metas_capacity == 0 ? WINDOW : r->metas_capacity;

	while (capacity < r->metas_size + more)
		capacity *= 2;
	if (capacity == r->metas_capacity)
		return true;
	uint8_t *larger = realloc(r->metas, capacity);
	if (larger == NULL) {
		r->no_memory = true;
		return false;
	}
	r->metas = larger;
	r->metas_capacity = capacity;
	return true;
}

/* Reads one INDEX and keeps the metas in it. */
static bool
read_index(struct recovery *r, struct found *f, struct record_place place, struct record *out)
{
	uint64_t skip = place.at % SPOOL_BLOCK;
	uint64_t at = place.at - skip;
	uint64_t size = place.size == 0 ? SPOOL_BATCH : place.size;

	if (place.at >= f->segment->tail || size > SPOOL_BATCH)
		return false;
	size = block_up(skip + size);
	if (size > f->segment->tail - at)
		size = f->segment->tail - at;
	if (!read_from(r, f, size, at) ||
	    !record_parse(span_after(span_of(r->window, size), skip), f->segment->epoch, true,
			  out) ||
	    out->type != RECORD_INDEX || !reserve_metas(r, out->body.size))
		return false;
	memcpy(r->metas + r->metas_size, out->body.data, out->body.size);
	r->metas_size += out->body.size;
	return true;
}

static bool
walk_metas(struct recovery *r, struct spool_segment *s, struct span metas, bool use)
{
	struct record record;

	while (record_parse(metas, s->epoch, false, &record)) {
		if (use && !apply(r, s, &record))
			r->no_memory = true;
		metas = span_after(metas, record_size(record.meta_size, 0));
	}
	return metas.size == 0;
}

/* Reads each INDEX once and exactly, and uses what is in them as a whole or not at all. False: one
 * is damaged; nothing is lost, the segment is read whole. */
static bool
use_index(struct recovery *r, struct found *f)
{
	struct spool_segment *s = f->segment;
	/* It is alone in the last batch. */
	struct record_place last = { (uint32_t)s->last_index, (uint32_t)(s->tail - s->last_index) };
	struct record index;

	r->metas_size = 0;
	if (s->tail > UINT32_MAX || !read_index(r, f, last, &index))
		return false;
	size_t last_size = r->metas_size;
	struct span rest = index.rest;
	uint32_t count = index.count;
	bool have_sizes = index.places_have_sizes;
	for (uint32_t i = 0; i < count; i++)
		r->places[i] = record_next_place(&rest, have_sizes);
	for (uint32_t i = 0; i < count; i++) {
		if (!read_index(r, f, r->places[i], &index))
			return false;
	}
	/* The metas of the last one came first. */
	struct span end = span_of(r->metas, last_size);
	struct span all = span_after(span_of(r->metas, r->metas_size), last_size);
	if (!walk_metas(r, s, all, false) || !walk_metas(r, s, end, false))
		return false;
	walk_metas(r, s, all, true);
	walk_metas(r, s, end, true);
	return true;
}

/* ---- a segment that was open: all of it ---- */

/* The bytes at `at`, at least one batch of them, or fewer behind the last. */
static struct span
window_at(struct recovery *r, struct found *f, uint64_t at, size_t wanted)
{
	uint64_t left = f->frames_end - at;

	wanted = wanted < left ? wanted : left;
	if (at < r->window_at || at + wanted > r->window_at + r->window_size) {
		r->window_at = at;
		r->window_size = left < WINDOW ? left : WINDOW;
		read_from(r, f, r->window_size, at);
	}
	return span_of(r->window + (at - r->window_at), r->window_size - (at - r->window_at));
}

/* The next frame of this epoch at or behind *at. */
static bool
next_frame(struct recovery *r, struct found *f, uint64_t *at, struct frame *frame)
{
	for (; *at + SPOOL_BLOCK <= f->frames_end; *at += SPOOL_BLOCK) {
		struct span in = window_at(r, f, *at, SPOOL_BLOCK);
		if (frame_parse(in, f->segment->epoch, *at, frame) && frame->size <= SPOOL_BATCH &&
		    *at + frame->size <= f->frames_end)
			return true;
	}
	return false;
}

/* All of the file is read for it, since good batches may follow a bad one. What lies behind the
 * last of them is not read again. */
static void
find_acked(struct recovery *r, struct found *f)
{
	uint64_t at = SEGMENT_FIRST;
	uint64_t end = SEGMENT_FIRST;
	struct frame frame;

	r->window_size = 0;
	while (next_frame(r, f, &at, &frame)) {
		if (frame.acked > f->acked_lsn)
			f->acked_lsn = frame.acked;
		at += block_up(frame.size);
		end = at;
	}
	f->frames_end = end;
}

static void
keep_meta(struct recovery *r, struct spool_segment *s, const struct record *record)
{
	size_t padded = (record->meta_size + 7U) / 8 * 8;

	if (record->type == RECORD_INDEX) {
		r->metas_size = 0;
		if (r->place_count < RECORD_INDEX_PLACES_MOST)
			r->places[r->place_count++] =
				(struct record_place){ (uint32_t)record->place,
						       (uint32_t)record_size(record->meta_size,
									     record->body_size) };
		return;
	}
	s->puts += record->type == RECORD_PUT;
	if (!reserve_metas(r, padded))
		return;
	memset(r->metas + r->metas_size, 0, padded);
	memcpy(r->metas + r->metas_size, record->meta.data, record->meta_size);
	r->metas_size += padded;
}

/* Walks the records of a batch; counts the good ones. With `use` they are applied. */
static uint32_t
walk_batch(struct recovery *r, struct found *f, uint64_t at, const struct frame *frame, bool use)
{
	struct span in = span_first(window_at(r, f, at, frame->size), frame->size);
	uint64_t place = at + FRAME_SIZE;
	struct record record;
	uint32_t good = 0;

	in = span_after(in, FRAME_SIZE);
	while (in.size > 0 && record_parse(in, f->segment->epoch, true, &record)) {
		if (record.place == place && record_body_is_good(&record, record.body)) {
			good++;
			if (use && !apply(r, f->segment, &record))
				r->no_memory = true;
			if (use)
				keep_meta(r, f->segment, &record);
		}
		uint64_t size = record_size(record.meta_size, record.body_size);
		place += size;
		in = span_after(in, size);
	}
	return good;
}

/* The file is kept for people when its mails have been copied out. */
static void
note_damage(struct recovery *r, struct found *f, uint64_t at, uint64_t lsn)
{
	spool_report_damage(f->segment->end->queue.worker, f->name, at, lsn);
	r->damaged++;
	r->spool->corrupt = true;
	f->segment->damaged = true;
	f->segment->end->counters.corrupt_records++;
}

struct scan {
	uint64_t expected; /* the next batch's number */
	uint64_t good_end; /* behind the last batch that counts */
	bool torn;
	bool damaged;
};

static void
scan_batch(struct recovery *r, struct found *f, uint64_t at, const struct frame *frame,
	   struct scan *scan)
{
	if (frame->lsn > scan->expected) {
		/* Something is missing in between. */
		scan->torn |= scan->expected > f->acked_lsn;
		if (scan->torn)
			return;
		scan->damaged = true;
		note_damage(r, f, at, scan->expected);
	}
	if (walk_batch(r, f, at, frame, false) != frame->count) {
		if (frame->lsn > f->acked_lsn) {
			scan->torn = true;
			return;
		}
		scan->damaged = true;
		note_damage(r, f, at, frame->lsn);
	}
	walk_batch(r, f, at, frame, true);
	scan->expected = frame->lsn + 1;
	scan->good_end = at + block_up(frame->size);
}

/* Gives a segment that was read to its end its index, so that the next start is quick. */
static bool
seal(struct recovery *r, struct found *f, const struct scan *scan)
{
	struct spool_segment *s = f->segment;
	uint64_t size = FRAME_SIZE + record_size(record_index_size(r->place_count), r->metas_size);
	bool ok = false;

	if (size > SPOOL_BATCH || scan->good_end + block_up(size) > s->size ||
	    r->place_count >= RECORD_INDEX_PLACES_MOST)
		return false;
	uint8_t *memory = aligned_alloc(SPOOL_BLOCK, SPOOL_BATCH);
	if (memory == NULL)
		return false;
	memset(memory, 0, SPOOL_BATCH);
	struct buf out = buf_of(memory, SPOOL_BATCH);
	out.size = FRAME_SIZE;
	s->last_index = scan->good_end + FRAME_SIZE;
	record_write_index(&out, r->places, r->place_count, span_of(r->metas, r->metas_size),
			   s->epoch, s->last_index);
	struct frame frame = { .epoch = s->epoch,
			       .lsn = scan->expected,
			       .acked = scan->expected - 1,
			       .place = scan->good_end,
			       .size = (uint32_t)out.size,
			       .count = 1 };
	frame_write(memory, &frame);
	s->tail = scan->good_end + block_up(out.size);
	s->end_lsn = scan->expected + 1;
	struct segment_head head = f->head;
	head.use = SEGMENT_IS_SEALED;
	head.tail = s->tail;
	head.end_lsn = s->end_lsn;
	head.last_index = s->last_index;
	head.puts = s->puts;
	ok = disk_write_durable(f->fd, memory, block_up(out.size), scan->good_end) == ERR_OK;
	if (ok) {
		segment_head_write(memory, &head);
		ok = disk_write_durable(f->fd, memory, SEGMENT_FIRST, 0) == ERR_OK;
	}
	free(memory);
	return ok;
}

static void
scan_segment(struct recovery *r, struct found *f)
{
	struct spool_segment *s = f->segment;
	struct scan scan = { .expected = f->head.first_lsn, .good_end = SEGMENT_FIRST };
	uint64_t at = SEGMENT_FIRST;
	struct frame frame;

	r->window_size = 0;
	r->metas_size = r->place_count = 0;
	s->puts = 0;
	while (!scan.torn && next_frame(r, f, &at, &frame)) {
		if (frame.lsn >= f->void_lsn)
			break;
		if (frame.lsn >= scan.expected)
			scan_batch(r, f, at, &frame, &scan);
		at += block_up(frame.size);
	}
	/* Was there more, that had been acknowledged? */
	uint64_t last = f->acked_lsn < f->void_lsn - 1 ? f->acked_lsn : f->void_lsn - 1;
	if (f->void_lsn == UINT64_MAX)
		last = f->acked_lsn;
	if (scan.expected <= last) {
		scan.damaged = true;
		note_damage(r, f, scan.good_end, scan.expected);
	}
	if (scan.torn) {
		r->torn++;
		s->end->counters.torn_tails++;
	}
	s->tail = scan.good_end;
	s->end_lsn = scan.expected;
	s->was_sealed = !scan.damaged && !s->damaged && !r->no_memory && !r->unreadable &&
			seal(r, f, &scan);
	if (!s->was_sealed)
		s->state = SEGMENT_FAILED; /* emptied soon */
}

/* What each log had acknowledged, and where its segments end. */
static void
relate(struct recovery *r)
{
	for (size_t i = r->count; i-- > 0;) {
		struct found *f = &r->found[i];
		if (!is_in_use(f))
			continue;
		if (f->head.use == SEGMENT_IS_SEALED)
			f->acked_lsn = f->head.end_lsn - 1;
		else
			find_acked(r, f);
		for (size_t k = i + 1; k < r->count; k++) {
			const struct found *later = &r->found[k];
			if (!is_in_use(later) || later->head.log != f->head.log)
				continue;
			f->void_lsn = later->head.first_lsn;
			if (later->acked_lsn > f->acked_lsn)
				f->acked_lsn = later->acked_lsn;
			break;
		}
	}
}

/* A segment whose end is void only because its successor says so keeps the successor. */
static void
keep_voids(struct recovery *r)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct found *f = &r->found[i];
		if (!is_in_use(f) || f->segment->was_sealed)
			continue;
		for (size_t k = i + 1; k < r->count; k++) {
			struct found *later = &r->found[k];
			if (!is_in_use(later) || later->head.log != f->head.log)
				continue;
			later->segment->keep_void = true;
			later->segment->voids = f->head.sequence;
			break;
		}
	}
}

static void
read_segments(struct recovery *r)
{
	for (size_t i = 0; i < r->count && !r->no_memory && !r->unreadable; i++) {
		struct found *f = &r->found[i];
		if (!is_in_use(f))
			continue;
		if (f->head.use != SEGMENT_IS_SEALED) {
			scan_segment(r, f);
			continue;
		}
		if (!use_index(r, f) && !r->unreadable && !r->no_memory) {
			note_damage(r, f, 0, f->acked_lsn);
			scan_segment(r, f);
		}
	}
}

/* ---- files ---- */

static void
on_file_name(void *context, const char *name)
{
	struct recovery *r = context;
	struct spool *spool = r->spool;
	unsigned long long high;
	unsigned long long low;

	if (strlen(name) == 32 && sscanf(name, "%16llx%16llx", &high, &low) == 2) {
		struct mail_id id = { high, low };
		for (unsigned i = 0; i < spool->store.worker_count; i++) {
			const struct spool_mail *m = index_find(&spool->ends[i], id);
			if (m != NULL && m->in_file)
				return;
		}
	}
	/* After damage, it may belong to a mail whose record is lost. */
	if (spool->corrupt) {
		disk_rename(spool->file_directory, name, spool->aside_directory, name);
		spool->ends[0].counters.files_aside++;
		spool_report_aside(spool->ends[0].queue.worker, name);
	} else {
		disk_unlink(spool->file_directory, name);
		spool->ends[0].counters.files_removed++;
	}
}

/* ---- all of it ---- */

/* Recipients that who died may have had in delivery (invariant 4). What it had not touched was
 * recovered by it, too, and an attempt of that would have left its start. */
static uint64_t
count_doubtful(struct spool_mail *m, uint64_t now_ms)
{
	const struct spool_recipient *all = mail_recipients(m);
	uint64_t count = 0;

	for (uint32_t i = 0; i < m->recipient_count && !mail_is_held(m); i++)
		count += all[i].touched && all[i].state == RECIPIENT_PENDING &&
			 all[i].retry_at_ms <= now_ms;
	return count;
}

static void
wake_items(struct recovery *r)
{
	uint64_t now_ms = clock_wall_ms();

	for (size_t i = 0; i < r->count; i++) {
		struct spool_segment *s = r->found[i].segment;
		if (s == NULL || !is_in_use(&r->found[i]))
			continue;
		for (struct list_node *n = list_first(&s->mails); n != NULL;
		     n = list_next(&s->mails, n)) {
			struct spool_mail *m = LIST_ITEM(n, struct spool_mail, by_segment);
			mail_set_items(s->end, m, true);
			s->end->counters.recovered_mails++;
			s->end->counters.recovered_doubtful += count_doubtful(m, now_ms);
			for (struct spool_item *k = m->items; k != NULL; k = k->next) {
				s->end->counters.recovered_open_starts +=
					k->turn.item.open_starts > 0;
				item_wait(s->end, k, k->turn.item.due_at_ms);
			}
			spool_keep_marked(m);
		}
	}
}

static bool
prepare_ends(struct recovery *r, struct worker **workers)
{
	struct spool *spool = r->spool;
	uint64_t puts = 0;
	uint64_t sequence = 1;

	for (size_t i = 0; i < r->count; i++) {
		if (r->found[i].good && r->found[i].head.sequence > sequence)
			sequence = r->found[i].head.sequence;
		if (is_in_use(&r->found[i]))
			puts += r->found[i].head.puts;
	}
	atomic_store(&spool->next_sequence, sequence + 1);
	for (unsigned i = 0; i < spool->store.worker_count; i++) {
		if (!end_init(&spool->ends[i], spool, workers[i], puts / spool->store.worker_count))
			return false;
	}
	return true;
}

static bool
recover(struct recovery *r, struct worker **workers)
{
	struct spool *spool = r->spool;
	uint64_t bytes = 0;

	if (disk_list(spool->segment_directory, on_segment_name, r) != ERR_OK)
		return false;
	for (size_t i = 0; i < r->count; i++) {
		if (!read_head(r, &r->found[i]))
			return false;
		bytes += r->found[i].size;
	}
	if (r->count > 0)
		qsort(r->found, r->count, sizeof *r->found, by_sequence);
	if (!spool_choose_size(spool, bytes, r->why) || !prepare_ends(r, workers) || !deal(r))
		return false;
	relate(r);
	read_segments(r);
	if (r->no_memory || r->unreadable)
		return false;
	keep_voids(r);
	wake_items(r);
	return disk_list(spool->file_directory, on_file_name, r) == ERR_OK;
}

bool
spool_recover(struct spool *spool, struct worker **workers, struct buf *why)
{
	struct recovery r = { .spool = spool, .why = why };
	const char *path = spool->options.spool_path;
	uint64_t started_ms = clock_monotonic_ms();
	bool ok = false;

	r.window = aligned_alloc(SPOOL_BLOCK, WINDOW);
	r.places = malloc((RECORD_INDEX_PLACES_MOST + 1) * sizeof *r.places);
	if (r.window != NULL && r.places != NULL)
		ok = recover(&r, workers);
	if (!ok && why->size == 0)
		buf_printf(why, "queue: %s can not be read%s", path,
			   r.no_memory ? ": not enough memory for the mails in it" : "");
	if (ok && (r.damaged > 0 || r.names_bad > 0))
		buf_printf(why,
			   "queue: %s: %u damaged batches, %u damaged segments; see %s/aside\n",
			   path, r.damaged, r.names_bad, path);
	if (ok)
		spool_report_recovery(spool,
				      &(struct spool_recovered){
					      .segments = r.count,
					      .torn = r.torn,
					      .corrupt = r.damaged + r.names_bad,
					      .duration_ms = clock_monotonic_ms() - started_ms,
				      });
	/* What was dealt is closed with the spool. */
	for (size_t i = 0; i < r.count; i++) {
		if (!ok && r.found[i].segment == NULL && r.found[i].fd >= 0)
			disk_close(r.found[i].fd);
	}
	free(r.found);
	free(r.window);
	free(r.places);
	free(r.metas);
	return ok;
}
