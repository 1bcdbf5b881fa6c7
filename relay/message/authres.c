/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/authres.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"
#include "relay/message/quoted.h"

enum {
	FOLD_COLUMN = 78,   /* RFC 5322 2.1.1: lines should be no longer */
	WORD_MAX = 64,      /* of a method, a result, a ptype, a property of ours */
	COMMENT_MAX = 320,  /* bytes of a comment of ours */
	DEPTH_MAX = 1000,   /* of comments in comments */
	VERSION_DIGITS = 4, /* of a version that is read */
};

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Can it stand in a token (RFC 2045 5.1)? Bytes beyond ASCII can (RFC 8616). */
static bool
is_token(uint8_t c)
{
	switch (c) {
	case '(':
	case ')':
	case '<':
	case '>':
	case '@':
	case ',':
	case ';':
	case ':':
	case '\\':
	case '"':
	case '/':
	case '[':
	case ']':
	case '?':
	case '=':
		return false;
	default:
		return c > ' ' && c != 0x7f;
	}
}

/* ---- writing ---- */

/* Where `size` bytes and a blank in front of them would pass the column, a fold is what parts them
 * from what stands before. */
static void
part(struct authres_writer *w, size_t size)
{
	if (w->column + 1 + size > FOLD_COLUMN) {
		buf_append(w->out, SPAN("\r\n\t"));
		w->column = 8;
	} else {
		buf_append_byte(w->out, ' ');
		w->column++;
	}
}

static void
put(struct authres_writer *w, struct span s)
{
	buf_append(w->out, s);
	w->column += s.size;
}

/* Does it need no quotes: a token, or two of them around an '@'? An address may have other
 * characters in front of it, but not every reader knows. */
static bool
is_plain(const struct authres_writer *w, struct span value)
{
	unsigned ats = 0;

	for (size_t i = 0; i < value.size; i++) {
		uint8_t c = value.data[i];
		if (c == '@')
			ats++;
		else if (!is_token(c))
			return false;
	}
	if (utf8_has_non_ascii(value) && (!w->utf8 || !utf8_is_valid(value)))
		return false;
	return value.size > 0 && ats <= 1 && value.data[value.size - 1] != '@';
}

static void
append_value(const struct authres_writer *w, struct buf *out, struct span value)
{
	value = quoted_cut(value, AUTHRES_TEXT_MAX);
	if (is_plain(w, value))
		buf_append(out, value);
	else
		quoted_string(out, value, AUTHRES_TEXT_MAX, w->utf8);
}

/* A name of ours. */
static struct span
word(struct span s)
{
	ASSERT(s.size > 0 && s.size <= WORD_MAX);
	for (size_t i = 0; i < s.size; i++)
		ASSERT(is_token(s.data[i]) && s.data[i] != '.');
	return s;
}

void
authres_begin(struct authres_writer *w, struct buf *out, struct span id, bool utf8)
{
	ASSERT(id.size > 0 && id.size <= AUTHRES_ID_MAX);
	*w = (struct authres_writer){ .out = out, .start = out->size, .utf8 = utf8 };
	put(w, SPAN("Authentication-Results:"));
	uint8_t memory[2 * AUTHRES_ID_MAX + 2];
	struct buf text = buf_of(memory, sizeof memory);
	append_value(w, &text, id);
	part(w, text.size);
	put(w, buf_span(&text));
}

void
authres_method(struct authres_writer *w, struct span method, unsigned version, struct span result)
{
	/* Each on a line of its own: that is how people read it. */
	put(w, SPAN(";\r\n\t"));
	w->column = 8;
	put(w, word(method));
	if (version != AUTHRES_VERSION) {
		uint8_t memory[24];
		struct buf text = buf_of(memory, sizeof memory);
		buf_append_byte(&text, '/');
		buf_append_number(&text, version);
		put(w, buf_span(&text));
	}
	put(w, SPAN("="));
	put(w, word(result));
	w->any = true;
}

void
authres_comment(struct authres_writer *w, struct span text)
{
	uint8_t memory[2 * COMMENT_MAX + 2];
	struct buf out = buf_of(memory, sizeof memory);

	quoted_comment(&out, text, COMMENT_MAX, w->utf8);
	part(w, out.size);
	put(w, buf_span(&out));
}

