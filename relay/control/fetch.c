/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/fetch.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "dns/resolver.h"
#include "relay/control/control.h"
#include "relay/control/policies.h"

enum {
	CANCEL_CHECK_MS = 100,
	HTTPS_PORT = 443,
	NAME_SIZE = DNS_NAME_MAX + 32,
	URL_SIZE = NAME_SIZE + 64,
	CA_SIZE = 4096,
	WHY_SIZE = 512,
};

enum { ASK_V6, ASK_V4, ASK_TXT, ASKS };

struct fetch {
	struct ask ask;
	struct ask_part part;
	struct policies *policies;
	struct policy_entry *owner;
	void (*on_done)(struct policy_entry *owner, const struct fetch_result *r);
	uint64_t began_ms;

	/* The worker's, until the ask is back. */
	struct dns_query queries[ASKS];
	unsigned open; /* bit mask of them */
	bool asked;
	struct timer check; /* whether it was cancelled */
	bool is_refresh;
	bool has_record;
	bool no_record; /* for certain */

	struct span domain; /* the owner's */
	uint8_t id_size;
	char id[STS_ID_MAX];
	struct web_job job;
	char host[NAME_SIZE];
	char url[URL_SIZE];
	char ca_file[CA_SIZE];
	struct buf why;
	char why_memory[WHY_SIZE];
	struct sts_policy policy;
	uint8_t text[STS_TEXT_MAX];
};

const char *
fetch_result_type(enum fetch_outcome o)
{
	switch (o) {
	case FETCH_INVALID:
		return "sts-policy-invalid";
	case FETCH_UNTRUSTED:
		return "sts-webpki-invalid";
	default:
		return "sts-policy-fetch-error";
	}
}

static void
finish(struct fetch *f, enum fetch_outcome outcome)
{
	struct fetch_result r = {
		.outcome = outcome,
		.id = span_of(f->id, f->id_size),
		.policy = outcome == FETCH_OK ? &f->policy : NULL,
		.why = buf_span(&f->why),
		.duration_ms = clock_monotonic_ms() - f->began_ms,
	};

	f->on_done(f->owner, &r);
	free(f);
}

/* ---- the text ---- */

/* text/plain, whatever its parameters. */
static bool
is_plain_text(const char *type)
{
	struct span text = span_of_string(type);

	return span_eq_nocase(span_trim(span_first(text, span_find(text, ';', 0))),
			      SPAN("text/plain"));
}

static enum fetch_outcome
judge(struct fetch *f, const struct web_job *j)
{
	if (j->outcome != WEB_OK) {
		buf_printf(&f->why, "%s: %s", f->url, j->why);
		return j->outcome == WEB_BAD_CERTIFICATE ? FETCH_UNTRUSTED : FETCH_UNREACHABLE;
	}
	if (j->status != 200) {
		buf_printf(&f->why, "%s: status %u%s", f->url, j->status,
			   j->status / 100 == 3 ? ", and redirects are not followed" : "");
		return FETCH_UNREACHABLE;
	}
	if (!is_plain_text(j->content_type_in)) {
		buf_printf(&f->why, "%s: its type is %s, not text/plain", f->url,
			   j->content_type_in[0] == '\0' ? "missing" : j->content_type_in);
		return FETCH_UNREACHABLE;
	}
	buf_printf(&f->why, "%s: ", f->url);
	return sts_policy_parse(buf_span(&j->text), &f->policy, &f->why) ? FETCH_OK : FETCH_INVALID;
}

static void
on_got(struct web_job *j)
{
	struct fetch *f = CONTAINER_OF(j, struct fetch, job);

	finish(f, judge(f, j));
}

/* ---- the addresses, on a worker ---- */

static void
take_addresses(struct fetch *f, const struct dns_answer *a)
{
	for (unsigned i = 0; i < a->count && f->job.address_count < WEB_ADDRESSES_MAX; i++)
		f->job.addresses[f->job.address_count++] = a->records[i].address;
	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		buf_printf(&f->why, "%s%.*s: %.*s", f->why.size > 0 ? "; " : "", SPAN_ARG(a->name),
			   SPAN_ARG(span_first(a->why, 150)));
}

static void
take_record(struct fetch *f, const struct dns_answer *a)
{
	struct span texts[DNS_RECORDS_MAX];
	struct span id;

	for (unsigned i = 0; i < a->count; i++)
		texts[i] = a->records[i].data;
	f->has_record = a->outcome == DNS_FOUND && sts_records_find(texts, a->count, &id);
	f->no_record = !f->has_record && a->outcome != DNS_FAILED && a->outcome != DNS_BOGUS;
	if (!f->has_record)
		return;
	f->id_size = (uint8_t)id.size;
	memcpy(f->id, id.data, id.size);
}

static void
end_asks(struct fetch *f)
{
	timer_stop(&ask_worker(&f->part)->timers, &f->check);
	ask_resume(&f->part);
}

static void
on_answer(struct fetch *f, unsigned which, const struct dns_answer *a)
{
	f->open &= ~(1u << which);
	if (which == ASK_TXT)
		take_record(f, a);
	else
		take_addresses(f, a);
	if (f->open == 0)
		end_asks(f);
}

