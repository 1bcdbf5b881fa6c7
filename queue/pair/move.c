/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails from one part into the other (mover.h says why nothing is lost or doubled by it). Each is a
 * chain of steps, of which the next begins when the last one has been answered:
 *
 *   into Redis     begin (marked, read), its pieces, arrive, end (it goes), forget
 *   into the spool read, its pieces, put (marked), depart, end (it stays), forget
 *
 * An answer in doubt is asked for until it is known; a mail whose node dies or stops meanwhile
 * stays marked, and is brought to its end by the next life, once Redis is there.
 */
#include <stdlib.h>

#include "core/base/id.h"
#include "core/log.h"
#include "core/metric.h"
#include "queue/mover.h"
#include "queue/pair/internal.h"

enum {
	AGAIN_MS = 100,
	SLOW_AGAIN_MS = 1000,
	BUSY_TRIES = 20, /* what waits for its turn on this node goes back to Redis meanwhile */
	FOUND_MOST = 16, /* at a time, of a former life */
	SLICE_US = 200,
	BODY_MEMORY = 64 * 1024 * 1024, /* of pieces, beside the parts' own */
};

struct pair_move {
	struct queue_moving moving; /* first */
	struct pair_end *end;
	struct queue_act *act;   /* NULL: found */
	struct list_node node;   /* end->moves */
	struct list_node coming; /* pair->coming, of one into the spool */
	uint64_t again_at_ms;    /* then `again` is called */
	void (*again)(struct pair_move *m);
	enum err result; /* of the whole, when the spool's part has come to its end */
	bool stays;      /* in the spool: how it ends there */
	bool in_doubt;   /* the change over there was asked for, and not answered */
	unsigned tries;
	uint32_t number; /* of the piece */
	uint64_t size;   /* bytes of pieces so far */
	struct body *piece;
	struct body_budget budget;
	struct queue_load load;
	struct queue_draft *draft;
	struct queue_put put;
	struct task resume;
};

static void read_next(struct pair_move *m);
static void send_next(struct pair_move *m);
static void arrive(struct pair_move *m);
static void depart(struct pair_move *m);
static void end_here(struct pair_move *m);

static struct pair_move *
move_of(struct queue_moving *m)
{
	return CONTAINER_OF(m, struct pair_move, moving);
}

static struct queue *
spool_of(const struct pair_move *m)
{
	return m->end->parts[QUEUE_IN_SPOOL];
}

static struct queue *
shared_of(const struct pair_move *m)
{
	return m->end->parts[QUEUE_IN_REDIS];
}

static const struct queue_mover *
here(const struct pair_move *m)
{
	return spool_of(m)->driver->mover;
}

static const struct queue_mover *
there(const struct pair_move *m)
{
	return shared_of(m)->driver->mover;
}

/* ---- waiting ---- */

static void
on_moves_again(struct timer *t)
{
	struct pair_end *e = CONTAINER_OF(t, struct pair_end, moves_again);
	struct worker *w = e->queue.worker;
	struct list_node *next;

	for (struct list_node *n = list_first(&e->moves); n != NULL; n = next) {
		struct pair_move *m = LIST_ITEM(n, struct pair_move, node);
		next = list_next(&e->moves, n);
		if (m->again_at_ms > w->now_ms)
			continue;
		list_unlink(n);
		m->again(m);
	}
	if (!list_is_empty(&e->moves) && !timer_is_set(t))
		timer_set(&w->timers, t, w->now_ms + AGAIN_MS);
}

static void finish(struct pair_move *m, enum err error);

/* A step is begun again after a while, unless there is no more time: then the mail stays as it is,
 * marked or untouched. */
static void
later(struct pair_move *m, unsigned after_ms, void (*again)(struct pair_move *m))
{
	struct worker *w = m->end->queue.worker;

	if (m->end->stopping) {
		finish(m, ERR_SHUTTING_DOWN);
		return;
	}
	m->again_at_ms = w->now_ms + after_ms;
	m->again = again;
	list_append(&m->end->moves, &m->node);
	if (!timer_is_set(&m->end->moves_again))
		timer_set(&w->timers, &m->end->moves_again, w->now_ms + AGAIN_MS);
}

/* ---- one at a time ---- */

/* Two ends, asked by two operators, would both put the mail, and not know whose it is. False:
 * another move brings it. */
