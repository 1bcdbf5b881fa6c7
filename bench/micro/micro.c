/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/micro/micro.h"

#include <stdlib.h>
#include <time.h>

#include "core/base/assert.h"

static uint64_t
thread_cpu_ns(void)
{
	struct timespec t;

	int failed = clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	ASSERT(failed == 0);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

void
micro_go(struct micro_run *run)
{
	ASSERT(!run->going);
	run->going = true;
	run->started_ns = thread_cpu_ns();
}

void
micro_stop(struct micro_run *run)
{
	uint64_t now_ns = thread_cpu_ns();

	ASSERT(run->going);
	run->going = false;
	run->elapsed_ns += now_ns - run->started_ns;
}

static struct micro_run
one_run(const struct micro_row *row, uint64_t operations)
{
	struct micro_run run = { .row = row, .operations = operations };

	row->measure(&run);
	ASSERT(!run.going);
	return run;
}

/* How many operations to try next, where `operations` took less than they should. */
static uint64_t
more_operations(const struct micro_run *run, uint64_t wanted_ns)
{
	/* Far below, what was measured is mostly the clock. */
	if (run->elapsed_ns < wanted_ns / 64)
		return run->operations * 16;
	return run->operations * wanted_ns / run->elapsed_ns + run->operations / 16 + 1;
}

static int
compare(const void *a, const void *b)
{
	const double *x = a;
	const double *y = b;

	return (*x > *y) - (*x < *y);
}

void
micro_measure(const struct micro_row *row, const struct micro_options *options,
	      struct micro_result *out)
{
	double ns[MICRO_ROUNDS_MAX];
	uint64_t wanted_ns = options->round_ms * 1000000U;
	uint64_t operations = 1;
	unsigned rounds = 0;

	ASSERT(options->rounds >= 1 && options->rounds <= MICRO_ROUNDS_MAX && wanted_ns > 0);
	*out = (struct micro_result){ .row = row };
	/* A round that was too short is not counted; the first ones only find out how many. */
	while (rounds < options->rounds) {
		struct micro_run run = one_run(row, operations);
		if (run.elapsed_ns < wanted_ns) {
			operations = more_operations(&run, wanted_ns);
			continue;
		}
		ns[rounds++] = (double)run.elapsed_ns / (double)operations;
		out->bytes = run.bytes;
		out->operations = operations;
	}
	qsort(ns, rounds, sizeof ns[0], compare);
	out->ns_least = ns[0];
	out->ns = rounds % 2 == 1 ? ns[rounds / 2] : (ns[rounds / 2 - 1] + ns[rounds / 2]) / 2;
}

double
micro_rate(const struct micro_result *r)
{
	return r->bytes == 0 ? 0 : (double)r->bytes * 1e9 / r->ns;
}
