/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "queue/turns/turns.h"

/* Items of a store that keeps nothing else: what turns/ promises to any store. */

enum { MAILS = 6000, NOW_MS = 1000000 };

struct mail {
	struct queue_mail mail; /* first */
	uint64_t size;
};

struct world {
	struct worker worker;
	struct queue_store store;
	struct queue queue;
	struct turns turns;
	struct mail mails[MAILS];
	struct turns_item items[MAILS];
	unsigned count;
	unsigned due;
	struct site_id due_site;
	unsigned unused;
	struct site_id unused_site;
};

static void
on_due(struct queue *q, struct site_id site)
{
	struct world *w = q->store->hooks.context;

	w->due++;
	w->due_site = site;
}

static void
on_site_unused(struct queue *q, struct site_id site)
{
	struct world *w = q->store->hooks.context;

	w->unused++;
	w->unused_site = site;
}

static uint32_t
weight_of(struct queue *q, struct span sender)
{
	(void)q;
	return span_eq(sender, SPAN("heavy@x")) ? 3 : 1;
}

static uint64_t
size_of(const struct queue_mail *m)
{
	return ((const struct mail *)(const void *)m)->size;
}

static int
set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	timers_init(&w->worker.timers, 0);
	list_init(&w->worker.tasks);
	w->worker.now_wall_ms = NOW_MS;
	w->store.hooks = (struct queue_hooks){ .on_due = on_due,
					       .on_site_unused = on_site_unused,
					       .weight_of = weight_of,
					       .context = w };
	OBJ_INIT(&w->queue, QUEUE_MAGIC);
	w->queue.store = &w->store;
	w->queue.worker = &w->worker;
	assert_true(turns_init(&w->turns, &w->queue, 7, size_of));
	turns_start(&w->turns);
	*state = w;
	return 0;
}

static void
run_tasks(struct world *w)
{
	struct list_node *n;

	while ((n = list_shift(&w->worker.tasks)) != NULL) {
		struct task *t = LIST_ITEM(n, struct task, node);
		t->on_run(t);
	}
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	turns_stop(&w->turns);
	for (unsigned i = 0; i < w->count; i++) {
		if (w->items[i].lane == NULL)
			continue;
		if (w->items[i].state == 1)
			turns_take(&w->items[i]);
		turns_unname(w->items[i].lane);
	}
	assert_int_equal(w->turns.item_count, 0);
	turns_fini(&w->turns);
	assert_int_equal(w->turns.memory_bytes, 0);
	assert_int_equal(w->turns.lane_count, 0);
	assert_true(list_is_empty(&w->worker.tasks));
	free(w);
	return 0;
}

static struct turns_item *
named(struct world *w, uint32_t site, const char *sender, uint64_t size)
{
	struct mail *m = &w->mails[w->count];
	struct turns_item *i = &w->items[w->count++];

	OBJ_INIT(&m->mail, QUEUE_MAIL_MAGIC);
	OBJ_INIT(&i->item, QUEUE_ITEM_MAGIC);
	m->size = size;
	i->item.mail = &m->mail;
	i->item.site.number = site;
	i->lane = turns_name(&w->turns, i->item.site, span_of_string(sender), &i->item.sender_key);
	assert_non_null(i->lane);
	return i;
}

static struct turns_item *
waiting(struct world *w, uint32_t site, const char *sender, uint64_t size, uint64_t due_at_ms)
{
	struct turns_item *i = named(w, site, sender, size);

	i->item.due_at_ms = due_at_ms;
	i->state = 1;
	turns_wait(i);
	return i;
}

/* NULL: nothing is due. */
static struct turns_item *
taken(struct world *w, uint32_t site)
{
	struct turns_site *s = turns_find(&w->turns, (struct site_id){ site });
	struct turns_item *i = s == NULL ? NULL : turns_next(s, w->worker.now_wall_ms);

	if (i == NULL)
		return NULL;
	turns_take(i);
	i->state = 0;
	return i;
}

static void
the_earliest_of_a_sender_goes_first(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t ago_ms = i * 7919 % 1000;
		waiting(w, 3, "a@x", 100, NOW_MS - ago_ms);
	}
	struct turns_item *later = waiting(w, 3, "a@x", 100, NOW_MS + 1);
	uint64_t last_ms = 0;
	for (unsigned i = 0; i < 1000; i++) {
		struct turns_item *t = taken(w, 3);
		assert_non_null(t);
		assert_true(t->item.due_at_ms >= last_ms);
		last_ms = t->item.due_at_ms;
	}
	assert_null(taken(w, 3));
	w->worker.now_wall_ms++;
	assert_ptr_equal(taken(w, 3), later);
}

static void
a_crowd_holds_up_nobody(void **state)
{
	struct world *w = *state;
	unsigned alone = 0;
	unsigned heavy = 0;

	for (unsigned i = 0; i < 2000; i++)
		waiting(w, 3, "crowd@x", 100, NOW_MS - 1000);
	for (unsigned i = 0; i < 500; i++)
		waiting(w, 3, "heavy@x", 100, NOW_MS - 500);
	struct turns_item *one = waiting(w, 3, "one@x", 100, NOW_MS);
	for (unsigned i = 0; i < 40; i++) {
		struct turns_item *t = taken(w, 3);
		assert_non_null(t);
		if (t == one)
			alone = i + 1;
		heavy += t->lane == w->items[2000].lane;
	}
	assert_in_range(alone, 1, 20);  /* a turn of each of the others: 4 and 12 mails */
	assert_in_range(heavy, 24, 36); /* three times the share of the crowd */
}

