/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/spool/record.h"

#include "core/base/assert.h"
#include "queue/spool/crc32c.h"

enum {
	FRAME_MAGIC = 0x31425052,   /* "RPB1" */
	SEGMENT_MAGIC = 0x31535052, /* "RPS1" */
	PUT_FIXED = 16 + 8 + 8 + 8 + 4 + 1 + 1 + 2 + 4,
	RECIPIENT_FIXED = 1 + 1 + 2 + 8 + 2 + 2 + 1,
	CHANGE_FIXED = 16 + 8 + 1 + 2 + 4,
	LINE_FIXED = 4 + 1 + 1 + 2 + 2 + 8,
	STATES = RECIPIENT_REMOVED + 1,
	PLACE_ALONE = 4, /* bytes of an entry of an INDEX */
	PLACE_WITH_SIZE = 8,
	FLAG_ALONE = 1, /* of a recipient or a line */
	FLAG_NOTIFIED = 2,
};

/* ---- numbers ---- */

static void
put_number(struct buf *out, uint64_t n, size_t size)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(n >> (8 * i));
	buf_append(out, span_of(bytes, size));
}

static void
put_text(struct buf *out, struct span s)
{
	ASSERT(s.size <= UINT16_MAX);
	put_number(out, s.size, 2);
	buf_append(out, s);
}

static void
store(uint8_t *at, uint64_t n, size_t size)
{
	for (size_t i = 0; i < size; i++)
		at[i] = (uint8_t)(n >> (8 * i));
}

static uint64_t
fetch(const uint8_t *at, size_t size)
{
	uint64_t n = 0;

	for (size_t i = 0; i < size; i++)
		n |= (uint64_t)at[i] << (8 * i);
	return n;
}

/* Takes from the front of *s; sets *bad and gives 0 where it is cut. */
static uint64_t
take_number(struct span *s, size_t size, bool *bad)
{
	if (s->size < size) {
		*bad = true;
		return 0;
	}
	uint64_t n = fetch(s->data, size);
	*s = span_after(*s, size);
	return n;
}

static struct span
take_text(struct span *s, bool *bad)
{
	size_t size = take_number(s, 2, bad);

	if (*bad || s->size < size) {
		*bad = true;
		return span_none();
	}
	struct span text = span_first(*s, size);
	*s = span_after(*s, size);
	return text;
}

static void
put_id(struct buf *out, struct mail_id id)
{
	put_number(out, id.high, 8);
	put_number(out, id.low, 8);
}

static struct mail_id
take_id(struct span *s, bool *bad)
{
	uint64_t high = take_number(s, 8, bad);

	return (struct mail_id){ high, take_number(s, 8, bad) };
}

static struct span
short_reply(struct span reply)
{
	return span_first(reply, RECORD_REPLY_MOST);
}

/* ---- header: crc 4, meta size 4, body size 4, type 1, version 1, 0 2, body crc 4, 0 4, place 8
 * ---- */

static uint32_t
meta_crc(const uint8_t *meta, size_t size, uint64_t epoch)
{
	uint8_t seed[8];

	store(seed, epoch, 8);
	return crc32c(crc32c(0, seed, sizeof seed), meta + 4, size - 4);
}

/* Room for the header, which end_meta() fills in when the size is known. */
static size_t
begin_meta(struct buf *out)
{
	size_t at = out->size;

	ASSERT(buf_room(out) >= RECORD_HEADER_SIZE);
	memset(out->data + at, 0, RECORD_HEADER_SIZE);
	out->size += RECORD_HEADER_SIZE;
	return at;
}

static void
end_meta(struct buf *out, size_t at, uint8_t type, uint8_t version, uint64_t body_size,
	 uint32_t body_crc, uint64_t epoch, uint64_t place)
{
	uint8_t *head = out->data + at;
	size_t size = out->size - at;

	ASSERT(!out->overflow);
	ASSERT(size <= RECORD_META_MOST && body_size <= UINT32_MAX);
	store(head + 4, size, 4);
	store(head + 8, body_size, 4);
	head[12] = type;
	head[13] = version;
	store(head + 16, body_crc, 4);
	store(head + 24, place, 8);
	store(head, meta_crc(head, size, epoch), 4);
}

void
record_pad(struct buf *out)
{
	static const uint8_t zeros[8];

	buf_append(out, span_of(zeros, (8 - out->size % 8) % 8));
	ASSERT(!out->overflow);
}

/* ---- writing ---- */

