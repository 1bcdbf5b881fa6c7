/* SPDX-License-Identifier: Apache-2.0
 *
 * dsn_text: the words of a report for people: templates, and writing what others chose safely.
 *
 * Pure. A template is a text of an operator or one that is built in: a first line `Subject: ...`,
 * an empty line, and the body. `${name}` stands for a value; `${recipients}` stands alone on a line
 * of the body, which becomes one block for each recipient. A `$` without a brace is a `$`. It is
 * UTF-8; lines may end in LF or CRLF and are at most DSN_TEMPLATE_LINE_MAX bytes long.
 *
 * Text of others (replies, addresses) may hold anything. What is written of it is well-formed
 * UTF-8, or ASCII where asked for, with '?' for what is not and blanks for controls. So it cannot
 * end a line, begin a header field, or be a boundary; wrapped lines are at most 998 bytes.
 */
#ifndef RELAY_MESSAGE_DSN_TEXT_H
#define RELAY_MESSAGE_DSN_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	DSN_TEMPLATE_LINE_MAX = 500,
	DSN_TEMPLATE_SIZE_MAX = 64 * 1024,
	DSN_LINE_EXPANDED_MAX = 3072, /* bytes of a template's line with its values */
	DSN_LINE_WIDTH = 76,
};

/* The values that a template may name. */
enum dsn_value {
	DSN_VALUE_HOSTNAME,
	DSN_VALUE_SENDER,
	DSN_VALUE_COUNT, /* recipients with the action in hand */
	DSN_VALUE_ARRIVAL_DATE,
	DSN_VALUE_RETRY_UNTIL,
	DSN_VALUE_QUEUE_ID,
	DSN_VALUE_MESSAGE_ID,
	DSN_VALUE_ENVELOPE_ID,
	DSN_VALUE_RETURNED, /* a sentence on what of the message is attached */
	DSN_VALUES,
	DSN_VALUE_RECIPIENTS = DSN_VALUES,
};

/* A template that has been checked; spans into its text. */
struct dsn_template {
	struct span subject;
	struct span body;
};

/* False with the line (from 1) and the reason, "message; remedy", where it is none. */
bool dsn_template_parse(struct span text, struct dsn_template *out, size_t *line, struct buf *why);
/* The next line of a body at *at, without its end; false at the end of the body. */
bool dsn_template_line(struct span body, size_t *at, struct span *line);
/* Is it the line of ${recipients}? */
bool dsn_template_is_list(struct span line);
/* Appends a line with the values, which are made safe. A value that does not fit is left out. */
void dsn_template_expand(struct buf *out, struct span line, const struct span values[DSN_VALUES]);

enum dsn_clean {
	DSN_CLEAN_UTF8,
	DSN_CLEAN_ASCII,
	DSN_CLEAN_LINES, /* UTF-8; a LF stays one */
};
/* Appends at most `most` bytes of text, made safe; never half a character. */
void dsn_clean(struct buf *out, struct span text, size_t most, enum dsn_clean how);
/* Appends clean text that begins at `column`, broken at blanks into lines of DSN_LINE_WIDTH, each
 * further one behind `indent`. A LF in it begins a line, too. No line end at the end. */
void dsn_wrap(struct buf *out, struct span text, size_t column, const char *indent);
/* Appends clean text as the value of an unstructured field that begins at `column`: as it is, or
 * where it is not ASCII as encoded words (RFC 2047). */
void dsn_header_text(struct buf *out, struct span text, size_t column);

#endif
