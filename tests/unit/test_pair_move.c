/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses pair_rig queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "queue/pair/pair.h"
#include "tests/lib/pair_rig.h"

/* Mails from the spool into Redis and back: as they were, and once, also where the process dies in
 * the middle. */

enum { MAILS = 7, RECIPIENTS = 3 };

static const uint64_t far_ms = (uint64_t)1 << 43;
static const uint64_t sizes[MAILS] = { 0, 1, 4096, 70000, 256 * 1024, 300000, 900000 };

static struct world *const w = &rig_world;

/* ---- what is kept of a mail ---- */

struct looks {
	bool done;
	enum err error;
	struct queue_show show;
	bool is_held;
	uint64_t accepted_at_ms, body_size;
	uint32_t flags;
	char sender[64], client[64];
	struct {
		char address[64], reply[64];
		uint8_t state, notify;
		uint16_t attempts;
		bool notified;
		uint64_t retry_at_ms;
	} recipients[RECIPIENTS];
};

static void
copy(char *to, struct span from)
{
	assert_true(from.size < 64);
	memset(to, 0, 64);
	if (from.size > 0)
		memcpy(to, from.data, from.size);
}

static void
on_shown(struct queue_show *s, enum err e)
{
	struct looks *l = CONTAINER_OF(s, struct looks, show);
	const struct mail_envelope *v = s->envelope;

	l->done = true;
	l->error = e;
	if (e != ERR_OK)
		return;
	l->is_held = s->is_held;
	l->accepted_at_ms = v->accepted_at_ms;
	l->body_size = v->body_size;
	l->flags = v->flags;
	copy(l->sender, v->sender);
	copy(l->client, v->client);
	assert_int_equal(v->recipient_count, RECIPIENTS);
	for (uint32_t i = 0; i < RECIPIENTS; i++) {
		const struct mail_recipient *r = &v->recipients[i];
		copy(l->recipients[i].address, r->address);
		copy(l->recipients[i].reply, r->reply);
		l->recipients[i].state = r->state;
		l->recipients[i].notify = r->notify;
		l->recipients[i].attempts = r->attempts;
		l->recipients[i].notified = r->notified;
		l->recipients[i].retry_at_ms = r->retry_at_ms;
	}
}

static struct looks
look_at(unsigned number)
{
	static struct looks l;

	memset(&l, 0, sizeof l);
	l.show = (struct queue_show){ .id = world_id(number), .on_done = on_shown };
	queue_show(rig_end(), &l.show);
	world_wait(w, &l.done);
	assert_int_equal(l.error, ERR_OK);
	return l;
}

/* Times of Redis are by its clock, to some milliseconds. */
static void
assert_same_time(uint64_t a, uint64_t b)
{
	assert_true(a <= b + 1000 && b <= a + 1000);
}

static void
assert_looks_alike(const struct looks *a, const struct looks *b)
{
	assert_int_equal(a->is_held, b->is_held);
	assert_same_time(a->accepted_at_ms, b->accepted_at_ms);
	assert_int_equal(a->body_size, b->body_size);
	assert_int_equal(a->flags, b->flags);
	assert_string_equal(a->sender, b->sender);
	assert_string_equal(a->client, b->client);
	for (uint32_t i = 0; i < RECIPIENTS; i++) {
		assert_string_equal(a->recipients[i].address, b->recipients[i].address);
		assert_string_equal(a->recipients[i].reply, b->recipients[i].reply);
		assert_int_equal(a->recipients[i].state, b->recipients[i].state);
		assert_int_equal(a->recipients[i].notify, b->recipients[i].notify);
		assert_int_equal(a->recipients[i].attempts, b->recipients[i].attempts);
		assert_int_equal(a->recipients[i].notified, b->recipients[i].notified);
		if (a->recipients[i].state == RECIPIENT_PENDING)
			assert_same_time(a->recipients[i].retry_at_ms,
					 b->recipients[i].retry_at_ms);
	}
}

