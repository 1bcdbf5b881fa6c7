/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver of the store: many hands that put, claim, read, record, hold and remove at random
 * through queue.h, on all workers of an incarnation; some outcomes have a notice, which must be
 * kept with them or not at all. What they do is told to the oracle before and after; what they are
 * handed is compared with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/queue.h"
#include "tests/fault/drive.h"
#include "tests/fault/drive_spool.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim_files.h"

enum {
	PUTS_MOST = 12,
	ITEMS_MOST = 64,
	LOAD_SIZE = 64 * 1024,
	CHUNK_MOST = 32 * 1024,
	DRAIN_PUMPS_MOST = 3 * 1000 * 1000,
	REMOTE_PUMPS_MOST = 500 * 1000,
	RETRY_MS_MOST = 60 * 1000,
};

/* A mail on its way in. */
struct put_job {
	struct list_node node;
	struct queue_put put; /* zeroed */
	struct oracle_mail *m;
	struct queue *q;
	struct queue_draft *draft;
	struct offer offer;
	uint64_t fed;
	struct task resume;
	bool waits; /* for room in the draft, or for on_done */
};

/* A claimed item in the driver's hands. */
struct item_job {
	struct list_node node;
	struct queue_item *item;
	struct oracle_mail *m;
	struct queue *q; /* that keeps it */
	struct queue_load load;
	struct queue_record record;
	struct queue_attempt attempt;
	struct queue_result results[ORACLE_RECIPIENTS_MAX];
	uint32_t result_count; /* 0: not decided yet */
	struct notice *notice; /* of the record that is under way */
	unsigned undone;       /* as the mail was when that was asked for */
	uint8_t *memory;
	uint64_t verified; /* bytes */
	bool is_verified;
	bool started;
	bool waits; /* a request of it is in the queue's hands */
};

struct claim_job {
	struct queue_claim claim;
	struct queue *q;
	unsigned number; /* of the worker */
};

struct act_job {
	struct queue_act act;
	struct oracle_mail *m;
	unsigned number; /* of the worker that is asked */
	uint8_t held_before;
	unsigned undone;        /* as the mail was when that was asked for */
	uint32_t maybe_removed; /* bits of recipients that an earlier try may have removed */
};

static const struct drive_plan *plan;
static struct queue_store *store;
static struct list put_jobs;
static struct list item_jobs;
static unsigned put_count;
static unsigned item_count;
static unsigned claims_open;
static unsigned acts_open;
static unsigned shows_open;
static unsigned stopped;
static bool due[DRIVE_WORKERS_MAX][ORACLE_SITES];
static bool draining;

static void *
new_zeroed(size_t size)
{
	void *memory = calloc(1, size);
	ASSERT(memory != NULL);
	return memory;
}

/* ---- sites ---- */

/* Named by an item, or asked for, and not told to be unused since. */
static bool named[DRIVE_WORKERS_MAX][ORACLE_SITES];

static void
site_named(struct queue *q, struct site_id site)
{
	ASSERT(site.number < ORACLE_SITES);
	named[queue_worker(q)->number][site.number] = site.number != 0;
}

static struct site_id
site_of(struct queue *q, struct span address, uint32_t flags)
{
	struct site_id site = oracle_site_of(address, flags);

	site_named(q, site);
	return site;
}

static bool
on_named_row(void *context, const struct queue_row *row)
{
	(void)context;
	sim_fail("site %u is told to be unused, a mail names it", row->site.number);
}

static void
on_site_unused(struct queue *q, struct site_id site)
{
	const struct queue_filter there = { .by_site = true, .site = site, .kept_here = true };
	uint64_t cursor = 0;

	while (queue_list(q, &there, &cursor, 1000, on_named_row, NULL))
		;
	for (struct list_node *n = list_first(&item_jobs); n != NULL;
	     n = list_next(&item_jobs, n)) {
		const struct item_job *j = LIST_ITEM(n, struct item_job, node);
		if (j->q == q && j->item->site.number == site.number)
			sim_fail("site %u is told to be unused, an item of it is claimed",
				 site.number);
	}
	named[queue_worker(q)->number][site.number] = false;
}

