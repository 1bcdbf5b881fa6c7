/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench */
/*
 * Standard output and standard error are taken into a file while a command line is read, so that
 * what people see can be looked at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/options.h"

enum { WORDS_MAX = 160, TEXT_SIZE = 16384, USAGE = 2, GO_ON = -1 };

struct said {
	struct bench_options options;
	char line[4096];
	char *words[WORDS_MAX];
	int status;
	char text[TEXT_SIZE]; /* standard output and error */
};

/* Words are separated by blanks. */
static void
split(struct said *s, const char *line, int *count)
{
	snprintf(s->line, sizeof s->line, "%s", line);
	s->words[0] = "ringpost-bench";
	*count = 1;
	for (char *at = s->line; *at != '\0';) {
		s->words[(*count)++] = at;
		at += strcspn(at, " ");
		if (*at == ' ')
			*at++ = '\0';
	}
	s->words[*count] = NULL;
}

static void
parse(struct said *s, const char *line)
{
	FILE *file = tmpfile();
	int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
	int count;

	assert_true(file != NULL && out >= 0 && err >= 0);
	memset(s, 0, sizeof *s);
	split(s, line, &count);
	fflush(stdout);
	dup2(fileno(file), STDOUT_FILENO);
	dup2(fileno(file), STDERR_FILENO);
	s->status = options_parse(&s->options, count, s->words);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	close(out);
	close(err);
	rewind(file);
	s->text[fread(s->text, 1, TEXT_SIZE - 1, file)] = '\0';
	fclose(file);
}

static struct said *
parsed(const char *line)
{
	struct said *s = malloc(sizeof *s);

	assert_non_null(s);
	parse(s, line);
	if (s->status != GO_ON)
		fail_msg("%s: %s", line, s->text);
	assert_string_equal(s->text, "");
	return s;
}

/* ---- errors ---- */

#define RUN    "run --relay 127.0.0.1:25 --sink 127.0.0.1:26 --messages 1 "
#define SOURCE "source --relay 127.0.0.1:25 --messages 1 "
#define SINK   "sink --sink 127.0.0.1:26 "