/* What was claimed and not tried costs its sender nothing. */
static void
who_was_not_tried_does_not_pay(void **state)
{
	struct world *w = *state;
	unsigned first = 0;

	for (unsigned i = 0; i < 100; i++)
		waiting(w, 3, "a@x", 100, NOW_MS - 2);
	for (unsigned i = 0; i < 100; i++)
		waiting(w, 3, "b@x", 100, NOW_MS - 1);
	for (unsigned i = 0; i < 50; i++) {
		struct turns_item *t = taken(w, 3);
		t->state = 1;
		turns_wait(t);
	}
	struct turns_item *a = taken(w, 3);
	for (unsigned i = 0; i < 7; i++)
		first += taken(w, 3)->lane == a->lane;
	assert_in_range(first, 3, 4);
}

static void
what_is_due_is_told_once(void **state)
{
	struct world *w = *state;
	struct turns_site *s;

	waiting(w, 5, "a@x", 100, NOW_MS);
	waiting(w, 5, "b@x", 100, NOW_MS);
	assert_int_equal(w->due, 0); /* never inside the call */
	run_tasks(w);
	assert_int_equal(w->due, 1);
	assert_int_equal(w->due_site.number, 5);
	waiting(w, 5, "c@x", 100, NOW_MS);
	run_tasks(w);
	assert_int_equal(w->due, 1);
	assert_non_null(taken(w, 5));
	s = turns_find(&w->turns, (struct site_id){ 5 });
	turns_claimed(s);
	run_tasks(w);
	assert_int_equal(w->due, 2);
}

static void
what_comes_due_is_told_by_the_timer(void **state)
{
	struct world *w = *state;

	waiting(w, 5, "a@x", 100, NOW_MS + 5000);
	run_tasks(w);
	assert_int_equal(w->due, 0);
	w->worker.now_ms += 4000;
	w->worker.now_wall_ms += 4000;
	timers_run(&w->worker.timers, w->worker.now_ms);
	run_tasks(w);
	assert_int_equal(w->due, 0);
	w->worker.now_ms += 2000;
	w->worker.now_wall_ms += 2000;
	timers_run(&w->worker.timers, w->worker.now_ms);
	run_tasks(w);
	assert_int_equal(w->due, 1);
}

static void
nobody_is_told_after_the_end(void **state)
{
	struct world *w = *state;
	struct turns_item *i = named(w, 5, "a@x", 100);

	waiting(w, 5, "b@x", 100, NOW_MS);
	waiting(w, 6, "b@x", 100, NOW_MS + 10);
	turns_stop(&w->turns);
	turns_unname(i->lane);
	i->lane = NULL;
	w->worker.now_ms += 1000;
	w->worker.now_wall_ms += 1000;
	timers_run(&w->worker.timers, w->worker.now_ms);
	run_tasks(w);
	assert_int_equal(w->due, 0);
	assert_int_equal(w->unused, 0);
}

static void
a_site_without_items_is_told(void **state)
{
	struct world *w = *state;
	struct turns_item *a = named(w, 8, "a@x", 100);
	struct turns_item *b = named(w, 8, "b@x", 100);

	turns_unname(a->lane);
	run_tasks(w);
	assert_int_equal(w->unused, 0);
	turns_unname(b->lane);
	assert_int_equal(w->unused, 0); /* never inside the call */
	run_tasks(w);
	assert_int_equal(w->unused, 1);
	assert_int_equal(w->unused_site.number, 8);
	assert_null(turns_find(&w->turns, (struct site_id){ 8 }));
	a->lane = b->lane = NULL;
}

/* Behind the limit of senders further ones share lanes, and each is found all the same. */
static void
too_many_senders_share(void **state)
{
	struct world *w = *state;
	unsigned exact = 0;
	char sender[32];

	for (unsigned i = 0; i < MAILS; i++) {
		struct span key = span_none();
		snprintf(sender, sizeof sender, "s%u@x", i);
		struct turns_item *t = waiting(w, 3, sender, 100, NOW_MS);
		bool is_known = turns_sender(t->lane, &key);
		assert_int_equal(is_known, i < 1024);
		assert_true(!is_known || span_eq(key, span_of_string(sender)));
		exact += is_known;
	}
	assert_int_equal(exact, 1024);
	assert_true(w->turns.lane_count <= 2048);
	for (unsigned i = 0; i < MAILS; i++)
		assert_non_null(taken(w, 3));
	assert_null(taken(w, 3));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_earliest_of_a_sender_goes_first), TEST(a_crowd_holds_up_nobody),
		TEST(who_was_not_tried_does_not_pay),      TEST(what_is_due_is_told_once),
		TEST(what_comes_due_is_told_by_the_timer), TEST(nobody_is_told_after_the_end),
		TEST(a_site_without_items_is_told),        TEST(too_many_senders_share),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
