/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/fetch.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "relay/control/control.h"
#include "relay/control/lookup.h"
#include "relay/control/policies.h"

enum {
	HTTPS_PORT = 443,
	NAME_SIZE = LOOKUP_NAME_MAX,
	URL_SIZE = NAME_SIZE + 64,
	CA_SIZE = 4096,
	WHY_SIZE = 512,
};

struct fetch {
	struct lookup lookup;
	struct policies *policies;
	struct policy_entry *owner;
	void (*on_done)(struct policy_entry *owner, const struct fetch_result *r);
	uint64_t began_ms;

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
	lookup_fini(&f->lookup);
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

/* ---- the addresses ---- */

static void
take_addresses(struct fetch *f, const struct dns_answer *a)
{
	for (unsigned i = 0; i < a->count && f->job.address_count < WEB_ADDRESSES_MAX; i++)
		f->job.addresses[f->job.address_count++] = a->records[i].address;
	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		buf_printf(&f->why, "%s%.*s: %.*s", f->why.size > 0 ? "; " : "", SPAN_ARG(a->name),
			   SPAN_ARG(span_first(a->why, 150)));
}

/* False: there is none, for certain. */
static bool
take_record(struct fetch *f, const struct dns_answer *a)
{
	struct span texts[DNS_RECORDS_MAX];
	struct span id;

	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		return true;
	for (unsigned i = 0; i < a->count; i++)
		texts[i] = a->records[i].data;
	if (!sts_records_find(texts, a->count, &id))
		return false;
	f->id_size = (uint8_t)id.size;
	memcpy(f->id, id.data, id.size);
	return true;
}

static void
on_resolved(struct lookup *l)
{
	struct fetch *f = CONTAINER_OF(l, struct fetch, lookup);
	bool has_record = true;

	for (unsigned i = 0; i < l->count; i++) {
		const struct dns_answer *answer = l->questions[i].answer;
		if (answer == NULL)
			continue;
		if (l->questions[i].type == DNS_TXT)
			has_record = take_record(f, answer);
		else
			take_addresses(f, answer);
	}
	if (!has_record) {
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
	lookup_init(&f->lookup, on_resolved);
	lookup_add(&f->lookup, "mta-sts.", domain, DNS_AAAA);
	lookup_add(&f->lookup, "mta-sts.", domain, DNS_A);
	if (is_refresh)
		lookup_add(&f->lookup, "_mta-sts.", domain, DNS_TXT);
	lookup_start(&f->lookup, &p->asker, worker);
	return f;
}

void
fetch_cancel(struct fetch *f)
{
	lookup_cancel(&f->lookup);
}
