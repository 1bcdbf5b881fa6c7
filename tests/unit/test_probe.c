/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses smtp */
/*
 * Plays dialogues with the peer's bytes whole, byte by byte, and cut once at every place; every run
 * must go exactly as written. A line of a script is what is done to the machine,
 *   ask N ADDRESS | S:TEXT | lost REASON | quit REASON | secured | login TEXT | login-fails
 * or what it must do next: C:TEXT, `A N CLASS NEXT CAUSE CODE`, `close REASON`, `starttls`,
 * `auth MECHANISM first|over|CHALLENGE`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/smtp/probe.h"

static const char *const class_names[] = { "ok", "temporary", "permanent" };
static const char *const next_names[] = { "nothing", "later", "host", "again" };

struct dialogue {
	const char *name;
	bool lmtp;
	bool lockstep;
	uint8_t tls;
	uint8_t auth;
	const char *sender;
	const char *script;
};

#define UP                         \
	"S:220 mx.example ESMTP\n" \
	"C:EHLO relay.example\n"   \
	"S:250-mx.example\n"       \
	"S:250-PIPELINING\n"       \
	"S:250 SMTPUTF8\n"

#define SECURED                                                     \
	"S:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 STARTTLS\n" \
	"C:STARTTLS\nS:220 go on\nstarttls\nsecured\n"              \
	"C:EHLO relay.example\nS:250-x\n"

static const struct dialogue dialogues[] = {
	{ .name = "several questions in one flight, then another",
	  .script = "ask 0 a@x\nask 1 b@x\n" UP "C:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n"
		    "C:RCPT TO:<b@x>\n"
		    "S:250 ok\nS:250 2.1.5 ok\nS:550 5.1.1 No such user\n"
		    "A 0 ok nothing reply 250\nA 1 permanent nothing reply 550\nC:RSET\n"
		    "S:250 ok\n"
		    "ask 2 c@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<c@x>\n"
		    "S:250 ok\nS:451 4.2.0 later\nA 2 temporary later reply 451\nC:RSET\n"
		    "S:250 ok\nquit idle\nC:QUIT\nclose idle\n" },
	{ .name = "questions join an open transaction",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n"
		       "ask 1 b@x\nC:RCPT TO:<b@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\n"
		       "ask 2 c@x\nC:RCPT TO:<c@x>\n"
		       "S:250 ok\nS:250 ok\nA 1 ok nothing reply 250\nA 2 ok nothing reply 250\n"
		       "C:RSET\n"
		       "ask 3 d@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<d@x>\n"
		       "S:250 reset\nS:250 ok\nS:250 ok\nA 3 ok nothing reply 250\nC:RSET\n" },
	{ .name = "one after the other without PIPELINING",
	  .lockstep = true,
	  .sender = "verify@relay.example",
	  .script = "ask 0 a@x\nask 1 b@x\nS:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 "
		    "PIPELINING\n"
		    "C:MAIL FROM:<verify@relay.example>\nS:250 ok\nC:RCPT TO:<a@x>\nS:250 ok\n"
		    "A 0 ok nothing reply 250\nC:RCPT TO:<b@x>\nS:550 no\n"
		    "A 1 permanent nothing reply 550\nC:RSET\nS:250 ok\n"
		    "ask 2 c@x\nC:MAIL FROM:<verify@relay.example>\n" },
	{ .name = "LMTP",
	  .lmtp = true,
	  .script = "S:220 hi\nC:LHLO relay.example\nS:250-x\nS:250 PIPELINING\n"
		    "ask 0 a@x\nC:MAIL FROM:<>\nC:RCPT TO:<a@x>\n"
		    "S:250 ok\nS:550 5.1.1 <a@x> User doesn't exist: a@x\n"
		    "A 0 permanent nothing reply 550\nC:RSET\n" },
	{ .name = "LMTP has no HELO to fall back on",
	  .lmtp = true,
	  .script = "ask 0 a@x\nS:220 hi\nC:LHLO relay.example\nS:500 what?\n"
		    "C:QUIT\nA 0 temporary host reply 500\nclose rejected\n" },
	{ .name = "HELO where EHLO is not known",
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:500 what?\nC:HELO relay.example\n"
		    "S:250 x\nC:MAIL FROM:<>\nS:250 ok\nC:RCPT TO:<a@x>\nS:251 forwards\n"
		    "A 0 ok nothing reply 251\nC:RSET\n" },
	{ .name = "the greeting refuses",
	  .script = "ask 0 a@x\nask 1 b@x\nS:554 no mail here\nC:QUIT\n"
		    "A 0 temporary host reply 554\nA 1 temporary host reply 554\n"
		    "close rejected\n" },
	{ .name = "the greeting is 421",
	  .script = "ask 0 a@x\nS:421 busy\nA 0 temporary host reply 421\nclose unavailable\n" },
	{ .name = "EHLO is put off",
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:450 later\n"
		    "C:QUIT\nA 0 temporary host reply 450\nclose rejected\n" },
	{ .name = "a refused MAIL is about us, never about a recipient",
	  .script = UP "ask 0 a@x\nask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n"
		       "C:RCPT TO:<b@x>\n"
		       "S:550 5.7.1 no null sender here\nA 0 temporary later reply 550\n"
		       "A 1 temporary later reply 550\nC:QUIT\nclose rejected\n" },
	{ .name = "421 at RCPT ends it for all",
	  .script = UP "ask 0 a@x\nask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n"
		       "C:RCPT TO:<b@x>\n"
		       "S:250 ok\nS:421 4.3.2 going down\nA 0 temporary host reply 421\n"
		       "A 1 temporary host reply 421\nclose unavailable\n" },
	{ .name = "RSET is refused",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\nC:RSET\nS:500 no\nC:QUIT\nclose rejected\n" },
	{ .name = "too many recipients where there were others: another transaction",
	  .script = UP "ask 0 a@x\nask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n"
		       "C:RCPT TO:<b@x>\n"
		       "S:250 ok\nS:250 ok\nS:452 4.5.3 too many\nA 0 ok nothing reply 250\n"
		       "A 1 temporary again reply 452\nC:RSET\n" },
	{ .name = "too many recipients with the first one: not now",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n"
		       "S:250 ok\nS:452 4.2.2 full\nA 0 temporary later reply 452\nC:RSET\n" },
	{ .name = "an address in UTF-8 needs SMTPUTF8",
	  .script = "S:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 PIPELINING\n"
		    "ask 0 \xc3\xbc@x\nask 1 b@x\nC:MAIL FROM:<>\n"
		    "A 0 permanent nothing no_smtputf8 0\nC:RCPT TO:<b@x>\n" },
	{ .name = "an address in UTF-8 where it is offered",
	  .script = UP "ask 0 \xc3\xbc@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<\xc3\xbc@x>\n" },
	{ .name = "no command of somebody else's",
	  .script = UP "ask 0 a>\rRSET\nC:MAIL FROM:<> SMTPUTF8\n"
		       "A 0 permanent nothing bad_recipient 0\nS:250 ok\nC:RSET\n" },
	{ .name = "lost before the first answer",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n"
		       "lost peer_closed\nA 0 temporary host lost 0\nclose peer_closed\n" },
	{ .name = "an idle connection that was closed in this moment is nobody's fault",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\nC:RSET\nS:250 ok\n"
		       "ask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<b@x>\n"
		       "lost reset\nA 1 temporary again lost 0\nclose reset\n" },
	{ .name = "the same with a farewell",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\nC:RSET\nS:250 ok\n"
		       "ask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<b@x>\n"
		       "S:421 4.4.2 idle for too long\nA 1 temporary again reply 421\n"
		       "close unavailable\n" },
	{ .name = "QUIT need not wait for the reply to RSET",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\nC:RSET\nquit shutdown\nC:QUIT\n"
		       "close shutdown\n" },
	{ .name = "lost before the reply to RSET",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\nC:RSET\n"
		       "ask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<b@x>\n"
		       "lost reset\nA 1 temporary again lost 0\nclose reset\n" },
	{ .name = "lost after the reply to MAIL",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\nC:RSET\nS:250 ok\n"
		       "ask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<b@x>\nS:250 ok\n"
		       "lost reset\nA 1 temporary host lost 0\nclose reset\n" },
	{ .name = "silence is no accident",
	  .script = UP "ask 0 a@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\n"
		       "A 0 ok nothing reply 250\nC:RSET\nS:250 ok\n"
		       "ask 1 b@x\nC:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<b@x>\n"
		       "lost timeout\nA 1 temporary host timeout 0\nclose timeout\n" },
	{ .name = "an idle connection that says something ends",
	  .script = UP "S:250 hello?\nclose protocol\n" },
	/* ---- TLS and AUTH ---- */
	{ .name = "TLS, and what is offered behind it",
	  .tls = SENDER_TLS_IF_OFFERED,
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:250-x\nS:250-PIPELINING\n"
		    "S:250-SMTPUTF8\nS:250 STARTTLS\nC:STARTTLS\nS:220 go on\nstarttls\nsecured\n"
		    "C:EHLO relay.example\nS:250-x\nS:250 PIPELINING\nC:MAIL FROM:<>\n"
		    "C:RCPT TO:<a@x>\nS:250 ok\nS:250 ok\nA 0 ok nothing reply 250\nC:RSET\n" },
	{ .name = "what was sent in front of the handshake is nobody's word",
	  .tls = SENDER_TLS_REQUIRED,
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 STARTTLS\n"
		    "C:STARTTLS\nS:220 go on\nstarttls\nS:250 injected\nsecured\n"
		    "C:EHLO relay.example\nS:250 x\nC:MAIL FROM:<>\n" },
	{ .name = "in plain text where TLS is not offered, and need not be",
	  .tls = SENDER_TLS_IF_OFFERED,
	  .script = "ask 0 a@x\n" UP "C:MAIL FROM:<> SMTPUTF8\nC:RCPT TO:<a@x>\n" },
	{ .name = "in plain text where STARTTLS is refused, and may be",
	  .tls = SENDER_TLS_IF_OFFERED,
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 STARTTLS\n"
		    "C:STARTTLS\nS:454 no\nC:MAIL FROM:<>\n" },
	{ .name = "no question without TLS where it must be",
	  .tls = SENDER_TLS_REQUIRED,
	  .script = "ask 0 a@x\nask 1 b@x\n" UP "C:QUIT\nA 0 temporary host no_tls 0\n"
		    "A 1 temporary host no_tls 0\nclose rejected\n" },
	{ .name = "no question where STARTTLS is refused and must not be",
	  .tls = SENDER_TLS_REQUIRED,
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 STARTTLS\n"
		    "C:STARTTLS\nS:454 no\nC:QUIT\nA 0 temporary host reply 454\n"
		    "close rejected\n" },
	{ .name = "a handshake that fails",
	  .tls = SENDER_TLS_REQUIRED,
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 STARTTLS\n"
		    "C:STARTTLS\nS:220 go on\nstarttls\nlost tls_failed\n"
		    "A 0 temporary host tls 0\nclose tls_failed\n" },
	{ .name = "a password, with a challenge",
	  .tls = SENDER_TLS_REQUIRED,
	  .auth = SASL_BIT(SASL_LOGIN),
	  .script = "ask 0 a@x\n" SECURED "S:250 AUTH LOGIN\nauth LOGIN first\n"
		    "login me\nC:AUTH LOGIN bWU=\nS:334 VXNlcm5hbWU6\nauth LOGIN Username:\n"
		    "login me\nC:bWU=\nS:235 welcome\nauth LOGIN over\nlogin \n"
		    "C:MAIL FROM:<>\n" },
	{ .name = "a password that is refused says nothing about a recipient",
	  .tls = SENDER_TLS_REQUIRED,
	  .auth = SASL_BIT(SASL_PLAIN),
	  .script = "ask 0 a@x\n" SECURED "S:250 AUTH PLAIN\nauth PLAIN first\n"
		    "login me\nC:AUTH PLAIN bWU=\nS:535 no\nC:QUIT\n"
		    "A 0 temporary host reply 535\nclose rejected\n" },
	{ .name = "a password that is not to be had",
	  .tls = SENDER_TLS_REQUIRED,
	  .auth = SASL_BIT(SASL_PLAIN),
	  .script = "ask 0 a@x\n" SECURED "S:250 AUTH PLAIN\nauth PLAIN first\n"
		    "login-fails\nA 0 temporary host auth 0\nclose protocol\n" },
	{ .name = "no password in plain text",
	  .tls = SENDER_TLS_IF_OFFERED,
	  .auth = SASL_BIT(SASL_PLAIN),
	  .script = "ask 0 a@x\nS:220 hi\nC:EHLO relay.example\nS:250-x\nS:250 AUTH PLAIN\n"
		    "C:QUIT\nA 0 temporary host no_tls 0\nclose rejected\n" },
	{ .name = "what is no SMTP",
	  .script =
		  "ask 0 a@x\nS:SSH-2.0-OpenSSH\nA 0 temporary host protocol 0\nclose protocol\n" },
};

