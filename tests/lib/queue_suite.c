/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/queue_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

enum { DEADLINE_MS = 20 * 1000, PIECE = 16 * 1024, RECIPIENTS_MAX = 16 };

static const struct worker_options options = {
	.ring = { .entries = 256, .buffers = { 0, 16 }, .buffer_size = { 0, 16384 } },
	.mailbox_places = 64,
	.buffers_max = 64,
};

/* ---- the world ---- */

/* Added to what an address says: the routes have changed. */
static uint32_t site_shift;

/* "n@SITE.example" */
static struct site_id
site_of(struct queue *q, struct span address, uint32_t flags)
{
	uint64_t number = 0;
	size_t at = span_find(address, '@', 0) + 1;
	size_t dot = span_find(address, '.', at);

	assert_true(queue_worker(q)->queue == q);
	assert_non_null(queue_context(q));
	assert_int_equal(flags, WORLD_FLAGS);
	span_to_u64(span_of(address.data + at, dot - at), &number);
	return (struct site_id){ (uint32_t)number + site_shift };
}

static void
on_due(struct queue *q, struct site_id site)
{
	struct world *w = (struct world *)(void *)queue_worker(q)->flow;

	(void)site;
	w->due++;
}

static uint32_t
weight_of(struct queue *q, struct span sender)
{
	return queue_worker(q) != NULL && span_starts_with(sender, SPAN("heavy")) ? 3 : 1;
}

static void
on_site_unused(struct queue *q, struct site_id site)
{
	struct world *w = queue_context(q);

	assert_true(site.number != 0);
	if (site.number < WORLD_SITES)
		w->unused[site.number]++;
}

bool
world_try_open(struct world *w, const struct queue_suite_store *kind, unsigned worker_count)
{
	const struct queue_hooks hooks = { .site_of = site_of,
					   .on_due = on_due,
					   .on_site_unused = on_site_unused,
					   .weight_of = weight_of,
					   .context = w };
	struct buf why = buf_of(w->why, sizeof w->why - 1);

	memset(w->why, 0, sizeof w->why);
	w->kind = kind;
	w->worker_count = worker_count;
	w->stopped = w->due = 0;
	memset(w->unused, 0, sizeof w->unused);
	for (unsigned i = 0; i < worker_count; i++) {
		w->peers[i] = &w->workers[i];
		worker_init(&w->workers[i], i, worker_count, w->peers, &options);
		w->workers[i].flow = (struct flow *)(void *)w;
		if (!worker_open(&w->workers[i], &options, &why))
			fail_msg("%s", w->why);
	}
	w->store = kind->open(w->peers, worker_count, &hooks, &why);
	for (unsigned i = 0; i < worker_count; i++) {
		if (w->store == NULL)
			worker_close(&w->workers[i]);
		else
			queue_start(queue_end(w->store, i));
	}
	for (unsigned i = 0; w->store != NULL && i < worker_count; i++) {
		uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
		while (queue_admit(queue_end(w->store, i), 0) == ERR_AWAY) {
			world_turn(w);
			if (clock_monotonic_ms() > end_ms)
				fail_msg("waited in vain");
		}
	}
	return w->store != NULL;
}

void
world_open(struct world *w, const struct queue_suite_store *kind, unsigned worker_count)
{
	if (!world_try_open(w, kind, worker_count))
		fail_msg("%s", w->why);
}

void
world_turn(struct world *w)
{
	for (unsigned i = 0; i < w->worker_count; i++)
		worker_turn(&w->workers[i], w->worker_count == 1 ? 1000 : 200);
}

void
world_wait(struct world *w, const bool *flag)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;

	while (!*flag) {
		world_turn(w);
		if (clock_monotonic_ms() > end_ms)
			fail_msg("waited in vain");
	}
}

static void
on_stopped(struct queue *q, void *context)
{
	(void)q;
	((struct world *)context)->stopped++;
}

void
world_stop(struct world *w)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;

	for (unsigned i = 0; i < w->worker_count; i++)
		queue_stop(queue_end(w->store, i), on_stopped, w);
	while (w->stopped < w->worker_count) {
		world_turn(w);
		if (clock_monotonic_ms() > end_ms)
			fail_msg("stopping does not end");
	}
	queue_close(w->store);
	for (unsigned i = 0; i < w->worker_count; i++)
		worker_close(&w->workers[i]);
}

