/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/metric.h"
#include "queue/driver.h"
#include "relay/flow/bodies.h"
#include "relay/flow/flow.h"
#include "relay/flow/job.h"

enum { BODY_SIZE = 1000, JOBS = 400, SITES = 3 };

/* A store that keeps bodies alone: tight as long as they take more than `most_bytes`. */
static struct body_budget budget;
static uint64_t tight_bytes;

static struct worker worker;
static struct metrics counters;
static struct flow flow;
static struct site sites[SITES];
static struct queue queue;

struct mail {
	struct job job;
	struct queue_item item;
	struct queue_mail mail;
};

static struct mail mails[JOBS];

static bool
memory_is_tight(struct queue *q)
{
	(void)q;
	return budget.used_bytes > tight_bytes;
}

static void
drop_body(struct queue *q, struct queue_mail *m)
{
	(void)q;
	body_put(m->body);
	m->body = NULL;
}

static const struct queue_driver driver = {
	.name = "bodies",
	.memory_is_tight = memory_is_tight,
	.drop_body = drop_body,
};

static int
set_up(void **state)
{
	(void)state;
	budget = (struct body_budget){ .most_bytes = UINT64_MAX };
	tight_bytes = 0;
	memset(&worker, 0, sizeof worker);
	memset(&counters, 0, sizeof counters);
	memset(&flow, 0, sizeof flow);
	memset(mails, 0, sizeof mails);
	list_init(&worker.tasks);
	worker.metrics = &counters;
	worker.queue = &queue;
	queue = (struct queue){ .magic = QUEUE_MAGIC, .driver = &driver, .worker = &worker };
	flow.worker = &worker;
	bodies_init(&flow);
	for (unsigned i = 0; i < SITES; i++) {
		sites[i] = (struct site){ .magic = SITE_MAGIC, .flow = &flow };
		list_init(&sites[i].bodies);
	}
	return 0;
}

static struct job *
mail_at(unsigned number)
{
	struct mail *m = &mails[number];
	struct body *b = body_new(&budget, BODY_SIZE);

	assert_non_null(b);
	assert_int_equal(body_append(b, SPAN("text")), ERR_OK);
	m->mail = (struct queue_mail){ .magic = QUEUE_MAIL_MAGIC, .body = b };
	m->item = (struct queue_item){ .magic = QUEUE_ITEM_MAGIC, .mail = &m->mail };
	m->job = (struct job){ .magic = JOB_MAGIC,
			       .owner = &flow,
			       .server = &flow,
			       .item = &m->item,
			       .mail = &m->mail };
	return &m->job;
}

/* Mails from .. to - 1 wait at a site, in this order. */
static void
let_wait(struct site *s, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		bodies_wait(s, mail_at(i), false);
}

static unsigned
in_memory(unsigned from, unsigned to)
{
	unsigned n = 0;

	for (unsigned i = from; i < to; i++)
		n += mails[i].mail.body != NULL;
	return n;
}

/* One turn of the worker's tasks; false where there are none. */
static bool
turn(void)
{
	struct list_node *n = list_shift(&worker.tasks);

	if (n == NULL)
		return false;
	struct task *t = LIST_ITEM(n, struct task, node);
	t->on_run(t);
	return true;
}

static void
clear(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < SITES; k++)
			if (list_is_linked(&mails[i].job.body_link) &&
			    list_last(&sites[k].bodies) == &mails[i].job.body_link)
				bodies_wait_ended(&sites[k], &mails[i].job);
		bodies_put(&mails[i].job);
		if (mails[i].mail.body != NULL)
			body_put(mails[i].mail.body);
	}
	assert_int_equal(budget.used_bytes, 0);
}

static void
test_keeps_all_while_there_is_room(void **state)
{
	(void)state;
	let_wait(&sites[0], 0, 10);
	tight_bytes = budget.used_bytes;
	bodies_make_room(&flow);
	assert_false(turn());
	assert_int_equal(in_memory(0, 10), 10);
	clear(10);
}

