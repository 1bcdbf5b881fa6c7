/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue tls core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "queue/redis/cluster.h"

/* As CLUSTER KEYSLOT of Redis 7.0 says. */
static void
slots_are_those_of_redis(void **state)
{
	static const struct {
		const char *key;
		unsigned slot;
	} rows[] = {
		{ "123456789", 12739 },
		{ "", 0 },
		{ "foo", 12182 },
		{ "{foo}bar", 12182 },
		{ "a{foo}b}", 12182 },
		{ "{}foo", 9500 },
		{ "{ringpost:0}:m:1", 15056 },
		{ "{{foo}}", 13308 },
		{ "{foo", 13308 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (cluster_slot(span_of_string(rows[i].key)) != rows[i].slot)
			fail_msg("%s: %u", rows[i].key, cluster_slot(span_of_string(rows[i].key)));
	}
}

static struct redisReply *
read_reply(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

#define MASTER(host, port)      "*3\r\n" host ":" port "\r\n$2\r\nid\r\n"
#define RANGE(from, to, master) "*3\r\n:" from "\r\n:" to "\r\n" master

static void
the_master_of_a_slot_is_found(void **state)
{
	static const struct {
		unsigned slot;
		const char *master; /* NULL: nobody */
	} rows[] = {
		{ 0, "192.0.2.1:7001" },
		{ 5000, "192.0.2.1:7001" },
		{ 5001, NULL },
		{ 6000, "redis-2:7002" },
		{ 6001, "[::1]:7003" },
		{ 7000, "10.0.0.9:7004" },
		{ 8000, "10.0.0.9:7005" },
		{ 9000, NULL },
		{ 16383, NULL },
	};
	struct redisReply *map = read_reply(
		"*6\r\n" RANGE("0", "5000", MASTER("$9\r\n192.0.2.1\r\n", "7001"))
			RANGE("6000", "6000", MASTER("$7\r\nredis-2\r\n", "7002"))
				RANGE("6001", "6001", MASTER("$3\r\n::1\r\n", "7003"))
					RANGE("7000", "7000", MASTER("$0\r\n\r\n", "7004"))
						RANGE("8000", "8000", MASTER("$-1\r\n", "7005"))
							RANGE("9000", "9000",
							      MASTER("$1\r\n?\r\n", "7006")));

	(void)state;
	assert_true(cluster_is_map(map));
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char memory[64];
		struct buf name = buf_of(memory, sizeof memory - 1);
		bool found = cluster_master(map, rows[i].slot, SPAN("10.0.0.9:7000"), &name);
		memory[name.size] = 0;
		assert_int_equal(found, rows[i].master != NULL);
		if (found)
			assert_string_equal(memory, rows[i].master);
	}
	freeReplyObject(map);
}

static void
what_is_no_map_is_refused(void **state)
{
	static const char *const texts[] = {
		"+OK\r\n",
		"$-1\r\n",
		"*1\r\n:1\r\n",
		"*1\r\n*2\r\n:0\r\n:1\r\n",
		"*1\r\n" RANGE("0", "16384", MASTER("$1\r\na\r\n", "1")),
		"*1\r\n" RANGE("-1", "1", MASTER("$1\r\na\r\n", "1")),
		"*1\r\n" RANGE("0", "1", MASTER("$1\r\na\r\n", "65536")),
		"*1\r\n" RANGE("0", "1", "*1\r\n$1\r\na\r\n"),
		"*1\r\n" RANGE("0", "1", MASTER(":1\r\n", "1")),
	};

	(void)state;
	for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct redisReply *map = read_reply(texts[i]);
		if (cluster_is_map(map))
			fail_msg("%s", texts[i]);
		freeReplyObject(map);
	}
}

static void
moved_says_where_to(void **state)
{
	static const struct {
		const char *error;
		unsigned slot;
		const char *to; /* NULL: it does not */
	} rows[] = {
		{ "MOVED 3999 192.0.2.1:6381", 3999, "192.0.2.1:6381" },
		{ "MOVED 0 ::1:6381", 0, "[::1]:6381" },
		{ "MOVED 16383 redis-3.example.org:6381", 16383, "redis-3.example.org:6381" },
		{ "MOVED 16384 192.0.2.1:6381", 0, NULL },
		{ "MOVED 3999 :6381", 0, NULL },
		{ "MOVED 3999 ", 0, NULL },
		{ "MOVED 3999", 0, NULL },
		{ "MOVED x 192.0.2.1:6381", 0, NULL },
		{ "MOVED 3999 unix:/tmp/x", 0, NULL },
		{ "ASK 3999 192.0.2.1:6381", 0, NULL },
		{ "", 0, NULL },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char memory[64];
		struct buf to = buf_of(memory, sizeof memory - 1);
		unsigned slot = 0;
		bool read = cluster_read_moved(span_of_string(rows[i].error), &slot, &to);
		memory[to.size] = 0;
		assert_int_equal(read, rows[i].to != NULL);
		if (!read)
			continue;
		assert_string_equal(memory, rows[i].to);
		assert_int_equal(slot, rows[i].slot);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots_are_those_of_redis),
		cmocka_unit_test(the_master_of_a_slot_is_found),
		cmocka_unit_test(what_is_no_map_is_refused),
		cmocka_unit_test(moved_says_where_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
