/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue_suite redis_server queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "queue/redis/internal.h"
#include "tests/lib/queue_suite.h"
#include "tests/lib/redis_server.h"

/* What a fail-over loses is put back by hand: keys of a mail are copied aside before an outcome is
 * recorded, and are there again after it, as a replica that lagged would have them. */

enum { SHARDS = 16, WORKERS = 3, LEASE_MS = 30000, SITE_LOST = 1, SITE_KNOWN = 2, BODY = 3000 };

static struct redis_server server;
static enum redis_durability durability = REDIS_DISK;

static void
reset(void)
{
	assert_string_equal(redis_server_ask(&server, "FLUSHALL"), "OK\n");
}

static struct queue_store *
open_redis(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
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
		.shards = SHARDS,
		.durability = durability,
		.deadline_ms = 5000,
		.lease_ms = LEASE_MS,
		.compress = true,
	};
	const struct queue_options options = { .redis = &redis };
	return queue_open(&options, workers, worker_count, hooks, why);
}

static const struct queue_suite_store kind = {
	.name = "redis",
	.reset = reset,
	.open = open_redis,
	.file_threshold = 256 * 1024,
	.is_shared = true,
};

/* ---- the server behind the store's back ---- */

static const char *ask(const char *format, ...) __attribute__((format(printf, 1, 2)));

