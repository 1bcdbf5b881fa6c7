/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue_suite queue core machine */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "queue/spool/crc32c.h"
#include "queue/spool/record.h"
#include "queue/spool/spool.h"
#include "tests/lib/queue_suite_lives.h"

enum { FILE_THRESHOLD = 256 * 1024, CHUNK = 64 * 1024, DRAFTS_MAX = 64 };

static char path[] = "/var/tmp/ringpost-test-lives-XXXXXX";
static struct queue_options options;
static unsigned rooms; /* calls of on_room */

static int
remove_one(const char *name, const struct stat *s, int type, struct FTW *walk)
{
	(void)s;
	(void)type;
	(void)walk;
	return remove(name);
}

static void
reset(void)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	mkdir(path, 0700);
	options = (struct queue_options){
		.spool_path = path,
		.segment_size = 4 * 1024 * 1024,
		.file_threshold = FILE_THRESHOLD,
		.body_memory = 64 * 1024 * 1024,
	};
}

static void
on_room(struct queue *q)
{
	(void)q;
	rooms++;
}

static struct queue_store *
open_spool(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	   struct buf *why)
{
	struct queue_hooks all = *hooks;

	all.on_room = on_room;
	return queue_open(&options, workers, worker_count, &all, why);
}

static const struct queue_suite_store kind = {
	.name = "spool, lives", .reset = reset, .open = open_spool, .file_threshold = FILE_THRESHOLD
};

static void
wait_for_room(struct world *w, unsigned before)
{
	bool came = false;

	for (unsigned turns = 0; !came && turns < 10 * 1000; turns++) {
		world_turn(w);
		came = rooms > before;
	}
	assert_true(came);
}

/* Invariant 6: a bound that is hit answers, and heals by itself. */
static void
used_up_memory_refuses_intake_and_heals(void **state)
{
	static struct world w;
	static const uint8_t bytes[CHUNK];
	struct queue_draft *drafts[DRAFTS_MAX];
	unsigned count = 0;
	enum err error = ERR_OK;

	(void)state;
	reset();
	options.body_memory = 1024 * 1024;
	world_open(&w, &kind, 1);
	struct queue *q = queue_end(w.store, 0);
	assert_int_equal(queue_admit(q, CHUNK), ERR_OK);
	assert_false(queue_memory_is_tight(q));
	while (error == ERR_OK && count < DRAFTS_MAX) {
		drafts[count] = queue_draft_new(q, world_id(count), CHUNK);
		if (drafts[count] == NULL)
			break;
		error = queue_draft_append(drafts[count++], span_of(bytes, CHUNK));
	}
	assert_true(count > 0 && count < DRAFTS_MAX);
	assert_true(queue_memory_is_tight(q));
	assert_int_equal(queue_admit(q, CHUNK), ERR_NO_MEMORY);
	unsigned before = rooms;
	while (count > 0)
		queue_draft_abandon(drafts[--count]);
	wait_for_room(&w, before);
	assert_int_equal(queue_admit(q, CHUNK), ERR_OK);
	assert_true(spool_counters(q)->no_memory > 0);
	world_stop(&w);
}

static void
a_full_table_of_mails_refuses_intake_and_heals(void **state)
{
	static struct world w;
	unsigned count = 0;

	(void)state;
	reset();
	options.items_max = 8;
	world_open(&w, &kind, 1);
	struct queue *q = queue_end(w.store, 0);
	while (queue_admit(q, 10) == ERR_OK && count < 100)
		world_put_waiting(&w, 0, count++, 10);
	assert_int_equal(queue_admit(q, 10), ERR_TOO_MANY);
	assert_in_range(count, 1, 8);
	assert_int_equal(spool_counters(q)->too_many, 2);
	assert_int_equal(spool_counters(q)->no_memory, 0);
	unsigned before = rooms;
	assert_int_equal(world_act(&w, 0, world_id(0), QUEUE_REMOVE), ERR_OK);
	wait_for_room(&w, before);
	world_put_waiting(&w, 0, count, 10);
	world_stop(&w);
}

/* Mails that fail make room in a full table only together with their notices. */
static void
a_full_table_takes_notices(void **state)
{
	static struct world w;
	struct queue_item *item;
	struct list items;
	unsigned count = 0;

	(void)state;
	reset();
	options.items_max = 8;
	world_open(&w, &kind, 1);
	struct queue *q = queue_end(w.store, 0);
	while (queue_admit(q, 10) == ERR_OK && count < 100)
		world_put_waiting(&w, 0, count++, 10);
	assert_int_equal(count, 8);
	for (unsigned i = 0; i < 8; i++) {
		const struct world_notice notice = { 100 + i, 10, 7, NULL };
		world_claim_one(&w, 1, &item);
		const struct queue_result no = { .recipient = item->recipients[0],
						 .state = RECIPIENT_FAILED,
						 .tried = true };
		assert_int_equal(item->recipient_count, 1);
		assert_int_equal(world_record_notice(&w, item, &no, 1, &notice, &items), ERR_OK);
		assert_int_equal(queue_admit(q, 10), ERR_TOO_MANY);
		struct list_node *n = list_shift(&items);
		queue_release(q, LIST_ITEM(n, struct queue_item, link), UINT64_MAX / 2);
	}
	assert_int_equal(world_count(&w).mails, 8);
	world_stop(&w);
}

