/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue dns core machine */
#include "relay/flow/shaping.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "relay/flow/routing.h"

static const char config_text[] =
	"hostname: mx1.example.org\n"
	"listeners: [{ address: \"127.0.0.1:25\", role: relay }]\n"
	"log: { file: /tmp/x.log }\n"
	"queue: { store: spool, spool: { path: /tmp/x } }\n"
	"delivery: { connections_first: 3, mails_per_connection: 70 }\n"
	"routes:\n"
	"  - { domain: \"*\", to: mx, connections: 15 }\n"
	"  - { domain: a.example, to: \"smtp://192.0.2.1\" }\n"
	"  - { domain: b.example, to: \"smtp://192.0.2.1\", connections: 2 }\n"
	"  - { domain: v.example, to: \"smtp://192.0.2.1\", connections: 7, tls: verify }\n"
	"  - { domain: may.example, to: \"smtp://192.0.2.1\", tls: may }\n"
	"  - { domain: mx.example, to: mx, tls: encrypt }\n"
	"  - domain: f.example\n"
	"    to: \"smtp://192.0.2.1\"\n"
	"    tls: fingerprint\n"
	"    fingerprints: [000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff]\n"
	"sites:\n"
	"  - { mx: example.net, connections: 9 }\n"
	"  - { mx: big.example.net, connections: 50, rate: 600 }\n";

static struct routing *
make_routing(void)
{
	static struct config_errors errors;
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	const struct config *c = config_parse("test", span_of_string(config_text), &errors);

	if (c == NULL)
		print_error("%s\n", errors.lines[0]);
	assert_non_null(c);
	struct routing *r = routing_new(c, NULL, &why);
	assert_non_null(r);
	config_put(c);
	return r;
}

static void
test_covers(void **state)
{
	static const struct {
		const char *name, *site;
		bool covers;
	} rows[] = {
		{ "example.net", "example.net", true },
		{ "example.net", "mx.example.net", true },
		{ "EXAMPLE.net", "mx.Example.NET", true },
		{ "example.net", "badexample.net", false },
		{ "example.net", "a.example.net=b.example.net,c.example.net", true },
		{ "example.net", "a.example.net=b.example.org", false },
		{ "example.net", "a.example.org,b.example.net", false },
		{ "mx.example.net", "example.net", false },
		{ "example.net", "", false },
		{ "example.net", "a.example.net,", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_int_equal(
			shaping_covers(span_of_string(rows[i].name), span_of_string(rows[i].site)),
			rows[i].covers);
}

static void
test_who_says_what(void **state)
{
	static const struct {
		bool by_mx;
		const char *site;
		uint32_t connections, first, mails, rate;
		const char *source;
	} rows[] = {
		{ true, "mx.unknown.example", 15, 3, 70, 0, "route" },
		{ true, "mx.example.net", 9, 5, 100, 0, "example.net" },
		{ true, "a.big.example.net=b.big.example.net", 50, 5, 100, 600, "big.example.net" },
		{ true, "a.big.example.net=b.example.net", 9, 5, 100, 0, "example.net" },
		/* Never above the route's own limit. */
		{ true, "aspmx.l.google.com,alt1.aspmx.l.google.com", 15, 5, 70, 0, "google.com" },
		{ true, "mta5.am0.yahoodns.net", 10, 2, 20, 0, "yahoodns.net" },
		/* Routes with one destination share the least of their limits. */
		{ false, "smtp://192.0.2.1:25", 2, 2, 70, 0, "route" },
		/* The same hosts under another policy are another destination... */
		{ false, "smtp://192.0.2.1:25 tls=verify", 7, 7, 70, 0, "route" },
		/* ...but take as much as they do. */
		{ true, "mx.example.net tls=encrypt", 9, 5, 100, 0, "example.net" },
	};
	struct routing *r = make_routing();

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct shaping s = shaping_of(r, rows[i].by_mx, span_of_string(rows[i].site));
		assert_int_equal(s.connections, rows[i].connections);
		assert_int_equal(s.connections_first, rows[i].first);
		assert_int_equal(s.mails_per_connection, rows[i].mails);
		assert_int_equal(s.rate, rows[i].rate);
		assert_true(span_eq(s.source, span_of_string(rows[i].source)));
	}
	routing_put(r);
}

static void
test_routing_finds(void **state)
{
	struct routing *r = make_routing();

	(void)state;
	struct routing_step step = routing_find(r, SPAN("u@A.example"));
	assert_int_equal(step.kind, SITE_SMTP);
	assert_false(step.by_mx);
	assert_true(span_eq(step.target->text, SPAN("smtp://192.0.2.1:25")));
	step = routing_find(r, SPAN("\"x@y\"@else.example"));
	assert_true(step.by_mx);
	assert_true(span_eq(step.domain, SPAN("else.example")));
	step = routing_find(r, SPAN("postmaster"));
	assert_true(span_eq(step.domain, SPAN("mx1.example.org")));
	assert_int_equal(routing_connections(r, SPAN("smtp://192.0.2.9:25")), 1);
	routing_put(r);
}

static void
test_policies_of_routes(void **state)
{
	static const struct {
		const char *address;
		enum tls_level level;
		enum tls_source source;
	} rows[] = {
		{ "u@a.example", TLS_MAY, TLS_BY_DEFAULT },
		{ "u@may.example", TLS_MAY, TLS_BY_ROUTE },
		{ "u@v.example", TLS_VERIFY, TLS_BY_ROUTE },
		{ "u@mx.example", TLS_ENCRYPT, TLS_BY_ROUTE },
		{ "u@f.example", TLS_FINGERPRINT, TLS_BY_ROUTE },
	};
	struct routing *r = make_routing();

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct routing_step step = routing_find(r, span_of_string(rows[i].address));
		assert_int_equal(step.way->policy.level, rows[i].level);
		assert_int_equal(step.way->policy.source, rows[i].source);
	}
	struct routing_step plain = routing_find(r, SPAN("u@a.example"));
	struct routing_step may = routing_find(r, SPAN("u@may.example"));
	struct routing_step verify = routing_find(r, SPAN("u@v.example"));
	assert_true(span_eq(may.way->name, SPAN("smtp://192.0.2.1:25 tls=may")));
	assert_int_equal(routing_connections(r, SPAN("smtp://192.0.2.1:25 tls=dane")),
			 routing_connections(r, plain.way->name));
	assert_true(span_eq(verify.way->name, SPAN("smtp://192.0.2.1:25 tls=verify")));
	/* What a mail wants makes another site of it, under the limits of the same route. */
	static const struct {
		const char *site, *route;
	} sites[] = {
		{ "smtp://192.0.2.1:25 requiretls", "smtp://192.0.2.1:25" },
		{ "smtp://192.0.2.1:25 tls=optional", "smtp://192.0.2.1:25" },
		{ "smtp://192.0.2.1:25 tls=dane requiretls", "smtp://192.0.2.1:25" },
		{ "smtp://192.0.2.1:25 tls=verify requiretls", "smtp://192.0.2.1:25 tls=verify" },
	};
	for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++) {
		uint32_t limit = routing_connections(r, span_of_string(sites[i].route));
		assert_int_equal(routing_connections(r, span_of_string(sites[i].site)), limit);
		assert_int_not_equal(limit, 1);
	}
	assert_int_equal(routing_connections(r, SPAN("smtp://192.0.2.1:25 requiretlsx")), 1);
	routing_put(r);
}

