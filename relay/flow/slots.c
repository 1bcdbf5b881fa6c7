/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/slots.h"

#include <stdlib.h>

#include "queue/shares.h"
#include "relay/flow/flow.h"
#include "relay/flow/site.h"

enum {
	ASK_AGAIN_MS = 1000,
	TURN_MS = 2000, /* with one of too few slots */
	NEWS_MOST = 64, /* successes that are kept to oneself */
};

static struct flow *
flow_of_worker(struct site *site, unsigned number)
{
	return site->flow->worker->peers[number]->flow;
}

static void
letter_init(struct slot_letter *l, struct site *site, struct flow *to)
{
	*l = (struct slot_letter){ .site = site, .from = site->flow, .to = to };
}

void
slots_init(struct slots *s, struct site *site)
{
	*s = (struct slots){ 0 };
	/* Flows of other workers may not exist yet when a site is made: `to` is filled in by send.
	 */
	letter_init(&s->ask, site, NULL);
	letter_init(&s->give, site, NULL);
	letter_init(&s->tell, site, NULL);
}

struct slots_home *
slots_home_new(struct site *site)
{
	unsigned count = site->flow->worker->count;
	struct slots_home *h = calloc(1, sizeof *h + count * sizeof h->workers[0]);

	if (h == NULL)
		return NULL;
	list_init(&h->asking);
	h->places = UINT32_MAX;
	window_init(&h->window, 1, 1, !site->by_mx);
	for (unsigned i = 0; i < count; i++)
		letter_init(&h->workers[i].recall, site, NULL);
	return h;
}

/* Sends a letter of ours to worker `number`, with room reserved for its answer. Where that waits
 * for slots (`is_long`), it leaves places to the letters that bring some. The home's own never go
 * through a mailbox: all its places may be reserved for jobs that other homes have of us, whose
 * turn may have to wait for ours. */
static bool
post_letter(struct slot_letter *l, struct site *site, unsigned number, message_fn on_message,
	    bool is_long)
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
	if (is_long ? !mailbox_reserve_long(&mine->mailbox, 1)
		    : !mailbox_reserve(&mine->mailbox, 1))
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

/* To the home, with the news. */
static bool
post_home(struct slot_letter *l, struct site *site, message_fn on_message)
{
	struct slots *s = &site->slots;

	l->successes = s->successes;
	l->failures = s->failures;
	if (!post_letter(l, site, site->home, on_message, l == &s->ask))
		return false;
	s->told_success |= l->successes > 0;
	s->successes -= l->successes;
	s->failures -= l->failures;
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
	struct site *site = l->site;

	(void)context;
	ASSERT(l->out);
	l->out = false;
	site->slots.held += l->number;
	/* None: the home had no memory to keep its count. */
	if (l->number == 0)
		timer_set(&site->flow->worker->timers, &site->again,
			  site->flow->worker->now_ms + ASK_AGAIN_MS);
	else
		site_pump_soon(site);
}

static void
on_given(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);

	(void)context;
	ASSERT(l->out);
	l->out = false;
	site_pump_soon(l->site);
}

/* ---- the home ---- */

static void
on_recall_answered(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);

	(void)context;
	ASSERT(l->out);
	l->out = false;
	site_pump_soon(l->site);
}

/* The holder's part of a recall: what it can give comes by its own GIVE, so that there is one way
 * back for slots. The letter is answered when that has been done: until then the home does not ask
 * again. */
