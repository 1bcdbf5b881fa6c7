/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/callout.h"

#include <stdlib.h>

#include "relay/flow/callout_parts.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum { KEY_MAX = ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX };

static const struct config_relay_callout *
options_of(const struct flow *f)
{
	return &f->routing->config->relay.callout;
}

static size_t
share(const struct flow *f, size_t total)
{
	return (total + f->worker->count - 1) / f->worker->count;
}

/* ---- lines ---- */

/* An old configuration is not kept longer than its texts are in use. */
static void
renew(struct callout_line *l, struct routing *r, const struct routing_step *to)
{
	if (l->routing == r || l->looking)
		return;
	routing_put(l->routing);
	l->routing = routing_get(r);
	l->target = to->target;
	l->way = to->way;
}

static struct callout_line *
line_of(struct flow *f, struct routing *r, const struct routing_step *to)
{
	struct callouts *all = &f->callouts;

	for (struct list_node *n = list_first(&all->lines); n != NULL;
	     n = list_next(&all->lines, n)) {
		struct callout_line *l = LIST_ITEM(n, struct callout_line, link);
		if (span_eq(l->way->name, to->way->name)) {
			/* The one in use is found first from now on. */
			list_unlink(&l->link);
			list_prepend(&all->lines, &l->link);
			renew(l, r, to);
			return l;
		}
	}
	struct callout_line *l = calloc(1, sizeof *l);
	if (l == NULL)
		return NULL;
	l->flow = f;
	l->routing = routing_get(r);
	l->target = to->target;
	l->way = to->way;
	callout_line_init(l);
	list_prepend(&all->lines, &l->link);
	return l;
}

static void
line_free(struct callout_line *l)
{
	ASSERT(l->conn == NULL && l->entries == 0 && !l->looking);
	task_cancel(&l->pump);
	timer_stop(&l->flow->worker->timers, &l->deadline);
	list_unlink(&l->link);
	if (l->plan != NULL)
		plan_put(l->plan);
	routing_put(l->routing);
	free(l);
}

void
callout_line_check(struct callout_line *l)
{
	if (l->conn == NULL && l->entries == 0 && !l->looking &&
	    l->pause_until_ms <= l->flow->worker->now_ms)
		line_free(l);
}

/* ---- the table ---- */

static struct callout_entry **
bucket_of(struct flow *f, uint64_t hash)
{
	return &f->callouts.buckets[hash % CALLOUT_BUCKETS];
}

static struct callout_entry *
find(struct flow *f, const struct callout_line *l, struct span address, uint64_t hash)
{
	struct callout_entry *e = *bucket_of(f, hash);

	while (e != NULL &&
	       (e->hash != hash || e->line != l || !span_eq(e->question.address, address)))
		e = e->next;
	return e;
}

/* Takes it out of the table; its line is looked at by the caller. */
static void
entry_free(struct callout_entry *e)
{
	struct flow *f = e->line->flow;
	struct callout_entry **at = bucket_of(f, e->hash);

	ASSERT(!e->open && list_is_empty(&e->waiters));
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	if (list_is_linked(&e->link)) {
		list_unlink(&e->link);
		f->callouts.answer_count--;
	}
	ASSERT(e->line->entries > 0);
	e->line->entries--;
	free(e);
}

static void
drop_answer(struct callout_entry *e)
{
	struct callout_line *l = e->line;

	entry_free(e);
	callout_line_check(l);
}

/* Makes room for one more among the answers. */
static void
make_room(struct flow *f)
{
	struct callouts *all = &f->callouts;
	size_t most = share(f, options_of(f)->answers_max);

	while (all->answer_count > 0 && all->answer_count + all->open_count >= most)
		drop_answer(LIST_ITEM(list_first(&all->answers), struct callout_entry, link));
}

static struct callout_entry *
entry_new(struct callout_line *l, struct span address, uint64_t hash)
{
	struct flow *f = l->flow;
	struct callout_entry *e = calloc(1, sizeof *e + address.size);

	if (e == NULL)
		return NULL;
	memcpy(e->address, address.data, address.size);
	e->question.address = span_of(e->address, address.size);
	list_init(&e->waiters);
	e->line = l;
	e->hash = hash;
	e->next = *bucket_of(f, hash);
	*bucket_of(f, hash) = e;
	l->entries++;
	return e;
}

void
callout_settle(struct callout_entry *e, enum callout_answer answer, struct span why)
{
	static const unsigned labels[] = {
		[CALLOUT_KNOWN] = LABEL_CALLOUT_KNOWN,
		[CALLOUT_UNKNOWN] = LABEL_CALLOUT_UNKNOWN,
		[CALLOUT_FAILED] = LABEL_CALLOUT_FAILED,
	};
	struct flow *f = e->line->flow;
	const struct config_relay_callout *o = options_of(f);
	struct list_node *n;

	ASSERT(e->open && answer != CALLOUT_PENDING);
	list_unlink(&e->link);
	e->open = false;
	f->callouts.open_count--;
	METRIC_ADD_LABEL(f->worker->metrics, CALLOUTS, labels[answer], 1);
	METRIC_SET(f->worker->metrics, CALLOUTS_OPEN, f->callouts.open_count);
	while ((n = list_shift(&e->waiters)) != NULL) {
		struct callout_waiter *w = LIST_ITEM(n, struct callout_waiter, link);
		w->on_answer(w, answer, why);
	}
	if (answer == CALLOUT_FAILED) {
		entry_free(e);
		return;
	}
	why = span_first(why, CALLOUT_TEXT_MAX);
	e->answer = (uint8_t)answer;
	e->why_size = (uint8_t)why.size;
	if (why.size > 0)
		memcpy(e->why, why.data, why.size);
	e->until_ms =
		f->worker->now_ms + (answer == CALLOUT_KNOWN ? o->positive_ms : o->negative_ms);
	list_append(&f->callouts.answers, &e->link);
	f->callouts.answer_count++;
	METRIC_SET(f->worker->metrics, CALLOUT_ANSWERS, f->callouts.answer_count);
}

