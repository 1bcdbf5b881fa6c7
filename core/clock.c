/* SPDX-License-Identifier: Apache-2.0
 *
 * The real clock and generator. Not part of the layer `base`: the simulation replaces this file.
 */
#include "core/base/clock.h"

#include <sys/random.h>
#include <time.h>

#include "core/base/assert.h"

static uint64_t
read_us(clockid_t which)
{
	struct timespec t;

	int failed = clock_gettime(which, &t);
	ASSERT(failed == 0);
	return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_nsec / 1000U;
}

uint64_t
clock_monotonic_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

uint64_t
clock_monotonic_ms(void)
{
	return clock_monotonic_us() / 1000U;
}

uint64_t
clock_wall_ms(void)
{
	return read_us(CLOCK_REALTIME) / 1000U;
}

uint64_t
random_u64(void)
{
	/* One system call serves 32 numbers; each thread has its own store. */
	static _Thread_local uint64_t store[32];
	static _Thread_local unsigned left;

	if (left == 0) {
		/* Up to 256 bytes the kernel neither blocks after boot nor returns less. */
		ssize_t got = getrandom(store, sizeof store, 0);
		ASSERT(got == (ssize_t)sizeof store);
		left = sizeof store / sizeof store[0];
	}
	return store[--left];
}
