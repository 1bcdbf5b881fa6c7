/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails that go to another store, or come from one: marked from before anything happens over there
 * until it is known.
 *
 * A mark is a HOLD whose `who` no operator has and whose `why` says which way, and whether the mail
 * was held before: so a program that does not know marks takes such a mail for a held one, and
 * delivers it not. In this one it is busy, too: nobody claims it, acts on it, or copies it forward.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/spool/internal.h"

/* queue_mail.mark; 0: none. AT_WORK, HELD: beside one of the others. */
enum { MARK_GOES = 1, MARK_COMES = 2, MARK_WAY = 3, MARK_HELD = 4, MARK_AT_WORK = 8 };

static const struct span marker = { (const uint8_t *)"queue move", 10 };

/* moving->here: a change of a mail's mark, or its end. */
struct spool_move {
	struct queue_request request;
	struct list_node node; /* end->moves */
	struct spool_end *end;
	struct queue_moving *moving;
	struct record_change change;
	uint8_t mark; /* when it is durable */
	bool was_read;
	struct queue_starts *starts;
};

static struct span
why_of(uint8_t mark)
{
	switch (mark & (MARK_WAY | MARK_HELD)) {
	case MARK_GOES:
		return SPAN("goes");
	case MARK_GOES | MARK_HELD:
		return SPAN("goes, held");
	case MARK_COMES:
		return SPAN("comes");
	case MARK_COMES | MARK_HELD:
		return SPAN("comes, held");
	default:
		return span_none();
	}
}

static uint8_t
mark_for(const struct queue_moving *m)
{
	return (uint8_t)((m->goes_out ? MARK_GOES : MARK_COMES) | (m->is_held ? MARK_HELD : 0));
}

/* The next revision that is held or not, as asked for. */
static uint16_t
revision_after(uint16_t revision, bool is_held)
{
	uint16_t next = (uint16_t)(revision + 1);

	return next % 2 == (is_held ? 1 : 0) ? next : (uint16_t)(next + 1);
}

/* ---- recovery ---- */

void
spool_read_mark(struct spool_mail *m, struct span who, struct span why)
{
	static const uint8_t marks[] = { MARK_GOES, MARK_GOES | MARK_HELD, MARK_COMES,
					 MARK_COMES | MARK_HELD };

	m->mail.mark = 0;
	for (size_t i = 0; i < sizeof marks && span_eq(who, marker); i++) {
		if (span_eq(why, why_of(marks[i])))
			m->mail.mark = marks[i];
	}
}

void
spool_keep_marked(struct spool_mail *m)
{
	if (m->mail.mark == 0)
		return;
	m->busy = true;
	m->segment->end->marked_count++;
}

/* ---- changes of a mark ---- */

static void
step_done(struct spool_move *k, enum err error)
{
	k->moving->on_done(k->moving, error);
}

static uint64_t
change_size(struct spool_end *e, struct queue_request *r)
{
	const struct spool_move *k = CONTAINER_OF(r, struct spool_move, request);

	(void)e;
	return record_size(record_change_size(&k->change), 0);
}

static void
change_write(struct spool_end *e, struct queue_request *r, struct buf *out, uint64_t place)
{
	struct spool_move *k = CONTAINER_OF(r, struct spool_move, request);
	const struct spool_mail *m = index_find(e, k->moving->id);

	k->change.put_sequence = m->segment->sequence;
	segment_refer(e->log.active, k->change.put_sequence);
	record_write_change(out, &k->change, e->log.active->epoch, place);
}

/* Items come back from wherever they were when the mail was marked, or read. */
static void
let_go(struct spool_end *e, struct spool_mail *m)
{
	m->busy = false;
	for (struct spool_item *i = m->items; i != NULL; i = i->next) {
		if (i->turn.state == ITEM_WAITING || i->turn.state == ITEM_HELD)
			item_take(e, i, ITEM_BUSY);
		item_wait(e, i, i->turn.item.due_at_ms);
	}
}

static void
change_done(struct spool_end *e, struct queue_request *r)
{
	struct spool_move *k = CONTAINER_OF(r, struct spool_move, request);
	struct spool_mail *m = index_find(e, k->moving->id);

	ASSERT(m != NULL && m->busy);
	if (r->error != ERR_OK) {
		if (m->mail.mark == 0)
			let_go(e, m); /* the first mark came to nothing */
		step_done(k, r->error);
		return;
	}
	if (k->change.type == RECORD_GONE) {
		mail_unload(e, m);
		mail_end(e, m);
		step_done(k, ERR_OK);
		return;
	}
	m->hold_revision = k->change.hold_revision;
	m->mail.mark = k->mark;
	if (k->mark == 0) {
		mail_unload(e, m);
		let_go(e, m);
		step_done(k, ERR_OK);
		return;
	}
	k->moving->is_marked = true;
	list_append(&e->moves, &k->node);
	worker_soon(e->queue.worker, &e->claim_task);
}

