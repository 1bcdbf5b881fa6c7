/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of mails that we own: outcomes and starts of attempts.
 *
 * A change is sent when it is made and again with every new connection until it is answered: what
 * is repeated changes nothing. So an outcome never fails because Redis is away; it is as late as
 * that. Memory follows when Redis has answered, not before. An outcome after which all that is left
 * of the mail has to wait gives it back with the same command.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum {
	STATE_TEXT = PACK_REPLY_MOST + 64,
	CHANGE_TEXT = 512,
	AGAIN_MS = 1000,
	/* Of one command: Redis serves nobody else meanwhile. */
	CHANGES_MOST = 32,
	VALUES_MOST = 64,
};

void
finish_later(struct redis_end *e, struct queue_request *r, const struct queue_request_kind *kind,
	     enum err error)
{
	*r = (struct queue_request){ .kind = kind, .error = error };
	list_append(&e->finishing, &r->node);
	worker_soon(e->queue.worker, &e->finish_task);
}

/* ---- sending ---- */

/* What is recorded; NULL: no outcome. */
static struct queue_record *
outcomes_of(const struct redis_item *i)
{
	return i->kind->outcomes == NULL ? NULL : i->kind->outcomes(i);
}

/* The same where a mail goes with it. */
static const struct queue_record *
notice_of(const struct redis_item *i)
{
	const struct queue_record *r = outcomes_of(i);

	return r == NULL || r->notice == NULL ? NULL : r;
}

static void
wait_for_link(struct redis_end *e, struct redis_item *i)
{
	list_append(&e->unsent, &i->node);
	end_try_again(e, AGAIN_MS);
}

static void on_changed(struct redis_call *c, enum err error, const struct redisReply *reply);

/* The changes of one turn and one shard. */
struct redis_changes {
	struct redis_call call;
	struct redis_end *end;
	bool are_several; /* the reply is that of rp_records */
	struct list items;
};

/* One with a notice, or whose mail has come to us anew. */
static bool
goes_alone(const struct redis_item *i)
{
	return notice_of(i) != NULL || redis_mail_of(i->turn.item.mail)->stale;
}

static unsigned
shard_of_change(const struct redis_item *i)
{
	return redis_mail_of(i->turn.item.mail)->shard;
}

/* From those that wait to be sent: the first, and more of its shard. NULL: no memory. */
static struct redis_changes *
changes_gather(struct redis_end *e, unsigned *values)
{
	struct redis_changes *c = calloc(1, sizeof *c);
	struct redis_item *first = LIST_ITEM(list_first(&e->changes), struct redis_item, node);
	struct list_node *next;
	unsigned count = 0;

	if (c == NULL)
		return NULL;
	*c = (struct redis_changes){ .call = { .on_reply = on_changed }, .end = e };
	list_init(&c->items);
	*values = 0;
	for (struct list_node *n = &first->node; n != NULL; n = next) {
		struct redis_item *i = LIST_ITEM(n, struct redis_item, node);
		next = list_next(&e->changes, n);
		if (i != first && (shard_of_change(i) != shard_of_change(first) || goes_alone(i)))
			continue;
		list_unlink(n);
		list_append(&c->items, n);
		*values += i->kind->values(i);
		if (++count == CHANGES_MOST || *values > VALUES_MOST || goes_alone(i))
			break;
	}
	c->are_several = count > 1;
	return c;
}

static bool
changes_args(struct redis_end *e, const struct redis_changes *c, unsigned values)
{
	struct redis_item *first = LIST_ITEM(list_first(&c->items), struct redis_item, node);
	const struct queue_record *notice = notice_of(first);
	uint64_t now_ms = clock_monotonic_ms();
	unsigned count = 0;

	for (struct list_node *n = list_first(&c->items); n != NULL; n = list_next(&c->items, n))
		count++;
	if (!args_begin(e, c->are_several ? "rp_records" : "rp_record", shard_of_change(first),
			1 + 5 * count + 2 * values + 5,
			(notice == NULL ? 0 : notice_text_size(notice->notice)) +
				count * (size_t)CHANGE_TEXT + values * (size_t)STATE_TEXT))
		return false;
	args_owner(e, redis_mail_of(first->turn.item.mail));
	for (struct list_node *n = list_first(&c->items); n != NULL; n = list_next(&c->items, n)) {
		struct redis_item *i = LIST_ITEM(n, struct redis_item, node);
		i->sent_ms = now_ms;
		args_given(e, redis_mail_of(i->turn.item.mail));
		i->kind->args(e, i, c->are_several);
	}
	return notice == NULL || notice_args(e, notice);
}

