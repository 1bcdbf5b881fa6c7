/* SPDX-License-Identifier: Apache-2.0
 *
 * utf8: well-formed UTF-8 as RFC 3629 defines it (no overlong forms, no surrogates, nothing above
 * U+10FFFF). Used for SMTPUTF8 (RFC 6531) and for log texts.
 */
#ifndef CORE_BASE_UTF8_H
#define CORE_BASE_UTF8_H

#include "core/base/span.h"

/* Bytes of the character at the start of s (1 to 4); 0 where it is not well formed or cut. */
size_t utf8_length(struct span s);
/* Is all of s well formed? True for the empty span. */
bool utf8_is_valid(struct span s);
/* Is there a byte outside ASCII? */
bool utf8_has_non_ascii(struct span s);

#endif
