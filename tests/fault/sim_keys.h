/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_keys: the key space of a modelled Redis server in the world's memory, with the commands that
 * the Redis store and its functions use, and no others.
 *
 * A command comes as its words and answers in RESP2, appended to a text. What real Redis leaves
 * open is decided here: hashes and sets are in the order of their members, SPOP and SRANDMEMBER
 * draw from the world's generator. The time is what the owner sets. tests/redis holds a real server
 * and this one to the same rules.
 */
#ifndef TESTS_FAULT_SIM_KEYS_H
#define TESTS_FAULT_SIM_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/span.h"
#include "tests/fault/sim_text.h"

/* ---- the key space ---- */

struct keys;

struct keys_events {
	/* A command has changed something; in a form that changes the same anywhere. */
	void (*on_write)(void *context, const struct span *words, unsigned count);
	/* Returns how many have got it. */
	unsigned (*on_publish)(void *context, struct span channel, struct span message);
};

struct keys *keys_new(const struct keys_events *events, void *context);
void keys_clear(struct keys *k);
/* All of `from`, and nothing else. */
void keys_copy(struct keys *to, const struct keys *from);
/* Microseconds since 1970. */
void keys_set_time(struct keys *k, uint64_t now_us);
uint64_t keys_count(struct keys *k);

enum { KEYS_WRITES = 1, KEYS_NEEDS_MEMORY = 2 };
/* Is there such a command, and what does it do? Flags, or -1. */
int keys_flags(struct span name);
/* False: there is no such command, and an error is appended. */
bool keys_call(struct keys *k, const struct span *words, unsigned count, struct text *out);

#endif
