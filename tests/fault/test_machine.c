/* SPDX-License-Identifier: Apache-2.0
 *
 * Does the simulated machine lose what it may lose, and keep what it must keep? Each case runs a
 * body in an incarnation that crashes or ends, many times with different seeds, and counts what the
 * next one finds. A case that never loses is as wrong as one that loses what was synced.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/disk.h"
#include "core/ring.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_files.h"
#include "tests/fault/sim_machine.h"

enum { SEEDS = 200, SIZE = 8192 };

struct wait {
	struct op op;
	bool done;
	int32_t result;
};

static struct ring *ring;
static _Alignas(4096) uint8_t data[SIZE];

static void
on_done(struct op *op, struct completion c)
{
	struct wait *w = CONTAINER_OF(op, struct wait, op);

	w->done = true;
	w->result = c.result;
}

static void
turn(void)
{
	ring_wait(ring, 0);
	while (ring_complete(ring) > 0)
		ring_wait(ring, 0);
}

static int32_t
finish(struct wait *w)
{
	turn();
	while (!w->done) {
		if (!sim_step(UINT64_MAX))
			sim_fail("nothing completes");
		turn();
	}
	return w->result;
}

static struct wait
waiting(void)
{
	struct wait w = { 0 };
	op_init(&w.op, on_done);
	return w;
}

static void
open_ring(void)
{
	static const struct ring_options options = { .entries = 64 };
	ring = ring_new(&options, NULL);
}

static int
open_file(const char *name)
{
	bool direct = true;
	int fd = disk_open(AT_FDCWD, name, O_RDWR | O_CREAT, 0600, &direct);
	if (fd < 0)
		sim_fail("open: %d", fd);
	return fd;
}

static struct sim_file *
file(const char *name)
{
	return sim_name_find(sim_files_root(world->files), name);
}

/* How many sectors of the file are of `byte`. */
static unsigned
sectors_of(const char *name, uint8_t byte)
{
	unsigned n = 0;

	for (unsigned s = 0; s < SIZE / SIM_SECTOR; s++) {
		uint8_t sector[SIM_SECTOR] = { 0 };
		uint8_t want[SIM_SECTOR];
		memset(want, byte, sizeof want);
		sim_file_read(file(name), sector, sizeof sector, (uint64_t)s * SIM_SECTOR);
		n += memcmp(sector, want, sizeof sector) == 0;
	}
	return n;
}

enum way { DURABLE, UNSYNCED, SYNCED, IN_FLIGHT, SYNC_FAILED };

/* Old bytes are durable, new ones are written over them in the given way; then the power fails. */
static void
write_and_crash(void *context)
{
	enum way way = *(enum way *)context;
	int fd = open_file("file");
	struct wait w = waiting();
	struct wait s = waiting();

	open_ring();
	disk_sync_directory(AT_FDCWD);
	memset(data, 1, sizeof data);
	if (disk_write_durable(fd, data, SIZE, 0) != ERR_OK)
		sim_fail("disk_write_durable");
	memset(data, 2, sizeof data);
	if (way == DURABLE)
		ring_write_durable(ring, &w.op, fd, data, SIZE, 0);
	else
		ring_write(ring, &w.op, fd, data, SIZE, 0);
	ring_wait(ring, 0);
	if (way == IN_FLIGHT)
		sim_crash();
	if (finish(&w) != SIZE)
		sim_fail("write: %d", w.result);
	if (way == SYNC_FAILED) {
		/* The second sync has nothing to write any more, and says that all is well. */
		struct wait again = waiting();
		world->faults.sync_error = 1000;
		ring_sync(ring, &s.op, fd);
		if (finish(&s) != -EIO)
			sim_fail("sync: %d", s.result);
		world->faults.sync_error = 0;
		ring_sync(ring, &again.op, fd);
		if (finish(&again) != 0)
			sim_fail("sync: %d", again.result);
	}
	if (way == SYNCED) {
		ring_sync(ring, &s.op, fd);
		if (finish(&s) != 0)
			sim_fail("sync: %d", s.result);
	}
	sim_crash();
}

struct kept {
	unsigned old, whole, torn;
};