struct run {
	const struct dialogue *dialogue;
	struct probe probe;
	struct probe_options options;
	struct probe_question questions[64];
	struct buf scratch;
	uint8_t scratch_memory[PROBE_SCRATCH_MIN];
	char done[8192]; /* what the machine did, not yet compared */
	size_t done_size;
	char input[8192]; /* of the peer, not yet consumed */
	size_t input_size;
	size_t fed; /* bytes of the peer in all */
	size_t cut; /* 0: byte by byte; SIZE_MAX: whole */
	bool closed;
};

static void
note(struct run *r, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	r->done_size += (size_t)vsnprintf(r->done + r->done_size, sizeof r->done - r->done_size,
					  format, list);
	va_end(list);
	assert_true(r->done_size < sizeof r->done);
}

static void
step(struct run *r)
{
	struct probe_action a;

	while (!r->closed) {
		/* From memory of its own, so that a sanitizer sees a look behind its end. */
		char *copy = malloc(r->input_size + 1);
		memcpy(copy, r->input, r->input_size);
		size_t used = probe_step(&r->probe, span_of(copy, r->input_size), &a);
		assert_true(used <= r->input_size);
		memmove(r->input, r->input + used, r->input_size - used);
		r->input_size -= used;
		switch (a.kind) {
		case PROBE_NEED_INPUT:
			assert_int_equal(r->input_size, 0);
			free(copy);
			return;
		case PROBE_WAIT:
			free(copy);
			return;
		case PROBE_START_TLS:
			assert_int_equal(r->input_size, 0);
			note(r, "starttls\n");
			break;
		case PROBE_ASK_AUTH:
			note(r, "auth %.*s %.*s\n", SPAN_ARG(sasl_name(a.auth.mechanism)),
			     SPAN_ARG(a.auth.first  ? SPAN("first")
				      : a.auth.over ? SPAN("over")
						    : a.auth.data));
			break;
		case PROBE_WRITE:
			assert_true(a.text.size > 2);
			note(r, "C:%.*s\n", (int)a.text.size - 2, (const char *)a.text.data);
			break;
		case PROBE_ANSWER:
			note(r, "A %u %s %s %s %u\n", (unsigned)(a.question - r->questions),
			     class_names[a.outcome.class], next_names[a.outcome.next],
			     sender_cause_label(a.outcome.cause),
			     a.outcome.reply == NULL ? 0U : a.outcome.reply->code);
			break;
		case PROBE_CLOSE:
			note(r, "close %s\n", close_label(a.close));
			r->closed = true;
			break;
		}
		free(copy);
	}
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

static void
feed(struct run *r, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		r->input[r->input_size++] = text[i];
		r->fed++;
		if (r->cut == 0 || r->cut == r->fed)
			step(r);
	}
}

