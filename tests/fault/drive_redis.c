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
#include "queue/redis/internal.h"
#include "tests/fault/drive.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim_redis.h"

enum { LEASE_MS = 30 * 1000, DEADLINE_MS = 5 * 1000, SLACK_MS = 3 * 1000, LATE_MS = 10 * 1000 };
enum { LAG_US = 2500 * 1000, FIELDS_MOST = 64, ID_SIZE = 32 };

/* ---- what a fail-over has lost ---- */

/* The bulks of a reply, in order; how many. */
static unsigned
read_bulks(struct span reply, struct span *out, unsigned most)
{
	unsigned count = 0;

	while (reply.size > 0 && count < most) {
		size_t end = span_find(reply, '\n', 0);
		uint64_t size;
		struct span line = span_first(reply, end);
		reply = span_after(reply, end + 1);
		if (line.size < 2 || line.data[0] != '$' ||
		    !span_to_u64(span_of(line.data + 1, line.size - 2), &size))
			continue;
		out[count++] = span_first(reply, size);
		reply = span_after(reply, size + 2);
	}
	return count;
}

/* Of a mail that is there: {"e", ..., "r0", state, ...}. States are as queue/redis/pack.h has them;
 * a recipient without one was never tried. */
static void
may_be_as_kept(struct oracle_mail *m, const struct span *fields, unsigned count)
{
	static const char letters[] = "PDXFR";
	bool is_held = false;

	for (uint32_t i = 0; i < m->recipient_count; i++) {
		struct oracle_recipient *r = &m->recipients[i];
		uint8_t state = RECIPIENT_PENDING, notified = 1;
		uint16_t attempts = 0;
		char name[16];
		snprintf(name, sizeof name, "r%u", i);
		for (unsigned k = 0; k + 1 < count; k += 2) {
			const uint8_t *s = fields[k + 1].data;
			if (span_eq(fields[k], SPAN("h")))
				is_held = s[fields[k + 1].size - 1] % 2 == 1; /* a digit */
			if (!span_eq(fields[k], span_of_string(name)))
				continue;
			ASSERT(fields[k + 1].size >= 16);
			state = (uint8_t)(strchr(letters, s[0]) - letters);
			attempts = (uint16_t)(s[5] | s[6] << 8);
			notified = s[7] & 1 ? 2 : 1;
		}
		r->possible |= (uint8_t)(1 << state);
		r->notified |= notified;
		if (attempts < r->attempts_least)
			r->attempts_least = attempts;
		if (attempts > r->attempts_most)
			r->attempts_most = attempts;
		r->retry_at_ms = 0;
	}
	m->held |= is_held ? 2 : 1;
}

void
drive_redis_look(const struct drive_plan *plan, struct oracle_mail *m)
{
	struct span fields[FIELDS_MOST];
	struct text reply = { 0 };
	char key[96];

	snprintf(key, sizeof key, "{ringpost:%u}:m:%016llx%016llx",
		 (unsigned)(m->id.low % DRIVE_SHARDS), (unsigned long long)m->id.high,
		 (unsigned long long)m->id.low);
	const struct span words[] = { SPAN("HGETALL"), span_of_string(key) };
	sim_redis_ask(plan->redis, words, 2, &reply);
	unsigned count = read_bulks(span_of(reply.data, reply.size), fields, FIELDS_MOST);
	if (count > 0) {
		may_be_as_kept(m, fields, count);
	} else {
		for (uint32_t i = 0; m->promised && i < m->recipient_count; i++)
			if (oracle_is(m, i, RECIPIENT_PENDING))
				sim_fail("mail %u was promised, a fail-over has lost it",
					 m->number);
		m->gone |= !m->promised;
	}
	text_fini(&reply);
}

void
drive_redis_look_again(const struct drive_plan *plan, struct oracle_mail *m, unsigned undone)
{
	if (m->undone != undone)
		drive_redis_look(plan, m);
}

/* Who has died can not count what a fail-over loses of his. */
void
drive_redis_note_delivery(struct oracle_recipient *r)
{
	if (r->decided == world->oracle->incarnation && !r->excused)
		world->oracle->twice++;
	r->decided = world->oracle->incarnation;
	r->excused = false;
}

static void
look_at(const struct drive_plan *plan, struct span hex)
{
	struct mail_id id = { 0, 0 };

	for (unsigned i = 0; i < ID_SIZE; i++) {
		const char *digits = "0123456789abcdef";
		const char *at = memchr(digits, hex.data[i], 16);
		if (at == NULL)
			return;
		uint64_t *half = i < 16 ? &id.high : &id.low;
		*half = *half << 4 | (uint64_t)(at - digits);
	}
	struct oracle_mail *m = oracle_find(id);
	if (m == NULL)
		return;
	m->undone++;
	sim_note("undone", m->number, m->undone);
	drive_redis_look(plan, m);
}

/* Names of mails are in keys (tag:m:ID), and are members of sets. */
static void
on_lost(void *context, const struct span *words, unsigned count)
{
	const struct drive_plan *plan = context;

	for (unsigned i = 1; i < count; i++) {
		static const char mark[] = ":m:";
		const uint8_t *at = i > 1 ? NULL : memmem(words[1].data, words[1].size, mark, 3);
		if (at != NULL)
			look_at(plan, span_of(at + 3, ID_SIZE));
		else if (i > 1 && words[i].size == ID_SIZE)
			look_at(plan, words[i]);
	}
}

