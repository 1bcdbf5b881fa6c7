/* SPDX-License-Identifier: Apache-2.0
 *
 * From a YAML document to a snapshot. libyaml composes the document with line numbers; this walks
 * it along the table of options, so that depth and names are the table's, not the file's (an alias
 * that contains itself ends at the first option that it does not fit).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "core/base/assert.h"
#include "core/config_table.h"

enum {
	PLACE_MAX = 160,     /* the longest option's path with list indexes */
	SCALARS_MAX = 10001, /* one more than value_parse accepts, so that it can say so */
	NAME_DISTANCE = 2,   /* edits within which a name is "near" */
	NAME_LENGTH = 40,
};

struct loader {
	const char *name; /* of the file */
	yaml_document_t *document;
	struct arena *arena;
	struct config_errors *errors;
	size_t line_numbers[CONFIG_ERRORS_MAX];
	char path[PLACE_MAX]; /* of the struct in hand, with a dot at the end */
};

/* Inserts by line, so that the list follows the file although the walk follows the table. */
__attribute__((format(printf, 3, 4))) static void
report(struct loader *l, size_t line, const char *format, ...)
{
	struct config_errors *e = l->errors;
	char text[CONFIG_ERROR_SIZE];
	va_list arguments;

	size_t known = e->count < CONFIG_ERRORS_MAX ? e->count : CONFIG_ERRORS_MAX;
	size_t at = known;
	e->count++;
	while (at > 0 && l->line_numbers[at - 1] > line)
		at--;
	if (at == CONFIG_ERRORS_MAX)
		return;
	/* The last of a full list falls out. */
	size_t behind = (known < CONFIG_ERRORS_MAX ? known : known - 1) - at;
	memmove(&e->lines[at + 1], &e->lines[at], behind * sizeof e->lines[0]);
	memmove(&l->line_numbers[at + 1], &l->line_numbers[at], behind * sizeof l->line_numbers[0]);
	int prefix = line == 0 ? snprintf(text, sizeof text, "%s: ", l->name)
			       : snprintf(text, sizeof text, "%s:%zu: ", l->name, line);
	if (prefix < 0 || (size_t)prefix >= sizeof text)
		prefix = 0;
	va_start(arguments, format);
	vsnprintf(text + prefix, sizeof text - (size_t)prefix, format, arguments);
	va_end(arguments);
	memcpy(e->lines[at], text, sizeof text);
	l->line_numbers[at] = line;
}

static size_t
line_of(const yaml_node_t *node)
{
	return node->start_mark.line + 1;
}

static struct span
scalar_of(const yaml_node_t *node)
{
	ASSERT(node->type == YAML_SCALAR_NODE);
	return span_of(node->data.scalar.value, node->data.scalar.length);
}

/* "key:" with nothing behind it, or a plain ~ or null. */
static bool
is_null(const yaml_node_t *node)
{
	if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	struct span text = scalar_of(node);
	return text.size == 0 || span_eq(text, SPAN("~")) || span_eq(text, SPAN("null"));
}

/* Edits between two short names; NAME_LENGTH where one is not short. */
static size_t
distance(struct span a, struct span b)
{
	size_t row[NAME_LENGTH + 1];

	if (a.size >= NAME_LENGTH || b.size >= NAME_LENGTH)
		return NAME_LENGTH;
	for (size_t j = 0; j <= b.size; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.size; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b.size; j++) {
			size_t replace = diagonal +
					 (ascii_lower(a.data[i - 1]) != ascii_lower(b.data[j - 1]));
			size_t insert = row[j - 1] + 1, drop = row[j] + 1;
			diagonal = row[j];
			row[j] = replace < insert ? replace : insert;
			row[j] = drop < row[j] ? drop : row[j];
		}
	}
	return row[b.size];
}

static bool
is_end(enum option_kind kind)
{
	return kind == OPTION_GROUP_END || kind == OPTION_LIST_END;
}

/* Is there another row behind this member of the same struct? */
static bool
has_row(size_t row)
{
	return row < option_rows_count && !is_end(option_rows[row].kind);
}

/* Is there an option whose name is this one with the rest behind it? */
static bool
has_option(size_t first_row, struct span name, const char *rest)
{
	for (size_t row = first_row; has_row(row); row = option_skip(row)) {
		struct span option = span_of_string(option_rows[row].name);
		if (span_starts_with(option, name) &&
		    span_eq(span_after(option, name.size), span_of_string(rest)))
			return true;
	}
	return false;
}

