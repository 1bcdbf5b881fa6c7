/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses relay/flow/recipient_table.c smtp */
/*
 * A file of recipients is refused with a line that says where, or every address that stands alone
 * in one of its lines is found, in any case and with a detail.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "relay/flow/recipient_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Is the address of this line, with its ASCII letters turned round, in the table? */
static void
check_line(const struct recipient_table *t, struct span line)
{
	uint8_t memory[RECIPIENT_LINE_MAX];
	struct address a;

	if (line.size == 0 || line.size > sizeof memory || line.data[0] == '#')
		return;
	for (size_t i = 0; i < line.size; i++) {
		uint8_t c = line.data[i];
		bool letter = ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
		memory[i] = letter ? (uint8_t)(c ^ 0x20) : c;
	}
	if (address_parse_mailbox(span_of(memory, line.size), &a) != ADDRESS_OK)
		return;
	ASSERT(recipient_table_has(t, &a, span_none()));
	ASSERT(recipient_table_has(t, &a, SPAN("+-")));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t memory[512];
	struct buf why = buf_of(memory, sizeof memory);
	struct span text = span_of(data, size);
	struct recipient_table *t = recipient_table_parse(SPAN("/f"), text, &why);

	if (t == NULL) {
		ASSERT(span_starts_with(buf_span(&why), SPAN("/f:")) && !why.overflow);
		return 0;
	}
	ASSERT(t->count > 0 && t->count <= t->mask / 2 + 1);
	if (span_starts_with(text, SPAN("\xef\xbb\xbf")))
		text = span_after(text, 3);
	for (size_t at = 0; at < text.size;) {
		size_t end = span_find(text, '\n', at);
		check_line(t, span_of(text.data + at, end - at));
		at = end + 1;
	}
	recipient_table_put(t);
	return 0;
}
