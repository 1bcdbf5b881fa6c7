/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/text.h"

#include "core/base/buf.h"

enum { IP_TEXT_MAX = 64 };

bool
text_line(struct span *text, struct span comment, struct span *line)
{
	size_t end = span_find(*text, '\n', 0);

	if (text->size == 0)
		return false;
	*line = span_first(*text, end);
	*text = span_after(*text, end + 1);
	for (size_t i = 0; i < comment.size; i++)
		*line = span_first(*line, span_find(*line, comment.data[i], 0));
	return true;
}

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

bool
text_word(struct span *line, struct span *word)
{
	size_t size = 0;

	while (line->size > 0 && is_blank(line->data[0]))
		*line = span_after(*line, 1);
	while (size < line->size && !is_blank(line->data[size]))
		size++;
	*word = span_first(*line, size);
	*line = span_after(*line, size);
	return size > 0;
}

bool
text_ip(struct span text, uint16_t port, struct net_address *out)
{
	uint8_t memory[IP_TEXT_MAX];
	struct buf full = buf_of(memory, sizeof memory);
	bool is_v6 = span_find(text, ':', 0) < text.size;

	if (text.size > 2 && text.data[0] == '[' && text.data[text.size - 1] == ']' && is_v6)
		text = span_first(span_after(text, 1), text.size - 2);
	if (text.size == 0 || text.data[0] == '[' || span_starts_with(text, SPAN("unix:")))
		return false;
	buf_append_string(&full, is_v6 ? "[" : "");
	buf_append(&full, text);
	buf_append_string(&full, is_v6 ? "]:" : ":");
	buf_append_number(&full, port);
	return !full.overflow && net_address_parse(buf_span(&full), out);
}
