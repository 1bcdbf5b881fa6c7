/* SPDX-License-Identifier: Apache-2.0
 *
 * From an event to a record, from a record to its line, and the page of events. Pure.
 */
#include "core/log_table.h"

#include <time.h>

#include "core/base/assert.h"

#define NAME_ERROR   "error"
#define NAME_WARNING "warning"
#define NAME_INFO    "info"
#define NAME_DEBUG   "debug"

/* clang-format off */
#define EVENT(name, class, level, doc)  static const struct event_field fields_##name[] = {
#define FIELD(event, kind_, name_, doc_)        { .name = #name_, .doc = doc_, \
		.key = SPAN(",\"" #name_ "\":"), \
		.offset = offsetof(struct event_##event, name_), .kind = EVENT_##kind_ },
#define EVENT_END(name)                 };
#include "core/tables/events.def"
#undef EVENT
#undef FIELD
#undef EVENT_END

const struct event_row event_rows[LOG_EVENTS] = {
#define EVENT(name_, class_, level_, doc_)      { .name = #name_, .doc = doc_, \
		.head = SPAN("\",\"level\":\"" NAME_##level_ "\",\"event\":\"" #name_ "\""), \
		.fields = fields_##name_, \
		.count = sizeof fields_##name_ / sizeof fields_##name_[0], \
		.class = EVENT_##class_, .level = LEVEL_##level_ },
#define FIELD(event, kind, name, doc)
#define EVENT_END(name)
#include "core/tables/events.def"
#undef EVENT
#undef FIELD
#undef EVENT_END
};
/* clang-format on */

static const char *const level_names[] = {
	[LEVEL_ERROR] = NAME_ERROR,
	[LEVEL_WARNING] = NAME_WARNING,
	[LEVEL_INFO] = NAME_INFO,
	[LEVEL_DEBUG] = NAME_DEBUG,
};

static struct span
text_of(const struct event_field *field, const void *fields)
{
	struct span text;

	memcpy(&text, (const char *)fields + field->offset, sizeof text);
	return span_first(text, LOG_TEXT_MAX);
}

size_t
log_record_size(enum log_event event, const void *fields)
{
	const struct event_row *row = &event_rows[event];
	size_t size = sizeof(struct log_record);

	for (size_t i = 0; i < row->count; i++) {
		const struct event_field *field = &row->fields[i];
		if (field->kind == EVENT_TEXT)
			size += sizeof(uint16_t) + text_of(field, fields).size;
		else
			size += field->kind == EVENT_FLAG ? 1 : sizeof(uint64_t);
	}
	return (size + 7) & ~(size_t)7;
}

void
log_encode(enum log_event event, const void *fields, uint64_t wall_ms, size_t size, uint8_t *out)
{
	const struct event_row *row = &event_rows[event];
	struct log_record header = { .size = (uint32_t)size,
				     .event = (uint16_t)event,
				     .wall_ms = wall_ms };
	uint8_t *at = out + sizeof header;

	memcpy(out, &header, sizeof header);
	for (size_t i = 0; i < row->count; i++) {
		const struct event_field *field = &row->fields[i];
		const char *value = (const char *)fields + field->offset;
		if (field->kind == EVENT_TEXT) {
			struct span text = text_of(field, fields);
			uint16_t length = text.data == NULL ? LOG_TEXT_NONE : (uint16_t)text.size;
			memcpy(at, &length, sizeof length);
			at += sizeof length;
			if (text.size > 0)
				memcpy(at, text.data, text.size);
			at += text.size;
		} else {
			size_t width = field->kind == EVENT_FLAG ? 1 : sizeof(uint64_t);
			memcpy(at, value, width);
			at += width;
		}
	}
	ASSERT(at <= out + size);
}

/* 2024-01-02T03:04:05.678Z */
static void
show_time(uint64_t wall_ms, struct buf *out)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (gmtime_r(&seconds, &tm) == NULL)
		tm = (struct tm){ .tm_mday = 1, .tm_year = 70 };
	buf_append_digits(out, (uint64_t)(tm.tm_year + 1900), 4);
	buf_append_byte(out, '-');
	buf_append_digits(out, (uint64_t)(tm.tm_mon + 1), 2);
	buf_append_byte(out, '-');
	buf_append_digits(out, (uint64_t)tm.tm_mday, 2);
	buf_append_byte(out, 'T');
	buf_append_digits(out, (uint64_t)tm.tm_hour, 2);
	buf_append_byte(out, ':');
	buf_append_digits(out, (uint64_t)tm.tm_min, 2);
	buf_append_byte(out, ':');
	buf_append_digits(out, (uint64_t)tm.tm_sec, 2);
	buf_append_byte(out, '.');
	buf_append_digits(out, wall_ms % 1000, 3);
	buf_append_byte(out, 'Z');
}

static void
show_number(const struct event_field *field, uint64_t number, struct buf *out)
{
	if (field->kind == EVENT_TIME && number == 0)
		return;
	buf_append(out, field->key);
	if (field->kind == EVENT_SECONDS) {
		buf_append_number(out, number / 1000);
		buf_append_byte(out, '.');
		buf_append_digits(out, number % 1000, 3);
	} else if (field->kind == EVENT_TIME) {
		buf_append_byte(out, '"');
		show_time(number, out);
		buf_append_byte(out, '"');
	} else {
		buf_append_number(out, number);
	}
}

void
log_decode(const uint8_t *record, struct buf *out)
{
	struct log_record header;
	const uint8_t *at = record + sizeof header;

	memcpy(&header, record, sizeof header);
	ASSERT(header.event < LOG_EVENTS);
	const struct event_row *row = &event_rows[header.event];
	buf_append(out, SPAN("{\"time\":\""));
	show_time(header.wall_ms, out);
	buf_append(out, row->head);
	for (size_t i = 0; i < row->count; i++) {
		const struct event_field *field = &row->fields[i];
		uint64_t number;
		uint16_t length;
		if (field->kind == EVENT_FLAG) {
			buf_append(out, field->key);
			buf_append(out, *at != 0 ? SPAN("true") : SPAN("false"));
			at++;
		} else if (field->kind != EVENT_TEXT) {
			memcpy(&number, at, sizeof number);
			at += sizeof number;
			show_number(field, number, out);
		} else {
			memcpy(&length, at, sizeof length);
			at += sizeof length;
			if (length == LOG_TEXT_NONE)
				continue;
			buf_append(out, field->key);
			buf_append_byte(out, '"');
			buf_append_json(out, span_of(at, length), SIZE_MAX);
			buf_append_byte(out, '"');
			at += length;
		}
	}
	buf_append(out, SPAN("}\n"));
	ASSERT(at <= record + header.size);
}

bool
event_doc(struct buf *out)
{
	static const char *const kinds[] = { "text", "number", "seconds", "time", "true or false" };

	buf_append_string(out, "# Events\n"
			       "\n"
			       "The log is lines of JSON: `time` (RFC 3339, UTC), `level`, "
			       "`event`, and the event's\n"
			       "fields in the order of this page, which is printed by `ringpostd "
			       "--doc events`. A text\n"
			       "that is not known is left out; texts are cut at 1024 bytes. "
			       "Outcome events are never\n"
			       "dropped and do not depend on `log.level`: a worker whose log "
			       "buffer is three quarters\n"
			       "full answers 451 until it is written. Diagnostics are dropped when "
			       "the buffer is half\n"
			       "full, and counted (`ringpost_log_dropped_total`).\n");
	for (size_t i = 0; i < LOG_EVENTS; i++) {
		const struct event_row *row = &event_rows[i];
		buf_printf(out, "\n## `%s`\n\n%s\n\n%s, level %s.\n\n", row->name, row->doc,
			   row->class == EVENT_OUTCOME ? "Outcome" : "Diagnostic",
			   level_names[row->level]);
		for (size_t j = 0; j < row->count; j++)
			buf_printf(out, "- `%s` (%s): %s\n", row->fields[j].name,
				   kinds[row->fields[j].kind], row->fields[j].doc);
	}
	return !out->overflow;
}
