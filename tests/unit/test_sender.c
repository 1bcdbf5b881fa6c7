/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
/*
 * Plays the dialogues of sender_dialogues.h with the peer's bytes whole, byte by byte, and cut once
 * at every place; every run must go exactly as written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "relay/smtp/sender.h"
#include "tests/lib/sender_check.h"
#include "tests/unit/sender_dialogues.h"

/* ---- the runner ---- */

static const char *const class_names[] = { "ok", "temporary", "permanent" };
static const char *const next_names[] = { "nothing", "later", "host", "again" };

struct run {
	const struct dialogue *dialogue;
	const char *at;  /* in the script */
	const char *end; /* of what is played of it */
	struct sender sender;
	struct sender_check check;
	struct buf scratch;
	struct sender_options options;
	struct sender_transaction transactions[3];
	struct sender_recipient recipients[3][8];
	uint8_t scratch_memory[SENDER_SCRATCH_MIN];
	char answer[256]; /* of ours, to a challenge */
	char said[4096];  /* by us, not yet matched */
	size_t said_size;
	char input[4096]; /* from the peer, all of it */
	size_t input_size;
	size_t input_used;
	size_t input_shown; /* how much of it the machine may see */
	size_t cut;         /* where the input is cut; 0: byte by byte; SIZE_MAX: whole */
};

static void
fail_run(const struct run *r, const char *got)
{
	const char *end = strchr(r->at, '\n');
	int size = end == NULL ? (int)strlen(r->at) : (int)(end - r->at);

	fail_msg("%s (cut %zd): expected \"%.*s\", got \"%s\"", r->dialogue->name, (ssize_t)r->cut,
		 size, r->at, got);
}

static bool
next_line(struct run *r, char line[256])
{
	const char *end = strchr(r->at, '\n');
	size_t size = end == NULL ? strlen(r->at) : (size_t)(end - r->at);

	if (r->at >= r->end)
		size = 0;
	assert_true(size < 256);
	memcpy(line, r->at, size);
	line[size] = 0;
	return size > 0;
}

static void
skip_line(struct run *r)
{
	const char *end = strchr(r->at, '\n');

	r->at = end == NULL ? r->at + strlen(r->at) : end + 1;
}

static unsigned
number_of(const struct run *r, const struct sender_transaction *t)
{
	return (unsigned)(t - r->transactions);
}

static void
name_outcome(const struct run *r, const struct sender_action *a, char text[256])
{
	const struct sender_outcome *o = &a->outcome;
	int size = snprintf(text, 256, "R %u.%u %s %s %s %s", number_of(r, a->transaction),
			    o->index, class_names[o->class], next_names[o->next],
			    sender_phase_label(o->phase), sender_cause_label(o->cause));

	if (o->reply != NULL)
		size += snprintf(text + size, 32, " %u", (unsigned)o->reply->code);
	if (o->in_doubt)
		snprintf(text + size, 32, " doubt");
}

/* What the script would call an action. */
static void
name_action(const struct run *r, const struct sender_action *a, char text[256])
{
	switch (a->kind) {
	case SENDER_NEED_INPUT:
		snprintf(text, 256, "need input");
		break;
	case SENDER_WAIT:
		snprintf(text, 256, "wait");
		break;
	case SENDER_READY:
		snprintf(text, 256, "ready");
		break;
	case SENDER_START_TLS:
		snprintf(text, 256, "start-tls");
		break;
	case SENDER_ASK_AUTH:
		snprintf(text, 256, "auth %.*s%s%s%s%.*s", SPAN_ARG(sasl_name(a->auth.mechanism)),
			 a->auth.first ? " first" : "", a->auth.over ? " over" : "",
			 a->auth.data.size > 0 ? " " : "", SPAN_ARG(a->auth.data));
		break;
	case SENDER_SEND_BODY:
		snprintf(text, 256, " %u %u %u%s%s", number_of(r, a->transaction),
			 (unsigned)a->piece.offset, (unsigned)a->piece.size,
			 a->piece.stuffed ? " stuffed" : "", a->piece.last ? " last" : "");
		break;
	case SENDER_BEFORE_END:
		snprintf(text, 256, "ask %u", number_of(r, a->transaction));
		break;
	case SENDER_RECIPIENT_OUTCOME:
		name_outcome(r, a, text);
		break;
	case SENDER_DONE:
		snprintf(text, 256, "done %u", number_of(r, a->transaction));
		break;
	case SENDER_CLOSE:
		snprintf(text, 256, "close %s", close_label(a->close));
		break;
	default:
		snprintf(text, 256, "write");
		break;
	}
}

