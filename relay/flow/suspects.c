/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/suspects.h"

#include <stdlib.h>

#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum suspect_verdict
suspects_judge(struct flow *f, const struct queue_item *item)
{
	struct suspects *s = &f->suspects;

	if (s->alone != NULL)
		return SUSPECT_LATER;
	if (!item->recovered || item->open_starts == 0)
		return SUSPECT_RUN;
	if (item->open_starts >= SUSPECT_HOLD_STARTS && item->had_run_alone)
		return SUSPECT_HOLD;
	if (item->open_starts >= 2)
		return SUSPECT_WAIT;
	return s->running < SUSPECTS_MAX ? SUSPECT_RUN : SUSPECT_LATER;
}

void
suspects_begin(struct flow *f, struct job *j)
{
	struct suspects *s = &f->suspects;

	j->suspect = j->item->recovered && j->item->open_starts > 0;
	if (j->suspect && j->item->open_starts >= 2) {
		ASSERT(s->alone == NULL);
		s->alone = j;
		s->alone_has_begun = false;
		/* Others claim nothing now: what they keep for that, it may have to wait for. */
		flow_wake_sites(f);
	} else if (j->suspect) {
		s->running++;
	}
}

void
suspects_end(struct flow *f, struct job *j)
{
	struct suspects *s = &f->suspects;

	if (!j->suspect)
		return;
	if (s->alone == j) {
		s->alone = NULL;
	} else {
		ASSERT(s->running > 0);
		s->running--;
	}
	/* What was put off meanwhile. */
	flow_wake_sites(f);
}

struct job *
suspects_ready(struct flow *f)
{
	struct suspects *s = &f->suspects;

	if (s->alone == NULL || s->alone_has_begun || f->job_count > 1 || f->busy_count > 0)
		return NULL;
	s->alone_has_begun = true;
	return s->alone;
}

/* An act on the queue with the memory that it needs until it is done. */
struct holding {
	struct queue_act act;
	struct flow *flow;
	unsigned starts;
};

static void
on_held(struct queue_act *a, enum err e)
{
	struct holding *h = CONTAINER_OF(a, struct holding, act);

	flow_event_held(h->flow, a->id, h->starts, e);
	free(h);
}

void
suspects_hold(struct flow *f, struct mail_id id, unsigned starts)
{
	struct holding *h = calloc(1, sizeof *h);

	/* No memory: it stays in the queue and is judged again when it is claimed next. */
	if (h == NULL)
		return;
	h->flow = f;
	h->starts = starts;
	h->act.action = QUEUE_HOLD;
	h->act.id = id;
	h->act.who = SPAN("ringpostd");
	h->act.why = SPAN("its worker died three times while delivering it");
	h->act.on_done = on_held;
	queue_act(f->worker->queue, &h->act);
}
