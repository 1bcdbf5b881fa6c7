/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/window.h"

#include "core/base/assert.h"

enum { UNIT = 256, CUT = 2 };

static uint32_t
least(uint64_t a, uint32_t b)
{
	return a < b ? (uint32_t)a : b;
}

void
window_init(struct window *w, uint32_t first, uint32_t most, bool proven)
{
	ASSERT(first > 0 && most > 0 && most <= UINT32_MAX / UNIT);
	*w = (struct window){
		.size_256 = (proven ? least(first, most) : 1) * UNIT,
		.first = first,
		.most = most,
		.proven = proven,
	};
}

void
window_limit(struct window *w, uint32_t first, uint32_t most)
{
	ASSERT(first > 0 && most > 0 && most <= UINT32_MAX / UNIT);
	w->first = first;
	w->most = most;
	w->size_256 = least(w->size_256, most * UNIT);
	/* One that never failed begins where the new options say. */
	if (w->proven && !w->careful && w->size_256 < least(first, most) * UNIT)
		w->size_256 = least(first, most) * UNIT;
}

uint32_t
window_size(const struct window *w)
{
	ASSERT(w->size_256 >= UNIT);
	return w->size_256 / UNIT;
}

void
window_success(struct window *w, uint32_t count)
{
	w->forgiving -= least(count, w->forgiving);
	if (count > 0 && !w->proven) {
		w->proven = true;
		if (!w->careful)
			w->size_256 = least(w->first, w->most) * UNIT;
		count--;
	}
	/* Past the limit nothing grows, whatever the count. */
	for (; count > 0 && w->size_256 < w->most * UNIT; count--) {
		uint64_t grown = w->careful ? (uint64_t)UNIT * UNIT / w->size_256 : UNIT;
		w->size_256 = least(w->size_256 + (grown > 0 ? grown : 1), w->most * UNIT);
	}
}

void
window_failure(struct window *w, uint32_t count)
{
	w->careful = true;
	if (count <= w->forgiving) {
		w->forgiving -= count;
		return;
	}
	w->forgiving = window_size(w) - 1;
	w->size_256 = w->size_256 / CUT < UNIT ? UNIT : w->size_256 / CUT;
}
