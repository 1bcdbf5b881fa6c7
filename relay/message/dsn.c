/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/dsn.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"
#include "core/base/xtext.h"
#include "relay/message/date.h"
#include "relay/message/dsn_parts.h"

/* "=_" stands in no quoted-printable and no base64. */
#define BOUNDARY_START "=_report_"

enum stage {
	STAGE_HEAD, /* the header, and that of the first part */
	STAGE_TEXT, /* the text for people, a line or a recipient a step */
	STAGE_STATUS_HEAD,
	STAGE_STATUS, /* a recipient a step */
	STAGE_ORIGINAL_HEAD,
	STAGE_ORIGINAL, /* waits for the caller to pass the original on */
	STAGE_END,
	STAGE_DONE,
};

const char *
dsn_action_name(enum dsn_action a)
{
	static const char *const names[DSN_ACTIONS] = {
		[DSN_FAILED] = "failed",
		[DSN_DELAYED] = "delayed",
		[DSN_RELAYED] = "relayed",
		[DSN_DELIVERED] = "delivered",
	};

	ASSERT(a < DSN_ACTIONS);
	return names[a];
}

static struct dsn_recipient
recipient_at(const struct dsn *d, uint32_t index)
{
	const struct dsn_notice *n = d->notice;
	struct dsn_recipient r = { .action = DSN_FAILED };

	ASSERT(index < n->recipient_count);
	n->recipient(n->context, index, &r);
	ASSERT(r.action < DSN_ACTIONS);
	return r;
}

static const struct dsn_template *
template_of(const struct dsn *d, enum dsn_action a)
{
	const struct dsn_template *own = d->notice->templates;

	return own != NULL && own[a].subject.size > 0 ? &own[a] : dsn_built_in(a);
}

static enum dsn_action
gravest(const struct dsn *d)
{
	unsigned a = 0;

	while (a < DSN_ACTIONS && d->counts[a] == 0)
		a++;
	ASSERT(a < DSN_ACTIONS);
	return (enum dsn_action)a;
}

/* What the parts' headers must say about what is only written later. */
static void
look_ahead(struct dsn *d)
{
	const struct dsn_notice *n = d->notice;

	d->global = utf8_has_non_ascii(n->sender);
	for (uint32_t i = 0; i < n->recipient_count; i++) {
		struct dsn_recipient r = recipient_at(d, i);
		d->counts[r.action]++;
		d->global =
			d->global || utf8_has_non_ascii(r.address) || utf8_has_non_ascii(r.orcpt);
		d->text_eight_bit = d->text_eight_bit || utf8_has_non_ascii(r.reply) ||
				    utf8_has_non_ascii(r.remote);
	}
	for (unsigned a = 0; a < DSN_ACTIONS; a++) {
		const struct dsn_template *t = template_of(d, (enum dsn_action)a);
		if (d->counts[a] > 0 && utf8_has_non_ascii(t->body))
			d->text_eight_bit = true;
	}
	d->text_eight_bit = d->text_eight_bit || d->global;
}

void
dsn_init(struct dsn *d, const struct dsn_notice *n)
{
	struct buf boundary;

	ASSERT(n->recipient_count > 0);
	ASSERT(n->token.size > 0 && n->token.size <= DSN_TOKEN_MAX);
	*d = (struct dsn){ .notice = n, .stage = STAGE_HEAD };
	boundary = buf_of(d->boundary, sizeof d->boundary);
	buf_append(&boundary, SPAN(BOUNDARY_START));
	buf_append(&boundary, n->token);
	ASSERT(!boundary.overflow);
	d->boundary_size = (uint8_t)boundary.size;
	look_ahead(d);
	d->action = (uint8_t)gravest(d);
}

bool
dsn_is_utf8(const struct dsn *d)
{
	return utf8_has_non_ascii(d->notice->sender);
}

static bool
original_is_eight_bit(const struct dsn *d)
{
	return d->notice->part != DSN_PART_NONE && (d->notice->eight_bit || d->notice->utf8);
}

bool
dsn_is_eight_bit(const struct dsn *d)
{
	return d->text_eight_bit || d->global || original_is_eight_bit(d);
}

/* ---- the header ---- */

static void
write_boundary(const struct dsn *d, struct buf *out, bool last)
{
	buf_append(out, SPAN("\r\n--"));
	buf_append(out, span_of(d->boundary, d->boundary_size));
	buf_append_string(out, last ? "--\r\n" : "\r\n");
}

