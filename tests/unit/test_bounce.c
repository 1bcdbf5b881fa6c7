/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses flow dns queue core machine */
/*
 * Which outcomes are reported, and that a report is made whatever the store says: over a store that
 * keeps drafts in memory and fails where it is told to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/log.h"
#include "core/metric.h"
#include "queue/driver.h"
#include "relay/flow/bounce.h"
#include "relay/flow/flow.h"
#include "relay/flow/job.h"
#include "relay/message/dsn.h"

enum { RECIPIENTS = 4, DRAFT_ROOM = 256 * 1024, ACCEPTED_MS = 1000000 };

struct draft {
	struct queue_draft draft; /* first */
	size_t size;
	uint8_t bytes[DRAFT_ROOM];
};

/* What the store does. */
static struct {
	unsigned drafts_open;
	size_t room;         /* bytes that a draft takes before it has no memory */
	enum err load_error; /* of the loads from `load_fails_at` on */
	uint64_t load_fails_at;
	struct queue_load *load; /* under way */
	uint64_t loads;
	struct task *full; /* waits for room in a draft that is full once */
	bool fill;
	uint64_t ids; /* given out */
	bool tight;
} store;

static struct worker worker;
static struct worker *peers[] = { &worker };
static struct metrics counters;
static struct queue queue;
static struct flow *flow;
static struct routing *routing;
static struct destination *destination; /* of the mail; held */
static struct log *logs;

static struct mail_recipient recipients[RECIPIENTS];
static struct mail_envelope envelope;
static struct queue_mail mail;
static struct queue_item item;
static uint32_t indexes[RECIPIENTS] = { 0, 1, 2, 3 };
static uint8_t original[100 * 1000];

/* ---- the store ---- */

static struct mail_id
id_beside(struct queue *q, struct mail_id of)
{
	(void)q;
	assert_true(mail_id_eq(of, envelope.id));
	return (struct mail_id){ of.high, ++store.ids };
}

static struct queue_draft *
draft_new(struct queue *q, struct mail_id id, uint64_t hint)
{
	struct draft *d = calloc(1, sizeof *d);

	(void)hint;
	assert_int_equal(id.high, envelope.id.high);
	assert_in_range(id.low, 1, store.ids);
	assert_non_null(d);
	d->draft = (struct queue_draft){ QUEUE_DRAFT_MAGIC, q->driver };
	store.drafts_open++;
	return &d->draft;
}

static enum err
draft_append(struct queue_draft *draft, struct span bytes)
{
	struct draft *d = (struct draft *)draft;

	if (d->size + bytes.size > store.room)
		return ERR_NO_MEMORY;
	memcpy(d->bytes + d->size, bytes.data, bytes.size);
	d->size += bytes.size;
	return ERR_OK;
}

static bool
draft_is_full(const struct queue_draft *d)
{
	(void)d;
	return store.fill;
}