uint64_t
record_put_size(const struct record_put *p)
{
	const struct mail_envelope *e = p->envelope;
	uint64_t size = RECORD_HEADER_SIZE + PUT_FIXED + 6 + e->sender.size + e->envid.size +
			e->client.size + 4 + p->block_crcs.size;

	for (uint32_t i = 0; i < e->recipient_count; i++) {
		const struct mail_recipient *r = &e->recipients[i];
		size += RECIPIENT_FIXED + 6 + r->address.size + r->orcpt.size +
			short_reply(r->reply).size;
	}
	return size;
}

static void
put_recipient(struct buf *out, const struct mail_recipient *r, const struct record_starts *s)
{
	put_number(out, r->notify, 1);
	put_number(out, r->state, 1);
	put_number(out, r->attempts, 2);
	put_number(out, r->retry_at_ms, 8);
	put_number(out, s == NULL ? 0 : s->starts, 2);
	put_number(out, s == NULL ? 0 : s->closed, 2);
	put_number(out,
		   (s != NULL && s->alone ? FLAG_ALONE : 0) | (r->notified ? FLAG_NOTIFIED : 0), 1);
	put_text(out, r->address);
	put_text(out, r->orcpt);
	put_text(out, short_reply(r->reply));
}

void
record_write_put(struct buf *out, const struct record_put *p, uint64_t epoch, uint64_t place)
{
	const struct mail_envelope *e = p->envelope;
	size_t at = begin_meta(out);

	put_id(out, e->id);
	put_number(out, p->previous_sequence, 8);
	put_number(out, e->accepted_at_ms, 8);
	put_number(out, p->body_size, 8);
	put_number(out, e->flags, 4);
	put_number(out, e->ret, 1);
	put_number(out, p->body_kind, 1);
	put_number(out, p->hold_revision, 2);
	put_number(out, e->recipient_count, 4);
	put_text(out, e->sender);
	put_text(out, e->envid);
	put_text(out, e->client);
	put_number(out, p->block_crcs.size, 4);
	buf_append(out, p->block_crcs);
	for (uint32_t i = 0; i < e->recipient_count; i++)
		put_recipient(out, &e->recipients[i], p->starts == NULL ? NULL : &p->starts[i]);
	end_meta(out, at, RECORD_PUT, RECORD_VERSION,
		 p->body_kind == BODY_INLINE ? p->body_size : 0, p->body_crc, epoch, place);
	ASSERT(out->size - at == record_put_size(p));
}

uint64_t
record_change_size(const struct record_change *c)
{
	uint64_t size = RECORD_HEADER_SIZE + CHANGE_FIXED + 4 + c->who.size + c->why.size;

	for (uint32_t i = 0; i < c->line_count; i++)
		size += LINE_FIXED + 2 + short_reply(c->lines[i].reply).size;
	return size;
}

void
record_write_change(struct buf *out, const struct record_change *c, uint64_t epoch, uint64_t place)
{
	size_t at = begin_meta(out);

	ASSERT(c->type > RECORD_PUT && c->type < RECORD_INDEX);
	put_id(out, c->id);
	put_number(out, c->put_sequence, 8);
	put_number(out, c->gone, 1);
	put_number(out, c->hold_revision, 2);
	put_number(out, c->line_count, 4);
	put_text(out, c->who);
	put_text(out, c->why);
	for (uint32_t i = 0; i < c->line_count; i++) {
		const struct record_line *l = &c->lines[i];
		put_number(out, l->recipient, 4);
		put_number(out, l->state, 1);
		put_number(out, (l->alone ? FLAG_ALONE : 0) | (l->notified ? FLAG_NOTIFIED : 0), 1);
		put_number(out, l->attempts, 2);
		put_number(out, l->number, 2);
		put_number(out, l->retry_at_ms, 8);
		put_text(out, short_reply(l->reply));
	}
	end_meta(out, at, c->type, RECORD_VERSION, 0, 0, epoch, place);
	ASSERT(out->size - at == record_change_size(c));
	record_pad(out);
}

void
record_write_index(struct buf *out, const struct record_place *places, uint32_t place_count,
		   struct span metas, uint64_t epoch, uint64_t place)
{
	size_t at = begin_meta(out);

	ASSERT(place_count <= RECORD_INDEX_PLACES_MOST);
	put_number(out, place_count, 4);
	put_number(out, PLACE_WITH_SIZE, 4);
	for (uint32_t i = 0; i < place_count; i++) {
		put_number(out, places[i].at, 4);
		put_number(out, places[i].size, 4);
	}
	end_meta(out, at, RECORD_INDEX, RECORD_VERSION, metas.size,
		 crc32c(0, metas.data, metas.size), epoch, place);
	buf_append(out, metas);
	record_pad(out);
}

