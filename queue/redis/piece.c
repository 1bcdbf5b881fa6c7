/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces of bodies: 256 KiB each, compressed where that saves something, kept under a key of their
 * own. Those that were read last stay for a while, so that a body that is read in order costs one
 * request a piece however small the parts are.
 */
#include <stdlib.h>
#include <zstd.h>

#include "core/base/assert.h"
#include "queue/redis/internal.h"

enum {
	COMPRESS_LEAST = 2048,
	COMPRESS_LEVEL = 1,
	SAVED_LEAST_PARTS = 8, /* an eighth must be saved, else it is kept as it is */
};

uint32_t
pieces_of(uint64_t size)
{
	return (uint32_t)((size + REDIS_PIECE - 1) / REDIS_PIECE);
}

bool
pieces_init(struct redis_end *e)
{
	e->scratch_size = ZSTD_compressBound(REDIS_PIECE) + 1;
	e->scratch = malloc(e->scratch_size);
	e->compressor = ZSTD_createCCtx();
	e->decompressor = ZSTD_createDCtx();
	e->plain = malloc(REDIS_PIECE);
	return e->scratch != NULL && e->compressor != NULL && e->decompressor != NULL &&
	       e->plain != NULL;
}

void
pieces_fini(struct redis_end *e)
{
	for (unsigned i = 0; i < REDIS_CACHE; i++)
		free(e->cache[i].data);
	ZSTD_freeCCtx(e->compressor);
	ZSTD_freeDCtx(e->decompressor);
	free(e->scratch);
	free(e->plain);
}

static struct span
gather(struct redis_end *e, const struct body *b, uint64_t offset, uint64_t size)
{
	struct span run = body_at(b, offset);
	size_t done = 0;

	if (run.size >= size)
		return span_first(run, size);
	while (done < size) {
		run = span_first(body_at(b, offset + done), size - done);
		memcpy(e->plain + done, run.data, run.size);
		done += run.size;
	}
	return span_of(e->plain, done);
}

struct span
piece_compress(struct redis_end *e, const struct body *b, uint64_t offset, uint64_t size)
{
	if (!e->store->redis.compress || size < COMPRESS_LEAST)
		return span_none();
	struct span plain = gather(e, b, offset, size);
	size_t most = size - size / SAVED_LEAST_PARTS;
	size_t packed = ZSTD_compressCCtx(e->compressor, e->scratch + 1, e->scratch_size - 1,
					  plain.data, plain.size, COMPRESS_LEVEL);
	if (ZSTD_isError(packed) || packed > most)
		return span_none();
	e->scratch[0] = 'z';
	return span_of(e->scratch, packed + 1);
}

bool
piece_read(struct redis_end *e, struct span stored, struct span *out)
{
	if (stored.size == 0 || stored.size > e->scratch_size)
		return false;
	if (stored.data[0] == '0') {
		*out = span_after(stored, 1);
		return out->size <= REDIS_PIECE;
	}
	if (stored.data[0] != 'z')
		return false;
	size_t size = ZSTD_decompressDCtx(e->decompressor, e->plain, REDIS_PIECE, stored.data + 1,
					  stored.size - 1);
	*out = span_of(e->plain, size);
	return !ZSTD_isError(size);
}

/* ---- what was read last ---- */

struct span
piece_cached(struct redis_end *e, struct mail_id id, uint32_t number)
{
	for (unsigned i = 0; i < REDIS_CACHE; i++) {
		struct redis_cached *c = &e->cache[i];
		if (c->data != NULL && c->number == number && mail_id_eq(c->id, id)) {
			c->used = ++e->cache_uses;
			return span_of(c->data, c->size);
		}
	}
	return span_none();
}

bool
piece_cache(struct redis_end *e, struct mail_id id, uint32_t number, struct span bytes)
{
	struct redis_cached *oldest = &e->cache[0];

	ASSERT(bytes.size <= REDIS_PIECE);
	for (unsigned i = 1; i < REDIS_CACHE; i++) {
		if (e->cache[i].used < oldest->used)
			oldest = &e->cache[i];
	}
	if (oldest->data == NULL)
		oldest->data = malloc(REDIS_PIECE);
	if (oldest->data == NULL)
		return false;
	memcpy(oldest->data, bytes.data, bytes.size);
	oldest->id = id;
	oldest->number = number;
	oldest->size = (uint32_t)bytes.size;
	oldest->used = ++e->cache_uses;
	return true;
}
