/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/close.h"

#include "core/base/assert.h"

static const struct {
	const char *label;
	const char *text;
} rows[CLOSE_COUNT] = {
#define CLOSE(name, label, text) { label, text },
#include "core/tables/closes.def"
#undef CLOSE
};

const char *
close_label(enum close_reason r)
{
	ASSERT(r < CLOSE_COUNT);
	return rows[r].label;
}

const char *
close_text(enum close_reason r)
{
	ASSERT(r < CLOSE_COUNT);
	return rows[r].text;
}
