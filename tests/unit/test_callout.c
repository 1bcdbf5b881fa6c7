/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow queue dns core smtp message machine threads */
/*
 * Questions to a next hop, over a real ring and a loopback connection. The next hop is a thread
 * that answers by the first letter of the local part: k knows it, u does not, l puts it off, s says
 * nothing, x closes.
 */
#include "relay/flow/callout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/limits.h"
#include "core/log.h"
#include "core/metric.h"
#include "relay/flow/flow.h"

enum { PATIENCE_MS = 20000, ANSWERS_MAX = 64 };

static const struct worker_options options = {
	.ring = { .entries = 256, .buffers = { 4, 4 }, .buffer_size = { 4096, 4096 } },
	.mailbox_places = 8,
	.buffers_max = 64,
};

/* ---- the next hop ---- */

static int listener;
static atomic_uint questions, connections;

static void
say(FILE *out, const char *text)
{
	fputs(text, out);
	fflush(out);
}

/* One connection. False: it must be closed at once. */
static bool
answer_line(FILE *out, const char *line)
{
	const char *local = strchr(line, '<');

	if (strncmp(line, "RCPT", 4) != 0) {
		say(out,
		    strncmp(line, "EHLO", 4) == 0 ? "250-x\r\n250 PIPELINING\r\n" : "250 ok\r\n");
		return strncmp(line, "QUIT", 4) != 0;
	}
	atomic_fetch_add(&questions, 1);
	switch (local[1]) {
	case 'k':
		say(out, "250 2.1.5 fine\r\n");
		return true;
	case 'u':
		say(out, "550-5.1.1 who\r\n550 5.1.1 is that?\r\n");
		return true;
	case 'l':
		say(out, "450 4.2.0 greylisted\r\n");
		return true;
	case 's':
		return true;
	default:
		return false;
	}
}

#ifdef __SANITIZE_THREAD__
/* The worker closes descriptors through its ring, which ThreadSanitizer does not see: a number that
 * the server is given next looks to it as if both used the same descriptor. */
const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
	return "race:serve\n";
}
#endif

static void *
serve(void *unused)
{
	char line[512];
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
		atomic_fetch_add(&connections, 1);
		say(out, "220 hi\r\n");
		while (fgets(line, sizeof line, in) != NULL && answer_line(out, line))
			;
		fclose(in);
		fclose(out);
	}
	return unused;
}

/* ---- the worker ---- */

static struct worker w;
static struct worker *peers[] = { &w };
static pthread_t server;
static struct log *logs;
static struct routing *routing;

struct asker {
	struct callout_waiter waiter; /* first */
	bool answered;
	enum callout_answer answer;
	char why[CALLOUT_TEXT_MAX + 1];
};

static void
on_answer(struct callout_waiter *waiter, enum callout_answer answer, struct span why)
{
	struct asker *a = (struct asker *)(void *)waiter;

	assert_false(a->answered);
	a->answered = true;
	a->answer = answer;
	snprintf(a->why, sizeof a->why, "%.*s", SPAN_ARG(why));
}

/* Asks, and says what callout_ask said. */
static enum callout_answer
ask(struct asker *a, const char *address)
{
	struct address path;
	struct span why;

	*a = (struct asker){ .waiter.on_answer = on_answer };
	assert_int_equal(address_parse_mailbox(span_of_string(address), &path), ADDRESS_OK);
	enum callout_answer answer = callout_ask(w.flow, routing, &path, &a->waiter, &why);
	if (answer != CALLOUT_PENDING)
		on_answer(&a->waiter, answer, why);
	return answer;
}

static void
turn_until(const bool *done)
{
	uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

	while (!*done) {
		assert_true(clock_monotonic_ms() < end_ms);
		worker_turn(&w, 100 * 1000);
	}
}

static enum callout_answer
ask_and_wait(struct asker *a, const char *address)
{
	ask(a, address);
	turn_until(&a->answered);
	return a->answer;
}

static void
listen_somewhere(struct sockaddr_in *address)
{
	socklen_t size = sizeof *address;

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)address, size), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)address, &size), 0);
}

