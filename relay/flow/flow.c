/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/flow.h"

#include <stdlib.h>

#include "core/log.h"
#include "relay/flow/channel.h"
#include "relay/flow/dispatch.h"
#include "relay/flow/events.h"

enum {
	DAY_MS = 86400 * 1000,
	SESSION_MARGIN = 256, /* sessions beyond the limit, to say 421 with */
	CHANNEL_MARGIN = 64,  /* channels that are closing while others open */
	FAREWELL_MS = 2000,   /* for a 421 at the end of a drain */
};

static size_t
share(size_t total, size_t workers)
{
	return (total + workers - 1) / workers;
}

static void
make_pools(struct flow *f)
{
	const struct config *c = f->routing->config;
	size_t workers = f->worker->count;

	/* The kernel spreads clients by hash, unevenly: a worker may get half as much again. */
	size_t sessions = share(c->limits.connections, workers) * 3 / 2 + SESSION_MARGIN;
	pool_init(&f->sessions, sizeof(struct session), sessions);
	pool_init(&f->transactions, sizeof(struct transaction), sessions);
	pool_init(&f->channels, sizeof(struct channel),
		  share(c->delivery.connections, workers) * 2 + CHANNEL_MARGIN);
	peer_logins_init(&f->peer_logins,
			 share(c->delivery.connections, workers) * 2 + CHANNEL_MARGIN);
	pool_init(&f->jobs, sizeof(struct job), c->queue.active_max);
	logins_init(f, sessions);
	dovecot_init(&f->dovecot, f);
	bounces_init(f);
}

static void
on_drain_check(struct task *t)
{
	struct flow *f = CONTAINER_OF(t, struct flow, drain_check);
	bool listening = false;

	for (unsigned i = 0; i < f->listener_count; i++)
		listening |= !listener_is_closed(&f->listeners[i]);
	for (struct list_node *n = list_first(&f->site_list); n != NULL;
	     n = list_next(&f->site_list, n)) {
		struct site *s = LIST_ITEM(n, struct site, link);
		if (s->claiming > 0 || !slots_are_quiet(s))
			return;
	}
	for (struct list_node *n = list_first(&f->destinations.all); n != NULL;
	     n = list_next(&f->destinations.all, n)) {
		if (destination_is_busy(LIST_ITEM(n, struct destination, link)))
			return;
	}
	/* Nobody is left who could want an answer. */
	if (!listening && f->session_count == 0) {
		callouts_stop(f);
		dovecot_stop(&f->dovecot);
	}
	if (f->drained || listening || f->session_count > 0 || !callouts_are_quiet(f) ||
	    !dovecot_is_quiet(&f->dovecot) || !overdue_is_quiet(f) || f->channel_count > 0 ||
	    f->job_count > 0 || f->committing_count > 0 || f->sts.out > 0)
		return;
	f->drained = true;
	timer_stop(&f->worker->timers, &f->drain_deadline);
	f->on_drained(f, f->drained_context);
}

/* What has not ended in time is cut off: clients are told and may send again, jobs come back as
 * unserved or deferred and stay in the queue. Who does not even take his 421 is closed on at the
 * second time. */
static void
on_drain_deadline(struct timer *t)
{
	struct flow *f = CONTAINER_OF(t, struct flow, drain_deadline);
	struct list_node *n = list_first(&f->worker->conns);

	while (n != NULL) {
		struct conn *c = LIST_ITEM(n, struct conn, link);
		n = list_next(&f->worker->conns, n);
		/* Others are the queue's, or Dovecot's for as long as a session may wait for it. */
		if (channel_owns(c))
			channel_abort(CONTAINER_OF(c, struct channel, conn), CLOSE_SHUTDOWN);
		else if (f->cut_off && (callout_owns(c) || session_owns(c)))
			conn_close(c, CLOSE_SHUTDOWN);
	}
	bool first = !f->cut_off;
	f->cut_off = true;
	if (first)
		inbound_cut_off(f);
	callouts_stop(f);
	queue_give_up(f->worker->queue);
	if (first)
		timer_set(&f->worker->timers, t, f->worker->now_ms + FAREWELL_MS);
}

struct flow *
flow_new(struct worker *w, struct routing *routing, uint64_t key_seed)
{
	struct flow *f = calloc(1, sizeof *f);

	if (f == NULL)
		return NULL;
	f->scratch_memory = malloc(FLOW_SCRATCH_SIZE);
	if (f->scratch_memory == NULL) {
		free(f);
		return NULL;
	}
	f->magic = FLOW_MAGIC;
	f->worker = w;
	f->routing = routing_get(routing);
	f->key_seed = key_seed;
	w->heavy_steps = routing->config->tls.handshakes_per_turn;
	f->scratch = buf_of(f->scratch_memory, FLOW_SCRATCH_SIZE);
	list_init(&f->site_list);
	list_init(&f->connecting);
	list_init(&f->wanting[0]);
	list_init(&f->wanting[1]);
	timer_init(&f->patience, dispatch_on_patience);
	timer_init(&f->drain_deadline, on_drain_deadline);
	task_init(&f->drain_check, on_drain_check);
	bodies_init(f);
	callouts_init(f);
	overdue_init(f);
	sts_init(f);
	make_pools(f);
	w->flow = f;
	if (!destinations_init(f)) {
		flow_free(f);
		return NULL;
	}
	return f;
}

