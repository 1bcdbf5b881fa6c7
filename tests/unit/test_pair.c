/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses pair_rig queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>

#include "core/base/clock.h"
#include "queue/pair/pair.h"
#include "tests/lib/pair_rig.h"
#include "tests/lib/queue_suite_lives.h"
#include "tests/lib/queue_suite_seeing.h"
#include "tests/lib/queue_suite_turns.h"

/* The suite of all stores, with Redis there and away, and what only a pair does: Redis goes and
 * comes back while mails are on their way. */

/* `context`: how often each mail was seen. */
static bool
on_row(void *context, const struct queue_row *row)
{
	unsigned *seen = context;

	seen[world_number(row->accepted_at_ms)]++;
	return seen[world_number(row->accepted_at_ms)] % 2 == 0; /* a page of one */
}

static void
mail_goes_to_the_spool_while_redis_is_away(void **state)
{
	struct queue_item *i;
	enum err error;

	(void)state;
	rig_begin();
	queue_release(rig_end(), rig_put(1, 3000, 1, QUEUE_IN_REDIS), 0);
	assert_int_equal(rig_mails_here(), 0);
	rig_redis_is_killed();
	queue_release(rig_end(), rig_put(2, 3000, 1, QUEUE_IN_SPOOL), 0);
	assert_int_equal(rig_mails_here(), 1);
	/* What is in Redis is not handed out: nothing could be recorded of it. */
	world_claim_one(&rig_world, 1, &i);
	assert_int_equal(world_number(i->mail->envelope->accepted_at_ms), 2);
	assert_int_equal(i->mail->place, QUEUE_IN_SPOOL);
	assert_true(queue_may_end_until_ms(rig_end(), i->mail) == UINT64_MAX);
	assert_true(queue_may_deliver(rig_end()));
	struct list none;
	assert_int_equal(world_claim(&rig_world, 0, 1, 9, &none, &error), 0);
	unsigned told = rig_world.due;
	assert_true(world_body_is(&rig_world, 0, i, 2, &error));
	rig_deliver(i);
	assert_int_equal(rig_mails_here(), 0);
	rig_redis_is_back();
	/* What was left out is told of again, without anybody asking. */
	uint64_t end_ms = clock_monotonic_ms() + RIG_DEADLINE_MS;
	while (rig_world.due == told && clock_monotonic_ms() < end_ms)
		world_turn(&rig_world);
	assert_true(rig_world.due > told);
	world_claim_one(&rig_world, 1, &i);
	assert_int_equal(i->mail->place, QUEUE_IN_REDIS);
	assert_true(world_body_is(&rig_world, 0, i, 1, &error));
	rig_deliver(i);
	world_expect(&rig_world, mails, 0);
	world_stop(&rig_world);
}

static void
both_are_claimed_from_and_listed(void **state)
{
	enum { EACH = 20 };
	struct list items;
	enum err error;
	unsigned places[2] = { 0 };

	(void)state;
	rig_begin();
	for (unsigned n = 0; n < EACH; n++)
		queue_release(rig_end(), rig_put(n, 100, 1, QUEUE_IN_REDIS), 0);
	rig_redis_is_killed();
	for (unsigned n = 0; n < EACH; n++)
		queue_release(rig_end(), rig_put(EACH + n, 100, 1, QUEUE_IN_SPOOL), 0);
	rig_redis_is_back();
	unsigned seen[2 * EACH] = { 0 };
	uint64_t cursor = 0;
	const struct queue_filter all = { 0 };
	while (queue_list(rig_end(), &all, &cursor, 200, on_row, seen))
		world_turn(&rig_world);
	for (unsigned n = 0; n < 2 * EACH; n++)
		assert_int_equal(seen[n], 1);
	/* The first of a claim is one part and then the other. */
	for (unsigned n = 0; n < 4; n++) {
		assert_int_equal(world_claim(&rig_world, 0, 1, EACH / 2, &items, &error), EACH / 2);
		struct queue_item *i;
		while ((i = rig_shift(&items)) != NULL) {
			places[i->mail->place]++;
			rig_deliver(i);
		}
		assert_int_equal(places[0] + places[1], (n + 1) * EACH / 2);
		if (n == 1)
			assert_int_equal(places[0], places[1]);
	}
	assert_int_equal(places[QUEUE_IN_SPOOL], EACH);
	world_expect(&rig_world, mails, 0);
	world_stop(&rig_world);
}

