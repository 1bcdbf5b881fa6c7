/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/*
 * Replies and bodies: what is read must not depend on how it is cut, the text must be clean, and a
 * stuffed body must come back by taking the dots out.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/utf8.h"
#include "relay/smtp/body_out.h"
#include "relay/smtp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_text(const struct reply *r)
{
	struct span text = reply_text(r);

	ASSERT(text.size <= REPLY_TEXT_MAX);
	ASSERT(utf8_is_valid(text));
	for (size_t i = 0; i < text.size; i++)
		ASSERT((text.data[i] >= ' ' && text.data[i] != 0x7f) || text.data[i] == '\n');
	ASSERT(r->code >= 200 && r->code <= 599);
}

/* A hash over all that was read. */
static uint64_t
read_all(struct span in, size_t step)
{
	struct reply r;
	enum reply_event event = REPLY_MORE;
	uint64_t hash = 0;
	size_t used = 0;

	reply_init(&r);
	while (used < in.size && event != REPLY_BAD) {
		size_t took = reply_feed(&r, span_first(span_after(in, used), step), &event);
		ASSERT(took > 0 || event == REPLY_BAD);
		used += took;
		if (event == REPLY_MORE)
			continue;
		hash = hash * 31 + event;
		if (event == REPLY_DONE)
			check_text(&r);
		if (event != REPLY_BAD)
			hash ^= span_hash_nocase(reply_text(&r), r.code);
	}
	return hash;
}

static void
check_body(struct span in, size_t step, size_t room)
{
	uint8_t memory[64];
	struct body_out b;
	struct body_dots d;
	size_t used = 0;
	size_t at = 0; /* in the message, by unstuffing */
	bool line_start = true;
	bool stuffed = false;

	body_out_init(&b);
	body_dots_init(&d);
	while (used < in.size) {
		struct buf out = buf_of(memory, room);
		size_t took = body_out_feed(&b, span_first(span_after(in, used), step), &out);
		ASSERT(took > 0);
		body_dots_feed(&d, span_first(span_after(in, used), took));
		used += took;
		for (size_t i = 0; i < out.size; i++) {
			if (line_start && memory[i] == '.') {
				stuffed = true;
				line_start = false;
				continue;
			}
			ASSERT(at < in.size && memory[i] == in.data[at]);
			line_start = in.data[at++] == '\n';
		}
	}
	ASSERT(at == in.size);
	ASSERT(d.found == stuffed);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct span in = span_of(data + 2, size - 2);
	uint64_t whole = read_all(in, SIZE_MAX);
	ASSERT(read_all(in, 1) == whole);
	ASSERT(read_all(in, (size_t)data[0] + 1) == whole);
	check_body(in, (size_t)data[0] + 1, (size_t)data[1] % 62 + 2);
	return 0;
}
