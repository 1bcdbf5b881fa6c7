/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow dns queue core machine */
/*
 * What the flow does with a mail that another node has taken over: over a store that says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/config.h"
#include "core/log.h"
#include "core/metric.h"
#include "queue/driver.h"
#include "relay/flow/bounce.h"
#include "relay/flow/dispatch.h"
#include "relay/flow/flow.h"
#include "relay/flow/job.h"
#include "relay/flow/outcome.h"
#include "relay/message/dsn.h"

enum { RECIPIENTS = 2, DRAFT_ROOM = 64 * 1024, ACCEPTED_MS = 1000000 };

struct draft {
	struct queue_draft draft; /* first */
	size_t size;
	uint8_t bytes[DRAFT_ROOM];
};

static struct {
	struct queue_record *record; /* under way */
	struct queue_attempt *attempt;
	unsigned records;
	unsigned attempts;
	unsigned releases;
	unsigned drafts_open;
} store;

static struct worker worker;
static struct worker *peers[] = { &worker };
static struct metrics counters;
static struct queue queue;
static struct flow *flow;
static struct routing *routing;
static struct destination *destination; /* of the mail; held */
static struct log *logs;
static char log_path[] = "/tmp/ringpost-taken-XXXXXX";

static struct mail_recipient recipients[RECIPIENTS];
static struct mail_envelope envelope;
static struct queue_mail mail;
static struct queue_item item;
static uint32_t indexes[RECIPIENTS] = { 0, 1 };

/* ---- the store ---- */

static struct mail_id
id_beside(struct queue *q, struct mail_id of)
{
	(void)q;
	return (struct mail_id){ of.high, of.low + 1 };
}

static struct queue_draft *
draft_new(struct queue *q, struct mail_id id, uint64_t hint)
{
	struct draft *d = calloc(1, sizeof *d);

	(void)id;
	(void)hint;
	assert_non_null(d);
	d->draft = (struct queue_draft){ QUEUE_DRAFT_MAGIC, q->driver };
	store.drafts_open++;
	return &d->draft;
}

static enum err
draft_append(struct queue_draft *draft, struct span bytes)
{
	struct draft *d = (struct draft *)draft;

	assert_true(d->size + bytes.size <= DRAFT_ROOM);
	memcpy(d->bytes + d->size, bytes.data, bytes.size);
	d->size += bytes.size;
	return ERR_OK;
}

static bool
draft_is_full(const struct queue_draft *d)
{
	(void)d;
	return false;
}

static uint64_t
draft_size(const struct queue_draft *d)
{
	return ((const struct draft *)d)->size;
}

static void
draft_abandon(struct queue_draft *d)
{
	store.drafts_open--;
	free(d);
}

static void
record(struct queue *q, struct queue_record *r)
{
	(void)q;
	assert_null(store.record);
	store.record = r;
	store.records++;
}

static void
attempt(struct queue *q, struct queue_attempt *a)
{
	(void)q;
	assert_null(store.attempt);
	store.attempt = a;
	store.attempts++;
}

static void
release(struct queue *q, struct queue_item *i, uint64_t due_at_ms)
{
	(void)q;
	(void)due_at_ms;
	assert_ptr_equal(i, &item);
	store.releases++;
}

static bool
no(struct queue *q)
{
	(void)q;
	return false;
}

static bool
yes(struct queue *q)
{
	(void)q;
	return true;
}

static const struct queue_driver driver = {
	.name = "taken over",
	.id_beside = id_beside,
	.draft_new = draft_new,
	.draft_append = draft_append,
	.draft_is_full = draft_is_full,
	.draft_size = draft_size,
	.draft_abandon = draft_abandon,
	.record = record,
	.attempt = attempt,
	.release = release,
	.memory_is_tight = no,
	.may_deliver = yes,
};

/* As a store does: the draft of a notice is gone with the record, and so is the item. */
static void
record_ends(enum err e)
{
	struct queue_record *r = store.record;

	assert_non_null(r);
	store.record = NULL;
	if (r->notice != NULL)
		draft_abandon(r->notice->draft);
	r->on_done(r, e);
	if (e == ERR_LOST)
		memset(&item, 0, sizeof item);
}

static void
attempt_ends(enum err e)
{
	struct queue_attempt *a = store.attempt;

	assert_non_null(a);
	store.attempt = NULL;
	a->on_done(a, e);
	if (e == ERR_LOST)
		memset(&item, 0, sizeof item);
}

static void
run(void)
{
	struct list_node *n;

	while ((n = list_shift(&worker.tasks)) != NULL) {
		struct task *t = CONTAINER_OF(n, struct task, node);
		t->on_run(t);
	}
}

/* Whatever is to be tried again comes within this. */
static void
run_for_a_day(void)
{
	for (unsigned i = 0; i < 24 * 60; i++) {
		worker.now_ms += 60000;
		worker.now_wall_ms += 60000;
		timers_run(&worker.timers, worker.now_ms);
		run();
	}
}

/* ---- the relay ---- */

static const char config_text[] = "hostname: relay.example\n"
				  "listeners: [{ address: \"127.0.0.1:25\", role: relay }]\n"
				  "routes: [{ domain: \"*\", to: discard }]\n";

