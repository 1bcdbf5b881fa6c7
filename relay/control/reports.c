/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/reports.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/base/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/metric.h"
#include "relay/control/control.h"
#include "relay/control/lookup.h"
#include "relay/control/tls_report.h"

enum {
	DAY_S = 86400,
	TICK_MOST_MS = 60 * 1000,
	TICK_LEAST_MS = 250,
	GIVE_UP_MS = DAY_S * 1000, /* RFC 8460 4: a sender should try for a day */
	FILE_MAX = 1 << 30,
	ANSWER_MAX = 4096, /* of what a receiver says; nobody reads it */
	POST_MS = 60 * 1000,
	ID_SIZE = 320,
	PATTERN_LINES = 3, /* of a policy, besides its patterns */
	GZIP_WINDOW = 15 + 16,
	GZIP_MEMORY = 8,
};

/* One domain's report on its way. */
struct sending {
	struct list_node link;
	struct reports *reports;
	unsigned day;
	char domain[DNS_NAME_MAX + 1];
	struct lookup lookup;
	struct tls_report_url urls[TLS_REPORT_URIS_MAX];
	unsigned url_count;
	unsigned at;     /* the one in hand */
	bool delivered;  /* to one of them */
	uint8_t *report; /* compressed */
	size_t size;
	uint64_t ok;
	uint64_t bad;
	struct web_job job;
	char ca_file[REPORTS_PATH_MAX];
	uint8_t answer[ANSWER_MAX];
	char why[WEB_WHY_MAX + TLS_REPORT_URL_MAX];
};

static const struct config_tls_reports *
options_of(const struct reports *r)
{
	return &r->control->routing->config->tls_reports;
}

static unsigned
today(const struct reports *r)
{
	return (unsigned)(r->worker->now_wall_ms / 1000 / DAY_S);
}

static void
check_stopped(struct reports *r)
{
	if (r->stopping)
		worker_soon(r->worker, &r->stop_check);
}

/* ---- the file ---- */

static void
on_saved(struct web_job *j)
{
	struct reports *r = CONTAINER_OF(j, struct reports, save);

	free((void *)(uintptr_t)j->body.data);
	r->saving = false;
	if (j->outcome != WEB_OK)
		event_problem(r->worker->log,
			      &(struct event_problem){
				      .what = SPAN("keep what was counted for TLS reports"),
				      .error = span_of_string(j->why),
				      .remedy = SPAN("make the directory of the spool writable, or "
						     "make room on its disk"),
			      });
	check_stopped(r);
}

static void
save(struct reports *r)
{
	char *text;

	if (!r->changed || r->saving)
		return;
	text = tls_results_text(r->results);
	if (text == NULL)
		return;
	r->save = (struct web_job){
		.kind = WEB_SAVE,
		.on_done = on_saved,
		.path = r->path,
		.body = span_of_string(text),
	};
	r->saving = web_submit(r->web, &r->save);
	r->changed = !r->saving;
	if (!r->saving)
		free(text);
}

static void
load(struct reports *r)
{
	size_t size;
	struct file_identity identity;
	char *memory = file_read(r->path, FILE_MAX, &size, &identity);

	if (memory == NULL)
		return;
	json_t *kept = tls_results_parse(span_of(memory, size));
	free(memory);
	if (kept == NULL)
		return;
	json_decref(r->results);
	r->results = kept;
}

/* ---- what was counted ---- */

static void
add(struct reports *r, unsigned day, const struct tls_result *result)
{
	r->changed = true;
	if (!tls_results_add(r->results, day, result))
		METRIC_ADD_LABEL(r->worker->metrics, LIMIT_HITS, LABEL_LIMIT_TLS_REPORTS, 1);
}

void
reports_note(struct reports *r, struct span domain, enum tls_tally_policy policy,
	     const char *result, struct span why)
{
	if (!options_of(r)->enabled)
		return;
	add(r, today(r),
	    &(struct tls_result){
		    .domain = domain,
		    .policy = span_of_string(tls_tally_policy_label(policy)),
		    .result = result,
		    .why = why,
		    .sessions = 1,
	    });
}

static void
add_tally(struct reports *r, const struct tls_tally *t)
{
	for (unsigned i = 0; t != NULL && i < TLS_TALLY_BUCKETS; i++) {
		for (const struct tls_tally_row *row = t->buckets[i]; row != NULL; row = row->next)
			add(r, row->day,
			    &(struct tls_result){
				    .domain = row->domain,
				    .policy = span_of_string(tls_tally_policy_label(row->policy)),
				    .strings = row->strings,
				    .result = row->result,
				    .host = row->host,
				    .ip = row->ip,
				    .from = row->from,
				    .why = row->why,
				    .sessions = row->sessions,
			    });
	}
}

