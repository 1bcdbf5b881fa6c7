/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/assert.h"
#include "core/base/utf8.h"

enum { DIGITS_MOST = 20 }; /* of UINT64_MAX */

bool
buf_append_number(struct buf *b, uint64_t number)
{
	unsigned digits = 1;

	for (uint64_t rest = number / 10; rest > 0; rest /= 10)
		digits++;
	return buf_append_digits(b, number, digits);
}

bool
buf_append_digits(struct buf *b, uint64_t number, unsigned digits)
{
	ASSERT(digits <= DIGITS_MOST);
	if (digits > buf_room(b)) {
		b->overflow = true;
		return false;
	}
	uint8_t *text = b->data + b->size;
	for (unsigned i = digits; i > 0; i--) {
		text[i - 1] = (uint8_t)('0' + number % 10);
		number /= 10;
	}
	b->size += digits;
	return true;
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

/* Does it not stand for itself in a JSON string? */
static bool
is_special(uint8_t c)
{
	return (c < 0x20) | (c >= 0x7f) | (c == '"') | (c == '\\');
}

/* How many bytes from `at` on stand for themselves. Most texts do from end to end; a block is
 * looked at without branches, so that the compiler makes vector code of it. */
static size_t
plain_prefix(struct span s, size_t at)
{
	enum { BLOCK = 16 };
	size_t i = at;

	for (; s.size - i >= BLOCK; i += BLOCK) {
		uint8_t special = 0;
		for (size_t j = 0; j < BLOCK; j++)
			special |= is_special(s.data[i + j]);
		if (special)
			break;
	}
	while (i < s.size && !is_special(s.data[i]))
		i++;
	return i - at;
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

bool
buf_append_json(struct buf *b, struct span s, size_t size_max)
{
	size_t at = 0;

	while (at < s.size) {
		size_t plain = plain_prefix(span_first(s, size_max), at);
		if (!buf_append(b, span_of(s.data + at, plain)))
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
