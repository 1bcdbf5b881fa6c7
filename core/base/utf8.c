/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/utf8.h"

static bool
is_tail(uint8_t c)
{
	return (c & 0xc0) == 0x80;
}

size_t
utf8_length(struct span s)
{
	if (s.size == 0)
		return 0;
	uint8_t c = s.data[0];
	size_t length = c < 0x80   ? 1
			: c < 0xc2 ? 0
			: c < 0xe0 ? 2
			: c < 0xf0 ? 3
			: c < 0xf5 ? 4
				   : 0;

	if (length < 2 || length > s.size)
		return length == 1 ? 1 : 0;
	/* The second byte rules out overlong forms, surrogates and what is above U+10FFFF. */
	uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	if (s.data[1] < low || s.data[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++) {
		if (!is_tail(s.data[i]))
			return 0;
	}
	return length;
}

bool
utf8_has_non_ascii(struct span s)
{
	uint64_t seen = 0;
	size_t i = 0;

	for (; i + sizeof seen <= s.size; i += sizeof seen) {
		uint64_t word;
		memcpy(&word, s.data + i, sizeof word);
		seen |= word;
	}
	for (; i < s.size; i++)
		seen |= s.data[i];
	return (seen & 0x8080808080808080ULL) != 0;
}

bool
utf8_is_valid(struct span s)
{
	if (!utf8_has_non_ascii(s))
		return true; /* nearly always */
	while (s.size > 0) {
		size_t length = utf8_length(s);
		if (length == 0)
			return false;
		s = span_after(s, length);
	}
	return true;
}
