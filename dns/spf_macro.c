/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/spf_macro.h"

#include "core/base/assert.h"
#include "dns/name.h"

enum {
	VALUE_MAX = 1024, /* of the longest, s: a local part, an @, a domain */
	DIGITS_MAX = 1000,
	/* What is kept of a name while it is expanded. Of more than 253 bytes only what follows a
	 * dot within the last 254 counts, and one for the dot at the very end. */
	TAIL_KEPT = 300,
	TAIL_SIZE = 4 * VALUE_MAX,
};

enum token_kind { TOKEN_LITERAL, TOKEN_MACRO, TOKEN_BROKEN };

struct token {
	enum token_kind kind;
	struct span text; /* LITERAL: what stands for itself; for %%, %_ and %- what they mean */
	bool is_macro_expand;
	uint8_t letter;  /* lower case */
	bool is_escaped; /* it was in upper case */
	bool is_reversed;
	unsigned digits; /* parts at the right end; 0: all */
	struct span delimiters;
	const char *why; /* BROKEN */
};

static bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alpha(uint8_t c)
{
	return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
}

static struct token
broken(const char *why)
{
	return (struct token){ .kind = TOKEN_BROKEN, .why = why };
}

/* "%{" macro-letter transformers *delimiter "}", from behind the brace. */
static struct token
read_macro(struct span text, size_t *at)
{
	struct token t = { .kind = TOKEN_MACRO, .is_macro_expand = true };
	bool has_digits = false;
	size_t i = *at;

	if (i == text.size || memchr("slodiphcrtv", ascii_lower(text.data[i]), 11) == NULL)
		return broken("there is no such macro letter");
	t.letter = ascii_lower(text.data[i]);
	t.is_escaped = t.letter != text.data[i];
	for (i++; i < text.size && is_digit(text.data[i]); i++) {
		has_digits = true;
		t.digits = t.digits * 10 + text.data[i] - '0';
		if (t.digits > DIGITS_MAX)
			t.digits = DIGITS_MAX;
	}
	if (has_digits && t.digits == 0)
		return broken("a macro cannot keep 0 parts");
	if (i < text.size && ascii_lower(text.data[i]) == 'r') {
		t.is_reversed = true;
		i++;
	}
	size_t delimiters_at = i;
	while (i < text.size && memchr(".-+,/_=", text.data[i], 7) != NULL)
		i++;
	t.delimiters = span_of(text.data + delimiters_at, i - delimiters_at);
	if (i == text.size || text.data[i] != '}')
		return broken("a macro is not closed as it must be");
	*at = i + 1;
	return t;
}

/* Takes the next token off the text; *at < text.size. */
static struct token
next_token(struct span text, size_t *at)
{
	static const struct {
		uint8_t c;
		struct span text;
	} short_ones[] = {
		{ '%', { (const uint8_t *)"%", 1 } },
		{ '_', { (const uint8_t *)" ", 1 } },
		{ '-', { (const uint8_t *)"%20", 3 } },
	};
	size_t begin = *at;

	ASSERT(begin < text.size);
	if (text.data[begin] != '%') {
		*at = span_find(text, '%', begin);
		return (struct token){ .text = span_of(text.data + begin, *at - begin) };
	}
	uint8_t c = begin + 1 < text.size ? text.data[begin + 1] : 0;
	*at = begin + 2;
	if (c == '{')
		return read_macro(text, at);
	for (size_t i = 0; i < sizeof short_ones / sizeof short_ones[0]; i++) {
		if (c == short_ones[i].c)
			return (struct token){ .text = short_ones[i].text,
					       .is_macro_expand = true };
	}
	return broken("a % must be followed by one of { % _ -");
}

/* ---- syntax ---- */

static bool
is_visible(struct span text, enum spf_macro_place place, struct buf *why)
{
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];

		if (c < 0x7f && (c > ' ' || (c == ' ' && place == SPF_MACRO_TEXT)))
			continue;
		buf_printf(why, "there is a byte 0x%02x, which is no visible ASCII", (unsigned)c);
		return false;
	}
	return true;
}

