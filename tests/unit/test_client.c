/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench */
/*
 * Plays the dialogues of client_dialogues.h with the peer's bytes whole, byte by byte, and cut once
 * at every place; every run must go exactly as written. Then each is cut off by a loss at every
 * line, where client_check.h says what must hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/lib/client_check.h"
#include "tests/unit/client_dialogues.h"

enum { MAILS = 4, RECIPIENTS = 8, LINE_SIZE = 256 };

struct run {
	const struct dialogue *dialogue;
	const char *at;  /* in the script */
	const char *end; /* of what is played of it */
	struct client client;
	struct client_check check;
	struct client_options options;
	struct client_mail mails[MAILS];
	bool rejected[MAILS][RECIPIENTS];
	unsigned offered;
	struct buf scratch;
	uint8_t scratch_memory[8192];
	char input[4096]; /* from the peer, all of it */
	size_t input_size;
	size_t input_used;
	size_t input_shown; /* how much of it the machine may see */
	size_t cut;         /* where the input is cut; 0: byte by byte; SIZE_MAX: whole */
};

static void
fail_run(const struct run *r, const char *got)
{
	fail_msg("%s (cut %zd): expected \"%.*s\", got \"%s\"", r->dialogue->name, (ssize_t)r->cut,
		 (int)strcspn(r->at, "\n"), r->at, got);
}

/* False at the end of the script. */
static bool
next_line(const struct run *r, char line[LINE_SIZE])
{
	size_t size = r->at < r->end ? strcspn(r->at, "\n") : 0;

	assert_true(size < LINE_SIZE);
	memcpy(line, r->at, size);
	line[size] = 0;
	return size > 0;
}

static void
skip_line(struct run *r)
{
	r->at += strcspn(r->at, "\n");
	r->at += *r->at == '\n';
}

static void
match_line(struct run *r, const char *got)
{
	char line[LINE_SIZE];

	if (!next_line(r, line) || strcmp(line, got) != 0)
		fail_run(r, got);
	skip_line(r);
}

static bool
show_recipient(const struct client_mail *m, uint32_t i, struct buf *out)
{
	(void)m;
	return buf_printf(out, "r%u@y", i);
}

static void
offer(struct run *r, unsigned recipients)
{
	struct client_mail *m = &r->mails[r->offered];

	assert_true(r->offered < MAILS && recipients <= RECIPIENTS);
	*m = (struct client_mail){ .size = BODY_SIZE,
				   .recipient_count = recipients,
				   .show_recipient = show_recipient,
				   .rejected = r->rejected[r->offered] };
	r->offered++;
	check_offer(&r->check, m);
	client_offer(&r->client, m);
}

/* Does what the caller does on this line, where the machine has said `event`; false where it is
 * not such a line. */
static bool
do_line(struct run *r, const char *line, enum client_event event)
{
	if (strncmp(line, "offer ", 6) == 0) {
		if (event != CLIENT_NEED_MAIL)
			fail_run(r, "no place");
		offer(r, (unsigned)(line[6] - '0'));
	} else if (strcmp(line, "full") == 0) {
		if (event != CLIENT_NEED_INPUT)
			fail_run(r, "a place");
	} else if (strcmp(line, "quit") == 0) {
		client_quit(&r->client);
	} else if (strcmp(line, "secured") == 0) {
		client_secured(&r->client);
	} else if (strcmp(line, "lost") == 0) {
		client_lost(&r->client, "lost");
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
	if (r->cut == 0)
		r->input_shown++;
	else if (r->input_shown < r->cut && r->cut < r->input_size)
		r->input_shown = r->cut;
	else
		r->input_shown = r->input_size;
	return true;
}

static void
match_write(struct run *r, struct span text)
{
	while (text.size > 0) {
		size_t size = span_find(text, '\n', 0) + 1;
		char said[LINE_SIZE];
		snprintf(said, sizeof said, "C: %.*s", SPAN_ARG(span_first(text, size - 2)));
		match_line(r, said);
		text = span_after(text, size);
	}
}

static void
match_outcome(struct run *r, const struct client_action *a)
{
	static const char *const fates[] = { "accepted", "refused", "doubt" };
	unsigned number = (unsigned)(a->mail - r->mails);
	char got[LINE_SIZE];
	int size = snprintf(got, sizeof got, "mail %u %s", number, fates[a->fate]);
	bool any = false;

	if (a->reply != NULL)
		size += snprintf(got + size, 16, " %u", (unsigned)a->reply->code);
	for (unsigned i = 0; i < a->mail->recipient_count; i++) {
		if (!a->mail->rejected[i])
			continue;
		size += snprintf(got + size, 16, any ? "%u" : " -%u", i);
		any = true;
	}
	match_line(r, got);
}

static void
match_close(struct run *r, const struct client_action *a)
{
	char got[LINE_SIZE];
	int size = snprintf(got, sizeof got, "close");

	if (a->reply != NULL)
		size += snprintf(got + size, 16, " %u", (unsigned)a->reply->code);
	if (a->why != NULL)
		snprintf(got + size, 128, " %s", a->why);
	match_line(r, got);
}

static void
match_action(struct run *r, const struct client_action *a)
{
	char got[LINE_SIZE];

	switch (a->event) {
	case CLIENT_WRITE:
		match_write(r, a->text);
		break;
	case CLIENT_START_TLS:
		match_line(r, "tls");
		break;
	case CLIENT_SEND_BODY:
		snprintf(got, sizeof got, "body %u", (unsigned)(a->mail - r->mails));
		match_line(r, got);
		break;
	case CLIENT_OUTCOME:
		match_outcome(r, a);
		break;
	default:
		match_close(r, a);
		break;
	}
}

static void
step_once(struct run *r, struct client_action *a)
{
	struct span in = span_of(r->input + r->input_used, r->input_shown - r->input_used);
	size_t used = client_step(&r->client, in, a);

	assert_true(used <= in.size);
	r->input_used += used;
	assert_true(a->event > CLIENT_NEED_MAIL || used == in.size);
	check_action(&r->check, a);
}

/* The peer says all its lines up to what comes next. */
static void
hear(struct run *r)
{
	char line[LINE_SIZE];

	while (next_line(r, line) && strncmp(line, "S: ", 3) == 0) {
		r->input_size +=
			(size_t)snprintf(r->input + r->input_size, sizeof r->input - r->input_size,
					 "%s\r\n", line + 3);
		skip_line(r);
	}
}

static void
play(struct run *r)
{
	char line[LINE_SIZE];

	while (next_line(r, line)) {
		struct client_action a;
		step_once(r, &a);
		if (a.event > CLIENT_NEED_MAIL) {
			match_action(r, &a);
			continue;
		}
		if (show_input(r) || do_line(r, line, a.event))
			continue;
		if (strncmp(line, "S: ", 3) != 0)
			fail_run(r, a.event == CLIENT_NEED_MAIL ? "need mail" : "need input");
		hear(r);
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
	r->options.hello = SPAN("me");
	r->options.sender = SPAN("s@x");
	r->scratch = buf_of(r->scratch_memory, client_scratch_size(RECIPIENTS));
	assert_true(r->scratch.capacity <= sizeof r->scratch_memory);
	r->check.sends_none = d->options.mode >= CLIENT_LOGIN;
	client_init(&r->client, &r->options, &r->scratch);
	play(r);
}

/* One run; returns how much the peer has said. */
static size_t
play_whole(const struct dialogue *d, size_t cut)
{
	struct run *r = malloc(sizeof *r);

	assert_non_null(r);
	play_dialogue(r, d, strlen(d->script), cut);
	if (!r->check.closed)
		fail_run(r, "no end");
	size_t size = r->input_size;
	free(r);
	return size;
}

static void
dialogues_go_as_written_however_they_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
		size_t size = play_whole(&dialogues[i], SIZE_MAX);
		assert_int_equal(play_whole(&dialogues[i], 0), size);
		for (size_t cut = 1; cut < size; cut++)
			assert_int_equal(play_whole(&dialogues[i], cut), size);
	}
}