static struct kept
crash_often(enum way way)
{
	struct kept kept = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		sim_reset(seed);
		assert_int_equal(sim_run(write_and_crash, &way, 10), SIM_CRASHED);
		assert_non_null(file("file"));
		unsigned old = sectors_of("file", 1);
		unsigned new = sectors_of("file", 2);
		assert_int_equal(old + new, SIZE / SIM_SECTOR);
		kept.old += new == 0;
		kept.whole += old == 0;
		kept.torn += old > 0 && new > 0;
	}
	return kept;
}

static void
what_was_synced_is_kept(void **state)
{
	(void)state;
	assert_int_equal(crash_often(DURABLE).whole, SEEDS);
	assert_int_equal(crash_often(SYNCED).whole, SEEDS);
}

static void
what_was_not_synced_may_be_lost_kept_or_torn(void **state)
{
	static const enum way ways[] = { UNSYNCED, IN_FLIGHT, SYNC_FAILED };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct kept kept = crash_often(ways[i]);
		/* A failed sync writes a random part of each page: hardly ever all or nothing. */
		if (ways[i] != SYNC_FAILED) {
			assert_in_range(kept.old, 10, SEEDS);
			assert_in_range(kept.whole, 10, SEEDS);
		}
		assert_in_range(kept.torn, 10, SEEDS);
	}
}

/* ---- names ---- */

static void
names_and_crash(void *context)
{
	bool synced = *(bool *)context;
	int d = disk_open_directory(AT_FDCWD, "d", true);
	bool direct = false;

	disk_sync_directory(AT_FDCWD);
	disk_open(d, "gone", O_RDWR | O_CREAT, 0600, &direct);
	disk_open(d, "old", O_RDWR | O_CREAT, 0600, &direct);
	disk_sync_directory(d);
	disk_open(d, "made", O_RDWR | O_CREAT, 0600, &direct);
	disk_unlink(d, "gone");
	disk_rename(d, "old", d, "new");
	if (synced)
		disk_sync_directory(d);
	sim_crash();
}

static void
names_need_a_sync_of_their_directory(void **state)
{
	unsigned made = 0, gone = 0, renamed = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 2 * SEEDS; seed++) {
		bool synced = seed % 2 == 0;
		sim_reset(seed);
		assert_int_equal(sim_run(names_and_crash, &synced, 10), SIM_CRASHED);
		struct sim_file *d = file("d");
		assert_non_null(d);
		/* A rename happens wholly or not at all. */
		assert_true((sim_name_find(d, "old") == NULL) != (sim_name_find(d, "new") == NULL));
		if (synced) {
			assert_non_null(sim_name_find(d, "made"));
			assert_null(sim_name_find(d, "gone"));
			assert_non_null(sim_name_find(d, "new"));
			continue;
		}
		made += sim_name_find(d, "made") != NULL;
		gone += sim_name_find(d, "gone") == NULL;
		renamed += sim_name_find(d, "new") != NULL;
	}
	assert_in_range(made, 10, SEEDS - 10);
	assert_in_range(gone, 10, SEEDS - 10);
	assert_in_range(renamed, 10, SEEDS - 10);
}

/* ---- operations ---- */

static void
overtaking(void *context)
{
	struct wait w[2] = { waiting(), waiting() };
	int fd = open_file("file");

	(void)context;
	open_ring();
	ring_write_durable(ring, &w[0].op, fd, data, 4096, 0);
	ring_write_durable(ring, &w[1].op, fd, data + 4096, 4096, 4096);
	ring_wait(ring, 0);
	sim_step(UINT64_MAX);
	turn();
	if (w[0].done == w[1].done)
		sim_fail("not one completed");
	if (w[1].done)
		sim_crash(); /* tells the parent: the second came first */
}

static void
completions_overtake_each_other(void **state)
{
	unsigned overtook = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		sim_reset(seed);
		enum sim_end end = sim_run(overtaking, NULL, 10);
		assert_true(end == SIM_CRASHED || end == SIM_FINISHED);
		overtook += end == SIM_CRASHED;
	}
	assert_in_range(overtook, SEEDS / 4, SEEDS * 3 / 4);
}

static void
change_lent_memory(void *context)
{
	struct wait w = waiting();
	int fd = open_file("file");

	open_ring();
	if (*(bool *)context)
		ring_write(ring, &w.op, fd, data, SIZE, 0);
	else
		ring_read(ring, &w.op, fd, data, SIZE, 0);
	data[100] ^= 1;
	finish(&w);
}

