/* SPDX-License-Identifier: Apache-2.0
 *
 * Handing out: a claim takes from one part, and what that leaves open from the other. Each in turn
 * is the first, so that neither waits for the other to be empty.
 *
 * What the first one tells of after its answer would be forgotten by who takes a claim that brought
 * less than asked for as the end of what is due: it is told again when the whole is answered.
 */
#include "queue/pair/internal.h"

struct pair_claim {
	struct queue_claim claim; /* the part's */
	struct queue_claim *outer;
	struct pair_end *end;
	struct list_node node; /* end->finishing */
	struct list_node open; /* end->claims_open */
	bool due_again;        /* a part has told of the site meanwhile */
	unsigned next;         /* part, */
	unsigned left;         /* and how many are to be asked */
	uint32_t got;          /* items */
	enum err error;
};

static void on_claimed(struct queue_claim *c, enum err e);

size_t
pair_claim_size_of(void)
{
	return sizeof(struct pair_claim);
}

static void
end_claim(struct pair_claim *c)
{
	struct pair_end *e = c->end;
	struct queue_claim *outer = c->outer;
	struct site_id site = outer->site;
	enum err error = c->got == 0 ? c->error : ERR_OK;
	bool due_again = c->due_again;

	list_unlink(&c->open);
	pool_put(&e->claims, c);
	outer->on_done(outer, error);
	if (due_again)
		e->pair->store.hooks.on_due(&e->queue, site);
}

bool
pair_note_due(struct pair_end *e, struct site_id site)
{
	for (struct list_node *n = list_first(&e->claims_open); n != NULL;
	     n = list_next(&e->claims_open, n)) {
		struct pair_claim *c = LIST_ITEM(n, struct pair_claim, open);
		if (c->outer->site.number != site.number || c->outer->by_id)
			continue;
		c->due_again = true;
		return true;
	}
	return false;
}

/* Asks the next part; false: there is none. */
static bool
ask_next(struct pair_claim *c)
{
	struct pair_end *e = c->end;
	const struct queue_claim *outer = c->outer;

	while (c->left > 0 && c->got < outer->most) {
		unsigned at = c->next;
		struct queue *part = e->parts[at];
		c->next = 1 - at;
		c->left--;
		if (!part->driver->may_deliver(part)) {
			pair_note_skipped(e, at);
			continue;
		}
		c->claim = (struct queue_claim){
			.site = outer->site,
			.most = outer->most - c->got,
			.by_id = outer->by_id,
			.id = outer->id,
			.with_bodies = outer->with_bodies,
			.on_done = on_claimed,
		};
		part->driver->claim(part, &c->claim);
		return true;
	}
	return false;
}

static void
on_claimed(struct queue_claim *claim, enum err error)
{
	struct pair_claim *c = CONTAINER_OF(claim, struct pair_claim, claim);
	struct list_node *n;

	while ((n = list_shift(&claim->items)) != NULL) {
		list_append(&c->outer->items, n);
		c->got++;
	}
	if (error != ERR_OK)
		c->error = error;
	if (!ask_next(c))
		end_claim(c);
}

void
pair_finish_run(struct task *t)
{
	struct pair_end *e = CONTAINER_OF(t, struct pair_end, finish_task);
	struct list now;
	struct list_node *node;

	list_init(&now);
	list_take_all(&now, &e->finishing);
	while ((node = list_shift(&now)) != NULL)
		end_claim(LIST_ITEM(node, struct pair_claim, node));
	pair_refuse_run(e);
	pair_try_stopped(e);
}

void
pair_claim(struct queue *q, struct queue_claim *outer)
{
	struct pair_end *e = pair_end_of(q);
	struct pair_claim *c = pool_get(&e->claims);
	unsigned first = e->turn;

	e->turn = 1 - first;
	list_init(&outer->items);
	if (c == NULL) { /* no memory for more than one part */
		pair_note_skipped(e, 1 - first);
		e->parts[first]->driver->claim(e->parts[first], outer);
		return;
	}
	*c = (struct pair_claim){ .outer = outer, .end = e, .next = first, .left = PAIR_PARTS };
	list_append(&e->claims_open, &c->open);
	if (ask_next(c))
		return;
	list_append(&e->finishing, &c->node);
	worker_soon(q->worker, &e->finish_task);
}
