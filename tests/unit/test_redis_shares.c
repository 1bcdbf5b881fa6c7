/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue core machine redis_server */
#include "tests/lib/shares_rig.h"

#include "queue/redis/internal.h"

/* How often within a period, of all nodes together. */

enum { ASKERS = 4, PERIOD_MS = 1200, USES_MOST = 4096 };

static const struct share_count hourly[SHARE_COUNTS] = {
	{ .name = "mh", .most = 20, .period_ms = 3600 * 1000 },
};

/* Who asks again and again, as sessions do. */
struct asker {
	struct share_use use;
	struct node *node;
	bool waits, answered;
	enum share_answer answer;
	unsigned yes, no, away;
};

static uint64_t uses_ms[USES_MOST];
static unsigned use_count;

static void
note(struct asker *a, enum share_answer answer)
{
	a->answer = answer;
	a->answered = true;
	a->yes += answer == SHARE_YES;
	a->no += answer == SHARE_NO;
	a->away += answer == SHARE_AWAY;
	if (answer == SHARE_YES) {
		assert_true(use_count < USES_MOST);
		uses_ms[use_count++] = clock_monotonic_ms();
	}
}

static void
on_answer(struct share_use *u, enum share_answer answer)
{
	struct asker *a = CONTAINER_OF(u, struct asker, use);

	assert_true(a->waits);
	a->waits = false;
	note(a, answer);
}

static void
use_counts(struct asker *a, const struct share_count *counts, unsigned needs, unsigned soon)
{
	struct shares *s = queue_shares(a->node->q);

	assert_non_null(s);
	a->use.on_answer = on_answer;
	a->answered = false;
	enum share_answer answer =
		shares_use(s, SPAN("user"), SPAN("Ann@Example.test"), counts, needs, soon, &a->use);
	a->waits = answer == SHARE_WAIT;
	if (!a->waits)
		note(a, answer);
}

static enum share_answer
use_now(struct asker *a, const struct share_count *counts, unsigned needs)
{
	use_counts(a, counts, needs, 0);
	UNTIL(a->answered);
	return a->answer;
}

static void
give_back(struct asker *a, unsigned which, uint64_t booked_ms)
{
	shares_unuse(queue_shares(a->node->q), SPAN("user"), SPAN("ann@example.test"), which,
		     booked_ms);
}

static long
handed_out(void)
{
	const char *name = redis_server_ask(&server, "KEYS *:limit:use:user:ann@example.test");
	char command[256];
	long sum = 0;

	snprintf(command, sizeof command, "HVALS %.*s", (int)strcspn(name, "\n"), name);
	for (const char *at = redis_server_ask(&server, command); *at != 0;) {
		char *end;
		sum += strtol(at, &end, 10);
		if (end == at)
			break;
		at = *end == 0 ? end : end + 1;
	}
	return sum;
}

static void
test_all_of_a_limit_is_used_by_all_nodes_and_no_more(void **state)
{
	struct asker askers[NODES * ASKERS] = { 0 };
	unsigned yes = 0, refused = 0;
	unsigned by_node[NODES] = { 0 };

	(void)state;
	use_count = 0;
	while (yes < 20 || refused < 60) {
		yes = refused = 0;
		memset(by_node, 0, sizeof by_node);
		for (unsigned i = 0; i < NODES * ASKERS; i++) {
			struct asker *a = &askers[i];
			a->node = &nodes[i % NODES];
			assert_int_equal(a->away, 0);
			yes += a->yes;
			refused += a->no;
			by_node[i % NODES] += a->yes;
			if (!a->waits)
				use_counts(a, hourly, 1, 0);
		}
		assert_true(yes <= 20);
		turn_all();
	}
	assert_int_equal(yes, 20);
	for (unsigned i = 0; i < NODES; i++)
		assert_true(by_node[i] > 0);
	UNTIL(handed_out() == 20);
	for (unsigned i = 0; i < NODES * ASKERS; i++)
		shares_forget(&askers[i].use);
}

