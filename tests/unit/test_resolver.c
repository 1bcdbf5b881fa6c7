/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses name_server dns core machine threads */
/* The resolver on a real ring with the real library, against a name server of our own that holds
 * answers back, truncates them, or gives none. (Validation: the live tests.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/log.h"
#include "core/metric.h"
#include "dns/context.h"
#include "dns/mx.h"
#include "dns/resolver.h"
#include "dns/unbound.h"
#include "tests/lib/name_server.h"

enum { QUERIES_MAX = 2000, WAIT_US = 100 * 1000, PATIENCE_MS = 60 * 1000 };

static const struct worker_options worker_options = {
	.ring = { .entries = 256 },
	.mailbox_places = 8,
};

static struct rig {
	struct worker worker;
	struct worker *peers[1];
	struct name_server *server;
	struct resolver *resolver;
	struct metrics *metrics;
	struct resolver_options options;
	bool stopped;
} rig;

static struct asked {
	struct dns_query query;
	struct dns_answer *answer;
	unsigned order; /* 1 is the first that was answered */
} asked[QUERIES_MAX];

static unsigned done;
static bool inside_ask;

static int
set_up(void **state)
{
	(void)state;
	rig = (struct rig){ 0 };
	memset(asked, 0, sizeof asked);
	done = 0;
	rig.metrics = aligned_alloc(64, sizeof *rig.metrics);
	memset(rig.metrics, 0, sizeof *rig.metrics);
	rig.options = (struct resolver_options){
		.forwarder_count = 1,
		.queries_max = 512,
		.waiting_max = 4096,
		.cache_bytes = 16 << 20,
		.deadline_ms = 30000,
	};
	rig.server = name_server_start(&rig.options.forwarders[0]);
	rig.peers[0] = &rig.worker;
	worker_init(&rig.worker, 0, 1, rig.peers, &worker_options);
	rig.worker.metrics = rig.metrics;
	return 0;
}

static void
start(void)
{
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	rig.resolver = resolver_new(&rig.worker, &rig.options, 1, &why);
	if (rig.resolver == NULL)
		fail_msg("%.*s", (int)why.size, text);
	if (!worker_open(&rig.worker, &worker_options, &why))
		fail_msg("%.*s", (int)why.size, text);
	worker_turn(&rig.worker, 0); /* the worker's time is that of its last turn */
}

static void
on_stopped(void *context)
{
	assert_ptr_equal(context, &rig);
	assert_false(rig.stopped);
	rig.stopped = true;
}

static void
stop(void)
{
	resolver_stop(rig.resolver, on_stopped, &rig);
	assert_false(rig.stopped);
	while (!rig.stopped)
		worker_turn(&rig.worker, WAIT_US);
	assert_int_equal(ring_ops(rig.worker.ring), 0);
}

static void
on_other_stopped(void *context)
{
	*(bool *)context = true;
}

static int
tear_down(void **state)
{
	(void)state;
	if (rig.worker.ring != NULL && !rig.stopped)
		stop();
	worker_close(&rig.worker);
	resolver_free(rig.resolver);
	name_server_stop(rig.server);
	for (unsigned i = 0; i < QUERIES_MAX; i++) {
		if (asked[i].answer != NULL)
			dns_answer_put(asked[i].answer);
	}
	free(rig.metrics);
	return 0;
}

static void
on_done(struct dns_query *q, struct dns_answer *a)
{
	struct asked *one = CONTAINER_OF(q, struct asked, query);

	assert_false(inside_ask);
	assert_null(one->answer);
	one->answer = dns_answer_get(a);
	one->order = ++done;
}

static void
ask(unsigned i, const char *name, enum dns_type type)
{
	asked[i].query.on_done = on_done;
	inside_ask = true;
	resolver_ask(rig.resolver, &asked[i].query, span_of_string(name), type);
	inside_ask = false;
}

static void
turn_until_done(unsigned count)
{
	uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;

	while (done < count) {
		worker_turn(&rig.worker, WAIT_US);
		if (clock_monotonic_ms() > until_ms)
			fail_msg("%u of %u answers", done, count);
	}
	assert_int_equal(done, count);
}

static void
turn_until_asked(const char *begin, unsigned count)
{
	uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;

	while (name_server_count(rig.server, begin) < count) {
		worker_turn(&rig.worker, 1000);
		assert_true(clock_monotonic_ms() < until_ms);
	}
}