static void
start_mail(struct run *r, unsigned n)
{
	const struct mail *m = &r->dialogue->mails[n];
	struct sender_transaction *t = &r->transactions[n];
	const char *at = m->to;

	*t = (struct sender_transaction){
		.sender = span_of_string(m->from),
		.envid = span_of_string(m->envid),
		.body_size = m->size,
		.eight_bit = m->eight_bit,
		.utf8 = m->utf8,
		.ret = m->ret,
		.require_tls = m->require_tls,
		.recipients = r->recipients[n],
	};
	while (*at != 0) {
		size_t size = strcspn(at, " ");
		struct sender_recipient *to = &t->recipients[t->recipient_count++];
		*to = (struct sender_recipient){ .address = span_of(at, size) };
		if (size > 4 && memcmp(at + size - 4, "+dsn", 4) == 0) {
			to->address.size -= 4;
			to->notify = SENDER_NOTIFY_SUCCESS | SENDER_NOTIFY_DELAY;
			to->orcpt = SPAN("rfc822;b@y");
		}
		at += size + (at[size] == ' ');
	}
	check_start(&r->check, t);
	sender_start(&r->sender, t);
}

static enum close_reason
reason_of(const char *label)
{
	for (enum close_reason c = 0; c < CLOSE_COUNT; c++) {
		if (strcmp(close_label(c), label) == 0)
			return c;
	}
	fail_msg("no such reason: %s", label);
	return CLOSE_COUNT;
}

/* Does what the caller does on this line; false where it is not such a line. */
static bool
do_line(struct run *r, const char *line)
{
	if (strncmp(line, "start ", 6) == 0) {
		start_mail(r, (unsigned)(line[6] - '0'));
	} else if (strncmp(line, "can ", 4) == 0) {
		if (sender_can_start(&r->sender) != (line[4] == '1'))
			fail_run(r, "the contrary");
	} else if (strncmp(line, "phase ", 6) == 0) {
		const char *label = sender_phase_label(sender_phase(&r->sender));
		if (strcmp(label, line + 6) != 0)
			fail_run(r, label);
	} else if (strncmp(line, "quit ", 5) == 0) {
		sender_quit(&r->sender, reason_of(line + 5));
	} else if (strncmp(line, "lost ", 5) == 0) {
		sender_lost(&r->sender, reason_of(line + 5));
	} else if (strcmp(line, "secured") == 0) {
		sender_secured(&r->sender);
	} else if (strncmp(line, "say ", 4) == 0) {
		/* Lent to the machine until its next step. */
		memcpy(r->answer, line + 4, sizeof r->answer - 4);
		sender_auth_answer(&r->sender, span_of_string(r->answer));
	} else if (strcmp(line, "fail") == 0) {
		sender_auth_failed(&r->sender);
	} else if (strcmp(line, "sent") == 0) {
		check_body_sent(&r->check);
		sender_body_sent(&r->sender);
	} else {
		return false;
	}
	skip_line(r);
	return true;
}

/* Shows the machine more of what the peer has said. False where there is no more. */
static bool
show_input(struct run *r)
{
	if (r->input_shown == r->input_size)
		return false;
	r->input_shown = r->cut == 0                                         ? r->input_shown + 1
			 : r->cut < r->input_size && r->input_shown < r->cut ? r->cut
									     : r->input_size;
	return true;
}

static void
peer_says(struct run *r, const char *text)
{
	r->input_size += (size_t)snprintf(r->input + r->input_size, sizeof r->input - r->input_size,
					  "%s\r\n", text);
	skip_line(r);
}

static void
match_write(struct run *r, struct span text)
{
	char line[256];

	assert_true(text.size < sizeof r->said);
	memcpy(r->said, text.data, text.size);
	r->said_size = text.size;
	for (size_t at = 0; at < r->said_size;) {
		size_t size =
			(size_t)((char *)memchr(r->said + at, '\n', r->said_size - at) - r->said) +
			1 - at;
		char said[256];
		snprintf(said, sizeof said, "C: %.*s", (int)size - 2, r->said + at);
		if (!next_line(r, line) || strcmp(line, said) != 0)
			fail_run(r, said);
		skip_line(r);
		at += size;
	}
}

