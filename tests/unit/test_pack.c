/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/redis/functions.h"
#include "queue/redis/pack.h"

enum { MANY = 3, TEXT_MOST = UINT16_MAX, SIZE = 16 * TEXT_MOST };

static uint8_t memory[SIZE];
static uint8_t text[TEXT_MOST];

/* Each field is at one of its limits in one of these. */
static struct mail_recipient least_recipients[1];
static struct mail_recipient most_recipients[MANY] = {
	{ .address = { text, TEXT_MOST }, .orcpt = { text, TEXT_MOST }, .notify = NOTIFY_NEVER },
	{ .address = { text, 1 },
	  .notify = NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY | NOTIFY_NEVER },
	{ .orcpt = { text, 3 } },
};
static const struct mail_envelope envelopes[] = {
	{ .recipients = NULL },
	{ .recipient_count = 1, .recipients = least_recipients },
	{ .id = { UINT64_MAX, 1 },
	  .accepted_at_ms = UINT64_MAX,
	  .body_size = UINT64_MAX,
	  .flags = UINT32_MAX,
	  .ret = RET_HEADERS,
	  .sender = { text, TEXT_MOST },
	  .envid = { text, TEXT_MOST },
	  .client = { text, TEXT_MOST },
	  .recipient_count = MANY,
	  .recipients = most_recipients },
	{ .accepted_at_ms = 1, .ret = RET_FULL, .sender = { text, 5 }, .client = { text, 2 } },
};
enum { ENVELOPES = sizeof envelopes / sizeof envelopes[0] };

static int
fill_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t)(i * 31);
	return 0;
}

static struct span
packed(const struct mail_envelope *e)
{
	struct buf out = buf_of(memory, sizeof memory);

	assert_true(pack_envelope(&out, e));
	assert_int_equal(out.size, pack_envelope_size(e));
	return buf_span(&out);
}

/* What is read lies in memory of exactly its size, so that a sanitizer sees a byte too many. */
static uint8_t *
alone(struct span bytes)
{
	uint8_t *copy = malloc(bytes.size == 0 ? 1 : bytes.size);

	assert_non_null(copy);
	if (bytes.size > 0)
		memcpy(copy, bytes.data, bytes.size);
	return copy;
}

static void
assert_same_text(struct span a, struct span b)
{
	assert_true(span_eq(a, b));
}

static void
what_is_written_is_read(void **state)
{
	(void)state;
	for (size_t n = 0; n < ENVELOPES; n++) {
		const struct mail_envelope *e = &envelopes[n];
		struct mail_recipient back_recipients[MANY];
		struct mail_envelope back = { .id = { 7, 8 }, .recipients = back_recipients };
		struct span bytes = packed(e);
		size_t text_size, texts = e->sender.size + e->envid.size + e->client.size;
		uint32_t count;

		memset(back_recipients, 0xff, sizeof back_recipients);
		assert_true(pack_measure(bytes, &count, &text_size));
		assert_int_equal(count, e->recipient_count);
		assert_true(pack_read_envelope(bytes, &back));
		assert_true(mail_id_eq(back.id, (struct mail_id){ 7, 8 }));
		assert_int_equal(back.accepted_at_ms, e->accepted_at_ms);
		assert_int_equal(back.body_size, e->body_size);
		assert_int_equal(back.flags, e->flags);
		assert_int_equal(back.ret, e->ret);
		assert_same_text(back.sender, e->sender);
		assert_same_text(back.envid, e->envid);
		assert_same_text(back.client, e->client);
		assert_int_equal(back.recipient_count, e->recipient_count);
		for (uint32_t i = 0; i < count; i++) {
			const struct mail_recipient *r = &back.recipients[i];
			assert_same_text(r->address, e->recipients[i].address);
			assert_same_text(r->orcpt, e->recipients[i].orcpt);
			assert_int_equal(r->notify, e->recipients[i].notify);
			assert_int_equal(r->state, RECIPIENT_PENDING);
			assert_int_equal(r->attempts | r->notified, 0);
			assert_int_equal(r->retry_at_ms, 0);
			assert_int_equal(r->reply.size + r->site.number, 0);
			texts += r->address.size + r->orcpt.size;
		}
		assert_int_equal(text_size, texts);
	}
}

