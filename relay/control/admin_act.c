/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that change mails: queue retry, hold, release, remove, move. Each worker looks for
 * those that it keeps, by ids or by filter, and changes them as it finds them, ACTS_MAX at a time,
 * so that they share commits. With dry_run it only counts.
 */
#include <stdlib.h>

#include "core/base/id.h"
#include "core/log.h"
#include "relay/control/admin_queue.h"
#include "relay/control/control.h"
#include "relay/control/seen.h"
#include "relay/flow/report.h"

enum {
	ACTS_MAX = 64,
	REFUSED_MAX = 100,
	EXAMPLES = 5, /* of a dry run, at most so many of each worker */
	TEXTS_FIRST = 1024,
	TEXTS_MAX = 16 * 1024 * 1024,
};

struct act_part;

struct act {
	struct queue_act request; /* first */
	struct queue_show show;
	struct arena texts; /* what is told of a removed mail */
	struct span sender;
	struct span *recipients;
	uint32_t recipient_count;
	struct list_node link;
	struct act_part *part;
};

struct refusal {
	struct mail_id id;
	enum err error;
};

/* What one worker does. */
struct act_part {
	struct act_run *run;
	struct ask_part *ask_part;
	uint64_t cursor;
	bool at_end;      /* nothing more will be found */
	bool is_away;     /* the store cannot be asked */
	unsigned id_next; /* of the request's ids */
	uint64_t id_cursor;
	struct mail_id found[ACTS_MAX];
	bool maybe[ACTS_MAX]; /* it is only a candidate */
	unsigned found_count;
	unsigned found_next; /* the first that is not begun */
	struct mail_id last; /* found; rows of a mail come together */
	bool has_last;
	bool passes;      /* it was seen before, here or by another worker */
	struct list idle; /* struct act.link */
	unsigned in_flight;
	struct act acts[ACTS_MAX];
	struct admin_acted numbers;
	struct admin_found examples;
	struct refusal refused[REFUSED_MAX];
	unsigned refused_count;
};

struct act_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct queue_filter filter;
	const struct span *site; /* or NULL */
	enum queue_action action;
	struct span done_word;
	bool moves;
	uint8_t place;  /* of a move: enum queue_place, where it goes */
	uint64_t limit; /* mails done of a worker; 0: all */
	bool by_ids;
	bool dry_run;
	struct seen *seen; /* NULL: mails stay where they are */
	struct buf who;
	uint8_t who_memory[ADMIN_WHO_MAX];
	struct span why; /* in the client's request */
	struct ask_part ask_parts[WORKERS_MAX];
	struct act_part *parts[WORKERS_MAX];
};

/* ---- on the worker ---- */

static bool
on_found(void *context, const struct queue_row *row)
{
	struct act_part *p = context;
	const struct span *site = p->run->site;
	struct worker *w = ask_worker(p->ask_part);

	if (site != NULL && !report_leads_to(w->flow, row->site, *site))
		return p->found_count < ACTS_MAX;
	bool is_known = p->has_last && mail_id_eq(p->last, row->id);
	if (!is_known)
		p->passes = p->run->seen != NULL && !seen_add(p->run->seen, row->id);
	if (!p->passes) {
		p->numbers.recipients += row->pending_count;
		if (p->run->dry_run && p->examples.count < EXAMPLES)
			admin_on_row(&p->examples, row);
	}
	p->last = row->id;
	p->has_last = true;
	if (is_known || p->passes)
		return p->found_count < ACTS_MAX;
	if (p->run->moves && row->place == p->run->place)
		return p->found_count < ACTS_MAX; /* it is there */
	ASSERT(p->found_count < ACTS_MAX);
	p->maybe[p->found_count] = row->is_candidate;
	p->found[p->found_count++] = row->id;
	p->numbers.matched++;
	return p->found_count < ACTS_MAX;
}

static void
look_by_filter(struct act_part *p, struct queue *q, uint64_t slice_us)
{
	p->at_end = !queue_list(q, &p->run->filter, &p->cursor, slice_us, on_found, p);
}

