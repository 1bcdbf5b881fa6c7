/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/result.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { FORMAT_VERSION = 1, SAMPLES_FIRST = 64 };

bool
result_add_sample(struct result *r, const struct result_sample *sample)
{
	if (r->sample_count == r->sample_room) {
		size_t room = r->sample_room == 0 ? SAMPLES_FIRST : 2 * r->sample_room;
		struct result_sample *more = realloc(r->samples, room * sizeof *more);
		if (more == NULL)
			return false;
		r->samples = more;
		r->sample_room = room;
	}
	r->samples[r->sample_count++] = *sample;
	return true;
}

void
result_free(struct result *r)
{
	free(r->samples);
	r->samples = NULL;
	r->sample_count = r->sample_room = 0;
}

static double
per_second(uint64_t n, double seconds)
{
	return seconds > 0 ? (double)n / seconds : 0;
}

double
result_accepted_per_s(const struct result *r)
{
	return per_second(r->track.recipients_accepted, r->offer_s);
}

double
result_delivered_per_s(const struct result *r)
{
	return per_second(r->track.recipients_delivered, r->total_s);
}

double
result_share(const struct result *r)
{
	double without =
		r->after_per_s > 0 ? (r->before_per_s + r->after_per_s) / 2 : r->before_per_s;

	return without > 0 ? result_delivered_per_s(r) / without : 0;
}

/* Mails that the relay had to do with. */
static double
per_mail(const struct result *r, uint64_t n)
{
	uint64_t mails = r->track.mails[TRACK_OFFERED];

	return mails > 0 ? (double)n / (double)mails : 0;
}

/* ---- for people ---- */

static void
print_latency(FILE *to, const char *name, const struct histogram_view *v)
{
	if (v->count == 0)
		return;
	fprintf(to, "%-14s p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms\n", name,
		(double)histogram_at(v, 0.5) / 1e3, (double)histogram_at(v, 0.9) / 1e3,
		(double)histogram_at(v, 0.99) / 1e3, (double)histogram_at(v, 0.999) / 1e3,
		(double)v->most / 1e3);
}

static void
print_source(const struct result *r, FILE *to)
{
	const uint64_t *mails = r->track.mails;

	fprintf(to, "%-14s %llu mails over %llu connections in %.2f s\n", "offered",
		(unsigned long long)mails[TRACK_OFFERED], (unsigned long long)r->source.connections,
		r->offer_s);
	fprintf(to, "%-14s %llu mails, %.0f recipients/s; refused %llu, in doubt %llu\n",
		"accepted", (unsigned long long)mails[TRACK_ACCEPTED], result_accepted_per_s(r),
		(unsigned long long)mails[TRACK_REFUSED],
		(unsigned long long)mails[TRACK_IN_DOUBT]);
	if (r->source.not_offered > 0)
		fprintf(to, "%-14s %llu mails whose time had come\n", "not offered",
			(unsigned long long)r->source.not_offered);
	for (unsigned i = 0; i < r->reason_count; i++)
		fprintf(to, "%14llu times: %s\n", (unsigned long long)r->reasons[i].count,
			r->reasons[i].text);
}

static void
print_relay(const struct result *r, FILE *to)
{
	const struct meter *m = &r->relay;

	fprintf(to,
		"%-14s %.1f us of CPU a mail (user %.1f, system %.1f), PSS %.1f MiB at most, "
		"%.2f context switches and %.0f bytes written a mail\n",
		"relay", per_mail(r, m->user_us + m->system_us), per_mail(r, m->user_us),
		per_mail(r, m->system_us), (double)r->relay_pss_peak_bytes / 1048576,
		per_mail(r, m->context_switches), per_mail(r, m->bytes_written));
	for (unsigned i = 0; m->name_count > 1 && i < m->name_count; i++)
		fprintf(to, "%14s x %u: user %.2f s, system %.2f s\n", m->names[i].name,
			m->names[i].count, (double)m->names[i].user_us / 1e6,
			(double)m->names[i].system_us / 1e6);
}

