/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue tls core machine redis_server */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/log.h"
#include "queue/redis/functions.h"
#include "queue/redis/servers.h"
#include "tests/lib/redis_server.h"

enum { SHARDS = 8 };

#define DURABLE "appendonly yes\nappendfsync always\nmaxmemory-policy noeviction\n"

static const struct worker_options worker_options = {
	.ring = { .entries = 64, .buffers = { 2, 8 }, .buffer_size = { 4096, 4096 } },
	.mailbox_places = 8,
	.buffers_max = 64,
};

static struct worker w;
static struct worker *peers[] = { &w };
static struct redis_server server, more[3];
static struct redis_servers *servers;
static struct redis_options options;
static struct span addresses[3];
static unsigned ups, downs, closed, wakes[SHARDS], words, gaps;

#define UNTIL(condition)                                              \
	do {                                                          \
		uint64_t until_ms_ = clock_monotonic_ms() + 30000;    \
		while (!(condition)) {                                \
			worker_turn(&w, 50 * 1000);                   \
			if (clock_monotonic_ms() > until_ms_)         \
				fail_msg("still not %s", #condition); \
		}                                                     \
	} while (0)

static void
on_up(struct redis_servers *s, void *context)
{
	(void)s, (void)context;
	ups++;
}

static void
on_down(struct redis_servers *s, void *context)
{
	(void)s, (void)context;
	downs++;
}

static void
on_wake(struct redis_servers *s, void *context, unsigned shard)
{
	(void)s, (void)context;
	wakes[shard]++;
}

static void
on_word(struct redis_servers *s, void *context, struct span word)
{
	(void)s, (void)context;
	gaps += word.size == 0;
	words += span_eq(word, SPAN("limit free x"));
}

static void
on_closed(void *context)
{
	(void)context;
	closed++;
}

static const struct redis_servers_events events = { on_up, on_down, on_wake, on_word };

static int
setup(void **state)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	(void)state;
	worker_init(&w, 0, 1, peers, &worker_options);
	if (!worker_open(&w, &worker_options, &why))
		fail_msg("%.*s", (int)why.size, text);
	ups = downs = closed = words = gaps = 0;
	memset(wakes, 0, sizeof wakes);
	options = (struct redis_options){
		.kind = REDIS_SINGLE,
		.addresses = addresses,
		.address_count = 1,
		.prefix = SPAN("post"),
		.shards = SHARDS,
		.durability = REDIS_DISK,
		.replicas = 1,
		.deadline_ms = 2000,
		.lease_ms = 30000,
	};
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	redis_server_free(&server);
	for (unsigned i = 0; i < 3; i++)
		redis_server_free(&more[i]);
	assert_null(servers);
	assert_int_equal(w.conn_count, 0);
	assert_int_equal(w.buffers.used, 0);
	assert_int_equal(w.timers.count, 0);
	assert_int_equal(ring_ops(w.ring), 0);
	worker_close(&w);
	return 0;
}

static void
open_servers(void)
{
	servers = redis_servers_new(&w, &options, true, &events, NULL);
	assert_non_null(servers);
}

static void
close_servers(void)
{
	redis_servers_close(servers, on_closed, NULL);
	assert_int_equal(closed, 0);
	UNTIL(closed == 1);
	servers = NULL;
	closed = 0;
}

static bool
problem_has(const char *part)
{
	struct span p = redis_servers_problem(servers);
	char text[1024];

	snprintf(text, sizeof text, "%.*s", SPAN_ARG(p));
	return strstr(text, part) != NULL;
}

struct question {
	struct redis_call call;
	bool answered;
	enum err error;
	long long number;
	char text[256];
};

static void
on_reply(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct question *q = CONTAINER_OF(c, struct question, call);

	q->answered = true;
	q->error = e;
	q->number = reply == NULL ? 0 : reply->integer;
	q->text[0] = 0;
	if (reply != NULL && reply->str != NULL)
		snprintf(q->text, sizeof q->text, "%s", reply->str);
}