static void
report_unknown(struct loader *l, size_t first_row, const yaml_node_t *key)
{
	struct span name = scalar_of(key);
	const char *near = NULL;
	size_t least = NAME_DISTANCE + 1;

	for (size_t row = first_row; has_row(row); row = option_skip(row)) {
		size_t d = distance(name, span_of_string(option_rows[row].name));
		if (option_rows[row].kind != OPTION_GIVEN && d < least && d < name.size) {
			least = d;
			near = option_rows[row].name;
		}
	}
	int size = name.size > 60 ? 60 : (int)name.size;
	if (has_option(first_row, name, "_file"))
		report(l, line_of(key),
		       "%s%.*s does not stand here, where others may read it; write it into a file "
		       "that only its owner can read, and name that in %s%.*s_file",
		       l->path, size, (const char *)name.data, l->path, size,
		       (const char *)name.data);
	else if (near != NULL)
		report(l, line_of(key), "%s%.*s is no option; did you mean %s%s?", l->path, size,
		       (const char *)name.data, l->path, near);
	else
		report(l, line_of(key),
		       "%s%.*s is no option; see ringpostd --doc options for those that are",
		       l->path, size, (const char *)name.data);
}

/* Every key is a name of this struct, and stands once. */
static void
check_keys(struct loader *l, size_t first_row, const yaml_node_t *mapping)
{
	const yaml_node_pair_t *pairs = mapping->data.mapping.pairs.start;
	size_t count = (size_t)(mapping->data.mapping.pairs.top - pairs);

	for (size_t i = 0; i < count; i++) {
		const yaml_node_t *key = yaml_document_get_node(l->document, pairs[i].key);
		if (key->type != YAML_SCALAR_NODE) {
			report(l, line_of(key), "a name must be one word; write name: value");
			continue;
		}
		size_t row = first_row;
		while (has_row(row) &&
		       (option_rows[row].kind == OPTION_GIVEN ||
			!span_eq(scalar_of(key), span_of_string(option_rows[row].name))))
			row = option_skip(row);
		if (!has_row(row))
			report_unknown(l, first_row, key);
	}
}

/* The value of a name, or NULL; the second and later ones are errors. */
static const yaml_node_t *
find_value(struct loader *l, const yaml_node_t *mapping, const char *name)
{
	const yaml_node_t *found = NULL;
	size_t line = 0;

	if (mapping == NULL)
		return NULL;
	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     pair < mapping->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = yaml_document_get_node(l->document, pair->key);
		if (key->type != YAML_SCALAR_NODE || !span_eq(scalar_of(key), span_of_string(name)))
			continue;
		if (found != NULL) {
			report(l, line_of(key), "%s%s stands twice, first in line %zu; remove one",
			       l->path, name, line);
			continue;
		}
		line = line_of(key);
		found = yaml_document_get_node(l->document, pair->value);
	}
	return found;
}

/* The scalars of a value: itself, or its items. False with a report where there are others. */
static bool
collect_scalars(struct loader *l, const struct option *o, const yaml_node_t *value,
		struct span *items, size_t *lines, size_t *count)
{
	if (value->type == YAML_SCALAR_NODE && !is_null(value)) {
		items[0] = scalar_of(value);
		lines[0] = line_of(value);
		*count = 1;
		return true;
	}
	if (is_null(value) || !option_is_sequence(o) || value->type != YAML_SEQUENCE_NODE) {
		report(l, line_of(value), "%s%s has no single value; write %s", l->path, o->name,
		       value_describe(o->kind));
		return false;
	}
	*count = 0;
	for (const yaml_node_item_t *item = value->data.sequence.items.start;
	     item < value->data.sequence.items.top && *count < SCALARS_MAX; item++) {
		const yaml_node_t *node = yaml_document_get_node(l->document, *item);
		if (node->type != YAML_SCALAR_NODE || is_null(node)) {
			report(l, line_of(node), "%s%s has an item that is no value; write %s",
			       l->path, o->name, value_describe(o->kind));
			return false;
		}
		items[*count] = scalar_of(node);
		lines[(*count)++] = line_of(node);
	}
	return true;
}

static void
load_value(struct loader *l, const struct option *o, const yaml_node_t *value, size_t line,
	   void *base)
{
	char memory[CONFIG_ERROR_SIZE];
	struct buf why = buf_of(memory, sizeof memory);
	size_t count, bad;

	if (value == NULL) {
		if (o->standard == NULL)
			report(l, line, "%s%s is missing; write %s", l->path, o->name,
			       value_describe(o->kind));
		else if (!value_parse_default(o, l->arena, base))
			report(l, line, "%s%s: no memory; shorten the file", l->path, o->name);
		return;
	}
	/* What --print-config writes for an option that is left out. */
	if (o->standard != NULL && o->standard[0] == 0 && value->type == YAML_SCALAR_NODE &&
	    !is_null(value) && scalar_of(value).size == 0)
		return;
	/* A sequence of scalars is as long as it is; a scalar needs one place. */
	size_t places = value->type == YAML_SEQUENCE_NODE ? SCALARS_MAX : 1;
	struct span *items = calloc(places, sizeof *items);
	size_t *lines = calloc(places, sizeof *lines);
	if (items == NULL || lines == NULL)
		report(l, line_of(value), "%s%s: no memory; shorten the file", l->path, o->name);
	else if (collect_scalars(l, o, value, items, lines, &count) &&
		 !value_parse(o, items, count, l->arena, base, &why, &bad))
		report(l, count == 0 ? line_of(value) : lines[bad], "%s%s: %.*s", l->path, o->name,
		       SPAN_ARG(buf_span(&why)));
	free(items);
	free(lines);
}

