/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/spf_check.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/inside.h"
#include "dns/spf_record.h"

enum {
	TELL_PER_TURN = 256,
	CHECKS_MAX = 8192, /* of a worker; some 7 KiB each */
	SPARES_MAX = 32,   /* machines that are kept for the next */
};

struct spf_service {
	struct resolver *resolver;
	struct cache *records; /* struct spf_record, by domain */
	unsigned under_way;
	unsigned checks_max;
	struct list done;    /* struct check, to be told */
	struct list refused; /* struct spf_check, likewise */
	struct task telling;
	struct spf *spares[SPARES_MAX];
	unsigned spare_count;
};

/* The work of one struct spf_check. */
struct check {
	struct list_node node; /* in `done` */
	struct spf_service *service;
	struct spf_check *owner;
	struct spf *machine;
	struct dns_query query; /* the one that is open, by its state */
	bool wants_record;
	struct timer timer;
};

/* What all get for whom there is no machine. */
static const struct spf_outcome no_room = {
	.result = SPF_TEMPERROR,
	.problem = { (const uint8_t *)"too many checks are under way", 29 },
};

static void
free_check(struct check *c)
{
	struct spf_service *s = c->service;

	ASSERT(s->under_way > 0);
	s->under_way--;
	if (s->spare_count < SPARES_MAX)
		s->spares[s->spare_count++] = c->machine;
	else
		spf_free(c->machine);
	free(c);
}

/* ---- telling ---- */

static void
end_check(struct check *c)
{
	struct spf_service *s = c->service;

	timer_stop(&s->resolver->worker->timers, &c->timer);
	list_append(&s->done, &c->node);
	worker_soon(s->resolver->worker, &s->telling);
}

/* The outcome of a machine stays with it until it begins again, which it cannot before it is a
 * spare. */
static void
tell_check(struct check *c)
{
	struct spf_check *owner = c->owner;

	ASSERT(owner->work == c);
	owner->work = NULL;
	owner->on_done(owner, spf_outcome(c->machine));
	free_check(c);
}

static void
tell_refused(struct spf_check *owner)
{
	owner->work = NULL;
	owner->on_done(owner, &no_room);
}

static void
on_telling(struct task *t)
{
	struct spf_service *s = CONTAINER_OF(t, struct spf_service, telling);
	struct list_node *node;

	for (unsigned i = 0; i < TELL_PER_TURN && (node = list_shift(&s->refused)) != NULL; i++)
		tell_refused(LIST_ITEM(node, struct spf_check, link));
	for (unsigned i = 0; i < TELL_PER_TURN && (node = list_shift(&s->done)) != NULL; i++)
		tell_check(LIST_ITEM(node, struct check, node));
	if (!list_is_empty(&s->done) || !list_is_empty(&s->refused))
		worker_soon(s->resolver->worker, &s->telling);
	resolver_maybe_stopped(s->resolver);
}

/* ---- answers ---- */

static void
give_answer(struct check *c, struct span name, bool is_record, struct dns_answer *a)
{
	struct spf_service *s = c->service;
	struct spf_record *record = is_record ? spf_record_new(a) : NULL;

	if (record == NULL) {
		spf_answer(c->machine, a);
		return;
	}
	/* A failure is no record; the resolver remembers it for as long as it should. */
	if (record->kind != SPF_RECORD_FAILED && !a->is_fleeting)
		cache_put(s->records, name, 0, spf_record_get(record), spf_record_bytes(record),
			  record->expires_at_ms);
	spf_answer_record(c->machine, record);
	spf_record_put(record);
}

/* Answers what can be answered at once; false: a question is open now. */
static bool
answer_at_hand(struct check *c, const struct spf_question *q)
{
	struct spf_service *s = c->service;
	uint64_t now_ms = s->resolver->worker->now_ms;
	struct spf_record *known = q->is_record ? cache_find(s->records, q->name, 0, now_ms) : NULL;

	if (known != NULL) {
		spf_answer_record(c->machine, known);
		return true;
	}
	struct dns_answer *a = resolver_peek(s->resolver, q->name, q->type);
	bool is_good = a != NULL && !a->is_fleeting;
	if (is_good)
		give_answer(c, q->name, q->is_record, a);
	if (a != NULL)
		dns_answer_put(a);
	if (is_good)
		return true;
	c->wants_record = q->is_record;
	resolver_ask(s->resolver, &c->query, q->name, q->type);
	return false;
}

/* False: a question is open; else there is an outcome. */
static bool
advance(struct check *c)
{
	struct spf_question q;

	while (spf_next(c->machine, &q)) {
		if (!answer_at_hand(c, &q))
			return false;
	}
	return true;
}

