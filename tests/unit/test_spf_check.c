/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses name_server dns core machine threads */
/* Checks of SPF on a real ring with the real library, against a name server of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "core/base/clock.h"
#include "core/metric.h"
#include "dns/resolver.h"
#include "dns/spf_check.h"
#include "tests/lib/name_server.h"

enum { CHECKS_MAX = 16, WAIT_US = 100 * 1000, PATIENCE_MS = 60 * 1000, TTL_MS = 60000 };

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

static struct checked {
	struct spf_check check;
	bool is_done;
	enum spf_result result;
	char mechanism[100];
	char problem[200];
	uint64_t life_ms;
} checked[CHECKS_MAX];

static unsigned done;
static bool inside_start;

static int
set_up(void **state)
{
	(void)state;
	rig = (struct rig){ 0 };
	memset(checked, 0, sizeof checked);
	done = 0;
	rig.metrics = aligned_alloc(64, sizeof *rig.metrics);
	memset(rig.metrics, 0, sizeof *rig.metrics);
	rig.options = (struct resolver_options){
		.forwarder_count = 1,
		.queries_max = 64,
		.waiting_max = 64,
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
begin(void)
{
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	rig.resolver = resolver_new(&rig.worker, &rig.options, 1, &why);
	if (rig.resolver == NULL || !worker_open(&rig.worker, &worker_options, &why))
		fail_msg("%.*s", (int)why.size, text);
	worker_turn(&rig.worker, 0);
}

static void
on_stopped(void *context)
{
	(void)context;
	rig.stopped = true;
}

static void
stop(void)
{
	resolver_stop(rig.resolver, on_stopped, NULL);
	while (!rig.stopped)
		worker_turn(&rig.worker, WAIT_US);
}

static int
tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CHECKS_MAX; i++)
		spf_check_cancel(&checked[i].check);
	if (!rig.stopped)
		stop();
	worker_close(&rig.worker);
	resolver_free(rig.resolver);
	name_server_stop(rig.server);
	free(rig.metrics);
	return 0;
}

static void
keep(char *to, size_t size, struct span text)
{
	text = span_first(text, size - 1);
	if (text.size > 0)
		memcpy(to, text.data, text.size);
	to[text.size] = 0;
}

static void
on_done(struct spf_check *check, const struct spf_outcome *o)
{
	struct checked *c = CONTAINER_OF(check, struct checked, check);

	assert_false(inside_start);
	assert_false(c->is_done);
	c->is_done = true;
	c->result = o->result;
	c->life_ms = o->expires_at_ms - rig.worker.now_ms;
	keep(c->mechanism, sizeof c->mechanism, o->mechanism);
	keep(c->problem, sizeof c->problem, o->problem);
	done++;
}

static void
start(unsigned i, const char *domain, const char *ip)
{
	struct spf_inputs in = { .helo = SPAN("mail.example.org"),
				 .local = SPAN("joe"),
				 .domain = span_of_string(domain) };

	assert_true(net_address_parse(span_of_string(ip), &in.client));
	checked[i].check.on_done = on_done;
	checked[i].is_done = false;
	inside_start = true;
	spf_check_start(&checked[i].check, rig.resolver, &in);
	inside_start = false;
	assert_false(checked[i].is_done);
}

static void
turn_until_done(unsigned count)
{
	uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;

	while (done < count) {
		worker_turn(&rig.worker, WAIT_US);
		assert_true(clock_monotonic_ms() < until_ms);
	}
	assert_int_equal(done, count);
}

static void
turn_until_asked(const char *name, unsigned count)
{
	uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;

	while (name_server_count(rig.server, name) < count) {
		worker_turn(&rig.worker, 1000);
		assert_true(clock_monotonic_ms() < until_ms);
	}
}

static void
check(unsigned i, enum spf_result result, const char *mechanism)
{
	assert_true(checked[i].is_done);
	if (checked[i].result != result)
		fail_msg("check %u: %s: %s", i, spf_result_label(checked[i].result),
			 checked[i].problem);
	assert_string_equal(checked[i].mechanism, mechanism);
}

static unsigned long
questions(void)
{
	return METRIC_GET_LABEL(rig.metrics, DNS_QUESTIONS, LABEL_DNS_TYPE_TXT) +
	       METRIC_GET_LABEL(rig.metrics, DNS_QUESTIONS, LABEL_DNS_TYPE_A);
}

/* ---- the tests ---- */

static void
checks_come_to_their_results(void **state)
{
	(void)state;
	begin();
	start(0, "ok.spf.example", "192.0.2.1:1");
	start(1, "ok.spf.example", "192.0.2.7:1");
	start(2, "ok.spf.example", "192.0.2.8:1");
	start(3, "nx.spf.example", "192.0.2.1:1");
	start(4, "fail.spf.example", "192.0.2.1:1");
	start(5, "not a domain", "192.0.2.1:1");
	turn_until_done(6);
	check(0, SPF_PASS, "a");
	check(1, SPF_PASS, "include:ok.inc.example");
	check(2, SPF_FAIL, "-all");
	check(3, SPF_NONE, "");
	check(4, SPF_TEMPERROR, "");
	check(5, SPF_NONE, "");
	assert_in_range(checked[2].life_ms, 1, TTL_MS);
}

static void
what_is_at_hand_asks_nothing(void **state)
{
	(void)state;
	begin();
	start(0, "ok.spf.example", "192.0.2.8:1");
	turn_until_done(1);
	unsigned long before = questions();
	start(1, "ok.spf.example", "192.0.2.7:1");
	start(2, "OK.SPF.Example", "192.0.2.8:1");
	worker_turn(&rig.worker, 0);
	assert_int_equal(done, 3);
	assert_int_equal(questions(), before);
	check(1, SPF_PASS, "include:ok.inc.example");
	check(2, SPF_FAIL, "-all");
	/* The least of the answers, so that nobody believes the result for longer. */
	assert_true(checked[2].life_ms <= checked[0].life_ms);
}