static void
changing_fields_are_not_written(void **state)
{
	struct mail_recipient changed = { .state = RECIPIENT_FAILED,
					  .notified = true,
					  .attempts = 9,
					  .site = { 5 },
					  .retry_at_ms = 99,
					  .reply = { text, 10 } };
	const struct mail_envelope e = { .recipient_count = 1, .recipients = &changed };
	static uint8_t before[256];

	(void)state;
	struct span fresh = packed(&envelopes[1]);
	memcpy(before, fresh.data, fresh.size);
	assert_true(span_eq(packed(&e), span_of(before, fresh.size)));
}

static bool
is_measured(struct span bytes)
{
	uint32_t count;
	size_t text_size;

	return pack_measure(bytes, &count, &text_size);
}

/* Small, so that every cut can be tried: all kinds of fields, but texts of a few bytes. */
static const struct mail_envelope small = {
	.accepted_at_ms = 1,
	.body_size = 1000,
	.flags = MAIL_UTF8,
	.ret = RET_FULL,
	.sender = { (const uint8_t *)"me@x", 4 },
	.envid = { (const uint8_t *)"id", 2 },
	.client = { (const uint8_t *)"::1", 3 },
	.recipient_count = 2,
	.recipients = (struct mail_recipient[]){ { .address = { (const uint8_t *)"a@b", 3 },
						   .notify = NOTIFY_DELAY },
						 { .address = { (const uint8_t *)"c@d", 3 },
						   .orcpt = { (const uint8_t *)"o", 1 } } },
};

static void
a_cut_envelope_is_refused(void **state)
{
	struct span bytes = packed(&small);

	(void)state;
	for (size_t size = 0; size < bytes.size; size++) {
		uint8_t *copy = alone(span_first(bytes, size));
		struct mail_recipient room[MANY];
		struct mail_envelope e = { .recipients = room };
		assert_false(is_measured(span_of(copy, size)));
		assert_false(pack_read_envelope(span_of(copy, size), &e));
		free(copy);
	}
	assert_true(is_measured(bytes));
	memory[bytes.size] = 0;
	assert_false(is_measured(span_of(memory, bytes.size + 1)));
}

static void
hostile_envelopes_are_refused(void **state)
{
	struct span bytes = packed(&small);
	uint8_t *copy = alone(bytes);
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = {
		{ 0, 0 },                            /* no version */
		{ 0, 2 },                            /* a version to come */
		{ 5, 3 },                            /* no such RET */
		{ 22, 3 },                           /* a recipient more than there are */
		{ 22, 1 },                           /* bytes after the last one */
		{ 25, 0xff },                        /* more recipients than bytes */
		{ 26, 5 },                           /* lengths that move all that follows */
		{ 27, 0xff }, { 32, 1 }, { 41, 16 }, /* no such NOTIFY */
		{ 43, 1 },
	};

	(void)state;
	assert_int_equal(copy[22], 2);
	assert_int_equal(copy[26], 4);
	assert_int_equal(copy[41], NOTIFY_DELAY);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t before = copy[rows[i].at];
		copy[rows[i].at] = rows[i].value;
		assert_false(is_measured(span_of(copy, bytes.size)));
		copy[rows[i].at] = before;
	}
	for (size_t bit = 0; bit < bytes.size * 8; bit++) {
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		uint32_t count;
		size_t text_size;
		if (pack_measure(span_of(copy, bytes.size), &count, &text_size))
			assert_int_equal(count, 2);
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	free(copy);
}

static void
no_room_is_told(void **state)
{
	(void)state;
	uint64_t size = pack_envelope_size(&small);
	for (size_t room = 0; room <= size; room++) {
		uint8_t *place = malloc(room + 1);
		struct buf out = buf_of(place, room);
		assert_int_equal(pack_envelope(&out, &small), room == size);
		free(place);
	}
}

/* ---- states ---- */

static const struct pack_state states[] = {
	{ .state = RECIPIENT_PENDING },
	{ .state = RECIPIENT_DELIVERED, .starts = 1, .reply = { text, 1 } },
	{ .state = RECIPIENT_DISCARDED, .notified = true },
	{ .state = RECIPIENT_FAILED, .alone = true, .closed = UINT16_MAX },
	{ .state = RECIPIENT_REMOVED,
	  .notified = true,
	  .alone = true,
	  .starts = UINT16_MAX,
	  .closed = UINT16_MAX,
	  .attempts = UINT16_MAX,
	  .retry_at_ms = UINT64_MAX,
	  .reply = { text, PACK_REPLY_MOST } },
	{ .state = RECIPIENT_PENDING, .attempts = 256, .retry_at_ms = 1, .reply = { text, 9999 } },
};
enum { STATES = sizeof states / sizeof states[0] };

