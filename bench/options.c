/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/options.h"

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/client.h"
#include "bench/fault.h"
#include "bench/letter.h"
#include "bench/sink.h"
#include "core/base/assert.h"
#include "core/base/unit.h"
#include "core/worker.h"

#define RATE_LEAST   0.001
#define TIME_MOST_MS ((uint64_t)30 * 24 * 3600 * 1000)

enum {
	EXIT_USAGE = 2,
	HELP_COLUMN = 26,
	VALUE_SIZE = 1024,
	/* What the number of a mail has digits for in its field, and memory may be reserved for. */
	MESSAGES_MOST = 1000 * 1000 * 1000,
	NAME_MOST = 200, /* with "rK.userN@dN." it is no longer than CLIENT_ADDRESS_MAX */
	ZIPF_MOST = 10,
};

enum kind {
	KIND_ADDRESS,
	KIND_ADDRESSES,
	KIND_COUNT,
	KIND_NUMBER,
	KIND_DURATION,
	KIND_TEXT,
	KIND_TEXTS,
	KIND_FLAG,
};

struct row {
	const char *name;
	enum kind kind;
	const char *commands;
	const char *standard;
	const char *value;
	const char *help;
	size_t offset;
};

static const struct row rows[] = {
#define OPTION(name, field, kind, commands, standard, value, help) \
	{                                                          \
		name,                                              \
		KIND_##kind,                                       \
		commands,                                          \
		standard,                                          \
		value,                                             \
		help,                                              \
		offsetof(struct bench_options, field)              \
	},
#include "bench/options.def"
#undef OPTION
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* Each field has the type of its kind. */
#define OPTION(name, field, kind, commands, standard, value, help)                                \
	_Static_assert(sizeof(((struct bench_options *)0)->field) == sizeof(OPTION_FIELD_##kind), \
		       name ": the field is of another type");
#include "bench/options.def"
#undef OPTION

static const struct command {
	const char *name;
	char letter;
	const char *usage;
	const char *what;
} commands[] = {
	[BENCH_SOURCE] = { "source", 's', "--relay ADDRESS [OPTIONS]", "load a server" },
	[BENCH_SINK] = { "sink", 'k', "--sink ADDRESS [OPTIONS]",
			 "catch mail, until SIGINT or SIGTERM" },
	[BENCH_RUN] = { "run", 'r', "--relay ADDRESS --sink ADDRESS [OPTIONS] [-- COMMAND...]",
			"source and sink around a relay, which COMMAND starts; 1 if a mail is "
			"lost" },
	[BENCH_REPORT] = { "report", 'p', "--out FILE RESULT.json...",
			   "compare results on one HTML page" },
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static bool
has(const struct bench_options *o, const struct row *r)
{
	return strchr(r->commands, commands[o->command].letter) != NULL;
}

/* ---- help ---- */

static void
print_usage(FILE *to)
{
	fputs("usage: ringpost-bench COMMAND [OPTIONS]; ringpost-bench COMMAND --help\n\n", to);
	for (unsigned i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].what);
}

static const char modes[] = "\nmodes:\n"
			    "  pipelined   the end of a mail and the envelope of the next in one "
			    "group, one mail ahead\n"
			    "  lockstep    each command waits for its reply\n"
			    "  login       no mail: a connection for each AUTH, which --rate "
			    "paces; what is refused counts "
			    "as a refused mail\n"
			    "  connect     no mail: a connection, its handshake, EHLO and QUIT; "
			    "full handshakes, none is "
			    "resumed\n";

static void
print_help(const struct bench_options *o)
{
	const struct command *c = &commands[o->command];

	printf("usage: ringpost-bench %s %s\n%s\n\n", c->name, c->usage, c->what);
	for (unsigned i = 0; i < ROWS; i++) {
		char name[64];
		if (!has(o, &rows[i]))
			continue;
		snprintf(name, sizeof name, "--%s %s", rows[i].name, rows[i].value);
		printf("  %-*s %s", HELP_COLUMN, name, rows[i].help);
		if (rows[i].standard != NULL && rows[i].standard[0] != '\0')
			printf(" (%s)", rows[i].standard);
		putchar('\n');
	}
	if (o->command == BENCH_SOURCE)
		fputs(modes, stdout);
	if (o->command == BENCH_SINK || o->command == BENCH_RUN) {
		uint8_t memory[8192];
		struct buf text = buf_of(memory, sizeof memory);
		fault_show_help(&text);
		printf("\n%.*s", SPAN_ARG(buf_span(&text)));
	}
}

/* ---- values ---- */

static bool
set_address(struct net_address *out, const char *text)
{
	return net_address_parse(span_of_string(text), out);
}

static bool
set_number(double *out, const char *text)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && *end == '\0' && *out >= 0 && *out < 1e12;
}

static bool
set(struct bench_options *o, const struct row *r, const char *text)
{
	void *field = (char *)o + r->offset;
	struct bench_addresses *addresses = field;
	struct bench_texts *texts = field;

	switch (r->kind) {
	case KIND_ADDRESS:
		return set_address(field, text);
	case KIND_ADDRESSES:
		if (addresses->count == OPTIONS_TEXTS_MAX)
			return false;
		return set_address(&addresses->items[addresses->count++], text);
	case KIND_COUNT:
		return span_to_u64(span_of_string(text), field);
	case KIND_NUMBER:
		return set_number(field, text);
	case KIND_DURATION:
		return duration_parse(span_of_string(text), field);
	case KIND_TEXT:
		*(const char **)field = text;
		return true;
	case KIND_TEXTS:
		if (texts->count == OPTIONS_TEXTS_MAX)
			return false;
		texts->items[texts->count++] = text;
		return true;
	case KIND_FLAG:
		*(bool *)field = true;
		return true;
	}
	return false;
}

static const char *
remedy(enum kind kind)
{
	static const char *const remedies[] = {
		[KIND_ADDRESS] = "write 127.0.0.1:25, [::1]:25 or unix:/path",
		[KIND_ADDRESSES] = "write 127.0.0.1:25, [::1]:25 or unix:/path",
		[KIND_COUNT] = "write a whole number",
		[KIND_NUMBER] = "write a number",
		[KIND_DURATION] = "write a time such as 30s, 10m or 500ms",
		[KIND_TEXT] = "",
		[KIND_TEXTS] = "it was given too often",
		[KIND_FLAG] = "",
	};
	return remedies[kind];
}

static int
fail(const char *format, const char *what)
{
	fputs("ringpost-bench: ", stderr);
	fprintf(stderr, format, what);
	fputs("\n", stderr);
	return EXIT_USAGE;
}

/* ---- what must be, and what does not go together ---- */

/* Rows with a number or a time that has bounds; durations in milliseconds. */
static const struct limit {
	const char *name;
	uint64_t least;
	uint64_t most;
	const char *remedy;
} limits[] = {
	{ "connections", 1, 20000, "write a number from 1 to 20000" },
	{ "messages", 0, MESSAGES_MOST, "write a number from 1 to 1000000000" },
	{ "seconds", 0, TIME_MOST_MS, "write at most 30d" },
	{ "recipients", 1, 1000, "write a number from 1 to 1000" },
	{ "domains", 1, DOMAINS_MAX, "write a number from 1 to 1000000" },
	{ "from-domains", 1, DOMAINS_MAX, "write a number from 1 to 1000000" },
	{ "source-threads", 1, WORKERS_MAX, "write a number from 1 to 64" },
	{ "timeout", 10, TIME_MOST_MS, "write a time from 10ms to 30d" },
	{ "sink-threads", 1, WORKERS_MAX, "write a number from 1 to 64" },
	{ "sink-connections", 1, 20000, "write a number from 1 to 20000" },
	{ "baseline", 0, TIME_MOST_MS, "write at most 30d" },
	{ "drain", 0, TIME_MOST_MS, "write at most 30d" },
	{ "settle", 0, TIME_MOST_MS, "write at most 30d" },
	{ "relay-pid", 0, INT32_MAX, "write the id of a process" },
	{ "interval", 10, TIME_MOST_MS, "write a time from 10ms to 30d" },
};

static int
check_limits(const struct bench_options *o)
{
	for (unsigned i = 0; i < ROWS; i++) {
		uint64_t value;
		if (!has(o, &rows[i]) ||
		    (rows[i].kind != KIND_COUNT && rows[i].kind != KIND_DURATION))
			continue;
		memcpy(&value, (const char *)o + rows[i].offset, sizeof value);
		for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
			const struct limit *l = &limits[k];
			if (strcmp(l->name, rows[i].name) != 0 ||
			    (value >= l->least && value <= l->most))
				continue;
			fprintf(stderr, "ringpost-bench: --%s: %s\n", l->name, l->remedy);
			return EXIT_USAGE;
		}
	}
	return -1;
}