static void
make_routing(const struct sockaddr_in *address)
{
	static struct config_errors errors;
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	char text[1024];

	snprintf(text, sizeof text,
		 "hostname: mx1.example.org\n"
		 "listeners: [{ address: \"127.0.0.1:25\" }]\n"
		 "relay:\n"
		 "  domains: [{ name: example.org, recipients: callout }]\n"
		 "  callout: { answers_max: %d, questions_max: 8, deadline: 5s }\n"
		 "routes: [{ domain: example.org, to: \"smtp://127.0.0.1:%u\" }]\n",
		 ANSWERS_MAX, (unsigned)ntohs(address->sin_port));
	const struct config *c = config_parse("test", span_of_string(text), &errors);
	if (c == NULL)
		fail_msg("%s", errors.lines[0]);
	routing = routing_new(c, NULL, &why);
	assert_non_null(routing);
	config_put(c);
}

static int
go_up(void **state)
{
	static struct metrics *metrics;
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	struct sockaddr_in address;
	int error;

	(void)state;
	listen_somewhere(&address);
	atomic_store(&questions, 0);
	atomic_store(&connections, 0);
	assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
	make_routing(&address);
	worker_init(&w, 0, 1, peers, &options);
	assert_true(worker_open(&w, &options, &why));
	metrics = aligned_alloc(64, sizeof *metrics);
	memset(metrics, 0, sizeof *metrics);
	w.metrics = metrics;
	logs = log_new(1, 1 << 20, "/dev/null", &error);
	assert_non_null(logs);
	w.log = log_ring(logs, 0, metrics);
	w.config = routing->config;
	assert_non_null(flow_new(&w, routing, 4711));
	worker_turn(&w, 0);
	return 0;
}

static int
go_down(void **state)
{
	uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

	(void)state;
	callouts_stop(w.flow);
	while (!callouts_are_quiet(w.flow)) {
		assert_true(clock_monotonic_ms() < end_ms);
		worker_turn(&w, 100 * 1000);
	}
	flow_free(w.flow);
	worker_close(&w);
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listener);
	routing_put(routing);
	log_free(logs);
	free(w.metrics);
	return 0;
}

static void
test_answers(void **state)
{
	static const struct {
		const char *address;
		enum callout_answer answer;
		const char *why;
		bool kept;
	} rows[] = {
		{ "known@example.org", CALLOUT_KNOWN, "the next hop says: 250 2.1.5 fine", true },
		{ "unknown@example.org", CALLOUT_UNKNOWN,
		  "the next hop says: 550 5.1.1 who is that?", true },
		{ "later@example.org", CALLOUT_FAILED, "the next hop says: 450 4.2.0 greylisted",
		  false },
	};
	struct asker a;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(ask_and_wait(&a, rows[i].address), rows[i].answer);
		assert_string_equal(a.why, rows[i].why);
		unsigned asked = atomic_load(&questions);
		enum callout_answer again = ask(&a, rows[i].address);
		assert_int_equal(again, rows[i].kept ? rows[i].answer : CALLOUT_PENDING);
		turn_until(&a.answered);
		assert_string_equal(a.why, rows[i].why);
		assert_int_equal(atomic_load(&questions), asked + !rows[i].kept);
	}
	/* The domain's case does not matter, that of the local part may. */
	assert_int_equal(ask(&a, "known@Example.ORG"), CALLOUT_KNOWN);
	assert_int_equal(atomic_load(&connections), 1);
	/* It closes for all other letters. */
	assert_int_equal(ask_and_wait(&a, "KNOWN@example.org"), CALLOUT_FAILED);
	assert_string_equal(a.why, "the connection was lost");
}

