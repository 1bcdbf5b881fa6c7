/* SPDX-License-Identifier: Apache-2.0
 *
 * ringpost-bench: loads mail relays. See bench/README.md.
 */
#include <stdio.h>

#include "bench/options.h"
#include "bench/report.h"
#include "bench/session.h"

static int
write_report(const struct bench_options *o)
{
	uint8_t memory[1024];
	struct buf why = buf_of(memory, sizeof memory);

	if (report_write(o->out, (const char *const *)o->rest, o->rest_count, &why))
		return 0;
	fprintf(stderr, "ringpost-bench: %.*s\n", SPAN_ARG(buf_span(&why)));
	return 1;
}

int
main(int argc, char **argv)
{
	struct bench_options options;
	int status = options_parse(&options, argc, argv);

	if (status >= 0)
		return status;
	return options.command == BENCH_REPORT ? write_report(&options) : session_command(&options);
}