void
record_write_again(struct buf *out, struct span meta, uint64_t epoch, uint64_t place)
{
	size_t at = out->size;

	ASSERT(meta.size >= RECORD_HEADER_SIZE);
	ASSERT(meta.data[12] > RECORD_PUT && meta.data[12] < RECORD_INDEX);
	buf_append(out, meta);
	end_meta(out, at, meta.data[12], meta.data[13], 0, 0, epoch, place);
	record_pad(out);
}

uint64_t
record_written(struct span in, uint32_t *meta_size)
{
	ASSERT(in.size >= RECORD_HEADER_SIZE);
	*meta_size = (uint32_t)fetch(in.data + 4, 4);
	uint64_t size = record_size(*meta_size, fetch(in.data + 8, 4));
	ASSERT(*meta_size >= RECORD_HEADER_SIZE && size <= in.size);
	return size;
}

/* ---- reading ---- */

/* In version 1 a failed recipient was not over yet. */
static void
revive(uint8_t version, uint8_t *state, uint64_t *retry_at_ms)
{
	if (version > 1 || *state != RECIPIENT_FAILED)
		return;
	*state = RECIPIENT_PENDING;
	*retry_at_ms = 0;
}

static void
take_recipient(struct span *s, uint8_t version, struct mail_recipient *r,
	       struct record_starts *starts, bool *bad)
{
	*r = (struct mail_recipient){ .notify = (uint8_t)take_number(s, 1, bad) };
	r->state = (uint8_t)take_number(s, 1, bad);
	r->attempts = (uint16_t)take_number(s, 2, bad);
	r->retry_at_ms = take_number(s, 8, bad);
	starts->starts = (uint16_t)take_number(s, 2, bad);
	starts->closed = (uint16_t)take_number(s, 2, bad);
	uint64_t flags = take_number(s, 1, bad);
	starts->alone = (flags & FLAG_ALONE) != 0;
	r->notified = (flags & FLAG_NOTIFIED) != 0;
	r->address = take_text(s, bad);
	r->orcpt = take_text(s, bad);
	r->reply = take_text(s, bad);
	if (r->state >= STATES || r->reply.size > RECORD_REPLY_MOST)
		*bad = true;
	revive(version, &r->state, &r->retry_at_ms);
}

static void
take_line(struct span *s, uint8_t version, struct record_line *l, bool *bad)
{
	l->recipient = (uint32_t)take_number(s, 4, bad);
	l->state = (uint8_t)take_number(s, 1, bad);
	uint64_t flags = take_number(s, 1, bad);
	l->alone = (flags & FLAG_ALONE) != 0;
	l->notified = (flags & FLAG_NOTIFIED) != 0;
	l->attempts = (uint16_t)take_number(s, 2, bad);
	l->number = (uint16_t)take_number(s, 2, bad);
	l->retry_at_ms = take_number(s, 8, bad);
	l->reply = take_text(s, bad);
	if (l->state >= STATES || l->reply.size > RECORD_REPLY_MOST)
		*bad = true;
	revive(version, &l->state, &l->retry_at_ms);
}

static bool
parse_put(struct span s, struct record *r)
{
	bool bad = false;

	r->id = take_id(&s, &bad);
	r->put_sequence = take_number(&s, 8, &bad);
	r->accepted_at_ms = take_number(&s, 8, &bad);
	r->mail_size = take_number(&s, 8, &bad);
	r->flags = (uint32_t)take_number(&s, 4, &bad);
	r->ret = (uint8_t)take_number(&s, 1, &bad);
	r->body_kind = (uint8_t)take_number(&s, 1, &bad);
	r->hold_revision = (uint16_t)take_number(&s, 2, &bad);
	r->count = (uint32_t)take_number(&s, 4, &bad);
	r->sender = take_text(&s, &bad);
	r->envid = take_text(&s, &bad);
	r->client = take_text(&s, &bad);
	size_t crcs = take_number(&s, 4, &bad);
	bad = bad || crcs > s.size;
	r->block_crcs = span_first(s, bad ? 0 : crcs);
	s = span_after(s, r->block_crcs.size);
	r->rest = s;
	for (uint32_t i = 0; i < r->count && !bad; i++) {
		struct mail_recipient recipient;
		struct record_starts starts;
		take_recipient(&s, r->version, &recipient, &starts, &bad);
	}
	if (bad || s.size != 0 || r->ret > RET_HEADERS)
		return false;
	if (r->body_kind == BODY_FILE)
		return r->body_size == 0 && r->block_crcs.size % 4 == 0 &&
		       r->block_crcs.size / 4 ==
			       r->mail_size / SPOOL_BLOCK + (r->mail_size % SPOOL_BLOCK != 0);
	return r->body_kind == BODY_INLINE && r->block_crcs.size == 0 &&
	       r->mail_size == r->body_size;
}