static bool
any_site_is_named(void)
{
	for (unsigned i = 0; i < drive_worker_count; i++)
		for (unsigned s = 0; s < ORACLE_SITES; s++)
			if (named[i][s])
				return true;
	return false;
}

/* ---- items ---- */

/* Looks at all of what is handed out and compares it with what the oracle knows. */
static void
check_item(struct item_job *j)
{
	const struct mail_envelope *e = j->item->mail->envelope;
	struct oracle_mail *m = j->m;
	char text[64];

	if (e->body_size != m->body_size || e->recipient_count != m->recipient_count ||
	    !drive_is_time(plan, e->accepted_at_ms, m->accepted_at_ms) ||
	    e->flags != oracle_flags(m->number))
		sim_fail("mail %u: envelope differs", m->number);
	if (!span_eq(e->sender, span_of_string(oracle_sender(m, text))))
		sim_fail("mail %u: sender differs", m->number);
	if (m->held == 2 && !world->oracle->damaged)
		sim_fail("mail %u is held and is handed out", m->number);
	uint32_t seen = 0;
	uint32_t early = 0;
	for (uint32_t i = queue_item_recipient(j->item, 0); i < e->recipient_count;
	     i = queue_item_recipient(j->item, i + 1)) {
		const struct mail_recipient *r = &e->recipients[i];
		if (!span_eq(r->address, span_of_string(oracle_recipient_address(m, i, text))))
			sim_fail("mail %u recipient %u: address differs", m->number, i);
		if (r->site.number != j->item->site.number ||
		    m->recipients[i].routed != j->item->site.number)
			sim_fail("mail %u recipient %u: site differs", m->number, i);
		oracle_saw(m, i, r->state, r->attempts);
		oracle_saw_notified(m, i, r->notified);
		m->recipients[i].excused |= j->item->recovered;
		if (r->state != RECIPIENT_PENDING)
			sim_fail("mail %u recipient %u is handed out and not pending", m->number,
				 i);
		uint64_t now_ms = clock_wall_ms();
		early += m->recipients[i].retry_at_ms > now_ms &&
			 !drive_is_time(plan, now_ms, m->recipients[i].retry_at_ms);
		seen++;
	}
	/* Who has it in its hands may know what the server has lost. */
	drive_redis_look_again(plan, m, 0);
	/* An item is due when the first of its recipients is. */
	if (early == seen && seen > 0 && !world->oracle->damaged)
		sim_fail("mail %u site %u comes before its time", m->number, j->item->site.number);
	if (seen == 0)
		sim_fail("mail %u: an item without recipients is handed out", m->number);
}

static void
item_taken(struct queue *q, struct queue_item *item)
{
	struct item_job *j = new_zeroed(sizeof *j);

	j->item = item;
	j->q = q;
	j->m = oracle_find(item->mail->id);
	if (j->m == NULL)
		sim_fail("a mail is handed out that was never offered");
	check_item(j);
	list_append(&item_jobs, &j->node);
	site_named(q, item->site);
	item_count++;
	world->oracle->claims++;
	sim_note("item", j->m->number, item->site.number);
}

static void
item_free(struct item_job *j)
{
	list_unlink(&j->node);
	free(j->memory);
	free(j);
	item_count--;
}

static void
item_release(struct item_job *j)
{
	/* In memory only: a time for a retry of before is no longer kept to. */
	for (uint32_t i = 0; i < j->m->recipient_count; i++)
		j->m->recipients[i].retry_at_ms = 0;
	/* Whoever gives up an outcome counts it. */
	for (uint32_t i = 0; i < j->result_count; i++)
		world->oracle->counted += j->results[i].state == RECIPIENT_DELIVERED;
	queue_release(j->q, j->item, clock_wall_ms() + sim_below(10000));
	item_free(j);
}