/* ---- mails ---- */

struct mail_id
world_id(unsigned number)
{
	/* As well spread as those of mails. */
	return (struct mail_id){ (number + 1) * 0xbf58476d1ce4e5b9U, number * 0x9e3779b97f4a7c15U };
}

static uint8_t
body_byte(unsigned number, uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 9) + number * 7);
}

struct put_wait {
	struct queue_put put;
	struct task resume;
	bool done;
	bool room;
	enum err error;
};

static void
on_put(struct queue_put *p, enum err e)
{
	struct put_wait *wait = CONTAINER_OF(p, struct put_wait, put);

	wait->done = true;
	wait->error = e;
}

static void
on_draft_room(struct task *t)
{
	CONTAINER_OF(t, struct put_wait, resume)->room = true;
}

static void
feed(struct world *w, struct put_wait *wait, unsigned number, uint64_t size)
{
	uint8_t bytes[5000];

	for (uint64_t at = 0; at < size;) {
		size_t n = size - at < sizeof bytes ? (size_t)(size - at) : sizeof bytes;
		for (size_t i = 0; i < n; i++)
			bytes[i] = body_byte(number, at + i);
		if (queue_draft_is_full(wait->put.draft)) {
			wait->room = false;
			task_init(&wait->resume, on_draft_room);
			queue_draft_on_room(wait->put.draft, &wait->resume);
			assert_false(wait->room); /* never inside the call */
			world_wait(w, &wait->room);
		}
		assert_int_equal(queue_draft_append(wait->put.draft, span_of(bytes, n)), ERR_OK);
		at += n;
	}
	assert_int_equal(queue_draft_size(wait->put.draft), size);
}

const char *world_sender;

/* An envelope with its texts. */
struct texts {
	struct mail_envelope envelope;
	struct mail_recipient recipients[RECIPIENTS_MAX];
	char addresses[RECIPIENTS_MAX][32];
	char sender[32];
};

static void
write_texts(struct texts *t, unsigned number, const uint32_t *sites, uint32_t recipient_count)
{
	memset(t, 0, sizeof *t);
	if (world_sender == NULL)
		snprintf(t->sender, sizeof t->sender, "from%u@example.org", number);
	else
		snprintf(t->sender, sizeof t->sender, "%s", world_sender);
	for (uint32_t i = 0; i < recipient_count; i++) {
		snprintf(t->addresses[i], sizeof t->addresses[i], "to%u@%u.example", i, sites[i]);
		t->recipients[i].address = span_of_string(t->addresses[i]);
		t->recipients[i].site.number = sites[i];
		t->recipients[i].notify = (uint8_t)i;
	}
	t->envelope = (struct mail_envelope){
		.id = world_id(number),
		.accepted_at_ms = (WORLD_FIRST + number) * (uint64_t)WORLD_PAUSE_MS,
		.flags = WORLD_FLAGS,
		.sender = span_of_string(t->sender),
		.client = SPAN("192.0.2.1"),
		.recipient_count = recipient_count,
		.recipients = t->recipients,
	};
}

enum err
world_put(struct world *w, unsigned worker, unsigned number, uint64_t body_size,
	  const uint32_t *sites, uint32_t recipient_count, struct list *items)
{
	struct queue *q = queue_end(w->store, worker);
	struct put_wait wait = { .put.on_done = on_put };
	struct texts texts;

	write_texts(&texts, number, sites, recipient_count);
	wait.put.draft = queue_draft_new(q, world_id(number), 0);
	assert_non_null(wait.put.draft);
	feed(w, &wait, number, body_size);
	wait.put.envelope = &texts.envelope;
	queue_put(q, &wait.put);
	assert_false(wait.done);
	world_wait(w, &wait.done);
	list_init(items);
	if (wait.error == ERR_OK)
		list_take_all(items, &wait.put.items);
	return wait.error;
}

static struct queue_item *
shift_item(struct list *items)
{
	struct list_node *n = list_shift(items);

	return n == NULL ? NULL : LIST_ITEM(n, struct queue_item, link);
}

