/* SPDX-License-Identifier: Apache-2.0
 *
 * tally: counts by a text (a site, a state, an age), bounded. PURE, but for its memory.
 *
 * Each worker fills one, the control thread adds them up. Keys beyond TALLY_KEYS_MAX are counted
 * together, as others; a key is cut at TALLY_KEY_SIZE.
 */
#ifndef RELAY_CONTROL_TALLY_H
#define RELAY_CONTROL_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/span.h"

enum { TALLY_SLOTS = 8192, TALLY_KEYS_MAX = TALLY_SLOTS / 4 * 3, TALLY_KEY_SIZE = 256 };

struct tally_row {
	struct span key;
	uint64_t hash;
	uint64_t count; /* 0: the slot is free */
	uint64_t bytes;
	uint64_t oldest_at_ms;
};

struct tally {
	struct arena memory; /* of the keys */
	size_t keys;
	uint64_t count;
	uint64_t others;
	struct tally_row slots[TALLY_SLOTS];
};

struct tally *tally_new(void);
void tally_free(struct tally *t);
/* Adds `count` things of a key; the hash is not looked at. */
void tally_add(struct tally *t, const struct tally_row *row);
void tally_add_all(struct tally *t, const struct tally *more);
/* Sorts the rows to the front, the largest count first; nothing may be added any more. Returns how
 * many there are. */
size_t tally_sort(struct tally *t);

#endif
