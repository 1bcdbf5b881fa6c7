/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/date.h"

#include "core/base/assert.h"

enum { SECONDS_OF_DAY = 86400, DAYS_OF_ERA = 146097, DAYS_TO_1970 = 719468 };

static const uint64_t last_second = 253402300799; /* 9999-12-31 23:59:59 */

struct day {
	unsigned year;
	unsigned month; /* 1 to 12 */
	unsigned day;
};

/* The Gregorian calendar by arithmetic. Years begin in March, so that the leap day is the last of
 * its year; 400 of them are an era of 146097 days; months then have 153 days in every five. */
static struct day
day_of(uint64_t days_since_1970)
{
	uint64_t days = days_since_1970 + DAYS_TO_1970;
	unsigned in_era = (unsigned)(days % DAYS_OF_ERA);
	unsigned year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	unsigned in_year = in_era - (365 * year + year / 4 - year / 100);
	unsigned month = (5 * in_year + 2) / 153;

	return (struct day){
		.year = (unsigned)(days / DAYS_OF_ERA) * 400 + year + (month >= 10),
		.month = month < 10 ? month + 3 : month - 9,
		.day = in_year - (153 * month + 2) / 5 + 1,
	};
}

bool
date_write(struct buf *out, uint64_t wall_ms, int offset_min)
{
	static const char days[] = "ThuFriSatSunMonTueWed"; /* 1970 began on a Thursday */
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	uint8_t memory[DATE_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	ASSERT(offset_min > -1440 && offset_min < 1440);
	int64_t local = (int64_t)(wall_ms / 1000 < last_second ? wall_ms / 1000 : last_second);
	local += offset_min * 60;
	uint64_t seconds = local < 0 ? 0 : (uint64_t)local;
	if (seconds > last_second)
		seconds = last_second;
	unsigned in_day = (unsigned)(seconds % SECONDS_OF_DAY);
	struct day d = day_of(seconds / SECONDS_OF_DAY);
	unsigned offset = (unsigned)(offset_min < 0 ? -offset_min : offset_min);

	buf_append(&text, span_of(days + seconds / SECONDS_OF_DAY % 7 * 3, 3));
	buf_append(&text, SPAN(", "));
	buf_append_digits(&text, d.day, 2);
	buf_append_byte(&text, ' ');
	buf_append(&text, span_of(months + (size_t)(d.month - 1) * 3, 3));
	buf_append_byte(&text, ' ');
	buf_append_digits(&text, d.year, 4);
	buf_append_byte(&text, ' ');
	buf_append_digits(&text, in_day / 3600, 2);
	buf_append_byte(&text, ':');
	buf_append_digits(&text, in_day / 60 % 60, 2);
	buf_append_byte(&text, ':');
	buf_append_digits(&text, in_day % 60, 2);
	buf_append(&text, offset_min < 0 ? SPAN(" -") : SPAN(" +"));
	buf_append_digits(&text, offset / 60, 2);
	buf_append_digits(&text, offset % 60, 2);
	ASSERT(text.size == DATE_SIZE);
	return buf_append(out, buf_span(&text)); /* whole or nothing */
}
