/* SPDX-License-Identifier: Apache-2.0
 * The command line of `ringpost-bench report` around bench/report.h, for its test:
 *   report_tool report --out FILE RESULT.json... */
#include <stdio.h>
#include <string.h>

#include "bench/report.h"

int
main(int argc, char **argv)
{
	uint8_t memory[512];
	struct buf why = buf_of(memory, sizeof memory);

	if (argc < 5 || strcmp(argv[1], "report") != 0 || strcmp(argv[2], "--out") != 0) {
		fprintf(stderr, "usage: %s report --out FILE RESULT.json...\n", argv[0]);
		return 2;
	}
	if (!report_write(argv[3], (const char *const *)argv + 4, (size_t)argc - 4, &why)) {
		fprintf(stderr, "%.*s\n", (int)why.size, (const char *)why.data);
		return 1;
	}
	return 0;
}
