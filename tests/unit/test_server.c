/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core */
/* Dialogues with the sink's server. Each is fed whole, byte by byte, at every split, and with more
 * and less room for replies; what comes out must be the same, and what is written here. Lines of
 * the result: replies as they are, actions in brackets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command.h"
#include "bench/server.h"

enum { LOG_MAX = 256 * 1024 };

struct setting {
	const char *name;
	bool lmtp;
	bool no_memory;
	uint32_t without; /* SERVER_OFFER_… */
	const char *rules[4];
	const char *says;
	const char *result;
};

struct run {
	struct server_options options;
	struct fault_rules faults;
	struct server server;
	struct server_recipient *room;
	bool no_memory;
	size_t replies_max;
	struct buf log;
	bool ended;
	unsigned steps;
};

static void
begin(struct run *r, const struct setting *t, size_t replies_max)
{
	uint8_t text[256];
	struct buf why = buf_of(text, sizeof text);

	memset(r, 0, sizeof *r);
	r->options = (struct server_options){
		.hostname = SPAN("sink.test"),
		.offers = SERVER_OFFER_ALL & ~t->without,
		.lmtp = t->lmtp,
		.faults = &r->faults,
	};
	for (unsigned i = 0; i < 4 && t->rules[i] != NULL; i++)
		if (!fault_add(&r->faults, span_of_string(t->rules[i]), &why))
			fail_msg("%.*s", (int)why.size, text);
	if (r->faults.count == 0)
		r->options.faults = NULL;
	r->no_memory = t->no_memory;
	r->replies_max = replies_max;
	r->log = buf_of(malloc(LOG_MAX), LOG_MAX);
	server_init(&r->server, &r->options, 1);
}

static void
end(struct run *r)
{
	server_fini(&r->server);
	free(r->room);
	free(r->log.data);
}

static void
log_mail(struct run *r, const struct server_action *a)
{
	uint32_t number;
	uint32_t at = 0;
	uint32_t count = 0;

	buf_printf(&r->log, "[mail %llu '%.*s'", (unsigned long long)a->size, SPAN_ARG(a->id));
	while (server_recipient(&r->server, &at, &number)) {
		count++;
		if (number == SERVER_NO_NUMBER)
			buf_append_string(&r->log, " ?");
		else
			buf_printf(&r->log, " %u", number);
	}
	buf_append_string(&r->log, "]\n");
	assert_int_equal(count, a->recipient_count);
}

/* False: it wants more, or has ended. */
static bool
act(struct run *r, const struct server_action *a)
{
	switch (a->kind) {
	case SERVER_NEED_INPUT:
		return false;
	case SERVER_FLUSH:
		return true;
	case SERVER_ROOM:
		assert_null(r->room);
		if (!r->no_memory)
			r->room = calloc(SERVER_RECIPIENTS_MAX, sizeof *r->room);
		server_give_room(&r->server, r->room, SERVER_RECIPIENTS_MAX);
		return true;
	case SERVER_MAIL:
		log_mail(r, a);
		return true;
	case SERVER_SLOW:
		buf_printf(&r->log, "[slow %u]\n", a->rate);
		return true;
	case SERVER_WAIT:
		if (a->wait_ms == SERVER_FOR_EVER) {
			buf_append_string(&r->log, "[stall]\n");
			r->ended = true;
			return false;
		}
		buf_printf(&r->log, "[wait %llu]\n", (unsigned long long)a->wait_ms);
		server_resume(&r->server);
		return true;
	case SERVER_CLOSE:
	case SERVER_DROP:
		buf_append_string(&r->log, a->kind == SERVER_DROP ? "[drop]\n" : "[close]\n");
		r->ended = true;
		return false;
	default:
		fail();
		return false;
	}
}