static int
set_up(void **state)
{
	static struct config_errors errors;
	static const struct worker_options options = { .mailbox_places = 64, .buffers_max = 16 };
	uint8_t text[256];
	struct buf why = buf_of(text, sizeof text);
	int error = 0;

	(void)state;
	memset(&store, 0, sizeof store);
	memset(&counters, 0, sizeof counters);
	strcpy(log_path + strlen(log_path) - 6, "XXXXXX");
	int fd = mkstemp(log_path);
	assert_true(fd >= 0);
	close(fd);
	worker_init(&worker, 0, 1, peers, &options);
	worker.now_wall_ms = ACCEPTED_MS;
	worker.metrics = &counters;
	logs = log_new(1, 1 << 20, log_path, &error);
	worker.log = log_ring(logs, 0, &counters);
	queue = (struct queue){ .magic = QUEUE_MAGIC, .driver = &driver, .worker = &worker };
	worker.queue = &queue;
	const struct config *config = config_parse("test", span_of_string(config_text), &errors);
	if (config == NULL)
		fail_msg("%s", errors.lines[0]);
	routing = routing_new(config, NULL, &why);
	config_put(config);
	flow = flow_new(&worker, routing, 1);
	assert_non_null(flow);
	memset(recipients, 0, sizeof recipients);
	recipients[0].address = SPAN("a@b.example");
	recipients[1].address = SPAN("c@b.example");
	envelope = (struct mail_envelope){
		.id = { 1, 2 },
		.accepted_at_ms = ACCEPTED_MS,
		.sender = SPAN("s@t.example"),
		.recipient_count = RECIPIENTS,
		.recipients = recipients,
	};
	mail = (struct queue_mail){ .magic = QUEUE_MAIL_MAGIC,
				    .id = envelope.id,
				    .envelope = &envelope };
	destination = destination_of(flow, routing, recipients[0].address, TLS_NEED_NOTHING);
	destination_hold(destination);
	item = (struct queue_item){
		.magic = QUEUE_ITEM_MAGIC,
		.site = destination->id,
		.mail = &mail,
		.recipient_count = RECIPIENTS,
		.recipients = indexes,
	};
	return 0;
}

/* Whether or not the log was read. */
static void
end_log(void)
{
	if (logs != NULL)
		log_free(logs);
	logs = NULL;
}

static int
tear_down(void **state)
{
	(void)state;
	assert_int_equal(store.drafts_open, 0);
	assert_int_equal(flow->bounces.count, 0);
	destination_release(destination);
	flow_free(flow);
	routing_put(routing);
	end_log();
	unlink(log_path);
	worker_close(&worker);
	return 0;
}

/* How many lines of the log have this text? */
static unsigned
lines_with(const char *text)
{
	char line[4096];
	unsigned count = 0;

	end_log();
	FILE *f = fopen(log_path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL)
		count += strstr(line, text) != NULL;
	fclose(f);
	return count;
}

static void
dispatch(void)
{
	struct list items;

	list_init(&items);
	list_append(&items, &item.link);
	dispatch_items(flow, &items, 0);
}

/* Nothing is recorded again, and nothing is given back. */
static void
is_forgotten(unsigned records)
{
	assert_int_equal(flow->job_count, 0);
	run_for_a_day();
	assert_int_equal(store.records, records);
	assert_int_equal(store.releases, 0);
	assert_int_equal(METRIC_GET(&counters, TAKEN_OVER), 1);
	assert_int_equal(lines_with("\"event\":\"taken_over\""), 1);
}

static void
an_outcome_is_not_recorded_again(void **state)
{
	(void)state;
	dispatch();
	record_ends(ERR_LOST);
	is_forgotten(1);
	/* They were discarded, but that is not known of them now. */
	assert_int_equal(METRIC_GET_LABEL(&counters, RECIPIENTS, LABEL_RESULT_DISCARDED), 0);
	assert_int_equal(lines_with("\"event\":\"delivery\""), 0);
	assert_int_equal(lines_with("\"recipients\":2,\"delivered\":0"), 1);
}

static void
not_after_other_failures_either(void **state)
{
	(void)state;
	dispatch();
	record_ends(ERR_STORAGE);
	assert_int_equal(flow->job_count, 1);
	worker.now_ms += 2000;
	timers_run(&worker.timers, worker.now_ms);
	run();
	assert_int_equal(store.records, 2);
	record_ends(ERR_LOST);
	is_forgotten(2);
}

/* A drain gives up what cannot be written, and releases its item: here there is none. */
static void
a_relay_that_ends_releases_nothing(void **state)
{
	(void)state;
	dispatch();
	flow->cut_off = true;
	record_ends(ERR_LOST);
	is_forgotten(1);
}

static void
a_start_is_not_recorded_again(void **state)
{
	(void)state;
	item.recovered = true;
	item.open_starts = 2;
	dispatch();
	assert_int_equal(store.attempts, 1);
	attempt_ends(ERR_LOST);
	assert_null(flow->suspects.alone);
	is_forgotten(0);
	assert_int_equal(store.attempts, 1);
}

