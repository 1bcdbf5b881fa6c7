/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/queue_suite_seeing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

static const uint64_t far_ms = (uint64_t)1 << 43;

static struct queue_item *
shift_item(struct list *items)
{
	struct list_node *n = list_shift(items);

	return n == NULL ? NULL : LIST_ITEM(n, struct queue_item, link);
}

static struct queue_item *
take_site(struct list *items, uint32_t site)
{
	for (struct list_node *n = list_first(items); n != NULL; n = list_next(items, n)) {
		struct queue_item *i = LIST_ITEM(n, struct queue_item, link);
		if (i->site.number == site) {
			list_unlink(n);
			return i;
		}
	}
	fail_msg("no item of site %u", site);
	return NULL;
}

/* By a sender, with recipients to0@SITE.example, to1@… */
static void
put_from(struct world *w, unsigned number, const char *sender, uint32_t site, uint32_t other,
	 struct list *items)
{
	const uint32_t sites[] = { site, other };

	world_sender = sender;
	assert_int_equal(world_put(w, 0, number, 50 + number, sites, other == 0 ? 1 : 2, items),
			 ERR_OK);
	world_sender = NULL;
}

static void
defer(struct world *w, struct queue_item *item, const char *reply)
{
	assert_int_equal(world_record(w, item, RECIPIENT_PENDING, far_ms, reply), ERR_OK);
}

/* 0: a@one.example to 1; 1: A+x@ONE.example to 2, deferred once; 2: b@two.example to 2 and 3, each
 * deferred, 3 twice; 3: the null sender to 1, held; 4: b@two.example to 1, claimed; 5:
 * c@one.example to 3 (failed) and 4. */
static struct world *
open_with_mails(void **state, struct queue_item **claimed)
{
	static struct world w;
	const struct queue_suite_store *kind = *state;
	struct queue_item *item;
	struct list items;

	kind->reset();
	world_open(&w, kind, 1);
	struct queue *q = queue_end(w.store, 0);
	put_from(&w, 0, "a@one.example", 1, 0, &items);
	queue_release(q, shift_item(&items), far_ms);
	put_from(&w, 1, "A+x@ONE.example", 2, 0, &items);
	defer(&w, shift_item(&items), "451 4.7.1 Greylisted");
	put_from(&w, 2, "b@two.example", 2, 3, &items);
	defer(&w, take_site(&items, 2), "450 mailbox is locked");
	item = take_site(&items, 3);
	assert_int_equal(world_record(&w, item, RECIPIENT_PENDING, 1, "450 mailbox is busy"), 0);
	world_claim_one(&w, 3, &item);
	defer(&w, item, "450 mailbox is busy");
	put_from(&w, 3, "", 1, 0, &items);
	queue_release(q, shift_item(&items), far_ms);
	assert_int_equal(world_act_soon(&w, 0, world_id(3), QUEUE_HOLD), ERR_OK);
	put_from(&w, 4, "b@two.example", 1, 0, &items);
	*claimed = shift_item(&items);
	put_from(&w, 5, "c@one.example", 3, 4, &items);
	assert_int_equal(world_record(&w, take_site(&items, 3), RECIPIENT_FAILED, 0, "550 no"), 0);
	queue_release(q, shift_item(&items), far_ms);
	world_settle(&w, 1);
	return &w;
}

struct rows {
	unsigned count;
	unsigned mails; /* bits by number */
	unsigned candidates;
	struct queue_row last;
	char texts[3][64];
};

static bool
on_row(void *context, const struct queue_row *row)
{
	struct rows *rows = context;

	rows->count++;
	rows->mails |= 1U << world_number(row->accepted_at_ms);
	rows->candidates += row->is_candidate;
	rows->last = *row;
	snprintf(rows->texts[0], sizeof rows->texts[0], "%.*s", SPAN_ARG(row->sender));
	snprintf(rows->texts[1], sizeof rows->texts[1], "%.*s", SPAN_ARG(row->recipient_domain));
	snprintf(rows->texts[2], sizeof rows->texts[2], "%.*s", SPAN_ARG(row->reply));
	return true;
}

static struct rows
list_all(struct world *w, struct queue_filter f)
{
	struct rows rows = { 0 };

	world_list(w, f, on_row, &rows);
	return rows;
}