/* Steps until it wants more; returns what is left of the input. */
static struct span
feed(struct run *r, struct span in)
{
	uint8_t memory[4096];
	struct server_action action;
	bool more = true;

	while (more && !r->ended) {
		struct buf replies = buf_of(memory, r->replies_max);
		size_t used = server_step(&r->server, in, &replies, &action);
		assert_true(used <= in.size);
		for (size_t i = 0; i < replies.size; i++)
			if (memory[i] != '\r')
				buf_append_byte(&r->log, memory[i]);
		more = act(r, &action);
		in = span_after(in, used);
		r->steps++;
		assert_true(r->steps < 100000);
	}
	if (!r->ended)
		assert_true(in.size < SERVER_LINE_MAX);
	return in;
}

static void
check(struct run *r, const struct setting *t, const char *how, size_t at)
{
	assert_false(r->log.overflow);
	buf_append_byte(&r->log, 0);
	if (strcmp((const char *)r->log.data, t->result) != 0)
		fail_msg("%s, %s at %zu:\n%s--- instead of\n%s", t->name, how, at, r->log.data,
			 t->result);
	end(r);
}

static void
check_split(const struct setting *t, struct span says, size_t at)
{
	struct run r;

	begin(&r, t, 4096);
	/* What was not consumed comes again, with more behind it. */
	size_t left = feed(&r, span_first(says, at)).size;
	feed(&r, span_after(says, at - left));
	check(&r, t, "split", at);
}

static void
check_chunks(const struct setting *t, struct span says, size_t chunk, size_t replies_max)
{
	struct run r;
	size_t held = 0;

	begin(&r, t, replies_max);
	for (size_t at = 0; at < says.size && !r.ended; at += chunk) {
		struct span in = span_first(says, at + chunk);
		held = feed(&r, span_after(in, at - held)).size;
	}
	if (says.size == 0)
		feed(&r, says);
	check(&r, t, "chunks", chunk);
}

static void
check_setting(const struct setting *t)
{
	struct span says = span_of_string(t->says);

	check_chunks(t, says, SIZE_MAX / 2, 4096);
	check_chunks(t, says, SIZE_MAX / 2, SERVER_REPLY_MAX);
	check_chunks(t, says, 1, 4096);
	check_chunks(t, says, 7, SERVER_REPLY_MAX);
	for (size_t at = 0; at <= says.size; at++)
		check_split(t, says, at);
}

#define EHLO_SAYS "EHLO me\r\n"
#define BANNER    "220 sink.test ESMTP ringpost-bench\n"
#define EHLO_OK                                                                          \
	"250-sink.test\n250-PIPELINING\n250-SIZE\n250-8BITMIME\n250-SMTPUTF8\n250-DSN\n" \
	"250-CHUNKING\n250 ENHANCEDSTATUSCODES\n"
#define HELLO       BANNER EHLO_OK
#define LMTP_BANNER "220 sink.test LMTP ringpost-bench\n"
#define LMTP_HELLO  LMTP_BANNER EHLO_OK
#define FIELD       "X-Ringpost-Bench: 0123abcd-0000000042\r\n"
#define MAIL_SAYS   "MAIL FROM:<a@b>\r\nRCPT TO:<r0.x@y>\r\nDATA\r\n"
#define MAIL_OK     "250 2.1.0 ok\n"
#define RCPT_OK     "250 2.1.5 ok\n"
#define SEND        "354 end with CRLF.CRLF\n"
#define ENVELOPE_OK MAIL_OK RCPT_OK SEND
#define TAKEN       "250 2.0.0 taken\n"
#define BYE         "221 2.0.0 bye\n[close]\n"
#define TEN(text)   text text text text text text text text text text
#define BODY_SAYS   MAIL_SAYS FIELD "\r\nhi\r\n.\r\n"

