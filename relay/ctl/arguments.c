/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/arguments.h"

#include <jansson.h>
#include <string.h>

#include "core/base/unit.h"

static const char usage[] =
	"usage: ringpostctl [OPTION...] COMMAND [ARGUMENT...]\n"
	"\n"
	"  --socket PATH     of ringpostd, as in admin.socket (" ARGUMENTS_SOCKET ")\n"
	"  --json            the answer as it came\n"
	"  --timeout TIME    for the answer: 30s, 5m\n"
	"  --yes             changes many mails that a filter matches without asking first\n"
	"  --help            of a command\n"
	"  --version\n"
	"\n"
	"Exit status: 0 done, 1 refused or not found, 2 wrong usage, 75 ringpostd cannot be "
	"reached.\n"
	"\n"
	"Commands:\n";

/* What stands on the command line, from left to right. */
struct words {
	const char *const *argv;
	int argc;
	int at;
};

/* ---- the command ---- */

/* How many of the words from `at` on name this command; 0: they do not. */
static int
match(const struct words *w, const char *name)
{
	int used = 0;

	while (*name != 0) {
		const char *word = w->at + used < w->argc ? w->argv[w->at + used] : "";
		size_t size = strlen(word);
		if (size == 0 || strncmp(name, word, size) != 0 ||
		    (name[size] != 0 && name[size] != ' '))
			return 0;
		used++;
		name += size + (name[size] == ' ');
	}
	return used;
}

static bool
find_command(struct words *w, struct arguments *out, struct buf *why)
{
	const char *word = w->argv[w->at];
	bool begins = false;

	for (unsigned c = 0; c < ADMIN_COMMANDS; c++) {
		const char *name = protocol_command(c)->words;
		int used = match(w, name);
		if (used > 0) {
			out->command = c;
			out->has_command = true;
			w->at += used;
			return true;
		}
		size_t size = strlen(word);
		begins = begins || (strncmp(name, word, size) == 0 && name[size] == ' ');
	}
	buf_printf(why,
		   begins ? "%.100s needs a word more; ringpostctl --help shows the commands"
			  : "there is no command %.100s; ringpostctl --help shows them",
		   word);
	return false;
}

/* ---- options ---- */

/* "--older-than" or "--older-than=1h": the argument of that name that the command takes. */
static enum admin_argument
find_argument(const struct command_row *command, const char *option, size_t size)
{
	for (unsigned n = ADMIN_ARG_NONE + 1; n < ADMIN_ARGS; n++) {
		const char *name = protocol_argument(n)->name;
		bool same = strlen(name) == size && (command->takes & 1u << n) != 0;
		for (size_t i = 0; same && i < size; i++)
			same = option[i] == (name[i] == '_' ? '-' : name[i]);
		if (same)
			return n;
	}
	return ADMIN_ARG_NONE;
}

static bool
add_value(json_t *request, enum admin_argument n, const char *text, struct buf *why)
{
	const struct argument_row *a = protocol_argument(n);
	uint64_t number = 0;
	json_t *value;

	if (a->kind == ARG_NUMBER) {
		if (!span_to_u64(span_of_string(text), &number) || number > INT64_MAX) {
			buf_printf(why, "%s: must be a whole number, not %.100s", a->name, text);
			return false;
		}
		value = json_integer((json_int_t)number);
	} else {
		value = json_string(text);
	}
	if (value == NULL) {
		buf_printf(why, "%s: is no UTF-8", a->name);
		return false;
	}
	if (a->kind == ARG_IDS) {
		json_t *all = json_object_get(request, a->name);
		if (all == NULL) {
			all = json_array();
			json_object_set_new(request, a->name, all);
		}
		return json_array_append_new(all, value) == 0;
	}
	if (json_object_get(request, a->name) != NULL) {
		json_decref(value);
		buf_printf(why, "%s is given twice", a->name);
		return false;
	}
	return json_object_set_new(request, a->name, value) == 0;
}

