/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/spf.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/unit.h"
#include "dns/blocking.h"
#include "dns/idn.h"
#include "dns/spf.h"
#include "dns/text.h"
#include "relay/ctl/spf_lint.h"
#include "relay/ctl/spf_show.h"

enum {
	DONE = 0,
	ERRORS = 1,
	USAGE = 2,
	DNS_PORT = 53,
	TIMEOUT_MS = 20 * 1000, /* RFC 7208 4.6.4 */
	WHY_MAX = 512,
	HOST_MAX = 256,
	STEP_MAX = 256 * 1024, /* one line of text */
};

struct command {
	struct spf_inputs in;
	const char *domain; /* lint */
	struct net_address dns;
	bool json;
	uint64_t timeout_ms;
	uint64_t until_ms;
	struct blocking *blocking;
	json_t *steps;
	struct buf text;
	char host[HOST_MAX];
};

static int
refuse(const char *what, const char *value)
{
	fprintf(stderr, "ringpostctl: %s%.200s\n", what, value);
	return USAGE;
}

static uint64_t
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int
print_help(void)
{
	fputs("usage: ringpostctl spf check --ip IP --helo NAME --mail-from ADDRESS [OPTION...]\n"
	      "       ringpostctl spf lint DOMAIN [OPTION...]\n"
	      "\n"
	      "check says whether a client may send in the name of a domain (RFC 7208), with every "
	      "step. lint says\n"
	      "what is wrong with the record of a domain, and ends with 1 where there are errors.\n"
	      "\n"
	      "  --ip IP             of the client\n"
	      "  --helo NAME         what it said in HELO or EHLO\n"
	      "  --mail-from ADDRESS without it, or empty, HELO is checked\n"
	      "  --identity WORD     mailfrom or helo: checks HELO in any case\n"
	      "  --receiver NAME     of the host that checks, for explanations (this host)\n"
	      "  --dns HOST@PORT     asks this resolver, and believes it\n"
	      "  --timeout TIME      for all questions together (20s)\n"
	      "  --json\n",
	      stdout);
	return DONE;
}

void
spf_list_commands(struct buf *out)
{
	buf_append_string(out, "spf check --ip --helo --mail-from --identity --receiver --dns "
			       "--timeout --json\n"
			       "spf lint --dns --timeout --json\n");
}

/* ---- the DNS ---- */

static const char *
anchors(void)
{
	static const char *const files[] = { "/usr/share/dns/root.key",
					     "/var/lib/unbound/root.key" };

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		if (access(files[i], R_OK) == 0)
			return files[i];
	}
	return NULL;
}

/* One resolver is asked for everything, also for what a library would answer by itself. */
static bool
open_dns(struct command *c)
{
	struct resolver_options options = {
		.forwarders_auto = c->dns.size == 0,
		.resolv_conf = "/etc/resolv.conf",
		.trust_anchors = c->dns.size == 0 ? anchors() : NULL,
	};
	char memory[WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory - 1);

	if (c->dns.size > 0) {
		static const char *const zones[] = { "test", "invalid", "onion", "home.arpa" };
		options.forwarders[0] = c->dns;
		options.forwarder_count = 1;
		for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++)
			options.transparent[options.transparent_count++] = span_of_string(zones[i]);
	}
	c->until_ms = monotonic_ms() + c->timeout_ms;
	c->blocking = blocking_new(&options, &why);
	if (c->blocking != NULL)
		return true;
	memory[why.size] = 0;
	fprintf(stderr, "ringpostctl: %s\n", memory);
	return false;
}

/* ---- check ---- */

static void
on_step(void *context, const struct spf_step *step)
{
	struct command *c = context;

	if (c->json) {
		json_array_append_new(c->steps, spf_show_step_json(step));
		return;
	}
	buf_reset(&c->text);
	spf_show_step(step, &c->text);
	fwrite(c->text.data, 1, c->text.size, stdout);
}

static void
print_json(json_t *object)
{
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(object);
}

static void
show_outcome(struct command *c, const struct spf_outcome *o)
{
	if (c->json) {
		print_json(spf_show_outcome_json(o, monotonic_ms(), c->steps));
		return;
	}
	buf_reset(&c->text);
	spf_show_outcome(o, monotonic_ms(), &c->text);
	fwrite(c->text.data, 1, c->text.size, stdout);
}

static void
evaluate(struct command *c, struct spf *machine)
{
	struct spf_question q;

	c->in.now_s = (uint64_t)time(NULL);
	c->steps = json_array();
	spf_begin(machine, &c->in, on_step, c);
	while (spf_next(machine, &q)) {
		if (monotonic_ms() >= c->until_ms) {
			spf_give_up(machine, SPAN("the DNS did not answer all questions in time"));
			break;
		}
		struct dns_answer *a = blocking_ask(c->blocking, q.name, q.type, c->until_ms);
		spf_answer(machine, a);
		dns_answer_put(a);
	}
	show_outcome(c, spf_outcome(machine));
	if (!c->json)
		json_decref(c->steps);
}

static int
run_check(struct command *c)
{
	if (c->in.client.size == 0)
		return refuse("spf check needs --ip; see spf --help", "");
	if (c->in.helo.size == 0 && c->in.domain.size == 0)
		return refuse("spf check needs --helo or --mail-from; see spf --help", "");
	struct spf *machine = spf_new();
	bool ready = machine != NULL && open_dns(c);
	if (ready)
		evaluate(c, machine);
	spf_free(machine);
	return ready ? DONE : ERRORS;
}

