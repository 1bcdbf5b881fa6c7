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
	BUCKETS = 4096,
	NAMES_LEAST = 4096, /* and one for so many mails more: */
	MAILS_OF_A_NAME = 16,
	NAME_MOST = 255,
	GROW = 256,
};

struct spool_name {
	uint32_t references;
	uint16_t next; /* in its bucket, or of the free ones; 0: none */
	uint8_t size;
	uint8_t text[];
};

struct spool_names {
	struct spool_name **all; /* by number; [0] is none */
	uint16_t *next_free;     /* likewise */
	uint32_t count;          /* of numbers given out so far, [0] too */
	uint32_t capacity;
	uint32_t used;
	uint16_t free;
	uint16_t buckets[BUCKETS];
};

bool
names_init(struct spool_end *e)
{
	e->names = calloc(1, sizeof *e->names);
	if (e->names != NULL)
		e->names->count = 1;
	return e->names != NULL;
}

void
names_fini(struct spool_end *e)
{
	if (e->names == NULL)
		return;
	for (uint32_t i = 1; i < e->names->count; i++)
		free(e->names->all[i]);
	free(e->names->all);
	free(e->names->next_free);
	free(e->names);
}

static struct span
text_of(const struct spool_name *n)
{
	return span_of(n->text, n->size);
}

static uint16_t *
bucket_of(struct spool_names *n, struct span text)
{
	return &n->buckets[span_hash_nocase(text, 0) % BUCKETS];
}

uint16_t
name_find(const struct spool_end *e, struct span text)
{
	uint16_t i = text.size == 0 ? 0 : *bucket_of(e->names, text);

	while (i != 0 && !span_eq_nocase(text_of(e->names->all[i]), text))
		i = e->names->all[i]->next;
	return i;
}

static bool
grow(struct spool_names *n)
{
	uint32_t capacity = n->capacity + GROW;
	struct spool_name **all = realloc(n->all, capacity * sizeof *all);

	if (all == NULL)
		return false;
	n->all = all;
	uint16_t *next_free = realloc(n->next_free, capacity * sizeof *next_free);
	if (next_free == NULL)
		return false;
	n->next_free = next_free;
	n->capacity = capacity;
	return true;
}

/* A number that no name has; 0: none. */
static uint16_t
take_number(struct spool_names *n)
{
	uint16_t number = n->free;

	if (number != 0) {
		n->free = n->next_free[number];
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
	n->next_free[number] = n->free;
	n->free = number;
}

uint16_t
name_get(struct spool_end *e, struct span text)
{
	struct spool_names *n = e->names;
	uint16_t number = text.size > NAME_MOST ? 0 : name_find(e, text);

	if (number != 0) {
		n->all[number]->references++;
		return number;
	}
	if (text.size == 0 || text.size > NAME_MOST ||
	    n->used >= NAMES_LEAST + e->mail_count / MAILS_OF_A_NAME)
		return 0;
	number = take_number(n);
	if (number == 0)
		return 0;
	struct spool_name *new = malloc(sizeof *new + text.size);
	if (new == NULL) {
		give_number(n, number);
		return 0;
	}
	uint16_t *bucket = bucket_of(n, text);
	*new = (struct spool_name){ .references = 1, .next = *bucket, .size = (uint8_t)text.size };
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
	uint16_t *at = bucket_of(n, text_of(name));
	while (*at != number)
		at = &n->all[*at]->next;
	*at = name->next;
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