bool
spf_macro_check(struct span text, enum spf_macro_place place, struct spf_macro_use *use,
		struct buf *why)
{
	*use = (struct spf_macro_use){ 0 };
	if (!is_visible(text, place, why))
		return false;
	for (size_t at = 0; at < text.size;) {
		struct token t = next_token(text, &at);

		if (t.kind == TOKEN_BROKEN) {
			buf_append_string(why, t.why);
			return false;
		}
		if (t.kind == TOKEN_MACRO && place == SPF_MACRO_NAME &&
		    memchr("crt", t.letter, 3) != NULL) {
			buf_printf(why, "%%{%c} is for explanations alone", t.letter);
			return false;
		}
		use->any |= t.is_macro_expand;
		use->name |= t.kind == TOKEN_MACRO && t.letter == 'p';
		if (t.is_macro_expand)
			use->literal_at = at;
	}
	return true;
}

/* toplabel: letters and digits, of which one is a letter, or with hyphens inside. */
static bool
is_toplabel(struct span label)
{
	bool has_alpha = false, has_hyphen = false;

	for (size_t i = 0; i < label.size; i++) {
		uint8_t c = label.data[i];

		if (c == '-' && i > 0 && i + 1 < label.size)
			has_hyphen = true;
		else if (is_alpha(c))
			has_alpha = true;
		else if (!is_digit(c))
			return false;
	}
	return has_alpha || has_hyphen;
}

bool
spf_macro_ends_in_domain(struct span text, const struct spf_macro_use *use)
{
	struct span tail = span_after(text, use->literal_at);

	if (tail.size == 0)
		return use->any;
	if (tail.data[tail.size - 1] == '.')
		tail.size--;
	for (size_t i = tail.size; i > 0; i--) {
		if (tail.data[i - 1] == '.')
			return is_toplabel(span_after(tail, i));
	}
	return false;
}

/* ---- values ---- */

static bool
is_ascii(struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] >= 0x80)
			return false;
	}
	return true;
}

static struct span
or_unknown(struct span s)
{
	return s.size > 0 ? s : SPAN("unknown");
}

static struct span
value_of(uint8_t letter, const struct spf_values *v, struct buf *memory)
{
	switch (letter) {
	case 's':
		buf_append(memory, v->local);
		buf_append_byte(memory, '@');
		buf_append(memory, v->sender);
		return buf_span(memory);
	case 'l':
		return v->local;
	case 'o':
		return v->sender;
	case 'd':
		return v->domain;
	case 'i':
		return v->ip_dots;
	case 'p':
		return or_unknown(v->name);
	case 'h':
		return v->helo;
	case 'c':
		return v->ip_text;
	case 'r':
		return or_unknown(v->receiver);
	case 't':
		buf_append_number(memory, v->now_s);
		return buf_span(memory);
	default:
		return v->is_v6 ? SPAN("ip6") : SPAN("in-addr");
	}
}

/* The value split at the delimiters, in the order that is asked for, joined with dots (7.3). */
static void
transform(const struct token *t, struct span value, struct buf *out)
{
	struct span delimiters = t->delimiters.size > 0 ? t->delimiters : SPAN(".");
	uint16_t ends[VALUE_MAX + 1];
	unsigned count = 0;

	ASSERT(value.size <= VALUE_MAX);
	for (size_t i = 0; i < value.size; i++) {
		if (memchr(delimiters.data, value.data[i], delimiters.size) != NULL)
			ends[count++] = (uint16_t)i;
	}
	ends[count++] = (uint16_t)value.size;
	unsigned skipped = t->digits > 0 && t->digits < count ? count - t->digits : 0;
	for (unsigned i = skipped; i < count; i++) {
		unsigned part = t->is_reversed ? count - 1 - i : i;
		size_t begin = part == 0 ? 0 : ends[part - 1] + 1u;

		if (i > skipped)
			buf_append_byte(out, '.');
		buf_append(out, span_of(value.data + begin, ends[part] - begin));
	}
}

/* All but the unreserved characters of RFC 3986 as %XX. */
static void
escape(struct span from, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < from.size; i++) {
		uint8_t c = from.data[i];

		if (is_alpha(c) || is_digit(c) || (c != 0 && strchr("-._~", c) != NULL)) {
			buf_append_byte(out, c);
		} else {
			buf_append_byte(out, '%');
			buf_append_byte(out, (uint8_t)digits[c >> 4]);
			buf_append_byte(out, (uint8_t)digits[c & 15]);
		}
	}
}

