/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/dsn_text.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"

enum {
	WORD_MAX = 900,      /* longer ones are broken, so that a line stays under 998 bytes */
	ENCODED_BYTES = 45,  /* of text in one encoded word: 60 digits and 12 around them */
	PLACEHOLDER_MAX = 8, /* on a line, so that what it expands to is bounded */
	VALUE_MAX = 512,
};

/* ---- safe text ---- */

/* C1 controls do as much harm as the others. */
static bool
is_control(struct span s, size_t length)
{
	if (length == 1)
		return s.data[0] < ' ' || s.data[0] == 0x7f;
	return length == 2 && s.data[0] == 0xc2 && s.data[1] < 0xa0;
}

void
dsn_clean(struct buf *out, struct span text, size_t most, enum dsn_clean how)
{
	size_t end = out->size + most;

	while (text.size > 0) {
		size_t length = utf8_length(text);
		struct span c = span_first(text, length);
		text = span_after(text, length == 0 ? 1 : length);
		if (length > 0 && is_control(c, length))
			c = how == DSN_CLEAN_LINES && c.data[0] == '\n' ? SPAN("\n") : SPAN(" ");
		else if (length == 0 || (length > 1 && how == DSN_CLEAN_ASCII))
			c = SPAN("?");
		if (out->size + c.size > end || buf_room(out) < c.size)
			return;
		buf_append(out, c);
	}
}

struct filler {
	struct buf *out;
	const char *indent;
	size_t column;
	bool empty; /* nothing but the indent stands on this line */
};

static void
break_line(struct filler *f)
{
	buf_append(f->out, SPAN("\r\n"));
	buf_append_string(f->out, f->indent);
	f->column = strlen(f->indent);
	f->empty = true;
}

static void
put_word(struct filler *f, struct span word)
{
	if (!f->empty && f->column + 1 + word.size > DSN_LINE_WIDTH)
		break_line(f);
	if (!f->empty) {
		buf_append_byte(f->out, ' ');
		f->column++;
	}
	buf_append(f->out, word);
	f->column += word.size;
	f->empty = false;
}

/* A part of a long word that ends with a whole character. */
static struct span
first_part(struct span word)
{
	size_t size = WORD_MAX;

	if (word.size <= WORD_MAX)
		return word;
	while (size > WORD_MAX - 4 && (word.data[size] & 0xc0) == 0x80)
		size--;
	return span_first(word, size);
}

void
dsn_wrap(struct buf *out, struct span text, size_t column, const char *indent)
{
	struct filler f = { .out = out, .indent = indent, .column = column, .empty = true };

	while (text.size > 0) {
		if (text.data[0] == '\n')
			break_line(&f);
		if (text.data[0] == '\n' || text.data[0] == ' ') {
			text = span_after(text, 1);
			continue;
		}
		size_t end = span_find(text, ' ', 0);
		struct span word = span_first(text, end);
		word = first_part(span_first(word, span_find(word, '\n', 0)));
		put_word(&f, word);
		text = span_after(text, word.size);
	}
}

/* ---- encoded words ---- */

static void
put_base64(struct buf *out, struct span s)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < s.size; i += 3) {
		size_t left = s.size - i;
		uint32_t bits = (uint32_t)s.data[i] << 16;
		if (left > 1)
			bits |= (uint32_t)s.data[i + 1] << 8;
		if (left > 2)
			bits |= s.data[i + 2];
		buf_append_byte(out, (uint8_t)digits[bits >> 18 & 63]);
		buf_append_byte(out, (uint8_t)digits[bits >> 12 & 63]);
		buf_append_byte(out, left > 1 ? (uint8_t)digits[bits >> 6 & 63] : '=');
		buf_append_byte(out, left > 2 ? (uint8_t)digits[bits & 63] : '=');
	}
}

void
dsn_header_text(struct buf *out, struct span text, size_t column)
{
	if (!utf8_has_non_ascii(text)) {
		dsn_wrap(out, text, column, " ");
		return;
	}
	/* All of it is encoded, blanks included: those between encoded words do not count. */
	for (bool first = true; text.size > 0; first = false) {
		size_t size = 0;
		while (size < text.size) {
			size_t length = utf8_length(span_after(text, size));
			ASSERT(length > 0);
			if (size + length > ENCODED_BYTES)
				break;
			size += length;
		}
		buf_append_string(out, first ? "=?utf-8?B?" : "\r\n =?utf-8?B?");
		put_base64(out, span_first(text, size));
		buf_append(out, SPAN("?="));
		text = span_after(text, size);
	}
}

/* ---- templates ---- */

static const struct {
	struct span name;
} values_named[DSN_VALUES + 1] = {
	[DSN_VALUE_HOSTNAME] = { SPAN("hostname") },
	[DSN_VALUE_SENDER] = { SPAN("sender") },
	[DSN_VALUE_COUNT] = { SPAN("count") },
	[DSN_VALUE_ARRIVAL_DATE] = { SPAN("arrival_date") },
	[DSN_VALUE_RETRY_UNTIL] = { SPAN("retry_until") },
	[DSN_VALUE_QUEUE_ID] = { SPAN("queue_id") },
	[DSN_VALUE_MESSAGE_ID] = { SPAN("message_id") },
	[DSN_VALUE_ENVELOPE_ID] = { SPAN("envelope_id") },
	[DSN_VALUE_RETURNED] = { SPAN("returned") },
	[DSN_VALUE_RECIPIENTS] = { SPAN("recipients") },
};

