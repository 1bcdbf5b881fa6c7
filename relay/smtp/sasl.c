/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/sasl.h"

#include "core/base/assert.h"

static const struct span names[SASL_MECHANISM_COUNT] = {
	[SASL_EXTERNAL] = SPAN("EXTERNAL"),
	[SASL_SCRAM_SHA_256] = SPAN("SCRAM-SHA-256"),
	[SASL_PLAIN] = SPAN("PLAIN"),
	[SASL_LOGIN] = SPAN("LOGIN"),
};

struct span
sasl_name(enum sasl_mechanism m)
{
	ASSERT(m < SASL_MECHANISM_COUNT);
	return names[m];
}

enum sasl_mechanism
sasl_find(struct span name)
{
	enum sasl_mechanism m = 0;

	while (m < SASL_MECHANISM_COUNT && !span_eq_nocase(name, names[m]))
		m++;
	return m;
}
