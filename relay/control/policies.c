/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/policies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/config.h"
#include "core/file.h"
#include "core/log.h"
#include "core/metric.h"
#include "relay/control/control.h"
#include "relay/control/fetch.h"
#include "relay/control/policy_file.h"

enum {
	TICK_MOST_MS = 60 * 1000,
	TICK_LEAST_MS = 250,
	SAVE_AFTER_MS = 1000,
	PENDING_AGAIN_MS = 1000, /* who could not wait for a fetch asks again so soon */
	HOSTS_SHOWN = 512,
};

static const struct config_sts *
options_of(const struct policies *p)
{
	return &p->control->routing->config->sts;
}

static struct metrics *
metrics_of(const struct policies *p)
{
	return p->worker->metrics;
}

/* ---- the table ---- */

static struct policy_entry **
bucket_of(struct policies *p, struct span domain)
{
	return &p->buckets[span_hash_nocase(domain, p->seed) % POLICY_BUCKETS];
}

static struct policy_entry *
find(const struct policies *p, struct span domain)
{
	struct policy_entry *e = *bucket_of((struct policies *)(uintptr_t)p, domain);

	while (e != NULL && !span_eq_nocase(e->domain, domain))
		e = e->next;
	return e;
}

static void
show_numbers(const struct policies *p)
{
	METRIC_SET(metrics_of(p), STS_POLICIES, p->held_count);
	METRIC_SET(metrics_of(p), STS_MEMORY, p->bytes);
}

static size_t
bytes_of(const struct policy_entry *e)
{
	size_t bytes = sizeof *e + e->domain.size;

	if (e->held != NULL)
		bytes += sizeof *e->held + e->held->pattern_count * sizeof(struct span) +
			 policy_file_size(e->held);
	return bytes;
}

static void
count_bytes(struct policy_entry *e)
{
	struct policies *p = e->policies;

	p->bytes -= e->bytes;
	e->bytes = bytes_of(e);
	p->bytes += e->bytes;
}

static bool
is_idle(const struct policy_entry *e)
{
	return e->fetch == NULL && !list_is_linked(&e->line) && list_is_empty(&e->waiting);
}

static void
set_held(struct policy_entry *e, struct sts_held *h)
{
	struct policies *p = e->policies;

	p->held_count += (h != NULL) - (unsigned)(e->held != NULL);
	if (e->held != NULL)
		sts_held_put(e->held);
	e->held = h;
	count_bytes(e);
}

static void
entry_free(struct policy_entry *e)
{
	struct policies *p = e->policies;
	struct policy_entry **at = bucket_of(p, e->domain);

	ASSERT(is_idle(e) && !timer_is_set(&e->patience));
	set_held(e, NULL);
	p->bytes -= e->bytes;
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	list_unlink(&e->link);
	free(e);
}

/* The least recently used go; those that are being fetched stay. */
static bool
make_room(struct policies *p, size_t bytes, size_t bytes_max)
{
	struct list_node *n = list_first(&p->used);

	while (p->bytes + bytes > bytes_max && n != NULL) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, link);
		n = list_next(&p->used, n);
		if (!is_idle(e))
			continue;
		METRIC_ADD_LABEL(metrics_of(p), LIMIT_HITS, LABEL_LIMIT_STS_CACHE, 1);
		entry_free(e);
	}
	return p->bytes + bytes <= bytes_max;
}

static void on_patience(struct timer *t);

static struct policy_entry *
entry_new(struct policies *p, struct span domain)
{
	struct policy_entry *e = calloc(1, sizeof *e + domain.size);

	if (e == NULL)
		return NULL;
	e->policies = p;
	memcpy(e + 1, domain.data, domain.size);
	e->domain = span_of(e + 1, domain.size);
	list_init(&e->waiting);
	list_init(&e->watches);
	timer_init(&e->patience, on_patience);
	struct policy_entry **bucket = bucket_of(p, domain);
	e->next = *bucket;
	*bucket = e;
	list_append(&p->used, &e->link);
	count_bytes(e);
	return e;
}

static struct policy_entry *
find_or_make(struct policies *p, struct span domain)
{
	struct policy_entry *e = find(p, domain);

	if (e != NULL || !make_room(p, sizeof *e + domain.size, options_of(p)->cache_size))
		return e;
	return entry_new(p, domain);
}

static void
set_id(struct policy_entry *e, struct span id)
{
	ASSERT(id.size > 0 && id.size <= STS_ID_MAX);
	e->id_size = (uint8_t)id.size;
	memcpy(e->id, id.data, id.size);
}