void
world_put_waiting(struct world *w, unsigned worker, unsigned number, uint64_t body_size)
{
	const uint32_t site = 1;
	struct list items;
	struct queue_item *i;

	assert_int_equal(world_put(w, worker, number, body_size, &site, 1, &items), ERR_OK);
	while ((i = shift_item(&items)) != NULL)
		queue_release(queue_end(w->store, worker), i, 0);
}

struct claim_wait {
	struct queue_claim claim;
	bool done;
	enum err error;
};

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct claim_wait *wait = CONTAINER_OF(c, struct claim_wait, claim);

	wait->done = true;
	wait->error = e;
}

size_t
world_claim(struct world *w, unsigned worker, uint32_t site, uint32_t most, struct list *items,
	    enum err *error)
{
	struct claim_wait wait = {
		.claim = { .site = { site }, .most = most, .on_done = on_claimed }
	};
	size_t count = 0;

	world_turn(w); /* "now" is the time of a turn */
	queue_claim(queue_end(w->store, worker), &wait.claim);
	assert_false(wait.done);
	world_wait(w, &wait.done);
	list_init(items);
	list_take_all(items, &wait.claim.items);
	for (struct list_node *n = list_first(items); n != NULL; n = list_next(items, n))
		count++;
	*error = wait.error;
	return count;
}

unsigned
world_claim_one(struct world *w, uint32_t site, struct queue_item **item)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	struct list items;
	enum err error;

	while (clock_monotonic_ms() < end_ms) {
		for (unsigned i = 0; i < w->worker_count; i++) {
			if (world_claim(w, i, site, 1, &items, &error) == 0)
				continue;
			*item = shift_item(&items);
			return i;
		}
	}
	fail_msg("nothing comes for site %u", site);
	return 0;
}

struct record_wait {
	struct queue_record record;
	bool done;
	enum err error;
};

static void
on_recorded(struct queue_record *r, enum err e)
{
	struct record_wait *wait = CONTAINER_OF(r, struct record_wait, record);

	wait->done = true;
	wait->error = e;
}

enum err
world_record(struct world *w, struct queue_item *item, uint8_t state, uint64_t retry_at_ms,
	     const char *reply)
{
	struct record_wait wait = { .record = { .item = item, .on_done = on_recorded } };
	struct queue_result results[RECIPIENTS_MAX];
	uint32_t count = 0;

	for (; count < item->recipient_count; count++) {
		results[count] = (struct queue_result){ .recipient = item->recipients[count],
							.state = state,
							.tried = true,
							.retry_at_ms = retry_at_ms,
							.reply = span_of_string(reply) };
	}
	wait.record.results = results;
	wait.record.result_count = count;
	queue_record(queue_end(w->store, item->mail->worker), &wait.record);
	assert_false(wait.done);
	world_wait(w, &wait.done);
	return wait.error;
}

enum err
world_record_notice(struct world *w, struct queue_item *item, const struct queue_result *results,
		    uint32_t count, const struct world_notice *notice, struct list *items)
{
	struct queue *q = queue_end(w->store, item->mail->worker);
	struct put_wait put = { .put.on_done = NULL }; /* is not called */
	struct record_wait wait = { .record = { .item = item,
						.results = results,
						.result_count = count,
						.notice = &put.put,
						.on_done = on_recorded } };
	struct texts texts;

	write_texts(&texts, notice->number, &notice->site, 1);
	texts.envelope.id = queue_id_beside(q, item->mail->id);
	put.put.draft = queue_draft_new_beside(q, item->mail, texts.envelope.id, 0);
	assert_non_null(put.put.draft);
	feed(w, &put, notice->number, notice->body_size);
	put.put.envelope = &texts.envelope;
	if (notice->meanwhile != NULL)
		notice->meanwhile(w);
	queue_record(q, &wait.record);
	assert_false(wait.done);
	world_wait(w, &wait.done);
	list_init(items);
	if (wait.error == ERR_OK)
		list_take_all(items, &put.put.items);
	return wait.error;
}

struct act_wait {
	struct queue_act act;
	bool done;
	enum err error;
};

static void
on_acted(struct queue_act *a, enum err e)
{
	struct act_wait *wait = CONTAINER_OF(a, struct act_wait, act);

	wait->done = true;
	wait->error = e;
}