static void
filters_look_at_what_people_ask_for(void **state)
{
	struct queue_item *claimed;
	struct world *w = open_with_mails(state, &claimed);
	const struct {
		struct queue_filter filter;
		unsigned count;
		unsigned mails;
		bool candidates;
	} cases[] = {
		{ { .sender = SPAN("a@one.example") }, 2, 0x03, false },
		{ { .sender = SPAN("A@one.Example") }, 2, 0x03, false },
		{ { .sender = SPAN("a+other@one.example") }, 2, 0x03, false },
		{ { .sender = SPAN("@one.example") }, 3, 0x23, false },
		{ { .sender = SPAN("@ONE.example") }, 3, 0x23, false },
		{ { .sender = SPAN("@three.example") }, 0, 0, false },
		{ { .null_sender = true }, 1, 0x08, false },
		{ { .recipient_domain = SPAN("2.example") }, 2, 0x06, false },
		{ { .recipient_domain = SPAN("9.example") }, 0, 0, false },
		{ { .recipient = SPAN("To1@3.example") }, 1, 0x04, true },
		{ { .recipient = SPAN("to1@2.example") }, 0, 0, false },
		{ { .reply = SPAN("mailbox is") }, 2, 0x04, false },
		{ { .reply = SPAN("Greylist"), .sender = SPAN("@one.example") }, 1, 0x02, false },
		{ { .reply = SPAN("no such text") }, 0, 0, false },
		{ { .attempts_min = 1 }, 3, 0x06, false },
		{ { .attempts_min = 2 }, 1, 0x04, false },
		{ { .accepted_after_ms = world_about_ms(3) }, 3, 0x38, false },
		{ { .accepted_after_ms = world_about_ms(1),
		    .accepted_before_ms = world_about_ms(3) },
		  3,
		  0x06,
		  false },
		{ { .state = QUEUE_HELD, .sender = SPAN("a@one.example") }, 0, 0, false },
		{ { .state = QUEUE_CLAIMED, .sender = SPAN("b@two.example") }, 1, 0x10, false },
		{ { .state = QUEUE_FAILED }, 1, 0x20, false },
		{ { .state = QUEUE_FAILED, .reply = SPAN("550") }, 1, 0x20, false },
		{ { .by_site = true, .site = { 1 } }, 3, 0x19, false },
		{ { .by_id = true, .id = { 0 } }, 0, 0, false },
	};

	assert_int_equal(list_all(w, (struct queue_filter){ 0 }).count, 7);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct rows rows = list_all(w, cases[i].filter);
		/* A shared store reads all of each mail. */
		bool is_known = !cases[i].candidates || w->kind->is_shared;
		if (rows.count != cases[i].count || rows.mails != cases[i].mails ||
		    rows.candidates != (is_known ? 0 : rows.count))
			fail_msg("case %zu: %u rows, mails %#x, %u candidates", i, rows.count,
				 rows.mails, rows.candidates);
	}
	queue_release(queue_end(w->store, 0), claimed, far_ms);
	world_stop(w);
}

static void
rows_say_what_is_known(void **state)
{
	struct queue_item *claimed;
	struct world *w = open_with_mails(state, &claimed);
	const struct queue_filter third = { .by_id = true, .id = world_id(2), .attempts_min = 2 };
	const struct queue_filter fourth = { .by_id = true, .id = world_id(3) };
	const struct queue_filter fifth = { .by_id = true, .id = world_id(4) };

	for (unsigned life = 0; life < 2; life++) {
		struct rows rows = list_all(w, third);
		assert_int_equal(rows.count, 1);
		assert_int_equal(rows.last.recipient_count, 2);
		assert_int_equal(rows.last.pending_count, 1);
		assert_int_equal(rows.last.attempts, 2);
		assert_true(world_is_time(w, rows.last.due_at_ms, far_ms));
		assert_true(rows.last.sender_is_known);
		assert_int_equal(rows.last.state, QUEUE_WAITING);
		assert_int_equal(rows.last.site.number, 3);
		assert_string_equal(rows.texts[0], "b@two.example");
		assert_string_equal(rows.texts[1], "3.example");
		assert_string_equal(rows.texts[2], "450 mailbox is busy");
		rows = list_all(w, fifth);
		assert_string_equal(rows.texts[0], "b@two.example");
		assert_string_equal(rows.texts[2], "");
		assert_int_equal(rows.last.state, life == 0 ? QUEUE_CLAIMED : QUEUE_WAITING);
		rows = list_all(w, fourth);
		assert_int_equal(rows.last.state, QUEUE_HELD);
		assert_true(rows.last.sender_is_known);
		assert_string_equal(rows.texts[0], "");
		if (life == 0)
			queue_release(queue_end(w->store, 0), claimed, far_ms);
		world_stop(w);
		world_open(w, *state, 1);
	}
	world_stop(w);
}

