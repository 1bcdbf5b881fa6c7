/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses control flow queue dns core machine */
/* Reports about TLS, by section of RFC 8460. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/control/tls_report.h"
#include "relay/flow/tls_tally.h"

static void
records_name_addresses(void **state)
{
	static const struct {
		const char *records[3];
		const char *uris; /* with blanks between */
	} rows[] = {
		{ { "v=TLSRPTv1; rua=mailto:reports@example.com" }, "mailto:reports@example.com" },
		{ { "v=TLSRPTv1;rua=https://r.example/v1,mailto:a@b.example;" },
		  "https://r.example/v1 mailto:a@b.example" },
		{ { "v=TLSRPTv1 ; x=y ; rua= https://a.example , https://b.example ;" },
		  "https://a.example https://b.example" },
		{ { "v=spf1 -all", "v=TLSRPTv1; rua=https://a.example" }, "https://a.example" },
		{ { "v=TLSRPTv1; rua=https://a.example", "v=TLSRPTv1; rua=https://b.example" },
		  "" },
		{ { "v=TLSRPTv1; rua=" }, "" },
		{ { "v=TLSRPTv1; rua" }, "" },
		{ { "v=TLSRPTv1;" }, "" },
		{ { "v=TLSRPTv1" }, "" },
		{ { "v=TLSRPTv2; rua=https://a.example" }, "" },
		{ { "v=TLSRPTv1; RUA=https://a.example" }, "" },
		{ { "" }, "" },
		{ { NULL }, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct span texts[3], uris[TLS_REPORT_URIS_MAX];
		uint8_t memory[500];
		struct buf shown = buf_of(memory, sizeof memory);
		size_t count = 0;
		while (count < 3 && rows[i].records[count] != NULL) {
			texts[count] = span_of_string(rows[i].records[count]);
			count++;
		}
		unsigned found = tls_report_uris(texts, count, uris);
		for (unsigned n = 0; n < found; n++) {
			buf_append_string(&shown, n > 0 ? " " : "");
			buf_append(&shown, uris[n]);
		}
		if (!span_eq(buf_span(&shown), span_of_string(rows[i].uris)))
			fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&shown)));
	}
}

static void
addresses_are_bounded(void **state)
{
	uint8_t memory[1000];
	struct buf text = buf_of(memory, sizeof memory);
	struct span uris[TLS_REPORT_URIS_MAX];

	(void)state;
	buf_append_string(&text, "v=TLSRPTv1; rua=");
	for (unsigned i = 0; i < TLS_REPORT_URIS_MAX + 3; i++)
		buf_append_string(&text, "https://a.example,");
	struct span record = buf_span(&text);
	assert_int_equal(tls_report_uris(&record, 1, uris), TLS_REPORT_URIS_MAX);
}

