/* SPDX-License-Identifier: Apache-2.0
 *
 * ringpostd: the order in which the parts come up and go down, and the command line.
 *
 * Up: configuration, limits, sockets, log, user, queue (recovers), HTTP, then the workers' threads,
 * then this thread becomes the control thread. Down: workers drain and stop, then the same in
 * reverse. Whatever fails on the way up is one line on standard error with the remedy, and 78.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/config.h"
#include "core/helpers.h"
#include "core/limits.h"
#include "core/log.h"
#include "core/metric.h"
#include "core/strikes.h"
#include "dns/resolver.h"
#include "queue/redis/options.h"
#include "relay/control/control.h"
#include "relay/control/http.h"
#include "relay/control/startup.h"
#include "relay/control/templates.h"
#include "relay/flow/delivery_doc.h"
#include "relay/flow/quota.h"

enum {
	WHY_SIZE = 1024,
	CONTROL_RING_ENTRIES = 64,
	RESOLVER_WAIT_US = 100 * 1000,
	/* For clients of the admin socket: of the ring, and pooled ones. */
	CONTROL_RECEIVE_BUFFERS = 16,
	CONTROL_RECEIVE_SIZE = 4096,
	CONTROL_BUFFERS = 4 * ADMIN_CLIENTS_MAX,
	/* Answers to letters, and to what clients ask, and to a list of suspended sites. */
	CONTROL_PLACES = WORKERS_MAX * (ADMIN_CLIENTS_MAX + 4) + POLICY_PLACES + REPORTS_PLACES,
	EXTRA_BLOCKS = 2,          /* metrics of the control and the HTTP thread */
	BUFFER_SHARE_PERCENT = 25, /* of the memory budget, for connections' buffers */
	HELPERS_PATIENCE_MS = 100, /* ten passwords a second are checked however busy all is */
};

struct daemon {
	const struct config *config;
	struct redis_options *redis; /* NULL: the queue is a spool */
	const char *config_path;
	struct dsn_template *templates; /* the routing's, once there is one */
	unsigned workers;
	struct control control;
	struct crew *crew;
	struct worker *peers[WORKERS_MAX];
	struct worker *control_peer; /* control is a worker whose only peer is itself */
	pthread_t threads[WORKERS_MAX];
	pthread_barrier_t barrier; /* of the workers' threads and the main thread */
	bool go;                   /* the workers may run; written before the barrier opens */
	struct worker_options options;
	struct metrics *metrics; /* one block a worker, and the extra ones */
	const struct metrics *blocks[WORKERS_MAX + EXTRA_BLOCKS];
	struct log *log;
	struct limits *limits;
	struct strikes *strikes;
	struct quotas *quotas;
	struct helpers *helpers;
	struct queue_store *store;
	struct http *http;
	struct buf why;
	uint8_t why_memory[WHY_SIZE];
};

static bool
fail(struct daemon *d, const char *what)
{
	if (d->why.size == 0)
		buf_append_string(&d->why, what);
	fprintf(stderr, "ringpostd: %.*s\n", SPAN_ARG(buf_span(&d->why)));
	return false;
}

/* ---- the command line ---- */

static int
print_page(bool (*write)(struct buf *out))
{
	char *memory = malloc(METRIC_TEXT_MAX);

	if (memory == NULL)
		return 1;
	struct buf text = buf_of(memory, METRIC_TEXT_MAX);
	bool fits = write(&text);
	ASSERT(fits);
	fwrite(text.data, 1, text.size, stdout);
	free(memory);
	return 0;
}

static int
print_doc(const char *page)
{
	if (strcmp(page, "options") == 0)
		return print_page(config_doc);
	if (strcmp(page, "metrics") == 0)
		return print_page(metric_doc);
	if (strcmp(page, "events") == 0)
		return print_page(event_doc);
	if (strcmp(page, "delivery") == 0)
		return print_page(delivery_doc);
	if (strcmp(page, "admin") == 0)
		return print_page(admin_doc);
	fprintf(stderr, "ringpostd: --doc: options, metrics, events, delivery or admin\n");
	return CONFIG_EXIT;
}

