/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/terms.h"

#include "core/base/assert.h"
#include "tests/fault/sim.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

/* What is said in docs/options.md: the oracle does not ask the product for it. */
void
terms_choose_days(struct terms *t)
{
	*t = (struct terms){
		.pauses_ms = { 1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 1 * HOUR, 2 * HOUR,
			       4 * HOUR },
		.pause_count = 7,
		.jitter = 15,
		.lifetime_ms = 5 * (uint64_t)DAY,
		.delay_ms = sim_chance(700) ? 4 * HOUR : sim_between(10, 40 * 60) * MINUTE,
		.host_pause_ms = MINUTE,
		.slack_ms = HOUR,
		.grace_ms = 20 * MINUTE,
		.expires = true,
	};
}

void
terms_choose(struct terms *t)
{
	bool is_short = sim_chance(350);

	*t = (struct terms){
		.pauses_ms = { 10 * SECOND, 30 * SECOND },
		.pause_count = 2,
		.jitter = (unsigned)sim_below(51),
		.lifetime_ms = is_short ? sim_between(60, 240) * SECOND : 10 * (uint64_t)DAY,
		.delay_ms = sim_below(60) * SECOND,
		.host_pause_ms = 5 * SECOND,
		.slack_ms = HOUR,
		.grace_ms = 20 * MINUTE,
		.expires = is_short,
	};
}

/* A half to twice of it, in whole seconds. */
static uint64_t
about(uint64_t ms)
{
	return ms * sim_between(50, 200) / 100 / SECOND * SECOND;
}

void
terms_vary(struct terms *t)
{
	if (!t->expires || !sim_chance(250))
		return;
	if (sim_chance(500))
		t->lifetime_ms = about(t->lifetime_ms);
	if (t->lifetime_ms < MINUTE)
		t->lifetime_ms = MINUTE;
	if (sim_chance(500))
		t->delay_ms = about(t->delay_ms);
	t->jitter = sim_chance(300) ? 0 : t->jitter;
}

void
terms_write(const struct terms *t, struct buf *out)
{
	buf_append_string(out, "retry: { schedule: [");
	for (unsigned i = 0; i < t->pause_count; i++)
		buf_printf(out, "%s%llus", i > 0 ? ", " : "",
			   (unsigned long long)t->pauses_ms[i] / SECOND);
	buf_printf(out, "], jitter: %u, lifetime: %llus, host_pause: %llus }\n", t->jitter,
		   (unsigned long long)t->lifetime_ms / SECOND,
		   (unsigned long long)t->host_pause_ms / SECOND);
	ASSERT(!out->overflow);
}

static uint64_t
pause_of(const struct terms *t, unsigned attempts)
{
	ASSERT(attempts > 0 && t->pause_count > 0);
	return t->pauses_ms[attempts < t->pause_count ? attempts - 1 : t->pause_count - 1];
}

uint64_t
terms_earliest_ms(const struct terms *t, unsigned attempts, uint64_t now_ms)
{
	uint64_t pause_ms = pause_of(t, attempts);

	return now_ms + pause_ms - pause_ms * t->jitter / 100;
}

uint64_t
terms_latest_ms(const struct terms *t, unsigned attempts, uint64_t now_ms)
{
	uint64_t pause_ms = pause_of(t, attempts);

	return now_ms + pause_ms + pause_ms * t->jitter / 100;
}
