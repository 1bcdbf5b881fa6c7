/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/message/mailboxes.h"

#include "core/base/assert.h"

enum { COMMENTS_MAX = 16 };

enum token { TOKEN_END, TOKEN_WORD, TOKEN_SPECIAL, TOKEN_BAD };

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* RFC 5322 3.2.3, but the dot, which is as good as an atom here. */
static bool
is_special(uint8_t c)
{
	return c == '<' || c == '>' || c == ':' || c == ';' || c == ',' || c == '@';
}

/* Behind a comment with those in it; SIZE_MAX where it does not end. */
static size_t
skip_comment(struct span s, size_t at)
{
	unsigned depth = 0;

	for (; at < s.size; at++) {
		if (s.data[at] == '\\')
			at++;
		else if (s.data[at] == '(' && ++depth > COMMENTS_MAX)
			return SIZE_MAX;
		else if (s.data[at] == ')' && --depth == 0)
			return at + 1;
	}
	return SIZE_MAX;
}

/* Behind what is between quotes or brackets, with a backslash before what does not end it. */
static size_t
skip_quoted(struct span s, size_t at, uint8_t end)
{
	for (at++; at < s.size; at++) {
		if (s.data[at] == '\\')
			at++;
		else if (s.data[at] == end)
			return at + 1;
		else if (s.data[at] == '\r' || s.data[at] == '\n')
			return SIZE_MAX; /* folded inside: never in an address */
	}
	return SIZE_MAX;
}

/* Where the blanks and comments at the start end. */
static size_t
skip_blanks(struct span s)
{
	size_t at = 0;

	while (at < s.size && (is_space(s.data[at]) || s.data[at] == '(')) {
		at = s.data[at] == '(' ? skip_comment(s, at) : at + 1;
		if (at == SIZE_MAX)
			break;
	}
	return at;
}

/* The end of a word: an atom (with dots), a quoted string, a literal. */
static size_t
word_size(struct span s)
{
	size_t at = 0;

	if (s.data[0] == '"')
		return skip_quoted(s, 0, '"');
	if (s.data[0] == '[')
		return skip_quoted(s, 0, ']');
	while (at < s.size && s.data[at] > ' ' && s.data[at] != 0x7f && !is_special(s.data[at]) &&
	       s.data[at] != '(' && s.data[at] != ')' && s.data[at] != '"' && s.data[at] != '[' &&
	       s.data[at] != ']' && s.data[at] != '\\')
		at++;
	return at > 0 ? at : SIZE_MAX;
}

static enum token
next_token(struct span *rest, struct span *text)
{
	size_t blanks = skip_blanks(*rest);

	*text = span_none();
	if (blanks == SIZE_MAX)
		return TOKEN_BAD;
	*rest = span_after(*rest, blanks);
	if (rest->size == 0)
		return TOKEN_END;
	bool special = is_special(rest->data[0]);
	size_t size = special ? 1 : word_size(*rest);
	if (size == SIZE_MAX)
		return TOKEN_BAD;
	*text = span_first(*rest, size);
	*rest = span_after(*rest, size);
	return special ? TOKEN_SPECIAL : TOKEN_WORD;
}

/* What a mailbox is made of: words and at most one '@' among them. */
struct part {
	struct buf *out;
	bool has_at;
	bool is_name; /* several words: no address */
	bool last_was_word;
};

static bool
ends_in_dot(const struct buf *b)
{
	return b->size > 0 && b->data[b->size - 1] == '.';
}

static void
reset(struct part *p)
{
	buf_reset(p->out);
	p->has_at = p->is_name = p->last_was_word = false;
}

static void
add_word(struct part *p, struct span word)
{
	/* "a . b" is one local part (obsolete), "a b" is a name. */
	if (p->last_was_word && !ends_in_dot(p->out) && word.data[0] != '.')
		p->is_name = true;
	p->last_was_word = true;
	/* Of a name nothing is needed. */
	if (!p->is_name)
		buf_append(p->out, word);
}

/* False where there is one already, or nothing stands in front of it. */
static bool
add_at(struct part *p)
{
	if (p->has_at || p->is_name || !p->last_was_word)
		return false;
	p->has_at = true;
	p->last_was_word = false;
	return buf_append_byte(p->out, '@');
}

static bool
is_address(const struct part *p)
{
	return p->has_at && p->last_was_word && !p->is_name && !p->out->overflow;
}

/* Between '<' and '>'. A route in front of the address (obsolete) ends in a colon. */
static bool
read_angle(struct span *rest, struct part *p)
{
	bool may_be_route = true, in_route = false;
	struct span text;

	reset(p);
	for (;;) {
		enum token token = next_token(rest, &text);
		if (token == TOKEN_WORD) {
			if (!in_route)
				add_word(p, text);
			may_be_route = false;
			continue;
		}
		if (token != TOKEN_SPECIAL)
			return false;
		if (text.data[0] == '>')
			return !in_route && is_address(p);
		if (text.data[0] == '@' && may_be_route)
			in_route = true;
		else if (text.data[0] == ':' && in_route)
			in_route = may_be_route = false;
		else if (!in_route && (text.data[0] != '@' || !add_at(p)))
			return false;
		else if (in_route && text.data[0] != '@' && text.data[0] != ',')
			return false;
		may_be_route = false;
	}
}

enum mailboxes_result
mailboxes_next(struct span *rest, struct buf *out)
{
	struct part p = { .out = out };
	bool angle = false;
	struct span text;

	ASSERT(out->capacity >= MAILBOX_MAX);
	reset(&p);
	for (;;) {
		enum token token = next_token(rest, &text);
		if (token == TOKEN_BAD)
			return MAILBOXES_BAD;
		if (token == TOKEN_WORD) {
			if (angle)
				return MAILBOXES_BAD; /* behind <...> only a comma may come */
			add_word(&p, text);
			continue;
		}
		bool ends = token == TOKEN_END || text.data[0] == ',' || text.data[0] == ';';
		if (ends && (angle || is_address(&p)))
			return MAILBOXES_NEXT;
		if (ends && (p.last_was_word || p.has_at || p.is_name))
			return MAILBOXES_BAD; /* words, and no address */
		if (token == TOKEN_END)
			return MAILBOXES_END;
		if (ends)
			continue; /* an empty place in the list (obsolete), or an empty group */
		if (angle)
			return MAILBOXES_BAD;
		if (text.data[0] == ':' && p.last_was_word && !p.has_at)
			reset(&p); /* it was a group's name */
		else if (text.data[0] == '<' && !p.has_at)
			angle = read_angle(rest, &p);
		else if (text.data[0] != '@' || !add_at(&p))
			return MAILBOXES_BAD;
		if (text.data[0] == '<' && !angle)
			return MAILBOXES_BAD;
	}
}
