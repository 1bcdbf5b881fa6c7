/* SPDX-License-Identifier: Apache-2.0
 *
 * id: the text of a mail's 128-bit id: 26 digits of Crockford's base 32 in lower case.
 *
 * The alphabet (0-9, a-z without i, l, o, u) is safe in file names, URLs, shells and RFC 5321
 * atoms, survives being read out aloud, and sorts as the number does. Reading takes either case.
 */
#ifndef CORE_BASE_ID_H
#define CORE_BASE_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum { ID_TEXT_SIZE = 26 };

bool id_write(struct buf *out, uint64_t high, uint64_t low);
/* False where it is not exactly such a text. */
bool id_read(struct span text, uint64_t *high, uint64_t *low);

#endif
