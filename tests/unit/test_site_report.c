/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses control flow queue dns core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "relay/control/suspended.h"
#include "relay/flow/report.h"
#include "relay/flow/suspension.h"

static struct site_report
part(const char *name)
{
	struct site_report r = { .limit = 20, .hosts = 2 };

	r.name_size = (unsigned)strlen(name);
	memcpy(r.name, name, r.name_size);
	return r;
}

static void
must_have(const struct report_set *s, size_t at, const char *name)
{
	assert_true(at < s->count);
	assert_true(span_eq(report_name(s->reports[at]), span_of_string(name)));
}

static void
parts_become_wholes(void **state)
{
	struct report_set s;
	struct site_report a = part("a");
	struct site_report more = part("a");

	(void)state;
	a.connections = 2;
	a.busy = 1;
	a.waiting = 7;
	a.down_ms = 5;
	a.hosts_failed = 1;
	a.failure = (struct site_failure){ .at_ms = 10, .size = 1, .text = "x" };
	more.connections = 4;
	more.suspended = true;
	more.down_ms = 9;
	more.hosts_failed = 2;
	more.failure = (struct site_failure){ .at_ms = 11, .size = 1, .text = "y" };
	report_set_init(&s, span_none(), span_none(), 10);
	assert_true(report_set_add(&s, &a));
	assert_true(report_set_add(&s, &more));
	assert_int_equal(s.count, 1);
	const struct site_report *whole = s.reports[0];
	assert_int_equal(whole->connections, 6);
	assert_int_equal(whole->busy, 1);
	assert_int_equal(whole->waiting, 7);
	assert_int_equal(whole->limit, 20); /* of all, not the sum */
	assert_true(whole->suspended);
	assert_int_equal(whole->down_ms, 9);
	assert_int_equal(whole->hosts, 2);
	assert_int_equal(whole->hosts_failed, 2);
	assert_int_equal(whole->failure.text[0], 'y');
	report_set_fini(&s);
}

static void
hosts_are_added_up_by_address(void **state)
{
	struct report_set s;
	struct host_report a = { .connections = 1, .failures = 3, .again_ms = 5 };
	struct host_report b = { .connections = 2, .failures = 1, .again_ms = 8 };

	(void)state;
	report_set_init(&s, span_none(), SPAN("a"), 1);
	assert_true(net_address_parse(SPAN("192.0.2.1:25"), &a.address));
	b.address = a.address;
	assert_true(report_set_add_host(&s, &a));
	assert_true(report_set_add_host(&s, &b));
	assert_int_equal(s.host_count, 1);
	assert_int_equal(s.hosts[0].connections, 3);
	assert_int_equal(s.hosts[0].failures, 3);
	assert_int_equal(s.hosts[0].again_ms, 8);
	/* More addresses than a plan can have, from workers with different plans. */
	for (unsigned i = 0; i < 2 * PLAN_HOSTS_MAX; i++) {
		char text[32];
		snprintf(text, sizeof text, "192.0.2.%u:25", i + 1);
		assert_true(net_address_parse(span_of_string(text), &b.address));
		assert_true(report_set_add_host(&s, &b));
	}
	assert_int_equal(s.host_count, PLAN_HOSTS_MAX);
	report_set_fini(&s);
}

/* Going through by pages of any size, each site is there once, in order. */
static void
pages_lose_nothing(void **state)
{
	enum { SITES = 50 };

	(void)state;
	for (size_t most = 1; most <= SITES + 1; most++) {
		uint8_t memory[REPORT_NAME_MAX];
		struct span after = span_none();
		unsigned seen = 0;
		bool more = true;
		while (more) {
			struct report_set s;
			report_set_init(&s, after, span_none(), most);
			for (unsigned i = 0; i < 2 * SITES; i++) {
				char name[16];
				snprintf(name, sizeof name, "%02u", i * 37 % SITES);
				struct site_report r = part(name);
				r.waiting = 1;
				assert_true(report_set_add(&s, &r));
			}
			assert_true(s.count <= most);
			for (size_t i = 0; i < s.count; i++) {
				char name[16];
				snprintf(name, sizeof name, "%02u", seen++);
				must_have(&s, i, name);
				assert_int_equal(s.reports[i]->waiting, 2);
			}
			more = s.more;
			struct span last = report_name(s.reports[s.count - 1]);
			memcpy(memory, last.data, last.size);
			after = span_of(memory, last.size);
			report_set_fini(&s);
		}
		assert_int_equal(seen, SITES);
	}
}

static void
one_is_found_by_name(void **state)
{
	struct report_set s;
	struct site_report a = part("smtp://a:25");
	struct site_report b = part("smtp://b:25");

	(void)state;
	report_set_init(&s, span_none(), SPAN("smtp://b:25"), 1);
	assert_true(report_set_add(&s, &a));
	assert_true(report_set_add(&s, &b));
	assert_int_equal(s.count, 1);
	must_have(&s, 0, "smtp://b:25");
	assert_false(s.more);
	report_set_fini(&s);
}

static void
suspended_sites_end_by_time(void **state)
{
	static struct suspended s;

	(void)state;
	assert_int_equal(suspended_next_ms(&s), 0);
	assert_true(suspended_add(&s, SPAN("a"), 0));
	assert_true(suspended_add(&s, SPAN("b"), 500));
	assert_true(suspended_add(&s, SPAN("c"), 300));
	assert_true(suspended_add(&s, SPAN("c"), 400)); /* again: another time */
	assert_int_equal(s.count, 3);
	assert_int_equal(suspended_next_ms(&s), 400);
	assert_null(suspended_over(&s, 399));
	const struct suspended_site *over = suspended_over(&s, 400);
	assert_non_null(over);
	assert_true(span_eq(over->name, SPAN("c")));

	struct suspensions *list = suspended_list(&s);
	assert_true(suspensions_have(list, SPAN("a")));
	assert_false(suspensions_have(list, SPAN("A")));
	assert_false(suspensions_have(NULL, SPAN("a")));
	uint64_t version = s.version;
	assert_true(suspended_remove(&s, SPAN("a")));
	assert_false(suspended_remove(&s, SPAN("a")));
	assert_true(s.version > version);
	assert_true(suspensions_have(list, SPAN("a"))); /* what was given out stays as it was */
	suspensions_put(list);
	suspended_fini(&s);
	assert_int_equal(s.count, 0);
}

static void
suspended_sites_are_bounded(void **state)
{
	static struct suspended s;
	char name[16];

	(void)state;
	for (unsigned i = 0; i < SUSPENSIONS_MAX; i++) {
		snprintf(name, sizeof name, "%u", i);
		assert_true(suspended_add(&s, span_of_string(name), 0));
	}
	assert_false(suspended_add(&s, SPAN("more"), 0));
	assert_true(suspended_add(&s, SPAN("7"), 5)); /* known */
	struct suspensions *list = suspended_list(&s);
	assert_true(suspensions_have(list, SPAN("999")));
	suspensions_put(list);
	suspended_fini(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_become_wholes),
		cmocka_unit_test(hosts_are_added_up_by_address),
		cmocka_unit_test(pages_lose_nothing),
		cmocka_unit_test(one_is_found_by_name),
		cmocka_unit_test(suspended_sites_end_by_time),
		cmocka_unit_test(suspended_sites_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
