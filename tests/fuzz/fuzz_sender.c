/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/*
 * A peer that says anything. The first bytes choose options and mails; then come the peer's bytes.
 * A caller that does at once what it is asked must see the same actions however the bytes are cut.
 * Another caller hesitates, refuses, quits and loses the connection as the bytes tell it. With
 * both, sender_check.h holds: one outcome each, and none delivered without proof.
 */
#include <stdlib.h>

#include "tests/lib/sender_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAILS = 4, RECIPIENTS = 3, SETUP = 4 };

struct run {
	struct sender_options options;
	struct sender_transaction mails[MAILS];
	struct sender_recipient recipients[MAILS][RECIPIENTS];
	uint8_t memory[SENDER_SCRATCH_MIN];
	struct buf scratch;
	struct sender sender;
	struct sender_check check;
	uint64_t hash;
	unsigned started;
	bool refuses;
	bool secured;
};

static void
set_up(struct run *r, const uint8_t setup[SETUP])
{
	static const char *const addresses[] = { "b@y", "gr\xc3\xbc\xc3\x9f@y", "c>@y", "d@y" };

	memset(r, 0, sizeof *r);
	r->options = (struct sender_options){
		.hello_name = SPAN("me"),
		.lmtp = (setup[0] & 1) != 0,
		.tls = (setup[3] >> 2 & 3) % 3,
		.auth = (setup[2] & 0x81) == 0x81 ? 0xe : 0,
		.require_tls = (setup[2] & 0x42) == 0x42,
		.no_pipelining = (setup[0] & 6) == 6,
		.no_chunking = (setup[0] & 24) == 24,
		.eight_bit_fails = (setup[1] & 12) == 12,
		.recipients_max = setup[0] >> 5,
		.mails_max = setup[1] & 3,
		.piece_max = (uint32_t)(setup[1] >> 4) + 1,
	};
	for (unsigned i = 0; i < MAILS; i++) {
		r->mails[i] = (struct sender_transaction){
			.sender = SPAN("a@x"),
			.envid = SPAN("q"),
			.body_size = (setup[2] >> i) % 32U,
			.eight_bit = true,
			.utf8 = setup[3] == i,
			.require_tls = (setup[2] & 0x42) == 0x42 || i == 1,
			.ret = SENDER_RET_FULL,
			.recipient_count = (setup[2] + i) % RECIPIENTS + 1,
			.recipients = r->recipients[i],
		};
		for (unsigned k = 0; k < RECIPIENTS; k++) {
			const char *address = addresses[setup[3] >> 4 == i + k ? setup[3] % 4 : 0];
			r->recipients[i][k].address = span_of_string(address);
			r->recipients[i][k].notify = SENDER_NOTIFY_FAILURE;
		}
	}
	r->scratch = buf_of(r->memory, sizeof r->memory);
	sender_init(&r->sender, &r->options, &r->scratch);
}

static void
start_all(struct run *r)
{
	while (r->started < MAILS && sender_can_start(&r->sender)) {
		check_start(&r->check, &r->mails[r->started]);
		sender_start(&r->sender, &r->mails[r->started++]);
	}
}

static void
note(struct run *r, const struct sender_action *a)
{
	r->hash = r->hash * 31 + a->kind;
	r->hash = r->hash * 31 + a->outcome.index * 7 + a->outcome.class * 3 + a->outcome.cause;
	r->hash = r->hash * 31 + a->piece.offset * 3 + a->piece.size;
	r->hash ^= span_hash_nocase(a->text, 5);
	if (a->outcome.reply != NULL)
		r->hash ^= span_hash_nocase(reply_text(a->outcome.reply), 3);
}

static void
body_sent(struct run *r)
{
	if (r->check.sending == NULL)
		return;
	check_body_sent(&r->check);
	sender_body_sent(&r->sender);
}