/* ---- lint ---- */

static struct dns_answer *
ask_for_lint(void *context, struct span name, enum dns_type type)
{
	struct command *c = context;

	return blocking_ask(c->blocking, name, type, c->until_ms);
}

static int
run_lint(struct command *c)
{
	char name[DNS_NAME_MAX + 1];
	size_t size = idn_to_ascii(span_of_string(c->domain), name);

	if (size == 0)
		return refuse("this is no domain: ", c->domain);
	struct lint *lint = calloc(1, sizeof *lint);
	int status = ERRORS;
	if (lint != NULL && open_dns(c)) {
		lint->ask = ask_for_lint;
		lint->context = c;
		lint_domain(lint, span_of(name, size));
		status = lint->errors == 0 ? DONE : ERRORS;
		buf_reset(&c->text);
		if (c->json)
			print_json(lint_show_json(lint));
		else
			lint_show(lint, &c->text);
		fwrite(c->text.data, 1, c->text.size, stdout);
	}
	free(lint);
	return status;
}

/* ---- the command line ---- */

/* "user@example.org", "<user@example.org>", "<>", "". */
static void
take_sender(struct command *c, struct span text)
{
	if (text.size >= 2 && text.data[0] == '<' && text.data[text.size - 1] == '>')
		text = span_of(text.data + 1, text.size - 2);
	size_t at = text.size;
	while (at > 0 && text.data[at - 1] != '@')
		at--;
	c->in.local = at > 0 ? span_first(text, at - 1) : span_none();
	c->in.domain = span_after(text, at);
}

static bool
take_dns(struct command *c, struct span text)
{
	size_t at = span_find(text, '@', 0);
	uint64_t port = DNS_PORT;

	if (at < text.size &&
	    (!span_to_u64(span_after(text, at + 1), &port) || port == 0 || port > UINT16_MAX))
		return false;
	return text_ip(span_first(text, at), (uint16_t)port, &c->dns);
}

static bool
take_identity(struct command *c, struct span text)
{
	c->in.identity = span_eq(text, SPAN("helo")) ? SPF_HELO : SPF_MAIL_FROM;
	return c->in.identity == SPF_HELO || span_eq(text, SPAN("mailfrom"));
}

static int
take_option(struct command *c, int option, const char *value)
{
	struct span text = span_of_string(value);

	switch (option) {
	case 'i':
		return text_ip(text, 0, &c->in.client) ? DONE : refuse("--ip: no address: ", value);
	case 'h':
		c->in.helo = text;
		return DONE;
	case 'f':
		take_sender(c, text);
		return DONE;
	case 'I':
		return take_identity(c, text) ? DONE
					      : refuse("--identity: mailfrom or helo, not ", value);
	case 'r':
		c->in.receiver = text;
		return DONE;
	case 'd':
		return take_dns(c, text)
			       ? DONE
			       : refuse("--dns: an address such as 192.0.2.53@53, not ", value);
	case 't':
		return duration_parse(text, &c->timeout_ms) && c->timeout_ms > 0
			       ? DONE
			       : refuse("--timeout: a duration such as 20s, not ", value);
	case 'j':
		c->json = true;
		return DONE;
	default:
		return USAGE; /* getopt has said why */
	}
}

static int
read_options(struct command *c, int argc, char **argv, bool *help)
{
	static const struct option options[] = {
		{ "ip", required_argument, NULL, 'i' },
		{ "helo", required_argument, NULL, 'h' },
		{ "mail-from", required_argument, NULL, 'f' },
		{ "identity", required_argument, NULL, 'I' },
		{ "receiver", required_argument, NULL, 'r' },
		{ "dns", required_argument, NULL, 'd' },
		{ "timeout", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, '?' + 256 },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == '?' + 256) {
			*help = true;
			return DONE;
		}
		int status = take_option(c, option, optarg);
		if (status != DONE)
			return status;
	}
	return DONE;
}

static int
run(struct command *c, int argc, char **argv)
{
	const char *word = optind < argc ? argv[optind++] : "";

	if (strcmp(word, "check") == 0)
		return optind < argc ? refuse("spf check takes no word ", argv[optind])
				     : run_check(c);
	if (strcmp(word, "lint") != 0)
		return refuse("spf needs a word more: check or lint; see spf --help", "");
	if (optind >= argc)
		return refuse("spf lint needs a domain", "");
	c->domain = argv[optind++];
	return optind < argc ? refuse("spf lint takes no word ", argv[optind]) : run_lint(c);
}

int
spf_main(int argc, char **argv)
{
	static struct command c = { .timeout_ms = TIMEOUT_MS };
	static uint8_t memory[STEP_MAX];
	bool help = false;

	c.text = buf_of(memory, sizeof memory);
	if (gethostname(c.host, sizeof c.host - 1) == 0)
		c.in.receiver = span_of_string(c.host);
	int status = read_options(&c, argc, argv, &help);
	if (status == DONE)
		status = help ? print_help() : run(&c, argc, argv);
	blocking_free(c.blocking);
	return status;
}
