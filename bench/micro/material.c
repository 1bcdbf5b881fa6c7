/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/micro/material.h"

#include "core/base/assert.h"
#include "core/base/buf.h"

static const char small_header[] =
	"Received: from app17.example.net (app17.example.net [192.0.2.17])\r\n"
	"\tby submit.example.net with ESMTP id 4Xq7;\r\n"
	"\tTue, 01 Sep 2026 11:59:58 +0000\r\n"
	"Date: Tue, 01 Sep 2026 11:59:58 +0000\r\n"
	"From: Shop of Example <orders@shop.example.net>\r\n"
	"To: Alice Smith <alice.smith@example.org>\r\n"
	"Subject: Your order 2026-09-01/4711 is on its way\r\n"
	"Message-ID: <20260901115958.4711@shop.example.net>\r\n"
	"MIME-Version: 1.0\r\n"
	"Content-Type: text/plain; charset=utf-8\r\n"
	"\r\n";

static const char large_header[] =
	"Received: from mx.lists.example.com (mx.lists.example.com [198.51.100.9])\r\n"
	"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
	"\tby mx1.example.org (Postfix) with ESMTPS id 4XqZ7L0yPbz2Cdh\r\n"
	"\tfor <alice.smith@example.org>; Tue, 01 Sep 2026 12:00:00 +0000 (UTC)\r\n"
	"Received: from [IPv6:2001:db8::25] (unknown [IPv6:2001:db8::25])\r\n"
	"\tby mx.lists.example.com (Postfix) with ESMTPSA id 7A1C9E0D21;\r\n"
	"\tTue, 01 Sep 2026 11:59:57 +0000 (UTC)\r\n"
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=lists.example.com;\r\n"
	"\ts=2026a; t=1788263997; h=from:to:subject:date:message-id:mime-version:\r\n"
	"\t content-type:list-id:list-unsubscribe;\r\n"
	"\tbh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=;\r\n"
	"\tb=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR\r\n"
	"\t kqQ3xkYVw8cJ4m0pJ5l0T9vXrC2bGk1sWn8dQeLhYtUzFjAoPiMxNyRgHvBwSfDa\r\n"
	"\t 7Z9uXb1cVkEoI2mPqLsR4tWnYhGjUfDrT6eSaQwZxCvBnM0lKjHgFdSaPoIuYtRe\r\n"
	"Date: Tue, 1 Sep 2026 13:59:55 +0200\r\n"
	"From: Bob Jones <bob@lists.example.com>\r\n"
	"To: discuss@lists.example.com\r\n"
	"Reply-To: discuss@lists.example.com\r\n"
	"Subject: Re: [discuss] =?utf-8?Q?Gr=C3=BC=C3=9Fe?= and the agenda for the\r\n"
	" meeting of next week\r\n"
	"Message-ID: <87o7a1z3qs.fsf@bob.example.com>\r\n"
	"In-Reply-To: <20260831174501.GA1234@carol.example.com>\r\n"
	"References: <20260830101112.GB99@dave.example.com>\r\n"
	" <20260831174501.GA1234@carol.example.com>\r\n"
	"MIME-Version: 1.0\r\n"
	"Content-Type: multipart/alternative; boundary=\"=_f8b2c1\"\r\n"
	"User-Agent: Mutt/2.2.9\r\n"
	"List-Id: Discussion <discuss.lists.example.com>\r\n"
	"List-Unsubscribe: <https://lists.example.com/u/discuss>,\r\n"
	" <mailto:discuss-leave@lists.example.com>\r\n"
	"Precedence: list\r\n";

static const char *const words[] = {
	"the",    "mail",   "of",     "yesterday", "was",      "read.", "and",   "everybody",
	"agreed", "that",   "it",     "should",    "be",       "sent",  "again", "tomorrow,",
	"since",  "nobody", "had",    "answered.", "Please",   "look",  "at",    "item",
	"4.2",    "in",     "report", "which",     "explains", "why",   "we",    "wait.",
};

static uint8_t memory_of_mail[MATERIAL_MAIL_SIZE];
static uint8_t memory_of_texts[MATERIAL_TEXTS][MATERIAL_BODY_SIZE];

/* A small generator (Knuth's MMIX), so that words and digits do not repeat where the processor
 * could learn them. */
static unsigned
draw(uint64_t *state, unsigned below)
{
	*state = *state * 6364136223846793005U + 1442695040888963407U;
	return (unsigned)(*state >> 33) % below;
}

static void
append_line_of_words(struct buf *out, uint64_t *state)
{
	size_t start = out->size;

	while (out->size - start < 60) {
		if (out->size > start)
			buf_append_byte(out, ' ');
		buf_append_string(out, words[draw(state, sizeof words / sizeof words[0])]);
	}
	buf_append(out, SPAN("\r\n"));
}

static void
append_line_of_base64(struct buf *out, uint64_t *state)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (unsigned i = 0; i < 76; i++)
		buf_append_byte(out, (uint8_t)digits[draw(state, 64)]);
	buf_append(out, SPAN("\r\n"));
}

/* Fills the rest with a last line. */
static void
append_rest(struct buf *out)
{
	ASSERT(buf_room(out) >= 2);
	while (buf_room(out) > 2)
		buf_append_byte(out, '-');
	buf_append(out, SPAN("\r\n"));
	ASSERT(!out->overflow);
}

static void
make_text(enum material_text text)
{
	struct buf out = buf_of(memory_of_texts[text], MATERIAL_BODY_SIZE);
	uint64_t state = text + 1U;

	for (unsigned line = 0; buf_room(&out) >= 128; line++) {
		if (text == MATERIAL_DOTS && line % 4 == 0)
			buf_append_byte(&out, '.');
		if (text == MATERIAL_BASE64)
			append_line_of_base64(&out, &state);
		else
			append_line_of_words(&out, &state);
	}
	append_rest(&out);
}

void
material_make(void)
{
	struct buf mail = buf_of(memory_of_mail, sizeof memory_of_mail);
	uint64_t state = 1;

	buf_append_string(&mail, small_header);
	while (buf_room(&mail) >= 128)
		append_line_of_words(&mail, &state);
	append_rest(&mail);
	for (enum material_text text = 0; text < MATERIAL_TEXTS; text++)
		make_text(text);
}

struct span
material_mail(void)
{
	return span_of(memory_of_mail, sizeof memory_of_mail);
}

struct span
material_header(void)
{
	return span_of(large_header, sizeof large_header - 1);
}

struct span
material_text(enum material_text text)
{
	ASSERT(text < MATERIAL_TEXTS);
	return span_of(memory_of_texts[text], MATERIAL_BODY_SIZE);
}
