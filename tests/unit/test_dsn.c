/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/base/utf8.h"
#include "core/base/xtext.h"
#include "relay/message/dsn.h"
#include "relay/message/dsn_parts.h"
#include "relay/message/dsn_read.h"
#include "tests/lib/dsn_compose.h"

static uint8_t composed[1 << 20];

static struct dsn_notice
notice_of(const struct dsn_recipient *recipients, uint32_t count)
{
	return (struct dsn_notice){
		.hostname = SPAN("relay.example.org"),
		.id = SPAN("0notice"),
		.token = SPAN("0token"),
		.now_ms = 1000000,
		.original_id = SPAN("0original"),
		.sender = SPAN("alice@example.net"),
		.arrived_ms = 1000,
		.retry_until_ms = 432001000,
		.recipient_count = count,
		.recipient = dsn_recipient_of_array,
		.context = recipients,
	};
}

static struct span
compose(const struct dsn_notice *n, struct span original)
{
	struct buf out = buf_of(composed, sizeof composed);
	struct dsn d;

	assert_true(dsn_compose(n, original, DSN_PIECE_MAX, 1000, &out, &d));
	assert_false(out.overflow);
	return buf_span(&out);
}

static bool
contains(struct span s, const char *text)
{
	struct span want = span_of_string(text);

	return memmem(s.data, s.size, want.data, want.size) != NULL;
}

static void
assert_contains(struct span s, const char *text)
{
	if (!contains(s, text))
		fail_msg("'%s' is not in:\n%.*s", text, SPAN_ARG(s));
}

/* ---- the whole ---- */

static const char golden[] =
	"From: Mail Delivery System <MAILER-DAEMON@relay.example.org>\r\n"
	"To: <alice@example.net>\r\n"
	"Date: Thu, 01 Jan 1970 00:16:40 +0000\r\n"
	"Message-ID: <0notice@relay.example.org>\r\n"
	"In-Reply-To: <m1@example.net>\r\n"
	"References: <m1@example.net>\r\n"
	"Subject: Your message could not be delivered\r\n"
	"Auto-Submitted: auto-replied\r\n"
	"MIME-Version: 1.0\r\n"
	"Content-Type: multipart/report; report-type=delivery-status;\r\n"
	"\tboundary=\"=_report_0token\"\r\n"
	"Content-Transfer-Encoding: 7bit\r\n"
	"\r\n"
	"This is a report about a message, in MIME format.\r\n"
	"\r\n"
	"--=_report_0token\r\n"
	"Content-Description: Report\r\n"
	"Content-Type: text/plain; charset=us-ascii\r\n"
	"Content-Transfer-Encoding: 7bit\r\n"
	"\r\n"
	"This is the mail system at relay.example.org.\r\n"
	"\r\n"
	"Your message of Thu, 01 Jan 1970 00:00:01 +0000\r\n"
	"could not be delivered to:\r\n"
	"\r\n"
	"    <bob@example.org>\r\n"
	"        The server mx.example.org said:\r\n"
	"        550 5.1.1 no such user,\r\n"
	"        ask the postmaster of example.org, who knows every one of the users\r\n"
	"        that there are\r\n"
	"\r\n"
	"    <carol@example.org>\r\n"
	"        It was tried until its time was over. The last time:\r\n"
	"        451 4.4.1 no host of the destination can be reached\r\n"
	"\r\n"
	"It will not be tried again. Please check each address and what is said\r\n"
	"about it. If the address is right, send this report to the postmaster of\r\n"
	"the recipient's domain, or reach the recipient in another way.\r\n"
	"\r\n"
	"The header of the message is attached. Our reference is 0original.\r\n"
	"\r\n"
	"This is the mail system at relay.example.org.\r\n"
	"\r\n"
	"Your message of Thu, 01 Jan 1970 00:00:01 +0000\r\n"
	"could not be delivered yet to:\r\n"
	"\r\n"
	"    <dave@example.com>\r\n"
	"        The server [192.0.2.1] said:\r\n"
	"        452 4.2.2 mailbox full\r\n"
	"\r\n"
	"You need not do anything, and need not send the message again: it will be\r\n"
	"tried until Tue, 06 Jan 1970 00:00:01 +0000.\r\n"
	"If it cannot be delivered by then, you will be told.\r\n"
	"\r\n"
	"The header of the message is attached. Our reference is 0original.\r\n"
	"\r\n"
	"--=_report_0token\r\n"
	"Content-Description: Delivery status\r\n"
	"Content-Type: message/delivery-status\r\n"
	"\r\n"
	"Original-Envelope-Id: QQ 314159\r\n"
	"Reporting-MTA: dns; relay.example.org\r\n"
	"Arrival-Date: Thu, 01 Jan 1970 00:00:01 +0000\r\n"
	"X-Ringpost-Queue-Id: 0original\r\n"
	"X-Ringpost-Sender: rfc822; alice@example.net\r\n"
	"\r\n"
	"Original-Recipient: rfc822; robert+x@example.net\r\n"
	"Final-Recipient: rfc822; bob@example.org\r\n"
	"Action: failed\r\n"
	"Status: 5.1.1\r\n"
	"Remote-MTA: dns; mx.example.org\r\n"
	"Diagnostic-Code: smtp; 550 5.1.1 no such user, ask the postmaster of\r\n"
	"    example.org, who knows every one of the users that there are\r\n"
	"Last-Attempt-Date: Thu, 01 Jan 1970 00:00:02 +0000\r\n"
	"\r\n"
	"Final-Recipient: rfc822; dave@example.com\r\n"
	"Action: delayed\r\n"
	"Status: 4.2.2\r\n"
	"Remote-MTA: dns; [192.0.2.1]\r\n"
	"Diagnostic-Code: smtp; 452 4.2.2 mailbox full\r\n"
	"Will-Retry-Until: Tue, 06 Jan 1970 00:00:01 +0000\r\n"
	"\r\n"
	"Final-Recipient: rfc822; carol@example.org\r\n"
	"Action: failed\r\n"
	"Status: 4.4.7\r\n"
	"Diagnostic-Code: x-ringpost; 451 4.4.1 no host of the destination can be\r\n"
	"    reached\r\n"
	"\r\n"
	"--=_report_0token\r\n"
	"Content-Description: Header of the message\r\n"
	"Content-Type: text/rfc822-headers\r\n"
	"Content-Transfer-Encoding: 7bit\r\n"
	"\r\n"
	"Received: x\r\n"
	"Message-ID: <m1@example.net>\r\n"
	"\r\n"
	"--=_report_0token--\r\n";