static void
check(unsigned i, enum dns_outcome outcome, const char *why)
{
	const struct dns_answer *a = asked[i].answer;

	assert_non_null(a);
	if (a->outcome != outcome || (why != NULL && !span_eq(a->why, span_of_string(why))))
		fail_msg("question %u: %s, %.*s", i, dns_outcome_label(a->outcome),
			 SPAN_ARG(a->why));
	assert_int_equal(a->security, DNS_INSECURE);
}

/* ---- the tests ---- */

static void
every_outcome_is_told_apart(void **state)
{
	static const struct {
		const char *name;
		enum dns_type type;
		enum dns_outcome outcome;
		uint64_t life_ms; /* 0: does not matter */
	} rows[] = {
		{ "ok.example", DNS_A, DNS_FOUND, 60000 },
		{ "OK.Example.", DNS_MX, DNS_FOUND, 60000 },
		{ "ok.example", DNS_AAAA, DNS_NO_DATA, 30000 },
		{ "nx.example", DNS_A, DNS_NO_DOMAIN, 30000 },
		{ "fail.example", DNS_A, DNS_FAILED, 5000 },
		{ "big.example", DNS_A, DNS_FOUND, 60000 }, /* over TCP */
		{ "short.example", DNS_A, DNS_FOUND, 1000 },
		{ "loose.example", DNS_A, DNS_FAILED, 5000 },
		{ "not a name", DNS_A, DNS_NO_DOMAIN, 0 },
		{ "", DNS_A, DNS_NO_DOMAIN, 0 },
		{ "localhost", DNS_A, DNS_FOUND, 0 }, /* by the library itself, inside the call */
		{ "1.0.0.10.in-addr.arpa", DNS_PTR, DNS_FOUND, 0 },
		{ "1.2.168.192.in-addr.arpa", DNS_PTR, DNS_FOUND, 0 },
		{ "ok.nowhere.test", DNS_A, DNS_FOUND, 60000 }, /* transparent, below */
		{ "ok.nowhere.invalid", DNS_A, DNS_NO_DOMAIN, 0 },
	};
	unsigned count = sizeof rows / sizeof rows[0];

	(void)state;
	rig.options.transparent[rig.options.transparent_count++] = SPAN("test");
	start();
	for (unsigned i = 0; i < count; i++)
		ask(i, rows[i].name, rows[i].type);
	assert_int_equal(done, 0);
	turn_until_done(count);
	for (unsigned i = 0; i < count; i++) {
		check(i, rows[i].outcome, NULL);
		uint64_t life_ms = asked[i].answer->expires_at_ms - rig.worker.now_ms;
		if (rows[i].life_ms != 0)
			assert_in_range(life_ms + 10000, rows[i].life_ms, rows[i].life_ms + 10000);
	}
	assert_int_equal(asked[0].answer->count, 1);
	assert_true(span_eq(asked[1].answer->records[0].name, SPAN("ok.example")));
	assert_int_equal(asked[1].answer->records[0].preference, 10);
	assert_int_equal(METRIC_GET_LABEL(rig.metrics, DNS_ANSWERS, LABEL_DNS_OUTCOME_FAILED), 2);
}

static void
equal_questions_are_asked_once(void **state)
{
	(void)state;
	start();
	for (unsigned i = 0; i < 10; i++)
		ask(i, i % 2 == 0 ? "held.example" : "HELD.example.", DNS_A);
	ask(10, "held.example", DNS_MX);
	turn_until_asked("held", 2);
	name_server_release(rig.server);
	turn_until_done(11);
	for (unsigned i = 0; i < 10; i++)
		assert_ptr_equal(asked[i].answer, asked[0].answer);
	assert_int_equal(name_server_count(rig.server, "held"), 2);
	assert_int_equal(METRIC_GET(rig.metrics, DNS_JOINED), 9);
}

/* Two workers, turned by hand: what one has learnt the other one knows, but for failures and what
 * has no time to live. */