static void
use(struct policy_entry *e)
{
	e->used = true;
	list_unlink(&e->link);
	list_append(&e->policies->used, &e->link);
}

static bool
is_valid(const struct policy_entry *e)
{
	return e->held != NULL && e->held->expires_at_ms > e->policies->worker->now_wall_ms;
}

struct sts_held *
policies_find(const struct policies *p, struct span domain)
{
	const struct policy_entry *e = find(p, domain);

	return e != NULL && is_valid(e) ? e->held : NULL;
}

/* ---- the file ---- */

static void
load(struct policies *p)
{
	size_t size;
	struct file_identity identity;
	char *memory = file_read(p->path, POLICY_FILE_MAX, &size, &identity);
	struct span text = span_of(memory, size);

	if (memory == NULL)
		return;
	if (policy_file_read_head(&text)) {
		while (text.size > 0) {
			struct sts_held *h = policy_file_read(&text);
			struct policy_entry *e = NULL;
			if (h != NULL && h->expires_at_ms > clock_wall_ms() &&
			    find(p, h->domain) == NULL)
				e = entry_new(p, h->domain);
			if (e != NULL)
				set_held(e, h);
			else if (h != NULL)
				sts_held_put(h);
		}
	}
	free(memory);
}

static void on_saved(struct web_job *j);

static void
save(struct policies *p)
{
	size_t size = sizeof "ringpost-sts 1\n";

	if (!p->changed || p->saving || p->web == NULL)
		return;
	for (struct list_node *n = list_first(&p->used); n != NULL; n = list_next(&p->used, n)) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, link);
		size += e->held != NULL ? policy_file_size(e->held) : 0;
	}
	uint8_t *memory = malloc(size);
	if (memory == NULL)
		return;
	struct buf text = buf_of(memory, size);
	policy_file_head(&text);
	for (struct list_node *n = list_first(&p->used); n != NULL; n = list_next(&p->used, n)) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, link);
		if (e->held != NULL)
			policy_file_line(e->held, &text);
	}
	ASSERT(!text.overflow);
	p->save = (struct web_job){
		.kind = WEB_SAVE,
		.on_done = on_saved,
		.path = p->path,
		.body = buf_span(&text),
	};
	p->saving = web_submit(p->web, &p->save);
	p->changed = !p->saving;
	if (!p->saving)
		free(memory);
}

static void
check_stopped(struct policies *p)
{
	if (p->stopping)
		worker_soon(p->worker, &p->stop_check);
}

static void
on_saved(struct web_job *j)
{
	struct policies *p = CONTAINER_OF(j, struct policies, save);

	free((void *)(uintptr_t)j->body.data);
	p->saving = false;
	if (j->outcome != WEB_OK)
		event_problem(p->worker->log,
			      &(struct event_problem){
				      .what = SPAN("keep the policies of domains (MTA-STS)"),
				      .error = span_of_string(j->why),
				      .remedy = SPAN("make the directory of the spool writable, or "
						     "make room on its disk"),
			      });
	if (p->changed && !timer_is_set(&p->save_soon))
		timer_set(&p->worker->timers, &p->save_soon, p->worker->now_ms + SAVE_AFTER_MS);
	check_stopped(p);
}

static void
on_save_soon(struct timer *t)
{
	save(CONTAINER_OF(t, struct policies, save_soon));
}

static void
note_change(struct policies *p)
{
	p->changed = true;
	show_numbers(p);
	if (!timer_is_set(&p->save_soon) && !p->saving)
		timer_set(&p->worker->timers, &p->save_soon, p->worker->now_ms + SAVE_AFTER_MS);
}

/* ---- answers ---- */

static void
count_answer(const struct policies *p, const struct sts_question *q, bool is_pending)
{
	static const unsigned labels[] = {
		[STS_NONE] = LABEL_STS_ANSWER_NONE,
		[STS_TESTING] = LABEL_STS_ANSWER_TESTING,
		[STS_ENFORCE] = LABEL_STS_ANSWER_ENFORCE,
	};

	METRIC_ADD_LABEL(metrics_of(p), STS_ANSWERS,
			 q->policy != NULL ? labels[q->policy->mode]
			 : is_pending      ? LABEL_STS_ANSWER_UNKNOWN
					   : LABEL_STS_ANSWER_NO_POLICY,
			 1);
}

