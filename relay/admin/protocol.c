/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/admin/protocol.h"

#include <jansson.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/id.h"
#include "core/base/unit.h"

/* clang-format off */
static const struct {
	const char *word;
	int status;
	const char *text;
} errors[ADMIN_ERRORS] = {
#define ADMIN_ERROR(name_, word_, status_, text_) { word_, status_, text_ },
#include "core/tables/admin_errors.def"
#undef ADMIN_ERROR
};

static const struct argument_row arguments[ADMIN_ARGS] = {
#define ARGUMENT(name_, kind_, word_, least_, most_, doc_) \
	{ word_, ARG_##kind_, least_, most_, doc_ },
#include "core/tables/admin_commands.def"
#undef ARGUMENT
};

#define KIND_READ false
#define KIND_ACT  true
#define A(name)   (1u << ADMIN_ARG_##name)
static const struct command_row commands[ADMIN_COMMANDS] = {
#define COMMAND(name_, words_, takes_, needs_, place_, kind_, shape_, doc_) \
	{ words_, takes_, needs_, ADMIN_ARG_##place_, KIND_##kind_, ADMIN_SHAPE_##shape_, doc_ },
#define ROWS(command_, name_, shape_, doc_)
#include "core/tables/admin_commands.def"
#undef COMMAND
#undef ROWS
};
#undef A

static const struct rows_row lists[] = {
#define COMMAND(name_, words_, takes_, needs_, place_, kind_, shape_, doc_)
#define ROWS(command_, name_, shape_, doc_) \
	{ ADMIN_##command_, name_, ADMIN_SHAPE_##shape_, doc_ },
#include "core/tables/admin_commands.def"
#undef COMMAND
#undef ROWS
};

static const struct {
	enum argument_kind kind;
	const char *word;
} words[ADMIN_WORDS] = {
#define WORD(set_, name_, word_) { ARG_##set_, word_ },
#include "core/tables/admin_words.def"
#undef WORD
};
/* clang-format on */

_Static_assert(ADMIN_ARGS <= 32, "sets of arguments are 32 bits");

const struct argument_row *
protocol_argument(enum admin_argument a)
{
	ASSERT(a < ADMIN_ARGS);
	return &arguments[a];
}

const struct command_row *
protocol_command(enum admin_command c)
{
	ASSERT(c < ADMIN_COMMANDS);
	return &commands[c];
}

const struct rows_row *
protocol_rows(enum admin_command c, unsigned n)
{
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		if (lists[i].command == c && n-- == 0)
			return &lists[i];
	}
	return NULL;
}

const char *
protocol_error_word(enum admin_error e)
{
	ASSERT(e < ADMIN_ERRORS);
	return errors[e].word;
}

const char *
protocol_error_text(enum admin_error e)
{
	ASSERT(e < ADMIN_ERRORS);
	return errors[e].text;
}

int
protocol_exit_status(struct span error_word)
{
	for (unsigned e = 0; e < ADMIN_ERRORS; e++) {
		if (span_eq(error_word, span_of_string(errors[e].word)))
			return errors[e].status;
	}
	return 1;
}

const char *
protocol_word(enum admin_word w)
{
	ASSERT(w < ADMIN_WORDS);
	return words[w].word;
}

bool
protocol_word_is_of(enum admin_word w, enum argument_kind kind)
{
	ASSERT(w < ADMIN_WORDS);
	return words[w].kind == kind;
}

/* ---- reading ---- */

static bool
is_in_range(const struct argument_row *a, uint64_t value)
{
	return value >= a->least && (a->most == 0 || value <= a->most);
}

bool
protocol_quantity(const struct argument_row *a, struct span text, uint64_t *out)
{
	bool parsed = a->kind == ARG_DURATION ? duration_parse(text, out) : span_to_u64(text, out);

	return parsed && is_in_range(a, *out);
}

static bool
find_word(enum argument_kind kind, struct span text, uint64_t *out)
{
	for (unsigned w = 0; w < ADMIN_WORDS; w++) {
		if (words[w].kind == kind && span_eq(text, span_of_string(words[w].word))) {
			*out = w;
			return true;
		}
	}
	return false;
}

static struct span
text_of(const json_t *value)
{
	return span_of(json_string_value(value), json_string_length(value));
}

static bool
read_id(const json_t *value, struct mail_id *out)
{
	return json_is_string(value) && id_read(text_of(value), &out->high, &out->low);
}

static bool
read_ids(struct admin_request *r, const json_t *value)
{
	size_t count = json_array_size(value); /* 0 for what is no array */

	if (count == 0 || count > PROTOCOL_IDS_MAX)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!read_id(json_array_get(value, i), &r->ids[i]))
			return false;
	}
	r->id_count = (unsigned)count;
	return true;
}

