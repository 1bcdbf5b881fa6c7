/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/show.h"

#include <jansson.h>
#include <string.h>

enum { CELL_MAX = 256, GAP = 2 };

void
show_duration(struct buf *out, uint64_t ms)
{
	static const struct {
		uint64_t seconds;
		char unit;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	uint64_t left = ms / 1000;

	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		uint64_t number = left / units[i].seconds;
		if (number == 0 && units[i].seconds > 1)
			continue;
		buf_append_number(out, number);
		buf_append_byte(out, (uint8_t)units[i].unit);
		left -= number * units[i].seconds;
		if (i + 1 < sizeof units / sizeof units[0] && left >= units[i + 1].seconds) {
			buf_append_byte(out, ' ');
			buf_append_number(out, left / units[i + 1].seconds);
			buf_append_byte(out, (uint8_t)units[i + 1].unit);
		}
		return;
	}
}

void
show_size(struct buf *out, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;
	uint64_t tenths = bytes;

	if (bytes < 1024) {
		buf_printf(out, "%u B", (unsigned)bytes);
		return;
	}
	/* In 1024ths first, so that nothing overflows. */
	while (tenths >= (uint64_t)1024 * 1024) {
		tenths /= 1024;
		unit++;
	}
	tenths = tenths * 10 / 1024;
	buf_printf(out, "%u.%u %s", (unsigned)(tenths / 10), (unsigned)(tenths % 10),
		   units[unit + 1]);
}

/* ---- one value ---- */

/* U+0080 to U+009F, which terminals obey too, are C2 80 to C2 9F. */
static void
show_text(struct buf *out, struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		bool c1 = c == 0xc2 && i + 1 < text.size && text.data[i + 1] < 0xa0;
		buf_append_byte(out, c < 0x20 || c == 0x7f || c1 ? '?' : c);
		i += c1;
	}
}

static void
show_time(struct buf *out, struct span text, uint64_t now_wall_ms)
{
	uint64_t at_ms;

	if (!shape_read_time(text, &at_ms)) {
		show_text(out, text);
	} else if (at_ms > now_wall_ms) {
		buf_append_string(out, "in ");
		show_duration(out, at_ms - now_wall_ms);
	} else {
		show_duration(out, now_wall_ms - at_ms);
		buf_append_string(out, " ago");
	}
}

/* Nothing for a value that is not there. */
static void
show_value(struct buf *out, const struct shape_member *m, const json_t *value, uint64_t now_wall_ms)
{
	struct span text = span_of(json_string_value(value), json_string_length(value));
	uint64_t number = json_is_number(value) && json_number_value(value) > 0
				  ? (uint64_t)json_integer_value(value)
				  : 0;
	double real = json_number_value(value);

	if (value == NULL)
		return;
	switch (m->kind) {
	case SHAPE_TEXT:
		show_text(out, text);
		return;
	case SHAPE_TIME:
		show_time(out, text, now_wall_ms);
		return;
	case SHAPE_FLAG:
		buf_append_string(out, json_is_true(value) ? "yes" : "no");
		return;
	case SHAPE_BYTES:
		show_size(out, number);
		return;
	case SHAPE_SECONDS:
		show_duration(out, real > 0 ? (uint64_t)(real * 1000) : 0);
		return;
	case SHAPE_RATE:
		buf_printf(out, "%.1f/s", real);
		return;
	case SHAPE_NUMBER:
	case SHAPE_KINDS:
		buf_append_number(out, number);
		return;
	}
}

/* In characters, not bytes: continuation bytes of UTF-8 take no room. */
static size_t
width_of(struct span s)
{
	size_t width = 0;

	for (size_t i = 0; i < s.size; i++)
		width += (s.data[i] & 0xc0) != 0x80;
	return width;
}

static void
pad(struct buf *out, size_t count)
{
	while (count-- > 0)
		buf_append_byte(out, ' ');
}

static void
show_name(struct buf *out, const char *name)
{
	for (; *name != 0; name++)
		buf_append_byte(out, (uint8_t)(*name == '_' ? ' ' : *name));
}

/* ---- objects and tables ---- */