static void
draft_on_room(struct queue_draft *d, struct task *resume)
{
	(void)d;
	store.full = resume;
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
load(struct queue *q, struct queue_load *l)
{
	(void)q;
	assert_null(store.load);
	store.load = l;
}

static bool
memory_is_tight(struct queue *q)
{
	(void)q;
	return store.tight;
}

static void
drop_body(struct queue *q, struct queue_mail *m)
{
	(void)q;
	body_put(m->body);
	m->body = NULL;
}

static const struct queue_driver driver = {
	.name = "bounce",
	.id_beside = id_beside,
	.draft_new = draft_new,
	.draft_append = draft_append,
	.draft_is_full = draft_is_full,
	.draft_on_room = draft_on_room,
	.draft_size = draft_size,
	.draft_abandon = draft_abandon,
	.load = load,
	.memory_is_tight = memory_is_tight,
	.drop_body = drop_body,
};

static void
finish_load(void)
{
	struct queue_load *l = store.load;
	enum err e = ERR_OK;

	store.load = NULL;
	store.loads++;
	if (store.load_error != ERR_OK && l->offset >= store.load_fails_at) {
		e = store.load_error;
	} else {
		struct span rest =
			span_after(span_of(original, mail.envelope->body_size), l->offset);
		rest = span_first(rest, l->capacity);
		memcpy(l->memory, rest.data, rest.size);
		l->bytes = span_of(l->memory, rest.size);
	}
	l->on_done(l, e);
}

/* Until nothing is left to do. */
static void
run(void)
{
	struct list_node *n;

	for (;;) {
		if ((n = list_shift(&worker.tasks)) != NULL) {
			struct task *t = CONTAINER_OF(n, struct task, node);
			t->on_run(t);
		} else if (store.load != NULL) {
			finish_load();
		} else if (store.full != NULL) {
			store.fill = false;
			worker_soon(&worker, store.full);
			store.full = NULL;
		} else {
			return;
		}
	}
}

/* ---- the relay ---- */

static void
make_original(void)
{
	struct buf b = buf_of(original, sizeof original);

	buf_append_string(&b, "Received: x\r\nMessage-ID: <m@x>\r\nSubject: hi\r\n\r\n");
	while (buf_room(&b) >= 100)
		buf_append_string(&b, "The quick brown fox jumps over the lazy dog.\r\n");
	envelope.body_size = b.size;
}

/* The mail goes where this address does. */
static void
lead_to(struct span address)
{
	if (destination != NULL)
		destination_release(destination);
	destination = destination_of(flow, routing, address, TLS_NEED_NOTHING);
	destination_hold(destination);
	item.site = destination->id;
}

static const char config_text[] = "hostname: relay.example\n"
				  "listeners: [{ address: \"127.0.0.1:25\", role: relay }]\n"
				  "bounces: { delay: 4h, attach_size_max: 1MiB }\n"
				  "routes: [{ domain: l.example, to: \"lmtp://127.0.0.1:24\" },\n"
				  "         { domain: \"*\", to: \"smtp://127.0.0.1:25\" }]\n";

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
	store.room = SIZE_MAX / 2;
	worker_init(&worker, 0, 1, peers, &options);
	worker.now_wall_ms = ACCEPTED_MS;
	worker.metrics = &counters;
	logs = log_new(1, 1 << 20, "/dev/null", &error);
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
	recipients[2].address = SPAN("e@b.example");
	recipients[3].address = SPAN("g@b.example");
	envelope = (struct mail_envelope){
		.id = { 1, 2 },
		.accepted_at_ms = ACCEPTED_MS,
		.sender = SPAN("s@t.example"),
		.ret = RET_FULL,
		.recipient_count = RECIPIENTS,
		.recipients = recipients,
	};
	make_original();
	mail = (struct queue_mail){ .magic = QUEUE_MAIL_MAGIC, .envelope = &envelope };
	item = (struct queue_item){
		.magic = QUEUE_ITEM_MAGIC,
		.mail = &mail,
		.recipient_count = RECIPIENTS,
		.recipients = indexes,
	};
	destination = NULL;
	lead_to(recipients[0].address);
	return 0;
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
	log_free(logs);
	worker_close(&worker);
	return 0;
}

static struct job *
job(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	struct job *j = job_new(flow, &item, destination);

	assert_non_null(j);
	const uint8_t states[] = { a, b, c, d };
	for (unsigned i = 0; i < j->result_count; i++) {
		j->results[i].state = states[i];
		j->results[i].tried = true;
		j->results[i].reply = SPAN("550 5.1.1 no");
	}
	return j;
}

static enum err made;
static struct job *made_for;

static void
on_made(struct job *j, enum err e)
{
	made = e;
	made_for = j;
}

static enum err
make(struct job *j)
{
	bounce_judge(j);
	assert_true(bounce_is_wanted(j));
	made_for = NULL;
	bounce_make(j, on_made);
	run();
	assert_ptr_equal(made_for, j);
	return made;
}

static struct span
text_of(struct job *j)
{
	const struct draft *d = (const struct draft *)bounce_put(j)->draft;

	return span_of(d->bytes, d->size);
}

static bool
has(struct span s, const char *text)
{
	return memmem(s.data, s.size, text, strlen(text)) != NULL;
}