static void
write_date(struct buf *out, const struct dsn_notice *n, uint64_t ms)
{
	date_write(out, ms, n->offset_min);
}

static void
write_encoding(struct buf *out, bool eight_bit)
{
	buf_append_string(out, eight_bit ? "Content-Transfer-Encoding: 8bit\r\n"
					 : "Content-Transfer-Encoding: 7bit\r\n");
}

/* The values of the placeholders, in memory of `text`. */
static void
gather_values(const struct dsn *d, struct buf *text, struct span values[DSN_VALUES])
{
	static const char *const returned[] = {
		[DSN_PART_NONE] = "The message itself could not be attached.",
		[DSN_PART_HEADER] = "The header of the message is attached.",
		[DSN_PART_WHOLE] = "The message is attached.",
	};
	const struct dsn_notice *n = d->notice;
	size_t from[4];

	from[0] = text->size;
	write_date(text, n, n->arrived_ms);
	from[1] = text->size;
	write_date(text, n, n->retry_until_ms);
	from[2] = text->size;
	buf_append_number(text, d->counts[d->action]);
	from[3] = text->size;
	if (!xtext_decode(n->envid, text))
		text->size = from[3];
	values[DSN_VALUE_HOSTNAME] = n->hostname;
	values[DSN_VALUE_SENDER] = n->sender;
	values[DSN_VALUE_QUEUE_ID] = n->original_id;
	values[DSN_VALUE_MESSAGE_ID] = n->message_id;
	values[DSN_VALUE_RETURNED] = span_of_string(returned[n->part]);
	values[DSN_VALUE_ARRIVAL_DATE] = span_of(text->data + from[0], from[1] - from[0]);
	values[DSN_VALUE_RETRY_UNTIL] = span_of(text->data + from[1], from[2] - from[1]);
	values[DSN_VALUE_COUNT] = span_of(text->data + from[2], from[3] - from[2]);
	values[DSN_VALUE_ENVELOPE_ID] = span_of(text->data + from[3], text->size - from[3]);
}

static void
expand(const struct dsn *d, struct span line, struct buf *out)
{
	uint8_t memory[512];
	struct buf text = buf_of(memory, sizeof memory);
	struct span values[DSN_VALUES];

	gather_values(d, &text, values);
	dsn_template_expand(out, line, values);
}

static void
write_subject(const struct dsn *d, struct buf *out)
{
	uint8_t memory[DSN_LINE_EXPANDED_MAX];
	struct buf line = buf_of(memory, sizeof memory);

	expand(d, template_of(d, gravest(d))->subject, &line);
	buf_append(out, SPAN("Subject: "));
	dsn_header_text(out, buf_span(&line), 9);
	buf_append(out, SPAN("\r\n"));
}

/* Is it "<something>" that may stand in a header of ours? */
static bool
is_message_id(struct span id)
{
	if (id.size < 3 || id.size > 900 || id.data[0] != '<' || id.data[id.size - 1] != '>')
		return false;
	for (size_t i = 1; i < id.size - 1; i++) {
		if (id.data[i] <= ' ' || id.data[i] >= 0x7f || id.data[i] == '<' ||
		    id.data[i] == '>')
			return false;
	}
	return true;
}

static void
write_names(const struct dsn *d, struct buf *out)
{
	const struct dsn_notice *n = d->notice;

	buf_append(out, SPAN("From: Mail Delivery System <"));
	if (n->from.size > 0) {
		dsn_clean(out, n->from, 320, DSN_CLEAN_ASCII);
	} else {
		buf_append(out, SPAN("MAILER-DAEMON@"));
		dsn_clean(out, n->hostname, 255, DSN_CLEAN_ASCII);
	}
	buf_append(out, SPAN(">\r\nTo: <"));
	dsn_clean(out, n->sender, 512, DSN_CLEAN_UTF8);
	buf_append(out, SPAN(">\r\nDate: "));
	write_date(out, n, n->now_ms);
	buf_append(out, SPAN("\r\nMessage-ID: <"));
	dsn_clean(out, n->id, 64, DSN_CLEAN_ASCII);
	buf_append_byte(out, '@');
	dsn_clean(out, n->hostname, 255, DSN_CLEAN_ASCII);
	buf_append(out, SPAN(">\r\n"));
	if (is_message_id(n->message_id)) {
		buf_append(out, SPAN("In-Reply-To: "));
		buf_append(out, n->message_id);
		buf_append(out, SPAN("\r\nReferences: "));
		buf_append(out, n->message_id);
		buf_append(out, SPAN("\r\n"));
	}
}