static void
changes_send(struct redis_end *e)
{
	unsigned values = 0;
	struct redis_changes *c = changes_gather(e, &values);
	struct list_node *node;

	if (c == NULL) {
		wait_for_link(e, LIST_ITEM(list_shift(&e->changes), struct redis_item, node));
		return;
	}
	node = list_first(&c->items);
	struct redis_link *link = redis_servers_link(
		e->servers, shard_of_change(LIST_ITEM(node, struct redis_item, node)));
	if (link != NULL && !redis_link_is_full(link) && changes_args(e, c, values)) {
		args_send(e, link, &c->call);
		return;
	}
	while ((node = list_shift(&c->items)) != NULL)
		wait_for_link(e, LIST_ITEM(node, struct redis_item, node));
	free(c);
}

/* At the end of a turn: those of one shard share commands. */
void
changes_run(struct task *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, change_task);

	while (!list_is_empty(&e->changes))
		changes_send(e);
}

static void
change_send(struct redis_end *e, struct redis_item *i)
{
	list_append(&e->changes, &i->node);
	worker_last(e->queue.worker, &e->change_task);
}

static void
change_begin(struct redis_end *e, struct redis_item *i, struct queue_request *r,
	     const struct redis_change_kind *kind)
{
	i->request = r;
	i->kind = kind;
	i->was_sent = false;
	i->leaves = false;
	i->number = (uint32_t)(random_u64() >> 33);
	change_send(e, i);
}

void
changes_resend(struct redis_end *e)
{
	struct list now;
	struct list_node *node;

	list_init(&now);
	list_take_all(&now, &e->unsent);
	while ((node = list_shift(&now)) != NULL)
		change_send(e, LIST_ITEM(node, struct redis_item, node));
}

void
changes_give_up(struct redis_end *e)
{
	struct list_node *node;

	list_take_all(&e->unsent, &e->changes);
	while ((node = list_shift(&e->unsent)) != NULL) {
		struct redis_item *i = LIST_ITEM(node, struct redis_item, node);
		e->counters.records_given_up++;
		i->kind->done(e, i, ERR_AWAY, 0);
	}
}

/* Redis does not have the mail. Where somebody is still to get it that is told: another has
 * finished it, or it is lost. What has left with a change sent before may have ended elsewhere. */
static void
note_gone(struct redis_end *e, const struct redis_item *i)
{
	const struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	const struct queue_record *r = outcomes_of(i);
	uint64_t pending = 0;

	for (uint32_t n = 0; n < m->envelope.recipient_count; n++)
		pending += m->envelope.recipients[n].state == RECIPIENT_PENDING;
	for (uint32_t n = 0; r != NULL && n < r->result_count; n++)
		pending -= r->results[n].state != RECIPIENT_PENDING;
	if (pending > 0 && !(i->was_sent && i->leaves))
		report_gone(e, m->mail.id, pending);
}

/* EXISTS of the notice: was the change that had no answer executed, or lost with its mail, or has
 * another node ended it? */
static void
on_notice_looked_for(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_item *i = CONTAINER_OF(c, struct redis_item, call);
	struct redis_end *e = i->end;
	int64_t count = 0;

	e->calls_open--;
	e->came_until_ms = 0;
	if (error != ERR_OK || !redis_number(reply, &count))
		wait_for_link(e, i); /* the whole once more */
	else
		i->kind->done(e, i, count > 0 ? ERR_OK : ERR_LOST, 0);
}