struct claim_wait {
	struct queue_claim claim;
	bool done;
	unsigned told; /* by then */
};

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct claim_wait *wait = CONTAINER_OF(c, struct claim_wait, claim);

	assert_int_equal(e, ERR_OK);
	wait->done = true;
	wait->told = rig_world.due;
}

/* What falls due in one part while the other one is asked: who got less than asked for waits to be
 * told. */
static void
what_falls_due_during_a_claim_is_told_behind_it(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 6; n++) {
		struct claim_wait wait = {
			.claim = { .site = { 1 }, .most = 9, .on_done = on_claimed }
		};
		struct queue_item *i;
		rig_begin();
		struct queue_item *first = rig_put(1, 100, 1, QUEUE_IN_REDIS);
		struct queue_item *second = rig_put(2, 100, 1, QUEUE_IN_REDIS);
		if (n % 2 == 1) { /* the other part is asked first */
			struct list none;
			enum err error;
			world_claim(&rig_world, 0, 1, 1, &none, &error);
		}
		queue_claim(rig_end(), &wait.claim);
		for (unsigned turns = 0; turns < n / 2; turns++)
			world_turn(&rig_world);
		queue_release(rig_end(), first, 0);
		world_wait(&rig_world, &wait.done);
		unsigned got = 0;
		while ((i = rig_shift(&wait.claim.items)) != NULL) {
			rig_deliver(i);
			got++;
		}
		uint64_t end_ms = clock_monotonic_ms() + RIG_DEADLINE_MS;
		while (got == 0 && rig_world.due == wait.told && clock_monotonic_ms() < end_ms)
			world_turn(&rig_world);
		assert_true(got == 1 || rig_world.due > wait.told);
		rig_deliver(second);
		world_stop(&rig_world);
	}
}

struct wait {
	struct queue_put put;
	bool done;
	enum err error;
};

static void
on_put(struct queue_put *p, enum err e)
{
	struct wait *wait = CONTAINER_OF(p, struct wait, put);

	wait->done = true;
	wait->error = e;
}

static uint8_t
byte_at(unsigned number, uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 9) + number * 7); /* as world_put() has it */
}

static void
append(struct queue_draft *d, unsigned number, uint64_t from, uint64_t to)
{
	uint8_t bytes[1000];

	while (from < to) {
		size_t n = to - from < sizeof bytes ? (size_t)(to - from) : sizeof bytes;
		for (size_t i = 0; i < n; i++)
			bytes[i] = byte_at(number, from + i);
		assert_int_equal(queue_draft_append(d, span_of(bytes, n)), ERR_OK);
		from += n;
	}
}

