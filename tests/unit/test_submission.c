/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue dns smtp message core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/limits.h"
#include "core/log.h"
#include "core/metric.h"
#include "queue/driver.h"
#include "relay/flow/flow.h"
#include "relay/flow/quota.h"
#include "relay/flow/submission.h"

static struct worker worker;
static struct metrics counters;
static struct flow flow;
static struct routing routing;
static struct session session;
static struct log *events;
static struct users *users;
/* Of a store of one node: it has no shares. */
static const struct queue_driver driver = { .name = "one node" };
static struct queue queue = { .magic = QUEUE_MAGIC, .driver = &driver, .worker = &worker };

static const char file[] =
	"secret AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	"ann@example.org - \n"
	"bob -\n"
	"lists - from=list@example.org,@lists.example\n"
	"root - from=* mails_per_hour=none\n"
	"few@example.org - mails_per_hour=3 mails_per_day=4 recipients_per_hour=5 "
	"recipients_per_day=7 connections=2\n";

static void
use_options(const char *options)
{
	static struct config_errors errors;
	char text[1024];

	snprintf(text, sizeof text,
		 "hostname: mx1.example.org\n"
		 "listeners: [{ address: \"127.0.0.1:25\", role: submission }]\n"
		 "tls: { certificates: [{ chain: /chain, key: /key }] }\n"
		 "users: { file: /users%s\n",
		 options);
	if (routing.config != NULL)
		config_put(routing.config);
	routing.config = config_parse("test", span_of_string(text), &errors);
	if (routing.config == NULL)
		fail_msg("%s", errors.lines[0]);
	session.listener = &routing.config->listeners[0];
}

static int
set_up(void **state)
{
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	int error;

	(void)state;
	memset(&worker, 0, sizeof worker);
	memset(&counters, 0, sizeof counters);
	memset(&flow, 0, sizeof flow);
	memset(&session, 0, sizeof session);
	users = users_parse(SPAN("users"), span_of_string(file), &why);
	if (users == NULL)
		fail_msg("%.*s", SPAN_ARG(buf_span(&why)));
	events = log_new(1, 65536, "/dev/null", &error);
	worker.metrics = &counters;
	worker.queue = &queue;
	worker.limits = limits_new(1024);
	worker.quotas = quotas_new(1024);
	worker.log = log_ring(events, 0, &counters);
	worker.now_ms = 1000000;
	flow.worker = &worker;
	flow.key_seed = 12345;
	session.flow = &flow;
	session.routing = &routing;
	use_options(" }");
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	quotas_free(worker.quotas);
	limits_free(worker.limits);
	log_free(events);
	users_put(users);
	config_put(routing.config);
	routing.config = NULL;
	return 0;
}

static const struct user *
user(const char *name)
{
	const struct user *u = users_find(users, span_of_string(name));

	assert_non_null(u);
	return u;
}

static void
users_own_their_addresses(void **state)
{
	static const struct {
		const char *user, *address;
		bool own;
	} rows[] = {
		{ "ann@example.org", "ann@example.org", true },
		{ "ann@example.org", "Ann@EXAMPLE.org", true },
		{ "ann@example.org", "ann+lists@example.org", true },
		{ "ann@example.org", "ann-lists@example.org", false },
		{ "ann@example.org", "+ann@example.org", false },
		{ "ann@example.org", "annx@example.org", false },
		{ "ann@example.org", "ann@sub.example.org", false },
		{ "ann@example.org", "ann@example.com", false },
		{ "ann@example.org", "\"ann+x\"@example.org", false },
		{ "bob", "bob@example.org", false },
		{ "bob", "bob@mx1.example.org", false },
		{ "lists", "list@example.org", true },
		{ "lists", "anything@lists.example", true },
		{ "lists", "anything@sub.lists.example", false },
		{ "lists", "ann@example.org", false },
		{ "lists", "lists@example.org", false },
		{ "root", "ann@example.org", true },
		{ "root", "x@[192.0.2.1]", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct address a;
		assert_int_equal(address_parse_mailbox(span_of_string(rows[i].address), &a),
				 ADDRESS_OK);
		session.user = user(rows[i].user);
		if (submission_is_own(session.user, SPAN("+"), &a) != rows[i].own)
			fail_msg("%s: %s", rows[i].user, rows[i].address);
		assert_int_equal(submission_sender(&session, &a),
				 rows[i].own ? REPLY_NONE : REPLY_SENDER_NOT_YOURS);
	}
}

static void
the_null_sender_is_an_option(void **state)
{
	struct address a = { .kind = ADDRESS_NULL };

	(void)state;
	session.user = user("root");
	assert_int_equal(submission_sender(&session, &a), REPLY_NULL_SENDER_DENIED);
	use_options(" }\nsubmission: { null_sender: true }\n");
	assert_int_equal(submission_sender(&session, &a), REPLY_NONE);
}

static void
all_addresses_of_a_from_field_must_be_his(void **state)
{
	static const struct {
		const char *value;
		enum reply_row row;
	} rows[] = {
		{ "Ann <ann@example.org>", REPLY_NONE },
		{ "Ann <ann@example.org>, ann+x@example.org", REPLY_NONE },
		{ "", REPLY_NONE },
		{ "Ann <ann@example.org>, Ceo <ceo@example.org>", REPLY_FROM_NOT_YOURS },
		{ "ceo@example.org <ann@example.org>", REPLY_FROM_NOT_YOURS },
		{ "ann@example.org, ceo", REPLY_FROM_NOT_YOURS },
		{ "ann@example.org\r\n\t(Ann)", REPLY_NONE },
		{ "ann@-example.org", REPLY_FROM_NOT_YOURS },
	};

	(void)state;
	session.user = user("ann@example.org");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (submission_from(&session, span_of_string(rows[i].value)) != rows[i].row)
			fail_msg("%s", rows[i].value);
	}
}