static void
only_https_is_posted_to(void **state)
{
	static const struct {
		const char *uri;
		const char *host; /* NULL: refused */
		unsigned port;
	} rows[] = {
		{ "https://reports.example/v1/tlsrpt", "reports.example", 443 },
		{ "HTTPS://reports.example", "reports.example", 443 },
		{ "https://reports.example:8443/x?y=z", "reports.example", 8443 },
		{ "https://reports.example?x", "reports.example", 443 },
		{ "http://reports.example/", NULL, 0 },
		{ "mailto:a@reports.example", NULL, 0 },
		{ "https://", NULL, 0 },
		{ "https:///path", NULL, 0 },
		{ "https://user@reports.example/", NULL, 0 },
		{ "https://user:password@reports.example/", NULL, 0 },
		{ "https://reports.example:0/", NULL, 0 },
		{ "https://reports.example:65536/", NULL, 0 },
		{ "https://reports.example:/", NULL, 0 },
		{ "https://[2001:db8::1]/", NULL, 0 },
		{ "https://reports.example/a b", NULL, 0 },
		{ "https://reports.example/\n", NULL, 0 },
		{ "https://reports.example#x", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tls_report_url url;
		bool good = tls_report_url(span_of_string(rows[i].uri), &url);
		if (good != (rows[i].host != NULL))
			fail_msg("%s", rows[i].uri);
		if (!good)
			continue;
		assert_string_equal(url.url, rows[i].uri);
		assert_string_equal(url.host, rows[i].host);
		assert_int_equal(url.port, rows[i].port);
	}
}

static const struct tls_result good = { .domain = { (const uint8_t *)"example.org", 11 },
					.policy = { (const uint8_t *)"sts", 3 },
					.sessions = 5 };

static struct tls_result
failure(const char *result, const char *host, uint64_t sessions)
{
	struct tls_result r = good;

	r.result = result;
	r.host = span_of_string(host);
	r.ip = SPAN("192.0.2.1");
	r.from = SPAN("198.51.100.1");
	r.why = SPAN("certificate has expired");
	r.sessions = sessions;
	return r;
}

static void
add(json_t *all, unsigned day, struct tls_result r)
{
	assert_true(tls_results_add(all, day, &r));
}

static json_int_t
number_at(const json_t *json, const char *a, const char *b)
{
	const json_t *found = json_object_get(json_object_get(json, a), b);

	assert_true(json_is_integer(found));
	return json_integer_value(found);
}

static const char *
text_at(const json_t *json, const char *a, const char *b)
{
	const json_t *found = json_object_get(json, a);

	return json_string_value(b == NULL ? found : json_object_get(found, b));
}

/* RFC 8460 4.4, and the example of 5.4 by its fields. */
static void
reports_have_all_fields(void **state)
{
	static const struct span strings[] = { { (const uint8_t *)"version: STSv1", 14 },
					       { (const uint8_t *)"mode: enforce", 13 } };
	static const struct span hosts[] = { { (const uint8_t *)"*.example.org", 13 } };
	json_t *all = tls_results_new();
	struct tls_report_head head = {
		.organization = SPAN("relay.example"),
		.contact = SPAN("postmaster@relay.example"),
		.domain = SPAN("example.org"),
		.id = "1@relay.example",
		.start_s = 1459468800,
		.end_s = 1459555199,
		.sts_strings = strings,
		.sts_string_count = 2,
		.sts_hosts = hosts,
		.sts_host_count = 1,
	};

	(void)state;
	add(all, 7, good);
	add(all, 7, good);
	add(all, 7, failure("certificate-expired", "mx1.example.org", 2));
	add(all, 7, failure("certificate-expired", "mx1.example.org", 1));
	add(all, 7, failure("starttls-not-supported", "mx1.example.org", 4));
	add(all, 8, good);
	char *text =
		tls_report_compose(&head, json_object_get(tls_results_day(all, 7), "example.org"));
	json_t *report = json_loads(text, 0, NULL);
	assert_non_null(report);
	assert_string_equal(text_at(report, "organization-name", NULL), "relay.example");
	assert_string_equal(text_at(report, "contact-info", NULL), "postmaster@relay.example");
	assert_string_equal(text_at(report, "report-id", NULL), "1@relay.example");
	assert_string_equal(text_at(report, "date-range", "start-datetime"),
			    "2016-04-01T00:00:00Z");
	assert_string_equal(text_at(report, "date-range", "end-datetime"), "2016-04-01T23:59:59Z");
	json_t *policies = json_object_get(report, "policies");
	assert_int_equal(json_array_size(policies), 1);
	json_t *one = json_array_get(policies, 0);
	assert_string_equal(text_at(one, "policy", "policy-type"), "sts");
	assert_string_equal(text_at(one, "policy", "policy-domain"), "example.org");
	json_t *lines = json_object_get(json_object_get(one, "policy"), "policy-string");
	assert_int_equal(json_array_size(lines), 2);
	assert_string_equal(json_string_value(json_array_get(lines, 1)), "mode: enforce");
	json_t *mx = json_object_get(json_object_get(one, "policy"), "mx-host");
	assert_string_equal(json_string_value(json_array_get(mx, 0)), "*.example.org");
	assert_int_equal(number_at(one, "summary", "total-successful-session-count"), 10);
	assert_int_equal(number_at(one, "summary", "total-failure-session-count"), 7);
	json_t *details = json_object_get(one, "failure-details");
	assert_int_equal(json_array_size(details), 2);
	json_t *detail = json_array_get(details, 0);
	assert_string_equal(text_at(detail, "result-type", NULL), "certificate-expired");
	assert_string_equal(text_at(detail, "receiving-mx-hostname", NULL), "mx1.example.org");
	assert_string_equal(text_at(detail, "receiving-ip", NULL), "192.0.2.1");
	assert_string_equal(text_at(detail, "sending-mta-ip", NULL), "198.51.100.1");
	assert_string_equal(text_at(detail, "failure-reason-code", NULL),
			    "certificate has expired");
	assert_int_equal(json_integer_value(json_object_get(detail, "failed-session-count")), 3);
	json_decref(report);
	free(text);
	json_decref(all);
}

static void
each_kind_of_policy_has_its_part(void **state)
{
	json_t *all = tls_results_new();
	struct tls_report_head head = { .domain = SPAN("example.org"), .id = "1" };
	struct tls_result tlsa = good;

	(void)state;
	tlsa.policy = SPAN("tlsa");
	tlsa.strings = SPAN("3 1 1 00\n2 0 1 11");
	add(all, 7, good);
	add(all, 7, tlsa);
	char *text =
		tls_report_compose(&head, json_object_get(tls_results_day(all, 7), "example.org"));
	json_t *report = json_loads(text, 0, NULL);
	json_t *policies = json_object_get(report, "policies");
	assert_int_equal(json_array_size(policies), 2);
	json_t *second = json_array_get(policies, 1);
	assert_string_equal(text_at(second, "policy", "policy-type"), "tlsa");
	json_t *lines = json_object_get(json_object_get(second, "policy"), "policy-string");
	assert_string_equal(json_string_value(json_array_get(lines, 1)), "2 0 1 11");
	assert_null(json_object_get(second, "failure-details"));
	json_decref(report);
	free(text);
	json_decref(all);
}

static void
results_are_kept_as_they_are(void **state)
{
	json_t *all = tls_results_new();

	(void)state;
	add(all, 7, good);
	add(all, 7, failure("certificate-expired", "mx1.example.org", 2));
	char *text = tls_results_text(all);
	json_t *same = tls_results_parse(span_of_string(text));
	assert_true(json_equal(all, same));
	json_decref(same);
	free(text);
	assert_null(tls_results_parse(SPAN("")));
	assert_null(tls_results_parse(SPAN("{}")));
	assert_null(tls_results_parse(SPAN("{\"format\":2,\"days\":{}}")));
	assert_null(tls_results_parse(SPAN("{\"format\":1,\"days\":[]}")));
	tls_results_drop_day(all, 7);
	assert_null(tls_results_day(all, 7));
	json_decref(all);
}

/* What a file that somebody changed may contain must not matter. */
static void
odd_files_do_no_harm(void **state)
{
	static const char *const texts[] = {
		"{\"format\":1,\"days\":{\"7\":[]}}",
		"{\"format\":1,\"days\":{\"7\":{\"example.org\":1}}}",
		"{\"format\":1,\"days\":{\"7\":{\"example.org\":{\"policies\":[]}}}}",
		"{\"format\":1,\"days\":{\"7\":{\"example.org\":{\"policies\":{\"sts\":\"\"}}}}}",
	};
	struct tls_report_head head = { .domain = SPAN("example.org"), .id = "1" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		json_t *all = tls_results_parse(span_of_string(texts[i]));
		struct tls_result r = failure("certificate-expired", "mx", 1);
		assert_non_null(all);
		assert_false(tls_results_add(all, 7, &r));
		free(tls_report_compose(&head,
					json_object_get(tls_results_day(all, 7), "example.org")));
		json_decref(all);
	}
}

static void
details_are_bounded(void **state)
{
	json_t *all = tls_results_new();
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < TLS_REPORT_DETAILS_MAX + 5; i++) {
		char host[32];
		snprintf(host, sizeof host, "mx%u.example", i);
		struct tls_result r = failure("validation-failure", host, 1);
		refused += !tls_results_add(all, 7, &r);
	}
	assert_int_equal(refused, 5);
	json_t *domain = json_object_get(tls_results_day(all, 7), "example.org");
	json_t *policy = json_object_get(json_object_get(domain, "policies"), "sts");
	/* All of them count. */
	assert_int_equal(json_integer_value(json_object_get(policy, "bad")),
			 TLS_REPORT_DETAILS_MAX + 5);
	for (unsigned day = 8; day < 7 + TLS_REPORT_DAYS_MAX; day++)
		add(all, day, good);
	assert_false(tls_results_add(all, 7 + TLS_REPORT_DAYS_MAX, &good));
	json_decref(all);
}