static void
nothing_is_kept_beyond_its_ttl(void **state)
{
	(void)state;
	begin();
	start(0, "ok.spf.example", "192.0.2.8:1");
	turn_until_done(1);
	unsigned long before = questions();
	rig.worker.now_ms += TTL_MS - 1000;
	start(1, "ok.spf.example", "192.0.2.8:1");
	assert_int_equal(questions(), before);
	rig.worker.now_ms += 2000;
	start(2, "ok.spf.example", "192.0.2.8:1");
	assert_int_equal(questions(), before + 1); /* the record, and no further without it */
	turn_until_done(3);                        /* a turn brings the true time back */
	check(2, SPF_FAIL, "-all");
}

/* Others may be told what has a TTL of 0 for a second; SPF asks again. */
static void
without_a_ttl_nothing_is_kept(void **state)
{
	(void)state;
	begin();
	start(0, "short.spf.example", "192.0.2.1:1");
	turn_until_done(1);
	unsigned long asked = questions();
	assert_int_equal(asked, 2);
	struct dns_answer *a = resolver_peek(rig.resolver, SPAN("short.spf.example"), DNS_TXT);
	assert_true(a != NULL && a->is_fleeting);
	dns_answer_put(a);
	start(1, "short.spf.example", "192.0.2.1:1");
	turn_until_done(2);
	assert_int_equal(questions(), 2 * asked);
	check(1, SPF_PASS, "a");
}

static void
only_who_waits_is_held_up(void **state)
{
	(void)state;
	begin();
	start(0, "held.spf.example", "192.0.2.1:1");
	start(1, "silent.spf.example", "192.0.2.1:1");
	start(2, "ok.spf.example", "192.0.2.1:1");
	turn_until_done(1);
	check(2, SPF_PASS, "a");
	turn_until_asked("held", 1);
	name_server_release(rig.server);
	turn_until_done(2);
	check(0, SPF_PASS, "a");
	assert_false(checked[1].is_done);
}

static void
a_check_ends_by_its_deadline(void **state)
{
	(void)state;
	begin();
	start(0, "silent.spf.example", "192.0.2.1:1");
	turn_until_asked("silent", 1);
	timers_run(&rig.worker.timers, rig.worker.now_ms + SPF_DEADLINE_MS - 1000);
	worker_turn(&rig.worker, 0);
	assert_int_equal(done, 0);
	timers_run(&rig.worker.timers, rig.worker.now_ms + SPF_DEADLINE_MS + 1000);
	turn_until_done(1);
	check(0, SPF_TEMPERROR, "");
	assert_non_null(strstr(checked[0].problem, "20 s"));
}

static void
checks_can_be_cancelled(void **state)
{
	(void)state;
	rig.options.queries_max = 16;
	rig.options.waiting_max = 4;
	begin();
	start(0, "ok.spf.example", "192.0.2.1:1");
	turn_until_done(1);
	spf_check_cancel(&checked[0].check);       /* after the end: nothing */
	start(1, "ok.spf.example", "192.0.2.1:1"); /* its outcome is known and not told */
	spf_check_cancel(&checked[1].check);
	start(2, "held.spf.example", "192.0.2.1:1"); /* waits for an answer */
	turn_until_asked("held", 1);
	spf_check_cancel(&checked[2].check);
	start(3, "held2.spf.example", "192.0.2.1:1"); /* has just asked */
	spf_check_cancel(&checked[3].check);
	name_server_release(rig.server);
	start(3, "ok.spf.example", "192.0.2.7:1");
	turn_until_done(2);
	check(3, SPF_PASS, "include:ok.inc.example");
}

static void
checks_are_bounded(void **state)
{
	(void)state;
	rig.options.queries_max = 2;
	rig.options.waiting_max = 4;
	begin();
	for (unsigned i = 0; i < 6; i++)
		start(i, "held.spf.example", "192.0.2.1:1");
	spf_check_cancel(&checked[5].check); /* refused, and not told */
	turn_until_done(2);
	for (unsigned i = 3; i < 5; i++) {
		check(i, SPF_TEMPERROR, "");
		assert_string_equal(checked[i].problem, "too many checks are under way");
	}
	assert_int_equal(METRIC_GET_LABEL(rig.metrics, LIMIT_HITS, LABEL_LIMIT_DNS_WAITING), 3);
	name_server_release(rig.server);
	turn_until_done(5);
	check(0, SPF_PASS, "a");
	start(5, "ok.spf.example", "192.0.2.1:1"); /* it heals */
	turn_until_done(6);
	check(5, SPF_PASS, "a");
}

static void
stopping_ends_all_checks(void **state)
{
	(void)state;
	begin();
	start(0, "silent.spf.example", "192.0.2.1:1");
	start(1, "held.spf.example", "192.0.2.1:1");
	turn_until_asked("held", 1);
	stop();
	assert_int_equal(done, 2);
	check(0, SPF_TEMPERROR, "");
	check(1, SPF_TEMPERROR, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(checks_come_to_their_results, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_at_hand_asks_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_kept_beyond_its_ttl, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_a_ttl_nothing_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_who_waits_is_held_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_check_ends_by_its_deadline, set_up, tear_down),
		cmocka_unit_test_setup_teardown(checks_can_be_cancelled, set_up, tear_down),
		cmocka_unit_test_setup_teardown(checks_are_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stopping_ends_all_checks, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
