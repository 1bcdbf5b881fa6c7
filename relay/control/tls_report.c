/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/tls_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	FORMAT = 1,
	HTTPS_PORT = 443,
	DAY_TEXT = 16,
	TIME_TEXT = 32,
	WHY_MAX = 200,
	STRINGS_MAX = 16,
};

/* ---- where to ---- */

static bool
is_rua_of(struct span field, struct span *uris)
{
	size_t equals = span_find(field, '=', 0);

	if (!span_eq(span_first(field, equals), SPAN("rua")))
		return false;
	*uris = span_after(field, equals + 1);
	return true;
}

/* The value of `rua`; empty where the record is broken. is_other: it is none of TLS reports. */
static struct span
read_record(struct span text, bool *is_other)
{
	struct span version = SPAN("v=TLSRPTv1");
	struct span uris = span_none();
	size_t at = span_find(text, ';', 0);

	*is_other = !span_starts_with(text, version) || at == text.size ||
		    span_trim(span_after(span_first(text, at), version.size)).size > 0;
	while (!*is_other && at < text.size) {
		size_t end = span_find(text, ';', at + 1);
		struct span field = span_trim(span_of(text.data + at + 1, end - at - 1));
		at = end;
		if (field.size == 0 && end == text.size)
			break;
		if (span_find(field, '=', 0) == field.size)
			return span_none();
		if (uris.size == 0 && is_rua_of(field, &uris) && uris.size == 0)
			return span_none();
	}
	return uris;
}

unsigned
tls_report_uris(const struct span *texts, size_t count, struct span uris[TLS_REPORT_URIS_MAX])
{
	struct span found = span_none();
	unsigned records = 0, n = 0;

	for (size_t i = 0; i < count; i++) {
		bool is_other;
		struct span one = read_record(texts[i], &is_other);
		records += !is_other;
		if (!is_other)
			found = one;
	}
	if (records != 1)
		return 0;
	for (size_t at = 0; at < found.size && n < TLS_REPORT_URIS_MAX;) {
		size_t end = span_find(found, ',', at);
		struct span uri = span_trim(span_of(found.data + at, end - at));
		at = end + 1;
		if (uri.size > 0)
			uris[n++] = uri;
	}
	return n;
}

static bool
is_host_byte(uint8_t c)
{
	uint8_t lower = ascii_lower(c);

	return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
}

bool
tls_report_url(struct span uri, struct tls_report_url *out)
{
	struct span scheme = SPAN("https://");
	uint64_t port = HTTPS_PORT;

	if (uri.size >= sizeof out->url || !span_eq_nocase(span_first(uri, scheme.size), scheme))
		return false;
	for (size_t i = 0; i < uri.size; i++) {
		if (uri.data[i] <= ' ' || uri.data[i] >= 0x7f)
			return false;
	}
	struct span rest = span_after(uri, scheme.size);
	size_t end = 0;
	while (end < rest.size && is_host_byte(rest.data[end]))
		end++;
	struct span host = span_first(rest, end);
	rest = span_after(rest, end);
	if (host.size == 0 || host.size >= sizeof out->host)
		return false;
	if (rest.size > 0 && rest.data[0] == ':') {
		end = 1;
		while (end < rest.size && rest.data[end] >= '0' && rest.data[end] <= '9')
			end++;
		if (!span_to_u64(span_of(rest.data + 1, end - 1), &port))
			return false;
		rest = span_after(rest, end);
	}
	/* Nothing else may follow a host: no user, no second host behind an @. */
	if (port == 0 || port > UINT16_MAX ||
	    (rest.size > 0 && rest.data[0] != '/' && rest.data[0] != '?'))
		return false;
	snprintf(out->url, sizeof out->url, "%.*s", SPAN_ARG(uri));
	snprintf(out->host, sizeof out->host, "%.*s", SPAN_ARG(host));
	out->port = (uint16_t)port;
	return true;
}

/* ---- what was counted ---- */

static void
show_day(unsigned day, char out[DAY_TEXT])
{
	snprintf(out, DAY_TEXT, "%u", day);
}

json_t *
tls_results_new(void)
{
	return json_pack("{s:i, s:{}}", "format", FORMAT, "days");
}

