/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/replies.h"

#include "core/base/assert.h"

enum { CODE_SIZE = 3 };

static const struct {
	const char *name;
	struct span line;   /* as it is sent */
	struct span prefix; /* what a text of the caller's own follows */
	unsigned code;
} rows[REPLY_COUNT] = {
#define LITERAL(text)                                        \
	{                                                    \
		(const uint8_t *)("" text), sizeof(text) - 1 \
	}
#define REPLY(name, code, enhanced, text)                                      \
	[REPLY_##name] = { #name, LITERAL(#code " " enhanced " " text "\r\n"), \
			   LITERAL(#code " " enhanced " "), code },
#define REPLY_PLAIN(name, code, text) \
	[REPLY_##name] = { #name, LITERAL(#code " " text "\r\n"), LITERAL(#code " "), code },
#include "core/tables/replies.def"
#undef REPLY
#undef REPLY_PLAIN
#undef LITERAL
};

unsigned
reply_row_code(enum reply_row row)
{
	ASSERT(row < REPLY_COUNT);
	return rows[row].code;
}

const char *
reply_row_name(enum reply_row row)
{
	ASSERT(row < REPLY_COUNT);
	return rows[row].name;
}

struct span
reply_row_line(enum reply_row row)
{
	ASSERT(row < REPLY_COUNT);
	return rows[row].line;
}

struct span
reply_row_text(enum reply_row row)
{
	struct span line = reply_row_line(row);

	return span_after(span_first(line, line.size - 2), rows[row].prefix.size);
}

static bool
append_line(enum reply_row row, struct span text, bool last, struct buf *out)
{
	size_t at = out->size;

	if (buf_append(out, rows[row].prefix) && !last)
		out->data[at + CODE_SIZE] = '-';
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		/* The text may quote a peer: a line break in it would be a reply of its own. */
		buf_append_byte(out, c < ' ' || c == 0x7f ? '?' : c);
	}
	return buf_append(out, SPAN("\r\n"));
}

/* How much of the text goes on one line: at a blank, where there is one in the second half. */
static size_t
line_end(struct span text)
{
	size_t end = REPLY_TEXT_LINE_MAX;

	if (text.size <= end)
		return text.size;
	while (end > REPLY_TEXT_LINE_MAX / 2 && text.data[end] != ' ')
		end--;
	return text.data[end] == ' ' ? end : REPLY_TEXT_LINE_MAX;
}

bool
reply_row_render(enum reply_row row, struct span text, struct span more, struct buf *out)
{
	ASSERT(row < REPLY_COUNT);
	append_line(row, text, more.size == 0, out);
	while (more.size > 0) {
		size_t end = line_end(more);
		append_line(row, span_first(more, end), end == more.size, out);
		more = span_after(more, end);
		if (more.size > 1 && more.data[0] == ' ')
			more = span_after(more, 1);
	}
	return !out->overflow;
}
