/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses queue/spool/record.c queue/spool/crc32c.c */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "queue/spool/crc32c.h"
#include "queue/spool/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With checksums that hold, so that what lies behind them is reached. */
static void
mend(uint8_t *copy, size_t size, uint64_t epoch)
{
	uint8_t seed[8];
	uint32_t meta_size;

	if (size < RECORD_HEADER_SIZE)
		return;
	memcpy(&meta_size, copy + 4, 4);
	if (meta_size < RECORD_HEADER_SIZE || meta_size > size)
		return;
	memcpy(seed, &epoch, 8);
	uint32_t crc = crc32c(crc32c(0, seed, 8), copy + 4, meta_size - 4);
	memcpy(copy, &crc, 4);
}

static void
walk(const struct record *r)
{
	struct span rest = r->rest;

	for (uint32_t i = 0; i < r->count; i++) {
		if (r->type == RECORD_PUT) {
			struct mail_recipient recipient;
			struct record_starts starts;
			record_next_recipient(&rest, r->version, &recipient, &starts);
		} else if (r->type == RECORD_INDEX) {
			record_next_place(&rest, r->places_have_sizes);
		} else {
			struct record_line line;
			record_next_line(&rest, r->version, &line);
			ASSERT(line.reply.size <= RECORD_REPLY_MOST);
		}
	}
	ASSERT(rest.size == 0);
}

/* A change that was read can be written again, and reads the same. */
static void
write_again(const struct record *r)
{
	uint8_t *memory = malloc(r->meta_size + 8);
	struct buf out = buf_of(memory, r->meta_size + 8);
	struct record back;

	record_write_again(&out, r->meta, 9, 16);
	ASSERT(record_parse(buf_span(&out), 9, true, &back));
	ASSERT(back.type == r->type && back.count == r->count && back.place == 16);
	free(memory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record r;
	struct frame f;
	struct segment_head h;
	bool with_body = size > 0 && data[0] % 2 != 0;
	uint8_t *copy = malloc(size + 1);

	frame_parse(span_of(data, size), 5, 4096, &f);
	segment_head_parse(span_of(data, size), &h);
	record_parse(span_of(data, size), 5, with_body, &r);
	memcpy(copy, data, size);
	mend(copy, size, 5);
	if (record_parse(span_of(copy, size), 5, with_body, &r)) {
		ASSERT(r.meta_size <= size);
		record_body_is_good(&r, r.body);
		walk(&r);
		if (r.type > RECORD_PUT && r.type < RECORD_INDEX)
			write_again(&r);
	}
	free(copy);
	return 0;
}
