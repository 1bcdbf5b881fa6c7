/* SPDX-License-Identifier: Apache-2.0
 *
 * base64: RFC 4648 section 4, as SASL and verifiers of passwords use it.
 *
 * Strict: padding is written and wanted, the bits behind the last byte are zero, and nothing else
 * may stand in it, no blank and no line break. So one text stands for one sequence of bytes.
 */
#ifndef CORE_BASE_BASE64_H
#define CORE_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/buf.h"
#include "core/base/span.h"

/* Bytes of the text of n bytes, and the most bytes that a text of n stands for. */
#define BASE64_ENCODED(n) (((n) + 2) / 3 * 4)
#define BASE64_DECODED(n) ((n) / 4 * 3)

/* Appends the text; false where it does not fit. */
bool base64_encode(struct span s, struct buf *out);
/* Appends the bytes. False where s is no base64 or out is too small; what was appended until then
 * stays. */
bool base64_decode(struct span s, struct buf *out);

#endif
