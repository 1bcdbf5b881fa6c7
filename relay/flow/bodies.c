/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/bodies.h"

#include "core/metric.h"
#include "relay/flow/flow.h"
#include "relay/flow/job.h"

static void on_make_room(struct task *t);

void
bodies_init(struct flow *f)
{
	for (unsigned i = 0; i < BODIES_CLASSES; i++)
		list_init(&f->bodies.lines[i]);
	task_init(&f->bodies.task, on_make_room);
}

/* The number of bits of a length: 0 for none. */
static unsigned
class_of(unsigned count)
{
	unsigned class = count == 0 ? 0 : 32U - (unsigned)__builtin_clz(count);

	return class < BODIES_CLASSES ? class : BODIES_CLASSES - 1;
}

static void
change_count(struct site *s, unsigned count)
{
	bool moves = class_of(count) != class_of(s->bodies_count);

	s->bodies_count = count;
	if (!moves)
		return;
	list_unlink(&s->bodies_link);
	if (count > 0)
		list_append(&s->flow->bodies.lines[class_of(count)], &s->bodies_link);
}

void
bodies_wait(struct site *s, struct job *j, bool at_front)
{
	if (j->owner != s->flow || j->mail->body == NULL)
		return;
	ASSERT(j->body == NULL);
	if (at_front)
		list_prepend(&s->bodies, &j->body_link);
	else
		list_append(&s->bodies, &j->body_link);
	change_count(s, s->bodies_count + 1);
}

void
bodies_wait_ended(struct site *s, struct job *j)
{
	if (!list_is_linked(&j->body_link))
		return;
	ASSERT(s->bodies_count > 0);
	list_unlink(&j->body_link);
	change_count(s, s->bodies_count - 1);
}

void
bodies_take(struct job *j)
{
	ASSERT(!list_is_linked(&j->body_link));
	if (j->body == NULL && j->mail->body != NULL)
		j->body = body_get(j->mail->body);
}

void
bodies_put(struct job *j)
{
	if (j->body != NULL)
		body_put(j->body);
	j->body = NULL;
}

static void
drop(struct job *j)
{
	struct flow *f = j->owner;

	/* With several destinations it may have gone for another of them already. */
	if (j->mail->body == NULL)
		return;
	queue_drop_body(f->worker->queue, j->item->mail);
	METRIC_ADD(f->worker->metrics, BODIES_DROPPED, 1);
}

void
bodies_hand_over(struct job *j)
{
	if (queue_memory_is_tight(j->owner->worker->queue))
		drop(j);
	bodies_take(j);
}

/* The site with the longest line of bodies, about. */
static struct site *
longest(struct flow *f)
{
	for (unsigned i = BODIES_CLASSES; i-- > 1;) {
		struct list_node *n = list_first(&f->bodies.lines[i]);
		if (n != NULL)
			return LIST_ITEM(n, struct site, bodies_link);
	}
	return NULL;
}

static void
drop_newest(struct site *s)
{
	struct job *j = LIST_ITEM(list_last(&s->bodies), struct job, body_link);

	OBJ_CHECK(j, JOB_MAGIC);
	ASSERT(j->owner == s->flow);
	bodies_wait_ended(s, j);
	drop(j);
}

static void
on_make_room(struct task *t)
{
	struct flow *f = CONTAINER_OF(t, struct flow, bodies.task);

	for (unsigned n = 0; queue_memory_is_tight(f->worker->queue); n++) {
		struct site *s = longest(f);
		if (s == NULL)
			return;
		if (n == BODIES_A_TURN) {
			worker_soon(f->worker, t);
			return;
		}
		drop_newest(s);
	}
}

void
bodies_make_room(struct flow *f)
{
	if (queue_memory_is_tight(f->worker->queue))
		worker_soon(f->worker, &f->bodies.task);
}
