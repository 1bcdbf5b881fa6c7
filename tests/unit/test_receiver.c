/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
/* What no script can say: ends from outside, phases, bounds. The dialogue is in tests/script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/base/base64.h"
#include "relay/smtp/receiver.h"

static const struct receiver_options options = {
	.hostname = { (const uint8_t *)"mx.example.org", 14 },
	.size_max = 1000,
	.discard_max = 1000,
	.recipients_max = 10,
	.errors_max = 5,
	.junk_max = 5,
	.line_max = 1024,
};

/* Steps with `text` until it is consumed and nothing more happens, saying yes to everything.
 * Returns the kind of the last action but NEED_INPUT. */
static enum receiver_action_kind
say(struct receiver *r, const char *text)
{
	struct span in = span_of_string(text);
	struct receiver_action action;
	enum receiver_action_kind last = RECEIVER_NONE;

	for (;;) {
		in = span_after(in, receiver_step(r, in, &action));
		if (action.kind == RECEIVER_NEED_INPUT || action.kind == RECEIVER_CLOSE)
			return action.kind == RECEIVER_CLOSE ? RECEIVER_CLOSE : last;
		last = action.kind;
		if (action.kind == RECEIVER_ASK_COMMIT)
			return last;
		if (action.kind >= RECEIVER_ASK_GREETING && action.kind <= RECEIVER_ASK_SYNC)
			receiver_answer(r, &(struct receiver_answer){ .row = REPLY_NONE });
	}
}

static void
begin(struct receiver *r)
{
	receiver_init(r, &options);
	assert_int_equal(say(r, "HELO x\r\n"), RECEIVER_REPLY);
}

static void
expect_end(struct receiver *r, const char *line, enum close_reason reason)
{
	struct receiver_action action;

	assert_int_equal(receiver_step(r, SPAN("NOOP\r\n"), &action), 0);
	assert_int_equal(action.kind, RECEIVER_REPLY);
	assert_int_equal(action.code, 421);
	assert_true(span_starts_with(action.data, span_of_string(line)));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(receiver_step(r, SPAN("NOOP\r\n"), &action), 0);
		assert_int_equal(action.kind, RECEIVER_CLOSE);
		assert_int_equal(action.reason, reason);
	}
	assert_int_equal(receiver_phase(r), RECEIVER_PHASE_CLOSED);
	receiver_fini(r);
}

static void
sessions_can_be_ended_from_outside(void **state)
{
	static const char *const before[] = {
		"",
		"MAIL FROM:<a@b>\r\n",
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n",
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhalf a li",
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 100\r\nhalf a chu",
		/* The commit is an open question. */
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
		struct receiver r;
		begin(&r);
		say(&r, before[i]);
		receiver_end(&r, REPLY_TIMED_OUT, CLOSE_TIMEOUT);
		receiver_end(&r, REPLY_SHUTTING_DOWN, CLOSE_SHUTDOWN); /* the first one stays */
		expect_end(&r, "421 4.4.2", CLOSE_TIMEOUT);
	}
}

static void
phases_say_what_is_awaited(void **state)
{
	struct receiver r;
	struct receiver_action action;

	(void)state;
	receiver_init(&r, &options);
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_OURS);
	receiver_step(&r, span_none(), &action);
	assert_int_equal(action.kind, RECEIVER_ASK_GREETING);
	receiver_step(&r, SPAN("HELO x\r\n"), &action);
	assert_int_equal(action.kind, RECEIVER_WAIT);
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_OURS);
	receiver_answer(&r, &(struct receiver_answer){ .row = REPLY_NONE });
	say(&r, "HELO x\r\n");
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_COMMAND);
	assert_true(receiver_is_idle(&r));
	say(&r, "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
	assert_false(receiver_is_idle(&r));
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_COMMAND);
	say(&r, "BDAT 3\r\nab");
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_DATA);
	say(&r, "c");
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_COMMAND);
	assert_int_equal(say(&r, "BDAT 0 LAST\r\n"), RECEIVER_ASK_COMMIT);
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_OURS);
	receiver_fini(&r);
}

