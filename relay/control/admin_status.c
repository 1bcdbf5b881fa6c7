/* SPDX-License-Identifier: Apache-2.0
 *
 * The command `status`: from the blocks of metrics alone, which may be read at any time. No worker
 * is asked, so it answers also when one hangs.
 */
#include <unistd.h>

#include "core/base/clock.h"
#include "core/config.h"
#include "core/metric.h"
#include "relay/control/admin.h"
#include "relay/control/control.h"

/* Of all threads. */
static uint64_t
sum(const struct admin *a, unsigned slot)
{
	const struct control *c = a->control;
	uint64_t all = 0;

	for (size_t i = 0; i < c->block_count; i++)
		all += metric_get_slot(c->blocks[i], slot);
	return all;
}

static uint64_t
most(const struct admin *a, unsigned slot)
{
	const struct control *c = a->control;
	uint64_t largest = 0;

	for (size_t i = 0; i < c->block_count; i++) {
		uint64_t value = metric_get_slot(c->blocks[i], slot);
		if (value > largest)
			largest = value;
	}
	return largest;
}

static void
read_series(const struct admin *a, uint64_t values[RATES_SERIES])
{
	values[0] = sum(a, METRIC_MAILS_ACCEPTED);
	values[1] = sum(a, METRIC_RECIPIENTS + LABEL_RESULT_DELIVERED);
}

static void
on_sample(struct timer *t)
{
	struct admin *a = CONTAINER_OF(t, struct admin, sample);
	uint64_t values[RATES_SERIES];

	read_series(a, values);
	rates_sample(&a->rates, a->worker->now_ms, values);
	timer_set(&a->worker->timers, t, a->worker->now_ms + RATES_SAMPLE_MS);
}

void
admin_start_rates(struct admin *a)
{
	timer_init(&a->sample, on_sample);
	on_sample(&a->sample);
}

void
admin_stop_rates(struct admin *a)
{
	timer_stop(&a->worker->timers, &a->sample);
}

static struct span
state_word(struct control *c)
{
	if (c->draining)
		return SPAN("draining");
	switch (control_readiness(c)) {
	case ERR_OK:
		return SPAN("ready");
	case ERR_DRAINING:
		return SPAN("drained");
	default:
		return SPAN("not_ready");
	}
}

static void
fill_queue(const struct admin *a, struct admin_status *s)
{
	s->mails = sum(a, METRIC_QUEUE_MAILS);
	s->recipients_waiting = sum(a, METRIC_QUEUE_RECIPIENTS + LABEL_STATE_WAITING);
	s->recipients_active = sum(a, METRIC_QUEUE_RECIPIENTS + LABEL_STATE_ACTIVE);
	s->recipients_held = sum(a, METRIC_QUEUE_RECIPIENTS + LABEL_STATE_HELD);
	s->recipients_failed = sum(a, METRIC_QUEUE_RECIPIENTS + LABEL_STATE_FAILED);
	s->oldest = most(a, METRIC_QUEUE_OLDEST) * 1000;
	s->queue_memory = sum(a, METRIC_QUEUE_MEMORY);
	s->queue_bytes = sum(a, METRIC_QUEUE_BYTES);
	s->disk_used = sum(a, METRIC_SPOOL_DISK_USED);
	s->disk_free = most(a, METRIC_SPOOL_DISK_FREE);
}

static void
fill_traffic(const struct admin *a, struct admin_status *s)
{
	uint64_t values[RATES_SERIES];

	read_series(a, values);
	s->accepted = values[0];
	s->delivered = values[1];
	s->accepted_rate = rates_of(&a->rates, 0, a->worker->now_ms, values[0]);
	s->delivered_rate = rates_of(&a->rates, 1, a->worker->now_ms, values[1]);
	s->deferred = sum(a, METRIC_RECIPIENTS + LABEL_RESULT_DEFERRED);
	s->failed = sum(a, METRIC_RECIPIENTS + LABEL_RESULT_FAILED);
	s->clients = sum(a, METRIC_CONNECTIONS + LABEL_SIDE_RECEIVE);
	s->connections = sum(a, METRIC_CONNECTIONS + LABEL_SIDE_SEND);
	s->sites = sum(a, METRIC_DESTINATIONS);
}

static void
write_limits(struct admin_client *c)
{
	admin_rows(c, "limits");
	for (unsigned i = 0; i < LABEL_LIMIT_COUNT; i++) {
		struct admin_limit row = {
			.limit = span_of_string(metric_slot_label(METRIC_LIMIT_HITS + i)),
			.hits = sum(c->admin, METRIC_LIMIT_HITS + i),
		};
		if (row.hits > 0)
			admin_row(c, ADMIN_SHAPE_limit, &row);
	}
	admin_rows_end(c);
}

static void
write_listeners(struct admin_client *c)
{
	const struct config *config = c->admin->control->routing->config;

	admin_rows(c, "listeners");
	for (size_t i = 0; i < config->listeners_count; i++) {
		uint8_t memory[128];
		struct buf address = buf_of(memory, sizeof memory);
		net_address_show(&config->listeners[i].address, &address);
		admin_row(c, ADMIN_SHAPE_listener,
			  &(struct admin_listener){ .address = buf_span(&address),
						    .role = span_of_string(config_role_word(
							    config->listeners[i].role)) });
	}
	admin_rows_end(c);
}

void
admin_run_status(struct admin_client *c)
{
	struct admin *a = c->admin;
	struct control *control = a->control;
	uint64_t started_s = most(a, METRIC_START_TIME);
	struct admin_status s = {
		.version = SPAN(RINGPOST_VERSION),
		.hostname = control->routing->config->hostname,
		.state = state_word(control),
		.pid = (uint64_t)getpid(),
		.uptime = a->worker->now_wall_ms - started_s * 1000,
		.workers = control->crew_count,
		.sites_suspended = a->suspended.count,
	};

	metric_set_process(a->worker->metrics);
	s.memory = most(a, METRIC_RESIDENT_MEMORY);
	fill_queue(a, &s);
	fill_traffic(a, &s);
	admin_object(c, ADMIN_SHAPE_status, &s);
	write_listeners(c);
	write_limits(c);
	admin_done(c);
}
