/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/dsn_read.h"

#include "core/base/assert.h"

enum state {
	STATE_HEADER,  /* in the header of the message */
	STATE_BETWEEN, /* in a preamble, or in a part of no interest */
	STATE_PART,    /* in the header of a part */
	STATE_STATUS,  /* in the delivery status */
	STATE_END,
};

void
dsn_read_init(struct dsn_reader *r)
{
	*r = (struct dsn_reader){ .state = STATE_HEADER };
}

static struct span
line_of(const struct dsn_reader *r)
{
	struct span s = span_of(r->line, r->line_size);

	if (s.size > 0 && s.data[s.size - 1] == '\r')
		s.size--;
	return s;
}

/* ---- Content-Type ---- */

static struct span
after_blanks(struct span s)
{
	while (s.size > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
		s = span_after(s, 1);
	return s;
}

/* The next "; name=value" of *rest; quotes are taken off, escapes are not known in boundaries. */
static bool
next_parameter(struct span *rest, struct span *name, struct span *value)
{
	size_t at = span_find(*rest, ';', 0);
	struct span s = after_blanks(span_after(*rest, at + 1));
	size_t equals = span_find(s, '=', 0);

	if (at == rest->size || equals == s.size)
		return false;
	*name = span_trim(span_first(s, equals));
	s = after_blanks(span_after(s, equals + 1));
	if (s.size > 0 && s.data[0] == '"') {
		s = span_after(s, 1);
		*value = span_first(s, span_find(s, '"', 0));
		*rest = span_after(s, value->size + 1);
	} else {
		*value = span_trim(span_first(s, span_find(s, ';', 0)));
		*rest = span_after(s, span_find(s, ';', 0));
	}
	return true;
}

static void
look_at_outer_type(struct dsn_reader *r, struct span value)
{
	struct span type = span_trim(span_first(value, span_find(value, ';', 0)));
	struct span name, boundary;

	if (!span_eq_nocase(type, SPAN("multipart/report")))
		return;
	while (next_parameter(&value, &name, &boundary)) {
		if (!span_eq_nocase(name, SPAN("boundary")) || boundary.size == 0 ||
		    boundary.size > sizeof r->boundary)
			continue;
		memcpy(r->boundary, boundary.data, boundary.size);
		r->boundary_size = (uint8_t)boundary.size;
		r->is_report = true;
		return;
	}
}

static void
look_at_part_type(struct dsn_reader *r, struct span value)
{
	struct span type = span_trim(span_first(value, span_find(value, ';', 0)));

	r->is_status = span_eq_nocase(type, SPAN("message/delivery-status")) ||
		       span_eq_nocase(type, SPAN("message/global-delivery-status"));
}

/* ---- fields ---- */

/* Name and value of "Name: value". False: it is no field. */
static bool
split_field(struct span field, struct span *name, struct span *value)
{
	size_t colon = span_find(field, ':', 0);

	if (colon == field.size || colon == 0)
		return false;
	*name = span_trim(span_first(field, colon));
	*value = span_trim(span_after(field, colon + 1));
	for (size_t i = 0; i < name->size; i++) {
		if (name->data[i] <= ' ' || name->data[i] >= 0x7f)
			return false;
	}
	return name->size > 0;
}

/* The collected field is whole. True: it is one to tell. */
static bool
close_field(struct dsn_reader *r)
{
	struct span name, value;
	bool had = r->has_field;

	r->has_field = false;
	if (!had || !split_field(span_of(r->field, r->field_size), &name, &value))
		return false;
	if (r->state == STATE_STATUS) {
		memcpy(r->told, r->field, r->field_size);
		r->told_size = r->field_size;
		r->group_open = true;
		return true;
	}
	if (span_eq_nocase(name, SPAN("Content-Type"))) {
		if (r->state == STATE_HEADER)
			look_at_outer_type(r, value);
		else
			look_at_part_type(r, value);
	}
	return false;
}

static void
begin_field(struct dsn_reader *r, struct span line)
{
	memcpy(r->field, line.data, line.size);
	r->field_size = line.size;
	r->has_field = true;
}

static void
continue_field(struct dsn_reader *r, struct span line)
{
	struct buf field = buf_of(r->field, sizeof r->field);

	if (!r->has_field)
		return;
	field.size = r->field_size;
	line = span_trim(line);
	if (buf_room(&field) > 0)
		buf_append_byte(&field, ' ');
	buf_append(&field, span_first(line, buf_room(&field)));
	r->field_size = field.size;
}

/* ---- lines ---- */

enum delimiter { DELIMITER_NONE, DELIMITER_NEXT, DELIMITER_LAST };

static enum delimiter
delimiter_of(const struct dsn_reader *r, struct span line)
{
	if (!r->is_report || !span_starts_with(line, SPAN("--")))
		return DELIMITER_NONE;
	line = span_after(line, 2);
	if (!span_starts_with(line, span_of(r->boundary, r->boundary_size)))
		return DELIMITER_NONE;
	line = span_after(line, r->boundary_size);
	if (span_trim(line).size == 0)
		return DELIMITER_NEXT;
	return span_starts_with(line, SPAN("--")) ? DELIMITER_LAST : DELIMITER_NONE;
}

/* A line that ends what was before it; close_field() has been called. */
static void
take_delimiter(struct dsn_reader *r, enum delimiter kind)
{
	/* Only the first delivery status counts. */
	if (kind == DELIMITER_LAST || r->state == STATE_STATUS) {
		r->state = STATE_END;
		return;
	}
	r->state = STATE_PART;
	r->is_status = false;
}

static void
take_empty_line(struct dsn_reader *r)
{
	switch ((enum state)r->state) {
	case STATE_HEADER:
		r->state = r->is_report ? STATE_BETWEEN : STATE_END;
		return;
	case STATE_PART:
		r->state = r->is_status ? STATE_STATUS : STATE_BETWEEN;
		return;
	case STATE_STATUS:
		r->group += r->group_open;
		r->group_open = false;
		return;
	case STATE_BETWEEN:
	case STATE_END:
		return;
	}
}

/* The line in hand is whole. True: a field came to its end before it, and the line waits. */
static bool
take_line(struct dsn_reader *r)
{
	struct span line = line_of(r);
	enum delimiter kind = delimiter_of(r, line);
	bool continues = line.size > 0 && (line.data[0] == ' ' || line.data[0] == '\t');

	if (r->state == STATE_BETWEEN && kind == DELIMITER_NONE)
		return false;
	if (continues) {
		continue_field(r, line);
		return false;
	}
	if (close_field(r))
		return true;
	if (kind != DELIMITER_NONE && r->state != STATE_HEADER)
		take_delimiter(r, kind);
	else if (line.size == 0)
		take_empty_line(r);
	else
		begin_field(r, line);
	return false;
}

static void
keep_line(struct dsn_reader *r, struct span s)
{
	size_t room = sizeof r->line - r->line_size;

	s = span_first(s, room);
	memcpy(r->line + r->line_size, s.data, s.size);
	r->line_size += s.size;
}

size_t
dsn_read_feed(struct dsn_reader *r, struct span in, enum dsn_read_event *event)
{
	size_t used = 0;

	*event = DSN_READ_MORE;
	while (used < in.size && r->state != STATE_END) {
		size_t end = span_find(in, '\n', used);
		if (end > used)
			keep_line(r, span_of(in.data + used, end - used));
		if (end == in.size)
			return in.size;
		used = end;
		if (take_line(r)) {
			/* The line end is left for the next call, which takes the line again. */
			*event = DSN_READ_FIELD;
			return used;
		}
		r->line_size = 0;
		used++;
	}
	if (r->state == STATE_END)
		*event = DSN_READ_END;
	return used;
}

void
dsn_read_finish(struct dsn_reader *r, enum dsn_read_event *event)
{
	*event = DSN_READ_FIELD;
	if (r->state != STATE_END && r->line_size > 0) {
		if (take_line(r))
			return;
		r->line_size = 0;
	}
	if (r->state != STATE_END && close_field(r))
		return;
	r->state = STATE_END;
	*event = DSN_READ_END;
}

struct span
dsn_read_name(const struct dsn_reader *r)
{
	struct span name, value;
	bool is_field = split_field(span_of(r->told, r->told_size), &name, &value);

	ASSERT(is_field);
	return name;
}

struct span
dsn_read_value(const struct dsn_reader *r)
{
	struct span name, value;
	bool is_field = split_field(span_of(r->told, r->told_size), &name, &value);

	ASSERT(is_field);
	return value;
}

bool
dsn_read_typed(struct span value, struct span *type, struct span *rest)
{
	size_t at = span_find(value, ';', 0);

	if (at == value.size)
		return false;
	*type = span_trim(span_first(value, at));
	*rest = span_trim(span_after(value, at + 1));
	return true;
}