enum err
world_act(struct world *w, unsigned worker, struct mail_id id, enum queue_action action)
{
	struct act_wait wait = { .act = { .action = action,
					  .id = id,
					  .who = SPAN("somebody"),
					  .why = SPAN("a test"),
					  .on_done = on_acted } };

	queue_act(queue_end(w->store, worker), &wait.act);
	assert_false(wait.done);
	world_wait(w, &wait.done);
	return wait.error;
}

enum err
world_act_soon(struct world *w, unsigned worker, struct mail_id id, enum queue_action action)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	enum err error = world_act(w, worker, id, action);

	while (error == ERR_AGAIN && clock_monotonic_ms() < end_ms) {
		world_turn(w);
		error = world_act(w, worker, id, action);
	}
	return error;
}

struct load_wait {
	struct queue_load load;
	bool done;
	enum err error;
};

static void
on_loaded(struct queue_load *l, enum err e)
{
	struct load_wait *wait = CONTAINER_OF(l, struct load_wait, load);

	wait->done = true;
	wait->error = e;
}

bool
world_body_is(struct world *w, unsigned reader, const struct queue_item *item, unsigned number,
	      enum err *error)
{
	struct load_wait wait = { .load = { .mail = item->mail, .on_done = on_loaded } };
	bool same = true;

	wait.load.memory = aligned_alloc(4096, PIECE);
	wait.load.capacity = PIECE;
	for (;;) {
		wait.done = false;
		queue_load(queue_end(w->store, reader), &wait.load);
		assert_false(wait.done);
		world_wait(w, &wait.done);
		if (wait.error != ERR_OK || wait.load.bytes.size == 0)
			break;
		for (size_t i = 0; i < wait.load.bytes.size; i++)
			same = same &&
			       wait.load.bytes.data[i] == body_byte(number, wait.load.offset + i);
		wait.load.offset += wait.load.bytes.size;
	}
	*error = wait.error;
	free(wait.load.memory);
	return same && wait.error == ERR_OK && wait.load.offset == item->mail->envelope->body_size;
}

struct queue_numbers
world_count(struct world *w)
{
	struct queue_numbers sum = { 0 };

	for (unsigned i = 0; i < w->worker_count; i++) {
		struct queue_numbers n;
		queue_count(queue_end(w->store, i), &n);
		sum.mails += n.mails;
		sum.items += n.items;
		sum.items_waiting += n.items_waiting;
		sum.items_claimed += n.items_claimed;
		sum.items_held += n.items_held;
		sum.recipients_failed += n.recipients_failed;
	}
	return sum;
}

void
world_list(struct world *w, struct queue_filter f,
	   bool (*on_row)(void *context, const struct queue_row *row), void *context)
{
	for (unsigned i = 0; i < w->worker_count; i++) {
		uint64_t cursor = 0;
		/* Of a shared store rows may be on their way. */
		while (queue_list(queue_end(w->store, i), &f, &cursor, 200, on_row, context)) {
			if (w->kind->is_shared)
				world_turn(w);
		}
	}
}

static bool
count_row(void *context, const struct queue_row *row)
{
	(void)row;
	++*(unsigned *)context;
	return true;
}

bool
world_is_time(const struct world *w, uint64_t is_ms, uint64_t ms)
{
	uint64_t slack_ms = w->kind->is_shared ? WORLD_PAUSE_MS / 2 : 0;

	return is_ms >= ms - slack_ms && is_ms <= ms + slack_ms;
}

void
world_settle(struct world *w, unsigned kept)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	unsigned rows = UINT32_MAX;

	while (w->kind->is_shared && rows != kept) {
		rows = 0;
		world_list(w, (struct queue_filter){ .kept_here = true }, count_row, &rows);
		world_turn(w);
		if (clock_monotonic_ms() > end_ms)
			fail_msg("%u items stay here", rows);
	}
}

