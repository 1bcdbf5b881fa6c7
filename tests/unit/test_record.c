/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "queue/spool/crc32c.h"
#include "queue/spool/record.h"

enum { EPOCH = 77, PLACE = 8256, SIZE = 16384 };

static uint8_t memory[SIZE];
static uint8_t copy[SIZE];

static void
both_checksums_agree(void **state)
{
	static uint8_t bytes[3000]; /* some times what the processor takes at once */

	(void)state;
	/* RFC 3720 B.4 */
	memset(bytes, 0, 32);
	assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 37 + i / 251);
	for (size_t n = 0; n <= sizeof bytes; n++) {
		uint32_t whole = crc32c(0, bytes, n);
		assert_int_equal(whole, crc32c_portable(0, bytes, n));
		assert_int_equal(whole, crc32c(crc32c(0, bytes, n / 3), bytes + n / 3, n - n / 3));
	}
	/* From every place in a word, and going on from any value. */
	for (size_t from = 0; from < 64; from++)
		assert_int_equal(crc32c(~(uint32_t)from, bytes + from, 2500),
				 crc32c_portable(~(uint32_t)from, bytes + from, 2500));
}

static struct mail_recipient recipients[2] = {
	{ .address = { (const uint8_t *)"a@b.example", 11 },
	  .orcpt = { (const uint8_t *)"rfc822;a", 8 },
	  .notify = NOTIFY_FAILURE,
	  .state = RECIPIENT_PENDING,
	  .attempts = 3,
	  .retry_at_ms = 123456789,
	  .reply = { (const uint8_t *)"451 no", 6 } },
	{ .address = { (const uint8_t *)"c@d.example", 11 }, .state = RECIPIENT_FAILED },
};

static const struct mail_envelope envelope = {
	.id = { 1, 2 },
	.accepted_at_ms = 99,
	.flags = MAIL_UTF8 | MAIL_TLS_REQUIRED,
	.ret = RET_HEADERS,
	.sender = { (const uint8_t *)"me@x", 4 },
	.client = { (const uint8_t *)"::1", 3 },
	.recipient_count = 2,
	.recipients = recipients,
};

static const uint8_t body[] = "Subject: x\r\n\r\nhello\r\n";

static struct buf
write_put(void)
{
	const struct record_starts starts[2] = { { 5, 4, true }, { 0, 0, false } };
	const struct record_put put = {
		.envelope = &envelope,
		.starts = starts,
		.previous_sequence = 41,
		.hold_revision = 7,
		.body_kind = BODY_INLINE,
		.body_crc = crc32c(0, body, sizeof body),
		.body_size = sizeof body,
	};
	struct buf out = buf_of(memory, sizeof memory);

	record_write_put(&out, &put, EPOCH, PLACE);
	assert_int_equal(out.size, record_put_size(&put));
	buf_append(&out, span_of(body, sizeof body));
	record_pad(&out);
	return out;
}

static void
a_put_comes_back(void **state)
{
	struct buf out = write_put();
	struct record r;
	struct mail_recipient recipient;
	struct record_starts starts;

	(void)state;
	assert_true(record_parse(buf_span(&out), EPOCH, true, &r));
	assert_int_equal(r.type, RECORD_PUT);
	assert_int_equal(record_size(r.meta_size, r.body_size), out.size);
	assert_true(record_body_is_good(&r, r.body));
	assert_true(span_eq(r.body, span_of(body, sizeof body)));
	assert_int_equal(r.place, PLACE);
	assert_int_equal(r.put_sequence, 41);
	assert_int_equal(r.hold_revision, 7);
	assert_true(span_eq(r.sender, SPAN("me@x")));
	assert_int_equal(r.count, 2);
	record_next_recipient(&r.rest, r.version, &recipient, &starts);
	assert_true(span_eq(recipient.orcpt, SPAN("rfc822;a")));
	assert_true(span_eq(recipient.reply, SPAN("451 no")));
	assert_int_equal(recipient.attempts, 3);
	assert_int_equal(recipient.retry_at_ms, 123456789);
	assert_int_equal(starts.starts, 5);
	assert_int_equal(starts.closed, 4);
	assert_true(starts.alone);
	record_next_recipient(&r.rest, r.version, &recipient, &starts);
	assert_int_equal(recipient.state, RECIPIENT_FAILED);
	assert_int_equal(r.rest.size, 0);
	/* As a part of an index: the meta alone. */
	assert_true(record_parse(span_first(buf_span(&out), r.meta_size), EPOCH, false, &r));
	assert_int_equal(r.body_size, sizeof body);
}

