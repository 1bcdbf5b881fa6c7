/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/users.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

enum { PATH_SHOWN_MAX = 200, SHOWN_MAX = 60, STANDARD_ITERATIONS = 100000 };

/* ---- reading ---- */

static void
name_file(struct buf *why, struct span name)
{
	/* The end of a long path says more than its start. */
	if (name.size > PATH_SHOWN_MAX)
		name = span_after(name, name.size - PATH_SHOWN_MAX);
	buf_append(why, name);
}

/* Of the line only its first word is shown: a verifier stands behind it. */
static void
say(struct buf *why, struct span name, size_t line, struct span text, const char *fault)
{
	size_t end = 0;

	text = span_trim(text);
	while (end < text.size && text.data[end] > ' ')
		end++;
	name_file(why, name);
	buf_append_byte(why, ':');
	buf_append_number(why, line);
	buf_append_string(why, ": the line of '");
	buf_append_json(why, span_first(text, end), SHOWN_MAX);
	buf_append_string(why, "' ");
	buf_append_string(why, fault);
}

static uint32_t *
slot_of(const struct users *u, struct span name)
{
	size_t at = span_hash_nocase(name, 0) & u->mask;

	while (u->slots[at] != 0 && !span_eq_nocase(u->all[u->slots[at] - 1].name, name))
		at = (at + 1) & u->mask;
	return &u->slots[at];
}

static size_t
count_lines(struct span text)
{
	size_t lines = 1;

	for (size_t i = 0; i < text.size; i++)
		lines += text.data[i] == '\n';
	return lines;
}

static size_t
count_items(struct span list)
{
	struct span item;
	size_t count = 0;

	while (user_line_item(&list, &item))
		count++;
	return count;
}

/* Room for as many users as there are lines; certificates grow as they come. */
static bool
make_room(struct users *u)
{
	size_t lines = count_lines(span_of(u->text, u->text_size));

	u->mask = 1;
	while (u->mask < 2 * lines)
		u->mask = u->mask << 1 | 1;
	u->all = calloc(lines, sizeof *u->all);
	u->slots = calloc(u->mask + 1, sizeof *u->slots);
	return u->all != NULL && u->slots != NULL;
}

static bool
add_certificates(struct users *u, struct span list)
{
	size_t more = count_items(list);
	struct span item;

	if (more == 0)
		return true;
	struct user_certificate *all =
		reallocarray(u->certificates, u->certificate_count + more, sizeof *u->certificates);
	if (all == NULL)
		return false;
	u->certificates = all;
	while (user_line_item(&list, &item)) {
		struct user_certificate *c = &all[u->certificate_count++];
		bool ok = user_line_fingerprint(item, c->fingerprint);
		ASSERT(ok); /* the line was parsed */
		c->user = (uint32_t)u->count;
	}
	return true;
}

static const char *
add_user(struct users *u, const struct user_line *line)
{
	uint32_t *slot = slot_of(u, line->name);

	if (*slot != 0)
		return "names a user that stands above already; keep one of the lines";
	if (!add_certificates(u, line->certificates))
		return "does not fit in memory";
	struct user *user = &u->all[u->count++];
	*slot = (uint32_t)u->count;
	*user = (struct user){
		.users = u,
		.name = line->name,
		.has_verifier = line->has_verifier,
		.disabled = line->disabled,
		.verifier = line->verifier,
		.from = line->from,
	};
	memcpy(user->limits, line->limits, sizeof user->limits);
	return NULL;
}

static const char *
take_line(struct users *u, struct span text)
{
	struct user_line line;
	const char *fault = user_line_parse(text, &line);

	if (fault == NULL && line.kind == USER_LINE_USER) {
		fault = add_user(u, &line);
	} else if (fault == NULL && line.kind == USER_LINE_SECRET) {
		memcpy(u->secret, line.secret, line.secret_size);
		u->secret_size = line.secret_size;
	}
	explicit_bzero(&line, sizeof line);
	return fault;
}

