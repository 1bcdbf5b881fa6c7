/* SPDX-License-Identifier: Apache-2.0
 *
 * micro: measures what one operation of a pure machine, of core/base or of the record format costs.
 *
 * A row names a function and its input. The function prepares what it needs, does
 * run->operations operations between micro_go() and micro_stop(), and hands every result to
 * micro_use(), so that the compiler cannot leave the work out. It may stop and go on, to keep what
 * is not to be measured out of it. run->bytes says how long the input (or output) of one operation
 * is, for a rate; 0 where that means nothing.
 *
 * Time is that of the thread on the processor, so that other programs disturb as little as they
 * can. A round does as many operations as take round_ms at least; of several rounds the median
 * counts, and the least is shown beside it. One thread.
 */
#ifndef BENCH_MICRO_MICRO_H
#define BENCH_MICRO_MICRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"

enum { MICRO_ROUNDS_MAX = 99 };

struct micro_row;

struct micro_run {
	const struct micro_row *row;
	uint64_t operations;
	uint64_t bytes;
	/* The watch. */
	uint64_t elapsed_ns;
	uint64_t started_ns;
	bool going;
};

struct micro_row {
	const char *name;
	void (*measure)(struct micro_run *run);
	struct span text;  /* the input, as the function understands it */
	unsigned number;   /* likewise */
	size_t state_size; /* bytes of the machine; 0 where there is none */
};

struct micro_options {
	unsigned rounds; /* 1 to MICRO_ROUNDS_MAX */
	uint64_t round_ms;
};

struct micro_result {
	const struct micro_row *row;
	double ns; /* of one operation: the median of the rounds */
	double ns_least;
	uint64_t bytes;      /* of one operation */
	uint64_t operations; /* of the last round */
};

void micro_measure(const struct micro_row *row, const struct micro_options *options,
		   struct micro_result *out);
/* Bytes a second; 0 where an operation has no bytes. */
double micro_rate(const struct micro_result *r);

/* For the functions of the rows. */

void micro_go(struct micro_run *run);
void micro_stop(struct micro_run *run);

/* The compiler must believe that the object is read here, and that all memory is written. */
static inline void
micro_use(const void *object)
{
	__asm__ volatile("" : : "g"(object) : "memory");
}

#endif
