/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to mails that are kept: outcomes, starts of attempts, acts of an operator.
 *
 * The index changes when the record is durable, not before: what is in memory is what a restart
 * would find.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/spool/internal.h"

/* An outcome and a notice of the largest size that is written inline fit into one batch. */
enum { OUTCOME_MOST = 512 * 1024 };

void
spool_finish_later(struct spool_end *e, struct queue_request *r,
		   const struct queue_request_kind *kind, enum err error)
{
	*r = (struct queue_request){ .kind = kind, .error = error };
	list_append(&e->finishing, &r->node);
	worker_soon(e->queue.worker, &e->finish_task);
}

bool
spool_scratch(struct spool_end *e, uint32_t count)
{
	if (count <= e->scratch_count)
		return true;
	struct record_line *lines = realloc(e->lines, count * sizeof *lines);
	if (lines != NULL)
		e->lines = lines;
	struct record_starts *starts = realloc(e->starts, count * sizeof *starts);
	if (starts != NULL)
		e->starts = starts;
	if (lines == NULL || starts == NULL)
		return false;
	e->scratch_count = count;
	return true;
}

static uint64_t
change_size(const struct record_change *c)
{
	return record_size(record_change_size(c), 0);
}

/* Writes a change to a mail and notes which segment it is about. */
static void
write_change(struct spool_end *e, struct record_change *c, const struct spool_mail *m,
	     struct buf *out, uint64_t place)
{
	c->id = m->mail.id;
	c->put_sequence = m->segment->sequence;
	segment_refer(e->log.active, c->put_sequence);
	record_write_change(out, c, e->log.active->epoch, place);
}

/* The mail after a change: what is over goes, what nobody holds is unloaded. */
static void
look_at_mail(struct spool_end *e, struct spool_mail *m)
{
	if (mail_is_finished(m))
		mail_end(e, m);
	else if (!mail_has_claims(m))
		mail_unload(e, m);
}

/* ---- outcomes ---- */

static struct record_change
outcome_of(struct spool_end *e, const struct queue_record *r)
{
	const struct spool_recipient *all = mail_recipients(spool_mail_of(r->item->mail));

	for (uint32_t i = 0; i < r->result_count; i++) {
		const struct queue_result *from = &r->results[i];
		const struct spool_recipient *now = &all[from->recipient];
		bool counts = from->state == RECIPIENT_PENDING && from->tried &&
			      now->attempts < SPOOL_ATTEMPTS_MOST;
		e->lines[i] = (struct record_line){
			.recipient = from->recipient,
			.state = from->state,
			.notified = now->notified || from->notified,
			.attempts = (uint16_t)(now->attempts + counts),
			.number = now->starts,
			.retry_at_ms = from->retry_at_ms,
			.reply = span_first(from->reply, RECORD_REPLY_MOST),
		};
	}
	struct record_change c = { .type = RECORD_OUTCOME,
				   .line_count = r->result_count,
				   .lines = e->lines };
	/* Of very many recipients the states count, and the replies stay behind. */
	for (uint32_t i = 0; record_change_size(&c) > OUTCOME_MOST && i < r->result_count; i++)
		e->lines[i].reply = span_none();
	return c;
}

uint64_t
spool_outcome_size(struct spool_end *e, const struct queue_record *r)
{
	struct record_change c = outcome_of(e, r);

	return change_size(&c);
}

void
spool_outcome_write(struct spool_end *e, const struct queue_record *r, struct buf *out,
		    uint64_t place)
{
	struct record_change c = outcome_of(e, r);

	write_change(e, &c, spool_mail_of(r->item->mail), out, place);
}

static uint64_t
outcome_size(struct spool_end *e, struct queue_request *request)
{
	return spool_outcome_size(e, CONTAINER_OF(request, struct queue_record, request));
}

static void
outcome_write(struct spool_end *e, struct queue_request *request, struct buf *out, uint64_t place)
{
	spool_outcome_write(e, CONTAINER_OF(request, struct queue_record, request), out, place);
}