/* Now and then by other routes than those by which it came here. */
static void
item_reroute(struct item_job *j)
{
	if (sim_chance(500))
		world->oracle->route = (unsigned)sim_below(ORACLE_SITES);
	for (uint32_t i = 0; i < j->m->recipient_count; i++)
		j->m->recipients[i].retry_at_ms = 0;
	queue_reroute(j->q, j->item);
	item_free(j);
}

static void
on_loaded(struct queue_load *l, enum err e)
{
	struct item_job *j = CONTAINER_OF(l, struct item_job, load);

	j->waits = false;
	if (e != ERR_OK) {
		/* Its connection may be away; it may have been removed, and nobody knows. */
		bool is_away = plan->redis != NULL && (e == ERR_AWAY || e == ERR_NO_MEMORY ||
						       !drive_redis_has(plan, j->m->id));
		if (!drive_disk_errs(plan) && !world->oracle->damaged && !is_away)
			sim_fail("mail %u: load says %s", j->m->number, err_name(e));
		item_release(j);
		return;
	}
	if (l->bytes.size == 0 && j->verified < j->m->body_size)
		sim_fail("mail %u: body ends at %llu", j->m->number,
			 (unsigned long long)j->verified);
	oracle_check_body(j->m, j->verified, l->bytes);
	j->verified += l->bytes.size;
	j->is_verified = j->verified == j->m->body_size;
}

/* Reads on: from memory where the body is there, else by any worker's end of the store. */
static void
item_verify(struct item_job *j)
{
	const struct body *body = j->item->mail->body;

	if (body != NULL) {
		struct span part;
		if (body_size(body) != j->m->body_size)
			sim_fail("mail %u: size of body differs", j->m->number);
		for (uint64_t at = 0; (part = body_at(body, at)).size > 0; at += part.size)
			oracle_check_body(j->m, at, part);
		j->is_verified = true;
		return;
	}
	if (j->memory == NULL)
		j->memory = aligned_alloc(4096, LOAD_SIZE);
	j->waits = true;
	j->load = (struct queue_load){
		.mail = j->item->mail,
		.offset = j->verified,
		.memory = j->memory,
		.capacity = 4096 * sim_between(2, LOAD_SIZE / 4096),
		.on_done = on_loaded,
	};
	queue_load(queue_end(store, (unsigned)sim_below(drive_worker_count)), &j->load);
}

static void take_items(struct queue *q, struct list *items);

static void
notice_ends(struct item_job *j, enum err e)
{
	if (j->notice == NULL)
		return;
	if (e == ERR_OK) {
		oracle_put_kept(j->notice->m);
		drive_redis_look_again(plan, j->notice->m, 0);
		take_items(j->q, &j->notice->put.items);
	} else {
		oracle_put_failed(j->notice->m, e == ERR_IN_DOUBT);
	}
	free(j->notice);
	j->notice = NULL;
}

static void
on_recorded(struct queue_record *r, enum err e)
{
	struct item_job *j = CONTAINER_OF(r, struct item_job, record);

	j->waits = false;
	sim_note("recorded", j->m->number, e);
	if (e == ERR_OK)
		for (uint32_t i = 0; i < j->result_count; i++)
			oracle_recorded(j->m, &j->results[i]);
	for (uint32_t i = 0; i < j->m->recipient_count && j->m->requeued; i++)
		j->m->recipients[i].retry_at_ms = 0;
	drive_redis_look_again(plan, j->m, j->undone);
	notice_ends(j, e);
	if (e == ERR_OK || e == ERR_LOST)
		item_free(j); /* else the same again, later, with another notice */
}

static uint8_t
choose_state(void)
{
	static const uint8_t states[] = {
		RECIPIENT_DELIVERED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED, RECIPIENT_DELIVERED,
		RECIPIENT_PENDING,   RECIPIENT_PENDING,   RECIPIENT_DISCARDED, RECIPIENT_FAILED,
	};
	return draining ? RECIPIENT_DELIVERED : states[sim_below(8)];
}