/* Does what a line says; false where it says what the machine must have done. */
static bool
drive(struct run *r, const char *line)
{
	if (strncmp(line, "S:", 2) == 0) {
		feed(r, line + 2, strlen(line + 2));
		feed(r, "\r\n", 2);
		return true;
	}
	if (strncmp(line, "ask ", 4) == 0) {
		char *end;
		size_t n = strtoul(line + 4, &end, 10);
		r->questions[n].address = span_of_string(end + 1);
		assert_true(probe_can_ask(&r->probe));
		probe_ask(&r->probe, &r->questions[n]);
	} else if (strncmp(line, "lost ", 5) == 0) {
		probe_lost(&r->probe, reason_of(line + 5));
	} else if (strcmp(line, "secured") == 0) {
		probe_secured(&r->probe);
	} else if (strncmp(line, "login ", 6) == 0) {
		sender_auth_answer(probe_session(&r->probe), span_of_string(line + 6));
	} else if (strcmp(line, "login-fails") == 0) {
		sender_auth_failed(probe_session(&r->probe));
	} else if (strncmp(line, "quit ", 5) == 0) {
		assert_true(probe_may_quit(&r->probe));
		probe_quit(&r->probe, reason_of(line + 5));
	} else {
		return false;
	}
	return true;
}

