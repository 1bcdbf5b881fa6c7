/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses bench core machine */
/*
 * The tree that is measured is made here: a root with two children, of which one has a child of its
 * own. Each writes a byte to a pipe when it has done its part, and waits until another is closed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/meter.h"

enum {
	BURN_MS = 120,    /* of CPU */
	TICK_MS = 10,     /* in which the kernel tells it */
	TOUCHED = 8 << 20 /* bytes of memory of its own */
};

struct tree {
	pid_t root;
	int ready[2]; /* a byte from each */
	int end[2];   /* closed by us: all end */
};

static uint64_t
cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void
burn(void)
{
	uint64_t until_ms = cpu_ms() + BURN_MS;

	while (cpu_ms() < until_ms)
		;
}

static void
say_ready(struct tree *t)
{
	if (write(t->ready[1], "", 1) != 1)
		_exit(1);
}

static _Noreturn void
wait_for_end(struct tree *t)
{
	char byte;

	close(t->end[1]);
	say_ready(t);
	while (read(t->end[0], &byte, 1) > 0)
		;
	_exit(0);
}

/* A process of that name, which does `work` and then waits. */
static pid_t
spawn(struct tree *t, const char *name, void (*work)(struct tree *t))
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_NAME, name);
	work(t);
	wait_for_end(t);
}

static void
no_work(struct tree *t)
{
	(void)t;
}

static void
burn_work(struct tree *t)
{
	(void)t;
	burn();
}

static void
memory_work(struct tree *t)
{
	char *memory = malloc(TOUCHED);

	(void)t;
	if (memory == NULL)
		_exit(1);
	memset(memory, 1, TOUCHED);
	__asm__ volatile("" ::"r"(memory) : "memory");
}

static void
branch_work(struct tree *t)
{
	memory_work(t);
	spawn(t, "leaf (1) x", burn_work);
}

static void
root_work(struct tree *t)
{
	/* One that has ended and was waited for: its time is the root's. */
	pid_t gone = fork();
	if (gone == 0) {
		burn();
		_exit(0);
	}
	waitpid(gone, NULL, 0);
	spawn(t, "meter-branch", branch_work);
	spawn(t, "meter-child", no_work);
}

static void
grow(struct tree *t)
{
	char byte;

	assert_int_equal(pipe2(t->ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(t->end, O_CLOEXEC), 0);
	t->root = spawn(t, "meter-root", root_work);
	assert_true(t->root > 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(read(t->ready[0], &byte, 1), 1);
}

static void
fell(struct tree *t)
{
	close(t->end[1]);
	close(t->end[0]);
	waitpid(t->root, NULL, 0);
	close(t->ready[0]);
	close(t->ready[1]);
}

static const struct meter_process *
named(const struct meter *m, const char *name)
{
	for (unsigned i = 0; i < m->name_count; i++)
		if (strcmp(m->names[i].name, name) == 0)
			return &m->names[i];
	fail_msg("no process %s", name);
	return NULL;
}

static uint64_t
cpu_of(const struct meter_process *p)
{
	return p->user_us + p->system_us;
}

static void
a_tree_is_measured_with_all_that_is_in_it(void **state)
{
	struct tree tree;
	struct meter m;

	(void)state;
	grow(&tree);
	assert_true(meter_read(tree.root, true, &m));
	assert_int_equal(m.processes, 4);
	assert_int_equal(m.name_count, 4);
	assert_int_equal(named(&m, "meter-root")->count, 1);
	/* A name may hold brackets and blanks. */
	assert_true(cpu_of(named(&m, "leaf (1) x")) >= (BURN_MS - 2 * TICK_MS) * 1000);
	assert_true(cpu_of(named(&m, "meter-root")) >= (BURN_MS - 2 * TICK_MS) * 1000);
	assert_true(cpu_of(named(&m, "meter-child")) < BURN_MS * 1000 / 2);
	assert_true(m.user_us + m.system_us >= 2 * (BURN_MS - 2 * TICK_MS) * 1000);
	assert_true(m.pss_bytes >= TOUCHED);
	assert_true(m.pss_bytes < (uint64_t)TOUCHED * 32);
	assert_true(m.context_switches > 0);
	fell(&tree);
}

static void
a_tree_begins_at_its_root(void **state)
{
	struct tree tree;
	struct meter m, of_test;

	(void)state;
	grow(&tree);
	assert_true(meter_read(tree.root, false, &m));
	assert_true(m.pss_bytes == 0);
	/* The parent of all is this test, whose name is another. */
	assert_true(meter_read(getpid(), false, &of_test));
	assert_int_equal(of_test.processes, 5);
	assert_int_equal(named(&of_test, "meter-branch")->count, 1);
	fell(&tree);
}

static void
many_names_share_the_last_row(void **state)
{
	struct tree tree = { 0 };
	struct meter m;
	unsigned all = 0;
	char byte;

	(void)state;
	assert_int_equal(pipe2(tree.ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(tree.end, O_CLOEXEC), 0);
	pid_t pids[METER_NAMES_MAX + 8];
	for (unsigned i = 0; i < METER_NAMES_MAX + 8; i++) {
		char name[16];
		snprintf(name, sizeof name, "many-%u", i < 2 ? 0 : i);
		pids[i] = spawn(&tree, name, no_work);
		assert_true(pids[i] > 0);
		assert_int_equal(read(tree.ready[0], &byte, 1), 1);
	}
	assert_true(meter_read(getpid(), false, &m));
	assert_int_equal(m.processes, METER_NAMES_MAX + 8 + 1);
	assert_int_equal(m.name_count, METER_NAMES_MAX);
	assert_int_equal(named(&m, "many-0")->count, 2);
	for (unsigned i = 0; i < m.name_count; i++)
		all += m.names[i].count;
	assert_int_equal(all, m.processes);
	assert_string_equal(m.names[METER_NAMES_MAX - 1].name, "others");
	close(tree.end[1]);
	for (unsigned i = 0; i < METER_NAMES_MAX + 8; i++)
		waitpid(pids[i], NULL, 0);
	close(tree.end[0]);
	close(tree.ready[0]);
	close(tree.ready[1]);
}

static void
bytes_written_are_those_that_reach_the_disk(void **state)
{
	static char block[1 << 20];
	/* Not /tmp, which may be memory. */
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct meter before, after;
	struct statfs about;

	(void)state;
	if (fd < 0 || fstatfs(fd, &about) != 0 || about.f_type == TMPFS_MAGIC)
		skip();
	memset(block, 7, sizeof block);
	assert_true(meter_read(getpid(), false, &before));
	assert_int_equal(write(fd, block, sizeof block), sizeof block);
	assert_true(meter_read(getpid(), false, &after));
	close(fd);
	assert_true(after.bytes_written - before.bytes_written >= sizeof block);
	assert_true(after.bytes_written - before.bytes_written < 4 * sizeof block);
}

static void
what_is_gone_is_not_there(void **state)
{
	struct meter m;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_false(meter_read(pid, true, &m));
	assert_int_equal(m.processes, 0);
	assert_true(m.user_us == 0 && m.name_count == 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_is_measured_with_all_that_is_in_it),
		cmocka_unit_test(a_tree_begins_at_its_root),
		cmocka_unit_test(many_names_share_the_last_row),
		cmocka_unit_test(bytes_written_are_those_that_reach_the_disk),
		cmocka_unit_test(what_is_gone_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
