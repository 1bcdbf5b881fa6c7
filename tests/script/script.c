/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/script/script.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"

/* Where the reader is, for messages. */
struct place {
	const char *file;
	unsigned line;
};

static _Noreturn void
fail(const struct place *at, const char *what)
{
	fprintf(stderr, "%s:%u: %s\n", at->file, at->line, what);
	exit(2);
}

void
text_append(struct text *t, struct span s)
{
	if (t->size + s.size > t->capacity) {
		t->capacity = 2 * (t->size + s.size) + 64;
		t->data = realloc(t->data, t->capacity);
		if (t->data == NULL)
			abort();
	}
	if (s.size > 0)
		memcpy(t->data + t->size, s.data, s.size);
	t->size += s.size;
}

void
text_printf(struct text *t, const char *format, ...)
{
	char line[1024];
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	ASSERT(length >= 0 && (size_t)length < sizeof line);
	text_append(t, span_of(line, (size_t)length));
}

struct span
text_span(const struct text *t)
{
	return span_of(t->data, t->size);
}

void
text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

static unsigned
hex_digit(const struct place *at, char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a' + 10);
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A' + 10);
	fail(at, "bad \\x escape");
}

static void
append_unescaped(const struct place *at, struct text *t, const char *from)
{
	while (*from != '\0') {
		uint8_t c = (uint8_t)*from++;
		if (c == '\\') {
			switch (*from++) {
			case 'r':
				c = '\r';
				break;
			case 'n':
				c = '\n';
				break;
			case 't':
				c = '\t';
				break;
			case '0':
				c = '\0';
				break;
			case '\\':
				c = '\\';
				break;
			case 'x':
				c = (uint8_t)(hex_digit(at, from[0]) << 4 | hex_digit(at, from[1]));
				from += 2;
				break;
			default:
				fail(at, "unknown escape");
			}
		}
		text_append(t, span_of(&c, 1));
	}
}

/* The next word of *rest, cut off with a NUL; *rest moves behind it and its spaces. */
static char *
next_word(const struct place *at, char **rest)
{
	char *word = *rest;
	char *end = word + strcspn(word, " ");

	if (end == word)
		fail(at, "a word is missing");
	*rest = end + strspn(end, " ");
	*end = '\0';
	return word;
}

static uint64_t
number_of(const struct place *at, const char *word)
{
	uint64_t value = 0;

	if (!span_to_u64(span_of_string(word), &value))
		fail(at, "not a number");
	return value;
}

static enum reply_row
row_of(const struct place *at, const char *name)
{
	for (enum reply_row row = 0; row < REPLY_COUNT; row++) {
		if (strcmp(reply_row_name(row), name) == 0)
			return row;
	}
	fail(at, "no such row in replies.def");
}

static enum close_reason
close_of(const struct place *at, const char *name)
{
	for (enum close_reason reason = 0; reason < CLOSE_COUNT; reason++) {
		if (strcmp(close_label(reason), name) == 0)
			return reason;
	}
	fail(at, "no such row in closes.def");
}

/* "PLAIN LOGIN", as SASL_BITs. */
static uint8_t
mechanisms_of(const struct place *at, char *rest)
{
	unsigned bits = 0;

	while (*rest != '\0') {
		enum sasl_mechanism m = sasl_find(span_of_string(next_word(at, &rest)));
		if (m == SASL_MECHANISM_COUNT)
			fail(at, "no such mechanism");
		bits |= SASL_BIT(m);
	}
	return (uint8_t)bits;
}

static void
read_option(const struct place *at, struct script *s, char *rest)
{
	struct receiver_options *o = &s->options;
	const char *name = next_word(at, &rest);

	if (strcmp(name, "bare_newline") == 0) {
		o->bare_newline = strcmp(rest, "normalize") == 0 ? BODY_NORMALIZE : BODY_REJECT;
		return;
	}
	if (strcmp(name, "auth") == 0) {
		o->auth = mechanisms_of(at, rest);
		return;
	}
	uint64_t value = number_of(at, rest);
	if (strcmp(name, "size_max") == 0)
		o->size_max = value;
	else if (strcmp(name, "discard_max") == 0)
		o->discard_max = value;
	else if (strcmp(name, "recipients_max") == 0)
		o->recipients_max = (uint32_t)value;
	else if (strcmp(name, "mails_max") == 0)
		o->mails_max = (uint32_t)value;
	else if (strcmp(name, "errors_max") == 0)
		o->errors_max = (uint32_t)value;
	else if (strcmp(name, "junk_max") == 0)
		o->junk_max = (uint32_t)value;
	else if (strcmp(name, "line_max") == 0)
		o->line_max = (uint32_t)value;
	else if (strcmp(name, "starttls") == 0)
		o->starttls = value != 0;
	else if (strcmp(name, "auth_required") == 0)
		o->auth_required = value != 0;
	else if (strcmp(name, "require_tls") == 0)
		o->require_tls = value != 0;
	else if (strcmp(name, "implicit_tls") == 0)
		s->implicit = value != 0;
	else if (strcmp(name, "external") == 0)
		s->external = value != 0;
	else
		fail(at, "no such option");
}

