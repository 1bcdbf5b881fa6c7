/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/user_edit.h"

#include "core/base/assert.h"

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* The word that begins at or behind `from`: its place in the line. */
static struct user_place
word_at(struct span line, size_t from)
{
	struct user_place word = { .at = from };

	while (word.at < line.size && is_blank(line.data[word.at]))
		word.at++;
	while (word.at + word.size < line.size && line.data[word.at + word.size] > ' ')
		word.size++;
	return word;
}

static struct span
part(struct span text, struct user_place place)
{
	return span_first(span_after(text, place.at), place.size);
}

bool
user_edit_next(struct span text, size_t *at, struct user_place *place, struct span *name)
{
	while (*at < text.size) {
		size_t end = span_find(text, '\n', *at);
		*place = (struct user_place){ .at = *at, .size = end - *at + (end < text.size) };
		*at = place->at + place->size;
		struct span line = part(text, *place);
		*name = part(line, word_at(line, 0));
		if (name->size > 0 && name->data[0] != '#' && !span_eq(*name, SPAN("secret")))
			return true;
	}
	return false;
}

bool
user_edit_find(struct span text, struct span name, struct user_place *place)
{
	struct span found;
	size_t at = 0;

	while (user_edit_next(text, &at, place, &found)) {
		if (span_eq_nocase(found, name))
			return true;
	}
	return false;
}

bool
user_edit_add(struct span text, struct span line, struct buf *out)
{
	buf_append(out, text);
	if (text.size > 0 && text.data[text.size - 1] != '\n')
		buf_append_byte(out, '\n');
	buf_append(out, line);
	buf_append_byte(out, '\n');
	return !out->overflow;
}

bool
user_edit_remove(struct span text, struct user_place place, struct buf *out)
{
	buf_append(out, span_first(text, place.at));
	buf_append(out, span_after(text, place.at + place.size));
	return !out->overflow;
}

bool
user_edit_verifier(struct span text, struct user_place place, struct span verifier, struct buf *out)
{
	struct span line = part(text, place);
	struct user_place name = word_at(line, 0);
	struct user_place old = word_at(line, name.at + name.size);

	ASSERT(name.size > 0);
	if (old.size == 0) /* there was none: behind the name, not behind the line end */
		old.at = name.at + name.size;
	buf_append(out, span_first(text, place.at + old.at));
	if (old.size == 0)
		buf_append_byte(out, ' ');
	buf_append(out, verifier);
	buf_append(out, span_after(text, place.at + old.at + old.size));
	return !out->overflow;
}

void
user_edit_show(struct span text, struct buf *out)
{
	struct user_place name = word_at(text, 0);
	struct user_place verifier = word_at(text, name.at + name.size);
	struct span rest = span_after(text, verifier.at + verifier.size);
	struct user_line line;

	rest = span_trim(span_first(rest, span_find(rest, '\n', 0)));
	if (rest.size > 0 && rest.data[rest.size - 1] == '\r')
		rest = span_trim(span_first(rest, rest.size - 1));
	const char *fault = user_line_parse(span_first(text, span_find(text, '\n', 0)), &line);
	buf_append(out, part(text, name));
	if (fault != NULL) {
		buf_append_string(out, "  line not understood: it ");
		buf_append_string(out, fault);
	} else if (line.has_verifier) {
		buf_printf(out, "  password (%u iterations)", line.verifier.iterations);
	} else {
		buf_append_string(out, "  no password");
	}
	if (fault == NULL && rest.size > 0) {
		buf_append_string(out, "  ");
		buf_append(out, rest);
	}
	buf_append_byte(out, '\n');
	explicit_bzero(&line, sizeof line);
}