static void
item_decide(struct item_job *j)
{
	uint32_t most = j->m->recipient_count;

	for (uint32_t i = queue_item_recipient(j->item, 0); i < most;
	     i = queue_item_recipient(j->item, i + 1)) {
		struct queue_result *r = &j->results[j->result_count++];
		*r = (struct queue_result){ .recipient = i, .state = choose_state() };
		if (r->state == RECIPIENT_DELIVERED)
			drive_redis_note_delivery(&j->m->recipients[i]);
		r->tried = r->state != RECIPIENT_PENDING || sim_chance(800);
		r->reply = SPAN("250 2.0.0 simulated");
		if (r->state == RECIPIENT_PENDING)
			r->retry_at_ms = clock_wall_ms() + sim_below(RETRY_MS_MOST);
		r->notified = r->state == RECIPIENT_PENDING && sim_chance(200);
	}
}

/* Is there something to tell the sender of? */
static bool
deserves_notice(const struct item_job *j)
{
	for (uint32_t i = 0; i < j->result_count; i++)
		if (j->results[i].state == RECIPIENT_FAILED || j->results[i].notified)
			return sim_chance(800);
	return false;
}

static void
item_record(struct item_job *j)
{
	if (j->result_count == 0)
		item_decide(j);
	j->m->requeued = false;
	j->undone = j->m->undone;
	for (uint32_t i = 0; i < j->result_count; i++)
		oracle_recording(j->m, &j->results[i]);
	j->waits = true;
	memset(&j->record, 0, sizeof j->record);
	j->notice = deserves_notice(j) ? notice_new(j->q, j->m->id) : NULL;
	if (j->notice != NULL) {
		oracle_noticing(j->notice->m, j->m, j->results, j->result_count);
		j->record.notice = &j->notice->put;
	}
	j->record.item = j->item;
	j->record.results = j->results;
	j->record.result_count = j->result_count;
	j->record.on_done = on_recorded;
	queue_record(j->q, &j->record);
}

static void
on_attempted(struct queue_attempt *a, enum err e)
{
	struct item_job *j = CONTAINER_OF(a, struct item_job, attempt);

	j->waits = false;
	j->started = e == ERR_OK;
	if (e == ERR_LOST)
		item_free(j);
}

static void
item_attempt(struct item_job *j)
{
	j->waits = true;
	memset(&j->attempt, 0, sizeof j->attempt);
	j->attempt.item = j->item;
	j->attempt.alone = item_count == 1;
	j->attempt.on_done = on_attempted;
	queue_attempt(j->q, &j->attempt);
}

/* The next thing that happens to an item. */
static void
item_step(struct item_job *j)
{
	if (j->waits)
		return;
	if (j->result_count > 0) /* an outcome that could not be recorded */
		item_record(j);
	else if (!queue_may_deliver(j->q) || (!draining && sim_chance(80)))
		item_release(j);
	else if (!draining && sim_chance(30))
		item_reroute(j);
	else if (!j->is_verified)
		item_verify(j);
	else if (j->item->recovered && !j->started)
		item_attempt(j);
	else if (j->item->mail->body != NULL && sim_chance(50)) {
		queue_drop_body(j->q, j->item->mail);
		j->is_verified = false;
		j->verified = 0;
	} else
		item_record(j);
}

static struct list_node *
pick(const struct list *all, unsigned count)
{
	struct list_node *n = list_first(all);

	for (uint64_t skip = count == 0 ? 0 : sim_below(count); skip > 0 && n != NULL; skip--)
		n = list_next(all, n);
	return n;
}

static void
move_item(void)
{
	struct list_node *n = pick(&item_jobs, item_count);

	if (n != NULL)
		item_step(LIST_ITEM(n, struct item_job, node));
}

static void
take_items(struct queue *q, struct list *items)
{
	struct list_node *n;

	while ((n = list_shift(items)) != NULL)
		item_taken(q, LIST_ITEM(n, struct queue_item, link));
}

/* ---- claims ---- */

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct claim_job *j = CONTAINER_OF(c, struct claim_job, claim);
	unsigned n = 0;

	for (struct list_node *i = list_first(&c->items); i != NULL; i = list_next(&c->items, i))
		n++;
	if (e == ERR_OK && n == c->most)
		due[j->number][c->site.number] = true; /* there may be more */
	take_items(j->q, &c->items);
	claims_open--;
	free(j);
}