static void
an_answer_is_told_to_other_workers(void **state)
{
	static const char *const names[] = { "ok.example", "nx.example", "fail.example",
					     "short.example" };
	static const bool is_told[] = { true, true, false, false };
	struct worker other = { 0 };
	struct worker *both[] = { &rig.worker, &other };
	struct resolver *theirs;
	struct dns_answer *a;
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	(void)state;
	worker_init(&rig.worker, 0, 2, both, &worker_options);
	worker_init(&other, 1, 2, both, &worker_options);
	rig.worker.metrics = rig.metrics;
	start();
	rig.worker.resolver = rig.resolver;
	theirs = resolver_new(&other, &rig.options, 2, &why);
	assert_non_null(theirs);
	other.resolver = theirs;
	assert_true(worker_open(&other, &worker_options, &why));
	for (unsigned i = 0; i < 4; i++)
		ask(i, names[i], DNS_A);
	turn_until_done(4);
	worker_turn(&other, WAIT_US);
	for (unsigned i = 0; i < 4; i++) {
		a = resolver_peek(theirs, span_of_string(names[i]), DNS_A);
		assert_ptr_equal(a, is_told[i] ? asked[i].answer : NULL);
		if (a != NULL)
			dns_answer_put(a);
	}
	/* A letter that finds its reader stopped. */
	ask(4, "ok2.example", DNS_A);
	turn_until_done(5);
	bool stopped = false;
	resolver_stop(theirs, on_other_stopped, &stopped);
	while (!stopped)
		worker_turn(&other, WAIT_US);
	ask(5, "ok3.example", DNS_A);
	turn_until_done(6);
	assert_true(mailbox_run(&other.mailbox, SIZE_MAX) >= 1);
	worker_close(&other);
	resolver_free(theirs);
}

static void
an_answer_is_remembered(void **state)
{
	struct dns_answer *a;

	(void)state;
	start();
	assert_null(resolver_peek(rig.resolver, SPAN("ok.example"), DNS_A));
	ask(0, "ok.example", DNS_A);
	turn_until_done(1);
	ask(1, "ok.example", DNS_A);
	assert_int_equal(done, 1);
	turn_until_done(2);
	assert_ptr_equal(asked[0].answer, asked[1].answer);
	assert_int_equal(name_server_count(rig.server, "ok"), 1);
	assert_int_equal(METRIC_GET(rig.metrics, DNS_CACHE_HITS), 1);
	a = resolver_peek(rig.resolver, SPAN("Ok.Example."), DNS_A);
	assert_ptr_equal(a, asked[0].answer);
	dns_answer_put(a);
}

/* Two under way, three in line, in order; the others fail at once. */
static void
the_line_is_bounded_and_in_order(void **state)
{
	(void)state;
	rig.options.queries_max = 2;
	rig.options.waiting_max = 3;
	start();
	for (unsigned i = 0; i < 7; i++) {
		char name[32];
		snprintf(name, sizeof name, "held%u.example", i);
		ask(i, name, DNS_A);
	}
	turn_until_done(2);
	check(5, DNS_FAILED, "too many questions wait");
	check(6, DNS_FAILED, "too many questions wait");
	turn_until_asked("held", 2);
	assert_int_equal(METRIC_GET(rig.metrics, DNS_UNDER_WAY), 2);
	assert_int_equal(METRIC_GET(rig.metrics, DNS_WAITING), 3);
	assert_int_equal(METRIC_GET_LABEL(rig.metrics, LIMIT_HITS, LABEL_LIMIT_DNS_WAITING), 2);
	name_server_release(rig.server);
	turn_until_done(7);
	for (unsigned i = 2; i < 5; i++) {
		check(i, DNS_FOUND, NULL);
		assert_true(asked[i].order > asked[0].order || asked[i].order > asked[1].order);
	}
	assert_int_equal(METRIC_GET(rig.metrics, DNS_UNDER_WAY), 0);
	assert_int_equal(METRIC_GET(rig.metrics, DNS_WAITING), 0);
}

