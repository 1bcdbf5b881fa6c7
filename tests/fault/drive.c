/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/drive.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "tests/fault/sim_files.h"

struct drive_node drive_nodes[DRIVE_NODES];
struct worker **drive_workers = drive_nodes[0].workers;
unsigned drive_worker_count;

void
drive_switch(unsigned node)
{
	ASSERT(node < DRIVE_NODES);
	world->node = node;
	drive_workers = drive_nodes[node].workers;
	drive_worker_count = drive_nodes[node].count;
}

/* Each kind of fault is absent in most lives, so that what depends on its absence is seen, too. */
static unsigned
rate(unsigned present_per_mille, unsigned most)
{
	return sim_chance(present_per_mille) ? (unsigned)sim_between(1, most) : 0;
}

static void
plan_faults(struct sim_faults *f)
{
	bool errors = sim_chance(250);

	*f = (struct sim_faults){
		.short_io = rate(300, 300),
		.slow_io = rate(400, 200),
		.slow_us = sim_between(1000, 3000000),
		.write_error = errors ? rate(500, 30) : 0,
		.sync_error = errors ? rate(500, 50) : 0,
		.read_error = errors ? rate(300, 20) : 0,
		.no_space = rate(100, 20),
		.destage = rate(500, 500),
		.early_submit = rate(500, 300),
		.accept_ends = rate(200, 100),
		.reset = rate(300, 10),
		.clock_step_us = sim_chance(300) ? sim_between(1, 50) : 0,
	};
}

void
drive_plan(struct drive_plan *plan, unsigned workers_most)
{
	static const uint64_t bodies[] = { 200, 2000, 20000, 100000, 400000 };
	static const uint64_t thresholds[] = { 0, 4096, 32768, 0 };

	*plan = (struct drive_plan){
		.workers_most = workers_most,
		.nodes = 1,
		.incarnations = (unsigned)sim_between(1, 4),
		.moves = (unsigned)sim_between(50, 600),
		.body_most = bodies[sim_below(5)],
		.file_threshold = thresholds[sim_below(4)],
		.segment_size = (uint64_t)4 << 20,
		/* Thin ones are full soon; the others never. */
		.disk_pages = sim_chance(150) ? sim_between(8192, 65536) : (uint64_t)1 << 24,
		.body_memory = sim_chance(300) ? (uint64_t)4 << 20 : 0,
		.flights = (unsigned)sim_below(4),
	};
	for (unsigned i = 0; i <= plan->incarnations; i++) {
		plan->workers[i] = (unsigned)sim_between(1, workers_most == 0 ? 4 : workers_most);
		if (i < plan->incarnations && !sim_chance(150))
			plan->crash_after[i] = sim_between(1, (uint64_t)1 << sim_between(3, 9));
	}
	for (unsigned i = 0; i < 8; i++)
		plan->weights[i] = (unsigned)sim_between(1, 10);
	plan_faults(&plan->faults);
	terms_choose(&plan->terms);
	plan->asks = sim_chance(300);
	sim_files_set_capacity(world->files, plan->disk_pages);
}

void
drive_plan_no_disk_errors(struct drive_plan *plan)
{
	struct sim_faults *f = &plan->faults;

	f->write_error = f->sync_error = f->read_error = f->no_space = 0;
	plan->disk_pages = (uint64_t)1 << 24;
	sim_files_set_capacity(world->files, plan->disk_pages);
}

void
drive_plan_days(struct drive_plan *plan)
{
	plan->days = true;
	terms_choose_days(&plan->terms);
	/* Much time passes between completions. */
	for (unsigned i = 0; i < plan->incarnations; i++)
		plan->crash_after[i] *= sim_between(1, 16);
}

bool
drive_disk_errs(const struct drive_plan *plan)
{
	const struct sim_faults *f = &plan->faults;

	return f->write_error != 0 || f->sync_error != 0 || f->read_error != 0;
}

bool
drive_opening_may_fail(const struct drive_plan *plan)
{
	return drive_disk_errs(plan) || plan->faults.no_space != 0;
}

/* ---- workers ---- */

void
drive_open_workers(unsigned count, const struct worker_options *options)
{
	char text[256];
	struct buf why = buf_of(text, sizeof text);

	ASSERT(count <= DRIVE_WORKERS_MAX);
	drive_worker_count = drive_nodes[world->node].count = count;
	for (unsigned i = 0; i < count; i++) {
		drive_workers[i] = aligned_alloc(64, (sizeof(struct worker) + 63) / 64 * 64);
		ASSERT(drive_workers[i] != NULL);
	}
	for (unsigned i = 0; i < count; i++) {
		worker_init(drive_workers[i], i, count, drive_workers, options);
		ASSERT(worker_open(drive_workers[i], options, &why));
	}
}

void
drive_close_workers(void)
{
	for (unsigned i = 0; i < drive_worker_count; i++) {
		worker_close(drive_workers[i]);
		free(drive_workers[i]);
	}
	drive_worker_count = drive_nodes[world->node].count = 0;
}

/* Every worker may take a turn, beginning with any; now and then one is held up. */
static bool
turns_of_node(void)
{
	unsigned first = (unsigned)sim_below(drive_worker_count);
	bool any = false;

	for (unsigned i = 0; i < drive_worker_count; i++) {
		struct worker *w = drive_workers[(first + i) % drive_worker_count];
		if (sim_chance(200))
			any = true; /* it may well have something to do */
		else
			any |= worker_turn(w, 0);
	}
	return any;
}

static bool
is_awake(const struct drive_node *n)
{
	return n->count > 0 && !n->rests;
}

static bool
turns(void)
{
	bool both = is_awake(&drive_nodes[0]) && is_awake(&drive_nodes[1]);
	unsigned first = both ? (unsigned)sim_below(DRIVE_NODES) : 0;
	bool any = false;

	for (unsigned i = 0; i < DRIVE_NODES; i++) {
		unsigned node = (first + i) % DRIVE_NODES;
		if (!is_awake(&drive_nodes[node]))
			continue;
		drive_switch(node);
		any |= turns_of_node();
	}
	return any;
}

/* When the first timer of a worker is due; UINT64_MAX: there is none. */
static uint64_t
next_timer_us(void)
{
	static const uint64_t far_ms = 3600 * 1000;
	uint64_t now_ms = world->now_us / 1000;
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < DRIVE_NODES * DRIVE_WORKERS_MAX; i++) {
		const struct drive_node *n = &drive_nodes[i / DRIVE_WORKERS_MAX];
		unsigned number = i % DRIVE_WORKERS_MAX;
		if (!is_awake(n) || number >= n->count || n->workers[number]->timers.count == 0)
			continue;
		const struct timers *t = &n->workers[number]->timers;
		uint64_t at_us = (now_ms + timers_next_ms(t, now_ms, far_ms)) * 1000;
		first = at_us < first ? at_us : first;
	}
	return first;
}

bool
drive_pump(void)
{
	bool any = turns();
	uint64_t timer = next_timer_us();
	uint64_t event = sim_next_us();

	if (any) {
		/* While the relay works, the world does so, too. */
		for (uint64_t n = sim_below(3); n > 0 && sim_next_us() <= world->now_us + 100; n--)
			sim_step(world->now_us + 100);
		return true;
	}
	if (event == UINT64_MAX && timer == UINT64_MAX)
		return false;
	if (event <= timer)
		sim_step(event);
	else
		sim_advance(timer > world->now_us ? timer : world->now_us + 1000);
	return true;
}
