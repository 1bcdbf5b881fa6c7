/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include "relay/message/received_spf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void
assert_written(const struct received_spf *r, const char *want)
{
	uint8_t memory[RECEIVED_SPF_MAX];
	struct buf out = buf_of(memory, sizeof memory);

	assert_true(received_spf_write(&out, r));
	if (!span_eq(buf_span(&out), span_of_string(want)))
		fail_msg("came\n%.*s", SPAN_ARG(buf_span(&out)));
}

static void
a_field_is_written(void **state)
{
	(void)state;
	assert_written(
		&(struct received_spf){
			.result = SPAN("pass"),
			.comment = SPAN("example.net: mx:(x)"),
			.receiver = SPAN("mx.example.org"),
			.client_ip = SPAN("192.0.2.1"),
			.envelope_from = SPAN("joe@example.net"),
			.helo = SPAN("mail.example.net"),
			.identity = SPAN("mailfrom"),
			.mechanism = SPAN("mx:x"),
		},
		"Received-SPF: pass (example.net: mx:\\(x\\))\r\n"
		"\treceiver=mx.example.org;\r\n"
		"\tclient-ip=192.0.2.1;\r\n"
		"\tenvelope-from=\"joe@example.net\";\r\n"
		"\thelo=mail.example.net;\r\n"
		"\tidentity=mailfrom;\r\n"
		"\tmechanism=\"mx:x\"\r\n");
	assert_written(&(struct received_spf){ .result = SPAN("permerror"),
					       .receiver = SPAN("a..b"),
					       .client_ip = SPAN("2001:db8::1"),
					       .helo = SPAN("x\r\nBcc: \"\xc3\xbc"),
					       .identity = SPAN("helo"),
					       .problem = SPAN("too many lookups") },
		       "Received-SPF: permerror\r\n"
		       "\treceiver=\"a..b\";\r\n"
		       "\tclient-ip=\"2001:db8::1\";\r\n"
		       "\tenvelope-from=\"\";\r\n"
		       "\thelo=\"x??Bcc: \\\"?\";\r\n"
		       "\tidentity=helo;\r\n"
		       "\tproblem=\"too many lookups\"\r\n");
}

static void
the_longest_texts_fit_and_no_line_is_too_long(void **state)
{
	uint8_t memory[RECEIVED_SPF_MAX], text[2000];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	memset(text, '"', sizeof text);
	struct span long_text = span_of(text, sizeof text);
	struct received_spf r = { .result = SPAN("permerror"),
				  .comment = long_text,
				  .receiver = span_of(text, 255),
				  .client_ip = SPAN("2001:db8::1"),
				  .envelope_from = long_text,
				  .helo = long_text,
				  .identity = SPAN("mailfrom"),
				  .mechanism = long_text,
				  .problem = long_text };
	assert_true(received_spf_write(&out, &r));
	for (struct span rest = buf_span(&out); rest.size > 0;) {
		size_t end = span_find(rest, '\n', 0);
		assert_true(end < 998);
		rest = span_after(rest, end + 1);
	}
	out = buf_of(memory, 100);
	assert_false(received_spf_write(&out, &r));
	assert_int_equal(out.size, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_field_is_written),
		cmocka_unit_test(the_longest_texts_fit_and_no_line_is_too_long),
	};

	return cmocka_run_group_tests_name("received_spf", tests, NULL, NULL);
}
