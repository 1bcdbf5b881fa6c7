/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow */
/* What DANE makes of plans: which hosts are left out, what the others must do, and which plans are
 * the same site. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "relay/flow/plan.h"
#include "tls/dane.h"

enum { HOSTS = 4 };

static const uint8_t ee[] = "\x03\x01\x01"
			    "01234567890123456789012345678901";
static const uint8_t ta[] = "\x02\x00\x01"
			    "01234567890123456789012345678901";
static const uint8_t pkix[] = "\x01\x01\x01"
			      "01234567890123456789012345678901";

/* Answers by a letter: U usable, T usable DANE-TA, 0 unusable, N none, F failed, - not asked for.
 */
static struct dns_answer *
answer_of(char letter)
{
	static struct dns_record records[] = { { .data = { ee, sizeof ee - 1 } },
					       { .data = { ta, sizeof ta - 1 } },
					       { .data = { pkix, sizeof pkix - 1 } } };
	static struct dns_answer usable = { .outcome = DNS_FOUND,
					    .security = DNS_SECURE,
					    .count = 1,
					    .records = &records[0] },
				 anchor = { .outcome = DNS_FOUND,
					    .security = DNS_SECURE,
					    .count = 2,
					    .records = &records[1] },
				 unusable = { .outcome = DNS_FOUND,
					      .security = DNS_SECURE,
					      .count = 1,
					      .records = &records[2] },
				 none = { .outcome = DNS_NO_DOMAIN, .security = DNS_SECURE },
				 failed = { .outcome = DNS_FAILED, .why = SPAN("SERVFAIL") };

	switch (letter) {
	case 'U':
		return &usable;
	case 'T':
		return &anchor;
	case '0':
		return &unusable;
	case 'N':
		return &none;
	case 'F':
		return &failed;
	default:
		assert_int_equal(letter, '-');
		return NULL;
	}
}

/* Hosts m1, m2, … with preferences 10, 20, …, an address each, and what is known of their records;
 * of '-' alone, not even the MX records are secure. */
static struct mx_hosts
found_of(const char *letters)
{
	static const char *const names[] = { "m1", "m2", "m3", "m4" };
	struct mx_hosts h = { .outcome = MX_FOUND,
			      .mx_secure = strspn(letters, "-") != strlen(letters),
			      .domain = SPAN("a.example"),
			      .site = SPAN("m1,m2,m3,m4") };

	for (unsigned i = 0; letters[i] != '\0'; i++) {
		uint8_t ip[] = { 192, 0, 2, (uint8_t)i };
		assert_true(i < HOSTS);
		h.hosts[h.host_count++] = (struct mx_host){
			.name = span_of_string(names[i]),
			.tlsa_base = span_of_string(names[i]),
			.preference = (uint16_t)(10 * i),
			.addresses_secure = letters[i] != '-',
			.first = i,
			.count = 1,
			.tlsa = answer_of(letters[i]),
		};
		h.host_of[i] = (uint8_t)i;
		net_address_of_ip(ip, 4, 25, &h.addresses[h.address_count++]);
	}
	return h;
}

static const uint8_t print[TLS_FINGERPRINT_SIZE] = { 1 };

static const struct tls_policy any = { .level = TLS_MAY, .source = TLS_BY_DEFAULT },
			       may = { .level = TLS_MAY, .source = TLS_BY_ROUTE },
			       only = { .level = TLS_DANE, .source = TLS_BY_ROUTE },
			       none = { .level = TLS_NONE, .source = TLS_BY_ROUTE },
			       sts = { .level = TLS_VERIFY, .source = TLS_BY_STS };
/* Of mails with REQUIRETLS, and with TLS-Required: No. */
static const struct tls_policy
	need = { .level = TLS_MAY, .need = TLS_NEED_REQUIRED },
	need_may = { .level = TLS_MAY, .source = TLS_BY_ROUTE, .need = TLS_NEED_REQUIRED },
	need_none = { .level = TLS_NONE, .source = TLS_BY_ROUTE, .need = TLS_NEED_REQUIRED },
	need_sts = { .level = TLS_VERIFY, .source = TLS_BY_STS, .need = TLS_NEED_REQUIRED },
	pinned = { .level = TLS_FINGERPRINT,
		   .source = TLS_BY_ROUTE,
		   .need = TLS_NEED_REQUIRED,
		   .fingerprints = &print,
		   .fingerprint_count = 1 },
	optional = { .level = TLS_MAY, .source = TLS_BY_MAIL, .need = TLS_NEED_OPTIONAL };