static void
a_question_ends_by_its_deadline(void **state)
{
	uint64_t start_ms;

	(void)state;
	rig.options.deadline_ms = 200;
	rig.options.queries_max = 2;
	start();
	start_ms = clock_monotonic_ms();
	ask(0, "held.example", DNS_A);
	ask(1, "silent.example", DNS_A);
	ask(2, "ok.example", DNS_A); /* has to wait in line, for longer than it may */
	turn_until_done(3);
	assert_true(clock_monotonic_ms() - start_ms >= 200);
	for (unsigned i = 0; i < 3; i++)
		check(i, DNS_FAILED, "no answer in time");
	assert_int_equal(METRIC_GET_LABEL(rig.metrics, TIMEOUTS, LABEL_TIMEOUT_DNS), 3);
	/* The library still has two of them; the late answer of one is remembered. */
	assert_int_equal(METRIC_GET(rig.metrics, DNS_UNDER_WAY), 2);
	assert_null(resolver_peek(rig.resolver, SPAN("held.example"), DNS_A));
	/* They do not stand in the way of others, but each beyond a limit keeps its place. */
	ask(3, "ok2.example", DNS_A);
	turn_until_done(4);
	check(3, DNS_FOUND, NULL);
	for (unsigned i = 0; i < 10; i++) {
		char name[32];
		snprintf(name, sizeof name, "silent%u.example", i);
		ask(4 + i, name, DNS_A);
		assert_true(METRIC_GET(rig.metrics, DNS_UNDER_WAY) <= 2 * 4);
	}
	turn_until_done(14);
	assert_true(METRIC_GET(rig.metrics, DNS_UNDER_WAY) <= 2 * 4);
	name_server_release(rig.server);
	unsigned under_way = (unsigned)METRIC_GET(rig.metrics, DNS_UNDER_WAY);
	while (METRIC_GET(rig.metrics, DNS_UNDER_WAY) == under_way)
		worker_turn(&rig.worker, WAIT_US);
	struct dns_answer *late = resolver_peek(rig.resolver, SPAN("held.example"), DNS_A);
	assert_non_null(late);
	dns_answer_put(late);
	assert_int_equal(done, 14);
}

static void
a_cancelled_question_is_not_told(void **state)
{
	(void)state;
	rig.options.queries_max = 1;
	start();
	ask(0, "held1.example", DNS_A);
	ask(1, "held1.example", DNS_A);
	ask(2, "held2.example", DNS_A); /* in line */
	ask(3, "not a name", DNS_A);    /* ended, and not told yet */
	resolver_cancel(&asked[0].query);
	resolver_cancel(&asked[2].query);
	resolver_cancel(&asked[2].query);
	resolver_cancel(&asked[3].query);
	assert_int_equal(METRIC_GET(rig.metrics, DNS_WAITING), 0);
	turn_until_asked("held1", 1);
	name_server_release(rig.server);
	turn_until_done(1);
	check(1, DNS_FOUND, NULL);
	/* Asked anew, it is as any other. */
	ask(2, "held2.example", DNS_A);
	turn_until_done(2);
	check(2, DNS_FOUND, NULL);
	assert_null(asked[0].answer);
	assert_null(asked[3].answer);
}

static void
a_stop_ends_what_is_open(void **state)
{
	(void)state;
	rig.options.queries_max = 3;
	start();
	ask(0, "silent1.example", DNS_A);
	ask(1, "silent2.example", DNS_MX);
	ask(2, "held.example", DNS_A);
	ask(3, "ok.example", DNS_A); /* in line */
	turn_until_asked("silent", 2);
	stop();
	assert_int_equal(done, 4);
	for (unsigned i = 0; i < 4; i++)
		check(i, DNS_FAILED, "shutting down");
}

static void
a_resolver_that_was_never_asked_can_be_stopped(void **state)
{
	(void)state;
	start();
	stop();
}

static void
a_thousand_names_at_once(void **state)
{
	(void)state;
	rig.options.queries_max = 64;
	start();
	for (unsigned i = 0; i < 1000; i++) {
		char name[32];
		snprintf(name, sizeof name, "ok%u.example", i);
		ask(i, name, DNS_A);
	}
	turn_until_done(1000);
	for (unsigned i = 0; i < 1000; i++)
		check(i, DNS_FOUND, NULL);
	assert_true(name_server_count(rig.server, "ok") >= 1000);
}

/* The memory for the answers is the test's: 100 names and each about 500 bytes. */
static void
the_cache_is_bounded(void **state)
{
	(void)state;
	rig.options.cache_bytes = 16000 * 4;
	start();
	for (unsigned i = 0; i < 100; i++) {
		char name[32];
		snprintf(name, sizeof name, "ok%u.example", i);
		ask(i, name, DNS_A);
	}
	turn_until_done(100);
	assert_in_range(METRIC_GET(rig.metrics, DNS_CACHE_BYTES), 8000, 16000);
}

/* ---- hosts ---- */

static struct mx_lookup lookups[4];
static struct mx_hosts *results[4];
static unsigned looked_up;

static void
on_hosts(struct mx_lookup *l, struct mx_hosts *h)
{
	assert_false(inside_ask);
	results[l - lookups] = mx_hosts_get(h);
	looked_up++;
}

