/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/bounce.h"

#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/config.h"
#include "relay/flow/destination.h"
#include "relay/flow/dispatch.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/message/dsn.h"
#include "relay/message/header.h"
#include "relay/smtp/body_out.h"

enum {
	HEADER_MEMORY = 1024, /* of a field: the longest Message-ID that is repeated */
	ADDRESS_ROOM = 512,   /* a path has at most 256 bytes (RFC 5321 4.5.3.1.3) */
};

enum bounce_state {
	BOUNCE_SCANNING,  /* reads the original's header, for its size and its Message-ID */
	BOUNCE_COMPOSING, /* writes pieces of ours into the draft */
	BOUNCE_PASSING,   /* passes the original on into the draft */
	BOUNCE_MADE,      /* its put belongs to the record */
};

struct bounce {
	uint32_t magic;
	struct flow *flow;
	struct job *job;
	struct task task; /* goes on with it */
	uint8_t state;    /* enum bounce_state */
	bool loading;

	struct dsn_notice notice;
	struct dsn dsn;
	uint32_t place[2]; /* the reported recipient last asked for, and its result */
	uint32_t *cursor;  /* to these, through what is const */
	struct queue_draft *draft;
	struct body_dots dots;
	uint64_t passed; /* bytes of the original that were looked at or passed on */

	struct body *body; /* of the original, in memory; NULL: it is read from the store */
	struct queue_load load;
	struct header header;

	struct queue_put put;
	struct mail_envelope envelope;
	struct mail_recipient recipient;
	struct destination *destination; /* of the report; held */
	uint32_t counts[DSN_ACTIONS];

	uint8_t header_memory[HEADER_MEMORY];
	uint8_t message_id[HEADER_MEMORY];
	uint8_t address[ADDRESS_ROOM];
	char id_text[ID_TEXT_SIZE];
	char original_text[ID_TEXT_SIZE];
	char token[ID_TEXT_SIZE];
};

#define BOUNCE_MAGIC 0x424f554eu

static void begin(struct bounce *b);
static void go_on(struct task *t);

void
bounces_init(struct flow *f)
{
	pool_init(&f->bounces.pool, sizeof(struct bounce), BOUNCES_MAX);
	list_init(&f->bounces.waiting);
}

void
bounces_fini(struct flow *f)
{
	ASSERT(list_is_empty(&f->bounces.waiting));
	pool_fini(&f->bounces.pool);
}

/* ---- what calls for a report ---- */

static const struct mail_recipient *
recipient_of(const struct job *j, uint32_t i)
{
	return &j->mail->envelope->recipients[j->results[i].recipient];
}

static bool
wants(const struct mail_recipient *r, unsigned what)
{
	/* Without NOTIFY it is up to us: failures and delays are told, successes are not. */
	if (r->notify == 0)
		return what != NOTIFY_SUCCESS;
	return (r->notify & what) != 0;
}

/* By the configuration of `f`, where the job is. */
static uint64_t
delay_at_ms(const struct flow *f, const struct job *j, uint32_t i)
{
	const struct mail_envelope *e = j->mail->envelope;
	const struct mail_recipient *r = recipient_of(j, i);
	uint64_t delay_ms = f->routing->config->bounces.delay_ms;
	bool is_told = delay_ms != 0 && e->sender.size > 0 && wants(r, NOTIFY_DELAY);

	return is_told && !r->notified ? e->accepted_at_ms + delay_ms : UINT64_MAX;
}

uint64_t
bounce_delay_at_ms(const struct job *j, uint32_t i)
{
	return delay_at_ms(j->owner, j, i);
}

static bool
delay_is_due(const struct flow *f, const struct job *j, uint32_t i)
{
	return f->worker->now_wall_ms >= delay_at_ms(f, j, i);
}