struct row {
	const char *story;
	const struct tls_policy *policy;
	const char *letters;
	const char *name;  /* of the site, behind the hosts */
	const char *hosts; /* those of the plan, with what they must do and by whom */
	const char *why;
};

#define NO_TRUST \
	": the mail requires TLS, and neither DNSSEC nor MTA-STS vouches for this host's name"

static const struct row rows[] = {
	{ "nothing is secure", &any, "--", "", "m1 may default, m2 may default", "" },
	{ "secure, and without records", &any, "NN", "", "m1 may default, m2 may default", "" },
	{ "records", &any, "UU", " tls=dane", "m1 dane dane, m2 dane dane", "" },
	{ "each host by its own records", &any, "UN-0", " tls=dane",
	  "m1 dane dane, m2 may default, m3 may default, m4 encrypt dane", "" },
	{ "records of the last alone", &any, "NNNU", " tls=dane",
	  "m1 may default, m2 may default, m3 may default, m4 dane dane", "" },
	{ "unusable records alone", &any, "0", " tls=dane", "m1 encrypt dane", "" },
	{ "a host whose records could not be had is left out", &any, "FU", " tls=dane",
	  "m2 dane dane", "m1: its TLSA records could not be had: SERVFAIL" },
	{ "the site is not that of others, although no records were seen", &any, "FN", " tls=dane",
	  "m2 may default", "m1: its TLSA records could not be had: SERVFAIL" },
	{ "all failed: there is nobody to fall back to", &any, "FF", " tls=dane", "",
	  "m1: its TLSA records could not be had: SERVFAIL; m2: its TLSA records could not be had: "
	  "SERVFAIL" },
	{ "names count with DANE-TA, so the domain has a site of its own", &any, "UT",
	  " tls=dane for=a.example", "m1 dane dane, m2 dane dane", "" },
	{ "a route that demands DANE, with records", &only, "U", " tls=dane-only", "m1 dane route",
	  "" },
	{ "a route that demands DANE, with DANE-TA", &only, "T", " tls=dane-only for=a.example",
	  "m1 dane route", "" },
	{ "a route that demands DANE, where others than records are", &only, "-N0F",
	  " tls=dane-only", "",
	  "m1: there is no address of it that DNSSEC secures, so TLSA records would prove nothing; "
	  "m2: it has no TLSA records; m3: none of its TLSA records can be used; m4: its TLSA "
	  "records could not be had: SERVFAIL" },
	{ "a route that says may", &may, "--", " tls=may", "m1 may route, m2 may route", "" },
	{ "a route that says none", &none, "--", " tls=none", "m1 none route, m2 none route", "" },
	{ "MTA-STS alone", &sts, "-N", " tls=verify sts", "m1 verify sts, m2 verify sts", "" },
	{ "DANE wins over MTA-STS, host by host", &sts, "U0N", " tls=verify dane sts",
	  "m1 dane dane, m2 verify sts, m3 verify sts", "" },
	{ "MTA-STS does not help a host whose records failed", &sts, "F", " tls=verify dane sts",
	  "", "m1: its TLSA records could not be had: SERVFAIL" },
	{ "REQUIRETLS: what opportunistic TLS would do is verified", &need, "N0U",
	  " tls=dane requiretls", "m1 verify mail, m2 verify mail, m3 dane dane", "" },
	{ "REQUIRETLS without any records", &need, "N", " requiretls", "m1 verify mail", "" },
	{ "REQUIRETLS where anybody may have chosen the hosts", &need, "--", " requiretls", "",
	  "m1" NO_TRUST "; m2" NO_TRUST },
	{ "REQUIRETLS where MTA-STS vouches for the hosts", &need_sts, "-",
	  " tls=verify sts requiretls", "m1 verify sts", "" },
	{ "REQUIRETLS, and a route that says less", &need_may, "N", " tls=may requiretls",
	  "m1 verify mail", "" },
	{ "REQUIRETLS, and a route that says how to know the host", &pinned, "-",
	  " tls=fingerprint:01d0fabd251fcbbe requiretls", "m1 fingerprint route", "" },
	{ "REQUIRETLS, and a route without TLS", &need_none, "N", " tls=none requiretls", "",
	  "m1: the route rules TLS out, which the mail requires" },
	{ "TLS-Required: No, and no records are looked at", &optional, "--", " tls=optional",
	  "m1 may mail, m2 may mail", "" },
};