/* What is owed comes, whatever is lost where: client_check.h knows what had its end sent. */
static void
lose(struct run *r)
{
	unsigned lent = r->check.offered - r->check.over;
	unsigned sent = r->check.sent - r->check.over;
	struct client_action a;

	client_lost(&r->client, "gone");
	for (unsigned i = 0; !r->check.closed; i++) {
		assert_true(i <= lent);
		step_once(r, &a);
		if (a.event == CLIENT_OUTCOME && i < sent)
			assert_true(a.fate == CLIENT_IN_DOUBT ||
				    (a.fate == CLIENT_ACCEPTED && r->options.lmtp));
		else if (a.event == CLIENT_OUTCOME)
			assert_int_equal(a.fate, CLIENT_REFUSED);
		else
			assert_int_equal(a.event, CLIENT_CLOSE);
	}
}

static void
a_loss_anywhere_leaves_no_mail_without_an_outcome(void **state)
{
	struct run *r = malloc(sizeof *r);

	(void)state;
	assert_non_null(r);
	for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
		const char *script = dialogues[i].script;
		for (size_t size = 0; size < strlen(script);
		     size += strcspn(script + size, "\n") + 1) {
			/* Not in the midst of lines that leave as one text. */
			if (strncmp(script + size, "C: ", 3) == 0)
				continue;
			play_dialogue(r, &dialogues[i], size, 0);
			if (!r->check.closed && strncmp(script + size, "close", 5) != 0)
				lose(r);
		}
	}
	free(r);
}

static void
the_scratch_holds_the_longest_group(void **state)
{
	static char sender[CLIENT_ADDRESS_MAX];
	struct run *r = malloc(sizeof *r);
	struct client_action a;

	(void)state;
	assert_non_null(r);
	memset(sender, 's', sizeof sender);
	play_dialogue(r, &dialogues[0], 0, SIZE_MAX);
	r->options = (struct client_options){ .hello = SPAN("me"),
					      .sender = span_of(sender, sizeof sender),
					      .mode = CLIENT_PIPELINED,
					      .bdat = true };
	client_init(&r->client, &r->options, &r->scratch);
	client_step(&r->client, SPAN("220 mx\r\n"), &a);
	client_step(&r->client, SPAN("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"), &a);
	assert_int_equal(a.event, CLIENT_NEED_MAIL);
	offer(r, RECIPIENTS);
	client_step(&r->client, span_none(), &a);
	assert_int_equal(a.event, CLIENT_WRITE);
	assert_true(span_ends_with_nocase(a.text, SPAN("BDAT 1000 LAST\r\n")));
	free(r);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(dialogues_go_as_written_however_they_are_cut),
		cmocka_unit_test(a_loss_anywhere_leaves_no_mail_without_an_outcome),
		cmocka_unit_test(the_scratch_holds_the_longest_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
