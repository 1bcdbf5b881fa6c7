/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver of the whole relay: relay/flow over a store, as relay/main.c puts them together, but
 * in one thread and without control, HTTP and signals. Simulated clients submit, simulated sinks
 * take; each site has one sink.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/config.h"
#include "core/limits.h"
#include "core/strikes.h"
#include "core/log.h"
#include "core/metric.h"
#include "relay/flow/flow.h"
#include "relay/flow/quota.h"
#include "tests/fault/drive.h"
#include "tests/fault/oracle.h"
#include "tests/fault/peers.h"
#include "tests/fault/sim_machine.h"
#include "tests/fault/sim_mx.h"
#include "tests/fault/sim_net.h"
#include "tests/fault/sim_redis.h"
#include "tests/fault/spy.h"

enum {
	CLIENTS = 4,
	PORT_RELAY = 25,
	PORT_SINKS = 2500, /* and up, one a site */
	PUMPS_MOST = 4000000,
	PUMPS_MOST_DAYS = 200000000,
	LOG_PIECE = 64 * 1024,
};

struct cast {
	struct client *clients[CLIENTS];
	struct sink *sinks[ORACLE_SITES];
	uint64_t lost_until_us[ORACLE_SITES]; /* their domains cannot be resolved */
};

static const uint64_t minute_us = 60 * 1000000;
static const uint64_t hour_us = 3600 * 1000000u;

static const struct drive_plan *plan;
static struct cast *cast;
static const struct config *config;

/* What was put on hold since its owner died three times (the seed crashes where it likes) is
 * released by an operator, who is slow: one mail at a time. */
struct release {
	struct queue_act act;
	bool busy;
};

/* What a relay has, beside its workers. */
struct relay {
	struct metrics *metrics;
	struct log *logs;
	int log_file;
	unsigned log_rests; /* out of 1000 turns of the world */
	struct limits *limits;
	struct strikes *strikes;
	struct quotas *quotas;
	struct resolver *resolvers[WORKERS_MAX];
	struct routing *routing;
	struct queue_store *store;
	unsigned gone;
	struct release release;
	uint64_t next_us; /* of several: something befalls it then, or ends */
};

static struct relay relays[DRIVE_NODES];
static struct relay *at = relays; /* whose turn it is */
static uint64_t suspension_changes_us;
static uint64_t suspension_version;
static bool by_mx;

static const char config_text[] = "hostname: relay.example\n"
				  "metrics: { address: \"127.0.0.1:9925\" }\n"
				  "log: { file: /dev/null }\n"
				  "memory: { budget: 64MiB }\n";

/* In some lives. Decided without a random number, so that the others stay what they are. */
static bool
is_vetting(void)
{
	return world->seed % 4 == 1;
}

static void
write_domains(struct buf *b, const char *recipients)
{
	buf_append_string(b, "  domains:\n");
	for (unsigned i = 0; i < ORACLE_SITES; i++)
		buf_printf(b, "    - { name: site%u.example, recipients: %s }\n", i, recipients);
}

/* In some of the lives with routes to sinks these know best whom they have. */
static void
write_relay(struct buf *b)
{
	struct oracle *o = world->oracle;
	unsigned answers_s = sim_chance(500) ? 3600 : 1;

	o->asks_sinks = !by_mx && plan->asks && !plan->days;
	o->takes_uncertain = sim_chance(300);
	buf_append_string(b, "relay:\n");
	if (!is_vetting())
		buf_append_string(b, "  networks: [192.0.2.0/24]\n");
	if (!o->asks_sinks && is_vetting())
		write_domains(b, "any");
	if (!o->asks_sinks)
		return;
	buf_printf(b,
		   "  callout: { sender: " PEER_ASKS
		   ", failure: %s, positive: %us, negative: %us }\n",
		   o->takes_uncertain ? "accept" : "defer", answers_s, answers_s);
	write_domains(b, "callout");
}

/* SPF is checked, of clients that nobody knows, and what comes of it puts some mails off, or
 * refuses them. */
static void
write_listener(struct buf *b)
{
	buf_append_string(b, "listeners:\n  - { address: \"127.0.0.1:25\", role: relay");
	if (is_vetting())
		buf_printf(b,
			   ", spf: { fail: %s, permerror: defer, helo: %s, at: %s, deadline: 5s }",
			   world->seed % 3 == 0 ? "refuse" : "defer",
			   world->seed % 5 < 2 ? "always" : "null_sender",
			   world->seed % 3 == 0 ? "mail" : "rcpt");
	buf_append_string(b, " }\n");
}

