/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses spf_zone ctl dns */
/* What ringpostctl shows of SPF: the mistakes of records (tests/spf/records.lint), steps and
 * outcomes, as text and as JSON. The command line is tested by tests/spf/test_ctl.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>

#include "dns/answer.h"
#include "relay/ctl/spf.h"
#include "relay/ctl/spf_lint.h"
#include "relay/ctl/spf_show.h"
#include "tests/lib/spf_zone.h"

enum { SHOWN_SIZE = 512 * 1024, CASES_MIN = 16 };

static unsigned cases;
static char shown[SHOWN_SIZE + 1];

static struct dns_answer *
ask(void *context, struct span name, enum dns_type type)
{
	return spf_zone_answer(context, name, type, 0);
}

static void
must_have(const struct spf_case *c, const char *text)
{
	if (strstr(shown, text) == NULL)
		fail_msg("%s:%u: %s: \"%s\" is missing in\n%s", c->file, c->line, c->name, text,
			 shown);
}

static void
check_json(const struct lint *l)
{
	json_t *object = lint_show_json(l);

	assert_non_null(object);
	assert_int_equal(json_is_true(json_object_get(object, "ok")), l->errors == 0);
	assert_int_equal(json_array_size(json_object_get(object, "findings")), l->count);
	assert_int_equal(json_array_size(json_object_get(object, "records")), l->record_count);
	assert_int_equal(json_integer_value(json_object_get(object, "lookups")), l->lookups);
	json_decref(object);
}

static void
lint_case(const struct spf_case *c)
{
	struct lint *l = calloc(1, sizeof *l);
	struct buf out = buf_of(shown, SHOWN_SIZE);

	assert_non_null(l);
	cases++;
	l->ask = ask;
	l->context = (void *)(uintptr_t)c->zone;
	lint_domain(l, span_of_string(c->name));
	lint_show(l, &out);
	assert_false(out.overflow);
	shown[out.size] = 0;
	for (size_t i = 0; i < out.size; i++)
		assert_true(shown[i] == '\n' || (shown[i] >= ' ' && shown[i] < 0x7f));
	if ((c->result == SPF_FAIL) != (l->errors > 0))
		fail_msg("%s: %u errors\n%s", c->name, l->errors, shown);
	must_have(c, c->problem);
	if (c->lookups >= 0)
		assert_int_equal(l->lookups, c->lookups);
	if (c->voids >= 0)
		assert_int_equal(l->voids, c->voids);
	check_json(l);
	free(l);
}

static void
mistakes_are_named(void **state)
{
	(void)state;
	cases = 0;
	spf_zone_read("tests/spf/records.lint", lint_case);
	assert_true(cases >= CASES_MIN);
}

static void
texts_cannot_steer_a_terminal(void **state)
{
	char memory[100];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	spf_show_text(SPAN("a\x1b[2J\n\xff b"), &out);
	assert_true(span_eq(buf_span(&out), SPAN("a\\x1b[2J\\x0a\\xff b")));
	json_t *text = spf_show_json_text(SPAN("\xff\x00\""));
	assert_string_equal(json_string_value(text), "\\xff\\x00\"");
	json_decref(text);
}

static void
long_texts_are_cut(void **state)
{
	static uint8_t large[10000];
	struct buf out = buf_of(shown, SHOWN_SIZE);

	(void)state;
	memset(large, 'x', sizeof large);
	spf_show_text(span_of(large, sizeof large), &out);
	assert_int_equal(out.size, 4096 + 3);
	assert_memory_equal(shown + 4096, "...", 3);
}

static void
steps_are_shown(void **state)
{
	struct dns_record records[20] = { 0 };
	struct dns_answer from = { .outcome = DNS_FOUND, .count = 20, .records = records };
	struct dns_answer *a = answer_new(&from);
	struct spf_step step = { .kind = SPF_STEP_ANSWER,
				 .depth = 1,
				 .domain = SPAN("example.org"),
				 .text = SPAN("mx.example.org"),
				 .type = DNS_MX,
				 .answer = a };
	struct buf out = buf_of(shown, SHOWN_SIZE);

	(void)state;
	spf_show_step(&step, &out);
	shown[out.size] = 0;
	assert_non_null(strstr(shown, "  MX mx.example.org: found, insecure: 0 ., 0 ."));
	assert_non_null(strstr(shown, " and 4 more\n"));
	json_t *object = spf_show_step_json(&step);
	assert_string_equal(json_string_value(json_object_get(object, "step")), "answer");
	assert_int_equal(json_array_size(json_object_get(object, "records")), 20);
	json_decref(object);
	dns_answer_put(a);
	for (unsigned kind = SPF_STEP_BEGIN; kind <= SPF_STEP_PROBLEM; kind++) {
		struct spf_step one = { .kind = kind,
					.domain = SPAN("example.org"),
					.text = SPAN("text"),
					.target = SPAN("target"),
					.answer = kind == SPF_STEP_ANSWER ? a : NULL };
		if (kind == SPF_STEP_ANSWER)
			continue;
		buf_reset(&out);
		spf_show_step(&one, &out);
		assert_int_equal(out.size > 0, kind != SPF_STEP_ASK);
		assert_true(out.size == 0 || shown[out.size - 1] == '\n');
		json_t *value = spf_show_step_json(&one);
		assert_string_equal(json_string_value(json_object_get(value, "step")),
				    spf_step_label(kind));
		json_decref(value);
	}
}

static void
outcomes_are_shown(void **state)
{
	struct spf_outcome o = { .result = SPF_FAIL,
				 .domain = SPAN("example.org"),
				 .mechanism = SPAN("-all"),
				 .mechanism_domain = SPAN("example.org"),
				 .explanation = SPAN("no"),
				 .lookups = 3,
				 .voids = 1,
				 .security = DNS_SECURE,
				 .expires_at_ms = 61000 };
	struct buf out = buf_of(shown, SHOWN_SIZE);

	(void)state;
	spf_show_outcome(&o, 1000, &out);
	shown[out.size] = 0;
	assert_non_null(strstr(shown, "result       fail\n"));
	assert_non_null(strstr(shown, "lookups      3 of 10, 1 of 2 without records\n"));
	assert_non_null(strstr(shown, "dnssec       secure\n"));
	assert_non_null(strstr(shown, "ttl          60 s\n"));
	json_t *object = spf_show_outcome_json(&o, 1000, json_array());
	assert_string_equal(json_string_value(json_object_get(object, "result")), "fail");
	assert_string_equal(json_string_value(json_object_get(object, "explanation")), "no");
	assert_int_equal(json_integer_value(json_object_get(object, "ttl")), 60);
	assert_null(json_object_get(object, "problem"));
	json_decref(object);
}

static void
commands_are_listed(void **state)
{
	struct buf out = buf_of(shown, SHOWN_SIZE);

	(void)state;
	spf_list_commands(&out);
	shown[out.size] = 0;
	assert_non_null(strstr(shown, "spf check --ip"));
	assert_non_null(strstr(shown, "\nspf lint --dns"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(texts_cannot_steer_a_terminal),
		cmocka_unit_test(long_texts_are_cut),
		cmocka_unit_test(steps_are_shown),
		cmocka_unit_test(outcomes_are_shown),
		cmocka_unit_test(commands_are_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
