/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/overdue.h"

#include "relay/flow/destination.h"
#include "relay/flow/dispatch.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum { WALK_MS = 30 * 1000, SLICE_US = 200 };

static const struct config *
config_of(const struct flow *f)
{
	return f->routing->config;
}

/* Mails that were accepted before this have come to the end of their time. */
static uint64_t
before_ms(const struct flow *f, uint64_t age_ms)
{
	uint64_t now_ms = f->worker->now_wall_ms;

	return age_ms != 0 && now_ms > age_ms ? now_ms - age_ms + 1 : 0;
}

static bool
is_overdue(const struct flow *f, const struct queue_row *row)
{
	uint64_t now_ms = f->worker->now_wall_ms;
	const struct site *s = destination_at(f, row->site)->site;

	if (row->due_at_ms > now_ms || s == NULL || s->suspended || !site_is_doubtful(s))
		return false;
	return row->accepted_at_ms < before_ms(f, config_of(f)->retry.lifetime_ms) ||
	       (row->untold && row->accepted_at_ms < before_ms(f, config_of(f)->bounces.delay_ms));
}

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct overdue_claim *mine = CONTAINER_OF(c, struct overdue_claim, claim);
	struct flow *f = mine->flow;
	struct list_node *n;

	/* What cannot be read is tried by the next walk. */
	if (e != ERR_OK)
		flow_event_claim_failed(f, destination_at(f, c->site)->name, e);
	while ((n = list_shift(&c->items)) != NULL)
		dispatch_overdue(f, LIST_ITEM(n, struct queue_item, link));
	mine->busy = false;
	f->overdue.busy--;
	if (f->overdue.cursor != 0)
		worker_soon(f->worker, &f->overdue.task);
	flow_check_drained(f);
}

static struct overdue_claim *
free_claim(struct overdue *o)
{
	for (unsigned i = 0; i < OVERDUE_CLAIMS; i++) {
		if (!o->claims[i].busy)
			return &o->claims[i];
	}
	return NULL;
}

/* Of a mail with more items than there are claims left the next walk finds the rest. */
static bool
on_row(void *context, const struct queue_row *row)
{
	struct flow *f = context;
	struct overdue *o = &f->overdue;
	struct overdue_claim *c = is_overdue(f, row) ? free_claim(o) : NULL;

	if (c == NULL)
		return o->busy < OVERDUE_CLAIMS;
	*c = (struct overdue_claim){
		.claim = { .site = row->site,
			   .most = 1,
			   .by_id = true,
			   .id = row->id,
			   .on_done = on_claimed },
		.flow = f,
		.busy = true,
	};
	o->busy++;
	queue_claim(f->worker->queue, &c->claim);
	return o->busy < OVERDUE_CLAIMS;
}

static bool
any_is_doubtful(const struct flow *f)
{
	for (struct list_node *n = list_first(&f->site_list); n != NULL;
	     n = list_next(&f->site_list, n)) {
		if (site_is_doubtful(LIST_ITEM(n, struct site, link)))
			return true;
	}
	return false;
}

static void
walk(struct task *t)
{
	struct flow *f = CONTAINER_OF(t, struct flow, overdue.task);
	struct overdue *o = &f->overdue;
	uint64_t life_ms = before_ms(f, config_of(f)->retry.lifetime_ms);
	uint64_t delay_ms = before_ms(f, config_of(f)->bounces.delay_ms);
	const struct queue_filter old = {
		.kept_here = true,
		.state = QUEUE_WAITING,
		.accepted_before_ms = delay_ms > life_ms ? delay_ms : life_ms,
	};

	if (f->draining || o->busy == OVERDUE_CLAIMS || old.accepted_before_ms == 0)
		return;
	if (!dispatch_may_claim(f) || !queue_may_deliver(f->worker->queue) ||
	    !queue_list(f->worker->queue, &old, &o->cursor, SLICE_US, on_row, f))
		o->cursor = 0;
	else if (o->busy < OVERDUE_CLAIMS)
		worker_soon(f->worker, &o->task);
}

static void
on_time(struct timer *t)
{
	struct flow *f = CONTAINER_OF(t, struct flow, overdue.timer);

	if (f->draining || !any_is_doubtful(f))
		return;
	worker_soon(f->worker, &f->overdue.task);
	overdue_watch(f);
}

void
overdue_init(struct flow *f)
{
	timer_init(&f->overdue.timer, on_time);
	task_init(&f->overdue.task, walk);
}

void
overdue_watch(struct flow *f)
{
	if (!timer_is_set(&f->overdue.timer) && !f->draining)
		timer_set(&f->worker->timers, &f->overdue.timer, f->worker->now_ms + WALK_MS);
}

void
overdue_stop(struct flow *f)
{
	timer_stop(&f->worker->timers, &f->overdue.timer);
	task_cancel(&f->overdue.task);
	f->overdue.cursor = 0;
}

bool
overdue_is_quiet(const struct flow *f)
{
	return f->overdue.busy == 0;
}
