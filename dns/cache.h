/* SPDX-License-Identifier: Apache-2.0
 *
 * cache: what was answered, by name and tag, until its time is up. One worker's own.
 *
 * Bounded by bytes, of which the entry with its name is a part; what was used longest ago goes
 * first. An entry whose time is up is not found any more, and goes when it is looked for or when
 * its turn comes. The cache holds one reference of each object and gives it back through `drop`.
 * All operations are O(1), but for the doubling of the table as it fills up.
 */
#ifndef DNS_CACHE_H
#define DNS_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"

struct cache;

/* NULL without memory. The seed keeps others from choosing names that fall together. */
struct cache *cache_new(size_t bytes_max, uint64_t seed, void (*drop)(void *object));
void cache_free(struct cache *c);

/* The object, lent until the next call, or NULL. `name` is in the form of name.h. */
void *cache_find(struct cache *c, struct span name, uint64_t tag, uint64_t now_ms);
/* Takes the reference; where it does not fit, or without memory, it is dropped at once. Another
 * with the same key is replaced. */
void cache_put(struct cache *c, struct span name, uint64_t tag, void *object, size_t bytes,
	       uint64_t expires_at_ms);
size_t cache_bytes(const struct cache *c);
size_t cache_count(const struct cache *c);

#endif