/* The mail is gone, by a change of ours, by another node's, or with a fail-over. A notice tells
 * whether by ours; false: there is none, or it can only be ours. */
static bool
look_for_notice(struct redis_end *e, struct redis_item *i)
{
	const struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	const struct queue_record *r = notice_of(i);
	struct redis_link *link = redis_servers_link(e->servers, m->shard);

	if (r == NULL || (e->store->redis.durability == REDIS_DISK && !r->may_be_kept))
		return false;
	if (link == NULL || !args_begin(e, NULL, 0, 2, REDIS_NAME_MOST)) {
		wait_for_link(e, i);
		return true;
	}
	args_span(e, SPAN("EXISTS"));
	args_mail_key(e, r->notice->envelope->id, m->shard);
	i->call = (struct redis_call){ .on_reply = on_notice_looked_for };
	args_send(e, link, &i->call);
	return true;
}

/* "OK" | "LOST" | "TOLD" | "GONE" | "NOBODY", and recipients left */
static void
changed(struct redis_end *e, struct redis_item *i, enum err error, struct span word,
	const struct redisReply *number)
{
	int64_t left = 0;

	if (error == ERR_AGAIN || error == ERR_NO_ROOM || error == ERR_IN_DOUBT) {
		i->was_sent |= error == ERR_IN_DOUBT;
		e->counters.records_repeated += error == ERR_IN_DOUBT;
		wait_for_link(e, i);
		return;
	}
	if (error != ERR_OK || !redis_number(number, &left) || left < 0) {
		i->kind->done(e, i, ERR_STORAGE, 0);
		return;
	}
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	struct queue_record *r = outcomes_of(i);
	bool is_gone = span_eq(word, SPAN("GONE"));
	/* What we sent before and heard no answer to may be why it is gone; or whoever had the mail
	 * when the lease was over has ended it. */
	bool may_be_ours = is_gone && i->was_sent && r != NULL;
	bool may_be_theirs = !lease_is_certain(e->store, m, e->queue.worker->now_ms);
	if (r != NULL) {
		r->may_be_kept = may_be_ours && may_be_theirs;
		r->notice_is_kept = span_eq(word, SPAN("TOLD"));
	}
	if (is_gone)
		note_gone(e, i);
	if (may_be_ours && look_for_notice(e, i))
		return;
	bool is_done = span_eq(word, SPAN("OK")) || (may_be_ours && !may_be_theirs);
	/* Of the notice: one that an earlier send has committed may be another's by now. */
	e->came_until_ms = i->was_sent ? 0 : i->sent_ms;
	if (!is_done) {
		i->kind->done(e, i, span_eq(word, SPAN("NOBODY")) ? ERR_AWAY : ERR_LOST, 0);
		return;
	}
	lease_note_ours(m, i->sent_ms);
	i->kind->done(e, i, ERR_OK, (uint64_t)left);
}

/* {word, left, word, left, ...} */
static void
on_changed(struct redis_call *call, enum err error, const struct redisReply *reply)
{
	struct redis_changes *c = CONTAINER_OF(call, struct redis_changes, call);
	struct redis_end *e = c->end;
	struct list_node *node;

	e->calls_open--;
	for (size_t at = 0; (node = list_shift(&c->items)) != NULL; at += 2)
		changed(e, LIST_ITEM(node, struct redis_item, node), error,
			redis_text(redis_at(reply, at)), redis_at(reply, at + 1));
	free(c);
}

/* ---- giving back with an outcome ---- */

/* When the mail is due after these outcomes, and which recipient; UINT64_MAX: never. */
static uint64_t
due_after(const struct redis_mail *m, const struct queue_record *r, uint32_t *recipient)
{
	uint64_t due_at_ms = owned_due_at_ms(m, recipient);

	for (uint32_t n = 0; n < r->result_count; n++) {
		const struct queue_result *one = &r->results[n];
		if (one->state != RECIPIENT_PENDING || one->retry_at_ms >= due_at_ms)
			continue;
		due_at_ms = one->retry_at_ms;
		*recipient = one->recipient;
	}
	return due_at_ms;
}

