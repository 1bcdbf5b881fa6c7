/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/unit.h"

#include <inttypes.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first: printing takes the first that divides. */
static const struct unit size_units[] = {
	{ "TiB", (uint64_t)1 << 40 },
	{ "GiB", (uint64_t)1 << 30 },
	{ "MiB", (uint64_t)1 << 20 },
	{ "KiB", (uint64_t)1 << 10 },
	{ "B", 1 },
};
static const struct unit duration_units[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};

enum {
	SIZE_UNITS = sizeof size_units / sizeof size_units[0],
	DURATION_UNITS = sizeof duration_units / sizeof duration_units[0],
};

static bool
unit_parse(const struct unit *units, size_t count, struct span text, uint64_t *out)
{
	size_t digits = 0;
	uint64_t number;

	while (digits < text.size && text.data[digits] >= '0' && text.data[digits] <= '9')
		digits++;
	if (!span_to_u64(span_first(text, digits), &number))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (span_eq(span_after(text, digits), span_of_string(units[i].name)))
			return !__builtin_mul_overflow(number, units[i].factor, out);
	}
	return false;
}

static void
unit_print(const struct unit *units, size_t count, uint64_t value, struct buf *out)
{
	size_t i = 0;

	while (i + 1 < count && (value == 0 || value % units[i].factor != 0))
		i++;
	buf_printf(out, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
}

bool
size_parse(struct span text, uint64_t *out)
{
	return unit_parse(size_units, SIZE_UNITS, text, out);
}

bool
duration_parse(struct span text, uint64_t *out_ms)
{
	return unit_parse(duration_units, DURATION_UNITS, text, out_ms);
}

void
size_print(uint64_t size, struct buf *out)
{
	unit_print(size_units, SIZE_UNITS, size, out);
}

void
duration_print(uint64_t duration_ms, struct buf *out)
{
	/* 0ms would read as if milliseconds mattered. */
	if (duration_ms == 0)
		buf_append_string(out, "0s");
	else
		unit_print(duration_units, DURATION_UNITS, duration_ms, out);
}