static void
on_recall(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = site_named(l->to, l->site->kind, l->site->name);

	(void)context;
	/* It may have given back all that it had, and gone. */
	if (site == NULL) {
		answer(l, on_recall_answered);
		return;
	}
	ASSERT(site->slots.recall == NULL);
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
count_of(const struct list *l)
{
	unsigned n = 0;

	for (struct list_node *i = list_first(l); i != NULL; i = list_next(l, i))
		n++;
	return n;
}

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* How many the site takes, as far as this node knows. */
static unsigned
window_limit_of(struct site *site)
{
	const struct shaping *shaping = site_shaping(site);
	struct window *w = &site->home_part->window;

	if (w->most != shaping->connections || w->first != shaping->connections_first)
		window_limit(w, shaping->connections_first, shaping->connections);
	return window_size(w);
}

/* How many may be out now. */
static unsigned
home_limit(struct site *site)
{
	return least(window_limit_of(site), site->home_part->places);
}

/* Tells the store how many places are needed; it says how many there are. */
static void
settle_places(struct site *site)
{
	struct slots_home *h = site->home_part;
	const struct shaping *shaping = site_shaping(site);
	struct shares *shares = shaping->shared ? queue_shares(site->flow->worker->queue) : NULL;
	unsigned wanted = h->out;

	h->places = UINT32_MAX;
	/* What it has noted must not outlive that, nor the site. */
	if (h->shares != NULL && shares == NULL)
		shares_places(h->shares, SPAN("site"), site->name, shaping->connections, 0, 0,
			      NULL);
	h->shares = shares;
	if (shares == NULL)
		return;
	for (struct list_node *i = list_first(&h->asking); i != NULL; i = list_next(&h->asking, i))
		wanted += LIST_ITEM(i, struct slot_letter, link)->number;
	wanted = least(wanted, window_limit_of(site));
	/* Of other workers' connections it is not known which are idle. */
	if (site->waiting.count == 0)
		wanted -= least(wanted, count_of(&site->idle));
	h->places = shares_places(shares, SPAN("site"), site->name, shaping->connections, h->out,
				  wanted, &site->pump);
}

/* An equal share for everyone who holds or asks; at least one, where there is one. */
static unsigned
equal_share(struct site *site)
{
	const struct slots_home *h = site->home_part;
	bool counts[WORKERS_MAX] = { false };
	unsigned n = 0;

	for (struct list_node *i = list_first(&h->asking); i != NULL; i = list_next(&h->asking, i))
		counts[LIST_ITEM(i, struct slot_letter, link)->from->worker->number] = true;
	for (unsigned i = 0; i < site->flow->worker->count; i++)
		n += counts[i] || h->workers[i].held > 0;
	unsigned limit = home_limit(site);
	if (limit == 0)
		return 0; /* other nodes have all */
	return n == 0 || limit / n == 0 ? 1 : limit / n;
}

/* Are there fewer slots than workers that want one, and has this one had its own for long enough?
 * Then it is another's turn. */
static bool
is_over(struct site *site, unsigned worker)
{
	const struct slots_home *h = site->home_part;
	uint64_t now_ms = site->flow->worker->now_ms;

	if (list_is_empty(&h->asking) || h->workers[worker].held != 1 || h->out < home_limit(site))
		return false;
	if (h->workers[worker].since_ms + TURN_MS <= now_ms)
		return true;
	if (!timer_is_set(&site->again))
		timer_set(&site->flow->worker->timers, &site->again, now_ms + TURN_MS);
	return false;
}

/* Does somebody ask who has less than the share? Who has it already may wait for what is left
 * over: taking from one to give to the other would only close good connections. */
static bool
is_needed(const struct slots_home *h, unsigned share)
{
	for (struct list_node *i = list_first(&h->asking); i != NULL;
	     i = list_next(&h->asking, i)) {
		unsigned worker = LIST_ITEM(i, struct slot_letter, link)->from->worker->number;
		if (h->workers[worker].held < share)
			return true;
	}
	return false;
}

/* Recalls from those that hold more than an equal share, while others wait with less or more is
 * out than may be. False where a mailbox is full. */
static bool
home_recall(struct site *site)
{
	struct slots_home *h = site->home_part;
	unsigned share = equal_share(site);

	if (!is_needed(h, share) && h->out <= home_limit(site))
		return true;
	for (unsigned i = 0; i < site->flow->worker->count; i++) {
		bool over = is_over(site, i);
		struct slots_share *w = &h->workers[i];
		if ((w->held <= share && !over) || w->recall.out)
			continue;
		w->recall.number = over ? 0 : share;
		if (!post_letter(&w->recall, site, i, on_recall, true))
			return false;
	}
	return true;
}

/* What the home has to do: it grants what is left, and recalls what others need more. */
static bool
home_settle(struct site *site)
{
	struct slots_home *h = site->home_part;

	settle_places(site);
	unsigned limit = home_limit(site);
	while (!list_is_empty(&h->asking) && h->out < limit) {
		unsigned left = limit - h->out;
		unsigned portion = (left + count_of(&h->asking) - 1) / count_of(&h->asking);
		struct slot_letter *l = LIST_ITEM(list_shift(&h->asking), struct slot_letter, link);
		l->number = l->number < portion ? l->number : portion;
		ASSERT(l->number > 0);
		h->out += l->number;
		struct slots_share *w = &h->workers[l->from->worker->number];
		if (w->held == 0)
			w->since_ms = site->flow->worker->now_ms;
		w->held += l->number;
		answer(l, on_granted);
	}
	return home_recall(site);
}

/* The home's own view of the site that a letter is about; it learns how it went. NULL: no memory.
 */
static struct site *
read_letter(struct slot_letter *l)
{
	struct site *site = site_of_name(l->to, l->site->kind, l->site->by_mx, l->site->name);

	if (site == NULL)
		return NULL;
	ASSERT(site->home_part != NULL);
	site->used_at_ms = site->flow->worker->now_ms;
	window_limit_of(site);
	if (l->failures > 0)
		window_failure(&site->home_part->window, l->failures);
	window_success(&site->home_part->window, l->successes);
	site_pump_soon(site);
	return site;
}

static void
on_ask(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = read_letter(l);

	(void)context;
	if (site == NULL) {
		l->number = 0;
		answer(l, on_granted);
		return;
	}
	list_append(&site->home_part->asking, &l->link);
}

static void
on_give(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);
	struct site *site = read_letter(l);
	unsigned from = l->from->worker->number;

	(void)context;
	/* What was granted here was counted here: the site exists as long as it is out. */
	ASSERT(site != NULL);
	ASSERT(site->home_part->out >= l->number &&
	       site->home_part->workers[from].held >= l->number);
	site->home_part->out -= l->number;
	site->home_part->workers[from].held -= l->number;
	answer(l, on_given);
}