static void
apply_outcome(struct spool_end *e, struct queue_record *r)
{
	struct spool_item *i = spool_item_of(r->item);
	struct spool_mail *m = spool_mail_of(r->item->mail);
	struct spool_recipient *all = mail_recipients(m);
	struct record_change c = outcome_of(e, r);
	uint64_t due_at_ms = UINT64_MAX;
	bool tried = false;

	for (uint32_t n = 0; n < c.line_count; n++) {
		const struct record_line *l = &c.lines[n];
		tried |= r->results[n].tried || r->results[n].state != RECIPIENT_PENDING;
		struct spool_recipient *to = &all[l->recipient];
		recipient_set_state(e, to, l->state);
		recipient_set_reply(e, to, l->reply);
		recipient_set_attempts(to, l->attempts);
		to->notified = l->notified;
		to->retry_at_ms = l->retry_at_ms;
		to->closed = l->number;
		if (l->state == RECIPIENT_PENDING && l->retry_at_ms < due_at_ms)
			due_at_ms = l->retry_at_ms;
	}
	/* Others have come to this item by a new route while it was claimed. */
	for (uint32_t n = 0; n < m->recipient_count && m->recipient_count > c.line_count; n++) {
		if (all[n].state == RECIPIENT_PENDING &&
		    all[n].site.number == i->turn.item.site.number &&
		    all[n].retry_at_ms < due_at_ms)
			due_at_ms = all[n].retry_at_ms;
	}
	if (due_at_ms != UINT64_MAX && atomic_load(&mail_loaded(m)->damaged))
		spool_hold_damaged(e, m);
	i->turn.item.open_starts = 0;
	i->turn.item.recovered = i->turn.item.had_run_alone = false;
	i->turn.started = false;
	i->turn.was_paid = i->turn.was_paid && !tried;
	if (due_at_ms == UINT64_MAX)
		item_free(e, i);
	else
		item_wait(e, i, due_at_ms);
}

void
spool_outcome_ends(struct spool_end *e, struct queue_record *r, enum err error)
{
	struct spool_mail *m = spool_mail_of(r->item->mail);

	if (error == ERR_OK)
		apply_outcome(e, r);
	else
		item_set_state(e, spool_item_of(r->item), ITEM_CLAIMED);
	r->on_done(r, error);
	/* Only now may the mail go: on_done reads it for its events, and ends `r`. */
	if (error == ERR_OK)
		look_at_mail(e, m);
}

static void
outcome_done(struct spool_end *e, struct queue_request *request)
{
	spool_outcome_ends(e, CONTAINER_OF(request, struct queue_record, request), request->error);
}

static const struct queue_request_kind outcome_kind = { RESERVE_NONE, outcome_size, outcome_write,
							outcome_done, true };

void
spool_record(struct queue *q, struct queue_record *r)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_item *i = spool_item_of(r->item);

	ASSERT(i->turn.state == ITEM_CLAIMED);
	ASSERT(r->result_count == i->turn.item.recipient_count);
	for (uint32_t n = 0; n < r->result_count; n++)
		ASSERT(queue_item_recipient(r->item, r->results[n].recipient) ==
		       r->results[n].recipient);
	item_set_state(e, i, ITEM_RECORDING);
	/* A stop waits for claimed items' outcomes that come before it; later ones are refused. */
	enum err error = e->stopping                         ? ERR_SHUTTING_DOWN
			 : spool_scratch(e, r->result_count) ? ERR_OK
							     : ERR_NO_MEMORY;
	if (r->notice != NULL) {
		spool_put_notice(e, r, error);
		return;
	}
	if (error != ERR_OK) {
		spool_finish_later(e, &r->request, &outcome_kind, error);
		return;
	}
	r->request = (struct queue_request){ .kind = &outcome_kind };
	log_append(e, &r->request);
}

/* ---- attempts (invariant 9) ---- */

static struct record_change
start_of(struct spool_end *e, const struct queue_attempt *a)
{
	const struct spool_recipient *all = mail_recipients(spool_mail_of(a->item->mail));

	for (uint32_t i = 0; i < a->item->recipient_count; i++) {
		uint32_t n = a->item->recipients[i];
		e->lines[i] = (struct record_line){
			.recipient = n,
			.alone = a->alone,
			.number = (uint16_t)(all[n].starts + (all[n].starts < UINT16_MAX)),
		};
	}
	return (struct record_change){ .type = RECORD_START,
				       .line_count = a->item->recipient_count,
				       .lines = e->lines };
}

static uint64_t
start_size(struct spool_end *e, struct queue_request *request)
{
	struct record_change c = start_of(e, CONTAINER_OF(request, struct queue_attempt, request));

	return change_size(&c);
}

