/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses message */
/* Header sections: what is found must not depend on how they are cut, nor lie outside of them. */
#include <stdlib.h>

#include "core/base/assert.h"
#include "relay/message/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t
hash_field(const struct header *h, uint64_t hash)
{
	uint8_t memory[128];
	struct buf out = buf_of(memory, sizeof memory);

	ASSERT(header_name(h).size > 0);
	ASSERT(header_unfold(h, &out));
	hash = hash * 31 + span_hash_nocase(header_name(h), h->cut);
	return hash * 31 + span_hash_nocase(buf_span(&out), 1);
}

static uint64_t
read_all(struct span in, size_t step)
{
	uint8_t memory[128];
	struct header h;
	enum header_event event = HEADER_MORE;
	uint64_t hash = 0;
	size_t used = 0;
	unsigned fields = 0;

	header_init(&h, memory, sizeof memory);
	while (used < in.size && event != HEADER_END) {
		used += header_feed(&h, span_first(span_after(in, used), step), &event);
		if (event == HEADER_FIELD && ++fields > 0)
			hash = hash_field(&h, hash);
	}
	while (event != HEADER_END) {
		header_finish(&h, &event);
		if (event == HEADER_FIELD && ++fields > 0)
			hash = hash_field(&h, hash);
	}
	ASSERT(fields == h.fields && h.received <= fields);
	ASSERT(h.size <= h.body_at && h.body_at <= in.size && h.body_at - h.size <= 2);
	return hash * 31 + h.size * 7 + h.body_at + h.malformed;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct span in = span_of(data + 1, size - 1);
	uint64_t whole = read_all(in, SIZE_MAX);
	ASSERT(read_all(in, 1) == whole);
	ASSERT(read_all(in, (size_t)data[0] + 1) == whole);
	return 0;
}
