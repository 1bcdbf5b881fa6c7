/* SPDX-License-Identifier: Apache-2.0
 *
 * quoted: texts of others in header fields, as quoted strings and comments (RFC 5322 3.2.2, 3.2.4),
 * out of which nothing can break. PURE.
 *
 * Controls become '?', and so do bytes beyond ASCII, but for well-formed ones where `utf8` allows
 * them. A text is cut, at the end of a character, to the size that the caller can have on a line;
 * what is appended is up to twice as long, and two bytes.
 */
#ifndef RELAY_MESSAGE_QUOTED_H
#define RELAY_MESSAGE_QUOTED_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/span.h"

/* "text" */
void quoted_string(struct buf *out, struct span text, size_t most, bool utf8);
/* (text) */
void quoted_comment(struct buf *out, struct span text, size_t most, bool utf8);
/* The first bytes of it, whole characters. */
struct span quoted_cut(struct span text, size_t most);

#endif
