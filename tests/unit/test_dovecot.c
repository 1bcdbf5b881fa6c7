/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "relay/smtp/dovecot.h"

static uint8_t memory[DOVECOT_QUESTION_MAX];

static void
lines_are_read(void **state)
{
	static const struct {
		const char *line;
		struct dovecot_line meant;
	} rows[] = {
		{ "VERSION\t1\t2", { .kind = DOVECOT_VERSION, .number = 1 } },
		{ "MECH\tPLAIN\tplaintext",
		  { .kind = DOVECOT_MECHANISM, .mechanism = SASL_PLAIN } },
		{ "MECH\tplain", { .kind = DOVECOT_MECHANISM, .mechanism = SASL_PLAIN } },
		{ "MECH\tLOGIN\tplaintext",
		  { .kind = DOVECOT_MECHANISM, .mechanism = SASL_LOGIN } },
		{ "MECH\tSCRAM-SHA-256\tmutual-auth",
		  { .kind = DOVECOT_MECHANISM, .mechanism = SASL_SCRAM_SHA_256 } },
		{ "MECH\tCRAM-MD5", { .kind = DOVECOT_OTHER } },
		{ "MECH", { .kind = DOVECOT_OTHER } },
		{ "SPID\t12345", { .kind = DOVECOT_OTHER } },
		{ "COOKIE\tabc", { .kind = DOVECOT_OTHER } },
		{ "DONE", { .kind = DOVECOT_DONE } },
		{ "", { .kind = DOVECOT_OTHER } },
		{ "OK\t7", { .kind = DOVECOT_OK, .number = 7 } },
		{ "OK\t7\tuser=ann@example.org\tx=y",
		  { .kind = DOVECOT_OK, .number = 7, .user = SPAN("ann@example.org") } },
		{ "FAIL\t4294967295\tuser=bob",
		  { .kind = DOVECOT_FAIL, .number = UINT32_MAX, .user = SPAN("bob") } },
		{ "FAIL\t1\ttemp", { .kind = DOVECOT_FAIL, .number = 1, .temporary = true } },
		{ "FAIL\t1\tuser=b\tcode=temp_fail",
		  { .kind = DOVECOT_FAIL, .number = 1, .user = SPAN("b"), .temporary = true } },
		{ "FAIL\t1\tuser=b\tuser_disabled",
		  { .kind = DOVECOT_FAIL, .number = 1, .user = SPAN("b"), .disabled = true } },
		{ "CONT\t1\tYQ==",
		  { .kind = DOVECOT_CONTINUE, .number = 1, .data = SPAN("YQ==") } },
		{ "CONT\t1\t", { .kind = DOVECOT_CONTINUE, .number = 1 } },
	};
	static const char *const broken[] = { "OK",      "OK\t",    "OK\tx", "FAIL\t4294967296",
					      "VERSION", "CONT\t-1" };
	struct dovecot_line line;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_true(dovecot_read(span_of_string(rows[i].line), &line));
		assert_int_equal(line.kind, rows[i].meant.kind);
		assert_int_equal(line.number, rows[i].meant.number);
		assert_true(span_eq(line.user, rows[i].meant.user));
		assert_true(span_eq(line.data, rows[i].meant.data));
		if (line.kind == DOVECOT_MECHANISM)
			assert_int_equal(line.mechanism, rows[i].meant.mechanism);
		assert_int_equal(line.temporary, rows[i].meant.temporary);
		assert_int_equal(line.disabled, rows[i].meant.disabled);
	}
	for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
		assert_false(dovecot_read(span_of_string(broken[i]), &line));
}

static void
texts_are_unescaped(void **state)
{
	struct buf out = buf_of(memory, 7);

	(void)state;
	assert_true(dovecot_unescape(SPAN("a\001t\0011\001n\001r\0010b"), &out));
	assert_memory_equal(memory, "a\t\001\n\r\0b", 7);
	assert_false(dovecot_unescape(SPAN("x"), &out)); /* full */
	buf_reset(&out);
	assert_false(dovecot_unescape(SPAN("a\001"), &out));
	buf_reset(&out);
	assert_false(dovecot_unescape(SPAN("\001x"), &out));
}

static void
questions_are_asked(void **state)
{
	static char name[SASL_NAME_MAX], password[SASL_PASSWORD_MAX];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	dovecot_greet(42, &out);
	assert_true(span_eq(buf_span(&out), SPAN("VERSION\t1\t1\nCPID\t42\n")));
	buf_reset(&out);
	dovecot_ask_plain(7, SPAN("ann"), SPAN("secret"), SPAN("192.0.2.1"), &out);
	assert_true(span_eq(buf_span(&out), SPAN("AUTH\t7\tPLAIN\tservice=smtp\tsecured\tnologin"
						 "\trip=192.0.2.1\tresp=AGFubgBzZWNyZXQ=\n")));
	buf_reset(&out);
	memset(name, 'n', sizeof name);
	memset(password, 'p', sizeof password);
	dovecot_ask_plain(UINT32_MAX, span_of(name, sizeof name),
			  span_of(password, sizeof password),
			  SPAN("2001:db8:1111:2222:3333:4444:5555:6666"), &out);
	assert_false(out.overflow);
}

static void
exchanges_are_passed_on(void **state)
{
	static uint8_t long_one[SASL_MESSAGE_MAX];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	dovecot_ask_mechanism(9, SASL_SCRAM_SHA_256, SPAN("n,,n=ann,r=x"), span_none(), &out);
	assert_true(span_eq(buf_span(&out), SPAN("AUTH\t9\tSCRAM-SHA-256\tservice=smtp\tsecured"
						 "\tnologin\tresp=biwsbj1hbm4scj14\n")));
	buf_reset(&out);
	dovecot_continue(9, SPAN("c=biws"), &out);
	dovecot_continue(9, span_none(), &out);
	dovecot_cancel(9, &out);
	assert_true(span_eq(buf_span(&out), SPAN("CONT\t9\tYz1iaXdz\nCONT\t9\t\nCANCEL\t9\n")));
	buf_reset(&out);
	dovecot_ask_mechanism(UINT32_MAX, SASL_SCRAM_SHA_256, span_of(long_one, sizeof long_one),
			      SPAN("2001:db8:1111:2222:3333:4444:5555:6666"), &out);
	assert_false(out.overflow);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exchanges_are_passed_on),
		cmocka_unit_test(lines_are_read),
		cmocka_unit_test(texts_are_unescaped),
		cmocka_unit_test(questions_are_asked),
	};

	return cmocka_run_group_tests_name("dovecot", tests, NULL, NULL);
}
