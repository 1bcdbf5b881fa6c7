/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that look into the queue. The rows of a list are in the order of the workers, so
 * that its cursor is a worker and a place.
 */
#include "relay/control/admin_queue.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/id.h"
#include "queue/sender.h"
#include "relay/control/control.h"
#include "relay/control/tally.h"
#include "relay/flow/report.h"
#include "relay/flow/routing.h"

enum { ROWS_FIRST = 128, TEXTS_FIRST = 4096, CURSOR_MAX = 64 };

struct span
admin_state_word(unsigned queue_state)
{
	switch (queue_state) {
	case QUEUE_WAITING:
		return SPAN("waiting");
	case QUEUE_CLAIMED:
		return SPAN("active");
	case QUEUE_HELD:
		return SPAN("held");
	case QUEUE_FAILED:
		return SPAN("failed");
	default:
		return span_none();
	}
}

static enum queue_state
state_of_word(uint64_t word)
{
	switch (word) {
	case ADMIN_STATE_WAITING:
		return QUEUE_WAITING;
	case ADMIN_STATE_ACTIVE:
		return QUEUE_CLAIMED;
	case ADMIN_STATE_HELD:
		return QUEUE_HELD;
	case ADMIN_STATE_FAILED:
		return QUEUE_FAILED;
	default:
		return QUEUE_ANY;
	}
}

void
admin_filter(const struct admin_client *c, struct queue_filter *f)
{
	const struct admin_request *r = &c->request;
	uint64_t now_ms = c->admin->worker->now_wall_ms;

	*f = (struct queue_filter){ 0 };
	if (request_has(r, ADMIN_ARG_ID)) {
		f->by_id = true;
		f->id = r->id;
	}
	if (request_has(r, ADMIN_ARG_STATE))
		f->state = state_of_word(r->numbers[ADMIN_ARG_STATE]);
	if (request_has(r, ADMIN_ARG_OLDER_THAN)) {
		uint64_t age_ms = r->numbers[ADMIN_ARG_OLDER_THAN];
		f->accepted_before_ms = age_ms < now_ms ? now_ms - age_ms : 1;
	}
	if (request_has(r, ADMIN_ARG_NEWER_THAN)) {
		uint64_t age_ms = r->numbers[ADMIN_ARG_NEWER_THAN];
		f->accepted_after_ms = age_ms < now_ms ? now_ms - age_ms : 0;
	}
	f->attempts_min = (uint16_t)r->numbers[ADMIN_ARG_ATTEMPTS];
	f->null_sender = span_eq(r->texts[ADMIN_ARG_SENDER], SPAN("<>"));
	if (!f->null_sender)
		f->sender = r->texts[ADMIN_ARG_SENDER];
	f->recipient_domain = r->texts[ADMIN_ARG_DOMAIN];
	f->recipient = r->texts[ADMIN_ARG_RECIPIENT];
	f->reply = r->texts[ADMIN_ARG_REPLY];
}

static bool
sender_matches(const struct queue_filter *f, struct span sender)
{
	uint8_t asked[SENDER_KEY_MOST];
	uint8_t found[SENDER_KEY_MOST];

	if (f->null_sender)
		return sender.size == 0;
	if (f->sender.size == 0)
		return true;
	if (f->sender.data[0] == '@')
		return span_eq_nocase(address_domain(sender), span_after(f->sender, 1));
	return span_eq(sender_key(f->sender, asked), sender_key(sender, found));
}

static bool
recipient_matches(const struct queue_filter *f, const struct mail_recipient *r)
{
	return (f->recipient_domain.size == 0 ||
		span_eq_nocase(address_domain(r->address), f->recipient_domain)) &&
	       (f->recipient.size == 0 || span_eq_nocase(r->address, f->recipient)) &&
	       (f->reply.size == 0 ||
		memmem(r->reply.data, r->reply.size, f->reply.data, f->reply.size) != NULL);
}

