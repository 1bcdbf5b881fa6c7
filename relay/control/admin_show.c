/* SPDX-License-Identifier: Apache-2.0
 *
 * The command queue show: one mail with all its recipients. Every worker looks for it; the one that
 * keeps it reads its envelope, and copies what is shown.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/id.h"
#include "relay/control/admin_queue.h"
#include "relay/control/control.h"
#include "relay/flow/report.h"

enum { TEXTS_FIRST = 4096, TEXTS_MAX = 16 * 1024 * 1024 };

struct show_part {
	struct show_run *run;
	struct ask_part *ask_part;
	struct queue_show show;
	bool begun;
	uint64_t cursor;
	bool done;
	enum err error;
	struct admin_found rows;
	struct arena texts;
	struct admin_mail mail;
	struct admin_recipient *recipients;
	uint32_t recipient_count; /* of them that are shown */
};

struct show_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct ask_part ask_parts[WORKERS_MAX];
	struct show_part parts[WORKERS_MAX];
};

/* ---- on the worker ---- */

static struct span
state_word(uint8_t state)
{
	switch (state) {
	case RECIPIENT_PENDING:
		return SPAN("pending");
	case RECIPIENT_DELIVERED:
		return SPAN("delivered");
	case RECIPIENT_DISCARDED:
		return SPAN("discarded");
	case RECIPIENT_FAILED:
		return SPAN("failed");
	case RECIPIENT_REMOVED:
		return SPAN("removed");
	default:
		return span_none();
	}
}

/* An empty text is nothing; one that there is no memory for is left out. */
static struct span
copy(struct show_part *p, struct span text)
{
	return text.size == 0 ? span_none() : arena_copy(&p->texts, text);
}

static void
copy_recipient(struct show_part *p, struct admin_recipient *out, const struct mail_recipient *r)
{
	bool pending = r->state == RECIPIENT_PENDING;
	const struct flow *f = ask_worker(p->ask_part)->flow;

	*out = (struct admin_recipient){
		.address = copy(p, r->address),
		.state = state_word(r->state),
		.attempts = r->attempts,
		.due_at = pending ? r->retry_at_ms : 0,
		.reply = copy(p, r->reply),
		.site = pending ? copy(p, report_site_name(f, r->site)) : span_none(),
	};
}

static void
copy_mail(struct show_part *p)
{
	const struct mail_envelope *e = p->show.envelope;

	p->mail = (struct admin_mail){
		.accepted_at = e->accepted_at_ms,
		.size = e->body_size,
		.sender = e->sender.size == 0 ? SPAN("") : copy(p, e->sender),
		.client = copy(p, e->client),
		.require_tls = report_tls_need(e->flags),
		.recipient_count = e->recipient_count,
		.held = p->show.is_held,
		.worker = ask_worker(p->ask_part)->number,
	};
	p->recipient_count =
		e->recipient_count < PROTOCOL_ROWS_MAX ? e->recipient_count : PROTOCOL_ROWS_MAX;
	p->recipients = calloc(p->recipient_count + 1, sizeof *p->recipients);
	if (p->recipients == NULL) {
		p->error = ERR_NO_MEMORY;
		return;
	}
	for (uint32_t i = 0; i < p->recipient_count; i++)
		copy_recipient(p, &p->recipients[i], &e->recipients[i]);
}

static void
on_shown(struct queue_show *s, enum err e)
{
	struct show_part *p = CONTAINER_OF(s, struct show_part, show);

	p->error = e;
	p->done = true;
	if (e == ERR_OK)
		copy_mail(p);
	ask_resume(p->ask_part);
}

static enum ask_step
show_slice(struct ask_part *ask_part, uint64_t slice_us)
{
	struct show_run *run = CONTAINER_OF(ask_part->ask, struct show_run, ask);
	struct show_part *p = &run->parts[ask_part->worker];
	struct worker *w = ask_worker(ask_part);
	struct queue_filter filter = { .by_id = true, .id = run->client->request.id };

	if (p->done)
		return ASK_DONE;
	ASSERT(!p->begun);
	p->ask_part = ask_part;
	p->rows.flow = w->flow;
	p->rows.wanted = PROTOCOL_ROWS_MAX;
	/* Rows may be on their way, but not where nobody can be asked for them. */
	if (queue_list(w->queue, &filter, &p->cursor, slice_us, admin_on_row, &p->rows) &&
	    !ask_is_cancelled(ask_part) && queue_admit(w->queue, 0) != ERR_AWAY)
		return ASK_MORE;
	p->begun = true;
	arena_init(&p->texts, TEXTS_FIRST, TEXTS_MAX);
	p->show = (struct queue_show){ .id = filter.id, .on_done = on_shown };
	queue_show(w->queue, &p->show);
	return ASK_WAIT;
}

/* ---- on the control thread ---- */

static void
answer(struct admin_client *c, struct show_part *p)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf id = buf_of(memory, sizeof memory);

	id_write(&id, c->request.id.high, c->request.id.low);
	p->mail.id = buf_span(&id);
	admin_object(c, ADMIN_SHAPE_mail, &p->mail);
	admin_rows(c, "rows");
	admin_write_rows(c, &p->rows);
	admin_rows_end(c);
	admin_rows(c, "recipients");
	for (uint32_t i = 0; i < p->recipient_count; i++)
		admin_row(c, ADMIN_SHAPE_recipient, &p->recipients[i]);
	admin_rows_end(c);
	admin_done(c);
}

/* Of several that know it the one that has its rows; of those that do not the one that says why. */
static struct show_part *
best_part(struct show_run *run, unsigned workers)
{
	struct show_part *best = &run->parts[0];

	for (unsigned w = 1; w < workers; w++) {
		struct show_part *p = &run->parts[w];
		bool is_better =
			best->error == ERR_OK
				? p->error == ERR_OK && p->rows.count > 0 && best->rows.count == 0
				: best->error == ERR_NOT_FOUND || p->error == ERR_OK;
		if (is_better)
			best = p;
	}
	return best;
}

static void
answer_one(struct show_run *run)
{
	struct admin_client *c = run->client;
	struct show_part *p = best_part(run, admin_workers(c));

	if (p->error == ERR_OK)
		answer(c, p);
	else if (p->error == ERR_NOT_FOUND)
		admin_refuse(c, ADMIN_NOT_FOUND, "there is no such mail in the queue");
	else
		admin_refuse(c, ADMIN_REFUSED, err_text(p->error));
}

static void
on_all_shown(struct ask *a)
{
	struct show_run *run = CONTAINER_OF(a, struct show_run, ask);
	unsigned workers = admin_workers(run->client);

	if (admin_asked(run->client))
		answer_one(run);
	for (unsigned w = 0; w < workers; w++) {
		admin_found_fini(&run->parts[w].rows);
		arena_reset(&run->parts[w].texts);
		free(run->parts[w].recipients);
	}
	free(run);
}

void
admin_run_queue_show(struct admin_client *c)
{
	struct show_run *run = calloc(1, sizeof *run);

	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->ask = (struct ask){
		.on_slice = show_slice,
		.on_done = on_all_shown,
		.parts = run->ask_parts,
	};
	admin_ask(c, &run->ask, 0, admin_workers(c));
}