static bool
parse_change(struct span s, struct record *r)
{
	bool bad = false;

	r->id = take_id(&s, &bad);
	r->put_sequence = take_number(&s, 8, &bad);
	r->gone = (uint8_t)take_number(&s, 1, &bad);
	r->hold_revision = (uint16_t)take_number(&s, 2, &bad);
	r->count = (uint32_t)take_number(&s, 4, &bad);
	r->who = take_text(&s, &bad);
	r->why = take_text(&s, &bad);
	r->rest = s;
	for (uint32_t i = 0; i < r->count && !bad; i++) {
		struct record_line line;
		take_line(&s, r->version, &line, &bad);
	}
	return !bad && s.size == 0 && r->body_size == 0;
}

static bool
parse_index(struct span s, struct record *r)
{
	bool bad = false;

	r->count = (uint32_t)take_number(&s, 4, &bad);
	size_t each = take_number(&s, 4, &bad);
	r->places_have_sizes = each == PLACE_WITH_SIZE;
	r->rest = s;
	if (each != PLACE_WITH_SIZE && each != 0)
		return false;
	each = r->places_have_sizes ? PLACE_WITH_SIZE : PLACE_ALONE;
	return !bad && r->count <= RECORD_INDEX_PLACES_MOST && s.size == r->count * each;
}

bool
record_parse(struct span in, uint64_t epoch, bool with_body, struct record *out)
{
	if (in.size < RECORD_HEADER_SIZE)
		return false;
	*out = (struct record){
		.type = in.data[12],
		.version = in.data[13],
		.meta_size = (uint32_t)fetch(in.data + 4, 4),
		.body_size = fetch(in.data + 8, 4),
		.body_crc = (uint32_t)fetch(in.data + 16, 4),
		.place = fetch(in.data + 24, 8),
	};
	if (out->meta_size < RECORD_HEADER_SIZE || out->meta_size > RECORD_META_MOST ||
	    out->meta_size > in.size || out->version == 0 || out->version > RECORD_VERSION)
		return false;
	if (with_body && record_size(out->meta_size, out->body_size) > in.size)
		return false;
	if (fetch(in.data, 4) != meta_crc(in.data, out->meta_size, epoch))
		return false;
	out->meta = span_first(in, out->meta_size);
	if (with_body)
		out->body = span_first(span_after(in, out->meta_size), out->body_size);
	struct span fields = span_after(out->meta, RECORD_HEADER_SIZE);
	if (out->type == RECORD_PUT)
		return parse_put(fields, out);
	if (out->type == RECORD_INDEX)
		return parse_index(fields, out);
	return out->type > RECORD_PUT && out->type < RECORD_INDEX && parse_change(fields, out);
}

bool
record_body_is_good(const struct record *r, struct span body)
{
	/* The checksum of a body in a file is of the file. */
	if (r->type == RECORD_PUT && r->body_kind == BODY_FILE)
		return body.size == 0;
	return body.size == r->body_size && crc32c(0, body.data, body.size) == r->body_crc;
}

void
record_block_crc(uint8_t entry[4], const uint8_t *data)
{
	store(entry, crc32c(0, data, SPOOL_BLOCK), 4);
}

bool
record_block_is_good(struct span block_crcs, uint64_t number, const uint8_t *data)
{
	uint8_t entry[4];

	ASSERT(number < block_crcs.size / 4);
	record_block_crc(entry, data);
	return memcmp(entry, block_crcs.data + 4 * number, 4) == 0;
}

void
record_next_recipient(struct span *rest, uint8_t version, struct mail_recipient *out,
		      struct record_starts *starts)
{
	bool bad = false;

	take_recipient(rest, version, out, starts, &bad);
	ASSERT(!bad);
}

void
record_next_line(struct span *rest, uint8_t version, struct record_line *out)
{
	bool bad = false;

	take_line(rest, version, out, &bad);
	ASSERT(!bad);
}

struct record_place
record_next_place(struct span *rest, bool has_size)
{
	bool bad = false;
	struct record_place place = { .at = (uint32_t)take_number(rest, 4, &bad) };

	if (has_size)
		place.size = (uint32_t)take_number(rest, 4, &bad);
	ASSERT(!bad);
	return place;
}