static int
print_config(const struct config *config)
{
	char *memory = malloc(CONFIG_FILE_SIZE_MAX);

	if (memory == NULL)
		return 1;
	struct buf text = buf_of(memory, CONFIG_FILE_SIZE_MAX);
	bool fits = config_print(config, &text);
	ASSERT(fits);
	fwrite(text.data, 1, text.size, stdout);
	free(memory);
	return 0;
}

static const char usage[] = "usage: ringpostd --config FILE [--check-config | --print-config]\n"
			    "       ringpostd --doc options | metrics | events | delivery | admin\n"
			    "       ringpostd --version\n";

enum mode { MODE_RUN, MODE_CHECK, MODE_PRINT };

/* -1: go on; else the exit status. */
static int
parse_arguments(struct daemon *d, int argc, char **argv, enum mode *mode)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check-config", no_argument, NULL, 'k' },
		{ "print-config", no_argument, NULL, 'p' },
		{ "doc", required_argument, NULL, 'd' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			d->config_path = optarg;
			break;
		case 'k':
			*mode = MODE_CHECK;
			break;
		case 'p':
			*mode = MODE_PRINT;
			break;
		case 'd':
			return print_doc(optarg);
		case 'v':
			printf("ringpostd %s\n", RINGPOST_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return CONFIG_EXIT;
		}
	}
	if (d->config_path != NULL && optind == argc)
		return -1;
	fputs(usage, stderr);
	return CONFIG_EXIT;
}

static bool
load_config(struct daemon *d)
{
	struct config_errors errors = { 0 };

	d->config = config_load(d->config_path, &errors);
	if (d->config != NULL && templates_load(d->config, &d->templates, &d->why))
		return true;
	if (d->config != NULL) {
		fprintf(stderr, "%.*s\n", SPAN_ARG(buf_span(&d->why)));
		return false;
	}
	size_t shown = errors.count < CONFIG_ERRORS_MAX ? errors.count : CONFIG_ERRORS_MAX;
	for (size_t i = 0; i < shown; i++)
		fprintf(stderr, "%s\n", errors.lines[i]);
	if (errors.count > shown)
		fprintf(stderr, "and %zu more\n", errors.count - shown);
	return false;
}

/* The files that the configuration names. */
static bool
check_files(struct daemon *d)
{
	struct recipients *r = recipients_load(d->config, NULL, &d->why);
	struct users *u = r == NULL ? NULL : users_load(d->config, NULL, &d->why);
	struct secrets *s = u == NULL ? NULL : secrets_load(d->config, NULL, &d->why);
	struct tls_setup *t = s == NULL ? NULL : tls_setup_load(d->config, NULL, &d->why);

	recipients_free(r);
	users_put(u);
	secrets_put(s);
	tls_setup_put(t);
	return t != NULL || fail(d, "the files cannot be read");
}

/* ---- the way up ---- */

static void
set_options(struct daemon *d)
{
	const struct config *c = d->config;
	size_t budget = config_memory_budget(c);

	d->options = (struct worker_options){
		.ring = {
			.entries = c->worker.ring_entries,
			.buffers = { c->memory.clients.count, c->memory.peers.count },
			.buffer_size = { (unsigned)c->memory.clients.size,
					 (unsigned)c->memory.peers.size },
		},
		.mailbox_places = c->worker.mailbox,
		.buffers_max =
			budget / 100 * BUFFER_SHARE_PERCENT / d->workers / WORKER_BUFFER_SIZE + 64,
	};
}

static bool
open_log(struct daemon *d)
{
	const struct config *c = d->config;
	int error = 0;

	d->log = log_new(d->workers + 1, c->log.buffer, (const char *)c->log.file.data, &error);
	if (d->log == NULL) {
		buf_printf(&d->why,
			   "log.file: %.*s: %s; make its directory and let the user write there",
			   SPAN_ARG(c->log.file), strerror(error));
		return false;
	}
	log_set_level(d->log, c->log.level);
	return true;
}

