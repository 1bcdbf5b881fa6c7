/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/recipient_table.h"

#include <stdlib.h>

#include "core/base/assert.h"

enum {
	KEY_MAX = ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX,
	KEY_HEAD = 2,   /* bytes of its size */
	SHOWN_MAX = 60, /* bytes of a bad line */
	NAME_MAX_SHOWN = 200,
};

/* ---- keys ---- */

static void
lower(struct buf *b, size_t from)
{
	for (size_t i = from; i < b->size; i++)
		b->data[i] = ascii_lower(b->data[i]);
}

/* The local part as it counts: without quotes, in lower case. */
static void
write_local(const struct address *a, struct buf *out)
{
	bool fits = address_unquote(a, out);

	ASSERT(fits); /* no longer than as written */
	lower(out, 0);
}

static void
write_domain(struct span domain, struct buf *out)
{
	size_t from = out->size;

	buf_append_byte(out, '@');
	buf_append(out, domain);
	ASSERT(!out->overflow);
	lower(out, from);
}

static struct span
key_at(const struct recipient_table *t, uint32_t slot)
{
	const uint8_t *head = t->keys + slot - 1;

	return span_of(head + KEY_HEAD, (size_t)(head[0] | head[1] << 8));
}

/* Where the key is, or the empty slot where it belongs; at most half of them are used. */
static uint32_t *
slot_of(const struct recipient_table *t, struct span key)
{
	size_t at = span_hash_nocase(key, 0) & t->mask;

	while (t->slots[at] != 0 && !span_eq(key_at(t, t->slots[at]), key))
		at = (at + 1) & t->mask;
	return &t->slots[at];
}

/* ---- reading ---- */

/* What stands behind the last '@' that is outside quotes belongs to no local part. */
static bool
has_domain(struct span word)
{
	bool quoted = false;

	for (size_t i = 0; i < word.size; i++) {
		if (word.data[i] == '"')
			quoted = !quoted;
		else if (quoted && word.data[i] == '\\')
			i++;
		else if (!quoted && word.data[i] == '@')
			return true;
	}
	return false;
}

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* The one word of a line; empty where there is none. False where there are more. */
static bool
find_word(struct span line, struct span *word)
{
	bool quoted = false;
	size_t end = 0;

	line = span_trim(line);
	*word = span_none();
	if (line.size == 0 || line.data[0] == '#')
		return true;
	while (end < line.size && (quoted || !is_blank(line.data[end]))) {
		if (line.data[end] == '"')
			quoted = !quoted;
		else if (quoted && line.data[end] == '\\')
			end++;
		end++;
	}
	*word = span_first(line, end);
	struct span rest = span_trim(span_after(line, end));
	return rest.size == 0 || rest.data[0] == '#';
}

/* The key of a word. NULL, or what is wrong with it. */
static const char *
make_key(struct span word, struct buf *key)
{
	uint8_t memory[RECIPIENT_LINE_MAX + 2];
	struct buf text = buf_of(memory, sizeof memory);
	struct address a;
	bool alone = !has_domain(word);

	if (word.data[0] == '@')
		return "would take mail for all of a domain; write recipients: any for that";
	buf_append(&text, word);
	if (alone)
		buf_append_string(&text, "@a"); /* any domain: it is not looked at */
	switch (address_parse_mailbox(buf_span(&text), &a)) {
	case ADDRESS_OK:
		write_local(&a, key);
		write_domain(alone ? span_none() : a.domain, key);
		return NULL;
	case ADDRESS_TOO_LONG:
		return "is too long; an address has at most 64 bytes before its @ and 255 behind";
	case ADDRESS_BAD_UTF8:
		return "is no UTF-8; convert the file";
	default:
		return "is no address; write one such as ann@example.org, or ann";
	}
}

static void
add_key(struct recipient_table *t, struct span key, size_t *used)
{
	uint32_t *slot = slot_of(t, key);

	if (*slot != 0)
		return;
	*slot = (uint32_t)*used + 1;
	t->keys[(*used)++] = (uint8_t)key.size;
	t->keys[(*used)++] = (uint8_t)(key.size >> 8);
	memcpy(t->keys + *used, key.data, key.size);
	*used += key.size;
	t->count++;
}

/* Takes one line. NULL, or what is wrong with it. */
static const char *
take_line(struct recipient_table *t, struct span line, size_t *used)
{
	uint8_t memory[KEY_MAX];
	struct buf key = buf_of(memory, sizeof memory);
	struct span word;

	if (line.size > 0 && line.data[line.size - 1] == '\r')
		line.size--;
	if (line.size > RECIPIENT_LINE_MAX)
		return "is too long; put each recipient on a line of its own";
	if (!find_word(line, &word))
		return "has more than one word; put each recipient on a line of its own";
	if (word.size == 0)
		return NULL;
	const char *fault = make_key(word, &key);
	if (fault == NULL)
		add_key(t, buf_span(&key), used);
	return fault;
}

