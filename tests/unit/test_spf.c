/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses spf_zone dns core machine */
/* The evaluator of SPF over the cases in tests/spf, each with the answers given as they come and
 * with records that were parsed before. What must hold of any check holds of each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "dns/spf.h"
#include "dns/spf_record.h"
#include "tests/lib/spf_zone.h"

enum { NOW_MS = 1000000, ANSWERS_MAX = 400, CASES_MIN = 15 };

static unsigned cases;

/* ---- what holds of all ---- */

static struct seen {
	unsigned begins, leaves, problems;
	unsigned asks, answers;
	unsigned depth;
} seen;

static void
on_step(void *context, const struct spf_step *step)
{
	assert_ptr_equal(context, &seen);
	assert_true(step->depth <= SPF_LOOKUPS_MAX);
	assert_true(step->domain.size <= DNS_NAME_MAX);
	assert_non_null(spf_step_label(step->kind));
	seen.depth = step->depth;
	seen.begins += step->kind == SPF_STEP_BEGIN;
	seen.leaves += step->kind == SPF_STEP_LEAVE;
	seen.problems += step->kind == SPF_STEP_PROBLEM;
	seen.asks += step->kind == SPF_STEP_ASK;
	if (step->kind == SPF_STEP_ANSWER) {
		assert_non_null(step->answer);
		seen.answers++;
	}
}

static bool
is_printable(struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < ' ' || text.data[i] >= 0x7f)
			return false;
	}
	return true;
}

static void
check_invariants(const struct spf_outcome *o)
{
	bool is_error =
		o->result == SPF_NONE || o->result == SPF_TEMPERROR || o->result == SPF_PERMERROR;

	assert_true(o->lookups <= SPF_LOOKUPS_MAX);
	assert_true(o->voids <= SPF_VOIDS_MAX + 1);
	assert_int_equal(is_error, o->problem.size > 0);
	assert_true(is_printable(o->problem) && is_printable(o->explanation));
	assert_true(o->explanation.size == 0 || o->result == SPF_FAIL);
	assert_true(!is_error || o->mechanism.size == 0);
	assert_true(o->mechanism.size > 0 || is_error || o->result == SPF_NEUTRAL);
	assert_int_equal(o->mechanism.size > 0, o->mechanism_domain.size > 0);
}

static const struct spf_outcome *
run(struct spf *s, const struct spf_case *c, bool with_records)
{
	struct spf_question q, again;
	unsigned answers = 0;

	seen = (struct seen){ 0 };
	spf_begin(s, &c->in, on_step, &seen);
	while (spf_next(s, &q)) {
		assert_true(spf_next(s, &again) && q.name.data == again.name.data);
		assert_true(q.name.size > 0 && q.name.size <= DNS_NAME_MAX);
		assert_true(answers++ < ANSWERS_MAX);
		struct dns_answer *a = spf_zone_answer(c->zone, q.name, q.type, NOW_MS);
		if (q.is_record && with_records) {
			struct spf_record *record = spf_record_new(a);
			spf_answer_record(s, record);
			spf_record_put(record);
			seen.answers++;
		} else {
			spf_answer(s, a);
		}
		dns_answer_put(a);
	}
	assert_int_equal(seen.asks, seen.answers);
	check_invariants(spf_outcome(s));
	return spf_outcome(s);
}

/* ---- what the case says ---- */

static void
check_text(const struct spf_case *c, const char *what, struct span text, const char *expected)
{
	if (!span_eq(text, span_of_string(expected)))
		fail_msg("%s:%u: %s: %s is \"%.*s\", not \"%s\"", c->file, c->line, c->name, what,
			 SPAN_ARG(text), expected);
}

static void
check_number(const struct spf_case *c, const char *what, long number, long expected)
{
	if (expected >= 0 && number != expected)
		fail_msg("%s:%u: %s: %s is %ld, not %ld", c->file, c->line, c->name, what, number,
			 expected);
}

static void
check_case(const struct spf_case *c, const struct spf_outcome *o)
{
	if (o->result != c->result)
		fail_msg("%s:%u: %s: %s, not %s (%.*s)", c->file, c->line, c->name,
			 spf_result_label(o->result), spf_result_label(c->result),
			 SPAN_ARG(o->problem));
	if (c->has_explanation)
		check_text(c, "explanation", o->explanation, c->explanation);
	if (c->mechanism[0] != 0)
		check_text(c, "mechanism", o->mechanism, c->mechanism);
	if (c->of[0] != 0)
		check_text(c, "its domain", o->mechanism_domain, c->of);
	if (c->problem[0] != 0 &&
	    memmem(o->problem.data, o->problem.size, c->problem, strlen(c->problem)) == NULL)
		check_text(c, "problem", o->problem, c->problem);
	check_number(c, "lookups", o->lookups, c->lookups);
	check_number(c, "voids", o->voids, c->voids);
	check_number(c, "security", o->security, c->security);
	if (c->ttl_s >= 0)
		check_number(c, "ttl", (long)(o->expires_at_ms - NOW_MS) / 1000, c->ttl_s);
}

static void
run_case(const struct spf_case *c)
{
	struct spf *s = spf_new();

	assert_non_null(s);
	cases++;
	check_case(c, run(s, c, false));
	check_case(c, run(s, c, true)); /* the same machine, used again */
	spf_free(s);
}

static void
run_file(const char *path)
{
	cases = 0;
	spf_zone_read(path, run_case);
	assert_true(cases >= CASES_MIN);
	print_message("%s: %u cases\n", path, cases);
}

#define FILE_TEST(name)                              \
	static void name(void **state)               \
	{                                            \
		(void)state;                         \
		run_file("tests/spf/" #name ".spf"); \
	}

FILE_TEST(initial)
FILE_TEST(records)
FILE_TEST(networks)
FILE_TEST(addresses)
FILE_TEST(hosts)
FILE_TEST(names)
FILE_TEST(includes)
FILE_TEST(exists)
FILE_TEST(modifiers)
FILE_TEST(explanations)
FILE_TEST(macros)
FILE_TEST(limits)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(initial),   cmocka_unit_test(records),
		cmocka_unit_test(networks),  cmocka_unit_test(addresses),
		cmocka_unit_test(hosts),     cmocka_unit_test(names),
		cmocka_unit_test(includes),  cmocka_unit_test(exists),
		cmocka_unit_test(modifiers), cmocka_unit_test(explanations),
		cmocka_unit_test(macros),    cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