/* One step; false where more input is needed. hesitates: a body is sent only when asked to. */
static bool
step(struct run *r, struct span *in, bool hesitates)
{
	struct sender_action a;
	size_t used = sender_step(&r->sender, *in, &a);

	ASSERT(used <= in->size);
	ASSERT(a.kind != SENDER_NEED_INPUT || used == in->size);
	check_action(&r->check, &a);
	(void)sender_phase(&r->sender);
	*in = span_after(*in, used);
	if (a.kind == SENDER_NEED_INPUT || a.kind == SENDER_WAIT)
		return false;
	note(r, &a);
	if (a.kind == SENDER_BEFORE_END) {
		check_answer(&r->check, a.transaction, !r->refuses);
		sender_answer(&r->sender, !r->refuses);
	}
	if (a.kind == SENDER_START_TLS) {
		ASSERT(!r->secured && r->options.tls != SENDER_TLS_NEVER);
		r->secured = true;
	}
	if (a.kind == SENDER_ASK_AUTH) {
		ASSERT(r->secured && (r->options.auth & SASL_BIT(a.auth.mechanism)) != 0);
		if (r->refuses)
			sender_auth_failed(&r->sender);
		else
			sender_auth_answer(&r->sender, SPAN("answer"));
	}
	if (a.kind == SENDER_READY) {
		ASSERT(r->secured || r->options.tls != SENDER_TLS_REQUIRED);
		ASSERT(r->secured || r->options.auth == 0);
		ASSERT(r->secured || !r->options.require_tls);
		ASSERT(r->sender.offer.require_tls || !r->options.require_tls);
	}
	if (a.kind == SENDER_WRITE && !r->secured)
		ASSERT(memmem(a.text.data, a.text.size, "REQUIRETLS", 10) == NULL);
	if (a.kind == SENDER_SEND_BODY && !hesitates)
		body_sent(r);
	return a.kind != SENDER_CLOSE;
}

/* The connection ends; all that is owed comes. */
static void
drain(struct run *r)
{
	struct span none = span_none();

	if (!r->check.closed)
		sender_lost(&r->sender, CLOSE_RESET);
	for (unsigned n = 0; !r->check.closed; n++) {
		ASSERT(n < 4 * MAILS * RECIPIENTS);
		step(r, &none, true);
	}
	ASSERT(r->check.done == r->started);
}

static void
secure(struct run *r)
{
	if (sender_phase(&r->sender) == SENDER_PHASE_TLS)
		sender_secured(&r->sender);
}

static void
feed(struct run *r, struct span in, size_t chunk)
{
	while (!r->check.closed) {
		struct span piece = span_first(in, chunk);
		size_t size = piece.size;
		while (step(r, &piece, false))
			start_all(r);
		in = span_after(in, size - piece.size);
		if (in.size == 0)
			break;
	}
}

/* A byte 0xfa is where a handshake ends, if one is under way. */
static uint64_t
prompt_caller(const uint8_t setup[SETUP], struct span in, size_t chunk)
{
	struct run r;

	set_up(&r, setup);
	start_all(&r);
	while (!r.check.closed) {
		size_t end = span_find(in, 0xfa, 0);
		feed(&r, span_first(in, end), chunk);
		if (end == in.size)
			break;
		secure(&r);
		in = span_after(in, end + 1);
	}
	drain(&r);
	return r.hash;
}

/* Bytes above 0xf7 are the caller's and not the peer's. Peer's bytes that the machine would not
 * take while it waited are dropped: that is one more thing that a peer may say. */
static void
wayward_caller(const uint8_t setup[SETUP], struct span in)
{
	struct run r;

	set_up(&r, setup);
	start_all(&r);
	while (!r.check.closed) {
		size_t end = 0;
		while (end < in.size && in.data[end] < 0xf8)
			end++;
		struct span piece = span_first(in, end);
		while (step(&r, &piece, true))
			;
		if (end == in.size || r.check.closed)
			break;
		switch (in.data[end]) {
		case 0xff:
			body_sent(&r);
			break;
		case 0xfe:
			start_all(&r);
			break;
		case 0xfd:
			r.refuses = true;
			break;
		case 0xfc:
			sender_quit(&r.sender, CLOSE_IDLE);
			break;
		case 0xfb:
			sender_lost(&r.sender, CLOSE_TIMEOUT);
			break;
		case 0xfa:
			secure(&r);
			break;
		default:
			break;
		}
		in = span_after(in, end + 1);
	}
	drain(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < SETUP)
		return 0;
	struct span in = span_of(data + SETUP, size - SETUP);
	uint64_t whole = prompt_caller(data, in, SIZE_MAX);
	ASSERT(prompt_caller(data, in, 1) == whole);
	ASSERT(prompt_caller(data, in, 7) == whole);
	wayward_caller(data, in);
	return 0;
}
