/* SPDX-License-Identifier: Apache-2.0
 *
 * span: a borrowed, read-only view of bytes. It owns nothing and is passed by value.
 *
 * A span never outlives what it points into; whoever keeps bytes longer copies them (arena_copy,
 * buf_append). An empty span may have data == NULL. Bytes are not text: nothing here looks for a
 * terminating NUL except span_of_string(), and a span may hold NULs.
 *
 * Case folding is ASCII only, as RFC 5321 2.4 defines it for commands and domains.
 */
#ifndef CORE_BASE_SPAN_H
#define CORE_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const uint8_t *data;
	size_t size;
};

/* A span of a string literal, without its NUL. */
#define SPAN(literal) ((struct span){ (const uint8_t *)("" literal), sizeof(literal) - 1 })
/* For printf: "%.*s". Only for spans known to be text shorter than INT_MAX. */
#define SPAN_ARG(s) (int)(s).size, (const char *)(s).data

static inline struct span
span_of(const void *data, size_t size)
{
	return (struct span){ data, size };
}

static inline struct span
span_of_string(const char *text)
{
	return (struct span){ (const uint8_t *)text, text == NULL ? 0 : strlen(text) };
}

static inline struct span
span_none(void)
{
	return (struct span){ NULL, 0 };
}

static inline bool
span_is_empty(struct span s)
{
	return s.size == 0;
}

/* The first n bytes; n past the end means all. */
static inline struct span
span_first(struct span s, size_t n)
{
	return (struct span){ s.data, n < s.size ? n : s.size };
}

/* What follows the first n bytes; n past the end means nothing. */
static inline struct span
span_after(struct span s, size_t n)
{
	if (n >= s.size)
		return (struct span){ s.data == NULL ? NULL : s.data + s.size, 0 };
	return (struct span){ s.data + n, s.size - n };
}

static inline bool
span_eq(struct span a, struct span b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool
span_starts_with(struct span s, struct span prefix)
{
	return s.size >= prefix.size && span_eq(span_first(s, prefix.size), prefix);
}

static inline uint8_t
ascii_lower(uint8_t c)
{
	return (uint8_t)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* Equality that ignores the case of ASCII letters; of two spans of one size, and of any. */
bool span_eq_nocase_sized(struct span a, struct span b);
static inline bool
span_eq_nocase(struct span a, struct span b)
{
	return a.size == b.size && span_eq_nocase_sized(a, b);
}

/* Does s end in suffix, ignoring the case of ASCII letters? */
bool span_ends_with_nocase(struct span s, struct span suffix);
/* Index of the first byte c at or after `from`; s.size where there is none. */
static inline size_t
span_find(struct span s, uint8_t c, size_t from)
{
	if (from >= s.size)
		return s.size;
	const uint8_t *hit = memchr(s.data + from, c, s.size - from);
	return hit == NULL ? s.size : (size_t)(hit - s.data);
}

/* Without leading and trailing space and horizontal tab. */
struct span span_trim(struct span s);
/* A number in decimal digits only, at most 20 of them; false on anything else or on overflow. */
bool span_to_u64(struct span s, uint64_t *out);
/* A 64-bit hash for tables (not for security unless the seed is secret); ASCII case folded. */
uint64_t span_hash_nocase(struct span s, uint64_t seed);

#endif
