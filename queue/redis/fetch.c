/* SPDX-License-Identifier: Apache-2.0
 *
 * Mails that come to this node: those that are due, and those of nodes that have died.
 *
 * Each shard is looked after by one worker of every node. It knows when the next mail is due there
 * and when the next lease of another node runs out, sleeps until then, and looks again after a
 * lease's length in any case, since others may have begun to own something. Nothing is asked for
 * while there is no room here (hungry); then it goes on when half of what waits has gone.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum { JITTER_MS = 64, AGAIN_MS = 1000, COUNT_AGAIN_MS = 60 * 1000 };

static void on_fetched(struct redis_call *c, enum err error, const struct redisReply *reply);

/* ---- what an answer brings ---- */

struct span
mail_field(const struct redisReply *fields, const char *name)
{
	size_t count = fields != NULL && fields->type == REDIS_REPLY_ARRAY ? fields->elements : 0;

	for (size_t i = 0; i + 1 < count; i += 2) {
		if (span_eq(redis_text(fields->element[i]), span_of_string(name)))
			return redis_text(fields->element[i + 1]);
	}
	return span_none();
}

/* The states that were noted: fields r0, r1, … */
static bool
read_states(struct redis_end *e, struct redis_mail *m, const struct redisReply *fields)
{
	for (size_t i = 0; i + 1 < fields->elements; i += 2) {
		struct span name = redis_text(fields->element[i]);
		struct pack_state s;
		uint64_t number;
		if (name.size < 2 || name.data[0] != 'r')
			continue;
		if (!span_to_u64(span_after(name, 1), &number) ||
		    number >= m->envelope.recipient_count ||
		    !pack_read_state(redis_text(fields->element[i + 1]), &s))
			return false;
		s.retry_at_ms = s.retry_at_ms == 0 ? 0 : to_wall_ms(e, s.retry_at_ms);
		owned_set_state(m, (uint32_t)number, &s);
	}
	return true;
}

struct span
mail_owner(const struct redisReply *fields)
{
	return mail_field(fields, "o");
}

static uint32_t
giving_of(const struct redisReply *fields)
{
	uint64_t giving = 0;

	(void)span_to_u64(mail_field(fields, "g"), &giving);
	return (uint32_t)giving;
}

bool
mail_is_held(const struct redisReply *fields)
{
	uint64_t revision = 0;

	return span_to_u64(mail_field(fields, "h"), &revision) && revision % 2 != 0;
}

struct redis_mail *
mail_read(struct redis_end *e, struct mail_id id, const struct redisReply *fields, enum err *why)
{
	struct span packed = mail_field(fields, "e");
	struct mail_envelope envelope = { .id = id };
	uint64_t pieces = 0;
	uint32_t count;
	size_t text;

	*why = ERR_CORRUPT;
	if (!pack_measure(packed, &count, &text) || count == 0)
		return NULL;
	*why = ERR_NO_MEMORY;
	struct mail_recipient *all = calloc(count, sizeof *all);
	if (all == NULL)
		return NULL;
	envelope.recipients = all;
	envelope.recipient_count = count;
	bool is_good = pack_read_envelope(packed, &envelope) &&
		       span_to_u64(mail_field(fields, "b"), &pieces) &&
		       pieces == pieces_of(envelope.body_size);
	envelope.id = id;
	envelope.accepted_at_ms = to_wall_ms(e, envelope.accepted_at_ms);
	struct redis_mail *m = is_good ? owned_new(e, &envelope) : NULL;
	free(all);
	if (m == NULL || !read_states(e, m, fields)) {
		*why = is_good && m == NULL ? ERR_NO_MEMORY : ERR_CORRUPT;
		if (m != NULL)
			owned_free(e, m);
		return NULL;
	}
	m->pieces = (uint32_t)pieces;
	m->giving = giving_of(fields);
	return m;
}

bool
owned_find_sites(struct redis_end *e, struct redis_mail *m)
{
	bool any = false;

	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		struct mail_recipient *r = &m->envelope.recipients[n];
		if (r->state != RECIPIENT_PENDING)
			continue;
		r->site = e->store->store.hooks.site_of(&e->queue, r->address, m->envelope.flags);
		any = true;
	}
	return any;
}