/* The value of an option: behind its '=', or the next word. */
static const char *
value_of(struct words *w, const char *option, size_t size, struct buf *why)
{
	if (option[size] == '=')
		return option + size + 1;
	if (w->at < w->argc)
		return w->argv[w->at++];
	buf_printf(why, "--%.*s needs a value", (int)size, option);
	return NULL;
}

/* Those that every command has. */
static bool
read_common(struct words *w, struct arguments *out, const char *option, size_t size, bool *known,
	    struct buf *why)
{
	struct span name = span_of(option, size);
	const char *value;

	*known = true;
	if (span_eq(name, SPAN("json")) && option[size] == 0) {
		out->json = true;
	} else if (span_eq(name, SPAN("help")) && option[size] == 0) {
		out->help = true;
	} else if (span_eq(name, SPAN("list")) && option[size] == 0) {
		out->list = true;
	} else if (span_eq(name, SPAN("version")) && option[size] == 0) {
		out->version = true;
	} else if (span_eq(name, SPAN("yes")) && option[size] == 0) {
		out->yes = true;
	} else if (span_eq(name, SPAN("socket"))) {
		out->socket = value_of(w, option, size, why);
		return out->socket != NULL;
	} else if (span_eq(name, SPAN("timeout"))) {
		value = value_of(w, option, size, why);
		if (value == NULL)
			return false;
		if (duration_parse(span_of_string(value), &out->timeout_ms) && out->timeout_ms > 0)
			return true;
		buf_printf(why, "--timeout: must be a duration such as 30s, not %.100s", value);
		return false;
	} else {
		*known = false;
	}
	return true;
}

static bool
read_option(struct words *w, struct arguments *out, json_t *request, struct buf *why)
{
	const char *option = w->argv[w->at++] + 2;
	size_t size = strcspn(option, "=");
	bool known;

	if (!read_common(w, out, option, size, &known, why) || known)
		return why->size == 0;
	enum admin_argument n = ADMIN_ARG_NONE;
	if (out->has_command)
		n = find_argument(protocol_command(out->command), option, size);
	if (n == ADMIN_ARG_NONE || protocol_argument(n)->kind == ARG_IDS) {
		buf_printf(why, "there is no option --%.100s here", option);
		return false;
	}
	if (protocol_argument(n)->kind == ARG_FLAG) {
		if (option[size] != 0) {
			buf_printf(why, "--%.*s takes no value", (int)size, option);
			return false;
		}
		return json_object_set_new(request, protocol_argument(n)->name, json_true()) == 0;
	}
	const char *value = value_of(w, option, size, why);
	return value != NULL && add_value(request, n, value, why);
}

static bool
read_word(struct words *w, struct arguments *out, json_t *request, struct buf *why)
{
	if (!out->has_command)
		return find_command(w, out, why);
	const struct command_row *command = protocol_command(out->command);
	const char *word = w->argv[w->at++];
	const char *name = protocol_argument(command->place)->name;
	bool is_list = protocol_argument(command->place)->kind == ARG_IDS;

	if (command->place == ADMIN_ARG_NONE ||
	    (!is_list && json_object_get(request, name) != NULL)) {
		buf_printf(why, "%s takes no word %.100s", command->words, word);
		return false;
	}
	return add_value(request, command->place, word, why);
}

static bool
read_all(struct words *w, struct arguments *out, json_t *request, struct buf *why)
{
	while (w->at < w->argc) {
		const char *word = w->argv[w->at];
		bool is_option = word[0] == '-' && word[1] == '-' && word[2] != 0;
		if (!(is_option ? read_option(w, out, request, why)
				: read_word(w, out, request, why)))
			return false;
	}
	return true;
}

