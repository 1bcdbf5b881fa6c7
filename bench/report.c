/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "bench/report.h"
#include "bench/report_page.h"
#include "core/base/assert.h"

enum { FORMAT_VERSION = 1, PATH_MAX_SIZE = 128 };

/* The commands, as bits: what one cannot know is not asked of it. */
enum {
	BY_RUN = 1 << 0,
	BY_SOURCE = 1 << 1,
	BY_SINK = 1 << 2,
	BY_ALL = BY_RUN | BY_SOURCE | BY_SINK,
	OPTIONAL = 0,
};

static const struct {
	const char *name;
	unsigned bit;
} commands[] = {
	{ "run", BY_RUN },
	{ "source", BY_SOURCE },
	{ "sink", BY_SINK },
};

enum kind {
	KIND_OBJECT,
	KIND_TEXTS, /* an object all of whose members are text */
	KIND_TEXT,
	KIND_COUNT,   /* a whole number, not negative */
	KIND_NUMBER,  /* not negative */
	KIND_BUCKETS, /* pairs of upper bound, rising, and count */
	KIND_TIMES,   /* the list of t_s, rising; all series are as long */
	KIND_SERIES,  /* numbers, or null where nothing was measured */
};

/* The members that the page reads, objects ahead of what is in them. A member of an object that is
 * left out is not asked for. */
static const struct member {
	const char *path;
	enum kind kind;
	unsigned needed_by;
} members[] = {
	{ "label", KIND_TEXT, BY_ALL },
	{ "scenario", KIND_TEXT, OPTIONAL },
	{ "started", KIND_TEXT, BY_ALL },
	{ "options", KIND_TEXTS, BY_ALL },
	{ "machine", KIND_OBJECT, BY_ALL },
	{ "machine.kernel", KIND_TEXT, BY_ALL },
	{ "machine.cpu", KIND_TEXT, OPTIONAL },
	{ "machine.cpus", KIND_COUNT, BY_ALL },
	{ "machine.memory_bytes", KIND_COUNT, BY_ALL },
	{ "totals", KIND_OBJECT, BY_ALL },
	{ "totals.mails_offered", KIND_COUNT, BY_RUN | BY_SOURCE },
	{ "totals.mails_accepted", KIND_COUNT, BY_RUN | BY_SOURCE },
	{ "totals.mails_refused", KIND_COUNT, BY_RUN | BY_SOURCE },
	{ "totals.mails_in_doubt", KIND_COUNT, BY_RUN | BY_SOURCE },
	{ "totals.recipients_accepted", KIND_COUNT, BY_RUN | BY_SOURCE },
	{ "totals.recipients_delivered", KIND_COUNT, BY_RUN },
	{ "totals.recipients_caught", KIND_COUNT, BY_SINK },
	{ "totals.lost", KIND_COUNT, BY_RUN },
	{ "totals.duplicated", KIND_COUNT, BY_RUN },
	{ "totals.unacknowledged_delivered", KIND_COUNT, BY_RUN },
	{ "totals.foreign", KIND_COUNT, OPTIONAL },
	{ "totals.mails_not_offered", KIND_COUNT, OPTIONAL },
	{ "totals.connection_errors", KIND_COUNT, OPTIONAL },
	{ "time", KIND_OBJECT, BY_RUN | BY_SOURCE },
	{ "time.total_s", KIND_NUMBER, BY_RUN | BY_SOURCE },
	{ "rate", KIND_OBJECT, BY_RUN | BY_SOURCE },
	{ "rate.accepted_per_s", KIND_NUMBER, BY_RUN | BY_SOURCE },
	{ "rate.delivered_per_s", KIND_NUMBER, BY_RUN },
	{ "rate.without_relay_before_per_s", KIND_NUMBER, OPTIONAL },
	{ "rate.without_relay_after_per_s", KIND_NUMBER, OPTIONAL },
	{ "rate.share_without_relay", KIND_NUMBER, OPTIONAL },
	{ "latency_us", KIND_OBJECT, BY_RUN | BY_SOURCE },
	{ "latency_us.accept", KIND_OBJECT, BY_RUN | BY_SOURCE },
	{ "latency_us.accept.count", KIND_COUNT, BY_ALL },
	{ "latency_us.accept.min", KIND_NUMBER, BY_ALL },
	{ "latency_us.accept.p50", KIND_NUMBER, BY_ALL },
	{ "latency_us.accept.p99", KIND_NUMBER, BY_ALL },
	{ "latency_us.accept.p999", KIND_NUMBER, BY_ALL },
	{ "latency_us.accept.max", KIND_NUMBER, BY_ALL },
	{ "latency_us.accept.buckets", KIND_BUCKETS, BY_ALL },
	{ "latency_us.end_to_end", KIND_OBJECT, BY_RUN },
	{ "latency_us.end_to_end.count", KIND_COUNT, BY_ALL },
	{ "latency_us.end_to_end.min", KIND_NUMBER, BY_ALL },
	{ "latency_us.end_to_end.p50", KIND_NUMBER, BY_ALL },
	{ "latency_us.end_to_end.p99", KIND_NUMBER, BY_ALL },
	{ "latency_us.end_to_end.p999", KIND_NUMBER, BY_ALL },
	{ "latency_us.end_to_end.max", KIND_NUMBER, BY_ALL },
	{ "latency_us.end_to_end.buckets", KIND_BUCKETS, BY_ALL },
	{ "relay", KIND_OBJECT, OPTIONAL },
	{ "relay.user_s", KIND_NUMBER, OPTIONAL },
	{ "relay.system_s", KIND_NUMBER, OPTIONAL },
	{ "relay.cpu_us_per_mail", KIND_NUMBER, OPTIONAL },
	{ "relay.pss_peak_bytes", KIND_COUNT, OPTIONAL },
	{ "relay.context_switches", KIND_COUNT, OPTIONAL },
	{ "relay.bytes_written", KIND_COUNT, OPTIONAL },
	{ "load", KIND_OBJECT, OPTIONAL },
	{ "load.source_cpu_s", KIND_NUMBER, OPTIONAL },
	{ "load.sink_cpu_s", KIND_NUMBER, OPTIONAL },
	{ "series", KIND_OBJECT, BY_ALL },
	{ "series.t_s", KIND_TIMES, BY_ALL },
	{ "series.delivered", KIND_SERIES, BY_RUN | BY_SINK },
	{ "series.queued", KIND_SERIES, BY_RUN },
	{ "series.errors", KIND_SERIES, OPTIONAL },
	{ "series.relay_cpu", KIND_SERIES, OPTIONAL },
	{ "series.relay_pss_bytes", KIND_SERIES, OPTIONAL },
};