/* Recipients that somebody may have been delivering to: what was due by then. */
static uint64_t
doubtful_of(const struct redis_mail *m, uint64_t due_by_ms)
{
	uint64_t count = 0;

	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		const struct mail_recipient *r = &m->envelope.recipients[n];
		count += r->state == RECIPIENT_PENDING && r->retry_at_ms <= due_by_ms;
	}
	return count;
}

static void
note_coming(struct redis_end *e, const struct redis_mail *m, const struct redisReply *one,
	    enum redis_came how)
{
	uint64_t until_ms = e->shards[m->shard].doubtful_until_ms;
	uint64_t doubtful = 0, due_ms = 0;

	switch (how) {
	case CAME_DUE:
		e->counters.claimed_mails++;
		if (until_ms > 0 && span_to_u64(mail_field(redis_at(one, 1), "d"), &due_ms) &&
		    to_wall_ms(e, due_ms) <= until_ms)
			report_doubtful(e, m->mail.id, doubtful_of(m, until_ms));
		return;
	case CAME_TAKEN:
		doubtful = doubtful_of(m, e->queue.worker->now_wall_ms);
		e->counters.taken_over_mails++;
		e->counters.taken_over_doubtful += doubtful;
		report_taken_over(e, m->mail.id, redis_text(redis_at(one, 2)), doubtful);
		return;
	case CAME_RECOVERED:
		/* What we did with it is not known, nor why: any of them. */
		report_recovered(e, m->mail.id, doubtful_of(m, UINT64_MAX));
		return;
	}
}

void
mail_came(struct redis_end *e, const struct redisReply *one, enum redis_came how)
{
	const struct redisReply *fields = redis_at(one, 1);
	struct mail_id id;
	enum err why = ERR_CORRUPT;

	if (!id_of_hex(redis_text(redis_at(one, 0)), &id) || fields == NULL) {
		e->counters.corrupt++;
		return;
	}
	struct redis_mail *known = owned_find(e, id);
	if (known != NULL && (e->came_again || how == CAME_RECOVERED) &&
	    known->giving == giving_of(fields))
		return; /* given again, and known */
	if (known != NULL && (known->busy > 0 || known->leaving)) {
		/* Another had taken it over and given it back: what we have in hand is old. */
		known->stale = true;
		errand_add(e, ERRAND_RETURN, id);
		return;
	}
	if (known != NULL)
		owned_lose(e, known);
	struct redis_mail *m = mail_read(e, id, fields, &why);
	if (m != NULL)
		m->recovered = how != CAME_DUE;
	if (m == NULL || !owned_find_sites(e, m) || !owned_make_items(e, m)) {
		if (m != NULL)
			owned_free(e, m);
		why = m == NULL ? why : ERR_NO_MEMORY;
		report_unread(e, id, why);
		errand_add(e, why == ERR_CORRUPT ? ERRAND_HOLD : ERRAND_RETURN, id);
		return;
	}
	note_coming(e, m, one, how);
	owned_add(e, m);
	struct redis_item *next;
	for (struct redis_item *i = m->items; i != NULL; i = next) {
		next = i->next;
		owned_item_wait(e, i, i->turn.item.due_at_ms);
	}
}

/* ---- asking ---- */

bool
fetch_has_room(const struct redis_end *e)
{
	const struct body_budget *b = &e->budget;

	return !e->drains && e->idle_count + REDIS_CLAIM_MOST <= REDIS_IDLE_MOST &&
	       e->mail_count < e->mails_most && b->used_bytes < b->most_bytes / 4 * 3;
}

static void
set_timer(struct redis_end *e)
{
	struct worker *w = e->queue.worker;
	uint64_t at_ms = UINT64_MAX;

	for (unsigned i = w->number; i < e->store->redis.shards; i += w->count) {
		const struct redis_shard *s = &e->shards[i];
		uint64_t next_ms = s->due_at_ms < s->expiry_at_ms ? s->due_at_ms : s->expiry_at_ms;
		if (s->look_at_ms < next_ms)
			next_ms = s->look_at_ms;
		if (!s->asking && next_ms < at_ms)
			at_ms = next_ms;
	}
	if (at_ms == UINT64_MAX || e->stopping)
		timer_stop(&w->timers, &e->look);
	else
		timer_set(&w->timers, &e->look, at_ms > w->now_ms ? at_ms : w->now_ms + 1);
}