static void
every_error_names_what_is_wrong_and_the_remedy(void **state)
{
	static const struct {
		const char *line;
		const char *text; /* a part of what is said */
	} rows[] = {
		{ "load", "'load' is no command; ringpost-bench --help lists them" },
		{ "source --messages 1", "--relay ADDRESS is missing" },
		{ "run --sink 127.0.0.1:26 --messages 1", "--relay ADDRESS is missing" },
		{ "run --relay 127.0.0.1:25 --messages 1", "--sink ADDRESS is missing" },
		{ "sink", "--sink ADDRESS is missing" },
		{ "report", "say --out FILE and the results" },
		{ "report --out x", "say --out FILE and the results" },
		{ "report x", "say --out FILE and the results" },
		{ "source --relay 127.0.0.1:25", "say either --messages N or --seconds TIME" },
		{ SOURCE "--seconds 1s", "say either --messages N or --seconds TIME" },
		{ "source --relay localhost:25 --messages 1",
		  "--relay 'localhost:25' is not understood; write 127.0.0.1:25, [::1]:25 or" },
		{ "sink --sink 127.0.0.1", "--sink '127.0.0.1' is not understood; write 127" },
		{ SOURCE "--messages 1k", "--messages '1k' is not understood; write a whole" },
		{ SOURCE "--messages -1", "--messages '-1' is not understood; write a whole" },
		{ SOURCE "--messages 1000000001", "--messages: write a number from 1 to" },
		{ "source --relay 127.0.0.1:25 --messages 0", "say either --messages N or" },
		{ "source --relay 127.0.0.1:25 --seconds 30",
		  "--seconds '30' is not understood; write a time such as 30s" },
		{ "source --relay 127.0.0.1:25 --seconds 31d", "--seconds: write at most 30d" },
		{ SOURCE "--mode fast",
		  "--mode 'fast': write pipelined, lockstep, login or connect" },
		{ RUN "--mode connect", "--mode connect sends no mail that could be followed" },
		{ SOURCE "--mode login", "--mode login needs --login NAME:FILE" },
		{ SOURCE "--login ann", "--login 'ann': write NAME:FILE" },
		{ SOURCE "--tls yes", "--tls 'yes': write none, starttls or implicit" },
		{ SOURCE "--connections 0", "--connections: write a number from 1 to 20000" },
		{ SOURCE "--connections 20001", "--connections: write a number from 1 to" },
		{ SOURCE "--recipients 0", "--recipients: write a number from 1 to 1000" },
		{ SOURCE "--recipients 1001", "--recipients: write a number from 1 to 1000" },
		{ SOURCE "--domains 0", "--domains: write a number from 1 to 1000000" },
		{ SOURCE "--from-domains 0", "--from-domains: write a number from 1 to" },
		{ SOURCE "--source-threads 0", "--source-threads: write a number from 1" },
		{ SOURCE "--source-threads 65", "--source-threads: write a number from 1" },
		{ SOURCE "--connections 1 --source-threads 2", "write at most one a connection" },
		{ SOURCE "--rate x", "--rate 'x' is not understood; write a number" },
		{ SOURCE "--rate -1", "--rate '-1' is not understood; write a number" },
		{ SOURCE "--rate nan", "--rate 'nan' is not understood; write a number" },
		{ SOURCE "--rate inf", "--rate 'inf' is not understood; write a number" },
		{ SOURCE "--rate 0.0001", "--rate: write at least 0.001" },
		{ SOURCE "--zipf 11", "--zipf: write a number from 0 to 10" },
		{ SOURCE "--timeout 0s", "--timeout: write a time from 10ms" },
		{ SOURCE "--interval 1ms", "--interval: write a time from 10ms" },
		{ SOURCE "--hello  --seed 1", "--hello '': write a name of at most 200 bytes" },
		{ SOURCE "extra", "'extra' is one word too many" },
		{ SINK "extra", "'extra' is one word too many" },
		{ SINK "--sink-threads 0", "--sink-threads: write a number from 1 to 64" },
		{ SINK "--sink-connections 0", "--sink-connections: write a number from 1" },
		{ RUN "--baseline 31d", "--baseline: write at most 30d" },
		{ RUN "--drain 31d", "--drain: write at most 30d" },
		{ RUN "--settle 31d", "--settle: write at most 30d" },
		{ RUN "--relay-pid 2147483648", "--relay-pid: write the id of a process" },
		{ RUN "--relay-pid 1 -- true", "--relay-pid: the command that is started" },
		{ SOURCE "--nothing", "ringpost-bench source --help lists the options" },
		{ SOURCE "--size", "ringpost-bench source --help lists the options" },
		{ SOURCE "--sink 127.0.0.1:26", "ringpost-bench source --help lists the" },
		{ SINK "--relay 127.0.0.1:25", "ringpost-bench sink --help lists the" },
	};
	struct said *s = malloc(sizeof *s);

	(void)state;
	assert_non_null(s);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		parse(s, rows[i].line);
		if (s->status != USAGE || strstr(s->text, rows[i].text) == NULL)
			fail_msg("%s: %d: %s", rows[i].line, s->status, s->text);
	}
	free(s);
}

static void
names_that_are_too_long_are_told(void **state)
{
	static const struct {
		const char *option;
		size_t most;
	} rows[] = { { "--from", 256 }, { "--hello", 200 }, { "--domain", 200 } };
	struct said *s = malloc(sizeof *s);

	(void)state;
	assert_non_null(s);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char line[1024];
		char name[512];
		memset(name, 'x', sizeof name);
		name[rows[i].most] = '\0';
		snprintf(line, sizeof line, SOURCE "%s %s", rows[i].option, name);
		parse(s, line);
		assert_int_equal(s->status, GO_ON);
		name[rows[i].most] = 'x';
		name[rows[i].most + 1] = '\0';
		snprintf(line, sizeof line, SOURCE "%s %s", rows[i].option, name);
		parse(s, line);
		assert_int_equal(s->status, USAGE);
		assert_non_null(strstr(s->text, "of at most") ? s->text
							      : strstr(s->text, "write at most"));
	}
	free(s);
}

/* A command line with an option given so often. */
static void
parse_often(struct said *s, const char *line, const char *option, unsigned times)
{
	char all[4096];
	size_t size = (size_t)snprintf(all, sizeof all, "%s", line);

	for (unsigned i = 0; i < times; i++)
		size += (size_t)snprintf(all + size, sizeof all - size, "%s ", option);
	all[size - 1] = '\0';
	parse(s, all);
}

