/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses message */
/*
 * A message that is put right: the same however it is cut; without options it comes out as it went
 * in; what came out once changes no more. And the mailboxes of the same bytes: every step gets on,
 * and an address has one part in front of and one behind its last '@'.
 */
#include "core/base/assert.h"
#include "relay/message/fixup.h"
#include "relay/message/mailboxes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_MAX = 16384 };

static uint8_t memories[3][MESSAGE_MAX + 256];

static struct buf
run(const struct fixup_options *o, struct span in, size_t step, unsigned memory)
{
	struct buf out = buf_of(memories[memory], sizeof memories[memory]);
	struct fixup f;
	struct span piece;

	fixup_init(&f, o);
	while (in.size > 0) {
		struct span part = span_first(in, step);
		in = span_after(in, part.size);
		while (part.size > 0) {
			size_t used = fixup_step(&f, part, &piece);
			ASSERT(used <= part.size && (used > 0 || piece.size > 0));
			buf_append(&out, piece);
			part = span_after(part, used);
		}
	}
	while (fixup_finish(&f, &piece))
		buf_append(&out, piece);
	ASSERT(!out.overflow);
	return out;
}

static void
read_mailboxes(struct span value)
{
	uint8_t memory[MAILBOX_MAX];
	struct buf one = buf_of(memory, sizeof memory);
	size_t before = value.size + 1;

	while (mailboxes_next(&value, &one) == MAILBOXES_NEXT) {
		size_t at = one.size;
		ASSERT(value.size < before);
		before = value.size;
		while (at > 0 && memory[at - 1] != '@')
			at--;
		ASSERT(at > 1 && at < one.size);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fixup_options all = {
		.drop_bcc = true,
		.date = SPAN("Date: now\r\n"),
		.message_id = SPAN("Message-ID: <x@y>\r\n"),
	};
	struct fixup_options none = { 0 };

	if (size < 1 || size > MESSAGE_MAX)
		return 0;
	struct span in = span_of(data + 1, size - 1);
	struct buf whole = run(&all, in, SIZE_MAX, 0);
	struct buf cut = run(&all, in, (size_t)data[0] % 7 + 1, 1);
	ASSERT(span_eq(buf_span(&whole), buf_span(&cut)));
	cut = run(&all, buf_span(&whole), SIZE_MAX, 1);
	/* But where a line without its end had to stay the last one, or a name is too long. */
	if (in.size > 0 && in.data[in.size - 1] == '\n' && in.size < FIXUP_NAME_MAX)
		ASSERT(span_eq(buf_span(&whole), buf_span(&cut)));
	cut = run(&none, in, data[0] + 1U, 2);
	ASSERT(span_eq(buf_span(&cut), in));
	read_mailboxes(in);
	return 0;
}