/* Often so few connections to a site that its mails wait in line, or that only its home delivers.
 * In half of the lives the sites are found by MX records. */
static void
load_config(void)
{
	struct config_errors errors = { 0 };
	char text[2048];
	struct buf b = buf_of(text, sizeof text);
	unsigned whole = sim_chance(500);
	unsigned most = sim_chance(600) ? (unsigned)sim_between(1, 4) : 20;
	by_mx = sim_chance(500);
	write_relay(&b);
	write_listener(&b);
	struct terms terms = plan->terms;

	terms_vary(&terms);
	oracle_terms(&terms);
	/* Reports on delays and with whole messages; senders are behind the first site. */
	buf_printf(&b, "bounces: { delay: %llus, attach: %s, attach_size_max: 64MiB }\n",
		   (unsigned long long)terms.delay_ms / 1000, whole ? "message" : "header");
	terms_write(&terms, &b);
	buf_append_string(&b, config_text);
	/* Often as few jobs as the option allows: then most mails wait in the queue alone. */
	buf_printf(&b, "queue: { store: spool, spool: { path: /spool }, active_max: %u }\n",
		   sim_chance(400) ? 100U : 20000U);
	if (sim_chance(300))
		buf_append_string(&b, "senders: [{ domain: a.example, weight: 7 }]\n");
	buf_append_string(&b, "routes:\n");
	if (by_mx)
		buf_printf(&b, "  - { domain: \"*\", to: mx, connections: %u }\n", most);
	if (!by_mx)
		buf_printf(&b,
			   "  - { domain: from.example, to: \"smtp://127.0.0.1:%u\", "
			   "connections: %u }\n",
			   PORT_SINKS, most);
	for (unsigned i = 0; i < ORACLE_SITES && !by_mx; i++)
		buf_printf(&b,
			   "  - { domain: site%u.example, to: \"smtp://127.0.0.1:%u\", "
			   "connections: %u }\n",
			   i, PORT_SINKS + i, most);
	ASSERT(!b.overflow);
	config = config_parse("simulation", buf_span(&b), &errors);
	if (config == NULL)
		sim_fail("%s", errors.lines[0]);
}

/* ---- the peers ---- */

/* Then there are more mails in the log than fit into it, and sinks are slow. */
static bool
has_little_memory(void)
{
	return plan->body_memory != 0;
}

/* Some next hops take nothing for a while, or ever. Reports to senders go to the first, which is
 * always there: what comes back must arrive. */
static void
choose_fate(struct sink *s, uint64_t *lost_until_us, uint64_t *unreachable_until_us)
{
	uint64_t most_us = plan->days ? 100 * hour_us : 5 * minute_us;
	uint64_t until_us = sim_chance(500) ? UINT64_MAX : world->now_us + sim_between(1, most_us);
	/* The hardest one the most often: a silent one takes minutes for each attempt. */
	unsigned fate = sim_chance(plan->days ? 300 : 100) ? FATE_SILENT
							   : (unsigned)sim_below(FATE_COUNT + 1);

	if (fate == FATE_ABSENT || fate == FATE_SILENT)
		*unreachable_until_us = until_us;
	if (fate < FATE_COUNT)
		sink_doom(s, (enum sink_fate)fate, until_us);
	else
		*lost_until_us = until_us;
}

/* Mails come all at once, and then they come to the end of their time together; or now and then. */
static uint64_t
choose_gap(void)
{
	if (plan->days)
		return sim_chance(400) ? 0 : sim_between(minute_us, 20 * hour_us);
	return plan->terms.expires && sim_chance(500) ? sim_between(1, minute_us) : 0;
}

