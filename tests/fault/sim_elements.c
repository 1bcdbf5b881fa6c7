/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/sim_elements.h"

#include <string.h>

#include "tests/fault/sim.h"

size_t
elements_size(const struct key *key)
{
	return key->places == 0 ? 0 : world_places(key->places * sizeof *key->elements);
}

int
elements_compare(struct span a, struct span b)
{
	size_t least = a.size < b.size ? a.size : b.size;
	int order = least == 0 ? 0 : memcmp(a.data, b.data, least);

	return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static bool
is_before(const struct key *key, const struct element *e, double score, struct span name)
{
	if ((key->kind == KIND_ZSET || key->kind == KIND_LIST) && e->score != score)
		return e->score < score;
	return elements_compare(blob_span(&e->name), name) < 0;
}

/* The first that is not before it. */
static size_t
position_of(const struct key *key, double score, struct span name)
{
	size_t low = 0, high = key->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (is_before(key, &key->elements[middle], score, name))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct element *
element_find(const struct key *key, struct span name)
{
	size_t at = 0;

	if (key == NULL)
		return NULL;
	if (key->kind != KIND_ZSET)
		at = position_of(key, 0, name);
	else
		while (at < key->count && !span_eq(blob_span(&key->elements[at].name), name))
			at++;
	bool found = at < key->count && span_eq(blob_span(&key->elements[at].name), name);
	return found ? &key->elements[at] : NULL;
}

struct element *
element_add(struct key *key, double score, struct span name)
{
	size_t at = position_of(key, score, name);

	if (key->count == key->places) {
		size_t size = world_places((key->count + 1) * sizeof *key->elements);
		struct element *more = world_take(size);
		if (key->count > 0)
			memcpy(more, key->elements, key->count * sizeof *more);
		world_give(key->elements, elements_size(key));
		key->elements = more;
		key->places = size / sizeof *more;
	}
	memmove(&key->elements[at + 1], &key->elements[at],
		(key->count - at) * sizeof *key->elements);
	key->count++;
	struct element *e = &key->elements[at];
	*e = (struct element){ .score = score };
	blob_set(&e->name, name);
	return e;
}

void
element_remove(struct key *key, struct element *e)
{
	size_t at = (size_t)(e - key->elements);

	blob_fini(&e->name);
	blob_fini(&e->value);
	memmove(e, e + 1, (key->count - at - 1) * sizeof *e);
	key->count--;
}
