/* SPDX-License-Identifier: Apache-2.0
 *
 * arena: memory that is taken piece by piece and given back all at once.
 *
 * One arena serves one mail transaction (reset at RSET and commit) or one snapshot of the
 * configuration. Chunks come from malloc, the first one only when something is asked for, so an
 * idle session costs nothing; arena_reset() keeps none. The sum of all chunks stays within
 * size_max: then arena_take() returns NULL, and the caller answers 452 or reports the file's error.
 * Pieces are aligned to 16 bytes. One thread.
 */
#ifndef CORE_BASE_ARENA_H
#define CORE_BASE_ARENA_H

#include <stddef.h>

#include "core/base/span.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first */
	size_t chunk_size;          /* usual size of a chunk, bytes */
	size_t size;                /* bytes of all chunks */
	size_t size_max;
};

void arena_init(struct arena *a, size_t chunk_size, size_t size_max);
/* Gives everything back; the arena may be used again. Also the way to end with it. */
void arena_reset(struct arena *a);

/* Zeroed memory, or NULL when size_max is reached. */
void *arena_take(struct arena *a, size_t size);
/* A copy of s that lives as long as the arena, with a NUL behind it that is not counted. On
 * failure data is NULL (an empty copy has data != NULL). */
struct span arena_copy(struct arena *a, struct span s);

#endif
