/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/transaction.h"

#include "core/base/clock.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/policy.h"
#include "relay/flow/quota.h"
#include "relay/flow/submission.h"
#include "relay/flow/secure.h"
#include "core/base/id.h"
#include "core/base/utf8.h"
#include "relay/message/trace.h"

enum { ARENA_CHUNK_SIZE = 1024, TLS_TEXT_MAX = 128, TLS_FIELD_MAX = 64 };

static const struct config *
config_of(const struct transaction *t)
{
	return t->session->routing->config;
}

static struct worker *
worker_of(const struct transaction *t)
{
	return t->session->flow->worker;
}

void
transaction_free(struct session *s)
{
	struct transaction *t = s->transaction;

	if (t == NULL)
		return;
	ASSERT(!s->committing);
	vetting_cancel(t);
	if (t->draft != NULL)
		queue_draft_abandon(t->draft);
	quota_give_back(t);
	for (struct recipient_node *n = t->first; n != NULL; n = n->next)
		destination_release(n->destination);
	arena_reset(&t->memory);
	pool_put(&s->flow->transactions, t);
	s->transaction = NULL;
}

static struct transaction *
transaction_new(struct session *s)
{
	struct transaction *t = pool_get(&s->flow->transactions);

	ASSERT(s->transaction == NULL);
	if (t == NULL)
		return NULL;
	*t = (struct transaction){ .session = s, .started_ms = s->flow->worker->now_ms };
	arena_init(&t->memory, ARENA_CHUNK_SIZE, s->routing->config->memory.transaction_size_max);
	header_init(&t->header, t->header_memory, sizeof t->header_memory);
	body_dots_init(&t->dots);
	s->transaction = t;
	return t;
}

/* "local@domain" in the transaction's memory; empty for the null path. */
static bool
copy_path(struct transaction *t, const struct address *path, struct span *out)
{
	size_t size = path->local.size + path->domain.size + (path->domain.size > 0);
	uint8_t *text = arena_take(&t->memory, size + 1);

	if (text == NULL)
		return false;
	struct buf b = buf_of(text, size + 1);
	buf_append(&b, path->local);
	if (path->domain.size > 0) {
		buf_append_byte(&b, '@');
		buf_append(&b, path->domain);
	}
	ASSERT(!b.overflow);
	*out = buf_span(&b);
	return true;
}

/* What of the parameters and the path outlives the command. */
static bool
keep_mail(struct session *s, struct transaction *t, const struct receiver_action *a)
{
	uint8_t memory[64];
	struct buf client = buf_of(memory, sizeof memory);
	struct mail_envelope *e = &t->envelope;
	struct ip ip;

	if (ip_of_sockaddr(&s->peer.any, &ip))
		ip_show(&ip, &client);
	e->id = queue_id_new(s->flow->worker->queue);
	e->ret = a->mail.ret == PARAMS_RET_FULL   ? RET_FULL
		 : a->mail.ret == PARAMS_RET_HDRS ? RET_HEADERS
						  : RET_NONE;
	e->flags = (a->mail.smtputf8 ? MAIL_UTF8 : 0U) |
		   (a->mail.require_tls ? MAIL_TLS_REQUIRED : 0U);
	e->envid = arena_copy(&t->memory, a->mail.envid);
	e->client = arena_copy(&t->memory, buf_span(&client));
	t->declared_size = a->mail.size;
	return copy_path(t, &a->path, &e->sender) && e->envid.data != NULL &&
	       e->client.data != NULL;
}

enum reply_row
transaction_begin(struct session *s, const struct receiver_action *mail,
		  void (*on_booked)(struct transaction *t, enum reply_row row))
{
	struct transaction *t = transaction_new(s);

	if (t == NULL)
		return REPLY_NO_MEMORY;
	if (!keep_mail(s, t, mail)) {
		FLOW_LIMIT_HIT(s->flow, TRANSACTION_SIZE);
		transaction_free(s);
		return REPLY_NO_MEMORY;
	}
	if (!submission_is_on(s)) {
		t->vetting.state = vetting_is_wanted(s) ? VETTING_DUE : VETTING_OFF;
		return REPLY_NONE;
	}
	enum reply_row row = quota_mail(t, on_booked);
	if (row != REPLY_NONE)
		transaction_free(s);
	return row;
}

static struct destination *
find_destination(const struct transaction *t, struct span address)
{
	return destination_of(t->session->flow, t->session->routing, address,
			      destination_need(t->envelope.flags));
}

