/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/line.h"

size_t
line_next(struct span in, size_t size_max, enum line_kind *kind, struct span *text)
{
	struct span window = span_first(in, size_max);
	size_t end = span_find(window, '\n', 0);

	*text = span_none();
	if (end == window.size) {
		*kind = in.size >= size_max ? LINE_TOO_LONG : LINE_PARTIAL;
		return *kind == LINE_TOO_LONG ? size_max : 0;
	}
	struct span line = span_first(in, end);
	*kind = LINE_BARE_LF;
	if (line.size > 0 && line.data[line.size - 1] == '\r') {
		*kind = LINE_GOOD;
		line.size--;
	}
	if (span_find(line, '\r', 0) < line.size || span_find(line, '\0', 0) < line.size)
		*kind = LINE_BAD;
	*text = line;
	while (text->size > 0 &&
	       (line.data[text->size - 1] == ' ' || line.data[text->size - 1] == '\t'))
		text->size--;
	return end + 1;
}

struct span
line_word(struct span *rest)
{
	size_t end = span_find(*rest, ' ', 0);
	struct span word = span_first(*rest, end);

	*rest = span_trim(span_after(*rest, end));
	return word;
}
