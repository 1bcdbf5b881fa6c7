/* SPDX-License-Identifier: Apache-2.0
 *
 * windows: how often things of a key happened within the last period (an hour, a day), over all
 * workers: a user's mails. Like core/limits.h a fixed table of atomics by hash of a key; no lock,
 * no allocation after windows_new, any thread.
 *
 * Time is cut into windows of a sixth of the period, and a key has a count in each of the last
 * seven, which together are at least a period: in no period do more than `most` happen, wherever it
 * begins. What happened counts for up to a sixth longer than the period. (A rate of limits.h allows
 * twice as many: its burst, and what comes free meanwhile.)
 *
 * A bucket has 16 slots of one word each (tag of the key, window, count). In a bucket full of live
 * keys a newcomer takes the place of the oldest window, of those of the least count, which is
 * forgotten: a busy table is lenient. Two threads that meet a key for the first time in a window at
 * the same instant may both count where one place was left. Keys are hashes with a secret seed.
 */
#ifndef CORE_WINDOWS_H
#define CORE_WINDOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct windows;

enum { WINDOWS_COUNT_MAX = (1 << 22) - 1 };

/* 8 bytes a slot. NULL: no memory. */
struct windows *windows_new(size_t slots, uint64_t period_ms);
void windows_free(struct windows *w);

/* May one more happen, where `most` may within a period (a higher one than WINDOWS_COUNT_MAX is as
 * good as that)? True books it. now_ms: clock_monotonic_ms(). */
bool windows_take(struct windows *w, uint64_t key, uint32_t most, uint64_t now_ms);
/* What was taken at that time did not happen. */
void windows_give(struct windows *w, uint64_t key, uint64_t taken_ms);
/* How often it happened within the last period. */
uint32_t windows_count(const struct windows *w, uint64_t key, uint64_t now_ms);

#endif
