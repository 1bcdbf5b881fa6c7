/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses dns core machine */
/* The cache in front of the library, and the answers that it holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "dns/answer.h"
#include "dns/cache.h"

enum { NOW_MS = 1000000, OBJECTS = 5000 };

static unsigned dropped;
static int objects[OBJECTS];

static void
drop(void *object)
{
	(void)object;
	dropped++;
}

static struct cache *
make(size_t bytes)
{
	struct cache *c = cache_new(bytes, 42, drop);

	assert_non_null(c);
	dropped = 0;
	return c;
}

static void
what_was_put_is_found_by_name_and_tag(void **state)
{
	struct cache *c = make(1 << 20);

	(void)state;
	cache_put(c, SPAN("example.org"), 1, &objects[0], 100, NOW_MS + 10);
	cache_put(c, SPAN("example.org"), 2, &objects[1], 100, NOW_MS + 10);
	assert_ptr_equal(cache_find(c, SPAN("example.org"), 1, NOW_MS), &objects[0]);
	assert_ptr_equal(cache_find(c, SPAN("example.org"), 2, NOW_MS), &objects[1]);
	assert_null(cache_find(c, SPAN("example.org"), 3, NOW_MS));
	assert_null(cache_find(c, SPAN("example.or"), 1, NOW_MS));
	assert_int_equal(dropped, 0);
	cache_put(c, SPAN("example.org"), 1, &objects[2], 100, NOW_MS + 10);
	assert_int_equal(dropped, 1);
	assert_ptr_equal(cache_find(c, SPAN("example.org"), 1, NOW_MS), &objects[2]);
	assert_int_equal(cache_count(c), 2);
	cache_free(c);
	assert_int_equal(dropped, 3);
}

static void
what_has_expired_is_gone(void **state)
{
	struct cache *c = make(1 << 20);

	(void)state;
	cache_put(c, SPAN("a"), 1, &objects[0], 100, NOW_MS + 10);
	assert_non_null(cache_find(c, SPAN("a"), 1, NOW_MS + 9));
	assert_null(cache_find(c, SPAN("a"), 1, NOW_MS + 10));
	assert_int_equal(dropped, 1);
	assert_int_equal(cache_bytes(c), 0);
	cache_free(c);
}

/* Name i is put with 100 bytes; those that were not used for long make room. */
static void
what_was_used_longest_ago_makes_room(void **state)
{
	struct cache *c = make(100 * 1000);
	char name[32];

	(void)state;
	for (int i = 0; i < OBJECTS; i++) {
		snprintf(name, sizeof name, "n%d", i);
		cache_put(c, span_of_string(name), 1, &objects[i], 100, NOW_MS + 10);
		assert_true(cache_bytes(c) <= 100 * 1000);
		assert_ptr_equal(cache_find(c, SPAN("n0"), 1, NOW_MS), &objects[0]);
	}
	assert_int_equal(cache_count(c) + dropped, OBJECTS);
	assert_true(cache_count(c) > 300);
	assert_null(cache_find(c, SPAN("n1"), 1, NOW_MS));
	for (size_t i = OBJECTS - cache_count(c) + 1; i < OBJECTS; i++) {
		snprintf(name, sizeof name, "n%zu", i);
		assert_ptr_equal(cache_find(c, span_of_string(name), 1, NOW_MS), &objects[i]);
	}
	cache_free(c);
	assert_int_equal(dropped, OBJECTS);
}

static void
what_is_larger_than_all_is_not_kept(void **state)
{
	struct cache *c = make(1000);

	(void)state;
	cache_put(c, SPAN("a"), 1, &objects[0], 100, NOW_MS + 10);
	cache_put(c, SPAN("b"), 1, &objects[1], 1000, NOW_MS + 10);
	assert_int_equal(dropped, 1);
	assert_non_null(cache_find(c, SPAN("a"), 1, NOW_MS));
	assert_null(cache_find(c, SPAN("b"), 1, NOW_MS));
	cache_free(c);
}

static void
an_answer_owns_what_it_says(void **state)
{
	char name[] = "mx1.example.org", data[] = "v=spf1";
	struct dns_record records[2] = {
		{ .preference = 10, .name = { (uint8_t *)name, 15 } },
		{ .data = { (uint8_t *)data, 6 } },
	};
	struct dns_answer from = {
		.outcome = DNS_FOUND,
		.security = DNS_SECURE,
		.expires_at_ms = NOW_MS,
		.name = { (uint8_t *)name, 15 },
		.count = 2,
		.records = records,
	};
	struct dns_answer *a = answer_new(&from);

	(void)state;
	memset(name, 'x', 15);
	memset(data, 'x', 6);
	memset(records, 0, sizeof records);
	assert_true(span_eq(a->name, SPAN("mx1.example.org")));
	assert_true(span_eq(a->records[0].name, SPAN("mx1.example.org")));
	assert_int_equal(a->records[0].preference, 10);
	assert_true(span_eq(a->records[1].data, SPAN("v=spf1")));
	assert_int_equal(a->security, DNS_SECURE);
	assert_int_equal(answer_bytes(a), sizeof *a + 2 * sizeof records[0] + 36);
	assert_ptr_equal(dns_answer_get(a), a);
	dns_answer_put(a);
	dns_answer_put(a);
	a = answer_without(DNS_BOGUS, SPAN("a"), SPAN("because"), 7);
	assert_int_equal(a->outcome, DNS_BOGUS);
	assert_true(span_eq(a->why, SPAN("because")));
	assert_int_equal(a->expires_at_ms, 7);
	dns_answer_put(a);
}

static void
types_and_outcomes_have_texts(void **state)
{
	(void)state;
	assert_string_equal(dns_type_text(DNS_AAAA), "AAAA");
	assert_string_equal(dns_type_text(DNS_TLSA), "TLSA");
	assert_string_equal(dns_type_text(DNS_SOA), "SOA");
	assert_string_equal(dns_outcome_label(DNS_NO_DOMAIN), "no_domain");
	assert_string_equal(dns_outcome_label(DNS_BOGUS), "bogus");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_found_by_name_and_tag),
		cmocka_unit_test(what_has_expired_is_gone),
		cmocka_unit_test(what_was_used_longest_ago_makes_room),
		cmocka_unit_test(what_is_larger_than_all_is_not_kept),
		cmocka_unit_test(an_answer_owns_what_it_says),
		cmocka_unit_test(types_and_outcomes_have_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