static void
choose_cast(void)
{
	struct net_address to = peer_address(PORT_RELAY);
	bool rough = sim_chance(700);
	struct peer_faults faults = {
		.client_resets = rough ? 5 : 0,
		.client_pauses = 20,
		.sink_defers = rough ? 30 : 0,
		.sink_refuses = !rough            ? 0
				: sim_chance(300) ? 300
						  : 20,
		.sink_drops = rough ? 10 : 0,
		.sink_stalls = has_little_memory() ? 100 : 10,
		.sink_absent = rough ? 100 : 0,
		.stall_us = sim_between(1000, minute_us),
		.gap_us = choose_gap(),
	};

	cast = sim_allocate(sizeof *cast);
	for (unsigned i = 0; i < ORACLE_SITES; i++) {
		struct net_address address = peer_address((uint16_t)(PORT_SINKS + i));
		cast->sinks[i] = sink_new(&address, i, &faults);
		if (i > 0 && plan->terms.expires)
			choose_fate(cast->sinks[i], &cast->lost_until_us[i],
				    &world->oracle->unreachable_until_us[i]);
	}
	uint64_t size_most = has_little_memory() ? 200000 : plan->body_most;
	uint32_t mails_most = has_little_memory() ? 16 : plan->days && faults.gap_us > 0 ? 5 : 8;
	for (unsigned i = 0; i < CLIENTS; i++)
		cast->clients[i] = client_new(&to, &faults, (uint32_t)sim_between(1, mails_most),
					      64 + size_most);
	world->cast = cast;
}

static void
calm_cast(void)
{
	sim_resolver_calm();
	for (unsigned i = 0; i < ORACLE_SITES; i++)
		sink_calm(cast->sinks[i]);
	for (unsigned i = 0; i < CLIENTS; i++)
		client_stop(cast->clients[i]);
}

/* ---- up ---- */

static void
open_store(void)
{
	const struct queue_hooks hooks = {
		.site_of = flow_site_of,
		.on_due = flow_on_due,
		.on_site_unused = flow_on_site_unused,
		.on_drain = flow_on_drain,
		.weight_of = flow_weight_of,
	};
	/* Of each worker: room for one of the largest records, and for not much more. */
	uint64_t little_memory = drive_worker_count * sim_between(600 << 10, 1200 << 10);
	struct queue_options options = {
		.spool_path = "/spool",
		.durability = QUEUE_DISK,
		.segment_size = plan->segment_size,
		.file_threshold = has_little_memory() ? 0 : plan->file_threshold,
		.flights = plan->flights,
		.body_memory = has_little_memory() ? little_memory : 0,
	};
	char text[512] = "";
	struct buf why = buf_of(text, sizeof text - 1);

	if (plan->redis != NULL) {
		uint64_t body_memory = options.body_memory;
		drive_redis_options(plan, &options);
		options.body_memory = body_memory;
		drive_redis_watch(plan);
	}
	at->store = queue_open(&options, drive_workers, drive_worker_count, &hooks, &why);
	text[why.size] = '\0';
	if (why.size > 0 && !drive_opening_may_fail(plan))
		sim_fail("opening says: %s", text);
	if (at->store != NULL) {
		spy_watch(at->store, drive_worker_count);
		return;
	}
	if (!drive_opening_may_fail(plan) || drive_is_last(plan))
		sim_fail("the store does not open: %s", text);
	sim_crash();
}

