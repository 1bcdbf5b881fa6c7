/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/header.h"

#include "core/base/assert.h"

enum state {
	STATE_NEW,        /* at the start of a line that cannot be a continuation */
	STATE_LINE,       /* at the start of a line behind a field, which is still to be told */
	STATE_CR,         /* behind a CR at the start of a line: the empty line, if LF follows */
	STATE_NAME,       /* in a name */
	STATE_NAME_BLANK, /* behind blanks behind a name; waits for the colon */
	STATE_VALUE,      /* behind the colon, or in a continuation; waits for the LF */
	STATE_END,
};

void
header_init(struct header *h, void *memory, size_t capacity)
{
	ASSERT(capacity >= 128);
	*h = (struct header){ .text = buf_of(memory, capacity), .state = STATE_NEW };
}

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static void
append(struct header *h, struct span s)
{
	struct span fits = span_first(s, buf_room(&h->text));

	buf_append(&h->text, fits);
	h->cut = h->cut || fits.size < s.size;
}

static enum header_event
tell_field(struct header *h)
{
	h->fields++;
	h->received += header_is(h, SPAN("Received"));
	h->state = STATE_NEW;
	return HEADER_FIELD;
}

/* The current line is no field: it is the body's first. */
static enum header_event
end_malformed(struct header *h)
{
	h->malformed = true;
	h->size = h->line_at;
	h->body_at = h->line_at;
	h->state = STATE_END;
	return HEADER_END;
}

/* At the LF of the empty line. */
static enum header_event
end_regular(struct header *h)
{
	h->size = h->line_at;
	h->body_at = h->seen;
	h->state = STATE_END;
	return HEADER_END;
}

static enum header_event
take_name_byte(struct header *h, uint8_t c)
{
	if (c == ':') {
		h->name_size = (uint32_t)h->text.size;
		h->state = STATE_VALUE;
		return HEADER_MORE;
	}
	if (is_blank(c)) {
		h->state = STATE_NAME_BLANK;
		return HEADER_MORE;
	}
	if (c < '!' || c > '~' || h->state == STATE_NAME_BLANK || buf_room(&h->text) == 0)
		return end_malformed(h);
	buf_append_byte(&h->text, c);
	return HEADER_MORE;
}

static enum header_event
take_first_byte(struct header *h, uint8_t c)
{
	buf_reset(&h->text);
	h->cut = false;
	h->name_size = 0;
	if (c == '\n')
		return end_regular(h);
	if (c == '\r') {
		h->state = STATE_CR;
		return HEADER_MORE;
	}
	if (c == ':' || is_blank(c))
		return end_malformed(h);
	h->state = STATE_NAME;
	return take_name_byte(h, c);
}

/* The bytes of a name up to what is none, as far as the memory reaches; perhaps none at all. */
static size_t
take_name(struct header *h, struct span in, size_t at)
{
	struct span rest = span_first(span_after(in, at), buf_room(&h->text));
	size_t size = 0;

	while (size < rest.size && rest.data[size] >= '!' && rest.data[size] <= '~' &&
	       rest.data[size] != ':')
		size++;
	buf_append(&h->text, span_first(rest, size));
	h->seen += size;
	return size;
}

/* Everything up to and with the LF, or all there is. */
static void
take_value(struct header *h, struct span in, size_t *used)
{
	size_t end = span_find(in, '\n', *used);
	size_t take = (end < in.size ? end + 1 : in.size) - *used;

	append(h, span_of(in.data + *used, take));
	*used += take;
	h->seen += take;
	if (end < in.size) {
		h->state = STATE_LINE;
		h->line_at = h->seen;
	}
}

/* Takes one byte, or a name, or the rest of a line, or tells a field and takes nothing. */
static enum header_event
take_some(struct header *h, struct span in, size_t *used)
{
	uint8_t c = in.data[*used];

	if (h->state == STATE_LINE) {
		if (!is_blank(c))
			return tell_field(h);
		h->state = STATE_VALUE;
	}
	if (h->state == STATE_VALUE) {
		take_value(h, in, used);
		return HEADER_MORE;
	}
	if (h->state == STATE_NAME) {
		size_t size = take_name(h, in, *used);
		*used += size;
		if (size > 0)
			return HEADER_MORE;
	}
	(*used)++;
	h->seen++;
	if (h->state == STATE_NEW)
		return take_first_byte(h, c);
	if (h->state == STATE_CR)
		return c == '\n' ? end_regular(h) : end_malformed(h);
	return take_name_byte(h, c);
}

size_t
header_feed(struct header *h, struct span in, enum header_event *event)
{
	size_t used = 0;

	*event = h->state == STATE_END ? HEADER_END : HEADER_MORE;
	/* Every turn takes at least one byte, but for the one that tells a field. */
	while (*event == HEADER_MORE && used < in.size)
		*event = take_some(h, in, &used);
	return used;
}

void
header_finish(struct header *h, enum header_event *event)
{
	switch (h->state) {
	case STATE_END:
		*event = HEADER_END;
		return;
	case STATE_LINE:
	case STATE_VALUE:
		h->line_at = h->seen;
		*event = tell_field(h);
		return;
	case STATE_NEW:
		*event = end_regular(h);
		return;
	default:
		*event = end_malformed(h);
		return;
	}
}

struct span
header_name(const struct header *h)
{
	return span_first(buf_span(&h->text), h->name_size);
}

static bool
is_space(uint8_t c)
{
	return is_blank(c) || c == '\r' || c == '\n';
}

struct span
header_value(const struct header *h)
{
	struct span s = span_after(buf_span(&h->text), h->name_size);

	while (s.size > 0 && is_space(s.data[0]))
		s = span_after(s, 1);
	while (s.size > 0 && is_space(s.data[s.size - 1]))
		s.size--;
	return s;
}

bool
header_is(const struct header *h, struct span name)
{
	return span_eq_nocase(header_name(h), name);
}

bool
header_unfold(const struct header *h, struct buf *out)
{
	struct span s = header_value(h);
	bool fits = true;
	size_t at = 0;

	while (at < s.size && fits) {
		size_t end = at;
		bool folded = false;
		while (end < s.size && is_space(s.data[end]))
			folded |= s.data[end++] == '\n';
		if (end == at) {
			while (end < s.size && !is_space(s.data[end]))
				end++;
		}
		fits = folded ? buf_append_byte(out, ' ')
			      : buf_append(out, span_of(s.data + at, end - at));
		at = end;
	}
	return fits;
}