/* ---- frame: magic 4, crc 4, epoch 8, lsn 8, acked 8, place 8, size 4, count 4, 0 16 ---- */

void
frame_write(uint8_t *at, const struct frame *f)
{
	ASSERT(f->size >= FRAME_SIZE);
	ASSERT(f->acked < f->lsn);
	memset(at, 0, FRAME_SIZE);
	store(at, FRAME_MAGIC, 4);
	store(at + 8, f->epoch, 8);
	store(at + 16, f->lsn, 8);
	store(at + 24, f->acked, 8);
	store(at + 32, f->place, 8);
	store(at + 40, f->size, 4);
	store(at + 44, f->count, 4);
	store(at + 4, crc32c(0, at + 8, FRAME_SIZE - 8), 4);
}

bool
frame_parse(struct span in, uint64_t epoch, uint64_t place, struct frame *out)
{
	if (in.size < FRAME_SIZE || fetch(in.data, 4) != FRAME_MAGIC)
		return false;
	if (fetch(in.data + 4, 4) != crc32c(0, in.data + 8, FRAME_SIZE - 8))
		return false;
	*out = (struct frame){
		.epoch = fetch(in.data + 8, 8),
		.lsn = fetch(in.data + 16, 8),
		.acked = fetch(in.data + 24, 8),
		.place = fetch(in.data + 32, 8),
		.size = (uint32_t)fetch(in.data + 40, 4),
		.count = (uint32_t)fetch(in.data + 44, 4),
	};
	return out->epoch == epoch && out->place == place && out->size >= FRAME_SIZE &&
	       out->acked < out->lsn;
}

/* ---- head of a segment: magic 4, crc 4, version 4, use 4, then ten numbers of 8 ---- */

static void
write_head(uint8_t *at, const struct segment_head *h)
{
	const uint64_t numbers[] = { h->sequence, h->epoch, h->log,        h->first_lsn, h->size,
				     h->end_lsn,  h->tail,  h->last_index, h->puts };

	memset(at, 0, SPOOL_BLOCK);
	store(at, SEGMENT_MAGIC, 4);
	store(at + 8, RECORD_VERSION, 4);
	store(at + 12, h->use, 4);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		store(at + 16 + 8 * i, numbers[i], 8);
	store(at + 4, crc32c(0, at + 8, SEGMENT_HEAD_SIZE - 8), 4);
}

void
segment_head_write(uint8_t *at, const struct segment_head *h)
{
	ASSERT(h->use >= SEGMENT_IS_FREE && h->use <= SEGMENT_IS_SEALED);
	write_head(at, h);
	write_head(at + SPOOL_BLOCK, h);
}

static bool
parse_head(const uint8_t *at, struct segment_head *h)
{
	uint64_t *numbers[] = { &h->sequence, &h->epoch, &h->log,        &h->first_lsn, &h->size,
				&h->end_lsn,  &h->tail,  &h->last_index, &h->puts };

	uint64_t version = fetch(at + 8, 4);
	if (fetch(at, 4) != SEGMENT_MAGIC || version == 0 || version > RECORD_VERSION)
		return false;
	if (fetch(at + 4, 4) != crc32c(0, at + 8, SEGMENT_HEAD_SIZE - 8))
		return false;
	h->use = (uint32_t)fetch(at + 12, 4);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		*numbers[i] = fetch(at + 16 + 8 * i, 8);
	if (h->use < SEGMENT_IS_FREE || h->use > SEGMENT_IS_SEALED || h->size < SEGMENT_FIRST)
		return false;
	return h->use != SEGMENT_IS_SEALED ||
	       (h->tail >= SEGMENT_FIRST && h->tail <= h->size && h->last_index < h->tail);
}

/* How far a use of the segment has come. A write of the head goes from one to the next. */
static bool
is_later(const struct segment_head *a, const struct segment_head *b)
{
	static const uint8_t order[] = { 0, 3, 1, 2 }; /* open, sealed, free */

	if (a->sequence != b->sequence)
		return a->sequence > b->sequence;
	return order[a->use] > order[b->use];
}

bool
segment_head_parse(struct span in, struct segment_head *out)
{
	struct segment_head copies[2];

	if (in.size < SEGMENT_FIRST)
		return false;
	bool first = parse_head(in.data, &copies[0]);
	bool second = parse_head(in.data + SPOOL_BLOCK, &copies[1]);
	if (!first && !second)
		return false;
	*out = first && (!second || is_later(&copies[0], &copies[1])) ? copies[0] : copies[1];
	return true;
}