/* Of relay.processes, which is a list, each. */
static const struct member process_members[] = {
	{ "name", KIND_TEXT, BY_ALL },
	{ "count", KIND_COUNT, BY_ALL },
	{ "user_s", KIND_NUMBER, BY_ALL },
	{ "system_s", KIND_NUMBER, BY_ALL },
};

/* One result under examination. */
struct check {
	const char *file;
	json_t *root;
	unsigned command;
	size_t length; /* of series.t_s */
	struct buf *why;
};

static bool
wrong(const struct check *c, const char *path, const char *what)
{
	buf_printf(c->why, "%s: %s %s", c->file, path, what);
	return false;
}

static bool
wrong_at(const struct check *c, const char *path, size_t index, const char *what)
{
	buf_printf(c->why, "%s: %s[%zu] %s", c->file, path, index, what);
	return false;
}

static bool
is_number(const json_t *value)
{
	return json_is_number(value) && json_number_value(value) >= 0;
}

static bool
check_texts(const struct check *c, const char *path, json_t *value)
{
	const char *name;
	json_t *text;

	if (!json_is_object(value))
		return wrong(c, path, "is no object");
	json_object_foreach(value, name, text)
	{
		if (json_is_string(text))
			continue;
		char member[PATH_MAX_SIZE];
		snprintf(member, sizeof member, "%s.%s", path, name);
		return wrong(c, member, "is no text");
	}
	return true;
}