static void
move_claim(void)
{
	unsigned number = (unsigned)sim_below(drive_worker_count);
	unsigned site = (unsigned)sim_below(ORACLE_SITES);

	if (!due[number][site] || item_count >= ITEMS_MOST)
		return;
	struct claim_job *j = new_zeroed(sizeof *j);
	due[number][site] = false;
	j->q = queue_end(store, number);
	j->number = number;
	list_init(&j->claim.items);
	j->claim.site.number = site;
	j->claim.most = (uint32_t)sim_between(1, 8);
	j->claim.with_bodies = sim_chance(500);
	j->claim.on_done = on_claimed;
	claims_open++;
	queue_claim(j->q, &j->claim);
}

static void
on_due(struct queue *q, struct site_id site)
{
	ASSERT(site.number < ORACLE_SITES);
	for (unsigned i = 0; i < drive_worker_count; i++)
		if (queue_end(store, i) == q)
			due[i][site.number] = true;
}

/* ---- puts ---- */

static void
put_free(struct put_job *j)
{
	task_cancel(&j->resume);
	list_unlink(&j->node);
	free(j);
	put_count--;
}

static void
on_put(struct queue_put *p, enum err e)
{
	struct put_job *j = CONTAINER_OF(p, struct put_job, put);

	if (e != ERR_OK) {
		oracle_put_failed(j->m, e == ERR_IN_DOUBT);
	} else {
		oracle_put_kept(j->m);
		j->m->promised = true;
		if (plan->redis != NULL && !drive_redis_has(plan, j->m->id))
			sim_fail("mail %u is confirmed, the server does not have it", j->m->number);
		take_items(j->q, &p->items);
	}
	put_free(j);
}

static void
on_room(struct task *t)
{
	CONTAINER_OF(t, struct put_job, resume)->waits = false;
}

static void
move_new_put(void)
{
	struct queue *q = queue_end(store, (unsigned)sim_below(drive_worker_count));
	uint64_t size = sim_chance(100) ? sim_below(600000) : sim_below(plan->body_most + 1);

	if (put_count >= PUTS_MOST || item_count >= ITEMS_MOST || queue_admit(q, size) != ERR_OK)
		return;
	struct oracle_mail *m =
		oracle_mail_new(size, (uint32_t)sim_between(1, ORACLE_RECIPIENTS_MAX));
	if (m == NULL)
		return;
	struct queue_draft *draft = queue_draft_new(q, m->id, sim_chance(500) ? size : 0);
	if (draft == NULL)
		return;
	struct put_job *j = new_zeroed(sizeof *j);
	j->m = m;
	j->q = q;
	j->draft = draft;
	task_init(&j->resume, on_room);
	list_append(&put_jobs, &j->node);
	put_count++;
}

static void
put_abandon(struct put_job *j)
{
	queue_draft_abandon(j->draft);
	j->m->put = PUT_REFUSED;
	put_free(j);
}

static void
put_feed(struct put_job *j)
{
	uint8_t chunk[CHUNK_MOST];
	uint64_t left = j->m->body_size - j->fed;
	size_t n = sim_between(1, left < CHUNK_MOST ? left : CHUNK_MOST);

	if (queue_draft_is_full(j->draft)) {
		j->waits = true;
		queue_draft_on_room(j->draft, &j->resume);
		return;
	}
	oracle_body(j->m, j->fed, chunk, n);
	j->fed += n;
	if (queue_draft_append(j->draft, span_of(chunk, n)) != ERR_OK)
		put_abandon(j);
}

static void
put_finish(struct put_job *j)
{
	ASSERT(queue_draft_size(j->draft) == j->m->body_size);
	offer_fill(&j->offer, j->m);
	j->waits = true;
	j->m->put = PUT_STARTED;
	list_init(&j->put.items);
	j->put.draft = j->draft;
	j->put.envelope = &j->offer.envelope;
	j->put.on_done = on_put;
	queue_put(j->q, &j->put);
}

