/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/micro/sample.h"

#include "bench/micro/material.h"

#define TEXT(literal)                                              \
	{                                                          \
		(const uint8_t *)("" literal), sizeof(literal) - 1 \
	}
#define ID         TEXT("06ehq2x8c1v5mz9k3t7bn4wpra")
#define SENDER     TEXT("orders@shop.example.net")
#define RECIPIENT  TEXT("alice.smith@example.org")
#define CLIENT     TEXT("192.0.2.17")
#define HELLO_NAME TEXT("app17.example.net")
#define REPLY_TEXT TEXT("queued as 7m3c9v2k5x8b1n4q6w0ztrhyjd")

enum { ACCEPTED_AT_MS = 1788264000 };

static struct mail_recipient recipient = { .address = RECIPIENT };

static const struct mail_envelope envelope = {
	.id = { 0x1a2b3c4d5e6f7081, 0x92a3b4c5d6e7f809 },
	.accepted_at_ms = ACCEPTED_AT_MS * UINT64_C(1000),
	.body_size = MATERIAL_MAIL_SIZE,
	.sender = SENDER,
	.client = CLIENT,
	.recipient_count = 1,
	.recipients = &recipient,
};

static const struct trace trace = {
	.hello_name = HELLO_NAME,
	.client_address = CLIENT,
	.our_name = TEXT("mx1.example.org"),
	.id = ID,
	.recipient = RECIPIENT,
	.flags = TRACE_ESMTP,
	.wall_ms = ACCEPTED_AT_MS * UINT64_C(1000),
};

static const struct record_line line = {
	.state = RECIPIENT_DELIVERED,
	.reply = TEXT("250 2.0.0 queued as 7m3c9v2k5x8b1n4q6w0ztrhyjd"),
};

static const struct record_change outcome = {
	.type = RECORD_OUTCOME,
	.id = { 0x1a2b3c4d5e6f7081, 0x92a3b4c5d6e7f809 },
	.put_sequence = SAMPLE_SEQUENCE,
	.line_count = 1,
	.lines = &line,
};

static const struct event_received received = {
	.id = ID,
	.peer = TEXT("192.0.2.17:43112"),
	.helo = HELLO_NAME,
	.protocol = TEXT("ESMTP"),
	.sender = SENDER,
	.recipients = 1,
	.size = MATERIAL_MAIL_SIZE,
	.commit = 1,
};

static const struct event_delivery delivery = {
	.id = ID,
	.result = TEXT("delivered"),
	.sender = SENDER,
	.recipient = RECIPIENT,
	.destination = TEXT("smtp://192.0.2.10:25"),
	.peer = TEXT("192.0.2.10:25"),
	.phase = TEXT("end"),
	.code = 250,
	.enhanced = TEXT("2.0.0"),
	.reply = REPLY_TEXT,
	.attempts = 1,
	.size = MATERIAL_MAIL_SIZE,
	.delay_a = 2,
	.delay_d = 3,
};

const struct mail_envelope *
sample_envelope(void)
{
	return &envelope;
}

const struct trace *
sample_trace(void)
{
	return &trace;
}

struct record_put
sample_put(void)
{
	return (struct record_put){
		.envelope = &envelope,
		.body_kind = BODY_INLINE,
		.body_size = MATERIAL_MAIL_SIZE,
	};
}

const struct record_change *
sample_outcome(void)
{
	return &outcome;
}

const struct event_received *
sample_received(void)
{
	return &received;
}

const struct event_delivery *
sample_delivery(void)
{
	return &delivery;
}
