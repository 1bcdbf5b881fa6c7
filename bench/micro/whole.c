/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole way of one mail of 1 KiB through everything that is pure, as relay/flow and queue/spool
 * go it: receiver, envelope, trace, header, record of the put, both events, sender, record of the
 * outcome, metrics. What is left out is the kernel, the spool's index and the log thread.
 */
#include <stdlib.h>

#include "bench/micro/dialogue.h"
#include "bench/micro/material.h"
#include "bench/micro/rows.h"
#include "bench/micro/sample.h"
#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/id.h"
#include "core/base/net_address.h"
#include "core/metric.h"
#include "queue/spool/crc32c.h"
#include "relay/message/header.h"
#include "relay/smtp/body_out.h"

enum {
	BODY_MEMORY = 4096,
	COMMIT_MEMORY = 65536,
	LOG_RING = 1 << 20,
	MAILS_A_DRAIN = 256, /* their events fit the ring */
};

/* A worker with one client and one connection to a next hop. */
struct relay {
	struct receiver receiver;
	struct sender sender;
	struct peer peer;
	struct log *log;
	struct log_ring *ring;
	struct net_address client;
	struct net_address next_hop;
	/* The mail in hand. */
	struct arena memory;
	struct mail_envelope envelope;
	struct mail_recipient recipient;
	struct header header;
	bool header_ended;
	struct body_dots dots;
	uint32_t crc;
	struct buf body;
	/* The batch of the spool. */
	struct buf commit;
	uint64_t lsn;
	struct metrics metrics;
	uint8_t header_memory[256];
	uint8_t body_memory[BODY_MEMORY];
	uint8_t commit_memory[COMMIT_MEMORY];
};

/* ---- in ---- */

static struct span
keep_path(struct relay *r, const struct address *path)
{
	size_t size = path->local.size + 1 + path->domain.size;
	struct buf out = buf_of(arena_take(&r->memory, size), size);

	buf_append(&out, path->local);
	buf_append_byte(&out, '@');
	buf_append(&out, path->domain);
	return buf_span(&out);
}

static void
on_mail(struct relay *r, const struct receiver_action *a)
{
	uint8_t memory[64];
	struct buf client = buf_of(memory, sizeof memory);

	arena_init(&r->memory, 1024, COMMIT_MEMORY);
	header_init(&r->header, r->header_memory, sizeof r->header_memory);
	body_dots_init(&r->dots);
	net_address_show_ip(&r->client, &client);
	r->envelope = (struct mail_envelope){
		.id = sample_envelope()->id,
		.sender = keep_path(r, &a->path),
		.client = arena_copy(&r->memory, buf_span(&client)),
		.recipients = &r->recipient,
	};
	r->header_ended = false;
	r->crc = 0;
	r->body = buf_of(r->body_memory, sizeof r->body_memory);
}

static void
on_recipient(struct relay *r, const struct receiver_action *a)
{
	r->recipient = (struct mail_recipient){
		.address = keep_path(r, &a->path),
		.notify = (uint8_t)a->rcpt.notify,
	};
	r->envelope.recipient_count++;
}

static void
keep_body(struct relay *r, struct span bytes)
{
	r->crc = crc32c(r->crc, bytes.data, bytes.size);
	buf_append(&r->body, bytes);
}

static void
on_data(struct relay *r)
{
	uint8_t id_memory[ID_TEXT_SIZE];
	uint8_t memory[TRACE_SIZE_MAX];
	struct buf id = buf_of(id_memory, sizeof id_memory);
	struct buf text = buf_of(memory, sizeof memory);
	struct trace trace = *sample_trace();

	id_write(&id, r->envelope.id.high, r->envelope.id.low);
	trace.id = buf_span(&id);
	trace.client_address = r->envelope.client;
	trace.recipient = r->recipient.address;
	trace_received(&text, &trace);
	keep_body(r, buf_span(&text));
}

static void
on_body(struct relay *r, struct span bytes)
{
	struct span in = bytes;

	while (!r->header_ended && in.size > 0) {
		enum header_event event;
		in = span_after(in, header_feed(&r->header, in, &event));
		r->header_ended = event == HEADER_END;
	}
	body_dots_feed(&r->dots, bytes);
	keep_body(r, bytes);
}

static struct span
peer_name(const struct net_address *a, struct buf *memory)
{
	buf_reset(memory);
	net_address_show(a, memory);
	return buf_span(memory);
}

static void
on_commit(struct relay *r)
{
	uint8_t id_memory[ID_TEXT_SIZE];
	uint8_t memory[128];
	struct buf id = buf_of(id_memory, sizeof id_memory);
	struct buf name = buf_of(memory, sizeof memory);
	struct record_put put = {
		.envelope = &r->envelope,
		.body_kind = BODY_INLINE,
		.body_crc = r->crc,
		.body_size = r->body.size,
	};
	struct event_received event = *sample_received();

	r->envelope.body_size = r->body.size;
	record_write_put(&r->commit, &put, SAMPLE_EPOCH, SAMPLE_PLACE);
	buf_append(&r->commit, buf_span(&r->body));
	record_pad(&r->commit);
	METRIC_ADD(&r->metrics, MAILS_ACCEPTED, 1);
	METRIC_ADD(&r->metrics, RECIPIENTS_ACCEPTED, r->envelope.recipient_count);
	METRIC_OBSERVE(&r->metrics, COMMIT_TIME, 900);
	id_write(&id, r->envelope.id.high, r->envelope.id.low);
	event.id = buf_span(&id);
	event.peer = peer_name(&r->client, &name);
	event.sender = r->envelope.sender;
	event.size = r->body.size;
	event_received(r->ring, &event);
}