/* On a worker: its table goes, and it begins another when it needs one. */
static enum ask_step
take_slice(struct ask_part *p, uint64_t slice_us)
{
	struct reports *r = CONTAINER_OF(p->ask, struct reports, collect);
	struct flow *f = ask_worker(p)->flow;

	(void)slice_us;
	r->tallies[p->worker] = f->tls_tally;
	f->tls_tally = NULL;
	return ASK_DONE;
}

static void set_due(struct reports *r, bool now);
static void send_due(struct reports *r);

static void
on_taken(struct ask *a)
{
	struct reports *r = CONTAINER_OF(a, struct reports, collect);

	r->collecting = false;
	for (unsigned i = 0; i < r->control->crew_count; i++) {
		add_tally(r, r->tallies[i]);
		tls_tally_free(r->tallies[i]);
		r->tallies[i] = NULL;
	}
	if (!r->stopping) {
		set_due(r, r->send_after);
		r->send_after = false;
		send_due(r);
	}
	save(r);
	check_stopped(r);
}

static void
collect(struct reports *r)
{
	if (r->collecting)
		return;
	r->collecting = true;
	r->collected_ms = r->worker->now_ms;
	r->collect = (struct ask){
		.on_slice = take_slice,
		.on_done = on_taken,
		.parts = r->parts,
	};
	ask_start(&r->asker, &r->collect, 0, r->control->crew_count);
}

/* ---- one report ---- */

static json_t *
domain_of(struct reports *r, unsigned day, const char *domain)
{
	return json_object_get(tls_results_day(r->results, day), domain);
}

static void
forget(struct reports *r, unsigned day, const char *domain)
{
	json_t *domains = tls_results_day(r->results, day);

	json_object_del(domains, domain);
	if (domains != NULL && json_object_size(domains) == 0)
		tls_results_drop_day(r->results, day);
	r->changed = true;
}

static void
finish(struct sending *s)
{
	struct reports *r = s->reports;

	list_unlink(&s->link);
	r->sending_count--;
	lookup_fini(&s->lookup);
	free(s->report);
	free(s);
	if (!r->stopping)
		send_due(r);
	check_stopped(r);
}

/* None of its addresses took it. */
static void
put_off(struct sending *s)
{
	struct reports *r = s->reports;
	json_t *domain = domain_of(r, s->day, s->domain);
	uint64_t now_ms = r->worker->now_wall_ms;
	uint64_t until_ms = (uint64_t)json_integer_value(json_object_get(domain, "until"));
	bool over = now_ms + options_of(r)->retry_ms > until_ms;

	if (r->stopping) {
		finish(s);
		return;
	}
	METRIC_ADD_LABEL(r->worker->metrics, TLS_REPORTS,
			 over ? LABEL_TLS_REPORT_GIVEN_UP : LABEL_TLS_REPORT_FAILED, 1);
	event_tls_report_failed(r->worker->log, &(struct event_tls_report_failed){
							.domain = span_of_string(s->domain),
							.error = span_of_string(s->why),
							.pause = over ? 0 : options_of(r)->retry_ms,
							.given_up = over,
						});
	if (over) {
		forget(r, s->day, s->domain);
	} else if (domain != NULL) {
		json_object_set_new(domain, "due",
				    json_integer((json_int_t)(now_ms + options_of(r)->retry_ms)));
		r->changed = true;
	}
	finish(s);
}

static void
end(struct sending *s)
{
	struct reports *r = s->reports;

	if (!s->delivered) {
		put_off(s);
		return;
	}
	METRIC_ADD_LABEL(r->worker->metrics, TLS_REPORTS, LABEL_TLS_REPORT_SENT, 1);
	event_tls_report_sent(r->worker->log, &(struct event_tls_report_sent){
						      .domain = span_of_string(s->domain),
						      .day = s->day * (uint64_t)DAY_S * 1000,
						      .sessions = s->ok,
						      .failures = s->bad,
						      .size = s->size,
					      });
	forget(r, s->day, s->domain);
	finish(s);
}

static void
drop(struct sending *s)
{
	METRIC_ADD_LABEL(s->reports->worker->metrics, TLS_REPORTS, LABEL_TLS_REPORT_UNWANTED, 1);
	forget(s->reports, s->day, s->domain);
	finish(s);
}

static void ask_address(struct sending *s);

static void
next_address(struct sending *s)
{
	s->at++;
	if (s->at < s->url_count && !s->reports->stopping)
		ask_address(s);
	else
		end(s);
}