json_t *
tls_results_parse(struct span text)
{
	json_t *all = json_loadb((const char *)text.data, text.size, 0, NULL);

	if (json_integer_value(json_object_get(all, "format")) == FORMAT &&
	    json_is_object(json_object_get(all, "days")))
		return all;
	json_decref(all);
	return NULL;
}

char *
tls_results_text(const json_t *all)
{
	return json_dumps(all, JSON_COMPACT);
}

json_t *
tls_results_day(const json_t *all, unsigned day)
{
	char key[DAY_TEXT];

	show_day(day, key);
	return json_object_get(json_object_get(all, "days"), key);
}

/* The object under this key; made where there is none and `most` are not reached. */
static json_t *
get_object(json_t *in, const char *key, size_t size, size_t most)
{
	json_t *found = json_object_getn(in, key, size);

	if (found != NULL)
		return json_is_object(found) ? found : NULL;
	if (json_object_size(in) >= most)
		return NULL;
	found = json_object();
	/* On failure it is freed. */
	return json_object_setn_new(in, key, size, found) == 0 ? found : NULL;
}

static bool
add_number(json_t *in, const char *key, uint64_t number)
{
	json_int_t sum = json_integer_value(json_object_get(in, key)) + (json_int_t)number;

	return json_object_set_new(in, key, json_integer(sum)) == 0;
}

static json_t *
text_of(struct span s)
{
	/* What is not UTF-8 has no place in JSON. */
	json_t *text = json_stringn((const char *)s.data, s.size);

	return text != NULL ? text : json_string("");
}

static void
set_text(json_t *in, const char *key, struct span s)
{
	if (s.size > 0)
		json_object_set_new(in, key, text_of(s));
}

static bool
has_text(const json_t *in, const char *key, struct span s)
{
	const json_t *text = json_object_get(in, key);

	return span_eq(span_of(json_string_value(text), json_string_length(text)), s);
}

/* The detail of this kind of failure; made where there is room. */
static json_t *
find_failure(json_t *policy, const struct tls_result *r)
{
	json_t *failures = json_object_get(policy, "failures");
	json_t *one;
	size_t i;

	if (failures == NULL) {
		failures = json_array();
		if (json_object_set_new(policy, "failures", failures) != 0)
			return NULL;
	}
	json_array_foreach(failures, i, one)
	{
		if (has_text(one, "result", span_of_string(r->result)) &&
		    has_text(one, "host", r->host) && has_text(one, "ip", r->ip) &&
		    has_text(one, "from", r->from))
			return one;
	}
	if (json_array_size(failures) >= TLS_REPORT_DETAILS_MAX)
		return NULL;
	one = json_object();
	if (json_array_append_new(failures, one) != 0)
		return NULL;
	set_text(one, "result", span_of_string(r->result));
	set_text(one, "host", r->host);
	set_text(one, "ip", r->ip);
	set_text(one, "from", r->from);
	set_text(one, "why", span_first(r->why, WHY_MAX));
	return one;
}

static void
add_strings(json_t *policy, struct span lines)
{
	json_t *strings;

	if (lines.size == 0 || json_object_get(policy, "strings") != NULL)
		return;
	strings = json_array();
	for (size_t at = 0; at < lines.size && json_array_size(strings) < STRINGS_MAX;) {
		size_t end = span_find(lines, '\n', at);
		json_array_append_new(strings, text_of(span_of(lines.data + at, end - at)));
		at = end + 1;
	}
	json_object_set_new(policy, "strings", strings);
}

bool
tls_results_add(json_t *all, unsigned day, const struct tls_result *r)
{
	char key[DAY_TEXT];

	show_day(day, key);
	json_t *of_day =
		get_object(json_object_get(all, "days"), key, strlen(key), TLS_REPORT_DAYS_MAX);
	json_t *domain = of_day == NULL ? NULL
					: get_object(of_day, (const char *)r->domain.data,
						     r->domain.size, TLS_REPORT_DOMAINS_MAX);
	json_t *policies = domain == NULL ? NULL : get_object(domain, "policies", 8, 2);
	json_t *policy = policies == NULL ? NULL
					  : get_object(policies, (const char *)r->policy.data,
						       r->policy.size, 3);
	if (policy == NULL)
		return false;
	add_strings(policy, r->strings);
	if (r->result == NULL)
		return add_number(policy, "ok", r->sessions);
	json_t *failure = find_failure(policy, r);
	bool detailed = failure != NULL && add_number(failure, "count", r->sessions);
	return add_number(policy, "bad", r->sessions) && detailed;
}