static void
a_notice_is_written_as_the_rfcs_say(void **state)
{
	static const struct dsn_recipient recipients[] = {
		{ DSN_FAILED, SPAN("bob@example.org"), SPAN("rfc822;robert+2Bx@example.net"),
		  SPAN("550 5.1.1 no such user,\nask the postmaster of example.org, who knows "
		       "every one of the users that there are"),
		  true, SPAN("mx.example.org"), 2000 },
		{ DSN_DELAYED, SPAN("dave@example.com"), SPAN(""), SPAN("452 4.2.2 mailbox full"),
		  true, SPAN("[192.0.2.1]"), 0 },
		{ DSN_FAILED, SPAN("carol@example.org"), SPAN(""),
		  SPAN("451 4.4.1 no host of the destination can be reached"), false, SPAN(""), 0 },
	};
	struct dsn_notice n = notice_of(recipients, 3);
	static const struct span original =
		SPAN("Received: x\r\nMessage-ID: <m1@example.net>\r\n\r\nbody\r\n");

	(void)state;
	n.envid = SPAN("QQ+20314159");
	n.message_id = SPAN("<m1@example.net>");
	n.part = DSN_PART_HEADER;
	n.original_size = original.size - 8;
	struct span text = compose(&n, original);
	if (!span_eq(text, span_of_string(golden)))
		fail_msg("%.*s", SPAN_ARG(text));
	/* It does not depend on how much room there is and how the original was cut. */
	for (size_t step = 1; step < 40; step += 3) {
		static uint8_t again[sizeof golden + 100];
		struct buf out = buf_of(again, sizeof again);
		struct dsn d;
		assert_true(dsn_compose(&n, original, DSN_PIECE_MAX + step * 300, step, &out, &d));
		assert_true(span_eq(buf_span(&out), span_of_string(golden)));
		assert_false(dsn_is_eight_bit(&d));
		assert_false(dsn_is_utf8(&d));
	}
}