static void
say(struct buf *why, struct span name, size_t line, struct span text, const char *fault)
{
	/* The end of a long path says more than its start. */
	if (name.size > NAME_MAX_SHOWN)
		name = span_after(name, name.size - NAME_MAX_SHOWN);
	buf_append(why, name);
	buf_append_byte(why, ':');
	buf_append_number(why, line);
	buf_append_string(why, ": '");
	buf_append_json(why, text, SHOWN_MAX);
	buf_append_string(why, text.size > SHOWN_MAX ? "...' " : "' ");
	buf_append_string(why, fault);
}

/* ---- the block ---- */

static size_t
count_lines(struct span text)
{
	size_t lines = 1;

	for (size_t at = span_find(text, '\n', 0); at < text.size; at = span_find(text, '\n', at))
		lines++, at++;
	return lines;
}

/* With room for all lines, each a recipient: what is not used of it is never touched. */
static struct recipient_table *
make_table(struct span text)
{
	size_t lines = count_lines(text);
	size_t slots = 4;

	while (slots < lines * 2)
		slots *= 2;
	/* A line gives its bytes but for the line end, a size, and an '@' where it has none. */
	size_t keys = text.size + lines * (KEY_HEAD + 1);
	struct recipient_table *t = calloc(1, sizeof *t + slots * sizeof *t->slots + keys);
	if (t == NULL)
		return NULL;
	atomic_init(&t->references, 1);
	t->mask = slots - 1;
	t->slots = (uint32_t *)(void *)(t + 1);
	t->keys = (uint8_t *)(t->slots + slots);
	return t;
}

struct recipient_table *
recipient_table_parse(struct span name, struct span text, struct buf *why)
{
	const char *fault = NULL;
	size_t used = 0, line = 0;

	ASSERT(text.size <= RECIPIENT_FILE_MAX);
	if (span_starts_with(text, SPAN("\xef\xbb\xbf")))
		text = span_after(text, 3);
	struct recipient_table *t = make_table(text);
	if (t == NULL) {
		say(why, name, 1, span_none(), "does not fit in memory; shorten the file");
		return NULL;
	}
	for (size_t at = 0; at < text.size && fault == NULL; line++) {
		size_t end = span_find(text, '\n', at);
		struct span bytes = span_of(text.data + at, end - at);
		fault = take_line(t, bytes, &used);
		if (fault != NULL)
			say(why, name, line + 1, bytes, fault);
		at = end + 1;
	}
	if (fault == NULL && t->count == 0) {
		/* Far more often the trace of a program that failed than what somebody wants. */
		fault = "has no recipients, so all mail would be refused; list at least one";
		say(why, name, 1, span_none(), fault);
	}
	t->bytes = sizeof *t + (t->mask + 1) * sizeof *t->slots + used;
	if (fault == NULL)
		return t;
	recipient_table_put(t);
	return NULL;
}

struct recipient_table *
recipient_table_get(struct recipient_table *t)
{
	atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
	return t;
}

void
recipient_table_put(struct recipient_table *t)
{
	if (atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) == 1)
		free(t);
}

/* ---- looking up ---- */

/* "local@domain", and "local@" of the domains that use the file. */
static bool
has_local(const struct recipient_table *t, struct span local, struct span domain)
{
	uint8_t memory[KEY_MAX];
	struct buf key = buf_of(memory, sizeof memory);

	buf_append(&key, local);
	write_domain(domain, &key);
	if (*slot_of(t, buf_span(&key)) != 0)
		return true;
	return *slot_of(t, span_first(buf_span(&key), local.size + 1)) != 0;
}

bool
recipient_table_has(const struct recipient_table *t, const struct address *a,
		    struct span delimiters)
{
	uint8_t memory[ADDRESS_LOCAL_MAX];
	struct buf b = buf_of(memory, sizeof memory);

	write_local(a, &b);
	struct span local = buf_span(&b);
	if (has_local(t, local, a->domain))
		return true;
	/* A delimiter in front has nothing before it that could be a mailbox. */
	for (size_t i = 1; i < local.size; i++) {
		if (span_find(delimiters, local.data[i], 0) < delimiters.size)
			return has_local(t, span_first(local, i), a->domain);
	}
	return false;
}