bool
options_mode(const struct bench_options *o, enum client_mode *out)
{
	static const char *const words[] = {
		[CLIENT_PIPELINED] = "pipelined",
		[CLIENT_LOCKSTEP] = "lockstep",
		[CLIENT_LOGIN] = "login",
		[CLIENT_CONNECT] = "connect",
	};

	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strcmp(o->mode, words[i]) == 0) {
			*out = (enum client_mode)i;
			return true;
		}
	}
	return false;
}

static int
check_security(const struct bench_options *o, enum client_mode mode)
{
	if (strcmp(o->tls, "none") != 0 && strcmp(o->tls, "starttls") != 0 &&
	    strcmp(o->tls, "implicit") != 0)
		return fail("--tls '%s': write none, starttls or implicit", o->tls);
	if (o->login != NULL && strchr(o->login, ':') == NULL)
		return fail("--login '%s': write NAME:FILE, the file with the password", o->login);
	if (mode == CLIENT_LOGIN && o->login == NULL)
		return fail("--mode login needs --login NAME:FILE%s", "");
	return -1;
}

static int
check_source(const struct bench_options *o)
{
	int status;

	if (o->relay.size == 0)
		return fail("--relay ADDRESS is missing: the server to load%s", "");
	if ((o->messages == 0) == (o->duration_ms == 0))
		return fail("say either --messages N or --seconds TIME%s", "");
	enum client_mode mode;
	if (!options_mode(o, &mode))
		return fail("--mode '%s': write pipelined, lockstep, login or connect", o->mode);
	if (o->command == BENCH_RUN && mode != CLIENT_PIPELINED && mode != CLIENT_LOCKSTEP)
		return fail("--mode %s sends no mail that could be followed; use it with source",
			    o->mode);
	status = check_security(o, mode);
	if (status >= 0)
		return status;
	if (o->source_threads > o->connections)
		return fail("--source-threads: there are fewer --connections; write at most one "
			    "a connection%s",
			    "");
	if (o->rate != 0 && o->rate < RATE_LEAST)
		return fail("--rate: write at least 0.001, or 0 for a closed loop%s", "");
	if (o->zipf > ZIPF_MOST)
		return fail("--zipf: write a number from 0 to 10%s", "");
	if (strlen(o->from) > CLIENT_ADDRESS_MAX)
		return fail("--from '%s' is too long; write at most 256 bytes", o->from);
	if (o->from_domains > 1 && (strchr(o->from, '@') == NULL || strlen(o->from) > NAME_MOST))
		return fail("--from-domains: --from '%s' must be name@domain, of at most 200 bytes",
			    o->from);
	uint8_t ip[16];
	if (o->proxy.size > 0 && net_address_ip(&o->proxy, ip) == 0)
		return fail("--proxy: write an IP address with a port%s", "");
	if (strlen(o->hello) == 0 || strlen(o->hello) > NAME_MOST)
		return fail("--hello '%s': write a name of at most 200 bytes", o->hello);
	if (strlen(o->domain) == 0 || strlen(o->domain) > NAME_MOST)
		return fail("--domain '%s': write a name of at most 200 bytes", o->domain);
	return -1;
}

