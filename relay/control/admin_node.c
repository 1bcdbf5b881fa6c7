/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands node list and node drain. Worker 0 asks the queue's store, which knows the nodes;
 * what is waited for (that a node is empty, or takes mail again) is looked at again and again while
 * somebody waits for it, and at no other time.
 */
#include <stdlib.h>

#include "core/base/arena.h"
#include "core/log.h"
#include "relay/control/control.h"

enum {
	LOOK_AGAIN_MS = 500,
	WAIT_MOST_MS = 3600 * 1000, /* for a node to be empty */
	INCARNATION_LEAST = 4,      /* of it, where it stands for the name */
	TEXTS_FIRST = 1024,
	TEXTS_MOST = 1024 * 1024,
};

enum node_step { STEP_LOOK, STEP_ORDER, STEP_WATCH };

struct node_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct ask_part part;
	struct ask_part *asked; /* worker 0's */
	struct queue_nodes look;
	struct queue_order order;
	struct timer again;
	uint64_t until_ms;
	bool drains, lists, waits;
	enum node_step step;
	bool busy; /* the store has a request, or the timer runs */
	bool done;
	enum admin_error error;
	const char *why; /* of an error */
	struct buf who;
	uint8_t who_memory[ADMIN_WHO_MAX];
	struct arena texts;
	struct queue_node *nodes; /* as last looked at; of a drain: the one */
	unsigned count;
};

/* ---- on worker 0 ---- */

static void
refuse(struct node_run *run, enum admin_error e, const char *why)
{
	run->error = e;
	run->why = why;
	run->done = true;
}

static void
refuse_for(struct node_run *run, enum err e)
{
	refuse(run, e == ERR_NO_MEMORY ? ADMIN_NO_MEMORY : ADMIN_REFUSED, err_text(e));
}

static void
keep_node(struct node_run *run, struct queue_node *to, const struct queue_node *n)
{
	*to = *n;
	to->incarnation = arena_copy(&run->texts, n->incarnation);
	to->name = arena_copy(&run->texts, n->name);
	to->version = arena_copy(&run->texts, n->version);
	to->listeners = arena_copy(&run->texts, n->listeners);
	if (to->incarnation.data == NULL || to->name.data == NULL || to->version.data == NULL ||
	    to->listeners.data == NULL)
		refuse_for(run, ERR_NO_MEMORY);
}

static void
keep_all(struct node_run *run, const struct queue_nodes *n)
{
	run->nodes = arena_take(&run->texts, (n->count + 1) * sizeof *run->nodes);
	if (run->nodes == NULL) {
		refuse_for(run, ERR_NO_MEMORY);
		return;
	}
	run->done = true;
	for (unsigned i = 0; i < n->count; i++)
		keep_node(run, &run->nodes[run->count++], &n->nodes[i]);
}

static bool
is_meant(const struct queue_node *n, struct span name)
{
	return span_eq(n->name, name) ||
	       (name.size >= INCARNATION_LEAST && span_starts_with(n->incarnation, name));
}

/* Which node is it? */
static void
find_node(struct node_run *run, const struct queue_nodes *n)
{
	struct span name = run->client->request.texts[ADMIN_ARG_NODE];
	const struct queue_node *found = NULL;
	unsigned alive = 0;

	for (unsigned i = 0; i < n->count; i++) {
		if (!is_meant(&n->nodes[i], name))
			continue;
		alive += n->nodes[i].state != QUEUE_NODE_DEAD;
		if (found == NULL || n->nodes[i].state != QUEUE_NODE_DEAD)
			found = &n->nodes[i];
	}
	run->nodes = arena_take(&run->texts, sizeof *run->nodes);
	if (found == NULL)
		refuse(run, ADMIN_NOT_FOUND, "there is no such node; node list shows them");
	else if (alive == 0)
		refuse(run, ADMIN_REFUSED, "it is dead; others take its mails over by themselves");
	else if (alive > 1)
		refuse(run, ADMIN_REFUSED,
		       "several nodes have this name; use an incarnation that node list shows, "
		       "and give each a queue.redis.node");
	else if (run->nodes == NULL)
		refuse_for(run, ERR_NO_MEMORY);
	else
		keep_node(run, run->nodes, found);
	run->count = 1;
	run->step = STEP_ORDER;
}

static bool
is_late(const struct node_run *run)
{
	return ask_worker(run->asked)->now_ms >= run->until_ms;
}

/* One that is not there any more has stopped, and given all back with that. */
static void
watch_node(struct node_run *run, const struct queue_nodes *n)
{
	struct queue_node *mine = run->nodes;
	const struct queue_node *now = NULL;

	for (unsigned i = 0; i < n->count; i++) {
		if (span_eq(n->nodes[i].incarnation, mine->incarnation))
			now = &n->nodes[i];
	}
	mine->state = now == NULL ? QUEUE_NODE_DEAD : now->state;
	mine->mails = now == NULL ? 0 : now->mails;
	mine->seen_ms = now == NULL ? mine->seen_ms : now->seen_ms;
	bool is_there = run->drains ? mine->state == QUEUE_NODE_DRAINED && mine->mails == 0
				    : mine->state == QUEUE_NODE_UP;
	run->done = is_there || !run->waits || mine->state == QUEUE_NODE_DEAD;
	/* Whoever waits to switch it off must not take this for an empty one. */
	if (!run->done && is_late(run))
		refuse(run, ADMIN_REFUSED,
		       run->drains ? "an hour is over, and it still has mails; the drain goes on"
				   : "an hour is over, and it does not take mail yet");
}

static void
take_look(struct node_run *run, const struct queue_nodes *n)
{
	if (run->lists)
		keep_all(run, n);
	else if (run->step == STEP_LOOK)
		find_node(run, n);
	else
		watch_node(run, n);
}

