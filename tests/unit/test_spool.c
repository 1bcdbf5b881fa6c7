/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue_suite queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "queue/spool/spool.h"
#include "tests/lib/queue_suite.h"
#include "tests/lib/queue_suite_seeing.h"
#include "tests/lib/queue_suite_turns.h"

static char path[] = "/var/tmp/ringpost-test-spool-XXXXXX";
static unsigned flights = 2;
static enum queue_durability durability = QUEUE_DISK;

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
}

static struct queue_store *
open_spool(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	   struct buf *why)
{
	const struct queue_options options = {
		.spool_path = path,
		.durability = durability,
		.segment_size = 4 * 1024 * 1024,
		.flights = flights,
		.body_memory = 64 * 1024 * 1024,
	};
	return queue_open(&options, workers, worker_count, hooks, why);
}

static const struct queue_suite_store kind = {
	.name = "spool", .reset = reset, .open = open_spool, .file_threshold = 256 * 1024
};

/* Puts `count` mails in a process that then dies without a word. */
static void
put_and_die(unsigned count, uint64_t body_size)
{
	static struct world w;
	pid_t pid = fork();

	if (pid == 0) {
		world_open(&w, &kind, 1);
		for (unsigned i = 0; i < count; i++)
			world_put_waiting(&w, 0, i, body_size);
		_exit(0);
	}
	int status = -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* The first segment that has a use. */
static int
open_used_segment(void)
{
	char name[1024];

	for (unsigned i = 0; i < 16; i++) {
		uint32_t head[4] = { 0 };
		snprintf(name, sizeof name, "%s/segments/%08x.seg", path, i);
		int fd = open(name, O_RDWR);
		if (fd < 0)
			continue;
		assert_int_equal(pread(fd, head, sizeof head, 0), sizeof head);
		if (head[3] > 1)
			return fd;
		close(fd);
	}
	fail_msg("no segment is in use");
	return -1;
}

static void
flip(int fd, off_t at)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void
a_killed_process_loses_nothing(void **state)
{
	static struct world w;
	struct queue_item *item;
	enum err error;

	(void)state;
	reset();
	put_and_die(50, 3000);
	world_open(&w, &kind, 2);
	assert_string_equal(w.why, "");
	assert_int_equal(world_count(&w).items_waiting, 50);
	for (unsigned i = 0; i < 50; i++) {
		world_claim_one(&w, 1, &item);
		unsigned number = world_number(item->mail->envelope->accepted_at_ms);
		assert_true(world_body_is(&w, 0, item, number, &error));
		assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	world_stop(&w);
}

static void
a_flipped_byte_takes_one_mail_and_is_told(void **state)
{
	static struct world w;
	struct queue_item *item;

	(void)state;
	reset();
	put_and_die(3, 3000);
	/* Batches are a mail each here: the second one starts at the third block. */
	int fd = open_used_segment();
	flip(fd, 8192 + 4096 + 2000);
	close(fd);
	world_open(&w, &kind, 1);
	assert_non_null(strstr(w.why, "1 damaged batches"));
	assert_int_equal(world_count(&w).mails, 2);
	assert_int_equal(spool_counters(queue_end(w.store, 0))->corrupt_records, 1);
	for (unsigned i = 0; i < 2; i++) {
		world_claim_one(&w, 1, &item);
		assert_int_not_equal(world_number(item->mail->envelope->accepted_at_ms), 1);
		assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	world_stop(&w);
}

static void
a_flipped_byte_in_a_sealed_segment_holds_its_mail(void **state)
{
	static struct world w;
	struct list items;
	enum err error;

	(void)state;
	reset();
	world_open(&w, &kind, 1);
	for (unsigned i = 0; i < 3; i++)
		world_put_waiting(&w, 0, i, 3000);
	world_stop(&w);
	int fd = open_used_segment();
	flip(fd, 8192 + 4096 + 2000);
	close(fd);
	world_open(&w, &kind, 1);
	assert_int_equal(world_count(&w).mails, 3); /* bodies are not read at the start */
	size_t n = world_claim(&w, 0, 1, 9, &items, &error);
	assert_int_equal(n, 2);
	assert_int_equal(world_count(&w).items_held, 1);
	assert_int_equal(spool_counters(queue_end(w.store, 0))->corrupt_records, 1);
	world_stop(&w);
}

static void
a_torn_tail_is_no_damage(void **state)
{
	static struct world w;
	static const uint8_t zeros[4096];

	(void)state;
	reset();
	put_and_die(3, 3000);
	/* The last batch's second sector never arrived. Nothing behind it says that it was
	 * acknowledged, so this is what a crash looks like. */
	int fd = open_used_segment();
	assert_int_equal(pwrite(fd, zeros, 512, 8192 + 2 * 4096 + 512), 512);
	close(fd);
	world_open(&w, &kind, 1);
	assert_string_equal(w.why, "");
	assert_int_equal(world_count(&w).mails, 2);
	assert_int_equal(spool_counters(queue_end(w.store, 0))->torn_tails, 1);
	world_stop(&w);
	world_open(&w, &kind, 1);
	assert_int_equal(world_count(&w).mails, 2);
	assert_int_equal(spool_counters(queue_end(w.store, 0))->torn_tails, 0);
	world_stop(&w);
}

static void
one_relay_at_a_time(void **state)
{
	static struct world w;
	static struct world second;

	(void)state;
	reset();
	world_open(&w, &kind, 1);
	assert_false(world_try_open(&second, &kind, 1));
	assert_non_null(strstr(second.why, "in use by another process"));
	world_stop(&w);
}

static void
write_format(const char *text)
{
	char name[1024];
	char block[4096];

	snprintf(name, sizeof name, "%s/format", path);
	memset(block, '\n', sizeof block);
	memcpy(block, text, strlen(text));
	int fd = open(name, O_RDWR | O_CREAT, 0600);
	assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
	close(fd);
}

static void
newer_and_foreign_formats_are_refused(void **state)
{
	static struct world w;

	(void)state;
	reset();
	world_open(&w, &kind, 1);
	world_stop(&w);
	write_format("ringpost spool 3");
	assert_false(world_try_open(&w, &kind, 1));
	assert_non_null(strstr(w.why, "has format 3"));
	write_format("something else");
	assert_false(world_try_open(&w, &kind, 1));
	assert_non_null(strstr(w.why, "is this a spool directory?"));
}

/* Many more bytes than four segments go through; what is left on the disk stays bounded. */
static void
segments_are_recycled(void **state)
{
	static struct world w;
	struct queue_item *item;
	struct queue_numbers n;
	const uint32_t site = 1;
	struct list items;

	(void)state;
	reset();
	world_open(&w, &kind, 1);
	const struct spool_counters *c = spool_counters(queue_end(w.store, 0));
	world_put_waiting(&w, 0, 10000, 3000); /* stays, and must be copied forward */
	/* How many are made anew before the first comes back is a matter of time. */
	for (unsigned i = 0; i < 400 || (c->segments_recycled <= 2 && i < 4000); i++) {
		assert_int_equal(world_put(&w, 0, i, 100 * 1000, &site, 1, &items), ERR_OK);
		item = LIST_ITEM(list_shift(&items), struct queue_item, link);
		assert_int_equal(world_record(&w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	uint64_t bound = 0;
	uint64_t end_ms = clock_monotonic_ms() + 20 * 1000;
	do {
		world_turn(&w);
		queue_count(queue_end(w.store, 0), &n);
		bound = 2 * n.bytes_live + 4U * 4 * 1024 * 1024;
	} while (n.bytes_on_disk > bound && clock_monotonic_ms() < end_ms);
	c = spool_counters(queue_end(w.store, 0));
	assert_true(n.bytes_on_disk <= bound);
	assert_true(c->bytes_written > 40U * 1000 * 1000);
	assert_true(c->segments_recycled > 2);
	assert_true(c->copied_records > 0);
	world_stop(&w);
	world_open(&w, &kind, 1);
	assert_int_equal(world_count(&w).mails, 1);
	world_claim_one(&w, 1, &item);
	enum err error;
	assert_true(world_body_is(&w, 0, item, 10000, &error));
	queue_release(queue_end(w.store, 0), item, 0);
	world_stop(&w);
}

static void
memory_level_does_not_wait_for_the_disk(void **state)
{
	static struct world w;

	(void)state;
	reset();
	durability = QUEUE_MEMORY;
	world_open(&w, &kind, 1);
	for (unsigned i = 0; i < 20; i++)
		world_put_waiting(&w, 0, i, 3000);
	world_stop(&w);
	world_open(&w, &kind, 1);
	assert_int_equal(world_count(&w).mails, 20);
	world_stop(&w);
	durability = QUEUE_DISK;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_killed_process_loses_nothing),
		cmocka_unit_test(a_flipped_byte_takes_one_mail_and_is_told),
		cmocka_unit_test(a_flipped_byte_in_a_sealed_segment_holds_its_mail),
		cmocka_unit_test(a_torn_tail_is_no_damage),
		cmocka_unit_test(one_relay_at_a_time),
		cmocka_unit_test(newer_and_foreign_formats_are_refused),
		cmocka_unit_test(segments_are_recycled),
		cmocka_unit_test(memory_level_does_not_wait_for_the_disk),
	};
	int failed;

	if (mkdtemp(path) == NULL)
		return 1;
	failed = queue_suite_run(&kind);
	flights = 1;
	failed += queue_suite_turns_run(&kind);
	failed += queue_suite_seeing_run(&kind);
	failed += queue_suite_run(&kind);
	failed += cmocka_run_group_tests_name("spool alone", tests, NULL, NULL);
	remove_all(path);
	return failed;
}
