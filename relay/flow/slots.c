/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/slots.h"

#include "relay/flow/flow.h"
#include "relay/flow/site.h"

static struct flow *
flow_of_worker(struct site *site, unsigned number)
{
	return site->flow->worker->peers[number]->flow;
}

static void
letter_init(struct slot_letter *l, struct site *site, struct flow *to)
{
	*l = (struct slot_letter){ .site = site->info->id, .from = site->flow, .to = to };
}

void
slots_init(struct slots *s, struct site *site)
{
	*s = (struct slots){ 0 };
	/* Flows of other workers may not exist yet when a site is made: `to` is filled in by send.
	 */
	letter_init(&s->ask, site, NULL);
	letter_init(&s->give, site, NULL);
}

void
slots_home_init(struct slots_home *h, struct site *site)
{
	*h = (struct slots_home){ 0 };
	list_init(&h->asking);
	for (unsigned i = 0; i < site->flow->worker->count; i++)
		letter_init(&h->recall[i], site, NULL);
}

/* Sends a letter of ours to worker `number`, with room reserved for its answer. The home's own
 * never go through a mailbox: all its places may be reserved for jobs that other homes have of us,
 * whose turn may have to wait for ours. */
static bool
post_letter(struct slot_letter *l, struct site *site, unsigned number, message_fn on_message)
{
	struct worker *mine = site->flow->worker;
	struct worker *theirs = mine->peers[number];

	ASSERT(!l->out);
	if (mine == theirs) {
		l->out = true;
		l->to = l->from;
		on_message(&l->message, NULL);
		return true;
	}
	if (!mailbox_reserve(&mine->mailbox, 1))
		return false;
	if (!mailbox_reserve(&theirs->mailbox, 1)) {
		mailbox_unreserve(&mine->mailbox, 1);
		return false;
	}
	l->out = true;
	l->to = flow_of_worker(site, number);
	l->message.on_message = on_message;
	worker_post(mine, theirs, &l->message);
	return true;
}

static void
answer(struct slot_letter *l, message_fn on_answer)
{
	if (l->to == l->from) {
		on_answer(&l->message, NULL);
		return;
	}
	l->message.on_message = on_answer;
	worker_post(l->to->worker, l->from->worker, &l->message);
}

/* ---- answers, on the worker that owns the letter ---- */

static void
on_granted(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = site_of_number(l->from, l->site);

	(void)context;
	ASSERT(site != NULL && l->out);
	l->out = false;
	site->slots.held += l->number;
	site_pump_soon(site);
}

static void
on_given(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = site_of_number(l->from, l->site);

	(void)context;
	ASSERT(site != NULL && l->out);
	l->out = false;
	site_pump_soon(site);
}

/* ---- the home ---- */

static void
on_recall_answered(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);

	(void)context;
	ASSERT(l->out);
	l->out = false;
	site_pump_soon(site_of_number(l->from, l->site));
}

/* The holder's part of a recall: what it can give comes by its own GIVE, so that there is one way
 * back for slots. The letter is answered when that has been done: until then the home does not ask
 * again. */
static void
on_recall(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = site_of_number(l->to, l->site);

	(void)context;
	ASSERT(site != NULL && site->slots.recall == NULL && l->number > 0);
	site->slots.recall = l;
	site_pump_soon(site);
}

/* A recall is obeyed once; who wants more after it asks again, behind the others. */
static void
end_recall(struct slots *s)
{
	struct slot_letter *l = s->recall;

	if (l == NULL || s->held > l->number)
		return;
	s->recall = NULL;
	answer(l, on_recall_answered);
}

static unsigned
asking_count(const struct slots_home *h)
{
	unsigned n = 0;

	for (struct list_node *i = list_first(&h->asking); i != NULL; i = list_next(&h->asking, i))
		n++;
	return n;
}