void
flow_free(struct flow *f)
{
	struct list_node *n;

	OBJ_FINI(f, FLOW_MAGIC);
	task_cancel(&f->bodies.task);
	callouts_fini(f);
	overdue_stop(f);
	timer_stop(&f->worker->timers, &f->patience);
	destinations_fini(f);
	while ((n = list_first(&f->site_list)) != NULL)
		site_free(LIST_ITEM(n, struct site, link));
	pool_fini(&f->sessions);
	pool_fini(&f->transactions);
	pool_fini(&f->channels);
	peer_logins_fini(&f->peer_logins);
	pool_fini(&f->jobs);
	logins_fini(f);
	bounces_fini(f);
	tls_tally_free(f->tls_tally);
	routing_put(f->routing);
	suspensions_put(f->suspensions);
	free(f->scratch_memory);
	f->worker->flow = NULL;
	free(f);
}

void
flow_start(struct flow *f, const int *fds, unsigned count)
{
	OBJ_CHECK(f, FLOW_MAGIC);
	ASSERT(count <= FLOW_LISTENERS_MAX);
	f->listener_count = count;
	for (unsigned i = 0; i < count; i++)
		listener_start(&f->listeners[i], f, i, fds[i]);
	/* So that the first session is told what Dovecot can do. */
	login_withheld(f);
	lockout_watch(f);
}

/* Where there is no memory for it, sessions go on to begin with what was there before. */
static void
adopt_tls(struct flow *f, struct routing *routing)
{
	struct worker *w = f->worker;

	w->heavy_steps = routing->config->tls.handshakes_per_turn;
	if (w->tls != NULL && routing->tls != NULL && !tls_adopt(w->tls, routing->tls))
		event_problem(w->log, &(struct event_problem){
					      .what = SPAN("use new certificates"),
					      .error = span_of_string(err_text(ERR_NO_MEMORY)),
					      .remedy = SPAN("give the relay more memory, and "
							     "reload again"),
				      });
}

void
flow_adopt(struct flow *f, struct routing *routing)
{
	struct routing *old = f->routing;

	OBJ_CHECK(f, FLOW_MAGIC);
	f->routing = routing_get(routing);
	f->worker->config = routing->config;
	adopt_tls(f, routing);
	routing_put(old);
	/* Jobs that exist finish on the route that they began with; items are looked at again when
	 * they are claimed. */
	flow_wake_sites(f);
	lockout_watch(f);
}

void
flow_drain(struct flow *f, void (*on_drained)(struct flow *f, void *context), void *context)
{
	OBJ_CHECK(f, FLOW_MAGIC);
	if (f->draining)
		return;
	f->draining = true;
	f->on_drained = on_drained;
	f->drained_context = context;
	for (unsigned i = 0; i < f->listener_count; i++)
		listener_stop(&f->listeners[i]);
	inbound_drain(f);
	destinations_drain(f);
	callouts_drain(f);
	overdue_stop(f);
	flow_wake_sites(f);
	timer_set(&f->worker->timers, &f->drain_deadline,
		  f->worker->now_ms + f->routing->config->timeouts.drain_ms);
	flow_check_drained(f);
}

void
flow_check_drained(struct flow *f)
{
	if (f->draining && !f->drained)
		worker_last(f->worker, &f->drain_check);
}

void
flow_count_tls(struct flow *f, struct tls_tally_row row)
{
	if (!f->routing->config->tls_reports.enabled || f->sts.source == NULL)
		return; /* nobody would take it */
	row.day = (unsigned)(f->worker->now_wall_ms / DAY_MS);
	if (f->tls_tally == NULL)
		f->tls_tally = calloc(1, sizeof *f->tls_tally);
	if (f->tls_tally == NULL || !tls_tally_add(f->tls_tally, &row))
		FLOW_LIMIT_HIT(f, TLS_REPORTS);
}

struct flow *
flow_of_queue(struct queue *q)
{
	struct flow *f = queue_worker(q)->flow;

	OBJ_CHECK(f, FLOW_MAGIC);
	return f;
}

void
flow_on_due(struct queue *q, struct site_id site)
{
	destination_due(destination_at(flow_of_queue(q), site));
}

struct site_id
flow_site_of(struct queue *q, struct span address, uint32_t flags)
{
	struct flow *f = flow_of_queue(q);
	struct destination *d = destination_of(f, f->routing, address, destination_need(flags));

	/* Without memory for it the mail waits where mail without a route does, and is looked at
	 * again when it falls due. */
	if (d == NULL)
		return (struct site_id){ 0 };
	destination_queued(d);
	return d->id;
}

void
flow_on_site_unused(struct queue *q, struct site_id site)
{
	destination_unused(destination_at(flow_of_queue(q), site));
}

uint32_t
flow_weight(const struct flow *f, struct span sender)
{
	const struct config *c = f->routing->config;
	const struct config_sender *row =
		c->senders_count == 0 ? NULL : config_sender_find(c, address_domain(sender));

	return row == NULL ? 1 : row->weight;
}

uint32_t
flow_weight_of(struct queue *q, struct span sender)
{
	return flow_weight(flow_of_queue(q), sender);
}

bool
flow_must_pause(const struct flow *f)
{
	return log_must_pause(f->worker->log);
}

void
flow_wake_sites(struct flow *f)
{
	for (struct list_node *n = list_first(&f->site_list); n != NULL;
	     n = list_next(&f->site_list, n))
		site_pump_soon(LIST_ITEM(n, struct site, link));
}