static void
states_come_back(void **state)
{
	static const char letters[STATES] = { 'P', 'D', 'X', 'F', 'R', 'P' };

	(void)state;
	for (size_t n = 0; n < STATES; n++) {
		const struct pack_state *s = &states[n];
		struct pack_state back;
		struct buf out = buf_of(memory, PACK_STATE_LEAST + PACK_REPLY_MOST);

		pack_state(&out, s);
		assert_false(out.overflow);
		assert_int_equal(memory[0], letters[n]);
		assert_true(pack_read_state(buf_span(&out), &back));
		assert_int_equal(back.state, s->state);
		assert_int_equal(back.notified, s->notified);
		assert_int_equal(back.alone, s->alone);
		assert_int_equal(back.starts, s->starts);
		assert_int_equal(back.closed, s->closed);
		assert_int_equal(back.attempts, s->attempts);
		assert_int_equal(back.retry_at_ms, s->retry_at_ms);
		assert_same_text(back.reply, span_first(s->reply, PACK_REPLY_MOST));
	}
}

/* functions.lua copies and clears these bytes by their places. */
static void
the_server_finds_its_bytes(void **state)
{
	const struct pack_state s = { .starts = 0x0201,
				      .closed = 0x0403,
				      .attempts = 0x0605,
				      .notified = true,
				      .retry_at_ms = 0x0f0e0d0c0b0a0908 };
	static const uint8_t expected[PACK_STATE_LEAST] = { 'P', 1, 2,  3,  4,  5,  6,  1,
							    8,   9, 10, 11, 12, 13, 14, 15 };
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	pack_state(&out, &s);
	assert_int_equal(out.size, PACK_STATE_LEAST);
	assert_memory_equal(memory, expected, sizeof expected);
}

static void
hostile_states_are_refused(void **state)
{
	struct buf out = buf_of(memory, sizeof memory);
	struct pack_state back;

	(void)state;
	pack_state(&out, &states[4]);
	assert_true(pack_read_state(span_none(), &back));
	assert_int_equal(back.state, RECIPIENT_PENDING);
	assert_int_equal(back.starts | back.closed | back.attempts, 0);
	assert_int_equal(back.retry_at_ms, 0);
	for (size_t size = 1; size <= out.size; size++) {
		uint8_t *copy = alone(span_of(memory, size));
		/* All after the fixed part is the reply, which may end anywhere. */
		assert_int_equal(pack_read_state(span_of(copy, size), &back),
				 size >= PACK_STATE_LEAST);
		free(copy);
	}
	assert_false(pack_read_state(span_of(memory, out.size + 1), &back));
	for (unsigned c = 0; c < 256; c++) {
		memory[0] = (uint8_t)c;
		assert_int_equal(pack_read_state(span_of(memory, out.size), &back),
				 c != 0 && strchr("PDXFR", (int)c) != NULL);
	}
	memory[0] = 'P';
	for (unsigned flags = 0; flags < 256; flags++) {
		memory[7] = (uint8_t)flags;
		assert_int_equal(pack_read_state(span_of(memory, out.size), &back), flags < 4);
	}
}

static void
the_functions_are_compiled_in(void **state)
{
	static char whole[65536];
	char version[64];
	struct span f = redis_functions();

	(void)state;
	assert_true(f.size > 1000 && f.size < sizeof whole);
	memcpy(whole, f.data, f.size);
	assert_true(span_starts_with(f, SPAN("#!lua name=ringpost_1\n")));
	snprintf(version, sizeof version, "\nlocal VERSION = %d\n", REDIS_FUNCTIONS_VERSION);
	assert_non_null(strstr(whole, version));
	assert_int_equal(f.data[f.size - 1], '\n');
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(changing_fields_are_not_written),
		cmocka_unit_test(a_cut_envelope_is_refused),
		cmocka_unit_test(hostile_envelopes_are_refused),
		cmocka_unit_test(no_room_is_told),
		cmocka_unit_test(states_come_back),
		cmocka_unit_test(the_server_finds_its_bytes),
		cmocka_unit_test(hostile_states_are_refused),
		cmocka_unit_test(the_functions_are_compiled_in),
	};

	return cmocka_run_group_tests(tests, fill_text, NULL);
}
