/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue_suite redis_server queue core machine */
/*
 * Two nodes over one server, in one thread: they know each other, act on each other's mails, and
 * one is drained. The lease is long: what happens soon does so because it was told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "core/base/clock.h"
#include "queue/redis/store.h"
#include "tests/lib/queue_suite.h"
#include "tests/lib/redis_server.h"

enum { WORKERS = 2, DEADLINE_MS = 20 * 1000, LEASE_MS = 60 * 1000 };

static struct redis_server server;
static struct world one, two;
static unsigned opened;

static struct queue_store *
open_redis(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	   struct buf *why)
{
	static struct redis_options redis[2];
	static struct span address;
	struct redis_options *mine = &redis[opened % 2];

	address = span_of_string(server.socket);
	*mine = (struct redis_options){
		.kind = REDIS_SINGLE,
		.addresses = &address,
		.address_count = 1,
		.prefix = SPAN("ringpost"),
		.shards = 16,
		.node = opened % 2 == 0 ? SPAN("one") : SPAN("two\nlines"),
		.listeners = SPAN("127.0.0.1:25"),
		.durability = REDIS_MEMORY,
		.deadline_ms = 5000,
		.lease_ms = LEASE_MS,
	};
	const struct queue_options options = { .redis = mine };
	opened++;
	return queue_open(&options, workers, worker_count, hooks, why);
}

static const struct queue_suite_store kind = {
	.name = "redis",
	.open = open_redis,
	.is_shared = true,
};

static int
begin(void **state)
{
	(void)state;
	assert_string_equal(redis_server_ask(&server, "FLUSHALL"), "OK\n");
	opened = 0;
	world_open(&one, &kind, WORKERS);
	world_open(&two, &kind, WORKERS);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	world_stop(&one);
	world_stop(&two);
	return 0;
}

static void
turn_until(const bool *flag)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;

	while (!*flag) {
		world_turn(&one);
		world_turn(&two);
		if (clock_monotonic_ms() > end_ms)
			fail_msg("waited in vain");
	}
}

/* ---- nodes ---- */

struct seen_node {
	char name[32];
	uint8_t incarnation[32];
	uint64_t mails;
	enum queue_node_state state;
	bool is_this;
};

struct looked {
	struct queue_nodes request;
	bool done;
	unsigned count;
	struct seen_node nodes[4];
};

static void
on_nodes(struct queue_nodes *n, enum err e)
{
	struct looked *l = CONTAINER_OF(n, struct looked, request);

	assert_int_equal(e, ERR_OK);
	assert_true(n->count <= 4);
	l->done = true;
	l->count = n->count;
	for (unsigned i = 0; i < n->count; i++) {
		const struct queue_node *from = &n->nodes[i];
		struct seen_node *to = &l->nodes[i];
		assert_true(span_eq(from->listeners, SPAN("127.0.0.1:25")));
		assert_true(span_eq(from->version, SPAN(RINGPOST_VERSION)));
		assert_true(from->since_ms <= from->seen_ms);
		memset(to, 0, sizeof *to);
		memcpy(to->name, from->name.data, from->name.size);
		memcpy(to->incarnation, from->incarnation.data, sizeof to->incarnation);
		to->mails = from->mails;
		to->state = from->state;
		to->is_this = from->is_this;
	}
}

static struct looked
look(struct world *w)
{
	struct looked l = { .request = { .on_done = on_nodes } };

	queue_nodes(queue_end(w->store, 0), &l.request);
	assert_false(l.done);
	turn_until(&l.done);
	return l;
}

static struct looked
look_until(struct world *w, unsigned node, enum queue_node_state state, uint64_t mails)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	struct looked l;

	do {
		if (clock_monotonic_ms() > end_ms)
			fail_msg("node %u does not become %d with %d mails", node, (int)state,
				 (int)mails);
		l = look(w);
	} while (l.count != 2 || l.nodes[node].state != state || l.nodes[node].mails != mails);
	return l;
}

static void
nodes_know_each_other(void **state)
{
	struct list items;
	const uint32_t site = 1;

	(void)state;
	struct looked l = look_until(&one, 1, QUEUE_NODE_UP, 0);
	assert_string_equal(l.nodes[0].name, "one");
	assert_string_equal(l.nodes[1].name, "two lines");
	assert_true(l.nodes[0].is_this && !l.nodes[1].is_this);
	assert_int_equal(world_put(&two, 1, 1, 10, &site, 1, &items), ERR_OK);
	l = look_until(&one, 1, QUEUE_NODE_UP, 1);
	assert_int_equal(l.nodes[0].mails, 0);
	struct queue_item *i = LIST_ITEM(list_shift(&items), struct queue_item, link);
	assert_int_equal(world_record(&two, i, RECIPIENT_DELIVERED, 0, "250"), ERR_OK);
	look_until(&two, 1, QUEUE_NODE_UP, 0);
}

/* ---- acts ---- */

struct acted {
	struct queue_act act;
	bool done;
	enum err error;
};

static void
on_acted(struct queue_act *a, enum err e)
{
	struct acted *w = CONTAINER_OF(a, struct acted, act);

	w->done = true;
	w->error = e;
}

/* By the worker that looks after the mail's shard. */
static struct acted
act(struct world *w, unsigned number, enum queue_action action)
{
	struct mail_id id = world_id(number);
	struct acted a = { .act = { .action = action,
				    .id = id,
				    .who = SPAN("somebody"),
				    .why = SPAN("a test"),
				    .on_done = on_acted } };

	queue_act(queue_end(w->store, (unsigned)(id.low % 16 % WORKERS)), &a.act);
	assert_false(a.done);
	turn_until(&a.done);
	return a;
}

