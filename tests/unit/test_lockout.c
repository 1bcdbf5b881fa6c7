/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue dns smtp message core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/metric.h"
#include "core/strikes.h"
#include "queue/driver.h"
#include "relay/flow/flow.h"
#include "relay/flow/lockout.h"

static struct worker worker;
static struct metrics counters;
static struct flow flow;
static struct routing routing;
static struct log *events;
/* Of a store of one node: it has no shares. */
static const struct queue_driver driver = { .name = "one node" };
static struct queue queue = { .magic = QUEUE_MAGIC, .driver = &driver, .worker = &worker };

static const struct span ann = SPAN("ann@example.org");

static void
use_options(const char *options)
{
	static struct config_errors errors;
	char text[1024];

	snprintf(text, sizeof text,
		 "hostname: mx1.example.org\n"
		 "listeners: [{ address: \"127.0.0.1:25\" }]\n"
		 "lockout: { %s }\n",
		 options);
	if (routing.config != NULL)
		config_put(routing.config);
	routing.config = config_parse("test", span_of_string(text), &errors);
	if (routing.config == NULL)
		fail_msg("%s", errors.lines[0]);
}

static int
set_up(void **state)
{
	int error;

	(void)state;
	memset(&worker, 0, sizeof worker);
	memset(&counters, 0, sizeof counters);
	memset(&flow, 0, sizeof flow);
	events = log_new(1, 65536, "/dev/null", &error);
	worker.metrics = &counters;
	worker.strikes = strikes_new(1024);
	worker.log = log_ring(events, 0, &counters);
	worker.now_ms = 1000000;
	worker.queue = &queue;
	flow.worker = &worker;
	flow.key_seed = 12345;
	use_options("address_failures: 4, user_failures: 3, delay: 1s, delay_max: 6s");
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	strikes_free(worker.strikes);
	log_free(events);
	config_put(routing.config);
	routing.config = NULL;
	return 0;
}

/* A session of a client at this address. */
static struct session *
at(const char *address)
{
	static struct session session;
	char text[80];

	session = (struct session){ .flow = &flow, .routing = &routing };
	snprintf(text, sizeof text, strchr(address, ':') != NULL ? "[%s]:4000" : "%s:4000",
		 address);
	assert_true(net_address_parse(span_of_string(text), &session.peer));
	session.limit_key = net_address_hash_ip(&session.peer, flow.key_seed);
	return &session;
}

static void
assert_row(const char *address, struct span user, enum reply_row row)
{
	struct lockout_answer a = lockout_judge(at(address), user);

	assert_int_equal(a.row, row);
	assert_int_equal(a.reason, row == REPLY_ADDRESS_LOCKED ? CLOSE_LOCKED_OUT : CLOSE_NONE);
}

static uint64_t
locks(unsigned kind)
{
	return METRIC_GET_LABEL(&counters, LOGIN_LOCKS, kind);
}

static void
answers_are_held_back_for_longer_and_longer(void **state)
{
	static const uint64_t delays[] = { 1000, 2000, 4000, 6000, 6000, 6000 };

	(void)state;
	use_options("address_failures: 0, user_failures: 0, delay: 1s, delay_max: 6s");
	for (unsigned i = 0; i < sizeof delays / sizeof delays[0]; i++)
		assert_int_equal(lockout_failed(at("192.0.2.1"), ann, 0), delays[i]);
	assert_row("192.0.2.1", ann, REPLY_NONE); /* 0 is never */
	for (unsigned i = 0; i < 2 * STRIKES_MAX; i++)
		lockout_failed(at("192.0.2.1"), ann, 0);
	assert_row("192.0.2.1", ann, REPLY_NONE);
	use_options("delay: 0s");
	assert_int_equal(lockout_failed(at("192.0.2.1"), ann, 0), 0);
}

static void
a_user_is_locked_out_whoever_asks(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		char address[32];
		assert_row("192.0.2.9", ann, REPLY_NONE);
		snprintf(address, sizeof address, "192.0.2.%u", i);
		lockout_failed(at(address), ann, 0);
	}
	assert_row("192.0.2.9", ann, REPLY_USER_LOCKED);
	assert_int_equal(lockout_judge(at("192.0.2.9"), ann).delay_ms, 6000);
	assert_row("192.0.2.9", SPAN("Ann@Example.ORG"), REPLY_USER_LOCKED);
	assert_row("192.0.2.9", SPAN("bob@example.org"), REPLY_NONE);
	assert_int_equal(locks(LABEL_LOCK_USER), 1);
	worker.now_ms += routing.config->lockout.duration_ms;
	assert_row("192.0.2.9", ann, REPLY_NONE);
}

static void
an_address_is_locked_out_whichever_user_it_tries(void **state)
{
	char user[32];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		assert_row("192.0.2.1", ann, REPLY_NONE);
		snprintf(user, sizeof user, "user%u", i);
		lockout_failed(at("192.0.2.1"), span_of_string(user), 0);
	}
	assert_row("192.0.2.1", ann, REPLY_ADDRESS_LOCKED);
	assert_true(lockout_has_address(at("192.0.2.1")));
	assert_true(lockout_has_address(at("::ffff:192.0.2.1")));
	assert_false(lockout_has_address(at("192.0.2.2")));
	assert_int_equal(locks(LABEL_LOCK_ADDRESS), 1);
}

static void
an_address_of_ipv6_is_its_64(void **state)
{
	char address[64];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		snprintf(address, sizeof address, "2001:db8::%x", i);
		lockout_failed(at(address), SPAN("x"), 0);
	}
	assert_true(lockout_has_address(at("2001:db8::ffff:1")));
	assert_false(lockout_has_address(at("2001:db8:0:1::1")));
}

