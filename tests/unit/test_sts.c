/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses tls */
/* The texts of MTA-STS, by section of RFC 8461. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "tls/sts.h"

static void
records_have_a_version_and_an_id(void **state)
{
	static const struct {
		const char *text;
		const char *id; /* NULL: none */
		bool is_other;
	} rows[] = {
		{ "v=STSv1; id=20160831085700Z;", "20160831085700Z", false },
		{ "v=STSv1; id=20160831085700Z", "20160831085700Z", false },
		{ "v=STSv1;id=1", "1", false },
		{ "v=STSv1 \t;\t id=1 ;", "1", false },
		{ "v=STSv1; id=abcdefghijklmnopqrstuvwxyz012345;",
		  "abcdefghijklmnopqrstuvwxyz012345", false },
		{ "v=STSv1; new.field-1_=va:lue; id=7", "7", false },
		{ "v=STSv1; id=1; id=2", "1", false },
		{ "v=STSv1; ID=1", NULL, false },
		{ "v=STSv1; id=abcdefghijklmnopqrstuvwxyz0123456;", NULL, false },
		{ "v=STSv1; id=", NULL, false },
		{ "v=STSv1; id=a-b", NULL, false },
		{ "v=STSv1; id=a b", NULL, false },
		{ "v=STSv1; id", NULL, false },
		{ "v=STSv1;; id=1", NULL, false },
		{ "v=STSv1; id=1; broken", NULL, false },
		{ "v=STSv1; id=1; x=a=b", NULL, false },
		{ "v=STSv1; id=1; -x=a", NULL, false },
		{ "v=STSv1; x=1", NULL, false },
		{ "v=STSv1;", NULL, false },
		{ "v=STSv1", NULL, true },
		{ "v=STSv2; id=1", NULL, true },
		{ "v=STSv10; id=1", NULL, true },
		{ "v=stsv1; id=1", NULL, true },
		{ " v=STSv1; id=1", NULL, true },
		{ "id=1; v=STSv1;", NULL, true },
		{ "v=spf1 -all", NULL, true },
		{ "", NULL, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct span id;
		bool is_other;
		bool good = sts_record_parse(span_of_string(rows[i].text), &id, &is_other);
		if (good != (rows[i].id != NULL) || is_other != rows[i].is_other)
			fail_msg("%s", rows[i].text);
		if (good && !span_eq(id, span_of_string(rows[i].id)))
			fail_msg("%s: %.*s", rows[i].text, SPAN_ARG(id));
	}
}

static void
exactly_one_record_counts(void **state)
{
	struct span other = SPAN("v=spf1 -all");
	struct span good = SPAN("v=STSv1; id=1");
	struct span broken = SPAN("v=STSv1; id");
	struct span id;

	(void)state;
	assert_false(sts_records_find(NULL, 0, &id));
	assert_false(sts_records_find(&other, 1, &id));
	assert_false(sts_records_find(&broken, 1, &id));
	assert_true(sts_records_find((struct span[]){ other, good, other }, 3, &id));
	assert_true(span_eq(id, SPAN("1")));
	assert_false(sts_records_find((struct span[]){ good, good }, 2, &id));
	assert_false(sts_records_find((struct span[]){ good, broken }, 2, &id));
	assert_false(sts_records_find((struct span[]){ broken, good }, 2, &id));
}

struct policy_row {
	const char *text;
	const char *expected; /* "mode age pattern ..."; or what is said of a bad one */
};

static const struct policy_row good_policies[] = {
	{ "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\n"
	  "mx: backupmx.example.com\r\nmax_age: 604800\r\n",
	  "enforce 604800 mail.example.com *.example.net backupmx.example.com" },
	{ "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 0", "testing 0 a.example" },
	{ "version: STSv1\nmode: none\nmax_age: 31557600\n", "none 31557600" },
	{ "max_age:1\nmx:a.example  \nmode:\tenforce\nversion:STSv1", "enforce 1 a.example" },
	{ "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1\nnew_field: a b\xc3\xa4 = ;\n",
	  "enforce 1 a.example" },
	{ "\nversion: STSv1\n\nmode: enforce\nmx: a.example\nmax_age: 1\n\n",
	  "enforce 1 a.example" },
	/* of a field that stands twice the first counts */
	{ "version: STSv1\nversion: STSv2\nmode: none\nmode: enforce\nmax_age: 1\nmax_age: x\n",
	  "none 1" },
	{ "version: STSv1\nmode: enforce\nmx: a.example.\nmax_age: 1\n", "enforce 1 a.example" },
	{ "version: STSv1\nmode: enforce\nmx: xn--bcher-kva.example\nmax_age: 1\n",
	  "enforce 1 xn--bcher-kva.example" },
};