static void
what_is_no_utf8_is_left_out(void **state)
{
	json_t *all = tls_results_new();
	struct tls_result r = failure("validation-failure", "mx\xff", 1);

	(void)state;
	r.why = SPAN("\xc3");
	add(all, 7, r);
	char *text = tls_results_text(all);
	assert_non_null(text);
	free(text);
	json_decref(all);
}

/* ---- what a worker counts ---- */

static struct tls_tally_row
row_of(const char *domain, const char *result, const char *host)
{
	return (struct tls_tally_row){
		.day = 7,
		.policy = TALLY_TLSA,
		.domain = span_of_string(domain),
		.result = result,
		.host = span_of_string(host),
		.why = SPAN("why"),
		.sessions = 1,
	};
}

static void
equal_rows_are_one(void **state)
{
	struct tls_tally *t = calloc(1, sizeof *t);
	char copy[] = "tlsa-invalid";
	struct tls_tally_row rows[] = {
		row_of("a.example", NULL, "mx1"),
		row_of("A.example", NULL, "mx2"), /* what went well has no host */
		row_of("a.example", "tlsa-invalid", "mx1"),
		row_of("a.example", copy, "mx1"),
		row_of("a.example", "tlsa-invalid", "mx2"),
		row_of("b.example", NULL, "mx1"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_true(tls_tally_add(t, &rows[i]));
	assert_int_equal(t->count, 4);
	rows[0].day = 8;
	assert_true(tls_tally_add(t, &rows[0]));
	rows[0].policy = TALLY_STS;
	assert_true(tls_tally_add(t, &rows[0]));
	assert_int_equal(t->count, 6);
	uint64_t sessions = 0;
	for (unsigned i = 0; i < TLS_TALLY_BUCKETS; i++) {
		for (struct tls_tally_row *r = t->buckets[i]; r != NULL; r = r->next)
			sessions += r->sessions;
	}
	assert_int_equal(sessions, 8);
	assert_string_equal(tls_tally_policy_label(TALLY_NO_POLICY), "no-policy-found");
	tls_tally_free(t);
	tls_tally_free(NULL);
}

static void
rows_are_bounded(void **state)
{
	struct tls_tally *t = calloc(1, sizeof *t);

	(void)state;
	for (unsigned i = 0; i <= TLS_TALLY_ROWS; i++) {
		char domain[32];
		snprintf(domain, sizeof domain, "d%u.example", i);
		struct tls_tally_row r = row_of(domain, NULL, "");
		assert_int_equal(tls_tally_add(t, &r), i < TLS_TALLY_ROWS);
	}
	struct tls_tally_row known = row_of("d0.example", NULL, "");
	assert_true(tls_tally_add(t, &known));
	tls_tally_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_name_addresses),
		cmocka_unit_test(addresses_are_bounded),
		cmocka_unit_test(only_https_is_posted_to),
		cmocka_unit_test(reports_have_all_fields),
		cmocka_unit_test(each_kind_of_policy_has_its_part),
		cmocka_unit_test(results_are_kept_as_they_are),
		cmocka_unit_test(odd_files_do_no_harm),
		cmocka_unit_test(details_are_bounded),
		cmocka_unit_test(what_is_no_utf8_is_left_out),
		cmocka_unit_test(equal_rows_are_one),
		cmocka_unit_test(rows_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
