/* SPDX-License-Identifier: Apache-2.0
 *
 * core/base/clock.h over the world's virtual clock and generator.
 */
#include "core/base/clock.h"

#include "tests/fault/sim.h"

/* Looking takes time where the run says so: code that works until its slice is over then ends in
 * the middle of its work now and then. */
static uint64_t
look(void)
{
	return world->now_us += world->faults.clock_step_us;
}

uint64_t
clock_monotonic_us(void)
{
	return look();
}

uint64_t
clock_monotonic_ms(void)
{
	return look() / 1000;
}

uint64_t
clock_wall_ms(void)
{
	return world->wall_ms + look() / 1000;
}

uint64_t
random_u64(void)
{
	return sim_random();
}