static const struct setting settings[] = {
	{ .name = "a mail and QUIT",
	  .says = EHLO_SAYS BODY_SAYS "QUIT\r\nNOOP\r\n",
	  .result = HELLO ENVELOPE_OK "[mail 45 '0123abcd-0000000042' 0]\n" TAKEN BYE },
	{ .name = "two mails in one connection, the field below others and folded",
	  .says = EHLO_SAYS MAIL_SAYS
	  "Received: from x\r\n\tby y\r\nX-Ringpost: no\r\nx-RINGPOST-bench:\r\n"
	  " 0123abcd-0000000001 \r\n" FIELD "\r\n.\r\n"
	  "MAIL FROM:<>\r\nRCPT TO:<r3.@y>\r\nRCPT TO:<R12@y>\r\nRCPT TO:<x@y>\r\nDATA\r\n"
	  "Subject: x\r\n\r\n" FIELD "..\r\n\r\n..\r\n.\r\n",
	  .result = HELLO ENVELOPE_OK
	  "[mail 124 '0123abcd-0000000001' 0]\n" TAKEN MAIL_OK RCPT_OK RCPT_OK RCPT_OK SEND
	  "[mail 63 '' 3 12 ?]\n" TAKEN },
	{ .name = "only CRLF.CRLF ends a mail",
	  .says = EHLO_SAYS MAIL_SAYS "\n.\n\r\n.\n\n.\r\n\r.\r\n\r\n.\r\r\n\r\n..\r\n \r\n.x\r\n"
				      "\r\n.\r\nNOOP\r\n",
	  .result = HELLO ENVELOPE_OK "[mail 36 '' 0]\n" TAKEN "250 2.0.0 ok\n" },
	{ .name = "an empty mail",
	  .says = EHLO_SAYS MAIL_SAYS ".\r\n",
	  .result = HELLO ENVELOPE_OK "[mail 0 '' 0]\n" TAKEN },
	{ .name = "an empty mail behind an end that is none",
	  .says = EHLO_SAYS MAIL_SAYS ".\r\r\n.\r\n",
	  .result = HELLO ENVELOPE_OK "[mail 4 '' 0]\n" TAKEN },
	{ .name = "ends behind much text",
	  .says = EHLO_SAYS MAIL_SAYS FIELD
	  "\r\n" TEN(TEN("x.x\r\n")) "\r\n." TEN(TEN(".")) "\n.\r\n\r\n.\r\n",
	  .result = HELLO ENVELOPE_OK "[mail 650 '0123abcd-0000000042' 0]\n" TAKEN },
	{ .name = "a value that is too long is not the id",
	  .says = EHLO_SAYS MAIL_SAYS "X-Ringpost-Bench: 0123abcd-00000000421\r\n\r\n.\r\n",
	  .result = HELLO ENVELOPE_OK "[mail 42 '0123abcd-00000000421' 0]\n" TAKEN },
	{ .name = "an empty field, and one behind it",
	  .says = EHLO_SAYS MAIL_SAYS "X-Ringpost-Bench:\r\n" FIELD "\r\n.\r\n",
	  .result = HELLO ENVELOPE_OK "[mail 60 '0123abcd-0000000042' 0]\n" TAKEN },
	{ .name = "BDAT in chunks, the field across two of them",
	  .says = EHLO_SAYS "MAIL FROM:<a@b> SIZE=46 BODY=8BITMIME\r\nRCPT TO:<r1.x@y>\r\n"
			    "BDAT 20\r\nX-Ringpost-Bench: 01BDAT 0\r\n"
			    "BDAT 26 LAST\r\n23abcd-0000000042\r\n\r\n.\r\nxxNOOP\r\n",
	  .result = HELLO MAIL_OK RCPT_OK "250 2.0.0 chunk taken\n250 2.0.0 chunk taken\n"
					  "[mail 46 '0123abcd-0000000042' 1]\n" TAKEN
					  "250 2.0.0 ok\n" },
	{ .name = "BDAT out of order: its bytes are dropped",
	  .says = EHLO_SAYS
	  "BDAT 6 LAST\r\nNOOP\r\nMAIL FROM:<a>\r\nRCPT TO:<a\r\n"
	  "BDAT 6\r\nQUIT\r\nRCPT TO:<r0@x>\r\nBDAT 1\r\nxDATA\r\nMAIL FROM:<>\r\n"
	  "RCPT TO:<x>\r\nRSET\r\nBDAT x\r\nNOOP\r\n",
	  .result = HELLO "503 5.5.1 not now\n" MAIL_OK "501 5.5.4 arguments not understood\n"
			  "554 5.5.1 no valid recipients\n" RCPT_OK "250 2.0.0 chunk taken\n"
			  "503 5.5.1 not now\n503 5.5.1 not now\n503 5.5.1 not now\n"
			  "250 2.0.0 ok\n501 5.5.4 arguments not understood\n[close]\n" },
	{ .name = "commands out of order and unknown",
	  .says = "MAIL FROM:<a>\r\nEHLO me\r\nFOO\r\nRCPT TO:<a>\r\nDATA\r\nSTARTTLS\r\nhelp\r\n"
		  "LHLO x\r\nmail from:<a>\r\nmail from:<b>\r\ndata\r\nVRFY x\r\nEHLO me\r\n"
		  "DATA\r\n\r\n",
	  .result = BANNER
	  "503 say hello first\n" EHLO_OK "500 5.5.2 unknown command\n"
	  "503 5.5.1 not now\n503 5.5.1 not now\n500 5.5.2 unknown command\n"
	  "502 5.5.1 not implemented\n500 5.5.2 unknown command\n" MAIL_OK
	  "503 5.5.1 not now\n554 5.5.1 no valid recipients\n252 2.1.5 send it and see\n" EHLO_OK
	  "503 5.5.1 not now\n500 5.5.2 unknown command\n" },
	{ .name = "bare line feeds end commands, spaces are dropped",
	  .says = "helo x\nMAIL FROM: <a>  \nRCPT  TO:a@b\nDATA\n.\r\nQUIT",
	  .result = BANNER "250 sink.test\n250 ok\n250 ok\n" SEND "[mail 0 '' ?]\n250 taken\n" },
	{ .name = "parameters, quoted paths",
	  .says = EHLO_SAYS "MAIL FROM:<\"a> b\\\"\"@x> RET=HDRS ENVID=x SMTPUTF8 size=1\r\n"
			    "RCPT TO:<\">\"@x> NOTIFY=NEVER ORCPT=rfc822;>\r\n"
			    "RCPT TO:<a> FOO\r\nRSET\r\nMAIL FROM:<a> AUTH=<>\r\n",
	  .result = HELLO MAIL_OK RCPT_OK
	  "555 5.5.4 parameter of an extension that is not offered\n250 2.0.0 ok\n"
	  "555 5.5.4 parameter of an extension that is not offered\n" },
	{ .name = "HELO has no extensions",
	  .says = "HELO x\r\nMAIL FROM:<a> SIZE=1\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\n"
		  "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
	  .result = BANNER "250 sink.test\n555 parameter of an extension that is not offered\n"
			   "250 ok\n250 ok\n502 not implemented\n250 ok\n" },
	{ .name = "extensions left out",
	  .without = SERVER_OFFER_ALL & ~SERVER_OFFER_SIZE,
	  .says = EHLO_SAYS "MAIL FROM:<a> SIZE=1 BODY=8BITMIME\r\nMAIL FROM:<a> SIZE=1\r\n",
	  .result = BANNER "250-sink.test\n250 SIZE\n"
			   "555 parameter of an extension that is not offered\n250 ok\n" },
	{ .name = "more recipients than a few",
	  .says = EHLO_SAYS "MAIL FROM:<a>\r\n" TEN(
		  "RCPT TO:<r7.@x>\r\n") "DATA\r\n.\r\n"
					 "MAIL FROM:<a>\r\n" TEN("RCPT TO:<r7.@x>\r\n"),
	  .result = HELLO MAIL_OK TEN(RCPT_OK) SEND
	  "[mail 0 '' 7 7 7 7 7 7 7 7 7 7]\n" TAKEN MAIL_OK TEN(RCPT_OK) },
	{ .name = "no memory for more than a few",
	  .no_memory = true,
	  .says = EHLO_SAYS
	  "MAIL FROM:<a>\r\n" TEN("RCPT TO:<r7.@x>\r\n") "RSET\r\n"
							 "MAIL FROM:<>\r\nRCPT TO:<r1@x>\r\n",
	  .result = HELLO MAIL_OK RCPT_OK RCPT_OK RCPT_OK RCPT_OK RCPT_OK RCPT_OK
	  "452 4.5.3 too many recipients\n452 4.5.3 too many recipients\n"
	  "452 4.5.3 too many recipients\n452 4.5.3 too many recipients\n"
	  "250 2.0.0 ok\n" MAIL_OK RCPT_OK },
	{ .name = "LMTP: a reply for each recipient",
	  .lmtp = true,
	  .says = "EHLO x\r\nLHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<r0.@x>\r\nRCPT TO:<r1.@x>\r\n"
		  "DATA\r\n" FIELD "\r\n.\r\nQUIT\r\n",
	  .result = "220 sink.test LMTP ringpost-bench\n500 unknown command\n" EHLO_OK MAIL_OK
		  RCPT_OK RCPT_OK SEND "[mail 41 '0123abcd-0000000042' 0 1]\n" TAKEN TAKEN BYE },
	{ .name = "LMTP: many replies do not fit at once",
	  .lmtp = true,
	  .says = "LHLO x\r\nMAIL FROM:<>\r\n" TEN(TEN("RCPT TO:<r1@x>\r\n")) "BDAT 0 LAST\r\n",
	  .result = LMTP_HELLO MAIL_OK TEN(TEN(RCPT_OK)) "[mail 0 ''" TEN(TEN(" 1")) "]\n" TEN(
		  TEN(TAKEN)) },

	/* Faults. */
	{ .name = "recipients deferred and refused",
	  .rules = { "*@slow.test:defer", "*@NO.test:refuse" },
	  .says = EHLO_SAYS "MAIL FROM:<a>\r\nRCPT TO:<r0.@slow.test>\r\nRCPT TO:<r1.@no.test>\r\n"
			    "RCPT TO:<r2.@yes.test>\r\nDATA\r\n.\r\n",
	  .result = HELLO MAIL_OK "451 4.2.0 deferred by a rule of the sink\n"
				  "550 5.1.1 refused by a rule of the sink\n" RCPT_OK SEND
				  "[mail 0 '' 2]\n" TAKEN },
	{ .name = "all recipients refused: no data",
	  .rules = { "100%:refuse" },
	  .says = EHLO_SAYS MAIL_SAYS "RSET\r\n",
	  .result = HELLO MAIL_OK "550 5.1.1 refused by a rule of the sink\n"
				  "554 5.5.1 no valid recipients\n250 2.0.0 ok\n" },
	{ .name = "refused at the end of data",
	  .rules = { "*@y:refuse-data" },
	  .says = EHLO_SAYS BODY_SAYS "MAIL FROM:<>\r\nRCPT TO:<r0@z>\r\nDATA\r\n.\r\n",
	  .result = HELLO ENVELOPE_OK "554 5.6.0 refused by a rule of the sink\n" ENVELOPE_OK
				      "[mail 0 '' 0]\n" TAKEN },
	{ .name = "LMTP: deferred for one recipient at the end of data",
	  .lmtp = true,
	  .rules = { "r1.*:defer-data", "r*:late=5s" },
	  .says = "LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<r0.@x>\r\nRCPT TO:<r1.@x>\r\n"
		  "RCPT TO:<r2.@x>\r\nDATA\r\n.\r\n",
	  .result = LMTP_HELLO MAIL_OK RCPT_OK RCPT_OK RCPT_OK SEND
	  "[wait 5000]\n[mail 0 '' 0 2]\n" TAKEN
	  "451 4.3.0 deferred by a rule of the sink\n" TAKEN },
	{ .name = "LMTP: refused for all",
	  .lmtp = true,
	  .rules = { "100%:refuse-data" },
	  .says = "LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<r0.@x>\r\nRCPT TO:<r1.@x>\r\n"
		  "DATA\r\n.\r\nNOOP\r\n",
	  .result = LMTP_HELLO MAIL_OK RCPT_OK RCPT_OK SEND
	  "554 5.6.0 refused by a rule of the sink\n"
	  "554 5.6.0 refused by a rule of the sink\n250 2.0.0 ok\n" },
	{ .name = "dropped at connect",
	  .rules = { "100%:drop=connect" },
	  .says = EHLO_SAYS,
	  .result = "[drop]\n" },
	{ .name = "closed at hello",
	  .rules = { "100%:close=hello" },
	  .says = EHLO_SAYS,
	  .result = BANNER "[close]\n" },
	{ .name = "stalled at mail",
	  .rules = { "100%:stall=mail" },
	  .says = EHLO_SAYS MAIL_SAYS,
	  .result = HELLO "[stall]\n" },
	{ .name = "dropped at a recipient",
	  .rules = { "*@y:drop=rcpt" },
	  .says = EHLO_SAYS MAIL_SAYS,
	  .result = HELLO MAIL_OK "[drop]\n" },
	{ .name = "stalled at DATA",
	  .rules = { "*@y:stall=data" },
	  .says = EHLO_SAYS MAIL_SAYS "x",
	  .result = HELLO MAIL_OK RCPT_OK "[stall]\n" },
	{ .name = "dropped in the body",
	  .rules = { "*@y:drop=body" },
	  .says = EHLO_SAYS BODY_SAYS,
	  .result = HELLO ENVELOPE_OK "[drop]\n" },
	{ .name = "dropped at the end of data: not taken",
	  .rules = { "*@y:drop=end" },
	  .says = EHLO_SAYS BODY_SAYS,
	  .result = HELLO ENVELOPE_OK "[drop]\n" },
	{ .name = "dropped before the reply: taken",
	  .rules = { "*@y:drop=reply" },
	  .says = EHLO_SAYS BODY_SAYS,
	  .result = HELLO ENVELOPE_OK "[mail 45 '0123abcd-0000000042' 0]\n[drop]\n" },
	{ .name = "closed in a chunk",
	  .rules = { "*@y:close=body" },
	  .says = EHLO_SAYS "MAIL FROM:<>\r\nRCPT TO:<r0@y>\r\nBDAT 0\r\nBDAT 5\r\nxxxxx",
	  .result = HELLO MAIL_OK RCPT_OK "250 2.0.0 chunk taken\n[close]\n" },
	{ .name = "late at the first BDAT and at its end",
	  .rules = { "*@y:late=1s@data", "*@y:late=2s", "*@y:late=3s@reply" },
	  .says = EHLO_SAYS "MAIL FROM:<>\r\nRCPT TO:<r0@y>\r\nBDAT 1\r\nxBDAT 0 LAST\r\n",
	  .result = HELLO MAIL_OK RCPT_OK "[wait 1000]\n250 2.0.0 chunk taken\n[wait 2000]\n"
					  "[mail 1 '' 0]\n[wait 3000]\n" TAKEN },
	{ .name = "slow from the start, late everywhere",
	  .rules = { "100%:slow=100", "100%:late=1s@connect", "100%:late=2s@hello",
		     "*:late=3s@rcpt" },
	  .says = EHLO_SAYS MAIL_SAYS ".\r\n",
	  .result = "[slow 100]\n[wait 1000]\n" BANNER "[wait 2000]\n" EHLO_OK MAIL_OK
		    "[wait 3000]\n" RCPT_OK SEND "[mail 0 '' 0]\n" TAKEN },
	{ .name = "slow for a pattern",
	  .rules = { "*@y:slow=1KiB", "*@y:defer" },
	  .says = EHLO_SAYS MAIL_SAYS,
	  .result = HELLO MAIL_OK "[slow 1024]\n451 4.2.0 deferred by a rule of the sink\n"
				  "554 5.5.1 no valid recipients\n" },
};