/* Writes the request and lets the daemon's parser judge it. */
static bool
finish(const struct arguments *out, json_t *request, struct buf *line, struct buf *why)
{
	struct admin_request read;

	json_object_set_new(request, "version", json_integer(PROTOCOL_VERSION));
	json_object_set_new(request, "command", json_string(protocol_command(out->command)->words));
	char *text = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
	if (text == NULL)
		return false;
	buf_append_string(line, text);
	struct span words = buf_span(line);
	buf_append_byte(line, '\n');
	json_free_t release;
	json_get_alloc_funcs(NULL, &release);
	release(text);
	if (line->overflow) {
		buf_append_string(why, "the request is too long; use fewer ids or a filter");
		return false;
	}
	enum admin_error e = protocol_read(words, &read, why);
	if (e != ADMIN_OK)
		return false;
	protocol_put(&read);
	return true;
}

bool
arguments_read(int argc, const char *const *argv, struct arguments *out, struct buf *line,
	       struct buf *why)
{
	struct words words = { .argv = argv, .argc = argc, .at = 1 };
	json_t *request = json_object();

	*out = (struct arguments){ .socket = ARGUMENTS_SOCKET };
	bool fine = request != NULL && read_all(&words, out, request, why);
	if (fine && out->has_command && !out->help)
		fine = finish(out, request, line, why);
	if (fine && !out->has_command && !out->help && !out->list && !out->version) {
		buf_append_string(why, "a command is missing; ringpostctl --help shows them");
		fine = false;
	}
	json_decref(request);
	if (!fine && why->size == 0)
		buf_append_string(why, "out of memory");
	return fine;
}

/* ---- help ---- */

static void
write_option(struct buf *out, enum admin_argument n)
{
	for (const char *p = protocol_argument(n)->name; *p != 0; p++)
		buf_append_byte(out, (uint8_t)(*p == '_' ? '-' : *p));
}

static void
write_place(struct buf *out, const struct command_row *command)
{
	if (command->place == ADMIN_ARG_NONE)
		return;
	buf_append_byte(out, ' ');
	for (const char *p = protocol_argument(command->place)->name; *p != 0; p++)
		buf_append_byte(out, (uint8_t)(*p - 'a' + 'A'));
	if (protocol_argument(command->place)->kind == ARG_IDS)
		buf_append_string(out, "...");
}

static void
help_command(const struct command_row *command, struct buf *out)
{
	buf_printf(out, "usage: ringpostctl %s", command->words);
	write_place(out, command);
	buf_printf(out, " [OPTION...]\n\n%s\n\n", command->doc);
	for (unsigned n = ADMIN_ARG_NONE + 1; n < ADMIN_ARGS; n++) {
		if ((command->takes & 1u << n) == 0 || n == (unsigned)command->place)
			continue;
		buf_append_string(out, "  --");
		write_option(out, n);
		if (protocol_argument(n)->kind != ARG_FLAG)
			buf_append_string(out, " ...");
		buf_printf(out, "\n        %s", protocol_argument(n)->doc);
		for (unsigned w = 0; w < ADMIN_WORDS; w++) {
			if (protocol_word_is_of(w, protocol_argument(n)->kind))
				buf_printf(out, " %s", protocol_word(w));
		}
		buf_append_byte(out, '\n');
	}
}

void
arguments_help(const struct arguments *a, struct buf *out)
{
	if (a->has_command) {
		help_command(protocol_command(a->command), out);
		return;
	}
	buf_append_string(out, usage);
	for (unsigned c = 0; c < ADMIN_COMMANDS; c++) {
		const struct command_row *command = protocol_command(c);
		buf_printf(out, "  %s", command->words);
		write_place(out, command);
		buf_append_byte(out, '\n');
	}
}

void
arguments_list(struct buf *out)
{
	for (unsigned c = 0; c < ADMIN_COMMANDS; c++) {
		const struct command_row *command = protocol_command(c);
		buf_append_string(out, command->words);
		for (unsigned n = ADMIN_ARG_NONE + 1; n < ADMIN_ARGS; n++) {
			if ((command->takes & 1u << n) == 0 || n == (unsigned)command->place)
				continue;
			buf_append_string(out, " --");
			write_option(out, n);
		}
		buf_append_byte(out, '\n');
	}
}
