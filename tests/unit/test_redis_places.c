/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue core machine redis_server */
#include "tests/lib/shares_rig.h"

/* So many at a time, and one after the other, of all nodes together. */

/* Who shares out the places of its node, as the home of a site does. */
struct owner {
	struct task task;
	struct node *node;
	uint32_t most, used, wanted, may;
	uint64_t turns;    /* how often it had one */
	uint64_t first_ms; /* when it first had one */
	unsigned changes;
};

static struct owner owners[NODES];
static bool shrinking; /* the limit, and not all know it yet */

static uint32_t
used_by_all(void)
{
	uint32_t used = 0;

	for (unsigned i = 0; i < NODES; i++)
		used += owners[i].used;
	return used;
}

/* Closes what it may not have, and opens what it may. */
static void
settle(struct owner *o)
{
	struct shares *s = queue_shares(o->node->q);
	uint32_t before = o->used;

	do {
		o->may = shares_places(s, SPAN("site"), SPAN("smtp://x"), o->most, o->used,
				       o->wanted, &o->task);
		before = o->used;
		o->used = o->may < o->wanted ? o->may : o->wanted;
	} while (o->used != before);
	if (o->used > 0 && o->first_ms == 0)
		o->first_ms = clock_monotonic_ms();
	assert_true(used_by_all() <= o->most || shrinking);
}

static void
on_change(struct task *t)
{
	struct owner *o = CONTAINER_OF(t, struct owner, task);
	uint32_t before = o->used;

	o->changes++;
	settle(o);
	o->turns += before == 0 && o->used > 0;
}

static void
want(unsigned node, uint32_t most, uint32_t wanted)
{
	owners[node].most = most;
	owners[node].wanted = wanted;
	settle(&owners[node]);
}

static int
setup(void **state)
{
	rig_setup(state);
	shrinking = false;
	for (unsigned i = 0; i < NODES; i++) {
		owners[i] = (struct owner){ .node = &nodes[i] };
		task_init(&owners[i].task, on_change);
	}
	return 0;
}

static void
test_one_place_goes_round(void **state)
{
	uint64_t began_ms;

	(void)state;
	for (unsigned i = 0; i < NODES; i++)
		want(i, 1, 3);
	UNTIL(used_by_all() == 1);
	began_ms = clock_monotonic_ms();
	UNTIL(owners[0].turns >= 2 && owners[1].turns >= 2 && owners[2].turns >= 2);
	/* Six turns of two seconds; nobody had two while another waited for its first. */
	assert_true(clock_monotonic_ms() - began_ms < 6 * 2000 + 3000);
	for (unsigned i = 0; i < NODES; i++) {
		assert_true(owners[i].turns <= 3);
		want(i, 1, 0);
	}
}

static void
test_who_comes_later_gets_an_equal_part(void **state)
{
	(void)state;
	want(0, 9, 20);
	UNTIL(owners[0].used == 9);
	want(1, 9, 20);
	UNTIL(owners[1].used >= 4);
	want(2, 9, 2);
	UNTIL(owners[2].used == 2);
	assert_true(owners[0].used >= 3 && owners[1].used >= 3);
	/* What one does not need any more the others have. */
	want(0, 9, 0);
	UNTIL(owners[1].used + owners[2].used == 9);
	want(1, 9, 0);
	want(2, 9, 0);
}

/* Whoever holds one and has nothing to do gives it up as soon as another lacks it. */
static void
test_what_is_idle_goes_before_its_turn_is_over(void **state)
{
	struct shares *s = queue_shares(nodes[0].q);
	uint64_t began_ms;

	(void)state;
	want(0, 1, 1);
	UNTIL(owners[0].used == 1);
	began_ms = clock_monotonic_ms();
	want(1, 1, 1);
	/* Still in use, but for nothing. */
	while (shares_places(s, SPAN("site"), SPAN("smtp://x"), 1, 1, 0, NULL) == 1)
		turn_all();
	want(0, 1, 0);
	UNTIL(owners[1].used == 1);
	assert_true(clock_monotonic_ms() - began_ms < 1000);
	want(1, 1, 0);
}

static void
test_places_are_given_back_and_nothing_is_left(void **state)
{
	(void)state;
	want(0, 5, 3);
	UNTIL(owners[0].used == 3);
	assert_string_not_equal(redis_server_ask(&server, "KEYS *:limit:hold:*"), "\n");
	want(0, 5, 0);
	UNTIL(strcmp(redis_server_ask(&server, "KEYS *:limit:hold:*"), "\n") == 0);
}

/* While the server is told so, which may give them to another. */
static void
test_what_is_given_back_is_not_used_any_more(void **state)
{
	struct shares *s = queue_shares(nodes[0].q);
	struct task *task = &owners[0].task;

	(void)state;
	want(0, 4, 4);
	UNTIL(owners[0].used == 4);
	/* A limit that changes is told at once. */
	owners[0].used = owners[0].wanted = 0;
	shares_places(s, SPAN("site"), SPAN("smtp://x"), 5, 0, 0, task);
	assert_int_equal(shares_places(s, SPAN("site"), SPAN("smtp://x"), 5, 0, 4, task), 0);
	want(0, 5, 4);
	assert_int_equal(owners[0].used, 0);
	UNTIL(owners[0].used == 4);
	want(0, 5, 0);
}