/* rp_look of a shard, with the link that there is. */
static enum err
look(unsigned shard)
{
	struct question q = { .call.on_reply = on_reply };
	struct redis_link *l = redis_servers_link(servers, shard);
	char tag[32];

	if (l == NULL)
		return ERR_AGAIN;
	snprintf(tag, sizeof tag, "{post:%u}", shard);
	redis_send(
		l, &q.call,
		(struct span[]){ SPAN("FCALL"), SPAN("rp_look"), SPAN("1"), span_of_string(tag) },
		4);
	UNTIL(q.answered);
	return q.error;
}

/* Is the first shard there? */
static bool
is_at(const struct redis_server *where)
{
	struct redis_link *l = redis_servers_link(servers, 0);

	return l != NULL && span_eq(redis_link_server(l), span_of_string(where->address));
}

static void
begin(const char *extra)
{
	redis_server_start(&server, extra);
	addresses[0] = span_of_string(server.address);
	open_servers();
}

/* ---- one server ---- */

static void
a_fresh_server_is_made_ready(void **state)
{
	(void)state;
	begin(DURABLE);
	assert_null(redis_servers_link(servers, 0));
	assert_true(problem_has("not connected yet"));
	UNTIL(ups == 1);
	for (unsigned i = 0; i < SHARDS; i++)
		assert_int_equal(look(i), ERR_OK);
	assert_int_equal(redis_servers_problem(servers).size, 0);
	assert_non_null(strstr(redis_server_ask(&server, "FUNCTION LIST"), "ringpost_1"));
	assert_string_equal(redis_server_ask(&server, "HGET {post}:format shards"), "8\n");
	close_servers();
	assert_int_equal(downs, 0);
}

static void
what_promises_less_is_not_used_until_it_does(void **state)
{
	(void)state;
	begin("appendonly yes\nappendfsync everysec\n");
	UNTIL(problem_has("may lose mail: appendfsync is everysec"));
	assert_null(redis_servers_link(servers, 0));
	assert_int_equal(ups, 0);
	redis_server_ask(&server, "CONFIG SET appendfsync always");
	UNTIL(ups == 1);
	close_servers();
}

/* An operator weakens it while it is in use: seen without a reconnect, and used again when it keeps
 * what is asked for. */
static void
what_promises_less_later_is_left(void **state)
{
	(void)state;
	options.ask_again_ms = 100;
	begin(DURABLE);
	UNTIL(ups == 1);
	redis_server_ask(&server, "CONFIG SET appendfsync no");
	UNTIL(downs == 1);
	assert_null(redis_servers_link(servers, 0));
	UNTIL(problem_has("may lose mail: appendfsync is no; set `appendfsync always`"));
	redis_server_ask(&server, "CONFIG SET appendfsync always");
	UNTIL(ups == 2);
	redis_server_ask(&server, "CONFIG SET maxmemory-policy allkeys-lru");
	UNTIL(downs == 2);
	UNTIL(problem_has("maxmemory-policy is allkeys-lru"));
	close_servers();
}

/* Asked again and again, with the same answer: nothing happens, and it is the same server. */
static void
who_keeps_its_promises_stays(void **state)
{
	(void)state;
	options.ask_again_ms = 10;
	begin(DURABLE);
	UNTIL(ups == 1);
	uint64_t run = redis_servers_run(servers, 0);
	assert_true(run != 0);
	redis_server_ask(&server, "CONFIG RESETSTAT");
	for (unsigned long calls = 0; calls < 20;) {
		const char *text = redis_server_ask(&server, "INFO commandstats");
		const char *at = strstr(text, "cmdstat_config|get:calls=");
		calls = at == NULL ? 0 : strtoul(strchr(at, '=') + 1, NULL, 10);
		worker_turn(&w, 10 * 1000);
		assert_true(redis_servers_run(servers, 0) == run); /* also while it is asked */
	}
	assert_int_equal(downs, 0);
	assert_int_equal(ups, 1);
	close_servers();
}