static bool
read_value(struct admin_request *r, enum admin_argument n, const json_t *value)
{
	const struct argument_row *a = &arguments[n];
	struct span text = text_of(value); /* empty for what is no string */

	switch (a->kind) {
	case ARG_TEXT:
		r->texts[n] = text;
		return json_is_string(value) && is_in_range(a, text.size);
	case ARG_ID:
		return read_id(value, &r->id);
	case ARG_IDS:
		return read_ids(r, value);
	case ARG_NUMBER:
		r->numbers[n] = (uint64_t)json_integer_value(value);
		return json_is_integer(value) && json_integer_value(value) >= 0 &&
		       is_in_range(a, r->numbers[n]);
	case ARG_DURATION:
		return json_is_string(value) && protocol_quantity(a, text, &r->numbers[n]);
	case ARG_FLAG:
		return json_is_true(value);
	case ARG_STATE:
	case ARG_BY:
	case ARG_TO:
		return json_is_string(value) && find_word(a->kind, text, &r->numbers[n]);
	case ARG_KINDS:
		break;
	}
	return false;
}

static void
say_range(const struct argument_row *a, struct buf *why)
{
	switch (a->kind) {
	case ARG_TEXT:
		buf_printf(why, "a string of %u to %u bytes", (unsigned)a->least,
			   (unsigned)a->most);
		return;
	case ARG_ID:
		buf_append_string(why, "the id of a mail, 26 letters and digits");
		return;
	case ARG_IDS:
		buf_printf(why, "a list of at most %d ids of mails", PROTOCOL_IDS_MAX);
		return;
	case ARG_NUMBER:
		buf_printf(why, "a whole number from %llu", (unsigned long long)a->least);
		if (a->most != 0)
			buf_printf(why, " to %llu", (unsigned long long)a->most);
		return;
	case ARG_DURATION:
		buf_append_string(why, "a duration such as 30s, 10m, 2h, 7d");
		return;
	case ARG_FLAG:
		buf_append_string(why, "true");
		return;
	case ARG_STATE:
	case ARG_BY:
	case ARG_TO:
		buf_append_string(why, "one of");
		for (unsigned w = 0; w < ADMIN_WORDS; w++) {
			if (words[w].kind == a->kind)
				buf_printf(why, " %s", words[w].word);
		}
		return;
	case ARG_KINDS:
		return;
	}
}

static enum admin_error
read_argument(struct admin_request *r, const char *name, const json_t *value, struct buf *why)
{
	const struct command_row *command = &commands[r->command];

	for (unsigned n = ADMIN_ARG_NONE + 1; n < ADMIN_ARGS; n++) {
		if (strcmp(arguments[n].name, name) != 0 || (command->takes & 1u << n) == 0)
			continue;
		r->given |= 1u << n;
		if (read_value(r, n, value))
			return ADMIN_OK;
		buf_printf(why, "%s: must be ", name);
		say_range(&arguments[n], why);
		return ADMIN_BAD_ARGUMENT;
	}
	buf_append(why, SPAN("\""));
	buf_append_json(why, span_of_string(name), 60);
	buf_printf(why, "\" is no argument of %s", command->words);
	return ADMIN_BAD_ARGUMENT;
}