static void load_struct(struct loader *l, size_t row, const yaml_node_t *mapping, size_t line,
			void *base);

/* Appends to the path of the struct in hand; path_leave takes it away again. */
__attribute__((format(printf, 2, 3))) static size_t
path_enter(struct loader *l, const char *format, ...)
{
	size_t size = strlen(l->path);
	va_list arguments;

	va_start(arguments, format);
	int written = vsnprintf(l->path + size, sizeof l->path - size, format, arguments);
	va_end(arguments);
	ASSERT(written >= 0 && (size_t)written < sizeof l->path - size);
	return size;
}

static void
path_leave(struct loader *l, size_t size)
{
	l->path[size] = 0;
}

static void
load_group(struct loader *l, size_t row, const yaml_node_t *value, size_t line, void *base)
{
	const struct option *o = &option_rows[row];

	if (value != NULL && is_null(value))
		value = NULL;
	if (value != NULL && value->type != YAML_MAPPING_NODE) {
		report(l, line_of(value), "%s%s has options of its own; write %s: { name: value }",
		       l->path, o->name, o->name);
		return;
	}
	size_t entered = path_enter(l, "%s.", o->name);
	load_struct(l, row + 1, value, value == NULL ? line : line_of(value),
		    (char *)base + o->offset);
	path_leave(l, entered);
}

/* The number of items, or false with a report. */
static bool
count_items(struct loader *l, const struct option *o, const yaml_node_t *value, size_t line,
	    size_t *count)
{
	uint64_t least, most;
	bool known = span_to_u64(span_of_string(o->least), &least) &&
		     span_to_u64(span_of_string(o->most), &most);

	ASSERT(known);
	*count = 0;
	if (value != NULL && is_null(value))
		value = NULL;
	if (value != NULL && value->type != YAML_SEQUENCE_NODE) {
		report(l, line_of(value), "%s%s is a list; write - { name: value } for each item",
		       l->path, o->name);
		return false;
	}
	if (value != NULL)
		*count =
			(size_t)(value->data.sequence.items.top - value->data.sequence.items.start);
	if (*count >= least && *count <= most)
		return true;
	report(l, value == NULL ? line : line_of(value), "%s%s has %zu items; give %s to %s",
	       l->path, o->name, *count, o->least, o->most);
	return false;
}

static void
load_list(struct loader *l, size_t row, const yaml_node_t *value, size_t line, void *base)
{
	const struct option *o = &option_rows[row];
	size_t count;

	if (!count_items(l, o, value, line, &count) || count == 0)
		return;
	char *items = arena_take(l->arena, count * o->item_size);
	if (items == NULL) {
		report(l, line_of(value), "%s%s: no memory; shorten the list", l->path, o->name);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const yaml_node_t *item =
			yaml_document_get_node(l->document, value->data.sequence.items.start[i]);
		if (item->type != YAML_MAPPING_NODE) {
			report(l, line_of(item), "%s%s[%zu] has options; write - { name: value }",
			       l->path, o->name, i);
			continue;
		}
		size_t entered = path_enter(l, "%s[%zu].", o->name, i);
		load_struct(l, row + 1, item, line_of(item), items + i * o->item_size);
		path_leave(l, entered);
	}
	memcpy((char *)base + o->offset, &items, sizeof items);
	memcpy((char *)base + o->count_offset, &count, sizeof count);
}

/* All members of one struct, from its first row to its END; mapping NULL means all defaults. */
static void
load_struct(struct loader *l, size_t row, const yaml_node_t *mapping, size_t line, void *base)
{
	if (mapping != NULL)
		check_keys(l, row, mapping);
	for (; has_row(row); row = option_skip(row)) {
		const struct option *o = &option_rows[row];
		if (o->kind == OPTION_GIVEN) {
			*(bool *)((char *)base + o->offset) = mapping != NULL;
			continue;
		}
		const yaml_node_t *value = find_value(l, mapping, o->name);
		if (o->kind == OPTION_GROUP)
			load_group(l, row, value, line, base);
		else if (o->kind == OPTION_LIST)
			load_list(l, row, value, line, base);
		else
			load_value(l, o, value, line, base);
	}
}