static void
move_put(void)
{
	struct list_node *n = pick(&put_jobs, put_count);
	struct put_job *j = n == NULL ? NULL : LIST_ITEM(n, struct put_job, node);

	if (j == NULL || j->waits)
		return;
	if (draining || sim_chance(10))
		put_abandon(j);
	else if (j->fed < j->m->body_size)
		put_feed(j);
	else if (sim_chance(500))
		put_finish(j);
	else /* all whose bodies are whole, in one turn: a store may make one commit of them */
		for (n = list_first(&put_jobs); n != NULL; n = list_next(&put_jobs, n)) {
			j = LIST_ITEM(n, struct put_job, node);
			if (!j->waits && j->fed == j->m->body_size)
				put_finish(j);
		}
}

/* ---- operators ---- */

static void act_start(struct act_job *j);

/* It certainly did not happen. */
static void
act_undo(const struct act_job *j)
{
	if (j->act.action == QUEUE_HOLD || j->act.action == QUEUE_UNHOLD)
		j->m->held = j->held_before;
	for (uint32_t i = 0; i < j->m->recipient_count && j->act.action == QUEUE_REMOVE; i++)
		if (!(j->maybe_removed & (1u << i)))
			j->m->recipients[i].possible &= (uint8_t) ~(1 << RECIPIENT_REMOVED);
}

/* Held or not, removed or not: confirmed, or one of two. */
static void
act_note(const struct act_job *j, bool confirmed)
{
	struct oracle_mail *m = j->m;

	switch (j->act.action) {
	case QUEUE_HOLD:
		m->held = confirmed ? 2 : 3;
		break;
	case QUEUE_UNHOLD:
		m->held = confirmed ? 1 : 3;
		break;
	case QUEUE_REQUEUE:
	case QUEUE_MOVE_TO_REDIS: /* of a pair alone */
	case QUEUE_MOVE_TO_SPOOL:
		break;
	case QUEUE_REMOVE:
		for (uint32_t i = 0; i < m->recipient_count; i++)
			if (confirmed)
				m->recipients[i].possible = 1 << RECIPIENT_REMOVED;
			else
				m->recipients[i].possible |= 1 << RECIPIENT_REMOVED;
		break;
	}
}

static void
on_acted(struct queue_act *a, enum err e)
{
	struct act_job *j = CONTAINER_OF(a, struct act_job, act);

	if (e == ERR_NOT_FOUND && j->number + 1 < drive_worker_count) {
		j->number++;
		act_start(j);
		return;
	}
	if (e == ERR_OK || e == ERR_IN_DOUBT) /* whatever was recorded meanwhile */
		act_note(j, e == ERR_OK);
	/* It may have come to the server behind an outcome that was under way. */
	j->m->requeued = plan->redis != NULL;
	for (uint32_t i = 0; i < j->m->recipient_count && plan->redis != NULL; i++)
		j->m->recipients[i].retry_at_ms = 0;
	if (e == ERR_NOT_FOUND || e == ERR_AGAIN || e == ERR_AWAY)
		act_undo(j);
	drive_redis_look_again(plan, j->m, j->undone);
	sim_note("acted", j->m->number, e);
	acts_open--;
	free(j);
}

static void
act_start(struct act_job *j)
{
	struct queue_act *a = &j->act;
	enum queue_action action = a->action;

	*a = (struct queue_act){ .action = action,
				 .id = j->m->id,
				 .who = SPAN("simulation"),
				 .why = SPAN("chance"),
				 .on_done = on_acted };
	/* Whatever was certain is not, until the answer. */
	for (uint32_t i = 0; i < j->m->recipient_count && j->number == 0; i++)
		if (j->m->recipients[i].possible & (1 << RECIPIENT_REMOVED))
			j->maybe_removed |= 1u << i;
	if (j->number == 0) {
		j->held_before = j->m->held;
		j->undone = j->m->undone;
	}
	act_note(j, false);
	for (uint32_t i = 0; i < j->m->recipient_count; i++)
		j->m->recipients[i].retry_at_ms = 0;
	queue_act(queue_end(store, j->number), a);
}

