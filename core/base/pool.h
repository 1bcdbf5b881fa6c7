/* SPDX-License-Identifier: Apache-2.0
 *
 * pool: objects of one size, up to a fixed number, given and taken back in O(1).
 *
 * Memory comes from the system in blocks as the pool grows to its peak, and is kept for reuse:
 * the limit is what bounds it. Blocks grow from 64 KiB to 1 MiB, and a page of one is touched only
 * when an object in it is given out. pool_get() returns NULL at the limit; the caller answers 421
 * or 451 and counts it, never crashes. Objects are aligned to 64 bytes when their size is a
 * multiple of 64, to 4096 when it is a multiple of 4096, to 8 when it is an odd multiple of 8, else
 * to 16. Their content is undefined.
 * One thread.
 */
#ifndef CORE_BASE_POOL_H
#define CORE_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool_block;

struct pool {
	void *free;                /* chain of free objects, through their first word */
	struct pool_block *blocks; /* what came from the system; the newest may be part used */
	size_t fresh;              /* objects of the newest block that were never given out */
	size_t object_size;        /* rounded up to the alignment */
	size_t alignment;
	size_t count;     /* objects that exist */
	size_t count_max; /* objects that may exist */
	size_t used;      /* objects that are out */
};

void pool_init(struct pool *p, size_t object_size, size_t count_max);
/* All objects must be back. */
void pool_fini(struct pool *p);
/* NULL when count_max objects are out or the system has no memory. */
void *pool_get(struct pool *p);
void pool_put(struct pool *p, void *object);
/* Changes the limit; objects above it are given out no more. */
void pool_set_limit(struct pool *p, size_t count_max);

#endif