bool
dsn_template_line(struct span body, size_t *at, struct span *line)
{
	if (*at >= body.size)
		return false;
	size_t end = span_find(body, '\n', *at);
	*line = span_of(body.data + *at, end - *at);
	*at = end + 1;
	if (line->size > 0 && line->data[line->size - 1] == '\r')
		line->size--;
	return true;
}

bool
dsn_template_is_list(struct span line)
{
	return span_eq(span_trim(line), SPAN("${recipients}"));
}

/* Where "${" stands at or after `from`; s.size: nowhere. */
static size_t
find_placeholder(struct span s, size_t from)
{
	size_t at = from;

	while ((at = span_find(s, '$', at)) < s.size) {
		if (at + 1 < s.size && s.data[at + 1] == '{')
			return at;
		at++;
	}
	return s.size;
}

/* The placeholder at `at`: its name, and what is behind it. False: it has no end. */
static bool
read_placeholder(struct span s, size_t at, struct span *name, size_t *behind)
{
	size_t end = span_find(s, '}', at);

	if (end == s.size)
		return false;
	*name = span_of(s.data + at + 2, end - at - 2);
	*behind = end + 1;
	return true;
}

static unsigned
value_of_name(struct span name)
{
	unsigned i = 0;

	while (i <= DSN_VALUES && !span_eq(name, values_named[i].name))
		i++;
	return i;
}

static bool
refuse(struct buf *why, const char *message)
{
	buf_append_string(why, message);
	return false;
}

static bool
check_placeholders(struct span line, bool is_subject, struct buf *why)
{
	unsigned count = 0;
	struct span name;
	size_t behind;

	for (size_t at = find_placeholder(line, 0); at < line.size;
	     at = find_placeholder(line, behind)) {
		if (!read_placeholder(line, at, &name, &behind))
			return refuse(why, "has a ${ without its }; close it");
		unsigned value = value_of_name(name);
		if (value > DSN_VALUES) {
			buf_append_string(why, "${");
			dsn_clean(why, name, 40, DSN_CLEAN_UTF8);
			return refuse(why, "} is unknown; use hostname, sender, count, "
					   "arrival_date, retry_until, queue_id, message_id, "
					   "envelope_id, returned or recipients");
		}
		if (value == DSN_VALUE_RECIPIENTS && (is_subject || !dsn_template_is_list(line)))
			return refuse(why, "${recipients} is a list; put it alone on a line of "
					   "the body");
		if (++count > PLACEHOLDER_MAX)
			return refuse(why, "has more than 8 placeholders; break the line");
	}
	return true;
}

static bool
check_line(struct span line, bool is_subject, struct buf *why)
{
	if (line.size > DSN_TEMPLATE_LINE_MAX)
		return refuse(why, "the line is longer than 500 bytes; break it");
	if (!utf8_is_valid(line))
		return refuse(why, "the line is no UTF-8; save the file as UTF-8");
	for (size_t i = 0; i < line.size; i++) {
		if ((line.data[i] < ' ' && line.data[i] != '\t') || line.data[i] == 0x7f)
			return refuse(why, "the line has a control character; remove it");
	}
	return check_placeholders(line, is_subject, why);
}

static bool
parse_subject(struct span line, struct dsn_template *out, struct buf *why)
{
	static const struct span name = SPAN("Subject:");

	if (!span_eq_nocase(span_first(line, name.size), name))
		return refuse(why, "the file must begin with a line \"Subject: ...\"; add it");
	out->subject = span_trim(span_after(line, name.size));
	if (out->subject.size == 0)
		return refuse(why, "the subject is empty; write one");
	return check_line(line, true, why);
}

bool
dsn_template_parse(struct span text, struct dsn_template *out, size_t *line, struct buf *why)
{
	size_t at = 0;
	struct span s = span_none();
	bool has_list = false;

	*line = 1;
	if (text.size > DSN_TEMPLATE_SIZE_MAX)
		return refuse(why, "the file is larger than 64KiB; shorten it");
	dsn_template_line(text, &at, &s);
	if (!parse_subject(s, out, why))
		return false;
	++*line;
	if (!dsn_template_line(text, &at, &s) || s.size > 0)
		return refuse(why, "an empty line must follow the subject; add it");
	out->body = span_after(text, at);
	at = 0;
	while (dsn_template_line(out->body, &at, &s)) {
		++*line;
		if (!check_line(s, false, why))
			return false;
		has_list = has_list || dsn_template_is_list(s);
	}
	if (!has_list)
		return refuse(why, "the body has no line ${recipients}; add it, or nobody learns "
				   "whom the report is about");
	return true;
}

void
dsn_template_expand(struct buf *out, struct span line, const struct span values[DSN_VALUES])
{
	size_t from = 0;
	struct span name;
	size_t behind;

	while (from < line.size) {
		size_t at = find_placeholder(line, from);
		dsn_clean(out, span_of(line.data + from, at - from), SIZE_MAX / 2, DSN_CLEAN_UTF8);
		if (at == line.size)
			return;
		bool whole = read_placeholder(line, at, &name, &behind);
		unsigned value = whole ? value_of_name(name) : DSN_VALUES;
		ASSERT(value < DSN_VALUES);
		/* Whether the text is ASCII is told by addresses, not by what else there may be. */
		if (buf_room(out) >= VALUE_MAX)
			dsn_clean(out, values[value], VALUE_MAX,
				  value == DSN_VALUE_SENDER ? DSN_CLEAN_UTF8 : DSN_CLEAN_ASCII);
		from = behind;
	}
}