static void
turn_until_looked_up(unsigned count)
{
	while (looked_up < count)
		worker_turn(&rig.worker, WAIT_US);
	assert_int_equal(looked_up, count);
}

static void
prepare_lookups(void)
{
	looked_up = 0;
	for (unsigned i = 0; i < 4; i++) {
		lookups[i] = (struct mx_lookup){ .on_done = on_hosts };
		results[i] = NULL;
	}
}

static void
put_results(void)
{
	for (unsigned i = 0; i < 4; i++) {
		if (results[i] != NULL)
			mx_hosts_put(results[i]);
	}
}

static void
equal_lookups_share_one_search(void **state)
{
	static const struct span name = { (const uint8_t *)"held.example", 12 };
	static const struct mx_self other = { .names = &name, .name_count = 1 };

	(void)state;
	start();
	prepare_lookups();
	inside_ask = true;
	mx_lookup_domain(&lookups[0], rig.resolver, SPAN("held.example"), NULL);
	mx_lookup_domain(&lookups[1], rig.resolver, SPAN("HELD.example"), NULL);
	mx_lookup_domain(&lookups[2], rig.resolver, SPAN("held.example"), NULL);
	mx_lookup_domain(&lookups[3], rig.resolver, SPAN("held.example"), &other);
	inside_ask = false;
	mx_lookup_cancel(&lookups[2]);
	turn_until_asked("held", 1);
	name_server_release(rig.server);
	turn_until_looked_up(3);
	assert_ptr_equal(results[0], results[1]);
	assert_int_equal(results[0]->outcome, MX_FOUND);
	assert_int_equal(results[0]->address_count, 1);
	assert_null(results[2]);
	/* For one who has that name it is a loop. */
	assert_int_equal(results[3]->outcome, MX_LOOP);
	mx_lookup_domain(&lookups[2], rig.resolver, SPAN("held.example"), NULL);
	turn_until_looked_up(4);
	assert_ptr_equal(results[2], results[0]);
	assert_int_equal(METRIC_GET(rig.metrics, DNS_MX_CACHE_HITS), 1);
	assert_int_equal(name_server_count(rig.server, "held"), 3); /* MX, A, AAAA */
	put_results();
}

/* The MX host is silent: the lookup ends by its own deadline, and so does one without any answer.
 */
static void
a_lookup_has_one_deadline(void **state)
{
	(void)state;
	rig.options.deadline_ms = 300;
	start();
	prepare_lookups();
	mx_lookup_domain(&lookups[0], rig.resolver, SPAN("silent.example"), NULL);
	mx_lookup_host(&lookups[1], rig.resolver, SPAN("silent2.example"), 25);
	turn_until_looked_up(2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(results[i]->outcome, MX_FAILED);
		assert_true(results[i]->why.size > 0);
	}
	put_results();
}

/* The best host has its address; the other's name server says nothing, for as long as anyone waits.
 */
static void
a_silent_backup_does_not_hold_up_the_best(void **state)
{
	uint64_t start_ms = clock_monotonic_ms();

	(void)state;
	start();
	prepare_lookups();
	mx_lookup_domain(&lookups[0], rig.resolver, SPAN("pair.example"), NULL);
	turn_until_looked_up(1);
	assert_in_range(clock_monotonic_ms() - start_ms, 2000, 15000);
	assert_int_equal(results[0]->outcome, MX_FOUND);
	assert_int_equal(results[0]->host_count, 1);
	assert_true(span_eq(results[0]->hosts[0].name, SPAN("ok")));
	assert_true(span_eq(results[0]->site, SPAN("ok,silent")));
	put_results();
}