static void
match_action(struct run *r, const struct sender_action *a)
{
	char line[256];
	char got[256];

	check_action(&r->check, a);
	if (a->kind == SENDER_WRITE) {
		match_write(r, a->text);
		return;
	}
	name_action(r, a, got);
	next_line(r, line);
	if (a->kind == SENDER_BEFORE_END) {
		bool go = strcmp(line + strlen(line) - 4, " yes") == 0;
		if (strncmp(line, got, strlen(got)) != 0)
			fail_run(r, got);
		check_answer(&r->check, a->transaction, go);
		sender_answer(&r->sender, go);
	} else if (a->kind == SENDER_SEND_BODY) {
		bool held = strncmp(line, "body-held", 9) == 0;
		if (strncmp(line, "body", 4) != 0 || strcmp(line + (held ? 9 : 4), got) != 0)
			fail_run(r, got);
		if (!held) {
			check_body_sent(&r->check);
			sender_body_sent(&r->sender);
		}
	} else if (strcmp(line, got) != 0) {
		fail_run(r, got);
	}
	skip_line(r);
}

static void
step_once(struct run *r, struct sender_action *a)
{
	struct span in = span_of(r->input + r->input_used, r->input_shown - r->input_used);
	size_t used = sender_step(&r->sender, in, a);

	assert_true(used <= in.size);
	r->input_used += used;
	assert_true(a->kind != SENDER_NEED_INPUT || used == in.size);
}

static void
play(struct run *r)
{
	char line[256];

	while (next_line(r, line)) {
		struct sender_action a;
		/* The caller acts when the machine has seen all that the peer has said. */
		if (r->input_used == r->input_size && do_line(r, line))
			continue;
		step_once(r, &a);
		bool waits = a.kind == SENDER_WAIT && strcmp(line, "wait") != 0;
		if (a.kind != SENDER_NEED_INPUT && !waits) {
			match_action(r, &a);
			continue;
		}
		if (show_input(r) || do_line(r, line))
			continue;
		if (strncmp(line, "S: ", 3) != 0)
			fail_run(r, "need input");
		while (next_line(r, line) && strncmp(line, "S: ", 3) == 0)
			peer_says(r, line + 3);
	}
}

/* Plays the first `size` bytes of a script. */
static void
play_dialogue(struct run *r, const struct dialogue *d, size_t size, size_t cut)
{
	memset(r, 0, sizeof *r);
	r->dialogue = d;
	r->at = d->script;
	r->end = d->script + size;
	r->cut = cut;
	r->options = d->options;
	r->options.hello_name = SPAN("me");
	if (r->options.piece_max == 0)
		r->options.piece_max = 65536;
	r->scratch = buf_of(r->scratch_memory, sizeof r->scratch_memory);
	sender_init(&r->sender, &r->options, &r->scratch);
	play(r);
}

/* One run; returns how much the peer has said. */
static size_t
run_dialogue(const struct dialogue *d, size_t cut)
{
	static struct run r;
	struct sender_action a;

	play_dialogue(&r, d, strlen(d->script), cut);
	if (!r.check.closed) {
		step_once(&r, &a);
		if (a.kind != SENDER_NEED_INPUT)
			match_action(&r, &a);
	}
	return r.input_size;
}

static void
dialogues_go_as_written_however_they_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
		size_t size = run_dialogue(&dialogues[i], SIZE_MAX);
		run_dialogue(&dialogues[i], 0);
		for (size_t cut = 1; cut < size; cut++)
			run_dialogue(&dialogues[i], cut);
	}
}

/* Plays a dialogue up to a line, then loses the connection; sender_check holds the outcomes to
 * what was sent. */
static void
lose_dialogue(const struct dialogue *d, size_t size)
{
	static struct run r;

	play_dialogue(&r, d, size, SIZE_MAX);
	sender_lost(&r.sender, CLOSE_RESET);
	for (unsigned n = 0; !r.check.closed; n++) {
		struct sender_action a;
		assert_true(n < 100);
		step_once(&r, &a);
		check_action(&r.check, &a);
	}
}

static void
a_loss_anywhere_leaves_nobody_without_an_outcome(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
		const char *script = dialogues[i].script;
		for (const char *at = strchr(script, '\n'); at != NULL; at = strchr(at + 1, '\n')) {
			/* Not amid what the peer says at once, or what we say in one write. */
			if (at[1] != 0 && at[2] != ':')
				lose_dialogue(&dialogues[i], (size_t)(at + 1 - script));
		}
	}
}