/* Another node has the mail, and the report of the delivery waits in the queue. */
static void
a_report_that_is_kept_is_told(void **state)
{
	(void)state;
	recipients[0].notify = recipients[1].notify = NOTIFY_SUCCESS;
	struct job *j = job_new(flow, &item, destination);
	assert_non_null(j);
	flow->job_count++;
	j->attach_most = DSN_PART_NONE;
	job_resolve_all(j, RECIPIENT_DELIVERED, SPAN("250 2.0.0 taken"));
	outcome_record(j);
	run();
	assert_non_null(store.record->notice);
	assert_true(store.record->tells_deliveries_only);
	store.record->notice_is_kept = true;
	record_ends(ERR_LOST);
	is_forgotten(1);
	assert_int_equal(METRIC_GET_LABEL(&counters, NOTICES, LABEL_ACTION_RELAYED), 2);
	assert_int_equal(lines_with("\"event\":\"notice\""), 1);
	assert_int_equal(lines_with("\"event\":\"delivery\""), 2);
	assert_int_equal(store.drafts_open, 0);
}

/* A relay that ends does not wait for a store that is away: the log is all that knows. */
static void
what_cannot_be_recorded_before_the_end_is_told(void **state)
{
	(void)state;
	struct job *j = job_new(flow, &item, destination);
	assert_non_null(j);
	flow->job_count++;
	job_resolve_all(j, RECIPIENT_DELIVERED, SPAN("250 2.0.0 taken"));
	outcome_record(j);
	run();
	flow->cut_off = true;
	record_ends(ERR_AWAY);
	assert_int_equal(flow->job_count, 0);
	assert_int_equal(store.releases, 1);
	assert_int_equal(lines_with("\"event\":\"outcome_unrecorded\""), 2);
	assert_int_equal(lines_with("\"recipient\":\"a@b.example\",\"result\":\"delivered\""), 1);
	assert_int_equal(
		METRIC_GET_LABEL(&counters, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_OUTCOME_LOST), 2);
}

/* The mail has ended, by these outcomes or by another node's: a delivery is a fact, the rest is
 * not. */
static void
what_may_have_been_recorded_is_told_as_that(void **state)
{
	(void)state;
	struct job *j = job_new(flow, &item, destination);
	assert_non_null(j);
	flow->job_count++;
	recipients[1].notify = NOTIFY_NEVER;
	job_resolve_all(j, RECIPIENT_DELIVERED, SPAN("250 2.0.0 taken"));
	j->results[1].state = RECIPIENT_FAILED;
	j->results[1].reply = SPAN("550 5.1.1 no");
	outcome_record(j);
	run();
	store.record->may_be_kept = true;
	record_ends(ERR_LOST);
	assert_int_equal(flow->job_count, 0);
	assert_int_equal(lines_with("\"event\":\"delivery\""), 1);
	assert_int_equal(lines_with("\"event\":\"outcome_unrecorded\""), 1);
	assert_int_equal(lines_with("\"result\":\"failed\""), 1);
	assert_int_equal(lines_with("\"event\":\"taken_over\""), 0);
	assert_int_equal(METRIC_GET(&counters, TAKEN_OVER), 0);
}

/* What was delivered is told, its report and the failure of the other are not. */
static void
deliveries_are_told(void **state)
{
	(void)state;
	recipients[0].notify = NOTIFY_SUCCESS;
	struct job *j = job_new(flow, &item, destination);
	assert_non_null(j);
	flow->job_count++;
	j->attach_most = DSN_PART_NONE;
	job_resolve_all(j, RECIPIENT_DELIVERED, SPAN("250 2.0.0 taken"));
	j->results[1].state = RECIPIENT_FAILED;
	j->results[1].reply = SPAN("550 5.1.1 no");
	outcome_record(j);
	run();
	assert_non_null(store.record->notice);
	assert_false(store.record->tells_deliveries_only);
	record_ends(ERR_LOST);
	assert_int_equal(METRIC_GET_LABEL(&counters, RECIPIENTS, LABEL_RESULT_DELIVERED), 1);
	assert_int_equal(METRIC_GET_LABEL(&counters, RECIPIENTS, LABEL_RESULT_FAILED), 0);
	assert_int_equal(METRIC_GET_LABEL(&counters, NOTICES, LABEL_ACTION_FAILED), 0);
	is_forgotten(1);
	assert_int_equal(lines_with("\"event\":\"delivery\""), 1);
	assert_int_equal(lines_with("\"recipient\":\"a@b.example\""), 1);
	assert_int_equal(lines_with("\"recipients\":2,\"delivered\":1"), 1);
	assert_int_equal(lines_with("\"event\":\"notice"), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_outcome_is_not_recorded_again),
		TEST(not_after_other_failures_either),
		TEST(a_relay_that_ends_releases_nothing),
		TEST(a_start_is_not_recorded_again),
		TEST(deliveries_are_told),
		TEST(a_report_that_is_kept_is_told),
		TEST(what_cannot_be_recorded_before_the_end_is_told),
		TEST(what_may_have_been_recorded_is_told_as_that),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
