/* SPDX-License-Identifier: Apache-2.0
 *
 * line: command lines cut out of the input, and the words in them.
 *
 * PURE. A line ends at its first LF and is good where exactly one CR stands, right in front of
 * that, and no NUL anywhere (RFC 5321 2.3.8). Lines point into the input. Lengths count the CRLF.
 */
#ifndef RELAY_SMTP_LINE_H
#define RELAY_SMTP_LINE_H

#include <stddef.h>

#include "core/base/span.h"

enum line_kind {
	LINE_PARTIAL,  /* no LF yet, and room for one; nothing is consumed */
	LINE_GOOD,     /* text: without its CRLF and without blanks at its end (RFC 5321 4.1.1) */
	LINE_BARE_LF,  /* good but for the CR that is missing in front of the LF; text as above */
	LINE_BAD,      /* has a NUL or another CR */
	LINE_TOO_LONG, /* no LF in the first size_max bytes, which are consumed; the rest is to skip
			*/
};

/* Consumes one line. */
size_t line_next(struct span in, size_t size_max, enum line_kind *kind, struct span *text);
/* Cuts the first word off *rest, which loses the blanks behind it too. */
struct span line_word(struct span *rest);

#endif