static void
longest_names_and_texts_fit(void **state)
{
	struct receiver_options wide = options;
	char name[ADDRESS_DOMAIN_MAX];
	char text[600];
	struct receiver r;
	struct receiver_action action;

	(void)state;
	memset(name, 'n', sizeof name);
	memset(text, 't', sizeof text);
	wide.hostname = span_of(name, sizeof name);
	wide.size_max = UINT64_MAX;
	wide.recipients_max = wide.mails_max = UINT32_MAX;
	wide.starttls = true;
	wide.auth = SASL_BIT(SASL_MECHANISM_COUNT) - 1;
	receiver_init(&r, &wide);
	receiver_secured(&r, true);
	say(&r, "EHLO x\r\n"); /* asserts that nothing overflows */
	receiver_step(&r, SPAN("MAIL FROM:<a@b>\r\n"), &action);
	receiver_answer(&r, &(struct receiver_answer){ .row = REPLY_ACCESS_DENIED,
						       .text = span_of(text, sizeof text) });
	receiver_step(&r, span_none(), &action);
	assert_int_equal(action.kind, RECEIVER_REPLY);
	assert_int_equal(action.data.size, strlen("554 5.7.1 \r\n") + RECEIVER_TEXT_MAX);
	receiver_fini(&r);
}

/* A session that speaks through TLS. */
static void
begin_secure(struct receiver *r, const struct receiver_options *o)
{
	receiver_init(r, o);
	receiver_secured(r, false);
	assert_int_equal(say(r, "HELO x\r\n"), RECEIVER_REPLY);
}

static void
handshakes_have_a_phase_of_their_own(void **state)
{
	struct receiver_options tls = options;
	struct receiver r;
	struct receiver_action action;

	(void)state;
	tls.starttls = true;
	receiver_init(&r, &tls);
	say(&r, "HELO x\r\n");
	assert_int_equal(receiver_step(&r, SPAN("STARTTLS\r\n"), &action), 10);
	assert_int_equal(action.kind, RECEIVER_ASK_STARTTLS);
	receiver_answer(&r, &(struct receiver_answer){ .row = REPLY_NONE });
	receiver_step(&r, span_none(), &action);
	assert_int_equal(action.kind, RECEIVER_REPLY);
	assert_int_equal(action.code, 220);
	receiver_step(&r, span_none(), &action);
	assert_int_equal(action.kind, RECEIVER_START_TLS);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_HANDSHAKE);
		assert_false(receiver_is_idle(&r));
		assert_int_equal(receiver_step(&r, SPAN("RSET\r\n"), &action), 0);
		assert_int_equal(action.kind, RECEIVER_WAIT);
	}
	receiver_secured(&r, false);
	assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_COMMAND);
	assert_true(receiver_is_idle(&r));
	receiver_fini(&r);
}

static void
sessions_can_be_ended_while_they_authenticate(void **state)
{
	struct receiver_options auth = options;

	(void)state;
	auth.auth = SASL_BIT(SASL_LOGIN);
	for (unsigned step = 0; step < 3; step++) {
		struct receiver r;
		struct receiver_action action;
		begin_secure(&r, &auth);
		receiver_step(&r, SPAN("AUTH LOGIN\r\n"), &action);
		assert_int_equal(action.kind, RECEIVER_ASK_AUTH);
		assert_false(action.has_data);
		if (step > 0) {
			receiver_answer(&r, &(struct receiver_answer){ .row = REPLY_AUTH_CONTINUE,
								       .challenge = SPAN("who?") });
			receiver_step(&r, span_none(), &action);
			assert_int_equal(action.code, 334);
			assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_COMMAND);
			assert_false(receiver_is_idle(&r));
		}
		if (step > 1) {
			receiver_step(&r, SPAN("am9l\r\n"), &action);
			assert_int_equal(action.kind, RECEIVER_ASK_AUTH_DATA);
			assert_true(span_eq(action.data, SPAN("joe")));
			assert_int_equal(receiver_phase(&r), RECEIVER_PHASE_OURS);
		}
		receiver_end(&r, REPLY_TIMED_OUT, CLOSE_TIMEOUT);
		expect_end(&r, "421 4.4.2", CLOSE_TIMEOUT);
	}
}

