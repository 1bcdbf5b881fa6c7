/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/spy.h"

#include "core/base/assert.h"
#include "queue/driver.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"

enum { REQUESTS_MOST = 1024 };

/* A request that the store has, and whom it is to be told to. */
struct request {
	const void *request; /* NULL: free */
	struct oracle_mail *m;
	void (*on_put)(struct queue_put *p, enum err e);
	void (*on_record)(struct queue_record *r, enum err e);
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

	oracle_putting(m, p->envelope->id);
	*find(NULL) = (struct request){ .request = p, .m = m, .on_put = p->on_done };
	p->on_done = on_put_done;
	store_driver->put(q, p);
}

static void
on_recorded(struct queue_record *r, enum err e)
{
	struct request saved = take(r);

	for (uint32_t i = 0; e == ERR_OK && i < r->result_count; i++)
		if (r->results[i].tried)
			oracle_outcome_done(saved.m, r->results[i].recipient, r->results[i].state);
	r->on_done = saved.on_record;
	r->on_done(r, e);
}

static void
record(struct queue *q, struct queue_record *r)
{
	struct oracle_mail *m = mail_of(r->item->mail->envelope);

	for (uint32_t i = 0; i < r->result_count; i++)
		if (r->results[i].tried)
			oracle_outcome_asked(m, r->results[i].recipient, r->results[i].state,
					     r->results[i].reply);
	*find(NULL) = (struct request){ .request = r, .m = m, .on_record = r->on_done };
	r->on_done = on_recorded;
	store_driver->record(q, r);
}

void
spy_watch(struct queue_store *store, unsigned worker_count)
{
	store_driver = store->driver;
	driver = *store_driver;
	driver.put = put;
	driver.record = record;
	for (unsigned i = 0; i < worker_count; i++)
		queue_end(store, i)->driver = &driver;
	world->oracle->has_spy = true;
}