static void
write_head(const struct dsn *d, struct buf *out)
{
	write_names(d, out);
	write_subject(d, out);
	buf_append(out, SPAN("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
			     "Content-Type: multipart/report; report-type="));
	buf_append_string(out, d->global ? "global-delivery-status" : "delivery-status");
	buf_append(out, SPAN(";\r\n\tboundary=\""));
	buf_append(out, span_of(d->boundary, d->boundary_size));
	buf_append(out, SPAN("\"\r\n"));
	write_encoding(out, dsn_is_eight_bit(d));
	buf_append(out, SPAN("\r\nThis is a report about a message, in MIME format.\r\n"));
	write_boundary(d, out, false);
	buf_append(out, SPAN("Content-Description: Report\r\nContent-Type: text/plain; charset="));
	buf_append_string(out, d->text_eight_bit ? "utf-8\r\n" : "us-ascii\r\n");
	write_encoding(out, d->text_eight_bit);
	buf_append(out, SPAN("\r\n"));
}

/* ---- the text for people ---- */

/* What happened to one, with the server's name and its reply in its own words. */
static void
write_block(const struct dsn_recipient *r, struct buf *out)
{
	uint8_t memory[2048];
	struct buf text = buf_of(memory, sizeof memory);
	struct span reply = r->reply;

	buf_append_byte(&text, '<');
	dsn_clean(&text, r->address, 512, DSN_CLEAN_UTF8);
	buf_append_byte(&text, '>');
	buf_append(out, SPAN("    "));
	dsn_wrap(out, buf_span(&text), 4, "    ");
	buf_append(out, SPAN("\r\n"));
	buf_reset(&text);
	while (reply.size > 0 && reply.data[reply.size - 1] <= ' ')
		reply.size--;
	if (reply.size == 0)
		return;
	if (dsn_is_expired(r))
		buf_append(&text, SPAN("It was tried until its time was over. The last time:\n"));
	if (r->from_remote && r->remote.size > 0) {
		buf_append(&text, SPAN("The server "));
		dsn_clean(&text, r->remote, 300, DSN_CLEAN_UTF8);
		buf_append(&text, SPAN(" said:\n"));
	} else if (r->from_remote) {
		buf_append(&text, SPAN("The server said:\n"));
	}
	dsn_clean(&text, reply, 1024, DSN_CLEAN_LINES);
	buf_append(out, SPAN("        "));
	dsn_wrap(out, buf_span(&text), 8, "        ");
	buf_append(out, SPAN("\r\n"));
}