static void
start_write(struct spool_end *e, struct queue_request *request, struct buf *out, uint64_t place)
{
	struct queue_attempt *a = CONTAINER_OF(request, struct queue_attempt, request);
	struct record_change c = start_of(e, a);

	write_change(e, &c, spool_mail_of(a->item->mail), out, place);
}

static void
start_done(struct spool_end *e, struct queue_request *request)
{
	struct queue_attempt *a = CONTAINER_OF(request, struct queue_attempt, request);
	struct spool_item *i = spool_item_of(a->item);

	if (request->error == ERR_OK) {
		struct spool_recipient *all = mail_recipients(spool_mail_of(a->item->mail));
		struct record_change c = start_of(e, a);
		for (uint32_t n = 0; n < c.line_count; n++) {
			all[c.lines[n].recipient].starts = c.lines[n].number;
			all[c.lines[n].recipient].alone = a->alone;
		}
		i->turn.item.open_starts++;
		i->turn.item.had_run_alone = a->alone;
		i->turn.started = true;
	}
	a->on_done(a, request->error);
}

static const struct queue_request_kind start_kind = { RESERVE_NONE, start_size, start_write,
						      start_done, false };

void
spool_attempt(struct queue *q, struct queue_attempt *a)
{
	struct spool_end *e = spool_end_of(q);

	ASSERT(spool_item_of(a->item)->turn.state == ITEM_CLAIMED);
	if (e->stopping || !spool_scratch(e, a->item->recipient_count)) {
		spool_finish_later(e, &a->request, &start_kind,
				   e->stopping ? ERR_SHUTTING_DOWN : ERR_NO_MEMORY);
		return;
	}
	a->request = (struct queue_request){ .kind = &start_kind };
	log_append(e, &a->request);
}

/* ---- a start that ended in an orderly way ---- */

static uint64_t
close_size(struct spool_end *e, struct queue_request *request)
{
	const struct spool_small *s = CONTAINER_OF(request, struct spool_small, request);

	(void)e;
	return change_size(&s->change);
}

/* It does not matter whether the mail is still where it was: a close that can not be matched to a
 * PUT changes nothing. */
static void
close_write(struct spool_end *e, struct queue_request *request, struct buf *out, uint64_t place)
{
	struct spool_small *s = CONTAINER_OF(request, struct spool_small, request);

	segment_refer(e->log.active, s->change.put_sequence);
	s->change.lines = &s->line;
	record_write_change(out, &s->change, e->log.active->epoch, place);
}

static void
close_done(struct spool_end *e, struct queue_request *request)
{
	pool_put(&e->small, CONTAINER_OF(request, struct spool_small, request));
}

static const struct queue_request_kind close_kind = { RESERVE_NONE, close_size, close_write,
						      close_done, true };

/* The starts of a recipient's attempts so far are over. */
static void
close_recipient(struct spool_end *e, struct spool_mail *m, uint32_t at)
{
	struct spool_recipient *r = &mail_recipients(m)[at];
	struct spool_small *s = pool_get(&e->small);

	r->closed = r->starts;
	if (s == NULL)
		return; /* the next start handles it with care, no more */
	*s = (struct spool_small){ .request.kind = &close_kind, .end = e };
	s->line = (struct record_line){ .recipient = at, .number = r->closed };
	s->change = (struct record_change){ .type = RECORD_CLOSE,
					    .id = m->mail.id,
					    .put_sequence = m->segment->sequence,
					    .line_count = 1,
					    .lines = &s->line };
	log_append(e, &s->request);
}

void
spool_close_start(struct spool_end *e, struct spool_item *i)
{
	for (uint32_t n = 0; n < i->turn.item.recipient_count; n++)
		close_recipient(e, spool_mail_of(i->turn.item.mail), i->turn.item.recipients[n]);
	i->turn.item.open_starts = 0;
	i->turn.started = false;
}

/* An operator releases it: what it did to its workers counts no more. Before the act's own record,
 * so that it is durable with it; where the act fails, nothing but caution is lost. */
static void
close_starts(struct spool_end *e, struct spool_mail *m)
{
	const struct spool_recipient *all = mail_recipients(m);

	for (uint32_t n = 0; n < m->recipient_count; n++) {
		if (all[n].closed != all[n].starts)
			close_recipient(e, m, n);
	}
}

