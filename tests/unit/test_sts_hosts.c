/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue dns core machine */
/* What a policy of MTA-STS makes of a domain's hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/flow/sts.h"

/* mx1 and mx2 are equals, mx3 is behind them; mx1 has two addresses, mx4 none. */
static struct mx_hosts found = {
	.outcome = MX_FOUND,
	.host_count = 3,
	.address_count = 4,
	.host_of = { 0, 0, 1, 2 },
};

static void
make_found(void)
{
	static const char *const addresses[] = { "192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25",
						 "192.0.2.4:25" };

	found.domain = SPAN("example.org");
	found.site = SPAN("mx1.example.net=mx2.example.net=mx4.example.net,mx3.other.example");
	found.hosts[0] =
		(struct mx_host){ .name = SPAN("mx1.example.net"), .first = 0, .count = 2 };
	found.hosts[1] =
		(struct mx_host){ .name = SPAN("mx2.example.net"), .first = 2, .count = 1 };
	found.hosts[2] =
		(struct mx_host){ .name = SPAN("mx3.other.example"), .first = 3, .count = 1 };
	for (unsigned i = 0; i < 4; i++)
		assert_true(net_address_parse(span_of_string(addresses[i]), &found.addresses[i]));
}

struct row {
	const char *mode; /* NULL: no policy */
	const char *mx;   /* up to two patterns */
	const char *mx2;
	unsigned is_stronger;
	const char *level;
	const char *source;
	bool testing;
	const char *site; /* NULL: none is left */
	const char *addresses;
};

#define WHOLE "mx1.example.net=mx2.example.net=mx4.example.net,mx3.other.example"
#define ALL   "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4"

static const struct row rows[] = {
	{ NULL, NULL, NULL, 0, "may", "default", false, WHOLE, ALL },
	{ "none", NULL, NULL, 0, "may", "default", false, WHOLE, ALL },
	{ "testing", "nobody.example", NULL, 0, "may", "sts", true, WHOLE, ALL },
	{ "enforce", "*.example.net", "*.other.example", 0, "verify", "sts", false, WHOLE, ALL },
	{ "enforce", "*.example.net", NULL, 0, "verify", "sts", false,
	  "mx1.example.net=mx2.example.net=mx4.example.net", "192.0.2.1 192.0.2.2 192.0.2.3" },
	{ "enforce", "MX2.example.NET", "mx3.other.example", 0, "verify", "sts", false,
	  "mx2.example.net,mx3.other.example", "192.0.2.3 192.0.2.4" },
	{ "enforce", "mx3.other.example", NULL, 0, "verify", "sts", false, "mx3.other.example",
	  "192.0.2.4" },
	{ "enforce", "example.net", "*.mx1.example.net", 0, "verify", "sts", false, NULL, "" },
	/* A host that DANE protects needs no policy's leave. */
	{ "enforce", "nobody.example", NULL, 1, "verify", "sts", false, "mx1.example.net",
	  "192.0.2.1 192.0.2.2" },
	{ "enforce", "mx3.other.example", NULL, 2, "verify", "sts", false,
	  "mx2.example.net,mx3.other.example", "192.0.2.3 192.0.2.4" },
	/* The one host that is named has no address. */
	{ "enforce", "mx4.example.net", NULL, 0, "verify", "sts", false, NULL, "" },
};

static struct sts_held *
make_held(const struct row *row)
{
	uint8_t memory[300];
	struct buf text = buf_of(memory, sizeof memory);
	static struct sts_policy policy;

	if (row->mode == NULL)
		return NULL;
	buf_printf(&text, "version: STSv1\nmode: %s\nmax_age: 100\n", row->mode);
	if (row->mx != NULL)
		buf_printf(&text, "mx: %s\n", row->mx);
	if (row->mx2 != NULL)
		buf_printf(&text, "mx: %s\n", row->mx2);
	assert_true(sts_policy_parse(buf_span(&text), &policy, NULL));
	return sts_held_new(SPAN("Example.org"), SPAN("ID1"), &policy, 1000);
}

static void
show_addresses(const struct mx_hosts *h, struct buf *out)
{
	for (unsigned i = 0; i < h->address_count; i++) {
		assert_in_range(h->host_of[i], 0, h->host_count - 1);
		const struct mx_host *host = &h->hosts[h->host_of[i]];
		assert_in_range(i, host->first, host->first + host->count - 1);
		buf_append_string(out, i > 0 ? " " : "");
		net_address_show_ip(&h->addresses[i], out);
	}
}

