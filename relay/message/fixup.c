/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/fixup.h"

#include "core/base/assert.h"

enum state {
	STATE_FIRST, /* at the start of the message */
	STATE_LINE,  /* at the start of a line behind a field */
	STATE_CR,    /* behind a CR at the start of a line, which is held */
	STATE_NAME,  /* in a name, which is held */
	STATE_BLANK, /* in blanks behind a name, both held */
	STATE_FIELD, /* in a field that stays, or the colon of one */
	STATE_WHOSE, /* in an Authentication-Results field, held: whose is it? */
	STATE_DROP,  /* in one that is taken out */
	STATE_BODY,  /* all that comes stays as it is */
};

enum due {
	DUE_DATE = 1 << 0,
	DUE_MESSAGE_ID = 1 << 1,
	DUE_EMPTY_LINE = 1 << 2,
	DUE_HELD = 1 << 3,
};

void
fixup_init(struct fixup *f, const struct fixup_options *options)
{
	*f = (struct fixup){ .options = *options, .state = STATE_FIRST };
}

/* ---- what is given out ---- */

static struct span
take_held(struct fixup *f)
{
	struct span held = span_of(f->held, f->held_size);

	f->held_size = 0;
	return held;
}

static struct span
take_due(struct fixup *f)
{
	unsigned bit = f->due & (0U - f->due); /* the lowest: they are in order */

	f->due = (uint8_t)(f->due & ~bit);
	switch ((enum due)bit) {
	case DUE_DATE:
		return f->options.date;
	case DUE_MESSAGE_ID:
		return f->options.message_id;
	case DUE_EMPTY_LINE:
		return SPAN("\r\n");
	case DUE_HELD:
		return take_held(f);
	}
	return span_none();
}

/* The header is over, in front of what is held: now it is known what is missing. */
static void
end_header(struct fixup *f, bool empty_line)
{
	if (!f->is_over && !f->has_date && f->options.date.size > 0)
		f->due |= DUE_DATE;
	if (!f->is_over && !f->has_message_id && f->options.message_id.size > 0)
		f->due |= DUE_MESSAGE_ID;
	if (f->due != 0 && !empty_line)
		f->due |= DUE_EMPTY_LINE;
	/* Without an empty line the looking for forged fields goes on. */
	bool looks_on = !empty_line && f->due == 0 && f->options.authserv_id.size > 0;
	if (f->held_size > 0)
		f->due |= DUE_HELD;
	f->is_over = true;
	f->dropping = false;
	f->state = looks_on ? STATE_FIELD : STATE_BODY;
}

/* ---- what is taken ---- */

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static bool
is_name(uint8_t c)
{
	return c >= '!' && c <= '~' && c != ':';
}

/* Keeps a byte until it is known what the line is. There is room for it. */
static void
hold(struct fixup *f, uint8_t c, enum state next)
{
	ASSERT(f->held_size < FIXUP_HELD_MAX);
	f->held[f->held_size++] = c;
	f->state = (uint8_t)next;
}

/* The name is held, its colon is next; whether that is taken. */
static size_t
begin_field(struct fixup *f)
{
	struct span name = span_trim(span_of(f->held, f->held_size));

	f->dropping = false;
	if (f->options.authserv_id.size > 0 &&
	    span_eq_nocase(name, SPAN("Authentication-Results"))) {
		authres_id_init(&f->id);
		hold(f, ':', STATE_WHOSE);
		return 1;
	}
	if (f->is_over) {
		f->due = DUE_HELD;
		f->state = STATE_FIELD;
		return 0;
	}
	f->has_date = f->has_date || span_eq_nocase(name, SPAN("Date"));
	f->has_message_id = f->has_message_id || span_eq_nocase(name, SPAN("Message-ID"));
	f->dropping = f->options.drop_bcc && (span_eq_nocase(name, SPAN("Bcc")) ||
					      span_eq_nocase(name, SPAN("Resent-Bcc")));
	if (f->dropping) {
		f->held_size = 0;
		f->state = STATE_DROP;
	} else {
		f->due = DUE_HELD;
		f->state = STATE_FIELD;
	}
	return 0;
}

/* It is known whose field is held, or that nobody can know. */
static void
judge_whose(struct fixup *f, enum authres_id_event event)
{
	f->dropping = event != AUTHRES_ID_KNOWN || authres_id_is(&f->id, f->options.authserv_id);
	if (f->dropping) {
		f->taken++;
		f->held_size = 0;
		f->state = STATE_DROP;
	} else {
		f->due = DUE_HELD;
		f->state = STATE_FIELD;
	}
}

