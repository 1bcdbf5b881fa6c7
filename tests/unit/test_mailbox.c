/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses core threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <sched.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/mailbox.h"

enum { PRODUCERS = 4, EACH = 20000, PLACES = 64 };

struct letter {
	struct message message;
	unsigned producer;
	unsigned number;
};

static struct mailbox box;
static sem_t bell; /* stands for the ring's bell */
static unsigned next_number[PRODUCERS];
static unsigned received;

/* Plain memory on purpose: the mailbox is what makes it visible, and ThreadSanitizer looks on. */
static void
on_letter(struct message *m, void *context)
{
	struct letter *l = CONTAINER_OF(m, struct letter, message);

	assert_ptr_equal(context, &box);
	assert_int_equal(l->number, next_number[l->producer]);
	next_number[l->producer]++;
	received++;
	free(l);
}

static void *
produce(void *context)
{
	unsigned producer = (unsigned)(uintptr_t)context;

	for (unsigned i = 0; i < EACH; i++) {
		struct letter *l = malloc(sizeof *l);

		*l = (struct letter){ .message = { .on_message = on_letter },
				      .producer = producer,
				      .number = i };
		while (!mailbox_reserve(&box, 1))
			sched_yield();
		if (mailbox_post(&box, &l->message))
			sem_post(&bell);
	}
	return NULL;
}

/* The consumer sleeps whenever it may. A wake-up that got lost would hang this test. */
static void
nothing_is_lost_between_many_threads_and_a_sleeper(void **state)
{
	pthread_t threads[PRODUCERS];

	(void)state;
	mailbox_init(&box, PLACES, &box);
	assert_int_equal(sem_init(&bell, 0, 0), 0);
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_create(&threads[i], NULL, produce, (void *)(uintptr_t)i);
	while (received < PRODUCERS * EACH) {
		if (mailbox_run(&box, 16) > 0)
			continue;
		if (mailbox_may_sleep(&box)) {
			sem_wait(&bell);
			mailbox_awake(&box);
		}
	}
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(mailbox_run(&box, 16), 0);
	assert_true(mailbox_reserve(&box, PLACES)); /* all places are back */
	assert_false(mailbox_reserve(&box, 1));
	sem_destroy(&bell);
}

static unsigned handled;

static void
handle(struct message *m, void *context)
{
	(void)m;
	(void)context;
	handled++;
}

static void
places_are_reserved_and_returned(void **state)
{
	struct message a = { .on_message = handle };

	(void)state;
	mailbox_init(&box, 2, NULL);
	assert_true(mailbox_reserve(&box, 2));
	assert_false(mailbox_reserve(&box, 1));
	mailbox_unreserve(&box, 1);
	assert_true(mailbox_reserve(&box, 1));
	mailbox_post(&box, &a);
	assert_false(mailbox_reserve(&box, 1));
	handled = 0;
	assert_int_equal(mailbox_run(&box, 8), 1);
	assert_int_equal(handled, 1);
	assert_true(mailbox_reserve(&box, 1));
}

static void
a_sleeper_is_woken_once_and_not_while_mail_is_left(void **state)
{
	struct message messages[3] = { { .on_message = handle },
				       { .on_message = handle },
				       { .on_message = handle } };

	(void)state;
	mailbox_init(&box, 4, NULL);
	assert_true(mailbox_may_sleep(&box));
	assert_true(mailbox_reserve(&box, 3));
	assert_true(mailbox_post(&box, &messages[0]));
	assert_false(mailbox_post(&box, &messages[1])); /* the bell rings already */
	mailbox_awake(&box);
	assert_int_equal(mailbox_run(&box, 1), 1);
	assert_false(mailbox_may_sleep(&box));
	assert_false(mailbox_post(&box, &messages[2])); /* awake */
	assert_int_equal(mailbox_run(&box, 1), 1);
	assert_false(mailbox_may_sleep(&box));
	assert_int_equal(mailbox_run(&box, 8), 1);
	assert_true(mailbox_may_sleep(&box));
}

static void
long_answers_leave_some_places(void **state)
{
	static const struct {
		size_t places, of_them_long;
	} cases[] = { { 2, 1 }, { 15, 14 }, { 16, 14 }, { 4096, 3584 } };
	struct mailbox m;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		mailbox_init(&m, cases[i].places, NULL);
		assert_false(mailbox_reserve_long(&m, cases[i].of_them_long + 1));
		assert_true(mailbox_reserve_long(&m, cases[i].of_them_long));
		assert_false(mailbox_reserve_long(&m, 1));
		assert_true(mailbox_reserve(&m, cases[i].places - cases[i].of_them_long));
		assert_false(mailbox_reserve(&m, 1));
		mailbox_unreserve(&m, cases[i].places);
		assert_true(mailbox_reserve_long(&m, cases[i].of_them_long));
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_are_reserved_and_returned),
		cmocka_unit_test(long_answers_leave_some_places),
		cmocka_unit_test(a_sleeper_is_woken_once_and_not_while_mail_is_left),
		cmocka_unit_test(nothing_is_lost_between_many_threads_and_a_sleeper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