void
result_print(const struct result *r, FILE *to)
{
	if (r->has_source)
		print_source(r, to);
	if (r->has_source && r->has_sink)
		fprintf(to,
			"%-14s %llu recipients, %.0f/s in %.2f s; lost %llu, duplicated %llu, "
			"unacknowledged but delivered %llu, foreign %llu\n",
			"delivered", (unsigned long long)r->track.recipients_delivered,
			result_delivered_per_s(r), r->total_s, (unsigned long long)r->verdict.lost,
			(unsigned long long)r->track.duplicated,
			(unsigned long long)r->verdict.unacknowledged_delivered,
			(unsigned long long)r->track.foreign);
	else if (r->has_sink)
		fprintf(to,
			"%-14s %llu mails, %llu recipients, %llu bytes over %llu connections; "
			"%llu faults\n",
			"caught", (unsigned long long)r->sink.mails,
			(unsigned long long)r->sink.recipients, (unsigned long long)r->sink.bytes,
			(unsigned long long)r->sink.connections,
			(unsigned long long)r->sink.faults);
	print_latency(to, "accept", &r->accept);
	print_latency(to, "end to end", &r->end_to_end);
	if (r->has_relay)
		print_relay(r, to);
	if (r->before_per_s > 0)
		fprintf(to, "%-14s %.0f/s before, %.0f/s after: the relay reached %.3f of it\n",
			"without relay", r->before_per_s, r->after_per_s, result_share(r));
	if (r->has_source)
		fprintf(to, "%-14s source %.1f us of CPU a mail", "load",
			per_mail(r, r->source_cpu_us));
	if (r->has_source && r->has_sink)
		fprintf(to, ", sink %.1f us", per_mail(r, r->sink_cpu_us));
	fputs("\n", to);
}

/* ---- JSON ---- */

static void
put_integer(json_t *o, const char *name, uint64_t value)
{
	json_object_set_new(o, name, json_integer((json_int_t)value));
}

static void
put_real(json_t *o, const char *name, double value)
{
	json_object_set_new(o, name, json_real(value));
}

static void
put_option(void *context, const char *name, const char *value)
{
	json_object_set_new(context, name, json_string(value));
}