/* ---- the plan ---- */

static unsigned
rate(unsigned present_per_mille, unsigned most)
{
	return sim_chance(present_per_mille) ? (unsigned)sim_between(1, most) : 0;
}

void
drive_plan_redis(struct drive_plan *plan, bool is_relay)
{
	plan->fails_over = !is_relay && sim_chance(400);
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
		.fails_over = plan->fails_over ? (unsigned)sim_between(1, 5) : 0,
		.lag_us = plan->fails_over ? sim_between(1000, LAG_US) : 0,
	};
	struct net_address address;

	/* Now and then it is away for longer than a mail waits for its turn, or than a lease. */
	if (is_relay && sim_chance(400))
		faults.down_us *= sim_between(2, 20);
	ASSERT(net_address_parse(SPAN("127.0.0.1:6379"), &address));
	plan->redis = sim_redis_new(&address, &faults);
	plan->is_late = faults.delays + faults.answers_late > 0;
	if (plan->fails_over) {
		sim_redis_configure(plan->redis, "min-replicas-to-write", "1");
		sim_redis_watch_losses(plan->redis, on_lost, plan);
	}
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
	world->oracle->clock_slack_ms = LATE_MS;
}

static const struct drive_plan *watched;
static unsigned changes_left; /* until this incarnation dies; 0: it does not */
static unsigned doomed = DRIVE_NODES;

/* Those that change no mail come at any time, and are the most. */
static bool
is_change(struct span function)
{
	static const char *const changes[] = {
		"rp_commit", "rp_record", "rp_records", "rp_release",
		"rp_claim",  "rp_take",   "rp_act",     "rp_retire"
	};

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
drive_redis_calm(const struct drive_plan *plan)
{
	if (plan->fails_over)
		sim_redis_fail_over(plan->redis, sim_between(1, 1000000));
	sim_redis_calm(plan->redis);
}

void
drive_redis_options(const struct drive_plan *plan, struct queue_options *options)
{
	static const struct span address = { (const uint8_t *)"127.0.0.1:6379", 14 };
	static struct redis_options redis = {
		.kind = REDIS_SINGLE,
		.addresses = &address,
		.address_count = 1,
		.prefix = { (const uint8_t *)"ringpost", 8 },
		.shards = DRIVE_SHARDS,
		.deadline_ms = DEADLINE_MS,
		.lease_ms = LEASE_MS,
		.compress = true,
	};

	redis.durability = plan->fails_over ? REDIS_REPLICA : REDIS_DISK;
	redis.replicas = plan->fails_over;
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

void
drive_redis_count_duplicates(struct queue_store *store)
{
	static uint64_t before; /* of this incarnation */
	const struct redis_store *s = (const struct redis_store *)(const void *)store;
	uint64_t now = 0;

	for (unsigned i = 0; i < drive_worker_count; i++) {
		const struct redis_counters *c = &s->ends[i].counters;
		now += c->records_given_up + c->undone_outcomes + c->claimed_doubtful;
	}
	world->oracle->counted += now - before;
	before = now;
}

enum { KEY_SIZE = 96 };

static void
mail_key(struct mail_id id, char key[KEY_SIZE])
{
	snprintf(key, KEY_SIZE, "{ringpost:%u}:m:%016llx%016llx", (unsigned)(id.low % DRIVE_SHARDS),
		 (unsigned long long)id.high, (unsigned long long)id.low);
}

bool
drive_redis_has(const struct drive_plan *plan, struct mail_id id)
{
	char key[KEY_SIZE];

	mail_key(id, key);
	const struct span words[] = { SPAN("EXISTS"), span_of_string(key) };
	return ask(plan, words, 2, 0) == 1;
}

bool
drive_redis_still_has(struct mail_id id)
{
	return drive_redis_has(watched, id);
}

/* Is the field of the mail `text`? Where it is absent: is that empty? */
static bool
field_is(struct mail_id id, const char *field, struct span text)
{
	struct text reply = { 0 };
	char key[KEY_SIZE];

	mail_key(id, key);
	const struct span words[] = { SPAN("HGET"), span_of_string(key), span_of_string(field) };
	sim_redis_ask(watched->redis, words, 3, &reply);
	/* "$SIZE", and the text; or "$-1" */
	struct span all = span_of(reply.data, reply.size);
	struct span value = span_after(all, span_find(all, '\n', 0) + 1);
	bool is_it = span_starts_with(all, SPAN("$-1"))
			     ? text.size == 0
			     : span_eq(span_first(value, span_find(value, '\r', 0)), text);
	text_fini(&reply);
	return is_it;
}

bool
drive_redis_owns(struct queue *q, const struct queue_mail *copy)
{
	char giving[16] = "";

	if (watched == NULL || copy->place != QUEUE_IN_REDIS)
		return true;
	const struct redis_store *s = redis_end_of(q)->store;
	uint32_t number = redis_mail_of(copy)->giving;
	if (number > 0)
		snprintf(giving, sizeof giving, "%u", number);
	struct span owner = span_of((const uint8_t *)s->incarnation, sizeof s->incarnation);
	return field_is(copy->id, "o", owner) && field_is(copy->id, "g", span_of_string(giving));
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
	uint64_t slack_ms = plan->redis == NULL ? 0 : plan->is_late ? LATE_MS : SLACK_MS;

	return is_ms + slack_ms >= ms && is_ms <= ms + slack_ms;
}
