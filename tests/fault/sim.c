/* SPDX-License-Identifier: Apache-2.0
 *
 * The world's memory, generator and incarnations.
 */
#include "tests/fault/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "tests/fault/sim_files.h"
#include "tests/fault/sim_machine.h"
#include "tests/fault/sim_net.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

enum {
	WAITING_FACTOR = 20, /* of a life's limit, for what does not compute at all */
	EXIT_CRASHED = 41,
	EXIT_FAILED = 42,
	CLASSES = 13, /* of memory that comes back: 1 .. 4096 bytes, by powers of two */
};

static const size_t world_size = (size_t)3 << 30; /* reserved; pages come as they are touched */

struct heap {
	size_t used;
	void *free[CLASSES]; /* chains through the first word */
};

struct world *world;
static struct heap *heap;

void
sim_map(void)
{
	if (heap != NULL)
		return;
	void *memory = mmap(NULL, world_size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(memory != MAP_FAILED);
	heap = memory;
}

static unsigned
class_of(size_t size)
{
	unsigned class = 4; /* nothing smaller than 16 bytes */

	while (((size_t)1 << class) < size)
		class ++;
	return class;
}

void *
sim_allocate(size_t size)
{
	if (size <= SIM_PAGE) {
		unsigned class = class_of(size);
		void *again = heap->free[class];
		size = (size_t)1 << class;
		if (again != NULL) {
			memcpy(&heap->free[class], again, sizeof(void *));
			return memset(again, 0, size);
		}
	}
	size = (size + 63) & ~(size_t)63;
	if (heap->used + size > world_size)
		sim_fail("the simulated world is out of memory");
	void *fresh = (uint8_t *)heap + heap->used;
	heap->used += size;
	return memset(fresh, 0, size);
}

void
sim_release(void *memory, size_t size)
{
	if (memory == NULL || size > SIM_PAGE)
		return;
	unsigned class = class_of(size);
	memcpy(memory, &heap->free[class], sizeof(void *));
	heap->free[class] = memory;
}

static uint64_t
rotate(uint64_t x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

/* splitmix64: equidistributed, one word of state, any seed is a good one. */
static uint64_t
mix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void
sim_reset(uint64_t seed)
{
	sim_map();
	heap->used = (sizeof *heap + 63) & ~(size_t)63;
	memset(heap->free, 0, sizeof heap->free);

	world = sim_allocate(sizeof *world);
	world->seed = seed;
	world->random = mix(&seed);
	world->now_us = 1000000;
	world->wall_ms = 1800000000000u;
	world->files = sim_files_new(UINT64_MAX / SIM_PAGE);
	world->net = sim_net_new();
}

uint64_t
sim_random(void)
{
	return mix(&world->random);
}

uint64_t
sim_below(uint64_t below)
{
	ASSERT(below > 0);
	return sim_random() % below;
}

uint64_t
sim_between(uint64_t least, uint64_t most)
{
	ASSERT(least <= most);
	return least + sim_below(most - least + 1);
}

bool
sim_chance(unsigned per_mille)
{
	return per_mille != 0 && sim_below(1000) < per_mille;
}

void
sim_fill(uint64_t key, uint8_t *out, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = mix(&key);
		memcpy(out + i, &word, size - i < 8 ? size - i : 8);
	}
}

uint64_t
sim_hash(uint64_t seed, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint64_t h = seed ^ (size * 0x9e3779b97f4a7c15u);
	uint64_t word;

	for (; size >= 8; size -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		h = rotate((h ^ word) * 0xff51afd7ed558ccdu, 29);
	}
	word = 0;
	memcpy(&word, bytes, size);
	h = (h ^ word) * 0xc4ceb9fe1a85ec53u;
	return h ^ (h >> 33);
}

void
sim_note(const char *what, uint64_t a, uint64_t b)
{
	uint64_t values[4] = { world->trace, world->now_us, a, b };

	world->trace = sim_hash(sim_hash(0, what, strlen(what)), values, sizeof values);
	if (world->verbose)
		fprintf(stderr, "%10llu.%06llu #%llu %s %llu %llu\n",
			(unsigned long long)(world->now_us / 1000000),
			(unsigned long long)(world->now_us % 1000000),
			(unsigned long long)world->completions, what, (unsigned long long)a,
			(unsigned long long)b);
}

void
sim_completed(void)
{
	if (++world->completions == world->crash_at)
		sim_crash();
}

void
sim_crash(void)
{
	sim_note("crash", world->completions, 0);
	/* First what was on its way to the disk, then what the disk keeps of it. */
	sim_ring_crash();
	sim_files_crash(world->files);
	sim_net_crash(world->net);
	fflush(NULL);
	_exit(EXIT_CRASHED);
}

void
sim_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(world->failure, sizeof world->failure, format, arguments);
	va_end(arguments);
	if (world->verbose)
		fprintf(stderr, "failed: %s\n", world->failure);
	fflush(NULL);
	_exit(EXIT_FAILED);
}

enum sim_end
sim_run(void (*body)(void *context), void *context, unsigned seconds)
{
	int status;

	fflush(NULL);
	pid_t child = fork();
	ASSERT(child >= 0);
	if (child == 0) {
		/* By the time it computes: others on this machine must not make it look hung. */
		struct itimerval most = { .it_value.tv_sec = (time_t)seconds };
		setitimer(ITIMER_PROF, &most, NULL);
		alarm(seconds * WAITING_FACTOR);
		body(context);
		fflush(NULL);
		_exit(0);
	}
	pid_t ended = waitpid(child, &status, 0);
	ASSERT(ended == child);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGPROF || WTERMSIG(status) == SIGALRM ? SIM_HUNG
										  : SIM_DIED;
	switch (WEXITSTATUS(status)) {
	case 0:
		return SIM_FINISHED;
	case EXIT_CRASHED:
		return SIM_CRASHED;
	case EXIT_FAILED:
		return SIM_FAILED;
	default:
		return SIM_DIED;
	}
}

uint64_t
sim_next_us(void)
{
	uint64_t disk = sim_ring_next_us();
	uint64_t net = sim_net_next_us(world->net);

	return disk < net ? disk : net;
}

bool
sim_step(uint64_t until_us)
{
	uint64_t disk = sim_ring_next_us();
	uint64_t net = sim_net_next_us(world->net);
	uint64_t next = disk < net ? disk : net;

	if (next > until_us)
		return false;
	sim_advance(next);
	if (disk <= net)
		sim_ring_step();
	else
		sim_net_step(world->net);
	return true;
}

void
sim_advance(uint64_t to_us)
{
	if (to_us > world->now_us)
		world->now_us = to_us;
}

void
sim_check_nothing_left(void)
{
	sim_ring_check_empty();
	sim_handles_check_closed();
}

void
sim_check_no_leaks(void)
{
#if defined(__SANITIZE_ADDRESS__)
	if (__lsan_do_recoverable_leak_check() != 0)
		sim_fail("memory was leaked");
#endif
}