/* Three recipients at three sites: one is delivered, one was told of its delay, one waits. */
static void
put_many_sided(unsigned number, uint64_t size)
{
	const uint32_t sites[RECIPIENTS] = { 1, 2, 3 };
	struct queue_item *i;
	struct list items;

	assert_int_equal(world_put(w, 0, number, size, sites, RECIPIENTS, &items), ERR_OK);
	while ((i = rig_shift(&items)) != NULL) {
		if (i->site.number == 1)
			assert_int_equal(world_record(w, i, RECIPIENT_DELIVERED, 0, "250 ok"),
					 ERR_OK);
		else
			assert_int_equal(world_record(w, i, RECIPIENT_PENDING,
						      far_ms + i->site.number, "451 later"),
					 ERR_OK);
	}
}

static void
move_all(enum queue_action action)
{
	for (unsigned n = 0; n < MAILS; n++)
		assert_int_equal(world_act(w, 0, world_id(n), action), ERR_OK);
}

/* Both that are pending, with the body of the mail. */
static void
deliver_all(unsigned count)
{
	struct queue_item *i;
	enum err error;

	for (unsigned n = 0; n < count; n++) {
		if (look_at(n).is_held)
			assert_int_equal(world_act_soon(w, 0, world_id(n), QUEUE_UNHOLD), ERR_OK);
		assert_int_equal(world_act_soon(w, 0, world_id(n), QUEUE_REQUEUE), ERR_OK);
		for (uint32_t site = 2; site <= 3; site++) {
			world_claim_one(w, site, &i);
			assert_true(mail_id_eq(i->mail->id, world_id(n)));
			assert_true(world_body_is(w, 0, i, n, &error));
			rig_deliver(i);
		}
	}
}

static const char *
keys(const char *pattern)
{
	char command[64];

	snprintf(command, sizeof command, "KEYS %s", pattern);
	return redis_server_ask(&rig_server, command);
}

/* ---- tests ---- */

static void
a_mail_is_the_same_after_two_moves(void **state)
{
	struct looks before[MAILS];

	(void)state;
	rig_begin();
	rig_redis_is_killed();
	for (unsigned n = 0; n < MAILS; n++) {
		put_many_sided(n, sizes[n]);
		if (n % 3 == 2)
			assert_int_equal(world_act(w, 0, world_id(n), QUEUE_HOLD), ERR_OK);
		before[n] = look_at(n);
		assert_int_equal(before[n].is_held, n % 3 == 2);
	}
	rig_redis_is_back();
	assert_int_equal(rig_mails_here(), MAILS);
	for (unsigned life = 0; life < 2; life++) {
		move_all(QUEUE_MOVE_TO_REDIS);
		assert_int_equal(rig_mails_here(), 0);
		for (unsigned n = 0; n < MAILS; n++) {
			struct looks now = look_at(n);
			assert_looks_alike(&before[n], &now);
		}
		move_all(QUEUE_MOVE_TO_SPOOL);
		assert_int_equal(rig_mails_here(), MAILS);
		assert_string_equal(keys("*:m:*"), "\n");
		assert_string_equal(keys("*:b:*"), "\n");
		for (unsigned n = 0; n < MAILS; n++) {
			struct looks now = look_at(n);
			assert_looks_alike(&before[n], &now);
		}
	}
	world_stop(w);
	rig_open(); /* and after a restart */
	for (unsigned n = 0; n < MAILS; n++) {
		struct looks now = look_at(n);
		assert_looks_alike(&before[n], &now);
	}
	deliver_all(MAILS);
	assert_int_equal(rig_mails_here(), 0);
	assert_string_equal(keys("*:came"), "\n");
	assert_string_equal(keys("*:went"), "\n");
	world_stop(w);
}

static void
what_was_moved_to_redis_is_delivered_from_there(void **state)
{
	(void)state;
	rig_begin();
	rig_redis_is_killed();
	for (unsigned n = 0; n < MAILS; n++)
		put_many_sided(n, sizes[n]);
	rig_redis_is_back();
	move_all(QUEUE_MOVE_TO_REDIS);
	deliver_all(MAILS);
	world_expect(w, mails, 0);
	assert_string_equal(keys("*:[mb]:*"), "\n");
	world_stop(w);
}

