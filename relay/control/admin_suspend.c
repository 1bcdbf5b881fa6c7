/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands site suspend and site resume, and the end of a suspension by its time. The list is
 * kept here (suspended.h); every change is told to all workers, and the client hears of it when all
 * of them have it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/log.h"
#include "relay/control/admin_site.h"
#include "relay/control/control.h"

struct suspend_run {
	struct ask ask; /* first */
	struct admin *admin;
	struct admin_client *client; /* or NULL: time has done it */
	struct suspensions *list;
	struct ask_part parts[WORKERS_MAX];
};

static void set_timer(struct admin *a);

static enum ask_step
suspend_slice(struct ask_part *p, uint64_t slice_us)
{
	struct suspend_run *run = CONTAINER_OF(p->ask, struct suspend_run, ask);

	(void)slice_us;
	flow_suspend(ask_worker(p)->flow, run->list);
	return ASK_DONE;
}

static void
answer(struct admin_client *c)
{
	struct span name = c->request.texts[ADMIN_ARG_NAME];
	const struct suspended_site *site = suspended_find(&c->admin->suspended, name);

	admin_object(c, ADMIN_SHAPE_suspension,
		     &(struct admin_suspension){
			     .name = name,
			     .suspended = site != NULL,
			     .until = site != NULL ? site->until_ms : 0,
		     });
	admin_done(c);
}

static void
on_told(struct ask *a)
{
	struct suspend_run *run = CONTAINER_OF(a, struct suspend_run, ask);

	if (run->client != NULL && admin_asked(run->client))
		answer(run->client);
	if (run->admin->stopping)
		worker_soon(run->admin->worker, &run->admin->stop_check);
	suspensions_put(run->list);
	free(run);
}

/* The change holds all the same; what is missing is that it outlives the process. */
static void
keep(struct admin *a)
{
	if (suspended_save(&a->suspended, a->suspended_file))
		return;
	event_problem(
		a->worker->log,
		&(struct event_problem){
			.what = SPAN("keep the list of suspended sites"),
			.error = span_of_string(strerror(errno)),
			.remedy = SPAN("make the spool writable, then suspend or resume any site"),
		});
}

/* False: no memory; nobody was told. */
static bool
tell_workers(struct admin *a, struct admin_client *c)
{
	struct suspend_run *run = calloc(1, sizeof *run);
	struct suspensions *list = suspended_list(&a->suspended);
	unsigned workers = a->control->crew_count;

	if (run == NULL || list == NULL) {
		suspensions_put(list);
		free(run);
		return false;
	}
	run->admin = a;
	run->client = c;
	run->list = list;
	run->ask = (struct ask){
		.on_slice = suspend_slice,
		.on_done = on_told,
		.parts = run->parts,
	};
	if (c != NULL)
		admin_ask(c, &run->ask, 0, workers);
	else
		ask_start(&a->asker, &run->ask, 0, workers);
	keep(a);
	return true;
}

/* ---- by time ---- */

static void
on_over(struct timer *t)
{
	struct admin *a = CONTAINER_OF(t, struct admin, suspended.over);
	const struct suspended_site *site;
	bool changed = false;

	while ((site = suspended_over(&a->suspended, a->worker->now_wall_ms)) != NULL) {
		event_site_resumed(a->worker->log, &(struct event_site_resumed){
							   .site = site->name,
							   .why = SPAN("its time is over"),
						   });
		suspended_remove(&a->suspended, site->name);
		changed = true;
	}
	if (changed && !tell_workers(a, NULL)) {
		/* Workers go on with what they have; the next change tells them. */
		event_problem(a->worker->log, &(struct event_problem){
						      .what = SPAN("resume a suspended site"),
						      .error = SPAN("out of memory"),
						      .remedy = SPAN("resume any site"),
					      });
	}
	set_timer(a);
}