static bool
open_queue(struct daemon *d)
{
	const struct config *c = d->config;
	struct queue_hooks hooks = {
		.site_of = flow_site_of,
		.on_due = flow_on_due,
		.on_site_unused = flow_on_site_unused,
		.on_drain = flow_on_drain,
		.weight_of = flow_weight_of,
	};
	struct queue_options options = {
		.spool_path = (const char *)c->queue.spool.path.data,
		.durability = c->durability == DURABILITY_MEMORY ? QUEUE_MEMORY : QUEUE_DISK,
		.segment_size = c->queue.spool.segment_size,
		.file_threshold = c->queue.spool.file_threshold,
		.flights = c->queue.spool.flights,
		.body_memory = config_memory_budget(c) / 100 * c->memory.drafts_percent,
		.items_max = c->queue.mails_max,
		.reserve_bytes = c->queue.spool.free_min,
	};

	if (c->queue.store == STORE_REDIS) {
		d->redis = redis_options_load(c, &d->why);
		if (d->redis == NULL || !startup_state_directory(c, &d->why))
			return false;
		redis_options_warn(d->redis, &d->why);
		options.redis = d->redis;
		options.fallback = c->queue.fallback == FALLBACK_SPOOL;
	}
	d->store = queue_open(&options, d->peers, d->workers, &hooks, &d->why);
	if (d->store == NULL)
		return false;
	if (d->why.size > 0)
		fprintf(stderr, "ringpostd: %.*s\n", SPAN_ARG(buf_span(&d->why)));
	buf_reset(&d->why);
	return true;
}

/* What all threads share and each one's part of it; no thread runs yet. */
static bool
make_workers(struct daemon *d)
{
	uint64_t key_seed = random_u64();
	size_t blocks = d->workers + EXTRA_BLOCKS;

	d->metrics = aligned_alloc(64, blocks * sizeof *d->metrics);
	d->limits = limits_new(d->config->limits.client_table);
	d->strikes = strikes_new(d->config->lockout.table);
	d->quotas = quotas_new(d->config->users.table);
	if (d->metrics == NULL || d->limits == NULL || d->strikes == NULL || d->quotas == NULL)
		return false;
	memset(d->metrics, 0, blocks * sizeof *d->metrics);
	d->control.routing = routing_new(d->config, NULL, &d->why);
	if (d->control.routing == NULL)
		return false;
	d->control.routing->templates = d->templates;
	d->control.routing->tls = tls_setup_load(d->config, NULL, &d->why);
	if (d->control.routing->tls == NULL)
		return false;
	for (unsigned i = 0; i < d->workers; i++)
		d->peers[i] = &d->crew[i].worker;
	for (unsigned i = 0; i < d->workers; i++) {
		struct worker *w = d->peers[i];
		worker_init(w, i, d->workers, d->peers, &d->options);
		d->blocks[i] = w->metrics = &d->metrics[i];
		w->log = log_ring(d->log, i, w->metrics);
		w->limits = d->limits;
		w->strikes = d->strikes;
		w->quotas = d->quotas;
		w->config = d->config;
		w->tls = tls_new(d->control.routing->tls, &d->why);
		if (w->tls == NULL || flow_new(w, d->control.routing, key_seed) == NULL)
			return false;
	}
	return true;
}

/* One after the other: the library keeps a part of its configuration for the whole process. */
static bool
open_resolvers(struct daemon *d)
{
	struct resolver_options options;

	startup_resolver_options(d->config, &options);
	for (unsigned i = 0; i < d->workers; i++) {
		struct worker *w = d->peers[i];
		w->resolver = resolver_new(w, &options, d->workers, &d->why);
		if (w->resolver == NULL)
			return false;
	}
	if (startup_asks_dns(d->config))
		resolver_prove(d->peers[0]->resolver); /* one speaks for all: they are alike */
	return true;
}

static bool
make_control(struct daemon *d)
{
	struct control *c = &d->control;
	struct worker_options options = {
		.ring = { .entries = CONTROL_RING_ENTRIES,
			  .buffers = { CONTROL_RECEIVE_BUFFERS, 0 },
			  .buffer_size = { CONTROL_RECEIVE_SIZE, 0 } },
		.mailbox_places = CONTROL_PLACES,
		.buffers_max = CONTROL_BUFFERS,
	};

	d->control_peer = &c->worker;
	worker_init(&c->worker, 0, 1, &d->control_peer, &options);
	if (!worker_open(&c->worker, &options, &d->why))
		return false;
	d->blocks[d->workers] = c->worker.metrics = &d->metrics[d->workers];
	d->blocks[d->workers + 1] = &d->metrics[d->workers + 1];
	c->worker.log = log_ring(d->log, d->workers, c->worker.metrics);
	c->worker.config = d->config;
	c->crew = d->crew;
	c->crew_count = d->workers;
	c->log = d->log;
	c->config_path = d->config_path;
	c->store = d->store;
	c->daemon = d;
	c->blocks = d->blocks;
	c->block_count = d->workers + EXTRA_BLOCKS;
	for (unsigned i = 0; i < d->workers; i++) {
		d->crew[i].control = c;
		atomic_init(&d->crew[i].refuses, ERR_AGAIN); /* until its first beat */
		asked_init(&d->crew[i].asked, &d->crew[i].worker);
	}
	METRIC_SET(c->worker.metrics, WORKERS, d->workers);
	METRIC_SET(c->worker.metrics, START_TIME, clock_wall_ms() / 1000);
	return true;
}