static void
what_can_not_be_moved_stays(void **state)
{
	struct queue_item *i;

	(void)state;
	rig_begin();
	assert_int_equal(world_act(w, 0, world_id(77), QUEUE_MOVE_TO_REDIS), ERR_NOT_FOUND);
	assert_int_equal(world_act(w, 0, world_id(77), QUEUE_MOVE_TO_SPOOL), ERR_NOT_FOUND);
	struct queue_item *there = rig_put(1, 100, 1, QUEUE_IN_REDIS); /* claimed */
	assert_int_equal(world_act(w, 0, world_id(1), QUEUE_MOVE_TO_SPOOL), ERR_AGAIN);
	rig_redis_is_killed();
	struct queue_item *here = rig_put(2, 100, 1, QUEUE_IN_SPOOL);
	assert_int_equal(world_act(w, 0, world_id(2), QUEUE_MOVE_TO_REDIS), ERR_AWAY);
	assert_int_equal(world_act(w, 0, world_id(2), QUEUE_MOVE_TO_SPOOL), ERR_AGAIN);
	rig_redis_is_back();
	assert_int_equal(world_act(w, 0, world_id(2), QUEUE_MOVE_TO_REDIS), ERR_AGAIN);
	queue_release(rig_end(), here, 0);
	rig_redis_is_killed();
	assert_int_equal(world_act(w, 0, world_id(2), QUEUE_MOVE_TO_REDIS), ERR_AWAY);
	world_claim_one(w, 1, &i);
	assert_true(mail_id_eq(i->mail->id, world_id(2)));
	rig_deliver(i);
	rig_redis_is_back();
	rig_deliver(there);
	world_expect(w, mails, 0);
	world_stop(w);
}

static void
a_full_redis_leaves_it_in_the_spool(void **state)
{
	(void)state;
	rig_begin();
	rig_redis_is_killed();
	for (unsigned n = 0; n < MAILS; n++)
		put_many_sided(n, sizes[n]);
	rig_redis_is_back();
	redis_server_ask(&rig_server, "CONFIG SET maxmemory 1mb");
	for (unsigned n = 0; n < MAILS; n++)
		assert_int_equal(world_act(w, 0, world_id(n), QUEUE_MOVE_TO_REDIS), ERR_NO_ROOM);
	redis_server_ask(&rig_server, "CONFIG SET maxmemory 0");
	assert_int_equal(rig_mails_here(), MAILS);
	deliver_all(MAILS);
	world_stop(w);
}

struct two_moves {
	struct queue_act acts[2];
	enum err errors[2];
	unsigned done;
};

static void
on_one_moved(struct queue_act *a, enum err e)
{
	struct two_moves *t = (struct two_moves *)(uintptr_t)a->why.data;

	t->errors[a == &t->acts[1]] = e;
	t->done++;
}

/* Asked for twice at once, by one worker or two: one of them has it. */
static void
a_mail_comes_into_one_spool(void **state)
{
	struct queue_numbers n[2];
	struct two_moves t;

	(void)state;
	for (unsigned second = 0; second < 2; second++) {
		uint64_t end_ms = clock_monotonic_ms() + RIG_DEADLINE_MS;
		rig_begin();
		put_many_sided(0, 3000);
		world_stop(w);
		world_open(w, &rig_with_redis, 2);
		memset(&t, 0, sizeof t);
		/* What waits here goes back first. */
		do {
			world_turn(w);
			t.done = 0;
			for (unsigned i = 0; i < 2; i++) {
				t.acts[i] = (struct queue_act){ .action = QUEUE_MOVE_TO_SPOOL,
								.id = world_id(0),
								.why = { (const uint8_t *)&t, 0 },
								.on_done = on_one_moved };
				queue_act(queue_end(w->store, i * second), &t.acts[i]);
			}
			while (t.done < 2 && clock_monotonic_ms() < end_ms)
				world_turn(w);
			assert_int_equal(t.done, 2);
		} while (t.errors[0] != ERR_OK && t.errors[1] != ERR_OK &&
			 clock_monotonic_ms() < end_ms);
		assert_int_equal((t.errors[0] == ERR_OK) + (t.errors[1] == ERR_OK), 1);
		assert_true(t.errors[0] == ERR_AGAIN || t.errors[1] == ERR_AGAIN);
		for (unsigned i = 0; i < 2; i++)
			queue_count(queue_end(w->store, i), &n[i]);
		assert_int_equal(n[0].mails_here + n[1].mails_here, 1);
		world_stop(w);
	}
}

/* ---- deaths ---- */

static void
on_acted(struct queue_act *a, enum err e)
{
	(void)a;
	(void)e;
}