static bool
check_buckets(const struct check *c, const char *path, const json_t *value)
{
	size_t i;
	json_t *pair;
	double last = -1;

	if (!json_is_array(value))
		return wrong(c, path, "is no list");
	json_array_foreach(value, i, pair)
	{
		if (json_array_size(pair) != 2 || !is_number(json_array_get(pair, 0)) ||
		    !is_number(json_array_get(pair, 1)))
			return wrong_at(c, path, i, "is no pair of upper bound and count");
		double bound = json_number_value(json_array_get(pair, 0));
		if (bound <= last)
			return wrong_at(c, path, i, "has a bound that is not above the one before");
		last = bound;
	}
	return true;
}

static bool
check_times(struct check *c, const char *path, const json_t *value)
{
	size_t i;
	json_t *t;
	double last = -1;

	if (!json_is_array(value))
		return wrong(c, path, "is no list");
	c->length = json_array_size(value);
	json_array_foreach(value, i, t)
	{
		if (!is_number(t) || json_number_value(t) <= last)
			return wrong_at(c, path, i, "is no time after the one before");
		last = json_number_value(t);
	}
	return true;
}

static bool
check_series(const struct check *c, const char *path, const json_t *value)
{
	size_t i;
	json_t *number;

	if (!json_is_array(value))
		return wrong(c, path, "is no list");
	if (json_array_size(value) != c->length)
		return wrong(c, path, "is not as long as series.t_s");
	json_array_foreach(value, i, number)
	{
		if (!is_number(number) && !json_is_null(number))
			return wrong_at(c, path, i, "is neither a number nor null");
	}
	return true;
}

static bool
check_kind(struct check *c, const char *path, enum kind kind, json_t *value)
{
	switch (kind) {
	case KIND_OBJECT:
		return json_is_object(value) || wrong(c, path, "is no object");
	case KIND_TEXTS:
		return check_texts(c, path, value);
	case KIND_TEXT:
		return json_is_string(value) || wrong(c, path, "is no text");
	case KIND_COUNT:
		return (json_is_integer(value) && is_number(value)) ||
		       wrong(c, path, "is no count");
	case KIND_NUMBER:
		return is_number(value) || wrong(c, path, "is no number of at least 0");
	case KIND_BUCKETS:
		return check_buckets(c, path, value);
	case KIND_TIMES:
		return check_times(c, path, value);
	case KIND_SERIES:
		return check_series(c, path, value);
	}
	return false;
}

/* The member of `from` at a path, or NULL; *parent is what it would be in. */
static json_t *
find(json_t *from, const char *path, json_t **parent)
{
	const char *dot;

	while ((dot = strchr(path, '.')) != NULL && from != NULL) {
		from = json_object_getn(from, path, (size_t)(dot - path));
		path = dot + 1;
	}
	*parent = from;
	return json_object_get(from, path);
}

static bool
check_member(struct check *c, const struct member *m)
{
	json_t *parent;
	json_t *value = find(c->root, m->path, &parent);

	if (value != NULL)
		return check_kind(c, m->path, m->kind, value);
	if (parent == NULL || (m->needed_by & c->command) == 0)
		return true;
	return wrong(c, m->path, "is missing");
}

static bool
check_processes(struct check *c)
{
	json_t *parent;
	json_t *list = find(c->root, "relay.processes", &parent);
	json_t *process;
	size_t i;

	if (list == NULL)
		return true;
	if (!json_is_array(list))
		return wrong(c, "relay.processes", "is no list");
	json_array_foreach(list, i, process)
	{
		for (size_t k = 0; k < sizeof process_members / sizeof process_members[0]; k++) {
			const struct member *m = &process_members[k];
			char path[PATH_MAX_SIZE];
			snprintf(path, sizeof path, "relay.processes[%zu].%s", i, m->path);
			json_t *value = json_object_get(process, m->path);
			if (value == NULL)
				return wrong(c, path, "is missing");
			if (!check_kind(c, path, m->kind, value))
				return false;
		}
	}
	return true;
}

