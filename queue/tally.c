/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting what a filter matches by one of its properties, in a bounded table, on top of
 * queue_list.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "queue/queue.h"

enum { KEY_MOST = 512, LOAD_HALF = 2, TALLY_MAGIC = 0x54414c59 };

struct entry {
	uint32_t hash;
	uint16_t size;
	uint8_t *text;
	uint64_t items; /* 0: free */
	uint64_t recipients;
	uint64_t oldest_accepted_at_ms;
};

struct queue_tally {
	uint32_t magic;
	enum queue_tally_by by;
	uint64_t now_ms;
	uint32_t keys_max;
	uint32_t count;
	uint32_t places; /* a power of two, at least twice keys_max */
	struct entry rest;
	struct entry entries[];
};

struct queue_tally *
queue_tally_new(enum queue_tally_by by, uint32_t keys_max, uint64_t now_ms)
{
	uint32_t places = 2;

	ASSERT(keys_max > 0 && keys_max <= 1U << 24);
	while (places < LOAD_HALF * keys_max)
		places *= 2;
	struct queue_tally *t = calloc(1, sizeof *t + places * sizeof(struct entry));
	if (t == NULL)
		return NULL;
	OBJ_INIT(t, TALLY_MAGIC);
	t->by = by;
	t->now_ms = now_ms;
	t->keys_max = keys_max;
	t->places = places;
	return t;
}

void
queue_tally_free(struct queue_tally *t)
{
	if (t == NULL)
		return;
	OBJ_CHECK(t, TALLY_MAGIC);
	for (uint32_t i = 0; i < t->places; i++)
		free(t->entries[i].text);
	free(t);
}

/* The key's entry, made where there is none and a place for it. */
static struct entry *
entry_of(struct queue_tally *t, struct span key)
{
	uint32_t hash = (uint32_t)span_hash_nocase(key, 0);
	uint32_t at = hash & (t->places - 1);

	key = span_first(key, KEY_MOST);
	for (;; at = (at + 1) & (t->places - 1)) {
		struct entry *e = &t->entries[at];
		if (e->items == 0)
			break;
		if (e->hash == hash && span_eq(span_of(e->text, e->size), key))
			return e;
	}
	uint8_t *text = t->count < t->keys_max ? malloc(key.size + 1) : NULL;
	if (text == NULL)
		return &t->rest;
	if (key.size > 0)
		memcpy(text, key.data, key.size);
	t->entries[at] = (struct entry){ .hash = hash, .size = (uint16_t)key.size, .text = text };
	t->count++;
	return &t->entries[at];
}

static void
add(struct entry *e, uint64_t items, uint64_t recipients, uint64_t oldest_ms)
{
	if (e->items == 0 || oldest_ms < e->oldest_accepted_at_ms)
		e->oldest_accepted_at_ms = oldest_ms;
	e->items += items;
	e->recipients += recipients;
}

static struct span
key_of(const struct queue_tally *t, const struct queue_row *row, struct buf *memory)
{
	static const char *const states[] = { "any", "waiting", "claimed", "held", "failed" };
	uint64_t age_ms = t->now_ms > row->accepted_at_ms ? t->now_ms - row->accepted_at_ms : 0;

	switch (t->by) {
	case TALLY_RECIPIENT_DOMAIN:
		return row->recipient_domain;
	case TALLY_SITE:
		buf_printf(memory, "%u", row->site.number);
		return buf_span(memory);
	case TALLY_SENDER:
		return row->sender;
	case TALLY_AGE:
		return span_of_string(queue_age_name(queue_age_class(age_ms)));
	case TALLY_REPLY:
		return row->reply;
	case TALLY_STATE:
		return span_of_string(states[row->state]);
	}
	return span_none();
}

static bool
on_row(void *context, const struct queue_row *row)
{
	struct queue_tally *t = context;
	uint8_t bytes[16];
	struct buf memory = buf_of(bytes, sizeof bytes);
	struct entry *e = entry_of(t, key_of(t, row, &memory));

	add(e, 1, row->pending_count, row->accepted_at_ms);
	return true;
}

bool
queue_tally(struct queue *q, struct queue_tally *t, const struct queue_filter *f, uint64_t *cursor,
	    uint64_t slice_us)
{
	OBJ_CHECK(t, TALLY_MAGIC);
	return queue_list(q, f, cursor, slice_us, on_row, t);
}

void
queue_tally_merge(struct queue_tally *to, const struct queue_tally *from)
{
	OBJ_CHECK(to, TALLY_MAGIC);
	OBJ_CHECK(from, TALLY_MAGIC);
	ASSERT(to->by == from->by);
	for (uint32_t i = 0; i < from->places; i++) {
		const struct entry *e = &from->entries[i];
		if (e->items > 0)
			add(entry_of(to, span_of(e->text, e->size)), e->items, e->recipients,
			    e->oldest_accepted_at_ms);
	}
	if (from->rest.items > 0)
		add(&to->rest, from->rest.items, from->rest.recipients,
		    from->rest.oldest_accepted_at_ms);
}

static int
by_items(const void *a, const void *b)
{
	const struct queue_tally_row *x = a;
	const struct queue_tally_row *y = b;

	return x->items > y->items ? -1 : x->items < y->items;
}

static struct queue_tally_row
row_of(const struct entry *e, bool is_rest)
{
	return (struct queue_tally_row){
		.key = span_of(e->text, e->size),
		.is_rest = is_rest,
		.items = e->items,
		.recipients = e->recipients,
		.oldest_accepted_at_ms = e->oldest_accepted_at_ms,
	};
}

uint32_t
queue_tally_rows(struct queue_tally *t, struct queue_tally_row *out, uint32_t most)
{
	uint32_t count = 0;

	OBJ_CHECK(t, TALLY_MAGIC);
	struct queue_tally_row *all = malloc((t->count + 1) * sizeof *all);
	if (all == NULL)
		return 0;
	for (uint32_t i = 0; i < t->places; i++) {
		if (t->entries[i].items > 0)
			all[count++] = row_of(&t->entries[i], false);
	}
	if (t->rest.items > 0)
		all[count++] = row_of(&t->rest, true);
	qsort(all, count, sizeof *all, by_items);
	count = count < most ? count : most;
	memcpy(out, all, count * sizeof *out);
	free(all);
	return count;
}

/* ---- classes ---- */

static const uint64_t minute_ms = 60 * 1000;

unsigned
queue_age_class(uint64_t age_ms)
{
	static const unsigned minutes[QUEUE_AGES - 1] = { 5, 60, 4 * 60, 24 * 60, 3 * 24 * 60 };
	unsigned number = 0;

	while (number < QUEUE_AGES - 1 && age_ms > minutes[number] * minute_ms)
		number++;
	return number;
}

unsigned
queue_attempts_class(uint16_t attempts)
{
	static const uint16_t most[QUEUE_ATTEMPTS - 1] = { 0, 1, 3, 7 };
	unsigned number = 0;

	while (number < QUEUE_ATTEMPTS - 1 && attempts > most[number])
		number++;
	return number;
}

const char *
queue_age_name(unsigned number)
{
	static const char *const names[QUEUE_AGES] = { "5m", "1h", "4h", "1d", "3d", "older" };

	ASSERT(number < QUEUE_AGES);
	return names[number];
}

const char *
queue_attempts_name(unsigned number)
{
	static const char *const names[QUEUE_ATTEMPTS] = { "0", "1", "2-3", "4-7", "more" };

	ASSERT(number < QUEUE_ATTEMPTS);
	return names[number];
}
