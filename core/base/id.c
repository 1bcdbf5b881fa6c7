/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/id.h"

#include "core/base/assert.h"

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

bool
id_write(struct buf *out, uint64_t high, uint64_t low)
{
	uint8_t text[ID_TEXT_SIZE];

	/* 26 digits of 5 bits: the first one has only the top 3. */
	for (size_t i = ID_TEXT_SIZE; i > 0; i--) {
		text[i - 1] = (uint8_t)digits[low & 31];
		low = low >> 5 | high << 59;
		high >>= 5;
	}
	ASSERT(high == 0 && low == 0);
	return buf_append(out, span_of(text, sizeof text));
}

bool
id_read(struct span text, uint64_t *high, uint64_t *low)
{
	uint64_t h = 0;
	uint64_t l = 0;

	/* A first digit over 7 would not fit into 128 bits. */
	if (text.size != ID_TEXT_SIZE || text.data[0] < '0' || text.data[0] > '7')
		return false;
	for (size_t i = 0; i < ID_TEXT_SIZE; i++) {
		const char *digit = memchr(digits, ascii_lower(text.data[i]), sizeof digits - 1);
		if (digit == NULL)
			return false;
		h = h << 5 | l >> 59;
		l = l << 5 | (uint64_t)(digit - digits);
	}
	*high = h;
	*low = l;
	return true;
}
