/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/report.h"

#include <stdlib.h>

#include "core/base/clock.h"
#include "relay/flow/flow.h"

enum {
	REPORTS_FIRST = 16,
	LOOKS = 16, /* buckets between looks at the clock */
};

static uint64_t
left_ms(uint64_t until_ms, uint64_t now_ms)
{
	return until_ms > now_ms ? until_ms - now_ms : 0;
}

static unsigned
copy_text(uint8_t *to, size_t most, struct span from)
{
	from = span_first(from, most);
	if (from.size > 0)
		memcpy(to, from.data, from.size);
	return (unsigned)from.size;
}

static void
fill(struct site_report *r, struct site *s)
{
	const struct shaping *shaping = site_shaping(s);
	uint64_t now_ms = s->flow->worker->now_ms;

	*r = (struct site_report){
		.home = s->home,
		.by_mx = s->by_mx,
		.limit = shaping->connections,
		.rate = shaping->rate,
		.connections = s->channels,
		.waiting = s->waiting.count,
		.suspended = s->suspended,
		.down_ms = left_ms(s->down_until_ms, now_ms),
		.failure = s->failure,
	};
	r->name_size = copy_text(r->name, sizeof r->name, s->name);
	r->source_size = copy_text(r->source, sizeof r->source, shaping->source);
	for (struct list_node *n = list_first(&s->busy); n != NULL; n = list_next(&s->busy, n))
		r->busy++;
	for (unsigned i = 0; i < s->host_count; i++) {
		r->hosts += s->hosts[i].planned;
		r->hosts_failed += s->hosts[i].planned && s->hosts[i].failed_until_ms > now_ms;
	}
}

static void
fill_host(struct host_report *r, const struct site *s, const struct site_host *h)
{
	*r = (struct host_report){
		.address = h->host.address,
		.secure = h->host.secure,
		.connections = h->ready,
		.failures = h->failures,
		.again_ms = left_ms(h->failed_until_ms, s->flow->worker->now_ms),
	};
	r->name_size = copy_text(r->name, sizeof r->name, h->host.name);
}

static int
compare(struct span a, struct span b)
{
	size_t common = a.size < b.size ? a.size : b.size;
	int order = common == 0 ? 0 : memcmp(a.data, b.data, common);

	if (order != 0)
		return order;
	return a.size < b.size ? -1 : a.size > b.size;
}

void
report_set_init(struct report_set *s, struct span after, struct span only, size_t most)
{
	ASSERT(most > 0);
	*s = (struct report_set){ .after = after, .only = only, .most = most };
}

void
report_set_fini(struct report_set *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->reports[i]);
	free(s->reports);
	free(s->hosts);
	s->hosts = NULL;
	s->reports = NULL;
	s->count = s->capacity = 0;
}