static void
what_may_be_repeated_has_a_limit(void **state)
{
	struct said *s = malloc(sizeof *s);

	(void)state;
	assert_non_null(s);
	parse_often(s, "sink ", "--sink 127.0.0.1:26", 16);
	assert_int_equal(s->status, GO_ON);
	assert_int_equal(s->options.sinks.count, 16);
	parse_often(s, "sink ", "--sink 127.0.0.1:26", 17);
	assert_int_equal(s->status, USAGE);
	assert_non_null(strstr(s->text, "--sink: there are too many; 16 are the limit"));
	parse_often(s, "sink ", "--sink 127.0.0.1:26", 65);
	assert_int_equal(s->status, USAGE);
	parse_often(s, SINK, "--fault 1%:defer", OPTIONS_TEXTS_MAX);
	assert_int_equal(s->status, GO_ON);
	parse_often(s, SINK, "--fault 1%:defer", OPTIONS_TEXTS_MAX + 1);
	assert_int_equal(s->status, USAGE);
	assert_non_null(strstr(s->text, "it was given too often"));
	free(s);
}

/* ---- values ---- */

struct shown {
	const char *name; /* wanted */
	char value[1024];
	unsigned count; /* of all */
};

static void
on_option(void *context, const char *name, const char *value)
{
	struct shown *w = context;

	w->count++;
	if (w->name != NULL && strcmp(name, w->name) == 0)
		snprintf(w->value, sizeof w->value, "%s", value);
}

static void
expect_shown(const struct bench_options *o, const char *name, const char *value)
{
	struct shown w = { .name = name, .value = "(none)" };

	options_show(o, on_option, &w);
	if (strcmp(w.value, value) != 0)
		fail_msg("--%s is '%s'", name, w.value);
}

/* Every row of options.def. */
static const struct {
	const char *name;
	const char *commands;
	const char *standard; /* "": none */
	const char *value;    /* "": a flag */
} every[] = {
	{ "relay", "sr", "127.0.0.1:25", "[::1]:2525" },
	{ "sink", "kr", "127.0.0.1:26", "unix:/tmp/x" },
	{ "connections", "sr", "50", "7" },
	{ "messages", "sr", "1", "77" },
	{ "seconds", "sr", "0s", "0s" },
	{ "size", "sr", "1KiB", "2KiB" },
	{ "corpus", "sr", "", "/mail" },
	{ "recipients", "sr", "1", "3" },
	{ "per-connection", "sr", "0", "9" },
	{ "mode", "sr", "pipelined", "lockstep" },
	{ "tls", "sr", "none", "implicit" },
	{ "login", "sr", "", "ann@x:/secret" },
	{ "bdat", "sr", "no", "" },
	{ "rate", "sr", "0", "12.5" },
	{ "domain", "sr", "sink.test", "x.test" },
	{ "domains", "sr", "1", "8" },
	{ "zipf", "sr", "0", "1.25" },
	{ "from", "sr", "source@bench.test", "a@x" },
	{ "from-domains", "sr", "1", "12" },
	{ "proxy", "sr", "", "192.0.2.1:4000" },
	{ "hello", "sr", "bench.test", "me" },
	{ "source-threads", "sr", "1", "2" },
	{ "timeout", "sr", "1m", "1500ms" },
	{ "lmtp", "sk", "no", "" },
	{ "sink-lmtp", "r", "no", "" },
	{ "without", "kr", "", "SIZE" },
	{ "fault", "kr", "", "1%:defer" },
	{ "sink-threads", "kr", "1", "3" },
	{ "sink-connections", "kr", "4096", "10" },
	{ "baseline", "r", "3s", "0s" },
	{ "drain", "r", "1m", "5s" },
	{ "settle", "r", "1s", "2s" },
	{ "relay-pid", "r", "0", "4" },
	{ "seed", "skr", "1", "5" },
	{ "label", "skr", "relay", "mine" },
	{ "scenario", "skr", "", "small" },
	{ "interval", "skr", "1s", "100ms" },
	{ "json", "skr", "", "/x.json" },
	{ "out", "p", "", "/x.html" },
};
/* Every row of the table, for every command that has it: a value other than the default arrives,
 * and is shown as it was written. */
