/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue core machine */
/* Every type of record, cut at every byte, with every bit flipped, and with lengths that lie under
 * checksums that hold. What is read lies in memory of exactly its size, so that a sanitizer sees
 * every byte too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "queue/spool/crc32c.h"
#include "queue/spool/record.h"

enum { EPOCH = 4711, PLACE = 12288, SIZE = 16384, BLOCKS = 3 };

static uint8_t memory[SIZE];

/* ---- one row a kind of record ---- */

static struct mail_recipient recipients[] = {
	{ .address = { (const uint8_t *)"one@a.example", 13 },
	  .orcpt = { (const uint8_t *)"rfc822;one", 10 },
	  .notify = NOTIFY_DELAY,
	  .attempts = 65535,
	  .retry_at_ms = UINT64_MAX,
	  .reply = { (const uint8_t *)"451", 3 } },
	{ .address = { (const uint8_t *)"\xc3\xa4@b", 4 }, .state = RECIPIENT_REMOVED },
};

static const struct mail_envelope envelope = {
	.id = { UINT64_MAX, 1 },
	.accepted_at_ms = 7,
	.flags = MAIL_UTF8 | MAIL_EIGHT_BIT,
	.ret = RET_FULL,
	.envid = { (const uint8_t *)"id", 2 },
	.recipient_count = 2,
	.recipients = recipients,
};

static const uint8_t body[] = "Subject: x\r\n\r\ntext\r\n";
static uint8_t block_crcs[4 * BLOCKS];

static const struct record_line lines[] = {
	{ .recipient = UINT32_MAX,
	  .state = RECIPIENT_FAILED,
	  .attempts = 3,
	  .number = 65535,
	  .reply = { (const uint8_t *)"550 no", 6 } },
	{ .recipient = 1, .alone = true, .retry_at_ms = UINT64_MAX },
};

static void
write_inline(struct buf *out)
{
	const struct record_put put = { .envelope = &envelope,
					.body_kind = BODY_INLINE,
					.body_crc = crc32c(0, body, sizeof body),
					.body_size = sizeof body };

	record_write_put(out, &put, EPOCH, PLACE);
	assert_int_equal(out->size, record_put_size(&put));
	buf_append(out, span_of(body, sizeof body));
	record_pad(out);
}

static void
write_file(struct buf *out)
{
	const struct record_put put = { .envelope = &envelope,
					.body_kind = BODY_FILE,
					.hold_revision = 3,
					.body_size = (BLOCKS - 1) * SPOOL_BLOCK + 1,
					.block_crcs = span_of(block_crcs, sizeof block_crcs) };

	record_write_put(out, &put, EPOCH, PLACE);
	assert_int_equal(out->size, record_put_size(&put));
	record_pad(out);
}

static void
write_change(struct buf *out, uint8_t type, uint8_t gone, uint32_t line_count)
{
	const struct record_change change = { .type = type,
					      .id = { 5, 6 },
					      .put_sequence = 1234567890123,
					      .gone = gone,
					      .hold_revision = 9,
					      .who = SPAN("root"),
					      .why = SPAN("asked for"),
					      .line_count = line_count,
					      .lines = lines };

	record_write_change(out, &change, EPOCH, PLACE);
	assert_int_equal(out->size, record_size(record_change_size(&change), 0));
}

static void
write_outcome(struct buf *out)
{
	write_change(out, RECORD_OUTCOME, 0, 2);
}

static void
write_gone(struct buf *out)
{
	write_change(out, RECORD_GONE, GONE_REMOVED, 0);
}

static void
write_hold(struct buf *out)
{
	write_change(out, RECORD_HOLD, 0, 0);
}

static void
write_start(struct buf *out)
{
	write_change(out, RECORD_START, 0, 2);
}

static void
write_close(struct buf *out)
{
	write_change(out, RECORD_CLOSE, 0, 1);
}

static void
write_index(struct buf *out)
{
	const struct record_place places[] = { { 8192, 160 }, { 69632, 131072 } };

	record_write_index(out, places, 2, SPAN("metas of others"), EPOCH, PLACE);
}

