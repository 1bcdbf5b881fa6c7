/* SPDX-License-Identifier: Apache-2.0
 *
 * The kinds of values that only TLS has. Pure.
 */
#include "core/base/assert.h"
#include "core/config_table.h"

enum { FINGERPRINTS_MAX = 16 };

/* The value of a hexadecimal digit; 16 for what is none. */
static unsigned
digit_of(uint8_t c)
{
	c = ascii_lower(c);
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? 10u + c - 'a' : 16;
}

/* "AB:CD:..." as `openssl x509 -fingerprint -sha256` prints it, or without the colons. */
static bool
fingerprint_parse(struct span text, uint8_t *out)
{
	bool colons = text.size == 3 * CONFIG_FINGERPRINT_SIZE - 1;
	size_t stride = colons ? 3 : 2;

	if (!colons && text.size != 2 * CONFIG_FINGERPRINT_SIZE)
		return false;
	for (size_t i = 0; i < CONFIG_FINGERPRINT_SIZE; i++) {
		unsigned high = digit_of(text.data[i * stride]);
		unsigned low = digit_of(text.data[i * stride + 1]);
		if (high > 15 || low > 15)
			return false;
		if (colons && i > 0 && text.data[i * stride - 1] != ':')
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

bool
fingerprints_parse(const struct option *o, const struct span *items, size_t count,
		   struct arena *arena, void *base, struct buf *why, size_t *bad)
{
	if (count > FINGERPRINTS_MAX)
		return value_refuse(why, span_none(),
				    "has more than 16 fingerprints; shorten the list");
	uint8_t(*list)[CONFIG_FINGERPRINT_SIZE] = arena_take(arena, (count + 1) * sizeof *list);
	if (list == NULL)
		return value_refuse(why, span_none(), "does not fit in memory; shorten the file");
	for (size_t i = 0; i < count; i++) {
		*bad = i;
		if (!fingerprint_parse(items[i], list[i]))
			return value_refuse(
				why, items[i],
				"is no SHA-256 fingerprint; write the 32 bytes that openssl x509 "
				"-noout -fingerprint -sha256 prints");
	}
	memcpy((char *)base + o->offset, &list, sizeof list);
	memcpy((char *)base + o->count_offset, &count, sizeof count);
	return true;
}

static const uint8_t (*fingerprints_of(const struct option *o, const void *base,
				       size_t *count))[CONFIG_FINGERPRINT_SIZE]
{
	const uint8_t(*list)[CONFIG_FINGERPRINT_SIZE];

	memcpy(&list, (const char *)base + o->offset, sizeof list);
	memcpy(count, (const char *)base + o->count_offset, sizeof *count);
	return list;
}

void
fingerprints_print(const struct option *o, const void *base, struct buf *out)
{
	size_t count;
	const uint8_t(*list)[CONFIG_FINGERPRINT_SIZE] = fingerprints_of(o, base, &count);

	buf_append_byte(out, '[');
	for (size_t i = 0; i < count; i++) {
		buf_append_string(out, i == 0 ? "\"" : ", \"");
		for (size_t at = 0; at < CONFIG_FINGERPRINT_SIZE; at++)
			buf_printf(out, at == 0 ? "%02x" : ":%02x", list[i][at]);
		buf_append_byte(out, '"');
	}
	buf_append_byte(out, ']');
}

bool
fingerprints_eq(const struct option *o, const void *a, const void *b)
{
	size_t counts[2];
	const uint8_t(*left)[CONFIG_FINGERPRINT_SIZE] = fingerprints_of(o, a, &counts[0]);
	const uint8_t(*right)[CONFIG_FINGERPRINT_SIZE] = fingerprints_of(o, b, &counts[1]);

	return counts[0] == counts[1] &&
	       (counts[0] == 0 || memcmp(left, right, counts[0] * sizeof *left) == 0);
}