void
world_expect_number(struct world *w, size_t offset, const char *name, uint64_t number)
{
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	bool is_late = !w->kind->is_shared;

	for (;;) {
		struct queue_numbers n = world_count(w);
		uint64_t is;
		memcpy(&is, (const uint8_t *)&n + offset, sizeof is);
		if (is == number)
			break;
		if (is_late)
			fail_msg("%s: %llu, not %llu", name, (unsigned long long)is,
				 (unsigned long long)number);
		world_turn(w);
		is_late = clock_monotonic_ms() >= end_ms;
	}
	/* That nothing was counted yet does not say that nothing is there. */
	unsigned rows = 0;
	if (w->kind->is_shared && number == 0 && offset == offsetof(struct queue_numbers, mails))
		world_list(w, (struct queue_filter){ 0 }, count_row, &rows);
	assert_int_equal(rows, 0);
}

/* ---- the tests ---- */

/* Nobody is to think that an item killed its worker which was given back in good order. */
static bool
recovers(void **state)
{
	return !((const struct queue_suite_store *)*state)->is_shared;
}

static struct world *
open_empty(void **state, unsigned worker_count)
{
	static struct world w;
	const struct queue_suite_store *kind = *state;

	kind->reset();
	world_open(&w, kind, worker_count);
	return &w;
}