/* One lookup an id, which a store may need time for; those of other workers are not found here. */
static void
look_by_ids(struct act_part *p, struct queue *q, uint64_t slice_us)
{
	const struct admin_request *r = &p->run->client->request;

	while (p->id_next < r->id_count && p->found_count < ACTS_MAX) {
		struct queue_filter filter = { .by_id = true, .id = r->ids[p->id_next] };
		if (queue_list(q, &filter, &p->id_cursor, slice_us, on_found, p))
			return;
		p->id_next++;
		p->id_cursor = 0;
	}
	p->at_end = p->id_next == r->id_count;
}

static void
log_act(const struct act_part *p, struct mail_id mail)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf id = buf_of(memory, sizeof memory);

	id_write(&id, mail.high, mail.low);
	event_mail_acted(ask_worker(p->ask_part)->log, &(struct event_mail_acted){
							       .id = buf_span(&id),
							       .action = p->run->done_word,
							       .who = buf_span(&p->run->who),
							       .why = p->run->why,
						       });
}

static void
note_refused(struct act_part *p, struct mail_id id, enum err e)
{
	if (p->refused_count < REFUSED_MAX)
		p->refused[p->refused_count++] = (struct refusal){ id, e };
}

static void
log_removed(const struct act *a)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf id = buf_of(memory, sizeof memory);
	const struct act_part *p = a->part;

	id_write(&id, a->request.id.high, a->request.id.low);
	for (uint32_t i = 0; i < a->recipient_count; i++)
		event_recipient_removed(ask_worker(p->ask_part)->log,
					&(struct event_recipient_removed){
						.id = buf_span(&id),
						.sender = a->sender,
						.recipient = a->recipients[i],
						.who = buf_span(&p->run->who),
						.why = p->run->why,
					});
}

static void
end_act(struct act *a)
{
	struct act_part *p = a->part;

	arena_reset(&a->texts);
	a->recipients = NULL;
	a->recipient_count = 0;
	ASSERT(p->in_flight > 0);
	p->in_flight--;
	list_append(&p->idle, &a->link);
	ask_resume(p->ask_part);
}

static void
on_acted(struct queue_act *request, enum err e)
{
	struct act *a = CONTAINER_OF(request, struct act, request);
	struct act_part *p = a->part;

	if (e == ERR_OK) {
		p->numbers.done++;
		/* The queue tells of moves, also when nobody asks any more. */
		if (!request->is_told) {
			if (!p->run->moves)
				log_act(p, request->id);
			log_removed(a);
		}
	} else {
		if (e == ERR_AGAIN)
			p->numbers.busy++;
		else if (e == ERR_NOT_FOUND)
			p->numbers.missing++;
		else
			p->numbers.failed++;
		note_refused(p, request->id, e);
	}
	end_act(a);
}

/* Keeps what the events of a removal say. False: no memory. */
static bool
keep_recipients(struct act *a, const struct mail_envelope *e)
{
	a->recipients = arena_take(&a->texts, (e->recipient_count + 1) * sizeof *a->recipients);
	a->sender = arena_copy(&a->texts, e->sender);
	if (a->recipients == NULL || a->sender.data == NULL)
		return false;
	for (uint32_t i = 0; i < e->recipient_count; i++) {
		if (e->recipients[i].state != RECIPIENT_PENDING)
			continue;
		struct span address = arena_copy(&a->texts, e->recipients[i].address);
		if (address.data == NULL)
			return false;
		a->recipients[a->recipient_count++] = address;
	}
	return true;
}

static void
on_looked(struct queue_show *s, enum err e)
{
	struct act *a = CONTAINER_OF(s, struct act, show);
	const struct act_run *run = a->part->run;

	if (e == ERR_OK && !run->by_ids && !admin_filter_matches(&run->filter, s->envelope)) {
		a->part->numbers.matched--;
		end_act(a);
		return;
	}
	if (e == ERR_OK && run->action == QUEUE_REMOVE && !keep_recipients(a, s->envelope))
		e = ERR_NO_MEMORY;
	if (e != ERR_OK) {
		on_acted(&a->request, e);
		return;
	}
	queue_act(ask_worker(a->part->ask_part)->queue, &a->request);
}

