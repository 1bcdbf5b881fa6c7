/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/reply.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"

enum state {
	STATE_CODE,         /* at the start of a line; waits for three digits */
	STATE_SEPARATOR,    /* behind the code; waits for blank, '-' or the end of the line */
	STATE_SEPARATOR_CR, /* behind code and CR; waits for the LF */
	STATE_TEXT_MORE,    /* in the text of a line that is not the last */
	STATE_TEXT_LAST,    /* in the text of the last line */
	STATE_DONE,         /* the reply is complete; the next byte begins another */
	STATE_BAD,          /* stays */
};

void
reply_init(struct reply *r)
{
	/* The text is left as it is: nobody reads past text_size. */
	r->code = 0;
	r->text_size = 0;
	r->line_at = 0;
	r->cut = false;
	r->status = (struct reply_status){ 0 };
	r->state = STATE_CODE;
	r->digits = 0;
	r->line_code = 0;
	r->line_size = 0;
	r->lines = 0;
}

static void
append_text(struct reply *r, struct span s)
{
	size_t room = REPLY_TEXT_MAX - r->text_size;
	size_t take = s.size < room ? s.size : room;

	if (take > 0)
		memcpy(r->text + r->text_size, s.data, take);
	r->text_size = (uint16_t)(r->text_size + take);
	for (size_t i = take; i < s.size && !r->cut; i++)
		r->cut = s.data[i] != '\r' && s.data[i] != '\n';
}

/* A number of one to three digits at *at, which moves behind it. */
static bool
read_number(struct span s, size_t *at, uint16_t *out)
{
	size_t start = *at;
	unsigned value = 0;

	while (*at < s.size && *at - start < 3 && s.data[*at] >= '0' && s.data[*at] <= '9')
		value = value * 10 + (unsigned)(s.data[(*at)++] - '0');
	*out = (uint16_t)value;
	return *at > start;
}

/* The size of an enhanced code at the start of s, with the blank behind it; 0 for none. One whose
 * class is not that of the reply is no code but text (RFC 2034 4). */
static size_t
read_status(struct span s, unsigned class, struct reply_status *out)
{
	size_t at = 1;

	if (s.size < 5 || s.data[0] != '0' + class || class == 3 || s.data[at] != '.')
		return 0;
	out->status_class = (uint16_t) class;
	at++;
	if (!read_number(s, &at, &out->subject) || at >= s.size || s.data[at] != '.')
		return 0;
	at++;
	if (!read_number(s, &at, &out->detail))
		return 0;
	if (at < s.size && s.data[at] != ' ')
		return 0;
	return at < s.size ? at + 1 : at;
}

/* Blanks for controls, '?' for what is not UTF-8; a character that the limit has cut goes. */
static void
clean_line(struct reply *r)
{
	size_t at = r->line_at;

	while (at < r->text_size) {
		if (r->text[at] >= ' ' && r->text[at] < 0x7f) {
			at++; /* what nearly all of it is */
			continue;
		}
		struct span rest = span_of(r->text + at, r->text_size - at);
		size_t length = utf8_length(rest);
		if (length == 0 && r->cut && rest.size < 4 && rest.data[0] >= 0xc2) {
			r->text_size = (uint16_t)at;
			return;
		}
		if (length == 0)
			r->text[at] = '?';
		else if (r->text[at] < ' ' || r->text[at] == 0x7f)
			r->text[at] = ' ';
		at += length == 0 ? 1 : length;
	}
}

static enum reply_event
end_line(struct reply *r, bool last)
{
	struct reply_status status;

	if (++r->lines > REPLY_LINES_MAX)
		return REPLY_BAD;
	clean_line(r);
	size_t skip = read_status(reply_line(r), reply_class(r), &status);
	if (skip > 0) {
		if (r->status.status_class == 0)
			r->status = status;
		memmove(r->text + r->line_at, r->text + r->line_at + skip,
			r->text_size - r->line_at - skip);
		r->text_size = (uint16_t)(r->text_size - skip);
	}
	while (r->text_size > r->line_at && r->text[r->text_size - 1] == ' ')
		r->text_size--;
	return last ? REPLY_DONE : REPLY_LINE;
}

static void
begin_line(struct reply *r)
{
	r->line_code = 0;
	r->line_size = 0;
	if (r->text_size > 0)
		append_text(r, SPAN("\n"));
	r->line_at = r->text_size;
}