/* The plan outlives the routing that its policy came from. */
static void
test_plan_keeps_its_policy(void **state)
{
	struct routing *r = make_routing();
	struct routing_step step = routing_find(r, SPAN("u@f.example"));
	struct plan *p = plan_of_target(step.target, &step.way->policy, step.way->auth, NULL, NULL);

	(void)state;
	assert_non_null(p);
	assert_true(span_eq(p->name, step.way->name));
	assert_true(span_eq(plan_hosts_of_name(p->name), SPAN("smtp://192.0.2.1:25")));
	routing_put(r);
	assert_int_equal(p->policy.level, TLS_FINGERPRINT);
	assert_int_equal(p->policy.fingerprint_count, 1);
	assert_int_equal(p->policy.fingerprints[0][1], 1);
	assert_int_equal(p->policy.fingerprints[0][31], 0xff);
	plan_put(p);
}

static void
test_plan_of_a_list(void **state)
{
	struct routing *r = make_routing();
	struct routing_step step = routing_find(r, SPAN("u@a.example"));
	struct plan *p = plan_of_target(step.target, &step.way->policy, step.way->auth, NULL, NULL);

	(void)state;
	assert_non_null(p);
	assert_int_equal(p->host_count, 1);
	assert_int_equal(p->kind, SITE_SMTP);
	assert_true(span_eq(p->name, SPAN("smtp://192.0.2.1:25")));
	assert_int_equal(p->hash, plan_hash(SITE_SMTP, p->name));
	uint8_t memory[64];
	struct buf text = buf_of(memory, sizeof memory);
	plan_host_show(&p->hosts[0], &text);
	assert_true(span_eq(buf_span(&text), SPAN("192.0.2.1:25")));
	plan_put(p);
	routing_put(r);
}

/* 30 mx1 (two addresses), 10 mx2, 10 mx3: in the order that the selection gives. */
static void
test_plan_of_mx(void **state)
{
	struct mx_hosts found = {
		.outcome = MX_FOUND,
		.mx_secure = true,
		.site = SPAN("mx2.example=mx3.example,mx1.example"),
		.host_count = 3,
		.hosts = { { .name = SPAN("mx3.example"),
			     .preference = 10,
			     .count = 1,
			     .addresses_secure = true },
			   { .name = SPAN("mx2.example"),
			     .preference = 10,
			     .first = 1,
			     .count = 1 },
			   { .name = SPAN("mx1.example"),
			     .preference = 30,
			     .first = 2,
			     .count = 2 } },
		.address_count = 4,
		.host_of = { 0, 1, 2, 2 },
	};

	(void)state;
	const char *const addresses[] = { "192.0.2.3:25", "192.0.2.2:25", "192.0.2.1:25",
					  "[2001:db8::1]:25" };
	for (unsigned i = 0; i < 4; i++)
		assert_true(net_address_parse(span_of_string(addresses[i]), &found.addresses[i]));
	const struct tls_policy policy = { .level = TLS_MAY };
	struct plan *p = plan_of_mx(&found, &policy, NULL);
	assert_non_null(p);
	assert_true(span_eq(p->name, found.site));
	assert_true(p->by_mx && p->mx_secure);
	assert_int_equal(p->host_count, 4);
	const uint8_t ranks[] = { 0, 0, 1, 1 };
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(p->hosts[i].rank, ranks[i]);
		assert_int_equal(p->hosts[i].secure, i == 0);
	}
	assert_true(span_eq(p->hosts[3].name, SPAN("mx1.example")));
	plan_put(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_covers),
		cmocka_unit_test(test_who_says_what),
		cmocka_unit_test(test_routing_finds),
		cmocka_unit_test(test_plan_of_a_list),
		cmocka_unit_test(test_plan_of_mx),
		cmocka_unit_test(test_policies_of_routes),
		cmocka_unit_test(test_plan_keeps_its_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