/* A window of a period is a sixth of it, and uses are seen in many of them. */
static void
test_in_no_period_there_are_more_wherever_it_begins(void **state)
{
	const struct share_count counts[SHARE_COUNTS] = {
		{ .name = "x", .most = 50, .period_ms = PERIOD_MS },
	};
	struct asker askers[NODES * ASKERS] = { 0 };
	unsigned worst = 0;

	(void)state;
	use_count = 0;
	while (use_count < 300) {
		for (unsigned i = 0; i < NODES * ASKERS; i++) {
			askers[i].node = &nodes[i % NODES];
			if (!askers[i].waits)
				use_counts(&askers[i], counts, 1, 0);
		}
		turn_all();
	}
	/* A use is booked up to a turn of the rig before it is noted here. */
	for (unsigned i = 0; i < use_count; i++) {
		unsigned n = 0;
		for (unsigned j = i; j < use_count && uses_ms[j] < uses_ms[i] + PERIOD_MS - 50; j++)
			n++;
		worst = n > worst ? n : worst;
	}
	assert_true(worst <= 50);
	assert_true(worst >= 40);
	for (unsigned i = 0; i < NODES * ASKERS; i++)
		shares_forget(&askers[i].use);
}

static void
test_several_counts_are_used_together_or_not_at_all(void **state)
{
	const struct share_count counts[SHARE_COUNTS] = {
		{ .name = "mh", .most = 10, .period_ms = 3600 * 1000 },
		{ .name = "md", .most = 3, .period_ms = 24 * 3600 * 1000 },
	};
	struct asker a = { .node = &nodes[0] };

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(use_now(&a, counts, 3), SHARE_YES);
	assert_int_equal(use_now(&a, counts, 3), SHARE_NO);
	assert_int_equal(a.use.used_up, 1);
	/* Of the other there are seven left, also for others. */
	a.node = &nodes[1];
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(use_now(&a, counts, 1), SHARE_YES);
}

static void
test_what_is_taken_along_needs_no_question_of_its_own(void **state)
{
	const struct share_count counts[SHARE_COUNTS] = {
		{ .name = "mh", .most = 100, .period_ms = 3600 * 1000 },
		{ .name = "md" },
		{ .name = "rh", .most = 100, .period_ms = 3600 * 1000, .ahead = 4 },
	};
	struct asker a = { .node = &nodes[0] };

	(void)state;
	use_counts(&a, counts, 1, 4);
	assert_true(a.waits);
	UNTIL(a.answered);
	for (unsigned i = 0; i < 4; i++) {
		use_counts(&a, counts, 4, 0);
		assert_false(a.waits);
		assert_int_equal(a.answer, SHARE_YES);
	}
}

static void
test_what_did_not_happen_can_happen_again(void **state)
{
	const struct share_count counts[SHARE_COUNTS] = {
		{ .name = "mh", .most = 2, .period_ms = 3600 * 1000 },
	};
	struct asker a = { .node = &nodes[0] }, b = { .node = &nodes[1] };

	(void)state;
	assert_int_equal(use_now(&a, counts, 1), SHARE_YES);
	assert_int_equal(use_now(&a, counts, 1), SHARE_YES);
	assert_int_equal(use_now(&b, counts, 1), SHARE_NO);
	give_back(&a, 1, clock_monotonic_ms());
	/* On this node at once, on others when it was not used for a while. */
	assert_int_equal(use_now(&a, counts, 1), SHARE_YES);
	give_back(&a, 1, clock_monotonic_ms());
	UNTIL(use_now(&b, counts, 1) == SHARE_YES);
	assert_int_equal(use_now(&a, counts, 1), SHARE_NO);
}

static void
test_a_node_that_stops_gives_back_what_it_has(void **state)
{
	struct asker a = { .node = &nodes[0] };

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(use_now(&a, hourly, 1), SHARE_YES);
	assert_true(handed_out() >= 5);
	node_stop(&nodes[0]);
	assert_int_equal(handed_out(), 5);
}