static void
set_timer(struct admin *a)
{
	uint64_t next_ms = suspended_next_ms(&a->suspended);
	uint64_t now_ms = a->worker->now_wall_ms;

	timer_stop(&a->worker->timers, &a->suspended.over);
	if (next_ms != 0)
		timer_set(&a->worker->timers, &a->suspended.over,
			  a->worker->now_ms + (next_ms > now_ms ? next_ms - now_ms : 0) + 1);
}

void
admin_start_suspended(struct admin *a)
{
	timer_init(&a->suspended.over, on_over);
	for (unsigned i = 0; i < a->suspended.count; i++) {
		const struct suspended_site *site = &a->suspended.sites[i];
		event_site_suspended(a->worker->log,
				     &(struct event_site_suspended){
					     .site = site->name,
					     .why = SPAN("it was before the restart"),
					     .until = site->until_ms,
				     });
	}
	set_timer(a);
}

/* ---- by a client ---- */

/* Is it the name of a site that a route leads to, although nothing has gone there yet? */
static bool
is_target(const struct routing *r, struct span name)
{
	for (size_t i = 0; i < r->config->routes_count; i++) {
		const struct config_target *to = &r->config->routes[i].to;
		if ((to->kind == TARGET_SMTP || to->kind == TARGET_LMTP) &&
		    (span_eq(to->text, name) || span_eq(r->ways[i].name, name)))
			return true;
	}
	return false;
}

static void
suspend(struct admin_client *c, const struct report_set *r)
{
	struct admin *a = c->admin;
	const struct admin_request *request = &c->request;
	struct span name = request->texts[ADMIN_ARG_NAME];
	uint64_t until_ms = 0;
	uint8_t memory[ADMIN_WHO_MAX];
	struct buf who = buf_of(memory, sizeof memory);

	if (r->count == 0 && !is_target(a->control->routing, name)) {
		admin_refuse(c, ADMIN_NOT_FOUND, "there is no such site; site list shows them");
		return;
	}
	if (request_has(request, ADMIN_ARG_FOR))
		until_ms = a->worker->now_wall_ms + request->numbers[ADMIN_ARG_FOR];
	if (!suspended_add(&a->suspended, name, until_ms)) {
		admin_refuse(c, ADMIN_REFUSED, "too many sites are suspended");
		return;
	}
	if (!tell_workers(a, c)) {
		suspended_remove(&a->suspended, name);
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	admin_write_who(c, &who);
	event_site_suspended(a->worker->log, &(struct event_site_suspended){
						     .site = name,
						     .who = buf_span(&who),
						     .why = request->texts[ADMIN_ARG_REASON],
						     .until = until_ms,
					     });
	set_timer(a);
}

void
admin_run_site_suspend(struct admin_client *c)
{
	admin_ask_sites(c, span_none(), c->request.texts[ADMIN_ARG_NAME], 1, suspend);
}

void
admin_run_site_resume(struct admin_client *c)
{
	struct admin *a = c->admin;
	struct span name = c->request.texts[ADMIN_ARG_NAME];
	const struct suspended_site *site = suspended_find(&a->suspended, name);
	uint8_t memory[ADMIN_WHO_MAX];
	struct buf who = buf_of(memory, sizeof memory);

	if (site == NULL) {
		admin_refuse(c, ADMIN_NOT_FOUND, "no site of this name is suspended");
		return;
	}
	uint64_t until_ms = site->until_ms;
	suspended_remove(&a->suspended, name);
	if (!tell_workers(a, c)) {
		bool back = suspended_add(&a->suspended, name, until_ms);
		admin_refuse(c, ADMIN_NO_MEMORY, back ? NULL : "told nobody; resume any site");
		return;
	}
	admin_write_who(c, &who);
	event_site_resumed(a->worker->log, &(struct event_site_resumed){
						   .site = name,
						   .who = buf_span(&who),
						   .why = c->request.texts[ADMIN_ARG_REASON],
					   });
	set_timer(a);
}
