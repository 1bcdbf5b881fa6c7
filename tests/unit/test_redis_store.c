/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue_suite redis_server queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "queue/redis/store.h"
#include "tests/lib/queue_suite.h"
#include "tests/lib/queue_suite_lives.h"
#include "tests/lib/queue_suite_seeing.h"
#include "tests/lib/queue_suite_turns.h"
#include "tests/lib/redis_server.h"

/* The suite of all stores, over a server of the test's own that keeps what it promises: what was
 * acknowledged is on disk. */

static struct redis_server server;

static void
reset(void)
{
	assert_string_equal(redis_server_ask(&server, "FLUSHALL"), "OK\n");
}

static struct queue_store *
open_redis(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	   struct buf *why)
{
	static struct span address;
	static struct redis_options redis;

	address = span_of_string(server.socket);
	redis = (struct redis_options){
		.kind = REDIS_SINGLE,
		.addresses = &address,
		.address_count = 1,
		.prefix = SPAN("ringpost"),
		.shards = 16,
		.durability = REDIS_DISK,
		.deadline_ms = 5000,
		.lease_ms = 3000,
		.compress = true,
	};
	const struct queue_options options = { .redis = &redis };
	return queue_open(&options, workers, worker_count, hooks, why);
}

static const struct queue_suite_store kind = {
	.name = "redis",
	.reset = reset,
	.open = open_redis,
	.file_threshold = 256 * 1024, /* a piece */
	.is_shared = true,
};

/* With an argument: the tests whose names fit it. */
int
main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	redis_server_start(&server, "appendonly yes\nappendfsync always");
	int failed = queue_suite_run(&kind);
	failed += queue_suite_turns_run(&kind);
	failed += queue_suite_seeing_run(&kind);
	failed += queue_suite_lives_run(&kind);
	redis_server_free(&server);
	return failed;
}