static void
on_looked(struct queue_nodes *n, enum err e)
{
	struct node_run *run = CONTAINER_OF(n, struct node_run, look);

	run->busy = false;
	if (e == ERR_OK)
		take_look(run, n);
	/* Who does not wait is not kept for that, nor told what may be true no more. */
	else if (e != ERR_AWAY || run->step != STEP_WATCH || !run->waits || is_late(run))
		refuse_for(run, e);
	if (run->step == STEP_WATCH && !run->done) {
		struct worker *w = ask_worker(run->asked);
		run->busy = true;
		timer_set(&w->timers, &run->again, w->now_ms + LOOK_AGAIN_MS);
		return;
	}
	ask_resume(run->asked);
}

static void
on_again(struct timer *t)
{
	struct node_run *run = CONTAINER_OF(t, struct node_run, again);

	run->busy = false;
	ask_resume(run->asked);
}

static void
on_ordered(struct queue_order *o, enum err e)
{
	struct node_run *run = CONTAINER_OF(o, struct node_run, order);
	const struct queue_node *n = run->nodes;

	run->busy = false;
	if (e != ERR_OK) {
		refuse_for(run, e);
	} else {
		event_node_ordered(ask_worker(run->asked)->log,
				   &(struct event_node_ordered){
					   .node = n->name,
					   .incarnation = n->incarnation,
					   .drains = run->drains,
					   .who = buf_span(&run->who),
					   .why = run->client->request.texts[ADMIN_ARG_REASON],
				   });
		run->step = STEP_WATCH;
	}
	ask_resume(run->asked);
}

static enum ask_step
node_slice(struct ask_part *p, uint64_t slice_us)
{
	struct node_run *run = CONTAINER_OF(p->ask, struct node_run, ask);
	struct queue *q = ask_worker(p)->queue;

	(void)slice_us;
	run->asked = p;
	if (run->busy)
		return ASK_WAIT;
	if (run->done || ask_is_cancelled(p))
		return ASK_DONE;
	run->busy = true;
	if (run->step == STEP_ORDER) {
		run->order = (struct queue_order){
			.incarnation = run->nodes->incarnation,
			.drains = run->drains,
			.on_done = on_ordered,
		};
		queue_order(q, &run->order);
		return ASK_WAIT;
	}
	run->look = (struct queue_nodes){ .on_done = on_looked };
	queue_nodes(q, &run->look);
	return ASK_WAIT;
}

/* ---- on the control thread ---- */

static struct span
state_word(enum queue_node_state state)
{
	switch (state) {
	case QUEUE_NODE_UP:
		return SPAN("up");
	case QUEUE_NODE_DRAINING:
		return SPAN("draining");
	case QUEUE_NODE_DRAINED:
		return SPAN("drained");
	case QUEUE_NODE_DEAD:
		break;
	}
	return SPAN("dead");
}

static struct admin_node
shown(const struct queue_node *n)
{
	return (struct admin_node){
		.name = n->name,
		.state = state_word(n->state),
		.mails = n->mails,
		.since = n->since_ms,
		.seen = n->seen_ms,
		.version = n->version,
		.listeners = n->listeners,
		.incarnation = n->incarnation,
		.here = n->is_this,
	};
}

static void
answer_list(const struct node_run *run)
{
	struct admin_client *c = run->client;
	struct admin_nodes all = { .nodes = run->count };

	for (unsigned i = 0; i < run->count; i++) {
		all.up += run->nodes[i].state == QUEUE_NODE_UP;
		all.mails += run->nodes[i].mails;
	}
	admin_object(c, ADMIN_SHAPE_nodes, &all);
	admin_rows(c, "rows");
	for (unsigned i = 0; i < run->count; i++) {
		struct admin_node row = shown(&run->nodes[i]);
		admin_row(c, ADMIN_SHAPE_node, &row);
	}
	admin_rows_end(c);
	admin_done(c);
}

static void
on_all(struct ask *a)
{
	struct node_run *run = CONTAINER_OF(a, struct node_run, ask);
	struct admin_client *c = run->client;

	if (admin_asked(c)) {
		if (run->error != ADMIN_OK) {
			admin_refuse(c, run->error, run->why);
		} else if (run->lists) {
			answer_list(run);
		} else {
			struct admin_node one = shown(run->nodes);
			admin_object(c, ADMIN_SHAPE_node, &one);
			admin_done(c);
		}
	}
	arena_reset(&run->texts);
	free(run);
}

static void
run_nodes(struct admin_client *c, bool lists)
{
	struct worker *first = &c->admin->control->crew[0].worker;

	if (!queue_has_nodes(first->queue)) {
		admin_refuse(c, ADMIN_REFUSED,
			     "there are no nodes: the queue is this relay's own (queue.store)");
		return;
	}
	struct node_run *run = calloc(1, sizeof *run);
	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->lists = lists;
	run->drains = !request_has(&c->request, ADMIN_ARG_UNDO);
	run->waits = !request_has(&c->request, ADMIN_ARG_NO_WAIT);
	run->until_ms = c->admin->worker->now_ms + WAIT_MOST_MS;
	run->who = buf_of(run->who_memory, sizeof run->who_memory);
	admin_write_who(c, &run->who);
	arena_init(&run->texts, TEXTS_FIRST, TEXTS_MOST);
	timer_init(&run->again, on_again);
	run->ask = (struct ask){
		.on_slice = node_slice,
		.on_done = on_all,
		.parts = &run->part,
	};
	admin_ask(c, &run->ask, 0, 1);
}

void
admin_run_node_list(struct admin_client *c)
{
	run_nodes(c, true);
}

void
admin_run_node_drain(struct admin_client *c)
{
	run_nodes(c, false);
}