static void
show_object(struct buf *out, const struct shape *shape, const json_t *object, uint64_t now_wall_ms)
{
	size_t widest = 0;

	for (size_t i = 0; i < shape->count; i++) {
		size_t width = strlen(shape->members[i].name);
		if (width > widest)
			widest = width;
	}
	for (size_t i = 0; i < shape->count; i++) {
		const struct shape_member *m = &shape->members[i];
		const json_t *value = json_object_get(object, m->name);
		if (value == NULL)
			continue;
		show_name(out, m->name);
		pad(out, widest + GAP - strlen(m->name));
		show_value(out, m, value, now_wall_ms);
		buf_append_byte(out, '\n');
	}
}

static bool
is_right_aligned(const struct shape_member *m)
{
	return m->kind != SHAPE_TEXT && m->kind != SHAPE_FLAG;
}

/* A column is as wide as its widest cell; 0: no row has it. */
static size_t
column_width(const struct shape_member *m, const json_t *rows, uint64_t now_wall_ms)
{
	size_t widest = 0;
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		uint8_t memory[CELL_MAX];
		struct buf cell = buf_of(memory, sizeof memory);
		show_value(&cell, m, json_object_get(row, m->name), now_wall_ms);
		size_t width = width_of(buf_span(&cell));
		if (width > widest)
			widest = width;
	}
	return widest > 0 && widest < strlen(m->name) ? strlen(m->name) : widest;
}

static void
show_cell(struct buf *out, const struct shape_member *m, struct span text, size_t width, bool last)
{
	size_t room = width > width_of(text) ? width - width_of(text) : 0;

	if (is_right_aligned(m))
		pad(out, room);
	buf_append(out, text);
	if (!last && !is_right_aligned(m))
		pad(out, room);
	if (!last)
		pad(out, GAP);
}

static void
show_row(struct buf *out, const struct shape *shape, const size_t *widths, size_t last,
	 const json_t *row, uint64_t now_wall_ms)
{
	for (size_t i = 0; i <= last; i++) {
		const struct shape_member *m = &shape->members[i];
		uint8_t memory[CELL_MAX];
		struct buf cell = buf_of(memory, sizeof memory);
		if (widths[i] == 0)
			continue;
		if (row == NULL)
			show_name(&cell, m->name);
		else
			show_value(&cell, m, json_object_get(row, m->name), now_wall_ms);
		show_cell(out, m, buf_span(&cell), widths[i], i == last);
	}
	while (out->size > 0 && out->data[out->size - 1] == ' ')
		out->size--;
	buf_append_byte(out, '\n');
}

static void
show_table(struct buf *out, const struct shape *shape, const json_t *rows, uint64_t now_wall_ms)
{
	enum { MEMBERS_MAX = 32 };
	size_t widths[MEMBERS_MAX] = { 0 };
	size_t last = 0;
	size_t i;
	json_t *row;

	for (i = 0; i < shape->count && i < MEMBERS_MAX; i++) {
		widths[i] = column_width(&shape->members[i], rows, now_wall_ms);
		if (widths[i] > 0)
			last = i;
	}
	show_row(out, shape, widths, last, NULL, now_wall_ms);
	json_array_foreach(rows, i, row)
	{
		show_row(out, shape, widths, last, row, now_wall_ms);
	}
}

void
show_result(struct buf *out, enum admin_command command, const void *result, uint64_t now_wall_ms)
{
	const struct shape *shape = shape_of(protocol_command(command)->shape);
	const char *cursor = json_string_value(json_object_get(result, "cursor"));
	bool is_page = protocol_command(command)->shape == ADMIN_SHAPE_page;
	const struct rows_row *list;

	if (!is_page)
		show_object(out, shape, result, now_wall_ms);
	for (unsigned n = 0; (list = protocol_rows(command, n)) != NULL; n++) {
		const json_t *rows = json_object_get(result, list->name);
		bool empty = json_array_size(rows) == 0;
		if (empty && !is_page)
			continue;
		if (!is_page)
			buf_append_byte(out, '\n');
		if (!is_page && strcmp(list->name, "rows") != 0)
			buf_printf(out, "%s:\n", list->name);
		if (empty)
			buf_append_string(out, "nothing\n");
		else
			show_table(out, shape_of(list->shape), rows, now_wall_ms);
	}
	if (cursor != NULL) {
		buf_append_string(out, "there may be more: --cursor ");
		show_text(out, span_of_string(cursor));
		buf_append_byte(out, '\n');
	}
}
