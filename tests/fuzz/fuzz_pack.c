/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses queue/redis/pack.c */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "queue/redis/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read is written as the same bytes: there is one form of everything. */
static void
envelope(struct span in)
{
	uint32_t count;
	size_t text_size;

	if (!pack_measure(in, &count, &text_size))
		return;
	ASSERT(text_size <= in.size && count <= in.size);
	struct mail_envelope e = { .id = { 1, 2 } };
	e.recipients = calloc(count + 1u, sizeof *e.recipients);
	ASSERT(e.recipients != NULL);
	ASSERT(pack_read_envelope(in, &e));
	ASSERT(e.recipient_count == count);
	ASSERT(pack_envelope_size(&e) == in.size);
	uint8_t *again = malloc(in.size);
	struct buf out = buf_of(again, in.size);
	ASSERT(pack_envelope(&out, &e));
	ASSERT(span_eq(buf_span(&out), in));
	free(again);
	free(e.recipients);
}

static void
state(struct span in)
{
	uint8_t again[PACK_STATE_LEAST + PACK_REPLY_MOST];
	struct buf out = buf_of(again, sizeof again);
	struct pack_state s;

	if (!pack_read_state(in, &s) || in.size == 0)
		return;
	pack_state(&out, &s);
	ASSERT(span_eq(buf_span(&out), in));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	envelope(span_of(data, size));
	state(span_of(data, size));
	return 0;
}