static void
expect(struct run *r, const char *line)
{
	size_t size = strlen(line);

	if (r->done_size <= size || memcmp(r->done, line, size) != 0 || r->done[size] != '\n')
		fail_msg("%s (cut %zd): expected \"%s\", got \"%.*s\"", r->dialogue->name,
			 (ssize_t)r->cut, line, (int)strcspn(r->done, "\n"), r->done);
	memmove(r->done, r->done + size + 1, r->done_size - size);
	r->done_size -= size + 1;
}

/* Returns how many bytes the peer has said. */
static size_t
play(const struct dialogue *d, size_t cut)
{
	struct run *r = calloc(1, sizeof *r);
	char *script = strdup(d->script);
	bool driven = false, by_peer = false;

	r->dialogue = d;
	r->cut = cut;
	r->scratch = buf_of(r->scratch_memory, sizeof r->scratch_memory);
	r->options = (struct probe_options){
		.session = {
			.hello_name = SPAN("relay.example"),
			.lmtp = d->lmtp,
			.no_pipelining = d->lockstep,
			.tls = d->tls,
			.auth = d->auth,
			.piece_max = 1,
		},
		.sender = span_of_string(d->sender == NULL ? "" : d->sender),
	};
	probe_init(&r->probe, &r->options, &r->scratch);
	/* `\n` ends a line and nothing else does: an address may have a bare CR. */
	for (char *line = strtok(script, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		bool peer = strncmp(line, "S:", 2) == 0;
		/* Lines of the peer that follow each other arrive together. */
		if (driven && by_peer && !peer)
			step(r);
		/* So do questions: what is said for them leaves in one piece. */
		bool asks = strncmp(line, "ask ", 4) == 0;
		if (driven && !by_peer && !asks)
			step(r);
		bool drives = peer || asks || line[0] == 'l' || line[0] == 'q' ||
			      strcmp(line, "secured") == 0;
		if (drives && !driven && r->done_size > 0)
			fail_msg("%s (cut %zd): \"%.*s\" comes too much", d->name, (ssize_t)cut,
				 (int)strcspn(r->done, "\n"), r->done);
		if (!drive(r, line))
			expect(r, line);
		driven = drives;
		by_peer = peer;
	}
	if (driven)
		step(r);
	if (r->done_size > 0)
		fail_msg("%s (cut %zd): \"%s\" is left", d->name, (ssize_t)cut, r->done);
	size_t fed = r->fed;
	free(script);
	free(r);
	return fed;
}

static void
test_dialogues(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
		size_t size = play(&dialogues[i], SIZE_MAX);
		play(&dialogues[i], 0);
		for (size_t cut = 1; cut < size; cut++)
			play(&dialogues[i], cut);
	}
}