static const struct queue_request_kind change_kind = { RESERVE_NONE, change_size, change_write,
						       change_done, true };

static void
refused_done(struct spool_end *e, struct queue_request *r)
{
	(void)e;
	step_done(CONTAINER_OF(r, struct spool_move, request), r->error);
}

static const struct queue_request_kind refused_kind = { RESERVE_NONE, NULL, NULL, refused_done,
							false };

static void
change_mark(struct spool_move *k, struct spool_mail *m, uint8_t mark, bool is_held)
{
	k->mark = mark;
	k->change = (struct record_change){
		.type = RECORD_HOLD,
		.id = m->mail.id,
		.hold_revision = revision_after(m->hold_revision, is_held),
		.who = marker,
		.why = why_of(mark),
	};
	k->request = (struct queue_request){ .kind = &change_kind };
	log_append(k->end, &k->request);
}

/* ---- out of the spool ---- */

static enum err
note_starts(struct spool_move *k, struct spool_mail *m)
{
	const struct spool_recipient *all = mail_recipients(m);

	free(k->starts);
	k->starts = calloc(m->recipient_count, sizeof *k->starts);
	if (k->starts == NULL)
		return ERR_NO_MEMORY;
	for (uint32_t n = 0; n < m->recipient_count; n++)
		k->starts[n] = (struct queue_starts){ all[n].starts, all[n].closed, all[n].alone };
	k->moving->starts = k->starts;
	k->moving->envelope = m->mail.envelope;
	k->moving->mail = &m->mail;
	return ERR_OK;
}

/* ERR_AGAIN: it waits for what is under way. */
static enum err
read_step(struct spool_end *e, struct spool_move *k)
{
	struct spool_mail *m = index_find(e, k->moving->id);

	if (m->fetching)
		return ERR_AGAIN;
	if (m->mail.envelope != NULL)
		return note_starts(k, m);
	if (m->damaged)
		return ERR_CORRUPT;
	if (k->was_read && m->fetch_failed)
		return ERR_STORAGE;
	enum err error = spool_fetch(e, m, false);
	k->was_read |= error == ERR_OK;
	return error == ERR_OK ? ERR_AGAIN : error;
}

void
spool_move_run(struct spool_end *e)
{
	struct list_node *next;

	for (struct list_node *n = list_first(&e->moves); n != NULL; n = next) {
		struct spool_move *k = LIST_ITEM(n, struct spool_move, node);
		next = list_next(&e->moves, n);
		enum err error = read_step(e, k);
		if (error == ERR_AGAIN)
			continue;
		list_unlink(n);
		step_done(k, error);
	}
}

static struct spool_move *
here_get(struct spool_end *e, struct queue_moving *moving)
{
	struct spool_move *k = moving->here;

	if (k == NULL)
		k = calloc(1, sizeof *k);
	if (k == NULL)
		return NULL;
	k->end = e;
	k->moving = moving;
	moving->here = k;
	return k;
}

static bool
move_prepare(struct queue *q, struct queue_moving *moving)
{
	return here_get(spool_end_of(q), moving) != NULL;
}

static void
move_release(struct queue *q, struct queue_moving *moving)
{
	struct spool_move *k = moving->here;

	(void)q;
	if (k == NULL)
		return;
	ASSERT(!list_is_linked(&k->node));
	free(k->starts);
	free(k);
	moving->here = NULL;
}

static void
move_begin(struct queue *q, struct queue_moving *moving)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_mail *m = index_find(e, moving->id);
	struct spool_move *k = moving->here;
	enum err error = e->stopping  ? ERR_SHUTTING_DOWN
			 : m == NULL  ? ERR_NOT_FOUND
			 : m->damaged ? ERR_CORRUPT
				      : ERR_OK;

	if (error == ERR_OK && !moving->is_found && (m->busy || m->fetching || mail_has_claims(m)))
		error = ERR_AGAIN;
	if (error != ERR_OK) {
		spool_finish_later(e, &k->request, &refused_kind, error);
		return;
	}
	if (moving->is_found) {
		moving->is_held = (m->mail.mark & MARK_HELD) != 0;
		list_append(&e->moves, &k->node);
		worker_soon(q->worker, &e->claim_task);
		return;
	}
	moving->is_held = mail_is_held(m);
	for (struct spool_item *i = m->items; i != NULL; i = i->next)
		item_take(e, i, ITEM_BUSY);
	m->busy = true;
	change_mark(k, m, (uint8_t)(mark_for(moving) | MARK_AT_WORK), true);
}