/* A byte of the field; the first of a line may be that of the next field. */
static size_t
take_whose(struct fixup *f, uint8_t c)
{
	ASSERT(f->held_size > 0);
	if (f->held[f->held_size - 1] == '\n' && !is_blank(c)) {
		judge_whose(f, authres_id_finish(&f->id));
		f->state = STATE_LINE;
		return 0;
	}
	enum authres_id_event event = authres_id_feed(&f->id, c);
	if (event == AUTHRES_ID_MORE && f->held_size < FIXUP_HELD_MAX) {
		hold(f, c, STATE_WHOSE);
		return 1;
	}
	judge_whose(f, event);
	return 0; /* it is one of the field, kept or not */
}

/* A byte of a name, or of the blanks behind it. One that is too long ends the looking for all but
 * forged fields. */
static size_t
take_held_byte(struct fixup *f, uint8_t c, enum state next)
{
	if (f->held_size < FIXUP_NAME_MAX) {
		hold(f, c, next);
		return 1;
	}
	f->due = DUE_HELD;
	f->is_over = true;
	f->dropping = false;
	f->state = f->options.authserv_id.size > 0 ? STATE_FIELD : STATE_BODY;
	return 0;
}

/* Is nothing but Authentication-Results looked for? Then the first letter of most lines tells that
 * they stay. */
static bool
is_of_no_interest(const struct fixup *f, uint8_t c)
{
	return !f->options.drop_bcc && f->options.date.size == 0 &&
	       f->options.message_id.size == 0 && f->options.authserv_id.size > 0 && is_name(c) &&
	       ascii_lower(c) != 'a';
}

static void
pass_line(struct fixup *f)
{
	f->dropping = false;
	f->state = STATE_FIELD;
}

static size_t
take_line_start(struct fixup *f, uint8_t c)
{
	ASSERT(f->held_size == 0);
	if (is_blank(c) && f->state == STATE_LINE)
		f->state = f->dropping ? STATE_DROP : STATE_FIELD;
	else if (is_of_no_interest(f, c))
		pass_line(f);
	else if (c == '\n')
		end_header(f, true);
	else if (c == '\r')
		return take_held_byte(f, c, STATE_CR);
	else if (is_name(c))
		return take_held_byte(f, c, STATE_NAME);
	else
		end_header(f, false);
	return 0;
}

static size_t
take_name(struct fixup *f, uint8_t c)
{
	if (c == ':')
		return begin_field(f);
	if (is_blank(c))
		return take_held_byte(f, c, STATE_BLANK);
	if (is_name(c) && f->state == STATE_NAME)
		return take_held_byte(f, c, STATE_NAME);
	end_header(f, false);
	return 0;
}

/* Up to and with the LF, or all there is. */
static size_t
take_field(struct fixup *f, struct span in)
{
	size_t end = span_find(in, '\n', 0);

	if (end == in.size)
		return end;
	f->state = STATE_LINE;
	return end + 1;
}

size_t
fixup_step(struct fixup *f, struct span in, struct span *out)
{
	size_t used = 0;

	*out = span_none();
	/* Every turn takes a byte, or leaves a state for good until the next line. */
	while (f->due == 0 && used < in.size) {
		struct span rest = span_after(in, used);
		switch ((enum state)f->state) {
		case STATE_FIRST:
		case STATE_LINE:
			used += take_line_start(f, rest.data[0]);
			break;
		case STATE_CR:
			end_header(f, rest.data[0] == '\n');
			break;
		case STATE_NAME:
		case STATE_BLANK:
			used += take_name(f, rest.data[0]);
			break;
		case STATE_WHOSE:
			used += take_whose(f, rest.data[0]);
			break;
		case STATE_DROP:
			used += take_field(f, rest);
			break;
		case STATE_FIELD:
			*out = span_first(rest, take_field(f, rest));
			return used + out->size;
		case STATE_BODY:
			*out = rest;
			return in.size;
		}
	}
	if (f->due != 0)
		*out = take_due(f);
	return used;
}

bool
fixup_finish(struct fixup *f, struct span *out)
{
	if (f->state == STATE_WHOSE) {
		judge_whose(f, authres_id_finish(&f->id));
		if (f->dropping)
			f->state = STATE_LINE;
	}
	if (f->state == STATE_FIELD)
		f->state = STATE_BODY; /* behind a line without an end nothing can be added */
	/* A line that is no field as far as it goes is one of the body. */
	if (f->due == 0 && f->state != STATE_BODY)
		end_header(f, f->held_size == 0);
	*out = span_none();
	if (f->due == 0)
		return false;
	*out = take_due(f);
	return true;
}
