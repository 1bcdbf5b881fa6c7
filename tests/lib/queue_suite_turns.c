/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/queue_suite_turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

static struct queue_item *
shift_item(struct list *items)
{
	struct list_node *n = list_shift(items);

	return n == NULL ? NULL : LIST_ITEM(n, struct queue_item, link);
}

static struct world *
open_empty(void **state, unsigned workers)
{
	static struct world w;
	const struct queue_suite_store *kind = *state;

	kind->reset();
	world_open(&w, kind, workers);
	return &w;
}

/* All due at once. */
static void
put_many(struct world *w, const char *sender, unsigned first, unsigned count, uint64_t size)
{
	const uint32_t site = 1;
	struct list items;

	world_sender = sender;
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(world_put(w, 0, first + i, size, &site, 1, &items), ERR_OK);
		queue_release(queue_end(w->store, 0), shift_item(&items), 1);
	}
	world_sender = NULL;
}

static struct queue_item *
claim_next(struct world *w)
{
	struct list items;
	enum err error;

	if (world_claim(w, 0, 1, 1, &items, &error) == 0)
		return NULL;
	return shift_item(&items);
}

static bool
is_from(const struct queue_item *i, const char *sender)
{
	return span_eq(i->mail->envelope->sender, span_of_string(sender));
}