static void
ask(struct redis_shard *s, struct redis_link *link, const char *function, enum redis_asking what)
{
	struct redis_end *e = s->end;

	if (!args_begin(e, function, s->number, 4, 64)) {
		s->look_at_ms = e->queue.worker->now_ms + AGAIN_MS;
		return;
	}
	if (what != ASKING_LOOK) {
		args_incarnation(e);
		args_number(e, e->store->redis.lease_ms);
		args_number(e, REDIS_CLAIM_MOST);
		args_span(e, s->in_doubt ? SPAN("1") : SPAN("0"));
	}
	s->again = s->in_doubt && what != ASKING_LOOK;
	s->asking = what;
	s->sent_ms = clock_monotonic_ms();
	/* Whoever wakes the shard from here on does so for more than the answer knows. */
	s->look_at_ms = e->queue.worker->now_ms + e->store->redis.lease_ms;
	args_send(e, link, &s->call);
}

/* Another server than before may not know what that had answered: a mail that was due may have been
 * claimed there and delivered. */
static void
note_run(struct redis_shard *s)
{
	struct redis_end *e = s->end;
	uint64_t run = redis_servers_run(e->servers, s->number);
	bool may_lose = e->store->redis.durability != REDIS_DISK;

	if (s->run != 0 && s->run != run && may_lose)
		s->doubtful_until_ms = e->queue.worker->now_wall_ms;
	s->run = run;
}

static void
shard_look(struct redis_shard *s)
{
	struct redis_end *e = s->end;
	struct redis_link *link = redis_servers_link(e->servers, s->number);
	uint64_t now_ms = e->queue.worker->now_ms;
	uint64_t lease_ms = e->store->redis.lease_ms;

	if (s->asking != ASKING_NOTHING || link == NULL)
		return;
	note_run(s);
	/* Live owners come first after a fail-over: they renew before anybody takes over. */
	uint64_t safe_at_ms = redis_link_ready_since_ms(link) + lease_ms;
	if (s->expiry_at_ms <= now_ms && now_ms < safe_at_ms)
		s->expiry_at_ms = safe_at_ms;
	if (s->in_doubt)
		s->due_at_ms = now_ms;
	bool wants = s->expiry_at_ms <= now_ms || s->due_at_ms <= now_ms;
	if (wants && !fetch_has_room(e)) {
		e->hungry = true;
		s->expiry_at_ms = s->expiry_at_ms <= now_ms ? UINT64_MAX : s->expiry_at_ms;
		s->due_at_ms = UINT64_MAX;
		s->look_at_ms = now_ms + AGAIN_MS;
		return;
	}
	if (s->expiry_at_ms <= now_ms)
		ask(s, link, "rp_take", ASKING_TAKE);
	else if (s->due_at_ms <= now_ms)
		ask(s, link, "rp_claim", ASKING_CLAIM);
	else if (s->look_at_ms <= now_ms)
		ask(s, link, "rp_look", ASKING_LOOK);
}

void
fetch_look(struct redis_end *e)
{
	struct worker *w = e->queue.worker;

	if (!e->started || e->stopping)
		return;
	for (unsigned i = w->number; i < e->store->redis.shards; i += w->count)
		shard_look(&e->shards[i]);
	set_timer(e);
}

/* -1: never. A little later than said, each node by another bit, so that they do not all come. */
static uint64_t
in_ms(struct redis_end *e, const struct redisReply *reply)
{
	int64_t ms;

	if (!redis_number(reply, &ms) || ms < 0)
		return UINT64_MAX;
	return e->queue.worker->now_ms + (uint64_t)ms + (ms == 0 ? 0 : random_u64() % JITTER_MS);
}

