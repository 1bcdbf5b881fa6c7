/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/micro/dialogue.h"

#include "bench/micro/material.h"
#include "bench/micro/micro.h"
#include "core/base/assert.h"
#include "relay/smtp/body_out.h"

/* ---- a client in front of the receiver ---- */

void
client_mail_make(struct client_mail *out, void *memory, enum client_way way, struct span body)
{
	struct buf b = buf_of(memory, CLIENT_MEMORY);
	struct body_out dots;

	buf_printf(&b,
		   "MAIL FROM:<orders@shop.example.net> SIZE=%zu BODY=8BITMIME\r\n"
		   "RCPT TO:<alice.smith@example.org>\r\n",
		   body.size);
	if (way == CLIENT_BDAT) {
		buf_printf(&b, "BDAT %zu LAST\r\n", body.size);
		buf_append(&b, body);
		out->flights[0] = buf_span(&b);
		out->flights[1] = span_none();
	} else {
		buf_append(&b, SPAN("DATA\r\n"));
		out->flights[0] = buf_span(&b);
		body_out_init(&dots);
		size_t used = body_out_feed(&dots, body, &b);
		ASSERT(used == body.size);
		body_out_end(&dots, &b);
		out->flights[1] = span_after(buf_span(&b), out->flights[0].size);
	}
	ASSERT(!b.overflow);
}

const struct receiver_options *
dialogue_receiver_options(void)
{
	static const struct receiver_options options = {
		.hostname = { (const uint8_t *)"mx1.example.org", sizeof "mx1.example.org" - 1 },
		.size_max = 25 << 20,
		.discard_max = 25 << 20,
		.recipients_max = UINT32_MAX,
		.line_max = 4096,
		.errors_max = UINT32_MAX,
		.junk_max = UINT32_MAX,
	};

	return &options;
}

static bool
is_question(enum receiver_action_kind kind)
{
	switch (kind) {
	case RECEIVER_ASK_GREETING:
	case RECEIVER_ASK_HELO:
	case RECEIVER_ASK_MAIL:
	case RECEIVER_ASK_RCPT:
	case RECEIVER_ASK_DATA:
	case RECEIVER_ASK_SYNC:
	case RECEIVER_ASK_COMMIT:
		return true;
	default:
		return false;
	}
}

static void
receive_piece(struct receiver *r, struct span in, receiver_hook hook, void *context)
{
	static const struct receiver_answer yes = { .row = REPLY_NONE };
	struct receiver_action action;

	do {
		in = span_after(in, receiver_step(r, in, &action));
		micro_use(&action);
		ASSERT(action.kind != RECEIVER_CLOSE && action.kind != RECEIVER_ABORT);
		if (hook != NULL)
			hook(context, &action);
		if (is_question(action.kind))
			receiver_answer(r, &yes);
	} while (action.kind != RECEIVER_NEED_INPUT);
	ASSERT(in.size == 0);
}

void
dialogue_receive(struct receiver *r, struct span in, size_t piece_max, receiver_hook hook,
		 void *context)
{
	for (; in.size > 0; in = span_after(in, piece_max))
		receive_piece(r, span_first(in, piece_max), hook, context);
}

void
dialogue_greet(struct receiver *r)
{
	receiver_init(r, dialogue_receiver_options());
	receive_piece(r, span_none(), NULL, NULL);
	receive_piece(r, SPAN("EHLO app17.example.net\r\n"), NULL, NULL);
}

/* ---- a peer behind the sender ---- */

enum { REPLIES_MOST = 5 };

static const char greeting[] = "220 mx.example.org ESMTP\r\n";

/* What each kind of peer says, one row each time it is its turn. */
static const struct {
	const char *ehlo;
	const char *replies[REPLIES_MOST];
} peers[PEER_KINDS] = {
	[PEER_CHUNKING] = {
		"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250-8BITMIME\r\n"
		"250-SMTPUTF8\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-STARTTLS\r\n"
		"250 CHUNKING\r\n",
		{ "250 2.1.0 sender ok\r\n250 2.1.5 recipient ok\r\n"
		  "250 2.0.0 queued as 06ehq2x8c1v5mz9k3t7bn4wpra\r\n" },
	},
	[PEER_PIPELINING] = {
		"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250-VRFY\r\n"
		"250-ETRN\r\n250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n"
		"250-DSN\r\n250 SMTPUTF8\r\n",
		{ "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n",
		  "250 2.0.0 Ok: queued as 4XqZ7L0yPbz2Cdh\r\n" },
	},
	[PEER_LOCKSTEP] = {
		"250-mx.example.org\r\n250 SIZE 26214400\r\n",
		{ "250 sender ok\r\n", "250 recipient ok\r\n", "354 go ahead\r\n",
		  "250 ok 1788264000 qp 4711\r\n" },
	},
};

/* Steps until the peer must speak, or the transaction is over (true). */
static bool
speak(struct sender *s, struct span in, sender_hook hook, void *context)
{
	struct sender_action action;

	for (;;) {
		in = span_after(in, sender_step(s, in, &action));
		micro_use(&action);
		ASSERT(action.kind != SENDER_CLOSE && action.kind != SENDER_WAIT);
		if (hook != NULL)
			hook(context, &action);
		switch (action.kind) {
		case SENDER_NEED_INPUT:
			ASSERT(in.size == 0);
			return false;
		case SENDER_DONE:
			return true;
		case SENDER_BEFORE_END:
			sender_answer(s, true);
			break;
		case SENDER_SEND_BODY:
			sender_body_sent(s);
			break;
		default:
			break;
		}
	}
}

void
dialogue_connect(struct sender *s, struct peer *p, enum peer_kind kind)
{
	p->kind = kind;
	p->scratch = buf_of(p->memory, sizeof p->memory);
	p->options = (struct sender_options){
		.hello_name = SPAN("mx1.example.org"),
		.piece_max = 65536,
	};
	sender_init(s, &p->options, &p->scratch);
	speak(s, span_of(greeting, sizeof greeting - 1), NULL, NULL);
	speak(s, span_of_string(peers[kind].ehlo), NULL, NULL);
	ASSERT(sender_is_idle(s));
}

void
dialogue_send(struct sender *s, const struct peer *p, struct sender_transaction *t,
	      sender_hook hook, void *context)
{
	struct span in = span_none();
	unsigned turn = 0;

	sender_start(s, t);
	while (!speak(s, in, hook, context)) {
		ASSERT(turn < REPLIES_MOST && peers[p->kind].replies[turn] != NULL);
		in = span_of_string(peers[p->kind].replies[turn++]);
	}
}
