/* SPDX-License-Identifier: Apache-2.0
 *
 * rates: how many a second in the last minute, from counters that only grow. PURE.
 *
 * A sample is taken now and then; the rate is between now and the oldest sample that is not older
 * than a minute and a sample's distance. Without two samples it is 0.
 */
#ifndef RELAY_CONTROL_RATES_H
#define RELAY_CONTROL_RATES_H

#include <stdint.h>

enum { RATES_SERIES = 2, RATES_SAMPLES = 13, RATES_SAMPLE_MS = 5000 };

struct rates {
	unsigned count; /* of samples, up to RATES_SAMPLES */
	unsigned next;
	uint64_t at_ms[RATES_SAMPLES];
	uint64_t values[RATES_SAMPLES][RATES_SERIES];
};

void rates_sample(struct rates *r, uint64_t now_ms, const uint64_t values[RATES_SERIES]);
/* In thousandths a second. */
uint64_t rates_of(const struct rates *r, unsigned series, uint64_t now_ms, uint64_t value);

#endif