static json_t *
machine(void)
{
	json_t *o = json_object();
	struct utsname name;
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "re");

	if (uname(&name) == 0)
		json_object_set_new(o, "kernel", json_string(name.release));
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		const char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		json_object_set_new(o, "cpu", json_stringn(colon + 2, strcspn(colon + 2, "\n")));
		break;
	}
	if (f != NULL)
		fclose(f);
	put_integer(o, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	put_integer(o, "memory_bytes",
		    (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
	return o;
}

static json_t *
totals(const struct result *r)
{
	json_t *o = json_object();
	const uint64_t *mails = r->track.mails;

	if (r->has_source) {
		put_integer(o, "mails_offered", mails[TRACK_OFFERED]);
		put_integer(o, "mails_accepted", mails[TRACK_ACCEPTED]);
		put_integer(o, "mails_refused", mails[TRACK_REFUSED]);
		put_integer(o, "mails_in_doubt", mails[TRACK_IN_DOUBT]);
		put_integer(o, "mails_not_offered", r->source.not_offered);
		put_integer(o, "recipients_offered", mails[TRACK_OFFERED] * r->options->recipients);
		put_integer(o, "recipients_accepted", r->track.recipients_accepted);
		put_integer(o, "connections", r->source.connections);
		put_integer(o, "connection_errors", r->source.connection_errors);
		put_integer(o, "bytes_offered", r->source.bytes);
	} else {
		put_integer(o, "mails_caught", r->sink.mails);
		put_integer(o, "recipients_caught", r->sink.recipients);
		put_integer(o, "bytes_caught", r->sink.bytes);
		put_integer(o, "connections", r->sink.connections);
		put_integer(o, "faults", r->sink.faults);
	}
	if (r->has_source && r->has_sink) {
		put_integer(o, "recipients_delivered", r->track.recipients_delivered);
		put_integer(o, "lost", r->verdict.lost);
		put_integer(o, "duplicated", r->track.duplicated);
		put_integer(o, "unacknowledged_delivered", r->verdict.unacknowledged_delivered);
		put_integer(o, "foreign", r->track.foreign);
	}
	return o;
}

static json_t *
rates(const struct result *r)
{
	json_t *o = json_object();

	put_real(o, "accepted_per_s", result_accepted_per_s(r));
	if (r->has_sink)
		put_real(o, "delivered_per_s", result_delivered_per_s(r));
	if (r->before_per_s > 0) {
		put_real(o, "without_relay_before_per_s", r->before_per_s);
		put_real(o, "without_relay_after_per_s", r->after_per_s);
		put_real(o, "share_without_relay", result_share(r));
	}
	return o;
}

static json_t *
latency(const struct histogram_view *v)
{
	json_t *o = json_object();
	json_t *buckets = json_array();

	put_integer(o, "count", v->count);
	put_integer(o, "min", v->count > 0 ? v->least : 0);
	put_real(o, "mean", v->count > 0 ? (double)v->sum / (double)v->count : 0);
	put_integer(o, "p50", histogram_at(v, 0.5));
	put_integer(o, "p90", histogram_at(v, 0.9));
	put_integer(o, "p99", histogram_at(v, 0.99));
	put_integer(o, "p999", histogram_at(v, 0.999));
	put_integer(o, "max", v->most);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (v->buckets[i] == 0)
			continue;
		json_t *pair = json_array();
		json_array_append_new(pair, json_integer((json_int_t)histogram_bound(i)));
		json_array_append_new(pair, json_integer((json_int_t)v->buckets[i]));
		json_array_append_new(buckets, pair);
	}
	json_object_set_new(o, "buckets", buckets);
	return o;
}

static json_t *
relay(const struct result *r)
{
	const struct meter *m = &r->relay;
	json_t *o = json_object();
	json_t *processes = json_array();

	put_real(o, "user_s", (double)m->user_us / 1e6);
	put_real(o, "system_s", (double)m->system_us / 1e6);
	put_real(o, "cpu_us_per_mail", per_mail(r, m->user_us + m->system_us));
	put_integer(o, "pss_peak_bytes", r->relay_pss_peak_bytes);
	put_integer(o, "context_switches", m->context_switches);
	put_integer(o, "bytes_written", m->bytes_written);
	for (unsigned i = 0; i < m->name_count; i++) {
		json_t *p = json_object();
		json_object_set_new(p, "name", json_string(m->names[i].name));
		put_integer(p, "count", m->names[i].count);
		put_real(p, "user_s", (double)m->names[i].user_us / 1e6);
		put_real(p, "system_s", (double)m->names[i].system_us / 1e6);
		json_array_append_new(processes, p);
	}
	json_object_set_new(o, "processes", processes);
	return o;
}

/* One column of the series: what its values are divided by, and who knows it. */
enum column_kind { COLUMN_RATE, COLUMN_LEVEL, COLUMN_CORES };
enum { BY_SOURCE = 1, BY_SINK = 2, BY_RELAY = 4, BY_BOTH = BY_SOURCE | BY_SINK };

static json_t *
column(const struct result *r, size_t offset, enum column_kind kind)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->sample_count; i++) {
		const struct result_sample *s = &r->samples[i];
		uint64_t value;
		memcpy(&value, (const char *)s + offset, sizeof value);
		double v = (double)value;
		if (value == RESULT_NONE)
			json_array_append_new(list, json_null());
		else if (kind == COLUMN_RATE)
			json_array_append_new(list, json_real(v / s->seconds));
		else if (kind == COLUMN_CORES)
			json_array_append_new(list, json_real(v / 1e6 / s->seconds));
		else
			json_array_append_new(list, json_integer((json_int_t)value));
	}
	return list;
}