/* ---- fields ---- */

static void
statuses_follow_the_reply_and_the_action(void **state)
{
	static const struct {
		enum dsn_action action;
		const char *reply;
		const char *status;
	} rows[] = {
		{ DSN_FAILED, "550 5.1.1 no such user", "5.1.1" },
		{ DSN_FAILED, "550 5.7.123\nno", "5.7.123" },
		{ DSN_FAILED, "550 5.7.26", "5.7.26" },
		{ DSN_FAILED, "550 no such user", "5.0.0" },
		{ DSN_FAILED, "554", "5.0.0" },
		{ DSN_FAILED, "550 5.1 no", "5.0.0" },
		{ DSN_FAILED, "550 5.1.1234 no", "5.0.0" },
		{ DSN_FAILED, "550 5.1.1x no", "5.0.0" },
		{ DSN_FAILED, "550 4.1.1 another class", "5.0.0" },
		{ DSN_FAILED, "451 4.3.0 later", "4.4.7" },
		{ DSN_FAILED, "", "5.0.0" },
		{ DSN_FAILED, "nothing of the kind", "5.0.0" },
		{ DSN_DELAYED, "451 4.3.0 later", "4.3.0" },
		{ DSN_DELAYED, "", "4.0.0" },
		{ DSN_RELAYED, "250 2.1.5 fine", "2.1.5" },
		{ DSN_DELIVERED, "250 ok", "2.0.0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t memory[32];
		struct buf out = buf_of(memory, sizeof memory);
		struct dsn_recipient r = { .action = rows[i].action,
					   .reply = span_of_string(rows[i].reply) };
		dsn_status(&r, &out);
		if (!span_eq(buf_span(&out), span_of_string(rows[i].status)))
			fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&out)));
	}
}

