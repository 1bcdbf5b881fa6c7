/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue_suite redis_server queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "queue/pair/pair.h"
#include "queue/redis/store.h"
#include "tests/lib/queue_suite.h"
#include "tests/lib/queue_suite_lives.h"
#include "tests/lib/queue_suite_seeing.h"
#include "tests/lib/queue_suite_turns.h"
#include "tests/lib/redis_server.h"

/* The suite of all stores, with Redis there and away, and what only a pair does: Redis goes and
 * comes back while mails are on their way. */

enum { DEADLINE_MS = 20 * 1000, ALONE_AFTER_MS = 1 };

static struct redis_server server;
static char path[] = "/var/tmp/ringpost-test-pair-XXXXXX";
static const char *spool_path = path;
static unsigned wait_ms; /* for Redis */

static void
remove_all(const char *directory)
{
	DIR *d = opendir(directory);
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char name[1024];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof name, "%s/%s", directory, e->d_name);
		if (unlink(name) != 0)
			remove_all(name);
	}
	if (d != NULL)
		closedir(d);
	rmdir(directory);
}

static void
reset(void)
{
	remove_all(path);
	mkdir(path, 0700);
	if (server.pid != 0)
		assert_string_equal(redis_server_ask(&server, "FLUSHALL"), "OK\n");
}

static struct queue_store *
open_pair(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	  struct buf *why)
{
	static struct span address;
	static struct redis_options redis;

	address = span_of_string(server.socket);
	redis = (struct redis_options){
		.kind = REDIS_SINGLE,
		.addresses = &address,
		.address_count = 1,
		.prefix = SPAN("ringpost"),
		.shards = 16,
		.durability = REDIS_DISK,
		.deadline_ms = 5000,
		.lease_ms = 3000,
		.compress = true,
	};
	const struct queue_options options = {
		.redis = &redis,
		.fallback = true,
		.fallback_after_ms = wait_ms,
		.spool_path = spool_path,
		.segment_size = 4 * 1024 * 1024,
		.body_memory = 128 * 1024 * 1024,
	};
	return queue_open(&options, workers, worker_count, hooks, why);
}

static const struct queue_suite_store with_redis = {
	.name = "pair, in Redis",
	.reset = reset,
	.open = open_pair,
	.file_threshold = 256 * 1024,
	.is_shared = true,
};

static const struct queue_suite_store without_redis = {
	.name = "pair, in the spool",
	.reset = reset,
	.open = open_pair,
	.file_threshold = 256 * 1024,
	.is_away = true,
};

/* ---- helpers ---- */

static struct world w;

static void
begin(void)
{
	reset();
	wait_ms = DEADLINE_MS;
	world_open(&w, &with_redis, 1);
}

static struct queue *
end(void)
{
	return queue_end(w.store, 0);
}

static struct queue_item *
shift(struct list *items)
{
	struct list_node *n = list_shift(items);

	return n == NULL ? NULL : LIST_ITEM(n, struct queue_item, link);
}

static struct queue_item *
put(unsigned number, uint64_t size, uint32_t site, enum queue_place place)
{
	struct list items;

	assert_int_equal(world_put(&w, 0, number, size, &site, 1, &items), ERR_OK);
	struct queue_item *i = shift(&items);
	assert_int_equal(i->mail->place, place);
	return i;
}

