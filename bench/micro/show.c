/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/micro/show.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "core/base/assert.h"

void
show_head(void)
{
	printf("%-24s %10s %10s %10s %9s %7s\n", "row", "ns", "least", "bytes", "MB/s", "state");
}

/* Of whole numbers, of which 0 stands for none. */
static void
show_number(int width, double value)
{
	if (value > 0)
		printf(" %*.0f", width, value);
	else
		printf(" %*s", width, "-");
}

void
show_row(const struct micro_result *r)
{
	printf("%-24s %10.1f %10.1f", r->row->name, r->ns, r->ns_least);
	show_number(10, (double)r->bytes);
	show_number(9, micro_rate(r) / 1e6);
	show_number(7, (double)r->row->state_size);
	putchar('\n');
	fflush(stdout);
}

/* ---- JSON; what fails for want of memory shows as NULL at the end ---- */

static json_t *
json_of_result(const struct micro_result *r)
{
	json_t *o = json_pack("{s:s, s:f, s:f, s:I}", "name", r->row->name, "ns", r->ns, "ns_least",
			      r->ns_least, "operations", (json_int_t)r->operations);

	if (r->bytes > 0) {
		json_object_set_new(o, "bytes", json_integer((json_int_t)r->bytes));
		json_object_set_new(o, "bytes_per_s", json_real(micro_rate(r)));
	}
	if (r->row->state_size > 0)
		json_object_set_new(o, "state_bytes", json_integer((json_int_t)r->row->state_size));
	return o;
}

/* "model name" of the first processor. */
static void
read_cpu_name(char *name, size_t size)
{
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "r");

	snprintf(name, size, "unknown");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		const char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(name, size, "%s", colon + strspn(colon, ": "));
		break;
	}
	if (f != NULL)
		fclose(f);
}

static json_t *
json_of_machine(void)
{
	struct utsname names;
	char cpu[128];

	int failed = uname(&names);
	ASSERT(failed == 0);
	read_cpu_name(cpu, sizeof cpu);
	return json_pack("{s:s, s:s, s:s}", "kernel", names.release, "cpu", cpu, "compiler",
			 __VERSION__);
}

bool
show_json(const char *file, const struct micro_options *options, const struct micro_result *results,
	  size_t count)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(rows, json_of_result(&results[i]));
	json_t *all = json_pack("{s:i, s:o, s:{s:I, s:I}, s:o}", "ringpost_micro", 1, "machine",
				json_of_machine(), "options", "rounds", (json_int_t)options->rounds,
				"round_ms", (json_int_t)options->round_ms, "rows", rows);
	errno = ENOMEM;
	bool good = all != NULL && json_dump_file(all, file, JSON_INDENT(2)) == 0;
	json_decref(all);
	return good;
}