static void
on_told(struct message *m, void *context)
{
	struct slot_letter *l = CONTAINER_OF(m, struct slot_letter, message);

	(void)context;
	read_letter(l);
	answer(l, on_given);
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

	ASSERT(s->held >= site->channels);
	bool sent = site->home_part == NULL || home_settle(site);
	end_recall(s);
	if (s->recall != NULL && wanted > s->recall->number)
		wanted = s->recall->number;
	if (wanted < site->channels)
		wanted = site->channels;
	/* Also while an ask is out: its answer may wait for just these slots. */
	if (s->held > wanted && !s->give.out) {
		s->give.number = s->held - wanted;
		if (!post_home(&s->give, site, on_give))
			return false;
		s->held = wanted;
	} else if (s->held < wanted && !s->ask.out) {
		s->ask.number = wanted - s->held;
		sent &= post_home(&s->ask, site, on_ask);
	}
	/* An ask that waits, ours or another's, may wait for what only these news can bring. */
	bool news = s->failures > 0 || s->successes >= NEWS_MOST ||
		    (s->successes > 0 && (s->ask.out || !s->told_success));
	if (news && !s->tell.out)
		sent &= post_home(&s->tell, site, on_told);
	return sent;
}

void
slots_success(struct site *site)
{
	site->slots.successes++;
}

void
slots_failure(struct site *site)
{
	site->slots.failures++;
	site_pump_soon(site);
}

bool
slots_home_is_idle(const struct slots_home *h)
{
	return h->out == 0 && list_is_empty(&h->asking);
}

bool
slots_are_quiet(const struct site *site)
{
	if (site->slots.ask.out || site->slots.give.out || site->slots.tell.out)
		return false;
	for (unsigned i = 0; site->home_part != NULL && i < site->flow->worker->count; i++) {
		if (site->home_part->workers[i].recall.out)
			return false;
	}
	return true;
}
