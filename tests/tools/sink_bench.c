/* SPDX-License-Identifier: Apache-2.0
 *
 * Measures the sink's server machine by itself: a pipelined dialogue is fed to it from memory, as
 * often as it takes, and the time a mail is printed. Run by hand, alone on the machine.
 *
 *   sink_bench [SECONDS]   for each load (default 1)
 *
 * Read sizes are those of the ring's buffers; `cut` feeds it in the segments of an Ethernet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/server.h"
#include "core/base/assert.h"
#include "core/base/clock.h"

enum { ROUND = 16, TEXT_MAX = 4 * 1024 * 1024 };

static const struct load {
	const char *name;
	size_t size;
	size_t read; /* bytes a step */
	bool chunked;
	bool relayed; /* with fields that a relay adds on top */
	const char *rule;
} loads[] = {
	{ "1 KiB", 1024, 16384, false, false, NULL },
	{ "1 KiB, relayed", 1024, 16384, false, true, NULL },
	{ "1 KiB, BDAT", 1024, 16384, true, true, NULL },
	{ "1 KiB, cut", 1024, 1448, false, true, NULL },
	{ "1 KiB, one rule by pattern", 1024, 16384, false, true, "*@slow.test:defer" },
	{ "1 KiB, one rule by share", 1024, 16384, false, true, "0.000001%:defer-data" },
	{ "10 KiB", 10240, 16384, false, true, NULL },
	{ "10 KiB, BDAT", 10240, 16384, true, true, NULL },
	{ "100 KiB", 102400, 16384, false, true, NULL },
};

static void
add_message(const struct load *l, struct buf *out)
{
	size_t begun = out->size;

	if (l->relayed)
		buf_append_string(out, "Received: from source.test (source.test [127.0.0.1])\r\n"
				       "\tby relay.test (Ringpost) with ESMTP id 4f2Qx1\r\n"
				       "\tfor <r0.12345@sink.test>; Thu, 26 Nov 2026 10:11:12 "
				       "+0000\r\n");
	buf_append_string(out,
			  TRACK_FIELD "0123abcd-0000000042\r\n"
				      "From: <source@bench.test>\r\nTo: <r0.12345@sink.test>\r\n"
				      "Subject: load\r\n\r\n");
	for (unsigned n = 0; out->size - begun < l->size - 80; n++)
		buf_append_string(out, n % 5 == 0 ? "A line that is short.\r\n"
						  : "The quick brown fox jumps over the lazy dog, "
						    "and 1.5 times more. Then it rests.\r\n");
	while (out->size - begun < l->size - 2)
		buf_append_byte(out, 'x');
	buf_append_string(out, "\r\n");
	ASSERT(out->size - begun == l->size);
}

/* ROUND mails, each in one group. */
static void
add_mails(const struct load *l, struct buf *out)
{
	for (unsigned i = 0; i < ROUND; i++) {
		buf_printf(out, "MAIL FROM:<source@bench.test> SIZE=%zu\r\n", l->size);
		buf_append_string(out, "RCPT TO:<r0.12345@sink.test>\r\n");
		if (l->chunked)
			buf_printf(out, "BDAT %zu LAST\r\n", l->size);
		else
			buf_append_string(out, "DATA\r\n");
		add_message(l, out);
		if (!l->chunked)
			buf_append_string(out, ".\r\n");
	}
	ASSERT(!out->overflow);
}

static uint64_t
feed(struct server *s, struct span in, size_t size)
{
	uint8_t memory[4096];
	uint64_t mails = 0;
	size_t held = 0;

	while (in.size > 0) {
		struct buf replies = buf_of(memory, sizeof memory);
		struct server_action action;
		struct span piece = span_first(in, held + size);
		size_t used = server_step(s, piece, &replies, &action);

		ASSERT(action.kind <= SERVER_MAIL);
		held = action.kind == SERVER_NEED_INPUT ? piece.size - used : 0;
		mails += action.kind == SERVER_MAIL && action.id.size == TRACK_ID_SIZE;
		in = span_after(in, used);
	}
	return mails;
}

static void
measure(const struct load *l, uint64_t for_us, uint8_t *memory)
{
	struct buf text = buf_of(memory, TEXT_MAX);
	struct fault_rules faults = { 0 };
	struct server_options options = { .hostname = SPAN("sink.test"),
					  .offers = SERVER_OFFER_ALL,
					  .faults = l->rule != NULL ? &faults : NULL };
	struct buf why = { 0 };
	struct server server;
	uint64_t mails = 0;

	ASSERT(l->rule == NULL || fault_add(&faults, span_of_string(l->rule), &why));
	add_mails(l, &text);
	server_init(&server, &options, 1);
	feed(&server, SPAN("EHLO bench.test\r\n"), SIZE_MAX / 2);
	uint64_t begun = clock_monotonic_us();
	uint64_t now = begun;
	while (now - begun < for_us) {
		for (unsigned i = 0; i < 16; i++) {
			uint64_t n = feed(&server, buf_span(&text), l->read);
			ASSERT(n == ROUND || l->rule != NULL);
			mails += n;
		}
		now = clock_monotonic_us();
	}
	double ns = (double)(now - begun) * 1000 / (double)mails;
	printf("%-28s %8.0f ns a mail  %6.2f GB/s\n", l->name, ns, (double)l->size / ns);
	server_fini(&server);
}

int
main(int count, char **arguments)
{
	double seconds = count > 1 ? strtod(arguments[1], NULL) : 1;
	uint8_t *memory = malloc(TEXT_MAX);

	ASSERT(memory != NULL && seconds > 0);
	for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++)
		measure(&loads[i], (uint64_t)(seconds * 1e6), memory);
	free(memory);
	return 0;
}