/* What the log says of this server, in the order of the lines: "redis_up redis_down". */
static void
expect_log(const char *path, const char *events_in_order)
{
	char line[4096], seen[512] = "";
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL) {
		char *at = strstr(line, "\"event\":\"");
		assert_non_null(at);
		assert_non_null(strstr(line, server.address));
		at += strlen("\"event\":\"");
		snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s%.*s",
			 seen[0] == 0 ? "" : " ", (int)strcspn(at, "\""), at);
	}
	fclose(f);
	assert_string_equal(seen, events_in_order);
}

/* Once a reason, however often it is tried. */
static void
the_log_tells_what_changes(void **state)
{
	char path[128];
	int error = 0;

	(void)state;
	redis_server_start(&server, "appendonly yes\nappendfsync everysec\n");
	addresses[0] = span_of_string(server.address);
	snprintf(path, sizeof path, "%s/events", server.folder);
	struct log *log = log_new(1, 1 << 16, path, &error);
	assert_non_null(log);
	w.log = log_ring(log, 0, NULL);
	open_servers();
	UNTIL(problem_has("may lose mail"));
	for (uint64_t until_ms = clock_monotonic_ms() + 1000; clock_monotonic_ms() < until_ms;)
		worker_turn(&w, 50 * 1000);
	redis_server_ask(&server, "CONFIG SET appendfsync always");
	UNTIL(ups == 1);
	redis_server_end(&server, SIGKILL);
	UNTIL(problem_has("refused"));
	for (uint64_t until_ms = clock_monotonic_ms() + 1000; clock_monotonic_ms() < until_ms;)
		worker_turn(&w, 50 * 1000);
	redis_server_restart(&server);
	/* Its files say everysec again. */
	UNTIL(problem_has("may lose mail"));
	close_servers();
	log_drain(log);
	w.log = NULL;
	log_free(log);
	expect_log(path, "redis_rejected redis_up redis_down redis_down redis_rejected");
}

static void
a_hidden_server_can_be_declared(void **state)
{
	(void)state;
	begin("rename-command CONFIG \"\"\n");
	UNTIL(problem_has("does not show its settings"));
	close_servers();
	options.promises_declared = true;
	open_servers();
	UNTIL(ups == 1);
	close_servers();
}

static void
a_queue_keeps_its_shards(void **state)
{
	(void)state;
	begin(DURABLE);
	UNTIL(ups == 1);
	close_servers();
	options.shards = 7;
	open_servers();
	UNTIL(problem_has("holds a queue of 8 shards, not of 7: set queue.redis.shards to 8"));
	close_servers();
	options.shards = 8;
	redis_server_ask(&server, "HSET {post}:format version 2");
	open_servers();
	UNTIL(problem_has("a newer Ringpost (format 2)"));
	close_servers();
	redis_server_ask(&server, "DEL {post}:format");
	redis_server_ask(&server, "SET {post}:format other");
	open_servers();
	UNTIL(problem_has("WRONGTYPE"));
	close_servers();
	assert_int_equal(ups, 1);
}

/* Older functions are replaced, newer ones are not. */
static void
functions_go_forward_only(void **state)
{
	char command[512];

	(void)state;
	begin(DURABLE);
	UNTIL(ups == 1);
	close_servers();
	for (int by = -1; by <= 1; by += 2) {
		snprintf(command, sizeof command,
			 "FUNCTION LOAD REPLACE \"$(printf '#!lua name=ringpost_1\\n"
			 "redis.register_function{function_name=\"rp_version\","
			 "callback=function() return %d end,flags={\"no-writes\"}}')\"",
			 REDIS_FUNCTIONS_VERSION + by);
		assert_string_equal(redis_server_ask(&server, command), "ringpost_1\n");
		open_servers();
		if (by < 0)
			UNTIL(ups == 2);
		else
			UNTIL(problem_has("has functions of a newer Ringpost"));
		close_servers();
	}
	assert_int_equal(ups, 2);
}