static void
on_posted(struct web_job *j)
{
	struct sending *s = CONTAINER_OF(j, struct sending, job);
	/* What a receiver says besides does not matter, however long. */
	bool answered = j->outcome == WEB_OK || j->outcome == WEB_TOO_BIG;
	bool taken = answered && j->status / 100 == 2;

	s->delivered |= taken;
	if (!taken && j->outcome == WEB_OK)
		snprintf(s->why, sizeof s->why, "%s: status %u", j->url, j->status);
	else if (!taken)
		snprintf(s->why, sizeof s->why, "%s: %s", j->url, j->why);
	next_address(s);
}

static void
on_address(struct lookup *l)
{
	struct sending *s = CONTAINER_OF(l, struct sending, lookup);
	const struct tls_report_url *url = &s->urls[s->at];
	struct span ca_file = options_of(s->reports)->ca_file;

	snprintf(s->ca_file, sizeof s->ca_file, "%.*s", SPAN_ARG(ca_file));
	s->job = (struct web_job){
		.on_done = on_posted,
		.kind = WEB_POST,
		.url = url->url,
		.host = url->host,
		.port = url->port,
		.ca_file = ca_file.size > 0 ? s->ca_file : NULL,
		.timeout_ms = POST_MS,
		.body = span_of(s->report, s->size),
		.content_type = "application/tlsrpt+gzip",
		.text = buf_of(s->answer, sizeof s->answer),
	};
	for (unsigned i = 0; i < l->count; i++) {
		const struct dns_answer *a = l->questions[i].answer;
		for (unsigned n = 0; a != NULL && n < a->count; n++) {
			if (s->job.address_count < WEB_ADDRESSES_MAX)
				s->job.addresses[s->job.address_count++] = a->records[n].address;
		}
	}
	lookup_fini(l);
	if (s->job.address_count > 0 && web_submit(s->reports->web, &s->job))
		return;
	snprintf(s->why, sizeof s->why, "%s: no address of its host is known", url->url);
	next_address(s);
}

static unsigned
next_worker(struct reports *r)
{
	return r->turn++ % r->control->crew_count;
}

static void
ask_address(struct sending *s)
{
	struct span host = span_of_string(s->urls[s->at].host);

	lookup_init(&s->lookup, on_address);
	lookup_add(&s->lookup, "", host, DNS_AAAA);
	lookup_add(&s->lookup, "", host, DNS_A);
	lookup_start(&s->lookup, &s->reports->asker, next_worker(s->reports));
}

/* False: no memory. */
static bool
make_gzip(struct sending *s, const char *text)
{
	struct span in = span_of_string(text);
	z_stream z = { 0 };

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	size_t room = deflateBound(&z, in.size);
	s->report = malloc(room);
	z.next_in = (Bytef *)(uintptr_t)in.data;
	z.avail_in = (uInt)in.size;
	z.next_out = s->report;
	z.avail_out = (uInt)room;
	bool good = s->report != NULL && deflate(&z, Z_FINISH) == Z_STREAM_END;
	s->size = z.total_out;
	deflateEnd(&z);
	return good;
}

/* The lines of the policy that is known of the domain; the texts are in `memory`. */
static unsigned
write_policy(const struct sts_held *h, struct span *lines, struct buf *memory)
{
	unsigned count = 0;

	for (unsigned i = 0; i < h->pattern_count + PATTERN_LINES; i++) {
		size_t start = memory->size;
		if (i == 0)
			buf_append_string(memory, "version: STSv1");
		else if (i == 1)
			buf_printf(memory, "mode: %s", sts_mode_label(h->mode));
		else if (i < h->pattern_count + 2)
			buf_printf(memory, "mx: %.*s", SPAN_ARG(h->patterns[i - 2]));
		else
			buf_printf(memory, "max_age: %u", h->max_age_s);
		lines[count++] = span_after(buf_span(memory), start);
	}
	return memory->overflow ? 0 : count;
}