/* As the store does when it has kept it. */
static void
record(struct job *j)
{
	struct queue_draft *d = bounce_put(j)->draft;

	bounce_recorded(j);
	draft_abandon(d);
}

/* ---- what is told ---- */

static void
outcomes_are_reported_as_the_rfc_says(void **state)
{
	enum { F = RECIPIENT_FAILED, P = RECIPIENT_PENDING, D = RECIPIENT_DELIVERED };
	enum { NONE = 0, NEVER = NOTIFY_NEVER, S = NOTIFY_SUCCESS, FA = NOTIFY_FAILURE };
	enum { DE = NOTIFY_DELAY, LATE = 4 * 3600 * 1000 };
	static const struct {
		uint8_t state, notify, marks;
		bool lmtp, notified;
		uint64_t age_ms;
		int told; /* enum dsn_action, or -1 */
	} rows[] = {
		{ F, NONE, 0, false, false, 0, DSN_FAILED },
		{ F, FA, 0, false, false, 0, DSN_FAILED },
		{ F, FA | S | DE, 0, false, false, 0, DSN_FAILED },
		{ F, NEVER, 0, false, false, 0, -1 },
		{ F, S | DE, 0, false, false, 0, -1 },
		{ P, NONE, 0, false, false, LATE - 1, -1 },
		{ P, NONE, 0, false, false, LATE, DSN_DELAYED },
		{ P, DE, 0, false, false, LATE, DSN_DELAYED },
		{ P, NONE, 0, false, true, LATE, -1 },
		{ P, FA | S, 0, false, false, LATE, -1 },
		{ P, NEVER, 0, false, false, LATE, -1 },
		{ D, NONE, 0, false, false, 0, -1 },
		{ D, FA | DE, 0, false, false, LATE, -1 },
		{ D, NEVER, 0, false, false, 0, -1 },
		{ D, S, 0, false, false, 0, DSN_RELAYED },
		{ D, S, JOB_TOOK_DSN, false, false, 0, -1 },
		{ D, S, 0, true, false, 0, DSN_DELIVERED },
		{ D, S, JOB_TOOK_DSN, true, false, 0, -1 },
		{ RECIPIENT_DISCARDED, S | FA, 0, false, false, 0, -1 },
		{ RECIPIENT_REMOVED, S | FA, 0, false, false, 0, -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct span address = rows[i].lmtp ? SPAN("x@l.example") : SPAN("x@b.example");
		lead_to(address);
		recipients[0].notify = rows[i].notify;
		recipients[0].notified = rows[i].notified;
		worker.now_wall_ms = ACCEPTED_MS + rows[i].age_ms;
		struct job *j = job(rows[i].state, RECIPIENT_DISCARDED, RECIPIENT_DISCARDED,
				    RECIPIENT_DISCARDED);
		j->marks[0] = rows[i].marks;
		bounce_judge(j);
		if (j->reports[0] != rows[i].told + 1)
			fail_msg("row %zu: %d", i, j->reports[0] - 1);
		assert_int_equal(j->results[0].notified, rows[i].told == DSN_DELAYED);
		assert_int_equal(bounce_is_wanted(j), rows[i].told >= 0);
		/* Nobody is told where nobody can be. */
		envelope.sender = SPAN("");
		bounce_judge(j);
		assert_false(bounce_is_wanted(j));
		assert_false(bounce_is_overdue(flow, j));
		envelope.sender = SPAN("s@t.example");
		job_free(j);
	}
}

static void
what_was_not_reached_is_not_late(void **state)
{
	(void)state;
	worker.now_wall_ms = ACCEPTED_MS + 5 * 3600 * 1000;
	struct job *j = job(RECIPIENT_PENDING, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);
	j->results[0].tried = false;
	bounce_judge(j);
	assert_false(bounce_is_wanted(j));
	assert_true(bounce_is_overdue(flow, j)); /* which makes it tried */
	job_free(j);
}

/* ---- the making ---- */

static void
one_report_tells_of_all(void **state)
{
	(void)state;
	struct job *j =
		job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_FAILED, RECIPIENT_DISCARDED);
	assert_int_equal(make(j), ERR_OK);
	const struct mail_envelope *e = bounce_put(j)->envelope;
	struct span text = text_of(j);
	assert_int_equal(e->sender.size, 0);
	assert_int_equal(e->recipient_count, 1);
	assert_true(span_eq(e->recipients[0].address, envelope.sender));
	assert_int_equal(e->body_size, text.size);
	assert_true(has(text, "Final-Recipient: rfc822; a@b.example"));
	assert_true(has(text, "Final-Recipient: rfc822; e@b.example"));
	assert_false(has(text, "c@b.example") || has(text, "g@b.example"));
	assert_true(has(text, "References: <m@x>\r\n"));
	/* Read through the store, in order, from a header that fits into one piece. */
	original[envelope.body_size] = 0;
	assert_true(has(text, (const char *)original));
	assert_int_equal(store.loads,
			 (envelope.body_size + WORKER_BUFFER_SIZE - 1) / WORKER_BUFFER_SIZE);
	record(j);
	assert_int_equal(METRIC_GET_LABEL(&counters, NOTICES, LABEL_ACTION_FAILED), 2);
	job_free(j);
}

