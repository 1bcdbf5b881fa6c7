/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands lock list and lock lift: addresses and users that are locked out (relay/flow/
 * lockout.h). Workers tell the names that they remember; whether one is still locked, and its end,
 * is in the table that all share.
 */
#include <stdlib.h>

#include "core/log.h"
#include "queue/shares.h"
#include "relay/control/control.h"

struct lock {
	struct lockout_name name;
	uint64_t until_ms;
};

struct lock_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct ask_part parts[WORKERS_MAX];
	unsigned counts[WORKERS_MAX];
	struct lock locks[]; /* LOCKOUT_NAMES of each worker */
};

static enum ask_step
list_slice(struct ask_part *p, uint64_t slice_us)
{
	struct lock_run *run = CONTAINER_OF(p->ask, struct lock_run, ask);
	const struct worker *w = ask_worker(p);
	const struct lockouts *all = &w->flow->lockouts;
	struct lock *locks = &run->locks[p->worker * LOCKOUT_NAMES];

	(void)slice_us; /* a few hundred looks into a table */
	for (unsigned i = 0; i < all->count; i++) {
		uint64_t until_ms = lockout_until(w->strikes, &all->names[i], w->now_ms);
		if (until_ms > 0)
			locks[run->counts[p->worker]++] = (struct lock){ all->names[i], until_ms };
	}
	return ASK_DONE;
}

static int
by_key(const void *left, const void *right)
{
	const struct lock *a = left, *b = right;

	return (a->name.key > b->name.key) - (a->name.key < b->name.key);
}

/* What lasts longest, so what began last, comes first. */
static int
by_end(const void *left, const void *right)
{
	const struct lock *a = left, *b = right;

	if (a->until_ms != b->until_ms)
		return a->until_ms < b->until_ms ? 1 : -1;
	return by_key(left, right);
}

/* All parts one behind the other, each lock once, although several workers, or one twice, remember
 * it. */
static unsigned
gather(struct lock_run *run, unsigned workers)
{
	struct lock *locks = run->locks;
	unsigned count = run->counts[0];
	unsigned kept = 0;

	for (unsigned w = 1; w < workers; w++) {
		for (unsigned i = 0; i < run->counts[w]; i++)
			locks[count++] = locks[w * LOCKOUT_NAMES + i];
	}
	qsort(locks, count, sizeof *locks, by_key);
	for (unsigned i = 0; i < count; i++) {
		if (kept == 0 || locks[kept - 1].name.key != locks[i].name.key)
			locks[kept++] = locks[i];
	}
	qsort(locks, kept, sizeof *locks, by_end);
	return kept;
}

static void
answer(struct admin_client *c, const struct lock *locks, unsigned count)
{
	const struct admin_request *r = &c->request;
	const struct worker *w = c->admin->worker;
	uint64_t limit =
		request_has(r, ADMIN_ARG_LIMIT) ? r->numbers[ADMIN_ARG_LIMIT] : PROTOCOL_ROWS;

	admin_object(c, ADMIN_SHAPE_locks, &(struct admin_locks){ .count = count });
	admin_rows(c, "rows");
	for (unsigned i = 0; i < count && i < limit; i++) {
		const struct lockout_name *n = &locks[i].name;
		admin_row(c, ADMIN_SHAPE_lock,
			  &(struct admin_lock){
				  .kind = n->kind == LOCKOUT_USER ? SPAN("user") : SPAN("address"),
				  .login = span_of(n->text, n->size),
				  .until = w->now_wall_ms + locks[i].until_ms - w->now_ms,
			  });
	}
	admin_rows_end(c);
	admin_done(c);
}

static void
on_listed(struct ask *a)
{
	struct lock_run *run = CONTAINER_OF(a, struct lock_run, ask);
	struct admin_client *c = run->client;

	if (admin_asked(c)) {
		unsigned count = gather(run, admin_workers(c));
		answer(c, run->locks, count);
	}
	free(run);
}

void
admin_run_lock_list(struct admin_client *c)
{
	unsigned workers = admin_workers(c);
	size_t locks = (size_t)workers * LOCKOUT_NAMES;
	struct lock_run *run = calloc(1, sizeof *run + locks * sizeof run->locks[0]);

	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->ask = (struct ask){
		.on_slice = list_slice,
		.on_done = on_listed,
		.parts = run->parts,
	};
	admin_ask(c, &run->ask, 0, workers);
}

/* ---- lifting, on a worker: it knows the other nodes ---- */

struct lift_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct ask_part part;
	struct share_lift lift;
	bool begun;
	bool was_locked;
	enum err error;
	size_t size;
	uint8_t login[];
};

static struct span
login_of(const struct lift_run *run)
{
	return span_of(run->login, run->size);
}

static void
on_lifted_everywhere(struct share_lift *l, enum err e)
{
	struct lift_run *run = CONTAINER_OF(l, struct lift_run, lift);

	run->error = e;
	run->was_locked |= l->was_locked;
	ask_resume(&run->part);
}

static enum ask_step
lift_slice(struct ask_part *p, uint64_t slice_us)
{
	struct lift_run *run = CONTAINER_OF(p->ask, struct lift_run, ask);
	struct worker *w = ask_worker(p);

	(void)slice_us;
	if (run->begun)
		return ASK_DONE;
	run->begun = true;
	run->lift.on_done = on_lifted_everywhere;
	/* The table and the seed are the same for all workers. */
	run->was_locked = lockout_lift(w->strikes, w->flow->key_seed, login_of(run), w->now_ms);
	run->error = lockout_lift_everywhere(w->flow, login_of(run), &run->lift);
	if (run->error == ERR_OK)
		return ASK_WAIT;
	if (run->error == ERR_NOT_FOUND)
		run->error = ERR_OK; /* this is the only node */
	return ASK_DONE;
}

static void
answer_lifted(struct admin_client *c, struct span login)
{
	uint8_t memory[ADMIN_WHO_MAX];
	struct buf who = buf_of(memory, sizeof memory);

	admin_write_who(c, &who);
	event_login_lifted(c->admin->worker->log, &(struct event_login_lifted){
							  .name = login,
							  .who = buf_span(&who),
							  .why = c->request.texts[ADMIN_ARG_REASON],
						  });
	admin_object(c, ADMIN_SHAPE_lifted, &(struct admin_lifted){ .login = login });
	admin_done(c);
}

static void
answer_lift(struct admin_client *c, const struct lift_run *run)
{
	if (run->error != ERR_OK)
		admin_refuse(c, ADMIN_AWAY, "other relays could not be told: try again");
	else if (!run->was_locked)
		admin_refuse(c, ADMIN_NOT_FOUND, "no address or user of this name is locked out");
	else
		answer_lifted(c, login_of(run));
}

static void
on_lifted(struct ask *a)
{
	struct lift_run *run = CONTAINER_OF(a, struct lift_run, ask);

	if (admin_asked(run->client))
		answer_lift(run->client, run);
	free(run);
}

void
admin_run_lock_lift(struct admin_client *c)
{
	struct span login = c->request.texts[ADMIN_ARG_LOGIN];
	struct lift_run *run = calloc(1, sizeof *run + login.size);

	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->size = login.size;
	memcpy(run->login, login.data, login.size);
	run->ask = (struct ask){
		.on_slice = lift_slice,
		.on_done = on_lifted,
		.parts = &run->part,
	};
	admin_ask(c, &run->ask, 0, 1);
}