static void
show_hosts(const struct plan *p, struct buf *out)
{
	for (unsigned i = 0; i < p->host_count; i++) {
		enum tls_source source;
		enum tls_level level = plan_host_level(&p->policy, &p->hosts[i], &source);
		buf_printf(out, "%s%.*s %s %s", i == 0 ? "" : ", ", SPAN_ARG(p->hosts[i].name),
			   tls_level_label(level), tls_source_label(source));
		assert_int_equal(p->hosts[i].record_count > 0, p->hosts[i].dane == DANE_USABLE);
		assert_true(span_eq(p->hosts[i].base, p->hosts[i].name));
	}
}

static void
each_host_by_its_records(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char hosts[400] = "", why[400] = "";
		struct buf shown = buf_of(hosts, sizeof hosts), reason = buf_of(why, sizeof why);
		struct mx_hosts found = found_of(rows[i].letters);
		struct plan *p = plan_of_mx(&found, rows[i].policy, &reason);
		assert_non_null(p);
		if (!span_eq(span_after(p->name, found.site.size), span_of_string(rows[i].name)))
			fail_msg("%s: site %.*s", rows[i].story, SPAN_ARG(p->name));
		show_hosts(p, &shown);
		if (!span_eq(buf_span(&shown), span_of_string(rows[i].hosts)))
			fail_msg("%s: hosts %s", rows[i].story, hosts);
		if (!span_eq(buf_span(&reason), span_of_string(rows[i].why)))
			fail_msg("%s: why %s", rows[i].story, why);
		plan_put(p);
	}
}

/* What a plan points to is its own. */
static void
records_are_copied(void **state)
{
	struct mx_hosts found = found_of("UT");
	struct plan *p = plan_of_mx(&found, &any, NULL);

	(void)state;
	assert_non_null(p);
	assert_int_equal(p->hosts[0].record_count, 1);
	assert_int_equal(p->hosts[1].record_count, 1); /* the other is PKIX-EE */
	assert_ptr_not_equal(p->hosts[0].records[0].data.data, ee + 3);
	assert_true(span_eq(p->hosts[0].records[0].data, span_of(ee + 3, 32)));
	assert_int_equal(p->hosts[1].records[0].usage, 2);
	assert_true(span_eq(p->policy.domain, SPAN("a.example")));
	assert_ptr_not_equal(p->policy.domain.data, found.domain.data);
	plan_put(p);
}

static void
an_alias_leads_to_the_name_of_the_records(void **state)
{
	struct mx_hosts found = found_of("U");

	(void)state;
	found.hosts[0].tlsa_base = SPAN("far.example");
	struct plan *p = plan_of_mx(&found, &any, NULL);
	assert_non_null(p);
	assert_true(span_eq(p->hosts[0].base, SPAN("far.example")));
	assert_true(span_eq(p->hosts[0].name, SPAN("m1")));
	plan_put(p);
}

/* A reason that does not fit is cut. */
static void
reasons_are_cut(void **state)
{
	struct mx_hosts found = found_of("FFFF");

	(void)state;
	for (size_t size = 0; size < 160; size++) {
		char memory[160];
		struct buf why = buf_of(memory, size);
		struct plan *p = plan_of_mx(&found, &any, &why);
		assert_non_null(p);
		assert_int_equal(p->host_count, 0);
		assert_true(why.size <= size);
		plan_put(p);
	}
}