/* enum dsn_action from 1, or 0. */
static uint8_t
report_of(const struct job *j, uint32_t i)
{
	const struct mail_recipient *r = recipient_of(j, i);
	bool lmtp = j->destination->kind == SITE_LMTP;

	switch ((enum recipient_state)j->results[i].state) {
	case RECIPIENT_FAILED:
		return wants(r, NOTIFY_FAILURE) ? 1 + DSN_FAILED : 0;
	case RECIPIENT_PENDING:
		return j->results[i].tried && delay_is_due(j->owner, j, i) ? 1 + DSN_DELAYED : 0;
	case RECIPIENT_DELIVERED:
		if (!wants(r, NOTIFY_SUCCESS) || (j->marks[i] & JOB_TOOK_DSN) != 0)
			return 0;
		return 1 + (lmtp ? DSN_DELIVERED : DSN_RELAYED);
	case RECIPIENT_DISCARDED:
	case RECIPIENT_REMOVED:
		break;
	}
	return 0;
}

static bool
requires_tls(const struct job *j)
{
	return (j->mail->envelope->flags & MAIL_TLS_REQUIRED) != 0;
}

/* A report about a mail that required TLS, which its own recipient cannot be given so: what it says
 * is withheld, but that there was one is told in its place (RFC 8689 5). */
static bool
is_withheld(const struct job *j)
{
	return j->mail->envelope->sender.size == 0 && requires_tls(j) && j->no_way &&
	       j->result_count == 1;
}

static struct span
told_of(const struct job *j)
{
	return is_withheld(j) ? recipient_of(j, 0)->address : j->mail->envelope->sender;
}

void
bounce_judge(struct job *j)
{
	bool can_be_told = told_of(j).size > 0;

	for (uint32_t i = 0; i < j->result_count; i++) {
		j->reports[i] = can_be_told ? report_of(j, i) : 0;
		j->results[i].notified = j->reports[i] == 1 + DSN_DELAYED;
	}
}

bool
bounce_is_wanted(const struct job *j)
{
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->reports[i] != 0)
			return true;
	}
	return false;
}

bool
bounce_is_overdue(const struct flow *f, const struct job *j)
{
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (delay_is_due(f, j, i))
			return true;
	}
	return false;
}

/* ---- the parts of the notice ---- */

/* The composer goes through them in order, so the place is found from the last one. */
static uint32_t
result_of(const struct bounce *b, uint32_t index, uint32_t *cursor)
{
	const struct job *j = b->job;
	uint32_t at = cursor[0];
	uint32_t i = cursor[1];

	if (index < at) {
		at = 0;
		i = 0;
	}
	for (;; i++) {
		ASSERT(i < j->result_count);
		if (j->reports[i] != 0 && at++ == index)
			break;
	}
	cursor[0] = index;
	cursor[1] = i;
	return i;
}

static void
describe(const void *context, uint32_t index, struct dsn_recipient *out)
{
	const struct bounce *b = context;

	OBJ_CHECK(b, BOUNCE_MAGIC);
	const struct job *j = b->job;
	uint32_t i = result_of(b, index, b->cursor);
	const struct mail_recipient *r = recipient_of(j, i);
	*out = (struct dsn_recipient){
		.action = (enum dsn_action)(j->reports[i] - 1),
		.address = r->address,
		.orcpt = r->orcpt,
		.reply = j->results[i].reply,
		.from_remote = (j->marks[i] & JOB_REMOTE_REPLY) != 0,
		.attempt_ms = j->times.taken_wall_ms,
	};
	if (j->peers_of[i] != 0)
		out->remote = j->peer_names[j->peers_of[i] - 1];
}

static struct span
id_span(char text[ID_TEXT_SIZE], uint64_t high, uint64_t low)
{
	struct buf b = buf_of(text, ID_TEXT_SIZE);

	id_write(&b, high, low);
	return buf_span(&b);
}