static const char *
ask(const char *format, ...)
{
	char words[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(words, sizeof words, format, arguments);
	va_end(arguments);
	return redis_server_ask(&server, words);
}

static unsigned
shard_of_number(unsigned number)
{
	return (unsigned)(world_id(number).low % SHARDS);
}

/* The next mail that lies in the same shard. */
static unsigned
beside(unsigned number)
{
	unsigned other = number + 1;

	while (shard_of_number(other) != shard_of_number(number))
		other++;
	return other;
}

static void
say_id(unsigned number, char out[REDIS_ID_SIZE + 1])
{
	struct buf text = buf_of(out, REDIS_ID_SIZE);

	id_hex(&text, world_id(number));
	out[REDIS_ID_SIZE] = 0;
}

/* Under the names of mail `to`, which is ours then, or (to == from) aside. */
static void
copy_mail(const struct world *w, unsigned from, unsigned to)
{
	const struct redis_store *s = (const struct redis_store *)(const void *)w->store;
	unsigned shard = shard_of_number(from);
	char source[REDIS_ID_SIZE + 1], target[REDIS_ID_SIZE + 1];

	say_id(from, source);
	say_id(to, target);
	const char *aside = from == to ? "aside" : "";
	ask("COPY '{ringpost:%u}:m:%s' '{ringpost:%u}:%sm:%s'", shard, source, shard, aside,
	    target);
	ask("COPY '{ringpost:%u}:b:%s:0' '{ringpost:%u}:%sb:%s:0'", shard, source, shard, aside,
	    target);
	if (from != to)
		ask("SADD '{ringpost:%u}:own:%.32s' %s", shard, s->incarnation, target);
}

static void
bring_back(const struct world *w, unsigned number)
{
	const struct redis_store *s = (const struct redis_store *)(const void *)w->store;
	unsigned shard = shard_of_number(number);
	char id[REDIS_ID_SIZE + 1];

	say_id(number, id);
	assert_string_equal(ask("RENAMENX '{ringpost:%u}:asidem:%s' '{ringpost:%u}:m:%s'", shard,
				id, shard, id),
			    "1\n");
	ask("RENAME '{ringpost:%u}:asideb:%s:0' '{ringpost:%u}:b:%s:0'", shard, id, shard, id);
	ask("SADD '{ringpost:%u}:own:%.32s' %s", shard, s->incarnation, id);
}

static void
break_connections(void)
{
	ask("CLIENT KILL TYPE normal SKIPME yes");
}

static struct redis_counters
counters_of(const struct world *w)
{
	const struct redis_store *s = (const struct redis_store *)(const void *)w->store;
	struct redis_counters sum = { 0 };

	for (unsigned i = 0; i < w->worker_count; i++) {
		sum.recovered_mails += s->ends[i].counters.recovered_mails;
		sum.recovered_doubtful += s->ends[i].counters.recovered_doubtful;
		sum.undone_outcomes += s->ends[i].counters.undone_outcomes;
		sum.gone_mails += s->ends[i].counters.gone_mails;
		sum.records_lost += s->ends[i].counters.records_lost;
	}
	return sum;
}

static struct queue_item *
put_one(struct world *w, unsigned worker, unsigned number, uint32_t site)
{
	struct list items;

	assert_int_equal(world_put(w, worker, number, BODY, &site, 1, &items), ERR_OK);
	return LIST_ITEM(list_shift(&items), struct queue_item, link);
}

static void
end_well(struct world *w)
{
	for (unsigned shard = 0; shard < SHARDS; shard++)
		assert_string_equal(ask("FCALL rp_count 1 '{ringpost:%u}' | tail -n 4", shard),
				    "0\n0\n0\n0\n");
	world_stop(w);
}

/* Until the server answers so. */
static void
wait_answer(struct world *w, const char *words, const char *answer)
{
	const uint64_t end_ms = clock_monotonic_ms() + 20000;

	do {
		for (unsigned i = 0; i < 100; i++)
			world_turn(w);
		assert_true(clock_monotonic_ms() < end_ms);
	} while (strcmp(ask("%s", words), answer) != 0);
}

/* ---- tests ---- */

/* Each of the three workers looks after other shards: the one that asks, and the ones that know. */
static void
check_from(unsigned keeper)
{
	static struct world w;
	const unsigned lost = 7 + keeper, known = beside(lost), drafted = beside(known);
	struct queue_item *item;
	enum err error;

	reset();
	world_open(&w, &kind, WORKERS);
	struct queue_item *held = put_one(&w, keeper, known, SITE_KNOWN);
	struct queue_draft *draft =
		queue_draft_new(queue_end(w.store, keeper), world_id(drafted), 0);
	assert_non_null(draft);
	item = put_one(&w, keeper, lost, SITE_LOST);
	copy_mail(&w, lost, lost);
	copy_mail(&w, lost, drafted); /* as if its put were under way */
	assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	bring_back(&w, lost);
	break_connections();

	/* Others may have no connection yet. */
	unsigned finder = world_claim_one(&w, SITE_LOST, &item);
	assert_true(mail_id_eq(item->mail->id, world_id(lost)));
	assert_true(item->recovered);
	assert_true(world_body_is(&w, finder, item, lost, &error));
	struct redis_counters c = counters_of(&w);
	assert_int_equal(c.recovered_mails, 1);
	assert_int_equal(c.recovered_doubtful, 1);
	assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	assert_int_equal(world_record(&w, held, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	assert_int_equal(counters_of(&w).recovered_mails, 1);
	queue_draft_abandon(draft);
	char id[REDIS_ID_SIZE + 1];
	say_id(drafted, id);
	ask("FCALL rp_cancel 1 '{ringpost:%u}' %.32s %s", shard_of_number(drafted),
	    ((struct redis_store *)(void *)w.store)->incarnation, id);
	end_well(&w);
}

static void
a_mail_whose_outcome_was_lost_comes_again(void **state)
{
	(void)state;
	for (unsigned keeper = 0; keeper < WORKERS; keeper++)
		check_from(keeper);
}

/* More than one slice, and more than one question for mails. */
static void
many_are_found(void **state)
{
	enum { MAILS = 1200 };
	static struct world w;
	unsigned number = 3, shard = shard_of_number(3);
	struct queue_item *item;

	(void)state;
	reset();
	world_open(&w, &kind, 2);
	item = put_one(&w, 0, number, SITE_LOST);
	unsigned other = number;
	for (unsigned i = 0; i < MAILS; i += 100) {
		char script[16384] = "";
		size_t used = 0;
		for (unsigned k = 0; k < 100; k++) {
			char from[REDIS_ID_SIZE + 1], to[REDIS_ID_SIZE + 1];
			other = beside(other);
			say_id(number, from);
			say_id(other, to);
			used += (size_t)snprintf(script + used, sizeof script - used, "%s ", to);
		}
		/* Too long for one line of a shell in 1024 bytes: through a file. */
		char path[128];
		snprintf(path, sizeof path, "%s/ids", server.folder);
		FILE *f = fopen(path, "w");
		assert_non_null(f);
		fputs(script, f);
		fclose(f);
		char from[REDIS_ID_SIZE + 1];
		say_id(number, from);
		ask("EVAL \"for i = 2, #ARGV do redis.call('COPY', KEYS[1] .. ':m:' .. ARGV[1], "
		    "KEYS[1] .. ':m:' .. ARGV[i]) redis.call('COPY', KEYS[1] .. ':b:' .. ARGV[1] "
		    ".. ':0', KEYS[1] .. ':b:' .. ARGV[i] .. ':0') redis.call('SADD', KEYS[1] .. "
		    "':own:%.32s', ARGV[i]) end\" 1 '{ringpost:%u}' %s $(cat %s)",
		    ((struct redis_store *)(void *)w.store)->incarnation, shard, from, path);
	}
	break_connections();
	for (unsigned i = 0; i < MAILS; i++) {
		struct queue_item *one;
		world_claim_one(&w, SITE_LOST, &one);
		assert_int_equal(world_record(&w, one, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	}
	assert_int_equal(counters_of(&w).recovered_mails, MAILS);
	assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	end_well(&w);
}

static void
a_mail_that_redis_does_not_have_is_told(void **state)
{
	static struct world w;
	const unsigned number = 5;
	char id[REDIS_ID_SIZE + 1];
	struct queue_item *item;

	(void)state;
	reset();
	world_open(&w, &kind, 1);
	item = put_one(&w, 0, number, SITE_LOST);
	say_id(number, id);
	ask("DEL '{ringpost:%u}:m:%s'", shard_of_number(number), id);
	assert_int_equal(world_record(&w, item, RECIPIENT_PENDING, clock_wall_ms(), "450 later"),
			 ERR_LOST);
	assert_int_equal(counters_of(&w).gone_mails, 1);
	/* One that is delivered needs no mail any more. */
	item = put_one(&w, 0, number + 1, SITE_LOST);
	say_id(number + 1, id);
	ask("DEL '{ringpost:%u}:m:%s'", shard_of_number(number + 1), id);
	assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_LOST);
	assert_int_equal(counters_of(&w).gone_mails, 1);
	assert_int_equal(counters_of(&w).records_lost, 2);
	/* Ids without mails are forgotten by the next look. */
	break_connections();
	const struct redis_store *s = (const struct redis_store *)(const void *)w.store;
	char own[128];
	snprintf(own, sizeof own, "EXISTS '{ringpost:%u}:own:%.32s' '{ringpost:%u}:own:%.32s'",
		 shard_of_number(number), s->incarnation, shard_of_number(number + 1),
		 s->incarnation);
	wait_answer(&w, own, "0\n");
	world_stop(&w);
}

/* A mail whose other recipient is still at work: nobody gets it twice. */
static void
lost_outcomes_of_a_mail_that_goes_on_are_said_again(void **state)
{
	static struct world w;
	const unsigned number = 9, shard = shard_of_number(9);
	const uint32_t sites[] = { 1, 2 };
	struct list items;
	char id[REDIS_ID_SIZE + 1], words[160];

	(void)state;
	reset();
	durability = REDIS_MEMORY;
	world_open(&w, &kind, WORKERS);
	durability = REDIS_DISK;
	assert_int_equal(world_put(&w, 1, number, BODY, sites, 2, &items), ERR_OK);
	struct queue_item *first = LIST_ITEM(list_shift(&items), struct queue_item, link);
	struct queue_item *second = LIST_ITEM(list_shift(&items), struct queue_item, link);
	assert_int_equal(world_record(&w, first, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);

	say_id(number, id);
	snprintf(words, sizeof words, "HGET '{ringpost:%u}:m:%s' n", shard, id);
	assert_string_equal(ask("%s", words), "1\n");
	ask("HDEL '{ringpost:%u}:m:%s' r0 r1", shard, id);
	ask("HSET '{ringpost:%u}:m:%s' n 2", shard, id);
	break_connections();
	wait_answer(&w, words, "1\n");
	assert_int_equal(world_record(&w, second, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	struct redis_counters c = counters_of(&w);
	assert_int_equal(c.recovered_mails + c.undone_outcomes + c.gone_mails, 0);
	end_well(&w);
}

/* Another has had it and given it back: what it knows of those who wait stays. */
static void
what_a_former_owner_knows_is_not_said_as_the_owners(void **state)
{
	static struct world w;
	const unsigned number = 9, shard = shard_of_number(9), keeper = shard % WORKERS;
	const uint32_t sites[] = { 1, 2 };
	const uint64_t end_ms = clock_monotonic_ms() + 20000;
	struct list items;
	char id[REDIS_ID_SIZE + 1];

	(void)state;
	reset();
	durability = REDIS_MEMORY;
	world_open(&w, &kind, WORKERS);
	durability = REDIS_DISK;
	struct redis_store *s = (struct redis_store *)(void *)w.store;
	struct redis_end *e = &s->ends[keeper];
	assert_int_equal(world_put(&w, keeper, number, BODY, sites, 2, &items), ERR_OK);
	struct queue_item *first = LIST_ITEM(list_shift(&items), struct queue_item, link);
	struct queue_item *second = LIST_ITEM(list_shift(&items), struct queue_item, link);
	const uint32_t recipient = first->recipients[0];
	const struct redis_mail *m = owned_find(e, world_id(number));
	assert_int_equal(world_record(&w, first, RECIPIENT_PENDING, clock_wall_ms() + 8000, "450"),
			 ERR_OK);

	/* It comes to us while we have it in hand, and can not be returned yet. */
	e->errand_count = REDIS_ERRANDS_MOST;
	say_id(number, id);
	ask("FCALL rp_release 1 '{ringpost:%u}' %.32s %s 0 -", shard, s->incarnation, id);
	while (!m->stale) {
		ask("PUBLISH '{ringpost}:wake' %u", shard);
		for (unsigned i = 0; i < 100; i++)
			world_turn(&w);
		assert_true(clock_monotonic_ms() < end_ms);
	}
	ask("HSET '{ringpost:%u}:m:%s' r%u P-what-another-noted", shard, id, recipient);
	const uint64_t losses = e->losses;
	break_connections();
	while (e->losses == losses || m->stated_at != e->losses) {
		world_turn(&w);
		assert_true(clock_monotonic_ms() < end_ms);
	}
	assert_string_equal(ask("HGET '{ringpost:%u}:m:%s' r%u", shard, id, recipient),
			    "P-what-another-noted\n");
	e->errand_count = 0;
	assert_int_equal(world_record(&w, second, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_LOST);
	world_stop(&w);
}

/* Where the new server learns of it too late, the recipient is tried again, and counted. */
static void
what_was_not_said_again_in_time_is_counted(void **state)
{
	static struct world w;
	const unsigned number = 9, shard = shard_of_number(9);
	const uint32_t sites[] = { 1, 2 };
	struct list items;
	struct queue_item *item;
	char id[REDIS_ID_SIZE + 1];

	(void)state;
	reset();
	world_open(&w, &kind, WORKERS);
	assert_int_equal(world_put(&w, 1, number, BODY, sites, 2, &items), ERR_OK);
	struct queue_item *first = LIST_ITEM(list_shift(&items), struct queue_item, link);
	struct queue_item *second = LIST_ITEM(list_shift(&items), struct queue_item, link);
	const uint32_t site = first->site.number;
	assert_int_equal(world_record(&w, first, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	say_id(number, id);
	ask("HDEL '{ringpost:%u}:m:%s' r0 r1", shard, id);
	ask("HSET '{ringpost:%u}:m:%s' n 2", shard, id);
	/* To the server one is left that nobody here has. */
	assert_int_equal(world_record(&w, second, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	world_claim_one(&w, site, &item);
	assert_true(item->recovered);
	assert_int_equal(counters_of(&w).recovered_doubtful, 1);
	assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	end_well(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mail_whose_outcome_was_lost_comes_again),
		cmocka_unit_test(many_are_found),
		cmocka_unit_test(a_mail_that_redis_does_not_have_is_told),
		cmocka_unit_test(lost_outcomes_of_a_mail_that_goes_on_are_said_again),
		cmocka_unit_test(what_a_former_owner_knows_is_not_said_as_the_owners),
		cmocka_unit_test(what_was_not_said_again_in_time_is_counted),
	};

	redis_server_start(&server, "appendonly yes\nappendfsync always");
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	redis_server_free(&server);
	return failed;
}