static struct queue_item *
put_draft(struct queue_draft *d, unsigned number)
{
	struct mail_recipient to = { .address = SPAN("to0@5.example"), .site = { 5 } };
	const struct mail_envelope envelope = {
		.id = world_id(number),
		.accepted_at_ms = (WORLD_FIRST + number) * (uint64_t)WORLD_PAUSE_MS,
		.flags = WORLD_FLAGS,
		.sender = SPAN("from@example.org"),
		.recipient_count = 1,
		.recipients = &to,
	};
	struct wait wait = { .put = { .draft = d, .envelope = &envelope, .on_done = on_put } };

	queue_put(rig_end(), &wait.put);
	world_wait(&rig_world, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
	return rig_shift(&wait.put.items);
}

static void
a_draft_that_redis_had_begun_to_take_is_kept(void **state)
{
	/* Small, and whole before the kill; large, and cut by it, with a piece sent or not. */
	static const struct {
		uint64_t before, size;
	} cases[] = { { 100, 100 }, { 300000, 300000 }, { 300000, 900000 }, { 1000, 800000 } };
	struct queue_draft *drafts[4];
	enum err error;

	(void)state;
	rig_begin();
	for (unsigned n = 0; n < 4; n++) {
		drafts[n] = queue_draft_new(rig_end(), world_id(n), 0);
		append(drafts[n], n, 0, cases[n].before);
	}
	rig_redis_is_killed();
	for (unsigned n = 0; n < 4; n++) {
		append(drafts[n], n, cases[n].before, cases[n].size);
		assert_int_equal(queue_draft_size(drafts[n]), cases[n].size);
		struct queue_item *i = put_draft(drafts[n], n);
		assert_int_equal(i->mail->place, QUEUE_IN_SPOOL);
		assert_true(world_body_is(&rig_world, 0, i, n, &error));
		rig_deliver(i);
	}
	redis_server_restart(&rig_server);
	world_stop(&rig_world);
}

static void
a_full_redis_turns_nobody_away(void **state)
{
	struct queue_item *i;

	(void)state;
	rig_begin();
	redis_server_ask(&rig_server, "CONFIG SET maxmemory 1mb");
	for (unsigned n = 0; n < 10; n++) /* also the very first */
		queue_release(rig_end(), rig_put(n, 2000, 1, QUEUE_IN_SPOOL), 0);
	redis_server_ask(&rig_server, "CONFIG SET maxmemory 0");
	rig_wait_for(QUEUE_IN_REDIS);
	for (unsigned n = 0; n < 10; n++) {
		world_claim_one(&rig_world, 1, &i);
		rig_deliver(i);
	}
	world_stop(&rig_world);
}

static void
a_redis_that_promises_less_gets_nothing(void **state)
{
	(void)state;
	rig_begin();
	redis_server_ask(&rig_server, "CONFIG SET appendfsync everysec");
	redis_server_ask(&rig_server, "CLIENT KILL TYPE normal");
	rig_wait_for(QUEUE_IN_SPOOL);
	redis_server_ask(&rig_server, "CONFIG SET appendfsync always");
	rig_wait_for(QUEUE_IN_REDIS);
	world_stop(&rig_world);
}

static void
a_notice_is_kept_with_its_mail(void **state)
{
	const struct queue_result failed = {
		.recipient = 0, .state = RECIPIENT_FAILED, .tried = true, .reply = SPAN("550")
	};
	const struct world_notice notices[] = { { 11, 100, 7, NULL }, { 12, 400000, 7, NULL } };
	struct queue_item *mails[2];
	struct list items;

	(void)state;
	rig_begin();
	mails[QUEUE_IN_REDIS] = rig_put(1, 100, 1, QUEUE_IN_REDIS);
	rig_redis_is_killed();
	mails[QUEUE_IN_SPOOL] = rig_put(2, 100, 1, QUEUE_IN_SPOOL);
	rig_redis_is_back();
	for (unsigned place = 0; place < 2; place++) {
		assert_int_equal(world_record_notice(&rig_world, mails[place], &failed, 1,
						     &notices[place], &items),
				 ERR_OK);
		struct queue_item *i = rig_shift(&items);
		assert_int_equal(i->mail->place, place);
		rig_deliver(i);
	}
	world_expect(&rig_world, mails, 0);
	world_stop(&rig_world);
}

static void
a_site_is_unused_when_neither_names_it(void **state)
{
	struct queue_item *mails[2];

	(void)state;
	for (unsigned first = 0; first < 2; first++) {
		rig_begin();
		mails[QUEUE_IN_REDIS] = rig_put(1, 100, 3, QUEUE_IN_REDIS);
		rig_redis_is_killed();
		mails[QUEUE_IN_SPOOL] = rig_put(2, 100, 3, QUEUE_IN_SPOOL);
		rig_redis_is_back();
		rig_deliver(mails[first]);
		for (unsigned n = 0; n < 10; n++)
			world_turn(&rig_world);
		assert_int_equal(rig_world.unused[3], 0);
		rig_deliver(mails[1 - first]);
		for (unsigned n = 0; n < 10; n++)
			world_turn(&rig_world);
		assert_int_equal(rig_world.unused[3], 1);
		world_stop(&rig_world);
	}
}

static void
the_spool_is_delivered_after_a_restart(void **state)
{
	struct queue_item *i;
	enum err error;

	(void)state;
	rig_begin();
	rig_redis_is_killed();
	rig_put(1, 70000, 1, QUEUE_IN_SPOOL);
	assert_int_equal(world_act(&rig_world, 0, world_id(1), QUEUE_HOLD), ERR_AGAIN);
	struct queue_item *held = rig_put(2, 100, 1, QUEUE_IN_SPOOL);
	queue_release(rig_end(), held, 0);
	assert_int_equal(world_act(&rig_world, 0, world_id(2), QUEUE_HOLD), ERR_OK);
	redis_server_restart(&rig_server);
	world_stop(&rig_world);
	world_open(&rig_world, &rig_with_redis, 1);
	rig_wait_for(QUEUE_IN_REDIS);
	world_claim_one(&rig_world, 1, &i);
	assert_int_equal(i->mail->place, QUEUE_IN_SPOOL);
	assert_true(world_body_is(&rig_world, 0, i, 1, &error));
	rig_deliver(i);
	assert_int_equal(rig_mails_here(), 1);
	assert_int_equal(world_act(&rig_world, 0, world_id(2), QUEUE_REMOVE), ERR_OK);
	assert_int_equal(rig_mails_here(), 0);
	world_stop(&rig_world);
}

static void
a_spool_that_a_restart_wipes_is_refused(void **state)
{
	const char *usual = rig_spool_path;

	(void)state;
	rig_spool_path = "/dev/shm";
	assert_false(world_try_open(&rig_world, &rig_without_redis, 1));
	assert_non_null(strstr(rig_world.why, "/dev/shm does not survive a restart"));
	assert_non_null(strstr(rig_world.why, "put queue.spool.path on a disk"));
	rig_spool_path = "/var/tmp/ringpost-there-is-no-such-folder";
	assert_false(world_try_open(&rig_world, &rig_without_redis, 1));
	assert_non_null(strstr(rig_world.why, "make the directory"));
	rig_spool_path = usual;
}

static int
run_own(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_goes_to_the_spool_while_redis_is_away),
		cmocka_unit_test(both_are_claimed_from_and_listed),
		cmocka_unit_test(what_falls_due_during_a_claim_is_told_behind_it),
		cmocka_unit_test(a_draft_that_redis_had_begun_to_take_is_kept),
		cmocka_unit_test(a_full_redis_turns_nobody_away),
		cmocka_unit_test(a_redis_that_promises_less_gets_nothing),
		cmocka_unit_test(a_notice_is_kept_with_its_mail),
		cmocka_unit_test(a_site_is_unused_when_neither_names_it),
		cmocka_unit_test(the_spool_is_delivered_after_a_restart),
		cmocka_unit_test(a_spool_that_a_restart_wipes_is_refused),
	};
	return cmocka_run_group_tests_name("pair", tests, NULL, NULL);
}

static int
run_suite(const struct queue_suite_store *kind)
{
	int failed = queue_suite_run(kind);

	failed += queue_suite_turns_run(kind);
	failed += queue_suite_seeing_run(kind);
	return failed + queue_suite_lives_run(kind);
}

/* With an argument: the tests whose names fit it. */
int
main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	rig_init();
	int failed = run_own();
	rig_wait_ms = RIG_DEADLINE_MS;
	failed += run_suite(&rig_with_redis);
	redis_server_end(&rig_server, SIGKILL);
	rig_wait_ms = RIG_ALONE_AFTER_MS;
	failed += run_suite(&rig_without_redis);
	rig_fini();
	return failed;
}