/* An equal share for everyone who holds or asks; at least one. */
static unsigned
equal_share(const struct site *site)
{
	const struct slots_home *h = site->home;
	bool counts[WORKERS_MAX] = { false };
	unsigned n = 0;

	for (struct list_node *i = list_first(&h->asking); i != NULL; i = list_next(&h->asking, i))
		counts[LIST_ITEM(i, struct slot_letter, link)->from->worker->number] = true;
	for (unsigned i = 0; i < site->flow->worker->count; i++)
		n += counts[i] || h->held[i] > 0;
	unsigned limit = site_limit(site->info);
	return n == 0 || limit / n == 0 ? 1 : limit / n;
}

/* Does somebody ask who has less than the share? Who has it already may wait for what is left
 * over: taking from one to give to the other would only close good connections. */
static bool
is_needed(const struct slots_home *h, unsigned share)
{
	for (struct list_node *i = list_first(&h->asking); i != NULL;
	     i = list_next(&h->asking, i)) {
		if (h->held[LIST_ITEM(i, struct slot_letter, link)->from->worker->number] < share)
			return true;
	}
	return false;
}

/* Recalls from those that hold more than an equal share, while others wait with less or more is
 * out than may be. False where a mailbox is full. */
static bool
home_recall(struct site *site)
{
	struct slots_home *h = site->home;
	unsigned share = equal_share(site);

	if (!is_needed(h, share) && h->out <= site_limit(site->info))
		return true;
	for (unsigned i = 0; i < site->flow->worker->count; i++) {
		if (h->held[i] <= share || h->recall[i].out)
			continue;
		h->recall[i].number = share;
		if (!post_letter(&h->recall[i], site, i, on_recall))
			return false;
	}
	return true;
}

/* What the home has to do: it grants what is left, and recalls what others need more. */
static bool
home_settle(struct site *site)
{
	struct slots_home *h = site->home;
	unsigned limit = site_limit(site->info);

	while (!list_is_empty(&h->asking) && h->out < limit) {
		unsigned left = limit - h->out;
		unsigned portion = (left + asking_count(h) - 1) / asking_count(h);
		struct slot_letter *l = LIST_ITEM(list_shift(&h->asking), struct slot_letter, link);
		l->number = l->number < portion ? l->number : portion;
		ASSERT(l->number > 0);
		h->out += l->number;
		h->held[l->from->worker->number] += l->number;
		answer(l, on_granted);
	}
	return home_recall(site);
}

static void
on_ask(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = site_of_number(l->to, l->site);

	(void)context;
	ASSERT(site != NULL && site->home != NULL);
	list_append(&site->home->asking, &l->link);
	site_pump_soon(site);
}

static void
on_give(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = site_of_number(l->to, l->site);
	unsigned from = l->from->worker->number;

	(void)context;
	ASSERT(site != NULL && site->home != NULL);
	ASSERT(site->home->out >= l->number && site->home->held[from] >= l->number);
	site->home->out -= l->number;
	site->home->held[from] -= l->number;
	answer(l, on_given);
	site_pump_soon(site);
}

unsigned
slots_usable(const struct slots *s)
{
	const struct slot_letter *recall = s->recall;

	return recall != NULL && recall->number < s->held ? recall->number : s->held;
}

bool
slots_settle(struct site *site, unsigned wanted)
{
	struct slots *s = &site->slots;
	unsigned home = site->info->home;

	ASSERT(s->held >= site->channels);
	bool sent = site->home == NULL || home_settle(site);
	end_recall(s);
	if (s->recall != NULL && wanted > s->recall->number)
		wanted = s->recall->number;
	if (wanted < site->channels)
		wanted = site->channels;
	/* Also while an ask is out: its answer may wait for just these slots. */
	if (s->held > wanted && !s->give.out) {
		s->give.number = s->held - wanted;
		if (!post_letter(&s->give, site, home, on_give))
			return false;
		s->held = wanted;
	} else if (s->held < wanted && !s->ask.out) {
		s->ask.number = wanted - s->held;
		sent &= post_letter(&s->ask, site, home, on_ask);
	}
	return sent;
}

bool
slots_are_quiet(const struct site *site)
{
	if (site->slots.ask.out || site->slots.give.out)
		return false;
	for (unsigned i = 0; site->home != NULL && i < site->flow->worker->count; i++) {
		if (site->home->recall[i].out)
			return false;
	}
	return true;
}