/* ---- one mail ---- */

struct show_wait {
	struct queue_show show;
	bool done;
	enum err error;
	unsigned states[2];
	unsigned attempts;
	bool notified;
	char texts[4][64];
};

static void
on_show(struct queue_show *s, enum err e)
{
	struct show_wait *wait = CONTAINER_OF(s, struct show_wait, show);
	const struct mail_envelope *v = s->envelope;

	wait->done = true;
	wait->error = e;
	if (e != ERR_OK) {
		assert_null(v);
		return;
	}
	for (uint32_t i = 0; i < v->recipient_count && i < 2; i++) {
		const struct mail_recipient *r = &v->recipients[i];
		wait->states[i] = r->state;
		snprintf(wait->texts[i], sizeof wait->texts[i], "%.*s", SPAN_ARG(r->address));
		snprintf(wait->texts[2], sizeof wait->texts[2], "%.*s", SPAN_ARG(r->reply));
		wait->attempts = r->attempts;
		wait->notified |= r->notified;
	}
	snprintf(wait->texts[3], sizeof wait->texts[3], "%.*s", SPAN_ARG(v->sender));
}

static struct show_wait
show(struct world *w, unsigned number)
{
	struct show_wait wait = { .show = { .id = world_id(number), .on_done = on_show } };

	queue_show(queue_end(w->store, 0), &wait.show);
	assert_false(wait.done);
	world_wait(w, &wait.done);
	return wait;
}

static void
a_mail_is_shown_with_its_recipients(void **state)
{
	struct queue_item *claimed;
	struct world *w = open_with_mails(state, &claimed);

	assert_int_equal(show(w, 99).error, queue_suite_nowhere(w->kind));
	struct show_wait s = show(w, 2);
	assert_int_equal(s.error, ERR_OK);
	assert_string_equal(s.texts[3], "b@two.example");
	assert_string_equal(s.texts[0], "to0@2.example");
	assert_string_equal(s.texts[1], "to1@3.example");
	assert_string_equal(s.texts[2], "450 mailbox is busy");
	assert_int_equal(s.attempts, 2);
	assert_false(s.show.is_held);
	s = show(w, 1); /* the whole address, not the sender's key */
	assert_string_equal(s.texts[3], "A+x@ONE.example");
	assert_true(show(w, 3).show.is_held);
	s = show(w, 4); /* claimed: it is in memory */
	assert_int_equal(s.error, ERR_OK);
	s = show(w, 5);
	assert_int_equal(s.states[0], RECIPIENT_FAILED);
	assert_int_equal(s.states[1], RECIPIENT_PENDING);
	/* Nothing of it stays behind: it can be acted upon. */
	assert_int_equal(world_act(w, 0, world_id(5), QUEUE_REMOVE), ERR_OK);
	assert_int_equal(show(w, 5).error, queue_suite_nowhere(w->kind));
	queue_release(queue_end(w->store, 0), claimed, far_ms);
	world_stop(w);
}

/* Many at once, more than are read at the same time, while their mails are claimed and recorded. */
static void
shows_meet_claims(void **state)
{
	enum { COUNT = 100 };
	static struct show_wait waits[COUNT];
	static struct world w;
	const struct queue_suite_store *kind = *state;
	struct queue_item *item;
	struct list items;
	enum err error;

	kind->reset();
	world_open(&w, kind, 1);
	struct queue *q = queue_end(w.store, 0);
	for (unsigned i = 0; i < COUNT; i++)
		world_put_waiting(&w, 0, i, 100);
	for (unsigned i = 0; i < COUNT; i++) {
		waits[i] = (struct show_wait){ .show = { .id = world_id(i), .on_done = on_show } };
		queue_show(q, &waits[i].show);
	}
	assert_int_equal(world_claim(&w, 0, 1, COUNT, &items, &error), COUNT);
	while ((item = shift_item(&items)) != NULL)
		assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	for (unsigned i = 0; i < COUNT; i++) {
		world_wait(&w, &waits[i].done);
		assert_true(waits[i].error == ERR_OK ||
			    waits[i].error == queue_suite_nowhere(kind));
	}
	assert_int_equal(world_count(&w).mails, 0);
	world_stop(&w);
}