static void
a_put_is_claimed_by_who_put(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t sites[] = { 1, 2, 1 };
	struct list items;
	enum err error;

	assert_int_equal(world_put(w, 0, 1, 3000, sites, 3, &items), ERR_OK);
	struct queue_item *a = shift_item(&items);
	struct queue_item *b = shift_item(&items);
	assert_non_null(a);
	assert_non_null(b);
	assert_null(shift_item(&items));
	struct queue_item *one = a->site.number == 1 ? a : b;
	assert_int_equal(one->recipient_count, 2);
	assert_int_equal(queue_item_recipient(one, 0), 0);
	assert_int_equal(queue_item_recipient(one, 1), 2);
	assert_int_equal(queue_item_recipient(one, 3), 3);
	assert_non_null(one->mail->body); /* the fast path */
	assert_true(world_body_is(w, 0, one, 1, &error));
	world_expect(w, items_claimed, 2);
	assert_int_equal(world_record(w, a, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	world_expect(w, mails, 1);
	assert_int_equal(world_record(w, b, RECIPIENT_DELIVERED, 0, "250 ok"), ERR_OK);
	world_expect(w, mails, 0);
	world_stop(w);
}

static void
a_retry_comes_at_its_time_with_its_reply(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t site = 1;
	struct queue_item *item;
	struct list items;

	assert_int_equal(world_put(w, 0, 1, 100, &site, 1, &items), ERR_OK);
	uint64_t at_ms = clock_wall_ms() + 60;
	assert_int_equal(world_record(w, shift_item(&items), RECIPIENT_PENDING, at_ms, "451 later"),
			 ERR_OK);
	world_expect(w, items_waiting, 1);
	unsigned told = w->due;
	world_claim_one(w, 1, &item);
	assert_true(clock_wall_ms() >= at_ms);
	assert_true(w->due >= told);
	const struct mail_recipient *r = &item->mail->envelope->recipients[0];
	assert_int_equal(r->attempts, 1);
	assert_true(span_eq(r->reply, SPAN("451 later")));
	assert_true(span_eq(r->address, SPAN("to0@1.example")));
	assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	world_stop(w);
}

static void
due_is_told_once_until_a_claim_finds_the_end(void **state)
{
	struct world *w = open_empty(state, 1);
	struct list items;
	enum err error;

	world_put_waiting(w, 0, 1, 10);
	world_put_waiting(w, 0, 2, 10);
	uint64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
	while (w->due == 0 && clock_monotonic_ms() < end_ms)
		world_turn(w);
	assert_int_equal(w->due, 1);
	assert_int_equal(world_claim(w, 0, 1, 1, &items, &error), 1);
	struct queue_item *first = shift_item(&items);
	for (int i = 0; i < 10; i++)
		world_turn(w);
	assert_int_equal(w->due, 1); /* there may be more: the claimer knows */
	assert_int_equal(world_claim(w, 0, 1, 9, &items, &error), 1);
	struct queue_item *second = shift_item(&items);
	queue_release(queue_end(w->store, 0), first, 0);
	while (w->due < 2 && clock_monotonic_ms() < end_ms)
		world_turn(w);
	assert_int_equal(w->due, 2);
	queue_release(queue_end(w->store, 0), second, 0);
	world_stop(w);
}

static void
bodies_of_all_sizes_come_back(void **state)
{
	const struct queue_suite_store *kind = *state;
	const uint64_t sizes[] = { 0,
				   1,
				   4095,
				   4096,
				   4097,
				   65536,
				   kind->file_threshold,
				   kind->file_threshold + 1,
				   kind->file_threshold * 5 + 3 };
	struct world *w = open_empty(state, 2);

	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		world_put_waiting(w, i % 2, i, sizes[i]);
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct queue_item *item;
		enum err error;
		unsigned worker = world_claim_one(w, 1, &item);
		unsigned number = world_number(item->mail->envelope->accepted_at_ms);
		assert_int_equal(item->mail->worker, worker);
		assert_int_equal(item->mail->envelope->body_size, sizes[number]);
		/* By the other worker: bodies are read through anybody's end. */
		assert_true(world_body_is(w, 1 - worker, item, number, &error));
		assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	}
	world_expect(w, mails, 0);
	world_stop(w);
}

static void
abandoned_drafts_leave_nothing(void **state)
{
	const struct queue_suite_store *kind = *state;
	struct world *w = open_empty(state, 1);
	uint8_t bytes[4096] = { 1 };

	for (unsigned i = 0; i < 2; i++) {
		struct queue_draft *d = queue_draft_new(queue_end(w->store, 0), world_id(i), 0);
		uint64_t size = i == 0 ? 100 : kind->file_threshold + 100000;
		for (uint64_t at = 0; at < size; at += sizeof bytes)
			assert_int_equal(queue_draft_append(d, span_of(bytes, sizeof bytes)),
					 ERR_OK);
		queue_draft_abandon(d);
	}
	world_stop(w);
	world_open(w, kind, 1);
	world_expect(w, mails, 0);
	world_stop(w);
}

static void
a_full_draft_asks_to_wait(void **state)
{
	const struct queue_suite_store *kind = *state;
	struct world *w = open_empty(state, 1);
	struct queue_draft *d = queue_draft_new(queue_end(w->store, 0), world_id(1), 0);
	uint8_t bytes[32768] = { 2 };
	unsigned appended = 0;

	/* Nothing is written while no turn runs. */
	while (!queue_draft_is_full(d) && appended < 1000) {
		assert_int_equal(queue_draft_append(d, span_of(bytes, sizeof bytes)), ERR_OK);
		appended++;
	}
	assert_true(appended < 1000);
	assert_true(appended * sizeof bytes >= kind->file_threshold);
	queue_draft_abandon(d);
	world_stop(w);
}

static void
held_mails_wait_for_their_operator(void **state)
{
	struct world *w = open_empty(state, 1);
	struct queue_item *item;
	struct list items;
	enum err error;

	world_put_waiting(w, 0, 1, 100);
	assert_int_equal(world_act_soon(w, 0, world_id(99), QUEUE_HOLD),
			 queue_suite_nowhere(w->kind));
	assert_int_equal(world_act_soon(w, 0, world_id(1), QUEUE_HOLD), ERR_OK);
	world_expect(w, items_held, 1);
	assert_int_equal(world_claim(w, 0, 1, 9, &items, &error), 0);
	world_stop(w);
	world_open(w, *state, 2);
	world_expect(w, items_held, 1);
	unsigned keeper = world_act_soon(w, 0, world_id(1), QUEUE_UNHOLD) == ERR_OK ? 0 : 1;
	if (keeper == 1)
		assert_int_equal(world_act_soon(w, 1, world_id(1), QUEUE_UNHOLD), ERR_OK);
	assert_int_equal(world_claim_one(w, 1, &item), keeper);
	assert_int_equal(world_act(w, keeper, world_id(1), QUEUE_REMOVE), ERR_AGAIN);
	queue_release(queue_end(w->store, keeper), item, (uint64_t)1 << 43);
	assert_int_equal(world_act_soon(w, keeper, world_id(1), QUEUE_REQUEUE), ERR_OK);
	world_claim_one(w, 1, &item);
	queue_release(queue_end(w->store, keeper), item, 0);
	assert_int_equal(world_act_soon(w, keeper, world_id(1), QUEUE_REMOVE), ERR_OK);
	world_expect(w, mails, 0);
	world_stop(w);
	world_open(w, *state, 1);
	world_expect(w, mails, 0);
	world_stop(w);
}

static void
state_survives_with_any_number_of_workers(void **state)
{
	static const unsigned counts[] = { 3, 1, 4, 2 };
	struct world *w = open_empty(state, 2);
	const uint32_t sites[] = { 1, 2, 3 };
	struct list items;
	struct queue_item *item;

	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(world_put(w, i % 2, i, 500, sites, 3, &items), ERR_OK);
		while ((item = shift_item(&items)) != NULL) {
			if (item->site.number == 1)
				assert_int_equal(world_record(w, item, RECIPIENT_DELIVERED, 0, ""),
						 ERR_OK);
			else if (item->site.number == 2)
				assert_int_equal(
					world_record(w, item, RECIPIENT_PENDING, 1, "450 wait"),
					ERR_OK);
			else
				assert_int_equal(
					world_record(w, item, RECIPIENT_FAILED, 0, "550 no"),
					ERR_OK);
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		world_stop(w);
		world_open(w, *state, counts[i]);
		world_expect(w, mails, 20);
		world_expect(w, items_waiting, 20);
		world_expect(w, recipients_failed, 20);
		world_claim_one(w, 2, &item);
		const struct mail_recipient *r = item->mail->envelope->recipients;
		assert_int_equal(item->recipient_count, 1);
		assert_int_equal(item->recipients[0], 1);
		assert_int_equal(r[0].state, RECIPIENT_DELIVERED);
		assert_int_equal(r[2].state, RECIPIENT_FAILED);
		assert_int_equal(r[1].attempts, 1);
		assert_int_equal(r[1].notify, 1);
		assert_int_equal(item->recovered, recovers(state));
		assert_true(span_eq(r[1].reply, SPAN("450 wait")));
		assert_true(span_eq(r[2].reply, SPAN("550 no")));
		assert_true(span_eq(item->mail->envelope->client, SPAN("192.0.2.1")));
		queue_release(queue_end(w->store, item->mail->worker), item, 0);
	}
	world_stop(w);
}

static void
rerouted_items_go_where_site_of_says(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t sites[] = { 1, 2, 1 };
	struct list items;
	enum err error;

	assert_int_equal(world_put(w, 0, 1, 10, sites, 3, &items), ERR_OK);
	struct queue_item *a = shift_item(&items);
	struct queue_item *b = shift_item(&items);
	struct queue_item *one = a->site.number == 1 ? a : b;
	struct queue_item *two = one == a ? b : a;
	site_shift = 10;
	queue_reroute(queue_end(w->store, 0), one);
	site_shift = 0;
	world_expect(w, items_waiting, 1);
	assert_int_equal(world_claim(w, 0, 1, 5, &items, &error), 0);
	assert_int_equal(world_claim(w, 0, 11, 5, &items, &error), 1);
	one = shift_item(&items);
	assert_int_equal(one->recipient_count, 2);
	assert_int_equal(one->mail->envelope->recipients[2].site.number, 11);
	/* Here nothing has changed. */
	queue_reroute(queue_end(w->store, 0), two);
	assert_int_equal(world_claim(w, 0, 2, 5, &items, &error), 1);
	queue_release(queue_end(w->store, 0), shift_item(&items), 0);
	queue_release(queue_end(w->store, 0), one, 0);
	world_stop(w);
}

/* Recipients of one item may go different ways, and meet those of another one. */
static void
a_rerouted_item_may_come_apart(void **state)
{
	struct world *w = open_empty(state, 1);
	const uint32_t sites[] = { 1, 2, 1 };
	struct list items;
	enum err error;

	assert_int_equal(world_put(w, 0, 1, 10, sites, 3, &items), ERR_OK);
	struct queue_item *a = shift_item(&items);
	struct queue_item *b = shift_item(&items);
	struct queue_item *one = a->site.number == 1 ? a : b;
	struct queue_item *two = one == a ? b : a;
	site_shift = 1;
	queue_reroute(queue_end(w->store, 0), one); /* to 2, whose item is claimed */
	site_shift = 0;
	assert_int_equal(two->recipient_count, 1);
	assert_int_equal(world_claim(w, 0, 1, 5, &items, &error), 0);
	assert_int_equal(world_record(w, two, RECIPIENT_DELIVERED, 0, ""), ERR_OK);
	assert_int_equal(world_claim(w, 0, 2, 5, &items, &error), 1);
	two = shift_item(&items);
	assert_int_equal(two->recipient_count, 2);
	/* Now 1 comes to where 0 and 2 are claimed, and these go on without it. */
	assert_int_equal(world_put(w, 0, 2, 10, &sites[1], 2, &items), ERR_OK);
	a = shift_item(&items);
	b = shift_item(&items);
	one = a->site.number == 1 ? a : b;
	two = one == a ? b : a;
	site_shift = 1;
	queue_reroute(queue_end(w->store, 0), one);
	site_shift = 10;
	queue_reroute(queue_end(w->store, 0), two);
	site_shift = 0;
	assert_int_equal(world_claim(w, 0, 2, 5, &items, &error), 1);
	assert_int_equal(world_claim(w, 0, 12, 5, &items, &error), 1);
	world_stop(w);
}

static void
a_stopped_queue_takes_nothing_new(void **state)
{
	struct world *w = open_empty(state, 1);
	struct queue *q = queue_end(w->store, 0);
	struct list items;
	enum err error;

	world_put_waiting(w, 0, 1, 10);
	queue_stop(q, on_stopped, w);
	assert_int_equal(queue_admit(q, 0), ERR_SHUTTING_DOWN);
	assert_null(queue_draft_new(q, world_id(2), 0));
	assert_int_equal(world_claim(w, 0, 1, 5, &items, &error), 0);
	assert_int_equal(error, ERR_SHUTTING_DOWN);
	while (w->stopped == 0)
		world_turn(w);
	queue_close(w->store);
	worker_close(&w->workers[0]);
}

static void
many_at_once_are_all_kept(void **state)
{
	enum { COUNT = 300 };
	struct world *w = open_empty(state, 2);
	static struct put_wait waits[COUNT];
	static struct mail_envelope envelopes[COUNT];
	static struct mail_recipient recipient;
	unsigned done = 0;

	recipient = (struct mail_recipient){ .address = SPAN("a@1.example"), .site = { 1 } };
	for (unsigned i = 0; i < COUNT; i++) {
		struct queue *q = queue_end(w->store, i % 2);
		waits[i] = (struct put_wait){ .put.on_done = on_put };
		envelopes[i] = (struct mail_envelope){ .id = world_id(i),
						       .flags = WORLD_FLAGS,
						       .recipient_count = 1,
						       .recipients = &recipient };
		waits[i].put.draft = queue_draft_new(q, world_id(i), 0);
		waits[i].put.envelope = &envelopes[i];
		feed(w, &waits[i], i, 700);
		queue_put(q, &waits[i].put);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		struct queue_item *item;
		world_wait(w, &waits[i].done);
		assert_int_equal(waits[i].error, ERR_OK);
		while ((item = shift_item(&waits[i].put.items)) != NULL)
			queue_release(queue_end(w->store, i % 2), item, 0);
		done++;
	}
	assert_int_equal(done, COUNT);
	world_stop(w);
	world_open(w, *state, 3);
	world_expect(w, items_waiting, COUNT);
	world_stop(w);
}

int
queue_suite_run(const struct queue_suite_store *kind)
{
#define TEST(f) cmocka_unit_test_prestate(f, (void *)(uintptr_t)kind)
	const struct CMUnitTest tests[] = {
		TEST(a_put_is_claimed_by_who_put),
		TEST(a_retry_comes_at_its_time_with_its_reply),
		TEST(due_is_told_once_until_a_claim_finds_the_end),
		TEST(bodies_of_all_sizes_come_back),
		TEST(abandoned_drafts_leave_nothing),
		TEST(a_full_draft_asks_to_wait),
		TEST(held_mails_wait_for_their_operator),
		TEST(state_survives_with_any_number_of_workers),
		TEST(rerouted_items_go_where_site_of_says),
		TEST(a_rerouted_item_may_come_apart),
		TEST(a_stopped_queue_takes_nothing_new),
		TEST(many_at_once_are_all_kept),
	};
#undef TEST
	return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}