static void
a_body_in_memory_is_not_read(void **state)
{
	struct body_budget budget = { .most_bytes = UINT64_MAX };

	(void)state;
	mail.body = body_new(&budget, 0);
	assert_int_equal(body_append(mail.body, span_of(original, envelope.body_size)), ERR_OK);
	struct job *j = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);
	bounce_judge(j);
	bounce_make(j, on_made);
	/* It may leave the memory meanwhile. */
	body_put(mail.body);
	mail.body = NULL;
	run();
	assert_int_equal(store.loads, 0);
	original[envelope.body_size] = 0;
	assert_true(has(text_of(j), (const char *)original));
	record(j);
	assert_int_equal(budget.used_bytes, 0);
	job_free(j);
}

/* Or many mails that fail at once would leave no memory for the reports that end them. */
static void
where_memory_is_tight_the_body_leaves_it_first(void **state)
{
	struct body_budget budget = { .most_bytes = UINT64_MAX };

	(void)state;
	mail.body = body_new(&budget, 0);
	assert_int_equal(body_append(mail.body, span_of(original, envelope.body_size)), ERR_OK);
	store.tight = true;
	struct job *j = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);
	assert_int_equal(make(j), ERR_OK);
	assert_null(mail.body);
	assert_int_equal(budget.used_bytes, 0);
	assert_true(store.loads > 0);
	assert_true(has(text_of(j), "The message is attached."));
	record(j);
	job_free(j);
}

static size_t
size_with(enum dsn_part most)
{
	struct job *j = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);

	j->attach_most = (uint8_t)most;
	assert_int_equal(make(j), ERR_OK);
	size_t size = text_of(j).size;
	record(j);
	job_free(j);
	return size;
}

static void
less_is_attached_where_not_all_fits(void **state)
{
	const size_t header = size_with(DSN_PART_HEADER), nothing = size_with(DSN_PART_NONE);
	const struct {
		size_t room;
		enum err load_error;
		uint64_t load_fails_at;
		const char *says; /* NULL: it cannot be made */
	} rows[] = {
		{ SIZE_MAX / 2, ERR_OK, 0, "The message is attached." },
		{ header, ERR_OK, 0, "The header of the message is attached." },
		{ header - 1, ERR_OK, 0, "The message itself could not be attached." },
		{ nothing - 1, ERR_OK, 0, NULL },
		{ SIZE_MAX / 2, ERR_CORRUPT, 0, "could not be attached." },
		{ SIZE_MAX / 2, ERR_STORAGE, 50000, "could not be attached." },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		store.room = rows[i].room;
		store.load_error = rows[i].load_error;
		store.load_fails_at = rows[i].load_fails_at;
		struct job *j = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
				    RECIPIENT_DELIVERED);
		enum err e = make(j);
		if ((e == ERR_OK) != (rows[i].says != NULL))
			fail_msg("row %zu: %s", i, err_text(e));
		if (e != ERR_OK) {
			bounce_dropped(j, e);
		} else {
			if (!has(text_of(j), rows[i].says))
				fail_msg("row %zu: %.*s", i, SPAN_ARG(text_of(j)));
			record(j);
		}
		assert_int_equal(store.drafts_open, 0);
		job_free(j);
	}
}