/* Policies of domains (MTA-STS), reports about TLS, and the thread that has HTTPS. */
static bool
make_web(struct daemon *d)
{
	struct control *c = &d->control;

	policies_init(&c->policies, c, random_u64(), d->config->queue.spool.path);
	for (unsigned i = 0; i < d->workers; i++)
		d->crew[i].worker.flow->sts.source = &c->policies.source;
	if (!reports_init(&c->reports, c, random_u64(), d->config->queue.spool.path))
		return false;
	c->web = web_start(&c->worker, &d->why);
	return c->web != NULL;
}

static bool
listen_all(struct daemon *d)
{
	int fds[WORKERS_MAX];

	for (size_t i = 0; i < d->config->listeners_count; i++) {
		if (!startup_listen(d->config, i, d->workers, fds, &d->why))
			return false;
		for (unsigned w = 0; w < d->workers; w++)
			d->crew[w].fds[i] = fds[w];
	}
	return true;
}

static void
before_metrics(void *context)
{
	struct daemon *d = context;

	/* The last block is the HTTP thread's own. */
	metric_set_process(&d->metrics[d->workers + 1]);
	METRIC_SET(&d->metrics[d->workers + 1], LOG_WRITE_ERRORS, log_write_errors(d->log));
	METRIC_SET(&d->metrics[d->workers + 1], NODE_DISPOSABLE,
		   control_is_disposable(&d->control));
}

static bool
is_healthy(void *context)
{
	struct daemon *d = context;

	return control_is_healthy(&d->control);
}

static enum err
readiness(void *context)
{
	struct daemon *d = context;

	return control_readiness(&d->control);
}

/* A spool that is no fallback is there to be kept. */
static uint64_t
kept_mails(void *context)
{
	struct daemon *d = context;

	return d->config->queue.store == STORE_REDIS ? control_mails_here(&d->control) : 0;
}

static bool
start_http(struct daemon *d)
{
	const struct net_address *address = &d->config->metrics.address;
	struct http_source source = {
		.blocks = d->blocks,
		.block_count = d->workers + EXTRA_BLOCKS,
		.is_healthy = is_healthy,
		.readiness = readiness,
		.kept_mails = kept_mails,
		.before_metrics = before_metrics,
		.context = d,
	};

	if (address->size == 0)
		return true;
	d->http = http_start(address, &source, &d->why);
	return d->http != NULL;
}

/* ---- the workers' threads ---- */

static void
on_resolver_stopped(void *context)
{
	*(bool *)context = true;
}

/* After the last mail: what is asked still is asked by nobody. */
static void
stop_resolver(struct worker *w)
{
	bool stopped = false;

	resolver_stop(w->resolver, on_resolver_stopped, &stopped);
	while (!stopped)
		worker_turn(w, RESOLVER_WAIT_US);
}

static void *
run_worker(void *argument)
{
	struct crew *m = argument;
	struct daemon *d = m->control->daemon;
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);

	m->opened = worker_open(&m->worker, &d->options, &why);
	if (!m->opened)
		fprintf(stderr, "ringpostd: %.*s\n", SPAN_ARG(buf_span(&why)));
	pthread_barrier_wait(&d->barrier); /* all rings exist, or some failed */
	pthread_barrier_wait(&d->barrier); /* the main thread has decided */
	if (d->go) {
		queue_start(m->worker.queue);
		flow_start(m->worker.flow, m->fds, (unsigned)d->config->listeners_count);
		crew_start(m);
		worker_run(&m->worker);
		stop_resolver(&m->worker);
		/* Submits what the last turn has left, such as the bell of the last answer. */
		worker_turn(&m->worker, 0);
	}
	pthread_barrier_wait(&d->barrier);         /* nobody rings any more: rings may go */
	mailbox_run(&m->worker.mailbox, SIZE_MAX); /* what nobody waits for: answers of DNS */
	worker_close(&m->worker);
	return NULL;
}

