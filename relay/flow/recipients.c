/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/recipients.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

enum { PATH_SHOWN_MAX = 200 };

/* Which file a path is, while the set is made. */
struct path_index {
	uint32_t *slots; /* index in files, plus 1 */
	size_t mask;
};

static uint32_t *
slot_of(const struct path_index *index, const struct recipient_file *files, struct span path)
{
	size_t at = span_hash_nocase(path, 0) & index->mask;

	while (index->slots[at] != 0 && !span_eq(files[index->slots[at] - 1].path, path))
		at = (at + 1) & index->mask;
	return &index->slots[at];
}

static bool
refuse(struct buf *why, struct span path, const char *fault, const char *remedy)
{
	if (path.size > PATH_SHOWN_MAX)
		path = span_after(path, path.size - PATH_SHOWN_MAX);
	buf_append_string(why, "recipients: ");
	buf_append(why, path);
	buf_append_string(why, ": ");
	buf_append_string(why, fault);
	buf_append_string(why, "; ");
	buf_append_string(why, remedy);
	return false;
}

static bool
read_file(struct recipient_file *f, struct buf *why)
{
	const char *path = (const char *)f->path.data;
	uint64_t started_ms = clock_monotonic_ms();
	size_t size;
	char *text = file_read(path, RECIPIENT_FILE_MAX, &size, &f->identity);

	if (text == NULL) {
		const char *remedy = errno == EBUSY ? "replace it by renaming a new one"
						    : "name a file that the relay's user can read";
		return refuse(why, f->path, strerror(errno), remedy);
	}
	f->table = recipient_table_parse(f->path, span_of(text, size), why);
	free(text);
	f->load_ms = clock_monotonic_ms() - started_ms;
	f->fresh = true;
	return f->table != NULL;
}

/* The table of the set before, where the file is still the same. It is most often at the same
 * place there. */
static bool
take_over(struct recipient_file *f, const struct recipients *old, size_t place)
{
	struct file_identity now = file_look((const char *)f->path.data);

	for (size_t i = 0; old != NULL && i < old->file_count; i++) {
		const struct recipient_file *before = &old->files[(place + i) % old->file_count];
		if (!file_identity_eq(&before->identity, &now) || !span_eq(before->path, f->path))
			continue;
		f->identity = before->identity;
		f->table = recipient_table_get(before->table);
		f->load_ms = before->load_ms;
		return true;
	}
	return false;
}

/* The number of the file, which is read when it is met for the first time; 0 where it cannot be. */
static uint32_t
add_file(struct recipients *r, const struct path_index *index, struct span path,
	 const struct recipients *old, struct buf *why)
{
	uint32_t *slot = slot_of(index, r->files, path);

	if (*slot != 0)
		return *slot;
	if (r->file_count == RECIPIENT_FILES_MAX) {
		refuse(why, path, "is one file of recipients too many",
		       "put the recipients of several domains into one, at most 10000 files");
		return 0;
	}
	struct recipient_file *f = &r->files[r->file_count];
	f->path = path;
	if (!take_over(f, old, r->file_count) && !read_file(f, why))
		return 0;
	*slot = (uint32_t)++r->file_count;
	return *slot;
}

static bool
fill(struct recipients *r, const struct config *config, const struct path_index *index,
     const struct recipients *old, struct buf *why)
{
	for (size_t i = 0; i < config->relay.domains_count; i++) {
		const struct config_domain *d = &config->relay.domains[i];
		const struct config_route *route = config_route_find(config, d->name);
		if (d->recipients.kind == RECIPIENTS_FILE) {
			r->of_domain[i] = add_file(r, index, d->recipients.file, old, why);
			if (r->of_domain[i] == 0)
				return false;
		}
		/* Nobody bounces what is discarded. */
		if (d->recipients.kind == RECIPIENTS_ANY && route != NULL &&
		    route->to.kind != TARGET_DISCARD && r->any_count++ == 0)
			r->any = d->name;
	}
	return true;
}

struct recipients *
recipients_load(const struct config *config, const struct recipients *old, struct buf *why)
{
	struct recipients *r = calloc(1, sizeof *r);
	struct path_index index = { .mask = RECIPIENT_FILES_MAX * 2 };
	bool loaded = false;

	while ((index.mask & (index.mask + 1)) != 0)
		index.mask |= index.mask >> 1;
	if (r == NULL) {
		buf_append_string(why, "out of memory for the recipients");
		return NULL;
	}
	size_t files = config->relay.domains_count < RECIPIENT_FILES_MAX
			       ? config->relay.domains_count
			       : RECIPIENT_FILES_MAX;
	r->files = calloc(files + 1, sizeof *r->files);
	r->of_domain = calloc(config->relay.domains_count + 1, sizeof *r->of_domain);
	index.slots = calloc(index.mask + 1, sizeof *index.slots);
	if (r->files != NULL && r->of_domain != NULL && index.slots != NULL)
		loaded = fill(r, config, &index, old, why);
	else
		buf_append_string(why, "out of memory for the recipients");
	free(index.slots);
	if (loaded)
		return r;
	recipients_free(r);
	return NULL;
}

void
recipients_free(struct recipients *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->file_count; i++)
		recipient_table_put(r->files[i].table);
	free(r->files);
	free(r->of_domain);
	free(r);
}

bool
recipients_has(const struct recipients *r, const struct config *config,
	       const struct config_domain *domain, const struct address *a)
{
	size_t row = (size_t)(domain - config->relay.domains);

	ASSERT(row < config->relay.domains_count);
	ASSERT(r->of_domain[row] > 0 && r->of_domain[row] <= r->file_count);
	return recipient_table_has(r->files[r->of_domain[row] - 1].table, a,
				   config->relay.recipient_delimiter);
}

static uint64_t
mix(uint64_t state, const struct file_identity *identity)
{
	const uint64_t parts[] = { identity->device, identity->inode, identity->size,
				   identity->modified_ns, identity->changed_ns };

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		state = (state ^ parts[i]) * 0x9e3779b97f4a7c15ULL;
		state ^= state >> 32;
	}
	return state;
}

uint64_t
recipients_state(const struct recipients *r)
{
	uint64_t state = 1;

	for (size_t i = 0; i < r->file_count; i++)
		state = mix(state, &r->files[i].identity);
	return state;
}

uint64_t
recipients_state_on_disk(const struct recipients *r)
{
	uint64_t state = 1;

	for (size_t i = 0; i < r->file_count; i++) {
		struct file_identity now = file_look((const char *)r->files[i].path.data);
		state = mix(state, &now);
	}
	return state;
}