/* Version and command come first: what else is asked follows from them. */
static bool
check_command(struct check *c)
{
	const json_t *version = json_object_get(c->root, "ringpost_bench");
	const char *command = json_string_value(json_object_get(c->root, "command"));

	if (version == NULL)
		return wrong(c, "ringpost_bench",
			     "is missing: this is no result of ringpost-bench");
	if (!json_is_integer(version) || json_integer_value(version) != FORMAT_VERSION)
		return wrong(c, "ringpost_bench", "is not 1, the version that this program reads");
	for (size_t i = 0; command != NULL && i < sizeof commands / sizeof commands[0]; i++) {
		if (strcmp(command, commands[i].name) == 0)
			c->command = commands[i].bit;
	}
	return c->command != 0 || wrong(c, "command", "is none of run, source, sink");
}

static bool
check_result(struct check *c)
{
	if (!json_is_object(c->root))
		return wrong(c, "the result", "is no object");
	if (!check_command(c))
		return false;
	for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
		if (!check_member(c, &members[i]))
			return false;
	}
	return check_processes(c);
}

/* NULL with a line in `why`. */
static json_t *
read_result(const char *file, struct buf *why)
{
	json_error_t error;
	json_t *root = json_load_file(file, JSON_REJECT_DUPLICATES, &error);

	if (root == NULL) {
		if (json_error_code(&error) == json_error_cannot_open_file)
			buf_printf(why, "%s: %s", file, strerror(errno));
		else
			buf_printf(why, "%s: not JSON: line %d: %s", file, error.line, error.text);
		return NULL;
	}
	struct check c = { .file = file, .root = root, .why = why };
	if (!check_result(&c)) {
		json_decref(root);
		return NULL;
	}
	/* For the table of single runs. A name that is not UTF-8 cannot be shown. */
	const char *slash = strrchr(file, '/');
	if (json_object_set_new(root, "file", json_string(slash != NULL ? slash + 1 : file)) != 0)
		json_object_set_new(root, "file", json_string("?"));
	return root;
}

/* What the page's script finds: { version, results }. NULL with a line in `why`. */
static json_t *
read_all(const char *const *files, size_t count, struct buf *why)
{
	json_t *results = json_array();
	json_t *page = json_pack("{s:s, s:O}", "version", RINGPOST_VERSION, "results", results);

	for (size_t i = 0; i < count; i++) {
		json_t *result = read_result(files[i], why);
		if (result == NULL) {
			json_decref(page);
			page = NULL;
			break;
		}
		json_array_append_new(results, result);
	}
	json_decref(results);
	return page;
}

/* In JSON '<' occurs inside of texts alone. Escaped it can begin neither "</script" nor "<!--",
 * the two that would end or change the element around it. */
static int
write_escaped(const char *text, size_t size, void *file)
{
	for (size_t i = 0; i < size; i++) {
		if ((text[i] == '<' ? fputs("\\u003c", file) : fputc(text[i], file)) == EOF)
			return -1;
	}
	return 0;
}

static bool
write_page(FILE *file, const json_t *page)
{
	static const char mark[] = "@RESULTS@";
	const char *template = (const char *)report_page;
	const char *at = memmem(template, report_page_size, mark, strlen(mark));

	ASSERT(at != NULL);
	size_t before = (size_t)(at - template);
	const char *rest = at + strlen(mark);
	size_t after = report_page_size - before - strlen(mark);
	/* 15 digits are what a double keeps of any decimal number. */
	size_t flags = JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15);
	return fwrite(template, 1, before, file) == before &&
	       json_dump_callback(page, write_escaped, file, flags) == 0 &&
	       fwrite(rest, 1, after, file) == after;
}

bool
report_write(const char *out, const char *const *files, size_t count, struct buf *why)
{
	ASSERT(count > 0);
	json_t *page = read_all(files, count, why);
	if (page == NULL)
		return false;
	FILE *file = fopen(out, "we");
	bool good = file != NULL && write_page(file, page);
	int error = errno;
	if (file != NULL && fclose(file) != 0 && good) {
		good = false;
		error = errno;
	}
	if (!good)
		buf_printf(why, "%s: %s", out, strerror(error));
	json_decref(page);
	return good;
}