/* The log writes into a file in memory, where it is read; often slowly, into small rings. */
static void
make_log(void)
{
	char path[64];
	int error = 0;

	at->log_file = memfd_create("log", MFD_CLOEXEC);
	ASSERT(at->log_file >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", at->log_file);
	at->log_rests = sim_chance(500) ? (unsigned)sim_between(500, 999) : 0;
	at->logs = log_new(drive_worker_count, at->log_rests > 0 ? 1 : 1 << 20, path, &error);
	ASSERT(at->logs != NULL);
}

static void
read_log(size_t size)
{
	static char text[LOG_PIECE];
	static size_t kept; /* of a line whose rest comes next */

	while (size > 0) {
		size_t want = size < sizeof text - kept ? size : sizeof text - kept;
		ssize_t n = read(at->log_file, text + kept, want);
		ASSERT(n > 0);
		size -= (size_t)n;
		struct span all = span_of(text, kept + (size_t)n);
		for (size_t end; (end = span_find(all, '\n', 0)) < all.size;
		     all = span_after(all, end + 1))
			oracle_logged(span_first(all, end));
		kept = all.size;
		ASSERT(kept < sizeof text);
		memmove(text, all.data, kept);
	}
	ASSERT(kept == 0);
}

/* The log thread's work, as far as it is to be done now. */
static void
drain_log(void)
{
	static unsigned idle; /* times that it had nothing to write */
	size_t size, all = 0;

	if (sim_chance(at->log_rests))
		return;
	do {
		for (unsigned i = 0; i < drive_worker_count; i++)
			log_turn(drive_workers[i]->log);
		size = log_drain(at->logs);
		read_log(size);
		all += size;
	} while (size > 0);
	/* Over days nothing happens nearly always. */
	if (all > 0 || !plan->days || ++idle % 16 == 0)
		oracle_check_logged();
}

static void
make_parts(void)
{
	/* Often so little of everything that it runs out. */
	unsigned clients = 1u << sim_below(4);
	unsigned peers = 1u << sim_below(4);
	const struct worker_options options = {
		.ring = { .entries = 256,
			  .buffers = { clients, peers },
			  .buffer_size = { 4096, 4096 } },
		.mailbox_places = sim_chance(300) ? sim_between(2, 16) : 1024,
		.buffers_max = sim_chance(300) ? sim_between(4, 20) : 256,
	};
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	unsigned workers = plan->workers[plan->incarnation];

	drive_open_workers(plan->nodes > 1 && workers > 2 ? 2 : workers, &options);
	at->metrics = aligned_alloc(64, drive_worker_count * sizeof *at->metrics);
	ASSERT(at->metrics != NULL);
	memset(at->metrics, 0, drive_worker_count * sizeof *at->metrics);
	make_log();
	at->limits = limits_new(1024);
	at->strikes = strikes_new(1024);
	at->quotas = quotas_new(1024);
	ASSERT(at->limits != NULL && at->strikes != NULL && at->quotas != NULL);
	at->routing = routing_new(config, NULL, &why);
	ASSERT(at->routing != NULL);
}

static void
start_workers(void)
{
	struct net_address address = peer_address(PORT_RELAY);

	for (unsigned i = 0; i < drive_worker_count; i++) {
		struct worker *w = drive_workers[i];
		w->metrics = &at->metrics[i];
		w->log = log_ring(at->logs, i, w->metrics);
		w->limits = at->limits;
		w->strikes = at->strikes;
		w->quotas = at->quotas;
		w->config = config;
		w->resolver = at->resolvers[i] = sim_resolver_new(w, PORT_SINKS);
		ASSERT(flow_new(w, at->routing, 4711) != NULL);
	}
	open_store();
	for (unsigned i = 0; i < drive_worker_count; i++) {
		int fd = net_listen(&address, 128, true);
		ASSERT(fd >= 0);
		queue_start(drive_workers[i]->queue);
		flow_start(drive_workers[i]->flow, &fd, 1);
	}
}

/* ---- down ---- */

static bool
all_gone(void)
{
	return at->gone == drive_worker_count;
}

static void
on_drained(struct flow *f, void *context)
{
	(void)f;
	(void)context;
	relays[world->node].gone++;
}

static void
on_stopped(struct queue *q, void *context)
{
	(void)q;
	(void)context;
	relays[world->node].gone++;
}

static void
switch_to(unsigned node)
{
	drive_switch(node);
	at = &relays[node];
}

/* Where outcomes cannot be recorded, for want of disk, no delivery begins. */
static void
note_full(void)
{
	for (unsigned i = 0; i < drive_worker_count; i++) {
		if (!queue_may_deliver(drive_workers[i]->queue))
			world->oracle->refused_ms = oracle_wall_ms();
	}
}

/* The world and all relays go on by a little; then it is the turn of the same one again. */
static bool
pump(void)
{
	unsigned node = (unsigned)(at - relays);
	bool any = drive_pump();

	for (unsigned n = 0; n < DRIVE_NODES; n++) {
		if (drive_nodes[n].count == 0 || drive_nodes[n].rests)
			continue;
		switch_to(n);
		drain_log();
		note_full();
	}
	oracle_watch_times();
	switch_to(node);
	return any;
}

static void
pump_until(bool (*done)(void), const char *what)
{
	for (unsigned i = 0; !done(); i++) {
		if (!pump() && !done())
			sim_fail("%s: nothing happens any more", what);
		if (i > (plan->days ? PUMPS_MOST_DAYS : PUMPS_MOST))
			sim_fail("%s does not end", what);
	}
}

static bool
nothing_in_rings(void)
{
	for (unsigned i = 0; i < drive_worker_count; i++)
		if (ring_ops(drive_workers[i]->ring) > 0)
			return false;
	return true;
}

static void
stop(void)
{
	at->gone = 0;
	for (unsigned i = 0; i < drive_worker_count; i++)
		flow_drain(drive_workers[i]->flow, on_drained, NULL);
	pump_until(all_gone, "draining the flow");
	at->gone = 0;
	for (unsigned i = 0; i < drive_worker_count; i++)
		queue_stop(queue_end(at->store, i), on_stopped, NULL);
	pump_until(all_gone, "stopping the queue");
	pump_until(nothing_in_rings, "the last operations");
	oracle_stopped(world->node);
	queue_close(at->store);
	for (unsigned i = 0; i < drive_worker_count; i++)
		flow_free(drive_workers[i]->flow);
	routing_put(at->routing);
	for (unsigned i = 0; i < drive_worker_count; i++)
		sim_resolver_free(at->resolvers[i]);
	limits_free(at->limits);
	strikes_free(at->strikes);
	quotas_free(at->quotas);
	at->log_rests = 0;
	drain_log();
	log_free(at->logs);
	close(at->log_file);
	for (unsigned i = 0; i < drive_worker_count; i++)
		world->oracle->dropped += METRIC_GET(&at->metrics[i], BODIES_DROPPED);
	free(at->metrics);
	drive_close_workers();
}

static void
stop_all(void)
{
	for (unsigned n = 0; n < DRIVE_NODES; n++) {
		drive_nodes[n].rests = false;
		switch_to(n);
		if (drive_worker_count > 0)
			stop();
	}
	config_put(config);
	sim_check_nothing_left();
	if (drive_is_last(plan))
		sim_check_no_leaks();
}

/* ---- an incarnation ---- */

static void
on_released(struct queue_act *a, enum err e)
{
	(void)a;
	(void)e;
	relays[world->node].release.busy = false;
}

static void
release_it(struct queue *q, struct mail_id id)
{
	at->release.busy = true;
	at->release.act = (struct queue_act){
		.action = QUEUE_UNHOLD,
		.id = id,
		.who = SPAN("operator"),
		.why = SPAN("the crashes were not its fault"),
		.on_done = on_released,
	};
	queue_act(q, &at->release.act);
}

static bool
on_held_row(void *context, const struct queue_row *row)
{
	release_it(context, row->id);
	return false;
}

static void
release_one(struct queue *q)
{
	const struct queue_filter held = { .state = QUEUE_HELD };
	uint64_t cursor = 0;

	if (!at->release.busy)
		queue_list(q, &held, &cursor, 1000000, on_held_row, q);
}

/* Any worker can see what a server keeps: it is asked itself, now and then. */
static bool
server_is_empty(void)
{
	static unsigned asked;
	struct mail_id id;

	if (++asked % 16 != 0)
		return false;
	if (!at->release.busy && drive_redis_held(plan, &id))
		release_it(queue_end(at->store,
				     (unsigned)(id.low % DRIVE_SHARDS) % drive_worker_count),
			   id);
	return drive_redis_count(plan) == 0;
}

static bool
is_drained(void)
{
	/* The idle relay wakes itself far more often than anything happens. */
	if (plan->days && sim_below(64) > 0)
		return false;
	for (unsigned i = 0; i < CLIENTS; i++)
		if (!client_is_done(cast->clients[i]))
			return false;
	if (plan->redis != NULL)
		return server_is_empty();
	for (unsigned i = 0; i < drive_worker_count; i++) {
		struct queue_numbers n;
		queue_count(queue_end(at->store, i), &n);
		if (n.items_held > 0)
			release_one(queue_end(at->store, i));
		if (n.items_waiting + n.items_claimed + n.items_held > 0)
			return false;
	}
	return true;
}

/* The control thread's work: all sites are let go, or some are suspended. Reports are to arrive, so
 * the first one is not. */
static void
change_suspensions(void)
{
	bool any = suspension_version++ % 2 == 0;
	struct span names[ORACLE_SITES];
	char texts[ORACLE_SITES][64];
	unsigned count = 0;

	for (unsigned i = 1; i < ORACLE_SITES; i++) {
		bool suspend = any && sim_chance(500);
		oracle_suspended(i, suspend);
		if (!suspend)
			continue;
		if (by_mx)
			snprintf(texts[count], sizeof texts[0], "mx%u.example", i);
		else
			snprintf(texts[count], sizeof texts[0], "smtp://127.0.0.1:%u",
				 PORT_SINKS + i);
		names[count] = span_of_string(texts[count]);
		count++;
	}
	struct suspensions *s = suspensions_new(names, count, suspension_version);
	ASSERT(s != NULL);
	for (unsigned i = 0; i < drive_worker_count; i++)
		flow_suspend(drive_workers[i]->flow, s);
	suspensions_put(s);
	suspension_changes_us = world->now_us + sim_between(hour_us, 40 * hour_us);
}

/* ---- several relays, of which any may die ---- */

static void
start(void)
{
	make_parts();
	start_workers();
}

static void
kill_relay(void)
{
	unsigned node = world->node;

	sim_note("killed", node, 0);
	sim_ring_kill(node);
	sim_handles_kill(node);
	spy_forget(node);
	oracle_crashed(node);
	close(at->log_file);
	drive_nodes[node].count = 0; /* its memory is gone with it */
	*at = (struct relay){ .next_us = at->next_us };
}

static uint64_t
fate_us(void)
{
	return plan->days ? sim_between(1000000, 10 * hour_us) : sim_between(1000000, minute_us);
}

/* It is killed, stopped and waked, cut from the server, or ends orderly; then it comes back. Times
 * are from below a lease to three of them. */
static void
befall(unsigned node)
{
	struct drive_node *n = &drive_nodes[node];
	uint64_t chance = sim_below(4);

	switch_to(node);
	at->next_us = world->now_us + (n->count == 0 || n->rests ? fate_us() : sim_below(90000000));
	if (n->count == 0) {
		sim_note("up", node, 0);
		oracle_node_up();
		start();
	} else if (n->rests) {
		sim_note("awake", node, 0);
		n->rests = false;
	} else if (chance == 0) {
		kill_relay();
	} else if (chance == 1) {
		sim_note("rests", node, 0);
		n->rests = true;
	} else if (chance == 2) {
		sim_note("cut", node, 0);
		sim_redis_cut(plan->redis, node, at->next_us);
		at->next_us += fate_us();
	} else {
		sim_note("stops", node, 0);
		stop();
	}
}

static void
befall_some(void)
{
	unsigned doomed = drive_redis_doomed();

	if (doomed < DRIVE_NODES && drive_nodes[doomed].count > 0 && !drive_nodes[doomed].rests) {
		switch_to(doomed);
		kill_relay();
		at->next_us = world->now_us + sim_below(90000000);
	}
	for (unsigned node = 0; node < DRIVE_NODES; node++)
		if (world->now_us >= relays[node].next_us)
			befall(node);
}

/* Mails come and are tried, for a while. */
static void
run(void)
{
	uint64_t until_us = world->now_us + sim_between(hour_us, 60 * hour_us);
	uint64_t pumps_most = plan->days ? UINT64_MAX : plan->moves * 20;
	/* Each relay is told by its own operator: of several that would not be one thing. */
	bool suspends = sim_chance(600) && plan->nodes == 1;

	suspension_changes_us = world->now_us + sim_below(20 * hour_us);

	for (uint64_t i = 0; i < pumps_most && (!plan->days || world->now_us < until_us); i++) {
		if (plan->nodes > 1)
			befall_some();
		/* With nobody up, time passes all the same. */
		if (!pump() && plan->nodes > 1)
			sim_advance(world->now_us + 1000000);
		if (plan->days && suspends && world->now_us >= suspension_changes_us)
			change_suspensions();
	}
}

void
drive_relay(void *context)
{
	plan = context;
	oracle_restart();
	sim_ring_watch(&oracle_watch);
	load_config();
	for (unsigned n = plan->nodes; n-- > 0;) {
		switch_to(n);
		if (n > 0)
			oracle_node_up();
		start();
		at->next_us = world->now_us + fate_us();
	}
	for (unsigned i = 0; i < ORACLE_SITES; i++)
		oracle_suspended(i, false);
	cast = world->cast;
	if (cast == NULL)
		choose_cast();
	for (unsigned i = 0; i < ORACLE_SITES; i++)
		sim_resolver_lose(i, cast->lost_until_us[i]);
	world->oracle->is_scarce = has_little_memory() || drive_opening_may_fail(plan);
	if (drive_is_last(plan)) {
		calm_cast();
		pump_until(is_drained, "draining");
	}
	if (!drive_is_last(plan))
		run();
	stop_all();
}

void
drive_relay_final(void *context)
{
	(void)context;
	oracle_check_arrived();
	oracle_check_notices();
}