/* Of the next `count` mails, which are delivered, how many are of this sender? */
static unsigned
deliver(struct world *w, unsigned count, const char *sender)
{
	unsigned seen = 0;

	for (unsigned i = 0; i < count; i++) {
		struct queue_item *item = claim_next(w);
		assert_non_null(item);
		seen += is_from(item, sender);
		assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	return seen;
}

static void
a_flood_does_not_hold_up_another_sender(void **state)
{
	struct world *w = open_empty(state, 1);

	put_many(w, "flood@example.org", 0, 300, 100);
	put_many(w, "one@example.org", 300, 1, 100);
	put_many(w, "", 301, 1, 100); /* a bounce */
	assert_int_equal(deliver(w, 20, "flood@example.org"), 18);
	world_stop(w);
	/* And after a start. */
	world_open(w, *state, 1);
	put_many(w, "one@example.org", 400, 1, 100);
	assert_int_equal(deliver(w, 20, "flood@example.org"), 19);
	world_stop(w);
}

/* They are one sender; another one of the same domain is another. */
static void
subaddresses_of_a_sender_share_its_turn(void **state)
{
	struct world *w = open_empty(state, 1);
	char sender[32];

	for (unsigned i = 0; i < 60; i++) {
		snprintf(sender, sizeof sender, "List+%u=x@Example.org", i);
		put_many(w, sender, i, 1, 100);
	}
	put_many(w, "other@example.org", 60, 1, 100);
	assert_int_equal(deliver(w, 10, "other@example.org"), 1);
	struct queue_item *a = claim_next(w);
	struct queue_item *b = claim_next(w);
	assert_int_equal(a->sender_key, b->sender_key);
	queue_release(queue_end(w->store, 0), a, 0);
	queue_release(queue_end(w->store, 0), b, 0);
	world_stop(w);
}

static void
turns_are_by_size_and_weight(void **state)
{
	struct world *w = open_empty(state, 1);

	/* Of 64 KiB: as much as five small ones. */
	put_many(w, "large@example.org", 0, 40, 64 * 1024);
	put_many(w, "small@example.org", 100, 100, 100);
	assert_in_range(deliver(w, 60, "small@example.org"), 47, 53);
	world_stop(w);
	w = open_empty(state, 1);
	put_many(w, "heavy@example.org", 0, 100, 100);
	put_many(w, "light@example.org", 100, 100, 100);
	assert_in_range(deliver(w, 80, "heavy@example.org"), 57, 63);
	world_stop(w);
}

/* A mail so large that its sender needs many turns comes, too, before a flood has passed. */
static void
the_largest_mail_comes(void **state)
{
	struct world *w = open_empty(state, 1);

	put_many(w, "large@example.org", 0, 1, 3 * 1024 * 1024); /* 193 units, 49 turns */
	put_many(w, "small@example.org", 1, 300, 100);
	assert_int_equal(deliver(w, 220, "large@example.org"), 1);
	world_stop(w);
	w = open_empty(state, 1);
	put_many(w, "large@example.org", 0, 1, 3 * 1024 * 1024); /* alone: at once */
	assert_int_equal(deliver(w, 1, "large@example.org"), 1);
	world_stop(w);
}

/* What comes back untried is first among its sender's, and has not used up a turn. */
static void
a_released_item_keeps_its_place(void **state)
{
	struct world *w = open_empty(state, 1);

	put_many(w, "a@example.org", 0, 50, 100);
	put_many(w, "b@example.org", 50, 50, 100);
	for (unsigned i = 0; i < 30; i++) {
		struct queue_item *item = claim_next(w);
		struct mail_id id = item->mail->id;
		queue_release(queue_end(w->store, 0), item, 0);
		item = claim_next(w);
		assert_true(mail_id_eq(item->mail->id, id));
		assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	assert_in_range(deliver(w, 20, "a@example.org"), 8, 12);
	world_stop(w);
}

/* More senders than a site has lanes for: all mails come, each once. */
static void
very_many_senders_are_all_served(void **state)
{
	enum { COUNT = 2500 };
	static bool seen[COUNT];
	struct world *w = open_empty(state, 1);
	struct list items;
	struct queue_item *item;
	enum err error;
	unsigned count = 0;

	for (unsigned i = 0; i < COUNT; i++)
		seen[i] = false;
	put_many(w, NULL, 0, COUNT, 10);
	/* A mail that the store moves just now comes later. */
	uint64_t end_ms = clock_monotonic_ms() + 20 * 1000;
	while (count < COUNT && clock_monotonic_ms() < end_ms) {
		world_claim(w, 0, 1, 100, &items, &error);
		while ((item = shift_item(&items)) != NULL) {
			unsigned number = world_number(item->mail->envelope->accepted_at_ms);
			assert_false(seen[number]);
			seen[number] = true;
			queue_release(queue_end(w->store, 0), item, (uint64_t)1 << 43);
			count++;
		}
	}
	assert_int_equal(count, COUNT);
	assert_int_equal(world_claim(w, 0, 1, 100, &items, &error), 0);
	world_expect(w, items_waiting, COUNT);
	world_stop(w);
}

struct claim_wait {
	struct queue_claim claim;
	bool done;
	enum err error;
};

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct claim_wait *wait = CONTAINER_OF(c, struct claim_wait, claim);

	wait->done = true;
	wait->error = e;
}

static size_t
claim_by_id(struct world *w, uint32_t site, unsigned number, struct list *items)
{
	struct claim_wait wait = { .claim = { .site = { site },
					      .most = 9,
					      .by_id = true,
					      .id = world_id(number),
					      .on_done = on_claimed } };
	size_t count = 0;

	queue_claim(queue_end(w->store, 0), &wait.claim);
	assert_false(wait.done);
	world_wait(w, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
	list_init(items);
	list_take_all(items, &wait.claim.items);
	for (struct list_node *n = list_first(items); n != NULL; n = list_next(items, n))
		count++;
	return count;
}

static void
one_mail_is_claimed_by_its_id_due_or_not(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t sites[] = { 1, 2 };
	uint64_t later_ms = clock_wall_ms() + (w->kind->is_shared ? 8000U : 3600000U);
	struct list items;
	enum err error;

	for (unsigned number = 1; number <= 3; number++) {
		assert_int_equal(world_put(w, 0, number, 100, sites, 2, &items), ERR_OK);
		struct queue_item *i;
		while ((i = shift_item(&items)) != NULL)
			assert_int_equal(
				world_record(w, i, RECIPIENT_PENDING, later_ms, "451 later"),
				ERR_OK);
	}
	assert_int_equal(world_claim(w, 0, 1, 9, &items, &error), 0);
	assert_int_equal(claim_by_id(w, 3, 2, &items), 0);
	assert_int_equal(claim_by_id(w, 1, 4, &items), 0);
	assert_int_equal(claim_by_id(w, 1, 2, &items), 1);
	struct queue_item *item = shift_item(&items);
	assert_true(mail_id_eq(item->mail->id, world_id(2)));
	assert_int_equal(item->site.number, 1);
	assert_int_equal(item->recipient_count, 1);
	assert_int_equal(claim_by_id(w, 1, 2, &items), 0); /* it does not wait */
	world_expect(w, items_claimed, 1);
	queue_release(queue_end(w->store, 0), item, later_ms);
	assert_int_equal(claim_by_id(w, 1, 2, &items), 1);
	assert_int_equal(world_record(w, shift_item(&items), RECIPIENT_FAILED, 0, "554 over"),
			 ERR_OK);
	assert_int_equal(claim_by_id(w, 1, 2, &items), 0);
	assert_int_equal(claim_by_id(w, 2, 2, &items), 1);
	assert_int_equal(world_record(w, shift_item(&items), RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	world_expect(w, mails, 2);
	world_stop(w);
}

int
queue_suite_turns_run(const struct queue_suite_store *kind)
{
#define TEST(f) cmocka_unit_test_prestate(f, (void *)(uintptr_t)kind)
	const struct CMUnitTest tests[] = {
		TEST(a_flood_does_not_hold_up_another_sender),
		TEST(subaddresses_of_a_sender_share_its_turn),
		TEST(turns_are_by_size_and_weight),
		TEST(the_largest_mail_comes),
		TEST(a_released_item_keeps_its_place),
		TEST(very_many_senders_are_all_served),
		TEST(one_mail_is_claimed_by_its_id_due_or_not),
	};
#undef TEST
	return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}