/* ---- limits ---- */

static void
must_say(struct run *r, const char *text)
{
	step(r);
	if (strcmp(r->done, text) != 0)
		fail_msg("expected \"%s\", got \"%s\"", text, r->done);
	r->done_size = 0;
	r->done[0] = 0;
}

static struct run *
start(void)
{
	struct run *r = calloc(1, sizeof *r);

	r->dialogue = &dialogues[0];
	r->cut = SIZE_MAX;
	r->scratch = buf_of(r->scratch_memory, sizeof r->scratch_memory);
	r->options = (struct probe_options){
		.session = { .hello_name = SPAN("relay.example"), .piece_max = 1 },
	};
	probe_init(&r->probe, &r->options, &r->scratch);
	drive(r, "S:220 hi");
	must_say(r, "C:EHLO relay.example\n");
	drive(r, "S:250-x");
	drive(r, "S:250 PIPELINING");
	must_say(r, "");
	return r;
}

/* Never more are open than could be refused without annoying the peer; then it is left. */
static void
test_refusals_use_a_connection_up(void **state)
{
	struct run *r = start();
	char line[64], said[1024] = "C:MAIL FROM:<>\n";
	char asks[PROBE_OPEN_MAX][32];

	(void)state;
	for (unsigned i = 0; i < PROBE_OPEN_MAX; i++) {
		snprintf(asks[i], sizeof asks[i], "ask %u u%u@x", i, i);
		drive(r, asks[i]);
	}
	assert_false(probe_can_ask(&r->probe));
	for (unsigned i = 0; i < PROBE_REFUSALS_MAX; i++)
		sprintf(said + strlen(said), "C:RCPT TO:<u%u@x>\n", i);
	must_say(r, said);
	drive(r, "S:250 ok");
	must_say(r, "");
	drive(r, "S:550 no");
	must_say(r, "A 0 permanent nothing reply 550\n");
	/* A yes makes room for one more. */
	drive(r, "S:250 yes");
	must_say(r, "A 1 ok nothing reply 250\nC:RCPT TO:<u9@x>\n");
	for (unsigned i = 2; i < 9; i++) {
		drive(r, "S:550 no");
		snprintf(line, sizeof line, "A %u permanent nothing reply 550\n", i);
		must_say(r, line);
	}
	drive(r, "S:550 no");
	said[0] = 0;
	strcat(said, "A 9 permanent nothing reply 550\n");
	for (unsigned i = 10; i < PROBE_OPEN_MAX; i++)
		sprintf(said + strlen(said), "A %u temporary again recipient_limit 0\n", i);
	strcat(said, "C:QUIT\nclose used_up\n");
	must_say(r, said);
	assert_false(probe_can_ask(&r->probe));
	free(r);
}

