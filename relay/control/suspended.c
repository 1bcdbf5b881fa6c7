/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/suspended.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/file.h"

enum {
	NUMBER_SIZE = 24,
	NAME_SIZE_MAX = 64 * 1024, /* of the list of a route's hosts */
	FILE_SIZE_MAX = SUSPENSIONS_MAX * (NAME_SIZE_MAX + NUMBER_SIZE),
};

static struct suspended_site *
find(struct suspended *s, struct span name)
{
	for (unsigned i = 0; i < s->count; i++) {
		if (span_eq(s->sites[i].name, name))
			return &s->sites[i];
	}
	return NULL;
}

const struct suspended_site *
suspended_find(const struct suspended *s, struct span name)
{
	return find((struct suspended *)(uintptr_t)s, name);
}

bool
suspended_add(struct suspended *s, struct span name, uint64_t until_ms)
{
	struct suspended_site *site = find(s, name);

	if (site == NULL) {
		uint8_t *copy = s->count < SUSPENSIONS_MAX ? malloc(name.size + 1) : NULL;
		if (copy == NULL)
			return false;
		memcpy(copy, name.data, name.size);
		site = &s->sites[s->count++];
		site->name = span_of(copy, name.size);
	}
	site->until_ms = until_ms;
	s->version++;
	return true;
}

bool
suspended_remove(struct suspended *s, struct span name)
{
	struct suspended_site *site = find(s, name);

	if (site == NULL)
		return false;
	free((void *)(uintptr_t)site->name.data);
	*site = s->sites[--s->count];
	s->version++;
	return true;
}

const struct suspended_site *
suspended_over(const struct suspended *s, uint64_t now_wall_ms)
{
	for (unsigned i = 0; i < s->count; i++) {
		if (s->sites[i].until_ms != 0 && s->sites[i].until_ms <= now_wall_ms)
			return &s->sites[i];
	}
	return NULL;
}

uint64_t
suspended_next_ms(const struct suspended *s)
{
	uint64_t next_ms = 0;

	for (unsigned i = 0; i < s->count; i++) {
		uint64_t until_ms = s->sites[i].until_ms;
		if (until_ms != 0 && (next_ms == 0 || until_ms < next_ms))
			next_ms = until_ms;
	}
	return next_ms;
}

struct suspensions *
suspended_list(const struct suspended *s)
{
	struct span names[SUSPENSIONS_MAX];

	for (unsigned i = 0; i < s->count; i++)
		names[i] = s->sites[i].name;
	return suspensions_new(names, s->count, s->version);
}

/* "UNTIL NAME" */
static bool
load_line(struct suspended *s, struct span line)
{
	size_t blank = span_find(line, ' ', 0);
	struct span name = span_after(line, blank + 1);
	uint64_t until_ms;

	return blank < line.size && name.size > 0 &&
	       span_to_u64(span_first(line, blank), &until_ms) && suspended_add(s, name, until_ms);
}

bool
suspended_load(struct suspended *s, const char *file, struct buf *why)
{
	struct file_identity identity;
	size_t size;
	char *text = file_read(file, FILE_SIZE_MAX, &size, &identity);

	if (text == NULL && errno == ENOENT)
		return true;
	if (text == NULL) {
		buf_printf(why,
			   "%s: %s; it lists the suspended sites: make it readable, or remove it",
			   file, strerror(errno));
		return false;
	}
	struct span rest = span_of(text, size);
	bool good = true;
	for (unsigned n = 1; good && rest.size > 0; n++) {
		size_t end = span_find(rest, '\n', 0);
		good = end < rest.size && load_line(s, span_first(rest, end));
		if (!good)
			buf_printf(
				why,
				"%s:%u: this is no line of a list of suspended sites; remove the "
				"file and suspend them again",
				file, n);
		rest = span_after(rest, end < rest.size ? end + 1 : end);
	}
	free(text);
	return good;
}

bool
suspended_save(const struct suspended *s, const char *file)
{
	size_t size = 0;

	for (unsigned i = 0; i < s->count; i++)
		size += s->sites[i].name.size + NUMBER_SIZE;
	uint8_t *memory = malloc(size + 1);
	if (memory == NULL) {
		errno = ENOMEM;
		return false;
	}
	struct buf text = buf_of(memory, size);
	for (unsigned i = 0; i < s->count; i++)
		buf_printf(&text, "%llu %.*s\n", (unsigned long long)s->sites[i].until_ms,
			   SPAN_ARG(s->sites[i].name));
	ASSERT(!text.overflow);
	bool good = file_replace(file, buf_span(&text));
	int error = errno;
	free(memory);
	errno = error;
	return good;
}

void
suspended_fini(struct suspended *s)
{
	while (s->count > 0) {
		bool removed = suspended_remove(s, s->sites[0].name);
		ASSERT(removed);
	}
}
