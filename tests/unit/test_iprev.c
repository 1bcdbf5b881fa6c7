/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses name_server dns core machine threads */
/* Names of addresses, over the real resolver and a name server of our own, by which every address
 * has the name ok.example, and that has 192.0.2.1. (Other outcomes: the live tests.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "core/metric.h"
#include "dns/iprev.h"
#include "tests/lib/name_server.h"

enum { WAIT_US = 100 * 1000 };

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
	bool stopped;
} rig;

static struct one {
	struct iprev iprev;
	bool is_done;
	enum iprev_result result;
	char name[64];
} one;

static int
set_up(void **state)
{
	struct resolver_options options = {
		.forwarder_count = 1,
		.queries_max = 64,
		.waiting_max = 64,
		.cache_bytes = 1 << 20,
		.deadline_ms = 30000,
	};
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	(void)state;
	rig = (struct rig){ 0 };
	one = (struct one){ 0 };
	rig.metrics = aligned_alloc(64, sizeof *rig.metrics);
	memset(rig.metrics, 0, sizeof *rig.metrics);
	rig.server = name_server_start(&options.forwarders[0]);
	rig.peers[0] = &rig.worker;
	worker_init(&rig.worker, 0, 1, rig.peers, &worker_options);
	rig.worker.metrics = rig.metrics;
	rig.resolver = resolver_new(&rig.worker, &options, 1, &why);
	if (rig.resolver == NULL || !worker_open(&rig.worker, &worker_options, &why))
		fail_msg("%.*s", (int)why.size, text);
	worker_turn(&rig.worker, 0);
	return 0;
}

static void
on_stopped(void *context)
{
	(void)context;
	rig.stopped = true;
}

static int
tear_down(void **state)
{
	(void)state;
	resolver_stop(rig.resolver, on_stopped, NULL);
	while (!rig.stopped)
		worker_turn(&rig.worker, WAIT_US);
	worker_close(&rig.worker);
	resolver_free(rig.resolver);
	name_server_stop(rig.server);
	free(rig.metrics);
	return 0;
}

static void
on_done(struct iprev *i, const struct iprev_outcome *o)
{
	assert_ptr_equal(i, &one.iprev);
	assert_false(one.is_done);
	assert_true(o->name.size < sizeof one.name);
	one.is_done = true;
	one.result = o->result;
	if (o->name.size > 0)
		memcpy(one.name, o->name.data, o->name.size);
	one.name[o->name.size] = 0;
}

/* True: it was at hand. */
static bool
begin(const char *address)
{
	struct net_address client = { 0 };

	if (address[0] != 0)
		assert_true(net_address_parse(span_of_string(address), &client));
	one.is_done = false;
	one.iprev.on_done = on_done;
	const struct iprev_outcome *o = iprev_start(&one.iprev, rig.resolver, &client);
	assert_false(one.is_done); /* never inside the call */
	if (o == NULL)
		return false;
	on_done(&one.iprev, o);
	iprev_cancel(&one.iprev);
	return true;
}

static void
assert_result(const char *address, enum iprev_result result, const char *name)
{
	begin(address);
	while (!one.is_done)
		worker_turn(&rig.worker, WAIT_US);
	assert_int_equal(one.result, result);
	assert_string_equal(one.name, name);
}

static void
names_that_lead_back_pass(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		assert_result("192.0.2.1:25", IPREV_PASS, "ok.example");
		assert_result("[::ffff:192.0.2.1]:25", IPREV_PASS, "ok.example");
		assert_result("192.0.2.3:25", IPREV_FAIL, "");
		assert_result("[2001:db8::1]:25", IPREV_FAIL, "");
	}
	/* What was answered once is at hand. */
	assert_true(begin("192.0.2.1:25"));
	assert_true(begin("[2001:db8::1]:25"));
	assert_int_equal(name_server_count(rig.server, "1.2.0.192"), 1);
	assert_int_equal(name_server_count(rig.server, "ok"), 2);
}

static void
what_is_no_address_has_no_name(void **state)
{
	(void)state;
	assert_result("unix:/tmp/x", IPREV_PERMERROR, "");
	assert_result("", IPREV_PERMERROR, "");
}

static void
who_cancels_is_not_told(void **state)
{
	(void)state;
	assert_false(begin("192.0.2.1:25"));
	iprev_cancel(&one.iprev); /* a question is open */
	iprev_cancel(&one.iprev);
	assert_result("192.0.2.1:25", IPREV_PASS, "ok.example");
	assert_result("192.0.2.3:25", IPREV_FAIL, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_that_lead_back_pass, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_address_has_no_name, set_up, tear_down),
		cmocka_unit_test_setup_teardown(who_cancels_is_not_told, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("iprev", tests, NULL, NULL);
}