/* A transaction with so many recipients; the row that ended it. It counts where it is `queued`. */
static enum reply_row
mail(unsigned recipients, bool queued)
{
	struct transaction t = { .session = &session, .started_ms = worker.now_ms };
	enum reply_row row = quota_mail(&t, NULL);

	for (unsigned i = 0; i < recipients && row == REPLY_NONE; i++)
		row = quota_recipient(&t, NULL);
	if (row != REPLY_NONE || !queued)
		quota_give_back(&t);
	return row;
}

static void
mails_and_recipients_are_counted_where_they_are_taken(void **state)
{
	(void)state;
	session.user = user("few@example.org");
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(mail(5, false), REPLY_NONE);
	assert_int_equal(mail(6, true), REPLY_RECIPIENTS_PER_HOUR);
	assert_int_equal(mail(2, true), REPLY_NONE);
	assert_int_equal(mail(2, true), REPLY_NONE);
	assert_int_equal(mail(2, true), REPLY_RECIPIENTS_PER_HOUR);
	assert_int_equal(mail(1, true), REPLY_NONE);
	assert_int_equal(mail(1, true), REPLY_MAILS_PER_HOUR);
	worker.now_ms += 2 * 3600 * 1000;
	assert_int_equal(mail(3, true), REPLY_RECIPIENTS_PER_DAY);
	assert_int_equal(mail(2, true), REPLY_NONE);
	assert_int_equal(mail(1, true), REPLY_MAILS_PER_DAY);
	assert_int_equal(METRIC_GET_LABEL(&counters, LIMIT_HITS, LABEL_LIMIT_USER_MAILS_PER_HOUR),
			 1);
	assert_int_equal(
		METRIC_GET_LABEL(&counters, LIMIT_HITS, LABEL_LIMIT_USER_RECIPIENTS_PER_HOUR), 2);
	assert_int_equal(METRIC_GET_LABEL(&counters, LIMIT_HITS, LABEL_LIMIT_USER_MAILS_PER_DAY),
			 1);
	assert_int_equal(
		METRIC_GET_LABEL(&counters, LIMIT_HITS, LABEL_LIMIT_USER_RECIPIENTS_PER_DAY), 1);
}

static void
defaults_are_for_those_who_have_none(void **state)
{
	(void)state;
	use_options(", defaults: { mails_per_hour: 2, connections: 1 } }\n");
	session.user = user("ann@example.org");
	assert_int_equal(quota_limit(routing.config, session.user, USER_CONNECTIONS), 1);
	assert_int_equal(mail(9, true), REPLY_NONE);
	assert_int_equal(mail(9, true), REPLY_NONE);
	assert_int_equal(mail(9, true), REPLY_MAILS_PER_HOUR);
	session.user = user("bob"); /* each for himself */
	assert_int_equal(mail(9, true), REPLY_NONE);
	session.user = user("root");
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(mail(9, true), REPLY_NONE);
	session.user = user("few@example.org");
	assert_int_equal(quota_limit(routing.config, session.user, USER_MAILS_PER_HOUR), 3);
}

static void
connections_are_counted_as_long_as_they_last(void **state)
{
	struct session more[3];

	(void)state;
	session.user = user("few@example.org");
	for (unsigned i = 0; i < 3; i++)
		more[i] = session;
	assert_int_equal(quota_connect(&more[0]), REPLY_NONE);
	assert_int_equal(quota_connect(&more[1]), REPLY_NONE);
	assert_int_equal(quota_connect(&more[2]), REPLY_USER_CONNECTIONS);
	quota_disconnect(&more[2]); /* had none */
	quota_disconnect(&more[0]);
	assert_int_equal(quota_connect(&more[2]), REPLY_NONE);
	quota_disconnect(&more[1]);
	quota_disconnect(&more[2]);
	quota_disconnect(&more[2]);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(users_own_their_addresses),
		TEST(the_null_sender_is_an_option),
		TEST(all_addresses_of_a_from_field_must_be_his),
		TEST(mails_and_recipients_are_counted_where_they_are_taken),
		TEST(defaults_are_for_those_who_have_none),
		TEST(connections_are_counted_as_long_as_they_last),
	};

	return cmocka_run_group_tests_name("submission", tests, NULL, NULL);
}