static uint64_t
ms_until(const struct redis_end *e, uint64_t wall_ms)
{
	uint64_t now_ms = e->queue.worker->now_wall_ms;

	return wall_ms > now_ms ? wall_ms - now_ms : 0;
}

static void
args_nothing(struct redis_end *e, unsigned count)
{
	while (count-- > 0)
		args_span(e, span_none());
}

/* release_ms, lane, and, where they are several, the number of what gives the mail back. */
static void
args_leaving(struct redis_end *e, struct redis_item *i, const struct queue_record *r, bool several)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	uint32_t recipient = 0;
	uint64_t due_at_ms =
		r == NULL || r->notice != NULL ? UINT64_MAX : due_after(m, r, &recipient);
	uint64_t wait_ms = ms_until(e, due_at_ms);

	if (!i->leaves) {
		i->leaves = due_at_ms != UINT64_MAX && m->busy == 1 && !m->leaving &&
			    (wait_ms > REDIS_KEEP_MS || e->stopping || e->drains);
		for (struct redis_item *k = m->items; k != NULL && i->leaves; k = k->next) {
			if (k->turn.state == ITEM_WAITING)
				owned_item_take(e, k, ITEM_LEAVING);
		}
		m->leaving |= i->leaves;
	}
	if (!i->leaves) {
		args_nothing(e, several ? 3 : 2);
		return;
	}
	args_number(e, wait_ms);
	args_lane(e, m, recipient);
	if (several)
		args_number(e, i->number);
}

/* ---- outcomes ---- */

static struct pack_state
state_after(const struct redis_mail *m, const struct queue_result *r)
{
	struct pack_state s = owned_state(m, r->recipient);
	bool counts = r->state == RECIPIENT_PENDING && r->tried && s.attempts < UINT16_MAX;

	s.state = r->state;
	s.notified = s.notified || r->notified;
	s.attempts = (uint16_t)(s.attempts + counts);
	s.closed = s.starts;
	s.retry_at_ms = r->retry_at_ms;
	s.reply = span_first(r->reply, PACK_REPLY_MOST);
	return s;
}

static struct queue_record *
record_of(const struct redis_item *i)
{
	return CONTAINER_OF(i->request, struct queue_record, request);
}

static uint32_t
outcome_values(const struct redis_item *i)
{
	return record_of(i)->result_count;
}

static void
outcome_args(struct redis_end *e, struct redis_item *i, bool several)
{
	const struct queue_record *r = record_of(i);
	const struct redis_mail *m = redis_mail_of(i->turn.item.mail);

	args_leaving(e, i, r, several);
	args_number(e, r->result_count);
	for (uint32_t n = 0; n < r->result_count; n++) {
		struct pack_state s = state_after(m, &r->results[n]);
		args_number(e, r->results[n].recipient);
		args_state(e, &s);
	}
	if (i->leaves && !several)
		args_number(e, i->number);
}

static void
apply_outcome(struct redis_end *e, struct redis_item *i, const struct queue_record *r)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	uint64_t due_at_ms = UINT64_MAX;
	bool tried = false;

	for (uint32_t n = 0; n < r->result_count; n++) {
		const struct queue_result *one = &r->results[n];
		struct pack_state s = state_after(m, one);
		tried |= one->tried || one->state != RECIPIENT_PENDING;
		owned_set_state(m, one->recipient, &s);
	}
	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		const struct mail_recipient *to = &m->envelope.recipients[n];
		/* Redis counts them, as long as the mail is there for others. */
		if (to->state == RECIPIENT_FAILED && m->envelope.recipient_count > 1)
			atomic_store(&e->store->leases[m->shard].changed, true);
		if (to->state == RECIPIENT_PENDING && to->site.number == i->turn.item.site.number &&
		    to->retry_at_ms < due_at_ms)
			due_at_ms = to->retry_at_ms;
	}
	i->turn.item.open_starts = 0;
	i->turn.item.recovered = i->turn.item.had_run_alone = false;
	i->turn.started = 0;
	i->turn.was_paid = i->turn.was_paid && !tried;
	if (due_at_ms == UINT64_MAX)
		owned_item_busy(e, i, ITEM_NEW); /* it goes when on_done has returned */
	else
		owned_item_wait(e, i, due_at_ms);
}