static const struct policy_row bad_policies[] = {
	{ "", "it has no version" },
	{ "mode: none\nmax_age: 1\n", "it has no version" },
	{ "version: STSv2\nmode: none\nmax_age: 1\n", "no such version: STSv2" },
	{ "version: STSv1\nmax_age: 1\n", "it has no mode" },
	{ "version: STSv1\nmode: enforced\nmax_age: 1\n", "no such mode: enforced" },
	{ "version: STSv1\nmode: Enforce\nmax_age: 1\n", "no such mode: Enforce" },
	{ "version: STSv1\nmode: none\n", "it has no max_age" },
	{ "version: STSv1\nmode: none\nmax_age: 31557601\n",
	  "max_age is no number up to 31557600: 31557601" },
	{ "version: STSv1\nmode: none\nmax_age: -1\n", "max_age is no number up to 31557600: -1" },
	{ "version: STSv1\nmode: none\nmax_age: 1d\n", "max_age is no number up to 31557600: 1d" },
	{ "version: STSv1\nmode: none\nmax_age: 00000000001\n",
	  "max_age is no number up to 31557600: 00000000001" },
	{ "version: STSv1\nmode: enforce\nmax_age: 1\n", "it names no mx" },
	{ "version: STSv1\nmode: testing\nmax_age: 1\n", "it names no mx" },
	{ "version: STSv1\nmode: enforce\nmx: *.*.example\nmax_age: 1\n",
	  "mx is no name of a host: *.*.example" },
	{ "version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n", "mx is no name of a host: *" },
	{ "version: STSv1\nmode: enforce\nmx: a*.example\nmax_age: 1\n",
	  "mx is no name of a host: a*.example" },
	{ "version: STSv1\nmode: enforce\nmx: a..example\nmax_age: 1\n",
	  "mx is no name of a host: a..example" },
	{ "version: STSv1\nmode: enforce\nmx: .\nmax_age: 1\n", "mx is no name of a host: ." },
	{ "version: STSv1\nmode: enforce\nmx:\nmax_age: 1\n", "a line is no field: mx:" },
	{ "version: STSv1\nmode: none\nmax_age: 1\nwords\n", "a line is no field: words" },
	{ "version: STSv1\nmode: none\nmax_age: 1\nx: a\tb\n", "a line is no field: x: a\tb" },
	{ "<html><body>version: STSv1</body></html>",
	  "a line is no field: <html><body>version: STSv1</body></html>" },
};

static void
policies_are_read(void **state)
{
	static struct sts_policy p;

	(void)state;
	for (size_t i = 0; i < sizeof good_policies / sizeof good_policies[0]; i++) {
		const struct policy_row *row = &good_policies[i];
		uint8_t memory[500], why_memory[300];
		struct buf shown = buf_of(memory, sizeof memory);
		struct buf why = buf_of(why_memory, sizeof why_memory);
		if (!sts_policy_parse(span_of_string(row->text), &p, &why))
			fail_msg("%s: %.*s", row->text, SPAN_ARG(buf_span(&why)));
		buf_printf(&shown, "%s %u", sts_mode_label(p.mode), p.max_age_s);
		for (unsigned n = 0; n < p.pattern_count; n++)
			buf_printf(&shown, " %.*s", SPAN_ARG(p.patterns[n]));
		if (!span_eq(buf_span(&shown), span_of_string(row->expected)))
			fail_msg("%s: %.*s", row->text, SPAN_ARG(buf_span(&shown)));
	}
}