static void
test_transactions_use_a_connection_up(void **state)
{
	struct run *r = start();

	(void)state;
	for (unsigned i = 0; i < PROBE_TRANSACTIONS_MAX; i++) {
		bool last = i + 1 == PROBE_TRANSACTIONS_MAX;
		drive(r, "ask 0 a@x");
		must_say(r, "C:MAIL FROM:<>\nC:RCPT TO:<a@x>\n");
		drive(r, "S:250 ok");
		drive(r, "S:250 ok");
		must_say(r, "A 0 ok nothing reply 250\nC:RSET\n");
		assert_int_equal(probe_can_ask(&r->probe), !last);
		drive(r, "S:250 ok");
		must_say(r, last ? "C:QUIT\nclose used_up\n" : "");
	}
	free(r);
}

static void
test_a_transaction_is_full_at_a_hundred(void **state)
{
	struct run *r = start();
	char line[128];

	(void)state;
	drive(r, "ask 0 a@x");
	must_say(r, "C:MAIL FROM:<>\nC:RCPT TO:<a@x>\n");
	drive(r, "S:250 ok");
	/* One question is always ahead, so that the transaction never runs dry. */
	for (unsigned i = 1; i < PROBE_RECIPIENTS_MAX; i++) {
		snprintf(line, sizeof line, "ask %u a@x", i % 64);
		drive(r, line);
		must_say(r, "C:RCPT TO:<a@x>\n");
		drive(r, "S:250 ok");
		snprintf(line, sizeof line, "A %u ok nothing reply 250\n", (i - 1) % 64);
		must_say(r, line);
	}
	drive(r, "ask 0 b@x");
	must_say(r, "");
	drive(r, "S:250 ok");
	snprintf(line, sizeof line,
		 "A %u ok nothing reply 250\nC:RSET\nC:MAIL FROM:<>\nC:RCPT TO:<b@x>\n", 99U % 64);
	must_say(r, line);
	free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues),
		cmocka_unit_test(test_refusals_use_a_connection_up),
		cmocka_unit_test(test_transactions_use_a_connection_up),
		cmocka_unit_test(test_a_transaction_is_full_at_a_hundred),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
