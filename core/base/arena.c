/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#include "core/base/assert.h"

struct arena_chunk {
	alignas(16) struct arena_chunk *next;
	size_t used;
	size_t capacity;
	alignas(16) uint8_t memory[];
};

void
arena_init(struct arena *a, size_t chunk_size, size_t size_max)
{
	ASSERT(chunk_size > 0);
	*a = (struct arena){ .chunk_size = chunk_size, .size_max = size_max };
}

void
arena_reset(struct arena *a)
{
	while (a->chunks != NULL) {
		struct arena_chunk *next = a->chunks->next;
		free(a->chunks);
		a->chunks = next;
	}
	a->size = 0;
}

static struct arena_chunk *
add_chunk(struct arena *a, size_t size_min)
{
	size_t capacity = size_min > a->chunk_size ? size_min : a->chunk_size;

	if (capacity > a->size_max || a->size > a->size_max - capacity)
		capacity = size_min;
	if (capacity > a->size_max || a->size > a->size_max - capacity)
		return NULL;
	struct arena_chunk *chunk = malloc(sizeof *chunk + capacity);
	if (chunk == NULL)
		return NULL;
	chunk->next = a->chunks;
	chunk->used = 0;
	chunk->capacity = capacity;
	a->chunks = chunk;
	a->size += capacity;
	return chunk;
}

void *
arena_take(struct arena *a, size_t size)
{
	if (size > SIZE_MAX - 32)
		return NULL;
	size_t rounded = (size + 15) & ~(size_t)15;
	struct arena_chunk *chunk = a->chunks;

	if (chunk == NULL || chunk->capacity - chunk->used < rounded)
		chunk = add_chunk(a, rounded);
	if (chunk == NULL)
		return NULL;
	void *piece = chunk->memory + chunk->used;
	chunk->used += rounded;
	memset(piece, 0, size);
	return piece;
}

struct span
arena_copy(struct arena *a, struct span s)
{
	uint8_t *copy = arena_take(a, s.size + 1);

	if (copy == NULL)
		return span_none();
	if (s.size > 0)
		memcpy(copy, s.data, s.size);
	copy[s.size] = 0;
	return span_of(copy, s.size);
}