/* What is kept can be seen and handed out while nothing more is taken. */
static void
a_disk_with_nothing_to_spare_keeps_what_it_has(void **state)
{
	static struct world w;
	struct queue_item *item;

	(void)state;
	reset();
	world_open(&w, &kind, 1);
	for (unsigned i = 0; i < 5; i++)
		world_put_waiting(&w, 0, i, 1000);
	world_stop(&w);
	options.reserve_bytes = (uint64_t)1 << 60;
	world_open(&w, &kind, 2);
	assert_int_equal(queue_admit(queue_end(w.store, 0), 2 * FILE_THRESHOLD), ERR_NO_ROOM);
	assert_true(spool_counters(queue_end(w.store, 0))->no_room > 0);
	assert_int_equal(world_count(&w).items_waiting, 5);
	unsigned keeper = world_claim_one(&w, 1, &item);
	queue_release(queue_end(w.store, keeper), item, 0);
	world_stop(&w);
	options.reserve_bytes = 0;
	world_open(&w, &kind, 1);
	assert_int_equal(queue_admit(queue_end(w.store, 0), 2 * FILE_THRESHOLD), ERR_OK);
	world_stop(&w);
}

/* Of a death under durability `memory` all is lost at most that was not written yet; the level is
 * no property of the spool: what is there is read by any. */
static void
levels_of_durability_read_each_other(void **state)
{
	static struct world w;

	(void)state;
	reset();
	for (unsigned i = 0; i < 4; i++) {
		options.durability = i % 2 == 0 ? QUEUE_MEMORY : QUEUE_DISK;
		world_open(&w, &kind, 1 + i % 3);
		assert_int_equal(world_count(&w).mails, i);
		world_put_waiting(&w, 0, i, 2000);
		world_stop(&w);
	}
}

/* ---- what a process that died may have been delivering ---- */

static void
die_after(unsigned workers, void (*work)(struct world *w))
{
	static struct world w;
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		world_open(&w, &kind, workers);
		work(&w);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static uint64_t
doubtful(const struct world *w)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < w->worker_count; i++)
		count += spool_counters(queue_end(w->store, i))->recovered_doubtful;
	return count;
}

static void
expect_doubtful(uint64_t count)
{
	static struct world w;

	world_open(&w, &kind, 2);
	assert_int_equal(doubtful(&w), count);
	world_stop(&w);
}

/* Two recipients that it has in its hands, one that it may have, and four that it can not. */
static void
work_of_a_first_life(struct world *w)
{
	const uint64_t far_ms = UINT64_MAX / 2;
	const uint32_t sites[] = { 2, 2 };
	struct queue_item *item;
	struct list items;

	/* One at a time, so that what is claimed is what was put. */
	world_put_waiting(w, 0, 0, 100);
	world_claim_one(w, 1, &item);
	assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	world_put_waiting(w, 0, 1, 100);
	world_claim_one(w, 1, &item);
	assert_int_equal(world_record(w, item, RECIPIENT_PENDING, far_ms, "451 later"), ERR_OK);
	world_put_waiting(w, 0, 2, 100);
	world_claim_one(w, 1, &item);
	assert_int_equal(world_record(w, item, RECIPIENT_FAILED, 0, "550 no"), ERR_OK);
	world_put_waiting(w, 0, 3, 100);
	assert_int_equal(world_act(w, 0, world_id(3), QUEUE_HOLD), ERR_OK);
	world_put_waiting(w, 0, 4, 100);
	world_claim_one(w, 1, &item);
	assert_int_equal(world_record(w, item, RECIPIENT_PENDING, 1, "451 now"), ERR_OK);
	/* Claimed since its put, both recipients. */
	assert_int_equal(world_put(w, 0, 5, 100, sites, 2, &items), ERR_OK);
}

static void
nothing(struct world *w)
{
	(void)w;
}

static bool attempt_done;

static void
on_attempt(struct queue_attempt *a, enum err e)
{
	(void)a;
	assert_int_equal(e, ERR_OK);
	attempt_done = true;
}

