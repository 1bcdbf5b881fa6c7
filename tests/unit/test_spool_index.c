/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses queue_suite queue core machine */
/* A segment that ends right behind an index: the room that was kept for its last index was given to
 * one before it, and the last one was written past the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/queue.h"
#include "tests/lib/queue_suite.h"

enum { BULK = 256 * 1024, BULKS = 12, ADDRESS = 4096, RECIPIENTS = 124, STEP = 2048 };

static char folder[] = "/var/tmp/ringpost-test-index-XXXXXX";
static char path[128];

static void
reset(void)
{
}

static struct queue_store *
open_spool(struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	   struct buf *why)
{
	const struct queue_options options = {
		.spool_path = path,
		.segment_size = 4 * 1024 * 1024,
	};
	return queue_open(&options, workers, worker_count, hooks, why);
}

static const struct queue_suite_store kind = {
	.name = "spool", .reset = reset, .open = open_spool, .file_threshold = BULK
};

struct wait {
	struct queue_put put;
	bool done;
	enum err error;
};

static void
on_put(struct queue_put *p, enum err e)
{
	struct wait *wait = CONTAINER_OF(p, struct wait, put);

	wait->done = true;
	wait->error = e;
}

/* A mail without a body, whose envelope takes about `size` bytes. */
static void
put_envelope(struct world *w, unsigned number, size_t size)
{
	static struct mail_recipient recipients[RECIPIENTS];
	static char address[ADDRESS + STEP];
	struct queue *q = queue_end(w->store, 0);
	struct wait wait = { .put.on_done = on_put };
	const struct mail_envelope envelope = { .id = world_id(number),
						.flags = WORLD_FLAGS,
						.recipient_count = RECIPIENTS,
						.recipients = recipients };

	memset(address, 'a', sizeof address);
	memcpy(address, "a@1.", 4);
	for (unsigned i = 0; i < RECIPIENTS; i++) {
		size_t own = size / (RECIPIENTS - i);
		recipients[i] = (struct mail_recipient){ .address = span_of(address, own - 23),
							 .site = { 1 } };
		size -= own;
	}
	wait.put.draft = queue_draft_new(q, envelope.id, 0);
	wait.put.envelope = &envelope;
	queue_put(q, &wait.put);
	world_wait(w, &wait.done);
	assert_int_equal(wait.error, ERR_OK);
	while (!list_is_empty(&wait.put.items)) {
		struct list_node *n = list_shift(&wait.put.items);
		queue_release(q, LIST_ITEM(n, struct queue_item, link), 0);
	}
}

/* The segment's last blocks are used up to each possible one. */
static void
a_segment_may_end_at_any_block(void **state)
{
	static struct world w;

	(void)state;
	for (unsigned step = 0; step < 64; step++) {
		snprintf(path, sizeof path, "%s/%u", folder, step);
		assert_int_equal(mkdir(path, 0700), 0);
		world_open(&w, &kind, 1);
		for (unsigned i = 0; i < BULKS; i++)
			world_put_waiting(&w, 0, i, BULK);
		put_envelope(&w, 100, (size_t)(430 * 1024) + step * STEP);
		world_put_waiting(&w, 0, 101, BULK); /* belongs to the next one */
		world_stop(&w);
		world_open(&w, &kind, 1);
		assert_string_equal(w.why, "");
		assert_int_equal(world_count(&w).mails, BULKS + 2);
		world_stop(&w);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_segment_may_end_at_any_block) };
	char command[160];

	if (mkdtemp(folder) == NULL)
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) != 0 ? 1 : failed;
}
