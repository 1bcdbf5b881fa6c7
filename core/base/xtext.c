/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/xtext.h"

static int
upper_hex(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte at the start of s, decoded; 0 bytes used where it is no xtext. */
static size_t
xtext_byte(struct span s, uint8_t *out)
{
	*out = s.data[0];
	if (*out == '+') {
		if (s.size < 3 || upper_hex(s.data[1]) < 0 || upper_hex(s.data[2]) < 0)
			return 0;
		*out = (uint8_t)(upper_hex(s.data[1]) << 4 | upper_hex(s.data[2]));
		return 3;
	}
	return *out > ' ' && *out < 0x7f && *out != '=' ? 1 : 0;
}

bool
xtext_is_valid(struct span s)
{
	while (s.size > 0) {
		uint8_t c;
		size_t length = xtext_byte(s, &c);
		if (length == 0)
			return false;
		s = span_after(s, length);
	}
	return true;
}

bool
xtext_decode(struct span s, struct buf *out)
{
	while (s.size > 0) {
		uint8_t c;
		size_t length = xtext_byte(s, &c);
		if (length == 0 || !buf_append_byte(out, c))
			return false;
		s = span_after(s, length);
	}
	return true;
}
