/* SPDX-License-Identifier: Apache-2.0
 *
 * recipient_table: the recipients of one file, in memory.
 *
 * The file has one recipient a line: an address, or a local part alone, which counts in every
 * domain that the file is used for. Blanks around it, empty lines, and what follows a `#` at the
 * start of a line or behind a blank are left out; a line may end in CRLF, and the file may begin
 * with a byte order mark. The syntax is that of RCPT (address.h), quoted local parts included; what
 * counts is what the quotes mean. ASCII case is ignored on both sides, since mailboxes that differ
 * in nothing else are not used, and a wrong 550 loses mail. `@domain` is refused: it would take
 * mail for all.
 *
 * Immutable once made, counted atomically, and read by all workers. All keys and the hash table
 * over them are one block: 6 to 10 bytes a recipient besides its text. No clock, no I/O.
 */
#ifndef RELAY_FLOW_RECIPIENT_TABLE_H
#define RELAY_FLOW_RECIPIENT_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/base/buf.h"
#include "relay/smtp/address.h"

enum {
	RECIPIENT_LINE_MAX = 1024,    /* bytes of a line */
	RECIPIENT_FILE_MAX = 1 << 29, /* bytes of a file */
};

struct recipient_table {
	atomic_uint references;
	size_t count; /* recipients that differ */
	size_t bytes; /* of the block */
	size_t mask;
	uint32_t *slots; /* where in `keys` one begins, plus 1; 0 is empty */
	uint8_t *keys;   /* size in two bytes, then "local@domain", or "local@" */
};

/* Of the text of a file, at most RECIPIENT_FILE_MAX bytes, with a reference for the caller. NULL
 * with `name:line: message; remedy` in `why`. */
struct recipient_table *recipient_table_parse(struct span name, struct span text, struct buf *why);
struct recipient_table *recipient_table_get(struct recipient_table *t);
void recipient_table_put(struct recipient_table *t);
/* Is it there, or is what stands before the first of the delimiters in its local part? */
bool recipient_table_has(const struct recipient_table *t, const struct address *a,
			 struct span delimiters);

#endif