static void
original_recipients_are_decoded(void **state)
{
	static const struct {
		const char *orcpt;
		bool global;
		const char *field; /* NULL: none */
	} rows[] = {
		{ "rfc822;a+2Bb@c", false, "Original-Recipient: rfc822; a+b@c\r\n" },
		{ "x400;c=us+20", false, NULL }, /* '=' is no xtext */
		{ "X400;c+3Dus", false, "Original-Recipient: X400; c=us\r\n" },
		{ "rfc822;a@b+0D+0AAction:+20delivered", false,
		  "Original-Recipient: rfc822; a@b  Action: delivered\r\n" },
		{ "rfc822;+C3+BC@c", false, "Original-Recipient: rfc822; ?@c\r\n" },
		{ "utf-8;\\x{FC}@c", false, "Original-Recipient: utf-8; \\x{FC}@c\r\n" },
		{ "utf-8;\\x{FC}@c", true, "Original-Recipient: utf-8; \xc3\xbc@c\r\n" },
		{ "utf-8;\xc3\xbc@c", true, "Original-Recipient: utf-8; \xc3\xbc@c\r\n" },
		{ "UTF-8;\xf0\x9f\x93\xae\\x{2b}\\x{20AC}@c", false,
		  "Original-Recipient: utf-8; \\x{1F4EE}\\x{2B}\\x{20AC}@c\r\n" },
		{ "utf-8;\\x{D800}\\x{110000}@c", true,
		  "Original-Recipient: utf-8; ???\\x{110000}@c\r\n" },
		{ "utf-8;\\x{D}\\x{A}X", true, "Original-Recipient: utf-8;   X\r\n" },
		{ "utf-8;\\x{D}\\x{A}X", false, "Original-Recipient: utf-8; \\x{0D}\\x{0A}X\r\n" },
		{ "no type", false, NULL },
		{ "a b;c", false, NULL },
		{ ";c", false, NULL },
		{ "rfc822;", false, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t memory[DSN_PIECE_MAX];
		struct buf out = buf_of(memory, sizeof memory);
		struct dsn_recipient r = { .address = SPAN("r@s"),
					   .orcpt = span_of_string(rows[i].orcpt) };
		struct dsn_notice n = notice_of(&r, 1);
		dsn_write_recipient_fields(&out, &n, &r, rows[i].global);
		struct span text = buf_span(&out);
		if (rows[i].field == NULL && !contains(text, "Original-Recipient"))
			continue;
		if (rows[i].field == NULL || !contains(text, rows[i].field))
			fail_msg("row %zu: %.*s", i, SPAN_ARG(text));
	}
}

static void
internationalized_mail_is_reported_as_such(void **state)
{
	static const struct dsn_recipient one = { .address = SPAN("j\xc3\xb6rg@example.org"),
						  .reply =
							  SPAN("550 5.1.1 gibt\xe2\x80\x99s nicht"),
						  .from_remote = true };
	static const struct dsn_recipient plain = { .address = SPAN("joerg@example.org"),
						    .reply = SPAN("550 5.1.1 na\xc3\xafve") };
	static const struct span original = SPAN("Subject: gr\xc3\xbc\xc3\x9f\r\n\r\nx\r\n");
	struct dsn_notice n = notice_of(&one, 1);
	struct dsn d;

	(void)state;
	n.part = DSN_PART_WHOLE;
	n.original_size = original.size;
	n.utf8 = true;
	struct span text = compose(&n, original);
	assert_contains(text, "report-type=global-delivery-status;");
	assert_contains(text, "Content-Type: message/global-delivery-status\r\n"
			      "Content-Transfer-Encoding: 8bit\r\n");
	assert_contains(text, "Final-Recipient: utf-8; j\xc3\xb6rg@example.org\r\n");
	assert_contains(text, "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit");
	assert_contains(text, "charset=utf-8\r\nContent-Transfer-Encoding: 8bit");
	assert_contains(text, "        550 5.1.1 gibt\xe2\x80\x99s nicht\r\n");
	assert_contains(text, "smtp; 550 5.1.1 gibt?s nicht\r\n");
	n.part = DSN_PART_HEADER;
	n.original_size -= 5;
	assert_contains(compose(&n, original), "Content-Type: message/global-headers\r\n");
	dsn_init(&d, &n);
	assert_true(dsn_is_eight_bit(&d));
	assert_false(dsn_is_utf8(&d)); /* our own header is ASCII */

	n = notice_of(&plain, 1);
	n.sender = SPAN("\xc3\xbc@example.net");
	dsn_init(&d, &n);
	assert_true(dsn_is_utf8(&d));
	assert_contains(compose(&n, span_none()), "To: <\xc3\xbc@example.net>\r\n");

	/* Nothing of it where it is not needed: a reply in UTF-8 does not make it global. */
	n = notice_of(&plain, 1);
	n.part = DSN_PART_WHOLE;
	n.original_size = original.size;
	n.eight_bit = true;
	text = compose(&n, original);
	assert_contains(text, "report-type=delivery-status;");
	assert_contains(text, "Content-Type: message/delivery-status\r\n\r\n");
	assert_contains(text, "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit");
}

/* ---- what others chose ---- */

/* No field, no part and no line over 998 bytes comes out of hostile words. */
static void
nothing_breaks_out_of_its_place(void **state)
{
	static uint8_t junk[3000];
	static const char *const words[] = {
		"\r\nBcc: x@y\r\n\r\n--=_report_0token--\r\n",
		"\n--=_report_0token\n",
		"\0\r\n\t \r",
		"<>\"\\()",
		"\x7f\x80\xff\xc2\x85\xe2\x80\xa8",
		"=?utf-8?B?DQo=?=",
	};

	(void)state;
	for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
		size_t length = w == 2 ? 6 : strlen(words[w]);
		for (size_t i = 0; i < sizeof junk; i++)
			junk[i] = (uint8_t)words[w][i % length];
		struct span s = span_of(junk, sizeof junk);
		struct dsn_recipient r = { DSN_FAILED, s, s, s, true, s, 1 };
		struct dsn_notice n = notice_of(&r, 1);
		n.from = n.sender = n.envid = n.message_id = n.original_id = n.id = s;
		struct span text = compose(&n, span_none());
		assert_true(utf8_is_valid(text));
		unsigned delimiters = 0, fields = 0;
		for (size_t at = 0; at < text.size;) {
			size_t end = span_find(text, '\n', at);
			struct span line = span_of(text.data + at, end - at);
			assert_true(end < text.size && text.data[end - 1] == '\r');
			assert_true(line.size < 998);
			delimiters += span_starts_with(line, SPAN("--=_report_0token"));
			fields += span_starts_with(line, SPAN("Bcc"));
			at = end + 1;
		}
		assert_int_equal(delimiters, 3);
		assert_int_equal(fields, 0);
	}
}