static void
put_pair(struct authres_writer *w, struct span name, struct span value)
{
	uint8_t memory[2 * WORD_MAX + 2 * AUTHRES_TEXT_MAX + 4];
	struct buf out = buf_of(memory, sizeof memory);

	ASSERT(w->any);
	buf_append(&out, name);
	buf_append_byte(&out, '=');
	append_value(w, &out, value);
	ASSERT(!out.overflow);
	part(w, out.size);
	put(w, buf_span(&out));
}

void
authres_reason(struct authres_writer *w, struct span text)
{
	put_pair(w, SPAN("reason"), text);
}

void
authres_property(struct authres_writer *w, struct span ptype, struct span property,
		 struct span value)
{
	uint8_t memory[2 * WORD_MAX + 1];
	struct buf name = buf_of(memory, sizeof memory);

	buf_append(&name, word(ptype));
	buf_append_byte(&name, '.');
	buf_append(&name, word(property));
	put_pair(w, buf_span(&name), value);
}

bool
authres_end(struct authres_writer *w)
{
	if (!w->any)
		put(w, SPAN("; none"));
	put(w, SPAN("\r\n"));
	if (w->out->overflow)
		w->out->size = w->start;
	return !w->out->overflow;
}

/* ---- who a field is from ---- */

enum id_state {
	ID_BLANK,   /* in front of it */
	ID_COMMENT, /* in a comment there */
	ID_TOKEN,
	ID_QUOTED,
};

void
authres_id_init(struct authres_id *m)
{
	*m = (struct authres_id){ .state = ID_BLANK };
}

static enum authres_id_event
id_add(struct authres_id *m, uint8_t c)
{
	if (m->size < AUTHRES_ID_MAX)
		m->text[m->size++] = c;
	else
		m->cut = true;
	return AUTHRES_ID_MORE;
}

static enum authres_id_event
id_blank(struct authres_id *m, uint8_t c)
{
	if (is_space(c))
		return AUTHRES_ID_MORE;
	if (c == '(') {
		m->state = ID_COMMENT;
		m->depth = 1;
		return AUTHRES_ID_MORE;
	}
	if (c == '"') {
		m->state = ID_QUOTED;
		return AUTHRES_ID_MORE;
	}
	if (!is_token(c))
		return AUTHRES_ID_BAD;
	m->state = ID_TOKEN;
	return id_add(m, c);
}

static enum authres_id_event
id_comment(struct authres_id *m, uint8_t c)
{
	if (m->escaped)
		m->escaped = false;
	else if (c == '\\')
		m->escaped = true;
	else if (c == '(' && ++m->depth > DEPTH_MAX)
		return AUTHRES_ID_BAD;
	else if (c == ')' && --m->depth == 0)
		m->state = ID_BLANK;
	return AUTHRES_ID_MORE;
}

static enum authres_id_event
id_quoted(struct authres_id *m, uint8_t c)
{
	if (m->escaped) {
		m->escaped = false;
		return id_add(m, c);
	}
	if (c == '\\') {
		m->escaped = true;
		return AUTHRES_ID_MORE;
	}
	if (c == '"')
		return AUTHRES_ID_KNOWN;
	if (c == '\r' || c == '\n') /* of a fold, whose blank counts */
		return AUTHRES_ID_MORE;
	return id_add(m, c);
}

enum authres_id_event
authres_id_feed(struct authres_id *m, uint8_t c)
{
	switch ((enum id_state)m->state) {
	case ID_BLANK:
		return id_blank(m, c);
	case ID_COMMENT:
		return id_comment(m, c);
	case ID_TOKEN:
		return is_token(c) ? id_add(m, c) : AUTHRES_ID_KNOWN;
	case ID_QUOTED:
		return id_quoted(m, c);
	}
	return AUTHRES_ID_BAD;
}

enum authres_id_event
authres_id_finish(struct authres_id *m)
{
	return m->state == ID_TOKEN ? AUTHRES_ID_KNOWN : AUTHRES_ID_BAD;
}

