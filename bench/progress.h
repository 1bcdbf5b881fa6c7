/* SPDX-License-Identifier: Apache-2.0
 *
 * progress: how a run goes, while it goes: one line that renews itself on a terminal, a line now
 * and then elsewhere. To standard error, so that the summary can be piped. Main thread.
 */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/result.h"

struct progress {
	const char *what; /* "before", "run", "after", "sink" */
	bool terminal;
	uint64_t lines; /* samples since the last line, where it is no terminal */
	bool shown;     /* a line stands on the terminal */
};

void progress_init(struct progress *p, const char *what);
/* done: 0 to 1, or below 0 where it is not known. */
void progress_show(struct progress *p, const struct result_sample *s, double done);
/* Leaves the terminal with an empty line. */
void progress_end(struct progress *p);

#endif
