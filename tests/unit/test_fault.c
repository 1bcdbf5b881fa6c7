/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/fault.h"

static char text[1024];

static bool
add(struct fault_rules *all, const char *rule)
{
	struct buf why = buf_of(text, sizeof text - 1);
	bool good = fault_add(all, span_of_string(rule), &why);

	assert_false(why.overflow);
	text[why.size] = 0;
	assert_true(good == (why.size == 0));
	return good;
}

static void
test_reads_rules(void **state)
{
	static const struct {
		const char *rule;
		enum fault_kind kind;
		enum fault_phase phase;
		uint32_t share;
		uint32_t amount;
		const char *pattern;
	} cases[] = {
		{ "5%:defer", FAULT_DEFER, FAULT_AT_RCPT, 5000000, 0, "" },
		{ "0.1%:refuse", FAULT_REFUSE, FAULT_AT_RCPT, 100000, 0, "" },
		{ "0.000001%:refuse", FAULT_REFUSE, FAULT_AT_RCPT, 1, 0, "" },
		{ "100%:defer-data", FAULT_DEFER_DATA, FAULT_AT_END, 100000000, 0, "" },
		{ "100.0%:refuse-data", FAULT_REFUSE_DATA, FAULT_AT_END, 100000000, 0, "" },
		{ "*@slow.test:late=2s", FAULT_LATE, FAULT_AT_END, 100000000, 2000, "*@slow.test" },
		{ "1%:late=500ms@connect", FAULT_LATE, FAULT_AT_CONNECT, 1000000, 500, "" },
		{ "5%,*@x:late=1m@rcpt", FAULT_LATE, FAULT_AT_RCPT, 5000000, 60000, "*@x" },
		{ "1%:slow=100", FAULT_SLOW, FAULT_AT_CONNECT, 1000000, 100, "" },
		{ "*:slow=10KiB", FAULT_SLOW, FAULT_AT_RCPT, 100000000, 10240, "*" },
		{ "1%:drop=connect", FAULT_DROP, FAULT_AT_CONNECT, 1000000, 0, "" },
		{ "1%:close=hello", FAULT_CLOSE, FAULT_AT_HELLO, 1000000, 0, "" },
		{ "1%:stall=mail", FAULT_STALL, FAULT_AT_MAIL, 1000000, 0, "" },
		{ "a@b:drop=data", FAULT_DROP, FAULT_AT_DATA, 100000000, 0, "a@b" },
		{ "a%b@c:drop=body", FAULT_DROP, FAULT_AT_BODY, 100000000, 0, "a%b@c" },
		{ "*@[IPv6:::1]:drop=reply", FAULT_DROP, FAULT_AT_REPLY, 100000000, 0,
		  "*@[IPv6:::1]" },
		{ "a,b@c:drop=end", FAULT_DROP, FAULT_AT_END, 100000000, 0, "a,b@c" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fault_rules all = { 0 };
		if (!add(&all, cases[i].rule))
			fail_msg("%s: %s", cases[i].rule, text);
		const struct fault_rule *r = &all.rules[0];
		assert_int_equal(all.count, 1);
		assert_int_equal(r->kind, cases[i].kind);
		assert_int_equal(r->phase, cases[i].phase);
		assert_int_equal(r->share, cases[i].share);
		assert_int_equal(r->amount, cases[i].amount);
		assert_int_equal(r->pattern_size, strlen(cases[i].pattern));
		assert_memory_equal(r->pattern, cases[i].pattern, r->pattern_size);
		assert_true(fault_may_strike(&all, cases[i].phase));
		assert_int_equal(all.phases, 1U << cases[i].phase);
		assert_int_equal(all.general, r->pattern_size == 0);
		assert_int_equal(all.replies, cases[i].kind <= FAULT_REFUSE_DATA);
	}
}

static void
test_refuses_rules(void **state)
{
	static const struct {
		const char *rule;
		const char *why; /* how it begins */
	} cases[] = {
		{ "", "'' is no rule; write WHEN:WHAT" },
		{ "defer", "'defer' is no rule; write WHEN:WHAT" },
		{ ":defer", "'' does not say when; write a share" },
		{ "5%,:defer", "'5%,' does not say when; write a share" },
		{ "0%:defer", "'0%' is no share; write more than 0 and at most 100" },
		{ "101%:defer", "'101%' is no share" },
		{ "100.1%:defer", "'100.1%' is no share" },
		{ "-5%:defer", "'-5%' is no share" },
		{ "5.%:defer", "'5.%' is no share" },
		{ "0.0000001%:defer", "'0.0000001%' is no share" },
		{ "5%:", "'' is nothing that the sink can do; write one of defer, refuse, " },
		{ "5%:deferr", "'deferr' is nothing that the sink can do; write one of defer, " },
		{ "5%:defer=1", "'defer=1' takes no argument; leave out" },
		{ "5%:drop", "'drop' lacks its argument; write drop=PHASE" },
		{ "5%:late", "'late' lacks its argument; write late=TIME[@PHASE]" },
		{ "5%:slow=", "'slow=' lacks its argument; write slow=SIZE" },
		{ "5%:drop=quit", "'quit' is no phase; write one of connect, hello, mail, rcpt, "
				  "data, body, end, reply" },
		{ "5%:slow=0", "'0' is no number of bytes a second; write as in slow=100" },
		{ "5%:slow=5GiB", "'5GiB' is no number of bytes a second" },
		{ "5%:late=5", "'5' is no duration; write a number with ms, s, m or h" },
		{ "5%:late=0s", "'0s' is no duration" },
		{ "5%:late=25h", "'25h' is no duration" },
		{ "5%:late=5s@", "'' is no phase; write one of connect" },
		{ "*@x:drop=hello", "'*@x:drop=hello' matches recipients before any is known; use "
				    "one of rcpt, data, body, end, reply" },
		{ "5%,x:late=1s@connect", "'5%,x:late=1s@connect' matches recipients before any" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fault_rules all = { 0 };
		if (add(&all, cases[i].rule))
			fail_msg("'%s' was taken", cases[i].rule);
		if (strncmp(text, cases[i].why, strlen(cases[i].why)) != 0)
			fail_msg("'%s': %s", cases[i].rule, text);
		assert_int_equal(all.count + all.phases, 0);
	}
}

static void
test_limits(void **state)
{
	struct fault_rules all = { 0 };
	char rule[FAULT_PATTERN_MAX + 16];

	(void)state;
	memset(rule, 'x', sizeof rule);
	memcpy(rule + FAULT_PATTERN_MAX + 1, ":defer", 7);
	assert_false(add(&all, rule));
	assert_non_null(strstr(text, "128 bytes are the limit"));
	assert_true(add(&all, rule + 1));
	while (all.count < FAULT_RULES_MAX)
		assert_true(add(&all, "5%:defer"));
	assert_false(add(&all, "5%:defer"));
	assert_non_null(strstr(text, "32 are the limit"));
}

static void
test_matches(void **state)
{
	static const struct {
		const char *pattern;
		const char *recipient;
		bool matches;
	} cases[] = {
		{ "*", "", true },
		{ "*", "a@b", true },
		{ "a@b", "a@b", true },
		{ "a@b", "A@B", true },
		{ "a@b", "a@bc", false },
		{ "a@b", "xa@b", false },
		{ "*@b", "a@b", true },
		{ "*@b", "@b", true },
		{ "*@b", "a@b@c", false },
		{ "*@b", "a@b@b", true },
		{ "r*.x@*.test", "r12.x@a.b.TEST", true },
		{ "r*.x@*.test", "r12.x@test", false },
		{ "a**b", "ab", true },
		{ "*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fault_rules all = { 0 };
		char rule[64];
		snprintf(rule, sizeof rule, "%s:defer", cases[i].pattern);
		assert_true(add(&all, rule));
		assert_true(add(&all, "5%:defer"));
		uint32_t matched = fault_match(&all, span_of_string(cases[i].recipient));
		if (matched != (cases[i].matches ? 3U : 2U))
			fail_msg("%s, %s", cases[i].pattern, cases[i].recipient);
	}
}

static unsigned
count_struck(const char *rule, uint64_t seed)
{
	struct fault_rules all = { 0 };
	struct fault_verdict verdict;
	unsigned struck = 0;

	assert_true(add(&all, rule));
	for (unsigned i = 0; i < 100000; i++) {
		fault_judge(&all, FAULT_AT_RCPT, 1, &seed, &verdict);
		assert_int_equal(verdict.struck, verdict.kind == FAULT_DEFER);
		struck += verdict.struck;
	}
	return struck;
}

static void
test_shares(void **state)
{
	(void)state;
	/* Five standard deviations. */
	assert_in_range(count_struck("5%:defer", 1), 5000 - 345, 5000 + 345);
	assert_in_range(count_struck("0.1%:defer", 2), 100 - 50, 100 + 50);
	assert_in_range(count_struck("50%,*:defer", 3), 50000 - 790, 50000 + 790);
	assert_int_equal(count_struck("100%:defer", 4), 100000);
	assert_int_equal(count_struck("5%:defer", 5), count_struck("5%:defer", 5));
	assert_int_not_equal(count_struck("5%:defer", 5), count_struck("5%:defer", 6));
}

static void
test_first_decides(void **state)
{
	struct fault_rules all = { 0 };
	struct fault_verdict verdict;
	uint64_t random = 1;

	(void)state;
	assert_true(add(&all, "100%:late=1s@rcpt"));
	assert_true(add(&all, "a*:refuse"));
	assert_true(add(&all, "100%:defer"));
	assert_true(add(&all, "*:slow=10"));
	assert_true(add(&all, "*:late=2s@rcpt"));
	assert_true(add(&all, "100%:drop=end"));
	fault_judge(&all, FAULT_AT_RCPT, fault_match(&all, SPAN("a")), &random, &verdict);
	assert_int_equal(verdict.kind, FAULT_REFUSE);
	assert_int_equal(verdict.late_ms, 1000);
	assert_int_equal(verdict.rate, 10);
	assert_int_equal(verdict.struck, 3);
	fault_judge(&all, FAULT_AT_RCPT, fault_match(&all, SPAN("b")), &random, &verdict);
	assert_int_equal(verdict.kind, FAULT_DEFER);
	fault_judge(&all, FAULT_AT_RCPT, 0, &random, &verdict);
	assert_int_equal(verdict.kind + verdict.struck + verdict.late_ms + verdict.rate, 0);
	fault_judge(&all, FAULT_AT_END, all.general, &random, &verdict);
	assert_int_equal(verdict.kind, FAULT_DROP);
	assert_true(fault_may_strike(&all, FAULT_AT_END));
	assert_false(fault_may_strike(&all, FAULT_AT_BODY));
	assert_false(fault_may_strike(NULL, FAULT_AT_END));
}

/* README.md shows what the program prints. */
static void
test_readme(void **state)
{
	static char readme[256 * 1024];
	char help[8192];
	struct buf out = buf_of(help, sizeof help - 1);
	FILE *f = fopen("bench/README.md", "re");

	(void)state;
	assert_non_null(f);
	readme[fread(readme, 1, sizeof readme - 1, f)] = 0;
	fclose(f);
	fault_show_help(&out);
	assert_false(out.overflow);
	help[out.size] = 0;
	if (strstr(readme, help) == NULL)
		fail_msg("bench/README.md lacks, in a block of its own:\n%s", help);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_rules), cmocka_unit_test(test_refuses_rules),
		cmocka_unit_test(test_limits),      cmocka_unit_test(test_matches),
		cmocka_unit_test(test_shares),      cmocka_unit_test(test_first_decides),
		cmocka_unit_test(test_readme),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
