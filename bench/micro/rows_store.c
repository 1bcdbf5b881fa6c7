/* SPDX-License-Identifier: Apache-2.0
 *
 * What is measured of relay/message and of the spool's records.
 */
#include "bench/micro/material.h"
#include "bench/micro/rows.h"
#include "bench/micro/sample.h"
#include "core/base/assert.h"
#include "queue/spool/crc32c.h"
#include "relay/message/header.h"

enum { HEADER_MEMORY = 256, RECORD_MEMORY = 8192 };

void
measure_header(struct micro_run *run)
{
	static uint8_t memory[HEADER_MEMORY];
	struct span text = run->row->number == 0 ? material_mail() : material_header();
	struct header h;

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		enum header_event event = HEADER_MORE;
		struct span in = text;
		header_init(&h, memory, sizeof memory);
		while (event != HEADER_END && in.size > 0)
			in = span_after(in, header_feed(&h, in, &event));
		micro_use(&h);
	}
	micro_stop(run);
	ASSERT(h.received > 0 && !h.malformed);
	run->bytes = h.seen;
}

void
measure_trace(struct micro_run *run)
{
	uint8_t memory[TRACE_SIZE_MAX];

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct buf out = buf_of(memory, sizeof memory);
		bool fits = trace_received(&out, sample_trace());
		micro_use(memory);
		ASSERT(fits);
		run->bytes = out.size;
	}
	micro_stop(run);
}

/* ---- records ---- */

static void
write_put(struct buf *out, const struct record_put *put)
{
	record_write_put(out, put, SAMPLE_EPOCH, SAMPLE_PLACE);
	buf_append(out, material_mail());
	record_pad(out);
}

/* With the checksum of the body, which the draft made piece by piece. */
static struct record_put
put_with_crc(void)
{
	struct record_put put = sample_put();
	struct span body = material_mail();

	put.body_crc = crc32c(0, body.data, body.size);
	return put;
}

void
measure_put_write(struct micro_run *run)
{
	static uint8_t memory[RECORD_MEMORY];
	struct record_put put = put_with_crc();

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct buf out = buf_of(memory, sizeof memory);
		write_put(&out, &put);
		micro_use(memory);
		run->bytes = out.size;
	}
	micro_stop(run);
}

void
measure_put_parse(struct micro_run *run)
{
	static uint8_t memory[RECORD_MEMORY];
	struct buf text = buf_of(memory, sizeof memory);
	struct record_put put = put_with_crc();

	write_put(&text, &put);
	run->bytes = text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct record r;
		struct mail_recipient recipient;
		struct record_starts starts;
		bool good = record_parse(buf_span(&text), SAMPLE_EPOCH, true, &r) &&
			    record_body_is_good(&r, r.body);
		ASSERT(good && r.count == 1);
		record_next_recipient(&r.rest, r.version, &recipient, &starts);
		micro_use(&recipient);
	}
	micro_stop(run);
}

void
measure_outcome_write(struct micro_run *run)
{
	static uint8_t memory[RECORD_MEMORY];

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct buf out = buf_of(memory, sizeof memory);
		record_write_change(&out, sample_outcome(), SAMPLE_EPOCH, SAMPLE_PLACE);
		micro_use(memory);
		run->bytes = out.size;
	}
	micro_stop(run);
}

void
measure_outcome_parse(struct micro_run *run)
{
	static uint8_t memory[RECORD_MEMORY];
	struct buf text = buf_of(memory, sizeof memory);

	record_write_change(&text, sample_outcome(), SAMPLE_EPOCH, SAMPLE_PLACE);
	run->bytes = text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct record r;
		struct record_line line;
		bool good = record_parse(buf_span(&text), SAMPLE_EPOCH, true, &r);
		ASSERT(good && r.count == 1);
		record_next_line(&r.rest, r.version, &line);
		micro_use(&line);
	}
	micro_stop(run);
}

void
measure_frame(struct micro_run *run)
{
	uint8_t memory[FRAME_SIZE];
	struct frame f = { .epoch = SAMPLE_EPOCH,
			   .lsn = 9,
			   .acked = 7,
			   .place = SAMPLE_PLACE,
			   .size = RECORD_MEMORY,
			   .count = 3 };

	run->bytes = sizeof memory;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		frame_write(memory, &f);
		micro_use(memory);
	}
	micro_stop(run);
}

/* ---- checksums ---- */

static void
measure_checksum(struct micro_run *run, uint32_t (*checksum)(uint32_t, const void *, size_t))
{
	struct span text = material_text(MATERIAL_BASE64);
	uint32_t crc = 0;

	ASSERT(run->row->number <= text.size);
	run->bytes = run->row->number;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++)
		crc = checksum(crc, text.data, run->row->number);
	micro_stop(run);
	micro_use(&crc);
}

void
measure_crc32c(struct micro_run *run)
{
	measure_checksum(run, crc32c);
}

void
measure_crc32c_portable(struct micro_run *run)
{
	measure_checksum(run, crc32c_portable);
}