/* The place of the first report whose name is not below this one. */
static size_t
place_of(const struct report_set *s, struct span name)
{
	size_t low = 0;
	size_t high = s->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare(report_name(s->reports[middle]), name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool
grow(struct report_set *s)
{
	size_t capacity = s->capacity == 0 ? REPORTS_FIRST : 2 * s->capacity;
	struct site_report **more = realloc(s->reports, capacity * sizeof *more);

	if (more == NULL)
		return false;
	s->reports = more;
	s->capacity = capacity;
	return true;
}

static void
add_part(struct site_report *whole, const struct site_report *part)
{
	whole->connections += part->connections;
	whole->busy += part->busy;
	whole->waiting += part->waiting;
	whole->suspended = whole->suspended || part->suspended;
	if (part->down_ms > whole->down_ms)
		whole->down_ms = part->down_ms;
	if (part->failure.at_ms > whole->failure.at_ms)
		whole->failure = part->failure;
	if (part->hosts > whole->hosts)
		whole->hosts = part->hosts;
	if (part->hosts_failed > whole->hosts_failed)
		whole->hosts_failed = part->hosts_failed;
}

bool
report_set_add_host(struct report_set *s, const struct host_report *part)
{
	if (s->hosts == NULL)
		s->hosts = calloc(PLAN_HOSTS_MAX, sizeof *s->hosts);
	if (s->hosts == NULL)
		return false;
	for (unsigned i = 0; i < s->host_count; i++) {
		struct host_report *host = &s->hosts[i];
		if (!net_address_eq(&host->address, &part->address))
			continue;
		host->connections += part->connections;
		if (part->failures > host->failures)
			host->failures = part->failures;
		if (part->again_ms > host->again_ms)
			host->again_ms = part->again_ms;
		return true;
	}
	if (s->host_count < PLAN_HOSTS_MAX)
		s->hosts[s->host_count++] = *part;
	return true;
}

bool
report_set_add(struct report_set *s, const struct site_report *part)
{
	struct span name = report_name(part);

	if (s->only.data != NULL && !span_eq(s->only, name))
		return true;
	if (s->after.data != NULL && compare(name, s->after) <= 0)
		return true;
	size_t place = place_of(s, name);
	if (place < s->count && span_eq(report_name(s->reports[place]), name)) {
		add_part(s->reports[place], part);
		return true;
	}
	if (place == s->most) {
		s->more = true;
		return true;
	}
	struct site_report *report = malloc(sizeof *report);
	if (report == NULL || (s->count == s->capacity && !grow(s))) {
		free(report);
		return false;
	}
	*report = *part;
	if (s->count == s->most) {
		free(s->reports[--s->count]);
		s->more = true;
	}
	memmove(&s->reports[place + 1], &s->reports[place],
		(s->count - place) * sizeof(struct site_report *));
	s->reports[place] = report;
	s->count++;
	return true;
}

static bool
add_site(struct report_set *set, struct site *s)
{
	struct site_report report;
	struct host_report host;

	if (set->only.data != NULL && !span_eq(set->only, s->name))
		return true;
	fill(&report, s);
	bool added = report_set_add(set, &report);
	for (unsigned i = 0; i < s->host_count && added && set->only.data != NULL; i++) {
		if (!s->hosts[i].planned)
			continue;
		fill_host(&host, s, &s->hosts[i]);
		added = report_set_add_host(set, &host);
	}
	return added;
}

bool
report_sites(struct flow *f, uint32_t *cursor, uint64_t slice_us, struct report_set *set,
	     bool *no_memory)
{
	uint64_t until_us = clock_monotonic_us() + slice_us;

	OBJ_CHECK(f, FLOW_MAGIC);
	while (*cursor < SITE_BUCKETS) {
		/* A bucket at a time: between slices sites come and go. */
		struct site *s = f->sites[(*cursor)++];
		for (; s != NULL; s = s->next) {
			if (!add_site(set, s))
				*no_memory = true;
		}
		if (*cursor % LOOKS == 0 && clock_monotonic_us() >= until_us)
			return *cursor < SITE_BUCKETS;
	}
	return false;
}

struct span
report_site_name(const struct flow *f, struct site_id id)
{
	const struct destination *d = destination_at(f, id);

	return d->site != NULL ? d->site->name : d->name;
}

bool
report_leads_to(const struct flow *f, struct site_id id, struct span name)
{
	const struct destination *d = destination_at(f, id);

	return (d->site != NULL && span_eq(d->site->name, name)) || span_eq_nocase(d->name, name);
}

void
report_failure(struct site *s, unsigned host, const char *phase, struct span error)
{
	struct buf text = buf_of(s->failure.text, sizeof s->failure.text);

	plan_host_show(&s->hosts[host].host, &text);
	buf_append_string(&text, " ");
	buf_append_string(&text, phase);
	buf_append_string(&text, ": ");
	buf_append(&text, span_first(error, buf_room(&text)));
	s->failure.size = (uint8_t)text.size;
	s->failure.at_ms = s->flow->worker->now_wall_ms;
}

struct span
report_tls_need(uint32_t mail_flags)
{
	static const char *const words[] = {
		[TLS_NEED_NOTHING] = NULL,
		[TLS_NEED_REQUIRED] = "yes",
		[TLS_NEED_OPTIONAL] = "no",
	};

	return span_of_string(words[destination_need(mail_flags)]);
}