/* RET is about failures; other reports have the header (RFC 3461 4.3). */
static enum dsn_part
part_wanted(const struct bounce *b)
{
	const struct mail_envelope *e = b->job->mail->envelope;
	const struct config_bounces *c = &b->flow->routing->config->bounces;
	bool whole = e->ret == RET_FULL || (e->ret == RET_NONE && c->attach == ATTACH_MESSAGE);

	if (is_withheld(b->job))
		return DSN_PART_NONE;
	/* RFC 8689 5: as if RET=HDRS had been given. */
	if (b->counts[DSN_FAILED] == 0 || !whole || requires_tls(b->job) ||
	    e->body_size > c->attach_size_max)
		return DSN_PART_HEADER;
	return DSN_PART_WHOLE;
}

static void
count_actions(struct bounce *b)
{
	const struct job *j = b->job;

	memset(b->counts, 0, sizeof b->counts);
	b->notice.recipient_count = 0;
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->reports[i] == 0)
			continue;
		b->counts[j->reports[i] - 1]++;
		b->notice.recipient_count++;
	}
	ASSERT(b->notice.recipient_count > 0);
}

static void
fill_notice(struct bounce *b)
{
	const struct mail_envelope *e = b->job->mail->envelope;
	const struct config *c = b->flow->routing->config;
	struct dsn_notice *n = &b->notice;

	/* Never one that was used before: a cancelled put may still be on its way. */
	b->envelope.id = queue_id_beside(b->flow->worker->queue, e->id);
	*n = (struct dsn_notice){
		.hostname = c->hostname,
		.from = c->bounces.from,
		.id = id_span(b->id_text, b->envelope.id.high, b->envelope.id.low),
		.token = id_span(b->token, random_u64(), random_u64()),
		.now_ms = b->flow->worker->now_wall_ms,
		.original_id = id_span(b->original_text, e->id.high, e->id.low),
		.sender = told_of(b->job),
		.envid = e->envid,
		.arrived_ms = e->accepted_at_ms,
		.retry_until_ms = e->accepted_at_ms + c->retry.lifetime_ms,
		.eight_bit = (e->flags & MAIL_EIGHT_BIT) != 0,
		.utf8 = (e->flags & MAIL_UTF8) != 0,
		.recipient = describe,
		.context = b,
		.templates = is_withheld(b->job) ? dsn_withheld() : b->flow->routing->templates,
	};
	memset(b->place, 0, sizeof b->place);
	count_actions(b);
	n->part = part_wanted(b);
	if (n->part > b->job->attach_most)
		n->part = (enum dsn_part)b->job->attach_most;
}

/* False: there is no memory for its destination. */
static bool
fill_put(struct bounce *b)
{
	struct span told = told_of(b->job);
	struct buf address = buf_of(b->address, sizeof b->address);
	/* It is protected as the mail was, unless it says nothing of it. */
	bool requires = requires_tls(b->job) && !is_withheld(b->job);

	b->destination = destination_of(b->flow, b->flow->routing, told,
					requires ? TLS_NEED_REQUIRED : TLS_NEED_NOTHING);
	if (b->destination == NULL)
		return false;
	destination_hold(b->destination);
	/* A copy, since the report outlives the mail it is about. */
	buf_append(&address, told);
	ASSERT(!address.overflow);
	b->recipient = (struct mail_recipient){
		.address = buf_span(&address),
		.orcpt = SPAN(""),
		.site = b->destination->id,
		.reply = SPAN(""),
	};
	b->envelope = (struct mail_envelope){
		.id = b->envelope.id,
		.accepted_at_ms = b->flow->worker->now_wall_ms,
		.body_size = queue_draft_size(b->draft),
		.flags = (dsn_is_eight_bit(&b->dsn) ? MAIL_EIGHT_BIT : 0U) |
			 (dsn_is_utf8(&b->dsn) ? MAIL_UTF8 : 0U) |
			 (b->dots.found ? MAIL_DOT_LINES : 0U) |
			 (requires ? MAIL_TLS_REQUIRED : 0U),
		.sender = SPAN(""),
		.envid = SPAN(""),
		.client = SPAN(""),
		.recipient_count = 1,
		.recipients = &b->recipient,
	};
	b->put = (struct queue_put){ .draft = b->draft, .envelope = &b->envelope };
	list_init(&b->put.items);
	b->draft = NULL;
	return true;
}

