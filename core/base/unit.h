/* SPDX-License-Identifier: Apache-2.0
 *
 * unit: sizes ("64MiB", "512B") and durations ("30s", "5m", "250ms") as people write them.
 *
 * A whole number and a unit, without a blank between them. What is printed parses to the same
 * value, in the largest unit that divides it. PURE.
 */
#ifndef CORE_BASE_UNIT_H
#define CORE_BASE_UNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

/* False where it does not parse or is beyond 64 bits. */
bool size_parse(struct span text, uint64_t *out);
bool duration_parse(struct span text, uint64_t *out_ms);
void size_print(uint64_t size, struct buf *out);
void duration_print(uint64_t duration_ms, struct buf *out);

#endif