static void
every_row_is_reached(void **state)
{
	static const struct {
		char letter;
		const char *line;
	} commands[] = { { 's', SOURCE },
			 { 'k', SINK },
			 { 'r', RUN },
			 { 'p', "report --out /y.html r.json " } };

	(void)state;
	for (size_t c = 0; c < sizeof commands / sizeof commands[0]; c++) {
		unsigned reached = 0;
		for (size_t i = 0; i < sizeof every / sizeof every[0]; i++) {
			char line[512];
			if (strchr(every[i].commands, commands[c].letter) == NULL)
				continue;
			reached++;
			if (commands[c].letter == 'p')
				snprintf(line, sizeof line, "report --out %s r.json",
					 every[i].value);
			else
				snprintf(line, sizeof line, "%s--%s%s%s", commands[c].line,
					 every[i].name, every[i].value[0] != '\0' ? " " : "",
					 every[i].value);
			struct said *s = parsed(commands[c].line);
			if (commands[c].letter != 'p')
				expect_shown(&s->options, every[i].name, every[i].standard);
			free(s);
			s = parsed(line);
			bool again = strcmp(every[i].name, "sink") == 0;
			expect_shown(&s->options, every[i].name,
				     again                       ? "127.0.0.1:26,unix:/tmp/x"
				     : every[i].value[0] != '\0' ? every[i].value
								 : "yes");
			free(s);
		}
		struct said *s = parsed(commands[c].line);
		struct shown all = { .name = NULL };
		options_show(&s->options, on_option, &all);
		assert_int_equal(all.count, reached); /* this table has them all */
		free(s);
	}
}

static void
what_follows_the_options_is_the_command_to_start(void **state)
{
	struct said *s = parsed(RUN "-- relay --config x");

	(void)state;
	assert_int_equal(s->options.command, BENCH_RUN);
	assert_int_equal(s->options.rest_count, 3);
	assert_string_equal(s->options.rest[0], "relay");
	assert_string_equal(s->options.rest[1], "--config");
	assert_null(s->options.rest[3]);
	free(s);
	s = parsed("report --out page.html a.json b.json");
	assert_int_equal(s->options.command, BENCH_REPORT);
	assert_int_equal(s->options.rest_count, 2);
	assert_string_equal(s->options.rest[1], "b.json");
	free(s);
}

/* ---- help ---- */

static void
help_lists_what_there_is(void **state)
{
	static const struct {
		const char *line;
		const char *has;
		const char *has_not;
	} rows[] = {
		{ "--help", "source   load a server", "--relay" },
		{ "-h", "report   compare results", "--relay" },
		{ "source --help", "--relay ADDRESS", "--sink " },
		{ "source --help", "usage: ringpost-bench source", "--baseline" },
		{ "source --messages 1 --help", "--rate N", "--fault" },
		{ "sink --help", "--fault RULE", "--relay " },
		{ "sink --help", "WHEN:WHAT", "--rate" },
		{ "sink --help", "drop=PHASE", "--rate" },
		{ "run --help", "--settle TIME", "--out" },
		{ "run --help", "(3s)", "--out" },
		{ "report --help", "--out FILE", "--seed" },
	};
	struct said *s = malloc(sizeof *s);

	(void)state;
	assert_non_null(s);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		parse(s, rows[i].line);
		if (s->status != 0 || strstr(s->text, rows[i].has) == NULL ||
		    strstr(s->text, rows[i].has_not) != NULL)
			fail_msg("%s: %d: %s", rows[i].line, s->status, s->text);
	}
	parse(s, "");
	assert_int_equal(s->status, USAGE);
	assert_non_null(strstr(s->text, "usage: ringpost-bench COMMAND"));
	parse(s, "--version");
	assert_int_equal(s->status, 0);
	assert_string_equal(s->text, "ringpost-bench " RINGPOST_VERSION "\n");
	free(s);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_names_what_is_wrong_and_the_remedy),
		cmocka_unit_test(names_that_are_too_long_are_told),
		cmocka_unit_test(what_may_be_repeated_has_a_limit),
		cmocka_unit_test(every_row_is_reached),
		cmocka_unit_test(what_follows_the_options_is_the_command_to_start),
		cmocka_unit_test(help_lists_what_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