static void
bad_policies_are_refused(void **state)
{
	static struct sts_policy p;

	(void)state;
	for (size_t i = 0; i < sizeof bad_policies / sizeof bad_policies[0]; i++) {
		const struct policy_row *row = &bad_policies[i];
		uint8_t memory[300];
		struct buf why = buf_of(memory, sizeof memory);
		assert_false(sts_policy_parse(span_of_string(row->text), &p, NULL));
		assert_false(sts_policy_parse(span_of_string(row->text), &p, &why));
		if (!span_eq(buf_span(&why), span_of_string(row->expected)))
			fail_msg("%s: %.*s", row->text, SPAN_ARG(buf_span(&why)));
	}
}

static void
policies_are_bounded(void **state)
{
	static uint8_t memory[STS_TEXT_MAX + 1];
	static struct sts_policy p;
	struct buf text = buf_of(memory, sizeof memory);

	(void)state;
	buf_append_string(&text, "version: STSv1\nmode: enforce\nmax_age: 1\n");
	for (unsigned i = 0; i < STS_PATTERNS_MAX; i++)
		buf_printf(&text, "mx: mx%u.example\n", i);
	assert_true(sts_policy_parse(buf_span(&text), &p, NULL));
	assert_int_equal(p.pattern_count, STS_PATTERNS_MAX);
	buf_append_string(&text, "mx: one.more.example\n");
	assert_false(sts_policy_parse(buf_span(&text), &p, NULL));

	buf_reset(&text);
	buf_append_string(&text, "version: STSv1\nmode: none\nmax_age: 1\n");
	while (text.size < STS_TEXT_MAX)
		buf_append_byte(&text, '\n');
	assert_true(sts_policy_parse(buf_span(&text), &p, NULL));
	buf_append_byte(&text, '\n');
	assert_false(sts_policy_parse(buf_span(&text), &p, NULL));
}

static void
patterns_stand_for_one_label(void **state)
{
	static const struct {
		const char *pattern;
		const char *host;
		bool matches;
	} rows[] = {
		{ "mail.example.com", "mail.example.com", true },
		{ "mail.example.com", "MAIL.Example.COM", true },
		{ "mail.example.com", "mail.example.com.", true },
		{ "mail.example.com", "xmail.example.com", false },
		{ "mail.example.com", "a.mail.example.com", false },
		{ "*.example.com", "mail.example.com", true },
		{ "*.Example.com", "MAIL.example.com.", true },
		{ "*.example.com", "example.com", false },
		{ "*.example.com", ".example.com", false },
		{ "*.example.com", "a.mail.example.com", false },
		{ "*.example.com", "mail.example.org", false },
		{ "*.example.com", "mailexample.com", false },
		{ "*.example.com", "*.example.com", true },
		{ "*.com", "example.com", true },
		{ "example.com", "*.example.com", false },
		{ "*.example.com", "", false },
		{ "*.example.com", "192.0.2.1", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (sts_pattern_matches(span_of_string(rows[i].pattern),
					span_of_string(rows[i].host)) != rows[i].matches)
			fail_msg("%s and %s", rows[i].pattern, rows[i].host);
	}
}

static void
a_host_needs_one_pattern_of_the_policy(void **state)
{
	static struct sts_policy p;

	(void)state;
	assert_true(sts_policy_parse(SPAN("version: STSv1\nmode: enforce\nmx: a.example\n"
					  "mx: *.b.example\nmax_age: 1\n"),
				     &p, NULL));
	assert_true(sts_patterns_match(p.patterns, p.pattern_count, SPAN("a.example")));
	assert_true(sts_patterns_match(p.patterns, p.pattern_count, SPAN("x.b.example")));
	assert_false(sts_patterns_match(p.patterns, p.pattern_count, SPAN("b.example")));
	assert_false(sts_patterns_match(p.patterns, p.pattern_count, SPAN("c.example")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_have_a_version_and_an_id),
		cmocka_unit_test(exactly_one_record_counts),
		cmocka_unit_test(policies_are_read),
		cmocka_unit_test(bad_policies_are_refused),
		cmocka_unit_test(policies_are_bounded),
		cmocka_unit_test(patterns_stand_for_one_label),
		cmocka_unit_test(a_host_needs_one_pattern_of_the_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