static void
the_owner_does_it(void **state)
{
	struct list items;
	const uint32_t site = 1;

	(void)state;
	for (unsigned n = 1; n <= 2; n++) {
		assert_int_equal(world_put(&two, n % WORKERS, n, 10, &site, 1, &items), ERR_OK);
		struct queue_item *i = LIST_ITEM(list_shift(&items), struct queue_item, link);
		assert_int_equal(act(&one, n, QUEUE_REMOVE).error, ERR_AGAIN); /* in delivery */
		queue_release(queue_end(two.store, n % WORKERS), i, 0);
	}
	struct acted a = act(&one, 1, QUEUE_REMOVE);
	assert_int_equal(a.error, ERR_OK);
	assert_true(a.act.is_told);
	assert_int_equal(act(&one, 1, QUEUE_REMOVE).error, ERR_NOT_FOUND);
	a = act(&one, 2, QUEUE_HOLD);
	assert_int_equal(a.error, ERR_OK);
	assert_true(a.act.is_told);
	/* It is nobody's now: whoever is asked does it. */
	a = act(&two, 2, QUEUE_REMOVE);
	assert_int_equal(a.error, ERR_OK);
	assert_false(a.act.is_told);
}

/* ---- draining ---- */

struct ordered {
	struct queue_order order;
	bool done;
	enum err error;
};

static void
on_ordered(struct queue_order *o, enum err e)
{
	struct ordered *w = CONTAINER_OF(o, struct ordered, order);

	w->done = true;
	w->error = e;
}

static enum err
order(struct world *w, const uint8_t *incarnation, bool drains)
{
	struct ordered o = { .order = { .incarnation = span_of(incarnation, 32),
					.drains = drains,
					.on_done = on_ordered } };

	queue_order(queue_end(w->store, 0), &o.order);
	turn_until(&o.done);
	return o.error;
}

/* Its former owner tells of it only after Redis has answered him, so he has his turns, too. */
static struct queue_item *
comes_to_one(uint32_t site)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	struct list items;
	enum err error;

	for (unsigned n = 0; clock_monotonic_ms() < end_ms; n = (n + 1) % WORKERS) {
		world_turn(&two);
		if (world_claim(&one, n, site, 1, &items, &error) == 1)
			return LIST_ITEM(list_shift(&items), struct queue_item, link);
	}
	fail_msg("nothing comes for site %u", site);
	return NULL;
}

static void
a_drained_node_takes_and_keeps_nothing(void **state)
{
	struct list items;
	struct queue_item *busy;
	const uint32_t site = 1;

	(void)state;
	struct looked l = look_until(&one, 1, QUEUE_NODE_UP, 0);
	assert_int_equal(world_put(&two, 0, 1, 10, &site, 1, &items), ERR_OK);
	busy = LIST_ITEM(list_shift(&items), struct queue_item, link);
	world_put_waiting(&two, 1, 2, 10);
	assert_int_equal(order(&one, l.nodes[1].incarnation, true), ERR_OK);
	/* What waits goes and the other has it, long before that would look by itself. */
	look_until(&one, 1, QUEUE_NODE_DRAINING, 1);
	struct queue_item *other = comes_to_one(1);
	assert_int_equal(world_record(&one, other, RECIPIENT_DELIVERED, 0, "250"), ERR_OK);
	for (unsigned n = 0; n < WORKERS; n++)
		assert_int_equal(queue_admit(queue_end(two.store, n), 0), ERR_DRAINING);
	assert_int_equal(queue_admit(queue_end(one.store, 0), 0), ERR_OK);
	/* What is in delivery ends; what becomes of it is kept. */
	assert_int_equal(world_record(&two, busy, RECIPIENT_PENDING, 0, "451"), ERR_OK);
	look_until(&one, 1, QUEUE_NODE_DRAINED, 0);
	other = comes_to_one(1);
	assert_int_equal(other->mail->envelope->recipients[0].attempts, 1);
	assert_int_equal(world_record(&one, other, RECIPIENT_DELIVERED, 0, "250"), ERR_OK);
	assert_int_equal(order(&one, l.nodes[1].incarnation, false), ERR_OK);
	look_until(&one, 1, QUEUE_NODE_UP, 0);
	assert_int_equal(queue_admit(queue_end(two.store, 0), 0), ERR_OK);
	uint8_t nobody[32] = "0123456789abcdef0123456789abcde";
	assert_int_equal(order(&one, nobody, true), ERR_NOT_FOUND);
}

static void
who_stops_is_gone(void **state)
{
	struct world three = { 0 };

	(void)state;
	look_until(&one, 1, QUEUE_NODE_UP, 0);
	world_open(&three, &kind, WORKERS);
	while (look(&one).count < 3)
		world_turn(&three);
	world_stop(&three);
	assert_int_equal(look(&one).count, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nodes_know_each_other, begin, end),
		cmocka_unit_test_setup_teardown(the_owner_does_it, begin, end),
		cmocka_unit_test_setup_teardown(a_drained_node_takes_and_keeps_nothing, begin, end),
		cmocka_unit_test_setup_teardown(who_stops_is_gone, begin, end),
	};

	redis_server_start(&server, "appendonly no\nsave \"\"\nmaxmemory-policy noeviction");
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	redis_server_free(&server);
	return failed;
}