/* What it says of a version is kept when a record is written again at another place. */
static void
failed_recipients_of_version_1_are_pending(void **state)
{
	uint8_t bytes[2][512];
	const struct record_line no = {
		.recipient = 3, .state = RECIPIENT_FAILED, .retry_at_ms = 9, .notified = true
	};
	const struct record_change change = { .type = RECORD_OUTCOME,
					      .line_count = 1,
					      .lines = &no };
	uint8_t seed[8] = { EPOCH & 0xff, EPOCH >> 8 & 0xff };
	struct buf out = buf_of(bytes[0], sizeof bytes[0]);
	struct buf again = buf_of(bytes[1], sizeof bytes[1]);
	struct record_line line;
	struct record r;

	(void)state;
	_Static_assert(EPOCH <= UINT16_MAX, "seed");
	record_write_change(&out, &change, EPOCH, PLACE);
	assert_true(record_parse(buf_span(&out), EPOCH, true, &r));
	assert_int_equal(r.version, RECORD_VERSION);
	record_next_line(&r.rest, r.version, &line);
	assert_int_equal(line.state, RECIPIENT_FAILED);
	assert_true(line.notified);
	assert_false(line.alone);
	bytes[0][13] = 1;
	uint32_t crc = crc32c(crc32c(0, seed, sizeof seed), bytes[0] + 4, r.meta_size - 4);
	memcpy(bytes[0], &crc, 4);
	for (unsigned i = 0; i < 2; i++) {
		struct span in = i == 0 ? buf_span(&out) : buf_span(&again);
		assert_true(record_parse(in, EPOCH, true, &r));
		assert_int_equal(r.version, 1);
		record_next_line(&r.rest, r.version, &line);
		assert_int_equal(line.state, RECIPIENT_PENDING);
		assert_int_equal(line.retry_at_ms, 0);
		if (i == 0)
			record_write_again(&again, r.meta, EPOCH, 2 * PLACE);
	}
}

static void
no_flipped_bit_goes_unseen(void **state)
{
	struct buf out = write_put();
	struct record r;

	(void)state;
	assert_true(record_parse(buf_span(&out), EPOCH, true, &r));
	size_t covered = r.meta_size + sizeof body;
	for (size_t bit = 0; bit < covered * 8; bit++) {
		memcpy(copy, memory, out.size);
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		struct span in = span_of(copy, out.size);
		bool good = record_parse(in, EPOCH, true, &r) && record_body_is_good(&r, r.body);
		assert_false(good);
	}
	assert_false(record_parse(buf_span(&out), EPOCH + 1, true, &r));
}

static void
no_cut_is_read_past(void **state)
{
	struct buf out = write_put();
	struct record r;

	(void)state;
	for (size_t size = 0; size < out.size; size++) {
		/* In memory of exactly this size, so that a sanitizer sees every byte too many. */
		uint8_t *exact = test_malloc(size + 1);
		memcpy(exact, memory, size);
		assert_false(record_parse(span_of(exact, size), EPOCH, true, &r));
		test_free(exact);
	}
}

static void
changes_come_back_and_can_be_written_again(void **state)
{
	const struct record_line lines[] = {
		{ .recipient = 3,
		  .state = RECIPIENT_PENDING,
		  .attempts = 2,
		  .number = 1,
		  .retry_at_ms = 5,
		  .reply = SPAN("4xx") },
		{ .recipient = 9, .state = RECIPIENT_DELIVERED },
	};
	const struct record_change change = { .type = RECORD_OUTCOME,
					      .id = { 8, 9 },
					      .put_sequence = 12,
					      .who = SPAN("w"),
					      .why = SPAN("y"),
					      .line_count = 2,
					      .lines = lines };
	struct buf out = buf_of(memory, sizeof memory);
	struct buf again = buf_of(copy, sizeof copy);
	struct record_line line;
	struct record r;

	(void)state;
	record_write_change(&out, &change, EPOCH, PLACE);
	assert_true(record_parse(buf_span(&out), EPOCH, true, &r));
	record_write_again(&again, r.meta, EPOCH + 1, PLACE + 8);
	assert_false(record_parse(buf_span(&again), EPOCH, true, &r));
	assert_true(record_parse(buf_span(&again), EPOCH + 1, true, &r));
	assert_int_equal(r.place, PLACE + 8);
	assert_int_equal(r.put_sequence, 12);
	assert_true(span_eq(r.who, SPAN("w")));
	record_next_line(&r.rest, r.version, &line);
	assert_int_equal(line.recipient, 3);
	assert_true(span_eq(line.reply, SPAN("4xx")));
	record_next_line(&r.rest, r.version, &line);
	assert_int_equal(line.state, RECIPIENT_DELIVERED);
}

