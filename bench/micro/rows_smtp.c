/* SPDX-License-Identifier: Apache-2.0
 *
 * What is measured of relay/smtp.
 */
#include "bench/micro/dialogue.h"
#include "bench/micro/material.h"
#include "bench/micro/rows.h"
#include "core/base/assert.h"
#include "relay/smtp/address.h"
#include "relay/smtp/body_in.h"
#include "relay/smtp/body_out.h"

void
measure_path(struct micro_run *run)
{
	struct span text = run->row->text;
	unsigned allow = ADDRESS_ALLOW_NULL | ADDRESS_ALLOW_POSTMASTER;
	struct address path;
	size_t used;

	run->bytes = text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		enum address_error error = address_parse_path(text, allow, &path, &used);
		micro_use(&path);
		ASSERT(error == ADDRESS_OK && used == text.size);
	}
	micro_stop(run);
}

/* ---- the receiver ---- */

void
measure_session(struct micro_run *run)
{
	struct receiver r;

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		dialogue_greet(&r);
		receiver_fini(&r);
	}
	micro_stop(run);
}

void
measure_command(struct micro_run *run)
{
	struct receiver r;

	dialogue_greet(&r);
	dialogue_receive(&r, SPAN("MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n"),
			 MATERIAL_PIECE_SIZE, NULL, NULL);
	run->bytes = run->row->text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++)
		dialogue_receive(&r, run->row->text, MATERIAL_PIECE_SIZE, NULL, NULL);
	micro_stop(run);
	receiver_fini(&r);
}

static void
receive_mails(struct micro_run *run, struct span body)
{
	static uint8_t memory[CLIENT_MEMORY];
	struct client_mail mail;
	struct receiver r;

	client_mail_make(&mail, memory, run->row->number, body);
	dialogue_greet(&r);
	run->bytes = body.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		dialogue_receive(&r, mail.flights[0], MATERIAL_PIECE_SIZE, NULL, NULL);
		dialogue_receive(&r, mail.flights[1], MATERIAL_PIECE_SIZE, NULL, NULL);
	}
	micro_stop(run);
	receiver_fini(&r);
}

void
measure_receive(struct micro_run *run)
{
	receive_mails(run, material_mail());
}

void
measure_body(struct micro_run *run)
{
	receive_mails(run, material_text(MATERIAL_PROSE));
}

/* ---- the sender ---- */

void
measure_connect(struct micro_run *run)
{
	static struct peer peer;
	struct sender s;

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++)
		dialogue_connect(&s, &peer, run->row->number);
	micro_stop(run);
}

void
measure_send(struct micro_run *run)
{
	static struct peer peer;
	struct sender s;
	struct sender_recipient recipient = { .address = SPAN("alice.smith@example.org") };
	struct sender_transaction t = {
		.sender = SPAN("orders@shop.example.net"),
		.body_size = MATERIAL_MAIL_SIZE,
		.eight_bit = true,
		.recipient_count = 1,
		.recipients = &recipient,
	};

	dialogue_connect(&s, &peer, run->row->number);
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++)
		dialogue_send(&s, &peer, &t, NULL, NULL);
	micro_stop(run);
}

void
measure_reply(struct micro_run *run)
{
	struct reply r;
	enum reply_event event = REPLY_MORE;

	run->bytes = run->row->text.size;
	reply_init(&r);
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct span in = run->row->text;
		while (in.size > 0)
			in = span_after(in, reply_feed(&r, in, &event));
		micro_use(&r);
		ASSERT(event == REPLY_DONE);
	}
	micro_stop(run);
}

/* ---- bodies, each operation a whole text in pieces ---- */

void
measure_body_in(struct micro_run *run)
{
	struct span text = material_text(run->row->number);

	run->bytes = text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct body_in b;
		body_in_init(&b, true, BODY_REJECT);
		for (struct span in = text; in.size > 0;) {
			enum body_in_event event;
			struct span piece;
			size_t used = body_in_step(&b, span_first(in, MATERIAL_PIECE_SIZE), &event,
						   &piece);
			micro_use(&piece);
			ASSERT(event == BODY_PIECE || event == BODY_MORE);
			in = span_after(in, used);
		}
	}
	micro_stop(run);
}

void
measure_body_out(struct micro_run *run)
{
	static uint8_t memory[MATERIAL_PIECE_SIZE];
	struct span text = material_text(run->row->number);

	run->bytes = text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct body_out b;
		body_out_init(&b);
		for (struct span in = text; in.size > 0;) {
			struct buf out = buf_of(memory, sizeof memory);
			in = span_after(in, body_out_feed(&b, in, &out));
			micro_use(memory);
		}
	}
	micro_stop(run);
}

void
measure_dots(struct micro_run *run)
{
	struct span text = material_text(run->row->number);

	run->bytes = text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct body_dots d;
		body_dots_init(&d);
		for (struct span in = text; in.size > 0; in = span_after(in, MATERIAL_PIECE_SIZE))
			body_dots_feed(&d, span_first(in, MATERIAL_PIECE_SIZE));
		micro_use(&d);
	}
	micro_stop(run);
}