static int
compare(const void *a, const void *b)
{
	const struct user_certificate *left = a;
	const struct user_certificate *right = b;

	return memcmp(left->fingerprint, right->fingerprint, sizeof left->fingerprint);
}

/* In order, so that they can be searched; one that two users have is nobody's. */
static bool
sort_certificates(struct users *u, struct span name, struct buf *why)
{
	if (u->certificate_count > 0)
		qsort(u->certificates, u->certificate_count, sizeof *u->certificates, compare);
	for (size_t i = 1; i < u->certificate_count; i++) {
		if (compare(&u->certificates[i - 1], &u->certificates[i]) != 0)
			continue;
		name_file(why, name);
		buf_append_string(why, ": '");
		buf_append_json(why, u->all[u->certificates[i - 1].user].name, SHOWN_MAX);
		buf_append_string(why, "' and '");
		buf_append_json(why, u->all[u->certificates[i].user].name, SHOWN_MAX);
		buf_append_string(why, "' have the same certificate; let one of them keep it");
		return false;
	}
	return true;
}

/* What most users have is what one who does not exist has: the candidate that is left when unlike
 * ones have cancelled each other out. */
static void
choose_iterations(struct users *u)
{
	uint32_t candidate = STANDARD_ITERATIONS;
	size_t lead = 0;

	for (size_t i = 0; i < u->count; i++) {
		if (!u->all[i].has_verifier)
			continue;
		uint32_t iterations = u->all[i].verifier.iterations;
		if (lead == 0)
			candidate = iterations;
		if (iterations == candidate)
			lead++;
		else
			lead--;
	}
	u->iterations = candidate;
}

static bool
read_lines(struct users *u, struct span name, struct buf *why)
{
	struct span rest = span_of(u->text, u->text_size);

	for (size_t line = 1; rest.size > 0; line++) {
		size_t end = span_find(rest, '\n', 0);
		struct span text = span_first(rest, end);
		const char *fault = take_line(u, text);
		if (fault != NULL) {
			say(why, name, line, text, fault);
			return false;
		}
		rest = span_after(rest, end + 1);
	}
	return sort_certificates(u, name, why);
}

struct users *
users_parse(struct span name, struct span text, struct buf *why)
{
	struct users *u = calloc(1, sizeof *u);

	if (u == NULL) {
		buf_append_string(why, "out of memory for the users");
		return NULL;
	}
	atomic_init(&u->references, 1);
	for (size_t i = 0; i < sizeof u->secret; i += sizeof(uint64_t)) {
		uint64_t random = random_u64();
		memcpy(u->secret + i, &random, sizeof random);
	}
	u->secret_size = sizeof u->secret;
	u->text = malloc(text.size + 1);
	u->text_size = text.size;
	if (u->text != NULL && text.size > 0)
		memcpy(u->text, text.data, text.size);
	bool fine = u->text != NULL && make_room(u);
	if (!fine)
		buf_append_string(why, "out of memory for the users");
	else
		fine = read_lines(u, name, why);
	if (!fine) {
		users_put(u);
		return NULL;
	}
	choose_iterations(u);
	return u;
}

/* ---- the file ---- */

static struct users *
refuse(struct buf *why, struct span path, const char *fault, const char *remedy)
{
	buf_append_string(why, "users.file: ");
	name_file(why, path);
	buf_append_string(why, ": ");
	buf_append_string(why, fault);
	buf_append_string(why, "; ");
	buf_append_string(why, remedy);
	return NULL;
}

static struct users *
read_file(struct span path, struct buf *why)
{
	const char *name = (const char *)path.data;
	uint64_t started_ms = clock_monotonic_ms();
	struct file_identity identity;
	size_t size;

	if (!file_is_private(name, why))
		return NULL;
	char *text = file_read(name, USERS_FILE_MAX, &size, &identity);
	if (text == NULL)
		return refuse(why, path, strerror(errno),
			      errno == ENOENT  ? "make it with `ringpostctl user add`"
			      : errno == EBUSY ? "replace it by renaming a new one"
					       : "name a file that the relay's user can read");
	struct users *u = users_parse(path, span_of(text, size), why);
	explicit_bzero(text, size);
	free(text);
	if (u == NULL)
		return NULL;
	u->identity = identity;
	u->load_ms = clock_monotonic_ms() - started_ms;
	return u;
}

