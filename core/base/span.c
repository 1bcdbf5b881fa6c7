/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/span.h"

bool
span_eq_nocase_sized(struct span a, struct span b)
{
	for (size_t i = 0; i < a.size; i++) {
		if (ascii_lower(a.data[i]) != ascii_lower(b.data[i]))
			return false;
	}
	return true;
}

bool
span_ends_with_nocase(struct span s, struct span suffix)
{
	return s.size >= suffix.size && span_eq_nocase(span_after(s, s.size - suffix.size), suffix);
}

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

struct span
span_trim(struct span s)
{
	while (s.size > 0 && is_blank(s.data[0]))
		s = span_after(s, 1);
	while (s.size > 0 && is_blank(s.data[s.size - 1]))
		s.size--;
	return s;
}

bool
span_to_u64(struct span s, uint64_t *out)
{
	uint64_t value = 0;

	if (s.size == 0 || s.size > 20)
		return false;
	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] < '0' || s.data[i] > '9')
			return false;
		if (__builtin_mul_overflow(value, 10U, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s.data[i] - '0'), &value))
			return false;
	}
	*out = value;
	return true;
}

uint64_t
span_hash_nocase(struct span s, uint64_t seed)
{
	/* FNV-1a with a finishing mix: short keys, and the low bits pick the table's slot. */
	uint64_t h = 0xcbf29ce484222325ULL ^ seed;

	for (size_t i = 0; i < s.size; i++) {
		h ^= ascii_lower(s.data[i]);
		h *= 0x100000001b3ULL;
	}
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ULL;
	h ^= h >> 29;
	return h;
}