/* The workers have their rings, and wait. */
static bool
start_helpers(struct daemon *d)
{
	const struct helpers_options options = {
		.threads = config_helper_count(d->config),
		.jobs_max = d->config->helpers.jobs_max,
		.party_max = d->config->helpers.jobs_per_client,
		.patience_ms = HELPERS_PATIENCE_MS,
	};

	d->helpers = helpers_start(&options, &d->why);
	for (unsigned i = 0; i < d->workers; i++)
		d->crew[i].worker.helpers = d->helpers;
	return d->helpers != NULL;
}

/* Starts all threads; they have their rings and wait for the word when it returns. */
static bool
start_threads(struct daemon *d)
{
	bool opened = true;

	if (pthread_barrier_init(&d->barrier, NULL, d->workers + 1) != 0)
		return false;
	for (unsigned i = 0; i < d->workers; i++) {
		/* Without all of them the barrier would never open: there is no way back. */
		if (pthread_create(&d->threads[i], NULL, run_worker, &d->crew[i]) != 0) {
			fprintf(stderr,
				"ringpostd: no thread for worker %u: raise the limit of "
				"processes (LimitNPROC=)\n",
				i);
			exit(CONFIG_EXIT);
		}
	}
	pthread_barrier_wait(&d->barrier);
	for (unsigned i = 0; i < d->workers; i++)
		opened &= d->crew[i].opened;
	return opened;
}

static void
end_threads(struct daemon *d)
{
	helpers_stop(d->helpers);
	pthread_barrier_wait(&d->barrier);
	for (unsigned i = 0; i < d->workers; i++)
		pthread_join(d->threads[i], NULL);
	pthread_barrier_destroy(&d->barrier);
}

static uint64_t
queued_mails(struct daemon *d)
{
	uint64_t mails = 0;

	for (unsigned i = 0; i < d->workers; i++) {
		struct queue_numbers n;
		queue_count(queue_end(d->store, i), &n);
		mails += n.mails;
	}
	return mails;
}

/* Whether DNS can be believed, and what to do where it cannot. */
static void
log_resolver(struct daemon *d)
{
	struct log_ring *log = d->control.worker.log;
	uint8_t memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);
	bool validates = resolver_validates(d->peers[0]->resolver, &why);

	event_dns_ready(log, &(struct event_dns_ready){
				     .validates = validates,
				     .why = validates ? span_none() : buf_span(&why),
			     });
}

static void
log_reports(struct daemon *d)
{
	event_tls_reports_ready(
		d->control.worker.log,
		&(struct event_tls_reports_ready){
			.enabled = d->config->tls_reports.enabled,
			.limits =
				SPAN("addresses of kind mailto get none: reports by mail must have "
				     "DKIM signatures, which this version does not make"),
		});
}

static struct span
listener_tls(const struct config *config, size_t listener)
{
	switch (routing_listener_tls(config, listener)) {
	case LISTENER_TLS_STARTTLS:
		return SPAN("starttls");
	case LISTENER_TLS_IMPLICIT:
		return SPAN("implicit");
	default:
		return SPAN("none");
	}
}

static void
log_start_events(struct daemon *d, uint64_t queued)
{
	struct log_ring *log = d->control.worker.log;

	for (size_t i = 0; i < d->config->listeners_count; i++) {
		uint8_t memory[128];
		struct buf address = buf_of(memory, sizeof memory);
		struct span role = span_of_string(config_role_word(d->config->listeners[i].role));
		net_address_show(&d->config->listeners[i].address, &address);
		event_listening(log, &(struct event_listening){
					     .address = buf_span(&address),
					     .role = role,
					     .tls = listener_tls(d->config, i),
				     });
	}
	log_resolver(d);
	log_reports(d);
	certificates_init(&d->control.certificates, &d->control.worker);
	certificates_take(&d->control.certificates, d->control.routing->tls,
			  d->config->tls.look_ms);
	control_tell_recipients(&d->control, true);
	control_tell_users(&d->control, NULL);
	control_tell_secrets(&d->control, NULL);
	event_start(log, &(struct event_start){
				 .version = SPAN(RINGPOST_VERSION),
				 .hostname = d->config->hostname,
				 .workers = d->workers,
				 .queued = queued,
			 });
}

