/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands lock list and lock lift: addresses and users that are locked out (relay/flow/
 * lockout.h). Workers tell the names that they remember; whether one is still locked, and its end,
 * is in the table that all share.
 */
#include <stdlib.h>

#include "core/log.h"
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

void
admin_run_lock_lift(struct admin_client *c)
{
	/* The table and the seed are the same for all workers. */
	const struct worker *any = &c->admin->control->crew[0].worker;
	struct worker *w = c->admin->worker;
	struct span login = c->request.texts[ADMIN_ARG_LOGIN];
	uint8_t memory[ADMIN_WHO_MAX];
	struct buf who = buf_of(memory, sizeof memory);

	if (!lockout_lift(any->strikes, any->flow->key_seed, login, w->now_ms)) {
		admin_refuse(c, ADMIN_NOT_FOUND, "no address or user of this name is locked out");
		return;
	}
	admin_write_who(c, &who);
	event_login_lifted(w->log, &(struct event_login_lifted){
					   .name = login,
					   .who = buf_span(&who),
					   .why = c->request.texts[ADMIN_ARG_REASON],
				   });
	admin_object(c, ADMIN_SHAPE_lifted, &(struct admin_lifted){ .login = login });
	admin_done(c);
}