static void
an_index_knows_the_others(void **state)
{
	const struct record_place places[] = { { 4096, 900 }, { 8192, 70000 }, { 81920, 1 } };
	struct buf out = buf_of(memory, sizeof memory);
	struct record r;

	(void)state;
	record_write_index(&out, places, 3, SPAN("metametameta"), EPOCH, PLACE);
	assert_int_equal(out.size, record_size(record_index_size(3), 12));
	assert_true(record_parse(buf_span(&out), EPOCH, true, &r));
	assert_true(span_eq(r.body, SPAN("metametameta")));
	for (unsigned i = 0; i < 3; i++) {
		struct record_place place = record_next_place(&r.rest, r.places_have_sizes);
		assert_int_equal(place.at, places[i].at);
		assert_int_equal(place.size, places[i].size);
	}
}

static void
frames_belong_to_their_place_and_epoch(void **state)
{
	const struct frame f = {
		.epoch = EPOCH, .lsn = 9, .acked = 7, .place = 4096, .size = 100, .count = 2
	};
	struct frame back;

	(void)state;
	frame_write(memory, &f);
	struct span in = span_of(memory, FRAME_SIZE);
	assert_true(frame_parse(in, EPOCH, 4096, &back));
	assert_int_equal(back.lsn, 9);
	assert_int_equal(back.acked, 7);
	assert_false(frame_parse(in, EPOCH + 1, 4096, &back));
	assert_false(frame_parse(in, EPOCH, 8192, &back));
	assert_false(frame_parse(span_first(in, FRAME_SIZE - 1), EPOCH, 4096, &back));
	for (size_t bit = 0; bit < FRAME_SIZE * 8; bit++) {
		memory[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(frame_parse(in, EPOCH, 4096, &back));
		memory[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void
either_copy_of_a_head_is_enough_and_the_later_wins(void **state)
{
	const struct segment_head open = {
		.use = SEGMENT_IS_OPEN, .sequence = 5, .epoch = 1, .size = 1 << 20
	};
	const struct segment_head freed = {
		.use = SEGMENT_IS_FREE, .sequence = 5, .epoch = 1, .size = 1 << 20
	};
	const struct segment_head next = {
		.use = SEGMENT_IS_OPEN, .sequence = 6, .epoch = 2, .size = 1 << 20
	};
	struct segment_head back;
	struct span in = span_of(memory, SEGMENT_FIRST);

	(void)state;
	segment_head_write(memory, &open);
	for (unsigned which = 0; which < 2; which++) {
		memory[which * SPOOL_BLOCK + 20] ^= 1;
		assert_true(segment_head_parse(in, &back));
		assert_int_equal(back.sequence, 5);
		memory[which * SPOOL_BLOCK + 20] ^= 1;
	}
	/* A write that reached one copy only. */
	segment_head_write(copy, &freed);
	memcpy(memory + SPOOL_BLOCK, copy, SPOOL_BLOCK);
	assert_true(segment_head_parse(in, &back));
	assert_int_equal(back.use, SEGMENT_IS_FREE);
	segment_head_write(copy, &next);
	memcpy(memory, copy, SPOOL_BLOCK);
	assert_true(segment_head_parse(in, &back));
	assert_int_equal(back.sequence, 6);
	memory[20] ^= 1;
	memory[SPOOL_BLOCK + 20] ^= 1;
	assert_false(segment_head_parse(in, &back));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_checksums_agree),
		cmocka_unit_test(a_put_comes_back),
		cmocka_unit_test(failed_recipients_of_version_1_are_pending),
		cmocka_unit_test(no_flipped_bit_goes_unseen),
		cmocka_unit_test(no_cut_is_read_past),
		cmocka_unit_test(changes_come_back_and_can_be_written_again),
		cmocka_unit_test(an_index_knows_the_others),
		cmocka_unit_test(frames_belong_to_their_place_and_epoch),
		cmocka_unit_test(either_copy_of_a_head_is_enough_and_the_later_wins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