static int
check_sink(const struct bench_options *o)
{
	if (o->sinks.count == 0)
		return fail("--sink ADDRESS is missing: where to catch%s", "");
	if (o->sinks.count > SINK_ADDRESSES_MAX)
		return fail("--sink: there are too many; 16 are the limit%s", "");
	if (o->command == BENCH_RUN && o->rest_count > 0 && o->relay_pid != 0)
		return fail("--relay-pid: the command that is started is measured; leave out "
			    "one of the two%s",
			    "");
	return -1;
}

static int
check(const struct bench_options *o)
{
	int status;

	if (o->command == BENCH_REPORT) {
		if (o->out == NULL || o->rest_count == 0)
			return fail("say --out FILE and the results to compare%s", "");
		return -1;
	}
	if (o->rest_count > 0 && o->command != BENCH_RUN)
		return fail("'%s' is one word too many", o->rest[0]);
	status = check_limits(o);
	if (status < 0 && o->command != BENCH_SINK)
		status = check_source(o);
	if (status < 0 && o->command != BENCH_SOURCE)
		status = check_sink(o);
	return status;
}

/* ---- the command line ---- */

static int
find_command(struct bench_options *o, int argc, char **argv)
{
	if (argc < 2) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_usage(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("ringpost-bench %s\n", RINGPOST_VERSION);
		return 0;
	}
	for (unsigned i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[1], commands[i].name) == 0) {
			o->command = (enum bench_command)i;
			return -1;
		}
	}
	return fail("'%s' is no command; ringpost-bench --help lists them", argv[1]);
}

