/* SPDX-License-Identifier: Apache-2.0 */
#include "core/conn_work.h"

#include "core/base/assert.h"
#include "core/metric.h"

enum { AT_WORK_MAX = 8 }; /* of a worker, at helpers */

bool
conn_is_at_work(const struct conn *c)
{
	return c->layer != NULL && c->layer->is_busy;
}

bool
conn_leaves_heavy(struct conn *c)
{
	struct layer *l = c->layer;

	l->helper_is_free = l->has_helper && l->heavy_may_leave && c->worker->at_work < AT_WORK_MAX;
	return l->helper_is_free;
}

/* On a helper's thread. */
static void
work_for_layer(struct helper_job *j)
{
	struct layer *l = CONTAINER_OF(j, struct conn, job)->layer;

	l->ops->work(l);
}

static void
work_is_done(struct conn *c)
{
	c->layer->is_busy = false;
	worker_soon(c->worker, &c->run);
	if (c->layer->ops->wants_write(c->layer))
		worker_last(c->worker, &c->late);
}

/* Those that wait for a place try again, until this worker has one. */
static void
let_parked_try(struct worker *w)
{
	struct list waiting;
	struct list_node *n;

	list_init(&waiting);
	list_take_all(&waiting, &w->parked);
	while ((n = list_shift(&waiting)) != NULL) {
		struct conn *c = LIST_ITEM(n, struct conn, parked);
		if (w->at_work > 0 && !list_is_empty(&w->parked))
			list_append(&w->parked, &c->parked);
		else
			conn_work(c);
	}
}

static void
on_worked(struct helper_job *j)
{
	struct conn *c = CONTAINER_OF(j, struct conn, job);
	struct worker *w = c->worker;

	OBJ_CHECK(c, CONN_MAGIC);
	ASSERT(c->at_work && conn_is_at_work(c) && w->at_work > 0);
	c->at_work = false;
	w->at_work--;
	let_parked_try(w);
	if (c->state == CONN_OPEN)
		work_is_done(c);
	conn_unhold(c);
}

static bool
submit(struct conn *c)
{
	struct worker *w = c->worker;

	if (w->at_work == AT_WORK_MAX)
		return false;
	c->job = (struct helper_job){
		.work = work_for_layer,
		.on_done = on_worked,
		.is_quick = true,
	};
	if (!helpers_submit(w->helpers, w, &c->job))
		return false;
	c->at_work = true;
	w->at_work++;
	conn_hold(c);
	if (w->metrics != NULL)
		METRIC_ADD(w->metrics, TLS_HELPED, 1);
	return true;
}

void
conn_work(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->at_work || list_is_linked(&c->parked) || submit(c))
		return;
	if (w->metrics != NULL)
		METRIC_ADD_LABEL(w->metrics, POOL_EXHAUSTED, LABEL_POOL_HELPER_JOBS, 1);
	if (w->at_work > 0) {
		list_append(&w->parked, &c->parked);
	} else if (w->heavy_left > 0) {
		w->heavy_left--;
		c->layer->ops->work(c->layer);
		work_is_done(c);
	} else {
		worker_heavy(w, &c->run);
	}
}
