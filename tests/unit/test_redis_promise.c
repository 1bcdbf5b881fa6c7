/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue tls core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "queue/redis/promise.h"

#define VERSION "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"
#define GOOD                                                                                  \
	VERSION "# Persistence\r\nloading:0\r\naof_enabled:1\r\naof_last_write_status:ok\r\n" \
		"# Replication\r\nrole:master\r\n"

struct row {
	const char *info;
	const char *settings; /* name=value, blanks between; NULL: not answered */
	enum redis_durability durability;
	unsigned replicas;
	bool declared;
	const char *why; /* NULL: it holds */
};

#define ALWAYS "appendonly=yes appendfsync=always no-appendfsync-on-rewrite=no "
#define STAYS  "maxmemory-policy=noeviction "

static const struct row rows[] = {
	{ GOOD, ALWAYS STAYS, REDIS_DISK, 0, false, NULL },
	{ GOOD, ALWAYS STAYS, REDIS_DISK_NO_FAILOVER, 0, false, NULL },
	{ GOOD, ALWAYS STAYS "min-replicas-to-write=1", REDIS_REPLICA, 1, false, NULL },
	{ GOOD, ALWAYS STAYS "min-replicas-to-write=2", REDIS_REPLICA, 1, false, NULL },
	{ GOOD, NULL, REDIS_DISK, 0, true, NULL },
	{ GOOD, NULL, REDIS_MEMORY, 0, false, NULL },
	{ VERSION "role:master\n", NULL, REDIS_MEMORY, 0, false, NULL },
	{ GOOD, "appendonly=yes appendfsync=everysec no-appendfsync-on-rewrite=no " STAYS,
	  REDIS_DISK, 0, false,
	  "redis 127.0.0.1:6379 may lose mail: appendfsync is everysec; set `appendfsync always`, "
	  "or "
	  "ask for less with queue.redis.durability" },
	{ GOOD, "appendonly=no appendfsync=always no-appendfsync-on-rewrite=no " STAYS, REDIS_DISK,
	  0, false,
	  "redis 127.0.0.1:6379 may lose mail: appendonly is no; set `appendonly yes`, or ask for "
	  "less with queue.redis.durability" },
	/* It was turned on and has not begun yet. */
	{ VERSION "role:master\r\naof_enabled:0\r\n", ALWAYS STAYS, REDIS_DISK, 0, false,
	  "redis 127.0.0.1:6379 may lose mail: appendonly is no; set `appendonly yes`, or ask for "
	  "less with queue.redis.durability" },
	{ GOOD, "appendonly=yes appendfsync=always no-appendfsync-on-rewrite=yes " STAYS,
	  REDIS_DISK, 0, false,
	  "redis 127.0.0.1:6379 may lose mail: no-appendfsync-on-rewrite is yes; set "
	  "`no-appendfsync-on-rewrite no`, or ask for less with queue.redis.durability" },
	{ GOOD, ALWAYS "maxmemory-policy=allkeys-lru", REDIS_DISK, 0, false,
	  "redis 127.0.0.1:6379 may lose mail: maxmemory-policy is allkeys-lru; set "
	  "`maxmemory-policy noeviction`, or ask for less with queue.redis.durability" },
	{ GOOD, ALWAYS STAYS "min-replicas-to-write=0", REDIS_REPLICA, 2, false,
	  "redis 127.0.0.1:6379 may lose mail: min-replicas-to-write is 0; set "
	  "`min-replicas-to-write 2`, or ask for less with queue.redis.durability" },
	{ VERSION "role:master\r\naof_enabled:1\r\naof_last_write_status:err\r\n", ALWAYS STAYS,
	  REDIS_DISK, 0, false,
	  "redis 127.0.0.1:6379 cannot write its append-only file (aof_last_write_status): make "
	  "room "
	  "on its disk" },
	{ GOOD, NULL, REDIS_DISK, 0, false,
	  "redis 127.0.0.1:6379 does not show its settings: let the user call CONFIG GET, or vouch "
	  "for them with `promises: declared` in queue.redis" },
	{ GOOD, STAYS "appendonly=yes", REDIS_DISK, 0, false,
	  "redis 127.0.0.1:6379 may lose mail: appendfsync is unknown; set `appendfsync always`, "
	  "or "
	  "ask for less with queue.redis.durability" },
	{ "redis_version:6.2.7\r\nrole:master\r\n", NULL, REDIS_MEMORY, 0, true,
	  "redis 127.0.0.1:6379 is version 6.2.7: install 7.0 or newer, which has functions" },
	{ "", ALWAYS STAYS, REDIS_MEMORY, 0, true,
	  "redis 127.0.0.1:6379 does not say its version: let the user call INFO" },
	{ VERSION "role:slave\r\n", NULL, REDIS_MEMORY, 0, true,
	  "redis 127.0.0.1:6379 is a replica: name its master, or the Sentinels that know it" },
	{ VERSION "role:master\r\nloading:1\r\n", NULL, REDIS_MEMORY, 0, true,
	  "redis 127.0.0.1:6379 still loads its data: wait until it has" },
};

static void
read_settings(const char *text, struct promise_facts *facts)
{
	while (*text != 0) {
		size_t n = strcspn(text, " ");
		struct span pair = span_of(text, n);
		size_t middle = span_find(pair, '=', 0);
		promise_read_setting(span_first(pair, middle), span_after(pair, middle + 1), facts);
		text += n + (text[n] == ' ');
	}
}

static void
less_than_promised_is_said_with_the_remedy(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct redis_options wish = { .durability = rows[i].durability,
					      .replicas = rows[i].replicas,
					      .promises_declared = rows[i].declared };
		struct promise_facts facts = { .version_major = 0 };
		char memory[300];
		struct buf why = buf_of(memory, sizeof memory - 1);

		promise_read_info(span_of_string(rows[i].info), &facts);
		if (rows[i].settings != NULL)
			read_settings(rows[i].settings, &facts);
		bool holds = promise_holds(&facts, &wish, SPAN("127.0.0.1:6379"), &why);
		memory[why.size] = 0;
		assert_string_equal(memory, rows[i].why == NULL ? "" : rows[i].why);
		assert_int_equal(holds, rows[i].why == NULL);
		assert_false(why.overflow);
	}
}

/* No text makes it read past its end. */
static void
odd_texts_are_passed_over(void **state)
{
	static const char *const texts[] = { "\r\n\r\n",
					     "\n",
					     ":",
					     ":\r",
					     "redis_version",
					     "redis_version:",
					     "redis_version:x.y",
					     "redis_version:99999999999999999999999",
					     "role:",
					     "\xff\xfe:\x80" };

	(void)state;
	for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct promise_facts facts = { .version_major = 0 };
		promise_read_info(span_of_string(texts[i]), &facts);
		assert_int_equal(facts.version_major, 0);
		assert_false(facts.is_master);
	}
}

static void
only_where_something_is_promised_are_settings_asked_for(void **state)
{
	struct redis_options wish = { .durability = REDIS_DISK };
	unsigned count;

	(void)state;
	assert_true(promise_asks_settings(&wish));
	wish.promises_declared = true;
	assert_false(promise_asks_settings(&wish));
	wish = (struct redis_options){ .durability = REDIS_MEMORY };
	assert_false(promise_asks_settings(&wish));
	promise_sections(&count);
	assert_int_equal(count, 4);
	promise_settings(&count);
	assert_int_equal(count, 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(less_than_promised_is_said_with_the_remedy),
		cmocka_unit_test(odd_texts_are_passed_over),
		cmocka_unit_test(only_where_something_is_promised_are_settings_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
