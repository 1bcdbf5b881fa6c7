/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/toy_layer.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

enum { WIRE_MAX = 16 * 1024 }; /* that one receive may bring */

unsigned toy_layers;
unsigned toy_heavy_reads;
void (*toy_work)(void);
bool toy_is_only_heavy;

struct toy {
	struct layer layer; /* first */
	bool is_server, end_said;
	void (*work)(void);
	uint8_t record[HEAD + RECORD_MAX]; /* being gathered */
	size_t got;
	size_t given; /* of the plain text of a whole record */
	bool gives;
	uint8_t words[64]; /* of its own */
	size_t words_size;
	uint8_t kept[HEAD + RECORD_MAX + WIRE_MAX];
	size_t kept_size;
};

static void
say(struct toy *t, char type)
{
	ASSERT(t->words_size + HEAD <= sizeof t->words);
	memcpy(t->words + t->words_size, (uint8_t[]){ (uint8_t)type, 0, 0 }, HEAD);
	t->words_size += HEAD;
}

static size_t
body_size(const struct toy *t)
{
	return (size_t)t->record[1] << 8 | t->record[2];
}

static void
fail_toy(struct toy *t)
{
	t->layer.state = LAYER_FAILED;
	say(t, 'a');
}

static void
on_handshake_record(struct toy *t, uint8_t type)
{
	if (t->is_server && type == 'h') {
		t->layer.is_busy = t->layer.has_helper && t->work != NULL &&
				   (!t->layer.heavy_may_leave || t->layer.helper_is_free);
		if (!t->layer.is_busy)
			say(t, 's');
	} else if (!t->is_server && type == 's') {
		say(t, 'f');
		t->layer.state = LAYER_OPEN;
	} else if (t->is_server && type == 'f') {
		t->layer.state = LAYER_OPEN;
	} else {
		fail_toy(t);
	}
}

static void
on_record(struct toy *t)
{
	uint8_t type = t->record[0];

	if (t->layer.state == LAYER_HANDSHAKE)
		on_handshake_record(t, type);
	else if (type == 'e')
		t->layer.state = LAYER_ENDED;
	else if (type == 'd')
		t->gives = true;
	else
		fail_toy(t);
	if (!t->gives)
		t->got = 0;
}

/* In pieces of words: byte by byte it is most of what a test does under TSan. */
static void
append_hidden(struct buf *out, struct span bytes)
{
	uint64_t words[64] = { 0 };

	while (bytes.size > 0) {
		size_t n = bytes.size < sizeof words ? bytes.size : sizeof words;
		memcpy(words, bytes.data, n);
		for (size_t i = 0; i * sizeof words[0] < n; i++)
			words[i] ^= HIDE * UINT64_C(0x0101010101010101);
		bool has_room = buf_append(out, span_of(words, n));
		ASSERT(has_room);
		bytes = span_after(bytes, n);
	}
}

static void
give(struct toy *t, struct buf *plain)
{
	size_t rest = body_size(t) - t->given;
	size_t n = rest < buf_room(plain) ? rest : buf_room(plain);

	append_hidden(plain, span_of(t->record + HEAD + t->given, n));
	t->given += n;
	if (n < rest)
		return;
	t->gives = false;
	t->given = t->got = 0;
}

static size_t
read_bytes(struct toy *t, struct span wire, struct buf *plain)
{
	struct layer *l = &t->layer;
	size_t used = 0;

	for (;;) {
		if (t->gives)
			give(t, plain);
		if (l->is_busy)
			return used;
		if (l->state == LAYER_FAILED || l->state == LAYER_ENDED)
			return wire.size;
		if (t->gives || used == wire.size)
			return used;
		size_t n = t->got < HEAD ? 1 : HEAD + body_size(t) - t->got;
		n = n < wire.size - used ? n : wire.size - used;
		memcpy(t->record + t->got, wire.data + used, n);
		t->got += n;
		used += n;
		if (t->got >= HEAD && body_size(t) > RECORD_MAX)
			fail_toy(t);
		else if (t->got >= HEAD && t->got == HEAD + body_size(t))
			on_record(t);
	}
}

static size_t
toy_read(struct layer *l, struct span wire, struct buf *plain)
{
	struct toy *t = CONTAINER_OF(l, struct toy, layer);

	ASSERT(!l->is_busy);
	toy_heavy_reads += l->state == LAYER_HANDSHAKE;
	if (t->kept_size == 0)
		return read_bytes(t, wire, plain);
	size_t used = read_bytes(t, span_of(t->kept, t->kept_size), plain);
	t->kept_size -= used;
	memmove(t->kept, t->kept + used, t->kept_size);
	return 0;
}

static bool
toy_keep(struct layer *l, struct span wire)
{
	struct toy *t = CONTAINER_OF(l, struct toy, layer);

	ASSERT(t->kept_size + wire.size <= sizeof t->kept);
	memcpy(t->kept + t->kept_size, wire.data, wire.size);
	t->kept_size += wire.size;
	return true;
}

static void
toy_work_long(struct layer *l)
{
	struct toy *t = CONTAINER_OF(l, struct toy, layer);

	ASSERT(l->is_busy);
	t->work();
	say(t, 's');
}

static size_t
toy_write(struct layer *l, struct span plain, struct buf *wire)
{
	struct toy *t = CONTAINER_OF(l, struct toy, layer);
	size_t used = 0;

	ASSERT(plain.size == 0 || !t->end_said);
	if (!buf_append(wire, span_of(t->words, t->words_size)))
		return 0;
	t->words_size = 0;
	if (l->state != LAYER_OPEN && l->state != LAYER_ENDED)
		return 0;
	while (used < plain.size && buf_room(wire) > HEAD) {
		size_t n = buf_room(wire) - HEAD;
		n = n < RECORD_MAX ? n : RECORD_MAX;
		n = n < plain.size - used ? n : plain.size - used;
		buf_append(wire, span_of((uint8_t[]){ 'd', (uint8_t)(n >> 8), (uint8_t)n }, HEAD));
		append_hidden(wire, span_of(plain.data + used, n));
		used += n;
	}
	return used;
}

static bool
toy_wants_write(const struct layer *l)
{
	ASSERT(!l->is_busy);
	return CONTAINER_OF(l, struct toy, layer)->words_size > 0;
}

static bool
toy_has_more(const struct layer *l)
{
	const struct toy *t = CONTAINER_OF(l, struct toy, layer);

	ASSERT(!l->is_busy);
	return t->gives || t->kept_size > 0;
}

static void
toy_end(struct layer *l)
{
	struct toy *t = CONTAINER_OF(l, struct toy, layer);

	ASSERT(!t->end_said);
	t->end_said = true;
	say(t, 'e');
}

static void
toy_free(struct layer *l)
{
	free(CONTAINER_OF(l, struct toy, layer));
	toy_layers--;
}

static const struct layer_ops toy_ops = {
	.read = toy_read,
	.keep = toy_keep,
	.work = toy_work_long,
	.write = toy_write,
	.wants_write = toy_wants_write,
	.has_more = toy_has_more,
	.end = toy_end,
	.free = toy_free,
};

struct layer *
toy_new(bool is_server)
{
	struct toy *t = calloc(1, sizeof *t);

	t->layer = (struct layer){
		.ops = &toy_ops,
		.is_heavy = true,
		.heavy_may_leave = toy_is_only_heavy,
	};
	t->is_server = is_server;
	t->work = toy_work;
	toy_layers++;
	if (!is_server)
		say(t, 'h');
	return &t->layer;
}