static void
act_on(struct oracle_mail *m, enum queue_action action)
{
	struct act_job *j = new_zeroed(sizeof *j);

	j->m = m;
	j->act.action = action;
	acts_open++;
	sim_note("act", m->number, action);
	act_start(j);
}

static void
move_act(void)
{
	static const enum queue_action actions[] = { QUEUE_HOLD,   QUEUE_HOLD,    QUEUE_UNHOLD,
						     QUEUE_UNHOLD, QUEUE_REQUEUE, QUEUE_REMOVE };
	uint32_t count = world->oracle->mail_count;

	if (count == 0 || acts_open > 0)
		return;
	struct oracle_mail *m = &world->oracle->mails[sim_below(count)];
	if (m->put == PUT_KEPT && sim_chance(500))
		show_start(store, m, &shows_open);
	if (m->put == PUT_KEPT)
		act_on(m, actions[sim_below(6)]);
}

/* ---- an incarnation ---- */

static void
move(void)
{
	static void (*const moves[])(void) = { move_new_put, move_put,  move_put,  move_put,
					       move_claim,   move_item, move_item, move_act };
	unsigned sum = 0;

	for (unsigned i = 0; i < 8; i++)
		sum += plan->weights[i];
	uint64_t at = sim_below(sum);
	for (unsigned i = 0; i < 8; i++) {
		if (at < plan->weights[i]) {
			moves[i]();
			return;
		}
		at -= plan->weights[i];
	}
}

static void
open_store(void)
{
	static const struct worker_options options = {
		.ring = { .entries = 256, .buffers = { 0, 16 }, .buffer_size = { 0, 16384 } },
		.mailbox_places = 1024,
		.buffers_max = 64,
	};
	const struct queue_hooks hooks = { .site_of = site_of,
					   .on_due = on_due,
					   .on_site_unused = on_site_unused };
	struct queue_options spool = {
		.spool_path = "/spool",
		.durability = QUEUE_DISK,
		.segment_size = plan->segment_size,
		.file_threshold = plan->file_threshold,
		.flights = plan->flights,
		.body_memory = plan->body_memory,
	};
	char text[512] = "";
	struct buf why = buf_of(text, sizeof text - 1);

	if (plan->redis != NULL)
		drive_redis_options(plan, &spool);
	drive_open_workers(plan->workers[plan->incarnation], &options);
	store = queue_open(&spool, drive_workers, drive_worker_count, &hooks, &why);
	text[why.size] = '\0';
	if (why.size > 0 && !drive_opening_may_fail(plan) && !world->oracle->damaged)
		sim_fail("opening says: %s", text);
	if (store != NULL)
		return;
	/* It may refuse a disk that fails; then somebody switches it off and on again. */
	if (!drive_opening_may_fail(plan) || drive_is_last(plan))
		sim_fail("the store does not open: %s", text);
	sim_crash();
}

static void
on_stopped(struct queue *q, void *context)
{
	(void)q;
	(void)context;
	stopped++;
}

static bool
stop_is_done(void)
{
	return stopped == drive_worker_count;
}

static bool
hands_are_empty(void)
{
	return put_count == 0 && item_count == 0 && claims_open == 0 && acts_open == 0 &&
	       shows_open == 0;
}

static void
pump_until(bool (*done)(void), void (*meanwhile)(void), const char *what)
{
	for (unsigned i = 0; !done(); i++) {
		if (meanwhile != NULL)
			meanwhile();
		if (plan->redis != NULL)
			drive_redis_count_duplicates(store);
		if (!drive_pump() && !done() && meanwhile == NULL)
			sim_fail("%s: nothing happens any more", what);
		if (i > (plan->redis == NULL ? DRAIN_PUMPS_MOST : REMOTE_PUMPS_MOST))
			sim_fail("%s does not end (%u puts, %u items, %u claims, %u acts)", what,
				 put_count, item_count, claims_open, acts_open);
	}
}

