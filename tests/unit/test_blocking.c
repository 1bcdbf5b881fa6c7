/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses name_server dns core threads */
/* One question after the other, as tools ask; and the names that they ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <time.h>

#include "dns/blocking.h"
#include "dns/idn.h"
#include "tests/lib/name_server.h"

enum { PATIENCE_MS = 60000, SHORT_MS = 300 };

static uint64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
questions_are_answered(void **state)
{
	static const struct {
		const char *name;
		enum dns_type type;
		enum dns_outcome outcome;
	} rows[] = {
		{ "ok.example", DNS_A, DNS_FOUND },
		{ "ok.example", DNS_AAAA, DNS_NO_DATA },
		{ "nx.example", DNS_MX, DNS_NO_DOMAIN },
		{ "fail.example", DNS_A, DNS_FAILED },
		{ "big.example", DNS_A, DNS_FOUND }, /* over TCP */
		{ "ok.spf.example", DNS_TXT, DNS_FOUND },
		{ "1.2.0.192.in-addr.arpa", DNS_PTR, DNS_FOUND },
		{ "a b.example", DNS_A, DNS_NO_DOMAIN }, /* no name, so nobody is asked */
		{ "ok\\032x.example", DNS_A, DNS_FOUND },
	};
	struct resolver_options options = { .forwarder_count = 1 };
	char text[512];
	struct buf why = buf_of(text, sizeof text);
	struct name_server *server = name_server_start(&options.forwarders[0]);

	(void)state;
	struct blocking *b = blocking_new(&options, &why);
	assert_non_null(b);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct dns_answer *a = blocking_ask(b, span_of_string(rows[i].name), rows[i].type,
						    now_ms() + PATIENCE_MS);
		if (a->outcome != rows[i].outcome)
			fail_msg("%s: %s", rows[i].name, dns_outcome_label(a->outcome));
		assert_int_equal(a->security, DNS_INSECURE);
		assert_int_equal(a->count > 0, a->outcome == DNS_FOUND);
		dns_answer_put(a);
	}
	uint64_t begun_ms = now_ms();
	struct dns_answer *a = blocking_ask(b, SPAN("silent.example"), DNS_A, begun_ms + SHORT_MS);
	assert_int_equal(a->outcome, DNS_FAILED);
	assert_true(now_ms() - begun_ms >= SHORT_MS);
	dns_answer_put(a);
	blocking_free(b); /* with a question that is still open */
	name_server_stop(server);
}

static void
domains_become_a_labels(void **state)
{
	static const struct {
		const char *domain;
		const char *ascii;
	} rows[] = {
		{ "Example.ORG.", "example.org" },
		{ "b\xc3\xbc"
		  "cher.example",
		  "xn--bcher-kva.example" },
		{ "B\xc3\x9c"
		  "CHER.Example",
		  "xn--bcher-kva.example" },
		{ "\xe4\xbe\x8b\xe5\xad\x90.\xe6\xb5\x8b\xe8\xaf\x95", "xn--fsqu00a.xn--0zwm56d" },
		{ "stra\xc3\x9f"
		  "e.example",
		  "xn--strae-oqa.example" },
		{ "b\xfc"
		  "cher.example",
		  "" },
		{ "a..b", "" },
		{ "\xc3\xbc..example", "" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char out[DNS_NAME_MAX + 1];
		size_t size = idn_to_ascii(span_of_string(rows[i].domain), out);

		assert_string_equal(out, rows[i].ascii);
		assert_int_equal(size, strlen(rows[i].ascii));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions_are_answered),
		cmocka_unit_test(domains_become_a_labels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