static enum reply_row
keep_recipient(struct transaction *t, const struct receiver_action *rcpt)
{
	struct recipient_node *n = arena_take(&t->memory, sizeof *n);

	if (n == NULL) {
		FLOW_LIMIT_HIT(t->session->flow, TRANSACTION_SIZE);
		return REPLY_NO_MEMORY;
	}
	n->recipient.notify = (uint8_t)rcpt->rcpt.notify;
	n->recipient.orcpt = arena_copy(&t->memory, rcpt->rcpt.orcpt);
	if (n->recipient.orcpt.data == NULL || !copy_path(t, &rcpt->path, &n->recipient.address))
		return REPLY_NO_MEMORY;
	n->destination = find_destination(t, n->recipient.address);
	if (n->destination == NULL)
		return REPLY_NO_MEMORY;
	destination_hold(n->destination);
	n->recipient.site = n->destination->id;
	if (t->last == NULL)
		t->first = n;
	else
		t->last->next = n;
	t->before_last = t->last;
	t->last = n;
	t->envelope.recipient_count++;
	return REPLY_NONE;
}

enum reply_row
transaction_add_recipient(struct transaction *t, const struct receiver_action *rcpt,
			  void (*on_booked)(struct transaction *t, enum reply_row row))
{
	bool counts = submission_is_on(t->session);
	enum reply_row row = counts ? quota_recipient(t, on_booked) : REPLY_NONE;

	if (row != REPLY_NONE)
		return row;
	row = keep_recipient(t, rcpt);
	if (row == REPLY_NONE)
		return row;
	if (t->quota.waits)
		quota_forget(t);
	else if (counts)
		quota_drop_recipient(t);
	return row;
}

void
transaction_drop_recipient(struct transaction *t)
{
	struct recipient_node *n = t->last;

	ASSERT(n != NULL && t->before_last != n);
	t->last = t->before_last;
	if (t->last == NULL)
		t->first = NULL;
	else
		t->last->next = NULL;
	t->envelope.recipient_count--;
	if (t->quota.recipients > t->envelope.recipient_count)
		quota_drop_recipient(t);
	destination_release(n->destination);
}

void
transaction_queued(struct transaction *t)
{
	t->quota.mail = false; /* it counts now, whatever becomes of it */
	t->quota.recipients = 0;
	for (struct recipient_node *n = t->first; n != NULL; n = n->next)
		destination_queued(n->destination);
}

static bool
hides_client(const struct session *s)
{
	return submission_is_on(s) && s->routing->config->submission.hide_client;
}

