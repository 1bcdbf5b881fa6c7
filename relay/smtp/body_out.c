/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/body_out.h"

#include "core/base/assert.h"

enum state {
	STATE_START,    /* nothing was sent yet: a line starts */
	STATE_IN_LINE,  /* within a line */
	STATE_AFTER_CR, /* behind a CR within a line */
	STATE_AFTER_LF, /* behind an LF alone: a line starts, but the last one did not end in CRLF
			 */
	STATE_NEW_LINE, /* behind CRLF: a line starts */
};

static bool
at_line_start(uint8_t state)
{
	return state == STATE_START || state == STATE_AFTER_LF || state == STATE_NEW_LINE;
}

void
body_out_init(struct body_out *b)
{
	b->state = STATE_START;
}

/* The index of the first dot of `in`, from `from` on, that starts a line; in.size for none. Dots
 * are rare in what is large (base64 has none), so looking for the dot first is what is fast; behind
 * one within a line the next that matters comes after an LF, so a line costs two searches at most,
 * whatever is in it. */
static size_t
find_line_dot(struct span in, size_t from)
{
	size_t at = span_find(in, '.', from);

	while (at < in.size && (at == 0 || in.data[at - 1] != '\n'))
		at = span_find(in, '.', span_find(in, '\n', at));
	return at;
}

static uint8_t
state_behind(uint8_t state, struct span s)
{
	if (s.size == 0)
		return state;
	uint8_t last = s.data[s.size - 1];
	if (last == '\r')
		return STATE_AFTER_CR;
	if (last != '\n')
		return STATE_IN_LINE;
	bool after_cr = s.size > 1 ? s.data[s.size - 2] == '\r' : state == STATE_AFTER_CR;
	return after_cr ? STATE_NEW_LINE : STATE_AFTER_LF;
}

size_t
body_out_feed(struct body_out *b, struct span in, struct buf *out)
{
	size_t used = 0;

	/* Each turn copies the bytes up to and with the next dot that must be doubled. It is not
	 * looked for where there is no room to copy to: whoever has little room would look at the
	 * same bytes again and again. */
	while (used < in.size) {
		bool dot_now = in.data[used] == '.' && at_line_start(b->state);
		struct span reach = span_first(in, used + 1 + buf_room(out));
		size_t want = dot_now ? 1 : find_line_dot(reach, used + 1) - used;
		if (dot_now && buf_room(out) < 2)
			break;
		size_t take = want < buf_room(out) ? want : buf_room(out);
		struct span piece = span_of(in.data + used, take);
		bool fits = !dot_now || buf_append_byte(out, '.');
		fits = buf_append(out, piece) && fits;
		ASSERT(fits);
		b->state = state_behind(b->state, piece);
		used += take;
		if (take < want)
			break;
	}
	return used;
}

bool
body_out_end(const struct body_out *b, struct buf *out)
{
	bool line_ended = b->state == STATE_START || b->state == STATE_NEW_LINE;

	return buf_append(out, line_ended ? SPAN(".\r\n") : SPAN("\r\n.\r\n"));
}

void
body_dots_init(struct body_dots *d)
{
	d->at_line_start = true;
	d->found = false;
}

void
body_dots_feed(struct body_dots *d, struct span in)
{
	if (d->found || in.size == 0)
		return;
	d->found = (d->at_line_start && in.data[0] == '.') || find_line_dot(in, 1) < in.size;
	d->at_line_start = in.data[in.size - 1] == '\n';
}