/* Puts mails until one goes there; each is delivered. */
static void
wait_for(enum queue_place wanted)
{
	static unsigned number = 10000; /* ids are never used again */
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	const uint32_t site = 9;
	bool is_there = false;

	while (!is_there) {
		struct list items;
		world_turn(&w);
		if (clock_monotonic_ms() > end_ms)
			fail_msg("Redis does not change its mind");
		if (world_put(&w, 0, number++, 10, &site, 1, &items) != ERR_OK)
			continue; /* in doubt */
		struct queue_item *i = shift(&items);
		is_there = i->mail->place == wanted;
		assert_int_equal(world_record(&w, i, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
}

static uint64_t
mails_here(void)
{
	struct queue_numbers n;

	queue_count(end(), &n);
	return n.mails_here;
}

static void
deliver(struct queue_item *i)
{
	assert_int_equal(world_record(&w, i, RECIPIENT_DELIVERED, 0, "250"), ERR_OK);
}

/* `context`: how often each mail was seen. */
static bool
on_row(void *context, const struct queue_row *row)
{
	unsigned *seen = context;

	seen[world_number(row->accepted_at_ms)]++;
	return seen[world_number(row->accepted_at_ms)] % 2 == 0; /* a page of one */
}

static void
redis_is_killed(void)
{
	redis_server_end(&server, SIGKILL);
	wait_for(QUEUE_IN_SPOOL);
}

static void
redis_is_back(void)
{
	redis_server_restart(&server);
	wait_for(QUEUE_IN_REDIS);
}

/* ---- tests ---- */

static void
mail_goes_to_the_spool_while_redis_is_away(void **state)
{
	struct queue_item *i;
	enum err error;

	(void)state;
	begin();
	queue_release(end(), put(1, 3000, 1, QUEUE_IN_REDIS), 0);
	assert_int_equal(mails_here(), 0);
	redis_is_killed();
	queue_release(end(), put(2, 3000, 1, QUEUE_IN_SPOOL), 0);
	assert_int_equal(mails_here(), 1);
	/* What is in Redis is not handed out: nothing could be recorded of it. */
	world_claim_one(&w, 1, &i);
	assert_int_equal(world_number(i->mail->envelope->accepted_at_ms), 2);
	assert_int_equal(i->mail->place, QUEUE_IN_SPOOL);
	assert_true(queue_lease_is_valid(end(), i->mail));
	assert_true(queue_may_deliver(end()));
	struct list none;
	assert_int_equal(world_claim(&w, 0, 1, 9, &none, &error), 0);
	unsigned told = w.due;
	assert_true(world_body_is(&w, 0, i, 2, &error));
	deliver(i);
	assert_int_equal(mails_here(), 0);
	redis_is_back();
	/* What was left out is told of again, without anybody asking. */
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	while (w.due == told && clock_monotonic_ms() < end_ms)
		world_turn(&w);
	assert_true(w.due > told);
	world_claim_one(&w, 1, &i);
	assert_int_equal(i->mail->place, QUEUE_IN_REDIS);
	assert_true(world_body_is(&w, 0, i, 1, &error));
	deliver(i);
	world_expect(&w, mails, 0);
	world_stop(&w);
}

static void
both_are_claimed_from_and_listed(void **state)
{
	enum { EACH = 20 };
	struct list items;
	enum err error;
	unsigned places[2] = { 0 };

	(void)state;
	begin();
	for (unsigned n = 0; n < EACH; n++)
		queue_release(end(), put(n, 100, 1, QUEUE_IN_REDIS), 0);
	redis_is_killed();
	for (unsigned n = 0; n < EACH; n++)
		queue_release(end(), put(EACH + n, 100, 1, QUEUE_IN_SPOOL), 0);
	redis_is_back();
	unsigned seen[2 * EACH] = { 0 };
	uint64_t cursor = 0;
	const struct queue_filter all = { 0 };
	while (queue_list(end(), &all, &cursor, 200, on_row, seen))
		world_turn(&w);
	for (unsigned n = 0; n < 2 * EACH; n++)
		assert_int_equal(seen[n], 1);
	/* The first of a claim is one part and then the other. */
	for (unsigned n = 0; n < 4; n++) {
		assert_int_equal(world_claim(&w, 0, 1, EACH / 2, &items, &error), EACH / 2);
		struct queue_item *i;
		while ((i = shift(&items)) != NULL) {
			places[i->mail->place]++;
			deliver(i);
		}
		assert_int_equal(places[0] + places[1], (n + 1) * EACH / 2);
		if (n == 1)
			assert_int_equal(places[0], places[1]);
	}
	assert_int_equal(places[QUEUE_IN_SPOOL], EACH);
	world_expect(&w, mails, 0);
	world_stop(&w);
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

	queue_put(end(), &wait.put);
	world_wait(&w, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
	return shift(&wait.put.items);
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
	begin();
	for (unsigned n = 0; n < 4; n++) {
		drafts[n] = queue_draft_new(end(), world_id(n), 0);
		append(drafts[n], n, 0, cases[n].before);
	}
	redis_is_killed();
	for (unsigned n = 0; n < 4; n++) {
		append(drafts[n], n, cases[n].before, cases[n].size);
		assert_int_equal(queue_draft_size(drafts[n]), cases[n].size);
		struct queue_item *i = put_draft(drafts[n], n);
		assert_int_equal(i->mail->place, QUEUE_IN_SPOOL);
		assert_true(world_body_is(&w, 0, i, n, &error));
		deliver(i);
	}
	redis_server_restart(&server);
	world_stop(&w);
}

static void
a_full_redis_turns_nobody_away(void **state)
{
	struct queue_item *i;

	(void)state;
	begin();
	redis_server_ask(&server, "CONFIG SET maxmemory 1mb");
	for (unsigned n = 0; n < 10; n++) /* also the very first */
		queue_release(end(), put(n, 2000, 1, QUEUE_IN_SPOOL), 0);
	redis_server_ask(&server, "CONFIG SET maxmemory 0");
	wait_for(QUEUE_IN_REDIS);
	for (unsigned n = 0; n < 10; n++) {
		world_claim_one(&w, 1, &i);
		deliver(i);
	}
	world_stop(&w);
}

static void
a_redis_that_promises_less_gets_nothing(void **state)
{
	(void)state;
	begin();
	redis_server_ask(&server, "CONFIG SET appendfsync everysec");
	redis_server_ask(&server, "CLIENT KILL TYPE normal");
	wait_for(QUEUE_IN_SPOOL);
	redis_server_ask(&server, "CONFIG SET appendfsync always");
	wait_for(QUEUE_IN_REDIS);
	world_stop(&w);
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
	begin();
	mails[QUEUE_IN_REDIS] = put(1, 100, 1, QUEUE_IN_REDIS);
	redis_is_killed();
	mails[QUEUE_IN_SPOOL] = put(2, 100, 1, QUEUE_IN_SPOOL);
	redis_is_back();
	for (unsigned place = 0; place < 2; place++) {
		assert_int_equal(
			world_record_notice(&w, mails[place], &failed, 1, &notices[place], &items),
			ERR_OK);
		struct queue_item *i = shift(&items);
		assert_int_equal(i->mail->place, place);
		deliver(i);
	}
	world_expect(&w, mails, 0);
	world_stop(&w);
}

static void
a_site_is_unused_when_neither_names_it(void **state)
{
	struct queue_item *mails[2];

	(void)state;
	for (unsigned first = 0; first < 2; first++) {
		begin();
		mails[QUEUE_IN_REDIS] = put(1, 100, 3, QUEUE_IN_REDIS);
		redis_is_killed();
		mails[QUEUE_IN_SPOOL] = put(2, 100, 3, QUEUE_IN_SPOOL);
		redis_is_back();
		deliver(mails[first]);
		for (unsigned n = 0; n < 10; n++)
			world_turn(&w);
		assert_int_equal(w.unused[3], 0);
		deliver(mails[1 - first]);
		for (unsigned n = 0; n < 10; n++)
			world_turn(&w);
		assert_int_equal(w.unused[3], 1);
		world_stop(&w);
	}
}

static void
the_spool_is_delivered_after_a_restart(void **state)
{
	struct queue_item *i;
	enum err error;

	(void)state;
	begin();
	redis_is_killed();
	put(1, 70000, 1, QUEUE_IN_SPOOL);
	assert_int_equal(world_act(&w, 0, world_id(1), QUEUE_HOLD), ERR_AGAIN);
	struct queue_item *held = put(2, 100, 1, QUEUE_IN_SPOOL);
	queue_release(end(), held, 0);
	assert_int_equal(world_act(&w, 0, world_id(2), QUEUE_HOLD), ERR_OK);
	redis_server_restart(&server);
	world_stop(&w);
	world_open(&w, &with_redis, 1);
	wait_for(QUEUE_IN_REDIS);
	world_claim_one(&w, 1, &i);
	assert_int_equal(i->mail->place, QUEUE_IN_SPOOL);
	assert_true(world_body_is(&w, 0, i, 1, &error));
	deliver(i);
	assert_int_equal(mails_here(), 1);
	assert_int_equal(world_act(&w, 0, world_id(2), QUEUE_REMOVE), ERR_OK);
	assert_int_equal(mails_here(), 0);
	world_stop(&w);
}

static void
a_spool_that_a_restart_wipes_is_refused(void **state)
{
	(void)state;
	spool_path = "/dev/shm";
	assert_false(world_try_open(&w, &without_redis, 1));
	assert_non_null(strstr(w.why, "/dev/shm does not survive a restart"));
	assert_non_null(strstr(w.why, "put queue.spool.path on a disk"));
	spool_path = "/var/tmp/ringpost-there-is-no-such-folder";
	assert_false(world_try_open(&w, &without_redis, 1));
	assert_non_null(strstr(w.why, "make the directory"));
	spool_path = path;
}

static int
run_own(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_goes_to_the_spool_while_redis_is_away),
		cmocka_unit_test(both_are_claimed_from_and_listed),
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
	if (mkdtemp(path) == NULL)
		return 1;
	redis_server_start(&server, "appendonly yes\nappendfsync always");
	int failed = run_own();
	wait_ms = DEADLINE_MS;
	failed += run_suite(&with_redis);
	redis_server_end(&server, SIGKILL);
	wait_ms = ALONE_AFTER_MS;
	failed += run_suite(&without_redis);
	redis_server_free(&server);
	remove_all(path);
	return failed;
}