bool
admin_filter_matches(const struct queue_filter *f, const struct mail_envelope *e)
{
	uint8_t state = f->state == QUEUE_FAILED ? RECIPIENT_FAILED : RECIPIENT_PENDING;

	if (!sender_matches(f, e->sender))
		return false;
	for (uint32_t i = 0; i < e->recipient_count; i++) {
		if (e->recipients[i].state == state && recipient_matches(f, &e->recipients[i]))
			return true;
	}
	return false;
}

const struct span *
admin_filter_site(const struct admin_client *c)
{
	return request_has(&c->request, ADMIN_ARG_SITE) ? &c->request.texts[ADMIN_ARG_SITE] : NULL;
}

/* ---- rows, on a worker ---- */

static bool
grow_rows(struct admin_found *r)
{
	size_t capacity = r->capacity == 0 ? ROWS_FIRST : 2 * r->capacity;
	struct shown_row *more = realloc(r->rows, capacity * sizeof *more);

	if (more == NULL)
		return false;
	r->rows = more;
	r->capacity = capacity;
	return true;
}

static struct kept
keep(struct admin_found *r, struct span text, bool is_known)
{
	struct kept kept = { r->texts_size, text.size, is_known };

	while (r->texts_capacity - r->texts_size < text.size) {
		size_t capacity = r->texts_capacity == 0 ? TEXTS_FIRST : 2 * r->texts_capacity;
		uint8_t *more = realloc(r->texts, capacity);
		if (more == NULL) {
			r->no_memory = true;
			return (struct kept){ 0 };
		}
		r->texts = more;
		r->texts_capacity = capacity;
	}
	if (text.size > 0)
		memcpy(r->texts + r->texts_size, text.data, text.size);
	r->texts_size += text.size;
	return kept;
}

static struct span
text_of(const struct admin_found *r, struct kept k)
{
	if (!k.is_known)
		return span_none();
	return k.size == 0 ? SPAN("") : span_of(r->texts + k.at, k.size);
}

bool
admin_on_row(void *context, const struct queue_row *row)
{
	struct admin_found *r = context;
	bool failed = row->state == QUEUE_FAILED; /* goes nowhere any more */

	if (r->site != NULL && (failed || !report_leads_to(r->flow, row->site, *r->site)))
		return r->count < r->wanted;
	if (r->count == r->capacity && !grow_rows(r)) {
		r->no_memory = true;
		return false;
	}
	struct span site = failed ? span_none() : report_site_name(r->flow, row->site);
	r->rows[r->count++] = (struct shown_row){
		.row = *row,
		.site = keep(r, site, site.size > 0),
		.sender = keep(r, row->sender, row->sender_is_known),
		.domain = keep(r, row->recipient_domain, row->recipient_domain.size > 0),
		.reply = keep(r, row->reply, row->reply.size > 0),
	};
	return r->count < r->wanted && !r->no_memory;
}

void
admin_found_fini(struct admin_found *r)
{
	free(r->rows);
	free(r->texts);
}

void
admin_write_rows(struct admin_client *c, const struct admin_found *r)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct shown_row *shown = &r->rows[i];
		const struct queue_row *row = &shown->row;
		uint8_t memory[ID_TEXT_SIZE];
		struct buf id = buf_of(memory, sizeof memory);
		id_write(&id, row->id.high, row->id.low);
		admin_row(c, ADMIN_SHAPE_queue_row,
			  &(struct admin_queue_row){
				  .id = buf_span(&id),
				  .state = admin_state_word(row->state),
				  .accepted_at = row->accepted_at_ms,
				  .due_at = row->state == QUEUE_WAITING ? row->due_at_ms : 0,
				  .attempts = row->attempts,
				  .size = row->body_size,
				  .recipients = row->pending_count,
				  .sender = text_of(r, shown->sender),
				  .domain = text_of(r, shown->domain),
				  .site = text_of(r, shown->site),
				  .reply = text_of(r, shown->reply),
				  .maybe = row->is_candidate ? SPAN("yes") : span_none(),
			  });
	}
}