static void
test_whoever_waits_is_told_when_redis_goes_away(void **state)
{
	struct asker a = { .node = &nodes[0] };

	(void)state;
	assert_int_equal(use_now(&a, hourly, 1), SHARE_YES);
	/* It is busy: the question is under way when it dies. */
	assert_int_equal(kill(server.pid, SIGSTOP), 0);
	while (use_counts(&a, hourly, 1, 0), a.answered)
		assert_int_equal(a.answer, SHARE_YES);
	redis_server_end(&server, SIGKILL);
	UNTIL(a.answered);
	assert_int_equal(a.answer, SHARE_AWAY);
	assert_int_equal(use_now(&a, hourly, 1), SHARE_AWAY);
	redis_server_restart(&server);
	UNTIL(queue_may_deliver(nodes[0].q));
	/* The library is there again. */
	assert_int_equal(use_now(&a, hourly, 1), SHARE_YES);
}

static void
test_a_server_that_had_no_memory_gets_the_library_later(void **state)
{
	struct asker a = { .node = &nodes[0] };

	(void)state;
	redis_server_ask(&server, "CONFIG SET maxmemory 1");
	assert_int_equal(use_now(&a, hourly, 1), SHARE_AWAY);
	redis_server_ask(&server, "CONFIG SET maxmemory 0");
	assert_int_equal(use_now(&a, hourly, 1), SHARE_YES);
}

/* What is left of it is not given back, again and again, to nobody. */
static void
test_a_limit_that_was_taken_away_is_not_asked_about(void **state)
{
	struct share_count counts[SHARE_COUNTS] = {
		{ .name = "mh", .most = 100, .period_ms = 3600 * 1000 },
		{ .name = "md", .most = 100, .period_ms = 24 * 3600 * 1000, .ahead = 4 },
	};
	struct asker a = { .node = &nodes[0] };

	(void)state;
	assert_int_equal(use_now(&a, counts, 3), SHARE_YES);
	counts[1].most = 0;
	assert_int_equal(use_now(&a, counts, 1), SHARE_YES);
	/* Twice as long as what is left is kept. */
	enum { QUIET_MS = 4500 };
	const uint64_t *asks = &redis_end_of(nodes[0].q)->counters.share_asks;
	uint64_t seen = *asks;
	uint64_t since_ms = clock_monotonic_ms();
	while (clock_monotonic_ms() < since_ms + QUIET_MS) {
		turn_all();
		assert_true(*asks < 20);
		if (*asks != seen)
			since_ms = clock_monotonic_ms();
		seen = *asks;
	}
}

static void
test_no_limit_needs_no_server(void **state)
{
	const struct share_count none[SHARE_COUNTS] = { { .name = "mh", .period_ms = 1000 } };
	struct asker a = { .node = &nodes[0] };

	(void)state;
	use_counts(&a, none, 15, 0);
	assert_false(a.waits);
	assert_int_equal(a.answer, SHARE_YES);
	assert_string_equal(redis_server_ask(&server, "KEYS *:limit:*"), "\n");
}

int
main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_all_of_a_limit_is_used_by_all_nodes_and_no_more),
		TEST(test_in_no_period_there_are_more_wherever_it_begins),
		TEST(test_several_counts_are_used_together_or_not_at_all),
		TEST(test_what_is_taken_along_needs_no_question_of_its_own),
		TEST(test_what_did_not_happen_can_happen_again),
		TEST(test_a_node_that_stops_gives_back_what_it_has),
		TEST(test_whoever_waits_is_told_when_redis_goes_away),
		TEST(test_a_server_that_had_no_memory_gets_the_library_later),
		TEST(test_a_limit_that_was_taken_away_is_not_asked_about),
		TEST(test_no_limit_needs_no_server),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