static json_t *
series(const struct result *r)
{
	static const struct {
		const char *name;
		size_t offset;
		enum column_kind kind;
		unsigned known_by;
	} columns[] = {
#define COLUMN(name, field, kind, by) \
	{ name, offsetof(struct result_sample, field), COLUMN_##kind, BY_##by }
		COLUMN("offered", offered, RATE, SOURCE),
		COLUMN("accepted", accepted, RATE, SOURCE),
		COLUMN("delivered", delivered, RATE, SINK),
		COLUMN("errors", errors, RATE, SOURCE),
		COLUMN("queued", queued, LEVEL, BOTH),
		COLUMN("accept_p50_us", accept_p50_us, LEVEL, SOURCE),
		COLUMN("accept_p99_us", accept_p99_us, LEVEL, SOURCE),
		COLUMN("end_to_end_p50_us", end_to_end_p50_us, LEVEL, BOTH),
		COLUMN("end_to_end_p99_us", end_to_end_p99_us, LEVEL, BOTH),
		COLUMN("relay_cpu", relay_cpu_us, CORES, RELAY),
		COLUMN("source_cpu", source_cpu_us, CORES, SOURCE),
		COLUMN("sink_cpu", sink_cpu_us, CORES, SINK),
		COLUMN("relay_pss_bytes", relay_pss_bytes, LEVEL, RELAY),
#undef COLUMN
	};
	unsigned known = (r->has_source ? BY_SOURCE : 0U) | (r->has_sink ? BY_SINK : 0U) |
			 (r->has_relay ? BY_RELAY : 0U);
	json_t *o = json_object();
	json_t *times = json_array();

	put_real(o, "interval_s", (double)r->options->interval_ms / 1e3);
	for (size_t i = 0; i < r->sample_count; i++)
		json_array_append_new(times, json_real(r->samples[i].t_s));
	json_object_set_new(o, "t_s", times);
	for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
		if ((columns[i].known_by & ~known) == 0)
			json_object_set_new(o, columns[i].name,
					    column(r, columns[i].offset, columns[i].kind));
	return o;
}

static json_t *
load(const struct result *r)
{
	json_t *o = json_object();

	if (r->has_source)
		put_real(o, "source_cpu_s", (double)r->source_cpu_us / 1e6);
	if (r->has_sink)
		put_real(o, "sink_cpu_s", (double)r->sink_cpu_us / 1e6);
	return o;
}

/* What only a command that offers mails can know. */
static void
put_offering(json_t *o, const struct result *r)
{
	json_t *part = json_object();

	put_real(part, "offer_s", r->offer_s);
	put_real(part, "total_s", r->total_s);
	json_object_set_new(o, "time", part);
	json_object_set_new(o, "rate", rates(r));
	part = json_object();
	json_object_set_new(part, "accept", latency(&r->accept));
	if (r->has_sink)
		json_object_set_new(part, "end_to_end", latency(&r->end_to_end));
	json_object_set_new(o, "latency_us", part);
}

static json_t *
whole(const struct result *r)
{
	static const char *const names[] = { "source", "sink", "run", "report" };
	json_t *o = json_object();
	json_t *part = json_object();

	put_integer(o, "ringpost_bench", FORMAT_VERSION);
	json_object_set_new(o, "command", json_string(names[r->options->command]));
	json_object_set_new(o, "label", json_string(r->options->label));
	if (r->options->scenario[0] != '\0')
		json_object_set_new(o, "scenario", json_string(r->options->scenario));
	json_object_set_new(o, "started", json_string(r->started));
	options_show(r->options, put_option, part);
	json_object_set_new(o, "options", part);
	json_object_set_new(o, "machine", machine());
	json_object_set_new(o, "totals", totals(r));
	if (r->has_source)
		put_offering(o, r);
	if (r->has_relay)
		json_object_set_new(o, "relay", relay(r));
	json_object_set_new(o, "load", load(r));
	json_object_set_new(o, "series", series(r));
	return o;
}

bool
result_write(const struct result *r, const char *file, struct buf *why)
{
	json_t *o = whole(r);
	FILE *f = fopen(file, "we");
	bool good = f != NULL && json_dumpf(o, f, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0 &&
		    fputc('\n', f) != EOF;

	if (f != NULL && fclose(f) != 0)
		good = false;
	if (!good)
		buf_printf(why, "--json %s: %s", file, strerror(errno));
	json_decref(o);
	return good;
}