/* ---- queue list ---- */

/* All workers from the cursor's on look at the same time, each for a whole page. Their rows stand
 * in the order of the workers; those of a worker whose rows do not fit any more are left for the
 * next page. */
struct list_part {
	uint64_t begin; /* of its queue */
	uint64_t cursor;
	bool at_end;
	bool is_away; /* rows that nobody can be asked for now */
	struct admin_found rows;
};

struct list_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct queue_filter filter;
	unsigned first; /* worker */
	size_t wanted;
	struct ask_part ask_parts[WORKERS_MAX];
	struct list_part parts[WORKERS_MAX];
};

static void
end_list(struct list_run *run)
{
	for (unsigned w = 0; w < WORKERS_MAX; w++)
		admin_found_fini(&run->parts[w].rows);
	free(run);
}

static enum ask_step
list_slice(struct ask_part *ask_part, uint64_t slice_us)
{
	struct list_run *run = CONTAINER_OF(ask_part->ask, struct list_run, ask);
	struct list_part *p = &run->parts[ask_part->worker];
	struct worker *w = ask_worker(ask_part);

	p->rows.flow = w->flow;
	p->at_end =
		!queue_list(w->queue, &run->filter, &p->cursor, slice_us, admin_on_row, &p->rows);
	if (p->at_end || p->rows.no_memory || p->rows.count >= p->rows.wanted ||
	    ask_is_cancelled(ask_part))
		return ASK_DONE;
	p->is_away = queue_admit(w->queue, 0) == ERR_AWAY;
	return p->is_away ? ASK_DONE : ASK_MORE;
}

/* The worker with which the next page begins, and where; false: there is none. `last` is the last
 * one whose rows are in this page. */
static bool
next_page(const struct list_run *run, unsigned workers, unsigned last, unsigned *worker,
	  uint64_t *cursor)
{
	if (!run->parts[last].at_end) {
		*worker = last;
		*cursor = run->parts[last].cursor;
		return true;
	}
	for (unsigned w = last + 1; w < workers; w++) {
		if (run->parts[w].rows.count > 0 || !run->parts[w].at_end) {
			*worker = w;
			*cursor = run->parts[w].begin;
			return true;
		}
	}
	return false;
}

static void
answer_list(struct list_run *run)
{
	struct admin_client *c = run->client;
	unsigned workers = admin_workers(c);
	unsigned last = run->first;
	size_t count = run->parts[last].rows.count;
	struct admin_page page = { 0 };
	uint8_t memory[CURSOR_MAX];
	struct buf text = buf_of(memory, sizeof memory);
	unsigned worker;
	uint64_t cursor;

	while (last + 1 < workers && run->parts[last].at_end &&
	       count + run->parts[last + 1].rows.count <= run->wanted)
		count += run->parts[++last].rows.count;
	if (next_page(run, workers, last, &worker, &cursor)) {
		buf_printf(&text, "%u.%016" PRIx64, worker, cursor);
		page.cursor = buf_span(&text);
	}
	admin_object(c, ADMIN_SHAPE_page, &page);
	admin_rows(c, "rows");
	for (unsigned w = run->first; w <= last; w++)
		admin_write_rows(c, &run->parts[w].rows);
	admin_rows_end(c);
	admin_done(c);
}

static void
on_listed(struct ask *a)
{
	struct list_run *run = CONTAINER_OF(a, struct list_run, ask);
	struct admin_client *c = run->client;
	bool no_memory = false;
	bool is_away = false;

	for (unsigned w = 0; w < WORKERS_MAX; w++) {
		no_memory = no_memory || run->parts[w].rows.no_memory;
		is_away = is_away || run->parts[w].is_away;
	}
	if (admin_asked(c)) {
		if (no_memory)
			admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		else if (is_away)
			admin_refuse(c, ADMIN_REFUSED, err_text(ERR_AWAY));
		else
			answer_list(run);
	}
	end_list(run);
}