/* The options of the command for getopt; val is the row + 1. */
static void
list_options(const struct bench_options *o, struct option out[ROWS + 2])
{
	unsigned n = 0;

	for (unsigned i = 0; i < ROWS; i++) {
		if (has(o, &rows[i]))
			out[n++] = (struct option){ rows[i].name, rows[i].kind != KIND_FLAG, NULL,
						    (int)i + 1 };
	}
	out[n++] = (struct option){ "help", no_argument, NULL, 'h' + 1000 };
	out[n] = (struct option){ 0 };
}

int
options_parse(struct bench_options *o, int argc, char **argv)
{
	struct option options[ROWS + 2];
	int value;

	*o = (struct bench_options){ .given = argv, .given_count = (unsigned)argc };
	int status = find_command(o, argc, argv);
	if (status >= 0)
		return status;
	list_options(o, options);
	for (unsigned i = 0; i < ROWS; i++) {
		bool good = rows[i].standard == NULL || !has(o, &rows[i]) ||
			    set(o, &rows[i], rows[i].standard);
		ASSERT(good);
	}
	optind = 2;
	while ((value = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (value == 'h' + 1000) {
			print_help(o);
			return 0;
		}
		if (value == '?') {
			fprintf(stderr, "ringpost-bench %s --help lists the options\n", argv[1]);
			return EXIT_USAGE;
		}
		const struct row *r = &rows[value - 1];
		if (!set(o, r, optarg)) {
			fprintf(stderr, "ringpost-bench: --%s '%s' is not understood; %s\n",
				r->name, optarg, remedy(r->kind));
			return EXIT_USAGE;
		}
	}
	o->rest = argv + optind;
	o->rest_count = (unsigned)(argc - optind);
	return check(o);
}

/* ---- showing ---- */

static void
show_value(const struct bench_options *o, const struct row *r, struct buf *out)
{
	const void *field = (const char *)o + r->offset;
	const struct bench_addresses *addresses = field;
	const struct bench_texts *texts = field;
	const char *text;

	switch (r->kind) {
	case KIND_ADDRESS:
		net_address_show(field, out);
		break;
	case KIND_ADDRESSES:
		for (unsigned i = 0; i < addresses->count; i++) {
			buf_append_string(out, i > 0 ? "," : "");
			net_address_show(&addresses->items[i], out);
		}
		break;
	case KIND_COUNT:
		buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)field);
		break;
	case KIND_NUMBER:
		buf_printf(out, "%g", *(const double *)field);
		break;
	case KIND_DURATION:
		duration_print(*(const uint64_t *)field, out);
		break;
	case KIND_TEXT:
		text = *(const char *const *)field;
		buf_append_string(out, text == NULL ? "" : text);
		break;
	case KIND_TEXTS:
		for (unsigned i = 0; i < texts->count; i++)
			buf_printf(out, "%s%s", i > 0 ? " " : "", texts->items[i]);
		break;
	case KIND_FLAG:
		buf_append_string(out, *(const bool *)field ? "yes" : "no");
		break;
	}
}

void
options_show(const struct bench_options *o,
	     void (*on_option)(void *context, const char *name, const char *value), void *context)
{
	for (unsigned i = 0; i < ROWS; i++) {
		uint8_t memory[VALUE_SIZE];
		struct buf value = buf_of(memory, sizeof memory - 1);
		if (!has(o, &rows[i]))
			continue;
		show_value(o, &rows[i], &value);
		memory[value.size] = '\0';
		on_option(context, rows[i].name, (const char *)memory);
	}
}