static void
outcome_failed(struct redis_end *e, struct redis_item *i, enum err error)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	struct queue_record *r = record_of(i);

	if (r->notice != NULL)
		notice_end(e, r->notice, error);
	if (i->leaves)
		owned_stays(e, m);
	if (error != ERR_LOST) {
		owned_item_busy(e, i, ITEM_CLAIMED);
		r->on_done(r, error);
		return;
	}
	e->counters.records_lost++;
	/* Or this copy is an old one, and another worker took it for the one that we have. */
	atomic_store(&e->store->leases[m->shard].suspect, true);
	r->on_done(r, error);
	owned_item_busy(e, i, ITEM_NEW);
	owned_lose(e, m);
}

/* Where Redis has more recipients pending than we do, a fail-over has lost outcomes of a mail that
 * we had all along: whoever has it when this is over here tries them again. `goes`: nothing of it
 * is left to us, but it is still noted as ours, and is looked for. */
static void
note_undone(struct redis_end *e, struct redis_mail *m, uint64_t left, bool goes)
{
	uint64_t pending = 0;

	for (uint32_t n = 0; n < m->envelope.recipient_count; n++)
		pending += m->envelope.recipients[n].state == RECIPIENT_PENDING;
	if (left > pending && goes) {
		atomic_store(&e->store->leases[m->shard].suspect, true);
	} else if (left > pending + m->undone) {
		e->counters.undone_outcomes += left - pending - m->undone;
		m->undone = (uint32_t)(left - pending);
	}
}

static void
outcome_done(struct redis_end *e, struct redis_item *i, enum err error, uint64_t left)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	struct queue_record *r = record_of(i);
	bool leaves = i->leaves;

	if (error != ERR_OK) {
		outcome_failed(e, i, error);
		return;
	}
	e->counters.records++;
	apply_outcome(e, i, r);
	restate_note(e, m);
	bool is_over = i->turn.state == ITEM_NEW;
	if (r->notice != NULL)
		notice_end(e, r->notice, ERR_OK);
	/* Only then may the mail go: on_done reads it for its events, and ends `r`. */
	r->on_done(r, ERR_OK);
	if (leaves || left == 0) {
		note_undone(e, m, left, false);
		e->counters.released_mails += leaves && left > 0;
		if (leaves) {
			atomic_store(&e->store->leases[m->shard].changed, true);
			drain_wakes(e, m->shard);
		}
		owned_lose(e, m);
		return;
	}
	if (is_over)
		owned_item_free(e, i);
	note_undone(e, m, left, m->items == NULL);
	if (m->items == NULL)
		owned_forget(e, m);
	else
		owned_may_leave(e, m);
}

static const struct redis_change_kind outcome_kind = { outcome_values, outcome_args, outcome_done,
						       record_of };

static enum err
record_begin(struct redis_end *e, struct redis_item *i, struct queue_record *r)
{
	owned_item_busy(e, i, ITEM_RECORDING);
	return r->notice == NULL ? ERR_OK : notice_begin(e, r->notice);
}

static void
failed_record_done(struct redis_end *e, struct queue_request *request)
{
	struct queue_record *r = CONTAINER_OF(request, struct queue_record, request);
	struct redis_item *i = redis_item_of(r->item);

	i->request = request;
	i->leaves = false;
	outcome_failed(e, i, request->error);
}

static const struct queue_request_kind failed_record_kind = { failed_record_done };