static void
test_equal_questions_are_joined(void **state)
{
	struct asker all[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(ask(&all[i], i % 2 == 0 ? "k1@example.org" : "u1@example.org"),
				 CALLOUT_PENDING);
	/* Who has gone is not told, and the others are. */
	callout_forget(&all[0].waiter);
	for (size_t i = 1; i < 4; i++) {
		turn_until(&all[i].answered);
		assert_int_equal(all[i].answer, i % 2 == 0 ? CALLOUT_KNOWN : CALLOUT_UNKNOWN);
	}
	assert_false(all[0].answered);
	assert_int_equal(atomic_load(&questions), 2);
	/* Nobody waits any more: the answer is kept all the same. */
	ask(&all[0], "k2@example.org");
	callout_forget(&all[0].waiter);
	ask(&all[1], "k3@example.org");
	turn_until(&all[1].answered);
	assert_int_equal(ask(&all[0], "k2@example.org"), CALLOUT_KNOWN);
}

static void
test_answers_end(void **state)
{
	struct asker a;

	(void)state;
	ask_and_wait(&a, "k1@example.org");
	ask_and_wait(&a, "u1@example.org");
	w.now_ms += 600 * 1000 - 1000;
	assert_int_equal(ask(&a, "u1@example.org"), CALLOUT_UNKNOWN);
	w.now_ms += 2000;
	assert_int_equal(ask(&a, "u1@example.org"), CALLOUT_PENDING);
	callout_forget(&a.waiter);
	assert_int_equal(ask(&a, "k1@example.org"), CALLOUT_KNOWN);
	w.now_ms += 3000 * 1000;
	assert_int_equal(ask_and_wait(&a, "k1@example.org"), CALLOUT_KNOWN);
	assert_int_equal(atomic_load(&questions), 4);
}

static void
test_the_least_used_answer_goes_first(void **state)
{
	char address[64];
	struct asker a;

	(void)state;
	for (unsigned i = 0; i < ANSWERS_MAX + 10; i++) {
		snprintf(address, sizeof address, "k%u@example.org", i);
		assert_int_equal(ask_and_wait(&a, address), CALLOUT_KNOWN);
		assert_true(w.flow->callouts.answer_count <= ANSWERS_MAX);
		assert_int_equal(ask(&a, "k0@example.org"), CALLOUT_KNOWN); /* used all the time */
	}
	assert_int_equal(ask(&a, address), CALLOUT_KNOWN);
	assert_int_equal(ask(&a, "k1@example.org"), CALLOUT_PENDING);
	callout_forget(&a.waiter);
}

static void
test_bounds_and_the_deadline(void **state)
{
	struct asker open[8], more;
	char address[64];

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		snprintf(address, sizeof address, "s%u@example.org", i);
		assert_int_equal(ask(&open[i], address), CALLOUT_PENDING);
	}
	assert_int_equal(ask(&more, "k1@example.org"), CALLOUT_FAILED);
	assert_string_equal(more.why, "too many questions to next hops are open");
	assert_int_equal(ask(&more, "s0@example.org"), CALLOUT_PENDING);
	for (unsigned i = 0; i < 8; i++) {
		turn_until(&open[i].answered);
		assert_int_equal(open[i].answer, CALLOUT_FAILED);
	}
	assert_true(more.answered);
	assert_string_equal(more.why, "the next hop was silent for too long");
	assert_int_equal(w.flow->callouts.open_count, 0);
	/* It is left alone for a while, and then asked again. */
	unsigned asked = atomic_load(&questions);
	assert_int_equal(ask(&more, "k1@example.org"), CALLOUT_FAILED);
	assert_string_equal(more.why, "the next hop was silent for too long");
	w.now_ms += CALLOUT_PAUSE_MS;
	assert_int_equal(ask_and_wait(&more, "k1@example.org"), CALLOUT_KNOWN);
	assert_int_equal(atomic_load(&questions), asked + 1);
}

static void
test_it_can_be_stopped_at_any_time(void **state)
{
	struct asker a, b;

	(void)state;
	ask(&a, "s1@example.org");
	callouts_stop(w.flow);
	assert_int_equal(a.answer, CALLOUT_FAILED);
	assert_true(a.answered);
	/* Nothing was tried, so nothing is left alone. */
	assert_int_equal(ask_and_wait(&b, "k1@example.org"), CALLOUT_KNOWN);
	ask(&a, "s1@example.org");
	worker_turn(&w, 0);
	callouts_stop(w.flow);
	assert_true(a.answered);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, go_up, go_down),
		cmocka_unit_test_setup_teardown(test_equal_questions_are_joined, go_up, go_down),
		cmocka_unit_test_setup_teardown(test_answers_end, go_up, go_down),
		cmocka_unit_test_setup_teardown(test_the_least_used_answer_goes_first, go_up,
						go_down),
		cmocka_unit_test_setup_teardown(test_bounds_and_the_deadline, go_up, go_down),
		cmocka_unit_test_setup_teardown(test_it_can_be_stopped_at_any_time, go_up, go_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
