/* SPDX-License-Identifier: Apache-2.0
 *
 * resolve: asks the resolver as the daemon would, and prints each answer as one line of JSON.
 *
 *   resolve [OPTION VALUE]... QUESTION...
 *
 * A question is TYPE/name (A, AAAA, CNAME, MX, PTR, TLSA, TXT), mx/domain or host/name:port, and
 * dane-mx/domain or dane-host/name:port with the TLSA records of the hosts. The word `wait` stands
 * for "when all before this are answered"; `-` reads questions from standard input, one a line.
 * Every option has a value:
 *   --anchors FILE   --resolv-conf FILE   --forwarder ADDRESS:PORT   --transparent ZONE   --search
 * DOMAIN   --hosts FILE
 *   --deadline MS    --queries N    --waiting N    --cache BYTES    --self-name NAME
 *   --self-address ADDRESS:PORT     --threads N: so many workers, each asks everything
 *   --stop N: when N questions are answered, stop with the rest open
 *   --cancel N: when N questions are answered, cancel the rest
 *   --metrics 1: print what was counted at the end   --log 1: print the events
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/log.h"
#include "core/metric.h"
#include "core/worker.h"
#include "dns/mx.h"
#include "dns/resolver.h"

enum {
	QUESTIONS_MAX = 200000,
	THREADS_MAX = 16,
	LINE_SIZE = 64 * 1024,
	WAIT_US = 1000 * 1000,
	SELF_MAX = 8,
};

struct item;

struct run {
	struct worker worker;
	struct resolver *resolver;
	struct metrics *metrics;
	struct item *items;
	size_t begun;
	size_t done;
	bool stopped;
	pthread_t thread;
	char line[LINE_SIZE];
};

static struct worker *peers[THREADS_MAX];
static pthread_barrier_t barrier;

struct item {
	struct run *run;
	const char *text;
	bool open;
	uint64_t started_us;
	struct dns_query query;
	struct mx_lookup lookup;
};

static const char *questions[QUESTIONS_MAX];
static size_t question_count;
static struct resolver_options options = {
	.queries_max = 1024,
	.waiting_max = 100000,
	.cache_bytes = 64 << 20,
	.deadline_ms = 20000,
};
static struct span self_names[SELF_MAX];
static struct net_address self_addresses[SELF_MAX];
static struct mx_self self = { .names = self_names, .addresses = self_addresses };
static unsigned threads = 1;
static size_t stop_after = SIZE_MAX;
static size_t cancel_after = SIZE_MAX;
static bool wants_metrics;
static bool wants_log;

static void
die(const char *what, const char *argument)
{
	fprintf(stderr, "resolve: %s %s\n", what, argument);
	exit(2);
}

/* ---- output ---- */

static void
put_text(struct buf *out, const char *key, struct span value)
{
	buf_printf(out, "\"%s\": \"", key);
	buf_append_json(out, value, SIZE_MAX);
	buf_append_string(out, "\"");
}

static void
put_flag(struct buf *out, const char *key, bool value)
{
	buf_printf(out, ", \"%s\": %s", key, value ? "true" : "false");
}

static struct buf
begin_line(struct item *item)
{
	struct buf out = buf_of(item->run->line, LINE_SIZE);

	buf_append_string(&out, "{ ");
	put_text(&out, "question", span_of_string(item->text));
	buf_printf(&out, ", \"worker\": %u, \"ms\": %.3f, ", item->run->worker.number,
		   (double)(clock_monotonic_us() - item->started_us) / 1000);
	return out;
}

static void
end_line(struct item *item, struct buf *out)
{
	buf_append_string(out, " }");
	if (out->overflow)
		die("a line is too long for", item->text);
	printf("%.*s\n", (int)out->size, (const char *)out->data);
	item->open = false;
	item->run->done++;
}

static void
put_address(struct buf *out, const struct net_address *a)
{
	buf_append_byte(out, '"');
	net_address_show(a, out);
	buf_append_byte(out, '"');
}