/* `held` NULL: there is none, or none that could be had (is_pending). */
static void
answer(struct policies *p, struct sts_question *q, struct sts_held *held, bool is_pending,
       uint64_t again_ms)
{
	q->policy = held == NULL ? NULL : sts_held_get(held);
	q->again_ms = again_ms;
	count_answer(p, q, is_pending);
	q->message.on_message = q->on_answered;
	worker_post(p->worker, q->from, &q->message);
}

static void
answer_all(struct policy_entry *e, struct sts_held *held, uint64_t again_ms)
{
	struct list_node *n;

	timer_stop(&e->policies->worker->timers, &e->patience);
	while ((n = list_shift(&e->waiting)) != NULL)
		answer(e->policies, LIST_ITEM(n, struct sts_question, link), held, true, again_ms);
}

static void
on_patience(struct timer *t)
{
	struct policy_entry *e = CONTAINER_OF(t, struct policy_entry, patience);

	answer_all(e, is_valid(e) ? e->held : NULL, PENDING_AGAIN_MS);
}

/* ---- fetches ---- */

static void
log_fetched(struct policy_entry *e, const struct sts_held *before, const struct fetch_result *r)
{
	char memory[HOSTS_SHOWN];
	struct buf hosts = buf_of(memory, sizeof memory);
	const struct sts_held *h = e->held;

	for (unsigned i = 0; i < h->pattern_count; i++) {
		size_t mark = hosts.size;
		buf_append_string(&hosts, i > 0 ? ", " : "");
		if (!buf_append(&hosts, h->patterns[i])) {
			hosts.size = mark;
			break;
		}
	}
	event_sts_fetched(e->policies->worker->log,
			  &(struct event_sts_fetched){
				  .domain = e->domain,
				  .policy = h->id,
				  .mode = span_of_string(sts_mode_label(h->mode)),
				  .hosts = buf_span(&hosts),
				  .max_age = h->max_age_s * (uint64_t)1000,
				  .before = before == NULL ? span_none() : before->id,
				  .duration = r->duration_ms,
			  });
}

static void
take_policy(struct policy_entry *e, const struct fetch_result *r)
{
	struct policies *p = e->policies;
	struct sts_held *before = e->held == NULL ? NULL : sts_held_get(e->held);
	struct sts_held *h = sts_held_new(e->domain, r->id, r->policy, p->worker->now_wall_ms);

	METRIC_ADD_LABEL(metrics_of(p), STS_FETCHES, LABEL_STS_FETCH_OK, 1);
	e->not_before_ms = 0;
	e->used = !list_is_empty(&e->waiting);
	if (h != NULL) {
		set_held(e, h);
		log_fetched(e, before, r);
		note_change(p);
	}
	if (before != NULL)
		sts_held_put(before);
	/* Also one whose max_age is over at once: this once. */
	answer_all(e, e->held, UINT64_MAX);
	make_room(p, 0, options_of(p)->cache_size);
	show_numbers(p);
}

static void
take_failure(struct policy_entry *e, const struct fetch_result *r)
{
	static const unsigned labels[] = {
		[FETCH_UNREACHABLE] = LABEL_STS_FETCH_FETCH_ERROR,
		[FETCH_INVALID] = LABEL_STS_FETCH_INVALID,
		[FETCH_UNTRUSTED] = LABEL_STS_FETCH_WEBPKI,
	};
	struct policies *p = e->policies;
	uint64_t pause_ms = options_of(p)->retry_ms;

	METRIC_ADD_LABEL(metrics_of(p), STS_FETCHES, labels[r->outcome], 1);
	e->not_before_ms = p->worker->now_ms + pause_ms;
	event_sts_failed(p->worker->log,
			 &(struct event_sts_failed){
				 .domain = e->domain,
				 .policy = r->id,
				 .result = span_of_string(fetch_result_type(r->outcome)),
				 .error = r->why,
				 .kept = is_valid(e) ? e->held->id : span_none(),
				 .pause = pause_ms,
			 });
	reports_note(&p->control->reports, e->domain, TALLY_STS, fetch_result_type(r->outcome),
		     r->why);
	answer_all(e, is_valid(e) ? e->held : NULL, pause_ms);
}

static void
tell_watches(struct policy_entry *e, enum policy_end end, struct span why)
{
	struct list_node *n;

	while ((n = list_shift(&e->watches)) != NULL) {
		struct policy_watch *w = LIST_ITEM(n, struct policy_watch, link);
		w->on_done(w, end, e, why);
	}
}