static void
on_receiver(void *context, const struct receiver_action *a)
{
	struct relay *r = context;

	switch (a->kind) {
	case RECEIVER_ASK_MAIL:
		on_mail(r, a);
		break;
	case RECEIVER_ASK_RCPT:
		on_recipient(r, a);
		break;
	case RECEIVER_ASK_DATA:
		on_data(r);
		break;
	case RECEIVER_BODY:
		on_body(r, a->data);
		break;
	case RECEIVER_ASK_COMMIT:
		on_commit(r);
		break;
	case RECEIVER_REPLY:
		METRIC_ADD_LABEL(&r->metrics, REPLIES, LABEL_REPLY_2XX, 1);
		break;
	default:
		break;
	}
}

/* ---- out ---- */

static void
on_outcome(struct relay *r, const struct sender_outcome *o)
{
	uint8_t memory[128];
	uint8_t id_memory[ID_TEXT_SIZE];
	uint8_t reply_memory[512];
	struct buf name = buf_of(memory, sizeof memory);
	struct buf id = buf_of(id_memory, sizeof id_memory);
	struct buf reply = buf_of(reply_memory, sizeof reply_memory);
	struct event_delivery event = *sample_delivery();

	ASSERT(o->class == SENDER_OK);
	sender_outcome_show(o, &reply);
	struct record_line line = { .state = RECIPIENT_DELIVERED, .reply = buf_span(&reply) };
	struct record_change change = *sample_outcome();
	change.lines = &line;
	record_write_change(&r->commit, &change, SAMPLE_EPOCH, SAMPLE_PLACE);
	id_write(&id, r->envelope.id.high, r->envelope.id.low);
	struct span rest = span_after(line.reply, sizeof "250 " - 1);
	size_t end = span_find(rest, ' ', 0);
	event.id = buf_span(&id);
	event.peer = peer_name(&r->next_hop, &name);
	event.enhanced = span_first(rest, end);
	event.reply = span_after(rest, end + 1);
	event_delivery(r->ring, &event);
}

static void
on_sender(void *context, const struct sender_action *a)
{
	if (a->kind == SENDER_RECIPIENT_OUTCOME)
		on_outcome(context, &a->outcome);
}

static void
pass_on(struct relay *r)
{
	struct sender_recipient recipient = { .address = r->recipient.address };
	struct sender_transaction t = {
		.sender = r->envelope.sender,
		.body_size = r->body.size,
		.recipient_count = 1,
		.recipients = &recipient,
	};

	dialogue_send(&r->sender, &r->peer, &t, on_sender, r);
	arena_reset(&r->memory);
}

/* One commit for each mail and its outcome; in the daemon many mails share one. */
static void
pass_one_mail(struct relay *r, const struct client_mail *mail)
{
	r->commit = buf_of(r->commit_memory, sizeof r->commit_memory);
	r->commit.size = FRAME_SIZE;
	dialogue_receive(&r->receiver, mail->flights[0], MATERIAL_PIECE_SIZE, on_receiver, r);
	dialogue_receive(&r->receiver, mail->flights[1], MATERIAL_PIECE_SIZE, on_receiver, r);
	pass_on(r);
	struct frame f = { .epoch = SAMPLE_EPOCH,
			   .lsn = ++r->lsn,
			   .acked = r->lsn - 1,
			   .place = SAMPLE_PLACE,
			   .size = (uint32_t)r->commit.size,
			   .count = 2 };
	frame_write(r->commit_memory, &f);
	micro_use(r->commit_memory);
}

static void
start(struct relay *r)
{
	int error;

	bool good = net_address_parse(SPAN("192.0.2.17:43112"), &r->client) &&
		    net_address_parse(SPAN("192.0.2.10:25"), &r->next_hop);
	ASSERT(good);
	r->log = log_new(1, LOG_RING, "/dev/null", &error);
	ASSERT(r->log != NULL);
	r->ring = log_ring(r->log, 0, &r->metrics);
	dialogue_greet(&r->receiver);
	dialogue_connect(&r->sender, &r->peer, PEER_CHUNKING);
}

void
measure_whole(struct micro_run *run)
{
	static uint8_t memory[CLIENT_MEMORY];
	static struct relay relay;
	struct client_mail mail;

	client_mail_make(&mail, memory, run->row->number, material_mail());
	relay = (struct relay){ .lsn = 0 };
	start(&relay);
	run->bytes = MATERIAL_MAIL_SIZE;
	for (uint64_t left = run->operations; left > 0;) {
		uint64_t count = left < MAILS_A_DRAIN ? left : MAILS_A_DRAIN;
		micro_go(run);
		for (uint64_t i = 0; i < count; i++)
			pass_one_mail(&relay, &mail);
		micro_stop(run);
		while (log_drain(relay.log) > 0)
			; /* the log thread's share, see log.line */
		left -= count;
	}
	receiver_fini(&relay.receiver);
	log_free(relay.log);
}