static void
longest_challenges_fit(void **state)
{
	struct receiver_options auth = options;
	char challenge[RECEIVER_CHALLENGE_MAX];
	struct receiver r;
	struct receiver_action action;

	(void)state;
	memset(challenge, 'c', sizeof challenge);
	auth.auth = SASL_BIT(SASL_LOGIN);
	begin_secure(&r, &auth);
	receiver_step(&r, SPAN("AUTH LOGIN\r\n"), &action);
	receiver_answer(
		&r, &(struct receiver_answer){ .row = REPLY_AUTH_CONTINUE,
					       .challenge = span_of(challenge, sizeof challenge) });
	receiver_step(&r, span_none(), &action);
	assert_int_equal(action.kind, RECEIVER_REPLY);
	assert_int_equal(action.data.size, 4 + BASE64_ENCODED(sizeof challenge) + 2);
	receiver_fini(&r);
}

/* Each line has code and enhanced code, all but the last a hyphen, and none is too long. */
static void
longest_texts_are_folded(void **state)
{
	static const char shapes[] = { 'x', ' ', 'y' }; /* without a blank, only blanks, words */
	char text[RECEIVER_TEXT_MAX], more[RECEIVER_MORE_MAX + 100];

	(void)state;
	memset(text, 't', sizeof text);
	for (size_t shape = 0; shape < sizeof shapes; shape++) {
		struct receiver r;
		struct receiver_action action;
		size_t lines = 0, letters = 0;
		memset(more, shapes[shape], sizeof more);
		for (size_t i = 0; shape == 2 && i < sizeof more; i += 203)
			more[i] = ' ';
		begin(&r);
		receiver_step(&r, SPAN("MAIL FROM:<a@b>\r\n"), &action);
		assert_int_equal(action.kind, RECEIVER_ASK_MAIL);
		receiver_answer(&r,
				&(struct receiver_answer){ .row = REPLY_SPF_FAIL,
							   .text = span_of(text, sizeof text),
							   .more = span_of(more, sizeof more) });
		receiver_step(&r, span_none(), &action);
		assert_int_equal(action.kind, RECEIVER_REPLY);
		for (struct span rest = action.data; rest.size > 0; lines++) {
			size_t end = span_find(rest, '\n', 0);
			bool last = end + 1 == rest.size;
			assert_true(end < 512);
			assert_true(span_starts_with(rest, last ? SPAN("550 5.7.23 ")
								: SPAN("550-5.7.23 ")));
			for (size_t i = 11; i < end; i++)
				letters += rest.data[i] == shapes[shape];
			rest = span_after(rest, end + 1);
		}
		assert_in_range(lines, 4, 7);
		if (shape == 0)
			assert_int_equal(letters, RECEIVER_MORE_MAX);
		receiver_fini(&r);
	}
}

static void
sessions_are_small(void **state)
{
	uint8_t memory[512];
	struct buf out = buf_of(memory, sizeof memory);
	struct receiver r;

	(void)state;
	assert_true(sizeof r < 512);
	begin(&r);
	receiver_show(&r, &out);
	assert_true(span_starts_with(buf_span(&out), SPAN("receiver READY question=none")));
	receiver_fini(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sessions_can_be_ended_from_outside),
		cmocka_unit_test(phases_say_what_is_awaited),
		cmocka_unit_test(longest_names_and_texts_fit),
		cmocka_unit_test(handshakes_have_a_phase_of_their_own),
		cmocka_unit_test(sessions_can_be_ended_while_they_authenticate),
		cmocka_unit_test(longest_challenges_fit),
		cmocka_unit_test(longest_texts_are_folded),
		cmocka_unit_test(sessions_are_small),
	};

	return cmocka_run_group_tests_name("receiver", tests, NULL, NULL);
}
