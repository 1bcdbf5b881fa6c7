/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void
encode_group(struct span s, uint8_t *text)
{
	uint32_t bits = (uint32_t)s.data[0] << 16;

	if (s.size > 1)
		bits |= (uint32_t)s.data[1] << 8;
	if (s.size > 2)
		bits |= s.data[2];
	for (unsigned i = 0; i < 4; i++)
		text[i] = (uint8_t)alphabet[bits >> (18 - 6 * i) & 63];
	if (s.size < 3)
		text[3] = '=';
	if (s.size < 2)
		text[2] = '=';
}

bool
base64_encode(struct span s, struct buf *out)
{
	uint8_t text[4];

	while (s.size > 0) {
		encode_group(span_first(s, 3), text);
		if (!buf_append(out, span_of(text, sizeof text)))
			return false;
		s = span_after(s, 3);
	}
	return true;
}

/* What a character stands for; 64 and more for none. */
static uint32_t
value_of(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26U;
	if (c >= '0' && c <= '9')
		return c - '0' + 52U;
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* Four characters, of which the last ones of a text may be padding. */
static bool
decode_group(const uint8_t *text, bool is_last, struct buf *out)
{
	unsigned given = 4;
	uint32_t bits = 0;

	if (is_last && text[3] == '=')
		given = text[2] == '=' ? 2 : 3;
	for (unsigned i = 0; i < 4; i++) {
		uint32_t value = i < given ? value_of(text[i]) : 0;
		if (value > 63)
			return false;
		bits = bits << 6 | value;
	}
	uint8_t bytes[] = { (uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits };
	unsigned count = given - 1;
	for (unsigned i = count; i < 3; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return buf_append(out, span_of(bytes, count));
}

bool
base64_decode(struct span s, struct buf *out)
{
	if (s.size % 4 != 0)
		return false;
	for (; s.size > 0; s = span_after(s, 4)) {
		if (!decode_group(s.data, s.size == 4, out))
			return false;
	}
	return true;
}
