/* SPDX-License-Identifier: Apache-2.0
 *
 * command: what one command line says to the sink. PURE, and lenient: a line may end in a bare LF,
 * words may be in any case, a path may lack its brackets and is not looked into.
 *
 * Of parameters only the keyword counts: each belongs to an extension (RFC 1870, 3461, 6152, 6531)
 * and is refused where that was not offered, so that a client that uses it all the same shows.
 */
#ifndef BENCH_COMMAND_H
#define BENCH_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/span.h"

/* The four letters of a verb in lower case, in one word. */
#define COMMAND_WORD(a, b, c, d) \
	((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

/* The verb at the start of a line without its end, and what follows it without spaces around. 0:
 * no word of four letters. */
uint32_t command_verb(struct span line, struct span *argument);

/* "FROM:<path> parameters", prefix being "FROM:" or "TO:". The path without its brackets, and the
 * parameters. */
bool command_path(struct span argument, struct span prefix, struct span *path,
		  struct span *parameters);

/* Are all parameters of the given ones of `offered` (SERVER_OFFER_… bits)? */
bool command_mail_parameters(struct span parameters, uint32_t offered);
bool command_rcpt_parameters(struct span parameters, uint32_t offered);

/* "SIZE" or "SIZE LAST" (RFC 3030 2). */
bool command_chunk(struct span argument, uint64_t *size, bool *last);

/* K of a recipient rK.…; SERVER_NO_NUMBER where it is written otherwise. */
uint32_t command_recipient_number(struct span path);

#endif