static void
on_fetched(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_shard *s = CONTAINER_OF(c, struct redis_shard, call);
	struct redis_end *e = s->end;
	enum redis_asking was = s->asking;
	uint64_t now_ms = e->queue.worker->now_ms;
	int64_t redis_now_ms;

	e->calls_open--;
	s->asking = ASKING_NOTHING;
	/* Mails may have come to us whose names were lost on the way. */
	s->in_doubt = s->in_doubt || (error == ERR_IN_DOUBT && was != ASKING_LOOK);
	if (error != ERR_OK || !redis_number(redis_at(reply, 0), &redis_now_ms)) {
		s->look_at_ms = now_ms + AGAIN_MS;
		set_timer(e);
		return;
	}
	e->came_ms = e->came_until_ms = s->sent_ms;
	end_note_time(e, redis_now_ms);
	s->in_doubt = s->in_doubt && was == ASKING_LOOK;
	if (was == ASKING_TAKE)
		s->expiry_at_ms = in_ms(e, redis_at(reply, 1));
	else
		s->due_at_ms = in_ms(e, redis_at(reply, 1));
	if (was == ASKING_LOOK)
		s->expiry_at_ms = in_ms(e, redis_at(reply, 2));
	else if (reply->elements > 2 && !s->again) /* what is given again lengthens no lease */
		e->came_until_ms = lease_note_change(e->store, s->number, s->sent_ms);
	if (reply->elements > 2 && was != ASKING_LOOK)
		atomic_store(&e->store->leases[s->number].changed, true);
	e->came_again = s->again;
	for (size_t i = 2; was != ASKING_LOOK && i < reply->elements; i++)
		mail_came(e, reply->element[i], was == ASKING_TAKE ? CAME_TAKEN : CAME_DUE);
	shard_look(s);
	set_timer(e);
}

static void
on_look(struct timer *t)
{
	fetch_look(CONTAINER_OF(t, struct redis_end, look));
}

void
fetch_run(struct task *t)
{
	struct redis_end *e = CONTAINER_OF(t, struct redis_end, fetch_task);
	struct worker *w = e->queue.worker;

	e->hungry = false;
	for (unsigned i = w->number; i < e->store->redis.shards; i += w->count)
		e->shards[i].look_at_ms = w->now_ms;
	fetch_look(e);
}

void
fetch_up(struct redis_end *e)
{
	worker_soon(e->queue.worker, &e->fetch_task);
}

void
fetch_wake(struct redis_end *e, unsigned shard)
{
	if (shard >= e->store->redis.shards ||
	    shard % e->queue.worker->count != e->queue.worker->number)
		return;
	e->shards[shard].look_at_ms = e->queue.worker->now_ms;
	fetch_look(e);
}

void
fetch_stop(struct redis_end *e)
{
	timer_stop(&e->queue.worker->timers, &e->look);
	task_cancel(&e->fetch_task);
}

/* ---- how many wait ---- */

static void
on_counted(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct redis_shard *s = CONTAINER_OF(c, struct redis_shard, count_call);
	int64_t waiting;
	int64_t held;
	int64_t failed;

	s->end->calls_open--;
	s->counting = false;
	if (error != ERR_OK || !redis_number(redis_at(reply, 1), &waiting) ||
	    !redis_number(redis_at(reply, 2), &held) || !redis_number(redis_at(reply, 5), &failed))
		return; /* asked again */
	s->counted_at_ms = s->end->queue.worker->now_ms;
	s->waiting = waiting < 0 ? 0 : (uint64_t)waiting;
	s->held = held < 0 ? 0 : (uint64_t)held;
	s->failed = failed < 0 ? 0 : (uint64_t)failed;
}

static void
shard_count(struct redis_shard *s)
{
	struct redis_end *e = s->end;
	struct redis_link *link = redis_servers_link(e->servers, s->number);
	bool is_old = s->counted_at_ms == 0 ||
		      e->queue.worker->now_ms - s->counted_at_ms >= COUNT_AGAIN_MS;

	if (s->counting || link == NULL || redis_link_is_full(link) ||
	    (!is_old && !atomic_load(&e->store->leases[s->number].changed)) ||
	    !args_begin(e, "rp_count", s->number, 0, 16))
		return;
	atomic_store(&e->store->leases[s->number].changed, false);
	s->counting = true;
	args_send(e, link, &s->count_call);
}

void
fetch_count(struct redis_end *e)
{
	struct worker *w = e->queue.worker;

	for (unsigned i = w->number; i < e->store->redis.shards; i += w->count)
		shard_count(&e->shards[i]);
}

bool
fetch_init(struct redis_end *e)
{
	e->shards = calloc(e->store->redis.shards, sizeof *e->shards);
	timer_init(&e->look, on_look);
	task_init(&e->fetch_task, fetch_run);
	for (unsigned i = 0; e->shards != NULL && i < e->store->redis.shards; i++) {
		e->shards[i] = (struct redis_shard){ .end = e,
						     .call = { .on_reply = on_fetched },
						     .count_call = { .on_reply = on_counted },
						     .number = i,
						     .due_at_ms = UINT64_MAX,
						     .expiry_at_ms = UINT64_MAX };
	}
	return e->shards != NULL;
}
