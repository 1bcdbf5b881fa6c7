/* SPDX-License-Identifier: Apache-2.0
 *
 * redis_link_rig: a worker, an owner of links that writes down what it is told, and questions that
 * remember their answers. For the tests of links to Redis; one worker a test.
 */
#ifndef TESTS_LIB_REDIS_LINK_RIG_H
#define TESTS_LIB_REDIS_LINK_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/conn.h"
#include "queue/redis/link.h"

enum { DEADLINE_MS = 5000 };

static const struct worker_options options = {
	.ring = { .entries = 64, .buffers = { 2, 4 }, .buffer_size = { 4096, 4096 } },
	.mailbox_places = 8,
	.buffers_max = 64,
};

static struct worker w;
static struct worker *peers[] = { &w };
static char server[128]; /* where new_link() goes where nothing else is said */

static int
setup(void **state)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	(void)state;
	worker_init(&w, 0, 1, peers, &options);
	if (!worker_open(&w, &options, &why))
		fail_msg("%.*s", (int)why.size, text);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	assert_int_equal(w.conn_count, 0);
	assert_int_equal(w.buffers.used, 0);
	assert_int_equal(w.timers.count, 0);
	assert_int_equal(ring_ops(w.ring), 0);
	worker_close(&w);
	return 0;
}

#define UNTIL(condition)                                              \
	do {                                                          \
		uint64_t until_ms_ = clock_monotonic_ms() + 20000;    \
		while (!(condition)) {                                \
			worker_turn(&w, 50 * 1000);                   \
			if (clock_monotonic_ms() > until_ms_)         \
				fail_msg("still not %s", #condition); \
		}                                                     \
	} while (0)

static unsigned logins, downs, failures, ended;
static bool sets_up; /* on_login sends nothing, and says ready */
static char moved[128], message[128];

static void
on_login(struct redis_link *l, void *context)
{
	(void)context;
	logins++;
	if (sets_up)
		redis_link_ready(l);
}

static void
on_down(struct redis_link *l, void *context)
{
	(void)context;
	assert_false(redis_link_is_ready(l));
	downs++;
}

static void
on_failed(struct redis_link *l, void *context)
{
	(void)context;
	assert_true(redis_link_problem(l).size > 0);
	failures++;
}

static void
on_moved(struct redis_link *l, void *context, struct span error)
{
	(void)l, (void)context;
	snprintf(moved, sizeof moved, "%.*s", SPAN_ARG(error));
}

static void
on_message(struct redis_link *l, void *context, struct span channel, struct span text)
{
	(void)l, (void)context;
	snprintf(message, sizeof message, "%.*s: %.*s", SPAN_ARG(channel), SPAN_ARG(text));
}

static void
on_ended(void *context)
{
	(void)context;
	ended++;
}

static const struct redis_link_events events = { .on_login = on_login,
						 .on_down = on_down,
						 .on_failed = on_failed,
						 .on_moved = on_moved,
						 .on_message = on_message };

struct question {
	struct redis_call call;
	unsigned answers;
	unsigned order; /* the how manieth answer it was */
	enum err error;
	int type;
	char text[64];
	long long number;
	struct question *then; /* asked in on_reply */
	struct redis_link *on;
};

static unsigned answer_count;

static void ask(struct redis_link *l, struct question *q, const char *words);

static void
on_reply(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct question *q = CONTAINER_OF(c, struct question, call);

	q->answers++;
	q->order = ++answer_count;
	q->error = e;
	q->type = reply == NULL ? 0 : reply->type;
	q->number = reply == NULL ? 0 : reply->integer;
	q->text[0] = 0;
	if (reply != NULL && reply->str != NULL)
		snprintf(q->text, sizeof q->text, "%s", reply->str);
	if (q->then != NULL)
		ask(q->on, q->then, "PING");
}

/* Words separated by blanks. */
static void
ask(struct redis_link *l, struct question *q, const char *words)
{
	struct span arguments[16];
	unsigned count = 0;
	unsigned answers = q->answers;

	for (const char *at = words; *at != 0;) {
		size_t n = strcspn(at, " ");
		arguments[count++] = span_of(at, n);
		at += n + (at[n] == ' ');
	}
	q->call.on_reply = on_reply;
	redis_send(l, &q->call, arguments, count);
	assert_int_equal(q->answers, answers); /* never inside of it */
}

static struct redis_link *
new_link(struct redis_link_options o)
{
	static struct span place;

	if (o.server_count == 0) {
		place = span_of_string(server);
		o.servers = &place;
		o.server_count = 1;
	}
	if (o.deadline_ms == 0)
		o.deadline_ms = DEADLINE_MS;
	logins = downs = failures = ended = answer_count = 0;
	sets_up = true;
	moved[0] = message[0] = 0;
	struct redis_link *l = redis_link_new(&w, &o, &events, NULL);
	assert_non_null(l);
	return l;
}

static void
end_link(struct redis_link *l)
{
	redis_link_close(l, on_ended, NULL);
	assert_int_equal(ended, 0);
	UNTIL(ended == 1);
}

enum { BODY_SIZE = 3 * 1024 * 1024 + 17 };

static uint8_t
pattern(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 7);
}

static struct body *
new_body(size_t size, struct body_budget *budget)
{
	struct body *b = body_new(budget, 0);

	for (size_t i = 0; i < size;) {
		uint8_t part[5000];
		size_t n = size - i < sizeof part ? size - i : sizeof part;
		for (size_t k = 0; k < n; k++)
			part[k] = pattern(i + k);
		assert_int_equal(body_append(b, span_of(part, n)), ERR_OK);
		i += n;
	}
	return b;
}

#endif