static void
a_group_longer_than_the_scratch_is_written_in_parts(void **state)
{
	static struct sender_recipient recipients[1000];
	static uint8_t memory[SENDER_SCRATCH_MIN];
	struct buf scratch = buf_of(memory, sizeof memory);
	struct sender_options options = { .hello_name = SPAN("me"), .piece_max = 65536 };
	struct sender_transaction t = { .sender = SPAN("a@x"), .body_size = 1 };
	struct sender s;
	struct sender_action a;
	size_t lines = 0;
	static const char hello[] = "220 x\r\n250-x\r\n250 PIPELINING\r\n";
	size_t used = 0;

	(void)state;
	for (size_t i = 0; i < 1000; i++)
		recipients[i].address = SPAN("somebody@example.org");
	t.recipients = recipients;
	t.recipient_count = 1000;
	sender_init(&s, &options, &scratch);
	sender_start(&s, &t);
	do {
		used += sender_step(&s, span_of(hello + used, sizeof hello - 1 - used), &a);
		for (size_t i = 0; a.kind == SENDER_WRITE && i < a.text.size; i++)
			lines += a.text.data[i] == '\n';
	} while (a.kind != SENDER_NEED_INPUT);
	assert_int_equal(lines, 1 + 1 + 1000 + 1);
}

static void
an_address_longer_than_the_scratch_fails_alone(void **state)
{
	static uint8_t address[SENDER_SCRATCH_MIN];
	static uint8_t memory[SENDER_SCRATCH_MIN];
	struct buf scratch = buf_of(memory, sizeof memory);
	struct sender_options options = { .hello_name = SPAN("me"), .piece_max = 65536 };
	struct sender_recipient recipient = { 0 };
	struct sender_transaction t = { .body_size = 1, .recipient_count = 1 };
	struct sender s;
	struct sender_action a;
	static const char hello[] = "220 x\r\n250-x\r\n250 PIPELINING\r\n250 ok\r\n";
	size_t used = 0;
	unsigned outcomes = 0;

	(void)state;
	memset(address, 'a', sizeof address);
	recipient.address = span_of(address, sizeof address);
	t.recipients = &recipient;
	sender_init(&s, &options, &scratch);
	sender_start(&s, &t);
	do {
		used += sender_step(&s, span_of(hello + used, sizeof hello - 1 - used), &a);
		if (a.kind == SENDER_RECIPIENT_OUTCOME) {
			assert_int_equal(a.outcome.cause, SENDER_CAUSE_BAD_RECIPIENT);
			outcomes++;
		}
	} while (a.kind != SENDER_DONE);
	assert_int_equal(outcomes, 1);
}

static void
outcomes_show_a_reply_and_a_status_that_fit(void **state)
{
	struct reply reply;
	enum reply_event event;
	uint8_t memory[256];
	struct buf b = buf_of(memory, sizeof memory);
	struct sender_outcome o = { .class = SENDER_TEMPORARY, .reply = &reply };

	(void)state;
	reply_init(&reply);
	reply_feed(&reply, SPAN("552 5.2.2 full\r\n"), &event);
	assert_true(sender_outcome_show(&o, &b));
	assert_true(span_eq(buf_span(&b), SPAN("552 5.2.2 full")));
	assert_int_equal(sender_outcome_status(&o).status_class, 4);
	assert_int_equal(sender_outcome_status(&o).subject, 0);
	o = (struct sender_outcome){ .class = SENDER_PERMANENT, .cause = SENDER_CAUSE_TOO_BIG };
	buf_reset(&b);
	assert_true(sender_outcome_show(&o, &b));
	assert_true(span_starts_with(buf_span(&b), SPAN("552 5.3.4 the message is")));
	assert_int_equal(sender_outcome_status(&o).detail, 4);
}

static void
time_outs_are_those_of_the_rfc(void **state)
{
	(void)state;
	assert_int_equal(sender_phase_timeout_s(SENDER_PHASE_GREETING), 300);
	assert_int_equal(sender_phase_timeout_s(SENDER_PHASE_DATA), 120);
	assert_int_equal(sender_phase_timeout_s(SENDER_PHASE_BODY), 180);
	assert_int_equal(sender_phase_timeout_s(SENDER_PHASE_END), 600);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dialogues_go_as_written_however_they_are_cut),
		cmocka_unit_test(a_loss_anywhere_leaves_nobody_without_an_outcome),
		cmocka_unit_test(a_group_longer_than_the_scratch_is_written_in_parts),
		cmocka_unit_test(an_address_longer_than_the_scratch_fails_alone),
		cmocka_unit_test(outcomes_show_a_reply_and_a_status_that_fit),
		cmocka_unit_test(time_outs_are_those_of_the_rfc),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