struct users *
users_load(const struct config *config, struct users *old, struct buf *why)
{
	struct span path = config->users.file;

	if (!config_names_file(path))
		return users_parse(span_none(), span_none(), why);
	struct file_identity now = file_look((const char *)path.data);
	if (old != NULL && now.inode != 0 && file_identity_eq(&now, &old->identity))
		return users_get(old);
	return read_file(path, why);
}

struct users *
users_get(struct users *u)
{
	atomic_fetch_add_explicit(&u->references, 1, memory_order_relaxed);
	return u;
}

void
users_put(struct users *u)
{
	if (u == NULL || atomic_fetch_sub_explicit(&u->references, 1, memory_order_acq_rel) != 1)
		return;
	if (u->all != NULL)
		explicit_bzero(u->all, u->count * sizeof *u->all);
	if (u->text != NULL)
		explicit_bzero(u->text, u->text_size);
	explicit_bzero(u->secret, sizeof u->secret);
	free(u->all);
	free(u->slots);
	free(u->certificates);
	free(u->text);
	free(u);
}

/* ---- asking ---- */

const struct user *
users_find(const struct users *u, struct span name)
{
	uint32_t slot = *slot_of(u, name);

	return slot == 0 ? NULL : &u->all[slot - 1];
}

const struct user *
users_find_certificate(const struct users *u, const uint8_t fingerprint[USER_FINGERPRINT_SIZE])
{
	struct user_certificate wanted;

	if (u->certificate_count == 0)
		return NULL;
	memcpy(wanted.fingerprint, fingerprint, sizeof wanted.fingerprint);
	const struct user_certificate *found =
		bsearch(&wanted, u->certificates, u->certificate_count, sizeof wanted, compare);
	return found == NULL ? NULL : &u->all[found->user];
}

const struct user *
user_alone(struct span name)
{
	uint8_t memory[SASL_NAME_MAX + 4];
	uint8_t why_memory[256];
	struct buf line = buf_of(memory, sizeof memory);
	struct buf why = buf_of(why_memory, sizeof why_memory);

	buf_append(&line, name);
	buf_append_string(&line, " -");
	struct users *u = line.overflow ? NULL : users_parse(span_none(), buf_span(&line), &why);
	/* A name that the file could not have is nobody's. */
	if (u != NULL && u->count == 1 && span_eq(u->all[0].name, name))
		return u->all;
	users_put(u);
	return NULL;
}

const struct user *
user_get(const struct user *u)
{
	users_get(u->users);
	return u;
}

void
user_put(const struct user *u)
{
	if (u != NULL)
		users_put(u->users);
}

void
users_fake(const struct users *u, struct span name, struct sasl_verifier *out)
{
	uint8_t memory[SASL_NAME_MAX];
	size_t size = name.size < sizeof memory ? name.size : sizeof memory;

	/* Names differ in nothing but case: they have one salt, as those that exist. */
	for (size_t i = 0; i < size; i++)
		memory[i] = ascii_lower(name.data[i]);
	sasl_verifier_fake(out, span_of(u->secret, u->secret_size), span_of(memory, size),
			   u->iterations);
}

/* ---- has it changed? ---- */

static uint64_t
mix(const struct file_identity *identity)
{
	const uint64_t parts[] = { identity->device, identity->inode, identity->size,
				   identity->modified_ns, identity->changed_ns };
	uint64_t state = 1;

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		state = (state ^ parts[i]) * 0x9e3779b97f4a7c15ULL;
		state ^= state >> 32;
	}
	return state;
}

uint64_t
users_state(const struct users *u)
{
	return mix(&u->identity);
}

uint64_t
users_state_on_disk(const struct config *config)
{
	struct file_identity now = { 0 };

	if (config_names_file(config->users.file))
		now = file_look((const char *)config->users.file.data);
	return mix(&now);
}
