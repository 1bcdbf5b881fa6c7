/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/body.h"

#include <stdlib.h>

#include "core/base/assert.h"

enum { CHUNK_LEAST = 2048, CHUNK_MOST = 64 * 1024 };

struct chunk {
	struct chunk *next;
	size_t size;
	size_t capacity;
	uint8_t data[];
};

struct body {
	struct body_budget *budget;
	struct chunk *first;
	struct chunk *last;
	uint64_t size;
	uint64_t hint;
	unsigned references;
};

/* What is asked of the system counts, not what is filled. */
static void *
take_memory(struct body_budget *budget, size_t size)
{
	if (size > budget->most_bytes || budget->used_bytes > budget->most_bytes - size)
		return NULL;
	void *memory = malloc(size);
	if (memory != NULL)
		budget->used_bytes += size;
	return memory;
}

static void
give_memory(struct body_budget *budget, void *memory, size_t size)
{
	ASSERT(budget->used_bytes >= size);
	budget->used_bytes -= size;
	free(memory);
}

struct body *
body_new(struct body_budget *budget, uint64_t size_hint)
{
	struct body *b = take_memory(budget, sizeof *b);

	if (b != NULL)
		*b = (struct body){ .budget = budget, .hint = size_hint, .references = 1 };
	return b;
}

struct body *
body_get(struct body *b)
{
	ASSERT(b->references > 0);
	b->references++;
	return b;
}

void
body_put(struct body *b)
{
	ASSERT(b->references > 0);
	if (--b->references > 0)
		return;
	while (b->first != NULL) {
		struct chunk *next = b->first->next;
		give_memory(b->budget, b->first, sizeof *b->first + b->first->capacity);
		b->first = next;
	}
	give_memory(b->budget, b, sizeof *b);
}

/* Chunks double, so that a small body costs little and a large one has few. */
static bool
add_chunk(struct body *b, size_t wanted)
{
	uint64_t capacity = b->first == NULL ? b->hint : b->size;

	capacity = capacity < wanted ? wanted : capacity;
	capacity = capacity < CHUNK_LEAST ? CHUNK_LEAST : capacity;
	capacity = capacity > CHUNK_MOST ? CHUNK_MOST : capacity;
	struct chunk *c = take_memory(b->budget, sizeof *c + capacity);
	if (c == NULL)
		return false;
	*c = (struct chunk){ .capacity = capacity };
	if (b->last == NULL)
		b->first = c;
	else
		b->last->next = c;
	b->last = c;
	return true;
}

enum err
body_append(struct body *b, struct span bytes)
{
	while (bytes.size > 0) {
		struct chunk *c = b->last;
		if (c == NULL || c->size == c->capacity) {
			if (!add_chunk(b, bytes.size))
				return ERR_NO_MEMORY;
			continue;
		}
		struct span part = span_first(bytes, c->capacity - c->size);
		memcpy(c->data + c->size, part.data, part.size);
		c->size += part.size;
		b->size += part.size;
		bytes = span_after(bytes, part.size);
	}
	return ERR_OK;
}

uint64_t
body_size(const struct body *b)
{
	return b->size;
}

struct span
body_at(const struct body *b, uint64_t offset)
{
	const struct chunk *c = b->first;

	while (c != NULL && offset >= c->size) {
		offset -= c->size;
		c = c->next;
	}
	return c == NULL ? span_none() : span_after(span_of(c->data, c->size), offset);
}