/* ---- the end of the making ---- */

static void
drop_draft(struct bounce *b)
{
	if (b->draft != NULL)
		queue_draft_abandon(b->draft);
	b->draft = NULL;
}

/* What was needed to read the original. */
static void
drop_original(struct bounce *b)
{
	ASSERT(!b->loading);
	if (b->body != NULL)
		body_put(b->body);
	b->body = NULL;
	if (b->load.memory != NULL)
		pool_put(&b->flow->worker->buffers, b->load.memory);
	b->load.memory = NULL;
}

static void
finish(struct bounce *b, enum err e)
{
	drop_draft(b);
	drop_original(b);
	b->state = BOUNCE_MADE;
	b->job->on_bounce(b->job, e);
}

/* Something did not fit or could not be read: less of the original may do. */
static void
attach_less(struct bounce *b, enum err e)
{
	if (b->notice.part == DSN_PART_NONE) {
		finish(b, e);
		return;
	}
	b->job->attach_most = (uint8_t)(b->notice.part - 1);
	begin(b);
}

static void
on_unreadable(struct bounce *b, enum err e)
{
	flow_event_load_failed(b->flow, b->job->mail->id, e);
	b->job->attach_most = DSN_PART_NONE;
	begin(b);
}

/* ---- the original ---- */

static void
on_loaded(struct queue_load *l, enum err e)
{
	struct bounce *b = CONTAINER_OF(l, struct bounce, load);

	OBJ_CHECK(b, BOUNCE_MAGIC);
	b->loading = false;
	if (e != ERR_OK || l->bytes.size == 0) {
		l->bytes = span_none();
		on_unreadable(b, e == ERR_OK ? ERR_CORRUPT : e);
		return;
	}
	worker_soon(b->flow->worker, &b->task);
}

static void
load_at(struct bounce *b, uint64_t offset)
{
	struct worker *w = b->flow->worker;

	if (b->load.memory == NULL)
		b->load.memory = pool_get(&w->buffers);
	if (b->load.memory == NULL) {
		attach_less(b, ERR_NO_MEMORY);
		return;
	}
	b->loading = true;
	b->load.mail = b->job->mail;
	b->load.offset = offset;
	b->load.capacity = WORKER_BUFFER_SIZE;
	b->load.bytes = span_none();
	b->load.on_done = on_loaded;
	queue_load(w->queue, &b->load);
}

/* What is at hand at this offset. Empty: it is being read, or another try has begun. */
static struct span
original_at(struct bounce *b, uint64_t offset)
{
	const struct queue_load *l = &b->load;

	if (b->body != NULL)
		return body_at(b->body, offset);
	if (l->bytes.size > 0 && offset >= l->offset && offset < l->offset + l->bytes.size)
		return span_after(l->bytes, (size_t)(offset - l->offset));
	load_at(b, offset);
	return span_none();
}

static void
begin_composing(struct bounce *b)
{
	uint64_t size = b->job->mail->envelope->body_size;

	b->notice.original_size = b->notice.part == DSN_PART_WHOLE    ? size
				  : b->notice.part == DSN_PART_HEADER ? b->header.size
								      : 0;
	b->passed = 0;
	body_dots_init(&b->dots);
	dsn_init(&b->dsn, &b->notice);
	b->draft = queue_draft_new_beside(b->flow->worker->queue, b->job->mail, b->envelope.id,
					  b->notice.original_size + DSN_PIECE_MAX);
	b->state = BOUNCE_COMPOSING;
}

static void
look_at_field(struct bounce *b)
{
	struct buf id = buf_of(b->message_id, sizeof b->message_id);

	if (b->header.cut || !header_is(&b->header, SPAN("Message-ID")))
		return;
	if (header_unfold(&b->header, &id))
		b->notice.message_id = buf_span(&id);
}