static void
test_dialogues(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
		check_setting(&settings[i]);
}

/* A line of `size` bytes with its end, and QUIT behind it. */
static void
check_line(size_t size, const char *answer)
{
	struct setting t = { .name = "a long line" };
	struct run r;
	char *text = malloc(size + 16);
	char result[256];

	memset(text, 'x', size);
	memcpy(text, "NOOP ", 5);
	memcpy(text + size - 2, "\r\nQUIT\r\n", 9);
	snprintf(result, sizeof result, BANNER "%s221 bye\n[close]\n", answer);
	t.says = text;
	t.result = result;
	t.without = SERVER_OFFER_ENHANCEDSTATUSCODES;
	for (size_t chunk = 1; chunk < 3 * size; chunk = chunk * 3 + 1)
		check_chunks(&t, span_of_string(text), chunk, SERVER_REPLY_MAX);
	begin(&r, &t, 4096);
	end(&r);
	free(text);
}

static void
test_long_lines(void **state)
{
	(void)state;
	check_line(SERVER_LINE_MAX - 1, "250 ok\n");
	check_line(SERVER_LINE_MAX, "250 ok\n");
	check_line(SERVER_LINE_MAX + 1, "500 line too long\n");
	check_line(SERVER_LINE_MAX * 3, "500 line too long\n");
}