static void
look_first(struct act *a, struct queue *q)
{
	arena_init(&a->texts, TEXTS_FIRST, TEXTS_MAX);
	a->show = (struct queue_show){ .id = a->request.id, .on_done = on_looked };
	queue_show(q, &a->show);
}

static void
begin_acts(struct act_part *p, struct queue *q)
{
	while (p->found_next < p->found_count && !list_is_empty(&p->idle)) {
		struct act *a = LIST_ITEM(list_shift(&p->idle), struct act, link);
		bool maybe = p->maybe[p->found_next];
		a->part = p;
		a->request = (struct queue_act){
			.action = p->run->action,
			.id = p->found[p->found_next++],
			.who = buf_span(&p->run->who),
			.why = p->run->why,
			.on_done = on_acted,
		};
		p->in_flight++;
		/* What is removed is told by recipient; what may not match is looked at. */
		if (maybe || p->run->action == QUEUE_REMOVE)
			look_first(a, q);
		else
			queue_act(q, &a->request);
	}
	if (p->found_next == p->found_count)
		p->found_next = p->found_count = 0;
}

static enum ask_step
act_slice(struct ask_part *ask_part, uint64_t slice_us)
{
	struct act_run *run = CONTAINER_OF(ask_part->ask, struct act_run, ask);
	struct act_part *p = run->parts[ask_part->worker];
	struct queue *q = ask_worker(ask_part)->queue;

	p->ask_part = ask_part;
	p->examples.flow = ask_worker(ask_part)->flow;
	p->is_away |= !p->at_end && queue_admit(q, 0) == ERR_AWAY;
	if (ask_is_cancelled(ask_part) || p->is_away ||
	    (run->limit > 0 && p->numbers.done >= run->limit)) {
		p->at_end = true;
		p->found_next = p->found_count = 0;
	}
	if (p->found_count == 0 && !p->at_end) {
		if (run->by_ids)
			look_by_ids(p, q, slice_us);
		else
			look_by_filter(p, q, slice_us);
	}
	if (run->dry_run)
		p->found_next = p->found_count = 0;
	else
		begin_acts(p, q);
	/* Each act that ends asks for the next slice. */
	if (p->found_count > 0)
		return ASK_WAIT;
	if (!p->at_end)
		return ASK_MORE;
	return p->in_flight > 0 ? ASK_WAIT : ASK_DONE;
}

/* ---- on the control thread ---- */

static void
end_run(struct act_run *run)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		if (run->parts[i] != NULL)
			admin_found_fini(&run->parts[i]->examples);
		free(run->parts[i]);
	}
	seen_free(run->seen);
	free(run);
}

static struct span
why_not(enum err e)
{
	if (e == ERR_AGAIN)
		return SPAN("it is being delivered now; suspend its site to stop that");
	if (e == ERR_TIMEOUT)
		return SPAN("the relay that has it did not answer, and may still do it");
	return span_of_string(err_text(e));
}

static void
write_examples(const struct act_run *run)
{
	struct admin_client *c = run->client;
	unsigned left = EXAMPLES;

	admin_rows(c, "examples");
	for (unsigned w = 0; w < admin_workers(c); w++) {
		struct admin_found *found = &run->parts[w]->examples;
		found->count = found->count < left ? found->count : left;
		left -= (unsigned)found->count;
		admin_write_rows(c, found);
	}
	admin_rows_end(c);
}

/* At most REFUSED_MAX rows in all. */
static void
write_refused(const struct act_run *run)
{
	struct admin_client *c = run->client;
	unsigned left = REFUSED_MAX;

	admin_rows(c, "refused");
	for (unsigned w = 0; w < admin_workers(c); w++) {
		const struct act_part *p = run->parts[w];
		for (unsigned i = 0; i < p->refused_count && left > 0; i++, left--) {
			uint8_t memory[ID_TEXT_SIZE];
			struct buf id = buf_of(memory, sizeof memory);
			id_write(&id, p->refused[i].id.high, p->refused[i].id.low);
			admin_row(c, ADMIN_SHAPE_acted_row,
				  &(struct admin_acted_row){ .id = buf_span(&id),
							     .why = why_not(p->refused[i].error) });
		}
	}
	admin_rows_end(c);
}