/* Begins the move in a process of its own, which dies after so many turns. */
static void
move_and_die(enum queue_action action, unsigned turns)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct queue_act act = { .action = action,
					 .id = world_id(0),
					 .who = SPAN("somebody"),
					 .why = SPAN("a test"),
					 .on_done = on_acted };
		rig_open();
		queue_act(rig_end(), &act);
		for (unsigned n = 0; n < turns; n++)
			worker_turn(&w->workers[0], 200);
		_exit(0);
	}
	int status = -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
turn_until_none_is_here(void)
{
	uint64_t end_ms = clock_monotonic_ms() + RIG_DEADLINE_MS;

	while (rig_mails_here() > 0 && clock_monotonic_ms() < end_ms)
		world_turn(w);
	assert_int_equal(rig_mails_here(), 0);
}

static void
assert_nothing_is_claimed(void)
{
	struct list items;
	enum err error;

	for (uint32_t site = 1; site <= RECIPIENTS; site++)
		assert_int_equal(world_claim(w, 0, site, 9, &items, &error), 0);
}

/* Is there one mail, in one of the two, and deliverable? Then neither has any. */
static enum queue_place
settle(uint64_t size)
{
	uint64_t end_ms = clock_monotonic_ms() + RIG_DEADLINE_MS;
	struct queue_item *i = NULL;
	enum err error = ERR_AGAIN;
	enum queue_place place = QUEUE_IN_SPOOL;

	/* While it is marked nobody may have it. */
	while (error != ERR_OK && clock_monotonic_ms() < end_ms) {
		world_turn(w);
		error = world_act(w, 0, world_id(0), QUEUE_REQUEUE);
	}
	assert_int_equal(error, ERR_OK);
	for (uint32_t site = 2; site <= 3; site++) {
		world_claim_one(w, site, &i);
		assert_int_equal(i->mail->envelope->body_size, size);
		assert_int_equal(i->mail->envelope->recipients[site - 1].attempts, 1);
		assert_true(world_body_is(w, 0, i, 0, &error));
		place = i->mail->place;
		rig_deliver(i);
	}
	turn_until_none_is_here();
	assert_nothing_is_claimed();
	assert_string_equal(keys("*:m:*"), "\n");
	return place;
}

/* At every turn of a move, until it is through. */
static void
die_at_every_turn(enum queue_action action, uint64_t size)
{
	bool to_redis = action == QUEUE_MOVE_TO_REDIS;
	enum queue_place target = to_redis ? QUEUE_IN_REDIS : QUEUE_IN_SPOOL;
	unsigned through = 0;
	unsigned before = 0;

	for (unsigned turns = 0; through < 5; turns++) {
		assert_true(turns < 500);
		rig_begin();
		if (to_redis)
			rig_redis_is_killed();
		put_many_sided(0, size);
		if (to_redis)
			rig_redis_is_back();
		world_stop(w);
		move_and_die(action, turns);
		rig_open();
		enum queue_place place = settle(size);
		through += place == target;
		before += place != target;
		world_stop(w);
	}
	printf("%u deaths before, %u behind the change\n", before, through);
	assert_true(before > 0);
}

static void
a_death_on_the_way_to_redis_neither_loses_nor_doubles(void **state)
{
	(void)state;
	die_at_every_turn(QUEUE_MOVE_TO_REDIS, 3000);
	die_at_every_turn(QUEUE_MOVE_TO_REDIS, 300000);
}

static void
a_death_on_the_way_to_the_spool_neither_loses_nor_doubles(void **state)
{
	(void)state;
	die_at_every_turn(QUEUE_MOVE_TO_SPOOL, 3000);
	die_at_every_turn(QUEUE_MOVE_TO_SPOOL, 300000);
}

/* With an argument: the tests whose names fit it. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mail_is_the_same_after_two_moves),
		cmocka_unit_test(what_was_moved_to_redis_is_delivered_from_there),
		cmocka_unit_test(what_can_not_be_moved_stays),
		cmocka_unit_test(a_full_redis_leaves_it_in_the_spool),
		cmocka_unit_test(a_mail_comes_into_one_spool),
		cmocka_unit_test(a_death_on_the_way_to_redis_neither_loses_nor_doubles),
		cmocka_unit_test(a_death_on_the_way_to_the_spool_neither_loses_nor_doubles),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	rig_init();
	int failed = cmocka_run_group_tests_name("pair, moves", tests, NULL, NULL);
	rig_fini();
	return failed;
}
