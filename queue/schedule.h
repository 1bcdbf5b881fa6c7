/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule: when a recipient whose attempt failed for a time is tried again. Pure.
 *
 * A list of pauses, one for each attempt that has failed, of which the last is repeated; each is
 * moved by up to jitter_percent either way, so that what failed together does not come back
 * together. The caller brings the random number. There is no state but the count of attempts,
 * which is stored with the recipient, so a restart changes nothing.
 */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct schedule {
	const uint64_t *pauses_ms; /* at least one */
	size_t pause_count;
	unsigned jitter_percent; /* 0 .. 100 */
	uint64_t lifetime_ms;    /* from acceptance; 0: for ever */
};

/* When to try again after `attempts` failures (1 or more), the last of them at now_ms. Never
 * before now_ms. */
uint64_t schedule_next_ms(const struct schedule *s, unsigned attempts, uint64_t now_ms,
			  uint64_t random);
/* The earlier of this time and the moment, where that is still to come: what is to happen at a
 * moment is done by an attempt, and the next one would come after it. */
uint64_t schedule_no_later_than(uint64_t next_ms, uint64_t now_ms, uint64_t moment_ms);
/* Has the mail been tried for long enough? Then a further failure is final. */
bool schedule_is_over(const struct schedule *s, uint64_t accepted_at_ms, uint64_t now_ms);
/* From when on it has; UINT64_MAX: never. */
uint64_t schedule_ends_ms(const struct schedule *s, uint64_t accepted_at_ms);

#endif
