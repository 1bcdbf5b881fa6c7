/* SPDX-License-Identifier: Apache-2.0
 *
 * From a snapshot to text, from two to their differences, and from the table to its page. Each is
 * one walk over the rows.
 */
#include "core/base/assert.h"
#include "core/config_table.h"

enum { PLACE_MAX = 160 };

static bool
is_end(enum option_kind kind)
{
	return kind == OPTION_GROUP_END || kind == OPTION_LIST_END;
}

static void
indent(size_t depth, struct buf *out)
{
	for (size_t i = 0; i < depth; i++)
		buf_append_string(out, "  ");
}

/* Is it a group that nobody has given, and that is not in effect either? */
static bool
is_left_out(size_t row, const void *base)
{
	const struct option *o = &option_rows[row];
	const struct option *first = o + 1;

	return o->kind == OPTION_GROUP && first->kind == OPTION_GIVEN &&
	       !*(const bool *)((const char *)base + o->offset + first->offset);
}

/* The members of one struct. Of a list's item the first follows the "- " that is there already. */
static void
print_struct(size_t row, const void *base, size_t depth, bool item, struct buf *out)
{
	for (; row < option_rows_count && !is_end(option_rows[row].kind); row = option_skip(row)) {
		const struct option *o = &option_rows[row];
		if (o->kind == OPTION_GIVEN || is_left_out(row, base))
			continue;
		if (!item)
			indent(depth, out);
		item = false;
		buf_printf(out, "%s:", o->name);
		if (o->kind == OPTION_GROUP) {
			buf_append_byte(out, '\n');
			print_struct(row + 1, (const char *)base + o->offset, depth + 1, false,
				     out);
		} else if (o->kind == OPTION_LIST) {
			size_t count;
			const char *items = option_items(o, base, &count);
			buf_append_string(out, count == 0 ? " []\n" : "\n");
			for (size_t i = 0; i < count && !out->overflow; i++) {
				indent(depth + 1, out);
				buf_append_string(out, "- ");
				print_struct(row + 1, items + i * o->item_size, depth + 2, true,
					     out);
			}
		} else {
			buf_append_byte(out, ' ');
			value_print(o, base, out);
			buf_append_byte(out, '\n');
		}
	}
}

bool
config_print(const struct config *config, struct buf *out)
{
	print_struct(0, config, 0, false, out);
	return !out->overflow;
}

/* Compares member by member and hands each option that differs, and has a value of its own, to
 * `differs`. A list whose length differs is one difference. */
typedef void (*differs_fn)(void *context, const char *path, const struct option *o);

static void
compare(size_t row, const void *a, const void *b, const char *path, differs_fn differs,
	void *context)
{
	for (; row < option_rows_count && !is_end(option_rows[row].kind); row = option_skip(row)) {
		const struct option *o = &option_rows[row];
		char memory[PLACE_MAX];
		struct buf place = buf_of(memory, sizeof memory);
		buf_printf(&place, "%s%s%s", path, path[0] == 0 ? "" : ".", o->name);
		ASSERT(!place.overflow);
		memory[place.size] = 0; /* buf_printf leaves room for it */
		if (o->kind == OPTION_GROUP) {
			compare(row + 1, (const char *)a + o->offset, (const char *)b + o->offset,
				memory, differs, context);
			continue;
		}
		if (o->kind == OPTION_GIVEN)
			continue;
		if (o->kind != OPTION_LIST) {
			if (!value_eq(o, a, b))
				differs(context, memory, o);
			continue;
		}
		size_t counts[2];
		const char *left = option_items(o, a, &counts[0]);
		const char *right = option_items(o, b, &counts[1]);
		if (counts[0] != counts[1])
			differs(context, memory, o);
		for (size_t i = 0; counts[0] == counts[1] && i < counts[0]; i++)
			compare(row + 1, left + i * o->item_size, right + i * o->item_size, memory,
				differs, context);
	}
}

static void
count_difference(void *context, const char *path, const struct option *o)
{
	(void)path;
	(void)o;
	++*(size_t *)context;
}

bool
config_eq(const struct config *a, const struct config *b)
{
	size_t differences = 0;

	compare(0, a, b, "", count_difference, &differences);
	return differences == 0;
}

struct restart_list {
	struct buf *out;
	size_t start; /* of the list in out */
	bool needed;
};

