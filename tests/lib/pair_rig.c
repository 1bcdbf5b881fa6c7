/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/pair_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "queue/redis/servers.h"

struct redis_server rig_server;
static char path[] = "/var/tmp/ringpost-test-pair-XXXXXX";
const char *rig_spool_path = path;
unsigned rig_wait_ms;

static void
remove_all(const char *directory)
{
	DIR *d = opendir(directory);
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char name[1024];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof name, "%s/%s", directory, e->d_name);
		if (unlink(name) != 0)
			remove_all(name);
	}
	if (d != NULL)
		closedir(d);
	rmdir(directory);
}

static void
reset(void)
{
	remove_all(path);
	mkdir(path, 0700);
	if (rig_server.pid != 0)
		assert_string_equal(redis_server_ask(&rig_server, "FLUSHALL"), "OK\n");
}

static struct queue_store *
open_pair(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	  struct buf *why)
{
	static struct span address;
	static struct redis_options redis;

	address = span_of_string(rig_server.socket);
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
	const struct queue_options options = {
		.redis = &redis,
		.fallback = true,
		.fallback_after_ms = rig_wait_ms,
		.spool_path = rig_spool_path,
		.segment_size = 4 * 1024 * 1024,
		.body_memory = 128 * 1024 * 1024,
	};
	return queue_open(&options, workers, worker_count, hooks, why);
}

const struct queue_suite_store rig_with_redis = {
	.name = "pair, in Redis",
	.reset = reset,
	.open = open_pair,
	.file_threshold = 256 * 1024,
	.is_shared = true,
};

const struct queue_suite_store rig_without_redis = {
	.name = "pair, in the spool",
	.reset = reset,
	.open = open_pair,
	.file_threshold = 256 * 1024,
	.is_away = true,
};

/* ---- helpers ---- */

struct world rig_world;

void
rig_begin(void)
{
	reset();
	rig_open();
}

void
rig_open(void)
{
	rig_wait_ms = RIG_DEADLINE_MS;
	world_open(&rig_world, &rig_with_redis, 1);
}

struct queue *
rig_end(void)
{
	return queue_end(rig_world.store, 0);
}

struct queue_item *
rig_shift(struct list *items)
{
	struct list_node *n = list_shift(items);

	return n == NULL ? NULL : LIST_ITEM(n, struct queue_item, link);
}

struct queue_item *
rig_put(unsigned number, uint64_t size, uint32_t site, enum queue_place place)
{
	struct list items;

	assert_int_equal(world_put(&rig_world, 0, number, size, &site, 1, &items), ERR_OK);
	struct queue_item *i = rig_shift(&items);
	assert_int_equal(i->mail->place, place);
	return i;
}

void
rig_wait_for(enum queue_place wanted)
{
	static unsigned number = 10000; /* ids are never used again */
	uint64_t end_ms = clock_monotonic_ms() + RIG_DEADLINE_MS;
	const uint32_t site = 9;
	bool is_there = false;

	while (!is_there) {
		struct list items;
		world_turn(&rig_world);
		if (clock_monotonic_ms() > end_ms)
			fail_msg("Redis does not change its mind");
		if (world_put(&rig_world, 0, number++, 10, &site, 1, &items) != ERR_OK)
			continue; /* in doubt */
		struct queue_item *i = rig_shift(&items);
		is_there = i->mail->place == wanted;
		assert_int_equal(world_record(&rig_world, i, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
}

uint64_t
rig_mails_here(void)
{
	struct queue_numbers n;

	queue_count(rig_end(), &n);
	return n.mails_here;
}

void
rig_deliver(struct queue_item *i)
{
	assert_int_equal(world_record(&rig_world, i, RECIPIENT_DELIVERED, 0, "250"), ERR_OK);
}

void
rig_redis_is_killed(void)
{
	redis_server_end(&rig_server, SIGKILL);
	rig_wait_for(QUEUE_IN_SPOOL);
}

void
rig_redis_is_back(void)
{
	redis_server_restart(&rig_server);
	rig_wait_for(QUEUE_IN_REDIS);
}

void
rig_init(void)
{
	assert_non_null(mkdtemp(path));
	redis_server_start(&rig_server, "appendonly yes\nappendfsync always");
}

void
rig_fini(void)
{
	redis_server_free(&rig_server);
	remove_all(path);
}