static void
tell_end(struct policy_entry *e, const struct fetch_result *r)
{
	enum policy_end end = r->outcome == FETCH_OK          ? POLICY_FETCHED
			      : r->outcome == FETCH_NO_RECORD ? POLICY_NO_RECORD
							      : POLICY_FAILED;

	tell_watches(e, end, r->why);
}

/* Nobody waits for it any more. */
static void
give_up(struct policy_entry *e)
{
	answer_all(e, is_valid(e) ? e->held : NULL, PENDING_AGAIN_MS);
	tell_watches(e, POLICY_GIVEN_UP, span_none());
}

static void fetch_next(struct policies *p);

static void
on_fetched(struct policy_entry *e, const struct fetch_result *r)
{
	struct policies *p = e->policies;

	ASSERT(p->fetching > 0);
	p->fetching--;
	e->fetch = NULL;
	set_id(e, r->id);
	if (p->stopping || r->outcome == FETCH_NO_RECORD)
		answer_all(e, is_valid(e) ? e->held : NULL, PENDING_AGAIN_MS);
	else if (r->outcome == FETCH_OK)
		take_policy(e, r);
	else
		take_failure(e, r);
	tell_end(e, r);
	fetch_next(p);
	check_stopped(p);
}

static void
fetch_next(struct policies *p)
{
	struct list_node *n;

	while (!p->stopping && p->fetching < FETCHES_MAX && (n = list_shift(&p->line)) != NULL) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, line);
		p->turn = (p->turn + 1) % p->crew_count;
		e->fetch = fetch_start(p, e->domain, span_of(e->id, e->id_size), e->is_refresh,
				       p->turn, e, on_fetched);
		if (e->fetch != NULL)
			p->fetching++;
		else
			give_up(e);
	}
}

/* To refresh it is to ask for its record, too. */
static void
want(struct policy_entry *e, struct span id, bool is_refresh)
{
	struct policies *p = e->policies;

	if (e->fetch != NULL || list_is_linked(&e->line) || p->web == NULL || p->stopping)
		return;
	set_id(e, id);
	e->is_refresh = is_refresh;
	e->refreshed_ms = p->worker->now_ms;
	list_append(&p->line, &e->line);
	fetch_next(p);
}

/* ---- refreshing ---- */

static uint64_t
refresh_after_ms(const struct policy_entry *e)
{
	uint64_t half_ms = e->held->max_age_s * (uint64_t)500;
	uint64_t refresh_ms = options_of(e->policies)->refresh_ms;

	return half_ms < refresh_ms ? half_ms : refresh_ms;
}

static bool
needs_refresh(const struct policy_entry *e)
{
	const struct worker *w = e->policies->worker;

	/* A clock that was set back makes a policy neither new nor old. */
	return e->used && is_valid(e) && is_idle(e) && w->now_ms >= e->not_before_ms &&
	       w->now_wall_ms >= e->held->fetched_at_ms &&
	       w->now_wall_ms - e->held->fetched_at_ms >= refresh_after_ms(e) &&
	       (e->refreshed_ms == 0 || w->now_ms - e->refreshed_ms >= refresh_after_ms(e));
}

static void
on_tick(struct timer *t)
{
	struct policies *p = CONTAINER_OF(t, struct policies, tick);
	uint64_t next_ms = options_of(p)->refresh_ms / 4;
	struct list_node *n = list_first(&p->used);
	bool gone = false;

	while (n != NULL && !p->stopping) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, link);
		n = list_next(&p->used, n);
		if (needs_refresh(e)) {
			want(e, e->held->id, true);
		} else if (!is_valid(e) && is_idle(e) && e->not_before_ms <= p->worker->now_ms) {
			gone |= e->held != NULL;
			entry_free(e);
		}
	}
	if (gone)
		note_change(p);
	show_numbers(p);
	next_ms = next_ms > TICK_MOST_MS ? TICK_MOST_MS : next_ms;
	next_ms = next_ms < TICK_LEAST_MS ? TICK_LEAST_MS : next_ms;
	timer_set(&p->worker->timers, t, p->worker->now_ms + next_ms);
}

/* ---- questions ---- */

static void
wait_for_fetch(struct policy_entry *e, struct sts_question *q)
{
	struct policies *p = e->policies;

	list_append(&e->waiting, &q->link);
	if (!timer_is_set(&e->patience))
		timer_set(&p->worker->timers, &e->patience,
			  p->worker->now_ms + options_of(p)->first_wait_ms);
}