static void
wakes_are_heard(void **state)
{
	(void)state;
	begin(DURABLE);
	UNTIL(ups == 1);
	while (strcmp(redis_server_ask(&server, "PUBLISH {post}:wake 5"), "1\n") != 0)
		worker_turn(&w, 1000);
	UNTIL(wakes[5] == 1);
	redis_server_ask(&server, "PUBLISH {post}:wake 8");
	redis_server_ask(&server, "PUBLISH {post}:wake 'limit free x'");
	redis_server_ask(&server, "PUBLISH {post}:wake 2");
	UNTIL(wakes[2] == 1);
	for (unsigned i = 0; i < SHARDS; i++)
		assert_int_equal(wakes[i], i == 5 || i == 2);
	assert_int_equal(words, 1);
	close_servers();
}

/* After a gap in the hearing all shards are looked at. */
static void
a_server_that_comes_back_is_used_again(void **state)
{
	(void)state;
	begin(DURABLE);
	UNTIL(ups == 1);
	while (strcmp(redis_server_ask(&server, "PUBLISH {post}:wake 0"), "1\n") != 0)
		worker_turn(&w, 1000);
	redis_server_end(&server, SIGKILL);
	UNTIL(downs == 1);
	assert_null(redis_servers_link(servers, 0));
	UNTIL(problem_has("refused"));
	redis_server_restart(&server);
	UNTIL(ups == 2 && wakes[7] == 1);
	assert_int_equal(gaps, 2);
	assert_int_equal(look(3), ERR_OK);
	assert_int_equal(redis_servers_problem(servers).size, 0);
	close_servers();
}

static void
a_replica_is_not_used(void **state)
{
	char text[128];

	(void)state;
	snprintf(text, sizeof text, DURABLE "replicaof 127.0.0.1 %u\n", redis_server_free_port());
	begin(text);
	UNTIL(problem_has("is a replica: name its master"));
	redis_server_ask(&server, "REPLICAOF NO ONE");
	UNTIL(ups == 1);
	close_servers();
}

/* ---- Sentinel ---- */

/* server: the master; more[0]: its replica; more[1]: a Sentinel of theirs. */
static void
begin_sentinel(void)
{
	char text[512];

	redis_server_start(&server, DURABLE "repl-diskless-sync-delay 0\n");
	snprintf(text, sizeof text, DURABLE "replicaof 127.0.0.1 %u\n", server.port);
	redis_server_start(&more[0], text);
	UNTIL(strstr(redis_server_ask(&server, "INFO replication"), "state=online") != NULL);
	snprintf(text, sizeof text,
		 "sentinel monitor post 127.0.0.1 %u 1\n"
		 "sentinel down-after-milliseconds post 1000\n"
		 "sentinel failover-timeout post 3000\n",
		 server.port);
	redis_server_start_sentinel(&more[1], text);
	/* Until it has asked the replica, there is none that it would promote. */
	UNTIL(strstr(redis_server_ask(&more[1], "SENTINEL replicas post"),
		     "master-link-status\nok\n") != NULL);
	options.kind = REDIS_SENTINEL;
	options.durability = REDIS_DISK_NO_FAILOVER;
	options.master_name = SPAN("post");
	addresses[0] = SPAN("127.0.0.1:1"); /* one that is away */
	addresses[1] = span_of_string(more[1].address);
	options.address_count = 2;
}