/* ---- asking ---- */

/* The local part as it was sent, which its host alone may read, and the domain in lower case. */
static struct span
make_key(const struct address *a, struct buf *key)
{
	buf_append(key, a->local);
	buf_append_byte(key, '@');
	for (size_t i = 0; i < a->domain.size; i++)
		buf_append_byte(key, ascii_lower(a->domain.data[i]));
	ASSERT(!key->overflow);
	return buf_span(key);
}

static enum callout_answer
use_answer(struct callout_entry *e, struct span *why)
{
	struct flow *f = e->line->flow;

	METRIC_ADD(f->worker->metrics, CALLOUT_CACHE_HITS, 1);
	list_unlink(&e->link);
	list_append(&f->callouts.answers, &e->link);
	*why = span_of(e->why, e->why_size);
	return e->answer;
}

static enum callout_answer
begin(struct callout_line *l, struct span address, uint64_t hash, struct callout_waiter *w,
      struct span *why)
{
	struct flow *f = l->flow;

	if (l->pause_until_ms > f->worker->now_ms) {
		METRIC_ADD_LABEL(f->worker->metrics, CALLOUTS, LABEL_CALLOUT_FAILED, 1);
		*why = span_of(l->why, l->why_size);
		return CALLOUT_FAILED;
	}
	*why = SPAN("too many questions to next hops are open");
	if (f->callouts.open_count >= share(f, options_of(f)->questions_max)) {
		FLOW_LIMIT_HIT(f, CALLOUTS);
		METRIC_ADD_LABEL(f->worker->metrics, CALLOUTS, LABEL_CALLOUT_FAILED, 1);
		return CALLOUT_FAILED;
	}
	struct callout_entry *e = entry_new(l, address, hash);
	if (e == NULL)
		return CALLOUT_FAILED;
	make_room(f);
	e->open = true;
	e->until_ms = f->worker->now_ms + options_of(f)->deadline_ms;
	f->callouts.open_count++;
	METRIC_SET(f->worker->metrics, CALLOUTS_OPEN, f->callouts.open_count);
	list_append(&l->waiting, &e->link);
	list_append(&e->waiters, &w->link);
	callout_line_wake(l);
	return CALLOUT_PENDING;
}

enum callout_answer
callout_ask(struct flow *f, struct routing *r, const struct address *a, struct callout_waiter *w,
	    struct span *why)
{
	uint8_t memory[KEY_MAX];
	struct buf buffer = buf_of(memory, sizeof memory);
	struct routing_step to = routing_find_domain(r, a->domain);

	ASSERT(!list_is_linked(&w->link));
	ASSERT((to.kind == SITE_SMTP || to.kind == SITE_LMTP) && !to.by_mx);
	*why = SPAN("out of memory");
	struct callout_line *l = line_of(f, r, &to);
	if (l == NULL)
		return CALLOUT_FAILED;
	struct span address = make_key(a, &buffer);
	uint64_t hash = span_hash_nocase(address, f->key_seed ^ (uintptr_t)l);
	struct callout_entry *e = find(f, l, address, hash);
	if (e != NULL && e->open) {
		METRIC_ADD(f->worker->metrics, CALLOUTS_JOINED, 1);
		list_append(&e->waiters, &w->link);
		return CALLOUT_PENDING;
	}
	if (e != NULL && e->until_ms > f->worker->now_ms)
		return use_answer(e, why);
	if (e != NULL)
		entry_free(e);
	return begin(l, address, hash, w, why);
}

void
callout_forget(struct callout_waiter *w)
{
	list_unlink(&w->link);
}

/* ---- all of a worker ---- */

void
callouts_init(struct flow *f)
{
	list_init(&f->callouts.lines);
	list_init(&f->callouts.answers);
	pool_init(&f->callouts.conns, sizeof(struct callout_conn), CALLOUT_CONNS_MAX);
}

void
callouts_fini(struct flow *f)
{
	struct callouts *all = &f->callouts;
	struct list_node *n;

	callouts_stop(f);
	ASSERT(all->conn_count == 0 && all->open_count == 0);
	while ((n = list_first(&all->answers)) != NULL)
		entry_free(LIST_ITEM(n, struct callout_entry, link));
	while ((n = list_first(&all->lines)) != NULL)
		line_free(LIST_ITEM(n, struct callout_line, link));
	pool_fini(&all->conns);
}

void
callouts_drain(struct flow *f)
{
	struct list_node *n = list_first(&f->callouts.lines);

	while (n != NULL) {
		struct callout_line *l = LIST_ITEM(n, struct callout_line, link);
		n = list_next(&f->callouts.lines, n);
		callout_line_wake(l);
	}
}

void
callouts_stop(struct flow *f)
{
	struct list_node *n = list_first(&f->callouts.lines);

	while (n != NULL) {
		struct callout_line *l = LIST_ITEM(n, struct callout_line, link);
		n = list_next(&f->callouts.lines, n);
		callout_line_stop(l);
	}
}

bool
callouts_are_quiet(const struct flow *f)
{
	return f->callouts.conn_count == 0 && f->callouts.looking_count == 0;
}