static void
begin_one(struct world *w)
{
	struct queue_attempt a = { .on_done = on_attempt };
	unsigned keeper = world_claim_one(w, 1, &a.item);

	queue_attempt(queue_end(w->store, keeper), &a);
	world_wait(w, &attempt_done);
}

static void
a_death_counts_what_it_may_have_been_delivering(void **state)
{
	(void)state;
	reset();
	expect_doubtful(0); /* a new spool */
	die_after(1, work_of_a_first_life);
	expect_doubtful(3);
	expect_doubtful(0); /* that was an end in order */
	die_after(2, nothing);
	expect_doubtful(0); /* recovered, and no start was recorded */
	die_after(1, begin_one);
	die_after(2, nothing);
	expect_doubtful(0); /* each death is counted at the next start, once */
	die_after(2, begin_one);
	expect_doubtful(1);
}

/* ---- a spool of format 1 ---- */

static uint8_t segment_bytes[4 * 1024 * 1024];

static void
put_crc(uint8_t *at, uint32_t crc)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(crc >> (8 * i));
}

/* A record as version 1 had it: the same bytes, for what version 1 knew. */
static void
make_record_old(uint8_t *at, uint32_t meta_size, uint64_t epoch)
{
	uint8_t seed[8];

	for (unsigned i = 0; i < 8; i++)
		seed[i] = (uint8_t)(epoch >> (8 * i));
	at[13] = 1;
	put_crc(at, crc32c(crc32c(0, seed, sizeof seed), at + 4, meta_size - 4));
}

/* The program died, so no segment has an index. */
static void
make_segment_old(const char *name)
{
	struct segment_head head;
	struct frame frame;
	struct record record;
	int fd = open(name, O_RDWR);
	ssize_t size = read(fd, segment_bytes, sizeof segment_bytes);
	struct span all = span_of(segment_bytes, (size_t)size);

	assert_true(size > SEGMENT_FIRST);
	if (!segment_head_parse(all, &head)) {
		close(fd);
		return; /* never used */
	}
	for (unsigned copy = 0; copy < 2; copy++) {
		uint8_t *at = segment_bytes + copy * SPOOL_BLOCK;
		at[8] = 1;
		put_crc(at + 4, crc32c(0, at + 8, SEGMENT_HEAD_SIZE - 8));
	}
	for (size_t at = SEGMENT_FIRST; at < all.size; at += SPOOL_BLOCK) {
		if (!frame_parse(span_after(all, at), head.epoch, at, &frame))
			continue;
		size_t to = at + frame.size;
		for (size_t r = at + FRAME_SIZE; r < to;) {
			struct span in = span_first(span_after(all, r), to - r);
			assert_true(record_parse(in, head.epoch, true, &record));
			make_record_old(segment_bytes + r, record.meta_size, head.epoch);
			r += record_size(record.meta_size, record.body_size);
		}
	}
	assert_int_equal(pwrite(fd, segment_bytes, (size_t)size, 0), size);
	close(fd);
}

static int
make_file_old(const char *name, const struct stat *s, int type, struct FTW *walk)
{
	char block[SPOOL_BLOCK];

	(void)s;
	if (type == FTW_F && strstr(name, ".seg") != NULL)
		make_segment_old(name);
	if (type == FTW_F && strcmp(name + walk->base, "format") == 0) {
		memset(block, '\n', sizeof block);
		for (size_t at = 0; at < sizeof block; at += 512)
			memcpy(block + at, "ringpost spool 1", 16);
		int fd = open(name, O_RDWR);
		assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
		close(fd);
	}
	return 0;
}

/* Three recipients: delivered, failed, pending until far in the future; and a mail of which all
 * have failed (with another pending one, since else it would be gone). */
static void
work_of_an_old_program(struct world *w)
{
	const uint32_t sites[] = { 1, 2, 3 };
	struct queue_item *item;
	struct list items;
	struct list_node *n;

	assert_int_equal(world_put(w, 0, 1, 100, sites, 3, &items), ERR_OK);
	while ((n = list_shift(&items)) != NULL) {
		item = LIST_ITEM(n, struct queue_item, link);
		uint8_t state = item->site.number == 1   ? RECIPIENT_DELIVERED
				: item->site.number == 2 ? RECIPIENT_FAILED
							 : RECIPIENT_PENDING;
		assert_int_equal(world_record(w, item, state, UINT64_MAX / 2, "550 no"), ERR_OK);
	}
	assert_int_equal(world_count(w).recipients_failed, 1);
}

