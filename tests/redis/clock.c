/* SPDX-License-Identifier: Apache-2.0
 *
 * Loaded into a redis-server (LD_PRELOAD), it gives the server the wall clock that a test wants:
 * 64 bits of microseconds in a file that both have in memory. Redis takes TIME and expiries from
 * gettimeofday(); its own timers run by other clocks and go on.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static const volatile uint64_t *
clock_us(void)
{
	static const volatile uint64_t *us;

	if (us == NULL) {
		const char *path = getenv("RINGPOST_REDIS_CLOCK");
		int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
		void *memory = mmap(NULL, sizeof *us, PROT_READ, MAP_SHARED, fd, 0);
		if (memory == MAP_FAILED)
			abort();
		close(fd);
		us = memory;
	}
	return us;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	uint64_t us = *clock_us();

	(void)zone;
	now->tv_sec = (time_t)(us / 1000000);
	now->tv_usec = (suseconds_t)(us % 1000000);
	return 0;
}
