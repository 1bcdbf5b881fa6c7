/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/submission.h"

#include "core/base/id.h"
#include "relay/flow/flow.h"
#include "relay/message/date.h"
#include "relay/message/mailboxes.h"

enum {
	FROM_MEMORY = 8192, /* of a From field that is checked */
	DATE_FIELD_MAX = 64,
	MESSAGE_ID_FIELD_MAX = 384, /* with a hostname of 255 bytes */
};

bool
submission_is_on(const struct session *s)
{
	return s->listener->role == ROLE_SUBMISSION && s->user != NULL;
}

/* ---- whose is an address? ---- */

/* The local part without its detail; whole where it has none. */
static struct span
without_detail(struct span local, struct span delimiters)
{
	for (size_t i = 1; i < local.size; i++) {
		if (span_find(delimiters, local.data[i], 0) < delimiters.size)
			return span_first(local, i);
	}
	return local;
}

/* An item of a list: an address, @domain, or *. */
static bool
covers(struct span item, struct span delimiters, const struct address *a)
{
	struct span local = item;

	if (span_eq(item, SPAN("*")))
		return true;
	while (local.size > 0 && local.data[local.size - 1] != '@')
		local.size--;
	if (local.size == 0 || !span_eq_nocase(span_after(item, local.size), a->domain))
		return false;
	local.size--;
	return local.size == 0 || span_eq_nocase(local, a->local) ||
	       (!a->quoted && span_eq_nocase(local, without_detail(a->local, delimiters)));
}

bool
submission_is_own(const struct user *u, struct span delimiters, const struct address *a)
{
	struct span list = u->from;
	struct span item;

	if (a->local.size == 0)
		return false;
	if (list.size == 0)
		return span_find(u->name, '@', 0) < u->name.size && covers(u->name, delimiters, a);
	while (user_line_item(&list, &item)) {
		if (covers(item, delimiters, a))
			return true;
	}
	return false;
}

static bool
is_own(const struct session *s, const struct address *a)
{
	return submission_is_own(s->user, s->routing->config->relay.recipient_delimiter, a);
}

enum reply_row
submission_sender(const struct session *s, const struct address *path)
{
	if (path->kind == ADDRESS_NULL)
		return s->routing->config->submission.null_sender ? REPLY_NONE
								  : REPLY_NULL_SENDER_DENIED;
	return is_own(s, path) ? REPLY_NONE : REPLY_SENDER_NOT_YOURS;
}

enum reply_row
submission_from(const struct session *s, struct span value)
{
	uint8_t memory[MAILBOX_MAX];
	struct buf text = buf_of(memory, sizeof memory);
	enum mailboxes_result result;
	struct address address;

	while ((result = mailboxes_next(&value, &text)) == MAILBOXES_NEXT) {
		if (address_parse_mailbox(buf_span(&text), &address) != ADDRESS_OK ||
		    !is_own(s, &address))
			return REPLY_FROM_NOT_YOURS;
	}
	return result == MAILBOXES_END ? REPLY_NONE : REPLY_FROM_NOT_YOURS;
}

/* ---- what is changed ---- */

/* Both empty where there is no memory. */
static struct span
date_field(struct transaction *t)
{
	struct buf b = buf_of(arena_take(&t->memory, DATE_FIELD_MAX), DATE_FIELD_MAX);

	if (b.data == NULL)
		return span_none();
	buf_append(&b, SPAN("Date: "));
	date_write(&b, t->session->flow->worker->now_wall_ms, 0);
	buf_append(&b, SPAN("\r\n"));
	ASSERT(!b.overflow);
	return buf_span(&b);
}

static struct span
message_id_field(struct transaction *t)
{
	struct buf b = buf_of(arena_take(&t->memory, MESSAGE_ID_FIELD_MAX), MESSAGE_ID_FIELD_MAX);

	if (b.data == NULL)
		return span_none();
	buf_append(&b, SPAN("Message-ID: <"));
	id_write(&b, t->envelope.id.high, t->envelope.id.low);
	buf_append_byte(&b, '@');
	buf_append(&b, t->session->routing->config->hostname);
	buf_append(&b, SPAN(">\r\n"));
	ASSERT(!b.overflow);
	return buf_span(&b);
}

bool
submission_begin(struct transaction *t, struct fixup_options *fix)
{
	const struct config_submission *o = &t->session->routing->config->submission;

	fix->drop_bcc = o->remove_bcc;
	if (o->add_date)
		fix->date = date_field(t);
	if (o->add_message_id)
		fix->message_id = message_id_field(t);
	if ((o->add_date && fix->date.size == 0) ||
	    (o->add_message_id && fix->message_id.size == 0))
		return false;
	if (!o->check_from)
		return true;
	void *memory = arena_take(&t->memory, FROM_MEMORY);
	if (memory == NULL)
		return false;
	header_init(&t->header, memory, FROM_MEMORY);
	t->checks_from = true;
	return true;
}