static void
test_a_node_that_stops_leaves_its_places_at_once(void **state)
{
	(void)state;
	want(0, 2, 2);
	UNTIL(owners[0].used == 2);
	want(1, 2, 1);
	owners[0].used = owners[0].wanted = 0; /* its connections end with it */
	uint64_t began_ms = clock_monotonic_ms();
	node_stop(&nodes[0]);
	want(1, 2, 2);
	UNTIL(owners[1].used == 2);
	assert_true(clock_monotonic_ms() - began_ms < LEASE_MS / 2);
	want(1, 2, 0);
}

/* It says nothing any more; its connections end with it. */
static void
test_the_places_of_one_that_died_are_free_when_its_lease_ends(void **state)
{
	struct queue_store *store = nodes[0].store;

	(void)state;
	want(0, 1, 1);
	UNTIL(owners[0].used == 1);
	want(1, 1, 1);
	nodes[0].store = NULL;
	owners[0].used = 0;
	uint64_t died_ms = clock_monotonic_ms();
	UNTIL(owners[1].used == 1);
	assert_true(clock_monotonic_ms() - died_ms < LEASE_MS + LEASE_MS / 2);
	want(1, 1, 0);
	nodes[0].store = store;
	want(0, 1, 0);
}

static void
test_who_can_not_renew_closes_before_its_lease_ends(void **state)
{
	(void)state;
	want(0, 4, 4);
	UNTIL(owners[0].used == 4);
	assert_int_equal(kill(server.pid, SIGSTOP), 0);
	uint64_t stopped_ms = clock_monotonic_ms();
	UNTIL(owners[0].used == 0);
	assert_true(clock_monotonic_ms() - stopped_ms <= LEASE_MS);
	assert_int_equal(kill(server.pid, SIGCONT), 0);
	UNTIL(owners[0].used == 4);
	want(0, 4, 0);
}

static void
test_a_limit_that_shrinks_is_kept_when_it_is_known(void **state)
{
	(void)state;
	want(0, 6, 4);
	want(1, 6, 2);
	UNTIL(used_by_all() == 6);
	shrinking = true;
	want(0, 2, 4);
	assert_true(owners[0].used <= 2);
	want(1, 2, 2);
	UNTIL(owners[0].used == 1 && owners[1].used == 1);
	shrinking = false;
	want(0, 2, 0);
	want(1, 2, 0);
}

/* ---- one after the other ---- */

enum { PER_MINUTE = 1200, PACED_MOST = 256 };

static uint64_t paced_ms[PACED_MOST];
static unsigned paced_count;

static void
on_pace(struct task *t)
{
	(void)t; /* all try again with each turn of the rig */
}

static void
test_turns_are_even_over_all_nodes(void **state)
{
	unsigned by_node[NODES] = { 0 };
	struct task task;

	(void)state;
	paced_count = 0;
	task_init(&task, on_pace);
	uint64_t until_ms = clock_monotonic_ms() + 4000;
	while (clock_monotonic_ms() < until_ms) {
		for (unsigned i = 0; i < NODES; i++) {
			struct shares *s = queue_shares(nodes[i].q);
			while (shares_pace(s, SPAN("site"), SPAN("x"), PER_MINUTE, 10, &task) ==
			       0) {
				shares_paced(s, SPAN("site"), SPAN("x"));
				assert_true(paced_count < PACED_MOST);
				paced_ms[paced_count++] = clock_monotonic_ms();
				by_node[i]++;
			}
		}
		turn_all();
	}
	/* 20 a second. */
	assert_in_range(paced_count, 60, 4 * 20 + 1);
	for (unsigned i = 0; i < NODES; i++)
		assert_true(by_node[i] >= 10);
	for (unsigned i = 0; i < paced_count; i++) {
		unsigned n = 0;
		for (unsigned j = i; j < paced_count && paced_ms[j] < paced_ms[i] + 1000; j++)
			n++;
		assert_true(n <= 20 + 20 / 4 + 1); /* one is lost a quarter of a second late */
	}
	task_cancel(&task);
}

static void
test_no_turn_comes_without_the_server(void **state)
{
	struct task task;

	(void)state;
	task_init(&task, on_pace);
	redis_server_end(&server, SIGKILL);
	UNTIL(!queue_may_deliver(nodes[0].q));
	uint64_t wait_ms =
		shares_pace(queue_shares(nodes[0].q), SPAN("site"), SPAN("x"), 60, 1, &task);
	assert_in_range(wait_ms, 1, 5000);
	task_cancel(&task);
}

int
main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_one_place_goes_round),
		TEST(test_who_comes_later_gets_an_equal_part),
		TEST(test_what_is_idle_goes_before_its_turn_is_over),
		TEST(test_places_are_given_back_and_nothing_is_left),
		TEST(test_what_is_given_back_is_not_used_any_more),
		TEST(test_a_node_that_stops_leaves_its_places_at_once),
		TEST(test_the_places_of_one_that_died_are_free_when_its_lease_ends),
		TEST(test_who_can_not_renew_closes_before_its_lease_ends),
		TEST(test_a_limit_that_shrinks_is_kept_when_it_is_known),
		TEST(test_turns_are_even_over_all_nodes),
		TEST(test_no_turn_comes_without_the_server),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
