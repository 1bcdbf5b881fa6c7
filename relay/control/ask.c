/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/ask.h"

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/metric.h"
#include "relay/control/control.h"

enum { AGAIN_MS = 10 };

/* ---- on the worker ---- */

static void on_returned(struct message *m, void *context);

static void
return_part(struct ask_part *p)
{
	p->message.on_message = on_returned;
	worker_post(p->asked->worker, p->ask->asker->worker, &p->message);
}

/* One slice of the part whose turn it is. */
static void
on_turn(struct task *t)
{
	struct asked *a = CONTAINER_OF(t, struct asked, task);
	struct list_node *n = list_shift(&a->line);

	if (n == NULL)
		return;
	struct ask_part *p = LIST_ITEM(n, struct ask_part, link);
	uint64_t began_us = clock_monotonic_us();
	enum ask_step step = p->ask->on_slice(p, ASK_SLICE_US);
	METRIC_OBSERVE(a->worker->metrics, ADMIN_SLICE, clock_monotonic_us() - began_us);
	if (step == ASK_DONE)
		return_part(p);
	if (step == ASK_MORE)
		list_append(&a->line, &p->link);
	if (!list_is_empty(&a->line))
		worker_soon(a->worker, &a->task);
}

void
ask_resume(struct ask_part *p)
{
	if (list_is_linked(&p->link))
		return;
	list_append(&p->asked->line, &p->link);
	worker_soon(p->asked->worker, &p->asked->task);
}

static void
on_asked(struct message *m, void *context)
{
	struct ask_part *p = CONTAINER_OF(m, struct ask_part, message);

	(void)context;
	ask_resume(p);
}

void
asked_init(struct asked *a, struct worker *worker)
{
	*a = (struct asked){ .worker = worker };
	list_init(&a->line);
	task_init(&a->task, on_turn);
}

bool
ask_is_cancelled(const struct ask_part *p)
{
	return atomic_load_explicit(&p->ask->cancelled, memory_order_relaxed);
}

struct worker *
ask_worker(const struct ask_part *p)
{
	return p->asked->worker;
}

/* ---- on the control thread ---- */

static void
on_returned(struct message *m, void *context)
{
	struct ask_part *p = CONTAINER_OF(m, struct ask_part, message);
	struct ask *a = p->ask;

	(void)context;
	ASSERT(a->parts_out > 0 && a->asker->out > 0);
	a->asker->out--;
	if (--a->parts_out == 0)
		a->on_done(a);
}

/* False where the worker's mailbox is full. */
static bool
send_part(struct asker *asker, struct ask_part *p)
{
	if (!mailbox_reserve(&p->asked->worker->mailbox, 1))
		return false;
	/* For the return: the control thread's mailbox has a place for each part there can be. */
	bool mine = mailbox_reserve(&asker->worker->mailbox, 1);
	ASSERT(mine);
	p->message.on_message = on_asked;
	worker_post(asker->worker, p->asked->worker, &p->message);
	return true;
}

static void
send_due(struct asker *asker)
{
	struct list left;
	struct list_node *n;

	list_init(&left);
	while ((n = list_shift(&asker->due)) != NULL) {
		if (!send_part(asker, LIST_ITEM(n, struct ask_part, link)))
			list_append(&left, n);
	}
	list_take_all(&asker->due, &left);
	if (!list_is_empty(&asker->due))
		timer_set(&asker->worker->timers, &asker->again, asker->worker->now_ms + AGAIN_MS);
}

static void
on_again(struct timer *t)
{
	send_due(CONTAINER_OF(t, struct asker, again));
}

void
asker_init(struct asker *a, struct worker *worker, struct crew *crew)
{
	*a = (struct asker){ .worker = worker, .crew = crew };
	list_init(&a->due);
	timer_init(&a->again, on_again);
}

void
ask_start(struct asker *asker, struct ask *a, unsigned first, unsigned count)
{
	ASSERT(a->parts_out == 0 && count > 0);
	a->asker = asker;
	a->parts_out = count;
	atomic_store(&a->cancelled, false);
	asker->out += count;
	for (unsigned i = 0; i < count; i++) {
		struct ask_part *p = &a->parts[i];
		*p = (struct ask_part){
			.ask = a,
			.asked = &asker->crew[first + i].asked,
			.worker = first + i,
		};
		list_append(&asker->due, &p->link);
	}
	send_due(asker);
}

void
ask_cancel(struct ask *a)
{
	atomic_store_explicit(&a->cancelled, true, memory_order_relaxed);
}
