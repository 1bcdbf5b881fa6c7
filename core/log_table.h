/* SPDX-License-Identifier: Apache-2.0
 *
 * log_table: the rows of events.def as data, and the form in which an event lies in a ring. Inside
 * of log*.c only.
 *
 * A record is a header and the values of the event's fields in their order: NUMBER, SECONDS and
 * TIME as 8 bytes, FLAG as 1, TEXT as 2 bytes of length (LOG_TEXT_NONE: left out) and the bytes.
 * Records start at multiples of 8.
 */
#ifndef CORE_LOG_TABLE_H
#define CORE_LOG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/log.h"

enum event_kind { EVENT_TEXT, EVENT_NUMBER, EVENT_SECONDS, EVENT_TIME, EVENT_FLAG };
enum event_class { EVENT_OUTCOME, EVENT_DIAGNOSTIC };

struct event_field {
	const char *name;
	struct span key; /* ,"name": */
	const char *doc;
	size_t offset;
	enum event_kind kind;
};

struct event_row {
	const char *name;
	struct span head; /* what stands between the time and the fields */
	const char *doc;
	const struct event_field *fields;
	size_t count;
	enum event_class class;
	enum config_level level;
};

struct log_record {
	uint32_t size; /* with this header, rounded up to 8 */
	uint16_t event;
	uint16_t unused;
	uint64_t wall_ms;
};

#define LOG_TEXT_NONE UINT16_MAX

extern const struct event_row event_rows[LOG_EVENTS];

/* Bytes of the record that log_encode() makes. */
size_t log_record_size(enum log_event event, const void *fields);
/* `out` has log_record_size() bytes and is aligned to 8. */
void log_encode(enum log_event event, const void *fields, uint64_t wall_ms, size_t size,
		uint8_t *out);
/* Appends the line of one record; the room must be LOG_LINE_MAX. */
void log_decode(const uint8_t *record, struct buf *out);

#endif