/* False: there is nothing to do now. */
static bool
scan(struct bounce *b)
{
	enum header_event event;

	if (b->passed == b->job->mail->envelope->body_size) {
		header_finish(&b->header, &event);
	} else {
		struct span bytes = original_at(b, b->passed);
		if (bytes.size == 0)
			return false;
		b->passed += header_feed(&b->header, bytes, &event);
	}
	if (event == HEADER_FIELD)
		look_at_field(b);
	if (event == HEADER_END)
		begin_composing(b);
	return true;
}

/* ---- the draft ---- */

static bool
append(struct bounce *b, struct span bytes)
{
	enum err e = b->draft == NULL ? ERR_NO_MEMORY : queue_draft_append(b->draft, bytes);

	if (e == ERR_OK) {
		body_dots_feed(&b->dots, bytes);
		return true;
	}
	drop_draft(b);
	attach_less(b, e);
	return false;
}

static bool
pass(struct bounce *b)
{
	uint64_t left = b->notice.original_size - b->passed;
	struct span bytes;

	if (left == 0) {
		b->state = BOUNCE_COMPOSING;
		return true;
	}
	bytes = original_at(b, b->passed);
	if (bytes.size == 0)
		return false;
	bytes = bytes.size > left ? span_first(bytes, (size_t)left) : bytes;
	if (!dsn_pass(&b->dsn, bytes)) {
		begin(b);
		return false;
	}
	b->passed += bytes.size;
	return append(b, bytes);
}

static bool
compose(struct bounce *b)
{
	struct buf *out = &b->flow->scratch;

	buf_reset(out);
	enum dsn_event event = dsn_next(&b->dsn, out);
	bool kept = append(b, buf_span(out));
	buf_reset(out);
	if (!kept)
		return false;
	if (event == DSN_ORIGINAL)
		b->state = BOUNCE_PASSING;
	if (event != DSN_DONE)
		return true;
	finish(b, fill_put(b) ? ERR_OK : ERR_NO_MEMORY);
	return false;
}

static bool
step(struct bounce *b)
{
	switch ((enum bounce_state)b->state) {
	case BOUNCE_SCANNING:
		return scan(b);
	case BOUNCE_COMPOSING:
		return compose(b);
	case BOUNCE_PASSING:
		return pass(b);
	case BOUNCE_MADE:
		break;
	}
	ASSERT(false);
	return false;
}

static void
go_on(struct task *t)
{
	struct bounce *b = CONTAINER_OF(t, struct bounce, task);

	OBJ_CHECK(b, BOUNCE_MAGIC);
	for (unsigned n = 0; n < BOUNCE_PIECES_A_TURN; n++) {
		if (b->draft != NULL && queue_draft_is_full(b->draft)) {
			queue_draft_on_room(b->draft, &b->task);
			return;
		}
		if (!step(b))
			return;
	}
	worker_soon(b->flow->worker, &b->task);
}

/* From the start, also after a try that came to nothing. */
static void
begin(struct bounce *b)
{
	ASSERT(!b->loading);
	drop_draft(b);
	fill_notice(b);
	b->passed = 0;
	header_init(&b->header, b->header_memory, sizeof b->header_memory);
	b->state = BOUNCE_SCANNING;
	if (b->notice.part == DSN_PART_NONE)
		begin_composing(b);
	worker_soon(b->flow->worker, &b->task);
}

/* ---- making and ending ---- */

/* False: as many as may be are being made. */
static bool
start(struct job *j)
{
	struct flow *f = j->owner;
	struct bounce *b = pool_get(&f->bounces.pool);

	if (b == NULL)
		return false;
	f->bounces.count++;
	*b = (struct bounce){ .magic = BOUNCE_MAGIC, .flow = f, .job = j };
	j->bounce = b;
	b->cursor = b->place;
	task_init(&b->task, go_on);
	op_init(&b->load.op, NULL);
	if (j->mail->body != NULL)
		b->body = body_get(j->mail->body);
	begin(b);
	return true;
}

/* Where there is little memory, the body of a mail that only waits for its report is worth less
 * than a report: it can be read back, and with many mails that fail at once there would be none
 * left for their reports, which alone set it free. */