/* An answer with one DANE-EE record for each host of the mask, and none for the others. */
static void
set_records(unsigned mask)
{
	static uint8_t data[35] = { 3, 1, 1 };
	static const struct dns_record record = { .data = { data, sizeof data } };
	static struct dns_answer answer = {
		.outcome = DNS_FOUND,
		.security = DNS_SECURE,
		.count = 1,
		.records = &record,
	};

	for (unsigned i = 0; i < found.host_count; i++)
		found.hosts[i].tlsa = (mask >> i & 1) != 0 ? &answer : NULL;
}

static void
check_row(const struct row *row, enum tls_need need)
{
	static struct mx_hosts left;
	uint8_t site_memory[STS_SITE_MAX], why_memory[300], memory[300];
	struct buf site = buf_of(site_memory, sizeof site_memory);
	struct buf why = buf_of(why_memory, sizeof why_memory);
	struct buf addresses = buf_of(memory, sizeof memory);
	struct tls_policy policy = { .level = TLS_MAY, .source = TLS_BY_DEFAULT, .need = need };
	struct sts_held *h = make_held(row);

	set_records(row->is_stronger);
	bool any = sts_apply(h, &found, &policy, &left, &site, &why);

	assert_int_equal(any, row->site != NULL);
	assert_string_equal(tls_level_label(policy.level), row->level);
	assert_string_equal(tls_source_label(policy.source), row->source);
	assert_int_equal(policy.testing, row->testing);
	if (policy.source == TLS_BY_STS) {
		assert_true(span_eq(policy.domain, SPAN("example.org")));
		assert_true(span_eq(policy.policy_id, SPAN("ID1")));
	}
	if (any && !span_eq(left.site, span_of_string(row->site)))
		fail_msg("%.*s, not %s", SPAN_ARG(left.site), row->site);
	show_addresses(&left, &addresses);
	if (!span_eq(buf_span(&addresses), span_of_string(row->addresses)))
		fail_msg("%.*s, not %s", SPAN_ARG(buf_span(&addresses)), row->addresses);
	if (!any)
		assert_true(span_eq(buf_span(&why),
				    SPAN("none of the MX hosts of example.org is in its MTA-STS "
					 "policy (id ID1)")));
	if (h != NULL)
		sts_held_put(h);
}

static void
policies_choose_hosts(void **state)
{
	(void)state;
	make_found();
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		check_row(&rows[i], TLS_NEED_NOTHING);
}

/* For a mail that requires TLS a policy in mode testing says who the hosts are, too. */
static void
a_mail_may_need_what_is_only_tested(void **state)
{
	static const struct row testing = {
		"testing", "mx3.other.example", NULL,       0, "verify", "sts",
		false,     "mx3.other.example", "192.0.2.4"
	};
	static const struct row none = {
		"none", NULL, NULL, 0, "may", "default", false, WHOLE, ALL
	};

	(void)state;
	make_found();
	check_row(&testing, TLS_NEED_REQUIRED);
	check_row(&none, TLS_NEED_REQUIRED);
}

/* Two policies that leave other hosts of the same ones are other sites; the same, one. */
static void
the_site_is_that_of_the_hosts_that_are_left(void **state)
{
	static struct mx_hosts left;
	uint8_t memory[2][STS_SITE_MAX];
	struct buf sites[2];

	(void)state;
	make_found();
	for (unsigned i = 0; i < 2; i++) {
		struct row row = { .mode = "enforce",
				   .mx = i == 0 ? "*.example.net" : "mx1.example.net" };
		struct tls_policy policy = { .level = TLS_MAY };
		struct sts_held *h = make_held(&row);
		uint8_t why_memory[300];
		struct buf why = buf_of(why_memory, sizeof why_memory);
		sites[i] = buf_of(memory[i], sizeof memory[i]);
		assert_true(sts_apply(h, &found, &policy, &left, &sites[i], &why));
		sts_held_put(h);
	}
	assert_false(span_eq(buf_span(&sites[0]), buf_span(&sites[1])));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies_choose_hosts),
		cmocka_unit_test(a_mail_may_need_what_is_only_tested),
		cmocka_unit_test(the_site_is_that_of_the_hosts_that_are_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
