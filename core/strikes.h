/* SPDX-License-Identifier: Apache-2.0
 *
 * strikes: failures by key that must be known to all workers: of logins, by client address and by
 * user. Beside core/limits.h the second fixed table of atomics by hash of a key; no lock, no
 * allocation after strikes_new, any thread.
 *
 * A key that failed so often, each time within the window of the last, is locked for a time, and
 * then begins anew. A bucket has 16 slots of one word each (tag of the key, count, a time in
 * seconds). In a bucket full of live keys a newcomer takes the place of the one that would be
 * forgotten first, rather one that is not locked: who floods the table shortens memories, but
 * cannot lock out others. Two keys of one tag (24 bits) share a count. Two threads that meet a key
 * for the first time at the same instant may count in two slots; then it takes one failure more.
 *
 * Notes are kept in a table of the same size: keys of which only is known that they were seen.
 * Keys are hashes with a secret seed, so nobody can aim for a bucket. now_ms: clock_monotonic_ms().
 */
#ifndef CORE_STRIKES_H
#define CORE_STRIKES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strikes;

enum { STRIKES_MAX = 1000 };

struct strikes_rule {
	uint32_t most; /* 1 to STRIKES_MAX; at it the key is locked */
	uint64_t window_ms;
	uint64_t lock_ms;
};

struct strike {
	uint32_t count; /* with this one; 0 where nothing is known */
	bool locked;
	bool began;        /* locked by this one */
	uint64_t until_ms; /* when that is over, or forgotten */
};

/* 16 bytes a slot. NULL: no memory. */
struct strikes *strikes_new(size_t slots);
void strikes_free(struct strikes *s);

struct strike strikes_look(const struct strikes *s, uint64_t key, uint64_t now_ms);
/* One failure more. One that is locked stays locked as long as it is. */
struct strike strikes_add(struct strikes *s, uint64_t key, const struct strikes_rule *rule,
			  uint64_t now_ms);
/* Others have counted so much: what is known here is brought up to that, never below. */
void strikes_raise(struct strikes *s, uint64_t key, const struct strike *to, uint64_t now_ms);
/* Nothing is known of it any more. True: it was locked. */
bool strikes_clear(struct strikes *s, uint64_t key, uint64_t now_ms);

/* Keeps the key in mind for so long. True: it was in mind already. */
bool strikes_note(struct strikes *s, uint64_t key, uint64_t for_ms, uint64_t now_ms);
bool strikes_is_noted(const struct strikes *s, uint64_t key, uint64_t now_ms);

#endif
