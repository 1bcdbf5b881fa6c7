/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/templates.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_ROOM = DSN_TEMPLATE_SIZE_MAX + 1 };

struct texts {
	struct dsn_template templates[DSN_ACTIONS]; /* first: what is given out */
	char text[DSN_ACTIONS][FILE_ROOM];
};

/* 0, or errno. */
static int
read_file(const char *path, char *text, size_t *size)
{
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return errno;
	*size = fread(text, 1, FILE_ROOM, file);
	int error = ferror(file) ? EIO : 0;
	fclose(file);
	return error;
}

static bool
load_one(struct texts *t, struct span directory, enum dsn_action a, bool *found, struct buf *why)
{
	char path[4096 + 32];
	uint8_t memory[256];
	struct buf reason = buf_of(memory, sizeof memory);
	size_t size = 0;
	size_t line = 0;

	snprintf(path, sizeof path, "%.*s/%s.txt", SPAN_ARG(directory), dsn_action_name(a));
	int error = read_file(path, t->text[a], &size);
	if (error == ENOENT)
		return true;
	if (error != 0) {
		buf_printf(why, "%.300s: %s; make it readable, or remove it for the built-in text",
			   path, strerror(error));
		return false;
	}
	*found = true;
	if (dsn_template_parse(span_of(t->text[a], size), &t->templates[a], &line, &reason))
		return true;
	buf_printf(why, "%.300s:%zu: %.*s", path, line, SPAN_ARG(buf_span(&reason)));
	return false;
}

bool
templates_load(const struct config *config, struct dsn_template **out, struct buf *why)
{
	struct span directory = config->bounces.templates;
	bool found = false;
	bool good = true;

	*out = NULL;
	if (directory.size == 0)
		return true;
	struct texts *t = calloc(1, sizeof *t);
	if (t == NULL) {
		buf_append_string(why, "out of memory for the texts of bounces.templates");
		return false;
	}
	for (unsigned a = 0; a < DSN_ACTIONS && good; a++)
		good = load_one(t, directory, (enum dsn_action)a, &found, why);
	if (good && !found) {
		buf_printf(why,
			   "bounces.templates: %.*s has none of failed.txt, delayed.txt, "
			   "relayed.txt and delivered.txt; add one or remove the option",
			   (int)span_first(directory, 300).size, (const char *)directory.data);
		good = false;
	}
	if (good)
		*out = t->templates;
	else
		free(t);
	return good;
}