static void
add_restart(void *context, const char *path, const struct option *o)
{
	struct restart_list *list = context;
	struct span text = span_after(buf_span(list->out), list->start);

	if (!o->restart)
		return;
	list->needed = true;
	/* Two listeners that differ are one option to name. */
	size_t size = strlen(path);
	if (text.size >= size && memcmp(text.data + text.size - size, path, size) == 0)
		return;
	if (text.size > 0)
		buf_append_string(list->out, ", ");
	buf_append_string(list->out, path);
}

bool
config_restart_needed(const struct config *old, const struct config *new, struct buf *out)
{
	struct restart_list list = { .out = out, .start = out->size };

	compare(0, old, new, "", add_restart, &list);
	return list.needed;
}

static void
doc_value(const struct option *o, struct buf *out)
{
	if (o->kind == OPTION_CHOICE) {
		buf_append_string(out, "One of");
		for (size_t i = 0; i < o->choice->count; i++) {
			if (o->choice->words[i].remedy == NULL)
				buf_printf(out, " `%s`", o->choice->words[i].word);
		}
		buf_append_string(out, ".");
	} else {
		const char *text = value_describe(o->kind);
		buf_printf(out, "%c%s.", text[0] - 'a' + 'A', text + 1);
	}
	if (o->least != NULL)
		buf_printf(out, " From `%s` to `%s`.", o->least, o->most);
	if (o->standard == NULL)
		buf_append_string(out, " Required.");
	else if (o->standard[0] != 0)
		buf_printf(out, " Default: `%s`.", o->standard);
}

static void
doc_struct(size_t row, const char *path, struct buf *out)
{
	for (; row < option_rows_count && !is_end(option_rows[row].kind); row = option_skip(row)) {
		const struct option *o = &option_rows[row];
		char memory[PLACE_MAX];
		struct buf place = buf_of(memory, sizeof memory);
		buf_printf(&place, "%s%s%s%s", path, path[0] == 0 ? "" : ".", o->name,
			   o->kind == OPTION_LIST ? "[]" : "");
		if (o->kind == OPTION_GIVEN)
			continue;
		ASSERT(!place.overflow);
		memory[place.size] = 0;
		buf_printf(out, "\n%s `%s`\n\n%s\n", path[0] == 0 ? "##" : "###", memory, o->doc);
		if (o->kind == OPTION_GROUP || o->kind == OPTION_LIST) {
			if (o->kind == OPTION_LIST)
				buf_printf(out, "\nA list of %s to %s items.%s\n", o->least,
					   o->most, o->restart ? " A change needs a restart." : "");
			doc_struct(row + 1, memory, out);
			continue;
		}
		buf_append_byte(out, '\n');
		doc_value(o, out);
		buf_append_string(out, o->restart ? " A change needs a restart.\n"
						  : " A reload applies it.\n");
	}
}

bool
config_doc(struct buf *out)
{
	buf_append_string(out, "# Options\n"
			       "\n"
			       "The configuration is one YAML file, given with `--config`. This "
			       "page is printed by\n"
			       "`ringpostd --doc options`; `--check-config` checks a file, and "
			       "`--print-config` shows\n"
			       "every option with its value. Sizes and durations carry units. An "
			       "unknown name, a name\n"
			       "that stands twice, a value without its unit or out of range is an "
			       "error with file and\n"
			       "line, and the process does not start (exit 78). SIGHUP reads the "
			       "file again; where that\n"
			       "is refused, the old configuration stays.\n"
			       "\n"
			       "```yaml\n"
			       "hostname: mx1.example.org\n"
			       "listeners:\n"
			       "  - { address: \"0.0.0.0:25\", role: relay }\n"
			       "metrics: { address: \"127.0.0.1:9925\" }\n"
			       "log: { file: /var/log/ringpost/ringpost.log }\n"
			       "queue: { store: spool, spool: { path: /var/spool/ringpost } }\n"
			       "relay:\n"
			       "  networks: [127.0.0.0/8, 192.0.2.0/24]\n"
			       "  domains: [{ name: example.org, recipients: any }]\n"
			       "routes:\n"
			       "  - { domain: example.org, to: \"lmtp://127.0.0.1:24\" }\n"
			       "  - { domain: \"*\", to: [\"smtp://198.51.100.1:25\", "
			       "\"smtp://198.51.100.2:25\"] }\n"
			       "```\n");
	doc_struct(0, "", out);
	return !out->overflow;
}
