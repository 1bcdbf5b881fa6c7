/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/queue_suite_lives.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

enum { PIECE = 8192, RANDOM_AHEAD = 64 };

static const uint64_t far_ms = (uint64_t)1 << 43;

/* ---- small steps ---- */

static struct queue_item *
shift_item(struct list *items)
{
	struct list_node *n = list_shift(items);

	return n == NULL ? NULL : LIST_ITEM(n, struct queue_item, link);
}

/* Of this site, out of the list. */
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

static struct queue_item *
put_one(struct world *w, unsigned number, uint64_t body_size)
{
	const uint32_t site = 1;
	struct list items;

	assert_int_equal(world_put(w, 0, number, body_size, &site, 1, &items), ERR_OK);
	return shift_item(&items);
}

static void
release(struct world *w, struct queue_item *item, uint64_t due_at_ms)
{
	queue_release(queue_end(w->store, item->mail->worker), item, due_at_ms);
}

/* By the worker that keeps it. */
static void
act_on(struct world *w, unsigned number, enum queue_action action)
{
	enum err error = ERR_NOT_FOUND;

	for (unsigned i = 0; i < w->worker_count &&
			     (error == ERR_NOT_FOUND || error == queue_suite_nowhere(w->kind));
	     i++)
		error = world_act_soon(w, i, world_id(number), action);
	assert_int_equal(error, ERR_OK);
}

struct wait {
	struct queue_attempt attempt;
	struct queue_record record;
	struct queue_claim claim;
	struct queue_load load;
	bool done;
	enum err error;
};

static void
on_attempted(struct queue_attempt *a, enum err e)
{
	struct wait *wait = CONTAINER_OF(a, struct wait, attempt);

	wait->done = true;
	wait->error = e;
}

