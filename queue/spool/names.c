/* SPDX-License-Identifier: Apache-2.0
 *
 * Names: domains of senders and recipients, kept once, counted, and known by a small number, so
 * that a million mails can be looked through without their envelopes. Where there are too many,
 * further ones have no number: who looks for them must read the mails.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/spool/internal.h"

enum {
	BUCKETS = 16384,
	NAMES_LEAST = 4096, /* and one for so many mails more: */
	MAILS_OF_A_NAME = 16,
	NAME_MOST = 255,
	GROW = 256,
};

struct spool_name {
	uint32_t references;
	uint8_t size;
	uint8_t text[];
};

struct spool_names {
	struct spool_name **all; /* by number; [0] is none */
	/* Likewise: few bytes side by side, so that a search seldom leaves the cache. */
	uint32_t *hashes;
	uint16_t *next; /* in its bucket, or of the free ones; 0: none */
	uint32_t count; /* of numbers given out so far, [0] too */
	uint32_t capacity;
	uint32_t used;
	uint16_t free;
	uint64_t seed;
	uint16_t buckets[BUCKETS];
};

bool
names_init(struct spool_end *e)
{
	e->names = calloc(1, sizeof *e->names);
	if (e->names == NULL)
		return false;
	e->names->count = 1;
	e->names->seed = e->spool->hash_seed;
	return true;
}

void
names_fini(struct spool_end *e)
{
	if (e->names == NULL)
		return;
	for (uint32_t i = 1; i < e->names->count; i++)
		free(e->names->all[i]);
	free(e->names->all);
	free(e->names->hashes);
	free(e->names->next);
	free(e->names);
}

static struct span
text_of(const struct spool_name *n)
{
	return span_of(n->text, n->size);
}

static uint32_t
hash_of(const struct spool_names *n, struct span text)
{
	return (uint32_t)span_hash_nocase(text, n->seed);
}

static uint16_t
find(const struct spool_names *n, struct span text, uint32_t hash)
{
	uint16_t i = n->buckets[hash % BUCKETS];

	while (i != 0 && (n->hashes[i] != hash || !span_eq_nocase(text_of(n->all[i]), text)))
		i = n->next[i];
	return i;
}

uint16_t
name_find(const struct spool_end *e, struct span text)
{
	return text.size == 0 ? 0 : find(e->names, text, hash_of(e->names, text));
}

static bool
grow(struct spool_names *n)
{
	uint32_t capacity = n->capacity + GROW;
	struct spool_name **all = realloc(n->all, capacity * sizeof *all);

	if (all == NULL)
		return false;
	n->all = all;
	uint32_t *hashes = realloc(n->hashes, capacity * sizeof *hashes);
	if (hashes == NULL)
		return false;
	n->hashes = hashes;
	uint16_t *next = realloc(n->next, capacity * sizeof *next);
	if (next == NULL)
		return false;
	n->next = next;
	n->capacity = capacity;
	return true;
}

/* A number that no name has; 0: none. */
static uint16_t
take_number(struct spool_names *n)
{
	uint16_t number = n->free;

	if (number != 0) {
		n->free = n->next[number];
		return number;
	}
	if (n->count > SPOOL_NAMES_MOST || (n->count >= n->capacity && !grow(n)))
		return 0;
	n->all[n->count] = NULL;
	return (uint16_t)n->count++;
}

static void
give_number(struct spool_names *n, uint16_t number)
{
	n->all[number] = NULL;
	n->next[number] = n->free;
	n->free = number;
}

uint16_t
name_get(struct spool_end *e, struct span text)
{
	struct spool_names *n = e->names;

	if (text.size == 0 || text.size > NAME_MOST)
		return 0;
	uint32_t hash = hash_of(n, text);
	uint16_t number = find(n, text, hash);
	if (number != 0) {
		n->all[number]->references++;
		return number;
	}
	if (n->used >= NAMES_LEAST + e->mail_count / MAILS_OF_A_NAME)
		return 0;
	number = take_number(n);
	if (number == 0)
		return 0;
	struct spool_name *new = malloc(sizeof *new + text.size);
	if (new == NULL) {
		give_number(n, number);
		return 0;
	}
	uint16_t *bucket = &n->buckets[hash % BUCKETS];
	*new = (struct spool_name){ .references = 1, .size = (uint8_t)text.size };
	n->hashes[number] = hash;
	n->next[number] = *bucket;
	for (size_t i = 0; i < text.size; i++)
		new->text[i] = ascii_lower(text.data[i]);
	n->all[number] = new;
	*bucket = number;
	n->used++;
	e->memory_bytes += sizeof *new + text.size;
	return number;
}

void
name_put(struct spool_end *e, uint16_t number)
{
	struct spool_names *n = e->names;
	struct spool_name *name = number == 0 ? NULL : n->all[number];

	if (name == NULL || --name->references > 0)
		return;
	uint16_t *at = &n->buckets[n->hashes[number] % BUCKETS];
	while (*at != number)
		at = &n->next[*at];
	*at = n->next[number];
	e->memory_bytes -= sizeof *name + name->size;
	n->used--;
	free(name);
	give_number(n, number);
}

struct span
name_text(const struct spool_end *e, uint16_t number)
{
	return number == 0 ? span_none() : text_of(e->names->all[number]);
}