static void
put_record(struct buf *out, enum dns_type type, const struct dns_record *r)
{
	switch (type) {
	case DNS_A:
	case DNS_AAAA:
		buf_append_byte(out, '"');
		net_address_show_ip(&r->address, out);
		buf_append_byte(out, '"');
		return;
	case DNS_MX:
		buf_printf(out, "[%u, \"", (unsigned)r->preference);
		buf_append_json(out, r->name, SIZE_MAX);
		buf_append_string(out, "\"]");
		return;
	case DNS_CNAME:
	case DNS_PTR:
		buf_append_byte(out, '"');
		buf_append_json(out, r->name, SIZE_MAX);
		buf_append_byte(out, '"');
		return;
	case DNS_TXT:
		buf_append_byte(out, '"');
		buf_append_json(out, r->data, SIZE_MAX);
		buf_append_byte(out, '"');
		return;
	case DNS_SOA:
	case DNS_TLSA:
		buf_append_byte(out, '"');
		for (size_t i = 0; i < r->data.size; i++)
			buf_printf(out, "%02x", (unsigned)r->data.data[i]);
		buf_append_byte(out, '"');
		return;
	}
}

static void
on_query(struct dns_query *q, struct dns_answer *a)
{
	struct item *item = CONTAINER_OF(q, struct item, query);
	struct buf out = begin_line(item);

	put_text(&out, "outcome", span_of_string(dns_outcome_label(a->outcome)));
	buf_append_string(&out, ", ");
	put_text(&out, "security", a->security == DNS_SECURE ? SPAN("secure") : SPAN("insecure"));
	buf_append_string(&out, ", ");
	put_text(&out, "name", a->name);
	buf_append_string(&out, ", ");
	put_text(&out, "why", a->why);
	buf_printf(&out, ", \"ttl_ms\": %lld, \"records\": [",
		   (long long)(a->expires_at_ms - item->run->worker.now_ms));
	for (unsigned i = 0; i < a->count; i++) {
		buf_append_string(&out, i == 0 ? "" : ", ");
		put_record(&out, q->type, &a->records[i]);
	}
	buf_append_string(&out, "]");
	end_line(item, &out);
}

/* What was learnt of its TLSA records; nothing where they were not asked for. */
static void
put_tlsa(struct buf *out, const struct mx_host *host)
{
	if (host->tlsa == NULL)
		return;
	buf_append_string(out, ", ");
	put_text(out, "tlsa", span_of_string(dns_outcome_label(host->tlsa->outcome)));
	put_flag(out, "tlsa_secure", host->tlsa->security == DNS_SECURE);
	buf_append_string(out, ", ");
	put_text(out, "tlsa_base", host->tlsa_base);
	buf_append_string(out, ", \"tlsa_records\": [");
	for (unsigned i = 0; i < host->tlsa->count; i++) {
		buf_append_string(out, i == 0 ? "" : ", ");
		put_record(out, DNS_TLSA, &host->tlsa->records[i]);
	}
	buf_append_string(out, "]");
}

static void
on_lookup(struct mx_lookup *l, struct mx_hosts *h)
{
	struct item *item = CONTAINER_OF(l, struct item, lookup);
	struct buf out = begin_line(item);

	put_text(&out, "outcome", span_of_string(mx_outcome_label(h->outcome)));
	buf_append_string(&out, ", ");
	put_text(&out, "status", span_of_string(mx_outcome_status(h->outcome)));
	put_flag(&out, "temporary", mx_outcome_is_temporary(h->outcome));
	put_flag(&out, "implicit", h->is_implicit);
	put_flag(&out, "literal", h->is_literal);
	put_flag(&out, "mx_secure", h->mx_secure);
	buf_append_string(&out, ", ");
	put_text(&out, "domain", h->domain);
	buf_append_string(&out, ", ");
	put_text(&out, "site", h->site);
	buf_append_string(&out, ", ");
	put_text(&out, "why", h->why);
	buf_printf(&out, ", \"ttl_ms\": %lld, \"hosts\": [",
		   (long long)(h->expires_at_ms - item->run->worker.now_ms));
	for (unsigned i = 0; i < h->host_count; i++) {
		const struct mx_host *host = &h->hosts[i];
		buf_append_string(&out, i == 0 ? "{ " : ", { ");
		put_text(&out, "name", host->name);
		buf_printf(&out, ", \"preference\": %u", (unsigned)host->preference);
		put_flag(&out, "secure", host->addresses_secure);
		buf_append_string(&out, ", \"addresses\": [");
		for (unsigned n = 0; n < host->count; n++) {
			buf_append_string(&out, n == 0 ? "" : ", ");
			put_address(&out, &h->addresses[host->first + n]);
		}
		buf_append_string(&out, "]");
		put_tlsa(&out, host);
		buf_append_string(&out, " }");
	}
	buf_append_string(&out, "]");
	end_line(item, &out);
}

/* ---- questions ---- */