static void
a_full_draft_is_waited_for(void **state)
{
	(void)state;
	store.fill = true;
	struct job *j = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);
	assert_int_equal(make(j), ERR_OK);
	assert_false(store.fill);
	record(j);
	job_free(j);
}

/* After a record that was refused the next report is smaller, and a warning is left for later. */
static void
a_refused_record_is_tried_with_less(void **state)
{
	(void)state;
	worker.now_wall_ms = ACCEPTED_MS + 5 * 3600 * 1000;
	struct job *j =
		job(RECIPIENT_FAILED, RECIPIENT_PENDING, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED);
	static const char *const said[] = { "The message is attached.", "The header of",
					    "could not be attached", "could not be attached" };
	for (unsigned i = 0; i < 4; i++) {
		if (i == 0)
			assert_int_equal(make(j), ERR_OK);
		else
			bounce_make(j, on_made);
		run();
		assert_true(has(text_of(j), said[i]));
		assert_int_equal(has(text_of(j), "Action: delayed"), i == 0);
		assert_int_equal(j->results[1].notified, i == 0);
		draft_abandon(bounce_put(j)->draft);
		bounce_dropped(j, i % 2 == 0 ? ERR_TOO_BIG : ERR_NO_ROOM);
	}
	assert_true(bounce_is_wanted(j));
	job_free(j);
}

static void
a_lone_warning_holds_up_nothing(void **state)
{
	(void)state;
	worker.now_wall_ms = ACCEPTED_MS + 5 * 3600 * 1000;
	store.room = 100;
	struct job *j = job(RECIPIENT_PENDING, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);
	assert_int_equal(make(j), ERR_NO_MEMORY);
	bounce_dropped(j, ERR_NO_MEMORY);
	assert_false(bounce_is_wanted(j));
	assert_false(j->results[0].notified);
	job_free(j);
}

static unsigned made_count;

static void
on_one_made(struct job *j, enum err e)
{
	assert_int_equal(e, ERR_OK);
	(void)j;
	made_count++;
}

static void
more_than_may_be_made_at_once_wait_in_line(void **state)
{
	enum { MANY = BOUNCES_MAX + 50 };
	static struct job *jobs[MANY];

	(void)state;
	envelope.ret = RET_HEADERS;
	made_count = 0;
	for (unsigned i = 0; i < MANY; i++) {
		jobs[i] = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			      RECIPIENT_DELIVERED);
		bounce_judge(jobs[i]);
	}
	struct body_budget budget = { .most_bytes = UINT64_MAX };
	mail.body = body_new(&budget, 0);
	assert_int_equal(body_append(mail.body, span_of(original, envelope.body_size)), ERR_OK);
	for (unsigned i = 0; i < MANY; i++)
		bounce_make(jobs[i], on_one_made);
	run();
	assert_int_equal(made_count, BOUNCES_MAX);
	for (unsigned i = 0; i < MANY; i++) {
		record(jobs[i]);
		run();
		job_free(jobs[i]);
	}
	assert_int_equal(made_count, MANY);
	body_put(mail.body);
	mail.body = NULL;
}

/* Who is not told has an event. */
static void
silence_is_counted(void **state)
{
	(void)state;
	recipients[0].notify = NOTIFY_NEVER;
	struct job *j = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);
	bounce_judge(j);
	assert_false(bounce_is_wanted(j));
	bounce_recorded(j);
	assert_int_equal(METRIC_GET_LABEL(&counters, NOTICES_SUPPRESSED, LABEL_SUPPRESSED_NOTIFY),
			 1);
	envelope.sender = SPAN("");
	bounce_judge(j);
	bounce_recorded(j);
	assert_int_equal(
		METRIC_GET_LABEL(&counters, NOTICES_SUPPRESSED, LABEL_SUPPRESSED_NULL_SENDER), 1);
	job_free(j);
}