/* "3.00ff00ff00ff00ff" */
static bool
read_cursor(struct span text, unsigned workers, unsigned *worker, uint64_t *cursor)
{
	size_t dot = span_find(text, '.', 0);
	struct span place = span_after(text, dot + 1);
	uint64_t number;

	if (!span_to_u64(span_first(text, dot), &number) || number >= workers || place.size != 16)
		return false;
	*worker = (unsigned)number;
	*cursor = 0;
	for (size_t i = 0; i < place.size; i++) {
		uint8_t d = ascii_lower(place.data[i]);
		bool letter = d >= 'a' && d <= 'f';
		if (!letter && !(d >= '0' && d <= '9'))
			return false;
		*cursor = *cursor << 4 | (uint64_t)(letter ? d - 'a' + 10 : d - '0');
	}
	return true;
}

void
admin_run_queue_list(struct admin_client *c)
{
	const struct admin_request *r = &c->request;
	struct list_run *run = calloc(1, sizeof *run);
	uint64_t cursor = 0;

	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	if (request_has(r, ADMIN_ARG_CURSOR) &&
	    !read_cursor(r->texts[ADMIN_ARG_CURSOR], admin_workers(c), &run->first, &cursor)) {
		end_list(run);
		admin_refuse(c, ADMIN_BAD_ARGUMENT, "cursor: must be one of an answer");
		return;
	}
	run->client = c;
	run->wanted = request_has(r, ADMIN_ARG_LIMIT) ? (size_t)r->numbers[ADMIN_ARG_LIMIT]
						      : PROTOCOL_ROWS;
	admin_filter(c, &run->filter);
	for (unsigned w = run->first; w < admin_workers(c); w++) {
		run->parts[w].rows.wanted = run->wanted;
		run->parts[w].rows.site = admin_filter_site(c);
	}
	run->parts[run->first].begin = run->parts[run->first].cursor = cursor;
	run->ask = (struct ask){
		.on_slice = list_slice,
		.on_done = on_listed,
		.parts = run->ask_parts,
	};
	admin_ask(c, &run->ask, run->first, admin_workers(c) - run->first);
}

/* ---- queue count ---- */

struct count_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct queue_filter filter;
	const struct span *site;
	enum admin_word by;
	uint64_t now_wall_ms;
	struct ask_part parts[WORKERS_MAX];
	uint64_t cursors[WORKERS_MAX];
	bool is_away[WORKERS_MAX];
	uint64_t maybe[WORKERS_MAX];
	struct tally *tallies[WORKERS_MAX];
};

struct counting {
	struct count_run *run;
	unsigned worker;
	const struct flow *flow;
	struct tally *tally;
};

static struct span
key_of(const struct counting *counting, const struct queue_row *row)
{
	uint64_t now_ms = counting->run->now_wall_ms;

	switch (counting->run->by) {
	case ADMIN_BY_DOMAIN:
		return row->recipient_domain;
	case ADMIN_BY_SENDER:
		return row->sender;
	case ADMIN_BY_REPLY:
		return row->reply;
	case ADMIN_BY_SITE:
		return row->state == QUEUE_FAILED ? SPAN("")
						  : report_site_name(counting->flow, row->site);
	case ADMIN_BY_STATE:
		return admin_state_word(row->state);
	case ADMIN_BY_ATTEMPTS:
		return span_of_string(queue_attempts_name(queue_attempts_class(row->attempts)));
	default:
		return span_of_string(queue_age_name(queue_age_class(
			now_ms > row->accepted_at_ms ? now_ms - row->accepted_at_ms : 0)));
	}
}

static bool
on_counted_row(void *context, const struct queue_row *row)
{
	const struct counting *counting = context;
	const struct span *site = counting->run->site;

	if (site != NULL &&
	    (row->state == QUEUE_FAILED || !report_leads_to(counting->flow, row->site, *site)))
		return true;
	counting->run->maybe[counting->worker] += row->is_candidate;
	tally_add(counting->tally, &(struct tally_row){
					   .key = key_of(counting, row),
					   .count = 1,
					   .bytes = row->body_size,
					   .oldest_at_ms = row->accepted_at_ms,
				   });
	return true;
}

