/* SPDX-License-Identifier: Apache-2.0
 *
 * xtext: the encoding of ENVID and ORCPT (RFC 3461 4).
 *
 * Printable ASCII without '+' and '=' stands for itself, every other byte is '+' and two digits of
 * upper-case hexadecimal. What comes out of decoding is bytes, controls included: whoever writes
 * them into a message makes them safe first.
 */
#ifndef CORE_BASE_XTEXT_H
#define CORE_BASE_XTEXT_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/span.h"

bool xtext_is_valid(struct span s);
/* Appends the decoded bytes. False where s is no xtext or out is too small. */
bool xtext_decode(struct span s, struct buf *out);

#endif
