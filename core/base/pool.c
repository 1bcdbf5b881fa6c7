/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/pool.h"

#include <stdlib.h>

#include "core/base/assert.h"

/* A block holds about as much as the pool has already, within these, or one object where that is
 * larger. The allocator pads what is large by a page: small blocks of a large pool would cost. */
enum { BLOCK_LEAST = 64 * 1024, BLOCK_MOST = 1024 * 1024 };

struct pool_block {
	struct pool_block *next;
	void *memory;
};

static size_t
alignment_for(size_t size)
{
	return size % 4096 == 0 ? 4096 : size % 64 == 0 ? 64 : size % 16 == 8 ? 8 : 16;
}

void
pool_init(struct pool *p, size_t object_size, size_t count_max)
{
	ASSERT(object_size >= sizeof(void *));
	*p = (struct pool){ .count_max = count_max, .alignment = alignment_for(object_size) };
	p->object_size = (object_size + p->alignment - 1) / p->alignment * p->alignment;
}

void
pool_fini(struct pool *p)
{
	ASSERT(p->used == 0);
	while (p->blocks != NULL) {
		struct pool_block *next = p->blocks->next;
		free(p->blocks->memory);
		free(p->blocks);
		p->blocks = next;
	}
	p->free = NULL;
	p->count = 0;
	p->fresh = 0;
}

static void
push_free(struct pool *p, void *object)
{
	*(void **)object = p->free;
	p->free = object;
}

static void
grow(struct pool *p)
{
	size_t size = p->count * p->object_size;

	size = size < BLOCK_LEAST ? BLOCK_LEAST : size > BLOCK_MOST ? BLOCK_MOST : size;
	size_t wanted = size / p->object_size;
	size_t room = p->count_max - p->count;
	size_t n = wanted == 0 ? 1 : wanted < room ? wanted : room;
	struct pool_block *block = malloc(sizeof *block);

	if (block == NULL)
		return;
	block->memory = aligned_alloc(p->alignment, n * p->object_size);
	if (block->memory == NULL) {
		free(block);
		return;
	}
	block->next = p->blocks;
	p->blocks = block;
	p->count += n;
	p->fresh = n;
}

void *
pool_get(struct pool *p)
{
	if (p->used >= p->count_max)
		return NULL;
	void *object = p->free;
	if (object != NULL) {
		p->free = *(void **)object;
		p->used++;
		return object;
	}
	if (p->fresh == 0 && p->count < p->count_max)
		grow(p);
	if (p->fresh == 0)
		return NULL;
	p->fresh--;
	p->used++;
	return (char *)p->blocks->memory + p->fresh * p->object_size;
}

void
pool_put(struct pool *p, void *object)
{
	ASSERT(object != NULL);
	ASSERT(p->used > 0);
	p->used--;
	push_free(p, object);
}

void
pool_set_limit(struct pool *p, size_t count_max)
{
	p->count_max = count_max;
}