/* The record names a policy that is not the one at hand. */
static void
answer_new(struct policies *p, struct policy_entry *e, struct sts_question *q)
{
	struct span id = span_of(q->id, q->id_size);
	struct sts_held *valid = e != NULL && is_valid(e) ? e->held : NULL;
	bool is_same = e != NULL && span_eq(span_of(e->id, e->id_size), id);

	if (e != NULL && is_same && p->worker->now_ms < e->not_before_ms) {
		answer(p, q, valid, true, e->not_before_ms - p->worker->now_ms);
		return;
	}
	if (e != NULL)
		want(e, id, false);
	/* fetch_next() may have given up for want of memory. */
	bool waits = e != NULL && !is_idle(e) && !p->stopping;
	if (waits && options_of(p)->first_wait_ms > 0)
		wait_for_fetch(e, q);
	else
		answer(p, q, valid, true, PENDING_AGAIN_MS);
}

static void
on_question(struct message *m, void *context)
{
	struct sts_question *q = CONTAINER_OF(m, struct sts_question, message);
	struct worker *w = context;
	struct policies *p = &CONTAINER_OF(w, struct control, worker)->policies;
	struct span domain = span_of(q->domain, q->domain_size);
	struct span id = span_of(q->id, q->id_size);
	struct policy_entry *e = find(p, domain);
	bool valid = e != NULL && is_valid(e);

	if (e != NULL)
		use(e);
	if (id.size == 0 || p->stopping || (valid && span_eq(id, e->held->id))) {
		if (valid && needs_refresh(e))
			want(e, e->held->id, true);
		answer(p, q, valid ? e->held : NULL, false, UINT64_MAX);
		return;
	}
	/* It becomes a part of a URL. */
	if (e == NULL && sts_pattern_is_valid(domain))
		e = find_or_make(p, domain);
	answer_new(p, e, q);
}

bool
policies_refresh(struct policies *p, struct span domain, struct policy_watch *w)
{
	if (p->web == NULL || p->stopping || domain.data[0] == '*' || !sts_pattern_is_valid(domain))
		return false;
	struct policy_entry *e = find_or_make(p, domain);
	if (e == NULL)
		return false;
	list_append(&e->watches, &w->link);
	/* The record says what its id is; "-" is none that a record can have. */
	want(e, e->held != NULL ? e->held->id : SPAN("-"), true);
	return true;
}

/* ---- start and end ---- */

void
policies_init(struct policies *p, struct control *c, uint64_t seed, struct span directory)
{
	*p = (struct policies){ .control = c, .worker = &c->worker, .seed = seed };
	p->source = (struct sts_source){ &c->worker, on_question };
	p->crew_count = c->crew_count;
	list_init(&p->used);
	list_init(&p->line);
	timer_init(&p->tick, on_tick);
	timer_init(&p->save_soon, on_save_soon);
	snprintf(p->path, sizeof p->path, "%.*s/sts", SPAN_ARG(directory));
	load(p);
}

void
policies_fini(struct policies *p)
{
	struct list_node *n;

	while ((n = list_first(&p->used)) != NULL)
		entry_free(LIST_ITEM(n, struct policy_entry, link));
}

static void
on_stop_check(struct task *t)
{
	struct policies *p = CONTAINER_OF(t, struct policies, stop_check);

	if (p->fetching > 0 || p->saving || p->on_stopped == NULL)
		return;
	if (p->changed && p->web != NULL) {
		save(p);
		if (p->saving)
			return;
	}
	void (*on_stopped)(struct policies *) = p->on_stopped;
	p->on_stopped = NULL;
	on_stopped(p);
}

void
policies_start(struct policies *p, struct web *web)
{
	p->web = web;
	asker_init(&p->asker, p->worker, p->control->crew);
	task_init(&p->stop_check, on_stop_check);
	show_numbers(p);
	on_tick(&p->tick);
}

void
policies_drain(struct policies *p)
{
	struct list_node *n;

	p->stopping = true;
	while ((n = list_shift(&p->line)) != NULL) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, line);
		give_up(e);
	}
	for (n = list_first(&p->used); n != NULL; n = list_next(&p->used, n)) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, link);
		give_up(e);
		if (e->fetch != NULL)
			fetch_cancel(e->fetch);
	}
	if (p->web != NULL)
		web_cut(p->web);
}

void
policies_stop(struct policies *p, void (*on_stopped)(struct policies *p))
{
	ASSERT(p->stopping);
	p->on_stopped = on_stopped;
	timer_stop(&p->worker->timers, &p->tick);
	timer_stop(&p->worker->timers, &p->save_soon);
	check_stopped(p);
}