/* A list of a route: by number, by name with records, by name that does not exist. */
static void
a_route_by_names(void **state)
{
	struct config_host hosts[] = { { .port = 25 },
				       { .name = SPAN("m1"), .port = 587 },
				       { .name = SPAN("gone"), .port = 25 } };
	struct config_target target = { .kind = TARGET_SMTP,
					.hosts = hosts,
					.hosts_count = 3,
					.text = SPAN("smtp://192.0.2.9:25,smtp://m1:587") };
	struct mx_hosts found = found_of("U");
	struct mx_hosts gone = { .outcome = MX_NO_DOMAIN };
	struct mx_hosts *answers[] = { NULL, &found, &gone };
	char why[200] = "", shown[200] = "";
	struct buf reason = buf_of(why, sizeof why), out = buf_of(shown, sizeof shown);

	(void)state;
	assert_true(net_address_parse(SPAN("192.0.2.9:25"), &hosts[0].address));
	struct plan *p = plan_of_target(&target, &any, span_none(), answers, &reason);
	assert_non_null(p);
	assert_true(span_eq(span_after(p->name, target.text.size), SPAN(" tls=dane")));
	assert_int_equal(p->host_count, 2);
	assert_int_equal(p->hosts[0].dane, DANE_NOT_ASKED);
	assert_int_equal(p->hosts[1].dane, DANE_USABLE);
	assert_true(p->hosts[1].secure && reason.size == 0);
	plan_put(p);
	p = plan_of_target(&target, &only, span_none(), answers, &reason);
	assert_non_null(p);
	show_hosts(p, &out);
	assert_string_equal(shown, "m1 dane route");
	assert_memory_equal(why, "192.0.2.9:25: there is no address", 33);
	plan_put(p);
}

/* What stays on this machine needs no TLS; for all others LMTP is no exception (RFC 8689 2). */
static void
an_lmtp_server_here_is_no_hop(void **state)
{
	static const struct {
		const char *address;
		enum config_target_kind kind;
		const char *hosts;
	} cases[] = {
		{ "127.0.0.1:24", TARGET_LMTP, " may default" },
		{ "[::1]:24", TARGET_LMTP, " may default" },
		{ "unix:/run/lmtp", TARGET_LMTP, " may default" },
		{ "192.0.2.9:24", TARGET_LMTP, " verify mail" },
		{ "127.0.0.1:25", TARGET_SMTP, " verify mail" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct config_host host = { .port = 24 };
		struct config_target target = {
			.kind = cases[i].kind, .hosts = &host, .hosts_count = 1, .text = SPAN("x")
		};
		char shown[200] = "";
		struct buf out = buf_of(shown, sizeof shown);
		assert_true(net_address_parse(span_of_string(cases[i].address), &host.address));
		struct plan *p = plan_of_target(&target, &need, span_none(), NULL, NULL);
		assert_non_null(p);
		assert_true(span_eq(p->name, SPAN("x requiretls")));
		show_hosts(p, &out);
		assert_string_equal(shown, cases[i].hosts);
		plan_put(p);
	}
}

/* Whether a mail that requires TLS fails at once depends on it. */
static void
what_failed_may_do_later(void **state)
{
	static const struct {
		const char *letters;
		bool uncertain;
	} cases[] = { { "F", true }, { "N", false }, { "-F", true }, { "--", false } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct mx_hosts found = found_of(cases[i].letters);
		found.mx_secure = false;
		struct plan *p = plan_of_mx(&found, &need, NULL);
		assert_non_null(p);
		assert_int_equal(p->host_count, 0);
		assert_int_equal(p->uncertain, cases[i].uncertain);
		plan_put(p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_host_by_its_records),
		cmocka_unit_test(records_are_copied),
		cmocka_unit_test(an_alias_leads_to_the_name_of_the_records),
		cmocka_unit_test(reasons_are_cut),
		cmocka_unit_test(a_route_by_names),
		cmocka_unit_test(an_lmtp_server_here_is_no_hop),
		cmocka_unit_test(what_failed_may_do_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