static bool
write_trace(struct transaction *t)
{
	const struct session *s = t->session;
	uint8_t id_memory[ID_TEXT_SIZE + 1];
	struct buf id = buf_of(id_memory, sizeof id_memory);
	uint8_t memory[TRACE_SIZE_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	const char *cipher;
	const char *version = secure_version(s, &cipher);
	uint8_t tls_memory[TLS_TEXT_MAX];
	struct buf tls = buf_of(tls_memory, sizeof tls_memory);

	if (version != NULL)
		buf_printf(&tls, "%s %s", version, cipher);
	id_write(&id, t->envelope.id.high, t->envelope.id.low);
	struct trace trace = {
		.hello_name = span_of(s->hello, s->hello_size),
		.client_name = t->vetting.client_name,
		.client_address = t->envelope.client,
		.our_name = config_of(t)->hostname,
		.id = buf_span(&id),
		.recipient = t->envelope.recipient_count == 1 ? t->first->recipient.address
							      : span_none(),
		.tls = buf_span(&tls),
		.flags = (s->esmtp ? TRACE_ESMTP : 0U) | (s->user != NULL ? TRACE_AUTH : 0U) |
			 secure_trace_flags(s) |
			 ((t->envelope.flags & MAIL_UTF8) != 0 ? TRACE_UTF8 : 0U) |
			 (hides_client(s) ? TRACE_HIDDEN : 0U),
		.wall_ms = worker_of(t)->now_wall_ms,
	};
	bool fits = trace_received(&text, &trace);
	ASSERT(fits);
	return queue_draft_append(t->draft, buf_span(&text)) == ERR_OK;
}

/* Above our Received field, so that the order of the fields is that of what happened. */
static bool
write_vetting(struct transaction *t)
{
	uint8_t memory[VETTING_FIELDS_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	if (t->vetting.state != VETTING_DONE)
		return true;
	vetting_write(t, &text);
	return text.size == 0 || queue_draft_append(t->draft, buf_span(&text)) == ERR_OK;
}

/* What is changed of the message while it passes. False: no memory. */
static bool
begin_fixup(struct transaction *t)
{
	const struct session *s = t->session;
	struct fixup_options fix = { 0 };

	if (submission_is_on(s) && !submission_begin(t, &fix))
		return false;
	if (!config_network_contains(&config_of(t)->authserv_trusted, &s->peer.any))
		fix.authserv_id = routing_authserv_id(config_of(t));
	t->is_fixed = submission_is_on(s) || fix.authserv_id.size > 0;
	if (t->is_fixed)
		fixup_init(&t->fixup, &fix);
	return true;
}

static void
drop_draft(struct transaction *t)
{
	if (t->draft != NULL)
		queue_draft_abandon(t->draft);
	t->draft = NULL;
}

enum reply_row
transaction_open_body(struct transaction *t, uint64_t size)
{
	struct queue *q = worker_of(t)->queue;
	uint64_t hint = t->declared_size != 0 ? t->declared_size : size;

	ASSERT(t->draft == NULL);
	bodies_make_room(t->session->flow);
	enum err e = queue_admit(q, hint);
	if (e != ERR_OK)
		return policy_row_of_err(t->session->flow, e);
	t->draft = queue_draft_new(q, t->envelope.id, hint);
	if (t->draft == NULL)
		return REPLY_NO_MEMORY;
	if (!write_vetting(t) || !write_trace(t) || !begin_fixup(t)) {
		drop_draft(t);
		return REPLY_NO_MEMORY;
	}
	t->deadline_ms = worker_of(t)->now_ms + config_of(t)->timeouts.receive.message_ms;
	return REPLY_NONE;
}

/* RFC 8689 3: "No" is all that it can say, and it can stand once. */
static void
look_at_tls_field(struct transaction *t)
{
	uint8_t memory[TLS_FIELD_MAX];
	struct buf value = buf_of(memory, sizeof memory);

	t->tls_fields++;
	t->says_no = !t->header.cut && header_unfold(&t->header, &value) &&
		     span_eq_nocase(span_trim(buf_span(&value)), SPAN("No"));
}

/* A field of the header is whole. */
static enum reply_row
judge_field(struct transaction *t)
{
	if (header_is(&t->header, SPAN("TLS-Required")))
		look_at_tls_field(t);
	if (!t->checks_from || !header_is(&t->header, SPAN("From")))
		return REPLY_NONE;
	enum reply_row row = t->header.cut ? REPLY_FROM_NOT_YOURS
					   : submission_from(t->session, header_value(&t->header));
	if (row != REPLY_NONE)
		flow_event_from_refused(t->session->flow, t->session, header_value(&t->header),
					row);
	return row;
}

/* Looks at the header for loops, size, and the From fields. REPLY_NONE: fine. */
static enum reply_row
judge_header(struct transaction *t, struct span bytes)
{
	const struct config_limits *limits = &config_of(t)->limits;

	while (!t->header_ended && bytes.size > 0) {
		enum header_event event;
		bytes = span_after(bytes, header_feed(&t->header, bytes, &event));
		t->header_ended = event == HEADER_END;
		enum reply_row row = event == HEADER_FIELD ? judge_field(t) : REPLY_NONE;
		if (row != REPLY_NONE)
			return row;
		if (t->header.received > limits->hops_max)
			return REPLY_TOO_MANY_HOPS;
		if (t->header.seen > limits->header_size_max && !t->header_ended)
			return REPLY_HEADER_TOO_BIG;
	}
	return REPLY_NONE;
}

static bool
line_is_too_long(struct transaction *t, struct span bytes)
{
	uint64_t most = config_of(t)->limits.line_size_max;

	if (most == 0)
		return false;
	while (bytes.size > 0) {
		size_t end = span_find(bytes, '\n', 0);
		t->line_size += end;
		if (t->line_size > most)
			return true;
		if (end == bytes.size)
			break;
		t->line_size = 0;
		bytes = span_after(bytes, end + 1);
	}
	return false;
}

/* The recipients as the array that the envelope wants. */
static bool
gather_recipients(struct transaction *t)
{
	uint32_t n = 0;
	struct mail_recipient *all =
		arena_take(&t->memory, t->envelope.recipient_count * sizeof *all);

	if (all == NULL)
		return false;
	for (const struct recipient_node *r = t->first; r != NULL; r = r->next)
		all[n++] = r->recipient;
	ASSERT(n == t->envelope.recipient_count);
	t->envelope.recipients = all;
	return true;
}

static enum reply_row
keep_bytes(struct transaction *t, struct span bytes)
{
	if ((t->envelope.flags & MAIL_EIGHT_BIT) == 0 && utf8_has_non_ascii(bytes))
		t->envelope.flags |= MAIL_EIGHT_BIT;
	body_dots_feed(&t->dots, bytes);
	enum err e = queue_draft_append(t->draft, bytes);
	return e == ERR_OK ? REPLY_NONE : policy_row_of_err(t->session->flow, e);
}

/* As the mail is to be. */
static enum reply_row
keep_fixed(struct transaction *t, struct span bytes)
{
	enum reply_row row = REPLY_NONE;
	struct span piece;

	while (bytes.size > 0 && row == REPLY_NONE) {
		bytes = span_after(bytes, fixup_step(&t->fixup, bytes, &piece));
		if (piece.size > 0)
			row = keep_bytes(t, piece);
	}
	return row;
}

static enum reply_row
refuse_unless_none(struct transaction *t, enum reply_row row)
{
	if (row != REPLY_NONE) {
		t->refused = true;
		drop_draft(t);
	}
	return row;
}

enum reply_row
transaction_add_body(struct transaction *t, struct span bytes)
{
	ASSERT(!t->refused && t->draft != NULL);
	enum reply_row row = judge_header(t, bytes);
	if (row == REPLY_NONE && line_is_too_long(t, bytes))
		row = REPLY_LINES_TOO_LONG;
	if (row == REPLY_NONE)
		row = t->is_fixed ? keep_fixed(t, bytes) : keep_bytes(t, bytes);
	return refuse_unless_none(t, row);
}

/* The mail goes elsewhere than was thought when its recipients were named: where nothing that is
 * published of the way counts. REQUIRETLS goes before the header (RFC 8689 4.1). */
static enum reply_row
take_tls_field(struct transaction *t)
{
	if (t->tls_fields != 1 || !t->says_no || (t->envelope.flags & MAIL_TLS_REQUIRED) != 0)
		return REPLY_NONE;
	t->envelope.flags |= MAIL_TLS_OPTIONAL;
	for (struct recipient_node *n = t->first; n != NULL; n = n->next) {
		struct destination *d = find_destination(t, n->recipient.address);
		if (d == NULL)
			return REPLY_NO_MEMORY;
		destination_hold(d);
		destination_release(n->destination);
		n->destination = d;
		n->recipient.site = d->id;
	}
	return REPLY_NONE;
}

/* What of the header could not be judged before, nor what is missing added. */
static enum reply_row
finish_header(struct transaction *t)
{
	enum reply_row row = REPLY_NONE;
	struct span piece;

	while (!t->header_ended && row == REPLY_NONE) {
		enum header_event event;
		header_finish(&t->header, &event);
		t->header_ended = event == HEADER_END;
		if (event == HEADER_FIELD)
			row = judge_field(t);
	}
	while (t->is_fixed && row == REPLY_NONE && fixup_finish(&t->fixup, &piece))
		row = keep_bytes(t, piece);
	return row == REPLY_NONE ? take_tls_field(t) : row;
}

enum reply_row
transaction_end_body(struct transaction *t)
{
	ASSERT(!t->refused && t->draft != NULL);
	return refuse_unless_none(t, finish_header(t));
}

bool
transaction_put(struct transaction *t, void (*on_done)(struct queue_put *p, enum err e))
{
	ASSERT(t->draft != NULL && t->envelope.recipient_count > 0);
	if (!gather_recipients(t))
		return false;
	if (t->dots.found)
		t->envelope.flags |= MAIL_DOT_LINES;
	t->complete_us = clock_monotonic_us();
	t->envelope.accepted_at_ms = worker_of(t)->now_wall_ms;
	t->envelope.body_size = queue_draft_size(t->draft);
	t->put = (struct queue_put){
		.draft = t->draft,
		.envelope = &t->envelope,
		.on_done = on_done,
	};
	list_init(&t->put.items);
	t->draft = NULL;
	queue_put(worker_of(t)->queue, &t->put);
	return true;
}