static enum admin_error
find_command(struct admin_request *r, const json_t *json, struct buf *why)
{
	const json_t *version = json_object_get(json, "version");
	const char *name = json_string_value(json_object_get(json, "command"));

	if (!json_is_integer(version) || json_integer_value(version) != PROTOCOL_VERSION) {
		buf_printf(why, "version must be %d", PROTOCOL_VERSION);
		return ADMIN_BAD_VERSION;
	}
	for (unsigned c = 0; name != NULL && c < ADMIN_COMMANDS; c++) {
		if (strcmp(commands[c].words, name) == 0) {
			r->command = c;
			return ADMIN_OK;
		}
	}
	buf_append_string(why, "there is no command \"");
	buf_append_json(why, span_of_string(name), 60);
	buf_append_string(why, "\"");
	return ADMIN_BAD_COMMAND;
}

/* What no single argument can tell. */
static enum admin_error
check_whole(const struct admin_request *r, struct buf *why)
{
	const struct command_row *command = &commands[r->command];
	uint32_t missing = command->needs & ~r->given;
	uint32_t not_filters = 1u << ADMIN_ARG_ALL | 1u << ADMIN_ARG_DRY_RUN |
			       1u << ADMIN_ARG_REASON | 1u << ADMIN_ARG_TO | 1u << ADMIN_ARG_LIMIT;
	uint32_t targets = r->given & ~not_filters;

	for (unsigned n = 0; n < ADMIN_ARGS; n++) {
		if ((missing & 1u << n) != 0) {
			buf_printf(why, "%s needs %s", command->words, arguments[n].name);
			return ADMIN_BAD_ARGUMENT;
		}
	}
	if ((command->takes & 1u << ADMIN_ARG_ALL) != 0) {
		if (targets == 0 && !request_has(r, ADMIN_ARG_ALL))
			return ADMIN_NEEDS_ALL;
		if (request_has(r, ADMIN_ARG_IDS) &&
		    (targets != 1u << ADMIN_ARG_IDS || request_has(r, ADMIN_ARG_ALL))) {
			buf_append_string(why, "ids stand alone, without filters and all");
			return ADMIN_BAD_ARGUMENT;
		}
	}
	if (command->acts && !request_has(r, ADMIN_ARG_REASON) &&
	    !request_has(r, ADMIN_ARG_DRY_RUN))
		return ADMIN_NEEDS_REASON;
	return ADMIN_OK;
}

static enum admin_error
read_request(struct admin_request *r, json_t *json, struct buf *why)
{
	enum admin_error e = find_command(r, json, why);
	const char *name;
	json_t *value;

	if (e != ADMIN_OK)
		return e;
	json_object_foreach(json, name, value)
	{
		if (strcmp(name, "version") == 0 || strcmp(name, "command") == 0)
			continue;
		e = read_argument(r, name, value, why);
		if (e != ADMIN_OK)
			return e;
	}
	return check_whole(r, why);
}

enum admin_error
protocol_read(struct span line, struct admin_request *out, struct buf *why)
{
	json_error_t error;
	json_t *json =
		json_loadb((const char *)line.data, line.size, JSON_REJECT_DUPLICATES, &error);
	enum admin_error e = ADMIN_BAD_REQUEST;

	*out = (struct admin_request){ 0 };
	if (json == NULL)
		buf_printf(why, "no JSON at byte %d: %s", error.position, error.text);
	else if (!json_is_object(json))
		buf_append_string(why, protocol_error_text(e));
	else
		e = read_request(out, json, why);
	if (e != ADMIN_OK) {
		json_decref(json);
		if (why->size == 0)
			buf_append_string(why, protocol_error_text(e));
		return e;
	}
	out->json = json;
	return ADMIN_OK;
}

void
protocol_put(struct admin_request *r)
{
	json_decref(r->json);
	r->json = NULL;
}

/* ---- writing ---- */

void
protocol_write_error(struct buf *out, enum admin_error e, struct span text)
{
	buf_printf(out, "{\"version\":%d,\"ok\":false,\"error\":\"%s\",\"text\":\"",
		   PROTOCOL_VERSION, protocol_error_word(e));
	buf_append_json(out, text, SHAPE_TEXT_MAX);
	buf_append(out, SPAN("\"}\n"));
}

void
protocol_write_begin(struct buf *out)
{
	buf_printf(out, "{\"version\":%d,\"ok\":true,\"result\":", PROTOCOL_VERSION);
}

void
protocol_write_end(struct buf *out)
{
	buf_append(out, SPAN("}\n"));
}