static void
move_end(struct queue *q, struct queue_moving *moving, bool stays)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_mail *m = index_find(e, moving->id);
	struct spool_move *k = moving->here;

	if (e->stopping || m == NULL) {
		spool_finish_later(e, &k->request, &refused_kind,
				   m == NULL ? ERR_NOT_FOUND : ERR_SHUTTING_DOWN);
		return;
	}
	ASSERT(m->busy && m->mail.mark != 0);
	if (stays) {
		change_mark(k, m, 0, (m->mail.mark & MARK_HELD) != 0);
		return;
	}
	k->change = (struct record_change){
		.type = RECORD_GONE, .id = m->mail.id, .gone = GONE_MOVED, .who = marker
	};
	k->request = (struct queue_request){ .kind = &change_kind };
	log_append(e, &k->request);
}

static void
move_leave(struct queue *q, struct queue_moving *moving)
{
	struct spool_end *e = spool_end_of(q);
	struct spool_mail *m = index_find(e, moving->id);

	if (m == NULL || m->mail.mark == 0)
		return;
	if (!m->fetching)
		mail_unload(e, m);
	m->mail.mark &= MARK_WAY | MARK_HELD;
	e->marked_count++;
}

/* ---- into the spool ---- */

struct record_change
spool_arrival_mark(const struct queue_moving *moving)
{
	return (struct record_change){ .type = RECORD_HOLD,
				       .id = moving->id,
				       .hold_revision = 3, /* its PUT has 1 */
				       .who = marker,
				       .why = why_of(mark_for(moving)) };
}

void
spool_arrived(struct spool_end *e, struct spool_mail *m, const struct queue_moving *moving)
{
	struct spool_recipient *all = mail_recipients(m);

	for (uint32_t n = 0; n < m->recipient_count; n++) {
		all[n].starts = moving->starts[n].starts;
		all[n].closed = moving->starts[n].closed;
		all[n].alone = moving->starts[n].alone;
	}
	m->hold_revision = 3;
	m->mail.mark = (uint8_t)(mark_for(moving) | MARK_AT_WORK);
	ASSERT(m->busy);
	mail_set_items(e, m, false);
	for (struct spool_item *i = m->items; i != NULL; i = i->next) {
		i->turn.item.recovered = i->turn.item.open_starts > 0;
		item_set_state(e, i, ITEM_BUSY);
	}
	mail_unload(e, m);
}

/* ---- what a former life left ---- */

static uint64_t
move_marked(struct queue *q)
{
	return spool_end_of(q)->marked_count;
}

static bool
move_next_marked(struct queue *q, uint64_t *cursor, uint64_t slice_us, struct queue_moving *out)
{
	enum { LOOKS = 16 }; /* between looks at the clock */
	struct spool_end *e = spool_end_of(q);
	uint64_t until_us = clock_monotonic_us() + slice_us;
	struct spool_mail *m;

	for (unsigned n = 1; e->marked_count > 0; n++) {
		bool goes_on = index_step(e, cursor, &m);
		if (!goes_on)
			*cursor = 0;
		if (m != NULL && m->mail.mark != 0 && (m->mail.mark & MARK_AT_WORK) == 0) {
			m->mail.mark |= MARK_AT_WORK;
			e->marked_count--;
			out->id = m->mail.id;
			out->goes_out = (m->mail.mark & MARK_WAY) == MARK_GOES;
			out->is_held = (m->mail.mark & MARK_HELD) != 0;
			out->is_found = true;
			return true;
		}
		if (!goes_on || (n % LOOKS == 0 && clock_monotonic_us() >= until_us))
			return false;
	}
	return false;
}

const struct queue_mover spool_mover = {
	.begin = move_begin,
	.end = move_end,
	.leave = move_leave,
	.put = spool_put_moving,
	.marked = move_marked,
	.next_marked = move_next_marked,
	.prepare = move_prepare,
	.release = move_release,
};