static void
on_v6(struct dns_query *q, struct dns_answer *a)
{
	on_answer(CONTAINER_OF(q, struct fetch, queries[ASK_V6]), ASK_V6, a);
}

static void
on_v4(struct dns_query *q, struct dns_answer *a)
{
	on_answer(CONTAINER_OF(q, struct fetch, queries[ASK_V4]), ASK_V4, a);
}

static void
on_txt(struct dns_query *q, struct dns_answer *a)
{
	on_answer(CONTAINER_OF(q, struct fetch, queries[ASK_TXT]), ASK_TXT, a);
}

/* A relay that ends does not wait for the DNS. */
static void
on_check(struct timer *t)
{
	struct fetch *f = CONTAINER_OF(t, struct fetch, check);
	struct worker *w = ask_worker(&f->part);

	if (!ask_is_cancelled(&f->part)) {
		timer_set(&w->timers, t, w->now_ms + CANCEL_CHECK_MS);
		return;
	}
	for (unsigned i = 0; i < ASKS; i++) {
		if ((f->open >> i & 1) != 0)
			resolver_cancel(&f->queries[i]);
	}
	f->open = 0;
	ask_resume(&f->part);
}

static void
ask_one(struct fetch *f, unsigned which, struct span name, enum dns_type type,
	void (*on_done)(struct dns_query *q, struct dns_answer *a))
{
	f->queries[which] = (struct dns_query){ .on_done = on_done };
	f->open |= 1u << which;
	resolver_ask(ask_worker(&f->part)->resolver, &f->queries[which], name, type);
}

static enum ask_step
resolve_slice(struct ask_part *part, uint64_t slice_us)
{
	struct fetch *f = CONTAINER_OF(part->ask, struct fetch, ask);
	struct worker *w = ask_worker(part);
	char memory[NAME_SIZE];
	struct buf record = buf_of(memory, sizeof memory);
	struct span host = span_of_string(f->host);

	(void)slice_us;
	if (f->asked || ask_is_cancelled(part))
		return ASK_DONE;
	f->asked = true;
	timer_init(&f->check, on_check);
	timer_set(&w->timers, &f->check, w->now_ms + CANCEL_CHECK_MS);
	ask_one(f, ASK_V6, host, DNS_AAAA, on_v6);
	ask_one(f, ASK_V4, host, DNS_A, on_v4);
	if (f->is_refresh) {
		buf_append_string(&record, "_mta-sts.");
		buf_append(&record, f->domain);
		ask_one(f, ASK_TXT, buf_span(&record), DNS_TXT, on_txt);
	}
	return ASK_WAIT;
}

static void
on_resolved(struct ask *a)
{
	struct fetch *f = CONTAINER_OF(a, struct fetch, ask);

	if (f->no_record) {
		finish(f, FETCH_NO_RECORD);
		return;
	}
	if (f->job.address_count == 0) {
		if (f->why.size == 0)
			buf_printf(&f->why, "%s has no address", f->host);
		finish(f, FETCH_UNREACHABLE);
		return;
	}
	buf_reset(&f->why);
	if (web_submit(f->policies->web, &f->job))
		return;
	buf_append_string(&f->why, "too many requests are under way");
	finish(f, FETCH_UNREACHABLE);
}

/* ---- start ---- */

struct fetch *
fetch_start(struct policies *p, struct span domain, struct span id, bool is_refresh,
	    unsigned worker, struct policy_entry *owner,
	    void (*on_done)(struct policy_entry *owner, const struct fetch_result *r))
{
	const struct config_sts *options = &p->control->routing->config->sts;
	struct fetch *f = calloc(1, sizeof *f);
	bool has_ca = options->ca_file.size > 0;

	ASSERT(id.size > 0 && id.size <= STS_ID_MAX && domain.size <= DNS_NAME_MAX);
	if (f == NULL)
		return NULL;
	f->policies = p;
	f->owner = owner;
	f->on_done = on_done;
	f->began_ms = clock_monotonic_ms();
	f->domain = domain;
	f->is_refresh = is_refresh;
	f->id_size = (uint8_t)id.size;
	memcpy(f->id, id.data, id.size);
	f->why = buf_of(f->why_memory, sizeof f->why_memory);
	snprintf(f->host, sizeof f->host, "mta-sts.%.*s", SPAN_ARG(domain));
	snprintf(f->url, sizeof f->url, "https://%s/.well-known/mta-sts.txt", f->host);
	snprintf(f->ca_file, sizeof f->ca_file, "%.*s", has_ca ? (int)options->ca_file.size : 0,
		 has_ca ? (const char *)options->ca_file.data : "");
	f->job = (struct web_job){
		.on_done = on_got,
		.kind = WEB_GET,
		.url = f->url,
		.host = f->host,
		.port = HTTPS_PORT,
		.ca_file = has_ca ? f->ca_file : NULL,
		.timeout_ms = options->timeout_ms,
		.text = buf_of(f->text, sizeof f->text),
	};
	f->ask = (struct ask){
		.on_slice = resolve_slice,
		.on_done = on_resolved,
		.parts = &f->part,
	};
	ask_start(&p->asker, &f->ask, worker, 1);
	return f;
}

void
fetch_cancel(struct fetch *f)
{
	ask_cancel(&f->ask);
}