static const struct row {
	const char *name;
	uint8_t type;
	void (*write)(struct buf *out);
	uint32_t count;
} rows[] = {
	{ "put", RECORD_PUT, write_inline, 2 },
	{ "put, body in a file", RECORD_PUT, write_file, 2 },
	{ "outcome", RECORD_OUTCOME, write_outcome, 2 },
	{ "gone", RECORD_GONE, write_gone, 0 },
	{ "hold", RECORD_HOLD, write_hold, 0 },
	{ "start", RECORD_START, write_start, 2 },
	{ "close", RECORD_CLOSE, write_close, 1 },
	{ "index", RECORD_INDEX, write_index, 2 },
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static struct span
write_row(const struct row *row)
{
	struct buf out = buf_of(memory, sizeof memory);

	row->write(&out);
	assert_int_equal(out.size % 8, 0);
	return buf_span(&out);
}

/* Parses a copy of exactly this size; true where it is taken for a record with a good body. Whoever
 * is taken is walked to its end. */
static bool
is_taken(struct span in, bool with_body)
{
	uint8_t *exact = malloc(in.size == 0 ? 1 : in.size);
	struct record r;

	assert_non_null(exact);
	memcpy(exact, in.data, in.size);
	bool taken = record_parse(span_of(exact, in.size), EPOCH, with_body, &r);
	struct span rest = r.rest;
	for (uint32_t i = 0; taken && i < r.count; i++) {
		struct mail_recipient recipient;
		struct record_starts starts;
		struct record_line line;
		if (r.type == RECORD_PUT)
			record_next_recipient(&rest, r.version, &recipient, &starts);
		else if (r.type == RECORD_INDEX)
			record_next_place(&rest, r.places_have_sizes);
		else
			record_next_line(&rest, r.version, &line);
	}
	if (taken) {
		assert_true(r.meta_size <= in.size);
		assert_int_equal(rest.size, 0);
		taken = !with_body || record_body_is_good(&r, r.body);
	}
	free(exact);
	return taken;
}

/* ---- the tests ---- */

static void
every_record_comes_back(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROWS; i++) {
		struct span in = write_row(&rows[i]);
		struct record r;
		assert_true(record_parse(in, EPOCH, true, &r));
		assert_int_equal(r.type, rows[i].type);
		assert_int_equal(r.count, rows[i].count);
		assert_int_equal(r.place, PLACE);
		assert_int_equal(record_size(r.meta_size, r.body_size), in.size);
		assert_true(is_taken(in, true));
		/* In an index: without its body. */
		assert_true(is_taken(span_first(in, r.meta_size), false));
		assert_false(record_parse(in, EPOCH ^ 1, true, &r));
	}
}

static void
the_fields_of_a_change_come_back(void **state)
{
	struct record_line line;
	struct record r;

	(void)state;
	assert_true(record_parse(write_row(&rows[2]), EPOCH, true, &r));
	assert_true(mail_id_eq(r.id, (struct mail_id){ 5, 6 }));
	assert_true(r.put_sequence == 1234567890123);
	for (unsigned i = 0; i < 2; i++) {
		record_next_line(&r.rest, r.version, &line);
		assert_int_equal(line.recipient, lines[i].recipient);
		assert_int_equal(line.state, lines[i].state);
		assert_int_equal(line.alone, lines[i].alone);
		assert_int_equal(line.attempts, lines[i].attempts);
		assert_int_equal(line.number, lines[i].number);
		assert_true(line.retry_at_ms == lines[i].retry_at_ms);
		assert_true(span_eq(line.reply, lines[i].reply));
	}
	assert_true(record_parse(write_row(&rows[3]), EPOCH, true, &r));
	assert_int_equal(r.gone, GONE_REMOVED);
	assert_true(span_eq(r.who, SPAN("root")));
	assert_true(span_eq(r.why, SPAN("asked for")));
	assert_true(record_parse(write_row(&rows[4]), EPOCH, true, &r));
	assert_int_equal(r.hold_revision, 9);
}

static void
no_cut_is_taken(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROWS; i++) {
		struct span in = write_row(&rows[i]);
		struct record r;
		assert_true(record_parse(in, EPOCH, true, &r));
		for (size_t size = 0; size < in.size; size++) {
			assert_false(is_taken(span_first(in, size), true));
			if (size < r.meta_size)
				assert_false(is_taken(span_first(in, size), false));
		}
	}
}

