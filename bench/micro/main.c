/* SPDX-License-Identifier: Apache-2.0
 *
 * ringpost-micro: measures the rows of rows.c whose name holds one of the filters, or all.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/micro/material.h"
#include "bench/micro/rows.h"
#include "bench/micro/show.h"
#include "core/base/assert.h"

enum { EXIT_USAGE = 64, ROUND_MS_MAX = 10000 };

struct arguments {
	struct micro_options options;
	const char *json; /* NULL: none */
	char **filters;
	int filter_count;
};

static _Noreturn void
usage(FILE *to, int status)
{
	fprintf(to,
		"usage: ringpost-micro [--json FILE] [--rounds N] [--round-ms N] [FILTER...]\n"
		"\n"
		"Measures one operation of each row whose name holds one of the FILTERs, or of\n"
		"all: nanoseconds of processor time (median and least of N rounds, 7 unless told,\n"
		"of at least N milliseconds, 50 unless told), bytes that go in or come out,\n"
		"their rate, and bytes of the machine's state.\n");
	exit(status);
}

/* A number from 1 to most, or the end. */
static unsigned
read_number(const char *text, unsigned most)
{
	uint64_t number = 0;

	if (!span_to_u64(span_of_string(text), &number) || number == 0 || number > most) {
		fprintf(stderr, "ringpost-micro: %s is no number from 1 to %u\n", text, most);
		exit(EXIT_USAGE);
	}
	return (unsigned)number;
}

static void
read_arguments(int argc, char **argv, struct arguments *out)
{
	static const struct option longs[] = {
		{ "json", required_argument, NULL, 'j' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "round-ms", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	*out = (struct arguments){ .options = { .rounds = 7, .round_ms = 50 } };
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (option) {
		case 'j':
			out->json = optarg;
			break;
		case 'r':
			out->options.rounds = read_number(optarg, MICRO_ROUNDS_MAX);
			break;
		case 'm':
			out->options.round_ms = read_number(optarg, ROUND_MS_MAX);
			break;
		case 'h':
			usage(stdout, EXIT_SUCCESS);
		default:
			usage(stderr, EXIT_USAGE);
		}
	}
	out->filters = argv + optind;
	out->filter_count = argc - optind;
}

static bool
is_wanted(const struct arguments *a, const struct micro_row *row)
{
	bool wanted = a->filter_count == 0;

	for (int i = 0; i < a->filter_count && !wanted; i++)
		wanted = strstr(row->name, a->filters[i]) != NULL;
	return wanted;
}

int
main(int argc, char **argv)
{
	struct arguments arguments;
	size_t count = 0;

	read_arguments(argc, argv, &arguments);
	struct micro_result *results = calloc(micro_row_count, sizeof *results);
	ASSERT(results != NULL);
	material_make();
	show_head();
	for (size_t i = 0; i < micro_row_count; i++) {
		if (!is_wanted(&arguments, &micro_rows[i]))
			continue;
		micro_measure(&micro_rows[i], &arguments.options, &results[count]);
		show_row(&results[count++]);
	}
	int status = EXIT_SUCCESS;
	if (count == 0) {
		fprintf(stderr, "ringpost-micro: no row's name holds such a text\n");
		status = EXIT_USAGE;
	} else if (arguments.json != NULL &&
		   !show_json(arguments.json, &arguments.options, results, count)) {
		fprintf(stderr, "ringpost-micro: cannot write %s: %s\n", arguments.json,
			strerror(errno));
		status = EXIT_FAILURE;
	}
	free(results);
	return status;
}