static bool
come_alone(struct pair_move *m)
{
	struct pair *p = m->end->pair;
	bool is_alone = true;

	pthread_mutex_lock(&p->lock);
	for (struct list_node *n = list_first(&p->coming); n != NULL;
	     n = list_next(&p->coming, n)) {
		const struct pair_move *other = LIST_ITEM(n, struct pair_move, coming);
		is_alone &= !mail_id_eq(other->moving.id, m->moving.id);
	}
	if (is_alone)
		list_append(&p->coming, &m->coming);
	pthread_mutex_unlock(&p->lock);
	return is_alone;
}

static void
move_free(struct pair_move *m)
{
	struct pair *p = m->end->pair;

	here(m)->release(spool_of(m), &m->moving);
	there(m)->release(shared_of(m), &m->moving);
	if (!m->moving.goes_out) {
		pthread_mutex_lock(&p->lock);
		if (list_is_linked(&m->coming))
			list_unlink(&m->coming);
		pthread_mutex_unlock(&p->lock);
	}
	free(m->load.memory);
	free(m);
}

/* ---- the end ---- */

static void
tell(const struct pair_move *m)
{
	const struct worker *w = m->end->queue.worker;
	uint8_t memory[ID_TEXT_SIZE];
	struct buf id = buf_of(memory, sizeof memory);

	if (w->metrics != NULL)
		METRIC_ADD(w->metrics, MAILS_MOVED, 1);
	if (w->log == NULL)
		return;
	id_write(&id, m->moving.id.high, m->moving.id.low);
	event_mail_moved(w->log, &(struct event_mail_moved){
					 .id = buf_span(&id),
					 .to = m->moving.goes_out ? SPAN("redis") : SPAN("spool"),
					 .who = m->act == NULL ? SPAN("") : m->act->who,
					 .why = m->act == NULL ? SPAN("") : m->act->why,
				 });
}

static void
finish(struct pair_move *m, enum err error)
{
	struct pair_end *e = m->end;
	struct queue_act *a = m->act;

	if (m->moving.is_marked)
		here(m)->leave(spool_of(m), &m->moving);
	if (m->piece != NULL)
		body_put(m->piece);
	if (m->draft != NULL)
		m->draft->driver->draft_abandon(m->draft);
	move_free(m);
	e->moves_open--;
	if (a != NULL)
		a->on_done(a, error);
	else if (!e->stopping)
		pair_moves_look(e); /* the next that a former life left */
	pair_try_to_stop(e);
}

static void
on_ended(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);

	if (error != ERR_OK && error != ERR_NOT_FOUND) {
		later(m, SLOW_AGAIN_MS, end_here);
		return;
	}
	moving->is_marked = false;
	/* The change over there was made, and this side has gone by it. */
	if (m->result == ERR_OK) {
		there(m)->forget(shared_of(m), moving);
		tell(m);
	}
	if (m->result == ERR_OK && m->stays)
		pair_note_arrival(m->end);
	finish(m, m->result);
}

static void
end_here(struct pair_move *m)
{
	m->moving.on_done = on_ended;
	here(m)->end(spool_of(m), &m->moving, m->stays);
}

/* How it comes to its end in the spool, and what is said of the whole. */
static void
conclude(struct pair_move *m, bool stays, enum err result)
{
	m->stays = stays;
	m->result = result;
	end_here(m);
}

/* ---- into Redis ---- */

static void
on_arrived(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);

	/* Of what was in doubt once, only an answer of its own says that it was not done. */
	m->in_doubt |= error == ERR_IN_DOUBT;
	if (error == ERR_OK || error == ERR_STORAGE || !m->in_doubt)
		conclude(m, error != ERR_OK, error);
	else
		later(m, SLOW_AGAIN_MS, arrive);
}

static void
arrive(struct pair_move *m)
{
	m->moving.on_done = on_arrived;
	there(m)->arrive(shared_of(m), &m->moving);
}

static void
on_sent(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);

	body_put(m->piece);
	m->piece = NULL;
	if (error != ERR_OK) {
		conclude(m, true, error);
		return;
	}
	m->number++;
	send_next(m);
}

/* Adds to the piece what fits into it; false: no memory. */
static bool
fill_piece(struct pair_move *m, struct span bytes)
{
	if (m->piece == NULL)
		m->piece = body_new(&m->budget, bytes.size);
	if (m->piece == NULL)
		return false;
	struct span part = span_first(bytes, there(m)->piece - body_size(m->piece));
	m->size += part.size;
	m->load.offset += part.size;
	return body_append(m->piece, part) == ERR_OK;
}