static void
the_master_is_followed(void **state)
{
	char command[64];

	(void)state;
	begin_sentinel();
	open_servers();
	UNTIL(ups == 1);
	assert_int_equal(look(5), ERR_OK);
	UNTIL(strcmp(redis_server_ask(&server, "PUBLISH {post}:wake 1"), "1\n") == 0);
	UNTIL(wakes[1] > 0);
	redis_server_end(&server, SIGKILL);
	UNTIL(downs == 1);
	UNTIL(is_at(&more[0]));
	assert_int_equal(look(5), ERR_OK);
	/* The old one comes back as what it is not any more, until somebody tells it. */
	redis_server_restart(&server);
	snprintf(command, sizeof command, "REPLICAOF 127.0.0.1 %u", more[0].port);
	redis_server_ask(&server, command);
	UNTIL(strstr(redis_server_ask(&server, "INFO replication"), "role:slave") != NULL);
	UNTIL(is_at(&more[0]) && look(5) == ERR_OK);
	wakes[2] = 0;
	UNTIL(strtol(redis_server_ask(&more[0], "PUBLISH {post}:wake 2"), NULL, 10) >= 1 &&
	      wakes[2] > 0);
	close_servers();
}

/* A planned one, in which the old master stays there as a replica. */
static void
a_planned_change_of_master_is_followed(void **state)
{
	(void)state;
	begin_sentinel();
	open_servers();
	UNTIL(ups == 1);
	assert_true(is_at(&server));
	assert_string_equal(redis_server_ask(&more[1], "SENTINEL FAILOVER post"), "OK\n");
	UNTIL(is_at(&more[0]) && look(0) == ERR_OK);
	close_servers();
}

static void
a_master_that_nobody_knows_is_said(void **state)
{
	(void)state;
	begin_sentinel();
	options.master_name = SPAN("other");
	open_servers();
	UNTIL(problem_has("knows no master of this name (queue.redis.master): other"));
	close_servers();
	assert_int_equal(ups, 0);
}

/* ---- Cluster ---- */

/* server, more[0], more[1]: masters; more[2]: a replica of `server`. */
static void
begin_cluster(void)
{
	static const char extra[] = DURABLE "cluster-enabled yes\ncluster-node-timeout 1000\n"
					    "cluster-replica-validity-factor 0\n"
					    "repl-diskless-sync-delay 0\n";
	struct redis_server *all[] = { &server, &more[0], &more[1], &more[2] };
	static const char *const ranges[] = { "0 5461", "5462 10922", "10923 16383" };
	char command[256], id[64];

	for (unsigned i = 0; i < 4; i++)
		redis_server_start(all[i], extra);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(command, sizeof command, "CLUSTER ADDSLOTSRANGE %s", ranges[i]);
		assert_string_equal(redis_server_ask(all[i], command), "OK\n");
		snprintf(command, sizeof command, "CLUSTER SET-CONFIG-EPOCH %u", i + 1);
		assert_string_equal(redis_server_ask(all[i], command), "OK\n");
	}
	for (unsigned i = 1; i < 4; i++) {
		snprintf(command, sizeof command, "CLUSTER MEET 127.0.0.1 %u", all[i]->port);
		assert_string_equal(redis_server_ask(&server, command), "OK\n");
	}
	snprintf(id, sizeof id, "%.40s", redis_server_ask(&server, "CLUSTER MYID"));
	snprintf(command, sizeof command, "CLUSTER REPLICATE %s", id);
	while (strcmp(redis_server_ask(&more[2], command), "OK\n") != 0)
		;
	for (unsigned i = 0; i < 4; i++) {
		while (strstr(redis_server_ask(all[i], "CLUSTER INFO"), "cluster_state:ok") == NULL)
			;
	}
	while (strstr(redis_server_ask(&server, "INFO replication"), "state=online") == NULL)
		;
	options.kind = REDIS_CLUSTER;
	options.durability = REDIS_DISK_NO_FAILOVER;
	addresses[0] = SPAN("127.0.0.1:1"); /* one that is away */
	addresses[1] = span_of_string(more[0].address);
	options.address_count = 2;
	open_servers();
}

