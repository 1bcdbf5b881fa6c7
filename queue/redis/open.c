/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing. Nothing is asked of Redis here: a node starts at once whatever the queue,
 * and says that it is not ready until Redis is there.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum { BODY_MEMORY = 256 * 1024 * 1024, ITEMS = 16 * 1000 * 1000 };

static void
make_incarnation(struct redis_store *s)
{
	uint8_t memory[REDIS_INCARNATION_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	id_hex(&text, (struct mail_id){ random_u64(), random_u64() });
	memcpy(s->incarnation, memory, sizeof memory);
}

static bool
make_tags(struct redis_store *s)
{
	s->tags = calloc(s->redis.shards, sizeof *s->tags);
	for (unsigned i = 0; s->tags != NULL && i < s->redis.shards; i++)
		snprintf(s->tags[i], sizeof s->tags[i], "{%.*s:%u}", SPAN_ARG(s->redis.prefix), i);
	return s->tags != NULL;
}

struct queue_store *
redis_open(const struct queue_options *options, struct worker **workers, unsigned worker_count,
	   const struct queue_hooks *hooks, struct buf *why)
{
	struct redis_store *s = calloc(1, sizeof *s);

	ASSERT(options->redis->shards > 0 && options->redis->shards <= REDIS_SHARDS_MOST);
	ASSERT(options->redis->prefix.size <= REDIS_PREFIX_MOST);
	if (s == NULL)
		goto out;
	OBJ_INIT(&s->store, QUEUE_STORE_MAGIC);
	s->store.driver = &redis_driver;
	s->store.hooks = *hooks;
	s->store.worker_count = worker_count;
	s->options = *options;
	s->redis = *options->redis;
	if (s->options.body_memory == 0)
		s->options.body_memory = BODY_MEMORY;
	if (s->options.items_max == 0)
		s->options.items_max = ITEMS;
	s->hash_seed = random_u64();
	atomic_init(&s->ends_at_work, worker_count);
	make_incarnation(s);
	s->leases = aligned_alloc(64, s->redis.shards * sizeof *s->leases);
	if (s->leases != NULL)
		memset(s->leases, 0, s->redis.shards * sizeof *s->leases);
	s->ends = calloc(worker_count, sizeof *s->ends);
	if (s->leases == NULL || s->ends == NULL || !make_tags(s))
		goto out;
	for (unsigned i = 0; i < worker_count; i++) {
		if (!redis_end_init(&s->ends[i], s, workers[i]))
			goto out;
	}
	return &s->store;
out:
	buf_printf(why, "queue.store redis: no memory for %u workers", worker_count);
	if (s != NULL)
		redis_close(&s->store);
	return NULL;
}

void
redis_close(struct queue_store *store)
{
	struct redis_store *s = (struct redis_store *)(void *)store;

	for (unsigned i = 0; s->ends != NULL && i < store->worker_count; i++) {
		if (s->ends[i].store != NULL)
			redis_end_fini(&s->ends[i]);
	}
	free(s->ends);
	free(s->leases);
	free(s->tags);
	free(s);
}