/* Forwarders that drop DNSSEC records: what is wrong with them is said once, with a remedy. */
static void
forwarders_without_dnssec_are_named(void **state)
{
	char path[] = "/tmp/ringpost-anchors-XXXXXX";
	char log_path[] = "/tmp/ringpost-log-XXXXXX";
	char text[8192] = { 0 };
	int fd = mkstemp(path), log_fd = mkstemp(log_path), error = 0;
	struct log *log = log_new(1, 64 * 1024, log_path, &error);

	(void)state;
	assert_true(fd >= 0 && log_fd >= 0 && log != NULL);
	assert_true(dprintf(fd,
			    ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC6834571"
			    "04237C7F8EC8D\n") > 0);
	close(fd);
	rig.options.trust_anchors = path;
	rig.worker.log = log_ring(log, 0, rig.metrics);
	start();
	unlink(path);
	ask(0, "ok1.example", DNS_A);
	ask(1, "ok2.example", DNS_A);
	turn_until_done(2);
	for (unsigned i = 0; i < 2; i++)
		check(i, DNS_BOGUS, NULL);
	log_drain(log);
	ssize_t size = read(log_fd, text, sizeof text - 1);
	assert_true(size > 0);
	const char *problem = strstr(text, "\"event\":\"problem\"");
	assert_non_null(problem);
	assert_non_null(strstr(problem, "dns.forwarders"));
	assert_null(strstr(problem + 1, "\"event\":\"problem\""));
	assert_non_null(strstr(text, "\"event\":\"dns_failed\",\"name\":\"ok1.example\""));
	rig.worker.log = NULL;
	log_free(log);
	close(log_fd);
	unlink(log_path);
}

/* The name server signs nothing, so there is nothing that could be proven; a stop in between. */
static void
what_validation_is_worth_is_told_once(void **state)
{
	char log_path[] = "/tmp/ringpost-log-XXXXXX";
	char text[8192] = { 0 };
	int log_fd = mkstemp(log_path), error = 0;
	struct log *log = log_new(1, 64 * 1024, log_path, &error);
	ssize_t size = 0;

	(void)state;
	assert_true(log_fd >= 0 && log != NULL);
	rig.worker.log = log_ring(log, 0, rig.metrics);
	start();
	resolver_prove(rig.resolver);
	resolver_prove(rig.resolver);
	worker_turn(&rig.worker, 0);
	worker_turn(&rig.worker, 0);
	log_drain(log);
	size = read(log_fd, text, sizeof text - 1);
	assert_true(size > 0);
	const char *told = strstr(text, "\"event\":\"dnssec_fails\"");
	assert_non_null(told);
	assert_non_null(strstr(told, "there are no trust anchors"));
	assert_non_null(strstr(told, "DANE is off"));
	assert_null(strstr(told + 1, "\"event\":\"dnssec"));
	assert_int_equal(name_server_count(rig.server, ""), 0);
	rig.worker.log = NULL;
	log_free(log);
	close(log_fd);
	unlink(log_path);
}

static void
a_stop_ends_a_proof(void **state)
{
	char path[] = "/tmp/ringpost-anchors-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_true(dprintf(fd,
			    ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC6834571"
			    "04237C7F8EC8D\n") > 0);
	close(fd);
	rig.options.trust_anchors = path;
	start();
	unlink(path);
	resolver_prove(rig.resolver);
	worker_turn(&rig.worker, 0);
	stop();
}