static void
on_loaded(struct queue_load *load, enum err error)
{
	struct pair_move *m = CONTAINER_OF(load, struct pair_move, load);
	bool is_end = error == ERR_OK && load->bytes.size == 0;

	if (is_end && m->size != m->moving.envelope->body_size)
		error = ERR_CORRUPT;
	if (error == ERR_OK && !is_end && !fill_piece(m, load->bytes))
		error = ERR_NO_MEMORY;
	if (error != ERR_OK) {
		conclude(m, true, error);
		return;
	}
	if (is_end && m->piece == NULL) { /* all of it was read, and is what was written */
		arrive(m);
	} else if (is_end || body_size(m->piece) == there(m)->piece) {
		m->moving.on_done = on_sent;
		there(m)->send(shared_of(m), &m->moving, m->number, m->piece);
	} else {
		send_next(m);
	}
}

static void
send_next(struct pair_move *m)
{
	m->load.mail = m->moving.mail;
	m->load.on_done = on_loaded;
	spool_of(m)->driver->load(spool_of(m), &m->load);
}

static void
send_first(struct pair_move *m)
{
	size_t piece = there(m)->piece;
	uint64_t size = m->moving.envelope->body_size;

	m->load.capacity = size >= piece ? piece : (size_t)(size / 4096 + 2) * 4096;
	m->load.memory = aligned_alloc(4096, m->load.capacity);
	op_init(&m->load.op, NULL);
	if (m->load.memory == NULL)
		conclude(m, true, ERR_NO_MEMORY);
	else
		send_next(m);
}

/* Of one that was found: did it arrive? If not, it stays where it was. */
static void ask(struct pair_move *m);

static void
on_asked(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);

	if (error == ERR_OK)
		conclude(m, false, ERR_OK);
	else if (error == ERR_NOT_FOUND)
		conclude(m, true, ERR_NOT_FOUND);
	else
		later(m, SLOW_AGAIN_MS, ask);
}

static void
ask(struct pair_move *m)
{
	m->moving.on_done = on_asked;
	there(m)->has_arrived(shared_of(m), &m->moving);
}

static void
on_begun(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);

	if (error == ERR_OK)
		send_first(m);
	else if (moving->is_marked)
		conclude(m, true, error);
	else
		finish(m, error);
}

static void
begin(struct pair_move *m)
{
	m->moving.on_done = on_begun;
	here(m)->begin(spool_of(m), &m->moving);
}

/* ---- into the spool ---- */

static void
on_departed(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);

	/* Who was found may have had it taken away in its former life. */
	m->in_doubt |= error == ERR_IN_DOUBT || moving->is_found;
	if (error == ERR_OK)
		conclude(m, true, ERR_OK);
	else if (error == ERR_LOST || !m->in_doubt)
		conclude(m, false, error == ERR_LOST ? ERR_AGAIN : error);
	else
		later(m, SLOW_AGAIN_MS, depart);
}

static void
depart(struct pair_move *m)
{
	m->moving.on_done = on_departed;
	there(m)->depart(shared_of(m), &m->moving);
}

static void
on_put(struct queue_put *p, enum err error)
{
	struct pair_move *m = CONTAINER_OF(p, struct pair_move, put);

	if (error != ERR_OK) {
		finish(m, error);
		return;
	}
	m->moving.is_marked = true;
	m->tries = 0;
	depart(m);
}

static void
put_here(struct pair_move *m)
{
	if (m->size != m->moving.envelope->body_size) {
		finish(m, ERR_CORRUPT);
		return;
	}
	m->put = (struct queue_put){ .draft = m->draft,
				     .envelope = m->moving.envelope,
				     .on_done = on_put };
	m->draft = NULL;
	here(m)->put(spool_of(m), &m->put, &m->moving);
}

static void
on_got(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);

	if (error == ERR_OK)
		error = m->draft->driver->draft_append(m->draft, moving->bytes);
	if (error != ERR_OK) {
		finish(m, error);
		return;
	}
	m->size += moving->bytes.size;
	m->number++;
	if (m->draft->driver->draft_is_full(m->draft))
		m->draft->driver->draft_on_room(m->draft, &m->resume);
	else
		read_next(m);
}