static void
the_boundary_does_not_occur_in_the_original(void **state)
{
	static const struct {
		const char *original;
		bool clashes;
	} rows[] = {
		{ "a\r\n--=_report_0token\r\nb\r\n", true },
		{ "--=_report_0token", true },
		{ "a\r\n--=_report_0tokens and more\r\n", true }, /* readers compare beginnings */
		{ "a\r\n --=_report_0token\r\n", false },
		{ "a--=_report_0token\r\n", false },
		{ "a\r\n--=_report_0toke\r\nn\r\n", false },
	};
	struct dsn_recipient r = { .address = SPAN("b@c") };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		for (size_t step = 1; step < 30; step++) {
			struct span original = span_of_string(rows[i].original);
			struct dsn_notice n = notice_of(&r, 1);
			struct buf out = buf_of(composed, sizeof composed);
			struct dsn d;
			n.part = DSN_PART_WHOLE;
			n.original_size = original.size;
			if (dsn_compose(&n, original, DSN_PIECE_MAX, step, &out, &d) !=
			    !rows[i].clashes)
				fail_msg("row %zu, step %zu", i, step);
		}
	}
}

/* ---- templates ---- */

static void
a_template_is_checked_line_by_line(void **state)
{
	static const struct {
		const char *text;
		size_t line; /* 0: it is good */
		const char *why;
	} rows[] = {
		{ "Subject: x ${count} $5\n\n${recipients}\n${hostname}$\n", 0, "" },
		{ "subject: x\r\n\r\n  ${recipients} \r\n", 0, "" },
		{ "", 1, "must begin with a line \"Subject: ...\"; add it" },
		{ "Hello\n\n${recipients}\n", 1, "must begin" },
		{ "Subject: \n\n${recipients}\n", 1, "subject is empty" },
		{ "Subject: x\n${recipients}\n", 2, "an empty line must follow" },
		{ "Subject: ${recipients}\n\n${recipients}\n", 1, "put it alone" },
		{ "Subject: x\n\na\n${hostnam}\n", 4, "${hostnam} is unknown; use hostname," },
		{ "Subject: x\n\n${recipients} and more\n", 3, "put it alone" },
		{ "Subject: x\n\n${recipients}\n${host\n", 4, "${ without its }; close it" },
		{ "Subject: x\n\n\xff\n${recipients}\n", 3, "no UTF-8" },
		{ "Subject: x\n\na\x1b[1m\n${recipients}\n", 3, "control character" },
		{ "Subject: x\n\nhello\n", 3, "no line ${recipients}" },
		{ "Subject: x\n\n${count}${count}${count}${count}${count}${count}${count}"
		  "${count}${count}\n",
		  3, "more than 8" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char memory[512] = "";
		struct buf why = buf_of(memory, sizeof memory - 1);
		struct dsn_template t;
		size_t line = 0;
		bool good = dsn_template_parse(span_of_string(rows[i].text), &t, &line, &why);
		if (good != (rows[i].line == 0) || (!good && line != rows[i].line) ||
		    strstr(memory, rows[i].why) == NULL)
			fail_msg("row %zu: line %zu: %s", i, line, memory);
	}
}

static void
a_template_gives_the_words(void **state)
{
	static const struct dsn_recipient recipients[] = {
		{ .action = DSN_FAILED, .address = SPAN("b@c"), .reply = SPAN("550 no") },
		{ .action = DSN_DELAYED, .address = SPAN("d@e"), .reply = SPAN("450 no") },
		{ .action = DSN_FAILED, .address = SPAN("f@g"), .reply = SPAN("550 no") },
	};
	struct dsn_template own[DSN_ACTIONS] = { { span_none(), span_none() } };
	struct dsn_notice n = notice_of(recipients, 3);
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	size_t line;

	(void)state;
	assert_true(dsn_template_parse(
		SPAN("Subject: Unzustellbar f\xc3\xbcr ${count} von ${hostname}, "
		     "das ist sehr schade und wird lang\n\n"
		     "  An ${sender} ($ 5, ${queue_id}, ${envelope_id}, ${message_id}):\n"
		     "${recipients}\nEnde ${count}.\n"),
		&own[DSN_FAILED], &line, &why));
	n.templates = own;
	n.envid = SPAN("e+201");
	struct span text = compose(&n, span_none());
	assert_contains(
		text, "Subject: "
		      "=?utf-8?B?VW56dXN0ZWxsYmFyIGbDvHIgMiB2b24gcmVsYXkuZXhhbXBsZS5vcmcsIGRh?=\r\n"
		      " =?utf-8?B?cyBpc3Qgc2VociBzY2hhZGUgdW5kIHdpcmQgbGFuZw==?=\r\n");
	assert_contains(text, "\r\n  An alice@example.net ($ 5, 0original, e 1, ):\r\n"
			      "    <b@c>\r\n        550 no\r\n\r\n"
			      "    <f@g>\r\n        550 no\r\nEnde 2.\r\n\r\n"
			      "This is the mail system at");
	assert_contains(text, "could not be delivered yet to:\r\n\r\n    <d@e>\r\n");
}

static void
the_built_in_words_are_templates(void **state)
{
	(void)state;
	for (unsigned a = 0; a < DSN_ACTIONS; a++) {
		const struct dsn_template *t = dsn_built_in((enum dsn_action)a);
		uint8_t memory[4096];
		struct buf text = buf_of(memory, sizeof memory);
		struct dsn_template out;
		size_t line;
		buf_append(&text, SPAN("Subject: "));
		buf_append(&text, t->subject);
		buf_append(&text, SPAN("\n\n"));
		buf_append(&text, t->body);
		struct buf why = buf_of(composed, sizeof composed);
		if (!dsn_template_parse(buf_span(&text), &out, &line, &why))
			fail_msg("%u: line %zu: %.*s", a, line, SPAN_ARG(buf_span(&why)));
		assert_true(span_eq(out.body, t->body));
	}
}

/* ---- reading back ---- */

struct field {
	uint32_t group;
	const char *name;
	const char *value;
};

static void
assert_fields(struct span text, const struct field *want, size_t count, size_t step)
{
	static struct dsn_reader r;
	enum dsn_read_event event;
	size_t seen = 0;
	size_t at = 0;
	bool over = false;

	dsn_read_init(&r);
	while (!over) {
		if (at < text.size)
			at += dsn_read_feed(&r, span_first(span_after(text, at), step), &event);
		else
			dsn_read_finish(&r, &event);
		over = event == DSN_READ_END;
		if (event != DSN_READ_FIELD)
			continue;
		assert_true(seen < count);
		if (r.group != want[seen].group ||
		    !span_eq(dsn_read_name(&r), span_of_string(want[seen].name)) ||
		    !span_eq(dsn_read_value(&r), span_of_string(want[seen].value)))
			fail_msg("field %zu: %u %.*s: %.*s", seen, r.group,
				 SPAN_ARG(dsn_read_name(&r)), SPAN_ARG(dsn_read_value(&r)));
		seen++;
	}
	assert_int_equal(seen, count);
}

static void
what_is_composed_is_read_back(void **state)
{
	static const struct field want[] = {
		{ 0, "Original-Envelope-Id", "QQ 314159" },
		{ 0, "Reporting-MTA", "dns; relay.example.org" },
		{ 0, "Arrival-Date", "Thu, 01 Jan 1970 00:00:01 +0000" },
		{ 0, "X-Ringpost-Queue-Id", "0original" },
		{ 0, "X-Ringpost-Sender", "rfc822; alice@example.net" },
		{ 1, "Original-Recipient", "rfc822; robert+x@example.net" },
		{ 1, "Final-Recipient", "rfc822; bob@example.org" },
		{ 1, "Action", "failed" },
		{ 1, "Status", "5.1.1" },
		{ 1, "Remote-MTA", "dns; mx.example.org" },
		{ 1, "Diagnostic-Code",
		  "smtp; 550 5.1.1 no such user, ask the postmaster of example.org, who knows "
		  "every one of the users that there are" },
		{ 1, "Last-Attempt-Date", "Thu, 01 Jan 1970 00:00:02 +0000" },
		{ 2, "Final-Recipient", "rfc822; dave@example.com" },
		{ 2, "Action", "delayed" },
		{ 2, "Status", "4.2.2" },
		{ 2, "Remote-MTA", "dns; [192.0.2.1]" },
		{ 2, "Diagnostic-Code", "smtp; 452 4.2.2 mailbox full" },
		{ 2, "Will-Retry-Until", "Tue, 06 Jan 1970 00:00:01 +0000" },
		{ 3, "Final-Recipient", "rfc822; carol@example.org" },
		{ 3, "Action", "failed" },
		{ 3, "Status", "4.4.7" },
		{ 3, "Diagnostic-Code",
		  "x-ringpost; 451 4.4.1 no host of the destination can be reached" },
	};

	(void)state;
	for (size_t step = 1; step < 200; step++)
		assert_fields(span_of_string(golden), want, sizeof want / sizeof want[0], step);
	assert_fields(span_of_string(golden), want, sizeof want / sizeof want[0], SIZE_MAX);
}

static void
the_reports_of_others_are_read(void **state)
{
	static const struct field want[] = {
		{ 0, "Reporting-MTA", "dns;x" },
		{ 1, "Final-Recipient", "rfc822;a@b" },
		{ 2, "Final-Recipient", "rfc822;c@d" },
	};
	static const char odd[] = "Content-Type: Multipart/Report; x=y;\n boundary = b ; z=1\n\n"
				  "--b\n\nFinal-Recipient: rfc822;no\n--bb\n--b \n"
				  "Content-type: MESSAGE/Delivery-Status; a=b\n\n\n"
				  "Reporting-MTA: dns;x\nno field\n\n\n\n"
				  "Final-Recipient:\n rfc822;a@b\n\nFinal-Recipient : rfc822;c@d\n"
				  "--b--\n\nAction: failed\n";
	static const char *const nothing[] = {
		"",
		"Content-Type: multipart/report\n\n--b\nContent-Type: message/delivery-status\n\n"
		"Action: x\n",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\n"
		"Content-Type: message/delivery-status\n\nAction: x\n",
		"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: text/plain\n\n"
		"Action: x\n--b--\n",
	};
	struct span type, rest;

	(void)state;
	for (size_t step = 1; step < 100; step++)
		assert_fields(span_of_string(odd), want, 3, step);
	for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++)
		assert_fields(span_of_string(nothing[i]), NULL, 0, 7);
	assert_true(dsn_read_typed(SPAN("rfc822 ; a@b"), &type, &rest));
	assert_true(span_eq(type, SPAN("rfc822")) && span_eq(rest, SPAN("a@b")));
	assert_false(dsn_read_typed(SPAN("a@b"), &type, &rest));
}

