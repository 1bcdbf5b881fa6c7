/* SPDX-License-Identifier: Apache-2.0
 *
 * meter: what a tree of processes has used, from /proc: a relay may be one process or many.
 *
 * CPU and bytes written of processes that ended are included once their parent has waited for them
 * (the kernel adds them to the parent's); context switches are those of living threads only. PSS
 * shares pages among those that map them, so the sum over the tree is what the tree costs. Main
 * thread.
 */
#ifndef BENCH_METER_H
#define BENCH_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { METER_NAMES_MAX = 32, METER_NAME_SIZE = 32 };

struct meter_process {
	char name[METER_NAME_SIZE]; /* as in /proc/PID/comm, cut */
	unsigned count;
	uint64_t user_us, system_us;
};

struct meter {
	unsigned processes; /* 0: the root is gone */
	uint64_t user_us, system_us;
	uint64_t context_switches;
	uint64_t bytes_written; /* handed to the disk */
	uint64_t pss_bytes;     /* only with with_pss */
	unsigned name_count;
	/* Processes of one name as one; where there are more names, the last row is "others". */
	struct meter_process names[METER_NAMES_MAX];
};

/* Reading PSS costs the kernel a walk over the page tables: not for every look. False: no such
 * process. */
bool meter_read(pid_t root, bool with_pss, struct meter *out);

#endif
