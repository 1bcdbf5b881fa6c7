/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_text: bytes that grow, for the modelled Redis: a text in the process's memory, to which
 * replies are appended in RESP2, and a blob in the world's, which outlives an incarnation.
 *
 * Nothing in the world may point to a text.
 */
#ifndef TESTS_FAULT_SIM_TEXT_H
#define TESTS_FAULT_SIM_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"

/* ---- a text that grows ---- */

struct text {
	uint8_t *data;
	size_t size, places;
};

void text_fini(struct text *t);
void text_append(struct text *t, const void *data, size_t size);
void text_status(struct text *t, const char *status);
void text_error(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_number(struct text *t, int64_t n);
void text_bulk(struct text *t, struct span s);
void text_nothing(struct text *t);
void text_array(struct text *t, size_t count); /* count elements follow */

/* ---- bytes in the world's memory, which may be large and are given back ---- */

struct blob {
	uint8_t *data;
	size_t size, places;
};

/* Memory of world_places(size) bytes, which is used again once it is given back. */
size_t world_places(size_t size);
void *world_take(size_t places);
void world_give(void *memory, size_t places);

void blob_append(struct blob *b, struct span s);
void blob_set(struct blob *b, struct span s);
void blob_fini(struct blob *b);
static inline struct span
blob_span(const struct blob *b)
{
	return span_of(b->data, b->size);
}

#endif
