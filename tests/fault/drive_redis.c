/* SPDX-License-Identifier: Apache-2.0
 *
 * The layer `redis`: the driver of the store, over the store whose mails are in a modelled Redis.
 * The server outlives the relay; a crash takes all memory of the relay and breaks its connections.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "queue/queue.h"
#include "queue/redis/servers.h"
#include "tests/fault/drive.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim_redis.h"

enum { LEASE_MS = 30 * 1000, DEADLINE_MS = 5 * 1000, SLACK_MS = 10 * 1000 };

static unsigned
rate(unsigned present_per_mille, unsigned most)
{
	return sim_chance(present_per_mille) ? (unsigned)sim_between(1, most) : 0;
}

void
drive_plan_redis(struct drive_plan *plan, bool is_relay)
{
	struct sim_redis_faults faults = {
		.drops_before = rate(400, 20),
		.drops_after = rate(400, 20),
		.delays = rate(300, 100),
		.answers_late = rate(300, 100),
		.restarts = rate(300, 5),
		.no_memory = rate(200, 5),
		.no_disk = rate(200, 5),
		.delay_us = sim_between(1000, 2000000),
		.down_us = sim_between(1000, 5000000),
		.trouble_us = sim_between(1000, 5000000),
	};
	struct net_address address;

	/* Now and then it is away for longer than a mail waits for its turn, or than a lease. */
	if (is_relay && sim_chance(400))
		faults.down_us *= sim_between(2, 20);
	ASSERT(net_address_parse(SPAN("127.0.0.1:6379"), &address));
	plan->redis = sim_redis_new(&address, &faults);
	/* What one write to a disk is, is here a dozen pieces of a stream. */
	for (unsigned i = 0; i < plan->incarnations; i++)
		plan->crash_after[i] *= sim_between(4, 64);
	plan->moves *= 8;
	sim_redis_move_clock(plan->redis, (int64_t)sim_below(7200 * 1000) - 3600 * 1000);
	if (!is_relay)
		return;
	/* A function of the store here and there among hours of looking. */
	for (unsigned i = 0; i < plan->incarnations; i++)
		if (sim_chance(600))
			plan->crash_changes[i] = (unsigned)sim_between(1, 80);
	world->oracle->clock_slack_ms = SLACK_MS;
}

static const struct drive_plan *watched;
static unsigned changes_left; /* until this incarnation dies; 0: it does not */
static unsigned doomed = DRIVE_NODES;

/* Those that change no mail come at any time, and are the most. */
static bool
is_change(struct span function)
{
	static const char *const changes[] = { "rp_commit", "rp_record", "rp_release", "rp_claim",
					       "rp_take",   "rp_act",    "rp_retire" };

	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
		if (span_eq(function, span_of_string(changes[i])))
			return true;
	return false;
}

static void
on_function(const struct span *words, unsigned count, struct span reply)
{
	oracle_executed(words, count, reply);
	if (changes_left == 0 || !is_change(words[1]) || --changes_left > 0)
		return;
	if (watched->nodes == 1) {
		world->crash_at = world->completions + sim_between(1, 6);
		return;
	}
	doomed = world->node;
	changes_left = (unsigned)sim_between(1, 160);
}

unsigned
drive_redis_doomed(void)
{
	unsigned node = doomed;

	doomed = DRIVE_NODES;
	return node;
}

void
drive_redis_watch(const struct drive_plan *plan)
{
	watched = plan;
	changes_left = drive_is_last(plan) ? 0 : plan->crash_changes[plan->incarnation];
	sim_redis_watch(on_function);
}

void
drive_redis_calm(struct drive_plan *plan)
{
	sim_redis_calm(plan->redis);
}

void
drive_redis_options(const struct drive_plan *plan, struct queue_options *options)
{
	static const struct span address = { (const uint8_t *)"127.0.0.1:6379", 14 };
	static const struct redis_options redis = {
		.kind = REDIS_SINGLE,
		.addresses = &address,
		.address_count = 1,
		.prefix = { (const uint8_t *)"ringpost", 8 },
		.shards = DRIVE_SHARDS,
		.durability = REDIS_DISK,
		.deadline_ms = DEADLINE_MS,
		.lease_ms = LEASE_MS,
		.compress = true,
	};

	*options = (struct queue_options){ .redis = &redis, .body_memory = plan->body_memory };
}

static int64_t
ask(const struct drive_plan *plan, const struct span *words, unsigned count, unsigned from)
{
	struct text reply = { 0 };
	int64_t sum = 0;

	sim_redis_ask(plan->redis, words, count, &reply);
	text_append(&reply, "", 1);
	/* ":1" or "*5", ":now", ":waiting", ... */
	const char *line = (const char *)reply.data;
	for (unsigned i = 0; line != NULL && *line != '\0'; i++) {
		if (strncmp(line, "-ERR Function not found", 23) == 0)
			break; /* no relay has made it ready yet */
		if (*line != ':' && *line != '*')
			sim_fail("the server says %.40s", line);
		if (*line == ':' && i >= from && i < from + 3)
			sum += strtoll(line + 1, NULL, 10);
		line = strchr(line, '\n');
		line = line == NULL ? NULL : line + 1;
	}
	text_fini(&reply);
	return sum;
}

bool
drive_redis_has(const struct drive_plan *plan, struct mail_id id)
{
	char key[96];

	snprintf(key, sizeof key, "{ringpost:%u}:m:%016llx%016llx",
		 (unsigned)(id.low % DRIVE_SHARDS), (unsigned long long)id.high,
		 (unsigned long long)id.low);
	const struct span words[] = { SPAN("EXISTS"), span_of_string(key) };
	return ask(plan, words, 2, 0) == 1;
}

bool
drive_redis_still_has(struct mail_id id)
{
	return drive_redis_has(watched, id);
}

uint64_t
drive_redis_count(const struct drive_plan *plan)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < DRIVE_SHARDS; i++) {
		char tag[32];
		snprintf(tag, sizeof tag, "{ringpost:%u}", i);
		const struct span words[] = { SPAN("FCALL"), SPAN("rp_count"), SPAN("1"),
					      span_of_string(tag) };
		/* Behind the count of elements and the time: waiting, held, owned. */
		sum += (uint64_t)ask(plan, words, 4, 2);
	}
	return sum;
}

bool
drive_redis_held(const struct drive_plan *plan, struct mail_id *out)
{
	for (unsigned i = 0; i < DRIVE_SHARDS; i++) {
		char key[40];
		struct text reply = { 0 };
		int n = 0;
		snprintf(key, sizeof key, "{ringpost:%u}:held", i);
		const struct span words[] = { SPAN("ZRANGE"), span_of_string(key), SPAN("0"),
					      SPAN("0") };
		sim_redis_ask(plan->redis, words, 4, &reply);
		text_append(&reply, "", 1);
		n = sscanf((const char *)reply.data, "*1\r\n$32\r\n%16" SCNx64 "%16" SCNx64,
			   &out->high, &out->low);
		text_fini(&reply);
		if (n == 2)
			return true;
	}
	return false;
}

bool
drive_is_time(const struct drive_plan *plan, uint64_t is_ms, uint64_t ms)
{
	uint64_t slack_ms = plan->redis == NULL ? 0 : SLACK_MS;

	return is_ms + slack_ms >= ms && is_ms <= ms + slack_ms;
}
