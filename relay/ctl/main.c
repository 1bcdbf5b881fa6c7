/* SPDX-License-Identifier: Apache-2.0
 *
 * ringpostctl: one command to ringpostd, and its answer for people or as JSON; or one on the file
 * of users or about SPF, for which ringpostd need not run.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "relay/ctl/arguments.h"
#include "relay/ctl/link.h"
#include "relay/ctl/show.h"
#include "relay/ctl/spf.h"
#include "relay/ctl/user.h"

enum {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,
	EXIT_USAGE = 2,
	EXIT_TRY_AGAIN = 75, /* EX_TEMPFAIL of sysexits.h */
	WHY_MAX = 1024,
	TEXT_MAX = 16 * 1024 * 1024,
	TIMEOUT_MS = 60 * 1000,
	/* Of what changes mails: a million of them take a while. A drain is waited for by the relay
	 * for an hour, and what it says then must still be heard. */
	ACT_TIMEOUT_MS = 61 * 60 * 1000,
	PORTION = 1000, /* mails of a worker, of one request to move them */
};

static void
print(FILE *file, const struct buf *text)
{
	fwrite(text->data, 1, text->size, file);
}

static int
complain(struct buf *why, int status)
{
	fprintf(stderr, "ringpostctl: %.*s\n", SPAN_ARG(buf_span(why)));
	return status;
}

static uint64_t
now_wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Something of what was asked for was not done. */
static int
status_of(enum admin_command command, const json_t *result)
{
	json_int_t left = json_integer_value(json_object_get(result, "busy")) +
			  json_integer_value(json_object_get(result, "missing")) +
			  json_integer_value(json_object_get(result, "failed"));

	return protocol_command(command)->shape == ADMIN_SHAPE_acted && left > 0 ? EXIT_REFUSED
										 : EXIT_DONE;
}

static int
print_refusal(const struct arguments *a, json_t *answer)
{
	const char *word = json_string_value(json_object_get(answer, "error"));
	const char *text = json_string_value(json_object_get(answer, "text"));

	if (word == NULL || text == NULL) {
		fprintf(stderr, "ringpostctl: the answer is not understood; versions differ\n");
		return EXIT_REFUSED;
	}
	if (a->json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	fprintf(stderr, "ringpostctl: %s\n", text);
	return protocol_exit_status(span_of_string(word));
}

static int
print_result(const struct arguments *a, const json_t *result, struct buf *text)
{
	if (a->json) {
		json_dumpf(result, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		show_result(text, a->command, result, now_wall_ms());
		print(stdout, text);
	}
	return status_of(a->command, result);
}

/* NULL with a line in `why`. */
static json_t *
ask(const struct arguments *a, struct span line, struct buf *why)
{
	bool acts = protocol_command(a->command)->acts;
	uint64_t standard_ms = acts ? ACT_TIMEOUT_MS : TIMEOUT_MS;
	char *text =
		link_ask(a->socket, line, a->timeout_ms != 0 ? a->timeout_ms : standard_ms, why);
	json_t *answer = text == NULL ? NULL : json_loads(text, 0, NULL);

	if (text != NULL && answer == NULL)
		answer = json_object(); /* print_refusal() says that it is not understood */
	free(text);
	return answer;
}

/* With a request that was changed. NULL with a line in `why`, and the status. */
static json_t *
ask_anew(const struct arguments *a, const json_t *request, struct buf *why, int *status)
{
	uint8_t memory[PROTOCOL_REQUEST_MAX];
	size_t size = json_dumpb(request, (char *)memory, sizeof memory - 1, JSON_COMPACT);

	if (size == 0 || size >= sizeof memory) {
		buf_append_string(why, "the request is too long; use a shorter filter");
		*status = EXIT_USAGE;
		return NULL;
	}
	memory[size] = '\n';
	*status = EXIT_TRY_AGAIN;
	return ask(a, span_of(memory, size + 1), why);
}

static bool
is_done(const json_t *answer)
{
	return json_is_true(json_object_get(answer, "ok")) &&
	       json_is_object(json_object_get(answer, "result"));
}

/* Mails that a filter chooses are counted before they are changed. A move changes none. */
static bool
counts_first(const struct arguments *a, const json_t *request)
{
	return !a->yes && a->command != ADMIN_QUEUE_MOVE &&
	       protocol_command(a->command)->shape == ADMIN_SHAPE_acted &&
	       json_object_get(request, "ids") == NULL &&
	       json_object_get(request, "dry_run") == NULL;
}

/* Of somebody at a terminal; nobody else can be asked. */
static bool
is_meant(const struct arguments *a, const json_t *count, struct buf *why)
{
	json_int_t mails = json_integer_value(json_object_get(count, "matched"));
	json_int_t recipients = json_integer_value(json_object_get(count, "recipients"));
	const char *words = protocol_command(a->command)->words;
	char reply[8];

	if (mails <= 1)
		return true;
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		buf_printf(why,
			   "%s: %lld mails match (%lld recipients); --yes does it, --dry-run "
			   "shows some of them",
			   words, (long long)mails, (long long)recipients);
		return false;
	}
	fprintf(stderr, "%s: %lld mails (%lld recipients). Do it? [y/N] ", words, (long long)mails,
		(long long)recipients);
	if (fgets(reply, sizeof reply, stdin) != NULL && (reply[0] == 'y' || reply[0] == 'Y'))
		return true;
	buf_append_string(why, "nothing was changed");
	return false;
}

/* EXIT_DONE: go on. */
static int
confirm(const struct arguments *a, struct span line, struct buf *why)
{
	json_t *request = json_loadb((const char *)line.data, line.size, 0, NULL);
	int status = EXIT_DONE;

	if (counts_first(a, request)) {
		int failed;
		json_object_set_new(request, "dry_run", json_true());
		json_t *answer = ask_anew(a, request, why, &failed);
		const json_t *result = json_object_get(answer, "result");
		if (answer == NULL)
			status = complain(why, failed);
		else if (result == NULL)
			status = print_refusal(a, answer);
		else if (!is_meant(a, result, why))
			status = complain(why, EXIT_USAGE);
		json_decref(answer);
	}
	json_decref(request);
	return status;
}

static int
run(const struct arguments *a, struct span line, struct buf *text, struct buf *why)
{
	int before = confirm(a, line, why);

	if (before != EXIT_DONE)
		return before;
	json_t *answer = ask(a, line, why);
	if (answer == NULL)
		return complain(why, EXIT_TRY_AGAIN);
	int status = is_done(answer) ? print_result(a, json_object_get(answer, "result"), text)
				     : print_refusal(a, answer);
	json_decref(answer);
	return status;
}

static json_int_t
number_of(const json_t *answer, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(answer, "result"), name));
}

