/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses message */
/*
 * Reports: whatever the words of others are, what is composed has its three parts, its fields are
 * read back group by group, and no line of ours is too long.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/utf8.h"
#include "tests/lib/dsn_compose.h"
#include "tests/lib/dsn_fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RECIPIENTS = 3, OUTPUT_MAX = 256 * 1024 };

/* The input is fields behind a byte each that says how long they are. */
static struct span
take(struct span *in)
{
	size_t length = in->size > 0 ? in->data[0] : 0;
	struct span s = span_first(span_after(*in, 1), length * 2);

	*in = span_after(*in, 1 + s.size);
	return s;
}

static unsigned
take_number(struct span *in)
{
	unsigned n = in->size > 0 ? in->data[0] : 0;

	*in = span_after(*in, 1);
	return n;
}

static void
check_lines(struct span text, unsigned parts)
{
	unsigned delimiters = 0;

	for (size_t at = 0; at < text.size;) {
		size_t end = span_find(text, '\n', at);
		struct span line = span_of(text.data + at, end - at);
		ASSERT(end < text.size && end > at && text.data[end - 1] == '\r');
		ASSERT(line.size < 998);
		delimiters += span_starts_with(line, SPAN("--=_report_fuzz"));
		at = end + 1;
	}
	ASSERT(delimiters == parts + 1);
}

static void
check_composed(struct span in)
{
	static uint8_t memory[OUTPUT_MAX];
	struct buf out = buf_of(memory, sizeof memory);
	struct dsn_recipient recipients[RECIPIENTS];
	struct dsn_template templates[DSN_ACTIONS] = { { span_none(), span_none() } };
	size_t room = DSN_PIECE_MAX + (size_t)take_number(&in) * 64;
	struct dsn d;
	uint32_t groups;

	for (unsigned i = 0; i < RECIPIENTS; i++) {
		unsigned bits = take_number(&in);
		recipients[i] = (struct dsn_recipient){
			.action = (enum dsn_action)(bits % DSN_ACTIONS),
			.from_remote = (bits & 64) != 0,
			.address = take(&in),
			.orcpt = take(&in),
			.reply = take(&in),
			.remote = take(&in),
			.attempt_ms = bits,
		};
	}
	struct dsn_notice n = {
		.hostname = take(&in),
		.from = take(&in),
		.id = take(&in),
		.token = SPAN("fuzz"),
		.original_id = take(&in),
		.sender = take(&in),
		.envid = take(&in),
		.message_id = take(&in),
		.recipient_count = RECIPIENTS,
		.recipient = dsn_recipient_of_array,
		.context = recipients,
		.templates = templates,
	};
	static uint8_t why_memory[1024];
	struct buf why = buf_of(why_memory, sizeof why_memory);
	size_t line;
	if (!dsn_template_parse(take(&in), &templates[0], &line, &why))
		templates[0] = (struct dsn_template){ span_none(), span_none() };
	bool whole = dsn_compose(&n, span_none(), room, 1, &out, &d);
	ASSERT(whole && !out.overflow);
	ASSERT(utf8_is_valid(buf_span(&out)));
	ASSERT(dsn_is_eight_bit(&d) || !utf8_has_non_ascii(buf_span(&out)));
	check_lines(buf_span(&out), 2);
	uint64_t hash = dsn_read_all(buf_span(&out), SIZE_MAX, &groups);
	ASSERT(groups == RECIPIENTS);
	ASSERT(dsn_read_all(buf_span(&out), 7, &groups) == hash);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_composed(span_of(data, size));
	return 0;
}