static struct span
without_dot(struct span s)
{
	return s.size > 0 && s.data[s.size - 1] == '.' ? span_first(s, s.size - 1) : s;
}

bool
authres_id_is(const struct authres_id *m, struct span id)
{
	struct span text = without_dot(span_trim(span_of(m->text, m->size)));

	return !m->cut && span_eq_nocase(text, without_dot(id));
}

/* ---- reading ---- */

enum reader_state {
	READER_FIRST,  /* behind the id: a method or `none` */
	READER_BEHIND, /* behind a method or a property */
	READER_END,
	READER_BAD,
};

/* Takes blanks, folds and comments; false where a comment has no end. */
static bool
skip_blanks(struct authres_reader *r)
{
	unsigned depth = 0;
	size_t i = 0;

	for (; i < r->rest.size; i++) {
		uint8_t c = r->rest.data[i];
		if (c == '(')
			depth++;
		else if (depth > 0 && c == '\\')
			i++;
		else if (depth > 0 && c == ')')
			depth--;
		else if (depth == 0 && !is_space(c))
			break;
	}
	r->rest = span_after(r->rest, i);
	return depth == 0;
}

/* A comment without an end leaves nothing, and where nothing may stand that is no error yet. */
static uint8_t
peek(struct authres_reader *r)
{
	if (!skip_blanks(r))
		r->state = READER_BAD;
	return r->rest.size > 0 ? r->rest.data[0] : '\0';
}

static bool
take(struct authres_reader *r, uint8_t c)
{
	if (peek(r) != c || r->rest.size == 0)
		return false;
	r->rest = span_after(r->rest, 1);
	return true;
}

/* Keyword of RFC 5321: letters, digits and hyphens; results and properties are of the same kind,
 * but for underscores, which are seen. */
static struct span
take_word(struct authres_reader *r)
{
	size_t size = 0;

	peek(r);
	while (size < r->rest.size && is_token(r->rest.data[size]) && r->rest.data[size] != '.' &&
	       r->rest.data[size] < 0x80)
		size++;
	struct span s = span_first(r->rest, size);
	r->rest = span_after(r->rest, size);
	return s;
}

static bool
take_number(struct authres_reader *r, unsigned *number)
{
	size_t size = 0;

	peek(r);
	*number = 0;
	while (size < r->rest.size && size < VERSION_DIGITS && r->rest.data[size] >= '0' &&
	       r->rest.data[size] <= '9')
		*number = *number * 10 + (unsigned)(r->rest.data[size++] - '0');
	r->rest = span_after(r->rest, size);
	return size > 0;
}

/* The inside of a quoted string, whose opening quote is taken; with `raw` as it stands, quotes
 * included. */
static bool
take_quoted(struct authres_reader *r, bool raw, struct buf *out)
{
	size_t i = 0;

	if (raw)
		buf_append_byte(out, '"');
	for (; i < r->rest.size && r->rest.data[i] != '"'; i++) {
		if (r->rest.data[i] == '\\') {
			if (raw)
				buf_append_byte(out, '\\');
			i++;
		} else if (r->rest.data[i] == '\r' || r->rest.data[i] == '\n') {
			continue;
		}
		if (i < r->rest.size)
			buf_append_byte(out, r->rest.data[i]);
	}
	if (i >= r->rest.size)
		return false;
	if (raw)
		buf_append_byte(out, '"');
	r->rest = span_after(r->rest, i + 1);
	return !out->overflow;
}

/* May it stand in an unquoted value? See the header. */
static bool
is_unquoted(uint8_t c)
{
	return c > ' ' && c != 0x7f && c != ';' && c != '(' && c != ')' && c != '"' && c != '\\';
}

static bool
take_unquoted(struct authres_reader *r, struct buf *out)
{
	size_t size = 0;

	while (size < r->rest.size && is_unquoted(r->rest.data[size]))
		size++;
	buf_append(out, span_first(r->rest, size));
	r->rest = span_after(r->rest, size);
	return !out->overflow;
}

