/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/assert.h"
#include "core/base/utf8.h"

bool
buf_append(struct buf *b, struct span s)
{
	ASSERT(b->size <= b->capacity);
	if (s.size > buf_room(b)) {
		b->overflow = true;
		return false;
	}
	if (s.size > 0)
		memcpy(b->data + b->size, s.data, s.size);
	b->size += s.size;
	return true;
}

bool
buf_append_byte(struct buf *b, uint8_t c)
{
	return buf_append(b, span_of(&c, 1));
}

bool
buf_append_string(struct buf *b, const char *text)
{
	return buf_append(b, span_of_string(text));
}

bool
buf_append_number(struct buf *b, uint64_t n, unsigned width)
{
	uint8_t digits[20];
	size_t at = sizeof digits;

	ASSERT(width <= sizeof digits);
	do {
		digits[--at] = (uint8_t)('0' + n % 10);
		n /= 10;
	} while (n > 0 || sizeof digits - at < width);
	return buf_append(b, span_of(digits + at, sizeof digits - at));
}

bool
buf_printf(struct buf *b, const char *format, ...)
{
	va_list arguments;
	size_t room = buf_room(b);

	va_start(arguments, format);
	int written = vsnprintf((char *)b->data + b->size, room, format, arguments);
	va_end(arguments);
	/* vsnprintf needs one byte for its NUL: a text that fills the room exactly does not fit. */
	if (written < 0 || (size_t)written >= room) {
		b->overflow = true;
		return false;
	}
	b->size += (size_t)written;
	return true;
}

static bool
append_json_character(struct buf *b, struct span character)
{
	uint8_t c = character.data[0];

	if (c == '"' || c == '\\')
		return buf_append_byte(b, '\\') && buf_append_byte(b, c);
	if (c == '\n')
		return buf_append(b, SPAN("\\n"));
	if (c == '\r')
		return buf_append(b, SPAN("\\r"));
	if (c == '\t')
		return buf_append(b, SPAN("\\t"));
	if (c < 0x20 || c == 0x7f) {
		static const char digits[] = "0123456789abcdef";
		uint8_t escape[6] = {
			'\\', 'u', '0', '0', (uint8_t)digits[c >> 4], (uint8_t)digits[c & 15]
		};
		return buf_append(b, span_of(escape, sizeof escape));
	}
	return buf_append(b, character);
}

/* How many bytes at the start stand for themselves in a JSON string: nearly all of most texts. */
static size_t
plain_json(struct span s)
{
	size_t n = 0;

	while (n < s.size && s.data[n] >= 0x20 && s.data[n] < 0x7f && s.data[n] != '"' &&
	       s.data[n] != '\\')
		n++;
	return n;
}

bool
buf_append_json(struct buf *b, struct span s, size_t size_max)
{
	size_t at = 0;

	while (at < s.size) {
		size_t plain = plain_json(span_first(span_after(s, at), size_max - at));
		if (!buf_append(b, span_first(span_after(s, at), plain)))
			return false;
		at += plain;
		struct span rest = span_after(s, at);
		if (rest.size == 0)
			break;
		size_t length = utf8_length(rest);
		size_t step = length == 0 ? 1 : length;
		if (at + step > size_max)
			return true;
		bool fits = length == 0 ? buf_append(b, SPAN("\xef\xbf\xbd"))
					: append_json_character(b, span_first(rest, length));
		if (!fits)
			return false;
		at += step;
	}
	return true;
}

void
buf_consume(struct buf *b, size_t n)
{
	ASSERT(n <= b->size);
	memmove(b->data, b->data + n, b->size - n);
	b->size -= n;
}
