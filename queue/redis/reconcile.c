/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails that are noted as ours in Redis and that nobody here knows. An outcome that the server had
 * answered and then lost, by a fail-over or a restart, leaves such a mail behind: we have forgotten
 * it, and nobody else may have it.
 *
 * Each worker that has lost a connection, and has an answer to all that was under way on it, says
 * of the shards that they are suspect. The worker that looks after a shard then reads the ids that
 * are noted as ours, slice by slice. It strikes out those that it knows, sends the rest from worker
 * to worker, each of whom does the same, and asks for what is left over: these mails come like
 * those of a node that died.
 *
 * Meanwhile everything goes on. What has ended or has left since the slice was read is not ours any
 * more, and rp_recover does not give it. Nobody but this worker can have come to know an id that
 * all others did not know: ids of puts are new, and claims of this shard are its own, on the same
 * connection; mail_came() looks once more.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum { SLICE = 512 };

enum step {
	STEP_IDLE,
	STEP_READS,  /* a slice of ids is on its way */
	STEP_ASKS,   /* a worker has the letter */
	STEP_RESTS,  /* no room for now: reconcile_look() goes on */
	STEP_FETCHES /* mails are on their way */
};

struct reconcile {
	struct redis_end *end;
	struct redis_call call;
	struct message letter;
	enum step step;
	unsigned shard;
	struct redis_link *link; /* that the slices came from, */
	uint64_t link_since_ms;  /* and which session of it */
	uint64_t cursor;         /* of the next slice; 0: this one is the last */
	uint64_t sent_ms;
	unsigned asked; /* workers, with this one */
	/* The slice, ascending; lent to whoever has the letter. */
	struct mail_id *ids;
	bool *known;
	size_t count, places;
	size_t fetched; /* of them */
};

static void go_on(struct reconcile *r);

static struct redis_lease *
lease_of(const struct reconcile *r, unsigned shard)
{
	return &r->end->store->leases[shard];
}

/* ---- who knows what ---- */

static int
compare(const void *a, const void *b)
{
	const struct mail_id *x = a;
	const struct mail_id *y = b;

	if (x->high != y->high)
		return x->high < y->high ? -1 : 1;
	return x->low == y->low ? 0 : x->low < y->low ? -1 : 1;
}

static void
note_known(void *context, struct mail_id id)
{
	struct reconcile *r = context;
	const struct mail_id *at = bsearch(&id, r->ids, r->count, sizeof *r->ids, compare);

	if (at != NULL)
		r->known[at - r->ids] = true;
}

/* What this end knows, on its worker: mails that it owns, puts under way, errands. */
static void
strike_known(struct redis_end *e, struct reconcile *r)
{
	size_t left = 0;

	if (r->count == 0)
		return;
	for (size_t i = 0; i < r->count; i++)
		r->known[i] = owned_find(e, r->ids[i]) != NULL;
	drafts_name(e, note_known, r);
	errands_name(e, note_known, r);
	for (size_t i = 0; i < r->count; i++) {
		if (!r->known[i])
			r->ids[left++] = r->ids[i];
	}
	r->count = left;
}

static void
on_letter_back(struct message *m, void *context)
{
	struct reconcile *r = CONTAINER_OF(m, struct reconcile, letter);

	(void)context;
	ASSERT(r->step == STEP_ASKS);
	r->asked++;
	go_on(r);
}

/* On the worker that is asked. */
static void
on_letter(struct message *m, void *context)
{
	struct reconcile *r = CONTAINER_OF(m, struct reconcile, letter);
	struct worker *here = context;

	strike_known(&r->end->store->ends[here->number], r);
	r->letter.on_message = on_letter_back;
	worker_post(here, r->end->queue.worker, &r->letter);
}