static void
write_text_line(const struct dsn *d, struct span line, struct buf *out)
{
	uint8_t memory[DSN_LINE_EXPANDED_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	expand(d, line, &text);
	/* A value may be made to look like a boundary; behind a blank it is none. */
	bool is_odd = memmem(text.data, text.size, "--" BOUNDARY_START,
			     sizeof "--" BOUNDARY_START - 1) != NULL;
	const char *indent = is_odd ? " " : "";
	buf_append_string(out, indent);
	/* What fits is left as its author laid it out. */
	if (text.size <= DSN_LINE_WIDTH + 2)
		buf_append(out, buf_span(&text));
	else
		dsn_wrap(out, buf_span(&text), strlen(indent), indent);
	buf_append(out, SPAN("\r\n"));
}

/* The next recipient with the action in hand, and an empty line between two. */
static void
write_next_block(struct dsn *d, struct buf *out)
{
	while (d->index < d->notice->recipient_count) {
		struct dsn_recipient r = recipient_at(d, d->index++);
		if (r.action == d->action) {
			if (d->listed++ > 0)
				buf_append(out, SPAN("\r\n"));
			write_block(&r, out);
			return;
		}
	}
	d->in_list = false;
	d->listed = 0;
}

/* A line of the template, or a recipient. False: the text is over. */
static bool
write_text(struct dsn *d, struct buf *out)
{
	struct span body = template_of(d, (enum dsn_action)d->action)->body;
	struct span line;

	if (d->in_list) {
		write_next_block(d, out);
		return true;
	}
	if (dsn_template_line(body, &d->at, &line)) {
		d->in_list = dsn_template_is_list(line);
		d->index = 0;
		if (!d->in_list)
			write_text_line(d, line, out);
		return true;
	}
	d->at = 0;
	do
		d->action++;
	while (d->action < DSN_ACTIONS && d->counts[d->action] == 0);
	if (d->action == DSN_ACTIONS)
		return false;
	buf_append(out, SPAN("\r\n"));
	return true;
}

/* ---- the original ---- */

static void
write_original_head(const struct dsn *d, struct buf *out)
{
	const struct dsn_notice *n = d->notice;

	if (n->part == DSN_PART_NONE)
		return;
	write_boundary(d, out, false);
	buf_append_string(out, n->part == DSN_PART_WHOLE
				       ? "Content-Description: Message\r\nContent-Type: "
				       : "Content-Description: Header of the message\r\n"
					 "Content-Type: ");
	if (n->part == DSN_PART_WHOLE)
		buf_append_string(out, n->utf8 ? "message/global\r\n" : "message/rfc822\r\n");
	else
		buf_append_string(out, n->utf8 ? "message/global-headers\r\n"
					       : "text/rfc822-headers\r\n");
	write_encoding(out, original_is_eight_bit(d));
	buf_append(out, SPAN("\r\n"));
}

/* Within a line that may still be a boundary: compares up to its LF or the first difference. */
static bool
match_byte(struct dsn *d, uint8_t c)
{
	uint8_t want = d->matched < 2 ? '-' : (uint8_t)d->boundary[d->matched - 2];

	d->matched = c == want ? d->matched + 1 : SIZE_MAX;
	return d->matched != d->boundary_size + 2U;
}

bool
dsn_pass(struct dsn *d, struct span bytes)
{
	ASSERT(d->stage == STAGE_ORIGINAL);
	ASSERT(bytes.size <= d->notice->original_size - d->passed);
	d->passed += bytes.size;
	while (bytes.size > 0) {
		if (d->matched == SIZE_MAX) {
			size_t end = span_find(bytes, '\n', 0);
			d->last_byte = bytes.data[end < bytes.size ? end : bytes.size - 1];
			d->matched = end < bytes.size ? 0 : SIZE_MAX;
			bytes = span_after(bytes, end + 1);
			continue;
		}
		d->last_byte = bytes.data[0];
		if (bytes.data[0] == '\n')
			d->matched = 0;
		else if (!match_byte(d, bytes.data[0]))
			return false;
		bytes = span_after(bytes, 1);
	}
	return true;
}

/* ---- the whole ---- */

static void
write_end(const struct dsn *d, struct buf *out)
{
	ASSERT(d->notice->part == DSN_PART_NONE || d->passed == d->notice->original_size);
	/* The line end in front of a boundary belongs to the boundary. */
	write_boundary(d, out, true);
}

static void
step(struct dsn *d, struct buf *out)
{
	switch ((enum stage)d->stage) {
	case STAGE_HEAD:
		write_head(d, out);
		d->stage = STAGE_TEXT;
		return;
	case STAGE_TEXT:
		if (!write_text(d, out))
			d->stage = STAGE_STATUS_HEAD;
		return;
	case STAGE_STATUS_HEAD:
		write_boundary(d, out, false);
		dsn_write_message_fields(out, d->notice, d->global);
		d->index = 0;
		d->stage = STAGE_STATUS;
		return;
	case STAGE_STATUS:
		if (d->index < d->notice->recipient_count) {
			struct dsn_recipient r = recipient_at(d, d->index++);
			dsn_write_recipient_fields(out, d->notice, &r, d->global);
			return;
		}
		d->stage = STAGE_ORIGINAL_HEAD;
		return;
	case STAGE_ORIGINAL_HEAD:
		write_original_head(d, out);
		d->passed = 0;
		d->matched = 0;
		d->stage = d->notice->part == DSN_PART_NONE ? STAGE_END : STAGE_ORIGINAL;
		return;
	case STAGE_ORIGINAL: /* dsn_next() */
	case STAGE_DONE:
		ASSERT(false);
		return;
	case STAGE_END:
		write_end(d, out);
		d->stage = STAGE_DONE;
		return;
	}
}

enum dsn_event
dsn_next(struct dsn *d, struct buf *out)
{
	ASSERT(buf_room(out) >= DSN_PIECE_MAX || d->stage == STAGE_DONE);
	/* The caller comes back from passing the original on. */
	if (d->stage == STAGE_ORIGINAL)
		d->stage = STAGE_END;
	while (d->stage != STAGE_DONE && d->stage != STAGE_ORIGINAL) {
		if (buf_room(out) < DSN_PIECE_MAX)
			return DSN_MORE;
		step(d, out);
		ASSERT(!out->overflow);
	}
	return d->stage == STAGE_DONE ? DSN_DONE : DSN_ORIGINAL;
}