static void
give_back(void)
{
	struct list_node *next;

	move_put();
	for (struct list_node *n = list_first(&item_jobs); n != NULL; n = next) {
		struct item_job *j = LIST_ITEM(n, struct item_job, node);
		next = list_next(&item_jobs, n);
		if (!j->waits && (j->result_count == 0 || !queue_may_deliver(j->q)))
			item_release(j);
		else
			item_step(j);
	}
}

static void
stop(void)
{
	draining = true;
	pump_until(hands_are_empty, give_back, "giving back");
	stopped = 0;
	for (unsigned i = 0; i < drive_worker_count; i++)
		queue_stop(queue_end(store, i), on_stopped, NULL);
	pump_until(stop_is_done, NULL, "stopping");
	queue_close(store);
	sim_check_nothing_left();
	drive_close_workers();
	if (drive_is_last(plan))
		sim_check_no_leaks();
}

/* ---- the last one ---- */

static bool
is_drained(void)
{
	static unsigned asked;

	if (!hands_are_empty())
		return false;
	if (plan->redis != NULL)
		return ++asked % 16 == 0 && drive_redis_count(plan) == 0 && !any_site_is_named();
	for (unsigned i = 0; i < drive_worker_count; i++) {
		struct queue_numbers n;
		queue_count(queue_end(store, i), &n);
		if (n.items_waiting > 0 || n.items_claimed > 0)
			return false;
		/* Damaged mails stay held: for people, not for ever. */
		if (n.items_held > 0 && !world->oracle->damaged)
			return false;
	}
	return world->oracle->damaged || !any_site_is_named();
}

static void
deliver_all(void)
{
	static uint32_t cursor;
	struct oracle *o = world->oracle;

	move_put();
	move_claim();
	move_claim();
	move_item();
	move_item();
	/* Whatever may be held is let go, one after the other. */
	if (acts_open == 0 && cursor < o->mail_count) {
		struct oracle_mail *m = &o->mails[cursor++];
		if (m->held != 1)
			act_on(m, QUEUE_UNHOLD);
	} else if (acts_open == 0 && sim_chance(1)) {
		cursor = 0;
	}
}

/* Every mail ends when its last recipient has an outcome; damaged ones stay, for people. */
static void
check_nothing_is_left(void)
{
	if (plan->redis != NULL && drive_redis_count(plan) > 0)
		sim_fail("mails are left in the server");
	if (world->oracle->twice > world->oracle->counted && plan->redis != NULL)
		sim_fail("%llu recipients may have got a mail twice, %llu did",
			 (unsigned long long)world->oracle->counted,
			 (unsigned long long)world->oracle->twice);
	if (plan->redis != NULL)
		return; /* what workers count lags behind */
	for (unsigned i = 0; i < drive_worker_count; i++) {
		struct queue_numbers n;
		queue_count(queue_end(store, i), &n);
		if (n.mails + n.items > 0 && !world->oracle->damaged)
			sim_fail("%llu mails are left", (unsigned long long)n.mails);
	}
}

static void
begin(const struct drive_plan *p)
{
	plan = p;
	list_init(&put_jobs);
	list_init(&item_jobs);
	oracle_restart();
	sim_ring_watch(&oracle_watch);
	open_store();
	for (unsigned i = 0; i < drive_worker_count; i++)
		queue_start(queue_end(store, i));
}

void
drive_spool(void *context)
{
	begin(context);
	/* Where servers fail over, that has to drain which has lived through it. */
	for (unsigned i = 0; i < plan->moves && (!drive_is_last(plan) || plan->fails_over); i++) {
		for (uint64_t n = sim_below(4); n > 0; n--)
			move();
		drive_pump();
		if (plan->redis != NULL)
			drive_redis_count_duplicates(store);
	}
	if (drive_is_last(plan)) {
		if (plan->redis != NULL)
			drive_redis_calm(plan);
		draining = true;
		pump_until(is_drained, deliver_all, "draining");
		oracle_check_done();
		check_nothing_is_left();
	}
	stop();
}

void
drive_spool_final(void *context)
{
	begin(context);
	check_nothing_is_left();
	stop();
}
