/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/quoted.h"

#include "core/base/utf8.h"

/* The next character of a text, made harmless: how many bytes of `in` it takes, and in `c` what
 * stands in its place. */
static size_t
clean(struct span in, bool utf8, struct span *c)
{
	size_t length = utf8_length(in);

	*c = span_first(in, length);
	if (length == 0 || (length > 1 && !utf8) || in.data[0] < ' ' || in.data[0] == 0x7f)
		*c = SPAN("?");
	return length == 0 ? 1 : length;
}

struct span
quoted_cut(struct span text, size_t most)
{
	if (text.size <= most)
		return text;
	while (most > 0 && (text.data[most] & 0xc0) == 0x80)
		most--;
	return span_first(text, most);
}

/* With a backslash in front of each of `pairs`. */
static void
append(struct buf *out, struct span text, bool utf8, struct span pairs)
{
	while (text.size > 0) {
		struct span c;
		size_t used = clean(text, utf8, &c);
		if (span_find(pairs, c.data[0], 0) < pairs.size)
			buf_append_byte(out, '\\');
		buf_append(out, c);
		text = span_after(text, used);
	}
}

void
quoted_string(struct buf *out, struct span text, size_t most, bool utf8)
{
	buf_append_byte(out, '"');
	append(out, quoted_cut(text, most), utf8, SPAN("\"\\"));
	buf_append_byte(out, '"');
}

void
quoted_comment(struct buf *out, struct span text, size_t most, bool utf8)
{
	buf_append_byte(out, '(');
	append(out, quoted_cut(text, most), utf8, SPAN("()\\"));
	buf_append_byte(out, ')');
}
