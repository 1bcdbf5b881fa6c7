/* SPDX-License-Identifier: Apache-2.0
 *
 * buf: a bounded builder of bytes in memory that the caller provides.
 *
 * It never allocates and never writes past its capacity. What does not fit is not written at all
 * (an append is whole or nothing) and sets `overflow`, which stays set until buf_reset(): build a
 * text with many appends, then ask once.
 */
#ifndef CORE_BASE_BUF_H
#define CORE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "core/base/span.h"

struct buf {
	uint8_t *data;
	size_t size;     /* bytes in use */
	size_t capacity; /* bytes available */
	bool overflow;   /* an append did not fit */
};

static inline struct buf
buf_of(void *memory, size_t capacity)
{
	return (struct buf){ .data = memory, .capacity = capacity };
}

static inline struct span
buf_span(const struct buf *b)
{
	return span_of(b->data, b->size);
}

static inline size_t
buf_room(const struct buf *b)
{
	return b->capacity - b->size;
}

static inline void
buf_reset(struct buf *b)
{
	b->size = 0;
	b->overflow = false;
}

/* Appends: false, with overflow set and nothing written, where it does not fit. Inline, so that
 * what is short and known to the compiler (a literal, a number of fixed width) is a store. */
static inline bool
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

static inline bool
buf_append_byte(struct buf *b, uint8_t c)
{
	return buf_append(b, span_of(&c, 1));
}

static inline bool
buf_append_string(struct buf *b, const char *text)
{
	return buf_append(b, span_of_string(text));
}

/* In decimal. */
bool buf_append_number(struct buf *b, uint64_t number);
/* Its last `digits` decimal digits, with zeros in front; at most 20. */
bool buf_append_digits(struct buf *b, uint64_t number, unsigned digits);
/* For what is rare or odd: an order of magnitude slower than the others. */
bool buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends as the inside of a JSON string: quotes, backslashes and controls escaped, invalid UTF-8
 * replaced by U+FFFD. Truncates at a character boundary after size_max input bytes. */
bool buf_append_json(struct buf *b, struct span s, size_t size_max);
/* Drops the first n bytes (n <= size) and moves the rest to the front. */
void buf_consume(struct buf *b, size_t n);

#endif
