/* SPDX-License-Identifier: Apache-2.0
 *
 * limits: counts and rates by key that must hold across workers: connections and connection rate a
 * client address (later: a user's mails an hour). The one sanctioned sharing besides mailboxes.
 *
 * Two fixed tables of atomics by hash of the key, one for counts, one for rates; no lock, no
 * allocation after limits_new, any thread. A bucket has 16 slots; a slot is one word with a tag of
 * the key (48 bits; 24 for rates), so that it changes hands in one exchange. In a bucket full of
 * live keys a newcomer gets no count, and shares the rate of the slot that is free soonest: both
 * err on the strict side, as do two keys of one tag. With four slots a live key that happens to
 * less than one newcomer in 10^5.
 *
 * A count returns to zero by limits_give. A rate is a GCRA "theoretical arrival time" in ms, and
 * its slot is free again when that time has passed; intervals are rounded up to whole ms. Two
 * threads that meet a rate's key for the first time at the same instant may book it in two slots:
 * then it is twice as lenient until the first of them is free again. Keys are hashes
 * (net_address_hash_ip with a secret seed), so nobody can aim for a bucket.
 */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct limits;

enum { LIMITS_COUNT_MAX = UINT16_MAX };

/* 16 bytes a slot. NULL: no memory. */
struct limits *limits_new(size_t slots);
void limits_free(struct limits *l);

/* Takes one of `most` (up to LIMITS_COUNT_MAX) for the key; false where all are taken. Every true
 * is owed a limits_give. */
bool limits_take(struct limits *l, uint64_t key, uint32_t most);
void limits_give(struct limits *l, uint64_t key);
/* How many are taken now. */
uint32_t limits_taken(const struct limits *l, uint64_t key);
/* May one more happen, at `per_minute` with bursts of `burst` (both above 0)? True books it.
 * now_ms: clock_monotonic_ms(). */
bool limits_rate(struct limits *l, uint64_t key, uint32_t per_minute, uint32_t burst,
		 uint64_t now_ms);

#endif
