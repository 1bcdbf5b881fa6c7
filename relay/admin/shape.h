/* SPDX-License-Identifier: Apache-2.0
 *
 * shape: the objects in answers of the admin socket, one struct each, made from the rows of
 * core/tables/admin_shapes.def. What the daemon writes (shape_write) and what ringpostctl shows
 * comes from the same rows, so the two cannot differ.
 *
 *   struct admin_limit limit = { .limit = SPAN("recipients"), .hits = 3 };
 *   shape_write(out, ADMIN_SHAPE_limit, &limit);      {"limit":"recipients","hits":3}
 *
 * PURE. A text may hold any bytes: what is no UTF-8 becomes U+FFFD, and it is cut at
 * SHAPE_TEXT_MAX.
 */
#ifndef RELAY_ADMIN_SHAPE_H
#define RELAY_ADMIN_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	SHAPE_TEXT_MAX = 1024,
	/* No object is longer: six bytes for each of a text at most, and few have two long ones. */
	SHAPE_WRITTEN_MAX = 32 * 1024,
};

/* clang-format off */
#define KIND_TEXT    struct span
#define KIND_NUMBER  uint64_t
#define KIND_BYTES   uint64_t
#define KIND_FLAG    bool
#define KIND_TIME    uint64_t /* milliseconds since 1970; 0: left out */
#define KIND_SECONDS uint64_t /* milliseconds */
#define KIND_RATE    uint64_t /* thousandths a second */
#define SHAPE(name, doc)                    struct admin_##name {
#define MEMBER(shape, kind, name, doc)              KIND_##kind name;
#define SHAPE_END(name)                     };
#include "core/tables/admin_shapes.def"
#undef SHAPE
#undef MEMBER
#undef SHAPE_END
#undef KIND_TEXT
#undef KIND_NUMBER
#undef KIND_BYTES
#undef KIND_FLAG
#undef KIND_TIME
#undef KIND_SECONDS
#undef KIND_RATE

enum admin_shape {
#define SHAPE(name, doc) ADMIN_SHAPE_##name,
#define MEMBER(shape, kind, name, doc)
#define SHAPE_END(name)
#include "core/tables/admin_shapes.def"
#undef SHAPE
#undef MEMBER
#undef SHAPE_END
	ADMIN_SHAPES
};
/* clang-format on */

enum shape_kind {
	SHAPE_TEXT,
	SHAPE_NUMBER,
	SHAPE_BYTES,
	SHAPE_FLAG,
	SHAPE_TIME,
	SHAPE_SECONDS,
	SHAPE_RATE,
	SHAPE_KINDS
};

struct shape_member {
	const char *name;
	const char *doc;
	enum shape_kind kind;
	size_t offset;
};

struct shape {
	const char *name;
	const char *doc;
	const struct shape_member *members;
	size_t count;
};

const struct shape *shape_of(enum admin_shape s);
/* What a value of this kind is in JSON, for the reference page. */
const char *shape_kind_text(enum shape_kind kind);
/* Appends the object without its closing brace, so that lists can follow; `values` is the struct of
 * that shape. The buffer's overflow says where it did not fit. */
void shape_write_open(struct buf *out, enum admin_shape s, const void *values);
/* The whole object. */
void shape_write(struct buf *out, enum admin_shape s, const void *values);
/* Milliseconds since 1970 as "2024-01-02T03:04:05.678Z", and back; false where it is none. */
void shape_write_time(struct buf *out, uint64_t wall_ms);
bool shape_read_time(struct span text, uint64_t *wall_ms);

#endif
