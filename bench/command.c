/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/command.h"

#include "bench/server.h"

enum { VERB_SIZE = 4, NUMBER_DIGITS_MAX = 9 };

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static struct span
skip_spaces(struct span s)
{
	while (s.size > 0 && is_space(s.data[0]))
		s = span_after(s, 1);
	return s;
}

/* Cuts the next word off. */
static struct span
take_word(struct span *rest)
{
	struct span s = skip_spaces(*rest);
	size_t end = 0;

	while (end < s.size && !is_space(s.data[end]))
		end++;
	*rest = span_after(s, end);
	return span_first(s, end);
}

uint32_t
command_verb(struct span line, struct span *argument)
{
	uint32_t word = 0;

	if (line.size < VERB_SIZE || (line.size > VERB_SIZE && !is_space(line.data[VERB_SIZE])))
		return 0;
	for (unsigned i = 0; i < VERB_SIZE; i++)
		word = word << 8 | ascii_lower(line.data[i]);
	*argument = span_trim(span_after(line, VERB_SIZE));
	return word;
}

/* Where the path ends that begins behind a '<': a '>' inside quotes is a part of it. */
static size_t
find_bracket(struct span s)
{
	size_t end = span_find(s, '>', 0);
	bool quoted = false;

	if (memchr(s.data, '"', end) == NULL)
		return end;
	for (end = 0; end < s.size && (quoted || s.data[end] != '>'); end++) {
		if (s.data[end] == '"')
			quoted = !quoted;
		else if (quoted && s.data[end] == '\\' && end + 1 < s.size)
			end++;
	}
	return end;
}

bool
command_path(struct span argument, struct span prefix, struct span *path, struct span *parameters)
{
	if (!span_eq_nocase(span_first(argument, prefix.size), prefix))
		return false;
	argument = skip_spaces(span_after(argument, prefix.size));
	if (argument.size == 0)
		return false;
	if (argument.data[0] != '<') {
		*path = take_word(&argument);
		*parameters = argument;
		return true;
	}
	argument = span_after(argument, 1);
	size_t end = find_bracket(argument);
	*path = span_first(argument, end);
	*parameters = span_after(argument, end + 1);
	return end < argument.size;
}

struct parameter {
	struct span keyword;
	uint32_t offer;
};

static bool
are_offered(struct span rest, const struct parameter *known, size_t count, uint32_t offered)
{
	for (;;) {
		struct span word = take_word(&rest);
		uint32_t offer = 0;

		if (word.size == 0)
			return true;
		word = span_first(word, span_find(word, '=', 0));
		for (size_t i = 0; i < count && offer == 0; i++)
			if (span_eq_nocase(word, known[i].keyword))
				offer = known[i].offer;
		if ((offer & offered) == 0)
			return false;
	}
}

bool
command_mail_parameters(struct span parameters, uint32_t offered)
{
	const struct parameter known[] = {
		{ SPAN("SIZE"), SERVER_OFFER_SIZE },
		{ SPAN("BODY"), SERVER_OFFER_8BITMIME },
		{ SPAN("SMTPUTF8"), SERVER_OFFER_SMTPUTF8 },
		{ SPAN("RET"), SERVER_OFFER_DSN },
		{ SPAN("ENVID"), SERVER_OFFER_DSN },
	};

	if (parameters.size == 0)
		return true;
	return are_offered(parameters, known, sizeof known / sizeof known[0], offered);
}

bool
command_rcpt_parameters(struct span parameters, uint32_t offered)
{
	const struct parameter known[] = {
		{ SPAN("NOTIFY"), SERVER_OFFER_DSN },
		{ SPAN("ORCPT"), SERVER_OFFER_DSN },
	};

	if (parameters.size == 0)
		return true;
	return are_offered(parameters, known, sizeof known / sizeof known[0], offered);
}

bool
command_chunk(struct span argument, uint64_t *size, bool *last)
{
	struct span number = take_word(&argument);
	struct span word = take_word(&argument);

	*last = span_eq_nocase(word, SPAN("LAST"));
	return span_to_u64(number, size) && (word.size == 0 || *last) &&
	       skip_spaces(argument).size == 0;
}

uint32_t
command_recipient_number(struct span path)
{
	uint32_t number = 0;
	size_t i = 1;

	if (path.size < 2 || ascii_lower(path.data[0]) != 'r')
		return SERVER_NO_NUMBER;
	for (; i < path.size && path.data[i] >= '0' && path.data[i] <= '9'; i++) {
		if (i > NUMBER_DIGITS_MAX)
			return SERVER_NO_NUMBER;
		number = number * 10 + (uint32_t)(path.data[i] - '0');
	}
	if (i == 1 || (i < path.size && path.data[i] != '.' && path.data[i] != '@'))
		return SERVER_NO_NUMBER;
	return number;
}