static char *
compose(struct sending *s, const json_t *domain)
{
	static const size_t line_max = STS_PATTERN_MAX + 32;
	struct reports *r = s->reports;
	const struct config *config = r->control->routing->config;
	struct span name = span_of_string(s->domain);
	const struct sts_held *h = policies_find(&r->control->policies, name);
	size_t lines = h == NULL ? 0 : h->pattern_count + (size_t)PATTERN_LINES;
	struct span *strings = calloc(lines + 1, sizeof *strings);
	uint8_t *memory = malloc(lines * line_max + 1);
	struct buf texts = buf_of(memory, lines * line_max);
	uint64_t start_s = s->day * (uint64_t)DAY_S;
	uint64_t end_s = start_s + DAY_S - 1;
	uint64_t now_s = r->worker->now_wall_ms / 1000;
	uint8_t contact_memory[ID_SIZE];
	struct buf contact = buf_of(contact_memory, sizeof contact_memory);
	char id[ID_SIZE];
	char *text = NULL;

	snprintf(id, sizeof id, "%u.%016llx@%.*s", s->day,
		 (unsigned long long)span_hash_nocase(name, r->chance + now_s),
		 SPAN_ARG(config->hostname));
	if (config->tls_reports.contact.size > 0)
		buf_append(&contact, config->tls_reports.contact);
	else
		buf_printf(&contact, "postmaster@%.*s", SPAN_ARG(config->hostname));
	struct tls_report_head head = {
		.organization = config->hostname,
		.contact = buf_span(&contact),
		.domain = name,
		.id = id,
		.start_s = start_s,
		.end_s = now_s < end_s ? now_s : end_s,
		.sts_strings = strings,
		.sts_hosts = h == NULL ? NULL : h->patterns,
		.sts_host_count = h == NULL ? 0 : h->pattern_count,
	};
	if (strings != NULL && memory != NULL) {
		if (h != NULL)
			head.sts_string_count = write_policy(h, strings, &texts);
		text = tls_report_compose(&head, domain);
	}
	free(strings);
	free(memory);
	return text;
}

static void
count_sessions(struct sending *s, const json_t *domain)
{
	const char *type;
	json_t *policy;

	json_object_foreach(json_object_get(domain, "policies"), type, policy)
	{
		s->ok += (uint64_t)json_integer_value(json_object_get(policy, "ok"));
		s->bad += (uint64_t)json_integer_value(json_object_get(policy, "bad"));
	}
}

static void
on_record(struct lookup *l)
{
	struct sending *s = CONTAINER_OF(l, struct sending, lookup);
	struct reports *r = s->reports;
	struct dns_answer *a = l->questions[0].answer;
	struct span texts[DNS_RECORDS_MAX], uris[TLS_REPORT_URIS_MAX];
	const json_t *domain = domain_of(r, s->day, s->domain);

	if (r->stopping) {
		finish(s);
		return;
	}
	if (a == NULL || a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS) {
		snprintf(s->why, sizeof s->why, "_smtp._tls.%s: %.*s", s->domain,
			 a == NULL ? 0 : (int)a->why.size,
			 a == NULL ? "" : (const char *)a->why.data);
		put_off(s);
		return;
	}
	for (unsigned i = 0; i < a->count; i++)
		texts[i] = a->records[i].data;
	unsigned count = tls_report_uris(texts, a->count, uris);
	for (unsigned i = 0; i < count; i++)
		s->url_count += tls_report_url(uris[i], &s->urls[s->url_count]);
	lookup_fini(l);
	if (s->url_count == 0 || domain == NULL) {
		drop(s);
		return;
	}
	char *text = compose(s, domain);
	count_sessions(s, domain);
	if (text == NULL || !make_gzip(s, text)) {
		snprintf(s->why, sizeof s->why, "no memory for the report");
		free(text);
		put_off(s);
		return;
	}
	free(text);
	ask_address(s);
}

/* ---- when ---- */

static bool
is_sending(const struct reports *r, unsigned day, const char *domain)
{
	for (struct list_node *n = list_first(&r->sending); n != NULL;
	     n = list_next(&r->sending, n)) {
		struct sending *s = LIST_ITEM(n, struct sending, link);
		if (s->day == day && strcmp(s->domain, domain) == 0)
			return true;
	}
	return false;
}

static void
send_one(struct reports *r, unsigned day, const char *domain)
{
	struct sending *s = calloc(1, sizeof *s);

	if (s == NULL || strlen(domain) > DNS_NAME_MAX) {
		free(s);
		return;
	}
	s->reports = r;
	s->day = day;
	snprintf(s->domain, sizeof s->domain, "%s", domain);
	list_append(&r->sending, &s->link);
	r->sending_count++;
	lookup_init(&s->lookup, on_record);
	lookup_add(&s->lookup, "_smtp._tls.", span_of_string(s->domain), DNS_TXT);
	lookup_start(&s->lookup, &r->asker, next_worker(r));
}