/* False: not now. */
static bool
letter_send(struct reconcile *r)
{
	struct worker *w = r->end->queue.worker;
	struct worker *to = w->peers[(w->number + r->asked) % w->count];

	if (!mailbox_reserve(&w->mailbox, 1))
		return false;
	if (!mailbox_reserve(&to->mailbox, 1)) {
		mailbox_unreserve(&w->mailbox, 1);
		return false;
	}
	r->step = STEP_ASKS;
	r->letter = (struct message){ .on_message = on_letter };
	worker_post(w, to, &r->letter);
	return true;
}

/* ---- the server ---- */

/* The link of the pass; NULL: it has ended. A cursor means nothing to another server. */
static struct redis_link *
link_of(const struct reconcile *r)
{
	struct redis_link *link = redis_servers_link(r->end->servers, r->shard);
	bool is_same = link != NULL && link == r->link &&
		       redis_link_ready_since_ms(link) == r->link_since_ms;

	return is_same ? link : NULL;
}

/* From the start, when the server is there again. */
static void
again(struct reconcile *r)
{
	r->step = STEP_IDLE;
	r->count = 0;
	atomic_store(&lease_of(r, r->shard)->suspect, true);
}

/* {cursor, {id, …}}; false: no memory. */
static bool
take_slice(struct reconcile *r, const struct redisReply *reply)
{
	const struct redisReply *ids = redis_at(reply, 1);
	size_t count = ids != NULL && ids->type == REDIS_REPLY_ARRAY ? ids->elements : 0;

	r->count = r->fetched = 0;
	r->asked = 1;
	if (count > r->places) {
		struct mail_id *larger = realloc(r->ids, count * sizeof *larger);
		r->ids = larger == NULL ? r->ids : larger;
		bool *flags = realloc(r->known, count * sizeof *flags);
		r->known = flags == NULL ? r->known : flags;
		if (larger == NULL || flags == NULL)
			return false;
		r->places = count;
	}
	for (size_t i = 0; i < count; i++)
		r->count += id_of_hex(redis_text(ids->element[i]), &r->ids[r->count]);
	if (r->count > 0)
		qsort(r->ids, r->count, sizeof *r->ids, compare);
	size_t kept = 0; /* a scan may name one twice */
	for (size_t i = 0; i < r->count; i++) {
		if (kept == 0 || compare(&r->ids[kept - 1], &r->ids[i]) != 0)
			r->ids[kept++] = r->ids[i];
	}
	r->count = kept;
	return true;
}

static void
on_slice(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct reconcile *r = CONTAINER_OF(c, struct reconcile, call);

	r->end->calls_open--;
	if (error != ERR_OK || !span_to_u64(redis_text(redis_at(reply, 0)), &r->cursor) ||
	    !take_slice(r, reply)) {
		again(r);
		return;
	}
	strike_known(r->end, r);
	go_on(r);
}

static void
slice_ask(struct reconcile *r)
{
	struct redis_end *e = r->end;
	struct redis_link *link = link_of(r);

	if (link == NULL || !args_begin(e, NULL, 0, 5, REDIS_NAME_MOST + 64)) {
		again(r);
		return;
	}
	args_span(e, SPAN("SSCAN"));
	args_own_key(e, r->shard);
	args_number(e, r->cursor);
	args_span(e, SPAN("COUNT"));
	args_number(e, SLICE);
	r->step = STEP_READS;
	r->call = (struct redis_call){ .on_reply = on_slice };
	args_send(e, link, &r->call);
}

/* {now, {id, {field, value, …}}, …} */
static void
on_recovered(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct reconcile *r = CONTAINER_OF(c, struct reconcile, call);
	struct redis_end *e = r->end;
	int64_t redis_now_ms;

	e->calls_open--;
	if (error != ERR_OK || !redis_number(redis_at(reply, 0), &redis_now_ms)) {
		again(r);
		return;
	}
	e->came_ms = e->came_until_ms = r->sent_ms;
	end_note_time(e, redis_now_ms);
	if (reply->elements > 1)
		e->came_until_ms = lease_note_change(e->store, r->shard, r->sent_ms);
	for (size_t i = 1; i < reply->elements; i++)
		mail_came(e, reply->element[i], CAME_RECOVERED);
	go_on(r);
}