static void
add_number(json_t *answer, const char *name, json_int_t more)
{
	json_object_set_new(json_object_get(answer, "result"), name,
			    json_integer(number_of(answer, name) + more));
}

/* Portion after portion, until one moves nothing more; says meanwhile how far it is. */
static int
run_by_portions(const struct arguments *a, json_t *request, struct buf *text, struct buf *why)
{
	json_int_t moved = 0, portion;
	json_t *answer = NULL;
	int failed;

	json_object_set_new(request, "limit", json_integer(PORTION));
	do {
		json_decref(answer);
		answer = ask_anew(a, request, why, &failed);
		if (answer == NULL)
			return complain(why, failed);
		portion = is_done(answer) ? number_of(answer, "done") : 0;
		moved += portion;
		if (portion > 0)
			fprintf(stderr, "ringpostctl: moved %" JSON_INTEGER_FORMAT "\n", moved);
	} while (portion > 0);
	if (is_done(answer)) {
		add_number(answer, "done", moved);
		add_number(answer, "matched", moved);
	}
	int status = is_done(answer) ? print_result(a, json_object_get(answer, "result"), text)
				     : print_refusal(a, answer);
	json_decref(answer);
	return status;
}

static int
run_move(const struct arguments *a, struct span line, struct buf *text, struct buf *why)
{
	json_t *request = json_loadb((const char *)line.data, line.size, 0, NULL);
	bool at_once = request == NULL || json_object_get(request, "ids") != NULL ||
		       json_object_get(request, "limit") != NULL ||
		       json_object_get(request, "dry_run") != NULL;
	int status = at_once ? run(a, line, text, why) : run_by_portions(a, request, text, why);

	json_decref(request);
	return status;
}

static void
print_help(const struct arguments *a, struct buf *text)
{
	arguments_help(a, text);
	if (!a->has_command)
		buf_append_string(text, "  user add|passwd|list|remove   without ringpostd; see "
					"ringpostctl user --help\n"
					"  spf check|lint                without ringpostd; see "
					"ringpostctl spf --help\n");
}

static void
print_list(struct buf *text)
{
	arguments_list(text);
	user_list_commands(text);
	spf_list_commands(text);
}

int
main(int argc, char **argv)
{
	uint8_t why_memory[WHY_MAX];
	uint8_t line_memory[PROTOCOL_REQUEST_MAX];
	struct buf why = buf_of(why_memory, sizeof why_memory);
	struct buf line = buf_of(line_memory, sizeof line_memory);
	uint8_t *text_memory = malloc(TEXT_MAX);
	struct buf text = buf_of(text_memory, TEXT_MAX);
	struct arguments a;
	int status = EXIT_DONE;

	if (argc > 1 && strcmp(argv[1], "user") == 0) {
		free(text_memory);
		return user_main(argc - 1, argv + 1);
	}
	if (argc > 1 && strcmp(argv[1], "spf") == 0) {
		free(text_memory);
		return spf_main(argc - 1, argv + 1);
	}
	if (text_memory == NULL)
		return EXIT_TRY_AGAIN;
	if (!arguments_read(argc, (const char *const *)argv, &a, &line, &why)) {
		status = complain(&why, EXIT_USAGE);
	} else if (a.version) {
		printf("ringpostctl %s\n", RINGPOST_VERSION);
	} else if (a.help || a.list) {
		if (a.list)
			print_list(&text);
		else
			print_help(&a, &text);
		print(stdout, &text);
	} else {
		status = a.command == ADMIN_QUEUE_MOVE ? run_move(&a, buf_span(&line), &text, &why)
						       : run(&a, buf_span(&line), &text, &why);
	}
	free(text_memory);
	return status;
}