static void
test_recipients_max(void **state)
{
	static const char rcpt[] = "RCPT TO:<r1.x@y>\r\n";
	struct setting t = { .name = "recipients" };
	struct run r;

	(void)state;
	begin(&r, &t, 4096);
	feed(&r, SPAN("EHLO x\r\nMAIL FROM:<>\r\n"));
	for (unsigned i = 0; i < SERVER_RECIPIENTS_MAX; i++)
		feed(&r, span_of_string(rcpt));
	assert_int_equal(r.server.recipient_count, SERVER_RECIPIENTS_MAX);
	buf_reset(&r.log);
	feed(&r, span_of_string(rcpt));
	buf_append_byte(&r.log, 0);
	assert_string_equal(r.log.data, "452 4.5.3 too many recipients\n");
	end(&r);
}

static void
test_offers(void **state)
{
	(void)state;
	assert_int_equal(server_offer_of(SPAN("pipelining")), SERVER_OFFER_PIPELINING);
	assert_int_equal(server_offer_of(SPAN("8BITMIME")), SERVER_OFFER_8BITMIME);
	assert_int_equal(server_offer_of(SPAN("STARTTLS")), 0);
}

static void
test_numbers(void **state)
{
	static const struct {
		const char *path;
		uint32_t number;
	} cases[] = {
		{ "r0.x@y", 0 },
		{ "R12@y", 12 },
		{ "r999999999", 999999999 },
		{ "r1000000000", SERVER_NO_NUMBER },
		{ "r12x@y", SERVER_NO_NUMBER },
		{ "r@y", SERVER_NO_NUMBER },
		{ "r.x@y", SERVER_NO_NUMBER },
		{ "", SERVER_NO_NUMBER },
		{ "x1@y", SERVER_NO_NUMBER },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(command_recipient_number(span_of_string(cases[i].path)),
				 cases[i].number);
}

/* The same seed throws the same dice, another one others. */
static void
test_seed(void **state)
{
	struct setting t = { .name = "seed", .rules = { "50%:defer" } };
	char first[LOG_MAX / 16];
	struct run r;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		begin(&r, &t, 4096);
		server_init(&r.server, &r.options, round < 2 ? 7 : 8);
		feed(&r, SPAN(EHLO_SAYS "MAIL FROM:<a>\r\n" TEN(TEN("RCPT TO:<r7.@x>\r\n"))));
		buf_append_byte(&r.log, 0);
		if (round == 0)
			snprintf(first, sizeof first, "%s", (const char *)r.log.data);
		else if (round == 1)
			assert_string_equal(first, r.log.data);
		else
			assert_string_not_equal(first, r.log.data);
		uint32_t struck = server_take_struck(&r.server);
		assert_in_range(struck, 25, 75);
		assert_int_equal(struck + r.server.recipient_count, 100);
		assert_int_equal(server_take_struck(&r.server), 0);
		end(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues),      cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_recipients_max), cmocka_unit_test(test_offers),
		cmocka_unit_test(test_numbers),        cmocka_unit_test(test_seed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