static bool
all_shards_work(void)
{
	for (unsigned i = 0; i < SHARDS; i++) {
		if (look(i) != ERR_OK)
			return false;
	}
	return true;
}

static void
the_masters_of_a_cluster_are_found_and_followed(void **state)
{
	(void)state;
	begin_cluster();
	UNTIL(all_shards_work());
	assert_int_equal(redis_servers_problem(servers).size, 0);
	/* From any node to any. */
	UNTIL(redis_server_ask(&more[1], "PUBLISH {post}:wake 4") != NULL && wakes[4] > 0);
	redis_server_end(&server, SIGKILL);
	UNTIL(downs > 0);
	UNTIL(all_shards_work());
	assert_non_null(strstr(redis_server_ask(&more[2], "INFO replication"), "role:master"));
	close_servers();
}

/* A shard whose slot is under way is away; then it is found at its new place. */
static void
a_shard_may_move_meanwhile(void **state)
{
	struct redis_server *all[] = { &server, &more[0], &more[1] };
	char command[512], ids[3][64];
	unsigned from = 0, slot;

	(void)state;
	begin_cluster();
	UNTIL(all_shards_work());
	slot = (unsigned)strtoul(redis_server_ask(&server, "CLUSTER KEYSLOT {post:3}"), NULL, 10);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(ids[i], sizeof ids[i], "%.40s", redis_server_ask(all[i], "CLUSTER MYID"));
		if (slot > 5461 * i + i && slot <= 5461 * (i + 1) + i)
			from = i;
	}
	unsigned to = (from + 1) % 3;
	snprintf(command, sizeof command, "SET {post:3}:here 1");
	assert_string_equal(redis_server_ask(all[from], command), "OK\n");
	snprintf(command, sizeof command, "CLUSTER SETSLOT %u IMPORTING %s", slot, ids[from]);
	assert_string_equal(redis_server_ask(all[to], command), "OK\n");
	snprintf(command, sizeof command, "CLUSTER SETSLOT %u MIGRATING %s", slot, ids[to]);
	assert_string_equal(redis_server_ask(all[from], command), "OK\n");
	for (unsigned i = 0; i < SHARDS; i++)
		assert_int_equal(look(i), i == 3 ? ERR_AGAIN : ERR_OK);
	snprintf(command, sizeof command, "MIGRATE 127.0.0.1 %u {post:3}:here 0 1000",
		 all[to]->port);
	assert_string_equal(redis_server_ask(all[from], command), "OK\n");
	assert_int_equal(look(3), ERR_AGAIN);
	unsigned before = ups;
	snprintf(command, sizeof command, "CLUSTER SETSLOT %u NODE %s", slot, ids[to]);
	assert_string_equal(redis_server_ask(all[to], command), "OK\n");
	assert_string_equal(redis_server_ask(all[from], command), "OK\n");
	/* The first question finds it out, and the next is asked there. */
	assert_int_equal(look(3), ERR_AGAIN);
	assert_int_equal(look(3), ERR_OK);
	assert_int_equal(ups, before + 1);
	assert_true(all_shards_work());
	close_servers();
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_fresh_server_is_made_ready),
		TEST(what_promises_less_is_not_used_until_it_does),
		TEST(what_promises_less_later_is_left),
		TEST(who_keeps_its_promises_stays),
		TEST(the_log_tells_what_changes),
		TEST(a_hidden_server_can_be_declared),
		TEST(a_queue_keeps_its_shards),
		TEST(functions_go_forward_only),
		TEST(wakes_are_heard),
		TEST(a_server_that_comes_back_is_used_again),
		TEST(a_replica_is_not_used),
		TEST(the_master_is_followed),
		TEST(a_planned_change_of_master_is_followed),
		TEST(a_master_that_nobody_knows_is_said),
		TEST(the_masters_of_a_cluster_are_found_and_followed),
		TEST(a_shard_may_move_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