/* A telephone with last year's password. */
static void
the_same_attempt_counts_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(lockout_failed(at("192.0.2.1"), ann, 777), 1000);
	assert_row("192.0.2.1", ann, REPLY_NONE);
	assert_int_equal(lockout_failed(at("192.0.2.1"), ann, 778), 2000);
	assert_int_equal(lockout_failed(at("192.0.2.2"), ann, 777), 4000); /* from elsewhere */
	assert_row("192.0.2.1", ann, REPLY_USER_LOCKED);
}

static void
who_logs_in_from_here_is_not_locked_out_by_others(void **state)
{
	(void)state;
	lockout_ok(at("192.0.2.7"), ann);
	for (unsigned i = 0; i < 3; i++)
		lockout_failed(at("198.51.100.1"), ann, 0);
	assert_row("198.51.100.2", ann, REPLY_USER_LOCKED);
	assert_row("192.0.2.7", ann, REPLY_NONE);
	lockout_ok(at("192.0.2.7"), ann);
	assert_row("198.51.100.2", ann, REPLY_USER_LOCKED); /* elsewhere it stays */
	/* His own failures count for the address, and are held back by those alone. */
	assert_int_equal(lockout_failed(at("192.0.2.7"), ann, 0), 1000);
	for (unsigned i = 0; i < 3; i++)
		lockout_failed(at("192.0.2.7"), ann, 0);
	assert_row("192.0.2.7", ann, REPLY_ADDRESS_LOCKED);
}

static void
a_success_forgets_the_failures_of_the_user_alone(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		lockout_failed(at("192.0.2.1"), ann, 0);
		if (i == 3)
			assert_row("192.0.2.1", ann, REPLY_ADDRESS_LOCKED);
		lockout_ok(at("192.0.2.1"), ann);
	}
	assert_int_equal(locks(LABEL_LOCK_USER), 0);
	assert_row("192.0.2.2", ann, REPLY_NONE);
}

static void
exempt_addresses_are_not_counted(void **state)
{
	char user[32];

	(void)state;
	use_options("address_failures: 2, user_failures: 3, exempt: [192.0.2.0/24]");
	for (unsigned i = 0; i < 10; i++) {
		snprintf(user, sizeof user, "user%u", i);
		lockout_failed(at("192.0.2.1"), span_of_string(user), 0);
	}
	assert_row("192.0.2.1", ann, REPLY_NONE);
	for (unsigned i = 0; i < 3; i++)
		lockout_failed(at("192.0.2.1"), ann, 0);
	assert_row("192.0.2.1", ann, REPLY_USER_LOCKED);
}

static void
locks_have_names_and_can_be_lifted(void **state)
{
	const struct lockout_name *n = flow.lockouts.names;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		lockout_failed(at("2001:db8::1"), ann, 0);
	assert_int_equal(flow.lockouts.count, 2);
	assert_true(span_eq(span_of(n[0].text, n[0].size), ann));
	assert_int_equal(n[0].kind, LOCKOUT_USER);
	assert_true(span_eq(span_of(n[1].text, n[1].size), SPAN("2001:db8::1")));
	assert_int_equal(n[1].kind, LOCKOUT_ADDRESS);
	assert_int_equal(lockout_until(worker.strikes, &n[0], worker.now_ms),
			 worker.now_ms + routing.config->lockout.duration_ms);
	assert_true(lockout_lift(worker.strikes, flow.key_seed, ann, worker.now_ms));
	assert_false(lockout_lift(worker.strikes, flow.key_seed, ann, worker.now_ms));
	assert_int_equal(lockout_until(worker.strikes, &n[0], worker.now_ms), 0);
	assert_row("192.0.2.1", ann, REPLY_NONE);
	assert_row("2001:db8::2", ann, REPLY_ADDRESS_LOCKED);
	/* Any address of its /64 is its name. */
	assert_true(
		lockout_lift(worker.strikes, flow.key_seed, SPAN("2001:db8::7"), worker.now_ms));
	assert_row("2001:db8::2", ann, REPLY_NONE);
}

static void
the_oldest_name_gives_way(void **state)
{
	char user[32];

	(void)state;
	use_options("address_failures: 0, user_failures: 1");
	for (unsigned i = 0; i < LOCKOUT_NAMES + 2; i++) {
		snprintf(user, sizeof user, "user%u", i);
		lockout_failed(at("192.0.2.1"), span_of_string(user), 0);
	}
	const struct lockout_name *n = flow.lockouts.names;
	assert_int_equal(flow.lockouts.count, LOCKOUT_NAMES);
	assert_int_equal(flow.lockouts.oldest, 2);
	snprintf(user, sizeof user, "user%u", LOCKOUT_NAMES + 1);
	assert_true(span_eq(span_of(n[1].text, n[1].size), span_of_string(user)));
	assert_true(span_eq(span_of(n[2].text, n[2].size), SPAN("user2")));
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(answers_are_held_back_for_longer_and_longer),
		TEST(a_user_is_locked_out_whoever_asks),
		TEST(an_address_is_locked_out_whichever_user_it_tries),
		TEST(an_address_of_ipv6_is_its_64),
		TEST(the_same_attempt_counts_once),
		TEST(who_logs_in_from_here_is_not_locked_out_by_others),
		TEST(a_success_forgets_the_failures_of_the_user_alone),
		TEST(exempt_addresses_are_not_counted),
		TEST(locks_have_names_and_can_be_lifted),
		TEST(the_oldest_name_gives_way),
	};

	return cmocka_run_group_tests_name("lockout", tests, NULL, NULL);
}
