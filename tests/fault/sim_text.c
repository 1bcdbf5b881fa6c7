/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/sim_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"

enum { CLASSES = 40 };

/* ---- texts ---- */

void
text_fini(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

void
text_append(struct text *t, const void *data, size_t size)
{
	if (t->size + size > t->places) {
		t->places = (t->size + size) * 2;
		t->data = realloc(t->data, t->places);
		ASSERT(t->data != NULL);
	}
	if (size > 0)
		memcpy(t->data + t->size, data, size);
	t->size += size;
}

static void
append_line(struct text *t, char kind, const char *format, va_list arguments)
{
	char line[512];
	int size = vsnprintf(line, sizeof line, format, arguments);

	text_append(t, &kind, 1);
	text_append(t, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
	text_append(t, "\r\n", 2);
}

static void
text_line(struct text *t, char kind, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	append_line(t, kind, format, arguments);
	va_end(arguments);
}

void
text_status(struct text *t, const char *status)
{
	text_line(t, '+', "%s", status);
}

void
text_error(struct text *t, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	append_line(t, '-', format, arguments);
	va_end(arguments);
}

void
text_number(struct text *t, int64_t n)
{
	text_line(t, ':', "%" PRId64, n);
}

void
text_bulk(struct text *t, struct span s)
{
	text_line(t, '$', "%zu", s.size);
	text_append(t, s.data, s.size);
	text_append(t, "\r\n", 2);
}

void
text_nothing(struct text *t)
{
	text_append(t, "$-1\r\n", 5);
}

void
text_array(struct text *t, size_t count)
{
	text_line(t, '*', "%zu", count);
}

/* ---- blobs: the world gives small memory back, large is kept here for use again ---- */

struct spare {
	struct spare *next;
};

struct sim_spares {
	struct spare *by_class[CLASSES];
};

size_t
world_places(size_t size)
{
	size_t places = 16;

	while (places < size)
		places *= 2;
	return places;
}

static unsigned
class_of(size_t places)
{
	return (unsigned)__builtin_ctzll(places);
}

void *
world_take(size_t places)
{
	if (world->spares == NULL)
		world->spares = sim_allocate(sizeof *world->spares);
	struct spare **first = &world->spares->by_class[class_of(places)];
	struct spare *s = *first;
	if (s == NULL)
		return sim_allocate(places);
	*first = s->next;
	return s;
}

void
world_give(void *memory, size_t places)
{
	struct spare *s = memory;

	if (places == 0)
		return;
	s->next = world->spares->by_class[class_of(places)];
	world->spares->by_class[class_of(places)] = s;
}

void
blob_append(struct blob *b, struct span s)
{
	if (b->size + s.size > b->places) {
		struct blob more = { .size = b->size, .places = world_places(b->size + s.size) };
		more.data = world_take(more.places);
		if (b->size > 0)
			memcpy(more.data, b->data, b->size);
		world_give(b->data, b->places);
		*b = more;
	}
	if (s.size > 0)
		memcpy(b->data + b->size, s.data, s.size);
	b->size += s.size;
}

void
blob_set(struct blob *b, struct span s)
{
	b->size = 0;
	blob_append(b, s);
}

void
blob_fini(struct blob *b)
{
	world_give(b->data, b->places);
	*b = (struct blob){ 0 };
}
