/* SPDX-License-Identifier: Apache-2.0 */
#include "core/metric.h"

#include <dirent.h>
#include <poll.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define PREFIX "ringpost_"

enum metric_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM };
enum metric_merge { MERGE_SUM, MERGE_MAX };
enum metric_unit { UNIT_ONE, UNIT_SECONDS };

struct label_set {
	const char *label;
	const char *const *values;
};

/* A set that is taken from another table may be empty while that table is, hence the NULL. */
/* clang-format off */
#define LABELS(set, label)         static const char *const values_##set[] = {
#define LABEL(set, name, value)            value,
#define LABELS_END(set)            NULL };
#include "core/tables/labels.def"
#undef LABELS
#undef LABEL
#undef LABELS_END
#define LABELS(set, label)         static const struct label_set set_##set = \
						{ label, values_##set };
#define LABEL(set, name, value)
#define LABELS_END(set)
#include "core/tables/labels.def"
#undef LABELS
#undef LABEL
#undef LABELS_END
/* clang-format on */

static const struct metric_row {
	const char *name;
	const char *help;
	enum metric_type type;
	enum metric_merge merge;
	enum metric_unit unit; /* of a histogram */
	unsigned slot;
	unsigned count; /* labels, or bounds of a histogram */
	unsigned first_bit;
	unsigned steps;
	const struct label_set *labels;
} rows[] = {
#define SCALE_LATENCY_UNIT UNIT_SECONDS
#define SCALE_DELAY_UNIT   UNIT_SECONDS
#define SCALE_COUNT_UNIT   UNIT_ONE
#define SCALE_BYTES_UNIT   UNIT_ONE
#define COUNTER(name_, text, set, help_)    \
	{ .name = PREFIX text,              \
	  .help = help_,                    \
	  .type = TYPE_COUNTER,             \
	  .slot = METRIC_##name_,           \
	  .count = METRIC_##name_##_LABELS, \
	  .labels = &set_##set },
#define GAUGE(name_, text, set, merge_, help_) \
	{ .name = PREFIX text,                 \
	  .help = help_,                       \
	  .type = TYPE_GAUGE,                  \
	  .merge = MERGE_##merge_,             \
	  .slot = METRIC_##name_,              \
	  .count = METRIC_##name_##_LABELS,    \
	  .labels = &set_##set },
#define HISTOGRAM(name_, text, scale, help_)       \
	{ .name = PREFIX text,                     \
	  .help = help_,                           \
	  .type = TYPE_HISTOGRAM,                  \
	  .unit = SCALE_##scale##_UNIT,            \
	  .slot = METRIC_##name_,                  \
	  .count = METRIC_##name_##_BOUNDS,        \
	  .first_bit = METRIC_##name_##_FIRST_BIT, \
	  .steps = METRIC_##name_##_STEPS },
#include "core/tables/counters.def"
};

static const char *const type_names[] = { "counter", "gauge", "histogram" };

struct sources {
	const struct metrics *const *blocks;
	size_t count;
};

static uint64_t
merge(const struct sources *s, unsigned slot, enum metric_merge how)
{
	uint64_t value = 0;

	for (size_t i = 0; i < s->count; i++) {
		uint64_t one = metric_get_slot(s->blocks[i], slot);
		if (how == MERGE_SUM)
			value += one;
		else if (one > value)
			value = one;
	}
	return value;
}

/* Bound number `index` of a histogram: 2^k, or 1.5 * 2^k between two of them. */
static uint64_t
bound_of(const struct metric_row *row, unsigned index)
{
	uint64_t octave = (uint64_t)1 << (row->first_bit + index / row->steps);

	return index % row->steps == 0 ? octave : octave + octave / 2;
}

/* Microseconds as seconds, exact and without trailing zeros; other units as they are. */
static void
show_quantity(const struct metric_row *row, uint64_t value, struct buf *out)
{
	uint64_t fraction = value % 1000000;
	int digits = 6;

	if (row->unit == UNIT_ONE) {
		buf_printf(out, "%" PRIu64, value);
		return;
	}
	buf_printf(out, "%" PRIu64, value / 1000000);
	if (fraction == 0)
		return;
	for (; fraction % 10 == 0; digits--)
		fraction /= 10;
	buf_printf(out, ".%0*" PRIu64, digits, fraction);
}

static void
render_histogram(const struct metric_row *row, const struct sources *s, struct buf *out)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i <= row->count; i++) {
		sum += merge(s, row->slot + i, MERGE_SUM);
		buf_printf(out, "%s_bucket{le=\"", row->name);
		if (i == row->count)
			buf_append_string(out, "+Inf");
		else
			show_quantity(row, bound_of(row, i), out);
		buf_printf(out, "\"} %" PRIu64 "\n", sum);
	}
	buf_printf(out, "%s_sum ", row->name);
	show_quantity(row, merge(s, row->slot + row->count + 1, MERGE_SUM), out);
	buf_printf(out, "\n%s_count %" PRIu64 "\n", row->name, sum);
}

static void
render_values(const struct metric_row *row, const struct sources *s, struct buf *out)
{
	for (unsigned i = 0; i < row->count; i++) {
		buf_append_string(out, row->name);
		if (row->labels->label[0] != 0)
			buf_printf(out, "{%s=\"%s\"}", row->labels->label, row->labels->values[i]);
		buf_printf(out, " %" PRIu64 "\n", merge(s, row->slot + i, row->merge));
	}
}

bool
metric_render(const struct metrics *const *blocks, size_t count, struct buf *out)
{
	const struct sources sources = { blocks, count };

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct metric_row *row = &rows[i];
		buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name,
			   type_names[row->type]);
		if (row->type == TYPE_HISTOGRAM)
			render_histogram(row, &sources, out);
		else
			render_values(row, &sources, out);
	}
	return !out->overflow;
}