/* It is tried again at their word, like any other. */
static void
forgive(struct spool_mail *m)
{
	m->damaged = false;
	for (struct spool_item *i = m->items; i != NULL; i = i->next) {
		i->turn.item.open_starts = 0;
		i->turn.item.had_run_alone = false;
	}
}

/* ---- acts ---- */

static struct record_change
change_of(const struct queue_act *a, const struct spool_mail *m)
{
	struct record_change c = {
		.type = a->action == QUEUE_REMOVE ? RECORD_GONE : RECORD_HOLD,
		.who = span_first(a->who, 256),
		.why = span_first(a->why, 256),
	};

	if (c.type == RECORD_GONE)
		c.gone = GONE_REMOVED;
	else
		c.hold_revision = (uint16_t)(m->hold_revision + 1);
	return c;
}

static uint64_t
act_size(struct spool_end *e, struct queue_request *request)
{
	const struct queue_act *a = CONTAINER_OF(request, struct queue_act, request);
	struct record_change c = change_of(a, index_find(e, a->id));

	return change_size(&c);
}

static void
act_write(struct spool_end *e, struct queue_request *request, struct buf *out, uint64_t place)
{
	struct queue_act *a = CONTAINER_OF(request, struct queue_act, request);
	struct spool_mail *m = index_find(e, a->id);
	struct record_change c = change_of(a, m);

	write_change(e, &c, m, out, place);
}

/* The items come back from where act_begin took them. */
static void
act_end_items(struct spool_end *e, struct spool_mail *m, bool now)
{
	for (struct spool_item *i = m->items; i != NULL; i = i->next) {
		if (i->turn.state == ITEM_BUSY)
			item_wait(e, i,
				  now ? e->queue.worker->now_wall_ms : i->turn.item.due_at_ms);
	}
}

static void
act_done(struct spool_end *e, struct queue_request *request)
{
	struct queue_act *a = CONTAINER_OF(request, struct queue_act, request);
	struct spool_mail *m = index_find(e, a->id);

	ASSERT(m != NULL && m->busy);
	m->busy = false;
	if (request->error == ERR_OK && a->action == QUEUE_REMOVE) {
		mail_end(e, m);
	} else {
		if (request->error == ERR_OK)
			m->hold_revision++;
		if (request->error == ERR_OK && a->action == QUEUE_UNHOLD)
			forgive(m);
		act_end_items(e, m, false);
	}
	a->on_done(a, request->error);
}

static const struct queue_request_kind act_kind = { RESERVE_NONE, act_size, act_write, act_done,
						    false };

static void
refused_act_done(struct spool_end *e, struct queue_request *request)
{
	struct queue_act *a = CONTAINER_OF(request, struct queue_act, request);

	(void)e;
	a->on_done(a, request->error);
}

static const struct queue_request_kind refused_act_kind = { RESERVE_NONE, NULL, NULL,
							    refused_act_done, false };

void
spool_act(struct queue *q, struct queue_act *a)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_mail *m = index_find(e, a->id);
	bool changes = a->action == QUEUE_REMOVE;
	enum err error = e->stopping ? ERR_SHUTTING_DOWN : m == NULL ? ERR_NOT_FOUND : ERR_OK;

	if (error == ERR_OK && (m->busy || m->fetching || mail_has_claims(m)))
		error = ERR_AGAIN;
	if (error == ERR_OK && a->action == QUEUE_HOLD)
		changes = !mail_is_held(m);
	if (error == ERR_OK && a->action == QUEUE_UNHOLD)
		changes = mail_is_held(m);
	if (error == ERR_OK && (changes || a->action == QUEUE_REQUEUE)) {
		for (struct spool_item *i = m->items; i != NULL; i = i->next)
			item_take(e, i, ITEM_BUSY);
	}
	if (error == ERR_OK && a->action == QUEUE_REQUEUE)
		act_end_items(e, m, true);
	if (error != ERR_OK || !changes) {
		spool_finish_later(e, &a->request, &refused_act_kind, error);
		return;
	}
	m->busy = true;
	a->request = (struct queue_request){ .kind = &act_kind };
	if (a->action == QUEUE_UNHOLD)
		close_starts(e, m);
	log_append(e, &a->request);
}
