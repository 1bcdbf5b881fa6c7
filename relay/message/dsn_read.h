/* SPDX-License-Identifier: Apache-2.0
 *
 * dsn_read: reads a delivery status notification (RFC 3464, 6533) back, field by field.
 *
 * Pure. dsn_read_feed() consumes a prefix of a whole message up to the next field of its delivery
 * status; nothing depends on how the bytes were cut. Group 0 has the fields about the message,
 * groups 1 and up those of a recipient each. Fields come unfolded (each fold is one blank) and are
 * cut at DSN_FIELD_MAX bytes. What is no multipart/report has none; of a multipart/report the first
 * delivery status counts, and only one that stands directly in it.
 *
 * The message may hold anything: what is read is bytes, and who shows them makes them safe.
 */
#ifndef RELAY_MESSAGE_DSN_READ_H
#define RELAY_MESSAGE_DSN_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum { DSN_FIELD_MAX = 2048, DSN_READ_BOUNDARY_MAX = 70 };

enum dsn_read_event {
	DSN_READ_MORE,  /* all input is consumed */
	DSN_READ_FIELD, /* dsn_read_name() and dsn_read_value(), until the next call */
	DSN_READ_END,   /* nothing more will come; again on every further call */
};

struct dsn_reader {
	uint8_t state;     /* enum in dsn_read.c */
	bool is_report;    /* the message is a multipart/report */
	bool is_status;    /* the part in hand is a delivery status */
	bool has_field;    /* `field` holds one that was not told yet */
	bool group_open;   /* the group in hand has a field */
	uint32_t group;    /* of the field that was told */
	size_t line_size;  /* of `line` */
	size_t field_size; /* of `field` */
	size_t told_size;  /* of `told` */
	uint8_t boundary_size;
	uint8_t boundary[DSN_READ_BOUNDARY_MAX];
	uint8_t line[DSN_FIELD_MAX]; /* the one that is arriving */
	uint8_t field[DSN_FIELD_MAX];
	uint8_t told[DSN_FIELD_MAX];
};

void dsn_read_init(struct dsn_reader *r);
size_t dsn_read_feed(struct dsn_reader *r, struct span in, enum dsn_read_event *event);
/* The message has ended. Call until DSN_READ_END. */
void dsn_read_finish(struct dsn_reader *r, enum dsn_read_event *event);

struct span dsn_read_name(const struct dsn_reader *r);
struct span dsn_read_value(const struct dsn_reader *r);
/* "rfc822; a@b" is a type and what it says, both without blanks around; false: no ';'. */
bool dsn_read_typed(struct span value, struct span *type, struct span *rest);

#endif