static void
read_policy(const struct place *at, struct script *s, char *rest)
{
	if (s->policy_count == SCRIPT_POLICIES_MAX)
		fail(at, "too many policies");
	struct script_policy *p = &s->policies[s->policy_count++];
	snprintf(p->question, sizeof p->question, "%s", next_word(at, &rest));
	append_unescaped(at, &p->argument, next_word(at, &rest));
	p->row = row_of(at, next_word(at, &rest));
	append_unescaped(at, &p->text, rest);
}

static void
add_expect(const struct place *at, struct script *s, enum script_expect_kind kind, const char *text)
{
	if (s->expect_count == SCRIPT_EXPECTS_MAX)
		fail(at, "too many expectations");
	struct script_expect *e = &s->expects[s->expect_count++];
	e->kind = kind;
	e->line = at->line;
	append_unescaped(at, &e->text, text);
}

static void
add_reply(const struct place *at, struct script *s, bool exact, const char *text)
{
	if (s->reply_count == SCRIPT_REPLIES_MAX)
		fail(at, "too many replies");
	if (s->group_count == 0)
		s->group_count = 1; /* the banner: a group without input */
	struct script_reply *r = &s->replies[s->reply_count++];
	r->exact = exact;
	r->line = at->line;
	append_unescaped(at, &r->text, text);
	s->groups[s->group_count - 1].replies = s->reply_count;
}

/* Input behind a reply begins a new group. */
static struct text *
input_of(const struct place *at, struct script *s)
{
	size_t n = s->group_count;
	size_t before = n >= 2 ? s->groups[n - 2].replies : 0;

	if (n == 0 || s->groups[n - 1].replies > before) {
		if (n == SCRIPT_GROUPS_MAX)
			fail(at, "too many groups");
		s->groups[s->group_count++] =
			(struct script_group){ .end = s->input.size, .replies = s->reply_count };
	}
	return &s->input;
}

static char *
after(char *line, const char *prefix)
{
	size_t size = strlen(prefix);
	return strncmp(line, prefix, size) == 0 ? line + size : NULL;
}

static bool
read_input_line(const struct place *at, struct script *s, char *line)
{
	char *rest;

	if ((rest = after(line, "C: ")) != NULL || (rest = after(line, "C:")) != NULL) {
		append_unescaped(at, input_of(at, s), rest);
		text_append(&s->input, SPAN("\r\n"));
	} else if ((rest = after(line, "raw: ")) != NULL) {
		append_unescaped(at, input_of(at, s), rest);
	} else if ((rest = after(line, "repeat: ")) != NULL) {
		uint64_t count = number_of(at, next_word(at, &rest));
		struct text *input = input_of(at, s);
		for (uint64_t i = 0; i < count; i++)
			append_unescaped(at, input, rest);
	} else {
		return false;
	}
	s->groups[s->group_count - 1].end = s->input.size;
	return true;
}

static void
read_line(const struct place *at, struct script *s, char *line)
{
	char *rest;

	if (line[0] == '\0' || line[0] == '#' || read_input_line(at, s, line))
		return;
	if ((rest = after(line, "S: ")) != NULL)
		add_reply(at, s, false, rest);
	else if ((rest = after(line, "S= ")) != NULL)
		add_reply(at, s, true, rest);
	else if ((rest = after(line, "option: ")) != NULL)
		read_option(at, s, rest);
	else if ((rest = after(line, "policy: ")) != NULL)
		read_policy(at, s, rest);
	else if ((rest = after(line, "expect: ")) != NULL)
		add_expect(at, s, EXPECT_EVENT, rest);
	else if ((rest = after(line, "expect no: ")) != NULL)
		add_expect(at, s, EXPECT_NO_EVENT, rest);
	else if ((rest = after(line, "expect body:")) != NULL)
		add_expect(at, s, EXPECT_BODY, rest + (rest[0] == ' '));
	else if ((rest = after(line, "expect close: ")) != NULL)
		s->close = close_of(at, rest);
	else
		fail(at, "line not understood");
}

static const struct receiver_options defaults = {
	.hostname = { (const uint8_t *)"mx.example.org", 14 },
	.size_max = 1000000,
	.discard_max = 2000000,
	.recipients_max = 100,
	.mails_max = 0,
	.errors_max = 20,
	.junk_max = 100,
	.line_max = 2048,
	.bare_newline = BODY_REJECT,
};

struct script *
script_read(const char *file)
{
	struct place at = { .file = file };
	FILE *in = fopen(file, "r");
	struct script *s = calloc(1, sizeof *s);
	char *line = NULL;
	size_t capacity = 0;

	if (in == NULL || s == NULL)
		fail(&at, "cannot be opened");
	s->file = file;
	s->options = defaults;
	for (ssize_t size; (size = getline(&line, &capacity, in)) > 0;) {
		at.line++;
		if (line[size - 1] == '\n')
			line[size - 1] = '\0';
		if (at.line == 1 && line[0] != '#')
			fail(&at, "the first line must state the behaviour");
		read_line(&at, s, line);
	}
	if (s->group_count == 0)
		fail(&at, "nothing is said");
	free(line);
	fclose(in);
	return s;
}

void
script_free(struct script *s)
{
	for (size_t i = 0; i < s->reply_count; i++)
		text_free(&s->replies[i].text);
	for (size_t i = 0; i < s->policy_count; i++) {
		text_free(&s->policies[i].argument);
		text_free(&s->policies[i].text);
	}
	for (size_t i = 0; i < s->expect_count; i++)
		text_free(&s->expects[i].text);
	text_free(&s->input);
	free(s);
}
