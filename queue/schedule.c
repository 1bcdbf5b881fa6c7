/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/schedule.h"

#include "core/base/assert.h"

uint64_t
schedule_next_ms(const struct schedule *s, unsigned attempts, uint64_t now_ms, uint64_t random)
{
	ASSERT(s->pause_count > 0);
	ASSERT(attempts > 0 && s->jitter_percent <= 100);
	size_t row = attempts - 1 < s->pause_count ? attempts - 1 : s->pause_count - 1;
	uint64_t pause_ms = s->pauses_ms[row];
	uint64_t spread_ms = pause_ms / 100 * s->jitter_percent;

	/* The remainder favours small numbers by less than a part in 2^30 for any real pause. */
	return now_ms + pause_ms - spread_ms + random % (2 * spread_ms + 1);
}

uint64_t
schedule_no_later_than(uint64_t next_ms, uint64_t now_ms, uint64_t moment_ms)
{
	return moment_ms > now_ms && moment_ms < next_ms ? moment_ms : next_ms;
}

uint64_t
schedule_ends_ms(const struct schedule *s, uint64_t accepted_at_ms)
{
	return s->lifetime_ms != 0 ? accepted_at_ms + s->lifetime_ms : UINT64_MAX;
}

bool
schedule_is_over(const struct schedule *s, uint64_t accepted_at_ms, uint64_t now_ms)
{
	/* A clock that was set back makes a mail younger, never older than it is. */
	return s->lifetime_ms != 0 && now_ms > accepted_at_ms &&
	       now_ms - accepted_at_ms >= s->lifetime_ms;
}