static void
spare_memory(struct job *j)
{
	struct queue *q = j->owner->worker->queue;

	if (!queue_memory_is_tight(q))
		return;
	if (j->mail->body != NULL) {
		queue_drop_body(q, j->item->mail);
		METRIC_ADD(j->owner->worker->metrics, BODIES_DROPPED, 1);
	}
	bodies_make_room(j->owner);
}

void
bounce_make(struct job *j, void (*on_made)(struct job *j, enum err e))
{
	struct flow *f = j->owner;

	ASSERT(j->bounce == NULL && bounce_is_wanted(j));
	j->on_bounce = on_made;
	spare_memory(j);
	if (start(j))
		return;
	/* In line behind others, whose end starts it; without any it is memory that is lacking. */
	if (f->bounces.count > 0)
		list_append(&f->bounces.waiting, &j->bounce_link);
	else
		on_made(j, ERR_NO_MEMORY);
}

static void
start_next(struct flow *f)
{
	struct list_node *n = list_first(&f->bounces.waiting);

	if (n == NULL)
		return;
	struct job *j = LIST_ITEM(n, struct job, bounce_link);
	OBJ_CHECK(j, JOB_MAGIC);
	list_unlink(&j->bounce_link);
	bounce_make(j, j->on_bounce);
}

static void
bounce_free(struct bounce *b)
{
	struct flow *f = b->flow;

	OBJ_FINI(b, BOUNCE_MAGIC);
	ASSERT(b->draft == NULL && b->body == NULL && b->load.memory == NULL);
	b->job->bounce = NULL;
	if (b->destination != NULL)
		destination_release(b->destination);
	pool_put(&f->bounces.pool, b);
	f->bounces.count--;
	start_next(f);
}

struct queue_put *
bounce_put(struct job *j)
{
	OBJ_CHECK(j->bounce, BOUNCE_MAGIC);
	ASSERT(j->bounce->state == BOUNCE_MADE);
	return &j->bounce->put;
}

static void
tell_silence(const struct job *j)
{
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->results[i].state == RECIPIENT_FAILED && j->reports[i] == 0)
			flow_event_notice_suppressed(j->owner, j, recipient_of(j, i)->address);
	}
}

bool
bounce_tells_deliveries_only(const struct job *j)
{
	const uint32_t *counts = j->bounce->counts;

	return counts[DSN_FAILED] == 0 && counts[DSN_DELAYED] == 0;
}

static void
tell(const struct bounce *b)
{
	static const char *const attached[] = {
		[DSN_PART_NONE] = "nothing",
		[DSN_PART_HEADER] = "header",
		[DSN_PART_WHOLE] = "message",
	};

	flow_event_notice(b->flow, b->job, &b->envelope, b->counts, attached[b->notice.part]);
}

void
bounce_left(struct job *j)
{
	struct bounce *b = j->bounce;

	OBJ_CHECK(b, BOUNCE_MAGIC);
	tell(b);
	bounce_free(b);
}

void
bounce_recorded(struct job *j)
{
	struct bounce *b = j->bounce;

	tell_silence(j);
	if (b == NULL)
		return;
	tell(b);
	destination_queued(b->destination);
	dispatch_items(b->flow, &b->put.items, 0);
	bounce_free(b);
}

void
bounce_dropped(struct job *j, enum err e)
{
	struct bounce *b = j->bounce;

	if (b == NULL)
		return;
	bool too_much = e == ERR_TOO_BIG || e == ERR_NO_ROOM || e == ERR_NO_MEMORY;
	if (too_much && b->notice.part != DSN_PART_NONE)
		j->attach_most = (uint8_t)(b->notice.part - 1);
	/* A warning need not hold up an outcome: the next attempt gives it. */
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->reports[i] != 1 + DSN_DELAYED)
			continue;
		j->reports[i] = 0;
		j->results[i].notified = false;
	}
	bounce_free(b);
}