static void
start(struct world *w, struct queue_item *item, bool alone)
{
	struct wait wait = { .attempt = { .item = item, .alone = alone, .on_done = on_attempted } };

	queue_attempt(queue_end(w->store, item->mail->worker), &wait.attempt);
	world_wait(w, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
}

static void
on_recorded(struct queue_record *r, enum err e)
{
	struct wait *wait = CONTAINER_OF(r, struct wait, record);

	wait->done = true;
	wait->error = e;
}

static void
record_all(struct world *w, struct queue_item *item, const struct queue_result *results,
	   uint32_t count)
{
	struct wait wait = { .record = { .item = item,
					 .results = results,
					 .result_count = count,
					 .on_done = on_recorded } };

	queue_record(queue_end(w->store, item->mail->worker), &wait.record);
	world_wait(w, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
}

/* A life that ends in the middle. A failure in it is a failed test in the child, which therefore
 * never reaches its _exit(0). */
static void
die_after(const struct queue_suite_store *kind, unsigned workers, void (*work)(struct world *w))
{
	static struct world w;
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		/* What was drawn ahead is drawn by the parent, too. */
		for (unsigned i = 0; i < RANDOM_AHEAD; i++)
			(void)random_u64();
		world_open(&w, kind, workers);
		work(&w);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static struct world *
open_again(void **state, unsigned workers)
{
	static struct world w;

	world_open(&w, *state, workers);
	assert_string_equal(w.why, "");
	return &w;
}

static struct world *
open_empty(void **state, unsigned workers)
{
	const struct queue_suite_store *kind = *state;

	kind->reset();
	return open_again(state, workers);
}

/* ---- deaths ---- */

static void
record_several(struct world *w)
{
	const uint32_t sites[] = { 1, 2, 3, 4 };
	struct list items;

	assert_int_equal(world_put(w, 1, 1, 3000, sites, 4, &items), ERR_OK);
	assert_int_equal(world_record(w, take_site(&items, 1), RECIPIENT_DELIVERED, 0, "250"),
			 ERR_OK);
	assert_int_equal(world_record(w, take_site(&items, 3), RECIPIENT_FAILED, 0, "550 no"),
			 ERR_OK);
	struct queue_item *again = take_site(&items, 2);
	assert_int_equal(world_record(w, again, RECIPIENT_PENDING, 1, "450 first"), ERR_OK);
	world_claim_one(w, 2, &again);
	assert_int_equal(world_record(w, again, RECIPIENT_PENDING, 1, "451 second"), ERR_OK);
	/* The fourth is still claimed: nothing is known of it. */
}

static void
outcomes_survive_a_death(void **state)
{
	struct queue_item *item;
	struct list items;
	enum err error;

	((const struct queue_suite_store *)*state)->reset();
	die_after(*state, 2, record_several);
	struct world *w = open_again(state, 3);
	world_expect(w, mails, 1);
	if (!w->kind->is_shared)
		world_expect(w, items_waiting, 2);
	world_expect(w, recipients_failed, 1);
	unsigned keeper = world_claim_one(w, 2, &item);
	const struct mail_recipient *r = item->mail->envelope->recipients;
	assert_int_equal(r[0].state, RECIPIENT_DELIVERED);
	assert_int_equal(r[1].attempts, 2);
	assert_true(span_eq(r[1].reply, SPAN("451 second")));
	assert_int_equal(r[2].state, RECIPIENT_FAILED);
	assert_true(span_eq(r[2].reply, SPAN("550 no")));
	assert_int_equal(r[3].state, RECIPIENT_PENDING);
	assert_int_equal(r[3].attempts, 0);
	assert_true(world_body_is(w, (keeper + 1) % 3, item, 1, &error));
	assert_int_equal(world_claim(w, keeper, 4, 9, &items, &error), 1);
	release(w, take_site(&items, 4), 0);
	release(w, item, 0);
	world_stop(w);
}

static void
start_in_company(struct world *w)
{
	struct queue_item *item;

	world_claim_one(w, 1, &item);
	start(w, item, false);
}

static void
start_alone(struct world *w)
{
	struct queue_item *item;

	world_claim_one(w, 1, &item);
	start(w, item, true);
}

static void
start_and_record(struct world *w)
{
	struct queue_item *item;

	world_claim_one(w, 1, &item);
	start(w, item, true);
	assert_int_equal(world_record(w, item, RECIPIENT_PENDING, 1, "4"), ERR_OK);
}

static void
hold_and_unhold(struct world *w)
{
	act_on(w, 1, QUEUE_HOLD);
	act_on(w, 1, QUEUE_UNHOLD);
}

/* Whose hands was it in? In those of who acts on a mail of a shared store it need not be. */
enum before { BEFORE_STOP, BEFORE_DEATH, BEFORE_ACT };

static void
assert_starts(void **state, enum before before, unsigned open_starts, bool alone)
{
	struct world *w = open_again(state, 1);
	struct queue_item *item;

	world_claim_one(w, 1, &item);
	if (!w->kind->is_shared || before != BEFORE_ACT)
		assert_int_equal(item->recovered, !w->kind->is_shared || before == BEFORE_DEATH);
	assert_int_equal(item->open_starts, open_starts);
	if (open_starts > 0)
		assert_int_equal(item->had_run_alone, alone);
	release(w, item, 0);
	world_stop(w);
}

static void
starts_are_counted_over_deaths(void **state)
{
	struct world *w = open_empty(state, 1);

	world_put_waiting(w, 0, 1, 10);
	world_stop(w);
	assert_starts(state, BEFORE_STOP, 0, false);
	die_after(*state, 1, start_in_company);
	assert_starts(state, BEFORE_DEATH, 1, false);
	die_after(*state, 2, start_alone);
	assert_starts(state, BEFORE_DEATH, 2, true);
	die_after(*state, 1, start_and_record); /* an outcome closes them */
	assert_starts(state, BEFORE_DEATH, 0, false);
	die_after(*state, 1, start_alone);
	die_after(*state, 1, start_in_company);
	assert_starts(state, BEFORE_DEATH, 2, false);
	die_after(*state, 1, hold_and_unhold); /* and so does an operator */
	assert_starts(state, BEFORE_ACT, 0, false);
}

static void
an_orderly_end_closes_a_start(void **state)
{
	struct world *w = open_empty(state, 1);
	struct queue_item *item;

	world_put_waiting(w, 0, 1, 10);
	world_stop(w);
	world_open(w, *state, 1);
	world_claim_one(w, 1, &item);
	assert_int_equal(item->recovered, !w->kind->is_shared);
	start(w, item, true);
	assert_int_equal(item->open_starts, 1);
	assert_true(item->had_run_alone);
	queue_release(queue_end(w->store, 0), item, 0);
	world_stop(w);
	world_open(w, *state, 1);
	world_claim_one(w, 1, &item);
	assert_int_equal(item->open_starts, 0);
	start(w, item, false);
	assert_int_equal(world_record(w, item, RECIPIENT_PENDING, 0, "4"), ERR_OK);
	world_claim_one(w, 1, &item);
	assert_int_equal(item->open_starts, 0);
	assert_false(item->recovered);
	queue_release(queue_end(w->store, 0), item, 0);
	world_stop(w);
}

static void
hold_and_remove(struct world *w)
{
	for (unsigned i = 0; i < 6; i++)
		world_put_waiting(w, i % 2, i, 100);
	act_on(w, 0, QUEUE_HOLD);
	act_on(w, 1, QUEUE_HOLD);
	act_on(w, 1, QUEUE_UNHOLD);
	act_on(w, 2, QUEUE_REMOVE);
	act_on(w, 3, QUEUE_HOLD);
	act_on(w, 3, QUEUE_REMOVE);
}

static void
acts_survive_a_death(void **state)
{
	((const struct queue_suite_store *)*state)->reset();
	die_after(*state, 2, hold_and_remove);
	struct world *w = open_again(state, 4);
	world_expect(w, mails, 4);
	world_expect(w, items_held, 1);
	for (unsigned i = 0; i < 3; i++) {
		struct queue_item *item;
		world_claim_one(w, 1, &item);
		assert_int_not_equal(world_number(item->mail->envelope->accepted_at_ms), 0);
		assert_int_equal(world_record(w, item, RECIPIENT_DISCARDED, 0, ""), ERR_OK);
	}
	act_on(w, 0, QUEUE_REMOVE); /* one that is held */
	world_expect(w, mails, 0);
	world_stop(w);
	w = open_again(state, 1);
	world_expect(w, mails, 0);
	world_stop(w);
}

static uint64_t large_size;

/* Two whole ones, and one that never got to its put. */
static void
put_large(struct world *w)
{
	static const uint8_t bytes[64 * 1024];

	world_put_waiting(w, 0, 1, large_size);
	world_put_waiting(w, 0, 2, 3 * large_size);
	struct queue_draft *d = queue_draft_new(queue_end(w->store, 0), world_id(3), 0);
	for (uint64_t at = 0; at < large_size && !queue_draft_is_full(d); at += sizeof bytes)
		assert_int_equal(queue_draft_append(d, span_of(bytes, sizeof bytes)), ERR_OK);
	for (unsigned i = 0; i < 20; i++)
		world_turn(w);
}

static void
large_bodies_survive_a_death(void **state)
{
	const struct queue_suite_store *kind = *state;
	struct queue_item *item;
	enum err error;

	kind->reset();
	large_size = kind->file_threshold + 70001;
	die_after(*state, 1, put_large);
	struct world *w = open_again(state, 2);
	world_expect(w, mails, 2);
	for (unsigned i = 0; i < 2; i++) {
		unsigned keeper = world_claim_one(w, 1, &item);
		unsigned number = world_number(item->mail->envelope->accepted_at_ms);
		assert_true(world_body_is(w, 1 - keeper, item, number, &error));
		assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	world_stop(w);
}

/* ---- outcomes ---- */

static void
one_record_may_say_something_else_of_each(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t sites[] = { 1, 1, 1, 1 };
	struct list items;
	struct queue_item *item;

	assert_int_equal(world_put(w, 0, 1, 100, sites, 4, &items), ERR_OK);
	const struct queue_result results[] = {
		{ .recipient = 0, .state = RECIPIENT_DELIVERED, .tried = true },
		{ .recipient = 1, .state = RECIPIENT_PENDING, .reply = SPAN("not reached") },
		{ .recipient = 2, .state = RECIPIENT_FAILED, .tried = true, .reply = SPAN("550") },
		{ .recipient = 3, .state = RECIPIENT_PENDING, .tried = true, .retry_at_ms = 1 },
	};
	record_all(w, shift_item(&items), results, 4);
	for (unsigned life = 0; life < 2; life++) {
		world_claim_one(w, 1, &item);
		const struct mail_recipient *r = item->mail->envelope->recipients;
		assert_int_equal(item->recipient_count, 2);
		assert_int_equal(queue_item_recipient(item, 0), 1);
		assert_int_equal(queue_item_recipient(item, 2), 3);
		assert_int_equal(r[1].attempts, 0); /* not tried: no attempt */
		assert_true(span_eq(r[1].reply, SPAN("not reached")));
		assert_int_equal(r[3].attempts, 1);
		assert_int_equal(r[2].state, RECIPIENT_FAILED);
		release(w, item, 0);
		world_stop(w);
		w = open_again(state, 2);
	}
	world_stop(w);
}

static void
a_mail_ends_when_its_last_recipient_fails(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t sites[] = { 1, 2 };
	struct list items;

	assert_int_equal(world_record(w, put_one(w, 1, 10), RECIPIENT_FAILED, 0, "550 no"), ERR_OK);
	world_expect(w, mails, 0);
	assert_int_equal(world_put(w, 0, 2, 10, sites, 2, &items), ERR_OK);
	assert_int_equal(world_record(w, take_site(&items, 1), RECIPIENT_FAILED, 0, "5"), ERR_OK);
	world_expect(w, mails, 1);
	world_expect(w, recipients_failed, 1);
	assert_int_equal(world_record(w, take_site(&items, 2), RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	world_expect(w, mails, 0);
	world_expect(w, recipients_failed, 0);
	world_stop(w);
}

/* ---- notices ---- */

static const struct queue_result no = {
	.recipient = 0, .state = RECIPIENT_FAILED, .tried = true, .reply = SPAN("550 no")
};

static void
a_notice_is_kept_with_its_outcome(void **state)
{
	const struct queue_suite_store *kind = *state;
	const uint64_t sizes[] = { 0, 100, kind->file_threshold, 2 * kind->file_threshold + 7 };
	struct world *w = open_empty(state, 2);
	struct list items;
	enum err error;

	for (unsigned i = 0; i < 4; i++) {
		struct queue_item *item = put_one(w, 2 * i, 10);
		const struct world_notice notice = { 2 * i + 1, sizes[i], 7, NULL };
		assert_int_equal(world_record_notice(w, item, &no, 1, &notice, &items), ERR_OK);
		world_expect(w, mails, i + 1); /* the notices */
		item = shift_item(&items);
		assert_null(shift_item(&items));
		assert_int_equal(item->site.number, 7);
		assert_int_equal(item->recipient_count, 1);
		assert_true(world_body_is(w, 1, item, 2 * i + 1, &error));
		release(w, item, 0);
	}
	world_stop(w);
	w = open_again(state, 3);
	world_expect(w, mails, 4);
	for (unsigned i = 0; i < 4; i++) {
		struct queue_item *item;
		world_claim_one(w, 7, &item);
		unsigned number = world_number(item->mail->envelope->accepted_at_ms);
		assert_int_equal(number % 2, 1);
		assert_true(world_body_is(w, 1, item, number, &error));
		assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	world_stop(w);
}

static void
fail_and_delay(struct world *w)
{
	const struct queue_result later = { .recipient = 0,
					    .state = RECIPIENT_PENDING,
					    .tried = true,
					    .notified = true,
					    .retry_at_ms = 1 };
	const struct queue_result again = { .recipient = 0, .state = RECIPIENT_PENDING };
	const struct world_notice notices[] = { { 11, 100, 7, NULL }, { 12, 100, 7, NULL } };
	struct queue_item *item;
	struct list items;

	item = put_one(w, 1, 10);
	assert_int_equal(world_record_notice(w, item, &no, 1, &notices[0], &items), ERR_OK);
	item = put_one(w, 2, 10);
	assert_int_equal(world_record_notice(w, item, &later, 1, &notices[1], &items), ERR_OK);
	world_claim_one(w, 1, &item);
	assert_true(item->mail->envelope->recipients[0].notified);
	record_all(w, item, &again, 1); /* what was told stays told */
}

static void
notices_survive_a_death(void **state)
{
	struct queue_item *notices[2];
	struct queue_item *item;

	((const struct queue_suite_store *)*state)->reset();
	die_after(*state, 1, fail_and_delay);
	for (unsigned life = 0; life < 2; life++) {
		struct world *w = open_again(state, 1 + life);
		world_expect(w, mails, 3);
		world_claim_one(w, 1, &item);
		assert_int_equal(world_number(item->mail->envelope->accepted_at_ms), 2);
		assert_true(item->mail->envelope->recipients[0].notified);
		assert_int_equal(item->mail->envelope->recipients[0].attempts, 1);
		release(w, item, 0);
		for (unsigned i = 0; i < 2; i++) {
			world_claim_one(w, 7, &notices[i]);
			assert_false(notices[i]->mail->envelope->recipients[0].notified);
		}
		release(w, notices[0], 0);
		release(w, notices[1], 0);
		world_stop(w);
	}
}

static void
on_stopped(struct queue *q, void *context)
{
	(void)q;
	((struct world *)context)->stopped++;
}

static void
begin_stop(struct world *w)
{
	queue_stop(queue_end(w->store, 0), on_stopped, w);
}

static void
a_refused_notice_leaves_the_item_claimed(void **state)
{
	const struct queue_suite_store *kind = *state;
	const uint64_t sizes[] = { 100, kind->file_threshold + 1 };

	for (unsigned i = 0; i < 2; i++) {
		struct world *w = open_empty(state, 1);
		struct queue_item *item = put_one(w, 1, 10);
		const struct world_notice notice = { 2, sizes[i], 7, begin_stop };
		struct list items;
		assert_int_equal(world_record_notice(w, item, &no, 1, &notice, &items),
				 ERR_SHUTTING_DOWN);
		world_expect(w, items_claimed, 1);
		while (w->stopped == 0)
			world_turn(w);
		queue_close(w->store);
		worker_close(&w->workers[0]);
		w = open_again(state, 1);
		world_expect(w, mails, 1);
		world_expect(w, recipients_failed, 0);
		world_claim_one(w, 1, &item);
		release(w, item, 0);
		world_stop(w);
	}
}

/* ---- sites ---- */

/* Tells once, when the last item has gone. */
static void
sites_that_nothing_names_are_told(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t sites[] = { 1, 2, 0 };
	struct list items;
	struct list kept;

	assert_int_equal(world_put(w, 0, 1, 10, sites, 3, &items), ERR_OK);
	assert_int_equal(world_put(w, 0, 2, 10, sites, 1, &kept), ERR_OK);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(world_record(w, shift_item(&items), RECIPIENT_DELIVERED, 0, ""),
				 ERR_OK);
	for (unsigned i = 0; i < 50 && w->unused[2] == 0; i++)
		world_turn(w);
	assert_int_equal(w->unused[2], 1);
	assert_int_equal(w->unused[1], 0);
	queue_release(queue_end(w->store, 0), shift_item(&kept), 0);
	assert_int_equal(world_act_soon(w, 0, world_id(2), QUEUE_REMOVE), ERR_OK);
	for (unsigned i = 0; i < 50 && w->unused[1] == 0; i++)
		world_turn(w);
	assert_int_equal(w->unused[1], 1);
	world_stop(w);
	/* A start asks for sites of mails that are over, too, and tells of them. */
	world_open(w, *state, 2);
	world_put_waiting(w, 0, 3, 10);
	for (unsigned i = 0; i < 50; i++)
		world_turn(w);
	assert_int_equal(w->unused[1], 0);
	world_stop(w);
}

/* ---- claims and bodies ---- */

static void
a_released_item_waits_for_its_time(void **state)
{
	struct world *w = open_empty(state, 1);
	struct queue_item *item;
	struct list items;
	enum err error;

	release(w, put_one(w, 1, 10), far_ms);
	assert_int_equal(world_claim(w, 0, 1, 9, &items, &error), 0);
	assert_int_equal(error, ERR_OK);
	act_on(w, 1, QUEUE_REQUEUE);
	world_claim_one(w, 1, &item);
	release(w, item, far_ms);
	world_stop(w);
	w = open_again(state, 1);
	if (w->kind->is_shared) { /* it went to where all nodes see it */
		world_expect(w, mails, 1);
		assert_int_equal(world_claim(w, 0, 1, 9, &items, &error), 0);
		act_on(w, 1, QUEUE_REQUEUE);
	} /* else in memory only */
	world_claim_one(w, 1, &item);
	release(w, item, 0);
	world_stop(w);
}

static void
a_dropped_body_is_read_back(void **state)
{
	struct world *w = open_empty(state, 2);
	struct queue_item *item = put_one(w, 1, 30000);
	enum err error;

	assert_non_null(item->mail->body);
	queue_drop_body(queue_end(w->store, 0), item->mail);
	assert_null(item->mail->body);
	assert_true(world_body_is(w, 0, item, 1, &error));
	assert_true(world_body_is(w, 1, item, 1, &error));
	release(w, item, 0);
	world_stop(w);
}

static void
on_loaded(struct queue_load *l, enum err e)
{
	struct wait *wait = CONTAINER_OF(l, struct wait, load);

	wait->done = true;
	wait->error = e;
}

/* The same bytes from the middle as from the body in memory. */
static void
a_body_can_be_read_from_anywhere(void **state)
{
	const uint64_t offsets[] = { 0, 1, 4095, 4097, 8191, 29999, 30000, 50000 };
	struct world *w = open_empty(state, 1);
	struct queue_item *item = put_one(w, 1, 30000);
	uint8_t *memory = aligned_alloc(4096, PIECE);

	for (unsigned i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
		struct wait wait = { .load = { .mail = item->mail,
					       .offset = offsets[i],
					       .memory = memory,
					       .capacity = PIECE,
					       .on_done = on_loaded } };
		queue_load(queue_end(w->store, 0), &wait.load);
		world_wait(w, &wait.done);
		assert_int_equal(wait.error, ERR_OK);
		assert_int_equal(wait.load.bytes.size == 0, offsets[i] >= 30000);
		assert_true(wait.load.bytes.size <= PIECE);
		for (size_t k = 0; k < wait.load.bytes.size; k++) {
			struct span kept = body_at(item->mail->body, offsets[i] + k);
			assert_int_equal(wait.load.bytes.data[k], kept.data[0]);
		}
	}
	free(memory);
	release(w, item, 0);
	world_stop(w);
}

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct wait *wait = CONTAINER_OF(c, struct wait, claim);

	wait->done = true;
	wait->error = e;
}

static void
bodies_come_with_a_claim_that_asks(void **state)
{
	struct world *w = open_empty(state, 1);

	world_put_waiting(w, 0, 1, 5000);
	for (unsigned with = 0; with < 2; with++) {
		struct wait wait = { .claim = { .site = { 1 },
						.most = 1,
						.with_bodies = with == 1,
						.on_done = on_claimed } };
		world_turn(w);
		queue_claim(queue_end(w->store, 0), &wait.claim);
		world_wait(w, &wait.done);
		struct queue_item *item = shift_item(&wait.claim.items);
		assert_non_null(item);
		assert_int_equal(item->mail->body != NULL, with == 1);
		if (with == 1)
			assert_int_equal(body_size(item->mail->body), 5000);
		release(w, item, 0);
	}
	world_stop(w);
}

/* ---- acts and listings ---- */

static void
acts_do_not_touch_a_claimed_mail(void **state)
{
	struct world *w = open_empty(state, 1);
	struct queue_item *item = put_one(w, 1, 10);
	static const enum queue_action actions[] = { QUEUE_HOLD, QUEUE_REQUEUE, QUEUE_REMOVE };

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(world_act(w, 0, world_id(1), actions[i]), ERR_AGAIN);
	release(w, item, 0);
	act_on(w, 1, QUEUE_HOLD);
	act_on(w, 1, QUEUE_HOLD); /* twice is once */
	act_on(w, 1, QUEUE_UNHOLD);
	world_expect(w, items_held, 0);
	world_stop(w);
}

struct rows {
	unsigned count;
	struct queue_row last;
};

static bool
on_row(void *context, const struct queue_row *row)
{
	struct rows *rows = context;

	rows->count++;
	rows->last = *row;
	return true;
}

static struct rows
list_all(struct world *w, struct queue_filter f)
{
	struct rows rows = { 0 };

	world_list(w, f, on_row, &rows);
	return rows;
}

/* Mails 0 to 4, accepted one after the other: waiting, held, claimed, failed for one
 * recipient, waiting for a second attempt at another site. */
static void
filters_choose_rows(void **state)
{
	struct world *w = open_empty(state, 2);
	const uint32_t site = 2;
	const uint32_t sites[] = { 1, 3 };
	struct list items;

	world_put_waiting(w, 1, 0, 77);
	world_put_waiting(w, 1, 1, 10);
	act_on(w, 1, QUEUE_HOLD);
	struct queue_item *claimed = put_one(w, 2, 10);
	assert_int_equal(world_put(w, 0, 3, 10, sites, 2, &items), ERR_OK);
	assert_int_equal(world_record(w, take_site(&items, 3), RECIPIENT_FAILED, 0, "5"), ERR_OK);
	release(w, take_site(&items, 1), 0);
	assert_int_equal(world_put(w, 1, 4, 10, &site, 1, &items), ERR_OK);
	assert_int_equal(world_record(w, shift_item(&items), RECIPIENT_PENDING, far_ms, "4"),
			 ERR_OK);
	assert_int_equal(list_all(w, (struct queue_filter){ 0 }).count, 5);
	for (unsigned s = QUEUE_WAITING; s <= QUEUE_FAILED; s++) {
		struct rows rows = list_all(w, (struct queue_filter){ .state = s });
		assert_int_equal(rows.count, s == QUEUE_WAITING ? 3 : 1);
		assert_int_equal(rows.last.state, s);
	}
	struct rows old =
		list_all(w, (struct queue_filter){ .accepted_before_ms = world_about_ms(1) });
	assert_int_equal(old.count, 1);
	assert_true(mail_id_eq(old.last.id, world_id(0)));
	assert_int_equal(old.last.body_size, 77);
	assert_int_equal(old.last.attempts, 0);
	struct rows there = list_all(w, (struct queue_filter){ .by_site = true, .site = { 2 } });
	assert_int_equal(there.count, 1);
	assert_true(mail_id_eq(there.last.id, world_id(4)));
	assert_int_equal(there.last.attempts, 1);
	assert_true(world_is_time(w, there.last.due_at_ms, far_ms));
	const struct queue_filter none = { .by_id = true, .id = world_id(4), .state = QUEUE_HELD };
	assert_int_equal(list_all(w, none).count, 0);
	release(w, claimed, 0);
	world_stop(w);
}

/* Claimed items whose outcome comes too late are refused and left to the next start. */
static void
a_stop_leaves_claimed_items_to_the_next_start(void **state)
{
	struct world *w = open_empty(state, 1);

	assert_non_null(put_one(w, 1, 10));
	world_stop(w);
	w = open_again(state, 1);
	world_expect(w, items_waiting, 1);
	world_stop(w);
}

int
queue_suite_lives_run(const struct queue_suite_store *kind)
{
#define TEST(f) cmocka_unit_test_prestate(f, (void *)(uintptr_t)kind)
	const struct CMUnitTest tests[] = {
		TEST(outcomes_survive_a_death),
		TEST(starts_are_counted_over_deaths),
		TEST(an_orderly_end_closes_a_start),
		TEST(acts_survive_a_death),
		TEST(large_bodies_survive_a_death),
		TEST(one_record_may_say_something_else_of_each),
		TEST(a_mail_ends_when_its_last_recipient_fails),
		TEST(a_notice_is_kept_with_its_outcome),
		TEST(notices_survive_a_death),
		TEST(a_refused_notice_leaves_the_item_claimed),
		TEST(sites_that_nothing_names_are_told),
		TEST(a_released_item_waits_for_its_time),
		TEST(a_dropped_body_is_read_back),
		TEST(a_body_can_be_read_from_anywhere),
		TEST(bodies_come_with_a_claim_that_asks),
		TEST(acts_do_not_touch_a_claimed_mail),
		TEST(filters_choose_rows),
		TEST(a_stop_leaves_claimed_items_to_the_next_start),
	};
#undef TEST
	return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}
