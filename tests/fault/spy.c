/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/spy.h"

#include "core/base/assert.h"
#include "queue/driver.h"
#include "tests/fault/drive.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"

enum { REQUESTS_MOST = 1024 };

/* A request that the store has, and whom it is to be told to. */
struct request {
	const void *request; /* NULL: free */
	struct oracle_mail *m;
	unsigned node;
	unsigned moves; /* of the mail, when it was asked; UINT32_MAX: it was another's */
	struct queue *queue;
	/* What is recorded, by the oracle's numbers of recipients: those whom the relay has refused
	 * are not in its envelopes. */
	struct queue_result results[ORACLE_RECIPIENTS_MAX];
	void (*on_put)(struct queue_put *p, enum err e);
	void (*on_record)(struct queue_record *r, enum err e);
	void (*on_claim)(struct queue_claim *c, enum err e);
	void (*on_act)(struct queue_act *a, enum err e);
};

static struct request requests[REQUESTS_MOST];
static const struct queue_driver *store_driver;
static struct queue_driver driver;

static struct request *
find(const void *request)
{
	for (size_t i = 0; i < REQUESTS_MOST; i++)
		if (requests[i].request == request)
			return &requests[i];
	ASSERT(false); /* more than this simulation can have, or one that ends twice */
	return NULL;
}

static struct request
take(const void *request)
{
	struct request *at = find(request);
	struct request r = *at;

	*at = (struct request){ 0 };
	return r;
}

static struct oracle_mail *
mail_of(const struct mail_envelope *e)
{
	struct oracle_mail *m = oracle_mail_of_sender(e->sender);

	if (m == NULL)
		sim_fail("the store is given a mail from nobody");
	return m;
}

/* A report has the null sender and goes to the sender of the mail that it is about. */
static bool
is_notice(const struct mail_envelope *e)
{
	if (e->sender.size > 0)
		return false;
	if (e->recipient_count != 1 || oracle_mail_of_sender(e->recipients[0].address) == NULL)
		sim_fail("a report to nobody");
	return true;
}

static void
on_put_done(struct queue_put *p, enum err e)
{
	struct request r = take(p);

	oracle_put_done(r.m, e);
	p->on_done = r.on_put;
	p->on_done(p, e);
}

static void
put(struct queue *q, struct queue_put *p)
{
	struct oracle_mail *m = mail_of(p->envelope);

	oracle_putting(m, p->envelope);
	*find(NULL) =
		(struct request){ .request = p, .m = m, .node = world->node, .on_put = p->on_done };
	p->on_done = on_put_done;
	store_driver->put(q, p);
}

static void
on_recorded(struct queue_record *r, enum err e)
{
	struct request saved = take(r);

	/* Another has the mail since: what was done was settled then. */
	bool is_stale = saved.moves != saved.m->moves;

	for (uint32_t i = 0; e == ERR_OK && i < r->result_count; i++) {
		if (saved.results[i].tried)
			oracle_outcome_done(saved.m, &saved.results[i]);
		if (!is_stale)
			oracle_times_recorded(saved.m, &saved.results[i]);
	}
	if (e == ERR_LOST)
		oracle_lost(saved.m, saved.results, r->result_count);
	else if (e != ERR_OK && !is_stale)
		oracle_times_failed(saved.m, saved.results, r->result_count);
	bool has_notice = r->notice != NULL && (e == ERR_OK || r->notice_is_kept);
	saved.m->notices_unlogged[world->node] += has_notice;
	r->on_done = saved.on_record;
	r->on_done(r, e);
}