void
redis_record(struct queue *q, struct queue_record *r)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_item *i = redis_item_of(r->item);

	ASSERT(i->turn.state == ITEM_CLAIMED);
	enum err error = record_begin(e, i, r);
	if (error != ERR_OK)
		finish_later(e, &r->request, &failed_record_kind, error);
	else
		change_begin(e, i, &r->request, &outcome_kind);
}

/* ---- starts ---- */

static uint32_t
states_values(const struct redis_item *i)
{
	return i->turn.item.recipient_count;
}

/* The states of an item's recipients after a start, or (attempt NULL) after its end. */
static void
states_args(struct redis_end *e, const struct redis_item *i, const struct queue_attempt *attempt,
	    bool several)
{
	const struct redis_mail *m = redis_mail_of(i->turn.item.mail);
	uint32_t count = i->turn.item.recipient_count;

	args_nothing(e, several ? 3 : 2);
	args_number(e, count);
	for (uint32_t n = 0; n < count; n++) {
		struct pack_state s = owned_state(m, i->turn.item.recipients[n]);
		if (attempt == NULL) {
			s.closed = s.starts;
		} else {
			s.starts++;
			s.alone = attempt->alone;
		}
		args_number(e, i->turn.item.recipients[n]);
		args_state(e, &s);
	}
}

static void
start_args(struct redis_end *e, struct redis_item *i, bool several)
{
	states_args(e, i, CONTAINER_OF(i->request, struct queue_attempt, request), several);
}

static void
start_done(struct redis_end *e, struct redis_item *i, enum err error, uint64_t left)
{
	struct queue_attempt *a = CONTAINER_OF(i->request, struct queue_attempt, request);
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);

	(void)left;
	for (uint32_t n = 0; n < i->turn.item.recipient_count && error == ERR_OK; n++) {
		struct redis_recipient *to = &m->recipients[i->turn.item.recipients[n]];
		to->starts++;
		to->alone = a->alone;
	}
	if (error == ERR_OK) {
		i->turn.item.open_starts++;
		i->turn.item.had_run_alone = a->alone;
		i->turn.started = 1;
	}
	owned_item_busy(e, i, ITEM_CLAIMED);
	a->on_done(a, error);
	if (error != ERR_LOST)
		return;
	e->counters.records_lost++;
	owned_item_busy(e, i, ITEM_NEW);
	owned_lose(e, m);
}

static const struct redis_change_kind start_kind = { states_values, start_args, start_done, NULL };

void
redis_attempt(struct queue *q, struct queue_attempt *a)
{
	struct redis_end *e = redis_end_of(q);
	struct redis_item *i = redis_item_of(a->item);

	ASSERT(i->turn.state == ITEM_CLAIMED);
	owned_item_busy(e, i, ITEM_RECORDING);
	change_begin(e, i, &a->request, &start_kind);
}

/* ---- a start that ended in an orderly way ---- */

static void
close_args(struct redis_end *e, struct redis_item *i, bool several)
{
	states_args(e, i, NULL, several);
}

static void
close_done(struct redis_end *e, struct redis_item *i, enum err error, uint64_t left)
{
	struct redis_mail *m = redis_mail_of(i->turn.item.mail);

	(void)left;
	for (uint32_t n = 0; n < i->turn.item.recipient_count; n++) {
		struct redis_recipient *to = &m->recipients[i->turn.item.recipients[n]];
		to->closed = to->starts;
	}
	i->turn.item.open_starts = 0;
	i->turn.started = 0;
	if (error == ERR_LOST) {
		e->counters.records_lost++;
		owned_item_busy(e, i, ITEM_NEW);
		owned_lose(e, m);
		return;
	}
	owned_item_wait(e, i, i->release_at_ms);
	owned_may_leave(e, m);
}

static const struct redis_change_kind close_kind = { states_values, close_args, close_done, NULL };

void
start_close(struct redis_end *e, struct redis_item *i, uint64_t due_at_ms)
{
	i->release_at_ms = due_at_ms;
	owned_item_busy(e, i, ITEM_RECORDING);
	change_begin(e, i, NULL, &close_kind);
}