/* ---- mails that require TLS (RFC 8689 5) ---- */

/* The report goes as the mail had come, with its header alone whatever RET says. */
static void
a_report_is_protected_as_its_mail(void **state)
{
	(void)state;
	envelope.flags = MAIL_TLS_REQUIRED;
	struct job *j = job(RECIPIENT_FAILED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
			    RECIPIENT_DELIVERED);
	assert_int_equal(make(j), ERR_OK);
	const struct queue_put *put = bounce_put(j);
	assert_int_equal(put->envelope->flags & MAIL_TLS_REQUIRED, MAIL_TLS_REQUIRED);
	assert_true(span_eq(put->envelope->recipients[0].address, SPAN("s@t.example")));
	assert_int_equal(destination_at(flow, put->envelope->recipients[0].site)->need,
			 TLS_NEED_REQUIRED);
	assert_true(has(text_of(j), "Subject: hi"));
	assert_false(has(text_of(j), "quick brown fox"));
	record(j);
	job_free(j);
}

/* One that cannot go so is not lost in silence: its recipient hears that there was one, and nothing
 * of it. */
static void
a_report_that_cannot_be_protected_is_withheld(void **state)
{
	(void)state;
	envelope.flags = MAIL_TLS_REQUIRED;
	envelope.sender = SPAN("");
	envelope.recipient_count = item.recipient_count = 1;
	struct job *j = job(RECIPIENT_FAILED, 0, 0, 0);
	j->no_way = true;
	assert_int_equal(make(j), ERR_OK);
	const struct queue_put *put = bounce_put(j);
	assert_int_equal(put->envelope->flags & MAIL_TLS_REQUIRED, 0);
	assert_int_equal(put->envelope->sender.size, 0);
	assert_true(span_eq(put->envelope->recipients[0].address, SPAN("a@b.example")));
	assert_int_equal(destination_at(flow, put->envelope->recipients[0].site)->need,
			 TLS_NEED_NOTHING);
	assert_true(has(text_of(j), "To: <a@b.example>"));
	assert_true(has(text_of(j), "withheld"));
	assert_false(has(text_of(j), "Subject: hi"));
	assert_false(has(text_of(j), "<m@x>"));
	record(j);
	job_free(j);
}

/* Any other end of a report is an end. */
static void
only_for_want_of_tls_is_a_report_withheld(void **state)
{
	static const struct {
		uint32_t flags;
		bool no_way;
		uint8_t state;
	} rows[] = {
		{ MAIL_TLS_REQUIRED, false, RECIPIENT_FAILED },
		{ MAIL_TLS_REQUIRED, true, RECIPIENT_PENDING },
		{ 0, true, RECIPIENT_FAILED },
		{ MAIL_TLS_OPTIONAL, true, RECIPIENT_FAILED },
	};

	(void)state;
	envelope.sender = SPAN("");
	envelope.recipient_count = item.recipient_count = 1;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		envelope.flags = rows[i].flags;
		struct job *j = job(rows[i].state, 0, 0, 0);
		j->no_way = rows[i].no_way;
		bounce_judge(j);
		assert_false(bounce_is_wanted(j));
		job_free(j);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(outcomes_are_reported_as_the_rfc_says),
		TEST(what_was_not_reached_is_not_late),
		TEST(one_report_tells_of_all),
		TEST(a_body_in_memory_is_not_read),
		TEST(where_memory_is_tight_the_body_leaves_it_first),
		TEST(less_is_attached_where_not_all_fits),
		TEST(a_full_draft_is_waited_for),
		TEST(a_refused_record_is_tried_with_less),
		TEST(a_lone_warning_holds_up_nothing),
		TEST(more_than_may_be_made_at_once_wait_in_line),
		TEST(silence_is_counted),
		TEST(a_report_is_protected_as_its_mail),
		TEST(a_report_that_cannot_be_protected_is_withheld),
		TEST(only_for_want_of_tls_is_a_report_withheld),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
