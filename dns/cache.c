/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/cache.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/list.h"

enum { BUCKETS_MIN = 256, BUCKETS_MAX = 1 << 22 };

struct entry {
	struct entry *next; /* in its bucket */
	struct list_node used;
	uint64_t hash;
	uint64_t tag;
	void *object;
	uint64_t expires_at_ms;
	size_t bytes;
	size_t name_size;
	uint8_t name[];
};

struct cache {
	struct entry **buckets;
	size_t bucket_count;
	size_t count;
	size_t bytes;
	size_t bytes_max;
	uint64_t seed;
	struct list used; /* longest ago first */
	void (*drop)(void *object);
};

struct cache *
cache_new(size_t bytes_max, uint64_t seed, void (*drop)(void *object))
{
	struct cache *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->bucket_count = BUCKETS_MIN;
	c->buckets = calloc(c->bucket_count, sizeof(struct entry *));
	if (c->buckets == NULL) {
		free(c);
		return NULL;
	}
	c->bytes_max = bytes_max;
	c->seed = seed;
	c->drop = drop;
	list_init(&c->used);
	return c;
}

static struct entry **
bucket_of(const struct cache *c, uint64_t hash)
{
	return &c->buckets[hash & (c->bucket_count - 1)];
}

static void
remove_entry(struct cache *c, struct entry *e)
{
	struct entry **at = bucket_of(c, e->hash);

	while (*at != e) {
		ASSERT(*at != NULL);
		at = &(*at)->next;
	}
	*at = e->next;
	list_unlink(&e->used);
	ASSERT(c->bytes >= e->bytes && c->count > 0);
	c->bytes -= e->bytes;
	c->count--;
	c->drop(e->object);
	free(e);
}

void
cache_free(struct cache *c)
{
	struct list_node *node;

	if (c == NULL)
		return;
	while ((node = list_first(&c->used)) != NULL)
		remove_entry(c, LIST_ITEM(node, struct entry, used));
	ASSERT(c->bytes == 0 && c->count == 0);
	free(c->buckets);
	free(c);
}

static uint64_t
hash_of(const struct cache *c, struct span name, uint64_t tag)
{
	return span_hash_nocase(name, c->seed ^ tag * 0x9e3779b97f4a7c15u);
}

static struct entry *
find_entry(const struct cache *c, struct span name, uint64_t tag, uint64_t hash)
{
	for (struct entry *e = *bucket_of(c, hash); e != NULL; e = e->next) {
		if (e->hash == hash && e->tag == tag &&
		    span_eq(span_of(e->name, e->name_size), name))
			return e;
	}
	return NULL;
}

void *
cache_find(struct cache *c, struct span name, uint64_t tag, uint64_t now_ms)
{
	struct entry *e = find_entry(c, name, tag, hash_of(c, name, tag));

	if (e == NULL)
		return NULL;
	if (e->expires_at_ms <= now_ms) {
		remove_entry(c, e);
		return NULL;
	}
	list_unlink(&e->used);
	list_append(&c->used, &e->used);
	return e->object;
}

/* Twice as many buckets; without memory the chains get longer, which is no error. */
static void
grow(struct cache *c)
{
	size_t count = c->bucket_count * 2;
	struct entry **larger = calloc(count, sizeof(struct entry *));
	struct entry **old = c->buckets;
	size_t old_count = c->bucket_count;

	if (larger == NULL)
		return;
	c->buckets = larger;
	c->bucket_count = count;
	for (size_t i = 0; i < old_count; i++) {
		struct entry *next;
		for (struct entry *e = old[i]; e != NULL; e = next) {
			next = e->next;
			struct entry **at = bucket_of(c, e->hash);
			e->next = *at;
			*at = e;
		}
	}
	free(old);
}

void
cache_put(struct cache *c, struct span name, uint64_t tag, void *object, size_t bytes,
	  uint64_t expires_at_ms)
{
	uint64_t hash = hash_of(c, name, tag);
	struct entry *old = find_entry(c, name, tag, hash);

	if (old != NULL)
		remove_entry(c, old);
	bytes += sizeof(struct entry) + name.size;
	struct entry *e = bytes <= c->bytes_max ? malloc(sizeof *e + name.size) : NULL;
	if (e == NULL) {
		c->drop(object);
		return;
	}
	while (c->bytes + bytes > c->bytes_max)
		remove_entry(c, LIST_ITEM(list_first(&c->used), struct entry, used));
	if (c->count >= c->bucket_count && c->bucket_count < BUCKETS_MAX)
		grow(c);
	struct entry **at = bucket_of(c, hash);
	*e = (struct entry){
		.next = *at,
		.hash = hash,
		.tag = tag,
		.object = object,
		.expires_at_ms = expires_at_ms,
		.bytes = bytes,
		.name_size = name.size,
	};
	memcpy(e->name, name.data, name.size);
	*at = e;
	list_append(&c->used, &e->used);
	c->bytes += bytes;
	c->count++;
}

size_t
cache_bytes(const struct cache *c)
{
	return c->bytes;
}

size_t
cache_count(const struct cache *c)
{
	return c->count;
}
