/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/secrets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "relay/smtp/sasl.h"

enum { PATH_SHOWN_MAX = 200 };

/* ---- lines ---- */

/* The next word of a line; *line moves behind it and the blanks that follow. */
static struct span
take_word(struct span *line)
{
	size_t end = 0;

	while (end < line->size && line->data[end] != ' ' && line->data[end] != '\t')
		end++;
	struct span word = span_first(*line, end);
	*line = span_after(*line, end);
	while (line->size > 0 && (line->data[0] == ' ' || line->data[0] == '\t'))
		*line = span_after(*line, 1);
	return word;
}

static bool
refuse_line(struct buf *why, struct span name, size_t number, const char *what)
{
	buf_append(why, span_first(name, PATH_SHOWN_MAX));
	buf_printf(why, ":%zu: %s", number, what);
	return false;
}

static bool
read_line(struct secrets *s, struct span line, struct span name, size_t number, struct buf *why)
{
	struct secret *secret = &s->all[s->count];

	if (line.size > 0 && line.data[line.size - 1] == '\r')
		line = span_first(line, line.size - 1);
	if (span_trim(line).size == 0 || line.data[0] == '#')
		return true;
	if (s->count == SECRETS_MAX)
		return refuse_line(why, name, number, "is one entry too many; at most 100000");
	secret->name = take_word(&line);
	secret->user = take_word(&line);
	secret->password = line;
	if (secret->name.size == 0 || secret->name.size > SECRET_NAME_MAX)
		return refuse_line(
			why, name, number,
			"has no name of 1 to 32 bytes in front; write NAME USER PASSWORD");
	if (!sasl_is_fit(secret->user, SASL_NAME_MAX) ||
	    !sasl_is_fit(secret->password, SASL_PASSWORD_MAX))
		return refuse_line(why, name, number,
				   "has no user or no password that can be sent; write NAME USER "
				   "PASSWORD, in UTF-8");
	s->count++;
	return true;
}

static int
compare(const void *left, const void *right)
{
	const struct secret *a = left, *b = right;
	size_t size = a->name.size < b->name.size ? a->name.size : b->name.size;
	int order = memcmp(a->name.data, b->name.data, size);

	if (order != 0)
		return order;
	return a->name.size < b->name.size ? -1 : a->name.size > b->name.size;
}

static bool
sort(struct secrets *s, struct span name, struct buf *why)
{
	qsort(s->all, s->count, sizeof *s->all, compare);
	for (size_t i = 1; i < s->count; i++) {
		if (!span_eq(s->all[i - 1].name, s->all[i].name))
			continue;
		buf_append(why, span_first(name, PATH_SHOWN_MAX));
		buf_printf(why, ": '%.*s' stands twice; remove one", SPAN_ARG(s->all[i].name));
		return false;
	}
	return true;
}

static bool
read_lines(struct secrets *s, struct span name, struct buf *why)
{
	struct span rest = span_of(s->text, s->text_size);
	size_t lines = 1, number = 0;

	for (size_t i = 0; i < rest.size; i++)
		lines += rest.data[i] == '\n';
	s->all = calloc(lines, sizeof *s->all);
	if (s->all == NULL) {
		buf_append_string(why, "out of memory for the secrets");
		return false;
	}
	while (rest.size > 0) {
		size_t end = span_find(rest, '\n', 0);
		if (!read_line(s, span_first(rest, end), name, ++number, why))
			return false;
		rest = span_after(rest, end + 1);
	}
	return sort(s, name, why);
}

struct secrets *
secrets_parse(struct span name, struct span text, struct buf *why)
{
	struct secrets *s = calloc(1, sizeof *s);

	if (s == NULL) {
		buf_append_string(why, "out of memory for the secrets");
		return NULL;
	}
	atomic_init(&s->references, 1);
	s->text = malloc(text.size + 1);
	s->text_size = s->text != NULL ? text.size : 0;
	if (s->text != NULL && text.size > 0)
		memcpy(s->text, text.data, text.size);
	if (s->text != NULL && read_lines(s, name, why))
		return s;
	if (s->text == NULL)
		buf_append_string(why, "out of memory for the secrets");
	secrets_put(s);
	return NULL;
}

/* ---- the file ---- */

static struct secrets *
read_file(struct span path, struct buf *why)
{
	const char *name = (const char *)path.data;
	struct file_identity identity;
	size_t size;

	if (!file_is_private(name, why))
		return NULL;
	char *text = file_read(name, SECRETS_FILE_MAX, &size, &identity);
	if (text == NULL) {
		buf_append_string(why, "secrets: ");
		buf_append(why, span_first(path, PATH_SHOWN_MAX));
		buf_printf(why, ": %s; %s", strerror(errno),
			   errno == EBUSY ? "replace it by renaming a new one"
					  : "name a file that the relay's user can read");
		return NULL;
	}
	struct secrets *s = secrets_parse(path, span_of(text, size), why);
	explicit_bzero(text, size);
	free(text);
	if (s != NULL)
		s->identity = identity;
	return s;
}

/* Mail that would wait for ever for an entry that nobody wrote is a mistake to be told at once. */
static bool
has_all(const struct secrets *s, const struct config *config, struct buf *why)
{
	for (size_t i = 0; i < config->routes_count; i++) {
		struct span name = config->routes[i].auth;
		if (name.size == 0 || secrets_find(s, name) != NULL)
			continue;
		buf_printf(why, "routes[%zu].auth: '%.*s' is no entry of ", i, SPAN_ARG(name));
		buf_append(why, span_first(config->secrets, PATH_SHOWN_MAX));
		buf_append_string(why, "; add it there, or correct the name");
		return false;
	}
	return true;
}

struct secrets *
secrets_load(const struct config *config, struct secrets *old, struct buf *why)
{
	struct file_identity now = { 0 };
	struct secrets *s;

	if (config_names_file(config->secrets))
		now = file_look((const char *)config->secrets.data);
	if (!config_names_file(config->secrets))
		s = secrets_parse(span_none(), span_none(), why);
	else if (old != NULL && now.inode != 0 && file_identity_eq(&now, &old->identity))
		s = secrets_get(old);
	else
		s = read_file(config->secrets, why);
	if (s == NULL || has_all(s, config, why))
		return s;
	secrets_put(s);
	return NULL;
}

struct secrets *
secrets_get(struct secrets *s)
{
	atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
	return s;
}

void
secrets_put(struct secrets *s)
{
	if (s == NULL || atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) != 1)
		return;
	if (s->text != NULL)
		explicit_bzero(s->text, s->text_size);
	free(s->all);
	free(s->text);
	free(s);
}

const struct secret *
secrets_find(const struct secrets *s, struct span name)
{
	struct secret wanted = { .name = name };

	if (s->count == 0)
		return NULL;
	return bsearch(&wanted, s->all, s->count, sizeof *s->all, compare);
}

/* ---- has it changed? ---- */

static uint64_t
mix(const struct file_identity *identity)
{
	const uint64_t parts[] = { identity->device, identity->inode, identity->size,
				   identity->modified_ns, identity->changed_ns };
	uint64_t state = 3;

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		state = (state ^ parts[i]) * 0x9e3779b97f4a7c15ULL;
		state ^= state >> 32;
	}
	return state;
}

uint64_t
secrets_state(const struct secrets *s)
{
	return mix(&s->identity);
}

uint64_t
secrets_state_on_disk(const struct config *config)
{
	struct file_identity now = { 0 };

	if (config_names_file(config->secrets))
		now = file_look((const char *)config->secrets.data);
	return mix(&now);
}
