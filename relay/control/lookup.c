/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/lookup.h"

#include "core/base/assert.h"

enum { CANCEL_CHECK_MS = 100 };

static void
end_questions(struct lookup *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (l->questions[i].open)
			return;
	}
	timer_stop(&ask_worker(&l->part)->timers, &l->check);
	ask_resume(&l->part);
}

static void
on_answer(struct dns_query *query, struct dns_answer *a)
{
	struct lookup_question *q = CONTAINER_OF(query, struct lookup_question, query);

	q->open = false;
	q->answer = dns_answer_get(a);
	end_questions(q->lookup);
}

/* A relay that ends does not wait for the DNS. */
static void
on_check(struct timer *t)
{
	struct lookup *l = CONTAINER_OF(t, struct lookup, check);
	struct worker *w = ask_worker(&l->part);

	if (!ask_is_cancelled(&l->part)) {
		timer_set(&w->timers, t, w->now_ms + CANCEL_CHECK_MS);
		return;
	}
	for (unsigned i = 0; i < l->count; i++) {
		if (l->questions[i].open)
			resolver_cancel(&l->questions[i].query);
		l->questions[i].open = false;
	}
	end_questions(l);
}

static enum ask_step
on_slice(struct ask_part *part, uint64_t slice_us)
{
	struct lookup *l = CONTAINER_OF(part->ask, struct lookup, ask);
	struct worker *w = ask_worker(part);

	(void)slice_us;
	if (l->begun || ask_is_cancelled(part))
		return ASK_DONE;
	l->begun = true;
	timer_init(&l->check, on_check);
	timer_set(&w->timers, &l->check, w->now_ms + CANCEL_CHECK_MS);
	for (unsigned i = 0; i < l->count; i++) {
		struct lookup_question *q = &l->questions[i];
		q->open = true;
		q->query = (struct dns_query){ .on_done = on_answer };
		resolver_ask(w->resolver, &q->query, span_of(q->name, q->name_size), q->type);
	}
	return ASK_WAIT;
}

static void
on_asked(struct ask *a)
{
	struct lookup *l = CONTAINER_OF(a, struct lookup, ask);

	l->on_done(l);
}

void
lookup_init(struct lookup *l, void (*on_done)(struct lookup *l))
{
	*l = (struct lookup){ .on_done = on_done };
	l->ask = (struct ask){ .on_slice = on_slice, .on_done = on_asked, .parts = &l->part };
}

void
lookup_add(struct lookup *l, const char *prefix, struct span name, enum dns_type type)
{
	ASSERT(l->count < LOOKUP_MAX);
	struct lookup_question *q = &l->questions[l->count++];
	struct buf text = buf_of(q->name, sizeof q->name);

	buf_append_string(&text, prefix);
	buf_append(&text, name);
	ASSERT(!text.overflow);
	q->lookup = l;
	q->type = type;
	q->name_size = (uint16_t)text.size;
}

void
lookup_start(struct lookup *l, struct asker *asker, unsigned worker)
{
	ASSERT(l->count > 0);
	ask_start(asker, &l->ask, worker, 1);
}

void
lookup_cancel(struct lookup *l)
{
	ask_cancel(&l->ask);
}

void
lookup_fini(struct lookup *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (l->questions[i].answer != NULL)
			dns_answer_put(l->questions[i].answer);
		l->questions[i].answer = NULL;
	}
	l->count = 0;
}
