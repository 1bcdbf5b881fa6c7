/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/* Any line of the service: what is taken from it lies in it, and can be unescaped into its size. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "relay/smtp/dovecot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dovecot_line line;

	if (!dovecot_read(span_of(data, size), &line))
		return 0;
	ASSERT(line.user.size <= size && line.data.size <= size);
	ASSERT(line.data.size == 0 || line.kind == DOVECOT_CONTINUE);
	if (line.user.size == 0)
		return 0;
	ASSERT(line.kind == DOVECOT_OK || line.kind == DOVECOT_FAIL);
	uint8_t *memory = malloc(line.user.size);
	ASSERT(memory != NULL);
	struct buf out = buf_of(memory, line.user.size);
	dovecot_unescape(line.user, &out);
	ASSERT(!out.overflow);
	free(memory);
	return 0;
}