static void
answer(struct act_run *run)
{
	struct admin_client *c = run->client;
	struct admin_acted all = { .dry_run = run->dry_run };
	bool is_away = false;

	for (unsigned w = 0; w < admin_workers(c); w++) {
		const struct admin_acted *n = &run->parts[w]->numbers;
		all.matched += n->matched;
		all.recipients += n->recipients;
		all.done += n->done;
		all.busy += n->busy;
		all.missing += n->missing;
		all.failed += n->failed;
		is_away |= run->parts[w]->is_away;
	}
	if (is_away) {
		admin_refuse(c, ADMIN_REFUSED, err_text(ERR_AWAY));
		return;
	}
	if (run->by_ids)
		all.missing += c->request.id_count - all.matched;
	admin_object(c, ADMIN_SHAPE_acted, &all);
	write_refused(run);
	if (run->dry_run)
		write_examples(run);
	admin_done(c);
}

static void
on_all_acted(struct ask *a)
{
	struct act_run *run = CONTAINER_OF(a, struct act_run, ask);

	if (admin_asked(run->client))
		answer(run);
	end_run(run);
}

static void
set_action(struct act_run *run, enum admin_command command, uint64_t to)
{
	switch (command) {
	case ADMIN_QUEUE_HOLD:
		run->action = QUEUE_HOLD;
		run->done_word = SPAN("held");
		return;
	case ADMIN_QUEUE_RELEASE:
		run->action = QUEUE_UNHOLD;
		run->done_word = SPAN("released");
		return;
	case ADMIN_QUEUE_REMOVE:
		run->action = QUEUE_REMOVE;
		run->done_word = SPAN("removed");
		return;
	case ADMIN_QUEUE_MOVE:
		run->moves = true;
		run->place = to == ADMIN_TO_REDIS ? QUEUE_IN_REDIS : QUEUE_IN_SPOOL;
		run->action = to == ADMIN_TO_REDIS ? QUEUE_MOVE_TO_REDIS : QUEUE_MOVE_TO_SPOOL;
		run->done_word = SPAN("moved");
		return;
	default:
		run->action = QUEUE_REQUEUE;
		run->done_word = SPAN("retried");
	}
}

static bool
make_parts(struct act_run *run, unsigned workers)
{
	for (unsigned i = 0; i < workers; i++) {
		struct act_part *p = calloc(1, sizeof *p);
		if (p == NULL)
			return false;
		p->run = run;
		p->examples.wanted = EXAMPLES;
		list_init(&p->idle);
		for (unsigned n = 0; n < ACTS_MAX; n++)
			list_append(&p->idle, &p->acts[n].link);
		run->parts[i] = p;
	}
	return true;
}

void
admin_run_queue_act(struct admin_client *c)
{
	const struct admin_request *r = &c->request;
	struct act_run *run;

	if (r->command == ADMIN_QUEUE_MOVE &&
	    c->admin->worker->config->queue.fallback != FALLBACK_SPOOL) {
		admin_refuse(c, ADMIN_REFUSED,
			     "the queue has one store only; set queue: { store: redis, fallback: "
			     "spool } to have both open");
		return;
	}
	run = calloc(1, sizeof *run);
	if (run != NULL && queue_has_nodes(c->admin->control->crew[0].worker.queue))
		run->seen = seen_new();
	if (run == NULL || !make_parts(run, admin_workers(c))) {
		if (run != NULL)
			end_run(run);
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->by_ids = request_has(r, ADMIN_ARG_IDS);
	run->dry_run = request_has(r, ADMIN_ARG_DRY_RUN);
	run->why = r->texts[ADMIN_ARG_REASON];
	run->who = buf_of(run->who_memory, sizeof run->who_memory);
	admin_write_who(c, &run->who);
	set_action(run, r->command, r->numbers[ADMIN_ARG_TO]);
	if (run->moves)
		run->limit = r->numbers[ADMIN_ARG_LIMIT];
	admin_filter(c, &run->filter);
	run->site = admin_filter_site(c);
	run->ask = (struct ask){
		.on_slice = act_slice,
		.on_done = on_all_acted,
		.parts = run->ask_parts,
	};
	admin_ask(c, &run->ask, 0, admin_workers(c));
}