/* Nobody has told the sender yet of what an older version kept as failed. */
static void
failed_recipients_of_format_1_are_tried_again(void **state)
{
	static struct world w;
	struct queue_item *item;

	(void)state;
	reset();
	die_after(1, work_of_an_old_program);
	assert_int_equal(nftw(path, make_file_old, 16, FTW_PHYS), 0);
	for (unsigned life = 0; life < 3; life++) {
		world_open(&w, &kind, 1 + life);
		assert_string_equal(w.why, "");
		assert_int_equal(world_count(&w).mails, 1);
		assert_int_equal(world_count(&w).recipients_failed, 0);
		unsigned keeper = world_claim_one(&w, 2, &item); /* due now */
		const struct mail_recipient *r = item->mail->envelope->recipients;
		assert_int_equal(r[0].state, RECIPIENT_DELIVERED);
		assert_int_equal(r[1].state, RECIPIENT_PENDING);
		assert_true(span_eq(r[1].reply, SPAN("550 no")));
		assert_int_equal(r[2].state, RECIPIENT_PENDING);
		queue_release(queue_end(w.store, keeper), item, 0);
		world_stop(&w);
	}
	world_open(&w, &kind, 1);
	world_claim_one(&w, 2, &item);
	assert_int_equal(world_record(&w, item, RECIPIENT_FAILED, 0, "550 told"), ERR_OK);
	for (unsigned life = 0; life < 2; life++) { /* and now it is over */
		assert_int_equal(world_count(&w).recipients_failed, 1);
		assert_int_equal(world_count(&w).items, 1);
		world_stop(&w);
		world_open(&w, &kind, 1);
	}
	world_stop(&w);
}

/* ---- outcomes of very many ---- */

enum { MANY = 9000 };

struct many_wait {
	struct queue_put put;
	struct queue_record record;
	bool done;
	enum err error;
};

static void
on_many_put(struct queue_put *p, enum err e)
{
	struct many_wait *wait = CONTAINER_OF(p, struct many_wait, put);

	wait->done = true;
	wait->error = e;
}

static void
on_many_recorded(struct queue_record *r, enum err e)
{
	struct many_wait *wait = CONTAINER_OF(r, struct many_wait, record);

	wait->done = true;
	wait->error = e;
}

/* With their replies they would not fit into one batch: the states do. */
static void
one_record_takes_long_replies_of_many_recipients(void **state)
{
	static struct mail_recipient recipients[MANY];
	static struct queue_result results[MANY];
	static char reply[400];
	static struct world w;
	struct many_wait wait = { .put.on_done = on_many_put, .record.on_done = on_many_recorded };
	struct mail_envelope envelope = { .id = world_id(1),
					  .flags = WORLD_FLAGS,
					  .recipient_count = MANY,
					  .recipients = recipients };

	(void)state;
	reset();
	world_open(&w, &kind, 1);
	struct queue *q = queue_end(w.store, 0);
	memset(reply, 'x', sizeof reply);
	for (uint32_t i = 0; i < MANY; i++) {
		recipients[i] =
			(struct mail_recipient){ .address = SPAN("a@1.example"), .site = { 1 } };
		results[i] = (struct queue_result){ .recipient = i,
						    .state = i == 0 ? RECIPIENT_PENDING
								    : RECIPIENT_FAILED,
						    .tried = true,
						    .reply = span_of(reply, sizeof reply) };
	}
	wait.put.draft = queue_draft_new(q, world_id(1), 0);
	wait.put.envelope = &envelope;
	queue_put(q, &wait.put);
	world_wait(&w, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
	wait.record.item = LIST_ITEM(list_shift(&wait.put.items), struct queue_item, link);
	wait.record.results = results;
	wait.record.result_count = MANY;
	wait.done = false;
	queue_record(q, &wait.record);
	world_wait(&w, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
	for (unsigned life = 0; life < 2; life++) {
		assert_int_equal(world_count(&w).recipients_failed, MANY - 1);
		assert_int_equal(world_count(&w).items_waiting, 1);
		world_stop(&w);
		world_open(&w, &kind, 1);
	}
	world_stop(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_death_counts_what_it_may_have_been_delivering),
		cmocka_unit_test(used_up_memory_refuses_intake_and_heals),
		cmocka_unit_test(a_full_table_of_mails_refuses_intake_and_heals),
		cmocka_unit_test(a_full_table_takes_notices),
		cmocka_unit_test(a_disk_with_nothing_to_spare_keeps_what_it_has),
		cmocka_unit_test(levels_of_durability_read_each_other),
		cmocka_unit_test(failed_recipients_of_format_1_are_tried_again),
		cmocka_unit_test(one_record_takes_long_replies_of_many_recipients),
	};

	if (mkdtemp(path) == NULL)
		return 1;
	reset();
	int failed = queue_suite_lives_run(&kind);
	failed += cmocka_run_group_tests_name("spool, bounds", tests, NULL, NULL);
	reset();
	rmdir(path);
	return failed;
}