/* One digit of the code; false where it cannot be one. */
static bool
take_digit(struct reply *r, uint8_t c)
{
	if (r->digits == 0)
		begin_line(r);
	if (c < '0' || c > '9' || (r->digits == 0 && (c < '2' || c > '5')))
		return false;
	r->line_code = (uint16_t)(r->line_code * 10 + (c - '0'));
	if (++r->digits < 3)
		return true;
	if (r->code != 0 && r->code != r->line_code)
		return false;
	r->code = r->line_code;
	r->state = STATE_SEPARATOR;
	return true;
}

/* The byte behind the code, or behind a CR there. */
static enum reply_event
take_separator(struct reply *r, uint8_t c)
{
	if (c == '\n')
		return end_line(r, true);
	if (r->state == STATE_SEPARATOR_CR)
		return REPLY_BAD;
	switch (c) {
	case ' ':
	case '\t':
		r->state = STATE_TEXT_LAST;
		return REPLY_MORE;
	case '-':
		r->state = STATE_TEXT_MORE;
		return REPLY_MORE;
	case '\r':
		r->state = STATE_SEPARATOR_CR;
		return REPLY_MORE;
	default:
		return REPLY_BAD;
	}
}

/* Text up to the end of the line or of the input; *used moves behind what was taken. */
static enum reply_event
take_text(struct reply *r, struct span in, size_t *used)
{
	size_t end = span_find(in, '\n', *used);
	size_t take = (end < in.size ? end + 1 : in.size) - *used;

	if (take > (size_t)REPLY_LINE_MAX - r->line_size)
		return REPLY_BAD;
	struct span text = span_of(in.data + *used, end - *used);
	r->line_size = (uint16_t)(r->line_size + take);
	*used += take;
	append_text(r, text);
	return end < in.size ? end_line(r, r->state == STATE_TEXT_LAST) : REPLY_MORE;
}

static enum reply_event
take_some(struct reply *r, struct span in, size_t *used)
{
	if (r->state == STATE_TEXT_MORE || r->state == STATE_TEXT_LAST)
		return take_text(r, in, used);
	uint8_t c = in.data[(*used)++];
	if (r->state != STATE_CODE) {
		r->line_size++;
		return take_separator(r, c);
	}
	bool good = take_digit(r, c);
	r->line_size++;
	return good ? REPLY_MORE : REPLY_BAD;
}

size_t
reply_feed(struct reply *r, struct span in, enum reply_event *event)
{
	size_t used = 0;

	*event = r->state == STATE_BAD ? REPLY_BAD : REPLY_MORE;
	if (r->state == STATE_DONE && in.size > 0)
		reply_init(r);
	/* Every turn takes at least one byte. */
	while (*event == REPLY_MORE && used < in.size)
		*event = take_some(r, in, &used);
	if (*event == REPLY_LINE) {
		r->state = STATE_CODE;
		r->digits = 0;
	} else if (*event == REPLY_DONE) {
		r->state = STATE_DONE;
	} else if (*event == REPLY_BAD) {
		r->state = STATE_BAD;
	}
	return used;
}

struct span
reply_text(const struct reply *r)
{
	return span_of(r->text, r->text_size);
}

struct span
reply_line(const struct reply *r)
{
	return span_of(r->text + r->line_at, (size_t)(r->text_size - r->line_at));
}

void
reply_forget_text(struct reply *r)
{
	ASSERT(r->state == STATE_CODE);
	r->text_size = 0;
	r->line_at = 0;
	r->cut = false;
}

unsigned
reply_class(const struct reply *r)
{
	return r->code / 100U;
}

bool
reply_is_done(const struct reply *r)
{
	return r->state == STATE_DONE;
}

bool
reply_show(const struct reply *r, struct buf *out)
{
	uint8_t memory[32]; /* "550 5.123.456" */
	struct buf head = buf_of(memory, sizeof memory);

	buf_append_digits(&head, r->code, 3);
	if (r->status.status_class != 0) {
		buf_append_byte(&head, ' ');
		buf_append_number(&head, r->status.status_class);
		buf_append_byte(&head, '.');
		buf_append_number(&head, r->status.subject);
		buf_append_byte(&head, '.');
		buf_append_number(&head, r->status.detail);
	}
	ASSERT(!head.overflow);
	bool fits = buf_append(out, buf_span(&head));
	if (fits && r->text_size > 0)
		fits = buf_append_byte(out, ' ') && buf_append(out, reply_text(r));
	return fits;
}
