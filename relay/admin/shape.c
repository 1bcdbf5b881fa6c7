/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/admin/shape.h"

#include <time.h>

#include "core/base/assert.h"

/* clang-format off */
#define SHAPE(name_, doc_)                static const struct shape_member members_##name_[] = {
#define MEMBER(shape_, kind_, name_, doc_) \
	{ #name_, doc_, SHAPE_##kind_, offsetof(struct admin_##shape_, name_) },
#define SHAPE_END(name_)                  };
#include "core/tables/admin_shapes.def"
#undef SHAPE
#undef MEMBER
#undef SHAPE_END

static const struct shape shapes[ADMIN_SHAPES] = {
#define SHAPE(name_, doc_) \
	{ #name_, doc_, members_##name_, sizeof members_##name_ / sizeof members_##name_[0] },
#define MEMBER(shape_, kind_, name_, doc_)
#define SHAPE_END(name_)
#include "core/tables/admin_shapes.def"
#undef SHAPE
#undef MEMBER
#undef SHAPE_END
};
/* clang-format on */

const struct shape *
shape_of(enum admin_shape s)
{
	ASSERT(s < ADMIN_SHAPES);
	return &shapes[s];
}

const char *
shape_kind_text(enum shape_kind kind)
{
	static const char *const texts[SHAPE_KINDS] = {
		[SHAPE_TEXT] = "text",
		[SHAPE_NUMBER] = "number",
		[SHAPE_BYTES] = "bytes",
		[SHAPE_FLAG] = "true or false",
		[SHAPE_TIME] = "time",
		[SHAPE_SECONDS] = "seconds",
		[SHAPE_RATE] = "number a second",
	};

	return texts[kind];
}

void
shape_write_time(struct buf *out, uint64_t wall_ms)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm = { 0 };

	gmtime_r(&seconds, &tm);
	buf_append_digits(out, (uint64_t)tm.tm_year + 1900, 4);
	buf_append_byte(out, '-');
	buf_append_digits(out, (uint64_t)tm.tm_mon + 1, 2);
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

bool
shape_read_time(struct span text, uint64_t *wall_ms)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
	uint64_t parts[7] = { 0 };
	unsigned part = 0;

	if (text.size != sizeof form - 1)
		return false;
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		bool digit = c >= '0' && c <= '9';
		if (form[i] != 'd' && c != (uint8_t)form[i])
			return false;
		if (form[i] == 'd' && !digit)
			return false;
		if (form[i] == 'd')
			parts[part] = parts[part] * 10 + (uint64_t)(c - '0');
		else
			part++;
	}
	struct tm tm = {
		.tm_year = (int)parts[0] - 1900,
		.tm_mon = (int)parts[1] - 1,
		.tm_mday = (int)parts[2],
		.tm_hour = (int)parts[3],
		.tm_min = (int)parts[4],
		.tm_sec = (int)parts[5],
	};
	time_t seconds = timegm(&tm);
	if (seconds < 0)
		return false;
	*wall_ms = (uint64_t)seconds * 1000 + parts[6];
	return true;
}

static void
write_thousandths(struct buf *out, uint64_t n)
{
	buf_append_number(out, n / 1000);
	buf_append_byte(out, '.');
	buf_append_digits(out, n % 1000, 3);
}

static bool
is_left_out(const struct shape_member *m, const uint8_t *at)
{
	uint64_t number;
	struct span text;

	if (m->kind == SHAPE_TEXT) {
		memcpy(&text, at, sizeof text);
		return text.data == NULL;
	}
	if (m->kind != SHAPE_TIME)
		return false;
	memcpy(&number, at, sizeof number);
	return number == 0;
}

static void
write_value(struct buf *out, const struct shape_member *m, const uint8_t *at)
{
	uint64_t number = 0;
	struct span text;
	bool flag;

	if (m->kind == SHAPE_TEXT) {
		memcpy(&text, at, sizeof text);
		buf_append_byte(out, '"');
		buf_append_json(out, text, SHAPE_TEXT_MAX);
		buf_append_byte(out, '"');
		return;
	}
	if (m->kind == SHAPE_FLAG) {
		memcpy(&flag, at, sizeof flag);
		buf_append(out, flag ? SPAN("true") : SPAN("false"));
		return;
	}
	memcpy(&number, at, sizeof number);
	if (m->kind == SHAPE_SECONDS || m->kind == SHAPE_RATE) {
		write_thousandths(out, number);
	} else if (m->kind == SHAPE_TIME) {
		buf_append_byte(out, '"');
		shape_write_time(out, number);
		buf_append_byte(out, '"');
	} else {
		buf_append_number(out, number);
	}
}

void
shape_write_open(struct buf *out, enum admin_shape s, const void *values)
{
	const struct shape *shape = shape_of(s);
	bool first = true;

	buf_append_byte(out, '{');
	for (size_t i = 0; i < shape->count; i++) {
		const struct shape_member *m = &shape->members[i];
		const uint8_t *at = (const uint8_t *)values + m->offset;
		if (is_left_out(m, at))
			continue;
		if (!first)
			buf_append_byte(out, ',');
		first = false;
		buf_append_byte(out, '"');
		buf_append_string(out, m->name);
		buf_append(out, SPAN("\":"));
		write_value(out, m, at);
	}
}

void
shape_write(struct buf *out, enum admin_shape s, const void *values)
{
	shape_write_open(out, s, values);
	buf_append_byte(out, '}');
}