static enum ask_step
count_slice(struct ask_part *p, uint64_t slice_us)
{
	struct count_run *run = CONTAINER_OF(p->ask, struct count_run, ask);
	struct worker *w = ask_worker(p);
	struct counting counting = {
		.run = run,
		.worker = p->worker,
		.flow = w->flow,
		.tally = run->tallies[p->worker],
	};
	bool more = queue_list(w->queue, &run->filter, &run->cursors[p->worker], slice_us,
			       on_counted_row, &counting);

	run->is_away[p->worker] = more && queue_admit(w->queue, 0) == ERR_AWAY;
	return more && !run->is_away[p->worker] && !ask_is_cancelled(p) ? ASK_MORE : ASK_DONE;
}

static void
answer_count(const struct count_run *run, struct tally *t)
{
	struct admin_client *c = run->client;
	size_t keys = tally_sort(t);
	size_t shown = keys < PROTOCOL_ROWS_MAX ? keys : PROTOCOL_ROWS_MAX;
	uint64_t others = t->others;
	uint64_t maybe = 0;

	for (size_t i = shown; i < keys; i++)
		others += t->slots[i].count;
	for (unsigned w = 0; w < admin_workers(c); w++)
		maybe += run->maybe[w];
	admin_object(c, ADMIN_SHAPE_tally,
		     &(struct admin_tally){
			     .by = span_of_string(protocol_word(run->by)),
			     .count = t->count,
			     .maybe = maybe,
			     .others = others,
		     });
	admin_rows(c, "rows");
	for (size_t i = 0; i < shown; i++) {
		admin_row(c, ADMIN_SHAPE_tally_row,
			  &(struct admin_tally_row){
				  .key = t->slots[i].key,
				  .count = t->slots[i].count,
				  .bytes = t->slots[i].bytes,
				  .oldest_at = t->slots[i].oldest_at_ms,
			  });
	}
	admin_rows_end(c);
	admin_done(c);
}

static void
end_count(struct count_run *run, unsigned workers)
{
	for (unsigned i = 0; i < workers; i++)
		tally_free(run->tallies[i]);
	free(run);
}

static void
on_counted(struct ask *a)
{
	struct count_run *run = CONTAINER_OF(a, struct count_run, ask);
	unsigned workers = admin_workers(run->client);

	bool is_away = false;

	for (unsigned i = 0; i < workers; i++)
		is_away = is_away || run->is_away[i];
	bool goes_on = admin_asked(run->client);
	if (goes_on && is_away) {
		admin_refuse(run->client, ADMIN_REFUSED, err_text(ERR_AWAY));
	} else if (goes_on) {
		for (unsigned i = 1; i < workers; i++)
			tally_add_all(run->tallies[0], run->tallies[i]);
		answer_count(run, run->tallies[0]);
	}
	end_count(run, workers);
}

void
admin_run_queue_count(struct admin_client *c)
{
	struct count_run *run = calloc(1, sizeof *run);
	unsigned workers = admin_workers(c);
	bool no_memory = run == NULL;

	for (unsigned i = 0; i < workers && !no_memory; i++) {
		run->tallies[i] = tally_new();
		no_memory = run->tallies[i] == NULL;
	}
	if (no_memory) {
		if (run != NULL)
			end_count(run, workers);
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	admin_filter(c, &run->filter);
	run->site = admin_filter_site(c);
	run->client = c;
	run->by = (enum admin_word)c->request.numbers[ADMIN_ARG_BY];
	run->now_wall_ms = c->admin->worker->now_wall_ms;
	run->ask =
		(struct ask){ .on_slice = count_slice, .on_done = on_counted, .parts = run->parts };
	admin_ask(c, &run->ask, 0, workers);
}