/* All but the padding, which nobody reads. */
static void
no_flipped_bit_is_taken(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROWS; i++) {
		struct span in = write_row(&rows[i]);
		struct record r;
		assert_true(record_parse(in, EPOCH, true, &r));
		size_t covered = r.meta_size + r.body_size;
		for (size_t bit = 0; bit < covered * 8; bit++) {
			memory[bit / 8] ^= (uint8_t)(1U << bit % 8);
			if (is_taken(in, true))
				fail_msg("%s: bit %zu", rows[i].name, bit);
			memory[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		assert_true(is_taken(in, true));
	}
}

/* The checksum of what is there now, as a writer gone mad would have written it. */
static void
mend(size_t size)
{
	uint8_t seed[8] = { 0 };
	uint32_t meta_size;

	memcpy(&meta_size, memory + 4, sizeof meta_size);
	if (meta_size < RECORD_HEADER_SIZE || meta_size > size)
		return;
	for (unsigned i = 0; i < sizeof seed; i++)
		seed[i] = (uint8_t)((uint64_t)EPOCH >> (8 * i));
	uint32_t crc = crc32c(crc32c(0, seed, sizeof seed), memory + 4, meta_size - 4);
	for (unsigned i = 0; i < 4; i++)
		memory[i] = (uint8_t)(crc >> (8 * i));
}

/* Whatever two bytes next to each other say, no length is believed that does not fit: is_taken()
 * walks what was taken, and nothing may be read past its end. */
static void
no_length_is_believed(void **state)
{
	static const uint8_t lies[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < ROWS; i++) {
		struct span in = write_row(&rows[i]);
		for (size_t at = 4; at + 1 < in.size; at++) {
			for (unsigned k = 0; k < sizeof lies * sizeof lies; k++) {
				in = write_row(&rows[i]);
				memory[at] = lies[k % sizeof lies];
				memory[at + 1] = lies[k / sizeof lies];
				mend(in.size);
				refused += !is_taken(in, true);
			}
		}
	}
	assert_true(refused > 1000); /* many of these are lengths, counts, types */
}

static void
a_checksum_for_each_block_of_a_file(void **state)
{
	static uint8_t data[SPOOL_BLOCK];
	struct record r;

	(void)state;
	for (unsigned i = 0; i < BLOCKS; i++) {
		data[0] = (uint8_t)i;
		record_block_crc(block_crcs + (size_t)4 * i, data);
	}
	assert_true(record_parse(write_row(&rows[1]), EPOCH, true, &r));
	assert_int_equal(r.mail_size, (BLOCKS - 1) * SPOOL_BLOCK + 1);
	for (unsigned i = 0; i < BLOCKS; i++) {
		data[0] = (uint8_t)i;
		assert_true(record_block_is_good(r.block_crcs, i, data));
		assert_false(record_block_is_good(r.block_crcs, (i + 1) % BLOCKS, data));
		data[SPOOL_BLOCK - 1] ^= 1;
		assert_false(record_block_is_good(r.block_crcs, i, data));
		data[SPOOL_BLOCK - 1] ^= 1;
	}
}

/* Of a head both copies would have to be hit; of one copy every bit counts. */
static void
no_flipped_bit_of_a_head_is_taken(void **state)
{
	const struct segment_head head = { .use = SEGMENT_IS_SEALED,
					   .sequence = 9,
					   .epoch = EPOCH,
					   .log = 3,
					   .first_lsn = 1,
					   .size = 1 << 20,
					   .end_lsn = 8,
					   .tail = 1 << 19,
					   .last_index = 1 << 18,
					   .puts = 7 };
	struct segment_head back;
	struct span in = span_of(memory, SEGMENT_FIRST);

	(void)state;
	segment_head_write(memory, &head);
	assert_true(segment_head_parse(in, &back));
	assert_int_equal(back.use, head.use);
	assert_memory_equal(&back.sequence, &head.sequence,
			    sizeof head - offsetof(struct segment_head, sequence));
	for (size_t size = 0; size < SEGMENT_FIRST; size += 512)
		assert_false(segment_head_parse(span_first(in, size), &back));
	memset(memory + SPOOL_BLOCK, 0, SPOOL_BLOCK);
	for (size_t bit = 0; bit < (size_t)SEGMENT_HEAD_SIZE * 8; bit++) {
		memory[bit / 8] ^= (uint8_t)(1U << bit % 8);
		assert_false(segment_head_parse(in, &back));
		memory[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record_comes_back),
		cmocka_unit_test(the_fields_of_a_change_come_back),
		cmocka_unit_test(no_cut_is_taken),
		cmocka_unit_test(no_flipped_bit_is_taken),
		cmocka_unit_test(no_length_is_believed),
		cmocka_unit_test(a_checksum_for_each_block_of_a_file),
		cmocka_unit_test(no_flipped_bit_of_a_head_is_taken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