void
tls_results_drop_day(json_t *all, unsigned day)
{
	char key[DAY_TEXT];

	show_day(day, key);
	json_object_del(json_object_get(all, "days"), key);
}

/* ---- the report ---- */

static json_t *
time_of(uint64_t seconds)
{
	char text[TIME_TEXT];
	time_t t = (time_t)seconds;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(text);
}

static json_t *
list_of(const struct span *items, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, text_of(items[i]));
	return list;
}

static json_t *
compose_policy(const struct tls_report_head *head, const char *type, const json_t *counted)
{
	json_t *policy = json_object();
	json_t *strings = json_object_get(counted, "strings");

	json_object_set_new(policy, "policy-type", json_string(type));
	if (strcmp(type, "sts") == 0 && head->sts_string_count > 0)
		json_object_set_new(policy, "policy-string",
				    list_of(head->sts_strings, head->sts_string_count));
	else if (strings != NULL)
		json_object_set(policy, "policy-string", strings);
	json_object_set_new(policy, "policy-domain", text_of(head->domain));
	if (strcmp(type, "sts") == 0 && head->sts_host_count > 0)
		json_object_set_new(policy, "mx-host",
				    list_of(head->sts_hosts, head->sts_host_count));
	return policy;
}

static void
copy_text(json_t *to, const char *name, const json_t *from, const char *key)
{
	json_t *text = json_object_get(from, key);

	if (text != NULL)
		json_object_set(to, name, text);
}

static json_t *
compose_failures(const json_t *failures)
{
	json_t *list = json_array();
	json_t *one;
	size_t i;

	json_array_foreach(failures, i, one)
	{
		json_t *detail = json_object();
		copy_text(detail, "result-type", one, "result");
		copy_text(detail, "sending-mta-ip", one, "from");
		copy_text(detail, "receiving-mx-hostname", one, "host");
		copy_text(detail, "receiving-ip", one, "ip");
		copy_text(detail, "failed-session-count", one, "count");
		copy_text(detail, "failure-reason-code", one, "why");
		json_array_append_new(list, detail);
	}
	return list;
}

static json_t *
compose_one(const struct tls_report_head *head, const char *type, const json_t *counted)
{
	json_t *failures = json_object_get(counted, "failures");
	json_t *one = json_object();
	json_t *summary = json_object();

	add_number(summary, "total-successful-session-count",
		   (uint64_t)json_integer_value(json_object_get(counted, "ok")));
	add_number(summary, "total-failure-session-count",
		   (uint64_t)json_integer_value(json_object_get(counted, "bad")));
	json_object_set_new(one, "policy", compose_policy(head, type, counted));
	json_object_set_new(one, "summary", summary);
	if (json_array_size(failures) > 0)
		json_object_set_new(one, "failure-details", compose_failures(failures));
	return one;
}

char *
tls_report_compose(const struct tls_report_head *head, const json_t *results)
{
	json_t *report = json_object();
	json_t *range = json_object();
	json_t *policies = json_array();
	json_t *counted;
	const char *type;

	json_object_set_new(range, "start-datetime", time_of(head->start_s));
	json_object_set_new(range, "end-datetime", time_of(head->end_s));
	json_object_foreach(json_object_get(results, "policies"), type, counted)
	{
		json_array_append_new(policies, compose_one(head, type, counted));
	}
	json_object_set_new(report, "organization-name", text_of(head->organization));
	json_object_set_new(report, "date-range", range);
	json_object_set_new(report, "contact-info", text_of(head->contact));
	json_object_set_new(report, "report-id", json_string(head->id));
	json_object_set_new(report, "policies", policies);
	char *text = json_dumps(report, JSON_COMPACT);
	json_decref(report);
	return text;
}