static void
a_stop_ends_lookups(void **state)
{
	(void)state;
	start();
	prepare_lookups();
	mx_lookup_domain(&lookups[0], rig.resolver, SPAN("silent.example"), NULL);
	mx_lookup_domain(&lookups[1], rig.resolver, SPAN("silent.example"), NULL);
	mx_lookup_host(&lookups[2], rig.resolver, SPAN("held.example"), 25);
	turn_until_asked("silent", 1);
	stop();
	assert_int_equal(looked_up, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(results[i]->outcome, MX_FAILED);
	put_results();
}

static void
names_of_the_configuration_have_files_and_search(void **state)
{
	char path[] = "/tmp/ringpost-hosts-XXXXXX";
	int fd = mkstemp(path);
	uint8_t ip[16];

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(dprintf(fd, "10.0.0.7 redis\n10.0.0.8 ok.example\n"), 35);
	close(fd);
	rig.options.hosts_file = path;
	rig.options.search[rig.options.search_count++] = SPAN("nx.example");
	rig.options.search[rig.options.search_count++] = SPAN("example");
	start();
	unlink(path);
	prepare_lookups();
	mx_lookup_host(&lookups[0], rig.resolver, SPAN("Redis"), 6379);
	mx_lookup_host(&lookups[1], rig.resolver, SPAN("ok7"), 24);
	mx_lookup_host(&lookups[2], rig.resolver, SPAN("10.1.2.3"), 24);
	/* A mail domain never uses the file. */
	mx_lookup_domain(&lookups[3], rig.resolver, SPAN("ok.example"), NULL);
	turn_until_looked_up(4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(results[i]->outcome, MX_FOUND);
	assert_int_equal(net_address_ip(&results[0]->addresses[0], ip), 4);
	assert_memory_equal(ip, "\x0a\x00\x00\x07", 4);
	assert_true(span_eq(results[1]->domain, SPAN("ok7.example")));
	assert_true(name_server_count(rig.server, "ok7.nx.example") >= 2);
	assert_true(results[2]->is_literal);
	assert_int_equal(net_address_ip(&results[3]->addresses[0], ip), 4);
	assert_memory_equal(ip, "\xc0\x00\x02\x01", 4);
	put_results();
}

/* ---- start ---- */

static void
a_start_says_what_is_wrong(void **state)
{
	static const struct {
		const char *anchors;
		const char *hosts;
		const char *why; /* its beginning */
	} rows[] = {
		{ "/nonexistent/root.key", NULL,
		  "dns.trust_anchors: /nonexistent/root.key: No such file" },
		{ "/dev/null", NULL, "dns.trust_anchors: /dev/null has no DS" },
		{ NULL, "/nonexistent/hosts", "dns.hosts_file: /nonexistent/hosts: No such file" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[512];
		struct buf why = buf_of(text, sizeof text);
		rig.options.trust_anchors = rows[i].anchors;
		rig.options.hosts_file = rows[i].hosts;
		assert_null(resolver_new(&rig.worker, &rig.options, 1, &why));
		if (!span_starts_with(buf_span(&why), span_of_string(rows[i].why)))
			fail_msg("%.*s", (int)why.size, text);
	}
}

/* A file that looks like anchors and is none is found out before the workers start. */
static void
anchors_are_tried_at_start(void **state)
{
	char path[] = "/tmp/ringpost-anchors-XXXXXX";
	char text[512];
	struct buf why = buf_of(text, sizeof text);
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_true(dprintf(fd, ". IN DS nonsense\n") > 0);
	close(fd);
	rig.options.trust_anchors = path;
	assert_null(resolver_new(&rig.worker, &rig.options, 1, &why));
	unlink(path);
	assert_true(span_starts_with(buf_span(&why), SPAN("dns")));
	assert_true(why.size > 40);
}

static void
without_anchors_nothing_is_validated(void **state)
{
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	(void)state;
	start();
	assert_false(resolver_validates(rig.resolver, &why));
	assert_true(why.size > 0);
}

/* The budgets of the process are divided by workers, and each has enough to work. */
static void
budgets_are_shared_by_workers(void **state)
{
	struct context_share one = context_share(&rig.options, 1);
	struct context_share many = context_share(&rig.options, 64);

	(void)state;
	assert_int_equal(one.queries_max, 512);
	assert_int_equal(one.sockets, 512);
	assert_int_equal(one.cache_bytes, 8 << 20);
	assert_int_equal(many.queries_max, 8);
	assert_int_equal(many.sockets, 16);
	assert_int_equal(many.streams, 4);
	assert_int_equal(many.cache_bytes, (8 << 20) / 64);
}

static void
an_event_base_can_be_unused(void **state)
{
	struct unbound *u = unbound_new(&rig.worker, 4);

	(void)state;
	assert_non_null(unbound_base(u));
	assert_int_equal(unbound_events(u), 0);
	unbound_free(u);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(every_outcome_is_told_apart),
		TEST(equal_questions_are_asked_once),
		TEST(an_answer_is_remembered),
		TEST(an_answer_is_told_to_other_workers),
		TEST(the_line_is_bounded_and_in_order),
		TEST(a_question_ends_by_its_deadline),
		TEST(a_cancelled_question_is_not_told),
		TEST(a_stop_ends_what_is_open),
		TEST(a_resolver_that_was_never_asked_can_be_stopped),
		TEST(a_thousand_names_at_once),
		TEST(the_cache_is_bounded),
		TEST(equal_lookups_share_one_search),
		TEST(a_lookup_has_one_deadline),
		TEST(a_silent_backup_does_not_hold_up_the_best),
		TEST(forwarders_without_dnssec_are_named),
		TEST(what_validation_is_worth_is_told_once),
		TEST(a_stop_ends_a_proof),
		TEST(a_stop_ends_lookups),
		TEST(names_of_the_configuration_have_files_and_search),
		TEST(a_start_says_what_is_wrong),
		TEST(anchors_are_tried_at_start),
		TEST(without_anchors_nothing_is_validated),
		TEST(budgets_are_shared_by_workers),
		TEST(an_event_base_can_be_unused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