static void
mails_ask(struct reconcile *r, struct redis_link *link)
{
	struct redis_end *e = r->end;

	if (!args_begin(e, "rp_recover", r->shard, 2 + REDIS_CLAIM_MOST,
			64 + REDIS_CLAIM_MOST * REDIS_ID_SIZE)) {
		r->step = STEP_RESTS;
		return;
	}
	args_incarnation(e);
	args_number(e, e->store->redis.lease_ms);
	for (unsigned n = 0; n < REDIS_CLAIM_MOST && r->fetched < r->count; n++)
		args_id(e, r->ids[r->fetched++]);
	r->step = STEP_FETCHES;
	r->sent_ms = clock_monotonic_ms();
	r->call = (struct redis_call){ .on_reply = on_recovered };
	args_send(e, link, &r->call);
}

/* ---- from slice to slice, from shard to shard ---- */

/* A claim or a take of which we do not know what it gave is asked for that first. */
static bool
begin(struct reconcile *r, unsigned shard)
{
	struct redis_end *e = r->end;
	const struct redis_shard *s = &e->shards[shard];
	struct redis_link *link = redis_servers_link(e->servers, shard);

	/* One that is drained gives back all that is noted as its own, known or not. */
	if (link == NULL || e->drains || s->in_doubt || s->asking == ASKING_CLAIM ||
	    s->asking == ASKING_TAKE || !atomic_exchange(&lease_of(r, shard)->suspect, false))
		return false;
	r->shard = shard;
	r->link = link;
	r->link_since_ms = redis_link_ready_since_ms(link);
	r->cursor = 0;
	slice_ask(r);
	return true;
}

static void
begin_any(struct reconcile *r)
{
	struct worker *w = r->end->queue.worker;

	r->step = STEP_IDLE;
	for (unsigned i = w->number; i < r->end->store->redis.shards; i += w->count) {
		if (begin(r, i))
			return;
	}
}

/* What was in hand has come back, or may go on. */
static void
go_on(struct reconcile *r)
{
	struct redis_end *e = r->end;
	struct redis_link *link;

	r->step = STEP_RESTS;
	if (e->stopping)
		return;
	link = link_of(r);
	if (link == NULL)
		again(r);
	else if (r->count > 0 && r->asked < e->queue.worker->count)
		letter_send(r);
	else if (r->fetched < r->count && !fetch_has_room(e))
		return;
	else if (r->fetched < r->count)
		mails_ask(r, link);
	else if (r->cursor != 0)
		slice_ask(r);
	else
		begin_any(r);
}

void
reconcile_look(struct redis_end *e)
{
	struct reconcile *r = e->reconcile;

	if (!e->started || e->stopping)
		return;
	if (r->step == STEP_RESTS)
		go_on(r);
	if (r->step == STEP_IDLE)
		begin_any(r);
}

void
reconcile_suspect(struct redis_end *e)
{
	for (unsigned i = 0; i < e->store->redis.shards; i++)
		atomic_store(&e->store->leases[i].suspect, true);
}

bool
reconcile_init(struct redis_end *e)
{
	e->reconcile = calloc(1, sizeof *e->reconcile);
	if (e->reconcile != NULL)
		e->reconcile->end = e;
	return e->reconcile != NULL;
}

void
reconcile_fini(struct redis_end *e)
{
	if (e->reconcile == NULL)
		return;
	free(e->reconcile->ids);
	free(e->reconcile->known);
	free(e->reconcile);
}

bool
reconcile_is_idle(const struct redis_end *e)
{
	return e->reconcile->step == STEP_IDLE || e->reconcile->step == STEP_RESTS;
}