static bool
bind_admin(struct daemon *d)
{
	d->control.admin_fd = admin_bind(d->config, &d->why);
	return d->control.admin_fd >= -1;
}

/* Sites that an operator has suspended stay so, before the first mail could go there. */
static bool
take_suspended(struct daemon *d)
{
	struct admin *a = &d->control.admin;

	snprintf(a->suspended_file, sizeof a->suspended_file, "%.*s/suspended",
		 SPAN_ARG(d->config->queue.spool.path));
	if (!suspended_load(&a->suspended, a->suspended_file, &d->why))
		return false;
	struct suspensions *list = suspended_list(&a->suspended);
	if (list == NULL)
		return false;
	for (unsigned i = 0; i < d->workers; i++)
		flow_suspend(d->peers[i]->flow, list);
	suspensions_put(list);
	return true;
}

static bool
come_up(struct daemon *d)
{
	set_options(d);
	if (!startup_check_kernel(&d->why) || !startup_raise_descriptors(&d->why) ||
	    !control_take_signals(&d->control, &d->why))
		return fail(d, "cannot start");
	/* Everything that needs root first: ports. Then everything that the user will own. */
	d->crew = calloc(d->workers, sizeof *d->crew);
	if (d->crew == NULL || !listen_all(d) || !start_http(d) ||
	    !startup_drop_user(d->config, &d->why) || !startup_hide(d->config, &d->why) ||
	    !open_log(d) || !make_workers(d) || !bind_admin(d) || !open_resolvers(d) ||
	    !open_queue(d) || !take_suspended(d) || !make_control(d) || !make_web(d))
		return fail(d, "out of memory");
	return true;
}

static void
go_down(struct daemon *d)
{
	http_stop(d->http);
	policies_fini(&d->control.policies);
	reports_fini(&d->control.reports);
	if (d->store != NULL)
		queue_close(d->store);
	if (d->redis != NULL)
		redis_options_free(d->redis);
	for (unsigned i = 0; i < d->workers; i++) {
		flow_free(d->crew[i].worker.flow);
		tls_free(d->crew[i].worker.tls);
	}
	for (unsigned i = 0; i < d->workers; i++)
		resolver_free(d->crew[i].worker.resolver);
	routing_put(d->control.routing);
	limits_free(d->limits);
	strikes_free(d->strikes);
	quotas_free(d->quotas);
	log_stop(d->log);
	log_free(d->log);
	config_put(d->config);
	free(d->metrics);
	free(d->crew);
}

static int
run(struct daemon *d)
{
	struct control *c = &d->control;

	d->workers = config_worker_count(d->config);
	if (!come_up(d))
		return CONFIG_EXIT;
	if (log_start(d->log) != ERR_OK || !start_threads(d) || !start_helpers(d)) {
		fail(d, "the workers cannot start");
		return CONFIG_EXIT;
	}
	log_start_events(d, queued_mails(d));
	d->go = true;
	pthread_barrier_wait(&d->barrier);
	control_run(c);
	event_stop(c->worker.log, &(struct event_stop){ .why = span_of_string(c->drain_why),
							.queued = queued_mails(d) });
	end_threads(d);
	web_stop(c->web); /* it may still ring the bell for its last answer */
	worker_close(&c->worker);
	go_down(d);
	return 0;
}

int
main(int argc, char **argv)
{
	static struct daemon d;
	enum mode mode = MODE_RUN;

	d.why = buf_of(d.why_memory, sizeof d.why_memory);
	int status = parse_arguments(&d, argc, argv, &mode);
	if (status >= 0)
		return status;
	if (!load_config(&d))
		return CONFIG_EXIT;
	if (mode == MODE_RUN)
		return run(&d);
	if (mode == MODE_PRINT)
		status = print_config(d.config);
	else
		status = check_files(&d) ? 0 : CONFIG_EXIT;
	free(d.templates);
	config_put(d.config);
	return status;
}
