/* SPDX-License-Identifier: Apache-2.0
 *
 * The reference page of the admin socket, from the tables.
 */
#include "relay/admin/protocol.h"

static const char introduction[] =
	"# The admin socket\n"
	"\n"
	"`ringpostctl` talks to `ringpostd` over the unix socket of `admin.socket`, and so can "
	"any\n"
	"program. Whoever may open the socket may do all of this: it belongs to the user of the\n"
	"daemon, mode 0600, or 0660 with `admin.group`. This page is printed by\n"
	"`ringpostd --doc admin`.\n"
	"\n"
	"One JSON object a line, each way, in order; a connection carries any number of them:\n"
	"\n"
	"```\n"
	"{\"version\":1,\"command\":\"queue list\",\"state\":\"held\",\"limit\":10}\n"
	"{\"version\":1,\"ok\":true,\"result\":{\"rows\":[...]}}\n"
	"{\"version\":1,\"ok\":false,\"error\":\"not_found\",\"text\":\"there is no such mail\"}\n"
	"```\n"
	"\n"
	"A request is at most 8 KiB long and may name only the arguments of its command. Times "
	"are\n"
	"RFC 3339 in UTC, durations are seconds; a text or a time that is not known is left out.\n"
	"Members may be added to answers; `version` changes when a request of today would mean\n"
	"something else. Answers come from the workers in small slices between their mail, so\n"
	"a list is no snapshot: what comes or goes meanwhile may be in it or not.\n"
	"\n"
	"On the command line an argument `older_than` is `--older-than`, the argument in capitals\n"
	"stands without a name, and `--json` shows the result as it came:\n"
	"\n"
	"```\n"
	"ringpostctl queue list --state held --limit 10\n"
	"ringpostctl --json queue show 5n1x8p3w0c7q4m2t6v9r1d3k5b\n"
	"```\n"
	"\n"
	"Commands that change something need `reason`; who asked is the user at the other end of\n"
	"the socket. Both are in the event that each change becomes (`mail_acted`, "
	"`recipient_removed`,\n"
	"`site_suspended`, `site_resumed`, `login_lifted`).\n";

static void
doc_arguments(struct buf *out, const struct command_row *command)
{
	for (unsigned n = ADMIN_ARG_NONE + 1; n < ADMIN_ARGS; n++) {
		const struct argument_row *a = protocol_argument(n);
		if ((command->takes & 1u << n) == 0)
			continue;
		buf_printf(out, "- `%s`%s: %s", a->name,
			   (command->needs & 1u << n) != 0 ? " (needed)" : "", a->doc);
		if (a->kind == ARG_DURATION)
			buf_append_string(out, " A string with a unit: `30s`, `10m`, `2h`, `7d`.");
		const char *before = " One of `";
		for (unsigned w = 0; w < ADMIN_WORDS; w++) {
			if (!protocol_word_is_of(w, a->kind))
				continue;
			buf_printf(out, "%s%s`", before, protocol_word(w));
			before = ", `";
		}
		buf_append_string(out, before[0] == ',' ? ".\n" : "\n");
	}
}

static void
doc_command(struct buf *out, enum admin_command c)
{
	const struct command_row *command = protocol_command(c);
	const struct rows_row *rows;

	buf_printf(out, "\n## `%s", command->words);
	if (command->place != ADMIN_ARG_NONE) {
		buf_append_byte(out, ' ');
		for (const char *p = protocol_argument(command->place)->name; *p != 0; p++)
			buf_append_byte(out, (uint8_t)(*p - 'a' + 'A'));
	}
	buf_printf(out, "`\n\n%s\n\n", command->doc);
	doc_arguments(out, command);
	buf_printf(out, "\nAnswers [%s](#%s)", shape_of(command->shape)->name,
		   shape_of(command->shape)->name);
	for (unsigned n = 0; (rows = protocol_rows(c, n)) != NULL; n++)
		buf_printf(out, "%s`%s`, a list of [%s](#%s)", n == 0 ? " with " : " and ",
			   rows->name, shape_of(rows->shape)->name, shape_of(rows->shape)->name);
	buf_append_string(out, ".");
	for (unsigned n = 0; (rows = protocol_rows(c, n)) != NULL; n++)
		buf_printf(out, " `%s`: %s", rows->name, rows->doc);
	buf_append_string(out, "\n");
}

bool
admin_doc(struct buf *out)
{
	buf_append_string(out, introduction);
	for (unsigned c = 0; c < ADMIN_COMMANDS; c++)
		doc_command(out, c);
	buf_append_string(out, "\n# Objects\n");
	for (unsigned s = 0; s < ADMIN_SHAPES; s++) {
		const struct shape *shape = shape_of(s);
		buf_printf(out, "\n## %s\n\n%s\n\n", shape->name, shape->doc);
		for (size_t i = 0; i < shape->count; i++)
			buf_printf(out, "- `%s` (%s): %s\n", shape->members[i].name,
				   shape_kind_text(shape->members[i].kind), shape->members[i].doc);
	}
	buf_append_string(out, "\n# Errors\n\nWith the exit status of `ringpostctl`; it is 75 also "
			       "where the daemon cannot be reached.\n\n");
	for (unsigned e = ADMIN_OK + 1; e < ADMIN_ERRORS; e++) {
		const char *word = protocol_error_word(e);
		buf_printf(out, "- `%s` (%d): %s\n", word,
			   protocol_exit_status(span_of_string(word)), protocol_error_text(e));
	}
	return !out->overflow;
}