static void
send_due_of(struct reports *r, unsigned day, json_t *domains)
{
	const char *name;
	json_t *domain;

	json_object_foreach(domains, name, domain)
	{
		json_t *due = json_object_get(domain, "due");
		if (r->sending_count == REPORTS_AT_A_TIME)
			return;
		if (due != NULL && (uint64_t)json_integer_value(due) <= r->worker->now_wall_ms &&
		    !is_sending(r, day, name))
			send_one(r, day, name);
	}
}

static void
send_due(struct reports *r)
{
	const char *key;
	json_t *domains;

	json_object_foreach(json_object_get(r->results, "days"), key, domains)
	{
		send_due_of(r, (unsigned)strtoul(key, NULL, 10), domains);
	}
}

/* The parts of days that are over get their time; with `now` also the present one's, at once. */
static void
set_due(struct reports *r, bool now)
{
	uint64_t now_ms = r->worker->now_wall_ms;
	uint64_t spread_ms = options_of(r)->spread_ms;
	const char *key, *name;
	json_t *domains, *domain;

	json_object_foreach(json_object_get(r->results, "days"), key, domains)
	{
		bool over = strtoul(key, NULL, 10) < today(r);
		json_object_foreach(domains, name, domain)
		{
			if (!over && !now)
				break;
			if (!now && json_object_get(domain, "due") != NULL)
				continue;
			r->chance = r->chance * 6364136223846793005u + 1442695040888963407u;
			uint64_t due_ms = now_ms;
			if (!now && spread_ms > 0)
				due_ms += (r->chance >> 16) % spread_ms;
			json_object_set_new(domain, "due", json_integer((json_int_t)due_ms));
			json_object_set_new(domain, "until",
					    json_integer((json_int_t)(due_ms + GIVE_UP_MS)));
			r->changed = true;
		}
	}
}

void
reports_send_now(struct reports *r)
{
	r->send_after = true;
	collect(r);
}

size_t
reports_waiting(const struct reports *r)
{
	const char *key;
	json_t *domains;
	size_t count = 0;

	json_object_foreach(json_object_get(r->results, "days"), key, domains)
	{
		count += json_object_size(domains);
	}
	return count;
}

static void
on_tick(struct timer *t)
{
	struct reports *r = CONTAINER_OF(t, struct reports, tick);
	uint64_t next_ms = options_of(r)->spread_ms / 4;

	if (options_of(r)->retry_ms / 4 < next_ms)
		next_ms = options_of(r)->retry_ms / 4;
	next_ms = next_ms > TICK_MOST_MS ? TICK_MOST_MS : next_ms;
	next_ms = next_ms < TICK_LEAST_MS ? TICK_LEAST_MS : next_ms;
	if (r->collected_ms + REPORTS_COLLECT_MS <= r->worker->now_ms)
		collect(r);
	else
		send_due(r);
	timer_set(&r->worker->timers, t, r->worker->now_ms + next_ms);
}

/* ---- start and end ---- */

bool
reports_init(struct reports *r, struct control *c, uint64_t seed, struct span directory)
{
	*r = (struct reports){ .control = c, .worker = &c->worker, .chance = seed };
	list_init(&r->sending);
	timer_init(&r->tick, on_tick);
	snprintf(r->path, sizeof r->path, "%.*s/tls-reports", SPAN_ARG(directory));
	r->results = tls_results_new();
	if (r->results != NULL)
		load(r);
	return r->results != NULL;
}

void
reports_fini(struct reports *r)
{
	json_decref(r->results);
}

static void
on_stop_check(struct task *t)
{
	struct reports *r = CONTAINER_OF(t, struct reports, stop_check);

	if (r->collecting || r->saving || r->sending_count > 0 || r->on_stopped == NULL)
		return;
	if (!r->collected_last) {
		r->collected_last = true;
		collect(r);
		return;
	}
	if (r->changed) {
		save(r);
		if (r->saving)
			return;
	}
	void (*on_stopped)(struct reports *) = r->on_stopped;
	r->on_stopped = NULL;
	on_stopped(r);
}

void
reports_start(struct reports *r, struct web *web)
{
	r->web = web;
	asker_init(&r->asker, r->worker, r->control->crew);
	task_init(&r->stop_check, on_stop_check);
	r->collected_ms = r->worker->now_ms;
	set_due(r, false);
	on_tick(&r->tick);
}

void
reports_stop(struct reports *r, void (*on_stopped)(struct reports *r))
{
	r->stopping = true;
	r->on_stopped = on_stopped;
	timer_stop(&r->worker->timers, &r->tick);
	for (struct list_node *n = list_first(&r->sending); n != NULL;
	     n = list_next(&r->sending, n))
		lookup_cancel(&LIST_ITEM(n, struct sending, link)->lookup);
	check_stopped(r);
}