/* ---- counts ---- */

/* As of the last walk over all mails, which takes less than a minute. */
static void
classes_are_counted(void **state)
{
	static struct world w;
	const struct queue_suite_store *kind = *state;

	assert_int_equal(queue_age_class(5 * 60 * 1000), 0);
	assert_int_equal(queue_age_class(5 * 60 * 1000 + 1), 1);
	assert_int_equal(queue_age_class(UINT64_MAX), QUEUE_AGES - 1);
	assert_int_equal(queue_attempts_class(3), 2);
	assert_int_equal(queue_attempts_class(UINT16_MAX), QUEUE_ATTEMPTS - 1);
	if (kind->is_shared) /* who would have to look at all mails */
		return;
	kind->reset();
	world_open(&w, kind, 1);
	struct queue_numbers n = { 0 };
	world_put_waiting(&w, 0, 1, 10);
	world_put_waiting(&w, 0, 2, 10);
	/* A walk is 500 slices of an upkeep, ten a second; a small table takes few. */
	uint64_t end_ms = clock_monotonic_ms() + 110 * 1000;
	while (n.items_by_attempts[0] == 0 && clock_monotonic_ms() < end_ms) {
		world_turn(&w);
		queue_count(queue_end(w.store, 0), &n);
	}
	assert_int_equal(n.items_by_age[QUEUE_AGES - 1], 2); /* of 1970 */
	assert_int_equal(n.items_by_attempts[0], 2);
	world_stop(&w);
}

struct pages {
	unsigned seen[200];
	unsigned count;
};

static bool
on_row_of_pages(void *context, const struct queue_row *row)
{
	struct pages *pages = context;

	pages->seen[world_number(row->accepted_at_ms)]++;
	pages->count++;
	return pages->count % 7 != 0; /* a page is full now and then */
}

static void
a_listing_shows_each_item_once(void **state)
{
	static struct world w;
	const struct queue_suite_store *kind = *state;
	struct pages pages = { 0 };
	const struct queue_filter all = { 0 };
	const struct queue_filter one = { .by_id = true, .id = world_id(33) };
	const struct queue_filter held = { .state = QUEUE_HELD };
	uint64_t cursor = 0;

	kind->reset();
	world_open(&w, kind, 1);
	for (unsigned i = 0; i < 200; i++)
		world_put_waiting(&w, 0, i, 10);
	assert_int_equal(world_act_soon(&w, 0, world_id(5), QUEUE_HOLD), ERR_OK);
	while (queue_list(queue_end(w.store, 0), &all, &cursor, 200, on_row_of_pages, &pages))
		world_turn(&w);
	assert_int_equal(pages.count, 200);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(pages.seen[i], 1);
	cursor = pages.count = 0;
	while (queue_list(queue_end(w.store, 0), &one, &cursor, 200, on_row_of_pages, &pages))
		world_turn(&w);
	assert_int_equal(pages.count, 1);
	assert_int_equal(pages.seen[33], 2);
	cursor = pages.count = 0;
	while (queue_list(queue_end(w.store, 0), &held, &cursor, 200, on_row_of_pages, &pages))
		world_turn(&w);
	assert_int_equal(pages.count, 1);
	assert_int_equal(pages.seen[5], 2);
	world_stop(&w);
}

int
queue_suite_seeing_run(const struct queue_suite_store *kind)
{
#define TEST(f) cmocka_unit_test_prestate(f, (void *)(uintptr_t)kind)
	const struct CMUnitTest tests[] = {
		TEST(a_listing_shows_each_item_once),
		TEST(filters_look_at_what_people_ask_for),
		TEST(rows_say_what_is_known),
		TEST(a_mail_is_shown_with_its_recipients),
		TEST(shows_meet_claims),
		TEST(classes_are_counted),
	};
#undef TEST
	return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}
