/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses bench/client.c smtp */
/*
 * A server that says anything to the load generator. The first bytes choose options and mails; then
 * come the server's bytes. A caller that offers a mail at once where there is a place must see the
 * same actions however the lines are cut; with another, which hesitates, quits and loses the
 * connection as the bytes tell it, client_check.h holds as well: each mail has one outcome, and
 * none is accepted or in doubt whose end of data was not sent.
 */
#include <stdlib.h>

#include "tests/lib/client_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETUP = 2, RECIPIENTS = 4, SCRATCH = 4096 };

struct run {
	struct client_options options;
	struct client client;
	struct client_check check;
	struct client_mail mails[CHECK_MAILS];
	bool rejected[CHECK_MAILS][RECIPIENTS];
	uint8_t memory[SCRATCH];
	struct buf scratch;
	uint32_t recipients;
	uint64_t hash;
};

static bool
show_recipient(const struct client_mail *m, uint32_t i, struct buf *out)
{
	(void)m;
	return buf_printf(out, "r%u@y", i);
}

static void
set_up(struct run *r, const uint8_t setup[SETUP])
{
	memset(r, 0, sizeof *r);
	r->options = (struct client_options){
		.hello = SPAN("me"),
		.sender = SPAN("s@x"),
		.mode = (setup[0] & 1) != 0 ? CLIENT_PIPELINED : CLIENT_LOCKSTEP,
		.starttls = (setup[0] & 8) != 0,
		.login = (setup[0] & 16) != 0 ? SPAN("AHUAcA==") : span_none(),
		.bdat = (setup[0] & 2) != 0,
		.lmtp = (setup[0] & 4) != 0,
		.mails_max = setup[0] >> 5,
	};
	r->recipients = setup[1] % RECIPIENTS + 1U;
	r->scratch = buf_of(r->memory, client_scratch_size(r->recipients));
	ASSERT(r->scratch.capacity <= SCRATCH);
	client_init(&r->client, &r->options, &r->scratch);
}

static bool
offer(struct run *r)
{
	unsigned n = r->check.offered;

	if (n == CHECK_MAILS)
		return false;
	r->mails[n] = (struct client_mail){
		.size = 100,
		.recipient_count = r->recipients,
		.show_recipient = show_recipient,
		.rejected = r->rejected[n],
	};
	check_offer(&r->check, &r->mails[n]);
	client_offer(&r->client, &r->mails[n]);
	return true;
}

static void
note(struct run *r, const struct client_action *a)
{
	r->hash = r->hash * 31 + a->event * 7 + a->fate;
	r->hash ^= span_hash_nocase(a->text, 5);
	if (a->reply != NULL)
		r->hash ^= span_hash_nocase(reply_text(a->reply), 3);
	for (uint32_t i = 0; a->event == CLIENT_OUTCOME && i < r->recipients; i++)
		r->hash = r->hash * 31 + a->mail->rejected[i];
}

/* Steps until more is needed. */
static void
feed(struct run *r, struct span in, bool offers)
{
	struct client_action a;

	while (!r->check.closed) {
		size_t used = client_step(&r->client, in, &a);
		ASSERT(used <= in.size);
		in = span_after(in, used);
		check_action(&r->check, &a);
		if (a.event == CLIENT_START_TLS)
			client_secured(&r->client);
		if (a.event > CLIENT_NEED_MAIL) {
			note(r, &a);
			continue;
		}
		ASSERT(in.size == 0);
		if (a.event == CLIENT_NEED_INPUT || !offers || !offer(r))
			return;
	}
}

/* The connection ends; all that is owed comes. */
static void
drain(struct run *r)
{
	if (!r->check.closed) {
		client_lost(&r->client, "gone");
		feed(r, span_none(), true);
	}
	ASSERT(r->check.closed && r->check.over == r->check.offered);
}

/* Lines that are cut into pieces of so many bytes. */
static uint64_t
prompt_caller(const uint8_t setup[SETUP], struct span in, size_t piece)
{
	struct run r;

	set_up(&r, setup);
	feed(&r, span_none(), true);
	while (in.size > 0 && !r.check.closed) {
		size_t size = span_find(in, '\n', 0) + 1;
		size = size < piece ? size : piece;
		feed(&r, span_first(in, size), true);
		in = span_after(in, size);
	}
	drain(&r);
	return r.hash;
}

/* Bytes above 0xf7 are the caller's and not the server's. */
static void
wayward_caller(const uint8_t setup[SETUP], struct span in)
{
	struct run r;

	set_up(&r, setup);
	while (!r.check.closed) {
		size_t end = 0;
		while (end < in.size && in.data[end] < 0xf8)
			end++;
		feed(&r, span_first(in, end), false);
		if (end == in.size || r.check.closed)
			break;
		switch (in.data[end]) {
		case 0xff:
			feed(&r, span_none(), true);
			break;
		case 0xfe:
			client_quit(&r.client);
			break;
		case 0xfd:
			client_lost(&r.client, "wayward");
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