static void
test_drops_the_newest_of_the_longest_line(void **state)
{
	(void)state;
	let_wait(&sites[0], 0, 3);
	let_wait(&sites[1], 3, 43);
	let_wait(&sites[2], 43, 48);
	/* Ten too many. */
	tight_bytes = budget.used_bytes / 48 * 38;
	bodies_make_room(&flow);
	assert_true(turn());
	assert_false(turn());
	assert_int_equal(in_memory(0, 3), 3);
	assert_int_equal(in_memory(43, 48), 5);
	assert_int_equal(in_memory(3, 33), 30);
	assert_int_equal(in_memory(33, 43), 0);
	assert_int_equal(sites[1].bodies_count, 30);
	assert_int_equal(METRIC_GET(&counters, BODIES_DROPPED), 10);
	clear(48);
}

static void
test_is_bounded_a_turn_and_goes_on(void **state)
{
	(void)state;
	let_wait(&sites[0], 0, JOBS);
	tight_bytes = 0;
	bodies_make_room(&flow);
	for (unsigned left = JOBS; left > 0;) {
		unsigned now = left > BODIES_A_TURN ? left - BODIES_A_TURN : 0;
		assert_true(turn());
		assert_int_equal(in_memory(0, JOBS), now);
		left = now;
	}
	assert_false(turn());
	assert_int_equal(budget.used_bytes, 0);
	/* Nothing is left to drop: whoever waits has no body. */
	assert_int_equal(sites[0].bodies_count, 0);
	assert_false(list_is_linked(&sites[0].bodies_link));
	clear(JOBS);
}

static void
test_a_reader_keeps_what_it_reads(void **state)
{
	(void)state;
	struct job *j = mail_at(0);
	/* The same mail goes to two destinations: one has a channel, the other waits. */
	struct job *waits = &mails[1].job;
	*waits = *j;
	bodies_take(j);
	bodies_wait(&sites[0], waits, false);
	bodies_make_room(&flow);
	assert_true(turn());
	assert_null(j->mail->body);
	assert_non_null(j->body);
	assert_true(span_eq(body_at(j->body, 0), SPAN("text")));
	bodies_put(j);
	assert_null(j->body);
	assert_int_equal(budget.used_bytes, 0);
}

static void
test_a_job_that_is_back_in_front_goes_last(void **state)
{
	(void)state;
	let_wait(&sites[0], 0, 2);
	struct job *j = mail_at(2);
	bodies_take(j);
	bodies_put(j);
	bodies_wait(&sites[0], j, true);
	tight_bytes = budget.used_bytes / 3;
	bodies_make_room(&flow);
	assert_true(turn());
	assert_int_equal(in_memory(0, 2), 0);
	assert_int_equal(in_memory(2, 3), 1);
	clear(3);
}

static void
test_hands_over_without_where_it_is_tight(void **state)
{
	(void)state;
	struct job *j = mail_at(0);
	tight_bytes = UINT64_MAX;
	bodies_hand_over(j);
	assert_non_null(j->body);
	bodies_put(j);
	tight_bytes = 0;
	bodies_hand_over(j);
	assert_null(j->body);
	assert_null(j->mail->body);
	assert_int_equal(METRIC_GET(&counters, BODIES_DROPPED), 1);
	assert_int_equal(budget.used_bytes, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_keeps_all_while_there_is_room, set_up),
		cmocka_unit_test_setup(test_drops_the_newest_of_the_longest_line, set_up),
		cmocka_unit_test_setup(test_is_bounded_a_turn_and_goes_on, set_up),
		cmocka_unit_test_setup(test_a_reader_keeps_what_it_reads, set_up),
		cmocka_unit_test_setup(test_a_job_that_is_back_in_front_goes_last, set_up),
		cmocka_unit_test_setup(test_hands_over_without_where_it_is_tight, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