/* The line of what "routes[3].domain" names; of the closest thing around it that the file has. */
static size_t
line_of_path(struct loader *l, const char *path)
{
	const yaml_node_t *node = yaml_document_get_root_node(l->document);
	size_t line = 1;

	while (node != NULL && *path != 0) {
		char name[NAME_LENGTH];
		size_t length = strcspn(path, ".["), index;
		snprintf(name, sizeof name, "%.*s", (int)length, path);
		line = line_of(node);
		node = node->type == YAML_MAPPING_NODE ? find_value(l, node, name) : NULL;
		path += length;
		if (node != NULL && sscanf(path, "[%zu]", &index) == 1 &&
		    node->type == YAML_SEQUENCE_NODE)
			node = yaml_document_get_node(l->document,
						      node->data.sequence.items.start[index]);
		path += strcspn(path, ".");
		path += *path == '.';
	}
	return node != NULL ? line_of(node) : line;
}

static void
report_path(void *context, const char *path, const char *message)
{
	struct loader *l = context;

	report(l, line_of_path(l, path), "%s: %s", path, message);
}

static void
load_document(struct loader *l, struct snapshot *s)
{
	const yaml_node_t *root = yaml_document_get_root_node(l->document);

	if (root != NULL && is_null(root))
		root = NULL;
	if (root != NULL && root->type != YAML_MAPPING_NODE) {
		report(l, line_of(root), "the file has no options; write name: value");
		return;
	}
	load_struct(l, 0, root, 1, &s->config);
	/* Checks across options need whole values. */
	if (l->errors->count == 0 && !config_finish(s, report_path, l))
		report(l, 1, "no memory for the tables of routes; shorten the file");
}

static void
report_syntax(struct loader *l, const yaml_parser_t *parser)
{
	size_t line = parser->problem_mark.line + 1;

	report(l, line, "this is no valid YAML: %s%s%s; see the example in the documentation",
	       parser->problem == NULL ? "out of memory" : parser->problem,
	       parser->context == NULL ? "" : " ", parser->context == NULL ? "" : parser->context);
}

static void
check_end(struct loader *l, yaml_parser_t *parser)
{
	yaml_document_t second;

	if (!yaml_parser_load(parser, &second)) {
		report_syntax(l, parser);
		return;
	}
	const yaml_node_t *root = yaml_document_get_root_node(&second);
	if (root != NULL)
		report(l, line_of(root), "a second document starts here; keep one in a file");
	yaml_document_delete(&second);
}

const struct config *
config_parse(const char *name, struct span text, struct config_errors *errors)
{
	struct snapshot *s = snapshot_new();
	yaml_parser_t parser;
	yaml_document_t document;

	errors->count = 0;
	if (s == NULL || !yaml_parser_initialize(&parser)) {
		struct loader none = { .name = name, .errors = errors };
		report(&none, 0, "no memory to read it; free some");
		if (s != NULL)
			snapshot_free(s);
		return NULL;
	}
	struct loader l = {
		.name = name, .document = &document, .arena = &s->arena, .errors = errors
	};
	yaml_parser_set_input_string(&parser, text.data, text.size);
	if (yaml_parser_load(&parser, &document)) {
		load_document(&l, s);
		if (yaml_document_get_root_node(&document) != NULL)
			check_end(&l, &parser);
		yaml_document_delete(&document);
	} else {
		report_syntax(&l, &parser);
	}
	yaml_parser_delete(&parser);
	if (errors->count == 0)
		return &s->config;
	snapshot_free(s);
	return NULL;
}

/* The whole file; NULL with errno. */
static char *
read_file(FILE *file, size_t *size)
{
	size_t capacity = 64 << 10;
	char *text = malloc(capacity);

	*size = 0;
	while (text != NULL) {
		*size += fread(text + *size, 1, capacity - *size, file);
		if (*size < capacity)
			break;
		if (capacity >= CONFIG_FILE_SIZE_MAX) {
			errno = EFBIG;
			break;
		}
		capacity *= 2;
		char *larger = realloc(text, capacity);
		if (larger == NULL)
			break;
		text = larger;
	}
	if (text != NULL && *size < capacity && !ferror(file))
		return text;
	free(text);
	return NULL;
}

const struct config *
config_load(const char *path, struct config_errors *errors)
{
	struct loader l = { .name = path, .errors = errors };
	const struct config *config = NULL;
	char *text = NULL;
	size_t size;
	FILE *file = fopen(path, "re");

	errors->count = 0;
	if (file != NULL)
		text = read_file(file, &size);
	if (text != NULL)
		config = config_parse(path, span_of(text, size), errors);
	else
		report(&l, 0, "cannot be read: %s; name a readable file with --config",
		       strerror(errno));
	free(text);
	if (file != NULL)
		fclose(file);
	return config;
}
