/* SPDX-License-Identifier: Apache-2.0
 *
 * limits: counts and rates by key that must hold across workers: connections and connection rate a
 * client address (later: a user's mails an hour). The one sanctioned sharing besides mailboxes.
 *
 * A fixed table of atomics by hash of the key; no lock, no allocation after limits_new. Two keys
 * may fall on the same slot (64-bit tag compare, open addressing within a bucket of 8): when a
 * bucket is full of live keys, the newcomer shares its least loaded slot, which errs on the strict
 * side. Counts return to zero by limits_give; a rate is a GCRA "theoretical arrival time" in ms.
 * Keys are hashes (net_address_hash_ip with a secret seed), so nobody can aim for a bucket.
 */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct limits;

struct limits *limits_new(size_t slots);
void limits_free(struct limits *l);

/* Takes one of `most` for the key; false where all are taken. Every true is owed a limits_give. */
bool limits_take(struct limits *l, uint64_t key, uint32_t most);
void limits_give(struct limits *l, uint64_t key);
/* How many are taken now. */
uint32_t limits_taken(const struct limits *l, uint64_t key);
/* May one more happen, at `per_minute` with bursts of `burst`? True books it. */
bool limits_rate(struct limits *l, uint64_t key, uint32_t per_minute, uint32_t burst,
		 uint64_t now_ms);

#endif