static void
ask(struct item *item)
{
	static const enum dns_type types[] = { DNS_A,   DNS_AAAA, DNS_CNAME, DNS_MX,
					       DNS_PTR, DNS_TLSA, DNS_TXT };
	struct span text = span_of_string(item->text);
	size_t slash = span_find(text, '/', 0);
	struct span kind = span_first(text, slash);
	struct span name = span_after(text, slash + 1);
	struct resolver *r = item->run->resolver;

	item->open = true;
	item->started_us = clock_monotonic_us();
	item->query.on_done = on_query;
	item->lookup.on_done = on_lookup;
	item->lookup.dane = span_eq(span_first(kind, 5), SPAN("dane-"));
	if (item->lookup.dane)
		kind = span_after(kind, 5);
	if (span_eq(kind, SPAN("mx"))) {
		mx_lookup_domain(&item->lookup, r, name, &self);
		return;
	}
	if (span_eq(kind, SPAN("host"))) {
		size_t colon = name.size;
		uint64_t port = 0;
		while (colon > 0 && name.data[colon - 1] != ':')
			colon--;
		if (colon == 0 || !span_to_u64(span_after(name, colon), &port) || port > 65535)
			die("no port in", item->text);
		mx_lookup_host(&item->lookup, r, span_first(name, colon - 1), (uint16_t)port);
		return;
	}
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (span_eq(kind, span_of_string(dns_type_text(types[i])))) {
			resolver_ask(r, &item->query, name, types[i]);
			return;
		}
	}
	die("no such question:", item->text);
}

static void
on_stopped(void *context)
{
	struct run *run = context;

	run->stopped = true;
}

static void
cancel_open(struct run *run)
{
	for (size_t i = 0; i < run->begun; i++) {
		struct item *item = &run->items[i];
		if (!item->open)
			continue;
		mx_lookup_cancel(&item->lookup);
		if (item->query.resolver != NULL)
			resolver_cancel(&item->query);
		item->open = false;
		run->done++;
		printf("{ \"question\": \"%s\", \"outcome\": \"cancelled\" }\n", item->text);
	}
}

static void
begin_some(struct run *run)
{
	while (run->begun < question_count) {
		struct item *item = &run->items[run->begun];
		item->run = run;
		item->text = questions[run->begun];
		if (strcmp(item->text, "wait") == 0) {
			if (run->done < run->begun)
				return;
			run->done++;
		} else {
			ask(item);
		}
		run->begun++;
	}
}

static void
work(struct run *run)
{
	bool cancelled = false;
	bool stopping = false;

	worker_turn(&run->worker, 0); /* a worker's time is that of its last turn */
	while (!run->stopped) {
		if (!stopping)
			begin_some(run);
		if (run->done >= cancel_after && !cancelled) {
			cancelled = true;
			cancel_open(run);
		}
		if (!stopping && (run->done == question_count || run->done >= stop_after)) {
			stopping = true;
			resolver_stop(run->resolver, on_stopped, run);
		}
		worker_turn(&run->worker, WAIT_US);
	}
}

static void *
run_thread(void *argument)
{
	struct run *run = argument;
	struct worker_options w = { .ring = { .entries = 256 }, .mailbox_places = 8 };
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	if (!worker_open(&run->worker, &w, &why)) {
		fprintf(stderr, "resolve: %.*s\n", (int)why.size, text);
		exit(71);
	}
	pthread_barrier_wait(&barrier); /* all rings exist */
	work(run);
	pthread_barrier_wait(&barrier); /* and nobody rings any more */
	mailbox_run(&run->worker.mailbox, SIZE_MAX);
	worker_close(&run->worker);
	return NULL;
}

/* ---- the command line ---- */

static struct net_address
address_of(const char *value)
{
	struct net_address a;

	if (!net_address_parse(span_of_string(value), &a))
		die("no address:", value);
	return a;
}

static void
add_span(struct span *list, unsigned *count, unsigned max, const char *value)
{
	if (*count == max)
		die("too many:", value);
	list[(*count)++] = span_of_string(value);
}