static void
use_a_closed_descriptor(void *context)
{
	struct wait w = waiting();
	int fd = open_file("file");

	(void)context;
	open_ring();
	disk_close(fd);
	ring_sync(ring, &w.op, fd);
}

static void
write_unaligned(void *context)
{
	struct wait w = waiting();

	(void)context;
	open_ring();
	ring_write(ring, &w.op, open_file("file"), data, 100, 0);
}

static void
write_twice_at_once(void *context)
{
	struct wait w[2] = { waiting(), waiting() };
	int fd = open_file("file");

	(void)context;
	open_ring();
	ring_write(ring, &w[0].op, fd, data, SIZE, 0);
	ring_write(ring, &w[1].op, fd, data, 4096, 4096);
}

static void
leave_a_descriptor(void *context)
{
	(void)context;
	open_file("file");
	sim_check_nothing_left();
}

static void
breaches_of_the_contract_are_found(void **state)
{
	static const struct {
		void (*body)(void *context);
		bool argument;
		const char *text;
	} rows[] = {
		{ change_lent_memory, true, "the memory of a write was changed" },
		{ change_lent_memory, false, "the memory of a read was written to" },
		{ use_a_closed_descriptor, false, "which is not open" },
		{ write_unaligned, false, "not aligned" },
		{ write_twice_at_once, false, "over the same bytes" },
		{ leave_a_descriptor, false, "was not closed" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bool argument = rows[i].argument;
		sim_reset(7);
		assert_int_equal(sim_run(rows[i].body, &argument, 10), SIM_FAILED);
		assert_non_null(strstr(world->failure, rows[i].text));
	}
}

static void
fill_the_disk(void *context)
{
	int fd = open_file("file");
	struct wait w = waiting();

	(void)context;
	open_ring();
	ring_write_durable(ring, &w.op, fd, data, SIZE, 0);
	if (finish(&w) != 4096)
		sim_fail("the first write should be short, is %d", w.result);
	struct wait more = waiting();
	ring_write_durable(ring, &more.op, fd, data, 4096, 4096);
	if (finish(&more) != -ENOSPC)
		sim_fail("the second write should find the disk full, is %d", more.result);
}

static void
a_full_disk_writes_short_and_then_not_at_all(void **state)
{
	(void)state;
	sim_reset(1);
	sim_files_set_capacity(world->files, 1);
	assert_int_equal(sim_run(fill_the_disk, NULL, 10), SIM_FINISHED);
}

static void
mixed_work(void *context)
{
	struct wait w[8];
	int fd = open_file("file");

	(void)context;
	open_ring();
	for (unsigned round = 0; round < 20; round++) {
		memset(data, (int)random_u64() & 0xff, sizeof data);
		for (unsigned i = 0; i < 2; i++) {
			w[i] = waiting();
			ring_write_durable(ring, &w[i].op, fd, data + i * 4096, 4096, i * 4096);
		}
		for (unsigned i = 0; i < 2; i++)
			finish(&w[i]);
	}
}

static void
one_seed_is_one_run(void **state)
{
	uint64_t traces[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		sim_reset(i == 2 ? 43 : 42);
		world->faults = (struct sim_faults){ .slow_io = 100, .slow_us = 100000 };
		world->crash_at = 17;
		assert_int_equal(sim_run(mixed_work, NULL, 10), SIM_CRASHED);
		world->crash_at = 0;
		assert_int_equal(sim_run(mixed_work, NULL, 10), SIM_FINISHED);
		traces[i] = world->trace;
	}
	assert_true(traces[0] == traces[1]);
	assert_true(traces[0] != traces[2]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_synced_is_kept),
		cmocka_unit_test(what_was_not_synced_may_be_lost_kept_or_torn),
		cmocka_unit_test(names_need_a_sync_of_their_directory),
		cmocka_unit_test(completions_overtake_each_other),
		cmocka_unit_test(breaches_of_the_contract_are_found),
		cmocka_unit_test(a_full_disk_writes_short_and_then_not_at_all),
		cmocka_unit_test(one_seed_is_one_run),
	};

	sim_map();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