static void
on_room(struct task *t)
{
	read_next(CONTAINER_OF(t, struct pair_move, resume));
}

static void
read_next(struct pair_move *m)
{
	uint64_t size = m->moving.envelope->body_size;

	if ((uint64_t)m->number * there(m)->piece >= size) {
		put_here(m);
		return;
	}
	m->moving.on_done = on_got;
	there(m)->get(shared_of(m), &m->moving, m->number);
}

static void read_mail(struct pair_move *m);

static void
on_read(struct queue_moving *moving, enum err error)
{
	struct pair_move *m = move_of(moving);
	struct queue *spool = spool_of(m);

	if (error == ERR_AGAIN && ++m->tries < BUSY_TRIES) {
		later(m, AGAIN_MS, read_mail);
		return;
	}
	if (error == ERR_OK) {
		m->draft = spool->driver->draft_new(spool, moving->id, moving->envelope->body_size);
		error = m->draft == NULL ? ERR_NO_MEMORY : ERR_OK;
	}
	if (error == ERR_OK)
		read_next(m);
	else
		finish(m, error);
}

static void
read_mail(struct pair_move *m)
{
	m->moving.on_done = on_read;
	there(m)->read(shared_of(m), &m->moving);
}

/* ---- beginnings ---- */

/* NULL: for the reason that `why` says. */
static struct pair_move *
move_new(struct pair_end *e, struct queue_moving moving, struct queue_act *a, enum err *why)
{
	struct pair_move *m = calloc(1, sizeof *m);

	*why = ERR_NO_MEMORY;
	if (m == NULL)
		return NULL;
	m->moving = moving;
	m->end = e;
	m->act = a;
	m->budget.most_bytes = BODY_MEMORY;
	task_init(&m->resume, on_room);
	if (!here(m)->prepare(spool_of(m), &m->moving) ||
	    !there(m)->prepare(shared_of(m), &m->moving)) {
		move_free(m);
		return NULL;
	}
	if (!moving.goes_out && !come_alone(m)) {
		*why = ERR_AGAIN;
		move_free(m);
		return NULL;
	}
	e->moves_open++;
	return m;
}

void
pair_move(struct queue *q, struct queue_act *a)
{
	struct pair_end *e = pair_end_of(q);
	struct queue *spool = e->parts[QUEUE_IN_SPOOL];
	bool goes_out = a->action == QUEUE_MOVE_TO_REDIS;
	/* Nothing is begun that could only be taken back. */
	enum err error = e->stopping ? ERR_SHUTTING_DOWN
			 : goes_out  ? pair_shared_takes(e)
				     : spool->driver->may_take(spool);

	if (error == ERR_OK && !goes_out && spool->driver->keeps(spool, a->id))
		error = ERR_AGAIN;
	if (error != ERR_OK) {
		pair_refuse(e, a, error);
		return;
	}
	const struct queue_moving moving = { .id = a->id, .goes_out = goes_out };
	struct pair_move *m = move_new(e, moving, a, &error);
	if (m == NULL)
		pair_refuse(e, a, error);
	else if (goes_out)
		begin(m);
	else
		read_mail(m);
}

void
pair_moves_init(struct pair_end *e)
{
	list_init(&e->moves);
	timer_init(&e->moves_again, on_moves_again);
}

void
pair_moves_look(struct pair_end *e)
{
	struct queue *spool = e->parts[QUEUE_IN_SPOOL];
	const struct queue_mover *mover = spool->driver->mover;
	struct queue_moving found;

	while (mover->marked(spool) > 0 && e->moves_open < FOUND_MOST &&
	       pair_shared_takes(e) == ERR_OK) {
		found = (struct queue_moving){ 0 };
		if (!mover->next_marked(spool, &e->marked_cursor, SLICE_US, &found))
			return;
		found.is_marked = true;
		enum err why;
		struct pair_move *m = move_new(e, found, NULL, &why);
		if (m == NULL) {
			mover->leave(spool, &found);
			return;
		}
		if (found.goes_out)
			ask(m);
		else
			depart(m);
	}
}

void
pair_moves_stop(struct pair_end *e)
{
	struct list_node *node;

	timer_stop(&e->queue.worker->timers, &e->moves_again);
	while ((node = list_shift(&e->moves)) != NULL)
		finish(LIST_ITEM(node, struct pair_move, node), ERR_SHUTTING_DOWN);
}
