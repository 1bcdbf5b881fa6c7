/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/rates.h"

#include "core/base/assert.h"

void
rates_sample(struct rates *r, uint64_t now_ms, const uint64_t values[RATES_SERIES])
{
	r->at_ms[r->next] = now_ms;
	for (unsigned i = 0; i < RATES_SERIES; i++)
		r->values[r->next][i] = values[i];
	r->next = (r->next + 1) % RATES_SAMPLES;
	if (r->count < RATES_SAMPLES)
		r->count++;
}

uint64_t
rates_of(const struct rates *r, unsigned series, uint64_t now_ms, uint64_t value)
{
	ASSERT(series < RATES_SERIES);
	if (r->count == 0)
		return 0;
	unsigned oldest = r->count < RATES_SAMPLES ? 0 : r->next;
	uint64_t span_ms = now_ms - r->at_ms[oldest];
	uint64_t grown = value - r->values[oldest][series];
	return span_ms == 0 ? 0 : grown * 1000000 / span_ms;
}