static void
set_option(const char *name, const char *value)
{
	unsigned long long number = strtoull(value, NULL, 10);

	if (strcmp(name, "--anchors") == 0)
		options.trust_anchors = value;
	else if (strcmp(name, "--resolv-conf") == 0)
		options.forwarders_auto = true, options.resolv_conf = value;
	else if (strcmp(name, "--hosts") == 0)
		options.hosts_file = value;
	else if (strcmp(name, "--forwarder") == 0 && options.forwarder_count < DNS_FORWARDERS_MAX)
		options.forwarders[options.forwarder_count++] = address_of(value);
	else if (strcmp(name, "--transparent") == 0)
		add_span(options.transparent, &options.transparent_count, DNS_SEARCH_MAX, value);
	else if (strcmp(name, "--search") == 0)
		add_span(options.search, &options.search_count, DNS_SEARCH_MAX, value);
	else if (strcmp(name, "--self-name") == 0)
		add_span(self_names, &self.name_count, SELF_MAX, value);
	else if (strcmp(name, "--self-address") == 0 && self.address_count < SELF_MAX)
		self_addresses[self.address_count++] = address_of(value);
	else if (strcmp(name, "--deadline") == 0)
		options.deadline_ms = number;
	else if (strcmp(name, "--queries") == 0)
		options.queries_max = (uint32_t)number;
	else if (strcmp(name, "--waiting") == 0)
		options.waiting_max = (uint32_t)number;
	else if (strcmp(name, "--cache") == 0)
		options.cache_bytes = number;
	else if (strcmp(name, "--stop") == 0)
		stop_after = number;
	else if (strcmp(name, "--cancel") == 0)
		cancel_after = number;
	else if (strcmp(name, "--threads") == 0 && number > 0 && number <= THREADS_MAX)
		threads = (unsigned)number;
	else if (strcmp(name, "--metrics") == 0)
		wants_metrics = number != 0;
	else if (strcmp(name, "--log") == 0)
		wants_log = number != 0;
	else
		die("no such option, or too many of it:", name);
}

static void
add_question(const char *text)
{
	if (question_count == QUESTIONS_MAX)
		die("too many questions:", text);
	questions[question_count++] = text;
}

static void
read_questions(void)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		line[strcspn(line, "\n")] = 0;
		add_question(strdup(line));
	}
	free(line);
}

static void
parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-") == 0)
			read_questions();
		else if (strncmp(argv[i], "--", 2) != 0)
			add_question(argv[i]);
		else if (i + 1 < argc)
			set_option(argv[i], argv[i + 1]), i++;
		else
			die("a value is missing behind", argv[i]);
	}
}

static void
make_run(struct run *run, unsigned number, struct log *log)
{
	struct worker_options w = { .ring = { .entries = 256 }, .mailbox_places = 8 };
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	run->metrics = aligned_alloc(64, sizeof *run->metrics);
	run->items = calloc(question_count + 1, sizeof *run->items);
	if (run->metrics == NULL || run->items == NULL)
		die("no memory", "");
	memset(run->metrics, 0, sizeof *run->metrics);
	peers[number] = &run->worker;
	worker_init(&run->worker, number, threads, peers, &w);
	run->worker.metrics = run->metrics;
	run->worker.log = log == NULL ? NULL : log_ring(log, number, run->metrics);
	run->resolver = resolver_new(&run->worker, &options, threads, &why);
	if (run->resolver == NULL) {
		fprintf(stderr, "resolve: %.*s\n", (int)why.size, text);
		exit(78);
	}
	run->worker.resolver = run->resolver;
}

static void
show_metrics(struct run **runs)
{
	const struct metrics *blocks[THREADS_MAX];
	char *text = malloc(METRIC_TEXT_MAX);
	struct buf out = buf_of(text, text == NULL ? 0 : METRIC_TEXT_MAX);

	for (unsigned i = 0; i < threads; i++)
		blocks[i] = runs[i]->metrics;
	if (metric_render(blocks, threads, &out))
		printf("%.*s", (int)out.size, text);
	free(text);
}

int
main(int argc, char **argv)
{
	static struct run *runs[THREADS_MAX];
	struct log *log = NULL;
	int error;

	parse(argc, argv);
	if (wants_log) {
		log = log_new(threads, 1 << 20, NULL, &error);
		if (log == NULL)
			die("no log:", strerror(error));
	}
	for (unsigned i = 0; i < threads; i++) {
		runs[i] = calloc(1, sizeof *runs[i]);
		if (runs[i] == NULL)
			die("no memory", "");
		make_run(runs[i], i, log);
	}
	pthread_barrier_init(&barrier, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		if (pthread_create(&runs[i]->thread, NULL, run_thread, runs[i]) != 0)
			die("no thread", "");
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(runs[i]->thread, NULL);
	if (wants_metrics)
		show_metrics(runs);
	if (log != NULL) {
		log_drain(log);
		log_free(log);
	}
	for (unsigned i = 0; i < threads; i++) {
		resolver_free(runs[i]->resolver);
		free(runs[i]->items);
		free(runs[i]->metrics);
		free(runs[i]);
	}
	return 0;
}
