/* SPDX-License-Identifier: Apache-2.0
 *
 * What is measured of core/base and core: what every mail passes besides the protocols.
 */
#include <stdlib.h>

#include "bench/micro/rows.h"
#include "bench/micro/sample.h"
#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/id.h"
#include "core/base/net_address.h"
#include "core/base/pool.h"
#include "core/log.h"
#include "core/mailbox.h"
#include "core/metric.h"
#include "core/timer.h"

enum {
	OBJECTS = 1024,       /* timers that run, objects that a pool holds */
	LOG_RING = 1 << 20,   /* bytes */
	LOG_BATCH = 1024,     /* events between two drains; less than fill the ring */
	DEADLINE_MS = 300000, /* of a command */
};

void
measure_id(struct micro_run *run)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct mail_id id = sample_envelope()->id;

	run->bytes = sizeof memory;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct buf out = buf_of(memory, sizeof memory);
		id_write(&out, id.high, id.low + i);
		micro_use(memory);
	}
	micro_stop(run);
}

void
measure_peer_name(struct micro_run *run)
{
	uint8_t memory[128];
	struct net_address address;

	bool good = net_address_parse(run->row->text, &address);
	ASSERT(good);
	run->bytes = run->row->text.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct buf out = buf_of(memory, sizeof memory);
		net_address_show(&address, &out);
		micro_use(memory);
	}
	micro_stop(run);
}

/* ---- the log ---- */

/* Events are written and lines made in turns; `writing` says which of them is on the watch. */
static void
measure_log(struct micro_run *run, bool writing)
{
	static struct metrics metrics;
	int error;
	struct log *log = log_new(1, LOG_RING, "/dev/null", &error);
	ASSERT(log != NULL);
	struct log_ring *ring = log_ring(log, 0, &metrics);
	size_t lines_size = 0;
	uint64_t drained = 0;

	for (uint64_t left = run->operations; left > 0;) {
		uint64_t count = left < LOG_BATCH ? left : LOG_BATCH;
		if (writing)
			micro_go(run);
		for (uint64_t i = 0; i < count; i++)
			event_delivery(ring, sample_delivery());
		if (writing)
			micro_stop(run);
		else
			micro_go(run);
		for (size_t size = log_drain(log); size > 0; size = log_drain(log))
			lines_size += size;
		if (!writing)
			micro_stop(run);
		drained += count;
		left -= count;
	}
	run->bytes = lines_size / drained;
	log_free(log);
}

void
measure_log_write(struct micro_run *run)
{
	measure_log(run, true);
	run->bytes = 0;
}

void
measure_log_line(struct micro_run *run)
{
	measure_log(run, false);
}

/* ---- metrics ---- */

void
measure_metric_add(struct micro_run *run)
{
	static struct metrics metrics;

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		METRIC_ADD(&metrics, MAILS_ACCEPTED, 1);
		micro_use(&metrics);
	}
	micro_stop(run);
}

void
measure_metric_observe(struct micro_run *run)
{
	static struct metrics metrics;

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		METRIC_OBSERVE(&metrics, COMMIT_TIME, i & 0xffff);
		micro_use(&metrics);
	}
	micro_stop(run);
}

/* ---- timers ---- */

static void
on_timer(struct timer *t)
{
	micro_use(t);
}

static struct timers wheel;
static struct timer timers[OBJECTS];

static void
make_timers(void)
{
	timers_init(&wheel, 0);
	for (size_t i = 0; i < OBJECTS; i++)
		timer_init(&timers[i], on_timer);
}

void
measure_timer_set(struct micro_run *run)
{
	make_timers();
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct timer *t = &timers[i % OBJECTS];
		timer_set(&wheel, t, DEADLINE_MS + (i & 0xffff));
		timer_stop(&wheel, t);
	}
	micro_stop(run);
}

/* As at every receive: a running timer is set later. */
void
measure_timer_move(struct micro_run *run)
{
	make_timers();
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++)
		timer_set(&wheel, &timers[i % OBJECTS], DEADLINE_MS + i);
	micro_stop(run);
}

void
measure_timer_fire(struct micro_run *run)
{
	uint64_t now_ms = 0;
	size_t fired = 0;

	make_timers();
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		timer_set(&wheel, &timers[i % OBJECTS], now_ms + TIMER_TICK_MS);
		now_ms += TIMER_TICK_MS;
		fired += timers_run(&wheel, now_ms);
	}
	micro_stop(run);
	ASSERT(fired == run->operations);
}

/* ---- memory ---- */

void
measure_pool(struct micro_run *run)
{
	struct pool pool;

	pool_init(&pool, 4096, OBJECTS);
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		void *object = pool_get(&pool);
		micro_use(object);
		pool_put(&pool, object);
	}
	micro_stop(run);
	pool_fini(&pool);
}

/* What a mail of one recipient takes, and gives back at once. */
void
measure_arena(struct micro_run *run)
{
	const struct mail_envelope *e = sample_envelope();
	struct arena arena;

	arena_init(&arena, 1024, 65536);
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		micro_use(arena_copy(&arena, e->sender).data);
		micro_use(arena_copy(&arena, e->client).data);
		micro_use(arena_copy(&arena, e->recipients[0].address).data);
		micro_use(arena_take(&arena, sizeof e->recipients[0]));
		arena_reset(&arena);
	}
	micro_stop(run);
}

/* ---- between threads ---- */

static void
on_message(struct message *m, void *context)
{
	(void)context;
	micro_use(m);
}

void
measure_mailbox(struct micro_run *run)
{
	static struct mailbox mailbox;
	static struct message message = { .on_message = on_message };

	mailbox_init(&mailbox, OBJECTS, NULL);
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		bool place = mailbox_reserve(&mailbox, 1);
		ASSERT(place);
		micro_use(&mailbox);
		mailbox_post(&mailbox, &message);
		size_t handled = mailbox_run(&mailbox, OBJECTS);
		ASSERT(handled == 1);
	}
	micro_stop(run);
}