/* Is what follows the quoted string that begins here an '@', so that it is a local part? */
static bool
is_local_part(struct span rest)
{
	for (size_t i = 0; i < rest.size; i++) {
		if (rest.data[i] == '\\')
			i++;
		else if (rest.data[i] == '"')
			return i + 1 < rest.size && rest.data[i + 1] == '@';
	}
	return false;
}

static bool
take_value(struct authres_reader *r, struct authres_item *item)
{
	struct buf out = buf_of(item->memory, sizeof item->memory);
	bool ok;

	if (take(r, '"')) {
		bool local = is_local_part(r->rest);
		ok = take_quoted(r, local, &out) && (!local || take_unquoted(r, &out));
	} else {
		ok = take_unquoted(r, &out) && out.size > 0;
	}
	item->value = buf_span(&out);
	return ok && r->state != READER_BAD;
}

static enum authres_event
bad(struct authres_reader *r)
{
	r->state = READER_BAD;
	return AUTHRES_BAD;
}

static enum authres_event
end(struct authres_reader *r)
{
	if (r->state == READER_BAD || r->rest.size > 0)
		return bad(r);
	r->state = READER_END;
	return AUTHRES_END;
}

/* "none" in place of methods, or method [ "/" version ] "=" result */
static enum authres_event
read_method(struct authres_reader *r, struct authres_item *item)
{
	bool first = r->state == READER_FIRST;

	item->name = take_word(r);
	if (item->name.size == 0)
		return first ? bad(r) : end(r); /* a semicolon at the end */
	item->version = AUTHRES_VERSION;
	if (take(r, '/') && !take_number(r, &item->version))
		return bad(r);
	if (!take(r, '='))
		return first && span_eq_nocase(item->name, SPAN("none")) && peek(r) == '\0'
			       ? end(r)
			       : bad(r);
	item->result = take_word(r);
	if (item->result.size == 0 || r->state == READER_BAD)
		return bad(r);
	r->state = READER_BEHIND;
	r->took_reason = false;
	return AUTHRES_METHOD;
}

/* reason "=" value, or ptype "." property "=" value */
static enum authres_event
read_pair(struct authres_reader *r, struct authres_item *item)
{
	struct span first = take_word(r);
	enum authres_event event = AUTHRES_REASON;

	if (first.size == 0)
		return bad(r);
	if (take(r, '.')) {
		item->ptype = first;
		item->name = take_word(r);
		if (item->name.size == 0)
			return bad(r);
		event = AUTHRES_PROPERTY;
	} else if (!span_eq_nocase(first, SPAN("reason")) || r->took_reason) {
		return bad(r);
	}
	r->took_reason = true; /* it stands in front of the properties, once */
	return take(r, '=') && take_value(r, item) ? event : bad(r);
}

bool
authres_open(struct authres_reader *r, struct span value)
{
	enum authres_id_event event = AUTHRES_ID_MORE;
	size_t used = 0;

	*r = (struct authres_reader){ .version = AUTHRES_VERSION, .state = READER_FIRST };
	authres_id_init(&r->id);
	while (event == AUTHRES_ID_MORE && used < value.size)
		event = authres_id_feed(&r->id, value.data[used++]);
	if (event == AUTHRES_ID_MORE)
		event = authres_id_finish(&r->id);
	else if (event == AUTHRES_ID_KNOWN && r->id.state == ID_TOKEN)
		used--;
	r->rest = span_after(value, used);
	if (event != AUTHRES_ID_KNOWN)
		r->state = READER_BAD;
	else if (peek(r) >= '0' && peek(r) <= '9' && !take_number(r, &r->version))
		r->state = READER_BAD;
	return r->state != READER_BAD;
}

enum authres_event
authres_next(struct authres_reader *r, struct authres_item *item)
{
	item->name = item->result = item->ptype = item->value = span_none();
	item->version = 0;
	if (r->state == READER_END)
		return AUTHRES_END;
	if (r->state == READER_BAD)
		return AUTHRES_BAD;
	if (take(r, ';'))
		return read_method(r, item);
	if (r->state == READER_FIRST || r->state == READER_BAD)
		return bad(r);
	return peek(r) == '\0' ? end(r) : read_pair(r, item);
}
