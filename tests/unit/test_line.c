/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow */
#include "relay/flow/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

enum { NODES = 4096 };

struct entry {
	struct line_node node;
	char name;
};

static struct entry entries[NODES];
static unsigned used;

static void
add(struct line *l, char name, uint32_t sender, uint64_t cost)
{
	assert_true(used < NODES);
	entries[used] = (struct entry){ .name = name };
	line_add(l, &entries[used++].node, sender, cost);
}

static char
take(struct line *l)
{
	struct line_node *n = line_first(l);

	assert_non_null(n);
	line_take(l, n);
	return LIST_ITEM(&n->link, struct entry, node.link)->name;
}

/* Each letter of `in` is an entry of the sender of that name. */
static void
expect_order(const char *in, const char *out)
{
	struct line l;

	used = 0;
	line_init(&l);
	for (const char *c = in; *c != '\0'; c++)
		add(&l, *c, (uint32_t)(unsigned char)*c, 1);
	assert_int_equal(l.count, strlen(in));
	for (const char *c = out; *c != '\0'; c++)
		assert_int_equal(take(&l), *c);
	assert_null(line_first(&l));
	line_fini(&l);
}

static void
test_order(void **state)
{
	(void)state;
	expect_order("a", "a");
	expect_order("abc", "abc");
	expect_order("aaab", "abaa");
	expect_order("aaaabbbb", "abababab");
	expect_order("aaaaaabbc", "abcabaaaa");
}

static void
test_one_is_not_held_up_by_thousands(void **state)
{
	struct line l;

	(void)state;
	used = 0;
	line_init(&l);
	for (unsigned i = 0; i < 3000; i++)
		add(&l, 'a', 1, 1);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(take(&l), 'a');
	add(&l, 'b', 2, 1);
	assert_true(take(&l) == 'b' || take(&l) == 'b');
	while (line_first(&l) != NULL)
		assert_int_equal(take(&l), 'a');
	line_fini(&l);
}

static void
test_large_mails_cost_more(void **state)
{
	struct line l;
	unsigned large = 0;

	(void)state;
	used = 0;
	line_init(&l);
	for (unsigned i = 0; i < 100; i++) {
		add(&l, 'a', 1, 10);
		add(&l, 'b', 2, 1);
	}
	for (unsigned i = 0; i < 55; i++)
		large += take(&l) == 'a';
	assert_in_range(large, 4, 6);
	while (line_first(&l) != NULL)
		take(&l);
	line_fini(&l);
}

static void
test_front(void **state)
{
	struct line l;
	struct entry again = { .name = 'x' };

	(void)state;
	used = 0;
	line_init(&l);
	add(&l, 'a', 1, 1);
	add(&l, 'b', 2, 1);
	line_add_first(&l, &again.node);
	assert_int_equal(take(&l), 'x');
	assert_int_equal(take(&l), 'a');
	assert_int_equal(take(&l), 'b');
	line_fini(&l);
}

static void
test_any_may_be_taken(void **state)
{
	struct line l;

	(void)state;
	used = 0;
	line_init(&l);
	add(&l, 'a', 1, 1);
	add(&l, 'b', 2, 1);
	add(&l, 'c', 3, 1);
	line_take(&l, &entries[1].node);
	assert_int_equal(l.count, 2);
	assert_int_equal(take(&l), 'a');
	assert_int_equal(take(&l), 'c');
	line_fini(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_one_is_not_held_up_by_thousands),
		cmocka_unit_test(test_large_mails_cost_more),
		cmocka_unit_test(test_front),
		cmocka_unit_test(test_any_may_be_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
