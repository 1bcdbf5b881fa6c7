/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses message */
/*
 * The reader of reports takes anything, and what it finds does not depend on how it comes.
 */
#include <stdlib.h>

#include "tests/lib/dsn_fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t groups, again;
	struct span in = span_of(data, size);
	uint64_t hash = dsn_read_all(in, SIZE_MAX, &groups);

	ASSERT(dsn_read_all(in, 1, &again) == hash && again == groups);
	ASSERT(dsn_read_all(in, 5, &again) == hash && again == groups);
	return 0;
}