struct scratch {
	uint8_t value[VALUE_MAX];
	uint8_t plain[VALUE_MAX];
	uint8_t escaped[3 * VALUE_MAX];
};

/* What a token stands for; lives as long as the scratch. */
static struct span
expand(const struct token *t, const struct spf_values *v, struct scratch *s)
{
	struct buf memory = buf_of(s->value, sizeof s->value);
	struct buf plain = buf_of(s->plain, sizeof s->plain);
	struct buf escaped = buf_of(s->escaped, sizeof s->escaped);

	if (t->kind == TOKEN_LITERAL)
		return t->text;
	struct span value = value_of(t->letter, v, &memory);
	if (t->digits > 0 || t->is_reversed || t->delimiters.size > 0) {
		transform(t, value, &plain);
		value = buf_span(&plain);
	}
	if (!t->is_escaped)
		return value;
	escape(value, &escaped);
	ASSERT(!memory.overflow && !plain.overflow && !escaped.overflow);
	return buf_span(&escaped);
}

/* ---- names ---- */

/* Bytes that a token puts into a name at the least. */
static size_t
least_of(const struct token *t)
{
	if (t->kind == TOKEN_LITERAL)
		return t->text.size;
	/* These are never empty, nor are their labels; what is split elsewhere may be. */
	return memchr("diopv", t->letter, 5) != NULL && t->delimiters.size == 0;
}

/* Counts what a name has at the least. False where a macro needs what is no ASCII: RFC 7208 knows
 * no way to write that in a name. */
static bool
measure(struct span text, const struct spf_values *v, size_t *least)
{
	bool local_is_ascii = is_ascii(v->local);

	*least = 0;
	for (size_t at = 0; at < text.size;) {
		struct token t = next_token(text, &at);

		ASSERT(t.kind != TOKEN_BROKEN);
		if (t.kind == TOKEN_MACRO && (t.letter == 'l' || t.letter == 's') &&
		    !local_is_ascii)
			return false;
		if (t.kind == TOKEN_MACRO && t.letter == 'h' && !is_ascii(v->helo))
			return false;
		*least += least_of(&t);
	}
	return true;
}

/* Appends, and forgets the beginning where there is no room. */
static void
append_tail(struct buf *tail, struct span s)
{
	if (s.size > TAIL_KEPT && s.size > buf_room(tail))
		s = span_after(s, s.size - TAIL_KEPT);
	if (s.size > buf_room(tail))
		buf_consume(tail, tail->size - TAIL_KEPT);
	buf_append(tail, s);
	ASSERT(!tail->overflow);
}

size_t
spf_macro_name(struct span text, const struct spf_values *v, char out[DNS_NAME_MAX + 1])
{
	struct scratch scratch;
	uint8_t memory[TAIL_SIZE];
	struct buf tail = buf_of(memory, sizeof memory);
	size_t least;

	out[0] = 0;
	if (!measure(text, v, &least))
		return 0;
	for (size_t at = 0; at < text.size;) {
		struct token t = next_token(text, &at);

		/* What is in front of enough bytes is cut off in any case: no need to make it. */
		least -= least_of(&t);
		if (least <= TAIL_KEPT)
			append_tail(&tail, expand(&t, v, &scratch));
	}
	struct span name = buf_span(&tail);
	if (name.size > 0 && name.data[name.size - 1] == '.')
		name.size--;
	while (name.size > DNS_NAME_MAX) {
		size_t dot = span_find(name, '.', 0);

		if (dot == name.size)
			return 0;
		name = span_after(name, dot + 1);
	}
	return name_of_bytes(name, out);
}

/* ---- texts ---- */

bool
spf_macro_text(struct span text, const struct spf_values *v, struct buf *out)
{
	struct scratch scratch;

	for (size_t at = 0; at < text.size && buf_room(out) > 0;) {
		struct token t = next_token(text, &at);

		ASSERT(t.kind != TOKEN_BROKEN);
		buf_append(out, span_first(expand(&t, v, &scratch), buf_room(out)));
	}
	for (size_t i = 0; i < out->size; i++) {
		if (out->data[i] < ' ' || out->data[i] >= 0x7f)
			return false;
	}
	return true;
}