static void
on_answer(struct dns_query *query, struct dns_answer *a)
{
	struct check *c = CONTAINER_OF(query, struct check, query);

	give_answer(c, span_of_string(query->name), c->wants_record, a);
	if (advance(c))
		end_check(c);
}

static void
on_deadline(struct timer *t)
{
	struct check *c = CONTAINER_OF(t, struct check, timer);

	if (c->query.resolver != NULL)
		resolver_cancel(&c->query);
	spf_give_up(c->machine, SPAN("the DNS did not answer all questions within 20 s"));
	end_check(c);
}

/* ---- starting ---- */

static struct check *
new_check(struct spf_service *s)
{
	struct check *c = s->under_way < s->checks_max ? calloc(1, sizeof *c) : NULL;

	if (c == NULL)
		return NULL;
	c->machine = s->spare_count > 0 ? s->spares[--s->spare_count] : spf_new();
	if (c->machine == NULL) {
		free(c);
		return NULL;
	}
	s->under_way++;
	c->service = s;
	return c;
}

/* NULL: there was no room, which on_done will say. */
static struct check *
begin_check(struct spf_check *owner, struct resolver *r, const struct spf_inputs *in)
{
	struct spf_service *s = r->spf;
	struct check *c = new_check(s);

	OBJ_CHECK(r, RESOLVER_MAGIC);
	ASSERT(owner->work == NULL && owner->on_done != NULL);
	owner->resolver = r;
	owner->link = (struct list_node){ 0 };
	if (c == NULL) {
		DNS_COUNT_LABEL(r, LIMIT_HITS, LABEL_LIMIT_DNS_WAITING, 1);
		owner->work = s;
		list_append(&s->refused, &owner->link);
		worker_soon(r->worker, &s->telling);
		return NULL;
	}
	owner->work = c;
	c->owner = owner;
	c->query.on_done = on_answer;
	c->query.is_strict = true;
	timer_init(&c->timer, on_deadline);
	spf_begin(c->machine, in, NULL, NULL);
	return c;
}

static void
wait_for_answers(struct check *c)
{
	struct worker *w = c->service->resolver->worker;

	timer_set(&w->timers, &c->timer, w->now_ms + SPF_DEADLINE_MS);
}

void
spf_check_start(struct spf_check *owner, struct resolver *r, const struct spf_inputs *in)
{
	struct check *c = begin_check(owner, r, in);

	if (c == NULL)
		return;
	if (advance(c))
		end_check(c);
	else
		wait_for_answers(c);
}

const struct spf_outcome *
spf_check_try(struct spf_check *owner, struct resolver *r, const struct spf_inputs *in)
{
	struct check *c = begin_check(owner, r, in);

	if (c == NULL)
		return NULL;
	if (!advance(c)) {
		wait_for_answers(c);
		return NULL;
	}
	const struct spf_outcome *o = spf_outcome(c->machine);
	owner->work = NULL;
	/* Its machine becomes a spare, since it was one or there was none. */
	ASSERT(c->service->spare_count < SPARES_MAX);
	free_check(c);
	return o;
}

void
spf_check_cancel(struct spf_check *owner)
{
	struct check *c = owner->work;

	if (c == NULL)
		return;
	owner->work = NULL;
	if ((void *)c == owner->resolver->spf) { /* refused, and not told yet */
		list_unlink(&owner->link);
		return;
	}
	if (c->query.resolver != NULL)
		resolver_cancel(&c->query);
	timer_stop(&owner->resolver->worker->timers, &c->timer);
	list_unlink(&c->node);
	free_check(c);
}

/* ---- the service ---- */

static void
drop_record(void *object)
{
	spf_record_put(object);
}

struct spf_service *
spf_service_new(struct resolver *r, size_t cache_bytes)
{
	struct spf_service *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->resolver = r;
	s->checks_max = r->under_way_max + r->waiting_max / 4;
	if (s->checks_max > CHECKS_MAX)
		s->checks_max = CHECKS_MAX;
	s->records = cache_new(cache_bytes, r->seed, drop_record);
	if (s->records == NULL) {
		free(s);
		return NULL;
	}
	list_init(&s->done);
	list_init(&s->refused);
	task_init(&s->telling, on_telling);
	return s;
}

void
spf_service_free(struct spf_service *s)
{
	if (s == NULL)
		return;
	ASSERT(s->under_way == 0 && list_is_empty(&s->refused));
	while (s->spare_count > 0)
		spf_free(s->spares[--s->spare_count]);
	cache_free(s->records);
	free(s);
}

bool
spf_service_is_idle(const struct spf_service *s)
{
	return s->under_way == 0 && list_is_empty(&s->refused);
}