enum { PROBED_AT_ONCE = 256 };

/* By asking for each: what is not open is POLLNVAL. */
static bool
probe_descriptors(uint64_t *count)
{
	struct pollfd some[PROBED_AT_ONCE];
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return false;
	*count = 0;
	for (rlim_t first = 0; first < limit.rlim_cur; first += PROBED_AT_ONCE) {
		for (unsigned i = 0; i < PROBED_AT_ONCE; i++)
			some[i] = (struct pollfd){ .fd = (int)first + (int)i };
		if (poll(some, PROBED_AT_ONCE, 0) < 0)
			return false;
		for (unsigned i = 0; i < PROBED_AT_ONCE; i++)
			*count += (some[i].revents & POLLNVAL) == 0;
	}
	return true;
}

/* A process that may not be looked at (PR_SET_DUMPABLE) cannot read its own folder of /proc, unless
 * it is root's. */
static bool
count_descriptors(uint64_t *count)
{
	DIR *directory = opendir("/proc/self/fd");

	if (directory == NULL)
		return probe_descriptors(count);
	*count = 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		*count += entry->d_name[0] != '.';
	--*count; /* the directory's own */
	closedir(directory);
	return true;
}

void
metric_set_process(struct metrics *m)
{
	unsigned long long pages, descriptors_max;
	uint64_t descriptors;
	struct rlimit limit;
	FILE *file = fopen("/proc/self/statm", "re");
	long page_size = sysconf(_SC_PAGESIZE);

	if (file != NULL && page_size > 0 && fscanf(file, "%*u %llu", &pages) == 1)
		METRIC_SET(m, RESIDENT_MEMORY, pages * (uint64_t)page_size);
	if (file != NULL)
		fclose(file);
	if (count_descriptors(&descriptors))
		METRIC_SET(m, OPEN_DESCRIPTORS, descriptors);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		descriptors_max = limit.rlim_cur;
		METRIC_SET(m, MAX_DESCRIPTORS, descriptors_max);
	}
}

static void
doc_labels(const struct label_set *set, struct buf *out)
{
	buf_printf(out, "\nLabel `%s`:", set->label);
	for (size_t i = 0; set->values[i] != NULL; i++)
		buf_printf(out, "%s `%s`", i == 0 ? "" : ",", set->values[i]);
	buf_append_string(out, ".\n");
}

static void
doc_bounds(const struct metric_row *row, struct buf *out)
{
	buf_append_string(out, "\nBuckets from ");
	show_quantity(row, bound_of(row, 0), out);
	buf_append_string(out, " to ");
	show_quantity(row, bound_of(row, row->count - 1), out);
	buf_printf(out, "%s, %s.\n", row->unit == UNIT_SECONDS ? " seconds" : "",
		   row->steps == 1 ? "each twice the last" : "two for each doubling");
}

const char *
metric_slot_label(unsigned slot)
{
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct metric_row *row = &rows[i];
		if (row->type != TYPE_HISTOGRAM && slot >= row->slot &&
		    slot - row->slot < row->count)
			return row->labels->values[slot - row->slot];
	}
	return "";
}

bool
metric_doc(struct buf *out)
{
	buf_append_string(
		out, "# Metrics\n"
		     "\n"
		     "`/metrics` of the address in `metrics.address`, in the text format of\n"
		     "Prometheus. This page is printed by `ringpostd --doc metrics`. Every series\n"
		     "exists from the start; no label has values that depend on traffic. Counters\n"
		     "start at zero with the process.\n");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct metric_row *row = &rows[i];
		buf_printf(out, "\n## `%s`\n\n%s (%s)\n", row->name, row->help,
			   type_names[row->type]);
		if (row->type == TYPE_HISTOGRAM)
			doc_bounds(row, out);
		else if (row->labels->label[0] != 0)
			doc_labels(row->labels, out);
	}
	return !out->overflow;
}