static void
xtext_is_decoded(void **state)
{
	uint8_t memory[8];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	assert_true(xtext_decode(SPAN("a+2B+00"), &out));
	assert_true(span_eq(buf_span(&out), SPAN("a+\0")));
	assert_true(xtext_is_valid(SPAN("")));
	assert_false(xtext_is_valid(SPAN("+2b")));
	assert_false(xtext_is_valid(SPAN("a=b")));
	assert_false(xtext_is_valid(SPAN("a+4")));
	assert_false(xtext_decode(SPAN("longer than it"), &out));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_notice_is_written_as_the_rfcs_say),
		cmocka_unit_test(statuses_follow_the_reply_and_the_action),
		cmocka_unit_test(original_recipients_are_decoded),
		cmocka_unit_test(internationalized_mail_is_reported_as_such),
		cmocka_unit_test(nothing_breaks_out_of_its_place),
		cmocka_unit_test(the_boundary_does_not_occur_in_the_original),
		cmocka_unit_test(a_template_is_checked_line_by_line),
		cmocka_unit_test(a_template_gives_the_words),
		cmocka_unit_test(the_built_in_words_are_templates),
		cmocka_unit_test(what_is_composed_is_read_back),
		cmocka_unit_test(the_reports_of_others_are_read),
		cmocka_unit_test(xtext_is_decoded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