static void
record(struct queue *q, struct queue_record *r)
{
	const struct mail_envelope *envelope = r->item->mail->envelope;
	if (is_notice(envelope)) {
		if (r->notice != NULL)
			sim_fail("a report on a report");
		oracle_judge_report(oracle_mail_of_sender(envelope->recipients[0].address), r,
				    q->worker->now_wall_ms);
		store_driver->record(q, r);
		return;
	}
	struct oracle_mail *m = mail_of(envelope);
	if (r->notice != NULL &&
	    (!is_notice(r->notice->envelope) ||
	     oracle_mail_of_sender(r->notice->envelope->recipients[0].address) != m))
		sim_fail("mail %u: its report goes to somebody else", m->number);
	bool is_its = drive_redis_owns(q, r->item->mail);
	struct request *request = find(NULL);
	*request = (struct request){
		.request = r,
		.m = m,
		.node = world->node,
		.moves = is_its ? m->moves : UINT32_MAX,
		.on_record = r->on_done,
	};
	ASSERT(r->result_count <= ORACLE_RECIPIENTS_MAX);
	for (uint32_t i = 0; i < r->result_count; i++) {
		const struct mail_recipient *to = &envelope->recipients[r->results[i].recipient];
		request->results[i] = r->results[i];
		request->results[i].recipient = oracle_recipient_of(m, to->address);
	}
	if (is_its)
		oracle_judge_times(m, request->results, r->result_count, r->notice != NULL,
				   q->worker->now_wall_ms);
	for (uint32_t i = 0; i < r->result_count; i++)
		if (r->results[i].tried)
			oracle_outcome_asked(m, &request->results[i], is_its);
	r->on_done = on_recorded;
	store_driver->record(q, r);
}

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct request saved = take(c);

	for (struct list_node *n = list_first(&c->items); n != NULL; n = list_next(&c->items, n)) {
		const struct queue_item *i = LIST_ITEM(n, struct queue_item, link);
		if (is_notice(i->mail->envelope))
			continue;
		/* What another has taken over since is not known as it was. */
		if (drive_redis_owns(saved.queue, i->mail))
			oracle_claimed(mail_of(i->mail->envelope), i, oracle_wall_ms());
	}
	c->on_done = saved.on_claim;
	c->on_done(c, e);
}

static void
claim(struct queue *q, struct queue_claim *c)
{
	*find(NULL) = (struct request){
		.request = c, .node = world->node, .queue = q, .on_claim = c->on_done
	};
	c->on_done = on_claimed;
	store_driver->claim(q, c);
}

static void
on_acted(struct queue_act *a, enum err e)
{
	struct request saved = take(a);

	if (e == ERR_OK && (a->action == QUEUE_HOLD || a->action == QUEUE_UNHOLD))
		oracle_held(a->id, a->action == QUEUE_HOLD);
	a->on_done = saved.on_act;
	a->on_done(a, e);
}

static void
act(struct queue *q, struct queue_act *a)
{
	oracle_holding(a->id, a->action == QUEUE_HOLD);
	*find(NULL) = (struct request){ .request = a, .node = world->node, .on_act = a->on_done };
	a->on_done = on_acted;
	store_driver->act(q, a);
}

/* Invariant 3: who says so owns the mail. */
static uint64_t
may_end_until_ms(struct queue *mine, const struct queue_mail *mail)
{
	uint64_t until_ms = store_driver->may_end_until_ms(mine, mail);

	if (until_ms > mine->worker->now_ms && !is_notice(mail->envelope))
		oracle_ends_data(mail_of(mail->envelope), drive_redis_owns(mine, mail));
	return until_ms;
}

void
spy_forget(unsigned node)
{
	for (size_t i = 0; i < REQUESTS_MOST; i++)
		if (requests[i].node == node)
			requests[i] = (struct request){ 0 };
}

void
spy_watch(struct queue_store *store, unsigned worker_count)
{
	store_driver = store->driver;
	driver = *store_driver;
	driver.put = put;
	driver.record = record;
	driver.claim = claim;
	driver.act = act;
	driver.may_end_until_ms = may_end_until_ms;
	for (unsigned i = 0; i < worker_count; i++)
		queue_end(store, i)->driver = &driver;
	world->oracle->has_spy = true;
}
